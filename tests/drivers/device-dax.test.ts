/**
 * tests/drivers/device-dax.test.ts - device-dax. What Linux 6.1 answered: recorded/*.out beside
 * this file and tests/conformance/cases/device-dax. Below that, what the recording machine could
 * not show: 1 GiB pages (it has no room for one), bad lines of memory, schedules.
 */
import {
  Machine,
  type machine_options,
  MAP_SHARED,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  O_RDWR,
  type Process,
  PROT_READ,
  PROT_WRITE,
} from "../../index.ts";
import { alloc_dax_region, devm_create_dev_dax } from "../../drivers/dax/bus.ts";
import { device_dax_driver } from "../../drivers/dax/device.ts";
import { nd_namespace_disable } from "../../drivers/nvdimm/namespace_driver.ts";
import { nvdimm_state } from "../../drivers/nvdimm/nd.ts";
import { EINVAL } from "../../kernel/include/errno.ts";
import { S_IFCHR } from "../../kernel/include/stat.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import { add_media_error } from "../../mm/memory-failure/media.ts";
import { watch_failures } from "../../tools/api/failure_log.ts";
import { answers_as_linux, recorded_scripts } from "../lib/answers.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";
import { bytes, outcome, text } from "../seeds/lab.ts";

const t = suite("drivers/dax/device");
const FOLDER = repo_path("tests", "drivers", "recorded");
const MIB = 2 ** 20;
const GIB = 2 ** 30;
const RW = PROT_READ | PROT_WRITE;
const SIGBUS = 7;

for (const name of recorded_scripts(FOLDER, "device-dax")) {
  t(`${name} answers as Linux did`, () => answers_as_linux(FOLDER, name));
}

interface dax_lab {
  m: Machine;
  p: Process;
  fd: number;
}

async function ndctl(m: Machine, line: string): Promise<void> {
  const r = await m.tool("ndctl", line.split(" "));
  assert.is(r.status, 0, r.stderr);
}

/** A machine with /dev/dax0.0 of `align` on a DIMM of `size` bytes, and a process that has it. */
async function dax_lab(align: string, size = 64 * MIB, o: machine_options = {}): Promise<dax_lab> {
  const m = await Machine.boot({ nvdimm: { dimms: [{ size, init_labels: "1.2" }] }, ...o });
  await ndctl(m, `create-namespace -r region0 -m devdax -a ${align} -M mem`);
  const p = m.process();
  p.task.signal!.handled.add(SIGBUS);
  return { m, p, fd: await p.open("/dev/dax0.0", O_RDWR) };
}

const map = async (p: Process, fd: number, len: number, off = 0): Promise<number> =>
  await p.mmap(0, len, RW, MAP_SHARED, fd, off);

const mapped_by = async (p: Process, addr: number): Promise<string | null> =>
  (await p.mapping_info(addr))!.mapped_by;

// ---- pages of one size

t("a page is as large as the alignment: 4 KiB, 2 MiB, 1 GiB", async () => {
  const want: [string, number, string][] = [
    ["4K", 64 * MIB, "PTE"],
    ["2M", 64 * MIB, "PMD"],
    ["1G", 3 * GIB, "PUD"],
  ];
  for (const [align, size, level] of want) {
    const { p, fd } = await dax_lab(align, size);
    const len = align === "1G" ? GIB : 4 * MIB;
    const a = await map(p, fd, len);
    await p.store(a + 5, bytes("x"));
    assert.is(await mapped_by(p, a), level);
    assert.is(await mapped_by(p, a + len - 1), align === "1G" ? "PUD" : null);
  }
});

t("1 GiB: both pages, their ends, what another mapping and a child see", async () => {
  const { p, fd } = await dax_lab("1G", 4 * GIB);
  const a = await map(p, fd, 2 * GIB);
  assert.is(a % GIB, 0);
  await p.store(a + GIB - 4, bytes("endgame!"));
  assert.is(text(await p.load(a + GIB - 4, 8)), "endgame!");
  const b = await map(p, fd, GIB, GIB);
  assert.is(text(await p.load(b, 4)), "ame!");
  const child = await p.fork();
  assert.is(await mapped_by(child, a), null, "a fault brings it back");
  assert.is(text(await child.load(a + GIB, 4)), "ame!");
  assert.is(await mapped_by(child, a + GIB), "PUD");
});

t("1 GiB: no piece of a page is unmapped, protected or moved away", async () => {
  const { p, fd } = await dax_lab("1G", 4 * GIB);
  assert.is(await outcome(p, () => map(p, fd, 2 * MIB)), "EINVAL");
  const a = await map(p, fd, 2 * GIB);
  await p.store(a, bytes("a"));
  assert.is(await outcome(p, () => p.munmap(a + 2 * MIB, 2 * MIB)), "EINVAL");
  assert.is(await outcome(p, () => p.mprotect(a, 2 * MIB, PROT_READ)), "EINVAL");
  assert.is(await outcome(p, () => p.mremap(a + 2 * MIB, GIB, GIB, MREMAP_MAYMOVE)), "ok");
  assert.is(await mapped_by(p, a), "PUD");
  assert.is(await outcome(p, () => p.munmap(a + GIB, GIB)), "ok");
  assert.is(text(await p.load(a, 1)), "a");
});

