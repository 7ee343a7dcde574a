import { Kernel } from "../../kernel/kernel.ts";
import { Machine } from "../../kernel/machine.ts";
import { Random } from "../../kernel/random.ts";
import { msleep, schedule_timeout } from "../../kernel/sched/core.ts";
import { timer_queue } from "../../kernel/sched/timer.ts";
import { completion } from "../../kernel/locking/locks.ts";
import { kill_task, SIGKILL } from "../../kernel/signal.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/time");

t("file times move in ticks of 4 ms from 2024 on, the fine clock in nanoseconds", () => {
  const m = new Machine();
  const k = new Kernel(m);
  assert.equal(k.time.real(), { tv_sec: 1_704_067_200, tv_nsec: 0 });
  m.clock.advance(3_999_999);
  assert.equal(k.time.real(), { tv_sec: 1_704_067_200, tv_nsec: 0 });
  assert.is(k.time.real_fine().tv_nsec, 3_999_999);
  m.clock.advance(1);
  assert.is(k.time.real().tv_nsec, 4_000_000);
  assert.is(k.time.real(), k.time.real(), "one object a tick");
  m.clock.advance(1e9);
  assert.equal(k.time.real(), { tv_sec: 1_704_067_201, tv_nsec: 4_000_000 });
  assert.is(k.time.jiffies, 251);
});

t(
  "a call from outside that sleeps makes time pass once the outside is done giving calls",
  async () => {
    const m = new Machine();
    const k = new Kernel(m);
    const [p1, p2] = [m.new_thread(k, "p1"), m.new_thread(k, "p2")];
    const slept = m.sched.call(p1, () => msleep(k, 1000));
    let early = -1;
    await m.sched.call(p2, () => {
      early = m.clock.now_ns;
    });
    await slept;
    assert.is(early, 0, "p2 ran before time passed");
    assert.is(m.clock.now_ns, 1e9);
  },
);

t("deferrable timers fire when time passes but do not make it pass", async () => {
  const m = new Machine();
  const k = new Kernel(m);
  const log: number[] = [];
  m.kthread_run(k, "flush", async () => {
    for (;;) {
      await schedule_timeout(k, 5e9, { deferrable: true });
      log.push(k.time.ktime_get_ns());
    }
  });
  await m.run();
  assert.equal(log, [], "nobody waits for time, so none passes");
  m.spawn(k, "sleeper", () => msleep(k, 12_000));
  await m.run();
  assert.is(m.clock.now_ns, 12e9);
  assert.equal(log, [5e9, 10e9]);
});

t("an interruptible timeout tells what was left when a signal came", async () => {
  const m = new Machine();
  const k = new Kernel(m);
  let left = -1;
  const sleeper = m.spawn(k, "sleeper", async () => {
    left = await schedule_timeout(k, 10e6, { interruptible: true });
  });
  m.spawn(k, "killer", async () => {
    await msleep(k, 4);
    kill_task(sleeper, SIGKILL);
  });
  await m.run();
  assert.is(left, 6e6);
});

t("timers fire in order of time, then of arming; a deleted one does not fire", () => {
  const q = new timer_queue();
  const fired: string[] = [];
  const arm = (name: string, at: number) => q.add(at, false, () => fired.push(name));
  arm("c", 30);
  const gone = arm("gone", 5);
  arm("a", 10);
  arm("b1", 20);
  arm("b2", 20);
  q.del(gone);
  q.del(gone);
  assert.is(q.next_stop(), 10);
  for (let fire = q.pop_due(25); fire; fire = q.pop_due(25)) fire();
  assert.equal(fired, ["a", "b1", "b2"]);
  assert.is(q.driving, 1);
  q.pop_due(30)!();
  assert.is(q.driving, 0);
  assert.is(q.pop_due(99), null);
  assert.ok(q.empty);
});

t("a completion that times out leaves its queue", async () => {
  const m = new Machine();
  const k = new Kernel(m);
  const c = new completion(m, "c");
  const got: boolean[] = [];
  m.spawn(k, "w", async () => {
    got.push(await c.wait_timeout(2e6));
    c.complete();
    got.push(await c.wait_timeout(2e6));
  });
  await m.run();
  assert.equal(got, [false, true]);
});

t("random numbers depend on the seed only, and forks on seed and name", () => {
  const a = new Random(7);
  const b = new Random(7);
  assert.equal([a.u32(), a.u32(), a.below(10)], [b.u32(), b.u32(), b.below(10)]);
  assert.equal(new Random(7).fork("mm").bytes(8), new Random(7).fork("mm").bytes(8));
  const forks = ["mm", "fs"].map((n) => new Random(7).fork(n).u53());
  assert.is.not(forks[0], forks[1]);
  assert.is.not(new Random(1).u53(), new Random(2).u53());
  const saved = a.save();
  const next = a.u32();
  a.restore(saved);
  assert.is(a.u32(), next);
});

t("below() is even over its range", () => {
  const r = new Random(3);
  const count = new Array<number>(6).fill(0);
  for (let i = 0; i < 60_000; i++) count[r.below(6)]!++;
  for (const n of count) assert.ok(n > 9_500 && n < 10_500, `${n} of 10000`);
});

t.run();
