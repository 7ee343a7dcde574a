/**
 * tests/seeds/s2.test.ts - seed S2, "PMEM_IMMUTABLE": what a program can and cannot know about its
 * mapping, and the proposal of an inode flag that makes user-space flushing enough.
 */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  MADV_HUGEPAGE,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_SYNC,
} from "../../index.ts";
import { assert, suite } from "../lib/suite.ts";
import {
  after_power_cut,
  bytes,
  dax_lab,
  filled,
  full_file,
  map,
  MIB,
  outcome,
  PAGE,
  read_file,
  RW,
  SYNC,
} from "./lab.ts";

const t = suite("seeds S2");

// ---- what can be asked

t("S2.1 no flag of smaps tells DAX from memory, or a private copy; the query does", async () => {
  const { p } = await dax_lab();
  const fd = await full_file(p, "/mnt/f", filled(65, 2 * PAGE));
  const [shared, copy] = [await map(p, fd, 2 * PAGE), await map(p, fd, 2 * PAGE, MAP_PRIVATE)];
  const memory = await p.mmap(0, 2 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS);
  await p.madvise(memory, 2 * PAGE, MADV_HUGEPAGE);
  const flags = async (a: number) => (await p.smaps(a))!.vm_flags.join(" ");
  // VM_MIXEDMAP ("mm") is gone since 4.19; VM_HUGEPAGE stands for anything that asked for it
  assert.not.match(await flags(shared), /mm/);
  assert.is(await flags(shared), await flags(memory));
  for (const a of [shared, copy, memory]) await p.store(a, bytes("x"));
  const page = async (a: number) => (await p.mapping_info(a))!.page;
  assert.is(await page(shared), "storage");
  assert.is(await page(memory), "memory");
  assert.is(await page(copy), "memory", "the copy is no persistent memory");
  await p.load(copy + PAGE, 1);
  assert.is(await page(copy + PAGE), "storage", "the page beside it is");
});

t("S2.1 by what is an address mapped: nothing, PTE, PMD, zero page", async () => {
  const { p } = await dax_lab({ pmem: [{ size: "64M", mode: "fsdax", map: "mem" }] });
  const fd = await full_file(p, "/mnt/f", filled(65, 2 * MIB + PAGE));
  await p.ftruncate(fd, 6 * MIB);
  const a = await map(p, fd, 6 * MIB);
  const look = async (at: number) => {
    const i = (await p.mapping_info(a + at))!;
    return `${i.dax ? "DAX" : "-"} ${i.page} ${i.mapped_by}`;
  };
  assert.is(await look(0), "DAX none null");
  for (const at of [0, 2 * MIB, 4 * MIB]) await p.load(a + at, 1);
  assert.is(await look(0), "DAX storage PMD");
  assert.is(await look(2 * MIB), "DAX storage PTE");
  assert.is(await look(4 * MIB), "DAX zero PMD");
  const anon = await p.mmap(0, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS);
  await p.store(anon, bytes("x"));
  assert.is((await p.mapping_info(anon))!.dax, false);
  assert.is((await p.mapping_info(anon))!.page, "memory");
  assert.is(await p.mapping_info(4096), null);
});

t("S2.2 may I rely on user-space flushing: only where MAP_SYNC succeeded", async () => {
  const { p } = await dax_lab();
  const fd = await full_file(p, "/mnt/f", filled(65, PAGE));
  const ask = async (flags: number) =>
    (await p.mapping_info(await map(p, fd, PAGE, flags)))!.durable_by;
  assert.is(await ask(SYNC), "flush");
  assert.is(await ask(MAP_SHARED), "fsync");
  // recorded (map-sync/accept-ext4-dax): the request counts without MAP_SHARED_VALIDATE too
  assert.is(await ask(MAP_SHARED | MAP_SYNC), "flush");
  assert.is(await ask(MAP_PRIVATE), null);
});

