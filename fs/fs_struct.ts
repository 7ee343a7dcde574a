/** fs/fs_struct.ts - working directory, root and umask of a process. Linux: fs/fs_struct.c. */
import { type inode, type path, SB_POSIXACL, type Sometime } from "../kernel/include/fs.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { path_get } from "./dcache.ts";
import { path_put } from "./mount.ts";

export interface fs_struct {
  /** Threads that share it. */
  users: number;
  umask: number;
  root: path;
  pwd: path;
}

export function task_fs(task: task_struct): fs_struct {
  return task.fs as fs_struct;
}

/**
 * The umask for a new name in `dir`: a filesystem with ACLs applies it itself, or a default ACL.
 */
export function umask_in(task: task_struct, dir: inode): number {
  return (dir.i_sb.s_flags & SB_POSIXACL) !== 0 ? 0 : task_fs(task).umask;
}

function copy_path(p: path): path {
  return path_get({ mnt: p.mnt, dentry: p.dentry });
}

/** A new fs_struct; takes references of its own on both paths. */
export function new_fs_struct(root: path, pwd: path, umask: number): fs_struct {
  return { users: 1, umask, root: copy_path(root), pwd: copy_path(pwd) };
}

/** fork without CLONE_FS. */
export function copy_fs_struct(old: fs_struct): fs_struct {
  return new_fs_struct(old.root, old.pwd, old.umask);
}

export async function exit_fs(task: task_struct): Promise<void> {
  const fs = task.fs as fs_struct | null;
  task.fs = null;
  if (fs === null || --fs.users > 0) return;
  await path_put(fs.root);
  await path_put(fs.pwd);
}

/** chdir: takes a reference on `p`, drops the one on the old directory. */
export function set_fs_pwd(fs: fs_struct, p: path): Sometime<void> {
  const old = fs.pwd;
  fs.pwd = copy_path(p);
  return path_put(old);
}

export function set_fs_root(fs: fs_struct, p: path): Sometime<void> {
  const old = fs.root;
  fs.root = copy_path(p);
  return path_put(old);
}
