/**
 * mm/filemap/read.ts - read(2) from the page cache, and holes and data in it. Linux: mm/filemap.c.
 *
 * filemap_read() copies pages that are there without a promise; the first page that has to be read,
 * or copy that sleeps, goes on in filemap_read_slow().
 */
import { EAGAIN, EFAULT, EIO, ENXIO, EOPNOTSUPP } from "../../kernel/include/errno.ts";
import { IOCB_DIRECT, IOCB_NOWAIT, LLONG_MAX } from "../../kernel/include/fs.ts";
import type { Sometime, file, kiocb } from "../../kernel/include/fs.ts";
import { PG_hwpoison, PG_readahead, PG_uptodate } from "../../kernel/include/mm_types.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import { XA_STATE, xas_find, xas_next_entry } from "../../kernel/lib/xarray.ts";
import { PageUptodate, lock_page, page_address, put_page, unlock_page } from "../page.ts";
import { page_cache_async_readahead, page_cache_sync_readahead } from "../readahead.ts";
import { then } from "../sometime.ts";
import { find_get_page, page_is_of, pagecache_get_page } from "./lookup.ts";

/** Fills a locked page; on return it is unlocked and uptodate, or EIO is thrown. */
async function filemap_read_folio(
  mapping: address_space,
  file: file | null,
  p: page,
): Promise<void> {
  const { read_folio } = mapping.a_ops;
  if (!read_folio) {
    unlock_page(p);
    throw EIO;
  }
  await read_folio(file, p);
  // The reader unlocks the page when its IO is over.
  const w = lock_page(p);
  if (w) await w;
  unlock_page(p);
  if (!PageUptodate(p)) throw EIO;
}

/** The page at the index, referenced and uptodate, read if need be. Throws EIO, ENOMEM. */
export async function read_cache_page(
  mapping: address_space,
  index: number,
  file: file | null = null,
): Promise<page> {
  for (;;) {
    const p = await pagecache_get_page(mapping, index);
    if (PageUptodate(p)) {
      unlock_page(p);
      return p;
    }
    try {
      await filemap_read_folio(mapping, file, p);
    } catch (e) {
      put_page(p);
      throw e;
    }
    if (page_is_of(p, mapping, index)) return p;
    put_page(p);
  }
}

/** invalidate_lock keeps truncation and hole punching away while pages are filled. */
export async function filling<T>(mapping: address_space, fn: () => Promise<T>): Promise<T> {
  const w = mapping.invalidate_lock.down_read();
  if (w) await w;
  try {
    return await fn();
  } finally {
    mapping.invalidate_lock.up_read();
  }
}

/** The page for a read at the index, after what is to be read ahead. */
async function get_page_for_read(iocb: kiocb, index: number, last: number): Promise<page> {
  const { ki_filp } = iocb;
  const mapping = ki_filp.f_mapping;
  const found = find_get_page(mapping, index);
  const marked = found !== null && (found.flags & PG_readahead) !== 0;
  if (found === null || marked) {
    const want = last - index + 1;
    await filling(mapping, () =>
      found === null
        ? page_cache_sync_readahead(mapping, ki_filp, index, want)
        : page_cache_async_readahead(mapping, ki_filp, found, want),
    );
  }
  if (found !== null) put_page(found);
  return read_cache_page(mapping, index, ki_filp);
}

/** Reads at ki_pos up to i_size. Returns bytes; throws EFAULT, EIO when there are none. */
export function filemap_read(iocb: kiocb, iter: iov_iter, already = 0): Sometime<number> {
  const mapping = iocb.ki_filp.f_mapping;
  const inode = mapping.host;
  const { PAGE_SIZE, vfs_ops, sched } = mapping.kernel;
  const seen = sched.observer;
  if (seen !== null) seen.touch(inode.i_rwsem, false); // its size, and what the pages hold
  let done = already;
  let pos = iocb.ki_pos;
  while (iter.count > 0 && pos < inode.i_size) {
    const index = Math.floor(pos / PAGE_SIZE);
    const p = find_get_page(mapping, index);
    if (p === null || (p.flags & (PG_uptodate | PG_hwpoison | PG_readahead)) !== PG_uptodate) {
      if (p !== null) put_page(p);
      iocb.ki_pos = pos;
      if (done > already) iocb.ki_filp.f_ra.prev_pos = pos;
      return filemap_read_slow(iocb, iter, done);
    }
    if (seen !== null) seen.touch(p, false); // stores to mappings change it too
    const off = pos - index * PAGE_SIZE;
    const n = Math.min(PAGE_SIZE - off, iter.count, inode.i_size - pos);
    const r = iter.copy_to_iter(page_address(p), off, n);
    if (typeof r !== "number") {
      iocb.ki_pos = pos;
      return r.then((got) => {
        put_page(p);
        iocb.ki_pos += got;
        iocb.ki_filp.f_ra.prev_pos = iocb.ki_pos;
        return got < n ? read_end(iocb, done + got, true) : filemap_read(iocb, iter, done + got);
      });
    }
    put_page(p);
    pos += r;
    done += r;
    if (r < n) {
      iocb.ki_pos = pos;
      iocb.ki_filp.f_ra.prev_pos = pos;
      return read_end(iocb, done, true);
    }
  }
  iocb.ki_pos = pos;
  if (done > already) iocb.ki_filp.f_ra.prev_pos = pos;
  const t = vfs_ops.file_accessed(iocb.ki_filp);
  return t instanceof Promise ? t.then(() => done) : done;
}

