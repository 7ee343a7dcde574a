/**
 * fs/ext4/super.ts - mounting: ext4_fill_super(), the super_operations and the file_system_types.
 * Linux: fs/ext4/super.c. Differs: no external journal, no multi-mount protection, no lazy inode
 * table initialisation; the journal is only looked at (see check_journal).
 *
 * Journal policy until jbd2 is there: a clean journal is left as it is, empty, and the filesystem
 * is written as one without a journal, which the log says; one that needs recovery is refused,
 * read-only too, unless noload says to look at the blocks as they are.
 *
 * Reading order: ext4_fill_super() from top to bottom; the checks are in super_check.ts.
 * Locks: s_umount is held for writing by the VFS during mount, remount and umount.
 */
import { EINVAL, EIO, EROFS, is_errno } from "../../kernel/include/errno.ts";
import {
  FS_REQUIRES_DEV,
  type file_system_type,
  type inode,
  type kstatfs,
  SB_POSIXACL,
  SB_RDONLY,
  type super_block,
  type super_operations,
} from "../../kernel/include/fs.ts";
import type { dentry } from "../../kernel/include/fs.ts";
import { S_ISDIR } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { iput } from "../../kernel/vfs/inode.ts";
import { fs_dax_get_by_bdev, fs_put_dax } from "../../drivers/dax/super.ts";
import { brelse } from "../buffer.ts";
import { d_make_root, dput } from "../dcache.ts";
import { kill_block_super, mount_bdev, register_filesystem } from "../super.ts";
import { ext4_setup_system_zone } from "./block_validity.ts";
import { ext4_has_metadata_csum } from "./csum.ts";
import * as M from "./ext4.ts";
import {
  data_mode,
  EXT4_C2B,
  EXT4_FLAGS_BDEV_IS_DAX,
  EXT4_IGET_SPECIAL,
  EXT4_MF_FS_ABORTED,
  EXT4_MOUNT2_EXPLICIT_DELALLOC,
  EXT4_MOUNT2_JOURNAL_FAST_COMMIT,
  EXT4_MOUNT_BARRIER,
  EXT4_MOUNT_BLOCK_VALIDITY,
  EXT4_MOUNT_DAX_ALWAYS,
  EXT4_MOUNT_DEBUG,
  EXT4_MOUNT_DELALLOC,
  EXT4_MOUNT_DIOREAD_NOLOCK,
  EXT4_MOUNT_DISCARD,
  EXT4_MOUNT_ERRORS_CONT,
  EXT4_MOUNT_ERRORS_PANIC,
  EXT4_MOUNT_ERRORS_RO,
  EXT4_MOUNT_GRPID,
  EXT4_MOUNT_INIT_INODE_TABLE,
  EXT4_MOUNT_JOURNAL_CHECKSUM,
  EXT4_MOUNT_JOURNAL_DATA,
  EXT4_MOUNT_MINIX_DF,
  EXT4_MOUNT_NO_MBCACHE,
  EXT4_MOUNT_NO_UID32,
  EXT4_MOUNT_NOLOAD,
  EXT4_MOUNT_ORDERED_DATA,
  EXT4_MOUNT_POSIX_ACL,
  EXT4_MOUNT_WRITEBACK_DATA,
  EXT4_MOUNT_XATTR_USER,
  EXT4_SB,
  ext4_blocks_count,
  ext4_msg,
  ext4_r_blocks_count,
  has_compat,
  has_incompat,
  has_ro_compat,
  KERN_ERR,
  KERN_INFO,
  KERN_WARNING,
  sb_rdonly,
  test_opt,
  test_opt2,
} from "./ext4_fs.ts";
import { ext4_count_dirs, ext4_count_free_clusters, ext4_count_free_inodes } from "./groups.ts";
import { ext4_iget } from "./iget.ts";
import { ext4_alloc_inode } from "./inode.ts";
import {
  ext4_apply_options,
  ext4_check_opt_consistency,
  type ext4_fs_context,
  ext4_parse_options,
  ext4_set_optimize_scan,
  ext4_show_options,
} from "./options.ts";
import { ext4_calculate_overhead } from "./overhead.ts";
import {
  bad,
  ext4_check_feature_compatibility,
  ext4_feature_set_ok,
  ext4_geometry_check,
  ext4_group_desc_init,
  ext4_group_sizes,
  ext4_handle_clustersize,
  ext4_init_metadata_csum,
  ext4_inode_info_init,
  ext4_load_super,
  ext4_verify_group_desc,
} from "./super_check.ts";
import { new_sb_info } from "./sb_info.ts";
import { load_journal } from "./super_journal.ts";
import * as W from "./write_side.ts";
import { ext4_xattr_handlers } from "./xattr.ts";

