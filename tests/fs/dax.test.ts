/**
 * tests/fs/dax.test.ts - DAX over a toy filesystem: read and write, faults, entries, writeback,
 * truncation.
 */
import { EFAULT, EIO } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { LLONG_MAX } from "../../kernel/include/fs.ts";
import { IOMAP_MAPPED, IOMAP_UNWRITTEN } from "../../kernel/include/iomap.ts";
import { MAP_FIXED, MAP_PRIVATE, MAP_SHARED } from "../../kernel/include/mman.ts";
import { mm_alloc } from "../../mm/mm_init.ts";
import { get_page, pfn_to_page, put_page } from "../../mm/page.ts";
import {
  dax_break_layout,
  dax_layout_busy_page_range,
  dax_to_value,
  dax_truncate_page,
  dax_zero_range,
  held_dax_entries,
} from "../../fs/dax.ts";
import { dax_entry_order, dax_is_zero_entry, dax_to_frame } from "../../fs/dax/entry.ts";
import { assert, suite } from "../lib/suite.ts";
import {
  ADDR,
  entry_at,
  events,
  fixed,
  is_dirty,
  mmap_small,
  rejects,
  signal_of,
} from "./dax_helpers.ts";
import {
  FILE,
  MIB,
  PAGE,
  add_extent,
  as_user,
  fill_bytes,
  load,
  make_file,
  make_testfs,
  mmap,
  read,
  store,
  test_iomap_ops,
  text,
  truncate,
  write,
} from "./testfs.ts";

const t = suite("fs/dax");

// ---- read and write

t("what is written is read back, across extents and holes, without a page cache", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 0);
  await as_user(fs, async () => {
    const data = new Uint8Array(3 * PAGE).map((_, i) => (i * 13) >> 2);
    assert.is(await write(fs, f, 2 * PAGE + 100, data), data.length);
    assert.equal(await read(fs, f, 2 * PAGE + 100, data.length), data);
    assert.equal(await read(fs, f, 0, 200), fill_bytes(0, 200));
    assert.is((await read(fs, f, f.f_inode.i_size - 10, 100)).length, 10);
    assert.is((await read(fs, f, f.f_inode.i_size, 100)).length, 0);
  });
  assert.is(f.f_mapping.nrpages, 0);
});

t("a 4 KiB overwrite goes straight to the media and makes no promise", async () => {
  const fs = make_testfs();
  const f = make_file(fs, PAGE);
  const e = add_extent(fs, f, 0, PAGE);
  const back = new Uint8Array(PAGE);
  await as_user(fs, async () => {
    await write(fs, f, 0, fill_bytes(0x5a, PAGE));
  });
  fs.kernel.phys.copy_from(fs.dev.base_pfn * PAGE + e.addr, back, 0, PAGE);
  assert.equal(back, fill_bytes(0x5a, PAGE));
});

t(
  "a write over bad sectors fails with EFAULT, a read of them with EIO, the rest works",
  async () => {
    const fs = make_testfs();
    const f = make_file(fs, 8 * PAGE);
    const e = add_extent(fs, f, 0, 8 * PAGE);
    fs.pmem.bb.set((e.addr + 2 * PAGE) / 512, 1);
    await as_user(fs, async () => {
      assert.is((await read(fs, f, 0, PAGE)).length, PAGE);
      await rejects(read(fs, f, 2 * PAGE, PAGE), EIO);
      await rejects(read(fs, f, 0, 4 * PAGE), EIO);
      await rejects(write(fs, f, 2 * PAGE, fill_bytes(1, 100)), EFAULT);
      await rejects(write(fs, f, 2 * PAGE, fill_bytes(1, PAGE)), EFAULT);
    });
    assert.is(fs.pmem.bb.count, 1);
  },
);

