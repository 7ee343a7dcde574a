/**
 * tests/fs/iomap.test.ts - the iterator's rules, fiemap, seek, direct IO, swap files over a toy
 * block map.
 */
import { EBADR, EFBIG, EINVAL, EIO, ENOSPC, ENOTBLK, ENXIO } from "../../kernel/include/errno.ts";
import type { Errno } from "../../kernel/include/errno.ts";
import { FIEMAP_EXTENT_LAST, FIEMAP_EXTENT_UNWRITTEN, S_DAX } from "../../kernel/include/fs.ts";
import type { Sometime, fiemap_extent_info, file, inode } from "../../kernel/include/fs.ts";
import { IOMAP_F_STALE, IOMAP_MAPPED, IOMAP_UNWRITTEN } from "../../kernel/include/iomap.ts";
import type { iomap, iomap_ops } from "../../kernel/include/iomap.ts";
import { new_iov_iter_bytes } from "../../mm/iov_iter.ts";
import {
  iomap_bmap,
  iomap_dio_rw,
  iomap_fiemap,
  iomap_iter,
  iomap_iter_get,
  iomap_iter_put,
  iomap_length,
  iomap_seek_data,
  iomap_seek_hole,
  iomap_swapfile_activate,
  iomap_walk,
} from "../../fs/iomap.ts";
import { assert, suite } from "../lib/suite.ts";
import {
  MIB,
  PAGE,
  add_extent,
  as_user,
  make_file,
  make_testfs,
  test_iomap_ops,
} from "./testfs.ts";
import type { testfs } from "./testfs.ts";

const t = suite("fs/iomap");

async function rejects(fn: () => unknown, errno: Errno): Promise<void> {
  let got: unknown = "no error";
  try {
    await fn();
  } catch (err) {
    got = err;
  }
  assert.is(got, errno);
}

/** A block map of pieces of 10 bytes that tells what it is asked. */
function ten_byte_ops(log: string[], over: Partial<iomap_ops> = {}): iomap_ops {
  return {
    iomap_begin(_inode: inode, pos: number, len: number, _flags: number, m: iomap) {
      m.offset = pos - (pos % 10);
      m.length = 10;
      m.type = IOMAP_MAPPED;
      m.addr = 1000 + m.offset;
      log.push(`begin ${pos}+${len}`);
    },
    iomap_end(_inode: inode, pos: number, len: number, written: number) {
      log.push(`end ${pos}+${len}=${written}`);
    },
    ...over,
  };
}

const some_inode = (fs: testfs): inode => make_file(fs).f_inode;

t("the walk ends each mapping with what was done of it before it begins the next", async () => {
  const fs = make_testfs();
  const log: string[] = [];
  const at = await iomap_walk(some_inode(fs), 5, 20, 0, ten_byte_ops(log), iomap_length);
  assert.is(at, 25);
  assert.equal(log, [
    "begin 5+20",
    "end 5+5=5",
    "begin 10+15",
    "end 10+10=10",
    "begin 20+5",
    "end 20+5=5",
  ]);
});

t("an actor that does nothing ends the walk, one that does part goes on from there", async () => {
  const fs = make_testfs();
  const log: string[] = [];
  let first = true;
  const at = await iomap_walk(some_inode(fs), 0, 20, 0, ten_byte_ops(log), () => {
    if (!first) return 0;
    first = false;
    return 3;
  });
  assert.is(at, 3);
  assert.equal(log, ["begin 0+20", "end 0+10=3", "begin 3+17", "end 3+7=0"]);
});

t("the actor's error comes out after iomap_end has heard of nothing done", async () => {
  const fs = make_testfs();
  const log: string[] = [];
  const fail = (): never => {
    throw ENOSPC;
  };
  await rejects(() => iomap_walk(some_inode(fs), 0, 20, 0, ten_byte_ops(log), fail), ENOSPC);
  assert.equal(log, ["begin 0+20", "end 0+10=0"]);
});

