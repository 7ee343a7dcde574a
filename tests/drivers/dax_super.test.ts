/**
 * tests/drivers/dax_super.test.ts - the life of a DAX device, its holder, and who hears of
 * failures.
 */
import { DAX_ACCESS } from "../../kernel/include/dax.ts";
import type { dax_device, dax_range } from "../../kernel/include/dax.ts";
import { EINVAL, EIO, ENXIO, EOPNOTSUPP, ERANGE, EUCLEAN } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { new_wait_queue } from "../../kernel/sched/wait.ts";
import { add_partition } from "../../drivers/block/genhd.ts";
import {
  alloc_dax,
  dax_direct_access,
  dax_holder,
  dax_holder_notify_failure,
  dax_read_lock,
  dax_read_unlock,
  dax_zero_page_range,
  daxdev_mapping_supported,
  fs_dax_get_by_bdev,
  fs_put_dax,
  kill_dax,
} from "../../drivers/dax/super.ts";
import { attach_pmem } from "../../drivers/nvdimm/pmem.ts";
import { assert, suite } from "../lib/suite.ts";
import { drivers_kernel, MIB } from "./kernel.ts";

const t = suite("drivers/dax/super");

const throws = (fn: () => unknown, errno: Errno): void =>
  assert.throws(fn, (e: unknown) => e === errno);

async function rejects(p: Promise<unknown>, errno: Errno): Promise<void> {
  let got: unknown = "no error";
  try {
    await p;
  } catch (err) {
    got = err;
  }
  assert.is(got, errno);
}

const fsdax = (kernel: Kernel) =>
  attach_pmem(kernel, { size: 16 * MIB, mode: "fsdax", map: "mem" });
const no_ops = { notify_failure: async () => {} };

t("direct access tells four errors apart", () => {
  const kernel = drivers_kernel();
  const out: dax_range = { nr_pages: 0, paddr: 0, pfn: 0 };
  const dev = alloc_dax(
    kernel,
    null,
    {
      direct_access: (_d, _pgoff, nr, _mode, o) => {
        o.nr_pages = nr > 4 ? 4 : 0;
      },
      zero_page_range: () => undefined,
    },
    0,
  );
  throws(() => dax_direct_access(null, 0, 1, DAX_ACCESS, out), EOPNOTSUPP);
  throws(() => dax_direct_access(dev, 0, -1, DAX_ACCESS, out), EINVAL);
  throws(() => dax_direct_access(dev, 0, 1, DAX_ACCESS, out), ERANGE);
  dax_direct_access(dev, 0, 9, DAX_ACCESS, out);
  assert.is(out.nr_pages, 4);
  dev.alive = false;
  throws(() => dax_direct_access(dev, 0, 9, DAX_ACCESS, out), ENXIO);
});

t("only one page is zeroed at a time", () => {
  const kernel = drivers_kernel();
  const { dax_dev } = fsdax(kernel);
  throws(() => dax_zero_page_range(dax_dev, 0, 2), EIO);
  assert.is(dax_zero_page_range(dax_dev, 0, 1), undefined);
});

t("one holder a device: a second is told there is no device, the first one too", () => {
  const kernel = drivers_kernel();
  const { disk, dax_dev } = fsdax(kernel);
  const fs = { name: "first" };
  assert.is(fs_dax_get_by_bdev(disk.part0, fs, no_ops)?.dax_dev, dax_dev);
  assert.is(dax_holder(dax_dev), fs);
  assert.is(fs_dax_get_by_bdev(disk.part0, { name: "second" }, no_ops), null);
  assert.is(fs_dax_get_by_bdev(disk.part0, fs, no_ops), null);
  assert.ok(fs_dax_get_by_bdev(disk.part0), "who claims nothing may still use it");
  fs_put_dax(dax_dev, { name: "stranger" });
  assert.is(dax_holder(dax_dev), fs);
  fs_put_dax(dax_dev, fs);
  assert.is(dax_holder(dax_dev), null);
  assert.ok(fs_dax_get_by_bdev(disk.part0, { name: "third" }, no_ops));
});

t("users without a holder may be many", () => {
  const kernel = drivers_kernel();
  const { disk } = fsdax(kernel);
  assert.ok(fs_dax_get_by_bdev(disk.part0));
  assert.ok(fs_dax_get_by_bdev(disk.part0));
});

