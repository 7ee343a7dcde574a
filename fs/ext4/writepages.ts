/**
 * fs/ext4/writepages.ts - writing dirty pages back: choosing blocks for delayed ones, the IO, and
 * what must happen after it. Linux: ext4_writepages() in fs/ext4/inode.c, fs/ext4/page-io.c.
 * Differs: IO is done when it is submitted, so a round is finished before the next begins.
 *
 * A round: lock dirty pages one behind the other as long as their delayed or unwritten blocks form
 * one run of at most 2048; map the run (one allocation, one extent); give the buffers their places;
 * write the pages that are whole then; convert what was unwritten; end writeback. A page that has
 * several runs is finished in its round. Pages that need no mapping are written as they come.
 *
 * Lock order: s_writepages_rwsem, handle, page locks, i_data_sem.
 */
import { submit_bio } from "../../drivers/block/bio.ts";
import { type bio, REQ_OP_WRITE, REQ_SYNC } from "../../kernel/include/blkdev.ts";
import { EIO, ENOSPC, EROFS, type Errno, is_errno } from "../../kernel/include/errno.ts";
import {
  type inode,
  LLONG_MAX,
  type super_block,
  WB_SYNC_ALL,
  WB_SYNC_NONE,
  type writeback_control,
} from "../../kernel/include/fs.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import { xa_marked } from "../../kernel/lib/xarray.ts";
import { cond_resched } from "../../kernel/sched/core.ts";
import {
  mapping_set_error,
  PAGECACHE_TAG_DIRTY,
  PAGECACHE_TAG_TOWRITE,
} from "../../mm/address_space.ts";
import { filemap_flush } from "../../mm/filemap.ts";
import { find_get_pages_tag } from "../../mm/filemap/lookup.ts";
import {
  ClearPageUptodate,
  lock_page,
  page_address,
  PageDirty,
  PageWriteback,
  put_page,
  unlock_page,
  wait_on_page_writeback,
} from "../../mm/page.ts";
import { tag_pages_for_writeback } from "../../mm/page-writeback.ts";
import {
  cancel_dirty_page,
  clear_page_dirty_for_io,
  end_page_writeback,
  set_page_writeback,
} from "../../mm/page_dirty.ts";
import {
  BH_Delay,
  BH_Dirty,
  BH_Unwritten,
  BH_Uptodate,
  BH_Write_EIO,
  block_dirty_folio,
  block_invalidate_folio,
  block_release_folio,
  buffer_delay,
  type buffer_head,
  buffer_dirty,
  buffer_mapped,
  map_bh,
  page_buffers,
  page_has_buffers,
} from "../buffer.ts";
import { writeback_inodes_sb } from "../fs-writeback.ts";
import { ext4_convert_unwritten_extents } from "./convert.ts";
import { ext4_es_drop } from "./da_reserve.ts";
import {
  EXT4_C2B,
  EXT4_GET_BLOCKS_CREATE,
  EXT4_GET_BLOCKS_DELALLOC_RESERVE,
  EXT4_GET_BLOCKS_IO_CREATE_EXT,
  EXT4_GET_BLOCKS_IO_SUBMIT,
  EXT4_GET_BLOCKS_METADATA_NOFAIL,
  EXT4_I,
  EXT4_MAP_UNWRITTEN,
  EXT4_MF_FS_ABORTED,
  EXT4_SB,
  ext4_forced_shutdown,
  ext4_msg,
  ext4_warning_inode,
  KERN_CRIT,
  new_map,
} from "./ext4_fs.ts";
import {
  EXT4_DATA_TRANS_BLOCKS,
  EXT4_HT_INODE,
  EXT4_HT_WRITE_PAGE,
  ext4_journal_start,
  ext4_journal_stop,
  type handle_t,
} from "./ext4_jbd2.ts";
import { ext4_destroy_inline_data } from "./inline_write.ts";
import { ext4_has_inline_data, ext4_map_blocks } from "./inode.ts";
import { ext4_mark_inode_dirty } from "./inode_write.ts";
import { ext4_mb_discard_all } from "./mballoc.ts";
import { ext4_should_dioread_nolock } from "./write_begin.ts";

/** Blocks that one round maps at most. */
const MAX_WRITEPAGES_EXTENT_LEN = 2048;
const BATCH = 16;
const STATE = BH_Delay | BH_Unwritten;

/** A run of blocks in the same state, waiting to be mapped. len 0: none. */
interface run {
  lblk: number;
  len: number;
  state: number;
}

