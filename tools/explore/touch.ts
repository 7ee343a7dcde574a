/**
 * tools/explore/touch.ts - hears every lock operation of a Machine beside the lock validator.
 *
 * Lock code tells machine.dep; this takes its place and passes everything on, so that both hear,
 * also after the validator has switched itself off.
 */
import type { lock_base, LockObserver } from "../../kernel/locking/lock.ts";
import type { Machine } from "../../kernel/machine.ts";
import {
  LOCK_EXCLUSIVE,
  LOCK_READ,
  LOCK_READ_RECURSIVE,
  type task_struct,
} from "../../kernel/sched/task.ts";

/** Told before the lock is taken; `contended` follows if it has to be waited for. */
export interface lock_listener {
  acquired(task: task_struct, lock: lock_base, mode: number): void;
  contended(task: task_struct, lock: lock_base, mode: number): void;
  released(task: task_struct, lock: lock_base, mode: number): void;
}

export function is_read(mode: number): boolean {
  return mode === LOCK_READ || mode === LOCK_READ_RECURSIVE;
}

/** Lockdep's pseudo locks (reclaim, an open transaction) make nobody wait. */
function waits(lock: unknown): lock is lock_base {
  return (lock as { never_waits?: boolean }).never_waits !== true;
}

/** Stands before the validator, which may come and go. */
interface tap extends LockObserver {
  readonly listeners: lock_listener[];
}

function make_tap(m: Machine): tap {
  const behind = { dep: m.dep };
  const listeners: lock_listener[] = [];
  Object.defineProperty(m, "dep", {
    get: () => made,
    set: (dep: LockObserver | null) => {
      behind.dep = dep;
    },
  });
  const made: tap = {
    listeners,
    acquire(t, lock, mode, ...rest) {
      if (waits(lock)) for (const l of listeners) l.acquired(t, lock, mode);
      behind.dep?.acquire(t, lock, mode, ...rest);
    },
    contended(t, lock, mode) {
      if (waits(lock)) for (const l of listeners) l.contended(t, lock, mode);
      behind.dep?.contended(t, lock, mode);
    },
    release(t, lock, mode) {
      if (waits(lock)) for (const l of listeners) l.released(t, lock, mode);
      behind.dep?.release(t, lock, mode);
    },
    sync(t, lock) {
      if (waits(lock)) for (const l of listeners) l.acquired(t, lock, LOCK_EXCLUSIVE);
      behind.dep?.sync(t, lock);
    },
    irq_state: (t, on) => behind.dep?.irq_state(t, on),
    clean: (t) => behind.dep?.clean(t) ?? true,
    misuse: (...what) => behind.dep?.misuse(...what),
  };
  return made;
}

export function listen_to_locks(m: Machine, to: lock_listener): void {
  const dep = m.dep as Partial<tap> | null;
  const listeners = dep?.listeners ?? make_tap(m).listeners;
  listeners.push(to);
}
