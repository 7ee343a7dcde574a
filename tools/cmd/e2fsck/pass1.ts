/**
 * tools/cmd/e2fsck/pass1.ts - every inode on its own: mode, size, flags, blocks, attributes,
 * checksum. What it finds out (types, who uses which block, which directories exist) is what the
 * later passes compare names and bitmaps with.
 */

import {
  EXT4_BAD_INO,
  EXT4_BG_INODE_UNINIT,
  EXT4_BOOT_LOADER_INO,
  EXT4_EA_INODE_FL,
  EXT4_ENCRYPT_FL,
  EXT4_EXTENTS_FL,
  EXT4_FEATURE_COMPAT_RESIZE_INODE,
  EXT4_FEATURE_INCOMPAT_EXTENTS,
  EXT4_FEATURE_INCOMPAT_INLINE_DATA,
  EXT4_FEATURE_RO_COMPAT_HUGE_FILE,
  EXT4_HUGE_FILE_FL,
  EXT4_INLINE_DATA_FL,
  EXT4_RESIZE_INO,
  EXT4_ROOT_INO,
  EXT_MAX_BLOCKS,
} from "../../../fs/ext4/ext4.ts";
import { ext4_inode_csum_seed, ext4_inode_csum_verify } from "../../../fs/ext4/csum.ts";
import { type block_map, map_walker, owner_map, type run, view_of } from "./blocks.ts";
import type { ext4_image, inode_view } from "./image.ts";
import {
  check_ibody,
  check_xattr_block,
  check_xattr_references,
  type inline_part,
  type xattr_state,
} from "./xattr.ts";

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
/**
 * Bit k set: k is a file type (character 2, directory 4, block 6, fifo 1, regular 8, link 10,
 * socket 12).
 */
const TYPES = (1 << 1) | (1 << 2) | (1 << 4) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 12);

/** What is known of an inode in use. */
export interface inode_info {
  readonly ino: number;
  readonly mode: number;
  readonly links: number;
  readonly flags: number;
  readonly inode_seed: number;
  /** Names found, by passes 2 and 3. */
  names: number;
}

export interface dir_info extends inode_info {
  readonly size: number;
  readonly map: block_map;
  readonly inline: boolean;
  readonly inline_rest: inline_part | undefined;
  /** The parent whose entry names it, and what its ".." says; 0 until found. */
  parent: number;
  dotdot: number;
}

export interface fsck_state extends xattr_state {
  readonly im: ext4_image;
  readonly owners: owner_map;
  readonly inodes: Map<number, inode_info>;
  readonly dirs: Map<number, dir_info>;
}

/** Superblocks, descriptors, bitmaps and inode tables. */
function take_group_metadata(im: ext4_image, owners: owner_map): void {
  const take = (blk: number, what: string, group: number) => {
    if (!im.valid_block(blk)) im.problem(`${what} would be block ${blk}`, { group });
    else if (owners.test(blk))
      im.problem(`${what} collides at block ${blk}`, { group, block: blk });
    else owners.set(blk);
  };
  for (let g = 0; g < im.group_count; g++) {
    const { first, count } = im.descriptors_in(g);
    const base = im.group_first(g);
    if (g === 0 && im.blocksize === 1024 && im.cluster_ratio > 1) {
      owners.set(0);
      owners.set(1);
    } else if (im.has_super(g)) take(base, "superblock", g);
    for (let i = 0; i < count; i++) take(first + i, "group descriptors", g);
  }
  for (let g = 0; g < im.group_count; g++) {
    take(im.location(g, "bg_block_bitmap"), "block bitmap", g);
    take(im.location(g, "bg_inode_bitmap"), "inode bitmap", g);
    const table = im.location(g, "bg_inode_table");
    for (let i = 0; i < im.inode_blocks; i++) take(table + i, "inode table", g);
  }
  if (im.cluster_ratio === 1) return;
  for (let c = 0; c < im.blocks_count; c += im.cluster_ratio) {
    for (let i = 0; i < im.cluster_ratio; i++) {
      if (!owners.test(c + i)) continue;
      for (let k = 0; k < im.cluster_ratio && c + k < im.blocks_count; k++) owners.set(c + k);
      break;
    }
  }
}

/** The inode that owns the reserved descriptor blocks has its own layout. */
function check_resize_inode(
  im: ext4_image,
  owners: owner_map,
  raw: inode_view,
  i_block: Uint8Array,
) {
  const ino = EXT4_RESIZE_INO;
  const v = view_of(i_block);
  const dind_blk = v.getUint32(13 * 4, true);
  if (!owners.take(dind_blk, ino, "double-indirect block")) return;
  const per = im.blocksize / 4;
  const dind = view_of(im.block(dind_blk));
  const first = im.descriptors_in(0).first + im.desc_blocks;
  const backups: number[] = [];
  for (let g = 1; g < im.group_count; g++) if (im.has_super(g)) backups.push(g);
  for (let i = 0; i < im.es.s_reserved_gdt_blocks; i++) {
    const blk = dind.getUint32(((im.desc_blocks + i) % per) * 4, true);
    if (blk !== first + i) {
      im.problem(`reserved descriptor block ${first + i} is listed as ${blk}`, { ino });
      return;
    }
    const ind = view_of(im.block(blk));
    backups.forEach((g, k) => {
      if (ind.getUint32(k * 4, true) !== blk + g * im.es.s_blocks_per_group) {
        im.problem(`a copy of reserved descriptor block ${blk} is wrong`, { ino, group: g });
      }
    });
  }
  const blocks = 1 + im.es.s_reserved_gdt_blocks * (1 + backups.length);
  check_i_blocks(im, ino, raw, blocks);
}

