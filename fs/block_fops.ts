/**
 * fs/block_fops.ts - block devices opened as files. Linux: block/fops.c, block/ioctl.c.
 * Reads and writes go through the buffer cache, the same one that a mounted filesystem's metadata
 * is in; with O_DIRECT straight to the device. Lies in fs/ because the buffer cache does. No mmap
 * yet.
 */
import type { block_device } from "../kernel/include/blkdev.ts";
import {
  BLK_OPEN_EXCL,
  BLK_OPEN_READ,
  BLK_OPEN_WRITE,
  REQ_OP_READ,
  REQ_OP_WRITE,
} from "../kernel/include/blkdev.ts";
import { CAP_SYS_ADMIN } from "../kernel/include/cred.ts";
import {
  EACCES,
  EBADF,
  EFAULT,
  EINVAL,
  ENOSPC,
  ENOTTY,
  EOPNOTSUPP,
  EPERM,
} from "../kernel/include/errno.ts";
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_EXCL,
} from "../kernel/include/fcntl.ts";
import type { Sometime, file, file_operations, inode, kiocb } from "../kernel/include/fs.ts";
import { FMODE_CAN_ODIRECT, FMODE_WRITE, IOCB_DIRECT } from "../kernel/include/fs.ts";
import type { iov_iter } from "../kernel/include/uio.ts";
import { notImplemented } from "../kernel/assert.ts";
import { capable } from "../kernel/cred.ts";
import {
  bdev_kernel,
  bdev_nr_bytes,
  bdev_read_only,
  blkdev_get_no_check,
  blkdev_put,
} from "../drivers/block/bdev.ts";
import { blkdev_issue_zeroout } from "../drivers/block/blk-lib.ts";
import { bdev_rw_bytes } from "../drivers/block/bio.ts";
import { bdev_disk_changed } from "../drivers/block/partitions.ts";
import {
  __bread,
  __getblk,
  blkdev_issue_flush,
  brelse,
  invalidate_bdev,
  mark_buffer_dirty,
  set_blocksize,
  set_buffer_uptodate,
  sync_blockdev,
} from "./buffer.ts";
import { generic_file_llseek_size } from "./read_write.ts";

/** Sectors of 512 bytes of the largest request. */
const MAX_SECTORS = 2560;

interface blk_file {
  bdev: block_device;
  mode: number;
}

const bdev_of = (f: file): block_device => (f.private_data as blk_file).bdev;

/** O_EXCL claims the device: EBUSY while a filesystem is mounted on it. */
function blkdev_open(inode: inode, f: file): void {
  let mode = BLK_OPEN_READ;
  if ((f.f_mode & FMODE_WRITE) !== 0) mode |= BLK_OPEN_WRITE;
  if ((f.f_flags & O_EXCL) !== 0) mode |= BLK_OPEN_EXCL;
  const bdev = blkdev_get_no_check(inode.kernel, inode.i_rdev, mode, f);
  f.private_data = { bdev, mode } satisfies blk_file;
  f.f_mapping = bdev.bd_inode.i_mapping;
  f.f_mode |= FMODE_CAN_ODIRECT;
}

function blkdev_release(_inode: inode, f: file): Promise<void> {
  const { bdev, mode } = f.private_data as blk_file;
  return blkdev_put(bdev, mode);
}

/** One block's part of a buffered read or write. Bytes moved. */
async function move_block(
  bdev: block_device,
  pos: number,
  iter: iov_iter,
  write: boolean,
): Promise<number> {
  const size = bdev.bd_block_size;
  const block = Math.floor(pos / size);
  const off = pos % size;
  const len = Math.min(size - off, iter.count);
  const whole = write && len === size;
  const bh = whole ? __getblk(bdev, block, size) : await __bread(bdev, block, size);
  try {
    if (!write) return await iter.copy_to_iter(bh.b_data, off, len);
    const n = await iter.copy_from_iter(bh.b_data, off, len);
    if (n === len && whole) set_buffer_uptodate(bh);
    if (n > 0) mark_buffer_dirty(bh);
    return n;
  } finally {
    brelse(bh);
  }
}

