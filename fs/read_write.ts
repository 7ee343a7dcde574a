/**
 * fs/read_write.ts - reading, writing, seeking, copying. Linux: fs/read_write.c, and
 * generic_file_{read,write}_iter of mm/filemap.c.
 *
 * Reading order: sys_pread64() -> vfs_iter_read() -> f_op.read_iter. Nothing here allocates or
 * makes a promise when nothing blocks: the kiocb belongs to the task and is reused (io_scratch);
 * the iterator is the caller's.
 * A call nested in another one of the same task (copy_file_range) makes a kiocb of its own.
 *
 * Locks: f_pos_lock around calls that use the position of a shared file; level 1 of the freeze
 * around writes; i_rwsem inside, by the filesystem.
 */
import {
  EBADF,
  EFBIG,
  EINVAL,
  ENXIO,
  EOPNOTSUPP,
  ESPIPE,
  ETXTBSY,
} from "../kernel/include/errno.ts";
import {
  MAX_RW_COUNT,
  RWF_APPEND,
  RWF_DSYNC,
  RWF_HIPRI,
  RWF_NOWAIT,
  RWF_SYNC,
  SEEK_CUR,
  SEEK_DATA,
  SEEK_END,
  SEEK_HOLE,
  SEEK_SET,
} from "../kernel/include/fcntl.ts";
import type { MaybeWait, Sometime, file, kiocb } from "../kernel/include/fs.ts";
import {
  FMODE_ATOMIC_POS,
  FMODE_CAN_READ,
  FMODE_CAN_WRITE,
  FMODE_LSEEK,
  FMODE_NOWAIT,
  FMODE_PREAD,
  FMODE_PWRITE,
  FMODE_READ,
  FMODE_STREAM,
  FMODE_WRITE,
  IOCB_APPEND,
  IOCB_DIRECT,
  IOCB_DSYNC,
  IOCB_NOWAIT,
  IOCB_SYNC,
  IOCB_WRITE,
} from "../kernel/include/fs.ts";
import type { iov_iter } from "../kernel/include/uio.ts";
import { note_access } from "../kernel/sched/core.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { fput, get_file } from "../kernel/vfs/file.ts";
import { inode_lock, inode_unlock } from "../kernel/vfs/inode.ts";
import { file_end_write, file_start_write } from "../kernel/vfs/super.ts";
import { __generic_file_write_iter } from "../mm/filemap.ts";
import { lastly, then } from "../mm/sometime.ts";
import { fcheck, task_files } from "./file.ts";
import { IS_SWAPFILE } from "./namei/permission.ts";
import { rlimit_fsize, send_sigxfsz } from "./rlimit.ts";
import { generic_write_sync } from "./sync.ts";

export { __generic_file_write_iter, generic_file_read_iter } from "../mm/filemap.ts";

/** LLONG_MAX, and what lies above it: a number this large has lost its low bits. */
const POS_MAX = 2 ** 63;

interface io_scratch {
  iocb: kiocb;
  busy: boolean;
}

const RWF_SUPPORTED = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND;

/** IOCB_* of preadv2's flags. EOPNOTSUPP for unknown ones and RWF_NOWAIT where it means nothing. */
function rw_flags(f: file, flags: number): number {
  if (flags === 0) return 0;
  if ((flags & ~RWF_SUPPORTED) !== 0) throw EOPNOTSUPP;
  let ki = 0;
  if ((flags & RWF_NOWAIT) !== 0) {
    if ((f.f_mode & FMODE_NOWAIT) === 0) throw EOPNOTSUPP;
    ki |= IOCB_NOWAIT;
  }
  if ((flags & RWF_DSYNC) !== 0) ki |= IOCB_DSYNC;
  if ((flags & RWF_SYNC) !== 0) ki |= IOCB_DSYNC | IOCB_SYNC;
  if ((flags & RWF_APPEND) !== 0) ki |= IOCB_APPEND;
  return ki;
}

export function new_kiocb(f: file, pos: number, ki_flags: number): kiocb {
  return { ki_filp: f, ki_pos: pos, ki_flags };
}

/** The task's own kiocb, or a new one while that is in use. */
function take_kiocb(task: task_struct, f: file, pos: number, ki_flags: number): kiocb {
  const s = task.io_scratch as io_scratch | null;
  if (s === null || s.busy) return other_kiocb(task, new_kiocb(f, pos, ki_flags));
  s.busy = true;
  s.iocb.ki_filp = f;
  s.iocb.ki_pos = pos;
  s.iocb.ki_flags = ki_flags;
  return s.iocb;
}

/** `iocb` is the task's own from now on, if it has none. */
function other_kiocb(task: task_struct, iocb: kiocb): kiocb {
  task.io_scratch ??= { iocb, busy: true } satisfies io_scratch;
  return iocb;
}

