/**
 * kernel/machine.ts - one universe: tasks, time, randomness, and the kernels that live in it.
 *
 * All state hangs off a Machine; two Machines share nothing. Same script, same seed, same strategy:
 * same trace. A Machine is cheap to make: exploring a scenario makes one for every schedule.
 */
import { EventEmitter } from "eventemitter3";
import type { Sometime } from "./include/fs.ts";
import type { Kernel } from "./kernel.ts";
import type { LockObserver } from "./locking/lock.ts";
import { Lockdep, type lockdep_options, type lockdep_report } from "./locking/lockdep.ts";
import { report_task, type deadlock_report, type task_report } from "./locking/report.ts";
import { Random } from "./random.ts";
import { Sched, type RunResult } from "./sched/sched.ts";
import { run_on, type Scheduler } from "./sched/strategy.ts";
import { PF_KTHREAD, type task_struct, TASK_BLOCKED } from "./sched/task.ts";
import { VirtualClock } from "./time.ts";

export interface MachineOptions {
  /** Same seed, same run. Default 1. */
  seed?: number;
  /** Who runs next; default: run on until blocked, then first come first served. */
  strategy?: Scheduler;
  /** Record where each lock is taken (slow: for repeating a run that went wrong). */
  stacks?: boolean;
  /** Look for wait-for cycles whenever a task falls asleep. Default true. */
  detect?: boolean;
  /** Validate the order of locks. Default false. */
  lockdep?: boolean | lockdep_options;
  /** Task switches after which a run is given up (StepLimit). Default 10 million. */
  max_steps?: number;
  /** Seconds since 1970 at boot. Default 2024-01-01. */
  boot_time?: number;
}

const MAX_STEPS = 10_000_000;

export class Machine {
  readonly seed: number;
  readonly stacks: boolean;
  readonly detect: boolean;
  readonly clock: VirtualClock;
  readonly sched: Sched;
  readonly kernels: Kernel[] = [];
  /** Deadlocks and hangs found so far, oldest first. */
  readonly reports: deadlock_report[] = [];
  /** Lock validator, or null: then nobody pays for it. */
  dep: LockObserver | null = null;
  /** The same, also after its first report has switched it off. */
  readonly lockdep: Lockdep | null = null;
  /** Locks, wait queues and marked variables made so far. */
  nr_objects = 0;
  /** Tickets of wound/wait mutexes drawn so far. */
  ww_stamp = 0;
  /** Chunks of physical memory, owned by mm/. */
  memory: unknown = null;
  private random_state: Random | null = null;
  private emitter: EventEmitter | null = null;

  constructor(opts: MachineOptions = {}) {
    this.seed = opts.seed ?? 1;
    this.stacks = opts.stacks ?? false;
    this.detect = opts.detect ?? true;
    this.clock = new VirtualClock(opts.boot_time);
    const strategy = opts.strategy ?? run_on;
    this.sched = new Sched(this, strategy, opts.max_steps ?? MAX_STEPS);
    strategy.new_execution();
    const lockdep = opts.lockdep ?? false;
    if (lockdep !== false) {
      this.lockdep = new Lockdep(this, lockdep === true ? undefined : lockdep);
      this.dep = this.lockdep;
    }
  }

  get random(): Random {
    this.random_state ??= new Random(this.seed);
    return this.random_state;
  }

  /** For observers only: nothing in the kernel listens. */
  get events(): EventEmitter {
    this.emitter ??= new EventEmitter();
    return this.emitter;
  }

  /** Called for each deadlock or hang: kept, and told to observers. */
  note_report(report: deadlock_report): void {
    this.reports.push(report);
    this.emitter?.emit(report.kind, report);
  }

  /** Called for each order of locks that could deadlock. */
  note_lockdep(report: lockdep_report): void {
    this.emitter?.emit(report.kind, report);
  }

  /** Makes a thread that gets its calls from outside (sched.call()). */
  new_thread(kernel: Kernel, name: string): task_struct {
    return this.sched.add_thread(kernel.new_task(name));
  }

  /**
   * A task with a body: a scenario thread. Runs once somebody calls run(), or a call blocks or
   * ends.
   */
  spawn(kernel: Kernel, name: string, fn: (task: task_struct) => unknown): task_struct {
    return this.sched.spawn(kernel.new_task(name), fn);
  }

  /** Starts a kernel thread (kthread_run): runs without run(); sleeping for work is no hang. */
  kthread_run(kernel: Kernel, name: string, fn: (task: task_struct) => unknown): task_struct {
    const t = kernel.new_task(name);
    t.flags |= PF_KTHREAD;
    return this.sched.start(t, fn);
  }

  /**
   * Runs `fn` as a task of its own made for this one call: for tests, and for boot code that may
   * sleep. A plain result of an idle machine comes back plainly.
   */
  in_task<T>(kernel: Kernel, name: string, fn: (task: task_struct) => Sometime<T>): Sometime<T> {
    const t = this.new_thread(kernel, name);
    const end = (): void => {
      if (t.state !== TASK_BLOCKED) this.sched.exit_thread(t);
    };
    let r: Sometime<T>;
    try {
      r = this.sched.call(t, fn);
    } catch (e) {
      end();
      throw e;
    }
    if (typeof r === "object" && r !== null && typeof (r as Promise<T>).then === "function") {
      return (r as Promise<T>).finally(end);
    }
    end();
    return r;
  }

  /**
   * Runs until nothing can go on; virtual time advances when every task waits and one waits for
   * time. Rejects with the first error that no caller got, with a Deadlock, or with a Hang if tasks
   * sleep that nobody can wake.
   */
  run(): Promise<RunResult> {
    return this.sched.run();
  }

  /** Like run(), for use between calls: tasks that still sleep are no error. */
  settle(): Promise<void> {
    return this.sched.settle();
  }

  /** Every sleeping task: what it waits for, what it holds, whom it waits for. */
  blocked_tasks(): task_report[] {
    return [...this.sched.tasks].filter((t) => t.state === TASK_BLOCKED).map(report_task);
  }
}
