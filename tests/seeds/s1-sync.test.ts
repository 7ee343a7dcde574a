/**
 * tests/seeds/s1-sync.test.ts - seed S1, the half about persistence: metadata made durable inside
 * the fault (MAP_SYNC), and what it does not cover. The half about locks is in s1.test.ts.
 */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  type media_snapshot_t,
  O_CREAT,
  O_RDWR,
  type Process,
} from "../../index.ts";
import { EXT4_SB } from "../../fs/ext4/ext4_fs.ts";
import { held_dax_entries } from "../../fs/dax.ts";
import { fget } from "../../fs/file.ts";
import type { file_operations } from "../../kernel/include/fs.ts";
import { held_uses } from "../../kernel/locking/report.ts";
import { fput } from "../../kernel/vfs/file.ts";
import { lookup_entry, pte_present } from "../../mm/pgtable.ts";
import { assert, suite } from "../lib/suite.ts";
import {
  after_power_cut,
  boot_on,
  bytes,
  dax_lab,
  device_events,
  filled,
  full_file,
  inode_of,
  type lab,
  map,
  MIB,
  outcome,
  PAGE,
  random_lab,
  read_file,
  sparse_file,
  SYNC,
  text,
  trace_of,
} from "./lab.ts";

const t = suite("seeds S1 sync");

const has_blocks = async (p: Process): Promise<boolean> => {
  const fd = await p.open("/mnt/f", O_RDWR);
  return (await p.fiemap(fd)).length > 0;
};

t("S1.1 the block map is on the media before the page can be written", async () => {
  const { m, p } = await dax_lab();
  const fd = await sparse_file(p, "/mnt/f", PAGE);
  const a = await map(p, fd, PAGE, SYNC);
  // a power cut at the moment at which the faulting store reaches the device
  const { phys } = m.kernel;
  const copy_to = phys.copy_to.bind(phys);
  const cuts: media_snapshot_t[] = [];
  phys.copy_to = (paddr, src, off, len) => {
    if (text(src.subarray(off, off + len)) === "record")
      cuts.push(m.media_snapshot({ lose: true }));
    copy_to(paddr, src, off, len);
  };
  await p.store(a, bytes("record"));
  phys.copy_to = copy_to;
  assert.is(cuts.length, 1);
  assert.ok(await boot_on(cuts[0]!, has_blocks), "at the store itself the file has its block");
  // and every point after it
  assert.equal(await after_power_cut(m, has_blocks), [true], "after the store");
  await p.clwb(a, 6);
  assert.equal(await after_power_cut(m, has_blocks), [true], "after the flush");
  await p.sfence();
  assert.equal(await after_power_cut(m, (q) => read_file(q, "/mnt/f", 6)), ["record"]);
});

// ---- truncation and hole punch

/** One task reads its mapping while another punches the hole and a third takes the blocks. */
async function fault_against_punch(seed: number): Promise<string> {
  const { m, p } = await random_lab(seed);
  const fd = await full_file(p, "/mnt/f", filled(65, PAGE));
  const other = await sparse_file(p, "/mnt/g", 64 * PAGE);
  const [q, r] = [await p.fork("puncher"), await p.fork("taker")];
  const a = await map(p, fd, PAGE);
  let seen = "";
  const all = [
    (async () => {
      for (let i = 0; i < 3; i++) seen += text(await p.load(a, 1));
    })(),
    (async () => {
      await q.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
    })(),
    (async () => {
      for (let i = 0; i < 8; i++) await r.pwrite(other, filled(66, PAGE), i * PAGE);
    })(),
  ];
  await Promise.all(all);
  assert.is(text(await p.load(a, 1)), "\0", `seed ${seed}: after the punch it is a hole`);
  assert.is(m.kernel.nr_warnings, 0, m.dmesg());
  return seen.replaceAll("\0", "0");
}

t("S1.2 a fault that races with a punch sees the file before it or the hole", async () => {
  const answers = new Set<string>();
  for (let seed = 1; seed <= 25; seed++) {
    const seen = await fault_against_punch(seed);
    assert.match(seen, /^A*0*$/, `seed ${seed}: ${seen}`);
    answers.add(seen);
  }
  assert.ok(answers.size > 1, `the schedules differ: ${[...answers].join(" ")}`);
});

