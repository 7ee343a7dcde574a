/**
 * kernel/lib/xarray/api.ts - the normal API: no cursor, locks taken inside.
 * Linux: lib/xarray.c and include/linux/xarray.h. Differs: xa_store_range() may go up to ULONG_MAX
 * (6.1 does not come back).
 *
 * A function whose name begins with __ expects xa_lock held and may drop it to get memory. Errors
 * are returned: an int below 0, or an entry for which xa_err() is below 0. A reserved (zero) entry
 * reads as null.
 *
 * Locks: xa_lock is taken around every change; loads and searches need none (RCU).
 */
import { EBUSY, EINVAL } from "../../include/errno.ts";
import type { gfp_t } from "../../include/gfp.ts";
import {
  xas_find,
  xas_find_marked,
  xas_get_order,
  xas_next_entry,
  xas_next_marked,
} from "./find.ts";
import {
  xa_mark_up,
  xa_unmark_up,
  xas_clear_mark,
  xas_get_mark,
  xas_init_marks,
  xas_set_mark,
} from "./marks.ts";
import {
  XAS_RESTART,
  node_get_mark,
  xa_is_internal,
  xa_is_node,
  xa_mark_clear,
  xa_set_head,
  xa_slot,
  xa_track_free,
  xa_zero_busy,
} from "./node.ts";
import type { xa_node, xarray } from "./node.ts";
import {
  BITS_PER_LONG,
  ULONG_MAX,
  XA_EINVAL,
  XA_ERROR,
  XA_FREE_MARK,
  XA_LAST_SIBLING,
  XA_MAX_MARKS,
  XA_PRESENT,
  XA_ZERO_ENTRY,
  xa_err,
  xa_is_advanced,
  xa_is_sibling,
  xa_is_value,
  xa_is_zero,
  xa_to_internal,
} from "./value.ts";
import type { xa_entry, xa_index, xa_mark_t, xa_ref } from "./value.ts";
import {
  __xas_nomem,
  index_add,
  xa_state,
  xas_descend,
  xas_error,
  xas_invalid,
  xas_load,
  xas_lock,
  xas_nomem,
  xas_retry,
  xas_set_err,
  xas_set_order,
  xas_sibling,
  xas_start,
  xas_unlock,
} from "./xas.ts";
import type { xa_update_node_t } from "./xas.ts";
import { xas_create, xas_free_nodes, xas_store } from "./xas_store.ts";

export function xa_lock(xa: xarray): void {
  if (xa.xa_lock !== null) xa.xa_lock.lock();
}

export function xa_unlock(xa: xarray): void {
  if (xa.xa_lock !== null) xa.xa_lock.unlock();
}

export function xa_empty(xa: xarray): boolean {
  return xa.xa_head === null;
}

// ---- load

/**
 * The leaf with the slot of an index, found without a cursor; null when there is none, or the tree
 * or the index is not of the usual kind (then a cursor has to say what there is).
 */
function leaf_of(xa: xarray, index: xa_index): xa_node | null {
  let node = xa.xa_root;
  if (node === null || typeof index !== "number" || index > 0x7fffffff) return null;
  // Above the leaves an object must be a node.
  if (xa.xa_inner_pointers || node.shift > 30) return null;
  const mask = node.mask;
  let shift = node.shift;
  if (index >>> shift > mask) return null;
  for (const cs = xa.chunk_shift; shift > 0; shift -= cs) {
    const entry: xa_entry | undefined = node.slots[(index >>> shift) & mask];
    if (typeof entry !== "object" || entry === null) return null;
    node = entry as xa_node;
  }
  return node;
}

/** The entry at the index, or null. */
export function xa_load(xa: xarray, index: xa_index): xa_entry {
  // The walk of leaf_of() again: this one also knows what to do with an entry above the leaves.
  const root = xa.xa_root;
  if (root === null || typeof index !== "number" || index > 0x7fffffff || xa.xa_inner_pointers) {
    return load_slowly(xa, index);
  }
  const mask = root.mask;
  const cs = xa.chunk_shift;
  let shift = root.shift;
  let slots = root.slots;
  if (shift > 30) return load_slowly(xa, index);
  if (index >>> shift > mask) return null;
  for (; shift > 0; shift -= cs) {
    const entry = slots[(index >>> shift) & mask];
    if (typeof entry !== "object" || entry === null) return load_found(slots, entry as xa_entry);
    slots = (entry as xa_node).slots;
  }
  return load_found(slots, slots[index & mask] as xa_entry);
}

