/**
 * tools/scenarios/poison-holder.ts - S3.16: two filesystems come and go as holders of one DAX
 * device, a page goes bad, and the device is removed; on the real drivers/dax.
 *
 * Invariants: whoever is told holds the device at that moment; and who has claimed it and has not
 * begun to let go can be told. Linux 6.1 to 6.17 clears the holder before the operations: the old
 * holder may hear of what is the next one's, and the next one may be left without operations.
 *
 * A release by compare-and-swap does not wait for a notification at work, and the seed's rwsem
 * does: with a handler that takes a lock of its filesystem under which that lets go (as XFS does to
 * freeze itself before removal, from 6.8 on), that is a deadlock.
 */
import { scenario } from "daxlab";
import {
  alloc_dax,
  dax_holder,
  dax_holder_notify_failure,
  dax_read,
  fs_dax_claim,
  fs_dax_release,
  is_errno,
  kill_dax,
  lock_class,
  rw_semaphore,
  set_dax_holder_rwsem,
  unguard,
} from "daxlab/kernel";
import type { Machine } from "daxlab";

const S_UMOUNT = lock_class("&type->s_umount_key");

type device = Parameters<typeof fs_dax_claim>[0];

class filesystem {
  readonly name: string;
  readonly dev: device;
  held = false;
  heard = 0;
  private readonly s_umount: rw_semaphore | null;
  private readonly ops = {
    notify_failure: async (): Promise<void> => {
      if (dax_holder(this.dev) !== this) throw new Error("told after its release");
      this.heard++;
      await this.s_umount?.down_write();
      this.s_umount?.up_write();
      await dax_read(this.dev, "holder_data");
      if (this.held && dax_holder(this.dev) !== this) throw new Error("forgotten at work");
    },
  };

  constructor(m: Machine, name: string, dev: device, freezes: boolean) {
    this.name = name;
    this.dev = dev;
    this.s_umount = freezes ? new rw_semaphore(m, S_UMOUNT, name) : null;
  }

  async mount_and_umount(): Promise<void> {
    this.held = await fs_dax_claim(this.dev, this, this.ops);
    if (!this.held) return;
    await this.s_umount?.down_write();
    await dax_read(this.dev, "holder_ops");
    const holds = dax_holder(this.dev) === this;
    if (holds && this.dev.holder_ops !== this.ops) throw new Error("holds without operations");
    this.held = false;
    await fs_dax_release(this.dev, this);
    this.s_umount?.up_write();
  }
}

/** Removes the device, or tells it of a failure; the errors are answers. */
async function answer(fn: () => Promise<void>): Promise<string> {
  try {
    await fn();
    return "told";
  } catch (e) {
    if (!is_errno(e)) throw e;
    return e.code;
  }
}

export default scenario(
  {
    title: "register, notify, release, kill",
    bare: true,
    switches: {
      rwsem: "the seed's form: a rwsem of the device instead of SRCU and compare-and-swap",
      "holder-first": "guard: a release clears the holder before the operations, as up to 6.17",
      "no-drain": "guard: kill_dax() does not wait for the read sections",
      freezes: "the handler takes s_umount, under which the filesystem lets go",
    },
    verdicts: [
      { with: [], verdict: "ok" },
      { with: ["rwsem"], verdict: "ok" },
      {
        with: ["holder-first"],
        verdict: "failed",
        findings: ["told after its release", "holds without operations"],
      },
      // under the write lock the order does not matter
      { with: ["rwsem", "holder-first"], verdict: "ok" },
      {
        with: ["no-drain"],
        verdict: "failed",
        findings: [
          "forgotten at work",
          "told after its release",
          "holds without operations",
          "operations left behind",
        ],
      },
      { with: ["freezes"], verdict: "ok" },
      {
        with: ["freezes", "rwsem"],
        verdict: "deadlock",
        findings: ["&dax_dev->holder_rwsem; notify waits for &type->s_umount_key"],
      },
    ],
  },
  async (m, on) => {
    if (on.has("holder-first")) unguard(m.kernel, "dax_ops_before_holder");
    if (on.has("no-drain")) unguard(m.kernel, "dax_kill_drains");
    const dev = alloc_dax(m.kernel, null, null, 0, "pmem0");
    if (on.has("rwsem")) set_dax_holder_rwsem(dev);
    const mounts = ["a", "b"].map((n) => new filesystem(m, n, dev, on.has("freezes")));
    for (const fs of mounts) m.spawn(m.kernel, fs.name, () => fs.mount_and_umount());
    const seen: string[] = [];
    m.spawn(m.kernel, "notify", async () => {
      seen.push(await answer(() => dax_holder_notify_failure(dev, 0, 4096, 0)));
    });
    m.spawn(m.kernel, "kill", () => kill_dax(dev));
    await m.run();
    if (dev.holder_ops !== null || dax_holder(dev) !== null) {
      throw new Error(`${dev.holder_ops ? "operations" : "a holder"} left behind`);
    }
    return `${seen}, ${mounts.map((fs) => `${fs.name} ${fs.heard}`)}`;
  },
);
