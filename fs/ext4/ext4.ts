/**
 * fs/ext4/ext4.ts - the on-media format of ext2, ext3 and ext4: structs, constants, feature flags.
 * Linux: fs/ext4/ext4.h, ext4_extents.h, xattr.h, fast_commit.h. Facts from the format's
 * documentation and from the recorded images (tests/fs/ext4/format.test.ts reads every one of them
 * through this file).
 *
 * Members keep the kernel's names; unions are flattened to the Linux variant (l_i_uid_high is
 * i_uid_high). All integers are little-endian. Offsets and sizes are bytes.
 */

import { array, bytes, struct, u8, u16, u32, u64 } from "../../kernel/lib/struct.ts";

// --- superblock and group descriptors ---------------------------------------------------------

export const EXT4_SUPER_MAGIC = 0xef53;
/** Byte offset of the primary superblock, and its size. */
export const EXT4_SB_OFFSET = 1024;
export const EXT4_SB_SIZE = 1024;
export const EXT4_MIN_BLOCK_SIZE = 1024;
export const EXT4_MAX_BLOCK_SIZE = 65536;
export const EXT4_MIN_BLOCK_LOG_SIZE = 10;
export const EXT4_MAX_BLOCK_LOG_SIZE = 16;
export const EXT4_MAX_CLUSTER_LOG_SIZE = 30;
export const EXT4_LABEL_MAX = 16;
export const EXT4_LINK_MAX = 65000;
export const EXT4_NAME_LEN = 255;

/** The superblock: 1024 bytes at byte 1024 of the device, copies at the start of backup groups. */
export const ext4_super_block = struct("ext4_super_block", {
  s_inodes_count: [u32, 0x00],
  s_blocks_count_lo: [u32, 0x04],
  s_r_blocks_count_lo: [u32, 0x08],
  s_free_blocks_count_lo: [u32, 0x0c],
  s_free_inodes_count: [u32, 0x10],
  s_first_data_block: [u32, 0x14],
  s_log_block_size: [u32, 0x18], // block size is 1024 << this
  s_log_cluster_size: [u32, 0x1c],
  s_blocks_per_group: [u32, 0x20],
  s_clusters_per_group: [u32, 0x24],
  s_inodes_per_group: [u32, 0x28],
  s_mtime: [u32, 0x2c],
  s_wtime: [u32, 0x30],
  s_mnt_count: [u16, 0x34],
  s_max_mnt_count: [u16, 0x36],
  s_magic: [u16, 0x38],
  s_state: [u16, 0x3a],
  s_errors: [u16, 0x3c],
  s_minor_rev_level: [u16, 0x3e],
  s_lastcheck: [u32, 0x40],
  s_checkinterval: [u32, 0x44],
  s_creator_os: [u32, 0x48],
  s_rev_level: [u32, 0x4c],
  s_def_resuid: [u16, 0x50],
  s_def_resgid: [u16, 0x52],
  s_first_ino: [u32, 0x54],
  s_inode_size: [u16, 0x58],
  s_block_group_nr: [u16, 0x5a], // the group that this copy is in
  s_feature_compat: [u32, 0x5c],
  s_feature_incompat: [u32, 0x60],
  s_feature_ro_compat: [u32, 0x64],
  s_uuid: [bytes(16), 0x68],
  s_volume_name: [bytes(16), 0x78],
  s_last_mounted: [bytes(64), 0x88],
  s_algorithm_usage_bitmap: [u32, 0xc8],
  s_prealloc_blocks: [u8, 0xcc],
  s_prealloc_dir_blocks: [u8, 0xcd],
  s_reserved_gdt_blocks: [u16, 0xce],
  s_journal_uuid: [bytes(16), 0xd0],
  s_journal_inum: [u32, 0xe0],
  s_journal_dev: [u32, 0xe4],
  s_last_orphan: [u32, 0xe8],
  s_hash_seed: [array(u32, 4), 0xec],
  s_def_hash_version: [u8, 0xfc],
  s_jnl_backup_type: [u8, 0xfd],
  s_desc_size: [u16, 0xfe],
  s_default_mount_opts: [u32, 0x100],
  s_first_meta_bg: [u32, 0x104],
  s_mkfs_time: [u32, 0x108],
  s_jnl_blocks: [array(u32, 17), 0x10c], // the journal inode's i_block, i_size_high, i_size_lo
  s_blocks_count_hi: [u32, 0x150],
  s_r_blocks_count_hi: [u32, 0x154],
  s_free_blocks_count_hi: [u32, 0x158],
  s_min_extra_isize: [u16, 0x15c],
  s_want_extra_isize: [u16, 0x15e],
  s_flags: [u32, 0x160],
  s_raid_stride: [u16, 0x164],
  s_mmp_update_interval: [u16, 0x166],
  s_mmp_block: [u64, 0x168],
  s_raid_stripe_width: [u32, 0x170],
  s_log_groups_per_flex: [u8, 0x174],
  s_checksum_type: [u8, 0x175],
  s_encryption_level: [u8, 0x176],
  s_reserved_pad: [u8, 0x177],
  s_kbytes_written: [u64, 0x178],
  s_snapshot_inum: [u32, 0x180],
  s_snapshot_id: [u32, 0x184],
  s_snapshot_r_blocks_count: [u64, 0x188],
  s_snapshot_list: [u32, 0x190],
  s_error_count: [u32, 0x194],
  s_first_error_time: [u32, 0x198],
  s_first_error_ino: [u32, 0x19c],
  s_first_error_block: [u64, 0x1a0],
  s_first_error_func: [bytes(32), 0x1a8],
  s_first_error_line: [u32, 0x1c8],
  s_last_error_time: [u32, 0x1cc],
  s_last_error_ino: [u32, 0x1d0],
  s_last_error_line: [u32, 0x1d4],
  s_last_error_block: [u64, 0x1d8],
  s_last_error_func: [bytes(32), 0x1e0],
  s_mount_opts: [bytes(64), 0x200],
  s_usr_quota_inum: [u32, 0x240],
  s_grp_quota_inum: [u32, 0x244],
  s_overhead_clusters: [u32, 0x248],
  s_backup_bgs: [array(u32, 2), 0x24c],
  s_encrypt_algos: [bytes(4), 0x254],
  s_encrypt_pw_salt: [bytes(16), 0x258],
  s_lpf_ino: [u32, 0x268],
  s_prj_quota_inum: [u32, 0x26c],
  s_checksum_seed: [u32, 0x270],
  s_wtime_hi: [u8, 0x274],
  s_mtime_hi: [u8, 0x275],
  s_mkfs_time_hi: [u8, 0x276],
  s_lastcheck_hi: [u8, 0x277],
  s_first_error_time_hi: [u8, 0x278],
  s_last_error_time_hi: [u8, 0x279],
  s_first_error_errcode: [u8, 0x27a],
  s_last_error_errcode: [u8, 0x27b],
  s_encoding: [u16, 0x27c],
  s_encoding_flags: [u16, 0x27e],
  s_orphan_file_inum: [u32, 0x280],
  s_checksum: [u32, 0x3fc],
});

