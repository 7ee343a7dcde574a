/**
 * fs/ext4/namei.ts - finding names. Linux: fs/ext4/namei.c (ext4_lookup, __ext4_find_entry,
 * ext4_dx_find_entry). Making and removing them: namei_write.ts.
 * Locks: i_rwsem of the directory, held by the VFS.
 */
import {
  EFSBADCRC,
  EFSCORRUPTED,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  ESTALE,
  is_errno,
} from "../../kernel/include/errno.ts";
import { type dentry, type inode, S_ENCRYPTED } from "../../kernel/include/fs.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";
import { brelse, type buffer_head } from "../buffer.ts";
import { d_splice_alias } from "../dcache.ts";
import { ext4_dirblock_csum_verify, ext4_has_metadata_csum } from "./csum.ts";
import {
  de_inode,
  DIRENT_HTREE,
  ext4_read_dirblock,
  ext4_search_dir,
  is_dx,
  is_dx_internal_node,
} from "./dirent.ts";
import { EXT4_NAME_LEN, EXT4_ROOT_INO } from "./ext4.ts";
import {
  BH_dir_verified,
  EXT4_I,
  EXT4_IGET_NORMAL,
  EXT4_SB,
  ext4_error_inode,
  ext4_warning_inode,
} from "./ext4_fs.ts";
import { dx_get_block, dx_probe, dx_release, ext4_htree_next_block, is_bad_dx } from "./htree.ts";
import { ext4_iget } from "./iget.ts";
import { ext4_find_inline_entry, ext4_inline_parent } from "./inline.ts";
import { ext4_bread, ext4_has_inline_data } from "./inode.ts";

/** Where a name was found: the buffer (referenced) and the byte offset of its entry in b_data. */
export interface ext4_found {
  bh: buffer_head;
  off: number;
  /** Logical block of the directory; -1 when the entry is in the inode itself. */
  lblk: number;
  inlined: boolean;
}

/** Directories that need a key cannot be read here: see the features in super_check.ts. */
export function refuse_encrypted(dir: inode, fn: string): void {
  if (!(dir.i_flags & S_ENCRYPTED)) return;
  ext4_warning_inode(dir, fn, "encrypted directory, no encryption support");
  throw EINVAL;
}

async function ext4_dx_find_entry(dir: inode, name: Uint8Array): Promise<ext4_found | null> {
  const { frames, hash } = await dx_probe(dir, name, 0);
  try {
    for (;;) {
      const f = frames.at(-1)!;
      const lblk = dx_get_block(f.view, f.entries, f.at);
      const bh = (await ext4_read_dirblock(dir, lblk, DIRENT_HTREE, "ext4_dx_find_entry"))!;
      const at = lblk * bh.b_data.length;
      let off = -1;
      try {
        off = ext4_search_dir(dir, bh, bh.b_data, 0, bh.b_data.length, name, at);
      } catch (e) {
        brelse(bh);
        throw e;
      }
      if (off >= 0) return { bh, off, lblk, inlined: false };
      brelse(bh);
      if (!(await ext4_htree_next_block(dir, hash.hash, frames, { hash: 0 }))) return null;
    }
  } finally {
    dx_release(frames);
  }
}

async function search_block(
  dir: inode,
  lblk: number,
  name: Uint8Array,
): Promise<ext4_found | null> {
  const bh = await ext4_bread(dir, lblk);
  if (!bh) return null;
  const b = bh.b_data;
  try {
    if (
      ext4_has_metadata_csum(EXT4_SB(dir.i_sb).s_es) &&
      !(bh.b_state & BH_dir_verified) &&
      !is_dx_internal_node(dir, lblk, b)
    ) {
      if (!ext4_dirblock_csum_verify(EXT4_I(dir).i_csum_seed, b)) {
        const text = `checksumming directory block ${lblk}`;
        ext4_error_inode(dir, "ext4_find_entry", 0, text, EFSBADCRC);
        throw EFSBADCRC;
      }
      bh.b_state |= BH_dir_verified;
    }
    const off = ext4_search_dir(dir, bh, b, 0, b.length, name, lblk * b.length);
    if (off >= 0) return { bh, off, lblk, inlined: false };
  } catch (e) {
    brelse(bh);
    throw e;
  }
  brelse(bh);
  return null;
}

