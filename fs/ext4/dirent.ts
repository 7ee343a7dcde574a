/**
 * fs/ext4/dirent.ts - one directory entry and one directory block. Linux: fs/ext4/dir.c, namei.c,
 * ext4.h. An entry: inode u32, rec_len u16, name_len u8, file_type u8, name. Offsets are bytes in
 * `b`.
 */
import { EFSBADCRC, EFSCORRUPTED, is_errno } from "../../kernel/include/errno.ts";
import {
  DT_BLK,
  DT_CHR,
  DT_DIR,
  DT_FIFO,
  DT_LNK,
  DT_REG,
  DT_SOCK,
  DT_UNKNOWN,
  type inode,
  type super_block,
} from "../../kernel/include/fs.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { ext4_dirblock_csum_verify, ext4_dx_csum_verify, ext4_has_metadata_csum } from "./csum.ts";
import {
  EXT4_FEATURE_COMPAT_DIR_INDEX,
  EXT4_FEATURE_INCOMPAT_FILETYPE,
  EXT4_FT_DIR_CSUM,
  EXT4_INDEX_FL,
} from "./ext4.ts";
import {
  BH_dir_verified,
  BH_dx_verified,
  EXT4_I,
  EXT4_SB,
  ext4_error_inode,
  ext4_test_inode_flag,
  ext4_warning,
  has_compat,
  has_incompat,
} from "./ext4_fs.ts";
import { ext4_bread } from "./inode.ts";

/** Bytes that an entry with a name of that length needs. */
export const ext4_dir_rec_len = (name_len: number): number => (name_len + 8 + 3) & ~3;

const le32 = (b: Uint8Array, o: number): number =>
  (b[o]! | (b[o + 1]! << 8) | (b[o + 2]! << 16) | (b[o + 3]! << 24)) >>> 0;
export const de_inode = (b: Uint8Array, o: number): number => le32(b, o);
export const de_name_len = (b: Uint8Array, o: number): number => b[o + 6]!;
export const de_file_type = (b: Uint8Array, o: number): number => b[o + 7]!;
export const de_name = (b: Uint8Array, o: number): Uint8Array =>
  b.subarray(o + 8, o + 8 + b[o + 6]!);

/** rec_len as a number of bytes: blocks of 64 KiB need values that 16 bits cannot hold. */
export function ext4_rec_len_from_disk(sb: super_block, raw: number): number {
  if (sb.kernel.PAGE_SIZE < 65536) return raw;
  if (raw === 0xffff || raw === 0) return sb.s_blocksize;
  return (raw & 0xfffc) | ((raw & 3) << 16);
}
export function ext4_rec_len_to_disk(sb: super_block, len: number): number {
  if (len < 65536) return len;
  if (len === sb.s_blocksize) return sb.s_blocksize === 65536 ? 0xffff : 0;
  return (len & 0xfffc) | ((len >>> 16) & 3);
}
export const de_rec_len = (sb: super_block, b: Uint8Array, o: number): number =>
  ext4_rec_len_from_disk(sb, b[o + 4]! | (b[o + 5]! << 8));

const DTYPE: readonly number[] = Object.freeze([
  DT_UNKNOWN,
  DT_REG,
  DT_DIR,
  DT_CHR,
  DT_BLK,
  DT_FIFO,
  DT_SOCK,
  DT_LNK,
]);
export const get_dtype = (sb: super_block, file_type: number): number =>
  has_incompat(sb, EXT4_FEATURE_INCOMPAT_FILETYPE) ? (DTYPE[file_type] ?? DT_UNKNOWN) : DT_UNKNOWN;

/** Is the directory indexed by hash? */
export const is_dx = (dir: inode): boolean =>
  has_compat(dir.i_sb, EXT4_FEATURE_COMPAT_DIR_INDEX) && ext4_test_inode_flag(dir, EXT4_INDEX_FL);

function entry_fault(
  dir: inode,
  b: Uint8Array,
  off: number,
  start: number,
  size: number,
): string | null {
  const sb = dir.i_sb;
  const rlen = de_rec_len(sb, b, off);
  const name_len = de_name_len(b, off);
  const next = off - start + rlen;
  const fake = name_len === 0 && de_file_type(b, off) === EXT4_FT_DIR_CSUM;
  if (rlen < ext4_dir_rec_len(1)) return "rec_len is smaller than minimal";
  if (rlen % 4 !== 0) return "rec_len % 4 != 0";
  if (!fake && rlen < ext4_dir_rec_len(name_len)) return "rec_len is too small for name_len";
  if (next > size) return "directory entry overrun";
  if (next > size - ext4_dir_rec_len(1) && next !== size) {
    return "directory entry too close to block end";
  }
  if (de_inode(b, off) > EXT4_SB(sb).s_es.s_inodes_count) return "inode out of bounds";
  if (next === size && name_len === 1 && b[off + 8] === 0x2e) {
    return "'.' directory cannot be the last in data block";
  }
  return null;
}

/**
 * Is the entry at byte `off` of the block that begins at `start` (`size` bytes) sane? Logs and says
 * false when not. `at` is its offset in the directory, for the message.
 */
