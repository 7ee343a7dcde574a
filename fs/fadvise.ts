/**
 * fs/fadvise.ts - advice on the page cache. Linux: mm/fadvise.c, readahead(2) of mm/readahead.c.
 */
import { EBADF, EINVAL, ESPIPE } from "../kernel/include/errno.ts";
import {
  POSIX_FADV_DONTNEED,
  POSIX_FADV_NOREUSE,
  POSIX_FADV_NORMAL,
  POSIX_FADV_RANDOM,
  POSIX_FADV_SEQUENTIAL,
  POSIX_FADV_WILLNEED,
} from "../kernel/include/fcntl.ts";
import type { file } from "../kernel/include/fs.ts";
import { FMODE_RANDOM, FMODE_READ, LLONG_MAX, S_DAX, WB_SYNC_NONE } from "../kernel/include/fs.ts";
import { S_ISFIFO, S_ISREG } from "../kernel/include/stat.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { READ_AHEAD } from "../kernel/vfs/file.ts";
import { invalidate_mapping_pages } from "../mm/filemap.ts";
import { force_page_cache_readahead } from "../mm/readahead.ts";
import { with_fd } from "./file.ts";
import { do_writepages } from "./fs-writeback.ts";

const ALL = [
  POSIX_FADV_NORMAL,
  POSIX_FADV_RANDOM,
  POSIX_FADV_SEQUENTIAL,
  POSIX_FADV_WILLNEED,
  POSIX_FADV_DONTNEED,
  POSIX_FADV_NOREUSE,
];

const PATTERN = [POSIX_FADV_NORMAL, POSIX_FADV_RANDOM, POSIX_FADV_SEQUENTIAL];

/** How this open file will be read. */
function advise_pattern(f: file, advice: number): void {
  const pages = READ_AHEAD / f.kernel.PAGE_SIZE;
  f.f_ra.ra_pages = advice === POSIX_FADV_SEQUENTIAL ? pages * 2 : pages;
  if (advice === POSIX_FADV_RANDOM) f.f_mode |= FMODE_RANDOM;
  else f.f_mode &= ~FMODE_RANDOM;
}

/** `len` 0 means to the end. */
export async function vfs_fadvise(
  f: file,
  offset: number,
  len: number,
  advice: number,
): Promise<void> {
  if (f.f_op.fadvise !== undefined) return f.f_op.fadvise(f, offset, len, advice);
  if (S_ISFIFO(f.f_inode.i_mode)) throw ESPIPE;
  if (len < 0 || !ALL.includes(advice)) throw EINVAL;
  const mapping = f.f_mapping;
  // DAX files have no pages to advise on.
  if ((mapping.host.i_flags & S_DAX) !== 0) return undefined;
  const end = len === 0 || offset + len > LLONG_MAX ? LLONG_MAX : offset + len - 1;
  const { PAGE_SIZE } = f.kernel;
  const first = Math.floor(offset / PAGE_SIZE);
  if (PATTERN.includes(advice)) advise_pattern(f, advice);
  else if (advice === POSIX_FADV_WILLNEED) {
    const last = Math.floor(Math.min(end, mapping.host.i_size) / PAGE_SIZE);
    await force_page_cache_readahead(mapping, f, first, last - first + 1);
  } else if (advice === POSIX_FADV_DONTNEED) {
    await do_writepages(mapping.host, {
      nr_to_write: LLONG_MAX,
      range_start: offset,
      range_end: end,
      sync_mode: WB_SYNC_NONE,
    });
    // Only whole pages, except that the last one of the file counts as whole.
    const start = Math.ceil(offset / PAGE_SIZE);
    const whole = end === LLONG_MAX || end >= mapping.host.i_size - 1;
    const stop = whole ? LLONG_MAX : Math.floor((end + 1) / PAGE_SIZE) - 1;
    if (stop >= start) await invalidate_mapping_pages(mapping, start, stop);
  }
  return undefined;
}

export function sys_fadvise64(
  task: task_struct,
  fd: number,
  offset: number,
  len: number,
  advice: number,
): Promise<void> {
  return with_fd(task, fd, (f) => vfs_fadvise(f, offset, len, advice));
}

export function sys_readahead(
  task: task_struct,
  fd: number,
  offset: number,
  count: number,
): Promise<void> {
  return with_fd(task, fd, (f) => {
    if ((f.f_mode & FMODE_READ) === 0) throw EBADF;
    if (!S_ISREG(f.f_inode.i_mode)) throw EINVAL;
    return vfs_fadvise(f, offset, count, POSIX_FADV_WILLNEED);
  });
}
