/**
 * kernel/locking/bit_lock.ts - locks that are a bit in a word: page lock, buffer lock. Linux:
 * kernel/sched/wait_bit.c, mm/filemap.c (folio_lock). Lockdep does not see these in Linux; the
 * wait-for graph does here.
 *
 * The owner is known. Unlike a mutex, another task may unlock (the end of an IO), and the lock may
 * be taken on behalf of nobody who could be named.
 */
import { BUG } from "../assert.ts";
import type { bit_lock as bit_lock_t, MaybeWait } from "../include/locks.ts";
import {
  LOCK_EXCLUSIVE,
  pop_held,
  push_held,
  WAIT_EVENT,
  WAIT_KILLABLE,
  WAIT_UNINTERRUPTIBLE,
  type task_struct,
} from "../sched/task.ts";
import { dequeue, lock_base } from "./lock.ts";
import { check_atomic_sleep } from "./misuse.ts";
import { call_site } from "./site.ts";
import { UNSEEN, type lock_traits } from "./traits.ts";

export class bit_lock extends lock_base implements bit_lock_t {
  private locked = false;
  owner: task_struct | null = null;
  /** Those with waiting_mode WAIT_EVENT wait for the bit to clear without taking it. */
  private waiters: task_struct[] | null = null;

  override get traits(): lock_traits {
    return UNSEEN;
  }

  lock(): MaybeWait {
    return this.lock_flags(WAIT_UNINTERRUPTIBLE);
  }
  lock_killable(): MaybeWait {
    return this.lock_flags(WAIT_KILLABLE);
  }

  private lock_flags(flags: number): MaybeWait {
    const s = this.sched;
    if (s.exploring) {
      const p = s.point_for(this, LOCK_EXCLUSIVE, flags, 0);
      if (p !== undefined) return p;
    }
    const t = s.current;
    if (t.atomic !== 0) check_atomic_sleep(s, t, this);
    const site = this.machine.stacks ? call_site() : null;
    if (this.attempt(t, LOCK_EXCLUSIVE, 0, site)) return undefined;
    return s.block(this, LOCK_EXCLUSIVE, flags);
  }

  override attempt(t: task_struct, mode: number, subclass: number, site: string | null): boolean {
    const dep = this.machine.dep;
    if (dep !== null) dep.acquire(t, this, mode, subclass, false);
    if (!this.locked) {
      this.take(t, site);
      return true;
    }
    if (dep !== null) dep.contended(t, this, mode);
    this.enqueue(t);
    return false;
  }

  private enqueue(t: task_struct): void {
    this.waiters ??= [];
    this.waiters.push(t);
  }

  private take(t: task_struct, site: string | null): void {
    this.locked = true;
    this.owner = t;
    push_held(t, this, LOCK_EXCLUSIVE, 0, site);
  }

  trylock(): boolean {
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    if (this.locked) return false;
    const m = this.machine;
    const t = this.sched.current;
    this.take(t, m.stacks ? call_site() : null);
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_EXCLUSIVE, 0, true);
    return true;
  }

  /** By the owner, or by whoever ends the owner's IO. */
  unlock(): void {
    if (!this.locked) BUG(`unlock: ${this.sched.current} unlocks ${this.describe()}: it is free`);
    this.disown();
    this.locked = false;
    const q = this.waiters;
    while (q !== null && q.length > 0) {
      const next = q.shift()!;
      if (next.waiting_mode === LOCK_EXCLUSIVE) {
        this.take(next, next.wait_site);
        this.sched.wake(next);
        return;
      }
      this.sched.wake(next);
    }
  }

  /** The owner starts an IO and goes on: the lock stays taken, held by nobody. */
  disown(): void {
    const owner = this.owner;
    this.owner = null;
    if (owner === null) return;
    pop_held(owner, this, LOCK_EXCLUSIVE);
    if (this.machine.dep !== null) this.machine.dep.release(owner, this, LOCK_EXCLUSIVE);
  }

  /**
   * Sleeps until the bit was clear, without taking it (wait_on_page_locked). As in Linux it may be
   * set again by the time the sleeper runs: who cares looks again.
   */
  wait_unlocked(): MaybeWait {
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    if (!this.locked) return undefined;
    this.enqueue(this.sched.current);
    return this.sched.block(this, WAIT_EVENT, WAIT_UNINTERRUPTIBLE);
  }

  is_locked(): boolean {
    return this.locked;
  }
  is_contended(): boolean {
    return this.waiters !== null && this.waiters.length > 0;
  }

  override holders(out: task_struct[]): void {
    if (this.owner !== null) out.push(this.owner);
  }
  override blockers(task: task_struct, out: task_struct[]): void {
    if (this.owner !== null) out.push(this.owner);
    const q = this.waiters;
    for (let i = 0; q !== null && i < q.length && q[i] !== task; i++) {
      if (q[i]!.waiting_mode === LOCK_EXCLUSIVE) out.push(q[i]!);
    }
  }
  override cancel_wait(task: task_struct): void {
    dequeue(this.waiters, task);
    const dep = this.machine.dep;
    if (dep !== null && task.waiting_mode !== WAIT_EVENT) dep.release(task, this, LOCK_EXCLUSIVE);
  }
}
