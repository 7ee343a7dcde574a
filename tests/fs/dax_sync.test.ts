/** tests/fs/dax_sync.test.ts - MAP_SYNC faults, entry locks between tasks, writeback. */
import { EIO } from "../../kernel/include/errno.ts";
import { LLONG_MAX, WB_SYNC_NONE } from "../../kernel/include/fs.ts";
import type { file } from "../../kernel/include/fs.ts";
import { IOMAP_MAPPED } from "../../kernel/include/iomap.ts";
import { MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SYNC } from "../../kernel/include/mman.ts";
import { mm_alloc } from "../../mm/mm_init.ts";
import {
  dax_invalidate_mapping_entry_sync,
  dax_layout_busy_page,
  dax_lock_mapping_entry,
  dax_unlock_mapping_entry,
  dax_writeback_mapping_range,
  held_dax_entries,
} from "../../fs/dax.ts";
import { assert, suite } from "../lib/suite.ts";
import { ADDR, events, fixed, is_dirty, mmap_small, rejects, wbc } from "./dax_helpers.ts";
import {
  FILE,
  MIB,
  PAGE,
  add_extent,
  as_user,
  load,
  make_file,
  make_testfs,
  store,
  text,
} from "./testfs.ts";
import type { testfs } from "./testfs.ts";

const t = suite("fs/dax sync");

// ---- MAP_SYNC

t("MAP_SYNC: a store into new blocks is mapped only after the fsync", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * PAGE);
  await as_user(fs, async (task) => {
    const m = await mmap_small(task, f, 4 * PAGE, MAP_SHARED_VALIDATE | MAP_SYNC);
    const got = await events(fs, () => store(task, m, text("a")));
    assert.equal(got, [
      "pte_fault WRITE 0x0",
      "pte_fault_done WRITE 0x0 MAJOR|NEEDDSYNC",
      "insert_pfn_mkwrite WRITE 0x0 NOPAGE",
    ]);
    assert.is(FILE(f.f_inode).fsyncs, 1);
    assert.ok(is_dirty(f, 0));
    const more = await events(fs, () => store(task, m + PAGE, text("b")));
    assert.equal(more, [
      "pte_fault WRITE 0x1",
      "pte_fault_done WRITE 0x1 MAJOR|NEEDDSYNC",
      "writeback_range 0x1-0x1",
      "writeback_range_done",
      "insert_pfn_mkwrite WRITE 0x1 NOPAGE",
    ]);
    await f.f_op.fsync!(f, 0, LLONG_MAX, false);
    assert.equal(await events(fs, () => store(task, m, text("c"))), [
      "pte_fault WRITE MKWRITE 0x0",
      "pte_fault_done WRITE MKWRITE 0x0 NOPAGE",
    ]);
  });
});

t("MAP_SYNC on a PMD syncs from the faulting page on", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * MIB);
  add_extent(fs, f, 0, 4 * MIB, IOMAP_MAPPED, 2 * MIB);
  FILE(f.f_inode).dirty_metadata = true;
  await as_user(fs, async (task) => {
    await fixed(task, f, 4 * MIB, MAP_SHARED_VALIDATE | MAP_SYNC);
    await store(task, ADDR, text("a"));
    FILE(f.f_inode).dirty_metadata = true;
    assert.equal(await events(fs, () => store(task, ADDR + 2 * MIB + PAGE, text("b"))), [
      "pmd_fault WRITE 0x201",
      "pmd_fault_done WRITE 0x201 NEEDDSYNC",
      "writeback_range 0x201-0x400",
      "writeback_range_done",
      "insert_pfn_mkwrite WRITE 0x201 NOPAGE",
    ]);
  });
});

