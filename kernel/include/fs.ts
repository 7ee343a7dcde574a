/**
 * kernel/include/fs.ts - what the VFS, mm, drivers and filesystems share. Linux:
 * include/linux/{fs,dcache,mount,path,xattr,fiemap,fileattr}.h.
 *
 * Conventions: errors are thrown `Errno` objects; a function that may sleep returns a promise or,
 * on hot paths, `T | Promise<T>`. Sizes and offsets are bytes as numbers (<= 2^53). Names are
 * strings made by `bytes_to_name` (kernel/lib/utf8.ts): bytes that are not UTF-8 travel as lone
 * surrogates U+DC80..U+DCFF. Each field says what protects it; "immutable" means set before the
 * object is shared.
 */
import type { cred } from "./cred.ts";
import type { bdev_handle_like, block_device } from "./blkdev.ts";
import type { dax_device } from "./dax.ts";
import type {
  MaybeWait,
  mutex,
  percpu_rw_semaphore,
  rw_semaphore,
  spinlock_t,
  wait_queue_head,
} from "./locks.ts";
import type { address_space, vm_area_struct } from "./mm_types.ts";
import type { iov_iter } from "./uio.ts";
import type { Kernel } from "../kernel.ts";

export type Sometime<T> = T | Promise<T>;

/** Seconds (signed) and nanoseconds 0..999999999. Values are never mutated in place. */
export interface timespec64 {
  readonly tv_sec: number;
  readonly tv_nsec: number;
}

/** inode.i_flags */
export const S_SYNC = 1 << 0;
export const S_NOATIME = 1 << 1;
export const S_APPEND = 1 << 2;
export const S_IMMUTABLE = 1 << 3;
export const S_DEAD = 1 << 4;
export const S_NOQUOTA = 1 << 5;
export const S_DIRSYNC = 1 << 6;
export const S_NOCMTIME = 1 << 7;
export const S_SWAPFILE = 1 << 8;
export const S_PRIVATE = 1 << 9;
export const S_DAX = 1 << 13;
export const S_ENCRYPTED = 1 << 14;
export const S_CASEFOLD = 1 << 15;
export const S_VERITY = 1 << 16;
export const S_KERNEL_FILE = 1 << 17;

/** inode.i_state */
export const I_DIRTY_SYNC = 1 << 0;
export const I_DIRTY_DATASYNC = 1 << 1;
export const I_DIRTY_PAGES = 1 << 2;
export const I_NEW = 1 << 3;
export const I_WILL_FREE = 1 << 4;
export const I_FREEING = 1 << 5;
export const I_CLEAR = 1 << 6;
export const I_SYNC = 1 << 7;
export const I_REFERENCED = 1 << 8;
export const I_LINKABLE = 1 << 10;
export const I_DIRTY_TIME = 1 << 11;
export const I_DONTCACHE = 1 << 16;
export const I_DIRTY_INODE = I_DIRTY_SYNC | I_DIRTY_DATASYNC;
export const I_DIRTY = I_DIRTY_INODE | I_DIRTY_PAGES;

export interface inode {
  readonly kernel: Kernel;
  readonly i_sb: super_block;
  /** Set by whoever made the inode, before insert_inode_hash/_locked; immutable from then on. */
  i_ino: number;
  i_mode: number; // i_rwsem
  i_uid: number; // i_rwsem
  i_gid: number; // i_rwsem
  i_flags: number; // i_rwsem (S_*)
  i_nlink: number; // i_rwsem of the parents
  /** Bytes. Written under i_rwsem. */
  i_size: number;
  /** 512-byte units. i_lock. */
  i_blocks: number;
  i_blkbits: number; // immutable
  i_rdev: number; // immutable (MKDEV)
  i_generation: number; // immutable
  i_version: number; // i_lock
  i_atime: timespec64;
  i_mtime: timespec64;
  i_ctime: timespec64;
  i_state: number; // i_lock (I_*)
  i_count: number; // i_lock
  i_writecount: number; // i_lock; >0 writers, <0 deny-write holders
  i_dio_count: number; // i_lock
  i_op: inode_operations; // immutable after instantiation
  i_fop: file_operations; // immutable after instantiation
  /** The mapping of the file's pages: &i_data, or for a block device the device's. Immutable. */
  i_mapping: address_space;
  readonly i_data: address_space;
  readonly i_rwsem: rw_semaphore;
  readonly i_lock: spinlock_t;
  /** Target of a fast symlink, or null. Immutable after instantiation. */
  i_link: string | null;
  /** Block device of S_ISBLK, character device, pipe ... set by open. */
  i_bdev: block_device | null;
  /** Filesystem's own part (ext4_inode_info ...), cast by EXT4_I() and friends. Immutable. */
  i_fs: unknown;
  i_private: unknown;
  /** Dentries of this inode (aliases). i_lock. */
  readonly i_dentry: Set<dentry>;
  /** flock/posix lock context, owned by fs/locks.ts. */
  i_flctx: unknown;
  i_dirtied_when: number;
}

