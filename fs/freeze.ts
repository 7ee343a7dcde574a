/**
 * fs/freeze.ts - holding a filesystem still. Linux: freeze_super and thaw_super in fs/super.c,
 * FIFREEZE in fs/ioctl.c.
 *
 * Freezing takes the three levels for write one after the other, so that everything that wrote has
 * ended:
 * level 1, level 2, then all dirty data is written, then level 3, then the filesystem is told.
 * s_umount is let go while level 1 drains, because writers take it inside level 1. The levels stay
 * taken, by nobody, until the thaw.
 */
import type { block_device } from "../kernel/include/blkdev.ts";
import { CAP_SYS_ADMIN } from "../kernel/include/cred.ts";
import { EBUSY, EINVAL, EOPNOTSUPP, EPERM } from "../kernel/include/errno.ts";
import type { file, super_block } from "../kernel/include/fs.ts";
import {
  SB_FREEZE_COMPLETE,
  SB_FREEZE_FS,
  SB_FREEZE_PAGEFAULT,
  SB_FREEZE_WRITE,
  SB_UNFROZEN,
} from "../kernel/include/fs.ts";
import { capable } from "../kernel/cred.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { block_state } from "../drivers/block/genhd.ts";
import { sb_rdonly } from "../kernel/vfs/super.ts";
import { sync_blockdev } from "./buffer/cache.ts";
import { deactivate_locked_super } from "./super.ts";
import { sync_filesystem } from "./sync.ts";

async function down_umount(sb: super_block): Promise<void> {
  const p = sb.s_umount.down_write();
  if (p) await p;
}

/** Waits for everybody inside `level` and keeps others out. */
async function sb_wait_write(sb: super_block, level: number): Promise<void> {
  const p = sb.s_writers.rw_sem[level - 1]!.down_write();
  if (p) await p;
}

/** Lets go of levels 1..level, which the running task holds. */
function sb_freeze_unlock(sb: super_block, level: number): void {
  for (let i = level; i >= SB_FREEZE_WRITE; i--) sb.s_writers.rw_sem[i - 1]!.up_write();
}

/** EBUSY when it is frozen or being frozen. */
export async function freeze_super(sb: super_block): Promise<void> {
  sb.s_active++;
  await down_umount(sb);
  if (sb.s_writers.frozen !== SB_UNFROZEN) {
    await deactivate_locked_super(sb);
    throw EBUSY;
  }
  if (sb_rdonly(sb)) {
    sb.s_writers.frozen = SB_FREEZE_COMPLETE;
    sb.s_umount.up_write();
    return;
  }
  sb.s_writers.frozen = SB_FREEZE_WRITE;
  sb.s_umount.up_write();
  await sb_wait_write(sb, SB_FREEZE_WRITE);
  await down_umount(sb);
  sb.s_writers.frozen = SB_FREEZE_PAGEFAULT;
  await sb_wait_write(sb, SB_FREEZE_PAGEFAULT);
  let level = SB_FREEZE_PAGEFAULT;
  try {
    await sync_filesystem(sb);
    sb.s_writers.frozen = SB_FREEZE_FS;
    await sb_wait_write(sb, SB_FREEZE_FS);
    level = SB_FREEZE_FS;
    await sb.s_op.freeze_fs?.(sb);
  } catch (e) {
    if (level === SB_FREEZE_FS) sb.kernel.pr_err("VFS:Filesystem freeze failed");
    sb.s_writers.frozen = SB_UNFROZEN;
    sb_freeze_unlock(sb, level);
    await deactivate_locked_super(sb);
    throw e;
  }
  sb.s_writers.frozen = SB_FREEZE_COMPLETE;
  for (const sem of [...sb.s_writers.rw_sem].reverse()) sem.disown_write();
  sb.s_umount.up_write();
}

/** EINVAL when it is not frozen. */
export async function thaw_super(sb: super_block): Promise<void> {
  await down_umount(sb);
  if (sb.s_writers.frozen !== SB_FREEZE_COMPLETE) {
    sb.s_umount.up_write();
    throw EINVAL;
  }
  if (sb_rdonly(sb)) {
    sb.s_writers.frozen = SB_UNFROZEN;
    await deactivate_locked_super(sb);
    return;
  }
  for (const sem of sb.s_writers.rw_sem) sem.adopt_write();
  try {
    await sb.s_op.unfreeze_fs?.(sb);
  } catch (e) {
    sb.kernel.pr_err("VFS:Filesystem thaw failed");
    for (const sem of [...sb.s_writers.rw_sem].reverse()) sem.disown_write();
    sb.s_umount.up_write();
    throw e;
  }
  sb.s_writers.frozen = SB_UNFROZEN;
  sb_freeze_unlock(sb, SB_FREEZE_FS);
  await deactivate_locked_super(sb);
}

async function with_fsfreeze(bdev: block_device, fn: () => Promise<void>): Promise<void> {
  const p = bdev.bd_fsfreeze_mutex.lock();
  if (p) await p;
  try {
    await fn();
  } finally {
    bdev.bd_fsfreeze_mutex.unlock();
  }
}

/** For snapshots below a filesystem: freezes it, or writes the device's buffers. Calls nest. */
export async function freeze_bdev(bdev: block_device): Promise<void> {
  await with_fsfreeze(bdev, async () => {
    if (++bdev.bd_fsfreeze_count > 1) return;
    const sb = bdev.bd_super as super_block | null;
    try {
      if (sb !== null) await freeze_super(sb);
      else await sync_blockdev(bdev);
    } catch (e) {
      bdev.bd_fsfreeze_count--;
      throw e;
    }
    bdev.bd_fsfreeze_sb = sb;
  });
}

/** EINVAL: it is not frozen. */
export async function thaw_bdev(bdev: block_device): Promise<void> {
  await with_fsfreeze(bdev, async () => {
    if (bdev.bd_fsfreeze_count === 0) throw EINVAL;
    if (--bdev.bd_fsfreeze_count > 0) return;
    const sb = bdev.bd_fsfreeze_sb as super_block | null;
    bdev.bd_fsfreeze_sb = null;
    if (sb !== null) await thaw_super(sb);
  });
}

/** Boot: the block layer freezes the filesystem on a device through this. */
export function init_freeze(kernel: Kernel): void {
  block_state(kernel).freeze_ops = { freeze_bdev, thaw_bdev };
}

export async function ioctl_fsfreeze(f: file): Promise<void> {
  const sb = f.f_inode.i_sb;
  if (!capable(sb.kernel, CAP_SYS_ADMIN)) throw EPERM;
  if (sb.s_op.freeze_fs === undefined) throw EOPNOTSUPP;
  await freeze_super(sb);
}

export async function ioctl_fsthaw(f: file): Promise<void> {
  const sb = f.f_inode.i_sb;
  if (!capable(sb.kernel, CAP_SYS_ADMIN)) throw EPERM;
  if (sb.s_op.freeze_fs === undefined) throw EOPNOTSUPP;
  await thaw_super(sb);
}
