import fc from "../lib/property.ts";
import {
  MADV_DONTFORK,
  MADV_DONTNEED,
  MADV_HUGEPAGE,
  MADV_NOHUGEPAGE,
  MADV_POPULATE_READ,
  MADV_POPULATE_WRITE,
  MADV_RANDOM,
  MADV_REMOVE,
  MADV_WIPEONFORK,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_FIXED_NOREPLACE,
  MAP_LOCKED,
  MAP_POPULATE,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_SYNC,
  MREMAP_FIXED,
  MREMAP_MAYMOVE,
  MS_ASYNC,
  MS_SYNC,
  PROT_NONE,
  PROT_READ,
  PROT_WRITE,
} from "../../kernel/include/mman.ts";
import { S_APPEND, S_SWAPFILE } from "../../kernel/include/fs.ts";
import { make_cred } from "../../kernel/cred.ts";
import { VM_SHARED } from "../../kernel/include/mm_types.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { dup_mm, exit_mm } from "../../mm/fork.ts";
import { sys_madvise } from "../../mm/madvise.ts";
import { sys_mincore } from "../../mm/mincore.ts";
import { count_locked, sys_mlock, sys_munlock } from "../../mm/mlock.ts";
import { mmput, sys_mmap, sys_munmap } from "../../mm/mmap.ts";
import { sys_mprotect } from "../../mm/mprotect.ts";
import { sys_mremap } from "../../mm/mremap.ts";
import { sys_msync } from "../../mm/msync.ts";
import { nr_allocated_pages } from "../../mm/phys.ts";
import { pagemap_words, smaps_of } from "../../mm/smaps.ts";
import { user_load, user_store } from "../../mm/uaccess.ts";
import { assert, suite } from "../lib/suite.ts";
import { PAGE, PMD, boot, bytes_of, cached_file, dax_file, text_of } from "./lib/fake.ts";

const t = suite("mm/mmap");
const RW = PROT_READ | PROT_WRITE;
const K = 1024;

async function load(task: task_struct, addr: number, len: number): Promise<string> {
  const b = new Uint8Array(len);
  await user_load(task, addr, b);
  return text_of(b);
}
const anon = (task: task_struct, len: number, prot = RW, flags = MAP_PRIVATE) =>
  sys_mmap(task, 0, len, prot, flags | MAP_ANONYMOUS, null, 0);

t("mmap refuses what the kernel refuses, with the same errors", async () => {
  const w = boot();
  const { file: f } = cached_file(w, 16 * K);
  f.f_inode.i_sb.s_maxbytes = 2 ** 44 - 4096;
  await w.run(async (task) => {
    const go = (len: number, flags: number, off = 0, addr = 0, file: typeof f | null = f) =>
      sys_mmap(task, addr, len, PROT_READ, flags, file, off);
    await assert.rejects(() => go(0, MAP_SHARED), "EINVAL");
    await assert.rejects(() => go(4 * K, MAP_SHARED, 100), "EINVAL");
    await assert.rejects(() => go(4 * K, 0), "EINVAL");
    await assert.rejects(() => go(4 * K, MAP_SHARED, 0, 0, null), "EBADF");
    await assert.rejects(() => go(4 * K, MAP_SHARED, 2 ** 63 - 4096), "EOVERFLOW");
    await assert.rejects(() => go(2 ** 64 - 4096, MAP_SHARED), "ENOMEM");
    await assert.rejects(() => go(4 * K, MAP_SHARED | MAP_FIXED, 0, 1), "EINVAL");
    // 3 is MAP_SHARED_VALIDATE; 0x4000000 a flag of old that it knows.
    await go(4 * K, MAP_SHARED | MAP_PRIVATE);
    await go(4 * K, MAP_SHARED_VALIDATE | 0x4000000);
    await go(8 * K, MAP_SHARED | MAP_FIXED, 0, 0x7ffffffff000);
    const m = await go(16 * K, MAP_SHARED);
    await assert.rejects(() => go(4 * K, MAP_SHARED | MAP_FIXED_NOREPLACE, 0, m), "EEXIST");
    await assert.rejects(() => go(4 * K, MAP_SHARED_VALIDATE | MAP_SYNC), "EOPNOTSUPP");
    await go(4 * K, MAP_SHARED | MAP_SYNC);
    const sync_anon = MAP_SHARED_VALIDATE | MAP_SYNC | MAP_ANONYMOUS;
    await assert.rejects(() => go(4 * K, sync_anon, 0, 0, null), "EINVAL");
    f.f_inode.i_flags |= S_SWAPFILE;
    const rw = (flags: number) => sys_mmap(task, 0, 4 * K, RW, flags, f, 0);
    await assert.rejects(() => rw(MAP_SHARED), "ETXTBSY");
    f.f_inode.i_flags = S_APPEND;
    await assert.rejects(() => rw(MAP_SHARED), "EACCES");
    await rw(MAP_PRIVATE);
  });
});

