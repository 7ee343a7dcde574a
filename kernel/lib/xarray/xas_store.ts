/**
 * kernel/lib/xarray/xas_store.ts - everything that changes the tree under a cursor.
 * Linux: lib/xarray.c. Differs: xas_create_range() walks from the head for every leaf;
 * xas_split() marks only the first slot of each part; a split over more than one level is refused.
 *
 * Reading order: xas_store() -> xas_create() -> xas_expand(); then, for what an erase leaves,
 * xas_delete_node() -> xas_shrink(); last xas_create_range(), xas_split_alloc(), xas_split().
 *
 * Locks: xa_lock held throughout. Nodes that leave the tree get retry entries in place of theirs,
 * because a reader's cursor may still stand on them.
 * Invariant: no node of the tree is empty, and the root has something behind slot 0 unless what is
 * in slot 0 is itself too large for the head.
 */
import { ENOMEM } from "../../include/errno.ts";
import type { gfp_t } from "../../include/gfp.ts";
import {
  XAS_BOUNDS,
  node_clear_mark,
  node_get_mark,
  node_mark_all,
  node_set_mark,
  xa_child,
  xa_mark_clear,
  xa_mark_set,
  xa_marked,
  xa_set_head,
  xa_set_root,
  xa_slot,
  xa_track_free,
  xa_zero_busy,
} from "./node.ts";
import type { xa_node, xarray } from "./node.ts";
import { node_get_marks, node_set_marks, xas_init_marks, xas_squash_marks } from "./marks.ts";
import {
  BITS_PER_LONG,
  XA_FREE_MARK,
  XA_MAX_MARKS,
  XA_RETRY_ENTRY,
  XA_ZERO_ENTRY,
  xa_is_sibling,
  xa_is_value,
  xa_is_zero,
  xa_mk_internal,
} from "./value.ts";
import type { xa_entry } from "./value.ts";
import {
  index_below,
  index_bits,
  index_sub,
  index_width,
  xa_node_alloc,
  xas_alloc,
  xas_descend,
  xas_destroy,
  xas_error,
  xas_invalid,
  xas_is_node,
  xas_last_index,
  xas_load,
  xas_reset,
  xas_set_err,
  xas_top,
} from "./xas.ts";
import type { xa_state } from "./xas.ts";

function xas_update(xas: xa_state, node: xa_node): void {
  if (xas.xa_update !== null) xas.xa_update(node);
}

/** An array that has user pointers above its leaves cannot take every object there for a node. */
function note_inner_pointer(xa: xarray, node: xa_node, entry: xa_entry): void {
  if (node.shift !== 0 && typeof entry === "object" && entry !== null) xa.xa_inner_pointers = true;
}

// ---- growing

/**
 * Bits of the largest index that must be reachable before the cursor's entry can be stored. An
 * entry of several slots cannot lie in the head, so one that starts at 0 wants one index more.
 */
function xas_max_width(xas: xa_state): number {
  const { xa_shift: shift, xa_sibs: sibs } = xas;
  const width = index_width(xas);
  if (shift === 0 && sibs === 0) return width;
  const slots_fit = index_below(xas, shift + xas.xa.chunk_shift);
  if (slots_fit && (index_bits(xas, shift, xas.xa.chunk_mask) & ~sibs) === 0) {
    const size_width = shift + 32 - Math.clz32(sibs + 1);
    return Math.min(size_width, BITS_PER_LONG);
  }
  return Math.max(width, shift + 32 - Math.clz32(sibs));
}

/** What stands at the head; an array whose first id is 1 reserves index 0 by rule. */
function xas_head(xa: xarray): xa_entry {
  return xa.xa_head === null && xa_zero_busy(xa) ? XA_ZERO_ENTRY : xa.xa_head;
}

