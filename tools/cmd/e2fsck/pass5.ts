/** tools/cmd/e2fsck/pass5.ts - bitmaps and counters against what passes 1 to 4 found in use. */

import { EXT4_BG_BLOCK_UNINIT, EXT4_BG_INODE_UNINIT } from "../../../fs/ext4/ext4.ts";
import {
  ext4_bitmap_csum,
  ext4_block_bitmap_csum_verify,
  ext4_inode_bitmap_csum_verify,
} from "../../../fs/ext4/csum.ts";
import type { ext4_image } from "./image.ts";
import type { fsck_state } from "./pass1.ts";

const bit = (b: Uint8Array, i: number): boolean => (b[i >>> 3]! & (1 << (i & 7))) !== 0;

/** First and number of bits that differ, as text. */
class difference {
  first = -1;
  count = 0;
  add(at: number): void {
    if (this.count++ === 0) this.first = at;
  }
  report(im: ext4_image, what: string, group: number): void {
    if (this.count > 0) im.problem(`${what}: ${this.count} wrong, first ${this.first}`, { group });
  }
}

function check_padding(im: ext4_image, b: Uint8Array, from: number, what: string, group: number) {
  for (let i = from; i < im.blocksize * 8; i++) {
    if (!bit(b, i)) return im.problem(`padding at the end of the ${what} is not set`, { group });
  }
}

/** Returns the group's free clusters. */
function check_block_bitmap(st: fsck_state, group: number): number {
  const { im } = st;
  const gdp = im.desc(group);
  const first = im.group_first(group);
  const ratio = im.cluster_ratio;
  const count = Math.ceil((im.group_last(group) - first + 1) / ratio);
  let free = 0;
  const uninit = im.has_group_csum && (gdp.bg_flags & EXT4_BG_BLOCK_UNINIT) !== 0;
  const b = im.block(im.location(group, "bg_block_bitmap"));
  const used_unmarked = new difference();
  const marked_unused = new difference();
  for (let i = 0; i < count; i++) {
    const used = st.owners.test(first + i * ratio);
    if (!used) free++;
    if (uninit) continue;
    if (used && !bit(b, i)) used_unmarked.add(first + i * ratio);
    if (!used && bit(b, i)) marked_unused.add(first + i * ratio);
  }
  if (uninit) return free;
  used_unmarked.report(im, "blocks in use but free in the bitmap", group);
  marked_unused.report(im, "blocks unused but taken in the bitmap", group);
  check_padding(im, b, count, "block bitmap", group);
  if (im.has_csum) {
    const csum = ext4_bitmap_csum(im.seed, b, im.es.s_clusters_per_group / 8);
    if (!ext4_block_bitmap_csum_verify(gdp, im.desc_size, csum)) {
      im.problem("block bitmap with a wrong checksum", { group });
    }
  }
  return free;
}

/** Returns the group's free inodes and its directories. */
function check_inode_bitmap(st: fsck_state, group: number): { free: number; dirs: number } {
  const { im } = st;
  const gdp = im.desc(group);
  const ipg = im.es.s_inodes_per_group;
  const first_ino = im.first_ino;
  const uninit = im.has_group_csum && (gdp.bg_flags & EXT4_BG_INODE_UNINIT) !== 0;
  const b = im.block(im.location(group, "bg_inode_bitmap"));
  const used_unmarked = new difference();
  const marked_unused = new difference();
  let free = 0;
  let dirs = 0;
  for (let i = 0; i < ipg; i++) {
    const ino = group * ipg + i + 1;
    const used = ino < first_ino || st.inodes.has(ino);
    if (!used) free++;
    else if (st.dirs.has(ino)) dirs++;
    if (uninit) continue;
    if (used && !bit(b, i)) used_unmarked.add(ino);
    if (!used && bit(b, i)) marked_unused.add(ino);
  }
  if (uninit) return { free, dirs };
  used_unmarked.report(im, "inodes in use but free in the bitmap", group);
  marked_unused.report(im, "inodes unused but taken in the bitmap", group);
  check_padding(im, b, ipg, "inode bitmap", group);
  if (im.has_csum) {
    const csum = ext4_bitmap_csum(im.seed, b, ipg / 8);
    if (!ext4_inode_bitmap_csum_verify(gdp, im.desc_size, csum)) {
      im.problem("inode bitmap with a wrong checksum", { group });
    }
  }
  return { free, dirs };
}

export function pass5(st: fsck_state): { free_clusters: number; free_inodes: number } {
  const { im } = st;
  im.pass = 5;
  let free_clusters = 0;
  let free_inodes = 0;
  for (let group = 0; group < im.group_count; group++) {
    const gdp = im.desc(group);
    const wide = im.desc_size > 32;
    const count = (lo: number, hi: number) => lo + (wide ? hi * 65536 : 0);
    const expect = (what: string, have: number, should: number) => {
      if (have !== should) im.problem(`${what} is ${have}, should be ${should}`, { group });
    };
    const clusters = check_block_bitmap(st, group);
    const { free, dirs } = check_inode_bitmap(st, group);
    const hi = wide
      ? [gdp.bg_free_blocks_count_hi, gdp.bg_free_inodes_count_hi, gdp.bg_used_dirs_count_hi]
      : [0, 0, 0];
    expect("free blocks count", count(gdp.bg_free_blocks_count_lo, hi[0]!), clusters);
    expect("free inodes count", count(gdp.bg_free_inodes_count_lo, hi[1]!), free);
    expect("directories count", count(gdp.bg_used_dirs_count_lo, hi[2]!), dirs);
    free_clusters += clusters;
    free_inodes += free;
  }
  const { es } = im;
  const sb_free =
    es.s_free_blocks_count_lo + (im.desc_size > 32 ? es.s_free_blocks_count_hi * 2 ** 32 : 0);
  if (sb_free !== free_clusters * im.cluster_ratio) {
    im.problem(
      `the superblock counts ${sb_free} free blocks, there are ${free_clusters * im.cluster_ratio}`,
    );
  }
  if (es.s_free_inodes_count !== free_inodes) {
    im.problem(
      `the superblock counts ${es.s_free_inodes_count} free inodes, there are ${free_inodes}`,
    );
  }
  return { free_clusters, free_inodes };
}
