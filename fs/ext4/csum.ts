/**
 * fs/ext4/csum.ts - every metadata checksum of ext4.
 * Linux: spread over super.c, bitmap.c, inode.c, extents.c, namei.c, xattr.c, orphan.c, mmp.c,
 * balloc.c.
 *
 * With metadata_csum all are CRC-32C, without inversion at the end, seeded with ext4_csum_seed()
 * (from the uuid, or s_checksum_seed) and with what ties a block to its place: group number, inode
 * number and generation, block number. Functions return the value that belongs in the field; the
 * bytes of the field itself count as zero or are left out, as each format demands. `_set` functions
 * store it, `_verify` functions compare. Offsets and lengths are bytes. With gdt_csum (uninit_bg)
 * only group descriptors are covered, by a CRC-16.
 */

import { crc16 } from "../../kernel/lib/crc16.ts";
import { crc32c, crc32c_le32, crc32c_zeros } from "../../kernel/lib/crc32c.ts";
import type { struct_of } from "../../kernel/lib/struct.ts";
import {
  DX_NODE_OFFSET,
  DX_ROOT_INFO_OFFSET,
  EXT4_FEATURE_INCOMPAT_CSUM_SEED,
  EXT4_FEATURE_RO_COMPAT_GDT_CSUM,
  EXT4_FEATURE_RO_COMPAT_METADATA_CSUM,
  EXT4_FT_DIR_CSUM,
  EXT4_GOOD_OLD_INODE_SIZE,
  ext4_extent_header,
  ext4_group_desc,
  ext4_inode,
  type ext4_super_block,
} from "./ext4.ts";

type super_block_view = struct_of<typeof ext4_super_block>;

const at_le16 = (b: Uint8Array, off: number) => b[off]! | (b[off + 1]! << 8);
const at_le32 = (b: Uint8Array, off: number) =>
  (b[off]! | (b[off + 1]! << 8) | (b[off + 2]! << 16) | (b[off + 3]! << 24)) >>> 0;
function put_le16(b: Uint8Array, off: number, x: number): void {
  b[off] = x;
  b[off + 1] = x >>> 8;
}
function put_le32(b: Uint8Array, off: number, x: number): void {
  put_le16(b, off, x);
  put_le16(b, off + 2, x >>> 16);
}

export const ext4_has_metadata_csum = (es: super_block_view): boolean =>
  (es.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) !== 0;

/** Do group descriptors carry a checksum (of either kind), and so the UNINIT flags? */
export const ext4_has_group_desc_csum = (es: super_block_view): boolean =>
  (es.s_feature_ro_compat &
    (EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_GDT_CSUM)) !==
  0;

/** The seed of the whole filesystem: sbi->s_csum_seed. */
export function ext4_csum_seed(es: super_block_view): number {
  if (es.s_feature_incompat & EXT4_FEATURE_INCOMPAT_CSUM_SEED) return es.s_checksum_seed;
  return crc32c(~0, es.s_uuid);
}

// --- superblock -------------------------------------------------------------------------------

const SB_CHECKSUM_OFFSET = 0x3fc;

/** Of the 1024 bytes of a superblock at `off`; needs no seed, because the uuid is inside. */
export function ext4_superblock_csum(b: Uint8Array, off = 0): number {
  return crc32c(~0, b, off, SB_CHECKSUM_OFFSET);
}
export function ext4_superblock_csum_set(b: Uint8Array, off = 0): void {
  put_le32(b, off + SB_CHECKSUM_OFFSET, ext4_superblock_csum(b, off));
}
export const ext4_superblock_csum_verify = (b: Uint8Array, off = 0): boolean =>
  at_le32(b, off + SB_CHECKSUM_OFFSET) === ext4_superblock_csum(b, off);

// --- group descriptors and bitmaps ------------------------------------------------------------

const BG_CHECKSUM_OFFSET = ext4_group_desc.offsetof("bg_checksum");

