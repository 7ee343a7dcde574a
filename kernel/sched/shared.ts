/**
 * kernel/sched/shared.ts - a marked variable: one that tasks read and write without a lock.
 * Linux: READ_ONCE() and WRITE_ONCE().
 *
 * Each access is a scheduling point, and exploration knows that two of them depend on each other. A
 * plain property is neither: what is read and written between two points counts as one step, and
 * partial-order reduction takes steps that share only plain properties for independent.
 */
import type { Machine } from "../machine.ts";
import type { Sched } from "./sched.ts";

export class shared<T> {
  readonly lock_name: string;
  /** As lock_base.seq. */
  readonly seq: number;
  private readonly sched: Sched;
  private value: T;

  /** `name`: for reports. */
  constructor(machine: Machine, name: string, value: T) {
    this.lock_name = name;
    this.seq = machine.nr_objects++;
    this.sched = machine.sched;
    this.value = value;
  }

  /** Another task may go first. */
  async read(): Promise<T> {
    const p = this.sched.sched_point();
    if (p) await p;
    return this.peek();
  }
  async write(value: T): Promise<void> {
    const p = this.sched.sched_point();
    if (p) await p;
    this.poke(value);
  }

  /** Without a point: within the step under way. */
  peek(): T {
    if (this.sched.observer !== null) this.sched.observer.touch(this, false);
    return this.value;
  }
  poke(value: T): void {
    if (this.sched.observer !== null) this.sched.observer.touch(this, true);
    this.value = value;
  }

  label(): string {
    return "";
  }
}
