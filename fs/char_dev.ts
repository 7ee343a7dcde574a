/**
 * fs/char_dev.ts - opening device nodes. Linux: fs/char_dev.c, block/fops.c (open),
 * drivers/char/mem.c.
 * Character drivers register their operations by number; a block node leads to its device's inode.
 */
import { ENOSPC, ENXIO } from "../kernel/include/errno.ts";
import type { file, file_operations, inode, kiocb, Sometime } from "../kernel/include/fs.ts";
import { MKDEV, S_IFCHR } from "../kernel/include/stat.ts";
import type { iov_iter } from "../kernel/include/uio.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { devnode_create, register_chrdev } from "../kernel/vfs/devnode.ts";
import { vfs_of } from "../kernel/vfs/super.ts";
import { noop_llseek } from "./read_write.ts";

export const MEM_MAJOR = 1;

function chrdev_open(inode: inode, f: file): Sometime<void> {
  const fops = vfs_of(inode.kernel).chrdevs.get(inode.i_rdev);
  if (fops === undefined) throw ENXIO;
  f.f_op = fops;
  return fops.open?.(inode, f);
}

export const def_chr_fops: file_operations = Object.freeze({
  name: "def_chr_fops",
  open: chrdev_open,
  llseek: noop_llseek,
});

// --- /dev/null and friends ---

function swallow(_iocb: kiocb, from: iov_iter): number {
  const n = from.count;
  from.advance(n);
  return n;
}

const null_fops: file_operations = Object.freeze({
  name: "null_fops",
  llseek: noop_llseek,
  read_iter: () => 0,
  write_iter: swallow,
});

const zero_fops: file_operations = Object.freeze({
  name: "zero_fops",
  llseek: noop_llseek,
  read_iter: (_iocb: kiocb, to: iov_iter) => to.zero_iter(to.count),
  write_iter: swallow,
});

const full_fops: file_operations = Object.freeze({
  name: "full_fops",
  llseek: noop_llseek,
  read_iter: (_iocb: kiocb, to: iov_iter) => to.zero_iter(to.count),
  write_iter: (): never => {
    throw ENOSPC;
  },
});

function random_read(iocb: kiocb, to: iov_iter): Sometime<number> {
  const n = Math.min(to.count, 65536);
  return to.copy_to_iter(iocb.ki_filp.kernel.machine.random.bytes(n), 0, n);
}

const random_fops: file_operations = Object.freeze({
  name: "random_fops",
  llseek: noop_llseek,
  read_iter: random_read,
  write_iter: swallow,
});

/** Name, minor and operations of the memory devices. */
export const mem_devices = Object.freeze([
  ["null", 3, null_fops],
  ["zero", 5, zero_fops],
  ["full", 7, full_fops],
  ["random", 8, random_fops],
  ["urandom", 9, random_fops],
] as const);

export function init_mem_devices(kernel: Kernel): void {
  for (const [name, minor, fops] of mem_devices) {
    const dev = MKDEV(MEM_MAJOR, minor);
    register_chrdev(kernel, dev, fops);
    devnode_create(kernel, name, S_IFCHR | 0o666, dev);
  }
}
