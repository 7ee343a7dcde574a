/**
 * fs/pipe.ts - pipes and fifos. Linux: fs/pipe.c; vmsplice of fs/splice.c.
 * A pipe is a ring of up to 16 buffers of a page each. A buffer holds bytes of its own, or, after
 * vmsplice, refers to a page of the writer's memory and pins it until it has been read.
 *
 * Lock: pipe.mutex around everything but sleeping; readers and writers have a wait queue each.
 */
import {
  EAGAIN,
  EBADF,
  EFAULT,
  EINVAL,
  ENOTTY,
  ENXIO,
  EPIPE,
  ERESTARTSYS,
} from "../kernel/include/errno.ts";
import {
  O_ACCMODE,
  O_CLOEXEC,
  O_DIRECT,
  O_NONBLOCK,
  O_RDONLY,
  O_WRONLY,
} from "../kernel/include/fcntl.ts";
import type {
  MaybeWait,
  Sometime,
  file,
  file_operations,
  inode,
  kiocb,
} from "../kernel/include/fs.ts";
import {
  FMODE_ATOMIC_POS,
  FMODE_CAN_READ,
  FMODE_CAN_WRITE,
  FMODE_LSEEK,
  FMODE_OPENED,
  FMODE_PREAD,
  FMODE_PWRITE,
  FMODE_READ,
  FMODE_STREAM,
  FMODE_WRITE,
} from "../kernel/include/fs.ts";
import type { mutex as mutex_t, wait_queue_head } from "../kernel/include/locks.ts";
import type { page } from "../kernel/include/mm_types.ts";
import { S_IFIFO } from "../kernel/include/stat.ts";
import type { iov_iter } from "../kernel/include/uio.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { lock_class, mutex, new_wait_queue } from "../kernel/locking/locks.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { SIGPIPE, SI_USER, make_siginfo, send_signal } from "../kernel/signal.ts";
import { alloc_file } from "../kernel/vfs/file.ts";
import { current_time, new_inode } from "../kernel/vfs/inode.ts";
import { get_next_ino, init_pseudo, vfs_of } from "../kernel/vfs/super.ts";
import { get_user_pages } from "../mm/gup.ts";
import { page_to_paddr, put_page, virt_addr_valid } from "../mm/page.ts";
import { d_alloc_anon, d_instantiate } from "./dcache.ts";
import { fd_install, get_unused_fd, with_fd } from "./file.ts";
import { kern_mount_anon, mntget } from "./mount.ts";

const PIPE_MUTEX = lock_class("&pipe->mutex");
const PIPE_DEF_BUFFERS = 16;
const PIPEFS_MAGIC = 0x50495045;

interface pipe_buffer {
  /** Own bytes, or null when `page` holds them. */
  bytes: Uint8Array | null;
  page: page | null;
  offset: number;
  len: number;
}

export interface pipe_inode_info {
  readonly kernel: Kernel;
  readonly mutex: mutex_t;
  readonly rd_wait: wait_queue_head;
  readonly wr_wait: wait_queue_head;
  readonly bufs: pipe_buffer[];
  max_usage: number;
  readers: number;
  writers: number;
  /** Open files. */
  files: number;
  /** How often each end was opened: what a fifo's open waits for. */
  r_counter: number;
  w_counter: number;
}

function alloc_pipe_info(kernel: Kernel): pipe_inode_info {
  const { machine } = kernel;
  return {
    kernel,
    mutex: new mutex(machine, PIPE_MUTEX),
    rd_wait: new_wait_queue(machine, "pipe readers"),
    wr_wait: new_wait_queue(machine, "pipe writers"),
    bufs: [],
    max_usage: PIPE_DEF_BUFFERS,
    readers: 0,
    writers: 0,
    files: 0,
    r_counter: 0,
    w_counter: 0,
  };
}

function pipe_of(f: file): pipe_inode_info {
  return f.private_data as pipe_inode_info;
}

async function lock(pipe: pipe_inode_info): Promise<void> {
  const p: MaybeWait = pipe.mutex.lock();
  if (p) await p;
}

function drop_buffer(buf: pipe_buffer): void {
  if (buf.page !== null) put_page(buf.page);
}

