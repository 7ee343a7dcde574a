import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../../kernel/include/mman.ts";
import { FMODE_READ, FMODE_WRITE } from "../../kernel/include/fs.ts";
import type { file } from "../../kernel/include/fs.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { signal_text } from "../../kernel/signal.ts";
import { dup_mm, exit_mm } from "../../mm/fork.ts";
import { get_user_pages } from "../../mm/gup.ts";
import { pfn_mkclean_range, unmap_mapping_range } from "../../mm/memory.ts";
import { page_address, page_ref_count, put_page } from "../../mm/page.ts";
import { nr_allocated_pages } from "../../mm/phys.ts";
import { pagemap_words, smaps_of } from "../../mm/smaps.ts";
import { sys_mmap, sys_munmap } from "../../mm/mmap.ts";
import { sys_mprotect } from "../../mm/mprotect.ts";
import { type access_fault, user_load, user_store } from "../../mm/uaccess.ts";
import { assert, suite } from "../lib/suite.ts";
import { PAGE, PMD, boot, bytes_of, cached_file, dax_file, text_of } from "./lib/fake.ts";

const t = suite("mm/fault");
const RW = PROT_READ | PROT_WRITE;

async function load(task: task_struct, addr: number, len: number): Promise<string> {
  const b = new Uint8Array(len);
  await user_load(task, addr, b);
  return text_of(b);
}

/** "SIGBUS BUS_ADRERR at=ADDR after=N" of a failing access. */
async function fault_of(fn: () => unknown): Promise<string> {
  try {
    await fn();
  } catch (e) {
    const f = e as access_fault;
    if (!f.info) throw e;
    return `${signal_text(f.info)} at=0x${f.info.addr!.toString(16)} after=${f.completed}`;
  }
  return "no fault";
}

async function map(
  task: task_struct,
  f: file | null,
  len: number,
  prot: number,
  flags: number,
  off = 0,
) {
  return sys_mmap(task, 0, len, prot, f ? flags : flags | MAP_ANONYMOUS, f, off);
}

/** Runs of equal words: "none*2,pres*1". */
function runs(words: string[]): string {
  const out: [string, number][] = [];
  for (const w of words) {
    if (out.at(-1)?.[0] === w) out.at(-1)![1]++;
    else out.push([w, 1]);
  }
  return out.map(([w, n]) => `${w}*${n}`).join(",");
}

t(
  "anonymous memory reads as zeros from the zero page and gets a page at the first store",
  async () => {
    const w = boot();
    await w.run(async (task) => {
      const m = await map(task, null, 4 * PAGE, RW, MAP_PRIVATE);
      const before = nr_allocated_pages(w.kernel);
      assert.is(await load(task, m + PAGE - 2, 4), "\0\0\0\0");
      assert.is(nr_allocated_pages(w.kernel), before);
      await user_store(task, m + PAGE - 2, bytes_of("abcd"));
      assert.is(nr_allocated_pages(w.kernel), before + 2);
      assert.is(await load(task, m + PAGE - 2, 4), "abcd");
      assert.is(runs(await pagemap_words(task, m, 4)), "pres*2,none*2");
      await sys_munmap(task, m, 4 * PAGE);
      assert.is(nr_allocated_pages(w.kernel), before);
      assert.is(task.mm!.rss_anon, 0);
    });
  },
);

t(
  "an access that nothing maps or allows is SIGSEGV with its address and what was done before",
  async () => {
    const w = boot();
    await w.run(async (task) => {
      const m = await map(task, null, 2 * PAGE, RW, MAP_PRIVATE);
      await sys_mprotect(task, m + PAGE, PAGE, PROT_READ);
      const store = await fault_of(() => user_store(task, m + PAGE - 3, bytes_of("123456")));
      assert.is(store, `SIGSEGV SEGV_ACCERR at=0x${(m + PAGE).toString(16)} after=3`);
      await sys_mprotect(task, m + PAGE, PAGE, PROT_NONE);
      const none = await fault_of(() => load(task, m + PAGE, 1));
      assert.is(none, `SIGSEGV SEGV_ACCERR at=0x${(m + PAGE).toString(16)} after=0`);
      await sys_munmap(task, m, 2 * PAGE);
      const gone = await fault_of(() => load(task, m, 1));
      assert.is(gone, `SIGSEGV SEGV_MAPERR at=0x${m.toString(16)} after=0`);
    });
  },
);

