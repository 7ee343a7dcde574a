/**
 * fs/ext4/dirent_write.ts - changing one directory block: room for a name, a name put in, a name
 * taken out, a block more. Linux: the lower half of fs/ext4/namei.c. Which block a name belongs in:
 * dir_add.ts, htree_write.ts.
 *
 * With metadata_csum the last 12 bytes of a leaf are its tail, which no entry may reach into; it is
 * filled in by ext4_handle_dirty_dirblock(). Locks: i_rwsem of the directory; a handle is open.
 */
import { EEXIST, EFSCORRUPTED, ENOENT, ENOSPC } from "../../kernel/include/errno.ts";
import type { inode, Sometime } from "../../kernel/include/fs.ts";
import { S_IFDIR, S_IFMT } from "../../kernel/include/stat.ts";
import { inode_inc_iversion } from "../../kernel/vfs/inode.ts";
import { brelse, type buffer_head, sb_getblk, set_buffer_uptodate } from "../buffer.ts";
import {
  ext4_dirblock_tail_set,
  ext4_dx_csum_set,
  ext4_has_dirent_tail,
  ext4_has_metadata_csum,
} from "./csum.ts";
import {
  de_inode,
  de_name_len,
  de_rec_len,
  ext4_check_dir_entry,
  ext4_dir_rec_len,
  ext4_rec_len_to_disk,
} from "./dirent.ts";
import { EXT4_FEATURE_INCOMPAT_FILETYPE } from "./ext4.ts";
import {
  BH_dir_verified,
  BH_dx_verified,
  EXT4_GET_BLOCKS_CREATE,
  EXT4_I,
  EXT4_MAP_NEW,
  EXT4_SB,
  ext4_error_inode,
  ext4_sb_bread,
  ext4_warning_inode,
  has_incompat,
  new_map,
} from "./ext4_fs.ts";
import {
  ext4_handle_dirty_metadata,
  ext4_journal_get_create_access,
  ext4_journal_get_write_access,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_map_blocks } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";

/** Bytes that the tail of a leaf takes: 12 or none. */
export const dir_csum_size = (dir: inode): number =>
  ext4_has_metadata_csum(EXT4_SB(dir.i_sb).s_es) ? 12 : 0;

/** Writes an empty tail; the checksum comes with ext4_handle_dirty_dirblock(). */
export function ext4_initialize_dirent_tail(dir: inode, bh: buffer_head): void {
  if (dir_csum_size(dir)) ext4_dirblock_tail_set(EXT4_I(dir).i_csum_seed, bh.b_data);
}

/** A changed leaf: checksum, then dirty. */
export function ext4_handle_dirty_dirblock(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
): Sometime<void> {
  if (dir_csum_size(dir)) {
    if (ext4_has_dirent_tail(bh.b_data)) {
      ext4_dirblock_tail_set(EXT4_I(dir).i_csum_seed, bh.b_data);
    } else {
      const text = "No space for directory leaf checksum. Please run e2fsck -D.";
      ext4_warning_inode(dir, "ext4_dirblock_csum_set", text);
    }
  }
  return ext4_handle_dirty_metadata(handle, dir, bh);
}

/** A changed index block: checksum, then dirty. */
export function ext4_handle_dirty_dx_node(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
): Sometime<void> {
  if (dir_csum_size(dir) && !ext4_dx_csum_set(EXT4_I(dir).i_csum_seed, bh.b_data)) {
    ext4_warning_inode(dir, "ext4_dx_csum_set", "dir seems corrupt?  Run e2fsck -D.");
  }
  return ext4_handle_dirty_metadata(handle, dir, bh);
}

/**
 * A logical block's buffer, made (all zero, dirty) when it is a hole. Throws ENOSPC, EIO, EUCLEAN.
 */
export async function ext4_bread_create(
  handle: handle_t,
  inode: inode,
  block: number,
): Promise<buffer_head> {
  const map = new_map(block, 1);
  const n = await ext4_map_blocks(handle, inode, map, EXT4_GET_BLOCKS_CREATE);
  if (n <= 0) throw ENOSPC;
  const sb = inode.i_sb;
  if (!(map.m_flags & EXT4_MAP_NEW)) return ext4_sb_bread(sb, map.m_pblk);
  const bh = sb_getblk(sb, map.m_pblk);
  try {
    await ext4_journal_get_create_access(handle, sb, bh);
    bh.b_data.fill(0);
    bh.b_state &= ~(BH_dir_verified | BH_dx_verified);
    set_buffer_uptodate(bh);
    await ext4_handle_dirty_metadata(handle, inode, bh);
  } catch (e) {
    brelse(bh);
    throw e;
  }
  return bh;
}

/**
 * One more block at the end of a directory: its buffer (referenced, write access) and logical
 * number.
 */
export async function ext4_append(
  handle: handle_t,
  dir: inode,
): Promise<{ bh: buffer_head; block: number }> {
  const sb = dir.i_sb;
  const max_kb = EXT4_SB(sb).s_max_dir_size_kb;
  if (max_kb && Math.floor(dir.i_size / 1024) >= max_kb) throw ENOSPC;
  const block = Math.floor(dir.i_size / sb.s_blocksize);
  if ((await ext4_map_blocks(null, dir, new_map(block, 1), 0)) > 0) {
    ext4_error_inode(dir, "ext4_append", 0, "Logical block already allocated");
    throw EFSCORRUPTED;
  }
  const bh = await ext4_bread_create(handle, dir, block);
  try {
    dir.i_size += sb.s_blocksize;
    EXT4_I(dir).i_disksize = dir.i_size;
    await ext4_mark_inode_dirty(handle, dir, "ext4_append");
    await ext4_journal_get_write_access(handle, sb, bh);
  } catch (e) {
    brelse(bh);
    throw e;
  }
  return { bh, block };
}