/** Of a page whose device has gone nothing can be copied. */
function copy_bytes(buf: pipe_buffer, to: iov_iter, n: number): Sometime<number> {
  if (buf.bytes !== null) return to.copy_to_iter(buf.bytes, buf.offset, n);
  const page = buf.page!;
  return virt_addr_valid(page) ? to.copy_phys_to_iter(page_to_paddr(page) + buf.offset, n) : 0;
}

/** Bytes of the first buffer to the reader. */
async function copy_out(pipe: pipe_inode_info, to: iov_iter): Promise<number> {
  const buf = pipe.bufs[0]!;
  const n = Math.min(buf.len, to.count);
  const done = await copy_bytes(buf, to, n);
  buf.offset += done;
  buf.len -= done;
  if (buf.len === 0) {
    pipe.bufs.shift();
    drop_buffer(buf);
    pipe.wr_wait.wake_up_all();
  }
  if (done === 0) throw EFAULT;
  return done;
}

async function pipe_read(iocb: kiocb, to: iov_iter): Promise<number> {
  const f = iocb.ki_filp;
  const pipe = pipe_of(f);
  if (to.count === 0) return 0;
  let ret = 0;
  await lock(pipe);
  try {
    for (;;) {
      if (pipe.bufs.length > 0) {
        try {
          ret += await copy_out(pipe, to);
        } catch (e) {
          if (ret > 0) return ret;
          throw e;
        }
        if (to.count === 0) return ret;
        continue;
      }
      if (pipe.writers === 0 || ret > 0) return ret;
      if ((f.f_flags & O_NONBLOCK) !== 0) throw EAGAIN;
      await sleep(pipe, pipe.rd_wait, () => pipe.bufs.length > 0 || pipe.writers === 0);
    }
  } finally {
    pipe.mutex.unlock();
  }
}

/**
 * Waits without the mutex. ERESTARTSYS when a signal comes first; the mutex is held again either
 * way.
 */
async function sleep(
  pipe: pipe_inode_info,
  wq: wait_queue_head,
  cond: () => boolean,
): Promise<void> {
  pipe.mutex.unlock();
  try {
    const p = wq.wait_event(cond, { interruptible: true });
    if (p) await p;
  } finally {
    await lock(pipe);
  }
}

function broken(pipe: pipe_inode_info): void {
  send_signal(pipe.kernel.current, make_siginfo(SIGPIPE, SI_USER));
}

/** What does not fill a page is added to the last buffer when it fits there. */
async function merge(pipe: pipe_inode_info, from: iov_iter): Promise<number> {
  const page_size = pipe.kernel.PAGE_SIZE;
  const chars = from.count % page_size;
  const last = pipe.bufs.at(-1);
  if (chars === 0 || last === undefined || last.bytes === null) return 0;
  const at = last.offset + last.len;
  if (at + chars > page_size) return 0;
  const n = await from.copy_from_iter(last.bytes, at, chars);
  last.len += n;
  if (n < chars) throw EFAULT;
  return n;
}

async function pipe_write(iocb: kiocb, from: iov_iter): Promise<number> {
  const f = iocb.ki_filp;
  const pipe = pipe_of(f);
  if (from.count === 0) return 0;
  let ret = 0;
  await lock(pipe);
  try {
    if (pipe.readers === 0) {
      broken(pipe);
      throw EPIPE;
    }
    if ((f.f_flags & O_DIRECT) === 0) ret += await merge(pipe, from);
    while (from.count > 0) {
      if (pipe.readers === 0) {
        broken(pipe);
        if (ret > 0) return ret;
        throw EPIPE;
      }
      if (pipe.bufs.length < pipe.max_usage) {
        const bytes = new Uint8Array(pipe.kernel.PAGE_SIZE);
        const n = await from.copy_from_iter(bytes, 0, Math.min(bytes.length, from.count));
        if (n > 0) pipe.bufs.push({ bytes, page: null, offset: 0, len: n });
        else if (ret === 0) throw EFAULT;
        ret += n;
        if (n === 0) return ret;
        continue;
      }
      if ((f.f_flags & O_NONBLOCK) !== 0) {
        if (ret > 0) return ret;
        throw EAGAIN;
      }
      pipe.rd_wait.wake_up_all();
      try {
        await sleep(pipe, pipe.wr_wait, () => has_room(pipe));
      } catch (e) {
        if (e === ERESTARTSYS && ret > 0) return ret;
        throw e;
      }
    }
    return ret;
  } finally {
    pipe.mutex.unlock();
    pipe.rd_wait.wake_up_all();
  }
}

