/**
 * fs/ext4/extents_map.ts - filling a hole of an extent-mapped file, or changing what is there.
 * Linux: ext4_ext_map_blocks() with EXT4_GET_BLOCKS_CREATE, fs/ext4/extents.c. Looking up:
 * extents.ts.
 *
 * With clusters (bigalloc) a cluster belongs to the file as a whole: a block beside an allocated
 * one of the same cluster has its place already and costs nothing.
 * Locks: i_data_sem (write), an open handle.
 */
import { EFSCORRUPTED, is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { S_ISREG } from "../../kernel/include/stat.ts";
import { ext4_charge_blocks, ext4_free_file_blocks } from "./blocks_count.ts";
import { ext4_da_update_reserve_space, ext4_es_delayed_clu } from "./da_reserve.ts";
import { EXT_INIT_MAX_LEN, EXT_MAX_BLOCKS, EXT_UNWRITTEN_MAX_LEN } from "./ext4.ts";
import {
  EXT4_GET_BLOCKS_CONVERT_UNWRITTEN,
  EXT4_GET_BLOCKS_DELALLOC_RESERVE,
  EXT4_GET_BLOCKS_METADATA_NOFAIL,
  EXT4_GET_BLOCKS_NO_NORMALIZE,
  EXT4_GET_BLOCKS_UNWRIT_EXT,
  EXT4_MAP_MAPPED,
  EXT4_MAP_NEW,
  EXT4_MAP_UNWRITTEN,
  EXT4_MOUNT_DELALLOC,
  EXT4_NUM_B2C,
  EXT4_SB,
  ext4_error_inode,
  type ext4_map_blocks_t,
  test_opt,
} from "./ext4_fs.ts";
import { ext4_update_inode_fsync_trans, type handle_t } from "./ext4_jbd2.ts";
import {
  eh_entries,
  entry_block,
  type ext4_ext_path,
  ext4_ext_drop_refs,
  ext4_ext_next_allocated_block,
  ext4_find_extent,
} from "./extents.ts";
import { ext4_ext_find_goal, ext4_ext_insert_extent } from "./extents_insert.ts";
import { type ext4_extent_t, get_extent, leaf_of, near_ext } from "./extents_node.ts";
import { convert_initialized_extent, ext4_ext_handle_unwritten_extents } from "./extents_split.ts";
import {
  EXT4_FREE_BLOCKS_NO_QUOT_UPDATE,
  EXT4_MB_DELALLOC_RESERVED,
  EXT4_MB_HINT_DATA,
  EXT4_MB_HINT_NOPREALLOC,
  EXT4_MB_USE_RESERVED,
  type ext4_allocation_request,
  ext4_discard_preallocations,
  ext4_mb_new_blocks,
  new_request,
} from "./mballoc.ts";

/** The extent of the file behind the path's place, or null. */
export async function ext4_ext_search_right(
  inode: inode,
  path: readonly ext4_ext_path[],
  lblk: number,
): Promise<ext4_extent_t | null> {
  const leaf = leaf_of(path);
  const at = leaf.p_ext + 1;
  if (at < eh_entries(leaf.p_view)) return get_extent(leaf.p_view, at);
  const next = ext4_ext_next_allocated_block(path);
  if (next === EXT_MAX_BLOCKS || next <= lblk) return null;
  const other = await ext4_find_extent(inode, next);
  try {
    const p = leaf_of(other);
    return p.p_ext >= 0 ? get_extent(p.p_view, p.p_ext) : null;
  } finally {
    ext4_ext_drop_refs(other);
  }
}

/**
 * Is the first cluster of the request the file's already, through extent `ex`? Then the map gets
 * its place and is cut to what of the cluster is free.
 */
function get_implied_cluster_alloc(
  inode: inode,
  map: ext4_map_blocks_t,
  ex: ext4_extent_t,
  path: readonly ext4_ext_path[],
): boolean {
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const off = map.m_lblk % ratio;
  const clu = Math.floor(map.m_lblk / ratio);
  const first = Math.floor(ex.ee_block / ratio);
  const last = Math.floor((ex.ee_block + ex.ee_len - 1) / ratio);
  if (clu !== first && clu !== last) return false;
  const in_cluster = clu === last ? ex.ee_pblk + ex.ee_len - 1 : ex.ee_pblk;
  map.m_pblk = in_cluster - (in_cluster % ratio) + off;
  map.m_len = Math.min(map.m_len, ratio - off);
  if (map.m_lblk < ex.ee_block) map.m_len = Math.min(map.m_len, ex.ee_block - map.m_lblk);
  else map.m_len = Math.min(map.m_len, ext4_ext_next_allocated_block(path) - map.m_lblk);
  return true;
}

/** How many blocks from m_lblk on are free in the file, whole clusters of others left out. */
function room_before_next(
  inode: inode,
  map: ext4_map_blocks_t,
  path: readonly ext4_ext_path[],
): number {
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const leaf = leaf_of(path);
  const near = near_ext(leaf);
  if (near < 0) return Math.min(map.m_len, EXT_MAX_BLOCKS - map.m_lblk);
  const mask = (b: number): number => b - (b % ratio);
  let next = mask(entry_block(leaf.p_view, near));
  if (next < map.m_lblk) {
    next = ext4_ext_next_allocated_block(path);
    if (next !== EXT_MAX_BLOCKS) next = mask(next);
  }
  return Math.min(map.m_len, next - map.m_lblk);
}

function request(
  inode: inode,
  map: ext4_map_blocks_t,
  path: readonly ext4_ext_path[],
  right: ext4_extent_t | null,
  allocated: number,
  flags: number,
): ext4_allocation_request {
  const offset = map.m_lblk % EXT4_SB(inode.i_sb).s_cluster_ratio;
  const ar = new_request(inode, map.m_lblk - offset);
  const leaf = leaf_of(path);
  if (leaf.p_ext >= 0) {
    const left = get_extent(leaf.p_view, leaf.p_ext);
    ar.lleft = left.ee_block + left.ee_len - 1;
    ar.pleft = left.ee_pblk + left.ee_len - 1;
  }
  if (right) {
    ar.lright = right.ee_block;
    ar.pright = right.ee_pblk;
  }
  ar.goal = ext4_ext_find_goal(inode, path, map.m_lblk) - offset;
  ar.len = offset + allocated;
  // only regular files get runs set aside for them
  if (S_ISREG(inode.i_mode)) ar.flags |= EXT4_MB_HINT_DATA;
  if (flags & EXT4_GET_BLOCKS_NO_NORMALIZE) ar.flags |= EXT4_MB_HINT_NOPREALLOC;
  if (flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE) ar.flags |= EXT4_MB_DELALLOC_RESERVED;
  if (flags & EXT4_GET_BLOCKS_METADATA_NOFAIL) ar.flags |= EXT4_MB_USE_RESERVED;
  return ar;
}

/** Puts the new blocks into the tree; gives them back when the tree has no room for them. */
async function insert_or_free(
  handle: handle_t,
  inode: inode,
  path: ext4_ext_path[],
  newext: ext4_extent_t,
  newblock: number,
  clusters: number,
  flags: number,
): Promise<void> {
  try {
    await ext4_ext_insert_extent(handle, inode, path, newext, flags);
  } catch (e) {
    if (is_errno(e) && clusters > 0) {
      await ext4_discard_preallocations(inode);
      const reserved = (flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE) !== 0;
      const fb_flags = reserved ? EXT4_FREE_BLOCKS_NO_QUOT_UPDATE : 0;
      const n = clusters * EXT4_SB(inode.i_sb).s_cluster_ratio;
      await ext4_free_file_blocks(handle, inode, newblock, n, fb_flags);
    }
    throw e;
  }
}

/** Settles what delayed allocation had promised for the blocks that now exist. */
async function settle_reservation(
  inode: inode,
  map: ext4_map_blocks_t,
  clusters: number,
  flags: number,
): Promise<void> {
  if (!test_opt(inode.i_sb, EXT4_MOUNT_DELALLOC) || clusters === 0) return;
  if (flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE) {
    await ext4_da_update_reserve_space(inode, clusters, true);
    return;
  }
  // allocated by another way than writeback: what was promised for them is not needed any more
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const n = ext4_es_delayed_clu(inode, map.m_lblk - (map.m_lblk % ratio), clusters * ratio);
  if (n > 0) await ext4_da_update_reserve_space(inode, n, false);
}

/** Allocates for the hole at m_lblk. `path` is used up. */
async function fill_hole(
  handle: handle_t,
  inode: inode,
  map: ext4_map_blocks_t,
  path: ext4_ext_path[],
  flags: number,
): Promise<number> {
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const offset = map.m_lblk % ratio;
  const unwritten = (flags & EXT4_GET_BLOCKS_UNWRIT_EXT) !== 0;
  const leaf = leaf_of(path);
  const near = near_ext(leaf);
  const ex = near >= 0 ? get_extent(leaf.p_view, near) : null;
  const right = await ext4_ext_search_right(inode, path, map.m_lblk);
  const implied =
    ratio > 1 &&
    ((offset !== 0 && ex !== null && get_implied_cluster_alloc(inode, map, ex, path)) ||
      (right !== null && get_implied_cluster_alloc(inode, map, right, path)));
  let pblk = map.m_pblk;
  let newblock = 0;
  let clusters = 0;
  let len = map.m_len;
  if (!implied) {
    const max = unwritten ? EXT_UNWRITTEN_MAX_LEN : EXT_INIT_MAX_LEN;
    map.m_len = Math.min(map.m_len, max);
    len = room_before_next(inode, map, path);
    const ar = request(inode, map, path, right, len, flags);
    newblock = await ext4_mb_new_blocks(handle, ar);
    clusters = EXT4_NUM_B2C(EXT4_SB(inode.i_sb), ar.len);
    const promised = (flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE) !== 0;
    if (!promised) await ext4_charge_blocks(inode, clusters * ratio);
    len = Math.min(len, clusters * ratio - offset);
    pblk = newblock + offset;
  }
  const newext = { ee_block: map.m_lblk, ee_len: len, ee_pblk: pblk, unwritten };
  await insert_or_free(handle, inode, path, newext, newblock, clusters, flags);
  await settle_reservation(inode, map, clusters, flags);
  ext4_update_inode_fsync_trans(handle, inode, !unwritten);
  map.m_flags |= EXT4_MAP_NEW | EXT4_MAP_MAPPED | (unwritten ? EXT4_MAP_UNWRITTEN : 0);
  map.m_pblk = pblk;
  map.m_len = len;
  return len;
}

/**
 * Makes the blocks of `map` exist in the state that the flags ask for. Fills in the map and returns
 * how many blocks from m_lblk on it is good for. i_data_sem held for writing.
 * @throws ENOSPC, EUCLEAN, EIO
 */
export async function ext4_ext_map_create(
  handle: handle_t,
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Promise<number> {
  const path = await ext4_find_extent(inode, map.m_lblk);
  try {
    const leaf = leaf_of(path);
    if (path.length > 1 && eh_entries(leaf.p_view) === 0) {
      const text =
        `bad extent address lblock: ${map.m_lblk}, depth: ${path.length - 1} ` +
        `pblock ${leaf.p_block}`;
      ext4_error_inode(inode, "ext4_ext_map_blocks", 0, text);
      throw EFSCORRUPTED;
    }
    if (leaf.p_ext >= 0) {
      const ex = get_extent(leaf.p_view, leaf.p_ext);
      const off = map.m_lblk - ex.ee_block;
      const left = ex.ee_len - off;
      if (left > 0) {
        if (ex.unwritten) {
          return await ext4_ext_handle_unwritten_extents(handle, inode, map, ex, flags);
        }
        map.m_pblk = ex.ee_pblk + off;
        if (flags & EXT4_GET_BLOCKS_CONVERT_UNWRITTEN) {
          return await convert_initialized_extent(handle, inode, map, left);
        }
        map.m_flags |= EXT4_MAP_MAPPED;
        map.m_len = Math.min(map.m_len, left);
        return map.m_len;
      }
    }
    return await fill_hole(handle, inode, map, path, flags);
  } finally {
    ext4_ext_drop_refs(path);
  }
}
