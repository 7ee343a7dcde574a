/**
 * tools/cmd/e2fsck/xattr.ts - pass 1, extended attributes: in the inode, in a block (which several
 * inodes may share), and as inodes of their own.
 */

import {
  EXT4_EA_INODE_FL,
  EXT4_GOOD_OLD_INODE_SIZE,
  EXT4_XATTR_INDEX_SYSTEM,
  EXT4_XATTR_MAGIC,
  EXT4_XATTR_REFCOUNT_MAX,
  ext4_xattr_header,
} from "../../../fs/ext4/ext4.ts";
import { ext4_xattr_block_csum_verify } from "../../../fs/ext4/csum.ts";
import { bytes_to_name } from "../../../kernel/lib/utf8.ts";
import { type owner_map, view_of } from "./blocks.ts";
import type { ext4_image } from "./image.ts";

export interface xattr_state {
  readonly im: ext4_image;
  readonly owners: owner_map;
  /** Attribute blocks seen: how often, and by which inode first. */
  readonly blocks: Map<number, { refs: number; ino: number; ea_clusters: number }>;
  /** Inodes that are attribute values: how many attributes refer to them. */
  readonly ea_inodes: Map<number, number>;
}

/** Where inline data continues: the value of the attribute system.data. */
export interface inline_part {
  off: number;
  len: number;
}

/** e_hash of an entry whose value is in the same block. */
function entry_hash(
  b: Uint8Array,
  at: number,
  value: number,
  size: number,
  signed: boolean,
): number {
  let h = 0;
  for (let i = 0; i < b[at]!; i++) {
    const c = b[at + 16 + i]!;
    h = (h << 5) ^ (h >>> 27) ^ (signed ? (c << 24) >> 24 : c);
  }
  const v = view_of(b);
  for (let i = 0; i < Math.ceil(size / 4); i++) {
    h = (h << 16) ^ (h >>> 16) ^ v.getUint32(value + 4 * i, true);
  }
  return h >>> 0;
}

interface entry_list {
  /** The bytes that hold entries and values, and where entries begin. */
  bytes: Uint8Array;
  first: number;
  /** What e_value_offs counts from. */
  base: number;
  where: { ino: number; block?: number };
}

/** What a list of attributes adds to its inode. */
export interface attributes {
  /** The value of system.data, if it is among them. */
  inline: inline_part | undefined;
  /** Clusters of values in inodes of their own: they count as the user's. */
  ea_clusters: number;
}

const NONE: attributes = Object.freeze({ inline: undefined, ea_clusters: 0 });

function check_entries(st: xattr_state, list: entry_list): attributes {
  const { im } = st;
  const { bytes: b, base, where } = list;
  const v = view_of(b);
  const values: [number, number][] = [];
  const found: attributes = { inline: undefined, ea_clusters: 0 };
  const cluster_bytes = im.blocksize * im.cluster_ratio;
  let at = list.first;
  for (; at + 4 <= b.length && v.getUint32(at, true) !== 0; ) {
    const name_len = b[at]!;
    if (at + 16 + name_len > b.length) {
      im.problem("attribute entry beyond its space", where);
      return found;
    }
    const value = base + v.getUint16(at + 2, true);
    const inum = v.getUint32(at + 4, true);
    const size = v.getUint32(at + 8, true);
    const name = bytes_to_name(b, at + 16, name_len);
    if (inum !== 0) {
      st.ea_inodes.set(inum, (st.ea_inodes.get(inum) ?? 0) + 1);
      found.ea_clusters += Math.ceil(size / cluster_bytes);
    } else if (size > 0) {
      if (value + size > b.length) im.problem(`value of attribute ${name} is outside`, where);
      else {
        values.push([value, value + Math.ceil(size / 4) * 4]);
        check_hash(st, list, at, value, size, name);
      }
    }
    if (b[at + 1] === EXT4_XATTR_INDEX_SYSTEM && name === "data") {
      found.inline = { off: value, len: inum === 0 ? size : 0 };
    }
    at += 16 + ((name_len + 3) & ~3);
  }
  values.sort(([x], [y]) => x - y);
  values.forEach(([start], i) => {
    const before = i === 0 ? at + 4 : values[i - 1]![1];
    if (start < before && values[i]![1] !== start) im.problem("attribute values overlap", where);
  });
  return found;
}

