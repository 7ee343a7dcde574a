/**
 * fs/ext4/extents_split.ts - cutting extents and changing the state of a part of one.
 * Linux: ext4_split_extent_at(), ext4_split_extent(), ext4_ext_convert_to_initialized() and
 * ext4_ext_handle_unwritten_extents() in fs/ext4/extents.c.
 *
 * A part of an unwritten extent that gets data becomes an extent of its own, so a tree may need a
 * new leaf for it. When there is no block for that, the rest is zeroed on the media and the whole
 * extent counts as written; small rests inside the file are zeroed in any case, which keeps the
 * tree small.
 *
 * Locks: i_data_sem (write), an open handle. Each function here finds its own path.
 */
import { blkdev_issue_zeroout } from "../../drivers/block/blk-lib.ts";
import { assert } from "../../kernel/assert.ts";
import { EFSCORRUPTED, ENOSPC, is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { EXT_INIT_MAX_LEN, EXT_UNWRITTEN_MAX_LEN } from "./ext4.ts";
import {
  EXT4_EX_NOCACHE,
  EXT4_GET_BLOCKS_CONVERT,
  EXT4_GET_BLOCKS_CONVERT_UNWRITTEN,
  EXT4_GET_BLOCKS_CREATE,
  EXT4_GET_BLOCKS_METADATA_NOFAIL,
  EXT4_GET_BLOCKS_PRE_IO,
  EXT4_GET_BLOCKS_UNWRIT_EXT,
  EXT4_I,
  EXT4_MAP_MAPPED,
  EXT4_MAP_NEW,
  EXT4_MAP_UNWRITTEN,
  corrupt,
  ext4_error_inode,
  type ext4_map_blocks_t,
} from "./ext4_fs.ts";
import { ext4_update_inode_fsync_trans, type handle_t } from "./ext4_jbd2.ts";
import { eh_entries, type ext4_ext_path, ext4_ext_drop_refs, ext4_find_extent } from "./extents.ts";
import { ext4_ext_insert_extent, ext4_ext_try_to_merge } from "./extents_insert.ts";
import {
  type ext4_extent_t,
  ext4_ext_dirty,
  ext4_ext_get_access,
  get_extent,
  leaf_of,
  set_ext_len,
  set_ext_unwritten,
  set_extent,
} from "./extents_node.ts";
import {
  EXTENT_STATUS_WRITTEN,
  ext4_es_insert_extent,
  ext4_es_remove_extent,
} from "./extents_status.ts";

/** Instead of failing, zero what has no data and count it as written. */
export const EXT4_EXT_MAY_ZEROOUT = 0x1;
/** The first (second) part is to be unwritten. */
export const EXT4_EXT_MARK_UNWRIT1 = 0x2;
export const EXT4_EXT_MARK_UNWRIT2 = 0x4;
/** The first (second) part holds data: only the other one may be zeroed. */
export const EXT4_EXT_DATA_VALID1 = 0x8;
export const EXT4_EXT_DATA_VALID2 = 0x10;

/** Rests of an unwritten extent up to this many KiB are zeroed rather than split off. */
const EXTENT_MAX_ZEROOUT_KB = 32;

interface run {
  lblk: number;
  len: number;
}

/** Zeroes blocks on the media. */
export function ext4_issue_zeroout(inode: inode, pblk: number, len: number): Promise<void> {
  const sectors = inode.i_sb.s_blocksize / 512;
  return blkdev_issue_zeroout(inode.i_sb.s_bdev!, pblk * sectors, len * sectors);
}

/** The part [lblk, lblk + len) of an extent. */
const part = (e: ext4_extent_t, lblk: number, len: number): ext4_extent_t => ({
  ee_block: lblk,
  ee_len: len,
  ee_pblk: e.ee_pblk + (lblk - e.ee_block),
  unwritten: e.unwritten,
});

function zeroout_es(inode: inode, e: ext4_extent_t | null): void {
  if (e && e.ee_len > 0) {
    ext4_es_insert_extent(inode, e.ee_block, e.ee_len, e.ee_pblk, EXTENT_STATUS_WRITTEN);
  }
}

/** The extent that holds `lblk`, and the way there. Throws EUCLEAN when it is a hole. */
async function find_covering(
  inode: inode,
  lblk: number,
  flags: number,
): Promise<{ path: ext4_ext_path[]; i: number; ex: ext4_extent_t }> {
  const path = await ext4_find_extent(inode, lblk, flags);
  const leaf = leaf_of(path);
  const i = leaf.p_ext;
  const ex = i >= 0 ? get_extent(leaf.p_view, i) : null;
  if (ex && lblk < ex.ee_block + ex.ee_len) return { path, i, ex };
  ext4_ext_drop_refs(path);
  corrupt(inode, "ext4_split_extent", `unexpected hole at ${lblk}`);
}

/** No block for a leaf: zero what holds no data, or undo the cut. */
async function split_without_space(
  handle: handle_t,
  inode: inode,
  orig: ext4_extent_t,
  split: number,
  split_flag: number,
): Promise<boolean> {
  const { path, i } = await find_covering(inode, orig.ee_block, EXT4_EX_NOCACHE);
  try {
    const leaf = leaf_of(path);
    await ext4_ext_get_access(handle, inode, leaf);
    let zeroed: ext4_extent_t | null = null;
    if (split_flag & EXT4_EXT_MAY_ZEROOUT) {
      const head = split - orig.ee_block;
      if (split_flag & EXT4_EXT_DATA_VALID1) zeroed = part(orig, split, orig.ee_len - head);
      else if (split_flag & EXT4_EXT_DATA_VALID2) zeroed = part(orig, orig.ee_block, head);
      else zeroed = orig;
      try {
        await ext4_issue_zeroout(inode, zeroed.ee_pblk, zeroed.ee_len);
      } catch (e) {
        if (!is_errno(e)) throw e;
        zeroed = null;
      }
    }
    if (!zeroed) {
      set_extent(leaf.p_view, i, orig);
      await ext4_ext_dirty(handle, inode, leaf);
      return false;
    }
    set_ext_len(leaf.p_view, i, orig.ee_len, false);
    await ext4_ext_try_to_merge(handle, inode, path, i);
    await ext4_ext_dirty(handle, inode, leaf_of(path));
    zeroout_es(inode, zeroed);
    return true;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/**
 * Cuts the extent that holds block `split` there, and gives both parts the states that `split_flag`
 * says. A cut at the extent's own start only sets its state (EXT4_EXT_MARK_UNWRIT2 or written).
 */
export async function ext4_split_extent_at(
  handle: handle_t,
  inode: inode,
  split: number,
  split_flag: number,
  get_flags: number,
): Promise<void> {
  const flags = get_flags | EXT4_EX_NOCACHE;
  const { path, i, ex } = await find_covering(inode, split, flags);
  const leaf = leaf_of(path);
  const second_unwritten = (split_flag & EXT4_EXT_MARK_UNWRIT2) !== 0;
  const head = split - ex.ee_block;
  try {
    await ext4_ext_get_access(handle, inode, leaf);
    if (head === 0) {
      set_ext_unwritten(leaf.p_view, i, second_unwritten);
      if (!(flags & EXT4_GET_BLOCKS_PRE_IO)) await ext4_ext_try_to_merge(handle, inode, path, i);
      await ext4_ext_dirty(handle, inode, leaf_of(path));
      return;
    }
    set_ext_len(leaf.p_view, i, head, (split_flag & EXT4_EXT_MARK_UNWRIT1) !== 0);
    await ext4_ext_dirty(handle, inode, leaf);
    const second = { ...part(ex, split, ex.ee_len - head), unwritten: second_unwritten };
    try {
      await ext4_ext_insert_extent(handle, inode, path, second, flags);
    } catch (e) {
      if (e !== ENOSPC) throw e;
      if (!(await split_without_space(handle, inode, ex, split, split_flag))) throw e;
    }
  } catch (e) {
    if (is_errno(e)) ext4_es_remove_extent(inode, ex.ee_block, ex.ee_len);
    throw e;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/**
 * Cuts at `lblk` without changing any state, with the last reserved blocks if it must be
 * (`nofail`).
 */
export async function ext4_force_split_extent_at(
  handle: handle_t,
  inode: inode,
  lblk: number,
  nofail: boolean,
): Promise<void> {
  const { path, ex } = await find_covering(inode, lblk, EXT4_EX_NOCACHE);
  ext4_ext_drop_refs(path);
  const both = ex.unwritten ? EXT4_EXT_MARK_UNWRIT1 | EXT4_EXT_MARK_UNWRIT2 : 0;
  const flags = EXT4_GET_BLOCKS_PRE_IO | (nofail ? EXT4_GET_BLOCKS_METADATA_NOFAIL : 0);
  await ext4_split_extent_at(handle, inode, lblk, both, flags);
}

/**
 * Makes [lblk, lblk + len) of an extent an extent of its own (as far as the extent goes) in the
 * state that `split_flag` says. Returns how many blocks from `lblk` on are in that extent.
 */
async function ext4_split_extent(
  handle: handle_t,
  inode: inode,
  want: run,
  split_flag: number,
  flags: number,
): Promise<number> {
  const { path, ex } = await find_covering(inode, want.lblk, flags | EXT4_EX_NOCACHE);
  ext4_ext_drop_refs(path);
  const end = want.lblk + want.len;
  let allocated = want.len;
  if (end < ex.ee_block + ex.ee_len) {
    let first = split_flag & EXT4_EXT_MAY_ZEROOUT;
    if (ex.unwritten) first |= EXT4_EXT_MARK_UNWRIT1 | EXT4_EXT_MARK_UNWRIT2;
    if (split_flag & EXT4_EXT_DATA_VALID2) first |= EXT4_EXT_DATA_VALID1;
    await ext4_split_extent_at(handle, inode, end, first, flags | EXT4_GET_BLOCKS_PRE_IO);
  } else {
    allocated = ex.ee_len - (want.lblk - ex.ee_block);
  }
  const again = await find_covering(inode, want.lblk, flags | EXT4_EX_NOCACHE);
  ext4_ext_drop_refs(again.path);
  // zeroed for want of space: written as a whole, nothing is left to cut
  if (ex.unwritten && !again.ex.unwritten) return allocated;
  let second = split_flag & EXT4_EXT_DATA_VALID2;
  if (again.ex.unwritten) {
    second |= EXT4_EXT_MARK_UNWRIT1;
    second |= split_flag & (EXT4_EXT_MAY_ZEROOUT | EXT4_EXT_MARK_UNWRIT2);
  }
  await ext4_split_extent_at(handle, inode, want.lblk, second, flags);
  return allocated;
}

/** First block behind the file, or behind the request if that is further. */
function eof_block(inode: inode, want: run): number {
  const eof = Math.ceil(EXT4_I(inode).i_disksize / inode.i_sb.s_blocksize);
  return Math.max(eof, want.lblk + want.len);
}

/**
 * When the blocks stand at an end of the unwritten extent and the written neighbour continues
 * there: move the border between the two. True when that was possible.
 */
function move_border(v: DataView, i: number, ex: ext4_extent_t, want: run): boolean {
  if (want.len >= ex.ee_len) return false;
  const n = want.len;
  if (want.lblk === ex.ee_block && i > 0) {
    const prev = get_extent(v, i - 1);
    if (prev.unwritten || prev.ee_len >= EXT_INIT_MAX_LEN - n) return false;
    if (prev.ee_block + prev.ee_len !== ex.ee_block) return false;
    if (prev.ee_pblk + prev.ee_len !== ex.ee_pblk) return false;
    set_extent(v, i, part(ex, ex.ee_block + n, ex.ee_len - n));
    set_ext_len(v, i - 1, prev.ee_len + n, false);
    return true;
  }
  if (want.lblk + n === ex.ee_block + ex.ee_len && i + 1 < eh_entries(v)) {
    const next = get_extent(v, i + 1);
    if (next.unwritten || next.ee_len >= EXT_INIT_MAX_LEN - n) return false;
    if (next.ee_block !== want.lblk + n || ex.ee_pblk + ex.ee_len !== next.ee_pblk) return false;
    set_extent(v, i + 1, {
      ee_block: next.ee_block - n,
      ee_len: next.ee_len + n,
      ee_pblk: next.ee_pblk - n,
      unwritten: false,
    });
    set_ext_len(v, i, ex.ee_len - n, true);
    return true;
  }
  return false;
}

/** Zeroes small rests behind and before `want`, and widens it by what was zeroed. */
async function zero_rests(
  inode: inode,
  ex: ext4_extent_t,
  want: run,
  zeroed: ext4_extent_t[],
): Promise<boolean> {
  const max = EXTENT_MAX_ZEROOUT_KB >> (inode.i_sb.s_blocksize_bits - 10);
  const left = ex.ee_len - (want.lblk - ex.ee_block);
  if (max === 0 || left <= want.len) return false;
  try {
    if (left <= max) {
      const tail = part(ex, want.lblk + want.len, left - want.len);
      await ext4_issue_zeroout(inode, tail.ee_pblk, tail.ee_len);
      zeroed.push(tail);
      want.len = left;
    }
    if (want.lblk - ex.ee_block + want.len < max) {
      if (want.lblk !== ex.ee_block) {
        const head = part(ex, ex.ee_block, want.lblk - ex.ee_block);
        await ext4_issue_zeroout(inode, head.ee_pblk, head.ee_len);
        zeroed.push(head);
      }
      want.len += want.lblk - ex.ee_block;
      want.lblk = ex.ee_block;
      return true;
    }
  } catch (e) {
    if (!is_errno(e)) throw e;
  }
  return false;
}

/**
 * Turns [m_lblk, m_lblk + m_len) of an unwritten extent into a written one. Returns how many blocks
 * from m_lblk on are written now.
 */
async function ext4_ext_convert_to_initialized(
  handle: handle_t,
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Promise<number> {
  const { path, i, ex } = await find_covering(inode, map.m_lblk, flags | EXT4_EX_NOCACHE);
  const want: run = { lblk: map.m_lblk, len: map.m_len };
  const eof = eof_block(inode, want);
  try {
    assert(ex.unwritten, "a written extent is to be converted");
    const leaf = leaf_of(path);
    await ext4_ext_get_access(handle, inode, leaf);
    if (move_border(leaf.p_view, i, ex, want)) {
      await ext4_ext_dirty(handle, inode, leaf);
      return want.len;
    }
  } finally {
    ext4_ext_drop_refs(path);
  }
  let allocated = ex.ee_len - (want.lblk - ex.ee_block);
  let split_flag = EXT4_EXT_DATA_VALID2;
  const zeroed: ext4_extent_t[] = [];
  // only what lies inside the file may come to be written without data
  if (ex.ee_block + ex.ee_len <= eof) {
    split_flag |= EXT4_EXT_MAY_ZEROOUT;
    if (await zero_rests(inode, ex, want, zeroed)) allocated = map.m_len;
  }
  await ext4_split_extent(handle, inode, want, split_flag, flags);
  for (const z of zeroed) zeroout_es(inode, z);
  return allocated;
}

/**
 * Cuts out [m_lblk, m_lblk + m_len) and leaves it unwritten (or makes it so). Returns its length.
 */
function ext4_split_convert_extents(
  handle: handle_t,
  inode: inode,
  map: ext4_map_blocks_t,
  ex: ext4_extent_t,
  flags: number,
): Promise<number> {
  const want: run = { lblk: map.m_lblk, len: map.m_len };
  let split_flag = 0;
  if (flags & EXT4_GET_BLOCKS_CONVERT_UNWRITTEN) {
    split_flag |= EXT4_EXT_DATA_VALID1;
  } else if (flags & (EXT4_GET_BLOCKS_UNWRIT_EXT | EXT4_GET_BLOCKS_CONVERT)) {
    if (ex.ee_block + ex.ee_len <= eof_block(inode, want)) split_flag |= EXT4_EXT_MAY_ZEROOUT;
    split_flag |= EXT4_EXT_MARK_UNWRIT2;
    if (flags & EXT4_GET_BLOCKS_CONVERT) split_flag |= EXT4_EXT_DATA_VALID2;
  }
  return ext4_split_extent(handle, inode, want, split_flag, flags | EXT4_GET_BLOCKS_PRE_IO);
}

/** Makes [m_lblk, m_lblk + m_len) an extent of its own and gives it a state. */
async function convert_exactly(
  handle: handle_t,
  inode: inode,
  map: ext4_map_blocks_t,
  unwritten: boolean,
): Promise<void> {
  let found = await find_covering(inode, map.m_lblk, 0);
  if (found.ex.ee_block !== map.m_lblk || found.ex.ee_len > map.m_len) {
    ext4_ext_drop_refs(found.path);
    const how = unwritten ? EXT4_GET_BLOCKS_CONVERT_UNWRITTEN : EXT4_GET_BLOCKS_CONVERT;
    await ext4_split_convert_extents(handle, inode, map, found.ex, how);
    found = await find_covering(inode, map.m_lblk, 0);
  }
  const { path, i } = found;
  try {
    await ext4_ext_get_access(handle, inode, leaf_of(path));
    set_ext_unwritten(leaf_of(path).p_view, i, unwritten);
    await ext4_ext_try_to_merge(handle, inode, path, i);
    await ext4_ext_dirty(handle, inode, leaf_of(path));
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/**
 * Written blocks become unwritten (zero range): `allocated` blocks from m_lblk on are in the
 * extent. Fills in the map, returns its length.
 */
export async function convert_initialized_extent(
  handle: handle_t,
  inode: inode,
  map: ext4_map_blocks_t,
  allocated: number,
): Promise<number> {
  if (map.m_len > EXT_UNWRITTEN_MAX_LEN) map.m_len = Math.floor(EXT_UNWRITTEN_MAX_LEN / 2);
  await convert_exactly(handle, inode, map, true);
  ext4_update_inode_fsync_trans(handle, inode, true);
  map.m_flags |= EXT4_MAP_UNWRITTEN;
  map.m_len = Math.min(allocated, map.m_len);
  return map.m_len;
}

function done(map: ext4_map_blocks_t, pblk: number, len: number): number {
  map.m_pblk = pblk;
  map.m_len = Math.min(len, map.m_len);
  return map.m_len;
}

/**
 * A request that hit an unwritten extent `ex`: what the flags want of it. Fills in the map, returns
 * its length. The meaning of the flags, in the order in which they are looked at:
 * PRE_IO: cut it out now, so that the conversion after the data is written needs no block;
 * CONVERT: the data is written; UNWRIT_EXT: fallocate again, as it is; CREATE: to be written now.
 */
export async function ext4_ext_handle_unwritten_extents(
  handle: handle_t | null,
  inode: inode,
  map: ext4_map_blocks_t,
  ex: ext4_extent_t,
  get_flags: number,
): Promise<number> {
  const flags = get_flags | EXT4_GET_BLOCKS_METADATA_NOFAIL;
  const off = map.m_lblk - ex.ee_block;
  const pblk = ex.ee_pblk + off;
  const left = ex.ee_len - off;
  if (flags & EXT4_GET_BLOCKS_PRE_IO) {
    const n = await ext4_split_convert_extents(handle!, inode, map, ex, flags);
    if (n === 0) return no_progress(inode, map);
    map.m_flags |= EXT4_MAP_UNWRITTEN | EXT4_MAP_NEW | EXT4_MAP_MAPPED;
    return done(map, pblk, n);
  }
  if (flags & EXT4_GET_BLOCKS_CONVERT) {
    await convert_exactly(handle!, inode, map, false);
    ext4_update_inode_fsync_trans(handle!, inode, true);
    map.m_flags |= EXT4_MAP_MAPPED;
    return done(map, pblk, left);
  }
  if (flags & EXT4_GET_BLOCKS_UNWRIT_EXT) {
    map.m_flags |= EXT4_MAP_UNWRITTEN | EXT4_MAP_MAPPED;
    return done(map, pblk, left);
  }
  if (!(flags & EXT4_GET_BLOCKS_CREATE)) {
    map.m_flags |= EXT4_MAP_UNWRITTEN;
    return done(map, pblk, left);
  }
  map.m_len = Math.min(map.m_len, left);
  const n = await ext4_ext_convert_to_initialized(handle!, inode, map, flags);
  ext4_update_inode_fsync_trans(handle!, inode, true);
  if (n === 0) return no_progress(inode, map);
  map.m_flags |= EXT4_MAP_NEW | EXT4_MAP_MAPPED;
  return done(map, pblk, n);
}

function no_progress(inode: inode, map: ext4_map_blocks_t): never {
  const text = `unexpected ret == 0, m_len = ${map.m_len}`;
  ext4_error_inode(inode, "ext4_ext_handle_unwritten_extents", 0, text);
  throw EFSCORRUPTED;
}
