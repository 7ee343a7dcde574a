/**
 * fs/ext4/extents_insert.ts - putting an extent into the tree. Linux: ext4_ext_insert_extent() and
 * below in fs/ext4/extents.c.
 *
 * Reading order: ext4_ext_insert_extent -> (merge into a neighbour | room in the leaf | room in the
 * next leaf | ext4_ext_create_new_leaf -> ext4_ext_split or ext4_ext_grow_indepth).
 * A full leaf is not halved: what is behind the place moves to a new leaf, so that a file written
 * from front to back gets full leaves. A path is used up by a change: who goes on looks again.
 *
 * Locks: i_data_sem (write), an open handle.
 */
import { EFSCORRUPTED, is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { brelse, type buffer_head, sb_getblk, set_buffer_uptodate } from "../buffer.ts";
import { ext4_extent_block_csum_set, ext4_has_metadata_csum } from "./csum.ts";
import {
  ext4_charge_blocks,
  ext4_free_file_blocks,
  ext4_inode_to_goal_block,
} from "./blocks_count.ts";
import { EXT_MAX_BLOCKS } from "./ext4.ts";
import {
  EXT4_GET_BLOCKS_DELALLOC_RESERVE,
  EXT4_GET_BLOCKS_METADATA_NOFAIL,
  EXT4_GET_BLOCKS_PRE_IO,
  EXT4_I,
  EXT4_SB,
  ext4_error_inode,
} from "./ext4_fs.ts";
import {
  ext4_handle_dirty_metadata,
  ext4_journal_extend,
  ext4_journal_get_create_access,
  type handle_t,
} from "./ext4_jbd2.ts";
import {
  eh_depth,
  eh_entries,
  eh_max,
  entry_block,
  type ext4_ext_path,
  ext4_ext_drop_refs,
  ext4_find_extent,
  ext_pblock,
  idx_pblock,
  view_of,
} from "./extents.ts";
import {
  type ext4_extent_t,
  ext4_can_extents_be_merged,
  ext4_ext_dirty,
  ext4_ext_get_access,
  ext4_ext_try_to_merge_right,
  get_extent,
  leaf_of,
  move_entries,
  near_ext,
  open_gap,
  set_eh,
  set_eh_depth,
  set_eh_entries,
  set_eh_max,
  set_entry_block,
  set_ext_len,
  set_extent,
  set_index,
} from "./extents_node.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import {
  EXT4_FREE_BLOCKS_FORGET,
  EXT4_FREE_BLOCKS_METADATA,
  EXT4_MB_DELALLOC_RESERVED,
  EXT4_MB_HINT_TRY_GOAL,
  EXT4_MB_USE_RESERVED,
  ext4_new_meta_blocks,
} from "./mballoc.ts";

/** Entries of the root, and of a node that fills a block. */
const ROOT_ENTRIES = 4;
const block_entries = (inode: inode): number => Math.floor((inode.i_sb.s_blocksize - 12) / 12);

/** Where a block for file block `block` should be: as if the file were in one piece. */
export function ext4_ext_find_goal(
  inode: inode,
  path: readonly ext4_ext_path[],
  block: number,
): number {
  const leaf = leaf_of(path);
  const i = near_ext(leaf);
  if (i >= 0) return ext_pblock(leaf.p_view, i) + (block - entry_block(leaf.p_view, i));
  if (leaf.p_bh) return leaf.p_bh.b_blocknr;
  return ext4_inode_to_goal_block(inode);
}

/** A block for a node, charged to the inode at once. */
async function new_node_block(
  handle: handle_t,
  inode: inode,
  goal: number,
  mb_flags: number,
): Promise<number> {
  const block = await ext4_new_meta_blocks(handle, inode, goal, mb_flags, { n: 1 });
  await ext4_charge_blocks(inode, EXT4_SB(inode.i_sb).s_cluster_ratio);
  return block;
}

async function get_new_node(
  handle: handle_t,
  inode: inode,
  block: number,
  depth: number,
): Promise<{ bh: buffer_head; v: DataView }> {
  const bh = sb_getblk(inode.i_sb, block);
  await ext4_journal_get_create_access(handle, inode.i_sb, bh);
  bh.b_data.fill(0);
  const v = view_of(bh.b_data);
  set_eh(v, 0, block_entries(inode), depth);
  return { bh, v };
}