/** Options that the superblock and its features choose before the user's are applied. */
function set_def_opts(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const def = es.s_default_mount_opts;
  let opt =
    EXT4_MOUNT_INIT_INODE_TABLE |
    EXT4_MOUNT_XATTR_USER |
    EXT4_MOUNT_POSIX_ACL |
    EXT4_MOUNT_BLOCK_VALIDITY;
  if (def & M.EXT4_DEFM_DEBUG) opt |= EXT4_MOUNT_DEBUG;
  if (def & M.EXT4_DEFM_BSDGROUPS) opt |= EXT4_MOUNT_GRPID;
  if (def & M.EXT4_DEFM_UID16) opt |= EXT4_MOUNT_NO_UID32;
  if (has_compat(sb, M.EXT4_FEATURE_COMPAT_FAST_COMMIT)) {
    sbi.s_mount_opt2 |= EXT4_MOUNT2_JOURNAL_FAST_COMMIT;
  }
  if (ext4_has_metadata_csum(es)) opt |= EXT4_MOUNT_JOURNAL_CHECKSUM;
  const mode = def & M.EXT4_DEFM_JMODE;
  if (mode === M.EXT4_DEFM_JMODE_DATA) opt |= EXT4_MOUNT_JOURNAL_DATA;
  if (mode === M.EXT4_DEFM_JMODE_ORDERED) opt |= EXT4_MOUNT_ORDERED_DATA;
  if (mode === M.EXT4_DEFM_JMODE_WBACK) opt |= EXT4_MOUNT_WRITEBACK_DATA;
  if (es.s_errors === M.EXT4_ERRORS_PANIC) opt |= EXT4_MOUNT_ERRORS_PANIC;
  else if (es.s_errors === M.EXT4_ERRORS_CONTINUE) opt |= EXT4_MOUNT_ERRORS_CONT;
  else opt |= EXT4_MOUNT_ERRORS_RO;
  if (def & M.EXT4_DEFM_DISCARD) opt |= EXT4_MOUNT_DISCARD;
  if (!(def & M.EXT4_DEFM_NOBARRIER)) opt |= EXT4_MOUNT_BARRIER;
  if (sb.s_type.name === "ext4" && !(def & M.EXT4_DEFM_NODELALLOC)) opt |= EXT4_MOUNT_DELALLOC;
  if (sb.s_blocksize === sb.kernel.PAGE_SIZE) opt |= EXT4_MOUNT_DIOREAD_NOLOCK;
  sbi.s_mount_opt = opt;
  sbi.s_resuid = es.s_def_resuid;
  sbi.s_resgid = es.s_def_resgid;
}

const cstring = (b: Uint8Array): string => {
  let s = "";
  for (const c of b) {
    if (c === 0) break;
    s += String.fromCharCode(c);
  }
  return s;
};

/** The options that tune2fs stored in the superblock, then the user's. */
function apply_options(sb: super_block, c: ext4_fs_context): void {
  const sbi = EXT4_SB(sb);
  const stored = cstring(sbi.s_es.s_mount_opts);
  if (stored !== "") {
    try {
      ext4_apply_options(ext4_parse_options(sb.kernel, stored), sb);
    } catch (e) {
      if (!is_errno(e)) throw e;
      ext4_msg(sb, KERN_WARNING, `failed to parse options in superblock: ${stored}`);
    }
  }
  sbi.s_def_mount_opt = sbi.s_mount_opt;
  sbi.s_def_mount_opt2 = sbi.s_mount_opt2;
  ext4_check_opt_consistency(sb.kernel, c, sb, false);
  ext4_apply_options(c, sb);
}

