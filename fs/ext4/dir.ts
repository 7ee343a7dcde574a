/**
 * fs/ext4/dir.ts - listing directories. Linux: fs/ext4/dir.c.
 *
 * A directory that has an index, or may get one, is listed in hash order, so that names neither
 * vanish nor come twice while the tree changes; the position is made of the hash. Others are listed
 * as they stand, the position being a byte offset. Differs: a position keeps 31 bits of the hash
 * and 21 of the minor hash, to be an exact number (Linux: 31 and 32).
 *
 * Locks: i_rwsem of the directory (shared), the file's position.
 */
import { EINVAL } from "../../kernel/include/errno.ts";
import { SEEK_CUR, SEEK_DATA, SEEK_END, SEEK_HOLE } from "../../kernel/include/fcntl.ts";
import type {
  dir_context,
  file,
  file_operations,
  inode,
  inode_operations,
  Sometime,
} from "../../kernel/include/fs.ts";
import { bytes_to_name } from "../../kernel/lib/utf8.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { ext4_dirblock_csum_verify, ext4_has_metadata_csum } from "./csum.ts";
import {
  de_file_type,
  de_inode,
  de_name,
  de_rec_len,
  ext4_check_dir_entry,
  ext4_dir_rec_len,
  get_dtype,
} from "./dirent.ts";
import { EXT4_FEATURE_COMPAT_DIR_INDEX, EXT4_INDEX_FL } from "./ext4.ts";
import {
  EXT4_I,
  EXT4_SB,
  ext4_clear_inode_flag,
  ext4_error_inode,
  ext4_sb_bread,
  ext4_test_inode_flag,
  has_compat,
  new_map,
} from "./ext4_fs.ts";
import { ext4_fiemap } from "./fiemap.ts";
import { ext4_fileattr_get, ext4_getattr } from "./getattr.ts";
import {
  default_hash_version,
  ext4_htree_fill_tree,
  type fname,
  htree_dirblock_to_tree,
  is_bad_dx,
} from "./htree.ts";
import { ext4_inlinedir_to_tree, ext4_read_inline_dir } from "./inline.ts";
import { ext4_has_inline_data, ext4_map_blocks } from "./inode.ts";
import { ext4_ioctl } from "./ioctl.ts";
import { ext4_lookup, refuse_encrypted } from "./namei.ts";
import * as W from "./write_side.ts";
import { ext4_listxattr } from "./xattr.ts";

const is_dx_dir = (dir: inode): boolean =>
  has_compat(dir.i_sb, EXT4_FEATURE_COMPAT_DIR_INDEX) &&
  (ext4_test_inode_flag(dir, EXT4_INDEX_FL) ||
    Math.floor(dir.i_size / dir.i_sb.s_blocksize) === 1 ||
    ext4_has_inline_data(dir));

const MINOR_BITS = 21;
const MINOR = 2 ** MINOR_BITS;
const HTREE_EOF = 2 ** 52 - 1;
const hash2pos = (hash: number, minor: number): number =>
  (hash >>> 1) * MINOR + (minor >>> (32 - MINOR_BITS));
const pos2hash = (pos: number): number => (Math.floor(pos / MINOR) * 2) >>> 0;
const pos2minor = (pos: number): number => (pos % MINOR) * 2 ** (32 - MINOR_BITS);

/** What an open directory remembers between calls: file.private_data. */
interface dir_private_info {
  names: fname[];
  /** Next of `names` to hand out. */
  at: number;
  curr_hash: number;
  curr_minor_hash: number;
  next_hash: number;
  last_pos: number;
  version: number;
}

