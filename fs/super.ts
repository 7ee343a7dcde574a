/**
 * fs/super.ts - life of a mounted superblock: found or made, shared by its mounts, killed with the
 * last.
 * Linux: fs/super.c, fs/filesystems.c. Freezing: fs/freeze.ts.
 *
 * s_active counts mounts, freezes and others who keep the filesystem alive. s_umount is held for
 * write while a superblock is made, reconfigured or killed. Order: level 1 of the freeze >
 * s_umount.
 */
import type { block_device } from "../kernel/include/blkdev.ts";
import { BLK_OPEN_EXCL, BLK_OPEN_READ, BLK_OPEN_WRITE } from "../kernel/include/blkdev.ts";
import {
  EACCES,
  EBUSY,
  EINVAL,
  ENODEV,
  ENOENT,
  ENOTBLK,
  is_errno,
} from "../kernel/include/errno.ts";
import type { Sometime, file_system_type, super_block } from "../kernel/include/fs.ts";
import {
  MNT_NODEV,
  SB_ACTIVE,
  SB_DIRSYNC,
  SB_LAZYTIME,
  SB_POSIXACL,
  SB_RDONLY,
  SB_SILENT,
  SB_SYNCHRONOUS,
  SB_UNFROZEN,
} from "../kernel/include/fs.ts";
import { S_ISBLK } from "../kernel/include/stat.ts";
import { assert } from "../kernel/assert.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { evict_inodes } from "../kernel/vfs/inode.ts";
import { alloc_super, set_anon_super, sb_rdonly, vfs_of } from "../kernel/vfs/super.ts";
import { blkdev_get_by_dev, blkdev_put, bdev_read_only } from "../drivers/block/bdev.ts";
import { block_state } from "../drivers/block/genhd.ts";
import { invalidate_bdev } from "./buffer.ts";
import { d_genocide, shrink_dcache_for_umount, shrink_dcache_sb } from "./dcache.ts";
import { mnt_ns, path_put } from "./mount.ts";
import { kern_path } from "./namei.ts";
import { sync_filesystem } from "./sync.ts";

export type fill_super = (sb: super_block, data: string, silent: boolean) => Sometime<void>;

// --- filesystem types ---

export function register_filesystem(kernel: Kernel, type: file_system_type): void {
  const { file_systems } = vfs_of(kernel);
  if (file_systems.has(type.name)) throw EBUSY;
  file_systems.set(type.name, type);
}

export function unregister_filesystem(kernel: Kernel, type: file_system_type): void {
  if (!vfs_of(kernel).file_systems.delete(type.name)) throw EINVAL;
}

/** ENODEV when there is no such filesystem. */
export function get_fs_type(kernel: Kernel, name: string): file_system_type {
  const type = vfs_of(kernel).file_systems.get(name);
  if (type === undefined) throw ENODEV;
  return type;
}

// --- finding and making ---

/**
 * The live superblock that `test` accepts (with one more active reference) or a new one, s_umount
 * held for write either way; a new one has no s_root yet.
 */
export async function sget(
  kernel: Kernel,
  type: file_system_type,
  flags: number,
  test: ((sb: super_block) => boolean) | null,
): Promise<super_block> {
  const { supers } = vfs_of(kernel);
  retry: for (;;) {
    if (test !== null) {
      for (const old of supers) {
        if (old.s_type !== type || !test(old)) continue;
        if (!(await grab_super(old))) continue retry;
        return old;
      }
    }
    const sb = alloc_super(kernel, type, flags);
    const p = sb.s_umount.down_write();
    assert(p === undefined);
    supers.add(sb);
    return sb;
  }
}

/** An active reference and s_umount, or false after waiting for one that was being killed. */
async function grab_super(sb: super_block): Promise<boolean> {
  const p = sb.s_umount.down_write();
  if (p) await p;
  if ((sb.s_flags & SB_ACTIVE) !== 0 && sb.s_active > 0) {
    sb.s_active++;
    return true;
  }
  sb.s_umount.up_write();
  return false;
}

/** Gives back a reference while s_umount is held for write; unlocks it. */
export async function deactivate_locked_super(sb: super_block): Promise<void> {
  sb.s_active--;
  if (sb.s_active > 0) {
    sb.s_umount.up_write();
    return;
  }
  await sb.s_type.kill_sb(sb);
  vfs_of(sb.kernel).supers.delete(sb);
}

