/**
 * fs/dax/zero.ts - zeroing a byte range, filling shared blocks, comparing, on the media itself.
 * Linux: fs/dax.c (dax_zero_range, dax_truncate_page, dax_file_unshare).
 */
import { is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { DAX_ACCESS } from "../../kernel/include/dax.ts";
import {
  IOMAP_DAX,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_UNSHARE,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  IOMAP_ZERO,
} from "../../kernel/include/iomap.ts";
import type { iomap_ops } from "../../kernel/include/iomap.ts";
import {
  dax_direct_access,
  dax_flush,
  dax_read_lock,
  dax_read_unlock,
  dax_zero_page_range,
} from "../../drivers/dax/super.ts";
import { invalidate_inode_pages2_range } from "../../mm/truncate.ts";
import { fs_state } from "../fs_state.ts";
import { iomap_iter_srcmap, iomap_length, iomap_walk } from "../iomap/iter.ts";
import type { iomap_iter as iomap_iter_t } from "../iomap/iter.ts";
import { dax_iomap_cow_copy, dax_iomap_direct_access, dax_iomap_pgoff } from "./rw.ts";

/** Zeroes part of a page. */
function dax_memzero(iter: iomap_iter_t, pos: number, size: number): void {
  const { kernel } = iter.inode;
  const m = iter.iomap;
  const src = iomap_iter_srcmap(iter);
  const out = fs_state(kernel).dax_scratch;
  dax_direct_access(m.dax_dev, dax_iomap_pgoff(kernel, m, pos), 1, DAX_ACCESS, out);
  const page = out.paddr;
  const offset = pos % kernel.PAGE_SIZE;
  kernel.phys.zero(page + offset, size);
  if (src.addr === m.addr) {
    dax_flush(m.dax_dev!, page + offset, size);
    return;
  }
  dax_iomap_cow_copy(kernel, pos, size, kernel.PAGE_SIZE, src, page);
  dax_flush(m.dax_dev!, page, kernel.PAGE_SIZE);
}

async function zero_extent(iter: iomap_iter_t): Promise<number> {
  const { kernel } = iter.inode;
  const size = kernel.PAGE_SIZE;
  const end = iter.pos + iomap_length(iter);
  for (let pos = iter.pos; pos < end; ) {
    const n = Math.min(size - (pos % size), end - pos);
    const id = dax_read_lock(kernel);
    try {
      const m = iter.iomap;
      if (n === size) await dax_zero_page_range(m.dax_dev!, dax_iomap_pgoff(kernel, m, pos), 1);
      else dax_memzero(iter, pos, n);
    } finally {
      dax_read_unlock(kernel, id);
    }
    pos += n;
  }
  return end - iter.pos;
}

/**
 * Zeroes bytes [pos, pos + len): holes and unwritten extents are zero already. True if something
 * was written. The zeroes are durable after the next fence.
 */
export async function dax_zero_range(
  inode: inode,
  pos: number,
  len: number,
  ops: iomap_ops,
): Promise<boolean> {
  let did_zero = false;
  if (len === 0) return false;
  await iomap_walk(inode, pos, len, IOMAP_DAX | IOMAP_ZERO, ops, (iter) => {
    const { type } = iomap_iter_srcmap(iter);
    if (type === IOMAP_HOLE || type === IOMAP_UNWRITTEN) return iomap_length(iter);
    did_zero = true;
    return zero_extent(iter);
  });
  return did_zero;
}

/** Zeroes from `pos` to the end of its block. */
export async function dax_truncate_page(
  inode: inode,
  pos: number,
  ops: iomap_ops,
): Promise<boolean> {
  const block = 2 ** inode.i_blkbits;
  const off = pos % block;
  return off === 0 ? false : dax_zero_range(inode, pos, block - off, ops);
}

async function unshare_extent(iter: iomap_iter_t): Promise<number> {
  const { kernel, i_mapping } = iter.inode;
  const { iomap: m, srcmap } = iter;
  const length = iomap_length(iter);
  const shared = (m.flags & IOMAP_F_SHARED) !== 0;
  if (!shared || srcmap.type === IOMAP_HOLE || srcmap.type === IOMAP_UNWRITTEN) return length;
  const size = kernel.PAGE_SIZE;
  const start = iter.pos - (iter.pos % size);
  const end = Math.ceil((iter.pos + length) / size) * size;
  try {
    await invalidate_inode_pages2_range(i_mapping, start / size, end / size - 1);
  } catch (err) {
    if (!is_errno(err)) throw err;
  }
  const to = dax_iomap_direct_access(kernel, m, start, end - start, false).paddr;
  const from = dax_iomap_direct_access(kernel, srcmap, start, end - start, false).paddr;
  kernel.phys.copy(to, from, end - start);
  return length;
}

/** Gives the file blocks of its own where it shares them. */
export async function dax_file_unshare(
  inode: inode,
  pos: number,
  len: number,
  ops: iomap_ops,
): Promise<void> {
  if (pos < 0 || pos >= inode.i_size) return;
  const n = Math.min(len, inode.i_size - pos);
  const flags = IOMAP_WRITE | IOMAP_UNSHARE | IOMAP_DAX;
  await iomap_walk(inode, pos, n, flags, ops, unshare_extent);
}
