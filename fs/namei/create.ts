/**
 * fs/namei/create.ts - new names: mkdir, mknod, symlink, link. Linux: fs/namei.c.
 * The pattern of all: filename_create() looks the name up with i_rwsem of the directory held and
 * write access taken; EEXIST wins over EROFS.
 */
import { CAP_DAC_READ_SEARCH, CAP_MKNOD } from "../../kernel/include/cred.ts";
import {
  EEXIST,
  EINVAL,
  EMLINK,
  ENAMETOOLONG,
  ENOENT,
  EPERM,
  EROFS,
  EXDEV,
} from "../../kernel/include/errno.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  PATH_MAX,
} from "../../kernel/include/fcntl.ts";
import type { dentry, inode, path } from "../../kernel/include/fs.ts";
import { I_LINKABLE } from "../../kernel/include/fs.ts";
import {
  MKDEV,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  S_ISDIR,
  S_ISVTX,
} from "../../kernel/include/stat.ts";
import { capable } from "../../kernel/cred.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import {
  I_MUTEX_PARENT,
  inode_lock,
  inode_lock_nested,
  inode_unlock,
} from "../../kernel/vfs/inode.ts";
import { dput } from "../dcache.ts";
import { umask_in } from "../fs_struct.ts";
import { mnt_drop_write, mnt_want_write, path_put } from "../mount.ts";
import { IS_APPEND, IS_IMMUTABLE, may_create, may_linkat, mode_strip_sgid } from "./permission.ts";
import {
  LAST_NORM,
  LOOKUP_CREATE,
  LOOKUP_DIRECTORY,
  LOOKUP_EMPTY,
  LOOKUP_EXCL,
  LOOKUP_FOLLOW,
  __lookup,
  filename_parentat,
  name_bytes,
  path_lookupat,
} from "./walk.ts";

/**
 * Looks the name up for creation and calls `fn` with the directory locked and the negative dentry.
 * `lookup_flags` LOOKUP_DIRECTORY: trailing slashes are allowed.
 */
export async function filename_create(
  task: task_struct,
  dfd: number,
  name: string,
  lookup_flags: number,
  fn: (dir: path, d: dentry) => Promise<void>,
): Promise<void> {
  const at = await filename_parentat(task, dfd, name);
  try {
    if (at.last_type !== LAST_NORM) throw EEXIST;
    await create_in(at.path, at.last, at.trailing, lookup_flags, fn);
  } finally {
    await path_put(at.path);
  }
}

async function create_in(
  p: path,
  last: string,
  trailing: boolean,
  lookup_flags: number,
  fn: (dir: path, d: dentry) => Promise<void>,
): Promise<void> {
  const dir = p.dentry.d_inode!;
  let write_error: unknown = null;
  try {
    const w = mnt_want_write(p.mnt);
    if (w) await w;
  } catch (e) {
    if (e !== EROFS) throw e;
    write_error = e;
  }
  const w = inode_lock_nested(dir, I_MUTEX_PARENT);
  if (w) await w;
  try {
    const no_create = trailing && (lookup_flags & LOOKUP_DIRECTORY) === 0;
    const flags = no_create ? 0 : LOOKUP_CREATE | LOOKUP_EXCL;
    const d = await __lookup(p.dentry, last, flags);
    try {
      if (d.d_inode !== null) throw EEXIST;
      if (no_create) throw ENOENT;
      if (write_error !== null) throw write_error;
      await fn(p, d);
    } finally {
      await dput(d);
    }
  } finally {
    inode_unlock(dir);
    if (write_error === null) mnt_drop_write(p.mnt);
  }
}

function masked(task: task_struct, dir: inode, mode: number, mask: number, type: number): number {
  const m = mode_strip_sgid(dir, mode | type) & ~umask_in(task, dir);
  return (m & mask & ~S_IFMT) | type;
}

export async function vfs_mkdir(
  task: task_struct,
  dir: inode,
  d: dentry,
  mode: number,
): Promise<void> {
  may_create(dir, d);
  if (dir.i_op.mkdir === undefined) throw EPERM;
  const m = masked(task, dir, mode, 0o777 | S_ISVTX, S_IFDIR) & ~S_IFMT;
  const max = dir.i_sb.s_max_links;
  if (max > 0 && dir.i_nlink >= max) throw EMLINK;
  await dir.i_op.mkdir(dir, d, m);
}

export function sys_mkdirat(
  task: task_struct,
  dfd: number,
  name: string,
  mode: number,
): Promise<void> {
  return filename_create(task, dfd, name, LOOKUP_DIRECTORY, (p, d) =>
    vfs_mkdir(task, p.dentry.d_inode!, d, mode),
  );
}

