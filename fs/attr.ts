/**
 * fs/attr.ts - changing owner, mode, size and times. Linux: fs/attr.c, dentry_needs_remove_privs in
 * fs/inode.c.
 * No user namespaces, no security attributes to remove.
 *
 * Callers hold i_rwsem for write and the mount's write access. Filesystems call setattr_prepare(),
 * change the size themselves, then setattr_copy().
 */
import { CAP_CHOWN, CAP_FSETID } from "../kernel/include/cred.ts";
import { EFBIG, EOPNOTSUPP, EPERM, ETXTBSY } from "../kernel/include/errno.ts";
import type { Sometime, dentry, file, iattr, inode } from "../kernel/include/fs.ts";
import {
  ATTR_ATIME,
  ATTR_ATIME_SET,
  ATTR_CTIME,
  ATTR_FILE,
  ATTR_FORCE,
  ATTR_GID,
  ATTR_KILL_SGID,
  ATTR_KILL_SUID,
  ATTR_MODE,
  ATTR_MTIME,
  ATTR_MTIME_SET,
  ATTR_SIZE,
  ATTR_TIMES_SET,
  ATTR_TOUCH,
  ATTR_UID,
  MAY_WRITE,
} from "../kernel/include/fs.ts";
import { S_ISGID, S_ISLNK, S_ISREG, S_ISUID } from "../kernel/include/stat.ts";
import { assert } from "../kernel/assert.ts";
import { capable, current_cred, in_group_p } from "../kernel/cred.ts";
import { current_time, mark_inode_dirty, timestamp_truncate } from "../kernel/vfs/inode.ts";
import { truncate_setsize } from "../mm/truncate.ts";
import { file_update_time } from "./atime.ts";
import {
  IS_APPEND,
  IS_IMMUTABLE,
  IS_SWAPFILE,
  in_group_or_capable,
  inode_owner_or_capable,
  inode_permission,
} from "./namei/permission.ts";
import { RLIMIT_FSIZE, rlimit, send_sigxfsz } from "./rlimit.ts";

const NO_TIME = Object.freeze({ tv_sec: 0, tv_nsec: 0 });

/** A change of nothing, to be filled in. */
export function new_iattr(ia_valid: number, file: file | null = null): iattr {
  return {
    ia_valid: file === null ? ia_valid : ia_valid | ATTR_FILE,
    ia_mode: 0,
    ia_uid: 0,
    ia_gid: 0,
    ia_size: 0,
    ia_atime: NO_TIME,
    ia_mtime: NO_TIME,
    ia_ctime: NO_TIME,
    ia_file: file,
  };
}

/** The owner may give the file to himself only; else CAP_CHOWN. */
function chown_ok(inode: inode, uid: number): boolean {
  if (current_cred(inode.kernel).fsuid === inode.i_uid && uid === inode.i_uid) return true;
  return capable(inode.kernel, CAP_CHOWN);
}

/** The owner may choose among his groups; else CAP_CHOWN. */
function chgrp_ok(inode: inode, gid: number): boolean {
  if (current_cred(inode.kernel).fsuid === inode.i_uid) {
    if (gid === inode.i_gid || in_group_p(inode.kernel, gid)) return true;
  }
  return capable(inode.kernel, CAP_CHOWN);
}

/** May the caller make that change? For i_op.setattr. Clears set-gid from ia_mode for outsiders. */
export function setattr_prepare(d: dentry, attr: iattr): void {
  const inode = d.d_inode!;
  const valid = attr.ia_valid;
  if ((valid & ATTR_SIZE) !== 0) inode_newsize_ok(inode, attr.ia_size);
  if ((valid & ATTR_FORCE) !== 0) return;
  if ((valid & ATTR_UID) !== 0 && !chown_ok(inode, attr.ia_uid)) throw EPERM;
  if ((valid & ATTR_GID) !== 0 && !chgrp_ok(inode, attr.ia_gid)) throw EPERM;
  if ((valid & ATTR_MODE) !== 0) {
    if (!inode_owner_or_capable(inode)) throw EPERM;
    const gid = (valid & ATTR_GID) !== 0 ? attr.ia_gid : inode.i_gid;
    if (!in_group_or_capable(inode, gid)) attr.ia_mode &= ~S_ISGID;
  }
  const times = ATTR_MTIME_SET | ATTR_ATIME_SET | ATTR_TIMES_SET;
  if ((valid & times) !== 0 && !inode_owner_or_capable(inode)) throw EPERM;
}

/** May the file get that size? EFBIG (with SIGXFSZ at the process's limit), ETXTBSY. */
export function inode_newsize_ok(inode: inode, size: number): void {
  if (inode.i_size < size) {
    const task = inode.kernel.current;
    if (size > rlimit(task, RLIMIT_FSIZE)) {
      send_sigxfsz(task);
      throw EFBIG;
    }
    if (size > inode.i_sb.s_maxbytes) throw EFBIG;
  } else if (IS_SWAPFILE(inode)) throw ETXTBSY;
}

