/**
 * fs/file_open.ts - a place becomes an open file. Linux: do_dentry_open, do_truncate in fs/open.c.
 * Paths and flags before it: fs/namei/open.ts. System calls: fs/open.ts.
 */
import type { cred } from "../kernel/include/cred.ts";
import { EINVAL } from "../kernel/include/errno.ts";
import {
  O_ACCMODE,
  O_CREAT,
  O_DIRECT,
  O_EXCL,
  O_NOCTTY,
  O_PATH,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
} from "../kernel/include/fcntl.ts";
import type { dentry, file, file_operations, inode, path } from "../kernel/include/fs.ts";
import {
  ATTR_CTIME,
  ATTR_FORCE,
  ATTR_MTIME,
  ATTR_OPEN,
  ATTR_SIZE,
  FMODE_ATOMIC_POS,
  FMODE_CAN_ODIRECT,
  FMODE_CAN_READ,
  FMODE_CAN_WRITE,
  FMODE_LSEEK,
  FMODE_OPENED,
  FMODE_PATH,
  FMODE_PREAD,
  FMODE_PWRITE,
  FMODE_READ,
  FMODE_WRITE,
  FMODE_WRITER,
} from "../kernel/include/fs.ts";
import { S_ISBLK, S_ISCHR, S_ISDIR, S_ISFIFO, S_ISREG, S_ISSOCK } from "../kernel/include/stat.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { alloc_file, fput } from "../kernel/vfs/file.ts";
import {
  get_write_access,
  inode_lock,
  inode_unlock,
  put_write_access,
} from "../kernel/vfs/inode.ts";
import { filemap_sample_wb_err } from "../mm/filemap.ts";
import { new_iattr, notify_change, setattr_should_drop_suidgid } from "./attr.ts";
import { path_get } from "./dcache.ts";
import { __mnt_drop_write, __mnt_want_write } from "./mount.ts";

const path_fops: file_operations = Object.freeze({ name: "O_PATH" });

function open_fmode(flags: number): number {
  switch (flags & O_ACCMODE) {
    case O_WRONLY:
      return FMODE_WRITE;
    case O_RDWR:
      return FMODE_READ | FMODE_WRITE;
    case 0:
      return FMODE_READ;
    default: // 3: neither, for ioctl only
      return 0;
  }
}

const special_file = (mode: number): boolean =>
  S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode);

/**
 * Opens the inode of `p`, which keeps its own references. Every check of permission lies behind.
 */
export async function vfs_open(kernel: Kernel, p: path, flags: number, cred: cred): Promise<file> {
  const inode = p.dentry.d_inode!;
  const f = alloc_file(kernel, path_get({ mnt: p.mnt, dentry: p.dentry }), inode, flags, cred);
  try {
    await do_dentry_open(f, inode);
  } catch (e) {
    await fput(f);
    throw e;
  }
  return f;
}

async function do_dentry_open(f: file, inode: inode): Promise<void> {
  f.f_wb_err = filemap_sample_wb_err(f.f_mapping);
  f.f_sb_err = inode.i_sb.s_wb_err;
  if ((f.f_flags & O_PATH) !== 0) {
    f.f_mode = FMODE_PATH | FMODE_OPENED;
    f.f_op = path_fops;
    return;
  }
  f.f_mode = open_fmode(f.f_flags) | FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE;
  if ((f.f_mode & FMODE_WRITE) !== 0 && !special_file(inode.i_mode)) take_write(f, inode);
  if (S_ISREG(inode.i_mode) || S_ISDIR(inode.i_mode)) f.f_mode |= FMODE_ATOMIC_POS;
  try {
    if (f.f_op.open !== undefined) await f.f_op.open(inode, f);
    f.f_mode |= FMODE_OPENED;
    finish_mode(f);
  } catch (e) {
    if ((f.f_mode & FMODE_OPENED) === 0) drop_write(f, inode);
    throw e;
  }
}

function take_write(f: file, inode: inode): void {
  get_write_access(inode);
  try {
    __mnt_want_write(f.f_path.mnt);
  } catch (e) {
    put_write_access(inode);
    throw e;
  }
  f.f_mode |= FMODE_WRITER;
}

function drop_write(f: file, inode: inode): void {
  if ((f.f_mode & FMODE_WRITER) === 0) return;
  f.f_mode &= ~FMODE_WRITER;
  put_write_access(inode);
  __mnt_drop_write(f.f_path.mnt);
}

/** What the file can do, from what its operations have. */
function finish_mode(f: file): void {
  const op = f.f_op;
  if ((f.f_mode & FMODE_READ) !== 0 && op.read_iter !== undefined) f.f_mode |= FMODE_CAN_READ;
  if ((f.f_mode & FMODE_WRITE) !== 0 && op.write_iter !== undefined) f.f_mode |= FMODE_CAN_WRITE;
  if ((f.f_mode & FMODE_LSEEK) !== 0 && op.llseek === undefined) f.f_mode &= ~FMODE_LSEEK;
  if (f.f_mapping.a_ops.direct_IO !== undefined) f.f_mode |= FMODE_CAN_ODIRECT;
  f.f_flags &= ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC);
  if ((f.f_flags & O_DIRECT) !== 0 && (f.f_mode & FMODE_CAN_ODIRECT) === 0) throw EINVAL;
}

/**
 * Sets the size through notify_change; set-id bits go with it. `time_attrs`: more ATTR_* to set.
 */
export async function do_truncate(
  d: dentry,
  length: number,
  time_attrs: number,
  f: file | null,
): Promise<void> {
  const inode = d.d_inode!;
  if (length < 0) throw EINVAL;
  const attr = new_iattr(ATTR_SIZE | time_attrs, f);
  attr.ia_size = length;
  const kill = setattr_should_drop_suidgid(inode);
  if (kill !== 0) attr.ia_valid |= kill | ATTR_FORCE;
  const p = inode_lock(inode);
  if (p) await p;
  try {
    await notify_change(d, attr);
  } finally {
    inode_unlock(inode);
  }
}

/** O_TRUNC of an existing file that has just been opened. */
export async function handle_truncate(f: file): Promise<void> {
  const inode = f.f_inode;
  get_write_access(inode);
  try {
    await do_truncate(f.f_path.dentry, 0, ATTR_MTIME | ATTR_CTIME | ATTR_OPEN, f);
  } finally {
    put_write_access(inode);
  }
}
