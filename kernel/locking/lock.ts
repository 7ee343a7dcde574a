/**
 * kernel/locking/lock.ts - what all locks have in common: a class, a name, an instance label, a
 * Machine.
 * Linux: struct lockdep_map, include/linux/lockdep_types.h.
 */
import { BUG } from "../assert.ts";
import type { lock_class_key } from "../include/locks.ts";
import type { Machine } from "../machine.ts";
import type { Sched } from "../sched/sched.ts";
import type { task_struct, waitable } from "../sched/task.ts";
import { SLEEPING, type lock_traits } from "./traits.ts";

/** Names one instance in reports: text, or what makes it when a report is written. */
export type lock_label = string | (() => string) | { lock_label(): string } | null;

/** A frozen module constant; what lockdep knows of the class hangs off the Machine. */
export function lock_class(name: string): lock_class_key {
  return Object.freeze({ name });
}

/**
 * Plugged into machine.dep by lockdep: told of every lock operation. `acquire` comes before the
 * wait, as an attempt already says which order the task uses; for a trylock only when it succeeded.
 */
/** What lockdep is told before a misuse becomes a KernelBug. */
export type lock_misuse = "sleep" | "unlock" | "assert" | "init" | "leak" | "api";

export interface LockObserver {
  acquire(
    task: task_struct,
    lock: lock_base,
    mode: number,
    subclass: number,
    trylock: boolean,
  ): void;
  contended(task: task_struct, lock: lock_base, mode: number): void;
  release(task: task_struct, lock: lock_base, mode: number): void;
  /** Waits for all holders without becoming one. */
  sync(task: task_struct, lock: lock_base): void;
  /** Interrupts were switched, or a handler begins or ends; `on`: usage bits its locks get. */
  irq_state(task: task_struct, on: number): void;
  /** The task holds nothing that the observer knows of. */
  clean(task: task_struct): boolean;
  misuse(task: task_struct, lock: lock_base | null, what: lock_misuse, text?: string): void;
}

export abstract class lock_base implements waitable {
  readonly machine: Machine;
  readonly sched: Sched;
  /** The how many-th object of its Machine: names it in other runs that began alike. */
  readonly seq: number;
  /** The class. Directories and files get different classes of i_rwsem, so it may be set again. */
  key: lock_class_key;
  /** Which instance this is, for reports. */
  instance: lock_label;
  /** Cache of the LockObserver. */
  dep_class: unknown = null;

  constructor(machine: Machine, key: lock_class_key, instance: lock_label = null) {
    this.machine = machine;
    this.sched = machine.sched;
    this.seq = machine.nr_objects++;
    this.key = key;
    this.instance = instance;
  }

  get lock_name(): string {
    return this.key.name;
  }

  /** Kind of lock, for lockdep. */
  get traits(): lock_traits {
    return SLEEPING;
  }

  label(): string {
    const i = this.instance;
    if (i === null) return "";
    if (typeof i === "string") return i;
    return typeof i === "function" ? i() : i.lock_label();
  }

  /** "&inode->i_rwsem of inode 12 of pmem0" */
  describe(): string {
    const label = this.label();
    return label === "" ? this.lock_name : `${this.lock_name} of ${label}`;
  }

  /**
   * Takes the lock for `task`, or puts the task on the queue and returns false. Locks that sleep
   * only.
   */
  attempt(task: task_struct, _mode: number, _subclass: number, _site: string | null): boolean {
    return BUG(`${this.lock_name} cannot be attempted by ${task}`);
  }

  /** mutex_init() of memory that had a lock before, mutex_destroy(): nobody may hold it. */
  reinit(): void {
    if (!this.is_locked()) return;
    const t = this.sched.current;
    this.machine.dep?.misuse(t, this, "init");
    BUG(`${t} initialises or frees ${this.describe()}, which is held`);
  }

  abstract is_locked(): boolean;
  /** The tasks that hold it, as far as known. */
  abstract holders(out: task_struct[]): void;
  abstract blockers(task: task_struct, out: task_struct[]): void;
  abstract cancel_wait(task: task_struct): void;
}

/** Takes `task` off a queue of waiting tasks. */
export function dequeue(queue: task_struct[] | null, task: task_struct): void {
  const i = queue === null ? -1 : queue.indexOf(task);
  if (i >= 0) queue!.splice(i, 1);
}

/**
 * Holders of a lock found by looking through what each task holds: for reports and blocked readers.
 */
export function scan_holders(sched: Sched, lock: lock_base, out: task_struct[]): void {
  scan_task(sched.swapper, lock, out);
  for (const t of sched.tasks) scan_task(t, lock, out);
}

function scan_task(t: task_struct, lock: lock_base, out: task_struct[]): void {
  for (let i = 0; i < t.held_depth; i++) {
    if (t.held[i]!.lock === lock) {
      out.push(t);
      return;
    }
  }
}
