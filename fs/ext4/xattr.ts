/**
 * fs/ext4/xattr.ts - extended attributes, reading. Linux: fs/ext4/xattr.c, xattr_user.c, acl.c and
 * friends. Setting them: xattr_write.ts.
 *
 * Attributes stand in two places: behind i_extra_isize in the inode (ibody), and in one block
 * (i_file_acl) that inodes may share. Both are a list of entries that grows up and values that grow
 * down; a value may also be an inode of its own (ea_inode). Value offsets count from the first
 * entry (ibody) or from the start of the block. Every list is checked before it is used. Locks:
 * xattr_sem (read).
 */
import {
  EFSBADCRC,
  EFSCORRUPTED,
  EINVAL,
  EIO,
  ENODATA,
  EOPNOTSUPP,
  EPERM,
  ERANGE,
  type Errno,
  is_errno,
} from "../../kernel/include/errno.ts";
import { CAP_SYS_ADMIN } from "../../kernel/include/cred.ts";
import type { dentry, inode, super_block, xattr_handler } from "../../kernel/include/fs.ts";
import { capable } from "../../kernel/cred.ts";
import { crc32c } from "../../kernel/lib/crc32c.ts";
import { bytes_to_name, name_to_bytes } from "../../kernel/lib/utf8.ts";
import { iput } from "../../kernel/vfs/inode.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { ext4_has_metadata_csum, ext4_xattr_block_csum_verify } from "./csum.ts";
import * as M from "./ext4.ts";
import {
  EXT4_I,
  EXT4_IGET_EA_INODE,
  EXT4_MOUNT_XATTR_USER,
  EXT4_SB,
  EXT4_STATE_LUSTRE_EA_INODE,
  EXT4_STATE_XATTR,
  ext4_error,
  ext4_error_inode,
  ext4_forced_shutdown,
  ext4_sb_bread,
  ext4_set_inode_state,
  ext4_test_inode_state,
  ext4_warning_inode,
  test_opt,
} from "./ext4_fs.ts";
import { ext4_iget } from "./iget.ts";
import { ext4_bread, ext4_get_inode_loc } from "./inode.ts";
import { ext4_set_acl, ext4_xattr_set } from "./write_side.ts";

const XATTR_SIZE_MAX = 1 << 24;

export const EXT4_XATTR_LEN = (name_len: number): number => (name_len + 3 + 16) & ~3;
export const EXT4_XATTR_SIZE = (size: number): number => (size + 3) & ~3;

const le16 = (b: Uint8Array, o: number): number => b[o]! | (b[o + 1]! << 8);
const le32 = (b: Uint8Array, o: number): number =>
  (b[o]! | (b[o + 1]! << 8) | (b[o + 2]! << 16) | (b[o + 3]! << 24)) >>> 0;

/** A list of attributes in memory: `bytes` from `first` (first entry) to `end`. */
export interface xattr_area {
  bytes: Uint8Array;
  /** Byte offset of the first entry. */
  first: number;
  end: number;
  /** Byte offset from which e_value_offs counts. */
  value_base: number;
}

/** One attribute; `at` is the byte offset of its entry. */
export interface xattr_entry {
  at: number;
  name_index: number;
  name: Uint8Array;
  value_offs: number;
  value_inum: number;
  value_size: number;
  hash: number;
}

export const xattr_is_last = (a: xattr_area, at: number): boolean =>
  at + 4 > a.end || le32(a.bytes, at) === 0;

export function xattr_entry_at(a: xattr_area, at: number): xattr_entry {
  const b = a.bytes;
  const len = b[at]!;
  return {
    at,
    name_index: b[at + 1]!,
    name: b.subarray(at + 16, at + 16 + len),
    value_offs: le16(b, at + 2),
    value_inum: le32(b, at + 4),
    value_size: le32(b, at + 8),
    hash: le32(b, at + 12),
  };
}

/** The entries of a checked area, in their order. */
export function* xattr_entries(a: xattr_area): Generator<xattr_entry> {
  for (let at = a.first; !xattr_is_last(a, at); ) {
    const e = xattr_entry_at(a, at);
    yield e;
    at += EXT4_XATTR_LEN(e.name.length);
  }
}

