/**
 * kernel/locking/misuse.ts - texts for locks used wrongly. All are bugs of the caller, never of the
 * user.
 */
import { BUG } from "../assert.ts";
import type { Baton } from "../sched/baton.ts";
import { TASK_BLOCKED, TASK_RUNNABLE, type task_struct, type waitable } from "../sched/task.ts";
import type { lock_base } from "./lock.ts";
import { held_text } from "./report.ts";

/** Somebody sleeps who must not. */
export function check_atomic_sleep(sched: Baton, t: task_struct, on: waitable): void {
  const label = on.label();
  const what = label === "" ? on.lock_name : `${on.lock_name} of ${label}`;
  const dep = sched.machine.dep;
  if (dep !== null && is_lock(on)) dep.misuse(t, on, "sleep");
  if (t === sched.swapper) {
    BUG(`waiting for ${what} outside any task: only a task can sleep (use machine.in_task())`);
  }
  const why = atomic_reason(t);
  BUG(`${t} would sleep for ${what} while ${why}`);
}

function is_lock(on: waitable): on is lock_base {
  return (on as Partial<lock_base>).traits !== undefined;
}

/** Why `t` must not sleep. */
export function atomic_reason(t: task_struct): string {
  const locks: string[] = [];
  for (let i = 0; i < t.held_depth; i++) {
    const lock = t.held[i]!.lock!;
    if ((lock as lock_base & { spins?: boolean }).spins === true) locks.push(lock.describe());
  }
  if (locks.length > 0) return `holding spinlock ${locks.join(", ")}`;
  if (t.rcu_depth > 0) return "in an RCU read section";
  return t.irq_disabled > 0 ? "interrupts are off" : "preemption is off";
}

/** A task ended, or a call returned: it must hold the baton and nothing else. */
export function check_return(sched: Baton, t: task_struct, what: string): void {
  if (sched.current !== t) {
    const asleep = t.state === TASK_BLOCKED || t.state === TASK_RUNNABLE;
    const on = t.waiting_on === null ? "" : ` on ${t.waiting_on.lock_name}`;
    const pending = asleep ? ` while one of its waits${on} was not over` : "";
    BUG(`${t} ${what} without the baton${pending}: a promise of a lock or wait was not awaited`);
  }
  sched.machine.dep?.misuse(t, null, "leak", `it ${what}`);
  if (t.held_depth > 0) {
    const locks = held_text(t).join(", ");
    drop_all(t);
    BUG(`${t} ${what} holding ${locks}`);
  }
  if (t.atomic !== 0) {
    t.atomic = 0;
    const rcu = t.rcu_depth;
    t.rcu_depth = 0;
    BUG(`${t} ${what} ${rcu > 0 ? "in an RCU read section" : "with preemption off"}`);
  }
}

/**
 * A call that a scenario thread made on its own object ended with more or fewer locks than it
 * began.
 */
export function check_nested_return(t: task_struct, before: number): never {
  if (t.held_depth < before) BUG(`${t} returned from its call without locks it held before`);
  const locks = held_text(t).slice(before).join(", ");
  BUG(`${t} returned from its call holding ${locks}`);
}

/** What a task that is gone held stays locked, but is no longer its. */
function drop_all(t: task_struct): void {
  for (let i = 0; i < t.held_depth; i++) t.held[i]!.lock = null;
  t.held_depth = 0;
  t.atomic = 0;
  t.rcu_depth = 0;
}

/** `op` was called by a task that does not hold the lock that way. */
export function not_held(lock: lock_base, op: string, t: task_struct): never {
  const assertion = op.startsWith("lockdep_assert");
  lock.machine.dep?.misuse(t, lock, assertion ? "assert" : "unlock", `${op}()`);
  const owners: task_struct[] = [];
  lock.holders(owners);
  const others = owners.filter((o) => o !== t);
  let state = "nobody holds it";
  if (others.length > 0) state = `${others.join(", ")} holds it`;
  else if (owners.length > 0) state = "it is held in the other mode";
  else if (lock.is_locked()) state = "it is held, by no task in particular";
  BUG(`${op}: ${t} does not hold ${lock.describe()}: ${state}`);
}
