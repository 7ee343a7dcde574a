/**
 * fs/dcache.ts - names in memory. Linux: fs/dcache.c, fs/d_path.c.
 * Differs: the hash table is a Map in each parent (d_children); no LRU list, no RCU walk.
 *
 * A dentry is hashed (in its parent's map; the absence of an inode is then a cached ENOENT) or not
 * (removed, moved over, O_TMPFILE). Each child holds a reference on its parent and a positive one
 * on its inode. An unused (d_count 0) hashed dentry stays until drop_caches, umount or its
 * directory goes.
 *
 * Locks: d_children of a directory changes with its i_rwsem held, except when an unused child is
 * dropped.
 * dput() and d_delete() may sleep, because the inode's last reference may go with the dentry.
 */
import { ELOOP } from "../kernel/include/errno.ts";
import type { MaybeWait, dentry, inode, path, super_block } from "../kernel/include/fs.ts";
import {
  DCACHE_DONTCACHE,
  DCACHE_PAR_LOOKUP,
  DCACHE_UNHASHED,
  I_DONTCACHE,
} from "../kernel/include/fs.ts";
import { S_ISDIR, S_ISLNK, S_ISREG } from "../kernel/include/stat.ts";
import { assert } from "../kernel/assert.ts";
import { busy_begin, busy_end, busy_tasks } from "../kernel/locking/busy.ts";
import { note_access } from "../kernel/sched/core.ts";
import { clear_nlink, iput, unlock_new_inode } from "../kernel/vfs/inode.ts";

class vfs_dentry implements dentry {
  readonly d_sb: super_block;
  d_name: string;
  d_parent: dentry;
  d_inode: inode | null;
  readonly d_children: Map<string, dentry>;
  d_count: number;
  d_flags: number;
  d_fsdata: unknown;
  /** Names that are being looked up in this directory. */
  d_in_lookup: Map<string, dentry> | null;

  constructor(sb: super_block, name: string, parent: dentry | null) {
    this.d_sb = sb;
    this.d_name = name;
    this.d_parent = parent ?? this;
    this.d_inode = null;
    this.d_children = new Map();
    this.d_count = 1;
    this.d_flags = DCACHE_UNHASHED;
    this.d_fsdata = null;
    this.d_in_lookup = null;
  }
}

/** A negative dentry below `parent`, not hashed, with one reference. */
export function d_alloc(parent: dentry, name: string): dentry {
  parent.d_count++;
  return new vfs_dentry(parent.d_sb, name, parent);
}

/** A dentry without a directory around it: pipes and other nameless files. */
export function d_alloc_anon(sb: super_block, name: string): dentry {
  return new vfs_dentry(sb, name, null);
}

/** The root of a filesystem; takes over the caller's reference on the inode. */
export function d_make_root(inode: inode): dentry {
  const root = new vfs_dentry(inode.i_sb, "/", null);
  d_instantiate(root, inode);
  return root;
}

export const d_is_dir = (d: dentry): boolean => d.d_inode !== null && S_ISDIR(d.d_inode.i_mode);
export const d_is_reg = (d: dentry): boolean => d.d_inode !== null && S_ISREG(d.d_inode.i_mode);
export const d_is_symlink = (d: dentry): boolean => d.d_inode !== null && S_ISLNK(d.d_inode.i_mode);
export const d_can_lookup = (d: dentry): boolean =>
  d.d_inode !== null && d.d_inode.i_op.lookup !== undefined;
export const d_unhashed = (d: dentry): boolean => (d.d_flags & DCACHE_UNHASHED) !== 0;
export const IS_ROOT = (d: dentry): boolean => d.d_parent === d;
/** Unlinked but still in use. */
export const d_unlinked = (d: dentry): boolean => d_unhashed(d) && !IS_ROOT(d);

export function dget(d: dentry): dentry {
  d.d_count++;
  return d;
}

/** Drops a reference. A cached name stays; an unhashed one goes, and with it perhaps its inode. */
export function dput(d: dentry | null): MaybeWait {
  if (d === null) return undefined;
  assert(d.d_count > 0, `dput of unused dentry "${d.d_name}"`);
  d.d_count--;
  if (d.d_count > 0 || (d.d_flags & (DCACHE_UNHASHED | DCACHE_DONTCACHE)) === 0) return undefined;
  return dentry_kill(d);
}

function dentry_kill(d: dentry): MaybeWait {
  const parent = d.d_parent;
  __d_drop(d);
  const inode = d.d_inode;
  if (inode !== null) {
    d.d_inode = null;
    inode.i_dentry.delete(d);
    const p = iput(inode);
    if (p) return p.then(() => (parent === d ? undefined : dput(parent)));
  }
  return parent === d ? undefined : dput(parent);
}

