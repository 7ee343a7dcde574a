/**
 * tools/cmd/mke2fs/geometry.ts - how big everything gets: groups, inodes per group, reserved
 * descriptor blocks; and an empty filsys of that shape with its superblocks and descriptors
 * reserved.
 *
 * What is too small at the end of the device to hold a group's own metadata is cut off, and the
 * arithmetic starts again: that is why reset_size() and the loop exist.
 */

import {
  EXT2_FLAGS_SIGNED_HASH,
  EXT4_BG_BLOCK_UNINIT,
  EXT4_BG_INODE_UNINIT,
  EXT4_DYNAMIC_REV,
  EXT4_ERRORS_CONTINUE,
  EXT4_EXTRA_ISIZE,
  EXT4_FEATURE_COMPAT_RESIZE_INODE,
  EXT4_FEATURE_COMPAT_SPARSE_SUPER2,
  EXT4_FEATURE_INCOMPAT_64BIT,
  EXT4_FEATURE_INCOMPAT_META_BG,
  EXT4_FEATURE_RO_COMPAT_BIGALLOC,
  EXT4_GOOD_OLD_FIRST_INO,
  EXT4_GOOD_OLD_INODE_SIZE,
  EXT4_SUPER_MAGIC,
  EXT4_VALID_FS,
} from "../../../fs/ext4/ext4.ts";
import { ext2_filsys, Mke2fsError } from "./filsys.ts";
import type { mke2fs_param } from "./options.ts";

const MAX_32_NUM = 0xffffffff;

const log2 = (n: number): number => Math.round(Math.log2(n));

function setting_up(problem: string): Mke2fsError {
  return new Mke2fsError(`${problem} while setting up superblock`);
}

function set_block_count(fs: ext2_filsys, blocks: number): void {
  fs.blocks_count = blocks;
  fs.es.s_blocks_count_lo = blocks % 2 ** 32;
  fs.es.s_blocks_count_hi = Math.floor(blocks / 2 ** 32);
}
function set_reserved(fs: ext2_filsys, blocks: number): void {
  fs.es.s_r_blocks_count_lo = blocks % 2 ** 32;
  fs.es.s_r_blocks_count_hi = Math.floor(blocks / 2 ** 32);
}

function fill_fixed_fields(fs: ext2_filsys, p: mke2fs_param): void {
  const { es } = fs;
  es.s_magic = EXT4_SUPER_MAGIC;
  es.s_state = EXT4_VALID_FS;
  es.s_log_block_size = log2(p.blocksize) - 10;
  es.s_log_cluster_size = log2(p.cluster_size) - 10;
  fs.blocksize = p.blocksize;
  fs.cluster_ratio = p.cluster_size / p.blocksize;
  es.s_first_data_block = es.s_log_cluster_size === 0 ? 1 : 0;
  es.s_max_mnt_count = 0xffff;
  es.s_errors = p.errors_behavior ?? EXT4_ERRORS_CONTINUE;
  es.s_feature_compat = p.features.compat;
  es.s_feature_incompat = p.features.incompat;
  es.s_feature_ro_compat = p.features.ro_compat;
  es.s_default_mount_opts = p.default_mount_opts;
  es.s_first_meta_bg = p.first_meta_bg;
  es.s_raid_stride = p.raid_stride;
  es.s_raid_stripe_width = p.raid_stripe_width;
  es.s_log_groups_per_flex = p.log_groups_per_flex;
  es.s_flags = p.flags | EXT2_FLAGS_SIGNED_HASH;
  es.s_backup_bgs = p.backup_bgs;
  es.s_encoding = p.encoding;
  es.s_encoding_flags = p.encoding_flags;
  es.s_rev_level = p.rev_level;
  es.s_first_ino = EXT4_GOOD_OLD_FIRST_INO;
  es.s_inode_size = p.inode_size;
  if (p.rev_level >= EXT4_DYNAMIC_REV && p.inode_size > EXT4_GOOD_OLD_INODE_SIZE) {
    es.s_min_extra_isize = EXT4_EXTRA_ISIZE;
    es.s_want_extra_isize = EXT4_EXTRA_ISIZE;
  }
  es.s_mkfs_time = es.s_lastcheck = fs.now % 2 ** 32;
  es.s_mkfs_time_hi = es.s_lastcheck_hi = Math.floor(fs.now / 2 ** 32);
  es.s_creator_os = p.creator_os;
  es.s_mmp_update_interval = p.mmp_update_interval;
}

