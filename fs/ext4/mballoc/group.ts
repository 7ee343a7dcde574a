/**
 * fs/ext4/mballoc/group.ts - a group's free space in memory, and the searches in it.
 * Linux: fs/ext4/mballoc.c (buddy parts). Differs: no stored buddies: an aligned power of two is found
 * by looking at the bitmap, 64 KiB of which at most belong to a group; results are the same.
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

/** Reads the group's bitmap on first use. A bitmap that is not to be believed makes the group corrupt. */
export function ext4_mb_load_group(sb: super_block, group: number): Sometime<ext4_group_info> {
  const g = ext4_get_group_info(sb, group);
  if (g.loaded || g.corrupt) return g;
  const take = (bits: Uint8Array): ext4_group_info => {
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

/** First free run of 2^order clusters that is aligned to its size, or -1. Larger buddies are broken last. */
export function mb_find_aligned(sb: super_block, g: ext4_group_info, order: number): number {
  if (order > g.bb_largest_order) return -1;
  const max = ext4_group_clusters(sb, g.group);
  const size = 2 ** order;
  let fallback = -1;
  for (let at = Math.floor(g.bb_first_free / size) * size; at + size <= max; at += size) {
    if (find_next_bit(g.bb_bitmap, at + size, at) < at + size) continue;
    // a run whose buddy is free too belongs to a larger one: keep that whole while others exist
    const buddy = at % (2 * size) === 0 ? at + size : at - size;
    const whole =
      buddy + size <= max && find_next_bit(g.bb_bitmap, buddy + size, buddy) >= buddy + size;
    if (!whole) return at;
    if (fallback < 0) fallback = at;
  }
  if (fallback < 0) g.bb_largest_order = order - 1;
  return fallback;
}

/**
 * Best free run for `len` clusters: an exact fit or the smallest that is large enough, else the
 * largest there is. Null when the group is full.
 */
export function mb_find_best(
  sb: super_block,
  g: ext4_group_info,
  len: number,
): { start: number; len: number } | null {
  const max = ext4_group_clusters(sb, g.group);
  let best: { start: number; len: number } | null = null;
  let at = find_next_zero_bit(g.bb_bitmap, max, g.bb_first_free);
  // as many runs as are worth looking at once one is large enough
  let looked = 0;
  while (at < max) {
    const end = find_next_bit(g.bb_bitmap, max, at);
    const run = end - at;
    const enough = run >= len;
    if (best === null) best = { start: at, len: run };
    else if (best.len < len ? run > best.len : enough && run < best.len) {
      best = { start: at, len: run };
    }
    if (run === len) return { start: at, len };
    if (enough && ++looked > 10) break;
    at = find_next_zero_bit(g.bb_bitmap, max, end);
  }
  return best;
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
