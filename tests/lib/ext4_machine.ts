/**
 * tests/lib/ext4_machine.ts - a Machine with one pmem device that holds an image, and nothing else.
 */
import { createHash } from "node:crypto";
import { blkdev_get_by_path } from "../../drivers/block/bdev.ts";
import { init_buffer } from "../../fs/buffer.ts";
import { init_dax } from "../../fs/dax.ts";
import { ext4_parse_options } from "../../fs/ext4/options.ts";
import { ext2_fs_type, ext3_fs_type, ext4_fill_super, ext4_fs_type } from "../../fs/ext4/super.ts";
import { __fput } from "../../fs/file.ts";
import { fault_update_time, file_accessed, file_update_time } from "../../fs/atime.ts";
import { file_remove_privs } from "../../fs/attr.ts";
import { write_inode_now } from "../../fs/fs-writeback.ts";
import { alloc_vfsmnt, path_put } from "../../fs/mount.ts";
import { kern_path } from "../../fs/namei.ts";
import { deactivate_locked_super, sget } from "../../fs/super.ts";
import { BLK_OPEN_EXCL, BLK_OPEN_READ, BLK_OPEN_WRITE } from "../../kernel/include/blkdev.ts";
import { type path, SB_ACTIVE, SB_RDONLY, type super_block } from "../../kernel/include/fs.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { Machine as CoreMachine } from "../../kernel/machine.ts";
import { init_mm } from "../../mm/mm_init.ts";
import { Machine } from "../../tools/api/machine.ts";
import type { sha256 } from "../../tools/cmd/image_tree.ts";

/** As little of a kernel as an ext4 mount needs: quick to make. */
export function boot_kernel(opts: ConstructorParameters<typeof Kernel>[1] = {}): Kernel {
  const kernel = new Kernel(new CoreMachine(), opts);
  init_mm(kernel, { dram_bytes: 256 * 2 ** 20 });
  Object.assign(kernel.vfs_ops, {
    write_inode_now,
    __fput,
    file_accessed,
    file_update_time,
    fault_update_time,
    file_remove_privs,
    special_fops: { def_chr_fops: {}, def_blk_fops: {}, pipefifo_fops: {} },
  });
  init_buffer(kernel);
  init_dax(kernel);
  return kernel;
}

/** Runs `fn` as a task of the kernel's Machine; what it throws is thrown here. */
export async function in_task<T>(kernel: Kernel, fn: () => Promise<T>): Promise<T> {
  const box: { value?: T; error?: unknown; done: boolean } = { done: false };
  kernel.machine.spawn(kernel, "test", async () => {
    try {
      box.value = await fn();
    } catch (e) {
      box.error = e;
    }
    box.done = true;
  });
  try {
    await kernel.machine.run();
  } catch (e) {
    // what the task threw explains what it left behind
    throw "error" in box ? box.error : e;
  }
  if (!box.done) throw new Error("the task never ended");
  if ("error" in box) throw box.error;
  return box.value as T;
}

const TYPES = { ext2: ext2_fs_type, ext3: ext3_fs_type, ext4: ext4_fs_type };

/** Mounts pmem0 as mount_bdev() does, without a path to find the device by. */
export async function mount_pmem(
  kernel: Kernel,
  options = "",
  flags = SB_RDONLY,
  type: keyof typeof TYPES = "ext4",
): Promise<{ sb: super_block; root: path }> {
  const fs_type = TYPES[type];
  const mode = BLK_OPEN_READ | BLK_OPEN_EXCL | (flags & SB_RDONLY ? 0 : BLK_OPEN_WRITE);
  const bdev = blkdev_get_by_path(kernel, "pmem0", mode, fs_type);
  const sb = await sget(kernel, fs_type, flags, () => false);
  sb.s_bdev = bdev;
  sb.s_bdev_handle = { bdev, holder: fs_type, mode };
  sb.s_dev = bdev.bd_dev;
  sb.s_id = bdev.bd_name;
  try {
    await ext4_fill_super(sb, ext4_parse_options(sb.kernel, options), false);
  } catch (e) {
    await deactivate_locked_super(sb);
    throw e;
  }
  sb.s_flags |= SB_ACTIVE;
  sb.s_umount.up_write();
  const mnt = alloc_vfsmnt(sb, 0, "/dev/pmem0");
  return { sb, root: { mnt, dentry: sb.s_root! } };
}

export interface mounted {
  kernel: Kernel;
  sb: super_block;
  root: path;
}

/**
 * Boots a whole Machine with the image as raw pmem0, mounts it on /mnt, runs `fn` in a task,
 * unmounts.
 */
export async function with_image<T>(
  image: Uint8Array,
  options: string,
  fn: (m: mounted) => Promise<T>,
): Promise<T> {
  const machine = await Machine.boot({ pmem: [{ image, mode: "raw" }] });
  const p = machine.process("test");
  await p.mount("/dev/pmem0", "/mnt", "ext4", options);
  const r = await p.in_kernel(async (kernel) => {
    const root = await kern_path(kernel, "/mnt", true);
    const r = await fn({ kernel, sb: root.mnt.mnt_sb, root });
    await path_put(root);
    return r;
  });
  await p.umount("/mnt");
  return r;
}

export function node_sha256(): sha256 {
  const h = createHash("sha256");
  return { update: (b) => void h.update(b), hex: () => h.digest("hex") };
}
