/**
 * fs/stat.ts - attributes for those who ask. Linux: fs/stat.c, fs/statfs.c.
 * fstat of an open file answers without a promise unless the filesystem's getattr sleeps.
 */
import { EINVAL, ENOENT, ENOSYS } from "../kernel/include/errno.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_NO_AUTOMOUNT,
  AT_SYMLINK_NOFOLLOW,
} from "../kernel/include/fcntl.ts";
import type { Sometime, dentry, inode, kstat, kstatfs, path } from "../kernel/include/fs.ts";
import {
  MNT_NOATIME,
  MNT_NODEV,
  MNT_NODIRATIME,
  MNT_NOEXEC,
  MNT_NOSUID,
  MNT_READONLY,
  MNT_RELATIME,
  SB_RDONLY,
  SB_SYNCHRONOUS,
  S_DAX,
} from "../kernel/include/fs.ts";
import {
  STATX_ATTR_AUTOMOUNT,
  STATX_ATTR_DAX,
  STATX_ATTR_MOUNT_ROOT,
} from "../kernel/include/stat.ts";
import { note_access } from "../kernel/sched/core.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { touch_atime } from "./atime.ts";
import { d_is_symlink } from "./dcache.ts";
import { fcheck_raw, with_fd_raw } from "./file.ts";
import { LOOKUP_EMPTY, LOOKUP_FOLLOW, get_link, with_path } from "./namei/walk.ts";

export function new_kstat(): kstat {
  const zero = { tv_sec: 0, tv_nsec: 0 };
  return {
    dev: 0,
    ino: 0,
    mode: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    rdev: 0,
    size: 0,
    blksize: 0,
    blocks: 0,
    atime: zero,
    mtime: zero,
    ctime: zero,
    btime: null,
    attributes: 0,
    attributes_mask: 0,
    dio_mem_align: 0,
    dio_offset_align: 0,
  };
}

/** What every inode has. For i_op.getattr. */
export function generic_fillattr(inode: inode, stat: kstat): void {
  stat.dev = inode.i_sb.s_dev;
  stat.ino = inode.i_ino;
  stat.mode = inode.i_mode;
  stat.nlink = inode.i_nlink;
  stat.uid = inode.i_uid;
  stat.gid = inode.i_gid;
  stat.rdev = inode.i_rdev;
  stat.size = inode.i_size;
  stat.atime = inode.i_atime;
  stat.mtime = inode.i_mtime;
  stat.ctime = inode.i_ctime;
  stat.blksize = 2 ** inode.i_blkbits;
  stat.blocks = inode.i_blocks;
}

/** Fills `stat`; `request_mask` STATX_* tells what the caller wants beyond the basics. */
export function vfs_getattr(
  p: path,
  stat: kstat,
  request_mask: number,
  flags: number,
): Sometime<void> {
  const inode = p.dentry.d_inode!;
  note_access(inode.kernel, inode.i_rwsem, false);
  stat.btime = null;
  stat.attributes = 0;
  stat.attributes_mask = STATX_ATTR_AUTOMOUNT | STATX_ATTR_DAX;
  stat.dio_mem_align = 0;
  stat.dio_offset_align = 0;
  if ((inode.i_flags & S_DAX) !== 0) stat.attributes |= STATX_ATTR_DAX;
  const op = inode.i_op.getattr;
  if (op !== undefined) return op.call(inode.i_op, p, stat, request_mask, flags);
  generic_fillattr(inode, stat);
  return undefined;
}

/** `stat` may be given to be filled again. */
export function sys_fstat(
  task: task_struct,
  fd: number,
  stat: kstat = new_kstat(),
): Sometime<kstat> {
  const p = vfs_getattr(fcheck_raw(task, fd).f_path, stat, 0, 0);
  return p ? p.then(() => stat) : stat;
}

async function stat_path(p: path, mask: number, flags: number): Promise<kstat> {
  const stat = new_kstat();
  await vfs_getattr(p, stat, mask, flags);
  if (p.dentry === p.mnt.mnt_root) stat.attributes |= STATX_ATTR_MOUNT_ROOT;
  stat.attributes_mask |= STATX_ATTR_MOUNT_ROOT;
  return stat;
}

