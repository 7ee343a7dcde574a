/**
 * kernel/locking/busy.ts - who works on what, for waits that have no lock: an inode that is being
 * read, written or evicted, direct IO under way, a pinned page. Linux does not know; here it makes
 * such a wait an edge of the wait-for graph.
 *
 * Forgetting busy_end() is no leak of memory, but would be a wrong edge: only states that end by
 * the same call that began them, or by a task that is known, are noted.
 */
import type { has_sched } from "../sched/core.ts";
import type { task_struct } from "../sched/task.ts";

interface worker {
  readonly what: number;
  readonly task: task_struct;
}

/** Hangs off Sched: by the object worked on. */
export type busy_table = WeakMap<object, worker[]>;

/** `what` tells several kinds of work on one object apart. */
export function busy_begin(k: has_sched, on: object, what: number): void {
  const s = k.sched;
  s.busy ??= new WeakMap();
  const worker = { what, task: s.current };
  const list = s.busy.get(on);
  if (list === undefined) s.busy.set(on, [worker]);
  else list.push(worker);
}

/** One of the running task's, or, if it has none, of another's. */
export function busy_end(k: has_sched, on: object, what: number): void {
  const s = k.sched;
  const list = s.busy?.get(on);
  if (list === undefined) return;
  const mine = list.findIndex((w) => w.what === what && w.task === s.current);
  const i = mine >= 0 ? mine : list.findIndex((w) => w.what === what);
  if (i >= 0) list.splice(i, 1);
  if (list.length === 0) s.busy!.delete(on);
}

/** The tasks at work on it, for `whats` (a mask of kinds). */
export function busy_tasks(k: has_sched, on: object, whats: number): task_struct[] {
  const list = k.sched.busy?.get(on) ?? [];
  return list.filter((w) => (w.what & whats) !== 0).map((w) => w.task);
}