export async function deactivate_super(sb: super_block): Promise<void> {
  if (sb.s_active > 1) {
    sb.s_active--;
    return;
  }
  const p = sb.s_umount.down_write();
  if (p) await p;
  await deactivate_locked_super(sb);
}

/** Runs fill_super on a fresh superblock; on failure the superblock is gone. */
async function fill(sb: super_block, fill_super: fill_super, data: string, flags: number) {
  try {
    await fill_super(sb, data, (flags & SB_SILENT) !== 0);
    assert(sb.s_root !== null, `fill_super of ${sb.s_type.name} left no root`);
  } catch (e) {
    await deactivate_locked_super(sb);
    throw e;
  }
  sb.s_flags |= SB_ACTIVE;
}

// --- with a block device ---

/** The device behind a path: ENOENT, ENOTBLK, EACCES (on a nodev mount). */
export async function lookup_bdev(kernel: Kernel, name: string): Promise<number> {
  const path = await kern_path(kernel, name, true);
  try {
    const inode = path.dentry.d_inode;
    if (inode === null) throw ENOENT;
    if (!S_ISBLK(inode.i_mode)) throw ENOTBLK;
    if ((path.mnt.mnt_flags & MNT_NODEV) !== 0) throw EACCES;
    return inode.i_rdev;
  } finally {
    await path_put(path);
  }
}

/**
 * Mounts a filesystem of a block device: the one that is mounted already (EBUSY when one is
 * read-only and the other is not), or a new one that `fill_super` fills. Claims the device for the
 * filesystem type.
 */
export async function mount_bdev(
  kernel: Kernel,
  type: file_system_type,
  flags: number,
  dev_name: string,
  data: string,
  fill_super: fill_super,
): Promise<super_block> {
  if (dev_name === "") throw EINVAL;
  let mode = BLK_OPEN_READ | BLK_OPEN_EXCL;
  if ((flags & SB_RDONLY) === 0) mode |= BLK_OPEN_WRITE;
  const dev = await lookup_bdev(kernel, dev_name);
  const bdev = blkdev_get_by_dev(kernel, dev, mode, type);
  const sb = await sget(kernel, type, flags, (s) => s.s_bdev === bdev);
  if (sb.s_root !== null) {
    await blkdev_put(bdev, mode);
    if (((flags ^ sb.s_flags) & SB_RDONLY) !== 0) {
      await deactivate_locked_super(sb);
      throw EBUSY;
    }
    sb.s_umount.up_write();
    return sb;
  }
  set_bdev_super(sb, bdev, mode, type);
  await fill(sb, fill_super, data, flags);
  sb.s_umount.up_write();
  return sb;
}

function set_bdev_super(sb: super_block, bdev: block_device, mode: number, holder: unknown): void {
  sb.s_bdev = bdev;
  sb.s_bdev_handle = { bdev, holder, mode };
  sb.s_dev = bdev.bd_dev;
  sb.s_id = bdev.bd_name;
  sb.s_blocksize = bdev.bd_block_size;
  sb.s_blocksize_bits = Math.log2(bdev.bd_block_size);
  bdev.bd_super = sb;
}

/** What fails on the way down has nobody to tell: the device's own log lines say what. */
async function unheard(fn: () => Sometime<void>): Promise<void> {
  try {
    await fn();
  } catch (e) {
    if (!is_errno(e)) throw e;
  }
}

/** kill_sb of a filesystem that mount_bdev mounted. */
export async function kill_block_super(sb: super_block): Promise<void> {
  const handle = sb.s_bdev_handle!;
  handle.bdev.bd_super = null;
  await generic_shutdown_super(sb);
  await unheard(() => block_state(sb.kernel).cache_ops?.sync_blockdev(handle.bdev));
  await blkdev_put(handle.bdev, handle.mode);
}

// --- without one ---

/** A filesystem of its own at each mount. */
export async function mount_nodev(
  kernel: Kernel,
  type: file_system_type,
  flags: number,
  data: string,
  fill_super: fill_super,
): Promise<super_block> {
  const sb = await sget(kernel, type, flags, null);
  set_anon_super(sb);
  await fill(sb, fill_super, data, flags);
  sb.s_umount.up_write();
  return sb;
}

export async function kill_anon_super(sb: super_block): Promise<void> {
  await generic_shutdown_super(sb);
}

/** kill_sb of a filesystem that lives in the dentry cache. */
export async function kill_litter_super(sb: super_block): Promise<void> {
  if (sb.s_root !== null) d_genocide(sb.s_root);
  await generic_shutdown_super(sb);
}

