/**
 * fs/dax/writeback.ts - making what was stored through mappings durable.
 * Linux: fs/dax.c (dax_writeback_mapping_range, dax_writeback_one).
 *
 * Reading order: dax_writeback_mapping_range() -> dax_writeback_one()
 *
 * Dirty entries of the range get the tag TOWRITE first, so that stores that come later cannot keep
 * a writer busy for ever. For each: lock the entry, write-protect every mapping of it, flush its
 * cache lines, clear DIRTY, unlock. A store after the protection faults, and the fault waits for
 * the entry: so nothing dirty is left when DIRTY goes.
 *
 * Locks: the entry > i_mmap_rwsem(r) > page_table_lock. i_pages is dropped over all of that.
 */
import type { dax_device } from "../../kernel/include/dax.ts";
import { EIO, is_errno } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { LLONG_MAX, WB_SYNC_ALL } from "../../kernel/include/fs.ts";
import type { writeback_control } from "../../kernel/include/fs.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import type { address_space } from "../../kernel/include/mm_types.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import {
  XA_STATE,
  xa_empty,
  xa_is_value,
  xas_clear_mark,
  xas_find_marked,
  xas_get_mark,
  xas_lock,
  xas_pause,
  xas_reset,
  xas_set_mark,
  xas_store,
  xas_unlock,
} from "../../kernel/lib/xarray.ts";
import type { xa_entry, xa_state } from "../../kernel/lib/xarray.ts";
import { dax_flush } from "../../drivers/dax/super.ts";
import { pfn_mkclean_range } from "../../mm/memory.ts";
import { dax_entry_pfn } from "./associate.ts";
import {
  dax_entry_order,
  dax_entry_pages,
  dax_entry_start,
  dax_is_locked,
  dax_to_frame,
} from "./entry.ts";
import {
  WAKE_NEXT,
  dax_forget_holder,
  dax_lock_entry,
  dax_wake_entry,
  get_scanned_entry,
  put_unlocked_entry,
} from "./lock.ts";
import {
  PAGECACHE_TAG_DIRTY,
  PAGECACHE_TAG_TOWRITE,
  mapping_set_error,
} from "../../mm/address_space.ts";
import {
  trace_dax_writeback_one,
  trace_dax_writeback_range,
  trace_dax_writeback_range_done,
} from "./trace.ts";

/** How many entries are looked at between offers to let others run. */
export const XA_CHECK_SCHED = 4096;
/** What the kernel's LLONG_MAX is in pages of 4 KiB: only traces show it. */
const LLONG_MAX_BYTES = 2 ** 63;

function end_index_of(kernel: Kernel, range_end: number): number {
  if (range_end >= LLONG_MAX) return LLONG_MAX_BYTES / kernel.PAGE_SIZE - 1;
  return Math.floor(range_end / kernel.PAGE_SIZE);
}

function tag_for_writeback(mapping: address_space, start: number, end: number): void {
  const xas = XA_STATE(mapping.i_pages, start);
  xas_lock(xas);
  for (;;) {
    const entry = xas_find_marked(xas, end, PAGECACHE_TAG_DIRTY);
    if (entry === null) break;
    xas_set_mark(xas, PAGECACHE_TAG_TOWRITE);
  }
  xas_unlock(xas);
}

/**
 * The entry was found locked: waits, and says whether it is still the one to write. Null: leave it.
 * In 6.1 an entry that turned into a hole meanwhile is an error.
 */
async function wait_to_write(
  mapping: address_space,
  xas: xa_state,
  seen: number,
): Promise<number | null> {
  const entry = await get_scanned_entry(mapping, xas, seen);
  if (entry === null || entry < 0) return null;
  const pass_on = (): null => {
    put_unlocked_entry(mapping, xas, entry, WAKE_NEXT);
    return null;
  };
  if (dax_to_frame(seen) !== dax_to_frame(entry)) return pass_on();
  const hole = dax_entry_pages(entry) === 0;
  if (mapping.kernel.WARN_ON_ONCE(hole, "fs/dax: writeback of a hole")) {
    pass_on();
    throw EIO;
  }
  // Another writer was faster.
  if (!xas_get_mark(xas, PAGECACHE_TAG_TOWRITE)) return pass_on();
  return entry;
}

