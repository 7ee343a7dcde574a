/**
 * fs/ext4/xattr_write.ts - changing extended attributes. Linux: fs/ext4/xattr.c. Reading: xattr.ts.
 *
 * An attribute goes into the inode when it fits, else into the attribute block, else (ea_inode) its
 * value goes into an inode of its own. A block may belong to many inodes that have the same
 * attributes: it is copied before it is changed, and a block that comes out equal to another is
 * given up for that one.
 *
 * Reading order: ext4_xattr_set -> ext4_xattr_set_handle -> ibody_set, block_set;
 * ext4_xattr_delete_inode. Locks: xattr_sem for writing; a handle is open.
 */
import { EEXIST, ENODATA, ENOSPC, ERANGE, is_errno } from "../../kernel/include/errno.ts";
import { XATTR_CREATE, XATTR_REPLACE } from "../../kernel/include/fcntl.ts";
import type { inode, super_block } from "../../kernel/include/fs.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";
import { current_time, inode_inc_iversion, iput } from "../../kernel/vfs/inode.ts";
import { brelse, type buffer_head, sb_getblk, set_buffer_uptodate } from "../buffer.ts";
import { ext4_charge_blocks, ext4_free_file_blocks } from "./blocks_count.ts";
import { ext4_has_metadata_csum, ext4_xattr_block_csum_set } from "./csum.ts";
import * as M from "./ext4.ts";
import {
  EXT4_I,
  EXT4_SB,
  EXT4_STATE_XATTR,
  ext4_clear_inode_state,
  ext4_group_first_block_no,
  ext4_sb_bread,
  ext4_set_inode_state,
  ext4_test_inode_flag,
  ext4_test_inode_state,
  has_compat,
  has_incompat,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_XATTR,
  EXT4_XATTR_TRANS_BLOCKS,
  ext4_handle_dirty_metadata,
  ext4_handle_dirty_super,
  ext4_handle_sync,
  ext4_journal_get_create_access,
  ext4_journal_get_write_access,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
  IS_SYNC,
} from "./ext4_jbd2.ts";
import { ext4_find_inline_data_nolock } from "./inline.ts";
import { ext4_get_inode_loc, type ext4_iloc } from "./inode.ts";
import {
  ext4_mark_iloc_dirty,
  ext4_mark_inode_dirty,
  ext4_reserve_inode_write,
} from "./inode_write.ts";
import {
  EXT4_FREE_BLOCKS_FORGET,
  EXT4_FREE_BLOCKS_METADATA,
  ext4_new_meta_blocks,
} from "./mballoc.ts";
import { ext4_should_retry_alloc } from "./retry_alloc.ts";
import {
  EXT4_XATTR_SIZE,
  ext4_xattr_inode_get_hash,
  type xattr_area,
  xattr_block_area,
  xattr_ibody_area,
} from "./xattr.ts";
import {
  drop_value_inode,
  ext4_xattr_inode_lookup_create,
  ext4_xattr_inode_update_ref,
  hold_value_inodes,
} from "./xattr_inode.ts";
import {
  block_hash,
  change_xattrs,
  decode_xattrs,
  encode_xattrs,
  find_xattr,
  same_xattrs,
  type xattr_info,
  type xattr_item,
} from "./xattr_list.ts";

const HEADER = 32;
const REFCOUNT = 4;
const HASH = 12;

const view_of = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);
const refcount = (bh: buffer_head): number => view_of(bh.b_data).getUint32(REFCOUNT, true);
const has_ea_inode = (sb: super_block): boolean =>
  has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_EA_INODE);

// --- the list in the inode --------------------------------------------------------------------

/**
 * The place for attributes in the inode, whether there are any or not; null: the inode is too
 * small.
 */
export function ibody_room(inode: inode, iloc: ext4_iloc): xattr_area | null {
  const { i_extra_isize } = EXT4_I(inode);
  const size = EXT4_SB(inode.i_sb).s_inode_size;
  const header = M.EXT4_GOOD_OLD_INODE_SIZE + i_extra_isize;
  if (i_extra_isize === 0 || header + 4 + M.EXT4_XATTR_PAD > size) return null;
  const first = iloc.offset + header + 4;
  return { bytes: iloc.bh.b_data, first, end: iloc.offset + size, value_base: first };
}

export function ibody_items(inode: inode, iloc: ext4_iloc): xattr_item[] {
  const a = xattr_ibody_area(inode, iloc.bh.b_data, iloc.offset);
  return a ? decode_xattrs(a) : [];
}

