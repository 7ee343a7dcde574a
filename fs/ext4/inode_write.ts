/**
 * fs/ext4/inode_write.ts - from the inode in memory to its bytes in the inode table.
 * Linux: ext4_do_update_inode(), ext4_mark_iloc_dirty(), ext4_mark_inode_dirty() in
 * fs/ext4/inode.c.
 *
 * Reading order: ext4_mark_inode_dirty -> ext4_reserve_inode_write -> ext4_mark_iloc_dirty ->
 * fill_raw. Every change of an inode ends here while a handle is open; the buffer of the inode
 * table then holds the new bytes with their checksum. Lock: i_raw_lock while the bytes are filled
 * in (never sleeps).
 */
import { EIO } from "../../kernel/include/errno.ts";
import {
  I_DIRTY_TIME,
  type inode,
  type Sometime,
  type timespec64,
  type writeback_control,
  WB_SYNC_ALL,
} from "../../kernel/include/fs.ts";
import { MAJOR, MINOR, S_ISBLK, S_ISCHR, S_ISREG } from "../../kernel/include/stat.ts";
import type { struct_of } from "../../kernel/lib/struct.ts";
import { brelse, buffer_dirty, sync_dirty_buffer } from "../buffer.ts";
import { ext4_has_metadata_csum, ext4_inode_csum_set } from "./csum.ts";
import * as M from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MOUNT2_HURD_COMPAT,
  EXT4_MOUNT_NO_UID32,
  EXT4_SB,
  EXT4_STATE_NEW,
  ext4_clear_inode_state,
  ext4_error_inode,
  ext4_forced_shutdown,
  type ext4_inode_info,
  ext4_test_inode_state,
  has_incompat,
  has_ro_compat,
  test_opt,
  test_opt2,
} from "./ext4_fs.ts";
import {
  EXT4_HT_INODE,
  ext4_handle_dirty_metadata,
  ext4_handle_dirty_super,
  ext4_journal_get_write_access,
  ext4_journal_start,
  ext4_journal_stop,
  ext4_update_inode_fsync_trans,
  type handle_t,
} from "./ext4_jbd2.ts";
import { CRTIME_END, ext4_fits_in_inode } from "./iget.ts";
import { ext4_get_inode_loc, ext4_has_inline_data, type ext4_iloc } from "./inode.ts";

type raw_inode = struct_of<typeof M.ext4_inode>;
const TWO32 = 2 ** 32;

/** Seconds as 32 signed bits; the extra word has two more bits and the nanoseconds. */
export function ext4_encode_extra_time(t: timespec64): number {
  const epoch = Math.floor((t.tv_sec + 2 ** 31) / TWO32) & M.EXT4_EPOCH_MASK;
  return (((t.tv_nsec << M.EXT4_EPOCH_BITS) >>> 0) | epoch) >>> 0;
}
const seconds = (t: timespec64): number => ((t.tv_sec % TWO32) + TWO32) % TWO32;

const end_of = (field: keyof typeof M.ext4_inode.fields): number =>
  M.ext4_inode.offsetof(field) + M.ext4_inode.fields[field][0].size;
const CTIME_EXTRA_END = end_of("i_ctime_extra");
const MTIME_EXTRA_END = end_of("i_mtime_extra");
const ATIME_EXTRA_END = end_of("i_atime_extra");
const CRTIME_EXTRA_END = end_of("i_crtime_extra");
const VERSION_HI_END = end_of("i_version_hi");
const PROJID_END = end_of("i_projid");

function fill_times(inode: inode, ei: ext4_inode_info, raw: raw_inode): void {
  raw.i_ctime = seconds(inode.i_ctime);
  raw.i_mtime = seconds(inode.i_mtime);
  raw.i_atime = seconds(inode.i_atime);
  if (ext4_fits_in_inode(ei, CTIME_EXTRA_END)) {
    raw.i_ctime_extra = ext4_encode_extra_time(inode.i_ctime);
  }
  if (ext4_fits_in_inode(ei, MTIME_EXTRA_END)) {
    raw.i_mtime_extra = ext4_encode_extra_time(inode.i_mtime);
  }
  if (ext4_fits_in_inode(ei, ATIME_EXTRA_END)) {
    raw.i_atime_extra = ext4_encode_extra_time(inode.i_atime);
  }
  if (ext4_fits_in_inode(ei, CRTIME_END)) raw.i_crtime = seconds(ei.i_crtime);
  if (ext4_fits_in_inode(ei, CRTIME_EXTRA_END)) {
    raw.i_crtime_extra = ext4_encode_extra_time(ei.i_crtime);
  }
}

