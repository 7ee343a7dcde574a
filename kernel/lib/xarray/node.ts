/**
 * kernel/lib/xarray/node.ts - the array head, its nodes and their mark bits.
 * Linux: include/linux/xarray.h (struct xarray, struct xa_node). Differs: the number of slots per
 * node is a property of the array, not of the build; nodes are garbage collected.
 *
 * Locks: everything is written under xa_lock; xa_head, slots and marks may be read under RCU alone.
 * Invariants: count = slots that are not null; nr_values = slots that hold a value entry or a
 * sibling of one; a mark bit of an inner slot is set exactly when a mark below it is.
 */
import type { gfp_t } from "../../include/gfp.ts";
import { XA_FLAGS_MARK_SHIFT, XA_FLAGS_TRACK_FREE, XA_FLAGS_ZERO_BUSY } from "./value.ts";
import type { xa_entry, xa_mark_t } from "./value.ts";

/** What the array needs of a spinlock; the owner decides about interrupts. */
export interface xa_lock_t {
  lock(): void;
  unlock(): void;
}

export interface xarray_options {
  /** XA_FLAGS_*; default 0. */
  flags?: number;
  /** Slots per node as a power of two: 6 (64 slots, default), 4 or 3. */
  chunk_shift?: number;
  /** Asked before each node is made; false means no memory. Default: always true. */
  alloc?: (gfp: gfp_t) => boolean;
  /** Taken by the normal API and by xas_lock(); default none. */
  lock?: xa_lock_t;
}

export class xarray {
  readonly xa_lock: xa_lock_t | null;
  /** xa_lock. */
  xa_flags: number;
  /** xa_lock. The only entry, if its index is 0, or the root node. */
  xa_head: xa_entry = null;
  /** xa_lock. xa_head if it is a node: saves the loader a type test. */
  xa_root: xa_node | null = null;
  /** xa_lock. A user pointer has been stored above the leaves: an object there may be no node. */
  xa_inner_pointers = false;
  readonly chunk_shift: number;
  readonly chunk_mask: number;
  readonly alloc: ((gfp: gfp_t) => boolean) | null;

  constructor(options: xarray_options = {}) {
    const shift = options.chunk_shift ?? 6;
    // A level must not straddle bit 48 of the index, and a sibling must fit XA_LAST_SIBLING.
    if (shift !== 6 && shift !== 4 && shift !== 3) {
      throw new RangeError(`xarray: chunk_shift ${shift}, not 3, 4 or 6`);
    }
    this.xa_lock = options.lock ?? null;
    this.xa_flags = options.flags ?? 0;
    this.chunk_shift = shift;
    this.chunk_mask = (1 << shift) - 1;
    this.alloc = options.alloc ?? null;
  }
}

export class xa_node {
  readonly #brand = true;
  /** Index bits below one slot. 0 at the leaves. */
  shift: number;
  /** Slot in the parent. */
  offset = 0;
  /** Slots that are not null. */
  count = 0;
  /** Slots that hold values or siblings of values. */
  nr_values = 0;
  /** Slots - 1. */
  readonly mask: number;
  /** Null at the root; links nodes that a cursor holds in reserve. */
  parent: xa_node | null = null;
  /** Null once the node has left its array. */
  array: xarray | null;
  readonly slots: xa_entry[];
  /** Two words of 32 bits per mark: slots 0..31, slots 32..63. */
  readonly marks: number[] = [0, 0, 0, 0, 0, 0];
  /** For the owner of an update callback: the list this node is on. */
  private_list: object | null = null;

  constructor(array: xarray | null, mask: number, shift: number) {
    this.array = array;
    this.mask = mask;
    this.shift = shift;
    this.slots = new Array<xa_entry>(mask + 1).fill(null);
  }

  static is(entry: object): entry is xa_node {
    return #brand in entry;
  }
}

/**
 * What a cursor's xa_node says when it is no node: nodes that belong to no array. Their shift is
 * that of no real node, so "is this a leaf" needs no separate test for them.
 */
export const XAS_SHIFT = 255;
/** The walk has not started, or has to start again. */
export const XAS_RESTART = new xa_node(null, 0, XAS_SHIFT);
/** The index lies outside what the tree reaches. */
export const XAS_BOUNDS = new xa_node(null, 0, XAS_SHIFT);
/** The error is in xa_err. */
export const XAS_ERROR = new xa_node(null, 0, XAS_SHIFT);

