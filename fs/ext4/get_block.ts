/**
 * fs/ext4/get_block.ts - one block for a buffer of the page cache, or of a directory.
 * Linux: _ext4_get_block(), ext4_get_block_unwritten(), ext4_da_get_block_prep(), ext4_getblk() in
 * fs/ext4/inode.c. Without CREATE: ext4_get_block_read() in aops.ts.
 *
 * Delayed: the buffer is mapped to no place (BH_Mapped, BH_New, BH_Delay), a cluster is promised,
 * and the block is a delayed one in the extent status cache until writeback chooses its place.
 */
import { ENOSPC, ERANGE } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import {
  BH_Delay,
  BH_Mapped,
  BH_New,
  BH_Unwritten,
  brelse,
  type buffer_head,
  buffer_unwritten,
  buffer_uptodate,
  map_bh,
  sb_getblk,
  set_buffer_uptodate,
} from "../buffer.ts";
import { ext4_insert_delayed_block } from "./da_reserve.ts";
import {
  EXT4_GET_BLOCKS_CREATE,
  EXT4_GET_BLOCKS_CREATE_UNWRIT_EXT,
  EXT4_I,
  EXT4_MAP_FLAGS,
  EXT4_MAP_MAPPED,
  EXT4_MAP_NEW,
  EXT4_MAP_UNWRITTEN,
  type ext4_map_blocks_t,
  ext4_sb_bread,
  new_map,
} from "./ext4_fs.ts";
import {
  ext4_handle_dirty_metadata,
  ext4_journal_current_handle,
  ext4_journal_get_create_access,
  type handle_t,
} from "./ext4_jbd2.ts";
import {
  es_find,
  EXTENT_STATUS_DELAYED,
  EXTENT_STATUS_HOLE,
  EXTENT_STATUS_UNWRITTEN,
  EXTENT_STATUS_WRITTEN,
} from "./extents_status.ts";
import { ext4_has_inline_data, ext4_map_blocks, ext4_map_lookup } from "./inode.ts";

/** What the map found goes into the buffer's state; the bits of both have the same values. */
function update_bh(inode: inode, bh: buffer_head, map: ext4_map_blocks_t): void {
  map_bh(bh, inode.i_sb.s_bdev!, map.m_pblk);
  bh.b_state = (bh.b_state & ~EXT4_MAP_FLAGS) | (map.m_flags & EXT4_MAP_FLAGS);
}

async function get_block(
  inode: inode,
  iblock: number,
  bh: buffer_head,
  flags: number,
): Promise<void> {
  if (ext4_has_inline_data(inode)) throw ERANGE;
  const map = new_map(iblock, 1);
  const handle = ext4_journal_current_handle(inode.i_sb);
  const n = await ext4_map_blocks(handle, inode, map, flags);
  if (n > 0) update_bh(inode, bh, map);
}

/** get_block of buffered writes without delayed allocation. A handle is open when `create`. */
export function ext4_get_block(
  inode: inode,
  iblock: number,
  bh: buffer_head,
  create: boolean,
): Promise<void> {
  return get_block(inode, iblock, bh, create ? EXT4_GET_BLOCKS_CREATE : 0);
}

/** As ext4_get_block, but new blocks stay unwritten until the data is on the media. */
export async function ext4_get_block_unwritten(
  inode: inode,
  iblock: number,
  bh: buffer_head,
  _create: boolean,
): Promise<void> {
  await get_block(inode, iblock, bh, EXT4_GET_BLOCKS_CREATE_UNWRIT_EXT);
  // what the write does not cover of it must be zeroed
  if (buffer_unwritten(bh)) bh.b_state |= BH_New;
}

function set_delayed(bh: buffer_head): void {
  bh.b_bdev = null;
  bh.b_blocknr = -1;
  bh.b_state |= BH_Mapped | BH_New | BH_Delay;
}

