/** mm/smaps.ts - what /proc/PID/smaps, pagemap and maps tell. Linux: fs/proc/task_mmu.c. */
import * as V from "../kernel/include/mm_types.ts";
import type { mm_struct, page, vm_area_struct } from "../kernel/include/mm_types.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { vm_normal_page } from "./memory/vmf.ts";
import { split_huge_puds } from "./memory/zap.ts";
import { PageAnon, PageDirty, pfn_to_page } from "./page.ts";
import {
  geometry,
  is_huge_zero,
  pte_dirty,
  pte_pfn,
  pte_present,
  pte_young,
  walk_page_range,
} from "./pgtable.ts";
import { VM_SPECIAL, vma_lookup, vmas_in } from "./vma.ts";

/** The sizes of an entry in KiB, in the order the kernel prints them. */
export interface smaps_fields {
  Size: number;
  KernelPageSize: number;
  MMUPageSize: number;
  Rss: number;
  Pss: number;
  Pss_Dirty: number;
  Shared_Clean: number;
  Shared_Dirty: number;
  Private_Clean: number;
  Private_Dirty: number;
  Referenced: number;
  Anonymous: number;
  Locked: number;
  THPeligible: number;
}

/** One vma. */
export interface smaps_entry {
  start: number;
  end: number;
  /** As in maps: "rw-s". */
  perms: string;
  /** File offset in bytes. */
  offset: number;
  file: string;
  fields: smaps_fields;
  /** VmFlags: two-letter codes in the kernel's order. */
  vm_flags: string[];
}

/** In the order in which the kernel prints them: by bit number. */
const FLAG_CODES: readonly (readonly [number, string])[] = Object.freeze([
  [V.VM_READ, "rd"],
  [V.VM_WRITE, "wr"],
  [V.VM_EXEC, "ex"],
  [V.VM_SHARED, "sh"],
  [V.VM_MAYREAD, "mr"],
  [V.VM_MAYWRITE, "mw"],
  [V.VM_MAYEXEC, "me"],
  [V.VM_MAYSHARE, "ms"],
  [V.VM_GROWSDOWN, "gd"],
  [V.VM_PFNMAP, "pf"],
  [V.VM_LOCKED, "lo"],
  [V.VM_IO, "io"],
  [V.VM_SEQ_READ, "sr"],
  [V.VM_RAND_READ, "rr"],
  [V.VM_DONTCOPY, "dc"],
  [V.VM_DONTEXPAND, "de"],
  [V.VM_LOCKONFAULT, "??"], // 6.1 has no letters for it
  [V.VM_ACCOUNT, "ac"],
  [V.VM_NORESERVE, "nr"],
  [V.VM_HUGETLB, "ht"],
  [V.VM_SYNC, "sf"],
  [V.VM_WIPEONFORK, "wf"],
  [V.VM_DONTDUMP, "dd"],
  [V.VM_SOFTDIRTY, "sd"],
  [V.VM_MIXEDMAP, "mm"],
  [V.VM_HUGEPAGE, "hg"],
  [V.VM_NOHUGEPAGE, "nh"],
]);

export function vm_flag_codes(vm_flags: number): string[] {
  return FLAG_CODES.filter(([bit]) => vm_flags & bit).map(([, code]) => code);
}

export function vma_perms(vma: vm_area_struct): string {
  const f = vma.vm_flags;
  const r = f & V.VM_READ ? "r" : "-";
  const w = f & V.VM_WRITE ? "w" : "-";
  const x = f & V.VM_EXEC ? "x" : "-";
  return r + w + x + (f & V.VM_MAYSHARE ? "s" : "p");
}

/**
 * `p` counts as one page of 4 KiB also when mapped by a huge entry: a device page has no size of
 * its own.
 */
function account(s: smaps_fields, p: page, kib: number, young: boolean, dirty: boolean): void {
  const is_dirty = dirty || PageDirty(p);
  // Frames mapped only through devices' entries have no counts: private.
  const shares = Math.max(1, p._mapcount);
  s.Rss += kib;
  s.Pss += kib / shares;
  if (is_dirty) s.Pss_Dirty += kib / shares;
  if (young) s.Referenced += kib;
  if (PageAnon(p)) s.Anonymous += kib;
  if (shares > 1) s[is_dirty ? "Shared_Dirty" : "Shared_Clean"] += kib;
  else s[is_dirty ? "Private_Dirty" : "Private_Clean"] += kib;
}

/**
 * 6.1 asks as khugepaged would, and that never touches DAX: no also where faults map 2 MiB. What is
 * left is anonymous memory with room for a whole entry.
 */
function thp_eligible(vma: vm_area_struct): boolean {
  if (vma.vm_ops !== null || vma.vm_flags & (V.VM_NOHUGEPAGE | VM_SPECIAL)) return false;
  const { pmd_size } = geometry(vma.vm_mm);
  return Math.ceil(vma.vm_start / pmd_size) * pmd_size + pmd_size <= vma.vm_end;
}

