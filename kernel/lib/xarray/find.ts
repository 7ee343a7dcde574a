/**
 * kernel/lib/xarray/find.ts - searching with a cursor: present, marked, conflicting entries.
 * Linux: lib/xarray.c and include/linux/xarray.h. Differs: xas_pause() goes to the end of the entry
 * also when the index lies in its middle (6.1 goes further, by that much).
 *
 * The loops of the kernel, written out:
 *   for (let e = xas_find(xas, max); e !== null; e = xas_next_entry(xas, max)) ...
 *   for (let e = xas_find_marked(xas, max, m); e !== null; e = xas_next_marked(xas, max, m)) ...
 *   for (let e = xas_find_conflict(xas); e !== null; e = xas_find_conflict(xas)) ...
 * To give up the lock in the middle: xas_pause(xas), unlock, lock, next step. `max` is inclusive.
 *
 * Locks: xa_lock or RCU; xas_find_conflict(): xa_lock.
 */
import {
  XAS_BOUNDS,
  XAS_RESTART,
  node_next_mark,
  xa_child,
  xa_marked,
  xa_slot,
  xa_track_free,
} from "./node.ts";
import type { xa_node } from "./node.ts";
import { XA_FREE_MARK, xa_is_sibling, xa_to_internal } from "./value.ts";
import type { xa_entry, xa_mark_t } from "./value.ts";
import {
  index_above,
  index_add,
  index_below,
  index_bits,
  set_bounds,
  xas_descend,
  xas_error,
  xas_invalid,
  xas_load,
  xas_move_index,
  xas_not_node,
  xas_set,
  xas_start,
  xas_top,
} from "./xas.ts";
import type { xa_state } from "./xas.ts";

function index_is_zero(xas: xa_state): boolean {
  return xas.xa_lo === 0 && xas.xa_hi === 0;
}

/**
 * The next entry with an index up to `max`: the one at the index if the cursor has not been walked
 * yet, else the one behind where it stands. Null at the end; then the index is the first that was
 * not looked at, and the cursor is at the bounds if the tree ends before `max`.
 */
export function xas_find(xas: xa_state, max: number): xa_entry {
  if (xas_error(xas) !== 0 || xas.xa_node === XAS_BOUNDS) return null;
  if (index_above(xas, max)) return set_bounds(xas);
  if (xas.xa_node === null) {
    // The head entry has been seen, and it is the only one.
    xas_set(xas, 1);
    return set_bounds(xas);
  }

  if (xas.xa_node === XAS_RESTART) {
    const entry = xas_load(xas);
    if (entry !== null || xas_not_node(xas.xa_node)) return entry;
  }
  const node = xas.xa_node;
  let offset = xas.xa_offset;
  if (offset <= node.mask) {
    // A cursor in the middle of an entry stands on its first slot: go on behind the index.
    if (node.shift === 0) offset = index_bits(xas, 0, node.mask);
    xas_move_index(xas, node, ++offset);
  }
  return find_from(xas, node, offset, max);
}

/** The first entry at or behind a slot whose index the cursor has already. */
function find_from(xas: xa_state, from: xa_node, at: number, max: number): xa_entry {
  let node = from;
  let offset = at;
  while (!index_above(xas, max)) {
    if (offset > node.mask) {
      offset = node.offset + 1;
      if (node.parent === null) return set_bounds(xas);
      node = node.parent;
      continue;
    }
    const entry = xa_slot(node, offset);
    const child = xa_child(xas.xa, node, entry);
    if (child !== null) {
      node = child;
      offset = 0;
    } else if (entry !== null && !xa_is_sibling(entry)) {
      xas.xa_node = node;
      xas.xa_offset = offset;
      return entry;
    } else {
      offset = skip_empty(xas, node, offset + 1, max);
      xas_move_index(xas, node, offset);
    }
  }
  xas.xa_node = node;
  xas.xa_offset = offset;
  return null;
}