/** One call of ext4_writepages. */
interface mpage {
  readonly inode: inode;
  readonly wbc: writeback_control;
  readonly tag: number;
  /** Next page to look at, and the last one. */
  index: number;
  readonly last: number;
  /** Pages of this round: locked, with a reference, in order, without gaps. */
  pages: page[];
  run: run;
  /** The last page looked at does not go on in the run: the round ends before its end. */
  full: boolean;
  handle: handle_t | null;
  /** Pages under writeback, to be ended when their round is done. */
  submitted: page[];
  /** Byte ranges to be converted after the IO. */
  unwritten: { offset: number; size: number }[];
}

const per_page = (inode: inode): number => inode.kernel.PAGE_SIZE / inode.i_sb.s_blocksize;
const end_block = (inode: inode): number => Math.ceil(inode.i_size / inode.i_sb.s_blocksize);

// --- the IO -------------------------------------------------------------------------------------

/** Neighbouring buffers that are neighbours on the device too go in one bio. */
async function write_buffers(m: mpage, list: readonly buffer_head[]): Promise<Errno | null> {
  let failure: Errno | null = null;
  const opf = REQ_OP_WRITE | (m.wbc.sync_mode === WB_SYNC_ALL ? REQ_SYNC : 0);
  for (let i = 0; i < list.length; ) {
    const first = list[i]!;
    let n = 1;
    while (i + n < list.length && list[i + n]!.b_blocknr === first.b_blocknr + n) n++;
    const run = list.slice(i, i + n);
    const bio: bio = {
      bi_bdev: first.b_bdev!,
      bi_opf: opf,
      bi_sector: first.b_blocknr * (first.b_size / 512),
      bi_io_vec: run.map((bh) => ({ bytes: bh.b_data, offset: 0, len: bh.b_size })),
    };
    try {
      const p = submit_bio(bio);
      if (p) await p;
    } catch (e) {
      if (!is_errno(e)) throw e;
      failure ??= e;
      for (const bh of run) bh.b_state |= BH_Write_EIO;
    }
    i += n;
  }
  return failure;
}

/** Writes a page that is whole: every dirty block has its place. Locked before, unlocked after. */
async function submit_page(m: mpage, page: page): Promise<void> {
  const { inode, wbc } = m;
  await clear_page_dirty_for_io(page);
  const start = page.index * inode.kernel.PAGE_SIZE;
  const view = page_address(page);
  const len = Math.min(view.length, inode.i_size - start);
  // what a mapping stored behind the end is not part of the file
  view.fill(0, Math.max(0, len));
  const list: buffer_head[] = [];
  let at = 0;
  for (const bh of page_buffers(page)) {
    if (at >= len || !buffer_mapped(bh)) bh.b_state &= ~BH_Dirty;
    else if (buffer_dirty(bh) && !(bh.b_state & STATE)) {
      bh.b_state &= ~BH_Dirty;
      list.push(bh);
    }
    if (at >= len) bh.b_state |= BH_Uptodate;
    at += bh.b_size;
  }
  wbc.nr_to_write--;
  set_page_writeback(page);
  unlock_page(page);
  m.submitted.push(page);
  const failure = await write_buffers(m, list);
  if (failure) {
    mapping_set_error(inode.i_mapping, EIO);
    const text = `I/O error writing page ${page.index}`;
    ext4_warning_inode(inode, "ext4_end_bio", text);
  }
}

/** After the IO of a round: unwritten blocks hold data now, then the pages may change again. */
async function finish_round(m: mpage): Promise<void> {
  const todo = m.unwritten;
  const pages = m.submitted;
  m.unwritten = [];
  m.submitted = [];
  try {
    for (const u of todo) await ext4_convert_unwritten_extents(m.inode, u.offset, u.size);
  } catch (e) {
    if (!is_errno(e)) throw e;
    mapping_set_error(m.inode.i_mapping, e);
  } finally {
    for (const p of pages) {
      end_page_writeback(p);
      put_page(p);
    }
  }
}

// --- collecting a run ---------------------------------------------------------------------------

const needs_mapping = (bh: buffer_head): boolean =>
  buffer_dirty(bh) && buffer_mapped(bh) && (bh.b_state & STATE) !== 0;

/** Takes the block into the run; false when it cannot: then the run is complete. */
function add_to_run(r: run, lblk: number, bh: buffer_head): boolean {
  if (!needs_mapping(bh)) return r.len === 0;
  const state = bh.b_state & STATE;
  if (r.len === 0) {
    r.lblk = lblk;
    r.len = 1;
    r.state = state;
    return true;
  }
  const goes_on = lblk === r.lblk + r.len && state === r.state;
  if (!goes_on || r.len >= MAX_WRITEPAGES_EXTENT_LEN) return false;
  r.len++;
  return true;
}

