/**
 * kernel/locking/lockdep.ts - the lock validator: says from one harmless run that an order of locks
 * could deadlock. Linux: kernel/locking/lockdep.c. Verdicts: those of lib/locking-selftest.c in all
 * 394 cells (`daxlab selftest locking`).
 *
 * Reading order: lockdep/classes.ts (what is remembered), acquire() below, then validate() and
 * lockdep/graph.ts (order), mark() and lockdep/usage.ts (interrupts), wait types in traits.ts.
 * Cost: machine.dep is null unless asked for. When on, an acquisition whose chain of held classes
 * was seen before is a few loads; a new chain searches the graph. Stacks are recorded at the first
 * sighting of an edge only; a run that ended in a report is repeated with machine.stacks.
 * Differs: chains are kept as a tree, not as hashes, so two never collide; the search finds strong
 * cycles that Linux can miss (graph.ts); classes of the order table (order.ts) start with its
 * edges.
 */
import type { lock_class_key } from "../include/locks.ts";
import type { Machine } from "../machine.ts";
import type { task_struct } from "../sched/task.ts";
import type { lock_base, LockObserver, lock_misuse } from "./lock.ts";
import {
  chain_node,
  dep_class,
  type dep_edge,
  type dep_held,
  dep_kind,
  dep_task,
  EXCLUSIVE,
  mode_text,
  read_of,
  SHARED,
  SHARED_RECURSIVE,
} from "./lockdep/classes.ts";
import { check_irq_order, mark_new_usage } from "./lockdep/irq.ts";
import { dep_graph, path_edges, type path_node } from "./lockdep/graph.ts";
import {
  held_use,
  type lockdep_bug,
  type lockdep_report,
  make_report,
  type report_facts,
  step_of,
} from "./lockdep/report.ts";
import { usage_now } from "./lockdep/usage.ts";
import { wait_context_text } from "./lockdep/wait_type.ts";
import { lock_map } from "./lock_map.ts";
import { known_after, known_before, order_name, recursive_classes } from "./order.ts";
import { use_of } from "./report.ts";
import { call_site } from "./site.ts";
import {
  LD_WAIT_CONFIG,
  LD_WAIT_MAX,
  LD_WAIT_SPIN,
  RCU_READ,
  RCU_SCHED_READ,
  UNSEEN,
} from "./traits.ts";

export type { lockdep_report } from "./lockdep/report.ts";

export interface lockdep_options {
  /** Go on after a report; the same finding is reported once. Default: off after the first. */
  keep_going?: boolean;
  /** Distinguish spinlocks from raw ones (PROVE_RAW_LOCK_NESTING). Default true. */
  raw_nesting?: boolean;
  /** Treat each read_lock() as recursive, not only those in interrupts. Default false. */
  read_recursive?: boolean;
  /** Start from the table of the lock order. Default true. */
  order?: boolean;
  /** Record where an edge was seen first. Default: unless schedules are explored. */
  sites?: boolean;
}

interface pseudo_locks {
  readonly rcu: lock_map;
  readonly rcu_bh: lock_map;
  readonly rcu_sched: lock_map;
  readonly fs_reclaim: lock_map;
  /** Lock bits of DAX entries: outside the graph, as in Linux. */
  readonly dax_entry: lock_map;
}

/** One class taken while another was held. */
export interface order_sighting {
  readonly outer: string;
  readonly inner: string;
  readonly by: string;
  readonly site: string | null;
}

const NO_FACTS: report_facts = Object.freeze({});
const RCU_KEY = Object.freeze({ name: "rcu_read_lock" });
const RCU_BH_KEY = Object.freeze({ name: "rcu_read_lock_bh" });
const RCU_SCHED_KEY = Object.freeze({ name: "rcu_read_lock_sched" });
const DAX_ENTRY_KEY = Object.freeze({ name: "dax_entry" });
const FS_RECLAIM_KEY = Object.freeze({ name: "fs_reclaim" });

