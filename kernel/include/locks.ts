/**
 * kernel/include/locks.ts - the lock types as their users see them. Classes: kernel/locking/.
 *
 * An operation that may sleep returns `undefined` when it did not have to, else a promise that
 * resolves once the lock is held: `const p = lock.down_write(); if (p) await p;`. Uncontended
 * operations allocate nothing. Spinlocks never yield.
 */
export type MaybeWait = Promise<void> | undefined;

/** A frozen module constant naming a lock class, e.g. `lock_class("&inode->i_rwsem")`. */
export interface lock_class_key {
  readonly name: string;
}

export interface spinlock_t {
  readonly lock_name: string;
  lock(subclass?: number): void;
  trylock(): boolean;
  unlock(): void;
  is_locked(): boolean;
  assert_held(): void;
}

export interface mutex {
  readonly lock_name: string;
  lock(subclass?: number): MaybeWait;
  trylock(): boolean;
  unlock(): void;
  is_locked(): boolean;
  assert_held(): void;
}

export interface rw_semaphore {
  readonly lock_name: string;
  down_read(subclass?: number): MaybeWait;
  down_write(subclass?: number): MaybeWait;
  down_read_trylock(): boolean;
  down_write_trylock(): boolean;
  up_read(): void;
  up_write(): void;
  downgrade_write(): void;
  is_locked(): boolean;
  is_contended(): boolean;
  assert_held(): void;
  assert_held_write(): void;
}

export interface percpu_rw_semaphore {
  readonly lock_name: string;
  down_read(): MaybeWait;
  down_read_trylock(): boolean;
  up_read(): void;
  down_write(): MaybeWait;
  up_write(): void;
  assert_held(): void;
  /** A freeze outlives the call: the lock stays taken for write without an owner ... */
  disown_write(): void;
  /** ... until the task that thaws takes it over and releases it. */
  adopt_write(): void;
}

export interface completion {
  complete(): void;
  complete_all(): void;
  wait(): MaybeWait;
  readonly done: boolean;
}

/**
 * A wait queue. `wait_event(cond, why)` sleeps until `cond()` holds; `why` is for reports and may
 * name an owner task or lock. Exclusive waiters are woken one at a time by `wake_up()`.
 */
export interface wait_queue_head {
  readonly name: string;
  wait_event(cond: () => boolean, opts?: wait_opts): MaybeWait;
  /** Sleeps once until woken, whatever the condition: for callers that recheck themselves. */
  wait(opts?: wait_opts): Promise<void>;
  wake_up(nr_exclusive?: number): void;
  wake_up_all(): void;
  has_waiters(): boolean;
}

export interface wait_opts {
  exclusive?: boolean;
  /** Signals that can kill interrupt the sleep: the promise rejects with EINTR/ERESTARTSYS. */
  killable?: boolean;
  interruptible?: boolean;
  /** Who must act for this wait to end, when known: makes the wait part of the wait-for graph. */
  owner?: () => unknown;
  /** Waiters with another key are not woken by `wake_up_key`. */
  key?: unknown;
}

/** A bit lock (page lock, buffer lock, DAX entry lock): owner known, waits are visible. */
export interface bit_lock {
  readonly lock_name: string;
  lock(): MaybeWait;
  trylock(): boolean;
  unlock(): void;
  is_locked(): boolean;
}

export interface srcu_struct {
  read_lock(): number;
  read_unlock(idx: number): void;
  synchronize(): MaybeWait;
}
