/**
 * kernel/locking/locks.ts - every lock class in one import. Reading order of the folder: lock.ts,
 * mutex.ts, rwsem.ts, waitgraph.ts, report.ts.
 */
export { bit_lock } from "./bit_lock.ts";
export { busy_begin, busy_end, busy_tasks } from "./busy.ts";
export { lock_base, lock_class, type lock_label, type LockObserver } from "./lock.ts";
export { local_lock } from "./local_lock.ts";
export {
  fs_reclaim_acquire,
  fs_reclaim_release,
  lock_map,
  memalloc_nofs_restore,
  memalloc_nofs_save,
  might_alloc,
} from "./lock_map.ts";
export { mutex } from "./mutex.ts";
export { percpu_ref } from "./percpu_ref.ts";
export { rt_mutex } from "./rtmutex.ts";
export { percpu_rwsem, rw_semaphore } from "./rwsem.ts";
export {
  call_rcu,
  rcu_barrier,
  rcu_read_lock,
  rcu_read_lock_bh,
  rcu_read_lock_held,
  rcu_read_lock_sched,
  rcu_read_unlock,
  rcu_read_unlock_bh,
  rcu_read_unlock_sched,
  synchronize_rcu,
} from "./rcu.ts";
export { semaphore } from "./semaphore.ts";
export { raw_spinlock, rwlock, spinlock } from "./spinlock.ts";
export { srcu } from "./srcu.ts";
export { define_ww_class, ww_acquire_ctx, ww_mutex, type ww_class } from "./ww_mutex.ts";
export { completion } from "../sched/completion.ts";
export { new_wait_queue, wait_queue_head } from "../sched/wait.ts";