export function ext4_check_dir_entry(
  dir: inode,
  fn: string,
  bh: buffer_head,
  b: Uint8Array,
  off: number,
  start: number,
  size: number,
  at: number,
): boolean {
  // a header that reaches behind the buffer cannot even be read
  const short = off + 8 > start + size;
  const fault = short ? "directory entry overrun" : entry_fault(dir, b, off, start, size);
  if (fault === null) return true;
  const inode = short ? 0 : de_inode(b, off);
  const rlen = short ? 0 : de_rec_len(dir.i_sb, b, off);
  ext4_error_inode(
    dir,
    fn,
    bh.b_blocknr,
    `bad entry in directory: ${fault} - offset=${at}, inode=${inode}, rec_len=${rlen}, ` +
      `size=${size}`,
  );
  return false;
}

/** What a directory block is expected to be. */
export const EITHER = 0;
export const INDEX = 1;
export const DIRENT = 2;
export const DIRENT_HTREE = 3;

/** Does an index node's one fake entry fill the block? */
export const is_dx_internal_node = (dir: inode, block: number, b: Uint8Array): boolean =>
  is_dx(dir) && (block === 0 || de_rec_len(dir.i_sb, b, 0) === b.length);

/**
 * A directory block, read and its checksum verified; null for a hole where one may be. Throws
 * EUCLEAN, EBADMSG, EIO.
 */
export async function ext4_read_dirblock(
  dir: inode,
  block: number,
  type: number,
  fn: string,
): Promise<buffer_head | null> {
  const sb = dir.i_sb;
  if (block >= Math.floor(dir.i_size / sb.s_blocksize)) {
    const text =
      `Attempting to read directory block (${block}) ` + `that is past i_size (${dir.i_size})`;
    ext4_error_inode(dir, fn, block, text);
    throw EFSCORRUPTED;
  }
  let bh: buffer_head | null;
  try {
    bh = await ext4_bread(dir, block);
  } catch (e) {
    if (is_errno(e)) {
      const where = `inode #${dir.i_ino}: lblock ${block}`;
      ext4_warning(sb, fn, `${where}: error -${e.errno} reading directory block`);
    }
    throw e;
  }
  if (!bh) {
    if (type !== INDEX && type !== DIRENT_HTREE && block !== 0) return null;
    const what = type === INDEX ? "index" : "leaf";
    ext4_error_inode(dir, fn, block, `Directory hole found for htree ${what} block ${block}`);
    throw EFSCORRUPTED;
  }
  try {
    verify_dirblock(dir, block, type, bh, fn);
  } catch (e) {
    brelse(bh);
    throw e;
  }
  return bh;
}

function verify_dirblock(
  dir: inode,
  block: number,
  type: number,
  bh: buffer_head,
  fn: string,
): void {
  const index = is_dx_internal_node(dir, block, bh.b_data);
  if (!index && type === INDEX) {
    ext4_error_inode(dir, fn, block, "directory leaf block found instead of index block");
    throw EFSCORRUPTED;
  }
  if (!ext4_has_metadata_csum(EXT4_SB(dir.i_sb).s_es)) return;
  const seed = EXT4_I(dir).i_csum_seed;
  // an empty leaf can look like an index node: only where one must be is its checksum looked at
  if (index && type === INDEX && !(bh.b_state & BH_dx_verified)) {
    if (!ext4_dx_csum_verify(seed, bh.b_data)) {
      ext4_error_inode(dir, fn, block, "Directory index failed checksum", EFSBADCRC);
      throw EFSBADCRC;
    }
    bh.b_state |= BH_dx_verified;
  }
  if (!index && !(bh.b_state & BH_dir_verified)) {
    if (!ext4_dirblock_csum_verify(seed, bh.b_data)) {
      ext4_error_inode(dir, fn, block, "Directory block failed checksum", EFSBADCRC);
      throw EFSBADCRC;
    }
    bh.b_state |= BH_dir_verified;
  }
}

function same_name(b: Uint8Array, off: number, name: Uint8Array): boolean {
  for (let i = 0; i < name.length; i++) if (b[off + 8 + i] !== name[i]) return false;
  return true;
}

/**
 * Finds a name among the entries in [start, start + size) of `b`: the byte offset of its entry, or
 * -1. Throws EUCLEAN when the entries cannot be followed.
 */
export function ext4_search_dir(
  dir: inode,
  bh: buffer_head,
  b: Uint8Array,
  start: number,
  size: number,
  name: Uint8Array,
  at: number,
): number {
  const end = start + size;
  const sb = dir.i_sb;
  for (let off = start; off < end - 8; ) {
    const len = de_name_len(b, off);
    if (len === name.length && de_inode(b, off) !== 0 && off + 8 + len <= end) {
      if (same_name(b, off, name)) {
        const where = at + off - start;
        if (!ext4_check_dir_entry(dir, "ext4_search_dir", bh, b, off, start, size, where)) {
          throw EFSCORRUPTED;
        }
        return off;
      }
    }
    const rlen = de_rec_len(sb, b, off);
    if (rlen <= 0) throw EFSCORRUPTED;
    off += rlen;
  }
  return -1;
}