/** Takes a superblock down. s_umount is held for write and is released. */
export async function generic_shutdown_super(sb: super_block): Promise<void> {
  const { kernel } = sb;
  if (sb.s_root !== null) {
    await shrink_dcache_for_umount(sb);
    await unheard(() => sync_filesystem(sb));
    sb.s_flags &= ~SB_ACTIVE;
    const busy = await evict_inodes(sb);
    await unheard(() => sb.s_op.put_super?.(sb));
    if (busy > 0) {
      const tail = "Self-destruct in 5 seconds.  Have a nice day...";
      kernel.pr_err(`VFS: Busy inodes after unmount of ${sb.s_id}. ${tail}`);
    }
  } else {
    sb.s_flags &= ~SB_ACTIVE;
    await evict_inodes(sb);
  }
  vfs_of(kernel).supers.delete(sb);
  sb.s_umount.up_write();
}

// --- reconfigure ---

const MS_RMT_MASK = SB_RDONLY | SB_SYNCHRONOUS | SB_DIRSYNC | SB_POSIXACL | SB_LAZYTIME;

/**
 * No one may be writing, and no file without a name may be left, when a filesystem becomes
 * read-only.
 */
function sb_prepare_remount_readonly(sb: super_block): void {
  for (const mnt of mnt_ns(sb.kernel).list) {
    if (mnt.mnt_sb === sb && mnt.mnt_writers > 0) throw EBUSY;
  }
  if (sb.s_remove_count > 0) throw EBUSY;
}

/** remount: s_umount is held for write. `flags` are the wanted SB_* flags. */
export async function reconfigure_super(
  sb: super_block,
  flags: number,
  data: string,
): Promise<void> {
  if (sb.s_writers.frozen !== SB_UNFROZEN) throw EBUSY;
  const remount_ro = (flags & SB_RDONLY) !== 0 && !sb_rdonly(sb);
  const remount_rw = (flags & SB_RDONLY) === 0 && sb_rdonly(sb);
  if (remount_rw && sb.s_bdev !== null && bdev_read_only(sb.s_bdev)) throw EACCES;
  await shrink_dcache_sb(sb);
  if (remount_ro) sb_prepare_remount_readonly(sb);
  // From the check on no new writer gets in, also while the filesystem sleeps.
  sb.s_readonly_remount = remount_ro;
  try {
    if (sb.s_op.remount_fs !== undefined) flags = await sb.s_op.remount_fs(sb, flags, data);
    sb.s_flags = (sb.s_flags & ~MS_RMT_MASK) | (flags & MS_RMT_MASK);
  } finally {
    sb.s_readonly_remount = false;
  }
  if (remount_ro && sb.s_bdev !== null) invalidate_bdev(sb.s_bdev);
}

/**
 * The mounted filesystem of a device, with s_umount held for read and a reference: drop with
 * drop_super.
 */
export async function get_super(kernel: Kernel, bdev: block_device): Promise<super_block | null> {
  for (const sb of vfs_of(kernel).supers) {
    if (sb.s_bdev !== bdev) continue;
    const p = sb.s_umount.down_read();
    if (p) await p;
    if (sb.s_root !== null && (sb.s_flags & SB_ACTIVE) !== 0) return sb;
    sb.s_umount.up_read();
  }
  return null;
}

/** The same with an active reference instead of s_umount: drop with deactivate_super. */
export async function get_active_super(
  kernel: Kernel,
  bdev: block_device,
): Promise<super_block | null> {
  for (const sb of vfs_of(kernel).supers) {
    if (sb.s_bdev !== bdev || !(await grab_super(sb))) continue;
    sb.s_umount.up_write();
    return sb;
  }
  return null;
}

export function drop_super(sb: super_block): void {
  sb.s_umount.up_read();
}

/** Calls `fn` for each mounted filesystem with s_umount held for read. */
export async function iterate_supers(
  kernel: Kernel,
  fn: (sb: super_block) => Sometime<void>,
): Promise<void> {
  for (const sb of [...vfs_of(kernel).supers]) {
    if (sb.s_root === null) continue;
    const p = sb.s_umount.down_read();
    if (p) await p;
    try {
      if (sb.s_root !== null && (sb.s_flags & SB_ACTIVE) !== 0) await fn(sb);
    } finally {
      sb.s_umount.up_read();
    }
  }
}
