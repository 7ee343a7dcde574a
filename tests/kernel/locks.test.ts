import { Kernel } from "../../kernel/kernel.ts";
import {
  bit_lock,
  call_rcu,
  completion,
  lock_class,
  mutex,
  new_wait_queue,
  percpu_rwsem,
  rcu_read_lock,
  rcu_read_unlock,
  rw_semaphore,
  rwlock,
  semaphore,
  spinlock,
  srcu,
  synchronize_rcu,
} from "../../kernel/locking/locks.ts";
import { ENOSPC } from "../../kernel/include/errno.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import { Machine } from "../../kernel/machine.ts";
import { sched_yield } from "../../kernel/sched/core.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { wait_var_event, wake_up_var } from "../../kernel/sched/wait_bit.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/locks");
const SEM = lock_class("&inode->i_rwsem");
const MUTEX = lock_class("&bdev->bd_mutex");
const SPIN = lock_class("&inode->i_lock");
const PAGE = lock_class("page lock");
const FREEZE = lock_class("sb_writers");
const SRCU = lock_class("dax_srcu");

interface world {
  m: Machine;
  k: Kernel;
  order: string[];
  /** Others go first. */
  pause: () => Promise<void>;
  spawn: (name: string, fn: (task: task_struct) => Promise<unknown>) => task_struct;
}
function world(): world {
  const m = new Machine();
  const k = new Kernel(m);
  return {
    m,
    k,
    order: [],
    pause: async () => {
      const p = sched_yield(k);
      if (p) await p;
    },
    spawn: (name, fn) => m.spawn(k, name, fn),
  };
}

/** A task that takes, notes, lets others go, and releases. */
function user(w: world, name: string, take: () => MaybeWait, release: () => void): task_struct {
  return w.spawn(name, async () => {
    const p = take();
    if (p) await p;
    w.order.push(`+${name}`);
    await w.pause();
    w.order.push(`-${name}`);
    release();
  });
}

t("an uncontended lock gives no promise", () => {
  const { m, k } = world();
  const sem = new rw_semaphore(m, SEM);
  const mtx = new mutex(m, MUTEX);
  void m.in_task(k, "p", () => {
    assert.is(sem.down_read(), undefined);
    assert.is(mtx.lock(), undefined);
    mtx.unlock();
    sem.up_read();
    assert.is(sem.down_write(), undefined);
    sem.downgrade_write();
    sem.up_read();
  });
  assert.not.ok(sem.is_locked());
});

t("a mutex is handed over in order of arrival", async () => {
  const w = world();
  const l = new mutex(w.m, MUTEX);
  for (const name of ["a", "b", "c"]) {
    user(
      w,
      name,
      () => l.lock(),
      () => l.unlock(),
    );
  }
  await w.m.run();
  assert.is(w.order.join(" "), "+a -a +b -b +c -c");
  assert.not.ok(l.is_locked());
});

t("a waiting writer holds up later readers, then all readers come in together", async () => {
  const w = world();
  const l = new rw_semaphore(w.m, SEM);
  const read = (name: string): task_struct =>
    user(
      w,
      name,
      () => l.down_read(),
      () => l.up_read(),
    );
  const write = (name: string): task_struct =>
    user(
      w,
      name,
      () => l.down_write(),
      () => l.up_write(),
    );
  read("r1");
  write("w1");
  read("r2");
  write("w2");
  read("r3");
  await w.m.run();
  assert.is(w.order.join(" "), "+r1 -r1 +w1 -w1 +r2 +r3 -r2 -r3 +w2 -w2");
});

t("readers of an rwsem share it", async () => {
  const w = world();
  const l = new rw_semaphore(w.m, SEM);
  for (const name of ["a", "b"]) {
    user(
      w,
      name,
      () => l.down_read(),
      () => l.up_read(),
    );
  }
  await w.m.run();
  assert.is(w.order.join(" "), "+a +b -a -b");
});

t("downgrade lets the first waiting readers in and keeps writers out", async () => {
  const w = world();
  const l = new rw_semaphore(w.m, SEM);
  w.spawn("w", async () => {
    assert.is(l.down_write(), undefined);
    await w.pause();
    l.downgrade_write();
    w.order.push("downgraded");
    assert.throws(() => l.up_write(), /up_write: w \(pid 1\) does not hold/);
    await w.pause();
    w.order.push("-w");
    l.up_read();
  });
  user(
    w,
    "r",
    () => l.down_read(),
    () => l.up_read(),
  );
  user(
    w,
    "w2",
    () => l.down_write(),
    () => l.up_write(),
  );
  await w.m.run();
  assert.is(w.order.join(" "), "downgraded +r -w -r +w2 -w2");
});