/** A new root over the head, which keeps its marks. */
function add_root(xas: xa_state, shift: number): xa_node | null {
  const xa = xas.xa;
  const head = xas_head(xa);
  const node = xas_alloc(xas, shift);
  if (node === null) return null;
  node.count = 1;
  node.nr_values = xa_is_value(head) ? 1 : 0;
  node.slots[0] = head;
  for (let mark = 0; mark < XA_MAX_MARKS; mark++) {
    if (mark === XA_FREE_MARK && xa_track_free(xa)) {
      // All new slots are free; slot 0 is when something under the old head was.
      node_mark_all(node, mark);
      if (!xa_marked(xa, mark)) node_clear_mark(node, 0, mark);
      xa_mark_set(xa, mark);
    } else if (xa_marked(xa, mark)) {
      node_set_mark(node, 0, mark);
    }
  }
  if (xa.xa_root !== null) {
    xa.xa_root.offset = 0;
    xa.xa_root.parent = node;
  }
  xa_set_root(xa, node);
  xas_update(xas, node);
  return node;
}

/**
 * Adds levels above the head until the cursor's entry is in reach. Returns the index bits of the
 * head slot (of a tree that is still to be made, if there is no head), or -1 without memory.
 */
function xas_expand(xas: xa_state): number {
  const cs = xas.xa.chunk_shift;
  let root = xas.xa.xa_root;
  let shift = root === null ? 0 : root.shift + cs;
  xas.xa_node = null;
  // The usual case, quickly: one index, in reach.
  if (root !== null && xas.xa_shift === 0 && index_below(xas, shift)) {
    if (xas.xa_sibs === 0) return shift;
  }
  const width = xas_max_width(xas);
  const top = width === 0 ? -cs : width - 1 - ((width - 1) % cs);
  if (xas_head(xas.xa) === null) return top + cs;
  for (; shift <= top; shift += cs) {
    root = add_root(xas, shift);
    if (root === null) return -1;
  }
  return shift;
}

/**
 * Makes the slot for the cursor's index and order and stands on it; returns what is in it: null,
 * or the entry (perhaps a larger one that covers the slot), or the node with smaller ones.
 * `allow_root`: index 0 may go into the head. Null with an error in the cursor without memory.
 */
export function xas_create(xas: xa_state, allow_root: boolean): xa_entry {
  const xa = xas.xa;
  const cs = xa.chunk_shift;
  let parent: xa_node | null = null;
  let shift: number;
  let entry: xa_entry;

  if (xas_top(xas.xa_node)) {
    shift = xas_expand(xas);
    if (shift < 0) return null;
    if (shift === 0 && !allow_root) shift = cs;
    entry = xa.xa_head;
  } else {
    if (xas_error(xas) !== 0) return null;
    parent = xas.xa_node!;
    shift = parent.shift;
    entry = xa_slot(parent, xas.xa_offset);
  }

  while (shift > xas.xa_shift) {
    shift -= cs;
    let node = parent === null ? xa.xa_root : xa_child(xa, parent, entry);
    if (node === null) {
      // Something larger covers the slot.
      if (entry !== null) break;
      node = xas_alloc(xas, shift);
      if (node === null) return null;
      if (xa_track_free(xa)) node_mark_all(node, XA_FREE_MARK);
      if (parent === null) xa_set_root(xa, node);
      else parent.slots[xas.xa_offset] = node;
    }
    entry = xas_descend(xas, node);
    parent = node;
  }
  return entry;
}

// ---- shrinking

function xa_node_free(node: xa_node): void {
  node.array = null;
}

/** While the root has nothing but slot 0, what is there takes its place. */
function xas_shrink(xas: xa_state, root: xa_node): void {
  const xa = xas.xa;
  for (let node = root; node.count === 1; ) {
    let entry = xa_slot(node, 0);
    const child = xa_child(xa, node, entry);
    if (entry === null || (child === null && node.shift !== 0)) return;
    // Such an array reserves index 0 by rule, without an entry that says so.
    if (xa_is_zero(entry) && xa_zero_busy(xa)) entry = null;
    xas.xa_node = XAS_BOUNDS;
    if (child === null) xa_set_head(xa, entry);
    else xa_set_root(xa, child);
    if (xa_track_free(xa) && !node_get_mark(node, 0, XA_FREE_MARK)) xa_mark_clear(xa, XA_FREE_MARK);
    node.count = 0;
    node.nr_values = 0;
    if (child === null) node.slots[0] = XA_RETRY_ENTRY;
    xas_update(xas, node);
    xa_node_free(node);
    if (child === null) return;
    child.parent = null;
    node = child;
  }
}

