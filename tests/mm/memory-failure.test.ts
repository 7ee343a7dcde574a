/**
 * tests/mm/memory-failure.test.ts - bad pages: what the recorded cases cannot show (media errors,
 * holders, removal, schedules). Signals and messages as such: tests/conformance/cases/poison.
 */
import { MADV_HWPOISON, Machine, type Process } from "../../index.ts";
import type { dax_device } from "../../kernel/include/dax.ts";
import { EIO, EOPNOTSUPP, is_errno } from "../../kernel/include/errno.ts";
import { MF_ACTION_REQUIRED, MF_MEM_PRE_REMOVE } from "../../kernel/include/mf.ts";
import { PG_hwpoison } from "../../kernel/include/mm_types.ts";
import { held_uses } from "../../kernel/locking/report.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import { detach_pmem } from "../../drivers/nvdimm/pmem.ts";
import { fs_dax_get_by_bdev, fs_put_dax, kill_dax } from "../../drivers/dax/super.ts";
import { memory_failure, mf_dax_kill_procs } from "../../mm/memory-failure.ts";
import { mf_state_of } from "../../mm/memory-failure/state.ts";
import { pfn_to_page } from "../../mm/page.ts";
import { type failure_walk, watch_failures } from "../../tools/api/failure_log.ts";
import { assert, suite } from "../lib/suite.ts";
import {
  dax_lab,
  filled,
  full_file,
  inode_of,
  map,
  outcome,
  PAGE,
  random_lab,
} from "../seeds/lab.ts";

const t = suite("mm/memory-failure");

const SIGBUS = 7;

interface file_lab {
  m: Machine;
  p: Process;
  fd: number;
  /** Address of the file's four pages in `p`, all touched. */
  a: number;
  /** Byte of the disk where the file begins, and its frame. */
  disk_at: number;
  pfn: number;
}

async function touched(p: Process, fd: number, pages = 4): Promise<number> {
  const a = await map(p, fd, pages * PAGE);
  for (let i = 0; i < pages; i++) await p.load(a + i * PAGE, 1);
  return a;
}

async function file_lab(o: Parameters<typeof dax_lab>[0] = {}): Promise<file_lab> {
  const { m, p } = await dax_lab(o);
  p.task.signal!.handled.add(SIGBUS);
  const fd = await full_file(p, "/mnt/f", filled(65, 4 * PAGE));
  const a = await touched(p, fd);
  const { paddr } = (await p.mapping_info(a))!;
  const { region, data_offset } = m.pmem[0]!;
  const disk_at = paddr! - region.start - data_offset;
  return { m, p, fd, a, disk_at, pfn: paddr! / PAGE };
}

/** Another process that has the file mapped and its pages touched. */
async function user(m: Machine, when: string): Promise<{ p: Process; fd: number; a: number }> {
  const p = m.process(when);
  p.task.signal!.handled.add(SIGBUS);
  await p.mce_kill(when);
  const fd = await p.open("/mnt/f", 2);
  return { p, fd, a: await touched(p, fd) };
}

/** Runs memory_failure() as a worker does, for nobody; the errno, or "ok". */
async function fail(m: Machine, pfn: number, flags = 0): Promise<string> {
  try {
    await m.in_task(m.kernel, "kworker", () => memory_failure(m.kernel, pfn, flags));
    return "ok";
  } catch (e) {
    if (!is_errno(e)) throw e;
    return e.code;
  }
}

const signals = (p: Process): string[] =>
  p.take_signals().map((s) => `${s.code} lsb=${s.lsb} at=${s.addr.toString(16)}`);

t("a failure that a worker finds is told to those with early notice only", async () => {
  const { m, p, pfn } = await file_lab();
  const early = await user(m, "early");
  const late = await user(m, "late");
  assert.is(await fail(m, pfn + 1), "ok");
  assert.equal(signals(early.p), [`BUS_MCEERR_AO lsb=12 at=${(early.a + PAGE).toString(16)}`]);
  assert.equal(signals(late.p), []);
  assert.equal(signals(p), [], "the default is late");
});

