/**
 * fs/init.ts - the VFS at boot. Linux: fs/dcache.c (vfs_caches_init), fs/namespace.c (mnt_init),
 * init/do_mounts.c.
 * Two steps: install_vfs_ops() fills the slots that lower layers call (no task needed), init_vfs()
 * mounts the root file system and makes its directories.
 */
import type { Errno } from "../kernel/include/errno.ts";
import { EEXIST, is_errno } from "../kernel/include/errno.ts";
import { AT_FDCWD } from "../kernel/include/fcntl.ts";
import type { inode, path } from "../kernel/include/fs.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { mm_state } from "../mm/mm_state.ts";
import { file_accessed, fault_update_time, file_update_time } from "./atime.ts";
import { file_remove_privs } from "./attr.ts";
import { def_blk_fops } from "./block_fops.ts";
import { def_chr_fops, init_mem_devices } from "./char_dev.ts";
import { init_devtmpfs } from "./devtmpfs.ts";
import { __fput } from "./file.ts";
import { new_fs_struct, type fs_struct } from "./fs_struct.ts";
import { write_inode_now } from "./fs-writeback.ts";
import { mnt_ns, path_put } from "./mount.ts";
import { path_lookupat, sys_mkdir } from "./namei.ts";
import { kern_mount_at, mount_root } from "./namespace.ts";
import { vfs_fallocate } from "./open.ts";
import { pipefifo_fops } from "./pipe.ts";
import { init_ramfs, ramfs_fs_type } from "./ramfs/inode.ts";
import { generic_write_sync } from "./sync.ts";

/** An inode goes and nobody is left to hear of an error: the mapping has noted it. */
async function write_inode_before_eviction(inode: inode, sync: boolean): Promise<void> {
  try {
    await write_inode_now(inode, sync);
  } catch (e) {
    if (!is_errno(e)) throw e;
    inode.kernel.pr_debug(`write of inode ${inode.i_ino} failed: ${(e as Errno).code}`);
  }
}

/** Fills kernel.vfs_ops; keeps what mm has put there. Before the first inode is made. */
export function install_vfs_ops(kernel: Kernel): void {
  Object.assign(kernel.vfs_ops, {
    write_inode_now: write_inode_before_eviction,
    __fput,
    file_accessed,
    file_update_time,
    fault_update_time,
    file_remove_privs,
    generic_write_sync,
    special_fops: { def_chr_fops, def_blk_fops, pipefifo_fops },
  });
  mm_state(kernel).mm_ops.vfs_fallocate = vfs_fallocate;
}

/** The root, with no references of its own. */
export function root_path(kernel: Kernel): path {
  const mnt = mnt_ns(kernel).root!;
  return { mnt, dentry: mnt.mnt_root };
}

/** Root and working directory "/", umask 022: what the first process has. */
export function new_init_fs(kernel: Kernel): fs_struct {
  const root = root_path(kernel);
  return new_fs_struct(root, root, 0o022);
}

async function make_directory(task: task_struct, name: string, mode: number): Promise<void> {
  try {
    await sys_mkdir(task, name, mode);
  } catch (e) {
    if (e !== EEXIST) throw e;
  }
}

async function populate(kernel: Kernel, task: task_struct): Promise<void> {
  for (const dir of ["/mnt", "/mnt2", "/dev", "/proc", "/sys"])
    await make_directory(task, dir, 0o755);
  await make_directory(task, "/tmp", 0o1777);
  const dev = await path_lookupat(task, AT_FDCWD, "/dev", 0);
  try {
    await kern_mount_at(kernel, "devtmpfs", "devtmpfs", dev);
  } finally {
    await path_put(dev);
  }
}

/** Boots the VFS: a RAM file system as root with /mnt, /mnt2, /tmp and /dev. Runs in a task. */
export async function init_vfs(kernel: Kernel): Promise<void> {
  install_vfs_ops(kernel);
  init_ramfs(kernel);
  init_devtmpfs(kernel);
  init_mem_devices(kernel);
  const sb = await ramfs_fs_type.mount(kernel, 0, "rootfs", "");
  mount_root(kernel, sb, "rootfs");
  const task = kernel.current;
  const own = task.fs;
  const fs = new_init_fs(kernel);
  fs.umask = 0;
  task.fs = fs;
  await populate(kernel, task);
  task.fs = own;
  await path_put(fs.root);
  await path_put(fs.pwd);
}
