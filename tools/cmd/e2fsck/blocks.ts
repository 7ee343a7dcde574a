/**
 * tools/cmd/e2fsck/blocks.ts - pass 1, the part about blocks: who owns which, extent trees, block
 * maps.
 */

import { EXT4_EXT_MAGIC, EXT4_MAX_EXTENT_DEPTH, EXT_INIT_MAX_LEN } from "../../../fs/ext4/ext4.ts";
import { ext4_extent_block_csum_verify } from "../../../fs/ext4/csum.ts";
import type { ext4_image } from "./image.ts";

export const view_of = (b: Uint8Array): DataView =>
  new DataView(b.buffer, b.byteOffset, b.byteLength);

/** A run of a file: logical block, physical block, length; unwritten ones read as zeroes. */
export interface run {
  lblk: number;
  pblk: number;
  len: number;
  unwritten: boolean;
}

/** What an inode's map holds. */
export interface block_map {
  runs: run[];
  /** Blocks of the map itself (extent nodes, indirect blocks). */
  meta: number;
  /** Clusters in use by data; with bigalloc a cluster counts once. */
  clusters: number;
}

/** Which clusters are in use, by whom: one bit per block of the device (whole clusters). */
export class owner_map {
  readonly im: ext4_image;
  readonly used: Uint8Array;
  constructor(im: ext4_image) {
    this.im = im;
    this.used = new Uint8Array(Math.ceil(im.blocks_count / 8) + 1);
  }
  test(blk: number): boolean {
    return (this.used[blk >>> 3]! & (1 << (blk & 7))) !== 0;
  }
  set(blk: number): void {
    this.used[blk >>> 3]! |= 1 << (blk & 7);
  }
  /** Takes the whole cluster of `blk`; false when somebody has it already. */
  take_cluster(blk: number): boolean {
    const ratio = this.im.cluster_ratio;
    const first = blk - (blk % ratio);
    if (this.test(first)) return false;
    const end = Math.min(first + ratio, this.im.blocks_count);
    for (let b = first; b < end; b++) this.set(b);
    return true;
  }
  take(blk: number, ino: number, what: string): boolean {
    if (!this.im.valid_block(blk)) {
      this.im.problem(`${what}: block ${blk} is outside the filesystem`, { ino, block: blk });
      return false;
    }
    if (!this.take_cluster(blk)) {
      this.im.problem(`${what}: block ${blk} is in use twice`, { ino, block: blk });
      return false;
    }
    return true;
  }
}

/** Walks one inode's map. */
export class map_walker {
  readonly im: ext4_image;
  readonly owners: owner_map;
  readonly ino: number;
  readonly inode_seed: number;
  readonly map: block_map = { runs: [], meta: 0, clusters: 0 };
  /** First logical block that may come next. */
  private next_lblk = 0;
  /** The cluster of the last block taken: with bigalloc the next extent may continue in it. */
  private last = { lcluster: -1, pcluster: -1 };

  constructor(im: ext4_image, owners: owner_map, ino: number, inode_seed: number) {
    this.im = im;
    this.owners = owners;
    this.ino = ino;
    this.inode_seed = inode_seed;
  }
  private bad(message: string, block?: number): void {
    this.im.problem(message, block === undefined ? { ino: this.ino } : { ino: this.ino, block });
  }

  private add_run(r: run): void {
    if (r.pblk < this.im.es.s_first_data_block || r.pblk + r.len > this.im.blocks_count) {
      this.bad(`blocks ${r.pblk}-${r.pblk + r.len - 1} are outside the filesystem`, r.pblk);
      return;
    }
    const ratio = this.im.cluster_ratio;
    for (let i = 0; i < r.len; i++) {
      const lcluster = Math.floor((r.lblk + i) / ratio);
      const pcluster = Math.floor((r.pblk + i) / ratio);
      if (lcluster === this.last.lcluster && pcluster === this.last.pcluster) continue;
      if (ratio > 1 && (r.lblk + i) % ratio !== (r.pblk + i) % ratio) {
        this.bad(`block ${r.lblk + i} stands at another place of its cluster`, r.pblk + i);
      }
      this.last = { lcluster, pcluster };
      if (this.owners.take(r.pblk + i, this.ino, "file data")) this.map.clusters++;
    }
    this.map.runs.push(r);
  }