/** statx: AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH with "" for the descriptor itself. */
export function sys_statx(
  task: task_struct,
  dfd: number,
  name: string,
  flags: number,
  mask: number,
): Promise<kstat> {
  const known = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | 0x6000;
  if ((flags & ~known) !== 0 || (flags & 0x6000) === 0x6000) return Promise.reject(EINVAL);
  let look = (flags & AT_SYMLINK_NOFOLLOW) !== 0 ? 0 : LOOKUP_FOLLOW;
  if ((flags & AT_EMPTY_PATH) !== 0) look |= LOOKUP_EMPTY;
  return with_path(task, dfd, name, look, (p) => stat_path(p, mask, flags));
}

export const sys_newfstatat = (
  task: task_struct,
  dfd: number,
  name: string,
  flags: number,
): Promise<kstat> => sys_statx(task, dfd, name, flags, 0);

export const sys_stat = (task: task_struct, name: string): Promise<kstat> =>
  sys_statx(task, AT_FDCWD, name, 0, 0);
export const sys_lstat = (task: task_struct, name: string): Promise<kstat> =>
  sys_statx(task, AT_FDCWD, name, AT_SYMLINK_NOFOLLOW, 0);

/** The text of a symlink. EINVAL for anything else. */
export function sys_readlinkat(task: task_struct, dfd: number, name: string): Promise<string> {
  return with_path(task, dfd, name, LOOKUP_EMPTY, async (p) => {
    const inode = p.dentry.d_inode!;
    if (!d_is_symlink(p.dentry)) throw name === "" ? ENOENT : EINVAL;
    await touch_atime(p);
    return get_link(p.dentry, inode);
  });
}

export const sys_readlink = (task: task_struct, name: string): Promise<string> =>
  sys_readlinkat(task, AT_FDCWD, name);

// --- statfs ---

const ST_VALID = 0x20;
const ST_RDONLY = 1;
const ST_NOSUID = 2;
const ST_NODEV = 4;
const ST_NOEXEC = 8;
const ST_SYNCHRONOUS = 16;
const ST_NOATIME = 0x400;
const ST_NODIRATIME = 0x800;
const ST_RELATIME = 0x1000;

const BY_MNT = [
  [MNT_READONLY, ST_RDONLY],
  [MNT_NOSUID, ST_NOSUID],
  [MNT_NODEV, ST_NODEV],
  [MNT_NOEXEC, ST_NOEXEC],
  [MNT_NOATIME, ST_NOATIME],
  [MNT_NODIRATIME, ST_NODIRATIME],
  [MNT_RELATIME, ST_RELATIME],
] as const;

async function statfs_by_dentry(d: dentry): Promise<kstatfs> {
  const op = d.d_sb.s_op.statfs;
  if (op === undefined) throw ENOSYS;
  const buf: kstatfs = {
    f_type: 0,
    f_bsize: 0,
    f_blocks: 0,
    f_bfree: 0,
    f_bavail: 0,
    f_files: 0,
    f_ffree: 0,
    f_namelen: 0,
    f_frsize: 0,
    f_flags: 0,
    f_fsid: 0,
  };
  await op.call(d.d_sb.s_op, d, buf);
  if (buf.f_frsize === 0) buf.f_frsize = buf.f_bsize;
  return buf;
}

export async function vfs_statfs(p: path): Promise<kstatfs> {
  const buf = await statfs_by_dentry(p.dentry);
  let flags = ST_VALID;
  for (const [mnt_flag, st_flag] of BY_MNT) {
    if ((p.mnt.mnt_flags & mnt_flag) !== 0) flags |= st_flag;
  }
  const { s_flags } = p.mnt.mnt_sb;
  if ((s_flags & SB_RDONLY) !== 0) flags |= ST_RDONLY;
  if ((s_flags & SB_SYNCHRONOUS) !== 0) flags |= ST_SYNCHRONOUS;
  buf.f_flags = flags;
  return buf;
}

export const sys_statfs = (task: task_struct, name: string): Promise<kstatfs> =>
  with_path(task, AT_FDCWD, name, LOOKUP_FOLLOW, vfs_statfs);

export const sys_fstatfs = (task: task_struct, fd: number): Promise<kstatfs> =>
  with_fd_raw(task, fd, (f) => vfs_statfs(f.f_path));