/** Of the `desc_size` bytes of descriptor `group` at `off`; 0 when the filesystem has none. */
export function ext4_group_desc_csum(
  es: super_block_view,
  seed: number,
  group: number,
  b: Uint8Array,
  off: number,
  desc_size: number,
): number {
  const behind = BG_CHECKSUM_OFFSET + 2;
  if (ext4_has_metadata_csum(es)) {
    let c = crc32c_le32(seed, group);
    c = crc32c(c, b, off, BG_CHECKSUM_OFFSET);
    c = crc32c_zeros(c, 2);
    return crc32c(c, b, off + behind, desc_size - behind) & 0xffff;
  }
  if (!(es.s_feature_ro_compat & EXT4_FEATURE_RO_COMPAT_GDT_CSUM)) return 0;
  let c = crc16(0xffff, es.s_uuid);
  c = crc16(c, Uint8Array.of(group, group >>> 8, group >>> 16, group >>> 24));
  c = crc16(c, b, off, BG_CHECKSUM_OFFSET);
  // the old checksum covers what is behind the field only with the 64bit feature
  return desc_size > 32 ? crc16(c, b, off + behind, desc_size - behind) : c;
}
export function ext4_group_desc_csum_set(
  es: super_block_view,
  seed: number,
  group: number,
  b: Uint8Array,
  off: number,
  desc_size: number,
): void {
  if (!ext4_has_group_desc_csum(es)) return;
  const csum = ext4_group_desc_csum(es, seed, group, b, off, desc_size);
  put_le16(b, off + BG_CHECKSUM_OFFSET, csum);
}
export function ext4_group_desc_csum_verify(
  es: super_block_view,
  seed: number,
  group: number,
  b: Uint8Array,
  off: number,
  desc_size: number,
): boolean {
  if (!ext4_has_group_desc_csum(es)) return true;
  const csum = ext4_group_desc_csum(es, seed, group, b, off, desc_size);
  return at_le16(b, off + BG_CHECKSUM_OFFSET) === csum;
}

/**
 * Of a bitmap; the low half goes to bg_*_bitmap_csum_lo, the high half to _hi if the descriptor has
 * it. Inode bitmaps: `len` = s_inodes_per_group / 8; block bitmaps: s_clusters_per_group / 8.
 */
export function ext4_bitmap_csum(seed: number, b: Uint8Array, len: number, off = 0): number {
  return crc32c(seed, b, off, len);
}

type group_desc_view = struct_of<typeof ext4_group_desc>;
const HI_CSUM_END = ext4_group_desc.offsetof("bg_inode_bitmap_csum_hi") + 2;

export function ext4_inode_bitmap_csum_set(
  gdp: group_desc_view,
  desc_size: number,
  csum: number,
): void {
  gdp.bg_inode_bitmap_csum_lo = csum & 0xffff;
  if (desc_size >= HI_CSUM_END) gdp.bg_inode_bitmap_csum_hi = csum >>> 16;
}
export function ext4_block_bitmap_csum_set(
  gdp: group_desc_view,
  desc_size: number,
  csum: number,
): void {
  gdp.bg_block_bitmap_csum_lo = csum & 0xffff;
  if (desc_size >= HI_CSUM_END - 2) gdp.bg_block_bitmap_csum_hi = csum >>> 16;
}
export function ext4_inode_bitmap_csum_verify(
  gdp: group_desc_view,
  desc_size: number,
  csum: number,
): boolean {
  if (desc_size < HI_CSUM_END) return gdp.bg_inode_bitmap_csum_lo === (csum & 0xffff);
  return gdp.bg_inode_bitmap_csum_lo + gdp.bg_inode_bitmap_csum_hi * 65536 === csum;
}
export function ext4_block_bitmap_csum_verify(
  gdp: group_desc_view,
  desc_size: number,
  csum: number,
): boolean {
  if (desc_size < HI_CSUM_END - 2) return gdp.bg_block_bitmap_csum_lo === (csum & 0xffff);
  return gdp.bg_block_bitmap_csum_lo + gdp.bg_block_bitmap_csum_hi * 65536 === csum;
}

// --- inodes -----------------------------------------------------------------------------------

const I_CHECKSUM_LO = ext4_inode.offsetof("i_checksum_lo");
const I_CHECKSUM_HI = ext4_inode.offsetof("i_checksum_hi");
const I_EXTRA_ISIZE = ext4_inode.offsetof("i_extra_isize");

/** The seed for all that belongs to one inode: ei->i_csum_seed. */
export function ext4_inode_csum_seed(seed: number, ino: number, generation: number): number {
  return crc32c_le32(crc32c_le32(seed, ino), generation);
}

/** Does the inode at `off` have i_checksum_hi? */
function has_checksum_hi(b: Uint8Array, off: number, inode_size: number): boolean {
  if (inode_size <= EXT4_GOOD_OLD_INODE_SIZE) return false;
  return EXT4_GOOD_OLD_INODE_SIZE + at_le16(b, off + I_EXTRA_ISIZE) >= I_CHECKSUM_HI + 2;
}