t("the sysctl tells all that did not choose", async () => {
  const { m, p, a, pfn } = await file_lab();
  mf_state_of(m.kernel).early_kill = true;
  const late = await user(m, "late");
  assert.is(await fail(m, pfn), "ok");
  assert.equal(signals(p), [`BUS_MCEERR_AO lsb=12 at=${a.toString(16)}`]);
  assert.equal(signals(late.p), []);
});

t("a process without a handler dies of the early notice", async () => {
  const { m, p, pfn } = await file_lab();
  const early = await user(m, "early");
  early.p.task.signal!.handled.delete(SIGBUS);
  assert.is(await fail(m, pfn), "ok");
  assert.is(early.p.killed_by(), "SIGBUS");
  assert.is(p.killed_by(), null);
});

t("the page is unmapped everywhere, and marked; its neighbours stay", async () => {
  const { m, p, a, pfn } = await file_lab();
  const late = await user(m, "late");
  const early = await user(m, "early");
  await fail(m, pfn + 2);
  for (const u of [{ p, a }, late, early]) {
    assert.equal(await u.p.pagemap(u.a, 4), ["pres", "pres", "none", "pres"]);
  }
  assert.ok(pfn_to_page(m.kernel, pfn + 2)!.flags & PG_hwpoison);
  assert.is(mf_state_of(m.kernel).nr_poisoned, 1);
  assert.not(mf_state_of(m.kernel).mf_mutex.is_locked());
});

t(
  "when nobody is to be told, the page stays mapped (as in Linux: what is unmapped is who is)",
  async () => {
    const { m, p, a, pfn } = await file_lab();
    assert.is(await fail(m, pfn), "ok");
    assert.equal(await p.pagemap(a, 1), ["pres"]);
    assert.match(m.dmesg(), /recovery action for dax page: Recovered/);
  },
);

t("a frame nobody has: a page of no file is EBUSY, no memory at all ENXIO", async () => {
  const { m } = await file_lab();
  assert.is(await fail(m, m.pmem[0]!.dax_dev.base_pfn), "EBUSY");
  assert.is(await fail(m, 2 ** 40), "ENXIO");
  assert.match(m.dmesg(), /recovery action for dax page: Failed/);
  assert.match(m.dmesg(), /memory outside kernel control/);
});

// ---- media errors

t("a load of a bad line: SIGBUS for the page, the block is noted, then plain SIGBUS", async () => {
  const { m, p, fd, a, disk_at } = await file_lab();
  const at = 3 * 64;
  m.add_media_error("pmem0", disk_at + PAGE + at, 1);
  assert.equal(await p.load(a + PAGE, at), filled(65, at), "the lines before it are good");
  assert.is(m.badblocks("pmem0"), 0, "nobody knows");
  try {
    await p.load(a + PAGE, 1024);
    assert.unreachable();
  } catch (e) {
    const s = p.signal_of(e)!;
    assert.equal([s.code, s.lsb, s.addr, s.completed], ["BUS_MCEERR_AR", 12, a + PAGE, at]);
  }
  assert.is(m.badblocks("pmem0"), 1);
  try {
    await p.load(a + PAGE, 1);
    assert.unreachable();
  } catch (e) {
    assert.is(p.signal_of(e)!.code, "BUS_ADRERR", "the fault meets the list of bad blocks");
  }
  assert.is(await outcome(p, () => p.pread(fd, new Uint8Array(PAGE), PAGE)), "EIO");
  assert.equal(await p.load(a, 4), filled(65, 4));
});

