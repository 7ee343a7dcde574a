/**
 * kernel/sched/sched.ts - the baton and the world outside: calls, time, and what it means that
 * nothing can go on. Linux: kernel/sched/core.c, kernel/entry/common.c (the way in and out),
 * kernel/hung_task.c.
 * Differs: no preemption and one processor; a task runs until it sleeps, ends, or a scheduling
 * point gives the baton to another.
 *
 * A task is an async function. Between calls from outside nobody runs and `current` is the swapper,
 * which may take free locks but cannot sleep.
 *
 * Reading order: baton.ts first; then enter()/leave() and call() for calls from outside; go_idle()
 * for time and quiescence.
 */
import { BUG } from "../assert.ts";
import { is_errno } from "../include/errno.ts";
import type { Sometime } from "../include/fs.ts";
import { check_nested_return, check_return } from "../locking/misuse.ts";
import { deadlock_error, hang_error, ThreadBusy } from "../locking/report.ts";
import { is_signal, signal_name } from "../signal.ts";
import { task_work_run } from "../task_work.ts";
import { Baton } from "./baton.ts";
import {
  PF_KTHREAD,
  type task_struct,
  TASK_BLOCKED,
  TASK_DEAD,
  TASK_OUTSIDE,
  TASK_RUNNABLE,
  TASK_RUNNING,
  WAIT_EVENT,
  WAIT_IDLE,
  WAIT_INTERRUPTIBLE,
  WAIT_TIMED,
  type waitable,
} from "./task.ts";
import { timer_queue } from "./timer.ts";

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

/** A scenario thread that gave another thread a call sleeps on this until the call is over. */
class cross_call implements waitable {
  readonly lock_name = "the end of a call";
  private readonly thread: task_struct;
  constructor(thread: task_struct) {
    this.thread = thread;
  }
  label(): string {
    return this.thread.toString();
  }
  blockers(_task: task_struct, out: task_struct[]): void {
    out.push(this.thread);
  }
  cancel_wait(): void {
    this.thread.caller = null;
  }
}

export class Sched extends Baton {
  readonly timers = new timer_queue();
  /** Something is to be done when nobody runs: timers, run(), settle(). */
  private idle_work = false;
  private idle_epoch = 0;
  private run_resolve: ((r: RunResult) => void) | null = null;
  private run_reject: ((e: unknown) => void) | null = null;
  private settlers: (() => void)[] | null = null;
  /** Errors that belong to no caller: of spawned tasks, or of kernel threads. First one counts. */
  private failure: { error: unknown } | null = null;
  /**
   * For exploration: calls from outside wait until the code that gives them rests, so several given
   * at once are a choice of who goes first. Without it the first one runs as soon as it is given.
   */
  calls_in_turn = false;
  /** Threads with such a call. */
  private readonly in_flight = new Set<task_struct>();
  /** Two such calls met, and since then there was always one under way. */
  private crowd = false;

  override fail(error: unknown): void {
    this.failure ??= { error };
  }

  override stop(error: unknown): void {
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
    if (this.enter_idle(t)) return ENTERED;
    if (this.current === t && t.body !== null && !t.in_call) {
      t.in_call = true;
      t.call_held = t.held_depth;
      return ENTER_NESTED;
    }
    return ENTER_NO;
  }

  /** The first half of enter(), for the hottest calls: while nobody runs. */
  enter_idle(t: task_struct): boolean {
    if (!this.idle) return false;
    if (t.busy || this.failure !== null) return false;
    if (t.state !== TASK_OUTSIDE || this.calls_in_turn) return false;
    this.current = t;
    t.state = TASK_RUNNING;
    t.busy = true;
    return true;
  }

