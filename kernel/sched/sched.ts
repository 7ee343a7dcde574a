/**
 * kernel/sched/sched.ts - the baton: which task runs. Linux: kernel/sched/core.c.
 * Differs: no preemption and one processor; a task runs until it sleeps, ends, or a scheduling point
 * gives the baton to another.
 *
 * A task is an async function. To sleep is to return a promise whose resolver Sched keeps; the sleeper
 * itself picks who goes on and resolves that one's promise (direct hand-off, no loop in between). Between
 * calls from outside nobody runs and `current` is the swapper, which may take free locks but cannot sleep.
 *
 * Reading order: block() -> pass_baton() -> give(); wake(); enter()/leave() and call() for calls from
 * outside; run_body() for spawned tasks; go_idle() for time and quiescence.
 * Invariants: exactly one task is TASK_RUNNING, and it is `current`, or none and `current` is the swapper.
 * Every TASK_RUNNABLE task is in `runnable` exactly once.
 */
import { BUG } from "../assert.ts";
import { init_cred } from "../cred.ts";
import { is_errno } from "../include/errno.ts";
import type { Sometime } from "../include/fs.ts";
import type { MaybeWait } from "../include/locks.ts";
import type { Kernel } from "../kernel.ts";
import type { Machine } from "../machine.ts";
import type { lock_base } from "../locking/lock.ts";
import { check_atomic_sleep, check_nested_return, check_return } from "../locking/misuse.ts";
import { call_site } from "../locking/site.ts";
import { find_cycle } from "../locking/waitgraph.ts";
import { deadlock_error, hang_error, StepLimit, ThreadBusy } from "../locking/report.ts";
import { is_signal, signal_name } from "../signal.ts";
import { run_on, type Scheduler } from "./strategy.ts";
import {
  PF_KTHREAD,
  task_struct,
  TASK_BLOCKED,
  TASK_DEAD,
  TASK_OUTSIDE,
  TASK_RUNNABLE,
  TASK_RUNNING,
  WAIT_IDLE,
  WAIT_INTERRUPTIBLE,
  WAIT_TIMED,
  WAIT_UNINTERRUPTIBLE,
  type waitable,
} from "./task.ts";
import { timer_queue } from "./timer.ts";
import type { wait_queue_head } from "./wait.ts";

/** What enter() answers: not now (use call()), entered, or already on that thread. */
export const ENTER_NO = 0;
export const ENTERED = 1;
export const ENTER_NESTED = 2;

export interface RunResult {
  /** Spawned tasks that have ended since the Machine was made. */
  ended: number;
  /** Hand-offs of the baton so far. */
  switches: number;
  /** Nanoseconds since boot. */
  time_ns: number;
}

/** Microtasks for which time stands still so that code outside can give another call. */
const OUTSIDE_GRACE = 32;

export function is_promise<T>(v: Sometime<T>): v is Promise<T> {
  return typeof v === "object" && v !== null && typeof (v as Promise<T>).then === "function";
}

type executor = (resume: () => void, fail: (e: unknown) => void) => void;

function executor_of(s: Sched): executor {
  return (resume, fail) => {
    s.sleeper.resume = resume;
    s.sleeper.fail = fail;
  };
}

export class Sched {
  readonly machine: Machine;
  /** Stands for "nobody runs". */
  readonly swapper: task_struct;
  current: task_struct;
  /** Tasks that wait for the baton, in the order in which they became runnable. */
  readonly runnable: task_struct[] = [];
  /** Every task that has not ended, for reports. */
  readonly tasks = new Set<task_struct>();
  readonly timers = new timer_queue();
  readonly strategy: Scheduler;
  /** False with the default strategy: scheduling points do nothing. */
  readonly exploring: boolean;
  readonly max_steps: number;
  nr_switches = 0;
  nr_ended = 0;
  /** Something is to be done when nobody runs: timers, run(), settle(). */
  private idle_work = false;
  /** call_rcu() callbacks: run at the next switch, when no reader can be inside. */
  rcu_callbacks: (() => void)[] | null = null;
  /** Queues of wait_var_event(), by the object waited for. */
  var_queues: Map<object, wait_queue_head> | null = null;
  private kicked = false;
  private idle_epoch = 0;
  private run_resolve: ((r: RunResult) => void) | null = null;
  private run_reject: ((e: unknown) => void) | null = null;
  private settlers: (() => void)[] | null = null;
  /** Errors that belong to no caller: of spawned tasks, or of kernel threads. First one counts. */
  private failure: { error: unknown } | null = null;
  /** Set by stop(): no task runs any more. */
  private halted: { error: unknown } | null = null;
  /** The task that makes a promise to sleep on right now, for the executor. */
  sleeper: task_struct;
  /** Executor of such a promise: one closure a Machine instead of one a sleep. */
  private readonly executor: executor;

