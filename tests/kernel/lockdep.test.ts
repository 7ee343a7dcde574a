import { is_kernel_bug } from "../../kernel/assert.ts";
import { GFP_KERNEL } from "../../kernel/include/gfp.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import { Kernel } from "../../kernel/kernel.ts";
import type { lockdep_options, lockdep_report } from "../../kernel/locking/lockdep.ts";
import {
  bit_lock,
  define_ww_class,
  lock_class,
  lock_map,
  might_alloc,
  mutex,
  percpu_rwsem,
  rw_semaphore,
  rwlock,
  spinlock,
  srcu,
  ww_acquire_ctx,
  ww_mutex,
} from "../../kernel/locking/locks.ts";
import { Machine } from "../../kernel/machine.ts";
import { hardirq_enter, hardirq_exit, local_irq_enable } from "../../kernel/sched/irq.ts";
import { msleep, sched_yield } from "../../kernel/sched/core.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import { Random } from "../../kernel/random.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/lockdep");

interface world {
  m: Machine;
  k: Kernel;
  reports: lockdep_report[];
  /** The first report, which must exist. */
  report(): lockdep_report;
}

function world(lockdep: boolean | lockdep_options = true, stacks = false): world {
  const m = new Machine({ lockdep, stacks });
  const k = new Kernel(m);
  const { reports } = m.lockdep!;
  const report = (): lockdep_report => {
    assert.is(reports.length, 1, reports.map((r) => r.text).join("\n\n"));
    return reports[0]!;
  };
  return { m, k, reports, report };
}

async function wait(p: MaybeWait): Promise<void> {
  if (p) await p;
}

/** The lock was free. */
function now(p: unknown): void {
  assert.is(p, undefined);
}

/** Runs `fn` as a task of its own, to its end. */
async function run(w: world, fn: () => unknown, name = "dd"): Promise<void> {
  w.m.spawn(w.k, name, async () => await fn());
  await w.m.run();
}

async function bug(w: world, fn: () => unknown): Promise<string> {
  const e = await run(w, fn).then(
    () => null,
    (err: unknown) => err,
  );
  assert.ok(is_kernel_bug(e), String(e));
  return (e as Error).message;
}

const A = lock_class("&a->lock");
const B = lock_class("&b->lock");
const C = lock_class("&c->lock");
const I_RWSEM = lock_class("&inode->i_rwsem");
const MMAP_LOCK = lock_class("mmap_lock");

// ------------------------------------------------------------------ order

t("the second order ever seen is reported, without a hang", async () => {
  const w = world({ order: false });
  const a = new mutex(w.m, A, "the first a");
  const b = new mutex(w.m, B);
  await run(w, () => {
    now(a.lock());
    now(b.lock());
    b.unlock();
    a.unlock();
  });
  assert.is(w.reports.length, 0);
  await run(
    w,
    () => {
      now(b.lock());
      now(a.lock());
      a.unlock();
      b.unlock();
    },
    "cp",
  );
  const r = w.report();
  assert.is(r.bug, "circular");
  assert.is(r.comm, "cp");
  assert.is(r.lock?.lock, "&a->lock");
  assert.is(r.lock?.label, "the first a");
  assert.is(r.other?.lock, "&b->lock");
  assert.equal(
    r.steps.map((s) => `${s.outer} ${s.inner} ${s.by}`),
    ["&b->lock &a->lock cp (pid 2)", "&a->lock &b->lock dd (pid 1)"],
  );
  assert.match(r.steps[1]!.site ?? "", /lockdep\.test\.ts:\d+/);
});

