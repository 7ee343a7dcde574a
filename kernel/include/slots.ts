/**
 * kernel/include/slots.ts - what lower layers call upwards: ops tables owned by the kernel and mm,
 * installed at boot on the Kernel object by the layer that implements them.
 */
import type { MaybeWait } from "./locks.ts";
import type { task_struct } from "../sched/task.ts";

export type { dax_mm_ops } from "./mm_types.ts";
export type { vfs_ops } from "./vfs_ops.ts";

/** What the kernel asks of mm and fs about a task. Installed by tools/api. */
export interface task_ops {
  /** The task is going away: drop its mm, files and cwd. */
  exit(task: task_struct): Promise<void> | void;
  wait?(task: task_struct): MaybeWait;
}
