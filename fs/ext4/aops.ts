/**
 * fs/ext4/aops.ts - the page cache's way to a file: reading pages, and which operations a file has.
 * Linux: fs/ext4/readpage.c, inode.c (ext4_set_aops). Writing pages: the write side.
 *
 * A page without buffers is read block by block straight from the map; one that has buffers (it was
 * written in part) is read through them.
 */
import { type bio, REQ_OP_READ } from "../../kernel/include/blkdev.ts";
import { EFSCORRUPTED, is_errno } from "../../kernel/include/errno.ts";
import { type file, type inode, S_DAX } from "../../kernel/include/fs.ts";
import {
  type address_space,
  type address_space_operations,
  type page,
  PG_error,
} from "../../kernel/include/mm_types.ts";
import { xa_load } from "../../kernel/lib/xarray.ts";
import { submit_bio } from "../../drivers/block/bio.ts";
import { page_address, PageUptodate, SetPageUptodate, unlock_page } from "../../mm/page.ts";
import { noop_dirty_folio } from "../../mm/page_dirty.ts";
import {
  block_is_partially_uptodate,
  block_read_full_folio,
  type buffer_head,
  map_bh,
  page_has_buffers,
} from "../buffer.ts";
import { EXT4_MAP_MAPPED, EXT4_MOUNT_DELALLOC, new_map, test_opt } from "./ext4_fs.ts";
import { ext4_bmap } from "./fiemap.ts";
import { ext4_get_inline_size, ext4_read_inline_data, with_inline } from "./inline.ts";
import { ext4_has_inline_data, ext4_map_blocks, ext4_should_journal_data } from "./inode.ts";
import * as W from "./write_side.ts";

/** get_block for buffers, without creating. */
export async function ext4_get_block_read(
  inode: inode,
  iblock: number,
  bh: buffer_head,
): Promise<void> {
  const map = new_map(iblock, 1);
  const n = await ext4_map_blocks(null, inode, map, 0);
  if (n > 0 && map.m_flags & EXT4_MAP_MAPPED) map_bh(bh, inode.i_sb.s_bdev!, map.m_pblk);
}

/** True when the data was inline and the page is now up to date. */
async function ext4_readpage_inline(inode: inode, page: page): Promise<boolean> {
  const view = page_address(page);
  const done = await with_inline(inode, (iloc) => {
    let len = 0;
    if (page.index === 0) {
      len = Math.min(ext4_get_inline_size(inode), inode.i_size);
      // more than a page of inline data cannot be: ext4_iget has checked the attribute
      if (len > view.length) throw EFSCORRUPTED;
      view.set(ext4_read_inline_data(inode, len, iloc));
    }
    view.fill(0, len);
    return true;
  });
  return done ?? false;
}

/** Fills a page without buffers from the block map. */
async function read_mapped(inode: inode, page: page): Promise<void> {
  const view = page_address(page);
  const bs = inode.i_sb.s_blocksize;
  const per_page = view.length / bs;
  const first = page.index * per_page;
  const end = Math.min(first + per_page, Math.ceil(inode.i_size / bs));
  const map = new_map(0, 0);
  let at = 0;
  while (at < per_page) {
    let run = per_page - at;
    let mapped = false;
    if (first + at < end) {
      map.m_lblk = first + at;
      map.m_len = end - first - at;
      const n = await ext4_map_blocks(null, inode, map, 0);
      mapped = n > 0 && (map.m_flags & EXT4_MAP_MAPPED) !== 0;
      run = Math.min(run, Math.max(1, map.m_len));
    }
    if (mapped) {
      const bio: bio = {
        bi_bdev: inode.i_sb.s_bdev!,
        bi_opf: REQ_OP_READ,
        bi_sector: map.m_pblk * (bs / 512),
        bi_io_vec: [{ bytes: view, offset: at * bs, len: run * bs }],
      };
      const p = submit_bio(bio);
      if (p) await p;
    } else {
      view.fill(0, at * bs, (at + run) * bs);
    }
    at += run;
  }
}

async function ext4_read_folio(_file: file | null, page: page): Promise<void> {
  const inode = page.mapping!.host;
  if (!ext4_has_inline_data(inode) && page_has_buffers(page)) {
    return block_read_full_folio(page, ext4_get_block_read);
  }
  try {
    const inline = ext4_has_inline_data(inode) && (await ext4_readpage_inline(inode, page));
    if (!inline) await read_mapped(inode, page);
    SetPageUptodate(page);
  } catch (e) {
    if (!is_errno(e)) throw e;
    if (!PageUptodate(page)) {
      page_address(page).fill(0);
      page.flags |= PG_error;
    }
    throw e;
  } finally {
    unlock_page(page);
  }
}

/**
 * Pages [index, index + nr) are in the cache and locked. Their errors show when somebody wants
 * them.
 */
async function ext4_readahead(mapping: address_space, index: number, nr: number): Promise<void> {
  for (let i = index; i < index + nr; i++) {
    const page = xa_load(mapping.i_pages, i) as page;
    try {
      await ext4_read_folio(null, page);
    } catch (e) {
      if (!is_errno(e)) throw e;
    }
  }
}

const common: address_space_operations = Object.freeze({
  read_folio: ext4_read_folio,
  readahead: ext4_readahead,
  bmap: ext4_bmap,
  invalidate_folio: W.ext4_invalidate_folio,
  release_folio: W.ext4_release_folio,
  is_partially_uptodate: block_is_partially_uptodate,
});

/** Blocks are allocated when a page is written to. */
const ext4_aops: address_space_operations = Object.freeze({
  ...common,
  name: "ext4_aops",
  writepages: W.ext4_writepages,
  write_begin: W.ext4_write_begin,
  write_end: W.ext4_write_end,
  dirty_folio: W.ext4_dirty_folio,
});

/** Space is reserved when a page is written to, blocks are chosen at writeback. */
const ext4_da_aops: address_space_operations = Object.freeze({
  ...common,
  name: "ext4_da_aops",
  writepages: W.ext4_writepages,
  write_begin: W.ext4_da_write_begin,
  write_end: W.ext4_da_write_end,
  dirty_folio: W.ext4_dirty_folio,
});

const ext4_dax_aops: address_space_operations = Object.freeze({
  name: "ext4_dax_aops",
  writepages: W.ext4_dax_writepages,
  dirty_folio: noop_dirty_folio,
  bmap: ext4_bmap,
});

/** Which operations the mapping has: by DAX, delayed allocation, journalled data. */
export function ext4_set_aops(inode: inode): void {
  const mapping: address_space = inode.i_mapping;
  if (inode.i_flags & S_DAX) mapping.a_ops = ext4_dax_aops;
  else if (test_opt(inode.i_sb, EXT4_MOUNT_DELALLOC) && !ext4_should_journal_data(inode)) {
    mapping.a_ops = ext4_da_aops;
  } else mapping.a_ops = ext4_aops;
}