/** Sectors without the cache. The tail of a device that ends within a block goes this way too. */
async function move_direct(
  bdev: block_device,
  pos: number,
  iter: iov_iter,
  write: boolean,
): Promise<number> {
  const len = Math.min(iter.count, 65536);
  const bytes = new Uint8Array(len);
  if (write) {
    const n = await iter.copy_from_iter(bytes, 0, len);
    if (n < len) throw EFAULT;
    await bdev_rw_bytes(bdev, REQ_OP_WRITE, pos, bytes, 0, len);
    return n;
  }
  await bdev_rw_bytes(bdev, REQ_OP_READ, pos, bytes, 0, len);
  return iter.copy_to_iter(bytes, 0, len);
}

async function blkdev_move(iocb: kiocb, iter: iov_iter, write: boolean): Promise<number> {
  const f = iocb.ki_filp;
  const bdev = bdev_of(f);
  const size = bdev_nr_bytes(bdev);
  const direct = (iocb.ki_flags & IOCB_DIRECT) !== 0;
  iter.truncate(Math.max(0, size - iocb.ki_pos));
  if (direct) {
    const mask = bdev.bd_disk.logical_block_size - 1;
    if (iocb.ki_pos % (mask + 1) !== 0 || (iter.alignment() & mask) !== 0) throw EINVAL;
    await sync_blockdev(bdev);
    if (write) invalidate_bdev(bdev);
  }
  const cached_end = size - (size % bdev.bd_block_size);
  let done = 0;
  while (iter.count > 0) {
    const raw = direct || iocb.ki_pos >= cached_end;
    const n = await (raw ? move_direct : move_block)(bdev, iocb.ki_pos, iter, write);
    if (n === 0) break;
    iocb.ki_pos += n;
    done += n;
  }
  if (done === 0 && iter.count > 0) throw EFAULT;
  return done;
}

function blkdev_read_iter(iocb: kiocb, to: iov_iter): Sometime<number> {
  if (to.count === 0) return 0;
  return blkdev_move(iocb, to, false);
}

async function blkdev_write_iter(iocb: kiocb, from: iov_iter): Promise<number> {
  const bdev = bdev_of(iocb.ki_filp);
  if (bdev_read_only(bdev)) throw EPERM;
  if (from.count === 0) return 0;
  if (iocb.ki_pos >= bdev_nr_bytes(bdev)) throw ENOSPC;
  const n = await blkdev_move(iocb, from, true);
  return iocb.ki_filp.kernel.vfs_ops.generic_write_sync(iocb, n);
}

async function blkdev_fsync(f: file): Promise<void> {
  await sync_blockdev(bdev_of(f));
  await blkdev_issue_flush(bdev_of(f));
}

function blkdev_llseek(f: file, offset: number, whence: number): number {
  const size = bdev_nr_bytes(bdev_of(f));
  return generic_file_llseek_size(f, offset, whence, size, size);
}

async function blkdev_ioctl(f: file, cmd: string, arg: unknown): Promise<unknown> {
  const { mode, bdev } = f.private_data as blk_file;
  return await blkdev_ioctl_bdev(bdev, mode, cmd, arg);
}

/** Numbers that a device answers to its own ioctls. */
const BLK_QUESTIONS: Readonly<Record<string, (b: block_device) => number>> = Object.freeze({
  BLKGETSIZE64: bdev_nr_bytes,
  BLKGETSIZE: (b) => b.bd_nr_sectors,
  BLKSSZGET: (b) => b.bd_disk.logical_block_size,
  BLKPBSZGET: (b) => b.bd_disk.physical_block_size,
  BLKIOMIN: (b) => b.bd_disk.physical_block_size,
  BLKIOOPT: () => 0,
  BLKALIGNOFF: () => 0,
  BLKSECTGET: () => MAX_SECTORS,
  BLKBSZGET: (b) => b.bd_block_size,
  BLKROGET: (b) => (bdev_read_only(b) ? 1 : 0),
  BLKRAGET: (b) => b.bd_disk.ra_sectors,
  BLKFRAGET: (b) => b.bd_disk.ra_sectors,
  BLKDISCARDZEROES: () => 0,
});