t("1 GiB: smaps, pagemap and mincore take the entry out; a fault brings it back", async () => {
  const { p, fd } = await dax_lab("1G", 3 * GIB);
  const a = await map(p, fd, GIB);
  await p.store(a, bytes("a"));
  const s = (await p.smaps(a))!.fields;
  assert.equal([s.Size, s.Rss, s.KernelPageSize], [MIB, 0, MIB]);
  assert.is(await mapped_by(p, a), null);
  await p.load(a, 1);
  assert.equal(await p.pagemap(a, 1), ["none"]);
  await p.load(a, 1);
  assert.is((await p.mincore(a, 4096))[0], 0);
  assert.is(text(await p.load(a, 1)), "a");
});

t("1 GiB: mprotect drops the entry and the new protection holds; mremap carries it", async () => {
  const { p, fd } = await dax_lab("1G", 3 * GIB);
  const a = await map(p, fd, GIB);
  await p.store(a, bytes("a"));
  await p.mprotect(a, GIB, PROT_READ);
  assert.is(await mapped_by(p, a), null);
  assert.is(text(await p.load(a, 1)), "a");
  assert.is(await outcome(p, () => p.store(a, bytes("b"))), "SIGSEGV");
  const to = a - 4 * GIB;
  assert.is(await p.mremap(a, GIB, GIB, MREMAP_MAYMOVE | MREMAP_FIXED, to), to);
  assert.is(await mapped_by(p, to), "PUD");
  assert.is(text(await p.load(to, 1)), "a");
});

t("1 GiB: one bad page takes all of it, the signal names its beginning", async () => {
  const { m, p, fd } = await dax_lab("1G", 3 * GIB);
  const a = await map(p, fd, GIB);
  await p.store(a + 300 * MIB, bytes("a"));
  const log = watch_failures(m.kernel);
  try {
    await p.poison_pfn(a + 300 * MIB);
    assert.unreachable();
  } catch (e) {
    const s = p.signal_of(e)!;
    assert.equal([s.code, s.lsb, s.addr], ["BUS_MCEERR_AR", 30, a]);
  }
  assert.equal(
    log.walks.map((w) => [w.owner, w.result]),
    [["page 0 of dax0.0", "dax page: Recovered"]],
  );
  assert.is(await mapped_by(p, a), null);
  assert.is(text(await p.load(a + 300 * MIB, 1)), "a", "the mark alone keeps nobody out");
});

// ---- bad lines

t(
  "a load of a bad line: SIGBUS for the whole huge page, again and again; stores go on",
  async () => {
    const { m, p, fd } = await dax_lab("2M");
    const a = await map(p, fd, 4 * MIB);
    await p.store(a + MIB, bytes("good"));
    const { paddr } = (await p.mapping_info(a + MIB))!;
    add_media_error(m.kernel, paddr! + 64, 1);
    assert.is(text(await p.load(a + MIB, 4)), "good");
    for (let i = 0; i < 2; i++) {
      try {
        await p.load(a + MIB + 64, 1);
        assert.unreachable();
      } catch (e) {
        const s = p.signal_of(e)!;
        assert.equal([s.code, s.lsb, s.addr], ["BUS_MCEERR_AR", 21, a]);
      }
    }
    const [region] = nvdimm_state(m.kernel).buses[0]!.regions;
    const sector = Math.floor((paddr! + 64 - region!.phys.start) / 512);
    assert.equal(region!.bb.list(), [{ start: sector, len: 1 }], "the region notes the block");
    assert.is(await outcome(p, () => p.store(a + MIB + 64, bytes("x"))), "ok");
    assert.is(await outcome(p, () => p.load(a + 3 * MIB, 1)), "ok");
  },
);

// ---- devices that come and go

t("any node with the device's number opens it, and all share one mapping", async () => {
  const { m, p, fd } = await dax_lab("2M");
  const a = await map(p, fd, 2 * MIB);
  await p.store(a, bytes("same"));
  const dev = Number(m.sysfs_read("/sys/bus/dax/devices/dax0.0/dev").split(":")[1]);
  await p.mknod("/tmp/dax", S_IFCHR | 0o600, 252 * 2 ** 20 + dev);
  const b = await map(p, await p.open("/tmp/dax", O_RDWR), 2 * MIB);
  assert.is(text(await p.load(b, 4)), "same");
  await ndctl(m, "disable-namespace namespace0.0");
  assert.is(await outcome(p, () => p.load(b, 1)), "SIGBUS", "unmapped there too");
  assert.is(await outcome(p, () => p.open("/tmp/dax", O_RDWR)), "ENXIO");
});

