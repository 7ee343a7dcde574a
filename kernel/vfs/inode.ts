/**
 * kernel/vfs/inode.ts - the inode object and the inode cache. Linux: fs/inode.c, fs/bad_inode.c.
 * Differs: the cache is one Map per superblock (s_inodes); there is no LRU list, an unused inode is
 * one with i_count 0 in that map. Writing back and path names are above: they come in by
 * kernel.vfs_ops.
 *
 * Reading order: new_inode() -> insert_inode_locked() or iget_locked() -> unlock_new_inode() ...
 * iput() -> evict().
 *
 * States: I_NEW (being read; others wait), then in use, then I_FREEING while evict() runs (iget
 * waits for the end and makes a new one). Whoever waits does so on sb.s_inode_wait and looks again.
 * Invariant: an inode in s_inodes without I_NEW|I_FREEING may be taken by anyone with __iget.
 */
import { EBUSY, EIO, ENXIO, ETXTBSY } from "../include/errno.ts";
import type {
  MaybeWait,
  Sometime,
  dentry,
  file_operations,
  inode,
  inode_operations,
  super_block,
  timespec64,
} from "../include/fs.ts";
import {
  I_CLEAR,
  I_DIRTY,
  I_DIRTY_INODE,
  I_DIRTY_PAGES,
  I_DIRTY_SYNC,
  I_DIRTY_TIME,
  I_DONTCACHE,
  I_FREEING,
  I_NEW,
  I_SYNC,
  I_WILL_FREE,
  SB_ACTIVE,
} from "../include/fs.ts";
import type { block_device } from "../include/blkdev.ts";
import type { rw_semaphore as rw_semaphore_t, spinlock_t } from "../include/locks.ts";
import type { address_space } from "../include/mm_types.ts";
import {
  S_ISBLK,
  S_ISCHR,
  S_ISDIR,
  S_ISFIFO,
  S_ISGID,
  S_ISSOCK,
  S_IFREG,
} from "../include/stat.ts";
import type { Kernel } from "../kernel.ts";
import {
  busy_begin,
  busy_end,
  busy_tasks,
  lock_class,
  rw_semaphore,
  spinlock,
} from "../locking/locks.ts";
import type { task_struct } from "../sched/task.ts";
import { assert } from "../assert.ts";
import { current_cred } from "../cred.ts";

const I_RWSEM = lock_class("&inode->i_rwsem");
const I_LOCK = lock_class("&inode->i_lock");

/** Subclasses of i_rwsem, as callers of inode_lock_nested name them. */
export const I_MUTEX_NORMAL = 0;
export const I_MUTEX_PARENT = 1;
export const I_MUTEX_CHILD = 2;
export const I_MUTEX_XATTR = 3;
export const I_MUTEX_NONDIR2 = 4;
export const I_MUTEX_PARENT2 = 5;

export const empty_iops: inode_operations = Object.freeze({});
export const no_open_fops: file_operations = Object.freeze({
  name: "no_open_fops",
  open(): never {
    throw ENXIO;
  },
});

const ZERO_TIME: timespec64 = Object.freeze({ tv_sec: 0, tv_nsec: 0 });

class vfs_inode implements inode {
  readonly kernel: Kernel;
  readonly i_sb: super_block;
  i_ino: number;
  i_mode: number;
  i_uid: number;
  i_gid: number;
  i_flags: number;
  i_nlink: number;
  i_size: number;
  i_blocks: number;
  i_blkbits: number;
  i_rdev: number;
  i_generation: number;
  i_version: number;
  i_atime: timespec64;
  i_mtime: timespec64;
  i_ctime: timespec64;
  i_state: number;
  i_count: number;
  i_writecount: number;
  i_dio_count: number;
  i_op: inode_operations;
  i_fop: file_operations;
  i_mapping: address_space;
  readonly i_data: address_space;
  readonly i_rwsem: rw_semaphore_t;
  readonly i_lock: spinlock_t;
  i_link: string | null;
  i_bdev: block_device | null;
  i_fs: unknown;
  i_private: unknown;
  readonly i_dentry: Set<dentry>;
  i_flctx: unknown;
  i_dirtied_when: number;