/** What is wrong with the list, or null. */
function entries_fault(a: xattr_area): string | null {
  let at = a.first;
  for (;;) {
    if (at + 4 > a.end) return "e_name out of bounds";
    if (le32(a.bytes, at) === 0) break;
    const next = at + EXT4_XATTR_LEN(a.bytes[at]!);
    if (next >= a.end) return "e_name out of bounds";
    const name_end = at + 16 + a.bytes[at]!;
    if (a.bytes.subarray(at + 16, name_end).includes(0)) return "e_name contains NUL";
    at = next;
  }
  const names_end = at + 4;
  for (const e of xattr_entries(a)) {
    if (e.value_size > XATTR_SIZE_MAX) return "e_value size too large";
    if (e.value_size === 0 || e.value_inum !== 0) continue;
    const value = a.value_base + e.value_offs;
    if (value > a.end) return "e_value out of bounds";
    if (value < names_end || value + EXT4_XATTR_SIZE(e.value_size) > a.end) {
      return "overlapping e_value ";
    }
  }
  return null;
}

function corrupted(
  inode: inode,
  fn: string,
  block: number,
  text: string,
  error: Errno = EFSCORRUPTED,
): never {
  ext4_error_inode(inode, fn, block, `corrupted xattr: ${text}`, error);
  throw error;
}

/** The attributes in the inode whose bytes begin at `off`, checked; null when there are none. */
export function xattr_ibody_area(inode: inode, bytes: Uint8Array, off: number): xattr_area | null {
  if (!ext4_test_inode_state(inode, EXT4_STATE_XATTR)) return null;
  const start = off + M.EXT4_GOOD_OLD_INODE_SIZE + EXT4_I(inode).i_extra_isize;
  const end = off + EXT4_SB(inode.i_sb).s_inode_size;
  const a = { bytes, first: start + 4, end, value_base: start + 4 };
  let fault: string | null = null;
  if (end - start < 8) fault = "in-inode xattr block too small";
  else if (le32(bytes, start) !== M.EXT4_XATTR_MAGIC) fault = "invalid magic in in-inode xattr";
  else fault = entries_fault(a);
  if (fault !== null) corrupted(inode, "xattr_check_inode", 0, fault);
  return a;
}

/** An attribute block, checked. */
export function xattr_block_area(inode: inode, bh: buffer_head): xattr_area {
  const b = bh.b_data;
  const nr = bh.b_blocknr;
  const sbi = EXT4_SB(inode.i_sb);
  const a = { bytes: b, first: 32, end: b.length, value_base: 0 };
  const fn = "ext4_xattr_block_get";
  if (le32(b, 0) !== M.EXT4_XATTR_MAGIC || le32(b, 8) !== 1) {
    corrupted(inode, fn, nr, "invalid header");
  }
  if (ext4_has_metadata_csum(sbi.s_es) && !ext4_xattr_block_csum_verify(sbi.s_csum_seed, nr, b)) {
    corrupted(inode, fn, nr, "invalid checksum", EFSBADCRC);
  }
  const fault = entries_fault(a);
  if (fault !== null) corrupted(inode, fn, nr, fault);
  return a;
}

export function xattr_find(a: xattr_area, index: number, name: Uint8Array): xattr_entry | null {
  for (const e of xattr_entries(a)) {
    if (e.name_index !== index || e.name.length !== name.length) continue;
    if (e.name.every((c, i) => c === name[i])) return e;
  }
  return null;
}

// --- values in inodes of their own --------------------------------------------------------------

/** The hash of a value, and of an entry whose value hashes to `value_hash`. */
export const ext4_xattr_inode_hash = (sb: super_block, value: Uint8Array): number =>
  crc32c(EXT4_SB(sb).s_csum_seed, value);

/** Names hash as `char`, which kernels before 6.2 took as signed: both are right. */
export function ext4_xattr_hash_entry(
  name: Uint8Array,
  words: readonly number[],
  signed: boolean,
): number {
  let hash = 0;
  for (const c of name) hash = (hash << 5) ^ (hash >>> 27) ^ (signed ? (c << 24) >> 24 : c);
  for (const w of words) hash = (hash << 16) ^ (hash >>> 16) ^ w;
  return hash >>> 0;
}

/** The inode of a large value, with a reference. Throws EUCLEAN and what ext4_iget throws. */
export async function ext4_xattr_inode_iget(
  parent: inode,
  ea_ino: number,
  hash: number,
): Promise<inode> {
  const sb = parent.i_sb;
  if (parent.i_ino === ea_ino) {
    const text = `Parent and EA inode have the same ino ${ea_ino}`;
    ext4_error(sb, "ext4_xattr_inode_iget", text);
    throw EFSCORRUPTED;
  }
  let inode: inode;
  try {
    inode = await ext4_iget(sb, ea_ino, EXT4_IGET_EA_INODE);
  } catch (e) {
    if (is_errno(e)) {
      const text = `error while reading EA inode ${ea_ino} err=-${e.errno}`;
      ext4_error(sb, "ext4_xattr_inode_iget", text);
    }
    throw e;
  }
  const lustre =
    ext4_xattr_inode_get_hash(inode) !== hash &&
    inode.i_mtime.tv_sec === parent.i_ino &&
    inode.i_generation === parent.i_generation;
  if (lustre) ext4_set_inode_state(inode, EXT4_STATE_LUSTRE_EA_INODE);
  return inode;
}
/** The value's hash is kept where other inodes have their access time. */
export const ext4_xattr_inode_get_hash = (ea: inode): number => {
  const t = ea.i_atime.tv_sec % 2 ** 32;
  return t < 0 ? t + 2 ** 32 : t;
};

