/**
 * fs/ext4/rename.ts - rename(2) and its flags. Linux: fs/ext4/namei.c (ext4_rename2).
 *
 * The order of steps decides what a crash leaves: the new name is written before the old one goes,
 * and ".." of a moved directory last. Putting in the new name may move the old entry (the directory
 * gets an index, or leaves its inode), so the old entry is looked at again before it is removed.
 * Locks: i_rwsem of both directories, of the replaced inode and of moved directories.
 */
import {
  EFSCORRUPTED,
  EINVAL,
  EIO,
  EMLINK,
  ENOENT,
  ENOTEMPTY,
  EXDEV,
  is_errno,
} from "../../kernel/include/errno.ts";
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from "../../kernel/include/fcntl.ts";
import type { dentry, inode } from "../../kernel/include/fs.ts";
import { S_IFCHR, S_ISDIR } from "../../kernel/include/stat.ts";
import {
  clear_nlink,
  current_time,
  drop_nlink,
  init_special_inode,
  inode_inc_iversion,
  iput,
  unlock_new_inode,
} from "../../kernel/vfs/inode.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import {
  ext4_add_entry,
  ext4_delete_entry,
  ext4_empty_dir,
  ext4_update_dx_flag,
} from "./dir_add.ts";
import {
  de_file_type,
  de_inode,
  de_name_len,
  de_rec_len,
  EITHER,
  ext4_check_dir_entry,
  ext4_read_dirblock,
  is_dx,
} from "./dirent.ts";
import {
  ext4_handle_dirty_dirblock,
  ext4_handle_dirty_dx_node,
  set_de_inode,
} from "./dirent_write.ts";
import {
  EXT4_FEATURE_INCOMPAT_FILETYPE,
  EXT4_FT_CHRDEV,
  EXT4_INLINE_DATA_FL,
  EXT4_PROJINHERIT_FL,
  ext4_inode,
} from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MOUNT_NO_AUTO_DA_ALLOC,
  EXT4_SB,
  ext4_error_inode,
  ext4_forced_shutdown,
  ext4_std_error,
  ext4_test_inode_flag,
  ext4_warning_inode,
  has_incompat,
  test_opt,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_DIR,
  EXT4_INDEX_EXTRA_TRANS_BLOCKS,
  ext4_handle_sync,
  ext4_journal_get_write_access,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
  IS_DIRSYNC,
} from "./ext4_jbd2.ts";
import { ext4_special_inode_operations } from "./file.ts";
import { ext4_new_inode } from "./ialloc.ts";
import { ext4_get_inode_loc, ext4_has_inline_data } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_find_entry, type ext4_found } from "./namei.ts";
import { dentry_name, ext4_dec_count, ext4_dir_link_max, ext4_inc_count } from "./namei_write.ts";
import { ext4_orphan_add } from "./orphan.ts";
import { ext4_alloc_da_blocks } from "./writepages.ts";

const CREDITS = 2 * EXT4_DATA_TRANS_BLOCKS + 2 * EXT4_INDEX_EXTRA_TRANS_BLOCKS + 2;

/** Where ".." of a moved directory is. */
interface parent_entry {
  bh: buffer_head;
  off: number;
  inlined: boolean;
}

/** One end of the rename. */
interface ext4_renament {
  dir: inode;
  name: Uint8Array;
  inode: inode | null;
  found: ext4_found | null;
  parent: parent_entry | null;
}

async function make_ent(dir: inode, dentry: dentry): Promise<ext4_renament> {
  const name = dentry_name(dentry);
  const found = await ext4_find_entry(dir, name);
  return { dir, name, inode: dentry.d_inode, found, parent: null };
}
function release(ent: ext4_renament | null): void {
  brelse(ent?.found?.bh ?? null);
  brelse(ent?.parent?.bh ?? null);
}

/** Does the entry that was found name the inode the VFS knows? */
const names_inode = (ent: ext4_renament): boolean =>
  ent.found !== null &&
  ent.inode !== null &&
  de_inode(ent.found.bh.b_data, ent.found.off) === ent.inode.i_ino;

const different_project = (dir: inode, inode: inode): boolean =>
  ext4_test_inode_flag(dir, EXT4_PROJINHERIT_FL) && EXT4_I(dir).i_projid !== EXT4_I(inode).i_projid;

// --- ".." -------------------------------------------------------------------------------------

