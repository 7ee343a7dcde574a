/**
 * tools/cmd/mke2fs/filsys.ts - a filesystem in the making: superblock, bitmaps, group descriptors
 * and the metadata blocks written so far. Nothing reaches the device before flush().
 *
 * Blocks and groups are numbers as on the media. `block_map` has one bit per block from block 0;
 * with bigalloc whole clusters are marked once the group tables stand (see convert_to_clusters()).
 */

import {
  EXT4_BG_BLOCK_UNINIT,
  EXT4_BG_INODE_UNINIT,
  EXT4_FEATURE_COMPAT_SPARSE_SUPER2,
  EXT4_FEATURE_INCOMPAT_META_BG,
  EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER,
  ext4_group_desc,
  ext4_inode,
  ext4_super_block,
} from "../../../fs/ext4/ext4.ts";
import {
  ext4_csum_seed,
  ext4_has_group_desc_csum,
  ext4_has_metadata_csum,
  ext4_inode_csum_seed,
  ext4_inode_csum_set,
} from "../../../fs/ext4/csum.ts";
import type { struct_of } from "../../../kernel/lib/struct.ts";

/** Ends a run: `status` is the exit status, `message` goes to stderr. */
export class Mke2fsError extends Error {
  readonly status: number;
  constructor(message: string, status = 1) {
    super(message);
    this.status = status;
  }
}

export type super_view = struct_of<typeof ext4_super_block>;
export type inode_view = struct_of<typeof ext4_inode>;
export type group_desc_view = struct_of<typeof ext4_group_desc>;

export interface bgd_location {
  super_blk: number;
  desc_blk: number;
  desc_count: number;
  desc_from: number;
}

const is_power_of = (n: number, base: number): boolean => {
  let x = base;
  while (x < n) x *= base;
  return x === n;
};

export class ext2_filsys {
  readonly es: super_view = ext4_super_block.alloc();
  /** Seconds since 1970: every time stamp of the new filesystem. */
  readonly now: number;
  blocksize = 0;
  /** Blocks per cluster; 1 without bigalloc. */
  cluster_ratio = 1;
  blocks_count = 0;
  group_desc_count = 0;
  desc_size = 32;
  desc_blocks = 0;
  inode_blocks_per_group = 0;
  csum_seed = 0;
  /** The descriptors one after another, as in the primary table. */
  gdt = new Uint8Array(0);
  block_map = new Uint8Array(0);
  inode_map = new Uint8Array(0);
  /** Metadata blocks to be written, and [first block, count] runs to be zeroed before. */
  readonly blocks = new Map<number, Uint8Array>();
  readonly zeros: [blk: number, count: number][] = [];
  /** Allocation goes by clusters from now on. */
  clusters = false;

  constructor(now: number) {
    this.now = now;
  }

  has(set: "compat" | "incompat" | "ro_compat", mask: number): boolean {
    return (this.es[`s_feature_${set}`] & mask) !== 0;
  }
  get has_csum(): boolean {
    return ext4_has_metadata_csum(this.es);
  }
  get has_group_csum(): boolean {
    return ext4_has_group_desc_csum(this.es);
  }

  init_csum_seed(): void {
    this.csum_seed = ext4_csum_seed(this.es);
  }

  // --- groups ---------------------------------------------------------------------------------

  group_first_block(group: number): number {
    return this.es.s_first_data_block + group * this.es.s_blocks_per_group;
  }
  group_last_block(group: number): number {
    if (group === this.group_desc_count - 1) return this.blocks_count - 1;
    return this.group_first_block(group + 1) - 1;
  }
  group_of_block(blk: number): number {
    return Math.floor((blk - this.es.s_first_data_block) / this.es.s_blocks_per_group);
  }
  group_of_ino(ino: number): number {
    return Math.floor((ino - 1) / this.es.s_inodes_per_group);
  }
  desc(group: number): group_desc_view {
    return ext4_group_desc.at(this.gdt, group * this.desc_size);
  }
  get desc_per_block(): number {
    return this.blocksize / this.desc_size;
  }

  bg_has_super(group: number): boolean {
    if (group === 0) return true;
    if (this.has("compat", EXT4_FEATURE_COMPAT_SPARSE_SUPER2)) {
      return this.es.s_backup_bgs.includes(group);
    }
    if (group === 1 || !this.has("ro_compat", EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER)) return true;
    return is_power_of(group, 3) || is_power_of(group, 5) || is_power_of(group, 7);
  }

