/**
 * kernel/locking/spinlock.ts - spinlocks and rwlocks. Linux: kernel/locking/spinlock.c,
 * include/linux/spinlock.h.
 *
 * They never yield and are never contended: one task runs at a time, and none gives up the baton
 * while it holds one. A spinlock found held is therefore a bug: either the same task takes it
 * twice, or its holder slept. What they do is record and check; `task.atomic` > 0 makes every sleep
 * a bug.
 */
import { BUG } from "../assert.ts";
import type { spinlock_t } from "../include/locks.ts";
import { local_irq_disable, local_irq_enable } from "../sched/irq.ts";
import {
  find_held,
  LOCK_EXCLUSIVE,
  LOCK_READ,
  LOCK_WRITE,
  pop_held,
  push_held,
  type task_struct,
} from "../sched/task.ts";
import { lock_base, scan_holders } from "./lock.ts";
import { not_held } from "./misuse.ts";
import { call_site } from "./site.ts";
import { RAW_SPINNING, RWLOCK, SPINNING, type lock_traits } from "./traits.ts";

abstract class spinning_lock extends lock_base {
  readonly spins = true;
  override get traits(): lock_traits {
    return SPINNING;
  }
  override cancel_wait(): void {}
  override blockers(_task: task_struct, out: task_struct[]): void {
    this.holders(out);
  }
}

function spin_contended(lock: lock_base, op: string, holder: task_struct | null): never {
  const t = lock.sched.current;
  if (holder === t) BUG(`${op}: ${t} takes ${lock.describe()} which it already holds`);
  const by = holder === null ? "a reader" : holder.toString();
  BUG(`${op}: ${t} finds ${lock.describe()} held by ${by}, which gave up the baton while atomic`);
}

export class spinlock extends spinning_lock implements spinlock_t {
  owner: task_struct | null = null;

  lock(subclass = 0): void {
    const t = this.sched.current;
    const m = this.machine;
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_EXCLUSIVE, subclass, false);
    if (this.owner !== null) spin_contended(this, "spin_lock", this.owner);
    this.owner = t;
    t.atomic++;
    push_held(t, this, LOCK_EXCLUSIVE, subclass, m.stacks ? call_site() : null);
  }

  /** Of several locks of one class that `nest`, which is held, makes safe. */
  lock_nest_lock(nest: lock_base): void {
    if (this.machine.dep !== null) this.sched.current.waiting_nest = nest;
    this.lock();
  }

  trylock(): boolean {
    if (this.owner !== null) return false;
    const t = this.sched.current;
    const m = this.machine;
    this.owner = t;
    t.atomic++;
    push_held(t, this, LOCK_EXCLUSIVE, 0, m.stacks ? call_site() : null);
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_EXCLUSIVE, 0, true);
    return true;
  }

  unlock(): void {
    const t = this.sched.current;
    if (this.owner !== t || !pop_held(t, this, LOCK_EXCLUSIVE)) not_held(this, "spin_unlock", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_EXCLUSIVE);
    this.owner = null;
    t.atomic--;
  }

  /** spin_lock_irq(), spin_lock_irqsave(). */
  lock_irq(subclass = 0): void {
    local_irq_disable(this);
    this.lock(subclass);
  }
  unlock_irq(): void {
    this.unlock();
    local_irq_enable(this);
  }

  is_locked(): boolean {
    return this.owner !== null;
  }
  assert_held(): void {
    const t = this.sched.current;
    if (this.owner !== t) not_held(this, "lockdep_assert_held", t);
  }
  override holders(out: task_struct[]): void {
    if (this.owner !== null) out.push(this.owner);
  }
}

/** raw_spinlock_t: spins on a realtime kernel too, so no spinlock_t may be taken inside. */
export class raw_spinlock extends spinlock {
  override get traits(): lock_traits {
    return RAW_SPINNING;
  }
}

/**
 * rwlock_t. Readers nest here, as nobody waits; on a real machine only those in interrupts do
 * (queued rwlocks, kernel/locking/qrwlock.c), which is how lockdep judges.
 */
export class rwlock extends spinning_lock {
  private writer: task_struct | null = null;
  private readers = 0;

  override get traits(): lock_traits {
    return RWLOCK;
  }

  read_lock(subclass = 0): void {
    const t = this.sched.current;
    const m = this.machine;
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_READ, subclass, false);
    if (this.writer !== null) spin_contended(this, "read_lock", this.writer);
    this.readers++;
    t.atomic++;
    push_held(t, this, LOCK_READ, subclass, m.stacks ? call_site() : null);
  }
  read_unlock(): void {
    const t = this.sched.current;
    if (!pop_held(t, this, LOCK_READ)) not_held(this, "read_unlock", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_READ);
    this.readers--;
    t.atomic--;
  }
  write_lock(subclass = 0): void {
    const t = this.sched.current;
    const m = this.machine;
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_WRITE, subclass, false);
    if (this.writer !== null || this.readers > 0) {
      const mine = this.writer ?? (find_held(t, this) === null ? null : t);
      spin_contended(this, "write_lock", mine);
    }
    this.writer = t;
    t.atomic++;
    push_held(t, this, LOCK_WRITE, subclass, m.stacks ? call_site() : null);
  }
  write_unlock(): void {
    const t = this.sched.current;
    if (this.writer !== t || !pop_held(t, this, LOCK_WRITE)) not_held(this, "write_unlock", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_WRITE);
    this.writer = null;
    t.atomic--;
  }
  is_locked(): boolean {
    return this.writer !== null || this.readers > 0;
  }
  override holders(out: task_struct[]): void {
    if (this.writer !== null) out.push(this.writer);
    else if (this.readers > 0) scan_holders(this.sched, this, out);
  }
}