async function first_dir_block(dir: inode): Promise<parent_entry> {
  if (ext4_has_inline_data(dir)) {
    const iloc = await ext4_get_inode_loc(dir);
    return { bh: iloc.bh, off: iloc.offset + ext4_inode.offsetof("i_block"), inlined: true };
  }
  const fn = "ext4_get_first_dir_block";
  const bh = (await ext4_read_dirblock(dir, 0, EITHER, fn))!;
  const b = bh.b_data;
  const is = (off: number, dots: number): boolean => {
    if (!ext4_check_dir_entry(dir, fn, bh, b, off, 0, b.length, off)) return false;
    if (de_name_len(b, off) !== dots || b[off + 8] !== 0x2e) return false;
    return dots === 1 ? de_inode(b, off) === dir.i_ino : b[off + 9] === 0x2e;
  };
  let missing = "";
  const off = de_rec_len(dir.i_sb, b, 0);
  if (!is(0, 1)) missing = "directory missing '.'";
  else if (!is(off, 2) || de_inode(b, off) === 0) missing = "directory missing '..'";
  if (missing === "") return { bh, off, inlined: false };
  brelse(bh);
  ext4_error_inode(dir, fn, 0, missing);
  throw EFSCORRUPTED;
}

/** Looks for ".." of the directory that is moved; it must name the parent it has now. */
async function ext4_rename_dir_prepare(handle: handle_t, ent: ext4_renament): Promise<void> {
  ent.parent = await first_dir_block(ent.inode!);
  if (de_inode(ent.parent.bh.b_data, ent.parent.off) !== ent.dir.i_ino) throw EFSCORRUPTED;
  await ext4_journal_get_write_access(handle, ent.dir.i_sb, ent.parent.bh);
}

async function ext4_rename_dir_finish(
  handle: handle_t,
  ent: ext4_renament,
  parent_ino: number,
): Promise<void> {
  const { bh, off, inlined } = ent.parent!;
  const dir = ent.inode!;
  set_de_inode(bh.b_data, off, parent_ino);
  if (inlined) {
    EXT4_I(dir).i_data_view.setUint32(0, parent_ino, true);
    await ext4_mark_inode_dirty(handle, dir, "ext4_rename_dir_finish");
  } else if (is_dx(dir)) await ext4_handle_dirty_dx_node(handle, dir, bh);
  else await ext4_handle_dirty_dirblock(handle, dir, bh);
}

// --- entries ----------------------------------------------------------------------------------

/** Makes the entry name another inode. */
async function ext4_setent(
  handle: handle_t,
  ent: ext4_renament,
  ino: number,
  file_type: number,
): Promise<void> {
  const { bh, off, inlined } = ent.found!;
  const dir = ent.dir;
  await ext4_journal_get_write_access(handle, dir.i_sb, bh);
  set_de_inode(bh.b_data, off, ino);
  if (has_incompat(dir.i_sb, EXT4_FEATURE_INCOMPAT_FILETYPE)) bh.b_data[off + 7] = file_type;
  inode_inc_iversion(dir);
  const now = current_time(dir);
  dir.i_ctime = now;
  dir.i_mtime = now;
  await ext4_mark_inode_dirty(handle, dir, "ext4_setent");
  if (!inlined) await ext4_handle_dirty_dirblock(handle, dir, bh);
}

/** Undoes the whiteout's entry; it may have moved since. */
async function ext4_resetent(
  handle: handle_t,
  ent: ext4_renament,
  ino: number,
  file_type: number,
): Promise<void> {
  try {
    const found = await ext4_find_entry(ent.dir, ent.name);
    if (!found) throw ENOENT;
    try {
      await ext4_setent(handle, { ...ent, found }, ino, file_type);
    } finally {
      brelse(found.bh);
    }
  } catch (e) {
    if (!is_errno(e)) throw e;
    ext4_std_error(ent.dir.i_sb, "ext4_resetent", e);
  }
}

async function find_and_delete(handle: handle_t, ent: ext4_renament): Promise<void> {
  const found = await ext4_find_entry(ent.dir, ent.name);
  if (!found) throw ENOENT;
  try {
    await ext4_delete_entry(handle, ent.dir, found);
  } finally {
    brelse(found.bh);
  }
}

const still_there = (ent: ext4_renament): boolean => {
  if (!names_inode(ent)) return false;
  const { bh, off } = ent.found!;
  if (de_name_len(bh.b_data, off) !== ent.name.length) return false;
  return ent.name.every((c, i) => bh.b_data[off + 8 + i] === c);
};

/** Removes the old name. A failure is only logged: the file has its new name already. */
async function ext4_rename_delete(
  handle: handle_t,
  ent: ext4_renament,
  reread: boolean,
): Promise<void> {
  try {
    if (reread || !still_there(ent)) return await find_and_delete(handle, ent);
    try {
      await ext4_delete_entry(handle, ent.dir, ent.found!);
    } catch (e) {
      if (e !== ENOENT) throw e;
      await find_and_delete(handle, ent);
    }
  } catch (e) {
    if (!is_errno(e)) throw e;
    const text = `Deleting old file: nlink ${ent.dir.i_nlink}, error=-${e.errno}`;
    ext4_warning_inode(ent.dir, "ext4_rename_delete", text);
  }
}

