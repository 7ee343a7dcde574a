/**
 * mm/page_dirty.ts - dirty pages: setting, cleaning before writeback, slowing writers. Linux:
 * mm/page-writeback.c (first half).
 * Differs: no limits on dirty memory, so balance_dirty_pages only offers the baton.
 *
 * The page's flag PG_dirty and its mark in i_pages change together; the mark may stay set on a
 * clean page (writeback looks at the flag). __folio_mark_dirty needs no page lock: a store through
 * a mapping that is being zapped has none.
 */
import type { MaybeWait } from "../kernel/include/locks.ts";
import { PG_dirty, PG_writeback } from "../kernel/include/mm_types.ts";
import type { address_space, page } from "../kernel/include/mm_types.ts";
import { xa_clear_mark, xa_set_mark } from "../kernel/lib/xarray.ts";
import { cond_resched } from "../kernel/sched/core.ts";
import { mark_inode_dirty_pages } from "../kernel/vfs/inode.ts";
import {
  PAGECACHE_TAG_DIRTY,
  PAGECACHE_TAG_TOWRITE,
  PAGECACHE_TAG_WRITEBACK,
} from "./address_space.ts";
import { page_mkclean } from "./memory/rmap.ts";
import { mm_state } from "./mm_state.ts";
import { PAGE } from "./page.ts";
import { then } from "./sometime.ts";
import type { Sometime } from "../kernel/include/fs.ts";

/** The usual dirty_folio: flag, mark, dirty inode. True if it was clean. */
export function filemap_dirty_folio(mapping: address_space, p: page): boolean {
  if (p.flags & PG_dirty) return false;
  p.flags |= PG_dirty;
  mm_state(mapping.kernel).nr_dirty++;
  xa_set_mark(mapping.i_pages, p.index, PAGECACHE_TAG_DIRTY);
  mark_inode_dirty_pages(mapping.host);
  return true;
}

/** For files whose pages are never written back. */
export function noop_dirty_folio(_mapping: address_space, p: page): boolean {
  if (p.flags & PG_dirty) return false;
  p.flags |= PG_dirty;
  return true;
}

/**
 * True if the page was clean. Anonymous pages and pages taken from their file only get the flag.
 */
export function set_page_dirty(p: page): boolean {
  const { mapping } = p;
  if (mapping === null) {
    const was = p.flags & PG_dirty;
    p.flags |= PG_dirty;
    return !was;
  }
  return (mapping.a_ops.dirty_folio ?? noop_dirty_folio)(mapping, p);
}

/** Drops the dirty state without writing: truncation. */
export function cancel_dirty_page(p: page): void {
  if (!(p.flags & PG_dirty)) return;
  p.flags &= ~PG_dirty;
  const { mapping } = p;
  if (mapping === null || mapping.a_ops.dirty_folio === undefined) return;
  if (mapping.a_ops.dirty_folio === noop_dirty_folio) return;
  mm_state(mapping.kernel).nr_dirty--;
}

/**
 * Before writing a page (locked): its mappings lose write permission, so that a later store dirties
 * it again. True if the page has to be written.
 */
export function clear_page_dirty_for_io(p: page): Sometime<boolean> {
  if (!p.mapping?.a_ops.writepages) {
    const was = p.flags & PG_dirty;
    p.flags &= ~PG_dirty;
    return was !== 0;
  }
  return then(page_mkclean(p), (stores) => {
    if (stores > 0) set_page_dirty(p);
    if (!(p.flags & PG_dirty)) return false;
    p.flags &= ~PG_dirty;
    mm_state(PAGE(p).kernel).nr_dirty--;
    return true;
  });
}

/** Writing of a page begins (page locked). `keep`: it stays in the set of pages to be written. */
export function set_page_writeback(p: page, keep = false): void {
  p.flags |= PG_writeback;
  const { mapping } = p;
  if (mapping === null) return;
  xa_set_mark(mapping.i_pages, p.index, PAGECACHE_TAG_WRITEBACK);
  if (!(p.flags & PG_dirty)) xa_clear_mark(mapping.i_pages, p.index, PAGECACHE_TAG_DIRTY);
  if (!keep) xa_clear_mark(mapping.i_pages, p.index, PAGECACHE_TAG_TOWRITE);
}

/** Writing has ended; called at the end of the IO. */
export function end_page_writeback(p: page): void {
  if (!(p.flags & PG_writeback)) return;
  p.flags &= ~PG_writeback;
  const { mapping } = p;
  if (mapping !== null) xa_clear_mark(mapping.i_pages, p.index, PAGECACHE_TAG_WRITEBACK);
  mm_state(PAGE(p).kernel).writeback_wait.wake_up_all();
}

/** Whoever dirties pages comes by here. */
export function balance_dirty_pages_ratelimited(mapping: address_space): MaybeWait {
  return cond_resched(mapping.kernel);
}
