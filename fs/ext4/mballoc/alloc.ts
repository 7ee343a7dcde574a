/**
 * fs/ext4/mballoc/alloc.ts - giving out blocks. Linux: ext4_mb_new_blocks() in fs/ext4/mballoc.c.
 *
 * Reading order: ext4_mb_new_blocks -> claim -> use a run set aside -> normalise -> search groups
 * -> mark used on the media -> set the rest aside.
 * A request may be answered with fewer blocks than asked, never with none: then it throws ENOSPC.
 */
import { assert } from "../../../kernel/assert.ts";
import { capable } from "../../../kernel/cred.ts";
import { CAP_SYS_RESOURCE } from "../../../kernel/include/cred.ts";
import { EFSCORRUPTED, ENOSPC } from "../../../kernel/include/errno.ts";
import type { inode, super_block } from "../../../kernel/include/fs.ts";
import {
  ext4_block_bitmap_changed,
  ext4_free_clusters_after_init,
  ext4_group_clusters,
  ext4_read_block_bitmap,
  fill_bits,
  find_next_bit,
} from "../balloc.ts";
import { ext4_sb_block_valid } from "../block_validity.ts";
import { ext4_has_group_desc_csum } from "../csum.ts";
import { EXT4_BG_BLOCK_UNINIT } from "../ext4.ts";
import {
  EXT4_C2B,
  EXT4_NUM_B2C,
  EXT4_SB,
  ext4_error,
  ext4_free_group_clusters,
  ext4_free_group_clusters_set,
  ext4_get_group_desc,
  ext4_group_desc_bh,
  ext4_group_of_block,
  ext4_r_blocks_count,
} from "../ext4_fs.ts";
import {
  ext4_handle_dirty_metadata,
  ext4_journal_get_write_access,
  type handle_t,
} from "../ext4_jbd2.ts";
import {
  block_of_cluster,
  cluster_in_group,
  ext4_mb_load_group,
  ext4_mb_may_have,
  mb_find_best,
  mb_find_buddy,
  mb_fragments,
  mb_free_run,
  mb_mark_used,
  mb_max_order,
} from "./group.ts";
import { ext4_mb_group_or_file, ext4_mb_normalize_request, type mb_goal } from "./normalize.ts";
import { ext4_mb_discard_all, ext4_mb_set_aside, ext4_mb_use_preallocated } from "./prealloc.ts";
import {
  EXT4_MB_DELALLOC_RESERVED,
  EXT4_MB_HINT_DATA,
  EXT4_MB_HINT_GOAL_ONLY,
  EXT4_MB_HINT_NOPREALLOC,
  EXT4_MB_HINT_TRY_GOAL,
  EXT4_MB_STREAM_ALLOC,
  EXT4_MB_USE_RESERVED,
  EXT4_MB_USE_ROOT_BLOCKS,
  type ext4_allocation_request,
  type ext4_group_info,
  ext4_mb_state,
  type free_extent,
  MB_DEFAULT_ORDER2_REQS,
  new_request,
} from "./types.ts";

// --- how much is left -------------------------------------------------------------------------

function may_use_root_blocks(sb: super_block, flags: number): boolean {
  const sbi = EXT4_SB(sb);
  const cred = sb.kernel.current.cred;
  return (
    cred.fsuid === sbi.s_resuid ||
    (sbi.s_resgid !== 0 && (cred.fsgid === sbi.s_resgid || cred.groups.includes(sbi.s_resgid))) ||
    capable(sb.kernel, CAP_SYS_RESOURCE) ||
    (flags & EXT4_MB_USE_ROOT_BLOCKS) !== 0
  );
}

/**
 * Are `nclusters` free for this task, beside what is promised to delayed allocation and to root?
 */
export function ext4_has_free_clusters(sb: super_block, nclusters: number, flags: number): boolean {
  const sbi = EXT4_SB(sb);
  const free = sbi.s_freeclusters_counter;
  const dirty = sbi.s_dirtyclusters_counter;
  const root = Math.floor(ext4_r_blocks_count(sbi.s_es) / sbi.s_cluster_ratio);
  const reserved = sbi.s_resv_clusters;
  if (free >= root + nclusters + dirty + reserved) return true;
  if (may_use_root_blocks(sb, flags) && free >= nclusters + dirty + reserved) return true;
  return (flags & EXT4_MB_USE_RESERVED) !== 0 && free >= nclusters + dirty;
}

/** Promises `nclusters` to the caller; false when there are not enough. */
export function ext4_claim_free_clusters(
  sb: super_block,
  nclusters: number,
  flags: number,
): boolean {
  if (!ext4_has_free_clusters(sb, nclusters, flags)) return false;
  EXT4_SB(sb).s_dirtyclusters_counter += nclusters;
  return true;
}