t("read() over a line nobody knew to be bad: short, then EFAULT, then EIO", async () => {
  const { m, p, fd, disk_at } = await file_lab();
  m.add_media_error("pmem0", disk_at + PAGE + 512, 64);
  const buf = new Uint8Array(4 * PAGE);
  assert.is(await p.pread(fd, buf, 0), PAGE + 512);
  assert.is(m.badblocks("pmem0"), 1);
  assert.is(await outcome(p, () => p.pread(fd, buf, PAGE + 512)), "EIO");
  assert.equal(signals(p), [], "a copy that is broken off signals nobody");
});

t("a program's buffer with a bad line: write() ends short and the signal comes after", async () => {
  const { m, p, a, disk_at } = await file_lab();
  const out = await p.open("/tmp/x", 0o102, 0o644);
  m.add_media_error("pmem0", disk_at, 1);
  assert.is(await outcome(p, () => p.pwrite(out, { addr: a, len: 100 }, 0)), "SIGBUS");
  assert.is(m.badblocks("pmem0"), 1);
});

t(
  "what a kernel's copy meets is handled once, when its call is over and holds nothing",
  async () => {
    const { m, p, a, disk_at } = await file_lab();
    const { fd } = await user(m, "late");
    m.add_media_error("pmem0", disk_at + PAGE, 64);
    const held: string[] = [];
    m.trace((e) => {
      if (e.name === "mf_begin")
        held.push(
          held_uses(m.kernel.current)
            .map((h) => h.lock)
            .join(),
        );
    });
    const out = await p.open("/mnt/out", 0o102, 0o644);
    assert.is(await outcome(p, () => p.pwritev(out, [{ addr: a, len: 3 * PAGE }], 0)), "SIGBUS");
    assert.equal(held, ["mf_mutex"], "no lock of the write, nor of the file it reads");
    assert.is((await p.fstat(out)).size, PAGE, "what came before the line was written");
    await p.close(fd);
  },
);

t("stores do not notice a bad line, and do not repair it", async () => {
  const { m, p, a, disk_at } = await file_lab();
  m.add_media_error("pmem0", disk_at, 1);
  await p.store(a, filled(66, 64));
  assert.is(await outcome(p, () => p.load(a, 1)), "SIGBUS");
});

t("a whole page written repairs the lines where the device can", async () => {
  for (const clear_poison of [true, false]) {
    const { m, p, fd, a, disk_at, pfn } = await file_lab({
      pmem: [{ size: "32M", mode: "fsdax", map: "mem", clear_poison }],
    });
    m.add_media_error("pmem0", disk_at, 1);
    assert.is(await outcome(p, () => p.load(a, 1)), "SIGBUS");
    const got = await outcome(p, () => p.pwrite(fd, filled(67, PAGE), 0));
    assert.is(got, clear_poison ? "ok" : "EFAULT");
    assert.is(m.badblocks("pmem0"), clear_poison ? 0 : 1);
    const page = pfn_to_page(m.kernel, pfn)!;
    assert.is((page.flags & PG_hwpoison) !== 0, !clear_poison);
    assert.is(mf_state_of(m.kernel).media === null, clear_poison);
    if (clear_poison) assert.equal(await p.load(a, 2), filled(67, 2));
  }
});

t("a bio that meets a bad line fails, and the sector is noted", async () => {
  const m = await Machine.boot({ pmem: [{ size: "32M", mode: "fsdax", map: "mem" }] });
  const p = m.process();
  m.add_media_error("pmem0", 8192, 1);
  const fd = await p.open("/dev/pmem0", 0);
  assert.is(await outcome(p, () => p.pread(fd, new Uint8Array(PAGE), 8192)), "EIO");
  assert.is(m.badblocks("pmem0"), 1);
  assert.is(await p.pread(fd, new Uint8Array(PAGE), 0), PAGE);
});

// ---- the holder

