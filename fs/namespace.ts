/**
 * fs/namespace.ts - mount, umount, remount, and the table of mounts. Linux: fs/namespace.c,
 * fs/proc_namespace.c.
 * Differs: no bind, move or propagation (notImplemented); one namespace.
 */
import { CAP_SYS_ADMIN } from "../kernel/include/cred.ts";
import { EBUSY, EINVAL, ENODEV, ENOTDIR, EPERM } from "../kernel/include/errno.ts";
import {
  AT_FDCWD,
  MNT_DETACH,
  MS_BIND,
  MS_DIRSYNC,
  MS_LAZYTIME,
  MS_MOVE,
  MS_NOATIME,
  MS_NODEV,
  MS_NODIRATIME,
  MS_NOEXEC,
  MS_NOSUID,
  MS_RDONLY,
  MS_RELATIME,
  MS_REMOUNT,
  MS_STRICTATIME,
  MS_SYNCHRONOUS,
} from "../kernel/include/fcntl.ts";
import type { path, super_block, vfsmount } from "../kernel/include/fs.ts";
import {
  MNT_NOATIME,
  MNT_NODEV,
  MNT_NODIRATIME,
  MNT_NOEXEC,
  MNT_NOSUID,
  MNT_READONLY,
  MNT_RELATIME,
  SB_DIRSYNC,
  SB_LAZYTIME,
  SB_POSIXACL,
  SB_RDONLY,
  SB_SILENT,
  SB_SYNCHRONOUS,
} from "../kernel/include/fs.ts";
import { assert, notImplemented } from "../kernel/assert.ts";
import { capable } from "../kernel/cred.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { d_is_dir, d_is_symlink, d_path } from "./dcache.ts";
import {
  alloc_vfsmnt,
  attach_mnt,
  detach_mnt,
  lookup_mnt,
  mnt_ns,
  mntput,
  path_put,
} from "./mount.ts";
import { LOOKUP_FOLLOW, path_lookupat, with_path } from "./namei/walk.ts";

import { get_fs_type, reconfigure_super } from "./super.ts";

const MNT_ATIME_MASK = MNT_NOATIME | MNT_NODIRATIME | MNT_RELATIME;
const UMOUNT_NOFOLLOW = 8;
const MNT_FORCE = 1;
const MS_SHARED_AND_FRIENDS = (1 << 17) | (1 << 18) | (1 << 19) | (1 << 20);
const SB_FLAGS = SB_RDONLY | SB_SYNCHRONOUS | SB_DIRSYNC | SB_SILENT | SB_POSIXACL | SB_LAZYTIME;

/** MNT_* of mount(2)'s MS_*. relatime is the default. */
function mnt_flags_of(flags: number): number {
  let m = 0;
  if ((flags & MS_NOATIME) === 0) m |= MNT_RELATIME;
  if ((flags & MS_RDONLY) !== 0) m |= MNT_READONLY;
  if ((flags & MS_NOSUID) !== 0) m |= MNT_NOSUID;
  if ((flags & MS_NODEV) !== 0) m |= MNT_NODEV;
  if ((flags & MS_NOEXEC) !== 0) m |= MNT_NOEXEC;
  if ((flags & MS_NOATIME) !== 0) m |= MNT_NOATIME;
  if ((flags & MS_NODIRATIME) !== 0) m |= MNT_NODIRATIME;
  if ((flags & MS_STRICTATIME) !== 0) m &= ~(MNT_RELATIME | MNT_NOATIME);
  return m;
}

/** SB_* of the same; the bits are the same ones. */
function sb_flags_of(flags: number): number {
  assert(MS_SYNCHRONOUS === SB_SYNCHRONOUS && MS_DIRSYNC === SB_DIRSYNC);
  assert(MS_LAZYTIME === SB_LAZYTIME && MS_RDONLY === SB_RDONLY);
  return flags & SB_FLAGS;
}

const may_mount = (task: task_struct): boolean => capable(task.kernel, CAP_SYS_ADMIN);

