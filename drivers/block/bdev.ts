/**
 * drivers/block/bdev.ts - block devices: opening by name or number, exclusive holders, block size.
 * Linux: block/bdev.c. Differs: one opener state for a disk and its partitions each; an open never
 * rescans partitions.
 *
 * Holders: bd_holder is the object that claims the device (a superblock, a mapped device),
 * bd_holders how often it does. Claiming a partition also marks its disk with `bd_may_claim`, so
 * that the disk cannot be claimed as a whole, but its other partitions can. All under the baton: no
 * sleep between check and claim.
 */
import type { block_device, gendisk } from "../../kernel/include/blkdev.ts";
import { BLK_OPEN_EXCL, BLK_OPEN_WRITE } from "../../kernel/include/blkdev.ts";
import { EACCES, EBUSY, EINVAL, ENOENT, ENXIO, is_errno } from "../../kernel/include/errno.ts";
import type { MaybeWait, inode } from "../../kernel/include/fs.ts";
import { MKDEV, S_IFBLK, S_ISBLK } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { lock_class, mutex } from "../../kernel/locking/locks.ts";
import { init_pseudo, vfs_of } from "../../kernel/vfs/super.ts";
import { init_special_inode, new_inode } from "../../kernel/vfs/inode.ts";
import { BLOCK_EXT_MAJOR, block_state, disk_part_name } from "./genhd.ts";

const FSFREEZE_MUTEX = lock_class("&bdev->bd_fsfreeze_mutex");

/** The mark on a disk one of whose partitions is claimed. */
export const bd_may_claim: object = Object.freeze({ name: "bd_may_claim" });

class bdev_object implements block_device {
  readonly bd_disk: gendisk;
  readonly bd_partno: number;
  readonly bd_dev: number;
  readonly bd_name: string;
  readonly kernel: Kernel;
  bd_start_sect: number;
  bd_nr_sectors: number;
  bd_holder: unknown = null;
  bd_holders = 0;
  bd_openers = 0;
  bd_super: unknown = null;
  #fsfreeze_mutex: mutex | null = null;
  bd_fsfreeze_count = 0;
  bd_fsfreeze_sb: unknown = null;
  bd_read_only: boolean;
  bd_block_size: number;
  bd_buffers: unknown = null;

  constructor(kernel: Kernel, disk: gendisk, partno: number, minor: number, s: number, n: number) {
    this.kernel = kernel;
    this.bd_disk = disk;
    this.bd_partno = partno;
    // partitions have extended numbers, whatever their disk has
    this.bd_dev = MKDEV(partno === 0 ? disk.major : BLOCK_EXT_MAJOR, minor);
    this.bd_name = disk_part_name(disk, partno);
    this.bd_start_sect = s;
    this.bd_nr_sectors = n;
    this.bd_read_only = disk.ro;
    this.bd_block_size = natural_block_size(disk.logical_block_size, n, kernel.PAGE_SIZE);
  }

  /** Made at the first use: the pseudo filesystem needs the VFS, which boots after the drivers. */
  get bd_inode(): inode {
    return bdev_inode(this);
  }

  /** Made at the first freeze. */
  get bd_fsfreeze_mutex(): mutex {
    this.#fsfreeze_mutex ??= new mutex(this.kernel.machine, FSFREEZE_MUTEX, this.bd_name);
    return this.#fsfreeze_mutex;
  }
}

const BDEVFS_MAGIC = 0x62646576;

/** The inode of a block device in the pseudo filesystem of block devices. */
function bdev_inode(bdev: bdev_object): inode {
  const st = block_state(bdev.kernel);
  const found = st.inodes.get(bdev);
  if (found) return found;
  st.bd_sb ??= init_pseudo(bdev.kernel, "bdev", BDEVFS_MAGIC);
  const inode = new_inode(st.bd_sb);
  init_special_inode(inode, S_IFBLK, bdev.bd_dev);
  inode.i_bdev = bdev;
  inode.i_size = bdev_nr_bytes(bdev);
  inode.i_blkbits = Math.log2(bdev.bd_block_size);
  st.inodes.set(bdev, inode);
  return inode;
}

/** set_init_blocksize(): nothing is cached while nobody has the device open. */
function init_blocksize(bdev: block_device): void {
  const kernel = bdev_kernel(bdev);
  const { logical_block_size } = bdev.bd_disk;
  const size = natural_block_size(logical_block_size, bdev.bd_nr_sectors, kernel.PAGE_SIZE);
  if (bdev.bd_block_size === size) return;
  bdev.bd_block_size = size;
  const inode = block_state(kernel).inodes.get(bdev);
  if (inode) inode.i_blkbits = Math.log2(size);
}

/** The largest block, up to a page, that divides the device. */
function natural_block_size(logical: number, nr_sectors: number, page_size: number): number {
  let size = logical;
  while (size < page_size && (nr_sectors * 512) % (size * 2) === 0) size *= 2;
  return size;
}

export function make_bdev(
  kernel: Kernel,
  disk: gendisk,
  partno: number,
  minor: number,
  start_sect: number,
  nr_sectors: number,
): block_device {
  return new bdev_object(kernel, disk, partno, minor, start_sect, nr_sectors);
}

export function bdev_kernel(bdev: block_device): Kernel {
  return (bdev as bdev_object).kernel;
}