async function finish_new_node(handle: handle_t, inode: inode, bh: buffer_head): Promise<void> {
  if (ext4_has_metadata_csum(EXT4_SB(inode.i_sb).s_es)) {
    ext4_extent_block_csum_set(EXT4_I(inode).i_csum_seed, bh.b_data);
  }
  set_buffer_uptodate(bh);
  await ext4_handle_dirty_metadata(handle, inode, bh);
  brelse(bh);
}

function tree_error(inode: inode, fn: string, text: string): never {
  ext4_error_inode(inode, fn, 0, text);
  throw EFSCORRUPTED;
}

/** A new index entry beside the one that the path took in this node. */
async function ext4_ext_insert_index(
  handle: handle_t,
  inode: inode,
  p: ext4_ext_path,
  logical: number,
  pblk: number,
): Promise<void> {
  const v = p.p_view;
  await ext4_ext_get_access(handle, inode, p);
  const here = entry_block(v, p.p_idx);
  if (logical === here) {
    tree_error(inode, "ext4_ext_insert_index", `logical ${logical} == ei_block ${here}!`);
  }
  if (eh_entries(v) >= eh_max(v)) {
    const text = `eh_entries ${eh_entries(v)} >= eh_max ${eh_max(v)}!`;
    tree_error(inode, "ext4_ext_insert_index", text);
  }
  const at = logical > here ? p.p_idx + 1 : p.p_idx;
  open_gap(v, at);
  set_index(v, at, logical, pblk);
  await ext4_ext_dirty(handle, inode, p);
}

/** Moves the entries from `from` on of one node into a new one of the same depth. */
async function move_to_new(
  handle: handle_t,
  inode: inode,
  p: ext4_ext_path,
  from: number,
  block: number,
  first: { block: number; pblk: number } | null,
): Promise<void> {
  if (eh_entries(p.p_view) !== eh_max(p.p_view)) {
    const text = `eh_entries ${eh_entries(p.p_view)} != eh_max ${eh_max(p.p_view)}!`;
    tree_error(inode, "ext4_ext_split", text);
  }
  const { bh, v } = await get_new_node(handle, inode, block, p.p_depth);
  if (first) {
    set_eh_entries(v, 1);
    set_index(v, 0, first.block, first.pblk);
  }
  const moves = from < eh_entries(p.p_view);
  if (moves) await ext4_ext_get_access(handle, inode, p);
  move_entries(v, p.p_view, from);
  await finish_new_node(handle, inode, bh);
  if (moves) await ext4_ext_dirty(handle, inode, p);
}

/**
 * Makes a new leaf, and new index nodes up to the level `at` of the path whose node has room, and
 * moves into them what is behind the path's way.
 */
async function ext4_ext_split(
  handle: handle_t,
  inode: inode,
  mb_flags: number,
  path: readonly ext4_ext_path[],
  newext: ext4_extent_t,
  at: number,
): Promise<void> {
  const depth = path.length - 1;
  const leaf = path[depth]!;
  const near = near_ext(leaf);
  const full = near + 1 >= eh_entries(leaf.p_view);
  const border = full ? newext.ee_block : entry_block(leaf.p_view, near + 1);
  const blocks: number[] = [];
  try {
    const goal = ext4_ext_find_goal(inode, path, newext.ee_block);
    while (blocks.length < depth - at) {
      blocks.push(await new_node_block(handle, inode, goal, mb_flags));
    }
    // the block got last becomes the leaf, the others its index nodes upwards
    let next = blocks.length - 1;
    let made = blocks[next]!;
    await move_to_new(handle, inode, leaf, near + 1, made, null);
    for (let i = depth - 1; i > at; i--) {
      const below = { block: border, pblk: made };
      made = blocks[--next]!;
      await move_to_new(handle, inode, path[i]!, path[i]!.p_idx + 1, made, below);
    }
    await ext4_ext_insert_index(handle, inode, path[at]!, border, made);
  } catch (e) {
    if (is_errno(e)) {
      for (const b of blocks) {
        await ext4_free_file_blocks(handle, inode, b, 1, EXT4_FREE_BLOCKS_METADATA);
      }
    }
    throw e;
  }
}