/** `clusters`: what the inode really has, counted in clusters. */
function check_i_blocks(im: ext4_image, ino: number, raw: inode_view, clusters: number): void {
  const huge = im.has("ro_compat", EXT4_FEATURE_RO_COMPAT_HUGE_FILE);
  if (!huge && raw.i_blocks_high !== 0) im.problem("i_blocks_high without huge_file", { ino });
  let sectors = raw.i_blocks_lo + (huge ? raw.i_blocks_high * 2 ** 32 : 0);
  if (huge && raw.i_flags & EXT4_HUGE_FILE_FL) sectors *= im.blocksize / 512;
  const have = clusters * im.cluster_ratio * (im.blocksize / 512);
  if (sectors !== have) im.problem(`i_blocks is ${sectors}, should be ${have}`, { ino });
}

function check_size(im: ext4_image, ino: number, raw: inode_view, map: block_map): void {
  const size = raw.i_size_high * 2 ** 32 + raw.i_size_lo;
  const end = map.runs.reduce((e, r) => (r.unwritten ? e : Math.max(e, r.lblk + r.len)), 0);
  const type = raw.i_mode & S_IFMT;
  if (type === S_IFDIR) {
    if (size !== end * im.blocksize || size === 0) {
      im.problem(`directory of ${size} bytes with ${end} blocks`, { ino });
    }
    return;
  }
  const limit = 2 ** 32 * im.blocksize;
  if (size >= limit) im.problem(`size is ${size}, the largest possible ${limit - 1}`, { ino });
  // blocks behind the end may be preallocated; written ones there would come back on extension
  const ratio = im.cluster_ratio;
  const last = Math.ceil(Math.ceil(size / im.blocksize) / ratio) * ratio;
  if (type === S_IFREG && end > last) {
    im.problem(`size is ${size}, but block ${end - 1} is written`, { ino });
  }
}

function check_symlink(im: ext4_image, ino: number, raw: inode_view, map: block_map): void {
  if (raw.i_flags & EXT4_ENCRYPT_FL) return;
  const size = raw.i_size_high * 2 ** 32 + raw.i_size_lo;
  if (map.runs.length === 0) {
    const i_block = raw.i_block;
    const nul = i_block.indexOf(0);
    if (size === 0 || size >= 60 || nul !== size) {
      im.problem(`symbolic link of ${size} bytes, its text has ${nul}`, { ino });
    }
  } else {
    const [only] = map.runs as [run];
    if (map.runs.length > 1 || only.lblk !== 0 || only.len !== 1) {
      im.problem("symbolic link of several blocks", { ino });
    }
    const text = im.block(only.pblk);
    const nul = text.indexOf(0);
    if (size === 0 || size >= im.blocksize || nul !== size) {
      im.problem(`symbolic link of ${size} bytes, its text has ${nul}`, { ino });
    }
  }
}

function check_inline(
  im: ext4_image,
  ino: number,
  raw: inode_view,
  rest: inline_part | undefined,
): void {
  if (!im.has("incompat", EXT4_FEATURE_INCOMPAT_INLINE_DATA)) {
    im.problem("inline data without the feature", { ino });
  }
  if (raw.i_flags & EXT4_EXTENTS_FL) im.problem("inline data and extents at once", { ino });
  const size = raw.i_size_high * 2 ** 32 + raw.i_size_lo;
  const room = 60 + (rest?.len ?? 0);
  if (size > room) im.problem(`inline data of ${size} bytes in ${room}`, { ino });
  if ((raw.i_mode & S_IFMT) === S_IFDIR && size !== room) {
    im.problem(`inline directory of ${size} bytes in ${room}`, { ino });
  }
  if (rest === undefined) im.problem("inline data without its attribute", { ino });
}

const has_blocks = (mode: number) => [S_IFREG, S_IFDIR, S_IFLNK].includes(mode & S_IFMT);

function walk_blocks(st: fsck_state, ino: number, raw: inode_view, inode_seed: number): block_map {
  const walker = new map_walker(st.im, st.owners, ino, inode_seed);
  const i_block = raw.i_block;
  if (raw.i_flags & EXT4_EXTENTS_FL) {
    if (!st.im.has("incompat", EXT4_FEATURE_INCOMPAT_EXTENTS)) {
      st.im.problem("extents without the feature", { ino });
    }
    walker.extent_node(i_block, undefined, EXT_MAX_BLOCKS + 1);
  } else walker.indirect_map(i_block);
  return walker.map;
}