/** mount(2). `flags` are MS_*; `data` the filesystem's own options, comma separated. */
export function sys_mount(
  task: task_struct,
  dev_name: string,
  dir_name: string,
  type: string,
  flags: number,
  data = "",
): Promise<void> {
  return with_path(task, AT_FDCWD, dir_name, LOOKUP_FOLLOW, async (at) => {
    if (!may_mount(task)) throw EPERM;
    let mnt_flags = mnt_flags_of(flags);
    const atime = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME;
    if ((flags & MS_REMOUNT) !== 0 && (flags & atime) === 0) {
      mnt_flags = (mnt_flags & ~MNT_ATIME_MASK) | (at.mnt.mnt_flags & MNT_ATIME_MASK);
    }
    if ((flags & (MS_REMOUNT | MS_BIND)) === (MS_REMOUNT | MS_BIND)) {
      return do_reconfigure_mnt(at, mnt_flags);
    }
    if ((flags & MS_REMOUNT) !== 0) return do_remount(at, sb_flags_of(flags), mnt_flags, data);
    if ((flags & MS_BIND) !== 0) notImplemented("bind mounts");
    if ((flags & MS_MOVE) !== 0) notImplemented("moving mounts");
    if ((flags & MS_SHARED_AND_FRIENDS) !== 0) notImplemented("mount propagation");
    return do_new_mount(task, at, type, sb_flags_of(flags), mnt_flags, dev_name, data);
  });
}

/** Changes the flags of one mount only. */
function do_reconfigure_mnt(at: path, mnt_flags: number): void {
  const { mnt } = at;
  if (at.dentry !== mnt.mnt_root) throw EINVAL;
  set_mount_flags(mnt, mnt_flags);
}

function set_mount_flags(mnt: vfsmount, mnt_flags: number): void {
  const ro = (mnt_flags & MNT_READONLY) !== 0 && (mnt.mnt_flags & MNT_READONLY) === 0;
  if (ro && mnt.mnt_writers > 0) throw EBUSY;
  mnt.mnt_flags = mnt_flags;
}

async function do_remount(
  at: path,
  sb_flags: number,
  mnt_flags: number,
  data: string,
): Promise<void> {
  const { mnt } = at;
  if (at.dentry !== mnt.mnt_root) throw EINVAL;
  const sb = mnt.mnt_sb;
  const p = sb.s_umount.down_write();
  if (p) await p;
  try {
    await reconfigure_super(sb, sb_flags, data);
    mnt.mnt_flags = mnt_flags;
  } finally {
    sb.s_umount.up_write();
  }
}

async function do_new_mount(
  task: task_struct,
  at: path,
  type_name: string,
  sb_flags: number,
  mnt_flags: number,
  dev_name: string,
  data: string,
): Promise<void> {
  if (type_name === "") throw EINVAL;
  const { kernel } = task;
  const type = get_fs_type(kernel, type_name);
  const sb = await type.mount(kernel, sb_flags, dev_name, data);
  const mnt = alloc_vfsmnt(sb, mnt_flags, dev_name === "" ? "none" : dev_name);
  try {
    do_add_mount(kernel, mnt, at);
  } catch (e) {
    await mntput(mnt);
    throw e;
  }
}

/** Puts a new mount on top of whatever lies on the path by now. */
function do_add_mount(kernel: Kernel, mnt: vfsmount, at: path): void {
  let { mnt: parent, dentry } = at;
  for (let on = lookup_mnt(parent, dentry); on !== null; on = lookup_mnt(parent, dentry)) {
    parent = on;
    dentry = on.mnt_root;
  }
  if (parent.mnt_sb === mnt.mnt_sb && parent.mnt_root === dentry) throw EBUSY;
  if (d_is_symlink(mnt.mnt_root)) throw EINVAL;
  if (d_is_dir(dentry) !== d_is_dir(mnt.mnt_root)) throw ENOTDIR;
  attach_mnt(kernel, mnt, parent, dentry);
}

/** The first mount of a kernel. */
export function mount_root(kernel: Kernel, sb: super_block, devname: string): vfsmount {
  const ns = mnt_ns(kernel);
  assert(ns.root === null, "the root is mounted already");
  const mnt = alloc_vfsmnt(sb, MNT_RELATIME, devname);
  ns.root = mnt;
  ns.list.add(mnt);
  return mnt;
}

/** A mount without a system call, for boot. */
export async function kern_mount_at(
  kernel: Kernel,
  type_name: string,
  dev_name: string,
  at: path,
): Promise<void> {
  const sb = await get_fs_type(kernel, type_name).mount(kernel, 0, dev_name, "");
  do_add_mount(kernel, alloc_vfsmnt(sb, MNT_RELATIME, dev_name), at);
}

