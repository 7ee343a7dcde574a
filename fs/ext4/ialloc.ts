/**
 * fs/ext4/ialloc.ts - giving out inodes and taking them back. Linux: fs/ext4/ialloc.c.
 *
 * Reading order: ext4_new_inode -> pick a group (Orlov for directories, near the parent for files)
 * -> claim a bit -> mark on the media -> set up the inode; ext4_free_inode.
 * Locks: the group lock covers bitmap, descriptor and counters; the parent's i_rwsem is held.
 */
import {
  EFSBADCRC,
  EFSCORRUPTED,
  EIO,
  ENOSPC,
  EPERM,
  is_errno,
} from "../../kernel/include/errno.ts";
import type { inode, Sometime, super_block } from "../../kernel/include/fs.ts";
import { S_ISDIR, S_ISLNK, S_ISREG } from "../../kernel/include/stat.ts";
import {
  clear_inode,
  current_time,
  inode_init_owner,
  insert_inode_locked,
  iput,
  new_inode,
  unlock_new_inode,
} from "../../kernel/vfs/inode.ts";
import { type buffer_head, buffer_uptodate, sb_getblk, set_buffer_uptodate } from "../buffer.ts";
import { ext4_inherit_acl, ext4_store_inherited_acl } from "./acl.ts";
import {
  clear_bit,
  ext4_block_bitmap_changed,
  ext4_free_clusters_after_init,
  ext4_group_desc_changed,
  ext4_read_block_bitmap,
  fill_bits,
  find_next_zero_bit,
  set_bit,
  test_bit,
} from "./balloc.ts";
import {
  ext4_bitmap_csum,
  ext4_has_group_desc_csum,
  ext4_has_metadata_csum,
  ext4_inode_bitmap_csum_set,
  ext4_inode_bitmap_csum_verify,
  ext4_inode_csum_seed,
} from "./csum.ts";
import * as M from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MOUNT_GRPID,
  EXT4_SB,
  EXT4_STATE_MAY_INLINE_DATA,
  EXT4_STATE_NEW,
  ext4_blocks_count,
  ext4_error,
  ext4_error_inode,
  ext4_free_group_clusters,
  ext4_free_group_clusters_set,
  ext4_free_inodes_count,
  ext4_free_inodes_set,
  ext4_get_group_desc,
  ext4_group_desc_bh,
  type ext4_group_desc_view,
  ext4_inode_bitmap,
  ext4_itable_unused_count,
  ext4_itable_unused_set,
  ext4_sb_bread,
  ext4_set_inode_state,
  ext4_used_dirs_count,
  ext4_used_dirs_set,
  has_incompat,
  has_ro_compat,
  test_opt,
} from "./ext4_fs.ts";
import {
  ext4_handle_dirty_metadata,
  ext4_handle_sync,
  ext4_journal_get_write_access,
  type handle_t,
  IS_DIRSYNC,
} from "./ext4_jbd2.ts";
import { ext4_iget } from "./iget.ts";
import { ext4_set_inode_flags } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";

// --- the bitmap -------------------------------------------------------------------------------

/** Groups whose inode bitmap was checked, or is not to be believed. */
interface inode_groups {
  seen: Set<number>;
  corrupt: Set<number>;
}
function inode_groups(sb: super_block): inode_groups {
  const sbi = EXT4_SB(sb);
  sbi.s_flex_groups ??= { seen: new Set(), corrupt: new Set() } satisfies inode_groups;
  return sbi.s_flex_groups as inode_groups;
}

const bitmap_bytes = (sb: super_block): number => EXT4_SB(sb).s_inodes_per_group / 8;

function verify(sb: super_block, group: number, gdp: ext4_group_desc_view, bh: buffer_head): void {
  const state = inode_groups(sb);
  if (state.seen.has(group)) return;
  const sbi = EXT4_SB(sb);
  if (ext4_has_metadata_csum(sbi.s_es)) {
    const csum = ext4_bitmap_csum(sbi.s_csum_seed, bh.b_data, bitmap_bytes(sb));
    if (!ext4_inode_bitmap_csum_verify(gdp, sbi.s_desc_size, csum)) {
      state.corrupt.add(group);
      const text = `Corrupt inode bitmap - block_group = ${group}, inode_bitmap = ${bh.b_blocknr}`;
      ext4_error(sb, "ext4_validate_inode_bitmap", text, EFSBADCRC);
      throw EFSBADCRC;
    }
  }
  state.seen.add(group);
}

