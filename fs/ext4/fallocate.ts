/**
 * fs/ext4/fallocate.ts - preallocating, punching, zeroing, collapsing and inserting ranges.
 * Linux: ext4_fallocate() and below in fs/ext4/extents.c, ext4_punch_hole() in fs/ext4/inode.c.
 *
 * Whatever takes blocks away or moves them holds off faults (invalidate_lock), waits for users of
 * the pages, and drops page cache and DAX entries before the tree changes: nobody can then reach a
 * block by its old place. Lock order: i_rwsem, invalidate_lock (write), handle, i_data_sem.
 */
import { EFBIG, EINVAL, ENOSPC, EOPNOTSUPP } from "../../kernel/include/errno.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_SYNC,
} from "../../kernel/include/fcntl.ts";
import { type file, type inode, LLONG_MAX, S_ENCRYPTED } from "../../kernel/include/fs.ts";
import {
  current_time,
  i_size_write,
  inode_dio_wait,
  inode_lock,
  inode_unlock,
} from "../../kernel/vfs/inode.ts";
import { filemap_write_and_wait_range } from "../../mm/filemap.ts";
import { truncate_pagecache, truncate_pagecache_range } from "../../mm/truncate.ts";
import { file_modified, inode_newsize_ok } from "../attr.ts";
import { ext4_es_drop } from "./da_reserve.ts";
import { EXT4_EXTENTS_FL, EXT_MAX_BLOCKS, EXT_UNWRITTEN_MAX_LEN } from "./ext4.ts";
import {
  EXT4_EX_NOCACHE,
  EXT4_GET_BLOCKS_CONVERT_UNWRITTEN,
  EXT4_GET_BLOCKS_CREATE_UNWRIT_EXT,
  EXT4_GET_BLOCKS_NO_NORMALIZE,
  EXT4_I,
  EXT4_SB,
  ext4_test_inode_flag,
  new_map,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_MAP_BLOCKS,
  EXT4_HT_MISC,
  EXT4_HT_TRUNCATE,
  ext4_handle_sync,
  ext4_journal_start,
  ext4_journal_stop,
  ext4_update_inode_fsync_trans,
  type handle_t,
  IS_SYNC,
} from "./ext4_jbd2.ts";
import { ext4_ext_drop_refs, ext4_find_extent } from "./extents.ts";
import { get_extent, leaf_of } from "./extents_node.ts";
import { ext4_ext_remove_space } from "./extents_remove.ts";
import { ext4_ext_shift_left, ext4_ext_shift_right } from "./extents_shift.ts";
import { ext4_force_split_extent_at } from "./extents_split.ts";
import { ext4_ind_remove_space } from "./indirect_write.ts";
import { ext4_convert_inline_data } from "./inline_write.ts";
import { ext4_map_blocks } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_discard_preallocations } from "./mballoc.ts";
import { ext4_should_retry_alloc } from "./retry_alloc.ts";
import {
  ext4_break_layouts,
  ext4_update_disksize_before_punch,
  ext4_update_inode_size,
  ext4_zero_partial_blocks,
} from "./truncate.ts";

const has_extents = (inode: inode): boolean => ext4_test_inode_flag(inode, EXT4_EXTENTS_FL);

/** Runs `fn` with i_rwsem held. */
async function locked(inode: inode, fn: () => Promise<void>): Promise<void> {
  const p = inode_lock(inode);
  if (p) await p;
  try {
    await fn();
  } finally {
    inode_unlock(inode);
  }
}
/** Runs `fn` with faults held off and no page of the file in other hands. */
async function without_faults(inode: inode, fn: () => Promise<void>): Promise<void> {
  const lock = inode.i_mapping.invalidate_lock;
  const p = lock.down_write();
  if (p) await p;
  try {
    await ext4_break_layouts(inode);
    await fn();
  } finally {
    lock.up_write();
  }
}
/** Runs `fn` with a handle. */
async function in_handle(
  inode: inode,
  type: number,
  fn: (handle: handle_t) => Promise<void>,
): Promise<void> {
  const handle = await ext4_journal_start(inode, type, EXT4_DATA_TRANS_BLOCKS);
  try {
    await fn(handle);
  } finally {
    ext4_journal_stop(handle);
  }
}
/** Runs `fn` with the block map to itself, nothing set aside for the inode. */
async function with_map(inode: inode, fn: () => Promise<void>): Promise<void> {
  const sem = EXT4_I(inode).i_data_sem;
  const p = sem.down_write();
  if (p) await p;
  try {
    await ext4_discard_preallocations(inode);
    await fn();
  } finally {
    sem.up_write();
  }
}

