/**
 * tools/scenarios/d7.ts - D7: a virtiofs fault waits for a free range with invalidate_lock held;
 * all ranges belong to its inode. MODEL. Linux answers "again", drops the lock, waits, retries
 * (switch).
 */
import { scenario } from "daxlab";
import { new_wait_queue } from "daxlab/kernel";
import { model_file, model_mm } from "./model.ts";

export default scenario(
  {
    title: "virtiofs: no free range for a fault",
    bare: true,
    switches: { retry: "invalidate_lock is dropped before waiting for a range, as in Linux" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["retry"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const mmap_lock = model_mm(m, "guest");
    const f = model_file(m, "file");
    const range = { free: 0 };
    const ranges = new_wait_queue(m, "fc->dax range");
    const worker = m.spawn(m.kernel, "virtiofs-reclaim", async () => {
      await f.invalidate_lock.down_write();
      range.free++;
      ranges.wake_up_all();
      f.invalidate_lock.up_write();
    });
    m.spawn(m.kernel, "guest", async () => {
      await mmap_lock.down_read();
      for (;;) {
        await f.invalidate_lock.down_read();
        ranges.touch();
        if (range.free > 0) break;
        if (on.has("retry")) f.invalidate_lock.up_read();
        await ranges.wait_event(() => range.free > 0, { owner: () => worker });
        if (!on.has("retry")) break;
      }
      range.free--;
      f.invalidate_lock.up_read();
      mmap_lock.up_read();
    });
    await m.run();
  },
);