t("a DAX mapping: read fault, write after read, first write, with the flags of each", async () => {
  const w = boot();
  const d = dax_file(w, 16 * PAGE);
  await w.run(async (task) => {
    const m = await map(task, d.file, 16 * PAGE, RW, MAP_SHARED);
    w.kernel.phys.copy_to(d.region.start, bytes_of("media"), 0, 5);
    assert.is(await load(task, m, 5), "media");
    await user_store(task, m, bytes_of("M"));
    await user_store(task, m + PAGE, bytes_of("first"));
    await user_store(task, m + PAGE + 100, bytes_of("again"));
    const U = "ALLOW_RETRY|KILLABLE|USER|INTERRUPTIBLE|ORIG_PTE_VALID";
    const H = "ALLOW_RETRY|KILLABLE|USER|INTERRUPTIBLE";
    assert.equal(
      d.log.filter((l) => !l.startsWith("pmd")),
      [`pte ${U} @0`, `mkwrite WRITE|MKWRITE|${U} @0`, `pte WRITE|${U} @1`],
    );
    // The table is there already (the program's library), so no huge fault is even tried.
    assert.equal(
      d.log.filter((l) => l.startsWith("pmd")),
      [],
    );
    assert.ok(H);
    const out = new Uint8Array(5);
    w.kernel.phys.copy_from(d.region.start, out, 0, 5);
    assert.is(text_of(out), "Media");
  });
});

t("write-protecting a frame makes every mapping fault again, and flushes the TLB", async () => {
  const w = boot();
  const d = dax_file(w, 16 * PAGE);
  await w.run(async (task) => {
    const a = await map(task, d.file, 16 * PAGE, RW, MAP_SHARED);
    const b = await map(task, d.file, 8 * PAGE, RW, MAP_SHARED, 2 * PAGE);
    await user_store(task, a + 3 * PAGE, bytes_of("a"));
    await user_store(task, b + PAGE, bytes_of("b"));
    d.log.length = 0;
    let n = 0;
    for (const vma of d.file.f_mapping.i_mmap) n += pfn_mkclean_range(d.base_pfn + 3, 1, 3, vma);
    assert.is(n, 2);
    await user_store(task, a + 3 * PAGE, bytes_of("c"));
    await user_store(task, b + PAGE, bytes_of("d"));
    assert.is(d.log.filter((l) => l.startsWith("mkwrite")).length, 2);
    let again = 0;
    for (const vma of d.file.f_mapping.i_mmap)
      again += pfn_mkclean_range(d.base_pfn + 4, 2, 4, vma);
    assert.is(again, 0);
  });
});

t("one fault maps 2 MiB when address, offset and blocks agree; a store needs its own", async () => {
  const w = boot();
  const d = dax_file(w, 2 * PMD);
  await w.run(async (task) => {
    const m = await map(task, d.file, 2 * PMD, RW, MAP_SHARED);
    assert.is(m % PMD, 0, "mmap chose a congruent address");
    await load(task, m + 5 * PAGE, 1);
    await user_store(task, m + 7 * PAGE, bytes_of("x"));
    await load(task, m + 100 * PAGE, 1);
    await user_store(task, m + PMD, bytes_of("y"));
    const H = "ALLOW_RETRY|KILLABLE|USER|INTERRUPTIBLE";
    assert.equal(d.log, [`pmd ${H} @5`, `pmd WRITE|${H} @7`, `pmd WRITE|${H} @512`]);
    assert.is(runs(await pagemap_words(task, m, 1024)), "file*1024");
    const s = (await smaps_of(task, m))!;
    assert.equal([s.fields.Rss, s.fields.Private_Dirty], [8, 8]);
    assert.is(s.vm_flags.join(","), "rd,wr,sh,mr,mw,me,ms,sd,hg");
  });
});