t(
  "a MAP_SYNC fault whose blocks went during the sync inserts nothing and faults again",
  async () => {
    const fs = make_testfs();
    const f = make_file(fs, 2 * PAGE);
    const { fsync } = f.f_op;
    let raced = false;
    f.f_op.fsync = async (file, start, end, datasync) => {
      await fsync!(file, start, end, datasync);
      if (raced) return;
      raced = true;
      await fs.kernel.dax_mm_ops!.delete_mapping_entry(f.f_mapping, 0);
    };
    await as_user(fs, async (task) => {
      const m = await mmap_small(task, f, 2 * PAGE, MAP_SHARED_VALIDATE | MAP_SYNC);
      const got = await events(fs, () => store(task, m, text("z")));
      assert.equal(got.slice(0, 3), [
        "pte_fault WRITE 0x0",
        "pte_fault_done WRITE 0x0 MAJOR|NEEDDSYNC",
        "insert_pfn_mkwrite_no_entry WRITE 0x0 NOPAGE",
      ]);
      assert.equal(await load(task, m, 1), text("z"));
    });
  },
);

// ---- entry locks

t("two tasks that fault one page go one after the other, and the wait is visible", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * PAGE);
  const { machine, kernel } = fs;
  const order: string[] = [];
  machine.spawn(kernel, "holder", async () => {
    await as_holder(fs, f, order);
  });
  for (const name of ["one", "two"]) {
    machine.spawn(kernel, name, async (task) => {
      task.mm = mm_alloc(kernel);
      const m = await mmap_small(task, f, 4 * PAGE, MAP_SHARED);
      await store(task, m, text(name));
      order.push(name);
    });
  }
  await machine.run();
  assert.equal(order, ["waiting: one, two", "released", "one", "two"]);
  assert.equal(held_dax_entries(kernel), []);
});

/** Locks the entry of page 0, lets the others run into it, looks at who waits, and unlocks. */
async function as_holder(fs: testfs, f: file, order: string[]): Promise<void> {
  const { kernel, machine } = fs;
  const e = add_extent(fs, f, 0, PAGE);
  kernel.current.mm = mm_alloc(kernel);
  const m = await mmap_small(kernel.current, f, PAGE, MAP_SHARED);
  await load(kernel.current, m, 1);
  const { cookie, page } = await dax_lock_mapping_entry(f.f_mapping, 0);
  assert.is(page?.pfn, fs.dev.base_pfn + e.addr / PAGE);
  for (let i = 0; i < 8; i++) {
    const p = machine.sched.yield();
    if (p) await p;
  }
  const waiting = machine.blocked_tasks();
  order.push(`waiting: ${waiting.map((w) => w.comm).join(", ")}`);
  for (const w of waiting) assert.equal(w.blocked_by, [kernel.current.pid]);
  dax_unlock_mapping_entry(f.f_mapping, 0, cookie!);
  order.push("released");
}

t("a task that locks an entry it has locked is a deadlock that is found", async () => {
  const fs = make_testfs();
  const f = make_file(fs, PAGE);
  add_extent(fs, f, 0, PAGE);
  let name = "";
  await as_user(fs, async (task) => {
    await load(task, await mmap_small(task, f, PAGE, MAP_SHARED), 1);
    await dax_lock_mapping_entry(f.f_mapping, 0);
    await dax_lock_mapping_entry(f.f_mapping, 0);
  }).catch((err: Error) => {
    name = err.name;
  });
  assert.is(name, "Deadlock");
});

// ---- writeback

t(
  "nothing is written without WB_SYNC_ALL, and odd block sizes are refused once loudly",
  async () => {
    const fs = make_testfs();
    const f = make_file(fs, PAGE);
    add_extent(fs, f, 0, PAGE);
    await as_user(fs, async (task) => {
      await store(task, await mmap_small(task, f, PAGE, MAP_SHARED), text("x"));
      await dax_writeback_mapping_range(f.f_mapping, fs.dev, wbc(WB_SYNC_NONE));
      assert.ok(is_dirty(f, 0));
      f.f_inode.i_blkbits = 10;
      await rejects(dax_writeback_mapping_range(f.f_mapping, fs.dev, wbc()), EIO);
      await rejects(dax_writeback_mapping_range(f.f_mapping, fs.dev, wbc()), EIO);
    });
    assert.is(fs.kernel.nr_warnings, 1);
  },
);

