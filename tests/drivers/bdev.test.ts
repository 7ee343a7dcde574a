/**
 * tests/drivers/bdev.test.ts - opening block devices: modes, exclusive holders, block sizes,
 * partitions.
 */
import { BLK_OPEN_EXCL, BLK_OPEN_READ, BLK_OPEN_WRITE } from "../../kernel/include/blkdev.ts";
import type { block_device } from "../../kernel/include/blkdev.ts";
import { EACCES, EBUSY, EEXIST, EINVAL, ENOENT, ENXIO } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import {
  bd_may_claim,
  blkdev_get_by_dev,
  blkdev_get_by_path,
  blkdev_put,
  set_blocksize,
} from "../../drivers/block/bdev.ts";
import {
  add_disk,
  add_partition,
  delete_partition,
  del_gendisk,
} from "../../drivers/block/genhd.ts";
import { attach_pmem } from "../../drivers/nvdimm/pmem.ts";
import { assert, suite } from "../lib/suite.ts";
import { drivers_kernel, MIB } from "./kernel.ts";

const t = suite("drivers/block/bdev");
const throws = (fn: () => unknown, errno: Errno): void =>
  assert.throws(fn, (e: unknown) => e === errno);
const RW = BLK_OPEN_READ | BLK_OPEN_WRITE;
const EXCL = RW | BLK_OPEN_EXCL;

function with_partitions() {
  const kernel = drivers_kernel();
  const { disk } = attach_pmem(kernel, { size: 16 * MIB });
  const p1 = add_partition(kernel, disk, 1, 2048, 2048);
  const p2 = add_partition(kernel, disk, 2, 4096, 2048);
  return { kernel, disk, p1, p2 };
}
const open = (kernel: ReturnType<typeof drivers_kernel>, name: string, holder: unknown) =>
  blkdev_get_by_path(kernel, name, EXCL, holder);

t("a device is found by its name with and without /dev, or by number", () => {
  const { kernel, disk, p1 } = with_partitions();
  assert.is(blkdev_get_by_path(kernel, "/dev/pmem0", RW, null), disk.part0);
  assert.is(blkdev_get_by_path(kernel, "pmem0p1", RW, null), p1);
  assert.is(blkdev_get_by_dev(kernel, p1.bd_dev, RW, null), p1);
  throws(() => blkdev_get_by_path(kernel, "/dev/pmem9", RW, null), ENOENT);
  throws(() => blkdev_get_by_dev(kernel, 12345, RW, null), ENXIO);
});

t("an exclusive holder keeps others out, but may claim again itself", async () => {
  const { kernel, disk } = with_partitions();
  const fs = { name: "ext4" };
  open(kernel, "pmem0", fs);
  throws(() => open(kernel, "pmem0", { name: "xfs" }), EBUSY);
  open(kernel, "pmem0", fs);
  assert.is(disk.part0.bd_holders, 2);
  assert.ok(blkdev_get_by_path(kernel, "pmem0", RW, null), "not exclusive: anybody");
  await blkdev_put(disk.part0, EXCL);
  throws(() => open(kernel, "pmem0", { name: "xfs" }), EBUSY);
  await blkdev_put(disk.part0, EXCL);
  assert.ok(open(kernel, "pmem0", { name: "xfs" }));
});

t(
  "a claimed partition keeps the disk from being claimed, and the disk its partitions",
  async () => {
    const { kernel, disk, p1 } = with_partitions();
    open(kernel, "pmem0p1", { name: "a" });
    assert.is(disk.part0.bd_holder, bd_may_claim);
    throws(() => open(kernel, "pmem0", { name: "b" }), EBUSY);
    assert.ok(open(kernel, "pmem0p2", { name: "c" }));
    await blkdev_put(p1, EXCL);
    throws(() => open(kernel, "pmem0", { name: "b" }), EBUSY);
    await blkdev_put(disk.part_tbl.get(2)!, EXCL);
    assert.is(disk.part0.bd_holder, null);
    assert.ok(open(kernel, "pmem0", { name: "b" }));
    throws(() => open(kernel, "pmem0p1", { name: "a" }), EBUSY);
  },
);

t("a read-only device is not opened for writing, and the claim is not left behind", () => {
  const kernel = drivers_kernel();
  const { disk } = attach_pmem(kernel, { size: 16 * MIB, ro: true });
  throws(() => open(kernel, "pmem0", { name: "fs" }), EACCES);
  assert.is(disk.part0.bd_holder, null);
  assert.is(disk.part0.bd_openers, 0);
  assert.ok(blkdev_get_by_path(kernel, "pmem0", BLK_OPEN_READ, null));
});

t("block sizes are powers of two from the sector to the page", async () => {
  const kernel = drivers_kernel();
  const { disk } = attach_pmem(kernel, { size: 16 * MIB });
  const bdev = disk.part0;
  assert.is(bdev.bd_block_size, 4096);
  for (const bad of [0, 256, 513, 3000, 8192, -4096])
    throws(() => set_blocksize(bdev, bad), EINVAL);
  await set_blocksize(bdev, 1024);
  assert.is(bdev.bd_block_size, 1024);
  const big = add_disk(kernel, {
    disk_name: "sector4k",
    capacity: 8,
    logical_block_size: 4096,
    submit_bio: () => undefined,
  });
  throws(() => set_blocksize(big.part0, 1024), EINVAL);
});

t("partitions do not overlap, leave the disk or share a number", () => {
  const { kernel, disk } = with_partitions();
  throws(() => add_partition(kernel, disk, 3, 4000, 200), EBUSY);
  throws(() => add_partition(kernel, disk, 3, 32760, 100), ENXIO);
  throws(() => add_partition(kernel, disk, 2, 8192, 100), EEXIST);
  const p3: block_device = add_partition(kernel, disk, 3, 8192, 100);
  blkdev_get_by_path(kernel, "pmem0p3", RW, null);
  throws(() => delete_partition(kernel, disk, 3), EBUSY);
  assert.is(p3.bd_openers, 1);
});

t("a disk that is gone is not found and its name is free again", () => {
  const { kernel, disk } = with_partitions();
  del_gendisk(kernel, disk);
  throws(() => blkdev_get_by_path(kernel, "pmem0p1", RW, null), ENOENT);
  assert.is(attach_pmem(kernel, { size: 16 * MIB }).disk.disk_name, "pmem0");
});

t.run();
