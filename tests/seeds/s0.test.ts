/**
 * tests/seeds/s0.test.ts - seed S0, "daxfile": what a DAX mapping promises after a power cut and
 * what it costs, and the proposal of files with a static block map. Numbers: SEED-CHECKLIST.
 */
import {
  FALLOC_FL_COLLAPSE_RANGE,
  Machine,
  MAP_SHARED,
  MS_SYNC,
  O_RDWR,
  picture,
} from "../../index.ts";
import { xa_is_value, xa_load } from "../../kernel/lib/xarray.ts";
import { lookup_entry, pte_pfn, pte_present } from "../../mm/pgtable.ts";
import { nr_allocated_pages, nr_volatile_lines } from "../../mm/phys.ts";
import { assert, suite } from "../lib/suite.ts";
import {
  after_power_cut,
  boot_on,
  bytes,
  crash_set,
  dax_lab,
  device_events,
  filled,
  full_file,
  inode_of,
  LINE,
  map,
  media_offset,
  MIB,
  outcome,
  PAGE,
  read_file,
  snapshot_bytes,
  sparse_file,
  text,
  trace_of,
} from "./lab.ts";

const t = suite("seeds S0");

// ---- why it exists

/** A store into a hole, flushed from user space; then `more`; then what the file says. */
async function flushed_store(more: "nothing" | "msync" | "fsync") {
  const { m, p } = await dax_lab();
  const fd = await sparse_file(p, "/mnt/log", 4 * PAGE);
  const a = await map(p, fd, 4 * PAGE);
  await p.store(a, bytes("record"));
  await p.persist(a, 6);
  const off = await media_offset(p, m, a);
  if (more === "msync") await p.msync(a, PAGE, MS_SYNC);
  if (more === "fsync") await p.fsync(fd);
  return { m, off };
}

t(
  "S0.1 flushed, not synced: the data is on the media and the file does not lead to it",
  async () => {
    const { m, off } = await flushed_store("nothing");
    let lost = 0;
    for (const media of crash_set(m)) {
      const on_media = text(await snapshot_bytes(media, off, 6));
      const in_file = await boot_on(media, (p) => read_file(p, "/mnt/log", 6));
      assert.is(on_media, "record");
      if (in_file !== "record") lost++;
    }
    assert.ok(lost > 0, "no state lost the block map");
  },
);

t("S0.1 synced by fsync or msync: every state leads to the data", async () => {
  for (const how of ["msync", "fsync"] as const) {
    const { m } = await flushed_store(how);
    assert.equal(await after_power_cut(m, (p) => read_file(p, "/mnt/log", 6)), ["record"], how);
  }
});

t("S0.2 a load of one byte reads one cache line of the device and copies no page", async () => {
  const { m, p } = await dax_lab();
  const fd = await full_file(p, "/mnt/f", filled(7, PAGE));
  const a = await map(p, fd, PAGE);
  const { phys } = m.kernel;
  const region = m.pmem[0]!.region;
  const lines = new Set<number>();
  const copy_from = phys.copy_from.bind(phys);
  phys.copy_from = (paddr, dst, off, len) => {
    if (paddr >= region.start && paddr < region.start + region.size) {
      for (let x = paddr; x < paddr + len; x++) lines.add(Math.floor(x / LINE));
    }
    copy_from(paddr, dst, off, len);
  };
  await p.load(a, 1); // page tables are made
  lines.clear();
  const frames = nr_allocated_pages(m.kernel);
  assert.equal(await p.load(a + 100, 1), filled(7, 1));
  assert.is(lines.size, 1);
  const line = ((await media_offset(p, m, a)) + region.start + 100) / LINE;
  assert.equal([...lines], [Math.floor(line)]);
  assert.is(nr_allocated_pages(m.kernel), frames, "no page of memory was taken");
  const mapping = (await inode_of(p, fd)).i_mapping;
  assert.ok(xa_is_value(xa_load(mapping.i_pages, 0)), "no page in the page cache");
});

