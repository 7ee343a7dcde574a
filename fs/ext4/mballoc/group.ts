/**
 * fs/ext4/mballoc/group.ts - a group's free space in memory, and the searches in it.
 * Linux: fs/ext4/mballoc.c (buddy parts). Differs: no stored buddies: an aligned power of two is
 * found by looking at the bitmap, 64 KiB of which at most belong to a group; results are the same.
 */
import { is_errno } from "../../../kernel/include/errno.ts";
import type { Sometime, super_block } from "../../../kernel/include/fs.ts";
import {
  ext4_group_clusters,
  ext4_read_block_bitmap,
  fill_bits,
  find_next_bit,
  find_next_zero_bit,
  test_bit,
} from "../balloc.ts";
import {
  EXT4_B2C,
  EXT4_SB,
  ext4_free_group_clusters,
  ext4_get_group_desc,
  ext4_group_first_block_no,
} from "../ext4_fs.ts";
import { ext4_mb_state, type ext4_group_info, type ext4_prealloc_space } from "./types.ts";

/** The group's entry, made on first use; not loaded yet. */
export function ext4_get_group_info(sb: super_block, group: number): ext4_group_info {
  const s = ext4_mb_state(sb);
  let g = s.groups[group];
  if (!g) {
    g = {
      group,
      loaded: false,
      corrupt: false,
      bb_bitmap: new Uint8Array(0),
      bb_free: 0,
      bb_first_free: 0,
      bb_largest_order: 31,
      bb_prealloc_list: new Set(),
      trimmed: false,
    };
    s.groups[group] = g;
  }
  return g;
}

function count_free(map: Uint8Array, max: number): number {
  let n = 0;
  for (let i = 0; i < max; ) {
    if ((i & 7) === 0 && i + 8 <= max) {
      const b = map[i >> 3]!;
      if (b === 0) n += 8;
      else if (b !== 0xff) for (let k = 0; k < 8; k++) if (!((b >> k) & 1)) n++;
      i += 8;
    } else {
      if (!test_bit(map, i)) n++;
      i++;
    }
  }
  return n;
}

/**
 * Reads the group's bitmap on first use. A bitmap that is not to be believed makes the group
 * corrupt.
 */
export function ext4_mb_load_group(sb: super_block, group: number): Sometime<ext4_group_info> {
  const g = ext4_get_group_info(sb, group);
  if (g.loaded || g.corrupt) return g;
  const take = (bits: Uint8Array): ext4_group_info => {
    // Somebody else read it meanwhile, and may have given out some of it.
    if (g.loaded) return g;
    g.bb_bitmap = bits.slice();
    const max = ext4_group_clusters(sb, group);
    g.bb_free = count_free(g.bb_bitmap, max);
    g.bb_first_free = find_next_zero_bit(g.bb_bitmap, max, 0);
    g.bb_largest_order = 31;
    g.loaded = true;
    return g;
  };
  const broken = (e: unknown): ext4_group_info => {
    if (!is_errno(e)) throw e;
    g.corrupt = true;
    return g;
  };
  try {
    const got = ext4_read_block_bitmap(sb, group);
    if (got instanceof Promise) return got.then((bh) => take(bh.b_data), broken);
    return take(got.b_data);
  } catch (e) {
    return broken(e);
  }
}

/** May anything be got here? Cheap: from the descriptor when the bitmap was not read. */
export function ext4_mb_may_have(sb: super_block, group: number): boolean {
  const g = ext4_get_group_info(sb, group);
  if (g.corrupt) return false;
  if (g.loaded) return g.bb_free > 0;
  const d = ext4_get_group_desc(sb, group);
  return d !== null && ext4_free_group_clusters(sb, d) > 0;
}

/** In-memory only: `len` clusters from `start` are used (or set aside). */
export function mb_mark_used(g: ext4_group_info, start: number, len: number): void {
  fill_bits(g.bb_bitmap, start, len, true);
  g.bb_free -= len;
  if (start === g.bb_first_free) g.bb_first_free = start + len;
}
/** In-memory only: the opposite. */
export function mb_mark_free(g: ext4_group_info, start: number, len: number): void {
  fill_bits(g.bb_bitmap, start, len, false);
  g.bb_free += len;
  if (start < g.bb_first_free) g.bb_first_free = start;
  g.bb_largest_order = 31;
  g.trimmed = false;
}

/** Length of the free run at `start`, at most `max`. */
export function mb_free_run(
  sb: super_block,
  g: ext4_group_info,
  start: number,
  max: number,
): number {
  const end = Math.min(ext4_group_clusters(sb, g.group), start + max);
  if (start >= end) return 0;
  return find_next_bit(g.bb_bitmap, end, start) - start;
}

