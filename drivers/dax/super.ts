/**
 * drivers/dax/super.ts - the DAX device: what stands between a filesystem and a memory driver.
 * Linux: drivers/dax/super.c, include/linux/dax.h. Differs: its inode is made when somebody needs
 * one (a reference count does the rest of its work), and a "kernel address" is a physical address.
 *
 * Reading order: alloc_dax() -> fs_dax_get_by_bdev() -> dax_direct_access() -> kill_dax()
 *
 * holder.ts has the holder's comings and goings one access at a time.
 *
 * Locks: `dax_srcu`, one per Kernel. Every use of a device is in a read section (dax_read_lock),
 * which for read() and write() spans the user copy and so a page fault. kill_dax() waits for all
 * sections: whoever waits for the killer inside one is in a deadlock.
 *
 * Invariants: the holder is claimed by compare-and-swap, its operations are stored after it (so a
 * notification that comes in between sees a holder without operations: EOPNOTSUPP). A dead device
 * has neither. Only the driver of a device-dax device brings it (back) to life, with run_dax().
 */
import type { block_device, gendisk } from "../../kernel/include/blkdev.ts";
import type {
  dax_device,
  dax_holder_operations,
  dax_operations,
  dax_range,
} from "../../kernel/include/dax.ts";
import { EINVAL, EIO, ENXIO, EOPNOTSUPP, ERANGE, is_errno } from "../../kernel/include/errno.ts";
import { S_DAX } from "../../kernel/include/fs.ts";
import type { Sometime, fs_dax_info, inode, super_block } from "../../kernel/include/fs.ts";
import type { percpu_rw_semaphore, srcu_struct } from "../../kernel/include/locks.ts";
import type { page } from "../../kernel/include/mm_types.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { bdev_kernel } from "../block/bdev.ts";
import { MF_MEM_PRE_REMOVE, trace_mf_hop } from "../../kernel/include/mf.ts";
import { behaves } from "../../kernel/release.ts";
import { pfn_to_page } from "../../mm/page.ts";
import { note_media_error, readable_bytes } from "../../mm/memory-failure/media.ts";
import { assert } from "../../kernel/assert.ts";
import { dax_claim_holder, dax_read, dax_release_holder, dax_touch, dax_write } from "./holder.ts";
import { type dax_marks, new_dax_marks, set_dax_holder_rwsem } from "./holder.ts";
import { guarded } from "../../kernel/guards.ts";
import { lock_class } from "../../kernel/locking/lock.ts";
import { srcu } from "../../kernel/locking/srcu.ts";
import { MINOR, MKDEV, S_IFCHR } from "../../kernel/include/stat.ts";
import { init_special_inode, new_inode } from "../../kernel/vfs/inode.ts";
import { init_pseudo } from "../../kernel/vfs/super.ts";

const DAX_SRCU = lock_class("dax_srcu");
const DAX_MAJOR = 252;
const DAXFS_MAGIC = 0x64646178;

export interface dax_state {
  readonly dax_srcu: srcu_struct;
  /** Which disk has which device. */
  readonly dax_hosts: Map<gendisk, dax_device_object>;
  /** Minor numbers in use: the lowest free one is given next. */
  readonly minors: Set<number>;
  /** The pseudo filesystem of the devices' inodes; made with the first. */
  dax_superblock: super_block | null;
  /** fs/dax: wakes who waits for a page of an fsdax device to fall idle. */
  page_idle: ((page: page) => void) | null;
}

export function dax_state(kernel: Kernel): dax_state {
  return (kernel.dax_state ??= make_dax_state(kernel)) as dax_state;
}

function make_dax_state(kernel: Kernel): dax_state {
  return {
    dax_srcu: new srcu(kernel.machine, DAX_SRCU),
    dax_hosts: new Map(),
    minors: new Set(),
    dax_superblock: null,
    page_idle: null,
  };
}

class dax_device_object implements dax_device {
  readonly kernel: Kernel;
  readonly name: string;
  readonly ops: dax_operations | null;
  readonly base_pfn: number; // immutable
  /** Of the character device that a device-dax device is; every device takes one. */
  readonly dev: number;
  private_data: unknown;
  alive = true; // cleared once, by kill_dax()
  synchronous = false;
  write_cache = false;
  nocache = false;
  nomc = false;
  holder_data: unknown = null; // compare-and-swap
  holder_ops: dax_holder_operations | null = null;
  holder_rwsem: percpu_rw_semaphore | null = null;
  refs = 1;
  readonly marks: dax_marks;
  inode: inode | null = null;

