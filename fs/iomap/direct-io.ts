/**
 * fs/iomap/direct-io.ts - O_DIRECT: between the iterator and the device, past the page cache.
 * Linux: fs/iomap/direct-io.c. Differs: always synchronous; a bio's data goes through a bounce
 * array.
 *
 * Reading order: iomap_dio_rw() -> dio_extent() -> dio_bio() ; iomap_dio_complete()
 *
 * Locks: i_rwsem as the filesystem took it; i_dio_count is raised over the IO, so that truncation,
 * which waits for it, cannot free the blocks meanwhile.
 */
import { REQ_FUA, REQ_OP_READ, REQ_OP_WRITE, REQ_SYNC } from "../../kernel/include/blkdev.ts";
import { EAGAIN, EFAULT, EINVAL, EIO, ENOTBLK, is_errno } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { IOCB_DSYNC, IOCB_NOWAIT, IOCB_SYNC } from "../../kernel/include/fs.ts";
import type { Sometime, inode, kiocb } from "../../kernel/include/fs.ts";
import {
  IOMAP_DIRECT,
  IOMAP_F_DIRTY,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NOWAIT,
  IOMAP_OVERWRITE_ONLY,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
} from "../../kernel/include/iomap.ts";
import type { iomap_ops } from "../../kernel/include/iomap.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import { inode_dio_begin, inode_dio_end } from "../../kernel/vfs/inode.ts";
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";
import { filemap_range_needs_writeback, filemap_write_and_wait_range } from "../../mm/filemap.ts";
import { invalidate_inode_pages2_range } from "../../mm/truncate.ts";
import { generic_write_sync } from "../sync.ts";
import { iomap_addr, iomap_iter, iomap_iter_get, iomap_iter_put, iomap_length } from "./iter.ts";
import type { iomap_iter as iomap_iter_t } from "./iter.ts";

/** dio_flags */
export const IOMAP_DIO_FORCE_WAIT = 1 << 0;
/** EAGAIN rather than allocate, or zero parts of blocks. */
export const IOMAP_DIO_OVERWRITE_ONLY = 1 << 1;
/** A user page that cannot be had ends the IO short instead of failing it. */
export const IOMAP_DIO_PARTIAL = 1 << 2;
/** Told to end_io: unwritten blocks were written, shared blocks were. */
export const IOMAP_DIO_UNWRITTEN = 1 << 3;
export const IOMAP_DIO_COW = 1 << 4;

/** Bytes of one bio. */
const MAX_BIO = 1 << 20;
const SECTOR = 512;

export interface iomap_dio_ops {
  /** After the IO of `size` bytes: converts extents, changes the size. Throws to fail the whole. */
  end_io?(iocb: kiocb, size: number, error: Errno | null, flags: number): Sometime<void>;
}

interface iomap_dio {
  iocb: kiocb;
  iter: iov_iter;
  write: boolean;
  i_size: number;
  size: number;
  error: Errno | null;
  flags: number;
  /** Each bio can be made durable by itself: nothing but data changes. */
  use_fua: boolean;
  need_sync: boolean;
}

async function write_zeroes(iter: iomap_iter_t, pos: number, len: number): Promise<void> {
  if (len === 0) return;
  const m = iter.iomap;
  const at = iomap_addr(m, pos);
  await bdev_rw_bytes(m.bdev!, REQ_OP_WRITE | REQ_SYNC, at, new Uint8Array(len), 0, len);
}

/** Moves up to `len` bytes at `pos`. Returns how many; throws EFAULT when the user has none. */
async function dio_bio(
  dio: iomap_dio,
  iter: iomap_iter_t,
  pos: number,
  len: number,
): Promise<number> {
  const m = iter.iomap;
  const block = m.bdev!.bd_disk.logical_block_size;
  const bytes = new Uint8Array(len);
  const at = iomap_addr(m, pos);
  if (dio.write) {
    const got = await dio.iter.copy_from_iter(bytes, 0, len);
    const n = got - (got % block);
    if (n < got) dio.iter.revert(got - n);
    if (n === 0) throw EFAULT;
    const opf = REQ_OP_WRITE | REQ_SYNC | (dio.use_fua ? REQ_FUA : 0);
    await bdev_rw_bytes(m.bdev!, opf, at, bytes, 0, n);
    return n;
  }
  await bdev_rw_bytes(m.bdev!, REQ_OP_READ, at, bytes, 0, len);
  const put = await dio.iter.copy_to_iter(bytes, 0, len);
  if (put === 0) throw EFAULT;
  return put;
}