  constructor(sb: super_block, ino: number) {
    const kernel = sb.kernel;
    this.kernel = kernel;
    this.i_sb = sb;
    this.i_ino = ino;
    this.i_mode = 0;
    this.i_uid = 0;
    this.i_gid = 0;
    this.i_flags = 0;
    this.i_nlink = 1;
    this.i_size = 0;
    this.i_blocks = 0;
    this.i_blkbits = sb.s_blocksize_bits;
    this.i_rdev = 0;
    this.i_generation = 0;
    this.i_version = 0;
    this.i_atime = ZERO_TIME;
    this.i_mtime = ZERO_TIME;
    this.i_ctime = ZERO_TIME;
    this.i_state = 0;
    this.i_count = 1;
    this.i_writecount = 0;
    this.i_dio_count = 0;
    this.i_op = empty_iops;
    this.i_fop = no_open_fops;
    this.i_rwsem = new rw_semaphore(kernel.machine, I_RWSEM, this);
    this.i_lock = new spinlock(kernel.machine, I_LOCK, this);
    this.i_link = null;
    this.i_bdev = null;
    this.i_fs = null;
    this.i_private = null;
    this.i_dentry = new Set();
    this.i_flctx = null;
    this.i_dirtied_when = 0;
    const mapping = kernel.vfs_ops.new_address_space(kernel, this);
    this.i_data = mapping;
    this.i_mapping = mapping;
  }

  /** For reports: "inode 12 of pmem0 (/dir/a)", the first name in the filesystem if it has one. */
  lock_label(): string {
    const text = `inode ${this.i_ino} of ${this.i_sb.s_id}`;
    for (const alias of this.i_dentry) return `${text} (${path_in_fs(alias)})`;
    return text;
  }
}

function path_in_fs(d: dentry): string {
  let path = "";
  for (; d.d_parent !== d; d = d.d_parent) path = `/${d.d_name}${path}`;
  return path === "" ? "/" : path;
}

function inode_init_always(sb: super_block, ino: number): inode {
  const inode = new vfs_inode(sb, ino);
  const alloc = sb.s_op.alloc_inode;
  if (alloc !== undefined) inode.i_fs = alloc.call(sb.s_op, inode);
  return inode;
}

/** A new inode with one reference that nobody can find yet: see insert_inode_hash. */
export function new_inode(sb: super_block): inode {
  return inode_init_always(sb, 0);
}

/** Makes the inode findable by its number. */
export function insert_inode_hash(inode: inode): void {
  assert(!inode.i_sb.s_inodes.has(inode.i_ino), `inode ${inode.i_ino} is there twice`);
  inode.i_sb.s_inodes.set(inode.i_ino, inode);
}

/** As insert_inode_hash, with I_NEW set until unlock_new_inode. EBUSY when the number is taken. */
export function insert_inode_locked(inode: inode): void {
  if (inode.i_sb.s_inodes.has(inode.i_ino)) throw EBUSY;
  inode.i_state |= I_NEW;
  busy_begin(inode.kernel, inode, I_NEW);
  inode.i_sb.s_inodes.set(inode.i_ino, inode);
}

export function remove_inode_hash(inode: inode): void {
  const map = inode.i_sb.s_inodes;
  if (map.get(inode.i_ino) === inode) map.delete(inode.i_ino);
}

export function inode_unhashed(inode: inode): boolean {
  return inode.i_sb.s_inodes.get(inode.i_ino) !== inode;
}

/** Waits until none of `bits` is set in i_state. */
export function inode_wait(inode: inode, bits: number): MaybeWait {
  if ((inode.i_state & bits) === 0) return undefined;
  const owner = (): task_struct[] => busy_tasks(inode.kernel, inode, bits);
  return inode.i_sb.s_inode_wait.wait_event(() => (inode.i_state & bits) === 0, { owner });
}

/** Wakes those who wait for a bit of i_state to go. */
export function inode_wake(inode: inode): void {
  const wq = inode.i_sb.s_inode_wait;
  if (wq.has_waiters()) wq.wake_up_all();
}

/**
 * The inode of that number with a reference. Fresh ones come with I_NEW set: the caller reads them
 * in and ends with unlock_new_inode or iget_failed; another caller waits for that.
 */
