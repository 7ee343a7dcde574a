/** tools/api/process_names.ts - paths, attributes, mounts of a process. */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  O_CREAT,
  O_TRUNC,
  O_WRONLY,
  UTIME_NOW,
  UTIME_OMIT,
} from "../../kernel/include/fcntl.ts";
import type { kstat, kstatfs, Sometime, timespec64 } from "../../kernel/include/fs.ts";
import { MAJOR, MINOR } from "../../kernel/include/stat.ts";
import { bytes_to_name, name_to_bytes } from "../../kernel/lib/utf8.ts";
import { drop_caches } from "../../fs/drop_caches.ts";
import { sys_linkat, sys_mkdirat, sys_mknodat, sys_symlinkat } from "../../fs/namei/create.ts";
import { sys_rmdirat, sys_unlinkat } from "../../fs/namei/remove.ts";
import { sys_renameat2 } from "../../fs/namei/rename.ts";
import { proc_mounts, sys_mount, sys_umount } from "../../fs/namespace.ts";
import {
  sys_access,
  sys_chdir,
  sys_chmod,
  sys_chown,
  sys_fchmod,
  sys_fchown,
  sys_lchown,
  sys_truncate,
  sys_umask,
} from "../../fs/open.ts";
import { type dirent, sys_getdents64 } from "../../fs/readdir.ts";
import { sys_lstat, sys_readlink, sys_stat, sys_statfs } from "../../fs/stat.ts";
import { sys_sync } from "../../fs/sync.ts";
import { sys_utimensat } from "../../fs/utimes.ts";
import {
  sys_getxattr,
  sys_listxattr,
  sys_removexattr,
  sys_setxattr,
  type xattr_target,
} from "../../fs/xattr.ts";
import { check_whole } from "./errors.ts";
import { mount_words } from "./mount_words.ts";
import { ProcessMemory } from "./process_memory.ts";

/** Seconds, or UTIME_NOW / UTIME_OMIT, as utimensat(2) takes them. */
function time_arg(v: number): timespec64 {
  if (v === UTIME_NOW || v === UTIME_OMIT) return { tv_sec: 0, tv_nsec: v };
  return { tv_sec: Math.floor(v), tv_nsec: Math.round((v - Math.floor(v)) * 1e9) };
}

/** A line of /proc/mounts. */
export interface mount_line {
  device: string;
  dir: string;
  type: string;
  options: string;
}

const xattr_at = (target: string | number): xattr_target =>
  typeof target === "number" ? { fd: target } : { path: target };

export class ProcessNames extends ProcessMemory {
  rename(from: string, to: string): Sometime<void> {
    return this.renameat2(from, to, 0);
  }
  /** `flags`: RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT. */
  renameat2(from: string, to: string, flags: number): Sometime<void> {
    return this.syscall(
      "rename",
      (t) => sys_renameat2(t, AT_FDCWD, from, AT_FDCWD, to, flags),
      from,
    );
  }
  link(from: string, to: string): Sometime<void> {
    return this.syscall("link", (t) => sys_linkat(t, AT_FDCWD, from, AT_FDCWD, to, 0), to);
  }
  /** A new name for an open file (AT_EMPTY_PATH). */
  linkfd(fd: number, to: string): Sometime<void> {
    return this.syscall("linkat", (t) => sys_linkat(t, fd, "", AT_FDCWD, to, AT_EMPTY_PATH), to);
  }
  symlink(target: string, path: string): Sometime<void> {
    return this.syscall("symlink", (t) => sys_symlinkat(t, target, AT_FDCWD, path), path);
  }
  readlink(path: string): Sometime<string> {
    return this.syscall("readlink", (t) => sys_readlink(t, path), path);
  }
  unlink(path: string): Sometime<void> {
    return this.syscall("unlink", (t) => sys_unlinkat(t, AT_FDCWD, path, 0), path);
  }
  mkdir(path: string, mode = 0o777): Sometime<void> {
    return this.syscall("mkdir", (t) => sys_mkdirat(t, AT_FDCWD, path, mode), path);
  }
  rmdir(path: string): Sometime<void> {
    return this.syscall("rmdir", (t) => sys_rmdirat(t, AT_FDCWD, path), path);
  }
  /** `mode` with the type bits; `rdev` as MKDEV(major, minor). */
  mknod(path: string, mode: number, rdev = 0): Sometime<void> {
    const [major, minor] = [MAJOR(rdev), MINOR(rdev)];
    return this.syscall("mknod", (t) => sys_mknodat(t, AT_FDCWD, path, mode, major, minor), path);
  }
  truncate(path: string, length: number): Sometime<void> {
    check_whole("truncate: length", length);
    return this.syscall("truncate", (t) => sys_truncate(t, path, length), path);
  }
  chmod(path: string, mode: number): Sometime<void> {
    return this.syscall("chmod", (t) => sys_chmod(t, path, mode), path);
  }
  fchmod(fd: number, mode: number): Sometime<void> {
    return this.syscall("fchmod", (t) => sys_fchmod(t, fd, mode));
  }
  /** -1 leaves the owner or the group. */
  chown(path: string, uid: number, gid: number): Sometime<void> {
    return this.syscall("chown", (t) => sys_chown(t, path, uid, gid), path);
  }
  lchown(path: string, uid: number, gid: number): Sometime<void> {
    return this.syscall("lchown", (t) => sys_lchown(t, path, uid, gid), path);
  }
  fchown(fd: number, uid: number, gid: number): Sometime<void> {
    return this.syscall("fchown", (t) => sys_fchown(t, fd, uid, gid));
  }
  access(path: string, mode: number): Sometime<void> {
    return this.syscall("access", (t) => sys_access(t, path, mode), path);
  }
  chdir(path: string): Sometime<void> {
    return this.syscall("chdir", (t) => sys_chdir(t, path), path);
  }
  /** Returns the old mask. */
  umask(mask: number): Sometime<number> {
    return this.syscall("umask", (t) => sys_umask(t, mask));
  }
  /** Seconds, or UTIME_NOW / UTIME_OMIT. */
  utimensat(path: string, atime: number, mtime: number, flags = 0): Sometime<void> {
    const times = [time_arg(atime), time_arg(mtime)] as const;
    return this.syscall("utimensat", (t) => sys_utimensat(t, AT_FDCWD, path, times, flags), path);
  }
  futimens(fd: number, atime: number, mtime: number): Sometime<void> {
    const times = [time_arg(atime), time_arg(mtime)] as const;
    return this.syscall("utimensat", (t) => sys_utimensat(t, fd, null, times, 0));
  }
  stat(path: string): Sometime<kstat> {
    return this.syscall("stat", (t) => sys_stat(t, path), path);
  }
  lstat(path: string): Sometime<kstat> {
    return this.syscall("lstat", (t) => sys_lstat(t, path), path);
  }
  statfs(path: string): Sometime<kstatfs> {
    return this.syscall("statfs", (t) => sys_statfs(t, path), path);
  }
  /** All entries of a directory, `.` and `..` included, in the directory's order. */
  async readdir(path: string): Promise<dirent[]> {
    const fd = await this.open(path, 0o200000);
    try {
      const out: dirent[] = [];
      for (;;) {
        const some = await this.syscall("getdents64", (t) => sys_getdents64(t, fd), path);
        if (some.length === 0) return out;
        out.push(...some);
      }
    } finally {
      await this.close(fd);
    }
  }
  sync(): Sometime<void> {
    return this.syscall("sync", (t) => sys_sync(t));
  }
  /** sync, then drop clean pages and unused inodes (/proc/sys/vm/drop_caches). */
  async drop_caches(): Promise<void> {
    await this.sync();
    await this.syscall("drop_caches", (t) => drop_caches(t.kernel));
  }

