/**
 * tools/explore/explore.ts - many schedules of one scenario: until one goes wrong, the strategy has
 * none left, or runs or time are used up. A finding is minimised.
 *
 * Pure: the caller brings the clock and the turn of the event loop.
 */
import type { scenario } from "../api/scenario.ts";
import { dpor_explorer } from "./dpor.ts";
import { minimise } from "./minimise.ts";
import { type outcome, run_once, type run_options, signature, type verdict } from "./run.ts";
import {
  all_explorer,
  DeterminismCheck,
  pct_explorer,
  random_explorer,
  round_robin_explorer,
} from "./strategies.ts";
import type { explore_strategy } from "./strategy.ts";

export type strategy_name = "random" | "pct" | "dpor" | "all" | "round-robin";
export const STRATEGIES: readonly strategy_name[] = Object.freeze([
  "random",
  "pct",
  "dpor",
  "all",
  "round-robin",
]);

export interface explore_options {
  strategy?: strategy_name;
  /**
   * Schedules at most; default 1000 for random and pct, no limit for those that end by themselves.
   */
  runs?: number;
  /** Of the schedules. Default 1. */
  seed?: number;
  /** Of the Machine. Default: the scenario's. */
  machine_seed?: number;
  /** PCT: ordering constraints of the bugs looked for. Default 3. */
  depth?: number;
  switches?: readonly string[];
  /** Part i (from 0) of n: random and pct take every n-th run, dpor and all a part of the tree. */
  shard?: { i: number; n: number };
  max_steps?: number;
  /** Wall milliseconds at most; needs `now`. */
  max_ms?: number;
  now?: () => number;
  turn?: () => Promise<void>;
  /** Validate the order of locks in each run. */
  lockdep?: boolean;
  /** Run each schedule twice and compare. */
  determinism?: boolean;
  /** Go on after a finding, to count outcomes. */
  keep_going?: boolean;
  /** Runs that minimising may take; 0: leave the finding as it is. Default 5000. */
  minimise_runs?: number;
  /** Asked before each run: stop here. */
  stop?: () => boolean;
  on_run?: (runs: number, phase: "explore" | "minimise") => void;
  /** Every run that was not given up. */
  on_outcome?: (o: outcome) => void;
}

export interface finding {
  verdict: verdict;
  signature: string;
  /** Of the run as it was found. */
  found_switches: number;
  /** Minimised. */
  outcome: outcome;
  minimal: boolean;
  minimise_runs: number;
}

export interface exploration {
  strategy: string;
  /** Runs to the end. */
  runs: number;
  /** Runs given up as repetitions. */
  pruned: number;
  /** Nothing is left to explore. */
  complete: boolean;
  /** Stopped by max_ms. */
  out_of_time: boolean;
  /** How often each ending came. */
  verdicts: Partial<Record<verdict, number>>;
  /** The first of each kind. */
  findings: finding[];
  /** What finding nothing means. */
  promise: string;
}

export const DEFAULT_RUNS = 1000;
const MINIMISE_RUNS = 5000;

const NO_CHOICE =
  "nothing happened at the same time, so there is one schedule: give system calls of several " +
  "processes at once (Promise.all), or spawn tasks and await m.run()";

export function make_strategy(o: explore_options): explore_strategy {
  const seed = o.seed ?? 1;
  const made: Record<strategy_name, () => explore_strategy> = {
    random: () => new random_explorer(seed),
    pct: () => new pct_explorer(seed, o.depth ?? 3),
    dpor: () => new dpor_explorer(o.shard ?? null),
    all: () => new all_explorer(),
    "round-robin": () => new round_robin_explorer(),
  };
  const inner = made[o.strategy ?? "random"]();
  return o.determinism ? new DeterminismCheck(inner) : inner;
}

function sampling(o: explore_options): boolean {
  return o.strategy === undefined || o.strategy === "random" || o.strategy === "pct";
}

class Exploration {
  readonly out: exploration;
  private readonly s: scenario;
  private readonly o: explore_options;
  private readonly strategy: explore_strategy;
  private readonly run_options: run_options;
  private readonly seen = new Set<string>();

