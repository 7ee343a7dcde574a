/**
 * fs/ext4/inode.ts - the in-memory inode, where it stands on the media, and the block map.
 * Linux: fs/ext4/inode.c. Reading an inode in: iget.ts. The map as iomap sees it: iomap.ts.
 *
 * ext4_map_blocks() is asked on every read, write and fault: what the extent status cache knows is
 * answered without a promise and without allocating. Otherwise the tree is read under i_data_sem
 * (read) and the answer remembered; a block that has to be made is the write side's work, which
 * takes i_data_sem for writing itself.
 */
import { EFSCORRUPTED, EIO, is_errno } from "../../kernel/include/errno.ts";
import type { inode, Sometime, super_block } from "../../kernel/include/fs.ts";
import { S_DAX, S_ENCRYPTED, S_VERITY } from "../../kernel/include/fs.ts";
import {
  S_APPEND,
  S_CASEFOLD,
  S_DIRSYNC,
  S_IMMUTABLE,
  S_NOATIME,
  S_SYNC,
} from "../../kernel/include/fs.ts";
import { S_ISLNK, S_ISREG } from "../../kernel/include/stat.ts";
import { lock_class } from "../../kernel/locking/lock.ts";
import { rw_semaphore } from "../../kernel/locking/rwsem.ts";
import { spinlock } from "../../kernel/locking/spinlock.ts";
import type { buffer_head } from "../buffer.ts";
import { ext4_inode_block_valid } from "./block_validity.ts";
import {
  EXT4_APPEND_FL,
  EXT4_CASEFOLD_FL,
  EXT4_DAX_FL,
  EXT4_DIRSYNC_FL,
  EXT4_ENCRYPT_FL,
  EXT4_EXTENTS_FL,
  EXT4_FEATURE_INCOMPAT_EA_INODE,
  EXT4_IMMUTABLE_FL,
  EXT4_INLINE_DATA_FL,
  EXT4_JOURNAL_DATA_FL,
  EXT4_NOATIME_FL,
  EXT4_ROOT_INO,
  EXT4_SYNC_FL,
  EXT4_VERITY_FL,
  EXT_MAX_BLOCKS,
} from "./ext4.ts";
import {
  EXT4_FLAGS_BDEV_IS_DAX,
  EXT4_GET_BLOCKS_CACHED_NOWAIT,
  EXT4_GET_BLOCKS_CONVERT_UNWRITTEN,
  EXT4_GET_BLOCKS_CREATE,
  EXT4_GET_BLOCKS_DELALLOC_RESERVE,
  EXT4_I,
  EXT4_MAP_MAPPED,
  EXT4_MAP_UNWRITTEN,
  EXT4_MOUNT2_DAX_NEVER,
  EXT4_MOUNT_DAX_ALWAYS,
  EXT4_MOUNT_JOURNAL_DATA,
  EXT4_SB,
  type ext4_inode_info,
  type ext4_map_blocks_t,
  data_mode,
  ext4_blocks_count,
  ext4_error,
  ext4_error_inode,
  ext4_get_group_desc,
  ext4_inode_table,
  ext4_sb_bread,
  ext4_test_inode_flag,
  has_incompat,
  new_map,
  test_opt,
  test_opt2,
} from "./ext4_fs.ts";
import { ext4_ext_map_lookup } from "./extents.ts";
import {
  EXTENT_STATUS_DELAYED,
  EXTENT_STATUS_UNWRITTEN,
  EXTENT_STATUS_WRITTEN,
  es_find,
  ext4_es_insert_extent,
  ext4_es_is_delayed,
  ext4_es_scan_range,
  new_es_tree,
} from "./extents_status.ts";
import { ext4_ind_map_lookup } from "./indirect.ts";
import { ext4_map_create } from "./write_side.ts";

const XATTR_SEM = lock_class("&ei->xattr_sem");
const I_DATA_SEM = lock_class("&ei->i_data_sem");
const I_RAW_LOCK = lock_class("&ei->i_raw_lock");
const I_RESERVATION = lock_class("&ei->i_block_reservation_lock");
const NO_TIME = Object.freeze({ tv_sec: 0, tv_nsec: 0 });

