/**
 * fs/namei/open.ts - open(2) from flags to file. Linux: build_open_flags in fs/open.c;
 * open_last_lookups, lookup_open, do_open, do_tmpfile in fs/namei.c.
 *
 * Reading order: build_open_flags() -> do_filp_open() -> open_last_lookups() -> lookup_open() ->
 * do_open().
 * The directory's i_rwsem is held for write only with O_CREAT, and only around lookup and create.
 * Whether the caller may create is found out before the lookup but reported only if the file is not
 * there.
 */
import {
  EACCES,
  EEXIST,
  EINVAL,
  EISDIR,
  ENOENT,
  ENOTDIR,
  EOPNOTSUPP,
  EROFS,
  is_errno,
  type Errno,
} from "../../kernel/include/errno.ts";
import {
  AT_FDCWD,
  O_ACCMODE,
  O_APPEND,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECT,
  O_DIRECTORY,
  O_DSYNC,
  O_EXCL,
  O_LARGEFILE,
  O_NOATIME,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDWR,
  O_SYNC,
  O_TRUNC,
  O_WRONLY,
  __O_TMPFILE,
} from "../../kernel/include/fcntl.ts";
import type { dentry, file, path } from "../../kernel/include/fs.ts";
import {
  FMODE_CREATED,
  I_LINKABLE,
  MAY_APPEND,
  MAY_EXEC,
  MAY_READ,
  MAY_WRITE,
} from "../../kernel/include/fs.ts";
import { S_IALLUGO, S_IFREG } from "../../kernel/include/stat.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { fput } from "../../kernel/vfs/file.ts";
import {
  inode_lock,
  inode_lock_shared,
  inode_unlock,
  inode_unlock_shared,
} from "../../kernel/vfs/inode.ts";
import { d_alloc, d_can_lookup, d_is_dir, d_is_reg, d_lookup, dput } from "../dcache.ts";
import { handle_truncate, vfs_open } from "../file_open.ts";
import { umask_in } from "../fs_struct.ts";
import { mnt_drop_write, mnt_want_write, mntget, path_put } from "../mount.ts";
import { IS_DEADDIR, inode_permission, may_open, mode_strip_sgid } from "./permission.ts";
import {
  LAST_NORM,
  LAST_ROOT,
  LOOKUP_CREATE,
  LOOKUP_DIRECTORY,
  LOOKUP_EXCL,
  LOOKUP_FOLLOW,
  LOOKUP_OPEN,
  __lookup,
  begin_link,
  link_path_walk,
  path_init,
  path_lookupat,
  step_into,
  walk_component,
  type nameidata,
} from "./walk.ts";

export interface open_flags {
  open_flag: number;
  mode: number;
  acc_mode: number;
  intent: number;
  lookup_flags: number;
}

const VALID_OPEN_FLAGS =
  O_ACCMODE |
  O_CREAT |
  O_EXCL |
  O_NOCTTY |
  O_TRUNC |
  O_APPEND |
  O_NONBLOCK |
  O_SYNC |
  O_DSYNC |
  O_DIRECT |
  O_LARGEFILE |
  O_DIRECTORY |
  O_NOFOLLOW |
  O_NOATIME |
  O_CLOEXEC |
  O_PATH |
  __O_TMPFILE;
const O_PATH_FLAGS = O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
const ACC_MODE = [MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE] as const;

