/**
 * fs/file.ts - descriptor tables and the end of a file. Linux: fs/file.c, __fput in
 * fs/file_table.c.
 * A table is shared by the threads of a process; fork copies it, the files themselves are shared.
 */
import { EBADF, EINVAL, EMFILE } from "../kernel/include/errno.ts";
import { O_CLOEXEC } from "../kernel/include/fcntl.ts";
import type { Sometime, file } from "../kernel/include/fs.ts";
import { FMODE_OPENED, FMODE_PATH, FMODE_WRITER } from "../kernel/include/fs.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { fput, get_file } from "../kernel/vfs/file.ts";
import { put_write_access } from "../kernel/vfs/inode.ts";
import { dput } from "./dcache.ts";
import { locks_remove_file } from "./locks.ts";
import { __mnt_drop_write, mntput } from "./mount.ts";
import { RLIMIT_NOFILE, rlimit } from "./rlimit.ts";

export interface files_struct {
  /** Threads that share it. */
  count: number;
  fd: (file | null)[];
  close_on_exec: Set<number>;
}

export function task_files(task: task_struct): files_struct {
  return task.files as files_struct;
}

export function new_files_struct(): files_struct {
  return { count: 1, fd: [], close_on_exec: new Set() };
}

/** fork without CLONE_FILES. */
export function dup_files(old: files_struct): files_struct {
  for (const f of old.fd) if (f) get_file(f);
  return { count: 1, fd: [...old.fd], close_on_exec: new Set(old.close_on_exec) };
}

export async function exit_files(task: task_struct): Promise<void> {
  const files = task.files as files_struct | null;
  task.files = null;
  if (files === null || --files.count > 0) return;
  for (let i = 0; i < files.fd.length; i++) {
    const f = files.fd[i];
    if (!f) continue;
    files.fd[i] = null;
    await filp_close(f, files);
  }
}

/** exec: closes what is marked so. */
export async function do_close_on_exec(task: task_struct): Promise<void> {
  const files = task_files(task);
  for (const fd of [...files.close_on_exec]) await sys_close(task, fd);
}

/** The file of a descriptor without a reference of its own; O_PATH files too. */
export function fcheck_raw(task: task_struct, fd: number): file {
  const f = (task.files as files_struct).fd[fd];
  if (!f) throw EBADF;
  return f;
}

/** The same; an O_PATH descriptor is no file (EBADF). */
export function fcheck(task: task_struct, fd: number): file {
  const f = (task.files as files_struct).fd[fd];
  if (!f || (f.f_mode & FMODE_PATH) !== 0) throw EBADF;
  return f;
}

/** The file with a reference that the caller drops by fput. */
export function fget(task: task_struct, fd: number): file {
  return get_file(fcheck(task, fd));
}
export function fget_raw(task: task_struct, fd: number): file {
  return get_file(fcheck_raw(task, fd));
}

/** Calls `fn` with the file of `fd`, held until `fn` is done. */
export async function with_fd<T>(
  task: task_struct,
  fd: number,
  fn: (f: file) => Sometime<T>,
): Promise<T> {
  const f = fget(task, fd);
  try {
    return await fn(f);
  } finally {
    await fput(f);
  }
}

/** The same for calls that also take O_PATH descriptors. */
export async function with_fd_raw<T>(
  task: task_struct,
  fd: number,
  fn: (f: file) => Sometime<T>,
): Promise<T> {
  const f = fget_raw(task, fd);
  try {
    return await fn(f);
  } finally {
    await fput(f);
  }
}

/** The lowest free descriptor from `start` on. EMFILE at RLIMIT_NOFILE. */
export function get_unused_fd(task: task_struct, start = 0): number {
  const { fd } = task_files(task);
  let n = start;
  while (n < fd.length && fd[n]) n++;
  if (n >= rlimit(task, RLIMIT_NOFILE)) throw EMFILE;
  return n;
}

/** Gives the file (and its reference) to a descriptor. */
export function fd_install(task: task_struct, fd: number, f: file, flags = 0): void {
  const files = task_files(task);
  while (files.fd.length <= fd) files.fd.push(null);
  files.fd[fd] = f;
  if ((flags & O_CLOEXEC) !== 0) files.close_on_exec.add(fd);
  else files.close_on_exec.delete(fd);
}

function pick_file(files: files_struct, fd: number): file | null {
  const f = files.fd[fd] ?? null;
  if (f !== null) files.fd[fd] = null;
  files.close_on_exec.delete(fd);
  return f;
}

/** Flushes and drops one descriptor's reference. */
async function filp_close(f: file, files: files_struct): Promise<void> {
  try {
    if (f.f_op.flush !== undefined) await f.f_op.flush(f);
  } finally {
    if ((f.f_mode & FMODE_PATH) === 0) locks_remove_posix(f, files);
    await fput(f);
  }
}

/** Record locks are not modelled, so there are none to drop. */
function locks_remove_posix(_f: file, _owner: files_struct): void {}

export async function sys_close(task: task_struct, fd: number): Promise<void> {
  const f = pick_file(task_files(task), fd);
  if (f === null) throw EBADF;
  await filp_close(f, task_files(task));
}

/** close_range(first, last, 0). */
export async function sys_close_range(
  task: task_struct,
  first: number,
  last: number,
): Promise<void> {
  if (first > last) throw EINVAL;
  const files = task_files(task);
  for (let i = first; i <= last && i < files.fd.length; i++) {
    const f = pick_file(files, i);
    if (f) await filp_close(f, files);
  }
}

/** Both descriptors share the file and its position. */
export function sys_dup(task: task_struct, fd: number): number {
  const f = fcheck_raw(task, fd);
  const n = get_unused_fd(task);
  fd_install(task, n, get_file(f));
  return n;
}

export async function sys_dup2(task: task_struct, fd: number, newfd: number): Promise<number> {
  const f = fcheck_raw(task, fd);
  if (newfd < 0 || newfd >= rlimit(task, RLIMIT_NOFILE)) throw EBADF;
  if (fd === newfd) return newfd;
  const files = task_files(task);
  const old = pick_file(files, newfd);
  fd_install(task, newfd, get_file(f));
  if (old) await filp_close(old, files);
  return newfd;
}

/** The last reference of a file has gone (kernel.vfs_ops.__fput). */
export async function __fput(f: file): Promise<void> {
  const { mnt, dentry } = f.f_path;
  if ((f.f_mode & FMODE_OPENED) !== 0) {
    if ((f.f_mode & FMODE_PATH) === 0) {
      locks_remove_file(f);
      if (f.f_op.release !== undefined) await f.f_op.release(f.f_inode, f);
    }
    if ((f.f_mode & FMODE_WRITER) !== 0) {
      put_write_access(f.f_inode);
      __mnt_drop_write(mnt);
    }
  }
  await dput(dentry);
  await mntput(mnt);
}
