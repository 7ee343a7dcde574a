/**
 * mm/truncate.ts - taking pages and DAX entries away from a file. Linux: mm/truncate.c.
 *
 * A page goes under its lock, after its writeback has ended, unmapped from every address space
 * first; the caller has already changed i_size (or holds invalidate_lock), so that no fault brings
 * it back. A mapping with DAX entries (values) calls fs/dax by kernel.dax_mm_ops.
 */
import { assert } from "../kernel/assert.ts";
import { EBUSY } from "../kernel/include/errno.ts";
import { LLONG_MAX } from "../kernel/include/fs.ts";
import type { Sometime, inode } from "../kernel/include/fs.ts";
import type { MaybeWait } from "../kernel/include/locks.ts";
import type { address_space, page } from "../kernel/include/mm_types.ts";
import { XA_STATE, xa_empty, xa_is_value, xas_find } from "../kernel/lib/xarray.ts";
import { cond_resched } from "../kernel/sched/core.ts";
import { i_size_write } from "../kernel/vfs/inode.ts";
import { dax_mapping } from "./address_space.ts";
import { delete_from_page_cache, find_lock_page } from "./filemap/lookup.ts";
import {
  page_mkclean,
  unmap_mapping_page,
  unmap_mapping_pages,
  unmap_mapping_range,
} from "./memory/rmap.ts";
import { cancel_dirty_page, set_page_dirty } from "./page_dirty.ts";
import {
  PageDirty,
  PageLocked,
  PageWriteback,
  get_page,
  lock_page,
  page_address,
  put_page,
  trylock_page,
  unlock_page,
  wait_on_page_writeback,
} from "./page.ts";
import { then } from "./sometime.ts";

/** First entry (page or DAX value) at or behind `index`, up to `end` inclusive. */
function next_entry(
  mapping: address_space,
  index: number,
  end: number,
): { index: number; entry: page | number } | null {
  const xas = XA_STATE(mapping.i_pages, index);
  const entry = xas_find(xas, end);
  if (entry === null) return null;
  return { index: Number(xas.xa_index), entry: entry as page | number };
}

/** Unmaps, tells the filesystem, forgets the dirt, removes. Page locked. */
export async function truncate_inode_page(p: page): Promise<void> {
  const { mapping } = p;
  assert(mapping !== null, "truncate of a page in no cache");
  const u = unmap_mapping_page(p);
  if (u) await u;
  mapping.a_ops.invalidate_folio?.(p, 0, mapping.kernel.PAGE_SIZE);
  cancel_dirty_page(p);
  delete_from_page_cache(p);
}

async function truncate_whole(mapping: address_space, start: number, end: number): Promise<void> {
  let index = start;
  for (;;) {
    const found = next_entry(mapping, index, end);
    if (found === null) return;
    const { entry } = found;
    if (xa_is_value(entry)) {
      const ops = mapping.kernel.dax_mm_ops;
      assert(ops !== null, "DAX entries without fs/dax");
      await ops.delete_mapping_entry(mapping, found.index);
    } else {
      const p = entry as page;
      get_page(p);
      const l = lock_page(p);
      if (l) await l;
      if (p.mapping === mapping) {
        const w = wait_on_page_writeback(p);
        if (w) await w;
        await truncate_inode_page(p);
      }
      unlock_page(p);
      put_page(p);
    }
    index = found.index + 1;
    const r = cond_resched(mapping.kernel);
    if (r) await r;
  }
}

/** Zeroes bytes [from, to) of the page at `index`, if it is cached. */
async function truncate_partial(
  mapping: address_space,
  index: number,
  from: number,
  to: number,
): Promise<void> {
  const p = await find_lock_page(mapping, index);
  if (p === null) return;
  const w = wait_on_page_writeback(p);
  if (w) await w;
  page_address(p).fill(0, from, to);
  if (p.private !== null) mapping.a_ops.invalidate_folio?.(p, from, to - from);
  unlock_page(p);
  put_page(p);
}

/**
 * Removes bytes [lstart, lend] (inclusive; LLONG_MAX: to the end): whole pages go, parts become
 * zeros.
 */
export function truncate_inode_pages_range(
  mapping: address_space,
  lstart: number,
  lend: number,
): Sometime<void> {
  if (xa_empty(mapping.i_pages)) return undefined;
  return truncate_range(mapping, lstart, lend);
}

async function truncate_range(mapping: address_space, lstart: number, lend: number): Promise<void> {
  const size = mapping.kernel.PAGE_SIZE;
  const start = Math.ceil(lstart / size);
  const to_end = lend >= LLONG_MAX - 1;
  const end = to_end ? Number.MAX_SAFE_INTEGER : Math.floor((lend + 1) / size);
  const head = lstart % size;
  const tail = to_end ? 0 : (lend + 1) % size;
  if (end > start) await truncate_whole(mapping, start, end - 1);
  if (start > end && !to_end) {
    // Both ends in one page.
    await truncate_partial(mapping, start - 1, head, tail);
    return;
  }
  if (head > 0) await truncate_partial(mapping, start - 1, head, size);
  if (tail > 0) await truncate_partial(mapping, end, 0, tail);
}

export function truncate_inode_pages(mapping: address_space, lstart: number): Sometime<void> {
  return truncate_inode_pages_range(mapping, lstart, LLONG_MAX);
}

