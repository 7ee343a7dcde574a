/**
 * fs/dax/rw.ts - read() and write() of a DAX file: a copy between the iterator and the media.
 * Linux: fs/dax.c (dax_iomap_rw, dax_iomap_iter, dax_iomap_cow_copy, dax_iomap_direct_access).
 *
 * Reading order: dax_iomap_rw() -> dax_iomap_iter() -> copy_extent()
 *
 * Hot path: while the filesystem answers from memory and the user's pages are there, none of this
 * makes a promise or an object; the first function that has to wait hands its numbers to an async
 * twin (..._rest) that finishes the job.
 *
 * Locks: i_rwsem as the caller took it (asserted); the SRCU section of the DAX devices around the
 * copy, which may fault. No DAX entry is locked or looked at: read() and write() go past the
 * mappings, but for a write that allocated, which takes mappings of the hole away first.
 */
import type { dax_range } from "../../kernel/include/dax.ts";
import { DAX_ACCESS, DAX_RECOVERY_WRITE } from "../../kernel/include/dax.ts";
import { EFAULT, EINTR, EINVAL, EIO, is_errno } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { IOCB_NOWAIT } from "../../kernel/include/fs.ts";
import type { Sometime, kiocb } from "../../kernel/include/fs.ts";
import {
  IOMAP_DAX,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_NOWAIT,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
} from "../../kernel/include/iomap.ts";
import type { iomap, iomap_ops } from "../../kernel/include/iomap.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { fatal_signal_pending } from "../../kernel/signal.ts";
import { sb_rdonly } from "../../kernel/vfs/super.ts";
import { invalidate_inode_pages2_range } from "../../mm/truncate.ts";
import {
  dax_copy_from_iter,
  dax_copy_to_iter,
  dax_direct_access,
  dax_read_lock,
  dax_read_unlock,
  dax_recovery_write,
} from "../../drivers/dax/super.ts";
import { fs_state, type fs_state as fs_state_t } from "../fs_state.ts";
import { iomap_iter, iomap_iter_get, iomap_iter_put, iomap_length } from "../iomap/iter.ts";
import type { iomap_iter as iomap_iter_t } from "../iomap/iter.ts";

/** Page of the DAX device that holds file position `pos`. */
export function dax_iomap_pgoff(kernel: Kernel, m: iomap, pos: number): number {
  const per_byte = kernel.PAGES_PER_BYTE;
  return Math.floor((m.addr - m.offset) * per_byte + Math.floor(pos * per_byte));
}

/**
 * Where the page of `pos` is, checked for a mapping of `size` bytes: EINVAL when less than that
 * follows or the frame is not aligned to it, else what dax_direct_access throws. The result is
 * valid until the next call: take the numbers out at once.
 */
export function dax_iomap_direct_access(
  kernel: Kernel,
  m: iomap,
  pos: number,
  size: number,
  for_mapping: boolean,
): dax_range {
  const out = fs_state(kernel).dax_scratch;
  const nr = Math.floor(size / kernel.PAGE_SIZE);
  const id = dax_read_lock(kernel);
  try {
    dax_direct_access(m.dax_dev, dax_iomap_pgoff(kernel, m, pos), nr, DAX_ACCESS, out);
  } finally {
    dax_read_unlock(kernel, id);
  }
  if (for_mapping && (out.nr_pages < nr || out.pfn % nr !== 0)) throw EINVAL;
  return out;
}

/**
 * Copy on write: fills what a write of [pos, pos + length) leaves of its `align`-sized surroundings
 * from `srcmap`; all of it when the write covers none in part. `daddr`: where the aligned range is.
 */
export function dax_iomap_cow_copy(
  kernel: Kernel,
  pos: number,
  length: number,
  align: number,
  srcmap: iomap,
  daddr: number,
): void {
  const head = pos % align;
  const total = Math.ceil((head + length) / align) * align;
  const src = dax_iomap_direct_access(kernel, srcmap, pos, total, false).paddr;
  const tail = total - head - length;
  if (head === 0 && tail === 0) {
    kernel.phys.copy(daddr, src, length);
    return;
  }
  if (head > 0) kernel.phys.copy(daddr, src, head);
  if (tail > 0) kernel.phys.copy(daddr + head + length, src + head + length, tail);
}

function has_source(iomi: iomap_iter_t): boolean {
  return iomi.srcmap.type !== IOMAP_HOLE && iomi.srcmap.addr !== iomi.iomap.addr;
}

/** Turns what a step caught into the iterator's error; our own bugs go on up. */
function set_error(iomi: iomap_iter_t, err: unknown): void {
  if (!is_errno(err)) throw err;
  iomi.error = err;
}

/** `done` bytes were moved and then, maybe, something failed: a short count hides the failure. */
function set_processed(iomi: iomap_iter_t, done: number, err: Errno | null): void {
  iomi.processed = done;
  if (done === 0) iomi.error = err;
}

type dax_scratch = fs_state_t["dax_scratch"];

