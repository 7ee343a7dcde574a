/**
 * fs/ext4/write_begin.ts - write(2) into one page of the cache: before and after the copy, and the
 * same for a store through a mapping. Linux: ext4_write_begin(), ext4_da_write_begin(),
 * ext4_page_mkwrite() and their ends in fs/ext4/inode.c.
 *
 * With delayed allocation a page only gets promises (ext4_da_get_block_prep), and i_disksize
 * follows at writeback. When space runs low (ext4_nonda_switch) blocks are allocated at once: then
 * a handle is open from begin to end.
 * Lock order: handle before page lock.
 */
import { assert } from "../../kernel/assert.ts";
import { EAGAIN, EFAULT, EIO, ENOMEM, ENOSPC, is_errno } from "../../kernel/include/errno.ts";
import { type file, type inode, S_IMMUTABLE, type super_block } from "../../kernel/include/fs.ts";
import {
  type address_space,
  type page,
  VM_FAULT_LOCKED,
  VM_FAULT_NOPAGE,
  VM_FAULT_OOM,
  VM_FAULT_SIGBUS,
  type vm_fault,
  type write_ctx,
} from "../../kernel/include/mm_types.ts";
import { S_ISREG } from "../../kernel/include/stat.ts";
import { sb_end_pagefault, sb_start_pagefault } from "../../kernel/vfs/super.ts";
import { grab_cache_page_write_begin } from "../../mm/filemap.ts";
import {
  lock_page,
  PageUptodate,
  page_address,
  put_page,
  unlock_page,
  wait_for_stable_page,
} from "../../mm/page.ts";
import { set_page_dirty } from "../../mm/page_dirty.ts";
import { pagecache_isize_extended } from "../../mm/truncate.ts";
import { fault_update_time } from "../atime.ts";
import {
  __block_write_begin,
  block_commit_write,
  block_write_end,
  buffer_delay,
  buffer_mapped,
  buffer_unwritten,
  create_empty_buffers,
  generic_write_end,
  type get_block_t,
  page_buffers,
  page_has_buffers,
} from "../buffer.ts";
import { EXT4_EXTENTS_FL } from "./ext4.ts";
import {
  EXT4_I,
  EXT4_MOUNT_DELALLOC,
  EXT4_MOUNT_DIOREAD_NOLOCK,
  EXT4_SB,
  EXT4_STATE_MAY_INLINE_DATA,
  ext4_forced_shutdown,
  ext4_test_inode_flag,
  ext4_test_inode_state,
  test_opt,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_WRITE_PAGE,
  ext4_journal_current_handle,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_truncate_failed_write } from "./file_write.ts";
import { ext4_da_get_block_prep, ext4_get_block, ext4_get_block_unwritten } from "./get_block.ts";
import {
  ext4_convert_inline_data,
  ext4_da_write_inline_data_begin,
  ext4_try_to_write_inline_data,
  ext4_write_inline_data_end,
} from "./inline_write.ts";
import { ext4_should_journal_data } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_orphan_add, ext4_orphan_del } from "./orphan.ts";
import { ext4_should_retry_alloc } from "./retry_alloc.ts";
import { ext4_can_truncate, ext4_update_inode_size } from "./truncate.ts";
import { ext4_writeback_for_space } from "./writepages.ts";

/** ctx.fsdata: what write_end has to finish. */
const FALL_BACK_TO_NONDELALLOC = 1;
const INLINE_DATA = 2;

/**
 * Below this many free clusters nothing is delayed. Linux: four batches of a per-CPU counter, one
 * CPU.
 */
const EXT4_FREECLUSTERS_WATERMARK = 128;

/** Are new blocks of this file unwritten until the data is there? */
export function ext4_should_dioread_nolock(inode: inode): boolean {
  const sb = inode.i_sb;
  if (!test_opt(sb, EXT4_MOUNT_DIOREAD_NOLOCK) || !S_ISREG(inode.i_mode)) return false;
  if (!ext4_test_inode_flag(inode, EXT4_EXTENTS_FL) || ext4_should_journal_data(inode)) {
    return false;
  }
  return test_opt(sb, EXT4_MOUNT_DELALLOC);
}

