/**
 * mm/memory/pte_fault.ts - faults on an empty PTE. Linux: mm/memory.c (do_fault and friends,
 * do_anonymous_page).
 *
 * mmap_lock is held for reading (or a handler dropped it and says VM_FAULT_RETRY or _COMPLETED).
 * A handler's answer is a page, locked or not, or the news that it has put the entry in place
 * itself (VM_FAULT_NOPAGE, as DAX does) or filled the private copy (VM_FAULT_DONE_COW).
 */
import type { Sometime } from "../../kernel/include/fs.ts";
import {
  FAULT_FLAG_MKWRITE,
  FAULT_FLAG_WRITE,
  PG_hwpoison,
  VM_FAULT_DONE_COW,
  VM_FAULT_ERROR,
  VM_FAULT_HWPOISON,
  VM_FAULT_LOCKED,
  VM_FAULT_NOPAGE,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
  VM_SHARED,
} from "../../kernel/include/mm_types.ts";
import type { page } from "../../kernel/include/mm_types.ts";
import { S_SWAPFILE } from "../../kernel/include/fs.ts";
import { mm_state } from "../mm_state.ts";
import { balance_dirty_pages_ratelimited, set_page_dirty } from "../page_dirty.ts";
import { SetPageUptodate, lock_page, page_address, put_page, unlock_page } from "../page.ts";
import { _PAGE_DIRTY, _PAGE_SPECIAL, maybe_mkwrite, mk_entry, pte_set } from "../pgtable.ts";
import { then } from "../sometime.ts";
import { vma_pages } from "../vma.ts";
import { page_add_file_rmap, page_add_new_anon_rmap } from "./rmap.ts";
import { try_alloc_page } from "./vmf.ts";
import type { fault_ctx } from "./vmf.ts";

const STOP = VM_FAULT_ERROR | VM_FAULT_NOPAGE | VM_FAULT_RETRY;

/** First touch of anonymous memory: the zero page for a load, a page of its own for a store. */
export function do_anonymous_page(f: fault_ctx): number {
  const { vma, mm } = f;
  if (vma.vm_flags & VM_SHARED) return VM_FAULT_SIGBUS;
  const table = f.alloc_pte_table();
  const write = (f.flags & FAULT_FLAG_WRITE) !== 0;
  if (!write) {
    mm.page_table_lock.lock();
    if (table[f.pte_i] === 0) {
      const prot = vma.vm_page_prot | _PAGE_SPECIAL;
      table[f.pte_i] = mk_entry(mm_state(f.kernel).zero_pfn, prot);
    }
    mm.page_table_lock.unlock();
    return 0;
  }
  const p = try_alloc_page(f.kernel);
  if (p === null) return VM_FAULT_OOM;
  SetPageUptodate(p);
  mm.page_table_lock.lock();
  if (table[f.pte_i] !== 0) {
    mm.page_table_lock.unlock();
    put_page(p);
    return 0;
  }
  mm.rss_anon++;
  page_add_new_anon_rmap(p, vma);
  table[f.pte_i] = maybe_mkwrite(mk_entry(p.pfn, vma.vm_page_prot | _PAGE_DIRTY), vma);
  mm.page_table_lock.unlock();
  return 0;
}

export function do_fault(f: fault_ctx): Sometime<number> {
  if (!f.vma.vm_ops?.fault) {
    const table = f.pte_table;
    return table === null || table[f.pte_i] === 0 ? VM_FAULT_SIGBUS : VM_FAULT_NOPAGE;
  }
  if (!(f.flags & FAULT_FLAG_WRITE)) return do_read_fault(f);
  if (!(f.vma.vm_flags & VM_SHARED)) return do_cow_fault(f);
  return do_shared_fault(f);
}

/** Asks the file for the page. On success f.page is locked. */
function __do_fault(f: fault_ctx): Sometime<number> {
  return then(f.vma.vm_ops!.fault!(f), (ret) => {
    if (ret & (STOP | VM_FAULT_DONE_COW)) return ret;
    const p = f.page!;
    if (p.flags & PG_hwpoison) {
      if (ret & VM_FAULT_LOCKED) unlock_page(p);
      put_page(p);
      f.page = null;
      return VM_FAULT_HWPOISON;
    }
    if (ret & VM_FAULT_LOCKED) return ret;
    return then(lock_page(p), () => ret);
  });
}

function do_fault_around(f: fault_ctx): Sometime<number> {
  const { g, vma } = f;
  const span = mm_state(f.kernel).fault_around_bytes;
  const nr_pages = span / g.page_size;
  const address = Math.max(Math.floor(f.address / span) * span, vma.vm_start);
  const start_pgoff = f.pgoff - (f.address - address) / g.page_size;
  // Not beyond the page table, the vma, or the span.
  const in_table = g.ptrs - 1 - (Math.floor(address / g.page_size) % g.ptrs);
  const last_of_vma = vma_pages(vma) + vma.vm_pgoff - 1;
  const end_pgoff = Math.min(start_pgoff + in_table, last_of_vma, start_pgoff + nr_pages - 1);
  return vma.vm_ops!.map_pages!(f, start_pgoff, end_pgoff);
}