function set_group_size(fs: ext2_filsys, p: mke2fs_param): void {
  const { es } = fs;
  if (fs.has("ro_compat", EXT4_FEATURE_RO_COMPAT_BIGALLOC)) {
    const standard = es.s_log_cluster_size + 15 < 32 ? p.blocksize * 8 : (p.blocksize - 1) * 8;
    const clusters = p.clusters_per_group || standard;
    // a group's number of blocks has 32 bits, and the descriptor counts clusters in 16
    es.s_clusters_per_group = Math.min(clusters, 65528);
    es.s_blocks_per_group = es.s_clusters_per_group * fs.cluster_ratio;
    return;
  }
  es.s_blocks_per_group = Math.min(p.blocks_per_group || p.blocksize * 8, 65528);
  es.s_clusters_per_group = es.s_blocks_per_group;
}

/**
 * How many descriptor blocks to keep free so that the filesystem can grow to 1024 times its size.
 */
function calc_reserved_gdt_blocks(fs: ext2_filsys, p: mke2fs_param): number {
  if (!fs.has("compat", EXT4_FEATURE_COMPAT_RESIZE_INODE)) return 0;
  if (p.reserved_gdt_blocks !== undefined) return p.reserved_gdt_blocks;
  const most = Math.floor(MAX_32_NUM / 1024);
  const target = fs.blocks_count < most ? fs.blocks_count * 1024 : MAX_32_NUM;
  const groups = Math.ceil((target - fs.es.s_first_data_block) / fs.es.s_blocks_per_group);
  const wanted = Math.ceil(groups / fs.desc_per_block) - fs.desc_blocks;
  return Math.min(wanted, fs.blocksize / 4);
}

/** Fills whole inode table blocks, in multiples of eight. */
function set_inodes_per_group(fs: ext2_filsys, wanted: number): void {
  const { es } = fs;
  for (let ipg = wanted; ; ipg--) {
    const blocks = Math.ceil((ipg * es.s_inode_size) / fs.blocksize);
    const filled = Math.floor((blocks * fs.blocksize) / es.s_inode_size);
    const even = Math.max(8, filled);
    es.s_inodes_per_group = even - (even % 8);
    fs.inode_blocks_per_group = Math.ceil((es.s_inodes_per_group * es.s_inode_size) / fs.blocksize);
    if (es.s_inodes_per_group * fs.group_desc_count <= MAX_32_NUM) break;
  }
  es.s_inodes_count = es.s_inodes_per_group * fs.group_desc_count;
  es.s_free_inodes_count = es.s_inodes_count;
}

function last_group_has_super(fs: ext2_filsys, p: mke2fs_param): boolean {
  if (!fs.has("compat", EXT4_FEATURE_COMPAT_SPARSE_SUPER2)) {
    return fs.bg_has_super(fs.group_desc_count - 1);
  }
  // the places of the backups are settled only when the number of groups is
  return p.backup_bgs[fs.group_desc_count === 2 ? 0 : 1] !== 0;
}

/** One attempt; false when the size was changed and all has to be computed again. */
function try_geometry(fs: ext2_filsys, p: mke2fs_param): boolean {
  const { es } = fs;
  const bigalloc = fs.has("ro_compat", EXT4_FEATURE_RO_COMPAT_BIGALLOC);
  const bpg = es.s_blocks_per_group;
  fs.group_desc_count = Math.ceil((fs.blocks_count - es.s_first_data_block) / bpg);
  if (fs.group_desc_count <= 0) throw setting_up("Filesystem too small");
  fs.desc_size = p.desc_size || 32;
  es.s_desc_size = p.desc_size;
  fs.desc_blocks = Math.ceil(fs.group_desc_count / fs.desc_per_block);

  const least = EXT4_GOOD_OLD_FIRST_INO + 1;
  const inodes = p.inodes_count || Math.floor(fs.blocks_count / Math.max(1, 4096 / fs.blocksize));
  const ipg = Math.ceil(Math.max(least, inodes) / fs.group_desc_count);
  if (ipg > fs.blocksize * 8) {
    if (bigalloc || bpg < 256) throw setting_up("Cannot create filesystem: too many inodes");
    es.s_blocks_per_group = es.s_clusters_per_group = bpg - 8;
    set_block_count(fs, p.blocks_count);
    return false;
  }
  const most = Math.min(65536 - fs.blocksize / es.s_inode_size, fs.blocksize * 8);
  set_inodes_per_group(fs, Math.min(ipg, most));

  es.s_reserved_gdt_blocks = calc_reserved_gdt_blocks(fs, p);
  if (es.s_reserved_gdt_blocks > fs.blocksize / 4) {
    throw setting_up("Too many reserved group descriptor blocks");
  }
  // descriptors that would eat most of a group go to meta groups instead
  if (es.s_reserved_gdt_blocks + fs.desc_blocks > (bpg * 3) / 4) {
    es.s_feature_incompat |= EXT4_FEATURE_INCOMPAT_META_BG;
    es.s_feature_compat &= ~EXT4_FEATURE_COMPAT_RESIZE_INODE;
    es.s_reserved_gdt_blocks = 0;
  }
  return check_last_group(fs, p);
}

