/**
 * tools/bench/sched.ts - what a call, a lock and a re-run of a small scenario cost. The scenario is
 * the one of the design: two tasks, ten times lock, scheduling point, unlock, from an empty
 * Machine, a new seed each time; the wait-for graph is on. Taking a lock is a scheduling point too,
 * so that each step has two; "lock and unlock only" has one, as a step of fast-check's scheduler
 * has. Peers: that scheduler, and bare generators.
 */
import type { Scheduler as fc_scheduler } from "fast-check";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { lock_class, mutex, rw_semaphore, spinlock } from "../../kernel/locking/locks.ts";
import { Machine } from "../../kernel/machine.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { bench_random, type contestant, type group_result, run_group, sink } from "./harness.ts";

const STEPS = 10;
const FAST_CHECK = "fast-check scheduler";
const LOCK = lock_class("&bench->lock");

interface shared {
  lock: mutex;
  x: number;
  point: () => MaybeWait;
}

async function ten_locks(t: task_struct): Promise<void> {
  const s = t.user_data as shared;
  for (let i = 0; i < STEPS; i++) {
    const p = s.lock.lock();
    if (p) await p;
    const seen = s.x;
    const q = s.point();
    if (q) await q;
    s.x = seen + 1;
    s.lock.unlock();
  }
}

/** What the run is given; `point`: another task may go on inside the locked part too. */
interface run_options {
  detect: boolean;
  lockdep?: boolean;
  point?: boolean;
}

const no_point = (): undefined => undefined;

/** One run from nothing; the number of task switches. */
export async function one_schedule(seed: number, o: run_options): Promise<number> {
  const { detect, lockdep = false, point = true } = o;
  const strategy = new random_strategy(new Random(seed), seed);
  const m = new Machine({ seed, detect, strategy, lockdep });
  const k = new Kernel(m);
  const inside = point ? () => m.sched.sched_point() : no_point;
  const s: shared = { lock: new mutex(m, LOCK), x: 0, point: inside };
  m.spawn(k, "a", ten_locks).user_data = s;
  m.spawn(k, "b", ten_locks).user_data = s;
  const r = await m.run();
  if (s.x !== 2 * STEPS) throw new Error(`an update was lost: ${s.x}`);
  return r.switches;
}

function* steps(s: { x: number }): Generator<void> {
  for (let i = 0; i < STEPS; i++) {
    const seen = s.x;
    yield;
    s.x = seen + 1;
  }
}

function generators(seed: number): number {
  const r = new bench_random(seed);
  const s = { x: 0 };
  const live = [steps(s), steps(s)];
  while (live.length > 0) {
    const i = live.length > 1 ? r.below(2) : 0;
    if (live[i]!.next().done) live.splice(i, 1);
  }
  return s.x;
}

async function fast_check_run(s: fc_scheduler): Promise<number> {
  const state = { x: 0 };
  const task = async (id: number): Promise<void> => {
    for (let i = 0; i < STEPS; i++) {
      state.x = (await s.schedule(Promise.resolve(state.x), `t${id}.${i}`)) + 1;
    }
  };
  await s.waitFor(Promise.all([task(0), task(1)]));
  return state.x;
}

/** A development dependency: left out where it is not installed. */
async function fast_check(): Promise<contestant[]> {
  const fc = await import("fast-check").catch(() => null);
  if (fc === null) return [];
  const fn = async (n: number): Promise<void> => {
    for (const s of fc.sample(fc.scheduler(), { numRuns: n, seed: n })) {
      sink.value ^= await fast_check_run(s);
    }
  };
  return [{ name: FAST_CHECK, max_n: 5_000, fn }];
}

interface options {
  rounds: number;
  log(text: string): void;
  show(g: group_result): void;
}

async function bench_schedules(o: options): Promise<void> {
  o.log("schedules");
  const ours = (run: run_options) => async (n: number) => {
    for (let i = 1; i <= n; i++) sink.value ^= await one_schedule(i, run);
  };
  const list = [
    { name: "daxlab", fn: ours({ detect: true }) },
    { name: "daxlab with lockdep", fn: ours({ detect: true, lockdep: true }) },
    { name: "daxlab, no wait-for graph", fn: ours({ detect: false }) },
    { name: "daxlab, lock and unlock only", fn: ours({ detect: true, point: false }) },
    {
      name: "bare generators, no locks",
      fn: (n: number) => {
        for (let i = 1; i <= n; i++) sink.value ^= generators(i);
      },
    },
    ...(await fast_check()),
  ];
  const title = "schedules: one run of 2 tasks x 10 locked steps";
  const bases = [FAST_CHECK, "bare generators, no locks"];
  o.show(await run_group(title, list, { bases, rounds: o.rounds }));
}

async function bench_calls(o: options): Promise<void> {
  o.log("calls and locks");
  const m = new Machine();
  const k = new Kernel(m);
  const t = m.new_thread(k, "bench");
  const sem = new rw_semaphore(m, LOCK);
  const spin = new spinlock(m, LOCK);
  const nothing = (): number => 1;
  const two_locks = (): number => {
    if (sem.down_read()) throw new Error("contended");
    spin.lock();
    spin.unlock();
    sem.up_read();
    return 1;
  };
  const calls = (fn: () => number) => (n: number) => {
    for (let i = 0; i < n; i++) sink.value ^= m.sched.call(t, fn) as number;
  };
  const plain = (fn: () => number) => (n: number) => {
    for (let i = 0; i < n; i++) sink.value ^= fn();
  };
  const list = [
    { name: "function call", fn: plain(nothing) },
    { name: "call into the Machine", fn: calls(nothing) },
    { name: "rwsem (read) and spinlock", fn: plain(two_locks) },
    { name: "call with both locks", fn: calls(two_locks) },
  ];
  const bases = ["call into the Machine"];
  o.show(await run_group("calls: uncontended", list, { bases, rounds: o.rounds }));
}

export async function bench_sched(o: options): Promise<void> {
  await bench_schedules(o);
  await bench_calls(o);
}
