/**
 * tools/scenarios/d14.ts - D14: a device goes away while a DAX write() copies from a mapping whose
 * fault waits for the remover. MODEL around the real SRCU. Linux's fault looks at DAXDEV_ALIVE
 * under SRCU and gets SIGBUS instead of waiting (switch).
 */
import { scenario } from "daxlab";
import { lock_class, mutex, srcu } from "daxlab/kernel";

const DAX_SRCU = lock_class("dax_srcu");
const DEVICE_LOCK = lock_class("&dev->mutex");

export default scenario(
  {
    title: "device removal against a copy",
    bare: true,
    switches: {
      "alive-check": "the fault fails on a dying device instead of waiting, as in Linux",
    },
    verdicts: [
      { with: [], verdict: "deadlock" },
      { with: ["alive-check"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const dax_srcu = new srcu(m, DAX_SRCU, "pmem0");
    const device_lock = new mutex(m, DEVICE_LOCK, "pmem0");

    m.spawn(m.kernel, "dd", async () => {
      const idx = dax_srcu.read_lock();
      if (!on.has("alive-check")) {
        await device_lock.lock();
        device_lock.unlock();
      }
      dax_srcu.read_unlock(idx);
    });
    m.spawn(m.kernel, "ndctl", async () => {
      await device_lock.lock();
      await dax_srcu.synchronize();
      device_lock.unlock();
    });
    await m.run();
  },
);
