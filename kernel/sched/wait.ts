/**
 * kernel/sched/wait.ts - wait queues. Linux: kernel/sched/wait.c, include/linux/wait.h.
 *
 * Order as in Linux: non-exclusive sleepers stand at the head, last come first woken, and all are
 * woken; exclusive ones stand at the tail in order of arrival and are woken `nr_exclusive` at a
 * time. A woken sleeper leaves the queue (autoremove) and looks at its condition again when it gets
 * the baton. Waking an exclusive sleeper that then does not act, nor wakes the next, loses the
 * wake-up, as in Linux.
 */
import type { MaybeWait, wait_opts, wait_queue_head as wait_queue_t } from "../include/locks.ts";
import type { lock_base } from "../locking/lock.ts";
import type { Machine } from "../machine.ts";
import type { Sched } from "./sched.ts";
import {
  type task_struct,
  WAIT_EVENT,
  WAIT_IDLE,
  WAIT_INTERRUPTIBLE,
  WAIT_KILLABLE,
  WAIT_TIMED,
  type waitable,
} from "./task.ts";

/** wait_opts plus what only some callers need. */
export interface wait_event_opts extends wait_opts {
  /** A service thread waiting for work: not a hang (TASK_IDLE). */
  idle?: boolean;
}

interface wait_entry {
  readonly task: task_struct;
  readonly exclusive: boolean;
  readonly key: unknown;
  readonly owner: (() => unknown) | undefined;
}

const NO_OPTS: wait_event_opts = Object.freeze({});

function sleep_flags(opts: wait_event_opts): number {
  let flags = 0;
  if (opts.killable || opts.interruptible) flags |= WAIT_KILLABLE;
  if (opts.interruptible) flags |= WAIT_INTERRUPTIBLE;
  if (opts.idle) flags |= WAIT_IDLE | WAIT_INTERRUPTIBLE | WAIT_KILLABLE;
  return flags;
}

/** Adds the tasks an `owner` answer stands for: a task, a lock's holders, or a list of these. */
export function add_owners(owner: unknown, out: task_struct[]): void {
  if (owner === null || owner === undefined) return;
  if (Array.isArray(owner)) {
    for (const o of owner) add_owners(o, out);
  } else if ((owner as task_struct).held_depth !== undefined) {
    out.push(owner as task_struct);
  } else if (typeof (owner as lock_base).holders === "function") {
    (owner as lock_base).holders(out);
  }
}

export class wait_queue_head implements wait_queue_t, waitable {
  readonly name: string;
  private readonly sched: Sched;
  /** As lock_base.seq. */
  readonly seq: number;
  private readonly instance: string | (() => string);
  private entries: wait_entry[] | null = null;

  /** `instance`: which one, for reports. */
  constructor(machine: Machine, name: string, instance: string | (() => string) = "") {
    this.sched = machine.sched;
    this.seq = machine.nr_objects++;
    this.name = name;
    this.instance = instance;
  }

  get lock_name(): string {
    return this.name;
  }
  label(): string {
    return typeof this.instance === "string" ? this.instance : this.instance();
  }

  wait_event(cond: () => boolean, opts: wait_event_opts = NO_OPTS): MaybeWait {
    const s = this.sched;
    if (s.exploring) {
      const p = s.sched_point();
      if (p !== undefined) return this.wait_after(p, cond, opts);
      if (s.observer !== null) s.observer.touch(this, true);
    }
    return cond() ? undefined : this.wait_loop(cond, opts);
  }

  private async wait_after(
    point: Promise<void>,
    cond: () => boolean,
    opts: wait_event_opts,
  ): Promise<void> {
    await point;
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    if (!cond()) await this.wait_loop(cond, opts);
  }

  private async wait_loop(cond: () => boolean, opts: wait_event_opts): Promise<void> {
    do {
      await this.wait(opts);
      if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    } while (!cond());
  }

  /** False if `ns` nanoseconds passed before the condition held. */
  async wait_event_timeout(
    cond: () => boolean,
    ns: number,
    opts: wait_event_opts = NO_OPTS,
  ): Promise<boolean> {
    const s = this.sched;
    const end = s.machine.clock.now_ns + ns;
    while (!cond()) {
      if (s.machine.clock.now_ns >= end) return false;
      const t = s.current;
      const timer = s.timers.add(end, opts.idle === true, () => {
        this.cancel_wait(t);
        s.wake(t);
      });
      s.note_idle_work();
      try {
        await this.sleep(opts, sleep_flags(opts) | WAIT_TIMED);
      } finally {
        s.timers.del(timer);
      }
    }
    return true;
  }

  wait(opts: wait_event_opts = NO_OPTS): Promise<void> {
    return this.sleep(opts, sleep_flags(opts));
  }

  private sleep(opts: wait_event_opts, flags: number): Promise<void> {
    const t = this.sched.current;
    const exclusive = opts.exclusive === true;
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    const entry = { task: t, exclusive, key: opts.key, owner: opts.owner };
    this.entries ??= [];
    if (exclusive) this.entries.push(entry);
    else this.entries.unshift(entry);
    return this.sched.block(this, WAIT_EVENT, flags);
  }

  wake_up(nr_exclusive = 1): void {
    this.wake(nr_exclusive, undefined);
  }
  wake_up_all(): void {
    this.wake(Infinity, undefined);
  }
  /** Wakes only sleepers with this key (and those without one). */
  wake_up_key(key: unknown, nr_exclusive = 1): void {
    this.wake(nr_exclusive, key);
  }

  private wake(nr_exclusive: number, key: unknown): void {
    const q = this.entries;
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    if (q === null || q.length === 0) return;
    const kept: wait_entry[] = [];
    let left = nr_exclusive;
    for (const e of q) {
      const other = key !== undefined && e.key !== undefined && e.key !== key;
      if (other || (e.exclusive && left === 0)) {
        kept.push(e);
        continue;
      }
      if (e.exclusive) left--;
      this.sched.wake(e.task);
    }
    this.entries = kept;
  }

  /** For exploration: what belongs to this queue was looked at or changed. */
  touch(): void {
    this.sched.observer?.touch(this, true);
  }

  has_waiters(): boolean {
    return this.entries !== null && this.entries.length > 0;
  }

  blockers(task: task_struct, out: task_struct[]): void {
    const e = this.entries?.find((w) => w.task === task);
    if (e?.owner !== undefined) add_owners(e.owner(), out);
  }
  cancel_wait(task: task_struct): void {
    const i = this.entries?.findIndex((w) => w.task === task) ?? -1;
    if (i >= 0) this.entries!.splice(i, 1);
  }
}

export function new_wait_queue(
  machine: Machine,
  name: string,
  instance: string | (() => string) = "",
): wait_queue_head {
  return new wait_queue_head(machine, name, instance);
}