t("trylocks fail instead of waiting, also behind a queue", async () => {
  const w = world();
  const l = new rw_semaphore(w.m, SEM);
  w.spawn("r", async () => {
    assert.ok(l.down_read_trylock());
    assert.not.ok(l.down_write_trylock());
    await w.pause();
    assert.ok(l.is_contended());
    assert.not.ok(l.down_read_trylock(), "a writer waits");
    l.up_read();
  });
  user(
    w,
    "w",
    () => l.down_write(),
    () => l.up_write(),
  );
  await w.m.run();
  const mtx = new mutex(w.m, MUTEX);
  void w.m.in_task(w.k, "p", () => {
    assert.ok(mtx.trylock());
    assert.not.ok(mtx.trylock());
    mtx.unlock();
  });
});

t("a lock taken while asleep belongs to the sleeper as soon as it is handed over", async () => {
  const w = world();
  const l = new mutex(w.m, MUTEX, "pmem0");
  w.spawn("a", async () => {
    assert.is(l.lock(), undefined);
    await w.pause();
    l.unlock();
    assert.throws(
      () => l.unlock(),
      /a \(pid 1\) does not hold &bdev->bd_mutex of pmem0: b \(pid 2\) holds it/,
    );
  });
  w.spawn("b", async () => {
    const p = l.lock();
    if (p) await p;
    l.assert_held();
    l.unlock();
  });
  await w.m.run();
});

t("every misuse of a lock is a bug with a clear text", () => {
  const { m, k } = world();
  const sem = new rw_semaphore(m, SEM, "inode 12 of pmem0");
  const spin = new spinlock(m, SPIN);
  const rw = new rwlock(m, SPIN);
  const bit = new bit_lock(m, PAGE, () => "index 3 of inode 12");
  void m.in_task(k, "p", () => {
    assert.throws(
      () => sem.up_read(),
      /up_read: p \(pid 1\) does not hold &inode->i_rwsem of inode 12 of pmem0: nobody holds it/,
    );
    void sem.down_read();
    assert.throws(() => sem.up_write(), /up_write: .* it is held in the other mode/);
    assert.throws(() => sem.assert_held_write(), /lockdep_assert_held_write/);
    sem.up_read();
    assert.throws(() => sem.assert_held(), /lockdep_assert_held/);
    assert.throws(() => spin.unlock(), /spin_unlock: .* nobody holds it/);
    spin.lock();
    assert.throws(() => spin.lock(), /takes &inode->i_lock which it already holds/);
    assert.throws(
      () => sem.down_read(),
      /would sleep for .*i_rwsem.* while holding spinlock &inode->i_lock/,
    );
    assert.not.ok(spin.trylock());
    spin.unlock();
    rw.read_lock();
    rw.read_lock();
    assert.throws(() => rw.write_lock(), /which it already holds/);
    rw.read_unlock();
    rw.read_unlock();
    assert.throws(() => rw.read_unlock(), /read_unlock/);
    assert.throws(() => bit.unlock(), /page lock of index 3 of inode 12: it is free/);
    assert.throws(() => rcu_read_unlock(k), /in no RCU read section/);
    rcu_read_lock(k);
    assert.throws(() => sem.down_write(), /while in an RCU read section/);
    assert.throws(() => synchronize_rcu(k), /synchronize_rcu\(\) while in an RCU/);
    rcu_read_unlock(k);
  });
});

t("a spinlock found held means that its holder gave up the baton", async () => {
  const w = world();
  const spin = new spinlock(w.m, SPIN);
  w.spawn("careless", async (task) => {
    spin.lock();
    task.atomic = 0; // as if the check did not exist
    await w.pause();
    task.atomic = 1;
    spin.unlock();
  });
  w.spawn("victim", async () => {
    spin.lock();
  });
  await assert.rejects(
    w.m.run(),
    /victim \(pid 2\) finds &inode->i_lock held by careless \(pid 1\)/,
  );
});

t("a lock still held when a call returns or a task ends is reported by name", async () => {
  const { m, k } = world();
  const sem = new rw_semaphore(m, SEM, "inode 12 of pmem0");
  const p = m.new_thread(k, "p");
  const leak = (): void =>
    void m.sched.call(p, () => {
      void sem.down_write();
    });
  assert.throws(
    leak,
    "p (pid 1) returned from its call holding &inode->i_rwsem of inode 12 of pmem0 for writing",
  );
  const mtx = new mutex(m, MUTEX);
  m.spawn(k, "t", async () => {
    void mtx.lock();
  });
  await assert.rejects(m.run(), "t (pid 2) ended holding &bdev->bd_mutex");
});

