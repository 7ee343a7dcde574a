/**
 * fs/ext4/file_write.ts - write(2), opening for write, the last close. Linux: fs/ext4/file.c.
 *
 * Three ways: DAX, direct, page cache. A write that makes the file longer puts the inode on the
 * orphan list first: blocks behind the old end that a crash leaves are freed at the next mount. A
 * DAX overwrite makes no promise unless a lock is contended.
 *
 * Locks: i_rwsem, exclusive but for direct overwrites.
 */
import {
  EAGAIN,
  EFBIG,
  EIO,
  ENOTBLK,
  EOPNOTSUPP,
  EPERM,
  type Errno,
  is_errno,
} from "../../kernel/include/errno.ts";
import {
  type file,
  FMODE_WRITE,
  type inode,
  IOCB_DIRECT,
  IOCB_NOWAIT,
  type kiocb,
  S_DAX,
  S_IMMUTABLE,
  type Sometime,
} from "../../kernel/include/fs.ts";
import { S_ISGID, S_ISUID } from "../../kernel/include/stat.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import {
  inode_dio_wait,
  inode_lock,
  inode_lock_shared,
  inode_trylock,
  inode_trylock_shared,
  inode_unlock,
  inode_unlock_shared,
} from "../../kernel/vfs/inode.ts";
import { filemap_write_and_wait_range, generic_perform_write } from "../../mm/filemap.ts";
import { invalidate_mapping_pages, truncate_inode_pages } from "../../mm/truncate.ts";
import { file_modified } from "../attr.ts";
import { dax_iomap_rw } from "../dax.ts";
import { IOMAP_DIO_FORCE_WAIT, IOMAP_DIO_UNWRITTEN, iomap_dio_rw } from "../iomap.ts";
import { generic_write_checks } from "../read_write.ts";
import { generic_write_sync } from "../sync.ts";
import { ext4_convert_unwritten_extents } from "./convert.ts";
import { EXT4_EXTENTS_FL } from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MAP_MAPPED,
  EXT4_SB,
  EXT4_STATE_DA_ALLOC_CLOSE,
  EXT4_STATE_MAY_INLINE_DATA,
  ext4_clear_inode_state,
  ext4_forced_shutdown,
  ext4_test_inode_flag,
  ext4_test_inode_state,
  new_map,
} from "./ext4_fs.ts";
import { EXT4_HT_INODE, ext4_journal_start, ext4_journal_stop } from "./ext4_jbd2.ts";
import { ext4_dio_alignment } from "./getattr.ts";
import { ext4_map_blocks } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_iomap_ops, ext4_iomap_overwrite_ops } from "./iomap.ts";
import { ext4_discard_preallocations } from "./mballoc.ts";
import { ext4_orphan_add, ext4_orphan_del } from "./orphan.ts";
import { ext4_truncate, ext4_update_inode_size } from "./truncate.ts";
import { ext4_alloc_da_blocks } from "./writepages.ts";

/**
 * Limits, append position, immutable files. Bytes to write. @throws EPERM, EFBIG, ETXTBSY, EINVAL
 */
function ext4_generic_write_checks(iocb: kiocb, from: iov_iter): number {
  const inode = iocb.ki_filp.f_inode;
  if (inode.i_flags & S_IMMUTABLE) throw EPERM;
  if (generic_write_checks(iocb, from) === 0) return 0;
  if (!ext4_test_inode_flag(inode, EXT4_EXTENTS_FL)) {
    const max = EXT4_SB(inode.i_sb).s_bitmap_maxbytes;
    if (iocb.ki_pos >= max) throw EFBIG;
    from.truncate(Math.min(from.count, max - iocb.ki_pos));
  }
  return from.count;
}

const sync_after = (iocb: kiocb, n: number): Sometime<number> =>
  n > 0 ? generic_write_sync(iocb, n) : n;

/** Takes blocks behind the end of the file back, and the pages that were filled for them. */
export async function ext4_truncate_failed_write(inode: inode): Promise<void> {
  const lock = inode.i_mapping.invalidate_lock;
  const p = lock.down_write();
  if (p) await p;
  try {
    await truncate_inode_pages(inode.i_mapping, inode.i_size);
    await ext4_truncate(inode);
  } finally {
    lock.up_write();
  }
}

