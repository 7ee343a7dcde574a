/**
 * tools/scenarios/d5.ts - D5: truncate waits for a busy page; who has the page pinned needs a fault
 * on the same file to let go. MODEL of the layout break; the real one drops invalidate_lock during
 * each sleep (switch). d5-real.ts runs the real one.
 */
import { scenario } from "daxlab";
import { new_wait_queue, sched_point, type task_struct } from "daxlab/kernel";
import { model_file, model_mm } from "./model.ts";

export default scenario(
  {
    title: "busy page under invalidate_lock",
    bare: true,
    switches: { "drop-lock": "invalidate_lock is dropped during the wait, as in Linux" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["drop-lock"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const mmap_lock = model_mm(m, "rdma");
    const f = model_file(m, "file");
    const idle = new_wait_queue(m, "page idle", "page 0 of file");
    const pins: task_struct[] = [];

    m.spawn(m.kernel, "truncate", async () => {
      await f.i_rwsem.down_write();
      await f.invalidate_lock.down_write();
      idle.touch();
      while (pins.length > 0) {
        if (on.has("drop-lock")) f.invalidate_lock.up_write();
        await idle.wait_event(() => pins.length === 0, { owner: () => pins });
        if (on.has("drop-lock")) await f.invalidate_lock.down_write();
      }
      f.invalidate_lock.up_write();
      f.i_rwsem.up_write();
    });
    m.spawn(m.kernel, "rdma", async () => {
      pins.push(m.kernel.current);
      idle.touch();
      await sched_point(m.kernel);
      await mmap_lock.down_read();
      await f.invalidate_lock.down_read();
      f.invalidate_lock.up_read();
      mmap_lock.up_read();
      pins.pop();
      idle.wake_up_all();
    });
    await m.run();
  },
);