  /**
   * Where a group's superblock copy and its descriptors stand (-1: nowhere). `desc_from` is the
   * index of the first block in the whole table.
   */
  super_and_bgd_loc(group: number): bgd_location {
    let first = this.group_first_block(group);
    // with 1 KiB blocks and bigalloc block 0 belongs to group 0, yet the superblock is block 1
    if (first === 0 && this.blocksize === 1024) first = 1;
    const has_super = this.bg_has_super(group);
    const none = { super_blk: has_super ? first : -1, desc_blk: -1, desc_count: 0, desc_from: 0 };
    const meta = Math.floor(group / this.desc_per_block);
    const meta_bg = this.has("incompat", EXT4_FEATURE_INCOMPAT_META_BG);
    const old = meta_bg ? this.es.s_first_meta_bg : this.desc_blocks;
    if (!meta_bg || meta < old) {
      if (!has_super) return none;
      const desc_count = old + (meta_bg ? 0 : this.es.s_reserved_gdt_blocks);
      return { ...none, desc_blk: first + 1, desc_count };
    }
    // a meta group keeps its one block of descriptors in its first, second and last group
    const within = group % this.desc_per_block;
    if (within !== 0 && within !== 1 && within !== this.desc_per_block - 1) return none;
    return { ...none, desc_blk: first + (has_super ? 1 : 0), desc_count: 1, desc_from: meta };
  }

  // --- bitmaps --------------------------------------------------------------------------------

  test_block(blk: number): boolean {
    return (this.block_map[blk >>> 3]! & (1 << (blk & 7))) !== 0;
  }
  mark_range(blk: number, count: number): void {
    for (let b = blk; b < blk + count; b++) {
      if ((b & 7) === 0 && b + 8 <= blk + count) {
        this.block_map[b >>> 3] = 0xff;
        b += 7;
      } else this.block_map[b >>> 3]! |= 1 << (b & 7);
    }
  }
  range_is_free(blk: number, count: number): boolean {
    for (let b = blk; b < blk + count; b++) if (this.test_block(b)) return false;
    return true;
  }
  /** First free (or, with `used`, first used) block in [from, end), or -1. */
  find_block(from: number, end: number, used = false): number {
    const skip = used ? 0 : 0xff;
    for (let b = from; b < end; ) {
      if ((b & 7) === 0 && this.block_map[b >>> 3] === skip) {
        b += 8;
        continue;
      }
      if (this.test_block(b) === used) return b;
      b++;
    }
    return -1;
  }
  /**
   * First run of `count` free blocks that begins in [start, finish), stepping by clusters where
   * allocation does; the search wraps round the device when finish lies before start. -1: none.
   */
  get_free_blocks(start: number, finish: number, count: number): number {
    const step = this.clusters ? this.cluster_ratio : 1;
    const down = (b: number) => b - (b % step);
    const end = down(finish || start);
    let b = down(start || this.es.s_first_data_block);
    do {
      if (b + count - 1 > this.blocks_count) {
        if (finish > start) return -1;
        b = down(this.es.s_first_data_block);
      }
      if (b + count <= this.blocks_count && this.range_is_free(b, count)) return b;
      b += step;
    } while (b !== end);
    return -1;
  }

  /** Marks blocks (whole clusters) as used by data or metadata outside the fixed places. */
  alloc_range(blk: number, count: number): void {
    const ratio = this.clusters ? this.cluster_ratio : 1;
    const first = blk - (blk % ratio);
    const last = Math.min(Math.ceil((blk + count) / ratio) * ratio, this.blocks_count);
    this.mark_range(first, last - first);
    const last_group = this.group_of_block(last - 1);
    for (let g = this.group_of_block(first); g <= last_group; g++) {
      this.desc(g).bg_flags &= ~EXT4_BG_BLOCK_UNINIT;
    }
  }
  /** Allocates the first free block (cluster) at or behind `goal`, wrapping round once. */
  new_block(goal: number): number {
    let from = goal < this.blocks_count ? goal : this.es.s_first_data_block;
    if (this.clusters) from -= from % this.cluster_ratio;
    let blk = this.find_block(from, this.blocks_count);
    if (blk < 0) blk = this.find_block(this.es.s_first_data_block, from);
    if (blk < 0) throw new Mke2fsError("there is no free block left");
    this.alloc_range(blk, 1);
    return blk;
  }

  /** With bigalloc: a cluster with one block in use is in use. */
  convert_to_clusters(): void {
    this.clusters = true;
    const ratio = this.cluster_ratio;
    if (ratio === 1) return;
    for (let c = 0; c < this.blocks_count; c += ratio) {
      if (this.find_block(c, Math.min(c + ratio, this.blocks_count), true) >= 0) {
        this.mark_range(c, Math.min(ratio, this.blocks_count - c));
      }
    }
  }

