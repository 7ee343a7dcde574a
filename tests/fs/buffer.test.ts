/**
 * tests/fs/buffer.test.ts - buffer heads: a device's blocks, write errors, and the blocks of cached
 * pages.
 */
import { REQ_OP_READ, REQ_OP_WRITE } from "../../kernel/include/blkdev.ts";
import type { block_device } from "../../kernel/include/blkdev.ts";
import { EIO, ENOSPC } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { WB_SYNC_ALL } from "../../kernel/include/fs.ts";
import type { inode, super_block } from "../../kernel/include/fs.ts";
import type { page } from "../../kernel/include/mm_types.ts";
import { S_IFREG } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { insert_inode_hash, new_inode } from "../../kernel/vfs/inode.ts";
import { init_pseudo } from "../../kernel/vfs/super.ts";
import { bdev_rw_bytes } from "../../drivers/block/bio.ts";
import { blkdev_get_by_path, blkdev_put, set_blocksize } from "../../drivers/block/bdev.ts";
import { attach_pmem } from "../../drivers/nvdimm/pmem.ts";
import type { pmem_device } from "../../drivers/nvdimm/pmem.ts";
import { grab_cache_page_write_begin } from "../../mm/filemap.ts";
import { PageDirty, PageUptodate, page_address, put_page, unlock_page } from "../../mm/page.ts";
import { clear_page_dirty_for_io } from "../../mm/page_dirty.ts";
import {
  BH_Delay,
  BH_Mapped,
  BH_New,
  BH_Unwritten,
  BH_Uptodate,
  __find_get_block,
  bdev_buffer_counts,
  bdev_wb_err,
  bforget,
  block_commit_write,
  block_dirty_folio,
  block_invalidate_folio,
  block_read_full_folio,
  block_truncate_page,
  block_write_begin,
  block_write_end,
  block_write_full_page,
  brelse,
  bread_batch,
  buffer_dirty,
  buffer_mapped,
  buffer_uptodate,
  clean_bdev_aliases,
  init_buffer,
  invalidate_bdev,
  invalidate_inode_buffers,
  lock_buffer,
  map_bh,
  mark_buffer_dirty,
  mark_buffer_dirty_inode,
  page_buffers,
  sb_bread,
  sb_getblk,
  set_buffer_uptodate,
  sync_blockdev,
  sync_dirty_buffer,
  sync_mapping_buffers,
  unlock_buffer,
} from "../../fs/buffer.ts";
import type { buffer_head, get_block_t } from "../../fs/buffer.ts";
import { assert, suite } from "../lib/suite.ts";
import { drivers_kernel, MIB } from "../drivers/kernel.ts";

const t = suite("fs/buffer");
const PAGE = 4096;

async function rejects(fn: () => unknown, errno: Errno): Promise<void> {
  let got: unknown = "no error";
  try {
    await fn();
  } catch (err) {
    got = err;
  }
  assert.is(got, errno);
}

interface rig {
  kernel: Kernel;
  pmem: pmem_device;
  bdev: block_device;
  sb: super_block;
}

function make_rig(block = 1024): rig {
  const kernel = drivers_kernel();
  init_buffer(kernel);
  const pmem = attach_pmem(kernel, { size: 16 * MIB });
  const sb = init_pseudo(kernel, "bufferfs", 1);
  const bdev = blkdev_get_by_path(kernel, "pmem0", 3, null);
  sb.s_bdev = bdev;
  sb.s_blocksize = block;
  sb.s_blocksize_bits = Math.log2(block);
  at_once(set_blocksize(bdev, block));
  return { kernel, pmem, bdev, sb };
}

/** What pmem does is done when the call returns. */
function at_once(p: unknown): void {
  assert.is(p, undefined, "pmem answers at once");
}

/** Unlocks a page and lets it go. */
function done_with(p: page): void {
  unlock_page(p);
  put_page(p);
}

const run = <T>(r: rig, fn: () => Promise<T> | T): Promise<T> =>
  Promise.resolve(r.kernel.machine.in_task(r.kernel, "test", fn));

function media(r: rig, pos: number, len: number): Uint8Array {
  const b = new Uint8Array(len);
  at_once(bdev_rw_bytes(r.bdev, REQ_OP_READ, pos - (pos % 512), b, 0, len));
  return b;
}

