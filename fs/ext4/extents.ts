/**
 * fs/ext4/extents.ts - reading the extent tree of a file. Linux: fs/ext4/extents.c
 * (ext4_find_extent and what ext4_ext_map_blocks does without CREATE). Changing the tree:
 * extents_write.ts.
 *
 * A node is a header and entries of 12 bytes: extents in a leaf, index entries above. The root is
 * in i_block (60 bytes, four entries); other nodes fill a block, with a checksum behind the last
 * possible entry. A path is one element per level, root first; entries are named by their number in
 * the node.
 *
 * Locks: i_data_sem (read). Every node is checked when it is read; nothing of it is believed
 * before.
 */
import { EFSBADCRC, EFSCORRUPTED } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { ext4_inode_block_valid } from "./block_validity.ts";
import { ext4_extent_block_csum_verify, ext4_has_metadata_csum } from "./csum.ts";
import { EXT4_EXT_MAGIC, EXT4_MAX_EXTENT_DEPTH, EXT_INIT_MAX_LEN, EXT_MAX_BLOCKS } from "./ext4.ts";
import {
  BH_ext_verified,
  EXT4_EX_NOCACHE,
  EXT4_I,
  EXT4_MAP_MAPPED,
  EXT4_MAP_UNWRITTEN,
  EXT4_SB,
  ext4_error_inode,
  type ext4_map_blocks_t,
  ext4_sb_bread,
} from "./ext4_fs.ts";
import {
  EXTENT_STATUS_HOLE,
  EXTENT_STATUS_UNWRITTEN,
  EXTENT_STATUS_WRITTEN,
  ext4_es_cache_extent,
  ext4_es_find_extent_range,
  ext4_es_insert_extent,
  ext4_es_is_delayed,
  new_extent_status,
} from "./extents_status.ts";

// --- one node -----------------------------------------------------------------------------------

/** Byte offset of entry `i` in its node. */
export const entry_off = (i: number): number => 12 + 12 * i;
export const eh_magic = (v: DataView): number => v.getUint16(0, true);
export const eh_entries = (v: DataView): number => v.getUint16(2, true);
export const eh_max = (v: DataView): number => v.getUint16(4, true);
export const eh_depth = (v: DataView): number => v.getUint16(6, true);
/** First logical block of entry `i`, extent or index. */
export const entry_block = (v: DataView, i: number): number => v.getUint32(entry_off(i), true);

export const ext_raw_len = (v: DataView, i: number): number => v.getUint16(entry_off(i) + 4, true);
export const ext_is_unwritten = (v: DataView, i: number): boolean =>
  ext_raw_len(v, i) > EXT_INIT_MAX_LEN;
/** Length in blocks, whatever the state. */
export function ext_actual_len(v: DataView, i: number): number {
  const raw = ext_raw_len(v, i);
  return raw <= EXT_INIT_MAX_LEN ? raw : raw - EXT_INIT_MAX_LEN;
}
export const ext_pblock = (v: DataView, i: number): number =>
  v.getUint32(entry_off(i) + 8, true) + v.getUint16(entry_off(i) + 6, true) * 2 ** 32;
export const idx_pblock = (v: DataView, i: number): number =>
  v.getUint32(entry_off(i) + 4, true) + v.getUint16(entry_off(i) + 8, true) * 2 ** 32;

export const ext_depth = (inode: inode): number => eh_depth(EXT4_I(inode).i_data_view);

/** Entries that fit in a node at `depth` (0: leaf) of this inode's tree. */
export function ext4_ext_max_entries(inode: inode, depth: number): number {
  if (depth === ext_depth(inode)) return 4;
  return Math.floor((inode.i_sb.s_blocksize - 12) / 12);
}