// --- rename -----------------------------------------------------------------------------------

/** The node that RENAME_WHITEOUT leaves in place of the old name: character device 0, 0. */
async function new_whiteout(handle: handle_t, dir: inode): Promise<inode> {
  const wh = await ext4_new_inode(handle, dir, S_IFCHR);
  init_special_inode(wh, wh.i_mode, 0);
  wh.i_op = ext4_special_inode_operations;
  return wh;
}

/** Link counts and ".." after the names were changed. */
async function finish_dirs(handle: handle_t, old: ext4_renament, to: ext4_renament): Promise<void> {
  const replaced = to.inode;
  if (replaced) {
    ext4_dec_count(replaced);
    replaced.i_ctime = current_time(replaced);
  }
  const now = current_time(old.dir);
  old.dir.i_ctime = now;
  old.dir.i_mtime = now;
  ext4_update_dx_flag(old.dir);
  if (old.parent) {
    await ext4_rename_dir_finish(handle, old, to.dir.i_ino);
    ext4_dec_count(old.dir);
    if (replaced) {
      // it was empty, and nothing else can name a directory
      clear_nlink(replaced);
    } else {
      ext4_inc_count(to.dir);
      ext4_update_dx_flag(to.dir);
      await ext4_mark_inode_dirty(handle, to.dir, "ext4_rename");
    }
  }
  await ext4_mark_inode_dirty(handle, old.dir, "ext4_rename");
  if (!replaced) return;
  await ext4_mark_inode_dirty(handle, replaced, "ext4_rename");
  if (replaced.i_nlink === 0) await ext4_orphan_add(handle, replaced);
}

async function change_names(
  handle: handle_t,
  old: ext4_renament,
  to: ext4_renament,
  whiteout: inode | null,
): Promise<void> {
  const inode = old.inode!;
  const file_type = de_file_type(old.found!.bh.b_data, old.found!.off);
  if (S_ISDIR(inode.i_mode)) {
    if (to.inode) {
      if (!(await ext4_empty_dir(to.inode))) throw ENOTEMPTY;
    } else if (to.dir !== old.dir && ext4_dir_link_max(to.dir)) throw EMLINK;
    await ext4_rename_dir_prepare(handle, old);
  }
  const inline = (): boolean => ext4_test_inode_flag(to.dir, EXT4_INLINE_DATA_FL);
  const was_inline = to.dir === old.dir && inline();
  if (whiteout) {
    await ext4_setent(handle, old, whiteout.i_ino, EXT4_FT_CHRDEV);
    await ext4_mark_inode_dirty(handle, whiteout, "ext4_rename");
  }
  if (to.found) await ext4_setent(handle, to, inode.i_ino, file_type);
  else await ext4_add_entry(handle, to.dir, to.name, inode);
  inode.i_ctime = current_time(inode);
  await ext4_mark_inode_dirty(handle, inode, "ext4_rename");
  if (!whiteout) await ext4_rename_delete(handle, old, was_inline && !inline());
  await finish_dirs(handle, old, to);
}

/** The names under one handle, with the whiteout if there is to be one. */
async function rename_with_whiteout(
  handle: handle_t,
  old: ext4_renament,
  to: ext4_renament,
  box: { whiteout: inode | null },
  flags: number,
): Promise<void> {
  if (!(flags & RENAME_WHITEOUT)) return change_names(handle, old, to, null);
  const b = old.found!.bh.b_data;
  const file_type = de_file_type(b, old.found!.off);
  const whiteout = await new_whiteout(handle, old.dir);
  box.whiteout = whiteout;
  try {
    await change_names(handle, old, to, whiteout);
  } catch (e) {
    if (is_errno(e)) {
      await ext4_resetent(handle, old, old.inode!.i_ino, file_type);
      drop_nlink(whiteout);
      await ext4_mark_inode_dirty(handle, whiteout, "ext4_rename");
      await ext4_orphan_add(handle, whiteout);
    }
    throw e;
  } finally {
    unlock_new_inode(whiteout);
  }
}

