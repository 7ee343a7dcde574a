/**
 * kernel/locking/lock_map.ts - pseudo locks: states that lockdep treats as a lock although nobody
 * waits for them as such. Linux: lock_map_acquire() in include/linux/lockdep.h,
 * fs_reclaim_acquire() in mm/page_alloc.c.
 *
 * Reclaim, an open transaction, a commit: "fs_reclaim", "jbd2_handle". They cost nothing without
 * lockdep and are not on task.held, as they never make anybody wait.
 */
import { type gfp_t, __GFP_DIRECT_RECLAIM, __GFP_FS, __GFP_IO } from "../include/gfp.ts";
import type { lock_class_key } from "../include/locks.ts";
import type { Kernel } from "../kernel.ts";
import type { Machine } from "../machine.ts";
import {
  LOCK_EXCLUSIVE,
  LOCK_READ,
  LOCK_READ_RECURSIVE,
  PF_MEMALLOC,
  PF_MEMALLOC_NOFS,
  PF_MEMALLOC_NOIO,
  type task_struct,
} from "../sched/task.ts";
import { lock_base, type lock_label } from "./lock.ts";
import { UNTYPED, type lock_traits } from "./traits.ts";

export class lock_map extends lock_base {
  /** Nobody waits for it: exploration takes no notice. */
  readonly never_waits = true;
  private readonly kind: lock_traits;

  constructor(
    machine: Machine,
    key: lock_class_key,
    instance: lock_label = null,
    kind: lock_traits = UNTYPED,
  ) {
    super(machine, key, instance);
    this.kind = kind;
  }

  override get traits(): lock_traits {
    return this.kind;
  }

  acquire(subclass = 0): void {
    const dep = this.machine.dep;
    if (dep !== null) dep.acquire(this.sched.current, this, LOCK_EXCLUSIVE, subclass, false);
  }
  /** A reader that would wait behind a waiting writer: an open transaction handle. */
  acquire_read(subclass = 0): void {
    const dep = this.machine.dep;
    if (dep !== null) dep.acquire(this.sched.current, this, LOCK_READ, subclass, false);
  }
  acquire_read_recursive(subclass = 0): void {
    const dep = this.machine.dep;
    if (dep !== null) {
      dep.acquire(this.sched.current, this, LOCK_READ_RECURSIVE, subclass, false);
    }
  }
  release(): void {
    const dep = this.machine.dep;
    if (dep !== null) dep.release(this.sched.current, this, LOCK_EXCLUSIVE);
  }
  /** Waits here for all readers: a commit that is waited for. */
  sync(): void {
    const dep = this.machine.dep;
    if (dep !== null) dep.sync(this.sched.current, this);
  }

  is_locked(): boolean {
    return false;
  }
  override holders(): void {}
  override blockers(): void {}
  override cancel_wait(): void {}
}

// ------------------------------------------------------------------ memory allocation

/** What the task's PF_MEMALLOC_* flags leave of `gfp`. */
export function current_gfp_context(t: task_struct, gfp: gfp_t): gfp_t {
  if (t.flags & PF_MEMALLOC_NOIO) return gfp & ~(__GFP_IO | __GFP_FS);
  return t.flags & PF_MEMALLOC_NOFS ? gfp & ~__GFP_FS : gfp;
}

function may_reclaim_fs(t: task_struct, gfp: gfp_t): boolean {
  const allowed = current_gfp_context(t, gfp);
  if ((allowed & __GFP_DIRECT_RECLAIM) === 0 || (t.flags & PF_MEMALLOC) !== 0) return false;
  return (allowed & __GFP_FS) !== 0;
}

/** Reclaim that may enter filesystems begins ... */
export function fs_reclaim_acquire(k: Kernel, gfp: gfp_t): void {
  const { dep, lockdep } = k.machine;
  if (dep === null || lockdep === null) return;
  const t = k.sched.current;
  if (may_reclaim_fs(t, gfp)) dep.acquire(t, lockdep.pseudo.fs_reclaim, 0, 0, false);
}
/** ... and ends. */
export function fs_reclaim_release(k: Kernel, gfp: gfp_t): void {
  const { dep, lockdep } = k.machine;
  if (dep === null || lockdep === null) return;
  const t = k.sched.current;
  if (may_reclaim_fs(t, gfp)) dep.release(t, lockdep.pseudo.fs_reclaim, 0);
}

/** An allocation that may reclaim: lockdep learns that reclaim can happen here. */
export function might_alloc(k: Kernel, gfp: gfp_t): void {
  if (k.machine.dep === null) return;
  fs_reclaim_acquire(k, gfp);
  fs_reclaim_release(k, gfp);
}

/** No allocation of this task enters a filesystem until the restore. Returns the old state. */
export function memalloc_nofs_save(k: Kernel): number {
  const t = k.sched.current;
  const old = t.flags & PF_MEMALLOC_NOFS;
  t.flags |= PF_MEMALLOC_NOFS;
  return old;
}
export function memalloc_nofs_restore(k: Kernel, old: number): void {
  const t = k.sched.current;
  t.flags = (t.flags & ~PF_MEMALLOC_NOFS) | old;
}
