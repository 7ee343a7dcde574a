/**
 * fs/ext4/extents_remove.ts - taking a range of blocks out of the tree and freeing them.
 * Linux: ext4_ext_remove_space(), ext4_ext_rm_leaf(), ext4_remove_blocks(), ext4_ext_rm_idx() in
 * fs/ext4/extents.c. Differs: each leaf is looked up anew from the root instead of walking the tree
 * with one path; the order is the same: leaves and extents from the right end of the range to its
 * left.
 *
 * Clusters (bigalloc): a cluster is freed once, when the last of its blocks goes. As the way is
 * from right to left, what stands at the border to the next extent is kept in a `partial_cluster`:
 * "tofree" until it is known whether the extent to the left shares it, "nofree" when what stays to
 * the right does.
 *
 * Locks: i_data_sem (write); the handle is opened here.
 */
import type { inode } from "../../kernel/include/fs.ts";
import { cond_resched } from "../../kernel/sched/core.ts";
import { ext4_free_file_blocks, get_default_free_blocks_flags } from "./blocks_count.ts";
import { ext4_es_drop, ext4_is_pending, ext4_rereserve_cluster } from "./da_reserve.ts";
import { EXT_MAX_BLOCKS } from "./ext4.ts";
import { corrupt, EXT4_EX_NOCACHE, EXT4_I, EXT4_SB } from "./ext4_fs.ts";
import {
  EXT4_HT_TRUNCATE,
  ext4_journal_ensure_credits,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
} from "./ext4_jbd2.ts";
import {
  eh_entries,
  entry_block,
  type ext4_ext_path,
  ext4_ext_drop_refs,
  ext4_find_extent,
  ext_depth,
  idx_pblock,
} from "./extents.ts";
import { ext4_ext_correct_indexes } from "./extents_insert.ts";
import { ext4_ext_search_right } from "./extents_map.ts";
import {
  close_gap,
  type ext4_extent_t,
  ext4_ext_dirty,
  ext4_ext_get_access,
  get_extent,
  leaf_of,
  near_ext,
  set_eh_depth,
  set_eh_max,
  set_entry_block,
  set_ext_len,
} from "./extents_node.ts";
import { ext4_force_split_extent_at } from "./extents_split.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import {
  EXT4_FREE_BLOCKS_FORGET,
  EXT4_FREE_BLOCKS_METADATA,
  EXT4_FREE_BLOCKS_NOFREE_FIRST_CLUSTER,
  EXT4_FREE_BLOCKS_NOFREE_LAST_CLUSTER,
  EXT4_FREE_BLOCKS_RERESERVE_CLUSTER,
} from "./mballoc.ts";

interface partial_cluster {
  state: "initial" | "tofree" | "nofree";
  /** Number of the physical cluster. */
  pclu: number;
  /** A file block in it. */
  lblk: number;
}

/** Frees one whole cluster; one with delayed blocks in it is promised to them again. */
async function free_cluster(
  handle: handle_t,
  inode: inode,
  pclu: number,
  lblk: number,
): Promise<void> {
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const pending = ext4_is_pending(inode, lblk);
  let flags = get_default_free_blocks_flags(inode);
  if (pending) flags |= EXT4_FREE_BLOCKS_RERESERVE_CLUSTER;
  await ext4_free_file_blocks(handle, inode, pclu * ratio, ratio, flags);
  if (pending) await ext4_rereserve_cluster(inode, lblk);
}

/** Frees the blocks of an extent from `from` to its end. */
async function ext4_remove_blocks(
  handle: handle_t,
  inode: inode,
  ex: ext4_extent_t,
  partial: partial_cluster,
  from: number,
): Promise<void> {
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const to = ex.ee_block + ex.ee_len - 1;
  const last_pblk = ex.ee_pblk + ex.ee_len - 1;
  const last_clu = Math.floor(last_pblk / ratio);
  if (partial.state !== "initial" && partial.pclu !== last_clu) {
    if (partial.state === "tofree") await free_cluster(handle, inode, partial.pclu, partial.lblk);
    partial.state = "initial";
  }
  const num = to - from + 1;
  const pblk = last_pblk - num + 1;
  // the last cluster ends before its own end, and all of it that the file has goes
  if (to % ratio !== ratio - 1 && to - (to % ratio) >= from && partial.state !== "nofree") {
    await free_cluster(handle, inode, last_clu, to);
    partial.state = "initial";
  }
  const flags =
    get_default_free_blocks_flags(inode) |
    EXT4_FREE_BLOCKS_NOFREE_LAST_CLUSTER |
    EXT4_FREE_BLOCKS_NOFREE_FIRST_CLUSTER;
  await ext4_free_file_blocks(handle, inode, pblk, num, flags);
  const first_clu = Math.floor(pblk / ratio);
  if (partial.state !== "initial" && partial.pclu !== first_clu) partial.state = "initial";
  if (from % ratio !== 0 && num === ex.ee_len) {
    if (partial.state === "initial") {
      partial.pclu = first_clu;
      partial.lblk = from;
      partial.state = "tofree";
    }
  } else {
    partial.state = "initial";
  }
}

