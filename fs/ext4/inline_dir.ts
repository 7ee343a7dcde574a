/**
 * fs/ext4/inline_dir.ts - names in an inline directory: put in, taken out. Linux: fs/ext4/inline.c.
 * Finding and listing them: inline.ts.
 *
 * i_block holds the number of ".." and 56 bytes of entries; system.data, once it is needed, holds
 * more entries in all the room that the inode has. Each of the two is to its entries a block of its
 * own. When both are full the names move into a block, behind a "." and "..".
 * Locks: i_rwsem of the directory, xattr_sem for writing; a handle is open.
 */
import { EFSCORRUPTED, ENOSPC } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { current_time, inode_inc_iversion, set_nlink } from "../../kernel/vfs/inode.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { de_inode, de_rec_len, ext4_check_dir_entry, ext4_dir_rec_len } from "./dirent.ts";
import {
  dir_csum_size,
  ext4_find_dest_de,
  ext4_generic_delete_entry,
  ext4_handle_dirty_dirblock,
  ext4_init_dot_dotdot,
  ext4_initialize_dirent_tail,
  ext4_insert_dentry,
  set_de_inode,
  set_de_rec_len,
} from "./dirent_write.ts";
import { ext4_inode } from "./ext4.ts";
import { BH_dir_verified, EXT4_I, ext4_warning } from "./ext4_fs.ts";
import { ext4_journal_get_write_access, type handle_t } from "./ext4_jbd2.ts";
import {
  EXT4_INLINE_DOTDOT_SIZE,
  EXT4_MIN_INLINE_DATA_SIZE,
  ext4_inline_tail,
  with_inline,
} from "./inline.ts";
import {
  ext4_convert_inline_data_nolock,
  ext4_prepare_inline_data,
  ext4_update_inline_data,
  max_inline_value,
  with_xattr_lock,
} from "./inline_write.ts";
import { ext4_get_inode_loc, ext4_has_inline_data, type ext4_iloc } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import type { ext4_found } from "./namei.ts";

const I_BLOCK = ext4_inode.offsetof("i_block");

interface region {
  off: number;
  len: number;
}
/** The entries in i_block, as bytes of the inode table's block. */
const first_region = (iloc: ext4_iloc): region => ({
  off: iloc.offset + I_BLOCK + EXT4_INLINE_DOTDOT_SIZE,
  len: EXT4_MIN_INLINE_DATA_SIZE - EXT4_INLINE_DOTDOT_SIZE,
});
const regions = (dir: inode, iloc: ext4_iloc): region[] => {
  const tail = ext4_inline_tail(dir, iloc);
  return tail.len > 0 ? [first_region(iloc), tail] : [first_region(iloc)];
};

/**
 * The last entry of [start, start + old) takes the room up to `size`; without entries one unused is
 * made.
 */
function ext4_update_final_de(
  dir: inode,
  b: Uint8Array,
  start: number,
  old: number,
  size: number,
): void {
  let last = start;
  for (let off = start; off < start + old; ) {
    last = off;
    const rlen = de_rec_len(dir.i_sb, b, off);
    if (rlen <= 0) throw EFSCORRUPTED;
    off += rlen;
  }
  if (old === 0) set_de_inode(b, start, 0);
  set_de_rec_len(dir, b, last, start + size - last);
}

// --- adding -----------------------------------------------------------------------------------

async function add_to_region(
  handle: handle_t,
  dir: inode,
  iloc: ext4_iloc,
  r: region,
  name: Uint8Array,
  inode: inode,
): Promise<boolean> {
  const b = iloc.bh.b_data;
  const off = ext4_find_dest_de(dir, iloc.bh, b, r.off, r.len, name);
  if (off < 0) return false;
  await ext4_journal_get_write_access(handle, dir.i_sb, iloc.bh);
  ext4_insert_dentry(dir, b, off, name, inode.i_ino, inode.i_mode);
  const now = current_time(dir);
  dir.i_mtime = now;
  dir.i_ctime = now;
  inode_inc_iversion(dir);
  return true;
}

/** All the room in the inode becomes the directory's. False: there is none worth it. */
async function ext4_update_inline_dir(
  handle: handle_t,
  dir: inode,
  iloc: ext4_iloc,
): Promise<boolean> {
  const ei = EXT4_I(dir);
  const old = ei.i_inline_size - EXT4_MIN_INLINE_DATA_SIZE;
  const size = max_inline_value(dir, iloc);
  if (size - old <= ext4_dir_rec_len(1)) return false;
  try {
    await ext4_update_inline_data(handle, dir, iloc, size + EXT4_MIN_INLINE_DATA_SIZE);
  } catch (e) {
    if (e === ENOSPC) return false;
    throw e;
  }
  const tail = ext4_inline_tail(dir, iloc);
  ext4_update_final_de(dir, iloc.bh.b_data, tail.off, old, tail.len);
  dir.i_size = ei.i_inline_size;
  ei.i_disksize = ei.i_inline_size;
  return true;
}

async function add_locked(
  handle: handle_t,
  dir: inode,
  iloc: ext4_iloc,
  name: Uint8Array,
  inode: inode,
): Promise<boolean> {
  if (await add_to_region(handle, dir, iloc, first_region(iloc), name, inode)) return true;
  if (ext4_inline_tail(dir, iloc).len === 0) await ext4_update_inline_dir(handle, dir, iloc);
  const tail = ext4_inline_tail(dir, iloc);
  if (tail.len > 0 && (await add_to_region(handle, dir, iloc, tail, name, inode))) return true;
  await ext4_convert_inline_data_nolock(handle, dir, iloc);
  return false;
}

