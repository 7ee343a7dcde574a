/**
 * kernel/locking/locks.ts - every lock class in one import. Reading order of the folder: lock.ts,
 * mutex.ts, rwsem.ts, waitgraph.ts, report.ts.
 */
export { bit_lock } from "./bit_lock.ts";
export { lock_base, lock_class, type lock_label, type LockObserver } from "./lock.ts";
export { mutex } from "./mutex.ts";
export { percpu_rwsem, rw_semaphore } from "./rwsem.ts";
export {
  call_rcu,
  rcu_barrier,
  rcu_read_lock,
  rcu_read_lock_held,
  rcu_read_unlock,
  synchronize_rcu,
} from "./rcu.ts";
export { semaphore } from "./semaphore.ts";
export { rwlock, spinlock } from "./spinlock.ts";
export { srcu } from "./srcu.ts";
export { completion } from "../sched/completion.ts";
export { new_wait_queue, wait_queue_head } from "../sched/wait.ts";
