/**
 * fs/ext4/write_side.ts - what the read side calls of the write side: one list, so that the
 * operation tables (file.ts, dir.ts, aops.ts, super.ts) stay in one place. No Linux counterpart.
 *
 * Everything here must be a function declaration, or a re-export of one: the tables are made while
 * modules are being loaded, in cycles, and only declarations are there from the start.
 */
import type { super_block } from "../../kernel/include/fs.ts";

export {
  ext4_setup_super,
  ext4_finish_super,
  ext4_remount_ro,
  ext4_sync_fs,
  ext4_freeze,
  ext4_unfreeze,
  ext4_shutdown,
} from "./super_write.ts";
export { ext4_orphan_cleanup } from "./orphan.ts";
export { ext4_write_inode, ext4_dirty_inode } from "./inode_write.ts";
export { ext4_drop_inode, ext4_evict_inode } from "./evict.ts";
export { ext4_setattr, ext4_fileattr_set } from "./setattr.ts";
export { ext4_inode_datasync_dirty } from "./ext4_jbd2.ts";
export { ext4_sync_file, ext4_dax_writepages } from "./fsync.ts";
export { ext4_ioctl_write } from "./ioctl_write.ts";
// --- the filesystem
// -------------------------------------------------------------------------------

/** At the end of every mount, read-only too. */
export async function ext4_mb_init(_sb: super_block): Promise<void> {}
export async function ext4_mb_release(_sb: super_block): Promise<void> {}
// --- inodes
// ---------------------------------------------------------------------------------------

export { ext4_set_acl } from "./acl.ts";
export { ext4_xattr_set } from "./xattr_write.ts";
// --- blocks, files, pages
// ----------------------------------------------------------------------------

export { ext4_map_create } from "./map_blocks.ts";
export { ext4_iomap_alloc } from "./iomap_write.ts";
export { ext4_should_retry_alloc } from "./retry_alloc.ts";
export { ext4_file_open_write, ext4_file_write_iter, ext4_release_file } from "./file_write.ts";
export { ext4_fallocate } from "./fallocate.ts";
export {
  ext4_da_write_begin,
  ext4_da_write_end,
  ext4_page_mkwrite,
  ext4_write_begin,
  ext4_write_end,
} from "./write_begin.ts";
export {
  ext4_dirty_folio,
  ext4_invalidate_folio,
  ext4_release_folio,
  ext4_writepages,
} from "./writepages.ts";

// --- names
// ----------------------------------------------------------------------------------------

export {
  ext4_create,
  ext4_link,
  ext4_mkdir,
  ext4_mknod,
  ext4_rmdir,
  ext4_symlink,
  ext4_tmpfile,
  ext4_unlink,
} from "./namei_write.ts";
export { ext4_rename } from "./rename.ts";