/** Two fsyncs begin while the entry is locked, which is unlocked after that. */
async function fsyncs_of_locked_entry(release: "6.1" | "6.15"): Promise<[string[], boolean]> {
  const fs = make_testfs({ kernel: { release } });
  const f = make_file(fs, PAGE);
  add_extent(fs, f, 0, PAGE);
  await as_user(fs, async (task) => {
    await store(task, await mmap_small(task, f, PAGE, MAP_SHARED), text("x"));
  });
  const { machine, kernel } = fs;
  const lock = (): Promise<{ cookie: number | null }> => dax_lock_mapping_entry(f.f_mapping, 0);
  const got = await events(fs, async () => {
    const hold = await machine.in_task(kernel, "holder", lock);
    for (const name of ["sync1", "sync2"]) {
      machine.spawn(kernel, name, () => dax_writeback_mapping_range(f.f_mapping, fs.dev, wbc()));
    }
    machine.spawn(kernel, "unlock", () => dax_unlock_mapping_entry(f.f_mapping, 0, hold.cookie!));
    await machine.run();
  });
  return [got, is_dirty(f, 0)];
}

t("from 6.15 an fsync waits for a locked entry, and a second one finds it done", async () => {
  assert.equal(await fsyncs_of_locked_entry("6.15"), [
    [
      "writeback_range 0x0-0x7ffffffffffff",
      "writeback_range 0x0-0x7ffffffffffff",
      "writeback_one 0x0 len=0x1",
      "writeback_range_done",
      "writeback_range_done",
    ],
    false,
  ]);
});

t(
  "in 6.1 an fsync passes a locked entry by: it stays dirty although fsync has succeeded",
  async () => {
    assert.equal(await fsyncs_of_locked_entry("6.1"), [
      [
        "writeback_range 0x0-0x7ffffffffffff",
        "writeback_range_done",
        "writeback_range 0x0-0x7ffffffffffff",
        "writeback_range_done",
      ],
      true,
    ]);
  },
);

/**
 * A task waits for a locked entry and, once woken, leaves it alone; another waits behind it. Who
 * came to an end: the second must not sleep for ever.
 */
async function woken_and_not_interested(
  release: "6.1" | "6.15",
  first: (fs: testfs, f: file) => unknown,
): Promise<string[]> {
  const fs = make_testfs({ kernel: { release } });
  const f = make_file(fs, PAGE);
  add_extent(fs, f, 0, PAGE);
  await as_user(fs, async (task) => {
    await store(task, await mmap_small(task, f, PAGE, MAP_SHARED), text("x"));
  });
  const { machine, kernel } = fs;
  const order: string[] = [];
  const lock = (): Promise<{ cookie: number | null }> => dax_lock_mapping_entry(f.f_mapping, 0);
  const hold = await machine.in_task(kernel, "holder", lock);
  machine.spawn(kernel, "first", async () => {
    await first(fs, f);
    order.push("first");
  });
  machine.spawn(kernel, "second", async (task) => {
    task.mm = mm_alloc(kernel);
    await load(task, await mmap_small(task, f, PAGE, MAP_SHARED), 1);
    order.push("second");
  });
  machine.spawn(kernel, "unlock", () => {
    order.push(`${machine.blocked_tasks().length} wait`);
    dax_unlock_mapping_entry(f.f_mapping, 0, hold.cookie!);
  });
  await machine.run();
  return order.sort();
}

t("who is woken for an entry and does not lock it wakes the next", async () => {
  const invalidate = async (_fs: testfs, f: file) =>
    assert.is(await dax_invalidate_mapping_entry_sync(f.f_mapping, 0), false, "it is dirty");
  assert.equal(await woken_and_not_interested("6.1", invalidate), ["2 wait", "first", "second"]);
  const look = async (_fs: testfs, f: file) =>
    assert.is(await dax_layout_busy_page(f.f_mapping), null, "nobody uses the page");
  assert.equal(await woken_and_not_interested("6.15", look), ["2 wait", "first", "second"]);
});

t.run();
