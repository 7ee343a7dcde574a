/**
 * fs/namei/permission.ts - may the caller do that to this inode? Linux: fs/namei.c
 * (generic_permission,
 * may_create, may_delete, may_open), fs/inode.c (inode_owner_or_capable). No ACLs, no user
 * namespaces.
 */
import {
  CAP_DAC_OVERRIDE,
  CAP_DAC_READ_SEARCH,
  CAP_FOWNER,
  CAP_FSETID,
} from "../../kernel/include/cred.ts";
import {
  EACCES,
  EBUSY,
  EEXIST,
  EISDIR,
  ELOOP,
  ENOENT,
  ENOTDIR,
  EPERM,
  EROFS,
  is_errno,
} from "../../kernel/include/errno.ts";
import { O_ACCMODE, O_APPEND, O_NOATIME, O_RDONLY, O_TRUNC } from "../../kernel/include/fcntl.ts";
import type { dentry, inode, path } from "../../kernel/include/fs.ts";
import {
  MAY_EXEC,
  MAY_OPEN,
  MAY_READ,
  MAY_WRITE,
  MNT_NODEV,
  MNT_NOEXEC,
  SB_I_NOEXEC,
  SB_NOEXEC,
  SB_RDONLY,
  S_APPEND,
  S_DEAD,
  S_IMMUTABLE,
  S_SWAPFILE,
} from "../../kernel/include/fs.ts";
import {
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  S_ISDIR,
  S_ISGID,
  S_ISLNK,
  S_ISREG,
  S_ISUID,
  S_ISVTX,
  S_IWOTH,
  S_IXGRP,
  S_IXUGO,
} from "../../kernel/include/stat.ts";
import { capable, current_cred, in_group_p } from "../../kernel/cred.ts";
import { IS_ROOT, d_is_dir } from "../dcache.ts";

export const IS_APPEND = (i: inode): boolean => (i.i_flags & S_APPEND) !== 0;
export const IS_IMMUTABLE = (i: inode): boolean => (i.i_flags & S_IMMUTABLE) !== 0;
export const IS_DEADDIR = (i: inode): boolean => (i.i_flags & S_DEAD) !== 0;
export const IS_SWAPFILE = (i: inode): boolean => (i.i_flags & S_SWAPFILE) !== 0;

/** The three permission bits that count for the caller. */
function class_bits(inode: inode): number {
  const cred = current_cred(inode.kernel);
  if (cred.fsuid === inode.i_uid) return (inode.i_mode >> 6) & 7;
  if (in_group_p(inode.kernel, inode.i_gid)) return (inode.i_mode >> 3) & 7;
  return inode.i_mode & 7;
}

/** Mode bits, then capabilities. `mask` is MAY_*. */
export function generic_permission(inode: inode, mask: number): void {
  const want = mask & (MAY_READ | MAY_WRITE | MAY_EXEC);
  if ((want & ~class_bits(inode)) === 0) return;
  const { kernel } = inode;
  if (S_ISDIR(inode.i_mode)) {
    if ((want & MAY_WRITE) === 0 && capable(kernel, CAP_DAC_READ_SEARCH)) return;
    if (capable(kernel, CAP_DAC_OVERRIDE)) return;
    throw EACCES;
  }
  if (want === MAY_READ && capable(kernel, CAP_DAC_READ_SEARCH)) return;
  const may_run = (want & MAY_EXEC) === 0 || (inode.i_mode & S_IXUGO) !== 0;
  if (may_run && capable(kernel, CAP_DAC_OVERRIDE)) return;
  throw EACCES;
}

/** EROFS, EPERM (immutable), EACCES; nothing when `mask` is allowed. */
export function inode_permission(inode: inode, mask: number): void {
  if ((mask & MAY_WRITE) !== 0) {
    const { i_mode } = inode;
    const kept = S_ISREG(i_mode) || S_ISDIR(i_mode) || S_ISLNK(i_mode);
    if (kept && (inode.i_sb.s_flags & SB_RDONLY) !== 0) throw EROFS;
    if (IS_IMMUTABLE(inode)) throw EPERM;
  }
  if (inode.i_op.permission !== undefined) inode.i_op.permission(inode, mask);
  else generic_permission(inode, mask);
}

/** Owner of the file, or CAP_FOWNER. */
export function inode_owner_or_capable(inode: inode): boolean {
  return current_cred(inode.kernel).fsuid === inode.i_uid || capable(inode.kernel, CAP_FOWNER);
}

/**
 * fs.protected_symlinks=1, as distributions have it: in a sticky directory that everybody can write
 * to, nobody follows the last link of a path but its owner, unless the directory's owner made it.
 */
export function may_follow_link(dir: inode, link: inode): void {
  if ((dir.i_mode & (S_ISVTX | S_IWOTH)) !== (S_ISVTX | S_IWOTH) || dir.i_uid === link.i_uid)
    return;
  if (current_cred(link.kernel).fsuid !== link.i_uid) throw EACCES;
}

