/**
 * fs/ext4/namei_write.ts - making and removing names. Linux: fs/ext4/namei.c. Renaming: rename.ts.
 * Putting a name into a directory: dir_add.ts.
 *
 * Every operation is one handle; a failed one leaves an inode without links, which the last iput
 * (after the handle is closed) deletes. Locks: i_rwsem of the directory, and of the inode for
 * unlink, rmdir, link.
 */
import {
  EFSCORRUPTED,
  EIO,
  EMLINK,
  ENAMETOOLONG,
  ENOENT,
  ENOSPC,
  ENOTEMPTY,
  EXDEV,
  is_errno,
} from "../../kernel/include/errno.ts";
import type { dentry, inode } from "../../kernel/include/fs.ts";
import { S_IFDIR, S_IFLNK, S_ISDIR } from "../../kernel/include/stat.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";
import {
  clear_nlink,
  current_time,
  drop_nlink,
  ihold,
  inc_nlink,
  init_special_inode,
  inode_inc_iversion,
  iput,
  mark_inode_dirty,
  set_nlink,
  unlock_new_inode,
} from "../../kernel/vfs/inode.ts";
import { brelse } from "../buffer.ts";
import { d_instantiate, d_instantiate_new, d_tmpfile } from "../dcache.ts";
import { ext4_set_aops } from "./aops.ts";
import { ext4_dir_inode_operations, ext4_dir_operations } from "./dir.ts";
import {
  ext4_add_entry,
  ext4_delete_entry,
  ext4_empty_dir,
  ext4_update_dx_flag,
} from "./dir_add.ts";
import { de_inode, is_dx } from "./dirent.ts";
import {
  ext4_append,
  ext4_bread_create,
  ext4_handle_dirty_dirblock,
  ext4_init_dot_dotdot,
  ext4_initialize_dirent_tail,
} from "./dirent_write.ts";
import {
  EXT4_EXTENTS_FL,
  EXT4_FEATURE_RO_COMPAT_DIR_NLINK,
  EXT4_LINK_MAX,
  EXT4_PROJINHERIT_FL,
} from "./ext4.ts";
import {
  BH_dir_verified,
  EXT4_I,
  EXT4_SB,
  EXT4_STATE_MAY_INLINE_DATA,
  ext4_clear_inode_flag,
  ext4_forced_shutdown,
  ext4_test_inode_flag,
  ext4_test_inode_state,
  ext4_warning_inode,
  has_ro_compat,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_DIR,
  EXT4_INDEX_EXTRA_TRANS_BLOCKS,
  ext4_handle_dirty_metadata,
  ext4_handle_sync,
  ext4_journal_get_write_access,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
  IS_DIRSYNC,
} from "./ext4_jbd2.ts";
import {
  ext4_file_inode_operations,
  ext4_file_operations,
  ext4_special_inode_operations,
} from "./file.ts";
import { ext4_new_inode } from "./ialloc.ts";
import { ext4_try_create_inline_dir } from "./inline_dir.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_find_entry, type ext4_found } from "./namei.ts";
import { ext4_orphan_add, ext4_orphan_del } from "./orphan.ts";
import { ext4_should_retry_alloc } from "./retry_alloc.ts";
import { ext4_fast_symlink_inode_operations, ext4_symlink_inode_operations } from "./symlink.ts";

const CREDITS = EXT4_DATA_TRANS_BLOCKS + EXT4_INDEX_EXTRA_TRANS_BLOCKS + 3;
const MAX_NAME = 255;

/** The name's bytes. */
export function dentry_name(d: dentry): Uint8Array {
  const name = name_to_bytes(d.d_name);
  if (name.length > MAX_NAME) throw ENAMETOOLONG;
  return name;
}

// --- link counts of directories ---------------------------------------------------------------

/** Is the directory full of subdirectories? With dir_nlink an indexed one counts no further. */
export function ext4_dir_link_max(dir: inode): boolean {
  if (dir.i_nlink < EXT4_LINK_MAX) return false;
  return !(has_ro_compat(dir.i_sb, EXT4_FEATURE_RO_COMPAT_DIR_NLINK) && is_dx(dir));
}
/** One name more. A directory that has too many for 16 bits says 1 from then on. */
export function ext4_inc_count(inode: inode): void {
  inc_nlink(inode);
  if (!is_dx(inode)) return;
  if (inode.i_nlink > EXT4_LINK_MAX || inode.i_nlink === 2) set_nlink(inode, 1);
}
export function ext4_dec_count(inode: inode): void {
  if (!S_ISDIR(inode.i_mode) || inode.i_nlink > 2) drop_nlink(inode);
}

// --- making -----------------------------------------------------------------------------------

