/**
 * mm/filemap/lookup.ts - finding, adding and removing pages of a file. Linux: mm/filemap.c.
 * DAX entries (values) in i_pages are not pages: lookups pass over them.
 */
import { assert } from "../../kernel/assert.ts";
import { EEXIST } from "../../kernel/include/errno.ts";
import type { Sometime } from "../../kernel/include/fs.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import {
  XA_STATE,
  xa_erase,
  xa_insert,
  xa_is_value,
  xa_load,
  xas_find,
  xas_find_marked,
  xas_next_entry,
  xas_next_marked,
} from "../../kernel/lib/xarray.ts";
import type { xa_entry } from "../../kernel/lib/xarray.ts";
import {
  alloc_page,
  get_page,
  lock_page,
  put_page,
  unlock_page,
  wait_for_stable_page,
} from "../page.ts";
import { then } from "../sometime.ts";

/** Whatever is at the index: page (no reference taken), DAX entry (number) or null. */
export function filemap_get_entry(mapping: address_space, index: number): xa_entry {
  return xa_load(mapping.i_pages, index);
}

/** The page at the index with a reference, or null. */
export function find_get_page(mapping: address_space, index: number): page | null {
  const e = xa_load(mapping.i_pages, index);
  if (e === null || typeof e === "number") return null;
  get_page(e as page);
  return e as page;
}

/** Is the (locked or referenced) page still in the cache of this file at this index? */
export function page_is_of(p: page, mapping: address_space, index: number): boolean {
  return p.mapping === mapping && p.index === index;
}

/** The page at the index, referenced and locked, or null. */
export function find_lock_page(mapping: address_space, index: number): Sometime<page | null> {
  const p = find_get_page(mapping, index);
  if (p === null) return null;
  return then(lock_page(p) as Sometime<void>, () => {
    if (page_is_of(p, mapping, index)) return p;
    unlock_page(p);
    put_page(p);
    return find_lock_page(mapping, index);
  });
}

/** Puts a fresh page (one reference, the caller's, and locked) into the cache. Throws EEXIST. */
export function filemap_add_page(mapping: address_space, p: page, index: number): void {
  if (xa_insert(mapping.i_pages, index, p, 0) !== 0) throw EEXIST;
  get_page(p);
  p.mapping = mapping;
  p.index = index;
  mapping.nrpages++;
}

/** Takes a locked page out of the cache and drops the cache's reference. */
export function delete_from_page_cache(p: page): void {
  const { mapping } = p;
  assert(mapping !== null, "page is in no cache");
  assert(p.lock_bit.is_locked(), "page is not locked");
  xa_erase(mapping.i_pages, p.index);
  p.mapping = null;
  mapping.nrpages--;
  put_page(p);
}

/** The page at the index, referenced and locked, made if it is not there. Throws ENOMEM. */
export function pagecache_get_page(mapping: address_space, index: number): Sometime<page> {
  return then(find_lock_page(mapping, index), (found) => {
    if (found !== null) return found;
    const p = alloc_page(mapping.kernel);
    // Nobody else knows the page yet.
    const locked = p.lock_bit.trylock();
    assert(locked, "new page is locked");
    try {
      filemap_add_page(mapping, p, index);
    } catch (e) {
      unlock_page(p);
      put_page(p);
      if (e !== EEXIST) throw e;
      return pagecache_get_page(mapping, index);
    }
    return p;
  });
}

/** As pagecache_get_page, for a write: waits until the contents may change. */
export function grab_cache_page_write_begin(mapping: address_space, index: number): Sometime<page> {
  return then(pagecache_get_page(mapping, index), (p) => then(wait_for_stable_page(p), () => p));
}

/** Pages of [start, end] (inclusive), at most `max`, each with a reference; lowest first. */
export function find_get_pages_range(
  mapping: address_space,
  start: number,
  end: number,
  max: number,
): page[] {
  const out: page[] = [];
  const xas = XA_STATE(mapping.i_pages, start);
  for (let e = xas_find(xas, end); e !== null && out.length < max; e = xas_next_entry(xas, end)) {
    if (xa_is_value(e)) continue;
    get_page(e as page);
    out.push(e as page);
  }
  return out;
}

/** As find_get_pages_range, only pages with the mark. */
export function find_get_pages_tag(
  mapping: address_space,
  start: number,
  end: number,
  tag: number,
  max: number,
): page[] {
  const out: page[] = [];
  const xas = XA_STATE(mapping.i_pages, start);
  let e = xas_find_marked(xas, end, tag);
  for (; e !== null && out.length < max; e = xas_next_marked(xas, end, tag)) {
    if (xa_is_value(e)) continue;
    get_page(e as page);
    out.push(e as page);
  }
  return out;
}

/** Is anything cached of bytes [start, end]? */
export function filemap_range_has_page(
  mapping: address_space,
  start: number,
  end: number,
): boolean {
  const size = mapping.kernel.PAGE_SIZE;
  const pages = find_get_pages_range(mapping, Math.floor(start / size), Math.floor(end / size), 1);
  for (const p of pages) put_page(p);
  return pages.length > 0;
}