/**
 * Removes extents of a leaf from `end` back to `start`. Returns false when the leaf is empty then.
 */
async function ext4_ext_rm_leaf(
  handle: handle_t,
  inode: inode,
  path: readonly ext4_ext_path[],
  partial: partial_cluster,
  start: number,
  end: number,
): Promise<boolean> {
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const leaf = leaf_of(path);
  const v = leaf.p_view;
  let first_changed = false;
  let i = near_ext(leaf);
  for (; i >= 0; i--) {
    const ex = get_extent(v, i);
    const last = ex.ee_block + ex.ee_len - 1;
    if (last < start) break;
    if (ex.ee_block > end) {
      // it stays: what it shares a cluster with must stay too
      if (ratio > 1) {
        partial.pclu = Math.floor(ex.ee_pblk / ratio);
        partial.state = "nofree";
      }
      continue;
    }
    if (last > end) {
      const text = `can not handle truncate ${start}:${end} on extent ${ex.ee_block}:${last}`;
      corrupt(inode, "ext4_ext_rm_leaf", text);
    }
    const from = Math.max(ex.ee_block, start);
    const keep = from - ex.ee_block;
    if (i === 0) first_changed = true;
    const credits = 7 + path.length;
    await ext4_journal_ensure_credits(handle, credits, credits);
    await ext4_ext_get_access(handle, inode, leaf);
    await ext4_remove_blocks(handle, inode, ex, partial, from);
    if (keep === 0) close_gap(v, i);
    else set_ext_len(v, i, keep, ex.unwritten);
    await ext4_ext_dirty(handle, inode, leaf);
  }
  if (first_changed && eh_entries(v) > 0) {
    await ext4_ext_correct_indexes(handle, inode, path, 0);
  }
  if (partial.state === "tofree" && i >= 0) {
    const ex = get_extent(v, i);
    const shared = Math.floor((ex.ee_pblk + ex.ee_len - 1) / ratio) === partial.pclu;
    if (!shared) await free_cluster(handle, inode, partial.pclu, partial.lblk);
    partial.state = "initial";
  }
  return eh_entries(v) > 0;
}

/**
 * Takes the entry for an empty node out of the node above, and that one too when it is empty then.
 */
async function ext4_ext_rm_idx(
  handle: handle_t,
  inode: inode,
  path: readonly ext4_ext_path[],
): Promise<void> {
  const flags = EXT4_FREE_BLOCKS_METADATA | EXT4_FREE_BLOCKS_FORGET;
  for (let k = path.length - 2; k >= 0; k--) {
    const p = path[k]!;
    const v = p.p_view;
    if (eh_entries(v) === 0) corrupt(inode, "ext4_ext_rm_idx", "path->p_hdr->eh_entries == 0");
    await ext4_ext_get_access(handle, inode, p);
    const node = idx_pblock(v, p.p_idx);
    close_gap(v, p.p_idx);
    await ext4_ext_dirty(handle, inode, p);
    await ext4_free_file_blocks(handle, inode, node, 1, flags);
    if (eh_entries(v) > 0) {
      if (p.p_idx === 0) await correct_upwards(handle, inode, path, k);
      return;
    }
  }
}

/** The first entry of level `k` is another one now: the levels above name its block. */
async function correct_upwards(
  handle: handle_t,
  inode: inode,
  path: readonly ext4_ext_path[],
  k: number,
): Promise<void> {
  const border = entry_block(path[k]!.p_view, 0);
  for (let j = k - 1; j >= 0; j--) {
    const p = path[j]!;
    await ext4_ext_get_access(handle, inode, p);
    set_entry_block(p.p_view, p.p_idx, border);
    await ext4_ext_dirty(handle, inode, p);
    if (p.p_idx !== 0) return;
  }
}

