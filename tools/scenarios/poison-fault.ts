/**
 * tools/scenarios/poison-fault.ts - a page goes bad while a process that has not touched it yet
 * does; on ext4, pmem and memory failure as they are.
 *
 * Invariant: whoever had the page when it was taken away was told. Memory failure keeps the DAX
 * entry of the page locked from looking who has it until it is unmapped, and a fault wants that
 * lock: so it comes before or after.
 */
import { scenario } from "daxlab";
import { unguard } from "daxlab/kernel";
import { ADDR, answer, frame_of, is_mapped, scrub, SMALL, victims } from "./victim.ts";

export default scenario(
  {
    title: "memory failure against a fault",
    ...SMALL,
    switches: {
      "no-entry-lock": "guard: memory failure does not lock the page's DAX entry",
    },
    verdicts: [
      { with: [], verdict: "ok" },
      {
        with: ["no-entry-lock"],
        verdict: "failed",
        findings: ["late lost the page and was not told"],
      },
    ],
  },
  async (m, on) => {
    if (on.has("no-entry-lock")) unguard(m.kernel, "mf_dax_entry_lock");
    const [user, late] = await victims(m, 1, ["user", "late"], ["user"]);
    const pfn = frame_of(user!);
    late!.p.spawn("late", (p) => answer(p, () => p.store(ADDR, new Uint8Array([2]))));
    m.spawn(m.kernel, "scrub", () => scrub(m, pfn));
    await m.run();
    if (user!.told.length !== 1) throw new Error(`user was told ${user!.told.length} times`);
    const { length } = late!.told;
    const kept = is_mapped(late!);
    if (length === 0 && !kept) throw new Error("late lost the page and was not told");
    if (length > 1) throw new Error("late was told twice");
    return `late told ${length}, ${kept ? "has" : "lost"} the page`;
  },
);
