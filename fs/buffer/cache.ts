/**
 * fs/buffer/cache.ts - the blocks of a device in memory: looking up, reading, dirtying, writing.
 * Linux: fs/buffer.c. Differs: a Map by block number per device, in place of the device's page
 * cache; nothing is ever thrown out for want of memory.
 *
 * Reading order: sb_bread() -> mark_buffer_dirty() -> sync_dirty_buffer(), sync_blockdev()
 *
 * Locks: the buffer lock is held while its block is read or written. Dirty is cleared under it just
 * before the write, so that a change made meanwhile makes the buffer dirty again. pmem never
 * sleeps, so on it none of this does, unless the buffer is locked by somebody else.
 * Invariant: at most one buffer head for a block; `dirty` holds exactly the buffers with BH_Dirty.
 */
import type { block_device } from "../../kernel/include/blkdev.ts";
import {
  REQ_FUA,
  REQ_META,
  REQ_OP_READ,
  REQ_OP_WRITE,
  REQ_SYNC,
} from "../../kernel/include/blkdev.ts";
import { EIO, is_errno } from "../../kernel/include/errno.ts";
import type { Sometime, inode, super_block } from "../../kernel/include/fs.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import type { address_space } from "../../kernel/include/mm_types.ts";
import { assert } from "../../kernel/assert.ts";
import { bdev_kernel } from "../../drivers/block/bdev.ts";
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";
import { fs_state } from "../fs_state.ts";
import {
  BH_Dirty,
  BH_Mapped,
  BH_Meta,
  BH_New,
  BH_Uptodate,
  BH_Write_EIO,
  alloc_buffer_head,
  buffer_dirty,
  buffer_mapped,
  buffer_uptodate,
  clear_buffer_uptodate,
  lock_buffer,
  set_buffer_uptodate,
  trylock_buffer,
  unlock_buffer,
} from "./head.ts";
import type { buffer_head } from "./head.ts";

/** bdev.bd_buffers */
interface bdev_buffers {
  readonly blocks: Map<number, buffer_head>;
  readonly dirty: Set<buffer_head>;
  /** How many writes have failed: whoever wants to know remembers what it saw. */
  wb_err: number;
  /** Of those, how many sync_blockdev() has told somebody. */
  wb_err_seen: number;
}

function bdev_buffers(bdev: block_device): bdev_buffers {
  bdev.bd_buffers ??= {
    blocks: new Map(),
    dirty: new Set(),
    wb_err: 0,
    wb_err_seen: 0,
  } satisfies bdev_buffers;
  return bdev.bd_buffers as bdev_buffers;
}

/** The buffer of a block if it is cached. Takes no reference. */
export function __find_get_block(bdev: block_device, block: number): buffer_head | null {
  return (bdev.bd_buffers as bdev_buffers | null)?.blocks.get(block) ?? null;
}

/** The buffer of a block, its bytes not necessarily read. Counted: brelse() it. */
export function __getblk(bdev: block_device, block: number, size: number): buffer_head {
  assert(size === bdev.bd_block_size, "a buffer of another size than the device's blocks");
  const { blocks } = bdev_buffers(bdev);
  let bh = blocks.get(block);
  if (!bh) {
    const data = new Uint8Array(size);
    bh = alloc_buffer_head(bdev_kernel(bdev), bdev, block, data, null, BH_Mapped);
    blocks.set(block, bh);
  }
  bh.b_count++;
  return bh;
}

export function sb_getblk(sb: super_block, block: number): buffer_head {
  return __getblk(sb.s_bdev!, block, sb.s_blocksize);
}

export function sb_find_get_block(sb: super_block, block: number): buffer_head | null {
  const bh = __find_get_block(sb.s_bdev!, block);
  if (bh) bh.b_count++;
  return bh;
}

export function brelse(bh: buffer_head | null): void {
  if (bh) bh.b_count--;
}

