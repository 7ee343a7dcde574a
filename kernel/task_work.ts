/**
 * kernel/task_work.ts - work that a task does when its system call is over and it holds nothing.
 * Linux: kernel/task_work.c.
 */
import type { task_struct } from "./sched/task.ts";

/** `fn` runs in `task` before it is back in user mode; errors are its own to handle. */
export function task_work_add(task: task_struct, fn: () => Promise<void>): void {
  task.task_works ??= [];
  task.task_works.push(fn);
}

/** Does what is there, first come first served, also what comes meanwhile. */
export async function task_work_run(task: task_struct): Promise<void> {
  for (;;) {
    const fn = task.task_works?.shift();
    if (fn === undefined) break;
    await fn();
  }
  task.task_works = null;
}