/** super_operations.alloc_inode: ext4's part of a new inode object. */
export function ext4_alloc_inode(inode: inode): ext4_inode_info {
  const machine = inode.kernel.machine;
  const i_data = new Uint8Array(60);
  return {
    vfs_inode: inode,
    i_data,
    i_data_view: new DataView(i_data.buffer),
    i_flags: 0,
    i_state_flags: 0,
    i_dtime: 0,
    i_file_acl: 0,
    i_block_group: 0,
    i_dir_start_lookup: 0,
    xattr_sem: new rw_semaphore(machine, XATTR_SEM),
    i_disksize: 0,
    i_data_sem: new rw_semaphore(machine, I_DATA_SEM),
    i_crtime: NO_TIME,
    i_raw_lock: new spinlock(machine, I_RAW_LOCK),
    i_es_tree: new_es_tree(),
    i_es_seq: 0,
    i_last_alloc_group: -1,
    i_reserved_data_blocks: 0,
    i_block_reservation_lock: new spinlock(machine, I_RESERVATION),
    i_pending_tree: null,
    i_prealloc: null,
    i_prealloc_active: 0,
    i_extra_isize: 0,
    i_inline_off: 0,
    i_inline_size: 0,
    i_sync_tid: 0,
    i_datasync_tid: 0,
    jinode: null,
    i_csum_seed: 0,
    i_projid: 0,
    i_unwritten: 0,
    i_orphan: false,
    i_orphan_idx: 0,
  };
}

// --- properties ---------------------------------------------------------------------------------

/** The flag says inline data and the place for it is known. */
export const ext4_has_inline_data = (inode: inode): boolean =>
  ext4_test_inode_flag(inode, EXT4_INLINE_DATA_FL) && EXT4_I(inode).i_inline_off !== 0;

/** Is the data of this file to go through the journal? */
export const ext4_should_journal_data = (inode: inode): boolean =>
  S_ISREG(inode.i_mode) &&
  EXT4_SB(inode.i_sb).s_journal !== null &&
  (data_mode(inode.i_sb) === EXT4_MOUNT_JOURNAL_DATA ||
    ext4_test_inode_flag(inode, EXT4_JOURNAL_DATA_FL));

/** May the file be used with DAX, and does mount option or flag ask for it? */
export function ext4_should_enable_dax(inode: inode): boolean {
  const sb = inode.i_sb;
  if (test_opt2(sb, EXT4_MOUNT2_DAX_NEVER)) return false;
  if (!S_ISREG(inode.i_mode) || ext4_has_inline_data(inode)) return false;
  // data=journal excludes DAX even while the journal is left alone
  if (data_mode(sb) === EXT4_MOUNT_JOURNAL_DATA) return false;
  const excluded = EXT4_JOURNAL_DATA_FL | EXT4_ENCRYPT_FL | EXT4_VERITY_FL;
  if (ext4_test_inode_flag(inode, excluded)) return false;
  if (!(EXT4_SB(sb).s_ext4_flags & EXT4_FLAGS_BDEV_IS_DAX)) return false;
  return test_opt(sb, EXT4_MOUNT_DAX_ALWAYS) || ext4_test_inode_flag(inode, EXT4_DAX_FL);
}

/**
 * Takes i_flags over into inode.i_flags. S_DAX is decided once, when the inode is made (`init`).
 */
export function ext4_set_inode_flags(inode: inode, init: boolean): void {
  const fl = EXT4_I(inode).i_flags;
  let s = inode.i_flags & S_DAX;
  if (fl & EXT4_SYNC_FL) s |= S_SYNC;
  if (fl & EXT4_APPEND_FL) s |= S_APPEND;
  if (fl & EXT4_IMMUTABLE_FL) s |= S_IMMUTABLE;
  if (fl & EXT4_NOATIME_FL) s |= S_NOATIME;
  if (fl & EXT4_DIRSYNC_FL) s |= S_DIRSYNC;
  if (init && ext4_should_enable_dax(inode)) s |= S_DAX;
  if (fl & EXT4_ENCRYPT_FL) s |= S_ENCRYPTED;
  if (fl & EXT4_CASEFOLD_FL) s |= S_CASEFOLD;
  if (fl & EXT4_VERITY_FL) s |= S_VERITY;
  const all =
    S_SYNC |
    S_APPEND |
    S_IMMUTABLE |
    S_NOATIME |
    S_DIRSYNC |
    S_DAX |
    S_ENCRYPTED |
    S_CASEFOLD |
    S_VERITY;
  inode.i_flags = (inode.i_flags & ~all) | s;
}

