/**
 * kernel/include/fsflags.ts - inode flags as FS_IOC_GETFLAGS and FS_IOC_FSGETXATTR show them.
 * Linux: include/uapi/linux/fs.h, include/linux/fileattr.h.
 */
export const FS_SECRM_FL = 0x1;
export const FS_UNRM_FL = 0x2;
export const FS_COMPR_FL = 0x4;
export const FS_SYNC_FL = 0x8;
export const FS_IMMUTABLE_FL = 0x10;
export const FS_APPEND_FL = 0x20;
export const FS_NODUMP_FL = 0x40;
export const FS_NOATIME_FL = 0x80;
export const FS_ENCRYPT_FL = 0x800;
export const FS_JOURNAL_DATA_FL = 0x4000;
export const FS_DIRSYNC_FL = 0x10000;
export const FS_TOPDIR_FL = 0x20000;
export const FS_EXTENT_FL = 0x80000;
export const FS_VERITY_FL = 0x100000;
export const FS_NOCOW_FL = 0x800000;
export const FS_DAX_FL = 0x2000000;
export const FS_INLINE_DATA_FL = 0x10000000;
export const FS_PROJINHERIT_FL = 0x20000000;
export const FS_CASEFOLD_FL = 0x40000000;

export const FS_XFLAG_REALTIME = 0x1;
export const FS_XFLAG_PREALLOC = 0x2;
export const FS_XFLAG_IMMUTABLE = 0x8;
export const FS_XFLAG_APPEND = 0x10;
export const FS_XFLAG_SYNC = 0x20;
export const FS_XFLAG_NOATIME = 0x40;
export const FS_XFLAG_NODUMP = 0x80;
export const FS_XFLAG_RTINHERIT = 0x100;
export const FS_XFLAG_PROJINHERIT = 0x200;
export const FS_XFLAG_NOSYMLINKS = 0x400;
export const FS_XFLAG_EXTSIZE = 0x800;
export const FS_XFLAG_EXTSZINHERIT = 0x1000;
export const FS_XFLAG_NODEFRAG = 0x2000;
export const FS_XFLAG_FILESTREAM = 0x4000;
export const FS_XFLAG_DAX = 0x8000;
export const FS_XFLAG_COWEXTSIZE = 0x10000;
export const FS_XFLAG_HASATTR = 0x80000000;

/** Flags that exist in both forms. */
export const FS_COMMON_FL =
  FS_SYNC_FL |
  FS_IMMUTABLE_FL |
  FS_APPEND_FL |
  FS_NODUMP_FL |
  FS_NOATIME_FL |
  FS_DAX_FL |
  FS_PROJINHERIT_FL;
export const FS_XFLAG_COMMON =
  FS_XFLAG_SYNC |
  FS_XFLAG_IMMUTABLE |
  FS_XFLAG_APPEND |
  FS_XFLAG_NODUMP |
  FS_XFLAG_NOATIME |
  FS_XFLAG_DAX |
  FS_XFLAG_PROJINHERIT;
