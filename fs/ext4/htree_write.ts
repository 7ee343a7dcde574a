/**
 * fs/ext4/htree_write.ts - directories with a hash tree: changing the index. Linux: fs/ext4/namei.c
 * (make_indexed_dir, do_split, ext4_dx_add_entry). Following it: htree.ts.
 *
 * A full leaf is split in two by hash: the upper half moves to a new block, which gets an entry
 * behind the one of the old block. A full index node is split the same way, from the top down, and
 * the way is looked up anew; a full root moves into a new node below it. Names never move back: the
 * tree only grows. Locks: i_rwsem of the directory; a handle is open.
 */
import { EFSCORRUPTED, ENOSPC, is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import {
  de_inode,
  de_name,
  de_name_len,
  de_rec_len,
  DIRENT_HTREE,
  ext4_check_dir_entry,
  ext4_dir_rec_len,
  ext4_read_dirblock,
} from "./dirent.ts";
import { add_dirent_to_buf, insert_at } from "./dir_add.ts";
import {
  dir_csum_size,
  ext4_append,
  ext4_find_dest_de,
  ext4_handle_dirty_dirblock,
  ext4_handle_dirty_dx_node,
  ext4_initialize_dirent_tail,
  set_de_rec_len,
} from "./dirent_write.ts";
import {
  DX_NODE_OFFSET,
  DX_ROOT_INFO_OFFSET,
  EXT4_FEATURE_INCOMPAT_LARGEDIR,
  EXT4_HTREE_LEVEL,
  EXT4_HTREE_LEVEL_COMPAT,
  EXT4_INDEX_FL,
} from "./ext4.ts";
import {
  EXT4_SB,
  ext4_error_inode,
  ext4_set_inode_flag,
  ext4_std_error,
  ext4_warning,
  has_incompat,
} from "./ext4_fs.ts";
import { ext4_journal_get_write_access, type handle_t } from "./ext4_jbd2.ts";
import {
  default_hash_version,
  type dx_frame,
  dx_get_block,
  dx_get_count,
  dx_get_hash,
  dx_get_limit,
  dx_node_limit,
  dx_probe,
  dx_release,
  dx_root_limit,
  hash_name,
} from "./htree.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";

const view_of = (bh: buffer_head): DataView =>
  new DataView(bh.b_data.buffer, bh.b_data.byteOffset, bh.b_data.byteLength);
const set_limit = (v: DataView, entries: number, n: number) => v.setUint16(entries, n, true);
const set_count = (v: DataView, entries: number, n: number) => v.setUint16(entries + 2, n, true);
function set_entry(v: DataView, entries: number, i: number, hash: number, block: number): void {
  v.setUint32(entries + 8 * i, hash >>> 0, true);
  v.setUint32(entries + 8 * i + 4, block, true);
}
const set_block = (v: DataView, entries: number, i: number, block: number) =>
  v.setUint32(entries + 8 * i + 4, block, true);

/** Puts (hash, block) behind the entry that the frame is at. The caller knows there is room. */
function dx_insert_block(f: dx_frame, hash: number, block: number): void {
  const count = dx_get_count(f.view, f.entries);
  const b = f.bh.b_data;
  const at = f.entries + 8 * (f.at + 1);
  b.copyWithin(at + 8, at, f.entries + 8 * count);
  set_entry(f.view, f.entries, f.at + 1, hash, block);
  set_count(f.view, f.entries, count + 1);
}

interface mapped {
  hash: number;
  off: number;
  size: number;
}

/** The entries in use of a leaf, in hash order. */
function dx_make_map(dir: inode, bh: buffer_head, hash_version: number): mapped[] {
  const b = bh.b_data;
  const end = b.length - dir_csum_size(dir);
  const map: mapped[] = [];
  for (let off = 0; off < end; off += de_rec_len(dir.i_sb, b, off)) {
    if (!ext4_check_dir_entry(dir, "dx_make_map", bh, b, off, 0, end, off)) throw EFSCORRUPTED;
    if (de_inode(b, off) === 0 || de_name_len(b, off) === 0) continue;
    const { hash } = hash_name(dir, de_name(b, off), hash_version);
    map.push({ hash, off, size: ext4_dir_rec_len(de_name_len(b, off)) });
  }
  return map.sort((a, c) => a.hash - c.hash || a.off - c.off);
}

/** Writes the entries one behind the other, the last one filling the block. */
function pack(dir: inode, bh: buffer_head, from: Uint8Array, entries: readonly mapped[]): void {
  const b = bh.b_data;
  const end = b.length - dir_csum_size(dir);
  b.fill(0);
  let off = 0;
  let last = 0;
  for (const e of entries) {
    b.set(from.subarray(e.off, e.off + 8 + from[e.off + 6]!), off);
    set_de_rec_len(dir, b, off, e.size);
    last = off;
    off += e.size;
  }
  set_de_rec_len(dir, b, last, end - last);
  ext4_initialize_dirent_tail(dir, bh);
}

/** Number of the first entry that moves: neither half is left more than half full. */
function split_point(map: readonly mapped[], blocksize: number): number {
  let size = 0;
  let i = map.length - 1;
  for (; i >= 0; i--) {
    if (size + Math.floor(map[i]!.size / 2) > blocksize / 2) break;
    size += map[i]!.size;
  }
  // less than half a block in use: halve by number
  return i >= 0 ? i + 1 : Math.floor(map.length / 2);
}

/**
 * Splits the leaf in `bh`; returns the block of the two that a name with `hash` belongs in,
 * referenced (the caller keeps its reference on `bh` too).
 */
async function do_split(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
  frame: dx_frame,
  hash: number,
  hash_version: number,
): Promise<buffer_head> {
  const sb = dir.i_sb;
  const { bh: bh2, block } = await ext4_append(handle, dir);
  try {
    await ext4_journal_get_write_access(handle, sb, bh);
    await ext4_journal_get_write_access(handle, sb, frame.bh);
    const map = dx_make_map(dir, bh, hash_version);
    if (map.length === 0) {
      ext4_error_inode(dir, "do_split", bh.b_blocknr, "full directory block without entries");
      throw EFSCORRUPTED;
    }
    const split = split_point(map, sb.s_blocksize);
    const hash2 = map[split]!.hash;
    const continued = split > 0 && hash2 === map[split - 1]!.hash ? 1 : 0;
    const old = bh.b_data.slice();
    pack(dir, bh2, old, map.slice(split));
    const stay = map.slice(0, split).sort((a, c) => a.off - c.off);
    pack(dir, bh, old, stay);
    dx_insert_block(frame, hash2 + continued, block);
    await ext4_handle_dirty_dirblock(handle, dir, bh);
    await ext4_handle_dirty_dirblock(handle, dir, bh2);
    await ext4_handle_dirty_dx_node(handle, dir, frame.bh);
    if (hash >= hash2) return bh2;
  } catch (e) {
    brelse(bh2);
    if (is_errno(e)) ext4_std_error(sb, "do_split", e);
    throw e;
  }
  brelse(bh2);
  bh.b_count++;
  return bh;
}

/** Splits the leaf and puts the name into the half it belongs in. */
async function split_and_add(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
  frame: dx_frame,
  hash: number,
  hash_version: number,
  name: Uint8Array,
  inode: inode,
): Promise<void> {
  const target = await do_split(handle, dir, bh, frame, hash, hash_version);
  try {
    const b = target.b_data;
    const off = ext4_find_dest_de(dir, target, b, 0, b.length - dir_csum_size(dir), name);
    if (off < 0) {
      // two names of half a block each cannot share one
      throw ENOSPC;
    }
    await insert_at(handle, dir, target, off, name, inode);
  } finally {
    brelse(target);
  }
}

function check_dx_root(dir: inode, b: Uint8Array): void {
  const sb = dir.i_sb;
  const bad = (what: string): never => {
    const text = `Corrupt dir, ${what}, running e2fsck is recommended`;
    ext4_error_inode(dir, "ext4_check_dx_root", 0, text);
    throw EFSCORRUPTED;
  };
  if (de_name_len(b, 0) !== 1) bad("invalid name_len for '.'");
  if (b[8] !== 0x2e) bad("invalid name for '.'");
  if (de_rec_len(sb, b, 0) !== 12) bad("invalid rec_len for '.'");
  if (de_name_len(b, 12) !== 2) bad("invalid name_len for '..'");
  if (b[20] !== 0x2e || b[21] !== 0x2e) bad("invalid name for '..'");
  const rlen = de_rec_len(sb, b, 12);
  if (rlen < 12 || 12 + rlen >= b.length) bad("invalid rec_len for '..'");
}

/** The names of block 0 move to a new leaf, the rest of block 0 becomes the root of an index. */
function make_root(dir: inode, bh: buffer_head, leaf: buffer_head, block: number): dx_frame {
  const b = bh.b_data;
  const end = b.length - dir_csum_size(dir);
  const from = 12 + de_rec_len(dir.i_sb, b, 12);
  leaf.b_data.fill(0);
  leaf.b_data.set(b.subarray(from, end));
  b.fill(0, 24);
  const len = end - from;
  let off = 0;
  for (;;) {
    if (!ext4_check_dir_entry(dir, "make_indexed_dir", leaf, leaf.b_data, off, 0, len, off)) {
      throw EFSCORRUPTED;
    }
    const next = off + de_rec_len(dir.i_sb, leaf.b_data, off);
    if (next >= len) break;
    off = next;
  }
  set_de_rec_len(dir, leaf.b_data, off, end - off);
  ext4_initialize_dirent_tail(dir, leaf);
  set_de_rec_len(dir, b, 12, b.length - 12);
  const view = view_of(bh);
  const info_length = 8;
  view.setUint8(DX_ROOT_INFO_OFFSET + 4, EXT4_SB(dir.i_sb).s_def_hash_version);
  view.setUint8(DX_ROOT_INFO_OFFSET + 5, info_length);
  const entries = DX_ROOT_INFO_OFFSET + info_length;
  set_block(view, entries, 0, block);
  set_limit(view, entries, dx_root_limit(dir, info_length));
  set_count(view, entries, 1);
  return { bh, view, entries, at: 0 };
}

/** The directory's only block (`bh`, of the caller) is full: it gets an index, and the name. */
export async function make_indexed_dir(
  handle: handle_t,
  dir: inode,
  bh: buffer_head,
  name: Uint8Array,
  inode: inode,
): Promise<void> {
  const sb = dir.i_sb;
  await ext4_journal_get_write_access(handle, sb, bh);
  check_dx_root(dir, bh.b_data);
  const { bh: leaf, block } = await ext4_append(handle, dir);
  try {
    ext4_set_inode_flag(dir, EXT4_INDEX_FL);
    const frame = make_root(dir, bh, leaf, block);
    await ext4_handle_dirty_dx_node(handle, dir, bh);
    await ext4_handle_dirty_dirblock(handle, dir, leaf);
    const version = default_hash_version(dir);
    const { hash } = hash_name(dir, name, version);
    await split_and_add(handle, dir, leaf, frame, hash, version, name, inode);
  } catch (e) {
    // whatever failed: what the blocks say now needs the flag and the size
    if (is_errno(e)) await ext4_mark_inode_dirty(handle, dir, "make_indexed_dir");
    throw e;
  } finally {
    brelse(leaf);
  }
}

/** A full node under a parent with room: its upper half moves to a new node. */
async function split_node(
  handle: handle_t,
  dir: inode,
  parent: dx_frame,
  frame: dx_frame,
  bh2: buffer_head,
  block: number,
): Promise<void> {
  const sb = dir.i_sb;
  await ext4_journal_get_write_access(handle, sb, parent.bh);
  const view2 = view_of(bh2);
  const count = dx_get_count(frame.view, frame.entries);
  const keep = count >>> 1;
  const hash2 = dx_get_hash(frame.view, frame.entries, keep);
  const from = frame.entries + 8 * keep;
  bh2.b_data.set(frame.bh.b_data.subarray(from, frame.entries + 8 * count), DX_NODE_OFFSET);
  set_limit(view2, DX_NODE_OFFSET, dx_node_limit(dir));
  set_count(view2, DX_NODE_OFFSET, count - keep);
  set_count(frame.view, frame.entries, keep);
  dx_insert_block(parent, hash2, block);
  await ext4_handle_dirty_dx_node(handle, dir, bh2);
  await ext4_handle_dirty_dx_node(handle, dir, parent.bh);
  await ext4_handle_dirty_dx_node(handle, dir, frame.bh);
}

/** A full root: its entries move to a new node, the only one it has then. */
async function add_level(
  handle: handle_t,
  dir: inode,
  root: dx_frame,
  bh2: buffer_head,
  block: number,
): Promise<void> {
  const view2 = view_of(bh2);
  const count = dx_get_count(root.view, root.entries);
  const used = root.bh.b_data.subarray(root.entries, root.entries + 8 * count);
  bh2.b_data.set(used, DX_NODE_OFFSET);
  set_limit(view2, DX_NODE_OFFSET, dx_node_limit(dir));
  set_count(view2, DX_NODE_OFFSET, count);
  set_count(root.view, root.entries, 1);
  set_block(root.view, root.entries, 0, block);
  const levels = DX_ROOT_INFO_OFFSET + 6;
  root.view.setUint8(levels, root.view.getUint8(levels) + 1);
  await ext4_handle_dirty_dx_node(handle, dir, root.bh);
  await ext4_handle_dirty_dx_node(handle, dir, bh2);
}

function index_full(dir: inode, levels: number, max: number): never {
  const fn = "ext4_dx_add_entry";
  const text = `Directory (ino: ${dir.i_ino}) index full, reach max htree level :${levels}`;
  ext4_warning(dir.i_sb, fn, text);
  if (max < EXT4_HTREE_LEVEL) {
    ext4_warning(dir.i_sb, fn, "Large directory feature is not enabled on this filesystem");
  }
  throw ENOSPC;
}

/** Makes room in the lowest node of the way by one split, as high up as need be. */
async function grow_index(
  handle: handle_t,
  dir: inode,
  frames: readonly dx_frame[],
): Promise<void> {
  let i = frames.length - 1;
  const full = (f: dx_frame): boolean =>
    dx_get_count(f.view, f.entries) >= dx_get_limit(f.view, f.entries);
  while (i > 0 && full(frames[i - 1]!)) i--;
  const large = has_incompat(dir.i_sb, EXT4_FEATURE_INCOMPAT_LARGEDIR);
  const max = large ? EXT4_HTREE_LEVEL : EXT4_HTREE_LEVEL_COMPAT;
  if (i === 0 && frames.length === max) index_full(dir, frames.length, max);
  const frame = frames[i]!;
  const { bh: bh2, block } = await ext4_append(handle, dir);
  try {
    bh2.b_data.fill(0);
    set_de_rec_len(dir, bh2.b_data, 0, bh2.b_data.length);
    await ext4_journal_get_write_access(handle, dir.i_sb, frame.bh);
    if (i > 0) await split_node(handle, dir, frames[i - 1]!, frame, bh2, block);
    else await add_level(handle, dir, frame, bh2, block);
  } catch (e) {
    if (is_errno(e)) ext4_std_error(dir.i_sb, "ext4_dx_add_entry", e);
    throw e;
  } finally {
    brelse(bh2);
  }
}

/** One attempt; false: the index was changed and the way must be looked up again. */
async function try_add(
  handle: handle_t,
  dir: inode,
  name: Uint8Array,
  inode: inode,
): Promise<boolean> {
  const { frames, hash, hash_version } = await dx_probe(dir, name, 0);
  try {
    const frame = frames.at(-1)!;
    const block = dx_get_block(frame.view, frame.entries, frame.at);
    const bh = (await ext4_read_dirblock(dir, block, DIRENT_HTREE, "ext4_dx_add_entry"))!;
    try {
      if (await add_dirent_to_buf(handle, dir, bh, name, inode)) return true;
      if (dx_get_count(frame.view, frame.entries) >= dx_get_limit(frame.view, frame.entries)) {
        await grow_index(handle, dir, frames);
        return false;
      }
      await split_and_add(handle, dir, bh, frame, hash.hash, hash_version, name, inode);
      return true;
    } finally {
      brelse(bh);
    }
  } finally {
    dx_release(frames);
  }
}

/**
 * Adds a name to an indexed directory. Throws ERR_BAD_DX_DIR when the index is of no use, and as
 * ext4_add_entry.
 */
export async function ext4_dx_add_entry(
  handle: handle_t,
  dir: inode,
  name: Uint8Array,
  inode: inode,
): Promise<void> {
  while (!(await try_add(handle, dir, name, inode))) {
    // the index has grown: look again
  }
}
