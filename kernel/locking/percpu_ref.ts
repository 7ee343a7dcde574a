/**
 * kernel/locking/percpu_ref.ts - a count of users that somebody waits to drain before the thing
 * goes. Linux: lib/percpu-refcount.c.
 *
 * Users that take and drop the reference themselves, within a call, are known (get_busy), so that
 * who waits for the drain is known to wait for them.
 */
import { BUG } from "../assert.ts";
import type { MaybeWait } from "../include/locks.ts";
import type { Machine } from "../machine.ts";
import { wait_queue_head } from "../sched/wait.ts";
import { busy_begin, busy_end, busy_tasks } from "./busy.ts";

const USER = 1;

export class percpu_ref {
  /** Users, and 1 of whoever made it until kill(). */
  private count = 1;
  private dead = false;
  private readonly queue: wait_queue_head;
  private readonly machine: Machine;

  constructor(machine: Machine, name: string, instance: string | (() => string) = "") {
    this.machine = machine;
    this.queue = new wait_queue_head(machine, name, instance);
  }

  get(): void {
    this.count++;
  }
  put(): void {
    if (this.count === 0) BUG(`percpu_ref_put: ${this.queue.name} has no user`);
    if (--this.count === 0) this.queue.wake_up_all();
  }

  /** False once kill() was called. */
  tryget_live(): boolean {
    if (this.dead) return false;
    this.count++;
    return true;
  }

  /** A use by the running task, which ends it itself. False once kill() was called. */
  get_busy(): boolean {
    if (!this.tryget_live()) return false;
    busy_begin(this.machine, this, USER);
    return true;
  }
  put_busy(): void {
    busy_end(this.machine, this, USER);
    this.put();
  }

  is_dying(): boolean {
    return this.dead;
  }
  is_zero(): boolean {
    return this.count === 0;
  }

  /** No new users; the maker's reference goes. */
  kill(): void {
    if (this.dead) BUG(`percpu_ref_kill: ${this.queue.name} was killed before`);
    this.dead = true;
    this.put();
  }

  /** Waits until the last user has gone. */
  drain(): MaybeWait {
    const owner = (): unknown => busy_tasks(this.machine, this, USER);
    return this.queue.wait_event(() => this.count === 0, { owner });
  }
}
