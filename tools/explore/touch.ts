/**
 * tools/explore/touch.ts - hears every lock operation of a Machine beside the lock validator.
 *
 * Lock code tells machine.dep; this takes its place and passes everything on, so that both hear.
 */
import type { lock_base, LockObserver } from "../../kernel/locking/lock.ts";
import type { Machine } from "../../kernel/machine.ts";
import {
  LOCK_EXCLUSIVE,
  LOCK_READ,
  LOCK_READ_RECURSIVE,
  type task_struct,
} from "../../kernel/sched/task.ts";

/** What a listener is told; each is optional. */
export interface lock_listener {
  acquired(task: task_struct, lock: lock_base, mode: number, tried: boolean): void;
  contended(task: task_struct, lock: lock_base, mode: number): void;
  released(task: task_struct, lock: lock_base, mode: number): void;
}

export function is_read(mode: number): boolean {
  return mode === LOCK_READ || mode === LOCK_READ_RECURSIVE;
}

/** What a Machine without a validator gets. */
const NOBODY = Object.freeze({
  acquire() {},
  contended() {},
  release() {},
  sync() {},
  irq_state() {},
  clean: () => true,
  misuse() {},
});

type any_fn = (...args: unknown[]) => unknown;

/** `first` runs, then what was there before. */
function before(dep: Record<string, unknown>, name: string, first: any_fn): void {
  const old = dep[name] as any_fn | undefined;
  dep[name] = (...args: unknown[]): unknown => {
    first(...args);
    return old?.apply(dep, args);
  };
}

/** Lockdep's pseudo locks (reclaim, an open transaction) make nobody wait. */
function waits(lock: unknown): lock is lock_base {
  return (lock as { never_waits?: boolean }).never_waits !== true;
}

export function listen_to_locks(m: Machine, to: lock_listener): void {
  const nothing = { ...NOBODY };
  const dep = (m.dep ?? nothing) as unknown as Record<string, unknown>;
  before(dep, "acquire", (t, lock, mode, _sub, tried) => {
    if (waits(lock)) to.acquired(t as task_struct, lock, mode as number, tried === true);
  });
  before(dep, "contended", (t, lock, mode) => {
    if (waits(lock)) to.contended(t as task_struct, lock, mode as number);
  });
  before(dep, "release", (t, lock, mode) => {
    if (waits(lock)) to.released(t as task_struct, lock, mode as number);
  });
  before(dep, "sync", (t, lock) => {
    if (waits(lock)) to.acquired(t as task_struct, lock, LOCK_EXCLUSIVE, true);
  });
  m.dep = dep as unknown as LockObserver;
}
