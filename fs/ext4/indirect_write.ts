/**
 * fs/ext4/indirect_write.ts - block-mapped files: filling holes and freeing ranges.
 * Linux: fs/ext4/indirect.c. Looking up: indirect.ts. Differs: a range is freed by recursion over
 * the subtrees it meets, in place of the two chains of "shared" blocks; what is freed is the same.
 *
 * A new branch is built from its end: blocks that nothing points to yet, then one number is stored
 * that makes it part of the file.
 * Locks: i_data_sem (write), an open handle.
 */
import { EFBIG, EFSCORRUPTED, EIO, is_errno } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { S_ISREG } from "../../kernel/include/stat.ts";
import { brelse, type buffer_head, sb_getblk, set_buffer_uptodate } from "../buffer.ts";
import {
  ext4_charge_blocks,
  ext4_free_file_blocks,
  ext4_inode_to_goal_block,
  get_default_free_blocks_flags,
} from "./blocks_count.ts";
import { ext4_da_update_reserve_space, ext4_es_delayed_clu, ext4_es_drop } from "./da_reserve.ts";
import {
  EXT4_FEATURE_RO_COMPAT_BIGALLOC,
  EXT4_IND_BLOCK,
  EXT4_N_BLOCKS,
  EXT4_NDIR_BLOCKS,
  EXT_MAX_BLOCKS,
} from "./ext4.ts";
import {
  EXT4_GET_BLOCKS_DELALLOC_RESERVE,
  EXT4_GET_BLOCKS_METADATA_NOFAIL,
  EXT4_I,
  EXT4_MAP_MAPPED,
  EXT4_MAP_NEW,
  EXT4_SB,
  ext4_error_inode,
  type ext4_map_blocks_t,
  has_ro_compat,
} from "./ext4_fs.ts";
import {
  ext4_handle_dirty_metadata,
  ext4_journal_get_create_access,
  ext4_journal_get_write_access,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_block_to_path, ext4_ind_bread, ext4_ind_map_lookup } from "./indirect.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import {
  EXT4_FREE_BLOCKS_FORGET,
  EXT4_FREE_BLOCKS_METADATA,
  EXT4_MB_DELALLOC_RESERVED,
  EXT4_MB_HINT_DATA,
  EXT4_MB_USE_RESERVED,
  ext4_mb_new_blocks,
  ext4_new_meta_blocks,
  new_request,
} from "./mballoc.ts";

const get_ptr = (b: Uint8Array, i: number): number => {
  const o = 4 * i;
  return (b[o]! | (b[o + 1]! << 8) | (b[o + 2]! << 16) | (b[o + 3]! << 24)) >>> 0;
};
function set_ptr(b: Uint8Array, i: number, block: number): void {
  const o = 4 * i;
  b[o] = block & 255;
  b[o + 1] = (block >>> 8) & 255;
  b[o + 2] = (block >>> 16) & 255;
  b[o + 3] = block >>> 24;
}

/** A place for a block number: an entry of i_block (bh null) or of an indirect block. */
interface place {
  bh: buffer_head | null;
  data: Uint8Array;
  i: number;
}

/** The way to the last place that exists: its own number is 0, or the whole way is there. */
async function get_branch(inode: inode, offsets: readonly number[]): Promise<place[]> {
  const chain: place[] = [{ bh: null, data: EXT4_I(inode).i_data, i: offsets[0]! }];
  try {
    for (let level = 1; level < offsets.length; level++) {
      const above = chain[level - 1]!;
      const block = get_ptr(above.data, above.i);
      if (block === 0) break;
      const bh = await ext4_ind_bread(inode, block);
      chain.push({ bh, data: bh.b_data, i: offsets[level]! });
    }
  } catch (e) {
    drop_chain(chain);
    throw e;
  }
  return chain;
}
function drop_chain(chain: readonly place[]): void {
  for (const p of chain) if (p.bh) brelse(p.bh);
}

/**
 * Near the number before it in the same block, else near that block, else where the inode begins.
 */
function find_goal(inode: inode, p: place): number {
  for (let i = p.i - 1; i >= 0; i--) {
    const block = get_ptr(p.data, i);
    if (block !== 0) return block;
  }
  return p.bh ? p.bh.b_blocknr : ext4_inode_to_goal_block(inode);
}

/**
 * Data blocks to ask for: up to the end of the last indirect block, or up to the next block that is
 * there.
 */
function blks_to_allocate(last: place, missing: number, blks: number, boundary: number): number {
  if (missing > 0) return Math.min(blks, boundary + 1);
  let n = 1;
  while (n < blks && n <= boundary && get_ptr(last.data, last.i + n) === 0) n++;
  return n;
}

interface branch {
  /** Indirect blocks, the top one first. */
  blocks: number[];
  data: number;
  len: number;
}

