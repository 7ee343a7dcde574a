/**
 * tests/drivers/virtio-pmem.test.ts - a device whose memory is the host's: DAX, but durable only
 * once the host has flushed, so MAP_SYNC is refused and fsync asks the host.
 */
import { Machine, MAP_SHARED, O_CREAT, O_RDWR, type Process } from "../../index.ts";
import { REQ_FUA, REQ_OP_WRITE, REQ_PREFLUSH } from "../../kernel/include/blkdev.ts";
import type { phys_region } from "../../kernel/include/phys.ts";
import { bdev_rw_bytes, blkdev_issue_flush } from "../../drivers/block/bio.ts";
import { dax_synchronous, dax_write_cache_enabled } from "../../drivers/dax/super.ts";
import { type pmem_event, track_persistence, volatile_lines } from "../../mm/phys.ts";
import { answers_as_linux } from "../lib/answers.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";
import { bytes, filled, map, MIB, outcome, PAGE, SYNC, text } from "../seeds/lab.ts";

const t = suite("drivers/virtio-pmem");

async function virtio(): Promise<{ m: Machine; p: Process }> {
  const m = await Machine.boot({ virtio_pmem: [{ size: "32M" }], track_persistence: true });
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  return { m, p };
}

/** The host's memory that a disk lies on. */
const memory = (m: Machine, nr = 0): phys_region =>
  m.kernel.phys.region_of(m.pmem[nr]!.region.start)!;

/** What `/mnt/a` holds after the power has gone and come back. */
async function after_power_cut(m: Machine, len: number): Promise<string> {
  const n = await m.reboot();
  const p = n.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  const buf = new Uint8Array(len);
  const fd = await p.open("/mnt/a", 0);
  await p.pread(fd, buf, 0);
  return text(buf);
}

t("the recorded device: ext4 mounts with DAX, MAP_SYNC is refused", () =>
  answers_as_linux(repo_path("tests", "drivers", "recorded"), "virtio-pmem-ext4"),
);

t("it has DAX, a write cache, and is not synchronous", async () => {
  const m = await Machine.boot({ virtio_pmem: [{ size: "32M" }] });
  const [d] = m.pmem;
  assert.equal([d!.disk.disk_name, d!.disk.capacity * 512], ["pmem0", 32 * MIB]);
  assert.ok(d!.disk.queue_dax);
  assert.ok(dax_write_cache_enabled(d!.dax_dev));
  assert.not(dax_synchronous(d!.dax_dev));
  assert.is(m.sysfs_read("/sys/block/pmem0/queue/write_cache"), "write back\n");
});

t("MAP_SYNC is EOPNOTSUPP, a plain shared mapping is the storage", async () => {
  const { p } = await virtio();
  const fd = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  await p.pwrite(fd, filled(65, PAGE), 0);
  assert.is(await outcome(p, () => map(p, fd, PAGE, SYNC)), "EOPNOTSUPP");
  const a = await map(p, fd, PAGE);
  await p.store(a, bytes("x"));
  const info = await p.mapping_info(a);
  assert.equal([info!.page, info!.durable_by], ["storage", "fsync"]);
});

t("flushing from user space saves nothing, fsync does", async () => {
  const { m, p } = await virtio();
  const fd = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  await p.pwrite(fd, filled(65, 64), 0);
  await p.fsync(fd);
  await p.sync();
  const a = await p.mmap(0, PAGE, 3, MAP_SHARED, fd, 0);
  await p.store(a, bytes("BBBB"));
  await p.clwb(a, 64);
  await p.sfence();
  assert.is(await after_power_cut(m, 8), "AAAAAAAA", "the guest's fence is not the host's flush");
  await p.fsync(fd);
  assert.is(await after_power_cut(m, 8), "BBBBAAAA");
});

t("write(), msync and fdatasync: nothing before the host's flush, all of it after", async () => {
  for (const how of ["fsync", "fdatasync", "msync"] as const) {
    const { m, p } = await virtio();
    const fd = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
    await p.pwrite(fd, filled(65, 3 * PAGE), 0);
    await p.fsync(fd);
    await p.sync();
    const a = await map(p, fd, PAGE);
    await p.store(a + 128, bytes("m"));
    await p.pwrite(fd, bytes("w"), 0);
    assert.ok(volatile_lines(memory(m)).length >= 2);
    if (how === "msync") await p.msync(a, PAGE, 4);
    else await p[how](fd);
    assert.equal(volatile_lines(memory(m)), [], how);
    const now = await after_power_cut(m, 256);
    assert.equal([now[0], now[1], now[128]], ["w", "A", "m"], how);
  }
});

t("a flush of the disk is one of the host's: PREFLUSH before the data, FUA after it", async () => {
  const m = await Machine.boot({ virtio_pmem: [{ size: "16M" }] });
  const [d] = m.pmem;
  const seen: pmem_event[] = [];
  track_persistence(memory(m), (e) => void seen.push(e));
  const types = (): string[] => seen.splice(0).map((e) => e.type);
  const bdev = d!.disk.part0;
  const write = (flags: number) =>
    bdev_rw_bytes(bdev, REQ_OP_WRITE | flags, 0, filled(1, 512), 0, 512);
  await write(0);
  assert.not(types().includes("host_flush"));
  await write(REQ_PREFLUSH);
  assert.equal(types(), ["sfence", "host_flush", "store"]);
  assert.ok(volatile_lines(memory(m)).length > 0, "the data came after the flush");
  await write(REQ_FUA);
  assert.equal(types(), ["store", "sfence", "host_flush"]);
  await write(0);
  await blkdev_issue_flush(bdev);
  assert.equal(volatile_lines(memory(m)), []);
});

t("it stands beside an NVDIMM, whose own fence does not flush the host", async () => {
  const m = await Machine.boot({
    pmem: [{ size: "16M", mode: "fsdax", map: "mem" }],
    virtio_pmem: [{ size: 16 * MIB }],
    track_persistence: true,
  });
  const names = m.pmem.map((d) => d.disk.disk_name);
  assert.equal(names, ["pmem0", "pmem1"]);
  const [, host] = m.pmem;
  await bdev_rw_bytes(host!.disk.part0, REQ_OP_WRITE, 0, filled(1, 512), 0, 512);
  await blkdev_issue_flush(m.pmem[0]!.disk.part0);
  assert.ok(volatile_lines(memory(m, 1)).length > 0);
});

t.run();
