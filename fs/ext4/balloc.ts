/**
 * fs/ext4/balloc.ts - block bitmaps: reading, making those never written, believing them or not.
 * Linux: fs/ext4/balloc.c. Units: a bit is a cluster; with cluster_ratio 1 that is a block.
 *
 * A bitmap is checked once, when it is first used: its checksum, and that the bits of the group's
 * own metadata are set. A group whose bitmap is not to be believed is marked and left out of
 * allocation. Locks: the group lock (ext4_lock_group) covers bitmap and descriptor; it never
 * sleeps.
 */
import { EFSBADCRC, EFSCORRUPTED } from "../../kernel/include/errno.ts";
import type { Sometime, super_block } from "../../kernel/include/fs.ts";
import { type buffer_head, buffer_uptodate, sb_getblk, set_buffer_uptodate } from "../buffer.ts";
import {
  ext4_bitmap_csum,
  ext4_block_bitmap_csum_set,
  ext4_block_bitmap_csum_verify,
  ext4_group_desc_csum_set,
  ext4_has_group_desc_csum,
  ext4_has_metadata_csum,
} from "./csum.ts";
import { EXT4_BG_BLOCK_UNINIT, EXT4_FEATURE_INCOMPAT_FLEX_BG } from "./ext4.ts";
import {
  EXT4_B2C,
  EXT4_NUM_B2C,
  EXT4_SB,
  ext4_block_bitmap,
  ext4_blocks_count,
  ext4_error,
  ext4_get_group_desc,
  ext4_group_blocks,
  ext4_group_desc_bh,
  type ext4_group_desc_view,
  ext4_group_first_block_no,
  ext4_inode_bitmap,
  ext4_inode_table,
  ext4_sb_bread,
  has_incompat,
} from "./ext4_fs.ts";
import { ext4_num_base_meta_blocks } from "./groups.ts";

export const test_bit = (b: Uint8Array, n: number): boolean => ((b[n >> 3]! >> (n & 7)) & 1) !== 0;
export function set_bit(b: Uint8Array, n: number): void {
  b[n >> 3]! |= 1 << (n & 7);
}
export function clear_bit(b: Uint8Array, n: number): void {
  b[n >> 3]! &= ~(1 << (n & 7));
}
/** Sets or clears `len` bits from `at`, whole bytes at a time. */
export function fill_bits(b: Uint8Array, at: number, len: number, value: boolean): void {
  const change = value ? set_bit : clear_bit;
  let i = at;
  const end = at + len;
  while (i < end && (i & 7) !== 0) change(b, i++);
  const whole = (end - i) >> 3;
  if (whole > 0) b.fill(value ? 0xff : 0, i >> 3, (i >> 3) + whole);
  for (i += whole * 8; i < end; i++) change(b, i);
}
/** First clear bit in [from, max), or max. */
export function find_next_zero_bit(b: Uint8Array, max: number, from: number): number {
  let i = from;
  while (i < max) {
    if ((i & 7) === 0) {
      while (i + 8 <= max && b[i >> 3] === 0xff) i += 8;
      if (i >= max) return max;
    }
    if (!test_bit(b, i)) return i;
    i++;
  }
  return max;
}
/** First set bit in [from, max), or max. */
export function find_next_bit(b: Uint8Array, max: number, from: number): number {
  let i = from;
  while (i < max) {
    if ((i & 7) === 0) {
      while (i + 8 <= max && b[i >> 3] === 0) i += 8;
      if (i >= max) return max;
    }
    if (test_bit(b, i)) return i;
    i++;
  }
  return max;
}

/** Clusters of a group that really exist. */
export const ext4_group_clusters = (sb: super_block, group: number): number =>
  EXT4_NUM_B2C(EXT4_SB(sb), ext4_group_blocks(sb, group));

/** Marks the clusters of [block, block + count) that lie in the group. */
function mark_own(
  sb: super_block,
  map: Uint8Array,
  group: number,
  block: number,
  count: number,
): void {
  const sbi = EXT4_SB(sb);
  const first = ext4_group_first_block_no(sb, group);
  const end = first + ext4_group_blocks(sb, group);
  const from = Math.max(block, first);
  const to = Math.min(block + count, end);
  for (let b = from; b < to; b++) set_bit(map, EXT4_B2C(sbi, b - first));
}

/** Calls `fn(block, count)` for each piece of metadata whose place group `group` decides. */
function each_own_metadata(
  sb: super_block,
  group: number,
  gdp: ext4_group_desc_view,
  fn: (block: number, count: number) => void,
): void {
  fn(ext4_block_bitmap(sb, gdp), 1);
  fn(ext4_inode_bitmap(sb, gdp), 1);
  fn(ext4_inode_table(sb, gdp), EXT4_SB(sb).s_itb_per_group);
  const base = ext4_num_base_meta_blocks(sb, group);
  if (base > 0) fn(ext4_group_first_block_no(sb, group), base);
}

/** What the bitmap of a group says before anything was allocated in it. */
export function ext4_init_block_bitmap(
  sb: super_block,
  map: Uint8Array,
  group: number,
  gdp: ext4_group_desc_view,
): void {
  map.fill(0);
  // A group without its own bitmap holds only its own metadata: mkfs writes the bitmaps of others.
  each_own_metadata(sb, group, gdp, (block, count) => mark_own(sb, map, group, block, count));
  const have = ext4_group_clusters(sb, group);
  fill_bits(map, have, map.length * 8 - have, true);
}