export class Lockdep implements LockObserver {
  readonly machine: Machine;
  readonly graph = new dep_graph();
  readonly reports: lockdep_report[] = [];
  /** Pairs seen that concern unseen locks (page locks): outside the graph, for the order's test. */
  private unjudged: Map<string, order_sighting> | null = null;
  readonly classes: dep_class[] = [];
  private maps: pseudo_locks | null = null;
  private readonly by_key = new Map<lock_class_key, dep_class[]>();
  private readonly root = new chain_node(0);
  private readonly keep_going: boolean;
  private readonly raw_nesting: boolean;
  private readonly read_recursive: boolean;
  private readonly order: boolean;
  private readonly sites: boolean;
  private known: Set<string> | null = null;
  /** After the first report. */
  private off = false;

  constructor(machine: Machine, opts: lockdep_options = {}) {
    this.machine = machine;
    this.keep_going = opts.keep_going ?? false;
    this.raw_nesting = opts.raw_nesting ?? true;
    this.read_recursive = opts.read_recursive ?? false;
    this.order = opts.order ?? true;
    this.sites = opts.sites ?? (machine.stacks || !machine.sched.exploring);
  }

  /** RCU and reclaim as locks. */
  get pseudo(): pseudo_locks {
    this.maps ??= {
      rcu: new lock_map(this.machine, RCU_KEY, null, RCU_READ),
      rcu_bh: new lock_map(this.machine, RCU_BH_KEY, null, RCU_READ),
      rcu_sched: new lock_map(this.machine, RCU_SCHED_KEY, null, RCU_SCHED_READ),
      fs_reclaim: new lock_map(this.machine, FS_RECLAIM_KEY),
      dax_entry: new lock_map(this.machine, DAX_ENTRY_KEY, null, UNSEEN),
    };
    return this.maps;
  }

  // ------------------------------------------------------------------ acquire and release

  acquire(
    task: task_struct,
    lock: lock_base,
    mode: number,
    subclass: number,
    trylock: boolean,
  ): void {
    if (this.off) return;
    const ts = (task.dep_state as dep_task | null) ?? this.task_state(task);
    const nest = task.waiting_nest;
    if (nest !== null) task.waiting_nest = null;
    let cls = lock.dep_class as dep_class | null;
    if (cls === null || cls.key !== lock.key || cls.subclass !== subclass) {
      cls = this.class_of(lock, subclass);
    }
    let read = mode === 0 ? EXCLUSIVE : read_of(mode);
    if (read === SHARED && cls.queued_read && this.recursive_now(task)) read = SHARED_RECURSIVE;
    if (nest !== null && this.merge(ts, cls, nest, 1)) return;
    this.push(ts, lock, cls, read, trylock, nest, null);
  }

  private recursive_now(task: task_struct): boolean {
    return this.read_recursive || task.hardirq_context > 0 || task.bh_disabled > 0;
  }

  /** Another lock of the class on top of the stack, under a nest lock: they share an entry. */
  private merge(ts: dep_task, cls: dep_class, nest: lock_base | null, n: number): boolean {
    if (nest === null || ts.depth === 0) return false;
    const top = ts.held[ts.depth - 1]!;
    if (top.cls !== cls) return false;
    top.references = Math.max(top.references, 1) + n;
    return true;
  }

