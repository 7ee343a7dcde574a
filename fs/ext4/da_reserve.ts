/**
 * fs/ext4/da_reserve.ts - what delayed allocation has promised: counters, and clusters with both
 * kinds of blocks. Linux: ext4_da_reserve_space() and its siblings in fs/ext4/inode.c, pending
 * reservations in fs/ext4/extents_status.c.
 *
 * The rule: a cluster that holds a delayed-only block counts once in i_reserved_data_blocks and in
 * s_dirtyclusters_counter, unless a block of it is allocated already. Then its place is paid for,
 * and the cluster is noted as pending: should the allocated blocks be freed, it has to be promised
 * again. Without bigalloc a cluster is a block and nothing is ever pending.
 *
 * Locks: i_data_sem (write) for the extent status cache; the counters are plain
 * (i_block_reservation_lock).
 */
import { ENOSPC } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { ext4_charge_blocks } from "./blocks_count.ts";
import { EXT_MAX_BLOCKS } from "./ext4.ts";
import { EXT4_I, EXT4_SB, ext4_warning } from "./ext4_fs.ts";
import { ext4_ext_drop_refs, ext4_ext_next_allocated_block, ext4_find_extent } from "./extents.ts";
import { get_extent, leaf_of } from "./extents_node.ts";
import {
  es_search,
  EXTENT_STATUS_DELAYED,
  ext4_es_insert_extent,
  ext4_es_is_delonly,
  ext4_es_is_mapped,
  ext4_es_remove_extent,
  ext4_es_scan_range,
} from "./extents_status.ts";
import { ext4_claim_free_clusters, ext4_discard_preallocations } from "./mballoc.ts";

const ratio_of = (inode: inode): number => EXT4_SB(inode.i_sb).s_cluster_ratio;

/** Promises one cluster. @throws ENOSPC */
export function ext4_da_reserve_space(inode: inode): void {
  if (!ext4_claim_free_clusters(inode.i_sb, 1, 0)) throw ENOSPC;
  EXT4_I(inode).i_reserved_data_blocks++;
}

function take_back(inode: inode, clusters: number, fn: string): number {
  const ei = EXT4_I(inode);
  let n = clusters;
  if (n > ei.i_reserved_data_blocks) {
    const text =
      `ino ${inode.i_ino}, ${n} clusters with only ${ei.i_reserved_data_blocks} ` +
      `reserved data blocks`;
    ext4_warning(inode.i_sb, fn, text);
    inode.i_sb.kernel.WARN_ON(true, fn);
    n = ei.i_reserved_data_blocks;
  }
  ei.i_reserved_data_blocks -= n;
  EXT4_SB(inode.i_sb).s_dirtyclusters_counter -= n;
  return n;
}

/** The promise is not needed any more: nothing was allocated. */
export function ext4_da_release_space(inode: inode, clusters: number): void {
  if (clusters > 0) take_back(inode, clusters, "ext4_da_release_space");
}

/**
 * Clusters promised are allocated now. `claim`: by writeback, so the inode is charged for them
 * here; otherwise whoever allocated them did that. i_data_sem held.
 */
export async function ext4_da_update_reserve_space(
  inode: inode,
  used: number,
  claim: boolean,
): Promise<void> {
  const n = take_back(inode, used, "ext4_da_update_reserve_space");
  if (claim) await ext4_charge_blocks(inode, n * ratio_of(inode));
  if (EXT4_I(inode).i_reserved_data_blocks === 0 && inode.i_writecount <= 0) {
    await ext4_discard_preallocations(inode);
  }
}

/** Clusters with delayed-only blocks in [lblk, lblk + len). */
export function ext4_es_delayed_clu(inode: inode, lblk: number, len: number): number {
  const t = EXT4_I(inode).i_es_tree;
  const ratio = ratio_of(inode);
  const end = lblk + len;
  let n = 0;
  let counted = -1;
  for (let i = es_search(t, lblk); i < t.lblk.length && t.lblk[i]! < end; i++) {
    if (!ext4_es_is_delonly(t.status[i]!)) continue;
    const from = Math.floor(Math.max(lblk, t.lblk[i]!) / ratio);
    const to = Math.floor((Math.min(end, t.lblk[i]! + t.len[i]!) - 1) / ratio);
    n += to - Math.max(from, counted + 1) + 1;
    counted = Math.max(counted, to);
  }
  return n;
}

// --- clusters with both kinds -------------------------------------------------------------------

