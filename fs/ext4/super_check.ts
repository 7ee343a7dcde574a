/**
 * fs/ext4/super_check.ts - reading the superblock and refusing what cannot be right.
 * Linux: fs/ext4/super.c (ext4_load_super ... ext4_check_descriptors). Every check answers with a
 * log line and an Errno: EINVAL for a geometry or feature that cannot be, EBADMSG for a checksum,
 * EUCLEAN for descriptors. Reading order: ext4_fill_super() in super.ts calls these from top to
 * bottom.
 */
import { EFBIG, EFSBADCRC, EFSCORRUPTED, EINVAL, is_errno } from "../../kernel/include/errno.ts";
import { SB_RDONLY, type super_block } from "../../kernel/include/fs.ts";
import { brelse, set_blocksize } from "../buffer.ts";
import {
  ext4_csum_seed,
  ext4_group_desc_csum,
  ext4_group_desc_csum_verify,
  ext4_has_metadata_csum,
  ext4_superblock_csum_verify,
} from "./csum.ts";
import * as M from "./ext4.ts";
import {
  EXT4_MOUNT2_HURD_COMPAT,
  EXT4_MOUNT2_STD_GROUP_SIZE,
  EXT4_SB,
  ext4_block_bitmap,
  ext4_blocks_count,
  ext4_get_group_desc,
  ext4_inode_bitmap,
  ext4_inode_table,
  ext4_msg,
  ext4_sb_bread,
  ext4_warning,
  has_compat,
  has_incompat,
  has_ro_compat,
  KERN_ERR,
  KERN_INFO,
  KERN_WARNING,
  sb_rdonly,
} from "./ext4_fs.ts";
import { descriptor_loc, ext4_bg_num_gdb } from "./groups.ts";

export function bad(sb: super_block, text: string, level = KERN_ERR): never {
  ext4_msg(sb, level, text);
  throw EINVAL;
}

async function sb_set_blocksize(sb: super_block, size: number): Promise<boolean> {
  const disk = sb.s_bdev!.bd_disk;
  if (size > sb.kernel.PAGE_SIZE || size < disk.logical_block_size) return false;
  const p = set_blocksize(sb.s_bdev!, size);
  if (p) await p;
  sb.s_blocksize = size;
  sb.s_blocksize_bits = 31 - Math.clz32(size);
  return true;
}

async function read_super(sb: super_block): Promise<number> {
  const sbi = EXT4_SB(sb);
  const byte = sbi.s_sb_block * 1024;
  const block = Math.floor(byte / sb.s_blocksize);
  sbi.s_sbh = await ext4_sb_bread(sb, block);
  sbi.s_es = M.ext4_super_block.at(sbi.s_sbh.b_data, byte % sb.s_blocksize);
  return block;
}

/** Reads the superblock at its block size; returns the block it is in. */
export async function ext4_load_super(sb: super_block, silent: boolean): Promise<number> {
  const sbi = EXT4_SB(sb);
  const first = Math.max(1024, sb.s_bdev!.bd_disk.logical_block_size);
  if (!(await sb_set_blocksize(sb, first))) bad(sb, "unable to set blocksize");
  let block: number;
  try {
    block = await read_super(sb);
  } catch (e) {
    if (is_errno(e)) ext4_msg(sb, KERN_ERR, "unable to read superblock");
    throw e;
  }
  const es = sbi.s_es;
  sb.s_magic = es.s_magic;
  if (es.s_magic !== M.EXT4_SUPER_MAGIC) {
    if (!silent) ext4_msg(sb, KERN_ERR, "VFS: Can't find ext4 filesystem");
    throw EINVAL;
  }
  if (es.s_log_block_size > M.EXT4_MAX_BLOCK_LOG_SIZE - M.EXT4_MIN_BLOCK_LOG_SIZE) {
    bad(sb, `Invalid log block size: ${es.s_log_block_size}`);
  }
  if (es.s_log_cluster_size > M.EXT4_MAX_CLUSTER_LOG_SIZE - M.EXT4_MIN_BLOCK_LOG_SIZE) {
    bad(sb, `Invalid log cluster size: ${es.s_log_cluster_size}`);
  }
  const blocksize = 1024 << es.s_log_block_size;
  if (blocksize === sb.s_blocksize) return block;
  brelse(sbi.s_sbh);
  if (!(await sb_set_blocksize(sb, blocksize))) bad(sb, `bad block size ${blocksize}`);
  block = await read_super(sb);
  if (sbi.s_es.s_magic !== M.EXT4_SUPER_MAGIC) bad(sb, "Magic mismatch, very weird!");
  return block;
}

