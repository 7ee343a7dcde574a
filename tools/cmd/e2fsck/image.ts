/**
 * tools/cmd/e2fsck/image.ts - an ext4 image to be checked: its geometry, its blocks, and the list
 * of what is wrong. Reading past the end or into nonsense gives a problem, never an exception.
 */

import {
  EXT4_FEATURE_COMPAT_SPARSE_SUPER2,
  EXT4_FEATURE_INCOMPAT_64BIT,
  EXT4_FEATURE_INCOMPAT_META_BG,
  EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER,
  EXT4_GOOD_OLD_INODE_SIZE,
  EXT4_SB_OFFSET,
  EXT4_SUPER_MAGIC,
  ext4_group_desc,
  ext4_inode,
  ext4_super_block,
} from "../../../fs/ext4/ext4.ts";
import {
  ext4_csum_seed,
  ext4_has_group_desc_csum,
  ext4_has_metadata_csum,
} from "../../../fs/ext4/csum.ts";
import type { struct_of } from "../../../kernel/lib/struct.ts";

/** What is checked: bytes, or something that reads them. `read` may return a view. */
export interface fsck_device {
  readonly size: number;
  read(offset: number, length: number): Uint8Array;
}

export interface fsck_problem {
  /** 0: superblock and descriptors; 1 to 5 as e2fsck's passes. */
  readonly pass: number;
  readonly message: string;
  readonly ino?: number;
  readonly block?: number;
  readonly group?: number;
}

export type super_view = struct_of<typeof ext4_super_block>;
export type inode_view = struct_of<typeof ext4_inode>;
export type group_desc_view = struct_of<typeof ext4_group_desc>;

/** Where in the image a problem is. */
export type place = Omit<fsck_problem, "pass" | "message">;

const MAX_PROBLEMS = 200;

const is_power_of = (n: number, base: number): boolean => {
  let x = base;
  while (x < n) x *= base;
  return x === n;
};

/** Thrown to end the check when the rest would be guesswork; its problem is in the list. */
export class FsckAbort extends Error {}

export class ext4_image {
  readonly dev: fsck_device;
  readonly problems: fsck_problem[];
  readonly es: super_view;
  readonly blocksize: number = 1024;
  readonly cluster_ratio: number = 1;
  readonly blocks_count: number = 0;
  readonly group_count: number = 0;
  readonly desc_size: number = 32;
  readonly desc_blocks: number = 0;
  readonly inode_blocks: number = 0;
  readonly seed: number = 0;
  /** All descriptors one after another. */
  readonly gdt: Uint8Array = new Uint8Array(0);
  pass = 0;
  private readonly zero_block: Uint8Array = new Uint8Array(0);

  /** Problems go to the end of `problems`, also those that end the construction. */
  constructor(dev: fsck_device, problems: fsck_problem[]) {
    this.dev = dev;
    this.problems = problems;
    if (dev.size < EXT4_SB_OFFSET + 1024) this.abort("the device is too small for a superblock");
    this.es = ext4_super_block.at(dev.read(EXT4_SB_OFFSET, 1024).slice());
    const { es } = this;
    this.check_shape();
    this.blocksize = 1024 * 2 ** es.s_log_block_size;
    this.cluster_ratio = 2 ** (es.s_log_cluster_size - es.s_log_block_size);
    const wide = (es.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT) !== 0;
    this.blocks_count = es.s_blocks_count_lo + (wide ? es.s_blocks_count_hi * 2 ** 32 : 0);
    this.desc_size = wide ? es.s_desc_size : 32;
    const span = this.blocks_count - es.s_first_data_block;
    this.group_count = Math.ceil(span / es.s_blocks_per_group);
    this.desc_blocks = Math.ceil((this.group_count * this.desc_size) / this.blocksize);
    this.inode_blocks = Math.ceil((es.s_inodes_per_group * es.s_inode_size) / this.blocksize);
    this.seed = ext4_csum_seed(es);
    this.zero_block = new Uint8Array(this.blocksize);
    this.check_counts();
    this.gdt = this.read_gdt();
  }

  problem(message: string, where: place = {}): void {
    if (this.problems.length < MAX_PROBLEMS) {
      this.problems.push({ pass: this.pass, message, ...where });
    }
  }
  abort(message: string): never {
    this.problem(message);
    throw new FsckAbort(message);
  }

  private check_shape(): void {
    const { es } = this;
    if (es.s_magic !== EXT4_SUPER_MAGIC) this.abort("there is no ext2/3/4 superblock");
    if (es.s_log_block_size > 6) this.abort(`block size 2^${10 + es.s_log_block_size}`);
    if (es.s_log_cluster_size < es.s_log_block_size || es.s_log_cluster_size > 20) {
      this.abort(`cluster size 2^${10 + es.s_log_cluster_size}`);
    }
    const wide = es.s_feature_incompat & EXT4_FEATURE_INCOMPAT_64BIT;
    const ds = es.s_desc_size;
    if (wide && (ds < 64 || ds > 1024 || !is_power_of(ds, 2))) {
      this.abort(`group descriptors of ${ds} bytes`);
    }
  }