/** open(2)'s flags and mode, unknown flags dropped. EINVAL for combinations that mean nothing. */
export function build_open_flags(raw: number, mode: number): open_flags {
  let flags = raw & VALID_OPEN_FLAGS;
  if ((flags & O_PATH) !== 0) flags &= O_PATH_FLAGS;
  flags &= ~O_CLOEXEC;
  let acc_mode: number = ACC_MODE[flags & O_ACCMODE]!;
  const creates = (flags & (O_CREAT | __O_TMPFILE)) !== 0;
  const op_mode = creates ? (mode & S_IALLUGO) | S_IFREG : 0;
  if ((flags & (O_DIRECTORY | O_CREAT)) === (O_DIRECTORY | O_CREAT)) throw EINVAL;
  if ((flags & __O_TMPFILE) !== 0) {
    if ((flags & O_DIRECTORY) === 0 || (acc_mode & MAY_WRITE) === 0) throw EINVAL;
  }
  if ((flags & O_PATH) !== 0) acc_mode = 0;
  if ((flags & O_SYNC & ~O_DSYNC) !== 0) flags |= O_DSYNC;
  const open_flag = flags | ((flags & O_PATH) === 0 ? O_LARGEFILE : 0);
  if ((flags & O_TRUNC) !== 0) acc_mode |= MAY_WRITE;
  if ((flags & O_APPEND) !== 0) acc_mode |= MAY_APPEND;
  let intent = (flags & O_PATH) !== 0 ? 0 : LOOKUP_OPEN;
  if ((flags & O_CREAT) !== 0) {
    intent |= LOOKUP_CREATE;
    if ((flags & O_EXCL) !== 0) {
      intent |= LOOKUP_EXCL;
      flags |= O_NOFOLLOW;
    }
  }
  let lookup_flags = 0;
  if ((flags & O_DIRECTORY) !== 0) lookup_flags |= LOOKUP_DIRECTORY;
  if ((flags & O_NOFOLLOW) === 0) lookup_flags |= LOOKUP_FOLLOW;
  return { open_flag, mode: op_mode, acc_mode, intent, lookup_flags };
}

/** What path_openat has found out so far. */
interface open_state {
  task: task_struct;
  nd: nameidata;
  op: open_flags;
  created: boolean;
}

/** Opens a path. The file has one reference and no descriptor yet. */
export async function do_filp_open(
  task: task_struct,
  dfd: number,
  name: string,
  op: open_flags,
): Promise<file> {
  if ((op.open_flag & __O_TMPFILE) !== 0) return do_tmpfile(task, dfd, name, op);
  if ((op.open_flag & O_PATH) !== 0) return do_o_path(task, dfd, name, op);
  const nd = path_init(task, dfd, name, op.lookup_flags);
  const st: open_state = { task, nd, op, created: false };
  try {
    let text: string | null = name;
    while (text !== null) {
      await link_path_walk(nd, text);
      text = await open_last_lookups(st);
    }
    return await do_open(st);
  } finally {
    await path_put(nd.path);
  }
}

/** The last component: text of a symlink to walk on with, or null when nd.path is the file. */
async function open_last_lookups(st: open_state): Promise<string | null> {
  const { nd, op } = st;
  const { open_flag } = op;
  if (nd.last_type === LAST_ROOT) return null;
  if (nd.last_type !== LAST_NORM) return walk_component(nd, nd.last, nd.last_type, false);
  const parent = nd.path.dentry;
  let d: dentry | null = null;
  if ((open_flag & O_CREAT) === 0) {
    if (nd.trailing) nd.flags |= LOOKUP_FOLLOW | LOOKUP_DIRECTORY;
    d = d_lookup(parent, nd.last);
  } else if (nd.trailing) throw EISDIR;
  if (d === null) d = await lookup_or_create(st, parent);
  if (st.created) {
    const old = nd.path;
    nd.path = { mnt: mntget(old.mnt), dentry: d };
    await path_put(old);
    return null;
  }
  const link = await step_into(nd, d, (nd.flags & LOOKUP_FOLLOW) !== 0);
  if (link === null) return null;
  const text = nd.trailing ? `${link}/` : link;
  await begin_link(nd, link, text);
  return text;
}

async function lookup_or_create(st: open_state, parent: dentry): Promise<dentry> {
  const { mnt } = st.nd.path;
  const dir = parent.d_inode!;
  const create = (st.op.open_flag & O_CREAT) !== 0;
  const writes = O_CREAT | O_TRUNC | O_WRONLY | O_RDWR;
  const got_write = (st.op.open_flag & writes) !== 0 && (await try_want_write(mnt));
  const p = create ? inode_lock(dir) : inode_lock_shared(dir);
  if (p) await p;
  try {
    return await lookup_open(st, parent, got_write);
  } finally {
    if (create) inode_unlock(dir);
    else inode_unlock_shared(dir);
    if (got_write) mnt_drop_write(mnt);
  }
}

async function try_want_write(mnt: path["mnt"]): Promise<boolean> {
  try {
    const p = mnt_want_write(mnt);
    if (p) await p;
    return true;
  } catch (e) {
    if (e === EROFS) return false;
    throw e;
  }
}

/** Why the file may not be made here, or null. */
function may_o_create(dir: dentry, got_write: boolean): Errno | null {
  if (!got_write) return EROFS;
  try {
    inode_permission(dir.d_inode!, MAY_WRITE | MAY_EXEC);
    return null;
  } catch (e) {
    if (is_errno(e)) return e;
    throw e;
  }
}

