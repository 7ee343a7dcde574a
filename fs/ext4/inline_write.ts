/** fs/ext4/inline_write.ts - changing data kept in the inode. Linux: fs/ext4/inline.c. */
import { notImplemented } from "../../kernel/assert.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { ext4_has_inline_data } from "./inode.ts";

/** Shortens inline data; false: the file has grown out of its inode, blocks must be freed. */
export async function ext4_inline_data_truncate(_inode: inode): Promise<boolean> {
  return notImplemented("ext4: truncating inline data");
}

/** Moves inline data out into blocks. Nothing to do for a file without. */
export async function ext4_convert_inline_data(inode: inode): Promise<void> {
  if (ext4_has_inline_data(inode)) notImplemented("ext4: converting inline data");
}
