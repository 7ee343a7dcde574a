/** kernel/include/stat.ts - file modes and statx. Linux: include/uapi/linux/stat.h. */
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;
export const S_IRWXU = 0o700;
export const S_IRWXG = 0o070;
export const S_IRWXO = 0o007;
export const S_IXGRP = 0o0010;
export const S_IWOTH = 0o0002;
export const S_IXUGO = 0o111;
export const S_IALLUGO = 0o7777;

export const S_ISREG = (mode: number): boolean => (mode & S_IFMT) === S_IFREG;
export const S_ISDIR = (mode: number): boolean => (mode & S_IFMT) === S_IFDIR;
export const S_ISLNK = (mode: number): boolean => (mode & S_IFMT) === S_IFLNK;
export const S_ISCHR = (mode: number): boolean => (mode & S_IFMT) === S_IFCHR;
export const S_ISBLK = (mode: number): boolean => (mode & S_IFMT) === S_IFBLK;
export const S_ISFIFO = (mode: number): boolean => (mode & S_IFMT) === S_IFIFO;
export const S_ISSOCK = (mode: number): boolean => (mode & S_IFMT) === S_IFSOCK;

export const STATX_ATTR_COMPRESSED = 0x4;
export const STATX_ATTR_IMMUTABLE = 0x10;
export const STATX_ATTR_APPEND = 0x20;
export const STATX_ATTR_NODUMP = 0x40;
export const STATX_ATTR_ENCRYPTED = 0x800;
export const STATX_ATTR_AUTOMOUNT = 0x1000;
export const STATX_ATTR_MOUNT_ROOT = 0x2000;
export const STATX_ATTR_VERITY = 0x100000;
export const STATX_ATTR_DAX = 0x200000;

/** result_mask bits that matter here. */
export const STATX_BTIME = 0x800;
export const STATX_DIOALIGN = 0x2000;

/** Device numbers: major in the high part, as `MKDEV` with 20 bits of minor. */
export const MKDEV = (major: number, minor: number): number => major * 0x100000 + minor;
export const MAJOR = (dev: number): number => Math.floor(dev / 0x100000);
export const MINOR = (dev: number): number => dev % 0x100000;
