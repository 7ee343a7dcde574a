/**
 * fs/ext4/mballoc/prealloc.ts - runs set aside: for one growing file, or for all small ones.
 * Linux: the preallocation part of fs/ext4/mballoc.c.
 *
 * A run is used in memory only (bb_bitmap), so a power cut gives it back by itself. It is discarded
 * when the file is closed by its last writer, truncated or gone, and when space runs out.
 * Invariant: a cluster of a run is used in bb_bitmap until it is handed out or the run is
 * discarded.
 */
import type { inode, super_block } from "../../../kernel/include/fs.ts";
import { ext4_read_block_bitmap, find_next_zero_bit, test_bit } from "../balloc.ts";
import { EXT4_B2C, EXT4_I, EXT4_NUM_B2C, EXT4_SB, ext4_group_of_block } from "../ext4_fs.ts";
import { cluster_in_group, ext4_get_group_info, mb_add_pa, mb_mark_free } from "./group.ts";
import type { mb_goal } from "./normalize.ts";
import {
  EXT4_MB_HINT_DATA,
  EXT4_MB_HINT_GROUP_ALLOC,
  type ext4_allocation_request,
  ext4_mb_state,
  type ext4_prealloc_space,
  type free_extent,
} from "./types.ts";

function inode_runs(inode: inode): Set<ext4_prealloc_space> {
  const ei = EXT4_I(inode);
  ei.i_prealloc ??= new Set<ext4_prealloc_space>();
  return ei.i_prealloc as Set<ext4_prealloc_space>;
}

function run_of(sb: super_block, pa: ext4_prealloc_space, pblk: number, len: number): free_extent {
  pa.pa_count++;
  const group = ext4_group_of_block(sb, pblk);
  return { group, start: cluster_in_group(sb, pblk), len, pa };
}

/** Hands out of a run set aside for this place of the file, or of the locality group. */
export function ext4_mb_use_preallocated(
  sb: super_block,
  ar: ext4_allocation_request,
  flags: number,
): free_extent | null {
  if (!(flags & EXT4_MB_HINT_DATA)) return null;
  const sbi = EXT4_SB(sb);
  const need = EXT4_NUM_B2C(sbi, ar.len);
  const mine = EXT4_I(ar.inode).i_prealloc as Set<ext4_prealloc_space> | null;
  for (const pa of mine ?? []) {
    const off = EXT4_B2C(sbi, ar.logical - pa.pa_lstart);
    if (off < 0 || off >= pa.pa_len || pa.pa_free === 0) continue;
    const len = Math.min(need, pa.pa_len - off);
    pa.pa_free -= len;
    return run_of(sb, pa, pa.pa_pstart + off * sbi.s_cluster_ratio, len);
  }
  if (!(flags & EXT4_MB_HINT_GROUP_ALLOC)) return null;
  for (const pa of ext4_mb_state(sb).locality) {
    if (pa.pa_free < need) continue;
    return use_group_pa(sb, pa, need);
  }
  return null;
}

/** The next clusters of a locality run; an empty one is dropped. */
function use_group_pa(sb: super_block, pa: ext4_prealloc_space, need: number): free_extent {
  const sbi = EXT4_SB(sb);
  const at = pa.pa_pstart + (pa.pa_len - pa.pa_free) * sbi.s_cluster_ratio;
  const run = run_of(sb, pa, at, need);
  pa.pa_free -= need;
  if (pa.pa_free === 0) drop(sb, pa);
  return run;
}

function drop(sb: super_block, pa: ext4_prealloc_space): void {
  pa.pa_deleted = true;
  ext4_get_group_info(sb, ext4_group_of_block(sb, pa.pa_pstart)).bb_prealloc_list.delete(pa);
  if (pa.pa_inode) inode_runs(pa.pa_inode).delete(pa);
  else ext4_mb_state(sb).locality.delete(pa);
}

