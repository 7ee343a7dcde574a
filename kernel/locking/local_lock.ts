/**
 * kernel/locking/local_lock.ts - names what preemption is switched off for. Linux:
 * include/linux/local_lock.h.
 *
 * There is one such lock on each processor, so it orders nothing between two of them; lockdep knows
 * that when it looks for interrupt inversions.
 */
import { BUG } from "../assert.ts";
import { LOCK_EXCLUSIVE, pop_held, push_held, type task_struct } from "../sched/task.ts";
import { lock_base } from "./lock.ts";
import { not_held } from "./misuse.ts";
import { call_site } from "./site.ts";
import { LOCAL_LOCK, type lock_traits } from "./traits.ts";

export class local_lock extends lock_base {
  private owner: task_struct | null = null;

  override get traits(): lock_traits {
    return LOCAL_LOCK;
  }

  lock(): void {
    const t = this.sched.current;
    const m = this.machine;
    t.atomic++;
    if (m.dep !== null) m.dep.acquire(t, this, LOCK_EXCLUSIVE, 0, false);
    if (this.owner !== null) {
      m.dep?.misuse(t, this, "api", `${this.owner} has it on this processor`);
      BUG(`local_lock: ${t} takes ${this.describe()}, which ${this.owner} has`);
    }
    this.owner = t;
    push_held(t, this, LOCK_EXCLUSIVE, 0, m.stacks ? call_site() : null);
  }

  unlock(): void {
    const t = this.sched.current;
    if (this.owner !== t || !pop_held(t, this, LOCK_EXCLUSIVE)) not_held(this, "local_unlock", t);
    if (this.machine.dep !== null) this.machine.dep.release(t, this, LOCK_EXCLUSIVE);
    this.owner = null;
    t.atomic--;
  }

  is_locked(): boolean {
    return this.owner !== null;
  }
  override holders(out: task_struct[]): void {
    if (this.owner !== null) out.push(this.owner);
  }
  override blockers(_task: task_struct, out: task_struct[]): void {
    this.holders(out);
  }
  override cancel_wait(): void {}
}
