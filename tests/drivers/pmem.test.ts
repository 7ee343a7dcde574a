/** tests/drivers/pmem.test.ts - pmem disks: sizes, info block, bios, bad sectors, the DAX side. */
import { REQ_OP_READ, REQ_OP_WRITE } from "../../kernel/include/blkdev.ts";
import { DAX_ACCESS, DAX_RECOVERY_WRITE } from "../../kernel/include/dax.ts";
import { EINVAL, EIO, ENODEV, ENXIO, ERANGE } from "../../kernel/include/errno.ts";
import { badblocks, badblocks_show, badblocks_store } from "../../drivers/block/badblocks.ts";
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";
import { bdev_nr_bytes } from "../../drivers/block/bdev.ts";
import { add_partition } from "../../drivers/block/genhd.ts";
import { dax_direct_access, dax_zero_page_range } from "../../drivers/dax/super.ts";
import { attach_pmem, detach_pmem, nd_pfn_probe } from "../../drivers/nvdimm/pmem.ts";
import { nd_pfn_layout, nd_pfn_make_block, nd_pfn_validate } from "../../drivers/nvdimm/pfn.ts";
import { nd_fletcher64 } from "../../drivers/nvdimm/fletcher.ts";
import { assert, suite } from "../lib/suite.ts";
import { drivers_kernel, MIB } from "./kernel.ts";

const t = suite("drivers/nvdimm/pmem");
/** pmem never sleeps. */
const at_once = (p: unknown): void => assert.is(p, undefined);
const range = () => ({ nr_pages: 0, paddr: 0, pfn: 0 });

t("a 512 MiB fsdax namespace has the size that Linux gives it", () => {
  const kernel = drivers_kernel();
  const pmem = attach_pmem(kernel, { size: 512 * MIB, mode: "fsdax", map: "dev" });
  assert.is(pmem.disk.disk_name, "pmem0");
  assert.is(bdev_nr_bytes(pmem.disk.part0), 526385152);
  assert.is(pmem.disk.logical_block_size, 512);
  assert.is(pmem.disk.physical_block_size, 4096);
  assert.ok(pmem.disk.queue_dax);
});

t("info blocks have the layout of the recorded namespaces", () => {
  assert.is(nd_pfn_layout(0, 128 * MIB, "dev").dataoff, 4 * MIB);
  assert.is(nd_pfn_layout(0, 128 * MIB, "dev").npfns, 31744);
  assert.is(nd_pfn_layout(0, 64 * MIB, "dev").dataoff, 2 * MIB);
  assert.is(nd_pfn_layout(0, 2048 * MIB, "mem", 1024 * MIB).dataoff, 1024 * MIB);
  assert.is(nd_pfn_layout(0, 64 * MIB, "mem", 4096).dataoff, 2 * MIB);
  assert.is(nd_pfn_layout(0, 64 * MIB + 4096, "mem").end_trunc, 4096);
});

t("an info block is read back, and refused when a bit of it changes", () => {
  const info = nd_pfn_layout(0, 64 * MIB, "mem");
  const block = nd_pfn_make_block(info, new Uint8Array(16).fill(7), new Uint8Array(16));
  assert.equal(nd_pfn_validate(block, 0, 64 * MIB, 4096), info);
  block[100]! ^= 1;
  assert.throws(
    () => nd_pfn_validate(block, 0, 64 * MIB, 4096),
    (e: unknown) => e === ENODEV,
  );
});

t("an info block larger than its namespace is refused, not believed", () => {
  const info = nd_pfn_layout(0, 64 * MIB, "mem");
  const block = nd_pfn_make_block(info, new Uint8Array(16), new Uint8Array(16));
  assert.throws(
    () => nd_pfn_validate(block, 0, 32 * MIB, 4096),
    (e: unknown) => e === EINVAL,
  );
});

t("the checksum of zeroes is zero, and order counts", () => {
  const v = new DataView(new ArrayBuffer(16));
  assert.equal(nd_fletcher64(v, 0, 16), { lo: 0, hi: 0 });
  v.setUint32(0, 1, true);
  assert.equal(nd_fletcher64(v, 0, 16), { lo: 1, hi: 4 });
  v.setUint32(0, 0, true);
  v.setUint32(12, 0xffffffff, true);
  assert.equal(nd_fletcher64(v, 0, 16), { lo: 0xffffffff, hi: 0xffffffff });
});

t("a namespace written once is found again by its info block", () => {
  const kernel = drivers_kernel();
  const first = attach_pmem(kernel, { size: 64 * MIB, mode: "fsdax", map: "mem" });
  const again = nd_pfn_probe(kernel, first.region);
  assert.is(again?.dataoff, first.data_offset);
  const image = new Uint8Array(8192);
  kernel.phys.copy_from(first.region.start, image, 0, 8192);
  const second = attach_pmem(kernel, { size: 64 * MIB, image, name: "pmem7" });
  assert.is(second.mode, "fsdax");
  assert.is(second.disk.capacity, first.disk.capacity);
});

t("a raw namespace is all data and has no DAX unless its frames have descriptors", () => {
  const kernel = drivers_kernel();
  const raw = attach_pmem(kernel, { size: 16 * MIB });
  assert.is(bdev_nr_bytes(raw.disk.part0), 16 * MIB);
  assert.not(raw.disk.queue_dax);
  assert.ok(attach_pmem(kernel, { size: 16 * MIB, pages: true }).disk.queue_dax);
});

