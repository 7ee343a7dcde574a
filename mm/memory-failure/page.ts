/**
 * mm/memory-failure/page.ts - a bad page of ordinary memory: anonymous, shared, or of the page
 * cache. Linux: mm/memory-failure.c (hwpoison_user_mappings, error_states, soft_offline_page).
 *
 * A clean page of a file is dropped, and the next access reads it again. For all others the entries
 * that map it become poison entries: who touches one gets SIGBUS. A dirty page of a file is lost:
 * fsync says EIO once. Nothing but the reference taken here keeps the frame from use.
 *
 * Locks: mf_mutex (held by the caller), the page's lock, then i_mmap_rwsem or the page table locks.
 * Differs: soft offlining drops a clean page of a file where Linux moves it to another frame.
 */
import { notImplemented } from "../../kernel/assert.ts";
import { EBUSY, EHWPOISON, EIO } from "../../kernel/include/errno.ts";
import {
  MF_ACTION_REQUIRED,
  MF_COUNT_INCREASED,
  MF_MUST_KILL,
  trace_memory_failure_event,
} from "../../kernel/include/mf.ts";
import { PG_anon, PG_error, PG_hwpoison } from "../../kernel/include/mm_types.ts";
import type { address_space, page, vm_area_struct } from "../../kernel/include/mm_types.ts";
import { S_ISREG } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { BUS_MCEERR_AR, SIGBUS, force_sig, make_siginfo } from "../../kernel/signal.ts";
import { mapping_set_error } from "../address_space.ts";
import { for_each_mapping_vma, page_mkclean } from "../memory/rmap.ts";
import { dec_rss } from "../memory/zap.ts";
import { mm_state } from "../mm_state.ts";
import { PageAnon, PageDirty, PAGE, SetPageUptodate, alloc_page, get_page } from "../page.ts";
import { lock_page, page_address, put_page, unlock_page, wait_on_page_writeback } from "../page.ts";
import { is_device_page } from "../page.ts";
import { set_page_dirty } from "../page_dirty.ts";
import { _PAGE_HWPOISON, flush_tlb_page, geometry, mk_entry, pte_dirty } from "../pgtable.ts";
import { pte_flags, pte_pfn, pte_present, walk_page_range } from "../pgtable.ts";
import { shmem_replace_page, vma_is_shmem } from "../shmem.ts";
import { truncate_inode_page } from "../truncate.ts";
import { all_mms, collect_procs_anon, collect_procs_file, each_mapping_of } from "./kill.ts";
import { kill_procs } from "./kill.ts";
import { mf_state_of } from "./state.ts";

type outcome = "Recovered" | "Failed" | "Ignored";

const tag = (pfn: number): string => `Memory failure: 0x${pfn.toString(16)}:`;

/** The last word on a failure, in the log and the trace. */
export function action_result(kernel: Kernel, pfn: number, type: string, result: outcome): void {
  mf_state_of(kernel).nr_poisoned++;
  kernel.pr_err(`${tag(pfn)} recovery action for ${type}: ${result}`);
  if (kernel.trace.enabled) kernel.trace.emit(trace_memory_failure_event, { pfn, type, result });
}

/** Replaces one entry: by poison, or by nothing. page_table_lock held. */
function unmap_one(
  p: page,
  vma: vm_area_struct,
  addr: number,
  table: Float64Array,
  i: number,
  poison: boolean,
): void {
  const mm = vma.vm_mm;
  if (pte_dirty(table[i]!)) set_page_dirty(p);
  table[i] = poison ? mk_entry(p.pfn, _PAGE_HWPOISON) : 0;
  flush_tlb_page(mm, addr);
  dec_rss(mm, p);
  p._mapcount--;
  put_page(p);
}