export function ext4_init_metadata_csum(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const csum = ext4_has_metadata_csum(es);
  if (csum && has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_GDT_CSUM)) {
    ext4_warning(
      sb,
      "ext4_init_metadata_csum",
      "metadata_csum and uninit_bg are redundant flags; please run fsck.",
    );
  }
  if (csum && es.s_checksum_type !== M.EXT4_CRC32C_CHKSUM) {
    bad(sb, "VFS: Found ext4 filesystem with unknown checksum algorithm.");
  }
  if (csum && !ext4_superblock_csum_verify(sbi.s_sbh.b_data, es._off)) {
    ext4_msg(
      sb,
      KERN_ERR,
      "VFS: Found ext4 filesystem with invalid superblock checksum.  Run e2fsck?",
    );
    throw EFSBADCRC;
  }
  sbi.s_csum_seed = ext4_csum_seed(es);
}

const is_power_of_2 = (n: number): boolean => n > 0 && (n & (n - 1)) === 0;

export function ext4_inode_info_init(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  sb.s_time_gran = 1_000_000_000;
  sb.s_time_min = -(2 ** 31);
  sb.s_time_max = 2 ** 31 - 1;
  if (es.s_rev_level === M.EXT4_GOOD_OLD_REV) {
    sbi.s_inode_size = M.EXT4_GOOD_OLD_INODE_SIZE;
    sbi.s_first_ino = M.EXT4_GOOD_OLD_FIRST_INO;
  } else {
    sbi.s_inode_size = es.s_inode_size;
    sbi.s_first_ino = es.s_first_ino;
    if (sbi.s_first_ino < M.EXT4_GOOD_OLD_FIRST_INO) {
      bad(sb, `invalid first ino: ${sbi.s_first_ino}`);
    }
    const size = sbi.s_inode_size;
    if (size < M.EXT4_GOOD_OLD_INODE_SIZE || !is_power_of_2(size) || size > sb.s_blocksize) {
      ext4_msg(sb, KERN_ERR, `unsupported inode size: ${size}`);
      bad(sb, `blocksize: ${sb.s_blocksize}`);
    }
    // the extra words of the three times are there: nanoseconds, and two more bits of seconds
    if (size >= M.ext4_inode.offsetof("i_atime_extra") + 4) {
      sb.s_time_gran = 1;
      sb.s_time_max = 2 ** 34 - 1 - 2 ** 31;
    }
  }
  if (sbi.s_inode_size <= M.EXT4_GOOD_OLD_INODE_SIZE) return;
  sbi.s_want_extra_isize = M.EXT4_EXTRA_ISIZE;
  if (!has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE)) return;
  const max = sbi.s_inode_size - M.EXT4_GOOD_OLD_INODE_SIZE;
  for (const name of ["s_want_extra_isize", "s_min_extra_isize"] as const) {
    if (es[name] > max) bad(sb, `bad ${name}: ${es[name]}`);
    sbi.s_want_extra_isize = Math.max(sbi.s_want_extra_isize, es[name]);
  }
}