t("munmap, mprotect, msync and madvise check their arguments", async () => {
  const w = boot();
  const { file: f } = cached_file(w, 16 * K);
  await w.run(async (task) => {
    const m = await sys_mmap(task, 0, 16 * K, RW, MAP_SHARED, f, 0);
    await assert.rejects(() => sys_munmap(task, m + 1, 4 * K), "EINVAL");
    await assert.rejects(() => sys_munmap(task, m, 0), "EINVAL");
    await assert.rejects(() => sys_munmap(task, m, 2 ** 64 - 4096), "EINVAL");
    await assert.rejects(() => sys_mprotect(task, m + 1, 4 * K, PROT_READ), "EINVAL");
    await assert.rejects(() => sys_mprotect(task, m, 1 << 20, PROT_READ), "ENOMEM");
    await sys_mprotect(task, m, 16 * K, RW);
    await assert.rejects(() => sys_msync(task, m + 1, 4 * K, MS_SYNC), "EINVAL");
    await assert.rejects(() => sys_msync(task, m, 4 * K, MS_SYNC | MS_ASYNC), "EINVAL");
    await assert.rejects(() => sys_msync(task, m, 4 * K, 8), "EINVAL");
    await sys_msync(task, m, 0, MS_SYNC);
    await assert.rejects(() => sys_msync(task, m, 64 << 20, MS_SYNC), "ENOMEM");
    await assert.rejects(() => sys_madvise(task, m + 1, 4 * K, MADV_DONTNEED), "EINVAL");
    await assert.rejects(() => sys_madvise(task, m, 4 * K, 99), "EINVAL");
    await sys_munmap(task, m, 16 * K);
    await sys_munmap(task, m, 16 * K);
    await assert.rejects(() => sys_madvise(task, m, 4 * K, MADV_DONTNEED), "ENOMEM");
  });
});

t("MAP_SYNC is kept in the flags of the mapping, also where it means nothing", async () => {
  const w = boot();
  const d = dax_file(w, 64 * K);
  await w.run(async (task) => {
    const map = (flags: number) => sys_mmap(task, 0, 64 * K, RW, flags | MAP_SYNC, d.file, 0);
    const flags_of = async (m: number) => (await smaps_of(task, m))!.vm_flags.join(",");
    assert.is(await flags_of(await map(MAP_SHARED_VALIDATE)), "rd,wr,sh,mr,mw,me,ms,sf,sd,hg");
    assert.is(await flags_of(await map(MAP_SHARED)), "rd,wr,sh,mr,mw,me,ms,sf,sd,hg");
    assert.is(await flags_of(await map(MAP_PRIVATE)), "rd,wr,mr,mw,me,ac,sf,sd,hg");
  });
});

t(
  "a mapping of 2 MiB or more of a DAX file gets an address congruent to the file offset",
  async () => {
    const w = boot();
    const d = dax_file(w, 8 * PMD);
    await w.run(async (task) => {
      for (const [len, off] of [
        [PMD, 0],
        [2 * PMD, 4 * K],
        [3 * PMD, PMD / 2],
      ] as const) {
        const m = await sys_mmap(task, 0, len, RW, MAP_SHARED, d.file, off);
        if (off + len - Math.ceil(off / PMD) * PMD >= PMD) assert.is((m - off) % PMD, 0);
      }
      const hint = 0x10000000000 + PAGE;
      assert.is(await sys_mmap(task, hint, 2 * PMD, RW, MAP_SHARED, d.file, 0), hint);
    });
  },
);

t("a mapping keeps its file until it is unmapped, and forgets it then", async () => {
  const w = boot();
  const d = dax_file(w, 64 * K);
  await w.run(async (task) => {
    const m = await sys_mmap(task, 0, 64 * K, RW, MAP_SHARED, d.file, 0);
    assert.is(d.file.f_count, 2);
    assert.is(d.file.f_mapping.i_mmap_writable, 1);
    await sys_munmap(task, m + 8 * K, 8 * K);
    assert.is(d.file.f_count, 3, "the hole made two mappings of one");
    assert.is(d.file.f_mapping.i_mmap.size, 2);
    await sys_munmap(task, m, 64 * K);
    assert.is(d.file.f_count, 1);
    assert.is(d.file.f_mapping.i_mmap.size, 0);
    assert.is(d.file.f_mapping.i_mmap_writable, 0);
    assert.not(d.file.private_data.closed);
  });
});

