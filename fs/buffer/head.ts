/**
 * fs/buffer/head.ts - the buffer head: one block, its bytes in DRAM, and what is known about it.
 * Linux: struct buffer_head, include/linux/buffer_head.h. Differs: a buffer of the device cache
 * owns its bytes (there is no page behind it); a buffer of a cached page shows a piece of the page.
 *
 * The state bits are written by whoever holds the buffer lock, except as noted.
 */
import type { block_device } from "../../kernel/include/blkdev.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { bit_lock } from "../../kernel/locking/bit_lock.ts";
import { lock_class } from "../../kernel/locking/lock.ts";

/** The bytes are those of the block, or newer. */
export const BH_Uptodate = 1 << 0;
/** Newer than the block. Set by anyone who refers to the buffer. */
export const BH_Dirty = 1 << 1;
/** b_bdev and b_blocknr say where the block is. */
export const BH_Mapped = 1 << 4;
/** get_block has just allocated the block: its old contents mean nothing. */
export const BH_New = 1 << 5;
export const BH_Async_Write = 1 << 7;
/** Space is reserved, the block will be chosen at writeback. */
export const BH_Delay = 1 << 8;
/** Writing it failed: what is in memory is not on the media. */
export const BH_Write_EIO = 1 << 10;
/** The block is allocated but reads as zeroes until its extent is converted. */
export const BH_Unwritten = 1 << 11;
export const BH_Meta = 1 << 13;
export const BH_Prio = 1 << 14;
/** First of the bits that a filesystem or journal uses as it likes. */
export const BH_PrivateStart = 16;

const BUFFER_LOCK = lock_class("buffer_head");

class buffer_head_object {
  readonly kernel: Kernel;
  b_state: number;
  b_bdev: block_device | null;
  /** Block number in units of b_size; meaningful when mapped. */
  b_blocknr: number;
  readonly b_size: number;
  readonly b_data: Uint8Array;
  /** The cached page it belongs to, or null for the device cache. Immutable. */
  readonly b_page: page | null;
  /** Whose fsync must write it (indirect blocks and the like). i_mapping of an inode. */
  b_assoc_map: address_space | null = null;
  /** jbd2's journal head. */
  b_private: unknown = null;
  b_count = 0;
  #lock: bit_lock | null = null;

  constructor(
    kernel: Kernel,
    bdev: block_device | null,
    blocknr: number,
    data: Uint8Array,
    page: page | null,
    state: number,
  ) {
    this.kernel = kernel;
    this.b_bdev = bdev;
    this.b_blocknr = blocknr;
    this.b_size = data.length;
    this.b_data = data;
    this.b_page = page;
    this.b_state = state;
  }

  get lock(): bit_lock {
    this.#lock ??= new bit_lock(this.kernel.machine, BUFFER_LOCK, () => this.toString());
    return this.#lock;
  }
  get is_locked(): boolean {
    return this.#lock?.is_locked() ?? false;
  }

  /** For reports: "block 12 of pmem0". */
  toString(): string {
    return `block ${this.b_blocknr} of ${this.b_bdev?.bd_name ?? "(no device)"}`;
  }
}

export type buffer_head = buffer_head_object;

/** For fs/buffer/ only: others get theirs from sb_getblk() or create_empty_buffers(). */
export function alloc_buffer_head(
  kernel: Kernel,
  bdev: block_device | null,
  blocknr: number,
  data: Uint8Array,
  page: page | null,
  state: number,
): buffer_head {
  return new buffer_head_object(kernel, bdev, blocknr, data, page, state);
}

export const buffer_uptodate = (bh: buffer_head): boolean => (bh.b_state & BH_Uptodate) !== 0;
export const buffer_dirty = (bh: buffer_head): boolean => (bh.b_state & BH_Dirty) !== 0;
export const buffer_mapped = (bh: buffer_head): boolean => (bh.b_state & BH_Mapped) !== 0;
export const buffer_new = (bh: buffer_head): boolean => (bh.b_state & BH_New) !== 0;
export const buffer_delay = (bh: buffer_head): boolean => (bh.b_state & BH_Delay) !== 0;
export const buffer_unwritten = (bh: buffer_head): boolean => (bh.b_state & BH_Unwritten) !== 0;
export const buffer_write_io_error = (bh: buffer_head): boolean =>
  (bh.b_state & BH_Write_EIO) !== 0;

export function set_buffer_uptodate(bh: buffer_head): void {
  bh.b_state |= BH_Uptodate;
}
export function clear_buffer_uptodate(bh: buffer_head): void {
  bh.b_state &= ~BH_Uptodate;
}
export function set_buffer_mapped(bh: buffer_head): void {
  bh.b_state |= BH_Mapped;
}
export function clear_buffer_mapped(bh: buffer_head): void {
  bh.b_state &= ~BH_Mapped;
}
export function set_buffer_new(bh: buffer_head): void {
  bh.b_state |= BH_New;
}
export function clear_buffer_new(bh: buffer_head): void {
  bh.b_state &= ~BH_New;
}
export function set_buffer_delay(bh: buffer_head): void {
  bh.b_state |= BH_Delay;
}
export function clear_buffer_delay(bh: buffer_head): void {
  bh.b_state &= ~BH_Delay;
}
export function set_buffer_unwritten(bh: buffer_head): void {
  bh.b_state |= BH_Unwritten;
}
export function clear_buffer_unwritten(bh: buffer_head): void {
  bh.b_state &= ~BH_Unwritten;
}
export function set_buffer_meta(bh: buffer_head): void {
  bh.b_state |= BH_Meta;
}

/** get_block's answer: the buffer's block is `block` of `bdev`. */
export function map_bh(bh: buffer_head, bdev: block_device, block: number): void {
  bh.b_state |= BH_Mapped;
  bh.b_bdev = bdev;
  bh.b_blocknr = block;
}

export function lock_buffer(bh: buffer_head): MaybeWait {
  return bh.lock.lock();
}
export function trylock_buffer(bh: buffer_head): boolean {
  return bh.lock.trylock();
}
export function unlock_buffer(bh: buffer_head): void {
  bh.lock.unlock();
}
export function buffer_locked(bh: buffer_head): boolean {
  return bh.is_locked;
}
/** Waits until whoever has the buffer locked is done. */
export function wait_on_buffer(bh: buffer_head): MaybeWait {
  return bh.is_locked ? bh.lock.wait_unlocked() : undefined;
}

export function get_bh(bh: buffer_head): void {
  bh.b_count++;
}
export function put_bh(bh: buffer_head): void {
  bh.b_count--;
}