/** A group descriptor: s_desc_size bytes with 64bit, else the first 32. */
export const ext4_group_desc = struct("ext4_group_desc", {
  bg_block_bitmap_lo: [u32, 0x00],
  bg_inode_bitmap_lo: [u32, 0x04],
  bg_inode_table_lo: [u32, 0x08],
  bg_free_blocks_count_lo: [u16, 0x0c],
  bg_free_inodes_count_lo: [u16, 0x0e],
  bg_used_dirs_count_lo: [u16, 0x10],
  bg_flags: [u16, 0x12],
  bg_exclude_bitmap_lo: [u32, 0x14],
  bg_block_bitmap_csum_lo: [u16, 0x18],
  bg_inode_bitmap_csum_lo: [u16, 0x1a],
  bg_itable_unused_lo: [u16, 0x1c],
  bg_checksum: [u16, 0x1e],
  bg_block_bitmap_hi: [u32, 0x20],
  bg_inode_bitmap_hi: [u32, 0x24],
  bg_inode_table_hi: [u32, 0x28],
  bg_free_blocks_count_hi: [u16, 0x2c],
  bg_free_inodes_count_hi: [u16, 0x2e],
  bg_used_dirs_count_hi: [u16, 0x30],
  bg_itable_unused_hi: [u16, 0x32],
  bg_exclude_bitmap_hi: [u32, 0x34],
  bg_block_bitmap_csum_hi: [u16, 0x38],
  bg_inode_bitmap_csum_hi: [u16, 0x3a],
  bg_reserved: [u32, 0x3c],
});