t("neighbours alike are one mapping, until something tells them apart", async () => {
  const w = boot();
  const d = dax_file(w, 64 * K);
  await w.run(async (task) => {
    const flags = MAP_SHARED | MAP_FIXED;
    const m = await sys_mmap(task, 0, 64 * K, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, null, 0);
    const count = () =>
      task.mm!.mmap.filter((v) => v.vm_start >= m && v.vm_end <= m + 64 * K).length;
    await sys_mmap(task, m, 16 * K, RW, flags, d.file, 0);
    await sys_mmap(task, m + 16 * K, 16 * K, RW, flags, d.file, 16 * K);
    assert.is(count(), 2, "joined with the one before, and the rest");
    await sys_mmap(task, m + 32 * K, 16 * K, RW, flags, d.file, 0);
    assert.is(count(), 3, "another offset");
    await sys_madvise(task, m + 8 * K, 8 * K, MADV_RANDOM);
    assert.is(count(), 5);
    await sys_madvise(task, m, 32 * K, MADV_RANDOM);
    assert.is(count(), 3);
    await sys_mprotect(task, m + 4 * K, 4 * K, PROT_READ);
    assert.is(count(), 5);
    await sys_mprotect(task, m + 4 * K, 4 * K, RW);
    assert.is(count(), 3);
    assert.is(d.file.f_count, 3);
  });
});

interface model_op {
  op: "map" | "unmap" | "protect" | "advise";
  page: number;
  pages: number;
  prot: number;
}

t("any sequence of map, unmap, protect and advise agrees with a model page by page", async () => {
  const N = 24;
  const op: fc.Arbitrary<model_op> = fc.record({
    op: fc.constantFrom("map", "unmap", "protect", "advise"),
    page: fc.nat(N - 1),
    pages: fc.integer({ min: 1, max: 8 }),
    prot: fc.constantFrom(PROT_NONE, PROT_READ, RW),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(op, { maxLength: 30 }), async (ops) => {
      const w = boot();
      await w.run(async (task) => {
        const base = 0x20000000000;
        // Page -> its protection and the advice it has; undefined: not mapped.
        const model = new Array<{ prot: number; rr: boolean; data: number } | undefined>(N).fill(
          undefined,
        );
        for (const o of ops) {
          const last = Math.min(N, o.page + o.pages);
          const addr = base + o.page * PAGE;
          const len = (last - o.page) * PAGE;
          const mapped = model.slice(o.page, last).every((x) => x !== undefined);
          if (o.op === "map") {
            const flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS;
            await sys_mmap(task, addr, len, o.prot, flags, null, 0);
            for (let i = o.page; i < last; i++) model[i] = { prot: o.prot, rr: false, data: 0 };
          } else if (o.op === "unmap") {
            await sys_munmap(task, addr, len);
            model.fill(undefined, o.page, last);
          } else if (o.op === "protect") {
            const hole = model.findIndex((x, i) => i >= o.page && i < last && x === undefined);
            const p = sys_mprotect(task, addr, len, o.prot);
            if (mapped) await p;
            else await assert.rejects(() => p, "ENOMEM");
            const end = hole < 0 ? last : hole;
            for (let i = o.page; i < end; i++) model[i]!.prot = o.prot;
          } else {
            const p = sys_madvise(task, addr, len, MADV_RANDOM);
            if (mapped) await p;
            else await assert.rejects(() => p, "ENOMEM");
            for (let i = o.page; i < last; i++) if (model[i]) model[i]!.rr = true;
          }
          for (let i = o.page; i < last; i++) {
            const m = model[i];
            if (m?.prot !== RW) continue;
            m.data = i + 1;
            await user_store(task, base + i * PAGE, Uint8Array.of(i + 1));
          }
        }
        let before: unknown = null;
        for (let i = 0; i < N; i++) {
          const s = await smaps_of(task, base + i * PAGE);
          const m = model[i];
          const want = m && `${m.prot & 1 ? "r" : "-"}${m.prot & 2 ? "w" : "-"}-p ${m.rr}`;
          assert.is(s ? `${s.perms} ${s.vm_flags.includes("rr")}` : undefined, want);
          if (m && m.prot !== PROT_NONE) {
            assert.is((await load(task, base + i * PAGE, 1)).charCodeAt(0), m.data);
          }
          before = s;
        }
        assert.ok(before === null || before !== undefined);
        check_list(task);
        await exit_mm(task);
        assert.is(nr_allocated_pages(w.kernel), 1, "only the zero page is left");
      });
    }),
    { numRuns: 40 },
  );
});

