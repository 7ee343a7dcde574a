/**
 * tools/scenarios/d16.ts - D16: the journal's checkpoint runs inside a fault and outside of it.
 * MODEL of naive synchronous faults:
 *
 *   fault:       mmap_lock > j_checkpoint_mutex
 *   checkpoint:  j_checkpoint_mutex > page lock, and write(): page lock > mmap_lock
 *
 * With the fault retried outside mmap_lock (switch) the first edge is gone.
 */
import { scenario } from "daxlab";
import { lock_class, mutex } from "daxlab/kernel";
import { model_file, model_mm } from "./model.ts";

const CHECKPOINT = lock_class("&journal->j_checkpoint_mutex");

export default scenario(
  {
    title: "checkpoint inside and outside mmap_lock",
    bare: true,
    switches: {
      retry: "the fault drops mmap_lock, runs the checkpoint outside, and is retried",
      "no-checkpoint": "the fault runs no checkpoint: its log has room",
    },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["retry"], verdict: "ok" },
      { with: ["no-checkpoint"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const mmap_lock = model_mm(m, "app");
    const f = model_file(m, "file");
    const checkpoint = new mutex(m, CHECKPOINT, "pmem0");
    const run_checkpoint = async (): Promise<void> => {
      await checkpoint.lock();
      await f.page.lock();
      f.page.unlock();
      checkpoint.unlock();
    };

    m.spawn(m.kernel, "fault", async () => {
      await mmap_lock.down_read();
      if (on.has("no-checkpoint")) {
        mmap_lock.up_read();
        return;
      }
      if (on.has("retry")) mmap_lock.up_read();
      await run_checkpoint();
      if (on.has("retry")) await mmap_lock.down_read();
      mmap_lock.up_read();
    });
    m.spawn(m.kernel, "write", async () => {
      await f.page.lock();
      await mmap_lock.down_read();
      mmap_lock.up_read();
      f.page.unlock();
    });
    m.spawn(m.kernel, "mmap", async () => {
      await mmap_lock.down_write();
      mmap_lock.up_write();
    });
    await m.run();
  },
);
