/**
 * fs/ext4/xattr_list.ts - a list of attributes taken apart, changed, and put together again. Linux:
 * ext4_xattr_set_entry() in fs/ext4/xattr.c, which moves the bytes instead; the result is the same.
 *
 * Entries stand at the front in their order, values at the back without gaps, the one set last in
 * front. In a block entries are sorted and hashed; in an inode they stand as they came and have no
 * hash.
 */
import type { inode } from "../../kernel/include/fs.ts";
import {
  EXT4_XATTR_LEN,
  EXT4_XATTR_SIZE,
  ext4_xattr_hash_entry,
  type xattr_area,
  xattr_entries,
} from "./xattr.ts";
import { EXT4_FEATURE_INCOMPAT_EA_INODE } from "./ext4.ts";
import { has_incompat } from "./ext4_fs.ts";

/** One attribute. */
export interface xattr_item {
  index: number;
  name: Uint8Array;
  /** Null: in the inode `inum`. */
  value: Uint8Array | null;
  inum: number;
  size: number;
  hash: number;
  /** Where the value stood: what is higher goes further back. A new value goes in front of all. */
  order: number;
}

/** What is to be set: value null removes. */
export interface xattr_info {
  index: number;
  name: Uint8Array;
  value: Uint8Array | null;
  /** The value goes to an inode of its own. */
  in_inode: boolean;
}

export function decode_xattrs(a: xattr_area): xattr_item[] {
  const out: xattr_item[] = [];
  for (const e of xattr_entries(a)) {
    const at = a.value_base + e.value_offs;
    const value = e.value_inum ? null : a.bytes.slice(at, at + e.value_size);
    out.push({
      index: e.name_index,
      name: e.name.slice(),
      value,
      inum: e.value_inum,
      size: e.value_size,
      hash: e.hash,
      order: e.value_offs,
    });
  }
  return out;
}

/** The order of entries in a block. */
function compare(a: { index: number; name: Uint8Array }, b: xattr_item): number {
  if (a.index !== b.index) return a.index - b.index;
  if (a.name.length !== b.name.length) return a.name.length - b.name.length;
  for (let i = 0; i < a.name.length; i++) {
    if (a.name[i] !== b.name[i]) return a.name[i]! - b.name[i]!;
  }
  return 0;
}
export const find_xattr = (items: readonly xattr_item[], i: xattr_info): number =>
  items.findIndex((e) => compare(i, e) === 0);

/** Bytes at the back that a value takes. */
const value_room = (e: xattr_item): number => (e.value ? EXT4_XATTR_SIZE(e.value.length) : 0);

function entry_hash(i: xattr_info, value_hash: number | null, is_block: boolean): number {
  // names are hashed as signed characters: kernels before 6.2 on x86
  if (value_hash !== null) return ext4_xattr_hash_entry(i.name, [value_hash], true);
  if (!is_block) return 0;
  const value = i.value!;
  const words: number[] = [];
  for (let at = 0; at < value.length; at += 4) {
    let w = 0;
    for (let k = 0; k < 4; k++) w |= (value[at + k] ?? 0) << (8 * k);
    words.push(w);
  }
  return ext4_xattr_hash_entry(i.name, words, true);
}

/**
 * The list with the change made, or null when it does not fit into `room` bytes (entries,
 * terminator and values). `ea`: number of the inode with the value, and the value's hash.
 */
export function change_xattrs(
  inode: inode,
  items: readonly xattr_item[],
  i: xattr_info,
  ea: { ino: number; hash: number } | null,
  room: number,
  is_block: boolean,
): xattr_item[] | null {
  const at = find_xattr(items, i);
  const old = at >= 0 ? items[at]! : null;
  if (i.value === null) return items.filter((_, n) => n !== at);
  const item: xattr_item = {
    index: i.index,
    name: i.name,
    value: ea ? null : i.value,
    inum: ea ? ea.ino : 0,
    size: i.value.length,
    hash: entry_hash(i, ea ? ea.hash : null, is_block),
    order: -1,
  };
  const same_room = value_room(item) > 0 && old !== null && value_room(old) === value_room(item);
  if (same_room) item.order = old.order;
  const next = items.slice();
  if (at >= 0) next[at] = item;
  else {
    const behind = is_block ? items.findIndex((e) => compare(item, e) < 0) : -1;
    next.splice(behind < 0 ? items.length : behind, 0, item);
  }
  if (same_room) return next;
  let used = 4;
  let values = 0;
  for (const e of next) {
    used += EXT4_XATTR_LEN(e.name.length);
    values += value_room(e);
  }
  if (used + values > room) return null;
  if (is_block && value_room(item) > 0 && crowds_entries(inode, values)) return null;
  return next;
}

/** When values may go elsewhere, some room in a block is kept for entries. */
function crowds_entries(inode: inode, values: number): boolean {
  if (!has_incompat(inode.i_sb, EXT4_FEATURE_INCOMPAT_EA_INODE)) return false;
  const bs = inode.i_sb.s_blocksize;
  return bs - values < Math.min(bs / 8, 1024);
}

/** Writes the list into the area, all of it. */
export function encode_xattrs(a: xattr_area, items: readonly xattr_item[]): void {
  const { bytes } = a;
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  bytes.fill(0, a.first, a.end);
  const place = new Map<xattr_item, number>();
  let back = a.end;
  for (const e of items.slice().sort((x, y) => y.order - x.order)) {
    const room = value_room(e);
    if (room === 0) continue;
    back -= room;
    place.set(e, back);
    bytes.set(e.value!, back);
  }
  let at = a.first;
  for (const e of items) {
    bytes[at] = e.name.length;
    bytes[at + 1] = e.index;
    const value = place.get(e);
    v.setUint16(at + 2, value === undefined ? 0 : value - a.value_base, true);
    v.setUint32(at + 4, e.inum, true);
    v.setUint32(at + 8, e.size, true);
    v.setUint32(at + 12, e.hash, true);
    bytes.set(e.name, at + 16);
    at += EXT4_XATTR_LEN(e.name.length);
  }
}

/**
 * The hash of a block's attributes: 0 when one of them has none, which means it is never shared.
 */
export function block_hash(items: readonly xattr_item[]): number {
  let hash = 0;
  for (const e of items) {
    if (e.hash === 0) return 0;
    hash = (hash << 16) ^ (hash >>> 16) ^ e.hash;
  }
  return hash >>> 0;
}

/** Do two blocks hold the same attributes? */
export function same_xattrs(a: readonly xattr_item[], b: readonly xattr_item[]): boolean {
  if (a.length !== b.length) return false;
  return a.every((x, n) => {
    const y = b[n]!;
    if (x.hash !== y.hash || x.size !== y.size || x.inum !== y.inum) return false;
    if (compare(x, y) !== 0) return false;
    return x.value === null || x.value.every((c, k) => c === y.value![k]);
  });
}