/**
 * Is space so low that blocks have to be allocated at once? Starts writeback when it is getting
 * low.
 */
async function ext4_nonda_switch(sb: super_block): Promise<boolean> {
  const sbi = EXT4_SB(sb);
  const free = sbi.s_freeclusters_counter;
  const dirty = sbi.s_dirtyclusters_counter;
  if (dirty > 0 && free < 2 * dirty) await ext4_writeback_for_space(sb);
  return 2 * free < 3 * dirty || free < dirty + EXT4_FREECLUSTERS_WATERMARK;
}

function check_alive(inode: inode): void {
  if (ext4_forced_shutdown(EXT4_SB(inode.i_sb))) throw EIO;
}

// --- allocating at once -------------------------------------------------------------------------

/**
 * A page with buffers, locked, still of this file, and a handle that was opened before its lock.
 */
async function page_in_handle(
  mapping: address_space,
  index: number,
): Promise<{ page: page; handle: handle_t }> {
  const inode = mapping.host;
  for (;;) {
    const page = await grab_cache_page_write_begin(mapping, index);
    if (!page_has_buffers(page)) create_empty_buffers(page, inode.i_sb.s_blocksize);
    unlock_page(page);
    let handle: handle_t;
    try {
      handle = await ext4_journal_start(inode, EXT4_HT_WRITE_PAGE, EXT4_DATA_TRANS_BLOCKS);
    } catch (e) {
      put_page(page);
      throw e;
    }
    const p = lock_page(page);
    if (p) await p;
    if (page.mapping === mapping) {
      await wait_for_stable_page(page);
      return { page, handle };
    }
    unlock_page(page);
    put_page(page);
    ext4_journal_stop(handle);
  }
}

/** Blocks behind the end that a failed write may have left go again. */
async function undo_extension(inode: inode, handle: handle_t, extended: boolean): Promise<void> {
  if (extended && ext4_can_truncate(inode)) await ext4_orphan_add(handle, inode);
  ext4_journal_stop(handle);
  if (!extended) return;
  await ext4_truncate_failed_write(inode);
  if (inode.i_nlink) await ext4_orphan_del(null, inode);
}

/** write_begin without delayed allocation: ctx.page is locked and ready, a handle is open. */
export async function ext4_write_begin(
  _file: file | null,
  mapping: address_space,
  pos: number,
  len: number,
  ctx: write_ctx,
): Promise<void> {
  const inode = mapping.host;
  check_alive(inode);
  if (ext4_test_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA)) {
    const page = await ext4_try_to_write_inline_data(inode, pos, len);
    if (page) {
      ctx.page = page;
      ctx.fsdata = INLINE_DATA;
      return;
    }
  }
  const nolock = ext4_should_dioread_nolock(inode);
  const get_block: get_block_t = nolock ? ext4_get_block_unwritten : ext4_get_block;
  const index = Math.floor(pos / inode.kernel.PAGE_SIZE);
  for (let retries = 0; ; ) {
    const { page, handle } = await page_in_handle(mapping, index);
    try {
      await __block_write_begin(page, pos, len, get_block);
      ctx.page = page;
      return;
    } catch (e) {
      unlock_page(page);
      put_page(page);
      await undo_extension(inode, handle, pos + len > inode.i_size);
      if (e !== ENOSPC || !(await ext4_should_retry_alloc(inode.i_sb, retries++))) throw e;
    }
  }
}

/** The size, and the page let go. Bits as of ext4_update_inode_size(). */
async function finish_page(inode: inode, page: page, pos: number, copied: number): Promise<number> {
  const old_size = inode.i_size;
  // under the page lock: writeback could zero what lies behind the old end
  const changed = ext4_update_inode_size(inode, pos + copied);
  unlock_page(page);
  put_page(page);
  if (old_size < pos) await pagecache_isize_extended(inode, old_size, pos);
  return changed;
}

