/**
 * kernel/sched/irq.ts - interrupts and bottom halves, as far as locks care. Linux:
 * include/linux/irqflags.h, include/linux/bottom_half.h, kernel/softirq.c.
 *
 * Nothing interrupts a task here. A task can play a handler, between enter and exit, so that
 * lockdep sees which locks are taken where; whoever does must not sleep in between.
 */
import { BUG } from "../assert.ts";
import { ENABLED_HARDIRQ, ENABLED_SOFTIRQ } from "../locking/lockdep/usage.ts";
import type { has_sched } from "./core.ts";
import type { task_struct } from "./task.ts";

const HARDIRQS_ON = 1 << ENABLED_HARDIRQ;
const SOFTIRQS_ON = 1 << ENABLED_SOFTIRQ;

function changed(k: has_sched, t: task_struct, on: number): void {
  const dep = k.sched.machine.dep;
  if (dep !== null) dep.irq_state(t, on);
}

/** These nest: interrupts are on again after as many enables. */
export function local_irq_disable(k: has_sched): void {
  const t = k.sched.current;
  if (t.irq_disabled++ === 0) changed(k, t, 0);
}
export function local_irq_enable(k: has_sched): void {
  const t = k.sched.current;
  if (t.irq_disabled === 0) BUG(`local_irq_enable: ${t} has interrupts on`);
  if (--t.irq_disabled > 0) return;
  changed(k, t, t.bh_disabled === 0 ? HARDIRQS_ON | SOFTIRQS_ON : HARDIRQS_ON);
}

export function local_bh_disable(k: has_sched): void {
  const t = k.sched.current;
  t.atomic++;
  if (t.bh_disabled++ === 0) changed(k, t, 0);
}
export function local_bh_enable(k: has_sched): void {
  const t = k.sched.current;
  if (t.bh_disabled === 0) BUG(`local_bh_enable: ${t} has bottom halves on`);
  t.atomic--;
  if (--t.bh_disabled > 0) return;
  changed(k, t, t.irq_disabled === 0 ? SOFTIRQS_ON : 0);
}

/** `threaded`: a handler that a realtime kernel runs in a thread, so that its spinlocks sleep. */
export function hardirq_enter(k: has_sched, threaded = true): void {
  local_irq_disable(k);
  const t = k.sched.current;
  t.atomic++;
  t.hardirq_context++;
  t.hardirq_threaded = threaded;
  changed(k, t, 0);
}
export function hardirq_exit(k: has_sched): void {
  const t = k.sched.current;
  if (t.hardirq_context === 0) BUG(`hardirq_exit: ${t} is in no handler`);
  t.hardirq_context--;
  t.hardirq_threaded = false;
  t.atomic--;
  local_irq_enable(k);
}

export function softirq_enter(k: has_sched): void {
  local_bh_disable(k);
  const t = k.sched.current;
  t.softirq_context++;
  changed(k, t, 0);
}
export function softirq_exit(k: has_sched): void {
  const t = k.sched.current;
  if (t.softirq_context === 0) BUG(`softirq_exit: ${t} is in no handler`);
  t.softirq_context--;
  changed(k, t, 0);
  local_bh_enable(k);
}

export function in_hardirq(k: has_sched): boolean {
  return k.sched.current.hardirq_context > 0;
}
/** In a handler, or with bottom halves off. */
export function in_interrupt(k: has_sched): boolean {
  const t = k.sched.current;
  return t.hardirq_context > 0 || t.bh_disabled > 0;
}
export function irqs_disabled(k: has_sched): boolean {
  return k.sched.current.irq_disabled > 0;
}
