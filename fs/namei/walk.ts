/**
 * fs/namei/walk.ts - from a path to a dentry. Linux: fs/namei.c.
 * Differs: no RCU walk; each step holds references. A symlink's text is put in front of the rest of
 * the path instead of on a stack, so the rules of trailing slashes hold for the joined text.
 *
 * Reading order: path_lookupat() -> link_path_walk() -> walk_component() -> lookup_slow() /
 * step_into().
 * Errors in the order of Linux: each component needs search permission (EACCES) before its name is
 * judged (ENAMETOOLONG) and looked up (ENOENT, ENOTDIR); ELOOP at the 41st symlink.
 */
import { ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EINVAL } from "../../kernel/include/errno.ts";
import { AT_FDCWD, NAME_MAX, PATH_MAX } from "../../kernel/include/fcntl.ts";
import type { MaybeWait, Sometime, dentry, inode, path } from "../../kernel/include/fs.ts";
import { MAY_EXEC } from "../../kernel/include/fs.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { inode_lock_shared, inode_unlock_shared } from "../../kernel/vfs/inode.ts";
import { touch_atime } from "../atime.ts";
import {
  IS_ROOT,
  d_alloc_parallel,
  d_can_lookup,
  d_is_symlink,
  d_lookup,
  d_lookup_done,
  dget,
  dput,
  path_get,
} from "../dcache.ts";
import { fcheck_raw } from "../file.ts";
import { task_fs } from "../fs_struct.ts";
import { lookup_mnt, mnt_ns, mntget, mntput, path_put } from "../mount.ts";
import { IS_DEADDIR, inode_permission, may_follow_link } from "./permission.ts";

export const LOOKUP_FOLLOW = 0x1;
export const LOOKUP_DIRECTORY = 0x2;
export const LOOKUP_EMPTY = 0x4;
/** passed to inode_operations.lookup */
export const LOOKUP_OPEN = 0x100;
export const LOOKUP_CREATE = 0x200;
export const LOOKUP_EXCL = 0x400;
export const LOOKUP_RENAME_TARGET = 0x800;

/** Kind of the last component. */
export const LAST_NORM = 0;
export const LAST_ROOT = 1;
export const LAST_DOT = 2;
export const LAST_DOTDOT = 3;

const MAXSYMLINKS = 40;

export interface nameidata {
  /** Where the walk stands; holds references while the walk runs. */
  path: path;
  /** What "/" and ".." stop at; no references, the process holds them. */
  root: path;
  flags: number;
  last: string;
  last_type: number;
  /** Slashes follow the last component. */
  trailing: boolean;
  links: number;
}

/** Length in bytes: names carry bytes that are no UTF-8 as lone surrogates. */
export function name_bytes(name: string): number {
  for (let i = 0; i < name.length; i++) {
    if (name.charCodeAt(i) > 0x7f) return name_to_bytes(name).length;
  }
  return name.length;
}

/** getname(): ENOENT for an empty path (unless LOOKUP_EMPTY), ENAMETOOLONG from 4096 bytes on. */
export function check_pathname(name: string, flags: number): void {
  if (name.length === 0 && (flags & LOOKUP_EMPTY) === 0) throw ENOENT;
  if (name.length * 3 >= PATH_MAX && name_bytes(name) >= PATH_MAX) throw ENAMETOOLONG;
  if (name.includes("\0")) throw EINVAL;
}

/** Where a relative path of the task begins, with references. */
function start_path(task: task_struct, dfd: number, name: string): path {
  const fs = task_fs(task);
  if (name.startsWith("/")) return copy(fs.root);
  if (dfd === AT_FDCWD) return copy(fs.pwd);
  const f = fcheck_raw(task, dfd);
  if (name.length > 0 && !d_can_lookup(f.f_path.dentry)) throw ENOTDIR;
  return copy(f.f_path);
}

function copy(p: path): path {
  return path_get({ mnt: p.mnt, dentry: p.dentry });
}

export function path_init(task: task_struct, dfd: number, name: string, flags: number): nameidata {
  check_pathname(name, flags);
  const root = task_fs(task).root;
  return new_nameidata(start_path(task, dfd, name), root, flags);
}

function new_nameidata(at: path, root: path, flags: number): nameidata {
  return { path: at, root, flags, last: "", last_type: LAST_ROOT, trailing: false, links: 0 };
}

/** Moves the walk to `to`, whose references it takes over. */
function set_path(nd: nameidata, to: path): MaybeWait {
  const old = nd.path;
  nd.path = to;
  return path_put(old);
}

