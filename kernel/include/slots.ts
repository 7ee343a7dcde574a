/**
 * kernel/include/slots.ts - what lower layers call upwards: ops tables owned by the kernel and mm, installed at boot
 * on the Kernel object by the layer that implements them.
 */
import type { inode } from "./fs.ts";
import type { address_space, page } from "./mm_types.ts";
import type { MaybeWait } from "./locks.ts";
import type { Kernel } from "../kernel.ts";
import type { task_struct } from "../sched/task.ts";

/** kernel/vfs makes inodes, mm makes their mappings. Installed by mm. */
export interface vfs_ops {
  new_address_space(kernel: Kernel, host: inode): address_space;
}

/** What mm asks of fs/dax.ts for mappings that hold DAX entries. Installed by fs/dax.ts. */
export interface dax_mm_ops {
  /** Waits until the entry is unlocked, then removes it. */
  delete_mapping_entry(mapping: address_space, index: number): Promise<void> | void;
  /** Removes the entry unless it is dirty or tagged; false if it stays. */
  invalidate_mapping_entry_sync(mapping: address_space, index: number): Promise<boolean> | boolean;
  lock_page?(page: page): Promise<unknown> | unknown;
  unlock_page?(page: page, cookie: unknown): void;
}

/** What the kernel asks of mm and fs about a task. Installed by tools/api. */
export interface task_ops {
  /** The task is going away: drop its mm, files and cwd. */
  exit(task: task_struct): Promise<void> | void;
  wait?(task: task_struct): MaybeWait;
}
