/**
 * tools/scenarios/d15.ts - D15: an allocation under an open handle goes into reclaim, which writes
 * a page back. MODEL: the page's lock is held by somebody who wants a handle while a commit waits
 * for ours. Linux sets PF_MEMALLOC_NOFS with the handle (switch).
 */
import { scenario } from "daxlab";
import { journal_model, model_file } from "./model.ts";

export default scenario(
  {
    title: "reclaim under a handle",
    bare: true,
    switches: { nofs: "reclaim leaves filesystems alone under a handle, as in Linux" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["nofs"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const journal = new journal_model(m);
    const f = model_file(m, "file");
    m.spawn(m.kernel, "mkdir", async () => {
      await journal.start();
      if (!on.has("nofs")) {
        await f.page.lock();
        f.page.unlock();
      }
      journal.stop();
    });
    m.spawn(m.kernel, "flush", async () => {
      await f.page.lock();
      await journal.start();
      journal.stop();
      f.page.unlock();
    });
    m.spawn(m.kernel, "sync", () => journal.commit_and_wait(journal.tid));
    await m.run();
  },
);
