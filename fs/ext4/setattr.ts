/**
 * fs/ext4/setattr.ts - attributes, size and flags of an inode. Linux: ext4_setattr() in
 * fs/ext4/inode.c, ext4_fileattr_set() in fs/ext4/ioctl.c.
 *
 * Lock order of a size change: i_rwsem (held), invalidate_lock (write), handle, i_data_sem. DAX
 * pages in use are waited for before blocks go (ext4_break_layouts).
 */
import { notImplemented } from "../../kernel/assert.ts";
import { capable } from "../../kernel/cred.ts";
import { CAP_SYS_RESOURCE } from "../../kernel/include/cred.ts";
import {
  EBUSY,
  EFBIG,
  EINVAL,
  EIO,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
} from "../../kernel/include/errno.ts";
import {
  ATTR_GID,
  ATTR_MODE,
  ATTR_SIZE,
  ATTR_TIMES_SET,
  ATTR_UID,
  type dentry,
  type fileattr,
  type iattr,
  type inode,
  S_APPEND,
  S_DAX,
  S_IMMUTABLE,
} from "../../kernel/include/fs.ts";
import { S_ISDIR, S_ISREG } from "../../kernel/include/stat.ts";
import {
  current_time,
  i_size_write,
  inode_dio_wait,
  mark_inode_dirty,
} from "../../kernel/vfs/inode.ts";
import { filemap_write_and_wait } from "../../mm/filemap.ts";
import { pagecache_isize_extended, truncate_pagecache } from "../../mm/truncate.ts";
import { setattr_copy, setattr_prepare } from "../attr.ts";
import { ext4_acl_chmod } from "./acl.ts";
import * as M from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MOUNT_DAX_ALWAYS,
  EXT4_MOUNT2_DAX_NEVER,
  EXT4_SB,
  EXT4_STATE_VERITY_IN_PROGRESS,
  ext4_forced_shutdown,
  ext4_test_inode_flag,
  ext4_test_inode_state,
  has_incompat,
  has_ro_compat,
  test_opt,
  test_opt2,
} from "./ext4_fs.ts";
import {
  EXT4_HT_INODE,
  EXT4_HT_QUOTA,
  ext4_handle_sync,
  ext4_with_handle,
  type handle_t,
  IS_SYNC,
} from "./ext4_jbd2.ts";
import { d_mark_dontcache } from "../dcache.ts";
import { ext4_mask_flags } from "./ialloc.ts";
import { ext4_convert_inline_data } from "./inline_write.ts";
import { ext4_has_inline_data, ext4_set_inode_flags } from "./inode.ts";
import {
  ext4_mark_iloc_dirty,
  ext4_mark_inode_dirty,
  ext4_reserve_inode_write,
} from "./inode_write.ts";
import { ext4_orphan_add, ext4_orphan_del } from "./orphan.ts";
import { ext4_break_layouts, ext4_truncate } from "./truncate.ts";

/**
 * The new size, on its way to the media together with i_disksize; an error leaves both as they
 * were.
 */
async function change_size(handle: handle_t, inode: inode, size: number): Promise<void> {
  const ei = EXT4_I(inode);
  const shrink = size < inode.i_size;
  if (shrink) await ext4_orphan_add(handle, inode);
  else inode.i_mtime = inode.i_ctime = current_time(inode);
  const p = ei.i_data_sem.down_write();
  if (p) await p;
  const old = ei.i_disksize;
  try {
    ei.i_disksize = size;
    await ext4_mark_inode_dirty(handle, inode, "ext4_setattr");
    i_size_write(inode, size);
  } catch (e) {
    ei.i_disksize = old;
    throw e;
  } finally {
    ei.i_data_sem.up_write();
  }
}

