/**
 * fs/iomap/fiemap.ts - telling user space where a file's blocks are.
 * Linux: fs/iomap/fiemap.c (iomap_fiemap, iomap_bmap), fs/ioctl.c (fiemap_prep,
 * fiemap_fill_next_extent).
 */
import { EBADR, EFBIG, EINVAL, ENOENT } from "../../kernel/include/errno.ts";
import {
  FIEMAP_EXTENT_DATA_INLINE,
  FIEMAP_EXTENT_DATA_TAIL,
  FIEMAP_EXTENT_DELALLOC,
  FIEMAP_EXTENT_ENCODED,
  FIEMAP_EXTENT_LAST,
  FIEMAP_EXTENT_MERGED,
  FIEMAP_EXTENT_NOT_ALIGNED,
  FIEMAP_EXTENT_SHARED,
  FIEMAP_EXTENT_UNKNOWN,
  FIEMAP_EXTENT_UNWRITTEN,
  FIEMAP_FLAG_SYNC,
} from "../../kernel/include/fs.ts";
import type { fiemap_extent_info, inode } from "../../kernel/include/fs.ts";
import {
  IOMAP_DELALLOC,
  IOMAP_F_MERGED,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_REPORT,
  IOMAP_UNWRITTEN,
} from "../../kernel/include/iomap.ts";
import type { iomap_ops } from "../../kernel/include/iomap.ts";
import type { address_space } from "../../kernel/include/mm_types.ts";
import { filemap_write_and_wait } from "../../mm/filemap.ts";
import { iomap_addr, iomap_length, iomap_walk } from "./iter.ts";

const FIEMAP_EXTENT_DATA_ENCRYPTED = 0x80;

/**
 * Checks a request and writes the file's data if FIEMAP_FLAG_SYNC asks for it. Returns the length
 * cut to what the filesystem can hold. EINVAL: no length; EFBIG: start beyond that; EBADR: flags
 * not in `supported` (those are left in fi_flags).
 */
export async function fiemap_prep(
  inode: inode,
  fi: fiemap_extent_info,
  start: number,
  len: number,
  supported: number,
): Promise<number> {
  const max = inode.i_sb.s_maxbytes;
  if (len === 0) throw EINVAL;
  if (start >= max) throw EFBIG;
  const n = Math.min(len, max - start);
  const bad = fi.fi_flags & ~(supported | FIEMAP_FLAG_SYNC);
  if (bad !== 0) {
    fi.fi_flags = bad;
    throw EBADR;
  }
  if (fi.fi_flags & FIEMAP_FLAG_SYNC) await filemap_write_and_wait(inode.i_mapping);
  return n;
}

/** Adds an extent, all in bytes. True: no more is wanted. */
export function fiemap_fill_next_extent(
  fi: fiemap_extent_info,
  logical: number,
  phys: number,
  len: number,
  flags: number,
): boolean {
  const last = (flags & FIEMAP_EXTENT_LAST) !== 0;
  if (fi.fi_extents_max === 0) {
    fi.fi_extents_mapped++;
    return last;
  }
  if (fi.fi_extents_mapped >= fi.fi_extents_max) return true;
  let f = flags;
  if (f & FIEMAP_EXTENT_DELALLOC) f |= FIEMAP_EXTENT_UNKNOWN;
  if (f & FIEMAP_EXTENT_DATA_ENCRYPTED) f |= FIEMAP_EXTENT_ENCODED;
  if (f & (FIEMAP_EXTENT_DATA_TAIL | FIEMAP_EXTENT_DATA_INLINE)) f |= FIEMAP_EXTENT_NOT_ALIGNED;
  fi.fi_extents.push({ fe_logical: logical, fe_physical: phys, fe_length: len, fe_flags: f });
  fi.fi_extents_mapped++;
  return last || fi.fi_extents_mapped === fi.fi_extents_max;
}

interface pending_extent {
  offset: number;
  addr: number;
  length: number;
  type: number;
  flags: number;
}

const TYPE_FLAGS: Readonly<Record<number, number>> = Object.freeze({
  [IOMAP_MAPPED]: 0,
  [IOMAP_DELALLOC]: FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNKNOWN,
  [IOMAP_UNWRITTEN]: FIEMAP_EXTENT_UNWRITTEN,
  [IOMAP_INLINE]: FIEMAP_EXTENT_DATA_INLINE,
});

function give(fi: fiemap_extent_info, e: pending_extent, extra: number): boolean {
  if (e.type === IOMAP_HOLE) return false;
  let flags = extra | TYPE_FLAGS[e.type]!;
  if (e.flags & IOMAP_F_MERGED) flags |= FIEMAP_EXTENT_MERGED;
  if (e.flags & IOMAP_F_SHARED) flags |= FIEMAP_EXTENT_SHARED;
  const phys = e.addr !== IOMAP_NULL_ADDR ? e.addr : 0;
  return fiemap_fill_next_extent(fi, e.offset, phys, e.length, flags);
}

/** The extents of bytes [start, start + len), the last one marked. Errors as fiemap_prep(). */
export async function iomap_fiemap(
  inode: inode,
  fi: fiemap_extent_info,
  start: number,
  len: number,
  ops: iomap_ops,
): Promise<void> {
  const n = await fiemap_prep(inode, fi, start, len, 0);
  let prev: pending_extent | null = null;
  try {
    await iomap_walk(inode, start, n, IOMAP_REPORT, ops, (iter) => {
      const m = iter.iomap;
      if (m.type === IOMAP_HOLE) return iomap_length(iter);
      // One behind, as only the next one tells whether an extent is the last.
      if (prev && give(fi, prev, 0)) {
        prev = null;
        return 0;
      }
      prev = {
        offset: m.offset,
        addr: m.addr,
        length: m.length,
        type: m.type,
        flags: m.flags,
      };
      return iomap_length(iter);
    });
  } catch (err) {
    // A file without the fork that was asked for.
    if (err !== ENOENT) throw err;
  }
  if (prev) give(fi, prev, FIEMAP_EXTENT_LAST);
}

/** FIBMAP: the device block of a file block, 0 for a hole. */
export async function iomap_bmap(
  mapping: address_space,
  block: number,
  ops: iomap_ops,
): Promise<number> {
  const inode = mapping.host;
  const size = 2 ** inode.i_blkbits;
  await filemap_write_and_wait(mapping);
  let found = 0;
  await iomap_walk(inode, block * size, size, IOMAP_REPORT, ops, (iter) => {
    if (iter.iomap.type === IOMAP_MAPPED) found = iomap_addr(iter.iomap, iter.pos) / size;
    return 0;
  });
  return Math.floor(found);
}
