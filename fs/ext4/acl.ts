/**
 * fs/ext4/acl.ts - setting access control lists. Linux: fs/ext4/acl.c, and from fs/posix_acl.c what
 * checks a list and takes it over into the mode.
 *
 * A list comes as users write it (acl(5), version 2: tag u16, perm u16, id u32 each). An access
 * list that says no more than the mode is not kept. A new inode takes over its directory's default
 * list in place of the umask. Differs: lists are not looked at when permission is asked for.
 * Locks: i_rwsem of the inode, held by the VFS.
 */
import { EACCES, EINVAL, ENODATA, ENOSPC, EOPNOTSUPP, EPERM } from "../../kernel/include/errno.ts";
import { CAP_FSETID } from "../../kernel/include/cred.ts";
import { XATTR_CREATE } from "../../kernel/include/fcntl.ts";
import { type inode, SB_POSIXACL } from "../../kernel/include/fs.ts";
import { S_ISDIR, S_ISGID, S_ISLNK } from "../../kernel/include/stat.ts";
import { capable, in_group_p } from "../../kernel/cred.ts";
import { current_time } from "../../kernel/vfs/inode.ts";
import type { fs_struct } from "../fs_struct.ts";
import { inode_owner_or_capable } from "../namei/permission.ts";
import { EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT } from "./ext4.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_XATTR,
  EXT4_XATTR_TRANS_BLOCKS,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_should_retry_alloc } from "./retry_alloc.ts";
import { acl_from_disk, acl_to_disk, ext4_xattr_get } from "./xattr.ts";
import { ext4_xattr_set_handle } from "./xattr_write.ts";

const ACL_USER_OBJ = 0x01;
const ACL_USER = 0x02;
const ACL_GROUP_OBJ = 0x04;
const ACL_GROUP = 0x08;
const ACL_MASK = 0x10;
const ACL_OTHER = 0x20;
/** The order that entries must have. */
const ORDER: readonly number[] = Object.freeze([
  ACL_USER_OBJ,
  ACL_USER,
  ACL_GROUP_OBJ,
  ACL_GROUP,
  ACL_MASK,
  ACL_OTHER,
]);

interface acl_entry {
  tag: number;
  perm: number;
  id: number;
}

/** The entries, or null for a list without any. Throws EINVAL, EOPNOTSUPP (other versions). */
function parse_acl(b: Uint8Array): acl_entry[] | null {
  const v = new DataView(b.buffer, b.byteOffset, b.byteLength);
  if (b.length < 4 || (b.length - 4) % 8 !== 0) throw EINVAL;
  if (v.getUint32(0, true) !== 2) throw EOPNOTSUPP;
  const out: acl_entry[] = [];
  for (let at = 4; at < b.length; at += 8) {
    out.push({
      tag: v.getUint16(at, true),
      perm: v.getUint16(at + 2, true),
      id: v.getUint32(at + 4, true),
    });
  }
  return out.length > 0 ? out : null;
}

function format_acl(acl: readonly acl_entry[]): Uint8Array {
  const v = new DataView(new ArrayBuffer(4 + 8 * acl.length));
  v.setUint32(0, 2, true);
  acl.forEach((e, i) => {
    v.setUint16(4 + 8 * i, e.tag, true);
    v.setUint16(6 + 8 * i, e.perm, true);
    v.setUint32(8 + 8 * i, e.id, true);
  });
  return new Uint8Array(v.buffer);
}

/** The inode's list, or null. */
async function get_acl(inode: inode, index: number): Promise<acl_entry[] | null> {
  try {
    return parse_acl(acl_from_disk(await ext4_xattr_get(inode, index, "")));
  } catch (e) {
    if (e === ENODATA) return null;
    throw e;
  }
}

/** Every kind in its place, the three of the mode just once, a mask if there are named ones. */
function check_acl(acl: readonly acl_entry[]): void {
  let last = -1;
  for (const { tag, perm } of acl) {
    const kind = ORDER.indexOf(tag);
    if (kind < 0 || perm > 7) throw EINVAL;
    const many = tag === ACL_USER || tag === ACL_GROUP;
    if (kind < last || (kind === last && !many)) throw EINVAL;
    last = kind;
  }
  const has = (tag: number): boolean => acl.some((e) => e.tag === tag);
  if (!has(ACL_USER_OBJ) || !has(ACL_GROUP_OBJ) || !has(ACL_OTHER)) throw EINVAL;
  if ((has(ACL_USER) || has(ACL_GROUP)) && !has(ACL_MASK)) throw EINVAL;
}

/** The mode that an access list stands for, and whether it says more than that. */
function mode_of(inode: inode, acl: readonly acl_entry[]): { mode: number; more: boolean } {
  const perm = (tag: number): number | undefined => acl.find((e) => e.tag === tag)?.perm;
  const group = perm(ACL_MASK) ?? perm(ACL_GROUP_OBJ)!;
  let mode = inode.i_mode & ~0o777;
  mode |= (perm(ACL_USER_OBJ)! << 6) | (group << 3) | perm(ACL_OTHER)!;
  const { kernel } = inode;
  if (!in_group_p(kernel, inode.i_gid) && !capable(kernel, CAP_FSETID)) mode &= ~S_ISGID;
  return { mode, more: acl.length > 3 };
}

