/** mm/mincore.ts - mincore(2): which pages are in memory. Linux: mm/mincore.c. */
import { EINVAL, ENOMEM } from "../kernel/include/errno.ts";
import { FMODE_WRITE } from "../kernel/include/fs.ts";
import type { page, vm_area_struct } from "../kernel/include/mm_types.ts";
import { capable, current_cred } from "../kernel/cred.ts";
import { CAP_FOWNER } from "../kernel/include/cred.ts";
import { xa_is_value, xa_load } from "../kernel/lib/xarray.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { split_huge_puds } from "./memory/zap.ts";
import { page_align, page_aligned, task_mm, u64 } from "./mmap.ts";
import { PageUptodate } from "./page.ts";
import { shmem_has_page, vma_is_shmem } from "./shmem.ts";
import { geometry, walk_page_range } from "./pgtable.ts";
import { linear_page_index, vma_lookup } from "./vma.ts";

/** Only who owns or may write the file learns what is cached of it. */
function can_do_mincore(vma: vm_area_struct): boolean {
  if (vma.vm_ops === null || vma_is_shmem(vma)) return true;
  if (vma.vm_file === null) return false;
  const { kernel } = vma.vm_mm;
  const owner = current_cred(kernel).fsuid === vma.vm_file.f_inode.i_uid;
  return owner || capable(kernel, CAP_FOWNER) || (vma.vm_file.f_mode & FMODE_WRITE) !== 0;
}

function cached(vma: vm_area_struct, addr: number): number {
  if (vma_is_shmem(vma)) return shmem_has_page(vma, linear_page_index(vma, addr)) ? 1 : 0;
  if (vma.vm_file === null) return 0;
  const e = xa_load(vma.vm_file.f_mapping.i_pages, linear_page_index(vma, addr));
  if (e === null || xa_is_value(e)) return 0;
  return PageUptodate(e as page) ? 1 : 0;
}

function mincore_vma(vma: vm_area_struct, from: number, to: number, out: Uint8Array): void {
  const mm = vma.vm_mm;
  const { page_size } = geometry(mm);
  if (!can_do_mincore(vma)) {
    out.fill(1);
    return;
  }
  const slot = (addr: number) => (addr - from) / page_size;
  split_huge_puds(mm, from, to);
  walk_page_range(mm, from, to, {
    pte(table, first, last, addr) {
      for (let i = first; i < last; i++, addr += page_size) {
        out[slot(addr)] = table[i] !== 0 ? 1 : cached(vma, addr);
      }
    },
    huge(_leaf, _i, _addr, _size, a, b) {
      out.fill(1, slot(a), slot(b));
    },
    hole(a, b) {
      for (let addr = a; addr < b; addr += page_size) out[slot(addr)] = cached(vma, addr);
    },
  });
}

/** One byte a page of [start, start + len): 1 when it is in memory. */
export async function sys_mincore(
  task: task_struct,
  start: number,
  len: number,
): Promise<Uint8Array> {
  const mm = task_mm(task);
  start = u64(start);
  len = u64(len);
  if (!page_aligned(mm, start)) throw EINVAL;
  if (start > mm.task_size || len > mm.task_size - start) throw ENOMEM;
  const { page_size } = geometry(mm);
  const end = start + page_align(mm, len);
  const p = mm.mmap_lock.down_read();
  if (p) await p;
  try {
    const parts: [vm_area_struct, number, number][] = [];
    for (let at = start; at < end; ) {
      const vma = vma_lookup(mm, at);
      if (vma === null) throw ENOMEM;
      const to = Math.min(end, vma.vm_end);
      parts.push([vma, at, to]);
      at = to;
    }
    const out = new Uint8Array((end - start) / page_size);
    for (const [vma, from, to] of parts) {
      const off = (from - start) / page_size;
      mincore_vma(vma, from, to, out.subarray(off, off + (to - from) / page_size));
    }
    return out;
  } finally {
    mm.mmap_lock.up_read();
  }
}