t("a change of protection in the middle of a huge entry takes it away", async () => {
  const w = boot();
  const d = dax_file(w, 2 * PMD);
  await w.run(async (task) => {
    const m = await map(task, d.file, 2 * PMD, RW, MAP_SHARED);
    await user_store(task, m, bytes_of("a"));
    await user_store(task, m + PMD, bytes_of("b"));
    await sys_mprotect(task, m + PMD / 2, PAGE, PROT_READ);
    assert.is(runs(await pagemap_words(task, m, 1024)), "none*512,file*512");
    d.log.length = 0;
    assert.is(await load(task, m, 1), "a");
    await user_store(task, m + 2 * PAGE, bytes_of("c"));
    const H = "ALLOW_RETRY|KILLABLE|USER|INTERRUPTIBLE";
    assert.equal(d.log, [`pmd ${H} @0`, `pte ${H} @0`, `pte WRITE|${H}|ORIG_PTE_VALID @2`]);
    const at = (m + PMD / 2).toString(16);
    const f = await fault_of(() => user_store(task, m + PMD / 2, bytes_of("no")));
    assert.is(f, `SIGSEGV SEGV_ACCERR at=0x${at} after=0`);
  });
});

t("a hole of 2 MiB is one entry of zeros; a private store splits it to one page", async () => {
  const w = boot();
  const d = dax_file(w, 2 * PMD, { hole: true });
  await w.run(async (task) => {
    const m = await map(task, d.file, 2 * PMD, RW, MAP_PRIVATE);
    assert.is(await load(task, m + 100, 4), "\0\0\0\0");
    assert.is(runs(await pagemap_words(task, m, 4)), "file*4");
    await user_store(task, m + PAGE, bytes_of("private"));
    assert.is(await load(task, m + PAGE, 8), "private\0");
    assert.is(await load(task, m + 2 * PAGE, 1), "\0");
    assert.is(runs(await pagemap_words(task, m, 4)), "none*1,pres*2,none*1");
    const s = (await smaps_of(task, m))!;
    assert.equal([s.fields.Rss, s.fields.Anonymous, s.fields.Private_Dirty], [4, 4, 4]);
    assert.ok(w.kernel.phys.is_zero(d.region.start, d.region.size), "nothing reached the file");
  });
});

t("a private mapping of a DAX file reads the file and keeps its own stores", async () => {
  const w = boot();
  const d = dax_file(w, 16 * PAGE);
  w.kernel.phys.copy_to(d.region.start, bytes_of("media"), 0, 5);
  await w.run(async (task) => {
    const m = await map(task, d.file, 16 * PAGE, RW, MAP_PRIVATE);
    assert.is(await load(task, m, 5), "media");
    await user_store(task, m + 1, bytes_of("E"));
    assert.is(await load(task, m, 5), "mEdia");
    await user_store(task, m + 3 * PAGE, bytes_of("z"));
    const out = new Uint8Array(5);
    w.kernel.phys.copy_from(d.region.start, out, 0, 5);
    assert.is(text_of(out), "media");
    // Truncation takes private copies, hole punching does not.
    await unmap_mapping_range(d.file.f_mapping, 0, PAGE, false);
    assert.is(await load(task, m, 5), "mEdia");
    await unmap_mapping_range(d.file.f_mapping, 0, PAGE, true);
    assert.is(await load(task, m, 5), "media");
  });
});

t("beyond the end of the file an access is SIGBUS", async () => {
  const w = boot();
  const d = dax_file(w, 2 * PAGE);
  const c = cached_file(w, 5000);
  await w.run(async (task) => {
    for (const f of [d.file, c.file]) {
      const m = await map(task, f, 4 * PAGE, RW, MAP_SHARED);
      const at = (m + 2 * PAGE).toString(16);
      const got = await fault_of(() => load(task, m + 2 * PAGE - 1, 2));
      assert.is(got, `SIGBUS BUS_ADRERR at=0x${at} after=1`);
    }
  });
});

