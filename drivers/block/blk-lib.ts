/**
 * drivers/block/blk-lib.ts - zeroing a range of a device. Linux: block/blk-lib.c.
 */
import type { block_device } from "../../kernel/include/blkdev.ts";
import { REQ_OP_WRITE } from "../../kernel/include/blkdev.ts";
import { EINVAL, EPERM } from "../../kernel/include/errno.ts";
import { bdev_read_only } from "./bdev.ts";
import { submit_bio } from "./bio.ts";

const ZERO_PAGE_BYTES = 4096;
/** Pieces of one bio. */
const MAX_VECS = 256;

/**
 * Writes zeroes over `nr_sects` sectors (of 512 bytes). pmem has no operation of its own for this,
 * so the zeroes travel as data, the same page again and again.
 * @throws EINVAL not a multiple of the logical block; EPERM read-only; EIO
 */
export async function blkdev_issue_zeroout(
  bdev: block_device,
  sector: number,
  nr_sects: number,
): Promise<void> {
  if (bdev_read_only(bdev)) throw EPERM;
  const per = bdev.bd_disk.logical_block_size / 512;
  if (sector % per !== 0 || nr_sects % per !== 0) throw EINVAL;
  const zeroes = new Uint8Array(ZERO_PAGE_BYTES);
  let at = sector;
  let left = nr_sects * 512;
  while (left > 0) {
    const bi_io_vec = [];
    let bytes = 0;
    while (left > 0 && bi_io_vec.length < MAX_VECS) {
      const len = Math.min(left, ZERO_PAGE_BYTES);
      bi_io_vec.push({ bytes: zeroes, offset: 0, len });
      left -= len;
      bytes += len;
    }
    const p = submit_bio({ bi_bdev: bdev, bi_opf: REQ_OP_WRITE, bi_sector: at, bi_io_vec });
    if (p) await p;
    at += bytes / 512;
  }
}