/** A mapped or unwritten extent. The rest of a block that is new reads as zeroes. */
async function dio_bio_extent(dio: iomap_dio, iter: iomap_iter_t): Promise<number> {
  const m = iter.iomap;
  const length = iomap_length(iter);
  const block = m.bdev!.bd_disk.logical_block_size;
  if (iter.pos % block || length % block || dio.iter.alignment() % SECTOR) throw EINVAL;
  if (m.type === IOMAP_UNWRITTEN) dio.flags |= IOMAP_DIO_UNWRITTEN;
  if (m.flags & IOMAP_F_SHARED) dio.flags |= IOMAP_DIO_COW;
  const fresh = m.type === IOMAP_UNWRITTEN || (m.flags & IOMAP_F_NEW) !== 0;
  if (fresh || m.flags & (IOMAP_F_SHARED | IOMAP_F_DIRTY)) dio.use_fua = false;
  const fs_block = 2 ** iter.inode.i_blkbits;
  const head = iter.pos % fs_block;
  if (fresh) await write_zeroes(iter, iter.pos - head, head);
  const end = iter.pos + length;
  let pos = iter.pos;
  try {
    while (pos < end) {
      const want = Math.min(end - pos, MAX_BIO);
      const n = await dio_bio(dio, iter, pos, want);
      pos += n;
      dio.size += n;
      if (n < want) throw EFAULT;
    }
  } finally {
    const tail = pos % fs_block;
    const zero_tail = fresh || (dio.write && pos >= iter.inode.i_size);
    if (zero_tail && dio.write && tail > 0) await write_zeroes(iter, pos, fs_block - tail);
  }
  return pos - iter.pos;
}

async function dio_hole(dio: iomap_dio, iter: iomap_iter_t): Promise<number> {
  const length = iomap_length(iter);
  const n = await dio.iter.zero_iter(length);
  dio.size += n;
  if (n === 0) throw EFAULT;
  return n;
}

async function dio_inline(dio: iomap_dio, iter: iomap_iter_t): Promise<number> {
  const m = iter.iomap;
  const length = iomap_length(iter);
  const off = iter.pos - m.offset;
  const data = m.inline_data!;
  if (!dio.write) {
    const n = await dio.iter.copy_to_iter(data, off, length);
    dio.size += n;
    return n;
  }
  if (iter.pos > iter.inode.i_size) data.fill(0, iter.inode.i_size - m.offset, off);
  const n = await dio.iter.copy_from_iter(data, off, length);
  dio.size += n;
  return n;
}

function dio_extent(dio: iomap_dio, iter: iomap_iter_t): Promise<number> {
  const { type } = iter.iomap;
  if (type === IOMAP_INLINE) return dio_inline(dio, iter);
  if (type === IOMAP_HOLE && !dio.write) return dio_hole(dio, iter);
  if (type === IOMAP_UNWRITTEN && !dio.write) return dio_hole(dio, iter);
  if (type === IOMAP_MAPPED || type === IOMAP_UNWRITTEN) return dio_bio_extent(dio, iter);
  // Delayed blocks: a buffered write that was not flushed in time.
  return Promise.reject(EIO);
}

async function dio_walk(dio: iomap_dio, iomi: iomap_iter_t, ops: iomap_ops): Promise<void> {
  while (await iomap_iter(iomi, ops)) {
    const before = dio.size;
    try {
      iomi.processed = await dio_extent(dio, iomi);
    } catch (err) {
      if (!is_errno(err)) throw err;
      // Memory ran out half-way: what was done counts, and the next round fails at once.
      if (err === EFAULT && dio.size > before) iomi.processed = dio.size - before;
      else iomi.error = err;
    }
  }
}