const INCOMPAT_SUPP =
  M.EXT4_FEATURE_INCOMPAT_FILETYPE |
  M.EXT4_FEATURE_INCOMPAT_RECOVER |
  M.EXT4_FEATURE_INCOMPAT_META_BG |
  M.EXT4_FEATURE_INCOMPAT_EXTENTS |
  M.EXT4_FEATURE_INCOMPAT_64BIT |
  M.EXT4_FEATURE_INCOMPAT_FLEX_BG |
  M.EXT4_FEATURE_INCOMPAT_EA_INODE |
  M.EXT4_FEATURE_INCOMPAT_MMP |
  M.EXT4_FEATURE_INCOMPAT_INLINE_DATA |
  M.EXT4_FEATURE_INCOMPAT_ENCRYPT |
  M.EXT4_FEATURE_INCOMPAT_CASEFOLD |
  M.EXT4_FEATURE_INCOMPAT_CSUM_SEED |
  M.EXT4_FEATURE_INCOMPAT_LARGEDIR;
const RO_COMPAT_SUPP =
  M.EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER |
  M.EXT4_FEATURE_RO_COMPAT_LARGE_FILE |
  M.EXT4_FEATURE_RO_COMPAT_GDT_CSUM |
  M.EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
  M.EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE |
  M.EXT4_FEATURE_RO_COMPAT_BTREE_DIR |
  M.EXT4_FEATURE_RO_COMPAT_HUGE_FILE |
  M.EXT4_FEATURE_RO_COMPAT_BIGALLOC |
  M.EXT4_FEATURE_RO_COMPAT_METADATA_CSUM |
  M.EXT4_FEATURE_RO_COMPAT_QUOTA |
  M.EXT4_FEATURE_RO_COMPAT_PROJECT |
  M.EXT4_FEATURE_RO_COMPAT_VERITY |
  M.EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT;
const EXT2_INCOMPAT = M.EXT4_FEATURE_INCOMPAT_FILETYPE | M.EXT4_FEATURE_INCOMPAT_META_BG;
const EXT2_RO_COMPAT =
  M.EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER |
  M.EXT4_FEATURE_RO_COMPAT_LARGE_FILE |
  M.EXT4_FEATURE_RO_COMPAT_BTREE_DIR;

const hex = (n: number) => (n >>> 0).toString(16);

/** Can this kernel mount these features, read-only or read-write? Throws EINVAL with the reason. */
export function ext4_feature_set_ok(sb: super_block, readonly: boolean): void {
  const es = EXT4_SB(sb).s_es;
  const incompat = es.s_feature_incompat & ~INCOMPAT_SUPP;
  if (incompat) {
    bad(sb, `Couldn't mount because of unsupported optional features (${hex(incompat)})`);
  }
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_CASEFOLD)) {
    bad(sb, "Filesystem with casefold feature cannot be mounted without CONFIG_UNICODE");
  }
  if (readonly) return;
  if (has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_READONLY)) {
    ext4_msg(sb, KERN_INFO, "filesystem is read-only");
    sb.s_flags |= SB_RDONLY;
    return;
  }
  const ro = es.s_feature_ro_compat & ~RO_COMPAT_SUPP;
  if (ro) bad(sb, `couldn't mount RDWR because of unsupported optional features (${hex(ro)})`);
  if (has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_BIGALLOC)) {
    if (!has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_EXTENTS)) {
      bad(sb, "Can't support bigalloc feature without extents feature");
    }
    if (es.s_first_data_block) {
      bad(sb, "bad geometry: bigalloc file system with non-zero first_data_block", KERN_WARNING);
    }
  }
  const reason = cannot_write(sb);
  if (reason) bad(sb, `couldn't mount RDWR: ${reason}; mount it read-only (-o ro)`);
}

/** Features that this model reads but does not keep up when writing. */
function cannot_write(sb: super_block): string | null {
  if (has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_QUOTA)) {
    return "the quota files (feature quota) cannot be kept up yet";
  }
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_MMP)) {
    return "multiple mount protection (feature mmp) cannot be written yet";
  }
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_ENCRYPT)) {
    return "encrypted directories (feature encrypt) cannot be written yet";
  }
  if (has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT)) {
    return "the orphan file may hold entries, which cannot be processed yet";
  }
  return null;
}

