/**
 * kernel/locking/report.ts - deadlocks and hangs as data. Text: describe_deadlock() in describe.ts.
 *
 * A report holds plain values only (names, numbers, texts), so it can be kept after the Machine is
 * gone, compared between two runs and written as JSON. Locks have their kernel names and the label
 * of the instance, never an object id.
 */
import type { Sched } from "../sched/sched.ts";
import {
  LOCK_READ,
  LOCK_READ_RECURSIVE,
  LOCK_WRITE,
  TASK_BLOCKED,
  WAIT_KILLABLE,
  WAIT_INTERRUPTIBLE,
  type task_struct,
  type waitable,
} from "../sched/task.ts";
import { describe_deadlock } from "./describe.ts";
import { blockers_of } from "./waitgraph.ts";

export type lock_mode = "read" | "write" | "exclusive" | "event";

export interface lock_use {
  /** As the kernel writes it: "&inode->i_rwsem". */
  lock: string;
  /** Which one: "inode 12 of pmem0"; "" if there is only one. */
  label: string;
  mode: lock_mode;
  /** Call chain, innermost first; null unless the run was made with stacks. */
  site: string | null;
}

export interface task_report {
  pid: number;
  comm: string;
  /** System call under way, "" if none. */
  syscall: string;
  /** Null for a task that can run. */
  waits: (lock_use & { sleep: "uninterruptible" | "killable" | "interruptible" }) | null;
  holds: lock_use[];
  /** Pids of those that must act before it can go on. */
  blocked_by: number[];
}

export interface deadlock_report {
  kind: "deadlock" | "hang";
  /** Nanoseconds since boot. */
  time_ns: number;
  /**
   * Pids in order: each waits for the next, the last for the first. Empty for a hang without a
   * cycle.
   */
  cycle: number[];
  /** Those of the cycle first, then whoever waits for them or waits for ever. */
  tasks: task_report[];
}

/** Tasks wait for each other in a circle. */
export class Deadlock extends Error {
  override readonly name = "Deadlock";
  readonly report: deadlock_report;
  constructor(report: deadlock_report) {
    super(describe_deadlock(report));
    this.report = report;
  }
}

/** No task can run and none waits for time. */
export class Hang extends Error {
  override readonly name = "Hang";
  readonly report: deadlock_report;
  constructor(report: deadlock_report) {
    super(describe_deadlock(report));
    this.report = report;
  }
}

/** A second call was given to a thread that is still in one. */
export class ThreadBusy extends Error {
  override readonly name = "ThreadBusy";
  readonly code = "ThreadBusy";
  constructor(t: task_struct) {
    const call = t.syscall === "" ? "a call" : `${t.syscall}()`;
    const state = t.deadlocked ? "is deadlocked in" : "is still in";
    const on = t.waiting_on === null ? "" : `, waiting for ${use_text(wait_use(t)!)}`;
    super(
      `${t} ${state} ${call}${on}. A thread makes one call at a time: ` +
        "await the first one, or use p.thread() or m.spawn(fn) for a second thread of control",
    );
  }
}

/** The run took more steps than allowed: a livelock, or the limit is too low. */
export class StepLimit extends Error {
  override readonly name = "StepLimit";
  readonly max_steps: number;
  constructor(max_steps: number, t: task_struct) {
    super(`the run did not end within ${max_steps} task switches; ${t} would have run next`);
    this.max_steps = max_steps;
  }
}

export function mode_name(mode: number): lock_mode {
  if (mode === LOCK_READ || mode === LOCK_READ_RECURSIVE) return "read";
  if (mode === LOCK_WRITE) return "write";
  return mode === 0 ? "exclusive" : "event";
}

/** "&inode->i_rwsem of inode 12 of pmem0 for writing" */
export function use_text(u: lock_use): string {
  const which = u.label === "" ? u.lock : `${u.lock} of ${u.label}`;
  if (u.mode === "read") return `${which} for reading`;
  return u.mode === "write" ? `${which} for writing` : which;
}

export function use_of(lock: waitable, mode: number, site: string | null): lock_use {
  return { lock: lock.lock_name, label: lock.label(), mode: mode_name(mode), site };
}

export function wait_use(t: task_struct): lock_use | null {
  return t.waiting_on === null ? null : use_of(t.waiting_on, t.waiting_mode, t.wait_site);
}

/** Oldest first. */
export function held_uses(t: task_struct): lock_use[] {
  const out: lock_use[] = [];
  for (let i = 0; i < t.held_depth; i++) {
    const h = t.held[i]!;
    out.push(use_of(h.lock!, h.mode, h.site));
  }
  return out;
}

export function held_text(t: task_struct): string[] {
  return held_uses(t).map((u) => (u.site === null ? use_text(u) : `${use_text(u)} [${u.site}]`));
}

export function report_task(t: task_struct): task_report {
  const wait = t.state === TASK_BLOCKED ? wait_use(t) : null;
  let sleep: "uninterruptible" | "killable" | "interruptible" = "uninterruptible";
  if (t.wait_flags & WAIT_INTERRUPTIBLE) sleep = "interruptible";
  else if (t.wait_flags & WAIT_KILLABLE) sleep = "killable";
  return {
    pid: t.pid,
    comm: t.comm,
    syscall: t.syscall,
    waits: wait === null ? null : { ...wait, sleep },
    holds: held_uses(t),
    blocked_by: blockers_of(t).map((b) => b.pid),
  };
}

/** Sleeping tasks that wait, directly or not, for one of `core`. */
function victims(sched: Sched, core: readonly task_struct[]): task_struct[] {
  const stuck = new Set(core);
  const out: task_struct[] = [];
  for (let grew = true; grew; ) {
    grew = false;
    for (const t of sched.tasks) {
      if (stuck.has(t) || !blockers_of(t).some((b) => stuck.has(b))) continue;
      stuck.add(t);
      out.push(t);
      grew = true;
    }
  }
  return out;
}

export function deadlock_error(sched: Sched, cycle: readonly task_struct[]): Deadlock {
  const all = [...cycle, ...victims(sched, cycle)];
  return new Deadlock({
    kind: "deadlock",
    time_ns: sched.machine.clock.now_ns,
    cycle: cycle.map((t) => t.pid),
    tasks: all.map(report_task),
  });
}

/**
 * `hung`: the tasks whose sleep nobody will end. Idle holders of what they wait for are shown too.
 */
export function hang_error(sched: Sched, hung: readonly task_struct[]): Hang {
  const shown = new Set(hung);
  for (const t of hung) for (const b of blockers_of(t)) shown.add(b);
  return new Hang({
    kind: "hang",
    time_ns: sched.machine.clock.now_ns,
    cycle: [],
    tasks: [...shown].map(report_task),
  });
}
