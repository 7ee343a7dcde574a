/**
 * kernel/locking/lockdep/irq.ts - do interrupts make an order that can deadlock? Linux:
 * mark_lock_irq(), check_usage_forwards(), check_irq_usage() in kernel/locking/lockdep.c.
 *
 * A handler that runs on top of a task adds the edge "what the task held -> what the handler
 * takes". So a class used in a handler must not lead, by a strong path, to a class held with that
 * interrupt enabled. Checked when a class gets a new usage bit, and when a new edge joins paths.
 */
import type { Lockdep } from "../lockdep.ts";
import { type dep_held, type dep_task, SHARED_RECURSIVE } from "./classes.ts";
import { path_edges, type path_node } from "./graph.ts";
import { held_use, step_of } from "./report.ts";
import {
  colliding,
  conflicts_of,
  ENABLED_ALL,
  irq_name,
  is_enabled,
  own_conflicts,
  path_conflicts,
  usage_at,
  usage_text,
  USED_IN_ALL,
} from "./usage.ts";

/** Local locks do not connect processors. */
function local(n: path_node): boolean {
  return n.cls.percpu;
}

function by(cls: dep_held["cls"], bit: number): string {
  const who = cls.usage_by?.[bit];
  return who === null || who === undefined ? "" : ` by ${who.toString()}`;
}

/** A lock gets a new usage when it is taken, and when interrupts are enabled while it is held. */
const VERB = "takes, or holds,";

function hang_text(safe: string, unsafe: string, irq: string): string {
  return (
    `it hangs when one task holds ${unsafe}, another ${safe} and goes on to ${unsafe}, ` +
    `and a ${irq} on top of the first wants ${safe}`
  );
}

/** Gives the class of `h` the bits of `usage` that it does not have yet, checking each. */
export function mark_new_usage(dep: Lockdep, ts: dep_task, h: dep_held, usage: number): void {
  const cls = h.cls;
  // Used-in before enabled, as Linux does.
  for (const bit of [0, 1, 4, 5, 2, 3, 6, 7]) {
    const mask = 1 << bit;
    if ((usage & mask) === 0 || (cls.usage & mask) !== 0) continue;
    cls.usage |= mask;
    (cls.usage_by ??= [])[bit] = ts.task;
    if (!check_new_bit(dep, ts, h, bit)) return;
  }
}

function check_new_bit(dep: Lockdep, ts: dep_task, h: dep_held, bit: number): boolean {
  const cls = h.cls;
  const own = cls.usage & own_conflicts(bit);
  if (own !== 0) {
    const other = 31 - Math.clz32(own);
    const notes = [
      `now it is ${usage_text(bit)}, before it was ${usage_text(other)}${by(cls, other)}`,
      `if the ${irq_name(bit)} comes while it is held, the handler waits for ever`,
    ];
    dep.report(ts, "irq-state", { lock: held_use(h), verb: VERB, notes });
    return false;
  }
  const bad = path_conflicts(bit);
  const hits = (n: path_node): boolean => (usage_at(n) & bad) !== 0;
  const found = is_enabled(bit)
    ? dep.graph.backwards(cls, h.read !== 0, hits, local)
    : dep.graph.forwards(cls, h.read === SHARED_RECURSIVE, hits, local);
  if (found === null) return true;
  const other = 31 - Math.clz32(usage_at(found) & bad);
  const edges = path_edges(found);
  const steps = (is_enabled(bit) ? edges.reverse() : edges).map(step_of);
  const notes = [
    `${cls.name} is now ${usage_text(bit)}`,
    `${found.cls.name} was ${usage_text(other)}${by(found.cls, other)}`,
  ];
  const safe = is_enabled(bit) ? found.cls.name : cls.name;
  notes.push(hang_text(safe, is_enabled(bit) ? cls.name : found.cls.name, irq_name(bit)));
  dep.report(ts, "irq-order", { lock: held_use(h), verb: VERB, steps, notes });
  return false;
}

/**
 * Would the edge from `prev` to `next` connect a class used in an interrupt with one held while
 * that interrupt is enabled? Reports and returns false if so.
 */
export function check_irq_order(
  dep: Lockdep,
  ts: dep_task,
  prev: dep_held,
  next: dep_held,
): boolean {
  let used = 0;
  const gather = (n: path_node): boolean => {
    used |= usage_at(n);
    return false;
  };
  dep.graph.backwards(prev.cls, prev.read !== 0, gather, local);
  used &= USED_IN_ALL;
  if (used === 0) return true;
  const bad = conflicts_of(used);
  const hits = (n: path_node): boolean => (usage_at(n) & bad) !== 0;
  const unsafe = dep.graph.forwards(next.cls, next.read === SHARED_RECURSIVE, hits, local);
  if (unsafe === null) return true;
  // Only what collides with how that class is held: it may be safe for the other kind.
  const against = conflicts_of(unsafe.cls.usage & ENABLED_ALL);
  const source = (n: path_node): boolean => (usage_at(n) & against) !== 0;
  const safe = dep.graph.backwards(prev.cls, prev.read !== 0, source, local);
  if (safe === null) return true;
  const pair = colliding(safe.cls.usage, unsafe.cls.usage);
  if (pair === null) return true;
  const fresh = { outer: prev.cls.name, inner: next.cls.name, modes: "" };
  const steps = [
    ...path_edges(safe).reverse().map(step_of),
    { ...fresh, by: ts.task.toString(), site: next.site, why: "" },
    ...path_edges(unsafe).map(step_of),
  ];
  const notes = [
    `${safe.cls.name} was ${usage_text(pair[0])}${by(safe.cls, pair[0])}`,
    `${unsafe.cls.name} was ${usage_text(pair[1])}${by(unsafe.cls, pair[1])}`,
    hang_text(safe.cls.name, unsafe.cls.name, irq_name(pair[0])),
  ];
  dep.report(ts, "irq-order", { lock: held_use(next), other: held_use(prev), steps, notes });
  return false;
}
