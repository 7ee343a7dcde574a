/**
 * kernel/vfs/super.ts - the superblock object, and who may write while it freezes.
 * Linux: fs/super.c (alloc_super), include/linux/fs.h (sb_start_write and friends).
 * Mounting, finding and killing superblocks: fs/super.ts.
 *
 * Three freeze levels, outermost first; each is a percpu rwsem that writers hold for read and
 * freeze_super() takes for write, one after the other:
 *   1 SB_FREEZE_WRITE      system calls that write          > s_umount, i_rwsem
 *   2 SB_FREEZE_PAGEFAULT  write faults                     inside mmap_lock, > invalidate_lock
 *   3 SB_FREEZE_FS         transactions                     innermost, > journal
 */
import type { bdev_handle_like, block_device } from "../include/blkdev.ts";
import type {
  MaybeWait,
  dentry,
  file,
  file_operations,
  file_system_type,
  inode,
  super_block,
  super_operations,
  vfsmount,
  xattr_handler,
} from "../include/fs.ts";
import {
  SB_ACTIVE,
  SB_FREEZE_FS,
  SB_FREEZE_PAGEFAULT,
  SB_FREEZE_WRITE,
  SB_RDONLY,
  SB_UNFROZEN,
} from "../include/fs.ts";
import type {
  mutex as mutex_t,
  percpu_rw_semaphore,
  rw_semaphore as rw_semaphore_t,
  wait_queue_head,
} from "../include/locks.ts";
import { MKDEV, S_ISREG } from "../include/stat.ts";
import type { Kernel } from "../kernel.ts";
import { lock_class, mutex, new_wait_queue, percpu_rwsem, rw_semaphore } from "../locking/locks.ts";

const S_UMOUNT = lock_class("&type->s_umount_key");
const S_VFS_RENAME = lock_class("&type->s_vfs_rename_key");
const SB_WRITERS = [
  lock_class("sb_writers"),
  lock_class("sb_pagefaults"),
  lock_class("sb_internal"),
] as const;

const empty_sops: super_operations = Object.freeze({});
const no_xattr: readonly xattr_handler[] = Object.freeze([]);

/**
 * What the VFS keeps for one kernel; the upper part (mounts, init task's fs) hangs off `mounts`.
 */
export class vfs_registry {
  readonly file_systems: Map<string, file_system_type>;
  readonly supers: Set<super_block>;
  next_anon_minor: number;
  next_ino: number;
  /** fs/mount.ts: the tree of mounts. */
  mounts: unknown;
  /** fs/pipe.ts: where pipes live. */
  pipe_sb: super_block | null;
  pipe_mnt: vfsmount | null;
  /**
   * Character devices by number, names below /dev, and devtmpfs, who shows them: see devnode.ts.
   */
  readonly chrdevs: Map<number, file_operations>;
  readonly devnodes: Map<string, { mode: number; dev: number }>;
  devnode_listener: ((name: string, node: { mode: number; dev: number } | null) => void) | null;

  constructor() {
    this.file_systems = new Map();
    this.supers = new Set();
    this.next_anon_minor = 1;
    this.next_ino = 1;
    this.mounts = null;
    this.pipe_sb = null;
    this.pipe_mnt = null;
    this.chrdevs = new Map();
    this.devnodes = new Map();
    this.devnode_listener = null;
  }
}

export function vfs_of(kernel: Kernel): vfs_registry {
  let state = kernel.vfs_state as vfs_registry | null | undefined;
  if (!state) {
    state = new vfs_registry();
    kernel.vfs_state = state;
  }
  return state;
}

class vfs_super_block implements super_block {
  readonly kernel: Kernel;
  readonly s_type: file_system_type;
  s_dev: number;
  s_id: string;
  s_blocksize: number;
  s_blocksize_bits: number;
  s_maxbytes: number;
  s_max_links: number;
  s_time_gran: number;
  s_time_min: number;
  s_time_max: number;
  s_magic: number;
  s_flags: number;
  s_iflags: number;
  s_op: super_operations;
  s_xattr: readonly xattr_handler[];
  s_root: dentry | null;
  readonly s_umount: rw_semaphore_t;
  readonly s_writers: { frozen: number; readonly rw_sem: readonly percpu_rw_semaphore[] };
  s_bdev: block_device | null;
  s_bdev_handle: bdev_handle_like | null;
  s_fs_info: unknown;
  readonly s_inodes: Map<number, inode>;
  readonly s_dirty_inodes: Set<inode>;
  s_active: number;
  s_wb_err: number;
  s_readonly_remount: boolean;
  s_remove_count: number;
  readonly s_vfs_rename_mutex: mutex_t;
  readonly s_inode_wait: wait_queue_head;

