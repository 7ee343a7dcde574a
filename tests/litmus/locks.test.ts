/**
 * tests/litmus/locks.test.ts - small programs of locks and waits, each with the exact set of
 * outcomes over all schedules. Store buffering is not among them: one task runs at a time, so every
 * store is seen by all from then on.
 */
import { lock_class, mutex, new_wait_queue, rw_semaphore } from "../../kernel/locking/locks.ts";
import { sched_point } from "../../kernel/sched/core.ts";
import { shared } from "../../kernel/sched/shared.ts";
import { allow_exactly, model, outcomes_of } from "../lib/explore.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("litmus/locks");
const A = lock_class("A");
const B = lock_class("B");

const store_buffering = model(async (m) => {
  const [x, y] = [new shared(m, "x", 0), new shared(m, "y", 0)];
  const r: number[] = [];
  m.spawn(m.kernel, "one", async () => {
    await x.write(1);
    r[0] = await y.read();
  });
  m.spawn(m.kernel, "two", async () => {
    await y.write(1);
    r[1] = await x.read();
  });
  await m.run();
  return r;
});

t("store buffering: both never read zero", async () => {
  await allow_exactly(store_buffering, ["0,1", "1,0", "1,1"]);
});

const message_passing = model(async (m) => {
  const [data, flag] = [new shared(m, "data", 0), new shared(m, "flag", 0)];
  const r: number[] = [];
  m.spawn(m.kernel, "writer", async () => {
    await data.write(1);
    await flag.write(1);
  });
  m.spawn(m.kernel, "reader", async () => {
    r[0] = await flag.read();
    r[1] = await data.read();
  });
  await m.run();
  return r;
});

t("message passing: who sees the flag sees the data", async () => {
  await allow_exactly(message_passing, ["0,0", "0,1", "1,1"]);
});

/** Sleeps unless told before; `checked`: with the check and the sleep in one step. */
const wake_up = (checked: boolean) =>
  model(async (m) => {
    const queue = new_wait_queue(m, "queue");
    const ready = new shared(m, "ready", false);
    m.spawn(m.kernel, "sleeper", async () => {
      if (checked) {
        await queue.wait_event(() => ready.peek());
        return;
      }
      if (await ready.read()) return;
      await sched_point(m.kernel);
      await queue.wait();
    });
    m.spawn(m.kernel, "waker", async () => {
      await ready.write(true);
      queue.wake_up();
    });
    await m.run();
    return "woken";
  });

t("a wake-up between the check and the sleep is lost", async () => {
  await allow_exactly(wake_up(false), ["hang", "woken"]);
});
t("wait_event() loses none", async () => {
  await allow_exactly(wake_up(true), ["woken"]);
});

const pair = (second: "AB" | "BA" | "try") =>
  model(async (m) => {
    const a = new mutex(m, A);
    const b = new mutex(m, B);
    const order: string[] = [];
    m.spawn(m.kernel, "one", async () => {
      await a.lock();
      await b.lock();
      order.push("one");
      b.unlock();
      a.unlock();
    });
    m.spawn(m.kernel, "two", async () => {
      const [first, next] = second === "AB" ? [a, b] : [b, a];
      await first.lock();
      if (second !== "try") await next.lock();
      else {
        await sched_point(m.kernel);
        if (!next.trylock()) {
          first.unlock();
          order.push("busy");
          return;
        }
      }
      order.push("two");
      next.unlock();
      first.unlock();
    });
    await m.run();
    return order.join(" ");
  });

t("AB against BA: either order, or a deadlock", async () => {
  await allow_exactly(pair("BA"), ["deadlock", "one two", "two one"]);
});
t("AB against AB: either order", async () => {
  await allow_exactly(pair("AB"), ["one two", "two one"]);
});
t("AB against B and a trylock of A: never a deadlock", async () => {
  await allow_exactly(pair("try"), ["busy one", "one two", "two one"]);
});

const rwr = (nested: boolean) =>
  model(async (m) => {
    const sem = new rw_semaphore(m, A);
    const order: string[] = [];
    m.spawn(m.kernel, "reader", async () => {
      await sem.down_read();
      order.push("r");
      if (!nested) sem.up_read();
      await sem.down_read();
      order.push("r");
      sem.up_read();
      if (nested) sem.up_read();
    });
    m.spawn(m.kernel, "writer", async () => {
      await sem.down_write();
      order.push("w");
      sem.up_write();
    });
    await m.run();
    return order.join("");
  });

t("reader, writer, the same reader again: a deadlock if the writer queues between", async () => {
  await allow_exactly(rwr(true), ["deadlock", "rrw", "wrr"]);
});
t("reader, writer, reader one after the other: every order, no deadlock", async () => {
  await allow_exactly(rwr(false), ["rrw", "rwr", "wrr"]);
});

/** Two readers want to write what they computed from what they read. */
const upgrade = (how: "hold" | "drop" | "recheck") =>
  model(async (m) => {
    const sem = new rw_semaphore(m, A);
    const state = { n: 0 };
    const add = async (): Promise<void> => {
      await sem.down_read();
      let seen = state.n;
      if (how === "hold") await sem.down_write();
      else {
        sem.up_read();
        await sem.down_write();
        if (how === "recheck") seen = state.n;
      }
      state.n = seen + 1;
      sem.up_write();
      if (how === "hold") sem.up_read();
    };
    m.spawn(m.kernel, "one", add);
    m.spawn(m.kernel, "two", add);
    await m.run();
    return state.n;
  });

t("upgrade with the read lock held: always a deadlock", async () => {
  await allow_exactly(upgrade("hold"), ["deadlock"]);
});
t("upgrade by dropping the lock: an update may be lost", async () => {
  await allow_exactly(upgrade("drop"), ["1", "2"]);
});
t("upgrade by dropping the lock and looking again: none is lost", async () => {
  await allow_exactly(upgrade("recheck"), ["2"]);
});

const downgrade = model(async (m) => {
  const sem = new rw_semaphore(m, A);
  const order: string[] = [];
  m.spawn(m.kernel, "writer", async () => {
    await sem.down_write();
    order.push("w1");
    sem.downgrade_write();
    await sched_point(m.kernel);
    order.push("w2");
    sem.up_read();
  });
  m.spawn(m.kernel, "other", async () => {
    await sem.down_write();
    order.push("o");
    sem.up_write();
  });
  await m.run();
  return order.join(" ");
});

t("no writer gets in at a downgrade", async () => {
  await allow_exactly(downgrade, ["o w1 w2", "w1 w2 o"]);
});

t("reduction and all schedules agree on the outcomes", async () => {
  const list = [
    store_buffering,
    message_passing,
    wake_up(false),
    pair("BA"),
    pair("try"),
    rwr(true),
  ];
  for (const s of [...list, upgrade("hold"), upgrade("drop"), downgrade]) {
    const [reduced, all] = [await outcomes_of(s), await outcomes_of(s, "all")];
    assert.equal(reduced.outcomes, all.outcomes);
    assert.ok(reduced.result.runs <= all.result.runs);
  }
});

t.run();