/** What the cache says of the block: null nothing (or a known hole), else how it is. */
function known(inode: inode, map: ext4_map_blocks_t): "delayed" | "mapped" | "hole" | null {
  const t = EXT4_I(inode).i_es_tree;
  const i = es_find(t, map.m_lblk);
  if (i < 0) return null;
  const status = t.status[i]!;
  if (status & EXTENT_STATUS_HOLE) return "hole";
  if (status & EXTENT_STATUS_DELAYED && !(status & EXTENT_STATUS_UNWRITTEN)) return "delayed";
  map.m_pblk = t.pblk[i]! + (map.m_lblk - t.lblk[i]!);
  map.m_flags = status & EXTENT_STATUS_WRITTEN ? EXT4_MAP_MAPPED : EXT4_MAP_UNWRITTEN;
  return "mapped";
}

/** True when the block is allocated (map filled); else it is delayed now. @throws ENOSPC */
async function ext4_da_map_blocks(inode: inode, map: ext4_map_blocks_t): Promise<boolean> {
  let state = known(inode, map);
  if (state === "delayed") return false;
  if (state === "mapped") return true;
  const sem = EXT4_I(inode).i_data_sem;
  const inline = ext4_has_inline_data(inode);
  if (state === null && !inline) {
    const p = sem.down_read();
    if (p) await p;
    try {
      if ((await ext4_map_lookup(inode, map, 0)) > 0) return true;
    } finally {
      sem.up_read();
    }
  }
  const p = sem.down_write();
  if (p) await p;
  try {
    // a fault or a fallocate may have been faster
    state = known(inode, map);
    if (state === "delayed") return false;
    if (state === "mapped") return true;
    if (state === null && !inline) {
      map.m_len = 1;
      if ((await ext4_map_lookup(inode, map, 0)) > 0) return true;
    }
    await ext4_insert_delayed_block(inode, map.m_lblk);
    return false;
  } finally {
    sem.up_write();
  }
}

/** get_block of delayed allocation: the block as it is allocated, or a promise for one. */
export async function ext4_da_get_block_prep(
  inode: inode,
  iblock: number,
  bh: buffer_head,
  _create: boolean,
): Promise<void> {
  const map = new_map(iblock, 1);
  if (!(await ext4_da_map_blocks(inode, map))) {
    set_delayed(bh);
    return;
  }
  update_bh(inode, bh, map);
  // mapped: it is not asked for again; new: the rest of a partial write is zeroed
  if (bh.b_state & BH_Unwritten) bh.b_state |= BH_New | BH_Mapped;
}

/**
 * The buffer of a file's block, for files whose blocks are metadata (directories, symlinks,
 * attribute values). A new block is zeroed and dirty. Null: a hole, and `flags` had no CREATE. The
 * caller drops it.
 * @throws ENOSPC, EIO
 */
export async function ext4_getblk(
  handle: handle_t | null,
  inode: inode,
  block: number,
  flags: number,
): Promise<buffer_head | null> {
  const map = new_map(block, 1);
  const n = await ext4_map_blocks(handle, inode, map, flags);
  if (n <= 0) {
    if (flags & EXT4_GET_BLOCKS_CREATE) throw ENOSPC;
    return null;
  }
  const bh = sb_getblk(inode.i_sb, map.m_pblk);
  if (!(map.m_flags & EXT4_MAP_NEW)) return bh;
  try {
    await ext4_journal_get_create_access(handle!, inode.i_sb, bh);
    if (!buffer_uptodate(bh)) {
      bh.b_data.fill(0);
      set_buffer_uptodate(bh);
    }
    await ext4_handle_dirty_metadata(handle, inode, bh);
  } catch (e) {
    brelse(bh);
    throw e;
  }
  return bh;
}

/** As ext4_getblk, with the block's contents. */
export async function ext4_bread_create(
  handle: handle_t | null,
  inode: inode,
  block: number,
  flags: number,
): Promise<buffer_head | null> {
  const bh = await ext4_getblk(handle, inode, block, flags);
  if (!bh || buffer_uptodate(bh)) return bh;
  brelse(bh);
  return ext4_sb_bread(inode.i_sb, bh.b_blocknr);
}
