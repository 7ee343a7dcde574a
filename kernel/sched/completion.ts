/**
 * kernel/sched/completion.ts - "it is done" for one or for all. Linux: kernel/sched/completion.c.
 */
import type { completion as completion_t, MaybeWait, wait_opts } from "../include/locks.ts";
import type { Machine } from "../machine.ts";
import { wait_queue_head } from "./wait.ts";

export class completion implements completion_t {
  private count = 0;
  private readonly queue: wait_queue_head;
  /** Who will call complete(), when known: makes the wait part of the wait-for graph. */
  owner: unknown = null;

  constructor(machine: Machine, name: string, instance: string | (() => string) = "") {
    this.queue = new wait_queue_head(machine, name, instance);
  }

  get done(): boolean {
    return this.count > 0;
  }

  /** Lets one waiter, now or later, through. */
  complete(): void {
    this.count++;
    this.queue.wake_up(1);
  }
  /** Lets everyone through until reinit(). */
  complete_all(): void {
    this.count = Infinity;
    this.queue.wake_up_all();
  }
  reinit(): void {
    this.count = 0;
  }

  wait(opts?: wait_opts): MaybeWait {
    if (this.count > 0) {
      this.queue.touch();
      this.count--;
      return undefined;
    }
    return this.wait_slow(opts);
  }

  private async wait_slow(opts?: wait_opts): Promise<void> {
    const owner = (): unknown => this.owner;
    await this.queue.wait_event(() => this.done, { exclusive: true, owner, ...opts });
    this.count--;
  }

  /** False if `ns` nanoseconds passed first. */
  async wait_timeout(ns: number): Promise<boolean> {
    if (!(await this.queue.wait_event_timeout(() => this.done, ns, { exclusive: true }))) {
      return false;
    }
    this.count--;
    return true;
  }
}
