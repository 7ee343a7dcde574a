/**
 * tools/scenarios/d17.ts - D17: a PMD entry is downgraded to make room for a page of data, while
 * another task faults the range in again. MODEL of one entry and one page table; d17-real.ts runs
 * the real code. The kernel keeps the entry locked from the unmap to the drop, so the fault waits;
 * with the switch it does not, and the reader keeps a mapping of what the file no longer has.
 */
import { scenario } from "daxlab";
import { sched_point } from "daxlab/kernel";
import { model_file } from "./model.ts";

export default scenario(
  {
    title: "PMD against PTE fault",
    bare: true,
    switches: { "unlocked-drop": "the entry is not locked between the unmap and the drop" },
    verdicts: [
      { with: [], verdict: "ok" },
      { with: ["unlocked-drop"], verdict: "failed" },
    ],
  },
  async (m, on) => {
    const f = model_file(m, "file");
    const mapping = { entry: "huge zero page", reader: "huge zero page" };

    m.spawn(m.kernel, "writer", async () => {
      await f.entry.lock();
      mapping.reader = "nothing";
      if (on.has("unlocked-drop")) f.entry.unlock();
      await sched_point(m.kernel);
      if (on.has("unlocked-drop")) await f.entry.lock();
      mapping.entry = "page of data";
      f.entry.unlock();
    });
    m.spawn(m.kernel, "reader", async () => {
      await f.entry.lock();
      if (mapping.reader === "nothing") mapping.reader = mapping.entry;
      f.entry.unlock();
    });
    await m.run();
    if (mapping.reader !== "nothing" && mapping.reader !== mapping.entry) {
      throw new Error(`the reader maps the ${mapping.reader}, the file has a ${mapping.entry}`);
    }
  },
);
