/**
 * fs/ext4/iget.ts - reading an inode in from its inode table. Linux: fs/ext4/inode.c (__ext4_iget).
 *
 * Every field is checked before the inode is shown to anyone: EUCLEAN or EBADMSG with a log line
 * when it cannot be right, ESTALE when it is not in use. While it is read the inode has I_NEW set,
 * so nobody else looks at it.
 */
import {
  EFSBADCRC,
  EFSCORRUPTED,
  type Errno,
  ESTALE,
  is_errno,
} from "../../kernel/include/errno.ts";
import {
  I_NEW,
  type inode,
  S_APPEND,
  S_CASEFOLD,
  S_IMMUTABLE,
  type super_block,
  type timespec64,
} from "../../kernel/include/fs.ts";
import {
  MKDEV,
  S_ISBLK,
  S_ISCHR,
  S_ISDIR,
  S_ISFIFO,
  S_ISLNK,
  S_ISREG,
  S_ISSOCK,
} from "../../kernel/include/stat.ts";
import type { struct_of } from "../../kernel/lib/struct.ts";
import { bytes_to_name } from "../../kernel/lib/utf8.ts";
import {
  iget_failed,
  iget_locked,
  init_special_inode,
  iput,
  is_bad_inode,
  make_bad_inode,
  unlock_new_inode,
} from "../../kernel/vfs/inode.ts";
import { brelse } from "../buffer.ts";
import { ext4_set_aops } from "./aops.ts";
import { ext4_inode_block_valid } from "./block_validity.ts";
import { ext4_has_metadata_csum, ext4_inode_csum_seed, ext4_inode_csum_verify } from "./csum.ts";
import { ext4_dir_inode_operations, ext4_dir_operations } from "./dir.ts";
import * as M from "./ext4.ts";
import {
  EXT4_I,
  EXT4_IGET_BAD,
  EXT4_IGET_EA_INODE,
  EXT4_IGET_HANDLE,
  EXT4_IGET_SPECIAL,
  EXT4_MOUNT2_HURD_COMPAT,
  EXT4_MOUNT_NO_UID32,
  EXT4_SB,
  EXT4_STATE_MAY_INLINE_DATA,
  EXT4_STATE_XATTR,
  ext4_error,
  ext4_error_inode,
  type ext4_inode_info,
  ext4_set_inode_state,
  ext4_test_inode_flag,
  ext4_test_inode_state,
  has_compat,
  has_incompat,
  has_ro_compat,
  test_opt,
  test_opt2,
} from "./ext4_fs.ts";
import { ext4_ext_check_inode } from "./extents.ts";
import {
  ext4_file_inode_operations,
  ext4_file_operations,
  ext4_special_inode_operations,
} from "./file.ts";
import { ext4_ind_check_inode } from "./indirect.ts";
import { ext4_find_inline_data_nolock } from "./inline.ts";
import {
  ext4_get_inode_loc,
  ext4_get_maxbytes,
  ext4_has_inline_data,
  type ext4_iloc,
  ext4_inode_is_fast_symlink,
  ext4_set_inode_flags,
} from "./inode.ts";
import { ext4_fast_symlink_inode_operations, ext4_symlink_inode_operations } from "./symlink.ts";

type raw_inode = struct_of<typeof M.ext4_inode>;
const TWO32 = 2 ** 32;

function fail(inode: inode, text: string, error: Errno = EFSCORRUPTED): never {
  ext4_error_inode(inode, "ext4_iget", 0, `iget: ${text}`, error);
  throw error;
}

/** Does a member that ends at `end` lie inside what i_extra_isize covers? */
export const ext4_fits_in_inode = (ei: ext4_inode_info, end: number): boolean =>
  end <= M.EXT4_GOOD_OLD_INODE_SIZE + ei.i_extra_isize;
const end_of = (field: keyof typeof M.ext4_inode.fields): number =>
  M.ext4_inode.offsetof(field) + M.ext4_inode.fields[field][0].size;
const CTIME_EXTRA_END = end_of("i_ctime_extra");
const MTIME_EXTRA_END = end_of("i_mtime_extra");
const ATIME_EXTRA_END = end_of("i_atime_extra");
export const CRTIME_END = end_of("i_crtime");
const CRTIME_EXTRA_END = end_of("i_crtime_extra");
const VERSION_HI_END = end_of("i_version_hi");
const PROJID_END = end_of("i_projid");

