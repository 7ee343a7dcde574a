/**
 * tests/tools/explore.test.ts - strategies, reduction against all schedules, replay, minimisation,
 * the determinism check, and seeded bugs that each strategy has to find.
 */
import { lock_class, mutex, new_wait_queue, rw_semaphore } from "../../kernel/locking/locks.ts";
import { msleep, sched_point, sched_yield } from "../../kernel/sched/core.ts";
import { shared } from "../../kernel/sched/shared.ts";
import { Random } from "../../kernel/random.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import type { Machine } from "../../tools/api/machine.ts";
import type { scenario } from "../../tools/api/scenario.ts";
import { dpor_explorer } from "../../tools/explore/dpor.ts";
import {
  decode_choices,
  decode_replay,
  encode_choices,
  encode_replay,
} from "../../tools/explore/encode.ts";
import {
  explore,
  type exploration,
  merge,
  type strategy_name,
} from "../../tools/explore/explore.ts";
import { run_once } from "../../tools/explore/run.ts";
import { TraceCounter } from "../../tools/explore/steps.ts";
import { story_text, tell } from "../../tools/explore/story.ts";
import { all_explorer, replay_explorer } from "../../tools/explore/strategies.ts";
import type { explore_strategy } from "../../tools/explore/strategy.ts";
import { model, outcome_text, outcomes_of, turn } from "../lib/explore.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/explore");
const A = lock_class("&a");
const B = lock_class("&b");

// ------------------------------------------------------------------ programs

const abba = model(async (m) => {
  const a = new mutex(m, A);
  const b = new mutex(m, B);
  const take = async (x: mutex, y: mutex): Promise<void> => {
    await x.lock();
    await y.lock();
    y.unlock();
    x.unlock();
  };
  m.spawn(m.kernel, "one", () => take(a, b));
  m.spawn(m.kernel, "two", () => take(b, a));
  await m.run();
});

const lost_wake_up = model(async (m) => {
  const queue = new_wait_queue(m, "queue");
  const ready = new shared(m, "ready", false);
  m.spawn(m.kernel, "sleeper", async () => {
    if (await ready.read()) return;
    await sched_point(m.kernel);
    await queue.wait();
  });
  m.spawn(m.kernel, "waker", async () => {
    await ready.write(true);
    queue.wake_up();
  });
  await m.run();
});

/** Fails only if the baton goes one, two, one, two: three context switches. */
const atomicity = model(async (m) => {
  const [x, y] = [new shared(m, "x", 0), new shared(m, "y", 0)];
  m.spawn(m.kernel, "one", async () => {
    const before = await x.read();
    const after = await x.read();
    if (before === 0 && after === 1) await y.write(1);
  });
  m.spawn(m.kernel, "two", async () => {
    await x.write(1);
    if ((await y.read()) === 1) throw new Error("one saw x change under its hands");
  });
  await m.run();
});

/** `n` tasks write `steps` times, each to one of `vars` variables. */
const writers = (n: number, vars: number, steps: number): scenario =>
  model(async (m) => {
    const xs = Array.from({ length: vars }, (_, i) => new shared(m, `x${i}`, 0));
    for (let i = 0; i < n; i++) {
      m.spawn(m.kernel, `w${i}`, async () => {
        for (let k = 0; k < steps; k++) await xs[(i + k) % vars]!.write(i);
      });
    }
    await m.run();
    return xs.map((x) => x.peek());
  });

/** Runs `e` to its end, or `most` times; the number of runs. */
async function counted(
  s: scenario,
  e: explore_strategy,
  outcomes = new Set<string>(),
  most = Infinity,
): Promise<number> {
  let n = 0;
  for (; n < most && e.begin(n); n++) outcomes.add(outcome_text(await run_once(s, e, { turn })));
  return n;
}

async function traces_of(s: scenario): Promise<number> {
  const counter = new TraceCounter(new all_explorer());
  await counted(s, counter);
  return counter.traces.size;
}

// ------------------------------------------------------------------ reduction

