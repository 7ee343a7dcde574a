/**
 * drivers/block/genhd.ts - disks: making them known, partitions, taking them away.
 * Linux: block/genhd.c, block/partitions/core.c. Differs: every disk has the major of extended
 * device numbers, as pmem's disks do.
 *
 * State of one Kernel: `block_state(kernel)`. `disks` and `bdevs` change only in add_disk(),
 * del_gendisk() and add_partition(), which do not sleep between check and change.
 */
import type { Sometime, inode, super_block } from "../../kernel/include/fs.ts";
import { S_IFBLK } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { devnode_create, devnode_delete } from "../../kernel/vfs/devnode.ts";
import type { bio, block_device, gendisk } from "../../kernel/include/blkdev.ts";
import type { dax_device } from "../../kernel/include/dax.ts";
import { EBUSY, EEXIST, ENXIO } from "../../kernel/include/errno.ts";
import { make_bdev } from "./bdev.ts";

export const BLOCK_EXT_MAJOR = 259;

/** What the layer above (fs/buffer.ts) does for a block device's cached blocks. */
export interface bdev_cache_ops {
  /** Writes the dirty buffers; throws EIO once for errors not yet reported. */
  sync_blockdev(bdev: block_device): Sometime<void>;
  /** Drops every buffer, dirty or not. */
  kill_bdev(bdev: block_device): void;
}

/** What fs/freeze.ts does for a device that is to be held still. */
export interface bdev_freeze_ops {
  /** Freezes the filesystem on the device, or only writes its buffers when there is none. */
  freeze_bdev(bdev: block_device): Promise<void>;
  thaw_bdev(bdev: block_device): Promise<void>;
}

export interface block_state {
  readonly disks: Map<string, gendisk>;
  /** By device number. */
  readonly bdevs: Map<number, block_device>;
  next_minor: number;
  cache_ops: bdev_cache_ops | null;
  freeze_ops: bdev_freeze_ops | null;
  /** The superblock that the inodes of block devices belong to (bdev.ts). */
  bd_sb: super_block | null;
  readonly inodes: Map<block_device, inode>;
}

export function block_state(kernel: Kernel): block_state {
  kernel.block_state ??= {
    disks: new Map(),
    bdevs: new Map(),
    next_minor: 0,
    cache_ops: null,
    freeze_ops: null,
    bd_sb: null,
    inodes: new Map(),
  } satisfies block_state;
  return kernel.block_state as block_state;
}

export interface disk_params {
  disk_name: string;
  /** Default: the next of the extended numbers, as pmem's disks have. */
  major?: number;
  first_minor?: number;
  /** 512-byte sectors. */
  capacity: number;
  logical_block_size?: number;
  physical_block_size?: number;
  ro?: boolean;
  dax_dev?: dax_device | null;
  queue_dax?: boolean;
  queue_write_cache?: boolean;
  /** Bytes of metadata of each sector; default 0. */
  meta_size?: number;
  submit_bio(bio: bio): Sometime<void>;
  private_data?: unknown;
}

/** blk_alloc_disk() and device_add_disk() in one: the disk is usable when this returns. */
export function add_disk(kernel: Kernel, p: disk_params): gendisk {
  const st = block_state(kernel);
  if (st.disks.has(p.disk_name)) throw EEXIST;
  const meta_size = p.meta_size ?? 0;
  const disk: gendisk = {
    disk_name: p.disk_name,
    major: p.major ?? BLOCK_EXT_MAJOR,
    first_minor: p.first_minor ?? st.next_minor++,
    capacity: p.capacity,
    logical_block_size: p.logical_block_size ?? 512,
    physical_block_size: p.physical_block_size ?? kernel.PAGE_SIZE,
    ro: p.ro ?? false,
    // Filled in on the next line: the two refer to each other.
    part0: null as unknown as block_device,
    part_tbl: new Map(),
    dax_dev: p.dax_dev ?? null,
    queue_dax: p.queue_dax ?? false,
    queue_write_cache: p.queue_write_cache ?? true,
    integrity: { tag_size: meta_size, read_verify: meta_size > 0, write_generate: meta_size > 0 },
    ra_sectors: 256,
    submit_bio: p.submit_bio,
    alive: true,
    private_data: p.private_data ?? null,
  };
  disk.part0 = make_bdev(kernel, disk, 0, disk.first_minor, 0, p.capacity);
  disk.part_tbl.set(0, disk.part0);
  st.disks.set(p.disk_name, disk);
  st.bdevs.set(disk.part0.bd_dev, disk.part0);
  devnode_create(kernel, disk.disk_name, S_IFBLK | 0o600, disk.part0.bd_dev);
  return disk;
}

/** The disk has another size from now on: sectors. */
export function set_capacity(kernel: Kernel, disk: gendisk, sectors: number): void {
  disk.capacity = sectors;
  disk.part0.bd_nr_sectors = sectors;
  const inode = block_state(kernel).inodes.get(disk.part0);
  if (inode) inode.i_size = sectors * 512;
}

/** Sectors of the disk; a partition may overlap no other (EBUSY) nor leave the disk (ENXIO). */
export function add_partition(
  kernel: Kernel,
  disk: gendisk,
  partno: number,
  start: number,
  len: number,
): block_device {
  const st = block_state(kernel);
  if (disk.part_tbl.has(partno)) throw EEXIST;
  if (start + len > disk.capacity) throw ENXIO;
  for (const [no, part] of disk.part_tbl) {
    if (no === 0) continue;
    const clear = start + len <= part.bd_start_sect;
    if (!clear && start < part.bd_start_sect + part.bd_nr_sectors) throw EBUSY;
  }
  const bdev = make_bdev(kernel, disk, partno, st.next_minor++, start, len);
  disk.part_tbl.set(partno, bdev);
  st.bdevs.set(bdev.bd_dev, bdev);
  devnode_create(kernel, bdev.bd_name, S_IFBLK | 0o600, bdev.bd_dev);
  return bdev;
}

export function delete_partition(kernel: Kernel, disk: gendisk, partno: number): void {
  const bdev = disk.part_tbl.get(partno);
  if (!bdev || partno === 0) throw ENXIO;
  if (bdev.bd_openers > 0) throw EBUSY;
  const st = block_state(kernel);
  disk.part_tbl.delete(partno);
  st.bdevs.delete(bdev.bd_dev);
  st.inodes.delete(bdev);
  devnode_delete(kernel, bdev.bd_name);
}

/** No new opens and no IO from here on; who has the device open gets errors. */
export function del_gendisk(kernel: Kernel, disk: gendisk): void {
  const st = block_state(kernel);
  disk.alive = false;
  for (const bdev of disk.part_tbl.values()) {
    st.cache_ops?.kill_bdev(bdev);
    st.bdevs.delete(bdev.bd_dev);
    st.inodes.delete(bdev);
    devnode_delete(kernel, bdev.bd_name);
  }
  st.disks.delete(disk.disk_name);
}

/** "pmem0p1" after a digit, "sda1" after a letter. */
export function disk_part_name(disk: gendisk, partno: number): string {
  if (partno === 0) return disk.disk_name;
  const digit = /\d$/.test(disk.disk_name);
  return `${disk.disk_name}${digit ? "p" : ""}${partno}`;
}

/** Every block device there is, disks and partitions, in the order they were added. */
export function for_each_bdev(kernel: Kernel, fn: (bdev: block_device) => void): void {
  for (const bdev of block_state(kernel).bdevs.values()) fn(bdev);
}
