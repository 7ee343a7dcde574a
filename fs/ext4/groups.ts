/**
 * fs/ext4/groups.ts - which block groups hold superblock copies and descriptors, and what the
 * descriptors count. Linux: fs/ext4/balloc.c, ialloc.c (the parts that only read). Sizes in blocks.
 */
import type { super_block } from "../../kernel/include/fs.ts";
import {
  EXT4_FEATURE_COMPAT_SPARSE_SUPER2,
  EXT4_FEATURE_INCOMPAT_META_BG,
  EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER,
} from "./ext4.ts";
import {
  EXT4_SB,
  ext4_free_group_clusters,
  ext4_free_inodes_count,
  ext4_get_group_desc,
  ext4_used_dirs_count,
  has_compat,
  has_incompat,
  has_ro_compat,
} from "./ext4_fs.ts";

function is_power_of(n: number, base: number): boolean {
  let x = base;
  while (x < n) x *= base;
  return x === n;
}

/** Does the group begin with a copy of the superblock? */
export function ext4_bg_has_super(sb: super_block, group: number): boolean {
  if (group === 0) return true;
  if (has_compat(sb, EXT4_FEATURE_COMPAT_SPARSE_SUPER2)) {
    return EXT4_SB(sb).s_es.s_backup_bgs.includes(group);
  }
  if (group <= 1 || !has_ro_compat(sb, EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER)) return true;
  if (group % 2 === 0) return false;
  return is_power_of(group, 3) || is_power_of(group, 5) || is_power_of(group, 7);
}

/** Descriptor blocks in the group (without the reserved ones). */
export function ext4_bg_num_gdb(sb: super_block, group: number): number {
  const sbi = EXT4_SB(sb);
  const per = sbi.s_desc_per_block;
  const metagroup = Math.floor(group / per);
  const meta_bg = has_incompat(sb, EXT4_FEATURE_INCOMPAT_META_BG);
  if (!meta_bg || metagroup < sbi.s_es.s_first_meta_bg) {
    if (!ext4_bg_has_super(sb, group)) return 0;
    return meta_bg ? sbi.s_es.s_first_meta_bg : sbi.s_gdb_count;
  }
  const first = metagroup * per;
  return group === first || group === first + 1 || group === first + per - 1 ? 1 : 0;
}

/** Superblock copy, descriptors and reserved descriptor blocks at the start of the group. */
export function ext4_num_base_meta_blocks(sb: super_block, group: number): number {
  const sbi = EXT4_SB(sb);
  let num = ext4_bg_has_super(sb, group) ? 1 : 0;
  const metagroup = Math.floor(group / sbi.s_desc_per_block);
  const meta_bg = has_incompat(sb, EXT4_FEATURE_INCOMPAT_META_BG);
  if (!meta_bg || metagroup < sbi.s_es.s_first_meta_bg) {
    if (num) num += ext4_bg_num_gdb(sb, group) + sbi.s_es.s_reserved_gdt_blocks;
  } else {
    num += ext4_bg_num_gdb(sb, group);
  }
  return num;
}

/** The block of the `nr`th block of group descriptors. */
export function descriptor_loc(sb: super_block, logical_sb_block: number, nr: number): number {
  const sbi = EXT4_SB(sb);
  const first_meta_bg = sbi.s_es.s_first_meta_bg;
  if (!has_incompat(sb, EXT4_FEATURE_INCOMPAT_META_BG) || nr < first_meta_bg) {
    return logical_sb_block + nr + 1;
  }
  const bg = sbi.s_desc_per_block * nr;
  let has_super = ext4_bg_has_super(sb, bg) ? 1 : 0;
  // with 1 KiB blocks and first_data_block 0 (bigalloc) group 0 begins with the boot block
  if (sb.s_blocksize === 1024 && nr === 0 && sbi.s_es.s_first_data_block === 0) has_super++;
  return has_super + bg * sbi.s_blocks_per_group + sbi.s_es.s_first_data_block;
}

function sum(sb: super_block, of: (group: number) => number): number {
  let total = 0;
  for (let g = 0; g < EXT4_SB(sb).s_groups_count; g++) total += of(g);
  return total;
}
/** Free clusters, as the descriptors say. */
export const ext4_count_free_clusters = (sb: super_block): number =>
  sum(sb, (g) => ext4_free_group_clusters(sb, ext4_get_group_desc(sb, g)!));
export const ext4_count_free_inodes = (sb: super_block): number =>
  sum(sb, (g) => ext4_free_inodes_count(sb, ext4_get_group_desc(sb, g)!));
export const ext4_count_dirs = (sb: super_block): number =>
  sum(sb, (g) => ext4_used_dirs_count(sb, ext4_get_group_desc(sb, g)!));
