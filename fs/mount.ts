/**
 * fs/mount.ts - the mount object and write access to it. Linux: fs/mount.h, fs/namespace.c.
 * Differs: one namespace per kernel, no propagation; mounts are found by a walk over those of one
 * mountpoint.
 *
 * mnt_count: one for being in the tree, one for each path, file and child mount. The last one gives
 * the superblock back.
 */
import { EROFS } from "../kernel/include/errno.ts";
import type { MaybeWait, dentry, file, path, super_block, vfsmount } from "../kernel/include/fs.ts";
import { DCACHE_MOUNTED, FMODE_WRITER, MNT_READONLY, SB_RDONLY } from "../kernel/include/fs.ts";
import { assert } from "../kernel/assert.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { sb_end_write, sb_start_write, vfs_of } from "../kernel/vfs/super.ts";
import { dget, dput } from "./dcache.ts";
import { deactivate_super } from "./super.ts";

class mount implements vfsmount {
  mnt_root: dentry;
  mnt_sb: super_block;
  mnt_flags: number;
  mnt_parent: vfsmount;
  mnt_mountpoint: dentry;
  mnt_count: number;
  mnt_writers: number;
  mnt_devname: string;
  constructor(sb: super_block, root: dentry, flags: number, devname: string) {
    this.mnt_root = root;
    this.mnt_sb = sb;
    this.mnt_flags = flags;
    this.mnt_parent = this;
    this.mnt_mountpoint = root;
    this.mnt_count = 1;
    this.mnt_writers = 0;
    this.mnt_devname = devname;
  }
}

/** The mounts of a kernel. */
export interface mnt_namespace {
  root: vfsmount | null;
  /** In the order they were made. */
  list: Set<vfsmount>;
  /** The mounts on a dentry, one for each parent mount. */
  by_mountpoint: Map<dentry, vfsmount[]>;
}

export function mnt_ns(kernel: Kernel): mnt_namespace {
  const reg = vfs_of(kernel);
  reg.mounts ??= { root: null, list: new Set(), by_mountpoint: new Map() };
  return reg.mounts as mnt_namespace;
}

/** A mount of the whole superblock; takes over one active reference on it. */
export function alloc_vfsmnt(sb: super_block, flags: number, devname: string): vfsmount {
  assert(sb.s_root !== null);
  return new mount(sb, dget(sb.s_root), flags, devname);
}

/** A mount for files without names (pipes): never in the tree. */
export function kern_mount_anon(sb: super_block, root: dentry): vfsmount {
  return new mount(sb, root, 0, "none");
}

export function mntget(mnt: vfsmount): vfsmount {
  mnt.mnt_count++;
  return mnt;
}

export function mntput(mnt: vfsmount): MaybeWait {
  assert(mnt.mnt_count > 0, "mntput of a dead mount");
  mnt.mnt_count--;
  if (mnt.mnt_count > 0) return undefined;
  return cleanup_mnt(mnt);
}

async function cleanup_mnt(mnt: vfsmount): Promise<void> {
  assert(mnt.mnt_writers === 0, "a mount goes away with writers");
  await dput(mnt.mnt_root);
  await deactivate_super(mnt.mnt_sb);
}

export function path_put(p: path): MaybeWait {
  const w = dput(p.dentry);
  if (w) return w.then(() => mntput(p.mnt));
  return mntput(p.mnt);
}

/** The mount that lies on `dentry` of `mnt`, or null. */
export function lookup_mnt(mnt: vfsmount, dentry: dentry): vfsmount | null {
  if ((dentry.d_flags & DCACHE_MOUNTED) === 0) return null;
  const here = mnt_ns(dentry.d_sb.kernel).by_mountpoint.get(dentry);
  return here?.find((m) => m.mnt_parent === mnt) ?? null;
}

/** Something is mounted on this dentry, through whatever parent. */
export function is_local_mountpoint(d: dentry): boolean {
  return (d.d_flags & DCACHE_MOUNTED) !== 0;
}

/** Puts `mnt` on a path; takes references on both its parts. */
export function attach_mnt(kernel: Kernel, mnt: vfsmount, parent: vfsmount, d: dentry): void {
  const ns = mnt_ns(kernel);
  mnt.mnt_parent = mntget(parent);
  mnt.mnt_mountpoint = dget(d);
  d.d_flags |= DCACHE_MOUNTED;
  const here = ns.by_mountpoint.get(d);
  if (here) here.push(mnt);
  else ns.by_mountpoint.set(d, [mnt]);
  ns.list.add(mnt);
}

/** Takes a mount out of the tree and drops the tree's references. */
export async function detach_mnt(kernel: Kernel, mnt: vfsmount): Promise<void> {
  const ns = mnt_ns(kernel);
  const { mnt_parent: parent, mnt_mountpoint: d } = mnt;
  const left = (ns.by_mountpoint.get(d) ?? []).filter((m) => m !== mnt);
  if (left.length > 0) ns.by_mountpoint.set(d, left);
  else {
    ns.by_mountpoint.delete(d);
    d.d_flags &= ~DCACHE_MOUNTED;
  }
  ns.list.delete(mnt);
  mnt.mnt_parent = mnt;
  mnt.mnt_mountpoint = mnt.mnt_root;
  await dput(d);
  await mntput(parent);
  await mntput(mnt);
}

export function __mnt_is_readonly(mnt: vfsmount): boolean {
  if ((mnt.mnt_flags & MNT_READONLY) !== 0) return true;
  return mnt.mnt_sb.s_readonly_remount || (mnt.mnt_sb.s_flags & SB_RDONLY) !== 0;
}

/** Write access without the freeze level: for opens and what is already inside sb_start_write. */
export function __mnt_want_write(mnt: vfsmount): void {
  if (__mnt_is_readonly(mnt)) throw EROFS;
  mnt.mnt_writers++;
}

export function __mnt_drop_write(mnt: vfsmount): void {
  assert(mnt.mnt_writers > 0);
  mnt.mnt_writers--;
}

function want_write_frozen(mnt: vfsmount): void {
  if (__mnt_is_readonly(mnt)) {
    sb_end_write(mnt.mnt_sb);
    throw EROFS;
  }
  mnt.mnt_writers++;
}

/** Waits while the filesystem is frozen, then takes write access. EROFS. */
export function mnt_want_write(mnt: vfsmount): MaybeWait {
  const p = sb_start_write(mnt.mnt_sb);
  if (p) return p.then(() => want_write_frozen(mnt));
  want_write_frozen(mnt);
  return undefined;
}

export function mnt_drop_write(mnt: vfsmount): void {
  __mnt_drop_write(mnt);
  sb_end_write(mnt.mnt_sb);
}

/** The same through an open file, which may hold the mount's write access already. */
export function mnt_want_write_file(f: file): MaybeWait {
  if ((f.f_mode & FMODE_WRITER) === 0) return mnt_want_write(f.f_path.mnt);
  const sb = f.f_inode.i_sb;
  const check = (): void => {
    if (__mnt_is_readonly(f.f_path.mnt)) {
      sb_end_write(sb);
      throw EROFS;
    }
  };
  const p = sb_start_write(sb);
  if (p) return p.then(check);
  check();
  return undefined;
}

export function mnt_drop_write_file(f: file): void {
  if ((f.f_mode & FMODE_WRITER) === 0) mnt_drop_write(f.f_path.mnt);
  else sb_end_write(f.f_inode.i_sb);
}