export function iget_locked(sb: super_block, ino: number): Sometime<inode> {
  const found = sb.s_inodes.get(ino);
  if (found === undefined) {
    const inode = inode_init_always(sb, ino);
    inode.i_state = I_NEW;
    busy_begin(inode.kernel, inode, I_NEW);
    sb.s_inodes.set(ino, inode);
    return inode;
  }
  if ((found.i_state & (I_NEW | I_FREEING | I_WILL_FREE)) === 0) {
    found.i_count++;
    return found;
  }
  return iget_locked_slow(sb, ino);
}

async function iget_locked_slow(sb: super_block, ino: number): Promise<inode> {
  for (;;) {
    const inode = sb.s_inodes.get(ino);
    if (inode === undefined) return iget_locked(sb, ino);
    if ((inode.i_state & (I_FREEING | I_WILL_FREE)) !== 0) {
      const owner = (): task_struct[] => busy_tasks(inode.kernel, inode, I_FREEING);
      const p = sb.s_inode_wait.wait_event(() => sb.s_inodes.get(ino) !== inode, { owner });
      if (p) await p;
      continue;
    }
    inode.i_count++;
    const p = inode_wait(inode, I_NEW);
    if (p) await p;
    if (!inode_unhashed(inode)) return inode;
    await iput(inode); // the one who read it failed: try for ourselves
  }
}

/** The cached inode of that number with a reference, or null; waits while it is new or going. */
export async function ilookup(sb: super_block, ino: number): Promise<inode | null> {
  if (!sb.s_inodes.has(ino)) return null;
  const inode = await iget_locked(sb, ino);
  if ((inode.i_state & I_NEW) === 0) return inode;
  await iget_failed(inode);
  return null;
}

/** Ends the time of I_NEW: the inode is complete. */
export function unlock_new_inode(inode: inode): void {
  assert((inode.i_state & I_NEW) !== 0, "unlock_new_inode of one that is not new");
  inode.i_state &= ~I_NEW;
  busy_end(inode.kernel, inode, I_NEW);
  inode_wake(inode);
}

/** Reading the inode failed: it becomes bad, unfindable, and the reference goes. */
export function iget_failed(inode: inode): Sometime<void> {
  make_bad_inode(inode);
  unlock_new_inode(inode);
  return iput(inode);
}

/**
 * The same for an inode whose creation failed after insert_inode_locked (nlink 0: nothing is
 * written).
 */
export function discard_new_inode(inode: inode): Sometime<void> {
  if ((inode.i_state & I_NEW) !== 0) unlock_new_inode(inode);
  return iput(inode);
}

function bad(): never {
  throw EIO;
}
async function bad_async(): Promise<never> {
  throw EIO;
}
const bad_iops: inode_operations = Object.freeze({
  lookup: bad,
  create: bad_async,
  link: bad_async,
  unlink: bad_async,
  symlink: bad_async,
  mkdir: bad_async,
  rmdir: bad_async,
  mknod: bad_async,
  rename: bad_async,
  permission: bad,
  getattr: bad,
  setattr: bad_async,
  get_link: bad,
  listxattr: bad_async,
  fiemap: bad_async,
  update_time: bad,
  tmpfile: bad_async,
});
const bad_fops: file_operations = Object.freeze({ name: "bad_file_ops", open: bad });

export function make_bad_inode(inode: inode): void {
  remove_inode_hash(inode);
  inode.i_mode = S_IFREG;
  inode.i_op = bad_iops;
  inode.i_fop = bad_fops;
}

export function is_bad_inode(inode: inode): boolean {
  return inode.i_op === bad_iops;
}

/** One more reference on an inode that has one. */
export function ihold(inode: inode): void {
  inode.i_count++;
  assert(inode.i_count > 1, "ihold of an unused inode");
}

/** A reference unless the inode is going away. */
export function igrab(inode: inode): inode | null {
  if ((inode.i_state & (I_FREEING | I_WILL_FREE)) !== 0) return null;
  inode.i_count++;
  return inode;
}

export function generic_drop_inode(inode: inode): boolean {
  return inode.i_nlink === 0 || inode_unhashed(inode);
}

/** Drops a reference. The last one may write the inode back and free it. */
export function iput(inode: inode | null): Sometime<void> {
  if (inode === null) return undefined;
  assert(inode.i_count > 0 && (inode.i_state & I_CLEAR) === 0, "iput of a freed inode");
  if (inode.i_count > 1) {
    inode.i_count--;
    return undefined;
  }
  if (inode.i_nlink > 0 && (inode.i_state & I_DIRTY_TIME) !== 0) return iput_lazytime(inode);
  inode.i_count = 0;
  return iput_final(inode);
}

