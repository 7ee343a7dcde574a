/**
 * tools/explore/strategy.ts - what explores is a Scheduler that also knows about runs.
 *
 * Reading order: this; recorder.ts (which choices count, and how they are written down);
 * strategies.ts; dpor.ts; run.ts (one schedule); explore.ts (many); minimise.ts; story.ts.
 */
import type { Machine } from "../../kernel/machine.ts";
import type { Scheduler } from "../../kernel/sched/strategy.ts";

export interface explore_strategy extends Scheduler {
  readonly name: string;
  /** Prepares run `n` (from 0). False: nothing is left to explore. */
  begin(n: number): boolean;
  /** The first choice of a run is about to be asked. */
  attach?(m: Machine): void;
  /** The run is over. */
  end?(): void;
  /** What is wrong with the run that ended, other than what the run itself says. */
  problem?(): Error | null;
  /** Every schedule there is has been explored (up to the equivalence the strategy promises). */
  complete?(): boolean;
  /** What a search without a finding has shown, in a sentence. */
  promise?(runs: number): string;
}

/** Ends a run that repeats what was explored: no finding. */
export class Pruned extends Error {
  override readonly name = "Pruned";
  constructor() {
    super("this schedule is equivalent to one explored before");
  }
}

/**
 * Two runs with the same choices differ: the scenario, or the emulator, uses more than its Machine.
 */
export class Nondeterminism extends Error {
  override readonly name = "Nondeterminism";
  readonly step: number;
  constructor(step: number, first: string, second: string) {
    super(
      `the run is not deterministic: at choice ${step} the tasks that could run were ${first}, ` +
        `and with the same choices again ${second}`,
    );
    this.step = step;
  }
}
