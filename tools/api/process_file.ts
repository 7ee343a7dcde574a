/** tools/api/process_file.ts - descriptors, reading, writing, block maps of a process. */
import { notImplemented } from "../../kernel/assert.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import type {
  fiemap_extent,
  fiemap_extent_info,
  kstat,
  kstatfs,
  Sometime,
} from "../../kernel/include/fs.ts";
import { AT_FDCWD } from "../../kernel/include/fcntl.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import { ENTERED } from "../../kernel/sched/sched.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { sys_copy_file_range } from "../../fs/copy_file_range.ts";
import { sys_fadvise64, sys_readahead } from "../../fs/fadvise.ts";
import { sys_close, sys_dup, sys_dup2 } from "../../fs/file.ts";
import {
  type clone_range,
  type dedupe_range,
  type dedupe_result,
  type fiemap_args,
  FILE_DEDUPE_RANGE_DIFFERS,
  type fsxattr,
  sys_ioctl,
} from "../../fs/ioctl.ts";
import { sys_flock } from "../../fs/locks.ts";
import { sys_fallocate, sys_ftruncate, sys_openat } from "../../fs/open.ts";
import { sys_pipe2, sys_vmsplice } from "../../fs/pipe.ts";
import {
  sys_lseek,
  sys_pread64,
  sys_preadv2,
  sys_pwrite64,
  sys_pwritev2,
  sys_read,
  sys_write,
} from "../../fs/read_write.ts";
import { sys_fstat, sys_fstatfs } from "../../fs/stat.ts";
import { sys_fdatasync, sys_fsync, sys_sync_file_range, sys_syncfs } from "../../fs/sync.ts";
import { new_iov_iter_bytes, new_iov_iter_user, reused_bytes_iter } from "../../mm/iov_iter.ts";
import { check_whole } from "./errors.ts";
import { ProcessBase, type user_buffer } from "./process_base.ts";

export type { user_buffer } from "./process_base.ts";

type rw_call = (t: task_struct, fd: number, it: iov_iter, pos: number) => Sometime<number>;

export class ProcessFile extends ProcessBase {
  /** For reads and writes that begin while the thread is free: there is one of them at a time. */
  private readonly own_iter = new reused_bytes_iter(this.kernel);

  /** Iterator over user buffers, made inside the call; `source` for a write. */
  private iter(bufs: readonly user_buffer[], source: boolean): iov_iter {
    const first = bufs[0];
    if (bufs.length === 1 && first instanceof Uint8Array) {
      return new_iov_iter_bytes(this.kernel, source, [first]);
    }
    if (bufs.every((b) => !("addr" in b))) {
      const arrays = bufs.map((b) =>
        b instanceof Uint8Array ? b : (b as { bytes: Uint8Array }).bytes,
      );
      let skew = 0;
      for (const b of bufs) if (!(b instanceof Uint8Array) && "skew" in b) skew |= b.skew;
      return new_iov_iter_bytes(this.kernel, source, arrays, skew);
    }
    return this.user_iter(bufs, source);
  }

  /** Segments in the process's memory; bytes of the caller's among them are refused. */
  private user_iter(bufs: readonly user_buffer[], source: boolean): iov_iter {
    const segs = bufs.map((b) =>
      "addr" in b ? { addr: b.addr, len: b.len } : notImplemented("mixing own bytes and addresses"),
    );
    return new_iov_iter_user(this.kernel, source, segs);
  }

  // --- opening and closing

  /** open(2); returns the descriptor. `flags`: O_*. */
  open(path: string, flags = 0, mode = 0o666): Sometime<number> {
    return this.openat(AT_FDCWD, path, flags, mode);
  }
  openat(dfd: number, path: string, flags = 0, mode = 0o666): Sometime<number> {
    return this.syscall("open", (t) => sys_openat(t, dfd, path, flags, mode), path);
  }
  close(fd: number): Sometime<void> {
    return this.syscall("close", (t) => sys_close(t, fd));
  }
  dup(fd: number): Sometime<number> {
    return this.syscall("dup", (t) => sys_dup(t, fd));
  }
  dup2(fd: number, to: number): Sometime<number> {
    return this.syscall("dup2", (t) => sys_dup2(t, fd, to));
  }
  /** Read end and write end. */
  pipe(): Sometime<[number, number]> {
    return this.syscall("pipe", (t) => sys_pipe2(t, 0));
  }
  /** The pipe refers to the pages of [addr, addr + len) themselves until they are read. */
  vmsplice(fd: number, addr: number, len: number): Sometime<number> {
    return this.syscall("vmsplice", (t) => sys_vmsplice(t, fd, addr, len));
  }

  // --- reading and writing