/** Runs `attempt` under a handle; once more while ENOSPC may pass. */
export async function with_dir_handle(
  dir: inode,
  credits: number,
  attempt: (handle: handle_t) => Promise<void>,
): Promise<void> {
  if (ext4_forced_shutdown(EXT4_SB(dir.i_sb))) throw EIO;
  for (let retries = 0; ; retries++) {
    const handle = await ext4_journal_start(dir, EXT4_HT_DIR, credits);
    try {
      if (IS_DIRSYNC(dir)) ext4_handle_sync(handle);
      await attempt(handle);
      return;
    } catch (e) {
      if (e !== ENOSPC) throw e;
      if (!(await ext4_should_retry_alloc(dir.i_sb, retries))) throw e;
    } finally {
      ext4_journal_stop(handle);
    }
  }
}

/**
 * A new inode, `fill`ed and named `dentry`. When anything fails the inode loses its link and goes
 * with the last reference, outside the handle.
 */
async function make_named(
  dir: inode,
  dentry: dentry,
  mode: number,
  fill: (handle: handle_t, inode: inode) => Promise<void> | void,
): Promise<void> {
  const name = dentry_name(dentry);
  const box: { failed: inode | null } = { failed: null };
  const drop = async () => {
    const inode = box.failed;
    box.failed = null;
    await iput(inode);
  };
  try {
    await with_dir_handle(dir, CREDITS, async (handle) => {
      await drop();
      const inode = await ext4_new_inode(handle, dir, mode);
      try {
        await fill(handle, inode);
        await ext4_add_entry(handle, dir, name, inode);
        await ext4_mark_inode_dirty(handle, inode);
        if (S_ISDIR(mode)) {
          ext4_inc_count(dir);
          ext4_update_dx_flag(dir);
          await ext4_mark_inode_dirty(handle, dir);
        }
      } catch (e) {
        clear_nlink(inode);
        if (is_errno(e)) await abandon(handle, inode);
        unlock_new_inode(inode);
        box.failed = inode;
        throw e;
      }
      d_instantiate_new(dentry, inode);
    });
  } finally {
    await drop();
  }
}

async function abandon(handle: handle_t, inode: inode): Promise<void> {
  try {
    await ext4_mark_inode_dirty(handle, inode);
    await ext4_orphan_add(handle, inode);
  } catch (e) {
    // the first error is the one to report
    if (!is_errno(e)) throw e;
  }
}

function set_file_ops(inode: inode): void {
  inode.i_op = ext4_file_inode_operations;
  inode.i_fop = ext4_file_operations;
  ext4_set_aops(inode);
}

export function ext4_create(
  dir: inode,
  dentry: dentry,
  mode: number,
  _excl: boolean,
): Promise<void> {
  return make_named(dir, dentry, mode, (_handle, inode) => set_file_ops(inode));
}

export function ext4_mknod(dir: inode, dentry: dentry, mode: number, rdev: number): Promise<void> {
  return make_named(dir, dentry, mode, (_handle, inode) => {
    init_special_inode(inode, inode.i_mode, rdev);
    inode.i_op = ext4_special_inode_operations;
  });
}

/** An empty directory in `inode`: in the inode itself when it may be, else one block. */
export async function ext4_init_new_dir(handle: handle_t, dir: inode, inode: inode): Promise<void> {
  if (ext4_test_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA)) {
    if (await ext4_try_create_inline_dir(handle, dir, inode)) return;
  }
  inode.i_size = 0;
  const { bh } = await ext4_append(handle, inode);
  try {
    ext4_init_dot_dotdot(inode, bh.b_data, dir.i_ino, false);
    set_nlink(inode, 2);
    ext4_initialize_dirent_tail(inode, bh);
    await ext4_handle_dirty_dirblock(handle, inode, bh);
    bh.b_state |= BH_dir_verified;
  } finally {
    brelse(bh);
  }
}

export async function ext4_mkdir(dir: inode, dentry: dentry, mode: number): Promise<void> {
  if (ext4_dir_link_max(dir)) throw EMLINK;
  await make_named(dir, dentry, S_IFDIR | mode, async (handle, inode) => {
    inode.i_op = ext4_dir_inode_operations;
    inode.i_fop = ext4_dir_operations;
    await ext4_init_new_dir(handle, dir, inode);
    await ext4_mark_inode_dirty(handle, inode);
  });
}

/** Targets up to this many bytes are in i_block itself. */
const FAST_SYMLINK_MAX = 59;

async function write_symlink_block(
  handle: handle_t,
  inode: inode,
  target: Uint8Array,
): Promise<void> {
  const bh = await ext4_bread_create(handle, inode, 0);
  try {
    await ext4_journal_get_write_access(handle, inode.i_sb, bh);
    bh.b_data.set(target);
    bh.b_data[target.length] = 0;
    inode.i_size = target.length;
    EXT4_I(inode).i_disksize = target.length;
    await ext4_handle_dirty_metadata(handle, inode, bh);
  } finally {
    brelse(bh);
  }
}