/** The inode bitmap of a group, checked. Throws EUCLEAN, EBADMSG, EIO. */
export function ext4_read_inode_bitmap(sb: super_block, group: number): Sometime<buffer_head> {
  const sbi = EXT4_SB(sb);
  const gdp = ext4_get_group_desc(sb, group);
  if (!gdp) throw EFSCORRUPTED;
  const block = ext4_inode_bitmap(sb, gdp);
  if (block <= sbi.s_es.s_first_data_block || block >= ext4_blocks_count(sbi.s_es)) {
    const text = `Invalid inode bitmap blk ${block} in block_group ${group}`;
    ext4_error(sb, "ext4_read_inode_bitmap", text);
    throw EFSCORRUPTED;
  }
  if (gdp.bg_flags & M.EXT4_BG_INODE_UNINIT && ext4_has_group_desc_csum(sbi.s_es)) {
    const bh = sb_getblk(sb, block);
    const state = inode_groups(sb);
    if (!state.seen.has(group) || !buffer_uptodate(bh)) {
      if (group === 0) {
        ext4_error(sb, "ext4_read_inode_bitmap", "Inode bitmap for bg 0 marked uninitialized");
        throw EFSCORRUPTED;
      }
      bh.b_data.fill(0);
      fill_bits(
        bh.b_data,
        sbi.s_inodes_per_group,
        sb.s_blocksize * 8 - sbi.s_inodes_per_group,
        true,
      );
      set_buffer_uptodate(bh);
      state.seen.add(group);
    }
    return bh;
  }
  const got = ext4_sb_bread(sb, block);
  const check = (bh: buffer_head): buffer_head => {
    verify(sb, group, gdp, bh);
    return bh;
  };
  return got instanceof Promise ? got.then(check) : check(got);
}

function inode_bitmap_changed(
  sb: super_block,
  group: number,
  gdp: ext4_group_desc_view,
  bh: buffer_head,
): void {
  const sbi = EXT4_SB(sb);
  if (ext4_has_metadata_csum(sbi.s_es)) {
    const csum = ext4_bitmap_csum(sbi.s_csum_seed, bh.b_data, bitmap_bytes(sb));
    ext4_inode_bitmap_csum_set(gdp, sbi.s_desc_size, csum);
  }
  ext4_group_desc_changed(sb, group, gdp);
}

// --- where a new inode goes -------------------------------------------------------------------

/** Groups form flexible groups, and those are what directories are spread over. */
function flex_size(sb: super_block): number {
  return 2 ** EXT4_SB(sb).s_log_groups_per_flex;
}

interface group_stats {
  free_inodes: number;
  free_clusters: number;
  used_dirs: number;
}

function stats_of(sb: super_block, first: number, size: number): group_stats {
  const s: group_stats = { free_inodes: 0, free_clusters: 0, used_dirs: 0 };
  const n = EXT4_SB(sb).s_groups_count;
  for (let g = first * size; g < Math.min(n, (first + 1) * size); g++) {
    const d = ext4_get_group_desc(sb, g);
    if (!d) continue;
    s.free_inodes += ext4_free_inodes_count(sb, d);
    s.free_clusters += ext4_free_group_clusters(sb, d);
    s.used_dirs += ext4_used_dirs_count(sb, d);
  }
  return s;
}

/** First group of the flex group with a free inode, or -1. */
function group_with_inode(sb: super_block, flex: number, size: number): number {
  const n = EXT4_SB(sb).s_groups_count;
  for (let g = flex * size; g < Math.min(n, (flex + 1) * size); g++) {
    const d = ext4_get_group_desc(sb, g);
    if (d && ext4_free_inodes_count(sb, d) > 0) return g;
  }
  return -1;
}

/**
 * Orlov: top-level directories are spread out, others stay near their parent unless it is crowded.
 */
