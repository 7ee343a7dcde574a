/**
 * fs/ext4/write_side.ts - what the read side calls of the write side: one list, so that the operation
 * tables (file.ts, dir.ts, aops.ts, super.ts) stay in one place. No Linux counterpart.
 *
 * Everything here must be a function declaration, or a re-export of one: the tables are made while
 * modules are being loaded, in cycles, and only declarations are there from the start.
 */
import { notImplemented } from "../../kernel/assert.ts";
import type {
  dentry,
  file,
  inode,
  kiocb,
  Sometime,
  super_block,
  writeback_control,
} from "../../kernel/include/fs.ts";
import type { address_space, page, vm_fault, write_ctx } from "../../kernel/include/mm_types.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import type { ext4_map_blocks_t } from "./ext4_fs.ts";

const nyi = (what: string): never => notImplemented(`ext4: ${what}`);

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
// --- the filesystem -------------------------------------------------------------------------------

/** At the end of every mount, read-only too. */
export async function ext4_mb_init(_sb: super_block): Promise<void> {}
export async function ext4_mb_release(_sb: super_block): Promise<void> {}
// --- inodes ---------------------------------------------------------------------------------------

/** value null: remove. Flags XATTR_CREATE, XATTR_REPLACE. `name` is without its prefix. */
export async function ext4_xattr_set(
  _inode: inode,
  _name_index: number,
  _name: string,
  _value: Uint8Array | null,
  _flags: number,
): Promise<void> {
  nyi("setting attributes");
}
// --- blocks ---------------------------------------------------------------------------------------

/**
 * The end of ext4_map_blocks() with CREATE, when a hole or an unwritten run was found: takes i_data_sem
 * for writing, allocates or converts, brings the extent status cache up to date. Returns as it.
 */
export function ext4_map_create(
  _handle: unknown,
  _inode: inode,
  _map: ext4_map_blocks_t,
  _flags: number,
): Sometime<number> {
  return nyi("allocating blocks");
}
/** iomap_begin of a DAX or direct write: opens a handle and maps with CREATE. Fills `map`. */
export async function ext4_iomap_alloc(
  _inode: inode,
  _map: ext4_map_blocks_t,
  _flags: number,
): Promise<number> {
  return nyi("allocating blocks");
}
export async function ext4_should_retry_alloc(
  _sb: super_block,
  _retries: number,
): Promise<boolean> {
  return false;
}

// --- files ----------------------------------------------------------------------------------------

export function ext4_file_write_iter(_iocb: kiocb, _from: iov_iter): Sometime<number> {
  return nyi("write");
}
export function ext4_file_open_write(_inode: inode, _file: file): Sometime<void> {}
export function ext4_release_file(_inode: inode, _file: file): Sometime<void> {}
export async function ext4_fallocate(
  _file: file,
  _mode: number,
  _offset: number,
  _len: number,
): Promise<void> {
  nyi("fallocate");
}
export function ext4_page_mkwrite(_vmf: vm_fault): Sometime<number> {
  return nyi("write faults of the page cache");
}
export function ext4_ioctl_write(_file: file, cmd: string, _arg: unknown): Sometime<unknown> {
  return nyi(cmd);
}

// --- pages ----------------------------------------------------------------------------------------

export async function ext4_writepages(
  _mapping: address_space,
  _wbc: writeback_control,
): Promise<void> {}
export function ext4_write_begin(
  _file: file | null,
  _mapping: address_space,
  _pos: number,
  _len: number,
  _ctx: write_ctx,
): Sometime<void> {
  nyi("write_begin");
}
export function ext4_write_end(
  _file: file | null,
  _mapping: address_space,
  _pos: number,
  _len: number,
  _copied: number,
  _ctx: write_ctx,
): Sometime<number> {
  return nyi("write_end");
}
export function ext4_da_write_begin(
  _file: file | null,
  _mapping: address_space,
  _pos: number,
  _len: number,
  _ctx: write_ctx,
): Sometime<void> {
  nyi("write_begin");
}
export function ext4_da_write_end(
  _file: file | null,
  _mapping: address_space,
  _pos: number,
  _len: number,
  _copied: number,
  _ctx: write_ctx,
): Sometime<number> {
  return nyi("write_end");
}
export function ext4_dirty_folio(_mapping: address_space, _page: page): boolean {
  return nyi("dirty_folio");
}
export function ext4_invalidate_folio(_page: page, _offset: number, _len: number): void {}
export function ext4_release_folio(_page: page): boolean {
  return true;
}

// --- names ----------------------------------------------------------------------------------------

export async function ext4_create(
  _dir: inode,
  _dentry: dentry,
  _mode: number,
  _excl: boolean,
): Promise<void> {
  nyi("create");
}
export async function ext4_link(_old: dentry, _dir: inode, _dentry: dentry): Promise<void> {
  nyi("link");
}
export async function ext4_unlink(_dir: inode, _dentry: dentry): Promise<void> {
  nyi("unlink");
}
export async function ext4_symlink(_dir: inode, _dentry: dentry, _target: string): Promise<void> {
  nyi("symlink");
}
export async function ext4_mkdir(_dir: inode, _dentry: dentry, _mode: number): Promise<void> {
  nyi("mkdir");
}
export async function ext4_rmdir(_dir: inode, _dentry: dentry): Promise<void> {
  nyi("rmdir");
}
export async function ext4_mknod(
  _dir: inode,
  _dentry: dentry,
  _mode: number,
  _rdev: number,
): Promise<void> {
  nyi("mknod");
}
export async function ext4_tmpfile(_dir: inode, _dentry: dentry, _mode: number): Promise<void> {
  nyi("O_TMPFILE");
}
export async function ext4_rename(
  _old_dir: inode,
  _old_dentry: dentry,
  _new_dir: inode,
  _new_dentry: dentry,
  _flags: number,
): Promise<void> {
  nyi("rename");
}
