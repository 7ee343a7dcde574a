/**
 * tests/fs/vfs.ts - a booted VFS over RAM, and processes whose calls answer with a value or the
 * name of the error ("ENOENT"), so that a test reads like a recorded case.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import { AT_EMPTY_PATH, AT_FDCWD } from "../../kernel/include/fcntl.ts";
import type { Sometime, kstat, timespec64 } from "../../kernel/include/fs.ts";
import { make_cred } from "../../kernel/cred.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { Machine, type MachineOptions } from "../../kernel/machine.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { signal_struct } from "../../kernel/signal.ts";
import { init_mm } from "../../mm/mm_init.ts";
import { new_iov_iter_bytes } from "../../mm/iov_iter.ts";
import {
  dup_files,
  exit_files,
  new_files_struct,
  sys_close,
  sys_dup,
  sys_dup2,
  task_files,
} from "../../fs/file.ts";
import { copy_fs_struct, exit_fs, task_fs } from "../../fs/fs_struct.ts";
import { init_vfs, new_init_fs } from "../../fs/init.ts";
import { sys_ioctl } from "../../fs/ioctl.ts";
import { sys_flock } from "../../fs/locks.ts";
import * as namei from "../../fs/namei.ts";
import { sys_mount, sys_umount } from "../../fs/namespace.ts";
import * as op from "../../fs/open.ts";
import * as rw from "../../fs/read_write.ts";
import { sys_getdents64 } from "../../fs/readdir.ts";
import { sys_fstat, sys_lstat, sys_readlink, sys_stat } from "../../fs/stat.ts";
import { sys_fsync } from "../../fs/sync.ts";
import { sys_utimensat } from "../../fs/utimes.ts";

export const text = (s: string): Uint8Array => new TextEncoder().encode(s);

type Answer<T> = Promise<T | string>;

/** A process with one thread. */
export class P {
  readonly task: task_struct;
  constructor(task: task_struct) {
    this.task = task;
  }

  /** Runs `fn` as a call of this process. */
  async do<T>(fn: (t: task_struct) => Sometime<T>): Answer<T> {
    try {
      return await this.task.kernel.machine.sched.call(this.task, fn);
    } catch (e) {
      if (is_errno(e)) return e.code;
      throw e;
    }
  }

  open = (path: string, flags: number, mode = 0): Answer<number> =>
    this.do((t) => op.sys_open(t, path, flags, mode));
  openat = (fd: number, path: string, flags: number, mode = 0): Answer<number> =>
    this.do((t) => op.sys_openat(t, fd, path, flags, mode));
  close = (fd: unknown): Answer<void> => this.do((t) => sys_close(t, fd as number));
  dup = (fd: number): Answer<number> => this.do((t) => sys_dup(t, fd));
  dup2 = (fd: number, to: number): Answer<number> => this.do((t) => sys_dup2(t, fd, to));

  write(fd: unknown, data: string): Answer<number> {
    return this.do((t) =>
      rw.sys_write(t, fd as number, new_iov_iter_bytes(t.kernel, true, [text(data)])),
    );
  }
  pwrite(fd: unknown, data: string, pos: number): Answer<number> {
    return this.do((t) =>
      rw.sys_pwrite64(t, fd as number, new_iov_iter_bytes(t.kernel, true, [text(data)]), pos),
    );
  }
  async read(fd: unknown, len: number): Promise<string> {
    const buf = new Uint8Array(len);
    const n = await this.do((t) =>
      rw.sys_read(t, fd as number, new_iov_iter_bytes(t.kernel, false, [buf])),
    );
    return typeof n === "string" ? n : new TextDecoder().decode(buf.subarray(0, n));
  }
  async pread(fd: unknown, len: number, pos: number): Promise<string> {
    const buf = new Uint8Array(len);
    const n = await this.do((t) =>
      rw.sys_pread64(t, fd as number, new_iov_iter_bytes(t.kernel, false, [buf]), pos),
    );
    return typeof n === "string" ? n : new TextDecoder().decode(buf.subarray(0, n));
  }
  lseek = (fd: unknown, off: number, whence: number): Answer<number> =>
    this.do((t) => rw.sys_lseek(t, fd as number, off, whence));

