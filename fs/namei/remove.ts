/**
 * fs/namei/remove.ts - unlink and rmdir. Linux: fs/namei.c.
 * The file itself is freed (a truncate that may take long) after the directory has been unlocked.
 */
import {
  EBUSY,
  EINVAL,
  EISDIR,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  EPERM,
} from "../../kernel/include/errno.ts";
import { AT_FDCWD, AT_REMOVEDIR } from "../../kernel/include/fcntl.ts";
import type { dentry, inode } from "../../kernel/include/fs.ts";
import { S_DEAD } from "../../kernel/include/fs.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import {
  I_MUTEX_PARENT,
  ihold,
  inode_lock,
  inode_lock_nested,
  inode_unlock,
  iput,
} from "../../kernel/vfs/inode.ts";
import { d_delete, d_is_dir, dget, dput, shrink_dcache_parent } from "../dcache.ts";
import { is_local_mountpoint, mnt_drop_write, mnt_want_write, path_put } from "../mount.ts";
import { IS_SWAPFILE, may_delete } from "./permission.ts";
import {
  LAST_DOT,
  LAST_DOTDOT,
  LAST_NORM,
  __lookup,
  filename_parentat,
  type parent_lookup,
} from "./walk.ts";

/**
 * Calls `fn` with the directory locked and the dentry of the last component, which may be negative.
 */
async function with_victim(
  at: parent_lookup,
  fn: (dir: inode, d: dentry) => Promise<void>,
): Promise<void> {
  const w = mnt_want_write(at.path.mnt);
  if (w) await w;
  const dir = at.path.dentry.d_inode!;
  let kept: inode | null = null;
  try {
    const p = inode_lock_nested(dir, I_MUTEX_PARENT);
    if (p) await p;
    try {
      const d = await __lookup(at.path.dentry, at.last, 0);
      try {
        kept = d.d_inode;
        if (kept !== null) ihold(kept);
        await fn(dir, d);
      } finally {
        await dput(d);
      }
    } finally {
      inode_unlock(dir);
    }
  } finally {
    await iput(kept); // truncates here
    mnt_drop_write(at.path.mnt);
  }
}

export async function vfs_rmdir(dir: inode, d: dentry): Promise<void> {
  may_delete(dir, d, true);
  if (dir.i_op.rmdir === undefined) throw EPERM;
  const target = d.d_inode!;
  dget(d);
  const p = inode_lock(target);
  if (p) await p;
  try {
    if (is_local_mountpoint(d)) throw EBUSY;
    await dir.i_op.rmdir(dir, d);
    await shrink_dcache_parent(d);
    target.i_flags |= S_DEAD;
  } catch (e) {
    inode_unlock(target);
    await dput(d);
    throw e;
  }
  inode_unlock(target);
  await dput(d);
  await d_delete(d);
}

export async function vfs_unlink(dir: inode, d: dentry): Promise<void> {
  may_delete(dir, d, false);
  if (dir.i_op.unlink === undefined) throw EPERM;
  const target = d.d_inode!;
  const p = inode_lock(target);
  if (p) await p;
  try {
    if (is_local_mountpoint(d)) throw EBUSY;
    if (IS_SWAPFILE(target)) throw EPERM;
    await dir.i_op.unlink(dir, d);
  } finally {
    inode_unlock(target);
  }
  await d_delete(d);
}

export async function sys_rmdirat(task: task_struct, dfd: number, name: string): Promise<void> {
  const at = await filename_parentat(task, dfd, name);
  try {
    if (at.last_type === LAST_DOTDOT) throw ENOTEMPTY;
    if (at.last_type === LAST_DOT) throw EINVAL;
    if (at.last_type !== LAST_NORM) throw EBUSY;
    await with_victim(at, (dir, d) => {
      if (d.d_inode === null) throw ENOENT;
      return vfs_rmdir(dir, d);
    });
  } finally {
    await path_put(at.path);
  }
}

export async function sys_unlinkat(
  task: task_struct,
  dfd: number,
  name: string,
  flags: number,
): Promise<void> {
  if ((flags & ~AT_REMOVEDIR) !== 0) throw EINVAL;
  if ((flags & AT_REMOVEDIR) !== 0) return sys_rmdirat(task, dfd, name);
  const at = await filename_parentat(task, dfd, name);
  try {
    if (at.last_type !== LAST_NORM) throw EISDIR;
    await with_victim(at, (dir, d) => {
      if (at.trailing || d.d_inode === null) {
        if (d.d_inode === null) throw ENOENT;
        throw d_is_dir(d) ? EISDIR : ENOTDIR;
      }
      return vfs_unlink(dir, d);
    });
  } finally {
    await path_put(at.path);
  }
  return undefined;
}

export const sys_unlink = (task: task_struct, name: string): Promise<void> =>
  sys_unlinkat(task, AT_FDCWD, name, 0);
export const sys_rmdir = (task: task_struct, name: string): Promise<void> =>
  sys_rmdirat(task, AT_FDCWD, name);
