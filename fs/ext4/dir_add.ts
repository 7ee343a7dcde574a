/**
 * fs/ext4/dir_add.ts - names into and out of a directory, and is it empty? Linux: fs/ext4/namei.c
 * (ext4_add_entry, ext4_delete_entry, ext4_empty_dir).
 *
 * A name goes, in this order: into the inode (inline directory), where its hash belongs (indexed
 * directory), into the first block with room, into a new block. When the only block is full and the
 * filesystem has dir_index, the directory gets its index.
 * Locks: i_rwsem of the directory; a handle is open.
 */
import { EFSCORRUPTED, EINVAL, ENOENT, is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { current_time, inode_inc_iversion } from "../../kernel/vfs/inode.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { ext4_has_metadata_csum } from "./csum.ts";
import {
  de_inode,
  de_name_len,
  de_rec_len,
  DIRENT,
  EITHER,
  ext4_check_dir_entry,
  ext4_dir_rec_len,
  ext4_read_dirblock,
  is_dx,
} from "./dirent.ts";
import {
  dir_csum_size,
  ext4_append,
  ext4_bread_create,
  ext4_find_dest_de,
  ext4_generic_delete_entry,
  ext4_handle_dirty_dirblock,
  ext4_insert_dentry,
  init_empty_leaf,
} from "./dirent_write.ts";
import { EXT4_FEATURE_COMPAT_DIR_INDEX, EXT4_INDEX_FL } from "./ext4.ts";
import {
  EXT4_SB,
  EXT4_STATE_NEWENTRY,
  ext4_clear_inode_flag,
  ext4_error_inode,
  ext4_set_inode_state,
  ext4_std_error,
  ext4_warning_inode,
  has_compat,
} from "./ext4_fs.ts";
import { ext4_journal_get_write_access, type handle_t } from "./ext4_jbd2.ts";
import { is_bad_dx } from "./htree.ts";
import { ext4_dx_add_entry, make_indexed_dir } from "./htree_write.ts";
import {
  empty_inline_dir,
  ext4_delete_inline_entry,
  ext4_try_add_inline_entry,
} from "./inline_dir.ts";
import { ext4_has_inline_data } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import type { ext4_found } from "./namei.ts";

/** A filesystem that lost dir_index: the index of a changed directory is no index any more. */
export function ext4_update_dx_flag(dir: inode): void {
  if (!has_compat(dir.i_sb, EXT4_FEATURE_COMPAT_DIR_INDEX)) {
    ext4_clear_inode_flag(dir, EXT4_INDEX_FL);
  }
}

/** A name was put into the buffer at `off`: times, version, both dirty. */
export async function insert_at(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
  off: number,
  name: Uint8Array,
  inode: inode,
): Promise<void> {
  await ext4_journal_get_write_access(handle, dir.i_sb, bh);
  ext4_insert_dentry(dir, bh.b_data, off, name, inode.i_ino, inode.i_mode);
  const now = current_time(dir);
  dir.i_mtime = now;
  dir.i_ctime = now;
  ext4_update_dx_flag(dir);
  inode_inc_iversion(dir);
  await ext4_mark_inode_dirty(handle, dir, "add_dirent_to_buf");
  await ext4_handle_dirty_dirblock(handle, dir, bh);
}

/** Puts the name into this block if it has room. Throws EEXIST, EUCLEAN. */
export async function add_dirent_to_buf(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
  name: Uint8Array,
  inode: inode,
): Promise<boolean> {
  const b = bh.b_data;
  const off = ext4_find_dest_de(dir, bh, b, 0, b.length - dir_csum_size(dir), name);
  if (off < 0) return false;
  await insert_at(handle, dir, bh, off, name, inode);
  return true;
}

async function add_to_fresh_block(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
  name: Uint8Array,
  inode: inode,
): Promise<void> {
  try {
    init_empty_leaf(dir, bh);
    await insert_at(handle, dir, bh, 0, name, inode);
  } finally {
    brelse(bh);
  }
}

async function add_linear(
  handle: handle_t,
  dir: inode,
  name: Uint8Array,
  inode: inode,
  may_index: boolean,
): Promise<void> {
  const blocks = Math.floor(dir.i_size / dir.i_sb.s_blocksize);
  for (let block = 0; block < blocks; block++) {
    const bh = await ext4_read_dirblock(dir, block, DIRENT, "ext4_add_entry");
    if (!bh) {
      const made = await ext4_bread_create(handle, dir, block);
      return add_to_fresh_block(handle, dir, made, name, inode);
    }
    try {
      if (await add_dirent_to_buf(handle, dir, bh, name, inode)) return;
      if (blocks === 1 && may_index) {
        await make_indexed_dir(handle, dir, bh, name, inode);
        return;
      }
    } finally {
      brelse(bh);
    }
  }
  const { bh } = await ext4_append(handle, dir);
  return add_to_fresh_block(handle, dir, bh, name, inode);
}

async function add_where_it_belongs(
  handle: handle_t,
  dir: inode,
  name: Uint8Array,
  inode: inode,
): Promise<void> {
  const sb = dir.i_sb;
  if (ext4_has_inline_data(dir) && (await ext4_try_add_inline_entry(handle, dir, name, inode))) {
    return;
  }
  let may_index = has_compat(sb, EXT4_FEATURE_COMPAT_DIR_INDEX);
  if (is_dx(dir)) {
    try {
      return await ext4_dx_add_entry(handle, dir, name, inode);
    } catch (e) {
      if (!is_bad_dx(e)) throw e;
    }
    if (ext4_has_metadata_csum(EXT4_SB(sb).s_es)) {
      ext4_error_inode(dir, "ext4_add_entry", 0, "Directory has corrupted htree index.");
      throw EFSCORRUPTED;
    }
    // the blocks of the index look like empty leaves: go on without it
    ext4_clear_inode_flag(dir, EXT4_INDEX_FL);
    may_index = false;
    await ext4_mark_inode_dirty(handle, dir, "ext4_add_entry");
  }
  await add_linear(handle, dir, name, inode, may_index);
}

/**
 * Gives `inode` the name (bytes) in `dir`. i_nlink is the caller's business.
 * @throws EEXIST, ENOSPC, EUCLEAN, EBADMSG, EIO
 */
export async function ext4_add_entry(
  handle: handle_t,
  dir: inode,
  name: Uint8Array,
  inode: inode,
): Promise<void> {
  if (name.length === 0) throw EINVAL;
  await add_where_it_belongs(handle, dir, name, inode);
  ext4_set_inode_state(inode, EXT4_STATE_NEWENTRY);
}

/** Takes out the entry that ext4_find_entry() found. The buffer stays the caller's. */
export async function ext4_delete_entry(
  handle: handle_t,
  dir: inode,
  found: ext4_found,
): Promise<void> {
  if (found.inlined && (await ext4_delete_inline_entry(handle, dir, found))) return;
  const { bh, off } = found;
  const b = bh.b_data;
  try {
    await ext4_journal_get_write_access(handle, dir.i_sb, bh);
    ext4_generic_delete_entry(dir, bh, b, off, 0, b.length - dir_csum_size(dir));
    await ext4_handle_dirty_dirblock(handle, dir, bh);
  } catch (e) {
    if (is_errno(e) && e !== ENOENT) ext4_std_error(dir.i_sb, "ext4_delete_entry", e);
    throw e;
  }
}

/** Do the first two entries name the directory itself and its parent? Offset behind them, or -1. */
function behind_dots(dir: inode, bh: buffer_head): number {
  const b = bh.b_data;
  const is = (off: number, dots: number): boolean => {
    const fn = "ext4_empty_dir";
    if (!ext4_check_dir_entry(dir, fn, bh, b, off, 0, b.length, off)) return false;
    if (de_name_len(b, off) !== dots) return false;
    for (let i = 0; i < dots; i++) if (b[off + 8 + i] !== 0x2e) return false;
    return dots === 1 ? de_inode(b, off) === dir.i_ino : de_inode(b, off) !== 0;
  };
  if (!is(0, 1)) {
    ext4_warning_inode(dir, "ext4_empty_dir", "directory missing '.'");
    return -1;
  }
  const second = de_rec_len(dir.i_sb, b, 0);
  if (!is(second, 2)) {
    ext4_warning_inode(dir, "ext4_empty_dir", "directory missing '..'");
    return -1;
  }
  return second + de_rec_len(dir.i_sb, b, second);
}

/** Has it no names but "." and ".."? What cannot be read counts as not empty. */
export async function ext4_empty_dir(dir: inode): Promise<boolean> {
  if (ext4_has_inline_data(dir)) {
    const r = await empty_inline_dir(dir);
    if (r !== undefined) return r;
  }
  if (dir.i_size < ext4_dir_rec_len(1) + ext4_dir_rec_len(2)) {
    ext4_error_inode(dir, "ext4_empty_dir", 0, "invalid size");
    return false;
  }
  const blocks = Math.floor(dir.i_size / dir.i_sb.s_blocksize);
  try {
    for (let block = 0; block < blocks; block++) {
      const bh = await ext4_read_dirblock(dir, block, EITHER, "ext4_empty_dir");
      if (!bh) continue;
      try {
        const from = block === 0 ? behind_dots(dir, bh) : 0;
        if (from < 0 || !is_empty_from(dir, bh, from, block)) return false;
      } finally {
        brelse(bh);
      }
    }
  } catch (e) {
    if (!is_errno(e)) throw e;
    return false;
  }
  return true;
}

function is_empty_from(dir: inode, bh: buffer_head, from: number, block: number): boolean {
  const b = bh.b_data;
  for (let off = from; off < b.length; off += de_rec_len(dir.i_sb, b, off)) {
    const at = block * b.length + off;
    if (!ext4_check_dir_entry(dir, "ext4_empty_dir", bh, b, off, 0, b.length, at)) return false;
    if (de_inode(b, off) !== 0) return false;
  }
  return true;
}
