/**
 * tools/cmd/mke2fs/tables.ts - where the bitmaps and inode tables of the groups go.
 *
 * Without flex_bg each group keeps its own. With flex_bg the groups of a flex group put them side
 * by side near its start: all block bitmaps, then all inode bitmaps, then all inode tables.
 */

import { EXT4_BG_INODE_ZEROED, EXT4_FEATURE_INCOMPAT_FLEX_BG } from "../../../fs/ext4/ext4.ts";
import { type ext2_filsys, type group_desc_view, Mke2fsError } from "./filsys.ts";

type location = "bg_block_bitmap" | "bg_inode_bitmap" | "bg_inode_table";

function set_location(gdp: group_desc_view, key: location, blk: number, desc_size: number): void {
  gdp[`${key}_lo`] = blk % 2 ** 32;
  if (desc_size > 32) gdp[`${key}_hi`] = Math.floor(blk / 2 ** 32);
}

function no_room(): Mke2fsError {
  return new Mke2fsError("Could not allocate block in ext2 filesystem: no room for group tables");
}

/**
 * A place for an element of `size` blocks of `group` in its flex group: near `start` (behind the
 * previous group's element) if that is free, else where all that are still to come fit.
 */
function flexbg_offset(fs: ext2_filsys, group: number, start: number, size: number): number {
  const flex_size = 2 ** fs.es.s_log_groups_per_flex;
  const first_group = group - (group % flex_size);
  const last_group = Math.min(first_group + flex_size, fs.group_desc_count) - 1;
  const all = Math.min((last_group - group + 1) * size, Math.floor(fs.es.s_blocks_per_group / 4));
  if (start > 0 && start < fs.blocks_count) {
    const near = fs.get_free_blocks(start, start + all, size);
    if (near >= 0) return near;
  }
  const first = fs.group_first_block(first_group);
  const last = fs.group_last_block(last_group);
  for (const [from, count] of [
    [first, all],
    [first, size],
    [0, size],
  ] as const) {
    const found = fs.get_free_blocks(from, last, count);
    if (found >= 0) return found;
  }
  return start;
}

interface place {
  start: number;
  last: number;
}

/** Finds the blocks of one element, marks them and returns the first. */
function take(fs: ext2_filsys, where: place, fallback: place, size: number, flex: boolean): number {
  let blk = fs.get_free_blocks(where.start, where.last, size);
  if (blk < 0) blk = fs.get_free_blocks(fallback.start, fallback.last, size);
  if (blk < 0) throw no_room();
  if (flex) fs.alloc_range(blk, size);
  else fs.mark_range(blk, size);
  return blk;
}

function allocate_in_group(fs: ext2_filsys, group: number): void {
  const gdp = fs.desc(group);
  const own = { start: fs.group_first_block(group), last: fs.group_last_block(group) };
  const bitmaps = { ...own };
  if (fs.es.s_raid_stride) {
    // spread the bitmaps over the disks of a RAID
    const free = fs.get_free_blocks(own.start, own.last, 1);
    if (free < 0) throw no_room();
    let start = free + fs.inode_blocks_per_group;
    start += (fs.es.s_raid_stride * group) % (own.last - start + 1);
    if (start < own.last) bitmaps.start = start;
  }
  const bb = take(fs, bitmaps, own, 1, false);
  set_location(gdp, "bg_block_bitmap", bb, fs.desc_size);
  const ib = take(fs, bitmaps, own, 1, false);
  set_location(gdp, "bg_inode_bitmap", ib, fs.desc_size);
  const table = take(fs, own, own, fs.inode_blocks_per_group, false);
  set_location(gdp, "bg_inode_table", table, fs.desc_size);
}

function allocate_in_flex_group(fs: ext2_filsys, group: number): void {
  const flex_size = 2 ** fs.es.s_log_groups_per_flex;
  const within = group % flex_size;
  const last_group = Math.min(group - within + flex_size, fs.group_desc_count) - 1;
  const last = fs.group_last_block(last_group);
  const members = last_group - (group - within) + 1;
  // a flex group of one leaves as much room between its elements as a full one
  const spread = members > 1 ? members : flex_size;
  const fallback = { start: fs.group_first_block(group), last };
  const gdp = fs.desc(group);
  const before = within > 0 ? fs.desc(group - 1) : undefined;
  const put = (key: location, prev: number, size: number): number => {
    const start = flexbg_offset(fs, group, prev, size);
    const blk = take(fs, { start, last }, fallback, size, true);
    set_location(gdp, key, blk, fs.desc_size);
    return blk;
  };
  const bb = put("bg_block_bitmap", before ? before.bg_block_bitmap_lo + 1 : 0, 1);
  const ib_after = before ? before.bg_inode_bitmap_lo + 1 : bb + spread;
  const ib = put("bg_inode_bitmap", ib_after, 1);
  const per_group = fs.inode_blocks_per_group;
  const it_after = before ? before.bg_inode_table_lo + per_group : ib + spread;
  put("bg_inode_table", it_after, per_group);
}

/** Bitmaps and inode tables of all groups. */
export function ext2fs_allocate_tables(fs: ext2_filsys): void {
  const flex = fs.has("incompat", EXT4_FEATURE_INCOMPAT_FLEX_BG) && fs.es.s_log_groups_per_flex > 0;
  for (let g = 0; g < fs.group_desc_count; g++) {
    if (flex) allocate_in_flex_group(fs, g);
    else allocate_in_group(fs, g);
  }
}

/**
 * With -E packed_meta_blocks: everything at the very start of the device, kind by kind.
 */
export function packed_allocate_tables(fs: ext2_filsys): void {
  const kinds: readonly [location, number][] = [
    ["bg_block_bitmap", 1],
    ["bg_inode_bitmap", 1],
    ["bg_inode_table", fs.inode_blocks_per_group],
  ];
  for (const [key, size] of kinds) {
    let goal = 0;
    for (let g = 0; g < fs.group_desc_count; g++) {
      const blk = fs.get_free_blocks(goal, fs.blocks_count - 1, size);
      if (blk < 0) throw no_room();
      fs.alloc_range(blk, size);
      set_location(fs.desc(g), key, blk, fs.desc_size);
      goal = blk;
    }
  }
}

/**
 * Zeroes the inode tables: all of them, or (lazily) the part in use, leaving the rest to the kernel
 * after the first mount. `prezeroed`: the device has zeroes there already.
 */
export function write_inode_tables(fs: ext2_filsys, lazy: boolean, prezeroed: boolean): void {
  for (let g = 0; g < fs.group_desc_count; g++) {
    const gdp = fs.desc(g);
    let count = fs.inode_blocks_per_group;
    if (lazy) {
      const used = fs.es.s_inodes_per_group - gdp.bg_itable_unused_lo;
      count = Math.ceil((used * fs.es.s_inode_size) / fs.blocksize);
    }
    if (!lazy || prezeroed) gdp.bg_flags |= EXT4_BG_INODE_ZEROED;
    if (!prezeroed && count > 0) fs.zeros.push([fs.itable(g), count]);
  }
}