/** Takes the cursor's node out of the tree if it is empty, and then its parent ... */
function xas_delete_node(xas: xa_state, empty: xa_node): void {
  let node = empty;
  while (node.count === 0) {
    const parent = node.parent;
    xa_node_free(node);
    if (parent === null) {
      xa_set_head(xas.xa, null);
      xas.xa_node = XAS_BOUNDS;
      return;
    }
    xas.xa_node = parent;
    xas.xa_offset = node.offset;
    parent.slots[node.offset] = null;
    parent.count--;
    node = parent;
    xas_update(xas, node);
  }
  if (node.parent === null) xas_shrink(xas, node);
}

/** `top` and all below have been unhooked: leave retry entries for readers still inside. */
export function xas_free_nodes(xas: xa_state, top: xa_node): void {
  for (let offset = 0; offset <= top.mask; offset++) {
    const entry = xa_slot(top, offset);
    const child = xa_child(xas.xa, top, entry);
    if (child !== null) xas_free_nodes(xas, child);
    else if (entry !== null) top.slots[offset] = XA_RETRY_ENTRY;
  }
  top.count = 0;
  top.nr_values = 0;
  xas_update(xas, top);
  xa_node_free(top);
}

// ---- storing

/**
 * Stores `entry` for all indices of the cursor's order; null erases. Inside a larger entry the
 * whole entry changes. Marks stay (united over what became one entry), but null clears them.
 *
 * Returns what was at the index. With an order, that is the old content of the first slot, which
 * may be internal, or null though later slots were not empty.
 */
export function xas_store(xas: xa_state, entry: xa_entry): xa_entry {
  const first = entry === null ? xas_load(xas) : xas_create(xas, !xa_is_zero(entry));
  if (xas_invalid(xas)) return first;
  const node = xas.xa_node;
  if (node !== null && xas.xa_shift < node.shift) xas.xa_sibs = 0;
  if (first === entry && xas.xa_sibs === 0) return first;

  if (node !== null && xas.xa_sibs !== 0) xas_squash_marks(xas, node);
  // Before the slot is null: a marked walk must not find an empty slot with a mark.
  if (entry === null) xas_init_marks(xas);
  if (node === null) {
    const root = xas.xa.xa_root;
    xa_set_head(xas.xa, entry);
    if (root !== null) xas_free_nodes(xas, root);
  } else {
    store_slots(xas, node, first, entry);
  }
  return first;
}

/** Fills the cursor's slots, keeps the counts, and lets an empty node go. */
function store_slots(xas: xa_state, node: xa_node, first: xa_entry, entry: xa_entry): void {
  const last = xas.xa_offset + xas.xa_sibs;
  const is_value = xa_is_value(entry);
  let count = 0;
  let values = 0;
  let put = entry;
  let old = first;
  // Whose sibling the old slot was, for its part in nr_values.
  let old_first = first;

  for (let offset = xas.xa_offset; ; ) {
    node.slots[offset] = put;
    if (node.shift !== 0) {
      const child = xa_child(xas.xa, node, old);
      if (child !== null) xas_free_nodes(xas, child);
    }
    if (entry !== null) count += old === null ? 1 : 0;
    else count -= old === null ? 0 : 1;
    values += (is_value ? 1 : 0) - (xa_is_value(old_first) ? 1 : 0);

    if (offset === (entry === null ? node.mask : last)) break;
    old = xa_slot(node, ++offset);
    if (!xa_is_sibling(old)) {
      // Null goes on past its last slot only over the rest of an entry it began to erase.
      if (entry === null && offset > last) break;
      old_first = old;
    }
    if (entry !== null) put = xa_mk_internal(xas.xa_offset);
  }

  // Only now: until here the objects in inner slots are as they were.
  note_inner_pointer(xas.xa, node, entry);
  if (count === 0 && values === 0) return;
  node.count += count;
  node.nr_values += values;
  xas_update(xas, node);
  if (count < 0) xas_delete_node(xas, node);
}

/**
 * Makes all leaf slots in the range of the cursor, so that single-index stores there need no
 * memory. Then the cursor stands on the first and has order 0; after an error it is as before.
 */