t("a report reads like a splat, is in the log, and taints nothing but itself", async () => {
  const w = world({ order: false });
  const a = new mutex(w.m, A, "inode 12");
  const b = new rw_semaphore(w.m, B);
  await run(w, async () => {
    now(a.lock());
    await wait(b.down_read());
    b.up_read();
    a.unlock();
    await wait(b.down_write());
    now(a.lock());
    a.unlock();
    b.up_write();
  });
  const text = w.report().text.replaceAll(/^( +)at .*$/gm, "$1at ...");
  assert.is(
    text,
    `=====================================================================
WARNING: lockdep: locks are taken in a circular order, which can deadlock
---------------------------------------------------------------------`
      .replace(/^=+/, "=".repeat(73))
      .replace(/-+$/, "-".repeat(73)) +
      `
dd (pid 1) wants
    &a->lock of inode 12
        at ...
while it holds
    &b->lock

new step:
    &b->lock -> &a->lock

but the other way round is known:
    &a->lock -> &b->lock, first by dd (pid 1) (exclusive, then read)
        at ...

it hangs when at the same time
    task 1 holds &b->lock and wants &a->lock
    task 2 holds &a->lock and wants &b->lock

dd (pid 1) holds, oldest first:
    &b->lock`,
  );
  const log = w.k.dmesg().map((e) => e.text);
  assert.ok(
    log.includes("WARNING: lockdep: locks are taken in a circular order, which can deadlock"),
  );
});

t(
  "the first report switches lockdep off, keep_going goes on and says each thing once",
  async () => {
    const abba = (w: world): Promise<void> =>
      run(w, () => {
        const a = new mutex(w.m, A);
        const b = new mutex(w.m, B);
        const c = new mutex(w.m, C);
        for (const [x, y] of [
          [a, b],
          [b, a],
          [b, a],
          [b, c],
          [c, b],
        ] as const) {
          now(x.lock());
          now(y.lock());
          y.unlock();
          x.unlock();
        }
      });
    const off = world({ order: false });
    await abba(off);
    assert.is(off.reports.length, 1);
    assert.is(off.m.dep, null);
    const on = world({ order: false, keep_going: true });
    await abba(on);
    assert.equal(
      on.reports.map((r) => `${r.other?.lock} ${r.lock?.lock}`),
      ["&b->lock &a->lock", "&c->lock &b->lock"],
    );
    assert.ok(on.m.dep !== null);
  },
);

t("the table of the order makes the first wrong order a report", async () => {
  const w = world();
  const i_rwsem = new rw_semaphore(w.m, I_RWSEM, "inode 12 of pmem0");
  const mmap_lock = new rw_semaphore(w.m, MMAP_LOCK, "mm of dd");
  await run(w, () => {
    now(mmap_lock.down_read());
    now(i_rwsem.down_write());
    i_rwsem.up_write();
    mmap_lock.up_read();
  });
  const r = w.report();
  assert.is(r.bug, "circular");
  assert.match(r.text, /&inode->i_rwsem -> mmap_lock, by the lock order: write\(\) and copying/);
  assert.match(r.text, /task 1 holds mmap_lock and wants &inode->i_rwsem/);
});

t("a trylock makes no edge to itself, but edges from it", async () => {
  const w = world({ order: false });
  const a = new mutex(w.m, A);
  const b = new mutex(w.m, B);
  await run(w, () => {
    now(a.lock());
    assert.ok(b.trylock());
    b.unlock();
    a.unlock();
    now(b.lock());
    now(a.lock());
    a.unlock();
    b.unlock();
    assert.is(w.reports.length, 0, "try b under a, then a under b");
    assert.ok(a.trylock());
    now(b.lock());
  }).catch(() => {});
  assert.is(w.report().bug, "circular");
});

t("a trylock in between does not hide the lock below it", async () => {
  const w = world({ order: false });
  const [a, b, c] = [new mutex(w.m, A), new mutex(w.m, B), new mutex(w.m, C)];
  await run(w, () => {
    now(a.lock());
    assert.ok(b.trylock());
    now(c.lock());
    c.unlock();
    b.unlock();
    a.unlock();
    now(c.lock());
    now(a.lock());
    a.unlock();
    c.unlock();
  });
  assert.is(w.report().bug, "circular");
});

t("releasing out of order makes a chain of what was above", async () => {
  const w = world({ order: false });
  const [a, b, c] = [new mutex(w.m, A), new mutex(w.m, B), new mutex(w.m, C)];
  await run(w, async () => {
    await wait(a.lock());
    assert.ok(b.trylock());
    a.unlock();
    await wait(c.lock());
    c.unlock();
    b.unlock();
    await wait(c.lock());
    await wait(a.lock());
    a.unlock();
    c.unlock();
  });
  assert.is(w.reports.length, 0, "a was not held when c was taken");
  await run(w, async () => {
    await wait(c.lock());
    await wait(b.lock());
    b.unlock();
    c.unlock();
  });
  assert.is(w.report().bug, "circular");
});

