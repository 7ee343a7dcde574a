/**
 * fs/buffer/page.ts - the blocks of a cached page of a file: which are mapped, delayed, new, dirty.
 * Linux: fs/buffer.c (create_empty_buffers ... block_write_full_page). Differs: page.private is an
 * array of buffers in order, in place of a ring.
 *
 * Reading order: create_empty_buffers() -> __block_write_begin() -> block_commit_write() ->
 * __block_write_full_page(); block_read_full_folio(); block_truncate_page()
 *
 * Locks: the page lock for everything here. A page's buffers are read and written under it (or,
 * while PG_writeback is set, by the writer alone), so the buffer lock is not used.
 * `get_block` is the filesystem's block map for one block: it maps the buffer (map_bh), and with
 * `create` allocates (BH_New), reserves (BH_Delay) or leaves unwritten (BH_Unwritten).
 */
import { REQ_OP_READ, REQ_OP_WRITE, REQ_SYNC } from "../../kernel/include/blkdev.ts";
import { EIO, is_errno } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { WB_SYNC_ALL } from "../../kernel/include/fs.ts";
import type { Sometime, file, inode, writeback_control } from "../../kernel/include/fs.ts";
import { PG_error } from "../../kernel/include/mm_types.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import { assert } from "../../kernel/assert.ts";
import { i_size_write, mark_inode_dirty } from "../../kernel/vfs/inode.ts";
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";
import { mapping_set_error } from "../../mm/address_space.ts";
import { grab_cache_page_write_begin, pagecache_isize_extended } from "../../mm/filemap.ts";
import {
  PAGE,
  PageUptodate,
  PageWriteback,
  SetPageUptodate,
  page_address,
  put_page,
  unlock_page,
} from "../../mm/page.ts";
import {
  cancel_dirty_page,
  end_page_writeback,
  filemap_dirty_folio,
  set_page_writeback,
} from "../../mm/page_dirty.ts";
import { clean_bdev_aliases } from "./cache.ts";
import {
  BH_Delay,
  BH_Dirty,
  BH_Mapped,
  BH_New,
  BH_Unwritten,
  BH_Uptodate,
  BH_Write_EIO,
  alloc_buffer_head,
  buffer_delay,
  buffer_dirty,
  buffer_mapped,
  buffer_new,
  buffer_unwritten,
  buffer_uptodate,
} from "./head.ts";
import type { buffer_head } from "./head.ts";

/** Maps block `iblock` of the file into `bh`; nothing to map leaves it unmapped. Throws Errno. */
export type get_block_t = (
  inode: inode,
  iblock: number,
  bh: buffer_head,
  create: boolean,
) => Sometime<void>;

export function page_has_buffers(page: page): boolean {
  return Array.isArray(page.private);
}

/** In file order. The page must have buffers. */
export function page_buffers(page: page): buffer_head[] {
  assert(page_has_buffers(page), "a page without buffers");
  return page.private as buffer_head[];
}

/** Gives the page buffers of `blocksize` bytes with the state bits `state`. */
export function create_empty_buffers(page: page, blocksize: number, state = 0): buffer_head[] {
  const { kernel } = PAGE(page);
  const view = page_address(page);
  const list: buffer_head[] = [];
  const initial = PageUptodate(page) ? state | BH_Uptodate : state;
  for (let off = 0; off < view.length; off += blocksize) {
    const data = view.subarray(off, off + blocksize);
    list.push(alloc_buffer_head(kernel, null, -1, data, page, initial));
  }
  page.private = list;
  return list;
}

function buffers_of(page: page, inode: inode): buffer_head[] {
  return page_has_buffers(page)
    ? page_buffers(page)
    : create_empty_buffers(page, 2 ** inode.i_blkbits);
}

/** Lets the buffers go, if none is dirty. */
export function try_to_free_buffers(page: page): boolean {
  if (!page_has_buffers(page)) return true;
  if (page_buffers(page).some(buffer_dirty)) return false;
  page.private = null;
  return true;
}

/** release_folio of a filesystem with buffers. */
export function block_release_folio(page: page): boolean {
  return !PageWriteback(page) && try_to_free_buffers(page);
}

/** dirty_folio: every buffer of the page becomes dirty. */
export function block_dirty_folio(mapping: address_space, page: page): boolean {
  if (page_has_buffers(page)) for (const bh of page_buffers(page)) bh.b_state |= BH_Dirty;
  return filemap_dirty_folio(mapping, page);
}

/**
 * invalidate_folio: the blocks wholly in [offset, offset + len) of the page have no data any more.
 */
