/**
 * fs/iomap/seek.ts - SEEK_DATA and SEEK_HOLE. Linux: fs/iomap/seek.c.
 *
 * Unwritten extents count as data where the page cache (or the DAX tree) holds something for them.
 */
import { ENXIO } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { IOMAP_HOLE, IOMAP_REPORT, IOMAP_UNWRITTEN } from "../../kernel/include/iomap.ts";
import type { iomap_ops } from "../../kernel/include/iomap.ts";
import { mapping_seek_hole_data } from "../../mm/filemap.ts";
import { iomap_length, iomap_walk } from "./iter.ts";

/**
 * The first position of a hole at or behind `pos`: the end of the file at the latest. ENXIO beyond
 * it.
 */
export async function iomap_seek_hole(inode: inode, pos: number, ops: iomap_ops): Promise<number> {
  const size = inode.i_size;
  if (pos < 0 || pos >= size) throw ENXIO;
  let found = -1;
  await iomap_walk(inode, pos, size - pos, IOMAP_REPORT, ops, (iter) => {
    const length = iomap_length(iter);
    const { type } = iter.iomap;
    if (type === IOMAP_HOLE) {
      found = iter.pos;
      return 0;
    }
    if (type !== IOMAP_UNWRITTEN) return length;
    const end = iter.pos + length;
    const at = mapping_seek_hole_data(inode.i_mapping, iter.pos, end, false);
    if (at === end) return length;
    found = at;
    return 0;
  });
  return found < 0 ? size : found;
}

/** The first position of data at or behind `pos`. ENXIO: there is none. */
export async function iomap_seek_data(inode: inode, pos: number, ops: iomap_ops): Promise<number> {
  const size = inode.i_size;
  if (pos < 0 || pos >= size) throw ENXIO;
  let found = -1;
  await iomap_walk(inode, pos, size - pos, IOMAP_REPORT, ops, (iter) => {
    const length = iomap_length(iter);
    const { type } = iter.iomap;
    if (type === IOMAP_HOLE) return length;
    if (type !== IOMAP_UNWRITTEN) {
      found = iter.pos;
      return 0;
    }
    const end = iter.pos + length;
    try {
      found = mapping_seek_hole_data(inode.i_mapping, iter.pos, end, true);
    } catch (err) {
      if (err !== ENXIO) throw err;
      return length; // nothing of the run is in the page cache
    }
    return 0;
  });
  if (found < 0) throw ENXIO;
  return found;
}