export async function read_ea_inode(ea: inode, size: number): Promise<Uint8Array> {
  const out = new Uint8Array(size);
  const bs = ea.i_sb.s_blocksize;
  for (let i = 0; i * bs < size; i++) {
    const bh = await ext4_bread(ea, i);
    if (!bh) throw EFSCORRUPTED;
    out.set(bh.b_data.subarray(0, Math.min(bs, size - i * bs)), i * bs);
    brelse(bh);
  }
  return out;
}

async function ext4_xattr_inode_get(parent: inode, e: xattr_entry): Promise<Uint8Array> {
  const ea = await ext4_xattr_inode_iget(parent, e.value_inum, e.hash);
  try {
    if (ea.i_size !== e.value_size) {
      const text = `ea_inode file size=${ea.i_size} entry size=${e.value_size}`;
      ext4_warning_inode(ea, "ext4_xattr_inode_get", text);
      throw EFSCORRUPTED;
    }
    const value = await read_ea_inode(ea, e.value_size);
    if (ext4_test_inode_state(ea, EXT4_STATE_LUSTRE_EA_INODE)) return value;
    const hash = ext4_xattr_inode_hash(parent.i_sb, value);
    const entry_ok =
      ext4_xattr_hash_entry(e.name, [hash], true) === e.hash ||
      ext4_xattr_hash_entry(e.name, [hash], false) === e.hash;
    if (hash !== ext4_xattr_inode_get_hash(ea) || !entry_ok) {
      ext4_warning_inode(ea, "ext4_xattr_inode_get", "EA inode hash validation failed");
      throw EFSCORRUPTED;
    }
    return value;
  } finally {
    await iput(ea);
  }
}

// --- get and list -------------------------------------------------------------------------------

async function value_of(inode: inode, a: xattr_area, e: xattr_entry): Promise<Uint8Array> {
  if (e.value_inum !== 0) return ext4_xattr_inode_get(inode, e);
  if (e.value_size === 0) return new Uint8Array(0);
  const at = a.value_base + e.value_offs;
  return a.bytes.slice(at, at + e.value_size);
}

/** Calls `fn` with each area in turn until it answers; buffers are held meanwhile. */
async function in_areas<T>(
  inode: inode,
  fn: (a: xattr_area) => Promise<T | undefined>,
): Promise<T | undefined> {
  if (ext4_test_inode_state(inode, EXT4_STATE_XATTR)) {
    const iloc = await ext4_get_inode_loc(inode);
    try {
      const a = xattr_ibody_area(inode, iloc.bh.b_data, iloc.offset);
      const r = a ? await fn(a) : undefined;
      if (r !== undefined) return r;
    } finally {
      brelse(iloc.bh);
    }
  }
  const block = EXT4_I(inode).i_file_acl;
  if (block === 0) return undefined;
  const bh = await ext4_sb_bread(inode.i_sb, block);
  try {
    return await fn(xattr_block_area(inode, bh));
  } finally {
    brelse(bh);
  }
}

async function with_xattr_sem<T>(inode: inode, fn: () => Promise<T>): Promise<T> {
  const sem = EXT4_I(inode).xattr_sem;
  const p = sem.down_read();
  if (p) await p;
  try {
    return await fn();
  } finally {
    sem.up_read();
  }
}

/**
 * An attribute's value. `name` is without its prefix. Throws ENODATA, ERANGE, EUCLEAN, EBADMSG,
 * EIO.
 */
export async function ext4_xattr_get(
  inode: inode,
  name_index: number,
  name: string,
): Promise<Uint8Array> {
  if (ext4_forced_shutdown(EXT4_SB(inode.i_sb))) throw EIO;
  const raw = name_to_bytes(name);
  if (raw.length > 255) throw ERANGE;
  const value = await with_xattr_sem(inode, () =>
    in_areas(inode, async (a) => {
      const e = xattr_find(a, name_index, raw);
      return e ? value_of(inode, a, e) : undefined;
    }),
  );
  if (value === undefined) throw ENODATA;
  return value;
}

