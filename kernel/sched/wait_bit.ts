/**
 * kernel/sched/wait_bit.ts - waiting for a change of any object, without a queue of its own. Linux:
 * kernel/sched/wait_bit.c. Queues are made when somebody waits and dropped when nobody does.
 */
import type { MaybeWait } from "../include/locks.ts";
import type { has_sched } from "./core.ts";
import { wait_queue_head, type wait_event_opts } from "./wait.ts";

/**
 * Sleeps until `cond()` holds; whoever changes `variable` calls wake_up_var(). `name` is for
 * reports.
 */
export function wait_var_event(
  k: has_sched,
  variable: object,
  name: string,
  cond: () => boolean,
  opts: wait_event_opts = {},
): MaybeWait {
  const sched = k.sched;
  if (!sched.exploring && cond()) return undefined;
  return wait_slow(k, variable, name, cond, opts);
}

async function wait_slow(
  k: has_sched,
  variable: object,
  name: string,
  cond: () => boolean,
  opts: wait_event_opts,
): Promise<void> {
  const { sched } = k;
  const queues = (sched.var_queues ??= new Map());
  let queue = queues.get(variable);
  if (queue === undefined) {
    queue = new wait_queue_head(sched.machine, name);
    queues.set(variable, queue);
  }
  const seen = sched.observer;
  const looks = (): boolean => {
    seen!.touch(variable, true);
    return cond();
  };
  try {
    const p = queue.wait_event(seen === null ? cond : looks, opts);
    if (p !== undefined) await p;
  } finally {
    if (!queue.has_waiters() && queues.get(variable) === queue) queues.delete(variable);
  }
}

export function wake_up_var(k: has_sched, variable: object): void {
  if (k.sched.observer !== null) k.sched.observer.touch(variable, true);
  k.sched.var_queues?.get(variable)?.wake_up_all();
}
