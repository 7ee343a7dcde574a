/**
 * fs/open.ts - open, close's opposite, and what changes a file through its path: size, space, mode,
 * owner, access, working directory. Linux: fs/open.c. Paths are strings as kernel/lib/utf8.ts makes
 * them; sizes are bytes.
 */
import {
  EACCES,
  EBADF,
  EFBIG,
  EINVAL,
  EISDIR,
  ENODEV,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
  EROFS,
  ESPIPE,
  ETXTBSY,
} from "../kernel/include/errno.ts";
import {
  AT_EACCESS,
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_NOFOLLOW,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_UNSHARE_RANGE,
  FALLOC_FL_ZERO_RANGE,
  O_CREAT,
  O_TRUNC,
  O_WRONLY,
} from "../kernel/include/fcntl.ts";
import type { file, inode, path } from "../kernel/include/fs.ts";
import {
  ATTR_CTIME,
  ATTR_GID,
  ATTR_KILL_PRIV,
  ATTR_KILL_SUID,
  ATTR_MODE,
  ATTR_MTIME,
  ATTR_UID,
  FMODE_WRITE,
  MAY_ACCESS,
  MAY_CHDIR,
  MAY_EXEC,
  MAY_WRITE,
} from "../kernel/include/fs.ts";
import {
  S_IALLUGO,
  S_ISBLK,
  S_ISCHR,
  S_ISDIR,
  S_ISFIFO,
  S_ISREG,
  S_ISSOCK,
} from "../kernel/include/stat.ts";
import { make_cred } from "../kernel/cred.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import {
  get_write_access,
  inode_lock,
  inode_unlock,
  put_write_access,
} from "../kernel/vfs/inode.ts";
import {
  file_end_write,
  file_start_write,
  sb_end_write,
  sb_start_write,
} from "../kernel/vfs/super.ts";
import { new_iattr, notify_change, setattr_should_drop_sgid } from "./attr.ts";
import { d_can_lookup } from "./dcache.ts";
import { fd_install, get_unused_fd, with_fd, with_fd_raw } from "./file.ts";
import { do_truncate } from "./file_open.ts";
import { set_fs_pwd, set_fs_root, task_fs } from "./fs_struct.ts";
import {
  __mnt_is_readonly,
  mnt_drop_write,
  mnt_want_write,
  mnt_drop_write_file,
  mnt_want_write_file,
} from "./mount.ts";
import {
  IS_APPEND,
  IS_IMMUTABLE,
  IS_SWAPFILE,
  LOOKUP_DIRECTORY,
  LOOKUP_EMPTY,
  LOOKUP_FOLLOW,
  build_open_flags,
  do_filp_open,
  inode_permission,
  path_noexec,
  with_path,
} from "./namei.ts";

/** The descriptor. `mode` counts with O_CREAT and O_TMPFILE only. */
export async function sys_openat(
  task: task_struct,
  dfd: number,
  name: string,
  flags: number,
  mode = 0,
): Promise<number> {
  const op = build_open_flags(flags, mode);
  get_unused_fd(task); // EMFILE comes before any error of the path
  const f = await do_filp_open(task, dfd, name, op);
  const fd = get_unused_fd(task);
  fd_install(task, fd, f, flags);
  return fd;
}

export const sys_open = (
  task: task_struct,
  name: string,
  flags: number,
  mode = 0,
): Promise<number> => sys_openat(task, AT_FDCWD, name, flags, mode);

export const sys_creat = (task: task_struct, name: string, mode: number): Promise<number> =>
  sys_openat(task, AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode);

export function sys_umask(task: task_struct, mask: number): number {
  const fs = task_fs(task);
  const old = fs.umask;
  fs.umask = mask & 0o777;
  return old;
}

// --- size ---

async function vfs_truncate(p: path, length: number): Promise<void> {
  const inode = p.dentry.d_inode!;
  if (S_ISDIR(inode.i_mode)) throw EISDIR;
  if (!S_ISREG(inode.i_mode)) throw EINVAL;
  const w = mnt_want_write(p.mnt);
  if (w) await w;
  try {
    inode_permission(inode, MAY_WRITE);
    if (IS_APPEND(inode)) throw EPERM;
    get_write_access(inode);
    try {
      await do_truncate(p.dentry, length, 0, null);
    } finally {
      put_write_access(inode);
    }
  } finally {
    mnt_drop_write(p.mnt);
  }
}

export async function sys_truncate(task: task_struct, name: string, length: number): Promise<void> {
  if (length < 0) throw EINVAL;
  await with_path(task, AT_FDCWD, name, LOOKUP_FOLLOW, (p) => vfs_truncate(p, length));
}

