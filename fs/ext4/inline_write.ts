/**
 * fs/ext4/inline_write.ts - changing data kept in the inode: room for it, and moving it out into
 * blocks. Linux: fs/ext4/inline.c. Reading: inline.ts; writes through the page cache:
 * inline_file.ts; directories: inline_dir.ts.
 *
 * The first 60 bytes are in i_block, the rest is the value of system.data, an attribute in the
 * inode. What is changed is the inode's place in the inode table, which ext4_mark_inode_dirty()
 * then gives its checksum. EXT4_STATE_MAY_INLINE_DATA: new data may go into the inode. Without it,
 * inline data that is still there is on its way into delayed blocks, and goes at writeback.
 * Locks: xattr_sem for writing; a handle is open, opened before page locks and xattr_sem.
 */
import { EFSCORRUPTED, ENOSPC, is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { S_ISDIR } from "../../kernel/include/stat.ts";
import { current_time } from "../../kernel/vfs/inode.ts";
import { filemap_flush } from "../../mm/filemap.ts";
import { brelse, type buffer_head, sync_dirty_buffer } from "../buffer.ts";
import { ext4_es_drop } from "./da_reserve.ts";
import { ext4_bread_create } from "./dirent_write.ts";
import {
  EXT4_EXTENTS_FL,
  EXT4_FEATURE_INCOMPAT_EXTENTS,
  EXT4_INLINE_DATA_FL,
  EXT4_XATTR_INDEX_SYSTEM,
  EXT_MAX_BLOCKS,
  ext4_inode,
} from "./ext4.ts";
import {
  EXT4_I,
  EXT4_STATE_MAY_INLINE_DATA,
  EXT4_STATE_XATTR,
  ext4_clear_inode_flag,
  ext4_clear_inode_state,
  ext4_error_inode,
  ext4_msg,
  ext4_set_inode_flag,
  ext4_set_inode_state,
  ext4_test_inode_state,
  has_incompat,
  KERN_CRIT,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_INODE,
  EXT4_HT_WRITE_PAGE,
  ext4_handle_dirty_metadata,
  ext4_handle_sync,
  ext4_journal_get_write_access,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
  IS_SYNC,
} from "./ext4_jbd2.ts";

import { init_extent_tree } from "./ialloc.ts";
import {
  EXT4_MIN_INLINE_DATA_SIZE,
  ext4_find_inline_data_nolock,
  ext4_get_inline_size,
  ext4_inline_tail,
  ext4_read_inline_data,
  SYSTEM_DATA,
} from "./inline.ts";
import { check_inline_entries, finish_convert_inline_dir } from "./inline_dir.ts";
import { ext4_get_inode_loc, ext4_has_inline_data, type ext4_iloc } from "./inode.ts";
import { ext4_mark_iloc_dirty, ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_orphan_add, ext4_orphan_del } from "./orphan.ts";
import { EXT4_XATTR_LEN, EXT4_XATTR_SIZE } from "./xattr.ts";
import type { xattr_info } from "./xattr_list.ts";
import { ext4_xattr_ibody_set, ibody_items, ibody_room } from "./xattr_write.ts";

const I_BLOCK = ext4_inode.offsetof("i_block");

const system_data = (value: Uint8Array | null): xattr_info => ({
  index: EXT4_XATTR_INDEX_SYSTEM,
  name: Uint8Array.from(SYSTEM_DATA),
  value,
  in_inode: false,
});

// --- how much fits ----------------------------------------------------------------------------

/**
 * Bytes that the value of system.data can have beside the other attributes; 0 also for no room at
 * all.
 */
export function max_inline_value(inode: inode, iloc: ext4_iloc): number {
  const a = ibody_room(inode, iloc);
  if (!a) return 0;
  const entry = EXT4_XATTR_LEN(SYSTEM_DATA.length);
  const room = a.end - a.first;
  if (!ext4_test_inode_state(inode, EXT4_STATE_XATTR)) {
    return EXT4_XATTR_SIZE(room - entry - 3 - 4);
  }
  let free = room - 4;
  let own = 0;
  for (const e of ibody_items(inode, iloc)) {
    const size = e.value ? EXT4_XATTR_SIZE(e.value.length) : 0;
    free -= EXT4_XATTR_LEN(e.name.length) + size;
    if (e.index === EXT4_XATTR_INDEX_SYSTEM) own = size;
  }
  if (EXT4_I(inode).i_inline_off !== 0) return free + own;
  free -= entry;
  return free > 3 ? EXT4_XATTR_SIZE(free - 3) : 0;
}

/** Bytes of inline data that the inode could hold; 0: it can hold none. */
export async function ext4_get_max_inline_size(inode: inode): Promise<number> {
  if (EXT4_I(inode).i_extra_isize === 0) return 0;
  const iloc = await ext4_get_inode_loc(inode);
  try {
    const value = max_inline_value(inode, iloc);
    return value === 0 ? 0 : value + EXT4_MIN_INLINE_DATA_SIZE;
  } finally {
    brelse(iloc.bh);
  }
}

/** Runs `fn` with xattr_sem held for writing. */
export async function with_xattr_lock<T>(inode: inode, fn: () => Promise<T>): Promise<T> {
  const sem = EXT4_I(inode).xattr_sem;
  const p = sem.down_write();
  if (p) await p;
  try {
    return await fn();
  } finally {
    sem.up_write();
  }
}

// --- making, growing, removing ----------------------------------------------------------------

/** Passes the inode's place on to be marked dirty; the caller keeps its reference. */
async function mark_place(handle: handle_t, inode: inode, iloc: ext4_iloc): Promise<void> {
  iloc.bh.b_count++;
  await ext4_mark_iloc_dirty(handle, inode, iloc);
}

/** The inode gets room for `len` bytes, all zero, in place of a block map. Throws ENOSPC. */
async function ext4_create_inline_data(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
  len: number,
): Promise<void> {
  await ext4_journal_get_write_access(handle, inode.i_sb, iloc.bh);
  const value = new Uint8Array(Math.max(0, len - EXT4_MIN_INLINE_DATA_SIZE));
  try {
    await ext4_xattr_ibody_set(handle, inode, iloc, system_data(value));
  } catch (e) {
    if (e === ENOSPC) ext4_clear_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
    throw e;
  }
  const at = iloc.offset + I_BLOCK;
  iloc.bh.b_data.fill(0, at, at + EXT4_MIN_INLINE_DATA_SIZE);
  ext4_find_inline_data_nolock(inode, iloc.bh.b_data, iloc.offset);
  ext4_clear_inode_flag(inode, EXT4_EXTENTS_FL);
  ext4_set_inode_flag(inode, EXT4_INLINE_DATA_FL);
  await mark_place(handle, inode, iloc);
}

/** Makes the room at least `len` bytes; what is there stays. Throws ENOSPC. */
export async function ext4_update_inline_data(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
  len: number,
): Promise<void> {
  if (len <= EXT4_I(inode).i_inline_size) return;
  await ext4_journal_get_write_access(handle, inode.i_sb, iloc.bh);
  const tail = ext4_inline_tail(inode, iloc);
  const value = new Uint8Array(len - EXT4_MIN_INLINE_DATA_SIZE);
  value.set(iloc.bh.b_data.subarray(tail.off, tail.off + tail.len));
  await ext4_xattr_ibody_set(handle, inode, iloc, system_data(value));
  ext4_set_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
  await mark_place(handle, inode, iloc);
}

/**
 * Room for `len` bytes in the inode. Takes xattr_sem. Throws ENOSPC: the data must go into blocks.
 */
export async function ext4_prepare_inline_data(
  handle: handle_t,
  inode: inode,
  len: number,
): Promise<void> {
  if (!ext4_test_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA)) throw ENOSPC;
  if ((await ext4_get_max_inline_size(inode)) < len) throw ENOSPC;
  await with_xattr_lock(inode, async () => {
    const iloc = await ext4_get_inode_loc(inode);
    try {
      const there = EXT4_I(inode).i_inline_off !== 0;
      if (there) await ext4_update_inline_data(handle, inode, iloc, len);
      else await ext4_create_inline_data(handle, inode, iloc, len);
    } finally {
      brelse(iloc.bh);
    }
  });
}