const factorial = (n: number): number => (n <= 1 ? 1 : n * factorial(n - 1));

t("n writers of one variable have n! traces, and reduction runs as many schedules", async () => {
  for (const n of [1, 2, 3, 4, 5]) {
    const { result } = await outcomes_of(writers(n, 1, 1));
    assert.is(result.runs, factorial(n));
    assert.is(result.pruned, 0);
    assert.ok(result.complete);
  }
});

t("writers of variables of their own have one trace", async () => {
  const { result } = await outcomes_of(writers(4, 4, 1));
  assert.is(result.runs, 1);
});

t("readers do not depend on each other, each depends on the writer", async () => {
  const s = model(async (m) => {
    const x = new shared(m, "x", 0);
    for (let i = 0; i < 3; i++) m.spawn(m.kernel, `r${i}`, () => x.read());
    m.spawn(m.kernel, "w", () => x.write(1));
    await m.run();
  });
  const { result } = await outcomes_of(s);
  assert.is(result.runs, 2 ** 3);
});

/** A program from a seed: locks, variables, waits, and what each task saw. */
function random_program(seed: number): scenario {
  return model(async (m) => {
    const random = new Random(seed);
    const world = make_world(m);
    const tasks = 2 + random.below(2);
    const length = tasks === 2 ? 3 : 2;
    for (let i = 0; i < tasks; i++) {
      const ops = Array.from({ length }, () => random.below(OPS.length));
      m.spawn(m.kernel, `t${i}`, async () => {
        for (const op of ops) await OPS[op]!(world, i);
      });
    }
    await m.run();
    return `${world.x.peek()} ${world.y.peek()} ${[...world.seen.entries()].sort()}`;
  });
}

interface world {
  m: Machine;
  a: mutex;
  b: mutex;
  sem: rw_semaphore;
  x: shared<number>;
  y: shared<number>;
  /** By task. */
  seen: Map<number, string>;
}

function make_world(m: Machine): world {
  return {
    m,
    a: new mutex(m, A),
    b: new mutex(m, B),
    sem: new rw_semaphore(m, lock_class("&sem")),
    x: new shared(m, "x", 0),
    y: new shared(m, "y", 0),
    seen: new Map(),
  };
}

function see(w: world, i: number, what: unknown): void {
  w.seen.set(i, `${w.seen.get(i) ?? ""}${what}`);
}

const OPS: readonly ((w: world, i: number) => Promise<void>)[] = Object.freeze([
  (w: world, i: number) => w.x.write(i + 1),
  (w: world, i: number) => w.y.write(i + 1),
  async (w: world, i: number) => see(w, i, await w.x.read()),
  async (w: world, i: number) => w.y.write((await w.x.read()) + 1 + 0 * i),
  async (w: world) => {
    await w.a.lock();
    await w.x.write(w.x.peek() + 1);
    w.a.unlock();
  },
  async (w: world) => {
    await w.b.lock();
    await w.a.lock();
    w.a.unlock();
    w.b.unlock();
  },
  async (w: world) => {
    await w.a.lock();
    await w.b.lock();
    w.b.unlock();
    w.a.unlock();
  },
  async (w: world, i: number) => {
    await w.sem.down_read();
    see(w, i, w.y.peek());
    w.sem.up_read();
  },
  async (w: world, i: number) => {
    await w.sem.down_write();
    w.y.poke(10 + i);
    w.sem.up_write();
  },
  async (w: world, i: number) => {
    const got = w.a.trylock();
    see(w, i, got ? "+" : "-");
    if (!got) return;
    await sched_point(w.m.kernel);
    w.a.unlock();
  },
]);

const ALL_MOST = 1200;