/** Takes the page out of every address space. The caller has a reference of its own. */
async function try_to_unmap(kernel: Kernel, p: page, poison: boolean): Promise<void> {
  const one = (vma: vm_area_struct, addr: number, table: Float64Array, i: number): void => {
    unmap_one(p, vma, addr, table, i, poison);
  };
  const { mapping } = p;
  if (mapping === null) {
    for (const mm of all_mms(kernel)) {
      mm.page_table_lock.lock();
      each_mapping_of(mm, p.pfn, one);
      mm.page_table_lock.unlock();
    }
    return;
  }
  const { page_size } = mm_state(kernel).geometry;
  const w = for_each_mapping_vma(mapping, p.index, 1, (vma, start) => {
    vma.vm_mm.page_table_lock.lock();
    walk_page_range(vma.vm_mm, start, start + page_size, {
      pte(table, i) {
        const e = table[i]!;
        if (e !== 0 && pte_present(e) && pte_pfn(e) === p.pfn) one(vma, start, table, i);
      },
    });
    vma.vm_mm.page_table_lock.unlock();
  });
  if (w) await w;
}

/** Tells the users of a mapped page and unmaps it. Page locked. */
async function hwpoison_user_mappings(kernel: Kernel, p: page, flags: number): Promise<void> {
  if (p._mapcount === 0) return;
  const { mapping } = p;
  let poison = true;
  const can_write_back = mapping?.a_ops.writepages !== undefined;
  if (!(flags & MF_MUST_KILL) && !PageDirty(p) && can_write_back) {
    if ((await page_mkclean(p)) > 0) set_page_dirty(p);
    else {
      poison = false;
      kernel.pr_info(`${tag(p.pfn)} corrupted page was clean: dropped without side effects`);
    }
  }
  const force = (flags & MF_ACTION_REQUIRED) !== 0;
  const list =
    mapping === null
      ? collect_procs_anon(p, force)
      : await collect_procs_file(p, mapping, p.index, force);
  await try_to_unmap(kernel, p, poison);
  if (PageDirty(p) || flags & MF_MUST_KILL) kill_procs(kernel, list, p.pfn, flags);
}

/** Takes a page out of its file. */
async function truncate_error_page(
  kernel: Kernel,
  p: page,
  mapping: address_space,
): Promise<outcome> {
  // A file of the RAM file system keeps the page, and says EIO for it, as tmpfs does.
  if (mapping.a_ops.writepages === undefined) return "Recovered";
  if (!S_ISREG(mapping.host.i_mode)) {
    kernel.pr_info(`${tag(p.pfn)} Failed to punch page: -${EIO.errno}`);
    return "Failed";
  }
  await truncate_inode_page(p);
  return "Recovered";
}

/** What can be done about a page by what it is. Page locked; unlocks it. */
async function identify_page_state(kernel: Kernel, p: page, was_mapped: boolean): Promise<void> {
  const { mapping } = p;
  if (mapping === null && !was_mapped) {
    unlock_page(p);
    kernel.pr_err(`${tag(p.pfn)} Unknown page state`);
    action_result(kernel, p.pfn, "unknown page", "Failed");
    throw EBUSY;
  }
  const type = `${PageDirty(p) ? "dirty" : "clean"} LRU page`;
  let result: outcome = "Recovered";
  if (mapping !== null) {
    if (PageDirty(p)) {
      p.flags |= PG_error;
      mapping_set_error(mapping, EIO);
    }
    result = await truncate_error_page(kernel, p, mapping);
    const others = p._refcount - (mapping.a_ops.writepages === undefined ? 2 : 1);
    if (others > 0) {
      kernel.pr_err(`${tag(p.pfn)} ${type} still referenced by ${others} users`);
      result = "Failed";
    }
  }
  unlock_page(p);
  action_result(kernel, p.pfn, type, result);
  if (result !== "Recovered") throw EBUSY;
}

/** The running task met a page that was known to be bad: it gets its signal again. */
function kill_accessing_process(kernel: Kernel, p: page): void {
  const { current } = kernel;
  const { mm } = current;
  if (mm === null) return;
  let at: number | null = null;
  const { page_shift } = geometry(mm);
  for (const vma of mm.mmap) {
    walk_page_range(mm, vma.vm_start, vma.vm_end, {
      pte(table, first, last, addr) {
        for (let i = first; i < last; i++) {
          if (table[i] !== 0 && pte_pfn(table[i]!) === p.pfn) {
            at ??= addr + (i - first) * 2 ** page_shift;
          }
        }
      },
    });
  }
  if (at !== null) force_sig(current, make_siginfo(SIGBUS, BUS_MCEERR_AR, at, page_shift));
}

