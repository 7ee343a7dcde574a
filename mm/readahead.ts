/**
 * mm/readahead.ts - bringing pages of a file into the cache before they are asked for. Linux:
 * mm/readahead.c.
 *
 * Each open file guesses (file.f_ra): a read at the start of the file, or right behind the last
 * one, begins a stream, and gets a window of pages that grows with each step. One page of a window
 * is marked; a reader that comes to it has the next window read. Other reads get what they ask for.
 * Differs: no large folios, and reading ahead is waited for (the devices here answer at once).
 *
 * Pages are added locked and handed to a_ops.readahead in runs (mapping, index, nr); it unlocks
 * each.
 */
import { EEXIST, ENOMEM } from "../kernel/include/errno.ts";
import type { file, file_ra_state } from "../kernel/include/fs.ts";
import { FMODE_RANDOM } from "../kernel/include/fs.ts";
import { PG_readahead, VM_RAND_READ, VM_SEQ_READ } from "../kernel/include/mm_types.ts";
import type { address_space, page } from "../kernel/include/mm_types.ts";
import { filemap_add_page, filemap_get_entry } from "./filemap/lookup.ts";
import { alloc_page, put_page, trylock_page, unlock_page } from "./page.ts";

/** Bytes: max_sectors_kb of a pmem disk. */
const MAX_REQUEST = 1280 * 1024;
/** So many more faults that miss than faults that hit: reading around does not pay. */
const MMAP_LOTSAMISS = 100;

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

