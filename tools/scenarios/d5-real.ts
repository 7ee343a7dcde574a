/**
 * tools/scenarios/d5-real.ts - D5 on the real code: ftruncate() of an ext4 DAX file waits for a
 * page that somebody holds a reference to, who faults on the same file before letting go. The
 * layout break drops invalidate_lock while it sleeps, so the fault gets through in every schedule.
 */
import { MAP_SHARED, O_CREAT, O_RDWR, PROT_READ, PROT_WRITE, scenario } from "daxlab";
import { get_page, lookup_entry, pfn_to_page, pte_pfn, put_page } from "daxlab/kernel";

const PAGE = 4096;

export default scenario(
  {
    title: "busy page against truncate in ext4",
    pmem: [{ size: "8M", mode: "fsdax" }],
    verdicts: [{ with: [], verdict: "ok" }],
  },
  async (m) => {
    const p = m.process("rdma");
    await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
    await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
    const fd = await p.open("/mnt/file", O_RDWR | O_CREAT, 0o644);
    await p.ftruncate(fd, 2 * PAGE);
    const addr = await p.mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    await p.store(addr, new Uint8Array([1]));
    const page = await p.in_kernel((k, t) => {
      const held = pfn_to_page(k, pte_pfn(lookup_entry(t.mm!, addr).entry))!;
      get_page(held);
      return held;
    });

    p.spawn("rdma", async (q) => {
      try {
        await q.load(addr + PAGE, 1);
      } catch (e) {
        if (q.signal_of(e)?.signo !== "SIGBUS") throw e;
      }
      await q.in_kernel(() => put_page(page));
    });
    p.spawn("truncate", (q) => q.ftruncate(fd, 0));
    await m.run();
    const { size } = await p.fstat(fd);
    if (size !== 0) throw new Error(`the file still has ${size} bytes`);
  },
);