const PREFIX: ReadonlyMap<number, string> = new Map([
  [M.EXT4_XATTR_INDEX_USER, "user."],
  [M.EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, "system.posix_acl_access"],
  [M.EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT, "system.posix_acl_default"],
  [M.EXT4_XATTR_INDEX_TRUSTED, "trusted."],
  [M.EXT4_XATTR_INDEX_SECURITY, "security."],
]);

/** Whole names, those in the inode first. Attributes nobody may see are left out. */
export async function ext4_listxattr(dentry: dentry): Promise<string[]> {
  const inode = dentry.d_inode!;
  const out: string[] = [];
  const sb = inode.i_sb;
  await with_xattr_sem(inode, () =>
    in_areas(inode, async (a) => {
      for (const e of xattr_entries(a)) {
        const prefix = PREFIX.get(e.name_index);
        if (prefix === undefined) continue;
        if (prefix === "user." && !test_opt(sb, EXT4_MOUNT_XATTR_USER)) continue;
        if (prefix === "trusted." && !capable(sb.kernel, CAP_SYS_ADMIN)) continue;
        out.push(prefix + bytes_to_name(e.name));
      }
      return undefined;
    }),
  );
  return out;
}

// --- access control lists -----------------------------------------------------------------------

const ACL_SHORT_TAGS: readonly number[] = Object.freeze([0x01, 0x04, 0x10, 0x20]);
const ACL_LONG_TAGS: readonly number[] = Object.freeze([0x02, 0x08]);

/** ext4's own form of an ACL (version 1, short entries) to the one users see (version 2). */
export function acl_from_disk(b: Uint8Array): Uint8Array {
  if (b.length < 4 || le32(b, 0) !== 1) throw EINVAL;
  const out: number[] = [2, 0, 0, 0];
  for (let at = 4; at < b.length; ) {
    if (at + 4 > b.length) throw EINVAL;
    const tag = le16(b, at);
    out.push(b[at]!, b[at + 1]!, b[at + 2]!, b[at + 3]!);
    if (ACL_SHORT_TAGS.includes(tag)) {
      out.push(0xff, 0xff, 0xff, 0xff);
      at += 4;
    } else if (ACL_LONG_TAGS.includes(tag) && at + 8 <= b.length) {
      out.push(b[at + 4]!, b[at + 5]!, b[at + 6]!, b[at + 7]!);
      at += 8;
    } else throw EINVAL;
  }
  return Uint8Array.from(out);
}

/** And back, for setting one. */
export function acl_to_disk(b: Uint8Array): Uint8Array {
  if (b.length < 4 || le32(b, 0) !== 2 || (b.length - 4) % 8 !== 0) throw EINVAL;
  const out: number[] = [1, 0, 0, 0];
  for (let at = 4; at < b.length; at += 8) {
    const tag = le16(b, at);
    const long = ACL_LONG_TAGS.includes(tag);
    if (!long && !ACL_SHORT_TAGS.includes(tag)) throw EINVAL;
    out.push(...b.subarray(at, at + (long ? 8 : 4)));
  }
  return Uint8Array.from(out);
}

// --- handlers -----------------------------------------------------------------------------------

function handler(
  prefix: string,
  index: number,
  check: (sb: super_block, set: boolean) => void,
): xattr_handler {
  return Object.freeze({
    prefix,
    get: async (inode: inode, name: string) => {
      check(inode.i_sb, false);
      return ext4_xattr_get(inode, index, name);
    },
    set: async (inode: inode, name: string, value: Uint8Array | null, flags: number) => {
      check(inode.i_sb, true);
      return ext4_xattr_set(inode, index, name, value, flags);
    },
  });
}
function acl_handler(prefix: string, index: number): xattr_handler {
  return Object.freeze({
    prefix,
    get: async (inode: inode) => acl_from_disk(await ext4_xattr_get(inode, index, "")),
    set: async (inode: inode, _name: string, value: Uint8Array | null) =>
      ext4_set_acl(inode, index, value),
  });
}
const anyone = () => {};

export const ext4_xattr_handlers: readonly xattr_handler[] = Object.freeze([
  handler("user.", M.EXT4_XATTR_INDEX_USER, (sb) => {
    if (!test_opt(sb, EXT4_MOUNT_XATTR_USER)) throw EOPNOTSUPP;
  }),
  handler("trusted.", M.EXT4_XATTR_INDEX_TRUSTED, (sb, set) => {
    if (!capable(sb.kernel, CAP_SYS_ADMIN)) throw set ? EPERM : ENODATA;
  }),
  acl_handler("system.posix_acl_access", M.EXT4_XATTR_INDEX_POSIX_ACL_ACCESS),
  acl_handler("system.posix_acl_default", M.EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT),
  handler("security.", M.EXT4_XATTR_INDEX_SECURITY, anyone),
]);