t("an error of iomap_end counts only when nothing was done", async () => {
  const fs = make_testfs();
  const ops = ten_byte_ops([], {
    iomap_end: () => {
      throw ENOTBLK;
    },
  });
  const inode = some_inode(fs);
  assert.is(await iomap_walk(inode, 0, 20, 0, ops, iomap_length), 20);
  await rejects(() => iomap_walk(inode, 0, 20, 0, ops, () => 0), ENOTBLK);
  const fail = (): never => {
    throw EIO;
  };
  await rejects(() => iomap_walk(inode, 0, 20, 0, ops, fail), EIO);
});

t("a stale mapping is asked for again although nothing was done", async () => {
  const fs = make_testfs();
  const log: string[] = [];
  let stale = true;
  await iomap_walk(some_inode(fs), 0, 10, 0, ten_byte_ops(log), (iter) => {
    if (!stale) return 10;
    stale = false;
    iter.iomap.flags |= IOMAP_F_STALE;
    return 0;
  });
  assert.equal(log, ["begin 0+10", "end 0+10=0", "begin 0+10", "end 0+10=10"]);
});

t("more processed than mapped is EIO", async () => {
  const fs = make_testfs();
  await rejects(() => iomap_walk(some_inode(fs), 0, 20, 0, ten_byte_ops([]), () => 11), EIO);
});

t("a mapping that misses the position is our own bug, not an errno", async () => {
  const fs = make_testfs();
  const ops = ten_byte_ops([], {
    iomap_begin(_i: inode, pos: number, _l: number, _f: number, m: iomap) {
      m.offset = pos + 10;
      m.length = 10;
    },
  });
  await assert.rejects(() => iomap_walk(some_inode(fs), 0, 20, 0, ops, iomap_length));
});

t("a filesystem that answers at once makes no promise, and iterators are used again", () => {
  const fs = make_testfs();
  const inode = some_inode(fs);
  const ops = ten_byte_ops([]);
  const iter = iomap_iter_get(inode, 0, 10, 0);
  assert.is(iomap_iter(iter, ops), true);
  iter.processed = 10;
  assert.is(iomap_iter(iter, ops), false);
  iomap_iter_put(iter);
  assert.is(iomap_iter_get(inode, 5, 5, 0), iter);
  assert.is(iter.iomap.length, 0);
});

// ---- reports

function patchwork(fs: testfs): file {
  const f = make_file(fs, 20 * PAGE);
  add_extent(fs, f, 0, 2 * PAGE);
  add_extent(fs, f, 4 * PAGE, 2 * PAGE, IOMAP_UNWRITTEN);
  add_extent(fs, f, 6 * PAGE, PAGE);
  return f;
}

const info = (max = 100, flags = 0): fiemap_extent_info => ({
  fi_flags: flags,
  fi_extents_max: max,
  fi_extents_mapped: 0,
  fi_extents: [],
});

t("fiemap tells extents, not holes, and marks the last", async () => {
  const fs = make_testfs();
  const f = patchwork(fs);
  const fi = info();
  await as_user(fs, () => iomap_fiemap(f.f_inode, fi, 0, 100 * PAGE, test_iomap_ops(fs)));
  assert.equal(
    fi.fi_extents.map((e) => [e.fe_logical / PAGE, e.fe_length / PAGE, e.fe_flags]),
    [
      [0, 2, 0],
      [4, 2, FIEMAP_EXTENT_UNWRITTEN],
      [6, 1, FIEMAP_EXTENT_LAST],
    ],
  );
});

t("fiemap stops at what fits, and only counts when asked for no extents", async () => {
  const fs = make_testfs();
  const f = patchwork(fs);
  const two = info(2);
  const count = info(0);
  await as_user(fs, async () => {
    await iomap_fiemap(f.f_inode, two, 0, 100 * PAGE, test_iomap_ops(fs));
    await iomap_fiemap(f.f_inode, count, 0, 100 * PAGE, test_iomap_ops(fs));
  });
  assert.is(two.fi_extents.length, 2);
  assert.is(two.fi_extents[1]!.fe_flags & FIEMAP_EXTENT_LAST, 0);
  assert.equal([count.fi_extents_mapped, count.fi_extents.length], [3, 0]);
});