function journal_data_mode_check(sb: super_block): void {
  if (data_mode(sb) !== EXT4_MOUNT_JOURNAL_DATA) return;
  const sbi = EXT4_SB(sb);
  sb.kernel.printk(
    KERN_WARNING,
    "EXT4-fs: Warning: mounting with data=journal disables delayed allocation, " +
      "dioread_nolock, O_DIRECT and fast_commit support!",
  );
  sbi.s_mount_opt &= ~EXT4_MOUNT_DIOREAD_NOLOCK;
  sbi.s_mount_opt2 &= ~EXT4_MOUNT2_JOURNAL_FAST_COMMIT;
  if (test_opt2(sb, EXT4_MOUNT2_EXPLICIT_DELALLOC)) {
    bad(sb, "can't mount with both data=journal and delalloc");
  }
  if (test_opt(sb, EXT4_MOUNT_DAX_ALWAYS)) {
    bad(sb, "can't mount with both data=journal and dax");
  }
  sbi.s_mount_opt &= ~EXT4_MOUNT_DELALLOC;
}

/** Whether files may be used with DAX, and whether dax=always can be honoured. */
function check_dax(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  if (sbi.s_daxdev) {
    if (sb.s_blocksize === sb.kernel.PAGE_SIZE) sbi.s_ext4_flags |= EXT4_FLAGS_BDEV_IS_DAX;
    // the message ends in a newline of its own, which the log shows escaped
    else ext4_msg(sb, KERN_ERR, "unsupported blocksize for DAX\\x0a");
  }
  if (!test_opt(sb, EXT4_MOUNT_DAX_ALWAYS)) return;
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_INLINE_DATA)) {
    bad(sb, "Cannot use DAX on a filesystem that may contain inline data");
  }
  if (!(sbi.s_ext4_flags & EXT4_FLAGS_BDEV_IS_DAX)) bad(sb, "DAX unsupported by block device.");
}

/** Largest file with extents, in bytes. */
function ext4_max_size(bits: number, huge: boolean): number {
  const res = (2 ** 32 - 1) * 2 ** bits;
  if (huge) return res;
  return Math.min(res, Math.floor((2 ** 32 - 1) / 2 ** (bits - 9)) * 2 ** bits);
}

/** Largest block-mapped file, in bytes: what the tree reaches and i_blocks can count. */
export function ext4_max_bitmap_size(bits: number, huge: boolean): number {
  const ppb = 2 ** (bits - 2);
  let limit = huge ? 2 ** 48 - 1 : Math.floor((2 ** 32 - 1) / 2 ** (bits - 9));
  let res = M.EXT4_NDIR_BLOCKS + ppb + ppb ** 2 + ppb ** 3;
  let meta = 1 + (1 + ppb) + (1 + ppb + ppb ** 2);
  if (res + meta > limit) {
    res = limit;
    limit -= M.EXT4_NDIR_BLOCKS + ppb;
    meta = 1;
    if (limit < ppb ** 2) {
      meta += 1 + Math.ceil(limit / ppb);
    } else {
      limit -= ppb ** 2;
      meta += 1 + ppb + 1 + Math.ceil(limit / ppb) + Math.ceil(limit / ppb ** 2);
    }
    res -= meta;
  }
  return Math.min(res * 2 ** bits, Number.MAX_SAFE_INTEGER);
}

async function mount_root(sb: super_block): Promise<void> {
  let root: inode;
  try {
    root = await ext4_iget(sb, M.EXT4_ROOT_INO, EXT4_IGET_SPECIAL);
  } catch (e) {
    if (is_errno(e)) ext4_msg(sb, KERN_ERR, "get root inode failed");
    throw e;
  }
  if (!S_ISDIR(root.i_mode) || !root.i_blocks || !root.i_size) {
    await iput(root);
    bad(sb, "corrupt root inode, run e2fsck");
  }
  sb.s_root = d_make_root(root);
}

function set_resv_clusters(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  if (!has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_EXTENTS)) return;
  const clusters = Math.floor(ext4_blocks_count(sbi.s_es) / sbi.s_cluster_ratio);
  sbi.s_resv_clusters = Math.min(Math.floor(clusters / 50), 4096);
}