/** Puts bytes into the room there is. */
export function ext4_write_inline_data(
  inode: inode,
  iloc: ext4_iloc,
  pos: number,
  data: Uint8Array,
): void {
  const b = iloc.bh.b_data;
  const in_block = Math.max(0, Math.min(data.length, EXT4_MIN_INLINE_DATA_SIZE - pos));
  b.set(data.subarray(0, in_block), iloc.offset + I_BLOCK + pos);
  if (in_block === data.length) return;
  const tail = ext4_inline_tail(inode, iloc);
  b.set(data.subarray(in_block), tail.off + pos + in_block - EXT4_MIN_INLINE_DATA_SIZE);
}

/**
 * The inline form goes, and an empty block map takes its place. The data is the caller's business.
 */
export async function ext4_destroy_inline_data_nolock(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
): Promise<void> {
  const ei = EXT4_I(inode);
  if (ei.i_inline_off === 0) return;
  const p = ei.i_data_sem.down_write();
  if (p) await p;
  try {
    await ext4_journal_get_write_access(handle, inode.i_sb, iloc.bh);
    await ext4_xattr_ibody_set(handle, inode, iloc, system_data(null));
    const at = iloc.offset + I_BLOCK;
    iloc.bh.b_data.fill(0, at, at + EXT4_MIN_INLINE_DATA_SIZE);
    ei.i_data.fill(0);
    if (has_incompat(inode.i_sb, EXT4_FEATURE_INCOMPAT_EXTENTS)) init_extent_tree(inode);
    ext4_clear_inode_flag(inode, EXT4_INLINE_DATA_FL);
    ei.i_inline_off = 0;
    ei.i_inline_size = 0;
    await mark_place(handle, inode, iloc);
    ext4_clear_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
  } finally {
    ei.i_data_sem.up_write();
  }
}

