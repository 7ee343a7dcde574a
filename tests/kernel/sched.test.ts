import { KernelBug } from "../../kernel/assert.ts";
import { Kernel } from "../../kernel/kernel.ts";
import { Hang, StepLimit, ThreadBusy } from "../../kernel/locking/report.ts";
import { completion, lock_class, mutex, new_wait_queue } from "../../kernel/locking/locks.ts";
import { Machine, type MachineOptions } from "../../kernel/machine.ts";
import { Random } from "../../kernel/random.ts";
import {
  cond_resched,
  join,
  kthread_should_stop,
  kthread_stop,
  msleep,
  sched_yield,
} from "../../kernel/sched/core.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import { kill_task, SIGKILL, signal_struct, SIGUSR1 } from "../../kernel/signal.ts";
import { ENOSPC, ERESTARTSYS } from "../../kernel/include/errno.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/sched");
const LOCK = lock_class("&test_mutex");

function boot(opts: MachineOptions = {}): { m: Machine; k: Kernel } {
  const m = new Machine(opts);
  return { m, k: new Kernel(m) };
}

/** A call that says when it is in, sleeps until `go`, and returns `value`. */
function sleeper(go: completion, value: number): () => Promise<number> {
  return async () => {
    const p = go.wait();
    if (p) await p;
    return value;
  };
}

t("spawned tasks run in the order in which they were made", async () => {
  const { m, k } = boot();
  const order: string[] = [];
  for (const name of ["a", "b", "c"]) {
    m.spawn(k, name, async (task) => {
      order.push(task.comm);
      const p = sched_yield(k);
      if (p) await p;
      order.push(task.comm.toUpperCase());
    });
  }
  const r = await m.run();
  assert.is(order.join(""), "abcABC");
  assert.is(r.ended, 3);
});

t("a scheduling point does nothing under the default strategy", async () => {
  const { m, k } = boot();
  const order: string[] = [];
  for (const name of ["a", "b"]) {
    m.spawn(k, name, async () => {
      for (let i = 0; i < 3; i++) {
        order.push(name);
        assert.is(cond_resched(k), undefined);
      }
    });
  }
  await m.run();
  assert.is(order.join(""), "aaabbb");
});

async function random_order(seed: number): Promise<string> {
  const { m, k } = boot({ strategy: new random_strategy(new Random(0), seed) });
  const order: string[] = [];
  for (const name of ["a", "b", "c"]) {
    m.spawn(k, name, async () => {
      for (let i = 0; i < 4; i++) {
        order.push(name);
        const p = cond_resched(k);
        if (p) await p;
      }
    });
  }
  await m.run();
  return order.join("");
}

t("the same seed gives the same schedule, other seeds others", async () => {
  const orders = new Set<string>();
  for (let seed = 1; seed <= 20; seed++) {
    const one = await random_order(seed);
    assert.is(await random_order(seed), one);
    orders.add(one);
  }
  assert.ok(orders.size > 15, `20 seeds gave only ${orders.size} schedules`);
});

t("a call on an idle machine that does not sleep returns a plain value", () => {
  const { m, k } = boot();
  const p = m.new_thread(k, "p");
  assert.is(
    m.sched.call(p, (task) => {
      assert.is(k.current, task);
      return 42;
    }),
    42,
  );
  assert.ok(m.sched.idle);
  assert.is(k.current, k.init_task);
});

t("an error thrown by a call reaches its caller and leaves the thread usable", () => {
  const { m, k } = boot();
  const p = m.new_thread(k, "p");
  const fails = (): void => {
    void m.sched.call(p, () => {
      throw ENOSPC;
    });
  };
  assert.throws(fails, (e) => e === ENOSPC);
  assert.is(
    m.sched.call(p, () => 1),
    1,
  );
});