/** Everything up to the root inode: nothing of this needs undoing but buffers. */
async function read_and_check(sb: super_block, c: ext4_fs_context, silent: boolean): Promise<void> {
  const sbi = EXT4_SB(sb);
  sbi.s_sb_block = c.numbers.get("sb") ?? 1;
  const sb_block = await ext4_load_super(sb, silent);
  ext4_init_metadata_csum(sb);
  set_def_opts(sb);
  ext4_inode_info_init(sb);
  apply_options(sb, c);
  journal_data_mode_check(sb);
  sb.s_flags = (sb.s_flags & ~SB_POSIXACL) | (test_opt(sb, EXT4_MOUNT_POSIX_ACL) ? SB_POSIXACL : 0);
  ext4_check_feature_compatibility(sb);
  check_dax(sb);
  const huge = has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_HUGE_FILE);
  sbi.s_bitmap_maxbytes = ext4_max_bitmap_size(sb.s_blocksize_bits, huge);
  sb.s_maxbytes = ext4_max_size(sb.s_blocksize_bits, huge);
  ext4_group_sizes(sb, silent);
  ext4_handle_clustersize(sb);
  ext4_geometry_check(sb);
  await ext4_group_desc_init(sb, sb_block);
  sbi.s_mount_state = sbi.s_es.s_state & ~M.EXT4_FC_REPLAY;
  sbi.s_log_groups_per_flex = sbi.s_es.s_log_groups_per_flex;
  const es = sbi.s_es;
  if (!c.numbers.has("stripe")) {
    const per = sbi.s_blocks_per_group;
    sbi.s_stripe = [es.s_raid_stripe_width, es.s_raid_stride].find((s) => s > 1 && s <= per) ?? 0;
  }
  // more than the directory link count can say is stored as 1 (dir_nlink): namei.ts checks itself
  sb.s_max_links = 0;
  await load_journal(sb);
  if (
    has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_VERITY) &&
    sb.s_blocksize !== sb.kernel.PAGE_SIZE
  ) {
    bad(sb, "Unsupported blocksize for fs-verity");
  }
}

async function start(sb: super_block, c: ext4_fs_context): Promise<void> {
  const sbi = EXT4_SB(sb);
  await ext4_calculate_overhead(sb);
  await mount_root(sb);
  if (sbi.s_es.s_rev_level > M.EXT4_DYNAMIC_REV) {
    ext4_msg(sb, KERN_ERR, "revision level too high, forcing read-only mode");
    sb.s_flags |= SB_RDONLY;
  }
  if (!sb_rdonly(sb)) await W.ext4_setup_super(sb);
  set_resv_clusters(sb);
  if (test_opt(sb, EXT4_MOUNT_BLOCK_VALIDITY)) {
    try {
      await ext4_setup_system_zone(sb);
    } catch (e) {
      if (is_errno(e)) {
        ext4_msg(sb, KERN_ERR, `failed to initialize system zone (-${e.errno})`);
      }
      throw e;
    }
  }
  ext4_set_optimize_scan(c, sb);
  sbi.s_freeclusters_counter = ext4_count_free_clusters(sb);
  sbi.s_freeinodes_counter = ext4_count_free_inodes(sb);
  sbi.s_dirs_counter = ext4_count_dirs(sb);
  await W.ext4_mb_init(sb);
  if (!sb_rdonly(sb)) await W.ext4_orphan_cleanup(sb);
}

function release(sb: super_block): void {
  const sbi = EXT4_SB(sb);
  for (const bh of sbi.s_group_desc) brelse(bh);
  if (sbi.s_sbh) brelse(sbi.s_sbh);
  if (sbi.s_daxdev) fs_put_dax(sbi.s_daxdev);
}

const describe_data_mode = (sb: super_block): string => {
  if (!has_compat(sb, M.EXT4_FEATURE_COMPAT_HAS_JOURNAL) || test_opt(sb, EXT4_MOUNT_NOLOAD)) {
    return "without journal";
  }
  if (data_mode(sb) === EXT4_MOUNT_JOURNAL_DATA) return "with journalled data mode";
  const ordered = data_mode(sb) === EXT4_MOUNT_ORDERED_DATA;
  return ordered ? "with ordered data mode" : "with writeback data mode";
};

/** Reads the filesystem on sb.s_bdev and leaves its root in sb.s_root. Throws Errno. */
export async function ext4_fill_super(
  sb: super_block,
  c: ext4_fs_context,
  silent: boolean,
): Promise<void> {
  const sbi = new_sb_info(sb);
  sb.s_fs_info = sbi;
  sb.s_op = ext4_sops;
  sb.s_xattr = ext4_xattr_handlers;
  const dax = fs_dax_get_by_bdev(sb.s_bdev!);
  sbi.s_daxdev = dax?.dax_dev ?? null;
  sbi.s_dax_part_off = dax?.start_off ?? 0;
  try {
    await read_and_check(sb, c, silent);
    try {
      await start(sb, c);
    } catch (e) {
      if (is_errno(e)) ext4_msg(sb, KERN_ERR, "mount failed");
      throw e;
    }
  } catch (e) {
    await dput(sb.s_root);
    sb.s_root = null;
    release(sb);
    sb.s_fs_info = null;
    throw e;
  }
  ext4_msg(sb, KERN_INFO, `mounted filesystem ${describe_data_mode(sb)}. Quota mode: none.`);
}

