/**
 * tools/scenarios/d10.ts - D10: a process on a frozen filesystem faults for write; its other thread
 * calls mmap() before it thaws. The real code: ext4, DAX, freeze levels, mmap_lock. The fault
 * sleeps with mmap_lock held for read until somebody thaws, mmap() wants it for write.
 */
import { MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, scenario } from "daxlab";

const RW = PROT_READ | PROT_WRITE;

export default scenario(
  {
    title: "a frozen filesystem and the thread that would thaw it",
    pmem: [{ size: "8M", mode: "fsdax" }],
    switches: {
      "thaw-first": "the thread thaws before it calls mmap()",
      "somebody-else": "another process thaws too",
    },
    verdicts: [
      { with: [], verdict: "hang" },
      { with: ["thaw-first"], verdict: "ok" },
      { with: ["somebody-else"], verdict: "ok" },
    ],
  },
  async (m, on) => {
    const p = m.process("backup");
    await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
    await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
    const fd = await p.open("/mnt/file", O_RDWR | O_CREAT, 0o644);
    await p.ftruncate(fd, 8192);
    const addr = await p.mmap(0, 8192, RW, MAP_SHARED, fd, 0);
    const dir = await p.open("/mnt", 0);
    const other = m.process("admin");
    const other_dir = await other.open("/mnt", 0);
    await p.fifreeze(dir);

    p.spawn("fault", (q) => q.store(addr, new Uint8Array([1])));
    p.spawn("thaw", async (q) => {
      if (on.has("thaw-first")) await q.fithaw(dir);
      await q.mmap(0, 4096, RW, MAP_SHARED, fd, 4096);
      // whoever comes second finds it thawed
      if (!on.has("thaw-first") && !on.has("somebody-else")) await q.fithaw(dir);
    });
    if (on.has("somebody-else")) other.spawn("admin", (q) => q.fithaw(other_dir));
    await m.run();
  },
);
