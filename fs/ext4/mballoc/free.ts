/**
 * fs/ext4/mballoc/free.ts - taking blocks back, and trim. Linux: ext4_free_blocks(),
 * ext4_trim_fs().
 */
import { EFSCORRUPTED, EOPNOTSUPP } from "../../../kernel/include/errno.ts";
import type { inode } from "../../../kernel/include/fs.ts";
import { bforget, sb_find_get_block } from "../../buffer.ts";
import {
  ext4_block_bitmap_changed,
  ext4_group_clusters,
  ext4_read_block_bitmap,
  fill_bits,
  find_next_zero_bit,
} from "../balloc.ts";
import { ext4_inode_block_valid } from "../block_validity.ts";
import {
  EXT4_NUM_B2C,
  EXT4_SB,
  ext4_error,
  ext4_error_inode,
  ext4_free_group_clusters,
  ext4_free_group_clusters_set,
  ext4_get_group_desc,
  ext4_group_desc_bh,
  ext4_group_of_block,
} from "../ext4_fs.ts";
import {
  ext4_forget,
  ext4_handle_dirty_metadata,
  ext4_journal_get_write_access,
  type handle_t,
} from "../ext4_jbd2.ts";
import { cluster_in_group, ext4_mb_load_group, mb_mark_free } from "./group.ts";

export const EXT4_FREE_BLOCKS_METADATA = 0x0001;
/** The buffers are to be forgotten too. */
export const EXT4_FREE_BLOCKS_FORGET = 0x0002;
export const EXT4_FREE_BLOCKS_VALIDATED = 0x0004;
export const EXT4_FREE_BLOCKS_NO_QUOT_UPDATE = 0x0008;
/** With clusters: a first (last) cluster that is not whole is left alone. */
export const EXT4_FREE_BLOCKS_NOFREE_FIRST_CLUSTER = 0x0010;
export const EXT4_FREE_BLOCKS_NOFREE_LAST_CLUSTER = 0x0020;
export const EXT4_FREE_BLOCKS_RERESERVE_CLUSTER = 0x0040;

async function free_in_group(
  handle: handle_t,
  inode: inode,
  group: number,
  start: number,
  len: number,
): Promise<void> {
  const sb = inode.i_sb;
  const sbi = EXT4_SB(sb);
  const g = await ext4_mb_load_group(sb, group);
  // a group that is not to be believed keeps its blocks: they are leaked rather than given out
  // twice
  if (g.corrupt) return;
  const bh = await ext4_read_block_bitmap(sb, group, true);
  const gdp = ext4_get_group_desc(sb, group);
  if (!gdp) throw EFSCORRUPTED;
  const gdp_bh = ext4_group_desc_bh(sb, group);
  await ext4_journal_get_write_access(handle, sb, bh);
  await ext4_journal_get_write_access(handle, sb, gdp_bh);
  const free = find_next_zero_bit(bh.b_data, start + len, start);
  if (free < start + len) {
    ext4_error(
      sb,
      "mb_free_blocks",
      `group ${group}, block ${free}: freeing already freed block ` +
        `(bit ${free}); block bitmap corrupt.`,
    );
    g.corrupt = true;
    return;
  }
  fill_bits(bh.b_data, start, len, false);
  mb_mark_free(g, start, len);
  ext4_free_group_clusters_set(sb, gdp, ext4_free_group_clusters(sb, gdp) + len);
  ext4_block_bitmap_changed(sb, group, gdp, bh.b_data);
  sbi.s_freeclusters_counter += len;
  await ext4_handle_dirty_metadata(handle, null, bh);
  await ext4_handle_dirty_metadata(handle, null, gdp_bh);
}

/** The clusters that [block, block + count) frees, rounded as the flags say; null when none. */
function whole_clusters(
  inode: inode,
  block: number,
  count: number,
  flags: number,
): { block: number; count: number } | null {
  const sbi = EXT4_SB(inode.i_sb);
  const ratio = sbi.s_cluster_ratio;
  const first = sbi.s_es.s_first_data_block;
  let from = block;
  let n = count;
  const head = (from - first) % ratio;
  if (head !== 0) {
    if (flags & EXT4_FREE_BLOCKS_NOFREE_FIRST_CLUSTER) {
      const skip = Math.min(ratio - head, n);
      from += skip;
      n -= skip;
    } else {
      from -= head;
      n += head;
    }
  }
  const tail = n % ratio;
  if (n > 0 && tail !== 0) {
    if (flags & EXT4_FREE_BLOCKS_NOFREE_LAST_CLUSTER) n -= tail;
    else n += ratio - tail;
  }
  return n > 0 ? { block: from, count: n } : null;
}

/**
 * Frees blocks of an inode. Does not touch i_blocks: the caller knows what they were counted as.
 * A run outside the filesystem or on its metadata is reported and left alone.
 */
export async function ext4_free_blocks(
  handle: handle_t,
  inode: inode,
  block: number,
  count: number,
  flags: number,
): Promise<void> {
  const sb = inode.i_sb;
  const sbi = EXT4_SB(sb);
  if (!(flags & EXT4_FREE_BLOCKS_VALIDATED) && !ext4_inode_block_valid(inode, block, count)) {
    ext4_error_inode(
      inode,
      "ext4_free_blocks",
      0,
      `Freeing blocks not in datazone - block = ${block}, count = ${count}`,
    );
    return;
  }
  if (flags & EXT4_FREE_BLOCKS_FORGET) await forget_buffers(handle, inode, block, count, flags);
  const whole = whole_clusters(inode, block, count, flags);
  if (!whole) return;
  let at = whole.block;
  let left = EXT4_NUM_B2C(sbi, whole.count);
  while (left > 0) {
    const group = ext4_group_of_block(sb, at);
    const start = cluster_in_group(sb, at);
    const len = Math.min(left, ext4_group_clusters(sb, group) - start);
    await free_in_group(handle, inode, group, start, len);
    at += len * sbi.s_cluster_ratio;
    left -= len;
  }
}

async function forget_buffers(
  handle: handle_t,
  inode: inode,
  block: number,
  count: number,
  flags: number,
): Promise<void> {
  const sb = inode.i_sb;
  for (let i = 0; i < count; i++) {
    const bh = sb_find_get_block(sb, block + i);
    if (!bh) continue;
    if (flags & EXT4_FREE_BLOCKS_METADATA) await ext4_forget(handle, true, inode, bh, block + i);
    else bforget(bh);
  }
}

/** FITRIM: pmem knows no discard, and no other device carries ext4 here. */
export function ext4_trim_fs(): never {
  throw EOPNOTSUPP;
}
