/** tools/api/tools.ts - the tools people know, run on the devices of a kernel. */
import { notImplemented } from "../../kernel/assert.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import { BLK_OPEN_EXCL, BLK_OPEN_READ, BLK_OPEN_WRITE } from "../../kernel/include/blkdev.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { bdev_nr_bytes, blkdev_get_by_path, blkdev_put } from "../../drivers/block/bdev.ts";
import { blkdev_issue_zeroout } from "../../drivers/block/blk-lib.ts";
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";
import { REQ_OP_WRITE } from "../../kernel/include/blkdev.ts";
import { invalidate_bdev } from "../../fs/buffer.ts";
import { mkfs_ext4, type mkfs_env } from "../cmd/mkfs_ext4.ts";

export interface tool_result {
  status: number;
  stdout: string;
  stderr: string;
}

function environment(kernel: Kernel): mkfs_env {
  return {
    uuid: () => kernel.machine.random.bytes(16),
    now_sec: kernel.time.real().tv_sec,
    page_size: kernel.PAGE_SIZE,
  };
}

/** mkfs of the ext family: the device is the first word that begins with "/dev/". */
async function mkfs_ext(kernel: Kernel, name: string, args: string[]): Promise<tool_result> {
  const path = args.find((a) => a.startsWith("/dev/"));
  if (path === undefined) {
    return { status: 1, stdout: "", stderr: `${name}: no device given (/dev/...)\n` };
  }
  const mode = BLK_OPEN_READ | BLK_OPEN_WRITE | BLK_OPEN_EXCL;
  const bdev = blkdev_get_by_path(kernel, path, mode, { name });
  try {
    return mkfs_ext4(
      [`--as=${name}`, ...args],
      {
        size: bdev_nr_bytes(bdev),
        logical_block_size: bdev.bd_disk.logical_block_size,
        physical_block_size: bdev.bd_disk.physical_block_size,
        write: (offset, bytes) => {
          void bdev_rw_bytes(bdev, REQ_OP_WRITE, offset, bytes);
        },
        zero: (offset, length) => {
          void blkdev_issue_zeroout(bdev, offset, length);
        },
      },
      environment(kernel),
    );
  } finally {
    invalidate_bdev(bdev);
    await blkdev_put(bdev, mode);
  }
}

/** Runs `name` with `args`; device errors become the tool's own failure. */
export async function run_tool(kernel: Kernel, name: string, args: string[]): Promise<tool_result> {
  try {
    if (/^mkfs\.ext[234]$/.test(name)) return await mkfs_ext(kernel, name, args);
  } catch (e) {
    if (!is_errno(e)) throw e;
    return { status: 1, stdout: "", stderr: `${name}: ${e.code}\n` };
  }
  return notImplemented(name);
}
