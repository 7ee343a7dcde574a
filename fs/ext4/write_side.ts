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
  fileattr,
  iattr,
  inode,
  kiocb,
  Sometime,
  super_block,
  writeback_control,
} from "../../kernel/include/fs.ts";
import { I_DIRTY_DATASYNC } from "../../kernel/include/fs.ts";
import type { address_space, page, vm_fault, write_ctx } from "../../kernel/include/mm_types.ts";
import type { iov_iter } from "../../kernel/include/uio.ts";
import { clear_inode, generic_drop_inode } from "../../kernel/vfs/inode.ts";
import type { ext4_map_blocks_t } from "./ext4_fs.ts";

const nyi = (what: string): never => notImplemented(`ext4: ${what}`);

// --- the filesystem -------------------------------------------------------------------------------

/** Read-write mount or remount: state, mount count and times go to the superblock. */
export async function ext4_setup_super(_sb: super_block): Promise<void> {
  nyi("mounting read-write");
}
/** Unmount of a read-write mount: the superblock says clean again. Everything was synced before. */
export async function ext4_finish_super(_sb: super_block): Promise<void> {}
/** Remount read-only: everything is written, the superblock says clean. SB_RDONLY is set by the caller. */
export async function ext4_remount_ro(_sb: super_block): Promise<void> {
  nyi("remounting read-only");
}
/** At the end of every mount, read-only too. */
export async function ext4_mb_init(_sb: super_block): Promise<void> {}
export async function ext4_mb_release(_sb: super_block): Promise<void> {}
/** Read-write mount: inodes on the orphan list are truncated or deleted. */
export async function ext4_orphan_cleanup(_sb: super_block): Promise<void> {}
export async function ext4_sync_fs(_sb: super_block, _wait: boolean): Promise<void> {}
export async function ext4_freeze(_sb: super_block): Promise<void> {}
export async function ext4_unfreeze(_sb: super_block): Promise<void> {}
export function ext4_shutdown(_sb: super_block): void {}

// --- inodes ---------------------------------------------------------------------------------------

export function ext4_write_inode(_inode: inode, _wbc: writeback_control): Sometime<void> {}
export function ext4_dirty_inode(_inode: inode, _flags: number): Sometime<void> {}
export function ext4_drop_inode(inode: inode): boolean {
  return generic_drop_inode(inode);
}
export async function ext4_evict_inode(inode: inode): Promise<void> {
  await inode.kernel.vfs_ops.truncate_inode_pages_final(inode.i_data);
  clear_inode(inode);
}
export async function ext4_setattr(_dentry: dentry, _attr: iattr): Promise<void> {
  nyi("changing attributes");
}
export async function ext4_fileattr_set(_dentry: dentry, _fa: fileattr): Promise<void> {
  nyi("changing flags");
}
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
/** Would fsync with datasync have metadata to write? */
export function ext4_inode_datasync_dirty(inode: inode): boolean {
  return (inode.i_state & I_DIRTY_DATASYNC) !== 0;
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
export async function ext4_sync_file(
  _file: file,
  _start: number,
  _end: number,
  _datasync: boolean,
): Promise<void> {}
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
export async function ext4_dax_writepages(
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
