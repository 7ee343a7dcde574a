/**
 * tools/scenarios/pin-truncate.ts - a process pins two pages of its DAX file, as for direct IO, and
 * lets go, while another cuts the file; on ext4 and pmem as they are.
 *
 * Truncation frees no block whose page somebody uses: it unmaps, finds the page, and sleeps until
 * it is idle, without invalidate_lock. Dropping the last pin wakes it; no wake-up may be lost, and
 * whoever pins after the scan finds no page any more.
 */
import { scenario } from "daxlab";
import { dax_page_idle_queue, pin_user_pages, unguard, unpin_user_pages } from "daxlab/kernel";
import { ADDR, answer, SMALL, victims } from "./victim.ts";

export default scenario(
  {
    title: "pinned pages against truncation",
    ...SMALL,
    switches: {
      "no-layout-break": "guard: truncation does not wait for pinned pages, as before 4.18",
      "no-wake": "nobody is woken when a page falls idle",
    },
    verdicts: [
      { with: [], verdict: "ok" },
      { with: ["no-layout-break"], verdict: "bug", findings: ["truncation of a busy page"] },
      { with: ["no-wake"], verdict: "hang", findings: ["truncate waits for idle DAX page"] },
    ],
  },
  async (m, on) => {
    if (on.has("no-layout-break")) unguard(m.kernel, "dax_layout_break");
    const [io, cut] = await victims(m, 2, ["io", "truncate"]);
    if (on.has("no-wake")) dax_page_idle_queue(m.kernel).wake_up_all = () => 0;
    let pinned = "";
    io!.p.spawn("io", async (p) => {
      pinned = await answer(p, () =>
        p.in_kernel(async (k, t) => {
          const pages = await pin_user_pages(t.mm!, ADDR, 2, true);
          unpin_user_pages(k, pages);
        }),
      );
    });
    cut!.p.spawn("truncate", (p) => p.ftruncate(cut!.fd, 0));
    await m.run();
    const { size, blocks } = await cut!.p.fstat(cut!.fd);
    if (size !== 0 || blocks !== 0) throw new Error(`${size} bytes, ${blocks} sectors left`);
    return pinned;
  },
);
