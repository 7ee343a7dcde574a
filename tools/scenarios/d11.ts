/**
 * tools/scenarios/d11.ts - D11: two reflinks in opposite directions that take the two files' locks
 * in the order of their arguments. MODEL. XFS takes the lower inode number first (switch).
 */
import { scenario } from "daxlab";
import { type file_model, model_file } from "./model.ts";

export default scenario(
  {
    title: "two inodes by argument order",
    bare: true,
    switches: { "by-number": "the lower inode number first, as in Linux" },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["by-number"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const inodes = [model_file(m, "inode 12"), model_file(m, "inode 13")] as const;
    const remap = async (from: 0 | 1, to: 0 | 1): Promise<void> => {
      let order: file_model[] = [inodes[from], inodes[to]];
      if (on.has("by-number") && from > to) order = order.reverse();
      for (const f of order) await f.invalidate_lock.down_write(order.indexOf(f));
      for (const f of order) f.invalidate_lock.up_write();
    };
    m.spawn(m.kernel, "reflink", () => remap(0, 1));
    m.spawn(m.kernel, "reflink-back", () => remap(1, 0));
    await m.run();
  },
);