  private push(
    ts: dep_task,
    lock: lock_base,
    cls: dep_class,
    read: number,
    trylock: boolean,
    nest: lock_base | null,
    site: string | null,
  ): void {
    const h = this.slot(ts, lock, cls);
    h.read = read;
    h.trylock = trylock;
    h.nest = nest;
    h.references = 0;
    h.site = site === null && this.machine.stacks ? call_site() : site;
    const depth = ts.depth;
    const below = depth === 0 ? null : ts.held[depth - 1]!;
    const head = below === null || below.context !== ts.context;
    const strictest = head ? ts.context_inner : below.inner;
    if (cls.outer > strictest && !trylock) this.bad_wait_context(ts, h, strictest);
    h.inner = cls.inner !== 0 && cls.inner < strictest ? cls.inner : strictest;
    if (cls.check) {
      const usage =
        read === EXCLUSIVE
          ? trylock
            ? ts.try_usage
            : ts.usage
          : trylock
            ? ts.read_try_usage
            : ts.read_usage;
      if ((cls.usage & usage) !== usage) mark_new_usage(this, ts, h, usage);
    }
    if (nest !== null && !this.holds(ts, nest)) this.bad_nest_lock(ts, h, nest);
    const chain = (head ? this.root : ts.chain).next(cls.id * 4 + read);
    if (!chain.checked && !trylock) {
      chain.checked = true;
      this.validate(ts, h, head);
    }
    ts.chain = chain;
    ts.depth = depth + 1;
  }

  /** The entry above the top of the stack, filled with what needs no judgement. */
  private slot(ts: dep_task, lock: lock_base, cls: dep_class): dep_held {
    const depth = ts.depth;
    const h = ts.held[depth];
    if (h !== undefined) {
      h.lock = lock;
      h.cls = cls;
      h.context = ts.context;
      h.chain = ts.chain;
      return h;
    }
    const made: dep_held = {
      lock,
      cls,
      read: 0,
      trylock: false,
      context: ts.context,
      inner: 0,
      nest: null,
      references: 0,
      chain: ts.chain,
      site: null,
    };
    ts.held.push(made);
    return made;
  }

  release(task: task_struct, lock: lock_base, _mode: number): void {
    if (this.off) return;
    const ts = (task.dep_state as dep_task | null) ?? this.task_state(task);
    const top = ts.depth - 1;
    const h = top >= 0 ? ts.held[top]! : null;
    if (h !== null && h.lock === lock && h.references === 0) {
      ts.depth = top;
      ts.chain = h.chain;
      return;
    }
    this.release_slow(ts, lock);
  }

  private release_slow(ts: dep_task, lock: lock_base): void {
    const i = this.find(ts, lock);
    if (i < 0) {
      this.misuse(ts.task, lock, "unlock");
      return;
    }
    const h = ts.held[i]!;
    if (h.references > 0 && --h.references > 0) return;
    const above = ts.held.splice(i, ts.depth - i).slice(1);
    ts.depth = i;
    ts.chain = h.chain;
    // Without it the others are a new chain, which may be a new order.
    for (const a of above) {
      if (this.merge(ts, a.cls, a.nest, Math.max(a.references, 1))) continue;
      this.push(ts, a.lock, a.cls, a.read, a.trylock, a.nest, a.site);
      ts.held[ts.depth - 1]!.references = a.references;
    }
  }

  /** Index of `lock` in the stack, not looking beyond an interrupt; -1 if it is not held. */
  private find(ts: dep_task, lock: lock_base): number {
    for (let i = ts.depth - 1; i >= 0; i--) {
      const h = ts.held[i]!;
      if (i < ts.depth - 1 && h.context !== ts.held[i + 1]!.context) return -1;
      if (h.lock === lock || (h.references > 0 && h.cls.key === lock.key)) return i;
    }
    return -1;
  }

  private holds(ts: dep_task, lock: lock_base): boolean {
    for (let i = 0; i < ts.depth; i++) {
      const h = ts.held[i]!;
      if (h.lock === lock || (h.references > 0 && h.cls.key === lock.key)) return true;
    }
    return false;
  }

  lock_is_held(task: task_struct, lock: lock_base): boolean {
    const ts = task.dep_state as dep_task | null;
    return ts !== null && this.holds(ts, lock);
  }

  contended(): void {}

  /** Waits for all holders without becoming one: synchronize_srcu(), a commit. */
  sync(task: task_struct, lock: lock_base): void {
    if (this.off) return;
    this.acquire(task, lock, 0, 0, false);
    this.release(task, lock, 0);
  }

