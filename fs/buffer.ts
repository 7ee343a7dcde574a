/**
 * fs/buffer.ts - blocks in memory: the index of fs/buffer/. Linux: fs/buffer.c.
 *
 * Reading order: buffer/head.ts (one buffer), buffer/cache.ts (a device's metadata blocks),
 * buffer/page.ts (the blocks of a file's cached page).
 */
import type { Kernel } from "../kernel/kernel.ts";
import { block_state } from "../drivers/block/genhd.ts";
import { kill_bdev, sync_blockdev } from "./buffer/cache.ts";

export * from "./buffer/head.ts";
export * from "./buffer/cache.ts";
export * from "./buffer/page.ts";
export { set_blocksize } from "../drivers/block/bdev.ts";
export { blkdev_issue_flush } from "../drivers/block/bio.ts";

/** Boot: the block layer writes and drops a device's buffers through this. */
export function init_buffer(kernel: Kernel): void {
  block_state(kernel).cache_ops = { sync_blockdev, kill_bdev };
}
