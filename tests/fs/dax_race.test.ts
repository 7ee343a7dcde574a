/**
 * tests/fs/dax_race.test.ts - faults, writes, fsync, truncation and hole reads of one file by
 * several tasks, under hundreds of seeded schedules. After each the file, its entries and its pages
 * must agree.
 */
import { LLONG_MAX } from "../../kernel/include/fs.ts";
import type { file } from "../../kernel/include/fs.ts";
import { MAP_FIXED, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SYNC } from "../../kernel/include/mman.ts";
import { XA_STATE, xa_load, xas_find } from "../../kernel/lib/xarray.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { mm_alloc } from "../../mm/mm_init.ts";
import { pfn_to_page } from "../../mm/page.ts";
import { held_dax_entries } from "../../fs/dax.ts";
import {
  dax_entry_order,
  dax_entry_pages,
  dax_is_locked,
  dax_to_frame,
} from "../../fs/dax/entry.ts";
import { assert, suite } from "../lib/suite.ts";
import { ADDR, signal_of } from "./dax_helpers.ts";
import {
  FILE,
  MIB,
  PAGE,
  allocate,
  fill_bytes,
  load,
  make_file,
  make_testfs,
  mmap,
  read,
  store,
  truncate,
  write,
} from "./testfs.ts";
import type { testfs } from "./testfs.ts";

const t = suite("fs/dax races");
const SIZE = 4 * MIB;

interface world {
  fs: testfs;
  f: file;
  seed: number;
}

function make_world(seed: number): world {
  const fs = make_testfs({
    machine: { seed, strategy: new random_strategy(new Random(seed), seed) },
  });
  allocate(fs, PAGE);
  const f = make_file(fs, SIZE);
  FILE(f.f_inode).begin_hook = () => fs.machine.sched.sched_point();
  return { fs, f, seed };
}

function user(w: world, name: string, flags: number, fn: (t: task_struct) => Promise<void>): void {
  w.fs.machine.spawn(w.fs.kernel, name, async (task) => {
    task.mm = mm_alloc(w.fs.kernel);
    await mmap(task, w.f, SIZE, flags | MAP_FIXED, ADDR);
    await fn(task);
  });
}

/** What must hold when nobody is at work. */
function check(w: world): void {
  const { f, fs, seed } = w;
  const { kernel, dev } = fs;
  assert.equal(held_dax_entries(kernel), [], `seed ${seed}: entries left locked`);
  assert.is(kernel.nr_warnings, 0, `seed ${seed}: ${kernel.dmesg_text()}`);
  let pages = 0;
  const xas = XA_STATE(f.f_mapping.i_pages, 0);
  for (let e = xas_find(xas, 2 ** 40); e !== null; e = xas_find(xas, 2 ** 40)) {
    const entry = e as number;
    const nr = 1 << dax_entry_order(entry);
    const index = xas.xa_index - (xas.xa_index % nr);
    assert.not(dax_is_locked(entry), `seed ${seed}: page ${index} is locked`);
    pages += nr;
    for (let i = 0; i < dax_entry_pages(entry); i++) {
      const page = pfn_to_page(kernel, dev.base_pfn + dax_to_frame(entry) + i)!;
      assert.is(page.mapping, f.f_mapping, `seed ${seed}: page of index ${index + i}`);
      assert.is(page.index, index + i, `seed ${seed}: index of page ${index + i}`);
    }
  }
  assert.is(pages, f.f_mapping.nrpages, `seed ${seed}: nrpages`);
}

async function each_seed(n: number, fn: (w: world) => Promise<void>): Promise<void> {
  for (let seed = 1; seed <= n; seed++) await fn(make_world(seed));
}

