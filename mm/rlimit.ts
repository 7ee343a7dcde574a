/**
 * mm/rlimit.ts - resource limits of a task, as far as mm asks. Linux: include/linux/sched/signal.h
 * (rlimit).
 */
import type { task_struct } from "../kernel/sched/task.ts";

const DEFAULTS: Readonly<Record<string, number>> = Object.freeze({
  MEMLOCK: 8 * 2 ** 20,
});

/** Soft limit by name (AS, MEMLOCK); Infinity when there is none. */
export function task_rlimit(task: task_struct, name: string): number {
  return task.signal?.rlim[name] ?? DEFAULTS[name] ?? Number.POSITIVE_INFINITY;
}
