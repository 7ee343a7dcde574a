/**
 * fs/ext4/htree.ts - directories with a hash tree: following the index. Linux: fs/ext4/namei.c
 * (dx_probe, ext4_htree_next_block, ext4_htree_fill_tree). Changing the tree: the write side.
 *
 * The root (block 0) holds "." and "..", then dx_root_info, then entries (hash, block); up to two
 * (three with large_dir) levels below are index nodes, then ordinary directory blocks. The first
 * entry of a node has no hash: its place holds limit and count. A hash with bit 0 set continues the
 * previous block. Locks: i_rwsem of the directory.
 */
import { EFSCORRUPTED, type Errno, is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { ext4_has_metadata_csum } from "./csum.ts";
import {
  de_file_type,
  de_inode,
  de_name,
  de_rec_len,
  DIRENT_HTREE,
  ext4_check_dir_entry,
  ext4_dir_rec_len,
  ext4_read_dirblock,
  INDEX,
} from "./dirent.ts";
import {
  DX_HASH_HALF_MD4,
  DX_HASH_LEGACY,
  DX_HASH_TEA,
  DX_NODE_OFFSET,
  DX_ROOT_INFO_OFFSET,
  EXT4_FEATURE_INCOMPAT_LARGEDIR,
  EXT4_HTREE_LEVEL,
  EXT4_HTREE_LEVEL_COMPAT,
} from "./ext4.ts";
import { EXT4_SB, ext4_warning_inode, has_incompat } from "./ext4_fs.ts";
import { type dx_hash_info, ext4fs_dirhash } from "./hash.ts";

/** The index cannot be used; the directory may still be searched block by block. */
export const ERR_BAD_DX_DIR: Errno = Object.freeze({
  code: "EBADDXDIR",
  errno: 75000,
  is_errno: true as const,
});

/** One level of the way down. */
export interface dx_frame {
  bh: buffer_head;
  view: DataView;
  /** Byte offset of the first entry in the block. */
  entries: number;
  /** Number of the entry that is followed. */
  at: number;
}

export const dx_get_limit = (v: DataView, entries: number): number => v.getUint16(entries, true);
export const dx_get_count = (v: DataView, entries: number): number =>
  v.getUint16(entries + 2, true);
export const dx_get_hash = (v: DataView, entries: number, i: number): number =>
  v.getUint32(entries + 8 * i, true);
export const dx_get_block = (v: DataView, entries: number, i: number): number =>
  v.getUint32(entries + 8 * i + 4, true) & 0x0fffffff;

const tail_bytes = (dir: inode): number => (ext4_has_metadata_csum(EXT4_SB(dir.i_sb).s_es) ? 8 : 0);
/** Entries that fit in the root, and in an inner node. */
export const dx_root_limit = (dir: inode, info_length: number): number => {
  const space =
    dir.i_sb.s_blocksize -
    ext4_dir_rec_len(1) -
    ext4_dir_rec_len(2) -
    info_length -
    tail_bytes(dir);
  return Math.floor(space / 8);
};
export const dx_node_limit = (dir: inode): number =>
  Math.floor((dir.i_sb.s_blocksize - ext4_dir_rec_len(0) - tail_bytes(dir)) / 8);

export function dx_release(frames: readonly dx_frame[]): void {
  for (const f of frames) brelse(f.bh);
}

const view_of = (bh: buffer_head): DataView =>
  new DataView(bh.b_data.buffer, bh.b_data.byteOffset, bh.b_data.byteLength);

function bad_dx(dir: inode, text: string): never {
  ext4_warning_inode(dir, "dx_probe", text);
  ext4_warning_inode(dir, "dx_probe", "Corrupt directory, running e2fsck is recommended");
  throw ERR_BAD_DX_DIR;
}

/** The version to hash names of this directory with. */
export function dx_hash_version(dir: inode, version: number): number {
  return version <= DX_HASH_TEA ? version + EXT4_SB(dir.i_sb).s_hash_unsigned : version;
}
/** For a directory that has no index yet. */
export const default_hash_version = (dir: inode): number =>
  dx_hash_version(dir, EXT4_SB(dir.i_sb).s_def_hash_version);

export function hash_name(dir: inode, name: Uint8Array, version: number): dx_hash_info {
  const h = ext4fs_dirhash(name, version, EXT4_SB(dir.i_sb).s_hash_seed);
  if (!h) {
    ext4_warning_inode(dir, "ext4fs_dirhash", `invalid/unsupported hash tree version ${version}`);
    throw EFSCORRUPTED;
  }
  return h;
}

function root_frame(
  dir: inode,
  bh: buffer_head,
): { frame: dx_frame; version: number; levels: number } {
  const view = view_of(bh);
  const info = DX_ROOT_INFO_OFFSET;
  const version = view.getUint8(info + 4);
  const info_length = view.getUint8(info + 5);
  const levels = view.getUint8(info + 6);
  if (![DX_HASH_LEGACY, DX_HASH_HALF_MD4, DX_HASH_TEA].includes(version)) {
    bad_dx(dir, `Unrecognised inode hash code ${version}`);
  }
  if (view.getUint8(info + 7) & 1) bad_dx(dir, "Unimplemented hash flags");
  const large = has_incompat(dir.i_sb, EXT4_FEATURE_INCOMPAT_LARGEDIR);
  if (levels >= (large ? EXT4_HTREE_LEVEL : EXT4_HTREE_LEVEL_COMPAT)) {
    bad_dx(dir, `Directory (ino: ${dir.i_ino}) htree depth ${levels} exceed supported value`);
  }
  const entries = info + info_length;
  const limit = dx_get_limit(view, entries);
  const want = dx_root_limit(dir, info_length);
  if (limit !== want) bad_dx(dir, `dx entry: limit ${limit} != root limit ${want}`);
  return { frame: { bh, view, entries, at: 0 }, version, levels };
}

/** Puts `at` on the last entry whose hash is not above `hash`. */
function dx_search(dir: inode, f: dx_frame, hash: number): void {
  const count = dx_get_count(f.view, f.entries);
  const limit = dx_get_limit(f.view, f.entries);
  if (count === 0 || count > limit) {
    bad_dx(dir, `dx entry: count ${count} beyond limit ${limit}`);
  }
  let lo = 1;
  let hi = count;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (dx_get_hash(f.view, f.entries, mid) > hash) hi = mid;
    else lo = mid + 1;
  }
  f.at = lo - 1;
}

