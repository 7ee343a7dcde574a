/**
 * fs/ext4/truncate.ts - shortening a file, zeroing parts of blocks, waiting for users of DAX pages.
 * Linux: ext4_truncate(), ext4_zero_partial_blocks(), ext4_break_layouts() in fs/ext4/inode.c.
 *
 * Lock order: i_rwsem, invalidate_lock (write), handle, page lock / DAX entry, i_data_sem.
 * A file that is being shortened is on the orphan list until it is done: a crash finishes it at the
 * next mount.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import { type inode, LLONG_MAX, S_DAX } from "../../kernel/include/fs.ts";
import { S_ISDIR, S_ISLNK, S_ISREG } from "../../kernel/include/stat.ts";
import { current_time, i_size_write } from "../../kernel/vfs/inode.ts";
import { block_zero_page_range } from "../buffer.ts";
import { dax_break_layout, dax_zero_range } from "../dax.ts";
import { ext4_get_block_read } from "./aops.ts";
import { EXT4_EXTENTS_FL } from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MOUNT_NO_AUTO_DA_ALLOC,
  EXT4_STATE_DA_ALLOC_CLOSE,
  ext4_set_inode_state,
  ext4_test_inode_flag,
  test_opt,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_MISC,
  EXT4_HT_TRUNCATE,
  ext4_handle_sync,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
  IS_SYNC,
} from "./ext4_jbd2.ts";
import { ext4_ext_truncate } from "./extents_remove.ts";
import { ext4_ind_truncate } from "./indirect_write.ts";
import { ext4_inline_data_truncate } from "./inline_write.ts";
import { ext4_has_inline_data, ext4_inode_is_fast_symlink } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_iomap_ops } from "./iomap.ts";
import { ext4_discard_preallocations } from "./mballoc.ts";
import { ext4_orphan_add, ext4_orphan_del } from "./orphan.ts";

/**
 * Zeroes bytes from `from` on, at most to the end of their block. Holes and unwritten blocks are
 * zero.
 */
export async function ext4_block_zero_page_range(
  inode: inode,
  from: number,
  length: number,
): Promise<void> {
  const size = inode.i_sb.s_blocksize;
  const len = Math.min(length, size - (from % size));
  if (inode.i_flags & S_DAX) await dax_zero_range(inode, from, len, ext4_iomap_ops);
  else await block_zero_page_range(inode.i_mapping, from, len, ext4_get_block_read);
}

/** Zeroes the parts of [start, start + length) that do not fill a block. */
export async function ext4_zero_partial_blocks(
  inode: inode,
  start: number,
  length: number,
): Promise<void> {
  const size = inode.i_sb.s_blocksize;
  const last = start + length - 1;
  const head = start % size;
  const tail = last % size;
  if (Math.floor(start / size) === Math.floor(last / size)) {
    if (head !== 0 || tail !== size - 1) await ext4_block_zero_page_range(inode, start, length);
    return;
  }
  if (head !== 0) await ext4_block_zero_page_range(inode, start, size);
  if (tail !== size - 1) await ext4_block_zero_page_range(inode, last - tail, tail + 1);
}

export function ext4_can_truncate(inode: inode): boolean {
  if (S_ISREG(inode.i_mode) || S_ISDIR(inode.i_mode)) return true;
  return S_ISLNK(inode.i_mode) && !ext4_inode_is_fast_symlink(inode);
}

/** Raises i_size and i_disksize to `size`. Bit 0: i_size changed, bit 1: i_disksize did. */
export function ext4_update_inode_size(inode: inode, size: number): number {
  const ei = EXT4_I(inode);
  let changed = 0;
  if (size > inode.i_size) {
    i_size_write(inode, size);
    changed |= 1;
  }
  if (size > ei.i_disksize) {
    ei.i_disksize = size;
    changed |= 2;
  }
  return changed;
}

/**
 * i_disksize follows i_size only when the pages before it are written; pages about to be dropped
 * will never be, so it must follow now.
 */
export async function ext4_update_disksize_before_punch(
  inode: inode,
  offset: number,
  len: number,
): Promise<void> {
  const ei = EXT4_I(inode);
  if (offset > inode.i_size) return;
  const size = Math.min(inode.i_size, offset + len);
  if (ei.i_disksize >= size) return;
  const handle = await ext4_journal_start(inode, EXT4_HT_MISC, 1);
  try {
    ei.i_disksize = size;
    await ext4_mark_inode_dirty(handle, inode);
  } finally {
    ext4_journal_stop(handle);
  }
}

/**
 * Waits until no page of a DAX file is in use by anybody but page tables. invalidate_lock is held
 * for writing; it is dropped while waiting. @throws ERESTARTSYS on a signal
 */
export function ext4_break_layouts(inode: inode): Promise<void> {
  const lock = inode.i_mapping.invalidate_lock;
  lock.assert_held_write();
  return dax_break_layout(
    inode,
    0,
    LLONG_MAX,
    () => lock.up_write(),
    () => lock.down_write(),
  );
}

async function free_behind_size(handle: handle_t, inode: inode): Promise<void> {
  const sem = EXT4_I(inode).i_data_sem;
  const p = sem.down_write();
  if (p) await p;
  try {
    await ext4_discard_preallocations(inode);
    if (ext4_test_inode_flag(inode, EXT4_EXTENTS_FL)) await ext4_ext_truncate(handle, inode);
    else await ext4_ind_truncate(handle, inode);
  } finally {
    sem.up_write();
  }
}

/**
 * Frees all blocks behind i_size, which the caller has set, and zeroes the rest of the last block.
 * i_rwsem is held, or nobody else knows the inode. @throws EIO, EUCLEAN, EROFS
 */
export async function ext4_truncate(inode: inode): Promise<void> {
  if (!ext4_can_truncate(inode)) return;
  if (inode.i_size === 0 && !test_opt(inode.i_sb, EXT4_MOUNT_NO_AUTO_DA_ALLOC)) {
    ext4_set_inode_state(inode, EXT4_STATE_DA_ALLOC_CLOSE);
  }
  if (ext4_has_inline_data(inode) && (await ext4_inline_data_truncate(inode))) return;
  const handle = await ext4_journal_start(inode, EXT4_HT_TRUNCATE, EXT4_DATA_TRANS_BLOCKS);
  try {
    if (inode.i_size % inode.i_sb.s_blocksize !== 0) {
      try {
        await ext4_block_zero_page_range(inode, inode.i_size, inode.i_sb.s_blocksize);
      } catch (e) {
        // the size must shrink all the same
        if (!is_errno(e)) throw e;
      }
    }
    await ext4_orphan_add(handle, inode);
    try {
      await free_behind_size(handle, inode);
      if (IS_SYNC(inode)) ext4_handle_sync(handle);
    } finally {
      // an inode without a name stays on the list until it is deleted
      if (inode.i_nlink > 0) await ext4_orphan_del(handle, inode);
      inode.i_mtime = inode.i_ctime = current_time(inode);
      await ext4_mark_inode_dirty(handle, inode);
    }
  } finally {
    ext4_journal_stop(handle);
  }
}
