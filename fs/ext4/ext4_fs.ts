/**
 * fs/ext4/ext4_fs.ts - ext4 in memory: ext4_sb_info, ext4_inode_info, the block map request, and
 * the small accessors that every other file uses. Linux: fs/ext4/ext4.h.
 *
 * What is on the media is in ext4.ts. `sbi.s_es` and the group descriptors are cursors on buffer
 * heads that stay referenced while the filesystem is mounted: a store through them changes the
 * buffer, which must then be marked dirty (ext4_handle_dirty_super, ext4_handle_dirty_metadata).
 *
 * Reading order of the read side: super.ts -> inode.ts -> extents.ts / indirect.ts -> file.ts,
 * dir.ts. Lock order (outer first): i_rwsem, invalidate_lock, handle start, page lock, xattr_sem,
 * i_data_sem, i_es_lock; group lock is innermost.
 */

import {
  EFSBADCRC,
  EFSCORRUPTED,
  EIO,
  EROFS,
  is_errno,
  type Errno,
} from "../../kernel/include/errno.ts";
import {
  SB_RDONLY,
  type inode,
  type Sometime,
  type super_block,
  type timespec64,
} from "../../kernel/include/fs.ts";
import type { dax_device } from "../../kernel/include/dax.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import type {
  mutex as mutex_t,
  rw_semaphore as rw_semaphore_t,
  spinlock_t,
} from "../../kernel/include/locks.ts";
import type { percpu_rw_semaphore } from "../../kernel/include/locks.ts";
import type { struct_of } from "../../kernel/lib/struct.ts";
import { type buffer_head, mark_buffer_dirty, sb_bread } from "../buffer.ts";
import { ext4_has_metadata_csum, ext4_superblock_csum_set } from "./csum.ts";
import {
  EXT4_ERROR_FS,
  type ext4_group_desc,
  type ext4_super_block,
  EXT4_FEATURE_INCOMPAT_64BIT,
  ext4_group_desc as group_desc_struct,
} from "./ext4.ts";
import {
  EXT4_MF_FS_ABORTED,
  EXT4_MOUNT_ERRORS_CONT,
  EXT4_MOUNT_ERRORS_PANIC,
  EXT4_FLAGS_SHUTDOWN,
} from "./mount_opts.ts";
import type { ext4_es_tree } from "./extents_status.ts";
export * from "./mount_opts.ts";

export type ext4_super_block_view = struct_of<typeof ext4_super_block>;
export type ext4_group_desc_view = struct_of<typeof ext4_group_desc>;

// --- block map requests -----------------------------------------------------------------------

/** flags of ext4_map_blocks() */
export const EXT4_GET_BLOCKS_CREATE = 0x0001;
export const EXT4_GET_BLOCKS_UNWRIT_EXT = 0x0002;
export const EXT4_GET_BLOCKS_CREATE_UNWRIT_EXT = 0x0003;
/** Delayed allocation: reserved blocks were promised before. */
export const EXT4_GET_BLOCKS_DELALLOC_RESERVE = 0x0004;
export const EXT4_GET_BLOCKS_PRE_IO = 0x0008;
export const EXT4_GET_BLOCKS_CONVERT = 0x0010;
export const EXT4_GET_BLOCKS_IO_CREATE_EXT = 0x000b;
export const EXT4_GET_BLOCKS_IO_CONVERT_EXT = 0x0013;
export const EXT4_GET_BLOCKS_METADATA_NOFAIL = 0x0020;
/** Allocate just what is asked for (fallocate). */
export const EXT4_GET_BLOCKS_NO_NORMALIZE = 0x0040;
export const EXT4_GET_BLOCKS_CONVERT_UNWRITTEN = 0x0100;
/** New blocks are zeroed on the media before they become reachable (DAX). */
export const EXT4_GET_BLOCKS_ZERO = 0x0200;
export const EXT4_GET_BLOCKS_CREATE_ZERO = 0x0201;
export const EXT4_GET_BLOCKS_IO_SUBMIT = 0x0400;
/** Answer from the extent status cache or not at all. */
export const EXT4_GET_BLOCKS_CACHED_NOWAIT = 0x0800;
/** Do not put what is read into the extent status cache. */
export const EXT4_EX_NOCACHE = 0x40000000;

