/**
 * tools/scenarios/d17-real.ts - D17 on the real code: one process has a huge zero page over a hole
 * of 2 MiB in an ext4 DAX file, or is about to; another stores into the range. Whatever the order,
 * both read what was stored in the end, and nobody keeps the zero page.
 */
import { MAP_FIXED, MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, scenario } from "daxlab";

const RW = PROT_READ | PROT_WRITE;
const HUGE = 2 * 1024 * 1024;
const ADDR = 0x7f00_0000_0000;

export default scenario(
  {
    title: "PMD against PTE fault in ext4",
    pmem: [{ size: "16M", mode: "fsdax" }],
    verdicts: [{ with: [], verdict: "ok" }],
  },
  async (m) => {
    const p = m.process("reader");
    await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
    await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
    const processes = [p, m.process("writer")];
    for (const q of processes) {
      const fd = await q.open("/mnt/file", O_RDWR | O_CREAT, 0o644);
      await q.ftruncate(fd, HUGE);
      await q.mmap(ADDR, HUGE, RW, MAP_SHARED | MAP_FIXED, fd, 0);
    }
    const [reader, writer] = processes;
    reader!.spawn("reader", async (q) => void (await q.load(ADDR, 1)));
    writer!.spawn("writer", (q) => q.store(ADDR + 4096, new Uint8Array([7])));
    await m.run();
    for (const q of processes) {
      const [byte] = await q.load(ADDR + 4096, 1);
      if (byte !== 7) throw new Error(`${q.task.comm} reads ${byte} where 7 was stored`);
    }
  },
);
