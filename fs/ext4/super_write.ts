/**
 * fs/ext4/super_write.ts - what a read-write mount does to the superblock, from mount to umount.
 * Linux: ext4_setup_super(), ext4_commit_super(), ext4_sync_fs(), ext4_freeze() in fs/ext4/super.c.
 *
 * Without a journal the media is marked "not cleanly unmounted" while it is mounted read-write. The
 * free counts of the superblock are brought up to date whenever it is written; in between the group
 * descriptors are the truth. Lock: s_umount.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import type { super_block } from "../../kernel/include/fs.ts";
import {
  mark_buffer_dirty,
  set_buffer_uptodate,
  sync_blockdev,
  sync_dirty_buffer,
} from "../buffer.ts";
import { ext4_has_metadata_csum, ext4_superblock_csum_set } from "./csum.ts";
import * as M from "./ext4.ts";
import { ext4_commit_tid } from "./ext4_jbd2.ts";
import {
  EXT4_C2B,
  EXT4_FLAGS_SHUTDOWN,
  EXT4_MF_FS_ABORTED,
  EXT4_SB,
  ext4_forced_shutdown,
  ext4_msg,
  KERN_WARNING,
  sb_rdonly,
} from "./ext4_fs.ts";

const TWO32 = 2 ** 32;

/** Counters and write time into the superblock's buffer. */
function update_super(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  if (!sb_rdonly(sb)) {
    const now = sb.kernel.time.real().tv_sec;
    es.s_wtime = now % TWO32;
    es.s_wtime_hi = Math.floor(now / TWO32) & 0xff;
  }
  const free = EXT4_C2B(sbi, Math.max(0, sbi.s_freeclusters_counter));
  es.s_free_blocks_count_lo = free % TWO32;
  if (es.s_feature_incompat & M.EXT4_FEATURE_INCOMPAT_64BIT) {
    es.s_free_blocks_count_hi = Math.floor(free / TWO32);
  }
  es.s_free_inodes_count = Math.max(0, sbi.s_freeinodes_counter);
  if (ext4_has_metadata_csum(es)) ext4_superblock_csum_set(sbi.s_sbh.b_data, es._off);
}

/** Writes the superblock now. Throws EIO. */
export async function ext4_commit_super(sb: super_block): Promise<void> {
  const sbi = EXT4_SB(sb);
  update_super(sb);
  set_buffer_uptodate(sbi.s_sbh);
  mark_buffer_dirty(sbi.s_sbh);
  await sync_dirty_buffer(sbi.s_sbh);
}

function warn_about_state(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const warn = (text: string): void => ext4_msg(sb, KERN_WARNING, text);
  if (!(sbi.s_mount_state & M.EXT4_VALID_FS)) {
    warn("warning: mounting unchecked fs, running e2fsck is recommended");
  } else if (sbi.s_mount_state & M.EXT4_ERROR_FS) {
    warn("warning: mounting fs with errors, running e2fsck is recommended");
  } else if (es.s_max_mnt_count > 0 && es.s_max_mnt_count < 0x8000) {
    if (es.s_mnt_count >= es.s_max_mnt_count) {
      warn("warning: maximal mount count reached, running e2fsck is recommended");
    }
  } else if (es.s_checkinterval) {
    const due = es.s_lastcheck + es.s_lastcheck_hi * TWO32 + es.s_checkinterval;
    if (due <= sb.kernel.time.real().tv_sec) {
      warn("warning: checktime reached, running e2fsck is recommended");
    }
  }
}

