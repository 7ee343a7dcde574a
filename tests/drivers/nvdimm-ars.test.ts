/** Media errors of an nvdimm bus: found by scrub and access, passed down, repaired by writing. */
import { nvdimm_state } from "../../drivers/nvdimm/nd.ts";
import { extents_add, extents_remove } from "../../drivers/nvdimm/badrange.ts";
import { Machine } from "../../tools/api/machine.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("drivers/nvdimm-ars");
const MIB = 2 ** 20;
const SCRUB = "/sys/bus/nd/devices/ndbus0/nfit/scrub";
const REGION = "/sys/bus/nd/devices/region0/badblocks";
const DISK = "/sys/block/pmem0/badblocks";

async function boot(mode: string, ars = true, extra = ""): Promise<Machine> {
  const dimms = [{ size: 64 * MIB, init_labels: "1.2" as const }];
  const m = await Machine.boot({ nvdimm: { ars, dimms } });
  await ndctl(m, `create-namespace -r region0 -m ${mode} -s 32M${extra}`);
  return m;
}

async function ndctl(m: Machine, line: string): Promise<any> {
  const r = await m.tool("ndctl", line.split(" "));
  assert.is(r.status, 0, `${line}: ${r.stderr}`);
  return r.stdout === "" ? null : JSON.parse(r.stdout);
}

async function gets_eio(call: () => unknown): Promise<void> {
  let code: string | undefined;
  try {
    await call();
  } catch (e) {
    code = (e as { code?: string }).code;
  }
  assert.is(code, "EIO");
}

t("extents: added they join, removed they split", () => {
  let l = extents_add([], { start: 100, length: 10 });
  l = extents_add(l, { start: 120, length: 10 });
  l = extents_add(l, { start: 110, length: 10 });
  assert.equal(l, [{ start: 100, length: 30 }]);
  assert.equal(extents_remove(l, { start: 105, length: 5 }), [
    { start: 100, length: 5 },
    { start: 110, length: 20 },
  ]);
});

t(
  "an injected error is listed by disk, namespace and region, each from its own start",
  async () => {
    const m = await boot("fsdax");
    const ns = await ndctl(m, "inject-error --block=12 --count=2 namespace0.0");
    assert.equal(ns.badblocks, [{ offset: 12, length: 2, dimms: ["nmem0"] }]);
    assert.is(m.sysfs_read(DISK), "12 2\n");
    // behind the info block and the page map: 2 MiB
    assert.is(m.sysfs_read(REGION), `${12 + 4096} 2\n`);
    const [region] = await ndctl(m, "list -RM");
    assert.is(region.badblock_count, 2);
    const [plain] = await ndctl(m, "list -N");
    assert.is(plain.badblock_count, 2);
    assert.is(plain.badblocks, undefined);
  },
);

t("without a notification only an access or a scrub finds it", async () => {
  const m = await boot("raw");
  await ndctl(m, "inject-error --block=40 --count=8 --no-notify namespace0.0");
  const status = await ndctl(m, "inject-error --status namespace0.0");
  assert.equal(status, { badblocks: [{ block: 40, count: 8 }] });
  assert.is(m.sysfs_read(DISK), "");
  const before = m.sysfs_read(SCRUB);
  assert.equal(await ndctl(m, "start-scrub"), [
    { provider: "ACPI.NFIT", dev: "ndbus0", scrub_state: "active" },
  ]);
  assert.is(m.sysfs_read(SCRUB), `${before.trim()}+\n`);
  assert.is((await m.tool("ndctl", ["start-scrub"])).status, 240, "one at a time");
  assert.is(m.sysfs_read(DISK), "");
  assert.is((await ndctl(m, "wait-scrub"))[0].scrub_state, "idle");
  assert.is(m.sysfs_read(SCRUB), `${Number(before) + 1}\n`);
  assert.is(m.sysfs_read(DISK), "40 8\n");
});

t("a read that meets it makes its sector known to the whole bus", async () => {
  const m = await boot("raw");
  await ndctl(m, "inject-error --block=40 --count=8 --no-notify namespace0.0");
  const p = m.process();
  const fd = await p.open("/dev/pmem0", 0);
  await gets_eio(() => p.pread(fd, new Uint8Array(4096), 40 * 512));
  assert.is(m.sysfs_read(DISK), "40 1\n");
  assert.is(m.sysfs_read(REGION), "40 1\n");
  await p.close(fd);
});