/** Waits for direct IO, then set-id bits and times as for a write. */
async function before_change(file: file): Promise<void> {
  const p = inode_dio_wait(file.f_inode);
  if (p) await p;
  await file_modified(file);
}

/** One step of ext4_alloc_file_blocks in a handle of its own. Returns the blocks done. */
async function alloc_step(
  inode: inode,
  lblk: number,
  len: number,
  new_size: number,
  flags: number,
): Promise<number> {
  const map = new_map(lblk, len);
  const handle = await ext4_journal_start(inode, EXT4_HT_MAP_BLOCKS, EXT4_DATA_TRANS_BLOCKS);
  try {
    let n: number;
    try {
      n = await ext4_map_blocks(handle, inode, map, flags);
    } catch (e) {
      await ext4_mark_inode_dirty(handle, inode);
      throw e;
    }
    inode.i_ctime = current_time(inode);
    if (new_size > 0) {
      const done = Math.min((lblk + n) * inode.i_sb.s_blocksize, new_size);
      if (ext4_update_inode_size(inode, done) & 1) inode.i_mtime = inode.i_ctime;
    }
    await ext4_mark_inode_dirty(handle, inode);
    ext4_update_inode_fsync_trans(handle, inode, true);
    return n;
  } finally {
    ext4_journal_stop(handle);
  }
}

/**
 * Makes the blocks [lblk, lblk + len) exist as `get_flags` say; the size grows with them up to
 * `new_size` (0: it stays). @throws ENOSPC after what could be had was allocated
 */
export async function ext4_alloc_file_blocks(
  inode: inode,
  lblk: number,
  len: number,
  new_size: number,
  get_flags: number,
): Promise<void> {
  // a request that fits into one extent is not to be cut by rounding
  const whole = len <= EXT_UNWRITTEN_MAX_LEN;
  const flags = whole ? get_flags | EXT4_GET_BLOCKS_NO_NORMALIZE : get_flags;
  let retries = 0;
  for (let done = 0; done < len; ) {
    try {
      done += await alloc_step(inode, lblk + done, len - done, new_size, flags);
      retries = 0;
    } catch (e) {
      if (e !== ENOSPC || !(await ext4_should_retry_alloc(inode.i_sb, retries++))) throw e;
    }
  }
}

/** The size that the file is to have, 0 when it stays. @throws EFBIG */
function wanted_size(inode: inode, mode: number, end: number): number {
  if (mode & FALLOC_FL_KEEP_SIZE) return 0;
  if (end <= inode.i_size && end <= EXT4_I(inode).i_disksize) return 0;
  inode_newsize_ok(inode, end);
  return end;
}

async function preallocate(file: file, mode: number, offset: number, len: number): Promise<void> {
  const inode = file.f_inode;
  const size = inode.i_sb.s_blocksize;
  if (!has_extents(inode)) throw EOPNOTSUPP;
  const new_size = wanted_size(inode, mode, offset + len);
  await before_change(file);
  const first = Math.floor(offset / size);
  const count = Math.ceil((offset + len) / size) - first;
  const flags = EXT4_GET_BLOCKS_CREATE_UNWRIT_EXT;
  await ext4_alloc_file_blocks(inode, first, count, new_size, flags);
}