/** The data is in pages now and will get blocks: the inline form goes. */
export async function ext4_destroy_inline_data(handle: handle_t, inode: inode): Promise<void> {
  await with_xattr_lock(inode, async () => {
    const iloc = await ext4_get_inode_loc(inode);
    try {
      await ext4_destroy_inline_data_nolock(handle, inode, iloc);
    } finally {
      brelse(iloc.bh);
    }
  });
}

// --- into a block -----------------------------------------------------------------------------

async function restore(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
  data: Uint8Array,
): Promise<void> {
  try {
    await ext4_create_inline_data(handle, inode, iloc, data.length);
    ext4_write_inline_data(inode, iloc, 0, data);
    ext4_set_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
    await mark_place(handle, inode, iloc);
  } catch (e) {
    if (!is_errno(e)) throw e;
    const what = "error restoring inline_data for inode -- potential data loss!";
    ext4_msg(inode.i_sb, KERN_CRIT, `${what} (inode ${inode.i_ino}, error -${e.errno})`);
  }
}

/**
 * Moves the data into block 0 of the file or directory. xattr_sem held. On errors all is as before.
 */
export async function ext4_convert_inline_data_nolock(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
): Promise<void> {
  const data = ext4_read_inline_data(inode, ext4_get_inline_size(inode), iloc);
  const dir = S_ISDIR(inode.i_mode);
  if (dir) check_inline_entries(inode, iloc.bh, data);
  await ext4_destroy_inline_data_nolock(handle, inode, iloc);
  let bh: buffer_head | null = null;
  try {
    bh = await ext4_bread_create(handle, inode, 0);
    await ext4_journal_get_write_access(handle, inode.i_sb, bh);
    if (dir) await finish_convert_inline_dir(handle, inode, bh, data);
    else {
      bh.b_data.set(data);
      await ext4_handle_dirty_metadata(handle, inode, bh);
      // writes of the page cache know nothing of this buffer: it must not be written after them
      await sync_dirty_buffer(bh);
    }
  } catch (e) {
    if (is_errno(e)) await restore(handle, inode, iloc, data);
    throw e;
  } finally {
    brelse(bh);
  }
}

