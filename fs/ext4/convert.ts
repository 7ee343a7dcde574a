/**
 * fs/ext4/convert.ts - after data was written into unwritten blocks: they hold it now.
 * Linux: ext4_convert_unwritten_extents() in fs/ext4/extents.c.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { EXT4_GET_BLOCKS_IO_CONVERT_EXT, ext4_warning, new_map } from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_MAP_BLOCKS,
  ext4_journal_start,
  ext4_journal_stop,
} from "./ext4_jbd2.ts";
import { ext4_map_blocks } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";

/** Bytes [offset, offset + len) are on the media. Opens a handle for each piece. */
export async function ext4_convert_unwritten_extents(
  inode: inode,
  offset: number,
  len: number,
): Promise<void> {
  const size = inode.i_sb.s_blocksize;
  let lblk = Math.floor(offset / size);
  const end = Math.ceil((offset + len) / size);
  while (lblk < end) {
    const map = new_map(lblk, end - lblk);
    const handle = await ext4_journal_start(inode, EXT4_HT_MAP_BLOCKS, EXT4_DATA_TRANS_BLOCKS);
    let n = 0;
    try {
      try {
        n = await ext4_map_blocks(handle, inode, map, EXT4_GET_BLOCKS_IO_CONVERT_EXT);
      } catch (e) {
        if (is_errno(e)) failed(inode, lblk, map.m_len, e.code);
        throw e;
      } finally {
        await ext4_mark_inode_dirty(handle, inode);
      }
    } finally {
      ext4_journal_stop(handle);
    }
    if (n <= 0) {
      failed(inode, lblk, map.m_len, "0");
      return;
    }
    lblk += n;
  }
}

function failed(inode: inode, lblk: number, len: number, what: string): void {
  const text = `inode #${inode.i_ino}: block ${lblk}: len ${len}: conversion returned ${what}`;
  ext4_warning(inode.i_sb, "ext4_convert_unwritten_extents", text);
}