function check_last_group(fs: ext2_filsys, p: mke2fs_param): boolean {
  const { es } = fs;
  const bpg = es.s_blocks_per_group;
  const meta_bg = fs.has("incompat", EXT4_FEATURE_INCOMPAT_META_BG);
  const bgd = es.s_reserved_gdt_blocks + fs.desc_blocks;
  const full = 3 + fs.inode_blocks_per_group + (meta_bg ? es.s_reserved_gdt_blocks + 1 : bgd);
  if (full > bpg) throw setting_up("Cannot create filesystem: too many inodes");
  let overhead = 2 + fs.inode_blocks_per_group;
  if (last_group_has_super(fs, p)) overhead += 1 + bgd;
  const rem = (fs.blocks_count - es.s_first_data_block) % bpg;
  if (fs.group_desc_count === 1 && rem && rem < overhead) {
    throw setting_up("Filesystem too small");
  }
  if (rem === 0 || rem >= overhead + 50) return true;
  set_block_count(fs, fs.blocks_count - rem);
  set_reserved(fs, Math.floor((p.r_blocks_count / p.blocks_count) * fs.blocks_count));
  return false;
}

/** sparse_super2: the two groups that hold backups, in order, inside the filesystem. */
function settle_backup_bgs(fs: ext2_filsys): void {
  const last = fs.group_desc_count - 1;
  let [a, b] = fs.es.s_backup_bgs.map((g) => Math.min(g, last)) as [number, number];
  if (a === b) b = 0;
  if (a > b) [a, b] = [b, a];
  fs.es.s_backup_bgs = [a, b];
}

function reserve_super_and_bgd(fs: ext2_filsys, group: number): void {
  const { super_blk, desc_blk, desc_count } = fs.super_and_bgd_loc(group);
  if (super_blk >= 0) fs.mark_range(super_blk, 1);
  if (group === 0 && fs.blocksize === 1024 && fs.cluster_ratio > 1) fs.mark_range(0, 1);
  if (desc_count > 0) fs.mark_range(desc_blk, desc_count);
}

function init_groups(fs: ext2_filsys): void {
  const { es } = fs;
  const ipg = es.s_inodes_per_group;
  let reserved = es.s_first_ino;
  for (let g = 0; g < fs.group_desc_count; g++) {
    reserve_super_and_bgd(fs, g);
    if (!fs.has_group_csum) continue;
    const gdp = fs.desc(g);
    // the last group's bitmap is padded, and so has to be written
    gdp.bg_flags = EXT4_BG_INODE_UNINIT;
    if (g !== fs.group_desc_count - 1) gdp.bg_flags |= EXT4_BG_BLOCK_UNINIT;
    const here = Math.min(reserved, ipg);
    gdp.bg_itable_unused_lo = ipg - here;
    reserved -= here;
  }
}

/** The filesystem's shape, with empty bitmaps but for superblocks and descriptors. */
export function ext2fs_initialize(p: mke2fs_param, now: number): ext2_filsys {
  const fs = new ext2_filsys(now);
  fill_fixed_fields(fs, p);
  set_group_size(fs, p);
  set_block_count(fs, p.blocks_count - (p.blocks_count % fs.cluster_ratio));
  set_reserved(fs, p.r_blocks_count);
  if (p.r_blocks_count >= p.blocks_count) throw setting_up("Invalid argument");
  while (!try_geometry(fs, p));
  if (fs.has("compat", EXT4_FEATURE_COMPAT_SPARSE_SUPER2)) settle_backup_bgs(fs);
  if (!fs.has("incompat", EXT4_FEATURE_INCOMPAT_64BIT)) es_without_hi(fs);
  fs.gdt = new Uint8Array(fs.desc_blocks * fs.blocksize);
  fs.block_map = new Uint8Array(Math.ceil(fs.blocks_count / 8) + 1);
  fs.inode_map = new Uint8Array(fs.es.s_inodes_count / 8);
  init_groups(fs);
  return fs;
}

function es_without_hi(fs: ext2_filsys): void {
  if (fs.es.s_blocks_count_hi === 0) return;
  throw setting_up("Filesystem too large without the 64bit feature");
}