t("what a bio writes, a bio reads and direct access shows", () => {
  const kernel = drivers_kernel();
  const pmem = attach_pmem(kernel, { size: 16 * MIB, mode: "fsdax", map: "mem" });
  const data = new Uint8Array(4096).map((_, i) => i * 7);
  at_once(bdev_rw_bytes(pmem.disk.part0, REQ_OP_WRITE, 8192, data, 0, 4096));
  const back = new Uint8Array(4096);
  at_once(bdev_rw_bytes(pmem.disk.part0, REQ_OP_READ, 8192, back, 0, 4096));
  assert.equal(back, data);
  const out = range();
  dax_direct_access(pmem.dax_dev, 2, 1, DAX_ACCESS, out);
  kernel.phys.copy_from(out.paddr, back, 0, 4096);
  assert.equal(back, data);
  assert.is(out.pfn * 4096, out.paddr);
});

t("a partition's bio lands behind its start, and not beyond its end", () => {
  const kernel = drivers_kernel();
  const pmem = attach_pmem(kernel, { size: 16 * MIB });
  const part = add_partition(kernel, pmem.disk, 1, 2048, 1024);
  assert.is(part.bd_name, "pmem0p1");
  const data = new Uint8Array(512).fill(9);
  at_once(bdev_rw_bytes(part, REQ_OP_WRITE, 0, data, 0, 512));
  const back = new Uint8Array(512);
  at_once(bdev_rw_bytes(pmem.disk.part0, REQ_OP_READ, 2048 * 512, back, 0, 512));
  assert.equal(back, data);
  assert.throws(
    () => bdev_rw_bytes(part, REQ_OP_READ, 1024 * 512, back, 0, 512),
    (e: unknown) => e === EIO,
  );
  assert.ok(kernel.dmesg_text().includes("attempt to access beyond end of device"));
});

t("a bad sector fails reads and writes of it, and of nothing else", () => {
  const kernel = drivers_kernel();
  const pmem = attach_pmem(kernel, { size: 16 * MIB });
  badblocks_store(pmem.bb, "16 1\n");
  const b = new Uint8Array(4096);
  const io = (op: number, pos: number, len: number) =>
    bdev_rw_bytes(pmem.disk.part0, op, pos, b, 0, len);
  const fails = (op: number, pos: number, len: number) =>
    assert.throws(
      () => io(op, pos, len),
      (e: unknown) => e === EIO,
    );
  fails(REQ_OP_READ, 8192, 512);
  fails(REQ_OP_READ, 4096 + 512, 4096);
  fails(REQ_OP_WRITE, 8192, 4096);
  at_once(io(REQ_OP_READ, 8192 + 512, 512));
  at_once(io(REQ_OP_WRITE, 4096, 4096));
  assert.is(badblocks_show(pmem.bb), "16 1\n");
});

t("a device that can clear poison is repaired by a write", () => {
  const kernel = drivers_kernel();
  const pmem = attach_pmem(kernel, { size: 16 * MIB, clear_poison: true });
  pmem.bb.set(16, 8);
  at_once(bdev_rw_bytes(pmem.disk.part0, REQ_OP_WRITE, 8192, new Uint8Array(4096), 0, 4096));
  assert.is(pmem.bb.count, 0);
});

t("direct access ends before bad sectors, or fails on them", () => {
  const kernel = drivers_kernel();
  const pmem = attach_pmem(kernel, { size: 16 * MIB, pages: true });
  const out = range();
  dax_direct_access(pmem.dax_dev, 0, 100, DAX_ACCESS, out);
  assert.is(out.nr_pages, 100);
  pmem.bb.set(8 * 50, 1);
  assert.throws(
    () => dax_direct_access(pmem.dax_dev, 0, 100, DAX_ACCESS, out),
    (e: unknown) => e === EIO,
  );
  dax_direct_access(pmem.dax_dev, 0, 50, DAX_ACCESS, out);
  assert.is(out.nr_pages, 50);
  dax_direct_access(pmem.dax_dev, 40, 60, DAX_RECOVERY_WRITE, out);
  assert.is(out.nr_pages, 10);
  dax_direct_access(pmem.dax_dev, 50, 5, DAX_RECOVERY_WRITE, out);
  assert.is(out.nr_pages, 1);
  assert.throws(
    () => dax_direct_access(pmem.dax_dev, 16 * 256, 1, DAX_ACCESS, out),
    (e: unknown) => e === ERANGE,
  );
});

t("bad ranges are joined up to 512 sectors and split when cleared", () => {
  const bb = new badblocks();
  bb.set(100, 50);
  bb.set(150, 50);
  assert.is(badblocks_show(bb), "100 100\n");
  bb.set(1000, 600);
  assert.is(badblocks_show(bb), "100 100\n1000 512\n1512 88\n");
  bb.clear(120, 10);
  assert.is(badblocks_show(bb), "100 20\n130 70\n1000 512\n1512 88\n");
  assert.equal(bb.check(0, 101), { first_bad: 100, bad_sectors: 20 });
  assert.is(bb.check(120, 10), null);
  for (const text of ["", "5", "a b", "5 0", "5 1 x", "-1 5"]) {
    assert.throws(
      () => badblocks_store(bb, text),
      (e: unknown) => e === EINVAL,
    );
  }
});

t("a detached device answers ENXIO and its disk is gone", async () => {
  const kernel = drivers_kernel();
  const pmem = attach_pmem(kernel, { size: 16 * MIB, pages: true });
  await kernel.machine.in_task(kernel, "unbind", () => detach_pmem(pmem));
  assert.throws(
    () => dax_direct_access(pmem.dax_dev, 0, 1, DAX_ACCESS, range()),
    (e: unknown) => e === ENXIO,
  );
  assert.throws(
    () => dax_zero_page_range(pmem.dax_dev, 0, 1),
    (e: unknown) => e === ENXIO,
  );
  assert.throws(
    () => bdev_rw_bytes(pmem.disk.part0, REQ_OP_READ, 0, new Uint8Array(512), 0, 512),
    (e: unknown) => e === EIO,
  );
});

t.run();
