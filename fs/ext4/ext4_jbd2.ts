/**
 * fs/ext4/ext4_jbd2.ts - the only door to changing metadata: handles, write access, dirtying.
 * Linux: fs/ext4/ext4_jbd2.{c,h}. Differs: there is no journal behind it yet, so every handle is
 * the empty one of Linux's no-journal mode; jbd2 will fill these calls and no caller changes.
 *
 * A caller opens a handle (naming what it does and how many blocks it may touch), gets write access
 * to a buffer, changes it, hands it back dirty, and closes the handle. Handles of one task nest:
 * the inner ones share the outer one.
 *
 * Lock order: a handle is taken inside i_rwsem and invalidate_lock and outside page locks and
 * i_data_sem. Invariant: a buffer is changed only between its get_*_access and
 * handle_dirty_metadata.
 */
import { assert } from "../../kernel/assert.ts";
import { EIO, EROFS } from "../../kernel/include/errno.ts";
import {
  S_DIRSYNC,
  S_SYNC,
  SB_FREEZE_COMPLETE,
  SB_SYNCHRONOUS,
  type inode,
  type Sometime,
  type super_block,
} from "../../kernel/include/fs.ts";
import {
  bforget,
  type buffer_head,
  mark_buffer_dirty,
  mark_buffer_dirty_inode,
  set_buffer_uptodate,
  sync_blockdev,
  sync_dirty_buffer,
} from "../buffer.ts";
import { ext4_has_metadata_csum, ext4_superblock_csum_set } from "./csum.ts";
import { EXT4_I, EXT4_MF_FS_ABORTED, EXT4_SB, ext4_forced_shutdown, sb_rdonly } from "./ext4_fs.ts";

/** What a handle is for: in traces and statistics (EXT4_HT_*). */
export const EXT4_HT_MISC = 0;
export const EXT4_HT_INODE = 1;
export const EXT4_HT_WRITE_PAGE = 2;
export const EXT4_HT_MAP_BLOCKS = 3;
export const EXT4_HT_DIR = 4;
export const EXT4_HT_TRUNCATE = 5;
export const EXT4_HT_QUOTA = 6;
export const EXT4_HT_RESIZE = 7;
export const EXT4_HT_MIGRATE = 8;
export const EXT4_HT_MOVE_EXTENTS = 9;
export const EXT4_HT_XATTR = 10;
export const EXT4_HT_EXT_CONVERT = 11;

/** Which checksum the buffer needs when it is written (Linux: enum ext4_journal_trigger_type). */
export const EXT4_JTR_NONE = 0;
export const EXT4_JTR_ORPHAN_FILE = 1;

/** Usual numbers of blocks that operations touch; a journal reserves room by them. */
export const EXT4_DATA_TRANS_BLOCKS = 27;
export const EXT4_XATTR_TRANS_BLOCKS = 6;
export const EXT4_INDEX_EXTRA_TRANS_BLOCKS = 12;
export const EXT4_RESERVE_TRANS_BLOCKS = 12;

/** One open handle of a task. Private to the task that opened it. */
export interface handle_t {
  readonly h_sb: super_block;
  h_ref: number;
  h_type: number;
  /** Blocks it may still dirty. */
  h_credits: number;
  /** The operation asked for its metadata to be on the media when it returns. */
  h_sync: boolean;
  h_aborted: boolean;
}

function check_start(sb: super_block): void {
  if (ext4_forced_shutdown(EXT4_SB(sb))) throw EIO;
  if (sb_rdonly(sb)) throw EROFS;
  if (EXT4_SB(sb).s_mount_flags & EXT4_MF_FS_ABORTED) throw EROFS;
  sb.kernel.WARN_ON(sb.s_writers.frozen === SB_FREEZE_COMPLETE, "handle on a frozen filesystem");
}

/**
 * Opens a handle, or joins the one this task has open on the same filesystem.
 * Throws EROFS (read-only, aborted), EIO (shut down). May sleep once there is a journal.
 */
export function ext4_journal_start_sb(
  sb: super_block,
  type: number,
  nblocks: number,
): Sometime<handle_t> {
  check_start(sb);
  const task = sb.kernel.current;
  const open = task.journal_info as handle_t | null;
  if (open) {
    assert(open.h_sb === sb, "a handle of another filesystem is open");
    open.h_ref++;
    return open;
  }
  const handle: handle_t = {
    h_sb: sb,
    h_ref: 1,
    h_type: type,
    h_credits: nblocks,
    h_sync: false,
    h_aborted: false,
  };
  task.journal_info = handle;
  return handle;
}

export function ext4_journal_start(
  inode: inode,
  type: number,
  nblocks: number,
): Sometime<handle_t> {
  return ext4_journal_start_sb(inode.i_sb, type, nblocks);
}

/** Closes a handle. Every start has exactly one stop, on error paths too. */
export function ext4_journal_stop(handle: handle_t): void {
  assert(handle.h_ref > 0, "handle closed twice");
  handle.h_ref--;
  if (handle.h_ref > 0) return;
  const task = handle.h_sb.kernel.current;
  assert(task.journal_info === handle, "handle closed by another task");
  task.journal_info = null;
}

export function ext4_journal_current_handle(sb: super_block): handle_t | null {
  return sb.kernel.current.journal_info as handle_t | null;
}