function as_ext2_or_ext3(sb: super_block, ext3: boolean): void {
  const es = EXT4_SB(sb).s_es;
  const incompat = EXT2_INCOMPAT | (ext3 ? M.EXT4_FEATURE_INCOMPAT_RECOVER : 0);
  let ok = (es.s_feature_incompat & ~incompat) === 0;
  if (!sb_rdonly(sb)) ok &&= (es.s_feature_ro_compat & ~EXT2_RO_COMPAT) === 0;
  if (ext3) ok &&= has_compat(sb, M.EXT4_FEATURE_COMPAT_HAS_JOURNAL);
  const name = ext3 ? "ext3" : "ext2";
  if (!ok) bad(sb, `couldn't mount as ${name} due to feature incompatibilities`);
  ext4_msg(sb, KERN_INFO, `mounting ${name} file system using the ext4 subsystem`);
}

export function ext4_check_feature_compatibility(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const any = es.s_feature_compat || es.s_feature_ro_compat || es.s_feature_incompat;
  if (es.s_rev_level === M.EXT4_GOOD_OLD_REV && any) {
    ext4_msg(sb, KERN_WARNING, "feature flags set on rev 0 fs, running e2fsck is recommended");
  }
  if (es.s_creator_os === M.EXT4_OS_HURD) {
    sbi.s_mount_opt2 |= EXT4_MOUNT2_HURD_COMPAT;
    if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_64BIT)) {
      bad(sb, "The Hurd can't support 64-bit file systems");
    }
    if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_EA_INODE)) {
      bad(sb, "ea_inode feature is not supported for Hurd");
    }
  }
  if (sb.s_type.name === "ext2") as_ext2_or_ext3(sb, false);
  if (sb.s_type.name === "ext3") as_ext2_or_ext3(sb, true);
  ext4_feature_set_ok(sb, sb_rdonly(sb));
  if (es.s_reserved_gdt_blocks > sb.s_blocksize / 4) {
    bad(sb, `Number of reserved GDT blocks insanely large: ${es.s_reserved_gdt_blocks}`);
  }
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_ENCRYPT) && es.s_encryption_level) {
    bad(sb, `Unsupported encryption level ${es.s_encryption_level}`);
  }
}

/** Descriptor size, inodes and blocks per group, hash. */
export function ext4_group_sizes(sb: super_block, silent: boolean): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  sbi.s_desc_size = M.EXT4_MIN_DESC_SIZE;
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_64BIT)) {
    sbi.s_desc_size = es.s_desc_size;
    const ok =
      sbi.s_desc_size >= M.EXT4_MIN_DESC_SIZE_64BIT && sbi.s_desc_size <= M.EXT4_MIN_BLOCK_SIZE;
    if (!ok || !is_power_of_2(sbi.s_desc_size)) {
      bad(sb, `unsupported descriptor size ${sbi.s_desc_size}`);
    }
  }
  sbi.s_blocks_per_group = es.s_blocks_per_group;
  sbi.s_inodes_per_group = es.s_inodes_per_group;
  sbi.s_inodes_per_block = sb.s_blocksize / sbi.s_inode_size;
  if (sbi.s_blocks_per_group === 0) {
    if (!silent) ext4_msg(sb, KERN_ERR, "VFS: Can't find ext4 filesystem");
    throw EINVAL;
  }
  const ipg = sbi.s_inodes_per_group;
  if (ipg < sbi.s_inodes_per_block || ipg > sb.s_blocksize * 8) {
    bad(sb, `invalid inodes per group: ${ipg}`);
  }
  sbi.s_itb_per_group = Math.floor(ipg / sbi.s_inodes_per_block);
  sbi.s_desc_per_block = sb.s_blocksize / sbi.s_desc_size;
  sbi.s_addr_per_block_bits = sb.s_blocksize_bits - 2;
  sbi.s_def_hash_version = es.s_def_hash_version;
  if (sbi.s_def_hash_version > M.DX_HASH_SIPHASH) {
    bad(sb, "Invalid default hash set in the superblock");
  }
  if (sbi.s_def_hash_version === M.DX_HASH_SIPHASH) {
    bad(sb, "SIPHASH is not a valid default hash value");
  }
  sbi.s_hash_seed = es.s_hash_seed;
  if (has_compat(sb, M.EXT4_FEATURE_COMPAT_DIR_INDEX)) {
    if (es.s_flags & M.EXT2_FLAGS_UNSIGNED_HASH) sbi.s_hash_unsigned = 3;
  }
}