async function ext4_zero_range(
  file: file,
  mode: number,
  offset: number,
  len: number,
): Promise<void> {
  const inode = file.f_inode;
  const size = inode.i_sb.s_blocksize;
  const end = offset + len;
  if (!has_extents(inode)) throw EOPNOTSUPP;
  const new_size = wanted_size(inode, mode, end);
  await before_change(file);
  const first = Math.ceil(offset / size);
  const last = Math.floor(end / size);
  const partial = offset % size !== 0 || end % size !== 0;
  const flags = EXT4_GET_BLOCKS_CREATE_UNWRIT_EXT;
  if (partial) {
    const from = Math.floor(offset / size);
    const count = Math.ceil(end / size) - from;
    await ext4_alloc_file_blocks(inode, from, count, new_size, flags);
  }
  if (last > first) {
    await without_faults(inode, async () => {
      await ext4_update_disksize_before_punch(inode, offset, len);
      await truncate_pagecache_range(inode, first * size, last * size - 1);
      inode.i_mtime = inode.i_ctime = current_time(inode);
      const how = flags | EXT4_GET_BLOCKS_CONVERT_UNWRITTEN | EXT4_EX_NOCACHE;
      await ext4_alloc_file_blocks(inode, first, last - first, new_size, how);
    });
  }
  if (!partial) return;
  await in_handle(inode, EXT4_HT_MISC, async (handle) => {
    inode.i_mtime = inode.i_ctime = current_time(inode);
    if (new_size > 0) ext4_update_inode_size(inode, new_size);
    await ext4_mark_inode_dirty(handle, inode);
    await ext4_zero_partial_blocks(inode, offset, len);
    ext4_update_inode_fsync_trans(handle, inode, true);
    if (file.f_flags & O_SYNC) ext4_handle_sync(handle);
  });
}

/** Where a punch from `offset` on ends: behind the page with the file's end at most. */
function punch_end(inode: inode, offset: number, len: number): number {
  const page = inode.kernel.PAGE_SIZE;
  let end = offset + len;
  if (end > inode.i_size) end = inode.i_size + page - (inode.i_size % page);
  return Math.min(end, EXT4_SB(inode.i_sb).s_bitmap_maxbytes - inode.i_sb.s_blocksize);
}

async function free_range(
  handle: handle_t,
  inode: inode,
  first: number,
  stop: number,
): Promise<void> {
  if (stop <= first) return;
  await with_map(inode, async () => {
    ext4_es_drop(inode, first, stop - first);
    if (has_extents(inode)) await ext4_ext_remove_space(inode, first, stop - 1);
    else await ext4_ind_remove_space(handle, inode, first, stop);
  });
}

/** Frees the whole blocks of a range and zeroes its ragged ends. The size stays. */
async function ext4_punch_hole(file: file, offset: number, length: number): Promise<void> {
  const inode = file.f_inode;
  const size = inode.i_sb.s_blocksize;
  await filemap_write_and_wait_range(inode.i_mapping, offset, offset + length - 1);
  await locked(inode, async () => {
    if (offset >= inode.i_size) return;
    const end = punch_end(inode, offset, length);
    const len = end - offset;
    await before_change(file);
    const first = Math.ceil(offset / size);
    const stop = Math.floor(end / size);
    await without_faults(inode, async () => {
      if (stop > first) {
        await ext4_update_disksize_before_punch(inode, offset, len);
        await truncate_pagecache_range(inode, first * size, stop * size - 1);
      }
      await in_handle(inode, EXT4_HT_TRUNCATE, async (handle) => {
        await ext4_zero_partial_blocks(inode, offset, len);
        await free_range(handle, inode, first, stop);
        if (IS_SYNC(inode)) ext4_handle_sync(handle);
        inode.i_mtime = inode.i_ctime = current_time(inode);
        await ext4_mark_inode_dirty(handle, inode);
        ext4_update_inode_fsync_trans(handle, inode, true);
      });
    });
  });
}

/** Collapse and insert work on whole clusters of extent-mapped files. */
function check_shift(inode: inode, offset: number, len: number): void {
  if (!has_extents(inode)) throw EOPNOTSUPP;
  const cluster = inode.i_sb.s_blocksize * EXT4_SB(inode.i_sb).s_cluster_ratio;
  if (offset % cluster !== 0 || len % cluster !== 0) throw EINVAL;
}