/** Moves inline data out into blocks. Nothing to do for a file without. */
export async function ext4_convert_inline_data(inode: inode): Promise<void> {
  if (!ext4_has_inline_data(inode)) {
    ext4_clear_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
    return;
  }
  if (!ext4_test_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA)) {
    // half way: writeback does the rest
    await filemap_flush(inode.i_mapping);
    if (!ext4_has_inline_data(inode)) return;
  }
  const handle = await ext4_journal_start(inode, EXT4_HT_WRITE_PAGE, EXT4_DATA_TRANS_BLOCKS);
  try {
    await with_xattr_lock(inode, async () => {
      if (!ext4_has_inline_data(inode)) return;
      const iloc = await ext4_get_inode_loc(inode);
      try {
        await ext4_convert_inline_data_nolock(handle, inode, iloc);
      } finally {
        brelse(iloc.bh);
      }
    });
  } finally {
    ext4_journal_stop(handle);
  }
}

// --- truncating -------------------------------------------------------------------------------

/** Cuts the room to i_size. xattr_sem held. */
async function cut(handle: handle_t, inode: inode, iloc: ext4_iloc): Promise<void> {
  const ei = EXT4_I(inode);
  const size = inode.i_size;
  ei.i_disksize = size;
  const room = ext4_get_inline_size(inode);
  if (size >= room) return;
  await ext4_journal_get_write_access(handle, inode.i_sb, iloc.bh);
  if (!ext4_test_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA)) {
    // half way into delayed blocks: those are gone with the pages
    ext4_es_drop(inode, 0, EXT_MAX_BLOCKS);
  }
  const b = iloc.bh.b_data;
  if (room > EXT4_MIN_INLINE_DATA_SIZE) {
    const tail = ext4_inline_tail(inode, iloc);
    if (tail.off === 0) {
      const text = "missing inline data xattr";
      ext4_error_inode(inode, "ext4_inline_data_truncate", 0, text);
      throw EFSCORRUPTED;
    }
    const len = Math.max(0, size - EXT4_MIN_INLINE_DATA_SIZE);
    const value = b.slice(tail.off, tail.off + len);
    await ext4_xattr_ibody_set(handle, inode, iloc, system_data(value));
  }
  const at = iloc.offset + I_BLOCK;
  if (size < EXT4_MIN_INLINE_DATA_SIZE) b.fill(0, at + size, at + EXT4_MIN_INLINE_DATA_SIZE);
  ei.i_inline_size = Math.max(EXT4_MIN_INLINE_DATA_SIZE, size);
}

async function truncate_locked(handle: handle_t, inode: inode): Promise<boolean> {
  if (!ext4_has_inline_data(inode)) return false;
  await ext4_orphan_add(handle, inode);
  const iloc = await ext4_get_inode_loc(inode);
  const sem = EXT4_I(inode).i_data_sem;
  const p = sem.down_write();
  if (p) await p;
  try {
    await cut(handle, inode, iloc);
  } finally {
    sem.up_write();
    brelse(iloc.bh);
  }
  return true;
}

/** Shortens inline data to i_size; false: there is none (any more), blocks must be freed. */
export async function ext4_inline_data_truncate(inode: inode): Promise<boolean> {
  const handle = await ext4_journal_start(inode, EXT4_HT_INODE, EXT4_DATA_TRANS_BLOCKS);
  try {
    let inline: boolean;
    try {
      inline = await with_xattr_lock(inode, () => truncate_locked(handle, inode));
    } finally {
      if (inode.i_nlink > 0) await ext4_orphan_del(handle, inode);
    }
    if (!inline) return false;
    const now = current_time(inode);
    inode.i_mtime = now;
    inode.i_ctime = now;
    await ext4_mark_inode_dirty(handle, inode, "ext4_inline_data_truncate");
    if (IS_SYNC(inode)) ext4_handle_sync(handle);
    return true;
  } finally {
    ext4_journal_stop(handle);
  }
}

export {
  ext4_da_write_inline_data_begin,
  ext4_try_to_write_inline_data,
  ext4_write_inline_data_end,
} from "./inline_file.ts";