t("subclasses are classes of their own, a nest lock makes one class safe", async () => {
  const w = world({ order: false });
  const parent = new rw_semaphore(w.m, A);
  const child = new rw_semaphore(w.m, A);
  const outer = new mutex(w.m, B);
  await run(w, () => {
    now(parent.down_write(1));
    now(child.down_write());
    child.up_write();
    parent.up_write();
    now(outer.lock());
    now(parent.down_write_nest_lock(outer));
    now(child.down_write_nest_lock(outer));
    parent.up_write();
    child.up_write();
    outer.unlock();
    assert.is(w.reports.length, 0);
    now(parent.down_write());
    now(child.down_write());
    child.up_write();
    parent.up_write();
  });
  const r = w.report();
  assert.is(r.bug, "recursion");
  assert.match(r.text, /nothing says in which order two locks of this class are taken/);
});

t("a subclass is named as the kernel does", async () => {
  const w = world({ order: false });
  const sem = new rw_semaphore(w.m, A);
  await run(w, () => {
    now(sem.down_write(4));
    assert.equal(
      w.m.lockdep!.classes.map((c) => c.name),
      ["&a->lock/4"],
    );
    sem.up_write();
  });
});

// ------------------------------------------------------------------ who blocks whom

/** Reads twice, by task 1; with a writer in between this is a deadlock unless readers nest. */
t("reading an rwsem twice is reported, reading an rwlock in an interrupt is not", async () => {
  const sem = world();
  await run(sem, () => {
    const s = new rw_semaphore(sem.m, A);
    now(s.down_read());
    now(s.down_read());
    s.up_read();
    s.up_read();
  });
  assert.is(sem.report().bug, "recursion");
  assert.match(sem.report().text, /it waits for itself/);

  for (const [read_recursive, in_irq, found] of [
    [false, false, 1],
    [true, false, 0],
    [false, true, 0],
  ] as const) {
    const w = world({ read_recursive });
    const l = new rwlock(w.m, A);
    await run(w, () => {
      if (in_irq) hardirq_enter(w.k);
      l.read_lock();
      l.read_lock();
      l.read_unlock();
      l.read_unlock();
      if (in_irq) hardirq_exit(w.k);
    });
    assert.is(w.reports.length, found, `recursive ${read_recursive}, irq ${in_irq}`);
  }
});

t("freeze levels are read without recursion, SRCU sections nest", async () => {
  const w = world();
  const level = new percpu_rwsem(w.m, lock_class("sb_writers"));
  await run(w, () => {
    now(level.down_read());
    now(level.down_read());
    level.up_read();
    level.up_read();
  });
  assert.is(w.report().bug, "recursion");
  const v = world();
  const s = new srcu(v.m, A);
  await run(v, () => {
    const i = s.read_lock();
    const j = s.read_lock();
    s.read_unlock(j);
    s.read_unlock(i);
  });
  assert.equal(v.reports, []);
});

t("waiting for SRCU readers with a lock that a reader takes inside is a circle", async () => {
  const w = world({ order: false });
  const s = new srcu(w.m, A);
  const l = new mutex(w.m, B);
  await run(w, async () => {
    const i = s.read_lock();
    now(l.lock());
    l.unlock();
    s.read_unlock(i);
    now(l.lock());
    await wait(s.synchronize());
    l.unlock();
  });
  assert.is(w.report().bug, "circular");
});

// ------------------------------------------------------------------ lock maps, reclaim

