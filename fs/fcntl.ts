/**
 * fs/fcntl.ts - fcntl(2): descriptor flags and file flags. Linux: fs/fcntl.c.
 * Record locks, leases, owners and seals are not modelled: notImplemented.
 */
import { EBADF, EINVAL, EPERM } from "../kernel/include/errno.ts";
import {
  O_APPEND,
  O_CLOEXEC,
  O_DIRECT,
  O_LARGEFILE,
  O_NOATIME,
  O_NONBLOCK,
} from "../kernel/include/fcntl.ts";
import type { Sometime, file } from "../kernel/include/fs.ts";
import { FMODE_CAN_ODIRECT, FMODE_PATH } from "../kernel/include/fs.ts";
import { notImplemented } from "../kernel/assert.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { get_file, iocb_flags } from "../kernel/vfs/file.ts";
import { fcheck_raw, fd_install, get_unused_fd, task_files } from "./file.ts";
import { IS_APPEND, inode_owner_or_capable } from "./namei/permission.ts";
import { RLIMIT_NOFILE, rlimit } from "./rlimit.ts";

export const F_DUPFD = 0;
export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_GETLK = 5;
export const F_SETLK = 6;
export const F_SETLKW = 7;
export const F_DUPFD_CLOEXEC = 1030;
export const FD_CLOEXEC = 1;

const SETFL_MASK = O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME;

/** Changes what may be changed of an open file's flags. */
function setfl(f: file, arg: number): void {
  const inode = f.f_inode;
  if (((arg ^ f.f_flags) & O_APPEND) !== 0 && IS_APPEND(inode)) throw EPERM;
  const wants_noatime = (arg & O_NOATIME) !== 0 && (f.f_flags & O_NOATIME) === 0;
  if (wants_noatime && !inode_owner_or_capable(inode)) throw EPERM;
  if ((arg & O_DIRECT) !== 0 && (f.f_mode & FMODE_CAN_ODIRECT) === 0) throw EINVAL;
  f.f_flags = (arg & SETFL_MASK) | (f.f_flags & ~SETFL_MASK);
  f.f_iocb_flags = iocb_flags(f.f_flags);
}

function dupfd(task: task_struct, f: file, from: number, flags: number): number {
  if (from < 0 || from >= rlimit(task, RLIMIT_NOFILE)) throw EINVAL;
  const fd = get_unused_fd(task, from);
  fd_install(task, fd, get_file(f), flags);
  return fd;
}

/** `cmd`: F_*. An O_PATH descriptor takes only those about the descriptor itself, and F_GETFL. */
export function sys_fcntl(task: task_struct, fd: number, cmd: number, arg = 0): Sometime<number> {
  const f = fcheck_raw(task, fd);
  const { close_on_exec } = task_files(task);
  if ((f.f_mode & FMODE_PATH) !== 0) {
    if (![F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL].includes(cmd)) throw EBADF;
  }
  switch (cmd) {
    case F_DUPFD:
      return dupfd(task, f, arg, 0);
    case F_DUPFD_CLOEXEC:
      return dupfd(task, f, arg, O_CLOEXEC);
    case F_GETFD:
      return close_on_exec.has(fd) ? FD_CLOEXEC : 0;
    case F_SETFD:
      if ((arg & FD_CLOEXEC) !== 0) close_on_exec.add(fd);
      else close_on_exec.delete(fd);
      return 0;
    case F_GETFL:
      return f.f_flags | ((f.f_mode & FMODE_PATH) !== 0 ? 0 : O_LARGEFILE);
    case F_SETFL:
      setfl(f, arg);
      return 0;
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:
      return notImplemented("fcntl record locks");
    default:
      if (cmd > F_SETLKW && cmd <= 1040) notImplemented(`fcntl command ${cmd}`);
      throw EINVAL;
  }
}