/** As dax_direct_access(); bad sectors may be written over, and a shared block's copy is made. */
function access_for_write(
  iomi: iomap_iter_t,
  pos: number,
  length: number,
  pgoff: number,
  nr: number,
  out: dax_scratch,
): void {
  const { dax_dev } = iomi.iomap;
  out.recovery = false;
  try {
    dax_direct_access(dax_dev, pgoff, nr, DAX_ACCESS, out);
  } catch (err) {
    if (err !== EIO) throw err;
    dax_direct_access(dax_dev, pgoff, nr, DAX_RECOVERY_WRITE, out);
    out.recovery = true;
  }
  if (has_source(iomi)) copy_source(iomi, pos, length, out);
}

function copy_source(iomi: iomap_iter_t, pos: number, length: number, out: dax_scratch): void {
  const { kernel } = iomi.inode;
  const { paddr, nr_pages, recovery } = out;
  dax_iomap_cow_copy(kernel, pos, length, kernel.PAGE_SIZE, iomi.srcmap, paddr);
  out.paddr = paddr;
  out.nr_pages = nr_pages;
  out.recovery = recovery;
}

/** Bytes of the next piece; where it is is left in `out`. Throws. */
function next_piece(
  iomi: iomap_iter_t,
  pos: number,
  end: number,
  write: boolean,
  out: dax_scratch,
): number {
  const kernel = iomi.inode.kernel;
  const page_size = kernel.PAGE_SIZE;
  const m = iomi.iomap;
  const per_byte = kernel.PAGES_PER_BYTE;
  const offset = pos - Math.floor(pos * per_byte) * page_size;
  // To the end of the mapping, although a read may stop at the end of the file before: as in the
  // kernel.
  const length = iomi.pos + iomap_length(iomi) - pos;
  const nr = Math.ceil((length + offset) * per_byte);
  const pgoff = dax_iomap_pgoff(kernel, m, pos);
  if (write) access_for_write(iomi, pos, length, pgoff, nr, out);
  else dax_direct_access(m.dax_dev, pgoff, nr, DAX_ACCESS, out);
  out.paddr += offset;
  const len = out.nr_pages * page_size - offset;
  return len > end - pos ? end - pos : len;
}

function move_piece(
  iomi: iomap_iter_t,
  pos: number,
  len: number,
  i: iov_iter,
  at: dax_scratch,
): Sometime<number> {
  if (!i.data_source) return dax_copy_to_iter(iomi.iomap.dax_dev!, at.paddr, len, i);
  return write_piece(iomi, pos, len, i, at);
}

function write_piece(
  iomi: iomap_iter_t,
  pos: number,
  len: number,
  i: iov_iter,
  at: dax_scratch,
): Sometime<number> {
  const dev = iomi.iomap.dax_dev!;
  if (!at.recovery) return dax_copy_from_iter(dev, at.paddr, len, i);
  const pgoff = dax_iomap_pgoff(iomi.inode.kernel, iomi.iomap, pos);
  return dax_recovery_write(dev, pgoff, at.paddr, len, i);
}

/** Copies [pos, end) of the mapping, piece by piece as the device gives them. */
function copy_extent(iomi: iomap_iter_t, i: iov_iter, end: number): MaybeWait {
  const kernel = iomi.inode.kernel;
  const write = i.data_source;
  const at = fs_state(kernel).dax_scratch;
  let pos = iomi.pos;
  const id = dax_read_lock(kernel);
  try {
    while (pos < end) {
      if (fatal_signal_pending(kernel.current)) throw EINTR;
      const len = next_piece(iomi, pos, end, write, at);
      const n = move_piece(iomi, pos, len, i, at);
      if (typeof n !== "number") return copy_extent_rest(iomi, i, end, pos, len, n, id);
      pos += n;
      if (n === 0) throw EFAULT;
      if (n < len) break;
    }
    set_processed(iomi, pos - iomi.pos, null);
  } catch (err) {
    if (!is_errno(err)) throw err;
    set_processed(iomi, pos - iomi.pos, err);
  }
  dax_read_unlock(kernel, id);
  return undefined;
}

/** The rest of copy_extent() once a copy had to wait: `moving` is under way at `pos`. */
async function copy_extent_rest(
  iomi: iomap_iter_t,
  i: iov_iter,
  end: number,
  start: number,
  first_len: number,
  moving: Promise<number>,
  id: number,
): Promise<void> {
  const kernel = iomi.inode.kernel;
  const at = fs_state(kernel).dax_scratch;
  let pos = start;
  let len = first_len;
  let moved: Sometime<number> = moving;
  try {
    for (;;) {
      const n: number = await moved;
      pos += n;
      if (n === 0) throw EFAULT;
      if (n < len || pos >= end) break;
      if (fatal_signal_pending(kernel.current)) throw EINTR;
      len = next_piece(iomi, pos, end, i.data_source, at);
      moved = move_piece(iomi, pos, len, i, at);
    }
    set_processed(iomi, pos - iomi.pos, null);
  } catch (err) {
    if (!is_errno(err)) throw err;
    set_processed(iomi, pos - iomi.pos, err);
  } finally {
    dax_read_unlock(kernel, id);
  }
}

