/**
 * tools/scenarios/d13.ts - D13: a rwsem read twice by one task, a writer queued in between. The
 * rwsem is the real one; who takes it is a MODEL of a fault inside something that holds mmap_lock.
 */
import { scenario } from "daxlab";
import { model_mm } from "./model.ts";

export default scenario(
  {
    title: "mmap_lock read twice",
    bare: true,
    switches: { "drop-first": "the first hold is given up before the second" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["drop-first"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const mmap_lock = model_mm(m, "app");
    m.spawn(m.kernel, "get_user_pages", async () => {
      await mmap_lock.down_read();
      if (on.has("drop-first")) mmap_lock.up_read();
      await mmap_lock.down_read();
      mmap_lock.up_read();
      if (!on.has("drop-first")) mmap_lock.up_read();
    });
    m.spawn(m.kernel, "munmap", async () => {
      await mmap_lock.down_write();
      mmap_lock.up_write();
    });
    await m.run();
  },
);
