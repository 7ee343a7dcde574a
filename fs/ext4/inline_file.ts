/**
 * fs/ext4/inline_file.ts - write(2) to a file whose data is in its inode. Linux: fs/ext4/inline.c.
 *
 * A write that fits is copied into page 0 of the cache and from there into the inode, under one
 * handle from begin to end. One that does not fit turns the page into an ordinary one first: with
 * its blocks allocated, or (delayed allocation) promised, in which case the inline form goes at
 * writeback. Lock order: handle, page lock, xattr_sem.
 */
import { assert } from "../../kernel/assert.ts";
import { EFSCORRUPTED, ENOSPC } from "../../kernel/include/errno.ts";
import type { inode } from "../../kernel/include/fs.ts";
import type { page } from "../../kernel/include/mm_types.ts";
import { mark_inode_dirty } from "../../kernel/vfs/inode.ts";
import { grab_cache_page_write_begin } from "../../mm/filemap.ts";
import {
  PageUptodate,
  page_address,
  put_page,
  SetPageUptodate,
  unlock_page,
} from "../../mm/page.ts";
import {
  __block_write_begin,
  block_commit_write,
  brelse,
  create_empty_buffers,
  page_has_buffers,
} from "../buffer.ts";
import { EXT4_STATE_MAY_INLINE_DATA, ext4_clear_inode_state } from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_INODE,
  EXT4_HT_WRITE_PAGE,
  ext4_journal_current_handle,
  ext4_journal_get_write_access,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_truncate_failed_write } from "./file_write.ts";
import { ext4_da_get_block_prep, ext4_get_block, ext4_get_block_unwritten } from "./get_block.ts";
import { ext4_get_inline_size, ext4_read_inline_data } from "./inline.ts";
import {
  ext4_destroy_inline_data_nolock,
  ext4_get_max_inline_size,
  ext4_prepare_inline_data,
  ext4_write_inline_data,
  with_xattr_lock,
} from "./inline_write.ts";
import { ext4_get_inode_loc, ext4_has_inline_data, type ext4_iloc } from "./inode.ts";
import { ext4_orphan_add, ext4_orphan_del } from "./orphan.ts";
import { ext4_should_retry_alloc } from "./retry_alloc.ts";
import { ext4_can_truncate, ext4_update_inode_size } from "./truncate.ts";
import { ext4_should_dioread_nolock } from "./write_begin.ts";

function drop_page(page: page): void {
  unlock_page(page);
  put_page(page);
}

/** Page 0 from the inode. */
function ext4_read_inline_page(inode: inode, page: page, iloc: ext4_iloc): void {
  if (PageUptodate(page)) return;
  const view = page_address(page);
  const len = Math.min(ext4_get_inline_size(inode), inode.i_size);
  if (len > view.length) throw EFSCORRUPTED;
  view.set(ext4_read_inline_data(inode, len, iloc));
  view.fill(0, len);
  SetPageUptodate(page);
}

/** The page, filled, when there is room for `end` bytes in the inode; null: there is not. */
async function inline_page(
  handle: handle_t,
  inode: inode,
  end: number,
): Promise<page | null | "full"> {
  try {
    await ext4_prepare_inline_data(handle, inode, end);
  } catch (e) {
    if (e === ENOSPC) return "full";
    throw e;
  }
  const page = await grab_cache_page_write_begin(inode.i_mapping, 0);
  try {
    return await with_xattr_lock(inode, async () => {
      if (!ext4_has_inline_data(inode)) {
        drop_page(page);
        return null;
      }
      const iloc = await ext4_get_inode_loc(inode);
      try {
        await ext4_journal_get_write_access(handle, inode.i_sb, iloc.bh);
        ext4_read_inline_page(inode, page, iloc);
      } finally {
        brelse(iloc.bh);
      }
      return page;
    });
  } catch (e) {
    drop_page(page);
    throw e;
  }
}

/** inline_page() under a handle of its own, which stays open when a page is returned. */
async function begin_in_inode(inode: inode, end: number): Promise<page | null | "full"> {
  const handle = await ext4_journal_start(inode, EXT4_HT_INODE, EXT4_DATA_TRANS_BLOCKS);
  let got: page | null | "full" = null;
  try {
    got = await inline_page(handle, inode, end);
  } finally {
    if (got === null || got === "full") ext4_journal_stop(handle);
  }
  return got;
}

/**
 * Page 0 gets blocks and is dirty; the inode has a block map again. xattr_sem and page lock held.
 */
async function move_to_page(
  handle: handle_t,
  inode: inode,
  page: page,
  iloc: ext4_iloc,
): Promise<void> {
  const size = ext4_get_inline_size(inode);
  ext4_read_inline_page(inode, page, iloc);
  await ext4_destroy_inline_data_nolock(handle, inode, iloc);
  if (!page_has_buffers(page)) create_empty_buffers(page, inode.i_sb.s_blocksize);
  const nolock = ext4_should_dioread_nolock(inode);
  const get_block = nolock ? ext4_get_block_unwritten : ext4_get_block;
  await __block_write_begin(page, 0, size, get_block);
  block_commit_write(page, 0, size);
}

