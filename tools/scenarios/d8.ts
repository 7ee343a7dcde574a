/**
 * tools/scenarios/d8.ts - D8: a virtiofs write reclaims in line and sleeps for a free range
 * although its own inode has ranges: nobody else can take these away. MODEL. Linux sleeps only when
 * the inode has none, and else reclaims one of its own (switch).
 */
import { scenario } from "daxlab";
import { lock_class, new_wait_queue, rw_semaphore } from "daxlab/kernel";
import { model_file } from "./model.ts";

const DAX_SEM = lock_class("&fi->dax->sem");

export default scenario(
  {
    title: "virtiofs: in-line reclaim that sleeps",
    bare: true,
    switches: { "own-first": "sleeps only when its inode has no range, as in Linux" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["own-first"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const f = model_file(m, "file");
    const sem = new rw_semaphore(m, DAX_SEM, "file");
    const range = { free: 0, owned: 1 };
    const ranges = new_wait_queue(m, "fc->dax range");
    const reclaim_one = async (): Promise<void> => {
      await sem.down_write();
      if (range.owned > 0) {
        range.owned--;
        range.free++;
        ranges.wake_up_all();
      }
      sem.up_write();
    };

    const worker = m.spawn(m.kernel, "virtiofs-reclaim", async () => {
      await f.invalidate_lock.down_write();
      await reclaim_one();
      f.invalidate_lock.up_write();
    });
    m.spawn(m.kernel, "guest-write", async () => {
      await f.i_rwsem.down_write();
      await f.invalidate_lock.down_write();
      ranges.touch();
      if (range.free === 0 && on.has("own-first")) await reclaim_one();
      await ranges.wait_event(() => range.free > 0, { owner: () => worker });
      range.free--;
      f.invalidate_lock.up_write();
      f.i_rwsem.up_write();
    });
    await m.run();
  },
);
