/**
 * tools/cmd/mke2fs/files.ts - the journal, the orphan file, the block of multi-mount protection.
 */

import {
  EXT3_JNL_BACKUP_BLOCKS,
  EXT4_FEATURE_COMPAT_FAST_COMMIT,
  EXT4_FEATURE_COMPAT_HAS_JOURNAL,
  EXT4_FEATURE_INCOMPAT_EXTENTS,
  EXT4_JOURNAL_INO,
  EXT4_MMP_MAGIC,
  EXT4_MMP_SEQ_CLEAN,
  EXT4_ORPHAN_BLOCK_MAGIC,
  mmp_struct,
} from "../../../fs/ext4/ext4.ts";
import { ext4_mmp_csum, ext4_orphan_file_block_csum } from "../../../fs/ext4/csum.ts";
import {
  JBD2_MAGIC_NUMBER,
  JBD2_SUPERBLOCK_V2,
  journal_superblock,
} from "../../../fs/jbd2/jbd2.ts";
import { utf8_encode } from "../../../kernel/lib/utf8.ts";
import { type ext2_filsys, Mke2fsError } from "./filsys.ts";
import { alloc_file, find_inode_goal, init_inode, map_extents, S_IFREG } from "./inodes.ts";

/** Blocks; fc is the fast commit area behind the journal proper. */
export interface journal_params {
  journal: number;
  fc: number;
}

/** A journal's size by the filesystem's number of blocks; 0 when it is too small for one. */
export function default_journal_size(blocks: number): number {
  const steps: readonly [number, number][] = [
    [2048, 0],
    [32768, 1024],
    [256 * 1024, 4096],
    [512 * 1024, 8192],
    [4096 * 1024, 16384],
    [8192 * 1024, 32768],
    [16384 * 1024, 65536],
    [32768 * 1024, 131072],
  ];
  for (const [below, size] of steps) if (blocks < below) return size;
  return 262144;
}

/** Sizes in MiB as -J gives them, 0 for the default. */
export function figure_journal_size(
  fs: ext2_filsys,
  size_mib: number,
  fc_mib: number,
  free_blocks: number,
): journal_params | undefined {
  const by_default = default_journal_size(fs.blocks_count);
  if (by_default === 0) return undefined;
  const has_fc = fs.has("compat", EXT4_FEATURE_COMPAT_FAST_COMMIT);
  const in_blocks = (mib: number) => (mib * 2 ** 20) / fs.blocksize;
  const journal = size_mib ? in_blocks(size_mib) : by_default;
  let fc = 0;
  if (has_fc) fc = fc_mib ? in_blocks(fc_mib) : Math.floor(by_default / 64);
  if (size_mib && (journal < 1024 || journal > 10240000)) {
    throw new Mke2fsError(
      `\nThe requested journal size is ${journal} blocks; it must be\n` +
        "between 1024 and 10240000 blocks.  Aborting.",
    );
  }
  if ((size_mib || fc_mib) && journal + fc > free_blocks / 2) {
    throw new Mke2fsError("\nJournal size too big for filesystem.");
  }
  return { journal, fc };
}

/**
 * Where to put the journal: the emptiest group in the middle of the device. One with a block map
 * goes to its inode's group all the same.
 */
function journal_goal(fs: ext2_filsys): number {
  if (!fs.has("incompat", EXT4_FEATURE_INCOMPAT_EXTENTS))
    return find_inode_goal(fs, EXT4_JOURNAL_INO);
  const last = fs.group_desc_count - 1;
  // the real tool looks at the descriptors, whose counters may be too narrow for blocks of big
  // groups
  const free_in = (g: number) => {
    const free = fs.group_free_clusters(g) * fs.cluster_ratio;
    return fs.desc_size > 32 ? free : free & 0xffff;
  };
  const middle = Math.floor((fs.blocks_count - fs.es.s_first_data_block) / 2);
  const group = fs.group_of_block(middle);
  const flex = 2 ** fs.es.s_log_groups_per_flex;
  let start = group > 0 ? group - 1 : group;
  let from = group;
  if (fs.es.s_log_groups_per_flex && group > flex) {
    from = group - (group % flex);
    while (from <= last && free_in(from) === 0) from++;
    if (from > last) from = 0;
    start = from;
  }
  const end = Math.min(from + 1, last);
  let best = start;
  for (let g = start + 1; g <= end; g++) {
    if (free_in(g) > free_in(best)) best = g;
  }
  return fs.group_first_block(best);
}

