/**
 * fs/ext4/iomap.ts - the block map as iomap and DAX ask for it. Linux: fs/ext4/inode.c
 * (ext4_iomap_begin, ext4_iomap_begin_report), fs/ext4/extents.c (ext4_iomap_xattr_begin).
 *
 * A block run that the extent status cache holds is answered at once: nothing is allocated, no
 * promise is made. That is the path of every DAX read and of every overwrite.
 */
import { EINVAL, ENOENT, ENOTBLK, ERANGE } from "../../kernel/include/errno.ts";
import type { inode, Sometime } from "../../kernel/include/fs.ts";
import {
  IOMAP_DAX,
  IOMAP_DELALLOC,
  IOMAP_DIRECT,
  IOMAP_F_DIRTY,
  IOMAP_F_MERGED,
  IOMAP_F_NEW,
  IOMAP_HOLE,
  IOMAP_INLINE,
  IOMAP_MAPPED,
  IOMAP_NULL_ADDR,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
  type iomap,
  type iomap_ops,
} from "../../kernel/include/iomap.ts";
import { brelse } from "../buffer.ts";
import { EXT4_EXTENTS_FL, EXT4_GOOD_OLD_INODE_SIZE } from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MAP_MAPPED,
  EXT4_MAP_NEW,
  EXT4_MAP_UNWRITTEN,
  EXT4_SB,
  EXT4_STATE_XATTR,
  type ext4_map_blocks_t,
  ext4_test_inode_flag,
  ext4_test_inode_state,
  new_map,
} from "./ext4_fs.ts";
import {
  EXTENT_STATUS_UNWRITTEN,
  EXTENT_STATUS_WRITTEN,
  es_find,
  ext4_es_find_extent_range,
  ext4_es_is_delayed,
  new_extent_status,
} from "./extents_status.ts";
import { ext4_inline_data_iomap } from "./inline.ts";
import { ext4_get_inode_loc, ext4_has_inline_data, ext4_map_blocks } from "./inode.ts";
import { ext4_inode_datasync_dirty, ext4_iomap_alloc } from "./write_side.ts";

export const EXT4_MAX_LOGICAL_BLOCK = 0xfffffffe;

function fill(
  inode: inode,
  iomap: iomap,
  end: number,
  flags: number,
  lblk: number,
  len: number,
  pblk: number,
  m_flags: number,
): void {
  const sbi = EXT4_SB(inode.i_sb);
  const size = inode.i_sb.s_blocksize;
  iomap.flags = 0;
  if (end > inode.i_size || ext4_inode_datasync_dirty(inode)) iomap.flags |= IOMAP_F_DIRTY;
  if (m_flags & EXT4_MAP_NEW) iomap.flags |= IOMAP_F_NEW;
  if (m_flags & EXT4_MAP_MAPPED && !ext4_test_inode_flag(inode, EXT4_EXTENTS_FL)) {
    iomap.flags |= IOMAP_F_MERGED;
  }
  const dax = (flags & IOMAP_DAX) !== 0;
  iomap.dax_dev = dax ? sbi.s_daxdev : null;
  iomap.bdev = dax ? null : inode.i_sb.s_bdev;
  iomap.inline_data = null;
  iomap.offset = lblk * size;
  iomap.length = len * size;
  const mapped = (m_flags & (EXT4_MAP_MAPPED | EXT4_MAP_UNWRITTEN)) !== 0;
  // both bits at once: allocated for direct IO, to be converted when it is done
  if (m_flags & EXT4_MAP_UNWRITTEN) iomap.type = IOMAP_UNWRITTEN;
  else iomap.type = mapped ? IOMAP_MAPPED : IOMAP_HOLE;
  iomap.addr = mapped ? pblk * size + (dax ? sbi.s_dax_part_off : 0) : IOMAP_NULL_ADDR;
}

const set_iomap = (
  inode: inode,
  iomap: iomap,
  map: ext4_map_blocks_t,
  end: number,
  flags: number,
): void => fill(inode, iomap, end, flags, map.m_lblk, map.m_len, map.m_pblk, map.m_flags);

function ext4_iomap_begin(
  inode: inode,
  pos: number,
  length: number,
  flags: number,
  iomap: iomap,
): Sometime<void> {
  const size = inode.i_sb.s_blocksize;
  const lblk = Math.floor(pos / size);
  if (lblk > EXT4_MAX_LOGICAL_BLOCK) throw EINVAL;
  const ei = EXT4_I(inode);
  if (ei.i_inline_off !== 0 && ext4_has_inline_data(inode)) throw ERANGE;
  const end = pos + length;
  const len = Math.min(Math.floor((end - 1) / size), EXT4_MAX_LOGICAL_BLOCK) - lblk + 1;
  const t = ei.i_es_tree;
  const i = es_find(t, lblk);
  if (i >= 0) {
    const status = t.status[i]!;
    const write = (flags & IOMAP_WRITE) !== 0;
    if (!write || (status & EXTENT_STATUS_WRITTEN && end <= inode.i_size)) {
      const off = lblk - t.lblk[i]!;
      const n = Math.min(len, t.len[i]! - off);
      let m_flags = 0;
      if (status & EXTENT_STATUS_WRITTEN) m_flags = EXT4_MAP_MAPPED;
      else if (status & EXTENT_STATUS_UNWRITTEN) m_flags = EXT4_MAP_UNWRITTEN;
      fill(inode, iomap, end, flags, lblk, n, t.pblk[i]! + off, m_flags);
      return undefined;
    }
  }
  return begin_slow(inode, new_map(lblk, len), end, flags, iomap);
}

