/** mm/memory-failure/state.ts - what memory failure keeps per kernel: mm_state(kernel).mf. */
import type { mutex as mutex_t } from "../../kernel/include/locks.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { lock_class, mutex, rwlock } from "../../kernel/locking/locks.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { mm_state } from "../mm_state.ts";

const MF_MUTEX = lock_class("mf_mutex");
const TASKLIST_LOCK = lock_class("tasklist_lock");

/** Bad lines of a frame that the drivers may not know of yet: numbers of 64-byte lines. */
export type bad_lines = Map<number, Set<number>>;

export interface mf_state {
  /** One failure is handled at a time. Outermost lock. */
  readonly mf_mutex: mutex_t;
  /** Read around a walk over all processes. */
  readonly tasklist_lock: rwlock;
  /** vm.memory_failure_early_kill: every process that did not choose is told at once. */
  early_kill: boolean;
  /** Failures handled so far. mf_mutex */
  nr_poisoned: number;
  /** Frames whose failure a task will handle when its system call is over. */
  readonly queued: Map<task_struct, number[]>;
  /** Media errors by frame (media.ts); null while there are none. */
  media: bad_lines | null;
}

export function new_mf_state(kernel: Kernel): mf_state {
  return {
    mf_mutex: new mutex(kernel.machine, MF_MUTEX),
    tasklist_lock: new rwlock(kernel.machine, TASKLIST_LOCK),
    early_kill: false,
    nr_poisoned: 0,
    queued: new Map(),
    media: null,
  };
}

export const mf_state_of = (kernel: Kernel): mf_state => mm_state(kernel).mf;
