/**
 * tools/bench/sched_adapter.ts - one run of 2 tasks x 10 locked steps under a schedule from a seed,
 * for other benches: a function of the seed, with the wait-for graph and lockdep on. Built to
 * dist/bench/sched.js.
 */
import { one_schedule } from "./sched.ts";

export default (seed: number): Promise<number> =>
  one_schedule(seed, { detect: true, lockdep: true });