t("stores of several tasks to holes all arrive, whatever the order", async () => {
  await each_seed(150, async (w) => {
    for (let n = 0; n < 3; n++) {
      user(w, `task${n}`, MAP_SHARED, async (task) => {
        for (let i = 0; i < 4; i++) await store(task, ADDR + i * PAGE + n, fill_bytes(10 + n, 1));
      });
    }
    await w.fs.machine.run();
    await w.fs.machine.in_task(w.fs.kernel, "reader", async () => {
      for (let i = 0; i < 4; i++) {
        const got = await read(w.fs, w.f, i * PAGE, 4);
        assert.equal(got, new Uint8Array([10, 11, 12, 0]), `seed ${w.seed}, page ${i}`);
      }
    });
    check(w);
  });
});

t("readers of a huge zero page and a writer into it agree in the end", async () => {
  await each_seed(150, async (w) => {
    const last: number[] = [];
    for (let n = 0; n < 2; n++) {
      user(w, `reader${n}`, MAP_SHARED, async (task) => {
        for (let i = 0; i < 3; i++) await load(task, ADDR + i * 3 * PAGE, 1);
        while ((await load(task, ADDR + 3 * PAGE, 1))[0] === 0) {
          const p = w.fs.machine.sched.yield();
          if (p) await p;
        }
        last.push((await load(task, ADDR + 3 * PAGE, 1))[0]!);
      });
    }
    w.fs.machine.spawn(w.fs.kernel, "writer", async () => {
      await write(w.fs, w.f, 3 * PAGE, fill_bytes(7, 10));
    });
    await w.fs.machine.run();
    assert.equal(last, [7, 7], `seed ${w.seed}`);
    check(w);
  });
});

t("truncation against faults: data before the cut stays, behind it there is SIGBUS", async () => {
  await each_seed(150, async (w) => {
    const ends: string[] = [];
    for (let n = 0; n < 2; n++) {
      user(w, `task${n}`, MAP_SHARED, async (task) => {
        await store(task, ADDR, fill_bytes(9, 1));
        for (let i = 0; i < 4; i++) {
          ends.push(await signal_of(store(task, ADDR + (i + 1) * PAGE, fill_bytes(1, 1))));
        }
      });
    }
    w.fs.machine.spawn(w.fs.kernel, "truncate", () => truncate(w.fs, w.f, PAGE));
    await w.fs.machine.run();
    assert.ok(
      ends.every((e) => e === "none" || e === "SIGBUS BUS_ADRERR"),
      `seed ${w.seed}: ${ends}`,
    );
    await w.fs.machine.in_task(w.fs.kernel, "reader", async () => {
      assert.equal(await read(w.fs, w.f, 0, 2), new Uint8Array([9, 0]), `seed ${w.seed}`);
    });
    assert.is(xa_load(w.f.f_mapping.i_pages, 1), null, `seed ${w.seed}: a page behind the end`);
    check(w);
  });
});

t(
  "fsync against stores: what was stored before the last fsync is clean, later stores are seen",
  async () => {
    await each_seed(150, async (w) => {
      for (let n = 0; n < 2; n++) {
        user(w, `task${n}`, n === 0 ? MAP_SHARED : MAP_SHARED_VALIDATE | MAP_SYNC, async (task) => {
          for (let i = 0; i < 6; i++) {
            await store(task, ADDR + (i % 3) * PAGE + n, fill_bytes(20 + i, 1));
          }
        });
      }
      for (let n = 0; n < 2; n++) {
        w.fs.machine.spawn(w.fs.kernel, `sync${n}`, async () => {
          for (let i = 0; i < 3; i++) await w.f.f_op.fsync!(w.f, 0, LLONG_MAX, false);
        });
      }
      await w.fs.machine.run();
      await w.fs.machine.in_task(w.fs.kernel, "reader", async () => {
        for (let i = 0; i < 3; i++) {
          const want = new Uint8Array([23 + i, 23 + i]);
          assert.equal(await read(w.fs, w.f, i * PAGE, 2), want, `seed ${w.seed}`);
        }
      });
      check(w);
    });
  },
);

t.run();
