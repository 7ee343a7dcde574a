/**
 * fs/fileattr.ts - inode flags in their two forms. Linux: include/linux/fileattr.h, the fileattr
 * part of fs/ioctl.c.
 * FS_IOC_SETFLAGS fills `flags` and derives the xflags, FS_IOC_FSSETXATTR the other way round; what
 * only the other form knows is kept from the inode.
 */
import { CAP_LINUX_IMMUTABLE } from "../kernel/include/cred.ts";
import { EINVAL, ENOTTY, EPERM } from "../kernel/include/errno.ts";
import type { dentry, fileattr, inode } from "../kernel/include/fs.ts";
import {
  FS_APPEND_FL,
  FS_COMMON_FL,
  FS_DAX_FL,
  FS_IMMUTABLE_FL,
  FS_NOATIME_FL,
  FS_NODUMP_FL,
  FS_PROJINHERIT_FL,
  FS_SYNC_FL,
  FS_XFLAG_APPEND,
  FS_XFLAG_COMMON,
  FS_XFLAG_COWEXTSIZE,
  FS_XFLAG_DAX,
  FS_XFLAG_EXTSIZE,
  FS_XFLAG_EXTSZINHERIT,
  FS_XFLAG_IMMUTABLE,
  FS_XFLAG_NOATIME,
  FS_XFLAG_NODUMP,
  FS_XFLAG_PROJINHERIT,
  FS_XFLAG_SYNC,
} from "../kernel/include/fsflags.ts";
import { S_ISDIR, S_ISREG } from "../kernel/include/stat.ts";
import { capable } from "../kernel/cred.ts";
import { inode_lock, inode_unlock } from "../kernel/vfs/inode.ts";
import { inode_owner_or_capable } from "./namei/permission.ts";

const PAIRS = [
  [FS_SYNC_FL, FS_XFLAG_SYNC],
  [FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE],
  [FS_APPEND_FL, FS_XFLAG_APPEND],
  [FS_NODUMP_FL, FS_XFLAG_NODUMP],
  [FS_NOATIME_FL, FS_XFLAG_NOATIME],
  [FS_DAX_FL, FS_XFLAG_DAX],
  [FS_PROJINHERIT_FL, FS_XFLAG_PROJINHERIT],
] as const;

export function new_fileattr(): fileattr {
  return {
    flags: 0,
    fsx_xflags: 0,
    fsx_extsize: 0,
    fsx_nextents: 0,
    fsx_projid: 0,
    fsx_cowextsize: 0,
    flags_valid: false,
    fsx_valid: false,
  };
}

/** From FS_*_FL. */
export function fileattr_fill_flags(fa: fileattr, flags: number): void {
  Object.assign(fa, new_fileattr());
  fa.flags_valid = true;
  fa.flags = flags;
  for (const [fl, xfl] of PAIRS) if ((flags & fl) !== 0) fa.fsx_xflags |= xfl;
}

/** From FS_XFLAG_*. */
export function fileattr_fill_xflags(fa: fileattr, xflags: number): void {
  Object.assign(fa, new_fileattr());
  fa.fsx_valid = true;
  fa.fsx_xflags = xflags;
  for (const [fl, xfl] of PAIRS) if ((xflags & xfl) !== 0) fa.flags |= fl;
}

/** ENOTTY when the filesystem has no such flags. */
export async function vfs_fileattr_get(d: dentry, fa: fileattr): Promise<void> {
  const op = d.d_inode!.i_op.fileattr_get;
  if (op === undefined) throw ENOTTY;
  await op.call(d.d_inode!.i_op, d, fa);
}

/** Rules that hold for every filesystem. Drops what is set to zero. */
export function fileattr_set_prepare(inode: inode, old: fileattr, fa: fileattr): void {
  const guarded = FS_APPEND_FL | FS_IMMUTABLE_FL;
  if (((fa.flags ^ old.flags) & guarded) !== 0 && !capable(inode.kernel, CAP_LINUX_IMMUTABLE)) {
    throw EPERM;
  }
  const reg = S_ISREG(inode.i_mode);
  const dir = S_ISDIR(inode.i_mode);
  if ((fa.fsx_xflags & FS_XFLAG_EXTSIZE) !== 0 && !reg) throw EINVAL;
  if ((fa.fsx_xflags & FS_XFLAG_EXTSZINHERIT) !== 0 && !dir) throw EINVAL;
  if ((fa.fsx_xflags & FS_XFLAG_COWEXTSIZE) !== 0 && !reg && !dir) throw EINVAL;
  if ((fa.fsx_xflags & FS_XFLAG_DAX) !== 0 && !reg && !dir) throw EINVAL;
  if (fa.fsx_extsize === 0) fa.fsx_xflags &= ~(FS_XFLAG_EXTSIZE | FS_XFLAG_EXTSZINHERIT);
  if (fa.fsx_cowextsize === 0) fa.fsx_xflags &= ~FS_XFLAG_COWEXTSIZE;
}

/** Keeps from `old` what the form that the caller filled in cannot express. */
function fill_rest(fa: fileattr, old: fileattr): void {
  if (fa.flags_valid) {
    fa.fsx_xflags |= old.fsx_xflags & ~FS_XFLAG_COMMON;
    fa.fsx_extsize = old.fsx_extsize;
    fa.fsx_nextents = old.fsx_nextents;
    fa.fsx_projid = old.fsx_projid;
    fa.fsx_cowextsize = old.fsx_cowextsize;
  } else {
    fa.flags |= old.flags & ~FS_COMMON_FL;
  }
}

/** The mount's write access is held. */
export async function vfs_fileattr_set(d: dentry, fa: fileattr): Promise<void> {
  const inode = d.d_inode!;
  if (inode.i_op.fileattr_set === undefined) throw ENOTTY;
  if (!inode_owner_or_capable(inode)) throw EPERM;
  const p = inode_lock(inode);
  if (p) await p;
  try {
    const old = new_fileattr();
    await vfs_fileattr_get(d, old);
    fill_rest(fa, old);
    fileattr_set_prepare(inode, old, fa);
    await inode.i_op.fileattr_set(d, fa);
  } finally {
    inode_unlock(inode);
  }
}
