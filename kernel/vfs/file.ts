/**
 * kernel/vfs/file.ts - the open file object. Linux: fs/file_table.c. Descriptor tables: fs/file.ts.
 * The last fput() hands the file to fs/ (`kernel.vfs_ops.__fput`), at once and not from task work
 * as Linux does: whoever holds mmap_lock or an inode lock keeps the file until it has let go.
 */
import { O_APPEND, O_DIRECT, O_DSYNC, O_SYNC } from "../include/fcntl.ts";
import { IOCB_APPEND, IOCB_DIRECT, IOCB_DSYNC, IOCB_SYNC } from "../include/fs.ts";
import type { Sometime, file, file_operations, file_ra_state, inode, path } from "../include/fs.ts";
import type { cred } from "../include/cred.ts";
import type { mutex as mutex_t } from "../include/locks.ts";
import type { address_space } from "../include/mm_types.ts";
import type { Kernel } from "../kernel.ts";
import { lock_class, mutex } from "../locking/locks.ts";
import { assert } from "../assert.ts";

/** Bytes: what a disk's queue has as read_ahead_kb. */
export const READ_AHEAD = 128 * 1024;
const F_POS_LOCK = lock_class("&f->f_pos_lock");

/** IOCB_* that open flags `o` imply. */
export function iocb_flags(o: number): number {
  let flags = 0;
  if ((o & O_APPEND) !== 0) flags |= IOCB_APPEND;
  if ((o & O_DIRECT) !== 0) flags |= IOCB_DIRECT;
  if ((o & O_DSYNC) !== 0) flags |= IOCB_DSYNC;
  if ((o & O_SYNC & ~O_DSYNC) !== 0) flags |= IOCB_SYNC;
  return flags;
}

class vfs_file implements file {
  readonly kernel: Kernel;
  f_path: path;
  f_inode: inode;
  f_mapping: address_space;
  f_op: file_operations;
  f_flags: number;
  f_iocb_flags: number;
  f_mode: number;
  f_cred: cred;
  f_pos: number;
  readonly f_pos_lock: mutex_t;
  f_count: number;
  f_wb_err: number;
  f_sb_err: number;
  private_data: unknown;
  readonly f_ra: file_ra_state;

  constructor(kernel: Kernel, path: path, inode: inode, flags: number, cred: cred) {
    this.kernel = kernel;
    this.f_path = path;
    this.f_inode = inode;
    this.f_mapping = inode.i_mapping;
    this.f_op = inode.i_fop;
    this.f_flags = flags;
    this.f_iocb_flags = iocb_flags(flags);
    this.f_mode = 0;
    this.f_cred = cred;
    this.f_pos = 0;
    this.f_pos_lock = new mutex(kernel.machine, F_POS_LOCK);
    this.f_count = 1;
    this.f_wb_err = 0;
    this.f_sb_err = 0;
    this.private_data = null;
    this.f_ra = {
      start: 0,
      size: 0,
      async_size: 0,
      ra_pages: READ_AHEAD / kernel.PAGE_SIZE,
      mmap_miss: 0,
      prev_pos: -1,
    };
  }
}

/**
 * A file with one reference on `path`'s inode. f_mode is left 0 and nothing is opened: fs/open.ts
 * does that. The caller has taken the references on the path that __fput will drop.
 */
export function alloc_file(
  kernel: Kernel,
  path: path,
  inode: inode,
  flags: number,
  cred: cred,
): file {
  return new vfs_file(kernel, path, inode, flags, cred);
}

export function get_file(file: file): file {
  assert(file.f_count > 0, "get_file of a closed file");
  file.f_count++;
  return file;
}

export function fput(file: file): Sometime<void> {
  assert(file.f_count > 0, "fput of a closed file");
  file.f_count--;
  if (file.f_count > 0) return undefined;
  return file.kernel.vfs_ops.__fput(file);
}

export const file_inode = (file: file): inode => file.f_inode;
