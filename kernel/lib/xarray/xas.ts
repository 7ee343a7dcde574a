/**
 * kernel/lib/xarray/xas.ts - the cursor (xa_state): its index, where it stands, and plain moves.
 * Linux: lib/xarray.c and include/linux/xarray.h. Differs: a cursor in error keeps the number in
 * xa_err; a cursor's reserve of nodes needs no freeing.
 *
 * Reading order: class xa_state -> xas_start() -> xas_load() -> xas_next()/xas_prev();
 * then find.ts (searching), xas_store.ts (changing), api.ts (the normal API on top).
 *
 * Locks: moves need xa_lock or RCU; a cursor that outlives them goes through xas_pause() or
 * xas_reset() first.
 *
 * The index: xa_lo holds the low 48 bits, xa_hi the upper 16. 48 is a multiple of every chunk
 * shift, so one level's bits never straddle the two. Below 2^31 bit operators on xa_lo do; each
 * function here takes that way first and does arithmetic otherwise.
 *
 * States of xa_node: a node (xa_offset is the slot the cursor stands on; of a multi-index entry
 * always its first slot), null (it stands on the head entry, index 0), XAS_RESTART, XAS_BOUNDS,
 * XAS_ERROR.
 */
import { ENOMEM } from "../../include/errno.ts";
import {
  GFP_NOWAIT,
  __GFP_ACCOUNT,
  __GFP_DIRECT_RECLAIM,
  __GFP_NOWARN,
} from "../../include/gfp.ts";
import type { gfp_t } from "../../include/gfp.ts";
import {
  XAS_BOUNDS,
  XAS_ERROR,
  XAS_RESTART,
  XAS_SHIFT,
  xa_child,
  xa_is_node,
  xa_node,
  xa_slot,
} from "./node.ts";
import type { xarray } from "./node.ts";
import {
  XA_FLAGS_ACCOUNT,
  XA_RETRY_ENTRY,
  XA_ZERO_ENTRY,
  xa_is_sibling,
  xa_to_internal,
} from "./value.ts";
import type { xa_entry, xa_index } from "./value.ts";

export type xa_update_node_t = (node: xa_node) => void;

const LO_BITS = 48;
const LO_SIZE = 2 ** LO_BITS;
const SMALL = 0x7fffffff;
/** 2^n, n = 0..66: the power operator is a library call. */
const POW2: readonly number[] = Object.freeze(Array.from({ length: 67 }, (_, n) => 2 ** n));

export class xa_state {
  readonly xa: xarray;
  /** Bits 0..47 and 48..63 of the index. */
  xa_lo = 0;
  xa_hi = 0;
  /** The order of what is to be stored: 2^xa_shift indices per slot, xa_sibs + 1 slots. */
  xa_shift = 0;
  xa_sibs = 0;
  xa_offset = 0;
  xa_node: xa_node | null = XAS_RESTART;
  /** Nodes made in advance, linked by parent. */
  xa_alloc: xa_node | null = null;
  /** Called when a node's counts have changed. */
  xa_update: xa_update_node_t | null = null;
  /** Negative error number, while xa_node is XAS_ERROR. */
  xa_err = 0;

  constructor(xa: xarray, index: xa_index) {
    this.xa = xa;
    if (typeof index === "number" && (index & SMALL) === index) this.xa_lo = index;
    else set_wide(this, index);
  }

  /** Exact below 2^53; above that rounded to a double (ULONG_MAX comes out as ULONG_MAX). */
  get xa_index(): number {
    return this.xa_hi === 0 ? this.xa_lo : this.xa_hi * LO_SIZE + this.xa_lo;
  }
}

export function XA_STATE(xa: xarray, index: xa_index): xa_state {
  return new xa_state(xa, index);
}

/** A cursor over the 2^order indices around `index`. */
export function XA_STATE_ORDER(xa: xarray, index: xa_index, order: number): xa_state {
  const xas = new xa_state(xa, index);
  xas_set_order(xas, index, order);
  return xas;
}