export function block_invalidate_folio(page: page, offset: number, len: number): void {
  if (!page_has_buffers(page)) return;
  const stop = offset + len;
  let at = 0;
  for (const bh of page_buffers(page)) {
    if (at >= offset && at + bh.b_size <= stop) {
      bh.b_state &= ~(BH_Mapped | BH_New | BH_Delay | BH_Unwritten | BH_Dirty);
      bh.b_bdev = null;
      bh.b_blocknr = -1;
    }
    at += bh.b_size;
  }
  if (offset === 0 && stop >= at) {
    cancel_dirty_page(page);
    page.private = null;
  }
}

/** Are the bytes [from, from + count) of the page there, although not all of it is? */
export function block_is_partially_uptodate(page: page, from: number, count: number): boolean {
  if (!page_has_buffers(page)) return false;
  let at = 0;
  for (const bh of page_buffers(page)) {
    const touched = at + bh.b_size > from && at < from + count;
    if (touched && !buffer_uptodate(bh)) return false;
    at += bh.b_size;
  }
  return true;
}

function read_buffer(bh: buffer_head): Sometime<void> {
  const pos = bh.b_blocknr * bh.b_size;
  const done = (): void => {
    bh.b_state |= BH_Uptodate;
  };
  const p = bdev_rw_bytes(bh.b_bdev!, REQ_OP_READ, pos, bh.b_data, 0, bh.b_size);
  return p ? p.then(done) : done();
}

/**
 * Reads the page: mapped blocks from the device, holes as zeroes. Unlocks the page. Throws EIO when
 * a block could not be read (the others are read, the page is not up to date).
 */
export async function block_read_full_folio(page: page, get_block: get_block_t): Promise<void> {
  const inode = page.mapping!.host;
  const size = 2 ** inode.i_blkbits;
  const per_page = page_address(page).length / size;
  const list = buffers_of(page, inode);
  const end_block = Math.ceil(inode.i_size / size);
  let failure: Errno | null = null;
  for (const [i, bh] of list.entries()) {
    if (buffer_uptodate(bh)) continue;
    try {
      const iblock = page.index * per_page + i;
      if (!buffer_mapped(bh) && iblock < end_block) await get_block(inode, iblock, bh, false);
      if (!buffer_mapped(bh)) {
        bh.b_data.fill(0);
        bh.b_state |= BH_Uptodate;
      } else if (!buffer_uptodate(bh)) {
        await read_buffer(bh);
      }
    } catch (err) {
      if (!is_errno(err)) throw err;
      bh.b_data.fill(0);
      failure ??= err;
    }
  }
  if (failure) page.flags |= PG_error;
  else SetPageUptodate(page);
  unlock_page(page);
  if (failure) throw failure;
}

/** Zeroes what a failed or short write leaves of freshly allocated blocks in [from, to). */
export function page_zero_new_buffers(page: page, from: number, to: number): void {
  if (!page_has_buffers(page)) return;
  let at = 0;
  for (const bh of page_buffers(page)) {
    const end = at + bh.b_size;
    if (buffer_new(bh) && end > from && at < to) {
      if (!PageUptodate(page)) {
        const start = Math.max(from, at);
        bh.b_data.fill(0, start - at, Math.min(to, end) - at);
        bh.b_state |= BH_Uptodate;
      }
      bh.b_state &= ~BH_New;
      bh.b_state |= BH_Dirty;
    }
    at = end;
  }
}

/** One block of a write: maps it and, where the write covers it in part, brings the rest in. */
async function prepare_block(
  page: page,
  bh: buffer_head,
  iblock: number,
  from: number,
  to: number,
  get_block: get_block_t,
): Promise<void> {
  const inode = page.mapping!.host;
  bh.b_state &= ~BH_New;
  if (!buffer_mapped(bh)) {
    await get_block(inode, iblock, bh, true);
    if (buffer_new(bh)) {
      if (bh.b_bdev) await clean_bdev_aliases(bh.b_bdev, bh.b_blocknr, 1);
      if (PageUptodate(page)) {
        bh.b_state = (bh.b_state & ~BH_New) | BH_Uptodate | BH_Dirty;
        return;
      }
      bh.b_data.fill(0, 0, from);
      bh.b_data.fill(0, to);
    }
  }
  if (PageUptodate(page)) {
    bh.b_state |= BH_Uptodate;
    return;
  }
  const partial = from > 0 || to < bh.b_size;
  const nothing_there = buffer_delay(bh) || buffer_unwritten(bh) || buffer_new(bh);
  if (!buffer_uptodate(bh) && !nothing_there && partial) await read_buffer(bh);
}

