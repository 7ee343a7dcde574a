/**
 * kernel/locking/rcu.ts - read-copy-update under the baton. Linux: kernel/rcu/.
 *
 * A read section may not sleep, so at every switch of tasks no reader is inside: each switch is a
 * grace period. What is left of RCU is what can be got wrong: sleeping inside, unbalanced sections,
 * waiting for readers from within a section. call_rcu() callbacks run at the next switch or when
 * nobody runs.
 */
import { BUG } from "../assert.ts";
import type { MaybeWait } from "../include/locks.ts";
import { might_sleep, type has_sched } from "../sched/core.ts";
import { local_bh_disable, local_bh_enable } from "../sched/irq.ts";
import { LOCK_READ_RECURSIVE, type task_struct } from "../sched/task.ts";
import type { Lockdep } from "./lockdep.ts";
import type { lock_map } from "./lock_map.ts";

function note(k: has_sched, t: task_struct, map: (dep: Lockdep) => lock_map, on: boolean): void {
  const m = k.sched.machine;
  if (m.dep === null || m.lockdep === null) return;
  if (on) m.dep.acquire(t, map(m.lockdep), LOCK_READ_RECURSIVE, 0, false);
  else m.dep.release(t, map(m.lockdep), LOCK_READ_RECURSIVE);
}

const plain = (dep: Lockdep): lock_map => dep.pseudo.rcu;
const bh = (dep: Lockdep): lock_map => dep.pseudo.rcu_bh;
const sched = (dep: Lockdep): lock_map => dep.pseudo.rcu_sched;

export function rcu_read_lock(k: has_sched): void {
  const t = k.sched.current;
  t.rcu_depth++;
  t.atomic++;
  note(k, t, plain, true);
}

export function rcu_read_unlock(k: has_sched): void {
  const t = k.sched.current;
  if (t.rcu_depth === 0) BUG(`rcu_read_unlock: ${t} is in no RCU read section`);
  note(k, t, plain, false);
  t.rcu_depth--;
  t.atomic--;
}

/** A section in which no softirq runs. */
export function rcu_read_lock_bh(k: has_sched): void {
  local_bh_disable(k);
  note(k, k.sched.current, bh, true);
}
export function rcu_read_unlock_bh(k: has_sched): void {
  note(k, k.sched.current, bh, false);
  local_bh_enable(k);
}

/** A section without preemption. */
export function rcu_read_lock_sched(k: has_sched): void {
  const t = k.sched.current;
  t.atomic++;
  note(k, t, sched, true);
}
export function rcu_read_unlock_sched(k: has_sched): void {
  const t = k.sched.current;
  if (t.atomic === 0) BUG(`rcu_read_unlock_sched: ${t} is in no RCU read section`);
  note(k, t, sched, false);
  t.atomic--;
}

export function rcu_read_lock_held(k: has_sched): boolean {
  return k.sched.current.rcu_depth > 0;
}

/** Runs `fn` once every read section under way has ended. */
export function call_rcu(k: has_sched, fn: () => void): void {
  const s = k.sched;
  (s.rcu_callbacks ??= []).push(fn);
  s.note_idle_work();
}

/** Waits until every read section under way has ended: for the caller, a scheduling point. */
export function synchronize_rcu(k: has_sched): MaybeWait {
  might_sleep(k, "synchronize_rcu()");
  return k.sched.sched_point();
}

/** Waits until the callbacks of earlier call_rcu() have run. */
export function rcu_barrier(k: has_sched): MaybeWait {
  might_sleep(k, "rcu_barrier()");
  k.sched.run_rcu_callbacks();
  return k.sched.sched_point();
}