async function rename_one_way(
  old_dir: inode,
  old_dentry: dentry,
  new_dir: inode,
  new_dentry: dentry,
  flags: number,
): Promise<void> {
  const replaced = new_dentry.d_inode;
  if (replaced && replaced.i_nlink === 0) {
    ext4_error_inode(replaced, "ext4_rename", 0, "target of rename is already freed");
    throw EFSCORRUPTED;
  }
  if (different_project(new_dir, old_dentry.d_inode!)) throw EXDEV;
  const box: { whiteout: inode | null } = { whiteout: null };
  let to: ext4_renament | null = null;
  const old = await make_ent(old_dir, old_dentry);
  try {
    if (!names_inode(old)) throw ENOENT;
    to = await make_ent(new_dir, new_dentry);
    if (to.found && !to.inode) {
      brelse(to.found.bh);
      to.found = null;
    }
    // a file that replaces another gets its blocks now: its data follow soon
    const auto = !test_opt(old_dir.i_sb, EXT4_MOUNT_NO_AUTO_DA_ALLOC);
    if (to.inode && auto) await ext4_alloc_da_blocks(old.inode!);
    const handle = await ext4_journal_start(old_dir, EXT4_HT_DIR, CREDITS);
    try {
      if (IS_DIRSYNC(old_dir) || IS_DIRSYNC(new_dir)) ext4_handle_sync(handle);
      await rename_with_whiteout(handle, old, to, box, flags);
    } finally {
      ext4_journal_stop(handle);
    }
  } finally {
    release(old);
    release(to);
    await iput(box.whiteout);
  }
}

// --- exchange ---------------------------------------------------------------------------------

async function exchange_names(handle: handle_t, a: ext4_renament, b: ext4_renament): Promise<void> {
  const a_dir = S_ISDIR(a.inode!.i_mode);
  const b_dir = S_ISDIR(b.inode!.i_mode);
  if (a_dir) await ext4_rename_dir_prepare(handle, a);
  if (b_dir) await ext4_rename_dir_prepare(handle, b);
  const moves_dir = a.dir !== b.dir && a_dir !== b_dir;
  const [gains, loses] = a_dir ? [b.dir, a.dir] : [a.dir, b.dir];
  if (moves_dir && ext4_dir_link_max(gains)) throw EMLINK;
  const type = (e: ext4_renament): number => de_file_type(e.found!.bh.b_data, e.found!.off);
  const [a_type, b_type] = [type(a), type(b)];
  await ext4_setent(handle, b, a.inode!.i_ino, a_type);
  await ext4_setent(handle, a, b.inode!.i_ino, b_type);
  const now = current_time(a.inode!);
  a.inode!.i_ctime = now;
  b.inode!.i_ctime = now;
  await ext4_mark_inode_dirty(handle, a.inode!, "ext4_cross_rename");
  await ext4_mark_inode_dirty(handle, b.inode!, "ext4_cross_rename");
  if (a.parent) await ext4_rename_dir_finish(handle, a, b.dir.i_ino);
  if (b.parent) await ext4_rename_dir_finish(handle, b, a.dir.i_ino);
  if (!moves_dir) return;
  ext4_dec_count(loses);
  ext4_inc_count(gains);
  await ext4_mark_inode_dirty(handle, loses, "ext4_cross_rename");
  await ext4_mark_inode_dirty(handle, gains, "ext4_cross_rename");
}

async function ext4_cross_rename(
  old_dir: inode,
  old_dentry: dentry,
  new_dir: inode,
  new_dentry: dentry,
): Promise<void> {
  if (different_project(new_dir, old_dentry.d_inode!)) throw EXDEV;
  if (different_project(old_dir, new_dentry.d_inode!)) throw EXDEV;
  let b: ext4_renament | null = null;
  const a = await make_ent(old_dir, old_dentry);
  try {
    if (!names_inode(a)) throw ENOENT;
    b = await make_ent(new_dir, new_dentry);
    if (!names_inode(b)) throw ENOENT;
    const handle = await ext4_journal_start(old_dir, EXT4_HT_DIR, CREDITS);
    try {
      if (IS_DIRSYNC(old_dir) || IS_DIRSYNC(new_dir)) ext4_handle_sync(handle);
      await exchange_names(handle, a, b);
    } finally {
      ext4_journal_stop(handle);
    }
  } finally {
    release(a);
    release(b);
  }
}

/**
 * inode_operations.rename. Throws ENOENT, ENOTEMPTY, EMLINK, EXDEV (project), EINVAL, ENOSPC,
 * EUCLEAN, EIO.
 */
export async function ext4_rename(
  old_dir: inode,
  old_dentry: dentry,
  new_dir: inode,
  new_dentry: dentry,
  flags: number,
): Promise<void> {
  if (ext4_forced_shutdown(EXT4_SB(old_dir.i_sb))) throw EIO;
  if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) throw EINVAL;
  if (flags & RENAME_EXCHANGE) {
    return ext4_cross_rename(old_dir, old_dentry, new_dir, new_dentry);
  }
  return rename_one_way(old_dir, old_dentry, new_dir, new_dentry, flags);
}
