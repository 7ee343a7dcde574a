/** sfdisk: the same bytes as the real one, and what the kernel then finds. */
import { Machine } from "../../tools/api/machine.ts";
import { read_bytes } from "../../tools/api/device_io.ts";
import { read_dimm } from "../lib/images.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/sfdisk");

const hex = (b: Uint8Array): string => Buffer.from(b).toString("hex");

async function disk_like(name: string): Promise<[real: Machine, ours: Machine]> {
  const dimm = await read_dimm(name, 128 * 1024);
  const real = await Machine.boot({ nvdimm: { dimms: [dimm] } });
  const map = name === "nvdimm-mbr" ? "mem" : "dev";
  const ours = await Machine.boot({ nvdimm: { dimms: [{ size: dimm.size }] } });
  const r = await ours.tool(
    "ndctl",
    `create-namespace -f -e namespace0.0 -m fsdax -M ${map}`.split(" "),
  );
  assert.is(r.status, 0, r.stderr);
  return [real, ours];
}

async function same_table(name: string, script: string, sectors: readonly number[]) {
  const [real, ours] = await disk_like(name);
  const r = await ours.tool("sfdisk", ["/dev/pmem0", script]);
  assert.is(r.status, 0, r.stderr);
  for (const s of sectors) {
    const [want, got] = [real, ours].map((m) => read_bytes(m.bdev("/dev/pmem0"), s * 512, 512));
    assert.is(hex(got!), hex(want!), `sector ${s}`);
  }
}

t("a GPT, first and second copy, byte for byte", () =>
  same_table(
    "nvdimm-gpt",
    [
      "label: gpt",
      "label-id: 00000027-1111-4222-8333-000000213813",
      "start=2MiB, size=40MiB, name=one, uuid=00000028-1111-4222-8333-000000221732",
      "size=44MiB, name=two, uuid=00000029-1111-4222-8333-000000229651",
    ].join("\n"),
    [0, 1, 2, 3, 33, 253952 - 33, 253952 - 1],
  ),
);

t("an MBR with an extended partition: the recorded partitions", async () => {
  const [real, ours] = await disk_like("nvdimm-mbr");
  const script = [
    "label: dos",
    "label-id: 0x12345678",
    "start=2MiB, size=32MiB, type=83",
    "size=16MiB, type=83, bootable",
    "type=5",
    "size=20MiB, type=83",
  ].join(";");
  const r = await ours.tool("sfdisk", ["/dev/pmem0", script]);
  assert.is(r.status, 0, r.stderr);
  const parts = (m: Machine) =>
    [...m.bdev("/dev/pmem0").bd_disk.part_tbl.values()].map((b) => [
      b.bd_name,
      b.bd_start_sect,
      b.bd_nr_sectors,
    ]);
  assert.equal(parts(ours), parts(real));
  assert.is(parts(ours).length, 5);
  const [a, b] = [real, ours].map((m) => hex(read_bytes(m.bdev("/dev/pmem0"), 0, 512)));
  assert.is(b, a);
});

t("logical partitions are found along their chain", async () => {
  const m = await Machine.boot();
  const lines = [
    "start=2048,size=2048",
    "start=8192,size=65536,type=5",
    "p5 : size=8192",
    "p6 : size=4096",
  ];
  const r = await m.tool("sfdisk", ["/dev/pmem0", ["label: dos", ...lines].join(";")]);
  assert.is(r.status, 0, r.stderr);
  const { part_tbl } = m.bdev("/dev/pmem0").bd_disk;
  const parts = [...part_tbl.values()].map((b) => [b.bd_partno, b.bd_start_sect, b.bd_nr_sectors]);
  assert.equal(parts.slice(1), [
    [1, 2048, 2048],
    [2, 8192, 2],
    [5, 10240, 8192],
    [6, 20480, 4096],
  ]);
});

t("a broken first header: the second copy is used", async () => {
  const m = await Machine.boot();
  await m.tool("sfdisk", ["/dev/pmem0", "label: gpt;start=2048,size=4096"]);
  const p = m.process();
  const fd = await p.open("/dev/pmem0", 2);
  await p.pwrite(fd, new Uint8Array([1, 2, 3]), 512 + 20);
  await p.ioctl(fd, "BLKRRPART");
  await p.close(fd);
  assert.is(m.block_info("/dev/pmem0p1").start, 2048);
});

t("what cannot be: overlap, too far, no such label, a partition in use", async () => {
  const m = await Machine.boot();
  const run = (s: string) => m.tool("sfdisk", ["/dev/pmem0", s]);
  for (const bad of [
    "label: gpt;start=2048,size=4096;start=3000,size=10",
    "label: gpt;start=2048,size=99999999",
    "label: sun;start=2048",
    "label: gpt;start=34,size=10",
    "label: gpt;start=two",
  ]) {
    const r = await run(bad);
    assert.is(r.status, 1, bad);
    assert.match(r.stderr, /^sfdisk: /);
  }
  assert.is((await run("label: gpt;start=2048,size=65536")).status, 0);
  await m.mkfs("ext4", "/dev/pmem0p1", "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0p1", "/mnt", "ext4", "dax=always");
  assert.is((await run("label: gpt;start=4096,size=65536")).status, 1, "mounted");
  await p.umount("/mnt");
});

t.run();
