/**
 * fs/ext4/getattr.ts - what stat, statx and the flag ioctls show. Linux: fs/ext4/inode.c
 * (ext4_getattr), ioctl.c (ext4_fileattr_get).
 */
import type { dentry, fileattr, kstat, path } from "../../kernel/include/fs.ts";
import {
  S_ISREG,
  STATX_ATTR_APPEND,
  STATX_ATTR_COMPRESSED,
  STATX_ATTR_ENCRYPTED,
  STATX_ATTR_IMMUTABLE,
  STATX_ATTR_NODUMP,
  STATX_ATTR_VERITY,
  STATX_BTIME,
  STATX_DIOALIGN,
} from "../../kernel/include/stat.ts";
import { generic_fillattr } from "../stat.ts";
import {
  EXT4_APPEND_FL,
  EXT4_COMPR_FL,
  EXT4_DAX_FL,
  EXT4_ENCRYPT_FL,
  EXT4_FEATURE_RO_COMPAT_PROJECT,
  EXT4_FL_USER_VISIBLE,
  EXT4_IMMUTABLE_FL,
  EXT4_NOATIME_FL,
  EXT4_NODUMP_FL,
  EXT4_PROJINHERIT_FL,
  EXT4_SYNC_FL,
  EXT4_VERITY_FL,
} from "./ext4.ts";
import { EXT4_C2B, EXT4_I, EXT4_SB, has_ro_compat } from "./ext4_fs.ts";
import { CRTIME_END, ext4_fits_in_inode } from "./iget.ts";
import { ext4_has_inline_data, ext4_should_journal_data } from "./inode.ts";

const ATTRIBUTES: readonly (readonly [number, number])[] = Object.freeze([
  [EXT4_APPEND_FL, STATX_ATTR_APPEND],
  [EXT4_COMPR_FL, STATX_ATTR_COMPRESSED],
  [EXT4_ENCRYPT_FL, STATX_ATTR_ENCRYPTED],
  [EXT4_IMMUTABLE_FL, STATX_ATTR_IMMUTABLE],
  [EXT4_NODUMP_FL, STATX_ATTR_NODUMP],
  [EXT4_VERITY_FL, STATX_ATTR_VERITY],
]);

/** Fills in what every kind of inode has; the VFS adds S_DAX and the mount's attributes. */
export function ext4_getattr(path: path, stat: kstat, request_mask: number): void {
  const inode = path.dentry.d_inode!;
  const ei = EXT4_I(inode);
  generic_fillattr(inode, stat);
  if (request_mask & STATX_BTIME && ext4_fits_in_inode(ei, CRTIME_END)) {
    stat.btime = ei.i_crtime;
  }
  if (request_mask & STATX_DIOALIGN && S_ISREG(inode.i_mode)) {
    const align = ext4_dio_alignment(inode);
    const lbs = inode.i_sb.s_bdev!.bd_disk.logical_block_size;
    stat.dio_mem_align = align === 1 ? lbs : align;
    stat.dio_offset_align = align === 1 ? lbs : align;
  }
  for (const [fl, attr] of ATTRIBUTES) {
    if (ei.i_flags & EXT4_FL_USER_VISIBLE & fl) stat.attributes |= attr;
    stat.attributes_mask |= attr;
  }
}

/** 0: no direct IO; 1: as the device says. */
export function ext4_dio_alignment(inode: Parameters<typeof EXT4_I>[0]): number {
  if (ext4_has_inline_data(inode) || ext4_should_journal_data(inode)) return 0;
  if (EXT4_I(inode).i_flags & (EXT4_ENCRYPT_FL | EXT4_VERITY_FL)) return 0;
  return 1;
}

/**
 * Regular files: inline data counts as blocks, and so does what delayed allocation has promised.
 */
export function ext4_file_getattr(path: path, stat: kstat, request_mask: number): void {
  const inode = path.dentry.d_inode!;
  ext4_getattr(path, stat, request_mask);
  if (ext4_has_inline_data(inode)) stat.blocks += Math.ceil(stat.size / 512);
  const sbi = EXT4_SB(inode.i_sb);
  const delayed = EXT4_C2B(sbi, EXT4_I(inode).i_reserved_data_blocks);
  stat.blocks += delayed * (inode.i_sb.s_blocksize / 512);
}

/** FS_*_FL and the FS_XFLAG_* that means the same. */
const XFLAGS: readonly (readonly [number, number])[] = Object.freeze([
  [EXT4_SYNC_FL, 0x20],
  [EXT4_IMMUTABLE_FL, 0x8],
  [EXT4_APPEND_FL, 0x10],
  [EXT4_NODUMP_FL, 0x80],
  [EXT4_NOATIME_FL, 0x40],
  [EXT4_DAX_FL, 0x8000],
  [EXT4_PROJINHERIT_FL, 0x200],
]);

export function ext4_fileattr_get(dentry: dentry, fa: fileattr): void {
  const inode = dentry.d_inode!;
  const ei = EXT4_I(inode);
  let flags = ei.i_flags & EXT4_FL_USER_VISIBLE;
  if (S_ISREG(inode.i_mode)) flags &= ~EXT4_PROJINHERIT_FL;
  fa.flags = flags;
  fa.flags_valid = true;
  fa.fsx_xflags = 0;
  for (const [fl, xflag] of XFLAGS) if (flags & fl) fa.fsx_xflags |= xflag;
  if (has_ro_compat(inode.i_sb, EXT4_FEATURE_RO_COMPAT_PROJECT)) fa.fsx_projid = ei.i_projid;
}