/**
 * Walks up to the last component, which is left in nd.last: nd.path is its directory. Symlinks on
 * the way are followed.
 */
export async function link_path_walk(nd: nameidata, name: string): Promise<void> {
  nd.last = "";
  nd.last_type = LAST_ROOT;
  nd.trailing = false;
  let pos = skip_slashes(name, 0);
  while (pos < name.length) {
    const dir = nd.path.dentry.d_inode!;
    inode_permission(dir, MAY_EXEC);
    let end = name.indexOf("/", pos);
    if (end < 0) end = name.length;
    const comp = pos === 0 && end === name.length ? name : name.slice(pos, end);
    const next = skip_slashes(name, end);
    const type = comp === "." ? LAST_DOT : comp === ".." ? LAST_DOTDOT : LAST_NORM;
    if (next >= name.length) {
      nd.last = comp;
      nd.last_type = type;
      nd.trailing = end < name.length;
      return;
    }
    const w = walk_component(nd, comp, type, true);
    const link = w instanceof Promise ? await w : w;
    if (link !== null) {
      name = `${link}/${name.slice(next)}`;
      pos = await begin_link(nd, link, name);
      nd.last_type = LAST_ROOT;
      continue;
    }
    if (!d_can_lookup(nd.path.dentry)) throw ENOTDIR;
    pos = next;
  }
}

function skip_slashes(name: string, pos: number): number {
  while (pos < name.length && name.charCodeAt(pos) === 47) pos++;
  return pos;
}

/** Counts a symlink and goes to the root for an absolute one; where in `name` to go on. */
export async function begin_link(nd: nameidata, link: string, name: string): Promise<number> {
  if (++nd.links > MAXSYMLINKS) throw ELOOP;
  if (link.length === 0) throw ENOENT;
  if (link.startsWith("/")) await set_path(nd, copy(nd.root));
  return skip_slashes(name, 0);
}

/**
 * One step. Null: nd.path is the new place. Text: it was a symlink to be followed, nd.path
 * still is its directory.
 */
export function walk_component(
  nd: nameidata,
  name: string,
  type: number,
  follow: boolean,
): Sometime<string | null> {
  if (type === LAST_DOT) return null;
  if (type === LAST_DOTDOT) return follow_dotdot(nd);
  const parent = nd.path.dentry;
  const d = d_lookup(parent, name);
  if (d !== null) return step_into(nd, d, follow);
  return lookup_slow(parent, name, 0).then((found) => step_into(nd, found, follow));
}

/** Takes over the reference on `d`, a child of nd.path. */
export function step_into(nd: nameidata, d: dentry, follow: boolean): Sometime<string | null> {
  let mnt = mntget(nd.path.mnt);
  // Down through everything mounted there. The tree holds each of these, so no count reaches 0.
  for (let on = lookup_mnt(mnt, d); on !== null; on = lookup_mnt(mnt, d)) {
    mnt.mnt_count--;
    d.d_count--;
    mnt = mntget(on);
    d = dget(on.mnt_root);
  }
  const to: path = { mnt, dentry: d };
  if (d.d_inode === null) return put_then_throw(to, ENOENT);
  if (follow && d_is_symlink(d)) return pick_link(nd, to, d.d_inode);
  const p = set_path(nd, to);
  return p ? p.then(() => null) : null;
}

async function put_then_throw(p: path, e: unknown): Promise<never> {
  await path_put(p);
  throw e;
}

/** Text of a symlink in nd.path; drops `to`. */
async function pick_link(nd: nameidata, to: path, inode: inode): Promise<string> {
  try {
    // the last one of the path, not one on the way
    if (nd.last_type !== LAST_ROOT) may_follow_link(nd.path.dentry.d_inode!, inode);
    await touch_atime(to);
    return await get_link(to.dentry, inode);
  } finally {
    await path_put(to);
  }
}

export function get_link(d: dentry, inode: inode): Sometime<string> {
  if (inode.i_link !== null) return inode.i_link;
  if (inode.i_op.get_link === undefined) throw EINVAL;
  return inode.i_op.get_link(d, inode);
}

async function follow_dotdot(nd: nameidata): Promise<null> {
  let { mnt, dentry } = nd.path;
  while (mnt !== nd.root.mnt || dentry !== nd.root.dentry) {
    if (dentry === mnt.mnt_root) {
      if (mnt.mnt_parent === mnt) break;
      dentry = mnt.mnt_mountpoint;
      mnt = mnt.mnt_parent;
      continue;
    }
    if (!IS_ROOT(dentry)) dentry = dentry.d_parent;
    break;
  }
  for (let on = lookup_mnt(mnt, dentry); on !== null; on = lookup_mnt(mnt, dentry)) {
    mnt = on;
    dentry = on.mnt_root;
  }
  await set_path(nd, path_get({ mnt, dentry }));
  return null;
}