t("on random programs reduction runs each trace once and meets every outcome", async () => {
  let compared = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const s = random_program(seed);
    const counter = new TraceCounter(new all_explorer());
    const outcomes = new Set<string>();
    // too many schedules without reduction: another program will do
    if ((await counted(s, counter, outcomes, ALL_MOST)) === ALL_MOST) continue;
    compared++;
    const reduced = await outcomes_of(s);
    assert.equal(reduced.outcomes, [...outcomes].sort(), `seed ${seed}`);
    assert.is(reduced.result.runs, counter.traces.size, `seed ${seed}`);
  }
  assert.ok(compared >= 30, `only ${compared} programs compared`);
});

t("parts of a divided exploration together meet every outcome", async () => {
  for (const seed of [2, 3, 5, 8]) {
    const s = random_program(seed);
    const whole = await outcomes_of(s);
    const met = new Set<string>();
    const parts: exploration[] = [];
    for (let i = 0; i < 3; i++) {
      const part = await outcomes_of(s, "dpor", { shard: { i, n: 3 } });
      parts.push(part.result);
      for (const o of part.outcomes) met.add(o);
    }
    assert.equal([...met].sort(), whole.outcomes, `seed ${seed}`);
    assert.ok(merge(parts).complete);
    assert.ok(merge(parts).runs >= whole.result.runs);
  }
});

t("time and joined tasks are explored without false orders", async () => {
  const s = model(async (m) => {
    const x = new shared(m, "x", "");
    const add = (name: string) => async (): Promise<void> => {
      await msleep(m.kernel, 1);
      const seen = await x.read();
      await x.write(seen + name);
    };
    for (const name of ["a", "b"]) m.spawn(m.kernel, name, add(name));
    await m.run();
    return x.peek();
  });
  const { outcomes, result } = await outcomes_of(s);
  assert.equal(outcomes, ["a", "ab", "b", "ba"]);
  assert.is(result.runs, await traces_of(s));
});

// ------------------------------------------------------------------ canaries

const FINDERS: readonly [strategy_name, number][] = Object.freeze([
  ["random", 400],
  ["pct", 400],
  ["dpor", 1e9],
  ["all", 1e9],
]);

async function found_by_all(s: scenario, verdict: string): Promise<exploration> {
  let last: exploration | null = null;
  for (const [strategy, runs] of FINDERS) {
    last = await explore(s, { strategy, runs, turn, depth: 3 });
    assert.is(last.findings[0]?.verdict, verdict, `${strategy} does not find it`);
    assert.ok(last.findings[0]!.minimal, `${strategy}: not minimal`);
  }
  return last!;
}

t("canary: a seeded deadlock is found by every strategy that promises it", async () => {
  const r = await found_by_all(abba, "deadlock");
  const { outcome } = r.findings[0]!;
  // one goes, two goes, one again
  assert.is(outcome.switches, 3);
  assert.equal(outcome.report!.cycle.length, 2);
});
t("canary: a lost wake-up is found, and is no deadlock", async () => {
  const r = await found_by_all(lost_wake_up, "hang");
  assert.equal(r.findings[0]!.outcome.report!.cycle, []);
  assert.match(
    story_text((await told(lost_wake_up, r)).story),
    /nothing is left that could wake it/,
  );
});
t("canary: an atomicity bug that needs 3 context switches is found", async () => {
  const r = await found_by_all(atomicity, "failed");
  assert.is(r.findings[0]!.outcome.switches - 1, 3);
});

function told(s: scenario, r: exploration): ReturnType<typeof tell> {
  return tell(s, r.findings[0]!.outcome.choices, { turn, stop_at_report: true });
}

t("pct keeps its promise: a deadlock of depth 2 in at least one run of n * k", async () => {
  const r = await explore(abba, {
    strategy: "pct",
    depth: 2,
    runs: 1000,
    turn,
    keep_going: true,
    minimise_runs: 0,
  });
  // two tasks, at most six choices
  assert.ok(r.verdicts.deadlock! >= 1000 / (2 * 6), `${r.verdicts.deadlock} of 1000`);
});

t("round-robin makes one run, with a switch at every choice", async () => {
  const r = await explore(abba, { strategy: "round-robin", turn });
  assert.is(r.runs, 1);
  assert.is(r.findings[0]!.verdict, "deadlock");
});