/** Size of a group descriptor without and with the 64bit feature. */
export const EXT4_MIN_DESC_SIZE = 32;
export const EXT4_MIN_DESC_SIZE_64BIT = 64;

/** bg_flags */
export const EXT4_BG_INODE_UNINIT = 0x0001; // inode bitmap and table not in use
export const EXT4_BG_BLOCK_UNINIT = 0x0002; // block bitmap not written: computed when needed
export const EXT4_BG_INODE_ZEROED = 0x0004; // the inode table has been zeroed

/** s_state */
export const EXT4_VALID_FS = 0x0001; // cleanly unmounted
export const EXT4_ERROR_FS = 0x0002;
export const EXT4_ORPHAN_FS = 0x0004; // orphans being recovered
export const EXT4_FC_REPLAY = 0x0020; // fast commit replay ongoing

/** s_flags */
export const EXT2_FLAGS_SIGNED_HASH = 0x0001;
export const EXT2_FLAGS_UNSIGNED_HASH = 0x0002;
export const EXT2_FLAGS_TEST_FILESYS = 0x0004;

/** s_errors */
export const EXT4_ERRORS_CONTINUE = 1;
export const EXT4_ERRORS_RO = 2;
export const EXT4_ERRORS_PANIC = 3;

/** s_creator_os, s_rev_level, s_checksum_type, s_jnl_backup_type */
export const EXT4_OS_LINUX = 0;
export const EXT4_OS_HURD = 1;
export const EXT4_OS_MASIX = 2;
export const EXT4_OS_FREEBSD = 3;
export const EXT4_OS_LITES = 4;
export const EXT4_GOOD_OLD_REV = 0;
export const EXT4_DYNAMIC_REV = 1;
export const EXT4_CRC32C_CHKSUM = 1;
export const EXT3_JNL_BACKUP_BLOCKS = 1;

/** s_default_mount_opts */
export const EXT4_DEFM_DEBUG = 0x0001;
export const EXT4_DEFM_BSDGROUPS = 0x0002;
export const EXT4_DEFM_XATTR_USER = 0x0004;
export const EXT4_DEFM_ACL = 0x0008;
export const EXT4_DEFM_UID16 = 0x0010;
export const EXT4_DEFM_JMODE = 0x0060;
export const EXT4_DEFM_JMODE_DATA = 0x0020;
export const EXT4_DEFM_JMODE_ORDERED = 0x0040;
export const EXT4_DEFM_JMODE_WBACK = 0x0060;
export const EXT4_DEFM_NOBARRIER = 0x0100;
export const EXT4_DEFM_BLOCK_VALIDITY = 0x0200;
export const EXT4_DEFM_DISCARD = 0x0400;
export const EXT4_DEFM_NODELALLOC = 0x0800;

/** s_feature_compat */
export const EXT4_FEATURE_COMPAT_DIR_PREALLOC = 0x0001;
export const EXT4_FEATURE_COMPAT_IMAGIC_INODES = 0x0002;
export const EXT4_FEATURE_COMPAT_HAS_JOURNAL = 0x0004;
export const EXT4_FEATURE_COMPAT_EXT_ATTR = 0x0008;
export const EXT4_FEATURE_COMPAT_RESIZE_INODE = 0x0010;
export const EXT4_FEATURE_COMPAT_DIR_INDEX = 0x0020;
export const EXT4_FEATURE_COMPAT_SPARSE_SUPER2 = 0x0200;
export const EXT4_FEATURE_COMPAT_FAST_COMMIT = 0x0400;
export const EXT4_FEATURE_COMPAT_STABLE_INODES = 0x0800;
export const EXT4_FEATURE_COMPAT_ORPHAN_FILE = 0x1000;

/** s_feature_ro_compat */
export const EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER = 0x0001;
export const EXT4_FEATURE_RO_COMPAT_LARGE_FILE = 0x0002;
export const EXT4_FEATURE_RO_COMPAT_BTREE_DIR = 0x0004;
export const EXT4_FEATURE_RO_COMPAT_HUGE_FILE = 0x0008;
export const EXT4_FEATURE_RO_COMPAT_GDT_CSUM = 0x0010; // also called uninit_bg
export const EXT4_FEATURE_RO_COMPAT_DIR_NLINK = 0x0020;
export const EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE = 0x0040;
export const EXT4_FEATURE_RO_COMPAT_QUOTA = 0x0100;
export const EXT4_FEATURE_RO_COMPAT_BIGALLOC = 0x0200;
export const EXT4_FEATURE_RO_COMPAT_METADATA_CSUM = 0x0400;
export const EXT4_FEATURE_RO_COMPAT_READONLY = 0x1000;
export const EXT4_FEATURE_RO_COMPAT_PROJECT = 0x2000;
export const EXT4_FEATURE_RO_COMPAT_VERITY = 0x8000;
export const EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT = 0x10000; // the orphan file may hold entries

