/**
 * fs/ext4/xattr_inode.ts - attribute values in inodes of their own (feature ea_inode). Linux:
 * fs/ext4/xattr.c. Reading them: xattr.ts.
 *
 * Such an inode counts the entries that name it (in i_ctime and i_version) and keeps the hash of
 * its value (in i_atime), so that equal values are stored once. Without entries it is an orphan and
 * goes. Locks: the parent's xattr_sem is held; the value inode's i_rwsem while its count changes.
 */
import { EFSCORRUPTED, is_errno } from "../../kernel/include/errno.ts";
import type { inode, super_block } from "../../kernel/include/fs.ts";
import { S_IFREG } from "../../kernel/include/stat.ts";
import {
  clear_nlink,
  I_MUTEX_XATTR,
  inode_lock_nested,
  inode_unlock,
  iput,
  set_nlink,
  unlock_new_inode,
} from "../../kernel/vfs/inode.ts";
import { brelse } from "../buffer.ts";
import { ext4_set_aops } from "./aops.ts";
import { ext4_bread_create } from "./dirent_write.ts";
import { EXT4_EA_INODE_FL } from "./ext4.ts";
import {
  EXT4_I,
  EXT4_SB,
  EXT4_STATE_MAY_INLINE_DATA,
  ext4_clear_inode_state,
  ext4_error_inode,
  ext4_warning,
  ext4_warning_inode,
} from "./ext4_fs.ts";
import {
  ext4_handle_dirty_metadata,
  ext4_journal_get_write_access,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_file_inode_operations, ext4_file_operations } from "./file.ts";
import { ext4_new_inode } from "./ialloc.ts";
import {
  ext4_mark_iloc_dirty,
  ext4_mark_inode_dirty,
  ext4_reserve_inode_write,
} from "./inode_write.ts";
import { ext4_orphan_add, ext4_orphan_del } from "./orphan.ts";
import {
  ext4_xattr_inode_get_hash,
  ext4_xattr_inode_hash,
  ext4_xattr_inode_iget,
  read_ea_inode,
} from "./xattr.ts";
import type { xattr_item } from "./xattr_list.ts";

const TWO32 = 2 ** 32;

/** How many entries name this inode. */
export const ext4_xattr_inode_get_ref = (ea: inode): number =>
  (ea.i_ctime.tv_sec % TWO32) * TWO32 + (ea.i_version % TWO32);
function set_ref(ea: inode, n: number): void {
  ea.i_ctime = { tv_sec: Math.floor(n / TWO32), tv_nsec: 0 };
  ea.i_version = n % TWO32;
}

/** Value inodes of this mount by the hash of their value. */
function cache(sb: super_block): Map<number, Set<number>> {
  const sbi = EXT4_SB(sb);
  sbi.s_ea_inode_cache ??= new Map<number, Set<number>>();
  return sbi.s_ea_inode_cache as Map<number, Set<number>>;
}

/** One entry more or less. */
export async function ext4_xattr_inode_update_ref(
  handle: handle_t,
  ea: inode,
  change: 1 | -1,
): Promise<void> {
  const p = inode_lock_nested(ea, I_MUTEX_XATTR);
  if (p) await p;
  try {
    const n = ext4_xattr_inode_get_ref(ea) + change;
    if (n < 0) {
      const text = `EA inode ${ea.i_ino} ref wraparound: ref_count=0 ref_change=-1`;
      ext4_error_inode(ea, "ext4_xattr_inode_update_ref", 0, text);
      throw EFSCORRUPTED;
    }
    const iloc = await ext4_reserve_inode_write(handle, ea);
    set_ref(ea, n);
    if (change > 0 && n === 1) {
      set_nlink(ea, 1);
      await ext4_orphan_del(handle, ea);
    } else if (n === 0) {
      cache(ea.i_sb).get(ext4_xattr_inode_get_hash(ea))?.delete(ea.i_ino);
      clear_nlink(ea);
      await ext4_orphan_add(handle, ea);
    }
    await ext4_mark_iloc_dirty(handle, ea, iloc);
  } finally {
    inode_unlock(ea);
  }
}

/**
 * Takes an entry's count from its inode, which goes when it was the last. Failures are only logged.
 */
