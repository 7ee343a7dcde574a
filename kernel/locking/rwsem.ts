/**
 * kernel/locking/rwsem.ts - reader-writer semaphore. Linux: kernel/locking/rwsem.c.
 *
 * Fair: a waiting writer blocks later readers, so reading twice with a writer queued in between is
 * a deadlock, as in Linux. On release the first waiter decides: a writer gets the lock alone; a
 * reader gets it together with every reader in the queue, also those behind a writer. Differs: the
 * lock is handed over by whoever releases it, so nobody can take it between release and wake-up.
 *
 * Only a count of readers is kept; who they are is found, when a report or a wait-for edge needs
 * it, in the tasks' stacks of held locks.
 */
import { assert } from "../assert.ts";
import type { MaybeWait, rw_semaphore as rw_semaphore_t } from "../include/locks.ts";
import {
  find_held,
  LOCK_READ,
  LOCK_WRITE,
  pop_held,
  push_held,
  WAIT_INTERRUPTIBLE,
  WAIT_KILLABLE,
  WAIT_UNINTERRUPTIBLE,
  type task_struct,
} from "../sched/task.ts";
import { dequeue, lock_base, scan_holders } from "./lock.ts";
import { check_atomic_sleep, not_held } from "./misuse.ts";
import { call_site } from "./site.ts";
import { UNTYPED, type lock_traits } from "./traits.ts";

export class rw_semaphore extends lock_base implements rw_semaphore_t {
  /** -1: a writer; n > 0: n readers; 0: free. */
  protected count = 0;
  /** The writer, null if there is none or it has given up its ownership. */
  protected writer: task_struct | null = null;
  /** In order of arrival; their modes are in task.waiting_mode. */
  protected waiters: task_struct[] | null = null;

  down_read(subclass = 0): MaybeWait {
    return this.down(LOCK_READ, subclass, WAIT_UNINTERRUPTIBLE);
  }
  down_write(subclass = 0): MaybeWait {
    return this.down(LOCK_WRITE, subclass, WAIT_UNINTERRUPTIBLE);
  }
  /** These reject with ERESTARTSYS if a fatal signal comes first. */
  down_read_killable(subclass = 0): MaybeWait {
    return this.down(LOCK_READ, subclass, WAIT_KILLABLE);
  }
  down_write_killable(subclass = 0): MaybeWait {
    return this.down(LOCK_WRITE, subclass, WAIT_KILLABLE);
  }
  down_read_interruptible(subclass = 0): MaybeWait {
    return this.down(LOCK_READ, subclass, WAIT_KILLABLE | WAIT_INTERRUPTIBLE);
  }

  /** Of several locks of one class that `nest`, which is held, makes safe. */
  down_write_nest_lock(nest: lock_base): MaybeWait {
    if (this.machine.dep !== null) this.sched.current.waiting_nest = nest;
    return this.down(LOCK_WRITE, 0, WAIT_UNINTERRUPTIBLE);
  }

  private down(mode: number, subclass: number, flags: number): MaybeWait {
    const s = this.sched;
    if (s.exploring) {
      const p = s.point_for(this, mode, flags, subclass);
      if (p !== undefined) return p;
    }
    const t = s.current;
    if (t.atomic !== 0) check_atomic_sleep(s, t, this);
    const site = this.machine.stacks ? call_site() : null;
    if (this.attempt(t, mode, subclass, site)) return undefined;
    return s.block(this, mode, flags, subclass);
  }

  override attempt(t: task_struct, mode: number, subclass: number, site: string | null): boolean {
    const dep = this.machine.dep;
    if (dep !== null) dep.acquire(t, this, mode, subclass, false);
    if (this.free_for(mode)) {
      this.grant(t, mode, subclass, site);
      return true;
    }
    if (dep !== null) dep.contended(t, this, mode);
    this.waiters ??= [];
    this.waiters.push(t);
    return false;
  }

  private free_for(mode: number): boolean {
    if (this.count === 0) return true;
    if (mode === LOCK_WRITE || this.count < 0) return false;
    return this.waiters === null || this.waiters.length === 0;
  }

  private grant(t: task_struct, mode: number, subclass: number, site: string | null): void {
    if (mode === LOCK_WRITE) {
      this.count = -1;
      this.writer = t;
    } else {
      this.count++;
    }
    push_held(t, this, mode, subclass, site);
  }

  private try_mode(mode: number): boolean {
    if (this.sched.observer !== null) this.sched.observer.touch(this, mode === LOCK_WRITE);
    if (!this.free_for(mode)) return false;
    const t = this.sched.current;
    const m = this.machine;
    this.grant(t, mode, 0, m.stacks ? call_site() : null);
    if (m.dep !== null) m.dep.acquire(t, this, mode, 0, true);
    return true;
  }
  down_read_trylock(): boolean {
    return this.try_mode(LOCK_READ);
  }
  down_write_trylock(): boolean {
    return this.try_mode(LOCK_WRITE);
  }

  up_read(): void {
    const t = this.sched.current;
    if (this.count <= 0 || !pop_held(t, this, LOCK_READ)) not_held(this, "up_read", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_READ);
    this.count--;
    if (this.count === 0 && this.waiters !== null) this.hand_over();
  }