/** Clusters that are free in a group whose bitmap was never written. */
export function ext4_free_clusters_after_init(
  sb: super_block,
  group: number,
  gdp: ext4_group_desc_view,
): number {
  const map = new Uint8Array(sb.s_blocksize);
  ext4_init_block_bitmap(sb, map, group, gdp);
  let used = 0;
  const n = ext4_group_clusters(sb, group);
  for (let i = 0; i < n; i++) if (test_bit(map, i)) used++;
  return n - used;
}

/**
 * Where the group's own metadata lies must be marked used; without flex_bg it lies in the group.
 */
function own_bits_missing(
  sb: super_block,
  map: Uint8Array,
  group: number,
  gdp: ext4_group_desc_view,
): number {
  // With flex_bg the bitmaps and tables may be anywhere.
  if (has_incompat(sb, EXT4_FEATURE_INCOMPAT_FLEX_BG)) return 0;
  const sbi = EXT4_SB(sb);
  const first = ext4_group_first_block_no(sb, group);
  const max = ext4_group_clusters(sb, group);
  const used = (block: number): boolean => {
    const bit = EXT4_B2C(sbi, block - first);
    return bit >= 0 && bit < max && test_bit(map, bit);
  };
  const bitmap = ext4_block_bitmap(sb, gdp);
  if (!used(bitmap)) return bitmap;
  const inodes = ext4_inode_bitmap(sb, gdp);
  if (!used(inodes)) return inodes;
  const table = ext4_inode_table(sb, gdp);
  for (let i = 0; i < sbi.s_itb_per_group; i++) if (!used(table + i)) return table;
  return 0;
}

const csum_bytes = (sb: super_block): number => EXT4_SB(sb).s_clusters_per_group / 8;

/** Throws when a bitmap just read is not to be believed. */
function validate(sb: super_block, map: Uint8Array, group: number, gdp: ext4_group_desc_view) {
  const sbi = EXT4_SB(sb);
  if (ext4_has_metadata_csum(sbi.s_es)) {
    const csum = ext4_bitmap_csum(sbi.s_csum_seed, map, csum_bytes(sb));
    if (!ext4_block_bitmap_csum_verify(gdp, sbi.s_desc_size, csum)) {
      ext4_error(
        sb,
        "ext4_validate_block_bitmap",
        `bg ${group}: bad block bitmap checksum`,
        EFSBADCRC,
      );
      throw EFSBADCRC;
    }
  }
  const bad = own_bits_missing(sb, map, group, gdp);
  if (bad !== 0) {
    ext4_error(sb, "ext4_validate_block_bitmap", `bg ${group}: block ${bad}: invalid block bitmap`);
    throw EFSCORRUPTED;
  }
}

/**
 * The block bitmap of a group, checked. `seen` says whether it was checked before (mballoc
 * remembers). Throws EUCLEAN, EBADMSG, EIO.
 */
export function ext4_read_block_bitmap(
  sb: super_block,
  group: number,
  seen = false,
): Sometime<buffer_head> {
  const sbi = EXT4_SB(sb);
  const gdp = ext4_get_group_desc(sb, group);
  if (!gdp) throw EFSCORRUPTED;
  const block = ext4_block_bitmap(sb, gdp);
  if (block <= sbi.s_es.s_first_data_block || block >= ext4_blocks_count(sbi.s_es)) {
    ext4_error(
      sb,
      "ext4_read_block_bitmap",
      `Invalid block bitmap block ${block} in block_group ${group}`,
    );
    throw EFSCORRUPTED;
  }
  if (gdp.bg_flags & EXT4_BG_BLOCK_UNINIT && ext4_has_group_desc_csum(sbi.s_es)) {
    const bh = sb_getblk(sb, block);
    if (!seen || !buffer_uptodate(bh)) {
      if (group === 0) {
        ext4_error(sb, "ext4_read_block_bitmap", "Block bitmap for bg 0 marked uninitialized");
        throw EFSCORRUPTED;
      }
      ext4_init_block_bitmap(sb, bh.b_data, group, gdp);
      set_buffer_uptodate(bh);
    }
    return bh;
  }
  const got = ext4_sb_bread(sb, block);
  const check = (bh: buffer_head): buffer_head => {
    if (!seen) validate(sb, bh.b_data, group, gdp);
    return bh;
  };
  return got instanceof Promise ? got.then(check) : check(got);
}

/** After a change under the group lock: checksums of the bitmap and of the descriptor. */
export function ext4_block_bitmap_changed(
  sb: super_block,
  group: number,
  gdp: ext4_group_desc_view,
  map: Uint8Array,
): void {
  const sbi = EXT4_SB(sb);
  if (ext4_has_metadata_csum(sbi.s_es)) {
    const csum = ext4_bitmap_csum(sbi.s_csum_seed, map, csum_bytes(sb));
    ext4_block_bitmap_csum_set(gdp, sbi.s_desc_size, csum);
  }
  ext4_group_desc_changed(sb, group, gdp);
}

/** After any change of a group descriptor: its checksum. */
export function ext4_group_desc_changed(
  sb: super_block,
  group: number,
  gdp: ext4_group_desc_view,
): void {
  const sbi = EXT4_SB(sb);
  const bh = ext4_group_desc_bh(sb, group);
  ext4_group_desc_csum_set(sbi.s_es, sbi.s_csum_seed, group, bh.b_data, gdp._off, sbi.s_desc_size);
}