function set_wide(xas: xa_state, index: xa_index): void {
  if (typeof index === "bigint") {
    if (index < 0n || index > 0xffffffffffffffffn) throw new RangeError(`xarray: index ${index}`);
    xas.xa_hi = Number(index >> 48n);
    xas.xa_lo = Number(index & 0xffffffffffffn);
  } else if (index >= 2 ** 64) {
    xas.xa_hi = 0xffff;
    xas.xa_lo = LO_SIZE - 1;
  } else {
    if (!(index >= 0) || index % 1 !== 0) throw new RangeError(`xarray: index ${index}`);
    xas.xa_hi = Math.floor(index / LO_SIZE);
    xas.xa_lo = index % LO_SIZE;
  }
}

/** Moves the cursor to another index; the next step starts at the head again. */
export function xas_set(xas: xa_state, index: xa_index): void {
  if (typeof index === "number" && (index & SMALL) === index) {
    xas.xa_lo = index;
    xas.xa_hi = 0;
  } else {
    set_wide(xas, index);
  }
  xas.xa_node = XAS_RESTART;
}

/** Sets index and order; the index is rounded down to the order. */
export function xas_set_order(xas: xa_state, index: xa_index, order: number): void {
  xas_set(xas, index);
  if (order !== 0) index_round_down(xas, order);
  const rest = order % xas.xa.chunk_shift;
  xas.xa_shift = order - rest;
  xas.xa_sibs = (1 << rest) - 1;
}

/** Moves within the node the cursor stands on: the caller knows that the index lies there. */
export function xas_advance(xas: xa_state, index: xa_index): void {
  const node = xas.xa_node;
  xas_set(xas, index);
  xas.xa_node = node;
  const shift = xas_is_node(xas) ? node!.shift : 0;
  xas.xa_offset = index_bits(xas, shift, xas.xa.chunk_mask);
}

export function xas_set_update(xas: xa_state, update: xa_update_node_t | null): void {
  xas.xa_update = update;
}

// ---- index arithmetic, modulo 2^64

/** (index >> shift) & mask */
export function index_bits(xas: xa_state, shift: number, mask: number): number {
  const lo = xas.xa_lo;
  if (lo <= SMALL && shift < 31) return (lo >>> shift) & mask;
  if (shift >= LO_BITS) return (xas.xa_hi >>> (shift - LO_BITS)) & mask;
  return Math.floor(lo / POW2[shift]!) % (mask + 1);
}

/** Is index < 2^bits? */
export function index_below(xas: xa_state, bits: number): boolean {
  const { xa_hi: hi, xa_lo: lo } = xas;
  if (hi !== 0) return bits >= 64 || (bits > LO_BITS && hi < POW2[bits - LO_BITS]!);
  if (bits < 31 && lo <= SMALL) return lo >>> bits === 0;
  return bits >= LO_BITS || lo < POW2[bits]!;
}

/** How many bits the index has: 0 for index 0. */
export function index_width(xas: xa_state): number {
  if (xas.xa_hi !== 0) return LO_BITS + 32 - Math.clz32(xas.xa_hi);
  if (xas.xa_lo <= SMALL) return 32 - Math.clz32(xas.xa_lo);
  const upper = Math.floor(xas.xa_lo / 2 ** 32);
  return upper === 0 ? 32 : 64 - Math.clz32(upper);
}

/** Is index > max? */
export function index_above(xas: xa_state, max: number): boolean {
  if (xas.xa_hi === 0) return xas.xa_lo > max;
  if (max >= 2 ** 64) return false;
  const hi = Math.floor(max / LO_SIZE);
  return xas.xa_hi > hi || (xas.xa_hi === hi && xas.xa_lo > max % LO_SIZE);
}