/** In a leaf, the first slot from `at` on that is worth a look, or lies behind `max`. */
function skip_empty(xas: xa_state, leaf: xa_node, at: number, max: number): number {
  if (leaf.shift !== 0 || xas.xa_hi !== 0) return at;
  const room = max - xas.xa_lo;
  const end = room <= leaf.mask - at ? at + room : leaf.mask + 1;
  let offset = at;
  while (offset < end) {
    const entry = xa_slot(leaf, offset);
    if (entry !== null && !xa_is_sibling(entry)) break;
    offset++;
  }
  return offset;
}

/** xas_find() for a cursor that has been walked: quick inside a leaf. */
export function xas_next_entry(xas: xa_state, max: number): xa_entry {
  const node = xas.xa_node;
  if (node === null || node.shift !== 0 || xas.xa_hi !== 0) return xas_find(xas, max);
  let offset = xas.xa_offset;
  let index = xas.xa_lo;
  if (offset !== index_bits(xas, 0, node.mask)) return xas_find(xas, max);
  let entry: xa_entry = null;
  while (index < max && offset < node.mask) {
    entry = xa_slot(node, offset + 1);
    if (typeof entry === "number" && entry < 0) break;
    offset++;
    index++;
    if (entry !== null) {
      xas.xa_offset = offset;
      xas.xa_lo = index;
      return entry;
    }
  }
  xas.xa_offset = offset;
  xas.xa_lo = index;
  return xas_find(xas, max);
}

/** After a marked search without result: at the end of the range or at the end of the tree. */
function end_of_marked(xas: xa_state, max: number): null {
  if (!index_above(xas, max)) return set_bounds(xas);
  xas.xa_node = XAS_RESTART;
  return null;
}

/**
 * The next marked entry up to `max`. Null at the end: the cursor is at the bounds (and the index
 * the first behind the tree) if the tree ends before `max`, else it will restart at the index.
 * For XA_FREE_MARK in a tracking array the slot found is empty: null too, but xas_valid().
 */
export function xas_find_marked(xas: xa_state, max: number, mark: xa_mark_t): xa_entry {
  if (xas_error(xas) !== 0) return null;
  if (index_above(xas, max)) return end_of_marked(xas, max);
  if (xas.xa_node === null) {
    xas_set(xas, 1);
    return end_of_marked(xas, max);
  }
  if (!xas_top(xas.xa_node)) {
    const node = xas.xa_node;
    return find_marked_from(xas, node, xas.xa_offset + 1, false, max, mark);
  }

  const root = xas.xa.xa_root;
  if (root !== null) {
    if (!index_below(xas, root.shift + xas.xa.chunk_shift)) return end_of_marked(xas, max);
    const offset = index_bits(xas, root.shift, root.mask);
    return find_marked_from(xas, root, offset, true, max, mark);
  }
  if (index_is_zero(xas)) {
    xas.xa_node = null;
    if (xa_marked(xas.xa, mark)) return xas.xa.xa_head;
    xas_set(xas, 1);
  }
  return end_of_marked(xas, max);
}

/**
 * The first marked entry at or behind slot `at`. `covering`: the slot may belong to an entry that
 * begins before it, and that one counts as well.
 */