  /** Nothing is held: the quick test at the end of a system call. */
  clean(task: task_struct): boolean {
    const ts = task.dep_state as dep_task | null;
    return ts === null || ts.depth === 0 || this.off;
  }

  // ------------------------------------------------------------------ classes and tasks

  private class_of(lock: lock_base, subclass: number): dep_class {
    let list = this.by_key.get(lock.key);
    if (list === undefined) this.by_key.set(lock.key, (list = []));
    let cls = list.find((c) => c.subclass === subclass);
    if (cls === undefined) {
      const id = this.classes.length + 1;
      cls = new dep_class(lock.key, subclass, id, lock.traits, this.raw_nesting);
      this.classes.push(cls);
      list.push(cls);
      if (this.order && cls.check) this.seed(cls);
    }
    lock.dep_class = cls;
    return cls;
  }

  /** Adds what the table of the lock order says about a class that is used for the first time. */
  private seed(cls: dep_class): void {
    const after = known_after(cls.name);
    const before = known_before(cls.name);
    if (after === null && before === null) return;
    for (const other of this.classes) {
      if (other === cls || !other.check) continue;
      const name = order_name(other.name);
      const inner = after?.get(name);
      if (inner !== undefined) this.seed_edge(cls, other, inner);
      const outer = before?.get(name);
      if (outer !== undefined) this.seed_edge(other, cls, outer);
    }
  }

  private seed_edge(outer: dep_class, inner: dep_class, why: string): void {
    const read = (cls: dep_class): number =>
      recursive_classes.includes(cls.key.name) ? SHARED_RECURSIVE : EXCLUSIVE;
    const kinds = dep_kind(read(outer), read(inner));
    this.graph.add({ outer, inner, kinds, seen: false, why, by: "", site: null, modes: "" });
  }

  private task_state(task: task_struct): dep_task {
    const ts = new dep_task(task, this.root);
    task.dep_state = ts;
    this.irq_state(task, 0);
    return ts;
  }

  // ------------------------------------------------------------------ the order of locks

  /** A chain seen for the first time: `next` on top of what the task holds. */
  private validate(ts: dep_task, next: dep_held, head: boolean): void {
    if (!next.cls.check) {
      if (!head) this.note_unjudged(ts, next);
      return;
    }
    const same = this.check_recursion(ts, next);
    if (same === "reported" || same === "nested" || head) return;
    for (let i = ts.depth - 1; i >= 0; i--) {
      const prev = ts.held[i]!;
      if (prev.context !== next.context) return;
      if (!prev.cls.check) {
        this.note_pair(ts, prev, next);
        continue;
      }
      this.check_pair(ts, prev, next);
      // Locks below it were checked against it, and so are connected.
      if (!prev.trylock) return;
    }
  }

  private check_recursion(ts: dep_task, next: dep_held): "fine" | "nested" | "reported" {
    let nested = false;
    for (let i = 0; i < ts.depth; i++) {
      const prev = ts.held[i]!;
      if (next.nest !== null && prev.lock === next.nest) nested = true;
      if (prev.cls !== next.cls) continue;
      if (next.read === SHARED_RECURSIVE && prev.read !== EXCLUSIVE) continue;
      if (nested) return "nested";
      const notes = [
        prev.lock === next.lock
          ? "it waits for itself"
          : "nothing says in which order two locks of this class are taken",
      ];
      this.report(ts, "recursion", { lock: held_use(next), other: held_use(prev), notes });
      return "reported";
    }
    return "fine";
  }