/** A name that is not cached: asks the filesystem with i_rwsem of the directory shared. */
export async function lookup_slow(parent: dentry, name: string, flags: number): Promise<dentry> {
  const dir = parent.d_inode!;
  const p = inode_lock_shared(dir);
  if (p) await p;
  try {
    return await __lookup(parent, name, flags);
  } finally {
    inode_unlock_shared(dir);
  }
}

/** The dentry of a name, cached or looked up now, with a reference. Caller holds i_rwsem. */
export async function __lookup(parent: dentry, name: string, flags: number): Promise<dentry> {
  const cached = d_lookup(parent, name);
  if (cached !== null) return cached;
  const dir = parent.d_inode!;
  if (IS_DEADDIR(dir)) throw ENOENT;
  const lookup = dir.i_op.lookup;
  if (lookup === undefined) throw ENOTDIR;
  if (name.length * 3 > NAME_MAX && name_bytes(name) > NAME_MAX) throw ENAMETOOLONG;
  const d = await d_alloc_parallel(parent, name);
  if (d.d_parent.d_children.get(name) === d) return d;
  try {
    const r = lookup.call(dir.i_op, dir, d, flags);
    const other = r instanceof Promise ? await r : r;
    d_lookup_done(d);
    if (other === undefined || other === d) return d;
    await dput(d);
    return other;
  } catch (e) {
    d_lookup_done(d);
    await dput(d);
    throw e;
  }
}

/** The result of a walk moves to the caller; on failure the references are dropped. */
async function run_walk(nd: nameidata, name: string): Promise<path> {
  try {
    await lookup_to_end(nd, name);
    const need_dir = nd.trailing || (nd.flags & LOOKUP_DIRECTORY) !== 0;
    if (need_dir && !d_can_lookup(nd.path.dentry)) throw ENOTDIR;
  } catch (e) {
    await path_put(nd.path);
    throw e;
  }
  return nd.path;
}

async function lookup_to_end(nd: nameidata, name: string): Promise<void> {
  for (;;) {
    await link_path_walk(nd, name);
    if (nd.last_type === LAST_ROOT) return;
    const follow = nd.trailing || (nd.flags & LOOKUP_FOLLOW) !== 0;
    const link = await walk_component(nd, nd.last, nd.last_type, follow);
    if (link === null) return;
    name = nd.trailing ? `${link}/` : link;
    await begin_link(nd, link, name);
  }
}

/**
 * The path's place with references: drop with path_put. `flags` LOOKUP_FOLLOW, _DIRECTORY, _EMPTY.
 */
export async function path_lookupat(
  task: task_struct,
  dfd: number,
  name: string,
  flags: number,
): Promise<path> {
  return run_walk(path_init(task, dfd, name, flags), name);
}

/** A lookup with the kernel's own root: device names of mount, for instance. */
export async function kern_path(kernel: Kernel, name: string, follow: boolean): Promise<path> {
  check_pathname(name, 0);
  const task = kernel.current;
  if (task.fs) return path_lookupat(task, AT_FDCWD, name, follow ? LOOKUP_FOLLOW : 0);
  const mnt = mnt_ns(kernel).root;
  if (mnt === null) throw ENOENT;
  const root: path = { mnt, dentry: mnt.mnt_root };
  return run_walk(new_nameidata(copy(root), root, follow ? LOOKUP_FOLLOW : 0), name);
}

export interface parent_lookup {
  /** The directory, with references. */
  path: path;
  last: string;
  last_type: number;
  trailing: boolean;
}

/** The directory of a path and the last component, which is not looked up. */
export async function filename_parentat(
  task: task_struct,
  dfd: number,
  name: string,
): Promise<parent_lookup> {
  const nd = path_init(task, dfd, name, 0);
  try {
    await link_path_walk(nd, name);
  } catch (e) {
    await path_put(nd.path);
    throw e;
  }
  return { path: nd.path, last: nd.last, last_type: nd.last_type, trailing: nd.trailing };
}

/** Calls `fn` with the path's place; the references are dropped afterwards. */
export async function with_path<T>(
  task: task_struct,
  dfd: number,
  name: string,
  flags: number,
  fn: (p: path) => Sometime<T>,
): Promise<T> {
  const p = await path_lookupat(task, dfd, name, flags);
  try {
    return await fn(p);
  } finally {
    await path_put(p);
  }
}

export { mntput };