/** m_flags: what ext4_map_blocks() found (the values of the buffer-head bits) */
export const EXT4_MAP_MAPPED = 1 << 4;
export const EXT4_MAP_NEW = 1 << 5;
export const EXT4_MAP_BOUNDARY = 1 << 9;
export const EXT4_MAP_UNWRITTEN = 1 << 11;
export const EXT4_MAP_FLAGS =
  EXT4_MAP_NEW | EXT4_MAP_MAPPED | EXT4_MAP_UNWRITTEN | EXT4_MAP_BOUNDARY;

/** struct ext4_map_blocks: in m_lblk and m_len (blocks), out m_pblk, m_len, m_flags. */
export interface ext4_map_blocks_t {
  m_lblk: number;
  m_len: number;
  m_pblk: number;
  m_flags: number;
}
export const new_map = (m_lblk: number, m_len: number): ext4_map_blocks_t => ({
  m_lblk,
  m_len,
  m_pblk: 0,
  m_flags: 0,
});

// --- the superblock in memory -----------------------------------------------------------------

/** Immutable after mount unless a lock is named. Counts of blocks, not bytes, unless said. */
export interface ext4_sb_info {
  readonly s_sb: super_block;
  readonly kernel: Kernel;
  /** Buffer of the superblock, and the cursor into it. */
  s_sbh: buffer_head;
  s_es: ext4_super_block_view;
  /** Number of the block that holds the superblock (sb= option: block in units of 1 KiB). */
  s_sb_block: number;
  s_desc_size: number; // bytes
  s_inodes_per_block: number;
  s_blocks_per_group: number;
  s_clusters_per_group: number;
  s_inodes_per_group: number;
  s_itb_per_group: number; // inode table blocks per group
  s_gdb_count: number;
  s_desc_per_block: number;
  s_groups_count: number;
  /** Groups in which a block-mapped file may have blocks. */
  s_blockfile_groups: number;
  s_overhead: number; // clusters
  s_cluster_ratio: number;
  s_cluster_bits: number;
  s_bitmap_maxbytes: number;
  s_addr_per_block_bits: number;
  s_inode_size: number;
  s_first_ino: number;
  s_want_extra_isize: number;
  s_hash_seed: readonly number[];
  s_def_hash_version: number;
  /** 3 when names hash as unsigned char, else 0: add to the hash version. */
  s_hash_unsigned: number;
  s_csum_seed: number;
  s_log_groups_per_flex: number;
  s_stripe: number;
  s_resuid: number;
  s_resgid: number;

  /** Group descriptor blocks; a descriptor's fields: group lock. */
  s_group_desc: buffer_head[];
  /** One cursor per group, made by ext4_get_group_desc(). */
  s_gdp: (ext4_group_desc_view | undefined)[];
  /** The block group locks, made on first use: ext4_lock_group(). */
  s_blockgroup_lock: (spinlock_t | undefined)[];

  s_mount_opt: number; // s_umount
  s_mount_opt2: number; // s_umount
  s_def_mount_opt: number;
  s_def_mount_opt2: number;
  s_mount_flags: number; // EXT4_MF_*
  s_ext4_flags: number; // EXT4_FLAGS_*
  s_mount_state: number; // EXT4_VALID_FS, EXT4_ERROR_FS, EXT4_ORPHAN_FS
  s_commit_interval: number; // seconds
  s_min_batch_time: number;
  s_max_batch_time: number;
  s_max_dir_size_kb: number;
  s_inode_readahead_blks: number;
  /** Options of this mount that only show_options needs. */
  s_opt_spec: Map<string, string>;

