/**
 * kernel/locking/ww_mutex.ts - wound/wait mutexes: several locks of one class in any order. Linux:
 * include/linux/ww_mutex.h, kernel/locking/ww_mutex.h.
 *
 * A task draws a ticket (ww_acquire_ctx) and takes its locks with it. When two tickets want each
 * other's locks, the younger gives way: its ww_lock() answers -EDEADLK, it releases all, waits for
 * the contended lock first, and begins anew. Wait-die classes: the younger gives way when it meets
 * an older holder. Wound-wait: the older, when it has to wait, wounds the younger holder, which
 * gives way at its next wait.
 * Waiters stand in the order of their tickets; those without a ticket first come first served.
 * Misuse of a ticket is told to lockdep and is then a KernelBug.
 */
import { BUG } from "../assert.ts";
import { EALREADY, EDEADLK } from "../include/errno.ts";
import type { Sometime } from "../include/fs.ts";
import type { lock_class_key } from "../include/locks.ts";
import type { Machine } from "../machine.ts";
import {
  LOCK_EXCLUSIVE,
  TASK_BLOCKED,
  WAIT_INTERRUPTIBLE,
  WAIT_KILLABLE,
  WAIT_UNINTERRUPTIBLE,
  type task_struct,
} from "../sched/task.ts";
import { lock_class, type lock_label } from "./lock.ts";
import { lock_map } from "./lock_map.ts";
import { check_atomic_sleep, not_held } from "./misuse.ts";
import { mutex } from "./mutex.ts";

/** DEFINE_WW_CLASS(), DEFINE_WD_CLASS(): a frozen module constant. */
export interface ww_class {
  readonly acquire_key: lock_class_key;
  readonly mutex_key: lock_class_key;
  readonly is_wait_die: boolean;
}

export function define_ww_class(name: string, is_wait_die: boolean): ww_class {
  return Object.freeze({
    acquire_key: lock_class(`${name}_acquire`),
    mutex_key: lock_class(`${name}_mutex`),
    is_wait_die,
  });
}

/** A ticket. One thread uses it, so no lock protects it. */
export class ww_acquire_ctx {
  readonly map: lock_map;
  readonly task: task_struct;
  ww_class: ww_class | null;
  /** Smaller is older. */
  stamp: number;
  /** Locks held with it. */
  acquired = 0;
  wounded = false;
  done = false;
  /** The lock that answered -EDEADLK: must be the next one taken. */
  contending: ww_mutex | null = null;

  /** ww_acquire_init(): `stamp` grows with every ticket of the Machine. */
  constructor(machine: Machine, cls: ww_class) {
    this.task = machine.sched.current;
    this.ww_class = cls;
    this.stamp = ++machine.ww_stamp;
    this.map = new lock_map(machine, cls.acquire_key);
    this.map.acquire();
  }

  /** ww_acquire_done(): no lock will be taken any more. */
  finish_acquire(): void {
    const dep = this.map.machine.lockdep;
    const t = this.map.sched.current;
    if (this.map.machine.dep !== null && dep !== null && !dep.lock_is_held(t, this.map)) {
      not_held(this.map, "lockdep_assert_held", t);
    }
    if (this.done) misuse(this.map, "acquiring was already said to be done");
    this.done = true;
  }

  /** ww_acquire_fini(): every lock has been released. */
  fini(): void {
    this.map.release();
    if (this.acquired > 0) misuse(this.map, "the ticket ends, and locks are held with it");
  }
}

function misuse(on: mutex | lock_map, text: string): never {
  const t = on.sched.current;
  on.machine.dep?.misuse(t, on, "api", text);
  BUG(`${t}: ${on.describe()}: ${text}`);
}

/** Waits under a ticket that must give way. */
const GIVE_WAY = Object.freeze({ ww_give_way: true });

export class ww_mutex extends mutex {
  /** The holder's ticket, null without one. */
  ctx: ww_acquire_ctx | null = null;
  readonly ww_class: ww_class;
  /** Tickets of those who wait with one. */
  readonly tickets = new Map<task_struct, ww_acquire_ctx>();

  constructor(machine: Machine, cls: ww_class, instance: lock_label = null) {
    super(machine, cls.mutex_key, instance);
    this.ww_class = cls;
  }

  /**
   * 0, -EALREADY if the ticket holds it, or -EDEADLK: release all, then ww_lock_slow(). Without a
   * ticket a plain lock.
   */
  ww_lock(ctx: ww_acquire_ctx | null): Sometime<number> {
    return this.ww_lock_flags(ctx, WAIT_UNINTERRUPTIBLE);
  }
  /** Rejects with ERESTARTSYS if a signal comes first. */
  ww_lock_interruptible(ctx: ww_acquire_ctx | null): Sometime<number> {
    return this.ww_lock_flags(ctx, WAIT_KILLABLE | WAIT_INTERRUPTIBLE);
  }

  /** After -EDEADLK, with nothing held: waits for the lock that answered it. */
  ww_lock_slow(ctx: ww_acquire_ctx): Sometime<number> {
    if (ctx.contending === null) misuse(this, "the slow path is for after a deadlock answer");
    return this.ww_lock(ctx);
  }

  ww_trylock(ctx: ww_acquire_ctx | null = null): boolean {
    if (ctx === null) return this.trylock();
    if (ctx.acquired === 0) ctx.wounded = false;
    if (this.machine.dep !== null) this.sched.current.waiting_nest = ctx.map;
    if (!this.trylock()) {
      this.sched.current.waiting_nest = null;
      return false;
    }
    this.note_acquired(ctx);
    return true;
  }