  private check_counts(): void {
    const { es } = this;
    const bits = this.blocksize * 8;
    const { s_inode_size: size, s_inodes_per_group: ipg } = es;
    if (size < EXT4_GOOD_OLD_INODE_SIZE || size > this.blocksize || !is_power_of(size, 2)) {
      this.abort(`inode size ${size}`);
    }
    if (ipg === 0 || ipg > bits || ipg % 8 !== 0) this.abort(`${ipg} inodes per group`);
    const cpg = es.s_clusters_per_group;
    if (cpg === 0 || cpg > bits || es.s_blocks_per_group !== cpg * this.cluster_ratio) {
      this.abort(`${es.s_blocks_per_group} blocks in ${cpg} clusters per group`);
    }
    if (this.blocks_count * this.blocksize > this.dev.size) {
      this.abort(`${this.blocks_count} blocks are more than the device has`);
    }
    if (es.s_first_data_block >= this.blocks_count) this.abort("first data block is outside");
    if (es.s_inodes_count !== ipg * this.group_count) {
      this.abort(`${es.s_inodes_count} inodes in ${this.group_count} groups of ${ipg}`);
    }
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
  get first_ino(): number {
    return this.es.s_rev_level === 0 ? 11 : this.es.s_first_ino;
  }

  // --- blocks and groups ----------------------------------------------------------------------

  /** A block's bytes; zeroes (and a problem at the caller's) when it is outside. */
  block(nr: number): Uint8Array {
    if (!this.valid_block(nr)) return this.zero_block;
    return this.dev.read(nr * this.blocksize, this.blocksize);
  }
  valid_block(nr: number): boolean {
    return nr >= this.es.s_first_data_block && nr < this.blocks_count;
  }
  group_first(group: number): number {
    return this.es.s_first_data_block + group * this.es.s_blocks_per_group;
  }
  group_last(group: number): number {
    return Math.min(this.group_first(group + 1), this.blocks_count) - 1;
  }
  desc(group: number): group_desc_view {
    return ext4_group_desc.at(this.gdt, group * this.desc_size);
  }
  /** 64-bit position of a bitmap or inode table. */
  location(group: number, key: "bg_block_bitmap" | "bg_inode_bitmap" | "bg_inode_table"): number {
    const gdp = this.desc(group);
    return gdp[`${key}_lo`] + (this.desc_size > 32 ? gdp[`${key}_hi`] * 2 ** 32 : 0);
  }
  has_super(group: number): boolean {
    if (group === 0) return true;
    if (this.has("compat", EXT4_FEATURE_COMPAT_SPARSE_SUPER2)) {
      return this.es.s_backup_bgs.includes(group);
    }
    if (group === 1 || !this.has("ro_compat", EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER)) return true;
    return is_power_of(group, 3) || is_power_of(group, 5) || is_power_of(group, 7);
  }
  /** First block and number of the descriptor blocks (reserved ones included) in a group. */
  descriptors_in(group: number): { first: number; count: number } {
    let first = this.group_first(group);
    if (first === 0 && this.blocksize === 1024) first = 1;
    const has_super = this.has_super(group);
    const meta_bg = this.has("incompat", EXT4_FEATURE_INCOMPAT_META_BG);
    const per_block = this.blocksize / this.desc_size;
    if (!meta_bg || Math.floor(group / per_block) < this.es.s_first_meta_bg) {
      if (!has_super) return { first, count: 0 };
      const count = meta_bg
        ? this.es.s_first_meta_bg
        : this.desc_blocks + this.es.s_reserved_gdt_blocks;
      return { first: first + 1, count };
    }
    const within = group % per_block;
    const here = within === 0 || within === 1 || within === per_block - 1;
    return { first: first + (has_super ? 1 : 0), count: here ? 1 : 0 };
  }

  private read_gdt(): Uint8Array {
    const out = new Uint8Array(this.desc_blocks * this.blocksize);
    const per_block = this.blocksize / this.desc_size;
    const meta_bg = this.has("incompat", EXT4_FEATURE_INCOMPAT_META_BG);
    for (let i = 0; i < this.desc_blocks; i++) {
      const in_meta = meta_bg && i >= this.es.s_first_meta_bg;
      const at = in_meta
        ? this.descriptors_in(i * per_block).first
        : this.descriptors_in(0).first + i;
      if (!this.valid_block(at)) this.abort(`descriptor block ${i} would be block ${at}`);
      out.set(this.block(at), i * this.blocksize);
    }
    return out;
  }

  // --- inodes ---------------------------------------------------------------------------------

  valid_ino(ino: number): boolean {
    return ino >= 1 && ino <= this.es.s_inodes_count;
  }
  /** The bytes of the inode: s_inode_size of them. */
  inode_bytes(ino: number): Uint8Array {
    const group = Math.floor((ino - 1) / this.es.s_inodes_per_group);
    const index = (ino - 1) % this.es.s_inodes_per_group;
    const size = this.es.s_inode_size;
    const at = index * size;
    const blk = this.location(group, "bg_inode_table") + Math.floor(at / this.blocksize);
    const start = at % this.blocksize;
    return this.block(blk).subarray(start, start + size);
  }
  inode(ino: number): inode_view {
    return ext4_inode.at(this.inode_bytes(ino));
  }
}
