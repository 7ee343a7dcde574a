/**
 * tools/scenarios/poison-madvise.ts - a process fails a page of its own mapping (MADV_HWPOISON),
 * for which it pins it, while another cuts the file, syncs it, writes from the page, or fails it
 * too; on ext4, pmem and memory failure as they are.
 *
 * Truncation waits for the pin, which is dropped before memory failure waits for the DAX entry that
 * truncation or writeback may have locked.
 */
import { MADV_HWPOISON, scenario } from "daxlab";
import { ADDR, answer, PAGE, SMALL, type victim, victims } from "./victim.ts";

const OTHERS: Readonly<Record<string, (v: victim) => unknown>> = Object.freeze({
  truncate: (v) => v.p.ftruncate(v.fd, 0),
  fsync: (v) => v.p.fsync(v.fd),
  write: (v) => v.p.pwritev(v.fd, [{ addr: ADDR, len: PAGE }], PAGE),
  poison: (v) => v.p.madvise(ADDR, PAGE, MADV_HWPOISON),
});

export default scenario(
  {
    title: "a process's own memory failure against truncation, fsync, write and another",
    ...SMALL,
    switches: {
      fsync: "the other syncs the file instead of cutting it",
      write: "the other writes another page of the file from the one that fails",
      poison: "the other fails the same page",
    },
    verdicts: [
      { with: [], verdict: "ok" },
      { with: ["fsync"], verdict: "ok" },
      { with: ["write"], verdict: "ok" },
      { with: ["poison"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const [one, other] = await victims(m, 2, ["one", "other"]);
    const deed = [...on][0] ?? "truncate";
    const answers = await Promise.all([
      answer(one!.p, () => one!.p.madvise(ADDR, PAGE, MADV_HWPOISON)),
      answer(other!.p, () => OTHERS[deed]!(other!)),
    ]);
    const told = [one!, other!].map((v) => v.told.length);
    // with the page in its mapping nobody is passed over; a cut file has no page any more
    if (deed !== "truncate" && told.includes(0)) throw new Error("somebody was not told");
    return `${answers}, told ${told}`;
  },
);