  /** jbd2's journal; null: no journal, or a clean one that is left alone (no crash safety). */
  s_journal: unknown;
  /**
   * Number of the running "transaction" and of the last one whose metadata is on the media. Without
   * a journal these only count what fsync and MAP_SYNC have to wait for (ext4_jbd2.ts).
   */
  s_tid: number;
  s_commit_tid: number;
  s_orphan_lock: mutex_t;
  /** In-core orphans, the head of the on-disk list first. s_orphan_lock. */
  s_orphan: inode[];
  /** W: orphan file, once it is written. */
  s_orphan_info: unknown;
  /** Serialises writeback with changes of the journal and extent flags of inodes. */
  s_writepages_rwsem: percpu_rw_semaphore;

  s_freeclusters_counter: number;
  s_freeinodes_counter: number;
  s_dirs_counter: number;
  s_dirtyclusters_counter: number;
  s_resv_clusters: number;

  /** Owned by mballoc.ts (buddies, preallocation, goals), ialloc.ts (flex groups). */
  s_mb: unknown;
  s_flex_groups: unknown;
  s_system_blks: ext4_system_zone | null;
  /** Attribute blocks by hash, for sharing (write side). */
  s_ea_block_cache: unknown;
  s_ea_inode_cache: unknown;

  s_daxdev: dax_device | null;
  s_dax_part_off: number; // bytes

  s_add_error_count: number;
  /** Metadata blocks asked for since mount: what a step budget is counted in. */
  s_nr_breads: number;
}

/** Runs of blocks that hold metadata, sorted by start: block_validity.ts. */
export interface ext4_system_zone {
  start: number[];
  count: number[];
  ino: number[];
}

export interface ext4_inode_info {
  readonly vfs_inode: inode;
  /** i_block: 60 bytes as on the media. i_data_sem. */
  readonly i_data: Uint8Array;
  readonly i_data_view: DataView;
  /** EXT4_*_FL, unsigned. i_rwsem. */
  i_flags: number;
  i_state_flags: number; // EXT4_STATE_*
  i_dtime: number; // on the orphan list: the next orphan's number
  i_file_acl: number; // xattr_sem; block of attributes or 0
  i_block_group: number; // immutable
  i_dir_start_lookup: number; // i_rwsem; logical block where the last lookup hit
  readonly xattr_sem: rw_semaphore_t;
  /** Size as it is (or will be) on the media. i_data_sem for writing. */
  i_disksize: number;
  /** Protects the block map: read to look up, write to change it. */
  readonly i_data_sem: rw_semaphore_t;
  i_crtime: timespec64; // immutable
  readonly i_raw_lock: spinlock_t;
  /** Extent status cache. i_es_lock. */
  readonly i_es_tree: ext4_es_tree;
  /** Bumped at each change of the block map: whoever kept a copy of a mapping compares. */
  i_es_seq: number;
  i_last_alloc_group: number;
  /** Delayed allocation: clusters reserved for this inode. i_block_reservation_lock. */
  i_reserved_data_blocks: number;
  readonly i_block_reservation_lock: spinlock_t;
  /** Clusters with both delayed and allocated blocks (bigalloc). */
  i_pending_tree: Set<number> | null;
  /** Owned by mballoc.ts: preallocated runs. */
  i_prealloc: unknown;
  i_prealloc_active: number;
  i_extra_isize: number; // xattr_sem
  /** Byte offset in the on-media inode of the system.data attribute entry; 0: none. xattr_sem. */
  i_inline_off: number;
  /** Bytes of inline data it can hold in all: 60 in i_block and the attribute's value. */
  i_inline_size: number;
  i_sync_tid: number;
  i_datasync_tid: number;
  /** jbd2's inode, for data=ordered. */
  jinode: unknown;
  i_csum_seed: number; // immutable
  i_projid: number;
  i_unwritten: number;
  /** True while on the orphan list. s_orphan_lock. */
  i_orphan: boolean;
  i_orphan_idx: number;
}

export const EXT4_SB = (sb: super_block): ext4_sb_info => sb.s_fs_info as ext4_sb_info;
export const EXT4_I = (inode: inode): ext4_inode_info => inode.i_fs as ext4_inode_info;