export function ext4_handle_clustersize(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const clustersize = 1024 * 2 ** es.s_log_cluster_size;
  if (has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_BIGALLOC)) {
    if (clustersize < sb.s_blocksize) {
      bad(sb, `cluster size (${clustersize}) smaller than block size (${sb.s_blocksize})`);
    }
    sbi.s_cluster_bits = es.s_log_cluster_size - es.s_log_block_size;
    sbi.s_clusters_per_group = es.s_clusters_per_group;
    if (sbi.s_clusters_per_group > sb.s_blocksize * 8) {
      bad(sb, `#clusters per group too big: ${sbi.s_clusters_per_group}`);
    }
    const ratio = clustersize / sb.s_blocksize;
    if (sbi.s_blocks_per_group !== sbi.s_clusters_per_group * ratio) {
      bad(
        sb,
        `blocks per group (${sbi.s_blocks_per_group}) and clusters per group ` +
          `(${sbi.s_clusters_per_group}) inconsistent`,
      );
    }
  } else {
    if (clustersize !== sb.s_blocksize) {
      bad(sb, `fragment/cluster size (${clustersize}) != block size (${sb.s_blocksize})`);
    }
    if (sbi.s_blocks_per_group > sb.s_blocksize * 8) {
      bad(sb, `#blocks per group too big: ${sbi.s_blocks_per_group}`);
    }
    sbi.s_clusters_per_group = sbi.s_blocks_per_group;
    sbi.s_cluster_bits = 0;
  }
  sbi.s_cluster_ratio = clustersize / sb.s_blocksize;
  if (sbi.s_blocks_per_group === clustersize * 8) {
    sbi.s_mount_opt2 |= EXT4_MOUNT2_STD_GROUP_SIZE;
  }
}

const TWO32 = 2 ** 32;

export function ext4_geometry_check(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const count = ext4_blocks_count(es);
  if (count > Number.MAX_SAFE_INTEGER / sb.s_blocksize) {
    ext4_msg(sb, KERN_ERR, "filesystem too large to mount safely on this system");
    throw EFBIG;
  }
  const device = Math.floor((sb.s_bdev!.bd_nr_sectors * 512) / sb.s_blocksize);
  if (device && count > device) {
    bad(
      sb,
      `bad geometry: block count ${count} exceeds size of device (${device} blocks)`,
      KERN_WARNING,
    );
  }
  const first = es.s_first_data_block;
  if (first >= count) {
    bad(
      sb,
      `bad geometry: first data block ${first} is beyond end of filesystem (${count})`,
      KERN_WARNING,
    );
  }
  if (first === 0 && es.s_log_block_size === 0 && sbi.s_cluster_ratio === 1) {
    bad(sb, "bad geometry: first data block is 0 with a 1k block and cluster size", KERN_WARNING);
  }
  const groups = Math.ceil((count - first) / sbi.s_blocks_per_group);
  if (groups > TWO32 - sbi.s_desc_per_block) {
    bad(
      sb,
      `groups count too large: ${groups} (block count ${count}, first data block ${first}, ` +
        `blocks per group ${sbi.s_blocks_per_group})`,
      KERN_WARNING,
    );
  }
  sbi.s_groups_count = groups;
  sbi.s_blockfile_groups = Math.min(groups, Math.floor(TWO32 / sbi.s_blocks_per_group));
  if (groups * sbi.s_inodes_per_group !== es.s_inodes_count) {
    bad(sb, `inodes count not valid: ${es.s_inodes_count} vs ${groups * sbi.s_inodes_per_group}`);
  }
}