/** Follows a sibling; hides the zero entry. Retry entries are not met: the walk was not broken. */
function load_found(slots: xa_entry[], entry: xa_entry): xa_entry {
  if (typeof entry !== "number" || entry >= 0) return entry;
  const at = entry >= XA_LAST_SIBLING ? (slots[-1 - entry] as xa_entry) : entry;
  return xa_is_zero(at) ? null : at;
}

function load_slowly(xa: xarray, index: xa_index): xa_entry {
  const xas = new xa_state(xa, index);
  for (;;) {
    const entry = xas_load(xas);
    if (xa_is_zero(entry)) return null;
    if (!xas_retry(xas, entry)) return entry;
  }
}

// ---- store

function xas_result(xas: xa_state, entry: xa_entry): xa_entry {
  if (xa_is_zero(entry)) return null;
  const err = xas_error(xas);
  return err === 0 ? entry : XA_ERROR(err);
}

/** Erases one index of a leaf that stays; false if it is not as simple as that. */
function erase_in_leaf(xa: xarray, leaf: xa_node, offset: number): boolean {
  const old = xa_slot(leaf, offset);
  if (typeof old === "number" && old < 0) return false;
  // A last entry goes with its node; of the last two one may have to move to the head.
  if (leaf.count <= 2 || xa_track_free(xa)) return false;
  if (offset < leaf.mask && xa_is_sibling(xa_slot(leaf, offset + 1))) return false;
  if (old === null) return true;
  for (let mark = 0; mark < XA_MAX_MARKS; mark++) {
    if (node_get_mark(leaf, offset, mark)) xa_unmark_up(xa, leaf, offset, mark);
  }
  leaf.slots[offset] = null;
  leaf.count--;
  if (typeof old === "number") leaf.nr_values--;
  return true;
}

/** Erases the whole entry at the index, of whatever order. Returns it. */
export function __xa_erase(xa: xarray, index: xa_index): xa_entry {
  const leaf = leaf_of(xa, index);
  if (leaf !== null) {
    const offset = (index as number) & leaf.mask;
    const old = xa_slot(leaf, offset);
    if (erase_in_leaf(xa, leaf, offset)) return old;
  }
  const xas = new xa_state(xa, index);
  return xas_result(xas, xas_store(xas, null));
}

export function xa_erase(xa: xarray, index: xa_index): xa_entry {
  xa_lock(xa);
  const entry = __xa_erase(xa, index);
  xa_unlock(xa);
  return entry;
}

/** Stores an entry, into all indices of a multi-index entry. Returns the old one or an error. */
export function __xa_store(xa: xarray, index: xa_index, entry: xa_entry, gfp: gfp_t): xa_entry {
  if (xa_is_advanced(entry)) return XA_EINVAL;
  const track_free = xa_track_free(xa);
  const leaf = track_free || entry === null ? null : leaf_of(xa, index);
  if (leaf !== null) {
    // An entry over an entry or over nothing: no mark changes, no memory is needed.
    const old = xa_slot(leaf, (index as number) & leaf.mask);
    if (typeof old !== "number" || old >= 0) {
      leaf.slots[(index as number) & leaf.mask] = entry;
      if (old === null) leaf.count++;
      leaf.nr_values += (xa_is_value(entry) ? 1 : 0) - (typeof old === "number" ? 1 : 0);
      return old;
    }
  }
  const xas = new xa_state(xa, index);
  const put = entry === null && track_free ? XA_ZERO_ENTRY : entry;
  let old: xa_entry;
  do {
    old = xas_store(xas, put);
    if (track_free) xas_clear_mark(xas, XA_FREE_MARK);
  } while (__xas_nomem(xas, gfp));
  return xas_result(xas, old);
}

export function xa_store(xa: xarray, index: xa_index, entry: xa_entry, gfp: gfp_t): xa_entry {
  xa_lock(xa);
  const old = __xa_store(xa, index, entry, gfp);
  xa_unlock(xa);
  return old;
}