// --- entries ----------------------------------------------------------------------------------

const FILE_TYPE: readonly number[] = Object.freeze([
  0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6, 0, 0, 0,
]);

/** file_type of an entry for an inode of that mode: 0 without the filetype feature. */
export function ext4_de_type(dir: inode, mode: number): number {
  if (!has_incompat(dir.i_sb, EXT4_FEATURE_INCOMPAT_FILETYPE)) return 0;
  return FILE_TYPE[(mode & S_IFMT) >>> 12]!;
}

export function set_de_inode(b: Uint8Array, off: number, ino: number): void {
  b[off] = ino;
  b[off + 1] = ino >>> 8;
  b[off + 2] = ino >>> 16;
  b[off + 3] = ino >>> 24;
}
export function set_de_rec_len(dir: inode, b: Uint8Array, off: number, len: number): void {
  const raw = ext4_rec_len_to_disk(dir.i_sb, len);
  b[off + 4] = raw;
  b[off + 5] = raw >>> 8;
}

const name_is = (b: Uint8Array, off: number, name: Uint8Array): boolean => {
  if (de_name_len(b, off) !== name.length || de_inode(b, off) === 0) return false;
  for (let i = 0; i < name.length; i++) if (b[off + 8 + i] !== name[i]) return false;
  return true;
};

/**
 * The entry in [start, start + size) of `b` with room behind it for `name`: its byte offset, or -1.
 * Throws EEXIST when the name is met on the way, EUCLEAN for bad entries.
 */
export function ext4_find_dest_de(
  dir: inode,
  bh: buffer_head,
  b: Uint8Array,
  start: number,
  size: number,
  name: Uint8Array,
): number {
  const want = ext4_dir_rec_len(name.length);
  for (let off = start; off <= start + size - want; ) {
    if (!ext4_check_dir_entry(dir, "ext4_find_dest_de", bh, b, off, start, size, off - start)) {
      throw EFSCORRUPTED;
    }
    if (name_is(b, off, name)) throw EEXIST;
    const rlen = de_rec_len(dir.i_sb, b, off);
    const room = de_inode(b, off) ? rlen - ext4_dir_rec_len(de_name_len(b, off)) : rlen;
    if (room >= want) return off;
    off += rlen;
  }
  return -1;
}

/** Puts a name into the room at `off` (found by ext4_find_dest_de). */
export function ext4_insert_dentry(
  dir: inode,
  b: Uint8Array,
  off: number,
  name: Uint8Array,
  ino: number,
  mode: number,
): void {
  if (de_inode(b, off) !== 0) {
    const used = ext4_dir_rec_len(de_name_len(b, off));
    const rlen = de_rec_len(dir.i_sb, b, off);
    set_de_rec_len(dir, b, off, used);
    off += used;
    set_de_rec_len(dir, b, off, rlen - used);
  }
  set_de_inode(b, off, ino);
  b[off + 6] = name.length;
  b[off + 7] = ext4_de_type(dir, mode);
  b.set(name, off + 8);
}

/**
 * Takes the entry at `del` out of [start, start + size): its room goes to the entry before it.
 * Throws ENOENT when no entry begins there, EUCLEAN.
 */
export function ext4_generic_delete_entry(
  dir: inode,
  bh: buffer_head,
  b: Uint8Array,
  del: number,
  start: number,
  size: number,
): void {
  let before = -1;
  const fn = "ext4_generic_delete_entry";
  for (let off = start; off < start + size; ) {
    if (!ext4_check_dir_entry(dir, fn, bh, b, off, start, size, off - start)) throw EFSCORRUPTED;
    const rlen = de_rec_len(dir.i_sb, b, off);
    if (off === del) {
      if (before >= 0) {
        set_de_rec_len(dir, b, before, de_rec_len(dir.i_sb, b, before) + rlen);
        b.fill(0, off, off + rlen);
      } else {
        set_de_inode(b, off, 0);
        b.fill(0, off + 6, off + rlen);
      }
      inode_inc_iversion(dir);
      return;
    }
    before = off;
    off += rlen;
  }
  throw ENOENT;
}

/**
 * "." and ".." at the beginning of a block; ".." takes the whole rest (less the tail) or just its
 * size.
 */
export function ext4_init_dot_dotdot(
  inode: inode,
  b: Uint8Array,
  parent_ino: number,
  dotdot_real_len: boolean,
): void {
  const dot = ext4_dir_rec_len(1);
  const type = ext4_de_type(inode, S_IFDIR);
  set_de_inode(b, 0, inode.i_ino);
  set_de_rec_len(inode, b, 0, dot);
  b[6] = 1;
  b[7] = type;
  b.set([0x2e, 0, 0, 0], 8);
  set_de_inode(b, dot, parent_ino);
  const rest = b.length - dir_csum_size(inode) - dot;
  set_de_rec_len(inode, b, dot, dotdot_real_len ? ext4_dir_rec_len(2) : rest);
  b[dot + 6] = 2;
  b[dot + 7] = type;
  b.set([0x2e, 0x2e, 0, 0], dot + 8);
}

/** An empty leaf: one unused entry. */
export function init_empty_leaf(dir: inode, bh: buffer_head): void {
  set_de_inode(bh.b_data, 0, 0);
  set_de_rec_len(dir, bh.b_data, 0, bh.b_data.length - dir_csum_size(dir));
  ext4_initialize_dirent_tail(dir, bh);
}
