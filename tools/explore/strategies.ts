/**
 * tools/explore/strategies.ts - random, PCT, round-robin, every schedule, one given schedule.
 *
 * All choices of data (next_u64) come from the run's seed, so a schedule plus a seed is a run.
 */
import type { Machine } from "../../kernel/machine.ts";
import { Random } from "../../kernel/random.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { default_index, nth_candidate } from "./recorder.ts";
import { type explore_strategy, Nondeterminism } from "./strategy.ts";

/** A seed for run `n`, so that run n is the same whichever worker or machine makes it. */
export function run_seed(seed: number, n: number): number {
  return seed * 1_000_003 + n;
}

/** Every choice uniformly at random. */
export class random_explorer implements explore_strategy {
  readonly name = "random";
  private readonly random = new Random(0);
  private readonly seed: number;
  constructor(seed: number) {
    this.seed = seed;
  }
  begin(n: number): boolean {
    this.random.reseed(run_seed(this.seed, n));
    return true;
  }
  new_execution(): void {}
  next_task(runnable: readonly task_struct[]): task_struct {
    const n = runnable.length;
    return n === 1 ? runnable[0]! : runnable[this.random.below(n)]!;
  }
  next_u64(): number {
    return 0;
  }
  promise(runs: number): string {
    return `${runs} random schedules showed nothing; that proves nothing`;
  }
}

/**
 * Probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010): tasks have random priorities,
 * the highest runs, and at depth - 1 random steps the running one falls below all others. A bug
 * that needs `depth` ordering constraints among n tasks and k steps is hit by each run with
 * probability at least 1 / (n * k^(depth-1)). k is the longest run seen so far. Who yields goes to
 * the bottom.
 */
export class pct_explorer implements explore_strategy {
  readonly name = "pct";
  readonly depth: number;
  private readonly seed: number;
  private readonly random = new Random(0);
  private readonly priority = new Map<number, number>();
  private readonly drops: number[] = [];
  private step = 0;
  private bottom = 0;
  private longest = 1;
  private most_tasks = 1;

  constructor(seed: number, depth: number) {
    this.seed = seed;
    this.depth = depth;
  }

  /** The length of the runs as known so far, for those who know it before. */
  expect_steps(k: number): void {
    this.longest = Math.max(this.longest, k);
  }

  begin(n: number): boolean {
    this.longest = Math.max(this.longest, this.step);
    this.most_tasks = Math.max(this.most_tasks, this.priority.size);
    this.random.reseed(run_seed(this.seed, n));
    this.priority.clear();
    this.step = 0;
    this.bottom = 0;
    this.drops.length = 0;
    for (let i = 1; i < this.depth; i++) this.drops.push(1 + this.random.below(this.longest));
    return true;
  }
  new_execution(): void {}

  private priority_of(t: task_struct): number {
    let p = this.priority.get(t.pid);
    if (p === undefined) {
      p = this.depth + this.random.u32();
      this.priority.set(t.pid, p);
    }
    return p;
  }
  private best(runnable: readonly task_struct[]): task_struct {
    let best = runnable[0]!;
    for (const t of runnable) if (this.priority_of(t) > this.priority_of(best)) best = t;
    return best;
  }

  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    if (yielding && current !== null) this.priority.set(current.pid, --this.bottom);
    if (runnable.length > 1) this.step++;
    let best = this.best(runnable);
    for (let i = 0; i < this.drops.length; i++) {
      if (this.drops[i] !== this.step || runnable.length === 1) continue;
      this.priority.set(best.pid, this.depth - 1 - i);
      best = this.best(runnable);
    }
    return best;
  }
  next_u64(): number {
    return 0;
  }
  promise(runs: number): string {
    const p = 1 / (this.most_tasks * this.longest ** (this.depth - 1));
    const missed = (1 - p) ** runs;
    return (
      `pct: ${this.most_tasks} tasks, ${this.longest} steps: a bug of depth ${this.depth} would ` +
      `have shown in these ${runs} runs with probability ${((1 - missed) * 100).toFixed(1)}% or more`
    );
  }
}

/** Another task at every choice, in turn. One run. */
export class round_robin_explorer implements explore_strategy {
  readonly name = "round-robin";
  begin(n: number): boolean {
    return n === 0;
  }
  new_execution(): void {}
  next_task(runnable: readonly task_struct[]): task_struct {
    return runnable[0]!;
  }
  next_u64(): number {
    return 0;
  }
}

