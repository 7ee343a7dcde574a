/** fs/utimes.ts - setting times. Linux: fs/utimes.c. */
import { EINVAL } from "../kernel/include/errno.ts";
import {
  AT_EMPTY_PATH,
  AT_SYMLINK_NOFOLLOW,
  UTIME_NOW,
  UTIME_OMIT,
} from "../kernel/include/fcntl.ts";
import type { path, timespec64 } from "../kernel/include/fs.ts";
import {
  ATTR_ATIME,
  ATTR_ATIME_SET,
  ATTR_CTIME,
  ATTR_MTIME,
  ATTR_MTIME_SET,
  ATTR_TIMES_SET,
  ATTR_TOUCH,
} from "../kernel/include/fs.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { inode_lock, inode_unlock } from "../kernel/vfs/inode.ts";
import { new_iattr, notify_change } from "./attr.ts";
import { with_fd } from "./file.ts";
import { mnt_drop_write, mnt_want_write } from "./mount.ts";
import { LOOKUP_EMPTY, LOOKUP_FOLLOW, with_path } from "./namei/walk.ts";

function nsec_valid(t: timespec64): boolean {
  if (t.tv_nsec === UTIME_OMIT || t.tv_nsec === UTIME_NOW) return true;
  return t.tv_nsec >= 0 && t.tv_nsec <= 999_999_999;
}

/** ATTR_* and values for a pair of times; null: both now. */
function times_attr(times: readonly [timespec64, timespec64] | null) {
  const attr = new_iattr(ATTR_CTIME | ATTR_MTIME | ATTR_ATIME);
  if (times === null) {
    attr.ia_valid |= ATTR_TOUCH;
    return attr;
  }
  const [atime, mtime] = times;
  if (atime.tv_nsec === UTIME_OMIT) attr.ia_valid &= ~ATTR_ATIME;
  else if (atime.tv_nsec !== UTIME_NOW) {
    attr.ia_atime = atime;
    attr.ia_valid |= ATTR_ATIME_SET;
  }
  if (mtime.tv_nsec === UTIME_OMIT) attr.ia_valid &= ~ATTR_MTIME;
  else if (mtime.tv_nsec !== UTIME_NOW) {
    attr.ia_mtime = mtime;
    attr.ia_valid |= ATTR_MTIME_SET;
  }
  attr.ia_valid |= ATTR_TIMES_SET; // an owner's right, whatever the two values are
  return attr;
}

export async function vfs_utimes(
  p: path,
  times: readonly [timespec64, timespec64] | null,
): Promise<void> {
  if (times !== null) {
    if (!nsec_valid(times[0]) || !nsec_valid(times[1])) throw EINVAL;
    if (times[0].tv_nsec === UTIME_NOW && times[1].tv_nsec === UTIME_NOW) times = null;
  }
  const w = mnt_want_write(p.mnt);
  if (w) await w;
  try {
    const inode = p.dentry.d_inode!;
    const l = inode_lock(inode);
    if (l) await l;
    try {
      await notify_change(p.dentry, times_attr(times));
    } finally {
      inode_unlock(inode);
    }
  } finally {
    mnt_drop_write(p.mnt);
  }
}

/**
 * Times are [atime, mtime]; tv_nsec UTIME_NOW or UTIME_OMIT, null for both now. `name` null: the
 * file of `dfd` itself.
 */
export async function sys_utimensat(
  task: task_struct,
  dfd: number,
  name: string | null,
  times: readonly [timespec64, timespec64] | null,
  flags = 0,
): Promise<void> {
  if (times !== null && times[0].tv_nsec === UTIME_OMIT && times[1].tv_nsec === UTIME_OMIT) return;
  if (name === null) {
    if (flags !== 0) throw EINVAL;
    await with_fd(task, dfd, (f) => vfs_utimes(f.f_path, times));
    return;
  }
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) !== 0) throw EINVAL;
  let look = (flags & AT_SYMLINK_NOFOLLOW) !== 0 ? 0 : LOOKUP_FOLLOW;
  if ((flags & AT_EMPTY_PATH) !== 0) look |= LOOKUP_EMPTY;
  await with_path(task, dfd, name, look, (p) => vfs_utimes(p, times));
}