/** Is the target of the symlink in i_block itself? */
export function ext4_inode_is_fast_symlink(inode: inode): boolean {
  if (!S_ISLNK(inode.i_mode)) return false;
  const sb = inode.i_sb;
  if (has_incompat(sb, EXT4_FEATURE_INCOMPAT_EA_INODE)) {
    return inode.i_size > 0 && inode.i_size < 60;
  }
  if (ext4_has_inline_data(inode)) return false;
  const cluster = sb.s_blocksize * EXT4_SB(sb).s_cluster_ratio;
  const ea_blocks = EXT4_I(inode).i_file_acl ? cluster / 512 : 0;
  return inode.i_blocks === ea_blocks;
}

// --- where it stands ----------------------------------------------------------------------------

/** An inode's place: the buffer of its inode table block, and the byte offset there. */
export interface ext4_iloc {
  bh: buffer_head;
  offset: number;
  block_group: number;
}

/** Block of the inode table and byte offset of inode `ino`. Throws EUCLEAN, EIO. */
function inode_place(
  sb: super_block,
  ino: number,
): { block: number; offset: number; group: number } {
  const sbi = EXT4_SB(sb);
  if (ino < EXT4_ROOT_INO || ino > sbi.s_es.s_inodes_count) throw EFSCORRUPTED;
  const group = Math.floor((ino - 1) / sbi.s_inodes_per_group);
  const d = ext4_get_group_desc(sb, group);
  if (!d) throw EIO;
  const index = (ino - 1) % sbi.s_inodes_per_group;
  const table = ext4_inode_table(sb, d);
  if (table <= sbi.s_es.s_first_data_block || table >= ext4_blocks_count(sbi.s_es)) {
    const text = `Invalid inode table block ${table} in block_group ${group}`;
    ext4_error(sb, "__ext4_get_inode_loc", text);
    throw EFSCORRUPTED;
  }
  const per = sbi.s_inodes_per_block;
  return {
    block: table + Math.floor(index / per),
    offset: (index % per) * sbi.s_inode_size,
    group,
  };
}

/** The buffer that an inode is in, read. The caller drops the reference. */
export function ext4_get_inode_loc(inode: inode): Sometime<ext4_iloc> {
  const { block, offset, group } = inode_place(inode.i_sb, inode.i_ino);
  const io_error = (e: unknown): never => {
    if (is_errno(e)) {
      const text = "unable to read itable block";
      ext4_error_inode(inode, "ext4_get_inode_loc", block, text, EIO);
    }
    throw e;
  };
  let bh: Sometime<buffer_head>;
  try {
    bh = ext4_sb_bread(inode.i_sb, block);
  } catch (e) {
    return io_error(e);
  }
  if (bh instanceof Promise) {
    return bh.then((b) => ({ bh: b, offset, block_group: group }), io_error);
  }
  return { bh, offset, block_group: group };
}

// --- the block map ------------------------------------------------------------------------------

function answer_from_cache(ei: ext4_inode_info, i: number, map: ext4_map_blocks_t): number {
  const t = ei.i_es_tree;
  const off = map.m_lblk - t.lblk[i]!;
  const left = t.len[i]! - off;
  if (left < map.m_len) map.m_len = left;
  const status = t.status[i]!;
  if (status & (EXTENT_STATUS_WRITTEN | EXTENT_STATUS_UNWRITTEN)) {
    map.m_pblk = t.pblk[i]! + off;
    map.m_flags |= status & EXTENT_STATUS_WRITTEN ? EXT4_MAP_MAPPED : EXT4_MAP_UNWRITTEN;
    return map.m_len;
  }
  map.m_pblk = 0;
  return 0;
}