function fill_owner(inode: inode, ei: ext4_inode_info, raw: raw_inode): void {
  const wide = !test_opt(inode.i_sb, EXT4_MOUNT_NO_UID32);
  const low = (id: number): number => (wide || id < 65536 ? id & 0xffff : 65534);
  raw.i_uid = low(inode.i_uid);
  raw.i_gid = low(inode.i_gid);
  // a deleted inode keeps no high halves, so that 16-bit tools see the same owner
  const high = wide && !(ei.i_dtime && !ei.i_orphan);
  raw.i_uid_high = high ? inode.i_uid >>> 16 : 0;
  raw.i_gid_high = high ? inode.i_gid >>> 16 : 0;
}

/**
 * i_blocks in 512-byte units, or in blocks when it needs more than 48 bits. Throws EFBIG by
 * assertion.
 */
function fill_blocks(inode: inode, ei: ext4_inode_info, raw: raw_inode): void {
  const sb = inode.i_sb;
  let n = inode.i_blocks;
  const huge = has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_HUGE_FILE);
  if (n >= TWO32 && huge && n >= 2 ** 48) {
    n /= sb.s_blocksize / 512;
    ei.i_flags = (ei.i_flags | M.EXT4_HUGE_FILE_FL) >>> 0;
  } else {
    ei.i_flags = (ei.i_flags & ~M.EXT4_HUGE_FILE_FL) >>> 0;
  }
  raw.i_blocks_lo = n % TWO32;
  raw.i_blocks_high = huge ? Math.floor(n / TWO32) : 0;
}

/** The two forms of a device number. */
function fill_rdev(inode: inode, ei: ext4_inode_info): void {
  const major = MAJOR(inode.i_rdev);
  const minor = MINOR(inode.i_rdev);
  const v = ei.i_data_view;
  if (major < 256 && minor < 256) {
    v.setUint32(0, (major << 8) | minor, true);
    v.setUint32(4, 0, true);
  } else {
    v.setUint32(0, 0, true);
    v.setUint32(4, ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0, true);
    v.setUint32(8, 0, true);
  }
}

/**
 * All of the on-media inode but the checksum. Returns true when the superblock needs large_file.
 */
function fill_raw(inode: inode, ei: ext4_inode_info, raw: raw_inode): boolean {
  const sb = inode.i_sb;
  raw.i_mode = inode.i_mode;
  fill_owner(inode, ei, raw);
  raw.i_links_count = inode.i_nlink;
  fill_times(inode, ei, raw);
  fill_blocks(inode, ei, raw);
  raw.i_dtime = ei.i_dtime;
  raw.i_flags = ei.i_flags;
  raw.i_file_acl_lo = ei.i_file_acl % TWO32;
  raw.i_file_acl_high = Math.floor(ei.i_file_acl / TWO32);
  raw.i_size_lo = ei.i_disksize % TWO32;
  const wide = has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_LARGEDIR) || S_ISREG(inode.i_mode);
  raw.i_size_high = wide ? Math.floor(ei.i_disksize / TWO32) : 0;
  raw.i_generation = inode.i_generation;
  if (S_ISCHR(inode.i_mode) || S_ISBLK(inode.i_mode)) fill_rdev(inode, ei);
  if (!ext4_has_inline_data(inode)) raw.i_block = ei.i_data;
  if (!test_opt2(sb, EXT4_MOUNT2_HURD_COMPAT)) {
    raw.i_disk_version = inode.i_version % TWO32;
    if (ei.i_extra_isize > 0) {
      if (ext4_fits_in_inode(ei, VERSION_HI_END)) {
        raw.i_version_hi = Math.floor(inode.i_version / TWO32);
      }
    }
  }
  if (EXT4_SB(sb).s_inode_size > M.EXT4_GOOD_OLD_INODE_SIZE) {
    raw.i_extra_isize = ei.i_extra_isize;
    const project = has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_PROJECT);
    if (project && ext4_fits_in_inode(ei, PROJID_END)) raw.i_projid = ei.i_projid;
  }
  return (
    ei.i_disksize > 0x7fffffff && wide && !has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_LARGE_FILE)
  );
}