/** Largest buddy: two groups' worth of blocks would not be more. Orders 0 to blocksize_bits + 1. */
export const mb_max_order = (sb: super_block): number => sb.s_blocksize_bits + 1;

/**
 * Order of the buddy that begins at free cluster `at` of a free run ending at `end`: the largest
 * aligned power of two. Free runs break into buddies in one way only, as neighbours merge whenever
 * both are free.
 */
function buddy_order(sb: super_block, at: number, end: number): number {
  const aligned = at === 0 ? 31 : 31 - Math.clz32(at & -at);
  const fits = 31 - Math.clz32(end - at);
  return Math.min(aligned, fits, mb_max_order(sb));
}

/**
 * The buddy of the smallest order not below `order`, the first of that order; -1 when the group has
 * none. So a run of 2^order clusters is aligned to its size, and large buddies are broken last.
 */
export function mb_find_buddy(sb: super_block, g: ext4_group_info, order: number): number {
  if (order > g.bb_largest_order) return -1;
  const max = ext4_group_clusters(sb, g.group);
  let best = -1;
  let best_order = 32;
  let largest = -1;
  for (let at = find_next_zero_bit(g.bb_bitmap, max, g.bb_first_free); at < max; ) {
    const end = find_next_bit(g.bb_bitmap, max, at);
    while (at < end) {
      const o = buddy_order(sb, at, end);
      if (o > largest) largest = o;
      if (o >= order && o < best_order) {
        best = at;
        best_order = o;
        if (o === order) return at;
      }
      at += 2 ** o;
    }
    at = find_next_zero_bit(g.bb_bitmap, max, end);
  }
  g.bb_largest_order = largest;
  return best;
}

/** A candidate of a search; `len` may be more than was asked for, as whole buddies are joined. */
export interface mb_candidate {
  start: number;
  len: number;
}

/** Buddies from `at` on, joined until `needed` is reached or the run ends. */
function joined(sb: super_block, at: number, end: number, needed: number): number {
  let len = 0;
  while (len < needed && at + len < end) len += 2 ** buddy_order(sb, at + len, end);
  return len;
}

/** More than so many candidates: take the best so far, once it is long enough. */
const MB_MIN_TO_SCAN = 10;
const MB_MAX_TO_SCAN = 200;

/**
 * Looks through a group's free space for `len` clusters: an exact fit ends the search, else the
 * smallest candidate that is long enough, else the longest. Null: the group is full.
 */
export function mb_find_best(
  sb: super_block,
  g: ext4_group_info,
  len: number,
): mb_candidate | null {
  const max = ext4_group_clusters(sb, g.group);
  let best: mb_candidate | null = null;
  let found = 0;
  let at = find_next_zero_bit(g.bb_bitmap, max, g.bb_first_free);
  while (at < max) {
    const end = find_next_bit(g.bb_bitmap, max, at);
    const got = joined(sb, at, end, len);
    found++;
    if (got === len) return { start: at, len };
    if (best === null || better(got, best.len, len)) best = { start: at, len: got };
    if (found > MB_MAX_TO_SCAN || (found > MB_MIN_TO_SCAN && best.len >= len)) break;
    at = find_next_zero_bit(g.bb_bitmap, max, at + got);
  }
  return best;
}

function better(got: number, best: number, wanted: number): boolean {
  if (best < wanted) return got > best;
  return got > wanted && got < best;
}

/** Free runs of a group: how broken up its space is. */
export function mb_fragments(sb: super_block, g: ext4_group_info): number {
  const max = ext4_group_clusters(sb, g.group);
  let n = 0;
  for (let at = find_next_zero_bit(g.bb_bitmap, max, g.bb_first_free); at < max; n++) {
    at = find_next_zero_bit(g.bb_bitmap, max, find_next_bit(g.bb_bitmap, max, at));
  }
  return n;
}

/** Cluster of a block within its group. */
export function cluster_in_group(sb: super_block, block: number): number {
  const sbi = EXT4_SB(sb);
  const off = (block - sbi.s_es.s_first_data_block) % sbi.s_blocks_per_group;
  return EXT4_B2C(sbi, off);
}
export function block_of_cluster(sb: super_block, group: number, cluster: number): number {
  return ext4_group_first_block_no(sb, group) + cluster * EXT4_SB(sb).s_cluster_ratio;
}

/** Puts a run aside for later. */
export function mb_add_pa(sb: super_block, g: ext4_group_info, pa: ext4_prealloc_space): void {
  g.bb_prealloc_list.add(pa);
  if (!pa.pa_inode) ext4_mb_state(sb).locality.add(pa);
}