async function zero_rest(iomi: iomap_iter_t, n: Promise<number>): Promise<void> {
  try {
    iomi.processed = await n;
  } catch (err) {
    set_error(iomi, err);
  }
}

async function invalidate_rest(
  iomi: iomap_iter_t,
  i: iov_iter,
  end: number,
  p: Promise<void>,
): Promise<void> {
  try {
    await p;
  } catch (err) {
    // EBUSY: a dirty entry stays in the tree. What counts is that it is not mapped any more.
    if (!is_errno(err)) throw err;
  }
  const q = copy_extent(iomi, i, end);
  if (q) await q;
}

/** Does one mapping: sets iomi.processed, or iomi.error when nothing could be done. */
function dax_iomap_iter(iomi: iomap_iter_t, i: iov_iter): MaybeWait {
  const { type, flags } = iomi.iomap;
  let end = iomi.pos + iomap_length(iomi);
  if (!i.data_source) {
    end = Math.min(end, iomi.inode.i_size);
    if (iomi.pos >= end) return undefined;
    if (type === IOMAP_HOLE || type === IOMAP_UNWRITTEN) return zero_extent(iomi, i, end);
  }
  if (type !== IOMAP_MAPPED && (flags & IOMAP_F_SHARED) === 0) return not_mapped(iomi);
  if ((flags & IOMAP_F_NEW) !== 0) return copy_new_extent(iomi, i, end);
  return copy_extent(iomi, i, end);
}

function zero_extent(iomi: iomap_iter_t, i: iov_iter, end: number): MaybeWait {
  const n = i.zero_iter(end - iomi.pos);
  if (typeof n !== "number") return zero_rest(iomi, n);
  iomi.processed = n;
  return undefined;
}

function not_mapped(iomi: iomap_iter_t): undefined {
  const what = "fs/dax: read or write of an extent that is not mapped";
  iomi.inode.kernel.WARN_ON_ONCE(true, what);
  iomi.error = EIO;
}

/** The hole may be mapped as zero page: those mappings must go before data appears in it. */
function copy_new_extent(iomi: iomap_iter_t, i: iov_iter, end: number): MaybeWait {
  const { PAGE_SIZE } = iomi.inode.kernel;
  const first = Math.floor(iomi.pos / PAGE_SIZE);
  const last = Math.floor((end - 1) / PAGE_SIZE);
  const p = invalidate_inode_pages2_range(iomi.inode.i_mapping, first, last);
  return p ? invalidate_rest(iomi, i, end, p) : copy_extent(iomi, i, end);
}

function rw_done(iocb: kiocb, iomi: iomap_iter_t, err: unknown): number {
  const done = iomi.pos - iocb.ki_pos;
  iocb.ki_pos = iomi.pos;
  iomap_iter_put(iomi);
  if (err !== null && (done === 0 || !is_errno(err))) throw err;
  return done;
}

async function rw_rest(
  iocb: kiocb,
  i: iov_iter,
  ops: iomap_ops,
  iomi: iomap_iter_t,
  mapping: Sometime<boolean>,
  copying: MaybeWait,
): Promise<number> {
  try {
    if (copying) await copying;
    let more: boolean = await (copying ? iomap_iter(iomi, ops) : mapping);
    while (more) {
      const p = dax_iomap_iter(iomi, i);
      if (p) await p;
      more = await iomap_iter(iomi, ops);
    }
  } catch (err) {
    return rw_done(iocb, iomi, err);
  }
  return rw_done(iocb, iomi, null);
}

/**
 * Moves the iterator's bytes from or to the file at ki_pos. Returns bytes moved, short after a
 * failure or at the end of the file; throws the error when nothing was moved. Caller: i_rwsem,
 * exclusive for a write.
 */
export function dax_iomap_rw(iocb: kiocb, i: iov_iter, ops: iomap_ops): Sometime<number> {
  const inode = iocb.ki_filp.f_mapping.host;
  if (i.count === 0) return 0;
  let flags = IOMAP_DAX;
  if (i.data_source) {
    inode.i_rwsem.assert_held_write();
    flags |= IOMAP_WRITE;
  } else if (!sb_rdonly(inode.i_sb)) {
    inode.i_rwsem.assert_held();
  }
  if (iocb.ki_flags & IOCB_NOWAIT) flags |= IOMAP_NOWAIT;
  const iomi = iomap_iter_get(inode, iocb.ki_pos, i.count, flags);
  try {
    for (;;) {
      const more = iomap_iter(iomi, ops);
      if (typeof more !== "boolean") return rw_rest(iocb, i, ops, iomi, more, undefined);
      if (!more) break;
      const p = dax_iomap_iter(iomi, i);
      if (p) return rw_rest(iocb, i, ops, iomi, false, p);
    }
  } catch (err) {
    return rw_done(iocb, iomi, err);
  }
  return rw_done(iocb, iomi, null);
}
