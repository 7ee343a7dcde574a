/**
 * Random programs over a few locks under random schedules. Judged by a model that knows nothing of
 * the code: who is inside which lock, and at the end of a run whether anybody is left.
 */
import fc from "../lib/property.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { bit_lock, lock_class, mutex, rw_semaphore } from "../../kernel/locking/locks.ts";
import { Deadlock } from "../../kernel/locking/report.ts";
import { Machine } from "../../kernel/machine.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/lock-property");
const CLASSES = ["m", "r", "p"].map((n) => lock_class(n));

/** One lock of each kind, with the model's view of who is inside. */
interface guarded {
  take(how: number): MaybeWait;
  try_take(how: number): boolean;
  release(how: number): void;
  readers: number;
  writers: number;
}
const READ = 1;

function locks_of(m: Machine): guarded[] {
  const mtx = new mutex(m, CLASSES[0]!);
  const sem = new rw_semaphore(m, CLASSES[1]!);
  const bit = new bit_lock(m, CLASSES[2]!);
  const none = { readers: 0, writers: 0 };
  return [
    {
      take: () => mtx.lock(),
      try_take: () => mtx.trylock(),
      release: () => mtx.unlock(),
      ...none,
    },
    {
      take: (how) => (how === READ ? sem.down_read() : sem.down_write()),
      try_take: (how) => (how === READ ? sem.down_read_trylock() : sem.down_write_trylock()),
      release: (how) => (how === READ ? sem.up_read() : sem.up_write()),
      ...none,
    },
    {
      take: () => bit.lock(),
      try_take: () => bit.trylock(),
      release: () => bit.unlock(),
      ...none,
    },
  ];
}

/** Takes `which` in mode `how` (1: read, where there is such a thing), perhaps only by trylock. */
interface step {
  which: number;
  how: number;
  trylock: boolean;
}
const a_step = fc.record({ which: fc.nat(2), how: fc.nat(1), trylock: fc.boolean() });
const a_program = fc.array(fc.array(a_step, { minLength: 1, maxLength: 4 }), {
  minLength: 2,
  maxLength: 4,
});

function enter(l: guarded, shared: boolean): void {
  if (shared) l.readers++;
  else l.writers++;
  const ok = l.writers === 0 || (l.writers === 1 && l.readers === 0);
  assert.ok(ok, `${l.writers} writers and ${l.readers} readers are inside`);
}

function leave(l: guarded, shared: boolean): void {
  if (shared) l.readers--;
  else l.writers--;
}

async function body(m: Machine, locks: guarded[], steps: readonly step[]): Promise<void> {
  const held: step[] = [];
  for (const s of steps) {
    const l = locks[s.which]!;
    if (s.trylock) {
      if (!l.try_take(s.how)) continue;
    } else {
      const p = l.take(s.how);
      if (p) await p;
    }
    held.push(s);
    enter(l, s.which === 1 && s.how === READ);
    const q = m.sched.sched_point();
    if (q) await q;
  }
  for (const s of held.reverse()) {
    const l = locks[s.which]!;
    leave(l, s.which === 1 && s.how === READ);
    l.release(s.how);
  }
}

/** "ok" or the text of the report. Anything else, a Hang above all, is thrown. */
async function run(program: readonly step[][], seed: number, detect: boolean): Promise<string> {
  const m = new Machine({ seed, detect, strategy: new random_strategy(new Random(0), seed) });
  const k = new Kernel(m);
  const locks = locks_of(m);
  for (const [i, steps] of program.entries()) {
    m.spawn(k, `t${i}`, () => body(m, locks, steps));
  }
  try {
    await m.run();
  } catch (e) {
    if (e instanceof Deadlock) return check_report(e);
    throw e;
  }
  for (const l of locks) assert.is(l.readers + l.writers, 0);
  return "ok";
}

/** Each task of the cycle waits for the next one and holds something. */
function check_report(e: Deadlock): string {
  const { cycle, tasks } = e.report;
  for (const [i, pid] of cycle.entries()) {
    const task = tasks.find((r) => r.pid === pid)!;
    assert.ok(task.waits !== null, "a task of the cycle does not wait");
    assert.ok(task.blocked_by.includes(cycle[(i + 1) % cycle.length]!), e.message);
  }
  return e.message;
}

t("locks exclude, hand over, and every program ends or its cycle is named", async () => {
  let deadlocks = 0;
  const property = fc.asyncProperty(a_program, fc.nat(1_000), async (program, seed) => {
    const one = await run(program, seed, true);
    if (one !== "ok") deadlocks++;
    assert.is(await run(program, seed, true), one, "the same seed, the same end");
  });
  await fc.assert(property, { numRuns: 1_500, seed: 20_261_120 });
  assert.ok(deadlocks > 100, `${deadlocks} deadlocks are too few to prove anything`);
});

t("what the detector reports at once is what hangs without it", async () => {
  const property = fc.asyncProperty(a_program, fc.nat(1_000), async (program, seed) => {
    const with_it = await run(program, seed, true);
    const hung = await run(program, seed, false).then(
      () => false,
      (e: Error) => e.name === "Hang",
    );
    assert.is(hung, with_it !== "ok");
  });
  await fc.assert(property, { numRuns: 800, seed: 5 });
});

t.run();
