/**
 * fs/ext4/inline.ts - data in the inode itself, reading. Linux: fs/ext4/inline.c. Writing:
 * inline_write.ts.
 *
 * The first 60 bytes are in i_block, the rest is the value of the attribute system.data in the
 * inode. A directory keeps the inode number of ".." in the first four bytes, then entries; each of
 * the two parts is a block of its own to the entries. Locks: xattr_sem (read).
 */
import { EFSCORRUPTED } from "../../kernel/include/errno.ts";
import { DT_DIR, type dir_context, type inode } from "../../kernel/include/fs.ts";
import { IOMAP_INLINE, type iomap } from "../../kernel/include/iomap.ts";
import { bytes_to_name } from "../../kernel/lib/utf8.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import {
  de_file_type,
  de_inode,
  de_name,
  de_rec_len,
  ext4_check_dir_entry,
  ext4_dir_rec_len,
  ext4_search_dir,
  get_dtype,
} from "./dirent.ts";
import { EXT4_FT_DIR, EXT4_XATTR_INDEX_SYSTEM, ext4_inode } from "./ext4.ts";
import { EXT4_I, ext4_error_inode } from "./ext4_fs.ts";
import { default_hash_version, type fname, hash_name, store_entry } from "./htree.ts";
import { ext4_get_inode_loc, ext4_has_inline_data, type ext4_iloc } from "./inode.ts";
import { xattr_entry_at, xattr_find, xattr_ibody_area } from "./xattr.ts";

export const EXT4_MIN_INLINE_DATA_SIZE = 60;
export const EXT4_INLINE_DOTDOT_OFFSET = 2;
export const EXT4_INLINE_DOTDOT_SIZE = 4;
const I_BLOCK = ext4_inode.offsetof("i_block");
/** "data": the name of the attribute, without its prefix. */
export const SYSTEM_DATA = Object.freeze([0x64, 0x61, 0x74, 0x61]);

/**
 * Looks for system.data in the inode whose bytes begin at `off`, and notes where it is. Without it
 * i_inline_off stays 0.
 */
export function ext4_find_inline_data_nolock(inode: inode, bytes: Uint8Array, off: number): void {
  const ei = EXT4_I(inode);
  if (ei.i_extra_isize === 0) return;
  const a = xattr_ibody_area(inode, bytes, off);
  const e = a && xattr_find(a, EXT4_XATTR_INDEX_SYSTEM, Uint8Array.from(SYSTEM_DATA));
  if (!e) return;
  if (e.value_inum) {
    const text = "inline data xattr refers to an external xattr inode";
    ext4_error_inode(inode, "ext4_find_inline_data_nolock", 0, text);
    throw EFSCORRUPTED;
  }
  ei.i_inline_off = e.at - off;
  ei.i_inline_size = EXT4_MIN_INLINE_DATA_SIZE + e.value_size;
}

/** Bytes of inline data that there is room for now. */
export const ext4_get_inline_size = (inode: inode): number =>
  EXT4_I(inode).i_inline_off ? EXT4_I(inode).i_inline_size : 0;

/** Where the second part is in the inode table block: byte offset and length. */
export function ext4_inline_tail(inode: inode, iloc: ext4_iloc): { off: number; len: number } {
  const a = xattr_ibody_area(inode, iloc.bh.b_data, iloc.offset);
  if (!a) return { off: 0, len: 0 };
  const e = xattr_entry_at(a, iloc.offset + EXT4_I(inode).i_inline_off);
  const off = a.value_base + e.value_offs;
  return { off, len: Math.min(e.value_size, a.end - off) };
}

/** The first `len` bytes of the inline data, from the inode's place. xattr_sem held. */
export function ext4_read_inline_data(inode: inode, len: number, iloc: ext4_iloc): Uint8Array {
  const b = iloc.bh.b_data;
  const out = new Uint8Array(len);
  const at = iloc.offset + I_BLOCK;
  out.set(b.subarray(at, at + Math.min(len, EXT4_MIN_INLINE_DATA_SIZE)));
  const rest = len - EXT4_MIN_INLINE_DATA_SIZE;
  if (rest > 0) {
    const tail = ext4_inline_tail(inode, iloc);
    const n = Math.max(0, Math.min(rest, tail.len));
    out.set(b.subarray(tail.off, tail.off + n), EXT4_MIN_INLINE_DATA_SIZE);
  }
  return out;
}

/**
 * Runs `fn` with the inode's place under xattr_sem; undefined when the data is not inline (any
 * more).
 */
export async function with_inline<T>(
  inode: inode,
  fn: (iloc: ext4_iloc) => T | Promise<T>,
): Promise<T | undefined> {
  const sem = EXT4_I(inode).xattr_sem;
  const p = sem.down_read();
  if (p) await p;
  try {
    if (!ext4_has_inline_data(inode)) return undefined;
    const iloc = await ext4_get_inode_loc(inode);
    try {
      return await fn(iloc);
    } finally {
      brelse(iloc.bh);
    }
  } finally {
    sem.up_read();
  }
}

/** All inline data up to i_size, or undefined when it is not inline. */
export const ext4_inline_contents = (inode: inode): Promise<Uint8Array | undefined> =>
  with_inline(inode, (iloc) =>
    ext4_read_inline_data(inode, Math.min(ext4_get_inline_size(inode), inode.i_size), iloc),
  );