/** As brelse(), for a block that was freed: changes not yet written are of no use any more. */
export function bforget(bh: buffer_head | null): void {
  if (!bh) return;
  clear_buffer_dirty(bh);
  drop_assoc(bh);
  bh.b_count--;
}

// ---- dirty

function clear_buffer_dirty(bh: buffer_head): void {
  bh.b_state &= ~BH_Dirty;
  if (bh.b_bdev && !bh.b_page) bdev_buffers(bh.b_bdev).dirty.delete(bh);
}

/** Clears the dirty bit and says whether it was set. */
export function test_clear_buffer_dirty(bh: buffer_head): boolean {
  const was = buffer_dirty(bh);
  if (was) clear_buffer_dirty(bh);
  return was;
}

/** The buffer is newer than its block: written at the next sync, or by who waits for it. */
export function mark_buffer_dirty(bh: buffer_head): void {
  assert(buffer_uptodate(bh), "a dirty buffer must hold the whole block");
  if (bh.b_state & BH_Dirty) return;
  bh.b_state |= BH_Dirty;
  if (bh.b_bdev && !bh.b_page) bdev_buffers(bh.b_bdev).dirty.add(bh);
}

function assoc_set(mapping: address_space): Set<buffer_head> {
  const all = fs_state(mapping.kernel).assoc_buffers;
  let set = all.get(mapping);
  if (!set) {
    set = new Set();
    all.set(mapping, set);
  }
  return set;
}

function drop_assoc(bh: buffer_head): void {
  const mapping = bh.b_assoc_map;
  if (!mapping) return;
  bh.b_assoc_map = null;
  const all = fs_state(mapping.kernel).assoc_buffers;
  const set = all.get(mapping);
  set?.delete(bh);
  if (set?.size === 0) all.delete(mapping);
}

/** Dirty, and fsync of `inode` has to write it. */
export function mark_buffer_dirty_inode(bh: buffer_head, inode: inode): void {
  mark_buffer_dirty(bh);
  if (bh.b_assoc_map) return;
  bh.b_assoc_map = inode.i_mapping;
  assoc_set(inode.i_mapping).add(bh);
}

/** The inode goes away: its buffers are nobody's in particular again. They stay dirty. */
export function invalidate_inode_buffers(inode: inode): void {
  const all = fs_state(inode.kernel).assoc_buffers;
  for (const bh of all.get(inode.i_mapping) ?? []) bh.b_assoc_map = null;
  all.delete(inode.i_mapping);
}

// ---- reading

function after<T>(p: MaybeWait | Sometime<void>, fn: () => Sometime<T>): Sometime<T> {
  return p ? p.then(fn) : fn();
}

function byte_pos(bh: buffer_head): number {
  return bh.b_blocknr * bh.b_size;
}

function read_locked(bh: buffer_head): Sometime<void> {
  if (buffer_uptodate(bh)) {
    unlock_buffer(bh);
    return undefined;
  }
  const done = (): void => {
    set_buffer_uptodate(bh);
    unlock_buffer(bh);
  };
  const failed = (err: unknown): never => {
    unlock_buffer(bh);
    throw err;
  };
  try {
    const p = bdev_rw_bytes(bh.b_bdev!, REQ_OP_READ, byte_pos(bh), bh.b_data, 0, bh.b_size);
    if (p) return p.then(done, failed);
  } catch (err) {
    return failed(err);
  }
  return done();
}

/** Reads the block unless that is done. Throws EIO. */
export function bh_read(bh: buffer_head): Sometime<void> {
  if (buffer_uptodate(bh)) return undefined;
  return after(lock_buffer(bh), () => read_locked(bh));
}

/** The buffer of a block, read. Throws EIO. */
export function __bread(bdev: block_device, block: number, size: number): Sometime<buffer_head> {
  const bh = __getblk(bdev, block, size);
  if (buffer_uptodate(bh)) return bh;
  let p: Sometime<void>;
  try {
    p = bh_read(bh);
  } catch (err) {
    brelse(bh);
    throw err;
  }
  if (!p) return bh;
  return p.then(
    () => bh,
    (err: unknown) => {
      brelse(bh);
      throw err;
    },
  );
}

