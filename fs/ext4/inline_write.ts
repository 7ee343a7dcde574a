/** fs/ext4/inline_write.ts - changing data kept in the inode. Linux: fs/ext4/inline.c. */
import { notImplemented } from "../../kernel/assert.ts";
import type { inode } from "../../kernel/include/fs.ts";
import type { page } from "../../kernel/include/mm_types.ts";
import type { handle_t } from "./ext4_jbd2.ts";
import { ext4_has_inline_data } from "./inode.ts";

/** Shortens inline data; false: the file has grown out of its inode, blocks must be freed. */
export async function ext4_inline_data_truncate(_inode: inode): Promise<boolean> {
  return notImplemented("ext4: truncating inline data");
}

/** Moves inline data out into blocks. Nothing to do for a file without. */
export async function ext4_convert_inline_data(inode: inode): Promise<void> {
  if (ext4_has_inline_data(inode)) notImplemented("ext4: converting inline data");
}

/** write_begin: a locked page when the write fits into the inode (a handle is open then), else null. */
export async function ext4_try_to_write_inline_data(
  _inode: inode,
  _pos: number,
  _len: number,
): Promise<page | null> {
  return notImplemented("ext4: writing inline data");
}
/** The same for delayed allocation. */
export async function ext4_da_write_inline_data_begin(
  _inode: inode,
  _pos: number,
  _len: number,
): Promise<page | null> {
  return notImplemented("ext4: writing inline data");
}
/** Ends such a write: data, size, page, handle. Returns the bytes that count. */
export async function ext4_write_inline_data_end(
  _inode: inode,
  _pos: number,
  _len: number,
  _copied: number,
  _page: page,
): Promise<number> {
  return notImplemented("ext4: writing inline data");
}
/** The data is in pages now and will get blocks: the inline form goes. */
export async function ext4_destroy_inline_data(_handle: handle_t, _inode: inode): Promise<void> {
  return notImplemented("ext4: converting inline data");
}