  // --- extended attributes; a path or a descriptor

  /** `flags`: XATTR_CREATE, XATTR_REPLACE. */
  setxattr(target: string | number, name: string, value: Uint8Array, flags = 0): Sometime<void> {
    const at = xattr_at(target);
    return this.syscall("setxattr", (t) => sys_setxattr(t, at, name, value, flags), name);
  }
  /** The value; with `size` 0 its length. @throws ERANGE when it is longer than `size` */
  getxattr(target: string | number, name: string, size = 65536): Sometime<Uint8Array | number> {
    const at = xattr_at(target);
    return this.syscall(
      "getxattr",
      async (t) => {
        const v = await sys_getxattr(t, at, name, size);
        return size === 0 ? v.length : v;
      },
      name,
    );
  }
  listxattr(target: string | number): Sometime<string[]> {
    return this.syscall("listxattr", (t) => sys_listxattr(t, xattr_at(target)));
  }
  removexattr(target: string | number, name: string): Sometime<void> {
    return this.syscall("removexattr", (t) => sys_removexattr(t, xattr_at(target), name), name);
  }

  // --- mounts

  /**
   * mount(2): `p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always,ro")`, or flags (MS_*) and data
   * apart.
   */
  mount(
    device: string,
    dir: string,
    type: string,
    options: string | number = "",
    data = "",
  ): Sometime<void> {
    const o = typeof options === "number" ? { flags: options, data } : mount_words(options);
    return this.syscall("mount", (t) => sys_mount(t, device, dir, type, o.flags, o.data), dir);
  }
  /** `flags`: MNT_DETACH for a lazy umount. */
  umount(dir: string, flags = 0): Sometime<void> {
    return this.syscall("umount", (t) => sys_umount(t, dir, flags), dir);
  }
  /** The lines of /proc/mounts. */
  mounts(): mount_line[] {
    const lines = proc_mounts(this.kernel)
      .split("\n")
      .filter((l) => l !== "");
    return lines.map((l) => {
      const [device, dir, type, options] = l.split(" ");
      return { device: device!, dir: dir!, type: type!, options: options! };
    });
  }

  // --- whole files

  async readFile(path: string): Promise<Uint8Array> {
    const fd = await this.open(path, 0);
    try {
      const parts: Uint8Array[] = [];
      for (;;) {
        const buf = new Uint8Array(65536);
        const n = await this.read(fd, buf);
        if (n === 0) break;
        parts.push(buf.subarray(0, n));
      }
      const out = new Uint8Array(parts.reduce((sum, b) => sum + b.length, 0));
      let at = 0;
      for (const b of parts) {
        out.set(b, at);
        at += b.length;
      }
      return out;
    } finally {
      await this.close(fd);
    }
  }
  /** Creates or replaces the file. Strings are written as UTF-8. */
  async writeFile(path: string, data: Uint8Array | string, mode = 0o666): Promise<void> {
    if (typeof data !== "string" && !(data instanceof Uint8Array)) {
      throw new TypeError("writeFile: the data is a Uint8Array or a string");
    }
    const fd = await this.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
    await this.write_all(fd, typeof data === "string" ? name_to_bytes(data) : data);
  }
  async read_text(path: string): Promise<string> {
    return bytes_to_name(await this.readFile(path));
  }
  /** Writes into a file that is there (a control file). */
  async write_text(path: string, text: string): Promise<void> {
    const fd = await this.open(path, O_WRONLY);
    await this.write_all(fd, name_to_bytes(text));
  }
  private async write_all(fd: number, bytes: Uint8Array): Promise<void> {
    try {
      for (let at = 0; at < bytes.length; ) at += await this.write(fd, bytes.subarray(at));
    } finally {
      await this.close(fd);
    }
  }
}
