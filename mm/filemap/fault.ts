/**
 * mm/filemap/fault.ts - faults on mappings of files in the page cache. Linux: mm/filemap.c.
 *
 * filemap_fault() finds or reads one page and returns it locked; filemap_map_pages() maps what is
 * cached around it without sleeping; filemap_page_mkwrite() allows a store to a page.
 * The page lock and page.mapping decide races with truncation: a page without mapping is not used.
 */
import { EINVAL, ENOEXEC, ENOMEM, is_errno } from "../../kernel/include/errno.ts";
import type { Sometime, file } from "../../kernel/include/fs.ts";
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_TRIED,
  PG_hwpoison,
  PG_readahead,
  VM_FAULT_LOCKED,
  VM_FAULT_MAJOR,
  VM_FAULT_NOPAGE,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
  VM_MAYWRITE,
  VM_SHARED,
} from "../../kernel/include/mm_types.ts";
import type {
  mm_struct,
  page,
  vm_area_struct,
  vm_fault,
  vm_operations_struct,
} from "../../kernel/include/mm_types.ts";
import { XA_STATE, xa_is_value, xas_find, xas_next_entry } from "../../kernel/lib/xarray.ts";
import { fput, get_file } from "../../kernel/vfs/file.ts";
import { sb_end_pagefault, sb_start_pagefault } from "../../kernel/vfs/super.ts";
import { do_set_pte } from "../memory/pte_fault.ts";
import { FAULT } from "../memory/vmf.ts";
import { set_page_dirty } from "../page_dirty.ts";
import {
  PageUptodate,
  get_page,
  lock_page,
  put_page,
  trylock_page,
  unlock_page,
  wait_for_stable_page,
} from "../page.ts";
import { pte_index } from "../pgtable.ts";
import {
  do_sync_mmap_readahead,
  mmap_hit,
  mmap_miss_reads,
  page_cache_async_readahead,
} from "../readahead.ts";
import { then } from "../sometime.ts";
import { find_get_page, page_is_of } from "./lookup.ts";
import { filling, read_cache_page } from "./read.ts";

/** Pages of the file, the last one in part. */
function nr_pages(vmf: vm_fault): number {
  const host = vmf.vma.vm_file!.f_mapping.host;
  return Math.ceil(host.i_size / vmf.vma.vm_mm.kernel.PAGE_SIZE);
}

export function filemap_fault(vmf: vm_fault): Sometime<number> {
  const mapping = vmf.vma.vm_file!.f_mapping;
  if (vmf.pgoff >= nr_pages(vmf)) return VM_FAULT_SIGBUS;
  const p = find_get_page(mapping, vmf.pgoff);
  if (p === null || !PageUptodate(p) || mmap_hit(vmf.vma.vm_file!, p, vmf.vma.vm_flags)) {
    if (p !== null) put_page(p);
    return fault_read(vmf);
  }
  return then(lock_page(p) as Sometime<void>, () => lock_found(vmf, p, 0) ?? filemap_fault(vmf));
}

/** The page is locked now: is it still what was looked for? Null: no, look again. */
function lock_found(vmf: vm_fault, p: page, ret: number): number | null {
  const mapping = vmf.vma.vm_file!.f_mapping;
  const gone = !page_is_of(p, mapping, vmf.pgoff);
  if (!gone && PageUptodate(p) && vmf.pgoff < nr_pages(vmf)) {
    vmf.page = p;
    return ret | VM_FAULT_LOCKED;
  }
  const beyond = vmf.pgoff >= nr_pages(vmf);
  unlock_page(p);
  put_page(p);
  return beyond ? VM_FAULT_SIGBUS : null;
}

/** The page is not there, or has the mark. */
async function fault_read(vmf: vm_fault): Promise<number> {
  const file = vmf.vma.vm_file!;
  const p = find_get_page(file.f_mapping, vmf.pgoff);
  const ret = p === null ? VM_FAULT_MAJOR : 0;
  let dropped: boolean;
  try {
    dropped = await read_ahead(vmf, file, p);
  } finally {
    if (p !== null) put_page(p);
  }
  if (dropped) return ret | VM_FAULT_RETRY;
  return filling(file.f_mapping, () => find_or_read(vmf, ret));
}

/** Reads ahead for the page `p`, null: for a miss. True: mmap_lock was dropped for that. */
async function read_ahead(vmf: vm_fault, file: file, p: page | null): Promise<boolean> {
  const { vma, pgoff } = vmf;
  const mapping = file.f_mapping;
  const wanted = p ? (p.flags & PG_readahead) !== 0 : mmap_miss_reads(file, vma.vm_flags);
  if (!wanted) return false;
  const read = (): Promise<void> =>
    p
      ? page_cache_async_readahead(mapping, file, p, file.f_ra.ra_pages)
      : do_sync_mmap_readahead(mapping, file, pgoff, vma.vm_flags);
  const retry = FAULT_FLAG_ALLOW_RETRY | FAULT_FLAG_TRIED;
  const first = (vmf.flags & retry) === FAULT_FLAG_ALLOW_RETRY;
  if (first) await without_mmap_lock(vma.vm_mm, file, read);
  else await filling(mapping, read);
  return first;
}