function find_group_orlov(sb: super_block, parent: inode): number {
  const sbi = EXT4_SB(sb);
  const size = flex_size(sb);
  const ngroups = Math.ceil(sbi.s_groups_count / size);
  const avefreei = Math.floor(sbi.s_freeinodes_counter / ngroups);
  const avefreec = Math.floor(sbi.s_freeclusters_counter / ngroups);
  const ndirs = sbi.s_dirs_counter;
  const top = parent === sb.s_root?.d_inode || (EXT4_I(parent).i_flags & M.EXT4_TOPDIR_FL) !== 0;
  const start = Math.floor(EXT4_I(parent).i_block_group / size);
  if (top) {
    let best = -1;
    let best_dirs = Number.POSITIVE_INFINITY;
    const from = sb.kernel.machine.random.below(ngroups);
    for (let i = 0; i < ngroups; i++) {
      const f = (from + i) % ngroups;
      const s = stats_of(sb, f, size);
      if (s.free_inodes === 0 || s.used_dirs >= best_dirs) continue;
      if (s.free_inodes < avefreei || s.free_clusters < avefreec) continue;
      best = f;
      best_dirs = s.used_dirs;
    }
    if (best >= 0) return group_with_inode(sb, best, size);
  } else {
    const max_dirs = ndirs / ngroups + (sbi.s_inodes_per_group * size) / 16;
    const min_inodes = Math.max(1, avefreei - (sbi.s_inodes_per_group * size) / 4);
    const min_clusters = avefreec - (sbi.s_clusters_per_group * size) / 4;
    for (let i = 0; i < ngroups; i++) {
      const f = (start + i) % ngroups;
      const s = stats_of(sb, f, size);
      if (s.used_dirs >= max_dirs || s.free_inodes < min_inodes) continue;
      if (s.free_clusters < min_clusters) continue;
      const g = group_with_inode(sb, f, size);
      if (g >= 0) return g;
    }
  }
  for (let i = 0; i < ngroups; i++) {
    const f = (start + i) % ngroups;
    if (stats_of(sb, f, size).free_inodes < avefreei) continue;
    const g = group_with_inode(sb, f, size);
    if (g >= 0) return g;
  }
  return any_group(sb, start * size);
}

/** Files go where the parent is, while there is room for inode and data. */
function find_group_other(sb: super_block, parent: inode): number {
  const n = EXT4_SB(sb).s_groups_count;
  const from = EXT4_I(parent).i_block_group;
  const size = flex_size(sb);
  const flex = Math.floor(from / size);
  const near = group_with_inode(sb, flex, size);
  if (size > 1 && near >= 0) return near;
  const fits = (g: number): boolean => {
    const d = ext4_get_group_desc(sb, g);
    return !!d && ext4_free_inodes_count(sb, d) > 0 && ext4_free_group_clusters(sb, d) > 0;
  };
  if (fits(from)) return from;
  let g = (from + parent.i_ino) % n;
  for (let i = 1; i < n; i *= 2) {
    g = (g + i) % n;
    if (fits(g)) return g;
  }
  return any_group(sb, from);
}

function any_group(sb: super_block, from: number): number {
  const n = EXT4_SB(sb).s_groups_count;
  for (let i = 0; i < n; i++) {
    const d = ext4_get_group_desc(sb, (from + i) % n);
    if (d && ext4_free_inodes_count(sb, d) > 0) return (from + i) % n;
  }
  return -1;
}

// --- claiming ---------------------------------------------------------------------------------

/** Finds and sets a free bit, beginning in `group`. Returns the inode number. Throws ENOSPC. */
async function claim(
  handle: handle_t,
  sb: super_block,
  first_group: number,
  goal: number,
  dir: boolean,
): Promise<number> {
  const sbi = EXT4_SB(sb);
  const n = sbi.s_groups_count;
  for (let i = 0; i < n; i++) {
    const group = (first_group + i) % n;
    const gdp = ext4_get_group_desc(sb, group);
    if (!gdp || ext4_free_inodes_count(sb, gdp) === 0) continue;
    if (inode_groups(sb).corrupt.has(group)) continue;
    let bh: buffer_head;
    try {
      bh = await ext4_read_inode_bitmap(sb, group);
    } catch (e) {
      if (!is_errno(e)) throw e;
      continue;
    }
    const from = i === 0 ? goal : 0;
    const first = group === 0 ? Math.max(from, sbi.s_first_ino - 1) : from;
    let bit = find_next_zero_bit(bh.b_data, sbi.s_inodes_per_group, first);
    if (bit >= sbi.s_inodes_per_group && first > 0) {
      bit = find_next_zero_bit(
        bh.b_data,
        sbi.s_inodes_per_group,
        group === 0 ? sbi.s_first_ino - 1 : 0,
      );
    }
    if (bit >= sbi.s_inodes_per_group) continue;
    await mark_used(handle, sb, group, gdp, bh, bit, dir);
    return group * sbi.s_inodes_per_group + bit + 1;
  }
  throw ENOSPC;
}