async function iput_lazytime(inode: inode): Promise<void> {
  await __mark_inode_dirty(inode, I_DIRTY_SYNC);
  await iput(inode);
}

function iput_final(inode: inode): Sometime<void> {
  const sb = inode.i_sb;
  const op = sb.s_op.drop_inode;
  const drop = op !== undefined ? op.call(sb.s_op, inode) : generic_drop_inode(inode);
  if (!drop && (inode.i_state & I_DONTCACHE) === 0 && (sb.s_flags & SB_ACTIVE) !== 0) {
    return undefined;
  }
  if (drop || (inode.i_state & I_DIRTY) === 0) {
    inode.i_state |= I_FREEING;
    busy_begin(inode.kernel, inode, I_FREEING);
    return evict(inode);
  }
  return write_and_evict(inode);
}

async function write_and_evict(inode: inode): Promise<void> {
  inode.i_state |= I_WILL_FREE;
  busy_begin(inode.kernel, inode, I_FREEING);
  try {
    await inode.kernel.vfs_ops.write_inode_now(inode, true);
  } finally {
    inode.i_state = (inode.i_state & ~I_WILL_FREE) | I_FREEING;
  }
  await evict(inode);
}

/** Takes an unused inode apart. I_FREEING is set, i_count is 0. */
export function evict(inode: inode): Sometime<void> {
  assert((inode.i_state & I_FREEING) !== 0 && inode.i_count === 0);
  inode.i_sb.s_dirty_inodes.delete(inode);
  const p = inode_wait(inode, I_SYNC);
  if (p) return p.then(() => evict(inode));
  const op = inode.i_sb.s_op.evict_inode;
  if (op !== undefined) {
    const q = op.call(inode.i_sb.s_op, inode);
    if (q) return q.then(() => evict_end(inode));
  } else {
    const q = inode.kernel.vfs_ops.truncate_inode_pages_final(inode.i_data);
    if (q) {
      return q.then(() => {
        clear_inode(inode);
        evict_end(inode);
      });
    }
    clear_inode(inode);
  }
  return evict_end(inode);
}

function evict_end(inode: inode): void {
  assert((inode.i_state & I_CLEAR) !== 0, "evict_inode has to end with clear_inode");
  const sb = inode.i_sb;
  sb.s_dirty_inodes.delete(inode);
  remove_inode_hash(inode);
  busy_end(inode.kernel, inode, I_FREEING);
  if (sb.s_inode_wait.has_waiters()) sb.s_inode_wait.wake_up_all();
  if (inode.i_nlink === 0) sb.s_remove_count--;
  sb.s_op.destroy_inode?.(inode);
}

/** Last word of evict_inode: nothing of the inode is left in memory. */
export function clear_inode(inode: inode): void {
  assert(inode.i_data.nrpages === 0, "clear_inode with pages in the mapping");
  inode.i_state = I_FREEING | I_CLEAR;
}

/**
 * Frees every unused inode of a superblock that is going away. Returns how many are still in use.
 */
export async function evict_inodes(sb: super_block): Promise<number> {
  let busy = 0;
  for (const inode of [...sb.s_inodes.values()]) {
    const p = inode_wait(inode, I_NEW);
    if (p) await p;
    if (inode.i_count > 0) {
      busy++;
      continue;
    }
    if ((inode.i_state & (I_FREEING | I_WILL_FREE)) !== 0) continue;
    inode.i_state |= I_FREEING;
    busy_begin(inode.kernel, inode, I_FREEING);
    await evict(inode);
  }
  return busy;
}

/** Frees the clean, unused inodes (drop_caches). Returns how many went. */
export async function prune_icache_sb(sb: super_block): Promise<number> {
  let freed = 0;
  for (const inode of [...sb.s_inodes.values()]) {
    const busy = I_NEW | I_FREEING | I_WILL_FREE | I_SYNC | I_DIRTY | I_DIRTY_TIME;
    if (inode.i_count > 0 || (inode.i_state & busy) !== 0) continue;
    inode.i_state |= I_FREEING;
    busy_begin(inode.kernel, inode, I_FREEING);
    await evict(inode);
    freed++;
  }
  return freed;
}

// --- links ---