export async function sys_ftruncate(task: task_struct, fd: number, length: number): Promise<void> {
  if (length < 0) throw EINVAL;
  await with_fd(task, fd, async (f) => {
    const inode = f.f_inode;
    if (!S_ISREG(inode.i_mode) || (f.f_mode & FMODE_WRITE) === 0) throw EINVAL;
    if (IS_APPEND(inode)) throw EPERM;
    const w = sb_start_write(inode.i_sb);
    if (w) await w;
    try {
      await do_truncate(f.f_path.dentry, length, ATTR_MTIME | ATTR_CTIME, f);
    } finally {
      sb_end_write(inode.i_sb);
    }
  });
}

// --- space ---

const FALLOC_SUPPORTED =
  FALLOC_FL_KEEP_SIZE |
  FALLOC_FL_PUNCH_HOLE |
  FALLOC_FL_COLLAPSE_RANGE |
  FALLOC_FL_ZERO_RANGE |
  FALLOC_FL_INSERT_RANGE |
  FALLOC_FL_UNSHARE_RANGE;

/** Combinations of flags that mean something. */
function check_falloc_mode(mode: number): void {
  const PUNCH_ZERO = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((mode & ~FALLOC_SUPPORTED) !== 0) throw EOPNOTSUPP;
  if ((mode & PUNCH_ZERO) === PUNCH_ZERO) throw EOPNOTSUPP;
  if ((mode & FALLOC_FL_PUNCH_HOLE) !== 0 && (mode & FALLOC_FL_KEEP_SIZE) === 0) throw EOPNOTSUPP;
  for (const alone of [FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE]) {
    if ((mode & alone) !== 0 && mode !== alone) throw EINVAL;
  }
  const unshare = FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE;
  if ((mode & FALLOC_FL_UNSHARE_RANGE) !== 0 && (mode & ~unshare) !== 0) throw EINVAL;
}

export async function vfs_fallocate(
  f: file,
  mode: number,
  offset: number,
  len: number,
): Promise<void> {
  const inode = f.f_inode;
  if (offset < 0 || len <= 0) throw EINVAL;
  check_falloc_mode(mode);
  if ((f.f_mode & FMODE_WRITE) === 0) throw EBADF;
  if ((mode & ~FALLOC_FL_KEEP_SIZE) !== 0 && IS_APPEND(inode)) throw EPERM;
  if (IS_IMMUTABLE(inode)) throw EPERM;
  if (IS_SWAPFILE(inode)) throw ETXTBSY;
  if (S_ISFIFO(inode.i_mode)) throw ESPIPE;
  if (S_ISDIR(inode.i_mode)) throw EISDIR;
  if (!S_ISREG(inode.i_mode) && !S_ISBLK(inode.i_mode)) throw ENODEV;
  if (offset + len > inode.i_sb.s_maxbytes) throw EFBIG;
  if (f.f_op.fallocate === undefined) throw EOPNOTSUPP;
  const w = file_start_write(f);
  if (w) await w;
  try {
    await f.f_op.fallocate(f, mode, offset, len);
  } finally {
    file_end_write(f);
  }
}

export function sys_fallocate(
  task: task_struct,
  fd: number,
  mode: number,
  offset: number,
  len: number,
): Promise<void> {
  return with_fd(task, fd, (f) => vfs_fallocate(f, mode, offset, len));
}

// --- mode and owner ---

async function locked_change(p: path, make: (inode: inode) => ReturnType<typeof new_iattr>) {
  const inode = p.dentry.d_inode!;
  const w = inode_lock(inode);
  if (w) await w;
  try {
    await notify_change(p.dentry, make(inode));
  } finally {
    inode_unlock(inode);
  }
}

function chmod_common(p: path, mode: number): Promise<void> {
  return locked_change(p, (inode) => {
    const attr = new_iattr(ATTR_MODE | ATTR_CTIME);
    attr.ia_mode = (mode & S_IALLUGO) | (inode.i_mode & ~S_IALLUGO);
    return attr;
  });
}

/** -1 leaves owner or group as it is. */
function chown_common(p: path, uid: number, gid: number): Promise<void> {
  return locked_change(p, (inode) => {
    const attr = new_iattr(ATTR_CTIME);
    if (uid !== -1) {
      attr.ia_valid |= ATTR_UID;
      attr.ia_uid = uid;
    }
    if (gid !== -1) {
      attr.ia_valid |= ATTR_GID;
      attr.ia_gid = gid;
    }
    if (!S_ISDIR(inode.i_mode)) {
      attr.ia_valid |= ATTR_KILL_SUID | ATTR_KILL_PRIV | setattr_should_drop_sgid(inode);
    }
    return attr;
  });
}

async function with_write<T>(p: path, fn: () => Promise<T>): Promise<T> {
  const w = mnt_want_write(p.mnt);
  if (w) await w;
  try {
    return await fn();
  } finally {
    mnt_drop_write(p.mnt);
  }
}

async function with_write_file<T>(f: file, fn: () => Promise<T>): Promise<T> {
  const w = mnt_want_write_file(f);
  if (w) await w;
  try {
    return await fn();
  } finally {
    mnt_drop_write_file(f);
  }
}