/** 32 signed bits of seconds, and two more bits and nanoseconds in the extra word. */
export function ext4_decode_time(sec: number, extra: number | null): timespec64 {
  const low = sec | 0;
  if (extra === null) return { tv_sec: low, tv_nsec: 0 };
  return {
    tv_sec: low + (extra & M.EXT4_EPOCH_MASK) * TWO32,
    tv_nsec: extra >>> M.EXT4_EPOCH_BITS,
  };
}

function read_times(inode: inode, ei: ext4_inode_info, raw: raw_inode): void {
  const extra = (end: number, word: () => number) => (ext4_fits_in_inode(ei, end) ? word() : null);
  inode.i_ctime = ext4_decode_time(
    raw.i_ctime,
    extra(CTIME_EXTRA_END, () => raw.i_ctime_extra),
  );
  inode.i_mtime = ext4_decode_time(
    raw.i_mtime,
    extra(MTIME_EXTRA_END, () => raw.i_mtime_extra),
  );
  inode.i_atime = ext4_decode_time(
    raw.i_atime,
    extra(ATIME_EXTRA_END, () => raw.i_atime_extra),
  );
  if (ext4_fits_in_inode(ei, CRTIME_END)) {
    const word = extra(CRTIME_EXTRA_END, () => raw.i_crtime_extra);
    ei.i_crtime = ext4_decode_time(raw.i_crtime, word);
  }
}

/** i_extra_isize, checksum seed and checksum: after this the bytes are what was written. */
function check_raw(inode: inode, ei: ext4_inode_info, raw: raw_inode, iloc: ext4_iloc): void {
  const sbi = EXT4_SB(inode.i_sb);
  ei.i_extra_isize = 0;
  if (sbi.s_inode_size > M.EXT4_GOOD_OLD_INODE_SIZE) {
    const size = raw.i_extra_isize;
    ei.i_extra_isize = size;
    if (M.EXT4_GOOD_OLD_INODE_SIZE + size > sbi.s_inode_size || size & 3) {
      fail(inode, `bad extra_isize ${size} (inode size ${sbi.s_inode_size})`);
    }
  }
  if (!ext4_has_metadata_csum(sbi.s_es)) return;
  ei.i_csum_seed = ext4_inode_csum_seed(sbi.s_csum_seed, inode.i_ino, raw.i_generation);
  const b = iloc.bh.b_data;
  if (!ext4_inode_csum_verify(ei.i_csum_seed, b, iloc.offset, sbi.s_inode_size)) {
    fail(inode, "checksum invalid", EFSBADCRC);
  }
}

function read_owner(inode: inode, ei: ext4_inode_info, raw: raw_inode): void {
  const sb = inode.i_sb;
  inode.i_mode = raw.i_mode;
  const wide = !test_opt(sb, EXT4_MOUNT_NO_UID32);
  inode.i_uid = raw.i_uid + (wide ? raw.i_uid_high * 65536 : 0);
  inode.i_gid = raw.i_gid + (wide ? raw.i_gid_high * 65536 : 0);
  inode.i_nlink = raw.i_links_count;
  ei.i_dtime = raw.i_dtime;
  ei.i_inline_off = 0;
  const project =
    has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_PROJECT) &&
    EXT4_SB(sb).s_inode_size > M.EXT4_GOOD_OLD_INODE_SIZE &&
    ext4_fits_in_inode(ei, PROJID_END);
  ei.i_projid = project ? raw.i_projid : 0;
}

/** An inode without links is not in use, unless orphan processing wants it. */
function check_in_use(inode: inode, flags: number): void {
  if (inode.i_nlink !== 0 || inode.i_ino === M.EXT4_BOOT_LOADER_INO) return;
  const orphans = (EXT4_SB(inode.i_sb).s_mount_state & M.EXT4_ORPHAN_FS) !== 0;
  if (inode.i_mode !== 0 && !(flags & EXT4_IGET_SPECIAL) && orphans) return;
  if (flags & EXT4_IGET_SPECIAL) fail(inode, "special inode unallocated");
  throw ESTALE;
}

function read_size(inode: inode, ei: ext4_inode_info, raw: raw_inode): void {
  const sb = inode.i_sb;
  let blocks = raw.i_blocks_lo;
  if (has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_HUGE_FILE)) {
    blocks += raw.i_blocks_high * TWO32;
    if (ei.i_flags & M.EXT4_HUGE_FILE_FL) blocks *= sb.s_blocksize / 512;
  }
  inode.i_blocks = blocks;
  ei.i_file_acl = raw.i_file_acl_lo;
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_64BIT)) {
    ei.i_file_acl += raw.i_file_acl_high * TWO32;
  }
  const wide = has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_LARGEDIR) || S_ISREG(inode.i_mode);
  const size = raw.i_size_lo + (wide ? raw.i_size_high * TWO32 : 0);
  if (size > ext4_get_maxbytes(inode)) fail(inode, `bad i_size value: ${size}`);
  inode.i_size = size;
  ei.i_disksize = size;
  const htree_unknown =
    !has_compat(sb, M.EXT4_FEATURE_COMPAT_DIR_INDEX) &&
    ext4_has_metadata_csum(EXT4_SB(sb).s_es) &&
    ext4_test_inode_flag(inode, M.EXT4_INDEX_FL);
  if (htree_unknown) {
    fail(inode, "Dir with htree data on filesystem without dir_index feature.");
  }
}

