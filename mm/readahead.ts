/**
 * mm/readahead.ts - bringing pages of a file into the cache before they are asked for. Linux:
 * mm/readahead.c.
 * Differs: no window that grows with success. A read gets the pages it asks for and, at the start
 * of the file or behind a page that is cached, up to 128 KiB in all.
 *
 * Pages are added locked and handed to a_ops.readahead in runs (mapping, index, nr); it unlocks
 * each.
 */
import { EEXIST, ENOMEM } from "../kernel/include/errno.ts";
import type { file } from "../kernel/include/fs.ts";
import { VM_RAND_READ, VM_SEQ_READ } from "../kernel/include/mm_types.ts";
import type { address_space, page } from "../kernel/include/mm_types.ts";
import { filemap_add_page, filemap_get_entry, find_get_page } from "./filemap/lookup.ts";
import {
  PageUptodate,
  alloc_page,
  lock_page,
  put_page,
  trylock_page,
  unlock_page,
} from "./page.ts";

/** Bytes. */
const READ_AHEAD = 128 * 1024;

function try_add(mapping: address_space, index: number): page | null {
  try {
    const p = alloc_page(mapping.kernel);
    trylock_page(p);
    try {
      filemap_add_page(mapping, p, index);
    } catch (e) {
      unlock_page(p);
      put_page(p);
      if (e !== EEXIST) throw e;
      return null;
    }
    return p;
  } catch (e) {
    if (e !== ENOMEM) throw e;
    return null;
  }
}

/** Reads a run of fresh, locked pages. Errors stay with the pages: they are not uptodate. */
async function read_pages(mapping: address_space, file: file | null, run: page[]): Promise<void> {
  if (run.length === 0) return;
  const { readahead, read_folio } = mapping.a_ops;
  if (readahead) await readahead(mapping, run[0]!.index, run.length);
  else {
    for (const p of run) {
      if (read_folio) await read_folio(file, p);
      else unlock_page(p);
    }
  }
  for (const p of run) put_page(p);
}

/** Adds and reads the pages of [index, index + nr) that are not there. */
export async function page_cache_ra_unbounded(
  mapping: address_space,
  file: file | null,
  index: number,
  nr: number,
): Promise<void> {
  let run: page[] = [];
  for (let i = index; i < index + nr; i++) {
    const p = filemap_get_entry(mapping, i) === null ? try_add(mapping, i) : null;
    if (p !== null) {
      run.push(p);
      continue;
    }
    await read_pages(mapping, file, run);
    run = [];
  }
  await read_pages(mapping, file, run);
}

function pages_in_file(mapping: address_space): number {
  return Math.ceil(mapping.host.i_size / mapping.kernel.PAGE_SIZE);
}

/** A read of `req_count` pages missed the page at `index`. */
export async function page_cache_sync_readahead(
  mapping: address_space,
  file: file | null,
  index: number,
  req_count: number,
): Promise<void> {
  const max = READ_AHEAD / mapping.kernel.PAGE_SIZE;
  const before = index === 0 ? null : find_get_page(mapping, index - 1);
  const sequential = index === 0 || (before !== null && PageUptodate(before));
  if (before !== null) put_page(before);
  const want = sequential ? max : Math.min(req_count, max);
  const nr = Math.min(want, pages_in_file(mapping) - index);
  // A failed read is not an error here: who needs the page reads it again and hears of it.
  if (nr > 0) await page_cache_ra_unbounded(mapping, file, index, nr);
}

/**
 * A fault missed the page at `index`: 128 KiB around it, unless the mapping is advised to be
 * random.
 */
export async function page_cache_fault_readahead(
  mapping: address_space,
  file: file | null,
  index: number,
  vm_flags: number,
): Promise<void> {
  if (vm_flags & VM_RAND_READ) return;
  const max = READ_AHEAD / mapping.kernel.PAGE_SIZE;
  const start = vm_flags & VM_SEQ_READ ? index : Math.max(0, index - max / 2);
  const nr = Math.min(max, pages_in_file(mapping) - start);
  if (nr > 0) await page_cache_ra_unbounded(mapping, file, start, nr);
}

/** readahead(2), POSIX_FADV_WILLNEED, MADV_WILLNEED: all of it, whatever the pattern. */
export async function force_page_cache_readahead(
  mapping: address_space,
  file: file | null,
  index: number,
  nr: number,
): Promise<void> {
  if (!mapping.a_ops.read_folio && !mapping.a_ops.readahead) return;
  const end = Math.min(index + nr, pages_in_file(mapping));
  const step = (2 * 1024 * 1024) / mapping.kernel.PAGE_SIZE;
  for (let at = index; at < end; at += step) {
    await page_cache_ra_unbounded(mapping, file, at, Math.min(step, end - at));
  }
}

/** Waits until a page that is being read is there. */
export async function wait_on_page_read(p: page): Promise<boolean> {
  const l = lock_page(p);
  if (l) await l;
  unlock_page(p);
  return PageUptodate(p);
}