/** Adds and reads the pages of [index, index + nr) that are not there; index + `mark` is marked. */
async function page_cache_ra_unbounded(
  mapping: address_space,
  file: file,
  index: number,
  nr: number,
  mark: number,
): Promise<void> {
  let run: page[] = [];
  for (let i = index; i < index + nr; i++) {
    const p = filemap_get_entry(mapping, i) === null ? try_add(mapping, i) : null;
    if (p !== null) {
      if (i === index + mark) p.flags |= PG_readahead;
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

/**
 * Reads [index, index + nr) as far as the file goes; the page with `lookahead` pages behind it gets
 * the mark, unless it was there.
 */
async function do_page_cache_ra(
  mapping: address_space,
  file: file,
  index: number,
  nr: number,
  lookahead: number,
): Promise<void> {
  const n = Math.min(nr, pages_in_file(mapping) - index);
  // A failed read is not an error here: who needs the page reads it again and hears of it.
  if (n > 0) await page_cache_ra_unbounded(mapping, file, index, n, n - lookahead);
}

/** The first window of a stream whose first read is of `size` pages. */
function get_init_ra_size(size: number, max: number): number {
  const whole = 2 ** Math.ceil(Math.log2(size));
  if (whole <= Math.floor(max / 32)) return whole * 4;
  return whole <= Math.floor(max / 4) ? whole * 2 : max;
}

/** The window after the last one: it grows fast at first. */
function get_next_ra_size(ra: file_ra_state, max: number): number {
  if (ra.size < Math.floor(max / 16)) return ra.size * 4;
  return ra.size <= Math.floor(max / 2) ? ra.size * 2 : max;
}

/** First index from `index` on, among `max`, that has no page. */
function page_cache_next_miss(mapping: address_space, index: number, max: number): number {
  let i = index;
  while (i < index + max && filemap_get_entry(mapping, i) !== null) i++;
  return i;
}

/** How many pages right before `index`, at most `max`, are cached. */
function count_history_pages(mapping: address_space, index: number, max: number): number {
  let n = 0;
  while (n < max && n < index && filemap_get_entry(mapping, index - 1 - n) !== null) n++;
  return n;
}

/**
 * Sets the window for a read of `req` pages that came to `index`; `marked`: to a page with the mark
 * there, else to a miss. False: the read is one of its own, no window.
 */
function choose_window(
  mapping: address_space,
  ra: file_ra_state,
  index: number,
  req: number,
  max: number,
  marked: boolean,
): boolean {
  const first = (): true => {
    ra.start = index;
    ra.size = get_init_ra_size(req, max);
    ra.async_size = ra.size > req ? ra.size - req : ra.size;
    return true;
  };
  if (index === 0) return first();
  const next = ra.start + ra.size;
  if (index === next - ra.async_size || index === next) {
    ra.start = next;
    ra.size = Math.max(ra.size, get_next_ra_size(ra, max));
    ra.async_size = ra.size;
    return true;
  }
  if (marked) {
    // Somebody else's window: go on where what is cached ends.
    const start = page_cache_next_miss(mapping, index + 1, max);
    if (start - index > max) return false;
    ra.start = start;
    ra.size = start - index + req;
    ra.size = get_next_ra_size(ra, max);
    ra.async_size = ra.size;
    return true;
  }
  const prev = Math.floor(ra.prev_pos / mapping.kernel.PAGE_SIZE);
  const follows = ra.prev_pos >= 0 && (index === prev || index === prev + 1);
  if (req > max || follows) return first();
  // Pages cached right before tell of a stream that the file's own state knows nothing of.
  const history = count_history_pages(mapping, index, max);
  if (history <= req) return false;
  ra.start = index;
  ra.size = Math.min((history >= index ? history * 2 : history) + req, max);
  ra.async_size = 1;
  return true;
}

async function ondemand_readahead(
  mapping: address_space,
  file: file,
  index: number,
  req: number,
  marked: boolean,
): Promise<void> {
  const ra = file.f_ra;
  const max =
    req > ra.ra_pages ? Math.max(ra.ra_pages, Math.min(req, io_pages(mapping))) : ra.ra_pages;
  if (!choose_window(mapping, ra, index, req, max, marked)) {
    if (!marked) await do_page_cache_ra(mapping, file, index, req, 0);
    return;
  }
  if (index === ra.start && ra.size === ra.async_size) {
    // The read would come to its own mark at once: both windows in one.
    const add = get_next_ra_size(ra, max);
    const both = ra.size + add <= max;
    ra.async_size = both ? add : Math.floor(max / 2);
    ra.size = both ? ra.size + add : max;
  }
  await do_page_cache_ra(mapping, file, ra.start, ra.size, ra.async_size);
}

/** The most that goes to the device as one request. */
function io_pages(mapping: address_space): number {
  return MAX_REQUEST / mapping.kernel.PAGE_SIZE;
}

/** A read that wants `req` pages from `index` on missed the page there. */
export async function page_cache_sync_readahead(
  mapping: address_space,
  file: file,
  index: number,
  req: number,
): Promise<void> {
  if ((file.f_mode & FMODE_RANDOM) !== 0) {
    await force_page_cache_readahead(mapping, file, index, req);
  } else await ondemand_readahead(mapping, file, index, req, false);
}

/** The read has come to the page `p`, which has the mark. */
export async function page_cache_async_readahead(
  mapping: address_space,
  file: file,
  p: page,
  req: number,
): Promise<void> {
  p.flags &= ~PG_readahead;
  await ondemand_readahead(mapping, file, p.index, req, true);
}

/** Does a fault that missed its page read around it? Counts the misses. */
export function mmap_miss_reads(file: file, vm_flags: number): boolean {
  const ra = file.f_ra;
  if (vm_flags & VM_RAND_READ) return false;
  if (vm_flags & VM_SEQ_READ) return true;
  if (ra.mmap_miss < MMAP_LOTSAMISS * 10) ra.mmap_miss++;
  return ra.mmap_miss <= MMAP_LOTSAMISS;
}

/** Reads what is around the page of a fault, or behind it in a mapping advised to be sequential. */
export async function do_sync_mmap_readahead(
  mapping: address_space,
  file: file,
  index: number,
  vm_flags: number,
): Promise<void> {
  const ra = file.f_ra;
  if (vm_flags & VM_SEQ_READ) {
    await page_cache_sync_readahead(mapping, file, index, ra.ra_pages);
    return;
  }
  ra.start = Math.max(0, index - Math.floor(ra.ra_pages / 2));
  ra.size = ra.ra_pages;
  ra.async_size = Math.floor(ra.ra_pages / 4);
  await do_page_cache_ra(mapping, file, ra.start, ra.size, ra.async_size);
}

/** Does the fault that found `p` have to read ahead? Keeps the count of misses. */
export function mmap_hit(file: file, p: page, vm_flags: number): boolean {
  if (vm_flags & VM_RAND_READ) return false;
  if (file.f_ra.mmap_miss > 0) file.f_ra.mmap_miss--;
  return (p.flags & PG_readahead) !== 0;
}

/**
 * readahead(2), POSIX_FADV_WILLNEED, MADV_WILLNEED: what is asked for, whatever the pattern, but no
 * more than one request's worth.
 */
export async function force_page_cache_readahead(
  mapping: address_space,
  file: file,
  index: number,
  nr: number,
): Promise<void> {
  if (!mapping.a_ops.read_folio && !mapping.a_ops.readahead) return;
  const most = Math.min(nr, Math.max(io_pages(mapping), file.f_ra.ra_pages));
  await do_page_cache_ra(mapping, file, index, most, 0);
}