/** What is behind the first 128 bytes: attributes in the inode, inline data. */
function read_extra(inode: inode, ei: ext4_inode_info, iloc: ext4_iloc): void {
  const size = EXT4_SB(inode.i_sb).s_inode_size;
  if (size <= M.EXT4_GOOD_OLD_INODE_SIZE) return;
  if (ei.i_extra_isize === 0) {
    // not in use on the media: the next write of the inode uses it
    ei.i_extra_isize = M.EXT4_EXTRA_ISIZE;
    return;
  }
  const at = M.EXT4_GOOD_OLD_INODE_SIZE + ei.i_extra_isize;
  if (at + 4 > size) return;
  const magic = new DataView(iloc.bh.b_data.buffer, iloc.bh.b_data.byteOffset).getUint32(
    iloc.offset + at,
    true,
  );
  if (magic !== M.EXT4_XATTR_MAGIC) return;
  ext4_set_inode_state(inode, EXT4_STATE_XATTR);
  ext4_find_inline_data_nolock(inode, iloc.bh.b_data, iloc.offset);
  if (ext4_has_inline_data(inode)) ext4_set_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
}

function check_block_references(inode: inode, ei: ext4_inode_info): void {
  if (ei.i_file_acl && !ext4_inode_block_valid(inode, ei.i_file_acl, 1)) {
    fail(inode, `bad extended attribute block ${ei.i_file_acl}`);
  }
  if (ext4_has_inline_data(inode)) return;
  const mode = inode.i_mode;
  const link = S_ISLNK(mode) && !ext4_inode_is_fast_symlink(inode);
  if (!S_ISREG(mode) && !S_ISDIR(mode) && !link) return;
  if (ext4_test_inode_flag(inode, M.EXT4_EXTENTS_FL)) ext4_ext_check_inode(inode);
  else ext4_ind_check_inode(inode);
}

/** Device numbers come in two forms: 8:8 bits in the first word, 12:20 bits in the second. */
function decode_dev(v: DataView): number {
  const old = v.getUint32(0, true);
  if (old) return MKDEV((old >>> 8) & 0xff, old & 0xff);
  const dev = v.getUint32(4, true);
  return MKDEV((dev & 0xfff00) >>> 8, (dev & 0xff) | ((dev >>> 12) & 0xfff00));
}

function set_link(inode: inode, ei: ext4_inode_info): void {
  if (inode.i_flags & (S_APPEND | S_IMMUTABLE)) {
    fail(inode, "immutable or append flags not allowed on symlinks");
  }
  if (!ext4_inode_is_fast_symlink(inode)) {
    inode.i_op = ext4_symlink_inode_operations;
    return;
  }
  const max = Math.min(inode.i_size, ei.i_data.length - 1);
  const nul = ei.i_data.indexOf(0);
  inode.i_link = bytes_to_name(ei.i_data, 0, nul >= 0 && nul < max ? nul : max);
  inode.i_op = ext4_fast_symlink_inode_operations;
}

/** Operations by type. */
export function ext4_set_operations(inode: inode): void {
  const mode = inode.i_mode;
  const ei = EXT4_I(inode);
  if (S_ISREG(mode)) {
    inode.i_op = ext4_file_inode_operations;
    inode.i_fop = ext4_file_operations;
    ext4_set_aops(inode);
  } else if (S_ISDIR(mode)) {
    inode.i_op = ext4_dir_inode_operations;
    inode.i_fop = ext4_dir_operations;
  } else if (S_ISLNK(mode)) {
    set_link(inode, ei);
  } else if (S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode)) {
    inode.i_op = ext4_special_inode_operations;
    init_special_inode(inode, mode, decode_dev(ei.i_data_view));
  } else if (inode.i_ino === M.EXT4_BOOT_LOADER_INO) {
    make_bad_inode(inode);
  } else {
    fail(inode, `bogus i_mode (${mode.toString(8)})`);
  }
  if (inode.i_flags & S_CASEFOLD && !has_incompat(inode.i_sb, M.EXT4_FEATURE_INCOMPAT_CASEFOLD)) {
    fail(inode, "casefold flag without casefold feature");
  }
}

