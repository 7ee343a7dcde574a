/**
 * fs/ext4/blocks_count.ts - what an inode is charged for its blocks, and giving blocks back.
 * Linux: dquot_alloc_block() and dquot_free_block() as ext4 uses them (without quotas), the
 * accounting half of ext4_free_blocks(), ext4_inode_to_goal_block(). i_blocks counts units of 512
 * bytes. i_lock: the baton.
 */
import { assert } from "../../kernel/assert.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { S_ISDIR, S_ISLNK, S_ISREG } from "../../kernel/include/stat.ts";
import { EXT4_EA_INODE_FL } from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MOUNT_DELALLOC,
  EXT4_SB,
  ext4_blocks_count,
  ext4_group_first_block_no,
  ext4_test_inode_flag,
  test_opt,
} from "./ext4_fs.ts";
import { ext4_journal_current_handle, type handle_t } from "./ext4_jbd2.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import {
  EXT4_FREE_BLOCKS_FORGET,
  EXT4_FREE_BLOCKS_METADATA,
  EXT4_FREE_BLOCKS_NOFREE_FIRST_CLUSTER,
  EXT4_FREE_BLOCKS_NOFREE_LAST_CLUSTER,
  EXT4_FREE_BLOCKS_NO_QUOT_UPDATE,
  EXT4_FREE_BLOCKS_RERESERVE_CLUSTER,
  ext4_free_blocks,
} from "./mballoc.ts";

/**
 * Charges the inode for filesystem blocks (negative: the other way), within the task's open handle.
 */
export async function ext4_charge_blocks(inode: inode, blocks: number): Promise<void> {
  if (blocks === 0) return;
  inode.i_blocks += blocks * (inode.i_sb.s_blocksize / 512);
  const handle = ext4_journal_current_handle(inode.i_sb);
  assert(handle !== null, "blocks charged without a handle");
  await ext4_mark_inode_dirty(handle, inode);
}

/** Clusters that ext4_free_blocks() frees of a run, in blocks. */
function freed_blocks(inode: inode, block: number, count: number, flags: number): number {
  const ratio = EXT4_SB(inode.i_sb).s_cluster_ratio;
  const from = block % ratio;
  let n = count;
  if (from !== 0) n += flags & EXT4_FREE_BLOCKS_NOFREE_FIRST_CLUSTER ? -(ratio - from) : from;
  if (n <= 0) return 0;
  const tail = n % ratio;
  if (tail !== 0) n += flags & EXT4_FREE_BLOCKS_NOFREE_LAST_CLUSTER ? -tail : ratio - tail;
  return n;
}

/** Frees blocks that the inode is charged for, and charges it less. */
export async function ext4_free_file_blocks(
  handle: handle_t,
  inode: inode,
  block: number,
  count: number,
  flags: number,
): Promise<void> {
  const uncharged = EXT4_FREE_BLOCKS_NO_QUOT_UPDATE | EXT4_FREE_BLOCKS_RERESERVE_CLUSTER;
  await ext4_free_blocks(handle, inode, block, count, flags);
  if (flags & uncharged) return;
  await ext4_charge_blocks(inode, -freed_blocks(inode, block, count, flags));
}

/** How the data blocks of this inode are freed: those that are metadata must be forgotten. */
export function get_default_free_blocks_flags(inode: inode): number {
  const meta =
    S_ISDIR(inode.i_mode) || S_ISLNK(inode.i_mode) || ext4_test_inode_flag(inode, EXT4_EA_INODE_FL);
  return meta ? EXT4_FREE_BLOCKS_METADATA | EXT4_FREE_BLOCKS_FORGET : 0;
}

/** From this many groups a flexible group keeps its first one for directories. */
const EXT4_FLEX_SIZE_DIR_ALLOC_SCHEME = 4;

/** Where the blocks of an inode that has none yet should begin. */
export function ext4_inode_to_goal_block(inode: inode): number {
  const sb = inode.i_sb;
  const sbi = EXT4_SB(sb);
  let group = EXT4_I(inode).i_block_group;
  const flex = sbi.s_log_groups_per_flex > 0 ? 2 ** sbi.s_log_groups_per_flex : 1;
  if (flex >= EXT4_FLEX_SIZE_DIR_ALLOC_SCHEME) {
    group -= group % flex;
    if (S_ISREG(inode.i_mode)) group++;
  }
  const start = ext4_group_first_block_no(sb, group);
  if (test_opt(sb, EXT4_MOUNT_DELALLOC)) return start;
  // spread the files of different tasks over the group
  const last = ext4_blocks_count(sbi.s_es) - 1;
  const whole = start + sbi.s_blocks_per_group <= last;
  const room = whole ? sbi.s_blocks_per_group : last - start;
  return start + (sb.kernel.current.pid % 16) * Math.floor(room / 16);
}