/** A qualified name's hash chain is a Map in the parent here. */
export interface dentry {
  readonly d_sb: super_block;
  d_name: string; // d_lock of parent (rename)
  d_parent: dentry; // itself for a root
  d_inode: inode | null; // null: negative
  /** Children by name. i_rwsem of the directory. */
  readonly d_children: Map<string, dentry>;
  d_count: number;
  d_flags: number; // DCACHE_*
  d_fsdata: unknown;
}
export const DCACHE_UNHASHED = 1 << 0;
export const DCACHE_MOUNTED = 1 << 1;
export const DCACHE_DISCONNECTED = 1 << 2;
/** Not kept when its last reference goes (d_mark_dontcache). */
export const DCACHE_DONTCACHE = 1 << 3;
/** Being looked up: nobody else finds it yet. */
export const DCACHE_PAR_LOOKUP = 1 << 4;

export interface vfsmount {
  mnt_root: dentry; // immutable
  mnt_sb: super_block; // immutable
  mnt_flags: number; // MNT_*
  mnt_parent: vfsmount; // itself for the root mount
  mnt_mountpoint: dentry;
  mnt_count: number;
  /** Writers under way and files open for writing: a remount to read-only is refused (EBUSY). */
  mnt_writers: number;
  mnt_devname: string;
}
export const MNT_NOSUID = 0x01;
export const MNT_NODEV = 0x02;
export const MNT_NOEXEC = 0x04;
export const MNT_NOATIME = 0x08;
export const MNT_NODIRATIME = 0x10;
export const MNT_RELATIME = 0x20;
export const MNT_READONLY = 0x40;

export interface path {
  mnt: vfsmount;
  dentry: dentry;
}

/** file.f_mode */
export const FMODE_READ = 0x1;
export const FMODE_WRITE = 0x2;
export const FMODE_LSEEK = 0x4;
export const FMODE_PREAD = 0x8;
export const FMODE_PWRITE = 0x10;
export const FMODE_EXEC = 0x20;
export const FMODE_CAN_ODIRECT = 0x400000;
export const FMODE_NOWAIT = 0x8000000;
export const FMODE_PATH = 0x4000;
export const FMODE_CAN_READ = 0x20000;
export const FMODE_CAN_WRITE = 0x40000;
export const FMODE_CREATED = 0x100000;
/** Every user of f_pos takes f_pos_lock when the file is shared. */
/** POSIX_FADV_RANDOM: no reading ahead. */
export const FMODE_RANDOM = 0x1000;
export const FMODE_ATOMIC_POS = 0x8000;
/** Holds write access to inode and mount until it is released. */
export const FMODE_WRITER = 0x10000;
export const FMODE_OPENED = 0x80000;
/** Has no position: a pipe. */
export const FMODE_STREAM = 0x200000;

/**
 * What reads of one open file have been like. Pages; no lock, as in Linux: two readers that share a
 * file may disturb each other's guesses.
 */
export interface file_ra_state {
  /** The window read last: where it begins, its size, and how much of it is beyond the mark. */
  start: number;
  size: number;
  async_size: number;
  /** The most to read at a time. */
  ra_pages: number;
  /** Faults that missed the cache, less those that hit. */
  mmap_miss: number;
  /** Byte behind the last one read; -1: none yet. */
  prev_pos: number;
}

export interface file {
  readonly kernel: Kernel;
  f_path: path; // immutable after open
  f_inode: inode; // immutable after open
  f_mapping: address_space; // immutable after open
  f_op: file_operations; // immutable after open
  f_flags: number; // f_lock (O_*)
  f_iocb_flags: number; // f_lock (IOCB_* that f_flags imply)
  f_mode: number; // immutable after open (FMODE_*), but for FMODE_RANDOM
  f_cred: cred; // immutable
  f_pos: number; // f_pos_lock
  readonly f_pos_lock: mutex;
  f_count: number;
  f_wb_err: number;
  /** What of sb.s_wb_err this file has already reported (syncfs). */
  f_sb_err: number;
  private_data: unknown;
  readonly f_ra: file_ra_state;
}