t("a call that sleeps stays pending until another thread's call wakes it", async () => {
  const { m, k } = boot();
  const a = m.new_thread(k, "a");
  const b = m.new_thread(k, "b");
  const go = new completion(m, "go");
  const pending = m.sched.call(a, sleeper(go, 7));
  await m.settle();
  assert.is(m.blocked_tasks().length, 1);
  assert.is(m.blocked_tasks()[0]!.waits!.lock, "go");
  await m.sched.call(b, () => go.complete());
  assert.is(await pending, 7);
  assert.is(m.blocked_tasks().length, 0);
});

t(
  "a second call on a thread that is in a call is ThreadBusy and says how to do better",
  async () => {
    const { m, k } = boot();
    const a = m.new_thread(k, "dd");
    const go = new completion(m, "go");
    const pending = m.sched.call(a, (task) => {
      task.syscall = "fsync";
      return sleeper(go, 1)();
    });
    const second = (): void => void m.sched.call(a, () => 2);
    assert.throws(second, (e) => e instanceof ThreadBusy);
    assert.throws(
      second,
      /dd \(pid 1\) is still in fsync\(\), waiting for go.*p\.thread\(\) or m\.spawn/s,
    );
    go.complete();
    assert.is(await pending, 1);
  },
);

t("a call given while another task runs waits for the baton", async () => {
  const { m, k } = boot();
  const a = m.new_thread(k, "a");
  const b = m.new_thread(k, "b");
  const order: string[] = [];
  const first = m.sched.call(a, async () => {
    order.push("a1");
    await Promise.resolve();
    order.push("a2");
  });
  const second = m.sched.call(b, () => {
    order.push("b");
    return 3;
  });
  assert.ok(second instanceof Promise);
  assert.is(await second, 3);
  await first;
  assert.equal(order, ["a1", "a2", "b"]);
});

t("a scenario thread makes calls on its own object inline", async () => {
  const { m, k } = boot();
  const seen: unknown[] = [];
  m.spawn(k, "s", async (task) => {
    seen.push(m.sched.call(task, () => 5));
    seen.push(await m.sched.call(task, async () => 6));
  });
  await m.run();
  assert.equal(seen, [5, 6]);
});

t(
  "a scenario thread may use another process's object: it sleeps until that call is over",
  async () => {
    const { m, k } = boot();
    const p = m.new_thread(k, "server");
    const go = new completion(m, "go");
    const order: string[] = [];
    m.spawn(k, "client", async () => {
      order.push(String(await m.sched.call(p, sleeper(go, 4))));
      order.push(String(await m.sched.call(p, () => 5)));
      await assert.rejects(async () => {
        await m.sched.call(p, () => {
          throw ENOSPC;
        });
      }, "ENOSPC");
    });
    m.spawn(k, "helper", async () => {
      order.push("helper");
      go.complete();
    });
    await m.run();
    assert.is(order.join(" "), "helper 4 5");
  },
);

t("an error of a spawned task makes run() reject", async () => {
  const { m, k } = boot();
  m.spawn(k, "bad", async () => {
    throw new TypeError("oops");
  });
  let after = false;
  m.spawn(k, "good", async () => {
    after = true;
  });
  await assert.rejects(m.run(), "oops");
  assert.ok(after, "the other task ran to its end");
});

t("an error of a kernel thread reaches the next call from outside", async () => {
  const { m, k } = boot();
  const p = m.new_thread(k, "p");
  m.kthread_run(k, "kworker", async () => {
    throw new KernelBug("broken");
  });
  await assert.rejects(m.settle(), "broken");
  m.kthread_run(k, "kworker", async () => {
    throw new KernelBug("broken again");
  });
  await assert.rejects(async () => {
    await m.sched.call(p, () => 1);
    await m.sched.call(p, () => 1);
    await m.sched.call(p, () => 1);
  }, "broken again");
});

t("join returns the value of a task and takes over its error", async () => {
  const { m, k } = boot();
  const ok = m.spawn(k, "ok", async () => 11);
  const got: unknown[] = [];
  m.spawn(k, "parent", async () => {
    got.push(await join(ok));
  });
  const slow_bad = m.spawn(k, "slow_bad", async () => {
    await msleep(k, 1);
    throw ENOSPC;
  });
  m.spawn(k, "heir", async () => {
    await join(slow_bad).catch((e: unknown) => got.push(e));
  });
  await m.run();
  assert.equal(got, [11, ENOSPC]);
});

