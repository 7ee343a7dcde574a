/**
 * tools/scenarios/d9.ts - D9: the poison walk of XFS against a copy-on-write fault on the poisoned,
 * shared block. MODEL, read from the source of 6.1; not known to have been reported, and invisible
 * to the kernel's validator, as neither buffers nor DAX entries are locks to it. Exploratory: the
 * switch is ours, no kernel has it.
 */
import { scenario } from "daxlab";
import { bit_lock, lock_class } from "daxlab/kernel";
import { model_file, model_mm } from "./model.ts";

const BUF = lock_class("xfs_buf");

export default scenario(
  {
    title: "memory failure against copy-on-write in XFS",
    bare: true,
    switches: { "try-entry": "the walk only tries the entry, and lets the AGF go when it fails" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["try-entry"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const mmap_lock = model_mm(m, "db");
    const f = model_file(m, "clone");
    const agf = new bit_lock(m, BUF, "AGF 0");

    m.spawn(m.kernel, "memory_failure", async () => {
      for (;;) {
        await agf.lock();
        if (!on.has("try-entry")) await f.entry.lock();
        else if (!f.entry.trylock()) {
          agf.unlock();
          await f.entry.wait_unlocked();
          continue;
        }
        f.entry.unlock();
        agf.unlock();
        return;
      }
    });
    m.spawn(m.kernel, "db", async () => {
      await mmap_lock.down_read();
      await f.invalidate_lock.down_read();
      await f.entry.lock();
      await agf.lock();
      agf.unlock();
      f.entry.unlock();
      f.invalidate_lock.up_read();
      mmap_lock.up_read();
    });
    await m.run();
  },
);
