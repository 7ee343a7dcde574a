/**
 * tools/scenarios/poison-truncate.ts - a page goes bad while its file is cut (or a hole is punched)
 * and written again elsewhere; on ext4, pmem and memory failure as they are.
 *
 * Memory failure comes from the frame: which file it is of, and where, it reads from the page, and
 * nothing but RCU keeps that true. So it locks the DAX entry, and under the lock of the file's
 * index looks whether the page is still of that file; truncation waits for a locked entry.
 * Invariant: nobody is told of a page that is not at that place of its file.
 */
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, scenario } from "daxlab";
import { unguard } from "daxlab/kernel";
import { ADDR, answer, frame_of, PAGE, scrub, SMALL, victims } from "./victim.ts";

export default scenario(
  {
    title: "memory failure against truncation",
    ...SMALL,
    switches: {
      punch: "a hole is punched instead",
      "no-entry-lock": "guard: memory failure does not lock the page's DAX entry",
      "no-recheck": "guard: with the index locked, it does not look at the page again",
    },
    verdicts: [
      { with: [], verdict: "ok" },
      { with: ["punch"], verdict: "ok" },
      {
        with: ["no-entry-lock"],
        verdict: "failed",
        findings: ["told of a page that it does not have"],
      },
      { with: ["no-recheck"], verdict: "bug", findings: ["the page lost its file"] },
      { with: ["punch", "no-recheck"], verdict: "bug", findings: ["the page lost its file"] },
    ],
  },
  async (m, on) => {
    if (on.has("no-entry-lock")) unguard(m.kernel, "mf_dax_entry_lock");
    if (on.has("no-recheck")) unguard(m.kernel, "dax_lock_page_recheck");
    const [app] = await victims(m, 1, ["app"]);
    const pfn = frame_of(app!);
    app!.p.spawn("app", async (p) => {
      await answer(p, async () => {
        if (on.has("punch")) {
          await p.fallocate(app!.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
        } else {
          await p.ftruncate(app!.fd, 0);
          await p.ftruncate(app!.fd, PAGE);
        }
        await p.store(ADDR, new Uint8Array([2]));
      });
    });
    let result = "";
    m.spawn(m.kernel, "scrub", async () => {
      result = await scrub(m, pfn);
    });
    await m.run();
    return `${result}, told ${app!.told.length}`;
  },
);