async function begin_slow(
  inode: inode,
  map: ext4_map_blocks_t,
  end: number,
  flags: number,
  iomap: iomap,
): Promise<void> {
  const len = map.m_len;
  if (flags & IOMAP_WRITE) {
    let n = 0;
    if (end <= inode.i_size) {
      n = await ext4_map_blocks(null, inode, map, 0);
      // what was found may be shorter than what is wanted; a hole or unwritten run is asked again
      if (!(n > 0 && map.m_flags & EXT4_MAP_MAPPED)) map.m_len = Math.max(map.m_len, 1);
    }
    if (!(n > 0 && map.m_flags & EXT4_MAP_MAPPED)) await ext4_iomap_alloc(inode, map, flags);
  } else {
    map.m_len = len;
    await ext4_map_blocks(null, inode, map, 0);
  }
  set_iomap(inode, iomap, map, end, flags);
}

/** A direct write that moved nothing goes on through the page cache. */
function ext4_iomap_end(
  _inode: inode,
  _pos: number,
  _length: number,
  written: number,
  flags: number,
): void {
  if (flags & (IOMAP_WRITE | IOMAP_DIRECT) && written === 0) throw ENOTBLK;
}

export const ext4_iomap_ops: iomap_ops = Object.freeze({
  iomap_begin: ext4_iomap_begin,
  iomap_end: ext4_iomap_end,
});

/** Direct IO over blocks that exist: nothing is allocated (no WRITE flag is passed on). */
export const ext4_iomap_overwrite_ops: iomap_ops = Object.freeze({
  iomap_begin: (inode: inode, pos: number, length: number, flags: number, iomap: iomap) =>
    ext4_iomap_begin(inode, pos, length, flags & ~IOMAP_WRITE, iomap),
  iomap_end: ext4_iomap_end,
});

/**
 * Is there a delayed run at the hole that `map` found? Cuts m_len to the run or to what is before.
 */
function is_delalloc(inode: inode, map: ext4_map_blocks_t): boolean {
  const es = new_extent_status();
  const end = map.m_lblk + map.m_len - 1;
  if (!ext4_es_find_extent_range(inode, ext4_es_is_delayed, map.m_lblk, end, es)) return false;
  if (es.es_lblk > map.m_lblk) {
    map.m_len = es.es_lblk - map.m_lblk;
    return false;
  }
  map.m_len = es.es_len - (map.m_lblk - es.es_lblk);
  return true;
}

async function ext4_iomap_begin_report(
  inode: inode,
  pos: number,
  length: number,
  flags: number,
  iomap: iomap,
): Promise<void> {
  const size = inode.i_sb.s_blocksize;
  const lblk = Math.floor(pos / size);
  if (lblk > EXT4_MAX_LOGICAL_BLOCK) throw EINVAL;
  if (ext4_has_inline_data(inode) && (await ext4_inline_data_iomap(inode, iomap))) {
    if (pos >= iomap.length) throw ENOENT;
    return;
  }
  const end = pos + length;
  const last = Math.min(Math.floor((end - 1) / size), EXT4_MAX_LOGICAL_BLOCK);
  const map = new_map(lblk, last - lblk + 1);
  let delalloc = false;
  const beyond =
    !ext4_test_inode_flag(inode, EXT4_EXTENTS_FL) && pos >= EXT4_SB(inode.i_sb).s_bitmap_maxbytes;
  if (!beyond) {
    const n = await ext4_map_blocks(null, inode, map, 0);
    if (n === 0) delalloc = is_delalloc(inode, map);
  }
  set_iomap(inode, iomap, map, end, flags);
  if (delalloc && iomap.type === IOMAP_HOLE) iomap.type = IOMAP_DELALLOC;
}

/** For fiemap and SEEK_DATA/SEEK_HOLE: what is, delayed runs and inline data included. */
export const ext4_iomap_report_ops: iomap_ops = Object.freeze({
  iomap_begin: ext4_iomap_begin_report,
});

/** FIEMAP_FLAG_XATTR: where the attributes are, as one extent at offset 0. */
async function ext4_iomap_xattr_begin(
  inode: inode,
  pos: number,
  _length: number,
  _flags: number,
  iomap: iomap,
): Promise<void> {
  const ei = EXT4_I(inode);
  const sbi = EXT4_SB(inode.i_sb);
  if (pos !== 0) throw ENOENT;
  iomap.flags = 0;
  iomap.offset = 0;
  iomap.bdev = inode.i_sb.s_bdev;
  iomap.dax_dev = null;
  iomap.inline_data = null;
  if (ext4_test_inode_state(inode, EXT4_STATE_XATTR)) {
    const iloc = await ext4_get_inode_loc(inode);
    const off = EXT4_GOOD_OLD_INODE_SIZE + ei.i_extra_isize;
    iomap.type = IOMAP_INLINE;
    // as Linux reports it: from the start of the table's block, not of the inode
    iomap.addr = iloc.bh.b_blocknr * inode.i_sb.s_blocksize + off;
    iomap.length = sbi.s_inode_size - off;
    brelse(iloc.bh);
  } else if (ei.i_file_acl) {
    iomap.type = IOMAP_MAPPED;
    iomap.addr = ei.i_file_acl * inode.i_sb.s_blocksize;
    iomap.length = inode.i_sb.s_blocksize;
  } else {
    throw ENOENT;
  }
}
export const ext4_iomap_xattr_ops: iomap_ops = Object.freeze({
  iomap_begin: ext4_iomap_xattr_begin,
});
