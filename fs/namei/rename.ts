/**
 * fs/namei/rename.ts - rename with all its flags. Linux: fs/namei.c.
 *
 * Lock order: level 1 of the freeze > s_vfs_rename_mutex (two directories only) > the directories,
 * ancestor first > a moved subdirectory > files. So the tree cannot change while it is judged.
 */
import {
  EBUSY,
  EEXIST,
  EINVAL,
  EMLINK,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  EPERM,
  EXDEV,
} from "../../kernel/include/errno.ts";
import {
  AT_FDCWD,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
} from "../../kernel/include/fcntl.ts";
import type { dentry, inode } from "../../kernel/include/fs.ts";
import { MAY_WRITE, S_DEAD } from "../../kernel/include/fs.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import {
  I_MUTEX_CHILD,
  I_MUTEX_NORMAL,
  I_MUTEX_PARENT,
  I_MUTEX_PARENT2,
  ihold,
  inode_lock,
  inode_lock_nested,
  inode_unlock,
  iput,
  lock_two_nondirectories,
} from "../../kernel/vfs/inode.ts";
import {
  d_ancestor,
  d_exchange,
  d_is_dir,
  d_move,
  dget,
  dput,
  shrink_dcache_parent,
} from "../dcache.ts";
import { is_local_mountpoint, mnt_drop_write, mnt_want_write, path_put } from "../mount.ts";
import { IS_SWAPFILE, inode_permission, may_create, may_delete } from "./permission.ts";
import {
  LAST_NORM,
  LOOKUP_CREATE,
  LOOKUP_EXCL,
  LOOKUP_RENAME_TARGET,
  __lookup,
  filename_parentat,
  type parent_lookup,
} from "./walk.ts";

/** Locks both directories. The child of one on the way to the other, or null. */
export async function lock_rename(a: dentry, b: dentry): Promise<dentry | null> {
  if (a === b) {
    await lock(a, I_MUTEX_PARENT);
    return null;
  }
  const p = a.d_sb.s_vfs_rename_mutex.lock();
  if (p) await p;
  const below_b = d_ancestor(b, a);
  if (below_b !== null) {
    await lock(b, I_MUTEX_PARENT);
    await lock(a, I_MUTEX_PARENT2);
    return below_b;
  }
  const below_a = d_ancestor(a, b);
  await lock(a, I_MUTEX_PARENT);
  await lock(b, I_MUTEX_PARENT2);
  return below_a;
}

async function lock(d: dentry, subclass: number): Promise<void> {
  const p = inode_lock_nested(d.d_inode!, subclass);
  if (p) await p;
}

export function unlock_rename(a: dentry, b: dentry): void {
  inode_unlock(a.d_inode!);
  if (a === b) return;
  inode_unlock(b.d_inode!);
  a.d_sb.s_vfs_rename_mutex.unlock();
}

interface renamedata {
  old_dir: inode;
  old: dentry;
  new_dir: inode;
  new: dentry;
  flags: number;
}

/** Permissions of both ends. */
function may_rename(rd: renamedata, is_dir: boolean): void {
  const source = rd.old.d_inode!;
  const target = rd.new.d_inode;
  const new_is_dir = d_is_dir(rd.new);
  const exchange = (rd.flags & RENAME_EXCHANGE) !== 0;
  may_delete(rd.old_dir, rd.old, is_dir);
  if (target === null) may_create(rd.new_dir, rd.new);
  else may_delete(rd.new_dir, rd.new, exchange ? new_is_dir : is_dir);
  if (rd.old_dir.i_op.rename === undefined) throw EPERM;
  if (rd.new_dir === rd.old_dir) return;
  // The ".." of a directory that changes its parent is written.
  if (is_dir) inode_permission(source, MAY_WRITE);
  if (exchange && new_is_dir) inode_permission(target!, MAY_WRITE);
}

/** Locks what is moved and replaced; returns what to unlock. */
async function lock_moved(rd: renamedata, is_dir: boolean): Promise<inode[]> {
  const source = rd.old.d_inode!;
  const target = rd.new.d_inode;
  const new_is_dir = d_is_dir(rd.new);
  const lock_old_subdir = rd.new_dir !== rd.old_dir;
  const lock_new_subdir = lock_old_subdir || (rd.flags & RENAME_EXCHANGE) === 0;
  const held: inode[] = [];
  const take = async (i: inode, subclass: number): Promise<void> => {
    const p = inode_lock_nested(i, subclass);
    if (p) await p;
    held.push(i);
  };
  if (is_dir) {
    if (lock_old_subdir) await take(source, I_MUTEX_CHILD);
    if (target !== null && (!new_is_dir || lock_new_subdir)) await take(target, I_MUTEX_NORMAL);
  } else if (new_is_dir) {
    if (lock_new_subdir) await take(target!, I_MUTEX_CHILD);
    await take(source, I_MUTEX_NORMAL);
  } else if (target !== null) {
    await lock_two_nondirectories(source, target);
    held.push(source, target);
  } else {
    const p = inode_lock(source);
    if (p) await p;
    held.push(source);
  }
  return held;
}