t("waiting for a commit with an open handle is a report, also through another lock", async () => {
  const handle = lock_class("jbd2_handle");
  const w = world();
  const map = new lock_map(w.m, handle);
  await run(w, () => {
    map.acquire_read();
    map.sync();
    map.release();
  });
  assert.is(w.report().bug, "recursion");
  const v = world({ order: false });
  const journal = new lock_map(v.m, handle);
  const page = new mutex(v.m, B);
  await run(v, () => {
    journal.acquire_read();
    now(page.lock());
    page.unlock();
    journal.release();
    now(page.lock());
    journal.sync();
    page.unlock();
  });
  const r = v.report();
  assert.is(r.bug, "circular");
  assert.match(r.text, /jbd2_handle -> &b->lock/);
});

t("reclaim under a lock that reclaim takes is a report", async () => {
  const w = world({ order: false });
  const l = new mutex(w.m, A);
  const reclaim = w.m.lockdep!.pseudo.fs_reclaim;
  await run(w, () => {
    reclaim.acquire();
    now(l.lock());
    l.unlock();
    reclaim.release();
    now(l.lock());
    might_alloc(w.k, GFP_KERNEL);
    l.unlock();
  });
  const r = w.report();
  assert.is(r.bug, "circular");
  assert.is(r.lock?.lock, "fs_reclaim");
});

t("a lock map that is still held at the end of a task is found", async () => {
  const w = world();
  const map = new lock_map(w.m, lock_class("jbd2_handle"));
  await run(w, () => map.acquire_read());
  assert.is(w.report().bug, "leak");
  assert.match(w.report().text, /jbd2_handle \(read\)/);
});

// ------------------------------------------------------------------ misuse

t("each misuse is a report before it is a KernelBug", async () => {
  const cases: [what: string, fn: (w: world) => unknown][] = [
    ["not-held", (w) => new mutex(w.m, A).unlock()],
    ["not-held", (w) => new rw_semaphore(w.m, A).assert_held()],
    ["not-held", (w) => new spinlock(w.m, A).assert_held()],
    [
      "freed",
      (w) => {
        const l = new mutex(w.m, A);
        now(l.lock());
        l.reinit();
      },
    ],
    ["leak", (w) => new mutex(w.m, A).lock()],
    [
      "wait-context",
      (w) => {
        now(new spinlock(w.m, A).lock());
        now(new mutex(w.m, B).lock());
      },
    ],
    [
      "wait-context",
      (w) => {
        hardirq_enter(w.k);
        now(new mutex(w.m, B).lock());
      },
    ],
  ];
  for (const [what, fn] of cases) {
    const w = world();
    const message = await bug(w, () => fn(w));
    assert.is(w.reports[0]?.bug, what, message);
  }
});

t("without lockdep the same misuse is a KernelBug all the same", async () => {
  const m = new Machine();
  const k = new Kernel(m);
  assert.is(m.lockdep, null);
  m.spawn(k, "dd", () => new mutex(m, A).unlock());
  const e = await m.run().catch((err: unknown) => err);
  assert.ok(is_kernel_bug(e));
});

t("interrupts that are enabled too often are a bug", async () => {
  const w = world();
  assert.match(await bug(w, () => local_irq_enable(w.k)), /interrupts on/);
});

t("an interrupt that takes a lock which is held with interrupts on is a report", async () => {
  const w = world();
  const l = new spinlock(w.m, A);
  await run(w, () => {
    now(l.lock());
    l.unlock();
    hardirq_enter(w.k);
    now(l.lock());
    l.unlock();
    hardirq_exit(w.k);
  });
  const r = w.report();
  assert.is(r.bug, "irq-state");
  assert.match(r.text, /used in hardirq context, before it was held with hardirqs enabled by dd/);
  const v = world();
  const safe = new spinlock(v.m, A);
  await run(v, () => {
    safe.lock_irq();
    safe.unlock_irq();
    hardirq_enter(v.k);
    now(safe.lock());
    safe.unlock();
    hardirq_exit(v.k);
  });
  assert.equal(v.reports, []);
});

// ------------------------------------------------------------------ what Linux does not show

