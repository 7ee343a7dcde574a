/**
 * drivers/block/bio.ts - the way of a bio from its maker to the disk's driver.
 * Linux: block/blk-core.c (submit_bio_noacct), block/bio.c. Differs: completion is the return, or
 * the promise, of submit_bio(); an error is thrown.
 */
import type { bio, block_device } from "../../kernel/include/blkdev.ts";
import {
  REQ_OP_FLUSH,
  REQ_OP_READ,
  REQ_PREFLUSH,
  SECTOR_SHIFT,
} from "../../kernel/include/blkdev.ts";
import { EIO, EOPNOTSUPP } from "../../kernel/include/errno.ts";
import type { Sometime } from "../../kernel/include/fs.ts";
import { bdev_kernel } from "./bdev.ts";

const REQ_OP_MASK = 0xff;

export function bio_op(bio: bio): number {
  return bio.bi_opf & REQ_OP_MASK;
}

/** Bytes the bio moves. */
export function bio_bytes(bio: bio): number {
  let n = 0;
  for (const v of bio.bi_io_vec) n += v.len;
  return n;
}

function bio_check_eod(bio: bio, nr_sectors: number): void {
  const limit = bio.bi_bdev.bd_nr_sectors;
  if (nr_sectors === 0 || (nr_sectors <= limit && bio.bi_sector <= limit - nr_sectors)) return;
  const task = bdev_kernel(bio.bi_bdev).machine.sched.current;
  const name = task?.comm ?? "swapper";
  bdev_kernel(bio.bi_bdev).pr_info(
    `${name}: attempt to access beyond end of device\n${bio.bi_bdev.bd_name}: rw=${bio.bi_opf}, ` +
      `sector=${bio.bi_sector}, nr_sectors = ${nr_sectors} limit=${limit}`,
  );
  throw EIO;
}

/**
 * Carries the bio out. Throws EIO for a bad block, a dead disk, or a range beyond the end. A bio on
 * a partition leaves here pointing at the whole disk, as in the kernel: fill it again before reuse.
 */
export function submit_bio(bio: bio): Sometime<void> {
  const disk = bio.bi_bdev.bd_disk;
  if (!disk.alive) throw EIO;
  const op = bio_op(bio);
  if (op > REQ_OP_FLUSH) throw EOPNOTSUPP;
  bio_check_eod(bio, Math.ceil(bio_bytes(bio) / (1 << SECTOR_SHIFT)));
  if (bio.bi_bdev.bd_partno !== 0) {
    bio.bi_sector += bio.bi_bdev.bd_start_sect;
    bio.bi_bdev = disk.part0;
  }
  return disk.submit_bio(bio);
}

/** Reads or writes `len` bytes of one array at a byte position of the device. */
export function bdev_rw_bytes(
  bdev: block_device,
  opf: number,
  pos: number,
  bytes: Uint8Array,
  offset: number,
  len: number,
): Sometime<void> {
  return submit_bio({
    bi_bdev: bdev,
    bi_opf: opf,
    bi_sector: pos / 512,
    bi_io_vec: [{ bytes, offset, len }],
  });
}

/** blkdev_issue_flush(): everything written before is durable when this is done. */
export function blkdev_issue_flush(bdev: block_device): Sometime<void> {
  return submit_bio({
    bi_bdev: bdev,
    bi_opf: REQ_OP_FLUSH | REQ_PREFLUSH,
    bi_sector: 0,
    bi_io_vec: [],
  });
}

export function op_is_write(op: number): boolean {
  return op !== REQ_OP_READ;
}