/** The root's contents move into a new block, and the root points there: one level more. */
async function ext4_ext_grow_indepth(
  handle: handle_t,
  inode: inode,
  mb_flags: number,
): Promise<void> {
  const root = EXT4_I(inode).i_data_view;
  const depth = eh_depth(root);
  let flags = mb_flags;
  let goal = depth > 0 ? idx_pblock(root, 0) : 0;
  if (goal > EXT4_SB(inode.i_sb).s_es.s_first_data_block) {
    flags |= EXT4_MB_HINT_TRY_GOAL;
    goal--;
  } else {
    goal = ext4_inode_to_goal_block(inode);
  }
  const block = await new_node_block(handle, inode, goal, flags);
  const { bh, v } = await get_new_node(handle, inode, block, depth);
  bh.b_data.set(EXT4_I(inode).i_data);
  set_eh_max(v, block_entries(inode));
  const first = entry_block(root, 0);
  await finish_new_node(handle, inode, bh);
  set_eh_entries(root, 1);
  set_eh_max(root, ROOT_ENTRIES);
  set_index(root, 0, first, block);
  set_eh_depth(root, depth + 1);
  await ext4_mark_inode_dirty(handle, inode);
}

/** Makes room for `newext` where its path leads. Returns the path anew. */
async function ext4_ext_create_new_leaf(
  handle: handle_t,
  inode: inode,
  mb_flags: number,
  gb_flags: number,
  path: ext4_ext_path[],
  newext: ext4_extent_t,
): Promise<ext4_ext_path[]> {
  let p = path;
  for (;;) {
    let at = p.length - 1;
    const has_room = (i: number): boolean => {
      const v = p[i]!.p_view;
      return eh_entries(v) < eh_max(v);
    };
    // the leaf itself is full; look upwards for an index node that is not
    do at--;
    while (at >= 0 && !has_room(at));
    try {
      if (at >= 0) await ext4_ext_split(handle, inode, mb_flags, p, newext, at);
      else await ext4_ext_grow_indepth(handle, inode, mb_flags);
    } finally {
      ext4_ext_drop_refs(p);
    }
    p = await ext4_find_extent(inode, newext.ee_block, gb_flags);
    const leaf = leaf_of(p).p_view;
    if (at >= 0 || eh_entries(leaf) < eh_max(leaf)) return p;
  }
}

/** After a change of a leaf's first extent: the index entries that lead there name its block. */
export async function ext4_ext_correct_indexes(
  handle: handle_t,
  inode: inode,
  path: readonly ext4_ext_path[],
  changed: number,
): Promise<void> {
  if (path.length === 1 || changed !== 0) return;
  const border = entry_block(leaf_of(path).p_view, 0);
  for (let k = path.length - 2; k >= 0; k--) {
    const p = path[k]!;
    await ext4_ext_get_access(handle, inode, p);
    set_entry_block(p.p_view, p.p_idx, border);
    await ext4_ext_dirty(handle, inode, p);
    if (p.p_idx !== 0) break;
  }
}

/** A tree of one leaf that fits into the root goes there. Afterwards the path is the root alone. */
async function ext4_ext_try_to_merge_up(
  handle: handle_t,
  inode: inode,
  path: ext4_ext_path[],
): Promise<void> {
  if (path.length !== 2) return;
  const [root, leaf] = path as [ext4_ext_path, ext4_ext_path];
  const n = eh_entries(leaf.p_view);
  if (eh_entries(root.p_view) !== 1 || n > ROOT_ENTRIES) return;
  // freeing the leaf touches a bitmap and a descriptor
  if (ext4_journal_extend(handle, 2)) return;
  const block = idx_pblock(root.p_view, 0);
  const data = EXT4_I(inode).i_data;
  data.set(leaf.p_bh!.b_data.subarray(0, 12 + 12 * n));
  data.fill(0, 12 + 12 * n);
  set_eh_max(root.p_view, ROOT_ENTRIES);
  root.p_depth = 0;
  root.p_ext = leaf.p_ext;
  root.p_idx = -1;
  brelse(leaf.p_bh!);
  path.length = 1;
  const flags = EXT4_FREE_BLOCKS_METADATA | EXT4_FREE_BLOCKS_FORGET;
  await ext4_free_file_blocks(handle, inode, block, 1, flags);
}

/**
 * Merges extent `i` of the leaf with its neighbours, and then the tree upwards. Not dirtied here.
 */
