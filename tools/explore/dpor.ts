/**
 * tools/explore/dpor.ts - every schedule up to the order of independent steps. Source-DPOR with sleep
 * sets: Abdulla, Aronsson, Jonsson, Sagonas, "Optimal dynamic partial order reduction", POPL 2014.
 *
 * A step is what one task does between two scheduling points. Two steps depend on each other if they
 * are of one task, or touch one object (lock, wait queue, marked variable), one of them to change it;
 * two readers of a lock that both get it at once do not. A step that wakes or makes a task comes
 * before that task's next one, and that order cannot be turned round. What time or code outside wakes
 * comes after everything.
 *
 * After each run its races are looked for: two dependent steps with nothing between them in the
 * order. For each, the tree of choices gets a branch where the later one comes first, unless a
 * branch there already leads to such a run (the source set). The sleep set holds tasks whose next
 * step has been explored at an earlier branch and commutes with all since: such a run is given up.
 *
 * Exact up to that notion of dependence: data that tasks share without a lock, a wait queue or
 * `shared` is not seen. Steps are compared with those of other runs by what they touch; an object is
 * known again by its number if it was made before run(), else by its name, which can only make the
 * reduction smaller.
 */
import type { Machine } from "../../kernel/machine.ts";
import type { SchedObserver } from "../../kernel/sched/strategy.ts";
import type { task_struct, waitable } from "../../kernel/sched/task.ts";
import { default_index } from "./recorder.ts";
import { type explore_strategy, Nondeterminism, Pruned } from "./strategy.ts";
import { is_read, listen_to_locks } from "./touch.ts";
import { type causal_step, find_races, type race } from "./races.ts";

/** What a step touches, comparable between runs: object key to "changes it". */
type footprint = ReadonlyMap<number | string, boolean>;

interface node {
  /** Pids that could run. */
  readonly enabled: readonly number[];
  /** Tasks whose next step need not come here, with what it touches. */
  readonly sleep: Map<number, footprint>;
  /** The source set so far. */
  readonly backtrack: number[];
  chosen: number;
}

/** The step under way. */
interface open_step extends causal_step {
  readonly prints: Map<number | string, boolean>;
}

const NOBODY: footprint = new Map();

function independent(a: footprint, b: footprint): boolean {
  const [few, many] = a.size < b.size ? [a, b] : [b, a];
  for (const [key, write] of few) {
    const other = many.get(key);
    if (other !== undefined && (write || other)) return false;
  }
  return true;
}

export class dpor_explorer implements explore_strategy, SchedObserver {
  readonly name = "dpor";
  /** Runs that ended early because they repeated others. */
  pruned = 0;
  private readonly nodes: node[] = [];
  private readonly steps: open_step[] = [];
  /** First node whose step is new in this run. */
  private fresh = 0;
  private machine: Machine | null = null;
  private objects_before = 0;
  private cut = false;
  private done = false;
  private trouble: Nondeterminism | null = null;
  /** Forced choices at the start of every run, for sharding. */
  private readonly prefix: readonly number[];

  constructor(prefix: readonly number[] = []) {
    this.prefix = prefix;
  }

  // ------------------------------------------------------------------ runs

  begin(n: number): boolean {
    if (n > 0 && !this.next_branch()) {
      this.done = true;
      return false;
    }
    this.steps.length = 0;
    this.machine = null;
    this.cut = false;
    return true;
  }
  new_execution(): void {}
  next_u64(): number {
    return 0;
  }

  attach(m: Machine): void {
    this.machine = m;
    this.objects_before = m.nr_objects;
    m.sched.observer = this;
    listen_to_locks(m, {
      acquired: (_t, lock, mode) => this.touch(lock, !is_read(mode)),
      contended: (_t, lock) => this.touch(lock, true),
      released: (_t, lock, mode) => this.touch(lock, !is_read(mode)),
    });
  }

  end(): void {
    if (this.machine !== null) this.machine.sched.observer = null;
    if (this.cut) this.pruned++;
    for (const r of find_races(this.steps, this.fresh)) this.add_branch(r);
  }
  complete(): boolean {
    return this.done;
  }
  promise(runs: number): string {
    if (!this.done) return `dpor: ${runs} runs, not all there is`;
    const repeats = this.pruned === 0 ? "" : ` (and ${this.pruned} given up as repetitions)`;
    return `dpor: all schedules explored, in ${runs - this.pruned} runs${repeats}`;
  }

