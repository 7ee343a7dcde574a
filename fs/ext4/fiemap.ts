/**
 * fs/ext4/fiemap.ts - FS_IOC_FIEMAP and FIBMAP. Linux: fs/ext4/extents.c (ext4_fiemap), inode.c.
 */
import { EFBIG, EINVAL } from "../../kernel/include/errno.ts";
import {
  FIEMAP_FLAG_CACHE,
  FIEMAP_FLAG_XATTR,
  type fiemap_extent_info,
  type inode,
} from "../../kernel/include/fs.ts";
import type { address_space } from "../../kernel/include/mm_types.ts";
import { filemap_write_and_wait } from "../../mm/filemap.ts";
import { inode_lock_shared, inode_unlock_shared } from "../../kernel/vfs/inode.ts";
import { iomap_bmap, iomap_fiemap } from "../iomap.ts";
import { EXT4_EXTENTS_FL } from "./ext4.ts";
import { EXT4_MOUNT_DELALLOC, ext4_test_inode_flag, test_opt } from "./ext4_fs.ts";
import { ext4_ext_precache } from "./extents.ts";
import { ext4_get_maxbytes, ext4_has_inline_data } from "./inode.ts";
import { ext4_iomap_ops, ext4_iomap_report_ops, ext4_iomap_xattr_ops } from "./iomap.ts";

/** `start` and `len` in bytes. Throws EINVAL, EFBIG, and what reading the map throws. */
export async function ext4_fiemap(
  inode: inode,
  fi: fiemap_extent_info,
  start: number,
  len: number,
): Promise<void> {
  if (fi.fi_flags & FIEMAP_FLAG_CACHE) {
    if (ext4_test_inode_flag(inode, EXT4_EXTENTS_FL)) await ext4_ext_precache(inode);
    fi.fi_flags &= ~FIEMAP_FLAG_CACHE;
  }
  const max = ext4_get_maxbytes(inode);
  if (len === 0) throw EINVAL;
  if (start > max) throw EFBIG;
  const n = len > max || max - len < start ? max - start : len;
  if (fi.fi_flags & FIEMAP_FLAG_XATTR) {
    fi.fi_flags &= ~FIEMAP_FLAG_XATTR;
    return iomap_fiemap(inode, fi, start, n, ext4_iomap_xattr_ops);
  }
  return iomap_fiemap(inode, fi, start, n, ext4_iomap_report_ops);
}

/** address_space_operations.bmap: the physical block, 0 for a hole. */
export async function ext4_bmap(mapping: address_space, block: number): Promise<number> {
  const inode = mapping.host;
  const p = inode_lock_shared(inode);
  if (p) await p;
  try {
    if (ext4_has_inline_data(inode)) return 0;
    if (test_opt(inode.i_sb, EXT4_MOUNT_DELALLOC)) await filemap_write_and_wait(mapping);
    return await iomap_bmap(mapping, block, ext4_iomap_ops);
  } finally {
    inode_unlock_shared(inode);
  }
}