/** kiocb.ki_flags */
export const IOCB_NOWAIT = 1 << 0;
export const IOCB_DSYNC = 1 << 1;
export const IOCB_SYNC = 1 << 2;
export const IOCB_APPEND = 1 << 3;
export const IOCB_DIRECT = 1 << 4;
export const IOCB_WRITE = 1 << 5;

/** One read or write under way. Reused: owners keep one per thread. */
export interface kiocb {
  ki_filp: file;
  ki_pos: number;
  ki_flags: number;
}

export interface dir_context {
  /** Position cookie; opaque, kept in f_pos. */
  pos: number;
  /** Returns false when the caller wants no more. `type` is a DT_* value. */
  actor(name: string, offset: number, ino: number, type: number): boolean;
}
export const DT_UNKNOWN = 0;
export const DT_FIFO = 1;
export const DT_CHR = 2;
export const DT_DIR = 4;
export const DT_BLK = 6;
export const DT_REG = 8;
export const DT_LNK = 10;
export const DT_SOCK = 12;

export interface file_operations {
  name?: string;
  /** Flags beyond LEGACY_MAP_MASK that mmap accepts (MAP_SYNC). */
  mmap_supported_flags?: number;
  llseek?(file: file, offset: number, whence: number): Sometime<number>;
  /** Bytes moved; advances ki_pos and the iterator. May be short. */
  read_iter?(iocb: kiocb, to: iov_iter): Sometime<number>;
  write_iter?(iocb: kiocb, from: iov_iter): Sometime<number>;
  iterate_shared?(file: file, ctx: dir_context): Sometime<void>;
  /** `arg` is a JavaScript object or number of the command's own shape (see uapi ioctl table). */
  unlocked_ioctl?(file: file, cmd: string, arg: unknown): Sometime<unknown>;
  mmap?(file: file, vma: vm_area_struct): Sometime<void>;
  get_unmapped_area?(file: file, addr: number, len: number, pgoff: number, flags: number): number;
  open?(inode: inode, file: file): Sometime<void>;
  flush?(file: file): Sometime<void>;
  release?(inode: inode, file: file): Sometime<void>;
  /** Inclusive byte range; end may be LLONG_MAX. */
  fsync?(file: file, start: number, end: number, datasync: boolean): Sometime<void>;
  fallocate?(file: file, mode: number, offset: number, len: number): Promise<void>;
  copy_file_range?(
    fin: file,
    pos_in: number,
    fout: file,
    pos_out: number,
    len: number,
    flags: number,
  ): Promise<number>;
  remap_file_range?(
    fin: file,
    pos_in: number,
    fout: file,
    pos_out: number,
    len: number,
    flags: number,
  ): Promise<number>;
  fadvise?(file: file, offset: number, len: number, advice: number): Sometime<void>;
}

export const ATTR_MODE = 1 << 0;
export const ATTR_UID = 1 << 1;
export const ATTR_GID = 1 << 2;
export const ATTR_SIZE = 1 << 3;
export const ATTR_ATIME = 1 << 4;
export const ATTR_MTIME = 1 << 5;
export const ATTR_CTIME = 1 << 6;
export const ATTR_ATIME_SET = 1 << 7;
export const ATTR_MTIME_SET = 1 << 8;
export const ATTR_FORCE = 1 << 9;
export const ATTR_KILL_SUID = 1 << 11;
export const ATTR_KILL_SGID = 1 << 12;
export const ATTR_FILE = 1 << 13;
export const ATTR_KILL_PRIV = 1 << 14;
export const ATTR_OPEN = 1 << 15;
export const ATTR_TIMES_SET = 1 << 16;
/** utimes with both times "now": write permission is enough. */
export const ATTR_TOUCH = 1 << 17;

export interface iattr {
  ia_valid: number;
  ia_mode: number;
  ia_uid: number;
  ia_gid: number;
  ia_size: number;
  ia_atime: timespec64;
  ia_mtime: timespec64;
  ia_ctime: timespec64;
  ia_file: file | null;
}

export interface kstat {
  dev: number;
  ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: number;
  blksize: number;
  blocks: number; // 512-byte units
  atime: timespec64;
  mtime: timespec64;
  ctime: timespec64;
  btime: timespec64 | null;
  attributes: number; // STATX_ATTR_*
  attributes_mask: number;
  dio_mem_align: number;
  dio_offset_align: number;
}

export interface fileattr {
  /** FS_*_FL as of FS_IOC_GETFLAGS. */
  flags: number;
  /** FS_XFLAG_* as of FS_IOC_FSGETXATTR. */
  fsx_xflags: number;
  fsx_extsize: number;
  fsx_nextents: number;
  fsx_projid: number;
  fsx_cowextsize: number;
  /** Which of the two forms the caller filled in. */
  flags_valid: boolean;
  fsx_valid: boolean;
}