// ------------------------------------------------------------------ replay, story

t("schedules and replay strings survive writing and reading", () => {
  const random = new Random(1);
  for (let i = 0; i < 300; i++) {
    const n = random.below(300);
    const rare = 1 + random.below(20);
    const choices = Array.from({ length: n }, () =>
      random.below(rare) === 0 ? random.below(200) : 0,
    );
    while (choices.at(-1) === 0) choices.pop();
    assert.equal(decode_choices(encode_choices(choices)), choices);
    const r = { scenario: "a b/d1.ts", switches: ["x", "no-y"], seed: 7 * i, choices };
    assert.equal(decode_replay(encode_replay(r)), r);
  }
  assert.equal(decode_replay("d1:1:"), { scenario: "d1", switches: [], seed: 1, choices: [] });
});

t("damaged replay strings are refused", () => {
  for (const bad of ["", "d1", "d1:x:AA", "d1:1:A", "d1:1:gA", "d1:1:_____w", "d1:1:A A"]) {
    assert.throws(() => decode_replay(bad), /replay string/);
  }
});

t("a replayed schedule ends as it was found, twice", async () => {
  const r = await explore(abba, { strategy: "random", turn, minimise_runs: 0 });
  const { choices } = r.findings[0]!.outcome;
  const again = await run_once(abba, new replay_explorer(choices), { turn });
  const twice = await run_once(abba, new replay_explorer(choices), { turn });
  assert.is(again.verdict, "deadlock");
  assert.equal(again.report, r.findings[0]!.outcome.report);
  assert.equal(twice, again);
});

t("choices that fit no task are noticed", async () => {
  const { misfit } = await tell(abba, [0, 9, 9], { turn });
  assert.is(misfit, 1);
});

t("the story says who ran, what it took and where it stopped, then the cycle", async () => {
  const r = await explore(abba, { strategy: "dpor", turn });
  const { story } = await told(abba, r);
  assert.is(
    story_text(story),
    `  1. one (pid 1)
       takes     &a
  2. two (pid 2)
       takes     &b
       wants     &a, and sleeps
  3. one (pid 1)
       wants     &b, and sleeps

DEADLOCK: two tasks wait for each other
  one -> &b -> two -> &a -> one

  one (pid 1)
      holds      &a
      wants      &b
      blocked by two (pid 2)

  two (pid 2)
      holds      &b
      wants      &a
      blocked by one (pid 1)`,
  );
});

// ------------------------------------------------------------------ other endings, limits

t("assertions, kernel bugs, livelocks and foreign promises are told apart", async () => {
  const endings: [string, scenario][] = [
    ["failed", model(() => Promise.reject(new Error("no")))],
    [
      "bug",
      model(async (m) => {
        const a = new mutex(m, A);
        m.spawn(m.kernel, "one", () => a.lock());
        await m.run();
      }),
    ],
    [
      "limit",
      model(async (m) => {
        for (const name of ["one", "two"]) {
          m.spawn(m.kernel, name, async () => {
            for (;;) await sched_yield(m.kernel);
          });
        }
        await m.run();
      }),
    ],
    ["foreign", model(() => new Promise<void>(() => undefined))],
  ];
  for (const [verdict, s] of endings) {
    const r = await explore(s, { runs: 1, turn, max_steps: 500, minimise_runs: 0 });
    assert.is(r.findings[0]?.verdict, verdict);
  }
});