/** s_feature_incompat */
export const EXT4_FEATURE_INCOMPAT_COMPRESSION = 0x0001;
export const EXT4_FEATURE_INCOMPAT_FILETYPE = 0x0002;
export const EXT4_FEATURE_INCOMPAT_RECOVER = 0x0004; // the journal must be replayed
export const EXT4_FEATURE_INCOMPAT_JOURNAL_DEV = 0x0008;
export const EXT4_FEATURE_INCOMPAT_META_BG = 0x0010;
export const EXT4_FEATURE_INCOMPAT_EXTENTS = 0x0040;
export const EXT4_FEATURE_INCOMPAT_64BIT = 0x0080;
export const EXT4_FEATURE_INCOMPAT_MMP = 0x0100;
export const EXT4_FEATURE_INCOMPAT_FLEX_BG = 0x0200;
export const EXT4_FEATURE_INCOMPAT_EA_INODE = 0x0400; // attribute values in inodes of their own
export const EXT4_FEATURE_INCOMPAT_DIRDATA = 0x1000;
export const EXT4_FEATURE_INCOMPAT_CSUM_SEED = 0x2000; // s_checksum_seed, not the uuid
export const EXT4_FEATURE_INCOMPAT_LARGEDIR = 0x4000; // more than 2 GiB or a three-level tree
export const EXT4_FEATURE_INCOMPAT_INLINE_DATA = 0x8000;
export const EXT4_FEATURE_INCOMPAT_ENCRYPT = 0x10000;
export const EXT4_FEATURE_INCOMPAT_CASEFOLD = 0x20000;

// --- inodes -----------------------------------------------------------------------------------

/** An inode: s_inode_size bytes apart; what is behind i_block of a 128-byte one ends at 0x80. */
export const ext4_inode = struct("ext4_inode", {
  i_mode: [u16, 0x00],
  i_uid: [u16, 0x02], // i_uid_high is in the Linux part
  i_size_lo: [u32, 0x04],
  i_atime: [u32, 0x08],
  i_ctime: [u32, 0x0c],
  i_mtime: [u32, 0x10],
  i_dtime: [u32, 0x14],
  i_gid: [u16, 0x18],
  i_links_count: [u16, 0x1a],
  i_blocks_lo: [u32, 0x1c],
  i_flags: [u32, 0x20],
  i_disk_version: [u32, 0x24], // osd1.linux1.l_i_version
  i_block: [bytes(60), 0x28],
  i_generation: [u32, 0x64],
  i_file_acl_lo: [u32, 0x68],
  i_size_high: [u32, 0x6c],
  i_obso_faddr: [u32, 0x70],
  i_blocks_high: [u16, 0x74], // osd2.linux2 from here
  i_file_acl_high: [u16, 0x76],
  i_uid_high: [u16, 0x78],
  i_gid_high: [u16, 0x7a],
  i_checksum_lo: [u16, 0x7c],
  i_reserved: [u16, 0x7e],
  i_extra_isize: [u16, 0x80], // here the 128-byte inode ends
  i_checksum_hi: [u16, 0x82],
  i_ctime_extra: [u32, 0x84],
  i_mtime_extra: [u32, 0x88],
  i_atime_extra: [u32, 0x8c],
  i_crtime: [u32, 0x90],
  i_crtime_extra: [u32, 0x94],
  i_version_hi: [u32, 0x98],
  i_projid: [u32, 0x9c],
});

export const EXT4_GOOD_OLD_INODE_SIZE = 128;
/**
 * What ext4_inode needs behind the first 128 bytes: the i_extra_isize that mkfs and Linux write.
 */
export const EXT4_EXTRA_ISIZE = 32;

/** i_block: twelve direct blocks, then single, double and triple indirect ones. */
export const EXT4_NDIR_BLOCKS = 12;
export const EXT4_IND_BLOCK = 12;
export const EXT4_DIND_BLOCK = 13;
export const EXT4_TIND_BLOCK = 14;
export const EXT4_N_BLOCKS = 15;

