/**
 * kernel/sched/core.ts - scheduling as kernel code calls it: points, timeouts, kernel threads,
 * preemption.
 * Linux: kernel/sched/core.c, kernel/kthread.c, kernel/time/sleep_timeout.c. The mechanism is in
 * sched.ts.
 */
import { assert, BUG } from "../assert.ts";
import type { MaybeWait } from "../include/locks.ts";
import type { Kernel } from "../kernel.ts";
import { check_atomic_sleep } from "../locking/misuse.ts";
import { NSEC_PER_MSEC } from "../time.ts";
import type { Sched } from "./sched.ts";
import {
  TASK_BLOCKED,
  TASK_DEAD,
  WAIT_EVENT,
  WAIT_INTERRUPTIBLE,
  WAIT_KILLABLE,
  WAIT_TIMED,
  type task_struct,
  type waitable,
} from "./task.ts";
import type { timer } from "./timer.ts";
import { wait_queue_head } from "./wait.ts";

/** A Machine or a Kernel. */
export interface has_sched {
  readonly sched: Sched;
}

/** Another task may go on here, if the strategy of the run says so. */
export function sched_point(k: has_sched): MaybeWait {
  return k.sched.sched_point();
}

/** In long loops: a scheduling point. Under the default strategy nothing happens. */
export function cond_resched(k: has_sched): MaybeWait {
  return k.sched.sched_point();
}

/** Lets every task go first that can run now (yield(), schedule()). */
export function sched_yield(k: has_sched): MaybeWait {
  return k.sched.yield();
}

/** Asserts that sleeping is allowed here: not under a spinlock, not in an RCU section. */
export function might_sleep(k: has_sched, what: string): void {
  const t = k.sched.current;
  if (t.atomic === 0 && t.irq_disabled === 0) return;
  const on: waitable = {
    lock_name: what,
    label: () => "",
    blockers() {},
    cancel_wait() {},
  };
  check_atomic_sleep(k.sched, t, on);
}

export function preempt_disable(k: has_sched): void {
  k.sched.current.atomic++;
}
export function preempt_enable(k: has_sched): void {
  const t = k.sched.current;
  assert(t.atomic > 0, "preempt_enable() without preempt_disable()");
  t.atomic--;
}

/** A sleep that only time ends. */
class timeout implements waitable {
  readonly lock_name = "a timeout";
  private readonly sched: Sched;
  private readonly armed: timer;
  constructor(sched: Sched, ns: number, deferrable: boolean) {
    this.sched = sched;
    const t = sched.current;
    const expires = sched.machine.clock.now_ns + ns;
    this.armed = sched.timers.add(expires, deferrable, () => void sched.wake(t));
  }
  label(): string {
    return `${(this.armed.expires / NSEC_PER_MSEC).toFixed(3)} ms after boot`;
  }
  blockers(): void {}
  cancel_wait(): void {
    this.sched.timers.del(this.armed);
  }
}

export interface timeout_opts {
  /** A signal ends the sleep. */
  interruptible?: boolean;
  /** Does not make time pass by itself: for periodic background work. */
  deferrable?: boolean;
}

/**
 * Sleeps for `ns` nanoseconds of virtual time. Resolves to what was left when a signal came, or 0.
 */
export async function schedule_timeout(
  k: has_sched,
  ns: number,
  opts: timeout_opts = {},
): Promise<number> {
  const s = k.sched;
  const end = s.machine.clock.now_ns + ns;
  const flags = opts.interruptible ? WAIT_INTERRUPTIBLE | WAIT_KILLABLE : 0;
  const on = new timeout(s, ns, opts.deferrable ?? false);
  s.note_idle_work();
  try {
    await s.block(on, WAIT_EVENT, WAIT_TIMED | flags);
  } catch (e) {
    if (flags === 0) throw e;
    return Math.max(0, end - s.machine.clock.now_ns);
  }
  return 0;
}

/**
 * For exploration: the running task looks at (or changes) what tasks share, without a lock that
 * would tell. `object` is the data itself, or the lock under which others change it.
 */
export function note_access(k: Kernel, object: object, write: boolean): void {
  const { observer } = k.sched;
  if (observer !== null) observer.touch(object, write);
}

export async function msleep(k: has_sched, ms: number): Promise<void> {
  await schedule_timeout(k, ms * NSEC_PER_MSEC);
}

/**
 * Waits until `t` has ended; its value, or throws its error (which run() then no longer reports).
 */
export async function join(t: task_struct): Promise<unknown> {
  t.join_seen = true;
  t.kernel.sched.observer?.touch(t, false);
  const machine = t.kernel.machine;
  const queue = (t.joiners ??= new wait_queue_head(machine, "exit", t.toString()));
  const p = queue.wait_event(() => t.state === TASK_DEAD, { owner: () => t });
  if (p !== undefined) await p;
  if (t.failed) throw t.exit_error;
  return t.exit_value;
}

/** In a kernel thread: has somebody called kthread_stop()? Part of the condition of its sleeps. */
export function kthread_should_stop(k: Kernel): boolean {
  k.sched.observer?.touch(k.current, false);
  return k.current.should_stop;
}

/** Wakes a task whatever it waits for: it looks at its condition again. */
export function wake_up_process(t: task_struct): boolean {
  if (t.state !== TASK_BLOCKED) return false;
  if (t.waiting_mode !== WAIT_EVENT) BUG(`wake_up_process: ${t} waits for a lock, not an event`);
  t.waiting_on!.cancel_wait(t);
  return t.kernel.sched.wake(t);
}

/** Asks the thread to end, wakes it and waits until it has. */
export async function kthread_stop(t: task_struct): Promise<unknown> {
  t.should_stop = true;
  t.kernel.sched.observer?.touch(t, true);
  if (t.waiting_mode === WAIT_EVENT) wake_up_process(t);
  return join(t);
}