/** Puts the list into the inode's bytes. */
export function ibody_store(inode: inode, iloc: ext4_iloc, items: readonly xattr_item[]): void {
  const a = ibody_room(inode, iloc)!;
  encode_xattrs(a, items);
  const magic = items.length > 0 ? M.EXT4_XATTR_MAGIC : 0;
  view_of(a.bytes).setUint32(a.first - 4, magic, true);
  if (magic) ext4_set_inode_state(inode, EXT4_STATE_XATTR);
  else ext4_clear_inode_state(inode, EXT4_STATE_XATTR);
  if (ext4_test_inode_flag(inode, M.EXT4_INLINE_DATA_FL)) {
    EXT4_I(inode).i_inline_off = 0;
    ext4_find_inline_data_nolock(inode, iloc.bh.b_data, iloc.offset);
  }
}

/** An inode is charged for values in other inodes as for its own blocks, shared or not. */
function charge_values(
  inode: inode,
  before: readonly xattr_item[],
  after: readonly xattr_item[],
): void {
  const cluster = inode.i_sb.s_blocksize * EXT4_SB(inode.i_sb).s_cluster_ratio;
  const sectors = (items: readonly xattr_item[]): number => {
    let clusters = 0;
    for (const e of items) if (e.inum !== 0) clusters += Math.ceil(e.size / cluster);
    return clusters * (cluster / 512);
  };
  inode.i_blocks += sectors(after) - sectors(before);
}

interface changed {
  items: xattr_item[];
  /** The value's inode, counted and referenced. */
  ea: inode | null;
}

/** Makes the change in a list; the new value's inode is made first. Throws ENOSPC. */
async function change(
  handle: handle_t,
  inode: inode,
  items: readonly xattr_item[],
  i: xattr_info,
  room: number,
  is_block: boolean,
): Promise<changed> {
  let ea: inode | null = null;
  if (i.value && i.in_inode) ea = await ext4_xattr_inode_lookup_create(handle, inode, i.value);
  const value = ea && { ino: ea.i_ino, hash: ext4_xattr_inode_get_hash(ea) };
  const next = change_xattrs(inode, items, i, value, room, is_block);
  if (next) return { items: next, ea };
  await put_back(handle, ea);
  throw ENOSPC;
}

async function put_back(handle: handle_t, ea: inode | null): Promise<void> {
  if (!ea) return;
  try {
    await ext4_xattr_inode_update_ref(handle, ea, -1);
  } finally {
    await iput(ea);
  }
}

/** Sets or removes in the inode. Throws ENOSPC and has changed nothing then. */
export async function ext4_xattr_ibody_set(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
  i: xattr_info,
): Promise<void> {
  const a = ibody_room(inode, iloc);
  if (!a) throw ENOSPC;
  const before = ibody_items(inode, iloc);
  const at = find_xattr(before, i);
  const { items, ea } = await change(handle, inode, before, i, a.end - a.first, false);
  ibody_store(inode, iloc, items);
  charge_values(inode, before, items);
  await iput(ea);
  const old = before[at];
  if (old && old.inum !== 0) await drop_value_inode(handle, inode, old);
}

// --- the block --------------------------------------------------------------------------------

/** Attribute blocks of this mount that may be shared, by hash. */
function cache(sb: super_block): Map<number, Set<number>> {
  const sbi = EXT4_SB(sb);
  sbi.s_ea_block_cache ??= new Map<number, Set<number>>();
  return sbi.s_ea_block_cache as Map<number, Set<number>>;
}
function cache_insert(sb: super_block, bh: buffer_head): void {
  const hash = view_of(bh.b_data).getUint32(HASH, true);
  if (hash === 0) return;
  const same = cache(sb).get(hash);
  if (same) same.add(bh.b_blocknr);
  else cache(sb).set(hash, new Set([bh.b_blocknr]));
}
function cache_delete(sb: super_block, bh: buffer_head): void {
  const hash = view_of(bh.b_data).getUint32(HASH, true);
  const same = cache(sb).get(hash);
  same?.delete(bh.b_blocknr);
  if (same?.size === 0) cache(sb).delete(hash);
}

async function dirty_block(handle: handle_t, inode: inode, bh: buffer_head): Promise<void> {
  const sbi = EXT4_SB(inode.i_sb);
  if (ext4_has_metadata_csum(sbi.s_es)) {
    ext4_xattr_block_csum_set(sbi.s_csum_seed, bh.b_blocknr, bh.b_data);
  }
  await ext4_handle_dirty_metadata(handle, inode, bh);
}