/** Allocates the data run and the indirect blocks that lead to it, and fills these. */
async function alloc_branch(
  handle: handle_t,
  inode: inode,
  map: ext4_map_blocks_t,
  chain: readonly place[],
  offsets: readonly number[],
  boundary: number,
  flags: number,
): Promise<branch> {
  const last = chain.at(-1)!;
  const missing = offsets.length - chain.length;
  const ar = new_request(inode, map.m_lblk);
  ar.goal = find_goal(inode, last);
  ar.len = blks_to_allocate(last, missing, map.m_len, boundary);
  if (S_ISREG(inode.i_mode)) ar.flags |= EXT4_MB_HINT_DATA;
  if (flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE) ar.flags |= EXT4_MB_DELALLOC_RESERVED;
  if (flags & EXT4_GET_BLOCKS_METADATA_NOFAIL) ar.flags |= EXT4_MB_USE_RESERVED;
  const made: branch = { blocks: [], data: 0, len: 0 };
  try {
    for (let i = 0; i < missing; i++) {
      const meta = ar.flags & EXT4_MB_DELALLOC_RESERVED;
      made.blocks.push(await ext4_new_meta_blocks(handle, inode, ar.goal, meta, { n: 1 }));
      await ext4_charge_blocks(inode, 1);
      ar.goal = made.blocks[i]! + 1;
    }
    made.data = await ext4_mb_new_blocks(handle, ar);
    made.len = ar.len;
    if (!(flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE)) await ext4_charge_blocks(inode, ar.len);
    for (let i = missing - 1; i >= 0; i--) {
      const next = i === missing - 1 ? made.data : made.blocks[i + 1]!;
      const n = i === missing - 1 ? made.len : 1;
      await fill_indirect(handle, inode, made.blocks[i]!, offsets[chain.length + i]!, next, n);
    }
    return made;
  } catch (e) {
    if (is_errno(e)) {
      const how = EXT4_FREE_BLOCKS_METADATA | EXT4_FREE_BLOCKS_FORGET;
      for (const b of made.blocks) await ext4_free_file_blocks(handle, inode, b, 1, how);
      if (made.len) await ext4_free_file_blocks(handle, inode, made.data, made.len, 0);
    }
    throw e;
  }
}

/** A new indirect block with `n` consecutive numbers from place `at` on. */
async function fill_indirect(
  handle: handle_t,
  inode: inode,
  block: number,
  at: number,
  first: number,
  n: number,
): Promise<void> {
  const bh = sb_getblk(inode.i_sb, block);
  await ext4_journal_get_create_access(handle, inode.i_sb, bh);
  bh.b_data.fill(0);
  for (let i = 0; i < n; i++) set_ptr(bh.b_data, at + i, first + i);
  set_buffer_uptodate(bh);
  await ext4_handle_dirty_metadata(handle, inode, bh);
  brelse(bh);
}

/** Makes the branch part of the file. */
async function splice_branch(
  handle: handle_t,
  inode: inode,
  last: place,
  made: branch,
): Promise<void> {
  if (last.bh) await ext4_journal_get_write_access(handle, inode.i_sb, last.bh);
  if (made.blocks.length > 0) set_ptr(last.data, last.i, made.blocks[0]!);
  else for (let i = 0; i < made.len; i++) set_ptr(last.data, last.i + i, made.data + i);
  if (last.bh) await ext4_handle_dirty_metadata(handle, inode, last.bh);
  else await ext4_mark_inode_dirty(handle, inode);
}

/**
 * As ext4_ext_map_create, for a block-mapped file: there are no unwritten blocks.
 * @throws EFBIG beyond the largest file, ENOSPC, EUCLEAN, EIO
 */
export async function ext4_ind_map_create(
  handle: handle_t,
  inode: inode,
  map: ext4_map_blocks_t,
  flags: number,
): Promise<number> {
  const wanted = map.m_len;
  const { offsets, boundary } = ext4_block_to_path(inode, map.m_lblk);
  if (offsets.length === 0) throw EIO;
  const found = await ext4_ind_map_lookup(inode, map);
  if (found > 0) return found;
  map.m_len = wanted;
  if (has_ro_compat(inode.i_sb, EXT4_FEATURE_RO_COMPAT_BIGALLOC)) {
    const text = "Can't allocate blocks for non-extent mapped inodes with bigalloc";
    ext4_error_inode(inode, "ext4_ind_map_blocks", 0, text);
    throw EFSCORRUPTED;
  }
  const chain = await get_branch(inode, offsets);
  let made: branch;
  try {
    made = await alloc_branch(handle, inode, map, chain, offsets, boundary, flags);
    await splice_branch(handle, inode, chain.at(-1)!, made);
  } finally {
    drop_chain(chain);
  }
  if (flags & EXT4_GET_BLOCKS_DELALLOC_RESERVE) {
    await ext4_da_update_reserve_space(inode, made.len, true);
  } else {
    const n = ext4_es_delayed_clu(inode, map.m_lblk, made.len);
    if (n > 0) await ext4_da_update_reserve_space(inode, n, false);
  }
  map.m_flags |= EXT4_MAP_NEW | EXT4_MAP_MAPPED;
  map.m_pblk = made.data;
  map.m_len = made.len;
  return made.len;
}