async function fill(dir: inode, info: dir_private_info): Promise<void> {
  const { curr_hash, curr_minor_hash } = info;
  info.names = [];
  info.at = 0;
  info.version = dir.i_version;
  if (ext4_test_inode_flag(dir, EXT4_INDEX_FL)) {
    const r = await ext4_htree_fill_tree(dir, curr_hash, curr_minor_hash);
    info.names = r.names;
    info.next_hash = r.next_hash;
    return;
  }
  const names: fname[] = [];
  info.next_hash = 0xffffffff;
  if (
    !ext4_has_inline_data(dir) ||
    !(await ext4_inlinedir_to_tree(dir, curr_hash, curr_minor_hash, names))
  ) {
    const version = default_hash_version(dir);
    await htree_dirblock_to_tree(dir, 0, version, curr_hash, curr_minor_hash, names);
  }
  names.sort((a, b) => a.hash - b.hash || a.minor_hash - b.minor_hash);
  info.names = names;
}

async function ext4_dx_readdir(file: file, dir: inode, ctx: dir_context): Promise<void> {
  let info = file.private_data as dir_private_info | null;
  if (!info) {
    info = {
      names: [],
      at: 0,
      curr_hash: pos2hash(ctx.pos),
      curr_minor_hash: pos2minor(ctx.pos),
      next_hash: 0,
      last_pos: ctx.pos,
      version: -1,
    };
    file.private_data = info;
  }
  if (ctx.pos === HTREE_EOF) return;
  if (info.last_pos !== ctx.pos) {
    // somebody moved the position
    info.names = [];
    info.at = 0;
    info.curr_hash = pos2hash(ctx.pos);
    info.curr_minor_hash = pos2minor(ctx.pos);
  }
  try {
    await emit_in_order(dir, ctx, info);
  } finally {
    info.last_pos = ctx.pos;
  }
}

async function emit_in_order(dir: inode, ctx: dir_context, info: dir_private_info): Promise<void> {
  for (;;) {
    if (info.at >= info.names.length || info.version !== dir.i_version) {
      await fill(dir, info);
      if (info.names.length === 0) {
        // a batch may come out empty when all of its block was removed
        if (info.next_hash === 0xffffffff) {
          ctx.pos = HTREE_EOF;
          return;
        }
        info.curr_hash = info.next_hash;
        info.curr_minor_hash = 0;
        continue;
      }
    }
    const n = info.names[info.at]!;
    info.curr_hash = n.hash;
    info.curr_minor_hash = n.minor_hash;
    ctx.pos = hash2pos(n.hash, n.minor_hash);
    const type = get_dtype(dir.i_sb, n.file_type);
    if (!ctx.actor(bytes_to_name(n.name), ctx.pos, n.inode, type)) return;
    info.at++;
    if (info.at < info.names.length) continue;
    if (info.next_hash === 0xffffffff) {
      ctx.pos = HTREE_EOF;
      return;
    }
    info.curr_hash = info.next_hash;
    info.curr_minor_hash = 0;
  }
}

/** The next mapped block at ctx.pos, read; null at the end. Holes are stepped over. */
async function next_dirblock(dir: inode, ctx: dir_context): Promise<buffer_head | null> {
  const bs = dir.i_sb.s_blocksize;
  while (ctx.pos < dir.i_size) {
    const map = new_map(Math.floor(ctx.pos / bs), 1);
    const n = await ext4_map_blocks(null, dir, map, 0);
    if (n > 0) return ext4_sb_bread(dir.i_sb, map.m_pblk);
    // a size that nothing stands behind ends here
    if (ctx.pos > dir.i_blocks * 512) return null;
    ctx.pos = (Math.floor(ctx.pos / bs) + Math.max(1, map.m_len)) * bs;
  }
  return null;
}