/** One level of the way from the root to a leaf. */
export interface ext4_ext_path {
  /** Physical block of the node; 0 for the root. */
  p_block: number;
  /** Distance from the leaves: 0 for a leaf. */
  p_depth: number;
  /** Null for the root, whose bytes are i_data. */
  p_bh: buffer_head | null;
  p_view: DataView;
  /** Index entry that was followed, or -1 in a leaf. */
  p_idx: number;
  /** In a leaf: last extent that begins at or before the block, or -1 when there is none. */
  p_ext: number;
}

export const view_of = (b: Uint8Array): DataView =>
  new DataView(b.buffer, b.byteOffset, b.byteLength);

export function ext4_ext_drop_refs(path: readonly ext4_ext_path[]): void {
  for (const p of path) {
    if (p.p_bh) brelse(p.p_bh);
    p.p_bh = null;
  }
}

/** Last entry whose block is at or before `block`; -1 when all are behind it. */
export function ext4_ext_binsearch(v: DataView, block: number): number {
  let lo = 0;
  let hi = eh_entries(v);
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (entry_block(v, mid) <= block) lo = mid + 1;
    else hi = mid;
  }
  return lo - 1;
}

// --- checks -------------------------------------------------------------------------------------

function valid_extent(inode: inode, v: DataView, i: number): boolean {
  const len = ext_actual_len(v, i);
  if (len === 0 || entry_block(v, i) + len > 2 ** 32) return false;
  return ext4_inode_block_valid(inode, ext_pblock(v, i), len);
}

/** Entries in order, not overlapping, inside the device; 0 or the offending physical block. */
function bad_entry(inode: inode, v: DataView, lblk: number, depth: number): number | null {
  const n = eh_entries(v);
  if (n === 0) return null;
  // the first entry of a node begins where its parent's index entry says
  if (depth !== ext_depth(inode) && lblk !== entry_block(v, 0)) return 0;
  let cur = 0;
  for (let i = 0; i < n; i++) {
    const block = entry_block(v, i);
    if (depth === 0) {
      if (!valid_extent(inode, v, i)) return 0;
      if (block < cur) return ext_pblock(v, i);
      cur = block + ext_actual_len(v, i);
    } else {
      if (!ext4_inode_block_valid(inode, idx_pblock(v, i), 1)) return 0;
      if (block < cur) return idx_pblock(v, i);
      cur = block + 1;
    }
  }
  return null;
}

function header_fault(v: DataView, depth: number, max: number): string | null {
  if (eh_magic(v) !== EXT4_EXT_MAGIC) return "invalid magic";
  if (eh_depth(v) !== depth) return "unexpected eh_depth";
  if (eh_max(v) === 0) return "invalid eh_max";
  if (eh_max(v) > max) return "too large eh_max";
  if (eh_entries(v) > eh_max(v)) return "invalid eh_entries";
  if (eh_entries(v) === 0 && depth > 0) return "eh_entries is 0 but eh_depth is > 0";
  if (depth > EXT4_MAX_EXTENT_DEPTH) return "too large eh_depth";
  return null;
}

/**
 * Throws EUCLEAN or EBADMSG when the node cannot be right. `lblk` is what the parent says of its
 * first block; `bytes` the whole block, null for the root.
 */
function ext4_ext_check(
  inode: inode,
  v: DataView,
  bytes: Uint8Array | null,
  depth: number,
  pblk: number,
  lblk: number,
): void {
  const max = ext4_ext_max_entries(inode, depth);
  let fault = header_fault(v, depth, max);
  let at = pblk;
  let error = EFSCORRUPTED;
  if (fault === null) {
    const where = bad_entry(inode, v, lblk, depth);
    if (where !== null) {
      fault = "invalid extent entries";
      at = where || pblk;
    }
  }
  if (fault === null && bytes && ext4_has_metadata_csum(EXT4_SB(inode.i_sb).s_es)) {
    if (!ext4_extent_block_csum_verify(EXT4_I(inode).i_csum_seed, bytes)) {
      fault = "extent tree corrupted";
      error = EFSBADCRC;
    }
  }
  if (fault === null) return;
  ext4_error_inode(
    inode,
    "ext4_ext_check",
    0,
    `pblk ${at} bad header/extent: ${fault} - magic ${eh_magic(v).toString(16)}, ` +
      `entries ${eh_entries(v)}, max ${eh_max(v)}(${max}), depth ${eh_depth(v)}(${depth})`,
    error,
  );
  throw error;
}