t("S1.2 punch and truncate take the mapping away before the blocks", async () => {
  const { p } = await dax_lab();
  const fd = await full_file(p, "/mnt/f", filled(65, 4 * PAGE));
  const a = await map(p, fd, 4 * PAGE);
  for (let i = 0; i < 4; i++) await p.load(a + i * PAGE, 1);
  const mapped = () =>
    [0, 1, 2, 3].map((i) => pte_present(lookup_entry(p.task.mm!, a + i * PAGE).entry));
  await p.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, PAGE, PAGE);
  // the whole file is unmapped, as ext4 asks for busy pages anywhere; the others come back
  assert.not(mapped()[1]);
  const back = await Promise.all([0, 2, 3].map((i) => p.load(a + i * PAGE, 1)));
  assert.equal(back.map(text), ["A", "A", "A"]);
  assert.equal(mapped(), [true, false, true, true]);
  await p.ftruncate(fd, 3 * PAGE);
  assert.not(mapped()[3]);
  assert.is(await outcome(p, () => p.load(a + 3 * PAGE, 1)), "SIGBUS");
});

t("S1.3 timestamps are not covered: data and block map are safe, mtime may be old", async () => {
  const { m, p } = await dax_lab();
  const fd = await full_file(p, "/mnt/f", filled(65, PAGE));
  const old = (await p.fstat(fd)).mtime.tv_sec;
  await m.advance_ms(60_000);
  const a = await map(p, fd, PAGE, SYNC);
  await p.store(a, bytes("B"));
  await p.persist(a, 1);
  const now = (await p.fstat(fd)).mtime.tv_sec;
  assert.ok(now >= old + 60, "the running system knows the time of the store");
  const seen = await after_power_cut(m, async (q) => {
    const { mtime } = await q.stat("/mnt/f");
    return `${await read_file(q, "/mnt/f", 2)} ${mtime.tv_sec === old ? "old" : "new"}`;
  });
  assert.ok(seen.includes("BA old"), seen.join(", "));
  assert.ok(seen.every((s) => s.startsWith("BA ")));
});

// ---- either synchronous metadata or preloading

const REGIMES = {
  neither: async ({ p }: lab) => map(p, await sparse_file(p, "/mnt/f", PAGE), PAGE),
  "synchronous metadata": async ({ p }: lab) =>
    map(p, await sparse_file(p, "/mnt/f", PAGE), PAGE, SYNC),
  preloading: async ({ p }: lab) => map(p, await full_file(p, "/mnt/f", filled(0, PAGE)), PAGE),
} as const;

t("S1.4 flushing alone loses data unless metadata is synchronous or preloaded", async () => {
  const lost: string[] = [];
  for (const [name, make] of Object.entries(REGIMES)) {
    const l = await dax_lab();
    const a = await make(l);
    await l.p.store(a, bytes("data"));
    await l.p.persist(a, 4);
    const seen = await after_power_cut(l.m, (q) => read_file(q, "/mnt/f", 4));
    if (seen.some((s) => s !== "data")) lost.push(name);
  }
  assert.equal(lost, ["neither"]);
});

t.skip(
  "S1.5 four places for a nofsync property, and what survives a remount",
  "needs the proposal nofsync-extents: a later issue",
);

t(
  "S1.6 write() into a hole that is mapped takes the zero page away; the next load faults",
  async () => {
    const { m, p } = await dax_lab();
    const fd = await sparse_file(p, "/mnt/f", 2 * PAGE);
    const a = await map(p, fd, 2 * PAGE);
    const q = await p.fork("writer");
    assert.equal(await p.load(a, 4), filled(0, 4));
    assert.is((await p.mapping_info(a))!.page, "zero");
    await q.pwrite(fd, bytes("news"), 0);
    assert.is((await p.mapping_info(a))!.page, "none", "the zero page is unmapped");
    const events = await trace_of(m, async () => {
      assert.is(text(await p.load(a, 4)), "news");
    });
    assert.ok(events.some((e) => e.name === "dax_pte_fault"));
    // where blocks are there already nothing has to be unmapped: it is the same memory
    const quiet = await trace_of(m, async () => {
      await q.pwrite(fd, bytes("more"), 0);
      assert.is(text(await p.load(a, 4)), "more");
    });
    assert.equal(quiet, []);
  },
);

