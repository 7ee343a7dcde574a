/**
 * fs/xattr.ts - extended attributes: who may, which names, which sizes. Linux: fs/xattr.c.
 * Values and names are stored by the filesystem's handlers (super_block.s_xattr), found by prefix.
 */
import { CAP_SYS_ADMIN } from "../kernel/include/cred.ts";
import { E2BIG, EINVAL, ENODATA, EOPNOTSUPP, EPERM, ERANGE } from "../kernel/include/errno.ts";
import {
  AT_FDCWD,
  XATTR_CREATE,
  XATTR_LIST_MAX,
  XATTR_NAME_MAX,
  XATTR_REPLACE,
  XATTR_SIZE_MAX,
} from "../kernel/include/fcntl.ts";
import type { dentry, inode, path, xattr_handler } from "../kernel/include/fs.ts";
import { MAY_READ, MAY_WRITE } from "../kernel/include/fs.ts";
import { S_ISDIR, S_ISREG, S_ISVTX } from "../kernel/include/stat.ts";
import { capable } from "../kernel/cred.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { inode_lock, inode_unlock } from "../kernel/vfs/inode.ts";
import { with_fd } from "./file.ts";
import {
  mnt_drop_write,
  mnt_drop_write_file,
  mnt_want_write,
  mnt_want_write_file,
} from "./mount.ts";
import {
  IS_APPEND,
  IS_IMMUTABLE,
  inode_owner_or_capable,
  inode_permission,
} from "./namei/permission.ts";
import { LOOKUP_FOLLOW, name_bytes, with_path } from "./namei/walk.ts";

/** Whose attribute: a path (`nofollow` for the symlink itself) or a descriptor. */
export type xattr_target = { path: string; nofollow?: boolean } | { fd: number };

function xattr_permission(inode: inode, name: string, mask: number): void {
  const write = (mask & MAY_WRITE) !== 0;
  if (write && (IS_IMMUTABLE(inode) || IS_APPEND(inode))) throw EPERM;
  if (name.startsWith("security.") || name.startsWith("system.")) return;
  if (name.startsWith("trusted.")) {
    if (!capable(inode.kernel, CAP_SYS_ADMIN)) throw write ? EPERM : ENODATA;
    return;
  }
  if (name.startsWith("user.")) {
    const { i_mode } = inode;
    if (!S_ISREG(i_mode) && !S_ISDIR(i_mode)) throw write ? EPERM : ENODATA;
    const sticky = S_ISDIR(i_mode) && (i_mode & S_ISVTX) !== 0;
    if (write && sticky && !inode_owner_or_capable(inode)) throw EPERM;
  }
  inode_permission(inode, mask);
}

/**
 * The handler and the name behind its prefix. EOPNOTSUPP for a name nobody handles, EINVAL for
 * "user.".
 */
function xattr_resolve_name(inode: inode, name: string): { h: xattr_handler; rest: string } {
  for (const h of inode.i_sb.s_xattr) {
    if (!h.prefix.endsWith(".")) {
      if (name === h.prefix) return { h, rest: "" };
      continue;
    }
    if (!name.startsWith(h.prefix)) continue;
    if (name.length === h.prefix.length) throw EINVAL;
    return { h, rest: name.slice(h.prefix.length) };
  }
  throw EOPNOTSUPP;
}

function check_name(name: string): void {
  const len = name_bytes(name);
  if (len === 0 || len > XATTR_NAME_MAX) throw ERANGE;
}

/** `value` null removes. Takes i_rwsem. */
export async function vfs_setxattr(
  d: dentry,
  name: string,
  value: Uint8Array | null,
  flags: number,
): Promise<void> {
  const inode = d.d_inode!;
  const p = inode_lock(inode);
  if (p) await p;
  try {
    xattr_permission(inode, name, MAY_WRITE);
    const { h, rest } = xattr_resolve_name(inode, name);
    await h.set(inode, rest, value, flags);
  } finally {
    inode_unlock(inode);
  }
}

export async function vfs_getxattr(d: dentry, name: string): Promise<Uint8Array> {
  const inode = d.d_inode!;
  xattr_permission(inode, name, MAY_READ);
  const { h, rest } = xattr_resolve_name(inode, name);
  return h.get(inode, rest);
}

export async function vfs_listxattr(d: dentry): Promise<string[]> {
  const inode = d.d_inode!;
  if (inode.i_op.listxattr === undefined) return [];
  const names = await inode.i_op.listxattr(d);
  if (capable(inode.kernel, CAP_SYS_ADMIN)) return names;
  return names.filter((n) => !n.startsWith("trusted."));
}

function on_target<T>(task: task_struct, t: xattr_target, fn: (p: path) => Promise<T>): Promise<T> {
  if ("fd" in t) return with_fd(task, t.fd, (f) => fn(f.f_path));
  return with_path(task, AT_FDCWD, t.path, t.nofollow ? 0 : LOOKUP_FOLLOW, fn);
}

/** The same with write access to the mount. */
function to_target(
  task: task_struct,
  t: xattr_target,
  fn: (p: path) => Promise<void>,
): Promise<void> {
  if ("fd" in t) {
    return with_fd(task, t.fd, async (f) => {
      const p = mnt_want_write_file(f);
      if (p) await p;
      try {
        await fn(f.f_path);
      } finally {
        mnt_drop_write_file(f);
      }
    });
  }
  return with_path(task, AT_FDCWD, t.path, t.nofollow ? 0 : LOOKUP_FOLLOW, async (p) => {
    const w = mnt_want_write(p.mnt);
    if (w) await w;
    try {
      await fn(p);
    } finally {
      mnt_drop_write(p.mnt);
    }
  });
}

export function sys_setxattr(
  task: task_struct,
  target: xattr_target,
  name: string,
  value: Uint8Array,
  flags = 0,
): Promise<void> {
  return to_target(task, target, async (p) => {
    if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw EINVAL;
    check_name(name);
    if (value.length > XATTR_SIZE_MAX) throw E2BIG;
    await vfs_setxattr(p.dentry, name, value.slice(), flags);
  });
}

export function sys_removexattr(
  task: task_struct,
  target: xattr_target,
  name: string,
): Promise<void> {
  return to_target(task, target, async (p) => {
    check_name(name);
    await vfs_setxattr(p.dentry, name, null, XATTR_REPLACE);
  });
}

/**
 * The value. `size`: of the caller's buffer, ERANGE when it is too small; 0 asks for the length
 * only.
 */
export function sys_getxattr(
  task: task_struct,
  target: xattr_target,
  name: string,
  size = XATTR_SIZE_MAX,
): Promise<Uint8Array> {
  return on_target(task, target, async (p) => {
    check_name(name);
    const value = await vfs_getxattr(p.dentry, name);
    if (size > 0 && value.length > Math.min(size, XATTR_SIZE_MAX)) {
      throw size >= XATTR_SIZE_MAX ? E2BIG : ERANGE;
    }
    return value;
  });
}

/** The names. `size` as for getxattr, counting each name and its terminating zero. */
export function sys_listxattr(
  task: task_struct,
  target: xattr_target,
  size = XATTR_LIST_MAX,
): Promise<string[]> {
  return on_target(task, target, async (p) => {
    const names = await vfs_listxattr(p.dentry);
    let bytes = 0;
    for (const n of names) bytes += name_bytes(n) + 1;
    if (size > 0 && bytes > Math.min(size, XATTR_LIST_MAX)) {
      throw size >= XATTR_LIST_MAX ? E2BIG : ERANGE;
    }
    return names;
  });
}
