/**
 * mm/unmapped_area.ts - where a mapping goes. Linux: mm/mmap.c (vm_unmapped_area),
 * arch/x86/kernel/sys_x86_64.c, mm/huge_memory.c (thp_get_unmapped_area).
 */
import { EINVAL, ENOMEM } from "../kernel/include/errno.ts";
import type { file } from "../kernel/include/fs.ts";
import { MAP_FIXED } from "../kernel/include/mman.ts";
import type { mm_struct } from "../kernel/include/mm_types.ts";
import { geometry } from "./pgtable.ts";
import { find_vma } from "./vma.ts";
import { DEFAULT_MAP_WINDOW, MMAP_MIN_ADDR } from "./mm_init.ts";

/** The address for [addr, addr + len) of `file` at page `pgoff`; asks the file if it has a wish. */
export function get_unmapped_area(
  mm: mm_struct,
  file: file | null,
  addr: number,
  len: number,
  pgoff: number,
  flags: number,
): number {
  if (len > mm.task_size) throw ENOMEM;
  const own = file?.f_op.get_unmapped_area;
  const at = own ? own(file!, addr, len, pgoff, flags) : mm_get_unmapped_area(mm, addr, len, flags);
  if (at > mm.task_size - len) throw ENOMEM;
  if (at % geometry(mm).page_size !== 0) throw EINVAL;
  return at;
}

/**
 * The hint if it is free, else the highest free place below mmap_base, else the lowest anywhere.
 */
export function mm_get_unmapped_area(
  mm: mm_struct,
  addr: number,
  len: number,
  flags: number,
): number {
  if (len > mm.task_size) throw ENOMEM;
  if (flags & MAP_FIXED) return addr;
  const { page_size } = geometry(mm);
  if (addr > 0) {
    const hint = Math.ceil(addr / page_size) * page_size;
    const vma = find_vma(mm, hint);
    const fits = hint <= mm.task_size - len && hint >= MMAP_MIN_ADDR;
    if (fits && (vma === null || hint + len <= vma.vm_start)) return hint;
  }
  return top_down(mm, len) ?? bottom_up(mm, len);
}

function top_down(mm: mm_struct, len: number): number | null {
  let end = mm.mmap_base;
  for (let i = mm.mmap.length - 1; i >= 0; i--) {
    const vma = mm.mmap[i]!;
    if (vma.vm_start >= end) continue;
    if (vma.vm_end <= end - len) return end - len;
    end = vma.vm_start;
  }
  return end - len >= MMAP_MIN_ADDR ? end - len : null;
}

function bottom_up(mm: mm_struct, len: number): number {
  let start = mm.mmap_base;
  for (const vma of mm.mmap) {
    if (vma.vm_end <= start) continue;
    if (vma.vm_start >= start + len) break;
    start = vma.vm_end;
  }
  if (start + len > DEFAULT_MAP_WINDOW) throw ENOMEM;
  return start;
}

/**
 * For files that can be mapped with huge entries: an address congruent to the file offset modulo
 * 2 MiB if the mapping holds a whole such piece. A file operation; `file.kernel.current` maps.
 */
export function thp_get_unmapped_area(
  file: file,
  addr: number,
  len: number,
  pgoff: number,
  flags: number,
): number {
  const mm = file.kernel.current.mm!;
  const { page_size, pmd_size } = geometry(mm);
  const off = pgoff * page_size;
  const aligned = Math.ceil(off / pmd_size) * pmd_size;
  const holds_one = off + len > aligned && off + len - aligned >= pmd_size;
  if (holds_one && !(flags & MAP_FIXED)) {
    let at: number | null = null;
    try {
      at = mm_get_unmapped_area(mm, addr, len + pmd_size, flags);
    } catch (e) {
      if (e !== ENOMEM) throw e;
    }
    // The hint was taken: it is the caller's choice.
    if (at !== null && at === addr) return addr;
    if (at !== null) return at + ((((off - at) % pmd_size) + pmd_size) % pmd_size);
  }
  return mm_get_unmapped_area(mm, addr, len, flags);
}
