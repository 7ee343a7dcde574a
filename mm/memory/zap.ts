/**
 * mm/memory/zap.ts - removing mappings. Linux: mm/memory.c (zap_page_range, unmap_vmas),
 * mm/huge_memory.c (zap_huge_pmd).
 *
 * A dirty entry of a cached page dirties the page; a DAX entry carries nothing away, since the page
 * tree of the file knows what is dirty (its tag was set at the write fault).
 * The TLB is flushed before page_table_lock is dropped, and pages are freed after that.
 */
import type { mm_struct, page, vm_area_struct } from "../../kernel/include/mm_types.ts";
import { PageAnon, put_page } from "../page.ts";
import {
  flush_tlb_range,
  geometry,
  pte_dirty,
  pte_present,
  pmd_index,
  pmd_offset,
  walk_page_range,
} from "../pgtable.ts";
import { set_page_dirty } from "../page_dirty.ts";
import { vm_normal_page } from "./vmf.ts";

/** Drops the count that mapping a page of this kind added. */
export function dec_rss(mm: mm_struct, p: page): void {
  if (PageAnon(p)) mm.rss_anon--;
  else mm.rss_file--;
}

/**
 * Removes the mappings of [start, end). `even_cows` false keeps private copies (anonymous pages).
 * Whole huge entries only: split first what sticks out, except that a huge zero or DAX entry that
 * is partly in the range goes as a whole (it is faulted in again).
 */
export function zap_page_range_single(
  vma: vm_area_struct,
  start: number,
  end: number,
  even_cows: boolean,
): void {
  const mm = vma.vm_mm;
  const freed: page[] = [];
  let changed = false;
  const { pmd_size } = geometry(mm);
  let from = start;
  let to = end;
  mm.page_table_lock.lock();
  walk_page_range(mm, start, end, {
    pte(table, first, last) {
      for (let i = first; i < last; i++) {
        const e = table[i]!;
        if (e === 0) continue;
        if (!pte_present(e)) {
          if (even_cows) table[i] = 0;
          continue;
        }
        const p = vm_normal_page(mm, e);
        if (p !== null && !even_cows && PageAnon(p)) continue;
        table[i] = 0;
        changed = true;
        if (p === null) continue;
        if (pte_dirty(e) && !PageAnon(p)) set_page_dirty(p);
        dec_rss(mm, p);
        p._mapcount--;
        freed.push(p);
      }
    },
    huge(leaf, i, addr, size) {
      leaf[i] = 0;
      changed = true;
      from = Math.min(from, addr);
      to = Math.max(to, addr + Math.max(size, pmd_size));
    },
  });
  if (changed) flush_tlb_range(mm, from, to);
  mm.page_table_lock.unlock();
  for (const p of freed) put_page(p);
}

/**
 * A huge entry that has to become small ones. A file's (and a zero) entry is simply removed: its
 * pages come back by faults. Caller does not hold page_table_lock.
 */
export function __split_huge_pmd(mm: mm_struct, addr: number): void {
  const g = geometry(mm);
  const pmd = pmd_offset(mm, g, addr);
  if (pmd === null) return;
  const i = pmd_index(g, addr);
  if (pmd.leaf[i] === 0) return;
  mm.page_table_lock.lock();
  pmd.leaf[i] = 0;
  const base = Math.floor(addr / g.pmd_size) * g.pmd_size;
  flush_tlb_range(mm, base, base + g.pmd_size);
  mm.page_table_lock.unlock();
}

/**
 * Who walks page tables down to their last level finds no 1 GiB entries: the walk takes them out
 * first, as the kernel's walks for smaps, pagemap and mincore do. They come back by faults.
 */
export function split_huge_puds(mm: mm_struct, start: number, end: number): void {
  const { pud_size } = geometry(mm);
  mm.page_table_lock.lock();
  walk_page_range(mm, start, end, {
    pte() {},
    huge(leaf, i, addr, size) {
      if (size !== pud_size) return;
      leaf[i] = 0;
      flush_tlb_range(mm, addr, addr + size);
    },
  });
  mm.page_table_lock.unlock();
}

/** Before a vma's ends move to [start, end): no huge entry may stick out. */
export function vma_adjust_trans_huge(vma: vm_area_struct, start: number, end: number): void {
  const { pmd_size } = geometry(vma.vm_mm);
  for (const edge of [start, end]) {
    if (edge % pmd_size === 0) continue;
    const base = Math.floor(edge / pmd_size) * pmd_size;
    if (base >= vma.vm_start && base + pmd_size <= vma.vm_end) __split_huge_pmd(vma.vm_mm, edge);
  }
}