/**
 * Cuts the extent that goes on behind `end`, and notes which cluster is in use there. False: the
 * file has no extent at all.
 */
async function prepare_right_end(
  handle: handle_t,
  inode: inode,
  end: number,
  partial: partial_cluster,
): Promise<boolean> {
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const path = await ext4_find_extent(inode, end, EXT4_EX_NOCACHE);
  try {
    const leaf = leaf_of(path);
    const near = near_ext(leaf);
    if (near < 0) {
      if (path.length > 1) corrupt(inode, "ext4_ext_remove_space", "empty leaf");
      return false;
    }
    const ex = get_extent(leaf.p_view, near);
    const ex_end = ex.ee_block + ex.ee_len - 1;
    if (end >= ex.ee_block && end < ex_end) {
      if (ratio > 1) {
        partial.pclu = Math.floor((ex.ee_pblk + end - ex.ee_block + 1) / ratio);
        partial.state = "nofree";
      }
      await ext4_force_split_extent_at(handle, inode, end + 1, true);
    } else if (ratio > 1 && end >= ex_end && partial.state === "initial") {
      const right = await ext4_ext_search_right(inode, path, ex_end + 1);
      if (right) {
        partial.pclu = Math.floor(right.ee_pblk / ratio);
        partial.state = "nofree";
      }
    }
    return true;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/**
 * Removes what the leaf on the way to `cur` has in the range. Returns the next place to look, or
 * -1.
 */
async function remove_one_leaf(
  handle: handle_t,
  inode: inode,
  partial: partial_cluster,
  start: number,
  end: number,
  cur: number,
): Promise<number> {
  const path = await ext4_find_extent(inode, cur, EXT4_EX_NOCACHE);
  try {
    // the first block of this leaf's part of the file, as the nodes above know it
    let begin = 0;
    for (const p of path) if (p.p_idx > 0) begin = entry_block(p.p_view, p.p_idx);
    const left = await ext4_ext_rm_leaf(handle, inode, path, partial, start, end);
    if (!left && path.length > 1) await ext4_ext_rm_idx(handle, inode, path);
    return !left || begin > start ? begin - 1 : -1;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/**
 * Frees the blocks [start, end] of the file (`end` included; EXT_MAX_BLOCKS - 1: to its end), and
 * the nodes that are empty then. i_data_sem held for writing.
 * @throws ENOSPC when a cut needs a block and even the reserved ones are gone; EUCLEAN, EIO
 */
export async function ext4_ext_remove_space(
  inode: inode,
  start: number,
  end: number,
): Promise<void> {
  const depth = ext_depth(inode);
  const handle = await ext4_journal_start(inode, EXT4_HT_TRUNCATE, depth + 1);
  const partial: partial_cluster = { state: "initial", pclu: 0, lblk: 0 };
  try {
    if (end < EXT_MAX_BLOCKS - 1) {
      if (!(await prepare_right_end(handle, inode, end, partial))) return;
    }
    for (let cur = end; cur >= 0; ) {
      cur = await remove_one_leaf(handle, inode, partial, start, end, cur);
      const p = cond_resched(inode.i_sb.kernel);
      if (p) await p;
    }
    if (partial.state === "tofree") {
      await free_cluster(handle, inode, partial.pclu, partial.lblk);
    }
    const root = EXT4_I(inode).i_data_view;
    if (eh_entries(root) === 0) {
      set_eh_depth(root, 0);
      set_eh_max(root, 4);
      await ext4_mark_inode_dirty(handle, inode);
    }
  } finally {
    ext4_journal_stop(handle);
  }
}

/** Frees all blocks behind i_size. i_data_sem held for writing. */
export async function ext4_ext_truncate(handle: handle_t, inode: inode): Promise<void> {
  EXT4_I(inode).i_disksize = inode.i_size;
  await ext4_mark_inode_dirty(handle, inode);
  const last_block = Math.ceil(inode.i_size / inode.i_sb.s_blocksize);
  ext4_es_drop(inode, last_block, EXT_MAX_BLOCKS - last_block);
  await ext4_ext_remove_space(inode, last_block, EXT_MAX_BLOCKS - 1);
}