/** Stores `entry` if the index holds `old`. Returns what it held, or an error. */
export function __xa_cmpxchg(
  xa: xarray,
  index: xa_index,
  old: xa_entry,
  entry: xa_entry,
  gfp: gfp_t,
): xa_entry {
  if (xa_is_advanced(entry)) return XA_EINVAL;
  const xas = new xa_state(xa, index);
  let curr: xa_entry;
  do {
    curr = xas_load(xas);
    if (curr !== old) continue;
    xas_store(xas, entry);
    if (xa_track_free(xa) && entry !== null && curr === null) xas_clear_mark(xas, XA_FREE_MARK);
  } while (__xas_nomem(xas, gfp));
  return xas_result(xas, curr);
}

export function xa_cmpxchg(
  xa: xarray,
  index: xa_index,
  old: xa_entry,
  entry: xa_entry,
  gfp: gfp_t,
): xa_entry {
  xa_lock(xa);
  const curr = __xa_cmpxchg(xa, index, old, entry, gfp);
  xa_unlock(xa);
  return curr;
}

/** Stores into an empty index: 0, -EBUSY or -ENOMEM. Null reserves; a reserved index is busy. */
export function __xa_insert(xa: xarray, index: xa_index, entry: xa_entry, gfp: gfp_t): number {
  if (xa_is_advanced(entry)) return -EINVAL.errno;
  const xas = new xa_state(xa, index);
  do {
    if (xas_load(xas) !== null) {
      xas_set_err(xas, -EBUSY.errno);
      continue;
    }
    xas_store(xas, entry ?? XA_ZERO_ENTRY);
    if (xa_track_free(xa)) xas_clear_mark(xas, XA_FREE_MARK);
  } while (__xas_nomem(xas, gfp));
  return xas_error(xas);
}

export function xa_insert(xa: xarray, index: xa_index, entry: xa_entry, gfp: gfp_t): number {
  xa_lock(xa);
  const err = __xa_insert(xa, index, entry, gfp);
  xa_unlock(xa);
  return err;
}

/** Makes sure that a later store needs no memory: 0 or -ENOMEM. The index still loads as null. */
export function xa_reserve(xa: xarray, index: xa_index, gfp: gfp_t): number {
  return xa_err(xa_cmpxchg(xa, index, null, XA_ZERO_ENTRY, gfp));
}

/** Takes a reservation back; does nothing to an index in use. */
export function xa_release(xa: xarray, index: xa_index): void {
  xa_cmpxchg(xa, index, XA_ZERO_ENTRY, null, 0);
}

/**
 * Sets the cursor to the largest piece at the start of [first, end) that one store can fill and
 * returns its size.
 */
function xas_set_range(xas: xa_state, first: number, end: number): number {
  const cs = xas.xa.chunk_shift;
  const slots_per_node = xas.xa.chunk_mask + 1;
  let shift = 0;
  let span = 1;
  xas_set_order(xas, first, 0);
  // Up a level as long as the range begins with the whole of a node: there it is one slot.
  for (let up = slots_per_node; shift + cs < BITS_PER_LONG; up *= slots_per_node) {
    if (first % up !== 0 || end - first < up) break;
    shift += cs;
    span = up;
  }
  const at = Math.floor(first / span) % slots_per_node;
  const slots = Math.min(Math.floor((end - first) / span), slots_per_node - at);
  xas.xa_shift = shift;
  xas.xa_sibs = slots - 1;
  return slots * span;
}

/**
 * Stores one entry, in pieces as large as fit, from `first` to `last` inclusive (numbers up to
 * 2^53; `last` may be ULONG_MAX). Returns null or an error; then a part may have been stored.
 */