t("partitions share the disk's device and differ in their start", () => {
  const kernel = drivers_kernel();
  const { disk, dax_dev } = fsdax(kernel);
  const p1 = fs_dax_get_by_bdev(add_partition(kernel, disk, 1, 2048, 2048));
  const p2 = fs_dax_get_by_bdev(add_partition(kernel, disk, 2, 4096, 2048));
  assert.is(p1?.dax_dev, dax_dev);
  assert.is(p2?.dax_dev, dax_dev);
  assert.is(p2!.start_off - p1!.start_off, 2048 * 512);
});

t("a partition that is not page aligned has no DAX, and the log says so", () => {
  const kernel = drivers_kernel();
  const { disk } = fsdax(kernel);
  assert.is(fs_dax_get_by_bdev(add_partition(kernel, disk, 1, 2047, 8)), null);
  assert.is(fs_dax_get_by_bdev(add_partition(kernel, disk, 2, 4096, 7)), null);
  assert.ok(kernel.dmesg_text().includes("pmem0p1: error: unaligned partition for dax"));
});

t("a failure is answered ENXIO, EOPNOTSUPP or as the holder says", async () => {
  const kernel = drivers_kernel();
  const { disk, dax_dev } = fsdax(kernel);
  await kernel.machine.in_task(kernel, "test", async () => {
    await rejects(dax_holder_notify_failure(dax_dev, 0, 4096, 0), EOPNOTSUPP);
    const seen: number[][] = [];
    const ops = {
      notify_failure: async (_d: dax_device, off: number, len: number, flags: number) => {
        seen.push([off, len, flags]);
        if (off > 0) throw EUCLEAN;
      },
    };
    fs_dax_get_by_bdev(disk.part0, { name: "fs" }, ops);
    await dax_holder_notify_failure(dax_dev, 0, 4096, 3);
    await rejects(dax_holder_notify_failure(dax_dev, 8192, 4096, 0), EUCLEAN);
    assert.equal(seen, [
      [0, 4096, 3],
      [8192, 4096, 0],
    ]);
    await kill_dax(dax_dev);
    await rejects(dax_holder_notify_failure(dax_dev, 0, 4096, 0), ENXIO);
  });
});

t("a holder without operations yet answers EOPNOTSUPP", async () => {
  const kernel = drivers_kernel();
  const { disk, dax_dev } = fsdax(kernel);
  fs_dax_get_by_bdev(disk.part0, { name: "fs" }, null);
  await kernel.machine.in_task(kernel, "test", () =>
    rejects(dax_holder_notify_failure(dax_dev, 0, 1, 0), EOPNOTSUPP),
  );
});

t(
  "killing tells the holder that all is lost, then waits for readers, then forgets it",
  async () => {
    const kernel = drivers_kernel();
    const { machine } = kernel;
    const { disk, dax_dev } = fsdax(kernel);
    const log: string[] = [];
    const gate = new_wait_queue(machine, "gate");
    let open = false;
    fs_dax_get_by_bdev(
      disk.part0,
      { name: "fs" },
      {
        notify_failure: async (d, off, len) => {
          log.push(`notified ${off} ${len === Number.MAX_SAFE_INTEGER} alive=${d.alive}`);
        },
      },
    );
    machine.spawn(kernel, "reader", async () => {
      const id = dax_read_lock(kernel);
      const p = gate.wait_event(() => open);
      if (p) await p;
      log.push(`reader done, holder ${dax_holder(dax_dev) !== null}, alive=${dax_dev.alive}`);
      dax_read_unlock(kernel, id);
    });
    machine.spawn(kernel, "killer", async () => {
      await kill_dax(dax_dev);
      log.push(`killed, holder ${dax_holder(dax_dev) !== null}`);
    });
    machine.spawn(kernel, "opener", async () => {
      open = true;
      gate.wake_up_all();
    });
    await machine.run();
    assert.equal(log, [
      "notified 0 true alive=true",
      "reader done, holder true, alive=false",
      "killed, holder false",
    ]);
    assert.is(fs_dax_get_by_bdev(disk.part0), null);
    fs_put_dax(dax_dev, { name: "fs" });
  },
);

t("MAP_SYNC needs a DAX file and a synchronous device", () => {
  const kernel = drivers_kernel();
  const { dax_dev } = fsdax(kernel);
  assert.ok(daxdev_mapping_supported(true, true, dax_dev));
  assert.ok(daxdev_mapping_supported(false, false, null));
  assert.not(daxdev_mapping_supported(false, true, dax_dev));
  const virtio = attach_pmem(kernel, { size: 16 * MIB, pages: true, domain: "none" });
  assert.not(daxdev_mapping_supported(true, true, virtio.dax_dev));
});

t.run();
