/** tools/api/tools.ts - the tools people know, run on the devices of a kernel. */
import { notImplemented } from "../../kernel/assert.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import {
  BLK_OPEN_EXCL,
  BLK_OPEN_READ,
  BLK_OPEN_WRITE,
  type block_device,
} from "../../kernel/include/blkdev.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import {
  bdev_nr_bytes,
  blkdev_get_by_path,
  blkdev_get_no_check,
  blkdev_put,
  lookup_bdev,
} from "../../drivers/block/bdev.ts";
import { for_each_bdev } from "../../drivers/block/genhd.ts";
import { bdev_disk_changed } from "../../drivers/block/partitions.ts";
import type { pmem_device } from "../../drivers/nvdimm/pmem.ts";
import { blkdev_ioctl_bdev } from "../../fs/block_fops.ts";
import { invalidate_bdev, sync_blockdev } from "../../fs/buffer.ts";
import { e2fsck, e2fsck_usage, e2fsck_words } from "../cmd/e2fsck/command.ts";
import type { fsck_device } from "../cmd/e2fsck/image.ts";
import { dmsetup } from "../cmd/dmsetup.ts";
import { ndctl } from "../cmd/ndctl/command.ts";
import { daxctl } from "../cmd/ndctl/daxctl.ts";
import { blkdiscard } from "../cmd/blkdiscard.ts";
import { type ioctl_device, blockdev } from "../cmd/blockdev.ts";
import { type sfdisk_target, sfdisk, sfdisk_words, shows } from "../cmd/sfdisk/command.ts";
import { error_text, is_sfdisk_error } from "../cmd/sfdisk/model.ts";
import { strerror } from "../cmd/strerror.ts";
import { read_bytes, write_bytes } from "./device_io.ts";
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

/**
 * A device never written to: mkfs need not zero what it reserves. Cheap: untouched chunks are
 * known.
 */
function is_zeroed(kernel: Kernel, bdev: block_device): boolean {
  const pmem = bdev.bd_disk.private_data as Partial<pmem_device> | null;
  if (!pmem?.region || pmem.data_offset === undefined) return false;
  const start = pmem.region.start + pmem.data_offset + bdev.bd_start_sect * 512;
  return kernel.phys.is_zero(start, bdev_nr_bytes(bdev));
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
      args,
      {
        size: bdev_nr_bytes(bdev),
        logical_block_size: bdev.bd_disk.logical_block_size,
        physical_block_size: bdev.bd_disk.physical_block_size,
        zeroed: is_zeroed(kernel, bdev),
        write: (offset, bytes) => write_bytes(bdev, offset, bytes),
      },
      environment(kernel),
      name,
    );
  } finally {
    invalidate_bdev(bdev);
    await blkdev_put(bdev, mode);
  }
}

/** What a device holds now. */
function media_of(bdev: block_device): fsck_device {
  const read = (offset: number, length: number): Uint8Array => read_bytes(bdev, offset, length);
  return { size: bdev_nr_bytes(bdev), read };
}

function target_of(kernel: Kernel, path: string, bdev: block_device): sfdisk_target {
  const sector = bdev.bd_disk.logical_block_size;
  return {
    path,
    sector,
    physical_sector: bdev.bd_disk.physical_block_size,
    sectors: bdev_nr_bytes(bdev) / sector,
    read: (offset, length) => read_bytes(bdev, offset, length),
    write: (offset, bytes) => write_bytes(bdev, offset, bytes),
    random: () => kernel.machine.random.bytes(16),
    changed: false,
  };
}

