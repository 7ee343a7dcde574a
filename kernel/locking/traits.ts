/**
 * kernel/locking/traits.ts - what lockdep has to know of a kind of lock. Linux: the wait types and
 * lock types of include/linux/lockdep_types.h.
 *
 * A lock of outer type t may be taken where the strictest lock held has inner type t or more.
 */

/** Not checked. */
export const LD_WAIT_INV = 0;
/** Waits for nothing: RCU. */
export const LD_WAIT_FREE = 1;
/** Spins whatever the kernel's configuration: raw_spinlock_t. */
export const LD_WAIT_SPIN = 2;
/** Spins here, sleeps on a realtime kernel: spinlock_t. */
export const LD_WAIT_CONFIG = 3;
export const LD_WAIT_SLEEP = 4;
/** More than any lock: a task that holds nothing. */
export const LD_WAIT_MAX = 5;

export interface lock_traits {
  /** What may be taken inside. */
  readonly inner: number;
  /** Where it may be taken. */
  readonly outer: number;
  /** local_lock_t: not a dependency between processors. */
  readonly percpu: boolean;
  /** False: on the stack of held locks, but its order is not judged (RCU, page locks). */
  readonly check: boolean;
  /** Readers nest in interrupts only: queued rwlocks. */
  readonly queued_read: boolean;
}

function traits(inner: number, outer: number, more: Partial<lock_traits> = {}): lock_traits {
  return Object.freeze({ inner, outer, percpu: false, check: true, queued_read: false, ...more });
}

/** mutex, rwsem, rt_mutex. */
export const SLEEPING = traits(LD_WAIT_SLEEP, LD_WAIT_SLEEP);
export const SPINNING = traits(LD_WAIT_CONFIG, LD_WAIT_CONFIG);
export const RAW_SPINNING = traits(LD_WAIT_SPIN, LD_WAIT_SPIN);
export const RWLOCK = traits(LD_WAIT_CONFIG, LD_WAIT_CONFIG, { queued_read: true });
export const LOCAL_LOCK = traits(LD_WAIT_CONFIG, LD_WAIT_CONFIG, { percpu: true });
/** Lock maps, freeze levels, acquire tickets: an order and nothing else. */
export const UNTYPED = traits(LD_WAIT_INV, LD_WAIT_INV);
/** Page and buffer locks: Linux does not show them to lockdep, as others may unlock them. */
export const UNSEEN = traits(LD_WAIT_INV, LD_WAIT_INV, { check: false });
/** rcu and rcu_bh; rcu_sched. */
export const RCU_READ = traits(LD_WAIT_CONFIG, LD_WAIT_FREE, { check: false });
export const RCU_SCHED_READ = traits(LD_WAIT_SPIN, LD_WAIT_FREE, { check: false });
