/**
 * fs/copy_file_range.ts - copying between files in the kernel. Linux: fs/read_write.c
 * (vfs_copy_file_range).
 */
import {
  EBADF,
  EINVAL,
  EISDIR,
  EOPNOTSUPP,
  EOVERFLOW,
  EPERM,
  ETXTBSY,
  EXDEV,
} from "../kernel/include/errno.ts";
import { MAX_RW_COUNT, O_APPEND, O_DIRECT } from "../kernel/include/fcntl.ts";
import type { file } from "../kernel/include/fs.ts";
import { FMODE_READ, FMODE_WRITE, S_DAX } from "../kernel/include/fs.ts";
import { S_ISDIR, S_ISREG } from "../kernel/include/stat.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { file_end_write, file_start_write } from "../kernel/vfs/super.ts";
import { new_iov_iter_bytes } from "../mm/iov_iter.ts";
import { with_fd } from "./file.ts";
import { IS_IMMUTABLE, IS_SWAPFILE } from "./namei/permission.ts";
import { generic_write_check_limits, vfs_iter_read, vfs_iter_write } from "./read_write.ts";

const REMAP_FILE_CAN_SHORTEN = 2;
/** Bytes moved at a time: a pipe's worth. */
const CHUNK = 65536;

/** Kinds and modes that every copy or clone needs. */
export function generic_file_rw_checks(fin: file, fout: file): void {
  const { i_mode: mi } = fin.f_inode;
  const { i_mode: mo } = fout.f_inode;
  if (S_ISDIR(mi) || S_ISDIR(mo)) throw EISDIR;
  if (!S_ISREG(mi) || !S_ISREG(mo)) throw EINVAL;
  if ((fin.f_mode & FMODE_READ) === 0 || (fout.f_mode & FMODE_WRITE) === 0) throw EBADF;
  if ((fout.f_flags & O_APPEND) !== 0) throw EBADF;
}

/** Bytes that may be copied. */
function copy_checks(fin: file, pos_in: number, fout: file, pos_out: number, len: number): number {
  generic_file_rw_checks(fin, fout);
  const op = fout.f_op.copy_file_range;
  if (op !== undefined) {
    if (fin.f_op.copy_file_range !== op) throw EXDEV;
  } else if (fin.f_inode.i_sb !== fout.f_inode.i_sb) throw EXDEV;
  if (IS_IMMUTABLE(fout.f_inode)) throw EPERM;
  if (IS_SWAPFILE(fin.f_inode) || IS_SWAPFILE(fout.f_inode)) throw ETXTBSY;
  if (pos_in + len > 2 ** 63 || pos_out + len > 2 ** 63) throw EOVERFLOW;
  const size = fin.f_inode.i_size;
  let count = pos_in >= size ? 0 : Math.min(len, size - pos_in);
  count = generic_write_check_limits(fout, pos_out, count);
  if (fin.f_inode === fout.f_inode && pos_out + count > pos_in && pos_out < pos_in + count) {
    throw EINVAL;
  }
  return count;
}

/**
 * Through a buffer: what splice does. Pages of the page cache are handed on as they are, so a
 * direct write sees memory that is as little aligned as the position read from.
 */
async function copy_by_pieces(
  fin: file,
  pos_in: number,
  fout: file,
  pos_out: number,
  len: number,
): Promise<number> {
  const { kernel } = fin;
  const buf = new Uint8Array(Math.min(len, CHUNK));
  const in_cache = (fin.f_flags & O_DIRECT) === 0 && (fin.f_inode.i_flags & S_DAX) === 0;
  let done = 0;
  while (done < len) {
    const skew = in_cache ? (pos_in + done) % kernel.PAGE_SIZE : 0;
    const want = Math.min(len - done, CHUNK - skew);
    const to = new_iov_iter_bytes(kernel, false, [buf.subarray(0, want)]);
    const got = await vfs_iter_read(fin, to, pos_in + done);
    if (got <= 0) break;
    const from = new_iov_iter_bytes(kernel, true, [buf.subarray(0, got)], skew);
    let put = 0;
    try {
      put = await vfs_iter_write(fout, from, pos_out + done);
    } catch (e) {
      if (done === 0) throw e;
      break;
    }
    done += put;
    if (put < got) break;
  }
  return done;
}

export async function vfs_copy_file_range(
  fin: file,
  pos_in: number,
  fout: file,
  pos_out: number,
  len: number,
  flags: number,
): Promise<number> {
  if (flags !== 0) throw EINVAL;
  const count = copy_checks(fin, pos_in, fout, pos_out, len);
  if (pos_in < 0 || pos_out < 0) throw EINVAL;
  if (count === 0) return 0;
  const w = file_start_write(fout);
  if (w) await w;
  try {
    if (fout.f_op.copy_file_range !== undefined) {
      const n = await try_op(() =>
        fout.f_op.copy_file_range!(fin, pos_in, fout, pos_out, count, flags),
      );
      if (n >= 0) return n;
    } else if (fin.f_op.remap_file_range !== undefined) {
      const part = Math.min(count, MAX_RW_COUNT);
      const share = REMAP_FILE_CAN_SHORTEN;
      const n = await try_op(() =>
        fin.f_op.remap_file_range!(fin, pos_in, fout, pos_out, part, share),
      );
      if (n > 0) return n;
    }
    return await copy_by_pieces(fin, pos_in, fout, pos_out, Math.min(count, MAX_RW_COUNT));
  } finally {
    file_end_write(fout);
  }
}

/** -1 when the filesystem leaves it to the generic way. */
async function try_op(fn: () => Promise<number>): Promise<number> {
  try {
    return await fn();
  } catch (e) {
    if (e === EOPNOTSUPP || e === EXDEV || e === EINVAL) return -1;
    throw e;
  }
}

/** A position of -1 is the file's own, which then moves. Bytes copied. */
export function sys_copy_file_range(
  task: task_struct,
  fd_in: number,
  off_in: number,
  fd_out: number,
  off_out: number,
  len: number,
  flags: number,
): Promise<number> {
  return with_fd(task, fd_in, (fin) =>
    with_fd(task, fd_out, async (fout) => {
      const pos_in = off_in === -1 ? fin.f_pos : off_in;
      const pos_out = off_out === -1 ? fout.f_pos : off_out;
      const n = await vfs_copy_file_range(fin, pos_in, fout, pos_out, len, flags);
      if (off_in === -1) fin.f_pos = pos_in + n;
      if (off_out === -1) fout.f_pos = pos_out + n;
      return n;
    }),
  );
}