  // --- extents --------------------------------------------------------------------------------

  /** `node`: the 60 bytes of the inode, or a block. `limit`: first logical block beyond it. */
  extent_node(node: Uint8Array, depth: number | undefined, limit: number, block?: number): void {
    const v = view_of(node);
    if (v.getUint16(0, true) !== EXT4_EXT_MAGIC)
      return this.bad("extent node without magic", block);
    const entries = v.getUint16(2, true);
    const max = v.getUint16(4, true);
    const here = v.getUint16(6, true);
    if (here > EXT4_MAX_EXTENT_DEPTH || (depth !== undefined && here !== depth)) {
      return this.bad(`extent node of depth ${here}`, block);
    }
    const room = Math.floor((node.length - 12) / 12);
    if (max > room || max === 0 || entries > max) {
      return this.bad(`extent node with ${entries} of ${max} entries`, block);
    }
    if (entries === 0 && block !== undefined) this.bad("extent node without entries", block);
    if (block !== undefined && this.im.has_csum) {
      if (!ext4_extent_block_csum_verify(this.inode_seed, node)) {
        this.bad("extent node with a wrong checksum", block);
      }
    }
    for (let i = 0; i < entries; i++) {
      const at = 12 + 12 * i;
      if (here === 0) this.leaf_entry(v, at, limit);
      else {
        const end = i + 1 < entries ? v.getUint32(at + 12, true) : limit;
        this.index_entry(v, at, here - 1, end);
      }
    }
  }

  private leaf_entry(v: DataView, at: number, limit: number): void {
    const lblk = v.getUint32(at, true);
    const ee_len = v.getUint16(at + 4, true);
    const pblk = v.getUint16(at + 6, true) * 2 ** 32 + v.getUint32(at + 8, true);
    const unwritten = ee_len > EXT_INIT_MAX_LEN;
    const len = unwritten ? ee_len - EXT_INIT_MAX_LEN : ee_len;
    if (len === 0) return this.bad(`extent of no length at block ${lblk}`);
    if (lblk < this.next_lblk || lblk + len > limit) {
      return this.bad(`extent of blocks ${lblk}-${lblk + len - 1} is out of order`);
    }
    this.next_lblk = lblk + len;
    this.add_run({ lblk, pblk, len, unwritten });
  }

  private index_entry(v: DataView, at: number, depth: number, limit: number): void {
    const lblk = v.getUint32(at, true);
    const child = v.getUint32(at + 4, true) + v.getUint16(at + 8, true) * 2 ** 32;
    if (lblk < this.next_lblk) this.bad(`extent index of block ${lblk} is out of order`);
    if (!this.owners.take(child, this.ino, "extent node")) return;
    this.map.meta++;
    const node = this.im.block(child);
    const first = view_of(node).getUint32(12, true);
    if (first !== lblk) this.bad(`extent index says ${lblk}, its node begins at ${first}`, child);
    this.extent_node(node, depth, limit, child);
  }

  // --- block maps -----------------------------------------------------------------------------

  private add_block(lblk: number, pblk: number): void {
    const last = this.map.runs.at(-1);
    if (last && last.lblk + last.len === lblk && last.pblk + last.len === pblk) {
      if (this.owners.take(pblk, this.ino, "file data")) this.map.clusters++;
      last.len++;
    } else this.add_run({ lblk, pblk, len: 1, unwritten: false });
  }

  private indirect(pblk: number, level: number, lblk: number): void {
    if (pblk === 0) return;
    if (level === 0) return this.add_block(lblk, pblk);
    if (!this.owners.take(pblk, this.ino, "indirect block")) return;
    this.map.meta++;
    const per = this.im.blocksize / 4;
    const v = view_of(this.im.block(pblk));
    for (let i = 0; i < per; i++) {
      this.indirect(v.getUint32(i * 4, true), level - 1, lblk + i * per ** (level - 1));
    }
  }

  indirect_map(i_block: Uint8Array): void {
    const v = view_of(i_block);
    const per = this.im.blocksize / 4;
    for (let i = 0; i < 12; i++) this.indirect(v.getUint32(i * 4, true), 0, i);
    let lblk = 12;
    for (let level = 1; level <= 3; level++) {
      this.indirect(v.getUint32((11 + level) * 4, true), level, lblk);
      lblk += per ** level;
    }
  }
}