export const test_opt = (sb: super_block, opt: number): boolean =>
  (EXT4_SB(sb).s_mount_opt & opt) !== 0;
export const test_opt2 = (sb: super_block, opt: number): boolean =>
  (EXT4_SB(sb).s_mount_opt2 & opt) !== 0;
/** The journalling mode: compare with EXT4_MOUNT_JOURNAL_DATA, _ORDERED_DATA, _WRITEBACK_DATA. */
export const data_mode = (sb: super_block): number => EXT4_SB(sb).s_mount_opt & 0xc00;
export const sb_rdonly = (sb: super_block): boolean => (sb.s_flags & SB_RDONLY) !== 0;

export const ext4_test_inode_flag = (inode: inode, fl: number): boolean =>
  (EXT4_I(inode).i_flags & fl) !== 0;
export function ext4_set_inode_flag(inode: inode, fl: number): void {
  const ei = EXT4_I(inode);
  ei.i_flags = (ei.i_flags | fl) >>> 0;
}
export function ext4_clear_inode_flag(inode: inode, fl: number): void {
  const ei = EXT4_I(inode);
  ei.i_flags = (ei.i_flags & ~fl) >>> 0;
}
export const ext4_test_inode_state = (inode: inode, st: number): boolean =>
  (EXT4_I(inode).i_state_flags & st) !== 0;
export function ext4_set_inode_state(inode: inode, st: number): void {
  EXT4_I(inode).i_state_flags |= st;
}
export function ext4_clear_inode_state(inode: inode, st: number): void {
  EXT4_I(inode).i_state_flags &= ~st;
}

export const has_compat = (sb: super_block, f: number): boolean =>
  (EXT4_SB(sb).s_es.s_feature_compat & f) !== 0;
export const has_ro_compat = (sb: super_block, f: number): boolean =>
  (EXT4_SB(sb).s_es.s_feature_ro_compat & f) !== 0;
export const has_incompat = (sb: super_block, f: number): boolean =>
  (EXT4_SB(sb).s_es.s_feature_incompat & f) !== 0;

export const ext4_forced_shutdown = (sbi: ext4_sb_info): boolean =>
  (sbi.s_ext4_flags & EXT4_FLAGS_SHUTDOWN) !== 0;

// --- counts and places ------------------------------------------------------------------------

const TWO32 = 4294967296;

export const ext4_blocks_count = (es: ext4_super_block_view): number =>
  es.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT
    ? es.s_blocks_count_hi * TWO32 + es.s_blocks_count_lo
    : es.s_blocks_count_lo;
export const ext4_r_blocks_count = (es: ext4_super_block_view): number =>
  es.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT
    ? es.s_r_blocks_count_hi * TWO32 + es.s_r_blocks_count_lo
    : es.s_r_blocks_count_lo;

export const ext4_group_first_block_no = (sb: super_block, group: number): number =>
  group * EXT4_SB(sb).s_blocks_per_group + EXT4_SB(sb).s_es.s_first_data_block;
/** Blocks of a group: the last one may be short. */
export function ext4_group_blocks(sb: super_block, group: number): number {
  const sbi = EXT4_SB(sb);
  if (group !== sbi.s_groups_count - 1) return sbi.s_blocks_per_group;
  return ext4_blocks_count(sbi.s_es) - ext4_group_first_block_no(sb, group);
}
export const ext4_group_of_block = (sb: super_block, block: number): number => {
  const sbi = EXT4_SB(sb);
  return Math.floor((block - sbi.s_es.s_first_data_block) / sbi.s_blocks_per_group);
};
/** Offset of a block in its group, in clusters. */
export const ext4_offset_in_group = (sb: super_block, block: number): number => {
  const sbi = EXT4_SB(sb);
  const off = (block - sbi.s_es.s_first_data_block) % sbi.s_blocks_per_group;
  return Math.floor(off / sbi.s_cluster_ratio);
};
export const EXT4_B2C = (sbi: ext4_sb_info, blocks: number): number =>
  Math.floor(blocks / sbi.s_cluster_ratio);