t("writing repairs: disk, namespace, region and firmware forget it", async () => {
  const m = await boot("fsdax");
  await ndctl(m, "inject-error --block=16 --count=8 namespace0.0");
  const p = m.process();
  const fd = await p.open("/dev/pmem0", 2);
  await gets_eio(() => p.pread(fd, new Uint8Array(4096), 8192));
  await p.pwrite(fd, new Uint8Array(4096).fill(7), 8192);
  await p.fsync(fd);
  const got = new Uint8Array(4096);
  await p.pread(fd, got, 8192);
  assert.ok(got.every((b) => b === 7));
  for (const path of [DISK, REGION]) assert.is(m.sysfs_read(path), "");
  const status = await ndctl(m, "inject-error --status namespace0.0");
  assert.equal(status, { badblocks: [] });
  await p.close(fd);
});

t("a file on DAX: read() fails, write() repairs it", async () => {
  const m = await boot("fsdax");
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  const fd = await p.open("/mnt/f", 0o102, 0o644);
  await p.pwrite(fd, new Uint8Array(8192).fill(1), 0);
  const [e] = await p.fiemap(fd, 0, 8192, 1, 1);
  await ndctl(m, `inject-error --block=${e!.fe_physical / 512} --count=8 namespace0.0`);
  await gets_eio(() => p.pread(fd, new Uint8Array(4096), 0));
  assert.is(await p.pwrite(fd, new Uint8Array(4096).fill(2), 0), 4096);
  const got = new Uint8Array(4096);
  await p.pread(fd, got, 0);
  assert.is(got[0], 2);
  assert.is(m.sysfs_read(DISK), "");
  await p.close(fd);
  await p.umount("/mnt");
});

t("clear-errors repairs what is known, --scrub also what is not", async () => {
  const m = await boot("fsdax");
  await ndctl(m, "inject-error --block=8 --count=1 namespace0.0");
  await ndctl(m, "inject-error --block=80 --count=1 --no-notify namespace0.0");
  const first = await ndctl(m, "clear-errors namespace0.0");
  assert.is(first.badblock_count, undefined);
  assert.is(m.sysfs_read(DISK), "");
  const left = await ndctl(m, "inject-error --status namespace0.0");
  assert.equal(left, { badblocks: [{ block: 80, count: 1 }] });
  await ndctl(m, "clear-errors --scrub namespace0.0");
  const none = await ndctl(m, "inject-error --status namespace0.0");
  assert.equal(none, { badblocks: [] });
});

t("un-injecting does not make the kernel forget; a platform without commands refuses", async () => {
  const m = await boot("raw");
  await ndctl(m, "inject-error --block=3 --count=1 namespace0.0");
  await ndctl(m, "inject-error --uninject --block=3 --count=1 namespace0.0");
  assert.is(m.sysfs_read(DISK), "3 1\n");
  const far = await m.tool("ndctl", "inject-error -B 99999999 -n 1 namespace0.0".split(" "));
  assert.is(far.status, 234);
  const plain = await boot("raw", false);
  const r = await plain.tool("ndctl", "inject-error -B 3 -n 1 namespace0.0".split(" "));
  assert.is(r.status, 161);
  assert.throws(() => plain.sysfs_read(SCRUB));
});

t(
  "sector mode: a bad block fails reads; the lane repairs it when it is written again",
  async () => {
    const m = await boot("sector", true, " -l 4096");
    const p = m.process();
    const fd = await p.open("/dev/pmem0s", 2);
    await p.pwrite(fd, new Uint8Array(4096).fill(5), 0);
    await p.fsync(fd);
    await p.ioctl(fd, "BLKFLSBUF");
    const { arenas, params } = nvdimm_state(m.kernel).buses[0]!.regions[0]!.namespaces[0]!.claim!
      .btt!;
    const a = arenas[0]!;
    const map = m.kernel.phys.read_u32(a.base + a.mapoff) & 0x3fffffff;
    const at = (a.base + a.dataoff + map * a.internal_lbasize - params.start) / 512;
    const ns = await ndctl(m, `inject-error --block=${at} --count=8 namespace0.0`);
    assert.is(ns.badblock_count, 8);
    assert.is(ns.badblocks, undefined, "a list only in raw mode");
    await gets_eio(() => p.pread(fd, new Uint8Array(4096), 0));
    await p.pwrite(fd, new Uint8Array(4096).fill(6), 0);
    await p.fsync(fd);
    const got = new Uint8Array(4096);
    await p.pread(fd, got, 0);
    assert.is(got[0], 6);
    assert.is(m.sysfs_read(REGION), "");
    await p.close(fd);
  },
);

t("the DIMMs of an interleave set that hold a bad sector are named", async () => {
  const dimms = [{ size: 64 * MIB }, { size: 64 * MIB }];
  const m = await Machine.boot({ nvdimm: { ars: true, interleave: true, dimms } });
  await ndctl(m, "create-namespace -f -e namespace0.0 -m raw");
  const ns = await ndctl(m, "inject-error --block=8 --count=1 namespace0.0");
  assert.equal(ns.badblocks[0].dimms, ["nmem1"]);
});

t.run();