const has_room = (pipe: pipe_inode_info): boolean =>
  pipe.bufs.length < pipe.max_usage || pipe.readers === 0;

async function pipe_release(inode: inode, f: file): Promise<void> {
  const pipe = pipe_of(f);
  await lock(pipe);
  if ((f.f_mode & FMODE_READ) !== 0) pipe.readers--;
  if ((f.f_mode & FMODE_WRITE) !== 0) pipe.writers--;
  pipe.mutex.unlock();
  pipe.rd_wait.wake_up_all();
  pipe.wr_wait.wake_up_all();
  put_pipe_info(inode, pipe);
}

function put_pipe_info(inode: inode, pipe: pipe_inode_info): void {
  if (--pipe.files > 0) return;
  if (inode.i_private === pipe) inode.i_private = null;
  for (const buf of pipe.bufs.splice(0)) drop_buffer(buf);
}

function pipe_ioctl(f: file, cmd: string): number {
  if (cmd !== "FIONREAD") throw ENOTTY;
  return pipe_of(f).bufs.reduce((sum, b) => sum + b.len, 0);
}

/** open of a fifo: waits for the other end, unless O_NONBLOCK or O_RDWR. */
async function fifo_open(inode: inode, f: file): Promise<void> {
  inode.i_private ??= alloc_pipe_info(inode.kernel);
  const pipe = inode.i_private as pipe_inode_info;
  pipe.files++;
  f.private_data = pipe;
  stream_open(f);
  const nonblock = (f.f_flags & O_NONBLOCK) !== 0;
  try {
    if ((f.f_flags & O_ACCMODE) === O_RDONLY) {
      pipe.r_counter++;
      pipe.readers++;
      pipe.wr_wait.wake_up_all();
      if (pipe.writers === 0 && !nonblock) await partner(pipe, pipe.rd_wait, "w_counter");
    } else if ((f.f_flags & O_ACCMODE) === O_WRONLY) {
      if (nonblock && pipe.readers === 0) throw ENXIO;
      pipe.w_counter++;
      pipe.writers++;
      pipe.rd_wait.wake_up_all();
      if (pipe.readers === 0) await partner(pipe, pipe.wr_wait, "r_counter");
    } else {
      pipe.r_counter++;
      pipe.w_counter++;
      pipe.readers++;
      pipe.writers++;
      pipe.rd_wait.wake_up_all();
      pipe.wr_wait.wake_up_all();
    }
  } catch (e) {
    if (e !== ENXIO) drop_end(pipe, f);
    put_pipe_info(inode, pipe);
    throw e;
  }
}

async function partner(
  pipe: pipe_inode_info,
  wq: wait_queue_head,
  which: "r_counter" | "w_counter",
): Promise<void> {
  const seen = pipe[which];
  const p = wq.wait_event(() => pipe[which] !== seen, { interruptible: true });
  if (p) await p;
}

function drop_end(pipe: pipe_inode_info, f: file): void {
  if ((f.f_mode & FMODE_READ) !== 0) pipe.readers--;
  if ((f.f_mode & FMODE_WRITE) !== 0) pipe.writers--;
}

/** The file has no position. */
export function stream_open(f: file): void {
  f.f_mode &= ~(FMODE_LSEEK | FMODE_PREAD | FMODE_PWRITE | FMODE_ATOMIC_POS);
  f.f_mode |= FMODE_STREAM;
}

export const pipefifo_fops: file_operations = Object.freeze({
  name: "pipefifo_fops",
  open: fifo_open,
  read_iter: pipe_read,
  write_iter: pipe_write,
  unlocked_ioctl: pipe_ioctl,
  release: pipe_release,
});