function __d_drop(d: dentry): void {
  if (d_unhashed(d)) return;
  d.d_flags |= DCACHE_UNHASHED;
  const names = d.d_parent.d_children;
  if (names.get(d.d_name) === d) names.delete(d.d_name);
}

/** Takes the name out of the cache: the next lookup asks the filesystem. */
export function d_drop(d: dentry): void {
  __d_drop(d);
}

export function d_rehash(d: dentry): void {
  if (!d_unhashed(d) || IS_ROOT(d)) return;
  end_lookup(d);
  assert(!d.d_parent.d_children.has(d.d_name), `"${d.d_name}" is hashed twice`);
  d.d_flags &= ~DCACHE_UNHASHED;
  d.d_parent.d_children.set(d.d_name, d);
}

function end_lookup(d: dentry): void {
  if ((d.d_flags & DCACHE_PAR_LOOKUP) === 0) return;
  d.d_flags &= ~DCACHE_PAR_LOOKUP;
  busy_end(d.d_sb.kernel, d, DCACHE_PAR_LOOKUP);
  (d.d_parent as vfs_dentry).d_in_lookup?.delete(d.d_name);
  const wq = d.d_sb.s_inode_wait;
  if (wq.has_waiters()) wq.wake_up_all();
}

/** The lookup of this dentry is over, hashed or not. */
export function d_lookup_done(d: dentry): void {
  end_lookup(d);
}

/** The cached name with a reference, or null. */
export function d_lookup(parent: dentry, name: string): dentry | null {
  const dir = parent.d_inode;
  if (dir !== null) note_access(dir.kernel, dir.i_rwsem, false);
  const d = parent.d_children.get(name);
  if (d === undefined) return null;
  d.d_count++;
  return d;
}

/**
 * The cached name, or a new dentry with DCACHE_PAR_LOOKUP that the caller looks up; a name that
 * another task is looking up is waited for. Caller holds i_rwsem of the directory.
 */
export async function d_alloc_parallel(parent: dentry, name: string): Promise<dentry> {
  for (;;) {
    const found = d_lookup(parent, name);
    if (found !== null) return found;
    const dir = parent as vfs_dentry;
    const busy = dir.d_in_lookup?.get(name);
    if (busy === undefined) {
      const d = d_alloc(parent, name);
      d.d_flags |= DCACHE_PAR_LOOKUP;
      busy_begin(d.d_sb.kernel, d, DCACHE_PAR_LOOKUP);
      dir.d_in_lookup ??= new Map();
      dir.d_in_lookup.set(name, d);
      return d;
    }
    const { kernel, s_inode_wait } = parent.d_sb;
    const p = s_inode_wait.wait_event(() => (busy.d_flags & DCACHE_PAR_LOOKUP) === 0, {
      owner: () => busy_tasks(kernel, busy, DCACHE_PAR_LOOKUP),
    });
    if (p) await p;
  }
}

/** Gives a negative dentry its inode; takes over the caller's reference. */
export function d_instantiate(d: dentry, inode: inode): void {
  assert(d.d_inode === null, `d_instantiate of positive "${d.d_name}"`);
  d.d_inode = inode;
  inode.i_dentry.add(d);
  if ((inode.i_state & I_DONTCACHE) !== 0) d.d_flags |= DCACHE_DONTCACHE;
  // Names of create, link and mkdir were looked up before, so they are hashed already.
  if ((d.d_flags & DCACHE_PAR_LOOKUP) !== 0) d_rehash(d);
}

/** d_instantiate and unlock_new_inode: the new file becomes visible in one step. */
export function d_instantiate_new(d: dentry, inode: inode): void {
  d_instantiate(d, inode);
  unlock_new_inode(inode);
}

/** End of a lookup: hashes the dentry, positive or (null) negative. */
export function d_add(d: dentry, inode: inode | null): void {
  end_lookup(d);
  if (inode !== null) {
    assert(d.d_inode === null);
    d.d_inode = inode;
    inode.i_dentry.add(d);
    if ((inode.i_state & I_DONTCACHE) !== 0) d.d_flags |= DCACHE_DONTCACHE;
  }
  d_rehash(d);
}

/**
 * End of a lookup: as d_add, but a directory that already has a name elsewhere (a damaged image, or
 * one moved behind our back) is moved here and returned. ELOOP when that would put it below itself.
 * Takes over the inode reference.
 */
export function d_splice_alias(inode: inode | null, d: dentry): dentry | undefined {
  if (inode !== null && S_ISDIR(inode.i_mode)) {
    for (const alias of inode.i_dentry) {
      void iput(inode); // the alias holds one too, so this is never the last
      if (alias === d || IS_ROOT(alias) || d_ancestor(alias, d) !== null) {
        end_lookup(d);
        throw ELOOP;
      }
      dget(alias);
      end_lookup(d);
      move_to(alias, d.d_parent, d.d_name);
      return alias;
    }
  }
  d_add(d, inode);
  return undefined;
}

