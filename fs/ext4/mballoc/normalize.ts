/**
 * fs/ext4/mballoc/normalize.ts - turning a request into what is worth looking for.
 * Linux: ext4_mb_normalize_request(), ext4_mb_group_or_file() in fs/ext4/mballoc.c.
 *
 * A growing file is given more than it asks for: its size rounded up to a power of two up to 8 MiB,
 * from a start that is aligned in the file as the run will be on the media. That is why a 2 MiB
 * piece of a file lies on 2 MiB of blocks, and why DAX can map it with one PMD. Units here: blocks.
 */
import type { super_block } from "../../../kernel/include/fs.ts";
import { EXT4_I, EXT4_SB } from "../ext4_fs.ts";
import {
  EXT4_MB_HINT_DATA,
  EXT4_MB_HINT_GOAL_ONLY,
  EXT4_MB_HINT_GROUP_ALLOC,
  EXT4_MB_HINT_NOPREALLOC,
  EXT4_MB_HINT_TRY_GOAL,
  EXT4_MB_STREAM_ALLOC,
  type ext4_allocation_request,
  MB_DEFAULT_GROUP_PREALLOC,
  MB_DEFAULT_STREAM_THRESHOLD,
} from "./types.ts";

/** What is looked for: a run of the file, and where it should lie. */
export interface mb_goal {
  logical: number;
  len: number;
  /** Block, or 0 for none. */
  pblk: number;
  flags: number;
}

/**
 * Small files share the locality group's run, big ones stream, closed ones get just what they ask.
 */
export function ext4_mb_group_or_file(ar: ext4_allocation_request): number {
  const flags = ar.flags;
  if (!(flags & EXT4_MB_HINT_DATA) || flags & EXT4_MB_HINT_GOAL_ONLY) return flags;
  const bits = ar.inode.i_sb.s_blocksize_bits;
  const end = ar.logical + ar.len;
  const isize = Math.ceil(ar.inode.i_size / 2 ** bits);
  if (end === isize && ar.inode.i_writecount <= 0) return flags | EXT4_MB_HINT_NOPREALLOC;
  if (Math.max(end, isize) > MB_DEFAULT_STREAM_THRESHOLD) return flags | EXT4_MB_STREAM_ALLOC;
  // the group's run is not for who wants no preallocation
  if (flags & EXT4_MB_HINT_NOPREALLOC) return flags;
  return flags | EXT4_MB_HINT_GROUP_ALLOC;
}

const KIB = 1024;
const MIB = 1024 * 1024;

/**
 * Start and size in bytes for a file of `size` bytes that asks at `offset` for `wanted` bytes. The
 * window may be smaller than the request: then the rest is asked for again.
 */
function window(
  size: number,
  offset: number,
  wanted: number,
  bits: number,
): { start: number; size: number } {
  for (const limit of [16, 32, 64, 128, 256, 512, 1024]) {
    if (size <= limit * KIB) return { start: 0, size: limit * KIB };
  }
  // largest buddy, in blocks
  const max = 2 * 2 ** bits;
  const aligned = (mib: number) => Math.floor(offset / (mib * MIB)) * mib * MIB;
  if (size <= 4 * MIB || max <= 2048) return { start: aligned(2), size: 2 * MIB };
  if (size <= 8 * MIB || max <= 4096) return { start: aligned(4), size: 4 * MIB };
  if (wanted <= 8 * MIB || max <= 8192) return { start: aligned(8), size: 8 * MIB };
  return { start: offset, size: wanted };
}

/** Cuts the window where the file already has blocks, or runs set aside. */
function clip(
  ar: ext4_allocation_request,
  start: number,
  end: number,
): { start: number; end: number } {
  let from = start;
  let to = end;
  if (ar.pleft && from <= ar.lleft) from = ar.lleft + 1;
  if (ar.pright && to > ar.lright) to = ar.lright;
  const mine = EXT4_I(ar.inode).i_prealloc as Set<{ pa_lstart: number; pa_len: number }> | null;
  if (mine) {
    const ratio = EXT4_SB(ar.inode.i_sb).s_cluster_ratio;
    for (const pa of mine) {
      const pa_end = pa.pa_lstart + pa.pa_len * ratio;
      if (pa_end <= ar.logical) from = Math.max(from, pa_end);
      else if (pa.pa_lstart > ar.logical) to = Math.min(to, pa.pa_lstart);
    }
  }
  return { start: from, end: to };
}

function group_goal(sb: super_block, ar: ext4_allocation_request, flags: number): mb_goal {
  return {
    logical: ar.logical,
    len: Math.min(MB_DEFAULT_GROUP_PREALLOC, EXT4_SB(sb).s_blocks_per_group),
    pblk: ar.goal,
    flags,
  };
}

/** The goal for a request whose flags went through ext4_mb_group_or_file(). */
export function ext4_mb_normalize_request(ar: ext4_allocation_request, flags: number): mb_goal {
  const sb = ar.inode.i_sb;
  const sbi = EXT4_SB(sb);
  const plain: mb_goal = { logical: ar.logical, len: ar.len, pblk: ar.goal, flags };
  if (!(flags & EXT4_MB_HINT_DATA) || flags & EXT4_MB_HINT_GOAL_ONLY) return plain;
  if (flags & EXT4_MB_HINT_NOPREALLOC) return plain;
  if (flags & EXT4_MB_HINT_GROUP_ALLOC) return group_goal(sb, ar, flags);
  const bits = sb.s_blocksize_bits;
  const bsize = 2 ** bits;
  const size = Math.max((ar.logical + ar.len) * bsize, ar.inode.i_size);
  const w = window(size, ar.logical * bsize, ar.len * bsize, bits);
  const per_group = sbi.s_blocks_per_group;
  const start = Math.max(
    Math.floor(w.start / bsize),
    Math.floor(ar.logical / per_group) * per_group,
  );
  const c = clip(ar, start, start + Math.floor(w.size / bsize));
  const len = Math.min(c.end - c.start, per_group);
  if (c.start > ar.logical || c.start + len < ar.logical + 1 || len <= 0) return plain;
  const ratio = sbi.s_cluster_ratio;
  const goal: mb_goal = {
    logical: Math.floor(c.start / ratio) * ratio,
    len: Math.ceil(len / ratio) * ratio,
    pblk: ar.goal,
    flags,
  };
  if (ar.pright && ar.lright === goal.logical + goal.len && ar.pright >= goal.len) {
    goal.pblk = ar.pright - goal.len;
    goal.flags |= EXT4_MB_HINT_TRY_GOAL;
  }
  if (ar.pleft && ar.lleft + 1 === goal.logical) {
    goal.pblk = ar.pleft + 1;
    goal.flags |= EXT4_MB_HINT_TRY_GOAL;
  }
  return goal;
}