function read_end(iocb: kiocb, done: number, fault: boolean): Sometime<number> {
  const t = iocb.ki_filp.kernel.vfs_ops.file_accessed(iocb.ki_filp);
  return then(t, () => {
    if (done === 0 && fault) throw EFAULT;
    return done;
  });
}

/** Gets the page at ki_pos in, then goes on as usual. */
async function filemap_read_slow(iocb: kiocb, iter: iov_iter, done: number): Promise<number> {
  const { PAGE_SIZE } = iocb.ki_filp.kernel;
  if ((iocb.ki_flags & IOCB_NOWAIT) !== 0) {
    // RWF_NOWAIT starts no IO: what is in the cache, or nothing.
    if (done > 0) return read_end(iocb, done, false);
    throw EAGAIN;
  }
  const index = Math.floor(iocb.ki_pos / PAGE_SIZE);
  const last = Math.floor((iocb.ki_pos + iter.count - 1) / PAGE_SIZE);
  let p: page;
  try {
    p = await get_page_for_read(iocb, index, last);
    if (p.flags & PG_hwpoison) {
      put_page(p);
      throw EIO;
    }
  } catch (e) {
    if (done > 0) return read_end(iocb, done, false);
    throw e;
  }
  try {
    return await filemap_read(iocb, iter, done);
  } finally {
    put_page(p);
  }
}

/** The read_iter of files in the page cache. O_DIRECT is the filesystem's own business. */
export function generic_file_read_iter(iocb: kiocb, iter: iov_iter): Sometime<number> {
  if (iter.count === 0) return 0;
  if (iocb.ki_flags & IOCB_DIRECT) throw EOPNOTSUPP;
  return filemap_read(iocb, iter);
}

/** First byte of the page at `at`, not before `pos`, that is (`data`) or is not there; else -1. */
function page_seek(p: page, at: number, pos: number, data: boolean): number {
  if (PageUptodate(p)) return data ? pos : -1;
  const { a_ops, host, kernel } = p.mapping!;
  if (!a_ops.is_partially_uptodate) return data ? -1 : pos;
  const bsize = 2 ** host.i_blkbits;
  const first = Math.floor((pos - at) / bsize) * bsize;
  for (let off = first; off < kernel.PAGE_SIZE; off += bsize) {
    const there = a_ops.is_partially_uptodate(p, off, bsize);
    if (there === data) return Math.max(pos, at + off);
  }
  return -1;
}

/**
 * SEEK_DATA and SEEK_HOLE by what is in the cache: first offset in [start, end) of the kind asked
 * for; ENXIO when data is asked for and there is none. `data`: SEEK_DATA.
 */
export function mapping_seek_hole_data(
  mapping: address_space,
  start: number,
  end: number,
  data: boolean,
): number {
  if (end <= start) throw ENXIO;
  const { PAGE_SIZE } = mapping.kernel;
  const last = end === LLONG_MAX ? LLONG_MAX : Math.floor((end - 1) / PAGE_SIZE);
  const xas = XA_STATE(mapping.i_pages, Math.floor(start / PAGE_SIZE));
  let pos = start;
  for (let e = xas_find(xas, last); e !== null; e = xas_next_entry(xas, last)) {
    const at = Number(xas.xa_index) * PAGE_SIZE;
    if (pos < at) {
      // From here to the entry nothing is cached.
      if (!data) return pos;
      pos = at;
    }
    const found = typeof e === "number" ? (data ? pos : -1) : page_seek(e as page, at, pos, data);
    if (found >= 0 && found < end) return found;
    pos = at + PAGE_SIZE;
    if (pos >= end) break;
  }
  if (data) throw ENXIO;
  return Math.min(pos, end);
}