/** The first inode of a group whose block bitmap was never written makes that bitmap real too. */
async function init_block_bitmap_of(
  handle: handle_t,
  sb: super_block,
  group: number,
  gdp: ext4_group_desc_view,
): Promise<void> {
  if (!ext4_has_group_desc_csum(EXT4_SB(sb).s_es)) return;
  if (!(gdp.bg_flags & M.EXT4_BG_BLOCK_UNINIT)) return;
  const bh = await ext4_read_block_bitmap(sb, group);
  await ext4_journal_get_write_access(handle, sb, bh);
  gdp.bg_flags &= ~M.EXT4_BG_BLOCK_UNINIT;
  ext4_free_group_clusters_set(sb, gdp, ext4_free_clusters_after_init(sb, group, gdp));
  ext4_block_bitmap_changed(sb, group, gdp, bh.b_data);
  await ext4_handle_dirty_metadata(handle, null, bh);
}

async function mark_used(
  handle: handle_t,
  sb: super_block,
  group: number,
  gdp: ext4_group_desc_view,
  bh: buffer_head,
  bit: number,
  dir: boolean,
): Promise<void> {
  const sbi = EXT4_SB(sb);
  await ext4_journal_get_write_access(handle, sb, bh);
  const gdp_bh = ext4_group_desc_bh(sb, group);
  await ext4_journal_get_write_access(handle, sb, gdp_bh);
  await init_block_bitmap_of(handle, sb, group, gdp);
  set_bit(bh.b_data, bit);
  if (ext4_has_group_desc_csum(sbi.s_es)) {
    let unused = ext4_itable_unused_count(sb, gdp);
    if (gdp.bg_flags & M.EXT4_BG_INODE_UNINIT) {
      gdp.bg_flags &= ~M.EXT4_BG_INODE_UNINIT;
      unused = sbi.s_inodes_per_group;
    }
    // inodes behind the used ones have never been written
    if (bit + 1 > sbi.s_inodes_per_group - unused) unused = sbi.s_inodes_per_group - bit - 1;
    ext4_itable_unused_set(sb, gdp, unused);
  }
  ext4_free_inodes_set(sb, gdp, ext4_free_inodes_count(sb, gdp) - 1);
  if (dir) {
    ext4_used_dirs_set(sb, gdp, ext4_used_dirs_count(sb, gdp) + 1);
    sbi.s_dirs_counter++;
  }
  sbi.s_freeinodes_counter--;
  inode_bitmap_changed(sb, group, gdp, bh);
  await ext4_handle_dirty_metadata(handle, null, bh);
  await ext4_handle_dirty_metadata(handle, null, gdp_bh);
}

// --- a new inode ------------------------------------------------------------------------------

/** Flags that a child takes over from its directory, by type. */
const INHERITED =
  M.EXT4_SECRM_FL |
  M.EXT4_UNRM_FL |
  M.EXT4_COMPR_FL |
  M.EXT4_SYNC_FL |
  M.EXT4_NODUMP_FL |
  M.EXT4_NOATIME_FL |
  M.EXT4_NOCOMPR_FL |
  M.EXT4_JOURNAL_DATA_FL |
  M.EXT4_NOTAIL_FL |
  M.EXT4_DIRSYNC_FL |
  M.EXT4_PROJINHERIT_FL |
  M.EXT4_CASEFOLD_FL |
  M.EXT4_DAX_FL;
const NOT_FOR_FILES =
  M.EXT4_DIRSYNC_FL | M.EXT4_TOPDIR_FL | M.EXT4_CASEFOLD_FL | M.EXT4_PROJINHERIT_FL;

