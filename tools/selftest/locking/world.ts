/**
 * tools/selftest/locking/world.ts - what one cell of the lock validator's selftest runs in: an
 * empty Machine, one task, locks by name. Linux: the definitions at the head of
 * lib/locking-selftest.c.
 *
 * A to D are classes of one lock each; X1 and X2 are two locks of one class, as are Y1, Y2 and Z1,
 * Z2. Each kind of lock has classes of its own.
 */
import { is_kernel_bug } from "../../../kernel/assert.ts";
import type { lock_class_key, MaybeWait } from "../../../kernel/include/locks.ts";
import { Kernel } from "../../../kernel/kernel.ts";
import type { lock_base } from "../../../kernel/locking/lock.ts";
import type { lockdep_report } from "../../../kernel/locking/lockdep.ts";
import {
  define_ww_class,
  local_lock,
  lock_class,
  mutex,
  raw_spinlock,
  rt_mutex,
  rw_semaphore,
  rwlock,
  spinlock,
  ww_acquire_ctx,
  ww_mutex,
} from "../../../kernel/locking/locks.ts";
import { Machine } from "../../../kernel/machine.ts";
import {
  hardirq_enter,
  hardirq_exit,
  local_bh_disable,
  local_bh_enable,
  local_irq_disable,
  local_irq_enable,
  softirq_enter,
  softirq_exit,
} from "../../../kernel/sched/irq.ts";
import { TASK_RUNNING, type task_struct } from "../../../kernel/sched/task.ts";

export type lock_kind = "spin" | "wlock" | "rlock" | "mutex" | "wsem" | "rsem" | "rtmutex";
export type irq_kind = "hard" | "soft";

const WW = define_ww_class("ww_lockdep", true);

function now(p: MaybeWait): void {
  if (p !== undefined) throw new Error("a lock of a cell had to wait");
}

export class cell_world {
  readonly machine: Machine;
  readonly kernel: Kernel;
  readonly task: task_struct;
  private readonly keys = new Map<string, lock_class_key>();
  private readonly locks = new Map<string, lock_base>();

  constructor(read_recursive: boolean) {
    this.machine = new Machine({ lockdep: { read_recursive, order: false, sites: false } });
    this.kernel = new Kernel(this.machine);
    this.task = this.kernel.new_task("selftest");
    this.task.state = TASK_RUNNING;
    this.machine.sched.current = this.task;
  }

  private get<T extends lock_base>(
    family: string,
    name: string,
    make: new (m: Machine, key: lock_class_key, instance: string) => T,
  ): T {
    const id = `${family}_${name}`;
    let lock = this.locks.get(id);
    if (lock === undefined) {
      lock = new make(this.machine, this.key(`&${family}_${name[0]}`), id);
      this.locks.set(id, lock);
    }
    return lock as T;
  }

  private key(name: string): lock_class_key {
    let key = this.keys.get(name);
    if (key === undefined) this.keys.set(name, (key = lock_class(name)));
    return key;
  }

  spin(name: string): spinlock {
    return this.get("lock", name, spinlock);
  }
  raw(name: string): raw_spinlock {
    return this.get("raw_lock", name, raw_spinlock);
  }
  rw(name: string): rwlock {
    return this.get("rwlock", name, rwlock);
  }
  mutex(name: string): mutex {
    return this.get("mutex", name, mutex);
  }
  rwsem(name: string): rw_semaphore {
    return this.get("rwsem", name, rw_semaphore);
  }
  rt(name: string): rt_mutex {
    return this.get("rtmutex", name, rt_mutex);
  }
  local(name: string): local_lock {
    return this.get("local", name, local_lock);
  }

  // wound/wait objects and tickets
  ww(name: string): ww_mutex {
    let lock = this.locks.get(`ww_${name}`);
    if (lock === undefined) {
      this.locks.set(`ww_${name}`, (lock = new ww_mutex(this.machine, WW, name)));
    }
    return lock as ww_mutex;
  }
  ticket(): ww_acquire_ctx {
    return new ww_acquire_ctx(this.machine, WW);
  }

  lock(kind: lock_kind, name: string): void {
    switch (kind) {
      case "spin":
        this.spin(name).lock();
        return;
      case "wlock":
        this.rw(name).write_lock();
        return;
      case "rlock":
        this.rw(name).read_lock();
        return;
      case "mutex":
        now(this.mutex(name).lock());
        return;
      case "wsem":
        now(this.rwsem(name).down_write());
        return;
      case "rsem":
        now(this.rwsem(name).down_read());
        return;
      case "rtmutex":
        now(this.rt(name).lock());
        return;
    }
  }

  unlock(kind: lock_kind, name: string): void {
    switch (kind) {
      case "spin":
        this.spin(name).unlock();
        return;
      case "wlock":
        this.rw(name).write_unlock();
        return;
      case "rlock":
        this.rw(name).read_unlock();
        return;
      case "mutex":
        this.mutex(name).unlock();
        return;
      case "wsem":
        this.rwsem(name).up_write();
        return;
      case "rsem":
        this.rwsem(name).up_read();
        return;
      case "rtmutex":
        this.rt(name).unlock();
        return;
    }
  }

  init(kind: lock_kind, name: string): void {
    if (kind === "spin") this.spin(name).reinit();
    else if (kind === "wlock" || kind === "rlock") this.rw(name).reinit();
    else if (kind === "mutex") this.mutex(name).reinit();
    else if (kind === "wsem" || kind === "rsem") this.rwsem(name).reinit();
    else this.rt(name).reinit();
  }

  /** lock, body, unlock */
  held(kind: lock_kind, name: string, body: () => void = () => {}): void {
    this.lock(kind, name);
    body();
    this.unlock(kind, name);
  }

  /** The two locks nested. */
  pair(kind: lock_kind, outer: string, inner: string): void {
    this.held(kind, outer, () => this.held(kind, inner));
  }

  irq_disable(irq: irq_kind): void {
    if (irq === "hard") local_irq_disable(this.kernel);
    else local_bh_disable(this.kernel);
  }
  irq_enable(irq: irq_kind): void {
    if (irq === "hard") local_irq_enable(this.kernel);
    else local_bh_enable(this.kernel);
  }
  irq_off(irq: irq_kind, body: () => void): void {
    this.irq_disable(irq);
    body();
    this.irq_enable(irq);
  }

  /** `body` as an interrupt handler; a softirq handler here runs with hardirqs off. */
  in_irq(irq: irq_kind, body: () => void, threaded = true): void {
    if (irq === "hard") {
      hardirq_enter(this.kernel, threaded);
      body();
      hardirq_exit(this.kernel);
      return;
    }
    softirq_enter(this.kernel);
    local_irq_disable(this.kernel);
    body();
    local_irq_enable(this.kernel);
    softirq_exit(this.kernel);
  }
}

export interface cell_outcome {
  /** Null: silent. */
  report: lockdep_report | null;
  /** What the cell found wrong itself, or "". */
  error: string;
}

/** Runs one cell from nothing. A KernelBug is what follows a report; without one it is an error. */
export function run_cell(body: (w: cell_world) => void, read_recursive: boolean): cell_outcome {
  const w = new cell_world(read_recursive);
  let error = "";
  try {
    body(w);
  } catch (e) {
    error = (e as Error).message;
    if (is_kernel_bug(e) && w.machine.lockdep!.reports.length > 0) error = "";
  }
  return { report: w.machine.lockdep!.reports[0] ?? null, error };
}
