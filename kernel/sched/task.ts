/**
 * kernel/sched/task.ts - a thread of control. Linux: struct task_struct, include/linux/sched.h.
 *
 * Two kinds share the type: a thread that lives between calls given from outside (a process's
 * thread) and a task with a body (kernel thread, scenario thread). Fields without a note are
 * touched by the task itself or by Sched only; exactly one task runs, so no lock is needed.
 */
import type { cred } from "../include/cred.ts";
import type { mm_struct } from "../include/mm_types.ts";
import type { Kernel } from "../kernel.ts";
import type { lock_base } from "../locking/lock.ts";
import type { siginfo, signal_struct } from "../signal.ts";
import type { wait_queue_head } from "./wait.ts";

/** task.state */
export const TASK_OUTSIDE = 0; // between calls: in user mode, as it were
export const TASK_RUNNABLE = 1; // waits for the baton
export const TASK_RUNNING = 2; // holds the baton
export const TASK_BLOCKED = 3; // waits for task.waiting_on
export const TASK_DEAD = 4;

/** task.flags, values of include/linux/sched.h */
export const PF_EXITING = 0x4;
/** prctl(PR_MCE_KILL): the process chose how it hears of memory failures ... */
export const PF_MCE_PROCESS = 0x80;
export const PF_MEMALLOC = 0x800;
export const PF_NOFREEZE = 0x8000;
export const PF_MEMALLOC_NOFS = 0x40000;
export const PF_MEMALLOC_NOIO = 0x80000;
export const PF_KTHREAD = 0x200000;
/** ... and chose to hear of them before it meets them. */
export const PF_MCE_EARLY = 0x8000000;

/** How a sleep may end early: task.wait_flags. */
export const WAIT_UNINTERRUPTIBLE = 0;
export const WAIT_KILLABLE = 1;
export const WAIT_INTERRUPTIBLE = 2;
/** An idle service thread: nothing is wrong if it sleeps for ever (TASK_IDLE). */
export const WAIT_IDLE = 4;
/** Ends by itself when its time has passed: no edge of the wait-for graph, never a hang. */
export const WAIT_TIMED = 8;

/** Modes of holding or waiting, shared with lockdep. */
export const LOCK_EXCLUSIVE = 0; // of a lock that has no readers
export const LOCK_READ = 1;
export const LOCK_WRITE = 2;
/** A read that may nest in itself whoever waits (RCU, SRCU, rwlock in interrupts). */
export const LOCK_READ_RECURSIVE = 3;
/** Waits for an event rather than for a lock. */
export const WAIT_EVENT = 4;

/** One entry of a task's stack of held locks. Slots are reused. */
export interface held_lock {
  lock: lock_base | null;
  mode: number;
  subclass: number;
  /** Where it was taken; only with machine.stacks. */
  site: string | null;
}

/** Anything a task can wait for. */
export interface waitable {
  readonly lock_name: string;
  /** Which instance, e.g. "inode 12 of pmem0"; "" if there is only one. */
  label(): string;
  /** Who must act before `task`, which waits here, can go on. All of them must. */
  blockers(task: task_struct, out: task_struct[]): void;
  /** Takes `task` off the queue: its sleep ends early. */
  cancel_wait(task: task_struct): void;
}

export class task_struct {
  readonly kernel: Kernel;
  readonly pid: number;
  tgid: number;
  comm: string;
  cred: cred;
  mm: mm_struct | null = null;
  /** Descriptor table, owned by fs/. */
  files: unknown = null;
  /** Working directory, root and umask, owned by fs/. */
  fs: unknown = null;
  /** Pending signals and where they are delivered; shared by the threads of a process. */
  signal: signal_struct | null = null;
  flags = 0; // PF_*
  /** A signal of its own doing, delivered when the call under way ends: force_sig(). */
  forced_signal: siginfo | null = null;
  /** To be done when the call under way ends: task_work_add(). */
  task_works: (() => Promise<void>)[] | null = null;
  /** Running transaction handle of the journalling filesystem. */
  journal_info: unknown = null;
  pagefault_disabled = 0;
  /** kiocb and iterator that this task's reads and writes reuse (fs/read_write.ts). */
  io_scratch: unknown = null;
  /** Name of the system call under way, for reports; "" outside. */
  syscall = "";
  /** Whatever tools/ ties to this thread. */
  user_data: unknown = null;