  read(fd: number, buf: user_buffer): Sometime<number> {
    return this.syscall("read", (t) => sys_read(t, fd, this.iter([buf], false)));
  }
  write(fd: number, buf: user_buffer): Sometime<number> {
    return this.syscall("write", (t) => sys_write(t, fd, this.iter([buf], true)));
  }
  /** Bytes read into `buf` from byte `pos` of the file; 0 at its end. */
  pread(fd: number, buf: user_buffer, pos: number): Sometime<number> {
    return this.rw("pread", sys_pread64, fd, buf, pos, false);
  }
  /** Bytes written from `buf` at byte `pos` of the file. */
  pwrite(fd: number, buf: user_buffer, pos: number): Sometime<number> {
    return this.rw("pwrite", sys_pwrite64, fd, buf, pos, true);
  }
  /** pread for a caller that cannot wait. @throws WouldBlock when the call has to */
  preadSync(fd: number, buf: user_buffer, pos: number): number {
    return this.at_once("pread", () => this.pread(fd, buf, pos));
  }
  /** pwrite for a caller that cannot wait. @throws WouldBlock when the call has to */
  pwriteSync(fd: number, buf: user_buffer, pos: number): number {
    return this.at_once("pwrite", () => this.pwrite(fd, buf, pos));
  }

  /** The hot path of syscall(): no closure, no promise, while nothing has to wait. */
  private rw(
    name: string,
    fn: rw_call,
    fd: number,
    buf: user_buffer,
    pos: number,
    source: boolean,
  ): Sometime<number> {
    const t = this.task;
    const s = t.kernel.sched;
    if (!s.enter_idle(t)) return this.rw_slow(name, fn, fd, buf, pos, source);
    t.syscall = name;
    let r: Sometime<number>;
    try {
      const own = ArrayBuffer.isView(buf); // much cheaper than instanceof
      r = fn(t, fd, own ? this.own_iter.over(buf, source) : this.iter([buf], source), pos);
    } catch (e) {
      s.leave_failed(t, ENTERED, e);
      throw this.dress(e, name);
    }
    if (typeof r !== "number") return this.dressed(s.leave_async(t, ENTERED, r), name);
    this.own_iter.done();
    s.leave(t, ENTERED);
    return r;
  }

  private rw_slow(
    name: string,
    fn: rw_call,
    fd: number,
    buf: user_buffer,
    pos: number,
    source: boolean,
  ): Sometime<number> {
    return this.syscall(name, (t) => fn(t, fd, this.iter([buf], source), pos));
  }

  readv(fd: number, bufs: user_buffer[]): Sometime<number> {
    return this.syscall("readv", (t) => sys_read(t, fd, this.iter(bufs, false)));
  }
  writev(fd: number, bufs: user_buffer[]): Sometime<number> {
    return this.syscall("writev", (t) => sys_write(t, fd, this.iter(bufs, true)));
  }
  /** preadv2(2): `pos` -1 is the file's position; `flags`: RWF_*. */
  preadv(fd: number, bufs: user_buffer[], pos: number, flags = 0): Sometime<number> {
    return this.syscall("preadv2", (t) => sys_preadv2(t, fd, this.iter(bufs, false), pos, flags));
  }
  pwritev(fd: number, bufs: user_buffer[], pos: number, flags = 0): Sometime<number> {
    return this.syscall("pwritev2", (t) => sys_pwritev2(t, fd, this.iter(bufs, true), pos, flags));
  }
  /** `whence`: SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE. */
  lseek(fd: number, offset: number, whence: number): Sometime<number> {
    return this.syscall("lseek", (t) => sys_lseek(t, fd, offset, whence));
  }
  ftruncate(fd: number, length: number): Sometime<void> {
    check_whole("ftruncate: length", length);
    return this.syscall("ftruncate", (t) => sys_ftruncate(t, fd, length));
  }
  /** `mode`: FALLOC_FL_*. */
  fallocate(fd: number, mode: number, offset: number, len: number): Sometime<void> {
    check_whole("fallocate: offset", offset);
    check_whole("fallocate: length", len);
    return this.syscall("fallocate", (t) => sys_fallocate(t, fd, mode, offset, len));
  }
  fsync(fd: number): Sometime<void> {
    return this.syscall("fsync", (t) => sys_fsync(t, fd));
  }
  fdatasync(fd: number): Sometime<void> {
    return this.syscall("fdatasync", (t) => sys_fdatasync(t, fd));
  }
  syncfs(fd: number): Sometime<void> {
    return this.syscall("syncfs", (t) => sys_syncfs(t, fd));
  }
  sync_file_range(fd: number, offset: number, len: number, flags: number): Sometime<void> {
    return this.syscall("sync_file_range", (t) => sys_sync_file_range(t, fd, offset, len, flags));
  }
  fadvise(fd: number, offset: number, len: number, advice: number): Sometime<void> {
    return this.syscall("fadvise64", (t) => sys_fadvise64(t, fd, offset, len, advice));
  }
  readahead(fd: number, offset: number, len: number): Sometime<void> {
    return this.syscall("readahead", (t) => sys_readahead(t, fd, offset, len));
  }
  flock(fd: number, op: number): Sometime<void> {
    return this.syscall("flock", (t) => sys_flock(t, fd, op));
  }
  fstat(fd: number): Sometime<kstat> {
    return this.syscall("fstat", (t) => sys_fstat(t, fd));
  }
  fstatfs(fd: number): Sometime<kstatfs> {
    return this.syscall("fstatfs", (t) => sys_fstatfs(t, fd));
  }
  /** Positions in bytes; null is the file's own position. Returns bytes copied. */
  copy_file_range(
    fd_in: number,
    pos_in: number | null,
    fd_out: number,
    pos_out: number | null,
    len: number,
    flags = 0,
  ): Sometime<number> {
    return this.syscall("copy_file_range", (t) =>
      sys_copy_file_range(t, fd_in, pos_in ?? -1, fd_out, pos_out ?? -1, len, flags),
    );
  }