  constructor(
    kernel: Kernel,
    name: string,
    ops: dax_operations | null,
    pfn: number,
    minor: number,
  ) {
    this.kernel = kernel;
    this.name = name;
    this.ops = ops;
    this.base_pfn = pfn;
    this.dev = MKDEV(DAX_MAJOR, minor);
    this.marks = new_dax_marks(kernel, name);
    if (kernel.proposals.dax_holder_rwsem) set_dax_holder_rwsem(this);
  }
}

/**
 * Enters a read section: the device stays as alive as it is. Give the cookie to dax_read_unlock().
 */
export function dax_read_lock(kernel: Kernel): number {
  return dax_state(kernel).dax_srcu.read_lock();
}

export function dax_read_unlock(kernel: Kernel, id: number): void {
  dax_state(kernel).dax_srcu.read_unlock(id);
}

/**
 * A live device over memory whose page 0 is frame `base_pfn`. Without operations (device-dax) there
 * is no direct access for others.
 */
export function alloc_dax(
  kernel: Kernel,
  private_data: unknown,
  ops: dax_operations | null,
  base_pfn: number,
  name?: string,
): dax_device {
  const { minors } = dax_state(kernel);
  let minor = 0;
  while (minors.has(minor)) minor++;
  minors.add(minor);
  const dev = new dax_device_object(kernel, name ?? `dax${minor}`, ops, base_pfn, minor);
  dev.private_data = private_data;
  return dev;
}

/** The number of its character device (MKDEV). */
export function dax_devt(dev: dax_device): number {
  return (dev as dax_device_object).dev;
}

/** The inode whose mapping all files of a device-dax device share. */
export function dax_inode(dev: dax_device): inode {
  const d = dev as dax_device_object;
  if (d.inode) return d.inode;
  const st = dax_state(d.kernel);
  st.dax_superblock ??= init_pseudo(d.kernel, "dax", DAXFS_MAGIC);
  const node = new_inode(st.dax_superblock);
  init_special_inode(node, S_IFCHR, d.dev);
  node.i_flags = S_DAX;
  node.i_data.dax_dev = d;
  d.inode = node;
  return node;
}

/** The driver of a device-dax device is ready. */
export function run_dax(dev: dax_device): void {
  dev.alive = true;
}

/** One more user of the device: put_dax() ends it. */
export function dax_get(dev: dax_device): void {
  (dev as dax_device_object).refs++;
}

export function dax_alive(dev: dax_device): boolean {
  return dev.alive;
}

export function put_dax(dev: dax_device | null): void {
  if (!dev) return;
  const d = dev as dax_device_object;
  d.refs--;
  if (d.refs === 0) dax_state(d.kernel).minors.delete(MINOR(d.dev));
}

/**
 * Ends a device: its holder hears "all of it failed" first (from 6.8 on, that it is about to go),
 * then no new use begins, then the uses under way are waited for, then the holder is forgotten.
 * With a holder rwsem the holder is not told: dead and without a holder are one step.
 */
export async function kill_dax(dev: dax_device | null): Promise<void> {
  if (!dev) return;
  const { kernel } = dev as dax_device_object;
  const { dax_srcu } = dax_state(kernel);
  if (dev.holder_rwsem) {
    await forget_holder(dev, dev.holder_rwsem);
  } else {
    await tell_of_removal(kernel, dev);
    const q = dax_write(dev, "alive");
    if (q) await q;
    dev.alive = false;
  }
  const p = guarded(kernel, "dax_kill_drains") ? dax_srcu.synchronize() : undefined;
  if (p) await p;
  dax_touch(dev, "holder_ops", true);
  dax_touch(dev, "holder_data", true);
  dev.holder_ops = null;
  dev.holder_data = null;
}

async function forget_holder(dev: dax_device, rwsem: percpu_rw_semaphore): Promise<void> {
  const p = rwsem.down_write();
  if (p) await p;
  dev.alive = false;
  dev.holder_ops = null;
  dev.holder_data = null;
  rwsem.up_write();
}

async function tell_of_removal(kernel: Kernel, dev: dax_device): Promise<void> {
  const p = dax_read(dev, "holder_data");
  if (p) await p;
  if (dev.holder_data === null) return;
  try {
    const flags = behaves(kernel, "dax_holder_pre_remove") ? MF_MEM_PRE_REMOVE : 0;
    await dax_holder_notify_failure(dev, 0, Number.MAX_SAFE_INTEGER, flags);
  } catch (err) {
    if (!is_errno(err)) throw err;
  }
}

export function dax_add_host(dev: dax_device, disk: gendisk): void {
  const d = dev as dax_device_object;
  const hosts = dax_state(d.kernel).dax_hosts;
  assert(!hosts.has(disk), "a disk has one DAX device");
  hosts.set(disk, d);
  disk.dax_dev = dev;
}

export function dax_remove_host(kernel: Kernel, disk: gendisk): void {
  dax_state(kernel).dax_hosts.delete(disk);
  disk.dax_dev = null;
}