/** The inline data as an extent: at its byte position in the inode table. False: not inline. */
export async function ext4_inline_data_iomap(inode: inode, iomap: iomap): Promise<boolean> {
  const done = await with_inline(inode, (iloc) => {
    iomap.addr = iloc.bh.b_blocknr * inode.i_sb.s_blocksize + iloc.offset + I_BLOCK;
    iomap.offset = 0;
    iomap.length = Math.min(ext4_get_inline_size(inode), inode.i_size);
    iomap.type = IOMAP_INLINE;
    iomap.flags = 0;
    iomap.bdev = inode.i_sb.s_bdev;
    iomap.dax_dev = null;
    iomap.inline_data = null;
    return true;
  });
  return done ?? false;
}

// --- directories --------------------------------------------------------------------------------

/** A name in an inline directory: the inode's place (referenced) and the byte offset, or null. */
export async function ext4_find_inline_entry(
  dir: inode,
  name: Uint8Array,
): Promise<{ bh: buffer_head; off: number } | null | undefined> {
  const sem = EXT4_I(dir).xattr_sem;
  const p = sem.down_read();
  if (p) await p;
  try {
    if (!ext4_has_inline_data(dir)) return undefined;
    const iloc = await ext4_get_inode_loc(dir);
    let off = -1;
    try {
      off = search_inline(dir, iloc, name);
    } catch (e) {
      brelse(iloc.bh);
      throw e;
    }
    if (off >= 0) return { bh: iloc.bh, off };
    brelse(iloc.bh);
    return null;
  } finally {
    sem.up_read();
  }
}

function search_inline(dir: inode, iloc: ext4_iloc, name: Uint8Array): number {
  const b = iloc.bh.b_data;
  const start = iloc.offset + I_BLOCK + EXT4_INLINE_DOTDOT_SIZE;
  const size = EXT4_MIN_INLINE_DATA_SIZE - EXT4_INLINE_DOTDOT_SIZE;
  const off = ext4_search_dir(dir, iloc.bh, b, start, size, name, 0);
  if (off >= 0) return off;
  const tail = ext4_inline_tail(dir, iloc);
  if (tail.len === 0) return -1;
  return ext4_search_dir(dir, iloc.bh, b, tail.off, tail.len, name, 0);
}

/** Number of the parent directory. */
export const ext4_inline_parent = (dir: inode): Promise<number | undefined> =>
  with_inline(dir, (iloc) => de_inode(ext4_read_inline_data(dir, 4, iloc), 0));

/**
 * The whole of an inline directory as one piece of memory, and the buffer's number for messages.
 */
async function inline_dir(dir: inode): Promise<{ buf: Uint8Array; bh: buffer_head } | undefined> {
  return with_inline(dir, (iloc) => ({
    buf: ext4_read_inline_data(dir, ext4_get_inline_size(dir), iloc),
    bh: iloc.bh,
  }));
}

/**
 * Entries of an inline directory by position. Positions are those that "." and ".." would have in a
 * block: 0 and 12; what follows is displaced by 24 - 4.
 */
export async function ext4_read_inline_dir(dir: inode, ctx: dir_context): Promise<boolean> {
  const got = await inline_dir(dir);
  if (!got) return false;
  const { buf, bh } = got;
  const sb = dir.i_sb;
  const dotdot = ext4_dir_rec_len(1);
  const first = dotdot + ext4_dir_rec_len(2);
  const extra = first - EXT4_INLINE_DOTDOT_SIZE;
  if (ctx.pos === 0) {
    if (!ctx.actor(".", ctx.pos, dir.i_ino, DT_DIR)) return true;
    ctx.pos = dotdot;
  }
  if (ctx.pos <= dotdot) {
    ctx.pos = dotdot;
    if (!ctx.actor("..", ctx.pos, de_inode(buf, 0), DT_DIR)) return true;
    ctx.pos = first;
  }
  // the directory may have changed: only positions of entries count
  let pos = first;
  for (; pos < extra + buf.length; ) {
    const off = pos - extra;
    if (off + ext4_dir_rec_len(1) > buf.length) return true;
    if (!ext4_check_dir_entry(dir, "ext4_read_inline_dir", bh, buf, off, 0, buf.length, pos)) {
      return true;
    }
    const ino = de_inode(buf, off);
    if (pos >= ctx.pos && ino !== 0) {
      ctx.pos = pos;
      const type = get_dtype(sb, de_file_type(buf, off));
      if (!ctx.actor(bytes_to_name(de_name(buf, off)), pos, ino, type)) return true;
    }
    pos += de_rec_len(sb, buf, off);
  }
  ctx.pos = pos;
  return true;
}

/** Entries of an inline directory by hash, for directories that may get an index. */
export async function ext4_inlinedir_to_tree(
  dir: inode,
  start_hash: number,
  start_minor: number,
  out: fname[],
): Promise<boolean> {
  const got = await inline_dir(dir);
  if (!got) return false;
  const { buf, bh } = got;
  const version = default_hash_version(dir);
  const dot = (name: number[], inode: number) => {
    const bytes = Uint8Array.from(name);
    const { hash, minor_hash } = hash_name(dir, bytes, version);
    if (hash < start_hash || (hash === start_hash && minor_hash < start_minor)) return;
    out.push({ hash, minor_hash, inode, file_type: EXT4_FT_DIR, name: bytes });
  };
  dot([0x2e], dir.i_ino);
  dot([0x2e, 0x2e], de_inode(buf, 0));
  for (let off = EXT4_INLINE_DOTDOT_SIZE; off < buf.length; ) {
    if (off + 8 > buf.length) break;
    const fn = "ext4_inlinedir_to_tree";
    if (!ext4_check_dir_entry(dir, fn, bh, buf, off, 0, buf.length, off)) break;
    store_entry(dir, buf, off, version, start_hash, start_minor, out);
    off += de_rec_len(dir.i_sb, buf, off);
  }
  return true;
}