function check_busy_and_links(rd: renamedata, is_dir: boolean): void {
  const target = rd.new.d_inode;
  const new_is_dir = d_is_dir(rd.new);
  if (IS_SWAPFILE(rd.old.d_inode!) || (target !== null && IS_SWAPFILE(target))) throw EPERM;
  if (is_local_mountpoint(rd.old) || is_local_mountpoint(rd.new)) throw EBUSY;
  const max = rd.new_dir.i_sb.s_max_links;
  if (max === 0 || rd.new_dir === rd.old_dir) return;
  if (is_dir && !new_is_dir && rd.new_dir.i_nlink >= max) throw EMLINK;
  const exchange = (rd.flags & RENAME_EXCHANGE) !== 0;
  if (exchange && !is_dir && new_is_dir && rd.old_dir.i_nlink >= max) throw EMLINK;
}

/** Both directories are locked. */
export async function vfs_rename(rd: renamedata): Promise<void> {
  const source = rd.old.d_inode!;
  const target = rd.new.d_inode;
  if (source === target) return;
  const is_dir = d_is_dir(rd.old);
  may_rename(rd, is_dir);
  const exchange = (rd.flags & RENAME_EXCHANGE) !== 0;
  dget(rd.new);
  const held = await lock_moved(rd, is_dir);
  try {
    check_busy_and_links(rd, is_dir);
    await rd.old_dir.i_op.rename!(rd.old_dir, rd.old, rd.new_dir, rd.new, rd.flags);
    if (!exchange && target !== null && is_dir) {
      await shrink_dcache_parent(rd.new);
      target.i_flags |= S_DEAD;
    }
    if (exchange) d_exchange(rd.old, rd.new);
    else d_move(rd.old, rd.new);
  } finally {
    for (const i of held) inode_unlock(i);
    await dput(rd.new);
  }
}

function check_flags(flags: number): void {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0) throw EINVAL;
  const one_way = RENAME_NOREPLACE | RENAME_WHITEOUT;
  if ((flags & one_way) !== 0 && (flags & RENAME_EXCHANGE) !== 0) throw EINVAL;
}

export async function sys_renameat2(
  task: task_struct,
  olddfd: number,
  oldname: string,
  newdfd: number,
  newname: string,
  flags: number,
): Promise<void> {
  check_flags(flags);
  const from = await filename_parentat(task, olddfd, oldname);
  try {
    const to = await filename_parentat(task, newdfd, newname);
    try {
      if (from.path.mnt !== to.path.mnt) throw EXDEV;
      if (from.last_type !== LAST_NORM) throw EBUSY;
      if (to.last_type !== LAST_NORM) throw (flags & RENAME_NOREPLACE) !== 0 ? EEXIST : EBUSY;
      await rename_between(from, to, flags);
    } finally {
      await path_put(to.path);
    }
  } finally {
    await path_put(from.path);
  }
}

async function rename_between(
  from: parent_lookup,
  to: parent_lookup,
  flags: number,
): Promise<void> {
  const w = mnt_want_write(from.path.mnt);
  if (w) await w;
  const a = from.path.dentry;
  const b = to.path.dentry;
  let replaced: inode | null = null;
  try {
    const trap = await lock_rename(b, a);
    try {
      const old_dentry = await __lookup(a, from.last, 0);
      try {
        if (old_dentry.d_inode === null) throw ENOENT;
        const exchange = (flags & RENAME_EXCHANGE) !== 0;
        const target_flags = LOOKUP_RENAME_TARGET | (exchange ? 0 : LOOKUP_CREATE | LOOKUP_EXCL);
        const new_dentry = await __lookup(b, to.last, target_flags);
        try {
          check_ends(old_dentry, new_dentry, from, to, flags);
          if (old_dentry === trap) throw EINVAL;
          if (new_dentry === trap) throw exchange ? EINVAL : ENOTEMPTY;
          // Kept so that a replaced file is truncated after the directories are unlocked.
          replaced = new_dentry.d_inode;
          if (replaced !== null) ihold(replaced);
          await vfs_rename({
            old_dir: a.d_inode!,
            old: old_dentry,
            new_dir: b.d_inode!,
            new: new_dentry,
            flags,
          });
        } finally {
          await dput(new_dentry);
        }
      } finally {
        await dput(old_dentry);
      }
    } finally {
      unlock_rename(a, b);
    }
  } finally {
    await iput(replaced);
    mnt_drop_write(from.path.mnt);
  }
}

/** Existence, kinds and trailing slashes of the two names. */
function check_ends(
  old_dentry: dentry,
  new_dentry: dentry,
  from: parent_lookup,
  to: parent_lookup,
  flags: number,
): void {
  const exchange = (flags & RENAME_EXCHANGE) !== 0;
  if ((flags & RENAME_NOREPLACE) !== 0 && new_dentry.d_inode !== null) throw EEXIST;
  if (exchange) {
    if (new_dentry.d_inode === null) throw ENOENT;
    if (!d_is_dir(new_dentry) && to.trailing) throw ENOTDIR;
  }
  if (!d_is_dir(old_dentry)) {
    if (from.trailing) throw ENOTDIR;
    if (!exchange && to.trailing) throw ENOTDIR;
  }
}

export const sys_rename = (task: task_struct, oldname: string, newname: string): Promise<void> =>
  sys_renameat2(task, AT_FDCWD, oldname, AT_FDCWD, newname, 0);