function put_media(r: rig, pos: number, value: number, len: number): void {
  at_once(bdev_rw_bytes(r.bdev, REQ_OP_WRITE, pos, new Uint8Array(len).fill(value), 0, len));
}

const sync_bread = (r: rig, block: number): buffer_head => {
  const bh = sb_bread(r.sb, block);
  assert.not(bh instanceof Promise, "pmem answers at once");
  return bh as buffer_head;
};

// ---- the device's blocks

t("a block is read once, at once, and its buffer found again", async () => {
  const r = make_rig();
  put_media(r, 5 * 1024, 0x42, 1024);
  await run(r, () => {
    const bh = sync_bread(r, 5);
    assert.is(bh.b_data[1023], 0x42);
    put_media(r, 5 * 1024, 0x43, 1024);
    assert.is(sync_bread(r, 5), bh);
    assert.is(bh.b_data[0], 0x42, "cached");
    assert.is(bh.b_count, 2);
    brelse(bh);
    brelse(bh);
  });
});

t("a change stays in memory until it is synced", async () => {
  const r = make_rig();
  await run(r, async () => {
    const bh = sync_bread(r, 7);
    bh.b_data.fill(1);
    mark_buffer_dirty(bh);
    assert.is(media(r, 7 * 1024, 1024)[0], 0);
    assert.is(bdev_buffer_counts(r.bdev).dirty, 1);
    await sync_dirty_buffer(bh);
    assert.is(media(r, 7 * 1024, 1024)[1023], 1);
    assert.not(buffer_dirty(bh));
    assert.is(bdev_buffer_counts(r.bdev).dirty, 0);
  });
});

t("sync_blockdev writes everything dirty, in order of blocks", async () => {
  const r = make_rig();
  const seen: number[] = [];
  const { submit_bio } = r.pmem.disk;
  r.pmem.disk.submit_bio = (bio) => {
    if (bio.bi_opf & REQ_OP_WRITE) seen.push(bio.bi_sector / 2);
    return submit_bio(bio);
  };
  await run(r, async () => {
    for (const block of [9, 3, 27, 4]) mark_buffer_dirty(sync_bread(r, block));
    await sync_blockdev(r.bdev);
    await sync_blockdev(r.bdev);
  });
  assert.equal(seen, [3, 4, 9, 27]);
});

t("a buffer got without reading must be filled before it counts", async () => {
  const r = make_rig();
  await run(r, async () => {
    const bh = sb_getblk(r.sb, 3);
    assert.not(buffer_uptodate(bh));
    assert.throws(() => mark_buffer_dirty(bh));
    bh.b_data.fill(6);
    set_buffer_uptodate(bh);
    mark_buffer_dirty(bh);
    assert.is(sync_bread(r, 3), bh, "not read over");
    await sync_blockdev(r.bdev);
  });
  assert.is(media(r, 3 * 1024, 1024)[0], 6);
});

t("a bad sector fails the read; the next try reads again", async () => {
  const r = make_rig();
  r.pmem.bb.set(11 * 2, 1);
  await run(r, async () => {
    await rejects(() => sb_bread(r.sb, 11), EIO);
    assert.is(__find_get_block(r.bdev, 11)?.b_count, 0);
    await rejects(() => bread_batch(r.bdev, [10, 11, 12], 1024), EIO);
    assert.is(__find_get_block(r.bdev, 10)?.b_count, 0, "none is kept");
    r.pmem.bb.clear(11 * 2, 1);
    brelse(sync_bread(r, 11));
  });
});

t("a failed write is told to its writer, and to the next to sync the device, once", async () => {
  const r = make_rig();
  await run(r, async () => {
    const bh = sync_bread(r, 20);
    mark_buffer_dirty(bh);
    r.pmem.bb.set(40, 1);
    await rejects(() => sync_dirty_buffer(bh), EIO);
    assert.not(buffer_uptodate(bh));
    assert.is(bdev_wb_err(r.bdev), 1);
    await rejects(() => sync_blockdev(r.bdev), EIO);
    await sync_blockdev(r.bdev);
  });
  assert.ok(r.kernel.dmesg_text().includes("Buffer I/O error on dev pmem0, logical block 20"));
});

t("sync_blockdev writes what it can although a block fails", async () => {
  const r = make_rig();
  await run(r, async () => {
    for (const block of [1, 2, 3]) {
      const bh = sync_bread(r, block);
      bh.b_data.fill(block);
      mark_buffer_dirty(bh);
    }
    r.pmem.bb.set(4, 1);
    await rejects(() => sync_blockdev(r.bdev), EIO);
  });
  assert.is(media(r, 3 * 1024, 1024)[0], 3);
  assert.is(bdev_buffer_counts(r.bdev).dirty, 0);
});

