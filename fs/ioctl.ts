/**
 * fs/ioctl.ts - ioctls that every filesystem shares. Linux: fs/ioctl.c, clone and dedupe in
 * fs/remap_range.c.
 * Differs: commands are names and arguments are objects of the command's own shape:
 *
 *   FS_IOC_GETFLAGS                       -> flags (FS_*_FL)
 *   FS_IOC_SETFLAGS      flags
 *   FS_IOC_FSGETXATTR                     -> fsxattr
 *   FS_IOC_FSSETXATTR    fsxattr
 *   FS_IOC_FIEMAP        fiemap           -> fiemap_extent_info
 *   FIBMAP               block            -> block on the device, 0 for a hole
 *   FIGETBSZ                              -> bytes
 *   FIFREEZE, FITHAW
 *   FICLONE              source descriptor
 *   FICLONERANGE         clone_range
 *   FIDEDUPERANGE        dedupe_range     -> dedupe_result[]
 *   FIONREAD                              -> bytes
 * The others go to file_operations.unlocked_ioctl: FITRIM, EXT4_IOC_SHUTDOWN, BLK*, ...
 */
import { CAP_SYS_RAWIO } from "../kernel/include/cred.ts";
import {
  EINVAL,
  EISDIR,
  ENOTTY,
  EOPNOTSUPP,
  EPERM,
  ERANGE,
  EXDEV,
} from "../kernel/include/errno.ts";
import type { file, fileattr, fiemap_extent_info } from "../kernel/include/fs.ts";
import { FMODE_READ } from "../kernel/include/fs.ts";
import { S_ISDIR, S_ISREG } from "../kernel/include/stat.ts";
import { capable } from "../kernel/cred.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { file_end_write, file_start_write } from "../kernel/vfs/super.ts";
import { generic_file_rw_checks } from "./copy_file_range.ts";
import { fget, with_fd } from "./file.ts";
import {
  fileattr_fill_flags,
  fileattr_fill_xflags,
  new_fileattr,
  vfs_fileattr_get,
  vfs_fileattr_set,
} from "./fileattr.ts";
import { ioctl_fsfreeze, ioctl_fsthaw } from "./freeze.ts";
import { mnt_drop_write_file, mnt_want_write_file } from "./mount.ts";
import { fput } from "../kernel/vfs/file.ts";

export * from "./fileattr.ts";
export { fiemap_fill_next_extent, fiemap_prep } from "./iomap/fiemap.ts";

/** What FS_IOC_FSGETXATTR shows: of a fileattr, the second form. */
export interface fsxattr {
  fsx_xflags: number;
  fsx_extsize: number;
  fsx_nextents: number;
  fsx_projid: number;
  fsx_cowextsize: number;
}
export interface fiemap_args {
  start: number; // bytes
  length: number; // bytes; may be 2^64-1
  flags: number; // FIEMAP_FLAG_*
  /** 0: only count. */
  max_extents: number;
}
export interface clone_range {
  src_fd: number;
  src_offset: number;
  src_length: number;
  dest_offset: number;
}
export interface dedupe_range {
  src_offset: number;
  src_length: number;
  dests: { fd: number; offset: number }[];
}

// --- flags ---

async function ioctl_getflags(f: file): Promise<number> {
  const fa = new_fileattr();
  await vfs_fileattr_get(f.f_path.dentry, fa);
  return fa.flags;
}

async function set_fileattr(f: file, fa: fileattr): Promise<void> {
  const p = mnt_want_write_file(f);
  if (p) await p;
  try {
    await vfs_fileattr_set(f.f_path.dentry, fa);
  } finally {
    mnt_drop_write_file(f);
  }
}

async function ioctl_fsgetxattr(f: file): Promise<fsxattr> {
  const fa = new_fileattr();
  await vfs_fileattr_get(f.f_path.dentry, fa);
  const { fsx_xflags, fsx_extsize, fsx_nextents, fsx_projid, fsx_cowextsize } = fa;
  return { fsx_xflags, fsx_extsize, fsx_nextents, fsx_projid, fsx_cowextsize };
}

async function ioctl_setflags(f: file, flags: number): Promise<number> {
  const fa = new_fileattr();
  fileattr_fill_flags(fa, flags);
  await set_fileattr(f, fa);
  return 0;
}

async function ioctl_fssetxattr(f: file, arg: fsxattr): Promise<number> {
  const fa = new_fileattr();
  fileattr_fill_xflags(fa, arg.fsx_xflags);
  fa.fsx_extsize = arg.fsx_extsize;
  fa.fsx_projid = arg.fsx_projid;
  fa.fsx_cowextsize = arg.fsx_cowextsize;
  await set_fileattr(f, fa);
  return 0;
}

// --- block map ---

async function ioctl_fiemap(f: file, arg: fiemap_args): Promise<fiemap_extent_info> {
  const inode = f.f_inode;
  if (inode.i_op.fiemap === undefined) throw EOPNOTSUPP;
  const fi: fiemap_extent_info = {
    fi_flags: arg.flags,
    fi_extents_max: arg.max_extents,
    fi_extents_mapped: 0,
    fi_extents: [],
  };
  await inode.i_op.fiemap(inode, fi, arg.start, arg.length);
  return fi;
}