/** Checks the root in i_block. */
export function ext4_ext_check_inode(inode: inode): void {
  ext4_ext_check(inode, EXT4_I(inode).i_data_view, null, ext_depth(inode), 0, 0);
}

/** What a leaf says goes into the extent status cache, the gaps between its extents too. */
function ext4_cache_extents(inode: inode, v: DataView): void {
  let prev = 0;
  for (let i = 0; i < eh_entries(v); i++) {
    const lblk = entry_block(v, i);
    const len = ext_actual_len(v, i);
    if (prev && prev !== lblk) {
      ext4_es_cache_extent(inode, prev, lblk - prev, 0, EXTENT_STATUS_HOLE);
    }
    const status = ext_is_unwritten(v, i) ? EXTENT_STATUS_UNWRITTEN : EXTENT_STATUS_WRITTEN;
    ext4_es_cache_extent(inode, lblk, len, ext_pblock(v, i), status);
    prev = lblk + len;
  }
}

async function read_extent_tree_block(
  inode: inode,
  pblk: number,
  lblk: number,
  depth: number,
  flags: number,
): Promise<buffer_head> {
  const bh = await ext4_sb_bread(inode.i_sb, pblk);
  const v = view_of(bh.b_data);
  if (bh.b_state & BH_ext_verified && eh_depth(v) === depth) return bh;
  try {
    ext4_ext_check(inode, v, bh.b_data, depth, pblk, lblk);
  } catch (e) {
    brelse(bh);
    throw e;
  }
  bh.b_state |= BH_ext_verified;
  if (depth === 0 && !(flags & EXT4_EX_NOCACHE)) ext4_cache_extents(inode, v);
  return bh;
}

// --- lookups ------------------------------------------------------------------------------------

/**
 * The way to the leaf that would hold `block`, one element per level. The caller drops the
 * references. Throws EUCLEAN, EBADMSG, EIO.
 */
export async function ext4_find_extent(
  inode: inode,
  block: number,
  flags = 0,
): Promise<ext4_ext_path[]> {
  const depth = ext_depth(inode);
  if (depth > EXT4_MAX_EXTENT_DEPTH) {
    ext4_error_inode(inode, "ext4_find_extent", 0, `inode has invalid extent depth: ${depth}`);
    throw EFSCORRUPTED;
  }
  const path: ext4_ext_path[] = [];
  let v = EXT4_I(inode).i_data_view;
  let bh: buffer_head | null = null;
  let p_block = 0;
  if (depth === 0 && !(flags & EXT4_EX_NOCACHE)) ext4_cache_extents(inode, v);
  try {
    for (let level = depth; level > 0; level--) {
      // a block before the first index entry goes the first way
      const p_idx = Math.max(0, ext4_ext_binsearch(v, block));
      path.push({ p_block, p_depth: level, p_bh: bh, p_view: v, p_idx, p_ext: -1 });
      p_block = idx_pblock(v, p_idx);
      const lblk = entry_block(v, p_idx);
      bh = await read_extent_tree_block(inode, p_block, lblk, level - 1, flags);
      v = view_of(bh.b_data);
    }
  } catch (e) {
    ext4_ext_drop_refs(path);
    throw e;
  }
  const p_ext = ext4_ext_binsearch(v, block);
  path.push({ p_block, p_depth: 0, p_bh: bh, p_view: v, p_idx: -1, p_ext });
  return path;
}

/**
 * First logical block behind the path's position that is allocated; EXT_MAX_BLOCKS when none is.
 */