/** Takes over everything but the size. For i_op.setattr; marks nothing dirty. */
export function setattr_copy(inode: inode, attr: iattr): void {
  const valid = attr.ia_valid;
  if ((valid & ATTR_UID) !== 0) inode.i_uid = attr.ia_uid;
  if ((valid & ATTR_GID) !== 0) inode.i_gid = attr.ia_gid;
  if ((valid & ATTR_ATIME) !== 0) inode.i_atime = attr.ia_atime;
  if ((valid & ATTR_MTIME) !== 0) inode.i_mtime = attr.ia_mtime;
  if ((valid & ATTR_CTIME) !== 0) inode.i_ctime = attr.ia_ctime;
  if ((valid & ATTR_MODE) !== 0) {
    let mode = attr.ia_mode;
    if (!in_group_or_capable(inode, inode.i_gid)) mode &= ~S_ISGID;
    inode.i_mode = mode;
  }
}

/** Flags of inode and kind of change, before the filesystem is asked. */
export function may_setattr(inode: inode, ia_valid: number): void {
  if ((ia_valid & (ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_TIMES_SET)) !== 0) {
    if (IS_IMMUTABLE(inode) || IS_APPEND(inode)) throw EPERM;
  }
  if ((ia_valid & ATTR_TOUCH) !== 0) {
    if (IS_IMMUTABLE(inode)) throw EPERM;
    if (!inode_owner_or_capable(inode)) inode_permission(inode, MAY_WRITE);
  }
}

function kill_bits_to_mode(inode: inode, attr: iattr): void {
  const { i_mode } = inode;
  assert((attr.ia_valid & (ATTR_KILL_SUID | ATTR_KILL_SGID)) === 0 || !has_mode(attr));
  if ((attr.ia_valid & ATTR_KILL_SUID) !== 0 && (i_mode & S_ISUID) !== 0) {
    attr.ia_valid |= ATTR_MODE;
    attr.ia_mode = i_mode & ~S_ISUID;
  }
  if ((attr.ia_valid & ATTR_KILL_SGID) !== 0 && (i_mode & S_ISGID) !== 0) {
    if (!has_mode(attr)) attr.ia_mode = i_mode;
    attr.ia_valid |= ATTR_MODE;
    attr.ia_mode &= ~S_ISGID;
  }
}

const has_mode = (attr: iattr): boolean => (attr.ia_valid & ATTR_MODE) !== 0;

/** Changes attributes. i_rwsem is held for write. */
export async function notify_change(d: dentry, attr: iattr): Promise<void> {
  const inode = d.d_inode!;
  inode.i_rwsem.assert_held_write();
  may_setattr(inode, attr.ia_valid);
  if (has_mode(attr) && S_ISLNK(inode.i_mode)) throw EOPNOTSUPP;
  const now = current_time(inode);
  const sb = inode.i_sb;
  attr.ia_ctime = now;
  const set = attr.ia_valid;
  attr.ia_atime = (set & ATTR_ATIME_SET) !== 0 ? timestamp_truncate(attr.ia_atime, sb) : now;
  attr.ia_mtime = (set & ATTR_MTIME_SET) !== 0 ? timestamp_truncate(attr.ia_mtime, sb) : now;
  kill_bits_to_mode(inode, attr);
  if ((attr.ia_valid & ~(ATTR_KILL_SUID | ATTR_KILL_SGID)) === 0) return;
  if (inode.i_op.setattr !== undefined) await inode.i_op.setattr(d, attr);
  else await simple_setattr(d, attr);
}

/** setattr of files in the page cache only, and of directories. */
export async function simple_setattr(d: dentry, attr: iattr): Promise<void> {
  const inode = d.d_inode!;
  setattr_prepare(d, attr);
  if ((attr.ia_valid & ATTR_SIZE) !== 0) await truncate_setsize(inode, attr.ia_size);
  setattr_copy(inode, attr);
  await mark_inode_dirty(inode);
}

/**
 * ATTR_KILL_* for a change by someone who may not keep set-id bits; 0 when there is nothing to
 * kill.
 */
export function setattr_should_drop_suidgid(inode: inode): number {
  const mode = inode.i_mode;
  let kill = (mode & S_ISUID) !== 0 ? ATTR_KILL_SUID : 0;
  kill |= setattr_should_drop_sgid(inode);
  return kill !== 0 && S_ISREG(mode) && !capable(inode.kernel, CAP_FSETID) ? kill : 0;
}

export function setattr_should_drop_sgid(inode: inode): number {
  const mode = inode.i_mode;
  if ((mode & S_ISGID) === 0) return 0;
  if ((mode & 0o010) !== 0) return ATTR_KILL_SGID;
  return in_group_or_capable(inode, inode.i_gid) ? 0 : ATTR_KILL_SGID;
}

/** A write by a plain user takes the set-id bits off. i_rwsem is held for write. */
export function file_remove_privs(f: file): Sometime<void> {
  const inode = f.f_inode;
  if (!S_ISREG(inode.i_mode) || (inode.i_mode & (S_ISUID | S_ISGID)) === 0) return undefined;
  const kill = setattr_should_drop_suidgid(inode);
  if (kill === 0) return undefined;
  return notify_change(f.f_path.dentry, new_iattr(ATTR_FORCE | kill));
}

/** The usual pair before data is changed: set-id bits go, times move. */
export function file_modified(f: file): Sometime<void> {
  const p = file_remove_privs(f);
  return p ? update_time_after(p, f) : file_update_time(f);
}

async function update_time_after(p: Promise<void>, f: file): Promise<void> {
  await p;
  await file_update_time(f);
}