t("fiemap refuses no length, a start out of range, and flags it does not know", async () => {
  const fs = make_testfs();
  const f = patchwork(fs);
  const ops = test_iomap_ops(fs);
  fs.sb.s_maxbytes = 16 * MIB;
  const strange = info(10, 0x40);
  await as_user(fs, async () => {
    await rejects(() => iomap_fiemap(f.f_inode, info(), 0, 0, ops), EINVAL);
    await rejects(() => iomap_fiemap(f.f_inode, info(), 17 * MIB, 1, ops), EFBIG);
    await rejects(() => iomap_fiemap(f.f_inode, strange, 0, 1, ops), EBADR);
  });
  assert.is(strange.fi_flags, 0x40);
});

t("bmap gives the device block of written blocks and 0 for the rest", async () => {
  const fs = make_testfs();
  const f = patchwork(fs);
  const ops = test_iomap_ops(fs);
  await as_user(fs, async () => {
    assert.is(await iomap_bmap(f.f_mapping, 1, ops), 1);
    assert.is(await iomap_bmap(f.f_mapping, 3, ops), 0);
    assert.is(await iomap_bmap(f.f_mapping, 4, ops), 0);
    assert.is(await iomap_bmap(f.f_mapping, 6, ops), 4);
  });
});

t("SEEK_DATA and SEEK_HOLE find the ends of extents; unwritten ones are holes", async () => {
  const fs = make_testfs();
  const f = patchwork(fs);
  const ops = test_iomap_ops(fs);
  const { f_inode: i } = f;
  await as_user(fs, async () => {
    assert.is(await iomap_seek_data(i, 0, ops), 0);
    assert.is(await iomap_seek_data(i, 100, ops), 100);
    assert.is(await iomap_seek_hole(i, 100, ops), 2 * PAGE);
    assert.is(await iomap_seek_data(i, 2 * PAGE, ops), 6 * PAGE);
    assert.is(await iomap_seek_hole(i, 5 * PAGE, ops), 5 * PAGE);
    assert.is(await iomap_seek_hole(i, 6 * PAGE, ops), 7 * PAGE);
    await rejects(() => iomap_seek_data(i, 7 * PAGE, ops), ENXIO);
    await rejects(() => iomap_seek_hole(i, 20 * PAGE, ops), ENXIO);
    await rejects(() => iomap_seek_data(i, -1, ops), ENXIO);
    i.i_size = 7 * PAGE - 5;
    assert.is(await iomap_seek_hole(i, 6 * PAGE, ops), 7 * PAGE - 5);
  });
});

// ---- direct IO

function dio_file(fs: testfs, size: number): file {
  const f = make_file(fs, size);
  f.f_inode.i_flags &= ~S_DAX;
  return f;
}

function dio(
  fs: testfs,
  f: file,
  pos: number,
  buf: Uint8Array,
  write: boolean,
  end_io?: (size: number, err: Errno | null) => void,
): Sometime<number> {
  const iter = new_iov_iter_bytes(fs.kernel, write, [buf]);
  const iocb = { ki_filp: f, ki_pos: pos, ki_flags: 0 };
  const dops = end_io && {
    end_io: (_k: unknown, size: number, err: Errno | null) => end_io(size, err),
  };
  return iomap_dio_rw(iocb, iter, test_iomap_ops(fs), dops ?? null);
}

