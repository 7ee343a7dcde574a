/**
 * mm/mlock.ts - mlock(2), mlock2(2), munlock(2). Linux: mm/mlock.c. Differs: there is no reclaim,
 * so a lock is a flag, a count and a prefault.
 */
import { EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM } from "../kernel/include/errno.ts";
import { CAP_IPC_LOCK } from "../kernel/include/cred.ts";
import { MLOCK_ONFAULT } from "../kernel/include/mman.ts";
import { VM_LOCKED, VM_LOCKONFAULT } from "../kernel/include/mm_types.ts";
import type { mm_struct } from "../kernel/include/mm_types.ts";
import { capable } from "../kernel/cred.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { mm_populate } from "./gup.ts";
import { vma_is_dax } from "./memory/fault.ts";
import { can_do_mlock, page_align, task_mm, u64 } from "./mmap.ts";
import { vma_modify_flags } from "./mprotect.ts";
import { geometry } from "./pgtable.ts";
import { task_rlimit } from "./rlimit.ts";
import { VM_SPECIAL, find_vma, vma_pages } from "./vma.ts";

async function apply_vma_lock_flags(
  mm: mm_struct,
  start: number,
  end: number,
  flags: number,
): Promise<void> {
  for (let at = start; at < end; ) {
    const vma = find_vma(mm, at);
    if (vma === null || vma.vm_start > at) throw ENOMEM;
    const to = Math.min(vma.vm_end, end);
    const newflags = (vma.vm_flags & ~(VM_LOCKED | VM_LOCKONFAULT)) | flags;
    // DAX memory is never reclaimed: neither flagged nor counted.
    if (newflags !== vma.vm_flags && !(vma.vm_flags & VM_SPECIAL) && !vma_is_dax(vma)) {
      const was = vma.vm_flags & VM_LOCKED;
      const v = await vma_modify_flags(mm, vma, at, to, newflags);
      const pages = (to - at) / geometry(mm).page_size;
      if (!was && newflags & VM_LOCKED) mm.locked_vm += pages;
      if (was && !(newflags & VM_LOCKED)) mm.locked_vm -= pages;
      v.vm_flags = newflags;
    }
    at = to;
  }
}

/** mlock(2) and mlock2(2): `flags` 0 or MLOCK_ONFAULT. */
export async function sys_mlock(
  task: task_struct,
  start: number,
  len: number,
  flags = 0,
): Promise<void> {
  const mm = task_mm(task);
  if (flags & ~MLOCK_ONFAULT) throw EINVAL;
  if (!can_do_mlock(task)) throw EPERM;
  start = u64(start);
  len = u64(len);
  const { page_size } = geometry(mm);
  const from = Math.floor(start / page_size) * page_size;
  len = page_align(mm, len + (start - from));
  const p = mm.mmap_lock.down_write();
  if (p) await p;
  try {
    const limit = task_rlimit(task, "MEMLOCK");
    let locked = mm.locked_vm * page_size + len;
    for (const v of mm.mmap) {
      if (!(v.vm_flags & VM_LOCKED) || v.vm_end <= from || v.vm_start >= from + len) continue;
      locked -= Math.min(v.vm_end, from + len) - Math.max(v.vm_start, from);
    }
    if (locked > limit && !capable(mm.kernel, CAP_IPC_LOCK)) throw ENOMEM;
    const add = VM_LOCKED | (flags & MLOCK_ONFAULT ? VM_LOCKONFAULT : 0);
    await apply_vma_lock_flags(mm, from, from + len, add);
  } finally {
    mm.mmap_lock.up_write();
  }
  try {
    await mm_populate(mm, from, len, false);
  } catch (e) {
    if (e === EFAULT) throw ENOMEM;
    throw e === ENOMEM ? EAGAIN : e;
  }
}

export async function sys_munlock(task: task_struct, start: number, len: number): Promise<void> {
  const mm = task_mm(task);
  start = u64(start);
  len = u64(len);
  const { page_size } = geometry(mm);
  const from = Math.floor(start / page_size) * page_size;
  len = page_align(mm, len + (start - from));
  const p = mm.mmap_lock.down_write();
  if (p) await p;
  try {
    await apply_vma_lock_flags(mm, from, from + len, 0);
  } finally {
    mm.mmap_lock.up_write();
  }
}

/** Pages locked in all vmas, for a check against locked_vm. */
export function count_locked(mm: mm_struct): number {
  return mm.mmap.reduce((n, v) => n + (v.vm_flags & VM_LOCKED ? vma_pages(v) : 0), 0);
}