  /** The call returned a plain value. Throws if the thread still holds a lock. */
  leave(t: task_struct, how: number): void {
    if (how === ENTER_NESTED) {
      t.in_call = false;
      t.syscall = "";
      if (t.held_depth !== t.call_held) check_nested_return(t, t.call_held);
      return;
    }
    const dep = this.machine.dep;
    const clean = this.current === t && t.held_depth === 0 && t.atomic === 0;
    if (clean && (dep === null || dep.clean(t))) this.call_over(t);
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
   * The call threw `error`; the caller throws on. Throws itself if an answer (an Errno, a signal)
   * left a lock behind; after a bug of ours locks may well be left, and the bug is what counts.
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
      if (t.deadlocked) reject(t.exit_error);
      else t.outside_reject = reject;
      const done = (v: T): void => {
        try {
          this.leave(t, ENTERED);
        } catch (e) {
          reject(e);
          return;
        }
        resolve(v);
      };
      const failed = (e: unknown): void => {
        let error = e;
        try {
          this.leave_failed(t, ENTERED, e);
        } catch (bug) {
          error = bug;
        }
        reject(error);
      };
      // What the call left to do for its end comes first.
      r.then(
        (v) => (t.task_works ? void task_work_run(t).then(() => done(v), failed) : done(v)),
        (e) => (t.task_works ? void task_work_run(t).then(() => failed(e), failed) : failed(e)),
      );
    });
  }

  private async nested_over<T>(t: task_struct, r: Promise<T>): Promise<T> {
    let v: T;
    try {
      v = await r;
      if (t.task_works) await task_work_run(t);
    } catch (e) {
      if (t.task_works) await task_work_run(t);
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
    if (this.calls_in_turn) this.note_call(t, false);
    if (t.state !== TASK_DEAD) t.state = TASK_OUTSIDE;
    if (t.caller !== null) {
      this.wake(t.caller);
      t.caller = null;
    }
    if (this.current !== t) return;
    this.current = this.swapper;
    if (this.calls_in_turn) this.kick();
    else if (this.runnable.length !== 0) this.pass_baton();
    else if (this.idle_work) this.go_idle();
  }

  /**
   * Runs `fn` on thread `t`: at once if the machine is idle (then a plain result comes back
   * plainly), else when the baton gets to it. Throws ThreadBusy if `t` is in a call.
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
    const caller = this.current;
    const r = this.queue_call(t, fn);
    return this.is_caller(caller) ? this.wait_for_call(caller, t, r) : r;
  }

  /**
   * Did the running task itself give this call? While run() is awaited the script outside is not
   * running, so a call can only come from a scenario thread that uses another process's object.
   */
  private is_caller(t: task_struct): boolean {
    if (this.run_resolve === null || t === this.swapper || t.body === null) return false;
    return !t.in_call && (t.flags & PF_KTHREAD) === 0;
  }

  private async wait_for_call<T>(caller: task_struct, t: task_struct, r: Promise<T>): Promise<T> {
    t.caller = caller;
    await this.block(new cross_call(t), WAIT_EVENT);
    return r;
  }

  private queue_call<T>(t: task_struct, fn: (task: task_struct) => Sometime<T>): Promise<T> {
    t.busy = true;
    t.state = TASK_RUNNABLE;
    if (this.calls_in_turn) this.note_call(t, true);
    const turn = this.sleep_of(t);
    this.runnable.push(t);
    if (this.current === this.swapper) this.kick();
    return this.leave_async(
      t,
      ENTERED,
      turn.then(() => fn(t)),
    );
  }

  private note_call(t: task_struct, begins: boolean): void {
    if (begins) this.in_flight.add(t);
    else this.in_flight.delete(t);
    if (this.in_flight.size > 1) this.crowd = true;
    else if (this.in_flight.size === 0) this.crowd = false;
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

  /** run() or a crowd of calls is under way: what the tasks do now is what a run explores. */
  get running(): boolean {
    return this.run_resolve !== null || this.crowd;
  }

  /** Something waits for the machine to be idle or for time: look there when nobody runs. */
  note_idle_work(): void {
    this.idle_work = true;
    if (this.current === this.swapper) this.kick();
  }

  protected override go_idle(): void {
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
  private async outside_goes_first(): Promise<void> {
    for (let i = 0; i < OUTSIDE_GRACE && this.run_resolve === null; i++) await undefined;
  }
  protected override before_kick(): Promise<void> {
    return this.calls_in_turn ? this.outside_goes_first() : Promise.resolve();
  }

  private async advance_after_grace(epoch: number): Promise<void> {
    await this.outside_goes_first();
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

  /** Does `t` sleep while nothing is left that could end its sleep? */
  stuck(t: task_struct): boolean {
    return t.state === TASK_BLOCKED && this.idle && this.timers.driving === 0;
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

  protected override report_deadlock(cycle: task_struct[]): void {
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
   * For the event loop's hook: text about a task that holds the baton while nothing moves, which
   * means that it awaits something the Machine knows nothing of; null if nobody runs.
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