/** Of the `inode_size` bytes of an inode at `off`; `inode_seed` from ext4_inode_csum_seed(). */
export function ext4_inode_csum(
  inode_seed: number,
  b: Uint8Array,
  off: number,
  inode_size: number,
): number {
  let c = crc32c(inode_seed, b, off, I_CHECKSUM_LO);
  c = crc32c_zeros(c, 2);
  c = crc32c(c, b, off + I_CHECKSUM_LO + 2, EXT4_GOOD_OLD_INODE_SIZE - I_CHECKSUM_LO - 2);
  if (inode_size > EXT4_GOOD_OLD_INODE_SIZE) {
    let from = EXT4_GOOD_OLD_INODE_SIZE;
    if (has_checksum_hi(b, off, inode_size)) {
      c = crc32c(c, b, off + from, I_CHECKSUM_HI - from);
      c = crc32c_zeros(c, 2);
      from = I_CHECKSUM_HI + 2;
    }
    c = crc32c(c, b, off + from, inode_size - from);
  }
  return c;
}
export function ext4_inode_csum_set(
  inode_seed: number,
  b: Uint8Array,
  off: number,
  inode_size: number,
): void {
  const csum = ext4_inode_csum(inode_seed, b, off, inode_size);
  put_le16(b, off + I_CHECKSUM_LO, csum);
  if (has_checksum_hi(b, off, inode_size)) put_le16(b, off + I_CHECKSUM_HI, csum >>> 16);
}
export function ext4_inode_csum_verify(
  inode_seed: number,
  b: Uint8Array,
  off: number,
  inode_size: number,
): boolean {
  const csum = ext4_inode_csum(inode_seed, b, off, inode_size);
  if (at_le16(b, off + I_CHECKSUM_LO) !== (csum & 0xffff)) return false;
  if (!has_checksum_hi(b, off, inode_size)) return true;
  return at_le16(b, off + I_CHECKSUM_HI) === csum >>> 16;
}

// --- extent tree blocks -----------------------------------------------------------------------

/** Byte offset of the tail in a node block: behind eh_max entries. */
export function ext4_extent_tail_offset(block: Uint8Array): number {
  return ext4_extent_header.sizeof + 12 * at_le16(block, ext4_extent_header.offsetof("eh_max"));
}
export function ext4_extent_block_csum(inode_seed: number, block: Uint8Array): number {
  return crc32c(inode_seed, block, 0, ext4_extent_tail_offset(block));
}
export function ext4_extent_block_csum_set(inode_seed: number, block: Uint8Array): void {
  put_le32(block, ext4_extent_tail_offset(block), ext4_extent_block_csum(inode_seed, block));
}
/** False also when eh_max leaves no room for the tail. */
export function ext4_extent_block_csum_verify(inode_seed: number, block: Uint8Array): boolean {
  const tail = ext4_extent_tail_offset(block);
  if (tail + 4 > block.length) return false;
  return at_le32(block, tail) === ext4_extent_block_csum(inode_seed, block);
}

// --- directory blocks -------------------------------------------------------------------------

const TAIL_SIZE = 12;

/** Does the block end in an ext4_dir_entry_tail? */
export function ext4_has_dirent_tail(block: Uint8Array, off = 0, size = block.length): boolean {
  const t = off + size - TAIL_SIZE;
  const type_word = at_le32(block, t + 4);
  return at_le32(block, t) === 0 && type_word === ((EXT4_FT_DIR_CSUM << 24) | 12) >>> 0;
}
/** Of a directory leaf of `size` bytes: all in front of the tail. */
export function ext4_dirblock_csum(
  inode_seed: number,
  block: Uint8Array,
  off = 0,
  size = block.length,
): number {
  return crc32c(inode_seed, block, off, size - TAIL_SIZE);
}
/** Writes the whole tail, with its checksum. */
export function ext4_dirblock_tail_set(
  inode_seed: number,
  block: Uint8Array,
  off = 0,
  size = block.length,
): void {
  const t = off + size - TAIL_SIZE;
  put_le32(block, t, 0);
  put_le16(block, t + 4, TAIL_SIZE);
  block[t + 6] = 0;
  block[t + 7] = EXT4_FT_DIR_CSUM;
  put_le32(block, t + 8, ext4_dirblock_csum(inode_seed, block, off, size));
}
/** False also when there is no tail. */
export function ext4_dirblock_csum_verify(
  inode_seed: number,
  block: Uint8Array,
  off = 0,
  size = block.length,
): boolean {
  if (!ext4_has_dirent_tail(block, off, size)) return false;
  return at_le32(block, off + size - 4) === ext4_dirblock_csum(inode_seed, block, off, size);
}

