/**
 * kernel/notifier.ts - chains of callbacks. Linux: kernel/notifier.c. Higher priority first; equal
 * priorities in order of registration. One class stands for the raw and the blocking chain: a
 * callback that sleeps makes the call return a promise.
 */
import { BUG } from "./assert.ts";
import { EEXIST } from "./include/errno.ts";
import type { Sometime } from "./include/fs.ts";

export const NOTIFY_DONE = 0x0000;
export const NOTIFY_OK = 0x0001;
/** Set in an answer: nobody else is asked. */
export const NOTIFY_STOP_MASK = 0x8000;
export const NOTIFY_BAD = NOTIFY_STOP_MASK | 0x0002;
export const NOTIFY_STOP = NOTIFY_OK | NOTIFY_STOP_MASK;

export interface notifier_block<T = unknown> {
  notifier_call(action: number, data: T): Sometime<number>;
  readonly priority?: number;
}

export class notifier_head<T = unknown> {
  private chain: notifier_block<T>[] = [];

  register(nb: notifier_block<T>): void {
    if (this.chain.includes(nb)) throw EEXIST;
    const priority = nb.priority ?? 0;
    let i = this.chain.findIndex((o) => (o.priority ?? 0) < priority);
    if (i < 0) i = this.chain.length;
    // A new array: a chain being called goes on with the old one.
    this.chain = [...this.chain.slice(0, i), nb, ...this.chain.slice(i)];
  }

  unregister(nb: notifier_block<T>): void {
    if (!this.chain.includes(nb)) BUG("unregister of a notifier that is not on the chain");
    this.chain = this.chain.filter((o) => o !== nb);
  }

  /** Asks everyone in order; the last answer, or the one that said stop. */
  call(action: number, data: T): Sometime<number> {
    return this.call_from(this.chain, 0, action, data, NOTIFY_DONE);
  }

  private call_from(
    chain: readonly notifier_block<T>[],
    from: number,
    action: number,
    data: T,
    last: number,
  ): Sometime<number> {
    let ret = last;
    for (let i = from; i < chain.length; i++) {
      const answer = chain[i]!.notifier_call(action, data);
      if (typeof answer !== "number") {
        return answer.then((r) =>
          r & NOTIFY_STOP_MASK ? r : this.call_from(chain, i + 1, action, data, r),
        );
      }
      ret = answer;
      if (ret & NOTIFY_STOP_MASK) break;
    }
    return ret;
  }
}
