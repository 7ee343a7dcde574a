/**
 * tools/cmd/mke2fs/flush.ts - the last step: counters, bitmaps, checksums, superblocks and
 * descriptor tables with their backups, as a list of things to do to the device.
 */

import {
  EXT4_BG_BLOCK_UNINIT,
  EXT4_BG_INODE_UNINIT,
  EXT4_FEATURE_INCOMPAT_RECOVER,
  EXT4_SB_OFFSET,
  EXT4_SB_SIZE,
  EXT4_VALID_FS,
  ext4_super_block,
} from "../../../fs/ext4/ext4.ts";
import {
  ext4_bitmap_csum,
  ext4_block_bitmap_csum_set,
  ext4_group_desc_csum_set,
  ext4_inode_bitmap_csum_set,
  ext4_superblock_csum_set,
} from "../../../fs/ext4/csum.ts";
import type { ext2_filsys } from "./filsys.ts";

/** What has to be done to the device, in this order: zero runs, then writes. Bytes. */
export interface device_plan {
  zero: [offset: number, length: number][];
  write: [offset: number, bytes: Uint8Array][];
}

function block_bitmap(fs: ext2_filsys, group: number): Uint8Array {
  const b = new Uint8Array(fs.blocksize).fill(0xff);
  const first = fs.group_first_block(group);
  const last = fs.group_last_block(group);
  const ratio = fs.cluster_ratio;
  const count = Math.ceil((last - first + 1) / ratio);
  if (ratio === 1 && first % 8 === 0) {
    b.set(fs.block_map.subarray(first / 8, (first + count) >>> 3));
    for (let i = count & ~7; i < count; i++) {
      if (!fs.test_block(first + i)) b[i >>> 3]! &= ~(1 << (i & 7));
    }
    return b;
  }
  for (let i = 0; i < count; i++) {
    if (!fs.test_block(first + i * ratio)) b[i >>> 3]! &= ~(1 << (i & 7));
  }
  return b;
}

function inode_bitmap(fs: ext2_filsys, group: number): Uint8Array {
  const bytes = fs.es.s_inodes_per_group / 8;
  const b = new Uint8Array(fs.blocksize).fill(0xff, bytes);
  b.set(fs.inode_map.subarray(group * bytes, (group + 1) * bytes));
  return b;
}

/** Bitmaps and counters of one group; returns its free clusters and inodes. */
function finish_group(fs: ext2_filsys, group: number): { clusters: number; inodes: number } {
  const gdp = fs.desc(group);
  const wide = fs.desc_size > 32;
  const clusters = fs.group_free_clusters(group);
  const inodes = fs.free_inodes(group);
  gdp.bg_free_blocks_count_lo = clusters & 0xffff;
  gdp.bg_free_inodes_count_lo = inodes & 0xffff;
  if (wide) {
    gdp.bg_free_blocks_count_hi = clusters >>> 16;
    gdp.bg_free_inodes_count_hi = inodes >>> 16;
  }
  const place = (lo: number, hi: number) => (wide ? hi * 2 ** 32 : 0) + lo;
  if (!(gdp.bg_flags & EXT4_BG_BLOCK_UNINIT)) {
    const b = block_bitmap(fs, group);
    const at = place(gdp.bg_block_bitmap_lo, wide ? gdp.bg_block_bitmap_hi : 0);
    fs.blocks.set(at, b);
    if (fs.has_csum) {
      const csum = ext4_bitmap_csum(fs.csum_seed, b, fs.es.s_clusters_per_group / 8);
      ext4_block_bitmap_csum_set(gdp, fs.desc_size, csum);
    }
  }
  if (!(gdp.bg_flags & EXT4_BG_INODE_UNINIT)) {
    const b = inode_bitmap(fs, group);
    const at = place(gdp.bg_inode_bitmap_lo, wide ? gdp.bg_inode_bitmap_hi : 0);
    fs.blocks.set(at, b);
    if (fs.has_csum) {
      const csum = ext4_bitmap_csum(fs.csum_seed, b, fs.es.s_inodes_per_group / 8);
      ext4_inode_bitmap_csum_set(gdp, fs.desc_size, csum);
    }
  }
  const off = group * fs.desc_size;
  ext4_group_desc_csum_set(fs.es, fs.csum_seed, group, fs.gdt, off, fs.desc_size);
  return { clusters, inodes };
}

/** Backups are not marked valid, so that nobody takes one for a clean filesystem unchecked. */
function superblock_bytes(fs: ext2_filsys, group: number): Uint8Array {
  const bytes = new Uint8Array(fs.es._view.buffer.slice(0, EXT4_SB_SIZE));
  const copy = ext4_super_block.at(bytes);
  copy.s_block_group_nr = group;
  if (group > 0) {
    copy.s_state &= ~EXT4_VALID_FS;
    copy.s_feature_incompat &= ~EXT4_FEATURE_INCOMPAT_RECOVER;
  }
  if (fs.has_csum) ext4_superblock_csum_set(bytes);
  return bytes;
}

function put_supers_and_tables(fs: ext2_filsys, plan: device_plan): void {
  for (let g = fs.group_desc_count - 1; g >= 0; g--) {
    const { super_blk, desc_blk, desc_count, desc_from } = fs.super_and_bgd_loc(g);
    if (desc_count > 0) {
      const from = desc_from * fs.blocksize;
      const part = fs.gdt.subarray(from, from + desc_count * fs.blocksize);
      plan.write.push([desc_blk * fs.blocksize, part]);
    }
    // the primary superblock comes last: before that the device holds no filesystem
    const at = g === 0 ? EXT4_SB_OFFSET : super_blk * fs.blocksize;
    if (super_blk >= 0) plan.write.push([at, superblock_bytes(fs, g)]);
  }
}

/** Completes the filesystem and says what to do to the device. */
export function ext2fs_flush(fs: ext2_filsys): device_plan {
  const { es } = fs;
  const plan: device_plan = { zero: [], write: [] };
  let clusters = 0;
  let inodes = 0;
  for (let g = 0; g < fs.group_desc_count; g++) {
    const free = finish_group(fs, g);
    clusters += free.clusters;
    inodes += free.inodes;
  }
  const free_blocks = clusters * fs.cluster_ratio;
  es.s_free_blocks_count_lo = free_blocks % 2 ** 32;
  es.s_free_blocks_count_hi = Math.floor(free_blocks / 2 ** 32);
  es.s_free_inodes_count = inodes;
  es.s_wtime = fs.now % 2 ** 32;
  es.s_wtime_hi = Math.floor(fs.now / 2 ** 32);
  for (const [blk, count] of fs.zeros) {
    plan.zero.push([blk * fs.blocksize, count * fs.blocksize]);
  }
  const order = [...fs.blocks.keys()].sort((a, b) => a - b);
  for (const blk of order) plan.write.push([blk * fs.blocksize, fs.blocks.get(blk)!]);
  if (es.s_kbytes_written) {
    const bytes = plan.write.reduce((sum, [, b]) => sum + b.length, 0);
    es.s_kbytes_written = 1 + Math.floor(bytes / 1024);
  }
  put_supers_and_tables(fs, plan);
  return plan;
}