t("an error path that forgets a lock is reported instead of its error", async () => {
  const { m, k } = world();
  const mtx = new mutex(m, MUTEX);
  const p = m.new_thread(k, "p");
  const forgets = (): void =>
    void m.sched.call(p, () => {
      void mtx.lock();
      throw ENOSPC;
    });
  assert.throws(forgets, "p (pid 1) failed its call with ENOSPC holding &bdev->bd_mutex");
  const other = new mutex(m, MUTEX);
  const later = m.sched.call(p, async () => {
    await Promise.resolve();
    void other.lock();
    throw ENOSPC;
  });
  await assert.rejects(later as Promise<never>, "failed its call with ENOSPC holding");
  const third = new mutex(m, MUTEX);
  const oops = (): void =>
    void m.sched.call(p, () => {
      void third.lock();
      throw new TypeError("ours");
    });
  assert.throws(oops, "ours");
});

t("a frozen level stays taken after its task returned, and another task thaws", async () => {
  const w = world();
  const level = new percpu_rwsem(w.m, FREEZE, "pmem0");
  void w.m.in_task(w.k, "fsfreeze", () => {
    void level.down_write();
    level.disown_write();
  });
  assert.ok(level.is_write_locked());
  user(
    w,
    "writer",
    () => level.down_read(),
    () => level.up_read(),
  );
  await w.m.settle();
  assert.equal(w.order, []);
  assert.equal(w.m.blocked_tasks()[0]!.blocked_by, [], "nobody in particular");
  void w.m.in_task(w.k, "thaw", () => {
    level.adopt_write();
    level.up_write();
  });
  await w.m.run();
  assert.is(w.order.join(" "), "+writer -writer");
});

t(
  "a bit lock may be unlocked by another task; who only watches it goes on after one unlock",
  async () => {
    const w = world();
    const page = new bit_lock(w.m, PAGE);
    w.spawn("submit", async () => {
      assert.is(page.lock(), undefined);
      await w.pause();
      page.disown();
    });
    w.spawn("peek", async () => {
      const p = page.wait_unlocked();
      if (p) await p;
      w.order.push("peek");
    });
    user(
      w,
      "next",
      () => page.lock(),
      () => page.unlock(),
    );
    w.spawn("irq", async () => {
      await w.pause();
      w.order.push("end_io");
      page.unlock();
    });
    await w.m.run();
    assert.is(w.order.join(" "), "end_io peek +next -next");
  },
);

t("wait queues wake all shared sleepers, last first, and one exclusive one", async () => {
  const w = world();
  const q = new_wait_queue(w.m, "q");
  const sleep = (name: string, exclusive: boolean): void => {
    w.spawn(name, async () => {
      await q.wait({ exclusive });
      w.order.push(name);
    });
  };
  sleep("s1", false);
  sleep("x1", true);
  sleep("s2", false);
  sleep("x2", true);
  w.spawn("waker", async () => {
    await w.pause();
    q.wake_up();
    await w.pause();
    w.order.push("|");
    q.wake_up_all();
  });
  await w.m.run();
  assert.is(w.order.join(" "), "s2 s1 x1 | x2");
  assert.not.ok(q.has_waiters());
});

t("wake_up_key wakes the sleepers of that key", async () => {
  const w = world();
  const q = new_wait_queue(w.m, "dax_wait_table");
  for (const key of ["a", "b"]) {
    w.spawn(key, async () => {
      await q.wait({ exclusive: true, key });
      w.order.push(key);
    });
  }
  w.spawn("waker", async () => {
    q.wake_up_key("b");
    await w.pause();
    q.wake_up_key("a");
  });
  await w.m.run();
  assert.is(w.order.join(""), "ba");
});

t("wait_event looks at its condition again after each wake-up", async () => {
  const w = world();
  const q = new_wait_queue(w.m, "q");
  let n = 0;
  w.spawn("waiter", async () => {
    const p = q.wait_event(() => n === 2);
    if (p) await p;
    w.order.push(`n=${n}`);
  });
  w.spawn("counter", async () => {
    for (n = 1; ; n++) {
      q.wake_up();
      await w.pause();
      if (n === 3) return;
    }
  });
  await w.m.run();
  assert.is(w.order.join(" "), "n=2");
});

