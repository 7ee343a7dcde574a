/** mm/mremap.ts - mremap(2). Linux: mm/mremap.c. Differs: MREMAP_DONTUNMAP is not built. */
import { EAGAIN, EFAULT, EINVAL, ENOMEM } from "../kernel/include/errno.ts";
import type { file } from "../kernel/include/fs.ts";
import { CAP_IPC_LOCK } from "../kernel/include/cred.ts";
import { MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE } from "../kernel/include/mman.ts";
import { VM_DONTEXPAND, VM_LOCKED, VM_MAYSHARE, VM_PFNMAP } from "../kernel/include/mm_types.ts";
import type { mm_struct, vm_area_struct } from "../kernel/include/mm_types.ts";
import { notImplemented } from "../kernel/assert.ts";
import { capable } from "../kernel/cred.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { fput, get_file } from "../kernel/vfs/file.ts";
import { mm_populate } from "./gup.ts";
import { do_munmap, may_expand_vm, page_align, page_aligned, task_mm, u64 } from "./mmap.ts";
import {
  flush_tlb_range,
  geometry,
  pmd_alloc,
  pmd_index,
  pte_alloc,
  pte_index,
  pud_alloc,
  pud_index,
  walk_page_range,
} from "./pgtable.ts";
import { task_rlimit } from "./rlimit.ts";
import { get_unmapped_area } from "./unmapped_area.ts";
import {
  find_vma_intersection,
  linear_page_index,
  vm_area_dup,
  vma_link,
  vma_lookup,
  vma_merge,
} from "./vma.ts";

/**
 * Carries entries over; page_table_lock is taken here. A huge entry moves only onto a whole empty
 * slot.
 */
export function move_page_tables(mm: mm_struct, from: number, to: number, len: number): void {
  const g = geometry(mm);
  mm.page_table_lock.lock();
  walk_page_range(mm, from, from + len, {
    pte(table, first, last, addr) {
      for (let i = first; i < last; i++, addr += g.page_size) {
        const e = table[i]!;
        if (e === 0) continue;
        const dst = addr - from + to;
        pte_alloc(mm, g, dst)[pte_index(g, dst)] = e;
        table[i] = 0;
      }
    },
    huge(leaf, i, addr, size, a, b) {
      const dst = addr - from + to;
      const whole = b - a === size && dst % size === 0;
      if (whole && size === g.pud_size) {
        const pud = pud_alloc(mm, g, dst);
        const di = pud_index(g, dst);
        pud.child[di] = null;
        pud.leaf[di] = leaf[i]!;
      } else if (whole) {
        const pmd = pmd_alloc(mm, g, dst);
        const di = pmd_index(g, dst);
        pmd.child[di] = null;
        pmd.leaf[di] = leaf[i]!;
      }
      // Otherwise it is dropped, as splitting a file's huge entry drops it.
      leaf[i] = 0;
    },
  });
  flush_tlb_range(mm, from, from + len);
  mm.page_table_lock.unlock();
}

/** The vma to be resized, with the checks that concern it. */
function vma_to_resize(
  task: task_struct,
  mm: mm_struct,
  addr: number,
  old_len: number,
  new_len: number,
): vm_area_struct {
  const vma = vma_lookup(mm, addr);
  if (vma === null) throw EFAULT;
  // Old length 0 makes a second mapping of the same pages: only for shared ones.
  if (old_len === 0 && !(vma.vm_flags & VM_MAYSHARE)) throw EINVAL;
  if (old_len > vma.vm_end - addr) throw EFAULT;
  if (new_len === old_len) return vma;
  if (new_len > old_len && vma.vm_flags & (VM_DONTEXPAND | VM_PFNMAP)) throw EFAULT;
  const { page_size } = geometry(mm);
  const grow = (new_len - old_len) / page_size;
  if (vma.vm_flags & VM_LOCKED) {
    const locked = (mm.locked_vm + grow) * page_size;
    if (locked > task_rlimit(task, "MEMLOCK") && !capable(mm.kernel, CAP_IPC_LOCK)) throw EAGAIN;
  }
  if (!may_expand_vm(task, mm, grow)) throw ENOMEM;
  return vma;
}

async function move_vma(
  mm: mm_struct,
  vma: vm_area_struct,
  old_addr: number,
  old_len: number,
  new_addr: number,
  new_len: number,
  put: file[],
): Promise<void> {
  vma.vm_ops?.may_split?.(vma, old_addr);
  vma.vm_ops?.mremap?.(vma);
  const { page_size } = geometry(mm);
  const fresh = vm_area_dup(vma, mm);
  fresh.vm_start = new_addr;
  fresh.vm_end = new_addr + new_len;
  fresh.vm_pgoff = linear_page_index(vma, old_addr);
  if (fresh.vm_file) get_file(fresh.vm_file);
  fresh.vm_ops?.open?.(fresh);
  await vma_link(mm, fresh);
  move_page_tables(mm, old_addr, new_addr, old_len);
  mm.total_vm += new_len / page_size;
  if (fresh.vm_flags & VM_LOCKED) mm.locked_vm += new_len / page_size;
  if (old_len > 0) await do_munmap(mm, old_addr, old_len, put);
}

