/**
 * mm/gup.ts - touching and pinning user memory from the kernel. Linux: mm/gup.c.
 *
 * Reading order: faultin_page() (one page), fault_in_range(), mm_populate()
 * (MAP_POPULATE, mlock, MADV_POPULATE_*), get_user_pages() (pins: vmsplice, direct IO).
 */
import {
  EFAULT,
  EHWPOISON,
  EINVAL,
  ENOMEM,
  EOPNOTSUPP,
  is_errno,
} from "../kernel/include/errno.ts";
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_KILLABLE,
  FAULT_FLAG_TRIED,
  FAULT_FLAG_WRITE,
  VM_EXEC,
  VM_FAULT_COMPLETED,
  VM_FAULT_ERROR,
  VM_FAULT_HWPOISON,
  VM_FAULT_HWPOISON_LARGE,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
  VM_IO,
  VM_LOCKONFAULT,
  VM_MAYREAD,
  VM_MAYWRITE,
  VM_PFNMAP,
  VM_READ,
  VM_SHARED,
  VM_WRITE,
} from "../kernel/include/mm_types.ts";
import type { mm_struct, page, vm_area_struct } from "../kernel/include/mm_types.ts";
import { S_ISCHR } from "../kernel/include/stat.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { busy_begin, busy_end, busy_tasks } from "../kernel/locking/busy.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { handle_mm_fault, vma_is_dax } from "./memory/fault.ts";
import { mm_state } from "./mm_state.ts";
import { get_page, pfn_to_page, put_page } from "./page.ts";
import { geometry, lookup_entry, pte_pfn, pte_present, pte_write } from "./pgtable.ts";
import { find_vma } from "./vma.ts";

/** Is there an entry that allows the access? */
export function follow_page(mm: mm_struct, addr: number, write: boolean): boolean {
  const { entry } = lookup_entry(mm, addr);
  return pte_present(entry) && (!write || pte_write(entry));
}

/** Pages of a file: a device-dax mapping has no blocks that could be taken away. */
function vma_is_fsdax(vma: vm_area_struct): boolean {
  return vma_is_dax(vma) && !S_ISCHR(vma.vm_file!.f_mapping.host.i_mode);
}

/** What is wanted of a page. `force`: what mprotect() could allow is enough for a load. */
interface access {
  readonly write: boolean;
  readonly force: boolean;
}
const LOAD: access = { write: false, force: false };
const STORE: access = { write: true, force: false };
const FORCED_LOAD: access = { write: false, force: true };

function check_vma_flags(vma: vm_area_struct, { write, force }: access): void {
  if (vma.vm_flags & (VM_IO | VM_PFNMAP)) throw EFAULT;
  if (vma.vm_flags & (write ? VM_WRITE : VM_READ)) return;
  if (write || !force || !(vma.vm_flags & VM_MAYREAD)) throw EFAULT;
}

/** Outcome of one fault taken on behalf of somebody. */
const FAULTED = 0;
/** mmap_lock was dropped; take it and look the vma up again. */
const LOCK_DROPPED = 1;

/** Takes one fault; throws EFAULT, ENOMEM, EHWPOISON. mmap_lock held for reading. */
async function faultin_page(vma: vm_area_struct, addr: number, write: boolean, tried: boolean) {
  let flags = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_KILLABLE;
  if (write) flags |= FAULT_FLAG_WRITE;
  if (tried) flags |= FAULT_FLAG_TRIED;
  const ret = await handle_mm_fault(vma, addr, flags);
  if (ret & (VM_FAULT_COMPLETED | VM_FAULT_RETRY)) return LOCK_DROPPED;
  if (ret & VM_FAULT_ERROR) {
    if (ret & VM_FAULT_OOM) throw ENOMEM;
    if (ret & (VM_FAULT_HWPOISON | VM_FAULT_HWPOISON_LARGE)) throw EHWPOISON;
    throw EFAULT;
  }
  return FAULTED;
}

interface range_walk {
  /** The access to ask for in a vma, or null to leave it out. */
  readonly check: (vma: vm_area_struct) => access | null;
  /** A vma with an error is left, and the next one begun. */
  readonly ignore_errors?: boolean;
}

/**
 * Makes every page of [start, end) present, faulting where needed. mmap_lock must NOT be held.
 * An error after some pages of a vma only ends the batch, as in the kernel: the page is faulted
 * once more, and then the error counts. Holes are passed over; true: there was one.
 */
async function fault_in_range(
  mm: mm_struct,
  start: number,
  end: number,
  w: range_walk,
): Promise<boolean> {
  const at: walk_position = { addr: start, end, hole: false, tried: false, batch: null };
  while (at.addr < end) {
    const p = mm.mmap_lock.down_read();
    if (p) await p;
    at.batch = null;
    let held = true;
    try {
      held = (await fault_in_locked(mm, at, w)) === FAULTED;
    } finally {
      if (held) mm.mmap_lock.up_read();
    }
    at.tried = !held;
  }
  return at.hole;
}

interface walk_position {
  addr: number;
  readonly end: number;
  hole: boolean;
  /** This page has been faulted, and mmap_lock was dropped for it. */
  tried: boolean;
  /** The vma in which pages have been done since the batch began. */
  batch: vm_area_struct | null;
}