t("a forgotten block is not written", async () => {
  const r = make_rig();
  await run(r, async () => {
    const bh = sync_bread(r, 2);
    bh.b_data.fill(9);
    mark_buffer_dirty(bh);
    bforget(bh);
    await sync_blockdev(r.bdev);
  });
  assert.is(media(r, 2048, 1024)[0], 0);
});

t("a block that became file data is not written over by its old buffer", async () => {
  const r = make_rig();
  await run(r, async () => {
    for (const block of [5, 6, 900]) {
      const bh = sync_bread(r, block);
      bh.b_data.fill(9);
      mark_buffer_dirty(bh);
      brelse(bh);
    }
    await clean_bdev_aliases(r.bdev, 6, 1);
    await clean_bdev_aliases(r.bdev, 700, 10_000);
    await sync_blockdev(r.bdev);
  });
  assert.is(media(r, 5 * 1024, 1024)[0], 9);
  assert.is(media(r, 6 * 1024, 1024)[0], 0);
  assert.is(media(r, 900 * 1024, 1024)[0], 0);
});

t("fsync of an inode writes the buffers tied to it, and no others", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  await run(r, async () => {
    const own = sync_bread(r, 30);
    const other = sync_bread(r, 31);
    for (const bh of [own, other]) bh.b_data.fill(7);
    mark_buffer_dirty_inode(own, inode);
    mark_buffer_dirty(other);
    await sync_mapping_buffers(inode.i_mapping);
    assert.is(media(r, 30 * 1024, 1024)[0], 7);
    assert.is(media(r, 31 * 1024, 1024)[0], 0);
    mark_buffer_dirty_inode(own, inode);
    invalidate_inode_buffers(inode);
    assert.is(own.b_assoc_map, null);
    assert.ok(buffer_dirty(own));
  });
});

t("dropping clean buffers keeps those that are dirty or in use", async () => {
  const r = make_rig();
  await run(r, async () => {
    brelse(sync_bread(r, 1));
    const used = sync_bread(r, 2);
    const dirty = sync_bread(r, 3);
    mark_buffer_dirty(dirty);
    brelse(dirty);
    invalidate_bdev(r.bdev);
    assert.is(__find_get_block(r.bdev, 1), null);
    assert.is(__find_get_block(r.bdev, 2), used);
    assert.is(__find_get_block(r.bdev, 3), dirty);
  });
});

t("another block size writes what is dirty and starts afresh", async () => {
  const r = make_rig();
  await run(r, async () => {
    const bh = sync_bread(r, 4);
    bh.b_data.fill(3);
    mark_buffer_dirty(bh);
    await set_blocksize(r.bdev, 4096);
    r.sb.s_blocksize = 4096;
    assert.is(media(r, 4096, 1024)[0], 3);
    assert.is(sync_bread(r, 1).b_size, 4096);
    assert.is(sync_bread(r, 1).b_data[0], 3);
  });
});

t("the last close of a device writes its buffers", async () => {
  const r = make_rig();
  await run(r, async () => {
    const bh = sync_bread(r, 8);
    bh.b_data.fill(5);
    mark_buffer_dirty(bh);
    await blkdev_put(r.bdev, 3);
  });
  assert.is(media(r, 8 * 1024, 1024)[0], 5);
  assert.equal(bdev_buffer_counts(r.bdev), { cached: 0, dirty: 0 });
});

t("a writer waits for a locked buffer", async () => {
  const r = make_rig();
  const { machine } = r.kernel;
  const order: string[] = [];
  const bh = await run(r, () => sync_bread(r, 1));
  mark_buffer_dirty(bh);
  machine.spawn(r.kernel, "holder", async () => {
    const p = lock_buffer(bh);
    if (p) await p;
    const q = machine.sched.yield();
    if (q) await q;
    order.push("unlocked");
    unlock_buffer(bh);
  });
  machine.spawn(r.kernel, "writer", async () => {
    await sync_dirty_buffer(bh);
    order.push("written");
  });
  await machine.run();
  assert.equal(order, ["unlocked", "written"]);
});

// ---- the blocks of a cached page