const is_zero_page = (kernel: Kernel, p: page): boolean => p.pfn === mm_state(kernel).zero_pfn;

/** memory_failure() for a page of ordinary memory; mf_mutex held. EBUSY, EHWPOISON. */
export async function memory_failure_page(kernel: Kernel, p: page, flags: number): Promise<void> {
  if (p.flags & PG_hwpoison) {
    kernel.pr_err(`${tag(p.pfn)} already hardware poisoned`);
    if (flags & MF_ACTION_REQUIRED) kill_accessing_process(kernel, p);
    if (flags & MF_COUNT_INCREASED) put_page(p);
    throw EHWPOISON;
  }
  p.flags |= PG_hwpoison;
  if (is_zero_page(kernel, p)) {
    action_result(kernel, p.pfn, "reserved kernel page", "Ignored");
    throw EBUSY;
  }
  if (!(flags & MF_COUNT_INCREASED)) get_page(p);
  const l = lock_page(p);
  if (l) await l;
  const w = wait_on_page_writeback(p);
  if (w) await w;
  const was_mapped = p._mapcount > 0;
  await hwpoison_user_mappings(kernel, p, flags);
  await identify_page_state(kernel, p, was_mapped);
}

// ---- soft offlining: the page is still good, but shall not be used any more

/**
 * Gives every user of an anonymous page, or of shared memory, another frame. Page locked, caller's
 * reference.
 */
function migrate_anon(kernel: Kernel, p: page): void {
  const fresh = alloc_page(kernel);
  page_address(fresh).set(page_address(p));
  SetPageUptodate(fresh);
  fresh.flags |= p.flags & ~PG_hwpoison;
  fresh.anon_exclusive = PAGE(p).anon_exclusive;
  for (const mm of all_mms(kernel)) {
    mm.page_table_lock.lock();
    each_mapping_of(mm, p.pfn, (vma, addr, table, i) => {
      if (vma_is_shmem(vma)) shmem_replace_page(vma, p, fresh);
      table[i] = mk_entry(fresh.pfn, pte_flags(table[i]!));
      flush_tlb_page(mm, addr);
      get_page(fresh);
      fresh._mapcount++;
      p._mapcount--;
      put_page(p);
    });
    mm.page_table_lock.unlock();
  }
  put_page(fresh);
}

async function soft_offline_in_use_page(kernel: Kernel, p: page): Promise<void> {
  const { mapping } = p;
  if (mapping === null) {
    // Somebody else's pin would go on using the old frame.
    const kept = PageAnon(p) ? 1 : 2;
    if (p._mapcount === 0 || p._refcount > p._mapcount + kept) throw EBUSY;
    migrate_anon(kernel, p);
    return;
  }
  await try_to_unmap(kernel, p, false);
  if (PageDirty(p)) notImplemented("soft offlining of a dirty page of a file");
  await truncate_inode_page(p);
}

/**
 * MADV_SOFT_OFFLINE for a page that the caller has a reference to (dropped, or kept for ever with a
 * page that is given up). EIO: a page that cannot be moved, device memory above all.
 */
export async function soft_offline_page(kernel: Kernel, p: page): Promise<void> {
  if (is_device_page(p) || is_zero_page(kernel, p)) {
    put_page(p);
    throw EIO;
  }
  const { mf_mutex } = mf_state_of(kernel);
  const m = mf_mutex.lock();
  if (m) await m;
  try {
    if (p.flags & PG_hwpoison) {
      put_page(p);
      return;
    }
    const l = lock_page(p);
    if (l) await l;
    try {
      const w = wait_on_page_writeback(p);
      if (w) await w;
      await soft_offline_in_use_page(kernel, p);
      p.flags |= PG_hwpoison;
      p.flags &= ~PG_anon;
    } finally {
      unlock_page(p);
    }
  } finally {
    mf_mutex.unlock();
  }
}