/** As far as it goes before mmap_lock is dropped (LOCK_DROPPED). */
async function fault_in_locked(mm: mm_struct, at: walk_position, w: range_walk): Promise<number> {
  while (at.addr < at.end) {
    const vma = find_vma(mm, at.addr);
    if (vma === null || vma.vm_start > at.addr) at.hole = true;
    at.addr = Math.max(at.addr, vma?.vm_start ?? at.end);
    if (vma === null || at.addr >= at.end) return FAULTED;
    try {
      if ((await fault_in_page(vma, at, w)) === LOCK_DROPPED) return LOCK_DROPPED;
    } catch (e) {
      if (!is_errno(e)) throw e;
      if (at.batch === vma) at.batch = null;
      else if (w.ignore_errors) at.addr = vma.vm_end;
      else throw e;
    }
  }
  return FAULTED;
}

async function fault_in_page(vma: vm_area_struct, at: walk_position, w: range_walk) {
  const want = w.check(vma);
  if (want === null) {
    at.addr = vma.vm_end;
    return FAULTED;
  }
  check_vma_flags(vma, want);
  if (!follow_page(vma.vm_mm, at.addr, want.write)) {
    return faultin_page(vma, at.addr, want.write, at.tried);
  }
  at.addr += geometry(vma.vm_mm).page_size;
  at.tried = false;
  at.batch = vma;
  return FAULTED;
}

/**
 * Loads for shared mappings, stores for private ones that can be written (the copy is made now).
 * Any access the program has is enough; with none there is nothing to populate (EFAULT).
 */
function populate_access(vma: vm_area_struct): access | null {
  if (vma.vm_flags & (VM_IO | VM_PFNMAP | VM_LOCKONFAULT)) return null;
  if ((vma.vm_flags & (VM_WRITE | VM_SHARED)) === VM_WRITE) return STORE;
  return vma.vm_flags & (VM_READ | VM_WRITE | VM_EXEC) ? FORCED_LOAD : LOAD;
}

/** MAP_POPULATE and mlock. `ignore_errors`: MAP_POPULATE never fails. */
export async function mm_populate(
  mm: mm_struct,
  start: number,
  len: number,
  ignore_errors: boolean,
): Promise<void> {
  await fault_in_range(mm, start, start + len, { check: populate_access, ignore_errors });
}

/**
 * MADV_POPULATE_READ and _WRITE. Throws ENOMEM (hole), EINVAL (no permission), EFAULT (SIGBUS),
 * EHWPOISON.
 */
export async function faultin_page_range(
  mm: mm_struct,
  start: number,
  end: number,
  write: boolean,
): Promise<void> {
  const check = (vma: vm_area_struct): access => {
    const need = write ? VM_WRITE : VM_READ;
    if (vma.vm_flags & (VM_IO | VM_PFNMAP) || !(vma.vm_flags & need)) throw EINVAL;
    return write ? STORE : LOAD;
  };
  if (await fault_in_range(mm, start, end, { check })) throw ENOMEM;
}

/**
 * Pins the pages of [start, start + nr pages): each gets a reference that the caller drops with
 * put_page. Throws EFAULT, after dropping what it has; memory without page descriptors cannot be
 * pinned.
 */
export async function get_user_pages(
  mm: mm_struct,
  start: number,
  nr: number,
  write: boolean,
  longterm = false,
): Promise<page[]> {
  const { page_size } = geometry(mm);
  const out: page[] = [];
  for (let i = 0; i < nr; i++) {
    const addr = start + i * page_size;
    const check = (vma: vm_area_struct): access => {
      if (longterm && vma_is_fsdax(vma)) throw EOPNOTSUPP;
      if (!(vma.vm_flags & (write ? VM_MAYWRITE : VM_MAYREAD))) throw EFAULT;
      return write ? STORE : LOAD;
    };
    try {
      if (await fault_in_range(mm, addr, addr + page_size, { check })) throw EFAULT;
      out.push(pin_one(mm, addr));
    } catch (e) {
      for (const p of out) put_page(p);
      // Nobody here asks for EHWPOISON (FOLL_HWPOISON).
      throw e === ENOMEM || e === EHWPOISON ? EFAULT : e;
    }
  }
  return out;
}

/** What busy_tasks() knows of a page. */
const PINNED = 1;

/**
 * As get_user_pages, by a task that itself lets go, by unpin_user_pages(): who waits for the pages
 * is known to wait for it. Linux: FOLL_PIN. `longterm` (FOLL_LONGTERM: RDMA, io_uring's fixed
 * buffers) is for as long as a program likes, which truncation cannot wait for: EOPNOTSUPP for
 * pages of a DAX file.
 */
export async function pin_user_pages(
  mm: mm_struct,
  start: number,
  nr: number,
  write: boolean,
  longterm = false,
): Promise<page[]> {
  const pages = await get_user_pages(mm, start, nr, write, longterm);
  for (const p of pages) busy_begin(mm.kernel, p, PINNED);
  return pages;
}

export function unpin_user_pages(kernel: Kernel, pages: readonly page[]): void {
  for (const p of pages) {
    busy_end(kernel, p, PINNED);
    put_page(p);
  }
}

/** Tasks that have pinned the page. */
export function page_pinners(kernel: Kernel, p: page): task_struct[] {
  return busy_tasks(kernel, p, PINNED);
}

function pin_one(mm: mm_struct, addr: number): page {
  const { page_size } = geometry(mm);
  const { entry, size } = lookup_entry(mm, addr);
  const pfn = pte_pfn(entry) + Math.floor((addr % size) / page_size);
  const st = mm_state(mm.kernel);
  const zero = pfn === st.zero_pfn || pte_pfn(entry) === st.huge_zero_pfn;
  const p = pfn_to_page(mm.kernel, zero ? st.zero_pfn : pfn);
  if (p === null) throw EFAULT;
  get_page(p);
  return p;
}