export async function ext4_symlink(dir: inode, dentry: dentry, target: string): Promise<void> {
  const text = name_to_bytes(target);
  if (text.length + 1 > dir.i_sb.s_blocksize) throw ENAMETOOLONG;
  await make_named(dir, dentry, S_IFLNK | 0o777, async (handle, inode) => {
    if (text.length > FAST_SYMLINK_MAX) {
      inode.i_op = ext4_symlink_inode_operations;
      await write_symlink_block(handle, inode, text);
      return;
    }
    const ei = EXT4_I(inode);
    inode.i_op = ext4_fast_symlink_inode_operations;
    inode.i_link = target;
    ext4_clear_inode_flag(inode, EXT4_EXTENTS_FL);
    ei.i_data.fill(0);
    ei.i_data.set(text);
    inode.i_size = text.length;
    ei.i_disksize = text.length;
  });
}

/** O_TMPFILE: an inode without a name, an orphan until it is linked. */
export async function ext4_tmpfile(dir: inode, dentry: dentry, mode: number): Promise<void> {
  await with_dir_handle(dir, CREDITS, async (handle) => {
    const inode = await ext4_new_inode(handle, dir, mode);
    set_file_ops(inode);
    d_tmpfile(dentry, inode);
    try {
      await ext4_orphan_add(handle, inode);
      await mark_inode_dirty(inode);
    } finally {
      unlock_new_inode(inode);
    }
  });
}

export async function ext4_link(old: dentry, dir: inode, dentry: dentry): Promise<void> {
  const inode = old.d_inode!;
  if (inode.i_nlink >= EXT4_LINK_MAX) throw EMLINK;
  const inherits = ext4_test_inode_flag(dir, EXT4_PROJINHERIT_FL);
  if (inherits && EXT4_I(dir).i_projid !== EXT4_I(inode).i_projid) throw EXDEV;
  const name = dentry_name(dentry);
  await with_dir_handle(dir, CREDITS, async (handle) => {
    inode.i_ctime = current_time(inode);
    ext4_inc_count(inode);
    ihold(inode);
    try {
      await ext4_add_entry(handle, dir, name, inode);
    } catch (e) {
      drop_nlink(inode);
      await iput(inode);
      throw e;
    }
    await ext4_mark_inode_dirty(handle, inode);
    // a file of O_TMPFILE has its first name now
    if (inode.i_nlink === 1) await ext4_orphan_del(handle, inode);
    d_instantiate(dentry, inode);
  });
}

// --- removing ---------------------------------------------------------------------------------

/** Runs `fn` with the entry of `dentry`, which must name its inode. */
async function with_entry(
  dir: inode,
  dentry: dentry,
  wrong: typeof ENOENT,
  fn: (found: ext4_found) => Promise<void>,
): Promise<void> {
  if (ext4_forced_shutdown(EXT4_SB(dir.i_sb))) throw EIO;
  const found = await ext4_find_entry(dir, dentry_name(dentry));
  if (!found) throw ENOENT;
  try {
    if (de_inode(found.bh.b_data, found.off) !== dentry.d_inode!.i_ino) throw wrong;
    await fn(found);
  } finally {
    brelse(found.bh);
  }
}

function touch(dir: inode): void {
  const now = current_time(dir);
  dir.i_mtime = now;
  dir.i_ctime = now;
}

export async function ext4_unlink(dir: inode, dentry: dentry): Promise<void> {
  const inode = dentry.d_inode!;
  await with_entry(dir, dentry, ENOENT, (found) =>
    with_dir_handle(dir, EXT4_DATA_TRANS_BLOCKS, async (handle) => {
      await ext4_delete_entry(handle, dir, found);
      touch(dir);
      ext4_update_dx_flag(dir);
      await ext4_mark_inode_dirty(handle, dir);
      if (inode.i_nlink === 0) {
        const text = `Deleting file '${dentry.d_name}' with no links`;
        ext4_warning_inode(inode, "ext4_unlink", text);
      } else drop_nlink(inode);
      if (inode.i_nlink === 0) await ext4_orphan_add(handle, inode);
      inode.i_ctime = current_time(inode);
      await ext4_mark_inode_dirty(handle, inode);
    }),
  );
}

export async function ext4_rmdir(dir: inode, dentry: dentry): Promise<void> {
  const inode = dentry.d_inode!;
  await with_entry(dir, dentry, EFSCORRUPTED, async (found) => {
    if (!(await ext4_empty_dir(inode))) throw ENOTEMPTY;
    await with_dir_handle(dir, EXT4_DATA_TRANS_BLOCKS, async (handle) => {
      await ext4_delete_entry(handle, dir, found);
      if (inode.i_nlink > 2) {
        const what = `empty directory '${dentry.d_name}' has too many links (${inode.i_nlink})`;
        ext4_warning_inode(inode, "ext4_rmdir", what);
      }
      inode_inc_iversion(inode);
      clear_nlink(inode);
      // no link left: what the size on the media says does not matter
      inode.i_size = 0;
      await ext4_orphan_add(handle, inode);
      touch(dir);
      inode.i_ctime = dir.i_ctime;
      await ext4_mark_inode_dirty(handle, inode);
      ext4_dec_count(dir);
      ext4_update_dx_flag(dir);
      await ext4_mark_inode_dirty(handle, dir);
    });
  });
}
