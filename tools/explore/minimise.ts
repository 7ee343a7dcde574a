/**
 * tools/explore/minimise.ts - the same finding with the fewest context switches, then the fewest
 * steps.
 *
 * First the schedule that was found is made simpler, choice by choice, as long as the finding
 * stays. Then all schedules with 0, 1, 2 ... switches are tried (iterative context bounding,
 * Musuvathi and Qadeer, PLDI 2007) until one shows it. If the budget lasts, no schedule with fewer
 * switches does.
 */
import type { task_struct } from "../../kernel/sched/task.ts";
import { default_index, nth_candidate } from "./recorder.ts";
import { type outcome, signature } from "./run.ts";
import { replay_explorer } from "./strategies.ts";
import type { explore_strategy } from "./strategy.ts";

export interface minimised {
  outcome: outcome;
  /** Runs it took. */
  runs: number;
  /** No schedule with fewer switches shows the finding. */
  minimal: boolean;
}

export type runner = (strategy: explore_strategy) => Promise<outcome>;

interface point {
  /** Candidates there were. */
  arity: number;
  /** Switches before this choice. */
  switches: number;
  /** For each candidate as written: does it go on with the task that ran? */
  same: boolean[];
}

/**
 * Replays choices, then switches as little as possible, and notes what else could have been chosen.
 */
class bounded_explorer extends replay_explorer {
  readonly points: point[] = [];
  private last = -1;
  private count = 0;

  override begin(n: number): boolean {
    this.points.length = 0;
    this.last = -1;
    this.count = 0;
    return super.begin(n);
  }

  override next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    if (runnable.length > 1) {
      const home = default_index(runnable, current, yielding);
      const same = runnable.map((_t, i) => nth_candidate(runnable, home, i).pid === this.last);
      this.points.push({ arity: runnable.length, switches: this.count, same });
    }
    const next = super.next_task(runnable, current, yielding);
    if (next.pid !== this.last) this.count++;
    this.last = next.pid;
    return next;
  }
}

function better(a: outcome, b: outcome): boolean {
  return a.switches < b.switches || (a.switches === b.switches && a.steps < b.steps);
}

function trimmed(choices: readonly number[], steps: number): number[] {
  const out = choices.slice(0, steps);
  while (out.length > 0 && out[out.length - 1] === 0) out.pop();
  return out;
}

class Search {
  runs = 0;
  best: outcome;
  private readonly wanted: string;
  private readonly run: runner;
  private readonly budget: number;
  private readonly on_run: (runs: number) => void;

  constructor(first: outcome, run: runner, budget: number, on_run: (runs: number) => void) {
    this.best = first;
    this.wanted = signature(first);
    this.run = run;
    this.budget = budget;
    this.on_run = on_run;
  }

  get left(): boolean {
    return this.runs < this.budget;
  }

  async attempt(e: bounded_explorer, choices: readonly number[]): Promise<outcome | null> {
    e.set(choices);
    e.begin(0);
    this.on_run(++this.runs);
    const o = await this.run(e);
    return signature(o) === this.wanted ? o : null;
  }

  /** One choice after the other becomes the default. */
  async simplify(): Promise<void> {
    const e = new bounded_explorer([]);
    for (let again = true; again && this.left; ) {
      again = false;
      const now = trimmed(this.best.choices, this.best.steps);
      for (let i = now.length - 1; i >= 0 && this.left; i--) {
        if (now[i] === 0) continue;
        const next = now.slice();
        next[i] = 0;
        const o = await this.attempt(e, next);
        if (o === null || !better(o, this.best)) continue;
        this.best = o;
        again = true;
        break;
      }
    }
  }

  /** Every schedule with at most `bound` switches; the best finding, if any. */
  async bounded(bound: number): Promise<outcome | null> {
    const e = new bounded_explorer([]);
    const todo: number[][] = [[]];
    let best: outcome | null = null;
    while (todo.length > 0 && this.left) {
      const prefix = todo.pop()!;
      const o = await this.attempt(e, prefix);
      const cut = o === null ? Infinity : o.steps;
      if (o !== null && o.switches <= bound && (best === null || better(o, best))) best = o;
      for (let i = prefix.length; i < e.points.length && i < cut; i++) {
        const p = e.points[i]!;
        for (let c = 1; c < p.arity; c++) {
          if (p.switches + (p.same[c] ? 0 : 1) > bound) continue;
          const next = prefix.slice();
          while (next.length < i) next.push(0);
          next.push(c);
          todo.push(next);
        }
      }
    }
    return best;
  }
}

export async function minimise(
  first: outcome,
  run: runner,
  budget: number,
  on_run: (runs: number) => void = () => undefined,
): Promise<minimised> {
  const s = new Search(first, run, budget, on_run);
  await s.simplify();
  let minimal = false;
  for (let bound = 1; s.left && !minimal; bound++) {
    const o = await s.bounded(bound);
    if (o !== null && !better(s.best, o)) s.best = o;
    minimal = s.left && (o !== null || bound >= s.best.switches);
  }
  const best = s.best;
  best.choices = trimmed(best.choices, best.steps);
  return { outcome: best, runs: s.runs, minimal };
}
