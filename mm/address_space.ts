/**
 * mm/address_space.ts - a file's pages or DAX entries. Linux: struct address_space, fs/inode.c
 * (address_space_init_once), include/linux/pagemap.h.
 */
import { EIO, ENOSPC } from "../kernel/include/errno.ts";
import type { Errno } from "../kernel/include/errno.ts";
import type { inode } from "../kernel/include/fs.ts";
import { S_DAX } from "../kernel/include/fs.ts";
import type { dax_device } from "../kernel/include/dax.ts";
import { AS_EIO, AS_ENOSPC } from "../kernel/include/mm_types.ts";
import type {
  address_space,
  address_space_operations,
  vm_area_struct,
} from "../kernel/include/mm_types.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { xarray } from "../kernel/lib/xarray.ts";
import { lock_class, rw_semaphore, spinlock } from "../kernel/locking/locks.ts";

const INVALIDATE_LOCK = lock_class("mapping.invalidate_lock");
const I_MMAP_RWSEM = lock_class("&mapping->i_mmap_rwsem");
const XA_LOCK = lock_class("&xa->xa_lock");

/** Marks of i_pages. */
export const PAGECACHE_TAG_DIRTY = 0;
export const PAGECACHE_TAG_WRITEBACK = 1;
export const PAGECACHE_TAG_TOWRITE = 2;

const empty_aops: address_space_operations = Object.freeze({ name: "empty_aops" });

class mapping_class implements address_space {
  readonly kernel: Kernel;
  readonly host: inode;
  readonly i_pages: xarray;
  readonly invalidate_lock: rw_semaphore;
  readonly i_mmap_rwsem: rw_semaphore;
  readonly i_mmap = new Set<vm_area_struct>();
  i_mmap_writable = 0;
  nrpages = 0;
  a_ops: address_space_operations = empty_aops;
  flags = 0;
  wb_err = 0;
  writeback_index = 0;
  dax_dev: dax_device | null = null;

  constructor(kernel: Kernel, host: inode) {
    this.kernel = kernel;
    this.host = host;
    const label = () => `inode ${host.i_ino}`;
    const { machine } = kernel;
    this.i_pages = new xarray({ lock: new spinlock(machine, XA_LOCK, label) });
    this.invalidate_lock = new rw_semaphore(machine, INVALIDATE_LOCK, label);
    this.i_mmap_rwsem = new rw_semaphore(machine, I_MMAP_RWSEM, label);
  }
}

/** The mapping of an inode; `a_ops` are set by the filesystem. */
export function new_address_space(kernel: Kernel, host: inode): address_space {
  return new mapping_class(kernel, host);
}

export const dax_mapping = (mapping: address_space): boolean =>
  (mapping.host.i_flags & S_DAX) !== 0;

// ---- errors of writeback: an errno in the low 12 bits, "seen" in bit 12, a counter above

const SEEN = 4096;
const STEP = 8192;

/** Notes a failed write; each file that was open then hears of it once, from fsync. */
export function mapping_set_error(mapping: address_space, error: Errno): void {
  mapping.flags |= error === ENOSPC ? AS_ENOSPC : AS_EIO;
  mapping.wb_err = errseq_set(mapping.wb_err, error);
  const sb = mapping.host.i_sb;
  if (sb) sb.s_wb_err = errseq_set(sb.s_wb_err, error);
}

/** A new error: the counter moves on only if somebody has looked since. */
export function errseq_set(seq: number, error: Errno): number {
  const counter = Math.floor(seq / STEP) + (seq % STEP >= SEEN ? 1 : 0);
  return counter * STEP + error.errno;
}

/** A place to compare from later; 0 if an error is there that nobody has seen. */
export function errseq_sample(seq: number): number {
  return seq % STEP >= SEEN ? seq : 0;
}

const error_of = (seq: number): Errno => (seq % SEEN === ENOSPC.errno ? ENOSPC : EIO);

/**
 * Has there been an error since `since`? The value to compare with next time, and the error. Marks
 * the error as seen: `seq` is what the mapping's field becomes.
 */
export function errseq_check(seq: number, since: number): { seq: number; error: Errno | null } {
  if (seq === since || seq % SEEN === 0) return { seq, error: null };
  const seen = seq % STEP >= SEEN ? seq : seq + SEEN;
  return { seq: seen, error: error_of(seq) };
}