/**
 * `lazy`: old contents of the journal's blocks are left as they are. `at_start`: not in the middle
 * of the device but at its start.
 */
export function add_journal_inode(
  fs: ext2_filsys,
  size: journal_params,
  { lazy, at_start }: { lazy: boolean; at_start: boolean },
): void {
  const ino = EXT4_JOURNAL_INO;
  init_inode(fs, ino, S_IFREG | 0o600, 1);
  const total = size.journal + size.fc;
  const extents = alloc_file(
    fs,
    ino,
    total,
    at_start ? fs.es.s_first_data_block : journal_goal(fs),
  );
  fs.inode_csum_set(ino);
  if (!lazy) for (const e of extents) fs.zeros.push([e.pblk, e.len]);
  const jsb = journal_superblock.at(fs.block(map_extents(extents, 0)));
  jsb.h_magic = JBD2_MAGIC_NUMBER;
  jsb.h_blocktype = JBD2_SUPERBLOCK_V2;
  jsb.s_blocksize = fs.blocksize;
  jsb.s_maxlen = total;
  jsb.s_nr_users = 1;
  jsb.s_first = 1;
  jsb.s_sequence = 1;
  jsb.s_num_fc_blks = size.fc;
  jsb.s_uuid = fs.es.s_uuid;
  const { es } = fs;
  const i_block = fs.i_block(ino);
  const v = new DataView(i_block.buffer, i_block.byteOffset, i_block.byteLength);
  const backup = Array.from({ length: 15 }, (_, i) => v.getUint32(i * 4, true));
  const raw = fs.inode(ino);
  es.s_jnl_blocks = [...backup, raw.i_size_high, raw.i_size_lo];
  es.s_jnl_backup_type = EXT3_JNL_BACKUP_BLOCKS;
  es.s_journal_inum = ino;
  es.s_feature_compat |= EXT4_FEATURE_COMPAT_HAS_JOURNAL;
}

/** The orphan file: blocks of inode numbers, none yet. `bytes`: its size, 0 for the default. */
export function create_orphan_file(fs: ext2_filsys, bytes: number): void {
  let count = Math.floor(bytes / fs.blocksize);
  if (bytes === 0) count = Math.max(32, Math.min(512, Math.floor(fs.blocks_count / 4096)));
  const ino = fs.new_inode();
  fs.alloc_inode(ino);
  init_inode(fs, ino, S_IFREG | 0o600, 1);
  const extents = alloc_file(fs, ino, count, fs.es.s_first_data_block);
  const seed = fs.inode_csum_seed(ino);
  for (let lblk = 0; lblk < count; lblk++) {
    const blk = map_extents(extents, lblk);
    const b = fs.block(blk);
    const v = new DataView(b.buffer);
    v.setUint32(fs.blocksize - 8, EXT4_ORPHAN_BLOCK_MAGIC, true);
    if (fs.has_csum) {
      v.setUint32(fs.blocksize - 4, ext4_orphan_file_block_csum(seed, blk, b), true);
    }
  }
  fs.inode_csum_set(ino);
  fs.es.s_orphan_file_inum = ino;
}

/** `name`: host and device, which the block records for whoever finds the filesystem in use. */
export function mmp_init(fs: ext2_filsys, name: { host: string; device: string }): void {
  const { es } = fs;
  const blk = fs.new_block(fs.group_first_block(0));
  es.s_mmp_update_interval ||= 5;
  es.s_mmp_block = blk;
  const block = fs.block(blk);
  const mmp = mmp_struct.at(block);
  mmp.mmp_magic = EXT4_MMP_MAGIC;
  mmp.mmp_seq = EXT4_MMP_SEQ_CLEAN;
  mmp.mmp_time = fs.now;
  mmp.mmp_nodename = utf8_encode(name.host).subarray(0, 64);
  mmp.mmp_bdevname = utf8_encode(name.device.split("/").at(-1)!).subarray(0, 32);
  mmp.mmp_check_interval = es.s_mmp_update_interval;
  if (fs.has_csum) mmp.mmp_checksum = ext4_mmp_csum(fs.csum_seed, block);
}