/** The last name has gone (or the inode never had one). */
export function clear_nlink(inode: inode): void {
  if (inode.i_nlink === 0) return;
  inode.i_nlink = 0;
  inode.i_sb.s_remove_count++;
}

export function drop_nlink(inode: inode): void {
  assert(inode.i_nlink > 0, "drop_nlink of an inode without links");
  inode.i_nlink--;
  if (inode.i_nlink === 0) inode.i_sb.s_remove_count++;
}

export function inc_nlink(inode: inode): void {
  if (inode.i_nlink === 0) inode.i_sb.s_remove_count--;
  inode.i_nlink++;
}

export function set_nlink(inode: inode, nlink: number): void {
  if (nlink === 0) {
    clear_nlink(inode);
    return;
  }
  if (inode.i_nlink === 0) inode.i_sb.s_remove_count--;
  inode.i_nlink = nlink;
}

// --- dirtying ---

/** Marks inode or pages dirty and tells the filesystem (s_op.dirty_inode), which may sleep. */
export function __mark_inode_dirty(inode: inode, flags: number): Sometime<void> {
  const sb = inode.i_sb;
  if ((flags & I_DIRTY_INODE) !== 0) {
    let passed = flags & (I_DIRTY_INODE | I_DIRTY_TIME);
    if ((inode.i_state & I_DIRTY_TIME) !== 0) {
      inode.i_state &= ~I_DIRTY_TIME;
      passed |= I_DIRTY_TIME;
    }
    flags &= ~I_DIRTY_TIME;
    const op = sb.s_op.dirty_inode;
    if (op !== undefined) {
      const p = op.call(sb.s_op, inode, passed);
      if (p) return p.then(() => set_dirty(inode, flags));
    }
  }
  set_dirty(inode, flags);
  return undefined;
}

function set_dirty(inode: inode, flags: number): void {
  const state = inode.i_state;
  if ((state & flags) === flags) return;
  if ((flags & I_DIRTY_TIME) !== 0 && (state & I_DIRTY_INODE) !== 0) return;
  inode.i_state = state | flags;
  if ((state & (I_DIRTY | I_DIRTY_TIME)) !== 0) return;
  inode.i_dirtied_when = inode.kernel.time.ktime_get_ns();
  if ((inode.i_state & I_FREEING) === 0) inode.i_sb.s_dirty_inodes.add(inode);
}

export function mark_inode_dirty(inode: inode): Sometime<void> {
  return __mark_inode_dirty(inode, I_DIRTY);
}

export function mark_inode_dirty_sync(inode: inode): Sometime<void> {
  return __mark_inode_dirty(inode, I_DIRTY_SYNC);
}

/** For mm: a page of the file became dirty. Never calls the filesystem, never sleeps. */
export function mark_inode_dirty_pages(inode: inode): void {
  set_dirty(inode, I_DIRTY_PAGES);
}

// --- attributes of new inodes ---

/** Owner, group and mode of a new inode in `dir` (set-gid directories hand their group down). */
export function inode_init_owner(inode: inode, dir: inode | null, mode: number): void {
  const cred = current_cred(inode.kernel);
  inode.i_uid = cred.fsuid;
  if (dir !== null && (dir.i_mode & S_ISGID) !== 0) {
    inode.i_gid = dir.i_gid;
    if (S_ISDIR(mode)) mode |= S_ISGID;
  } else {
    inode.i_gid = cred.fsgid;
  }
  inode.i_mode = mode;
}

/** i_fop of devices, fifos and sockets; fs/ fills kernel.vfs_special_fops at boot. */
export function init_special_inode(inode: inode, mode: number, rdev: number): void {
  inode.i_mode = mode;
  const special = inode.kernel.vfs_ops.special_fops;
  if (S_ISCHR(mode)) {
    inode.i_fop = special.def_chr_fops;
    inode.i_rdev = rdev;
  } else if (S_ISBLK(mode)) {
    inode.i_fop = special.def_blk_fops;
    inode.i_rdev = rdev;
  } else if (S_ISFIFO(mode)) {
    inode.i_fop = special.pipefifo_fops;
  } else {
    assert(S_ISSOCK(mode), `init_special_inode of mode ${mode.toString(8)}`);
    inode.i_fop = no_open_fops;
  }
}

// --- time, size, locks ---