/** Takes a range out of the file: what is behind it moves to its place. */
async function ext4_collapse_range(file: file, offset: number, len: number): Promise<void> {
  const inode = file.f_inode;
  const mapping = inode.i_mapping;
  const size = inode.i_sb.s_blocksize;
  check_shift(inode, offset, len);
  const first = offset / size;
  const stop = (offset + len) / size;
  await locked(inode, async () => {
    if (offset + len >= inode.i_size) throw EINVAL;
    await before_change(file);
    await without_faults(inode, async () => {
      const from = offset - (offset % inode.kernel.PAGE_SIZE);
      await filemap_write_and_wait_range(mapping, from, offset);
      await filemap_write_and_wait_range(mapping, offset + len, LLONG_MAX);
      await truncate_pagecache(inode, from);
      await in_handle(inode, EXT4_HT_TRUNCATE, async (handle) => {
        await with_map(inode, async () => {
          ext4_es_drop(inode, first, EXT_MAX_BLOCKS - first);
          await ext4_ext_remove_space(inode, first, stop - 1);
          await ext4_discard_preallocations(inode);
          await ext4_ext_shift_left(inode, handle, stop, stop - first);
          const new_size = inode.i_size - len;
          i_size_write(inode, new_size);
          EXT4_I(inode).i_disksize = new_size;
        });
        if (IS_SYNC(inode)) ext4_handle_sync(handle);
        inode.i_mtime = inode.i_ctime = current_time(inode);
        await ext4_mark_inode_dirty(handle, inode);
        ext4_update_inode_fsync_trans(handle, inode, true);
      });
    });
  });
}

/** Cuts the extent that stands across `lblk`. */
async function split_at(handle: handle_t, inode: inode, lblk: number): Promise<void> {
  const path = await ext4_find_extent(inode, lblk);
  const leaf = leaf_of(path);
  const ex = leaf.p_ext >= 0 ? get_extent(leaf.p_view, leaf.p_ext) : null;
  ext4_ext_drop_refs(path);
  if (ex && lblk > ex.ee_block && lblk < ex.ee_block + ex.ee_len) {
    await ext4_force_split_extent_at(handle, inode, lblk, true);
  }
}

/** Opens a hole in the file: what stands there and behind moves back. */
async function ext4_insert_range(file: file, offset: number, len: number): Promise<void> {
  const inode = file.f_inode;
  const size = inode.i_sb.s_blocksize;
  check_shift(inode, offset, len);
  const first = offset / size;
  await locked(inode, async () => {
    if (len > inode.i_sb.s_maxbytes - inode.i_size) throw EFBIG;
    if (offset >= inode.i_size) throw EINVAL;
    await before_change(file);
    await without_faults(inode, async () => {
      const from = offset - (offset % inode.kernel.PAGE_SIZE);
      await filemap_write_and_wait_range(inode.i_mapping, from, LLONG_MAX);
      await truncate_pagecache(inode, from);
      await in_handle(inode, EXT4_HT_TRUNCATE, async (handle) => {
        // the size first: no block may ever lie behind it
        i_size_write(inode, inode.i_size + len);
        EXT4_I(inode).i_disksize += len;
        inode.i_mtime = inode.i_ctime = current_time(inode);
        await ext4_mark_inode_dirty(handle, inode);
        await with_map(inode, async () => {
          await split_at(handle, inode, first);
          ext4_es_drop(inode, first, EXT_MAX_BLOCKS - first);
          await ext4_ext_shift_right(inode, handle, first, len / size);
        });
        if (IS_SYNC(inode)) ext4_handle_sync(handle);
        ext4_update_inode_fsync_trans(handle, inode, true);
      });
    });
  });
}

const SUPPORTED =
  FALLOC_FL_KEEP_SIZE |
  FALLOC_FL_PUNCH_HOLE |
  FALLOC_FL_COLLAPSE_RANGE |
  FALLOC_FL_ZERO_RANGE |
  FALLOC_FL_INSERT_RANGE;

/** file_operations.fallocate; the VFS has checked the combination of flags, rights and sizes. */
export async function ext4_fallocate(
  file: file,
  mode: number,
  offset: number,
  len: number,
): Promise<void> {
  const inode = file.f_inode;
  const shifts = FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE;
  if (inode.i_flags & S_ENCRYPTED && mode & shifts) throw EOPNOTSUPP;
  if (mode & ~SUPPORTED) throw EOPNOTSUPP;
  await locked(inode, () => ext4_convert_inline_data(inode));
  if (mode & FALLOC_FL_PUNCH_HOLE) return ext4_punch_hole(file, offset, len);
  if (mode & FALLOC_FL_COLLAPSE_RANGE) return ext4_collapse_range(file, offset, len);
  if (mode & FALLOC_FL_INSERT_RANGE) return ext4_insert_range(file, offset, len);
  if (mode & FALLOC_FL_ZERO_RANGE) {
    return locked(inode, () => ext4_zero_range(file, mode, offset, len));
  }
  return locked(inode, () => preallocate(file, mode, offset, len));
}