/** Is the inode in use, as far as it says itself? Reserved ones are, when they have a mode. */
function in_use(im: ext4_image, ino: number, raw: inode_view): boolean {
  if (ino < im.first_ino && ino !== EXT4_ROOT_INO) return raw.i_mode !== 0;
  return raw.i_links_count !== 0;
}

function check_inode(st: fsck_state, ino: number): void {
  const { im } = st;
  const bytes = im.inode_bytes(ino);
  const raw = im.inode(ino);
  const used = in_use(im, ino, raw);
  const inode_seed = ext4_inode_csum_seed(im.seed, ino, raw.i_generation);
  if (im.has_csum && (used || raw.i_mode !== 0)) {
    if (!ext4_inode_csum_verify(inode_seed, bytes, 0, im.es.s_inode_size)) {
      im.problem("inode with a wrong checksum", { ino });
    }
  }
  if (!used) {
    if (raw.i_mode !== 0 && raw.i_dtime === 0 && ino >= im.first_ino) {
      im.problem("deleted inode without a time of deletion", { ino });
    }
    return;
  }
  if (raw.i_obso_faddr !== 0) im.problem("i_obso_faddr is not zero", { ino });
  if (raw.i_dtime !== 0) im.problem("inode in use with a time of deletion", { ino });
  if (!(TYPES & (1 << (raw.i_mode >>> 12))) && ino !== EXT4_BOOT_LOADER_INO) {
    im.problem(`mode 0${raw.i_mode.toString(8)} is no file type`, { ino });
    return;
  }
  register(st, ino, raw, bytes, inode_seed);
}

function register(
  st: fsck_state,
  ino: number,
  raw: inode_view,
  bytes: Uint8Array,
  inode_seed: number,
): void {
  const { im } = st;
  const inline = (raw.i_flags & EXT4_INLINE_DATA_FL) !== 0;
  const mode = raw.i_mode;
  const info = { ino, mode, links: raw.i_links_count, flags: raw.i_flags, inode_seed, names: 0 };
  const { inline: inline_rest, ea_clusters } = check_ibody(st, ino, bytes);
  if (ino === EXT4_RESIZE_INO && im.has("compat", EXT4_FEATURE_COMPAT_RESIZE_INODE)) {
    st.inodes.set(ino, info);
    check_resize_inode(im, st.owners, raw, raw.i_block);
    return;
  }
  let map: block_map = { runs: [], meta: 0, clusters: 0 };
  const fast_link =
    (mode & S_IFMT) === S_IFLNK && !(raw.i_flags & EXT4_EXTENTS_FL) && raw.i_size_lo < 60;
  if (inline) check_inline(im, ino, raw, inline_rest);
  else if (has_blocks(mode) && !fast_link) map = walk_blocks(st, ino, raw, inode_seed);
  let clusters = map.clusters + map.meta + ea_clusters;
  const acl = raw.i_file_acl_lo + raw.i_file_acl_high * 2 ** 32;
  if (acl !== 0) clusters += check_xattr_block(st, ino, acl);
  check_i_blocks(im, ino, raw, clusters);
  if (!inline) check_size(im, ino, raw, map);
  if ((mode & S_IFMT) === S_IFLNK && !inline) check_symlink(im, ino, raw, map);
  const size = raw.i_size_high * 2 ** 32 + raw.i_size_lo;
  if ((mode & S_IFMT) === S_IFDIR) {
    const dir = { ...info, size, map, inline, inline_rest, parent: 0, dotdot: 0 };
    st.inodes.set(ino, dir);
    st.dirs.set(ino, dir);
  } else st.inodes.set(ino, info);
}

/** Inodes of attribute values are named by attributes only. */
export const is_ea_inode = (info: inode_info): boolean => (info.flags & EXT4_EA_INODE_FL) !== 0;

export function pass1(im: ext4_image): fsck_state {
  im.pass = 1;
  const owners = new owner_map(im);
  const st: fsck_state = {
    im,
    owners,
    blocks: new Map(),
    ea_inodes: new Map(),
    inodes: new Map(),
    dirs: new Map(),
  };
  take_group_metadata(im, owners);
  const ipg = im.es.s_inodes_per_group;
  for (let g = 0; g < im.group_count; g++) {
    const gdp = im.desc(g);
    if (im.has_group_csum && gdp.bg_flags & EXT4_BG_INODE_UNINIT) continue;
    const wide = im.desc_size > 32 ? gdp.bg_itable_unused_hi * 65536 : 0;
    const unused = im.has_group_csum ? gdp.bg_itable_unused_lo + wide : 0;
    if (unused > ipg) im.problem(`${unused} unused inodes of ${ipg}`, { group: g });
    for (let i = 0; i < ipg - unused; i++) {
      const ino = g * ipg + i + 1;
      if (ino === EXT4_BAD_INO) continue;
      check_inode(st, ino);
    }
  }
  const root = st.inodes.get(EXT4_ROOT_INO);
  if (!root || (root.mode & S_IFMT) !== S_IFDIR) im.abort("the root is not a directory");
  check_xattr_references(st);
  return st;
}