/** Blocks that the map names must be ones that a file may have. */
export function check_block_validity(inode: inode, map: ext4_map_blocks_t): void {
  if (ext4_inode_block_valid(inode, map.m_pblk, map.m_len)) return;
  ext4_error_inode(
    inode,
    "ext4_map_blocks",
    map.m_pblk,
    `lblock ${map.m_lblk} mapped to illegal pblock ${map.m_pblk} (length ${map.m_len})`,
  );
  throw EFSCORRUPTED;
}

/** Reads the tree under i_data_sem (held by the caller) and remembers the answer. */
export async function ext4_map_lookup(
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Promise<number> {
  const extents = ext4_test_inode_flag(inode, EXT4_EXTENTS_FL);
  const n = extents
    ? await ext4_ext_map_lookup(inode, map, flags)
    : await ext4_ind_map_lookup(inode, map);
  if (n <= 0) return n;
  const end = map.m_lblk + map.m_len - 1;
  let status = map.m_flags & EXT4_MAP_UNWRITTEN ? EXTENT_STATUS_UNWRITTEN : EXTENT_STATUS_WRITTEN;
  if (
    !(flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE) &&
    !(status & EXTENT_STATUS_WRITTEN) &&
    ext4_es_scan_range(inode, ext4_es_is_delayed, map.m_lblk, end)
  ) {
    status |= EXTENT_STATUS_DELAYED;
  }
  ext4_es_insert_extent(inode, map.m_lblk, map.m_len, map.m_pblk, status);
  return n;
}

async function map_blocks_slow(
  handle: unknown,
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Promise<number> {
  const sem = EXT4_I(inode).i_data_sem;
  const p = sem.down_read();
  if (p) await p;
  let n: number;
  try {
    n = await ext4_map_lookup(inode, map, flags);
  } finally {
    sem.up_read();
  }
  if (n > 0 && map.m_flags & EXT4_MAP_MAPPED) check_block_validity(inode, map);
  return found(handle, inode, map, flags, n);
}

/** Done, unless blocks have to be made or converted. */
function found(
  handle: unknown,
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
  n: number,
): Sometime<number> {
  if (!(flags & EXT4_GET_BLOCKS_CREATE)) return n;
  if (n > 0 && map.m_flags & EXT4_MAP_MAPPED && !(flags & EXT4_GET_BLOCKS_CONVERT_UNWRITTEN)) {
    return n;
  }
  return ext4_map_create(handle, inode, map, flags);
}

/**
 * Where logical blocks are: `map.m_lblk` and `map.m_len` say what is asked; m_pblk, m_len (cut to
 * the run) and m_flags the answer. Returns the blocks mapped or unwritten, 0 for a hole of m_len
 * blocks. With EXT4_GET_BLOCKS_CREATE holes are filled (a handle is needed).
 */
export function ext4_map_blocks(
  handle: unknown,
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Sometime<number> {
  const ei = EXT4_I(inode);
  map.m_flags = 0;
  if (!(map.m_lblk < EXT_MAX_BLOCKS)) throw EFSCORRUPTED;
  const i = es_find(ei.i_es_tree, map.m_lblk);
  if (i >= 0) {
    const n = answer_from_cache(ei, i, map);
    if (flags & EXT4_GET_BLOCKS_CACHED_NOWAIT) return n;
    return found(handle, inode, map, flags, n);
  }
  if (flags & EXT4_GET_BLOCKS_CACHED_NOWAIT) return 0;
  return map_blocks_slow(handle, inode, map, flags);
}

/** A logical block's buffer, read; null for a hole. */
export async function ext4_bread(inode: inode, block: number): Promise<buffer_head | null> {
  const map = new_map(block, 1);
  const n = await ext4_map_blocks(null, inode, map, 0);
  if (n <= 0 || !(map.m_flags & EXT4_MAP_MAPPED)) return null;
  return ext4_sb_bread(inode.i_sb, map.m_pblk);
}

/** Largest file of this inode's kind, in bytes. */
export const ext4_get_maxbytes = (inode: inode): number =>
  ext4_test_inode_flag(inode, EXT4_EXTENTS_FL)
    ? inode.i_sb.s_maxbytes
    : EXT4_SB(inode.i_sb).s_bitmap_maxbytes;