/** Sets a found run aside and hands the asked part out of it. */
export function ext4_mb_set_aside(
  sb: super_block,
  ar: ext4_allocation_request,
  goal: mb_goal,
  run: free_extent,
): free_extent {
  const sbi = EXT4_SB(sb);
  const g = ext4_get_group_info(sb, run.group);
  const need = EXT4_NUM_B2C(sbi, ar.len);
  const ratio = sbi.s_cluster_ratio;
  const first =
    run.group * sbi.s_blocks_per_group + sbi.s_es.s_first_data_block + run.start * ratio;
  if (goal.flags & EXT4_MB_HINT_GROUP_ALLOC) {
    const pa: ext4_prealloc_space = {
      pa_inode: null,
      pa_lstart: first,
      pa_pstart: first,
      pa_len: run.len,
      pa_free: run.len,
      pa_count: 0,
      pa_deleted: false,
    };
    mb_add_pa(sb, g, pa);
    return use_group_pa(sb, pa, need);
  }
  const want = EXT4_NUM_B2C(sbi, goal.len);
  const off = EXT4_B2C(sbi, ar.logical - goal.logical);
  // a run as long as the goal stands for the whole goal; a shorter one lies at the goal's end if
  // the request begins there, else at its start if that covers the request, else begins with the
  // request
  let lstart = goal.logical;
  if (run.len < want) {
    const last = goal.logical + (want - run.len) * ratio;
    if (ar.logical >= last) lstart = last;
    else if (off + need > run.len) lstart = ar.logical;
  }
  const skip = EXT4_B2C(sbi, ar.logical - lstart);
  const len = Math.min(need, run.len - skip);
  const pa: ext4_prealloc_space = {
    pa_inode: ar.inode,
    pa_lstart: lstart,
    pa_pstart: first,
    pa_len: run.len,
    pa_free: run.len - len,
    pa_count: 1,
    pa_deleted: false,
  };
  mb_add_pa(sb, g, pa);
  inode_runs(ar.inode).add(pa);
  return { group: run.group, start: run.start + skip, len, pa };
}

/** Gives back what of a run was not handed out: what is used in memory but not on the media. */
function release(sb: super_block, pa: ext4_prealloc_space, disk: Uint8Array): number {
  const g = ext4_get_group_info(sb, ext4_group_of_block(sb, pa.pa_pstart));
  const start = cluster_in_group(sb, pa.pa_pstart);
  const end = start + pa.pa_len;
  let freed = 0;
  for (let at = find_next_zero_bit(disk, end, start); at < end; ) {
    let to = at + 1;
    while (to < end && !test_bit(disk, to)) to++;
    mb_mark_free(g, at, to - at);
    freed += to - at;
    at = find_next_zero_bit(disk, end, to);
  }
  drop(sb, pa);
  return freed;
}

async function discard(sb: super_block, runs: Iterable<ext4_prealloc_space>): Promise<number> {
  let freed = 0;
  for (const pa of [...runs]) {
    const group = ext4_group_of_block(sb, pa.pa_pstart);
    const bh = await ext4_read_block_bitmap(sb, group, true);
    if (!pa.pa_deleted && pa.pa_count === 0) freed += release(sb, pa, bh.b_data);
  }
  return freed;
}

/** Drops every run kept for this inode: last writer gone, truncate, evict. */
export async function ext4_discard_preallocations(inode: inode): Promise<void> {
  const mine = EXT4_I(inode).i_prealloc as Set<ext4_prealloc_space> | null;
  if (mine && mine.size > 0) await discard(inode.i_sb, mine);
}

/** Space ran out: drops every run there is. True when that freed something. */
export async function ext4_mb_discard_all(sb: super_block): Promise<boolean> {
  let freed = 0;
  for (const g of ext4_mb_state(sb).groups) {
    if (g && g.bb_prealloc_list.size > 0) freed += await discard(sb, g.bb_prealloc_list);
  }
  return freed > 0;
}