t("direct IO moves sectors, and bytes that no sector holds are refused", async () => {
  const fs = make_testfs();
  const f = dio_file(fs, 4 * PAGE);
  add_extent(fs, f, 0, 4 * PAGE);
  const data = new Uint8Array(1024).fill(7);
  const back = new Uint8Array(1024);
  await as_user(fs, async () => {
    assert.is(await dio(fs, f, 512, data, true), 1024);
    assert.is(await dio(fs, f, 512, back, false), 1024);
    assert.equal(back, data);
    await rejects(() => dio(fs, f, 100, data, true), EINVAL);
    await rejects(() => dio(fs, f, 512, new Uint8Array(1000), true), EINVAL);
    assert.is(await dio(fs, f, 4 * PAGE, back, false), 0);
  });
});

t("a direct read ends at the end of the file and reads holes as zeroes", async () => {
  const fs = make_testfs();
  const f = dio_file(fs, 2 * PAGE + 100);
  add_extent(fs, f, 2 * PAGE, PAGE);
  const back = new Uint8Array(4 * PAGE).fill(1);
  await as_user(fs, async () => {
    assert.is(await dio(fs, f, 0, back, false), 2 * PAGE + 100);
  });
  assert.equal(back.subarray(0, 2 * PAGE), new Uint8Array(2 * PAGE));
});

t("a direct write of part of a new block zeroes the rest of it", async () => {
  const fs = make_testfs();
  const f = dio_file(fs, PAGE);
  const e = add_extent(fs, f, 0, PAGE, IOMAP_UNWRITTEN);
  const at = fs.dev.base_pfn * PAGE + e.addr;
  await as_user(fs, async () => {
    await dio(fs, f, 1024, new Uint8Array(512).fill(3), true);
  });
  const got = new Uint8Array(PAGE);
  fs.kernel.phys.copy_from(at, got, 0, PAGE);
  assert.equal([got[0], got[1023], got[1024], got[1535], got[1536]], [0, 0, 3, 3, 0]);
});

t("end_io hears of the bytes written, or of the error, and its own error wins", async () => {
  const fs = make_testfs();
  const f = dio_file(fs, 4 * PAGE);
  const e = add_extent(fs, f, 0, 4 * PAGE);
  const heard: unknown[] = [];
  const listen = (size: number, err: Errno | null): void => {
    heard.push([size, err?.code ?? null]);
  };
  await as_user(fs, async () => {
    await dio(fs, f, 0, new Uint8Array(PAGE), true, listen);
    fs.pmem.bb.set((e.addr + 2 * PAGE) / 512, 1);
    const failing = (size: number, err: Errno | null): void => {
      listen(size, err);
      if (err) throw err;
    };
    await rejects(() => dio(fs, f, 2 * PAGE, new Uint8Array(PAGE), true, failing), EIO);
  });
  assert.equal(heard, [
    [PAGE, null],
    [0, "EIO"],
  ]);
  assert.is(f.f_inode.i_dio_count, 0);
});

// ---- swap files

t("a swap file's whole pages are found; holes are refused with a line in the log", async () => {
  const fs = make_testfs();
  const f = make_file(fs, 4 * PAGE);
  add_extent(fs, f, 0, 2 * PAGE);
  fs.next += PAGE;
  add_extent(fs, f, 2 * PAGE, 2 * PAGE);
  const ops = test_iomap_ops(fs);
  await as_user(fs, async () => {
    const r = await iomap_swapfile_activate(f, "/mnt/swap", fs.sb.s_bdev, ops);
    assert.equal(r.extents, [
      { start_page: 0, nr_pages: 2, start_block: 0 },
      { start_page: 2, nr_pages: 2, start_block: 3 },
    ]);
    assert.equal([r.nr_pages, r.span], [4, 5]);
    const hole = make_file(fs, PAGE);
    await rejects(() => iomap_swapfile_activate(hole, "/mnt/hole", fs.sb.s_bdev, ops), EINVAL);
    const tiny = make_file(fs, 100);
    await rejects(() => iomap_swapfile_activate(tiny, "/mnt/tiny", fs.sb.s_bdev, ops), EINVAL);
  });
  assert.ok(fs.kernel.dmesg_text().includes("swapon: file /mnt/hole has unallocated extents"));
});

t.run();