/** The device is claimed while its table is changed, and its table is read again. */
async function run_sfdisk(kernel: Kernel, args: string[]): Promise<tool_result> {
  const w = sfdisk_words(args);
  if (typeof w === "string") return { status: 1, stdout: "", stderr: w };
  if (w.mode === "version") {
    return { status: 0, stdout: "sfdisk from util-linux 2.38.1\n", stderr: "" };
  }
  const mode = shows(w) ? BLK_OPEN_READ : BLK_OPEN_READ | BLK_OPEN_WRITE | BLK_OPEN_EXCL;
  let bdev: block_device;
  try {
    bdev = blkdev_get_by_path(kernel, w.path, mode, { name: "sfdisk" });
  } catch (e) {
    if (!is_errno(e)) throw e;
    return { status: 1, stdout: "", stderr: `sfdisk: cannot open ${w.path}: ${strerror(e)}\n` };
  }
  const d = target_of(kernel, w.path, bdev);
  let out: tool_result;
  try {
    await sync_blockdev(bdev);
    out = { status: 0, ...sfdisk(d, w) };
  } catch (e) {
    if (!is_sfdisk_error(e)) throw e;
    out = { status: 1, stdout: "", stderr: error_text(e) };
  } finally {
    if (d.changed) invalidate_bdev(bdev);
    await blkdev_put(bdev, mode);
  }
  if (d.changed && bdev.bd_partno === 0) bdev_disk_changed(kernel, bdev.bd_disk);
  return out;
}

/** Only checks; a filesystem that is mounted is opened all the same, as its media are now. */
async function run_e2fsck(kernel: Kernel, args: string[]): Promise<tool_result> {
  const words = e2fsck_words(args);
  if (typeof words === "string") return e2fsck_usage(words);
  let bdev: block_device;
  try {
    bdev = blkdev_get_by_path(kernel, words.device, BLK_OPEN_READ, null);
  } catch (e) {
    if (!is_errno(e)) throw e;
    return { status: 8, stdout: "", stderr: `e2fsck: ${words.device}: ${e.code}\n` };
  }
  try {
    return e2fsck(words, media_of(bdev), bdev.bd_holders > 0);
  } catch (e) {
    if (!is_errno(e)) throw e;
    return { status: 8, stdout: "", stderr: `e2fsck: ${words.device}: ${e.code}\n` };
  } finally {
    await blkdev_put(bdev, BLK_OPEN_READ);
  }
}

/** A device as tools open it: for writing, too, when it is read-only. */
function open_device(kernel: Kernel, path: string, mode: number): ioctl_device {
  const { bd_dev } = lookup_bdev(kernel, path);
  const bdev = blkdev_get_no_check(kernel, bd_dev, mode, { name: "tool" });
  return {
    ioctl: (cmd, arg) => blkdev_ioctl_bdev(bdev, mode, cmd, arg),
    close: () => blkdev_put(bdev, mode),
  };
}

function run_blockdev(kernel: Kernel, args: string[]): Promise<tool_result> {
  const devices = () => {
    const out: { path: string; start: number }[] = [];
    for_each_bdev(kernel, (b) => out.push({ path: `/dev/${b.bd_name}`, start: b.bd_start_sect }));
    return out;
  };
  const open = async (path: string): Promise<ioctl_device> =>
    open_device(kernel, path, BLK_OPEN_READ);
  return blockdev({ open, devices }, args);
}

function run_blkdiscard(kernel: Kernel, args: string[]): Promise<tool_result> {
  const mode = BLK_OPEN_READ | BLK_OPEN_WRITE;
  const open = async (path: string, excl: boolean): Promise<ioctl_device> =>
    open_device(kernel, path, excl ? mode | BLK_OPEN_EXCL : mode);
  return blkdiscard({ open }, args);
}

/** Runs `name` with `args`; device errors become the tool's own failure. */
export async function run_tool(kernel: Kernel, name: string, args: string[]): Promise<tool_result> {
  try {
    if (/^mkfs\.ext[234]$/.test(name)) return await mkfs_ext(kernel, name, args);
    if (name === "sfdisk") return await run_sfdisk(kernel, args);
    if (name === "blockdev") return await run_blockdev(kernel, args);
    if (name === "blkdiscard") return await run_blkdiscard(kernel, args);
    if (name === "ndctl") return await ndctl({ kernel }, args);
    if (name === "dmsetup") return await dmsetup(kernel, args);
    if (name === "daxctl") return await daxctl({ kernel }, args);
    if (name === "e2fsck" || /^fsck\.ext[234]$/.test(name)) return await run_e2fsck(kernel, args);
  } catch (e) {
    if (!is_errno(e)) throw e;
    return { status: 1, stdout: "", stderr: `${name}: ${e.code}\n` };
  }
  return notImplemented(name);
}