t("wait_event_timeout gives up when its time has passed", async () => {
  const w = world();
  const q = new_wait_queue(w.m, "q");
  w.spawn("waiter", async () => {
    w.order.push(String(await q.wait_event_timeout(() => false, 5e6)));
    w.order.push(String(w.k.time.ktime_get_ns()));
  });
  await w.m.run();
  assert.is(w.order.join(" "), "false 5000000");
});

t("wait_var_event needs no queue of its own", async () => {
  const w = world();
  const page = { refs: 2 };
  w.spawn("waiter", async () => {
    const p = wait_var_event(w.k, page, "page idle", () => page.refs === 1);
    if (p) await p;
    w.order.push("idle");
  });
  w.spawn("put", async () => {
    await w.pause();
    page.refs = 1;
    wake_up_var(w.k, page);
  });
  await w.m.run();
  assert.equal(w.order, ["idle"]);
  assert.is(w.m.sched.var_queues!.size, 0);
});

t("a completion lets one waiter through for each complete()", async () => {
  const w = world();
  const c = new completion(w.m, "c");
  for (const name of ["a", "b"]) {
    w.spawn(name, async () => {
      const p = c.wait();
      if (p) await p;
      w.order.push(name);
    });
  }
  w.spawn("completer", async () => {
    c.complete();
    await w.pause();
    w.order.push("|");
    c.complete_all();
    await w.pause();
    assert.is(c.wait(), undefined);
  });
  await w.m.run();
  assert.is(w.order.join(" "), "a | b");
});

t("a semaphore counts", async () => {
  const w = world();
  const s = new semaphore(w.m, MUTEX, 2);
  for (const name of ["a", "b", "c"]) {
    user(
      w,
      name,
      () => s.down(),
      () => s.up(),
    );
  }
  await w.m.run();
  assert.is(w.order.join(" "), "+a +b -a -b +c -c");
});

t("srcu waits for the readers that were inside, not for later ones", async () => {
  const w = world();
  const s = new srcu(w.m, SRCU);
  w.spawn("old", async () => {
    const idx = s.read_lock();
    await w.pause();
    await w.pause();
    w.order.push("-old");
    s.read_unlock(idx);
  });
  w.spawn("sync", async () => {
    const p = s.synchronize();
    if (p) await p;
    w.order.push("synced");
  });
  w.spawn("new", async () => {
    const idx = s.read_lock();
    for (let i = 0; i < 5; i++) await w.pause();
    w.order.push("-new");
    s.read_unlock(idx);
  });
  await w.m.run();
  assert.is(w.order.join(" "), "-old synced -new");
});

t("an observer hears of every attempt, contention and release, in order", async () => {
  const w = world();
  const log = (what: string) => (task: task_struct, lock: { lock_name: string }, mode: number) =>
    void w.order.push(`${task.comm}:${what}:${lock.lock_name}:${mode}`);
  w.m.dep = {
    acquire(task, lock, mode, subclass, trylock) {
      log(`${trylock ? "try" : "acquire"}${subclass}`)(task, lock, mode);
    },
    contended: log("contended"),
    release: log("release"),
    sync() {},
    irq_state() {},
    clean: () => true,
    misuse() {},
  };
  const l = new mutex(w.m, lock_class("A"));
  const sem = new rw_semaphore(w.m, lock_class("B"));
  const spin = new spinlock(w.m, lock_class("C"));
  w.spawn("x", async () => {
    assert.is(l.lock(1), undefined);
    await w.pause();
    assert.ok(sem.down_read_trylock());
    sem.up_read();
    l.unlock();
  });
  w.spawn("y", async () => {
    const p = l.lock();
    if (p) await p;
    spin.lock();
    spin.unlock();
    l.unlock();
  });
  await w.m.run();
  assert.equal(w.order, [
    "x:acquire1:A:0",
    "y:acquire0:A:0",
    "y:contended:A:0",
    "x:try0:B:1",
    "x:release:B:1",
    "x:release:A:0",
    "y:acquire0:C:0",
    "y:release:C:0",
    "y:release:A:0",
  ]);
});

t("call_rcu callbacks run at the next switch of tasks, never inside a section", async () => {
  const w = world();
  w.spawn("reader", async () => {
    rcu_read_lock(w.k);
    call_rcu(w.k, () => w.order.push("freed"));
    w.order.push("reading");
    rcu_read_unlock(w.k);
    w.order.push("done");
    await w.pause();
    w.order.push("on");
  });
  w.spawn("other", async () => {
    w.order.push("other");
  });
  await w.m.run();
  assert.is(w.order.join(" "), "reading done freed other on");
});

t.run();
