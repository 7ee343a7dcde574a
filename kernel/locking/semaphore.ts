/**
 * kernel/locking/semaphore.ts - counting semaphore; nobody owns it, so its waits have no edge in
 * the wait-for graph. Linux: kernel/locking/semaphore.c.
 */
import type { lock_class_key, MaybeWait } from "../include/locks.ts";
import type { Machine } from "../machine.ts";
import { WAIT_EVENT, WAIT_KILLABLE, type task_struct } from "../sched/task.ts";
import { dequeue, lock_base, type lock_label } from "./lock.ts";

export class semaphore extends lock_base {
  private count: number;
  private readonly waiters: task_struct[] = [];

  constructor(machine: Machine, key: lock_class_key, count: number, instance: lock_label = null) {
    super(machine, key, instance);
    this.count = count;
  }

  down(): MaybeWait {
    return this.down_flags(0);
  }
  down_killable(): MaybeWait {
    return this.down_flags(WAIT_KILLABLE);
  }
  private down_flags(flags: number): MaybeWait {
    const p = this.sched.sched_point();
    return p === undefined ? this.down_now(flags) : this.down_after(p, flags);
  }
  private async down_after(point: Promise<void>, flags: number): Promise<void> {
    await point;
    const p = this.down_now(flags);
    if (p !== undefined) await p;
  }
  private down_now(flags: number): MaybeWait {
    if (this.down_trylock()) return undefined;
    this.waiters.push(this.sched.current);
    return this.sched.block(this, WAIT_EVENT, flags);
  }
  down_trylock(): boolean {
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    if (this.count === 0) return false;
    this.count--;
    return true;
  }
  /** By any task. */
  up(): void {
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    const next = this.waiters.shift();
    if (next === undefined) this.count++;
    else this.sched.wake(next);
  }

  is_locked(): boolean {
    return this.count === 0;
  }
  override holders(): void {}
  override blockers(): void {}
  override cancel_wait(task: task_struct): void {
    dequeue(this.waiters, task);
  }
}