t("S1.10 when a fault's sync begins, no entry, handle or block-map lock is held", async () => {
  const { m, p } = await dax_lab();
  const fd = await sparse_file(p, "/mnt/f", PAGE);
  const a = await map(p, fd, PAGE, SYNC);
  const seen: { entries: string[]; handle: unknown; holds: string[] }[] = [];
  await p.in_kernel(async (kernel, task) => {
    const f = fget(task, fd);
    const own = f.f_op;
    (f as { f_op: file_operations }).f_op = {
      ...own,
      fsync: (...args) => {
        const holds = held_uses(kernel.current).map((h) => `${h.lock} ${h.mode}`);
        const handle = kernel.current.journal_info;
        seen.push({ entries: held_dax_entries(kernel), handle, holds });
        return own.fsync!(...args);
      },
    };
    await fput(f);
  });
  await p.store(a, bytes("x"));
  assert.is(seen.length, 1, "the fault synced once");
  assert.equal(seen[0]!.entries, []);
  assert.is(seen[0]!.handle, null);
  // what it does hold is the argument of S1.7: mmap_lock, and what keeps blocks where they are
  assert.ok(seen[0]!.holds.includes("&mm->mmap_lock read"), seen[0]!.holds.join(", "));
  assert.ok(seen[0]!.holds.includes("mapping.invalidate_lock read"), seen[0]!.holds.join(", "));
  assert.not.match(seen[0]!.holds.join(", "), /i_data_sem|DAX entry/);
  assert.is(m.reports.length, 0);
});

t.skip("S1.10 the same in XFS: no ILOCK, no log grant", "needs XFS: a later issue");

// ---- preallocation

/** Steps that made metadata durable so far. */
async function commits(p: Process, fd: number): Promise<number> {
  return EXT4_SB((await inode_of(p, fd)).i_sb).s_commit_tid;
}

t("S1.16 on a fully allocated file a MAP_SYNC fault commits nothing", async () => {
  const { m, p } = await dax_lab();
  const full = await full_file(p, "/mnt/full", filled(65, 8 * PAGE));
  const holes = await sparse_file(p, "/mnt/holes", 8 * PAGE);
  const count = async (fd: number) => {
    const a = await map(p, fd, 8 * PAGE, SYNC);
    const before = await commits(p, fd);
    for (let i = 0; i < 8; i++) await p.store(a + i * PAGE, bytes("x"));
    return (await commits(p, fd)) - before;
  };
  assert.is(await count(full), 0);
  assert.is(await count(holes), 8, "each allocating fault commits");
  // nothing at all is written to the device by such a fault
  const a = await map(p, full, 8 * PAGE, SYNC);
  await p.sync();
  const events = device_events(m);
  await p.store(a, bytes("y"));
  assert.equal(
    events.map((e) => e.type),
    ["store"],
    "the store, and no metadata",
  );
});

t.skip(
  "S1.17 a filesystem that always copies on write commits once a fault",
  "needs XFS with always_cow: a later issue",
);

t("MAP_SYNC of a preallocated, unwritten range still has to commit", async () => {
  const { p } = await dax_lab();
  const fd = await p.open("/mnt/f", O_RDWR | O_CREAT);
  await p.fallocate(fd, 0, 0, MIB);
  await p.fsync(fd);
  const a = await map(p, fd, PAGE, SYNC);
  const before = await commits(p, fd);
  await p.store(a, bytes("x"));
  assert.is(await commits(p, fd), before + 1, "unwritten becomes written: metadata");
  assert.is((await p.mapping_info(a))!.durable_by, "flush");
});

t.run();