export async function drop_value_inode(
  handle: handle_t,
  inode: inode,
  item: xattr_item,
): Promise<void> {
  let ea: inode | null = null;
  try {
    ea = await ext4_xattr_inode_iget(inode, item.inum, item.hash);
    await ext4_xattr_inode_update_ref(handle, ea, -1);
  } catch (e) {
    if (!is_errno(e)) throw e;
    const text = `ea_inode dec ref err=-${e.errno}`;
    if (ea) ext4_warning_inode(ea, "ext4_xattr_inode_dec_ref", text);
    else ext4_warning(inode.i_sb, "ext4_xattr_inode_dec_ref", text);
  } finally {
    await iput(ea);
  }
}

/** All value inodes that these entries name: a block with them was copied. */
export async function hold_value_inodes(
  handle: handle_t,
  inode: inode,
  items: readonly xattr_item[],
): Promise<void> {
  const held: xattr_item[] = [];
  try {
    for (const item of items) {
      if (item.inum === 0) continue;
      const ea = await ext4_xattr_inode_iget(inode, item.inum, item.hash);
      try {
        await ext4_xattr_inode_update_ref(handle, ea, 1);
      } finally {
        await iput(ea);
      }
      held.push(item);
    }
  } catch (e) {
    if (is_errno(e)) for (const item of held) await drop_value_inode(handle, inode, item);
    throw e;
  }
}

async function write_value(handle: handle_t, ea: inode, value: Uint8Array): Promise<void> {
  const bs = ea.i_sb.s_blocksize;
  for (let at = 0; at < value.length; at += bs) {
    const bh = await ext4_bread_create(handle, ea, at / bs);
    try {
      await ext4_journal_get_write_access(handle, ea.i_sb, bh);
      const part = value.subarray(at, at + bs);
      bh.b_data.set(part);
      bh.b_data.fill(0, part.length);
      await ext4_handle_dirty_metadata(handle, ea, bh);
    } finally {
      brelse(bh);
    }
  }
  ea.i_size = value.length;
  EXT4_I(ea).i_disksize = value.length;
  await ext4_mark_inode_dirty(handle, ea, "ext4_xattr_inode_write");
}

async function create(
  handle: handle_t,
  inode: inode,
  value: Uint8Array,
  hash: number,
): Promise<inode> {
  const root = inode.i_sb.s_root!.d_inode!;
  const goal = inode.i_ino + 1;
  const ea = await ext4_new_inode(handle, root, S_IFREG | 0o600, goal, EXT4_EA_INODE_FL);
  ea.i_uid = inode.i_uid;
  ea.i_gid = inode.i_gid;
  ea.i_op = ext4_file_inode_operations;
  ea.i_fop = ext4_file_operations;
  ext4_set_aops(ea);
  ext4_clear_inode_state(ea, EXT4_STATE_MAY_INLINE_DATA);
  set_ref(ea, 1);
  ea.i_atime = { tv_sec: hash, tv_nsec: 0 };
  unlock_new_inode(ea);
  try {
    await write_value(handle, ea, value);
  } catch (e) {
    if (is_errno(e)) {
      try {
        await ext4_xattr_inode_update_ref(handle, ea, -1);
      } catch (e2) {
        if (!is_errno(e2)) throw e2;
      }
    }
    await iput(ea);
    throw e;
  }
  return ea;
}

async function find_equal(inode: inode, value: Uint8Array, hash: number): Promise<inode | null> {
  for (const ino of cache(inode.i_sb).get(hash) ?? []) {
    let ea: inode;
    try {
      ea = await ext4_xattr_inode_iget(inode, ino, hash);
    } catch (e) {
      if (!is_errno(e)) throw e;
      continue;
    }
    if (ea.i_size === value.length) {
      const there = await read_ea_inode(ea, value.length);
      if (there.every((c, i) => c === value[i])) return ea;
    }
    await iput(ea);
  }
  return null;
}

/**
 * An inode that holds the value, counted once more, with a reference: one there is, or a new one.
 */
export async function ext4_xattr_inode_lookup_create(
  handle: handle_t,
  inode: inode,
  value: Uint8Array,
): Promise<inode> {
  const hash = ext4_xattr_inode_hash(inode.i_sb, value);
  const known = await find_equal(inode, value, hash);
  if (known) {
    try {
      await ext4_xattr_inode_update_ref(handle, known, 1);
    } catch (e) {
      await iput(known);
      throw e;
    }
    return known;
  }
  const ea = await create(handle, inode, value, hash);
  const map = cache(inode.i_sb);
  const same = map.get(hash);
  if (same) same.add(ea.i_ino);
  else map.set(hash, new Set([ea.i_ino]));
  return ea;
}