/** One attempt; false: ENOSPC, which may pass. */
async function convert_once(inode: inode): Promise<void> {
  const handle = await ext4_journal_start(inode, EXT4_HT_WRITE_PAGE, EXT4_DATA_TRANS_BLOCKS);
  let failed = false;
  try {
    const page = await grab_cache_page_write_begin(inode.i_mapping, 0);
    try {
      await with_xattr_lock(inode, async () => {
        if (!ext4_has_inline_data(inode)) return;
        const iloc = await ext4_get_inode_loc(inode);
        try {
          await move_to_page(handle, inode, page, iloc);
        } finally {
          brelse(iloc.bh);
        }
      });
    } catch (e) {
      failed = true;
      throw e;
    } finally {
      drop_page(page);
    }
  } finally {
    if (failed) await ext4_orphan_add(handle, inode);
    ext4_journal_stop(handle);
    if (failed) await after_failure(inode);
  }
}

/** What a failed write may have put behind the end goes. */
async function after_failure(inode: inode): Promise<void> {
  await ext4_truncate_failed_write(inode);
  if (inode.i_nlink > 0) await ext4_orphan_del(null, inode);
}

async function ext4_convert_inline_data_to_extent(inode: inode): Promise<void> {
  if (!ext4_has_inline_data(inode)) {
    // the next write need not come here
    ext4_clear_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
    return;
  }
  for (let retries = 0; ; retries++) {
    try {
      return await convert_once(inode);
    } catch (e) {
      if (e !== ENOSPC || !(await ext4_should_retry_alloc(inode.i_sb, retries))) throw e;
    }
  }
}

/**
 * write_begin: a locked page when the write fits into the inode (a handle is open then). Null: it
 * does not, and what was inline is in a page with blocks now.
 */
export async function ext4_try_to_write_inline_data(
  inode: inode,
  pos: number,
  len: number,
): Promise<page | null> {
  if (pos + len <= (await ext4_get_max_inline_size(inode))) {
    const got = await begin_in_inode(inode, pos + len);
    if (got !== "full") return got;
  }
  await ext4_convert_inline_data_to_extent(inode);
  return null;
}

/** Page 0 becomes a dirty page of promised blocks; the inline form goes when it is written. */
async function ext4_da_convert_inline_data_to_extent(inode: inode): Promise<void> {
  const page = await grab_cache_page_write_begin(inode.i_mapping, 0);
  let failed = false;
  try {
    await with_xattr_lock(inode, async () => {
      if (!ext4_has_inline_data(inode)) {
        ext4_clear_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
        return;
      }
      const size = ext4_get_inline_size(inode);
      const iloc = await ext4_get_inode_loc(inode);
      try {
        ext4_read_inline_page(inode, page, iloc);
      } finally {
        brelse(iloc.bh);
      }
      failed = true;
      await __block_write_begin(page, 0, size, ext4_da_get_block_prep);
      failed = false;
      block_commit_write(page, 0, size);
      ext4_clear_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA);
    });
  } finally {
    drop_page(page);
    if (failed) await ext4_truncate_failed_write(inode);
  }
}

/** The same for delayed allocation. */
export async function ext4_da_write_inline_data_begin(
  inode: inode,
  pos: number,
  len: number,
): Promise<page | null> {
  for (let retries = 0; ; retries++) {
    const got = await begin_in_inode(inode, pos + len);
    if (got !== "full") return got;
    try {
      await ext4_da_convert_inline_data_to_extent(inode);
      return null;
    } catch (e) {
      if (e !== ENOSPC || !(await ext4_should_retry_alloc(inode.i_sb, retries))) throw e;
    }
  }
}

async function copy_into_inode(
  inode: inode,
  page: page,
  pos: number,
  copied: number,
): Promise<void> {
  await with_xattr_lock(inode, async () => {
    assert(ext4_has_inline_data(inode), "inline data is gone in the middle of a write");
    const iloc = await ext4_get_inode_loc(inode);
    const data = page_address(page).subarray(pos, pos + copied);
    ext4_write_inline_data(inode, iloc, pos, data);
    brelse(iloc.bh);
    SetPageUptodate(page);
  });
}

/** Ends such a write: data, size, page, handle. Returns the bytes that count. */
export async function ext4_write_inline_data_end(
  inode: inode,
  pos: number,
  len: number,
  copied: number,
  page: page,
): Promise<number> {
  const handle = ext4_journal_current_handle(inode.i_sb);
  assert(handle !== null, "the end of an inline write without a handle");
  const n = copied < len && !PageUptodate(page) ? 0 : copied;
  const short = (): boolean => pos + len > inode.i_size;
  try {
    try {
      if (n > 0) {
        await copy_into_inode(inode, page, pos, n);
        ext4_update_inode_size(inode, pos + n);
      }
    } finally {
      drop_page(page);
    }
    if (n > 0) await mark_inode_dirty(inode);
    if (short() && ext4_can_truncate(inode)) await ext4_orphan_add(handle, inode);
  } finally {
    ext4_journal_stop(handle);
  }
  if (short()) await after_failure(inode);
  return n;
}
