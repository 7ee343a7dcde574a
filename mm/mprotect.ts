/**
 * mm/mprotect.ts - changing protection. Linux: mm/mprotect.c, mm/huge_memory.c (change_huge_pmd).
 */
import { EACCES, EINVAL, ENOMEM } from "../kernel/include/errno.ts";
import {
  PROT_EXEC,
  PROT_GROWSDOWN,
  PROT_GROWSUP,
  PROT_READ,
  PROT_WRITE,
} from "../kernel/include/mman.ts";
import { VM_ACCOUNT, VM_EXEC, VM_READ, VM_SHARED, VM_WRITE } from "../kernel/include/mm_types.ts";
import type { mm_struct, vm_area_struct } from "../kernel/include/mm_types.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { vm_normal_page } from "./memory/vmf.ts";
import { __split_huge_pmd, vma_adjust_trans_huge } from "./memory/zap.ts";
import { page_align, page_aligned, task_mm, u64 } from "./mmap.ts";
import { PageAnon } from "./page.ts";
import {
  _PAGE_RW,
  flush_tlb_range,
  geometry,
  pte_dirty,
  pte_modify,
  pte_present,
  pte_set,
  walk_page_range,
} from "./pgtable.ts";
import type { pte_t } from "./pgtable.ts";
import { find_vma, split_vma, vma_merge, vma_set_page_prot, vma_wants_writenotify } from "./vma.ts";

const ACCESS = VM_READ | VM_WRITE | VM_EXEC;

/**
 * May an entry become writable without a fault? Shared: if it is dirty already (the file was asked
 * then). Private: if it is a copy that nobody else has.
 */
function can_change_writable(vma: vm_area_struct, e: pte_t): boolean {
  if (!(vma.vm_flags & VM_WRITE)) return false;
  if (vma.vm_flags & VM_SHARED) return vma_wants_writenotify(vma) && pte_dirty(e);
  const p = vm_normal_page(vma.vm_mm, e);
  return p !== null && PageAnon(p) && p.anon_exclusive;
}

/** Gives every entry of [start, end) the vma's new protection. */
export function change_protection(vma: vm_area_struct, start: number, end: number): void {
  const mm = vma.vm_mm;
  const prot = vma.vm_page_prot;
  let changed = false;
  const { pmd_size, pud_size } = geometry(mm);
  // A huge entry that sticks out goes before the walk: splitting takes the lock itself.
  for (const edge of [start, end]) {
    if (edge % pmd_size !== 0) __split_huge_pmd(mm, edge);
  }
  mm.page_table_lock.lock();
  walk_page_range(mm, start, end, {
    pte(table, first, last) {
      for (let i = first; i < last; i++) {
        const old = table[i]!;
        if (!pte_present(old)) continue;
        let e = pte_modify(old, prot);
        if (can_change_writable(vma, e)) e = pte_set(e, _PAGE_RW);
        if (e === old) continue;
        table[i] = e;
        changed = true;
      }
    },
    huge(leaf, i, _addr, size) {
      // A 1 GiB entry looks like a broken table to this walk: the kernel takes it out.
      if (size === pud_size) mm.kernel.pr_err("mm: bad pud cleared");
      leaf[i] = size === pud_size ? 0 : pte_modify(leaf[i]!, prot);
      changed = true;
    },
  });
  if (changed) flush_tlb_range(mm, start, end);
  mm.page_table_lock.unlock();
}

/**
 * Gives [start, end) of one vma new flags, splitting or merging it. Returns the vma that covers it
 * then.
 */
export async function vma_modify_flags(
  mm: mm_struct,
  vma: vm_area_struct,
  start: number,
  end: number,
  newflags: number,
): Promise<vm_area_struct> {
  if (vma.vm_start < start) {
    vma = await split_vma(mm, vma, start, false, vma_adjust_trans_huge);
  }
  if (vma.vm_end > end) await split_vma(mm, vma, end, false, vma_adjust_trans_huge);
  const kind = {
    vm_flags: newflags,
    file: vma.vm_file,
    anon_vma: vma.anon_vma,
    vm_ops: vma.vm_ops,
    private_data: vma.vm_private_data,
  };
  return (await vma_merge(mm, start, end, vma.vm_pgoff, kind, vma)) ?? vma;
}

async function mprotect_fixup(
  mm: mm_struct,
  vma: vm_area_struct,
  start: number,
  end: number,
  newflags: number,
): Promise<void> {
  if (newflags === vma.vm_flags) return;
  if (newflags & VM_WRITE && !(vma.vm_flags & (VM_ACCOUNT | VM_WRITE | VM_SHARED))) {
    newflags |= VM_ACCOUNT;
  }
  const v = await vma_modify_flags(mm, vma, start, end, newflags);
  v.vm_flags = newflags;
  vma_set_page_prot(v);
  change_protection(v, start, end);
}

/** mprotect(2). */
export async function sys_mprotect(
  task: task_struct,
  start: number,
  len: number,
  prot: number,
): Promise<void> {
  const mm = task_mm(task);
  start = u64(start);
  len = u64(len);
  const grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP);
  prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP);
  if (grows === (PROT_GROWSDOWN | PROT_GROWSUP)) throw EINVAL;
  if (!page_aligned(mm, start)) throw EINVAL;
  if (len === 0) return;
  len = page_align(mm, len);
  const end = start + len;
  if (end >= 2 ** 64) throw ENOMEM;
  if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) throw EINVAL;
  const p = mm.mmap_lock.down_write();
  if (p) await p;
  try {
    if (grows) throw EINVAL;
    await protect_range(mm, start, end, prot);
  } finally {
    mm.mmap_lock.up_write();
  }
}

async function protect_range(
  mm: mm_struct,
  start: number,
  end: number,
  prot: number,
): Promise<void> {
  let at = start;
  while (at < end) {
    const vma = find_vma(mm, at);
    if (vma === null || vma.vm_start > at) throw ENOMEM;
    const newflags = prot | (vma.vm_flags & ~ACCESS);
    // VM_MAY* lie four bits above VM_*: what was never allowed cannot be had.
    if (newflags & ~(newflags >> 4) & ACCESS) throw EACCES;
    const to = Math.min(vma.vm_end, end);
    vma.vm_ops?.mprotect?.(vma, at, to, newflags);
    await mprotect_fixup(mm, vma, at, to, newflags);
    at = to;
  }
}