/** The blocks of a page from number `from` on go into the run. False: the run ends in this page. */
function collect(m: mpage, page: page, from: number): boolean {
  const base = page.index * per_page(m.inode);
  const end = end_block(m.inode);
  const list = page_buffers(page);
  for (let i = from; i < list.length; i++) {
    const lblk = base + i;
    if (lblk >= end) break;
    if (!add_to_run(m.run, lblk, list[i]!)) return false;
  }
  return true;
}

/** Locks a page found by its mark; false when there is nothing to write in it. */
async function lock_for_write(m: mpage, page: page): Promise<boolean> {
  const p = lock_page(page);
  if (p) await p;
  const none = m.wbc.sync_mode === WB_SYNC_NONE;
  const ours = page.mapping === m.inode.i_mapping;
  if (!ours || !PageDirty(page) || (PageWriteback(page) && none)) {
    unlock_page(page);
    return false;
  }
  const w = wait_on_page_writeback(page);
  if (w) await w;
  if (page_has_buffers(page)) return true;
  const text = `page ${page.index} does not have buffers attached`;
  ext4_warning_inode(m.inode, "mpage_prepare_extent_to_map", text);
  cancel_dirty_page(page);
  unlock_page(page);
  return false;
}

/** One page into the round. False: the round is complete (the page may be part of it). */
async function take_page(m: mpage, page: page): Promise<boolean> {
  if (!(await lock_for_write(m, page))) {
    put_page(page);
    m.index = page.index + 1;
    return true;
  }
  const goes_on = collect(m, page, 0);
  if (m.run.len === 0) {
    m.index = page.index + 1;
    await submit_page(m, page);
    return true;
  }
  m.pages.push(page);
  return goes_on;
}

/** Collects the pages of a round. True: the end of the range was reached. */
async function prepare_run(m: mpage): Promise<boolean> {
  const mapping = m.inode.i_mapping;
  m.run = { lblk: 0, len: 0, state: 0 };
  let index = m.index;
  for (;;) {
    const found = find_get_pages_tag(mapping, index, m.last, m.tag, BATCH);
    if (found.length === 0) return true;
    let stop = false;
    for (const page of found) {
      const behind = m.pages.at(-1);
      if (!stop && m.wbc.sync_mode === WB_SYNC_NONE) stop = m.wbc.nr_to_write <= m.pages.length;
      // a page that does not follow the last one cannot go on with its run
      if (!stop && behind && page.index !== behind.index + 1) stop = true;
      if (stop) {
        put_page(page);
        continue;
      }
      index = page.index + 1;
      stop = !(await take_page(m, page));
    }
    if (stop) return false;
    const p = cond_resched(mapping.kernel);
    if (p) await p;
  }
}

// --- mapping it ---------------------------------------------------------------------------------

/** Asks for the run. Returns how many blocks of it have places now. */
async function map_run(m: mpage, map: ReturnType<typeof new_map>): Promise<number> {
  let flags = EXT4_GET_BLOCKS_CREATE | EXT4_GET_BLOCKS_METADATA_NOFAIL | EXT4_GET_BLOCKS_IO_SUBMIT;
  const nolock = ext4_should_dioread_nolock(m.inode);
  if (nolock) flags |= EXT4_GET_BLOCKS_IO_CREATE_EXT;
  if (m.run.state & BH_Delay) flags |= EXT4_GET_BLOCKS_DELALLOC_RESERVE;
  const n = await ext4_map_blocks(m.handle, m.inode, map, flags);
  if (nolock && map.m_flags & EXT4_MAP_UNWRITTEN) {
    const size = m.inode.i_sb.s_blocksize;
    m.unwritten.push({ offset: map.m_lblk * size, size: n * size });
  }
  return n;
}

/**
 * Gives the buffers of [lblk, lblk + len) their places and writes the pages that are whole then.
 * When the run ends within a page, what is left of that page becomes the next run.
 */