export function xa_store_range(
  xa: xarray,
  first: number,
  last: number,
  entry: xa_entry,
  gfp: gfp_t,
): xa_entry {
  if (xa_is_internal(entry) || last < first) return XA_EINVAL;
  const end = last < ULONG_MAX ? last + 1 : ULONG_MAX;
  // The largest power of two in `end`: the last piece can be no larger.
  let order = 0;
  for (let rest = end; rest % 2 === 0 && order < BITS_PER_LONG - 1; rest /= 2) order++;
  const xas = new xa_state(xa, 0);
  let from = first;
  do {
    xas_lock(xas);
    if (entry !== null) {
      // The tree gets its full height before the first piece goes in.
      xas_set_order(xas, last, order);
      xas_create(xas, true);
    }
    while (from < end && xas_error(xas) === 0) {
      const size = xas_set_range(xas, from, end);
      xas_store(xas, entry);
      if (xas_error(xas) === 0) from += size;
    }
    xas_unlock(xas);
  } while (xas_nomem(xas, gfp));
  return xas_result(xas, null);
}

/** The order of the entry at the index; 0 for an empty one. */
export function xa_get_order(xa: xarray, index: xa_index): number {
  const xas = new xa_state(xa, index);
  return xas_load(xas) === null ? 0 : xas_get_order(xas);
}

// ---- marks

/** The slot of the entry that covers a slot. */
function canonical(leaf: xa_node, offset: number): number {
  const entry = xa_slot(leaf, offset);
  return xa_is_sibling(entry) ? xa_to_internal(entry) : offset;
}

/** Has the entry at the index this mark? */
export function xa_get_mark(xa: xarray, index: xa_index, mark: xa_mark_t): boolean {
  const leaf = leaf_of(xa, index);
  if (leaf !== null) {
    return node_get_mark(leaf, canonical(leaf, (index as number) & leaf.mask), mark);
  }
  const xas = new xa_state(xa, index);
  let entry = xas_start(xas);
  // Down as long as the mark is there: one empty summary bit answers for all below.
  while (xas_get_mark(xas, mark)) {
    if (!xa_is_node(entry)) return true;
    entry = xas_descend(xas, entry);
  }
  return false;
}

/** Does nothing to an empty index. */
export function __xa_set_mark(xa: xarray, index: xa_index, mark: xa_mark_t): void {
  const leaf = leaf_of(xa, index);
  if (leaf !== null) {
    const offset = canonical(leaf, (index as number) & leaf.mask);
    if (xa_slot(leaf, offset) !== null) xa_mark_up(xa, leaf, offset, mark);
    return;
  }
  const xas = new xa_state(xa, index);
  if (xas_load(xas) !== null) xas_set_mark(xas, mark);
}

export function __xa_clear_mark(xa: xarray, index: xa_index, mark: xa_mark_t): void {
  const leaf = leaf_of(xa, index);
  if (leaf !== null) {
    const offset = canonical(leaf, (index as number) & leaf.mask);
    if (xa_slot(leaf, offset) !== null) xa_unmark_up(xa, leaf, offset, mark);
    return;
  }
  const xas = new xa_state(xa, index);
  if (xas_load(xas) !== null) xas_clear_mark(xas, mark);
}

export function xa_set_mark(xa: xarray, index: xa_index, mark: xa_mark_t): void {
  xa_lock(xa);
  __xa_set_mark(xa, index, mark);
  xa_unlock(xa);
}

export function xa_clear_mark(xa: xarray, index: xa_index, mark: xa_mark_t): void {
  xa_lock(xa);
  __xa_clear_mark(xa, index, mark);
  xa_unlock(xa);
}

// ---- search

function find_filtered(xas: xa_state, max: number, filter: xa_mark_t): xa_entry {
  return filter < XA_MAX_MARKS ? xas_find_marked(xas, max, filter) : xas_find(xas, max);
}

function find_at(xas: xa_state, max: number, filter: xa_mark_t): xa_entry {
  let entry: xa_entry;
  do entry = find_filtered(xas, max, filter);
  while (xas_retry(xas, entry));
  return entry;
}

/** The first entry that begins behind the cursor's index. */
function find_behind(xas: xa_state, max: number, filter: xa_mark_t): xa_entry {
  index_add(xas, 1);
  const { xa_lo: lo, xa_hi: hi } = xas;
  if (lo === 0 && hi === 0) return null;
  for (;;) {
    const entry = find_filtered(xas, max, filter);
    if (xas_invalid(xas)) return entry;
    // An entry that covers the index begins before it, and a marked search goes to its beginning.
    if (xas_sibling(xas)) continue;
    if (xas.xa_hi < hi || (xas.xa_hi === hi && xas.xa_lo < lo)) continue;
    if (!xas_retry(xas, entry)) return entry;
  }
}