export function sb_bread(sb: super_block, block: number): Sometime<buffer_head> {
  return __bread(sb.s_bdev!, block, sb.s_blocksize);
}

/** Reads several blocks; the buffers are counted. Throws EIO when one fails (and keeps none). */
export async function bread_batch(
  bdev: block_device,
  blocks: readonly number[],
  size: number,
): Promise<buffer_head[]> {
  const out: buffer_head[] = [];
  try {
    for (const block of blocks) out.push(await __bread(bdev, block, size));
  } catch (err) {
    for (const bh of out) brelse(bh);
    throw err;
  }
  return out;
}

// ---- writing

/** A write failed: the next to ask hears of it, once. */
export function mark_buffer_write_io_error(bh: buffer_head): void {
  bh.b_state |= BH_Write_EIO;
  if (bh.b_bdev) bdev_buffers(bh.b_bdev).wb_err++;
}

function write_locked(bh: buffer_head, opf: number): Sometime<void> {
  drop_assoc(bh);
  const flags = opf | (bh.b_state & BH_Meta ? REQ_META : 0);
  const done = (): void => {
    bh.b_state &= ~BH_Write_EIO;
    unlock_buffer(bh);
  };
  const failed = (err: unknown): never => {
    if (is_errno(err)) {
      bdev_kernel(bh.b_bdev!).pr_err(
        `Buffer I/O error on dev ${bh.b_bdev!.bd_name}, logical block ${bh.b_blocknr}, ` +
          "lost async page write",
      );
      mark_buffer_write_io_error(bh);
      clear_buffer_uptodate(bh);
    }
    unlock_buffer(bh);
    throw err;
  };
  try {
    const op = REQ_OP_WRITE | flags;
    const p = bdev_rw_bytes(bh.b_bdev!, op, byte_pos(bh), bh.b_data, 0, bh.b_size);
    if (p) return p.then(done, failed);
  } catch (err) {
    return failed(err);
  }
  return done();
}

/** Writes the buffer if it is dirty and waits for it. Throws EIO. `opf`: REQ_FUA and the like. */
export function __sync_dirty_buffer(bh: buffer_head, opf: number): Sometime<void> {
  return after(lock_buffer(bh), () => {
    if (!test_clear_buffer_dirty(bh) || !buffer_mapped(bh)) {
      unlock_buffer(bh);
      return undefined;
    }
    return write_locked(bh, opf);
  });
}

export function sync_dirty_buffer(bh: buffer_head): Sometime<void> {
  return __sync_dirty_buffer(bh, REQ_SYNC);
}

/** Writes and makes durable. */
export function sync_dirty_buffer_fua(bh: buffer_head): Sometime<void> {
  return __sync_dirty_buffer(bh, REQ_SYNC | REQ_FUA);
}

/** Starts writing; errors are kept for the next to sync the device. */
export async function write_dirty_buffer(bh: buffer_head): Promise<void> {
  try {
    await __sync_dirty_buffer(bh, 0);
  } catch (err) {
    if (!is_errno(err)) throw err;
  }
}

/** Writes what fsync of the file has to write besides its data. Throws EIO. */
export async function sync_mapping_buffers(mapping: address_space): Promise<void> {
  const set = fs_state(mapping.kernel).assoc_buffers.get(mapping);
  if (!set) return;
  let failed = false;
  for (const bh of [...set].sort((a, b) => a.b_blocknr - b.b_blocknr)) {
    try {
      await sync_dirty_buffer(bh);
    } catch (err) {
      if (!is_errno(err)) throw err;
      failed = true;
    }
  }
  if (failed) throw EIO;
}

