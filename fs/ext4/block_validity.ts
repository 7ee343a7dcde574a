/**
 * fs/ext4/block_validity.ts - no file may point into the filesystem's own metadata.
 * Linux: fs/ext4/block_validity.c. Differs: a sorted list of runs, merged, instead of a tree.
 *
 * The list holds superblock copies, descriptors, bitmaps, inode tables (ino 0) and the journal's
 * blocks (its inode's number: the journal itself may point there).
 */
import { EFSCORRUPTED, EINVAL } from "../../kernel/include/errno.ts";
import type { inode, super_block } from "../../kernel/include/fs.ts";
import { iput } from "../../kernel/vfs/inode.ts";
import { EXT4_FEATURE_COMPAT_HAS_JOURNAL, EXT4_ROOT_INO } from "./ext4.ts";
import {
  EXT4_IGET_SPECIAL,
  EXT4_SB,
  type ext4_system_zone,
  ext4_block_bitmap,
  ext4_blocks_count,
  ext4_error_inode,
  ext4_get_group_desc,
  ext4_group_first_block_no,
  ext4_inode_bitmap,
  ext4_inode_table,
  has_compat,
  new_map,
} from "./ext4_fs.ts";
import { ext4_num_base_meta_blocks } from "./groups.ts";
import { ext4_iget } from "./iget.ts";
import { ext4_map_blocks } from "./inode.ts";

/** Index of the first run that ends behind `block`. */
function search(z: ext4_system_zone, block: number): number {
  let lo = 0;
  let hi = z.start.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (z.start[mid]! + z.count[mid]! <= block) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

/** Adds a run; false when it overlaps one of another owner. */
function add_system_zone(z: ext4_system_zone, start: number, count: number, ino: number): boolean {
  const i = search(z, start);
  const n = z.start.length;
  if (i < n && z.start[i]! < start + count) return false;
  if (i > 0 && z.ino[i - 1] === ino && z.start[i - 1]! + z.count[i - 1]! === start) {
    z.count[i - 1] = z.count[i - 1]! + count;
    if (i < n && z.ino[i] === ino && z.start[i] === start + count) {
      z.count[i - 1] = z.count[i - 1]! + z.count[i]!;
      for (const a of [z.start, z.count, z.ino]) a.splice(i, 1);
    }
  } else if (i < n && z.ino[i] === ino && z.start[i] === start + count) {
    z.start[i] = start;
    z.count[i] = z.count[i]! + count;
  } else {
    z.start.splice(i, 0, start);
    z.count.splice(i, 0, count);
    z.ino.splice(i, 0, ino);
  }
  return true;
}

function add_or_fail(z: ext4_system_zone, start: number, count: number): void {
  if (!add_system_zone(z, start, count, 0)) throw EFSCORRUPTED;
}

async function protect_reserved_inode(
  sb: super_block,
  z: ext4_system_zone,
  ino: number,
): Promise<void> {
  if (ino < EXT4_ROOT_INO || ino > EXT4_SB(sb).s_es.s_inodes_count) throw EINVAL;
  const inode = await ext4_iget(sb, ino, EXT4_IGET_SPECIAL);
  try {
    const num = Math.ceil(inode.i_size / sb.s_blocksize);
    const map = new_map(0, 0);
    for (let i = 0; i < num; ) {
      map.m_lblk = i;
      map.m_len = num - i;
      const n = await ext4_map_blocks(null, inode, map, 0);
      if (n > 0 && !add_system_zone(z, map.m_pblk, n, ino)) {
        const end = map.m_pblk + map.m_len - 1;
        const text = `blocks ${map.m_pblk}-${end} from inode overlap system zone`;
        ext4_error_inode(inode, "ext4_protect_reserved_inode", 0, text);
        throw EFSCORRUPTED;
      }
      // a hole answers with how long it is
      i += n || Math.max(1, map.m_len);
    }
  } finally {
    const p = iput(inode);
    if (p) await p;
  }
}

/** Builds the list. Throws EUCLEAN when metadata overlaps. */
export async function ext4_setup_system_zone(sb: super_block): Promise<void> {
  const sbi = EXT4_SB(sb);
  const z: ext4_system_zone = { start: [], count: [], ino: [] };
  for (let g = 0; g < sbi.s_groups_count; g++) {
    const base = ext4_num_base_meta_blocks(sb, g);
    if (base) add_or_fail(z, ext4_group_first_block_no(sb, g), base);
    const d = ext4_get_group_desc(sb, g)!;
    add_or_fail(z, ext4_block_bitmap(sb, d), 1);
    add_or_fail(z, ext4_inode_bitmap(sb, d), 1);
    add_or_fail(z, ext4_inode_table(sb, d), sbi.s_itb_per_group);
  }
  if (has_compat(sb, EXT4_FEATURE_COMPAT_HAS_JOURNAL) && sbi.s_es.s_journal_inum) {
    await protect_reserved_inode(sb, z, sbi.s_es.s_journal_inum);
  }
  sbi.s_system_blks = z;
}

/** May `inode` (null: anything that is not metadata) have the blocks [start, start + count)? */
export function ext4_sb_block_valid(
  sb: super_block,
  inode: inode | null,
  start: number,
  count: number,
): boolean {
  const sbi = EXT4_SB(sb);
  if (start <= sbi.s_es.s_first_data_block) return false;
  if (start + count > ext4_blocks_count(sbi.s_es)) return false;
  const z = sbi.s_system_blks;
  if (z === null) return true;
  const i = search(z, start);
  if (i >= z.start.length || start + count <= z.start[i]!) return true;
  return inode !== null && z.ino[i] === inode.i_ino;
}
export const ext4_inode_block_valid = (inode: inode, start: number, count: number): boolean =>
  ext4_sb_block_valid(inode.i_sb, inode, start, count);

const le32 = (b: Uint8Array, off: number): number =>
  (b[off]! | (b[off + 1]! << 8) | (b[off + 2]! << 16) | (b[off + 3]! << 24)) >>> 0;

/** Checks `max` block numbers of a block-mapped inode; throws EUCLEAN on an impossible one. */
export function ext4_check_blockref(
  inode: inode,
  fn: string,
  b: Uint8Array,
  off: number,
  max: number,
): void {
  for (let i = 0; i < max; i++) {
    const blk = le32(b, off + 4 * i);
    if (blk && !ext4_inode_block_valid(inode, blk, 1)) {
      ext4_error_inode(inode, fn, blk, "invalid block");
      throw EFSCORRUPTED;
    }
  }
}
