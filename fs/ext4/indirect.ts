/**
 * fs/ext4/indirect.ts - block-mapped files, reading. Linux: fs/ext4/indirect.c.
 *
 * i_block holds 12 direct block numbers, then one single, one double and one triple indirect block;
 * 0 is a hole. A chain is the numbers met on the way. Locks: i_data_sem (read).
 */
import { EIO } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { ext4_check_blockref } from "./block_validity.ts";
import {
  EXT4_DIND_BLOCK,
  EXT4_IND_BLOCK,
  EXT4_N_BLOCKS,
  EXT4_NDIR_BLOCKS,
  EXT4_TIND_BLOCK,
} from "./ext4.ts";
import {
  BH_ind_verified,
  EXT4_I,
  EXT4_MAP_MAPPED,
  EXT4_SB,
  type ext4_map_blocks_t,
  ext4_sb_bread,
  ext4_warning,
} from "./ext4_fs.ts";

const le32 = (b: Uint8Array, i: number): number => {
  const o = 4 * i;
  return (b[o]! | (b[o + 1]! << 8) | (b[o + 2]! << 16) | (b[o + 3]! << 24)) >>> 0;
};

/**
 * The places to follow for a logical block: index in i_block, then in each indirect block. Empty
 * when the block is beyond the largest file. `boundary` is how many blocks follow in the last
 * place's block.
 */
export function ext4_block_to_path(
  inode: inode,
  i_block: number,
): { offsets: number[]; boundary: number } {
  const bits = EXT4_SB(inode.i_sb).s_addr_per_block_bits;
  const ptrs = 2 ** bits;
  let b = i_block;
  if (b < EXT4_NDIR_BLOCKS) return { offsets: [b], boundary: EXT4_NDIR_BLOCKS - 1 - b };
  b -= EXT4_NDIR_BLOCKS;
  const boundary = ptrs - 1 - (b % ptrs);
  if (b < ptrs) return { offsets: [EXT4_IND_BLOCK, b], boundary };
  b -= ptrs;
  const rest = ptrs - 1 - (b % ptrs);
  if (b < ptrs ** 2) {
    return { offsets: [EXT4_DIND_BLOCK, Math.floor(b / ptrs), b % ptrs], boundary: rest };
  }
  b -= ptrs ** 2;
  if (b < ptrs ** 3) {
    const offsets = [
      EXT4_TIND_BLOCK,
      Math.floor(b / ptrs ** 2),
      Math.floor(b / ptrs) % ptrs,
      b % ptrs,
    ];
    return { offsets, boundary: ptrs - 1 - (b % ptrs) };
  }
  ext4_warning(inode.i_sb, "ext4_block_to_path", `block ${i_block} > max in inode ${inode.i_ino}`);
  return { offsets: [], boundary: 0 };
}

/** Checks the numbers in i_block. Throws EUCLEAN. */
export function ext4_ind_check_inode(inode: inode): void {
  ext4_check_blockref(inode, "ext4_ind_check_inode", EXT4_I(inode).i_data, 0, EXT4_N_BLOCKS);
}

/** Reads an indirect block and checks every number in it. */
export async function ext4_ind_bread(inode: inode, block: number): Promise<buffer_head> {
  const bh = await ext4_sb_bread(inode.i_sb, block);
  if (bh.b_state & BH_ind_verified) return bh;
  try {
    const max = inode.i_sb.s_blocksize / 4;
    ext4_check_blockref(inode, "ext4_get_branch", bh.b_data, 0, max);
  } catch (e) {
    brelse(bh);
    throw e;
  }
  bh.b_state |= BH_ind_verified;
  return bh;
}

/** Consecutive numbers from `i` on: how many blocks of one run, at most `max`. */
function run_length(b: Uint8Array, i: number, max: number): number {
  const first = le32(b, i);
  let n = 1;
  while (n < max && le32(b, i + n) === first + n) n++;
  return n;
}

/** As ext4_ext_map_lookup, for a block-mapped file. i_data_sem held. */
export async function ext4_ind_map_lookup(inode: inode, map: ext4_map_blocks_t): Promise<number> {
  const { offsets, boundary } = ext4_block_to_path(inode, map.m_lblk);
  if (offsets.length === 0) throw EIO;
  const ptrs = 2 ** EXT4_SB(inode.i_sb).s_addr_per_block_bits;
  let data = EXT4_I(inode).i_data;
  let bh: buffer_head | null = null;
  try {
    for (let level = 0; level < offsets.length; level++) {
      const block = le32(data, offsets[level]!);
      if (block === 0) {
        // whole empty subtrees behind this place, then what is left of each level below
        let count = 0;
        for (let i = level + 1; i < offsets.length; i++) {
          count = count * ptrs + (ptrs - offsets[i]! - 1);
        }
        map.m_pblk = 0;
        map.m_len = Math.min(map.m_len, count + 1);
        return 0;
      }
      if (level === offsets.length - 1) {
        map.m_pblk = block;
        map.m_len = run_length(data, offsets[level]!, Math.min(map.m_len, boundary + 1));
        map.m_flags |= EXT4_MAP_MAPPED;
        return map.m_len;
      }
      const next = await ext4_ind_bread(inode, block);
      if (bh) brelse(bh);
      bh = next;
      data = bh.b_data;
    }
    throw EIO;
  } finally {
    if (bh) brelse(bh);
  }
}