function make_inode(r: rig): inode {
  const inode = new_inode(r.sb);
  (inode as { i_ino: number }).i_ino = r.sb.s_inodes.size + 2;
  inode.i_mode = S_IFREG | 0o644;
  inode.i_mapping.a_ops = {
    name: "bufferfs",
    dirty_folio: block_dirty_folio,
    writepages: () => Promise.resolve(),
  };
  insert_inode_hash(inode);
  return inode;
}

/** File block n lies on device block 100 + n; blocks in `holes` are made when `create` says so. */
function toy_get_block(r: rig, holes: Set<number>): get_block_t {
  return (_inode, iblock, bh, create) => {
    if (holes.has(iblock)) {
      if (!create) return undefined;
      holes.delete(iblock);
      bh.b_state |= BH_New;
    }
    map_bh(bh, r.bdev, 100 + iblock);
    return undefined;
  };
}

const state_of = (p: page, bit: number): boolean[] =>
  page_buffers(p).map((bh) => (bh.b_state & bit) !== 0);

async function get_page_locked(inode: inode, index: number): Promise<page> {
  return await grab_cache_page_write_begin(inode.i_mapping, index);
}

const wbc = { nr_to_write: 1, range_start: 0, range_end: 0, sync_mode: WB_SYNC_ALL };

t("a page is read block by block, holes as zeroes", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = PAGE;
  for (const i of [0, 1, 3]) put_media(r, (100 + i) * 1024, 10 + i, 1024);
  await run(r, async () => {
    const p = await get_page_locked(inode, 0);
    await block_read_full_folio(p, toy_get_block(r, new Set([2])));
    assert.ok(PageUptodate(p));
    const view = page_address(p);
    assert.equal([view[0], view[1024], view[2048], view[3072]], [10, 11, 0, 13]);
    assert.equal(state_of(p, BH_Mapped), [true, true, false, true]);
    put_page(p);
  });
});

t("a page with a bad block is an error and not up to date, its good blocks are there", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = PAGE;
  put_media(r, 100 * 1024, 1, 4096);
  r.pmem.bb.set(101 * 2, 2);
  await run(r, async () => {
    const p = await get_page_locked(inode, 0);
    await rejects(() => block_read_full_folio(p, toy_get_block(r, new Set())), EIO);
    assert.not(PageUptodate(p));
    assert.equal(state_of(p, BH_Uptodate), [true, false, true, true]);
    put_page(p);
  });
});

t("a write inside a block reads the rest of it, a whole-block write does not", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = PAGE;
  put_media(r, 100 * 1024, 1, 4096);
  const get_block = toy_get_block(r, new Set());
  await run(r, async () => {
    const p = await block_write_begin(inode.i_mapping, 1024, 1024 + 512, get_block);
    assert.equal(state_of(p, BH_Uptodate), [false, false, true, false]);
    page_address(p).fill(2, 1024, 2560);
    assert.is(block_write_end(p, 1024, 1536, 1536), 1536);
    assert.equal(state_of(p, BH_Uptodate), [false, true, true, false]);
    assert.equal(page_buffers(p).map(buffer_dirty), [false, true, true, false]);
    assert.ok(PageDirty(p));
    assert.not(PageUptodate(p));
    assert.is(page_address(p)[2560], 1, "read in");
    await clear_page_dirty_for_io(p);
    await block_write_full_page(p, get_block, wbc);
  });
  assert.is(media(r, 101 * 1024, 1024)[0], 2);
  assert.is(media(r, 102 * 1024, 1024)[511], 2);
  assert.is(media(r, 102 * 1024, 1024)[512], 1);
});

t("a new block is zeroed around what is written", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  put_media(r, 100 * 1024, 0xee, 4096);
  const get_block = toy_get_block(r, new Set([0, 1, 2, 3]));
  await run(r, async () => {
    const p = await block_write_begin(inode.i_mapping, 100, 10, get_block);
    page_address(p).fill(7, 100, 110);
    block_write_end(p, 100, 10, 10);
    inode.i_size = 110;
    assert.equal(state_of(p, BH_New), [false, false, false, false]);
    await clear_page_dirty_for_io(p);
    await block_write_full_page(p, get_block, wbc);
  });
  const got = media(r, 100 * 1024, 2048);
  assert.equal([got[99], got[100], got[109], got[110], got[1023]], [0, 7, 7, 0, 0]);
  assert.is(got[1024], 0xee, "the next block was never allocated");
});