/** Grows in place if nothing is in the way. */
async function expand_in_place(
  mm: mm_struct,
  vma: vm_area_struct,
  addr: number,
  old_len: number,
  new_len: number,
): Promise<boolean> {
  const end = addr + old_len;
  const delta = new_len - old_len;
  if (vma.vm_end !== end || find_vma_intersection(mm, end, end + delta)) return false;
  if (end + delta > mm.task_size) return false;
  const pgoff = linear_page_index(vma, end);
  const kind = {
    vm_flags: vma.vm_flags,
    file: vma.vm_file,
    anon_vma: vma.anon_vma,
    vm_ops: vma.vm_ops,
    private_data: vma.vm_private_data,
  };
  const joined = await vma_merge(mm, end, end + delta, pgoff, kind, null);
  if (joined === null) vma.vm_end = end + delta;
  const pages = delta / geometry(mm).page_size;
  mm.total_vm += pages;
  if (vma.vm_flags & VM_LOCKED) mm.locked_vm += pages;
  return true;
}

function check_args(
  mm: mm_struct,
  addr: number,
  old_len: number,
  new_len: number,
  flags: number,
  new_addr: number,
): void {
  if (flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP)) throw EINVAL;
  if (flags & MREMAP_FIXED && !(flags & MREMAP_MAYMOVE)) throw EINVAL;
  if (flags & MREMAP_DONTUNMAP) {
    if (!(flags & MREMAP_MAYMOVE) || old_len !== new_len) throw EINVAL;
    notImplemented("mremap(MREMAP_DONTUNMAP)");
  }
  if (!page_aligned(mm, addr) || new_len === 0) throw EINVAL;
  if (!(flags & MREMAP_FIXED)) return;
  if (!page_aligned(mm, new_addr)) throw EINVAL;
  if (new_len > mm.task_size || new_addr > mm.task_size - new_len) throw EINVAL;
  if (addr + old_len > new_addr && new_addr + new_len > addr) throw EINVAL;
}

interface remap_request {
  addr: number;
  old_len: number;
  new_len: number;
  flags: number;
  new_addr: number;
}

async function do_mremap(
  task: task_struct,
  mm: mm_struct,
  r: remap_request,
  put: file[],
): Promise<number> {
  const { addr, new_len, flags } = r;
  let { old_len } = r;
  if (vma_lookup(mm, addr) === null) throw EFAULT;
  if (flags & MREMAP_FIXED) {
    await do_munmap(mm, r.new_addr, new_len, put);
    if (old_len > new_len) {
      await do_munmap(mm, addr + new_len, old_len - new_len, put);
      old_len = new_len;
    }
    const vma = vma_to_resize(task, mm, addr, old_len, new_len);
    await move_vma(mm, vma, addr, old_len, r.new_addr, new_len, put);
    return r.new_addr;
  }
  if (old_len >= new_len) {
    if (old_len > new_len) await do_munmap(mm, addr + new_len, old_len - new_len, put);
    return addr;
  }
  const vma = vma_to_resize(task, mm, addr, old_len, new_len);
  if (old_len > 0 && (await expand_in_place(mm, vma, addr, old_len, new_len))) return addr;
  if (!(flags & MREMAP_MAYMOVE)) throw ENOMEM;
  const pgoff = linear_page_index(vma, addr);
  const at = get_unmapped_area(mm, vma.vm_file, 0, new_len, pgoff, 0);
  await move_vma(mm, vma, addr, old_len, at, new_len, put);
  return at;
}

/** mremap(2). Returns the new address. */
export async function sys_mremap(
  task: task_struct,
  addr: number,
  old_len: number,
  new_len: number,
  flags: number,
  new_addr = 0,
): Promise<number> {
  const mm = task_mm(task);
  addr = u64(addr);
  old_len = page_align(mm, u64(old_len));
  new_len = page_align(mm, u64(new_len));
  new_addr = u64(new_addr);
  check_args(mm, addr, old_len, new_len, flags, new_addr);
  const put: file[] = [];
  const p = mm.mmap_lock.down_write();
  if (p) await p;
  let at: number;
  let locked = false;
  try {
    at = await do_mremap(task, mm, { addr, old_len, new_len, flags, new_addr }, put);
    locked = ((vma_lookup(mm, at)?.vm_flags ?? 0) & VM_LOCKED) !== 0;
  } finally {
    mm.mmap_lock.up_write();
  }
  for (const f of put) await fput(f);
  if (locked && new_len > old_len) await mm_populate(mm, at + old_len, new_len - old_len, true);
  return at;
}