/** A filesystem that claims the device and knows one file. */
function claim(m: Machine, answer: (d: dax_device, off: number, flags: number) => Promise<void>) {
  const holder = { name: "testfs" };
  const { disk } = m.pmem[0]!;
  const got = fs_dax_get_by_bdev(disk.part0, holder, {
    notify_failure: (d, off, _len, flags) => answer(d, off, flags),
  });
  assert.ok(got, "claimed");
  return holder;
}

t("a holder that knows the owner is asked first, and tells every file's users", async () => {
  const { m, p, fd, a, disk_at, pfn } = await file_lab();
  const { i_mapping } = await inode_of(p, fd);
  const early = await user(m, "early");
  const asked: number[] = [];
  claim(m, async (_d, off, flags) => {
    asked.push(off);
    await mf_dax_kill_procs(i_mapping, (off - disk_at) / PAGE, 1, flags);
  });
  const log = watch_failures(m.kernel);
  assert.is(await outcome(p, () => p.poison_pfn(a + PAGE)), "SIGBUS");
  assert.equal(asked, [disk_at + PAGE]);
  assert.equal(signals(early.p), [`BUS_MCEERR_AO lsb=12 at=${(early.a + PAGE).toString(16)}`]);
  const [w] = log.walks as [failure_walk];
  assert.equal(
    w.hops.map((h) => `${h.hop}: ${h.answer}`),
    ["driver: ok", "holder: ok"],
  );
  assert.is(w.result, "dax page: Recovered");
  assert.ok(pfn_to_page(m.kernel, pfn + 1)!.flags & PG_hwpoison);
});

t("a holder's own error is the result; 'not supported' goes on to the generic way", async () => {
  for (const [error, result, hops] of [
    [EIO, "Failed", ["driver: EIO", "holder: EIO"]],
    [EOPNOTSUPP, "Recovered", ["driver: EOPNOTSUPP", "holder: EOPNOTSUPP", "generic: ok"]],
  ] as const) {
    const { m, pfn } = await file_lab();
    claim(m, async () => {
      throw error;
    });
    const log = watch_failures(m.kernel);
    assert.is(await fail(m, pfn), result === "Failed" ? "EIO" : "ok");
    const [w] = log.walks as [failure_walk];
    assert.equal(
      w.hops.map((h) => `${h.hop}: ${h.answer}`),
      [...hops],
    );
    assert.is(w.result, `dax page: ${result}`);
  }
});

t("removal: up to 6.7 it looks like a failure of all, from 6.8 on it is announced", async () => {
  for (const [release, flags] of [
    ["6.1", 0],
    ["6.6", 0],
    ["6.8", MF_MEM_PRE_REMOVE],
    ["6.17", MF_MEM_PRE_REMOVE],
  ] as const) {
    const m = await Machine.boot({ release });
    const seen: unknown[] = [];
    claim(m, async (d, off, f) => void seen.push([off, f, d.alive]));
    await m.in_task(m.kernel, "unbind", () => kill_dax(m.pmem[0]!.dax_dev));
    assert.equal(seen, [[0, flags, true]], release);
  }
});

t("before a removal everybody is told, whatever they asked for, and no page is bad", async () => {
  const { m, p, fd, a, disk_at, pfn } = await file_lab({ release: "6.8" });
  const late = await user(m, "late");
  const { i_mapping } = await inode_of(p, fd);
  claim(m, (_d, _off, flags) => mf_dax_kill_procs(i_mapping, 0, 4, flags));
  await m.in_task(m.kernel, "unbind", () => kill_dax(m.pmem[0]!.dax_dev));
  assert.is(signals(p).length, 4, "one a page");
  assert.is(signals(late.p).length, 4);
  assert.equal(await p.pagemap(a, 4), ["none", "none", "none", "none"]);
  assert.not(pfn_to_page(m.kernel, pfn)!.flags & PG_hwpoison);
  assert.ok(disk_at > 0);
});

// ---- schedules

