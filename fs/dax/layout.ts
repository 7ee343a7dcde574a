/**
 * fs/dax/layout.ts - taking entries out, and waiting for pages that others still use before blocks
 * go. Linux: fs/dax.c (dax_layout_busy_page_range, dax_delete_mapping_entry), fs/ext4/inode.c
 * (ext4_break_layouts), fs/xfs/xfs_file.c (xfs_break_dax_layouts).
 *
 * Locks: the caller holds invalidate_lock for writing (no fault can come in) and i_rwsem; the wait
 * for a busy page drops invalidate_lock, as who uses the page may need it.
 */
import type { inode, Sometime } from "../../kernel/include/fs.ts";
import { LLONG_MAX } from "../../kernel/include/fs.ts";
import type { MaybeWait, wait_queue_head } from "../../kernel/include/locks.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import { guarded } from "../../kernel/guards.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import {
  XA_STATE,
  ULONG_MAX,
  xa_is_value,
  xas_find,
  xas_get_mark,
  xas_lock,
  xas_store,
  xas_unlock,
} from "../../kernel/lib/xarray.ts";
import type { xa_state } from "../../kernel/lib/xarray.ts";
import { new_wait_queue } from "../../kernel/sched/wait.ts";
import { dax_state } from "../../drivers/dax/super.ts";
import { page_pinners } from "../../mm/gup.ts";
import { unmap_mapping_pages } from "../../mm/memory.ts";
import { fs_state } from "../fs_state.ts";
import { dax_busy_page, dax_disassociate_entry } from "./associate.ts";
import { dax_entry_order, dax_is_locked } from "./entry.ts";
import {
  WAKE_ALL,
  WAKE_NEXT,
  get_scanned_entry,
  get_unlocked_entry,
  put_unlocked_entry,
} from "./lock.ts";
import { PAGECACHE_TAG_DIRTY, PAGECACHE_TAG_TOWRITE, dax_mapping } from "../../mm/address_space.ts";
import { XA_CHECK_SCHED, xas_cond_resched } from "./writeback.ts";

/** Takes the found entry out, unless it is dirty and that counts. i_pages locked; drops it. */
function remove_found(
  mapping: address_space,
  xas: xa_state,
  entry: number | null,
  trunc: boolean,
): boolean {
  let removed = false;
  if (entry !== null && entry >= 0) {
    const dirty =
      xas_get_mark(xas, PAGECACHE_TAG_DIRTY) || xas_get_mark(xas, PAGECACHE_TAG_TOWRITE);
    if (trunc || !dirty) {
      dax_disassociate_entry(mapping, entry, trunc);
      xas_store(xas, null);
      mapping.nrpages -= 1 << dax_entry_order(entry);
      removed = true;
    }
  }
  put_unlocked_entry(mapping, xas, entry, WAKE_ALL);
  xas_unlock(xas);
  return removed;
}

function __dax_invalidate_entry(
  mapping: address_space,
  index: number,
  trunc: boolean,
): Sometime<boolean> {
  const xas = XA_STATE(mapping.i_pages, index);
  xas_lock(xas);
  const entry = get_unlocked_entry(mapping, xas, 0);
  if (entry !== null && typeof entry === "object") {
    return entry.then((e) => remove_found(mapping, xas, e, trunc));
  }
  return remove_found(mapping, xas, entry, trunc);
}

/** Waits until nobody works on the entry and takes it out, dirty or not: truncation, hole punch. */
export function dax_delete_mapping_entry(mapping: address_space, index: number): Sometime<boolean> {
  const check = (removed: boolean): boolean => {
    // The caller saw it and holds off everybody who could have taken it.
    mapping.kernel.WARN_ON_ONCE(!removed, "fs/dax: the entry to delete is gone");
    return removed;
  };
  const r = __dax_invalidate_entry(mapping, index, true);
  return typeof r === "boolean" ? check(r) : r.then(check);
}

/** Takes a clean entry out. False: it is dirty, or there is none. */
export function dax_invalidate_mapping_entry_sync(
  mapping: address_space,
  index: number,
): Sometime<boolean> {
  return __dax_invalidate_entry(mapping, index, false);
}

async function find_busy(mapping: address_space, xas: xa_state, end: number): Promise<page | null> {
  let scanned = 0;
  xas_lock(xas);
  try {
    for (;;) {
      const found = xas_find(xas, end);
      if (found === null) return null;
      const odd = !xa_is_value(found);
      if (mapping.kernel.WARN_ON_ONCE(odd, "fs/dax: a page in a DAX mapping")) continue;
      let entry: number | null = found as number;
      if (dax_is_locked(entry)) entry = await get_scanned_entry(mapping, xas, entry);
      const page = entry !== null && entry >= 0 ? dax_busy_page(mapping, entry) : null;
      put_unlocked_entry(mapping, xas, entry, WAKE_NEXT);
      if (page) return page;
      if (++scanned % XA_CHECK_SCHED) continue;
      const p = xas_cond_resched(mapping.kernel, xas);
      if (p) await p;
    }
  } finally {
    xas_unlock(xas);
  }
}

/**
 * Unmaps bytes [start, end] of a DAX file and returns a page there that somebody besides page
 * tables uses (DMA, a pipe), or null. Since new uses start from a mapping, and faults are held off,
 * a null stays true.
 */
export async function dax_layout_busy_page_range(
  mapping: address_space,
  start: number,
  end: number,
): Promise<page | null> {
  const { kernel } = mapping;
  if (!dax_mapping(mapping) || mapping.i_mmap.size === 0) return null;
  const first = Math.floor(start / kernel.PAGE_SIZE);
  const last = end >= LLONG_MAX ? ULONG_MAX : Math.floor(end / kernel.PAGE_SIZE);
  const p = unmap_mapping_pages(mapping, first, last - first + 1, false);
  if (p) await p;
  return find_busy(mapping, XA_STATE(mapping.i_pages, first), last);
}

export function dax_layout_busy_page(mapping: address_space): Promise<page | null> {
  return dax_layout_busy_page_range(mapping, 0, LLONG_MAX);
}

/** Whoever waits for a page to fall idle is in it. */
export function dax_page_idle_queue(kernel: Kernel): wait_queue_head {
  const st = fs_state(kernel);
  if (!st.dax_idle_wait) {
    const wq = new_wait_queue(kernel.machine, "idle DAX page");
    st.dax_idle_wait = wq;
    dax_state(kernel).page_idle = () => wq.wake_up_all();
  }
  return st.dax_idle_wait;
}

/** Sleeps until only the device itself refers to the page. Interruptible. */
export function dax_wait_page_idle(kernel: Kernel, page: page): MaybeWait {
  return dax_page_idle_queue(kernel).wait_event(() => page._refcount <= 1, {
    interruptible: true,
    key: page,
    owner: () => page_pinners(kernel, page),
  });
}

/**
 * Waits until no page of bytes [start, end] of the file is in use elsewhere. `unlock` and `lock`
 * drop and take the caller's lock against faults around each sleep; after one everything is looked
 * at again. Throws ERESTARTSYS when a signal comes, with the lock held.
 */
export async function dax_break_layout(
  inode: inode,
  start: number,
  end: number,
  unlock: () => void,
  lock: () => MaybeWait,
): Promise<void> {
  for (;;) {
    const page = await dax_layout_busy_page_range(inode.i_mapping, start, end);
    if (!page || !guarded(inode.kernel, "dax_layout_break")) return;
    unlock();
    try {
      const p = dax_wait_page_idle(inode.kernel, page);
      if (p) await p;
    } finally {
      const q = lock();
      if (q) await q;
    }
  }
}
