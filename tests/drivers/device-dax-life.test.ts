/**
 * tests/drivers/device-dax-life.test.ts - device-dax: entries of one size, what a fault refuses,
 * poison, and the end of a device under its users. What a script of calls sees is in the recorded
 * cases.
 */
import { nvdimm_state } from "../../drivers/nvdimm/nd.ts";
import { lookup_entry } from "../../mm/pgtable.ts";
import type { Process } from "../../tools/api/process.ts";
import { Machine } from "../../tools/api/machine.ts";
import { scenario } from "../../tools/api/scenario.ts";
import { MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SYNC } from "../../kernel/include/mman.ts";
import { PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import { outcomes_of } from "../lib/explore.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("drivers/dax/device life");
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const RW = PROT_READ | PROT_WRITE;
const O_RDWR = 2;

interface lab {
  m: Machine;
  p: Process;
  fd: number;
}

async function ndctl(m: Machine, line: string): Promise<string> {
  const r = await m.tool("ndctl", line.split(" "));
  if (r.status !== 0) throw new Error(`ndctl ${line}: ${r.stderr}`);
  return r.stdout;
}

/** A machine with /dev/dax0.0, open. */
async function set_up(align: string, size = "64M", dimm = 256 * MIB): Promise<lab> {
  const m = await Machine.boot({ nvdimm: { dimms: [{ size: dimm, init_labels: "1.2" }] } });
  await ndctl(m, `create-namespace -m devdax -s ${size} -a ${align}`);
  const p = m.process();
  return { m, p, fd: await p.open("/dev/dax0.0", O_RDWR) };
}

const signal = async (what: () => unknown): Promise<string> => {
  try {
    await what();
    return "none";
  } catch (e) {
    return `${(e as { signo: string }).signo} ${(e as { code: string }).code}`;
  }
};

const error = async (what: () => unknown): Promise<string> => {
  try {
    await what();
    return "none";
  } catch (e) {
    return (e as { code: string }).code;
  }
};

/** Bytes that the entry at `addr` covers; 0: none. */
function entry_size(p: Process, addr: number): number {
  const { entry, size } = lookup_entry(p.task.mm!, addr);
  return entry === 0 ? 0 : size;
}

for (const [align, bytes] of [
  ["4K", 4096],
  ["2M", 2 * MIB],
] as const) {
  t(`with alignment ${align} an access maps ${align}`, async () => {
    const { p, fd } = await set_up(align);
    const a = await p.mmap(0, 4 * MIB, RW, MAP_SHARED, fd, 0);
    await p.store(a + 5000, new Uint8Array([7]));
    assert.is(entry_size(p, a + 5000), bytes);
    assert.equal([...(await p.load(a + 5000, 2))], [7, 0]);
  });
}

t("with alignment 1G an access maps 1 GiB, and giving it back takes all of it away", async () => {
  const { m, p, fd } = await set_up("1G", "3G", 4 * GIB);
  const a = await p.mmap(0, GIB, RW, MAP_SHARED, fd, 0);
  assert.is(a % GIB, 0);
  await p.store(a + 700 * MIB, new Uint8Array([9]));
  assert.is(entry_size(p, a), GIB);
  const b = await p.mmap(0, GIB, PROT_READ, MAP_SHARED, fd, 0);
  assert.equal([...(await p.load(b + 700 * MIB, 1))], [9]);
  assert.is(await error(() => p.munmap(a, 2 * MIB)), "EINVAL");
  await p.munmap(a, GIB);
  assert.is(await signal(() => p.load(a, 1)), "SIGSEGV SEGV_MAPERR");
  assert.equal([...(await p.load(b + 700 * MIB, 1))], [9]);
  await ndctl(m, "disable-namespace namespace0.0");
  assert.is(await signal(() => p.load(b, 1)), "SIGBUS BUS_ADRERR");
});

t("a 1 GiB entry read first becomes writable at the first store", async () => {
  const { p, fd } = await set_up("1G", "3G", 4 * GIB);
  const a = await p.mmap(0, GIB, RW, MAP_SHARED, fd, 0);
  assert.equal([...(await p.load(a + 4096, 1))], [0]);
  await p.store(a + 4096, new Uint8Array([3]));
  assert.equal([...(await p.load(a + 4096, 1))], [3]);
});

t("what is mapped lies behind the namespace's own data, at the offset asked for", async () => {
  const { m, p, fd } = await set_up("2M");
  const a = await p.mmap(0, 2 * MIB, RW, MAP_SHARED, fd, 4 * MIB);
  await p.store(a, new Uint8Array([1, 2, 3]));
  const ns = nvdimm_state(m.kernel).buses[0]!.regions[0]!.namespaces[0]!;
  const own = ns.size - ns.claim!.size;
  assert.ok(own >= 2 * MIB, "info block and page map come first");
  const got = new Uint8Array(3);
  m.kernel.phys.copy_from(ns.start + own + 4 * MIB, got, 0, 3);
  assert.equal([...got], [1, 2, 3]);
});

t("MAP_SYNC is granted: there is no metadata that could be missing", async () => {
  const { p, fd } = await set_up("2M");
  const a = await p.mmap(0, 2 * MIB, RW, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
  await p.store(a, new Uint8Array([5]));
});

t("contents outlive the machine only as far as they were flushed", async () => {
  const m = await Machine.boot({
    nvdimm: { dimms: [{ size: 256 * MIB, init_labels: "1.2" }] },
    track_persistence: true,
  });
  await ndctl(m, "create-namespace -m devdax -s 64M");
  const p = m.process();
  const fd = await p.open("/dev/dax0.0", O_RDWR);
  const a = await p.mmap(0, 2 * MIB, RW, MAP_SHARED, fd, 0);
  await p.store(a, new Uint8Array([1]));
  await p.clwb(a, 64);
  await p.sfence();
  await p.store(a + 64, new Uint8Array([2]));
  const after = await m.reboot();
  const q = after.process();
  const b = await q.mmap(0, 2 * MIB, RW, MAP_SHARED, await q.open("/dev/dax0.0", O_RDWR), 0);
  assert.equal([...(await q.load(b, 1))], [1]);
  assert.equal([...(await q.load(b + 64, 1))], [0]);
});

t(
  "a device taken away under a fault: the access works or gets SIGBUS, in every order",
  async () => {
    const s = scenario(
      { nvdimm: { dimms: [{ size: 256 * MIB, init_labels: "1.2" }] } },
      async (m: Machine) => {
        await ndctl(m, "create-namespace -m devdax -s 64M");
        const p = m.process("user");
        const fd = await p.open("/dev/dax0.0", O_RDWR);
        const a = await p.mmap(0, 2 * MIB, RW, MAP_SHARED, fd, 0);
        const [got] = await Promise.all([
          signal(() => p.load(a, 1)),
          ndctl(m, "disable-namespace namespace0.0"),
        ]);
        const after = await signal(() => p.load(a, 1));
        return `${got}, then ${after}`;
      },
    );
    const { outcomes, result } = await outcomes_of(s);
    assert.ok(result.complete, result.promise);
    const gone = "SIGBUS BUS_ADRERR";
    assert.equal(outcomes, [`${gone}, then ${gone}`, `none, then ${gone}`]);
  },
);

t.run();