/** write_end without delayed allocation. Returns the bytes that count. */
export async function ext4_write_end(
  _file: file | null,
  mapping: address_space,
  pos: number,
  len: number,
  copied: number,
  ctx: write_ctx,
): Promise<number> {
  const inode = mapping.host;
  const page = ctx.page!;
  if (ctx.fsdata === INLINE_DATA) {
    return ext4_write_inline_data_end(inode, pos, len, copied, page);
  }
  const handle = ext4_journal_current_handle(inode.i_sb);
  assert(handle !== null, "write_end without a handle");
  const n = block_write_end(page, pos, len, copied);
  try {
    const changed = await finish_page(inode, page, pos, n);
    if (changed) await ext4_mark_inode_dirty(handle, inode);
  } catch (e) {
    ext4_journal_stop(handle);
    throw e;
  }
  await undo_extension(inode, handle, pos + len > inode.i_size);
  return n;
}

// --- delaying -----------------------------------------------------------------------------------

/** write_begin with delayed allocation: ctx.page is locked and ready, its space is promised. */
export async function ext4_da_write_begin(
  file: file | null,
  mapping: address_space,
  pos: number,
  len: number,
  ctx: write_ctx,
): Promise<void> {
  const inode = mapping.host;
  check_alive(inode);
  if (await ext4_nonda_switch(inode.i_sb)) {
    ctx.fsdata = FALL_BACK_TO_NONDELALLOC;
    return ext4_write_begin(file, mapping, pos, len, ctx);
  }
  ctx.fsdata = 0;
  if (ext4_test_inode_state(inode, EXT4_STATE_MAY_INLINE_DATA)) {
    const page = await ext4_da_write_inline_data_begin(inode, pos, len);
    if (page) {
      ctx.page = page;
      ctx.fsdata = INLINE_DATA;
      return;
    }
  }
  const index = Math.floor(pos / inode.kernel.PAGE_SIZE);
  for (let retries = 0; ; ) {
    const page = await grab_cache_page_write_begin(mapping, index);
    try {
      await __block_write_begin(page, pos, len, ext4_da_get_block_prep);
      ctx.page = page;
      return;
    } catch (e) {
      unlock_page(page);
      put_page(page);
      if (pos + len > inode.i_size) await ext4_truncate_failed_write(inode);
      if (e !== ENOSPC || !(await ext4_should_retry_alloc(inode.i_sb, retries++))) throw e;
    }
  }
}

/** The file ends in an allocated block: no writeback will come to raise i_disksize. */
function ends_in_allocated(inode: inode, page: page, last: number): boolean {
  const bh = page_buffers(page)[Math.floor(last / inode.i_sb.s_blocksize)]!;
  return buffer_mapped(bh) && !buffer_delay(bh) && !buffer_unwritten(bh);
}

/** write_end with delayed allocation. Returns the bytes that count. */
export async function ext4_da_write_end(
  file: file | null,
  mapping: address_space,
  pos: number,
  len: number,
  copied: number,
  ctx: write_ctx,
): Promise<number> {
  const inode = mapping.host;
  const page = ctx.page!;
  if (ctx.fsdata === FALL_BACK_TO_NONDELALLOC || ctx.fsdata === INLINE_DATA) {
    return ext4_write_end(file, mapping, pos, len, copied, ctx);
  }
  const n = copied < len && !PageUptodate(page) ? 0 : copied;
  const new_size = pos + n;
  if (n > 0 && new_size > inode.i_size) {
    const last = (new_size - 1) % inode.kernel.PAGE_SIZE;
    const ei = EXT4_I(inode);
    if (ends_in_allocated(inode, page, last)) ei.i_disksize = Math.max(ei.i_disksize, new_size);
  }
  return generic_write_end(file, mapping, pos, len, n, page);
}

// --- a store through a mapping ------------------------------------------------------------------