function give_kiocb(task: task_struct, iocb: kiocb): void {
  const s = task.io_scratch as io_scratch;
  if (s.iocb === iocb) s.busy = false;
}

/** Position and length make sense; shortens the iterator to what one call may move. */
function rw_verify_area(pos: number, iter: iov_iter): void {
  // a script may pass what is no number
  if (!(pos >= 0) || pos >= POS_MAX || pos + iter.count > POS_MAX) throw EINVAL;
  if (iter.count > MAX_RW_COUNT) iter.truncate(MAX_RW_COUNT);
}

/** Moves bytes from file to iterator. Returns how many; `iocb.ki_pos` has moved on. */
function call_read(iocb: kiocb, iter: iov_iter): Sometime<number> {
  const f = iocb.ki_filp;
  if ((f.f_mode & FMODE_READ) === 0) throw EBADF;
  if ((f.f_mode & FMODE_CAN_READ) === 0) throw EINVAL;
  rw_verify_area(iocb.ki_pos, iter);
  return f.f_op.read_iter!(iocb, iter);
}

function call_write(iocb: kiocb, iter: iov_iter): Sometime<number> {
  const f = iocb.ki_filp;
  if ((f.f_mode & FMODE_WRITE) === 0) throw EBADF;
  if ((f.f_mode & FMODE_CAN_WRITE) === 0) throw EINVAL;
  rw_verify_area(iocb.ki_pos, iter);
  iocb.ki_flags |= IOCB_WRITE;
  const p = file_start_write(f);
  return p ? write_when_thawed(p, iocb, iter) : write_started(iocb, iter);
}

async function write_when_thawed(p: Promise<void>, iocb: kiocb, iter: iov_iter): Promise<number> {
  await p;
  return write_started(iocb, iter);
}

async function write_rest(f: file, p: Promise<number>): Promise<number> {
  try {
    return await p;
  } finally {
    file_end_write(f);
  }
}

function write_started(iocb: kiocb, iter: iov_iter): Sometime<number> {
  const f = iocb.ki_filp;
  let r: Sometime<number>;
  try {
    r = f.f_op.write_iter!(iocb, iter);
  } catch (e) {
    file_end_write(f);
    throw e;
  }
  if (typeof r !== "number") return write_rest(f, r);
  file_end_write(f);
  return r;
}

/** One read or write through the task's kiocb; `set_pos` also moves the file's position. */
function do_rw(
  task: task_struct,
  f: file,
  iter: iov_iter,
  pos: number,
  ki_flags: number,
  write: boolean,
  set_pos: boolean,
): Sometime<number> {
  const iocb = take_kiocb(task, f, pos, ki_flags);
  let r: Sometime<number>;
  try {
    r = write ? call_write(iocb, iter) : call_read(iocb, iter);
  } catch (e) {
    give_kiocb(task, iocb);
    throw e;
  }
  if (typeof r === "number") {
    if (set_pos) f.f_pos = iocb.ki_pos;
    give_kiocb(task, iocb);
    return r;
  }
  return finish_rw(task, f, iocb, r, set_pos);
}

async function finish_rw(
  task: task_struct,
  f: file,
  iocb: kiocb,
  r: Promise<number>,
  set_pos: boolean,
): Promise<number> {
  try {
    const n = await r;
    if (set_pos) f.f_pos = iocb.ki_pos;
    return n;
  } finally {
    give_kiocb(task, iocb);
  }
}

/**
 * The file of a hot call: a reference of its own only if another thread could close it meanwhile.
 */
function held(task: task_struct, f: file, fn: () => Sometime<number>): Sometime<number> {
  if (task_files(task).count === 1) return fn();
  get_file(f);
  let r: Sometime<number>;
  try {
    r = fn();
  } catch (e) {
    r = Promise.reject(e);
  }
  if (typeof r === "number") {
    const n = r;
    const p = fput(f);
    return p ? p.then(() => n) : n;
  }
  return r.finally(() => fput(f));
}

/** read and write at the file's position. */
function rw_at_f_pos(
  task: task_struct,
  f: file,
  iter: iov_iter,
  ki_flags: number,
  write: boolean,
): Sometime<number> {
  if ((f.f_mode & FMODE_STREAM) !== 0) return do_rw(task, f, iter, 0, ki_flags, write, false);
  if ((f.f_mode & FMODE_ATOMIC_POS) === 0 || f.f_count === 1) {
    return do_rw(task, f, iter, f.f_pos, ki_flags, write, true);
  }
  const p = f.f_pos_lock.lock();
  if (p) return p.then(() => rw_pos_locked(task, f, iter, ki_flags, write));
  return rw_pos_locked(task, f, iter, ki_flags, write);
}

