/**
 * fs/ext4/super_journal.ts - the journal at mount time: looked at, not used. Linux: fs/ext4/super.c
 * (ext4_load_journal and what surrounds it in fill_super). The policy is at the top of super.ts.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import type { inode, super_block } from "../../kernel/include/fs.ts";
import { S_ISREG } from "../../kernel/include/stat.ts";
import { iput } from "../../kernel/vfs/inode.ts";
import { brelse } from "../buffer.ts";
import {
  JBD2_MAGIC_NUMBER,
  JBD2_SUPERBLOCK_V1,
  JBD2_SUPERBLOCK_V2,
  journal_superblock,
} from "../jbd2/jbd2.ts";
import * as M from "./ext4.ts";
import {
  data_mode,
  EXT4_IGET_SPECIAL,
  EXT4_MOUNT2_EXPLICIT_JOURNAL_CHECKSUM,
  EXT4_MOUNT2_JOURNAL_FAST_COMMIT,
  EXT4_MOUNT_DATA_ERR_ABORT,
  EXT4_MOUNT_DATA_FLAGS,
  EXT4_MOUNT_JOURNAL_ASYNC_COMMIT,
  EXT4_MOUNT_JOURNAL_CHECKSUM,
  EXT4_MOUNT_JOURNAL_DATA,
  EXT4_MOUNT_NOLOAD,
  EXT4_MOUNT_ORDERED_DATA,
  EXT4_SB,
  ext4_msg,
  ext4_sb_bread,
  has_compat,
  has_incompat,
  KERN_WARNING,
  new_map,
  sb_rdonly,
  test_opt,
  test_opt2,
} from "./ext4_fs.ts";
import { ext4_iget } from "./iget.ts";
import { ext4_map_blocks } from "./inode.ts";
import { JBD2_DEFAULT_MAX_COMMIT_AGE } from "./options.ts";
import { bad } from "./super_check.ts";

async function get_journal_inode(sb: super_block): Promise<inode> {
  let inode: inode;
  try {
    inode = await ext4_iget(sb, EXT4_SB(sb).s_es.s_journal_inum, EXT4_IGET_SPECIAL);
  } catch (e) {
    if (!is_errno(e)) throw e;
    return bad(sb, "no journal found");
  }
  if (inode.i_nlink === 0 || !S_ISREG(inode.i_mode)) {
    await iput(inode);
    bad(sb, inode.i_nlink === 0 ? "journal inode is deleted" : "invalid journal inode");
  }
  return inode;
}

async function read_journal_super(sb: super_block): Promise<void> {
  const inode = await get_journal_inode(sb);
  try {
    const map = new_map(0, 1);
    if ((await ext4_map_blocks(null, inode, map, 0)) <= 0) bad(sb, "error loading journal");
    const bh = await ext4_sb_bread(sb, map.m_pblk);
    const j = journal_superblock.at(bh.b_data);
    const type = j.h_blocktype;
    const ok =
      j.h_magic === JBD2_MAGIC_NUMBER &&
      (type === JBD2_SUPERBLOCK_V1 || type === JBD2_SUPERBLOCK_V2);
    brelse(bh);
    if (!ok) bad(sb, "error loading journal: no valid journal superblock found");
  } finally {
    await iput(inode);
  }
}

/** See "Journal policy" at the top of the file. */
async function check_journal(sb: super_block): Promise<void> {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  if (es.s_journal_inum && es.s_journal_dev) {
    bad(sb, "filesystem has both journal inode and journal device!");
  }
  if (!es.s_journal_inum) bad(sb, "an external journal device is not supported yet");
  await read_journal_super(sb);
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_RECOVER)) {
    const how = sb_rdonly(sb) ? " (try mounting with noload)" : "";
    bad(sb, `the journal needs recovery, which is not supported yet, cannot proceed${how}`);
  }
  if (data_mode(sb) === 0) {
    sbi.s_mount_opt |= EXT4_MOUNT_ORDERED_DATA;
    sbi.s_def_mount_opt |= EXT4_MOUNT_ORDERED_DATA;
  }
  if (data_mode(sb) === EXT4_MOUNT_ORDERED_DATA && test_opt(sb, EXT4_MOUNT_JOURNAL_ASYNC_COMMIT)) {
    bad(sb, "can't mount with journal_async_commit in data=ordered mode");
  }
  if (!sb_rdonly(sb) && data_mode(sb) === EXT4_MOUNT_JOURNAL_DATA) {
    bad(sb, "data=journal needs a journal that is written, which is not supported yet");
  }
  if (!sb_rdonly(sb)) {
    ext4_msg(
      sb,
      KERN_WARNING,
      "journal left empty: metadata is written in place, which is not crash-safe",
    );
  }
}

/** Without a journal no option about journals makes sense. */
function check_no_journal(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const without = "fs mounted w/o journal";
  if (test_opt(sb, EXT4_MOUNT_JOURNAL_ASYNC_COMMIT)) {
    bad(sb, `can't mount with journal_async_commit, ${without}`);
  }
  if (test_opt2(sb, EXT4_MOUNT2_EXPLICIT_JOURNAL_CHECKSUM)) {
    bad(sb, `can't mount with journal_checksum, ${without}`);
  }
  if (sbi.s_commit_interval !== JBD2_DEFAULT_MAX_COMMIT_AGE) {
    bad(sb, `can't mount with commit=${sbi.s_commit_interval}, ${without}`);
  }
  if (EXT4_MOUNT_DATA_FLAGS & (sbi.s_mount_opt ^ sbi.s_def_mount_opt)) {
    bad(sb, `can't mount with data=, ${without}`);
  }
  if (test_opt(sb, EXT4_MOUNT_DATA_ERR_ABORT)) {
    bad(sb, `can't mount with data_err=abort, ${without}`);
  }
  sbi.s_def_mount_opt &= ~(EXT4_MOUNT_JOURNAL_CHECKSUM | EXT4_MOUNT_DATA_FLAGS);
  sbi.s_mount_opt &= ~(EXT4_MOUNT_JOURNAL_CHECKSUM | EXT4_MOUNT_DATA_FLAGS);
  sbi.s_mount_opt2 &= ~EXT4_MOUNT2_JOURNAL_FAST_COMMIT;
}

/** What is to be done about the journal at mount. Throws EINVAL with a log line. */
export async function load_journal(sb: super_block): Promise<void> {
  const noload = test_opt(sb, EXT4_MOUNT_NOLOAD);
  if (!noload && has_compat(sb, M.EXT4_FEATURE_COMPAT_HAS_JOURNAL)) return check_journal(sb);
  if (noload && !sb_rdonly(sb) && has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_RECOVER)) {
    bad(sb, "required journal recovery suppressed and not mounted read-only");
  }
  check_no_journal(sb);
}