/**
 * Gives the blocks of a page that is stored to their state. @throws EFAULT the page is not the
 * file's any more
 */
async function block_page_mkwrite(inode: inode, page: page, get_block: get_block_t): Promise<void> {
  const p = lock_page(page);
  if (p) await p;
  try {
    const start = page.index * inode.kernel.PAGE_SIZE;
    if (page.mapping !== inode.i_mapping || start > inode.i_size) throw EFAULT;
    const len = Math.min(page_address(page).length, inode.i_size - start);
    await __block_write_begin(page, start, len, get_block);
    block_commit_write(page, 0, len);
    set_page_dirty(page);
    await wait_for_stable_page(page);
  } catch (e) {
    unlock_page(page);
    throw e;
  }
}

function fault_of(e: unknown): number {
  if (!is_errno(e)) throw e;
  if (e === EFAULT || e === EAGAIN) return VM_FAULT_NOPAGE;
  return e === ENOMEM ? VM_FAULT_OOM : VM_FAULT_SIGBUS;
}

/** All blocks of the page are allocated: nothing is to be done. Leaves the page locked then. */
async function all_mapped(inode: inode, page: page): Promise<number> {
  const p = lock_page(page);
  if (p) await p;
  const start = page.index * inode.kernel.PAGE_SIZE;
  if (page.mapping !== inode.i_mapping || start > inode.i_size) {
    unlock_page(page);
    return VM_FAULT_NOPAGE;
  }
  if (page_has_buffers(page)) {
    const need = Math.ceil((inode.i_size - start) / inode.i_sb.s_blocksize);
    if (page_buffers(page).slice(0, need).every(buffer_mapped)) {
      await wait_for_stable_page(page);
      return VM_FAULT_LOCKED;
    }
  }
  unlock_page(page);
  return 0;
}

async function mkwrite_with_handle(inode: inode, page: page): Promise<void> {
  const nolock = ext4_should_dioread_nolock(inode);
  for (let retries = 0; ; ) {
    const handle = await ext4_journal_start(inode, EXT4_HT_WRITE_PAGE, EXT4_DATA_TRANS_BLOCKS);
    try {
      await block_page_mkwrite(inode, page, nolock ? ext4_get_block_unwritten : ext4_get_block);
      return;
    } catch (e) {
      if (e !== ENOSPC || !(await ext4_should_retry_alloc(inode.i_sb, retries++))) throw e;
    } finally {
      ext4_journal_stop(handle);
    }
  }
}

async function mkwrite_locked(inode: inode, page: page): Promise<number> {
  try {
    await ext4_convert_inline_data(inode);
    const delay = test_opt(inode.i_sb, EXT4_MOUNT_DELALLOC);
    if (delay && !(await ext4_nonda_switch(inode.i_sb))) {
      await block_page_mkwrite(inode, page, ext4_da_get_block_prep);
      return VM_FAULT_LOCKED;
    }
    const ready = await all_mapped(inode, page);
    if (ready) return ready;
    await mkwrite_with_handle(inode, page);
    return VM_FAULT_LOCKED;
  } catch (e) {
    return fault_of(e);
  }
}

/**
 * vm_operations.page_mkwrite: a page of a shared mapping is about to be stored to. Page locked on
 * success.
 */
export async function ext4_page_mkwrite(vmf: vm_fault): Promise<number> {
  const file = vmf.vma.vm_file!;
  const inode = file.f_inode;
  if (inode.i_flags & S_IMMUTABLE) return VM_FAULT_SIGBUS;
  const frozen = sb_start_pagefault(inode.i_sb);
  if (frozen) await frozen;
  try {
    await fault_update_time(file);
    const lock = inode.i_mapping.invalidate_lock;
    const p = lock.down_read();
    if (p) await p;
    try {
      return await mkwrite_locked(inode, vmf.page!);
    } finally {
      lock.up_read();
    }
  } finally {
    sb_end_pagefault(inode.i_sb);
  }
}
