/**
 * fs/ext4/fsync.ts - fsync and fdatasync. Linux: fs/ext4/fsync.c. Differs: without a journal there
 * is no transaction to commit; all metadata changed so far is written in its place instead, as one
 * step.
 *
 * No handle may be open: with a journal, waiting for the commit would wait for ourselves.
 */
import { assert } from "../../kernel/assert.ts";
import { EIO, EROFS } from "../../kernel/include/errno.ts";
import type { address_space } from "../../kernel/include/mm_types.ts";
import type { file, inode, writeback_control } from "../../kernel/include/fs.ts";
import { blkdev_issue_flush } from "../../drivers/block/bio.ts";
import { file_write_and_wait_range } from "../../mm/filemap.ts";
import { dax_writeback_mapping_range } from "../dax.ts";
import {
  EXT4_I,
  EXT4_MF_FS_ABORTED,
  EXT4_MOUNT_BARRIER,
  EXT4_SB,
  ext4_forced_shutdown,
  sb_rdonly,
  test_opt,
} from "./ext4_fs.ts";
import { ext4_commit_tid, ext4_journal_current_handle } from "./ext4_jbd2.ts";

async function fsync_metadata(inode: inode, datasync: boolean): Promise<void> {
  const ei = EXT4_I(inode);
  const sb = inode.i_sb;
  const tid = datasync ? ei.i_datasync_tid : ei.i_sync_tid;
  await ext4_commit_tid(sb, tid);
  if (sb.s_bdev && test_opt(sb, EXT4_MOUNT_BARRIER)) await blkdev_issue_flush(sb.s_bdev);
}

/**
 * file_operations.fsync: data of [start, end] (bytes, inclusive), then what is needed to find it.
 */
export async function ext4_sync_file(
  file: file,
  start: number,
  end: number,
  datasync: boolean,
): Promise<void> {
  const inode = file.f_mapping.host;
  const sb = inode.i_sb;
  if (ext4_forced_shutdown(EXT4_SB(sb))) throw EIO;
  assert(ext4_journal_current_handle(sb) === null, "fsync with a handle open");
  if (sb_rdonly(sb)) {
    if (EXT4_SB(sb).s_mount_flags & EXT4_MF_FS_ABORTED) throw EROFS;
    return;
  }
  await file_write_and_wait_range(file, start, end);
  await fsync_metadata(inode, datasync);
}

/** address_space_operations.writepages of a DAX file: the cpu cache is written back. */
export async function ext4_dax_writepages(
  mapping: address_space,
  wbc: writeback_control,
): Promise<void> {
  const inode = mapping.host;
  const sbi = EXT4_SB(inode.i_sb);
  if (ext4_forced_shutdown(sbi)) throw EIO;
  const p = sbi.s_writepages_rwsem.down_read();
  if (p) await p;
  try {
    await dax_writeback_mapping_range(mapping, sbi.s_daxdev!, wbc);
  } finally {
    sbi.s_writepages_rwsem.up_read();
  }
}