function index_round_down(xas: xa_state, bits: number): void {
  if (bits >= LO_BITS) {
    xas.xa_hi -= bits >= 64 ? xas.xa_hi : xas.xa_hi % POW2[bits - LO_BITS]!;
    xas.xa_lo = 0;
  } else if (bits < 31 && xas.xa_lo <= SMALL) {
    xas.xa_lo &= -1 << bits;
  } else {
    xas.xa_lo -= xas.xa_lo % POW2[bits]!;
  }
}

/** index += delta, delta >= 0 and a whole number that a double holds. */
export function index_add(xas: xa_state, delta: number): void {
  const sum = xas.xa_lo + (delta < LO_SIZE ? delta : delta % LO_SIZE);
  const carry = (delta < LO_SIZE ? 0 : Math.floor(delta / LO_SIZE)) + (sum < LO_SIZE ? 0 : 1);
  xas.xa_lo = sum < LO_SIZE ? sum : sum - LO_SIZE;
  if (carry !== 0) xas.xa_hi = (xas.xa_hi + carry) & 0xffff;
}

/** index -= delta, 0 <= delta < 2^48. */
export function index_sub(xas: xa_state, delta: number): void {
  xas.xa_lo -= delta;
  if (xas.xa_lo < 0) {
    xas.xa_lo += LO_SIZE;
    xas.xa_hi = (xas.xa_hi - 1) & 0xffff;
  }
}

/** The first index of slot `offset` of the node the cursor is on; `offset` may be one too many. */
export function xas_move_index(xas: xa_state, node: xa_node, offset: number): void {
  const shift = node.shift;
  const span_bits = shift + xas.xa.chunk_shift;
  if (span_bits < 31 && xas.xa_lo <= SMALL) {
    xas.xa_lo = (xas.xa_lo & (-1 << span_bits)) + (offset << shift);
    return;
  }
  index_round_down(xas, span_bits);
  index_add(xas, offset * POW2[shift]!);
}

/** From the first index of the cursor's range to the last. */
export function xas_last_index(xas: xa_state): void {
  const cs = xas.xa.chunk_shift;
  const slot = index_bits(xas, xas.xa_shift, xas.xa.chunk_mask) | xas.xa_sibs;
  index_round_down(xas, xas.xa_shift + cs);
  index_add(xas, slot * POW2[xas.xa_shift]!);
  index_add(xas, POW2[xas.xa_shift]! - 1);
}

/** Does the index lie behind the first index of the entry the cursor stands on? */
export function xas_sibling(xas: xa_state): boolean {
  const node = xas.xa_node;
  if (node === null) return false;
  const at = index_bits(xas, node.shift, node.mask);
  if (at !== xas.xa_offset) return at > xas.xa_offset;
  if (node.shift <= LO_BITS) return xas.xa_lo % POW2[node.shift]! !== 0;
  return xas.xa_lo !== 0 || xas.xa_hi % POW2[node.shift - LO_BITS]! !== 0;
}

// ---- state

/** Negative error number, or 0. */
export function xas_error(xas: xa_state): number {
  return xas.xa_node === XAS_ERROR ? xas.xa_err : 0;
}

/** `err` negative. The cursor does nothing more until it is reset. */
export function xas_set_err(xas: xa_state, err: number): void {
  xas.xa_node = XAS_ERROR;
  xas.xa_err = err;
}

/** True when the cursor stands on no slot: restart, bounds or error. */
export function xas_invalid(xas: xa_state): boolean {
  return xas.xa_node !== null && xas.xa_node.shift === XAS_SHIFT;
}

export function xas_valid(xas: xa_state): boolean {
  return !xas_invalid(xas);
}

export function xas_is_node(xas: xa_state): boolean {
  return xas.xa_node !== null && xas.xa_node.shift !== XAS_SHIFT;
}

export function xas_not_node(node: xa_node | null): boolean {
  return node === null || node.shift === XAS_SHIFT;
}

/** True for restart and error: the index is where the next step has to look, not where it was. */
export function xas_frozen(node: xa_node | null): boolean {
  return node === XAS_RESTART || node === XAS_ERROR;
}