export function xas_create_range(xas: xa_state): void {
  const { xa_lo: lo, xa_hi: hi, xa_shift: shift, xa_sibs: sibs } = xas;
  const mask = xas.xa.chunk_mask;
  const first_leaf_end = lo - (lo % (mask + 1)) + mask;
  if (xas_error(xas) !== 0) return;

  // From the last leaf to the first, so that the tree is high enough from the start.
  xas_last_index(xas);
  xas.xa_shift = 0;
  xas.xa_sibs = 0;
  for (;;) {
    xas_reset(xas);
    xas_create(xas, true);
    if (xas_error(xas) !== 0) {
      xas.xa_shift = shift;
      xas.xa_sibs = sibs;
      break;
    }
    if (xas.xa_hi === hi && xas.xa_lo <= first_leaf_end) break;
    index_sub(xas, mask + 1);
  }
  xas.xa_lo = lo;
  xas.xa_hi = hi;
  if (xas_is_node(xas)) xas.xa_offset = index_bits(xas, xas.xa_node!.shift, mask);
}

// ---- splitting

/**
 * Makes the nodes that xas_split() will need to turn an entry of `order` into entries of the
 * cursor's order, and fills them with `entry`. An error in the cursor when there is no memory, or
 * when the parts would lie more than one level below.
 */
export function xas_split_alloc(xas: xa_state, entry: xa_entry, order: number, gfp: gfp_t): void {
  const xa = xas.xa;
  const levels = (order - (order % xa.chunk_shift) - xas.xa_shift) / xa.chunk_shift;
  if (levels <= 0) return;
  if (levels > 1) return no_memory(xas);
  for (let wanted = 1 << (order % xa.chunk_shift); wanted > 0; wanted--) {
    const node = xa_node_alloc(xa, gfp);
    if (node === null) return no_memory(xas);
    for (let offset = 0; offset <= node.mask; offset++) {
      const canon = offset & ~xas.xa_sibs;
      node.slots[offset] = offset === canon ? entry : xa_mk_internal(canon);
    }
    node.parent = xas.xa_alloc;
    xas.xa_alloc = node;
  }
}

function no_memory(xas: xa_state): void {
  xas_destroy(xas);
  xas_set_err(xas, -ENOMEM.errno);
}

/**
 * Replaces the entry of `order` at the index by entries of the cursor's order, all of them
 * `entry`, each with the marks of the old one. xas_split_alloc() has been called before.
 */
export function xas_split(xas: xa_state, entry: xa_entry, order: number): void {
  const cs = xas.xa.chunk_shift;
  const old = xas_load(xas);
  if (xas_top(xas.xa_node) || xas_error(xas) !== 0) return;
  const node = xas.xa_node!;
  const marks = node_get_marks(node, xas.xa_offset);
  const end = xas.xa_offset + (1 << (order % cs));
  const was_value = xa_is_value(old) ? 1 : 0;
  const is_value = xa_is_value(entry) ? 1 : 0;
  const into_children = xas.xa_shift < node.shift;
  const part = into_children ? 1 : xas.xa_sibs + 1;

  for (let offset = xas.xa_offset; offset < end; offset += part) {
    node_set_marks(node, offset, marks);
    if (into_children) {
      node.slots[offset] = split_child(xas, node, offset, is_value, marks);
      node.nr_values -= was_value;
      continue;
    }
    node.slots[offset] = entry;
    for (let i = 1; i < part; i++) node.slots[offset + i] = xa_mk_internal(offset);
    node.nr_values += (is_value - was_value) * part;
  }
  note_inner_pointer(xas.xa, node, into_children ? null : entry);
  xas_update(xas, node);
}

/** Hangs one node of the reserve, filled by xas_split_alloc(), into a slot. */
function split_child(
  xas: xa_state,
  parent: xa_node,
  offset: number,
  is_value: number,
  marks: number,
): xa_node {
  const child = xas.xa_alloc;
  if (child === null) throw new Error("xas_split: no node in reserve, see xas_split_alloc()");
  xas.xa_alloc = child.parent;
  child.parent = parent;
  child.offset = offset;
  child.shift = parent.shift - xas.xa.chunk_shift;
  child.count = child.mask + 1;
  child.nr_values = is_value * child.count;
  for (let at = 0; at <= child.mask; at += xas.xa_sibs + 1) node_set_marks(child, at, marks);
  note_inner_pointer(xas.xa, child, xa_slot(child, 0));
  xas_update(xas, child);
  return child;
}