/** Bytes that fsync writes back after one byte was stored at `addr`. */
async function flushed_by_fsync(len: number, size: string) {
  const { m, p } = await dax_lab({ pmem: [{ size, mode: "fsdax", map: "mem" }] });
  const fd = await full_file(p, "/mnt/f", filled(1, len));
  const a = await map(p, fd, len);
  await p.store(a + 5, bytes("x"));
  await p.sync();
  await p.store(a + 5, bytes("y"));
  const info = await p.mapping_info(a);
  const start = info!.paddr! - m.pmem[0]!.region.start;
  const events = device_events(m);
  const traced = await trace_of(m, () => p.fsync(fd));
  const data = events.filter((e) => e.type === "clwb" && e.off >= start && e.off < start + len);
  const written = data.reduce((n, e) => n + (e.type === "clwb" ? e.len : 0), 0);
  const one = traced.filter((e) => e.name === "dax_writeback_one");
  return { by: info!.mapped_by, written, entries: one.length };
}

t("S0.3 one stored byte makes fsync write back a page, or 2 MiB where a PMD maps it", async () => {
  assert.equal(await flushed_by_fsync(PAGE, "32M"), { by: "PTE", written: PAGE, entries: 1 });
  assert.equal(await flushed_by_fsync(2 * MIB, "64M"), {
    by: "PMD",
    written: 2 * MIB,
    entries: 1,
  });
});

t(
  "S0.4 a moved block: all mappings of the old place are gone, the next access faults",
  async () => {
    const { m, p } = await dax_lab();
    const data = new Uint8Array(3 * PAGE);
    for (let i = 0; i < 3; i++) data.fill(65 + i, i * PAGE, (i + 1) * PAGE);
    const fd = await full_file(p, "/mnt/f", data);
    const q = await p.fork();
    const users: [typeof p, number][] = [
      [p, await map(p, fd, 3 * PAGE)],
      [q, await map(q, fd, 3 * PAGE)],
    ];
    for (const [u, a] of users) for (let i = 0; i < 3; i++) await u.load(a + i * PAGE, 1);
    const b_pfn = pte_pfn(lookup_entry(p.task.mm!, users[0]![1] + PAGE).entry);
    // the first block goes, the others move to other places of the file
    await p.fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, PAGE);
    for (const [u, a] of users) {
      for (let i = 0; i < 3; i++) {
        const { entry } = lookup_entry(u.task.mm!, a + i * PAGE);
        assert.not(pte_present(entry), `page ${i} is still mapped`);
      }
      const faults = await trace_of(m, async () => {
        assert.is(text(await u.load(a, 1)), "B");
      });
      assert.ok(faults.some((e) => e.name === "dax_pte_fault"));
      assert.is(pte_pfn(lookup_entry(u.task.mm!, a).entry), b_pfn, "the block itself stayed");
      assert.is(text(await u.load(a + PAGE, 1)), "C");
    }
  },
);

t.skip("S0.5 a guest's flush does not save the host's block map", "needs virtiofs: a later issue");

/** What a power cut leaves of a record that was flushed (or not), on a file or on device-dax. */
async function record_on(what: "file" | "device-dax", flush: boolean): Promise<string[]> {
  const found = new Set<string>();
  if (what === "file") {
    const { m, p } = await dax_lab();
    const a = await map(p, await sparse_file(p, "/mnt/log", 4 * PAGE), 4 * PAGE);
    await p.store(a, bytes("record"));
    if (flush) await p.persist(a, 6);
    for (const media of crash_set(m)) {
      found.add(await boot_on(media, (q) => read_file(q, "/mnt/log", 6)));
    }
  } else {
    const dimm = { size: 64 * MIB, init_labels: "1.2" as const };
    const boot = { nvdimm: { dimms: [dimm] }, track_persistence: true };
    const m = await Machine.boot(boot);
    await m.tool("ndctl", ["create-namespace", "-r", "region0", "-m", "devdax", "-M", "mem"]);
    const p = m.process();
    const a = await map(p, await p.open("/dev/dax0.0", O_RDWR), 2 * MIB);
    await p.store(a, bytes("record"));
    if (flush) await p.persist(a, 6);
    for (const kept of [true, false]) {
      const media = m.media_snapshot({ lose: true, keep: () => kept });
      const after = await Machine.boot({ ...boot, media });
      const q = after.process();
      const b = await map(q, await q.open("/dev/dax0.0", O_RDWR), 2 * MIB);
      found.add(text(await q.load(b, 6)));
    }
  }
  return [...found].sort();
}