t("a device that repairs poison takes a whole-page write and forgets the bad sector", async () => {
  const fs = make_testfs({ pmem: { clear_poison: true } });
  const f = make_file(fs, 8 * PAGE);
  const e = add_extent(fs, f, 0, 8 * PAGE);
  fs.pmem.bb.set((e.addr + 2 * PAGE) / 512, 1);
  await as_user(fs, async () => {
    await rejects(write(fs, f, 2 * PAGE, fill_bytes(1, 100)), EFAULT);
    assert.is(await write(fs, f, 2 * PAGE, fill_bytes(1, PAGE)), PAGE);
    assert.is((await read(fs, f, 0, 8 * PAGE)).length, 8 * PAGE);
  });
  assert.is(fs.pmem.bb.count, 0);
});

t("a dead device moves nothing", async () => {
  const fs = make_testfs();
  const f = make_file(fs, PAGE);
  add_extent(fs, f, 0, PAGE);
  fs.dev.alive = false;
  await as_user(fs, async () => {
    let code = "";
    await read(fs, f, 0, 10).catch((err: Errno) => {
      code = err.code;
    });
    assert.is(code, "ENXIO");
  });
});

t("iomap_end hears how much of a short mapping was done", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 3 * PAGE);
  add_extent(fs, f, 0, PAGE);
  add_extent(fs, f, PAGE, 2 * PAGE);
  FILE(f.f_inode).log = [];
  await as_user(fs, () => read(fs, f, 100, 2 * PAGE));
  assert.equal(FILE(f.f_inode).log, [
    "begin 100+8192 -> 0+4096 type 2",
    "end 100+3996 written 3996",
    "begin 4096+4196 -> 4096+8192 type 2",
    "end 4096+4196 written 4196",
  ]);
});

t("a filesystem that has to wait is waited for", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * PAGE);
  add_extent(fs, f, 0, 2 * PAGE);
  add_extent(fs, f, 2 * PAGE, 2 * PAGE);
  const { sched } = fs.machine;
  FILE(f.f_inode).begin_hook = () => Promise.resolve(sched.sched_point());
  await as_user(fs, async (task) => {
    assert.is(await write(fs, f, 10, fill_bytes(7, 3 * PAGE)), 3 * PAGE);
    assert.equal(await read(fs, f, 10, 3 * PAGE), fill_bytes(7, 3 * PAGE));
    const m = await mmap_small(task, f, 4 * PAGE, MAP_SHARED);
    await store(task, m + PAGE, text("waited"));
    assert.equal(await load(task, m + PAGE, 6), text("waited"));
  });
});

// ---- faults

t(
  "read, then write, then fsync: the entry is dirty until written back, the PTE then protected",
  async () => {
    const fs = make_testfs();
    const f = make_file(fs, 4 * PAGE);
    add_extent(fs, f, 0, 4 * PAGE);
    await as_user(fs, async (task) => {
      const m = await mmap_small(task, f, 4 * PAGE, MAP_SHARED);
      const got = await events(fs, async () => {
        await load(task, m, 8);
        await store(task, m + 8, text("after-read"));
        await store(task, m + PAGE, text("first"));
        await f.f_op.fsync!(f, 0, LLONG_MAX, false);
        await store(task, m + PAGE, text("again"));
        await f.f_op.fsync!(f, 0, LLONG_MAX, false);
        await f.f_op.fsync!(f, 0, LLONG_MAX, false);
      });
      assert.equal(got, [
        "pte_fault 0x0",
        "pte_fault_done 0x0 NOPAGE",
        "pte_fault WRITE MKWRITE 0x0",
        "pte_fault_done WRITE MKWRITE 0x0 NOPAGE",
        "pte_fault WRITE 0x1",
        "pte_fault_done WRITE 0x1 NOPAGE",
        "writeback_range 0x0-0x7ffffffffffff",
        "writeback_one 0x0 len=0x1",
        "writeback_one 0x1 len=0x1",
        "writeback_range_done",
        "pte_fault WRITE MKWRITE 0x1",
        "pte_fault_done WRITE MKWRITE 0x1 NOPAGE",
        "writeback_range 0x0-0x7ffffffffffff",
        "writeback_one 0x1 len=0x1",
        "writeback_range_done",
      ]);
      assert.not(is_dirty(f, 1));
      assert.equal(await read(fs, f, PAGE, 5), text("again"));
    });
    assert.equal(held_dax_entries(fs.kernel), []);
  },
);

