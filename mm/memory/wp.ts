/**
 * mm/memory/wp.ts - stores to entries that are present but not writable. Linux: mm/memory.c
 * (do_wp_page and what it calls).
 *
 * Shared: the file is asked (pfn_mkwrite for entries without a page, page_mkwrite else), then the
 * entry becomes writable if it is still the one seen at the start. Private: a copy, unless the page
 * is ours alone.
 */
import type { Sometime } from "../../kernel/include/fs.ts";
import {
  FAULT_FLAG_MKWRITE,
  VM_FAULT_ERROR,
  VM_FAULT_NOPAGE,
  VM_FAULT_OOM,
  VM_SHARED,
  VM_WRITE,
} from "../../kernel/include/mm_types.ts";
import {
  PageAnon,
  SetPageUptodate,
  get_page,
  lock_page,
  page_address,
  put_page,
  unlock_page,
} from "../page.ts";
import {
  _PAGE_ACCESSED,
  _PAGE_DIRTY,
  flush_tlb_page,
  is_zero_pfn,
  maybe_mkwrite,
  mk_entry,
  pte_pfn,
  pte_set,
} from "../pgtable.ts";
import { then } from "../sometime.ts";
import { do_page_mkwrite, fault_dirty_shared_page } from "./pte_fault.ts";
import { page_add_new_anon_rmap } from "./rmap.ts";
import { try_alloc_page, vm_normal_page } from "./vmf.ts";
import type { fault_ctx } from "./vmf.ts";
import { dec_rss } from "./zap.ts";

const SHARED_WRITE = VM_WRITE | VM_SHARED;

/** page_table_lock is held on entry and not on return. */
export function do_wp_page(f: fault_ctx): Sometime<number> {
  const { vma, mm } = f;
  const p = vm_normal_page(mm, f.orig_pte);
  f.page = p;
  const shared = (vma.vm_flags & SHARED_WRITE) === SHARED_WRITE;
  if (p === null) {
    if (shared) return wp_pfn_shared(f);
    mm.page_table_lock.unlock();
    return wp_page_copy(f);
  }
  if (PageAnon(p)) {
    // Ours alone if it was never shared by fork, or all others are gone.
    if (p.anon_exclusive || p._refcount === 1) {
      p.anon_exclusive = true;
      wp_page_reuse(f);
      return 0;
    }
  } else if (shared) return wp_page_shared(f);
  get_page(p);
  mm.page_table_lock.unlock();
  return wp_page_copy(f);
}

/** Makes the entry writable and dirty; drops page_table_lock. */
function wp_page_reuse(f: fault_ctx): void {
  const table = f.pte_table!;
  const e = pte_set(f.orig_pte, _PAGE_ACCESSED | _PAGE_DIRTY);
  table[f.pte_i] = maybe_mkwrite(e, f.vma);
  flush_tlb_page(f.mm, f.address);
  f.mm.page_table_lock.unlock();
}

/** The file allowed the store: unless the entry changed meanwhile, it becomes writable. */
export function finish_mkwrite_fault(f: fault_ctx): number {
  f.mm.page_table_lock.lock();
  if (f.pte_table?.[f.pte_i] !== f.orig_pte) {
    f.mm.page_table_lock.unlock();
    return VM_FAULT_NOPAGE;
  }
  wp_page_reuse(f);
  return 0;
}

function wp_pfn_shared(f: fault_ctx): Sometime<number> {
  const mkwrite = f.vma.vm_ops?.pfn_mkwrite;
  if (!mkwrite) {
    wp_page_reuse(f);
    return 0;
  }
  f.mm.page_table_lock.unlock();
  f.flags |= FAULT_FLAG_MKWRITE;
  return then(mkwrite(f), (ret) => {
    if (ret & (VM_FAULT_ERROR | VM_FAULT_NOPAGE)) return ret;
    return finish_mkwrite_fault(f);
  });
}

function wp_page_shared(f: fault_ctx): Sometime<number> {
  const p = f.page!;
  get_page(p);
  const dirty = () =>
    then(fault_dirty_shared_page(f), (ret) => {
      put_page(p);
      return ret;
    });
  if (!f.vma.vm_ops?.page_mkwrite) {
    wp_page_reuse(f);
    return then(lock_page(p), dirty);
  }
  f.mm.page_table_lock.unlock();
  return then(do_page_mkwrite(f), (tmp) => {
    if (!tmp || tmp & (VM_FAULT_ERROR | VM_FAULT_NOPAGE)) {
      put_page(p);
      return tmp;
    }
    tmp = finish_mkwrite_fault(f);
    if (tmp & (VM_FAULT_ERROR | VM_FAULT_NOPAGE)) {
      unlock_page(p);
      put_page(p);
      return tmp;
    }
    return dirty();
  });
}

/** A private copy of f.page (referenced), or of the frame in the entry when it has no page. */
function wp_page_copy(f: fault_ctx): number {
  const { vma, mm, kernel } = f;
  const old = f.page;
  vma.anon_vma ??= {};
  const fresh = try_alloc_page(kernel);
  if (fresh === null) {
    if (old) put_page(old);
    return VM_FAULT_OOM;
  }
  const pfn = pte_pfn(f.orig_pte);
  if (old) page_address(fresh).set(page_address(old));
  else if (!is_zero_pfn(mm, pfn)) {
    const size = f.g.page_size;
    kernel.phys.copy_from(pfn * size, page_address(fresh), 0, size);
  }
  SetPageUptodate(fresh);
  mm.page_table_lock.lock();
  const table = f.pte_table;
  if (table === null || table[f.pte_i] !== f.orig_pte) {
    mm.page_table_lock.unlock();
    put_page(fresh);
    if (old) put_page(old);
    return 0;
  }
  if (old) {
    dec_rss(mm, old);
    old._mapcount--;
  }
  mm.rss_anon++;
  page_add_new_anon_rmap(fresh, vma);
  table[f.pte_i] = maybe_mkwrite(mk_entry(fresh.pfn, vma.vm_page_prot | _PAGE_DIRTY), vma);
  flush_tlb_page(mm, f.address);
  mm.page_table_lock.unlock();
  if (old) {
    put_page(old); // of the entry
    put_page(old); // of the caller
  }
  return 0;
}
