/** fs/ext4/sb_info.ts - an ext4_sb_info before anything was read. Linux: fs/ext4/super.c. */
import type { super_block } from "../../kernel/include/fs.ts";
import { lock_class } from "../../kernel/locking/lock.ts";
import { mutex } from "../../kernel/locking/mutex.ts";
import { percpu_rwsem } from "../../kernel/locking/rwsem.ts";
import type { buffer_head } from "../buffer.ts";
import { ext4_super_block } from "./ext4.ts";
import type { ext4_sb_info } from "./ext4_fs.ts";
import {
  EXT4_DEF_INODE_READAHEAD_BLKS,
  EXT4_DEF_MAX_BATCH_TIME,
  JBD2_DEFAULT_MAX_COMMIT_AGE,
} from "./options.ts";

const S_ORPHAN_LOCK = lock_class("&sbi->s_orphan_lock");
const S_WRITEPAGES = lock_class("&sbi->s_writepages_rwsem");

/** Counts that are 0 until the superblock has been read. */
const ZERO = Object.freeze({
  s_desc_size: 0,
  s_inodes_per_block: 0,
  s_blocks_per_group: 0,
  s_clusters_per_group: 0,
  s_inodes_per_group: 0,
  s_itb_per_group: 0,
  s_gdb_count: 0,
  s_desc_per_block: 0,
  s_groups_count: 0,
  s_blockfile_groups: 0,
  s_overhead: 0,
  s_cluster_ratio: 1,
  s_cluster_bits: 0,
  s_bitmap_maxbytes: 0,
  s_addr_per_block_bits: 0,
  s_inode_size: 0,
  s_first_ino: 0,
  s_want_extra_isize: 0,
  s_def_hash_version: 0,
  s_hash_unsigned: 0,
  s_csum_seed: 0,
  s_log_groups_per_flex: 0,
  s_stripe: 0,
  s_resuid: 0,
  s_resgid: 0,
  s_mount_opt: 0,
  s_mount_opt2: 0,
  s_def_mount_opt: 0,
  s_def_mount_opt2: 0,
  s_mount_flags: 0,
  s_ext4_flags: 0,
  s_mount_state: 0,
  s_min_batch_time: 0,
  s_max_dir_size_kb: 0,
  s_freeclusters_counter: 0,
  s_freeinodes_counter: 0,
  s_dirs_counter: 0,
  s_dirtyclusters_counter: 0,
  s_resv_clusters: 0,
  s_dax_part_off: 0,
  s_add_error_count: 0,
  s_nr_breads: 0,
});

/** A superblock info in which nothing has been read yet. */
export function new_sb_info(sb: super_block): ext4_sb_info {
  const machine = sb.kernel.machine;
  return {
    ...ZERO,
    s_sb: sb,
    kernel: sb.kernel,
    s_sbh: undefined as unknown as buffer_head, // set by ext4_load_super before any use
    s_es: ext4_super_block.alloc(),
    s_sb_block: 1,
    s_hash_seed: [],
    s_group_desc: [],
    s_gdp: [],
    s_blockgroup_lock: [],
    s_commit_interval: JBD2_DEFAULT_MAX_COMMIT_AGE,
    s_max_batch_time: EXT4_DEF_MAX_BATCH_TIME,
    s_inode_readahead_blks: EXT4_DEF_INODE_READAHEAD_BLKS,
    s_opt_spec: new Map(),
    s_journal: null,
    s_tid: 1,
    s_commit_tid: 0,
    s_orphan_lock: new mutex(machine, S_ORPHAN_LOCK),
    s_orphan: [],
    s_orphan_info: null,
    s_writepages_rwsem: new percpu_rwsem(machine, S_WRITEPAGES),
    s_mb: null,
    s_flex_groups: null,
    s_system_blks: null,
    s_ea_block_cache: null,
    s_ea_inode_cache: null,
    s_daxdev: null,
  };
}