  // scheduling: owned by Sched
  state = TASK_OUTSIDE;
  /** Body of a task that was spawned; null for a thread that gets calls from outside. */
  body: ((task: task_struct) => unknown) | null = null;
  /** A call from outside, or the body, is under way. */
  busy = false;
  /** A call on a running scenario thread's own object is under way. */
  in_call = false;
  /** Locks held when that call began. */
  call_held = 0;
  resume: (() => void) | null = null;
  fail: ((e: unknown) => void) | null = null;
  /** Set by a waker that ends the sleep with an error. */
  wake_error: unknown = null;
  /** Gave up the baton on the way to this lock: tries to take it when the baton is back. */
  attempting: lock_base | null = null;
  waiting_on: waitable | null = null;
  waiting_mode = 0;
  waiting_subclass = 0;
  wait_flags = 0;
  wait_site: string | null = null;
  /** The scenario thread that gave the call under way and sleeps until it is over. */
  caller: task_struct | null = null;
  /** Rejects the promise that the outside holds for the call under way. */
  outside_reject: ((e: unknown) => void) | null = null;
  /** Part of a reported deadlock: will never run again. */
  deadlocked = false;
  exit_value: unknown = undefined;
  exit_error: unknown = null;
  failed = false;
  /** Tasks waiting in join(); null: nobody. */
  joiners: wait_queue_head | null = null;
  join_seen = false;
  should_stop = false;

  // what it holds
  readonly held: held_lock[] = [];
  held_depth = 0;
  /** Spinlocks, RCU sections and preempt_disable() together: > 0 forbids sleeping. */
  atomic = 0;
  rcu_depth = 0;
  irq_disabled = 0;
  /** Nested hardirq handlers that run on top of this task (sched/irq.ts), and softirq handlers. */
  hardirq_context = 0;
  softirq_context = 0;
  /** The hardirq handler runs in a thread on a realtime kernel. */
  hardirq_threaded = false;
  /** local_bh_disable() depth; a softirq handler counts. */
  bh_disabled = 0;
  /** The lock that serialises those of one class that are about to be taken. */
  waiting_nest: lock_base | null = null;
  /** Owned by lockdep. */
  dep_state: unknown = null;

  constructor(kernel: Kernel, pid: number, comm: string, c: cred) {
    this.kernel = kernel;
    this.pid = pid;
    this.tgid = pid;
    this.comm = comm;
    this.cred = c;
  }

  /** "dd (pid 7)" */
  toString(): string {
    return `${this.comm} (pid ${this.pid})`;
  }
}

/** Notes that `task` now holds `lock`. No allocation once the stack has grown. */
export function push_held(
  task: task_struct,
  lock: lock_base,
  mode: number,
  subclass: number,
  site: string | null,
): void {
  const depth = task.held_depth++;
  const slot = task.held[depth];
  if (slot === undefined) {
    task.held[depth] = { lock, mode, subclass, site };
    return;
  }
  slot.lock = lock;
  slot.mode = mode;
  slot.subclass = subclass;
  slot.site = site;
}

/** Drops the youngest hold of `lock` with `mode`; false if there is none. */
export function pop_held(task: task_struct, lock: lock_base, mode: number): boolean {
  const top = task.held_depth - 1;
  const slot = top < 0 ? undefined : task.held[top];
  if (slot === undefined || slot.lock !== lock || slot.mode !== mode) {
    return pop_below(task, lock, (h) => h.mode === mode);
  }
  slot.lock = null;
  task.held_depth = top;
  return true;
}

/** As pop_held() for the hold of an SRCU section: its side is the subclass. */
export function pop_held_subclass(task: task_struct, lock: lock_base, subclass: number): boolean {
  const top = task.held_depth - 1;
  const slot = top < 0 ? undefined : task.held[top];
  if (slot === undefined || slot.lock !== lock || slot.subclass !== subclass) {
    return pop_below(task, lock, (h) => h.subclass === subclass);
  }
  slot.lock = null;
  task.held_depth = top;
  return true;
}

/** Not the youngest: takes it out from under the others. */
function pop_below(task: task_struct, lock: lock_base, is: (h: held_lock) => boolean): boolean {
  const held = task.held;
  const top = task.held_depth - 1;
  for (let i = top; i >= 0; i--) {
    const slot = held[i]!;
    if (slot.lock !== lock || !is(slot)) continue;
    for (let j = i; j < top; j++) held[j] = held[j + 1]!;
    held[top] = slot;
    slot.lock = null;
    task.held_depth = top;
    return true;
  }
  return false;
}

/** The youngest hold of `lock` by `task`, in whatever mode, or null. */
export function find_held(task: task_struct, lock: lock_base): held_lock | null {
  for (let i = task.held_depth - 1; i >= 0; i--) {
    const slot = task.held[i]!;
    if (slot.lock === lock) return slot;
  }
  return null;
}