t("a read fault tags its entry dirty in 6.1 and no more in 6.2", async () => {
  for (const [release, dirty] of [
    ["6.1", true],
    ["6.2", false],
  ] as const) {
    const fs = make_testfs({ kernel: { release } });
    const f = make_file(fs, PAGE);
    add_extent(fs, f, 0, PAGE);
    await as_user(fs, async (task) => {
      await load(task, await mmap_small(task, f, PAGE, MAP_SHARED), 1);
    });
    assert.is(is_dirty(f, 0), dirty, release);
  }
});

t("a hole reads as the zero page; a store into it allocates and all see the data", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * PAGE);
  await as_user(fs, async (task) => {
    const m = await mmap_small(task, f, 4 * PAGE, MAP_SHARED);
    const n = await mmap_small(task, f, 4 * PAGE, MAP_SHARED);
    const got = await events(fs, async () => {
      await load(task, m, 4);
      await load(task, n, 4);
      await store(task, m + 1, text("x"));
      assert.equal(await load(task, n, 3), new Uint8Array([0, 0x78, 0]));
    });
    assert.equal(got, [
      "pte_fault 0x0",
      "load_hole 0x0 NOPAGE",
      "pte_fault_done 0x0 NOPAGE",
      "pte_fault 0x0",
      "load_hole 0x0 NOPAGE",
      "pte_fault_done 0x0 NOPAGE",
      "pte_fault WRITE MKWRITE 0x0",
      "pte_fault_done WRITE MKWRITE 0x0 MAJOR|NOPAGE",
      "pte_fault 0x0",
      "pte_fault_done 0x0 NOPAGE",
    ]);
    assert.not(dax_is_zero_entry(entry_at(f, 0)!));
  });
});

t("write() into a hole that is mapped takes the zero page away", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * PAGE);
  await as_user(fs, async (task) => {
    const m = await mmap_small(task, f, 4 * PAGE, MAP_SHARED);
    assert.equal(await load(task, m + PAGE, 4), fill_bytes(0, 4));
    await write(fs, f, PAGE, text("data"));
    assert.equal(await load(task, m + PAGE, 4), text("data"));
  });
});

t("one PMD fault maps 2 MiB when address, offset and blocks agree", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * MIB);
  add_extent(fs, f, 0, 4 * MIB, IOMAP_MAPPED, 2 * MIB);
  await as_user(fs, async (task) => {
    await fixed(task, f, 4 * MIB);
    const got = await events(fs, async () => {
      await load(task, ADDR + 5000, 4);
      await store(task, ADDR + 2 * MIB + 12345, text("pmd"));
      await store(task, ADDR, text("after-read"));
      await f.f_op.fsync!(f, 0, LLONG_MAX, false);
      await store(task, ADDR + PAGE, text("again"));
    });
    assert.equal(got, [
      "pmd_fault 0x1",
      "pmd_fault_done 0x1 NOPAGE",
      "pmd_fault WRITE 0x203",
      "pmd_fault_done WRITE 0x203 NOPAGE",
      "pmd_fault WRITE 0x0",
      "pmd_fault_done WRITE 0x0 NOPAGE",
      "writeback_range 0x0-0x7ffffffffffff",
      "writeback_one 0x0 len=0x200",
      "writeback_one 0x200 len=0x200",
      "writeback_range_done",
      "pmd_fault WRITE 0x1",
      "pmd_fault_done WRITE 0x1 NOPAGE",
    ]);
    assert.is(dax_entry_order(entry_at(f, 0x1ff)!), 9);
    assert.is(f.f_mapping.nrpages, 1024);
  });
});