t("a cached file: reads map pages around, stores dirty the page and go to the disk", async () => {
  const w = boot();
  const c = cached_file(w, 32 * PAGE);
  c.disk.set(bytes_of("disk"), 3 * PAGE);
  await w.run(async (task) => {
    const m = await map(task, c.file, 32 * PAGE, RW, MAP_SHARED);
    assert.is(await load(task, m + 3 * PAGE, 4), "disk");
    // Each fault read what was missing without mmap_lock, began anew and mapped 64 KiB of what is
    // cached, but not the page with the mark of the window read: the 25th of 32.
    const around = (index: number): number[] => {
      const span = 16 * PAGE;
      const first = Math.max(0, Math.floor((m + index * PAGE) / span) * span - m) / PAGE;
      return Array.from({ length: 16 }, (_, i) => first + i).filter((i) => i < 32 && i !== 24);
    };
    const mapped = async (): Promise<number[]> => {
      const words = await pagemap_words(task, m, 32);
      return [...words.keys()].filter((i) => words[i] === "file");
    };
    assert.equal(await mapped(), around(3));
    await load(task, m + 17 * PAGE, 1);
    const all = [...new Set([...around(3), ...around(17)])];
    assert.equal(
      await mapped(),
      all.sort((x, y) => x - y),
    );
    await user_store(task, m + 3 * PAGE, bytes_of("D"));
    assert.is(c.file.private_data.times, 1, "page_mkwrite updates the times");
    assert.is(c.disk[3 * PAGE], "d".charCodeAt(0));
    await c.file.f_mapping.a_ops.writepages!(c.file.f_mapping, {
      nr_to_write: 100,
      range_start: 0,
      range_end: 2 ** 50,
      sync_mode: 1,
    });
    assert.is(c.disk[3 * PAGE], "D".charCodeAt(0));
    await user_store(task, m + 3 * PAGE, bytes_of("E"));
    assert.is(c.file.private_data.times, 2, "writeback made the page read-only again");
  });
});

t("MAP_FIXED over a mapping replaces it, and what is left keeps its entries", async () => {
  const w = boot();
  const d = dax_file(w, 16 * PAGE);
  await w.run(async (task) => {
    const m = await map(task, null, 8 * PAGE, RW, MAP_PRIVATE);
    for (let i = 0; i < 8; i++) await user_store(task, m + i * PAGE, bytes_of(String(i)));
    const flags = MAP_SHARED | MAP_FIXED;
    await sys_mmap(task, m + 2 * PAGE, 3 * PAGE, PROT_READ, flags, d.file, 0);
    assert.is(await load(task, m + PAGE, 1), "1");
    assert.is(await load(task, m + 2 * PAGE, 1), "\0");
    assert.is(await load(task, m + 5 * PAGE, 1), "5");
    assert.is(task.mm!.mmap.filter((v) => v.vm_start >= m && v.vm_end <= m + 8 * PAGE).length, 3);
  });
});

t(
  "a dirty entry becomes writable again by mprotect without a fault, a clean one does not",
  async () => {
    const w = boot();
    const d = dax_file(w, 16 * PAGE);
    await w.run(async (task) => {
      const m = await map(task, d.file, 16 * PAGE, RW, MAP_SHARED);
      await user_store(task, m, bytes_of("x"));
      await load(task, m + PAGE, 1);
      await sys_mprotect(task, m, 16 * PAGE, PROT_READ);
      assert.ok((await fault_of(() => user_store(task, m, bytes_of("y")))).includes("SEGV_ACCERR"));
      await sys_mprotect(task, m, 16 * PAGE, RW);
      d.log.length = 0;
      await user_store(task, m, bytes_of("z"));
      assert.equal(d.log, []);
      await user_store(task, m + PAGE, bytes_of("z"));
      assert.is(d.log.length, 1);
    });
  },
);