  constructor(kernel: Kernel, type: file_system_type, flags: number) {
    const machine = kernel.machine;
    this.kernel = kernel;
    this.s_type = type;
    this.s_dev = 0;
    this.s_id = type.name;
    this.s_blocksize = 512;
    this.s_blocksize_bits = 9;
    this.s_maxbytes = 2 ** 31 - 1;
    this.s_max_links = 0;
    this.s_time_gran = 1_000_000_000;
    this.s_time_min = Number.MIN_SAFE_INTEGER;
    this.s_time_max = Number.MAX_SAFE_INTEGER;
    this.s_magic = 0;
    this.s_flags = flags;
    this.s_iflags = 0;
    this.s_op = empty_sops;
    this.s_xattr = no_xattr;
    this.s_root = null;
    this.s_umount = new rw_semaphore(machine, S_UMOUNT, this);
    this.s_writers = {
      frozen: SB_UNFROZEN,
      rw_sem: SB_WRITERS.map((key) => new percpu_rwsem(machine, key, this)),
    };
    this.s_bdev = null;
    this.s_bdev_handle = null;
    this.s_fs_info = null;
    this.s_inodes = new Map();
    this.s_dirty_inodes = new Set();
    this.s_active = 1;
    this.s_wb_err = 0;
    this.s_readonly_remount = false;
    this.s_remove_count = 0;
    this.s_vfs_rename_mutex = new mutex(machine, S_VFS_RENAME, this);
    this.s_inode_wait = new_wait_queue(machine, "inode state", () => this.s_id);
  }

  lock_label(): string {
    return this.s_id;
  }
}

/**
 * A superblock with one active reference. Not yet in the kernel's list: see sget in fs/super.ts.
 */
export function alloc_super(kernel: Kernel, type: file_system_type, flags: number): super_block {
  return new vfs_super_block(kernel, type, flags);
}

/** Gives the superblock a device number of its own (major 0). */
export function set_anon_super(sb: super_block): void {
  sb.s_dev = MKDEV(0, vfs_of(sb.kernel).next_anon_minor++);
}

/**
 * A superblock without names or mount, whose inodes are only held by objects: block devices, DAX
 * devices, anonymous files.
 */
export function init_pseudo(
  kernel: Kernel,
  name: string,
  magic: number,
  ops: super_operations = empty_sops,
): super_block {
  const type: file_system_type = {
    name,
    fs_flags: 0,
    mount: () => Promise.reject(new Error(`${name} cannot be mounted`)),
    kill_sb: () => Promise.resolve(),
  };
  const sb = alloc_super(kernel, type, SB_ACTIVE);
  set_anon_super(sb);
  sb.s_blocksize = kernel.PAGE_SIZE;
  sb.s_blocksize_bits = kernel.PAGE_SHIFT;
  sb.s_maxbytes = Number.MAX_SAFE_INTEGER;
  sb.s_time_gran = 1;
  sb.s_magic = magic;
  sb.s_op = ops;
  vfs_of(kernel).supers.add(sb);
  return sb;
}

/** A fresh inode number for filesystems that have none of their own. */
export function get_next_ino(kernel: Kernel): number {
  return vfs_of(kernel).next_ino++;
}

// --- freeze levels ---

function sem(sb: super_block, level: number): percpu_rw_semaphore {
  return sb.s_writers.rw_sem[level - 1]!;
}

export function sb_start_write(sb: super_block): MaybeWait {
  return sem(sb, SB_FREEZE_WRITE).down_read();
}
export function sb_start_write_trylock(sb: super_block): boolean {
  return sem(sb, SB_FREEZE_WRITE).down_read_trylock();
}
export function sb_end_write(sb: super_block): void {
  sem(sb, SB_FREEZE_WRITE).up_read();
}
export function sb_start_pagefault(sb: super_block): MaybeWait {
  return sem(sb, SB_FREEZE_PAGEFAULT).down_read();
}
export function sb_end_pagefault(sb: super_block): void {
  sem(sb, SB_FREEZE_PAGEFAULT).up_read();
}
export function sb_start_intwrite(sb: super_block): MaybeWait {
  return sem(sb, SB_FREEZE_FS).down_read();
}
export function sb_start_intwrite_trylock(sb: super_block): boolean {
  return sem(sb, SB_FREEZE_FS).down_read_trylock();
}
export function sb_end_intwrite(sb: super_block): void {
  sem(sb, SB_FREEZE_FS).up_read();
}

/** Level 1 for a write through a descriptor; devices and pipes do not freeze. */
export function file_start_write(file: file): MaybeWait {
  if (!S_ISREG(file.f_inode.i_mode)) return undefined;
  return sb_start_write(file.f_inode.i_sb);
}
export function file_end_write(file: file): void {
  if (S_ISREG(file.f_inode.i_mode)) sb_end_write(file.f_inode.i_sb);
}

export function sb_rdonly(sb: super_block): boolean {
  return (sb.s_flags & SB_RDONLY) !== 0;
}
