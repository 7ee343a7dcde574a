/**
 * mm/filemap/wait.ts - writing a range and waiting for it, and the errors of writeback. Linux:
 * mm/filemap.c.
 *
 * A failed write is noted in mapping.wb_err; every file open at that time reports it once from
 * fsync (file_check_and_advance_wb_err). Callers without a file look at the mapping's flags
 * (filemap_check_errors).
 */
import { EIO, ENOSPC } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { LLONG_MAX, WB_SYNC_ALL, WB_SYNC_NONE } from "../../kernel/include/fs.ts";
import type { file, writeback_control } from "../../kernel/include/fs.ts";
import { AS_EIO, AS_ENOSPC } from "../../kernel/include/mm_types.ts";
import type { address_space } from "../../kernel/include/mm_types.ts";
import { xa_marked } from "../../kernel/lib/xarray.ts";
import {
  PAGECACHE_TAG_DIRTY,
  PAGECACHE_TAG_WRITEBACK,
  errseq_check,
  errseq_sample,
} from "../address_space.ts";
import { put_page, wait_on_page_writeback } from "../page.ts";
import { find_get_pages_tag } from "./lookup.ts";

const BATCH = 16;

/** Does the file have anything to write or being written? */
function mapping_needs_writeback(mapping: address_space): boolean {
  return mapping.nrpages > 0;
}

async function wait_for_range(mapping: address_space, start: number, end: number): Promise<void> {
  const size = mapping.kernel.PAGE_SIZE;
  let index = Math.floor(start / size);
  const last = Math.floor(end / size);
  while (xa_marked(mapping.i_pages, PAGECACHE_TAG_WRITEBACK)) {
    const pages = find_get_pages_tag(mapping, index, last, PAGECACHE_TAG_WRITEBACK, BATCH);
    if (pages.length === 0) return;
    for (const p of pages) {
      index = p.index + 1;
      const w = wait_on_page_writeback(p);
      if (w) await w;
      put_page(p);
    }
  }
}

/** Throws and forgets what the mapping's error flags say. */
export function filemap_check_errors(mapping: address_space): void {
  const { flags } = mapping;
  mapping.flags &= ~(AS_EIO | AS_ENOSPC);
  if (flags & AS_EIO) throw EIO;
  if (flags & AS_ENOSPC) throw ENOSPC;
}

/** Waits until bytes [start, end] (inclusive) are not under writeback; throws EIO or ENOSPC. */
export async function filemap_fdatawait_range(
  mapping: address_space,
  start: number,
  end: number,
): Promise<void> {
  await wait_for_range(mapping, start, end);
  filemap_check_errors(mapping);
}

/** As filemap_fdatawait_range; an error is reported as fsync would. */
export async function file_fdatawait_range(file: file, start: number, end: number): Promise<void> {
  await wait_for_range(file.f_mapping, start, end);
  file_check_and_advance_wb_err(file);
}

/** Starts writing bytes [start, end]; WB_SYNC_ALL also waits for what is being written already. */
export async function filemap_fdatawrite_range(
  mapping: address_space,
  start: number,
  end: number,
  sync_mode = WB_SYNC_ALL,
): Promise<void> {
  const { writepages } = mapping.a_ops;
  if (!writepages || !xa_marked(mapping.i_pages, PAGECACHE_TAG_DIRTY)) return;
  const wbc: writeback_control = {
    nr_to_write: LLONG_MAX,
    range_start: start,
    range_end: end,
    sync_mode,
  };
  await writepages(mapping, wbc);
}

/** Starts writing everything, without waiting. */
export function filemap_flush(mapping: address_space): Promise<void> {
  return filemap_fdatawrite_range(mapping, 0, LLONG_MAX, WB_SYNC_NONE);
}

/** Writes bytes [start, end] and waits. Throws the error of writing, else one noted before. */
export async function filemap_write_and_wait_range(
  mapping: address_space,
  start: number,
  end: number,
): Promise<void> {
  if (end < start) return;
  let failed: unknown = null;
  if (mapping_needs_writeback(mapping)) {
    try {
      await filemap_fdatawrite_range(mapping, start, end);
    } catch (e) {
      failed = e;
    }
    // EIO: pages may be in flight all the same.
    await wait_for_range(mapping, start, end);
  }
  if (failed !== null) {
    mapping.flags &= ~(AS_EIO | AS_ENOSPC);
    throw failed;
  }
  filemap_check_errors(mapping);
}

export function filemap_write_and_wait(mapping: address_space): Promise<void> {
  return filemap_write_and_wait_range(mapping, 0, LLONG_MAX);
}

/** For fsync: writes, waits, and reports each error of writeback once to this file. */
export async function file_write_and_wait_range(
  file: file,
  start: number,
  end: number,
): Promise<void> {
  if (end < start) return;
  const mapping = file.f_mapping;
  let failed: unknown = null;
  if (mapping_needs_writeback(mapping)) {
    try {
      await filemap_fdatawrite_range(mapping, start, end);
    } catch (e) {
      failed = e;
    }
    await wait_for_range(mapping, start, end);
  }
  try {
    file_check_and_advance_wb_err(file);
  } catch (e) {
    failed ??= e;
  }
  if (failed !== null) throw failed;
}

/** Is anything in bytes [start, end] dirty or under writeback? */
export function filemap_range_needs_writeback(
  mapping: address_space,
  start: number,
  end: number,
): boolean {
  const size = mapping.kernel.PAGE_SIZE;
  const [first, last] = [Math.floor(start / size), Math.floor(end / size)];
  for (const tag of [PAGECACHE_TAG_DIRTY, PAGECACHE_TAG_WRITEBACK]) {
    const pages = find_get_pages_tag(mapping, first, last, tag, 1);
    for (const p of pages) put_page(p);
    if (pages.length > 0) return true;
  }
  return false;
}

/** What a file that is opened now compares with later. */
export function filemap_sample_wb_err(mapping: address_space): number {
  return errseq_sample(mapping.wb_err);
}

/** The error of writeback since this file last asked, or null; does not forget it. */
export function filemap_check_wb_err(mapping: address_space, since: number): Errno | null {
  return errseq_check(mapping.wb_err, since).error;
}

/** Throws an error of writeback that this file has not reported yet. */
export function file_check_and_advance_wb_err(file: file): void {
  const mapping = file.f_mapping;
  const { seq, error } = errseq_check(mapping.wb_err, file.f_wb_err);
  mapping.wb_err = seq;
  file.f_wb_err = seq;
  // Those without a file have been told by this, too.
  mapping.flags &= ~(AS_EIO | AS_ENOSPC);
  if (error !== null) throw error;
}