/** Sorted, without overlap, counted right. */
function check_list(task: task_struct): void {
  const mm = task.mm!;
  let end = 0;
  let pages = 0;
  for (const v of mm.mmap) {
    assert.ok(v.vm_start >= end && v.vm_end > v.vm_start);
    end = v.vm_end;
    pages += (v.vm_end - v.vm_start) / PAGE;
  }
  assert.is(mm.total_vm, pages);
  assert.is(mm.locked_vm, count_locked(mm));
}

t("populating faults with the kernel's own flags; its errors do not fail mmap", async () => {
  const w = boot();
  const d = dax_file(w, 32 * K, { hole: true });
  await w.run(async (task) => {
    d.log.length = 0;
    const flags = MAP_SHARED | MAP_POPULATE;
    const m = await sys_mmap(task, 0, 64 * K, RW, flags, d.file, 0);
    assert.is((await pagemap_words(task, m, 16)).join(""), "pres".repeat(8) + "none".repeat(8));
    assert.is(d.log[0], "pte ALLOW_RETRY|KILLABLE|ORIG_PTE_VALID @0");
    assert.is(d.blocks.size, 0, "a shared mapping is populated by reading");
    await assert.rejects(() => sys_madvise(task, m, 64 * K, MADV_POPULATE_READ), "EFAULT");
    await sys_madvise(task, m, 32 * K, MADV_POPULATE_WRITE);
    assert.is(d.blocks.size, 8);
    await sys_mlock(task, m, 32 * K);
    await assert.rejects(() => sys_mlock(task, m, 64 * K), "ENOMEM");
    await sys_munlock(task, m, 64 * K);
    assert.ok(!(await smaps_of(task, m))!.vm_flags.includes("lo"));
    const p = await anon(task, 16 * K, RW, MAP_PRIVATE | MAP_LOCKED);
    assert.is((await smaps_of(task, p))!.fields.Rss, 16);
    assert.is(task.mm!.locked_vm, 4);
    await sys_munlock(task, p + 4 * K, 4 * K);
    assert.is(task.mm!.locked_vm, 3);
    check_list(task);
  });
});

t("limits of address space and locked memory hold, for those without the capability", async () => {
  const w = boot();
  await w.run(async (task) => {
    task.signal!.rlim["AS"] = 1 << 20;
    await anon(task, 512 * K);
    await assert.rejects(() => anon(task, 1 << 20), "ENOMEM");
    task.cred = make_cred(1000, 1000);
    task.signal!.rlim["MEMLOCK"] = 8 * K;
    const m = await anon(task, 16 * K);
    await assert.rejects(() => sys_mlock(task, m, 16 * K), "ENOMEM");
    await sys_mlock(task, m, 8 * K);
    await assert.rejects(() => anon(task, 8 * K, RW, MAP_PRIVATE | MAP_LOCKED), "EAGAIN");
    task.signal!.rlim["MEMLOCK"] = 0;
    await assert.rejects(() => sys_mlock(task, m, 4 * K), "EPERM");
  });
});

t("advice against huge pages is followed at the next fault", async () => {
  const w = boot();
  const d = dax_file(w, 4 * PMD);
  await w.run(async (task) => {
    const m = await sys_mmap(task, 0, 2 * PMD, RW, MAP_SHARED, d.file, 0);
    await sys_madvise(task, m, 2 * PMD, MADV_NOHUGEPAGE);
    await load(task, m, 1);
    await sys_madvise(task, m, 2 * PMD, MADV_HUGEPAGE);
    await load(task, m + 2 * PAGE, 1);
    await load(task, m + PMD, 1);
    const H = "ALLOW_RETRY|KILLABLE|USER|INTERRUPTIBLE";
    assert.equal(d.log, [`pte ${H} @0`, `pte ${H}|ORIG_PTE_VALID @2`, `pmd ${H} @512`]);
    const s = (await smaps_of(task, m))!;
    assert.equal([s.fields.Rss, s.fields.Private_Clean], [4, 4]);
  });
});

