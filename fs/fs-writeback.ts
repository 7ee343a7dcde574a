/**
 * fs/fs-writeback.ts - from dirty inodes to the device. Linux: fs/fs-writeback.c.
 * Differs: no flusher threads; data is written when somebody asks (fsync, sync, umount, reclaim of
 * an inode).
 *
 * writeback_single_inode() is the one place that clears I_DIRTY*. I_SYNC is set while it runs: a
 * second caller waits (WB_SYNC_ALL) or goes on. Pages before the inode, so that the inode's size
 * and blocks on the media never promise data that is not there yet.
 */
import type { Sometime, inode, super_block, writeback_control } from "../kernel/include/fs.ts";
import {
  I_CLEAR,
  I_DIRTY,
  I_DIRTY_PAGES,
  I_DIRTY_TIME,
  I_FREEING,
  I_NEW,
  I_SYNC,
  I_WILL_FREE,
  LLONG_MAX,
  WB_SYNC_ALL,
  WB_SYNC_NONE,
} from "../kernel/include/fs.ts";
import { is_errno } from "../kernel/include/errno.ts";
import { busy_begin, busy_end } from "../kernel/locking/busy.ts";
import { xa_marked } from "../kernel/lib/xarray.ts";
import { inode_wait, inode_wake, iput, mark_inode_dirty_sync } from "../kernel/vfs/inode.ts";
import { filemap_fdatawait_range } from "../mm/filemap.ts";
import { PAGECACHE_TAG_DIRTY } from "../mm/address_space.ts";

/** A request to write everything of an inode. */
export function new_wbc(sync_mode: number, nr_to_write = LLONG_MAX): writeback_control {
  return { nr_to_write, range_start: 0, range_end: LLONG_MAX, sync_mode };
}

/** Asks the mapping to write its dirty pages in wbc's range. */
export async function do_writepages(inode: inode, wbc: writeback_control): Promise<void> {
  if (wbc.nr_to_write <= 0) return;
  const { a_ops } = inode.i_mapping;
  if (a_ops.writepages !== undefined) await a_ops.writepages(inode.i_mapping, wbc);
}

/**
 * Writes the inode's pages (unless nr_to_write is 0), then the inode. The first error is thrown.
 */
export async function writeback_single_inode(inode: inode, wbc: writeback_control): Promise<void> {
  while ((inode.i_state & I_SYNC) !== 0) {
    if (wbc.sync_mode !== WB_SYNC_ALL) return;
    const p = inode_wait(inode, I_SYNC);
    if (p) await p;
  }
  if ((inode.i_state & (I_DIRTY | I_DIRTY_TIME)) === 0 && wbc.sync_mode !== WB_SYNC_ALL) return;
  inode.i_state |= I_SYNC;
  busy_begin(inode.kernel, inode, I_SYNC);
  try {
    await __writeback_single_inode(inode, wbc);
  } finally {
    inode.i_state &= ~I_SYNC;
    busy_end(inode.kernel, inode, I_SYNC);
    const dirty = inode.i_state & (I_DIRTY | I_DIRTY_TIME);
    if (dirty === 0) inode.i_sb.s_dirty_inodes.delete(inode);
    else if ((inode.i_state & I_FREEING) === 0) inode.i_sb.s_dirty_inodes.add(inode);
    inode_wake(inode);
  }
}

async function __writeback_single_inode(inode: inode, wbc: writeback_control): Promise<void> {
  let error: unknown = null;
  const keep_first = (e: unknown): void => {
    if (!is_errno(e)) throw e;
    error ??= e;
  };
  const mapping = inode.i_mapping;
  try {
    await do_writepages(inode, wbc);
    if (wbc.sync_mode === WB_SYNC_ALL && wbc.for_sync !== true && mapping.nrpages > 0) {
      await filemap_fdatawait_range(mapping, 0, LLONG_MAX);
    }
  } catch (e) {
    keep_first(e);
  }
  if ((inode.i_state & I_DIRTY_TIME) !== 0 && wbc.sync_mode === WB_SYNC_ALL) {
    await mark_inode_dirty_sync(inode);
  }
  const dirty = inode.i_state & I_DIRTY;
  inode.i_state &= ~dirty;
  if (xa_marked(mapping.i_pages, PAGECACHE_TAG_DIRTY)) inode.i_state |= I_DIRTY_PAGES;
  const op = inode.i_sb.s_op.write_inode;
  if ((dirty & ~I_DIRTY_PAGES) !== 0 && op !== undefined) {
    try {
      await op.call(inode.i_sb.s_op, inode, wbc);
    } catch (e) {
      keep_first(e);
    }
  }
  if (error !== null) throw error;
}

/**
 * Pages and inode; `sync` waits for both. kernel.vfs_ops.write_inode_now swallows the error as iput
 * does.
 */
export function write_inode_now(inode: inode, sync: boolean): Promise<void> {
  return writeback_single_inode(inode, new_wbc(sync ? WB_SYNC_ALL : WB_SYNC_NONE));
}

/** The inode itself, no pages. */
export function sync_inode_metadata(inode: inode, wait: boolean): Promise<void> {
  return writeback_single_inode(inode, new_wbc(wait ? WB_SYNC_ALL : WB_SYNC_NONE, 0));
}

/**
 * Calls `fn` for each dirty inode with a reference; those that become dirty meanwhile are left out.
 */
async function for_each_dirty(
  sb: super_block,
  fn: (inode: inode) => Sometime<void>,
): Promise<void> {
  const gone = I_NEW | I_FREEING | I_WILL_FREE | I_CLEAR;
  for (const inode of [...sb.s_dirty_inodes]) {
    if ((inode.i_state & gone) !== 0 || !sb.s_dirty_inodes.has(inode)) continue;
    inode.i_count++;
    try {
      await fn(inode);
    } catch (e) {
      // The mapping keeps the error for fsync; a sync of everything goes on.
      if (!is_errno(e)) throw e;
    } finally {
      await iput(inode);
    }
  }
}

/** Starts writing every dirty inode. s_umount is held. */
export function writeback_inodes_sb(sb: super_block): Promise<void> {
  return for_each_dirty(sb, (i) => writeback_single_inode(i, new_wbc(WB_SYNC_NONE)));
}

/** Writes every dirty inode and waits. s_umount is held. */
export async function sync_inodes_sb(sb: super_block): Promise<void> {
  await for_each_dirty(sb, (i) => {
    const wbc = new_wbc(WB_SYNC_ALL);
    wbc.for_sync = true;
    return writeback_single_inode(i, wbc);
  });
  for (const inode of [...sb.s_inodes.values()]) {
    if (inode.i_mapping.nrpages === 0 || (inode.i_state & (I_FREEING | I_CLEAR)) !== 0) continue;
    inode.i_count++;
    try {
      await filemap_fdatawait_range(inode.i_mapping, 0, LLONG_MAX);
    } catch (e) {
      if (!is_errno(e)) throw e;
    } finally {
      await iput(inode);
    }
  }
}