t("with lockdep an order that did no harm is a finding, and the runs stay the same", async () => {
  const s = model(async (m) => {
    const a = new mutex(m, A);
    const b = new mutex(m, B);
    for (const [x, y] of [
      [a, b],
      [b, a],
    ] as const) {
      await m.in_task(m.kernel, "alone", async () => {
        await x.lock();
        await y.lock();
        y.unlock();
        x.unlock();
      });
    }
  });
  const one = await explore(s, { strategy: "dpor", turn, lockdep: true });
  assert.is(one.findings[0]?.verdict, "lockdep");
  assert.match(one.findings[0]!.outcome.text, "&a");
  // lockdep switches itself off at its first report; the reduction goes on hearing of locks
  const o = { strategy: "dpor" as const, turn, keep_going: true, minimise_runs: 0 };
  const without = await explore(abba, o);
  const both = await explore(abba, { ...o, lockdep: true });
  assert.is(both.runs, without.runs);
  assert.equal(both.verdicts, {
    lockdep: without.verdicts.ok!,
    deadlock: without.verdicts.deadlock!,
  });
});

t("a call that nobody will ever wake is a hang, whoever awaits it", async () => {
  const s = model(async (m) => {
    const queue = new_wait_queue(m, "queue");
    const p = m.sched.call(m.new_thread(m.kernel, "p"), () => queue.wait()) as MaybeWait;
    await p;
  });
  const r = await explore(s, { runs: 1, turn });
  assert.is(r.findings[0]?.verdict, "hang");
});

t("limits of runs and of time hold", async () => {
  const s = writers(4, 1, 3);
  const few = await explore(s, { strategy: "dpor", runs: 10, turn });
  assert.is(few.runs, 10);
  assert.not(few.complete);
  const clock = { now: 0 };
  const late = await explore(s, { runs: 1000, turn, max_ms: 50, now: () => (clock.now += 10) });
  assert.ok(late.out_of_time);
  assert.ok(late.runs < 10);
});

t("shards of random schedules are the whole, shared out", async () => {
  const o = { strategy: "random" as const, runs: 90, turn, keep_going: true, minimise_runs: 0 };
  const whole = await explore(abba, o);
  const parts = [];
  for (let i = 0; i < 3; i++) parts.push(await explore(abba, { ...o, shard: { i, n: 3 } }));
  const all = merge(parts);
  assert.is(all.runs, 90);
  assert.equal(all.verdicts, whole.verdicts);
});

// ------------------------------------------------------------------ determinism

t("the determinism check passes where all comes from the Machine", async () => {
  for (const strategy of ["random", "pct", "dpor"] as const) {
    const r = await explore(atomicity, {
      strategy,
      runs: 60,
      turn,
      determinism: true,
      keep_going: true,
    });
    assert.is(r.verdicts.nondeterministic, undefined);
    assert.ok(r.runs >= 8, `${strategy}: ${r.runs} runs`);
  }
});

t("the determinism check finds a scenario that remembers its last run", async () => {
  const memory = { runs: 0 };
  const s = model(async (m) => {
    const tasks = 2 + (memory.runs++ % 2);
    for (let i = 0; i < tasks; i++) m.spawn(m.kernel, `t${i}`, () => sched_point(m.kernel));
    await m.run();
  });
  const r = await explore(s, { runs: 10, turn, determinism: true });
  assert.is(r.findings[0]?.verdict, "nondeterministic");
  assert.match(r.findings[0]!.outcome.text, /not deterministic: at choice 0/);
});

t("reduction says so when a prefix does not repeat", async () => {
  const memory = { runs: 0 };
  const s = model(async (m) => {
    const x = new shared(m, "x", 0);
    const tasks = memory.runs++ === 0 ? 3 : 1;
    for (let i = 0; i < tasks; i++) m.spawn(m.kernel, `t${i}`, () => x.write(i));
    await m.run();
  });
  const e = new dpor_explorer();
  await counted(s, { ...bound(e), begin: (n) => n < 5 && e.problem() === null && e.begin(n) });
  assert.match(e.problem()!.message, /not deterministic/);
});

/** The methods of a strategy as an object of their own. */
function bound(e: dpor_explorer): explore_strategy {
  return {
    name: e.name,
    begin: (n) => e.begin(n),
    attach: (m) => e.attach(m),
    end: () => e.end(),
    new_execution: () => e.new_execution(),
    next_task: (r, c, y) => e.next_task(r, c, y),
    next_u64: () => e.next_u64(),
  };
}

t.run();