t("a page table entry changed behind the TLB's back goes on being used until a flush", async () => {
  const w = boot();
  await w.run(async (task) => {
    const m = await map(task, null, PAGE, RW, MAP_PRIVATE);
    await user_store(task, m, bytes_of("x"));
    const mm = task.mm!;
    const { pte_offset, pte_index, geometry, flush_tlb_page } = await import("../../mm/pgtable.ts");
    const g = geometry(mm);
    const table = pte_offset(mm, g, m)!;
    const e = table[pte_index(g, m)]!;
    table[pte_index(g, m)] = 0;
    assert.is(await load(task, m, 1), "x", "stale translation");
    flush_tlb_page(mm, m);
    assert.is(await load(task, m, 1), "\0", "after the flush the access faults");
    table[pte_index(g, m)] = e;
  });
});

t("a file that may not be written cannot be mapped shared and writable", async () => {
  const w = boot();
  const d = dax_file(w, PAGE);
  d.file.f_mode = FMODE_READ;
  await w.run(async (task) => {
    await assert.rejects(() => map(task, d.file, PAGE, RW, MAP_SHARED), "EACCES");
    const m = await map(task, d.file, PAGE, PROT_READ, MAP_SHARED);
    await assert.rejects(() => sys_mprotect(task, m, PAGE, RW), "EACCES");
    await map(task, d.file, PAGE, RW, MAP_PRIVATE);
    d.file.f_mode = FMODE_WRITE;
    await assert.rejects(() => map(task, d.file, PAGE, PROT_WRITE, MAP_SHARED), "EACCES");
  });
});

t("two threads fault on one page: one entry, both stores there", async () => {
  const w = boot();
  const c = cached_file(w, 16 * PAGE);
  let m = 0;
  await w.run(async (task) => {
    m = await map(task, c.file, 16 * PAGE, RW, MAP_SHARED);
    const mm = task.mm!;
    const done: string[] = [];
    for (const [name, off] of [
      ["a", 0],
      ["b", 1],
    ] as const) {
      w.machine.spawn(w.kernel, name, async (thread) => {
        thread.mm = mm;
        await user_store(thread, m + 5 * PAGE + off, bytes_of(name));
        done.push(name);
      });
    }
    await w.machine.sched.yield();
    while (done.length < 2) await w.machine.sched.yield();
    assert.is(await load(task, m + 5 * PAGE, 2), "ab");
    assert.is(mm.rss_file, 1);
  });
});

t("a pinned page outlives its mapping, and a child gets a copy of it", async () => {
  const w = boot();
  const d = dax_file(w, 16 * PAGE);
  await w.run(async (task) => {
    const m = await map(task, null, PAGE, RW, MAP_PRIVATE);
    await user_store(task, m, bytes_of("pinned"));
    const [p] = await get_user_pages(task.mm!, m, 1, false);
    const child = w.machine.new_thread(w.kernel, "child");
    child.mm = await dup_mm(task);
    await user_store(task, m, bytes_of("PINNED"));
    assert.is(text_of(page_address(p!).subarray(0, 6)), "PINNED", "the store went to the pin");
    assert.is(await load(child, m, 6), "pinned");
    await exit_mm(child);
    await sys_munmap(task, m, PAGE);
    assert.is(text_of(page_address(p!).subarray(0, 6)), "PINNED");
    put_page(p!);
    const s = await map(task, d.file, 16 * PAGE, RW, MAP_SHARED);
    const [dev] = await get_user_pages(task.mm!, s + 3 * PAGE, 1, true);
    assert.equal([dev!.pfn, page_ref_count(dev!)], [d.base_pfn + 3, 2]);
    put_page(dev!);
    assert.is(page_ref_count(dev!), 1);
    await assert.rejects(() => get_user_pages(task.mm!, 0x10000000, 1, false), "EFAULT");
  });
});

t("shared anonymous memory is one object for all its mappings", async () => {
  const w = boot();
  const before = nr_allocated_pages(w.kernel);
  await w.run(async (task) => {
    const m = await map(task, null, 4 * PAGE, RW, MAP_SHARED);
    await user_store(task, m + PAGE, bytes_of("shm"));
    await sys_mprotect(task, m + 2 * PAGE, PAGE, PROT_READ);
    await sys_munmap(task, m, PAGE);
    assert.is(await load(task, m + PAGE, 3), "shm");
    await sys_munmap(task, m, 4 * PAGE);
    assert.is(nr_allocated_pages(w.kernel), before);
  });
});

t.run();