/**
 * Makes the page (locked) ready for bytes [pos, pos + len) to be copied into it. Throws ENOSPC, EIO
 * ...; blocks allocated by then are zeroed.
 */
export async function __block_write_begin(
  page: page,
  pos: number,
  len: number,
  get_block: get_block_t,
): Promise<void> {
  const inode = page.mapping!.host;
  const page_size = page_address(page).length;
  const from = pos % page_size;
  const to = from + len;
  const list = buffers_of(page, inode);
  let iblock = page.index * list.length;
  let at = 0;
  try {
    for (const bh of list) {
      const end = at + bh.b_size;
      if (end > from && at < to) {
        const first = Math.max(from - at, 0);
        const last = Math.min(to - at, bh.b_size);
        await prepare_block(page, bh, iblock, first, last, get_block);
      } else {
        bh.b_state &= ~BH_New;
        if (PageUptodate(page)) bh.b_state |= BH_Uptodate;
      }
      at = end;
      iblock++;
    }
  } catch (err) {
    page_zero_new_buffers(page, from, to);
    throw err;
  }
}

/** A locked page ready for the write; the caller copies, then calls block_write_end(). */
export async function block_write_begin(
  mapping: address_space,
  pos: number,
  len: number,
  get_block: get_block_t,
): Promise<page> {
  const index = Math.floor(pos / mapping.kernel.PAGE_SIZE);
  const page = await grab_cache_page_write_begin(mapping, index);
  try {
    await __block_write_begin(page, pos, len, get_block);
  } catch (err) {
    unlock_page(page);
    put_page(page);
    throw err;
  }
  return page;
}

/** Bytes [from, to) of the page have been copied in: their blocks are up to date and dirty. */
export function block_commit_write(page: page, from: number, to: number): void {
  let at = 0;
  let partial = false;
  for (const bh of page_buffers(page)) {
    const end = at + bh.b_size;
    if (end <= from || at >= to) {
      if (!buffer_uptodate(bh)) partial = true;
    } else {
      bh.b_state |= BH_Uptodate | BH_Dirty;
      filemap_dirty_folio(page.mapping!, page);
    }
    bh.b_state &= ~BH_New;
    at = end;
  }
  if (!partial) SetPageUptodate(page);
}

/**
 * After the copy of `copied` of `len` bytes. Returns how many count: 0 when a short copy left a
 * block that was never read half filled.
 */
export function block_write_end(page: page, pos: number, len: number, copied: number): number {
  const start = pos % page_address(page).length;
  let n = copied;
  if (copied < len) {
    if (!PageUptodate(page)) n = 0;
    page_zero_new_buffers(page, start + n, start + len);
  }
  block_commit_write(page, start, start + n);
  return n;
}

/** block_write_end(), then the file's size, then the page is unlocked and let go. */
export function generic_write_end(
  _file: file | null,
  mapping: address_space,
  pos: number,
  len: number,
  copied: number,
  page: page,
): Sometime<number> {
  const inode = mapping.host;
  const old_size = inode.i_size;
  const n = block_write_end(page, pos, len, copied);
  const grown = pos + n > old_size;
  // Under the page lock: else writeback could zero what was just written behind the old end.
  if (grown) i_size_write(inode, pos + n);
  unlock_page(page);
  put_page(page);
  const dirty = (): Sometime<void> => (grown ? mark_inode_dirty(inode) : undefined);
  const p = old_size < pos ? pagecache_isize_extended(inode, old_size, pos) : undefined;
  const q = p ? p.then(dirty) : dirty();
  return q ? q.then(() => n) : n;
}

async function map_dirty_blocks(
  inode: inode,
  page: page,
  list: buffer_head[],
  get_block: get_block_t,
): Promise<void> {
  const last_block = Math.floor((inode.i_size - 1) / list[0]!.b_size);
  let block = page.index * list.length;
  for (const bh of list) {
    if (block > last_block) {
      // Mapped beyond the end of the file by a store, or by a truncation that came later.
      bh.b_state = (bh.b_state & ~BH_Dirty) | BH_Uptodate;
    } else if ((!buffer_mapped(bh) || buffer_delay(bh)) && buffer_dirty(bh)) {
      await get_block(inode, block, bh, true);
      bh.b_state &= ~BH_Delay;
      if (buffer_new(bh)) {
        bh.b_state &= ~BH_New;
        await clean_bdev_aliases(bh.b_bdev!, bh.b_blocknr, 1);
      }
    }
    block++;
  }
}

