/**
 * fs/ext4/extents_node.ts - changing one node of an extent tree. Linux: parts of fs/ext4/extents.c.
 *
 * A node's entries are changed through its DataView, between ext4_ext_get_access() and
 * ext4_ext_dirty(). Entries are named by their number; an extent that travels between nodes is an
 * ext4_extent_t. Locks: i_data_sem (write).
 */
import type { inode, Sometime } from "../../kernel/include/fs.ts";
import { ext4_extent_block_csum_set, ext4_has_metadata_csum } from "./csum.ts";
import { EXT_INIT_MAX_LEN, EXT_UNWRITTEN_MAX_LEN } from "./ext4.ts";
import { EXT4_I, EXT4_SB } from "./ext4_fs.ts";
import {
  ext4_handle_dirty_metadata,
  ext4_journal_get_write_access,
  type handle_t,
} from "./ext4_jbd2.ts";
import {
  eh_entries,
  entry_block,
  entry_off,
  type ext4_ext_path,
  ext_actual_len,
  ext_is_unwritten,
  ext_pblock,
} from "./extents.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";

/** An extent as a value: blocks. */
export interface ext4_extent_t {
  ee_block: number;
  ee_len: number;
  ee_pblk: number;
  unwritten: boolean;
}

export const get_extent = (v: DataView, i: number): ext4_extent_t => ({
  ee_block: entry_block(v, i),
  ee_len: ext_actual_len(v, i),
  ee_pblk: ext_pblock(v, i),
  unwritten: ext_is_unwritten(v, i),
});

export function set_extent(v: DataView, i: number, e: ext4_extent_t): void {
  const o = entry_off(i);
  v.setUint32(o, e.ee_block, true);
  v.setUint16(o + 4, e.unwritten ? e.ee_len + EXT_INIT_MAX_LEN : e.ee_len, true);
  v.setUint16(o + 6, Math.floor(e.ee_pblk / 2 ** 32), true);
  v.setUint32(o + 8, e.ee_pblk >>> 0, true);
}
/** Length and state of extent `i`, start kept. */
export function set_ext_len(v: DataView, i: number, len: number, unwritten: boolean): void {
  v.setUint16(entry_off(i) + 4, unwritten ? len + EXT_INIT_MAX_LEN : len, true);
}
export function set_ext_unwritten(v: DataView, i: number, unwritten: boolean): void {
  set_ext_len(v, i, ext_actual_len(v, i), unwritten);
}
export function set_entry_block(v: DataView, i: number, block: number): void {
  v.setUint32(entry_off(i), block, true);
}
export function set_index(v: DataView, i: number, block: number, pblk: number): void {
  const o = entry_off(i);
  v.setUint32(o, block, true);
  v.setUint32(o + 4, pblk >>> 0, true);
  v.setUint16(o + 8, Math.floor(pblk / 2 ** 32), true);
  v.setUint16(o + 10, 0, true);
}

export function set_eh(v: DataView, entries: number, max: number, depth: number): void {
  v.setUint16(0, 0xf30a, true);
  v.setUint16(2, entries, true);
  v.setUint16(4, max, true);
  v.setUint16(6, depth, true);
  v.setUint32(8, 0, true);
}
export const set_eh_entries = (v: DataView, n: number): void => v.setUint16(2, n, true);
export const set_eh_max = (v: DataView, n: number): void => v.setUint16(4, n, true);
export const set_eh_depth = (v: DataView, n: number): void => v.setUint16(6, n, true);

const bytes_of = (v: DataView): Uint8Array => new Uint8Array(v.buffer, v.byteOffset, v.byteLength);

/** Makes room for one entry at `i` (its bytes are whatever was there). */
export function open_gap(v: DataView, i: number): void {
  const n = eh_entries(v);
  bytes_of(v).copyWithin(entry_off(i + 1), entry_off(i), entry_off(n));
  set_eh_entries(v, n + 1);
}
/** Takes entry `i` out; the freed place at the end is zeroed. */
export function close_gap(v: DataView, i: number): void {
  const n = eh_entries(v);
  const b = bytes_of(v);
  b.copyWithin(entry_off(i), entry_off(i + 1), entry_off(n));
  b.fill(0, entry_off(n - 1), entry_off(n));
  set_eh_entries(v, n - 1);
}
/** Moves the entries from `from` on of one node behind the entries of another. */
export function move_entries(to: DataView, src: DataView, from: number): void {
  const n = eh_entries(src) - from;
  if (n <= 0) return;
  const at = eh_entries(to);
  bytes_of(to).set(bytes_of(src).subarray(entry_off(from), entry_off(from + n)), entry_off(at));
  set_eh_entries(to, at + n);
  set_eh_entries(src, from);
}

export const leaf_of = (path: readonly ext4_ext_path[]): ext4_ext_path => path[path.length - 1]!;

/**
 * The extent that Linux calls p_ext: the one at or before the block, else the first; -1 in an empty
 * leaf.
 */
export function near_ext(leaf: ext4_ext_path): number {
  if (leaf.p_ext >= 0) return leaf.p_ext;
  return eh_entries(leaf.p_view) > 0 ? 0 : -1;
}

export function ext4_ext_get_access(
  handle: handle_t,
  inode: inode,
  p: ext4_ext_path,
): Sometime<void> {
  if (p.p_bh) return ext4_journal_get_write_access(handle, inode.i_sb, p.p_bh);
}

/** The node was changed: checksum and dirty buffer, or the inode for the root. */
export function ext4_ext_dirty(handle: handle_t, inode: inode, p: ext4_ext_path): Sometime<void> {
  if (!p.p_bh) return ext4_mark_inode_dirty(handle, inode);
  if (ext4_has_metadata_csum(EXT4_SB(inode.i_sb).s_es)) {
    ext4_extent_block_csum_set(EXT4_I(inode).i_csum_seed, p.p_bh.b_data);
  }
  return ext4_handle_dirty_metadata(handle, inode, p.p_bh);
}

export function ext4_can_extents_be_merged(a: ext4_extent_t, b: ext4_extent_t): boolean {
  if (a.unwritten !== b.unwritten || a.ee_block + a.ee_len !== b.ee_block) return false;
  if (a.ee_pblk + a.ee_len !== b.ee_pblk) return false;
  return a.ee_len + b.ee_len <= (a.unwritten ? EXT_UNWRITTEN_MAX_LEN : EXT_INIT_MAX_LEN);
}

/**
 * Merges what follows extent `i` of a leaf into it as far as it goes. True: something was merged.
 */
export function ext4_ext_try_to_merge_right(v: DataView, i: number): boolean {
  let merged = false;
  while (i + 1 < eh_entries(v)) {
    const a = get_extent(v, i);
    const b = get_extent(v, i + 1);
    if (!ext4_can_extents_be_merged(a, b)) break;
    set_ext_len(v, i, a.ee_len + b.ee_len, a.unwritten);
    close_gap(v, i + 1);
    merged = true;
  }
  return merged;
}