t("page locks make no report; the pairs they are in are noted", async () => {
  const w = world({ order: false });
  const page = lock_class("&page->lock");
  const p = new bit_lock(w.m, page);
  const q = new bit_lock(w.m, page);
  const l = new mutex(w.m, A);
  await run(w, async () => {
    await wait(p.lock());
    await wait(q.lock());
    now(l.lock());
    l.unlock();
    q.unlock();
    p.unlock();
    now(l.lock());
    await wait(p.lock());
    p.unlock();
    l.unlock();
  });
  assert.equal(w.reports, []);
  const pairs = w.m.lockdep!.order_seen().map((e) => `${e.outer} ${e.inner}`);
  assert.equal(pairs.sort(), [
    "&a->lock &page->lock",
    "&page->lock &a->lock",
    "&page->lock &page->lock",
  ]);
});

// ------------------------------------------------------------------ cost and stacks

t(
  "no stack is recorded while schedules are explored, and the first sighting of an edge otherwise",
  async () => {
    const edge = async (m: Machine): Promise<string | null> => {
      const k = new Kernel(m);
      const a = new mutex(m, A);
      const b = new mutex(m, B);
      m.spawn(k, "dd", async () => {
        await wait(a.lock());
        await wait(b.lock());
        b.unlock();
        a.unlock();
      });
      await m.run();
      return m.lockdep!.order_seen()[0]!.site;
    };
    const explore = (): random_strategy => new random_strategy(new Random(1), 1);
    assert.match((await edge(new Machine({ lockdep: true }))) ?? "", /lockdep\.test\.ts/);
    assert.is(await edge(new Machine({ lockdep: true, strategy: explore() })), null);
    const again = new Machine({ lockdep: true, strategy: explore(), stacks: true });
    assert.match((await edge(again)) ?? "", /lockdep\.test\.ts/);
  },
);

t(
  "a contended lock, a cancelled wait and a handed-over lock leave the stacks in order",
  async () => {
    const w = world();
    const l = new mutex(w.m, A);
    const s = new rw_semaphore(w.m, B);
    for (const name of ["x", "y", "z"]) {
      w.m.spawn(w.k, name, async () => {
        for (let i = 0; i < 3; i++) {
          await wait(l.lock());
          await wait(sched_yield(w.k));
          await wait(i === 1 ? s.down_write() : s.down_read());
          await msleep(w.k, 1);
          l.unlock();
          if (i === 1) s.downgrade_write();
          s.up_read();
        }
      });
    }
    await w.m.run();
    assert.equal(w.reports, []);
  },
);

// ------------------------------------------------------------------ wound/wait with real waiters

for (const wait_die of [true, false]) {
  t(
    `tickets that want each other's locks all get through, ${wait_die ? "wait-die" : "wound-wait"}`,
    async () => {
      const cls = define_ww_class("test", wait_die);
      for (let seed = 1; seed <= 30; seed++) {
        const strategy = new random_strategy(new Random(seed), seed);
        const m = new Machine({ lockdep: true, strategy });
        const k = new Kernel(m);
        const locks = [0, 1, 2].map((i) => new ww_mutex(m, cls, `lock ${i}`));
        let inside = 0;
        let done = 0;
        const take_all = async (order: readonly number[]): Promise<void> => {
          const ctx = new ww_acquire_ctx(m, cls);
          let contended: ww_mutex | null = null;
          for (;;) {
            const held: ww_mutex[] = [];
            if (contended !== null) {
              assert.is(await contended.ww_lock_slow(ctx), 0);
              held.push(contended);
            }
            const first: ww_mutex | null = contended;
            contended = null;
            for (const i of order) {
              const l = locks[i]!;
              if (l === first) continue;
              if ((await l.ww_lock(ctx)) !== 0) {
                contended = l;
                break;
              }
              held.push(l);
            }
            if (contended === null) {
              ctx.finish_acquire();
              assert.is(++inside, 1);
              await wait(sched_yield(k));
              inside--;
            }
            for (const l of held) l.ww_unlock();
            if (contended === null) break;
          }
          ctx.fini();
          done++;
        };
        m.spawn(k, "a", () => take_all([0, 1, 2]));
        m.spawn(k, "b", () => take_all([2, 1, 0]));
        m.spawn(k, "c", () => take_all([1, 2, 0]));
        await m.run();
        assert.is(done, 3);
        assert.equal(m.lockdep!.reports, []);
      }
    },
  );
}

t.run();