/**
 * The entry that covers `index.val` or the first behind it, up to `max`; `filter` is a mark or
 * XA_PRESENT. If found, `index.val` becomes its index (the given one, inside a larger entry).
 * Indices above 2^53 come out rounded.
 */
export function xa_find(xa: xarray, index: xa_ref, max: number, filter: xa_mark_t): xa_entry {
  const xas = new xa_state(xa, index.val);
  const entry = find_at(xas, max, filter);
  if (entry !== null) index.val = xas.xa_index;
  return entry;
}

/**
 * The first entry that begins behind `index.val`, up to `max`. (By mark, 6.1 finds an entry of
 * several slots again and again.)
 */
export function xa_find_after(xa: xarray, index: xa_ref, max: number, filter: xa_mark_t): xa_entry {
  const xas = new xa_state(xa, index.val);
  const entry = find_behind(xas, max, filter);
  if (entry !== null) index.val = xas.xa_index;
  return entry;
}

/**
 * `for (const [index, entry] of xa_for_each_range(xa, 0, 99))`. The array may change meanwhile:
 * each step searches anew behind the last index.
 */
export function* xa_for_each_range(
  xa: xarray,
  first: number,
  last: number,
  filter: xa_mark_t = XA_PRESENT,
): Generator<[index: number, entry: number | object], void, undefined> {
  const xas = new xa_state(xa, first);
  let entry = find_at(xas, last, filter);
  while (entry !== null) {
    yield [xas.xa_index, entry];
    xas.xa_node = XAS_RESTART;
    entry = find_behind(xas, last, filter);
  }
}

export function xa_for_each_start(xa: xarray, first: number): ReturnType<typeof xa_for_each_range> {
  return xa_for_each_range(xa, first, ULONG_MAX);
}

export function xa_for_each(xa: xarray): ReturnType<typeof xa_for_each_range> {
  return xa_for_each_range(xa, 0, ULONG_MAX);
}

export function xa_for_each_marked(
  xa: xarray,
  mark: xa_mark_t,
): ReturnType<typeof xa_for_each_range> {
  return xa_for_each_range(xa, 0, ULONG_MAX, mark);
}

/** Copies up to `n` matching entries of [first, max] to `dst`; returns how many. */
export function xa_extract(
  xa: xarray,
  dst: (number | object)[],
  first: number,
  max: number,
  n: number,
  filter: xa_mark_t,
): number {
  const xas = new xa_state(xa, first);
  const marked = filter < XA_MAX_MARKS;
  let got = 0;
  let entry = n > 0 ? find_filtered(xas, max, filter) : null;
  while (entry !== null) {
    if (!xas_retry(xas, entry)) {
      dst[got++] = entry;
      if (got === n) break;
    }
    entry = marked ? xas_next_marked(xas, max, filter) : xas_next_entry(xas, max);
  }
  return got;
}

// ---- the end

/** Takes a node and all it holds out of the tree, for who keeps a list of them (shadow entries). */
export function xa_delete_node(node: xa_node, update: xa_update_node_t): void {
  const xa = node.array!;
  const parent = node.parent;
  const xas = new xa_state(xa, 0);
  xas.xa_shift = node.shift + xa.chunk_shift;
  xas.xa_offset = node.offset;
  xas.xa_node = parent;
  xas.xa_update = update;
  if (parent !== null) index_add(xas, node.offset * 2 ** xas.xa_shift);
  xas_store(xas, null);
}

/** Empties the array. What the entries point at is the caller's to free. */
export function xa_destroy(xa: xarray): void {
  const xas = new xa_state(xa, 0);
  xas.xa_node = null;
  xas_lock(xas);
  const root = xa.xa_root;
  xa_set_head(xa, null);
  xas_init_marks(xas);
  if (xa_zero_busy(xa)) xa_mark_clear(xa, XA_FREE_MARK);
  if (root !== null) xas_free_nodes(xas, root);
  xas_unlock(xas);
}