const block_room = (b: Uint8Array): xattr_area => ({
  bytes: b,
  first: HEADER,
  end: b.length,
  value_base: 0,
});

/** A shared block with just these attributes and room for one more inode, referenced; or null. */
async function find_equal_block(
  inode: inode,
  items: readonly xattr_item[],
  hash: number,
): Promise<buffer_head | null> {
  if (hash === 0) return null;
  for (const block of cache(inode.i_sb).get(hash) ?? []) {
    const bh = await ext4_sb_bread(inode.i_sb, block);
    const fits = refcount(bh) < M.EXT4_XATTR_REFCOUNT_MAX;
    if (fits && same_xattrs(items, decode_xattrs(xattr_block_area(inode, bh)))) return bh;
    brelse(bh);
  }
  return null;
}

/** One inode less uses the block; the last one frees it, and what its values are in. */
async function ext4_xattr_release_block(
  handle: handle_t,
  inode: inode,
  bh: buffer_head,
): Promise<void> {
  await ext4_journal_get_write_access(handle, inode.i_sb, bh);
  const n = refcount(bh);
  if (n > 1) {
    view_of(bh.b_data).setUint32(REFCOUNT, n - 1, true);
    await dirty_block(handle, inode, bh);
    if (IS_SYNC(inode)) ext4_handle_sync(handle);
    await ext4_charge_blocks(inode, -EXT4_SB(inode.i_sb).s_cluster_ratio);
    return;
  }
  cache_delete(inode.i_sb, bh);
  if (has_ea_inode(inode.i_sb)) {
    for (const item of decode_xattrs(xattr_block_area(inode, bh))) {
      if (item.inum !== 0) await drop_value_inode(handle, inode, item);
    }
  }
  const flags = EXT4_FREE_BLOCKS_METADATA | EXT4_FREE_BLOCKS_FORGET;
  await ext4_free_file_blocks(handle, inode, bh.b_blocknr, 1, flags);
}

/** Changes a block that only this inode uses. */
async function change_in_place(
  handle: handle_t,
  inode: inode,
  bh: buffer_head,
  i: xattr_info,
): Promise<xattr_item[]> {
  const before = decode_xattrs(xattr_block_area(inode, bh));
  const old = before[find_xattr(before, i)];
  const room = bh.b_data.length - HEADER;
  const { items, ea } = await change(handle, inode, before, i, room, true);
  cache_delete(inode.i_sb, bh);
  encode_xattrs(block_room(bh.b_data), items);
  view_of(bh.b_data).setUint32(HASH, block_hash(items), true);
  await dirty_block(handle, inode, bh);
  charge_values(inode, before, items);
  await iput(ea);
  if (old && old.inum !== 0) await drop_value_inode(handle, inode, old);
  return items;
}

/** A block of its own for these attributes, charged to the inode. Referenced. */
async function new_block(
  handle: handle_t,
  inode: inode,
  items: readonly xattr_item[],
): Promise<buffer_head> {
  const sb = inode.i_sb;
  const goal = ext4_group_first_block_no(sb, EXT4_I(inode).i_block_group);
  const block = await ext4_new_meta_blocks(handle, inode, goal, 0, { n: 1 });
  await ext4_charge_blocks(inode, EXT4_SB(sb).s_cluster_ratio);
  try {
    await hold_value_inodes(handle, inode, items);
  } catch (e) {
    if (is_errno(e)) {
      await ext4_free_file_blocks(handle, inode, block, 1, EXT4_FREE_BLOCKS_METADATA);
    }
    throw e;
  }
  const bh = sb_getblk(sb, block);
  await ext4_journal_get_create_access(handle, sb, bh);
  bh.b_data.fill(0);
  encode_xattrs(block_room(bh.b_data), items);
  const v = view_of(bh.b_data);
  v.setUint32(0, M.EXT4_XATTR_MAGIC, true);
  v.setUint32(REFCOUNT, 1, true);
  v.setUint32(8, 1, true);
  v.setUint32(HASH, block_hash(items), true);
  set_buffer_uptodate(bh);
  await dirty_block(handle, inode, bh);
  return bh;
}

/** One inode more uses a block that is there. */
async function share_block(handle: handle_t, inode: inode, bh: buffer_head): Promise<void> {
  await ext4_journal_get_write_access(handle, inode.i_sb, bh);
  view_of(bh.b_data).setUint32(REFCOUNT, refcount(bh) + 1, true);
  await ext4_charge_blocks(inode, EXT4_SB(inode.i_sb).s_cluster_ratio);
  await dirty_block(handle, inode, bh);
}