  constructor(s: scenario, o: explore_options) {
    this.s = s;
    this.o = o;
    this.strategy = make_strategy(o);
    this.run_options = {
      ...(o.machine_seed === undefined ? {} : { seed: o.machine_seed }),
      ...(o.switches ? { switches: o.switches } : {}),
      ...(o.max_steps ? { max_steps: o.max_steps } : {}),
      ...(o.turn ? { turn: o.turn } : {}),
      ...(o.lockdep ? { lockdep: true } : {}),
    };
    this.out = {
      strategy: this.strategy.name,
      runs: 0,
      pruned: 0,
      complete: false,
      out_of_time: false,
      verdicts: {},
      findings: [],
      promise: "",
    };
  }

  async explore(): Promise<exploration> {
    const { o, out, strategy } = this;
    const limit = o.runs ?? (sampling(o) ? DEFAULT_RUNS : Infinity);
    const { i: part, n: parts } = sampling(o) && o.shard ? o.shard : { i: 0, n: 1 };
    const end = o.max_ms === undefined || !o.now ? Infinity : o.now() + o.max_ms;
    for (let n = part; n < limit; n += parts) {
      if (end !== Infinity && o.now!() >= end) {
        out.out_of_time = true;
        break;
      }
      if (o.stop?.() === true || !strategy.begin(n)) break;
      const done = await run_once(this.s, strategy, this.run_options);
      o.on_run?.(out.runs + out.pruned + 1, "explore");
      const news = !this.count(done);
      if (news) await this.found(done);
      if (news && !o.keep_going) break;
      if (done.choices.length === 0 && out.runs === 1) {
        out.complete = true;
        out.promise = NO_CHOICE;
        return out;
      }
    }
    out.complete = strategy.complete?.() ?? false;
    out.promise = strategy.promise?.(out.runs + out.pruned) ?? "";
    return out;
  }

  /** True: nothing new is wrong with this run. */
  private count(done: outcome): boolean {
    const { out } = this;
    if (done.verdict === "pruned") {
      out.pruned++;
      return true;
    }
    out.runs++;
    out.verdicts[done.verdict] = (out.verdicts[done.verdict] ?? 0) + 1;
    this.o.on_outcome?.(done);
    return done.verdict === "ok" || this.seen.has(signature(done));
  }

  private async found(first: outcome): Promise<void> {
    const key = signature(first);
    this.seen.add(key);
    const found_switches = first.switches;
    const budget =
      first.verdict === "nondeterministic" ? 0 : (this.o.minimise_runs ?? MINIMISE_RUNS);
    let m = { outcome: first, runs: 0, minimal: false };
    if (budget > 0) {
      const run = (e: explore_strategy): Promise<outcome> => run_once(this.s, e, this.run_options);
      m = await minimise(first, run, budget, (n) => this.o.on_run?.(n, "minimise"));
    }
    this.out.findings.push({
      verdict: first.verdict,
      signature: key,
      found_switches,
      outcome: m.outcome,
      minimal: m.minimal,
      minimise_runs: m.runs,
    });
  }
}

export function explore(s: scenario, o: explore_options = {}): Promise<exploration> {
  return new Exploration(s, o).explore();
}

/** The results of parts of one exploration, as one. */
export function merge(parts: readonly exploration[]): exploration {
  const out: exploration = {
    strategy: parts[0]?.strategy ?? "",
    runs: 0,
    pruned: 0,
    complete: parts.length > 0,
    out_of_time: false,
    verdicts: {},
    findings: [],
    promise: "",
  };
  for (const p of parts) {
    out.runs += p.runs;
    out.pruned += p.pruned;
    out.complete &&= p.complete;
    out.out_of_time ||= p.out_of_time;
    for (const [v, n] of Object.entries(p.verdicts) as [verdict, number][]) {
      out.verdicts[v] = (out.verdicts[v] ?? 0) + n;
    }
    for (const f of p.findings) merge_finding(out.findings, f);
  }
  out.promise = parts.length === 1 ? parts[0]!.promise : `${parts.length} parts together`;
  return out;
}

function merge_finding(into: finding[], f: finding): void {
  const i = into.findIndex((g) => g.signature === f.signature);
  if (i < 0) {
    into.push(f);
    return;
  }
  const [a, b] = [into[i]!.outcome, f.outcome];
  if (b.switches < a.switches || (b.switches === a.switches && b.steps < a.steps)) into[i] = f;
}