  /** The deepest node with an unexplored branch becomes the end of the path. */
  private next_branch(): boolean {
    while (this.nodes.length > 0) {
      const depth = this.nodes.length - 1;
      const n = this.nodes[depth]!;
      n.sleep.set(n.chosen, this.steps[depth]?.prints ?? NOBODY);
      const next = n.backtrack.find((pid) => !n.sleep.has(pid));
      if (next !== undefined) {
        n.chosen = next;
        this.fresh = depth;
        return true;
      }
      this.nodes.pop();
    }
    return false;
  }

  private add_branch(r: race): void {
    const n = this.nodes[r.before]!;
    if (r.initials.some((pid) => n.backtrack.includes(pid) || n.sleep.has(pid))) return;
    const wanted = r.initials.find((pid) => n.enabled.includes(pid));
    if (wanted !== undefined) {
      n.backtrack.push(wanted);
      return;
    }
    for (const pid of n.enabled) if (!n.backtrack.includes(pid)) n.backtrack.push(pid);
  }

  // ------------------------------------------------------------------ choices

  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    const depth = this.steps.length;
    if (depth < this.nodes.length) {
      const pid = this.nodes[depth]!.chosen;
      const t = runnable.find((r) => r.pid === pid);
      if (t !== undefined) return this.open(t);
      return this.other_run(runnable, depth);
    }
    const sleep = this.sleep_here(depth);
    const home = default_index(runnable, current, yielding);
    const next = this.awake(runnable, home, depth, sleep);
    if (next === undefined) {
      this.cut = true;
      runnable[0]!.kernel.sched.stop(new Pruned());
      return runnable[0]!;
    }
    const enabled = runnable.map((t) => t.pid);
    this.nodes.push({ enabled, sleep, backtrack: [next.pid], chosen: next.pid });
    return this.open(next);
  }

  private other_run(runnable: readonly task_struct[], depth: number): task_struct {
    const names = runnable.map((t) => t.toString()).join(", ");
    const were = this.nodes[depth]!.enabled.map((pid) => `pid ${pid}`).join(", ");
    this.trouble = new Nondeterminism(depth, were, names);
    runnable[0]!.kernel.sched.stop(this.trouble);
    return runnable[0]!;
  }
  problem(): Error | null {
    return this.trouble;
  }

  /** The default choice, or the first candidate that does not sleep. */
  private awake(
    runnable: readonly task_struct[],
    home: number,
    depth: number,
    sleep: Map<number, footprint>,
  ): task_struct | undefined {
    const forced = this.prefix[depth];
    if (forced !== undefined) return runnable[forced % runnable.length]!;
    const usual = runnable[home]!;
    return sleep.has(usual.pid) ? runnable.find((t) => !sleep.has(t.pid)) : usual;
  }

  private sleep_here(depth: number): Map<number, footprint> {
    const sleep = new Map<number, footprint>();
    if (depth === 0) return sleep;
    const above = this.nodes[depth - 1]!;
    const step = this.steps[depth - 1]!.prints;
    for (const [pid, prints] of above.sleep) {
      if (pid !== above.chosen && independent(prints, step)) sleep.set(pid, prints);
    }
    return sleep;
  }

  private open(t: task_struct): task_struct {
    this.steps.push({ pid: t.pid, touched: new Map(), woke: [], after_all: [], prints: new Map() });
    return t;
  }

  // ------------------------------------------------------------------ what a step does

  alone(t: task_struct): void {
    if (!t.kernel.sched.running) return;
    const depth = this.steps.length;
    if (depth >= this.nodes.length) {
      const sleep = this.sleep_here(depth);
      this.nodes.push({ enabled: [t.pid], sleep, backtrack: [t.pid], chosen: t.pid });
    }
    this.open(t);
  }

  touch(object: object, write: boolean): void {
    const step = this.steps[this.steps.length - 1];
    if (step === undefined) return;
    const seen = step.touched.get(object);
    if (seen === true || seen === write) return;
    step.touched.set(object, write);
    const key = this.key_of(object);
    step.prints.set(key, write || step.prints.get(key) === true);
  }

  private key_of(object: object): number | string {
    const o = object as { seq?: number; lock_name?: string };
    if (o.seq !== undefined && o.seq < this.objects_before) return o.seq;
    return o.lock_name ?? "an object";
  }

  woken(t: task_struct, on: waitable | null): void {
    const step = this.steps[this.steps.length - 1];
    if (step === undefined) return;
    const sched = t.kernel.sched;
    if (sched.current === sched.swapper) {
      step.after_all.push(t.pid);
      return;
    }
    if (on !== null) this.touch(on, true);
    step.woke.push(t.pid);
  }
}