/** Runs `fn` with a handle open and closes it whatever happens. */
export async function ext4_with_handle<T>(
  sb: super_block,
  type: number,
  nblocks: number,
  fn: (handle: handle_t) => Sometime<T>,
): Promise<T> {
  const handle = await ext4_journal_start_sb(sb, type, nblocks);
  try {
    return await fn(handle);
  } finally {
    ext4_journal_stop(handle);
  }
}

/**
 * More credits for a long operation. True: there was no room, the caller must restart the handle.
 */
export function ext4_journal_extend(handle: handle_t, nblocks: number): boolean {
  handle.h_credits += nblocks;
  return false;
}

/** Ends what was done so far as one atomic step and goes on with fresh credits. */
export function ext4_journal_restart(handle: handle_t, nblocks: number): Sometime<void> {
  handle.h_credits = nblocks;
}

/**
 * Makes sure that the handle can dirty `check_cred` more blocks; when it has to be restarted for
 * that, `before` runs first, so that the metadata is whole at that point. True: it was restarted.
 */
export function ext4_journal_ensure_credits(
  handle: handle_t,
  check_cred: number,
  extend_cred: number,
  before?: () => void,
): Sometime<boolean> {
  if (handle.h_credits >= check_cred) return false;
  if (!ext4_journal_extend(handle, extend_cred)) return false;
  before?.();
  const p = ext4_journal_restart(handle, extend_cred);
  return p ? p.then(() => true) : true;
}

/** Before changing a buffer whose old contents matter. */
export function ext4_journal_get_write_access(
  handle: handle_t,
  _sb: super_block,
  _bh: buffer_head,
  _type: number = EXT4_JTR_NONE,
): Sometime<void> {
  assert(handle.h_ref > 0, "write access without an open handle");
}

/** Before filling a block that is new: its old contents mean nothing. */
export function ext4_journal_get_create_access(
  handle: handle_t,
  _sb: super_block,
  _bh: buffer_head,
  _type: number = EXT4_JTR_NONE,
): Sometime<void> {
  assert(handle.h_ref > 0, "create access without an open handle");
}

const wants_sync = (inode: inode): boolean =>
  (inode.i_flags & S_SYNC) !== 0 || (inode.i_sb.s_flags & SB_SYNCHRONOUS) !== 0;
/** Changes of this directory must be on the media when the call returns. */
export const IS_DIRSYNC = (inode: inode): boolean =>
  wants_sync(inode) || (inode.i_flags & S_DIRSYNC) !== 0;
export const IS_SYNC = wants_sync;

/**
 * The changed buffer is handed over: dirty now, on the media at the next sync (or at once if
 * asked).
 */
export function ext4_handle_dirty_metadata(
  handle: handle_t | null,
  inode: inode | null,
  bh: buffer_head,
): Sometime<void> {
  assert(handle === null || handle.h_ref > 0, "metadata dirtied without an open handle");
  set_buffer_uptodate(bh);
  if (inode) mark_buffer_dirty_inode(bh, inode);
  else mark_buffer_dirty(bh);
  if (inode && wants_sync(inode)) return sync_dirty_buffer(bh);
}

/** The superblock was changed. */
export function ext4_handle_dirty_super(handle: handle_t | null, sb: super_block): Sometime<void> {
  const sbi = EXT4_SB(sb);
  if (ext4_has_metadata_csum(sbi.s_es)) ext4_superblock_csum_set(sbi.s_sbh.b_data, sbi.s_es._off);
  return ext4_handle_dirty_metadata(handle, null, sbi.s_sbh);
}

/** A block is freed or no longer metadata: its buffer must never be written again. */
export function ext4_forget(
  handle: handle_t,
  _is_metadata: boolean,
  _inode: inode,
  bh: buffer_head | null,
  _blocknr: number,
): Sometime<void> {
  assert(handle.h_ref > 0, "forget without an open handle");
  if (bh) bforget(bh);
}

/** Marks the handle so that its end waits for the media. */
export function ext4_handle_sync(handle: handle_t): void {
  handle.h_sync = true;
}

/** The inode's metadata changes in this step: fsync has to wait for it, fdatasync if `datasync`. */
export function ext4_update_inode_fsync_trans(
  handle: handle_t,
  inode: inode,
  datasync: boolean,
): void {
  const ei = EXT4_I(inode);
  const tid = EXT4_SB(handle.h_sb).s_tid;
  ei.i_sync_tid = tid;
  if (datasync) ei.i_datasync_tid = tid;
}

/**
 * Makes all metadata changed so far durable: the part that a journal commit plays. Here every dirty
 * buffer of the device is written; nothing to do when `tid` is on the media already.
 */
export function ext4_commit_tid(sb: super_block, tid: number): Sometime<void> {
  const sbi = EXT4_SB(sb);
  if (tid <= sbi.s_commit_tid || !sb.s_bdev) return;
  const upto = sbi.s_tid++;
  const done = (): void => {
    sbi.s_commit_tid = Math.max(sbi.s_commit_tid, upto);
  };
  const p = sync_blockdev(sb.s_bdev);
  if (p) return p.then(done);
  done();
}

/** Would fdatasync have metadata to write? Decides whether a MAP_SYNC fault has to sync. */
export function ext4_inode_datasync_dirty(inode: inode): boolean {
  return EXT4_I(inode).i_datasync_tid > EXT4_SB(inode.i_sb).s_commit_tid;
}