t("an open file keeps the number of a device that has gone; the last close frees it", async () => {
  const { m, p, fd } = await dax_lab("2M");
  const number = (): string => m.sysfs_read("/sys/bus/dax/devices/dax0.0/dev").trim();
  const again = async (): Promise<string> => {
    await ndctl(m, "disable-namespace namespace0.0");
    await ndctl(m, "enable-namespace namespace0.0");
    return number();
  };
  assert.is(number(), "252:0");
  assert.is(await again(), "252:1");
  await p.close(fd);
  assert.is(await again(), "252:0");
  assert.is(await again(), "252:0");
});

t("a file of a device that has gone: its mappings fault, new ones are refused", async () => {
  const { m, p, fd } = await dax_lab("2M");
  const a = await map(p, fd, 2 * MIB);
  await p.store(a, bytes("kept"));
  await ndctl(m, "disable-namespace namespace0.0");
  await ndctl(m, "enable-namespace namespace0.0");
  assert.is(await outcome(p, () => p.load(a, 1)), "SIGBUS", "it is another device");
  assert.is(await outcome(p, () => map(p, fd, 2 * MIB)), "ENXIO");
  const b = await map(p, await p.open("/dev/dax0.0", O_RDWR), 2 * MIB);
  assert.is(text(await p.load(b, 4)), "kept");
});

t(
  "daxctl takes the driver away and brings it back: the same device, the same mapping",
  async () => {
    const { m, p, fd } = await dax_lab("2M");
    const a = await map(p, fd, 4 * MIB);
    await p.store(a, bytes("kept"));
    assert.is((await m.tool("daxctl", ["disable-device", "dax0.0"])).status, 0);
    assert.is(await mapped_by(p, a), null);
    assert.is(await outcome(p, () => p.load(a, 1)), "SIGBUS");
    assert.is(await outcome(p, () => map(p, fd, 2 * MIB)), "ENXIO");
    assert.is((await m.tool("daxctl", ["enable-device", "dax0.0"])).status, 0);
    assert.is(text(await p.load(a, 4)), "kept");
    assert.is(await outcome(p, () => map(p, fd, 2 * MIB)), "ok");
  },
);

t("a region that does not keep to its alignment is no region", async () => {
  const { m } = await dax_lab("2M");
  const range = { start: 4 * MIB + 4096, size: 2 * MIB };
  assert.is(alloc_dax_region(m.kernel, 7, range, 2 * MIB), null);
  const small = alloc_dax_region(m.kernel, 7, { start: 2 ** 44, size: 2048 }, 2048)!;
  assert.throws(
    () => devm_create_dev_dax(small, 0, device_dax_driver),
    (e: unknown) => e === EINVAL,
  );
  assert.is(await outcome(m.process(), () => m.process().open("/dev/dax7.0", O_RDWR)), "ENOENT");
});

t("what is stored and flushed is there after a power cut, without any sync", async () => {
  const { m, p, fd } = await dax_lab("2M", 64 * MIB, { track_persistence: true });
  const a = await map(p, fd, 2 * MIB);
  assert.is((await p.mapping_info(a))!.durable_by, "flush");
  await p.store(a, bytes("flushed"));
  await p.persist(a, 7);
  await p.store(a + 64, bytes("not"));
  const after = await m.reboot();
  const q = after.process();
  const b = await map(q, await q.open("/dev/dax0.0", O_RDWR), 2 * MIB);
  assert.is(text(await q.load(b, 7)), "flushed");
  assert.equal(await q.load(b + 64, 3), new Uint8Array(3));
});

t(
  "a store against disable-namespace, under 60 schedules: done or SIGBUS, never a hang",
  async () => {
    const seen = new Set<string>();
    for (let seed = 1; seed <= 60; seed++) {
      const strategy = new random_strategy(new Random(seed), seed);
      const { m, p, fd } = await dax_lab("2M", 64 * MIB, { seed, strategy });
      const a = await map(p, fd, 8 * MIB);
      p.spawn("user", async (q) => {
        for (let i = 0; i < 4; i++) {
          seen.add(await outcome(q, () => q.store(a + i * 2 * MIB, bytes("x"))));
        }
      });
      const ns = nvdimm_state(m.kernel).buses[0]!.regions[0]!.namespaces[0]!;
      m.spawn(m.kernel, "unbind", () => nd_namespace_disable(ns));
      await m.run();
      assert.is(await mapped_by(p, a), null, `seed ${seed}: an entry stayed`);
      assert.is(m.kernel.nr_warnings, 0, m.dmesg());
    }
    assert.equal([...seen].sort(), ["SIGBUS", "ok"]);
  },
);

t.run();
