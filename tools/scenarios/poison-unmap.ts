/**
 * tools/scenarios/poison-unmap.ts - a page goes bad while the process that has it mapped unmaps it,
 * or ends; on ext4, pmem and memory failure as they are.
 *
 * Memory failure looks for processes under i_mmap_rwsem and tasklist_lock and sends signals after
 * both: the mapping or the process may be gone by then, and that is nobody's harm.
 */
import { scenario } from "daxlab";
import { ADDR, answer, frame_of, is_mapped, PAGE, scrub, SMALL, victims } from "./victim.ts";

export default scenario(
  {
    title: "memory failure against munmap and exit",
    ...SMALL,
    switches: { exit: "the process ends" },
    verdicts: [
      { with: [], verdict: "ok" },
      { with: ["exit"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const [going, staying] = await victims(m, 1, ["going", "staying"]);
    const pfn = frame_of(going!);
    const { p } = going!;
    const [result] = await Promise.all([
      m.in_task(m.kernel, "scrub", () => scrub(m, pfn)),
      on.has("exit") ? p.exit() : answer(p, () => p.munmap(ADDR, PAGE)),
    ]);
    if (result !== "recovered") throw new Error(`memory failure: ${result}`);
    if (staying!.told.length !== 1) throw new Error("who keeps the mapping is told, once");
    if (is_mapped(staying!)) throw new Error("who was told still has the page");
    return `told ${going!.told.length}`;
  },
);