// --- the search -------------------------------------------------------------------------------

/** The run at the goal, when all of it is free. */
async function find_by_goal(
  sb: super_block,
  goal: mb_goal,
  want: number,
): Promise<free_extent | null> {
  if (!(goal.flags & (EXT4_MB_HINT_TRY_GOAL | EXT4_MB_HINT_GOAL_ONLY)) || goal.pblk === 0)
    return null;
  const group = ext4_group_of_block(sb, goal.pblk);
  if (!(group >= 0 && group < EXT4_SB(sb).s_groups_count)) return null;
  const g = await ext4_mb_load_group(sb, group);
  if (g.corrupt) return null;
  const start = cluster_in_group(sb, goal.pblk);
  const len = mb_free_run(sb, g, start, want);
  return len >= want ? { group, start, len: want } : null;
}

/** Where to begin looking: streaming files go on where the last one stopped. */
function first_group(sb: super_block, goal: mb_goal): number {
  if (goal.flags & EXT4_MB_STREAM_ALLOC) return ext4_mb_state(sb).last_group;
  const g = ext4_group_of_block(sb, goal.pblk);
  return goal.pblk > 0 && g >= 0 && g < EXT4_SB(sb).s_groups_count ? g : 0;
}

/** From this size on a flex group's first group is left to directories, for aligned requests. */
const EXT4_FLEX_SIZE_DIR_ALLOC_SCHEME = 4;

/**
 * What a group must offer to be looked at, by how much has been tried (0: aligned, 3: anything).
 */
function good_group(
  sb: super_block,
  g: ext4_group_info,
  goal: mb_goal,
  want: number,
  cr: number,
): boolean {
  if (g.corrupt || g.bb_free === 0) return false;
  if (cr === 3) return true;
  if (cr === 2) return g.bb_free >= want;
  if (cr === 1) return Math.floor(g.bb_free / mb_fragments(sb, g)) >= want;
  const flex = 2 ** EXT4_SB(sb).s_log_groups_per_flex;
  const first = flex >= EXT4_FLEX_SIZE_DIR_ALLOC_SCHEME && g.group % flex === 0;
  return !(first && goal.flags & EXT4_MB_HINT_DATA) && g.bb_free >= want;
}

/**
 * All groups from the first on, up to four times with falling demands: an aligned power of two,
 * groups with long free runs, groups with enough in all, any. In the end the longest run that was
 * seen.
 */
async function search_groups(
  sb: super_block,
  goal: mb_goal,
  want: number,
): Promise<free_extent | null> {
  const n = EXT4_SB(sb).s_groups_count;
  const from = first_group(sb, goal);
  const order = Math.log2(want);
  const aligned =
    Number.isInteger(order) && order >= MB_DEFAULT_ORDER2_REQS && order <= mb_max_order(sb);
  let longest: free_extent | null = null;
  for (let cr = aligned ? 0 : 1; cr < 4; cr++) {
    for (let i = 0; i < n; i++) {
      const group = (from + i) % n;
      if (!ext4_mb_may_have(sb, group)) continue;
      const g = await ext4_mb_load_group(sb, group);
      if (!good_group(sb, g, goal, want, cr)) continue;
      if (cr === 0) {
        const start = mb_find_buddy(sb, g, order);
        if (start >= 0) return { group, start, len: want };
        continue;
      }
      const best = mb_find_best(sb, g, want);
      if (!best) continue;
      if (best.len >= want) return { group, start: best.start, len: want };
      if (!longest || best.len > longest.len) longest = { group, ...best };
    }
  }
  return longest;
}

// --- on the media -----------------------------------------------------------------------------

/**
 * Marks a run used in the bitmap and the descriptor. The caller has taken it out of the free space
 * in memory. Throws EUCLEAN when the run is part of the metadata or in use already.
 */
export async function ext4_mb_mark_diskspace_used(
  handle: handle_t,
  sb: super_block,
  run: free_extent,
): Promise<void> {
  const sbi = EXT4_SB(sb);
  const { group, start, len } = run;
  const bh = await ext4_read_block_bitmap(sb, group, true);
  const gdp = ext4_get_group_desc(sb, group);
  if (!gdp) throw EFSCORRUPTED;
  const gdp_bh = ext4_group_desc_bh(sb, group);
  await ext4_journal_get_write_access(handle, sb, bh);
  await ext4_journal_get_write_access(handle, sb, gdp_bh);
  const block = block_of_cluster(sb, group, start);
  if (!ext4_sb_block_valid(sb, null, block, EXT4_C2B(sbi, len))) {
    ext4_error(
      sb,
      "ext4_mb_mark_diskspace_used",
      `Allocating blocks ${block}-${block + EXT4_C2B(sbi, len)} which overlap fs metadata`,
    );
    throw EFSCORRUPTED;
  }
  assert(find_next_bit(bh.b_data, start + len, start) === start + len, "block allocated twice");
  fill_bits(bh.b_data, start, len, true);
  if (gdp.bg_flags & EXT4_BG_BLOCK_UNINIT && ext4_has_group_desc_csum(sbi.s_es)) {
    gdp.bg_flags &= ~EXT4_BG_BLOCK_UNINIT;
    ext4_free_group_clusters_set(sb, gdp, ext4_free_clusters_after_init(sb, group, gdp));
  }
  ext4_free_group_clusters_set(sb, gdp, ext4_free_group_clusters(sb, gdp) - len);
  ext4_block_bitmap_changed(sb, group, gdp, bh.b_data);
  sbi.s_freeclusters_counter -= len;
  await ext4_handle_dirty_metadata(handle, null, bh);
  await ext4_handle_dirty_metadata(handle, null, gdp_bh);
}

