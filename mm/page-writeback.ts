/**
 * mm/page-writeback.ts - writing back the dirty pages of a file. Linux: mm/page-writeback.c
 * (write_cache_pages, do_writepages).
 *
 * With WB_SYNC_ALL the pages that are dirty now are marked TOWRITE first, so that pages dirtied
 * meanwhile do not keep the walk going for ever. page_dirty.ts has what changes a page's state.
 */
import { WB_SYNC_ALL, WB_SYNC_NONE } from "../kernel/include/fs.ts";
import type { Sometime, writeback_control } from "../kernel/include/fs.ts";
import type { address_space, page } from "../kernel/include/mm_types.ts";
import {
  XA_STATE,
  xas_find_marked,
  xas_lock,
  xas_next_marked,
  xas_set_mark,
  xas_unlock,
} from "../kernel/lib/xarray.ts";
import { cond_resched } from "../kernel/sched/core.ts";
import { PAGECACHE_TAG_DIRTY, PAGECACHE_TAG_TOWRITE } from "./address_space.ts";
import { find_get_pages_tag } from "./filemap/lookup.ts";
import { clear_page_dirty_for_io } from "./page_dirty.ts";
import {
  PageDirty,
  PageWriteback,
  lock_page,
  put_page,
  unlock_page,
  wait_on_page_writeback,
} from "./page.ts";

export * from "./page_dirty.ts";

const BATCH = 16;

/** Marks the dirty pages of [start, end] as to be written by this pass. */
export function tag_pages_for_writeback(mapping: address_space, start: number, end: number): void {
  const xas = XA_STATE(mapping.i_pages, start);
  xas_lock(xas);
  let e = xas_find_marked(xas, end, PAGECACHE_TAG_DIRTY);
  for (; e !== null; e = xas_next_marked(xas, end, PAGECACHE_TAG_DIRTY)) {
    xas_set_mark(xas, PAGECACHE_TAG_TOWRITE);
  }
  xas_unlock(xas);
}

/** Locks a page and makes it ready for writing; false (unlocked) when there is nothing to write. */
async function prepare(mapping: address_space, p: page, wbc: writeback_control): Promise<boolean> {
  const l = lock_page(p);
  if (l) await l;
  if (p.mapping === mapping && PageDirty(p)) {
    let busy = PageWriteback(p);
    if (busy && wbc.sync_mode !== WB_SYNC_NONE) {
      const w = wait_on_page_writeback(p);
      if (w) await w;
      busy = false;
    }
    if (!busy && (await clear_page_dirty_for_io(p))) return true;
  }
  unlock_page(p);
  return false;
}

/**
 * Calls `writepage` for every dirty page in wbc's byte range, locked and marked clean; it starts
 * the IO and unlocks. Throws the first error: at once for WB_SYNC_NONE, at the end for WB_SYNC_ALL.
 */
export async function write_cache_pages(
  mapping: address_space,
  wbc: writeback_control,
  writepage: (page: page, wbc: writeback_control) => Sometime<void>,
): Promise<void> {
  const size = mapping.kernel.PAGE_SIZE;
  const cyclic = wbc.range_cyclic === true;
  let index = cyclic ? mapping.writeback_index : Math.floor(wbc.range_start / size);
  const end = cyclic ? Number.MAX_SAFE_INTEGER : Math.floor(wbc.range_end / size);
  const sync = wbc.sync_mode === WB_SYNC_ALL;
  if (sync) tag_pages_for_writeback(mapping, index, end);
  const tag = sync ? PAGECACHE_TAG_TOWRITE : PAGECACHE_TAG_DIRTY;
  let failed: { error: unknown } | null = null;
  let stop = false;
  while (!stop) {
    const pages = find_get_pages_tag(mapping, index, end, tag, BATCH);
    if (pages.length === 0) break;
    for (const p of pages) {
      index = p.index + 1;
      if (!stop && (await prepare(mapping, p, wbc))) {
        try {
          await writepage(p, wbc);
        } catch (error) {
          failed ??= { error };
          stop = !sync;
        }
        wbc.nr_to_write--;
        if (wbc.nr_to_write <= 0 && !sync) stop = true;
      }
      put_page(p);
    }
    const r = cond_resched(mapping.kernel);
    if (r) await r;
  }
  if (cyclic) mapping.writeback_index = stop ? index : 0;
  if (failed) throw failed.error;
}

/** Asks the file's own writepages. */
export async function do_writepages(mapping: address_space, wbc: writeback_control): Promise<void> {
  if (wbc.nr_to_write > 0) await mapping.a_ops.writepages?.(mapping, wbc);
}
