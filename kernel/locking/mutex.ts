/**
 * kernel/locking/mutex.ts - sleeping lock with one owner. Linux: kernel/locking/mutex.c.
 * Differs: unlock hands the lock to the longest waiter at once (Linux lets a running task take it
 * first unless the waiter has been passed over): fair, and the wait-for graph is exact.
 */
import type { MaybeWait, lock_class_key, mutex as mutex_t } from "../include/locks.ts";
import type { Machine } from "../machine.ts";
import {
  find_held,
  LOCK_EXCLUSIVE,
  pop_held,
  push_held,
  WAIT_INTERRUPTIBLE,
  WAIT_KILLABLE,
  WAIT_UNINTERRUPTIBLE,
  type task_struct,
} from "../sched/task.ts";
import { dequeue, lock_base, type lock_label } from "./lock.ts";
import { check_atomic_sleep, not_held } from "./misuse.ts";
import { call_site } from "./site.ts";

export class mutex extends lock_base implements mutex_t {
  owner: task_struct | null = null;
  protected waiters: task_struct[] | null = null;

  constructor(machine: Machine, key: lock_class_key, instance: lock_label = null) {
    super(machine, key, instance);
  }

  lock(subclass = 0): MaybeWait {
    return this.lock_flags(subclass, WAIT_UNINTERRUPTIBLE);
  }
  /** Rejects with ERESTARTSYS if a fatal signal comes first. */
  lock_killable(subclass = 0): MaybeWait {
    return this.lock_flags(subclass, WAIT_KILLABLE);
  }
  lock_interruptible(subclass = 0): MaybeWait {
    return this.lock_flags(subclass, WAIT_KILLABLE | WAIT_INTERRUPTIBLE);
  }

  /** Of several locks of one class that `nest`, which is held, makes safe. */
  lock_nest_lock(nest: lock_base): MaybeWait {
    if (this.machine.dep !== null) this.sched.current.waiting_nest = nest;
    return this.lock_flags(0, WAIT_UNINTERRUPTIBLE);
  }

  private lock_flags(subclass: number, flags: number): MaybeWait {
    const s = this.sched;
    if (s.exploring) {
      const p = s.point_for(this, LOCK_EXCLUSIVE, flags, subclass);
      if (p !== undefined) return p;
    }
    const t = s.current;
    if (t.atomic !== 0) check_atomic_sleep(s, t, this);
    const site = this.machine.stacks ? call_site() : null;
    if (this.attempt(t, LOCK_EXCLUSIVE, subclass, site)) return undefined;
    return s.block(this, LOCK_EXCLUSIVE, flags, subclass);
  }

  override attempt(t: task_struct, mode: number, subclass: number, site: string | null): boolean {
    const dep = this.machine.dep;
    if (dep !== null) dep.acquire(t, this, mode, subclass, false);
    if (this.owner === null) {
      this.owner = t;
      push_held(t, this, mode, subclass, site);
      return true;
    }
    if (dep !== null) dep.contended(t, this, mode);
    this.waiters ??= [];
    this.waiters.push(t);
    return false;
  }

  trylock(): boolean {
    const t = this.sched.current;
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    if (this.owner !== null) return false;
    const m = this.machine;
    this.owner = t;
    push_held(t, this, LOCK_EXCLUSIVE, 0, m.stacks ? call_site() : null);
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_EXCLUSIVE, 0, true);
    return true;
  }

  unlock(): void {
    const t = this.sched.current;
    if (this.owner !== t || !pop_held(t, this, LOCK_EXCLUSIVE)) not_held(this, "mutex_unlock", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_EXCLUSIVE);
    const next = this.waiters === null ? undefined : this.waiters.shift();
    if (next === undefined) {
      this.owner = null;
      return;
    }
    this.owner = next;
    push_held(next, this, LOCK_EXCLUSIVE, next.waiting_subclass, next.wait_site);
    this.handed_over(next);
    this.sched.wake(next);
  }

  /** `next`, which sleeps still, is the owner now. */
  protected handed_over(_next: task_struct): void {}

  is_locked(): boolean {
    return this.owner !== null;
  }
  is_contended(): boolean {
    return this.waiters !== null && this.waiters.length > 0;
  }
  assert_held(): void {
    const t = this.sched.current;
    if (find_held(t, this) === null) not_held(this, "lockdep_assert_held", t);
  }

  override holders(out: task_struct[]): void {
    if (this.owner !== null) out.push(this.owner);
  }
  override blockers(task: task_struct, out: task_struct[]): void {
    if (this.owner !== null) out.push(this.owner);
    const q = this.waiters;
    for (let i = 0; q !== null && i < q.length && q[i] !== task; i++) out.push(q[i]!);
  }
  override cancel_wait(task: task_struct): void {
    dequeue(this.waiters, task);
    if (this.machine.dep !== null) this.machine.dep.release(task, this, LOCK_EXCLUSIVE);
  }
}
