/**
 * tools/scenarios/d12.ts - D12: a two-file operation waits for a busy page of the second file with
 * the first one's lock held; the pin's owner faults on the first. MODEL. XFS drops both locks and
 * starts again (switch).
 */
import { scenario } from "daxlab";
import { new_wait_queue, sched_point, type task_struct } from "daxlab/kernel";
import { model_file, model_mm } from "./model.ts";

export default scenario(
  {
    title: "busy page of the second inode",
    bare: true,
    switches: { restart: "both locks are dropped and the operation starts again, as in Linux" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["restart"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const mmap_lock = model_mm(m, "rdma");
    const one = model_file(m, "inode 12");
    const two = model_file(m, "inode 13");
    const idle = new_wait_queue(m, "page idle", "page 0 of inode 13");
    const pins: task_struct[] = [];
    const wait_idle = async (): Promise<void> => {
      await idle.wait_event(() => pins.length === 0, { owner: () => pins });
    };

    m.spawn(m.kernel, "exchange", async () => {
      for (;;) {
        await one.invalidate_lock.down_write();
        await two.invalidate_lock.down_write(1);
        idle.touch();
        if (pins.length === 0) break;
        two.invalidate_lock.up_write();
        if (on.has("restart")) one.invalidate_lock.up_write();
        await wait_idle();
        if (!on.has("restart")) one.invalidate_lock.up_write();
      }
      two.invalidate_lock.up_write();
      one.invalidate_lock.up_write();
    });
    m.spawn(m.kernel, "rdma", async () => {
      pins.push(m.kernel.current);
      idle.touch();
      await sched_point(m.kernel);
      await mmap_lock.down_read();
      await one.invalidate_lock.down_read();
      one.invalidate_lock.up_read();
      mmap_lock.up_read();
      pins.pop();
      idle.wake_up_all();
    });
    await m.run();
  },
);