export interface dx_probed {
  frames: dx_frame[];
  hash: dx_hash_info;
  hash_version: number;
}

/**
 * The way to the leaf that a name (or, for readdir, a hash) belongs in. The caller releases the
 * frames. Throws ERR_BAD_DX_DIR when the index is of no use.
 */
export async function dx_probe(
  dir: inode,
  name: Uint8Array | null,
  start_hash: number,
): Promise<dx_probed> {
  const frames: dx_frame[] = [];
  let bh = (await ext4_read_dirblock(dir, 0, INDEX, "dx_probe"))!;
  try {
    let root: ReturnType<typeof root_frame>;
    try {
      root = root_frame(dir, bh);
    } catch (e) {
      brelse(bh);
      throw e;
    }
    frames.push(root.frame);
    const hash_version = dx_hash_version(dir, root.version);
    const hash = name ? hash_name(dir, name, hash_version) : { hash: start_hash, minor_hash: 0 };
    const blocks = [0];
    for (let level = 0; ; level++) {
      const f = frames.at(-1)!;
      dx_search(dir, f, hash.hash);
      if (level === root.levels) return { frames, hash, hash_version };
      const block = dx_get_block(f.view, f.entries, f.at);
      if (blocks.includes(block)) {
        bad_dx(dir, `dx entry: tree cycle block ${block} points back to itself`);
      }
      blocks.push(block);
      bh = (await ext4_read_dirblock(dir, block, INDEX, "dx_probe"))!;
      const view = view_of(bh);
      frames.push({ bh, view, entries: DX_NODE_OFFSET, at: 0 });
      const limit = dx_get_limit(view, DX_NODE_OFFSET);
      const want = dx_node_limit(dir);
      if (limit !== want) bad_dx(dir, `dx entry: limit ${limit} != node limit ${want}`);
    }
  } catch (e) {
    dx_release(frames);
    throw e;
  }
}

/** Compare with nothing: always go on to the next block. */
export const HASH_NB_ALWAYS = 1;

/**
 * Moves the frames to the next leaf: true when there is one that may hold `hash`. `start_hash` gets
 * the hash that it begins with.
 */
