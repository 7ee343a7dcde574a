/**
 * fs/ext4/mount_opts.ts - the bits of s_mount_opt, s_mount_opt2, s_ext4_flags and s_mount_flags.
 * Linux: fs/ext4/ext4.h. Constants only.
 */

/** sbi.s_mount_opt: test_opt(), set_opt(), clear_opt() */
export const EXT4_MOUNT_NO_MBCACHE = 0x00001;
export const EXT4_MOUNT_GRPID = 0x00004;
export const EXT4_MOUNT_DEBUG = 0x00008;
export const EXT4_MOUNT_ERRORS_CONT = 0x00010;
export const EXT4_MOUNT_ERRORS_RO = 0x00020;
export const EXT4_MOUNT_ERRORS_PANIC = 0x00040;
export const EXT4_MOUNT_ERRORS_MASK = 0x00070;
export const EXT4_MOUNT_MINIX_DF = 0x00080;
export const EXT4_MOUNT_NOLOAD = 0x00100;
export const EXT4_MOUNT_DAX_ALWAYS = 0x00200;
/** Two bits: how data and journal relate. */
export const EXT4_MOUNT_DATA_FLAGS = 0x00c00;
export const EXT4_MOUNT_JOURNAL_DATA = 0x00400;
export const EXT4_MOUNT_ORDERED_DATA = 0x00800;
export const EXT4_MOUNT_WRITEBACK_DATA = 0x00c00;
export const EXT4_MOUNT_NO_UID32 = 0x02000;
export const EXT4_MOUNT_XATTR_USER = 0x04000;
export const EXT4_MOUNT_POSIX_ACL = 0x08000;
export const EXT4_MOUNT_NO_AUTO_DA_ALLOC = 0x10000;
export const EXT4_MOUNT_BARRIER = 0x20000;
export const EXT4_MOUNT_QUOTA = 0x40000;
export const EXT4_MOUNT_USRQUOTA = 0x80000;
export const EXT4_MOUNT_GRPQUOTA = 0x100000;
export const EXT4_MOUNT_PRJQUOTA = 0x200000;
export const EXT4_MOUNT_DIOREAD_NOLOCK = 0x400000;
export const EXT4_MOUNT_JOURNAL_CHECKSUM = 0x800000;
export const EXT4_MOUNT_JOURNAL_ASYNC_COMMIT = 0x1000000;
export const EXT4_MOUNT_WARN_ON_ERROR = 0x2000000;
export const EXT4_MOUNT_NO_PREFETCH_BLOCK_BITMAPS = 0x4000000;
export const EXT4_MOUNT_DELALLOC = 0x8000000;
export const EXT4_MOUNT_DATA_ERR_ABORT = 0x10000000;
export const EXT4_MOUNT_BLOCK_VALIDITY = 0x20000000;
export const EXT4_MOUNT_DISCARD = 0x40000000;
export const EXT4_MOUNT_INIT_INODE_TABLE = 0x80000000;

/** sbi.s_mount_opt2: test_opt2() and so on */
export const EXT4_MOUNT2_EXPLICIT_DELALLOC = 0x01;
export const EXT4_MOUNT2_STD_GROUP_SIZE = 0x02;
export const EXT4_MOUNT2_HURD_COMPAT = 0x04;
export const EXT4_MOUNT2_EXPLICIT_JOURNAL_CHECKSUM = 0x08;
export const EXT4_MOUNT2_JOURNAL_FAST_COMMIT = 0x10;
export const EXT4_MOUNT2_DAX_NEVER = 0x20;
/** The user said dax=inode: for printing only, it is what happens anyway. */
export const EXT4_MOUNT2_DAX_INODE = 0x40;
export const EXT4_MOUNT2_MB_OPTIMIZE_SCAN = 0x80;
export const EXT4_MOUNT2_ABORT = 0x100;

/** sbi.s_ext4_flags */
export const EXT4_FLAGS_RESIZING = 1 << 0;
export const EXT4_FLAGS_SHUTDOWN = 1 << 1;
export const EXT4_FLAGS_BDEV_IS_DAX = 1 << 2;

/** sbi.s_mount_flags */
export const EXT4_MF_MNTDIR_SAMPLED = 1 << 0;
export const EXT4_MF_FS_ABORTED = 1 << 1;

/** ei.i_state_flags: ext4_test_inode_state() and so on */
export const EXT4_STATE_JDATA = 1 << 0;
export const EXT4_STATE_NEW = 1 << 1;
/** The inode has attributes in its body. */
export const EXT4_STATE_XATTR = 1 << 2;
export const EXT4_STATE_NO_EXPAND = 1 << 3;
/** Delayed blocks are to be allocated on close (after truncate to 0, rename over). */
export const EXT4_STATE_DA_ALLOC_CLOSE = 1 << 4;
export const EXT4_STATE_EXT_MIGRATE = 1 << 5;
export const EXT4_STATE_NEWENTRY = 1 << 6;
export const EXT4_STATE_MAY_INLINE_DATA = 1 << 7;
export const EXT4_STATE_EXT_PRECACHED = 1 << 8;
export const EXT4_STATE_LUSTRE_EA_INODE = 1 << 9;
export const EXT4_STATE_VERITY_IN_PROGRESS = 1 << 10;
export const EXT4_STATE_ORPHAN_FILE = 1 << 11;

/** flags of ext4_iget() */
export const EXT4_IGET_NORMAL = 0;
/** A reserved inode is wanted. */
export const EXT4_IGET_SPECIAL = 1;
export const EXT4_IGET_HANDLE = 2;
export const EXT4_IGET_BAD = 4;
export const EXT4_IGET_EA_INODE = 8;