/** The fault begins anew afterwards: meanwhile the vma may go, but not the file. */
async function without_mmap_lock(
  mm: mm_struct,
  file: file,
  read: () => Promise<void>,
): Promise<void> {
  get_file(file);
  mm.mmap_lock.up_read();
  try {
    await filling(file.f_mapping, read);
  } finally {
    await fput(file);
  }
}

async function find_or_read(vmf: vm_fault, ret: number): Promise<number> {
  const file = vmf.vma.vm_file!;
  const mapping = file.f_mapping;
  try {
    for (;;) {
      if (vmf.pgoff >= nr_pages(vmf)) return VM_FAULT_SIGBUS;
      const p = await read_cache_page(mapping, vmf.pgoff, file);
      const l = lock_page(p);
      if (l) await l;
      // a page can be dropped from a clean cache at any time: invalidate_lock is still held
      const done = lock_found(vmf, p, ret);
      if (done !== null) return done;
    }
  } catch (e) {
    if (!is_errno(e)) throw e;
    return e === ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
  }
}

/**
 * Maps uptodate pages of [start_pgoff, end_pgoff] that can be had at once. NOPAGE if the faulting
 * one is among them.
 */
export function filemap_map_pages(vmf: vm_fault, start_pgoff: number, end_pgoff: number): number {
  const f = FAULT(vmf);
  const mapping = f.vma.vm_file!.f_mapping;
  const last = Math.min(end_pgoff, nr_pages(vmf) - 1);
  const xas = XA_STATE(mapping.i_pages, start_pgoff);
  if (f.ensure_pmd().leaf[f.pmd_i] !== 0) return VM_FAULT_NOPAGE;
  let ret = 0;
  let table = f.pte_table;
  for (let e = xas_find(xas, last); e !== null; e = xas_next_entry(xas, last)) {
    if (xa_is_value(e)) continue;
    const p = e as page;
    if (!PageUptodate(p) || p.flags & (PG_hwpoison | PG_readahead) || !trylock_page(p)) continue;
    const addr = f.vma.vm_start + (p.index - f.vma.vm_pgoff) * f.g.page_size;
    const i = pte_index(f.g, addr);
    if (page_is_of(p, mapping, Number(xas.xa_index)) && PageUptodate(p)) {
      table ??= f.alloc_pte_table();
      f.mm.page_table_lock.lock();
      if (table[i] === 0) {
        get_page(p);
        do_set_pte(f, p, i, table);
        if (addr === f.address) ret = VM_FAULT_NOPAGE;
      }
      f.mm.page_table_lock.unlock();
    }
    unlock_page(p);
  }
  return ret;
}

/** A store to a mapped page: times, dirty, and wait if the device needs stable pages. */
export async function filemap_page_mkwrite(vmf: vm_fault): Promise<number> {
  const file = vmf.vma.vm_file!;
  const mapping = file.f_mapping;
  const { i_sb } = mapping.host;
  const p = vmf.page!;
  const w = sb_start_pagefault(i_sb);
  if (w) await w;
  try {
    await file.kernel.vfs_ops.fault_update_time(file);
    const l = lock_page(p);
    if (l) await l;
    if (p.mapping !== mapping) {
      unlock_page(p);
      return VM_FAULT_NOPAGE;
    }
    set_page_dirty(p);
    await wait_for_stable_page(p);
    return VM_FAULT_LOCKED;
  } finally {
    sb_end_pagefault(i_sb);
  }
}

export const generic_file_vm_ops: vm_operations_struct = Object.freeze({
  name: "generic_file_vm_ops",
  fault: filemap_fault,
  map_pages: filemap_map_pages,
  page_mkwrite: filemap_page_mkwrite,
});

/** The mmap of files in the page cache. */
export function generic_file_mmap(file: file, vma: vm_area_struct): void {
  if (!file.f_mapping.a_ops.read_folio) throw ENOEXEC;
  vma.vm_ops = generic_file_vm_ops;
}

/** For files that cannot be written through mappings: shared writable ones are refused. */
export function generic_file_readonly_mmap(file: file, vma: vm_area_struct): void {
  if (vma.vm_flags & VM_SHARED && vma.vm_flags & VM_MAYWRITE) throw EINVAL;
  generic_file_mmap(file, vma);
}