t("a PMD entry reads as the kernel's number: frame, PMD bit", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 2 * MIB);
  const e = add_extent(fs, f, 0, 2 * MIB, IOMAP_MAPPED, 2 * MIB);
  await as_user(fs, async (task) => {
    await fixed(task, f, 2 * MIB);
    await load(task, ADDR, 1);
  });
  const entry = entry_at(f, 0)!;
  assert.is(dax_to_frame(entry), e.addr / PAGE);
  assert.is(dax_to_value(entry, fs.dev.base_pfn), (fs.dev.base_pfn + e.addr / PAGE) * 16 + 2);
});

t("pages of a mapped entry know their file and offset, and forget it on truncation", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 2 * MIB);
  const e = add_extent(fs, f, 0, 2 * MIB, IOMAP_MAPPED, 2 * MIB);
  const page = (i: number) => pfn_to_page(fs.kernel, fs.dev.base_pfn + e.addr / PAGE + i)!;
  await as_user(fs, async (task) => {
    await fixed(task, f, 2 * MIB);
    await load(task, ADDR, 1);
    assert.is(page(0x123).mapping, f.f_mapping);
    assert.is(page(0x123).index, 0x123);
    await truncate(fs, f, 0);
  });
  assert.is(page(0x123).mapping, null);
  assert.is(f.f_mapping.nrpages, 0);
});

t("the huge zero page gives way to page entries when one page of it is stored to", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * MIB);
  FILE(f.f_inode).begin_hook = null;
  await as_user(fs, async (task) => {
    await fixed(task, f, 4 * MIB);
    assert.equal(await events(fs, () => load(task, ADDR + 100, 4)), [
      "pmd_fault 0x0",
      "pmd_load_hole entry=13",
      "pmd_fault_done 0x0 NOPAGE",
    ]);
    // Something is in the way of a PMD now: the toy allocates one block where asked for less than 2
    // MiB.
    await write(fs, f, PAGE, text("data"));
    const got = await events(fs, async () => {
      assert.equal(await load(task, ADDR + PAGE, 4), text("data"));
      assert.equal(await load(task, ADDR + 2 * PAGE, 4), fill_bytes(0, 4));
    });
    assert.equal(got, [
      "pmd_fault 0x1",
      "pmd_fault_done 0x1 FALLBACK",
      "pte_fault 0x1",
      "pte_fault_done 0x1 NOPAGE",
      "pte_fault 0x2",
      "load_hole 0x2 NOPAGE",
      "pte_fault_done 0x2 NOPAGE",
    ]);
    assert.is(f.f_mapping.nrpages, 2);
  });
});

t("no PMD for a misaligned address, file end, vma or block", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * MIB - PAGE);
  add_extent(fs, f, 0, 2 * MIB, IOMAP_MAPPED, 2 * MIB);
  fs.next += PAGE;
  add_extent(fs, f, 2 * MIB, 2 * MIB);
  const g = make_file(fs, 4 * MIB);
  fs.next += PAGE;
  add_extent(fs, g, 0, 4 * MIB);
  const fallback = async (what: string, fn: () => Promise<unknown>) => {
    const got = await events(fs, fn);
    assert.ok(got[1]?.startsWith("pmd_fault_done"), what);
    assert.ok(got[1]?.endsWith("FALLBACK"), `${what}: ${got[1]}`);
    assert.ok(got[3]?.endsWith("NOPAGE"), what);
  };
  await as_user(fs, async (task) => {
    await mmap(task, f, 4 * MIB, MAP_SHARED | MAP_FIXED, ADDR + PAGE);
    await fallback("colour", () => load(task, ADDR + PAGE, 1));
    await mmap(task, f, 4 * MIB, MAP_SHARED | MAP_FIXED, 2 * ADDR);
    await fallback("end of file", () => load(task, 2 * ADDR + 2 * MIB, 1));
    await mmap(task, f, MIB, MAP_SHARED | MAP_FIXED, 3 * ADDR);
    await fallback("vma", () => load(task, 3 * ADDR, 1));
    await mmap(task, g, 4 * MIB, MAP_SHARED | MAP_FIXED, 4 * ADDR);
    await fallback("blocks", () => load(task, 4 * ADDR, 1));
  });
});

