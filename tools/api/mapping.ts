/**
 * tools/api/mapping.ts - what a program would like to ask of a mapped address and Linux does not
 * say: is it DAX, by what is it mapped, and what makes a store to it durable?
 *
 * No flag in /proc/PID/smaps answers that: VM_MIXEDMAP was never for DAX alone (and DAX no longer
 * sets it), and a page copied in a private mapping is ordinary memory. Only `sf` (VM_SYNC), since
 * 4.15, is a promise.
 */
import { S_DAX } from "../../kernel/include/fs.ts";
import { VM_MAYSHARE, VM_SYNC, type vm_area_struct } from "../../kernel/include/mm_types.ts";
import { S_ISCHR } from "../../kernel/include/stat.ts";
import type { dax_device } from "../../kernel/include/dax.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { dax_base_devices } from "../../drivers/md/dm-rmap.ts";
import { mm_state } from "../../mm/mm_state.ts";
import { geometry, is_huge_zero, lookup_entry, pte_pfn, pte_present } from "../../mm/pgtable.ts";
import { vma_lookup } from "../../mm/vma.ts";

export interface mapping_info {
  /** The file of the mapping is in DAX mode: its shared pages are the storage itself. */
  dax: boolean;
  /** What the page table has here now: storage, a zero page, ordinary memory, or nothing yet. */
  page: "storage" | "zero" | "memory" | "none";
  /** Level of the entry that maps the address, null when nothing does yet. */
  mapped_by: "PTE" | "PMD" | "PUD" | null;
  /** Physical address, null when nothing is mapped yet. */
  paddr: number | null;
  /**
   * The least that makes a store durable *and* found again after a power cut: "fence" (the caches
   * are in the persistence domain), "flush" (cache lines, then a fence), "fsync" (or msync), or
   * null: nothing does.
   */
  durable_by: "fence" | "flush" | "fsync" | null;
  /** Why, in words. */
  why: string;
}

function dax_device_of(vma: vm_area_struct): dax_device | null {
  const { f_mapping, f_inode } = vma.vm_file!;
  return f_mapping.dax_dev ?? f_inode.i_sb.s_bdev?.bd_disk.dax_dev ?? null;
}

function durability(kernel: Kernel, vma: vm_area_struct): Pick<mapping_info, "durable_by" | "why"> {
  if (!vma.vm_file) return { durable_by: null, why: "no file: nothing of it persists" };
  if (!(vma.vm_flags & VM_MAYSHARE)) {
    return { durable_by: null, why: "a private mapping: its stores never reach the file" };
  }
  if (!(vma.vm_file.f_mapping.host.i_flags & S_DAX)) {
    return { durable_by: "fsync", why: "page cache: the stores are not on the storage yet" };
  }
  const dev = dax_device_of(vma);
  const eadr = ({ base_pfn }: dax_device): boolean =>
    kernel.phys.region_of(base_pfn * kernel.PAGE_SIZE)?.domain === "eadr";
  const devices = dev ? dax_base_devices(kernel, dev) : [];
  const flushed = devices.length > 0 && devices.every(eadr) ? "fence" : "flush";
  if (S_ISCHR(vma.vm_file.f_mapping.host.i_mode)) {
    return { durable_by: flushed, why: "device-dax: there is no block map that could be older" };
  }
  if (!(vma.vm_flags & VM_SYNC)) {
    const why = "no MAP_SYNC: the file's block map on the media may be older than the mapping";
    return { durable_by: "fsync", why };
  }
  const why = "MAP_SYNC: the block map is on the media before a page becomes writable";
  return { durable_by: flushed, why };
}

type translation = Pick<mapping_info, "page" | "mapped_by" | "paddr">;

function translation(kernel: Kernel, vma: vm_area_struct, addr: number): translation {
  const mm = vma.vm_mm;
  const { entry, size } = lookup_entry(mm, addr);
  if (!pte_present(entry)) return { page: "none", mapped_by: null, paddr: null };
  const g = geometry(mm);
  const pfn = pte_pfn(entry);
  const paddr = pfn * g.page_size + (addr % size);
  const mapped_by = size === g.page_size ? "PTE" : size === g.pmd_size ? "PMD" : "PUD";
  if (pfn === mm_state(kernel).zero_pfn || is_huge_zero(mm, entry)) {
    return { page: "zero", mapped_by, paddr };
  }
  const page = kernel.phys.region_of(paddr)?.kind === "pmem" ? "storage" : "memory";
  return { page, mapped_by, paddr };
}

/** Null when nothing is mapped at `addr`. Changes nothing. */
export async function mapping_info_of(
  task: task_struct,
  addr: number,
): Promise<mapping_info | null> {
  const mm = task.mm;
  if (mm === null) return null;
  const p = mm.mmap_lock.down_read();
  if (p) await p;
  try {
    const vma = vma_lookup(mm, addr);
    if (vma === null) return null;
    const dax = vma.vm_file !== null && (vma.vm_file.f_mapping.host.i_flags & S_DAX) !== 0;
    const { kernel } = task;
    return { dax, ...translation(kernel, vma, addr), ...durability(kernel, vma) };
  } finally {
    mm.mmap_lock.up_read();
  }
}