/** For an inode that goes away: nobody else can reach its pages. */
export function truncate_inode_pages_final(mapping: address_space): Sometime<void> {
  return truncate_inode_pages(mapping, 0);
}

/** After i_size has shrunk to `newsize`: mappings (private copies too) and pages beyond it go. */
export function truncate_pagecache(inode: inode, newsize: number): Sometime<void> {
  const mapping = inode.i_mapping;
  const size = mapping.kernel.PAGE_SIZE;
  const hole = Math.ceil(newsize / size) * size;
  // Unmapped again afterwards: a fault may have made private copies in between.
  return then(unmap_mapping_range(mapping, hole, 0, true) as Sometime<void>, () =>
    then(truncate_inode_pages(mapping, newsize), () => unmap_mapping_range(mapping, hole, 0, true)),
  );
}

/** i_size and the page cache together; i_rwsem held. */
export function truncate_setsize(inode: inode, newsize: number): Sometime<void> {
  const oldsize = inode.i_size;
  i_size_write(inode, newsize);
  const grown = newsize > oldsize ? pagecache_isize_extended(inode, oldsize, newsize) : undefined;
  return then(grown, () => truncate_pagecache(inode, newsize));
}

/**
 * The file grew from `from` to `to`: the page with the old end must fault again before a store, if
 * blocks are smaller than pages, so that the new blocks in it get allocated.
 */
export function pagecache_isize_extended(inode: inode, from: number, to: number): Sometime<void> {
  const bsize = 2 ** inode.i_blkbits;
  const size = inode.kernel.PAGE_SIZE;
  if (from >= to || bsize === size) return undefined;
  const rounded = Math.ceil(from / bsize) * bsize;
  if (to <= rounded || rounded % size === 0) return undefined;
  return then(find_lock_page(inode.i_mapping, Math.floor(from / size)), (p) => {
    if (p === null) return undefined;
    return then(page_mkclean(p), (stores) => {
      if (stores > 0) set_page_dirty(p);
      unlock_page(p);
      put_page(p);
    });
  });
}

/** Bytes [lstart, lend] become a hole: mappings (not private copies) and pages go. */
export function truncate_pagecache_range(
  inode: inode,
  lstart: number,
  lend: number,
): Sometime<void> {
  const mapping = inode.i_mapping;
  const size = mapping.kernel.PAGE_SIZE;
  const first = Math.ceil(lstart / size) * size;
  const to_end = lend >= LLONG_MAX - 1;
  const behind = to_end ? LLONG_MAX : Math.floor((lend + 1) / size) * size;
  const len = to_end ? 0 : behind - first;
  const unmap = to_end || len > 0 ? unmap_mapping_range(mapping, first, len, false) : undefined;
  return then(unmap as Sometime<void>, () => truncate_inode_pages_range(mapping, lstart, lend));
}

/**
 * Pages [start, end] (inclusive) out of the cache, unless they are dirty: EBUSY, after the rest is
 * done.
 */
export function invalidate_inode_pages2_range(
  mapping: address_space,
  start: number,
  end: number,
): MaybeWait {
  if (xa_empty(mapping.i_pages)) return undefined;
  if (!dax_mapping(mapping) && next_entry(mapping, start, end) === null) return undefined;
  return invalidate2(mapping, start, end);
}

async function invalidate2(mapping: address_space, start: number, end: number): Promise<void> {
  let busy = false;
  let index = start;
  for (;;) {
    const found = next_entry(mapping, index, end);
    if (found === null) break;
    index = found.index + 1;
    if (xa_is_value(found.entry)) {
      const ops = mapping.kernel.dax_mm_ops;
      assert(ops !== null, "DAX entries without fs/dax");
      if (!(await ops.invalidate_mapping_entry_sync(mapping, found.index))) busy = true;
      continue;
    }
    const p = found.entry as page;
    get_page(p);
    const l = lock_page(p);
    if (l) await l;
    if (p.mapping === mapping) {
      const w = wait_on_page_writeback(p);
      if (w) await w;
      const u = unmap_mapping_page(p);
      if (u) await u;
      if (!invalidate_clean(p)) busy = true;
    }
    unlock_page(p);
    put_page(p);
  }
  // Entries do not say whether they are mapped, so page tables go last, and all at once.
  if (dax_mapping(mapping)) {
    const u = unmap_mapping_pages(mapping, start, end - start + 1, false);
    if (u) await u;
  }
  if (busy) throw EBUSY;
}

/** Removes a locked page that is clean and that the filesystem lets go. */
function invalidate_clean(p: page): boolean {
  if (PageDirty(p) || PageWriteback(p)) return false;
  const { release_folio } = p.mapping!.a_ops;
  if (p.private !== null && release_folio && !release_folio(p)) return false;
  delete_from_page_cache(p);
  return true;
}

/**
 * Drops what is clean, unmapped and not in use, without waiting (drop_caches). Returns how many.
 */
export function invalidate_mapping_pages(
  mapping: address_space,
  start: number,
  end: number,
): number {
  let count = 0;
  let index = start;
  for (;;) {
    const found = next_entry(mapping, index, end);
    if (found === null) return count;
    index = found.index + 1;
    if (xa_is_value(found.entry)) continue;
    const p = found.entry as page;
    if (PageLocked(p) || p._mapcount > 0 || !trylock_page(p)) continue;
    get_page(p);
    if (invalidate_clean(p)) count++;
    unlock_page(p);
    put_page(p);
  }
}