async function place_and_submit(m: mpage, lblk: number, len: number, pblk: number): Promise<void> {
  const per = per_page(m.inode);
  const bdev = m.inode.i_sb.s_bdev!;
  const end = lblk + len;
  m.run = { lblk: 0, len: 0, state: 0 };
  while (m.pages.length > 0) {
    const page = m.pages[0]!;
    const base = page.index * per;
    if (base >= end) return;
    const list = page_buffers(page);
    for (let i = Math.max(0, lblk - base); i < Math.min(per, end - base); i++) {
      const bh = list[i]!;
      if (buffer_delay(bh)) map_bh(bh, bdev, pblk + (base + i - lblk));
      bh.b_state &= ~STATE;
    }
    if (end < base + per) {
      collect(m, page, end - base);
      if (m.run.len > 0) return;
    }
    m.pages.shift();
    m.index = page.index + 1;
    await submit_page(m, page);
  }
}

/** i_disksize covers the pages that are on their way. */
async function update_disksize(m: mpage): Promise<void> {
  const { inode } = m;
  const ei = EXT4_I(inode);
  const written = m.index * inode.kernel.PAGE_SIZE;
  if (Math.min(written, inode.i_size) <= ei.i_disksize) return;
  const p = ei.i_data_sem.down_write();
  if (p) await p;
  ei.i_disksize = Math.max(ei.i_disksize, Math.min(written, inode.i_size));
  ei.i_data_sem.up_write();
  await ext4_mark_inode_dirty(m.handle!, inode);
}

function log_lost(m: mpage, error: Errno): void {
  const sb = m.inode.i_sb;
  const sbi = EXT4_SB(sb);
  ext4_msg(
    sb,
    KERN_CRIT,
    `Delayed block allocation failed for inode ${m.inode.i_ino} at logical offset ${m.run.lblk} ` +
      `with max blocks ${m.run.len} with error ${error.errno}`,
  );
  ext4_msg(sb, KERN_CRIT, "This should not happen!! Data will be lost\n");
  if (error !== ENOSPC) return;
  const free = EXT4_C2B(sbi, sbi.s_freeclusters_counter);
  ext4_msg(sb, KERN_CRIT, `Total free blocks count ${free}`);
  ext4_msg(sb, KERN_CRIT, "Free/Dirty block details");
  ext4_msg(sb, KERN_CRIT, `free_blocks=${free}`);
  ext4_msg(sb, KERN_CRIT, `dirty_blocks=${EXT4_C2B(sbi, sbi.s_dirtyclusters_counter)}`);
  ext4_msg(sb, KERN_CRIT, "Block reservation details");
  const reserved = EXT4_I(m.inode).i_reserved_data_blocks;
  ext4_msg(sb, KERN_CRIT, `i_reserved_data_blocks=${reserved}`);
}

/** No hope of ever writing the pages of this round: their data and what was promised for it go. */
async function give_up(m: mpage): Promise<void> {
  const first = m.pages[0];
  if (!first) return;
  const per = per_page(m.inode);
  const sem = EXT4_I(m.inode).i_data_sem;
  const p = sem.down_write();
  if (p) await p;
  ext4_es_drop(m.inode, first.index * per, m.pages.length * per);
  sem.up_write();
  for (const page of m.pages) {
    await clear_page_dirty_for_io(page);
    block_invalidate_folio(page, 0, page_address(page).length);
    ClearPageUptodate(page);
  }
  m.index = m.pages.at(-1)!.index + 1;
}

function is_hopeless(m: mpage, e: Errno): boolean {
  const sbi = EXT4_SB(m.inode.i_sb);
  if (ext4_forced_shutdown(sbi) || sbi.s_mount_flags & EXT4_MF_FS_ABORTED) return true;
  if (e === ENOSPC && sbi.s_freeclusters_counter > 0) return false;
  log_lost(m, e);
  return true;
}

/** Maps the run and whatever its last page needs, and writes it all. */
async function map_and_submit(m: mpage): Promise<void> {
  let progress = false;
  try {
    while (m.run.len > 0) {
      const map = new_map(m.run.lblk, m.run.len);
      let n: number;
      try {
        n = await map_run(m, map);
      } catch (e) {
        if (!is_errno(e)) throw e;
        if (is_hopeless(m, e)) await give_up(m);
        throw e;
      }
      progress = true;
      await place_and_submit(m, map.m_lblk, n, map.m_pblk);
    }
  } finally {
    if (progress) await update_disksize(m);
  }
}

function release_pages(m: mpage): void {
  for (const p of m.pages) {
    unlock_page(p);
    put_page(p);
  }
  m.pages = [];
}

