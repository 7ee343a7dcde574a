/**
 * kernel/locking/lockdep/usage.ts - in which interrupt contexts a class is used. Linux: enum
 * lock_usage_bit, mark_lock(), check_irq_usage() in kernel/locking/lockdep.c.
 *
 * "Used in hardirq context" (safe) and "held with hardirqs enabled" (unsafe) exclude each other:
 * for one class, and along any strong path from a safe to an unsafe class. The same for softirqs.
 * Reads are kept apart: a recursive read in an interrupt does not wait for the read that it
 * interrupted.
 */
import type { path_node } from "./graph.ts";

/** Bit numbers: four for each kind of interrupt. +1: by readers. +2: enabled, else used in. */
export const USED_IN_HARDIRQ = 0;
export const ENABLED_HARDIRQ = 2;
export const USED_IN_SOFTIRQ = 4;
export const ENABLED_SOFTIRQ = 6;
const READ_BIT = 1;
const ENABLED_BIT = 2;

export const USED_IN_ALL = 0x33;
export const ENABLED_ALL = 0xcc;
const WRITE_ALL = 0x55;
const READ_ALL = 0xaa;

/** What interrupts are, for a task. */
export interface irq_view {
  hardirq: boolean;
  softirq: boolean;
  hardirqs_on: boolean;
  softirqs_on: boolean;
}

/** Usage bits (a mask) of a lock taken now. */
export function usage_now(v: irq_view, read: boolean, trylock: boolean): number {
  let mask = 0;
  if (v.hardirq && !trylock) mask |= 1 << USED_IN_HARDIRQ;
  if (v.softirq && !trylock) mask |= 1 << USED_IN_SOFTIRQ;
  if (v.hardirqs_on) {
    mask |= 1 << ENABLED_HARDIRQ;
    if (v.softirqs_on) mask |= 1 << ENABLED_SOFTIRQ;
  }
  return read ? mask << READ_BIT : mask;
}

/** The bit that excludes `bit`: the other direction, of writers. */
export function opposite(bit: number): number {
  return (bit ^ ENABLED_BIT) & ~READ_BIT;
}

export function is_read(bit: number): boolean {
  return (bit & READ_BIT) !== 0;
}
export function is_enabled(bit: number): boolean {
  return (bit & ENABLED_BIT) !== 0;
}

/** Bits of one class that a new bit of the same class collides with: a mask. */
export function own_conflicts(bit: number): number {
  const other = opposite(bit);
  return is_read(bit) ? 1 << other : 3 << other;
}

/** Of another class on a path: also reads collide. */
export function path_conflicts(bit: number): number {
  return 3 << opposite(bit);
}

/** All bits, of readers and others, that collide along a path with some bit of `mask`. */
export function conflicts_of(mask: number): number {
  const turned = ((mask & ENABLED_ALL) >> ENABLED_BIT) | ((mask & USED_IN_ALL) << ENABLED_BIT);
  return turned | ((turned & READ_ALL) >> READ_BIT) | ((turned & WRITE_ALL) << READ_BIT);
}

/** Usage that counts at the end of a path: with a weak end only that of writers. */
export function usage_at(node: path_node): number {
  return node.weak ? node.cls.usage & WRITE_ALL : node.cls.usage;
}

/** A pair of bits, one of each mask, that collide; null if there is none. */
export function colliding(used: number, other: number): [used: number, other: number] | null {
  for (let bit = 0; bit < 8; bit++) {
    if ((used & (1 << bit)) === 0) continue;
    const against = opposite(bit);
    if (other & (1 << against)) return [bit, against];
    if (other & (2 << against)) return [bit, against + READ_BIT];
  }
  return null;
}

/** "hardirq" or "softirq" */
export function irq_name(bit: number): string {
  return bit < 4 ? "hardirq" : "softirq";
}

/** "read in hardirq context", "held with softirqs enabled" */
export function usage_text(bit: number): string {
  const irq = irq_name(bit);
  if (is_enabled(bit)) return `${is_read(bit) ? "held for reading" : "held"} with ${irq}s enabled`;
  return `${is_read(bit) ? "read" : "used"} in ${irq} context`;
}