/** [start, length] of a range in bytes. @throws EINVAL */
function ioctl_range(bdev: block_device, arg: unknown): [number, number] {
  const [start, len] = arg as [number, number];
  if (start % 512 !== 0 || len % 512 !== 0) throw EINVAL;
  if (start + len > bdev_nr_bytes(bdev)) throw EINVAL;
  return [start, len];
}

/** What is cached of the device is written first, so that it does not come over the zeroes. */
async function zero_range(bdev: block_device, start: number, len: number): Promise<void> {
  await sync_blockdev(bdev);
  await blkdev_issue_zeroout(bdev, start / 512, len / 512);
  invalidate_bdev(bdev);
}

async function change_bdev(bdev: block_device, cmd: string, arg: unknown): Promise<void> {
  if (cmd === "BLKBSZSET") await set_blocksize(bdev, arg as number);
  else if (cmd === "BLKROSET") bdev.bd_read_only = arg !== 0;
  else if (cmd === "BLKRASET" || cmd === "BLKFRASET") bdev.bd_disk.ra_sectors = arg as number;
  else {
    if (cmd === "BLKRRPART" && bdev.bd_partno !== 0) throw EINVAL;
    await sync_blockdev(bdev);
    invalidate_bdev(bdev);
    if (cmd === "BLKRRPART") bdev_disk_changed(bdev_kernel(bdev), bdev.bd_disk);
  }
}

const CHANGES: readonly string[] = Object.freeze([
  "BLKBSZSET",
  "BLKROSET",
  "BLKRASET",
  "BLKFRASET",
  "BLKFLSBUF",
  "BLKRRPART",
]);

/**
 * An ioctl on a device that was opened with `mode` (BLK_OPEN_*). BLKDISCARD, BLKSECDISCARD and
 * BLKZEROOUT take [start, length] in bytes. @throws ENOTTY unknown; EOPNOTSUPP pmem cannot
 */
export async function blkdev_ioctl_bdev(
  bdev: block_device,
  mode: number,
  cmd: string,
  arg: unknown,
): Promise<unknown> {
  if (Object.hasOwn(BLK_QUESTIONS, cmd)) return BLK_QUESTIONS[cmd]!(bdev);
  if (CHANGES.includes(cmd)) {
    if (!capable(bdev_kernel(bdev), CAP_SYS_ADMIN)) throw EACCES;
    await change_bdev(bdev, cmd, arg);
    return 0;
  }
  if (!["BLKDISCARD", "BLKSECDISCARD", "BLKZEROOUT"].includes(cmd)) throw ENOTTY;
  if (!(mode & BLK_OPEN_WRITE)) throw EBADF;
  // no disk here can discard
  if (cmd !== "BLKZEROOUT") throw EOPNOTSUPP;
  const [start, len] = ioctl_range(bdev, arg);
  await zero_range(bdev, start, len);
  return 0;
}

/** Zeroes a range; holes are not for devices that cannot discard. */
async function blkdev_fallocate(f: file, mode: number, offset: number, len: number): Promise<void> {
  const bdev = bdev_of(f);
  const size = bdev_nr_bytes(bdev);
  const zero = (mode & ~FALLOC_FL_KEEP_SIZE) === FALLOC_FL_ZERO_RANGE;
  const punch = mode === (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
  if (!zero && !punch) throw EOPNOTSUPP;
  if (offset >= size) throw EINVAL;
  let n = len;
  if (offset + len > size) {
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0) throw EINVAL;
    n = size - offset;
  }
  const block = bdev.bd_disk.logical_block_size;
  if (offset % block !== 0 || n % block !== 0) throw EINVAL;
  if (punch) throw EOPNOTSUPP;
  await zero_range(bdev, offset, n);
}

export const def_blk_fops: file_operations = Object.freeze({
  name: "def_blk_fops",
  open: blkdev_open,
  release: blkdev_release,
  llseek: blkdev_llseek,
  read_iter: blkdev_read_iter,
  write_iter: blkdev_write_iter,
  fsync: blkdev_fsync,
  fallocate: blkdev_fallocate,
  unlocked_ioctl: blkdev_ioctl,
  mmap: (): never => notImplemented("mmap of a block device"),
});