async function setattr_size(inode: inode, size: number): Promise<void> {
  const limit = EXT4_SB(inode.i_sb).s_bitmap_maxbytes;
  if (!ext4_test_inode_flag(inode, M.EXT4_EXTENTS_FL) && size > limit) throw EFBIG;
  if (!S_ISREG(inode.i_mode)) throw EINVAL;
  // inline data is never shorter than the file
  if (ext4_has_inline_data(inode) && size > EXT4_I(inode).i_inline_size) {
    await ext4_convert_inline_data(inode);
  }
  const dio = inode_dio_wait(inode);
  if (dio) await dio;
  const lock = inode.i_mapping.invalidate_lock;
  const p = lock.down_write();
  if (p) await p;
  try {
    await ext4_break_layouts(inode);
    const old = inode.i_size;
    if (size !== old) {
      await ext4_with_handle(inode.i_sb, EXT4_HT_INODE, 3, (h) => change_size(h, inode, size));
      if (size > old) await pagecache_isize_extended(inode, old, size);
    }
    await truncate_pagecache(inode, inode.i_size);
    // blocks behind the end (preallocated ones) go even when the size stays
    if (size <= old) await ext4_truncate(inode);
  } finally {
    lock.up_write();
  }
}

/** inode_operations.setattr. i_rwsem is held for writing. */
export async function ext4_setattr(dentry: dentry, attr: iattr): Promise<void> {
  const inode = dentry.d_inode!;
  const valid = attr.ia_valid;
  if (ext4_forced_shutdown(EXT4_SB(inode.i_sb))) throw EIO;
  if (inode.i_flags & S_IMMUTABLE) throw EPERM;
  const guarded = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_TIMES_SET;
  if (inode.i_flags & S_APPEND && valid & guarded) throw EPERM;
  setattr_prepare(dentry, attr);
  const { i_uid, i_gid } = inode;
  const owner =
    (valid & ATTR_UID && attr.ia_uid !== i_uid) || (valid & ATTR_GID && attr.ia_gid !== i_gid);
  if (owner) {
    await ext4_with_handle(inode.i_sb, EXT4_HT_QUOTA, 3, async (handle) => {
      if (valid & ATTR_UID) inode.i_uid = attr.ia_uid;
      if (valid & ATTR_GID) inode.i_gid = attr.ia_gid;
      await ext4_mark_inode_dirty(handle, inode, "ext4_setattr");
    });
  }
  try {
    if (valid & ATTR_SIZE) await setattr_size(inode, attr.ia_size);
    setattr_copy(inode, attr);
    await mark_inode_dirty(inode);
    if (valid & ATTR_MODE) await ext4_acl_chmod(inode);
  } finally {
    if (inode.i_nlink > 0) await ext4_orphan_del(null, inode);
  }
}

// --- flags --------------------------------------------------------------------------------------

const DAX_EXCLUDES =
  M.EXT4_VERITY_FL | M.EXT4_ENCRYPT_FL | M.EXT4_JOURNAL_DATA_FL | M.EXT4_INLINE_DATA_FL;

function dax_compatible(inode: inode, old: number, flags: number): boolean {
  const dir = S_ISDIR(inode.i_mode);
  const before = dir ? old & ~M.EXT4_INLINE_DATA_FL : old;
  const after = dir ? flags & ~M.EXT4_INLINE_DATA_FL : flags;
  if (after & M.EXT4_DAX_FL) {
    if (before & DAX_EXCLUDES) return false;
    if (ext4_test_inode_state(inode, EXT4_STATE_VERITY_IN_PROGRESS)) return false;
  }
  return !(after & DAX_EXCLUDES && before & M.EXT4_DAX_FL);
}

/** With dax=inode a changed flag counts from the next time the inode is read in: soon, then. */
function dax_dontcache(inode: inode, flags: number): void {
  const sb = inode.i_sb;
  if (S_ISDIR(inode.i_mode)) return;
  if (test_opt2(sb, EXT4_MOUNT2_DAX_NEVER) || test_opt(sb, EXT4_MOUNT_DAX_ALWAYS)) return;
  if ((EXT4_I(inode).i_flags ^ flags) & M.EXT4_DAX_FL) d_mark_dontcache(inode);
}

const LATER = M.EXT4_JOURNAL_DATA_FL | M.EXT4_EXTENTS_FL;