/** Hands out the entries of one block from ctx.pos on; false when the caller has enough. */
function emit_block(dir: inode, ctx: dir_context, bh: buffer_head): boolean {
  const b = bh.b_data;
  const sb = dir.i_sb;
  const base = Math.floor(ctx.pos / b.length) * b.length;
  const want = ctx.pos - base;
  // the block may have changed since: find the first entry at or after the position
  for (let off = 0; off < b.length && base + off < dir.i_size; ) {
    if (off < want) {
      const rlen = de_rec_len(sb, b, off);
      if (rlen < ext4_dir_rec_len(1)) break;
      off += rlen;
      continue;
    }
    ctx.pos = base + off;
    if (!ext4_check_dir_entry(dir, "ext4_readdir", bh, b, off, 0, b.length, ctx.pos)) break;
    const ino = de_inode(b, off);
    const type = get_dtype(sb, de_file_type(b, off));
    if (ino && !ctx.actor(bytes_to_name(de_name(b, off)), ctx.pos, ino, type)) return false;
    off += de_rec_len(sb, b, off);
    ctx.pos = base + off;
  }
  // after a bad entry the rest of the block is skipped
  ctx.pos = base + b.length;
  return true;
}

async function linear_readdir(dir: inode, ctx: dir_context): Promise<void> {
  const csum = ext4_has_metadata_csum(EXT4_SB(dir.i_sb).s_es);
  for (;;) {
    const bh = await next_dirblock(dir, ctx);
    if (!bh) return;
    try {
      if (csum && !ext4_dirblock_csum_verify(EXT4_I(dir).i_csum_seed, bh.b_data)) {
        const text = `directory fails checksum at offset ${ctx.pos}`;
        ext4_error_inode(dir, "ext4_readdir", 0, text);
        ctx.pos = (Math.floor(ctx.pos / bh.b_data.length) + 1) * bh.b_data.length;
      } else if (!emit_block(dir, ctx, bh)) return;
    } finally {
      brelse(bh);
    }
  }
}

async function ext4_readdir(file: file, ctx: dir_context): Promise<void> {
  const dir = file.f_inode;
  refuse_encrypted(dir, "ext4_readdir");
  if (is_dx_dir(dir)) {
    try {
      return await ext4_dx_readdir(file, dir, ctx);
    } catch (e) {
      if (!is_bad_dx(e)) throw e;
      // without checksums the index blocks can be read as plain ones
      if (!ext4_has_metadata_csum(EXT4_SB(dir.i_sb).s_es)) {
        ext4_clear_inode_flag(dir, EXT4_INDEX_FL);
      }
    }
  }
  if (ext4_has_inline_data(dir) && (await ext4_read_inline_dir(dir, ctx))) return;
  await linear_readdir(dir, ctx);
}

function ext4_dir_llseek(file: file, offset: number, whence: number): Sometime<number> {
  const dir = file.f_inode;
  const dx = is_dx_dir(dir);
  const max = dx ? HTREE_EOF : dir.i_sb.s_maxbytes;
  if (whence === SEEK_DATA || whence === SEEK_HOLE) throw EINVAL;
  let pos = offset;
  if (whence === SEEK_CUR) pos += file.f_pos;
  if (whence === SEEK_END) pos += dx ? HTREE_EOF : dir.i_size;
  if (pos < 0 || pos > max) throw EINVAL;
  file.f_pos = pos;
  return pos;
}

export const ext4_dir_operations: file_operations = Object.freeze({
  name: "ext4_dir_operations",
  llseek: ext4_dir_llseek,
  iterate_shared: ext4_readdir,
  unlocked_ioctl: ext4_ioctl,
  fsync: W.ext4_sync_file,
});

export const ext4_dir_inode_operations: inode_operations = Object.freeze({
  lookup: ext4_lookup,
  create: W.ext4_create,
  link: W.ext4_link,
  unlink: W.ext4_unlink,
  symlink: W.ext4_symlink,
  mkdir: W.ext4_mkdir,
  rmdir: W.ext4_rmdir,
  mknod: W.ext4_mknod,
  tmpfile: W.ext4_tmpfile,
  rename: W.ext4_rename,
  setattr: W.ext4_setattr,
  getattr: ext4_getattr,
  listxattr: ext4_listxattr,
  fiemap: ext4_fiemap,
  fileattr_get: ext4_fileattr_get,
  fileattr_set: W.ext4_fileattr_set,
});