t("a write that finds no space leaves zeroes in what it had allocated", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = 4 * PAGE;
  const get_block = toy_get_block(r, new Set([8, 9, 10, 11, 12]));
  await run(r, async () => {
    put_media(r, 110 * 1024, 0xcc, 1024);
    const far: get_block_t = (i, iblock, bh, create) => {
      if (iblock === 11) throw ENOSPC;
      return get_block(i, iblock, bh, create);
    };
    await rejects(() => block_write_begin(inode.i_mapping, 3 * PAGE - 2048, 2048, far), ENOSPC);
    const p = await get_page_locked(inode, 2);
    assert.equal(state_of(p, BH_Mapped), [false, false, true, false]);
    assert.ok(buffer_dirty(page_buffers(p)[2]!));
    assert.equal(page_buffers(p)[2]!.b_data, new Uint8Array(1024));
    done_with(p);
  });
});

t("a short copy into a block that was not read counts for nothing", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = PAGE;
  await run(r, async () => {
    const p = await block_write_begin(inode.i_mapping, 0, 1024, toy_get_block(r, new Set()));
    assert.is(block_write_end(p, 0, 1024, 500), 0);
    assert.not(buffer_dirty(page_buffers(p)[0]!));
    done_with(p);
  });
});

t("writeback allocates delayed blocks and zeroes behind the end of the file", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = 1500;
  const get_block = toy_get_block(r, new Set([0, 1, 2, 3]));
  await run(r, async () => {
    const delay: get_block_t = (_inode, _iblock, bh) => {
      bh.b_state |= BH_Delay | BH_Mapped | BH_New;
      return undefined;
    };
    const p = await block_write_begin(inode.i_mapping, 0, PAGE, delay);
    page_address(p).fill(5);
    block_commit_write(p, 0, PAGE);
    await clear_page_dirty_for_io(p);
    await block_write_full_page(p, get_block, wbc);
    assert.equal(state_of(p, BH_Delay), [false, false, true, true]);
  });
  const got = media(r, 100 * 1024, 4096);
  assert.equal([got[0], got[1499], got[1500], got[2047], got[2048]], [5, 5, 0, 0, 0]);
});

t("invalidating part of a page forgets its whole blocks only", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = PAGE;
  await run(r, async () => {
    const p = await block_write_begin(inode.i_mapping, 0, PAGE, toy_get_block(r, new Set()));
    block_commit_write(p, 0, PAGE);
    block_invalidate_folio(p, 1500, PAGE - 1500);
    assert.equal(page_buffers(p).map(buffer_mapped), [true, true, false, false]);
    assert.equal(page_buffers(p).map(buffer_dirty), [true, true, false, false]);
    block_invalidate_folio(p, 0, PAGE);
    assert.is(p.private, null);
    assert.not(PageDirty(p));
    done_with(p);
  });
});

t("truncation zeroes the tail of its block in the cache and dirties it", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = PAGE;
  put_media(r, 100 * 1024, 4, 4096);
  const get_block = toy_get_block(r, new Set([3]));
  await run(r, async () => {
    await block_truncate_page(inode.i_mapping, 2048, get_block);
    assert.is(inode.i_mapping.nrpages, 0, "on a block boundary nothing is done");
    await block_truncate_page(inode.i_mapping, 1024 + 100, get_block);
    await block_truncate_page(inode.i_mapping, 3072 + 100, get_block);
    const p = await get_page_locked(inode, 0);
    const view = page_address(p);
    assert.equal([view[1024], view[1123], view[1124], view[2047]], [4, 4, 0, 0]);
    assert.equal(page_buffers(p).map(buffer_dirty), [false, true, false, false]);
    assert.ok(PageDirty(p));
    done_with(p);
  });
});

t("blocks that are unwritten are not read", async () => {
  const r = make_rig();
  const inode = make_inode(r);
  inode.i_size = PAGE;
  put_media(r, 100 * 1024, 0xdd, 1024);
  const unwritten: get_block_t = (_inode, iblock, bh) => {
    map_bh(bh, r.bdev, 100 + iblock);
    bh.b_state |= BH_Unwritten | BH_New;
    return undefined;
  };
  await run(r, async () => {
    const p = await block_write_begin(inode.i_mapping, 10, 10, unwritten);
    assert.is(page_address(p)[0], 0);
    assert.is(page_address(p)[1000], 0);
    done_with(p);
  });
});

t.run();