function move_to(d: dentry, parent: dentry, name: string): void {
  const old_parent = d.d_parent;
  __d_drop(d);
  parent.d_count++;
  d.d_parent = parent;
  d.d_name = name;
  d_rehash(d);
  // The caller stands in the old parent or above, so this is never its last reference.
  if (old_parent !== d) old_parent.d_count--;
}

/** After a rename: `d` takes the place of `target`, which loses its name. */
export function d_move(d: dentry, target: dentry): void {
  __d_drop(target);
  move_to(d, target.d_parent, target.d_name);
}

/** After RENAME_EXCHANGE: the two swap places. */
export function d_exchange(a: dentry, b: dentry): void {
  const { d_parent: pa, d_name: na } = a;
  const { d_parent: pb, d_name: nb } = b;
  __d_drop(a);
  __d_drop(b);
  move_to(a, pb, nb);
  move_to(b, pa, na);
}

/** The name was removed: the dentry becomes negative, or unhashed if others still use it. */
export function d_delete(d: dentry): MaybeWait {
  if (d.d_count === 1 && d.d_inode !== null) {
    const inode = d.d_inode;
    d.d_inode = null;
    d.d_flags &= ~DCACHE_DONTCACHE;
    inode.i_dentry.delete(d);
    return iput(inode) as MaybeWait;
  }
  __d_drop(d);
  return undefined;
}

/** The nameless file of O_TMPFILE: its inode has no links. */
export function d_tmpfile(d: dentry, inode: inode): void {
  clear_nlink(inode);
  d.d_name = `#${inode.i_ino}`;
  d_instantiate(d, inode);
}

/** The dentries of the inode, and the inode itself, go as soon as nobody uses them. */
export function d_mark_dontcache(inode: inode): void {
  for (const d of inode.i_dentry) d.d_flags |= DCACHE_DONTCACHE;
  inode.i_state |= I_DONTCACHE;
}

/** A hashed or unhashed name of the inode with a reference, or null. */
export function d_find_alias(inode: inode): dentry | null {
  for (const d of inode.i_dentry) return dget(d);
  return null;
}

/** The child of `ancestor` on the way to `d`, or null if `d` is not below it. */
export function d_ancestor(ancestor: dentry, d: dentry): dentry | null {
  for (let at = d; !IS_ROOT(at); at = at.d_parent) {
    if (at.d_parent === ancestor) return at;
  }
  return null;
}

/** Frees the unused dentries below `top`, deepest first. */
export async function shrink_dcache_parent(top: dentry): Promise<void> {
  for (const child of [...top.d_children.values()]) {
    if (child.d_children.size > 0) await shrink_dcache_parent(child);
    // It may have gone or been taken while we slept.
    if (child.d_count > 0 || d_unhashed(child) || child.d_parent !== top) continue;
    const p = dentry_kill(child);
    if (p) await p;
  }
}

export async function shrink_dcache_sb(sb: super_block): Promise<void> {
  if (sb.s_root !== null) await shrink_dcache_parent(sb.s_root);
}

/** At the last umount: nothing may be in use any more. */
export async function shrink_dcache_for_umount(sb: super_block): Promise<void> {
  const root = sb.s_root;
  if (root === null) return;
  await shrink_dcache_parent(root);
  const left = [...root.d_children.keys()];
  assert(root.d_count === 1, `dentries still in use at umount of ${sb.s_id}: ${left.join(" ")}`);
  sb.s_root = null;
  root.d_flags |= DCACHE_UNHASHED;
  const p = dput(root);
  if (p) await p;
}

/** Drops the extra reference that keeps the names of a RAM filesystem. */
export function d_genocide(top: dentry): void {
  for (const child of top.d_children.values()) {
    d_genocide(child);
    if (child.d_inode !== null) child.d_count--;
  }
}

export function path_get(p: path): path {
  p.mnt.mnt_count++;
  p.dentry.d_count++;
  return p;
}

/** Text of a path as seen from `root`: "(unreachable)" in front when it is not below it. */
export function d_path(p: path, root: path): string {
  const parts: string[] = [];
  let { mnt, dentry } = p;
  const gone = d_unlinked(dentry) ? " (deleted)" : "";
  while (mnt !== root.mnt || dentry !== root.dentry) {
    if (dentry === mnt.mnt_root) {
      if (mnt.mnt_parent === mnt) break;
      dentry = mnt.mnt_mountpoint;
      mnt = mnt.mnt_parent;
    } else {
      if (IS_ROOT(dentry)) break;
      parts.push(dentry.d_name);
      dentry = dentry.d_parent;
    }
  }
  const reached = mnt === root.mnt && dentry === root.dentry;
  const attached = reached || (mnt.mnt_parent === mnt && dentry === mnt.mnt_root);
  return `${attached ? "" : "(unreachable)"}/${parts.reverse().join("/")}${gone}`;
}
