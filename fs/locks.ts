/**
 * fs/locks.ts - flock. Linux: fs/locks.c. Record locks (fcntl) and leases are not modelled.
 * A lock belongs to the open file, so duplicated and inherited descriptors share it. Changing a
 * lock's kind drops the old one first, as Linux does: another may get in between, and a refused
 * change has lost it.
 */
import { EAGAIN, EBADF, EINVAL } from "../kernel/include/errno.ts";
import { LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN } from "../kernel/include/fcntl.ts";
import type { file, inode } from "../kernel/include/fs.ts";
import { FMODE_READ, FMODE_WRITE } from "../kernel/include/fs.ts";
import type { wait_queue_head } from "../kernel/include/locks.ts";
import { new_wait_queue } from "../kernel/locking/locks.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { with_fd } from "./file.ts";

interface file_lock_context {
  /** Holder and LOCK_SH or LOCK_EX; with the task that took it, for reports. */
  held: Map<file, { type: number; by: task_struct }>;
  wait: wait_queue_head;
}

function lock_context(inode: inode): file_lock_context {
  inode.i_flctx ??= {
    held: new Map(),
    wait: new_wait_queue(inode.kernel.machine, "flock", () => `inode ${inode.i_ino}`),
  } satisfies file_lock_context;
  return inode.i_flctx as file_lock_context;
}

function conflicting(ctx: file_lock_context, f: file, type: number): task_struct[] {
  const out: task_struct[] = [];
  for (const [other, lock] of ctx.held) {
    if (other !== f && (type === LOCK_EX || lock.type === LOCK_EX)) out.push(lock.by);
  }
  return out;
}

function unlock(ctx: file_lock_context, f: file): void {
  if (ctx.held.delete(f)) ctx.wait.wake_up_all();
}

async function flock_lock_inode(
  task: task_struct,
  f: file,
  type: number,
  nonblock: boolean,
): Promise<void> {
  const ctx = lock_context(f.f_inode);
  if (ctx.held.get(f)?.type === type) return;
  unlock(ctx, f);
  while (conflicting(ctx, f, type).length > 0) {
    if (nonblock) throw EAGAIN;
    const p = ctx.wait.wait_event(() => conflicting(ctx, f, type).length === 0, {
      interruptible: true,
      owner: () => conflicting(ctx, f, type),
    });
    if (p) await p;
  }
  ctx.held.set(f, { type, by: task });
}

/** LOCK_SH, LOCK_EX or LOCK_UN, with LOCK_NB. EAGAIN when it would wait. */
export function sys_flock(task: task_struct, fd: number, cmd: number): Promise<void> {
  const type = cmd & ~LOCK_NB;
  if (type !== LOCK_SH && type !== LOCK_EX && type !== LOCK_UN) return Promise.reject(EINVAL);
  return with_fd(task, fd, async (f) => {
    if (type !== LOCK_UN && (f.f_mode & (FMODE_READ | FMODE_WRITE)) === 0) throw EBADF;
    if (type === LOCK_UN) {
      if (f.f_inode.i_flctx !== null) unlock(lock_context(f.f_inode), f);
      return;
    }
    await flock_lock_inode(task, f, type, (cmd & LOCK_NB) !== 0);
  });
}

/** The file is going away. */
export function locks_remove_file(f: file): void {
  const ctx = f.f_inode.i_flctx as file_lock_context | null;
  if (ctx !== null) unlock(ctx, f);
}