// --- through the page cache ---------------------------------------------------------------------

async function ext4_buffered_write_iter(iocb: kiocb, from: iov_iter): Promise<number> {
  const inode = iocb.ki_filp.f_inode;
  if (iocb.ki_flags & IOCB_NOWAIT) throw EOPNOTSUPP;
  const p = inode_lock(inode);
  if (p) await p;
  let n = 0;
  try {
    const q = inode_dio_wait(inode);
    if (q) await q;
    if (ext4_generic_write_checks(iocb, from) === 0) return 0;
    await file_modified(iocb.ki_filp);
    n = await generic_perform_write(iocb, from);
    iocb.ki_pos += n;
  } finally {
    inode_unlock(inode);
  }
  return sync_after(iocb, n);
}

// --- making a file longer -----------------------------------------------------------------------

async function begin_extension(inode: inode): Promise<void> {
  const handle = await ext4_journal_start(inode, EXT4_HT_INODE, 2);
  try {
    await ext4_orphan_add(handle, inode);
  } finally {
    ext4_journal_stop(handle);
  }
}

/** The data up to `end` is there: the size follows, and the inode leaves the orphan list. */
async function ext4_handle_inode_extension(inode: inode, end: number): Promise<void> {
  inode.i_rwsem.assert_held_write();
  const handle = await ext4_journal_start(inode, EXT4_HT_INODE, 2);
  try {
    if (ext4_update_inode_size(inode, end)) await ext4_mark_inode_dirty(handle, inode);
    if (inode.i_nlink) await ext4_orphan_del(handle, inode);
  } finally {
    ext4_journal_stop(handle);
  }
}

/**
 * After an extending write: what was allocated too much goes; never on the orphan list afterwards.
 */
async function ext4_inode_extension_cleanup(inode: inode, need_trunc: boolean): Promise<void> {
  if (need_trunc) {
    await ext4_truncate_failed_write(inode);
    if (inode.i_nlink) await ext4_orphan_del(null, inode);
    return;
  }
  if (!EXT4_I(inode).i_orphan || inode.i_nlink === 0) return;
  const handle = await ext4_journal_start(inode, EXT4_HT_INODE, 2);
  try {
    await ext4_orphan_del(handle, inode);
  } finally {
    ext4_journal_stop(handle);
  }
}

// --- DAX ----------------------------------------------------------------------------------------

async function dax_extending_write(iocb: kiocb, from: iov_iter): Promise<number> {
  const inode = iocb.ki_filp.f_inode;
  const offset = iocb.ki_pos;
  const count = from.count;
  await begin_extension(inode);
  let n = 0;
  let failed: Errno | null = null;
  try {
    n = await dax_iomap_rw(iocb, from, ext4_iomap_ops);
  } catch (e) {
    if (!is_errno(e)) throw e;
    failed = e;
  }
  // Here Linux takes what dax_iomap_rw() answered for a count, an error too: a write that failed
  // with EFAULT far beyond the end leaves the size at `offset` - 14.
  await ext4_handle_inode_extension(inode, offset + (failed === null ? n : -failed.errno));
  await ext4_inode_extension_cleanup(inode, n < count);
  if (failed) throw failed;
  return n;
}

/** i_rwsem is held; times and set-id bits are done. */
function dax_write_data(iocb: kiocb, from: iov_iter): Sometime<number> {
  const end = iocb.ki_pos + from.count;
  if (end > EXT4_I(iocb.ki_filp.f_inode).i_disksize) return dax_extending_write(iocb, from);
  return dax_iomap_rw(iocb, from, ext4_iomap_ops);
}

function dax_write_checked(iocb: kiocb, from: iov_iter): Sometime<number> {
  if (ext4_generic_write_checks(iocb, from) === 0) return 0;
  const p = file_modified(iocb.ki_filp);
  return p ? dax_write_after(p, iocb, from) : dax_write_data(iocb, from);
}

async function dax_write_after(p: Promise<void>, iocb: kiocb, from: iov_iter): Promise<number> {
  await p;
  return dax_write_data(iocb, from);
}

async function dax_write_rest(iocb: kiocb, inode: inode, moving: Promise<number>): Promise<number> {
  let n: number;
  try {
    n = await moving;
  } finally {
    inode_unlock(inode);
  }
  return sync_after(iocb, n);
}