t("S2.2 by kernel: 4.8 has no such promise, 4.15 has; eADR needs only the fence", async () => {
  const ask = async (release: "4.8" | "4.15", domain: "adr" | "eadr") => {
    const { p } = await dax_lab({
      release,
      pmem: [{ size: "32M", mode: "fsdax", map: "mem", domain }],
    });
    const fd = await full_file(p, "/mnt/f", filled(65, PAGE));
    const plain = (await p.mapping_info(await map(p, fd, PAGE)))!.durable_by;
    let sync: string | null = "";
    const r = await outcome(p, async () => {
      sync = (await p.mapping_info(await map(p, fd, PAGE, SYNC)))!.durable_by;
    });
    return [plain, r === "ok" ? sync : r];
  };
  assert.equal(await ask("4.8", "adr"), ["fsync", "EINVAL"]);
  assert.equal(await ask("4.15", "adr"), ["fsync", "flush"]);
  assert.equal(await ask("4.15", "eadr"), ["fsync", "fence"]);
});

t(
  "S2.2 a request that cannot be kept is EOPNOTSUPP: no DAX, or a device flushed by a host",
  async () => {
    const pmem = (domain: "adr" | "none") => [
      { size: "32M", mode: "fsdax" as const, map: "mem" as const, domain },
    ];
    const ask = async (domain: "adr" | "none", mount: string) => {
      const { p } = await dax_lab({ pmem: pmem(domain), mount });
      const fd = await full_file(p, "/mnt/f", filled(65, PAGE));
      return outcome(p, () => p.mmap(0, PAGE, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0));
    };
    assert.is(await ask("adr", "dax=always"), "ok");
    assert.is(await ask("adr", "dax=never"), "EOPNOTSUPP");
    assert.is(await ask("none", "dax=always"), "EOPNOTSUPP");
  },
);

t("S2.3 the answer is the inode's and changes behind the owner's back", async () => {
  const run = async (punch: boolean, flags: number) => {
    const { m, p } = await dax_lab();
    const fd = await full_file(p, "/mnt/f", filled(45, PAGE));
    const a = await map(p, fd, PAGE, flags);
    await p.store(a, bytes("one"));
    await p.persist(a, 3); // enough: the block is there
    const other = await p.fork("other");
    if (punch) await other.fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
    await p.fsync(fd); // a clean state to begin with
    await p.store(a, bytes("two")); // no signal, no error: the owner sees nothing
    await p.persist(a, 3);
    assert.is(p.take_signals().length, 0);
    return after_power_cut(m, (q) => read_file(q, "/mnt/f", 3));
  };
  assert.equal(await run(false, MAP_SHARED), ["two"], "left alone, flushing is enough");
  const seen = await run(true, MAP_SHARED);
  assert.ok(seen.includes("\0\0\0"), "the store went to a block that the file does not know");
  assert.equal(await run(true, SYNC), ["two"], "a MAP_SYNC mapping keeps the promise");
});

// ---- the six rules, and what was said against them

const IMMUTABLE = "needs the proposal pmem-immutable: a later issue";
t.skip("S2.4 rule 1: the flag needs a file fully allocated, written and unshared", IMMUTABLE);
t.skip("S2.5 rule 2: the filesystem checks it, under the lock, for the privileged", IMMUTABLE);
t.skip("S2.6 rule 3: metadata frozen, data by mmap only", IMMUTABLE);
t.skip("S2.7 rule 4: every other way to change data is EPERM", IMMUTABLE);
t.skip("S2.8 rule 5: every change of metadata is EPERM, implicit times are dropped", IMMUTABLE);
t.skip("S2.9 rule 6: clearing needs the capability and no mapping anywhere", IMMUTABLE);
t.skip("S2.10 only for inodes in DAX mode on DAX devices", IMMUTABLE);
t.skip("S2.11 tied to the DAX flag: set with or after it, cleared with it", IMMUTABLE);
t.skip("S2.12 hard links, owner, permissions, security context are frozen too", IMMUTABLE);
t.skip("S2.13 a neighbour in the same metadata block may change", IMMUTABLE);
t.skip("S2.14 background operations leave the block map alone", IMMUTABLE);
t.skip("S2.15 metadata only, holes allowed: errors and signals at random", IMMUTABLE);
t.skip("S2.16 mmap-only follows from both flags together", IMMUTABLE);
t.skip("S2.17 flushing is enough, over remount and reboot", IMMUTABLE);

t.run();