export function smaps_vma(vma: vm_area_struct): smaps_entry {
  const mm = vma.vm_mm;
  const g = geometry(mm);
  const own_size = vma.vm_ops?.pagesize?.(vma);
  const page_kib = (own_size ?? g.page_size) / 1024;
  const s: smaps_fields = {
    Size: (vma.vm_end - vma.vm_start) / 1024,
    KernelPageSize: page_kib,
    MMUPageSize: page_kib,
    Rss: 0,
    Pss: 0,
    Pss_Dirty: 0,
    Shared_Clean: 0,
    Shared_Dirty: 0,
    Private_Clean: 0,
    Private_Dirty: 0,
    Referenced: 0,
    Anonymous: 0,
    Locked: 0,
    THPeligible: thp_eligible(vma) ? 1 : 0,
  };
  const kib = g.page_size / 1024;
  split_huge_puds(mm, vma.vm_start, vma.vm_end);
  walk_page_range(mm, vma.vm_start, vma.vm_end, {
    pte(table, first, last) {
      for (let i = first; i < last; i++) {
        const e = table[i]!;
        if (!pte_present(e)) continue;
        const p = vm_normal_page(mm, e);
        if (p !== null) account(s, p, kib, pte_young(e), pte_dirty(e));
      }
    },
    huge(leaf, i, _addr, size) {
      const e = leaf[i]!;
      if (is_huge_zero(mm, e)) return;
      const p = pfn_to_page(mm.kernel, pte_pfn(e));
      if (p === null) return;
      // A device whose pages are huge (own_size) has compound pages: the whole counts.
      const whole = own_size !== undefined && own_size === size ? size / 1024 : kib;
      account(s, p, whole, pte_young(e), pte_dirty(e));
    },
  });
  s.Pss = Math.floor(s.Pss);
  s.Pss_Dirty = Math.floor(s.Pss_Dirty);
  s.Locked = vma.vm_flags & V.VM_LOCKED ? s.Pss : 0;
  return {
    start: vma.vm_start,
    end: vma.vm_end,
    perms: vma_perms(vma),
    offset: vma.vm_file ? vma.vm_pgoff * g.page_size : 0,
    file: vma.vm_file ? vma.vm_file.f_path.dentry.d_name : "",
    fields: s,
    vm_flags: vm_flag_codes(vma.vm_flags),
  };
}

/** The entry of the vma that holds `addr`, or null. */
export function smaps(mm: mm_struct, addr: number): smaps_entry | null {
  const vma = vma_lookup(mm, addr);
  return vma === null ? null : smaps_vma(vma);
}

/** /proc/PID/smaps of a task: the entry that holds `addr`, or null. */
export async function smaps_of(task: task_struct, addr: number): Promise<smaps_entry | null> {
  const { mm } = task;
  if (mm === null) return null;
  const p = mm.mmap_lock.down_read();
  if (p) await p;
  try {
    return smaps(mm, addr);
  } finally {
    mm.mmap_lock.up_read();
  }
}

/** All vmas, lowest first. */
export function smaps_all(mm: mm_struct): smaps_entry[] {
  return mm.mmap.map(smaps_vma);
}

export const PM_NONE = 0;
export const PM_PRESENT = 1;
/** Present, and counted as a page of a file. */
export const PM_FILE = 2;
/** Not present: a poisoned page, which looks like one that is swapped out. */
export const PM_SWAP = 3;

/** One PM_* value a page of [addr, addr + len). */
export function pagemap(mm: mm_struct, addr: number, len: number): Uint8Array {
  const { page_size } = geometry(mm);
  const out = new Uint8Array(Math.ceil(len / page_size));
  const slot = (a: number) => (a - addr) / page_size;
  const end = addr + out.length * page_size;
  split_huge_puds(mm, addr, end);
  for (const vma of vmas_in(mm, addr, end)) {
    walk_page_range(mm, Math.max(addr, vma.vm_start), Math.min(end, vma.vm_end), {
      pte(table, first, last, at) {
        for (let i = first; i < last; i++, at += page_size) {
          const e = table[i]!;
          if (!pte_present(e)) {
            if (e !== 0) out[slot(at)] = PM_SWAP;
            continue;
          }
          const p = vm_normal_page(mm, e);
          out[slot(at)] = p !== null && !PageAnon(p) ? PM_FILE : PM_PRESENT;
        }
      },
      huge(leaf, i, _addr, _size, a, b) {
        const e = leaf[i]!;
        if (!pte_present(e)) return;
        // The kernel looks at the frame here, zero page and device page alike: never anonymous.
        out.fill(PM_FILE, slot(a), slot(b));
      },
    });
  }
  return out;
}

const WORDS: readonly string[] = Object.freeze(["none", "pres", "file", "swap"]);

/** /proc/PID/pagemap of a task for `pages` pages from `addr`: see PM_*, in words. */
export async function pagemap_words(
  task: task_struct,
  addr: number,
  pages: number,
): Promise<string[]> {
  const { mm } = task;
  if (mm === null) return new Array<string>(pages).fill("none");
  const p = mm.mmap_lock.down_read();
  if (p) await p;
  try {
    return [...pagemap(mm, addr, pages * geometry(mm).page_size)].map((x) => WORDS[x]!);
  } finally {
    mm.mmap_lock.up_read();
  }
}