function dax_write_locked(iocb: kiocb, from: iov_iter): Sometime<number> {
  const inode = iocb.ki_filp.f_inode;
  let n: Sometime<number>;
  try {
    n = dax_write_checked(iocb, from);
  } catch (e) {
    inode_unlock(inode);
    throw e;
  }
  if (typeof n !== "number") return dax_write_rest(iocb, inode, n);
  inode_unlock(inode);
  return sync_after(iocb, n);
}

async function dax_write_when_locked(
  p: Promise<void>,
  iocb: kiocb,
  from: iov_iter,
): Promise<number> {
  await p;
  return dax_write_locked(iocb, from);
}

function ext4_dax_write_iter(iocb: kiocb, from: iov_iter): Sometime<number> {
  const inode = iocb.ki_filp.f_inode;
  if (iocb.ki_flags & IOCB_NOWAIT) {
    if (!inode_trylock(inode)) throw EAGAIN;
  } else {
    const p = inode_lock(inode);
    if (p) return dax_write_when_locked(p, iocb, from);
  }
  return dax_write_locked(iocb, from);
}

// --- direct -------------------------------------------------------------------------------------

const ext4_dio_write_ops = Object.freeze({
  async end_io(iocb: kiocb, size: number, error: Errno | null, flags: number): Promise<void> {
    const pos = iocb.ki_pos;
    const inode = iocb.ki_filp.f_inode;
    if (!error && size > 0 && flags & IOMAP_DIO_UNWRITTEN) {
      await ext4_convert_unwritten_extents(inode, pos, size);
    }
    if (error) throw error;
    const end = pos + size;
    if (end <= EXT4_I(inode).i_disksize && end <= inode.i_size) return;
    await ext4_handle_inode_extension(inode, end);
  },
});

/** All blocks are there and written. */
async function ext4_overwrite_io(inode: inode, pos: number, len: number): Promise<boolean> {
  if (pos + len > inode.i_size) return false;
  const size = inode.i_sb.s_blocksize;
  const first = Math.floor(pos / size);
  const count = Math.ceil((pos + len) / size) - first;
  const map = new_map(first, count);
  const n = await ext4_map_blocks(null, inode, map, 0);
  return n === count && (map.m_flags & EXT4_MAP_MAPPED) !== 0;
}

interface dio_lock {
  shared: boolean;
}
async function lock_dio(inode: inode, lock: dio_lock, nowait: boolean): Promise<void> {
  if (nowait) {
    if (!(lock.shared ? inode_trylock_shared(inode) : inode_trylock(inode))) throw EAGAIN;
    return;
  }
  const p = lock.shared ? inode_lock_shared(inode) : inode_lock(inode);
  if (p) await p;
}
function unlock_dio(inode: inode, lock: dio_lock): void {
  if (lock.shared) inode_unlock_shared(inode);
  else inode_unlock(inode);
}

/** Checks under the lock; an exclusive one is taken when a shared one will not do. */
async function dio_checks(
  iocb: kiocb,
  from: iov_iter,
  lock: dio_lock,
): Promise<{ count: number; extend: boolean }> {
  const inode = iocb.ki_filp.f_inode;
  for (;;) {
    const count = ext4_generic_write_checks(iocb, from);
    if (count === 0) return { count, extend: false };
    const end = iocb.ki_pos + count;
    const extend = end > inode.i_size || end > EXT4_I(inode).i_disksize;
    const setid = (inode.i_mode & (S_ISUID | S_ISGID)) !== 0;
    const needs_exclusive =
      lock.shared && (setid || extend || !(await ext4_overwrite_io(inode, iocb.ki_pos, count)));
    if (!needs_exclusive) {
      await file_modified(iocb.ki_filp);
      return { count, extend };
    }
    if (iocb.ki_flags & IOCB_NOWAIT) throw EAGAIN;
    inode_unlock_shared(inode);
    lock.shared = false;
    const p = inode_lock(inode);
    if (p) await p;
  }
}