export function bdev_whole(bdev: block_device): block_device {
  return bdev.bd_disk.part0;
}

/** Bytes. */
export function bdev_nr_bytes(bdev: block_device): number {
  return bdev.bd_nr_sectors * 512;
}

export function bdev_read_only(bdev: block_device): boolean {
  return bdev.bd_read_only || bdev.bd_disk.ro;
}

function bd_claimable(bdev: block_device, holder: unknown): boolean {
  if (bdev.bd_holder === holder) return true;
  if (bdev.bd_holder !== null) return false;
  const whole = bdev_whole(bdev);
  if (whole === bdev) return true;
  return whole.bd_holder === null || whole.bd_holder === bd_may_claim;
}

function claim(bdev: block_device, holder: unknown): void {
  if (!bd_claimable(bdev, holder)) throw EBUSY;
  const whole = bdev_whole(bdev);
  if (whole !== bdev) {
    whole.bd_holder = bd_may_claim;
    whole.bd_holders++;
  }
  bdev.bd_holder = holder;
  bdev.bd_holders++;
}

function unclaim(bdev: block_device): void {
  const whole = bdev_whole(bdev);
  if (whole !== bdev && --whole.bd_holders === 0) whole.bd_holder = null;
  if (--bdev.bd_holders === 0) {
    bdev.bd_holder = null;
    bdev.bd_super = null;
  }
}

/**
 * Opens by device number. `mode` is BLK_OPEN_*; with BLK_OPEN_EXCL, `holder` claims the device
 * (EBUSY when another holds it). ENXIO: no such device. A read-only device may be opened for
 * writing so, as by open(2): the writes fail.
 */
export function blkdev_get_no_check(
  kernel: Kernel,
  dev: number,
  mode: number,
  holder: unknown,
): block_device {
  const bdev = block_state(kernel).bdevs.get(dev);
  if (!bdev || !bdev.bd_disk.alive) throw ENXIO;
  if (mode & BLK_OPEN_EXCL) {
    if (holder === null || holder === undefined) throw EINVAL;
    claim(bdev, holder);
  }
  // the size that somebody chose lasts as long as the device is open
  if (bdev.bd_openers++ === 0) init_blocksize(bdev);
  return bdev;
}

/**
 * The device called "pmem0" or "/dev/pmem0". Names made with mknod are resolved by the VFS instead.
 */
export function lookup_bdev(kernel: Kernel, name: string): block_device {
  const plain = name.startsWith("/dev/") ? name.slice(5) : name;
  for (const bdev of block_state(kernel).bdevs.values()) {
    if (bdev.bd_name === plain) return bdev;
  }
  const node = vfs_of(kernel).devnodes.get(plain);
  const bdev = node && S_ISBLK(node.mode) ? block_state(kernel).bdevs.get(node.dev) : undefined;
  if (bdev) return bdev;
  throw ENOENT;
}

/** As filesystems and tools open. EACCES: for writing but read-only. */
export function blkdev_get_by_dev(
  kernel: Kernel,
  dev: number,
  mode: number,
  holder: unknown,
): block_device {
  const bdev = blkdev_get_no_check(kernel, dev, mode, holder);
  if (mode & BLK_OPEN_WRITE && bdev_read_only(bdev)) {
    if (mode & BLK_OPEN_EXCL) unclaim(bdev);
    bdev.bd_openers--;
    throw EACCES;
  }
  return bdev;
}

export function blkdev_get_by_path(
  kernel: Kernel,
  name: string,
  mode: number,
  holder: unknown,
): block_device {
  return blkdev_get_by_dev(kernel, lookup_bdev(kernel, name).bd_dev, mode, holder);
}

/**
 * Gives an open back, with the mode it was opened with. With the last opener the cached blocks are
 * written (an error has no one left to hear it, as in the kernel) and dropped.
 */
export async function blkdev_put(bdev: block_device, mode: number): Promise<void> {
  const ops = block_state(bdev_kernel(bdev)).cache_ops;
  if (ops && bdev.bd_openers === 1) {
    try {
      await ops.sync_blockdev(bdev);
    } catch (err) {
      if (!is_errno(err)) throw err;
    }
  }
  if (mode & BLK_OPEN_EXCL) unclaim(bdev);
  if (--bdev.bd_openers === 0) ops?.kill_bdev(bdev);
}

/**
 * Sets the size of the buffers in the device's cache: a power of two, 512 up to a page, no less
 * than the logical block (EINVAL). Another size than before drops the cache after writing it.
 */
export function set_blocksize(bdev: block_device, size: number): MaybeWait {
  const kernel = bdev_kernel(bdev);
  const power = size > 0 && Number.isInteger(Math.log2(size));
  if (!power || size < 512 || size > kernel.PAGE_SIZE) throw EINVAL;
  if (size < bdev.bd_disk.logical_block_size) throw EINVAL;
  if (bdev.bd_block_size === size) return undefined;
  const st = block_state(kernel);
  const change = (): undefined => {
    bdev.bd_block_size = size;
    const inode = st.inodes.get(bdev);
    if (inode) inode.i_blkbits = Math.log2(size);
    st.cache_ops?.kill_bdev(bdev);
    return undefined;
  };
  const p = st.cache_ops?.sync_blockdev(bdev);
  return p ? p.then(change) : change();
}