export function sys_fchmodat(
  task: task_struct,
  dfd: number,
  name: string,
  mode: number,
): Promise<void> {
  return with_path(task, dfd, name, LOOKUP_FOLLOW, (p) =>
    with_write(p, () => chmod_common(p, mode)),
  );
}

export const sys_chmod = (task: task_struct, name: string, mode: number): Promise<void> =>
  sys_fchmodat(task, AT_FDCWD, name, mode);

export function sys_fchmod(task: task_struct, fd: number, mode: number): Promise<void> {
  return with_fd(task, fd, (f) => with_write_file(f, () => chmod_common(f.f_path, mode)));
}

export async function sys_fchownat(
  task: task_struct,
  dfd: number,
  name: string,
  uid: number,
  gid: number,
  flags: number,
): Promise<void> {
  if ((flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) !== 0) throw EINVAL;
  let look = (flags & AT_SYMLINK_NOFOLLOW) !== 0 ? 0 : LOOKUP_FOLLOW;
  if ((flags & AT_EMPTY_PATH) !== 0) look |= LOOKUP_EMPTY;
  await with_path(task, dfd, name, look, (p) => with_write(p, () => chown_common(p, uid, gid)));
}

export const sys_chown = (
  task: task_struct,
  name: string,
  uid: number,
  gid: number,
): Promise<void> => sys_fchownat(task, AT_FDCWD, name, uid, gid, 0);

export const sys_lchown = (
  task: task_struct,
  name: string,
  uid: number,
  gid: number,
): Promise<void> => sys_fchownat(task, AT_FDCWD, name, uid, gid, AT_SYMLINK_NOFOLLOW);

export function sys_fchown(task: task_struct, fd: number, uid: number, gid: number): Promise<void> {
  return with_fd(task, fd, (f) => with_write_file(f, () => chown_common(f.f_path, uid, gid)));
}

// --- access ---

const special_file = (m: number): boolean => S_ISCHR(m) || S_ISBLK(m) || S_ISFIFO(m) || S_ISSOCK(m);

function check_access(p: path, mode: number): void {
  const inode = p.dentry.d_inode!;
  if ((mode & MAY_EXEC) !== 0 && S_ISREG(inode.i_mode) && path_noexec(p)) throw EACCES;
  inode_permission(inode, mode | MAY_ACCESS);
  if ((mode & MAY_WRITE) !== 0 && !special_file(inode.i_mode) && __mnt_is_readonly(p.mnt)) {
    throw EROFS;
  }
}

/** With the real ids unless AT_EACCESS. `mode`: F_OK or R_OK, W_OK, X_OK. */
export async function sys_faccessat(
  task: task_struct,
  dfd: number,
  name: string,
  mode: number,
  flags = 0,
): Promise<void> {
  if ((mode & ~7) !== 0) throw EINVAL;
  if ((flags & ~(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)) !== 0) throw EINVAL;
  let look = (flags & AT_SYMLINK_NOFOLLOW) !== 0 ? 0 : LOOKUP_FOLLOW;
  if ((flags & AT_EMPTY_PATH) !== 0) look |= LOOKUP_EMPTY;
  const old = task.cred;
  const real = old.uid !== old.fsuid || old.gid !== old.fsgid;
  if ((flags & AT_EACCESS) === 0 && real) task.cred = make_cred(old.uid, old.gid, old.groups);
  try {
    await with_path(task, dfd, name, look, (p) => check_access(p, mode));
  } finally {
    task.cred = old;
  }
}

export const sys_access = (task: task_struct, name: string, mode: number): Promise<void> =>
  sys_faccessat(task, AT_FDCWD, name, mode);

// --- working directory ---

export function sys_chdir(task: task_struct, name: string): Promise<void> {
  return with_path(task, AT_FDCWD, name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, (p) => {
    inode_permission(p.dentry.d_inode!, MAY_EXEC | MAY_CHDIR);
    return set_fs_pwd(task_fs(task), p);
  });
}

export function sys_fchdir(task: task_struct, fd: number): Promise<void> {
  return with_fd_raw(task, fd, (f) => {
    if (!d_can_lookup(f.f_path.dentry)) throw ENOTDIR;
    inode_permission(f.f_inode, MAY_EXEC | MAY_CHDIR);
    return set_fs_pwd(task_fs(task), f.f_path);
  });
}

export function sys_chroot(task: task_struct, name: string): Promise<void> {
  return with_path(task, AT_FDCWD, name, LOOKUP_FOLLOW | LOOKUP_DIRECTORY, (p) => {
    inode_permission(p.dentry.d_inode!, MAY_EXEC | MAY_CHDIR);
    if (task.cred.fsuid !== 0) throw EPERM;
    return set_fs_root(task_fs(task), p);
  });
}
