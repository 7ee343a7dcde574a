/**
 * fs/atime.ts - the times that move by themselves: atime of a read, mtime and ctime of a write.
 * Linux: fs/inode.c (touch_atime, file_update_time).
 */
import type { Sometime, file, inode, path, timespec64, vfsmount } from "../kernel/include/fs.ts";
import {
  I_DIRTY_SYNC,
  I_DIRTY_TIME,
  MNT_NOATIME,
  MNT_NODIRATIME,
  MNT_RELATIME,
  SB_LAZYTIME,
  SB_NOATIME,
  SB_NODIRATIME,
  SB_RDONLY,
  S_ATIME,
  S_CTIME,
  S_MTIME,
  S_NOATIME,
  S_NOCMTIME,
  S_VERSION,
} from "../kernel/include/fs.ts";
import { is_errno } from "../kernel/include/errno.ts";
import { O_NOATIME } from "../kernel/include/fcntl.ts";
import { S_ISDIR } from "../kernel/include/stat.ts";
import {
  __mark_inode_dirty,
  current_time,
  timespec64_compare,
  timespec64_equal,
} from "../kernel/vfs/inode.ts";
import { sb_end_write, sb_start_write_trylock } from "../kernel/vfs/super.ts";
import { __mnt_drop_write, __mnt_is_readonly, __mnt_want_write } from "./mount.ts";

const DAY_SEC = 24 * 60 * 60;

/** Sets the times named by `flags` (S_ATIME ...) and marks the inode dirty. */
export function generic_update_time(inode: inode, time: timespec64, flags: number): Sometime<void> {
  if ((flags & S_ATIME) !== 0) inode.i_atime = time;
  if ((flags & S_CTIME) !== 0) inode.i_ctime = time;
  if ((flags & S_MTIME) !== 0) inode.i_mtime = time;
  if ((flags & S_VERSION) !== 0) inode.i_version++;
  const lazy = (inode.i_sb.s_flags & SB_LAZYTIME) !== 0;
  return __mark_inode_dirty(inode, lazy ? I_DIRTY_TIME : I_DIRTY_SYNC);
}

export function inode_update_time(inode: inode, time: timespec64, flags: number): Sometime<void> {
  const op = inode.i_op.update_time;
  if (op !== undefined) return op.call(inode.i_op, inode, time, flags);
  return generic_update_time(inode, time, flags);
}

/** relatime: only when the file changed since, or a day has passed. */
function relatime_need_update(mnt: vfsmount, inode: inode, now: timespec64): boolean {
  if ((mnt.mnt_flags & MNT_RELATIME) === 0) return true;
  if (timespec64_compare(inode.i_mtime, inode.i_atime) >= 0) return true;
  if (timespec64_compare(inode.i_ctime, inode.i_atime) >= 0) return true;
  return now.tv_sec - inode.i_atime.tv_sec >= DAY_SEC;
}

export function atime_needs_update(mnt: vfsmount, inode: inode): boolean {
  const now = current_time(inode);
  // read before within this tick: that is all, most of the time
  return inode.i_atime !== now && atime_differs(mnt, inode, now);
}

function atime_differs(mnt: vfsmount, inode: inode, now: timespec64): boolean {
  if ((inode.i_flags & S_NOATIME) !== 0) return false;
  if ((inode.i_sb.s_flags & (SB_NOATIME | SB_RDONLY)) !== 0) return false;
  if ((mnt.mnt_flags & MNT_NOATIME) !== 0) return false;
  const nodir = (inode.i_sb.s_flags & SB_NODIRATIME) | (mnt.mnt_flags & MNT_NODIRATIME);
  if (nodir !== 0 && S_ISDIR(inode.i_mode)) return false;
  return relatime_need_update(mnt, inode, now) && !timespec64_equal(inode.i_atime, now);
}

function ignore_errno(e: unknown): void {
  if (!is_errno(e)) throw e;
}

/** The path was read. Never waits for a frozen filesystem and never fails: then the time stays. */
export function touch_atime(p: path): Sometime<void> {
  const { mnt } = p;
  const inode = p.dentry.d_inode!;
  if (!atime_needs_update(mnt, inode)) return undefined;
  return update_atime(mnt, inode);
}

function update_atime(mnt: vfsmount, inode: inode): Sometime<void> {
  const sb = inode.i_sb;
  if (__mnt_is_readonly(mnt) || !sb_start_write_trylock(sb)) return undefined;
  __mnt_want_write(mnt);
  const done = (): void => {
    __mnt_drop_write(mnt);
    sb_end_write(sb);
  };
  let p: Sometime<void>;
  try {
    p = inode_update_time(inode, current_time(inode), S_ATIME);
  } catch (e) {
    done();
    ignore_errno(e);
    return undefined;
  }
  if (p) return p.catch(ignore_errno).finally(done);
  done();
  return undefined;
}

export function file_accessed(f: file): Sometime<void> {
  if ((f.f_flags & O_NOATIME) !== 0) return undefined;
  const inode = f.f_inode;
  if (!atime_needs_update(f.f_path.mnt, inode)) return undefined;
  return update_atime(f.f_path.mnt, inode);
}

/** file_update_time() of a page fault: that the times cannot be written is no reason to fail. */
export function fault_update_time(f: file): Sometime<void> {
  try {
    const p = file_update_time(f);
    return p ? p.catch(ignore_errno) : undefined;
  } catch (e) {
    ignore_errno(e);
    return undefined;
  }
}

/** The file is being written: mtime and ctime become now. Caller holds write access. */
export function file_update_time(f: file): Sometime<void> {
  const inode = f.f_inode;
  if ((inode.i_flags & S_NOCMTIME) !== 0) return undefined;
  const now = current_time(inode);
  let flags = 0;
  if (!timespec64_equal(inode.i_mtime, now)) flags = S_MTIME;
  if (!timespec64_equal(inode.i_ctime, now)) flags |= S_CTIME;
  if (flags === 0) return undefined;
  return inode_update_time(inode, now, flags);
}
