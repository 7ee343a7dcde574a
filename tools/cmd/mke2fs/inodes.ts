/**
 * tools/cmd/mke2fs/inodes.ts - inodes with their blocks: extents or indirect blocks, directories,
 * and the inodes every new filesystem has (bad blocks, root, lost+found, reserved descriptors).
 */

import {
  EXT4_BAD_INO,
  EXT4_EXTENTS_FL,
  EXT4_EXT_MAGIC,
  EXT4_EXTRA_ISIZE,
  EXT4_FEATURE_INCOMPAT_EXTENTS,
  EXT4_FEATURE_INCOMPAT_FILETYPE,
  EXT4_FEATURE_INCOMPAT_INLINE_DATA,
  EXT4_FT_DIR,
  EXT4_GOOD_OLD_INODE_SIZE,
  EXT4_RESIZE_INO,
  EXT4_ROOT_INO,
  EXT4_XATTR_MAGIC,
  EXT_INIT_MAX_LEN,
} from "../../../fs/ext4/ext4.ts";
import { ext4_dirblock_tail_set, ext4_extent_block_csum_set } from "../../../fs/ext4/csum.ts";
import { utf8_encode } from "../../../kernel/lib/utf8.ts";
import { type ext2_filsys, Mke2fsError } from "./filsys.ts";

export const S_IFREG = 0o100000;
export const S_IFDIR = 0o040000;

export interface extent {
  lblk: number;
  pblk: number;
  len: number;
}

const view_of = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);

/** Where to look for blocks of an inode that has none yet: the start of its (flex) group. */
export function find_inode_goal(fs: ext2_filsys, ino: number): number {
  const group = fs.group_of_ino(ino);
  return fs.group_first_block(group - (group % 2 ** fs.es.s_log_groups_per_flex));
}

/** i_blocks counts 512-byte sectors of whole clusters. */
function set_i_blocks(fs: ext2_filsys, ino: number, blocks: number): void {
  const sectors = blocks * fs.cluster_ratio * (fs.blocksize / 512);
  const raw = fs.inode(ino);
  raw.i_blocks_lo = sectors % 2 ** 32;
  raw.i_blocks_high = Math.floor(sectors / 2 ** 32);
}

/** Fills in what all new inodes have; the caller sets size, blocks and checksum. */
export function init_inode(fs: ext2_filsys, ino: number, mode: number, links: number): void {
  const raw = fs.inode(ino);
  raw.i_mode = mode;
  raw.i_links_count = links;
  const now = fs.now % 2 ** 32;
  raw.i_atime = raw.i_ctime = raw.i_mtime = now;
  if (fs.es.s_inode_size > EXT4_GOOD_OLD_INODE_SIZE) {
    raw.i_extra_isize = EXT4_EXTRA_ISIZE;
    raw.i_crtime = now;
  }
}

export function set_size(fs: ext2_filsys, ino: number, bytes: number): void {
  const raw = fs.inode(ino);
  raw.i_size_lo = bytes % 2 ** 32;
  raw.i_size_high = Math.floor(bytes / 2 ** 32);
}

// --- block maps -------------------------------------------------------------------------------

function put_extent_header(b: Uint8Array, entries: number, max: number, depth: number): void {
  const v = view_of(b);
  v.setUint16(0, EXT4_EXT_MAGIC, true);
  v.setUint16(2, entries, true);
  v.setUint16(4, max, true);
  v.setUint16(6, depth, true);
}

function put_extents(b: Uint8Array, extents: readonly extent[]): void {
  const v = view_of(b);
  extents.forEach((e, i) => {
    v.setUint32(12 + 12 * i, e.lblk, true);
    v.setUint16(16 + 12 * i, e.len, true);
    v.setUint16(18 + 12 * i, Math.floor(e.pblk / 2 ** 32), true);
    v.setUint32(20 + 12 * i, e.pblk % 2 ** 32, true);
  });
}

/** What the inode itself holds; one more extent and the tree needs a block. */
const ROOT_EXTENTS = 4;

/**
 * Writes the extent tree; `first_leaf` is the block for its first leaf, when there is one. Returns
 * how many blocks the tree itself took.
 */