export function ext4_ext_next_allocated_block(path: readonly ext4_ext_path[]): number {
  for (let i = path.length - 1; i >= 0; i--) {
    const p = path[i]!;
    const at = p.p_depth === 0 ? p.p_ext : p.p_idx;
    if (at + 1 < eh_entries(p.p_view)) return entry_block(p.p_view, at + 1);
  }
  return EXT_MAX_BLOCKS;
}

/**
 * The hole around `lblk` as the tree says: [start, start + len). Remembered in the cache as far as
 * no delayed run stands in it; the length that is left from `lblk` is returned (at least 1).
 */
function ext4_ext_determine_hole(
  inode: inode,
  path: readonly ext4_ext_path[],
  lblk: number,
): number {
  const leaf = path.at(-1)!;
  const i = leaf.p_ext;
  const start = i < 0 ? 0 : entry_block(leaf.p_view, i) + ext_actual_len(leaf.p_view, i);
  const end = ext4_ext_next_allocated_block(path);
  const es = new_extent_status();
  const delayed = ext4_es_find_extent_range(inode, ext4_es_is_delayed, lblk, end - 1, es);
  if (!delayed) {
    // never over a delayed run in front of lblk: only from lblk on
    const front = new_extent_status();
    const taken =
      lblk > start && ext4_es_find_extent_range(inode, ext4_es_is_delayed, start, lblk - 1, front);
    const from = taken ? lblk : start;
    ext4_es_insert_extent(inode, from, end - from, 0, EXTENT_STATUS_HOLE);
    return end - lblk;
  }
  if (es.es_lblk <= lblk) return 1;
  ext4_es_insert_extent(inode, lblk, es.es_lblk - lblk, 0, EXTENT_STATUS_HOLE);
  return es.es_lblk - lblk;
}

/**
 * Looks `map` up in the tree: blocks mapped (or unwritten: then EXT4_MAP_UNWRITTEN), or 0 and in
 * m_len the length of the hole. i_data_sem held.
 */
export async function ext4_ext_map_lookup(
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Promise<number> {
  const path = await ext4_find_extent(inode, map.m_lblk, flags);
  try {
    const leaf = path.at(-1)!;
    const v = leaf.p_view;
    const i = leaf.p_ext;
    if (i < 0 && path.length > 1 && eh_entries(v) === 0) {
      ext4_error_inode(
        inode,
        "ext4_ext_map_blocks",
        0,
        `bad extent address lblock: ${map.m_lblk}, depth: ${path.length - 1} ` +
          `pblock ${leaf.p_block}`,
      );
      throw EFSCORRUPTED;
    }
    if (i >= 0) {
      const off = map.m_lblk - entry_block(v, i);
      const len = ext_actual_len(v, i);
      if (off < len) {
        map.m_pblk = ext_pblock(v, i) + off;
        map.m_flags |= ext_is_unwritten(v, i) ? EXT4_MAP_UNWRITTEN : EXT4_MAP_MAPPED;
        map.m_len = Math.min(map.m_len, len - off);
        return map.m_len;
      }
    }
    map.m_pblk = 0;
    map.m_len = Math.min(map.m_len, ext4_ext_determine_hole(inode, path, map.m_lblk));
    return 0;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/**
 * Brings the whole tree into the extent status cache (FIEMAP_FLAG_CACHE,
 * EXT4_IOC_PRECACHE_EXTENTS).
 */
export async function ext4_ext_precache(inode: inode): Promise<void> {
  const sem = EXT4_I(inode).i_data_sem;
  const p = sem.down_read();
  if (p) await p;
  try {
    for (let block = 0; block < EXT_MAX_BLOCKS; ) {
      const path = await ext4_find_extent(inode, block);
      let next = EXT_MAX_BLOCKS;
      for (let i = path.length - 2; i >= 0 && next === EXT_MAX_BLOCKS; i--) {
        const n = path[i]!;
        if (n.p_idx + 1 < eh_entries(n.p_view)) next = entry_block(n.p_view, n.p_idx + 1);
      }
      ext4_ext_drop_refs(path);
      block = next;
    }
  } finally {
    sem.up_read();
  }
}
