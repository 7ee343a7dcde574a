/**
 * kernel/sched/strategy.ts - who gets the baton. The interface, the default, and a seeded random
 * one.
 *
 * Strategies that explore (PCT, exhaustive, replay) are in tools/explore/ and implement the same
 * three calls. All choices of a run, of tasks and of data, go through them, so a run is replayed by
 * replaying the answers.
 */
import type { Random } from "../random.ts";
import type { task_struct, waitable } from "./task.ts";

export interface Scheduler {
  /** A run starts. */
  new_execution(): void;
  /**
   * One of `runnable` (not empty, in the order in which tasks became runnable; the running task, if
   * it can go on, stands last). `current`: the task that runs now, null if it just blocked or
   * ended. `yielding`: current asked to let others go first.
   */
  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct;
  /** An integer 0 .. 2^53-1 for choices other than of tasks. */
  next_u64(): number;
}

/**
 * What exploration by partial-order reduction hears besides the choices (Baton.observer; null: one
 * check each). Everything between two choices is one step of one task.
 */
export interface SchedObserver {
  /** A scheduling point where nobody else could run: a step ends, the same task goes on. */
  alone(task: task_struct): void;
  /**
   * The running task looks at, or changes, what other tasks use too. Locks also tell machine.dep.
   */
  touch(object: object, write: boolean): void;
  /** `task` becomes able to run, having slept on `on`; null: it is new. */
  woken(task: task_struct, on: waitable | null): void;
}

/**
 * Default: the running task goes on as long as it can, then the one that waits longest. Sched knows
 * this object and does not even ask it.
 */
export const run_on: Scheduler = Object.freeze({
  new_execution(): void {},
  next_task(
    runnable: readonly task_struct[],
    current: task_struct | null,
    yielding: boolean,
  ): task_struct {
    return current !== null && !yielding ? current : runnable[0]!;
  },
  next_u64(): number {
    return 0;
  },
});

/** Every choice uniformly at random from a seed. */
export class random_strategy implements Scheduler {
  private readonly random: Random;
  private readonly seed: number;

  constructor(random: Random, seed: number) {
    this.random = random;
    this.seed = seed;
  }
  new_execution(): void {
    this.random.reseed(this.seed);
  }
  next_task(runnable: readonly task_struct[]): task_struct {
    return runnable.length === 1 ? runnable[0]! : runnable[this.random.below(runnable.length)]!;
  }
  next_u64(): number {
    return this.random.u53();
  }
}