function write_extent_tree(
  fs: ext2_filsys,
  ino: number,
  extents: readonly extent[],
  first_leaf = 0,
): number {
  const root = fs.i_block(ino);
  root.fill(0);
  fs.inode(ino).i_flags |= EXT4_EXTENTS_FL;
  if (extents.length <= ROOT_EXTENTS) {
    put_extent_header(root, extents.length, 4, 0);
    put_extents(root, extents);
    return 0;
  }
  const per_leaf = Math.floor((fs.blocksize - 12) / 12);
  const leaves = Math.ceil(extents.length / per_leaf);
  if (leaves > ROOT_EXTENTS) throw new Error("an extent tree of more than two levels");
  // the root was full before it was split, and nobody clears the entries behind the used ones
  put_extents(root, extents.slice(0, 4));
  root.fill(0, 12, 24);
  put_extent_header(root, leaves, 4, 1);
  const v = view_of(root);
  const last = extents[extents.length - 1]!;
  for (let i = 0; i < leaves; i++) {
    const part = extents.slice(i * per_leaf, (i + 1) * per_leaf);
    const blk = i === 0 && first_leaf ? first_leaf : fs.new_block(last.pblk);
    const leaf = fs.block(blk);
    put_extent_header(leaf, part.length, per_leaf, 0);
    put_extents(leaf, part);
    if (fs.has_csum) ext4_extent_block_csum_set(fs.inode_csum_seed(ino), leaf);
    v.setUint32(12 + 12 * i, part[0]!.lblk, true);
    v.setUint32(16 + 12 * i, blk % 2 ** 32, true);
    v.setUint16(20 + 12 * i, Math.floor(blk / 2 ** 32), true);
  }
  return leaves;
}

/**
 * Allocates `count` blocks from `goal` on, in runs as long as free space and the format allow, and
 * the tree's first block at the moment when the inode is full.
 */
function alloc_extents(
  fs: ext2_filsys,
  count: number,
  goal: number,
): { extents: extent[]; leaf: number } {
  const out: extent[] = [];
  let leaf = 0;
  let from = goal;
  for (let lblk = 0; lblk < count; ) {
    let pblk = fs.find_block(from, fs.blocks_count);
    if (pblk < 0) pblk = fs.find_block(fs.es.s_first_data_block, fs.blocks_count);
    if (pblk < 0) throw new Mke2fsError("there is no free block left");
    const end = Math.min(pblk + Math.min(count - lblk, EXT_INIT_MAX_LEN), fs.blocks_count);
    const used = fs.find_block(pblk, end, true);
    const len = (used < 0 ? end : used) - pblk;
    fs.alloc_range(pblk, len);
    out.push({ lblk, pblk, len });
    lblk += len;
    from = pblk + len;
    // it goes right in front of the first extent if that is free
    if (out.length === ROOT_EXTENTS + 1) leaf = fs.new_block(out[0]!.pblk - 1);
  }
  return { extents: out, leaf };
}

/**
 * Maps blocks 0.. through direct and indirect blocks, in the order in which they are first needed.
 */
class indirect_map {
  readonly fs: ext2_filsys;
  readonly ino: number;
  goal: number;
  /** Data and indirect blocks allocated. */
  used = 0;
  constructor(fs: ext2_filsys, ino: number, goal: number) {
    this.fs = fs;
    this.ino = ino;
    this.goal = goal;
  }
  private take(): number {
    const blk = this.fs.new_block(this.goal);
    this.goal = blk + 1;
    this.used++;
    return blk;
  }
  private slot(b: Uint8Array, index: number): number {
    const v = view_of(b);
    const at = index * 4;
    if (v.getUint32(at, true) === 0) v.setUint32(at, this.take(), true);
    return v.getUint32(at, true);
  }
  map(lblk: number): number {
    const per = this.fs.blocksize / 4;
    const root = this.fs.i_block(this.ino);
    if (lblk < 12) return this.slot(root, lblk);
    let rest = lblk - 12;
    let span = per;
    let depth = 1;
    while (rest >= span) {
      rest -= span;
      span *= per;
      depth++;
    }
    let blk = this.slot(root, 11 + depth);
    for (; depth > 0; depth--) {
      span /= per;
      blk = this.slot(this.fs.block(blk), Math.floor(rest / span));
      rest %= span;
    }
    return blk;
  }
}

/**
 * Gives an inode `count` blocks, by extents or block map as the filesystem has it; sets i_blocks,
 * and i_size unless the caller does. Returns where they are. The blocks themselves are not touched.
 */
