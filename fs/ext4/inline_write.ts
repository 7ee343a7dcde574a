/** fs/ext4/inline_write.ts - changing data kept in the inode. Linux: fs/ext4/inline.c. */
import { notImplemented } from "../../kernel/assert.ts";
import type { inode } from "../../kernel/include/fs.ts";

/** Shortens inline data; false: the file has grown out of its inode, blocks must be freed. */
export async function ext4_inline_data_truncate(_inode: inode): Promise<boolean> {
  return notImplemented("ext4: truncating inline data");
}