/** Puts the inode into its buffer and the buffer among the dirty ones. Drops iloc.bh. */
export async function ext4_mark_iloc_dirty(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
): Promise<void> {
  const sb = inode.i_sb;
  const sbi = EXT4_SB(sb);
  if (ext4_forced_shutdown(sbi)) {
    brelse(iloc.bh);
    throw EIO;
  }
  const ei = EXT4_I(inode);
  const b = iloc.bh.b_data;
  ei.i_raw_lock.lock();
  if (ext4_test_inode_state(inode, EXT4_STATE_NEW)) {
    b.fill(0, iloc.offset, iloc.offset + sbi.s_inode_size);
  }
  const raw = M.ext4_inode.at(b, iloc.offset);
  // only a new size is something that fdatasync has to wait for
  const resized = raw.i_size_lo + raw.i_size_high * TWO32 !== ei.i_disksize;
  const large = fill_raw(inode, ei, raw);
  if (ext4_has_metadata_csum(sbi.s_es)) {
    ext4_inode_csum_set(ei.i_csum_seed, b, iloc.offset, sbi.s_inode_size);
  }
  ei.i_raw_lock.unlock();
  ext4_update_inode_fsync_trans(handle, inode, resized);
  await ext4_handle_dirty_metadata(handle, null, iloc.bh);
  ext4_clear_inode_state(inode, EXT4_STATE_NEW);
  brelse(iloc.bh);
  if (large) {
    await ext4_journal_get_write_access(handle, sb, sbi.s_sbh);
    sbi.s_es.s_feature_ro_compat |= M.EXT4_FEATURE_RO_COMPAT_LARGE_FILE;
    await ext4_handle_dirty_super(handle, sb);
  }
}

/** The inode's buffer with write access; to be followed by ext4_mark_iloc_dirty(). */
export async function ext4_reserve_inode_write(handle: handle_t, inode: inode): Promise<ext4_iloc> {
  if (ext4_forced_shutdown(EXT4_SB(inode.i_sb))) throw EIO;
  const iloc = await ext4_get_inode_loc(inode);
  try {
    await ext4_journal_get_write_access(handle, inode.i_sb, iloc.bh);
  } catch (e) {
    brelse(iloc.bh);
    throw e;
  }
  return iloc;
}

/**
 * The inode was changed: its bytes go into the inode table's buffer, under this handle. `fn` names
 * the caller in the log line of a failure.
 */
export async function ext4_mark_inode_dirty(
  handle: handle_t,
  inode: inode,
  fn = "ext4_mark_inode_dirty",
): Promise<void> {
  try {
    const iloc = await ext4_reserve_inode_write(handle, inode);
    await ext4_mark_iloc_dirty(handle, inode, iloc);
  } catch (e) {
    ext4_error_inode(inode, fn, 0, "mark_inode_dirty error", EIO);
    throw e;
  }
}

/**
 * super_operations.dirty_inode: the VFS changed something (times). A change in a handle of its own.
 */
export async function ext4_dirty_inode(inode: inode, flags: number): Promise<void> {
  // only the times changed, and lazytime says that can wait
  if (flags === I_DIRTY_TIME) return;
  const handle = await ext4_journal_start(inode, EXT4_HT_INODE, 2);
  try {
    await ext4_mark_inode_dirty(handle, inode, "ext4_dirty_inode");
  } finally {
    ext4_journal_stop(handle);
  }
}

/**
 * super_operations.write_inode: the bytes are in the buffer since the inode was dirtied; a caller
 * that waits wants them on the media.
 */
export function ext4_write_inode(inode: inode, wbc: writeback_control): Sometime<void> {
  const sb = inode.i_sb;
  if (ext4_forced_shutdown(EXT4_SB(sb))) throw EIO;
  if (EXT4_SB(sb).s_journal !== null) return;
  if (wbc.sync_mode !== WB_SYNC_ALL || wbc.for_sync) return;
  return sync_inode_buffer(inode);
}

async function sync_inode_buffer(inode: inode): Promise<void> {
  const iloc = await ext4_get_inode_loc(inode);
  try {
    if (buffer_dirty(iloc.bh)) await sync_dirty_buffer(iloc.bh);
  } catch (e) {
    const text = "IO error syncing inode";
    ext4_error_inode(inode, "ext4_write_inode", iloc.bh.b_blocknr, text, EIO);
    throw e;
  } finally {
    brelse(iloc.bh);
  }
}