export async function ext4_ext_try_to_merge(
  handle: handle_t,
  inode: inode,
  path: ext4_ext_path[],
  i: number,
): Promise<void> {
  const v = leaf_of(path).p_view;
  const merged = i > 0 && ext4_ext_try_to_merge_right(v, i - 1);
  if (!merged) ext4_ext_try_to_merge_right(v, i);
  await ext4_ext_try_to_merge_up(handle, inode, path);
}

/**
 * Appends to or prepends before a neighbour in the leaf. Returns that neighbour's number, or -1.
 */
function join_neighbour(v: DataView, i: number, newext: ext4_extent_t): number {
  let near = i;
  let append = true;
  const e = get_extent(v, near);
  if (near + 1 < eh_entries(v) && e.ee_block + e.ee_len < newext.ee_block) {
    near++;
    append = false;
  } else if (near > 0 && newext.ee_block + newext.ee_len < e.ee_block) {
    near--;
  }
  const ex = get_extent(v, near);
  if (append && ext4_can_extents_be_merged(ex, newext)) {
    set_ext_len(v, near, ex.ee_len + newext.ee_len, ex.unwritten);
    return near;
  }
  if (ext4_can_extents_be_merged(newext, ex)) {
    set_extent(v, near, { ...newext, ee_len: ex.ee_len + newext.ee_len });
    return near;
  }
  return -1;
}

/** A path to a leaf with room for one more entry. */
async function path_with_room(
  handle: handle_t,
  inode: inode,
  path: ext4_ext_path[],
  newext: ext4_extent_t,
  gb_flags: number,
): Promise<ext4_ext_path[]> {
  const v = leaf_of(path).p_view;
  if (eh_entries(v) < eh_max(v)) return path;
  if (newext.ee_block > entry_block(v, eh_entries(v) - 1)) {
    const next = next_leaf_block(path);
    if (next !== EXT_MAX_BLOCKS) {
      const npath = await ext4_find_extent(inode, next, gb_flags);
      const nv = leaf_of(npath).p_view;
      if (eh_entries(nv) < eh_max(nv)) {
        ext4_ext_drop_refs(path);
        return npath;
      }
      ext4_ext_drop_refs(npath);
    }
  }
  let mb_flags = gb_flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE ? EXT4_MB_DELALLOC_RESERVED : 0;
  if (gb_flags & EXT4_GET_BLOCKS_METADATA_NOFAIL) mb_flags |= EXT4_MB_USE_RESERVED;
  return ext4_ext_create_new_leaf(handle, inode, mb_flags, gb_flags, path, newext);
}

/** First block of the leaf behind this one, or EXT_MAX_BLOCKS. */
export function next_leaf_block(path: readonly ext4_ext_path[]): number {
  for (let i = path.length - 2; i >= 0; i--) {
    const p = path[i]!;
    if (p.p_idx + 1 < eh_entries(p.p_view)) return entry_block(p.p_view, p.p_idx + 1);
  }
  return EXT_MAX_BLOCKS;
}

/**
 * Inserts an extent that overlaps none, or joins it to one it continues (never with
 * EXT4_GET_BLOCKS_PRE_IO: then it stays apart). Uses the path up.
 * @throws ENOSPC when the tree needs a block and there is none; EUCLEAN, EIO
 */
export async function ext4_ext_insert_extent(
  handle: handle_t,
  inode: inode,
  way: ext4_ext_path[],
  newext: ext4_extent_t,
  gb_flags: number,
): Promise<void> {
  let path = way;
  try {
    const leaf = leaf_of(path);
    const near = near_ext(leaf);
    const may_merge = !(gb_flags & EXT4_GET_BLOCKS_PRE_IO);
    let at = -1;
    if (near >= 0 && may_merge) {
      await ext4_ext_get_access(handle, inode, leaf);
      at = join_neighbour(leaf.p_view, near, newext);
    }
    if (at < 0) {
      path = await path_with_room(handle, inode, path, newext, gb_flags);
      const p = leaf_of(path);
      await ext4_ext_get_access(handle, inode, p);
      const n = near_ext(p);
      at = n >= 0 && newext.ee_block > entry_block(p.p_view, n) ? n + 1 : Math.max(0, n);
      open_gap(p.p_view, at);
      set_extent(p.p_view, at, newext);
    }
    await ext4_ext_correct_indexes(handle, inode, path, at);
    if (may_merge) await ext4_ext_try_to_merge(handle, inode, path, at);
    await ext4_ext_dirty(handle, inode, leaf_of(path));
  } finally {
    ext4_ext_drop_refs(path);
  }
}