export function ext4_mask_flags(mode: number, flags: number): number {
  if (S_ISDIR(mode)) return flags >>> 0;
  if (S_ISREG(mode)) return (flags & ~NOT_FOR_FILES) >>> 0;
  return (flags & (M.EXT4_NODUMP_FL | M.EXT4_NOATIME_FL)) >>> 0;
}

function init_owner(inode: inode, dir: inode, mode: number): void {
  if (test_opt(inode.i_sb, EXT4_MOUNT_GRPID)) {
    inode_init_owner(inode, null, mode);
    inode.i_gid = dir.i_gid;
  } else {
    inode_init_owner(inode, dir, mode);
  }
}

function init_fields(inode: inode, dir: inode, ino: number): void {
  const sb = inode.i_sb;
  const sbi = EXT4_SB(sb);
  const ei = EXT4_I(inode);
  (inode as { i_ino: number }).i_ino = ino;
  inode.i_blocks = 0;
  const now = current_time(inode);
  inode.i_mtime = now;
  inode.i_atime = now;
  inode.i_ctime = now;
  ei.i_crtime = now;
  ei.i_data.fill(0);
  ei.i_disksize = 0;
  ei.i_dir_start_lookup = 0;
  ei.i_flags = ext4_mask_flags(inode.i_mode, EXT4_I(dir).i_flags & INHERITED);
  ei.i_file_acl = 0;
  ei.i_dtime = 0;
  ei.i_block_group = Math.floor((ino - 1) / sbi.s_inodes_per_group);
  ei.i_last_alloc_group = -1;
  inode.i_generation = sb.kernel.machine.random.u32();
  ei.i_csum_seed = ext4_has_metadata_csum(sbi.s_es)
    ? ext4_inode_csum_seed(sbi.s_csum_seed, ino, inode.i_generation)
    : 0;
  ei.i_extra_isize = sbi.s_want_extra_isize;
  ei.i_inline_off = 0;
  // data that is to be mapped cannot be in the inode
  const may_inline = S_ISDIR(inode.i_mode) || (ei.i_flags & M.EXT4_DAX_FL) === 0;
  if (may_inline && has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_INLINE_DATA)) {
    ext4_set_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
  }
  const project = has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_PROJECT);
  const inherits = (EXT4_I(dir).i_flags & M.EXT4_PROJINHERIT_FL) !== 0;
  ei.i_projid = project && inherits ? EXT4_I(dir).i_projid : 0;
  ext4_set_inode_state(inode, EXT4_STATE_NEW);
}

/**
 * A new inode with i_nlink 1, locked as I_NEW, counted and on its way to the media. `goal` is an
 * inode number to be near, 0 for none. The caller sets operations, links it and calls
 * unlock_new_inode.
 * @throws ENOSPC no inode is free; EPERM the directory is gone; EUCLEAN, EIO
 */
export async function ext4_new_inode(
  handle: handle_t,
  dir: inode,
  mode: number,
  goal = 0,
  extra_flags = 0,
): Promise<inode> {
  const sb = dir.i_sb;
  const sbi = EXT4_SB(sb);
  if (dir.i_nlink === 0) throw EPERM;
  const isdir = S_ISDIR(mode);
  let group: number;
  let bit = 0;
  if (goal > 0 && goal <= sbi.s_es.s_inodes_count) {
    group = Math.floor((goal - 1) / sbi.s_inodes_per_group);
    bit = (goal - 1) % sbi.s_inodes_per_group;
  } else {
    group = isdir ? find_group_orlov(sb, dir) : find_group_other(sb, dir);
  }
  if (group < 0) throw ENOSPC;
  const ino = await claim(handle, sb, group, bit, isdir);
  const inode = new_inode(sb);
  try {
    init_owner(inode, dir, mode);
    init_fields(inode, dir, ino);
    EXT4_I(inode).i_flags = (EXT4_I(inode).i_flags | extra_flags) >>> 0;
    ext4_set_inode_flags(inode, true);
    if (IS_DIRSYNC(inode)) ext4_handle_sync(handle);
    insert_inode_locked(inode);
    if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_EXTENTS) && uses_blocks(mode)) {
      init_extent_tree(inode);
    }
    EXT4_I(inode).i_datasync_tid = 0;
    const is_value = (extra_flags & M.EXT4_EA_INODE_FL) !== 0;
    const acl = is_value ? null : await ext4_inherit_acl(inode, dir);
    await ext4_mark_inode_dirty(handle, inode, "ext4_new_inode");
    if (acl) await ext4_store_inherited_acl(handle, inode, acl);
  } catch (e) {
    inode.i_nlink = 0;
    unlock_new_inode(inode);
    await iput(inode);
    throw e;
  }
  return inode;
}