/** True when the next step begins at the head of the array. */
export function xas_top(node: xa_node | null): boolean {
  return node === null || node === XAS_RESTART || node === XAS_BOUNDS;
}

/** Forgets errors and position; the index stays. */
export function xas_reset(xas: xa_state): void {
  xas.xa_node = XAS_RESTART;
}

/** Is `entry` one the reader must pass over (true)? After a retry entry the walk starts again. */
export function xas_retry(xas: xa_state, entry: xa_entry): boolean {
  if (entry === XA_RETRY_ENTRY) {
    xas.xa_node = XAS_RESTART;
    return true;
  }
  return entry === XA_ZERO_ENTRY;
}

export function xas_lock(xas: xa_state): void {
  if (xas.xa.xa_lock !== null) xas.xa.xa_lock.lock();
}

export function xas_unlock(xas: xa_state): void {
  if (xas.xa.xa_lock !== null) xas.xa.xa_lock.unlock();
}

// ---- memory

/** A node with empty slots, or null when the array's allocator has none. */
export function xa_node_alloc(xa: xarray, gfp: gfp_t): xa_node | null {
  const flags = xa.xa_flags & XA_FLAGS_ACCOUNT ? gfp | __GFP_ACCOUNT : gfp;
  if (xa.alloc !== null && !xa.alloc(flags)) return null;
  return new xa_node(xa, xa.chunk_mask, 0);
}

/** A node for one level, hung under the node the cursor stands on; without memory an error. */
export function xas_alloc(xas: xa_state, shift: number): xa_node | null {
  const parent = xas.xa_node;
  if (xas_invalid(xas)) return null;
  let node = xas.xa_alloc;
  if (node !== null) {
    xas.xa_alloc = node.parent;
  } else {
    node = xa_node_alloc(xas.xa, GFP_NOWAIT | __GFP_NOWARN);
    if (node === null) {
      xas_set_err(xas, -ENOMEM.errno);
      return null;
    }
  }
  node.shift = shift;
  node.parent = parent;
  if (parent !== null) {
    node.offset = xas.xa_offset;
    parent.count++;
    if (xas.xa_update !== null) xas.xa_update(parent);
  }
  return node;
}

/** Gives back the nodes held in reserve. */
export function xas_destroy(xas: xa_state): void {
  xas.xa_alloc = null;
}

/**
 * After a step that may have failed for want of memory, the lock dropped: true when memory was
 * wanted and is now in reserve, so that the caller has to lock and try again.
 */
export function xas_nomem(xas: xa_state, gfp: gfp_t): boolean {
  if (xas.xa_node !== XAS_ERROR || xas.xa_err !== -ENOMEM.errno) {
    xas.xa_alloc = null;
    return false;
  }
  const node = xa_node_alloc(xas.xa, gfp);
  if (node === null) return false;
  xas.xa_alloc = node;
  xas.xa_node = XAS_RESTART;
  return true;
}

/** The same for a caller that holds the lock: dropped around an allocation that may sleep. */
export function __xas_nomem(xas: xa_state, gfp: gfp_t): boolean {
  if (xas.xa_node !== XAS_ERROR || xas.xa_err !== -ENOMEM.errno) {
    xas.xa_alloc = null;
    return false;
  }
  const may_sleep = (gfp & __GFP_DIRECT_RECLAIM) !== 0;
  if (may_sleep) xas_unlock(xas);
  const again = xas_nomem(xas, gfp);
  if (may_sleep) xas_lock(xas);
  return again;
}

// ---- walking

export function set_bounds(xas: xa_state): null {
  xas.xa_node = XAS_BOUNDS;
  return null;
}

/**
 * Where a walk to the index begins: the entry under a cursor that stands somewhere already, else
 * the head. Null, and XAS_BOUNDS, when the tree does not reach the index; null on an error.
 */
