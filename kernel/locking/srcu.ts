/**
 * kernel/locking/srcu.ts - RCU whose readers may sleep: dax_read_lock() and friends. Linux:
 * kernel/rcu/srcutree.c.
 *
 * Readers count on one of two sides. synchronize() turns new readers to the other side and waits
 * until the old side is empty, so it waits for readers that were inside, not for those that come
 * later. Readers are on their task's stack of held locks (the side as subclass): a synchronize()
 * that waits for a reader that waits for it is found.
 */
import type { MaybeWait, srcu_struct } from "../include/locks.ts";
import {
  LOCK_READ_RECURSIVE,
  pop_held_subclass,
  push_held,
  WAIT_EVENT,
  type task_struct,
} from "../sched/task.ts";
import { dequeue, lock_base } from "./lock.ts";
import { check_atomic_sleep, not_held } from "./misuse.ts";
import { call_site } from "./site.ts";
import { UNTYPED, type lock_traits } from "./traits.ts";

export class srcu extends lock_base implements srcu_struct {
  private side = 0;
  private readonly count = [0, 0];
  private waiters: task_struct[] | null = null;
  /** Runs synchronize(); others wait for their turn. */
  private syncing: task_struct | null = null;

  override get traits(): lock_traits {
    return UNTYPED;
  }

  /** Returns the side, which read_unlock() wants back. */
  read_lock(): number {
    const t = this.sched.current;
    const m = this.machine;
    const idx = this.side;
    this.count[idx]!++;
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_READ_RECURSIVE, 0, false);
    push_held(t, this, LOCK_READ_RECURSIVE, idx, m.stacks ? call_site() : null);
    return idx;
  }

  read_unlock(idx: number): void {
    const t = this.sched.current;
    if (!pop_held_subclass(t, this, idx)) not_held(this, "srcu_read_unlock", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_READ_RECURSIVE);
    if (--this.count[idx]! === 0 && this.waiters !== null) this.wake_waiters();
  }

  private wake_waiters(): void {
    const q = this.waiters;
    this.waiters = null;
    if (q !== null) for (const t of q) this.sched.wake(t);
  }

  /** Waits for the readers that are inside now. */
  synchronize(): MaybeWait {
    const s = this.sched;
    const t = s.current;
    if (t.atomic !== 0) check_atomic_sleep(s, t, this);
    if (this.machine.dep !== null) this.machine.dep.sync(t, this);
    if (!s.exploring && this.syncing === null && this.count[0] === 0 && this.count[1] === 0) {
      return undefined;
    }
    return this.synchronize_slow();
  }

  private async synchronize_slow(): Promise<void> {
    const s = this.sched;
    const point = s.sched_point();
    if (point !== undefined) await point;
    const t = s.current;
    while (this.syncing !== null) await this.sleep(t);
    this.syncing = t;
    const old = this.side;
    this.side = 1 - old;
    while (this.count[old]! > 0) await this.sleep(t);
    this.syncing = null;
    this.wake_waiters();
  }

  private sleep(t: task_struct): Promise<void> {
    this.waiters ??= [];
    this.waiters.push(t);
    return this.sched.block(this, WAIT_EVENT);
  }

  is_locked(): boolean {
    return this.count[0]! + this.count[1]! > 0;
  }

  override holders(out: task_struct[]): void {
    this.readers_of(0, out);
    this.readers_of(1, out);
  }

  private readers_of(idx: number, out: task_struct[]): void {
    for (const t of this.sched.tasks) {
      for (let i = 0; i < t.held_depth; i++) {
        const h = t.held[i]!;
        if (h.lock === this && h.subclass === idx) out.push(t);
      }
    }
  }

  override blockers(task: task_struct, out: task_struct[]): void {
    if (this.syncing !== null && this.syncing !== task) out.push(this.syncing);
    else this.readers_of(1 - this.side, out);
  }
  override cancel_wait(task: task_struct): void {
    dequeue(this.waiters, task);
  }
}