function rw_pos_locked(
  task: task_struct,
  f: file,
  iter: iov_iter,
  ki_flags: number,
  write: boolean,
): Sometime<number> {
  let r: Sometime<number>;
  try {
    r = do_rw(task, f, iter, f.f_pos, ki_flags, write, true);
  } catch (e) {
    f.f_pos_lock.unlock();
    throw e;
  }
  return lastly(r, () => f.f_pos_lock.unlock());
}

/** read(2). Returns the bytes moved into `iter`; 0 at the end of the file. */
export function sys_read(task: task_struct, fd: number, iter: iov_iter): Sometime<number> {
  const f = fcheck(task, fd);
  if (task_files(task).count === 1) return rw_at_f_pos(task, f, iter, f.f_iocb_flags, false);
  return held(task, f, () => rw_at_f_pos(task, f, iter, f.f_iocb_flags, false));
}

export function sys_write(task: task_struct, fd: number, iter: iov_iter): Sometime<number> {
  const f = fcheck(task, fd);
  if (task_files(task).count === 1) return rw_at_f_pos(task, f, iter, f.f_iocb_flags, true);
  return held(task, f, () => rw_at_f_pos(task, f, iter, f.f_iocb_flags, true));
}

export function sys_pread64(
  task: task_struct,
  fd: number,
  iter: iov_iter,
  pos: number,
): Sometime<number> {
  if (pos < 0) throw EINVAL;
  const f = fcheck(task, fd);
  if ((f.f_mode & FMODE_PREAD) === 0) throw ESPIPE;
  if (task_files(task).count === 1) return do_rw(task, f, iter, pos, f.f_iocb_flags, false, false);
  return held_rw_at(task, f, iter, pos, false);
}

export function sys_pwrite64(
  task: task_struct,
  fd: number,
  iter: iov_iter,
  pos: number,
): Sometime<number> {
  if (pos < 0) throw EINVAL;
  const f = fcheck(task, fd);
  if ((f.f_mode & FMODE_PWRITE) === 0) throw ESPIPE;
  if (task_files(task).count === 1) return do_rw(task, f, iter, pos, f.f_iocb_flags, true, false);
  return held_rw_at(task, f, iter, pos, true);
}

function held_rw_at(
  task: task_struct,
  f: file,
  iter: iov_iter,
  pos: number,
  write: boolean,
): Sometime<number> {
  return held(task, f, () => do_rw(task, f, iter, pos, f.f_iocb_flags, write, false));
}

/**
 * readv, preadv and preadv2: `pos` -1 is the file's position; `flags` RWF_*. Nothing to move: 0.
 */
export function sys_preadv2(
  task: task_struct,
  fd: number,
  iter: iov_iter,
  pos: number,
  flags: number,
): Sometime<number> {
  return vector(task, fd, iter, pos, flags, false);
}

export function sys_pwritev2(
  task: task_struct,
  fd: number,
  iter: iov_iter,
  pos: number,
  flags: number,
): Sometime<number> {
  return vector(task, fd, iter, pos, flags, true);
}

function vector(
  task: task_struct,
  fd: number,
  iter: iov_iter,
  pos: number,
  flags: number,
  write: boolean,
): Sometime<number> {
  if (pos < -1) throw EINVAL;
  const f = fcheck(task, fd);
  if (pos >= 0 && (f.f_mode & (write ? FMODE_PWRITE : FMODE_PREAD)) === 0) throw ESPIPE;
  return held(task, f, () => {
    if ((f.f_mode & (write ? FMODE_WRITE : FMODE_READ)) === 0) throw EBADF;
    if ((f.f_mode & (write ? FMODE_CAN_WRITE : FMODE_CAN_READ)) === 0) throw EINVAL;
    if (iter.count === 0) return 0;
    const ki = f.f_iocb_flags | rw_flags(f, flags);
    if (pos === -1) return rw_at_f_pos(task, f, iter, ki, write);
    return do_rw(task, f, iter, pos, ki, write, false);
  });
}

/** A read or write by the kernel itself, at a position. */
export function vfs_iter_read(f: file, iter: iov_iter, pos: number): Sometime<number> {
  return call_read(new_kiocb(f, pos, f.f_iocb_flags), iter);
}
/** The caller holds level 1 of the freeze (file_start_write). */
export function vfs_iter_write(f: file, iter: iov_iter, pos: number): Sometime<number> {
  if ((f.f_mode & FMODE_WRITE) === 0) throw EBADF;
  if ((f.f_mode & FMODE_CAN_WRITE) === 0) throw EINVAL;
  rw_verify_area(pos, iter);
  return f.f_op.write_iter!(new_kiocb(f, pos, f.f_iocb_flags | IOCB_WRITE), iter);
}

