/** fs/ext4/xattr_write.ts - changing extended attributes. Linux: fs/ext4/xattr.c. */
import { notImplemented } from "../../kernel/assert.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { EXT4_I } from "./ext4_fs.ts";
import type { handle_t } from "./ext4_jbd2.ts";

/** Frees what holds the attributes of an inode that is being deleted. */
export async function ext4_xattr_delete_inode(_handle: handle_t, inode: inode): Promise<void> {
  if (EXT4_I(inode).i_file_acl !== 0) notImplemented("ext4: freeing an attribute block");
}