function fill_inode(inode: inode, iloc: ext4_iloc, flags: number): void {
  const sb = inode.i_sb;
  const ei = EXT4_I(inode);
  const raw = M.ext4_inode.at(iloc.bh.b_data, iloc.offset);
  if (flags & EXT4_IGET_HANDLE && raw.i_links_count === 0 && raw.i_mode === 0) throw ESTALE;
  check_raw(inode, ei, raw, iloc);
  read_owner(inode, ei, raw);
  check_in_use(inode, flags);
  ei.i_flags = raw.i_flags;
  if (ei.i_flags & M.EXT4_INLINE_DATA_FL && ei.i_flags & M.EXT4_EXTENTS_FL) {
    fail(inode, "inode has both inline data and extents flags");
  }
  read_size(inode, ei, raw);
  inode.i_generation = raw.i_generation;
  ei.i_block_group = iloc.block_group;
  ei.i_last_alloc_group = -1;
  ei.i_data.set(raw.i_block);
  read_extra(inode, ei, iloc);
  // after the inline data is known: a file that has it is not used with DAX
  ext4_set_inode_flags(inode, true);
  read_times(inode, ei, raw);
  if (!test_opt2(sb, EXT4_MOUNT2_HURD_COMPAT)) {
    const hi = ext4_fits_in_inode(ei, VERSION_HI_END) ? raw.i_version_hi : 0;
    inode.i_version = raw.i_disk_version + hi * TWO32;
  }
  check_block_references(inode, ei);
  ext4_set_operations(inode);
}

/** Is it the kind of inode that was asked for? */
function check_igot_inode(inode: inode, flags: number): void {
  const ei = EXT4_I(inode);
  const is_ea = (ei.i_flags & M.EXT4_EA_INODE_FL) !== 0;
  let fault: string | null = null;
  if (flags & EXT4_IGET_EA_INODE) {
    if (!is_ea) fault = "missing EA_INODE flag";
    else if (ext4_test_inode_state(inode, EXT4_STATE_XATTR) || ei.i_file_acl) {
      fault = "ea_inode with extended attributes";
    }
  } else if (is_ea) {
    if (flags & EXT4_IGET_HANDLE) throw ESTALE;
    fault = "unexpected EA_INODE flag";
  }
  if (!fault && is_bad_inode(inode) && !(flags & EXT4_IGET_BAD)) {
    fault = "unexpected bad inode w/o EXT4_IGET_BAD";
  }
  if (!fault) return;
  ext4_error_inode(inode, "check_igot_inode", 0, fault);
  throw EFSCORRUPTED;
}

function is_reserved(sb: super_block, ino: number): boolean {
  const es = EXT4_SB(sb).s_es;
  if (ino < EXT4_SB(sb).s_first_ino && ino !== M.EXT4_ROOT_INO) return true;
  return (
    ino === es.s_usr_quota_inum ||
    ino === es.s_grp_quota_inum ||
    ino === es.s_prj_quota_inum ||
    ino === es.s_orphan_file_inum
  );
}

/**
 * The inode of that number, read in if need be, with a reference. Throws ESTALE when it is not in
 * use, EUCLEAN, EBADMSG or EIO when the media is bad.
 */
export async function ext4_iget(sb: super_block, ino: number, flags: number): Promise<inode> {
  const special = (flags & EXT4_IGET_SPECIAL) !== 0;
  const outside = ino < M.EXT4_ROOT_INO || ino > EXT4_SB(sb).s_es.s_inodes_count;
  if (outside || (!special && is_reserved(sb, ino))) {
    if (flags & EXT4_IGET_HANDLE) throw ESTALE;
    ext4_error(sb, "ext4_iget", `inode #${ino}: iget: illegal inode #`);
    throw EFSCORRUPTED;
  }
  const got = iget_locked(sb, ino);
  const inode = got instanceof Promise ? await got : got;
  if (!(inode.i_state & I_NEW)) {
    try {
      check_igot_inode(inode, flags);
    } catch (e) {
      await iput(inode);
      throw e;
    }
    return inode;
  }
  try {
    const where = ext4_get_inode_loc(inode);
    const iloc = where instanceof Promise ? await where : where;
    try {
      fill_inode(inode, iloc, flags);
    } finally {
      brelse(iloc.bh);
    }
    check_igot_inode(inode, flags);
  } catch (e) {
    if (is_errno(e) || inode.i_state & I_NEW) await iget_failed(inode);
    throw e;
  }
  unlock_new_inode(inode);
  return inode;
}
