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
import { EACCES, EFAULT, EINVAL, ENOSPC, ENOTTY, EPERM } from "../kernel/include/errno.ts";
import { O_EXCL } from "../kernel/include/fcntl.ts";
import type { Sometime, file, file_operations, inode, kiocb } from "../kernel/include/fs.ts";
import { FMODE_WRITE, IOCB_DIRECT } from "../kernel/include/fs.ts";
import type { iov_iter } from "../kernel/include/uio.ts";
import { notImplemented } from "../kernel/assert.ts";
import { capable } from "../kernel/cred.ts";
import {
  bdev_nr_bytes,
  bdev_read_only,
  blkdev_get_no_check,
  blkdev_put,
} from "../drivers/block/bdev.ts";
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
  const bdev = bdev_of(f);
  switch (cmd) {
    case "BLKGETSIZE64":
      return bdev_nr_bytes(bdev);
    case "BLKGETSIZE":
      return bdev.bd_nr_sectors;
    case "BLKSSZGET":
      return bdev.bd_disk.logical_block_size;
    case "BLKPBSZGET":
      return bdev.bd_disk.physical_block_size;
    case "BLKBSZGET":
      return bdev.bd_block_size;
    case "BLKBSZSET":
      if (!capable(f.kernel, CAP_SYS_ADMIN)) throw EACCES;
      await set_blocksize(bdev, arg as number);
      return 0;
    case "BLKROGET":
      return bdev_read_only(bdev) ? 1 : 0;
    case "BLKROSET":
      if (!capable(f.kernel, CAP_SYS_ADMIN)) throw EACCES;
      bdev.bd_read_only = arg !== 0;
      return 0;
    case "BLKFLSBUF":
      if (!capable(f.kernel, CAP_SYS_ADMIN)) throw EACCES;
      await sync_blockdev(bdev);
      invalidate_bdev(bdev);
      return 0;
    case "BLKRRPART":
      if (!capable(f.kernel, CAP_SYS_ADMIN)) throw EACCES;
      if (bdev.bd_partno !== 0) throw EINVAL;
      await sync_blockdev(bdev);
      invalidate_bdev(bdev);
      bdev_disk_changed(f.kernel, bdev.bd_disk);
      return 0;
    default:
      throw ENOTTY;
  }
}

export const def_blk_fops: file_operations = Object.freeze({
  name: "def_blk_fops",
  open: blkdev_open,
  release: blkdev_release,
  llseek: blkdev_llseek,
  read_iter: blkdev_read_iter,
  write_iter: blkdev_write_iter,
  fsync: blkdev_fsync,
  unlocked_ioctl: blkdev_ioctl,
  mmap: (): never => notImplemented("mmap of a block device"),
});
