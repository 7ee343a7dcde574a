/**
 * mm/memory/rmap.ts - counting mappings, and finding every mapping of a page of a file. Linux:
 * mm/rmap.c, mm/memory.c (unmap_mapping_range).
 *
 * Locks: i_mmap_rwsem (read) around a walk over a file's vmas, then each mm's page_table_lock.
 * mmap_lock is not taken: this is called from truncate and writeback, under page locks.
 */
import type { MaybeWait } from "../../kernel/include/locks.ts";
import { PG_anon } from "../../kernel/include/mm_types.ts";
import type {
  address_space,
  mm_struct,
  page,
  vm_area_struct,
} from "../../kernel/include/mm_types.ts";
import { then } from "../sometime.ts";
import type { Sometime } from "../../kernel/include/fs.ts";
import { PAGE } from "../page.ts";
import {
  _PAGE_DIRTY,
  _PAGE_RW,
  flush_tlb_range,
  geometry,
  is_huge_zero,
  pte_clear_flags,
  pte_dirty,
  pte_pfn,
  pte_present,
  pte_write,
  walk_page_range,
} from "../pgtable.ts";
import { vma_pages } from "../vma.ts";
import { zap_page_range_single } from "./zap.ts";

export function page_add_new_anon_rmap(p: page, vma: vm_area_struct): void {
  vma.anon_vma ??= {};
  p.flags |= PG_anon;
  PAGE(p).anon_exclusive = true;
  p._mapcount++;
}

export function page_add_file_rmap(p: page): void {
  p._mapcount++;
}

export function page_remove_rmap(p: page): void {
  p._mapcount--;
}

/** The part of a vma that maps pages [pgoff, pgoff + nr) of its file, or null. */
export function vma_range(
  vma: vm_area_struct,
  pgoff: number,
  nr: number,
): { start: number; end: number } | null {
  const size = geometry(vma.vm_mm).page_size;
  const first = Math.max(pgoff, vma.vm_pgoff);
  const last = Math.min(pgoff + nr, vma.vm_pgoff + vma_pages(vma));
  if (first >= last) return null;
  return {
    start: vma.vm_start + (first - vma.vm_pgoff) * size,
    end: vma.vm_start + (last - vma.vm_pgoff) * size,
  };
}

/** Clears write and dirty bits of entries of [start, end) whose frame is in [pfn, pfn + nr). */
function mkclean_vma(
  vma: vm_area_struct,
  start: number,
  end: number,
  pfn: number,
  nr: number,
): number {
  const mm: mm_struct = vma.vm_mm;
  let cleaned = 0;
  const clean = (table: Float64Array, i: number, frames: number) => {
    const e = table[i]!;
    if (!pte_present(e) || !(pte_dirty(e) || pte_write(e)) || is_huge_zero(mm, e)) return;
    const at = pte_pfn(e);
    if (at + frames <= pfn || at >= pfn + nr) return;
    table[i] = pte_clear_flags(e, _PAGE_RW | _PAGE_DIRTY);
    cleaned++;
  };
  const { page_size } = geometry(mm);
  mm.page_table_lock.lock();
  walk_page_range(mm, start, end, {
    pte(table, first, last) {
      for (let i = first; i < last; i++) if (table[i] !== 0) clean(table, i, 1);
    },
    huge(leaf, i, _addr, size) {
      clean(leaf, i, size / page_size);
    },
  });
  if (cleaned > 0) flush_tlb_range(mm, start, end);
  mm.page_table_lock.unlock();
  return cleaned;
}

/**
 * Write-protects and cleans the mappings of frames [pfn, pfn + nr) in one vma that maps page
 * `pgoff` of the file at frame `pfn`. Caller holds i_mmap_rwsem. Returns how many entries were
 * changed.
 */
export function pfn_mkclean_range(
  pfn: number,
  nr_pages: number,
  pgoff: number,
  vma: vm_area_struct,
): number {
  const r = vma_range(vma, pgoff, nr_pages);
  return r === null ? 0 : mkclean_vma(vma, r.start, r.end, pfn, nr_pages);
}

/** Runs `fn` for every vma that maps [pgoff, pgoff + nr) of the file, with i_mmap_rwsem held. */
export function for_each_mapping_vma(
  mapping: address_space,
  pgoff: number,
  nr: number,
  fn: (vma: vm_area_struct, start: number, end: number) => void,
): MaybeWait {
  const run = (): undefined => {
    for (const vma of mapping.i_mmap) {
      const r = vma_range(vma, pgoff, nr);
      if (r !== null) fn(vma, r.start, r.end);
    }
    mapping.i_mmap_rwsem.up_read();
    return undefined;
  };
  const p = mapping.i_mmap_rwsem.down_read();
  return p ? p.then(run) : run();
}

/**
 * Before writeback of a cached page: its mappings become read-only and clean. Returns how many were
 * not.
 */
export function page_mkclean(p: page): Sometime<number> {
  const { mapping } = p;
  if (mapping === null || p._mapcount === 0) return 0;
  let cleaned = 0;
  const w = for_each_mapping_vma(mapping, p.index, 1, (vma, start, end) => {
    if (mkclean_vma(vma, start, end, p.pfn, 1) > 0) cleaned++;
  });
  return then(w, () => cleaned);
}

/**
 * Takes pages [start, start + nr) of the file (`nr` 0: all behind start) out of every address
 * space; `even_cows`: private copies too.
 */
export function unmap_mapping_pages(
  mapping: address_space,
  start: number,
  nr: number,
  even_cows: boolean,
): MaybeWait {
  const count = nr === 0 ? Number.MAX_SAFE_INTEGER : nr;
  return for_each_mapping_vma(mapping, start, count, (vma, from, to) => {
    zap_page_range_single(vma, from, to, even_cows);
  });
}

/** As unmap_mapping_pages for bytes; `len` 0: to the end of the file. */
export function unmap_mapping_range(
  mapping: address_space,
  start: number,
  len: number,
  even_cows: boolean,
): MaybeWait {
  const size = mapping.kernel.PAGE_SIZE;
  const first = Math.floor(start / size);
  const nr = len === 0 ? Number.MAX_SAFE_INTEGER : Math.ceil((start + len) / size) - first;
  return unmap_mapping_pages(mapping, first, nr, even_cows);
}

/** Takes a cached page out of every address space (page locked). */
export function unmap_mapping_page(p: page): MaybeWait {
  if (p.mapping === null || p._mapcount === 0) return undefined;
  return unmap_mapping_pages(p.mapping, p.index, 1, false);
}
