/**
 * tools/scenarios/d6.ts - D6: an exclusive waiter for a DAX entry goes away without locking it and
 * without waking the next: that one sleeps for ever. MODEL of the entry's wait queue; the real
 * put_unlocked_entry() passes the wake-up on (switch).
 */
import { scenario } from "daxlab";
import { new_wait_queue, sched_point } from "daxlab/kernel";

export default scenario(
  {
    title: "a wake-up that is not passed on",
    bare: true,
    switches: { "pass-on": "who looked but does not lock wakes the next, as in Linux" },
    verdicts: [
      { with: [], verdict: "hang" },
      { with: ["pass-on"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const queue = new_wait_queue(m, "DAX entry", "index 0 of file");
    const entry = { locked: true };
    const get_unlocked = async (): Promise<void> => {
      await queue.wait_event(() => !entry.locked, { exclusive: true });
    };
    const lock = async (): Promise<void> => {
      await get_unlocked();
      entry.locked = true;
    };
    const unlock = (): void => {
      entry.locked = false;
      queue.wake_up();
    };

    m.spawn(m.kernel, "fault", async () => {
      await sched_point(m.kernel);
      unlock();
    });
    m.spawn(m.kernel, "hole-read", async () => {
      await get_unlocked();
      if (on.has("pass-on")) queue.wake_up();
    });
    m.spawn(m.kernel, "fsync", async () => {
      await lock();
      unlock();
    });
    await m.run();
  },
);
