/**
 * mm/exec.ts - the address space of a program that has just started. Linux: fs/exec.c,
 * fs/binfmt_elf.c.
 *
 * Nothing is executed here, but what a program's image leaves behind is visible: mappings go below
 * its libraries, into the 2 MiB that a page table covers already (a fault there sees
 * ORIG_PTE_VALID), and a stack exists.
 */
import {
  VM_ACCOUNT,
  VM_EXEC,
  VM_GROWSDOWN,
  VM_MAYEXEC,
  VM_MAYREAD,
  VM_MAYWRITE,
  VM_READ,
  VM_SOFTDIRTY,
  VM_WRITE,
} from "../kernel/include/mm_types.ts";
import type { mm_struct } from "../kernel/include/mm_types.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { mm_alloc } from "./mm_init.ts";
import { _PAGE_SPECIAL, geometry, mk_entry, pte_alloc, pte_index } from "./pgtable.ts";
import { mm_state } from "./mm_state.ts";
import { find_vma_index, vm_area_alloc, vma_set_page_prot } from "./vma.ts";

const STACK_TOP = 0x7ffffffff000;
const STACK_SIZE = 132 * 1024;
/** Size of what stands for the libraries, at the top of the area for mappings. */
const LIBRARY_PAGES = 4;
/** Nothing is there between the libraries and the program's own mappings. */
const GAP_PAGES = 4;
const TEXT = VM_READ | VM_EXEC | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_SOFTDIRTY;
const STACK =
  VM_READ |
  VM_WRITE |
  VM_MAYREAD |
  VM_MAYWRITE |
  VM_MAYEXEC |
  VM_ACCOUNT |
  VM_SOFTDIRTY |
  VM_GROWSDOWN;

function add_vma(mm: mm_struct, start: number, end: number, flags: number): void {
  const vma = vm_area_alloc(mm, start, end, flags, start / geometry(mm).page_size);
  vma_set_page_prot(vma);
  // Written to once, by the loader: so fork copies its page table.
  vma.anon_vma = {};
  mm.mmap.splice(find_vma_index(mm, start), 0, vma);
  mm.total_vm += (end - start) / geometry(mm).page_size;
}

/** A new address space with a stack and a library, one page of which has been read. */
export function exec_mm(kernel: Kernel): mm_struct {
  const mm = mm_alloc(kernel);
  const g = geometry(mm);
  const lib_end = mm.mmap_base;
  const lib = lib_end - LIBRARY_PAGES * g.page_size;
  mm.mmap_base = lib - GAP_PAGES * g.page_size;
  add_vma(mm, lib, lib_end, TEXT);
  const top = Math.floor(STACK_TOP / g.page_size) * g.page_size;
  add_vma(mm, top - Math.ceil(STACK_SIZE / g.page_size) * g.page_size, top, STACK);
  const vma = mm.mmap[0]!;
  const zero = mk_entry(mm_state(kernel).zero_pfn, vma.vm_page_prot | _PAGE_SPECIAL);
  pte_alloc(mm, g, lib)[pte_index(g, lib)] = zero;
  return mm;
}