export const FIEMAP_FLAG_SYNC = 0x1;
export const FIEMAP_FLAG_XATTR = 0x2;
export const FIEMAP_FLAG_CACHE = 0x4;
export const FIEMAP_EXTENT_LAST = 0x1;
export const FIEMAP_EXTENT_UNKNOWN = 0x2;
export const FIEMAP_EXTENT_DELALLOC = 0x4;
export const FIEMAP_EXTENT_ENCODED = 0x8;
export const FIEMAP_EXTENT_NOT_ALIGNED = 0x100;
export const FIEMAP_EXTENT_DATA_INLINE = 0x200;
export const FIEMAP_EXTENT_DATA_TAIL = 0x400;
export const FIEMAP_EXTENT_UNWRITTEN = 0x800;
export const FIEMAP_EXTENT_MERGED = 0x1000;
export const FIEMAP_EXTENT_SHARED = 0x2000;

export interface fiemap_extent {
  fe_logical: number; // bytes
  fe_physical: number; // bytes
  fe_length: number; // bytes
  fe_flags: number;
}
export interface fiemap_extent_info {
  fi_flags: number;
  fi_extents_max: number; // 0: only count
  fi_extents_mapped: number;
  fi_extents: fiemap_extent[];
}

export interface inode_operations {
  /**
   * Fills `dentry` (positive or negative) with d_splice_alias or d_add; throws on IO error only.
   * Called with i_rwsem of dir held. Returns what d_splice_alias returned: another dentry to use
   * instead.
   */
  lookup?(dir: inode, dentry: dentry, flags: number): Sometime<dentry | void>;
  create?(dir: inode, dentry: dentry, mode: number, excl: boolean): Promise<void>;
  link?(old_dentry: dentry, dir: inode, new_dentry: dentry): Promise<void>;
  unlink?(dir: inode, dentry: dentry): Promise<void>;
  symlink?(dir: inode, dentry: dentry, target: string): Promise<void>;
  mkdir?(dir: inode, dentry: dentry, mode: number): Promise<void>;
  rmdir?(dir: inode, dentry: dentry): Promise<void>;
  mknod?(dir: inode, dentry: dentry, mode: number, rdev: number): Promise<void>;
  rename?(
    old_dir: inode,
    old_dentry: dentry,
    new_dir: inode,
    new_dentry: dentry,
    flags: number,
  ): Promise<void>;
  /** O_TMPFILE: makes an inode without links and gives it to `dentry` with d_tmpfile. */
  tmpfile?(dir: inode, dentry: dentry, mode: number): Promise<void>;
  get_link?(dentry: dentry | null, inode: inode): Sometime<string>;
  permission?(inode: inode, mask: number): void;
  setattr?(dentry: dentry, attr: iattr): Promise<void>;
  getattr?(path: path, stat: kstat, request_mask: number, flags: number): Sometime<void>;
  listxattr?(dentry: dentry): Promise<string[]>;
  fiemap?(inode: inode, fi: fiemap_extent_info, start: number, len: number): Promise<void>;
  update_time?(inode: inode, time: timespec64, flags: number): Sometime<void>;
  fileattr_get?(dentry: dentry, fa: fileattr): Sometime<void>;
  fileattr_set?(dentry: dentry, fa: fileattr): Promise<void>;
}
/** flags of update_time */
export const S_ATIME = 1;
export const S_MTIME = 2;
export const S_CTIME = 4;
export const S_VERSION = 8;
/** masks of permission */
export const MAY_EXEC = 1;
export const MAY_WRITE = 2;
export const MAY_READ = 4;
export const MAY_APPEND = 8;
export const MAY_ACCESS = 16;
export const MAY_OPEN = 32;
export const MAY_CHDIR = 64;

export interface xattr_handler {
  /** "user.", or a whole name for handlers of exactly one attribute. */
  prefix: string;
  get(inode: inode, name: string): Promise<Uint8Array>;
  /** value null removes. Flags XATTR_CREATE / XATTR_REPLACE. */
  set(inode: inode, name: string, value: Uint8Array | null, flags: number): Promise<void>;
}

/** super_block.s_flags */
export const SB_RDONLY = 1;
export const SB_NOSUID = 2;
export const SB_NODEV = 4;
export const SB_NOEXEC = 8;
export const SB_SYNCHRONOUS = 16;
export const SB_DIRSYNC = 128;
export const SB_NOATIME = 1024;
export const SB_NODIRATIME = 2048;
export const SB_SILENT = 1 << 15;
export const SB_POSIXACL = 1 << 16;
export const SB_LAZYTIME = 1 << 25;
export const SB_ACTIVE = 1 << 30;

