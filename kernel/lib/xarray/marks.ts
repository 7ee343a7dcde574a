/**
 * kernel/lib/xarray/marks.ts - marks of the entry a cursor stands on.
 * Linux: lib/xarray.c. Differs: none.
 *
 * A mark lives on the first slot of an entry, on every inner slot above it, and in xa_flags for the
 * whole array. Writers hold xa_lock.
 */
import {
  node_any_mark,
  node_clear_mark,
  node_get_mark,
  node_next_mark,
  node_set_mark,
  xa_mark_clear,
  xa_mark_set,
  xa_marked,
  xa_track_free,
} from "./node.ts";
import type { xa_node, xarray } from "./node.ts";
import { XA_FREE_MARK, XA_MAX_MARKS } from "./value.ts";
import type { xa_mark_t } from "./value.ts";
import { xas_invalid } from "./xas.ts";
import type { xa_state } from "./xas.ts";

/** False also when the cursor stands nowhere. */
export function xas_get_mark(xas: xa_state, mark: xa_mark_t): boolean {
  if (xas_invalid(xas)) return false;
  const node = xas.xa_node;
  return node === null ? xa_marked(xas.xa, mark) : node_get_mark(node, xas.xa_offset, mark);
}

/** Marks a slot (null: the head) and the way up from it. */
export function xa_mark_up(xa: xarray, from: xa_node | null, at: number, mark: xa_mark_t): void {
  let offset = at;
  for (let node = from; node !== null; node = node.parent) {
    // Marked already, so everything above is.
    if (node_set_mark(node, offset, mark)) return;
    offset = node.offset;
  }
  xa_mark_set(xa, mark);
}

/** Takes the mark off a slot, and off the way up as far as nothing else is marked there. */
export function xa_unmark_up(xa: xarray, from: xa_node | null, at: number, mark: xa_mark_t): void {
  let offset = at;
  for (let node = from; node !== null; node = node.parent) {
    if (!node_clear_mark(node, offset, mark) || node_any_mark(node, mark)) return;
    offset = node.offset;
  }
  xa_mark_clear(xa, mark);
}

/** Marks the entry. Does nothing when the cursor stands nowhere. */
export function xas_set_mark(xas: xa_state, mark: xa_mark_t): void {
  if (!xas_invalid(xas)) xa_mark_up(xas.xa, xas.xa_node, xas.xa_offset, mark);
}

export function xas_clear_mark(xas: xa_state, mark: xa_mark_t): void {
  if (!xas_invalid(xas)) xa_unmark_up(xas.xa, xas.xa_node, xas.xa_offset, mark);
}

/** The marks of an empty slot: none, but "free" in an array that tracks free slots. */
export function xas_init_marks(xas: xa_state): void {
  for (let mark = 0; mark < XA_MAX_MARKS; mark++) {
    if (mark === XA_FREE_MARK && xa_track_free(xas.xa)) xas_set_mark(xas, mark);
    else xas_clear_mark(xas, mark);
  }
}

/** Before several slots become one entry: its first slot gets what any of them had. */
export function xas_squash_marks(xas: xa_state, node: xa_node): void {
  const end = xas.xa_offset + xas.xa_sibs + 1;
  for (let mark = 0; mark < XA_MAX_MARKS; mark++) {
    let at = node_next_mark(node, xas.xa_offset + 1, mark);
    if (at >= end) continue;
    node_set_mark(node, xas.xa_offset, mark);
    for (; at < end; at = node_next_mark(node, at + 1, mark)) node_clear_mark(node, at, mark);
  }
}

/** All marks of a slot as bits. */
export function node_get_marks(node: xa_node, offset: number): number {
  let bits = 0;
  for (let mark = 0; mark < XA_MAX_MARKS; mark++) {
    if (node_get_mark(node, offset, mark)) bits |= 1 << mark;
  }
  return bits;
}

export function node_set_marks(node: xa_node, offset: number, bits: number): void {
  for (let mark = 0; mark < XA_MAX_MARKS; mark++) {
    if (bits & (1 << mark)) node_set_mark(node, offset, mark);
  }
}