/**
 * True: the name is in. False: the directory is (now) one of blocks, and the name is still to be
 * added.
 */
export async function ext4_try_add_inline_entry(
  handle: handle_t,
  dir: inode,
  name: Uint8Array,
  inode: inode,
): Promise<boolean> {
  const iloc = await ext4_get_inode_loc(dir);
  try {
    const added = await with_xattr_lock(dir, async () =>
      ext4_has_inline_data(dir) ? add_locked(handle, dir, iloc, name, inode) : false,
    );
    await ext4_mark_inode_dirty(handle, dir, "ext4_try_add_inline_entry");
    return added;
  } finally {
    brelse(iloc.bh);
  }
}

// --- into a block -----------------------------------------------------------------------------

/** Are the entries sane? `data` is all inline data of the directory. Throws EUCLEAN. */
export function check_inline_entries(dir: inode, bh: buffer_head, data: Uint8Array): void {
  const size = data.length - EXT4_INLINE_DOTDOT_SIZE;
  const fn = "ext4_check_all_de";
  for (let off = EXT4_INLINE_DOTDOT_SIZE; off < data.length; ) {
    const start = EXT4_INLINE_DOTDOT_SIZE;
    if (!ext4_check_dir_entry(dir, fn, bh, data, off, start, size, off)) throw EFSCORRUPTED;
    off += de_rec_len(dir.i_sb, data, off);
  }
}

/** Fills the directory's new block 0 with what was inline. */
export async function finish_convert_inline_dir(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
  data: Uint8Array,
): Promise<void> {
  const b = bh.b_data;
  const header = ext4_dir_rec_len(1) + ext4_dir_rec_len(2);
  ext4_init_dot_dotdot(dir, b, de_inode(data, 0), true);
  b.set(data.subarray(EXT4_INLINE_DOTDOT_SIZE), header);
  const used = header + data.length - EXT4_INLINE_DOTDOT_SIZE;
  dir.i_size = b.length;
  EXT4_I(dir).i_disksize = b.length;
  ext4_update_final_de(dir, b, 0, used, b.length - dir_csum_size(dir));
  ext4_initialize_dirent_tail(dir, bh);
  await ext4_handle_dirty_dirblock(handle, dir, bh);
  bh.b_state |= BH_dir_verified;
  await ext4_mark_inode_dirty(handle, dir, "ext4_finish_convert_inline_dir");
}

// --- making, removing -------------------------------------------------------------------------

/** An empty directory in the inode. False: there is no room, make one of blocks. */
export async function ext4_try_create_inline_dir(
  handle: handle_t,
  parent: inode,
  dir: inode,
): Promise<boolean> {
  try {
    await ext4_prepare_inline_data(handle, dir, EXT4_MIN_INLINE_DATA_SIZE);
  } catch (e) {
    if (e === ENOSPC) return false;
    throw e;
  }
  const iloc = await ext4_get_inode_loc(dir);
  const b = iloc.bh.b_data;
  const { off, len } = first_region(iloc);
  set_de_inode(b, iloc.offset + I_BLOCK, parent.i_ino);
  set_de_inode(b, off, 0);
  set_de_rec_len(dir, b, off, len);
  brelse(iloc.bh);
  set_nlink(dir, 2);
  dir.i_size = EXT4_MIN_INLINE_DATA_SIZE;
  EXT4_I(dir).i_disksize = EXT4_MIN_INLINE_DATA_SIZE;
  return true;
}

/** False: the directory is not inline any more. */
export async function ext4_delete_inline_entry(
  handle: handle_t,
  dir: inode,
  found: ext4_found,
): Promise<boolean> {
  const iloc = await ext4_get_inode_loc(dir);
  try {
    const done = await with_xattr_lock(dir, async () => {
      if (!ext4_has_inline_data(dir)) return false;
      const { off } = found;
      const r = regions(dir, iloc).find((x) => off >= x.off && off < x.off + x.len);
      if (!r) throw EFSCORRUPTED;
      await ext4_journal_get_write_access(handle, dir.i_sb, iloc.bh);
      ext4_generic_delete_entry(dir, iloc.bh, iloc.bh.b_data, off, r.off, r.len);
      return true;
    });
    if (done) await ext4_mark_inode_dirty(handle, dir, "ext4_delete_inline_entry");
    return done;
  } finally {
    brelse(iloc.bh);
  }
}

function region_is_empty(dir: inode, iloc: ext4_iloc, r: region): boolean {
  const b = iloc.bh.b_data;
  const fn = "empty_inline_dir";
  for (let off = r.off; off < r.off + r.len; off += de_rec_len(dir.i_sb, b, off)) {
    if (!ext4_check_dir_entry(dir, fn, iloc.bh, b, off, r.off, r.len, off - r.off)) {
      const text = `bad inline directory (dir #${dir.i_ino}) - inode ${de_inode(b, off)}`;
      ext4_warning(dir.i_sb, fn, text);
      return false;
    }
    if (de_inode(b, off) !== 0) return false;
  }
  return true;
}

/** Undefined: the directory is not inline any more. */
export function empty_inline_dir(dir: inode): Promise<boolean | undefined> {
  return with_inline(dir, (iloc) => {
    if (de_inode(iloc.bh.b_data, iloc.offset + I_BLOCK) === 0) {
      const text = `bad inline directory (dir #${dir.i_ino}) - no \`..'`;
      ext4_warning(dir.i_sb, "empty_inline_dir", text);
      return false;
    }
    return regions(dir, iloc).every((r) => region_is_empty(dir, iloc, r));
  });
}