/** super_block.s_iflags */
export const SB_I_CGROUPWB = 1 << 0;
export const SB_I_NOEXEC = 1 << 1;

/** Freeze levels, outermost first: index into s_writers.rw_sem is level - 1. */
export const SB_UNFROZEN = 0;
export const SB_FREEZE_WRITE = 1;
export const SB_FREEZE_PAGEFAULT = 2;
export const SB_FREEZE_FS = 3;
export const SB_FREEZE_COMPLETE = 4;

export interface super_block {
  readonly kernel: Kernel;
  readonly s_type: file_system_type;
  s_dev: number; // immutable
  s_id: string; // immutable: "pmem0"
  s_blocksize: number; // immutable after mount
  s_blocksize_bits: number;
  s_maxbytes: number;
  s_max_links: number;
  s_time_gran: number;
  s_time_min: number;
  s_time_max: number;
  s_magic: number;
  s_flags: number; // s_umount (SB_*)
  s_iflags: number;
  s_op: super_operations;
  s_xattr: readonly xattr_handler[];
  s_root: dentry | null;
  readonly s_umount: rw_semaphore;
  readonly s_writers: { frozen: number; readonly rw_sem: readonly percpu_rw_semaphore[] };
  s_bdev: block_device | null; // immutable
  s_bdev_handle: bdev_handle_like | null;
  s_fs_info: unknown;
  /** All in-core inodes by number: the inode cache. s_inode_list_lock. */
  readonly s_inodes: Map<number, inode>;
  /** Inodes with I_DIRTY*, in the order they became dirty. */
  readonly s_dirty_inodes: Set<inode>;
  s_active: number;
  s_wb_err: number;
  /** A remount to read-only is under way: nobody new may write. s_umount. */
  s_readonly_remount: boolean;
  /** Inodes without a name that are still in use: they forbid a remount to read-only. */
  s_remove_count: number;
  /** rename across directories: one at a time per filesystem. */
  readonly s_vfs_rename_mutex: mutex;
  /** Waits for I_NEW, I_SYNC and I_FREEING of an inode, and for s_active to fall. */
  readonly s_inode_wait: wait_queue_head;
}

export interface kstatfs {
  f_type: number;
  f_bsize: number;
  f_blocks: number;
  f_bfree: number;
  f_bavail: number;
  f_files: number;
  f_ffree: number;
  f_namelen: number;
  f_frsize: number;
  f_flags: number;
  f_fsid: number;
}

export const WB_SYNC_NONE = 0;
export const WB_SYNC_ALL = 1;
export interface writeback_control {
  nr_to_write: number;
  /** Inclusive byte range. */
  range_start: number;
  range_end: number;
  sync_mode: number;
  for_sync?: boolean;
  range_cyclic?: boolean;
}

export interface super_operations {
  name?: string;
  /**
   * The filesystem's own part of a new inode, kept in i_fs (called by new_inode and iget_locked).
   */
  alloc_inode?(inode: inode): unknown;
  destroy_inode?(inode: inode): void;
  dirty_inode?(inode: inode, flags: number): Sometime<void>;
  write_inode?(inode: inode, wbc: writeback_control): Sometime<void>;
  /** True: drop the inode when its last reference goes. */
  drop_inode?(inode: inode): boolean;
  evict_inode?(inode: inode): Sometime<void>;
  put_super?(sb: super_block): Promise<void>;
  sync_fs?(sb: super_block, wait: boolean): Promise<void>;
  freeze_fs?(sb: super_block): Promise<void>;
  unfreeze_fs?(sb: super_block): Promise<void>;
  statfs?(dentry: dentry, buf: kstatfs): Sometime<void>;
  remount_fs?(sb: super_block, flags: number, data: string): Promise<number>;
  show_options?(sb: super_block): string;
  shutdown?(sb: super_block): void;
}

export const FS_REQUIRES_DEV = 1;
export interface file_system_type {
  name: string;
  fs_flags: number;
  /** Opens the device if there is one and returns the superblock with s_root set. */
  mount(kernel: Kernel, flags: number, dev_name: string, data: string): Promise<super_block>;
  kill_sb(sb: super_block): Promise<void>;
}

/** What fs/super.ts gives a filesystem that sits on a block device with DAX. */
export interface fs_dax_info {
  dax_dev: dax_device | null;
  start_off: number;
}

export type { MaybeWait };
export const LLONG_MAX = Number.MAX_SAFE_INTEGER;