// --- freeing ------------------------------------------------------------------------------------

/** One walk that frees the file blocks [start, end). */
class freeing {
  readonly handle: handle_t;
  readonly inode: inode;
  readonly start: number;
  readonly end: number;
  readonly ptrs: number;
  constructor(handle: handle_t, inode: inode, start: number, end: number) {
    this.handle = handle;
    this.inode = inode;
    this.start = start;
    this.end = end;
    this.ptrs = inode.i_sb.s_blocksize / 4;
  }

  /**
   * Frees the data blocks that entries [from, to) name, in runs. True when an entry was cleared.
   */
  async data_entries(data: Uint8Array, from: number, to: number): Promise<boolean> {
    const flags = get_default_free_blocks_flags(this.inode);
    let any = false;
    for (let i = from; i < to; ) {
      const first = get_ptr(data, i);
      if (first === 0) {
        i++;
        continue;
      }
      let n = 0;
      while (i + n < to && get_ptr(data, i + n) === first + n) set_ptr(data, i + n++, 0);
      await ext4_free_file_blocks(this.handle, this.inode, first, n, flags);
      any = true;
      i += n;
    }
    return any;
  }

  /**
   * Frees what of the range lies below an indirect block whose subtree begins at file block `base`.
   * True when the block itself was freed: nothing is left in it and the range goes to its subtree's
   * end.
   */
  async subtree(block: number, level: number, base: number): Promise<boolean> {
    const span = this.ptrs ** (level - 1);
    const bh = await ext4_ind_bread(this.inode, block);
    const from = Math.max(0, Math.floor((this.start - base) / span));
    const to = Math.min(this.ptrs, Math.ceil((this.end - base) / span));
    await ext4_journal_get_write_access(this.handle, this.inode.i_sb, bh);
    let changed = false;
    if (level === 1) changed = await this.data_entries(bh.b_data, from, to);
    else {
      for (let i = from; i < to; i++) {
        const below = get_ptr(bh.b_data, i);
        if (below === 0 || !(await this.subtree(below, level - 1, base + i * span))) continue;
        set_ptr(bh.b_data, i, 0);
        changed = true;
      }
    }
    if (this.end >= base + span * this.ptrs && bh.b_data.every((b) => b === 0)) {
      brelse(bh);
      const how = EXT4_FREE_BLOCKS_METADATA | EXT4_FREE_BLOCKS_FORGET;
      await ext4_free_file_blocks(this.handle, this.inode, block, 1, how);
      return true;
    }
    if (changed) await ext4_handle_dirty_metadata(this.handle, this.inode, bh);
    brelse(bh);
    return false;
  }

  async run(): Promise<void> {
    const data = EXT4_I(this.inode).i_data;
    await this.data_entries(
      data,
      Math.min(this.start, EXT4_NDIR_BLOCKS),
      Math.min(this.end, EXT4_NDIR_BLOCKS),
    );
    let base = EXT4_NDIR_BLOCKS;
    for (let i = EXT4_IND_BLOCK; i < EXT4_N_BLOCKS; i++) {
      const level = i - EXT4_IND_BLOCK + 1;
      const next = base + this.ptrs ** level;
      const block = get_ptr(data, i);
      if (block !== 0 && this.start < next && this.end > base) {
        if (await this.subtree(block, level, base)) set_ptr(data, i, 0);
      }
      base = next;
    }
    await ext4_mark_inode_dirty(this.handle, this.inode);
  }
}

/** Frees the file blocks [start, end). */
export async function ext4_ind_remove_space(
  handle: handle_t,
  inode: inode,
  start: number,
  end: number,
): Promise<void> {
  const max = Math.ceil(EXT4_SB(inode.i_sb).s_bitmap_maxbytes / inode.i_sb.s_blocksize);
  if (start >= Math.min(end, max)) return;
  await new freeing(handle, inode, start, Math.min(end, max)).run();
}

/** Frees all blocks behind i_size. */
export async function ext4_ind_truncate(handle: handle_t, inode: inode): Promise<void> {
  const last_block = Math.ceil(inode.i_size / inode.i_sb.s_blocksize);
  const max = Math.ceil(EXT4_SB(inode.i_sb).s_bitmap_maxbytes / inode.i_sb.s_blocksize);
  if (last_block > max) throw EFBIG;
  ext4_es_drop(inode, last_block, EXT_MAX_BLOCKS - last_block);
  EXT4_I(inode).i_disksize = inode.i_size;
  if (last_block < max) await new freeing(handle, inode, last_block, 2 ** 40).run();
}
