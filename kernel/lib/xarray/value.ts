/**
 * kernel/lib/xarray/value.ts - what a slot of an XArray can hold, and how an index is written.
 * Linux: the tagged pointers of include/linux/xarray.h. Differs: JavaScript has types where C has
 * tag bits, so the type of what lies in the slot is the tag:
 *
 *   null              empty
 *   number >= 0       value entry: the number is the value. A 31-bit value lies in the slot itself,
 *                     a larger one in a heap number (slower, still right)
 *   number < 0        internal entry number v, kept as -1 - v, so that it is a small integer too:
 *                       v = 0..62       sibling: "look in slot v of this node"
 *                       v = 256         retry: the node was taken out of the tree under the reader
 *                       v = 257         zero: reserved, reads as null
 *                       v = 4096 + e    error e (1..4095), only ever returned, never stored
 *   xa_node           child node
 *   any other object  user pointer
 *
 * Beware: the value 0 is falsy. Compare entries with null, never by truth.
 *
 * Indices are unsigned 64-bit numbers, as in the kernel. An index is a plain number where a double
 * holds it exactly: 0..2^53, and above that what has 53 significant bits, and ULONG_MAX. Any other
 * index is given as a bigint. Inside, a cursor keeps 48 low and 16 high bits (see xas.ts).
 */
import { EINVAL } from "../../include/errno.ts";

export type xa_entry = number | object | null;
export type xa_index = number | bigint;

/** 2^64 - 1. A double rounds it up; wherever an index is taken or given it means the last one. */
export const ULONG_MAX = 2 ** 64;
export const BITS_PER_LONG = 64;

/** Makes a value entry. Values that a mapping stores (DAX entries) fit 31 bits. */
export function xa_mk_value(v: number): number {
  if (!(v >= 0)) throw new RangeError(`xarray: ${v} is no value`);
  return v;
}

export function xa_to_value(entry: xa_entry): number {
  return entry as number;
}

export function xa_is_value(entry: xa_entry): entry is number {
  return typeof entry === "number" && entry >= 0;
}

export function xa_mk_internal(v: number): number {
  return -1 - v;
}

export function xa_to_internal(entry: number): number {
  return -1 - entry;
}

/** The slot is reserved: not empty, but reads as null through the normal API. */
export const XA_ZERO_ENTRY = -258;
/** The reader stands on a node that left the tree and has to start again. */
export const XA_RETRY_ENTRY = -257;
/** Siblings are -1 (slot 0) down to this (slot 63). */
export const XA_LAST_SIBLING = -64;

const ERROR_BASE = 4096;

export function xa_is_zero(entry: xa_entry): boolean {
  return entry === XA_ZERO_ENTRY;
}

export function xa_is_retry(entry: xa_entry): boolean {
  return entry === XA_RETRY_ENTRY;
}

export function xa_is_sibling(entry: xa_entry): entry is number {
  return typeof entry === "number" && entry < 0 && entry >= XA_LAST_SIBLING;
}

/** `errno` negative, as the kernel writes it. */
export function XA_ERROR(errno: number): number {
  return xa_mk_internal(ERROR_BASE - errno);
}

export function xa_is_err(entry: xa_entry): entry is number {
  return typeof entry === "number" && entry < -ERROR_BASE;
}

/** The negative error number in what a normal-API function returned, or 0. */
export function xa_err(entry: xa_entry): number {
  return xa_is_err(entry) ? ERROR_BASE - xa_to_internal(entry) : 0;
}

/** What the normal API refuses to store: internal entries but the zero entry, and NaN. */
export function xa_is_advanced(entry: xa_entry): boolean {
  return typeof entry === "number" && !(entry >= 0) && entry !== XA_ZERO_ENTRY;
}

/** The answer to an entry that cannot be stored. */
export const XA_EINVAL = XA_ERROR(-EINVAL.errno);

export type xa_mark_t = number;
export const XA_MARK_0 = 0;
export const XA_MARK_1 = 1;
export const XA_MARK_2 = 2;
export const XA_MAX_MARKS = 3;
/** As a filter: every entry that is not null. */
export const XA_PRESENT = 8;
/** In an allocating array mark 0 says "this index is free". */
export const XA_FREE_MARK = XA_MARK_0;

export const XA_FLAGS_LOCK_IRQ = 1;
export const XA_FLAGS_LOCK_BH = 2;
export const XA_FLAGS_TRACK_FREE = 4;
export const XA_FLAGS_ZERO_BUSY = 8;
export const XA_FLAGS_ALLOC_WRAPPED = 16;
export const XA_FLAGS_ACCOUNT = 32;
/** The marks of the whole array live above the flags. */
export const XA_FLAGS_MARK_SHIFT = 16;
/** Allocating array, first id 0. */
export const XA_FLAGS_ALLOC = XA_FLAGS_TRACK_FREE | (1 << XA_FLAGS_MARK_SHIFT);
/** Allocating array, first id 1. */
export const XA_FLAGS_ALLOC1 = XA_FLAGS_TRACK_FREE | XA_FLAGS_ZERO_BUSY;

export interface xa_limit {
  readonly min: number;
  readonly max: number;
}
export function XA_LIMIT(min: number, max: number): xa_limit {
  return { min, max };
}
export const xa_limit_32b: xa_limit = Object.freeze({ min: 0, max: 0xffffffff });
export const xa_limit_31b: xa_limit = Object.freeze({ min: 0, max: 0x7fffffff });
export const xa_limit_16b: xa_limit = Object.freeze({ min: 0, max: 0xffff });

/** Stands for a C pointer to a number: an index or id that a call reads and writes. */
export interface xa_ref {
  val: number;
}