/** Write-protects every mapping of the entry's pages. */
async function protect_mappings(
  mapping: address_space,
  entry: number,
  index: number,
): Promise<void> {
  const { kernel } = mapping;
  const p = mapping.i_mmap_rwsem.down_read();
  if (p) await p;
  const nr = dax_entry_pages(entry);
  // Zero pages are mapped read-only and clean: nothing to protect.
  const pfn = nr > 0 ? dax_entry_pfn(mapping, entry) : 0;
  for (const vma of [...mapping.i_mmap]) {
    if (nr > 0) pfn_mkclean_range(pfn, nr, index, vma);
    const q = kernel.machine.sched.sched_point();
    if (q) await q;
  }
  mapping.i_mmap_rwsem.up_read();
}

/**
 * Writes one entry back. i_pages is locked before and after. Throws EIO for something that is no
 * entry.
 */
async function dax_writeback_one(
  mapping: address_space,
  dev: dax_device,
  xas: xa_state,
  found: xa_entry,
): Promise<void> {
  const { kernel } = mapping;
  if (kernel.WARN_ON_ONCE(!xa_is_value(found), "fs/dax: a dirty page in a DAX mapping")) throw EIO;
  let entry = found as number;
  if (dax_is_locked(entry)) {
    const now = await wait_to_write(mapping, xas, entry);
    if (now === null) return;
    entry = now;
  }
  dax_lock_entry(mapping, xas, entry);
  // Other writers of this entry wait for its lock, so none can return before the flush is done.
  xas_clear_mark(xas, PAGECACHE_TAG_TOWRITE);
  xas_unlock(xas);
  const count = 1 << dax_entry_order(entry);
  const index = dax_entry_start(entry, xas.xa_index);
  await protect_mappings(mapping, entry, index);
  const nr = dax_entry_pages(entry);
  if (nr > 0) {
    dax_flush(dev, dax_entry_pfn(mapping, entry) * kernel.PAGE_SIZE, nr * kernel.PAGE_SIZE);
  }
  xas_reset(xas);
  xas_lock(xas);
  xas_store(xas, entry);
  xas_clear_mark(xas, PAGECACHE_TAG_DIRTY);
  dax_forget_holder(mapping, xas, entry);
  dax_wake_entry(mapping, xas, entry, WAKE_NEXT);
  trace_dax_writeback_one(mapping.host, index, count);
}

/** Drops i_pages for a moment so that others can run. The cursor goes on behind its entry. */
export function xas_cond_resched(kernel: Kernel, xas: xa_state): MaybeWait {
  xas_pause(xas);
  xas_unlock(xas);
  const p = kernel.machine.sched.yield();
  if (p) return p.then(() => xas_lock(xas));
  xas_lock(xas);
  return undefined;
}

async function write_tagged(
  mapping: address_space,
  dev: dax_device,
  xas: xa_state,
  end: number,
): Promise<void> {
  let scanned = 0;
  xas_lock(xas);
  try {
    for (;;) {
      const entry = xas_find_marked(xas, end, PAGECACHE_TAG_TOWRITE);
      if (entry === null) break;
      await dax_writeback_one(mapping, dev, xas, entry);
      if (++scanned % XA_CHECK_SCHED) continue;
      const p = xas_cond_resched(mapping.kernel, xas);
      if (p) await p;
    }
  } finally {
    xas_unlock(xas);
  }
}

/**
 * Flushes the dirty pages of wbc's range to the persistence domain; the fence is the caller's. Does
 * nothing unless the caller waits (WB_SYNC_ALL). EIO, warned about once, for a file whose blocks
 * are not of page size: a block would have several entries, or an entry several blocks.
 */
export async function dax_writeback_mapping_range(
  mapping: address_space,
  dev: dax_device,
  wbc: writeback_control,
): Promise<void> {
  const { kernel, host } = mapping;
  const odd = host.i_blkbits !== kernel.PAGE_SHIFT;
  if (kernel.WARN_ON_ONCE(odd, "fs/dax: writeback, block size is not the page size")) throw EIO;
  if (xa_empty(mapping.i_pages) || wbc.sync_mode !== WB_SYNC_ALL) return;
  const start = Math.floor(wbc.range_start / kernel.PAGE_SIZE);
  const end = end_index_of(kernel, wbc.range_end);
  const xas = XA_STATE(mapping.i_pages, start);
  trace_dax_writeback_range(host, start, end);
  tag_for_writeback(mapping, start, end);
  let error: Errno | null = null;
  try {
    await write_tagged(mapping, dev, xas, end);
  } catch (err) {
    if (!is_errno(err)) throw err;
    mapping_set_error(mapping, err);
    error = err;
  }
  trace_dax_writeback_range_done(host, xas.xa_index, end);
  if (error) throw error;
}
