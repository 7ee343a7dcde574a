/**
 * fs/ext4/map_blocks.ts - the half of ext4_map_blocks() that changes the map. Linux:
 * fs/ext4/inode.c. The half that looks: inode.ts.
 *
 * Locks: takes i_data_sem for writing; the caller has a handle open.
 */
import { assert } from "../../kernel/assert.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { clean_bdev_aliases } from "../buffer.ts";
import { ext4_revise_pending } from "./da_reserve.ts";
import { EXT4_EXTENTS_FL } from "./ext4.ts";
import {
  EXT4_GET_BLOCKS_DELALLOC_RESERVE,
  EXT4_GET_BLOCKS_PRE_IO,
  EXT4_GET_BLOCKS_ZERO,
  EXT4_I,
  EXT4_MAP_FLAGS,
  EXT4_MAP_MAPPED,
  EXT4_MAP_NEW,
  EXT4_MAP_UNWRITTEN,
  type ext4_map_blocks_t,
  ext4_test_inode_flag,
} from "./ext4_fs.ts";
import type { handle_t } from "./ext4_jbd2.ts";
import { ext4_ext_map_create } from "./extents_map.ts";
import { ext4_issue_zeroout } from "./extents_split.ts";
import {
  es_find,
  EXTENT_STATUS_DELAYED,
  EXTENT_STATUS_UNWRITTEN,
  EXTENT_STATUS_WRITTEN,
  ext4_es_insert_extent,
  ext4_es_is_delayed,
  ext4_es_scan_range,
} from "./extents_status.ts";
import { ext4_ind_map_create } from "./indirect_write.ts";
import { check_block_validity } from "./inode.ts";

/** Puts what the map says now into the extent status cache. */
function remember(inode: inode, map: ext4_map_blocks_t, flags: number): void {
  const t = EXT4_I(inode).i_es_tree;
  if (flags & EXT4_GET_BLOCKS_PRE_IO) {
    // zeroed for want of space: already noted as written
    const i = es_find(t, map.m_lblk);
    if (i >= 0 && t.status[i]! & EXTENT_STATUS_WRITTEN) return;
  }
  const unwritten = (map.m_flags & EXT4_MAP_UNWRITTEN) !== 0;
  let status = unwritten ? EXTENT_STATUS_UNWRITTEN : EXTENT_STATUS_WRITTEN;
  const end = map.m_lblk + map.m_len - 1;
  const by_writeback = (flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE) !== 0;
  if (unwritten && !by_writeback) {
    if (ext4_es_scan_range(inode, ext4_es_is_delayed, map.m_lblk, end)) {
      status |= EXTENT_STATUS_DELAYED;
    }
  }
  ext4_es_insert_extent(inode, map.m_lblk, map.m_len, map.m_pblk, status);
  ext4_revise_pending(inode, map.m_lblk, map.m_len);
}

/**
 * Allocates or converts as the flags say, and fills in the map. Returns how many blocks it is good
 * for.
 * @throws ENOSPC, EFBIG (block-mapped), EUCLEAN, EIO
 */
export async function ext4_map_create(
  handle: unknown,
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Promise<number> {
  const h = handle as handle_t | null;
  assert(h !== null, "blocks are to be made without a handle");
  const ei = EXT4_I(inode);
  map.m_flags &= ~EXT4_MAP_FLAGS;
  const p = ei.i_data_sem.down_write();
  if (p) await p;
  let n: number;
  try {
    n = ext4_test_inode_flag(inode, EXT4_EXTENTS_FL)
      ? await ext4_ext_map_create(h, inode, map, flags)
      : await ext4_ind_map_create(h, inode, map, flags);
    if (n > 0) {
      const fresh = EXT4_MAP_NEW | EXT4_MAP_MAPPED;
      if (flags & EXT4_GET_BLOCKS_ZERO && (map.m_flags & fresh) === fresh) {
        // before anybody can find the blocks; a metadata buffer of their former life must not be
        // written
        await clean_bdev_aliases(inode.i_sb.s_bdev!, map.m_pblk, map.m_len);
        await ext4_issue_zeroout(inode, map.m_pblk, map.m_len);
      }
      remember(inode, map, flags);
    }
  } finally {
    ei.i_data_sem.up_write();
  }
  if (n > 0 && map.m_flags & EXT4_MAP_MAPPED) check_block_validity(inode, map);
  return n;
}