async function store_acl(
  inode: inode,
  index: number,
  value: Uint8Array | null,
  mode: number,
): Promise<void> {
  const credits = EXT4_XATTR_TRANS_BLOCKS + EXT4_DATA_TRANS_BLOCKS;
  const handle = await ext4_journal_start(inode, EXT4_HT_XATTR, credits);
  try {
    const name = new Uint8Array(0);
    await ext4_xattr_set_handle(handle, inode, index, name, value && acl_to_disk(value), 0);
    if (mode === inode.i_mode) return;
    inode.i_mode = mode;
    inode.i_ctime = current_time(inode);
    await ext4_mark_inode_dirty(handle, inode, "ext4_set_acl");
  } finally {
    ext4_journal_stop(handle);
  }
}

/**
 * Sets (value) or removes (null) the access or default list: `index` says which.
 * @throws EOPNOTSUPP noacl, symlinks; EACCES default list of a file; EPERM, EINVAL, ENOSPC, EIO
 */
export async function ext4_set_acl(
  inode: inode,
  index: number,
  value: Uint8Array | null,
): Promise<void> {
  const sb = inode.i_sb;
  if (!(sb.s_flags & SB_POSIXACL) || S_ISLNK(inode.i_mode)) throw EOPNOTSUPP;
  const acl = value && parse_acl(value);
  const access = index === EXT4_XATTR_INDEX_POSIX_ACL_ACCESS;
  if (!access && !S_ISDIR(inode.i_mode)) {
    if (acl) throw EACCES;
    return;
  }
  if (!inode_owner_or_capable(inode)) throw EPERM;
  if (acl) check_acl(acl);
  await set_acl(inode, index, acl);
}

/** Stores a list that was checked, and the mode that it stands for. */
async function set_acl(inode: inode, index: number, acl: acl_entry[] | null): Promise<void> {
  let mode = inode.i_mode;
  let kept = acl && format_acl(acl);
  if (acl && index === EXT4_XATTR_INDEX_POSIX_ACL_ACCESS) {
    const m = mode_of(inode, acl);
    mode = m.mode;
    if (!m.more) kept = null;
  }
  for (let retries = 0; ; retries++) {
    try {
      return await store_acl(inode, index, kept, mode);
    } catch (e) {
      if (e !== ENOSPC || !(await ext4_should_retry_alloc(inode.i_sb, retries))) throw e;
    }
  }
}

// --- new inodes, chmod --------------------------------------------------------------------------

/** What a new inode gets besides its mode. */
export interface inherited_acl {
  access: Uint8Array | null;
  default: Uint8Array | null;
}

/** Cuts list and mode down to what both allow; the mode. */
function masq(acl: acl_entry[], mode: number): number {
  const cut = (e: acl_entry | undefined, shift: number): void => {
    if (!e) return;
    e.perm &= mode >> shift;
    mode &= ~(7 << shift) | (e.perm << shift);
  };
  const of = (tag: number): acl_entry | undefined => acl.find((e) => e.tag === tag);
  cut(of(ACL_USER_OBJ), 6);
  cut(of(ACL_MASK) ?? of(ACL_GROUP_OBJ), 3);
  cut(of(ACL_OTHER), 0);
  return mode;
}

/**
 * Sets the mode of a new inode of `dir` (the VFS leaves the umask to filesystems with ACLs) and
 * says which lists it takes over: ext4_store_inherited_acl() keeps them once the inode is in the
 * inode table.
 */
export async function ext4_inherit_acl(inode: inode, dir: inode): Promise<inherited_acl | null> {
  if (!(dir.i_sb.s_flags & SB_POSIXACL) || S_ISLNK(inode.i_mode)) return null;
  const acl = await get_acl(dir, EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT);
  if (!acl) {
    const fs = inode.kernel.current.fs as fs_struct | null;
    inode.i_mode &= ~(fs?.umask ?? 0);
    return null;
  }
  const whole = S_ISDIR(inode.i_mode) ? format_acl(acl) : null;
  inode.i_mode = masq(acl, inode.i_mode);
  return { access: acl.length > 3 ? format_acl(acl) : null, default: whole };
}

export async function ext4_store_inherited_acl(
  handle: handle_t,
  inode: inode,
  acl: inherited_acl,
): Promise<void> {
  const put = async (index: number, value: Uint8Array | null): Promise<void> => {
    if (!value) return;
    const disk = acl_to_disk(value);
    await ext4_xattr_set_handle(handle, inode, index, new Uint8Array(0), disk, XATTR_CREATE);
  };
  await put(EXT4_XATTR_INDEX_POSIX_ACL_DEFAULT, acl.default);
  await put(EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, acl.access);
}

/** The mode was changed: the access list follows. */
export async function ext4_acl_chmod(inode: inode): Promise<void> {
  if (!(inode.i_sb.s_flags & SB_POSIXACL) || S_ISLNK(inode.i_mode)) return;
  const acl = await get_acl(inode, EXT4_XATTR_INDEX_POSIX_ACL_ACCESS);
  if (!acl) return;
  const put = (tag: number, shift: number): boolean => {
    const e = acl.find((x) => x.tag === tag);
    if (e) e.perm = (inode.i_mode >> shift) & 7;
    return e !== undefined;
  };
  put(ACL_USER_OBJ, 6);
  if (!put(ACL_MASK, 3)) put(ACL_GROUP_OBJ, 3);
  put(ACL_OTHER, 0);
  await set_acl(inode, EXT4_XATTR_INDEX_POSIX_ACL_ACCESS, acl);
}