/**
 * The DAX device under `bdev`, and the byte at which the partition starts on it. With a `holder`
 * the device is claimed: a device that is held already, by whomever, answers as if there were none.
 * Null also when the partition is not page aligned (logged) or the device is dead.
 */
export function fs_dax_get_by_bdev(
  bdev: block_device,
  holder: unknown = null,
  ops: dax_holder_operations | null = null,
): fs_dax_info | null {
  const kernel = bdev_kernel(bdev);
  if (!bdev.bd_disk.queue_dax) return null;
  const start_off = bdev.bd_start_sect * 512;
  const part_size = bdev.bd_nr_sectors * 512;
  if (start_off % kernel.PAGE_SIZE || part_size % kernel.PAGE_SIZE) {
    kernel.pr_info(`${bdev.bd_name}: error: unaligned partition for dax`);
    return null;
  }
  const id = dax_read_lock(kernel);
  let dev = dax_state(kernel).dax_hosts.get(bdev.bd_disk) ?? null;
  if (dev && (!dev.alive || dev.refs <= 0)) dev = null;
  if (dev && holder !== null) {
    if (dev.holder_data === null) {
      dev.holder_data = holder;
      dev.holder_ops = ops;
    } else {
      dev = null;
    }
  }
  if (dev) dev.refs++;
  dax_read_unlock(kernel, id);
  return dev && { dax_dev: dev, start_off };
}

/** Claims a device got by other means (device mapper). Throws ENXIO on a dead one, EBUSY never. */
export function fs_dax_get(dev: dax_device, holder: unknown, ops: dax_holder_operations): boolean {
  const d = dev as dax_device_object;
  if (!d.alive || d.refs <= 0 || d.holder_data !== null) return false;
  d.holder_data = holder;
  d.holder_ops = ops;
  d.refs++;
  return true;
}

/** Only the holder's own release clears the holder; after kill_dax() there is none to clear. */
export function fs_put_dax(dev: dax_device | null, holder: unknown = null): void {
  if (dev && holder !== null && dev.holder_data === holder) {
    dev.holder_data = null;
    dev.holder_ops = null;
  }
  put_dax(dev);
}

/**
 * As fs_dax_get(), for callers that may sleep: others can come in between any two accesses, and a
 * holder rwsem is taken. False: dead, or held.
 */
export async function fs_dax_claim(
  dev: dax_device,
  holder: unknown,
  ops: dax_holder_operations,
): Promise<boolean> {
  const d = dev as dax_device_object;
  const mine = await dax_claim_holder(d, holder, ops, dax_state(d.kernel).dax_srcu);
  if (mine) d.refs++;
  return mine;
}

/** As fs_put_dax(), for callers that may sleep. */
export async function fs_dax_release(dev: dax_device, holder: unknown): Promise<void> {
  await dax_release_holder(dev, holder);
  put_dax(dev);
}

export function dax_holder(dev: dax_device): unknown {
  return dev.holder_data;
}

/**
 * Where page `pgoff` of the device is, and how many pages (at most `nr_pages`) follow it: filled
 * into `out`. EOPNOTSUPP: no device; ENXIO: dead; EINVAL: negative count; ERANGE: nothing there;
 * and what the driver throws, EIO for bad sectors. Call it in a read section.
 */
export function dax_direct_access(
  dev: dax_device | null,
  pgoff: number,
  nr_pages: number,
  mode: number,
  out: dax_range,
): void {
  if (!dev) throw EOPNOTSUPP;
  if (!dev.alive) throw ENXIO;
  if (nr_pages < 0) throw EINVAL;
  if (!dev.ops) throw EOPNOTSUPP;
  dev.ops.direct_access(dev, pgoff, nr_pages, mode, out);
  if (out.nr_pages <= 0) throw ERANGE;
  if (out.nr_pages > nr_pages) out.nr_pages = nr_pages;
}

/** For exploration: processes that have these pages mapped see the same bytes. */
function note_pages(kernel: Kernel, paddr: number, bytes: number, write: boolean): void {
  for (let at = paddr; at < paddr + bytes; at += kernel.PAGE_SIZE) {
    const page = pfn_to_page(kernel, Math.floor(at / kernel.PAGE_SIZE));
    if (page !== null) kernel.sched.observer?.touch(page, write);
  }
}

/** Copies the iterator's next bytes to the device; 0 on a dead one. Returns bytes copied. */
export function dax_copy_from_iter(
  dev: dax_device,
  paddr: number,
  bytes: number,
  iter: iov_iter,
): Sometime<number> {
  if (!dev.alive) return 0;
  const { kernel } = dev as dax_device_object;
  if (kernel.sched.observer !== null) note_pages(kernel, paddr, bytes, true);
  return iter.copy_iter_to_phys(paddr, bytes, dev.nocache);
}