function ext4_statfs(dentry: dentry, buf: kstatfs): void {
  const sb = dentry.d_sb;
  const sbi = EXT4_SB(sb);
  const es = sbi.s_es;
  const overhead = test_opt(sb, EXT4_MOUNT_MINIX_DF) ? 0 : sbi.s_overhead;
  const kept = ext4_r_blocks_count(es) + EXT4_C2B(sbi, sbi.s_resv_clusters);
  buf.f_type = M.EXT4_SUPER_MAGIC;
  buf.f_bsize = sb.s_blocksize;
  buf.f_frsize = sb.s_blocksize;
  buf.f_blocks = ext4_blocks_count(es) - EXT4_C2B(sbi, overhead);
  buf.f_bfree = EXT4_C2B(
    sbi,
    Math.max(0, sbi.s_freeclusters_counter - sbi.s_dirtyclusters_counter),
  );
  buf.f_bavail = Math.max(0, buf.f_bfree - kept);
  buf.f_files = es.s_inodes_count;
  buf.f_ffree = Math.max(0, sbi.s_freeinodes_counter);
  buf.f_namelen = M.EXT4_NAME_LEN;
  const word = (i: number) => {
    const u = es.s_uuid;
    return u[i]! + u[i + 1]! * 2 ** 8 + u[i + 2]! * 2 ** 16 + u[i + 3]! * 2 ** 24;
  };
  // the two halves of the uuid are folded into one 64-bit number: the low word is kept
  buf.f_fsid = ((word(0) ^ word(8)) >>> 0) + (((word(4) ^ word(12)) & 0xfffff) >>> 0) * 2 ** 32;
}

async function ext4_remount(sb: super_block, flags: number, data: string): Promise<number> {
  const sbi = EXT4_SB(sb);
  const c = ext4_parse_options(sb.kernel, data, true);
  ext4_check_opt_consistency(sb.kernel, c, sb, true);
  const old = { flags: sb.s_flags, opt: sbi.s_mount_opt, opt2: sbi.s_mount_opt2 };
  const numbers = [sbi.s_resuid, sbi.s_resgid, sbi.s_commit_interval] as const;
  ext4_apply_options(c, sb);
  try {
    if ((old.opt ^ sbi.s_mount_opt) & EXT4_MOUNT_JOURNAL_CHECKSUM) {
      const text = "changing journal_checksum during remount not supported; ignoring";
      ext4_msg(sb, KERN_ERR, text);
      sbi.s_mount_opt ^= EXT4_MOUNT_JOURNAL_CHECKSUM;
    }
    if (data_mode(sb) === EXT4_MOUNT_JOURNAL_DATA) {
      const both = "can't mount with both data=journal and";
      if (test_opt2(sb, EXT4_MOUNT2_EXPLICIT_DELALLOC)) bad(sb, `${both} delalloc`);
      if (test_opt(sb, EXT4_MOUNT_DIOREAD_NOLOCK)) bad(sb, `${both} dioread_nolock`);
    }
    if ((sbi.s_mount_opt ^ old.opt) & EXT4_MOUNT_NO_MBCACHE) {
      bad(sb, "can't enable nombcache during remount");
    }
    await remount_rw_state(sb, flags);
    if (test_opt(sb, EXT4_MOUNT_BLOCK_VALIDITY) && !sbi.s_system_blks) {
      await ext4_setup_system_zone(sb);
    } else if (!test_opt(sb, EXT4_MOUNT_BLOCK_VALIDITY)) {
      sbi.s_system_blks = null;
    }
  } catch (e) {
    sb.s_flags = old.flags;
    sbi.s_mount_opt = old.opt;
    sbi.s_mount_opt2 = old.opt2;
    [sbi.s_resuid, sbi.s_resgid, sbi.s_commit_interval] = numbers;
    throw e;
  }
  ext4_msg(sb, KERN_INFO, "re-mounted. Quota mode: none.");
  return flags;
}

