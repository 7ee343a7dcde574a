/**
 * fs/dax/sync_fault.ts - the second half of a MAP_SYNC write fault: make the metadata durable, then
 * map. Linux: fs/dax.c (dax_finish_sync_fault, dax_insert_pfn_mkwrite).
 *
 * Between the halves the entry is unlocked: it may be split, freed or written back. What is found
 * then decides; on any doubt nothing is inserted and the access faults again.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import {
  VM_FAULT_FALLBACK,
  VM_FAULT_NOPAGE,
  VM_FAULT_SIGBUS,
} from "../../kernel/include/mm_types.ts";
import type { vm_fault } from "../../kernel/include/mm_types.ts";
import {
  XA_STATE,
  XA_STATE_ORDER,
  xas_lock,
  xas_set_mark,
  xas_unlock,
} from "../../kernel/lib/xarray.ts";
import { vmf_insert_mixed_mkwrite, vmf_insert_pfn_pmd } from "../../mm/memory.ts";
import { vfs_fsync_range } from "../sync.ts";
import { dax_is_pte_entry, pmd_order } from "./entry.ts";
import {
  WAKE_NEXT,
  dax_lock_entry,
  dax_unlock_entry,
  get_unlocked_entry,
  put_unlocked_entry,
} from "./lock.ts";
import { PAGECACHE_TAG_DIRTY } from "../../mm/address_space.ts";
import { trace_dax_insert_pfn_mkwrite, trace_dax_insert_pfn_mkwrite_no_entry } from "./trace.ts";

async function dax_insert_pfn_mkwrite(vmf: vm_fault, order: number, pfn: number): Promise<number> {
  const mapping = vmf.vma.vm_file!.f_mapping;
  const pages = mapping.i_pages;
  const xas = order === 0 ? XA_STATE(pages, vmf.pgoff) : XA_STATE_ORDER(pages, vmf.pgoff, order);
  xas_lock(xas);
  const entry = await get_unlocked_entry(mapping, xas, order);
  if (entry === null || entry < 0 || (order === 0 && !dax_is_pte_entry(entry))) {
    put_unlocked_entry(mapping, xas, entry, WAKE_NEXT);
    xas_unlock(xas);
    trace_dax_insert_pfn_mkwrite_no_entry(mapping.host, vmf, VM_FAULT_NOPAGE);
    return VM_FAULT_NOPAGE;
  }
  xas_set_mark(xas, PAGECACHE_TAG_DIRTY);
  dax_lock_entry(mapping, xas, entry);
  xas_unlock(xas);
  let ret: number;
  if (order === 0) ret = vmf_insert_mixed_mkwrite(vmf.vma, vmf.address, pfn);
  else if (order === pmd_order(mapping.kernel)) ret = vmf_insert_pfn_pmd(vmf, pfn, true);
  else ret = VM_FAULT_FALLBACK;
  dax_unlock_entry(mapping, xas, entry);
  trace_dax_insert_pfn_mkwrite(mapping.host, vmf, ret);
  return ret;
}

/**
 * After VM_FAULT_NEEDDSYNC: fsyncs the faulted range, then inserts frame `pfn` (as
 * dax_iomap_fault() left it) writable. SIGBUS when the fsync fails. Neither a transaction nor an
 * entry lock may be held.
 */
export async function dax_finish_sync_fault(
  vmf: vm_fault,
  order: number,
  pfn: number,
): Promise<number> {
  const size = vmf.vma.vm_mm.kernel.PAGE_SIZE;
  // From the faulting page on, also for a PMD: as in the kernel, and as its traces show.
  const start = vmf.pgoff * size;
  const nr = 1 << order;
  try {
    await vfs_fsync_range(vmf.vma.vm_file!, start, start + size * nr - 1, true);
  } catch (err) {
    if (!is_errno(err)) throw err;
    return VM_FAULT_SIGBUS;
  }
  return dax_insert_pfn_mkwrite(vmf, order, pfn);
}
