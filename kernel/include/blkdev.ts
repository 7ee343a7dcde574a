/**
 * kernel/include/blkdev.ts - block devices and bios. Linux: include/linux/{blkdev,blk_types,bio}.h.
 * Classes: drivers/block/.
 */
import type { Sometime, inode } from "./fs.ts";
import type { dax_device } from "./dax.ts";
import type { mutex } from "./locks.ts";

export const SECTOR_SHIFT = 9;
export const REQ_OP_READ = 0;
export const REQ_OP_WRITE = 1;
export const REQ_OP_FLUSH = 2;
export const REQ_OP_DISCARD = 3;
export const REQ_PREFLUSH = 1 << 8;
export const REQ_FUA = 1 << 9;
export const REQ_SYNC = 1 << 10;
export const REQ_META = 1 << 11;

/**
 * One IO: `bytes` for buffers outside physical memory (buffer heads), in 512-byte sectors of
 * bi_bdev.
 */
export interface bio {
  bi_bdev: block_device;
  bi_opf: number;
  /** Sector on bi_bdev (the partition, before remapping). */
  bi_sector: number;
  /** What is read into or written from, in order. */
  bi_io_vec: { bytes: Uint8Array; offset: number; len: number }[];
}

/** Metadata that travels with each sector: /sys/block/DISK/integrity. */
export interface blk_integrity {
  /** Bytes of metadata; 0: the disk has none. */
  tag_size: number;
  read_verify: boolean;
  write_generate: boolean;
}

export interface gendisk {
  readonly disk_name: string;
  readonly major: number;
  readonly first_minor: number;
  /** 512-byte sectors. */
  capacity: number;
  logical_block_size: number;
  physical_block_size: number;
  ro: boolean;
  part0: block_device;
  part_tbl: Map<number, block_device>;
  dax_dev: dax_device | null;
  /** queue/dax: QUEUE_FLAG_DAX */
  queue_dax: boolean;
  queue_write_cache: boolean;
  readonly integrity: blk_integrity;
  /** Read-ahead, in sectors of 512 bytes. */
  ra_sectors: number;
  /** Never sleeps for pmem; throws Errno on error (EIO for a bad block). */
  submit_bio(bio: bio): Sometime<void>;
  alive: boolean;
  private_data: unknown;
}

export interface block_device {
  readonly bd_disk: gendisk;
  readonly bd_partno: number;
  readonly bd_dev: number;
  /** "pmem0", "pmem0p1" */
  readonly bd_name: string;
  bd_start_sect: number;
  bd_nr_sectors: number;
  bd_inode: inode;
  bd_holder: unknown;
  bd_holders: number;
  bd_openers: number;
  bd_super: unknown;
  readonly bd_fsfreeze_mutex: mutex;
  /** How often freeze_bdev() has been called, and what it froze: bd_fsfreeze_mutex. */
  bd_fsfreeze_count: number;
  bd_fsfreeze_sb: unknown;
  bd_read_only: boolean;
  /** Set by set_blocksize: size of the buffers in the buffer cache. */
  bd_block_size: number;
  /** Buffer cache, owned by fs/buffer.ts. */
  bd_buffers: unknown;
}

/** What a mounted filesystem holds of its device. */
export interface bdev_handle_like {
  bdev: block_device;
  holder: unknown;
  mode: number;
}
export const BLK_OPEN_READ = 1;
export const BLK_OPEN_WRITE = 2;
export const BLK_OPEN_EXCL = 4;