const uses_blocks = (mode: number): boolean => S_ISDIR(mode) || S_ISREG(mode) || S_ISLNK(mode);

/** An empty extent tree in i_block: a header without entries. */
export function init_extent_tree(inode: inode): void {
  const ei = EXT4_I(inode);
  ei.i_flags = (ei.i_flags | M.EXT4_EXTENTS_FL) >>> 0;
  ei.i_data.fill(0);
  const v = ei.i_data_view;
  v.setUint16(0, M.EXT4_EXT_MAGIC, true);
  v.setUint16(4, 4, true); // entries that fit in 60 bytes
}

// --- and back ---------------------------------------------------------------------------------

/** Gives the inode's number back. Its blocks and attributes are gone already. */
export async function ext4_free_inode(handle: handle_t, inode: inode): Promise<void> {
  const sb = inode.i_sb;
  const sbi = EXT4_SB(sb);
  const ino = inode.i_ino;
  const isdir = S_ISDIR(inode.i_mode);
  clear_inode(inode);
  if (ino < sbi.s_first_ino || ino > sbi.s_es.s_inodes_count) {
    ext4_error(sb, "ext4_free_inode", `reserved or nonexistent inode ${ino}`);
    return;
  }
  const group = Math.floor((ino - 1) / sbi.s_inodes_per_group);
  const bit = (ino - 1) % sbi.s_inodes_per_group;
  const bh = await ext4_read_inode_bitmap(sb, group);
  const gdp = ext4_get_group_desc(sb, group);
  if (!gdp) throw EFSCORRUPTED;
  const gdp_bh = ext4_group_desc_bh(sb, group);
  await ext4_journal_get_write_access(handle, sb, bh);
  await ext4_journal_get_write_access(handle, sb, gdp_bh);
  if (!test_bit(bh.b_data, bit)) {
    ext4_error(sb, "ext4_free_inode", `bit already cleared for inode ${ino}`);
    inode_groups(sb).corrupt.add(group);
    return;
  }
  clear_bit(bh.b_data, bit);
  ext4_free_inodes_set(sb, gdp, ext4_free_inodes_count(sb, gdp) + 1);
  if (isdir) {
    ext4_used_dirs_set(sb, gdp, ext4_used_dirs_count(sb, gdp) - 1);
    sbi.s_dirs_counter--;
  }
  sbi.s_freeinodes_counter++;
  inode_bitmap_changed(sb, group, gdp, bh);
  await ext4_handle_dirty_metadata(handle, null, bh);
  await ext4_handle_dirty_metadata(handle, null, gdp_bh);
}

/** An orphan's inode, checked against the bitmap. Throws EUCLEAN, EIO. */
export async function ext4_orphan_get(sb: super_block, ino: number): Promise<inode> {
  const sbi = EXT4_SB(sb);
  if (ino < sbi.s_first_ino || ino > sbi.s_es.s_inodes_count) {
    ext4_error(sb, "ext4_orphan_get", `bad orphan inode ${ino}`);
    throw EFSCORRUPTED;
  }
  const group = Math.floor((ino - 1) / sbi.s_inodes_per_group);
  const bh = await ext4_read_inode_bitmap(sb, group);
  if (!test_bit(bh.b_data, (ino - 1) % sbi.s_inodes_per_group)) {
    ext4_error(sb, "ext4_orphan_get", `bad orphan inode ${ino}: not in use`);
    throw EFSCORRUPTED;
  }
  const inode = await ext4_iget(sb, ino, 0);
  if (
    inode.i_nlink > 0 &&
    !S_ISREG(inode.i_mode) &&
    !S_ISDIR(inode.i_mode) &&
    !S_ISLNK(inode.i_mode)
  ) {
    ext4_error_inode(inode, "ext4_orphan_get", 0, "bad orphan inode: cannot be truncated");
    await iput(inode);
    throw EIO;
  }
  return inode;
}
