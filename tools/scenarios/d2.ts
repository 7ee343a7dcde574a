/**
 * tools/scenarios/d2.ts - D2: a MAP_SYNC fault that starts its fsync with the handle still open.
 * MODEL of ext4's fault and jbd2. The real fault closes the handle first (switch).
 */
import { scenario } from "daxlab";
import { journal_model, model_file, model_mm } from "./model.ts";

export default scenario(
  {
    title: "waiting for a commit with an open handle",
    bare: true,
    switches: { "close-handle": "the handle is closed before the fsync, as in Linux" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["close-handle"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const journal = new journal_model(m);
    const mmap_lock = model_mm(m, "db");
    const f = model_file(m, "file");
    m.spawn(m.kernel, "db", async () => {
      await mmap_lock.down_read();
      await f.invalidate_lock.down_read();
      await journal.start();
      await f.entry.lock();
      f.entry.unlock();
      const tid = journal.tid;
      if (on.has("close-handle")) journal.stop();
      await journal.commit_and_wait(tid);
      if (!on.has("close-handle")) journal.stop();
      f.invalidate_lock.up_read();
      mmap_lock.up_read();
    });
    m.spawn(m.kernel, "creat", async () => {
      await journal.start();
      journal.stop();
    });
    await m.run();
  },
);
