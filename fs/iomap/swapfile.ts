/**
 * fs/iomap/swapfile.ts - may a file be swap space, and where are its pages? Linux:
 * fs/iomap/swapfile.c.
 *
 * Refusals are logged as the kernel words them, since swapon(8) shows nothing but EINVAL.
 */
import type { block_device } from "../../kernel/include/blkdev.ts";
import { EINVAL } from "../../kernel/include/errno.ts";
import type { file } from "../../kernel/include/fs.ts";
import {
  IOMAP_F_DIRTY,
  IOMAP_F_SHARED,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_REPORT,
  IOMAP_UNWRITTEN,
} from "../../kernel/include/iomap.ts";
import type { iomap, iomap_ops } from "../../kernel/include/iomap.ts";
import { filemap_write_and_wait } from "../../mm/filemap.ts";
import { iomap_length, iomap_walk } from "./iter.ts";

/** Whole pages: of the swap space, and where on the device they start. */
export interface swap_extent {
  start_page: number;
  nr_pages: number;
  start_block: number;
}
export interface swap_extents {
  extents: swap_extent[];
  /** Pages that fit, the header's included. */
  nr_pages: number;
  /** Distance of the lowest and highest device page. */
  span: number;
}

function refusal(m: iomap, bdev: block_device | null): string | null {
  if (m.type === IOMAP_INLINE) return "is inline";
  if (m.type !== IOMAP_MAPPED && m.type !== IOMAP_UNWRITTEN) return "has unallocated extents";
  if (m.flags & IOMAP_F_DIRTY) return "is not committed";
  if (m.flags & IOMAP_F_SHARED) return "has shared extents";
  if (m.bdev !== bdev) return "outside the main device";
  return null;
}

function add_pages(out: swap_extent[], run: { addr: number; len: number }, page: number): number {
  const first = Math.ceil(run.addr / page);
  const end = Math.floor((run.addr + run.len) / page);
  if (end <= first) return 0;
  const last = out.at(-1);
  const start_page = last ? last.start_page + last.nr_pages : 0;
  out.push({ start_page, nr_pages: end - first, start_block: first });
  return end - first;
}

/**
 * The page runs of a swap file. Throws EINVAL, with a line in the log that names the file `name`,
 * for a file with holes, shared or uncommitted extents, or less than a page.
 */
export async function iomap_swapfile_activate(
  file: file,
  name: string,
  bdev: block_device | null,
  ops: iomap_ops,
): Promise<swap_extents> {
  const { kernel, f_mapping: mapping } = file;
  const inode = mapping.host;
  const page = kernel.PAGE_SIZE;
  await filemap_write_and_wait(mapping);
  const fail = (why: string): never => {
    kernel.pr_err(`swapon: file ${name} ${why}`);
    throw EINVAL;
  };
  const extents: swap_extent[] = [];
  let run = { addr: -1, len: 0 };
  const len = inode.i_size - (inode.i_size % page);
  if (len > 0) {
    await iomap_walk(inode, 0, len, IOMAP_REPORT, ops, (iter) => {
      const m = iter.iomap;
      const why = refusal(m, bdev);
      if (why) fail(why);
      if (run.len > 0 && run.addr + run.len === m.addr) {
        run.len += m.length;
      } else {
        add_pages(extents, run, page);
        run = { addr: m.addr, len: m.length };
      }
      return iomap_length(iter);
    });
  }
  add_pages(extents, run, page);
  const last = extents.at(-1);
  if (!last) {
    kernel.pr_warn("swapon: cannot find a single usable page in file.");
    throw EINVAL;
  }
  const low = Math.min(...extents.map((e) => e.start_block));
  const high = Math.max(...extents.map((e) => e.start_block + e.nr_pages - 1));
  return { extents, nr_pages: last.start_page + last.nr_pages, span: high - low + 1 };
}
