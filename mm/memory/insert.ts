/**
 * mm/memory/insert.ts - entries that a driver or DAX puts in place. Linux: mm/memory.c (insert_pfn,
 * vmf_insert_mixed), mm/huge_memory.c (insert_pfn_pmd, insert_pfn_pud), fs/dax.c
 * (dax_pmd_load_hole's part).
 *
 * An entry that is there stays, whatever it points to: removing a stale one is the caller's
 * business (unmap_mapping_pages). With `write`, an entry for the same frame becomes writable and
 * dirty.
 */
import { ENOMEM } from "../../kernel/include/errno.ts";
import {
  VM_FAULT_FALLBACK,
  VM_FAULT_NOPAGE,
  VM_FAULT_SIGBUS,
} from "../../kernel/include/mm_types.ts";
import type { page, vm_area_struct, vm_fault } from "../../kernel/include/mm_types.ts";
import { get_page } from "../page.ts";
import {
  _PAGE_ACCESSED,
  _PAGE_DEVMAP,
  _PAGE_DIRTY,
  _PAGE_PSE,
  _PAGE_SPECIAL,
  flush_tlb_page,
  flush_tlb_range,
  geometry,
  maybe_mkwrite,
  mk_entry,
  pmd_alloc,
  pmd_index,
  pte_alloc,
  pte_index,
  pte_pfn,
  pte_set,
  pud_alloc,
  pud_index,
} from "../pgtable.ts";
import type { pmd_table, pud_table } from "../pgtable.ts";
import { mm_state } from "../mm_state.ts";
import { pfn_valid } from "../page.ts";
import { page_add_file_rmap } from "./rmap.ts";
import { FAULT } from "./vmf.ts";
import type { fault_ctx } from "./vmf.ts";

const WRITTEN = _PAGE_ACCESSED | _PAGE_DIRTY;

function insert_pfn(vma: vm_area_struct, addr: number, pfn: number, mkwrite: boolean): number {
  const mm = vma.vm_mm;
  if (addr < vma.vm_start || addr >= vma.vm_end) return VM_FAULT_SIGBUS;
  const g = geometry(mm);
  if (pmd_alloc(mm, g, addr).leaf[pmd_index(g, addr)] !== 0) return VM_FAULT_NOPAGE;
  const table = pte_alloc(mm, g, addr);
  const i = pte_index(g, addr);
  mm.page_table_lock.lock();
  const old = table[i]!;
  if (old === 0) {
    const kind = pfn_valid(mm.kernel, pfn) && !is_zero(mm, pfn) ? _PAGE_DEVMAP : _PAGE_SPECIAL;
    const entry = mk_entry(pfn, vma.vm_page_prot | kind);
    table[i] = mkwrite ? maybe_mkwrite(pte_set(entry, WRITTEN), vma) : entry;
  } else if (mkwrite && pte_pfn(old) === pfn) {
    table[i] = maybe_mkwrite(pte_set(old, WRITTEN), vma);
    flush_tlb_page(mm, addr);
  }
  mm.page_table_lock.unlock();
  return VM_FAULT_NOPAGE;
}

function is_zero(mm: vm_area_struct["vm_mm"], pfn: number): boolean {
  return pfn === mm_state(mm.kernel).zero_pfn;
}

/**
 * A frame, read-only as the vma's protection of new entries has it. `pfn` may be the zero page's.
 */
export function vmf_insert_mixed(vma: vm_area_struct, addr: number, pfn: number): number {
  return insert_pfn(vma, addr, pfn, false);
}

/** A frame for storing to. */
export function vmf_insert_mixed_mkwrite(vma: vm_area_struct, addr: number, pfn: number): number {
  return insert_pfn(vma, addr, pfn, true);
}

/** Puts a huge entry of `size` bytes into slot `i` of a table. */
function insert_huge(
  f: fault_ctx,
  table: pmd_table | pud_table,
  i: number,
  size: number,
  pfn: number,
  write: boolean,
): number {
  const { vma, mm } = f;
  const base = Math.floor(f.address / size) * size;
  if (base < vma.vm_start || base >= vma.vm_end) return VM_FAULT_SIGBUS;
  // The low bits of a huge entry's frame have no place in it.
  pfn -= pfn % (size / f.g.page_size);
  mm.page_table_lock.lock();
  const old = table.leaf[i]!;
  if (old === 0 && table.child[i] === null) {
    const entry = mk_entry(pfn, vma.vm_page_prot | _PAGE_PSE | _PAGE_DEVMAP);
    table.leaf[i] = write ? maybe_mkwrite(pte_set(entry, WRITTEN), vma) : entry;
  } else if (write && old !== 0 && pte_pfn(old) === pfn) {
    table.leaf[i] = maybe_mkwrite(pte_set(old, WRITTEN), vma);
    flush_tlb_range(mm, base, base + size);
  }
  mm.page_table_lock.unlock();
  return VM_FAULT_NOPAGE;
}

/** A PMD of frames starting at `pfn` over the fault's 2 MiB. */
export function vmf_insert_pfn_pmd(vmf: vm_fault, pfn: number, write: boolean): number {
  const f = FAULT(vmf);
  return insert_huge(f, f.ensure_pmd(), f.pmd_i, f.g.pmd_size, pfn, write);
}

/** A PUD of frames starting at `pfn` over the fault's 1 GiB. */
export function vmf_insert_pfn_pud(vmf: vm_fault, pfn: number, write: boolean): number {
  const f = FAULT(vmf);
  const pud = pud_alloc(f.mm, f.g, f.address);
  return insert_huge(f, pud, pud_index(f.g, f.address), f.g.pud_size, pfn, write);
}

/**
 * The 2 MiB of zeros for a read of a hole: NOPAGE when put in place, FALLBACK when the slot is
 * taken.
 */
export function set_huge_zero_page(vmf: vm_fault): number {
  const f = FAULT(vmf);
  const pmd = f.ensure_pmd();
  f.mm.page_table_lock.lock();
  const free = f.pmd_is_none();
  if (free) {
    const prot = f.vma.vm_page_prot | _PAGE_PSE;
    pmd.leaf[f.pmd_i] = mk_entry(mm_state(f.kernel).huge_zero_pfn, prot);
  }
  f.mm.page_table_lock.unlock();
  return free ? VM_FAULT_NOPAGE : VM_FAULT_FALLBACK;
}

/** Frame of the page of zeros: what DAX maps for a read of a hole. */
export function zero_pfn(vma: vm_area_struct): number {
  return mm_state(vma.vm_mm.kernel).zero_pfn;
}

/** A page with rmap at an address, for drivers' mmap. Throws ENOMEM if the place is taken. */
export function vm_insert_page(vma: vm_area_struct, addr: number, p: page): void {
  const mm = vma.vm_mm;
  const g = geometry(mm);
  const table = pte_alloc(mm, g, addr);
  const i = pte_index(g, addr);
  if (table[i] !== 0) throw ENOMEM;
  mm.page_table_lock.lock();
  get_page(p);
  page_add_file_rmap(p);
  mm.rss_file++;
  table[i] = mk_entry(p.pfn, vma.vm_page_prot);
  mm.page_table_lock.unlock();
}