  // --- ioctls, by their names

  /**
   * ioctl(2) by the command's name ("FS_IOC_GETFLAGS"); the argument has the command's own shape.
   */
  ioctl(fd: number, cmd: string, arg: unknown = 0): Sometime<unknown> {
    return this.syscall("ioctl", (t) => sys_ioctl(t, fd, cmd, arg));
  }
  /** FS_IOC_FIEMAP: `length` -1 is the whole file; at most `max_extents`. */
  async fiemap(
    fd: number,
    start = 0,
    length = -1,
    flags = 0,
    max = 2048,
  ): Promise<fiemap_extent[]> {
    const arg: fiemap_args = {
      start,
      length: length < 0 ? length + 2 ** 64 : length,
      flags,
      max_extents: max,
    };
    const fi = await this.ioctl(fd, "FS_IOC_FIEMAP", arg);
    return (fi as fiemap_extent_info).fi_extents;
  }
  /** Physical block of a logical one, 0 for a hole. */
  fibmap(fd: number, block: number): Sometime<number> {
    return this.ioctl(fd, "FIBMAP", block) as Sometime<number>;
  }
  figetbsz(fd: number): Sometime<number> {
    return this.ioctl(fd, "FIGETBSZ") as Sometime<number>;
  }
  /** FS_*_FL. */
  getflags(fd: number): Sometime<number> {
    return this.ioctl(fd, "FS_IOC_GETFLAGS") as Sometime<number>;
  }
  async setflags(fd: number, flags: number): Promise<void> {
    await this.ioctl(fd, "FS_IOC_SETFLAGS", flags);
  }
  fsgetxattr(fd: number): Sometime<fsxattr> {
    return this.ioctl(fd, "FS_IOC_FSGETXATTR") as Sometime<fsxattr>;
  }
  async fssetxattr(fd: number, fa: fsxattr): Promise<void> {
    await this.ioctl(fd, "FS_IOC_FSSETXATTR", fa);
  }
  async fifreeze(fd: number): Promise<void> {
    await this.ioctl(fd, "FIFREEZE");
  }
  async fithaw(fd: number): Promise<void> {
    await this.ioctl(fd, "FITHAW");
  }
  async fitrim(fd: number): Promise<void> {
    await this.ioctl(fd, "FITRIM", { start: 0, len: 2 ** 64, minlen: 0 });
  }
  /** FS_IOC_SHUTDOWN: 0 default, 1 log flush, 2 no log flush. */
  async shutdown(fd: number, how: number): Promise<void> {
    await this.ioctl(fd, "FS_IOC_SHUTDOWN", how);
  }
  async ficlone(dst: number, src: number): Promise<void> {
    await this.ioctl(dst, "FICLONE", src);
  }
  async ficlonerange(
    dst: number,
    src_fd: number,
    src_offset: number,
    src_length: number,
    dest_offset: number,
  ): Promise<void> {
    const range: clone_range = { src_fd, src_offset, src_length, dest_offset };
    await this.ioctl(dst, "FICLONERANGE", range);
  }
  /** Bytes found equal and shared, or what stood against it. */
  async fidedupe(
    src: number,
    src_offset: number,
    src_length: number,
    fd: number,
    offset: number,
  ): Promise<number | { differs: boolean; status: string }> {
    const range: dedupe_range = { src_offset, src_length, dests: [{ fd, offset }] };
    const [r] = (await this.ioctl(src, "FIDEDUPERANGE", range)) as dedupe_result[];
    if (r?.status === 0) return r.bytes_deduped;
    const differs = r?.status === FILE_DEDUPE_RANGE_DIFFERS;
    if (!differs && !is_errno(r?.status)) throw r?.status;
    return { differs, status: is_errno(r?.status) ? r.status.code : "" };
  }
}
