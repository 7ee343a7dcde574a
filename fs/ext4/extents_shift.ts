/**
 * fs/ext4/extents_shift.ts - moving the rest of a file's extents to lower or higher block numbers.
 * Linux: ext4_ext_shift_extents() in fs/ext4/extents.c.
 *
 * Leaf by leaf: to the left from the front, to the right from the back, so that the tree is in
 * order all the time. The nodes stay where they are; only numbers change, and neighbours in a leaf
 * may merge. Locks: i_data_sem (write), an open handle. No extent may stand across `start`.
 */
import { EINVAL } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { EXT_MAX_BLOCKS } from "./ext4.ts";
import { EXT4_EX_NOCACHE } from "./ext4_fs.ts";
import { ext4_journal_ensure_credits, type handle_t } from "./ext4_jbd2.ts";
import {
  eh_entries,
  entry_block,
  type ext4_ext_path,
  ext4_ext_drop_refs,
  ext4_ext_next_allocated_block,
  ext4_find_extent,
  ext_actual_len,
} from "./extents.ts";
import { ext4_ext_correct_indexes } from "./extents_insert.ts";
import {
  ext4_ext_dirty,
  ext4_ext_get_access,
  ext4_ext_try_to_merge_right,
  get_extent,
  leaf_of,
  set_entry_block,
} from "./extents_node.ts";

/** Where the extent before `block` ends, 0 when there is none. */
async function end_of_left(inode: inode, block: number): Promise<number> {
  if (block === 0) return 0;
  const path = await ext4_find_extent(inode, block - 1, EXT4_EX_NOCACHE);
  try {
    const leaf = leaf_of(path);
    if (leaf.p_ext < 0) return 0;
    const ex = get_extent(leaf.p_view, leaf.p_ext);
    return ex.ee_block + ex.ee_len;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/** Where the file's last extent ends; 0 for a file without. */
async function end_of_last(inode: inode): Promise<number> {
  return end_of_left(inode, EXT_MAX_BLOCKS);
}

async function leaf_changed(
  handle: handle_t,
  inode: inode,
  path: readonly ext4_ext_path[],
  first: number,
): Promise<void> {
  await ext4_ext_correct_indexes(handle, inode, path, first);
  await ext4_ext_dirty(handle, inode, leaf_of(path));
}

/** Moves the extents of one leaf that begin at `cur` or behind. Returns where to go on, or -1. */
async function shift_leaf_left(
  handle: handle_t,
  inode: inode,
  cur: number,
  shift: number,
): Promise<number> {
  const path = await ext4_find_extent(inode, cur, EXT4_EX_NOCACHE);
  try {
    const leaf = leaf_of(path);
    const v = leaf.p_view;
    let i = leaf.p_ext;
    if (i < 0 || entry_block(v, i) < cur) i++;
    const n = eh_entries(v);
    if (i >= n) {
      const next = ext4_ext_next_allocated_block(path);
      return next === EXT_MAX_BLOCKS ? -1 : next;
    }
    const end = entry_block(v, n - 1) + ext_actual_len(v, n - 1);
    await ext4_journal_ensure_credits(handle, path.length + 2, path.length + 2);
    await ext4_ext_get_access(handle, inode, leaf);
    const first = i;
    while (i < eh_entries(v)) {
      set_entry_block(v, i, entry_block(v, i) - shift);
      // merged: the next one, not moved yet, has this one's number now
      if (i > 0 && ext4_ext_try_to_merge_right(v, i - 1)) continue;
      i++;
    }
    await leaf_changed(handle, inode, path, first);
    return end;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/** Moves the extents of one leaf that begin in [start, cur]. Returns where to go on, or -1. */
async function shift_leaf_right(
  handle: handle_t,
  inode: inode,
  start: number,
  cur: number,
  shift: number,
): Promise<number> {
  const path = await ext4_find_extent(inode, cur, EXT4_EX_NOCACHE);
  try {
    const leaf = leaf_of(path);
    const v = leaf.p_view;
    let i = leaf.p_ext;
    if (i < 0 || entry_block(v, i) < start) return -1;
    await ext4_journal_ensure_credits(handle, path.length + 2, path.length + 2);
    await ext4_ext_get_access(handle, inode, leaf);
    let block = 0;
    for (; i >= 0 && entry_block(v, i) >= start; i--) {
      block = entry_block(v, i);
      set_entry_block(v, i, block + shift);
      ext4_ext_try_to_merge_right(v, i);
    }
    await leaf_changed(handle, inode, path, i + 1);
    return i >= 0 ? -1 : block - 1;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/**
 * Everything from block `start` on moves `shift` blocks towards the front. @throws EINVAL no room
 * there
 */
export async function ext4_ext_shift_left(
  inode: inode,
  handle: handle_t,
  start: number,
  shift: number,
): Promise<void> {
  if (shift > start - (await end_of_left(inode, start))) throw EINVAL;
  for (let cur = start; cur >= 0; ) cur = await shift_leaf_left(handle, inode, cur, shift);
}

/**
 * Everything from block `start` on moves `shift` blocks towards the back. @throws EINVAL file too
 * long
 */
export async function ext4_ext_shift_right(
  inode: inode,
  handle: handle_t,
  start: number,
  shift: number,
): Promise<void> {
  if (shift > EXT_MAX_BLOCKS - (await end_of_last(inode))) throw EINVAL;
  let cur = EXT_MAX_BLOCKS - 1;
  while (cur >= start) cur = await shift_leaf_right(handle, inode, start, cur, shift);
}