export function alloc_file(fs: ext2_filsys, ino: number, count: number, goal: number): extent[] {
  if (fs.has("incompat", EXT4_FEATURE_INCOMPAT_EXTENTS)) {
    const { extents, leaf } = alloc_extents(fs, count, goal);
    const tree = write_extent_tree(fs, ino, extents, leaf);
    set_i_blocks(fs, ino, Math.ceil(count / fs.cluster_ratio) + tree);
    set_size(fs, ino, count * fs.blocksize);
    return extents;
  }
  const map = new indirect_map(fs, ino, goal);
  const out: extent[] = [];
  for (let lblk = 0; lblk < count; lblk++) {
    const pblk = map.map(lblk);
    const last = out[out.length - 1];
    if (last && last.pblk + last.len === pblk) last.len++;
    else out.push({ lblk, pblk, len: 1 });
  }
  set_i_blocks(fs, ino, map.used);
  set_size(fs, ino, count * fs.blocksize);
  return out;
}

/**
 * As alloc_file() for a file of few blocks that are first written in another order than they are
 * mapped: `order` lists the logical blocks. With a block map all have to be direct ones.
 */
export function alloc_file_in_order(
  fs: ext2_filsys,
  ino: number,
  order: readonly number[],
): extent[] {
  const first = fs.es.s_first_data_block;
  const placed: extent[] = [];
  for (const lblk of order) {
    const pblk = fs.new_block((placed.at(-1)?.pblk ?? first - 1) + 1);
    placed.push({ lblk, pblk, len: 1 });
  }
  placed.sort((a, b) => a.lblk - b.lblk);
  const out: extent[] = [];
  for (const e of placed) {
    const last = out.at(-1);
    if (last && last.lblk + last.len === e.lblk && last.pblk + last.len === e.pblk) last.len++;
    else out.push({ ...e });
  }
  if (fs.has("incompat", EXT4_FEATURE_INCOMPAT_EXTENTS)) write_extent_tree(fs, ino, out);
  else {
    const v = view_of(fs.i_block(ino));
    for (const e of placed) v.setUint32(e.lblk * 4, e.pblk, true);
  }
  set_i_blocks(fs, ino, order.length);
  set_size(fs, ino, order.length * fs.blocksize);
  return out;
}

/** Block number of a file's logical block. */
export function map_extents(extents: readonly extent[], lblk: number): number {
  const e = extents.find((x) => lblk >= x.lblk && lblk < x.lblk + x.len);
  if (!e) throw new Error(`block ${lblk} is not mapped`);
  return e.pblk + lblk - e.lblk;
}

// --- directories ------------------------------------------------------------------------------

interface dirent {
  ino: number;
  name: string;
}

/** One directory block; the last entry fills it, or (if `spare`, or without any) an unused one. */
function put_dir_block(
  fs: ext2_filsys,
  dir: number,
  blk: number,
  entries: readonly dirent[],
  spare = false,
): void {
  const b = fs.block(blk);
  const v = view_of(b);
  const end = fs.blocksize - (fs.has_csum ? 12 : 0);
  const type = fs.has("incompat", EXT4_FEATURE_INCOMPAT_FILETYPE) ? EXT4_FT_DIR : 0;
  const put_len = (at: number, len: number) => v.setUint16(at + 4, Math.min(len, 65535), true);
  let at = 0;
  entries.forEach((e, i) => {
    const name = utf8_encode(e.name);
    const last = i === entries.length - 1 && !spare;
    const len = last ? end - at : (8 + name.length + 3) & ~3;
    v.setUint32(at, e.ino, true);
    put_len(at, len);
    b[at + 6] = name.length;
    b[at + 7] = type;
    b.set(name, at + 8);
    at += len;
  });
  if (at < end) put_len(at, end - at);
  if (fs.has_csum) ext4_dirblock_tail_set(fs.inode_csum_seed(dir), b);
}

export function create_root_dir(fs: ext2_filsys, owner: readonly [number, number]): void {
  const ino = EXT4_ROOT_INO;
  fs.alloc_inode(ino, true);
  init_inode(fs, ino, S_IFDIR | 0o755, 3);
  alloc_file(fs, ino, 1, find_inode_goal(fs, ino));
  const raw = fs.inode(ino);
  raw.i_uid = owner[0] & 0xffff;
  raw.i_uid_high = owner[0] >>> 16;
  raw.i_gid = owner[1] & 0xffff;
  raw.i_gid_high = owner[1] >>> 16;
}

/** How often lost+found is enlarged: to 16 KiB, to at least two and at most twelve blocks. */
function lost_and_found_expansions(fs: ext2_filsys): number {
  let times = 0;
  for (let i = 1; i < 12; i++) {
    if (i * fs.blocksize >= 16 * 1024 && i >= 2) break;
    times++;
  }
  return times;
}