const is_dots = (n: Uint8Array): boolean =>
  n[0] === 0x2e && (n.length === 1 || (n.length === 2 && n[1] === 0x2e));

/** The entry of a name (bytes), or null. The caller drops the buffer. */
export async function ext4_find_entry(dir: inode, name: Uint8Array): Promise<ext4_found | null> {
  if (name.length > EXT4_NAME_LEN) return null;
  if (ext4_has_inline_data(dir)) {
    const r = await ext4_find_inline_entry(dir, name);
    if (r !== undefined) return r && { ...r, lblk: -1, inlined: true };
  }
  // "." and ".." are in the first block, whatever the index says
  if (is_dots(name)) return search_block(dir, 0, name);
  if (is_dx(dir)) {
    try {
      return await ext4_dx_find_entry(dir, name);
    } catch (e) {
      if (!is_bad_dx(e)) throw e;
    }
  }
  const nblocks = Math.floor(dir.i_size / dir.i_sb.s_blocksize);
  const ei = EXT4_I(dir);
  const start = ei.i_dir_start_lookup < nblocks ? ei.i_dir_start_lookup : 0;
  for (let i = 0; i < nblocks; i++) {
    const lblk = (start + i) % nblocks;
    const found = await search_block(dir, lblk, name);
    if (found) {
      ei.i_dir_start_lookup = lblk;
      return found;
    }
  }
  return null;
}

const ext4_valid_inum = (dir: inode, ino: number): boolean => {
  const sbi = EXT4_SB(dir.i_sb);
  return ino === EXT4_ROOT_INO || (ino >= sbi.s_first_ino && ino <= sbi.s_es.s_inodes_count);
};

/**
 * inode_operations.lookup. Throws EUCLEAN, EBADMSG, EIO, ENAMETOOLONG; ELOOP for a directory below
 * itself.
 */
export async function ext4_lookup(dir: inode, dentry: dentry): Promise<dentry | undefined> {
  const name = name_to_bytes(dentry.d_name);
  if (name.length > EXT4_NAME_LEN) throw ENAMETOOLONG;
  refuse_encrypted(dir, "ext4_lookup");
  const found = await ext4_find_entry(dir, name);
  if (!found) return d_splice_alias(null, dentry);
  const ino = de_inode(found.bh.b_data, found.off);
  brelse(found.bh);
  const fail = (text: string): never => {
    ext4_error_inode(dir, "ext4_lookup", 0, text);
    throw EFSCORRUPTED;
  };
  if (!ext4_valid_inum(dir, ino)) fail(`bad inode number: ${ino}`);
  if (ino === dir.i_ino) fail(`'${dentry.d_name}' linked to parent dir`);
  let inode: inode;
  try {
    inode = await ext4_iget(dir.i_sb, ino, EXT4_IGET_NORMAL);
  } catch (e) {
    if (is_errno(e) && e === ESTALE) return fail(`deleted inode referenced: ${ino}`);
    throw e;
  }
  return d_splice_alias(inode, dentry);
}

const DOTDOT = Object.freeze([0x2e, 0x2e]);

/** Number of the parent directory, as ".." says. */
export async function ext4_get_parent_ino(dir: inode): Promise<number> {
  if (ext4_has_inline_data(dir)) {
    const ino = await ext4_inline_parent(dir);
    if (ino !== undefined) return ino;
  }
  const found = await ext4_find_entry(dir, Uint8Array.from(DOTDOT));
  if (!found) throw ENOENT;
  const ino = de_inode(found.bh.b_data, found.off);
  brelse(found.bh);
  if (ext4_valid_inum(dir, ino)) return ino;
  ext4_error_inode(dir, "ext4_get_parent", 0, `bad parent inode number: ${ino}`);
  throw EFSCORRUPTED;
}