t("beyond the end of the file is SIGBUS", async () => {
  const fs = make_testfs();
  const f = make_file(fs, PAGE);
  add_extent(fs, f, 0, PAGE);
  await as_user(fs, async (task) => {
    const m = await mmap_small(task, f, 4 * PAGE, MAP_SHARED);
    assert.is(await signal_of(load(task, m + PAGE, 1)), "SIGBUS BUS_ADRERR");
  });
});

t("a private store copies to DRAM and leaves the file alone", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * PAGE);
  add_extent(fs, f, 0, 2 * PAGE);
  await as_user(fs, async (task) => {
    await write(fs, f, 0, text("original"));
    const m = await mmap_small(task, f, 4 * PAGE, MAP_PRIVATE);
    const got = await events(fs, async () => {
      await store(task, m, text("PRI"));
      await store(task, m + 2 * PAGE, text("hole"));
    });
    assert.equal(got, [
      "pte_fault WRITE 0x0",
      "pte_fault_done WRITE 0x0 DONE_COW",
      "pte_fault WRITE 0x2",
      "pte_fault_done WRITE 0x2 DONE_COW",
    ]);
    assert.equal(await load(task, m, 8), text("PRIginal"));
    assert.equal(await load(task, m + 2 * PAGE, 6), text("hole\0\0"));
    assert.equal(await read(fs, f, 0, 8), text("original"));
  });
  assert.is(FILE(f.f_inode).extents.length, 1);
});

t("an unwritten extent reads as a hole and becomes data when stored to", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 2 * PAGE);
  add_extent(fs, f, 0, 2 * PAGE, IOMAP_UNWRITTEN);
  await as_user(fs, async (task) => {
    const m = await mmap_small(task, f, 2 * PAGE, MAP_SHARED);
    assert.equal(await load(task, m, 2), fill_bytes(0, 2));
    await store(task, m, text("ab"));
    assert.equal(await load(task, m, 3), text("ab\0"));
    assert.equal(await read(fs, f, 0, 3), text("ab\0"));
  });
});

t("bad sectors: SIGBUS for their page, PTEs around them, no PMD", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 2 * MIB);
  const e = add_extent(fs, f, 0, 2 * MIB, IOMAP_MAPPED, 2 * MIB);
  fs.pmem.bb.set((e.addr + MIB) / 512, 1);
  await as_user(fs, async (task) => {
    await fixed(task, f, 2 * MIB);
    const got = await events(fs, async () => {
      await load(task, ADDR, 1);
      assert.is(await signal_of(load(task, ADDR + MIB, 1)), "SIGBUS BUS_ADRERR");
      await load(task, ADDR + MIB + PAGE, 1);
    });
    assert.equal(got, [
      "pmd_fault 0x0",
      "pmd_fault_done 0x0 FALLBACK",
      "pte_fault 0x0",
      "pte_fault_done 0x0 NOPAGE",
      "pte_fault 0x100",
      "pte_fault_done 0x100 SIGBUS",
      "pte_fault 0x101",
      "pte_fault_done 0x101 NOPAGE",
    ]);
  });
});

// ---- truncation, layout, zeroing

t("truncation takes entries and mappings; a later access is SIGBUS", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * PAGE);
  add_extent(fs, f, 0, 4 * PAGE);
  await as_user(fs, async (task) => {
    const m = await mmap_small(task, f, 4 * PAGE, MAP_SHARED);
    for (let i = 0; i < 4; i++) await store(task, m + i * PAGE, text("x"));
    await truncate(fs, f, PAGE);
    assert.is(f.f_mapping.nrpages, 1);
    await load(task, m, 1);
    assert.is(await signal_of(load(task, m + PAGE, 1)), "SIGBUS BUS_ADRERR");
  });
});

