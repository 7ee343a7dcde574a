/**
 * fs/ext4/symlink.ts - symbolic links: the target is in i_block (fast), in block 0, or inline data.
 * Linux: fs/ext4/symlink.c, ext4_read_inline_link() in inline.c.
 */
import { EFSCORRUPTED, EINVAL } from "../../kernel/include/errno.ts";
import {
  type dentry,
  type inode,
  type inode_operations,
  S_ENCRYPTED,
} from "../../kernel/include/fs.ts";
import { bytes_to_name } from "../../kernel/lib/utf8.ts";
import { brelse } from "../buffer.ts";
import { ext4_error_inode, ext4_warning_inode } from "./ext4_fs.ts";
import { ext4_getattr } from "./getattr.ts";
import { ext4_inline_contents } from "./inline.ts";
import { ext4_bread, ext4_has_inline_data } from "./inode.ts";
import * as W from "./write_side.ts";
import { ext4_listxattr } from "./xattr.ts";

/** The bytes up to the first NUL, at most `max`. */
function link_text(b: Uint8Array, max: number): string {
  const nul = b.indexOf(0);
  return bytes_to_name(b, 0, nul >= 0 && nul < max ? nul : Math.min(max, b.length));
}

async function ext4_get_link(_dentry: dentry | null, inode: inode): Promise<string> {
  if (inode.i_flags & S_ENCRYPTED) {
    ext4_warning_inode(inode, "ext4_get_link", "encrypted symlink, no encryption support");
    throw EINVAL;
  }
  if (ext4_has_inline_data(inode)) {
    const b = await ext4_inline_contents(inode);
    if (b) return link_text(b, b.length);
  }
  const bh = await ext4_bread(inode, 0);
  if (!bh) {
    ext4_error_inode(inode, "ext4_get_link", 0, "bad symlink.");
    throw EFSCORRUPTED;
  }
  const text = link_text(bh.b_data, Math.min(inode.i_size, bh.b_data.length - 1));
  brelse(bh);
  return text;
}

export const ext4_symlink_inode_operations: inode_operations = Object.freeze({
  get_link: ext4_get_link,
  setattr: W.ext4_setattr,
  getattr: ext4_getattr,
  listxattr: ext4_listxattr,
});

/** i_link holds the target. */
export const ext4_fast_symlink_inode_operations: inode_operations = Object.freeze({
  get_link: (_dentry: dentry | null, inode: inode) => inode.i_link ?? "",
  setattr: W.ext4_setattr,
  getattr: ext4_getattr,
  listxattr: ext4_listxattr,
});