function check_hash(
  st: xattr_state,
  { bytes: b, where }: entry_list,
  at: number,
  value: number,
  size: number,
  name: string,
): void {
  const stored = view_of(b).getUint32(at + 12, true);
  if (stored === 0 || Math.ceil(size / 4) * 4 + value > b.length) return;
  if (stored === entry_hash(b, at, value, size, false)) return;
  if (stored === entry_hash(b, at, value, size, true)) return;
  st.im.problem(`attribute ${name} has a wrong hash`, where);
}

/** Attributes between the extra fields and the end of the inode. */
export function check_ibody(st: xattr_state, ino: number, raw: Uint8Array): attributes {
  if (raw.length <= EXT4_GOOD_OLD_INODE_SIZE) return NONE;
  const extra = view_of(raw).getUint16(EXT4_GOOD_OLD_INODE_SIZE, true);
  const start = EXT4_GOOD_OLD_INODE_SIZE + extra;
  if (extra !== 0 && (extra < 4 || extra % 4 !== 0 || start > raw.length)) {
    st.im.problem(`i_extra_isize is ${extra}`, { ino });
    return NONE;
  }
  if (extra === 0 || start + 4 > raw.length) return NONE;
  if (view_of(raw).getUint32(start, true) !== EXT4_XATTR_MAGIC) return NONE;
  return check_entries(st, { bytes: raw, first: start + 4, base: start + 4, where: { ino } });
}

/**
 * The attribute block `blk` of `ino`; a block is examined once however many share it. Returns the
 * clusters it adds to the inode: itself and values in inodes of their own.
 */
export function check_xattr_block(st: xattr_state, ino: number, blk: number): number {
  const { im } = st;
  const seen = st.blocks.get(blk);
  if (seen) {
    seen.refs++;
    return 1 + seen.ea_clusters;
  }
  if (!st.owners.take(blk, ino, "attribute block")) return 0;
  const state = { refs: 1, ino, ea_clusters: 0 };
  st.blocks.set(blk, state);
  const where = { ino, block: blk };
  const b = im.block(blk);
  const h = ext4_xattr_header.at(b);
  if (h.h_magic !== EXT4_XATTR_MAGIC || h.h_blocks !== 1) {
    im.problem("attribute block without a valid header", where);
    return 1;
  }
  if (im.has_csum && !ext4_xattr_block_csum_verify(im.seed, blk, b)) {
    im.problem("attribute block with a wrong checksum", where);
  }
  state.ea_clusters = check_entries(st, { bytes: b, first: 32, base: 0, where }).ea_clusters;
  return 1 + state.ea_clusters;
}

/** After all inodes: do the reference counts of blocks and value inodes hold? */
export function check_xattr_references(st: xattr_state): void {
  const { im } = st;
  for (const [block, { refs, ino }] of st.blocks) {
    const h = ext4_xattr_header.at(im.block(block));
    if (h.h_magic !== EXT4_XATTR_MAGIC) continue;
    if (h.h_refcount !== refs || refs > EXT4_XATTR_REFCOUNT_MAX) {
      im.problem(`attribute block counts ${h.h_refcount} users, has ${refs}`, { ino, block });
    }
  }
  for (const [ino, refs] of st.ea_inodes) {
    if (!im.valid_ino(ino)) {
      im.problem(`an attribute value in inode ${ino}`, { ino });
      continue;
    }
    const raw = im.inode(ino);
    if ((raw.i_flags & EXT4_EA_INODE_FL) === 0 || raw.i_links_count === 0) {
      im.problem("an attribute's value is an inode that is none", { ino });
      continue;
    }
    // value inodes keep their reference count in the change time and the version
    const count = raw.i_ctime * 2 ** 32 + raw.i_disk_version;
    if (count !== refs) im.problem(`value inode counts ${count} users, has ${refs}`, { ino });
  }
}