  private check_pair(ts: dep_task, prev: dep_held, next: dep_held): void {
    const kind = dep_kind(prev.read, next.read);
    const old = this.graph.edge(prev.cls, next.cls);
    if (old !== null && old.seen && (old.kinds & kind) !== 0) return;
    const closes = (n: path_node): boolean =>
      n.cls === prev.cls && (prev.read === EXCLUSIVE || !n.weak);
    const way = this.graph.forwards(next.cls, next.read === SHARED_RECURSIVE, closes);
    if (way !== null) {
      this.report_circle(ts, prev, next, way);
      return;
    }
    if (!check_irq_order(this, ts, prev, next)) return;
    const by = ts.task.toString();
    const modes = pair_modes(prev, next);
    const site = this.sites ? (next.site ??= call_site()) : null;
    if (old === null) {
      const why = "";
      const e = { outer: prev.cls, inner: next.cls, kinds: kind, seen: true, why, by, site, modes };
      this.graph.add(e);
      return;
    }
    if (!old.seen) {
      Object.assign(old, { seen: true, by, site, modes });
      old.kinds = kind;
    }
    old.kinds |= kind;
  }

  private report_circle(ts: dep_task, prev: dep_held, next: dep_held, way: path_node): void {
    if (way.edge === null) {
      const notes = ["a writer may queue between the two"];
      this.report(ts, "recursion", { lock: held_use(next), other: held_use(prev), notes });
      return;
    }
    if (this.sites) next.site ??= call_site();
    const fresh: dep_edge = {
      outer: prev.cls,
      inner: next.cls,
      kinds: 0,
      seen: true,
      why: "",
      by: ts.task.toString(),
      site: next.site,
      modes: pair_modes(prev, next),
    };
    const steps = [fresh, ...path_edges(way)].map(step_of);
    this.report(ts, "circular", { lock: held_use(next), other: held_use(prev), steps });
  }

  private note_unjudged(ts: dep_task, next: dep_held): void {
    for (let i = ts.depth - 1; i >= 0; i--) {
      const prev = ts.held[i]!;
      if (prev.context !== next.context) return;
      this.note_pair(ts, prev, next);
      if (prev.cls.check && !prev.trylock) return;
    }
  }

  private note_pair(ts: dep_task, prev: dep_held, next: dep_held): void {
    const outer = prev.cls.name;
    const inner = next.cls.name;
    const key = `${outer}\n${inner}`;
    this.unjudged ??= new Map();
    if (this.unjudged.has(key)) return;
    const site = this.sites ? call_site() : null;
    this.unjudged.set(key, { outer, inner, by: ts.task.toString(), site });
  }

  /** Every pair seen so far, judged or not: what the table of the order is compared with. */
  order_seen(): order_sighting[] {
    const out: order_sighting[] = [];
    for (const cls of this.classes) {
      for (const e of cls.after ?? []) {
        if (!e.seen) continue;
        out.push({ outer: e.outer.name, inner: e.inner.name, by: e.by, site: e.site });
      }
    }
    return this.unjudged === null ? out : [...out, ...this.unjudged.values()];
  }

  // ------------------------------------------------------------------ contexts

  /** The interrupt state of a task changed. `on`: usage bits (a mask) that its locks get by it. */
  irq_state(task: task_struct, on: number): void {
    if (this.off) return;
    const ts = (task.dep_state as dep_task | null) ?? this.task_state(task);
    const hardirq = task.hardirq_context > 0;
    const softirq = task.softirq_context > 0;
    const hardirqs_on = task.irq_disabled === 0;
    const softirqs_on = task.bh_disabled === 0;
    const v = { hardirq, softirq, hardirqs_on, softirqs_on };
    ts.context = (hardirq ? 2 : 0) + (softirq ? 1 : 0);
    ts.context_inner = this.context_inner(task);
    ts.usage = usage_now(v, false, false);
    ts.try_usage = usage_now(v, false, true);
    ts.read_usage = usage_now(v, true, false);
    ts.read_try_usage = usage_now(v, true, true);
    if (on === 0) return;
    for (let i = 0; i < ts.depth; i++) {
      const h = ts.held[i]!;
      if (!h.cls.check) continue;
      const usage = h.read === EXCLUSIVE ? on : on << 1;
      if ((h.cls.usage & usage) !== usage) mark_new_usage(this, ts, h, usage);
    }
  }

