/**
 * tests/tools/explore_calls.test.ts - what exploration makes of system calls that a scenario gives
 * from outside, several at once: who goes first, and on, is a choice at every scheduling point.
 */
import { fget } from "../../fs/file.ts";
import { inode_lock, inode_unlock } from "../../kernel/vfs/inode.ts";
import type { Process } from "../../tools/api/process.ts";
import { scenario, type scenario as scenario_t } from "../../tools/api/scenario.ts";
import { outcomes_of, turn } from "../lib/explore.ts";
import { explore, type strategy_name } from "../../tools/explore/explore.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/explore calls");

const O_RDWR_CREAT = 0o102;

/** Reads a number and writes it back one higher: two calls. */
async function add_one(p: Process, fd: number): Promise<void> {
  const n = new Uint8Array(1);
  await p.pread(fd, n, 0);
  await p.pwrite(fd, new Uint8Array([n[0]! + 1]), 0);
}

async function read_one(p: Process, fd: number): Promise<number> {
  const n = new Uint8Array(1);
  await p.pread(fd, n, 0);
  return n[0]!;
}

const counter = scenario({}, async (m) => {
  const p = m.process("one");
  const fd = await p.open("/tmp/n", O_RDWR_CREAT);
  await p.pwrite(fd, new Uint8Array(1), 0);
  const q = await p.fork("two");
  await Promise.all([add_one(p, fd), add_one(q, fd)]);
  return await read_one(p, fd);
});

function locks(orders: readonly [number, number][]): scenario_t {
  return scenario({}, async (m) => {
    const p = m.process("left");
    const fds = [await p.open("/tmp/a", O_RDWR_CREAT), await p.open("/tmp/b", O_RDWR_CREAT)];
    const q = await p.fork("right");
    const both = (who: Process, [x, y]: readonly [number, number]) =>
      who.in_kernel(async (_kernel, task) => {
        const [a, b] = [fget(task, fds[x]!).f_inode, fget(task, fds[y]!).f_inode];
        await inode_lock(a);
        await inode_lock(b);
        inode_unlock(b);
        inode_unlock(a);
      });
    await Promise.all([both(p, orders[0]!), both(q, orders[1]!)]);
    return "done";
  });
}

t("two read-modify-writes given at once: an update can be lost, or not", async () => {
  for (const strategy of ["dpor", "all"] as const) {
    const { outcomes, result } = await outcomes_of(counter, strategy, { runs: 20_000 });
    assert.equal(outcomes, ["1", "2"], strategy);
    assert.is(result.complete, true, result.promise);
  }
});

t("the reduction needs fewer runs than there are schedules", async () => {
  const dpor = (await outcomes_of(counter, "dpor")).result;
  const all = (await outcomes_of(counter, "all", { runs: 20_000 })).result;
  assert.ok(dpor.runs < all.runs, `${dpor.runs} of ${all.runs}`);
  assert.ok(dpor.runs > 1);
});

t(
  "calls that lock in opposite orders deadlock in some schedule, in one order in none",
  async () => {
    const crossed = locks([
      [0, 1],
      [1, 0],
    ]);
    assert.equal((await outcomes_of(crossed)).outcomes, ["deadlock", "done"]);
    const ordered = locks([
      [0, 1],
      [0, 1],
    ]);
    const { outcomes, result } = await outcomes_of(ordered);
    assert.equal(outcomes, ["done"]);
    assert.ok(result.complete && result.runs > 1, result.promise);
  },
);

t("every strategy finds the deadlock of calls, and its schedule repeats it", async () => {
  const crossed = locks([
    [0, 1],
    [1, 0],
  ]);
  for (const strategy of ["random", "pct", "dpor", "all"] satisfies strategy_name[]) {
    const r = await explore(crossed, { strategy, runs: 500, turn });
    assert.is(r.findings[0]?.verdict, "deadlock", strategy);
  }
});

t("a script that gives one call after the other has one schedule", async () => {
  const s = scenario({}, async (m) => {
    const p = m.process();
    const fd = await p.open("/tmp/n", O_RDWR_CREAT);
    await add_one(p, fd);
    return await read_one(p, fd);
  });
  for (const strategy of ["dpor", "random"] satisfies strategy_name[]) {
    const { outcomes, result } = await outcomes_of(s, strategy);
    assert.equal([outcomes, result.runs, result.complete], [["1"], 1, true]);
    assert.match(result.promise, /nothing happened at the same time/);
  }
});

t("a call given when another has ended is not explored before it", async () => {
  const s = scenario({}, async (m) => {
    const p = m.process("one");
    const fd = await p.open("/tmp/n", O_RDWR_CREAT);
    await p.pwrite(fd, new Uint8Array(1), 0);
    const [q, r] = [await p.fork("two"), await p.fork("three")];
    const first = add_one(p, fd);
    await Promise.all([first.then(() => add_one(q, fd)), r.fsync(fd)]);
    return await read_one(p, fd);
  });
  const { outcomes, result } = await outcomes_of(s);
  assert.equal(outcomes, ["2"]);
  assert.ok(result.complete, result.promise);
});

t("the forms that cannot wait take no turn", async () => {
  const s = scenario({}, async (m) => {
    const p = m.process();
    const fd = await p.open("/tmp/n", O_RDWR_CREAT);
    p.pwriteSync(fd, new Uint8Array([7]), 0);
    const n = new Uint8Array(1);
    p.preadSync(fd, n, 0);
    return n[0];
  });
  assert.equal((await outcomes_of(s)).outcomes, ["7"]);
});

t("a pipe's reader may come before its writer", async () => {
  const s = scenario({}, async (m) => {
    const p = m.process("reader");
    const [r, w] = await p.pipe();
    const q = await p.fork("writer");
    const got = new Uint8Array(2);
    await Promise.all([p.read(r, got), q.write(w, new Uint8Array([1, 2]))]);
    return got.join("");
  });
  const { outcomes, result } = await outcomes_of(s);
  assert.equal(outcomes, ["12"]);
  assert.ok(result.complete && result.runs > 1, result.promise);
});

t.run();
