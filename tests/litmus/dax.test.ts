/**
 * tests/litmus/dax.test.ts - races on a DAX file of ext4, through the API and the real code, over
 * all schedules: what each task may see, and what the file holds in the end.
 */
import * as dax from "../../index.ts";
import { scenario } from "../../tools/api/scenario.ts";
import { TLB } from "../../mm/pgtable.ts";
import { explore } from "../../tools/explore/explore.ts";
import { allow_exactly, turn } from "../lib/explore.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("litmus/dax");
const RW = dax.PROT_READ | dax.PROT_WRITE;
const PAGE = 4096;
const HUGE = 2 * 1024 * 1024;
const ADDR = 0x7f00_0000_0000;

interface mapped {
  p: dax.Process;
  fd: number;
}

/** A DAX file of `size` bytes, mapped at ADDR by one process a name. */
async function mapped_file(m: dax.Machine, size: number, names: string[]): Promise<mapped[]> {
  const out: mapped[] = [];
  for (const name of names) {
    const p = m.process(name);
    if (out.length === 0) {
      await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
      await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
    }
    const fd = await p.open("/mnt/file", dax.O_RDWR | dax.O_CREAT, 0o644);
    await p.ftruncate(fd, size);
    await p.mmap(ADDR, size, RW, dax.MAP_SHARED | dax.MAP_FIXED, fd, 0);
    out.push({ p, fd });
  }
  return out;
}

/** What a load or store ended with: the byte, "stored", or the signal. */
async function access(p: dax.Process, addr: number, store?: number): Promise<string> {
  try {
    if (store === undefined) return String((await p.load(addr, 1))[0]);
    await p.store(addr, new Uint8Array([store]));
    return "stored";
  } catch (e) {
    const signal = p.signal_of(e);
    if (signal === null) throw e;
    return signal.signo;
  }
}

async function size_of({ p, fd }: mapped): Promise<number> {
  return (await p.fstat(fd)).size;
}

const small = { pmem: [{ size: "8M", mode: "fsdax" as const }] };
const large = { pmem: [{ size: "16M", mode: "fsdax" as const }] };

const fault_truncate = (store: number | undefined) =>
  scenario(small, async (m) => {
    const [a, b] = await mapped_file(m, 2 * PAGE, ["app", "truncate"]);
    let seen = "";
    a!.p.spawn("app", async (p) => {
      seen = await access(p, ADDR + PAGE, store);
    });
    b!.p.spawn("truncate", (p) => p.ftruncate(b!.fd, PAGE));
    await m.run();
    // whatever was mapped is gone
    const after = await access(a!.p, ADDR + PAGE);
    return `${seen}, then ${after}, ${await size_of(a!)} bytes`;
  });

t("a read fault against truncation: zero or SIGBUS, and SIGBUS ever after", async () => {
  await allow_exactly(fault_truncate(undefined), [
    "0, then SIGBUS, 4096 bytes",
    "SIGBUS, then SIGBUS, 4096 bytes",
  ]);
});
t("a write fault against truncation: stored or SIGBUS, and SIGBUS ever after", async () => {
  await allow_exactly(fault_truncate(7), [
    "SIGBUS, then SIGBUS, 4096 bytes",
    "stored, then SIGBUS, 4096 bytes",
  ]);
});

const fault_punch = scenario(small, async (m) => {
  const [a, b] = await mapped_file(m, PAGE, ["app", "punch"]);
  await a!.p.store(ADDR, new Uint8Array([1, 1]));
  a!.p.spawn("app", (p) => p.store(ADDR, new Uint8Array([2])));
  const mode = dax.FALLOC_FL_PUNCH_HOLE | dax.FALLOC_FL_KEEP_SIZE;
  b!.p.spawn("punch", (p) => p.fallocate(b!.fd, mode, 0, PAGE));
  await m.run();
  const bytes = new Uint8Array(2);
  await b!.p.pread(b!.fd, bytes, 0);
  const mapped = await a!.p.load(ADDR, 2);
  return `file ${bytes}, mapping ${mapped}`;
});

t("a store against a punched hole: before it or after it, for file and mapping alike", async () => {
  await allow_exactly(fault_punch, ["file 0,0, mapping 0,0", "file 2,0, mapping 2,0"]);
});

const two_stores = scenario(small, async (m) => {
  const [a, b] = await mapped_file(m, PAGE, ["one", "two"]);
  a!.p.spawn("one", (p) => p.store(ADDR, new Uint8Array([1])));
  b!.p.spawn("two", (p) => p.store(ADDR + 1, new Uint8Array([2])));
  await m.run();
  const blocks = (await a!.p.fstat(a!.fd)).blocks;
  return `${await a!.p.load(ADDR, 2)} and ${await b!.p.load(ADDR, 2)}, ${blocks} sectors`;
});

t("two first stores to one hole: one block, and both stores in it", async () => {
  await allow_exactly(two_stores, ["1,2 and 1,2, 8 sectors"]);
});

/** The range may be mapped by one huge zero page, by a page of data, or both in turn. */
const pmd_pte = scenario(large, async (m) => {
  const [a, b] = await mapped_file(m, HUGE, ["reader", "writer"]);
  const seen: string[] = [];
  a!.p.spawn("reader", async (p) => {
    seen.push(await access(p, ADDR + PAGE));
    seen.push(await access(p, ADDR + PAGE));
  });
  b!.p.spawn("writer", (p) => p.store(ADDR + PAGE, new Uint8Array([7])));
  await m.run();
  return `${seen}, then ${await access(a!.p, ADDR + PAGE)} and ${await access(b!.p, ADDR + PAGE)}`;
});

t("PMD against PTE fault (D17): nobody keeps the zero page, nobody sees data go", async () => {
  await allow_exactly(pmd_pte, ["0,0, then 7 and 7", "0,7, then 7 and 7", "7,7, then 7 and 7"]);
});

/** Truncation whose unmap leaves the cpu's translations behind, unless `flush`. */
const stale_tlb = (flush: boolean) =>
  scenario(small, async (m) => {
    const [a, b] = await mapped_file(m, PAGE, ["app", "truncate"]);
    const tlb = TLB(a!.p.task.mm!);
    if (!flush) tlb.flush_range = tlb.flush_page = () => undefined;
    a!.p.spawn("app", async (p) => {
      await access(p, ADDR);
      const size = await size_of(a!);
      const seen = await access(p, ADDR);
      if (size === 0 && seen !== "SIGBUS") throw new Error(`reads ${seen} behind the end`);
    });
    b!.p.spawn("truncate", (p) => p.ftruncate(b!.fd, 0));
    await m.run();
  });

t("canary: a missing flush of the TLB is found by every strategy that promises it", async () => {
  for (const strategy of ["random", "pct", "dpor"] as const) {
    const o = { strategy, runs: 200, turn, minimise_runs: 0 };
    const r = await explore(stale_tlb(false), o);
    assert.is(r.findings[0]?.outcome.text, "reads 0 behind the end", strategy);
  }
  const sound = await explore(stale_tlb(true), { strategy: "dpor", turn });
  assert.equal(sound.findings, []);
  assert.ok(sound.complete);
});

t.run();