/** Tells of failed writes since the last time anybody asked here. */
function report_write_error(bdev: block_device): void {
  const b = bdev_buffers(bdev);
  if (b.wb_err === b.wb_err_seen) return;
  b.wb_err_seen = b.wb_err;
  throw EIO;
}

/** Number of failed writes so far: a filesystem compares it with what it saw last. */
export function bdev_wb_err(bdev: block_device): number {
  return bdev_buffers(bdev).wb_err;
}

function write_all(bdev: block_device, queue: buffer_head[], from: number): Sometime<void> {
  for (let i = from; i < queue.length; i++) {
    try {
      const p = __sync_dirty_buffer(queue[i]!, 0);
      if (p) return write_rest(bdev, queue, i + 1, p);
    } catch (err) {
      if (!is_errno(err)) throw err;
    }
  }
  report_write_error(bdev);
}

async function write_rest(
  bdev: block_device,
  queue: buffer_head[],
  from: number,
  p: Promise<void>,
): Promise<void> {
  try {
    await p;
  } catch (err) {
    if (!is_errno(err)) throw err;
  }
  await write_all(bdev, queue, from);
}

/**
 * Writes every dirty buffer, by block number. Throws EIO if a write has failed since the last sync.
 */
export function sync_blockdev(bdev: block_device): Sometime<void> {
  const { dirty } = bdev_buffers(bdev);
  const queue = [...dirty].sort((a, b) => a.b_blocknr - b.b_blocknr);
  return write_all(bdev, queue, 0);
}

// ---- dropping

/** Drops clean buffers that nobody refers to. */
export function invalidate_bdev(bdev: block_device): void {
  const { blocks } = bdev_buffers(bdev);
  for (const [block, bh] of blocks) {
    if (bh.b_count === 0 && !buffer_dirty(bh) && trylock_buffer(bh)) {
      unlock_buffer(bh);
      blocks.delete(block);
    }
  }
}

/** Drops everything: the device goes away, or its block size changes. */
export function kill_bdev(bdev: block_device): void {
  const b = bdev_buffers(bdev);
  for (const bh of b.dirty) {
    drop_assoc(bh);
    bh.b_state &= ~(BH_Dirty | BH_Mapped | BH_Uptodate);
  }
  b.dirty.clear();
  b.blocks.clear();
}

/**
 * The blocks have become file data: a cached buffer of one, left from its life as metadata, must
 * not be written over it later.
 */
export function clean_bdev_aliases(bdev: block_device, block: number, len: number): Sometime<void> {
  const b = bdev.bd_buffers as bdev_buffers | null;
  if (!b || b.blocks.size === 0) return undefined;
  const found: buffer_head[] = [];
  if (len <= b.blocks.size) {
    for (let i = 0; i < len; i++) {
      const bh = b.blocks.get(block + i);
      if (bh) found.push(bh);
    }
  } else {
    for (const bh of b.blocks.values()) {
      if (bh.b_blocknr >= block && bh.b_blocknr < block + len) found.push(bh);
    }
  }
  return found.length > 0 ? forget_aliases(b, found) : undefined;
}

function forget_alias(b: bdev_buffers, bh: buffer_head): void {
  clear_buffer_dirty(bh);
  bh.b_state &= ~BH_New;
  unlock_buffer(bh);
  drop_assoc(bh);
  if (bh.b_count === 0) b.blocks.delete(bh.b_blocknr);
}

function forget_aliases(b: bdev_buffers, found: buffer_head[]): Sometime<void> {
  for (let bh = found.pop(); bh; bh = found.pop()) {
    const one = bh;
    const p = lock_buffer(one);
    if (p) {
      return p.then(() => {
        forget_alias(b, one);
        return forget_aliases(b, found);
      });
    }
    forget_alias(b, one);
  }
  return undefined;
}

/** For leak checks and reports. */
export function bdev_buffer_counts(bdev: block_device): { cached: number; dirty: number } {
  const b = bdev_buffers(bdev);
  return { cached: b.blocks.size, dirty: b.dirty.size };
}