export const EXT4_C2B = (sbi: ext4_sb_info, clusters: number): number =>
  clusters * sbi.s_cluster_ratio;
export const EXT4_NUM_B2C = (sbi: ext4_sb_info, blocks: number): number =>
  Math.ceil(blocks / sbi.s_cluster_ratio);

/**
 * The descriptor of a group as a cursor on its buffer (one per group, never moved), or null when
 * there is no such group.
 */
export function ext4_get_group_desc(sb: super_block, group: number): ext4_group_desc_view | null {
  const sbi = EXT4_SB(sb);
  const known = sbi.s_gdp[group];
  if (known) return known;
  if (!(group >= 0 && group < sbi.s_groups_count)) {
    ext4_error(sb, "ext4_get_group_desc", `block_group >= groups_count - block_group = ${group}`);
    return null;
  }
  const bh = sbi.s_group_desc[Math.floor(group / sbi.s_desc_per_block)];
  if (!bh) {
    ext4_error(sb, "ext4_get_group_desc", `Group descriptor not loaded - block_group = ${group}`);
    return null;
  }
  const made = group_desc_struct.at(bh.b_data, (group % sbi.s_desc_per_block) * sbi.s_desc_size);
  sbi.s_gdp[group] = made;
  return made;
}
/** The buffer that a group's descriptor is in, for marking it dirty. */
export const ext4_group_desc_bh = (sb: super_block, group: number): buffer_head =>
  EXT4_SB(sb).s_group_desc[Math.floor(group / EXT4_SB(sb).s_desc_per_block)]!;

/** A short descriptor ends before the upper halves; behind the last one the block may end, too. */
const hi32 = (sbi: ext4_sb_info): boolean => sbi.s_desc_size >= 64;

type gd = ext4_group_desc_view;
export const ext4_block_bitmap = (sb: super_block, d: gd): number =>
  d.bg_block_bitmap_lo + (hi32(EXT4_SB(sb)) ? d.bg_block_bitmap_hi * TWO32 : 0);
export const ext4_inode_bitmap = (sb: super_block, d: gd): number =>
  d.bg_inode_bitmap_lo + (hi32(EXT4_SB(sb)) ? d.bg_inode_bitmap_hi * TWO32 : 0);
export const ext4_inode_table = (sb: super_block, d: gd): number =>
  d.bg_inode_table_lo + (hi32(EXT4_SB(sb)) ? d.bg_inode_table_hi * TWO32 : 0);
export const ext4_free_group_clusters = (sb: super_block, d: gd): number =>
  d.bg_free_blocks_count_lo + (hi32(EXT4_SB(sb)) ? d.bg_free_blocks_count_hi * 65536 : 0);
export const ext4_free_inodes_count = (sb: super_block, d: gd): number =>
  d.bg_free_inodes_count_lo + (hi32(EXT4_SB(sb)) ? d.bg_free_inodes_count_hi * 65536 : 0);
export const ext4_used_dirs_count = (sb: super_block, d: gd): number =>
  d.bg_used_dirs_count_lo + (hi32(EXT4_SB(sb)) ? d.bg_used_dirs_count_hi * 65536 : 0);
export const ext4_itable_unused_count = (sb: super_block, d: gd): number =>
  d.bg_itable_unused_lo + (hi32(EXT4_SB(sb)) ? d.bg_itable_unused_hi * 65536 : 0);
export function ext4_free_group_clusters_set(sb: super_block, d: gd, n: number): void {
  d.bg_free_blocks_count_lo = n & 0xffff;
  if (hi32(EXT4_SB(sb))) d.bg_free_blocks_count_hi = n >>> 16;
}
export function ext4_free_inodes_set(sb: super_block, d: gd, n: number): void {
  d.bg_free_inodes_count_lo = n & 0xffff;
  if (hi32(EXT4_SB(sb))) d.bg_free_inodes_count_hi = n >>> 16;
}
export function ext4_used_dirs_set(sb: super_block, d: gd, n: number): void {
  d.bg_used_dirs_count_lo = n & 0xffff;
  if (hi32(EXT4_SB(sb))) d.bg_used_dirs_count_hi = n >>> 16;
}
export function ext4_itable_unused_set(sb: super_block, d: gd, n: number): void {
  d.bg_itable_unused_lo = n & 0xffff;
  if (hi32(EXT4_SB(sb))) d.bg_itable_unused_hi = n >>> 16;
}

