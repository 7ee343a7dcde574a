/**
 * tools/api/device_io.ts - bytes at any place of a block device, for tools: what is no whole sector
 * is read first.
 */
import { notImplemented } from "../../kernel/assert.ts";
import { type block_device, REQ_OP_READ, REQ_OP_WRITE } from "../../kernel/include/blkdev.ts";
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";

function transfer(bdev: block_device, op: number, at: number, bytes: Uint8Array): void {
  const p = bdev_rw_bytes(bdev, op, at, bytes, 0, bytes.length);
  if (p) notImplemented("a tool on a device that makes it wait");
}

export function read_bytes(bdev: block_device, offset: number, length: number): Uint8Array {
  const sector = bdev.bd_disk.logical_block_size;
  const first = Math.floor(offset / sector) * sector;
  const bytes = new Uint8Array(Math.ceil((offset + length) / sector) * sector - first);
  transfer(bdev, REQ_OP_READ, first, bytes);
  return bytes.subarray(offset - first, offset - first + length);
}

export function write_bytes(bdev: block_device, offset: number, bytes: Uint8Array): void {
  const sector = bdev.bd_disk.logical_block_size;
  const first = Math.floor(offset / sector) * sector;
  const end = Math.ceil((offset + bytes.length) / sector) * sector;
  if (first === offset && end - first === bytes.length) {
    transfer(bdev, REQ_OP_WRITE, offset, bytes);
    return;
  }
  const whole = new Uint8Array(end - first);
  transfer(bdev, REQ_OP_READ, first, whole);
  whole.set(bytes, offset - first);
  transfer(bdev, REQ_OP_WRITE, first, whole);
}