/**
 * The block with `items`: an equal one, the one at hand (changed in place), or a new one; null for
 * none.
 */
async function block_for(
  handle: handle_t,
  inode: inode,
  items: readonly xattr_item[],
  in_place: buffer_head | null,
): Promise<buffer_head | null> {
  if (items.length === 0) return null;
  const equal = await find_equal_block(inode, items, block_hash(items));
  if (equal) {
    if (equal !== in_place) await share_block(handle, inode, equal);
    return equal;
  }
  let bh = in_place;
  if (bh) bh.b_count++;
  else bh = await new_block(handle, inode, items);
  cache_insert(inode.i_sb, bh);
  return bh;
}

/** Sets or removes in the attribute block (`bh`, null: there is none). Throws ENOSPC. */
async function ext4_xattr_block_set(
  handle: handle_t,
  inode: inode,
  bh: buffer_head | null,
  i: xattr_info,
): Promise<void> {
  let made: buffer_head | null;
  if (bh && refcount(bh) === 1) {
    await ext4_journal_get_write_access(handle, inode.i_sb, bh);
    made = await block_for(handle, inode, await change_in_place(handle, inode, bh, i), bh);
  } else {
    // values of the other inodes' block stay counted there; the new block counts its own
    const before = bh ? decode_xattrs(xattr_block_area(inode, bh)) : [];
    const room = inode.i_sb.s_blocksize - HEADER;
    const { items, ea } = await change(handle, inode, before, i, room, true);
    try {
      made = await block_for(handle, inode, items, null);
      charge_values(inode, before, items);
    } finally {
      await put_back(handle, ea);
    }
  }
  EXT4_I(inode).i_file_acl = made ? made.b_blocknr : 0;
  if (bh && bh !== made) await ext4_xattr_release_block(handle, inode, bh);
  brelse(made);
}

// --- setting ----------------------------------------------------------------------------------

/** Values longer than this go straight into an inode when they may. */
const large_value = (blocksize: number): number => blocksize - 20 - HEADER - 4;

const same_value = (e: xattr_item | undefined, value: Uint8Array): boolean =>
  e !== undefined &&
  e.value !== null &&
  e.value.length === value.length &&
  e.value.every((c, n) => c === value[n]);

/** Runs `fn`; false when it found no room. */
async function fits(fn: () => Promise<void>): Promise<boolean> {
  try {
    await fn();
  } catch (e) {
    if (e === ENOSPC) return false;
    throw e;
  }
  return true;
}

/** Where the attribute is now. */
interface xattr_found {
  ibody: xattr_item | undefined;
  bh: buffer_head | null;
  block: xattr_item | undefined;
}

async function set_value(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
  i: xattr_info,
  was: xattr_found,
): Promise<void> {
  const removal = { ...i, value: null };
  const may_leave = has_ea_inode(inode.i_sb);
  const size = EXT4_XATTR_SIZE(i.value!.length);
  let in_inode = may_leave && size > large_value(inode.i_sb.s_blocksize);
  for (;;) {
    const info = { ...i, in_inode };
    if (await fits(() => ext4_xattr_ibody_set(handle, inode, iloc, info))) {
      if (was.block) await ext4_xattr_block_set(handle, inode, was.bh, removal);
      return;
    }
    if (await fits(() => ext4_xattr_block_set(handle, inode, was.bh, info))) {
      if (was.ibody) await ext4_xattr_ibody_set(handle, inode, iloc, removal);
      return;
    }
    if (!may_leave || in_inode || i.value!.length === 0) throw ENOSPC;
    in_inode = true;
  }
}

async function set_locked(
  handle: handle_t,
  inode: inode,
  iloc: ext4_iloc,
  i: xattr_info,
  flags: number,
  was: xattr_found,
): Promise<boolean> {
  const items = ibody_items(inode, iloc);
  was.ibody = items[find_xattr(items, i)];
  const block = EXT4_I(inode).i_file_acl;
  if (block !== 0) {
    was.bh = await ext4_sb_bread(inode.i_sb, block);
    const there = decode_xattrs(xattr_block_area(inode, was.bh));
    cache_insert(inode.i_sb, was.bh);
    if (!was.ibody) was.block = there[find_xattr(there, i)];
  }
  const old = was.ibody ?? was.block;
  if (old && flags & XATTR_CREATE) throw EEXIST;
  if (!old && flags & XATTR_REPLACE) throw ENODATA;
  if (i.value) {
    if (same_value(old, i.value)) return false;
    await set_value(handle, inode, iloc, i, was);
  } else if (was.ibody) await ext4_xattr_ibody_set(handle, inode, iloc, i);
  else if (was.block) await ext4_xattr_block_set(handle, inode, was.bh, i);
  else return false;
  return true;
}

