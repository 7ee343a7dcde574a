/**
 * fs/ext4/inline_dir.ts - names in an inline directory: put in, taken out. Linux: fs/ext4/inline.c.
 */
import { notImplemented } from "../../kernel/assert.ts";
import type { inode } from "../../kernel/include/fs.ts";
import type { handle_t } from "./ext4_jbd2.ts";
import type { ext4_found } from "./namei.ts";

export async function ext4_try_add_inline_entry(
  _handle: handle_t,
  _dir: inode,
  _name: Uint8Array,
  _inode: inode,
): Promise<boolean> {
  return notImplemented("ext4: adding to inline directories");
}
export async function ext4_delete_inline_entry(
  _handle: handle_t,
  _dir: inode,
  _found: ext4_found,
): Promise<boolean> {
  return notImplemented("ext4: removing from inline directories");
}
export async function empty_inline_dir(_dir: inode): Promise<boolean | undefined> {
  return notImplemented("ext4: removing inline directories");
}
/** False: no room in the inode, make it a directory of blocks. */
export async function ext4_try_create_inline_dir(
  _handle: handle_t,
  _parent: inode,
  _dir: inode,
): Promise<boolean> {
  return false;
}
