/**
 * fs/ext4/iomap_write.ts - blocks for a DAX or direct write. Linux: ext4_iomap_alloc() in
 * fs/ext4/inode.c.
 *
 * DAX: blocks are zeroed before they can be reached, since a store needs no conversion afterwards.
 * Direct IO: inside the file blocks stay unwritten until the data is there; behind its end nobody
 * can read them.
 */
import { ENOSPC, ENOTBLK } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { IOMAP_DAX } from "../../kernel/include/iomap.ts";
import { EXT4_EXTENTS_FL } from "./ext4.ts";
import {
  EXT4_GET_BLOCKS_CREATE,
  EXT4_GET_BLOCKS_CREATE_ZERO,
  EXT4_GET_BLOCKS_IO_CREATE_EXT,
  type ext4_map_blocks_t,
  ext4_test_inode_flag,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_MAP_BLOCKS,
  ext4_journal_start,
  ext4_journal_stop,
} from "./ext4_jbd2.ts";
import { ext4_map_blocks } from "./inode.ts";
import { ext4_should_retry_alloc } from "./retry_alloc.ts";

/** Blocks mapped at once at most. */
const DIO_MAX_BLOCKS = 4096;

function alloc_flags(inode: inode, map: ext4_map_blocks_t, flags: number): number {
  if (flags & IOMAP_DAX) return EXT4_GET_BLOCKS_CREATE_ZERO;
  if (map.m_lblk * inode.i_sb.s_blocksize >= inode.i_size) return EXT4_GET_BLOCKS_CREATE;
  if (ext4_test_inode_flag(inode, EXT4_EXTENTS_FL)) return EXT4_GET_BLOCKS_IO_CREATE_EXT;
  return 0;
}

/**
 * Maps with CREATE, in a handle of its own. Fills `map` and returns the blocks it is good for.
 * @throws ENOTBLK a hole of a block-mapped file (direct IO): write it through the page cache;
 * ENOSPC ...
 */
export async function ext4_iomap_alloc(
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Promise<number> {
  const len = Math.min(map.m_len, DIO_MAX_BLOCKS);
  for (let retries = 0; ; ) {
    map.m_len = len;
    const handle = await ext4_journal_start(inode, EXT4_HT_MAP_BLOCKS, EXT4_DATA_TRANS_BLOCKS);
    try {
      const m_flags = alloc_flags(inode, map, flags);
      const n = await ext4_map_blocks(handle, inode, map, m_flags);
      if (m_flags === 0 && n === 0) throw ENOTBLK;
      return n;
    } catch (e) {
      if (e !== ENOSPC) throw e;
    } finally {
      ext4_journal_stop(handle);
    }
    if (!(await ext4_should_retry_alloc(inode.i_sb, retries++))) throw ENOSPC;
  }
}
