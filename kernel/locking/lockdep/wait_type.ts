/**
 * kernel/locking/lockdep/wait_type.ts - words for a lock taken where it must not wait. Linux:
 * check_wait_context() in kernel/locking/lockdep.c.
 */
import { LD_WAIT_CONFIG, LD_WAIT_SLEEP, LD_WAIT_SPIN } from "../traits.ts";
import type { dep_held, dep_task } from "./classes.ts";

const KINDS: readonly string[] = Object.freeze([
  "waits for nothing",
  "waits for nothing",
  "spins always",
  "sleeps on a realtime kernel",
  "sleeps",
]);

function place(ts: dep_task, strictest: number): string {
  for (let i = ts.depth - 1; i >= 0; i--) {
    const h = ts.held[i]!;
    if (h.context !== ts.context) break;
    if (h.cls.inner === strictest) return `${h.cls.name} is held`;
  }
  if (ts.task.hardirq_context > 0) return "this is a hardirq handler";
  return ts.task.softirq_context > 0 ? "this is a softirq handler" : "sleeping is forbidden";
}

export function wait_context_text(ts: dep_task, next: dep_held, strictest: number): string {
  const allowed =
    strictest === LD_WAIT_SPIN
      ? "only raw spinlocks"
      : strictest === LD_WAIT_CONFIG
        ? "only locks that spin"
        : "only RCU";
  const kind = KINDS[Math.min(next.cls.outer, LD_WAIT_SLEEP)]!;
  return `it ${kind}, but ${place(ts, strictest)}: ${allowed} may be taken here`;
}
