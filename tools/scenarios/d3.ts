/**
 * tools/scenarios/d3.ts - D3: a fault handler that takes i_rwsem.
 * MODEL. Linux's fault handlers take invalidate_lock for read instead (switch), which write() does
 * not hold while it copies.
 */
import { scenario } from "daxlab";
import { type file_model, model_file, model_mm } from "./model.ts";

export default scenario(
  {
    title: "i_rwsem in the fault handler",
    bare: true,
    switches: {
      "invalidate-lock": "the fault takes invalidate_lock instead, as in Linux",
      self: "one task alone: it writes to a file from its own mapping of it",
    },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["self"], verdict: "deadlock" },
      { with: ["invalidate-lock"], verdict: "ok" },
      { with: ["invalidate-lock", "self"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const mmap_lock = model_mm(m, "cp");
    const files = [model_file(m, "a"), model_file(m, "b")] as const;

    const fault = async (f: file_model): Promise<void> => {
      await mmap_lock.down_read();
      if (on.has("invalidate-lock")) {
        await f.invalidate_lock.down_read();
        f.invalidate_lock.up_read();
      } else {
        await f.i_rwsem.down_read();
        f.i_rwsem.up_read();
      }
      mmap_lock.up_read();
    };
    const write = async (to: file_model, from: file_model): Promise<void> => {
      await to.i_rwsem.down_write();
      await fault(from);
      to.i_rwsem.up_write();
    };

    const [a, b] = files;
    if (on.has("self")) m.spawn(m.kernel, "cp", () => write(a, a));
    else {
      m.spawn(m.kernel, "cp", () => write(a, b));
      m.spawn(m.kernel, "cp-back", () => write(b, a));
    }
    await m.run();
  },
);