t("S0.6 the same program on device-dax needs no sync: what was flushed is found", async () => {
  const lost = "\0".repeat(6);
  assert.equal(await record_on("file", true), [lost], "the file does not lead to it");
  assert.equal(await record_on("device-dax", false), [lost, "record"]);
  assert.equal(await record_on("device-dax", true), ["record"]);
});

t("S0.6 device-dax has no file management: mapping is all there is", async () => {
  const dimm = { size: 64 * MIB, init_labels: "1.2" as const };
  const m = await Machine.boot({ nvdimm: { dimms: [dimm] } });
  await m.tool("ndctl", ["create-namespace", "-r", "region0", "-m", "devdax", "-M", "mem"]);
  const p = m.process();
  const fd = await p.open("/dev/dax0.0", O_RDWR);
  const refused: [string, () => unknown][] = [
    ["EINVAL", () => p.pwrite(fd, bytes("x"), 0)],
    ["EINVAL", () => p.pread(fd, new Uint8Array(1), 0)],
    ["EINVAL", () => p.ftruncate(fd, PAGE)],
    ["EINVAL", () => p.fsync(fd)],
    ["ENODEV", () => p.fallocate(fd, 0, 0, PAGE)],
  ];
  for (const [code, call] of refused) assert.is(await outcome(p, call), code);
});

// ---- the interface, proposal "daxfile"

const DAXFILE = "needs the proposal daxfile: a later issue";
t.skip("S0.7 daxctl() refuses flags it does not know", DAXFILE);
t.skip("S0.8 daxctl(GET) says STATIC or 0 and changes nothing", DAXFILE);
t.skip("S0.9 setting needs CAP_LINUX_IMMUTABLE, after the file could be opened", DAXFILE);
t.skip("S0.10 enabling refuses other files and bad alignments", DAXFILE);
t.skip("S0.11 enabling a swap file or a static file is EBUSY", DAXFILE);
t.skip("S0.12 enabling refuses holes and extents that are not aligned", DAXFILE);
t.skip("S0.13 a static file is no swap space", DAXFILE);
t.skip("S0.14 no operation changes the block map of a static file", DAXFILE);
t.skip("S0.15 the static state ends with the kernel's reference", DAXFILE);
t.skip("S0.16 enable and disable are serialised", DAXFILE);
t.skip("S0.17 on a static file flushed and fenced data is never lost", DAXFILE);
t.skip("S0.18 the same from inside a guest", DAXFILE);
t.skip("S0.19 one relies on flushes, one on fsync: dirty tracking is per inode", DAXFILE);

// ---- the API that these tests stand on

t("a flushed store is durable, an unflushed one is each line for itself", async () => {
  const { m, p } = await dax_lab();
  const fd = await full_file(p, "/mnt/f", filled(45, 4 * LINE));
  const a = await map(p, fd, PAGE);
  await p.store(a, bytes("AAAA"));
  await p.persist(a, 4);
  await p.store(a + LINE, bytes("B"));
  await p.clwb(a + LINE, 1); // on its way, no fence yet
  await p.store(a + 2 * LINE, bytes("C"));
  const seen = await after_power_cut(m, async (q) => {
    const all = await read_file(q, "/mnt/f", 3 * LINE);
    return all[0]! + all[LINE]! + all[2 * LINE]!;
  });
  assert.equal(seen, ["A--", "A-C", "AB-", "ABC"]);
  await p.sfence();
  assert.is(nr_volatile_lines(m.pmem[0]!.region), 1, "the fence took what was on its way only");
});

t("clwb faults as a load does: no block for a hole, a signal where nothing is mapped", async () => {
  const { m, p } = await dax_lab();
  const fd = await sparse_file(p, "/mnt/f", PAGE);
  const a = await map(p, fd, PAGE, MAP_SHARED);
  await p.clwb(a, PAGE);
  assert.is((await p.mapping_info(a))!.page, "zero");
  assert.equal(await p.fiemap(fd), []);
  await p.ftruncate(fd, 0);
  const r = await Promise.resolve()
    .then(() => p.clwb(a, 1))
    .then(
      () => null,
      (e) => p.signal_of(e),
    );
  assert.is(r?.signo, "SIGBUS", picture(p, a));
  assert.is(m.kernel.nr_warnings, 0);
});

t.run();