async function complete(dio: iomap_dio, inode: inode, dops: iomap_dio_ops | null): Promise<number> {
  const { iocb } = dio;
  try {
    if (dops?.end_io) await dops.end_io(iocb, dio.size, dio.error, dio.flags);
    else if (dio.error) throw dio.error;
    if (!dio.error && dio.size > 0 && dio.write && inode.i_mapping.nrpages > 0) {
      const page = inode.kernel.PAGE_SIZE;
      const first = Math.floor(iocb.ki_pos / page);
      const last = Math.floor((iocb.ki_pos + dio.size - 1) / page);
      await quietly(invalidate_inode_pages2_range(inode.i_mapping, first, last));
    }
  } finally {
    inode_dio_end(inode);
  }
  let n = dio.size;
  if (!dio.write && iocb.ki_pos + n > dio.i_size) n = Math.max(0, dio.i_size - iocb.ki_pos);
  iocb.ki_pos += n;
  if (n > 0 && dio.need_sync && !dio.use_fua) await generic_write_sync(iocb, n);
  return n;
}

/** Pages that cannot be dropped stay: the write itself has worked. */
async function quietly(p: Sometime<unknown>): Promise<void> {
  try {
    await p;
  } catch (err) {
    if (!is_errno(err)) throw err;
  }
}

/**
 * What has to be right before any IO. Throws EAGAIN, ENOTBLK (do it buffered), or a write error.
 */
async function prepare(dio: iomap_dio, iomi: iomap_iter_t, dio_flags: number): Promise<void> {
  const { iocb } = dio;
  const { inode } = iomi;
  const mapping = inode.i_mapping;
  const end = iomi.pos + iomi.len - 1;
  if (iocb.ki_flags & IOCB_NOWAIT) {
    if (filemap_range_needs_writeback(mapping, iomi.pos, end)) throw EAGAIN;
    iomi.flags |= IOMAP_NOWAIT;
  }
  if (dio.write && dio_flags & IOMAP_DIO_OVERWRITE_ONLY) {
    if (iomi.pos >= dio.i_size || end >= dio.i_size) throw EAGAIN;
    iomi.flags |= IOMAP_OVERWRITE_ONLY;
  }
  await filemap_write_and_wait_range(mapping, iomi.pos, end);
  if (!dio.write) return;
  const page = inode.kernel.PAGE_SIZE;
  try {
    const first = Math.floor(iomi.pos / page);
    await invalidate_inode_pages2_range(mapping, first, Math.floor(end / page));
  } catch (err) {
    if (!is_errno(err)) throw err;
    throw ENOTBLK;
  }
}

/**
 * Reads or writes directly at ki_pos. Returns bytes moved. EINVAL: position, length or memory not
 * aligned to the device's blocks; ENOTBLK: the page cache is in the way, do it buffered; EAGAIN:
 * would have to wait (IOCB_NOWAIT) or to allocate (IOMAP_DIO_OVERWRITE_ONLY).
 */
export async function iomap_dio_rw(
  iocb: kiocb,
  iter: iov_iter,
  ops: iomap_ops,
  dops: iomap_dio_ops | null = null,
  dio_flags = 0,
): Promise<number> {
  const inode = iocb.ki_filp.f_mapping.host;
  const write = iter.data_source;
  if (iter.count === 0) return 0;
  if (!write && iocb.ki_pos >= inode.i_size) return 0;
  const flags = IOMAP_DIRECT | (write ? IOMAP_WRITE : 0);
  const iomi = iomap_iter_get(inode, iocb.ki_pos, iter.count, flags);
  const sync = iocb.ki_flags & (IOCB_DSYNC | IOCB_SYNC);
  const dio: iomap_dio = {
    iocb,
    iter,
    write,
    i_size: inode.i_size,
    size: 0,
    error: null,
    flags: 0,
    use_fua: write && (sync & IOCB_SYNC) === 0 && (sync & IOCB_DSYNC) !== 0,
    need_sync: write && sync !== 0,
  };
  try {
    await prepare(dio, iomi, dio_flags);
    inode_dio_begin(inode);
    try {
      await dio_walk(dio, iomi, ops);
    } catch (err) {
      if (!is_errno(err)) throw err;
      // ENOTBLK from iomap_end: the rest is to be done buffered.
      if (err !== ENOTBLK) dio.error = err;
    }
    // A read may run over the end of the file within a block.
    if (!write && iomi.pos >= dio.i_size) iter.revert(iomi.pos - dio.i_size);
    const short = dio_flags & IOMAP_DIO_PARTIAL && dio.size > 0;
    if (dio.error === EFAULT && short) dio.error = null;
    return await complete(dio, inode, dops);
  } finally {
    iomap_iter_put(iomi);
  }
}