/** Read-write mount or remount: state, mount count and times go to the superblock. */
export async function ext4_setup_super(sb: super_block): Promise<void> {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  warn_about_state(sb);
  // no journal keeps it whole: until umount the media is not clean
  es.s_state &= ~M.EXT4_VALID_FS;
  if (!es.s_max_mnt_count) es.s_max_mnt_count = 0xffff;
  es.s_mnt_count = (es.s_mnt_count + 1) & 0xffff;
  const now = sb.kernel.time.real().tv_sec;
  es.s_mtime = now % TWO32;
  es.s_mtime_hi = Math.floor(now / TWO32) & 0xff;
  // counted when the descriptors were read; at the first mount that is still to come
  if (sbi.s_freeclusters_counter === 0 && sbi.s_freeinodes_counter === 0) {
    if (ext4_has_metadata_csum(es)) ext4_superblock_csum_set(sbi.s_sbh.b_data, es._off);
    mark_buffer_dirty(sbi.s_sbh);
    await sync_dirty_buffer(sbi.s_sbh);
    return;
  }
  await ext4_commit_super(sb);
}

/** Everything is written; the superblock says clean again (or keeps the errors it had). */
async function mark_clean(sb: super_block): Promise<void> {
  const sbi = EXT4_SB(sb);
  const aborted = (sbi.s_mount_flags & EXT4_MF_FS_ABORTED) !== 0;
  if (!aborted && !ext4_forced_shutdown(sbi)) {
    sbi.s_es.s_state = (sbi.s_mount_state & 0xffff) | (sbi.s_es.s_state & M.EXT4_ERROR_FS);
    sbi.s_es.s_feature_ro_compat &= ~M.EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT;
  }
  if (!ext4_forced_shutdown(sbi)) await ext4_commit_super(sb);
}

/** Unmount of a read-write mount. Everything was synced before. */
export async function ext4_finish_super(sb: super_block): Promise<void> {
  try {
    if (sb.s_bdev && !ext4_forced_shutdown(EXT4_SB(sb))) await sync_blockdev(sb.s_bdev);
    await mark_clean(sb);
  } catch (e) {
    if (!is_errno(e)) throw e;
    ext4_msg(sb, 3, `Couldn't clean up the superblock: ${e.code}`);
  }
}

/** Remount read-only: the caller sets SB_RDONLY afterwards. */
export async function ext4_remount_ro(sb: super_block): Promise<void> {
  await ext4_sync_fs(sb, true);
  const sbi = EXT4_SB(sb);
  // an image that was not clean when it was mounted does not become so
  if (sbi.s_mount_state & M.EXT4_VALID_FS) await mark_clean(sb);
}

/** sync(2) on this filesystem: the inodes were written to their buffers before. */
export async function ext4_sync_fs(sb: super_block, wait: boolean): Promise<void> {
  if (ext4_forced_shutdown(EXT4_SB(sb)) || sb_rdonly(sb)) return;
  update_super(sb);
  // After a failed write the bytes here are still the right ones.
  set_buffer_uptodate(EXT4_SB(sb).s_sbh);
  mark_buffer_dirty(EXT4_SB(sb).s_sbh);
  if (wait) await ext4_commit_tid(sb, EXT4_SB(sb).s_tid);
}

/** Frozen: all is on the media, and the media says clean. */
export async function ext4_freeze(sb: super_block): Promise<void> {
  if (sb_rdonly(sb)) return;
  await ext4_commit_tid(sb, EXT4_SB(sb).s_tid);
  await mark_clean(sb);
}
export async function ext4_unfreeze(sb: super_block): Promise<void> {
  if (sb_rdonly(sb) || ext4_forced_shutdown(EXT4_SB(sb))) return;
  EXT4_SB(sb).s_es.s_state &= ~M.EXT4_VALID_FS;
  try {
    await ext4_commit_super(sb);
  } catch (e) {
    // The buffer remembers it; nobody is kept frozen for it.
    if (!is_errno(e)) throw e;
  }
}

/** The device is gone or the user asked for it: nothing more is written. */
export function ext4_shutdown(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  if (ext4_forced_shutdown(sbi)) return;
  ext4_msg(sb, 1, "shut down requested (1)");
  sbi.s_ext4_flags |= EXT4_FLAGS_SHUTDOWN;
}