t(
  "a page in use elsewhere holds truncation up until it is let go, with the lock dropped",
  async () => {
    const fs = make_testfs();
    const f = make_file(fs, 2 * PAGE);
    const e = add_extent(fs, f, 0, 2 * PAGE);
    const { machine, kernel } = fs;
    const order: string[] = [];
    const page = pfn_to_page(kernel, fs.dev.base_pfn + e.addr / PAGE)!;
    const lock = f.f_mapping.invalidate_lock;
    machine.spawn(kernel, "user", async (task) => {
      task.mm = mm_alloc(kernel);
      await load(task, await mmap_small(task, f, 2 * PAGE, MAP_SHARED), 1);
      get_page(page);
      const p = machine.sched.yield();
      if (p) await p;
      order.push(`lock free while waiting: ${!lock.is_locked()}`);
      assert.is(await dax_layout_busy_page_range(f.f_mapping, 0, PAGE), page);
      assert.is(await dax_layout_busy_page_range(f.f_mapping, PAGE, 2 * PAGE - 1), null);
      put_page(page);
      order.push("unpinned");
    });
    machine.spawn(kernel, "truncate", async () => {
      const p = lock.down_write();
      if (p) await p;
      const unlock = () => lock.up_write();
      await dax_break_layout(f.f_inode, 0, LLONG_MAX, unlock, () => lock.down_write());
      order.push("broken");
      lock.up_write();
    });
    await machine.run();
    assert.equal(order, ["lock free while waiting: true", "unpinned", "broken"]);
  },
);

t("zeroing skips holes and unwritten extents and says whether it wrote", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 8 * PAGE);
  add_extent(fs, f, 0, 2 * PAGE);
  add_extent(fs, f, 4 * PAGE, 2 * PAGE, IOMAP_UNWRITTEN);
  const ops = test_iomap_ops(fs);
  const inode = f.f_inode;
  await as_user(fs, async () => {
    await write(fs, f, 0, fill_bytes(9, 2 * PAGE));
    assert.is(await dax_zero_range(inode, 100, PAGE, ops), true);
    const got = await read(fs, f, 0, 2 * PAGE);
    assert.equal(got.subarray(0, 100), fill_bytes(9, 100));
    assert.equal(got.subarray(100, 100 + PAGE), fill_bytes(0, PAGE));
    assert.equal(got.subarray(100 + PAGE), fill_bytes(9, PAGE - 100));
    assert.is(await dax_zero_range(inode, 2 * PAGE, 4 * PAGE, ops), false);
    assert.is(await dax_truncate_page(inode, PAGE, ops), false);
    assert.is(await dax_truncate_page(inode, 2 * PAGE - 10, ops), true);
    assert.equal(
      await read(fs, f, 2 * PAGE - 12, 12),
      new Uint8Array([9, 9, ...new Array(10).fill(0)]),
    );
  });
});

t("with 16 KiB pages a PMD is 32 MiB and page entries are 16 KiB", async () => {
  const fs = make_testfs({
    kernel: { page_shift: 14 },
    pmem: { size: 128 * MIB, mode: "raw", pages: true },
  });
  const size = 32 * MIB;
  const f = make_file(fs, 2 * size);
  add_extent(fs, f, 0, size, IOMAP_MAPPED, size);
  fs.next += 16384;
  add_extent(fs, f, size, size);
  await as_user(fs, async (task) => {
    await fixed(task, f, 2 * size);
    await store(task, ADDR + 5 * MIB, text("big"));
    assert.is(dax_entry_order(entry_at(f, 2047)!), 11);
    await store(task, ADDR + size + 16384, text("small"));
    assert.is(dax_entry_order(entry_at(f, 2049)!), 0);
    assert.equal(await read(fs, f, 5 * MIB, 3), text("big"));
    await f.f_op.fsync!(f, 0, LLONG_MAX, false);
    assert.not(is_dirty(f, 0));
  });
});

t.run();