export function ext4_is_pending(inode: inode, lblk: number): boolean {
  const ratio = ratio_of(inode);
  if (ratio === 1) return false;
  return EXT4_I(inode).i_pending_tree?.has(Math.floor(lblk / ratio)) ?? false;
}
function set_pending(inode: inode, clu: number, pending: boolean): void {
  const ei = EXT4_I(inode);
  if (pending) (ei.i_pending_tree ??= new Set()).add(clu);
  else ei.i_pending_tree?.delete(clu);
}
const has_delonly = (inode: inode, clu: number): boolean => {
  const ratio = ratio_of(inode);
  return ext4_es_scan_range(inode, ext4_es_is_delonly, clu * ratio, clu * ratio + ratio - 1);
};

/**
 * [lblk, lblk + len) was just allocated: its first and last clusters may hold delayed blocks still.
 */
export function ext4_revise_pending(inode: inode, lblk: number, len: number): void {
  const ratio = ratio_of(inode);
  if (ratio === 1 || len <= 0) return;
  const first = Math.floor(lblk / ratio);
  const last = Math.floor((lblk + len - 1) / ratio);
  for (let clu = first + 1; clu < last; clu++) set_pending(inode, clu, false);
  set_pending(inode, first, has_delonly(inode, first));
  set_pending(inode, last, has_delonly(inode, last));
}

/**
 * The allocated blocks of a pending cluster were freed (EXT4_FREE_BLOCKS_RERESERVE_CLUSTER): its
 * delayed blocks need a promise again, and the inode is charged for it no more.
 */
export async function ext4_rereserve_cluster(inode: inode, lblk: number): Promise<void> {
  const ratio = ratio_of(inode);
  await ext4_charge_blocks(inode, -ratio);
  EXT4_I(inode).i_reserved_data_blocks++;
  EXT4_SB(inode.i_sb).s_dirtyclusters_counter++;
  set_pending(inode, Math.floor(lblk / ratio), false);
}

/** Is a block of this cluster of the file allocated? */
async function ext4_clu_mapped(inode: inode, clu: number): Promise<boolean> {
  const ratio = ratio_of(inode);
  const first = clu * ratio;
  if (ext4_es_scan_range(inode, ext4_es_is_mapped, first, first + ratio - 1)) return true;
  const path = await ext4_find_extent(inode, first);
  try {
    const leaf = leaf_of(path);
    if (leaf.p_ext >= 0) {
      const ex = get_extent(leaf.p_view, leaf.p_ext);
      if (ex.ee_block + ex.ee_len > first) return true;
    }
    const next = ext4_ext_next_allocated_block(path);
    return next !== EXT_MAX_BLOCKS && Math.floor(next / ratio) === clu;
  } finally {
    ext4_ext_drop_refs(path);
  }
}

/**
 * A block of a hole is promised to writeback. i_data_sem held for writing. @throws ENOSPC
 */
export async function ext4_insert_delayed_block(inode: inode, lblk: number): Promise<void> {
  const ratio = ratio_of(inode);
  if (ratio === 1) {
    ext4_da_reserve_space(inode);
  } else {
    const clu = Math.floor(lblk / ratio);
    if (!has_delonly(inode, clu)) {
      if (await ext4_clu_mapped(inode, clu)) set_pending(inode, clu, true);
      else ext4_da_reserve_space(inode);
    }
  }
  ext4_es_insert_extent(inode, lblk, 1, 0, EXTENT_STATUS_DELAYED);
}

/**
 * Forgets a range of the extent status cache, with what was promised for it. i_data_sem (write).
 */
export function ext4_es_drop(inode: inode, lblk: number, len: number): void {
  const ratio = ratio_of(inode);
  if (ratio === 1) {
    ext4_da_release_space(inode, ext4_es_remove_extent(inode, lblk, len));
    return;
  }
  const clusters = delonly_clusters(inode, lblk, len);
  ext4_es_remove_extent(inode, lblk, len);
  let release = 0;
  for (const clu of clusters) {
    if (has_delonly(inode, clu)) continue;
    if (EXT4_I(inode).i_pending_tree?.has(clu)) set_pending(inode, clu, false);
    else release++;
  }
  ext4_da_release_space(inode, release);
}

function delonly_clusters(inode: inode, lblk: number, len: number): Set<number> {
  const t = EXT4_I(inode).i_es_tree;
  const ratio = ratio_of(inode);
  const end = lblk + len;
  const found = new Set<number>();
  for (let i = es_search(t, lblk); i < t.lblk.length && t.lblk[i]! < end; i++) {
    if (!ext4_es_is_delonly(t.status[i]!)) continue;
    const last = Math.min(end, t.lblk[i]! + t.len[i]!) - 1;
    for (let b = Math.max(lblk, t.lblk[i]!); b <= last; b += ratio)
      found.add(Math.floor(b / ratio));
    found.add(Math.floor(last / ratio));
  }
  return found;
}
