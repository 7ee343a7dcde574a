/**
 * mm/memory.ts - faults and page-table entries: the index of mm/memory/. Linux: mm/memory.c,
 * mm/rmap.c, mm/huge_memory.c.
 *
 * Reading order: memory/fault.ts (handle_mm_fault), memory/pte_fault.ts (entry empty), memory/wp.ts
 * (store refused), memory/insert.ts (what drivers and DAX put in), memory/zap.ts (removal),
 * memory/rmap.ts (every mapping of a page of a file).
 */
export { handle_mm_fault, hugepage_vma_check, vma_is_dax } from "./memory/fault.ts";
export {
  set_huge_zero_page,
  vm_insert_page,
  vmf_insert_mixed,
  vmf_insert_mixed_mkwrite,
  vmf_insert_pfn_pmd,
  vmf_insert_pfn_pud,
  zero_pfn,
} from "./memory/insert.ts";
export { do_set_pte, finish_fault } from "./memory/pte_fault.ts";
export {
  for_each_mapping_vma,
  page_mkclean,
  pfn_mkclean_range,
  unmap_mapping_page,
  unmap_mapping_pages,
  unmap_mapping_range,
  vma_range,
} from "./memory/rmap.ts";
export { FAULT, fault_ctx, vm_normal_page, vmf_pmd, vmf_pmd_is_table } from "./memory/vmf.ts";
export { finish_mkwrite_fault } from "./memory/wp.ts";
export {
  __split_huge_pmd,
  split_huge_puds,
  vma_adjust_trans_huge,
  zap_page_range_single,
} from "./memory/zap.ts";