// --- what filesystems call ---

/**
 * How much of `count` bytes at `pos` fits the process's and the filesystem's limits. EFBIG if none.
 */
export function generic_write_check_limits(f: file, pos: number, count: number): number {
  const task = f.kernel.current;
  const limit = rlimit_fsize(task);
  if (pos >= limit) {
    send_sigxfsz(task);
    throw EFBIG;
  }
  if (count > limit - pos) count = limit - pos;
  const max = f.f_mapping.host.i_sb.s_maxbytes;
  if (pos >= max) throw EFBIG;
  return count > max - pos ? max - pos : count;
}

/**
 * Before a write, with i_rwsem held: moves an append to the end, shortens to the limits. Bytes to
 * write.
 */
export function generic_write_checks(iocb: kiocb, from: iov_iter): number {
  const f = iocb.ki_filp;
  const inode = f.f_mapping.host;
  if (IS_SWAPFILE(inode)) throw ETXTBSY;
  if (from.count === 0) return 0;
  if ((iocb.ki_flags & IOCB_APPEND) !== 0) iocb.ki_pos = inode.i_size;
  if ((iocb.ki_flags & (IOCB_NOWAIT | IOCB_DIRECT)) === IOCB_NOWAIT) throw EINVAL;
  const count = generic_write_check_limits(f, iocb.ki_pos, from.count);
  from.truncate(count);
  return count;
}

/** write_iter of files in the page cache. */
export function generic_file_write_iter(iocb: kiocb, from: iov_iter): Sometime<number> {
  const p = inode_lock(iocb.ki_filp.f_inode);
  if (p) return p.then(() => write_locked(iocb, from));
  return write_locked(iocb, from);
}

function write_locked(iocb: kiocb, from: iov_iter): Sometime<number> {
  const inode = iocb.ki_filp.f_inode;
  let r: Sometime<number>;
  try {
    r = generic_write_checks(iocb, from) > 0 ? __generic_file_write_iter(iocb, from) : 0;
  } catch (e) {
    inode_unlock(inode);
    throw e;
  }
  return then(
    lastly(r, () => inode_unlock(inode)),
    (n) => (n > 0 ? generic_write_sync(iocb, n) : n),
  );
}

// --- seeking ---

/** Sets the position. EINVAL when it is negative or beyond `max`. */
export function vfs_setpos(f: file, offset: number, max: number): number {
  if (offset < 0 || offset > max) throw EINVAL;
  f.f_pos = offset;
  return offset;
}

/** llseek of a file of `eof` bytes that is data up to there. */
export function generic_file_llseek_size(
  f: file,
  offset: number,
  whence: number,
  max: number,
  eof: number,
): number {
  switch (whence) {
    case SEEK_END:
      offset += eof;
      break;
    case SEEK_CUR:
      if (offset === 0) return f.f_pos;
      offset += f.f_pos;
      break;
    case SEEK_DATA:
      if (offset < 0 || offset >= eof) throw ENXIO;
      break;
    case SEEK_HOLE:
      if (offset < 0 || offset >= eof) throw ENXIO;
      offset = eof;
      break;
    default:
      break;
  }
  return vfs_setpos(f, offset, max);
}

export function generic_file_llseek(f: file, offset: number, whence: number): number {
  const inode = f.f_mapping.host;
  return generic_file_llseek_size(f, offset, whence, inode.i_sb.s_maxbytes, inode.i_size);
}

/** llseek of what has no position but does not mind. */
export const noop_llseek = (f: file): number => f.f_pos;

export function vfs_llseek(f: file, offset: number, whence: number): Sometime<number> {
  if ((f.f_mode & FMODE_LSEEK) === 0) throw ESPIPE;
  note_access(f.kernel, f.f_inode.i_rwsem, false);
  return f.f_op.llseek!(f, offset, whence);
}

/** The new position. */
export function sys_lseek(
  task: task_struct,
  fd: number,
  offset: number,
  whence: number,
): Sometime<number> {
  const f = fcheck(task, fd);
  if (whence < SEEK_SET || whence > SEEK_HOLE) throw EINVAL;
  if ((f.f_mode & FMODE_ATOMIC_POS) === 0 || f.f_count === 1) return vfs_llseek(f, offset, whence);
  const seek = (): Sometime<number> => {
    let r: Sometime<number>;
    try {
      r = vfs_llseek(f, offset, whence);
    } catch (e) {
      f.f_pos_lock.unlock();
      throw e;
    }
    return lastly(r, () => f.f_pos_lock.unlock());
  };
  const p: MaybeWait = f.f_pos_lock.lock();
  return p ? p.then(seek) : seek();
}