/** Reserved inode numbers. */
export const EXT4_BAD_INO = 1;
export const EXT4_ROOT_INO = 2;
export const EXT4_USR_QUOTA_INO = 3;
export const EXT4_GRP_QUOTA_INO = 4;
export const EXT4_BOOT_LOADER_INO = 5;
export const EXT4_UNDEL_DIR_INO = 6;
export const EXT4_RESIZE_INO = 7;
export const EXT4_JOURNAL_INO = 8;
export const EXT4_GOOD_OLD_FIRST_INO = 11;

/** i_*time_extra: two bits of epoch, then 30 bits of nanoseconds. */
export const EXT4_EPOCH_BITS = 2;
export const EXT4_EPOCH_MASK = (1 << EXT4_EPOCH_BITS) - 1;

/** i_flags */
export const EXT4_SECRM_FL = 0x00000001;
export const EXT4_UNRM_FL = 0x00000002;
export const EXT4_COMPR_FL = 0x00000004;
export const EXT4_SYNC_FL = 0x00000008;
export const EXT4_IMMUTABLE_FL = 0x00000010;
export const EXT4_APPEND_FL = 0x00000020;
export const EXT4_NODUMP_FL = 0x00000040;
export const EXT4_NOATIME_FL = 0x00000080;
export const EXT4_DIRTY_FL = 0x00000100;
export const EXT4_COMPRBLK_FL = 0x00000200;
export const EXT4_NOCOMPR_FL = 0x00000400;
export const EXT4_ENCRYPT_FL = 0x00000800;
export const EXT4_INDEX_FL = 0x00001000; // directory with a hash tree
export const EXT4_IMAGIC_FL = 0x00002000;
export const EXT4_JOURNAL_DATA_FL = 0x00004000;
export const EXT4_NOTAIL_FL = 0x00008000;
export const EXT4_DIRSYNC_FL = 0x00010000;
export const EXT4_TOPDIR_FL = 0x00020000; // spread its subdirectories
export const EXT4_HUGE_FILE_FL = 0x00040000; // i_blocks counts filesystem blocks
export const EXT4_EXTENTS_FL = 0x00080000; // i_block holds an extent tree
export const EXT4_VERITY_FL = 0x00100000;
export const EXT4_EA_INODE_FL = 0x00200000; // this inode is an attribute value
export const EXT4_DAX_FL = 0x02000000;
export const EXT4_INLINE_DATA_FL = 0x10000000; // data in the inode itself
export const EXT4_PROJINHERIT_FL = 0x20000000;
export const EXT4_CASEFOLD_FL = 0x40000000;
export const EXT4_RESERVED_FL = 0x80000000;

/** What FS_IOC_SETFLAGS may change, FS_IOC_GETFLAGS shows, and a new inode inherits. */
export const EXT4_FL_USER_MODIFIABLE = 0x624bc0ff;
export const EXT4_FL_USER_VISIBLE = 0x725bdfff;
export const EXT4_FL_INHERITED = 0x6201c4cf;
/** Flags that mean something on regular files, and on what is neither file nor directory. */
export const EXT4_REG_FLMASK = ~(
  EXT4_DIRSYNC_FL |
  EXT4_TOPDIR_FL |
  EXT4_CASEFOLD_FL |
  EXT4_PROJINHERIT_FL
);
export const EXT4_OTHER_FLMASK = EXT4_NODUMP_FL | EXT4_NOATIME_FL;
/** Flags that exclude DAX. */
export const EXT4_DAX_MUT_EXCL =
  EXT4_VERITY_FL | EXT4_ENCRYPT_FL | EXT4_JOURNAL_DATA_FL | EXT4_INLINE_DATA_FL;

// --- extents ----------------------------------------------------------------------------------

export const EXT4_EXT_MAGIC = 0xf30a;
export const EXT4_MAX_EXTENT_DEPTH = 5;
/** ee_len above this means an unwritten extent of (ee_len - EXT_INIT_MAX_LEN) blocks. */
export const EXT_INIT_MAX_LEN = 1 << 15;
export const EXT_UNWRITTEN_MAX_LEN = EXT_INIT_MAX_LEN - 1;
export const EXT_MAX_BLOCKS = 0xffffffff;

