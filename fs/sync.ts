/** fs/sync.ts - fsync and its relatives. Linux: fs/sync.c. */
import { EINVAL, EIO, ESPIPE, is_errno } from "../kernel/include/errno.ts";
import {
  SYNC_FILE_RANGE_WAIT_AFTER,
  SYNC_FILE_RANGE_WAIT_BEFORE,
  SYNC_FILE_RANGE_WRITE,
} from "../kernel/include/fcntl.ts";
import type { Sometime, file, inode, kiocb, super_block } from "../kernel/include/fs.ts";
import {
  IOCB_DSYNC,
  IOCB_SYNC,
  I_DIRTY_TIME,
  LLONG_MAX,
  SB_SYNCHRONOUS,
  S_SYNC,
  WB_SYNC_ALL,
  WB_SYNC_NONE,
} from "../kernel/include/fs.ts";
import { S_ISBLK, S_ISDIR, S_ISLNK, S_ISREG } from "../kernel/include/stat.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { mark_inode_dirty_sync } from "../kernel/vfs/inode.ts";
import { sb_rdonly } from "../kernel/vfs/super.ts";
import { block_state } from "../drivers/block/genhd.ts";
import { file_fdatawait_range } from "../mm/filemap.ts";
import { with_fd } from "./file.ts";
import { do_writepages, sync_inodes_sb, writeback_inodes_sb } from "./fs-writeback.ts";
import { iterate_supers } from "./super.ts";

/** Writes the dirty buffers of the device below, if there is one. */
async function sync_sb_blockdev(sb: super_block): Promise<void> {
  if (sb.s_bdev !== null) await block_state(sb.kernel).cache_ops?.sync_blockdev(sb.s_bdev);
}

/** Everything of a filesystem, in both passes that Linux makes. s_umount is held. */
export async function sync_filesystem(sb: super_block): Promise<void> {
  if (sb_rdonly(sb)) return;
  await writeback_inodes_sb(sb);
  await sb.s_op.sync_fs?.(sb, false);
  await sync_sb_blockdev(sb);
  await sync_inodes_sb(sb);
  await sb.s_op.sync_fs?.(sb, true);
  await sync_sb_blockdev(sb);
}

/** A byte range (inclusive) of a file. `datasync`: only what is needed to read the data back. */
export function vfs_fsync_range(
  f: file,
  start: number,
  end: number,
  datasync: boolean,
): Sometime<void> {
  const op = f.f_op.fsync;
  if (op === undefined) throw EINVAL;
  const inode = f.f_mapping.host;
  if (!datasync && (inode.i_state & I_DIRTY_TIME) !== 0) {
    const p = mark_inode_dirty_sync(inode);
    if (p) return p.then(() => op.call(f.f_op, f, start, end, datasync));
  }
  return op.call(f.f_op, f, start, end, datasync);
}

export function vfs_fsync(f: file, datasync: boolean): Sometime<void> {
  return vfs_fsync_range(f, 0, LLONG_MAX, datasync);
}

const is_sync_inode = (inode: inode): boolean =>
  (inode.i_flags & S_SYNC) !== 0 || (inode.i_sb.s_flags & SB_SYNCHRONOUS) !== 0;

/**
 * After a write of `count` bytes that ended at ki_pos: syncs if the file or the call asked for it.
 */
export function generic_write_sync(iocb: kiocb, count: number): Sometime<number> {
  if ((iocb.ki_flags & IOCB_DSYNC) === 0 && !is_sync_inode(iocb.ki_filp.f_inode)) return count;
  const datasync = (iocb.ki_flags & IOCB_SYNC) === 0;
  return counted(
    vfs_fsync_range(iocb.ki_filp, iocb.ki_pos - count, iocb.ki_pos - 1, datasync),
    count,
  );
}

const counted = (p: Sometime<void>, n: number): Sometime<number> => (p ? p.then(() => n) : n);

export function sys_fsync(task: task_struct, fd: number): Promise<void> {
  return with_fd(task, fd, (f) => vfs_fsync(f, false));
}

export function sys_fdatasync(task: task_struct, fd: number): Promise<void> {
  return with_fd(task, fd, (f) => vfs_fsync(f, true));
}

export function sys_syncfs(task: task_struct, fd: number): Promise<void> {
  return with_fd(task, fd, async (f) => {
    const sb = f.f_inode.i_sb;
    const p = sb.s_umount.down_read();
    if (p) await p;
    try {
      await sync_filesystem(sb);
    } finally {
      sb.s_umount.up_read();
    }
    if (sb.s_wb_err !== f.f_sb_err) {
      f.f_sb_err = sb.s_wb_err;
      throw EIO;
    }
  });
}

/** sync(2): errors are for fsync to report. */
export async function sys_sync(task: task_struct): Promise<void> {
  const { kernel } = task;
  const quiet = (fn: (sb: super_block) => Sometime<void>) => async (sb: super_block) => {
    if (sb_rdonly(sb)) return;
    try {
      await fn(sb);
    } catch (e) {
      if (!is_errno(e)) throw e;
    }
  };
  // the flusher's round first: it leaves alone what only waiting can write (DAX)
  await iterate_supers(kernel, quiet(writeback_inodes_sb));
  await iterate_supers(kernel, quiet(sync_inodes_sb));
  await iterate_supers(
    kernel,
    quiet((sb) => sb.s_op.sync_fs?.(sb, false)),
  );
  await iterate_supers(
    kernel,
    quiet((sb) => sb.s_op.sync_fs?.(sb, true)),
  );
  await iterate_supers(kernel, quiet(sync_sb_blockdev));
}

const SYNC_VALID = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

export function sys_sync_file_range(
  task: task_struct,
  fd: number,
  offset: number,
  nbytes: number,
  flags: number,
): Promise<void> {
  return with_fd(task, fd, async (f) => {
    if ((flags & ~SYNC_VALID) !== 0 || offset < 0 || nbytes < 0) throw EINVAL;
    const end = nbytes === 0 ? LLONG_MAX : offset + nbytes - 1;
    if (end > LLONG_MAX) throw EINVAL;
    const mode = f.f_inode.i_mode;
    if (!S_ISREG(mode) && !S_ISBLK(mode) && !S_ISDIR(mode) && !S_ISLNK(mode)) throw ESPIPE;
    if ((flags & SYNC_FILE_RANGE_WAIT_BEFORE) !== 0) await file_fdatawait_range(f, offset, end);
    if ((flags & SYNC_FILE_RANGE_WRITE) !== 0) {
      const sync_mode = (flags & SYNC_VALID) === SYNC_VALID ? WB_SYNC_ALL : WB_SYNC_NONE;
      await do_writepages(f.f_mapping.host, {
        nr_to_write: LLONG_MAX,
        range_start: offset,
        range_end: end,
        sync_mode,
      });
    }
    if ((flags & SYNC_FILE_RANGE_WAIT_AFTER) !== 0) await file_fdatawait_range(f, offset, end);
  });
}