  constructor(machine: Machine, strategy: Scheduler, max_steps: number) {
    this.machine = machine;
    this.strategy = strategy;
    this.exploring = strategy !== run_on;
    this.max_steps = max_steps;
    // The swapper belongs to the first kernel; Kernel's constructor fills that in.
    this.swapper = new task_struct(null as unknown as Kernel, 0, "swapper", init_cred);
    this.current = this.swapper;
    this.sleeper = this.swapper;
    this.executor = executor_of(this);
  }

  /** The promise that resolves when `t` is given the baton again. */
  private sleep_of(t: task_struct): Promise<void> {
    this.sleeper = t;
    return new Promise<void>(this.executor);
  }

  /** Nobody runs and nobody wants to. */
  get idle(): boolean {
    return this.current === this.swapper && this.runnable.length === 0;
  }

  // ------------------------------------------------------------------ sleeping and waking

  /**
   * Puts the running task to sleep on `on` and passes the baton. The promise resolves when the task
   * has been woken and holds the baton again. The caller has put the task on the queue of `on`.
   */
  block(on: waitable, mode: number, flags: number = WAIT_UNINTERRUPTIBLE, sub = 0): Promise<void> {
    const t = this.current;
    if (t === this.swapper || t.atomic !== 0 || t.irq_disabled !== 0) {
      on.cancel_wait(t);
      check_atomic_sleep(this, t, on);
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

  /** Makes a sleeping task runnable. The waker has taken it off its queue. False: it did not sleep. */
  wake(t: task_struct, error: unknown = null): boolean {
    if (t.state !== TASK_BLOCKED) return false;
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
    return this.runnable.length === 0 ? undefined : this.point(true);
  }

  /**
   * A scheduling point on the way to taking `lock`: if the baton goes to another, one sleep serves for
   * both; the lock is attempted when the baton comes back. Undefined: go on and take it.
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
    if (q.length === 0 || t === this.swapper || t.atomic !== 0 || t.irq_disabled !== 0) return null;
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

  private pass_baton(): void {
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
        this.fall_asleep(t, lock);
        return;
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
  private kick(): void {
    if (this.kicked) return;
    this.kicked = true;
    void Promise.resolve().then(() => {
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
    t.state = TASK_DEAD;
    t.busy = false;
    t.syscall = "";
    this.nr_ended++;
    this.tasks.delete(t);
    if (t.failed && !t.join_seen) this.fail(t.exit_error);
    t.joiners?.wake_up_all();
    if (had_baton) this.pass_baton();
  }

  /** Keeps an error that no caller waits for: run(), settle() or the next call throws it. */
  fail(error: unknown): void {
    this.failure ??= { error };
  }

  /** No task runs any more; whoever waits for one is told why. */
  stop(error: unknown): void {
    this.halted ??= { error };
    this.current = this.swapper;
    for (const t of this.tasks) t.outside_reject?.(error);
    this.fail(error);
    this.quiesced();
  }

  // ------------------------------------------------------------------ calls from outside

  /**
   * Fast way in for a call that will probably not sleep:
   *
   *   const how = sched.enter(t);
   *   if (how === ENTER_NO) return sched.call(t, fn);
   *   try { r = sys_x(t, ...); } catch (e) { sched.leave_failed(t, how, e); throw e; }
   *   if (is_promise(r)) return sched.leave_async(t, how, r);
   *   sched.leave(t, how); return r;
   */
  enter(t: task_struct): number {
    if (this.current === this.swapper) {
      if (this.runnable.length !== 0 || t.busy || this.failure !== null) return ENTER_NO;
      if (t.state !== TASK_OUTSIDE) return ENTER_NO;
      this.current = t;
      t.state = TASK_RUNNING;
      t.busy = true;
      return ENTERED;
    }
    if (this.current === t && t.body !== null && !t.in_call) {
      t.in_call = true;
      t.call_held = t.held_depth;
      return ENTER_NESTED;
    }
    return ENTER_NO;
  }

  /** The call returned a plain value. Throws if the thread still holds a lock. */
  leave(t: task_struct, how: number): void {
    if (how === ENTER_NESTED) {
      t.in_call = false;
      t.syscall = "";
      if (t.held_depth !== t.call_held) check_nested_return(t, t.call_held);
      return;
    }
    const clean = this.current === t && t.held_depth === 0 && t.atomic === 0;
    if (clean) this.call_over(t);
    else this.leave_dirty(t);
  }

  private leave_dirty(t: task_struct): void {
    try {
      check_return(this, t, "returned from its call");
    } finally {
      this.call_over(t);
    }
  }

  /**
   * The call threw `error`; the caller throws on. Throws itself if an answer (an Errno, a signal) left a
   * lock behind; after a bug of ours locks may well be left, and the bug is what counts.
   */
  leave_failed(t: task_struct, how: number, error: unknown = null): void {
    const nested = how === ENTER_NESTED;
    const clean = t.held_depth === (nested ? t.call_held : 0) && (nested || t.atomic === 0);
    if (!clean && (is_errno(error) || is_signal(error))) {
      const what = is_errno(error) ? error.code : signal_name(error.signo);
      try {
        if (nested) check_nested_return(t, t.call_held);
        check_return(this, t, `failed its call with ${what}`);
      } finally {
        this.failed_over(t, nested);
      }
    }
    this.failed_over(t, nested);
  }

  private failed_over(t: task_struct, nested: boolean): void {
    if (!nested) {
      this.call_over(t);
      return;
    }
    t.in_call = false;
    t.syscall = "";
  }

  /** The call sleeps: what the outside gets settles when the thread is back. */
  leave_async<T>(t: task_struct, how: number, r: Promise<T>): Promise<T> {
    if (how === ENTER_NESTED) return this.nested_over(t, r);
    return new Promise<T>((resolve, reject) => {
      if (t.deadlocked) {
        reject(t.exit_error);
        return;
      }
      t.outside_reject = reject;
      r.then(
        (v) => {
          try {
            this.leave(t, ENTERED);
          } catch (e) {
            reject(e);
            return;
          }
          resolve(v);
        },
        (e: unknown) => {
          let error = e;
          try {
            this.leave_failed(t, ENTERED, e);
          } catch (bug) {
            error = bug;
          }
          reject(error);
        },
      );
    });
  }

  private async nested_over<T>(t: task_struct, r: Promise<T>): Promise<T> {
    let v: T;
    try {
      v = await r;
    } catch (e) {
      this.leave_failed(t, ENTER_NESTED, e);
      throw e;
    }
    this.leave(t, ENTER_NESTED);
    return v;
  }

  private call_over(t: task_struct): void {
    t.busy = false;
    t.syscall = "";
    t.outside_reject = null;
    if (t.state !== TASK_DEAD) t.state = TASK_OUTSIDE;
    if (this.current !== t) return;
    this.current = this.swapper;
    if (this.runnable.length !== 0) this.pass_baton();
    else if (this.idle_work) this.go_idle();
  }

  /**
   * Runs `fn` on thread `t`: at once if the machine is idle (then a plain result comes back plainly),
   * else when the baton gets to it. Throws ThreadBusy if `t` is in a call.
   */
  call<T>(t: task_struct, fn: (task: task_struct) => Sometime<T>): Sometime<T> {
    const how = this.enter(t);
    if (how === ENTER_NO) return this.call_later(t, fn);
    let r: Sometime<T>;
    try {
      r = fn(t);
    } catch (e) {
      this.leave_failed(t, how, e);
      throw e;
    }
    if (is_promise(r)) return this.leave_async(t, how, r);
    this.leave(t, how);
    return r;
  }

  private call_later<T>(t: task_struct, fn: (task: task_struct) => Sometime<T>): Promise<T> {
    if (this.halted !== null) throw this.halted.error;
    this.throw_failure();
    if (t.busy || t.state !== TASK_OUTSIDE) throw new ThreadBusy(t);
    t.busy = true;
    t.state = TASK_RUNNABLE;
    const turn = this.sleep_of(t);
    this.runnable.push(t);
    if (this.current === this.swapper) this.kick();
    return this.leave_async(
      t,
      ENTERED,
      turn.then(() => fn(t)),
    );
  }

  /** Registers a thread that gets its calls from outside. */
  add_thread(t: task_struct): task_struct {
    this.tasks.add(t);
    return t;
  }

  /** A thread between calls ends, or the running one in its last call. */
  exit_thread(t: task_struct): void {
    if (t.state !== TASK_OUTSIDE && t !== this.current) BUG(`${t} cannot exit: it is in a call`);
    t.state = TASK_DEAD;
    this.tasks.delete(t);
    t.joiners?.wake_up_all();
  }

  // ------------------------------------------------------------------ idle: time, quiescence

  /** Something waits for the machine to be idle or for time: look there when nobody runs. */
  note_idle_work(): void {
    this.idle_work = true;
    if (this.current === this.swapper) this.kick();
  }

  run_rcu_callbacks(): void {
    while (this.rcu_callbacks !== null) {
      const list = this.rcu_callbacks;
      this.rcu_callbacks = null;
      for (const fn of list) fn();
    }
  }

  private go_idle(): void {
    this.current = this.swapper;
    if (this.halted !== null) return;
    if (!this.idle_work) return;
    if (this.rcu_callbacks !== null) {
      this.run_rcu_callbacks();
      if (this.runnable.length !== 0) {
        this.pass_baton();
        return;
      }
    }
    this.idle_epoch++;
    if (this.timers.driving > 0) {
      if (this.run_resolve !== null) this.advance_time();
      else void this.advance_after_grace(this.idle_epoch);
      return;
    }
    this.fire_due();
    if (this.runnable.length !== 0) this.pass_baton();
    else this.quiesced();
  }

  /** Code outside may be about to give another call: it goes first. */
  private async advance_after_grace(epoch: number): Promise<void> {
    for (let i = 0; i < OUTSIDE_GRACE; i++) await undefined;
    if (this.idle && this.idle_epoch === epoch && this.halted === null) this.advance_time();
  }

  private advance_time(): void {
    const clock = this.machine.clock;
    const next = this.timers.next_stop();
    if (next > clock.now_ns) clock.now_ns = next;
    this.fire_due();
    if (this.current === this.swapper) this.pass_baton();
  }

  private fire_due(): void {
    for (;;) {
      const fire = this.timers.pop_due(this.machine.clock.now_ns);
      if (fire === null) return;
      fire();
    }
  }

  /** Nothing can go on. */
  private quiesced(): void {
    this.idle_work = !this.timers.empty;
    const settlers = this.settlers;
    if (settlers !== null) {
      this.settlers = null;
      for (const settled of settlers) settled();
    }
    if (this.run_resolve === null) return;
    const resolve = this.run_resolve;
    const reject = this.run_reject!;
    this.run_resolve = null;
    this.run_reject = null;
    const failure = this.failure;
    this.failure = null;
    if (failure !== null) reject(failure.error);
    else if (this.hung_tasks().length > 0) reject(this.report_hang());
    else resolve(this.result());
  }

  private result(): RunResult {
    return {
      ended: this.nr_ended,
      switches: this.nr_switches,
      time_ns: this.machine.clock.now_ns,
    };
  }

  /** Lets everything run until nothing can go on; rejects with a failure, a deadlock or a hang. */
  run(): Promise<RunResult> {
    if (this.run_resolve !== null) BUG("run() is already under way");
    return new Promise((resolve, reject) => {
      if (this.halted !== null) {
        reject(this.halted.error);
        return;
      }
      this.run_resolve = resolve;
      this.run_reject = reject;
      this.note_idle_work();
    });
  }

  /** Resolves when nothing can go on; tasks that still sleep are no error here. */
  async settle(): Promise<void> {
    await new Promise<void>((settled) => {
      this.settlers ??= [];
      this.settlers.push(settled);
      this.note_idle_work();
    });
    this.throw_failure();
  }

  private throw_failure(): void {
    const failure = this.failure;
    this.failure = null;
    if (failure !== null) throw failure.error;
  }

  /** Sleeping tasks whose sleep somebody should have ended. */
  hung_tasks(): task_struct[] {
    return [...this.tasks].filter((t) => {
      if (t.state !== TASK_BLOCKED) return false;
      if ((t.wait_flags & (WAIT_IDLE | WAIT_TIMED)) !== 0) return false;
      return (t.flags & PF_KTHREAD) === 0 || (t.wait_flags & WAIT_INTERRUPTIBLE) === 0;
    });
  }

  private report_hang(): Error {
    const error = hang_error(this, this.hung_tasks());
    this.machine.note_report(error.report);
    return error;
  }

  private report_deadlock(cycle: task_struct[]): void {
    const error = deadlock_error(this, cycle);
    this.machine.note_report(error.report);
    let heard = false;
    for (const t of cycle) {
      t.deadlocked = true;
      t.exit_error = error;
      heard ||= t.body === null;
      t.outside_reject?.(error);
    }
    if (!heard || this.run_resolve !== null) this.fail(error);
  }

  /**
   * For the event loop's hook: text about a task that holds the baton while nothing moves, which means
   * that it awaits something the Machine knows nothing of; null if nobody runs.
   */
  foreign(): string | null {
    const t = this.current;
    if (t === this.swapper) return null;
    const others = this.runnable.length;
    const call = t.syscall === "" ? "" : ` in ${t.syscall}()`;
    const waiting = others === 0 ? "" : `; ${others} other task(s) wait for it to go on`;
    return (
      `${t}${call} awaits something outside the Machine (a timer, I/O, a call on another ` +
      `process's object, or a promise nobody settles)${waiting}`
    );
  }

  /** For error texts: who runs. */
  who(): string {
    return this.current === this.swapper ? "no task" : this.current.toString();
  }
}
