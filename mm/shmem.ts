/**
 * mm/shmem.ts - shared anonymous memory. Linux: mm/shmem.c (shmem_zero_setup).
 * Differs: no file behind it, only an object with pages that the vmas share (also across fork); it
 * is freed when the last vma goes.
 */
import type {
  page,
  vm_area_struct,
  vm_fault,
  vm_operations_struct,
} from "../kernel/include/mm_types.ts";
import { VM_FAULT_LOCKED, VM_FAULT_OOM } from "../kernel/include/mm_types.ts";
import type { Sometime } from "../kernel/include/fs.ts";
import { SetPageUptodate, get_page, lock_page, put_page } from "./page.ts";
import { try_alloc_page } from "./memory/vmf.ts";
import { zap_page_range_single } from "./memory/zap.ts";
import { geometry } from "./pgtable.ts";
import { then } from "./sometime.ts";

interface shm_object {
  readonly pages: Map<number, page>;
  users: number;
}

function shm(vma: vm_area_struct): shm_object {
  return vma.vm_private_data as shm_object;
}

function shmem_fault(vmf: vm_fault): Sometime<number> {
  const { vma, pgoff } = vmf;
  let p = shm(vma).pages.get(pgoff);
  if (p === undefined) {
    const fresh = try_alloc_page(vma.vm_mm.kernel);
    if (fresh === null) return VM_FAULT_OOM;
    SetPageUptodate(fresh);
    shm(vma).pages.set(pgoff, fresh);
    p = fresh;
  }
  get_page(p);
  vmf.page = p;
  return then(lock_page(p), () => VM_FAULT_LOCKED);
}

const shmem_vm_ops: vm_operations_struct = Object.freeze({
  name: "shmem_vm_ops",
  fault: shmem_fault,
  open(vma: vm_area_struct) {
    shm(vma).users++;
  },
  close(vma: vm_area_struct) {
    const o = shm(vma);
    o.users--;
    if (o.users > 0) return;
    for (const p of o.pages.values()) put_page(p);
    o.pages.clear();
  },
});

/** The object has `fresh` where it had `old`, once. */
export function shmem_replace_page(vma: vm_area_struct, old: page, fresh: page): void {
  for (const [pgoff, p] of shm(vma).pages) {
    if (p !== old) continue;
    get_page(fresh);
    shm(vma).pages.set(pgoff, fresh);
    put_page(old);
  }
}

/** Makes a new vma a piece of shared memory of its own. */
export function shmem_zero_setup(vma: vm_area_struct): void {
  const object: shm_object = { pages: new Map(), users: 1 };
  vma.vm_private_data = object;
  vma.vm_ops = shmem_vm_ops;
}

/** Takes `nr` pages from `first` on out of the object, and so from all who have them mapped. */
export function shmem_punch(vma: vm_area_struct, first: number, nr: number): void {
  const object = shm(vma);
  const { kernel } = vma.vm_mm;
  const { page_size } = geometry(vma.vm_mm);
  const mms = new Set([...kernel.machine.sched.tasks].map((t) => t.mm));
  for (const v of [...mms].flatMap((mm) => mm?.mmap ?? [])) {
    if (!vma_is_shmem(v) || shm(v) !== object) continue;
    const from = v.vm_start + (first - v.vm_pgoff) * page_size;
    const start = Math.max(v.vm_start, from);
    const end = Math.min(v.vm_end, from + nr * page_size);
    if (start < end) zap_page_range_single(v, start, end, true);
  }
  for (let i = first; i < first + nr; i++) {
    const p = object.pages.get(i);
    if (p !== undefined) put_page(p);
    object.pages.delete(i);
  }
}

/** Has the object a page for `pgoff`? */
export function shmem_has_page(vma: vm_area_struct, pgoff: number): boolean {
  return shm(vma).pages.has(pgoff);
}

export function vma_is_shmem(vma: vm_area_struct): boolean {
  return vma.vm_ops === shmem_vm_ops;
}
