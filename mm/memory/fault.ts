/**
 * mm/memory/fault.ts - handle_mm_fault: from a faulting address to the handler. Linux: mm/memory.c.
 *
 * Reading order: handle_mm_fault() -> create_huge() / wp_huge_pmd() -> handle_pte_fault() ->
 * pte_fault.ts (entry empty) or wp.ts (entry present, store refused).
 * Caller holds mmap_lock for reading. Returns VM_FAULT_* bits; 0 and NOPAGE mean "try the access
 * again".
 */
import type { Sometime } from "../../kernel/include/fs.ts";
import { S_DAX } from "../../kernel/include/fs.ts";
import {
  FAULT_FLAG_ORIG_PTE_VALID,
  FAULT_FLAG_WRITE,
  VM_FAULT_FALLBACK,
  VM_FAULT_HWPOISON,
  VM_FAULT_MAJOR,
  VM_FAULT_OOM,
  VM_HUGEPAGE,
  VM_NOHUGEPAGE,
} from "../../kernel/include/mm_types.ts";
import type { vm_area_struct } from "../../kernel/include/mm_types.ts";
import { ENOMEM } from "../../kernel/include/errno.ts";
import { mm_state } from "../mm_state.ts";
import {
  _PAGE_ACCESSED,
  _PAGE_DIRTY,
  _PAGE_RW,
  flush_tlb_page,
  maybe_mkwrite,
  pmd_alloc,
  pte_flags,
  pte_present,
  pte_set,
  pte_write,
  pud_alloc,
  pud_index,
  pud_none,
} from "../pgtable.ts";
import { then } from "../sometime.ts";
import { vma_is_anonymous } from "../vma.ts";
import { do_anonymous_page, do_fault } from "./pte_fault.ts";
import { fault_ctx } from "./vmf.ts";
import { do_wp_page } from "./wp.ts";
import { __split_huge_pmd } from "./zap.ts";

export function vma_is_dax(vma: vm_area_struct): boolean {
  return vma.vm_file !== null && (vma.vm_file.f_mapping.host.i_flags & S_DAX) !== 0;
}

/**
 * May a fault in this vma be answered with a huge entry? Only DAX mappings, unless advised against.
 */
export function hugepage_vma_check(vma: vm_area_struct): boolean {
  if (vma.vm_flags & VM_NOHUGEPAGE) return false;
  if (vma_is_dax(vma)) return true;
  // Drivers with huge faults of their own (device DAX) set the flag in mmap.
  return vma.vm_ops?.huge_fault !== undefined && (vma.vm_flags & VM_HUGEPAGE) !== 0;
}

export function handle_mm_fault(
  vma: vm_area_struct,
  address: number,
  flags: number,
): Sometime<number> {
  const st = mm_state(vma.vm_mm.kernel);
  st.nr_faults++;
  const f = new fault_ctx(vma, address, flags);
  const huge_ok = hugepage_vma_check(vma);
  return then(huge_ok ? try_pud(f) : VM_FAULT_FALLBACK, (ret) => {
    if (!(ret & VM_FAULT_FALLBACK)) return ret;
    return then(try_pmd(f, huge_ok), (r) => {
      const out = r & VM_FAULT_FALLBACK ? handle_pte_fault(f) : r;
      return then(out, (o) => {
        if (o & VM_FAULT_MAJOR) st.nr_major_faults++;
        return o;
      });
    });
  });
}

/** The 1 GiB level: asked only while nothing at all is mapped there. */
function try_pud(f: fault_ctx): Sometime<number> {
  const pud = pud_alloc(f.mm, f.g, f.address);
  const i = pud_index(f.g, f.address);
  const huge_fault = f.vma.vm_ops?.huge_fault;
  if (pud_none(pud, i)) return huge_fault ? huge_fault(f, f.g.pud_order) : VM_FAULT_FALLBACK;
  const e = pud.leaf[i]!;
  if (e === 0) return VM_FAULT_FALLBACK;
  const write = (f.flags & FAULT_FLAG_WRITE) !== 0;
  if (write && !pte_write(e)) {
    return then(huge_fault ? huge_fault(f, f.g.pud_order) : VM_FAULT_FALLBACK, (ret) => {
      if (ret & VM_FAULT_FALLBACK) pud.leaf[i] = 0;
      return ret;
    });
  }
  pud.leaf[i] = pte_set(e, _PAGE_ACCESSED | (write ? _PAGE_DIRTY : 0));
  return 0;
}

function try_pmd(f: fault_ctx, huge_ok: boolean): Sometime<number> {
  const pmd = pmd_alloc(f.mm, f.g, f.address);
  f.pmd = pmd;
  const huge_fault = f.vma.vm_ops?.huge_fault;
  if (huge_ok && f.pmd_is_none()) {
    return huge_fault ? huge_fault(f, f.g.pmd_order) : VM_FAULT_FALLBACK;
  }
  const e = pmd.leaf[f.pmd_i]!;
  f.orig_pmd = e;
  if (e === 0) return VM_FAULT_FALLBACK;
  if (f.flags & FAULT_FLAG_WRITE && !pte_write(e)) {
    return then(huge_fault ? huge_fault(f, f.g.pmd_order) : VM_FAULT_FALLBACK, (ret) => {
      if (ret & VM_FAULT_FALLBACK) __split_huge_pmd(f.mm, f.address);
      return ret;
    });
  }
  const dirty = f.flags & FAULT_FLAG_WRITE ? _PAGE_DIRTY : 0;
  pmd.leaf[f.pmd_i] = pte_set(e, _PAGE_ACCESSED | dirty);
  flush_tlb_page(f.mm, f.address);
  return 0;
}

function handle_pte_fault(f: fault_ctx): Sometime<number> {
  const table = f.pte_table;
  if (table === null) {
    if (f.pmd!.leaf[f.pmd_i] !== 0) return 0;
    f.flags &= ~FAULT_FLAG_ORIG_PTE_VALID;
  } else {
    f.orig_pte = table[f.pte_i]!;
    f.flags |= FAULT_FLAG_ORIG_PTE_VALID;
  }
  if (table === null || f.orig_pte === 0) {
    return vma_is_anonymous(f.vma) ? do_anonymous_page(f) : do_fault(f);
  }
  // No swap here: an entry that is there but not present is a poisoned frame.
  if (!pte_present(f.orig_pte)) return VM_FAULT_HWPOISON;
  f.mm.page_table_lock.lock();
  const write = f.flags & FAULT_FLAG_WRITE;
  if (write && !(pte_flags(f.orig_pte) & _PAGE_RW)) return do_wp_page(f);
  let e = pte_set(f.orig_pte, _PAGE_ACCESSED);
  if (write) e = maybe_mkwrite(pte_set(e, _PAGE_DIRTY), f.vma);
  table[f.pte_i] = e;
  flush_tlb_page(f.mm, f.address);
  f.mm.page_table_lock.unlock();
  return 0;
}

/** For callers that want a thrown error: OOM becomes ENOMEM. */
export function throw_on_oom(ret: number): void {
  if (ret & VM_FAULT_OOM) throw ENOMEM;
}