function do_read_fault(f: fault_ctx): Sometime<number> {
  const around =
    f.vma.vm_ops!.map_pages !== undefined && mm_state(f.kernel).fault_around_bytes > f.g.page_size;
  return then(around ? do_fault_around(f) : 0, (mapped) => {
    if (mapped) return mapped;
    return then(__do_fault(f), (ret) => {
      if (ret & STOP) return ret;
      ret |= finish_fault(f);
      unlock_page(f.page!);
      if (ret & STOP) put_page(f.page!);
      return ret;
    });
  });
}

function do_cow_fault(f: fault_ctx): Sometime<number> {
  const cow = try_alloc_page(f.kernel);
  if (cow === null) return VM_FAULT_OOM;
  f.vma.anon_vma ??= {};
  f.cow_page = cow;
  return then(__do_fault(f), (ret) => {
    if (ret & STOP) {
      put_page(cow);
      return ret;
    }
    if (ret & VM_FAULT_DONE_COW) return ret;
    page_address(cow).set(page_address(f.page!));
    SetPageUptodate(cow);
    ret |= finish_fault(f);
    unlock_page(f.page!);
    put_page(f.page!);
    if (ret & STOP) put_page(cow);
    return ret;
  });
}

function do_shared_fault(f: fault_ctx): Sometime<number> {
  return then(__do_fault(f), (ret) => {
    if (ret & STOP) return ret;
    if (!f.vma.vm_ops!.page_mkwrite) return finish_shared(f, ret);
    unlock_page(f.page!);
    return then(do_page_mkwrite(f), (tmp) => {
      if (!tmp || tmp & (VM_FAULT_ERROR | VM_FAULT_NOPAGE)) {
        put_page(f.page!);
        return tmp;
      }
      return finish_shared(f, ret);
    });
  });
}

function finish_shared(f: fault_ctx, ret: number): Sometime<number> {
  ret |= finish_fault(f);
  if (ret & STOP) {
    unlock_page(f.page!);
    put_page(f.page!);
    return ret;
  }
  return then(fault_dirty_shared_page(f), (tmp) => ret | tmp);
}

/**
 * Puts the found page (or the private copy) into the table. Also for DAX: the end of a private
 * write fault whose handler filled f.cow_page.
 */
export function finish_fault(f: fault_ctx): number {
  const { vma, mm } = f;
  const cow = (f.flags & FAULT_FLAG_WRITE) !== 0 && !(vma.vm_flags & VM_SHARED);
  const p = cow ? f.cow_page! : f.page!;
  if (f.ensure_pmd().leaf[f.pmd_i] !== 0) return VM_FAULT_NOPAGE;
  const table = f.alloc_pte_table();
  mm.page_table_lock.lock();
  // Without a table at the start of the fault there was no entry either.
  if (table[f.pte_i] !== f.orig_pte) {
    mm.page_table_lock.unlock();
    return VM_FAULT_NOPAGE;
  }
  do_set_pte(f, p, f.pte_i, table);
  mm.page_table_lock.unlock();
  return 0;
}

/** One entry for a page of a file or a fresh private copy; page_table_lock held. */
export function do_set_pte(f: fault_ctx, p: page, i: number, table: Float64Array): void {
  const { vma, mm } = f;
  const write = (f.flags & FAULT_FLAG_WRITE) !== 0;
  let entry = mk_entry(p.pfn, vma.vm_page_prot);
  if (write) entry = maybe_mkwrite(pte_set(entry, _PAGE_DIRTY), vma);
  if (write && !(vma.vm_flags & VM_SHARED)) {
    mm.rss_anon++;
    page_add_new_anon_rmap(p, vma);
  } else {
    mm.rss_file++;
    page_add_file_rmap(p);
  }
  table[i] = entry;
}

/** Tells the file that a page is about to be stored to. On success the page is locked. */
export function do_page_mkwrite(f: fault_ctx): Sometime<number> {
  const p = f.page!;
  const old_flags = f.flags;
  f.flags = FAULT_FLAG_WRITE | FAULT_FLAG_MKWRITE;
  const host = f.vma.vm_file?.f_mapping.host;
  if (host && host.i_flags & S_SWAPFILE) return VM_FAULT_SIGBUS;
  return then(f.vma.vm_ops!.page_mkwrite!(f), (ret) => {
    f.flags = old_flags;
    if (ret & (VM_FAULT_ERROR | VM_FAULT_NOPAGE) || ret & VM_FAULT_LOCKED) return ret;
    return then(lock_page(p), () => {
      if (p.mapping === null) {
        unlock_page(p);
        return 0;
      }
      return ret | VM_FAULT_LOCKED;
    });
  });
}

/** After a shared page became writable: dirty, unlocked, writers slowed if there is too much. */
export function fault_dirty_shared_page(f: fault_ctx): Sometime<number> {
  const p = f.page!;
  const { vma } = f;
  const { mapping } = p;
  const dirtied = set_page_dirty(p);
  unlock_page(p);
  const has_mkwrite = vma.vm_ops?.page_mkwrite !== undefined;
  const { vm_file } = vma;
  const times = has_mkwrite || !vm_file ? undefined : f.kernel.vfs_ops.fault_update_time(vm_file);
  return then(times, () => {
    if (!(dirtied || has_mkwrite) || mapping === null) return 0;
    return then(balance_dirty_pages_ratelimited(mapping), () => 0);
  });
}
