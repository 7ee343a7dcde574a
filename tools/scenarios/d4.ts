/**
 * tools/scenarios/d4.ts - D4: write() that holds invalidate_lock while it copies from a mapping of
 * the same file. MODEL. Linux takes invalidate_lock only while the block map changes (switch).
 */
import { scenario } from "daxlab";
import { model_file, model_mm } from "./model.ts";

export default scenario(
  {
    title: "invalidate_lock over the user copy",
    bare: true,
    switches: { "copy-unlocked": "the copy is made without invalidate_lock, as in Linux" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["copy-unlocked"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const mmap_lock = model_mm(m, "dd");
    const f = model_file(m, "file");
    const fault = async (): Promise<void> => {
      await mmap_lock.down_read();
      await f.invalidate_lock.down_read();
      f.invalidate_lock.up_read();
      mmap_lock.up_read();
    };
    m.spawn(m.kernel, "dd", async () => {
      await f.i_rwsem.down_write();
      await f.invalidate_lock.down_write();
      if (on.has("copy-unlocked")) f.invalidate_lock.up_write();
      await fault();
      if (!on.has("copy-unlocked")) f.invalidate_lock.up_write();
      f.i_rwsem.up_write();
    });
    m.spawn(m.kernel, "reader", fault);
    await m.run();
  },
);
