/**
 * tools/explore/recorder.ts - between the Machine and a strategy: which choices are explored, and
 * what was chosen.
 *
 * Only choices made while run() or several calls from outside are under way count: what a scenario
 * does before (boot, mkfs, mount) and after (its checks) runs as ever. A choice is written as 0 for
 * the default scheduler's, n for the n-th other candidate; so a schedule is a list of small
 * numbers, mostly 0.
 */
import { StepLimit } from "../../kernel/locking/report.ts";
import type { Machine } from "../../kernel/machine.ts";
import type { Scheduler } from "../../kernel/sched/strategy.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import type { explore_strategy } from "./strategy.ts";

export interface recorder_options {
  /** Choices after which a run is given up. */
  max_steps?: number;
  /** End the run as soon as a deadlock or hang is known, instead of letting the others go on. */
  stop_at_report?: boolean;
  on_step?: (next: task_struct) => void;
}

export const DEFAULT_MAX_STEPS = 20_000;

/** The place in `runnable` of what the default scheduler would take. */
export function default_index(
  runnable: readonly task_struct[],
  current: task_struct | null,
  yielding: boolean,
): number {
  return current !== null && !yielding ? runnable.length - 1 : 0;
}

/** Candidate `choice` as written in schedules: 0 the default, then the others in order. */
export function nth_candidate(
  runnable: readonly task_struct[],
  home: number,
  choice: number,
): task_struct {
  if (choice === 0) return runnable[home]!;
  return runnable[choice <= home ? choice - 1 : choice]!;
}

export class Recorder implements Scheduler {
  /** One a choice among at least two tasks. */
  readonly choices: number[] = [];
  /** Choices when the first report appeared; -1: none. */
  reported_at = -1;
  /** Times another task than before went on, up to the first report. */
  switches = 0;
  machine: Machine | null = null;
  private readonly inner: explore_strategy;
  private readonly options: recorder_options;
  private readonly max_steps: number;
  private last: task_struct | null = null;
  private steps = 0;

  constructor(inner: explore_strategy, options: recorder_options = {}) {
    this.inner = inner;
    this.options = options;
    this.max_steps = options.max_steps ?? DEFAULT_MAX_STEPS;
  }

  new_execution(): void {
    this.inner.new_execution();
  }
  next_u64(): number {
    return this.inner.next_u64();
  }

  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    const home = default_index(runnable, current, yielding);
    const sched = runnable[0]!.kernel.sched;
    if (!sched.running) return runnable[home]!;
    if (this.machine === null) {
      this.machine = sched.machine;
      this.inner.attach?.(sched.machine);
    }
    if (this.stops_here()) return runnable[0]!;
    const next = this.inner.next_task(runnable, current, yielding);
    if (runnable.length > 1) {
      const i = next === runnable[home] ? home : runnable.indexOf(next);
      this.choices.push(i === home ? 0 : i < home ? i + 1 : i);
    }
    if (next !== this.last) {
      if (this.reported_at < 0) this.switches++;
      this.last = next;
    }
    this.options.on_step?.(next);
    if (++this.steps <= this.max_steps) return next;
    sched.stop(new StepLimit(this.max_steps, next));
    // A machine that was stopped runs nobody any more, except the task that goes on where it is.
    return runnable[0]!;
  }

  private stops_here(): boolean {
    const m = this.machine!;
    if (this.reported_at >= 0 || m.reports.length === 0) return false;
    this.reported_at = this.choices.length;
    if (!this.options.stop_at_report) return false;
    m.sched.stop(new Error("stopped at the report"));
    return true;
  }
}