  private context_inner(task: task_struct): number {
    const config = this.raw_nesting ? LD_WAIT_CONFIG : LD_WAIT_SPIN;
    if (task.hardirq_context > 0) return task.hardirq_threaded ? config : LD_WAIT_SPIN;
    return task.softirq_context > 0 ? config : LD_WAIT_MAX;
  }

  private bad_wait_context(ts: dep_task, next: dep_held, strictest: number): void {
    const notes = [wait_context_text(ts, next, strictest)];
    this.report(ts, "wait-context", { lock: held_use(next), notes });
  }

  private bad_nest_lock(ts: dep_task, h: dep_held, nest: lock_base): void {
    const notes = [`it is said to be nested under ${nest.describe()}, which is not held`];
    this.report(ts, "nest-lock", { lock: held_use(h), notes });
  }

  // ------------------------------------------------------------------ misuse, reports

  misuse(task: task_struct, lock: lock_base | null, what: lock_misuse, text = ""): void {
    if (this.off) return;
    const ts = (task.dep_state as dep_task | null) ?? this.task_state(task);
    const use = lock === null ? null : use_of(lock, 0, this.sites ? call_site() : null);
    const notes = text === "" ? [] : [text];
    switch (what) {
      case "sleep": {
        const cls = this.class_of(lock!, 0);
        const below = ts.depth > 0 ? ts.held[ts.depth - 1]! : null;
        const inside = below !== null && below.context === ts.context;
        const strictest = inside ? below.inner : ts.context_inner;
        if (cls.outer <= strictest) return;
        const h = this.slot(ts, lock!, cls);
        Object.assign(h, { read: EXCLUSIVE, trylock: false, site: null });
        this.bad_wait_context(ts, h, strictest);
        return;
      }
      case "unlock":
        this.report(ts, "not-held", {
          title: "a lock is released that is not held",
          verb: text === "" ? "releases" : `calls ${text} for`,
          lock: use,
        });
        return;
      case "assert":
        this.report(ts, "not-held", { lock: use, verb: "must hold, and does not," });
        return;
      case "init":
        this.report(ts, "freed", { lock: use, verb: "initialises or frees", notes });
        return;
      case "leak":
        if (ts.depth > 0) this.report(ts, "leak", { notes });
        ts.depth = 0;
        ts.chain = this.root;
        return;
      case "api":
        this.report(ts, "api", { lock: use, verb: "uses", notes });
        return;
    }
  }

  report(ts: dep_task, bug: lockdep_bug, facts: report_facts = NO_FACTS): void {
    if (this.off) return;
    const r = make_report(ts, bug, this.machine.clock.now_ns, facts);
    if (this.keep_going) {
      const key = `${bug} ${r.lock?.lock} ${r.other?.lock} ${r.notes.join()}`;
      this.known ??= new Set();
      if (this.known.has(key)) return;
      this.known.add(key);
    } else {
      this.off = true;
      // Somebody may have put himself before it and wants to hear on.
      const listened_to = Object.hasOwn(this, "acquire");
      if (this.machine.dep === this && !listened_to) this.machine.dep = null;
    }
    this.reports.push(r);
    const kernel = ts.task.kernel ?? this.machine.kernels[0];
    if (kernel !== undefined && kernel !== null) {
      for (const line of r.text.split("\n")) kernel.pr_warn(line);
    }
    this.machine.note_lockdep(r);
  }
}

function pair_modes(prev: dep_held, next: dep_held): string {
  const one = (h: dep_held): string => {
    const text = mode_text(h.read, h.trylock);
    return text === "" ? "exclusive" : text;
  };
  if (prev.read === EXCLUSIVE && next.read === EXCLUSIVE && !prev.trylock) return "";
  return `${one(prev)}, then ${one(next)}`;
}