/** One round. True: the range is done. */
async function one_round(m: mpage): Promise<boolean> {
  const { inode } = m;
  m.handle = await ext4_journal_start(inode, EXT4_HT_WRITE_PAGE, EXT4_DATA_TRANS_BLOCKS);
  let done: boolean;
  try {
    done = await prepare_run(m);
    if (m.run.len > 0) {
      const last = m.pages.at(-1)!.index;
      await map_and_submit(m);
      // an allocation that came short leaves pages for the next round
      done = done && m.index > last;
    }
  } finally {
    ext4_journal_stop(m.handle);
    m.handle = null;
    release_pages(m);
    await finish_round(m);
  }
  return done;
}

async function write_range(m: mpage): Promise<void> {
  const { inode, wbc } = m;
  const tagged = wbc.sync_mode === WB_SYNC_ALL;
  if (tagged) tag_pages_for_writeback(inode.i_mapping, m.index, m.last);
  for (let failures = 0; wbc.nr_to_write > 0; ) {
    try {
      if (await one_round(m)) return;
      failures = 0;
    } catch (e) {
      // others may hold runs aside: ask again when that frees something
      if (e !== ENOSPC || failures++ >= 3) throw e;
      if (!(await ext4_mb_discard_all(inode.i_sb))) throw e;
    }
  }
}

function new_mpage(inode: inode, wbc: writeback_control, first: number, last: number): mpage {
  return {
    inode,
    wbc,
    tag: wbc.sync_mode === WB_SYNC_ALL ? PAGECACHE_TAG_TOWRITE : PAGECACHE_TAG_DIRTY,
    index: first,
    last,
    pages: [],
    run: { lblk: 0, len: 0, state: 0 },
    full: false,
    handle: null,
    submitted: [],
    unwritten: [],
  };
}

async function drop_inline_form(inode: inode): Promise<void> {
  const handle = await ext4_journal_start(inode, EXT4_HT_INODE, 1);
  try {
    await ext4_destroy_inline_data(handle, inode);
  } finally {
    ext4_journal_stop(handle);
  }
}

async function write_mapping(mapping: address_space, wbc: writeback_control): Promise<void> {
  const inode = mapping.host;
  if (!xa_marked(mapping.i_pages, PAGECACHE_TAG_DIRTY)) return;
  if (EXT4_SB(inode.i_sb).s_mount_flags & EXT4_MF_FS_ABORTED) throw EROFS;
  if (ext4_has_inline_data(inode)) await drop_inline_form(inode);
  const size = mapping.kernel.PAGE_SIZE;
  const cyclic = wbc.range_cyclic === true;
  const begin = cyclic ? mapping.writeback_index : Math.floor(wbc.range_start / size);
  const end = cyclic ? Number.MAX_SAFE_INTEGER : Math.floor(wbc.range_end / size);
  const m = new_mpage(inode, wbc, begin, end);
  await write_range(m);
  if (cyclic && begin > 0 && wbc.nr_to_write > 0) {
    await write_range(new_mpage(inode, wbc, 0, begin - 1));
  }
  const whole = wbc.range_start === 0 && wbc.range_end >= LLONG_MAX;
  if (cyclic || (whole && wbc.nr_to_write > 0)) mapping.writeback_index = m.index;
}

/**
 * address_space_operations.writepages. @throws EIO, EROFS, ENOSPC (data is lost when nothing is
 * free)
 */
export async function ext4_writepages(
  mapping: address_space,
  wbc: writeback_control,
): Promise<void> {
  const sbi = EXT4_SB(mapping.host.i_sb);
  if (ext4_forced_shutdown(sbi)) throw EIO;
  const p = sbi.s_writepages_rwsem.down_read();
  if (p) await p;
  try {
    await write_mapping(mapping, wbc);
  } finally {
    sbi.s_writepages_rwsem.up_read();
  }
}

/** Delayed blocks of a file get their places now (the IO goes with it). */
export async function ext4_alloc_da_blocks(inode: inode): Promise<void> {
  if (EXT4_I(inode).i_reserved_data_blocks > 0) await filemap_flush(inode.i_mapping);
}

/** Space is getting low: writes dirty files so that promises become allocations. */
export async function ext4_writeback_for_space(sb: super_block): Promise<void> {
  if (!sb.s_umount.down_read_trylock()) return;
  try {
    await writeback_inodes_sb(sb);
  } finally {
    sb.s_umount.up_read();
  }
}

export function ext4_dirty_folio(mapping: address_space, page: page): boolean {
  return block_dirty_folio(mapping, page);
}
export function ext4_invalidate_folio(page: page, offset: number, len: number): void {
  block_invalidate_folio(page, offset, len);
}
export function ext4_release_folio(page: page): boolean {
  return block_release_folio(page);
}
