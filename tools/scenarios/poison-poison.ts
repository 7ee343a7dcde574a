/**
 * tools/scenarios/poison-poison.ts - one page goes bad twice at once (a scrub and an access, say);
 * on ext4, pmem and memory failure as they are.
 *
 * mf_mutex lets one failure be handled at a time, so a holder hears of one after the other. For the
 * page's users the lock of the DAX entry alone would do: the second failure finds them gone.
 */
import { scenario } from "daxlab";
import { dax_read, fs_dax_claim, mf_dax_kill_procs, unguard } from "daxlab/kernel";
import { frame_of, scrub, SMALL, victims } from "./victim.ts";

export default scenario(
  {
    title: "memory failure against another of the same page",
    ...SMALL,
    switches: {
      holder: "the device has a holder that knows whose page it is",
      "no-mutex": "guard: mf_mutex",
      "no-entry-lock": "guard: memory failure does not lock the page's DAX entry",
    },
    verdicts: [
      { with: [], verdict: "ok" },
      { with: ["holder"], verdict: "ok" },
      { with: ["no-mutex"], verdict: "ok" },
      { with: ["no-entry-lock"], verdict: "ok" },
      {
        with: ["holder", "no-mutex"],
        verdict: "failed",
        findings: ["the holder handles two failures at once"],
      },
      {
        with: ["no-mutex", "no-entry-lock"],
        verdict: "failed",
        findings: ["told N times of one page"],
      },
    ],
  },
  async (m, on) => {
    if (on.has("no-mutex")) unguard(m.kernel, "mf_mutex");
    if (on.has("no-entry-lock")) unguard(m.kernel, "mf_dax_entry_lock");
    const [user] = await victims(m, 1, ["user"]);
    const pfn = frame_of(user!);
    const { dax_dev } = m.pmem[0]!;
    let at_work = 0;
    const ops = {
      notify_failure: async (_d: unknown, _off: number, _len: number, flags: number) => {
        if (++at_work > 1) throw new Error("the holder handles two failures at once");
        await dax_read(dax_dev, "holder_data");
        await mf_dax_kill_procs(user!.mapping, 0, 1, flags);
        await dax_read(dax_dev, "holder_data");
        at_work--;
      },
    };
    if (on.has("holder")) await m.in_task(m.kernel, "", () => fs_dax_claim(dax_dev, m, ops));
    const results: string[] = [];
    for (const name of ["scrub", "mce"]) {
      m.spawn(m.kernel, name, async () => void results.push(await scrub(m, pfn)));
    }
    await m.run();
    const { length } = user!.told;
    if (length !== 1) throw new Error(`told ${length} times of one page`);
    return results.join(", ");
  },
);