async function mark_feature(handle: handle_t, sb: super_block): Promise<void> {
  if (has_compat(sb, M.EXT4_FEATURE_COMPAT_EXT_ATTR)) return;
  const sbi = EXT4_SB(sb);
  await ext4_journal_get_write_access(handle, sb, sbi.s_sbh);
  sbi.s_es.s_feature_compat |= M.EXT4_FEATURE_COMPAT_EXT_ATTR;
  await ext4_handle_dirty_super(handle, sb);
}

/** ext4_xattr_set within an open handle. `name` (bytes) is without its prefix. */
export async function ext4_xattr_set_handle(
  handle: handle_t,
  inode: inode,
  name_index: number,
  name: Uint8Array,
  value: Uint8Array | null,
  flags: number,
): Promise<void> {
  if (name.length > 255) throw ERANGE;
  const sem = EXT4_I(inode).xattr_sem;
  const p = sem.down_write();
  if (p) await p;
  const was: xattr_found = { ibody: undefined, bh: null, block: undefined };
  try {
    const iloc = await ext4_reserve_inode_write(handle, inode);
    let mine = true;
    try {
      const i = { index: name_index, name, value, in_inode: false };
      if (!(await set_locked(handle, inode, iloc, i, flags, was))) return;
      await mark_feature(handle, inode.i_sb);
      inode.i_ctime = current_time(inode);
      inode_inc_iversion(inode);
      mine = false;
      await ext4_mark_iloc_dirty(handle, inode, iloc);
      if (IS_SYNC(inode)) ext4_handle_sync(handle);
    } finally {
      if (mine) brelse(iloc.bh);
      brelse(was.bh);
    }
  } finally {
    sem.up_write();
  }
}

/**
 * Sets (value) or removes (null) an attribute. Flags XATTR_CREATE, XATTR_REPLACE. `name` without
 * its prefix.
 * @throws EEXIST, ENODATA, ENOSPC no room in inode and block, ERANGE name too long, EUCLEAN,
 * EBADMSG, EIO
 */
export async function ext4_xattr_set(
  inode: inode,
  name_index: number,
  name: string,
  value: Uint8Array | null,
  flags: number,
): Promise<void> {
  const bytes = name_to_bytes(name);
  const credits = EXT4_XATTR_TRANS_BLOCKS + EXT4_DATA_TRANS_BLOCKS;
  for (let retries = 0; ; retries++) {
    const handle = await ext4_journal_start(inode, EXT4_HT_XATTR, credits);
    try {
      await ext4_xattr_set_handle(handle, inode, name_index, bytes, value, flags);
      return;
    } catch (e) {
      if (e !== ENOSPC) throw e;
      if (!(await ext4_should_retry_alloc(inode.i_sb, retries))) throw e;
    } finally {
      ext4_journal_stop(handle);
    }
  }
}

// --- the end ----------------------------------------------------------------------------------

/** Frees what holds the attributes of an inode that is being deleted. */
export async function ext4_xattr_delete_inode(handle: handle_t, inode: inode): Promise<void> {
  const sb = inode.i_sb;
  if (has_ea_inode(sb) && ext4_test_inode_state(inode, EXT4_STATE_XATTR)) {
    const iloc = await ext4_get_inode_loc(inode);
    try {
      for (const item of ibody_items(inode, iloc)) {
        if (item.inum !== 0) await drop_value_inode(handle, inode, item);
      }
    } finally {
      brelse(iloc.bh);
    }
  }
  const ei = EXT4_I(inode);
  if (ei.i_file_acl === 0) return;
  const bh = await ext4_sb_bread(sb, ei.i_file_acl);
  try {
    // a block that makes no sense is left alone: this throws
    xattr_block_area(inode, bh);
    await ext4_xattr_release_block(handle, inode, bh);
    ei.i_file_acl = 0;
    await ext4_mark_inode_dirty(handle, inode, "ext4_xattr_delete_inode");
  } finally {
    brelse(bh);
  }
}
