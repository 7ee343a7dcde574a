/**
 * fs/ramfs/inode.ts - the file system in memory: the root, and what lies under /mnt when a mount
 * fails.
 * Linux: fs/ramfs/{inode,file-mmu}.c. Page cache only: no block map (FIEMAP), no DAX, no xattrs.
 */
import { EOPNOTSUPP } from "../../kernel/include/errno.ts";
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE } from "../../kernel/include/fcntl.ts";
import type {
  dentry,
  file,
  file_operations,
  file_system_type,
  inode,
  inode_operations,
  kstat,
  path,
  super_block,
} from "../../kernel/include/fs.ts";
import {
  STATX_ATTR_APPEND,
  STATX_ATTR_IMMUTABLE,
  STATX_ATTR_NODUMP,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import {
  current_time,
  i_size_write,
  inc_nlink,
  init_special_inode,
  inode_init_owner,
  insert_inode_hash,
  new_inode,
} from "../../kernel/vfs/inode.ts";
import { get_next_ino } from "../../kernel/vfs/super.ts";
import { generic_file_mmap, generic_file_read_iter } from "../../mm/filemap.ts";
import { truncate_pagecache_range } from "../../mm/truncate.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";
import { d_make_root, d_tmpfile } from "../dcache.ts";
import {
  noop_fsync,
  ram_aops,
  simple_dir_operations,
  simple_link,
  simple_lookup,
  simple_pin,
  simple_rename,
  simple_rmdir,
  simple_statfs,
  simple_unlink,
} from "../libfs.ts";
import { simple_setattr } from "../attr.ts";
import { generic_fillattr } from "../stat.ts";
import { generic_file_llseek, generic_file_write_iter } from "../read_write.ts";
import { kill_litter_super, mount_nodev, register_filesystem } from "../super.ts";

const RAMFS_MAGIC = 0x858458f6;

/** As tmpfs, which the recorded machine's root is: nothing is reserved but the size. */
async function ramfs_fallocate(f: file, mode: number, offset: number, len: number): Promise<void> {
  const inode = f.f_inode;
  if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE)) !== 0) throw EOPNOTSUPP;
  const p = inode.i_rwsem.down_write();
  if (p) await p;
  try {
    if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0) {
      await truncate_pagecache_range(inode, offset, offset + len - 1);
    } else if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && offset + len > inode.i_size) {
      i_size_write(inode, offset + len);
    }
    inode.i_ctime = current_time(inode);
  } finally {
    inode.i_rwsem.up_write();
  }
}

function ramfs_getattr(p: path, stat: kstat): void {
  stat.attributes_mask |= STATX_ATTR_IMMUTABLE | STATX_ATTR_APPEND | STATX_ATTR_NODUMP;
  generic_fillattr(p.dentry.d_inode!, stat);
}

const ramfs_file_operations: file_operations = Object.freeze({
  name: "ramfs_file_operations",
  fallocate: ramfs_fallocate,
  read_iter: generic_file_read_iter,
  write_iter: generic_file_write_iter,
  llseek: generic_file_llseek,
  mmap: generic_file_mmap,
  fsync: noop_fsync,
});

const ramfs_file_iops: inode_operations = Object.freeze({
  setattr: simple_setattr,
  getattr: ramfs_getattr,
});
const ramfs_symlink_iops: inode_operations = Object.freeze({ setattr: simple_setattr });

/** An inode of the superblock, owned as `dir` says. `dev` for device nodes. */
export function ramfs_get_inode(
  sb: super_block,
  dir: inode | null,
  mode: number,
  dev: number,
): inode {
  const inode = new_inode(sb);
  inode.i_ino = get_next_ino(sb.kernel);
  inode_init_owner(inode, dir, mode);
  inode.i_mapping.a_ops = ram_aops;
  inode.i_atime = inode.i_mtime = inode.i_ctime = current_time(inode);
  switch (mode & S_IFMT) {
    case S_IFREG:
      inode.i_op = ramfs_file_iops;
      inode.i_fop = ramfs_file_operations;
      break;
    case S_IFDIR:
      inode.i_op = ramfs_dir_iops;
      inode.i_fop = simple_dir_operations;
      inc_nlink(inode);
      break;
    case S_IFLNK:
      inode.i_op = ramfs_symlink_iops;
      break;
    default:
      inode.i_op = ramfs_file_iops;
      init_special_inode(inode, inode.i_mode, dev);
      break;
  }
  insert_inode_hash(inode);
  return inode;
}

async function ramfs_mknod(dir: inode, d: dentry, mode: number, dev: number): Promise<void> {
  const inode = ramfs_get_inode(dir.i_sb, dir, mode, dev);
  simple_pin(d, inode);
  dir.i_mtime = dir.i_ctime = current_time(dir);
}

async function ramfs_mkdir(dir: inode, d: dentry, mode: number): Promise<void> {
  await ramfs_mknod(dir, d, mode | S_IFDIR, 0);
  inc_nlink(dir);
}

const ramfs_create = (dir: inode, d: dentry, mode: number): Promise<void> =>
  ramfs_mknod(dir, d, (mode & ~S_IFMT) | S_IFREG, 0);

async function ramfs_symlink(dir: inode, d: dentry, target: string): Promise<void> {
  const inode = ramfs_get_inode(dir.i_sb, dir, S_IFLNK | 0o777, 0);
  inode.i_link = target;
  inode.i_size = name_to_bytes(target).length;
  simple_pin(d, inode);
  dir.i_mtime = dir.i_ctime = current_time(dir);
}

async function ramfs_tmpfile(dir: inode, d: dentry, mode: number): Promise<void> {
  d_tmpfile(d, ramfs_get_inode(dir.i_sb, dir, (mode & ~S_IFMT) | S_IFREG, 0));
}

const ramfs_dir_iops: inode_operations = Object.freeze({
  lookup: simple_lookup,
  create: ramfs_create,
  link: simple_link,
  unlink: simple_unlink,
  symlink: ramfs_symlink,
  mkdir: ramfs_mkdir,
  rmdir: simple_rmdir,
  mknod: ramfs_mknod,
  rename: simple_rename,
  tmpfile: ramfs_tmpfile,
  setattr: simple_setattr,
});

/** Fills a superblock of ramfs or a relative. */
export function ramfs_fill_super(sb: super_block, mode = 0o755): void {
  const { kernel } = sb;
  sb.s_maxbytes = Number.MAX_SAFE_INTEGER;
  sb.s_blocksize = kernel.PAGE_SIZE;
  sb.s_blocksize_bits = kernel.PAGE_SHIFT;
  sb.s_magic = RAMFS_MAGIC;
  sb.s_time_gran = 1;
  sb.s_op = ramfs_ops;
  sb.s_root = d_make_root(ramfs_get_inode(sb, null, S_IFDIR | mode, 0));
}

const ramfs_ops = Object.freeze({ name: "ramfs", statfs: simple_statfs });

export const ramfs_fs_type: file_system_type = Object.freeze({
  name: "ramfs",
  fs_flags: 0,
  mount: (kernel: Kernel, flags: number, _dev: string, data: string) =>
    mount_nodev(kernel, ramfs_fs_type, flags, data, (sb) => ramfs_fill_super(sb)),
  kill_sb: kill_litter_super,
});

export function init_ramfs(kernel: Kernel): void {
  register_filesystem(kernel, ramfs_fs_type);
}