/** A metadata block. Throws EIO. All metadata of the read side comes through here. */
export function ext4_sb_bread(sb: super_block, block: number): Sometime<buffer_head> {
  EXT4_SB(sb).s_nr_breads++;
  return sb_bread(sb, block);
}

/**
 * b_state of a metadata buffer whose contents were checked as what they were used for, since they
 * were read. A block that is used for two purposes (damaged media) is checked for each. Linux:
 * BH_Verified.
 */
export const BH_ext_verified = 1 << 24;
export const BH_ind_verified = 1 << 26;
export const BH_dir_verified = 1 << 27;
export const BH_dx_verified = 1 << 28;

// --- messages and errors ----------------------------------------------------------------------

const comm = (sb: super_block): string => sb.kernel.current.comm;

/**
 * A line of the kernel log: `EXT4-fs (pmem0): text`. Level as in printk: 3 error, 4 warning, 6
 * info.
 */
export function ext4_msg(sb: super_block | null, level: number, text: string): void {
  sb?.kernel.printk(level, `EXT4-fs (${sb.s_id}): ${text}`);
}
export const KERN_CRIT = 2;
export const KERN_ERR = 3;
export const KERN_WARNING = 4;
export const KERN_NOTICE = 5;
export const KERN_INFO = 6;

/** What is remembered in the superblock about an error. */
function save_error_info(sb: super_block, error: Errno, ino: number, block: number, fn: string) {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const now = sb.kernel.time.real().tv_sec;
  sbi.s_mount_state |= EXT4_ERROR_FS;
  es.s_state |= EXT4_ERROR_FS;
  const name = Uint8Array.from(fn.slice(0, 31), (c) => c.charCodeAt(0));
  const code = ERROR_CODES.get(error.code) ?? 1;
  es.s_last_error_time = now >>> 0;
  es.s_last_error_time_hi = Math.floor(now / TWO32) & 0xff;
  es.s_last_error_func = name;
  es.s_last_error_line = 0;
  es.s_last_error_ino = ino;
  es.s_last_error_block = block;
  es.s_last_error_errcode = code;
  if (es.s_first_error_time === 0 && es.s_first_error_time_hi === 0) {
    es.s_first_error_time = now >>> 0;
    es.s_first_error_time_hi = Math.floor(now / TWO32) & 0xff;
    es.s_first_error_func = name;
    es.s_first_error_line = 0;
    es.s_first_error_ino = ino;
    es.s_first_error_block = block;
    es.s_first_error_errcode = code;
  }
  es.s_error_count = (es.s_error_count + 1) >>> 0;
  sbi.s_add_error_count++;
}
/** s_*_error_errcode */
const ERROR_CODES: ReadonlyMap<string, number> = new Map([
  ["EIO", 2],
  ["ENOMEM", 3],
  ["EBADMSG", 4],
  ["EUCLEAN", 5],
  ["ENOSPC", 6],
  ["EROFS", 8],
  ["EFAULT", 9],
]);