  up_write(): void {
    const t = this.sched.current;
    if (this.writer !== t || !pop_held(t, this, LOCK_WRITE)) not_held(this, "up_write", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_WRITE);
    this.release_write();
  }

  protected release_write(): void {
    this.count = 0;
    this.writer = null;
    if (this.waiters !== null) this.hand_over();
  }

  /**
   * Takes a read hold from `holder`: the reader that began is not the one that ends (direct IO).
   */
  up_read_non_owner(holder: task_struct): void {
    if (this.count <= 0 || !pop_held(holder, this, LOCK_READ)) {
      not_held(this, "up_read_non_owner", holder);
    }
    if (this.machine.dep !== null) this.machine.dep.release(holder, this, LOCK_READ);
    this.count--;
    if (this.count === 0 && this.waiters !== null) this.hand_over();
  }

  /** Writer becomes reader; readers that wait first in the queue come in with it. */
  downgrade_write(): void {
    const t = this.sched.current;
    if (this.writer !== t || !pop_held(t, this, LOCK_WRITE)) not_held(this, "downgrade_write", t);
    const m = this.machine;
    push_held(t, this, LOCK_READ, 0, m.stacks ? call_site() : null);
    if (m.dep !== null) {
      m.dep.release(t, this, LOCK_WRITE);
      m.dep.acquire(t, this, LOCK_READ, 0, true);
    }
    this.writer = null;
    this.count = 1;
    const first = this.waiters === null ? undefined : this.waiters[0];
    if (first !== undefined && first.waiting_mode === LOCK_READ) this.hand_over();
  }

  /** The lock is free, or read-held with a reader first in the queue. */
  private hand_over(): void {
    const q = this.waiters!;
    const first = q[0];
    if (first === undefined) return;
    assert(this.count >= 0);
    if (first.waiting_mode === LOCK_WRITE) {
      q.shift();
      this.hand_to(first);
      return;
    }
    let kept = 0;
    for (let i = 0; i < q.length; i++) {
      const t = q[i]!;
      if (t.waiting_mode === LOCK_READ) this.hand_to(t);
      else q[kept++] = t;
    }
    q.length = kept;
  }

  private hand_to(t: task_struct): void {
    this.grant(t, t.waiting_mode, t.waiting_subclass, t.wait_site);
    this.sched.wake(t);
  }

  is_locked(): boolean {
    return this.count !== 0;
  }
  is_write_locked(): boolean {
    return this.count < 0;
  }
  is_contended(): boolean {
    return this.waiters !== null && this.waiters.length > 0;
  }
  assert_held(): void {
    const t = this.sched.current;
    if (find_held(t, this) === null) not_held(this, "lockdep_assert_held", t);
  }
  assert_held_write(): void {
    const t = this.sched.current;
    if (this.writer !== t) not_held(this, "lockdep_assert_held_write", t);
  }

  override holders(out: task_struct[]): void {
    if (this.writer !== null) out.push(this.writer);
    else if (this.count > 0) scan_holders(this.sched, this, out);
  }

  /** The holders that stand in the way, and the waiters that will be served before. */
  override blockers(task: task_struct, out: task_struct[]): void {
    const write = task.waiting_mode === LOCK_WRITE;
    if (write || this.count < 0) this.holders(out);
    const q = this.waiters;
    for (let i = 0; q !== null && i < q.length && q[i] !== task; i++) {
      const ahead = q[i]!;
      // The first reader in the queue takes all other readers along.
      if (!write && ahead.waiting_mode === LOCK_READ) return;
      out.push(ahead);
    }
  }

  override cancel_wait(task: task_struct): void {
    const was_first = this.waiters !== null && this.waiters[0] === task;
    dequeue(this.waiters, task);
    if (this.machine.dep !== null) this.machine.dep.release(task, this, task.waiting_mode);
    // Readers behind a writer that went away need not wait any longer.
    const first = this.waiters === null ? undefined : this.waiters[0];
    if (was_first && this.count > 0 && first !== undefined && first.waiting_mode === LOCK_READ) {
      this.hand_over();
    }
  }
}

/**
 * percpu_rw_semaphore: freeze levels. Linux: kernel/locking/percpu-rwsem.c. Same rules as an rwsem
 * here (its cheap readers are a matter of processors), plus a writer that outlives its task: a
 * frozen filesystem stays frozen when the call that froze it returns.
 */
export class percpu_rwsem extends rw_semaphore {
  override get traits(): lock_traits {
    return UNTYPED;
  }

  /** percpu_rwsem_release(): the writer returns to user mode and the lock stays taken. */
  disown_write(): void {
    const t = this.sched.current;
    if (this.writer !== t || !pop_held(t, this, LOCK_WRITE)) not_held(this, "disown_write", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_WRITE);
    this.writer = null;
  }

  /** percpu_rwsem_acquire(): the running task, usually another one, takes it over to release it. */
  adopt_write(): void {
    const t = this.sched.current;
    if (this.count >= 0 || this.writer !== null) not_held(this, "adopt_write", t);
    const m = this.machine;
    this.writer = t;
    push_held(t, this, LOCK_WRITE, 0, m.stacks ? call_site() : null);
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_WRITE, 0, true);
  }
}
