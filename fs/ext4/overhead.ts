/**
 * fs/ext4/overhead.ts - clusters that the filesystem's own structures take: statfs leaves them out.
 * Linux: fs/ext4/super.c (ext4_calculate_overhead, count_overhead).
 */
import { is_errno } from "../../kernel/include/errno.ts";
import type { super_block } from "../../kernel/include/fs.ts";
import { iput } from "../../kernel/vfs/inode.ts";
import { EXT4_FEATURE_COMPAT_HAS_JOURNAL, EXT4_FEATURE_RO_COMPAT_BIGALLOC } from "./ext4.ts";
import {
  EXT4_B2C,
  EXT4_IGET_SPECIAL,
  EXT4_NUM_B2C,
  EXT4_SB,
  ext4_block_bitmap,
  ext4_blocks_count,
  ext4_get_group_desc,
  ext4_group_first_block_no,
  ext4_inode_bitmap,
  ext4_inode_table,
  ext4_msg,
  has_compat,
  has_ro_compat,
  KERN_ERR,
} from "./ext4_fs.ts";
import { ext4_bg_has_super, ext4_bg_num_gdb } from "./groups.ts";
import { ext4_iget } from "./iget.ts";

/** With clusters, several structures may share one: count the clusters of a group that hold any. */
function count_clusters(sb: super_block, group: number): number {
  const sbi = EXT4_SB(sb);
  const first = ext4_group_first_block_no(sb, group);
  const last = first + sbi.s_blocks_per_group - 1;
  const used = new Set<number>();
  const add = (block: number, count: number) => {
    for (let b = block; b < block + count; b++) {
      if (b >= first && b <= last) used.add(EXT4_B2C(sbi, b - first));
    }
  };
  for (let i = 0; i < sbi.s_groups_count; i++) {
    const d = ext4_get_group_desc(sb, i)!;
    add(ext4_block_bitmap(sb, d), 1);
    add(ext4_inode_bitmap(sb, d), 1);
    const table = ext4_inode_table(sb, d);
    if (table >= first && table + sbi.s_itb_per_group <= last) add(table, sbi.s_itb_per_group);
  }
  const own = (ext4_bg_has_super(sb, group) ? 1 : 0) + ext4_bg_num_gdb(sb, group);
  add(first, Math.min(own, sbi.s_blocks_per_group));
  return used.size;
}

function count_overhead(sb: super_block, group: number): number {
  if (has_ro_compat(sb, EXT4_FEATURE_RO_COMPAT_BIGALLOC)) return count_clusters(sb, group);
  const sbi = EXT4_SB(sb);
  const reserved = ext4_bg_has_super(sb, group) ? 1 + sbi.s_es.s_reserved_gdt_blocks : 0;
  return reserved + ext4_bg_num_gdb(sb, group) + sbi.s_itb_per_group + 2;
}

/** Sets s_overhead: from the superblock if bigalloc stored it there, else counted. */
export async function ext4_calculate_overhead(sb: super_block): Promise<void> {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const stored = es.s_overhead_clusters;
  const bigalloc = has_ro_compat(sb, EXT4_FEATURE_RO_COMPAT_BIGALLOC);
  if (bigalloc && stored !== 0 && stored <= ext4_blocks_count(es)) {
    sbi.s_overhead = stored;
    return;
  }
  let overhead = EXT4_B2C(sbi, es.s_first_data_block);
  for (let g = 0; g < sbi.s_groups_count; g++) overhead += count_overhead(sb, g);
  if (has_compat(sb, EXT4_FEATURE_COMPAT_HAS_JOURNAL) && es.s_journal_inum) {
    try {
      const inode = await ext4_iget(sb, es.s_journal_inum, EXT4_IGET_SPECIAL);
      overhead += EXT4_NUM_B2C(sbi, Math.floor(inode.i_size / sb.s_blocksize));
      await iput(inode);
    } catch (e) {
      if (!is_errno(e)) throw e;
      ext4_msg(sb, KERN_ERR, "can't get journal size");
    }
  }
  sbi.s_overhead = overhead;
}