t("a promise of a lock that nobody awaited is found when the call returns", async () => {
  const { m, k } = boot();
  const l = new mutex(m, LOCK);
  const a = m.new_thread(k, "a");
  const b = m.new_thread(k, "b");
  const go = new completion(m, "go");
  const holder = m.sched.call(a, async () => {
    const p = l.lock();
    if (p) await p;
    await sleeper(go, 0)();
    l.unlock();
  });
  const forgetful = (): void =>
    void m.sched.call(b, () => {
      void l.lock();
      return 1;
    });
  assert.throws(
    forgetful,
    /b \(pid 2\) returned from its call without the baton.*&test_mutex.*not awaited/s,
  );
  go.complete();
  await holder;
});

t("a lost wake-up is a hang that names the sleeper and what it waits for", async () => {
  const { m, k } = boot();
  const q = new_wait_queue(m, "entry_waitqueue", "index 3 of inode 12");
  let ready = false;
  m.spawn(k, "waiter", async () => {
    const p = q.wait_event(() => ready);
    if (p) await p;
  });
  m.spawn(k, "setter", async () => {
    ready = true; // and no wake_up()
  });
  const e = await m.run().then(
    () => null,
    (err: unknown) => err as Hang,
  );
  assert.ok(e instanceof Hang);
  assert.is(
    e.message,
    [
      "HANG: one task sleeps and nothing is left that could wake it",
      "",
      "  waiter (pid 1)",
      "      waits for  entry_waitqueue of index 3 of inode 12",
      "      and nobody is known who would wake it",
    ].join("\n"),
  );
  assert.is(e.report.kind, "hang");
  assert.equal(m.reports, [e.report]);
});

t("a kernel thread that sleeps for work is no hang, one that sleeps for a lock is", async () => {
  const { m, k } = boot();
  const q = new_wait_queue(m, "work");
  const worker = m.kthread_run(k, "kworker", async () => {
    const p = q.wait_event(() => kthread_should_stop(k), { interruptible: true });
    if (p) await p;
    return "stopped";
  });
  await m.run();
  m.spawn(k, "stopper", async () => {
    assert.is(await kthread_stop(worker), "stopped");
  });
  await m.run();

  const c = new completion(m, "commit");
  m.kthread_run(k, "jbd2", async () => {
    const p = c.wait();
    if (p) await p;
  });
  await assert.rejects(m.run(), /jbd2 \(pid 3\)\n +waits for +commit/);
});

t("tasks that never end are stopped by the step limit", async () => {
  const { m, k } = boot({ max_steps: 100 });
  for (const name of ["a", "b"]) {
    m.spawn(k, name, async () => {
      for (;;) {
        const p = sched_yield(k);
        if (p) await p;
      }
    });
  }
  await assert.rejects(m.run(), (e) => e instanceof StepLimit && e.max_steps === 100);
});

t("the running task is named when it awaits something foreign", async () => {
  const { m, k } = boot();
  const p = m.new_thread(k, "curl");
  let release = (): void => {};
  const foreign = new Promise<void>((r) => {
    release = r;
  });
  const pending = m.sched.call(p, async (task) => {
    task.syscall = "read";
    await foreign;
  });
  assert.match(m.sched.foreign() ?? "", /curl \(pid 1\) in read\(\) awaits something outside/);
  release();
  await pending;
  assert.is(m.sched.foreign(), null);
});

t("sleeping outside any task is refused", async () => {
  const { m } = boot();
  const c = new completion(m, "go");
  await assert.rejects(async () => await c.wait(), /waiting for go outside any task.*in_task/);
});