async function write_buffers(mapping: address_space, list: buffer_head[], opf: number) {
  let failure: Errno | null = null;
  for (const bh of list) {
    if (!buffer_mapped(bh) || !buffer_dirty(bh)) continue;
    bh.b_state &= ~BH_Dirty;
    try {
      const pos = bh.b_blocknr * bh.b_size;
      await bdev_rw_bytes(bh.b_bdev!, REQ_OP_WRITE | opf, pos, bh.b_data, 0, bh.b_size);
    } catch (err) {
      if (!is_errno(err)) throw err;
      bh.b_state = (bh.b_state | BH_Write_EIO) & ~BH_Uptodate;
      failure ??= err;
    }
  }
  if (failure) mapping_set_error(mapping, EIO);
  return failure;
}

/**
 * Writes the dirty blocks of the page, allocating what is not mapped. The page is locked and not
 * under writeback; it is unlocked while the IO runs. Throws what get_block threw; a failed write is
 * noted in the mapping.
 */
export async function __block_write_full_page(
  inode: inode,
  page: page,
  get_block: get_block_t,
  wbc: writeback_control,
): Promise<void> {
  const mapping = page.mapping!;
  const list = page_has_buffers(page)
    ? page_buffers(page)
    : create_empty_buffers(page, 2 ** inode.i_blkbits, BH_Dirty | BH_Uptodate);
  let map_error: unknown = null;
  try {
    await map_dirty_blocks(inode, page, list, get_block);
  } catch (err) {
    if (!is_errno(err)) throw err;
    // What is mapped is written all the same; the rest stays dirty in its buffers, lost with the
    // page.
    map_error = err;
    page.flags |= PG_error;
    mapping_set_error(mapping, err);
  }
  set_page_writeback(page);
  unlock_page(page);
  await write_buffers(mapping, list, wbc.sync_mode === WB_SYNC_ALL ? REQ_SYNC : 0);
  end_page_writeback(page);
  if (map_error !== null) throw map_error;
}

/** writepage of a filesystem without its own: zeroes what lies behind the end of the file first. */
export async function block_write_full_page(
  page: page,
  get_block: get_block_t,
  wbc: writeback_control,
): Promise<void> {
  const inode = page.mapping!.host;
  const view = page_address(page);
  const start = page.index * view.length;
  if (start >= inode.i_size) {
    // Truncated since.
    unlock_page(page);
    return;
  }
  if (start + view.length > inode.i_size) view.fill(0, inode.i_size - start);
  await __block_write_full_page(inode, page, get_block, wbc);
}

/**
 * Zeroes bytes [from, from + length) within one block of the page cache, reading the block first.
 */
export async function block_zero_page_range(
  mapping: address_space,
  from: number,
  length: number,
  get_block: get_block_t,
): Promise<void> {
  const inode = mapping.host;
  const size = 2 ** inode.i_blkbits;
  const page_size = mapping.kernel.PAGE_SIZE;
  const n = Math.min(length, size - (from % size));
  const page = await grab_cache_page_write_begin(mapping, Math.floor(from / page_size));
  try {
    const offset = from % page_size;
    const bh = buffers_of(page, inode)[Math.floor(offset / size)]!;
    if (!buffer_mapped(bh)) {
      await get_block(inode, Math.floor(from / size), bh, false);
      // A hole is zero already.
      if (!buffer_mapped(bh)) return;
    }
    if (PageUptodate(page)) bh.b_state |= BH_Uptodate;
    if (!buffer_uptodate(bh) && !buffer_delay(bh) && !buffer_unwritten(bh)) await read_buffer(bh);
    page_address(page).fill(0, offset, offset + n);
    bh.b_state |= BH_Uptodate | BH_Dirty;
    filemap_dirty_folio(mapping, page);
  } finally {
    unlock_page(page);
    put_page(page);
  }
}

/** Zeroes from `from` to the end of its block. */
export async function block_truncate_page(
  mapping: address_space,
  from: number,
  get_block: get_block_t,
): Promise<void> {
  const size = 2 ** mapping.host.i_blkbits;
  const off = from % size;
  if (off !== 0) await block_zero_page_range(mapping, from, size - off, get_block);
}

/** bmap of a filesystem with get_block: 0 for a hole. */
export async function generic_block_bmap(
  mapping: address_space,
  block: number,
  get_block: get_block_t,
): Promise<number> {
  const inode = mapping.host;
  const data = new Uint8Array(2 ** inode.i_blkbits);
  const bh = alloc_buffer_head(mapping.kernel, null, -1, data, null, 0);
  await get_block(inode, block, bh, false);
  return buffer_mapped(bh) ? bh.b_blocknr : 0;
}