async function ioctl_fibmap(f: file, block: number): Promise<number> {
  if (!capable(f.kernel, CAP_SYS_RAWIO)) throw EPERM;
  if (block < 0) throw EINVAL;
  const { bmap } = f.f_mapping.a_ops;
  if (bmap === undefined) throw EINVAL;
  const found = await bmap.call(f.f_mapping.a_ops, f.f_mapping, block);
  if (found > 0x7fffffff) throw ERANGE;
  return found;
}

// --- sharing ---

async function clone_range_to(
  fin: file,
  off: number,
  fout: file,
  dest: number,
  len: number,
): Promise<number> {
  if (fin.f_inode.i_sb !== fout.f_inode.i_sb) throw EXDEV;
  generic_file_rw_checks(fin, fout);
  if (fin.f_op.remap_file_range === undefined) throw EOPNOTSUPP;
  if (off < 0 || dest < 0) throw EINVAL;
  const p = file_start_write(fout);
  if (p) await p;
  try {
    const done = await fin.f_op.remap_file_range(fin, off, fout, dest, len, 0);
    if (len !== 0 && done !== len) throw EINVAL;
    return 0;
  } finally {
    file_end_write(fout);
  }
}

async function ioctl_clone(task: task_struct, dst: file, a: clone_range): Promise<number> {
  const src = fget(task, a.src_fd);
  try {
    return await clone_range_to(src, a.src_offset, dst, a.dest_offset, a.src_length);
  } finally {
    await fput(src);
  }
}

const REMAP_FILE_DEDUP = 1;
export const FILE_DEDUPE_RANGE_DIFFERS = 1;

export interface dedupe_result {
  bytes_deduped: number;
  /** 0, FILE_DEDUPE_RANGE_DIFFERS, or the error. */
  status: unknown;
}

async function ioctl_dedupe(
  task: task_struct,
  src: file,
  a: dedupe_range,
): Promise<dedupe_result[]> {
  if ((src.f_mode & FMODE_READ) === 0) throw EINVAL;
  if (S_ISDIR(src.f_inode.i_mode)) throw EISDIR;
  if (!S_ISREG(src.f_inode.i_mode)) throw EINVAL;
  const remap = src.f_op.remap_file_range;
  if (remap === undefined) throw EOPNOTSUPP;
  const out: dedupe_result[] = [];
  for (const d of a.dests) {
    try {
      const bytes_deduped = await with_fd(task, d.fd, (dst) => {
        if (src.f_inode.i_sb !== dst.f_inode.i_sb) throw EXDEV;
        const { src_offset, src_length } = a;
        return remap.call(src.f_op, src, src_offset, dst, d.offset, src_length, REMAP_FILE_DEDUP);
      });
      out.push({ bytes_deduped, status: bytes_deduped > 0 ? 0 : FILE_DEDUPE_RANGE_DIFFERS });
    } catch (status) {
      out.push({ bytes_deduped: 0, status });
    }
  }
  return out;
}

// --- the call ---

/** Commands for regular files only. */
async function file_ioctl(f: file, cmd: string, arg: unknown): Promise<unknown> {
  if (cmd === "FIBMAP") return ioctl_fibmap(f, arg as number);
  if (cmd === "FIONREAD") return f.f_inode.i_size - f.f_pos;
  return vfs_ioctl(f, cmd, arg);
}

async function vfs_ioctl(f: file, cmd: string, arg: unknown): Promise<unknown> {
  if (f.f_op.unlocked_ioctl === undefined) throw ENOTTY;
  return f.f_op.unlocked_ioctl(f, cmd, arg);
}

async function do_vfs_ioctl(
  task: task_struct,
  f: file,
  cmd: string,
  arg: unknown,
): Promise<unknown> {
  switch (cmd) {
    case "FIFREEZE":
      return ioctl_fsfreeze(f);
    case "FITHAW":
      return ioctl_fsthaw(f);
    case "FS_IOC_FIEMAP":
      return ioctl_fiemap(f, arg as fiemap_args);
    case "FIGETBSZ":
      if (f.f_inode.i_sb.s_blocksize === 0) throw EINVAL;
      return f.f_inode.i_sb.s_blocksize;
    case "FICLONE":
      return ioctl_clone(task, f, {
        src_fd: arg as number,
        src_offset: 0,
        src_length: 0,
        dest_offset: 0,
      });
    case "FICLONERANGE":
      return ioctl_clone(task, f, arg as clone_range);
    case "FIDEDUPERANGE":
      return ioctl_dedupe(task, f, arg as dedupe_range);
    case "FS_IOC_GETFLAGS":
      return ioctl_getflags(f);
    case "FS_IOC_SETFLAGS":
      return ioctl_setflags(f, arg as number);
    case "FS_IOC_FSGETXATTR":
      return ioctl_fsgetxattr(f);
    case "FS_IOC_FSSETXATTR":
      return ioctl_fssetxattr(f, arg as fsxattr);
    default:
      return S_ISREG(f.f_inode.i_mode) ? file_ioctl(f, cmd, arg) : vfs_ioctl(f, cmd, arg);
  }
}

export function sys_ioctl(
  task: task_struct,
  fd: number,
  cmd: string,
  arg: unknown = 0,
): Promise<unknown> {
  return with_fd(task, fd, (f) => do_vfs_ioctl(task, f, cmd, arg));
}
