/**
 * fs/ext4/evict.ts - the end of an inode: out of memory, and off the media when it has no name
 * left. Linux: ext4_evict_inode() in fs/ext4/inode.c, ext4_drop_inode().
 */
import { is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { clear_inode, generic_drop_inode, is_bad_inode } from "../../kernel/vfs/inode.ts";
import { sb_end_intwrite, sb_start_intwrite } from "../../kernel/vfs/super.ts";
import { ext4_es_drop } from "./da_reserve.ts";
import { EXT_MAX_BLOCKS } from "./ext4.ts";
import { EXT4_I, EXT4_SB, ext4_forced_shutdown, ext4_warning, sb_rdonly } from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_TRUNCATE,
  ext4_handle_sync,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
  IS_SYNC,
} from "./ext4_jbd2.ts";
import { ext4_free_inode } from "./ialloc.ts";
import { ext4_inode_is_fast_symlink } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_discard_preallocations } from "./mballoc.ts";
import { ext4_orphan_del } from "./orphan.ts";
import { ext4_truncate } from "./truncate.ts";
import { ext4_xattr_delete_inode } from "./xattr_write.ts";

export function ext4_drop_inode(inode: inode): boolean {
  return generic_drop_inode(inode);
}

/** What memory keeps for an inode beside the inode: not needed once it is gone. */
async function ext4_clear_inode(inode: inode): Promise<void> {
  await ext4_discard_preallocations(inode);
  ext4_es_drop(inode, 0, EXT_MAX_BLOCKS);
  clear_inode(inode);
}

/** Frees blocks, attributes and the inode itself. Errors leave the inode leaked, and are logged. */
async function delete_inode(inode: inode): Promise<void> {
  const sb = inode.i_sb;
  const handle = await ext4_journal_start(inode, EXT4_HT_TRUNCATE, EXT4_DATA_TRANS_BLOCKS + 3);
  try {
    if (IS_SYNC(inode)) ext4_handle_sync(handle);
    if (ext4_inode_is_fast_symlink(inode)) EXT4_I(inode).i_data.fill(0);
    inode.i_size = 0;
    try {
      await ext4_mark_inode_dirty(handle, inode);
    } catch (e) {
      if (!is_errno(e)) throw e;
      ext4_warning(sb, "ext4_evict_inode", `couldn't mark inode dirty (err ${e.code})`);
      return;
    }
    if (inode.i_blocks > 0) await truncate_logged(inode);
    await ext4_xattr_delete_inode(handle, inode);
    await finish(handle, inode);
  } finally {
    ext4_journal_stop(handle);
  }
}

async function truncate_logged(inode: inode): Promise<void> {
  try {
    await ext4_truncate(inode);
  } catch (e) {
    if (!is_errno(e)) throw e;
    const text = `couldn't truncate inode ${inode.i_ino} (err ${e.code})`;
    ext4_warning(inode.i_sb, "ext4_evict_inode", text);
  }
}

/** Last: when the inode's deletion is on its way, its number may be used again. */
async function finish(handle: handle_t, inode: inode): Promise<void> {
  const ei = EXT4_I(inode);
  await ext4_orphan_del(handle, inode);
  ei.i_dtime = Math.max(1, inode.kernel.time.real().tv_sec % 2 ** 32);
  try {
    await ext4_mark_inode_dirty(handle, inode);
  } catch (e) {
    if (!is_errno(e)) throw e;
    await ext4_clear_inode(inode);
    return;
  }
  await ext4_discard_preallocations(inode);
  ext4_es_drop(inode, 0, EXT_MAX_BLOCKS);
  await ext4_free_inode(handle, inode);
}

/** super_operations.evict_inode: the last reference is gone. */
export async function ext4_evict_inode(inode: inode): Promise<void> {
  const sb = inode.i_sb;
  await inode.kernel.vfs_ops.truncate_inode_pages_final(inode.i_data);
  const keep =
    inode.i_nlink > 0 || is_bad_inode(inode) || sb_rdonly(sb) || ext4_forced_shutdown(EXT4_SB(sb));
  if (keep) return ext4_clear_inode(inode);
  // inside a handle the freeze level is held already
  const nested = sb.kernel.current.journal_info !== null;
  if (!nested) {
    const p = sb_start_intwrite(sb);
    if (p) await p;
  }
  try {
    await delete_inode(inode);
  } catch (e) {
    if (!is_errno(e)) throw e;
    ext4_warning(sb, "ext4_evict_inode", `couldn't delete inode ${inode.i_ino} (err ${e.code})`);
    await ext4_orphan_del(null, inode);
    await ext4_clear_inode(inode);
  } finally {
    if (!nested) sb_end_intwrite(sb);
  }
}
