/**
 * kernel/locking/waitgraph.ts - who waits for whom, and the cycle that says nobody will go on.
 * Linux has no counterpart: lockdep judges classes, this judges what has happened.
 *
 * Edges are not stored. Each sleeping task knows what it waits for (task.waiting_on), each such
 * object who must act first (blockers()). Only a task that falls asleep gets an outgoing edge, so
 * every cycle closes at some block() and is found there. A wait for time is no edge.
 */
import { TASK_BLOCKED, WAIT_TIMED, type task_struct } from "../sched/task.ts";

/**
 * A cycle through `start`, which is about to sleep: [start, whom it waits for, ...], each waiting
 * for the next and the last for `start`. Null if there is none. Every blocker of a task must act,
 * so any cycle is final.
 */
export function find_cycle(start: task_struct): task_struct[] | null {
  if ((start.wait_flags & WAIT_TIMED) !== 0) return null;
  const out: task_struct[] = [];
  start.waiting_on!.blockers(start, out);
  let suspect = false;
  for (let i = 0; i < out.length; i++) {
    if (out[i] === start || out[i]!.state === TASK_BLOCKED) suspect = true;
  }
  if (!suspect) return null;
  const path = [start];
  return walk(start, out, path, new Set(path)) ? path : null;
}

function walk(
  start: task_struct,
  next: readonly task_struct[],
  path: task_struct[],
  seen: Set<task_struct>,
): boolean {
  for (const t of next) {
    if (t === start) return true;
    if (t.state !== TASK_BLOCKED || seen.has(t)) continue;
    seen.add(t);
    path.push(t);
    if (walk(start, blockers_of(t), path, seen)) return true;
    path.pop();
  }
  return false;
}

/** The tasks that must act before sleeping `t` can go on. */
export function blockers_of(t: task_struct): task_struct[] {
  const out: task_struct[] = [];
  if (t.state !== TASK_BLOCKED || (t.wait_flags & WAIT_TIMED) !== 0) return out;
  t.waiting_on!.blockers(t, out);
  return [...new Set(out)];
}