/** The given choices, then the default. */
export class replay_explorer implements explore_strategy {
  readonly name = "replay";
  /** A choice named a task that was not there: the schedule is of another program. */
  misfit = -1;
  private choices: readonly number[];
  private at = 0;
  constructor(choices: readonly number[]) {
    this.choices = choices;
  }
  /** Another schedule for the next run. */
  set(choices: readonly number[]): void {
    this.choices = choices;
    this.at = 0;
    this.misfit = -1;
  }
  begin(n: number): boolean {
    this.at = 0;
    return n === 0;
  }
  new_execution(): void {}
  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    const home = default_index(runnable, current, yielding);
    if (runnable.length === 1) return runnable[0]!;
    const i = this.at++;
    const choice = i < this.choices.length ? this.choices[i]! : 0;
    if (choice < runnable.length) return nth_candidate(runnable, home, choice);
    if (this.misfit < 0) this.misfit = i;
    return runnable[home]!;
  }
  next_u64(): number {
    return 0;
  }
  /** Choices that the run did not reach. */
  get unused(): number {
    return Math.max(0, this.choices.length - this.at);
  }
}

/** Every schedule there is, without reduction: for tiny programs, and to check the reduction. */
export class all_explorer implements explore_strategy {
  readonly name = "all";
  private readonly path: number[] = [];
  private readonly arity: number[] = [];
  private at = 0;
  private done = false;

  begin(n: number): boolean {
    this.at = 0;
    if (n === 0) return true;
    while (this.path.length > 0) {
      const last = this.path.length - 1;
      if (++this.path[last]! < this.arity[last]!) return true;
      this.path.pop();
      this.arity.pop();
    }
    this.done = true;
    return false;
  }
  complete(): boolean {
    return this.done;
  }
  new_execution(): void {}
  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    if (runnable.length === 1) return runnable[0]!;
    const i = this.at++;
    if (i === this.path.length) {
      this.path.push(0);
      this.arity.push(runnable.length);
    }
    return nth_candidate(runnable, default_index(runnable, current, yielding), this.path[i]!);
  }
  next_u64(): number {
    return 0;
  }
}

interface seen_choice {
  tasks: string;
  pid: number;
}

function names(runnable: readonly task_struct[]): string {
  return runnable.map((t) => t.toString()).join(", ");
}

/** Runs each schedule of `inner` twice; the second run must offer the same choices. */
export class DeterminismCheck implements explore_strategy {
  readonly name: string;
  private readonly inner: explore_strategy;
  private readonly seen: seen_choice[] = [];
  private second = false;
  private at = 0;
  private found: Nondeterminism | null = null;

  constructor(inner: explore_strategy) {
    this.inner = inner;
    this.name = `${inner.name}, each schedule twice`;
  }
  begin(n: number): boolean {
    this.second = n % 2 === 1;
    this.at = 0;
    if (this.second) return true;
    this.seen.length = 0;
    return this.inner.begin(n / 2);
  }
  attach(m: Machine): void {
    if (!this.second) this.inner.attach?.(m);
  }
  end(): void {
    if (!this.second) this.inner.end?.();
    else if (this.at < this.seen.length && this.found === null) {
      this.found = new Nondeterminism(
        this.at,
        this.seen[this.at]!.tasks,
        "none (the run was over)",
      );
    }
  }
  problem(): Error | null {
    return this.found;
  }
  complete(): boolean {
    return this.inner.complete?.() ?? false;
  }
  new_execution(): void {
    if (!this.second) this.inner.new_execution();
  }
  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    const tasks = names(runnable);
    const i = this.at++;
    if (!this.second) {
      const next = this.inner.next_task(runnable, current, yielding);
      this.seen.push({ tasks, pid: next.pid });
      return next;
    }
    const before = this.seen[i];
    const again = runnable.find((t) => t.pid === before?.pid);
    if (before !== undefined && before.tasks === tasks && again) return again;
    const was = before === undefined ? "none (the run was over)" : before.tasks;
    this.found = new Nondeterminism(i, was, tasks);
    runnable[0]!.kernel.sched.stop(this.found);
    return runnable[0]!;
  }
  next_u64(): number {
    return this.inner.next_u64();
  }
}
