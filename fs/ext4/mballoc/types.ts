/**
 * fs/ext4/mballoc/types.ts - what the block allocator works with. Linux: fs/ext4/mballoc.h.
 *
 * Units: "cluster" numbers are within a group or counts of clusters; "block" numbers are filesystem
 * or file blocks. With cluster_ratio 1 they are the same.
 */
import type { inode, super_block } from "../../../kernel/include/fs.ts";
import { EXT4_SB } from "../ext4_fs.ts";

/** ext4_allocation_request.flags and ext4_allocation_context.ac_flags */
export const EXT4_MB_HINT_MERGE = 0x0001;
export const EXT4_MB_HINT_FIRST = 0x0008;
/** Take what is at the goal, or nothing. */
export const EXT4_MB_HINT_GOAL_ONLY = 0x0040;
/** A regular file's data: may be rounded up and preallocated. */
export const EXT4_MB_HINT_DATA = 0x0020;
export const EXT4_MB_HINT_NOPREALLOC = 0x0080;
/** Small file: from the locality group's run. */
export const EXT4_MB_HINT_GROUP_ALLOC = 0x0100;
export const EXT4_MB_HINT_NOPREALLOC_BIG = 0x0200;
/** The clusters were reserved by delayed allocation: no claim is needed. */
export const EXT4_MB_DELALLOC_RESERVED = 0x0400;
/** Big file: allocations of different files follow each other. */
export const EXT4_MB_STREAM_ALLOC = 0x0800;
export const EXT4_MB_USE_ROOT_BLOCKS = 0x1000;
export const EXT4_MB_USE_RESERVED = 0x2000;
/** The block at the goal would continue the file: try there first. */
export const EXT4_MB_HINT_TRY_GOAL = 0x4000;

/** A request: `len` in is wanted, out is got. Counts of blocks. */
export interface ext4_allocation_request {
  inode: inode;
  /** First file block that gets the new blocks. */
  logical: number;
  len: number;
  goal: number;
  /** Nearest allocated neighbours, file block and its place; 0 in the p* fields: none. */
  lleft: number;
  pleft: number;
  lright: number;
  pright: number;
  flags: number;
}
export const new_request = (inode: inode, logical: number): ext4_allocation_request => ({
  inode,
  logical,
  len: 1,
  goal: 0,
  lleft: 0,
  pleft: 0,
  lright: 0,
  pright: 0,
  flags: 0,
});

/**
 * A run set aside: for one inode, or (pa_inode null) for the locality group. s_mb is the lock: the
 * baton.
 */
export interface ext4_prealloc_space {
  pa_inode: inode | null;
  /** First file block it stands for (inode form), or the next free block (group form). */
  pa_lstart: number;
  pa_pstart: number; // block
  pa_len: number; // clusters
  /** Clusters not handed out yet. Inode form: any of them; group form: the last ones. */
  pa_free: number;
  /** Allocations that took from it and are not on the media yet: it may not be discarded. */
  pa_count: number;
  pa_deleted: boolean;
}

/** What is known of a group in memory. Group lock. */
export interface ext4_group_info {
  readonly group: number;
  /** The bitmap was read and checked. */
  loaded: boolean;
  /** Bitmap not to be believed: nothing is allocated or freed here. */
  corrupt: boolean;
  /** The bitmap with preallocated runs marked used as well. */
  bb_bitmap: Uint8Array;
  /** Free clusters in bb_bitmap. */
  bb_free: number;
  bb_first_free: number;
  /**
   * No aligned free run of a larger order is in here; exact after a search, else an upper bound.
   */
  bb_largest_order: number;
  bb_prealloc_list: Set<ext4_prealloc_space>;
  /** Freed since the last trim. */
  trimmed: boolean;
}

/** sbi.s_mb */
export interface ext4_mb_state {
  readonly groups: (ext4_group_info | undefined)[];
  /** Where the last stream allocation ended. */
  last_group: number;
  last_start: number;
  /** Runs of the locality group. */
  readonly locality: Set<ext4_prealloc_space>;
}

/** Files up to this many blocks use the locality group. */
export const MB_DEFAULT_STREAM_THRESHOLD = 16;
/** Size of a locality group's run, blocks. */
export const MB_DEFAULT_GROUP_PREALLOC = 512;
/** Smallest order that is searched as an aligned power of two. */
export const MB_DEFAULT_ORDER2_REQS = 2;

export function ext4_mb_state(sb: super_block): ext4_mb_state {
  const sbi = EXT4_SB(sb);
  sbi.s_mb ??= {
    groups: new Array(sbi.s_groups_count),
    last_group: 0,
    last_start: 0,
    locality: new Set(),
  } satisfies ext4_mb_state;
  return sbi.s_mb as ext4_mb_state;
}

/** A run of free clusters in a group. */
export interface free_extent {
  group: number;
  start: number;
  len: number;
  /** The run set aside that it was taken from: its pa_count is held. */
  pa?: ext4_prealloc_space;
}