function find_marked_from(
  xas: xa_state,
  from: xa_node,
  at: number,
  covering: boolean,
  max: number,
  mark: xa_mark_t,
): xa_entry {
  const empty_counts = mark === XA_FREE_MARK && xa_track_free(xas.xa);
  let node = from;
  let offset = at;
  let here = covering;
  for (;;) {
    if (here) {
      const entry = xa_slot(node, offset);
      if (xa_is_sibling(entry)) {
        offset = xa_to_internal(entry);
        xas_move_index(xas, node, offset);
      }
    }
    const next = node_next_mark(node, offset, mark);
    // The index only moves with the slot: a covering entry is found at the index asked for.
    if (next !== offset || !here) {
      offset = next;
      xas_move_index(xas, node, offset);
      // Zero: the index went round the end.
      if (index_is_zero(xas) || index_above(xas, max)) {
        xas.xa_node = XAS_RESTART;
        return null;
      }
    }
    if (offset > node.mask) {
      offset = node.offset + 1;
      if (node.parent === null) return end_of_marked(xas, max);
      node = node.parent;
      here = false;
      continue;
    }
    const entry = xa_slot(node, offset);
    const child = xa_child(xas.xa, node, entry);
    if (child !== null) {
      node = child;
      offset = index_bits(xas, node.shift, node.mask);
      here = true;
    } else if (entry !== null || empty_counts) {
      xas.xa_node = node;
      xas.xa_offset = offset;
      return entry;
    } else {
      offset++;
      here = false;
    }
  }
}

/** xas_find_marked() for a cursor that has been walked. */
export function xas_next_marked(xas: xa_state, max: number, mark: xa_mark_t): xa_entry {
  return xas_find_marked(xas, max, mark);
}

/**
 * The next entry that a store at the cursor's index and order would replace, or null; then the
 * cursor stands where the store goes. The index does not move: only the slot tells the entry.
 */
export function xas_find_conflict(xas: xa_state): xa_entry {
  if (xas_error(xas) !== 0 || xas.xa_node === null) return null;
  if (xas_top(xas.xa_node)) {
    let entry = xas_start(xas);
    let child = xas_invalid(xas) ? null : xas.xa.xa_root;
    while (child !== null) {
      const parent: xa_node = child;
      entry = xas_descend(xas, parent);
      child = xa_child(xas.xa, parent, entry);
    }
    // Null and no node: nothing there, not even a tree.
    if (entry !== null || xas_not_node(xas.xa_node)) return entry;
  }
  let node = xas.xa_node!;
  let offset = xas.xa_offset;
  if (node.shift > xas.xa_shift) return null;

  for (;;) {
    if (node.shift === xas.xa_shift && (offset & xas.xa_sibs) === xas.xa_sibs) break;
    if (offset === node.mask && node.shift !== xas.xa_shift) {
      offset = node.offset;
      if (node.parent === null) {
        // The tree is lower than the range: the store has to begin at the head.
        xas.xa_node = null;
        return null;
      }
      node = node.parent;
      continue;
    }
    let entry = xa_slot(node, ++offset);
    for (let child = xa_child(xas.xa, node, entry); child !== null; ) {
      node = child;
      offset = 0;
      entry = xa_slot(node, 0);
      child = xa_child(xas.xa, node, entry);
    }
    if (entry !== null && !xa_is_sibling(entry)) {
      xas.xa_node = node;
      xas.xa_offset = offset;
      return entry;
    }
  }
  xas.xa_node = node;
  xas.xa_offset = offset - xas.xa_sibs;
  return null;
}

/**
 * Makes the cursor safe to keep while the lock is dropped: the next step of a forward walk looks
 * behind the entry it stands on.
 */
export function xas_pause(xas: xa_state): void {
  if (xas_invalid(xas)) return;
  const node = xas.xa_node;
  xas.xa_node = XAS_RESTART;
  if (node === null) {
    index_add(xas, 1);
    return;
  }
  let offset = xas.xa_offset + 1;
  while (offset <= node.mask && xa_is_sibling(xa_slot(node, offset))) offset++;
  xas_move_index(xas, node, offset);
  if (index_is_zero(xas)) xas.xa_node = XAS_BOUNDS;
}

/** The order of the entry the cursor stands on. */
export function xas_get_order(xas: xa_state): number {
  const node = xas.xa_node;
  if (node === null || xas_not_node(node)) return 0;
  let order = 0;
  for (;;) {
    const slot = xas.xa_offset + (1 << order);
    if (slot > node.mask || !xa_is_sibling(xa_slot(node, slot))) return order + node.shift;
    order++;
  }
}