async function set_flags(inode: inode, flags: number): Promise<void> {
  const ei = EXT4_I(inode);
  const old = ei.i_flags;
  const changed = flags ^ old;
  if (changed & M.EXT4_JOURNAL_DATA_FL && !capable(inode.kernel, CAP_SYS_RESOURCE)) throw EPERM;
  if (!dax_compatible(inode, old, flags)) throw EOPNOTSUPP;
  if (changed & M.EXT4_CASEFOLD_FL) {
    if (!has_incompat(inode.i_sb, M.EXT4_FEATURE_INCOMPAT_CASEFOLD)) throw EOPNOTSUPP;
    if (!S_ISDIR(inode.i_mode)) throw ENOTDIR;
    notImplemented("ext4: casefolded directories");
  }
  const freeze = S_ISREG(inode.i_mode) && !(inode.i_flags & S_IMMUTABLE);
  if (freeze && flags & M.EXT4_IMMUTABLE_FL) {
    const p = inode_dio_wait(inode);
    if (p) await p;
    await filemap_write_and_wait(inode.i_mapping);
  }
  await ext4_with_handle(inode.i_sb, EXT4_HT_INODE, 1, async (handle) => {
    if (IS_SYNC(inode)) ext4_handle_sync(handle);
    const iloc = await ext4_reserve_inode_write(handle, inode);
    dax_dontcache(inode, flags);
    const settable = M.EXT4_FL_USER_MODIFIABLE & ~LATER;
    ei.i_flags = ((ei.i_flags & ~settable) | (flags & settable)) >>> 0;
    ext4_set_inode_flags(inode, false);
    inode.i_ctime = current_time(inode);
    await ext4_mark_iloc_dirty(handle, inode, iloc);
  });
  if (changed & M.EXT4_JOURNAL_DATA_FL) {
    if (inode.i_flags & S_DAX) throw EBUSY;
    change_journal_flag(inode);
  }
  if (changed & M.EXT4_EXTENTS_FL) notImplemented("ext4: migrating between extents and blocks");
}

function change_journal_flag(inode: inode): void {
  // without a journal behind it the flag cannot be had
  if (EXT4_SB(inode.i_sb).s_journal === null) throw EPERM;
  notImplemented("ext4: data journalling of one file");
}

async function set_project(inode: inode, projid: number): Promise<void> {
  const sb = inode.i_sb;
  if (!has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_PROJECT)) {
    if (projid !== 0) throw EOPNOTSUPP;
    return;
  }
  if (EXT4_SB(sb).s_inode_size <= M.EXT4_GOOD_OLD_INODE_SIZE) throw EOPNOTSUPP;
  if (EXT4_I(inode).i_projid === projid) return;
  await ext4_with_handle(inode.i_sb, EXT4_HT_QUOTA, 3, async (handle) => {
    EXT4_I(inode).i_projid = projid;
    inode.i_ctime = current_time(inode);
    await ext4_mark_inode_dirty(handle, inode);
  });
}

/** An immutable file stays as it is: only taking the flag away is allowed. */
function check_immutable(inode: inode, projid: number, flags: number): void {
  const ei = EXT4_I(inode);
  if (!(ei.i_flags & M.EXT4_IMMUTABLE_FL) || !(flags & M.EXT4_IMMUTABLE_FL)) return;
  const settable = M.EXT4_FL_USER_MODIFIABLE;
  if (
    (ei.i_flags & ~M.EXT4_IMMUTABLE_FL & settable) !==
    (flags & ~M.EXT4_IMMUTABLE_FL & settable)
  ) {
    throw EPERM;
  }
  const project = has_ro_compat(inode.i_sb, M.EXT4_FEATURE_RO_COMPAT_PROJECT);
  if (project && ei.i_projid !== projid) throw EPERM;
}

/** inode_operations.fileattr_set. i_rwsem is held for writing. */
export async function ext4_fileattr_set(dentry: dentry, fa: fileattr): Promise<void> {
  const inode = dentry.d_inode!;
  if (fa.flags & ~M.EXT4_FL_USER_VISIBLE) throw EOPNOTSUPP;
  const flags = (fa.flags & M.EXT4_FL_USER_MODIFIABLE) >>> 0;
  if (ext4_mask_flags(inode.i_mode, flags) !== flags) throw EOPNOTSUPP;
  check_immutable(inode, fa.fsx_projid, flags);
  await set_flags(inode, flags);
  await set_project(inode, fa.fsx_projid);
}