/** Poison against a fault, a truncation, an unmapping and (maybe) the end of the device. */
async function collide(seed: number): Promise<Machine> {
  const { m, p } = await random_lab(seed, { lockdep: true });
  p.task.signal!.handled.add(SIGBUS);
  const fd = await full_file(p, "/mnt/f", filled(65, 4 * PAGE));
  const a = await touched(p, fd);
  const pfn = (await p.mapping_info(a))!.paddr! / PAGE;
  const others = ["early", "late"].map((n) => m.process(n));
  const maps: number[] = [];
  for (const o of others) {
    o.task.signal!.handled.add(SIGBUS);
    await o.mce_kill(o.task.comm);
    const f = await o.open("/mnt/f", 2);
    maps.push(await touched(o, f));
  }
  const calm = async (q: Process, fn: () => unknown): Promise<void> => {
    await outcome(q, fn);
  };
  m.spawn(m.kernel, "mce", async () => {
    for (let i = 0; i < 4; i++) {
      try {
        await memory_failure(m.kernel, pfn + i, 0);
      } catch (e) {
        if (!is_errno(e)) throw e;
      }
    }
  });
  p.spawn("truncate", async (q) => {
    await calm(q, () => q.ftruncate(fd, PAGE));
    await calm(q, () => q.ftruncate(fd, 4 * PAGE));
  });
  p.spawn("fault", async (q) => {
    for (let i = 0; i < 4; i++) await calm(q, () => q.store(a + i * PAGE, filled(i, 1)));
  });
  p.spawn("inject", (q) => calm(q, () => q.madvise(a, 2 * PAGE, MADV_HWPOISON)));
  others[0]!.spawn("unmap", (q) => calm(q, () => q.munmap(maps[0]!, 4 * PAGE)));
  others[1]!.spawn("exit", (q) => calm(q, () => q.mprotect(maps[1]!, PAGE, 1)));
  await m.run();
  return m;
}

t("poison against fault, truncate, unmap and poison: no warning, no lock kept", async () => {
  for (let seed = 1; seed <= 25; seed++) {
    const m = await collide(seed);
    assert.is(m.kernel.nr_warnings, 0, `seed ${seed}: ${m.dmesg()}`);
    assert.not(mf_state_of(m.kernel).mf_mutex.is_locked());
    assert.not(mf_state_of(m.kernel).tasklist_lock.is_locked());
  }
});

t("poison against the removal of the device: told, refused or dead, and never stuck", async () => {
  const answers = new Set<string>();
  for (let seed = 1; seed <= 40; seed++) {
    const m = await Machine.boot({
      pmem: [{ size: "32M", mode: "fsdax", map: "mem" }],
      seed,
      strategy: new random_strategy(new Random(seed), seed),
    });
    const { dax_dev, disk } = m.pmem[0]!;
    const point = async () => {
      const s = m.sched.sched_point();
      if (s) await s;
    };
    const holder = claim(m, point);
    m.spawn(m.kernel, "mce", async () => {
      await point();
      try {
        await memory_failure(m.kernel, dax_dev.base_pfn, MF_ACTION_REQUIRED);
        answers.add("ok");
      } catch (e) {
        if (!is_errno(e)) throw e;
        answers.add(e.code);
      }
    });
    m.spawn(m.kernel, "unbind", async () => {
      await point();
      await detach_pmem(m.pmem[0]!);
    });
    m.spawn(m.kernel, "release", async () => {
      await point();
      fs_put_dax(dax_dev, holder);
    });
    await m.run();
    assert.is(dax_dev.holder_data, null);
    assert.is(disk.dax_dev, null);
    assert.is(m.kernel.nr_warnings, 0, m.dmesg());
  }
  // held: ok; released: EOPNOTSUPP, then a page of no file; dead or gone: ENXIO
  assert.ok(
    [...answers].every((x) => ["ok", "EBUSY", "ENXIO"].includes(x)),
    [...answers].join(),
  );
  assert.ok(answers.size >= 2, [...answers].join());
});

t.run();
