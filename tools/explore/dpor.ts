/**
 * tools/explore/dpor.ts - every schedule up to the order of independent steps. Source-DPOR with
 * sleep sets: Abdulla, Aronsson, Jonsson, Sagonas, "Optimal dynamic partial order reduction", POPL
 * 2014.
 *
 * A step is what one task does between two scheduling points. Two steps depend on each other if
 * they are of one task, or touch one object (lock, wait queue, marked variable), one of them to
 * change it; two readers of a lock that both get it at once do not. A step that wakes or makes a
 * task comes before that task's next one, and that order cannot be turned round. What time or code
 * outside wakes comes after everything.
 *
 * After each run its races are looked for: two dependent steps with nothing between them in the
 * order. For each, the tree of choices gets a branch where the later one comes first, unless a
 * branch there already leads to such a run (the source set). The sleep set holds tasks whose next
 * step has been explored at an earlier branch and commutes with all since: such a run is given up.
 *
 * Exact up to that notion of dependence: data that tasks share without a lock, a wait queue or
 * `shared` is not seen. Steps are compared with those of other runs by what they touch; an object
 * is known again by its number if it was made before run(), else by its name, which can only make
 * the reduction smaller.
 */
import type { Machine } from "../../kernel/machine.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { find_races, type race } from "./races.ts";
import { default_index } from "./recorder.ts";
import { type footprint, independent, StepLog } from "./steps.ts";
import { type explore_strategy, Nondeterminism, Pruned } from "./strategy.ts";

interface node {
  /** Pids that could run. */
  readonly enabled: readonly number[];
  /** Tasks whose next step need not come here, with what it touches. */
  readonly sleep: Map<number, footprint>;
  /** The source set so far. */
  readonly backtrack: number[];
  /** Branches explored. */
  readonly done: number[];
  /** All branches are taken: the parts of a divided exploration meet here. */
  readonly divided: boolean;
  chosen: number;
}

export class dpor_explorer implements explore_strategy {
  readonly name = "dpor";
  /** Runs that ended early because they repeated others. */
  pruned = 0;
  private readonly nodes: node[] = [];
  private readonly log = new StepLog((t) => this.go_on(t));
  private readonly steps = this.log.steps;
  /** First node whose step is new in this run. */
  private fresh = 0;
  private cut = false;
  private done = false;
  private trouble: Nondeterminism | null = null;
  /** Part i of n explores every n-th way through the first choices, all of which are taken. */
  private readonly shard: { i: number; n: number } | null;
  private readonly divided_choices: number;
  /** Ways through the divided choices begun so far, minus one. */
  private way = -1;
  /** Divided choices passed in this run. */
  private passed = 0;
  private way_counted = false;

  constructor(shard: { i: number; n: number } | null = null) {
    this.shard = shard !== null && shard.n > 1 ? shard : null;
    this.divided_choices = this.shard === null ? 0 : Math.ceil(Math.log2(this.shard.n)) + 2;
  }

  // ------------------------------------------------------------------ runs

  begin(n: number): boolean {
    if (n > 0 && !this.next_branch()) {
      this.done = true;
      return false;
    }
    this.log.reset();
    this.cut = false;
    this.passed = 0;
    this.way_counted = false;
    return true;
  }
  new_execution(): void {}
  next_u64(): number {
    return 0;
  }

  attach(m: Machine): void {
    this.log.attach(m);
  }

  end(): void {
    this.log.detach();
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
      n.done.push(n.chosen);
      if (!n.divided) n.sleep.set(n.chosen, this.steps[depth]?.prints ?? new Map());
      const next = n.backtrack.find((pid) => !n.sleep.has(pid) && !n.done.includes(pid));
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
    if (n.divided) return;
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
      if (this.nodes[depth]!.divided) this.passed++;
      if (t !== undefined) return this.not_ours(depth) ? this.give_up(t, runnable) : this.open(t);
      return this.other_run(runnable, depth);
    }
    const sleep = this.sleep_here(depth);
    const home = default_index(runnable, current, yielding);
    const next = this.awake(runnable, home, sleep);
    if (next === undefined) return this.give_up(null, runnable);
    const enabled = runnable.map((t) => t.pid);
    const divided = enabled.length > 1 && this.passed < this.divided_choices;
    if (divided) this.passed++;
    const backtrack = divided ? enabled.slice() : [next.pid];
    this.nodes.push({ enabled, sleep, backtrack, chosen: next.pid, done: [], divided });
    return this.not_ours(depth) ? this.give_up(next, runnable) : this.open(next);
  }

  /** The last divided choice is made: does this way belong to another part? */
  private not_ours(depth: number): boolean {
    if (this.shard === null || this.way_counted || this.passed < this.divided_choices) return false;
    this.way_counted = true;
    if (depth >= this.fresh) this.way++;
    return this.way % this.shard.n !== this.shard.i;
  }

  private give_up(next: task_struct | null, runnable: readonly task_struct[]): task_struct {
    if (next !== null) this.open(next);
    this.cut = true;
    runnable[0]!.kernel.sched.stop(new Pruned());
    return runnable[0]!;
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
    sleep: Map<number, footprint>,
  ): task_struct | undefined {
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
    return this.log.open(t);
  }

  /** A scheduling point where only this task could run: a step of its own, without a choice. */
  private go_on(t: task_struct): void {
    const depth = this.steps.length;
    if (depth >= this.nodes.length) {
      const sleep = this.sleep_here(depth);
      const [enabled, backtrack] = [[t.pid], [t.pid]];
      this.nodes.push({ enabled, sleep, backtrack, chosen: t.pid, done: [], divided: false });
    } else if (this.nodes[depth]!.chosen !== t.pid) {
      this.other_run([t], depth);
    }
    this.open(t);
  }
}