/**
 * fs.protected_hardlinks=1, as distributions have it: who does not own a file may give it another
 * name only if it is a plain one that he can read and write.
 */
export function may_linkat(inode: inode): void {
  const { i_mode } = inode;
  const set_gid = (i_mode & (S_ISGID | S_IXGRP)) === (S_ISGID | S_IXGRP);
  if (S_ISREG(i_mode) && (i_mode & S_ISUID) === 0 && !set_gid && may_read_and_write(inode)) return;
  if (!inode_owner_or_capable(inode)) throw EPERM;
}

function may_read_and_write(inode: inode): boolean {
  try {
    inode_permission(inode, MAY_READ | MAY_WRITE);
    return true;
  } catch (e) {
    if (!is_errno(e)) throw e;
    return false;
  }
}

/** May a file of group `gid` keep its set-gid bit when the caller changes it? */
export function in_group_or_capable(inode: inode, gid: number): boolean {
  return in_group_p(inode.kernel, gid) || capable(inode.kernel, CAP_FSETID);
}

/**
 * A file made in a set-gid directory by one outside its group loses set-gid with group execution.
 */
export function mode_strip_sgid(dir: inode, mode: number): number {
  if ((mode & (S_ISGID | 0o010)) !== (S_ISGID | 0o010)) return mode;
  if (S_ISDIR(mode) || (dir.i_mode & S_ISGID) === 0) return mode;
  return in_group_or_capable(dir, dir.i_gid) ? mode : mode & ~S_ISGID;
}

/** In a sticky directory only the owners of file and directory (and CAP_FOWNER) may remove. */
function check_sticky(dir: inode, inode: inode): boolean {
  if ((dir.i_mode & S_ISVTX) === 0) return false;
  const { fsuid } = current_cred(dir.kernel);
  if (inode.i_uid === fsuid || dir.i_uid === fsuid) return false;
  return !capable(dir.kernel, CAP_FOWNER);
}

/** May a name be made in `dir`? `child` is its dentry, looked up under i_rwsem. */
export function may_create(dir: inode, child: dentry): void {
  if (child.d_inode !== null) throw EEXIST;
  if (IS_DEADDIR(dir)) throw ENOENT;
  inode_permission(dir, MAY_WRITE | MAY_EXEC);
}

/** May `victim` be removed from `dir`? `isdir`: rmdir, or rename of a directory. */
export function may_delete(dir: inode, victim: dentry, isdir: boolean): void {
  const inode = victim.d_inode;
  if (inode === null) throw ENOENT;
  inode_permission(dir, MAY_WRITE | MAY_EXEC);
  if (IS_APPEND(dir)) throw EPERM;
  if (check_sticky(dir, inode) || IS_APPEND(inode) || IS_IMMUTABLE(inode) || IS_SWAPFILE(inode)) {
    throw EPERM;
  }
  if (isdir) {
    if (!d_is_dir(victim)) throw ENOTDIR;
    if (IS_ROOT(victim)) throw EBUSY;
  } else if (d_is_dir(victim)) throw EISDIR;
  if (IS_DEADDIR(dir)) throw ENOENT;
}

export function path_noexec(p: path): boolean {
  return (
    (p.mnt.mnt_flags & MNT_NOEXEC) !== 0 ||
    (p.mnt.mnt_sb.s_flags & SB_NOEXEC) !== 0 ||
    (p.mnt.mnt_sb.s_iflags & SB_I_NOEXEC) !== 0
  );
}

/** Kind, permission and append rules of an open. `acc_mode` is MAY_*, `flag` is O_*. */
export function may_open(p: path, acc_mode: number, flag: number): void {
  const inode = p.dentry.d_inode;
  if (inode === null) throw ENOENT;
  switch (inode.i_mode & S_IFMT) {
    case S_IFLNK:
      throw ELOOP;
    case S_IFDIR:
      if ((acc_mode & MAY_WRITE) !== 0) throw EISDIR;
      if ((acc_mode & MAY_EXEC) !== 0) throw EACCES;
      break;
    case S_IFBLK:
    case S_IFCHR:
      if ((p.mnt.mnt_flags & MNT_NODEV) !== 0) throw EACCES;
      if ((acc_mode & MAY_EXEC) !== 0) throw EACCES;
      flag &= ~O_TRUNC;
      break;
    case S_IFIFO:
    case S_IFSOCK:
      if ((acc_mode & MAY_EXEC) !== 0) throw EACCES;
      flag &= ~O_TRUNC;
      break;
    case S_IFREG:
      if ((acc_mode & MAY_EXEC) !== 0 && path_noexec(p)) throw EACCES;
      break;
    default:
      break;
  }
  inode_permission(inode, MAY_OPEN | acc_mode);
  if (IS_APPEND(inode)) {
    if ((flag & O_ACCMODE) !== O_RDONLY && (flag & O_APPEND) === 0) throw EPERM;
    if ((flag & O_TRUNC) !== 0) throw EPERM;
  }
  if ((flag & O_NOATIME) !== 0 && !inode_owner_or_capable(inode)) throw EPERM;
}