/** Reads and checks all group descriptors. `sb_block` is the block of the superblock. */
export async function ext4_group_desc_init(sb: super_block, sb_block: number): Promise<void> {
  const sbi = EXT4_SB(sb);
  const db_count = Math.ceil(sbi.s_groups_count / sbi.s_desc_per_block);
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_META_BG)) {
    const first = sbi.s_es.s_first_meta_bg;
    if (first > db_count) {
      bad(
        sb,
        `first meta block group too large: ${first} (group descriptor block count ${db_count})`,
        KERN_WARNING,
      );
    }
  }
  for (let i = 0; i < db_count; i++) {
    try {
      sbi.s_group_desc.push(await ext4_sb_bread(sb, descriptor_loc(sb, sb_block, i)));
    } catch (e) {
      if (is_errno(e)) ext4_msg(sb, KERN_ERR, `can't read group descriptor ${i}`);
      throw e;
    }
  }
  sbi.s_gdb_count = db_count;
  if (!check_descriptors(sb, sb_block)) {
    ext4_msg(sb, KERN_ERR, "group descriptors corrupted!");
    throw EFSCORRUPTED;
  }
}

/** One of the three places a descriptor names; false when it is outside or on top of others. */
function check_place(
  sb: super_block,
  what: string,
  group: number,
  block: number,
  count: number,
  range: { first: number; last: number; sb_block: number; last_gdb: number },
): boolean {
  const say = (text: string) =>
    ext4_msg(sb, KERN_ERR, `ext4_check_descriptors: ${what} for group ${group} ${text}`);
  if (block === range.sb_block) {
    say("overlaps superblock");
    if (!sb_rdonly(sb)) return false;
  }
  if (block >= range.sb_block + 1 && block <= range.last_gdb) {
    say("overlaps block group descriptors");
    if (!sb_rdonly(sb)) return false;
  }
  if (block < range.first || block + count - 1 > range.last) {
    say(`not in group (block ${block})!`);
    return false;
  }
  return true;
}

function check_descriptors(sb: super_block, sb_block: number): boolean {
  const sbi = EXT4_SB(sb);
  const flex = has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_FLEX_BG);
  const last = ext4_blocks_count(sbi.s_es) - 1;
  const range = {
    first: sbi.s_es.s_first_data_block,
    last,
    sb_block,
    last_gdb: sb_block + ext4_bg_num_gdb(sb, 0),
  };
  for (let i = 0; i < sbi.s_groups_count; i++) {
    const d = ext4_get_group_desc(sb, i)!;
    range.last =
      i === sbi.s_groups_count - 1 || flex ? last : range.first + sbi.s_blocks_per_group - 1;
    if (
      !check_place(sb, "Block bitmap", i, ext4_block_bitmap(sb, d), 1, range) ||
      !check_place(sb, "Inode bitmap", i, ext4_inode_bitmap(sb, d), 1, range) ||
      !check_place(sb, "Inode table", i, ext4_inode_table(sb, d), sbi.s_itb_per_group, range)
    ) {
      return false;
    }
    if (!ext4_verify_group_desc(sb, i, "ext4_check_descriptors") && !sb_rdonly(sb)) return false;
    if (!flex) range.first += sbi.s_blocks_per_group;
  }
  return true;
}

/** Checks a descriptor's checksum; a wrong one is logged in the name of `fn`. */
export function ext4_verify_group_desc(sb: super_block, group: number, fn: string): boolean {
  const sbi = EXT4_SB(sb);
  const d = ext4_get_group_desc(sb, group)!;
  const b = sbi.s_group_desc[Math.floor(group / sbi.s_desc_per_block)]!.b_data;
  const seed = sbi.s_csum_seed;
  const size = sbi.s_desc_size;
  if (ext4_group_desc_csum_verify(sbi.s_es, seed, group, b, d._off, size)) return true;
  const want = ext4_group_desc_csum(sbi.s_es, seed, group, b, d._off, size);
  ext4_msg(sb, KERN_ERR, `${fn}: Checksum for group ${group} failed (${want}!=${d.bg_checksum})`);
  return false;
}