export function xa_is_node(entry: xa_entry): entry is xa_node {
  return typeof entry === "object" && entry !== null && xa_node.is(entry);
}

export function xa_is_internal(entry: xa_entry): boolean {
  return typeof entry === "number" ? entry < 0 : xa_is_node(entry);
}

/** The entry in a slot. */
export function xa_slot(node: xa_node, offset: number): xa_entry {
  return node.slots[offset] as xa_entry;
}

/** Puts an entry that is no node, or nothing, at the head. */
export function xa_set_head(xa: xarray, entry: xa_entry): void {
  xa.xa_head = entry;
  xa.xa_root = null;
}

export function xa_set_root(xa: xarray, node: xa_node): void {
  xa.xa_head = node;
  xa.xa_root = node;
}

/**
 * The child node in a slot of `node` that holds `entry`, or null. Cheaper than xa_is_node(): above
 * the leaves an object is a child, unless user pointers have been stored there.
 */
export function xa_child(xa: xarray, node: xa_node, entry: xa_entry): xa_node | null {
  if (typeof entry !== "object" || entry === null || node.shift === 0) return null;
  return xa.xa_inner_pointers && !xa_node.is(entry) ? null : (entry as xa_node);
}

export function xa_head(xa: xarray): xa_entry {
  return xa.xa_head;
}

export function xa_track_free(xa: xarray): boolean {
  return (xa.xa_flags & XA_FLAGS_TRACK_FREE) !== 0;
}

export function xa_zero_busy(xa: xarray): boolean {
  return (xa.xa_flags & XA_FLAGS_ZERO_BUSY) !== 0;
}

/** Does any entry of the array carry this mark? */
export function xa_marked(xa: xarray, mark: xa_mark_t): boolean {
  return (xa.xa_flags & (1 << (XA_FLAGS_MARK_SHIFT + mark))) !== 0;
}

export function xa_mark_set(xa: xarray, mark: xa_mark_t): void {
  xa.xa_flags |= 1 << (XA_FLAGS_MARK_SHIFT + mark);
}

export function xa_mark_clear(xa: xarray, mark: xa_mark_t): void {
  xa.xa_flags &= ~(1 << (XA_FLAGS_MARK_SHIFT + mark));
}

export function node_get_mark(node: xa_node, offset: number, mark: xa_mark_t): boolean {
  return (node.marks[(mark << 1) + (offset >>> 5)]! & (1 << (offset & 31))) !== 0;
}

/** Returns what the bit was. */
export function node_set_mark(node: xa_node, offset: number, mark: xa_mark_t): boolean {
  const word = (mark << 1) + (offset >>> 5);
  const old = node.marks[word]!;
  const bit = 1 << (offset & 31);
  node.marks[word] = old | bit;
  return (old & bit) !== 0;
}

/** Returns what the bit was. */
export function node_clear_mark(node: xa_node, offset: number, mark: xa_mark_t): boolean {
  const word = (mark << 1) + (offset >>> 5);
  const old = node.marks[word]!;
  const bit = 1 << (offset & 31);
  node.marks[word] = old & ~bit;
  return (old & bit) !== 0;
}

export function node_any_mark(node: xa_node, mark: xa_mark_t): boolean {
  return (node.marks[mark << 1]! | node.marks[(mark << 1) + 1]!) !== 0;
}

export function node_mark_all(node: xa_node, mark: xa_mark_t): void {
  node.marks[mark << 1] = node.mask === 63 ? -1 : (1 << (node.mask + 1)) - 1;
  node.marks[(mark << 1) + 1] = node.mask === 63 ? -1 : 0;
}

/** The first marked slot at or after `from`, or the number of slots. */
export function node_next_mark(node: xa_node, from: number, mark: xa_mark_t): number {
  let word = (mark << 1) + (from >>> 5);
  if (from <= node.mask) {
    let bits = node.marks[word]! & (-1 << (from & 31));
    let base = from & 32;
    if (bits === 0 && base === 0) {
      bits = node.marks[++word]!;
      base = 32;
    }
    if (bits !== 0) return base + 31 - Math.clz32(bits & -bits);
  }
  return node.mask + 1;
}