/** Heads every node; the entries follow, 12 bytes each, in the inode at most four. */
export const ext4_extent_header = struct("ext4_extent_header", {
  eh_magic: [u16, 0],
  eh_entries: [u16, 2],
  eh_max: [u16, 4],
  eh_depth: [u16, 6],
  eh_generation: [u32, 8],
});

export const ext4_extent_idx = struct("ext4_extent_idx", {
  ei_block: [u32, 0],
  ei_leaf_lo: [u32, 4],
  ei_leaf_hi: [u16, 8],
  ei_unused: [u16, 10],
});

export const ext4_extent = struct("ext4_extent", {
  ee_block: [u32, 0],
  ee_len: [u16, 4],
  ee_start_hi: [u16, 6],
  ee_start_lo: [u32, 8],
});

/** Behind the last possible entry of a node block (not of the root in the inode). */
export const ext4_extent_tail = struct("ext4_extent_tail", { et_checksum: [u32, 0] });

// --- directories ------------------------------------------------------------------------------

/** The fixed part; name_len bytes of name follow, then padding to rec_len. */
export const ext4_dir_entry_2 = struct("ext4_dir_entry_2", {
  inode: [u32, 0],
  rec_len: [u16, 4],
  name_len: [u8, 6],
  file_type: [u8, 7],
});
/** Without the filetype feature name_len is 16 bits wide. */
export const ext4_dir_entry = struct("ext4_dir_entry", {
  inode: [u32, 0],
  rec_len: [u16, 4],
  name_len: [u16, 6],
});

/** The last 12 bytes of a directory leaf with metadata_csum: looks like an unused entry. */
export const ext4_dir_entry_tail = struct("ext4_dir_entry_tail", {
  det_reserved_zero1: [u32, 0],
  det_rec_len: [u16, 4],
  det_reserved_zero2: [u8, 6],
  det_reserved_ft: [u8, 7],
  det_checksum: [u32, 8],
});

export const EXT4_FT_UNKNOWN = 0;
export const EXT4_FT_REG_FILE = 1;
export const EXT4_FT_DIR = 2;
export const EXT4_FT_CHRDEV = 3;
export const EXT4_FT_BLKDEV = 4;
export const EXT4_FT_FIFO = 5;
export const EXT4_FT_SOCK = 6;
export const EXT4_FT_SYMLINK = 7;
export const EXT4_FT_MAX = 8;
export const EXT4_FT_DIR_CSUM = 0xde;

/** Entries are padded to this. */
export const EXT4_DIR_PAD = 4;
export const EXT4_DIR_ROUND = EXT4_DIR_PAD - 1;

/** Where dx_root_info stands in block 0 of a hashed directory: behind "." and "..". */
export const DX_ROOT_INFO_OFFSET = 24;
export const dx_root_info = struct("dx_root_info", {
  reserved_zero: [u32, 0],
  hash_version: [u8, 4],
  info_length: [u8, 5],
  indirect_levels: [u8, 6],
  unused_flags: [u8, 7],
});
/** Where the entries of an inner node begin: behind one fake entry. */
export const DX_NODE_OFFSET = 8;
/** Overlays the hash of the first dx_entry. */
export const dx_countlimit = struct("dx_countlimit", { limit: [u16, 0], count: [u16, 2] });
export const dx_entry = struct("dx_entry", { hash: [u32, 0], block: [u32, 4] });
/** Behind the last possible dx_entry (limit of them) with metadata_csum. */
export const dx_tail = struct("dx_tail", { dt_reserved: [u32, 0], dt_checksum: [u32, 4] });

/** dx_root_info.hash_version and s_def_hash_version */
export const DX_HASH_LEGACY = 0;
export const DX_HASH_HALF_MD4 = 1;
export const DX_HASH_TEA = 2;
export const DX_HASH_LEGACY_UNSIGNED = 3;
export const DX_HASH_HALF_MD4_UNSIGNED = 4;
export const DX_HASH_TEA_UNSIGNED = 5;
export const DX_HASH_SIPHASH = 6;

export const EXT4_HTREE_LEVEL_COMPAT = 2;
export const EXT4_HTREE_LEVEL = 3; // with large_dir
export const EXT4_HTREE_EOF_32BIT = 0x7fffffff;

// --- extended attributes ----------------------------------------------------------------------