/** Notes the error and does what errors= says: go on, make the mount read-only, or panic. */
function ext4_handle_error(
  sb: super_block,
  error: Errno,
  ino: number,
  block: number,
  fn: string,
): void {
  const sbi = EXT4_SB(sb);
  const continue_fs = (sbi.s_mount_opt & EXT4_MOUNT_ERRORS_CONT) !== 0;
  sbi.s_mount_state |= EXT4_ERROR_FS;
  if (!continue_fs && !sb_rdonly(sb)) sbi.s_mount_flags |= EXT4_MF_FS_ABORTED;
  if (!sb.s_bdev?.bd_read_only) {
    save_error_info(sb, error, ino, block, fn);
    // a read-only mount has no writer that would finish the buffer, and must not begin one
    if (!sb_rdonly(sb)) {
      if (ext4_has_metadata_csum(sbi.s_es)) {
        ext4_superblock_csum_set(sbi.s_sbh.b_data, sbi.s_es._off);
      }
      mark_buffer_dirty(sbi.s_sbh);
    }
  }
  if (sb_rdonly(sb) || continue_fs) return;
  if (sbi.s_mount_opt & EXT4_MOUNT_ERRORS_PANIC) {
    // a machine that has stopped does nothing more: here only this filesystem stops
    const text = `EXT4-fs (device ${sb.s_id}): panic forced after error`;
    sb.kernel.printk(0, `Kernel panic - not syncing: ${text}`);
    sbi.s_ext4_flags |= EXT4_FLAGS_SHUTDOWN;
  }
  ext4_msg(sb, KERN_CRIT, "Remounting filesystem read-only");
  sb.s_flags |= SB_RDONLY;
}

/** Corruption that no inode stands for. `fn` is the function that found it. */
export function ext4_error(
  sb: super_block,
  fn: string,
  text: string,
  error: Errno = EFSCORRUPTED,
  block = 0,
): void {
  if (ext4_forced_shutdown(EXT4_SB(sb))) return;
  sb.kernel.printk(
    KERN_CRIT,
    `EXT4-fs error (device ${sb.s_id}): ${fn}: comm ${comm(sb)}: ${text}`,
  );
  ext4_handle_error(sb, error, 0, block, fn);
}
/** Corruption of an inode; `block` is the physical block it was found in, or 0. */
export function ext4_error_inode(
  inode: inode,
  fn: string,
  block: number,
  text: string,
  error: Errno = EFSCORRUPTED,
): void {
  const sb = inode.i_sb;
  if (ext4_forced_shutdown(EXT4_SB(sb))) return;
  const where = block ? `block ${block}: ` : "";
  sb.kernel.printk(
    KERN_CRIT,
    `EXT4-fs error (device ${sb.s_id}): ${fn}: inode #${inode.i_ino}: ${where}` +
      `comm ${comm(sb)}: ${text}`,
  );
  ext4_handle_error(sb, error, inode.i_ino, block, fn);
}
export function ext4_warning(sb: super_block, fn: string, text: string): void {
  sb.kernel.printk(KERN_WARNING, `EXT4-fs warning (device ${sb.s_id}): ${fn}: ${text}`);
}
export function ext4_warning_inode(inode: inode, fn: string, text: string): void {
  const sb = inode.i_sb;
  sb.kernel.printk(
    KERN_WARNING,
    `EXT4-fs warning (device ${sb.s_id}): ${fn}: inode #${inode.i_ino}: comm ${comm(sb)}: ${text}`,
  );
}
/** For an error of which nothing is known but its number (Linux: __ext4_std_error). */
export function ext4_std_error(sb: super_block, fn: string, error: Errno): void {
  if (ext4_forced_shutdown(EXT4_SB(sb))) return;
  if (error === EROFS && sb_rdonly(sb)) return;
  sb.kernel.printk(KERN_CRIT, `EXT4-fs error (device ${sb.s_id}) in ${fn}: ${error.code}`);
  ext4_handle_error(sb, error, 0, 0, fn);
}

/** Logs and throws: for the many checks that end in EUCLEAN. */
export function corrupt(inode: inode, fn: string, text: string, block = 0): never {
  ext4_error_inode(inode, fn, block, text);
  throw EFSCORRUPTED;
}
export function bad_crc(inode: inode, fn: string, text: string, block = 0): never {
  ext4_error_inode(inode, fn, block, text, EFSBADCRC);
  throw EFSBADCRC;
}
/** True for the errors that a damaged or failing device gives. */
export const is_media_error = (e: unknown): boolean =>
  is_errno(e) && (e === EFSCORRUPTED || e === EFSBADCRC || e === EIO);