function pipe_end(
  kernel: Kernel,
  task: task_struct,
  ino: inode,
  pipe: pipe_inode_info,
  flags: number,
): file {
  const reg = vfs_of(kernel);
  const d = d_alloc_anon(ino.i_sb, `pipe:[${ino.i_ino}]`);
  ino.i_count++;
  d_instantiate(d, ino);
  reg.pipe_mnt ??= kern_mount_anon(ino.i_sb, d_alloc_anon(ino.i_sb, "pipefs"));
  const f = alloc_file(kernel, { mnt: mntget(reg.pipe_mnt), dentry: d }, ino, flags, task.cred);
  const write = (flags & O_ACCMODE) === O_WRONLY;
  f.f_mode = write ? FMODE_WRITE | FMODE_CAN_WRITE : FMODE_READ | FMODE_CAN_READ;
  f.f_mode |= FMODE_OPENED | FMODE_STREAM;
  f.private_data = pipe;
  pipe.files++;
  return f;
}

/**
 * [read end, write end]. `flags`: O_CLOEXEC, O_NONBLOCK, O_DIRECT (each write a buffer of its own).
 */
export function sys_pipe2(task: task_struct, flags = 0): [number, number] {
  if ((flags & ~(O_CLOEXEC | O_NONBLOCK | O_DIRECT)) !== 0) throw EINVAL;
  const { kernel } = task;
  const reg = vfs_of(kernel);
  get_unused_fd(task, get_unused_fd(task) + 1);
  reg.pipe_sb ??= init_pseudo(kernel, "pipefs", PIPEFS_MAGIC);
  const ino = new_inode(reg.pipe_sb);
  ino.i_ino = get_next_ino(kernel);
  ino.i_mode = S_IFIFO | 0o600;
  ino.i_uid = task.cred.fsuid;
  ino.i_gid = task.cred.fsgid;
  ino.i_atime = ino.i_mtime = ino.i_ctime = current_time(ino);
  ino.i_fop = pipefifo_fops;
  const pipe = alloc_pipe_info(kernel);
  pipe.readers = pipe.writers = 1;
  const keep = flags & (O_NONBLOCK | O_DIRECT);
  const rd = pipe_end(kernel, task, ino, pipe, O_RDONLY | (flags & O_NONBLOCK));
  const wr = pipe_end(kernel, task, ino, pipe, O_WRONLY | keep);
  ino.i_count--; // the two dentries hold it now
  const r = get_unused_fd(task);
  fd_install(task, r, rd, flags);
  const w = get_unused_fd(task);
  fd_install(task, w, wr, flags);
  return [r, w];
}

/**
 * vmsplice into a pipe: the pipe refers to the pages of [addr, addr + len) themselves. Bytes
 * accepted; blocks while the pipe is full unless something was accepted.
 */
export function sys_vmsplice(
  task: task_struct,
  fd: number,
  addr: number,
  len: number,
): Promise<number> {
  return with_fd(task, fd, async (f) => {
    if (f.f_op !== pipefifo_fops || (f.f_mode & FMODE_WRITE) === 0) throw EBADF;
    if (task.mm === null || len <= 0) return 0;
    const pipe = pipe_of(f);
    const size = task.kernel.PAGE_SIZE;
    let done = 0;
    await lock(pipe);
    try {
      while (done < len) {
        if (pipe.readers === 0) {
          broken(pipe);
          throw EPIPE;
        }
        if (pipe.bufs.length >= pipe.max_usage) {
          if (done > 0) break;
          if ((f.f_flags & O_NONBLOCK) !== 0) throw EAGAIN;
          await sleep(pipe, pipe.wr_wait, () => has_room(pipe));
          continue;
        }
        const at = addr + done;
        const offset = at % size;
        const n = Math.min(size - offset, len - done);
        const [pg] = await get_user_pages(task.mm, at - offset, 1, false);
        pipe.bufs.push({ bytes: null, page: pg!, offset, len: n });
        done += n;
      }
      return done;
    } catch (e) {
      if (done > 0) return done;
      throw e;
    } finally {
      pipe.mutex.unlock();
      pipe.rd_wait.wake_up_all();
    }
  });
}
