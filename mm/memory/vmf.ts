/**
 * mm/memory/vmf.ts - one page fault under way, and the small things its handlers share. Linux:
 * struct vm_fault, include/linux/mm.h.
 */
import type { mm_struct, page, vm_area_struct, vm_fault } from "../../kernel/include/mm_types.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { alloc_page } from "../page.ts";
import type { page_struct } from "../page.ts";
import { mm_state } from "../mm_state.ts";
import type { page_geometry } from "../mm_state.ts";
import {
  _PAGE_DEVMAP,
  _PAGE_SPECIAL,
  geometry,
  pmd_alloc,
  pmd_index,
  pmd_none,
  pte_alloc,
  pte_flags,
  pte_index,
  pte_pfn,
} from "../pgtable.ts";
import type { pmd_table, pte_t, pte_table } from "../pgtable.ts";
import { pfn_to_page } from "../page.ts";
import { linear_page_index } from "../vma.ts";

/** The class behind `vm_fault`; mm's own part is below orig_pmd. */
export class fault_ctx implements vm_fault {
  vma: vm_area_struct;
  flags: number;
  pgoff: number;
  address: number;
  real_address: number;
  page: page | null = null;
  cow_page: page | null = null;
  orig_pte: pte_t = 0;
  orig_pmd: pte_t = 0;

  readonly mm: mm_struct;
  readonly kernel: Kernel;
  readonly g: page_geometry;
  /** The slot of the middle level; set once its table is there. */
  pmd: pmd_table | null = null;
  readonly pmd_i: number;
  readonly pte_i: number;

  constructor(vma: vm_area_struct, address: number, flags: number) {
    this.vma = vma;
    this.mm = vma.vm_mm;
    this.kernel = vma.vm_mm.kernel;
    this.g = geometry(vma.vm_mm);
    this.flags = flags;
    this.real_address = address;
    this.address = Math.floor(address / this.g.page_size) * this.g.page_size;
    this.pgoff = linear_page_index(vma, address);
    this.pmd_i = pmd_index(this.g, address);
    this.pte_i = pte_index(this.g, address);
  }

  /** The last-level table, or null. */
  get pte_table(): pte_table | null {
    return this.pmd === null ? null : this.pmd.child[this.pmd_i]!;
  }

  /** Makes the last-level table. */
  alloc_pte_table(): pte_table {
    return pte_alloc(this.mm, this.g, this.address);
  }

  ensure_pmd(): pmd_table {
    this.pmd ??= pmd_alloc(this.mm, this.g, this.address);
    return this.pmd;
  }

  pmd_is_none(): boolean {
    return pmd_none(this.ensure_pmd(), this.pmd_i);
  }
}

export const FAULT = (vmf: vm_fault): fault_ctx => vmf as fault_ctx;

/** Value of the huge entry in the fault's slot; 0 when the slot is empty or holds a table. */
export function vmf_pmd(vmf: vm_fault): pte_t {
  const f = FAULT(vmf);
  return f.pmd === null ? 0 : f.pmd.leaf[f.pmd_i]!;
}

/** The slot holds a table of PTEs: a huge entry cannot be put there. */
export function vmf_pmd_is_table(vmf: vm_fault): boolean {
  return FAULT(vmf).pte_table !== null;
}

/**
 * The page of an entry if it has rmap and counts as a normal page; null for special and device
 * entries (DAX) and for the zero pages.
 */
export function vm_normal_page(mm: mm_struct, e: pte_t): page_struct | null {
  const flags = pte_flags(e);
  if (flags & (_PAGE_SPECIAL | _PAGE_DEVMAP)) return null;
  const pfn = pte_pfn(e);
  const st = mm_state(mm.kernel);
  if (pfn === st.zero_pfn) return null;
  return pfn_to_page(mm.kernel, pfn);
}

/** A zeroed page for user memory, or null when DRAM is used up. */
export function try_alloc_page(kernel: Kernel): page_struct | null {
  try {
    return alloc_page(kernel);
  } catch {
    return null;
  }
}