export async function vfs_create(
  task: task_struct,
  dir: inode,
  d: dentry,
  mode: number,
): Promise<void> {
  may_create(dir, d);
  if (dir.i_op.create === undefined) throw EPERM;
  await dir.i_op.create(dir, d, masked(task, dir, mode, 0o7777, S_IFREG), true);
}

/** Device nodes, fifos and sockets. `dev` is MKDEV(). */
export async function vfs_mknod(
  task: task_struct,
  dir: inode,
  d: dentry,
  mode: number,
  dev: number,
): Promise<void> {
  const type = mode & S_IFMT;
  const is_dev = type === S_IFCHR || type === S_IFBLK;
  may_create(dir, d);
  const whiteout = type === S_IFCHR && dev === 0;
  if (is_dev && !whiteout && !capable(dir.kernel, CAP_MKNOD)) throw EPERM;
  if (dir.i_op.mknod === undefined) throw EPERM;
  await dir.i_op.mknod(dir, d, masked(task, dir, mode, 0o7777, type), is_dev ? dev : 0);
}

export async function sys_mknodat(
  task: task_struct,
  dfd: number,
  name: string,
  mode: number,
  major: number,
  minor: number,
): Promise<void> {
  const type = mode & S_IFMT;
  if (type === S_IFDIR) throw EPERM;
  const known = [0, S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK];
  if (!known.includes(type)) throw EINVAL;
  await filename_create(task, dfd, name, 0, (p, d) => {
    const dir = p.dentry.d_inode!;
    if (type === 0 || type === S_IFREG) return vfs_create(task, dir, d, mode);
    return vfs_mknod(task, dir, d, mode, MKDEV(major, minor));
  });
}

export async function vfs_symlink(dir: inode, d: dentry, target: string): Promise<void> {
  may_create(dir, d);
  if (dir.i_op.symlink === undefined) throw EPERM;
  await dir.i_op.symlink(dir, d, target);
}

export async function sys_symlinkat(
  task: task_struct,
  target: string,
  dfd: number,
  name: string,
): Promise<void> {
  if (target === "") throw ENOENT;
  if (name_bytes(target) >= PATH_MAX) throw ENAMETOOLONG;
  await filename_create(task, dfd, name, 0, (p, d) => vfs_symlink(p.dentry.d_inode!, d, target));
}

export async function vfs_link(old: dentry, dir: inode, d: dentry): Promise<void> {
  const inode = old.d_inode;
  if (inode === null) throw ENOENT;
  may_create(dir, d);
  if (dir.i_sb !== inode.i_sb) throw EXDEV;
  if (IS_APPEND(inode) || IS_IMMUTABLE(inode)) throw EPERM;
  if (dir.i_op.link === undefined || S_ISDIR(inode.i_mode)) throw EPERM;
  const p = inode_lock(inode);
  if (p) await p;
  try {
    if (inode.i_nlink === 0 && (inode.i_state & I_LINKABLE) === 0) throw ENOENT;
    const max = dir.i_sb.s_max_links;
    if (max > 0 && inode.i_nlink >= max) throw EMLINK;
    await dir.i_op.link(old, dir, d);
    inode.i_state &= ~I_LINKABLE;
  } finally {
    inode_unlock(inode);
  }
}

export async function sys_linkat(
  task: task_struct,
  olddfd: number,
  oldname: string,
  newdfd: number,
  newname: string,
  flags: number,
): Promise<void> {
  if ((flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)) !== 0) throw EINVAL;
  let how = 0;
  if ((flags & AT_EMPTY_PATH) !== 0) {
    if (!capable(task.kernel, CAP_DAC_READ_SEARCH)) throw ENOENT;
    how = LOOKUP_EMPTY;
  }
  if ((flags & AT_SYMLINK_FOLLOW) !== 0) how |= LOOKUP_FOLLOW;
  const old = await path_lookupat(task, olddfd, oldname, how);
  try {
    await filename_create(task, newdfd, newname, 0, (p, d) => {
      if (old.mnt !== p.mnt) throw EXDEV;
      may_linkat(old.dentry.d_inode!);
      return vfs_link(old.dentry, p.dentry.d_inode!, d);
    });
  } finally {
    await path_put(old);
  }
}

export const sys_mkdir = (task: task_struct, name: string, mode: number): Promise<void> =>
  sys_mkdirat(task, AT_FDCWD, name, mode);
export const sys_symlink = (task: task_struct, target: string, name: string): Promise<void> =>
  sys_symlinkat(task, target, AT_FDCWD, name);
export const sys_link = (task: task_struct, oldname: string, newname: string): Promise<void> =>
  sys_linkat(task, AT_FDCWD, oldname, AT_FDCWD, newname, 0);
export const sys_mknod = (
  task: task_struct,
  name: string,
  mode: number,
  major = 0,
  minor = 0,
): Promise<void> => sys_mknodat(task, AT_FDCWD, name, mode, major, minor);
