/**
 * kernel/vfs/devnode.ts - the nodes that drivers want below /dev. Linux: drivers/base/devtmpfs.c.
 * A table that drivers fill at any time, also before there is a /dev; fs/devtmpfs.ts shows it.
 */
import type { file_operations } from "../include/fs.ts";
import type { Kernel } from "../kernel.ts";
import { vfs_of } from "./super.ts";

export interface devnode {
  /** S_IFBLK or S_IFCHR and permissions. */
  mode: number;
  dev: number; // MKDEV
}

/** `name` is relative to /dev and may contain directories: "mapper/dm0". */
export function devnode_create(kernel: Kernel, name: string, mode: number, dev: number): void {
  const reg = vfs_of(kernel);
  const node: devnode = { mode, dev };
  reg.devnodes.set(name, node);
  reg.devnode_listener?.(name, node);
}

export function devnode_delete(kernel: Kernel, name: string): void {
  const reg = vfs_of(kernel);
  if (reg.devnodes.delete(name)) reg.devnode_listener?.(name, null);
}

/**
 * What opening the character device of that number leads to. A later driver takes the number over.
 */
export function register_chrdev(kernel: Kernel, dev: number, fops: file_operations): void {
  vfs_of(kernel).chrdevs.set(dev, fops);
}

export function unregister_chrdev(kernel: Kernel, dev: number): void {
  vfs_of(kernel).chrdevs.delete(dev);
}