export function dax_copy_to_iter(
  dev: dax_device,
  paddr: number,
  bytes: number,
  iter: iov_iter,
): Sometime<number> {
  if (!dev.alive) return 0;
  const { kernel } = dev as dax_device_object;
  if (kernel.sched.observer !== null) note_pages(kernel, paddr, bytes, false);
  const good = readable_bytes(kernel, paddr, bytes);
  // A machine check in a copy that can be broken off: it ends short, and the driver notes the
  // block.
  if (good < bytes) note_media_error(kernel, paddr + good);
  return good === 0 ? 0 : iter.copy_phys_to_iter(paddr, good);
}

/** One page at a time, as the kernel has it: EIO for more. ENXIO: dead. */
export function dax_zero_page_range(
  dev: dax_device,
  pgoff: number,
  nr_pages: number,
): Sometime<void> {
  if (!dev.alive) throw ENXIO;
  if (nr_pages !== 1) throw EIO;
  if (!dev.ops) throw EOPNOTSUPP;
  return dev.ops.zero_page_range(dev, pgoff, nr_pages);
}

/** Writes over bad sectors. Returns bytes written; 0 when the driver cannot. */
export function dax_recovery_write(
  dev: dax_device,
  pgoff: number,
  paddr: number,
  bytes: number,
  iter: iov_iter,
): Sometime<number> {
  return dev.ops?.recovery_write?.(dev, pgoff, paddr, bytes, iter) ?? 0;
}

/**
 * Writes the range's cache lines back, when the device needs it (write_cache). They are durable
 * after the next fence.
 */
export function dax_flush(dev: dax_device, paddr: number, len: number): void {
  if (!dev.write_cache) return;
  (dev as dax_device_object).kernel.phys.clwb(paddr, len);
}

/**
 * Tells the holder that a byte range of the device is bad. ENXIO: dead device; EOPNOTSUPP: no
 * holder operations; else whatever the holder throws.
 */
export async function dax_holder_notify_failure(
  dev: dax_device,
  off: number,
  len: number,
  mf_flags: number,
): Promise<void> {
  const { kernel } = dev as dax_device_object;
  const { holder_rwsem } = dev;
  const p = holder_rwsem?.down_read();
  if (p) await p;
  const id = holder_rwsem ? 0 : dax_read_lock(kernel);
  try {
    const q = dax_read(dev, "alive");
    if (q) await q;
    if (!dev.alive) throw ENXIO;
    const r = dax_read(dev, "holder_ops");
    if (r) await r;
    // Read once: a concurrent fs_put_dax() may clear it while the holder works.
    const ops = dev.holder_ops;
    if (!ops) throw EOPNOTSUPP;
    await ops.notify_failure(dev, off, len, mf_flags);
    trace_holder(kernel, dev, off, len, "");
  } catch (err) {
    if (is_errno(err)) trace_holder(kernel, dev, off, len, err.code);
    throw err;
  } finally {
    if (holder_rwsem) holder_rwsem.up_read();
    else dax_read_unlock(kernel, id);
  }
}

/** How the holder answered, or why there was none to ask. */
function trace_holder(
  kernel: Kernel,
  dev: dax_device,
  off: number,
  len: number,
  error: string,
): void {
  if (!kernel.trace.enabled) return;
  const held = dev.holder_ops !== null;
  const range = `offset 0x${off.toString(16)} length 0x${len.toString(16)}`;
  const { name, disk_name } = (dev.holder_data ?? {}) as { name?: unknown; disk_name?: unknown };
  const who = held
    ? String(disk_name ?? name ?? "holder")
    : `${dev.name}, ${dev.alive ? "no holder" : "dead"}`;
  const hop = held ? "holder" : "dax_device";
  kernel.trace.emit(trace_mf_hop, { hop, who, what: `notify_failure ${range}`, error });
}

export function dax_write_cache(dev: dax_device, wc: boolean): void {
  dev.write_cache = wc;
}
export function dax_write_cache_enabled(dev: dax_device): boolean {
  return dev.write_cache;
}
export function dax_synchronous(dev: dax_device): boolean {
  return dev.synchronous;
}
export function set_dax_synchronous(dev: dax_device): void {
  dev.synchronous = true;
}
export function set_dax_nocache(dev: dax_device): void {
  dev.nocache = true;
}
export function set_dax_nomc(dev: dax_device): void {
  dev.nomc = true;
}

/** May a file of this device be mapped with MAP_SYNC? `is_dax` says whether the inode is S_DAX. */
export function daxdev_mapping_supported(
  is_dax: boolean,
  wants_sync: boolean,
  dev: dax_device | null,
): boolean {
  if (!wants_sync) return true;
  if (!is_dax || !dev) return false;
  return dev.synchronous;
}
