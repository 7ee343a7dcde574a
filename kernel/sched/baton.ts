/**
 * kernel/sched/baton.ts - sleeping, waking, and who goes on. Linux: __schedule(), try_to_wake_up()
 * in kernel/sched/core.c.
 *
 * To sleep is to return a promise whose resolver is kept here; the sleeper itself picks who goes on
 * and resolves that one's promise (direct hand-off, no loop in between).
 *
 * Reading order: block() -> fall_asleep() -> pass_baton() -> give(); wake(); choose() for
 * scheduling points.
 * Invariants: exactly one task is TASK_RUNNING, and it is `current`, or none and `current` is the
 * swapper. Every TASK_RUNNABLE task is in `runnable` exactly once.
 */
import { BUG } from "../assert.ts";
import { init_cred } from "../cred.ts";
import { ERESTARTSYS, is_errno } from "../include/errno.ts";
import type { MaybeWait } from "../include/locks.ts";
import type { Kernel } from "../kernel.ts";
import type { Machine } from "../machine.ts";
import type { busy_table } from "../locking/busy.ts";
import type { lock_base } from "../locking/lock.ts";
import { check_atomic_sleep, check_return } from "../locking/misuse.ts";
import { StepLimit } from "../locking/report.ts";
import { call_site } from "../locking/site.ts";
import { find_cycle } from "../locking/waitgraph.ts";
import { signal_wakes } from "../signal.ts";
import { run_on, type SchedObserver, type Scheduler } from "./strategy.ts";
import {
  task_struct,
  TASK_BLOCKED,
  TASK_DEAD,
  TASK_RUNNABLE,
  TASK_RUNNING,
  WAIT_UNINTERRUPTIBLE,
  type waitable,
} from "./task.ts";
import type { wait_queue_head } from "./wait.ts";

type executor = (resume: () => void, fail: (e: unknown) => void) => void;

function executor_of(s: Baton): executor {
  return (resume, fail) => {
    s.sleeper.resume = resume;
    s.sleeper.fail = fail;
  };
}

export abstract class Baton {
  readonly machine: Machine;
  /** Stands for "nobody runs". */
  readonly swapper: task_struct;
  current: task_struct;
  /** Tasks that wait for the baton, in the order in which they became runnable. */
  readonly runnable: task_struct[] = [];
  /** Every task that has not ended, for reports. */
  readonly tasks = new Set<task_struct>();
  readonly strategy: Scheduler;
  /** False with the default strategy: scheduling points do nothing. */
  readonly exploring: boolean;
  readonly max_steps: number;
  /** Set by a strategy that has to know what each step touches. */
  observer: SchedObserver | null = null;
  nr_switches = 0;
  nr_ended = 0;
  /** call_rcu() callbacks: run at the next switch, when no reader can be inside. */
  rcu_callbacks: (() => void)[] | null = null;
  /** Queues of wait_var_event(), by the object waited for. */
  var_queues: Map<object, wait_queue_head> | null = null;
  /** Who works on what (locking/busy.ts). */
  busy: busy_table | null = null;
  /** Set by stop(): no task runs any more. */
  protected halted: { error: unknown } | null = null;
  private kicked = false;
  /** The task that makes a promise to sleep on right now, for the executor. */
  sleeper: task_struct;
  /** Executor of such a promise: one closure a Machine instead of one a sleep. */
  private readonly executor: executor;

  constructor(machine: Machine, strategy: Scheduler, max_steps: number) {
    this.machine = machine;
    this.strategy = strategy;
    this.exploring = strategy !== run_on;
    this.max_steps = max_steps;
    // The swapper belongs to no kernel in particular; kernel.current stands in for it.
    this.swapper = new task_struct(null as unknown as Kernel, 0, "swapper", init_cred);
    this.current = this.swapper;
    this.sleeper = this.swapper;
    this.executor = executor_of(this);
  }

  /** Nobody is runnable: let time pass, or say that nothing can go on. */
  protected abstract go_idle(): void;
  /** What the code outside may still do before somebody gets the baton. */
  protected abstract before_kick(): Promise<void>;
  /** These tasks wait for each other. */
  protected abstract report_deadlock(cycle: task_struct[]): void;
  /** Keeps an error that no caller waits for: run(), settle() or the next call throws it. */
  abstract fail(error: unknown): void;
  /** No task runs any more; whoever waits for one is told why. */
  abstract stop(error: unknown): void;