  mkdir = (p: string, mode = 0o777): Answer<void> => this.do((t) => namei.sys_mkdir(t, p, mode));
  rmdir = (p: string): Answer<void> => this.do((t) => namei.sys_rmdir(t, p));
  unlink = (p: string): Answer<void> => this.do((t) => namei.sys_unlink(t, p));
  link = (a: string, b: string): Answer<void> => this.do((t) => namei.sys_link(t, a, b));
  linkfd = (fd: number, b: string): Answer<void> =>
    this.do((t) => namei.sys_linkat(t, fd, "", AT_FDCWD, b, AT_EMPTY_PATH));
  symlink = (a: string, b: string): Answer<void> => this.do((t) => namei.sys_symlink(t, a, b));
  mknod = (p: string, mode: number, major = 0, minor = 0): Answer<void> =>
    this.do((t) => namei.sys_mknod(t, p, mode, major, minor));
  rename = (a: string, b: string, flags = 0): Answer<void> =>
    this.do((t) => namei.sys_renameat2(t, AT_FDCWD, a, AT_FDCWD, b, flags));
  readlink = (p: string): Answer<string> => this.do((t) => sys_readlink(t, p));
  truncate = (p: string, n: number): Answer<void> => this.do((t) => op.sys_truncate(t, p, n));
  ftruncate = (fd: unknown, n: number): Answer<void> =>
    this.do((t) => op.sys_ftruncate(t, fd as number, n));
  fallocate = (fd: unknown, mode: number, off: number, len: number): Answer<void> =>
    this.do((t) => op.sys_fallocate(t, fd as number, mode, off, len));
  chmod = (p: string, mode: number): Answer<void> => this.do((t) => op.sys_chmod(t, p, mode));
  chown = (p: string, u: number, g: number): Answer<void> =>
    this.do((t) => op.sys_chown(t, p, u, g));
  access = (p: string, mode: number): Answer<void> => this.do((t) => op.sys_access(t, p, mode));
  chdir = (p: string): Answer<void> => this.do((t) => op.sys_chdir(t, p));
  umask = (m: number): Answer<number> => this.do((t) => op.sys_umask(t, m));
  fsync = (fd: unknown): Answer<void> => this.do((t) => sys_fsync(t, fd as number));
  flock = (fd: unknown, cmd: number): Answer<void> =>
    this.do((t) => sys_flock(t, fd as number, cmd));
  ioctl = (fd: unknown, cmd: string, arg: unknown = 0): Answer<unknown> =>
    this.do((t) => sys_ioctl(t, fd as number, cmd, arg));
  mount = (dev: string, dir: string, type: string, flags = 0, data = ""): Answer<void> =>
    this.do((t) => sys_mount(t, dev, dir, type, flags, data));
  umount = (dir: string, flags = 0): Answer<void> => this.do((t) => sys_umount(t, dir, flags));

  stat = (p: string): Answer<kstat> => this.do((t) => sys_stat(t, p));
  lstat = (p: string): Answer<kstat> => this.do((t) => sys_lstat(t, p));
  fstat = (fd: unknown): Answer<kstat> => this.do((t) => sys_fstat(t, fd as number));
  /** "644 nlink=1 0:0 size=3", with the kind in front unless it is a regular file. */
  async show(what: string | number, follow = true): Promise<string> {
    const s = await (typeof what === "number"
      ? this.fstat(what)
      : follow
        ? this.stat(what)
        : this.lstat(what));
    if (typeof s === "string") return s;
    const kinds: Record<number, string> = {
      1: "fifo ",
      2: "chr ",
      4: "dir ",
      6: "blk ",
      10: "lnk ",
    };
    const kind = kinds[s.mode >> 12] ?? (s.mode >> 12 === 12 ? "sock " : "");
    const size = kind === "" ? ` size=${s.size}` : "";
    return `${kind}${(s.mode & 0o7777).toString(8)} nlink=${s.nlink} ${s.uid}:${s.gid}${size}`;
  }
  async names(p: string): Promise<string> {
    const fd = await this.open(p, 0o200000);
    if (typeof fd === "string") return fd;
    const list = await this.do((t) => sys_getdents64(t, fd));
    await this.close(fd);
    if (typeof list === "string") return list;
    return list
      .map((d) => d.name)
      .filter((n) => n !== "." && n !== "..")
      .sort()
      .join(" ");
  }
  async utimes(p: string, times: [number, number] | null): Answer<void> {
    const at = (s: number): timespec64 => ({ tv_sec: s, tv_nsec: 0 });
    const pair: [timespec64, timespec64] | null = times && [at(times[0]), at(times[1])];
    return this.do((t) => sys_utimensat(t, AT_FDCWD, p, pair));
  }

  setuid(n: number): void {
    this.task.cred = make_cred(n, n);
  }
  fork(): P {
    const { kernel } = this.task;
    const child = kernel.machine.new_thread(kernel, "child");
    child.cred = this.task.cred;
    child.files = dup_files(task_files(this.task));
    child.fs = copy_fs_struct(task_fs(this.task));
    child.signal = new signal_struct();
    return new P(child);
  }
  /** A second thread: shares descriptors, directory and umask. */
  thread(): P {
    const { kernel } = this.task;
    const t = kernel.machine.new_thread(kernel, "thread");
    t.cred = this.task.cred;
    t.files = this.task.files;
    task_files(t).count++;
    t.fs = this.task.fs;
    task_fs(t).users++;
    t.signal = this.task.signal;
    return new P(t);
  }
  exit(): Promise<unknown> {
    return this.do(async (t) => {
      await exit_files(t);
      await exit_fs(t);
    });
  }
}

export interface vfs_machine {
  machine: Machine;
  kernel: Kernel;
  p: P;
}

/**
 * A kernel with the root in RAM, /mnt another RAM filesystem, and process 1 as root with umask 022.
 */
export async function boot_vfs(opts: MachineOptions = {}): Promise<vfs_machine> {
  const machine = new Machine(opts);
  const kernel = new Kernel(machine);
  init_mm(kernel, { dram_bytes: 64 * 2 ** 20 });
  await machine.in_task(kernel, "boot", () => init_vfs(kernel));
  const task = machine.new_thread(kernel, "init");
  task.files = new_files_struct();
  task.fs = new_init_fs(kernel);
  task.signal = new signal_struct();
  const p = new P(task);
  const r = await p.mount("none", "/mnt", "ramfs");
  if (r !== undefined) throw new Error(`mount of /mnt: ${String(r)}`);
  return { machine, kernel, p };
}