/** The coarse clock in the filesystem's granularity and range. */
export function current_time(inode: inode): timespec64 {
  return timestamp_truncate(inode.kernel.time.real(), inode.i_sb);
}

export function timestamp_truncate(t: timespec64, sb: super_block): timespec64 {
  const within = t.tv_sec > sb.s_time_min && t.tv_sec < sb.s_time_max;
  return within && sb.s_time_gran === 1 ? t : timestamp_changed(t, sb);
}

function timestamp_changed(t: timespec64, sb: super_block): timespec64 {
  if (t.tv_sec <= sb.s_time_min || t.tv_sec >= sb.s_time_max) {
    const tv_sec = Math.min(Math.max(t.tv_sec, sb.s_time_min), sb.s_time_max);
    return { tv_sec, tv_nsec: 0 };
  }
  const below = t.tv_nsec % sb.s_time_gran;
  return below === 0 ? t : { tv_sec: t.tv_sec, tv_nsec: t.tv_nsec - below };
}

export { timespec64_compare, timespec64_equal } from "../time.ts";

export const i_size_read = (inode: inode): number => inode.i_size;

export function i_size_write(inode: inode, size: number): void {
  inode.i_size = size;
}

export function inode_inc_iversion(inode: inode): void {
  inode.i_version++;
}

export function inode_lock(inode: inode): MaybeWait {
  return inode.i_rwsem.down_write();
}
export function inode_lock_nested(inode: inode, subclass: number): MaybeWait {
  return inode.i_rwsem.down_write(subclass);
}
export function inode_unlock(inode: inode): void {
  inode.i_rwsem.up_write();
}
export function inode_trylock(inode: inode): boolean {
  return inode.i_rwsem.down_write_trylock();
}
export function inode_lock_shared(inode: inode): MaybeWait {
  return inode.i_rwsem.down_read();
}
export function inode_trylock_shared(inode: inode): boolean {
  return inode.i_rwsem.down_read_trylock();
}
export function inode_unlock_shared(inode: inode): void {
  inode.i_rwsem.up_read();
}
export function inode_is_locked(inode: inode): boolean {
  return inode.i_rwsem.is_locked();
}

/** i_rwsem of up to two files, in a fixed order; the same file is locked once. */
export async function lock_two_nondirectories(a: inode, b: inode): Promise<void> {
  const [first, second] = a.i_ino <= b.i_ino ? [a, b] : [b, a];
  const p = first.i_rwsem.down_write(I_MUTEX_NORMAL);
  if (p) await p;
  if (first === second) return;
  const q = second.i_rwsem.down_write(I_MUTEX_NONDIR2);
  if (q) await q;
}

export function unlock_two_nondirectories(a: inode, b: inode): void {
  a.i_rwsem.up_write();
  if (a !== b) b.i_rwsem.up_write();
}

// --- write access against execution ---

export function get_write_access(inode: inode): void {
  if (inode.i_writecount < 0) throw ETXTBSY;
  inode.i_writecount++;
}

export function put_write_access(inode: inode): void {
  assert(inode.i_writecount > 0);
  inode.i_writecount--;
}

export function deny_write_access(inode: inode): void {
  if (inode.i_writecount > 0) throw ETXTBSY;
  inode.i_writecount--;
}

export function allow_write_access(inode: inode): void {
  assert(inode.i_writecount < 0);
  inode.i_writecount++;
}

export function inode_is_open_for_write(inode: inode): boolean {
  return inode.i_writecount > 0;
}

// --- direct IO ---

/** For the wait-for graph: beside the bits of i_state. */
const DIO = 1 << 30;

export function inode_dio_begin(inode: inode): void {
  inode.i_dio_count++;
  busy_begin(inode.kernel, inode, DIO);
}

export function inode_dio_end(inode: inode): void {
  assert(inode.i_dio_count > 0);
  busy_end(inode.kernel, inode, DIO);
  if (--inode.i_dio_count === 0) inode_wake(inode);
}

/** Waits for direct IO under way. The caller holds i_rwsem, so none begins. */
export function inode_dio_wait(inode: inode): MaybeWait {
  if (inode.i_dio_count === 0) return undefined;
  const owner = (): task_struct[] => busy_tasks(inode.kernel, inode, DIO);
  return inode.i_sb.s_inode_wait.wait_event(() => inode.i_dio_count === 0, { owner });
}