export function xas_start(xas: xa_state): xa_entry {
  const node = xas.xa_node;
  if (node === null || node.shift !== XAS_SHIFT) return xas_reload(xas);
  if (node === XAS_ERROR) return null;
  const root = xas.xa.xa_root;
  if (!index_below(xas, root === null ? 0 : root.shift + xas.xa.chunk_shift))
    return set_bounds(xas);
  xas.xa_node = null;
  return xas.xa.xa_head;
}

/** One level down, onto the slot of the index or the first slot of the entry that covers it. */
export function xas_descend(xas: xa_state, node: xa_node): xa_entry {
  let offset = index_bits(xas, node.shift, node.mask);
  let entry = xa_slot(node, offset);
  if (xa_is_sibling(entry)) {
    offset = xa_to_internal(entry);
    entry = xa_slot(node, offset);
    // Siblings of a child node: somebody is splitting the entry right now.
    if (node.shift !== 0 && xa_is_node(entry)) entry = XA_RETRY_ENTRY;
  }
  xas.xa_node = node;
  xas.xa_offset = offset;
  return entry;
}

/**
 * Walks to the index and returns what is there. Never grows the tree. A cursor with an order stops
 * at that level, so what it returns may be a child node (an internal entry).
 */
export function xas_load(xas: xa_state): xa_entry {
  const xa = xas.xa;
  const at = xas.xa_node;
  const start = xas_start(xas);
  let node = at === null || at.shift === XAS_SHIFT ? xa.xa_root : xa_child(xa, at, start);
  if (node === null || start === null) return start;
  while (node.shift >= xas.xa_shift) {
    const entry = xas_descend(xas, node);
    const child = xa_child(xa, node, entry);
    if (child === null) return entry;
    node = child;
  }
  return node;
}

/** The entry at the index again, without a walk: did it change since the cursor came here? */
export function xas_reload(xas: xa_state): xa_entry {
  const node = xas.xa_node;
  if (node === null) return xas.xa.xa_head;
  const entry = xa_slot(node, index_bits(xas, node.shift, node.mask));
  return xa_is_sibling(entry) ? xa_slot(node, xa_to_internal(entry)) : entry;
}

/** The entry one index on; null also for an empty slot. Behind the last index comes the first. */
export function xas_next(xas: xa_state): xa_entry {
  const node = xas.xa_node;
  if (node === null || node.shift !== 0 || xas.xa_offset === node.mask) return step(xas, 1);
  xas.xa_lo++;
  return xa_slot(node, ++xas.xa_offset);
}

/** The entry one index back; before the first index comes the last. */
export function xas_prev(xas: xa_state): xa_entry {
  const node = xas.xa_node;
  if (node === null || node.shift !== 0 || xas.xa_offset === 0) return step(xas, -1);
  xas.xa_lo--;
  return xa_slot(node, --xas.xa_offset);
}

/** One index forward or back, across nodes. */
function step(xas: xa_state, by: 1 | -1): xa_entry {
  let node = xas.xa_node;
  if (!xas_frozen(node)) {
    if (by > 0) index_add(xas, 1);
    else index_sub(xas, 1);
  }
  if (node === null) return set_bounds(xas);
  if (node.shift === XAS_SHIFT) return xas_load(xas);

  // Inside a multi-index entry of an inner node the slot need not change.
  let offset = xas.xa_offset;
  if (offset !== index_bits(xas, node.shift, node.mask)) offset += by;
  while (offset < 0 || offset > node.mask) {
    offset = node.offset + by;
    node = node.parent;
    if (node === null) return set_bounds(xas);
  }
  let entry = xa_slot(node, offset);
  for (let child = xa_child(xas.xa, node, entry); child !== null; ) {
    node = child;
    offset = index_bits(xas, node.shift, node.mask);
    entry = xa_slot(node, offset);
    child = xa_child(xas.xa, node, entry);
  }
  xas.xa_node = node;
  xas.xa_offset = offset;
  return entry;
}