export const EXT4_XATTR_MAGIC = 0xea020000;
export const EXT4_XATTR_REFCOUNT_MAX = 1024;
export const EXT4_XATTR_INDEX_USER = 1;
export const EXT4_XATTR_INDEX_POSIX_ACL_ACCESS = 2;
export const EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT = 3;
export const EXT4_XATTR_INDEX_TRUSTED = 4;
export const EXT4_XATTR_INDEX_LUSTRE = 5;
export const EXT4_XATTR_INDEX_SECURITY = 6;
export const EXT4_XATTR_INDEX_SYSTEM = 7;
export const EXT4_XATTR_INDEX_RICHACL = 8;
export const EXT4_XATTR_INDEX_ENCRYPTION = 9;
export const EXT4_XATTR_PAD = 4;
export const EXT4_XATTR_ROUND = EXT4_XATTR_PAD - 1;

/** Heads an attribute block. */
export const ext4_xattr_header = struct(
  "ext4_xattr_header",
  {
    h_magic: [u32, 0],
    h_refcount: [u32, 4],
    h_blocks: [u32, 8],
    h_hash: [u32, 12],
    h_checksum: [u32, 16],
  },
  32,
);
/** Heads the attributes inside an inode, behind i_extra_isize. */
export const ext4_xattr_ibody_header = struct("ext4_xattr_ibody_header", { h_magic: [u32, 0] });
/** The fixed part; e_name_len bytes of name follow. A zero word ends the list. */
export const ext4_xattr_entry = struct("ext4_xattr_entry", {
  e_name_len: [u8, 0],
  e_name_index: [u8, 1],
  e_value_offs: [u16, 2],
  e_value_inum: [u32, 4],
  e_value_size: [u32, 8],
  e_hash: [u32, 12],
});

// --- orphan file, multi-mount protection, fast commit -----------------------------------------

export const EXT4_ORPHAN_BLOCK_MAGIC = 0x0b10ca04;
/** The last eight bytes of a block of the orphan file; the rest are inode numbers. */
export const ext4_orphan_block_tail = struct("ext4_orphan_block_tail", {
  ob_magic: [u32, 0],
  ob_checksum: [u32, 4],
});

export const EXT4_MMP_MAGIC = 0x004d4d50;
export const EXT4_MMP_SEQ_CLEAN = 0xff4d4d50;
export const EXT4_MMP_SEQ_FSCK = 0xe24d4d50;
export const mmp_struct = struct("mmp_struct", {
  mmp_magic: [u32, 0],
  mmp_seq: [u32, 4],
  mmp_time: [u64, 8],
  mmp_nodename: [bytes(64), 16],
  mmp_bdevname: [bytes(32), 80],
  mmp_check_interval: [u16, 112],
  mmp_checksum: [u32, 1020],
});

export const EXT4_FC_TAG_ADD_RANGE = 0x0001;
export const EXT4_FC_TAG_DEL_RANGE = 0x0002;
export const EXT4_FC_TAG_CREAT = 0x0003;
export const EXT4_FC_TAG_LINK = 0x0004;
export const EXT4_FC_TAG_UNLINK = 0x0005;
export const EXT4_FC_TAG_INODE = 0x0006;
export const EXT4_FC_TAG_PAD = 0x0007;
export const EXT4_FC_TAG_TAIL = 0x0008;
export const EXT4_FC_TAG_HEAD = 0x0009;

export const ext4_fc_tl = struct("ext4_fc_tl", { fc_tag: [u16, 0], fc_len: [u16, 2] });
export const ext4_fc_head = struct("ext4_fc_head", { fc_features: [u32, 0], fc_tid: [u32, 4] });
export const ext4_fc_add_range = struct("ext4_fc_add_range", {
  fc_ino: [u32, 0],
  fc_ex: [bytes(12), 4],
});
export const ext4_fc_del_range = struct("ext4_fc_del_range", {
  fc_ino: [u32, 0],
  fc_lblk: [u32, 4],
  fc_len: [u32, 8],
});
export const ext4_fc_dentry_info = struct("ext4_fc_dentry_info", {
  fc_parent_ino: [u32, 0],
  fc_ino: [u32, 4],
});
export const ext4_fc_inode = struct("ext4_fc_inode", { fc_ino: [u32, 0] });
export const ext4_fc_tail = struct("ext4_fc_tail", { fc_tid: [u32, 0], fc_crc: [u32, 4] });