t("a page table goes with the last mapping in its 2 MiB, not before", async () => {
  const w = boot();
  const d = dax_file(w, 4 * PMD);
  d.huge = false;
  await w.run(async (task) => {
    const base = 0x30000000000;
    const map = (at: number) => sys_mmap(task, at, 4 * PAGE, RW, MAP_SHARED | MAP_FIXED, d.file, 0);
    const first_fault = async (at: number) => {
      d.log.length = 0;
      await load(task, at, 1);
      return d.log.at(-1)!.includes("ORIG_PTE_VALID");
    };
    await map(base);
    assert.not(await first_fault(base));
    await map(base + 16 * PAGE);
    assert.ok(await first_fault(base + 16 * PAGE));
    await sys_munmap(task, base, 4 * PAGE);
    await map(base);
    assert.ok(await first_fault(base), "the other mapping kept the table");
    await sys_munmap(task, base, 32 * PAGE);
    await map(base);
    assert.not(await first_fault(base));
  });
});

t("mremap moves entries, grows, shrinks, and splits what it takes apart", async () => {
  const w = boot();
  const d = dax_file(w, 256 * K);
  await w.run(async (task) => {
    const r = await sys_mmap(task, 0, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, null, 0);
    const m = await sys_mmap(task, r, 64 * K, RW, MAP_SHARED | MAP_FIXED, d.file, 0);
    await user_store(task, m + PAGE, bytes_of("moved"));
    const to = r + 512 * K;
    const flags = MREMAP_MAYMOVE | MREMAP_FIXED;
    assert.is(await sys_mremap(task, m, 64 * K, 128 * K, flags, to), to);
    d.log.length = 0;
    assert.is(await load(task, to + PAGE, 5), "moved");
    assert.equal(d.log, [], "the entry came along");
    await user_store(task, to + 64 * K, bytes_of("grown"));
    await assert.rejects(
      () => load(task, m, 1),
      (e) => e.info.signo === 11,
    );
    assert.is((await smaps_of(task, to))!.fields.Size, 128);
    await sys_mremap(task, to, 128 * K, 32 * K, 0);
    assert.is((await smaps_of(task, to))!.fields.Size, 32);
    await assert.rejects(() => sys_mremap(task, to, 32 * K, 0, 0), "EINVAL");
    await assert.rejects(() => sys_mremap(task, to, 64 * K, 96 * K, 0), "EFAULT");
    await sys_munmap(task, to + 32 * K, 8 * K);
    await sys_mremap(task, to, 32 * K, 40 * K, 0);
    assert.is((await smaps_of(task, to))!.fields.Size, 40);
    const a = await anon(task, 16 * K);
    await user_store(task, a, bytes_of("anon"));
    const b = await sys_mremap(task, a, 16 * K, 4 << 20, MREMAP_MAYMOVE);
    assert.is(await load(task, b, 4), "anon");
    check_list(task);
  });
});

t("fork copies private pages on demand and lets shared mappings fault again", async () => {
  const w = boot();
  const d = dax_file(w, 16 * K);
  const used = nr_allocated_pages(w.kernel);
  await w.run(async (parent) => {
    const s = await sys_mmap(parent, 0, 16 * K, RW, MAP_SHARED, d.file, 0);
    const p = await sys_mmap(parent, 0, 16 * K, RW, MAP_PRIVATE, d.file, 0);
    const sh = await anon(parent, 8 * K, RW, MAP_SHARED);
    await user_store(parent, p, bytes_of("parent"));
    await user_store(parent, s, bytes_of("S"));
    await user_store(parent, sh, bytes_of("both"));
    const child = w.machine.new_thread(w.kernel, "child");
    child.mm = await dup_mm(parent);
    d.log.length = 0;
    assert.is(await load(child, p, 6), "parent");
    assert.equal(d.log, []);
    await load(child, s, 1);
    assert.is(d.log.length, 1);
    await user_store(child, p, bytes_of("child!"));
    await user_store(child, s + PAGE, bytes_of("child"));
    await user_store(child, sh, bytes_of("BOTH"));
    assert.is(await load(parent, p, 6), "parent");
    assert.is(await load(parent, s + PAGE, 5), "child");
    assert.is(await load(parent, sh, 4), "BOTH");
    await exit_mm(child);
    await user_store(parent, p, bytes_of("P"));
    assert.is(await load(parent, p, 6), "Parent");
    await exit_mm(parent);
    assert.is(nr_allocated_pages(w.kernel), used);
    assert.is(d.file.f_count, 1);
  });
});

