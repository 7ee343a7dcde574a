/**
 * mm/fork.ts - a copy of an address space. Linux: kernel/fork.c (dup_mmap), mm/memory.c
 * (copy_page_range).
 *
 * Entries are copied only where a fault could not bring them back: private copies (and what drivers
 * put there). A shared file mapping, DAX or not, starts empty in the child; so do huge entries of
 * files.
 */
import { ENOMEM } from "../kernel/include/errno.ts";
import {
  VM_DONTCOPY,
  VM_LOCKED,
  VM_LOCKONFAULT,
  VM_MAYWRITE,
  VM_MIXEDMAP,
  VM_PFNMAP,
  VM_SHARED,
  VM_WIPEONFORK,
} from "../kernel/include/mm_types.ts";
import type { mm_struct, vm_area_struct } from "../kernel/include/mm_types.ts";
import { note_access } from "../kernel/sched/core.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { get_file } from "../kernel/vfs/file.ts";
import { vm_normal_page, try_alloc_page } from "./memory/vmf.ts";
import { page_add_new_anon_rmap } from "./memory/rmap.ts";
import { mm_alloc } from "./mm_init.ts";
import { mf_state_of } from "./memory-failure/state.ts";
import { exit_mmap, mmput } from "./mmap.ts";
import { PageAnon, get_page, page_address } from "./page.ts";
import {
  _PAGE_DIRTY,
  _PAGE_RW,
  flush_tlb_range,
  geometry,
  mk_entry,
  pte_alloc,
  pte_clear_flags,
  pte_flags,
  pte_index,
  pte_present,
  pte_write,
  walk_page_range,
} from "./pgtable.ts";
import type { pte_t } from "./pgtable.ts";
import { vm_area_dup, vma_link, vma_pages } from "./vma.ts";

function vma_needs_copy(vma: vm_area_struct): boolean {
  return (vma.vm_flags & (VM_PFNMAP | VM_MIXEDMAP)) !== 0 || vma.anon_vma !== null;
}

/** The child's entry for one of the parent's; may write-protect the parent's. */
function copy_present(
  dst: vm_area_struct,
  src: vm_area_struct,
  table: Float64Array,
  i: number,
): pte_t {
  let e = table[i]!;
  const p = vm_normal_page(src.vm_mm, e);
  if (p !== null) {
    // Pinned copies stay with the parent: the child gets its own at once.
    if (PageAnon(p) && p._refcount > p._mapcount) return copy_pinned(dst, p, e);
    get_page(p);
    p._mapcount++;
    p.anon_exclusive = false;
    if (PageAnon(p)) dst.vm_mm.rss_anon++;
    else dst.vm_mm.rss_file++;
  }
  const cow = (src.vm_flags & (VM_SHARED | VM_MAYWRITE)) === VM_MAYWRITE;
  if (cow && pte_write(e)) {
    e = pte_clear_flags(e, _PAGE_RW);
    table[i] = e;
  }
  return src.vm_flags & VM_SHARED ? pte_clear_flags(e, _PAGE_DIRTY) : e;
}

function copy_pinned(
  dst: vm_area_struct,
  p: ReturnType<typeof vm_normal_page> & object,
  e: pte_t,
): pte_t {
  const fresh = try_alloc_page(p.kernel);
  if (fresh === null) throw ENOMEM;
  page_address(fresh).set(page_address(p));
  fresh.flags |= p.flags;
  page_add_new_anon_rmap(fresh, dst);
  dst.vm_mm.rss_anon++;
  return mk_entry(fresh.pfn, pte_flags(e));
}

function copy_page_range(dst: vm_area_struct, src: vm_area_struct): void {
  const from = src.vm_mm;
  const to = dst.vm_mm;
  const g = geometry(from);
  from.page_table_lock.lock();
  try {
    walk_page_range(from, src.vm_start, src.vm_end, {
      pte(table, first, last, addr) {
        for (let i = first; i < last; i++, addr += g.page_size) {
          if (table[i] === 0) continue;
          const e = pte_present(table[i]!) ? copy_present(dst, src, table, i) : table[i]!;
          pte_alloc(to, g, addr)[pte_index(g, addr)] = e;
        }
      },
    });
    flush_tlb_range(from, src.vm_start, src.vm_end);
  } finally {
    from.page_table_lock.unlock();
  }
}

/** fork: the child's address space. Takes the parent's mmap_lock for writing. */
export async function dup_mmap(oldmm: mm_struct): Promise<mm_struct> {
  const mm = mm_alloc(oldmm.kernel);
  mm.mmap_base = oldmm.mmap_base;
  mm.def_flags = oldmm.def_flags;
  const p = oldmm.mmap_lock.down_write();
  if (p) await p;
  try {
    for (const vma of oldmm.mmap) {
      if (vma.vm_flags & VM_DONTCOPY) continue;
      const v = vm_area_dup(vma, mm);
      v.vm_flags &= ~(VM_LOCKED | VM_LOCKONFAULT);
      if (v.vm_flags & VM_WIPEONFORK) v.anon_vma = null;
      if (v.vm_file) get_file(v.vm_file);
      await vma_link(mm, v);
      mm.total_vm += vma_pages(v);
      if (!(v.vm_flags & VM_WIPEONFORK) && vma_needs_copy(vma)) copy_page_range(v, vma);
      v.vm_ops?.open?.(v);
    }
  } catch (e) {
    oldmm.mmap_lock.up_write();
    await exit_mmap(mm);
    throw e;
  }
  oldmm.mmap_lock.up_write();
  return mm;
}

/** fork(2)'s part of mm: the child's address space, null for a kernel thread. */
export async function dup_mm(task: task_struct): Promise<mm_struct | null> {
  return task.mm === null ? null : dup_mmap(task.mm);
}

/** The task no longer uses its address space; the last user's end unmaps all. */
export async function exit_mm(task: task_struct): Promise<void> {
  const { mm } = task;
  // Whoever walks the list of tasks sees it with or without.
  note_access(task.kernel, mf_state_of(task.kernel).tasklist_lock, true);
  task.mm = null;
  if (mm !== null) await mmput(mm);
}
