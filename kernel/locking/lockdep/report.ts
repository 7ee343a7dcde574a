/**
 * kernel/locking/lockdep/report.ts - what lockdep found, as data. Text: describe.ts.
 *
 * Plain values only, as in locking/report.ts: a report can be kept after the Machine is gone.
 */
import { use_of, type lock_use } from "../report.ts";
import { type dep_edge, type dep_held, type dep_task, mode_text } from "./classes.ts";
import { describe_lockdep } from "./describe.ts";

/**
 * recursion: a second lock of a class already held. circular: the order closes a circle. irq-state:
 * one class used both in an interrupt and with it enabled. irq-order: the same through a chain of
 * locks. wait-context: a lock that may sleep where that is forbidden. nest-lock: the outer lock
 * named is not held. not-held: released, or asserted to be held, and is not. freed: initialised or
 * freed while held. leak: held when the task ends or returns to user mode. api: a wound/wait ticket
 * or local lock used wrongly.
 */
export type lockdep_bug =
  | "recursion"
  | "circular"
  | "irq-state"
  | "irq-order"
  | "wait-context"
  | "nest-lock"
  | "not-held"
  | "freed"
  | "leak"
  | "api";

/** One step of an order: `inner` acquired while `outer` was held. */
export interface order_step {
  outer: string;
  inner: string;
  /** How they were held and wanted at the first sighting: "write, read". */
  modes: string;
  /** Who was seen first, "" if only the table of the lock order says so. */
  by: string;
  site: string | null;
  /** What the table says about it, or "". */
  why: string;
}

export interface lockdep_report {
  kind: "lockdep";
  bug: lockdep_bug;
  /** One sentence. */
  title: string;
  time_ns: number;
  pid: number;
  comm: string;
  /** System call under way, "" if none. */
  syscall: string;
  /** What the task does with the lock: "wants". */
  verb: string;
  /** The lock in question, null if it is about no single one. */
  lock: lock_use | null;
  /** The other lock of the pair, if there is one. */
  other: lock_use | null;
  /** Circular: the circle, beginning with the new step. irq-order: the chain. */
  steps: order_step[];
  /** More about it, each a sentence. */
  notes: string[];
  /** What the task holds, oldest first. */
  holds: lock_use[];
  /** The whole as text. */
  text: string;
}

export function held_use(h: dep_held): lock_use {
  const use = use_of(h.lock, 0, h.site);
  const mode = mode_text(h.read, h.trylock);
  return { ...use, lock: h.cls.name, mode: (mode === "" ? "exclusive" : mode) as lock_use["mode"] };
}

export function step_of(e: dep_edge): order_step {
  const { modes, by, site, why } = e;
  return { outer: e.outer.name, inner: e.inner.name, modes, by, site, why };
}

export type report_facts = Partial<
  Pick<lockdep_report, "lock" | "other" | "steps" | "notes" | "title" | "verb">
>;

const TITLES: Readonly<Record<lockdep_bug, string>> = Object.freeze({
  recursion: "a lock is taken while another of its class is held",
  circular: "locks are taken in a circular order, which can deadlock",
  "irq-state": "a lock is used in an interrupt and held with that interrupt enabled",
  "irq-order": "a lock used in an interrupt waits for one held with that interrupt enabled",
  "wait-context": "a lock is taken where it must not wait",
  "nest-lock": "the lock that is to make nesting safe is not held",
  "not-held": "a lock is not held that should be",
  freed: "a lock is initialised or freed while it is held",
  leak: "locks are still held at the end",
  api: "a lock is used against its rules",
});

export function make_report(
  ts: dep_task,
  bug: lockdep_bug,
  time_ns: number,
  facts: report_facts,
): lockdep_report {
  const t = ts.task;
  const report: lockdep_report = {
    kind: "lockdep",
    bug,
    title: TITLES[bug],
    time_ns,
    pid: t.pid,
    comm: t.comm,
    syscall: t.syscall,
    verb: "wants",
    lock: null,
    other: null,
    steps: [],
    notes: [],
    holds: ts.held.slice(0, ts.depth).map(held_use),
    text: "",
    ...facts,
  };
  report.text = describe_lockdep(report);
  return report;
}
