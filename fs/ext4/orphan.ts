/**
 * fs/ext4/orphan.ts - inodes whose last step a crash must finish: unlinked but open, or being
 * shortened. Linux: fs/ext4/orphan.c. Differs: the orphan file is read and emptied at mount, new
 * entries go to the list.
 *
 * The list is threaded through i_dtime: the superblock names the first, each inode the next.
 * Without a journal the order of writes is not kept, so a list on the media would lie: as in Linux
 * nothing is recorded then. Lock: s_orphan_lock.
 */
import { assert } from "../../kernel/assert.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import type { inode, super_block } from "../../kernel/include/fs.ts";
import { S_ISDIR, S_ISLNK, S_ISREG } from "../../kernel/include/stat.ts";
import { iput, is_bad_inode } from "../../kernel/vfs/inode.ts";
import * as M from "./ext4.ts";
import {
  EXT4_I,
  EXT4_SB,
  ext4_error,
  ext4_msg,
  has_ro_compat,
  KERN_INFO,
  sb_rdonly,
} from "./ext4_fs.ts";
import { ext4_orphan_get } from "./ialloc.ts";
import {
  ext4_handle_dirty_super,
  ext4_journal_get_write_access,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_mark_iloc_dirty, ext4_reserve_inode_write } from "./inode_write.ts";
import { ext4_truncate } from "./truncate.ts";

/** Puts the inode at the head of the list. Once is enough: a second call does nothing. */
export async function ext4_orphan_add(handle: handle_t, inode: inode): Promise<void> {
  const sb = inode.i_sb;
  const sbi = EXT4_SB(sb);
  if (sbi.s_journal === null || is_bad_inode(inode)) return;
  const ei = EXT4_I(inode);
  if (ei.i_orphan) return;
  const may = S_ISREG(inode.i_mode) || S_ISDIR(inode.i_mode) || S_ISLNK(inode.i_mode);
  assert(may || inode.i_nlink === 0, "an inode with a name and without data cannot be an orphan");
  await ext4_journal_get_write_access(handle, sb, sbi.s_sbh);
  const iloc = await ext4_reserve_inode_write(handle, inode);
  const p = sbi.s_orphan_lock.lock();
  if (p) await p;
  ei.i_dtime = sbi.s_es.s_last_orphan;
  sbi.s_es.s_last_orphan = inode.i_ino;
  sbi.s_orphan.unshift(inode);
  ei.i_orphan = true;
  sbi.s_orphan_lock.unlock();
  await ext4_handle_dirty_super(handle, sb);
  await ext4_mark_iloc_dirty(handle, inode, iloc);
}

/**
 * Takes the inode off the list. With no handle (a failed operation) only the list in memory
 * changes.
 */
export async function ext4_orphan_del(handle: handle_t | null, inode: inode): Promise<void> {
  const ei = EXT4_I(inode);
  if (!ei.i_orphan) return;
  const sb = inode.i_sb;
  const sbi = EXT4_SB(sb);
  const p = sbi.s_orphan_lock.lock();
  if (p) await p;
  const at = sbi.s_orphan.indexOf(inode);
  const before = at > 0 ? sbi.s_orphan[at - 1]! : null;
  const next = ei.i_dtime;
  sbi.s_orphan.splice(at, 1);
  ei.i_orphan = false;
  sbi.s_orphan_lock.unlock();
  if (!handle) return;
  if (before) {
    const iloc = await ext4_reserve_inode_write(handle, before);
    EXT4_I(before).i_dtime = next;
    await ext4_mark_iloc_dirty(handle, before, iloc);
  } else {
    await ext4_journal_get_write_access(handle, sb, sbi.s_sbh);
    sbi.s_es.s_last_orphan = next;
    await ext4_handle_dirty_super(handle, sb);
  }
  const iloc = await ext4_reserve_inode_write(handle, inode);
  ei.i_dtime = 0;
  await ext4_mark_iloc_dirty(handle, inode, iloc);
}

/**
 * Finishes one orphan: a file with a name is shortened, one without is deleted by the last iput.
 */
async function process_orphan(inode: inode, count: { deleted: number; truncated: number }) {
  if (inode.i_nlink > 0) {
    await ext4_truncate(inode);
    count.truncated++;
  } else {
    count.deleted++;
  }
  await iput(inode);
}

/** Read-write mount: inodes on the orphan list are truncated or deleted. */
export async function ext4_orphan_cleanup(sb: super_block): Promise<void> {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  if (has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT)) {
    ext4_error(sb, "ext4_orphan_cleanup", "the orphan file has entries: not supported yet");
    return;
  }
  if (es.s_last_orphan === 0 || sb_rdonly(sb)) return;
  if (sbi.s_mount_state & M.EXT4_ERROR_FS) {
    ext4_msg(sb, KERN_INFO, "Errors on filesystem, clearing orphan list.");
    es.s_last_orphan = 0;
    return;
  }
  sbi.s_mount_state |= M.EXT4_ORPHAN_FS;
  const count = { deleted: 0, truncated: 0 };
  try {
    for (let left = es.s_inodes_count; es.s_last_orphan !== 0 && left > 0; left--) {
      const inode = await ext4_orphan_get(sb, es.s_last_orphan);
      // the next one, before this one's i_dtime means something else
      es.s_last_orphan = EXT4_I(inode).i_dtime;
      EXT4_I(inode).i_dtime = 0;
      await process_orphan(inode, count);
    }
  } catch (e) {
    if (!is_errno(e)) throw e;
    es.s_last_orphan = 0;
  } finally {
    sbi.s_mount_state &= ~M.EXT4_ORPHAN_FS;
  }
  const plural = (n: number): string => (n === 1 ? "" : "s");
  if (count.deleted) {
    ext4_msg(sb, KERN_INFO, `${count.deleted} orphan inode${plural(count.deleted)} deleted`);
  }
  if (count.truncated) {
    const n = count.truncated;
    ext4_msg(sb, KERN_INFO, `${n} truncate${plural(n)} cleaned up`);
  }
}