/** lost+found, and the root's one block, which names it. */
export function create_lost_and_found(fs: ext2_filsys): void {
  const ino = fs.new_inode();
  fs.alloc_inode(ino, true);
  init_inode(fs, ino, S_IFDIR | 0o700, 2);
  // an inline directory has no block until it is enlarged for the first time
  const inline = fs.has("incompat", EXT4_FEATURE_INCOMPAT_INLINE_DATA);
  const blocks = lost_and_found_expansions(fs) + (inline ? 0 : 1);
  const goal = inline ? fs.es.s_first_data_block : find_inode_goal(fs, ino);
  const extents = alloc_file(fs, ino, blocks, goal);
  const own = [
    { ino, name: "." },
    { ino: EXT4_ROOT_INO, name: ".." },
  ];
  for (let lblk = 0; lblk < blocks; lblk++) {
    put_dir_block(fs, ino, map_extents(extents, lblk), lblk === 0 ? own : [], inline);
  }
  if (inline) {
    // what is left of the inline form: a list of attributes without any
    const raw = fs.inode(ino);
    raw._view.setUint32(
      raw._off + EXT4_GOOD_OLD_INODE_SIZE + EXT4_EXTRA_ISIZE,
      EXT4_XATTR_MAGIC,
      true,
    );
  }
  fs.inode_csum_set(ino);
  const root = root_block(fs);
  put_dir_block(fs, EXT4_ROOT_INO, root, [
    { ino: EXT4_ROOT_INO, name: "." },
    { ino: EXT4_ROOT_INO, name: ".." },
    { ino, name: "lost+found" },
  ]);
  fs.inode_csum_set(EXT4_ROOT_INO);
}

function root_block(fs: ext2_filsys): number {
  const v = view_of(fs.i_block(EXT4_ROOT_INO));
  const extents = fs.has("incompat", EXT4_FEATURE_INCOMPAT_EXTENTS);
  return extents ? v.getUint16(18, true) * 2 ** 32 + v.getUint32(20, true) : v.getUint32(0, true);
}

// --- reserved inodes --------------------------------------------------------------------------

/** All inodes below the first usable one exist, unused but with a right checksum. */
export function reserve_inodes(fs: ext2_filsys): void {
  for (let ino = EXT4_ROOT_INO + 1; ino < fs.es.s_first_ino; ino++) {
    fs.alloc_inode(ino);
    fs.inode_csum_set(ino);
  }
}

/** The (empty) list of bad blocks. */
export function create_bad_block_inode(fs: ext2_filsys): void {
  fs.alloc_inode(EXT4_BAD_INO);
  const raw = fs.inode(EXT4_BAD_INO);
  raw.i_atime = raw.i_ctime = raw.i_mtime = fs.now % 2 ** 32;
  fs.inode_csum_set(EXT4_BAD_INO);
}

/**
 * The resize inode owns the reserved descriptor blocks: its double-indirect block lists those of
 * the primary table, each of which serves as the indirect block that lists its copies in the backup
 * groups.
 */
export function create_resize_inode(fs: ext2_filsys): void {
  const { es } = fs;
  const ino = EXT4_RESIZE_INO;
  const per = fs.blocksize / 4;
  init_inode(fs, ino, S_IFREG | 0o600, 1);
  const bgd = fs.desc_blocks + es.s_reserved_gdt_blocks;
  const goal = es.s_first_data_block + 2 + bgd + fs.inode_blocks_per_group;
  const dind_blk = fs.new_block(goal);
  view_of(fs.i_block(ino)).setUint32(13 * 4, dind_blk, true);
  const dind = view_of(fs.block(dind_blk));
  const backups: number[] = [];
  for (let g = 1; g < fs.group_desc_count; g++) if (fs.bg_has_super(g)) backups.push(g);
  let blocks = 1;
  const first = fs.super_and_bgd_loc(0).desc_blk + fs.desc_blocks;
  for (let rsv = 0; rsv < es.s_reserved_gdt_blocks; rsv++) {
    const gdt_blk = first + rsv;
    dind.setUint32(((fs.desc_blocks + rsv) % per) * 4, gdt_blk, true);
    const ind = view_of(fs.block(gdt_blk));
    backups.forEach((g, i) => {
      ind.setUint32(i * 4, gdt_blk + g * es.s_blocks_per_group, true);
    });
    blocks += 1 + backups.length;
  }
  set_i_blocks(fs, ino, blocks);
  set_size(fs, ino, (per * per + per + 12) * fs.blocksize);
  fs.inode_csum_set(ino);
}