async function dio_write_locked(
  iocb: kiocb,
  from: iov_iter,
  lock: dio_lock,
  unaligned: boolean,
): Promise<number> {
  const inode = iocb.ki_filp.f_inode;
  const { count, extend } = await dio_checks(iocb, from, lock);
  if (count === 0) return 0;
  if (iocb.ki_flags & IOCB_NOWAIT && (unaligned || extend)) throw EAGAIN;
  ext4_clear_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
  if (unaligned) {
    // two of them would zero each other's data in a shared new block
    const p = inode_dio_wait(inode);
    if (p) await p;
  }
  if (extend) await begin_extension(inode);
  const ops = lock.shared ? ext4_iomap_overwrite_ops : ext4_iomap_ops;
  const force = unaligned || extend ? IOMAP_DIO_FORCE_WAIT : 0;
  let n = 0;
  let failed: Errno | null = null;
  try {
    n = await iomap_dio_rw(iocb, from, ops, ext4_dio_write_ops, force);
  } catch (e) {
    if (!is_errno(e)) throw e;
    if (e !== ENOTBLK) failed = e;
  }
  if (extend) await ext4_inode_extension_cleanup(inode, failed !== null);
  if (failed) throw failed;
  return n;
}

async function ext4_dio_write_iter(iocb: kiocb, from: iov_iter): Promise<number> {
  const file = iocb.ki_filp;
  const inode = file.f_inode;
  const block = inode.i_sb.s_blocksize;
  const unaligned = iocb.ki_pos % block !== 0 || from.alignment() % block !== 0;
  const lock = { shared: !unaligned && iocb.ki_pos + from.count <= inode.i_size };
  await lock_dio(inode, lock, (iocb.ki_flags & IOCB_NOWAIT) !== 0);
  if (ext4_dio_alignment(inode) === 0) {
    unlock_dio(inode, lock);
    return ext4_buffered_write_iter(iocb, from);
  }
  let n: number;
  try {
    n = await dio_write_locked(iocb, from, lock, unaligned);
  } finally {
    unlock_dio(inode, lock);
  }
  if (from.count === 0) return n;
  // the rest goes through the page cache, and from there to the media at once
  const offset = iocb.ki_pos;
  const more = await ext4_buffered_write_iter(iocb, from);
  const end = offset + more - 1;
  const page = inode.kernel.PAGE_SIZE;
  await filemap_write_and_wait_range(file.f_mapping, offset, end);
  await invalidate_mapping_pages(file.f_mapping, Math.floor(offset / page), Math.floor(end / page));
  return n + more;
}

/** file_operations.write_iter */
export function ext4_file_write_iter(iocb: kiocb, from: iov_iter): Sometime<number> {
  const inode = iocb.ki_filp.f_inode;
  if (ext4_forced_shutdown(EXT4_SB(inode.i_sb))) throw EIO;
  if (inode.i_flags & S_DAX) return ext4_dax_write_iter(iocb, from);
  if (iocb.ki_flags & IOCB_DIRECT) return ext4_dio_write_iter(iocb, from);
  return ext4_buffered_write_iter(iocb, from);
}

// --- closing ------------------------------------------------------------------------------------

async function last_writer_gone(inode: inode): Promise<void> {
  const sem = EXT4_I(inode).i_data_sem;
  const p = sem.down_write();
  if (p) await p;
  try {
    await ext4_discard_preallocations(inode);
  } finally {
    sem.up_write();
  }
}

async function alloc_on_close(inode: inode, discard: boolean): Promise<void> {
  ext4_clear_inode_state(inode, EXT4_STATE_DA_ALLOC_CLOSE);
  await ext4_alloc_da_blocks(inode);
  if (discard) await last_writer_gone(inode);
}

/**
 * file_operations.release: what a replaced file wrote is allocated, what was set aside for it goes
 * back.
 */
export function ext4_release_file(inode: inode, file: file): Sometime<void> {
  const last = (file.f_mode & FMODE_WRITE) !== 0 && inode.i_writecount === 1;
  if (ext4_test_inode_state(inode, EXT4_STATE_DA_ALLOC_CLOSE)) return alloc_on_close(inode, last);
  const ei = EXT4_I(inode);
  if (last && ei.i_reserved_data_blocks === 0 && ei.i_prealloc !== null) {
    return last_writer_gone(inode);
  }
}

/** file_operations.open, beyond what reading needs: nothing, as there are no quotas. */
export function ext4_file_open_write(_inode: inode, _file: file): Sometime<void> {}
