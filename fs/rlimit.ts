/**
 * fs/rlimit.ts - limits that file calls obey. Linux: include/uapi/asm-generic/resource.h,
 * include/linux/sched/signal.h.
 */
import type { task_struct } from "../kernel/sched/task.ts";
import { SIGXFSZ, SI_USER, make_siginfo, send_signal } from "../kernel/signal.ts";

export const RLIMIT_FSIZE = "FSIZE";
export const RLIMIT_NOFILE = "NOFILE";

const DEFAULTS: Readonly<Record<string, number>> = Object.freeze({ NOFILE: 1024 });

/** Soft limit of the task's process; Infinity when there is none. */
export function rlimit(task: task_struct, which: string): number {
  return task.signal?.rlim[which] ?? DEFAULTS[which] ?? Number.POSITIVE_INFINITY;
}
/** The same for the limit that every write asks for. */
export function rlimit_fsize(task: task_struct): number {
  const s = task.signal;
  return s === null ? Number.POSITIVE_INFINITY : (s.rlim.FSIZE ?? Number.POSITIVE_INFINITY);
}

/** A file grew to the process's limit. */
export function send_sigxfsz(task: task_struct): void {
  send_signal(task, make_siginfo(SIGXFSZ, SI_USER));
}
