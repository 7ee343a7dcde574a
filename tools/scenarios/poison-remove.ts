/**
 * tools/scenarios/poison-remove.ts - a page goes bad while the driver is unbound from the device;
 * on ext4, pmem and memory failure as they are.
 *
 * Unbinding kills the DAX device (new uses fail, uses under way are waited for) and takes the page
 * descriptors away. Memory failure comes from a frame number and holds the page map by a reference,
 * which unbinding waits for. `holder`: somebody holds the device, hears of both and tells the users
 * of the page, inside the read section; who unbinds waits for that too before it forgets the
 * holder.
 */
import { scenario } from "daxlab";
import { dax_holder, dax_read, detach_pmem, fs_dax_claim } from "daxlab/kernel";
import { mf_dax_kill_procs, unguard } from "daxlab/kernel";
import { ADDR, answer, frame_of, PAGE, scrub, SMALL, victims } from "./victim.ts";

type device = Parameters<typeof fs_dax_claim>[0];

export default scenario(
  {
    title: "memory failure against removal of the device",
    ...SMALL,
    switches: {
      holder: "the device has a holder that knows whose page it is",
      "no-pgmap-ref": "guard: unbinding does not wait for users of the page descriptors",
      "no-drain": "guard: kill_dax() does not wait for the read sections",
    },
    verdicts: [
      { with: [], verdict: "ok" },
      { with: ["holder"], verdict: "ok" },
      { with: ["no-pgmap-ref"], verdict: "bug", findings: ["used a page descriptor that is gone"] },
      {
        with: ["holder", "no-drain"],
        verdict: "failed",
        findings: ["the holder is forgotten while it handles a failure"],
      },
    ],
  },
  async (m, on) => {
    if (on.has("no-pgmap-ref")) unguard(m.kernel, "mf_pgmap_ref");
    if (on.has("no-drain")) unguard(m.kernel, "dax_kill_drains");
    const [user] = await victims(m, 2, ["user"], []);
    const { p } = user!;
    await p.store(ADDR, new Uint8Array([1]));
    const pfn = frame_of(user!);
    const pmem = m.pmem[0]!;
    let gone = false;
    const ops = {
      notify_failure: async (dev: device, _off: number, _len: number, flags: number) => {
        if (gone) throw new Error("a holder is told when the device is gone");
        await mf_dax_kill_procs(user!.mapping, 0, 1, flags);
        await dax_read(dev, "holder_data");
        const held = dax_holder(dev) === m;
        if (!held) throw new Error("the holder is forgotten while it handles a failure");
      },
    };
    if (on.has("holder")) await m.in_task(m.kernel, "", () => fs_dax_claim(pmem.dax_dev, m, ops));
    const seen = { fault: "", scrub: "" };
    p.spawn("user", async (q) => {
      seen.fault = await answer(q, () => q.store(ADDR + PAGE, new Uint8Array([2])));
    });
    m.spawn(m.kernel, "scrub", async () => {
      seen.scrub = await scrub(m, pfn);
    });
    m.spawn(m.kernel, "unbind", async () => {
      await detach_pmem(pmem);
      gone = true;
    });
    await m.run();
    return `fault ${seen.fault}, memory failure ${seen.scrub}, told ${user!.told.length}`;
  },
);