/** Takes a run found by the search, hands out the part that was asked for, sets the rest aside. */
function take(
  sb: super_block,
  ar: ext4_allocation_request,
  goal: mb_goal,
  found: free_extent,
): free_extent {
  const need = EXT4_NUM_B2C(EXT4_SB(sb), ar.len);
  const s = ext4_mb_state(sb);
  const g = s.groups[found.group]!;
  const keep = (goal.flags & EXT4_MB_HINT_DATA) !== 0 && !(goal.flags & EXT4_MB_HINT_NOPREALLOC);
  const run = keep ? found : { ...found, len: Math.min(found.len, need) };
  mb_mark_used(g, run.start, run.len);
  if (goal.flags & EXT4_MB_STREAM_ALLOC) {
    s.last_group = run.group;
    s.last_start = run.start;
  }
  return keep && run.len > need ? ext4_mb_set_aside(sb, ar, goal, run) : run;
}

/**
 * Allocates up to `ar.len` blocks; returns the first, and the number in `ar.len`.
 * @throws ENOSPC when not even one is to be had; EUCLEAN on bad bitmaps
 */
export async function ext4_mb_new_blocks(
  handle: handle_t,
  ar: ext4_allocation_request,
): Promise<number> {
  const sb = ar.inode.i_sb;
  const sbi = EXT4_SB(sb);
  const reserved = (ar.flags & EXT4_MB_DELALLOC_RESERVED) !== 0;
  let claimed = 0;
  if (!reserved) {
    claimed = EXT4_NUM_B2C(sbi, ar.len);
    while (claimed > 0 && !ext4_claim_free_clusters(sb, claimed, ar.flags)) {
      claimed = Math.floor(claimed / 2);
    }
    if (claimed === 0) throw ENOSPC;
    ar.len = Math.min(ar.len, EXT4_C2B(sbi, claimed));
  }
  let run: free_extent | null = null;
  try {
    run = await find_run(sb, ar, ext4_mb_group_or_file(ar));
    if (!run) throw ENOSPC;
    await ext4_mb_mark_diskspace_used(handle, sb, run);
    ar.len = Math.min(ar.len, EXT4_C2B(sbi, run.len));
    return block_of_cluster(sb, run.group, run.start);
  } finally {
    if (run?.pa) run.pa.pa_count--;
    sbi.s_dirtyclusters_counter -= claimed;
  }
}

async function find_run(
  sb: super_block,
  ar: ext4_allocation_request,
  flags: number,
): Promise<free_extent | null> {
  const sbi = EXT4_SB(sb);
  const aside = ext4_mb_use_preallocated(sb, ar, flags);
  if (aside) return aside;
  const goal = ext4_mb_normalize_request(ar, flags);
  const want = EXT4_NUM_B2C(sbi, goal.len);
  const need = EXT4_NUM_B2C(sbi, ar.len);
  for (let round = 0; ; round++) {
    const g = round < 2 ? goal : { ...goal, flags: goal.flags | EXT4_MB_HINT_NOPREALLOC };
    const size = round < 2 ? want : need;
    const run = (await find_by_goal(sb, g, size)) ?? (await search_groups(sb, g, size));
    if (run && run.start + run.len <= ext4_group_clusters(sb, run.group)) {
      return take(sb, ar, g, run);
    }
    // others may hold runs aside that they do not need
    if (round >= 2 || !(await ext4_mb_discard_all(sb))) return null;
  }
}

/** One or more metadata blocks near `goal`. Returns the first; `count.n` is how many were got. */
export async function ext4_new_meta_blocks(
  handle: handle_t,
  inode: inode,
  goal: number,
  flags: number,
  count: { n: number },
): Promise<number> {
  const ar = new_request(inode, 0);
  ar.goal = goal;
  ar.len = count.n;
  ar.flags = flags;
  const block = await ext4_mb_new_blocks(handle, ar);
  count.n = ar.len;
  return block;
}