  /** Nobody runs and nobody wants to. */
  get idle(): boolean {
    return this.current === this.swapper && this.runnable.length === 0;
  }

  /** The promise that resolves when `t` is given the baton again. */
  protected sleep_of(t: task_struct): Promise<void> {
    this.sleeper = t;
    return new Promise<void>(this.executor);
  }

  // ------------------------------------------------------------------ sleeping and waking

  /**
   * Puts the running task to sleep on `on` and passes the baton. The promise resolves when the task
   * has been woken and holds the baton again. The caller has put the task on the queue of `on`. A
   * signal that ends such a sleep, pending or to come, makes it reject with ERESTARTSYS.
   */
  block(on: waitable, mode: number, flags: number = WAIT_UNINTERRUPTIBLE, sub = 0): Promise<void> {
    const t = this.current;
    if (t === this.swapper || t.atomic !== 0 || t.irq_disabled !== 0) {
      on.cancel_wait(t);
      check_atomic_sleep(this, t, on);
    }
    if (flags !== 0 && signal_wakes(t, flags)) {
      t.waiting_mode = mode;
      on.cancel_wait(t);
      return Promise.reject(ERESTARTSYS);
    }
    t.waiting_mode = mode;
    t.waiting_subclass = sub;
    t.wait_flags = flags;
    if (this.machine.stacks) t.wait_site = call_site();
    const sleep = this.sleep_of(t);
    this.fall_asleep(t, on);
    return sleep;
  }

  private fall_asleep(t: task_struct, on: waitable): void {
    t.state = TASK_BLOCKED;
    t.waiting_on = on;
    if (this.machine.detect) {
      const cycle = find_cycle(t);
      if (cycle !== null) this.report_deadlock(cycle);
    }
    this.pass_baton();
  }

  /**
   * Makes a sleeping task runnable. The waker has taken it off its queue. False: it did not sleep.
   */
  wake(t: task_struct, error: unknown = null): boolean {
    if (t.state !== TASK_BLOCKED) return false;
    if (this.observer !== null) this.observer.woken(t, t.waiting_on);
    t.state = TASK_RUNNABLE;
    t.waiting_on = null;
    t.wake_error = error;
    t.deadlocked = false;
    this.runnable.push(t);
    if (this.current === this.swapper) this.kick();
    return true;
  }

  /** Ends the sleep of `t` with an error, if its kind of sleep allows `how` (WAIT_*). */
  interrupt(t: task_struct, how: number, error: unknown): boolean {
    if (t.state !== TASK_BLOCKED || (t.wait_flags & how) === 0) return false;
    t.waiting_on!.cancel_wait(t);
    return this.wake(t, error);
  }

  /**
   * A place where another task may go on: the strategy decides. With the default strategy nothing
   * happens; while atomic (spinlock, RCU) the running task goes on in any case.
   */
  sched_point(): MaybeWait {
    return this.exploring ? this.point(false) : undefined;
  }

  /** Lets others go first: under the default strategy all that are runnable now. */
  yield(): MaybeWait {
    return this.runnable.length === 0 && this.observer === null ? undefined : this.point(true);
  }

  /**
   * A scheduling point on the way to taking `lock`: if the baton goes to another, one sleep serves
   * for both; the lock is attempted when the baton comes back. Undefined: go on and take it.
   */
  point_for(lock: lock_base, mode: number, flags: number, sub: number): MaybeWait {
    const t = this.current;
    const next = this.choose(false);
    if (next === null) return undefined;
    t.attempting = lock;
    t.waiting_mode = mode;
    t.waiting_subclass = sub;
    t.wait_flags = flags;
    if (this.machine.stacks) t.wait_site = call_site();
    return this.switch_to(t, next);
  }

  private point(yielding: boolean): MaybeWait {
    const next = this.choose(yielding);
    return next === null ? undefined : this.switch_to(this.current, next);
  }

  /** Whom the strategy wants instead of the running task (then that is in `runnable`), or null. */
  private choose(yielding: boolean): task_struct | null {
    const t = this.current;
    const q = this.runnable;
    if (t === this.swapper || t.atomic !== 0 || t.irq_disabled !== 0) return null;
    if (q.length === 0) {
      if (this.observer !== null) this.observer.alone(t);
      return null;
    }
    q.push(t);
    const next = this.strategy.next_task(q, t, yielding);
    if (next !== t) return next;
    q.pop();
    return null;
  }