async function remount_rw_state(sb: super_block, flags: number): Promise<void> {
  const sbi = EXT4_SB(sb);
  if (((flags & SB_RDONLY) !== 0) === sb_rdonly(sb)) return;
  if (sbi.s_mount_flags & EXT4_MF_FS_ABORTED) throw EROFS;
  if (flags & SB_RDONLY) {
    await W.ext4_remount_ro(sb);
    sb.s_flags |= SB_RDONLY;
    return;
  }
  if (sb.s_bdev?.bd_read_only) throw EROFS;
  try {
    if (has_ro_compat(sb, M.EXT4_FEATURE_RO_COMPAT_READONLY)) throw EROFS;
    ext4_feature_set_ok(sb, false);
  } catch (e) {
    if (e === EINVAL) throw EROFS;
    throw e;
  }
  if (has_incompat(sb, M.EXT4_FEATURE_INCOMPAT_RECOVER)) {
    bad(sb, "the journal needs recovery, which is not supported yet: cannot remount RDWR");
  }
  for (let g = 0; g < sbi.s_groups_count; g++) {
    if (!ext4_verify_group_desc(sb, g, "ext4_remount")) throw EIO;
  }
  if (sbi.s_es.s_last_orphan) {
    bad(
      sb,
      "Couldn't remount RDWR because of unprocessed orphan inode list.  " +
        "Please umount/remount instead",
      KERN_WARNING,
    );
  }
  sbi.s_mount_state = sbi.s_es.s_state & ~M.EXT4_FC_REPLAY;
  await W.ext4_setup_super(sb);
  sb.s_flags &= ~SB_RDONLY;
  if (has_compat(sb, M.EXT4_FEATURE_COMPAT_HAS_JOURNAL)) {
    ext4_msg(
      sb,
      KERN_WARNING,
      "journal left empty: metadata is written in place, which is not crash-safe",
    );
  }
}

async function ext4_put_super(sb: super_block): Promise<void> {
  const sbi = EXT4_SB(sb);
  if (!sbi) return;
  await W.ext4_mb_release(sb);
  if (!sb_rdonly(sb)) await W.ext4_finish_super(sb);
  release(sb);
  sb.s_fs_info = null;
  ext4_msg(sb, KERN_INFO, "unmounting filesystem.");
}

export const ext4_sops: super_operations = Object.freeze({
  name: "ext4",
  alloc_inode: ext4_alloc_inode,
  write_inode: W.ext4_write_inode,
  dirty_inode: W.ext4_dirty_inode,
  drop_inode: W.ext4_drop_inode,
  evict_inode: W.ext4_evict_inode,
  put_super: ext4_put_super,
  sync_fs: W.ext4_sync_fs,
  freeze_fs: W.ext4_freeze,
  unfreeze_fs: W.ext4_unfreeze,
  statfs: ext4_statfs,
  remount_fs: ext4_remount,
  show_options: ext4_show_options,
  shutdown: W.ext4_shutdown,
});

/** The options are looked at before the device is: a wrong one is EINVAL even where it is busy. */
async function mount_ext4(
  kernel: Kernel,
  type: file_system_type,
  flags: number,
  dev_name: string,
  data: string,
): Promise<super_block> {
  const c = ext4_parse_options(kernel, data);
  return mount_bdev(kernel, type, flags, dev_name, data, (sb, _, silent) =>
    ext4_fill_super(sb, c, silent),
  );
}

function make_type(name: string): file_system_type {
  const type: file_system_type = Object.freeze({
    name,
    fs_flags: FS_REQUIRES_DEV,
    mount: (kernel: Kernel, flags: number, dev_name: string, data: string) =>
      mount_ext4(kernel, type, flags, dev_name, data),
    kill_sb: kill_block_super,
  });
  return type;
}
export const ext4_fs_type = make_type("ext4");
export const ext3_fs_type = make_type("ext3");
export const ext2_fs_type = make_type("ext2");

/** Makes "ext2", "ext3" and "ext4" mountable in this kernel. */
export function init_ext4_fs(kernel: Kernel): void {
  for (const type of [ext2_fs_type, ext3_fs_type, ext4_fs_type]) register_filesystem(kernel, type);
}