  ww_unlock(): void {
    const ctx = this.ctx;
    if (ctx !== null) {
      if (ctx.acquired === 0) misuse(this, "the ticket's count of locks is wrong");
      ctx.acquired--;
      this.ctx = null;
    }
    this.unlock();
  }

  private ww_lock_flags(ctx: ww_acquire_ctx | null, flags: number): Sometime<number> {
    const s = this.sched;
    const point = s.sched_point();
    if (point !== undefined) return point.then(() => this.ww_lock_now(ctx, flags));
    return this.ww_lock_now(ctx, flags);
  }

  private ww_lock_now(ctx: ww_acquire_ctx | null, flags: number): Sometime<number> {
    const s = this.sched;
    const t = s.current;
    if (t.atomic !== 0) check_atomic_sleep(s, t, this);
    if (ctx !== null) {
      if (ctx === this.ctx) return -EALREADY.errno;
      if (ctx.acquired === 0) ctx.wounded = false;
      if (this.machine.dep !== null) t.waiting_nest = ctx.map;
    }
    if (this.attempt(t, LOCK_EXCLUSIVE, 0, null)) {
      if (ctx !== null) this.note_acquired(ctx);
      return 0;
    }
    return ctx === null ? this.wait_plain(flags) : this.wait_with(ctx, flags);
  }

  private async wait_plain(flags: number): Promise<number> {
    await this.sched.block(this, LOCK_EXCLUSIVE, flags);
    return 0;
  }

  /** attempt() has put the task at the end of the queue. */
  private wait_with(ctx: ww_acquire_ctx, flags: number): Sometime<number> {
    const t = this.sched.current;
    this.waiters!.pop();
    if (this.must_give_way(ctx)) {
      this.machine.dep?.release(t, this, LOCK_EXCLUSIVE);
      return this.give_way(ctx);
    }
    this.tickets.set(t, ctx);
    this.insert(t, ctx);
    if (!this.ww_class.is_wait_die) this.wound(ctx);
    return this.sleep_with(t, ctx, flags);
  }

  private async sleep_with(t: task_struct, ctx: ww_acquire_ctx, flags: number): Promise<number> {
    try {
      await this.sched.block(this, LOCK_EXCLUSIVE, flags);
      return 0;
    } catch (e) {
      if (e !== GIVE_WAY) throw e;
      return this.give_way(ctx);
    } finally {
      this.tickets.delete(t);
    }
  }

  private give_way(ctx: ww_acquire_ctx): number {
    if (ctx.contending !== null) {
      misuse(this, `the ticket had to give way for ${ctx.contending.describe()} and goes on`);
    }
    ctx.contending = this;
    return -EDEADLK.errno;
  }

  /** Before it waits: is there an older ticket, or was this one wounded? */
  private must_give_way(ctx: ww_acquire_ctx): boolean {
    if (ctx.acquired === 0) return false;
    if (!this.ww_class.is_wait_die) return ctx.wounded;
    if (this.ctx !== null && this.ctx.stamp < ctx.stamp) return true;
    for (const other of this.tickets.values()) if (other.stamp < ctx.stamp) return true;
    return false;
  }

  /** By age; younger waiters of a wait-die class that hold locks give way. */
  private insert(t: task_struct, ctx: ww_acquire_ctx): void {
    const q = this.waiters!;
    let at = q.length;
    for (let i = q.length - 1; i >= 0; i--) {
      const other = this.tickets.get(q[i]!);
      if (other === undefined) continue;
      if (other.stamp < ctx.stamp) break;
      at = i;
    }
    const younger = q.slice(at);
    q.splice(at, 0, t);
    if (this.ww_class.is_wait_die) this.kill(younger);
  }

  private kill(waiters: readonly task_struct[]): void {
    for (const t of waiters) {
      const ctx = this.tickets.get(t);
      if (ctx === undefined || ctx.acquired === 0 || t.state !== TASK_BLOCKED) continue;
      this.tickets.delete(t);
      this.cancel_wait(t);
      this.sched.wake(t, GIVE_WAY);
    }
  }

  /** The holder is younger than `ctx`, which waits: it gives way when it has to wait itself. */
  private wound(ctx: ww_acquire_ctx): void {
    const holder = this.ctx;
    if (holder === null || ctx.acquired === 0 || ctx.stamp > holder.stamp) return;
    holder.wounded = true;
    const on = holder.task.waiting_on;
    if (on === null || (on as Partial<ww_mutex>).tickets?.get(holder.task) !== holder) return;
    (on as ww_mutex).kill([holder.task]);
  }

  /** The lock went to `next`, which sleeps. */
  protected override handed_over(next: task_struct): void {
    const ctx = this.tickets.get(next);
    if (ctx === undefined) return;
    this.tickets.delete(next);
    this.note_acquired(ctx);
  }

  private note_acquired(ctx: ww_acquire_ctx): void {
    if (this.ctx !== null) misuse(this, "it was locked with a ticket and unlocked without");
    if (ctx.done) misuse(this, "acquiring was said to be done");
    if (ctx.contending !== null) {
      if (ctx.contending !== this) {
        misuse(this, `after a deadlock answer ${ctx.contending.describe()} must come first`);
      }
      if (ctx.acquired > 0) misuse(this, "after a deadlock answer all locks must be released");
      ctx.contending = null;
    }
    if (ctx.ww_class !== this.ww_class) misuse(this, "the ticket is of another class");
    ctx.acquired++;
    this.ctx = ctx;
    const older = [...this.tickets].find(([, w]) => w.stamp < ctx.stamp);
    if (older === undefined) {
      if (this.ww_class.is_wait_die) this.kill([...this.tickets.keys()]);
      return;
    }
    if (!this.ww_class.is_wait_die) this.wound(older[1]);
  }
}