/**
 * Where dx_countlimit stands in a hash tree block: 32 in the root, 8 in inner nodes; undefined when
 * the block is no such block.
 */
export function ext4_dx_count_offset(block: Uint8Array): number | undefined {
  const rec_len = at_le16(block, 4);
  const whole = block.length === 65536 ? 65535 : block.length;
  if (rec_len === whole || (rec_len === 0 && block.length === 65536)) return DX_NODE_OFFSET;
  if (rec_len !== 12) return undefined;
  if (at_le16(block, 16) !== block.length - 12) return undefined;
  if (at_le32(block, DX_ROOT_INFO_OFFSET) !== 0 || block[DX_ROOT_INFO_OFFSET + 5] !== 8) {
    return undefined;
  }
  return DX_ROOT_INFO_OFFSET + 8;
}
/** Of a hash tree block; the tail stands behind `limit` entries, its reserved word is covered. */
export function ext4_dx_csum(inode_seed: number, block: Uint8Array, count_offset: number): number {
  const limit = at_le16(block, count_offset);
  const count = at_le16(block, count_offset + 2);
  const tail = count_offset + limit * 8;
  const c = crc32c(inode_seed, block, 0, count_offset + count * 8);
  return crc32c_zeros(crc32c(c, block, tail, 4), 4);
}
/** The tail's byte offset, or undefined when count and limit are impossible. */
function dx_tail_offset(block: Uint8Array, count_offset: number): number | undefined {
  const limit = at_le16(block, count_offset);
  const tail = count_offset + limit * 8;
  if (at_le16(block, count_offset + 2) > limit || tail + 8 > block.length) return undefined;
  return tail;
}
export function ext4_dx_csum_set(inode_seed: number, block: Uint8Array): boolean {
  const count_offset = ext4_dx_count_offset(block);
  if (count_offset === undefined) return false;
  const tail = dx_tail_offset(block, count_offset);
  if (tail === undefined) return false;
  put_le32(block, tail + 4, ext4_dx_csum(inode_seed, block, count_offset));
  return true;
}
export function ext4_dx_csum_verify(inode_seed: number, block: Uint8Array): boolean {
  const count_offset = ext4_dx_count_offset(block);
  if (count_offset === undefined) return false;
  const tail = dx_tail_offset(block, count_offset);
  if (tail === undefined) return false;
  return at_le32(block, tail + 4) === ext4_dx_csum(inode_seed, block, count_offset);
}

// --- attribute blocks, orphan file, MMP -------------------------------------------------------

const XATTR_CHECKSUM = 16;

/** Of an attribute block that stands at `block_nr` (the number in the filesystem). */
export function ext4_xattr_block_csum(seed: number, block_nr: number, block: Uint8Array): number {
  let c = crc32c_le32(seed, block_nr % 4294967296);
  c = crc32c_le32(c, Math.floor(block_nr / 4294967296));
  c = crc32c(c, block, 0, XATTR_CHECKSUM);
  c = crc32c_zeros(c, 4);
  return crc32c(c, block, XATTR_CHECKSUM + 4);
}
export function ext4_xattr_block_csum_set(seed: number, block_nr: number, block: Uint8Array): void {
  put_le32(block, XATTR_CHECKSUM, ext4_xattr_block_csum(seed, block_nr, block));
}
export const ext4_xattr_block_csum_verify = (
  seed: number,
  block_nr: number,
  block: Uint8Array,
): boolean => at_le32(block, XATTR_CHECKSUM) === ext4_xattr_block_csum(seed, block_nr, block);

/** Of a block of the orphan file: its number, then the inode numbers in front of the tail. */
export function ext4_orphan_file_block_csum(
  inode_seed: number,
  block_nr: number,
  block: Uint8Array,
): number {
  let c = crc32c_le32(inode_seed, block_nr % 4294967296);
  c = crc32c_le32(c, Math.floor(block_nr / 4294967296));
  return crc32c(c, block, 0, Math.floor((block.length - 8) / 4) * 4);
}

/** Of the 1024 bytes of the MMP block. */
export const ext4_mmp_csum = (seed: number, block: Uint8Array): number =>
  crc32c(seed, block, 0, 1020);