async function lookup_open(st: open_state, parent: dentry, got_write: boolean): Promise<dentry> {
  const { nd, op } = st;
  const dir = parent.d_inode!;
  if (IS_DEADDIR(dir)) throw ENOENT;
  const d = await __lookup(parent, nd.last, op.intent);
  if (d.d_inode !== null || (op.open_flag & O_CREAT) === 0) return d;
  try {
    const create_error = may_o_create(parent, got_write);
    if (create_error !== null) throw create_error;
    if (dir.i_op.create === undefined) throw EACCES;
    const mode = mode_strip_sgid(dir, op.mode) & ~umask_in(st.task, dir);
    await dir.i_op.create(dir, d, mode, (op.open_flag & O_EXCL) !== 0);
    st.created = true;
    return d;
  } catch (e) {
    await dput(d);
    throw e;
  }
}

async function do_open(st: open_state): Promise<file> {
  const { nd, op, created, task } = st;
  let { open_flag, acc_mode } = op;
  if ((open_flag & O_CREAT) !== 0) {
    if ((open_flag & O_EXCL) !== 0 && !created) throw EEXIST;
    if (d_is_dir(nd.path.dentry)) throw EISDIR;
  }
  if ((nd.flags & LOOKUP_DIRECTORY) !== 0 && !d_can_lookup(nd.path.dentry)) throw ENOTDIR;
  let truncate = false;
  if (created) {
    open_flag &= ~O_TRUNC;
    acc_mode = 0;
  } else if (d_is_reg(nd.path.dentry) && (open_flag & O_TRUNC) !== 0) {
    const p = mnt_want_write(nd.path.mnt);
    if (p) await p;
    truncate = true;
  }
  try {
    may_open(nd.path, acc_mode, open_flag);
    const f = await vfs_open(task.kernel, nd.path, op.open_flag, task.cred);
    if (created) f.f_mode |= FMODE_CREATED;
    if (truncate) await truncate_or_put(f);
    return f;
  } finally {
    if (truncate) mnt_drop_write(nd.path.mnt);
  }
}

async function truncate_or_put(f: file): Promise<void> {
  try {
    await handle_truncate(f);
  } catch (e) {
    await fput(f);
    throw e;
  }
}

/** O_PATH: a place, not a file. */
async function do_o_path(
  task: task_struct,
  dfd: number,
  name: string,
  op: open_flags,
): Promise<file> {
  const p = await path_lookupat(task, dfd, name, op.lookup_flags);
  try {
    return await vfs_open(task.kernel, p, op.open_flag, task.cred);
  } finally {
    await path_put(p);
  }
}

/** O_TMPFILE: a file without a name in the directory's filesystem. */
async function do_tmpfile(
  task: task_struct,
  dfd: number,
  name: string,
  op: open_flags,
): Promise<file> {
  const p = await path_lookupat(task, dfd, name, op.lookup_flags | LOOKUP_DIRECTORY);
  try {
    const w = mnt_want_write(p.mnt);
    if (w) await w;
    try {
      return await vfs_tmpfile(task, p, op);
    } finally {
      mnt_drop_write(p.mnt);
    }
  } finally {
    await path_put(p);
  }
}

async function vfs_tmpfile(task: task_struct, p: path, op: open_flags): Promise<file> {
  const dir = p.dentry.d_inode!;
  inode_permission(dir, MAY_WRITE | MAY_EXEC);
  if (dir.i_op.tmpfile === undefined) throw EOPNOTSUPP;
  const mode = mode_strip_sgid(dir, op.mode) & ~umask_in(task, dir);
  const child = d_alloc(p.dentry, "/");
  const place: path = { mnt: p.mnt, dentry: child };
  try {
    await dir.i_op.tmpfile(dir, child, mode);
    may_open(place, 0, op.open_flag);
    const f = await vfs_open(task.kernel, place, op.open_flag, task.cred);
    if ((op.open_flag & O_EXCL) === 0) f.f_inode.i_state |= I_LINKABLE;
    return f;
  } finally {
    await dput(child);
  }
}

/** A path opened by the kernel for itself. */
export function filp_open(task: task_struct, name: string, flags: number): Promise<file> {
  return do_filp_open(task, AT_FDCWD, name, build_open_flags(flags, 0));
}