t("advice about fork: DONTFORK leaves a mapping out, WIPEONFORK empties it", async () => {
  const w = boot();
  const d = dax_file(w, 16 * K);
  await w.run(async (parent) => {
    const a = await anon(parent, 4 * K);
    const b = await anon(parent, 4 * K, PROT_READ);
    await sys_mprotect(parent, b, 4 * K, RW);
    const s = await sys_mmap(parent, 0, 16 * K, RW, MAP_SHARED, d.file, 0);
    await user_store(parent, a, bytes_of("a"));
    await user_store(parent, b, bytes_of("b"));
    await sys_madvise(parent, a, 4 * K, MADV_DONTFORK);
    await sys_madvise(parent, b, 4 * K, MADV_WIPEONFORK);
    await assert.rejects(() => sys_madvise(parent, s, 4 * K, MADV_WIPEONFORK), "EINVAL");
    const child = w.machine.new_thread(w.kernel, "child");
    child.mm = await dup_mm(parent);
    await assert.rejects(
      () => load(child, a, 1),
      (e) => e.info.code === 1,
    );
    assert.is(await load(child, b, 1), "\0");
    assert.is(await load(parent, b, 1), "b");
    await mmput(child.mm!);
  });
});

t("MADV_DONTNEED drops private copies, MADV_REMOVE punches the file", async () => {
  const w = boot();
  const d = dax_file(w, 16 * K);
  await w.run(async (task) => {
    const p = await sys_mmap(task, 0, 16 * K, RW, MAP_PRIVATE, d.file, 0);
    await user_store(task, p, bytes_of("copy"));
    await sys_madvise(task, p, 16 * K, MADV_DONTNEED);
    assert.is(await load(task, p, 4), "\0\0\0\0");
    await assert.rejects(() => sys_madvise(task, p, 4 * K, MADV_REMOVE), "EACCES");
    const s = await sys_mmap(task, 0, 16 * K, RW, MAP_SHARED, d.file, 0);
    d.log.length = 0;
    await sys_madvise(task, s + 4 * K, 8 * K, MADV_REMOVE);
    assert.equal(d.log, ["fallocate 3 4096+8192"]);
    const a = await anon(task, 4 * K);
    await assert.rejects(() => sys_madvise(task, a, 4 * K, MADV_REMOVE), "EINVAL");
  });
});

t(
  "msync writes the file's piece that is mapped, and only for MS_SYNC of shared mappings",
  async () => {
    const w = boot();
    const d = dax_file(w, 64 * K);
    await w.run(async (task) => {
      const m = await sys_mmap(task, 0, 32 * K, RW, MAP_SHARED, d.file, 8 * K);
      const p = await sys_mmap(task, 0, 32 * K, RW, MAP_PRIVATE, d.file, 0);
      d.log.length = 0;
      await sys_msync(task, m + 4 * K, 8 * K, MS_SYNC);
      await sys_msync(task, m, 32 * K, MS_ASYNC);
      await sys_msync(task, p, 32 * K, MS_SYNC);
      assert.equal(d.log, ["fsync 12288..20479 datasync"]);
      assert.is(d.file.f_count, 3);
    });
  },
);

t("mincore: present entries and cached pages", async () => {
  const w = boot();
  const d = dax_file(w, PMD);
  const c = cached_file(w, 64 * K);
  await w.run(async (task) => {
    const m = await sys_mmap(task, 0, PMD, RW, MAP_SHARED, d.file, 0);
    assert.equal([...(await sys_mincore(task, m, 3 * PAGE))], [0, 0, 0]);
    await load(task, m, 1);
    assert.ok((await sys_mincore(task, m, PMD)).every((x) => x === 1));
    const n = await sys_mmap(task, 0, 64 * K, RW, MAP_PRIVATE, c.file, 0);
    assert.ok((await sys_mincore(task, n, 64 * K)).every((x) => x === 0));
    await load(task, n, 1);
    assert.ok(
      (await sys_mincore(task, n, 64 * K)).every((x) => x === 1),
      "read around the fault",
    );
    await sys_munmap(task, n + PAGE, PAGE);
    await assert.rejects(() => sys_mincore(task, n, 4 * PAGE), "ENOMEM");
    await assert.rejects(() => sys_mincore(task, n + 1, PAGE), "EINVAL");
    assert.ok(VM_SHARED);
  });
});

t.run();