function children_of(kernel: Kernel, mnt: vfsmount): vfsmount[] {
  return [...mnt_ns(kernel).list].filter((m) => m !== mnt && m.mnt_parent === mnt);
}

/**
 * umount2(2): MNT_DETACH takes a busy mount out of the tree at once and frees it with its last
 * user.
 */
export async function sys_umount(task: task_struct, name: string, flags = 0): Promise<void> {
  if ((flags & ~(MNT_FORCE | MNT_DETACH | UMOUNT_NOFOLLOW)) !== 0) throw EINVAL;
  const look = (flags & UMOUNT_NOFOLLOW) !== 0 ? 0 : LOOKUP_FOLLOW;
  const at = await path_lookupat(task, AT_FDCWD, name, look);
  const { kernel } = task;
  const { mnt } = at;
  try {
    if (!may_mount(task)) throw EPERM;
    if (at.dentry !== mnt.mnt_root || !mnt_ns(kernel).list.has(mnt)) throw EINVAL;
    if (mnt_ns(kernel).root === mnt) throw EBUSY;
    if ((flags & MNT_DETACH) === 0) {
      // One reference for the tree and one for our path.
      if (children_of(kernel, mnt).length > 0 || mnt.mnt_count > 2) throw EBUSY;
    }
  } catch (e) {
    await path_put(at);
    throw e;
  }
  await umount_tree(kernel, mnt);
  await path_put(at);
}

/** Takes the mount and what is mounted below it out of the tree, deepest first. */
async function umount_tree(kernel: Kernel, mnt: vfsmount): Promise<void> {
  for (const child of children_of(kernel, mnt)) await umount_tree(kernel, child);
  await detach_mnt(kernel, mnt);
}

// --- the table ---

const MNT_OPTS = [
  [MNT_NOSUID, ",nosuid"],
  [MNT_NODEV, ",nodev"],
  [MNT_NOEXEC, ",noexec"],
  [MNT_NOATIME, ",noatime"],
  [MNT_NODIRATIME, ",nodiratime"],
  [MNT_RELATIME, ",relatime"],
] as const;
const SB_OPTS = [
  [SB_SYNCHRONOUS, ",sync"],
  [SB_DIRSYNC, ",dirsync"],
  [SB_LAZYTIME, ",lazytime"],
] as const;

const mangle = (s: string): string =>
  s.replace(/[ \t\n\\#]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, "0")}`);

/** Options of a mount as /proc/mounts shows them: "rw,relatime,dax=always". */
export function show_mount_options(mnt: vfsmount): string {
  const sb = mnt.mnt_sb;
  const ro = (mnt.mnt_flags & MNT_READONLY) !== 0 || (sb.s_flags & SB_RDONLY) !== 0;
  let out = ro ? "ro" : "rw";
  for (const [bit, text] of SB_OPTS) if ((sb.s_flags & bit) !== 0) out += text;
  for (const [bit, text] of MNT_OPTS) if ((mnt.mnt_flags & bit) !== 0) out += text;
  const own = sb.s_op.show_options?.(sb) ?? "";
  if (own === "") return out;
  return out + (own.startsWith(",") ? own : `,${own}`);
}

/** The text of /proc/mounts. */
export function proc_mounts(kernel: Kernel): string {
  const ns = mnt_ns(kernel);
  if (ns.root === null) return "";
  const root: path = { mnt: ns.root, dentry: ns.root.mnt_root };
  let out = "";
  for (const mnt of ns.list) {
    const where = d_path({ mnt, dentry: mnt.mnt_root }, root);
    const type = mnt.mnt_sb.s_type.name;
    out += `${mangle(mnt.mnt_devname)} ${mangle(where)} ${type} ${show_mount_options(mnt)} 0 0\n`;
  }
  return out;
}

/** The mount that lies on a path now. ENODEV when the path is not the root of one. */
export function find_mount(task: task_struct, name: string): Promise<vfsmount> {
  return with_path(task, AT_FDCWD, name, LOOKUP_FOLLOW, (p) => {
    if (p.dentry !== p.mnt.mnt_root) throw ENODEV;
    return p.mnt;
  });
}

/** getcwd(2). */
export function sys_getcwd(task: task_struct): string {
  const fs = task.fs as { pwd: path; root: path };
  return d_path(fs.pwd, fs.root);
}