  private switch_to(t: task_struct, next: task_struct): Promise<void> {
    t.state = TASK_RUNNABLE;
    const sleep = this.sleep_of(t);
    this.take(next);
    this.give(next);
    return sleep;
  }

  private take(t: task_struct): void {
    const q = this.runnable;
    const last = q.length - 1;
    let i = q.indexOf(t);
    if (i < 0) BUG(`the strategy chose ${t}, which cannot run`);
    for (; i < last; i++) q[i] = q[i + 1]!;
    q.pop();
  }

  protected pass_baton(): void {
    const q = this.runnable;
    if (q.length === 0) {
      this.go_idle();
      return;
    }
    if (!this.exploring) {
      this.give(q.shift()!);
      return;
    }
    const next = this.strategy.next_task(q, null, true);
    this.take(next);
    this.give(next);
  }

  private give(t: task_struct): void {
    if (this.halted !== null) {
      this.current = this.swapper;
      return;
    }
    if (this.rcu_callbacks !== null) this.run_rcu_callbacks();
    this.current = t;
    t.state = TASK_RUNNING;
    if (++this.nr_switches > this.max_steps) {
      this.stop(new StepLimit(this.max_steps, t));
      return;
    }
    const lock = t.attempting;
    if (lock !== null) {
      t.attempting = null;
      if (!lock.attempt(t, t.waiting_mode, t.waiting_subclass, t.wait_site)) {
        if (t.wait_flags === 0 || !signal_wakes(t, t.wait_flags)) {
          this.fall_asleep(t, lock);
          return;
        }
        lock.cancel_wait(t);
        t.wake_error = ERESTARTSYS;
      }
    }
    const resume = t.resume;
    if (resume === null) {
      void this.run_body(t);
      return;
    }
    const error = t.wake_error;
    t.resume = null;
    if (error === null) {
      resume();
      return;
    }
    t.wake_error = null;
    t.fail!(error);
  }

  /** In a microtask: hand out the baton that a wake-up from outside made wanted. */
  protected kick(): void {
    if (this.kicked) return;
    this.kicked = true;
    void this.before_kick().then(() => {
      this.kicked = false;
      if (this.current === this.swapper && this.halted === null) this.pass_baton();
    });
  }

  // ------------------------------------------------------------------ spawned tasks

  /** A task with a body; it first runs when it is given the baton. */
  spawn(t: task_struct, body: (task: task_struct) => unknown): task_struct {
    t.body = body;
    t.busy = true;
    t.state = TASK_RUNNABLE;
    this.tasks.add(t);
    this.runnable.push(t);
    if (this.observer !== null) this.observer.woken(t, null);
    return t;
  }

  /** Like spawn, and runs even if nobody calls run() (kernel threads made at run time). */
  start(t: task_struct, body: (task: task_struct) => unknown): task_struct {
    this.spawn(t, body);
    if (this.current === this.swapper) this.kick();
    return t;
  }

  private async run_body(t: task_struct): Promise<void> {
    await undefined;
    try {
      t.exit_value = await t.body!(t);
    } catch (e) {
      t.failed = true;
      t.exit_error = e;
    }
    try {
      check_return(this, t, "ended");
    } catch (e) {
      if (!t.failed || is_errno(t.exit_error)) t.exit_error = e;
      t.failed = true;
    }
    this.task_ended(t);
  }

  private task_ended(t: task_struct): void {
    const had_baton = this.current === t;
    if (this.observer !== null) this.observer.touch(t, true);
    t.state = TASK_DEAD;
    t.busy = false;
    t.syscall = "";
    this.nr_ended++;
    this.tasks.delete(t);
    if (t.failed && !t.join_seen) this.fail(t.exit_error);
    t.joiners?.wake_up_all();
    if (had_baton) this.pass_baton();
  }

  run_rcu_callbacks(): void {
    while (this.rcu_callbacks !== null) {
      const list = this.rcu_callbacks;
      this.rcu_callbacks = null;
      for (const fn of list) fn();
    }
  }
}