export async function ext4_htree_next_block(
  dir: inode,
  hash: number,
  frames: dx_frame[],
  start: { hash: number },
): Promise<boolean> {
  let i = frames.length - 1;
  let below = 0;
  for (;;) {
    const f = frames[i]!;
    f.at++;
    if (f.at < dx_get_count(f.view, f.entries)) break;
    if (i === 0) return false;
    below++;
    i--;
  }
  const p = frames[i]!;
  const bhash = dx_get_hash(p.view, p.entries, p.at);
  start.hash = bhash;
  if ((hash & 1) === 0 && (bhash & ~1) >>> 0 !== hash) return false;
  for (; below > 0; below--, i++) {
    const up = frames[i]!;
    const block = dx_get_block(up.view, up.entries, up.at);
    const bh = (await ext4_read_dirblock(dir, block, INDEX, "ext4_htree_next_block"))!;
    const f = frames[i + 1]!;
    brelse(f.bh);
    f.bh = bh;
    f.view = view_of(bh);
    f.entries = DX_NODE_OFFSET;
    f.at = 0;
    // the kernel takes the count as it is; beyond the block there is nothing to read
    if (dx_get_count(f.view, f.entries) > dx_node_limit(dir)) {
      bad_dx(dir, "dx entry: count beyond limit");
    }
  }
  return true;
}

/** A name as readdir keeps it until it is asked for. */
export interface fname {
  hash: number;
  minor_hash: number;
  inode: number;
  file_type: number;
  name: Uint8Array;
}

/**
 * Adds the entries of one block that come at or after (start_hash, start_minor). Returns how many.
 */
export async function htree_dirblock_to_tree(
  dir: inode,
  block: number,
  hash_version: number,
  start_hash: number,
  start_minor: number,
  out: fname[],
): Promise<number> {
  const bh = (await ext4_read_dirblock(dir, block, DIRENT_HTREE, "htree_dirblock_to_tree"))!;
  const b = bh.b_data;
  const sb = dir.i_sb;
  const before = out.length;
  try {
    for (let off = 0; off < b.length - ext4_dir_rec_len(0); off += de_rec_len(sb, b, off)) {
      const at = block * b.length + off;
      // a bad entry hides the rest of its block, the names before it are still good
      if (!ext4_check_dir_entry(dir, "htree_dirblock_to_tree", bh, b, off, 0, b.length, at)) break;
      store_entry(dir, b, off, hash_version, start_hash, start_minor, out);
    }
  } finally {
    brelse(bh);
  }
  return out.length - before;
}

export function store_entry(
  dir: inode,
  b: Uint8Array,
  off: number,
  hash_version: number,
  start_hash: number,
  start_minor: number,
  out: fname[],
): void {
  const inode = de_inode(b, off);
  if (inode === 0) return;
  const name = de_name(b, off).slice();
  const { hash, minor_hash } = hash_name(dir, name, hash_version);
  if (hash < start_hash || (hash === start_hash && minor_hash < start_minor)) return;
  out.push({ hash, minor_hash, inode, file_type: de_file_type(b, off), name });
}

const by_hash = (a: fname, b: fname): number => a.hash - b.hash || a.minor_hash - b.minor_hash;

/**
 * The next names in hash order from (start_hash, start_minor), and the hash to go on from
 * (0xffffffff: this was the end).
 */
export async function ext4_htree_fill_tree(
  dir: inode,
  start_hash: number,
  start_minor: number,
): Promise<{ names: fname[]; next_hash: number }> {
  const out: fname[] = [];
  const { frames, hash_version } = await dx_probe(dir, null, start_hash);
  try {
    add_dots(dir, frames[0]!, start_hash, start_minor, out);
    const next = { hash: 0 };
    for (;;) {
      const f = frames.at(-1)!;
      const block = dx_get_block(f.view, f.entries, f.at);
      await htree_dirblock_to_tree(dir, block, hash_version, start_hash, start_minor, out);
      next.hash = 0xffffffff;
      const more = await ext4_htree_next_block(dir, HASH_NB_ALWAYS, frames, next);
      // a block that continues the previous one belongs to the same batch
      if (!more || (out.length > 0 && (next.hash & 1) === 0)) break;
    }
    out.sort(by_hash);
    return { names: out, next_hash: next.hash };
  } finally {
    dx_release(frames);
  }
}

/** "." sorts as hash 0, ".." as hash 2: both stand in the root block only. */
function add_dots(
  dir: inode,
  root: dx_frame,
  start_hash: number,
  start_minor: number,
  out: fname[],
): void {
  const b = root.bh.b_data;
  const add = (off: number, hash: number) => {
    if (off + 8 > b.length) return;
    const inode = de_inode(b, off);
    out.push({
      hash,
      minor_hash: 0,
      inode,
      file_type: de_file_type(b, off),
      name: de_name(b, off).slice(),
    });
  };
  if (start_hash === 0 && start_minor === 0) add(0, 0);
  if (start_hash < 2 || (start_hash === 2 && start_minor === 0)) {
    add(de_rec_len(dir.i_sb, b, 0), 2);
  }
}

export const is_bad_dx = (e: unknown): boolean => is_errno(e) && e === ERR_BAD_DX_DIR;