  /** Free clusters of a group (blocks before convert_to_clusters()). */
  group_free_clusters(group: number): number {
    const first = this.group_first_block(group);
    const last = this.group_last_block(group);
    const step = this.clusters ? this.cluster_ratio : 1;
    let free = 0;
    for (let b = first; b <= last; b += step) {
      if (step === 1 && (b & 7) === 0 && b + 7 <= last) {
        const map = this.block_map;
        const end = (last + 1) >>> 3;
        let i = b >>> 3;
        for (; i < end; i++) free += FREE_BITS[map[i]!]!;
        b = i * 8 - 1;
      } else if (!this.test_block(b)) free++;
    }
    return free;
  }

  // --- inodes ---------------------------------------------------------------------------------

  /** Marks an inode as used and takes its group's inode table into use up to there. */
  alloc_inode(ino: number, is_dir = false): void {
    this.inode_map[(ino - 1) >>> 3]! |= 1 << ((ino - 1) & 7);
    const group = this.group_of_ino(ino);
    const gdp = this.desc(group);
    if (is_dir) gdp.bg_used_dirs_count_lo++;
    gdp.bg_flags &= ~EXT4_BG_INODE_UNINIT;
    if (!this.has_group_csum) return;
    const ipg = this.es.s_inodes_per_group;
    gdp.bg_itable_unused_lo = Math.min(gdp.bg_itable_unused_lo, (group + 1) * ipg - ino);
  }
  /**
   * The first free inode number that is not reserved. Looking for one in a group whose inode table
   * was not in use yet brings its bitmaps into use, the block bitmap too (as Linux does).
   */
  new_inode(): number {
    for (let ino = this.es.s_first_ino; ino <= this.es.s_inodes_count; ino++) {
      const gdp = this.desc(this.group_of_ino(ino));
      if (gdp.bg_flags & EXT4_BG_INODE_UNINIT) {
        gdp.bg_flags &= ~(EXT4_BG_INODE_UNINIT | EXT4_BG_BLOCK_UNINIT);
      }
      if (!(this.inode_map[(ino - 1) >>> 3]! & (1 << ((ino - 1) & 7)))) return ino;
    }
    throw new Mke2fsError("there is no free inode left");
  }
  free_inodes(group: number): number {
    const ipg = this.es.s_inodes_per_group;
    let free = 0;
    for (let i = (group * ipg) >>> 3; i < ((group + 1) * ipg) >>> 3; i++) {
      free += FREE_BITS[this.inode_map[i]!]!;
    }
    return free;
  }

  /** A metadata block for reading and writing; zeroes at first. */
  block(blk: number): Uint8Array {
    let b = this.blocks.get(blk);
    if (!b) {
      b = new Uint8Array(this.blocksize);
      this.blocks.set(blk, b);
    }
    return b;
  }

  private inode_place(ino: number): { block: Uint8Array; off: number } {
    const index = ((ino - 1) % this.es.s_inodes_per_group) * this.es.s_inode_size;
    const itable = this.itable(this.group_of_ino(ino));
    const blk = itable + Math.floor(index / this.blocksize);
    return { block: this.block(blk), off: index % this.blocksize };
  }
  itable(group: number): number {
    const gdp = this.desc(group);
    const hi = this.desc_size > 32 ? gdp.bg_inode_table_hi : 0;
    return hi * 2 ** 32 + gdp.bg_inode_table_lo;
  }
  inode(ino: number): inode_view {
    const { block, off } = this.inode_place(ino);
    return ext4_inode.at(block, off);
  }
  /** The bytes of the inode's i_block. */
  i_block(ino: number): Uint8Array {
    const { block, off } = this.inode_place(ino);
    return block.subarray(off + 40, off + 100);
  }
  inode_csum_set(ino: number): void {
    if (!this.has_csum) return;
    const { block, off } = this.inode_place(ino);
    const seed = this.inode_csum_seed(ino);
    ext4_inode_csum_set(seed, block, off, this.es.s_inode_size);
  }
  inode_csum_seed(ino: number): number {
    return ext4_inode_csum_seed(this.csum_seed, ino, this.inode(ino).i_generation);
  }
}

/** Zero bits of each byte. */
const FREE_BITS: Uint8Array = Uint8Array.from({ length: 256 }, (_, byte) => {
  let free = 8;
  for (let b = byte; b > 0; b >>= 1) free -= b & 1;
  return free;
});