t("in_task runs boot code as a task of its own and ends it", async () => {
  const { m, k } = boot();
  assert.is(
    m.in_task(k, "boot", (task) => task.comm),
    "boot",
  );
  const go = new completion(m, "go");
  const slow = m.in_task(k, "boot2", sleeper(go, 9));
  go.complete();
  assert.is(await slow, 9);
  assert.is(m.sched.tasks.size, 0);
});

t("a fatal signal ends a killable sleep, another one does not", async () => {
  const { m, k } = boot();
  const l = new mutex(m, LOCK);
  const a = m.new_thread(k, "a");
  const b = m.new_thread(k, "b");
  const go = new completion(m, "go");
  const holder = m.sched.call(a, async () => {
    const p = l.lock();
    if (p) await p;
    await sleeper(go, 0)();
    l.unlock();
  });
  const victim = m.sched.call(b, async () => {
    const p = l.lock_killable();
    if (p) await p;
  });
  b.signal = new signal_struct();
  b.signal.handled.add(SIGUSR1);
  kill_task(b, SIGUSR1);
  await m.settle();
  assert.is(m.blocked_tasks().length, 2);
  kill_task(b, SIGKILL);
  await assert.rejects(victim as Promise<void>, (e) => e === ERESTARTSYS);
  assert.is(b.held_depth, 0);
  go.complete();
  await holder;
  assert.not.ok(l.is_locked());
});

t(
  "a pending fatal signal refuses a killable sleep, also one that a scheduling point delayed",
  async () => {
    for (const seed of [1, 2, 3, 4, 5, 6]) {
      const { m, k } = boot({ strategy: new random_strategy(new Random(0), seed) });
      const l = new mutex(m, LOCK);
      let answer: unknown = null;
      const victim = m.spawn(k, "victim", async () => {
        try {
          const p = l.lock_killable();
          if (p) await p;
          l.unlock();
        } catch (e) {
          answer = e;
        }
      });
      m.spawn(k, "holder", async () => {
        const p = l.lock();
        if (p) await p;
        kill_task(victim, SIGKILL);
        for (let i = 0; i < 5; i++) {
          const q = sched_yield(k);
          if (q) await q;
        }
        l.unlock();
      });
      await m.run();
      assert.ok(answer === null || answer === ERESTARTSYS);
      assert.not.ok(l.is_locked());
    }
  },
);

t("a killed task leaves a deadlock and its thread can be used again", async () => {
  const { m, k } = boot();
  const [a, b] = [new mutex(m, LOCK), new mutex(m, LOCK)];
  const [p1, p2] = [m.new_thread(k, "p1"), m.new_thread(k, "p2")];
  const go = new completion(m, "go");
  const one = m.sched.call(p1, async () => {
    const p = a.lock();
    if (p) await p;
    await sleeper(go, 0)();
    const q = b.lock_killable();
    try {
      if (q) await q;
    } finally {
      a.unlock();
    }
  });
  const two = m.sched.call(p2, async () => {
    const p = b.lock();
    if (p) await p;
    go.complete();
    const q = a.lock();
    if (q) await q;
    a.unlock();
    b.unlock();
  });
  const ends = await Promise.allSettled([one, two]);
  assert.equal(
    ends.map((r) => r.status),
    ["rejected", "rejected"],
  );
  kill_task(p1, SIGKILL);
  await m.settle();
  assert.equal(m.blocked_tasks(), []);
  assert.not.ok(a.is_locked() || b.is_locked());
  assert.is(
    m.sched.call(p2, () => 8),
    8,
  );
});

t("time stands still while tasks run and jumps when all wait for it", async () => {
  const { m, k } = boot();
  const log: [string, number][] = [];
  for (const [name, ms] of [
    ["slow", 30],
    ["fast", 10],
  ] as const) {
    m.spawn(k, name, async () => {
      await msleep(k, ms);
      log.push([name, k.time.ktime_get_ns() / 1e6]);
    });
  }
  const r = await m.run();
  assert.equal(log, [
    ["fast", 10],
    ["slow", 30],
  ]);
  assert.is(r.time_ns, 30e6);
});

t.run();
