import fc from "../lib/property.ts";
import { EIO, ENOSPC } from "../../kernel/include/errno.ts";
import { LLONG_MAX, S_DAX, WB_SYNC_ALL, WB_SYNC_NONE } from "../../kernel/include/fs.ts";
import type { writeback_control } from "../../kernel/include/fs.ts";
import { MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import { xa_load, xa_store } from "../../kernel/lib/xarray.ts";
import {
  file_check_and_advance_wb_err,
  file_write_and_wait_range,
  filemap_fdatawait_range,
  filemap_range_has_page,
  filemap_range_needs_writeback,
  filemap_read,
  filemap_sample_wb_err,
  filemap_write_and_wait_range,
  find_get_page,
  find_lock_page,
  generic_perform_write,
  invalidate_inode_pages2_range,
  invalidate_mapping_pages,
  mapping_seek_hole_data,
  mapping_set_error,
  pagecache_isize_extended,
  read_cache_page,
  truncate_inode_pages_range,
  truncate_pagecache_range,
  truncate_setsize,
} from "../../mm/filemap.ts";
import { new_iov_iter_bytes, new_iov_iter_user } from "../../mm/iov_iter.ts";
import { sys_mmap } from "../../mm/mmap.ts";
import { PageDirty, page_address, put_page, unlock_page } from "../../mm/page.ts";
import { mm_state } from "../../mm/mm_state.ts";
import { nr_allocated_pages } from "../../mm/phys.ts";
import { user_load, user_store } from "../../mm/uaccess.ts";
import { assert, suite } from "../lib/suite.ts";
import {
  PAGE,
  boot,
  bytes_of,
  cached_file,
  type disk_file,
  iocb,
  reopen,
  text_of,
  type world,
} from "./lib/fake.ts";

const t = suite("mm/filemap");
const RW = PROT_READ | PROT_WRITE;

async function read(w: world, d: disk_file, pos: number, len: number): Promise<Uint8Array> {
  const buf = new Uint8Array(len);
  const n = await filemap_read(iocb(d.file, pos), new_iov_iter_bytes(w.kernel, false, [buf]));
  return buf.subarray(0, n);
}
async function write(w: world, d: disk_file, pos: number, data: Uint8Array): Promise<number> {
  return generic_perform_write(iocb(d.file, pos), new_iov_iter_bytes(w.kernel, true, [data]));
}
const wbc = (sync_mode: number): writeback_control => ({
  nr_to_write: LLONG_MAX,
  range_start: 0,
  range_end: LLONG_MAX,
  sync_mode,
});

t("a read fills the cache once and stops at the end of the file", async () => {
  const w = boot();
  const d = cached_file(w, 5000);
  d.disk.set(bytes_of("end"), 4997);
  d.disk.fill(9, 5000);
  await w.run(async () => {
    assert.is(text_of(await read(w, d, 4990, 100)), "\0".repeat(7) + "end");
    assert.is((await read(w, d, 5000, 10)).length, 0);
    const before = d.log.length;
    await read(w, d, 4096, 100);
    assert.is(d.log.length, before);
    assert.ok(filemap_range_has_page(d.file.f_mapping, 4096, 8191));
  });
});

t("a cached read returns without a promise", async () => {
  const w = boot();
  const d = cached_file(w, 64 * 1024);
  await w.run(async () => {
    await read(w, d, 0, 64 * 1024);
    const it = new_iov_iter_bytes(w.kernel, false, [new Uint8Array(10_000)]);
    assert.is(filemap_read(iocb(d.file, 100), it), 10_000);
  });
});

t("a read that cannot be read is EIO, unless something was read before", async () => {
  const w = boot();
  const d = cached_file(w, 512 * 1024);
  await w.run(async () => {
    await read(w, d, 31 * PAGE, 10); // a read of its own: this page and no other
    d.fail.read = EIO;
    await assert.rejects(() => read(w, d, 300 * 1024, 10), "EIO");
    assert.is((await read(w, d, 32 * PAGE - 5, 10)).length, 5);
  });
});

t("reads, writes, truncations and writeback agree with an array of bytes", async () => {
  const SIZE = 40_000;
  const op = fc.record({
    kind: fc.constantFrom("write", "read", "truncate", "sync", "drop", "punch", "store", "load"),
    at: fc.nat(SIZE - 1),
    len: fc.integer({ min: 1, max: 9000 }),
    value: fc.integer({ min: 1, max: 255 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(op, { maxLength: 25 }), async (ops) => {
      const w = boot();
      const d = cached_file(w, 0);
      const model = new Uint8Array(1 << 20);
      await w.run(async (task) => {
        const mapping = d.file.f_mapping;
        const m = await sys_mmap(task, 0, 64 * 1024, RW, MAP_SHARED, d.file, 0);
        for (const o of ops) {
          const size = mapping.host.i_size;
          if (o.kind === "write") {
            assert.is(await write(w, d, o.at, new Uint8Array(o.len).fill(o.value)), o.len);
            model.fill(o.value, o.at, o.at + o.len);
          } else if (o.kind === "read") {
            const want = model.subarray(o.at, Math.max(o.at, Math.min(size, o.at + o.len)));
            assert.equal(await read(w, d, o.at, o.len), want);
          } else if (o.kind === "truncate") {
            await truncate_setsize(mapping.host, o.at);
            d.disk.fill(0, o.at);
            model.fill(0, o.at);
          } else if (o.kind === "sync") {
            await filemap_write_and_wait_range(mapping, 0, LLONG_MAX);
            assert.equal(d.disk.subarray(0, size), model.subarray(0, size));
            assert.not(filemap_range_needs_writeback(mapping, 0, LLONG_MAX));
          } else if (o.kind === "drop") invalidate_mapping_pages(mapping, 0, LLONG_MAX);
          else if (o.kind === "punch") {
            const end = Math.min(size, o.at + o.len) - 1;
            if (end < o.at) continue;
            await truncate_pagecache_range(mapping.host, o.at, end);
            // What the cache does not hold is the filesystem's to zero: here all of it, on the
            // disk.
            d.disk.fill(0, o.at, end + 1);
            model.fill(0, o.at, end + 1);
          } else if (o.at < size) {
            if (o.kind === "store") {
              await user_store(task, m + o.at, Uint8Array.of(o.value));
              model[o.at] = o.value;
            } else {
              const b = new Uint8Array(1);
              await user_load(task, m + o.at, b);
              assert.is(b[0], model[o.at]);
            }
          }
        }
        const size = mapping.host.i_size;
        assert.equal(await read(w, d, 0, size), model.subarray(0, size));
      });
    }),
    { numRuns: 60 },
  );
});

t(
  "writeback cleans pages, writes each dirty one once, and a later store dirties again",
  async () => {
    const w = boot();
    const d = cached_file(w, 16 * PAGE);
    await w.run(async (task) => {
      const mapping = d.file.f_mapping;
      const m = await sys_mmap(task, 0, 16 * PAGE, RW, MAP_SHARED, d.file, 0);
      await write(w, d, 3 * PAGE, bytes_of("three"));
      await user_store(task, m + 7 * PAGE, bytes_of("seven"));
      assert.is(mm_state(w.kernel).nr_dirty, 2);
      d.log.length = 0;
      await mapping.a_ops.writepages!(mapping, wbc(WB_SYNC_ALL));
      await mapping.a_ops.writepages!(mapping, wbc(WB_SYNC_ALL));
      assert.equal(d.log, ["w3", "w7"]);
      assert.is(mm_state(w.kernel).nr_dirty, 0);
      await user_store(task, m + 7 * PAGE, bytes_of("SEVEN"));
      await mapping.a_ops.writepages!(mapping, { ...wbc(WB_SYNC_NONE), nr_to_write: 1 });
      assert.equal(d.log, ["w3", "w7", "w7"]);
      assert.is(text_of(d.disk.subarray(7 * PAGE, 7 * PAGE + 5)), "SEVEN");
    });
  },
);

t("an error of writeback reaches every file that was open, once each", async () => {
  const w = boot();
  const d = cached_file(w, 4 * PAGE);
  const mapping = d.file.f_mapping;
  const other = reopen(w, d.file);
  await w.run(async () => {
    await write(w, d, 0, bytes_of("x"));
    d.fail.write = EIO;
    await assert.rejects(() => filemap_write_and_wait_range(mapping, 0, LLONG_MAX), "EIO");
    mapping_set_error(mapping, EIO);
    const late = reopen(w, d.file);
    late.f_wb_err = filemap_sample_wb_err(mapping);
    await assert.rejects(() => file_write_and_wait_range(d.file, 0, LLONG_MAX), "EIO");
    file_check_and_advance_wb_err(d.file);
    assert.throws(() => file_check_and_advance_wb_err(other), "EIO");
    file_check_and_advance_wb_err(other);
    // Nobody had looked when this one was opened, so it hears of it, too.
    assert.throws(() => file_check_and_advance_wb_err(late), "EIO");
    const later = reopen(w, d.file);
    later.f_wb_err = filemap_sample_wb_err(mapping);
    file_check_and_advance_wb_err(later);
    mapping_set_error(mapping, ENOSPC);
    assert.throws(() => file_check_and_advance_wb_err(later), "ENOSPC");
    assert.throws(() => file_check_and_advance_wb_err(other), "ENOSPC");
    mapping_set_error(mapping, EIO);
    await assert.rejects(() => filemap_fdatawait_range(mapping, 0, LLONG_MAX), "EIO");
    await filemap_fdatawait_range(mapping, 0, LLONG_MAX);
  });
});

t(
  "truncation takes pages, private copies and dirt, and zeroes the rest of the last page",
  async () => {
    const w = boot();
    const d = cached_file(w, 4 * PAGE);
    d.disk.fill(7);
    await w.run(async (task) => {
      const inode = d.file.f_inode;
      const m = await sys_mmap(task, 0, 4 * PAGE, RW, MAP_PRIVATE, d.file, 0);
      await user_store(task, m, bytes_of("copy"));
      await user_store(task, m + 2 * PAGE, bytes_of("copy"));
      const before = nr_allocated_pages(w.kernel);
      await truncate_setsize(inode, PAGE + 10);
      assert.ok(nr_allocated_pages(w.kernel) < before);
      const b = new Uint8Array(4);
      await user_load(task, m, b);
      assert.is(text_of(b), "copy");
      await assert.rejects(
        async () => user_load(task, m + 2 * PAGE, b),
        (e) => e.info.signo === 7,
      );
      await truncate_setsize(inode, 4 * PAGE);
      await user_load(task, m + PAGE + 8, b);
      assert.equal([...b], [7, 7, 0, 0]);
    });
  },
);

t("a part of a page in the middle becomes zeros, whole pages between go", async () => {
  const w = boot();
  const d = cached_file(w, 8 * PAGE);
  await w.run(async () => {
    const mapping = d.file.f_mapping;
    await write(w, d, 0, new Uint8Array(8 * PAGE).fill(5));
    await truncate_inode_pages_range(mapping, PAGE + 100, 3 * PAGE + 199);
    assert.is(xa_load(mapping.i_pages, 2), null);
    const p1 = find_get_page(mapping, 1)!;
    assert.is(page_address(p1)[99], 5);
    assert.is(page_address(p1)[100], 0);
    put_page(p1);
    const p3 = find_get_page(mapping, 3)!;
    assert.equal([page_address(p3)[199], page_address(p3)[200]], [0, 5]);
    put_page(p3);
    await truncate_inode_pages_range(mapping, 10, 19);
    const p0 = find_get_page(mapping, 0)!;
    assert.equal([...page_address(p0).subarray(9, 21)], [5, ...Array(10).fill(0), 5]);
    put_page(p0);
    await truncate_inode_pages_range(mapping, 0, LLONG_MAX);
    assert.is(mapping.nrpages, 0);
  });
});

t("invalidation drops clean pages and refuses dirty ones", async () => {
  const w = boot();
  const d = cached_file(w, 4 * PAGE);
  await w.run(async () => {
    const mapping = d.file.f_mapping;
    await read(w, d, 0, 4 * PAGE);
    await write(w, d, PAGE, bytes_of("dirty"));
    await assert.rejects(async () => invalidate_inode_pages2_range(mapping, 0, 3), "EBUSY");
    assert.is(mapping.nrpages, 1);
    await filemap_write_and_wait_range(mapping, 0, LLONG_MAX);
    await invalidate_inode_pages2_range(mapping, 0, 3);
    assert.is(mapping.nrpages, 0);
    assert.is(invalidate_inode_pages2_range(mapping, 0, 3), undefined);
  });
});

t("DAX entries are handed to fs/dax when they are to go", async () => {
  const w = boot();
  const d = cached_file(w, 16 * PAGE);
  const mapping = d.file.f_mapping;
  mapping.host.i_flags |= S_DAX;
  const log: string[] = [];
  w.kernel.dax_mm_ops = {
    delete_mapping_entry(m, index) {
      log.push(`delete ${index}`);
      xa_store(m.i_pages, index, null, 0);
      return true;
    },
    invalidate_mapping_entry_sync(_m, index) {
      log.push(`invalidate ${index}`);
      return index !== 5;
    },
  };
  await w.run(async () => {
    for (const i of [1, 5, 9]) xa_store(mapping.i_pages, i, 16 * i, 0);
    assert.is(find_get_page(mapping, 5), null);
    await assert.rejects(async () => invalidate_inode_pages2_range(mapping, 2, 20), "EBUSY");
    await truncate_inode_pages_range(mapping, 2 * PAGE, 8 * PAGE - 1);
    await truncate_inode_pages_range(mapping, 0, LLONG_MAX);
    assert.equal(log, ["invalidate 5", "invalidate 9", "delete 5", "delete 1", "delete 9"]);
  });
});

t("two tasks that want the same page: one makes it, the other waits for the lock", async () => {
  const w = boot();
  const d = cached_file(w, 4 * PAGE);
  const mapping = d.file.f_mapping;
  const order: string[] = [];
  w.machine.spawn(w.kernel, "a", async () => {
    const p = await read_cache_page(mapping, 1);
    const same = (await find_lock_page(mapping, 1))!;
    assert.is(same, p);
    order.push("a has it");
    await w.machine.sched.yield();
    await w.machine.sched.yield();
    order.push("a lets go");
    unlock_page(same);
    put_page(same);
    put_page(p);
  });
  w.machine.spawn(w.kernel, "b", async () => {
    const p = (await find_lock_page(mapping, 1))!;
    order.push("b has it");
    unlock_page(p);
    put_page(p);
  });
  await w.machine.run();
  assert.equal(order, ["a has it", "a lets go", "b has it"]);
});

t("a write of memory that is a mapping of the written page itself does not deadlock", async () => {
  const w = boot();
  const d = cached_file(w, 4 * PAGE);
  d.disk.set(bytes_of("source"), 100);
  await w.run(async (task) => {
    const m = await sys_mmap(task, 0, 4 * PAGE, RW, MAP_SHARED, d.file, 0);
    const it = new_iov_iter_user(w.kernel, true, [{ addr: m + 100, len: 6 }]);
    assert.is(await generic_perform_write(iocb(d.file, 200), it), 6);
    assert.is(text_of(await read(w, d, 200, 6)), "source");
  });
});

t("a write whose memory ends early is short; with none of it there it is EFAULT", async () => {
  const w = boot();
  const d = cached_file(w, 0);
  await w.run(async (task) => {
    // Nothing is mapped behind the stack.
    const end = task.mm!.mmap.at(-1)!.vm_end;
    const it = new_iov_iter_user(w.kernel, true, [{ addr: end - 100, len: 300 }]);
    assert.is(await generic_perform_write(iocb(d.file, 0), it), 100);
    assert.is(d.file.f_inode.i_size, 100);
    const bad = new_iov_iter_user(w.kernel, true, [{ addr: end, len: 10 }]);
    await assert.rejects(async () => generic_perform_write(iocb(d.file, 0), bad), "EFAULT");
    const rd = new_iov_iter_user(w.kernel, false, [{ addr: end - 10, len: 20 }]);
    assert.is(await filemap_read(iocb(d.file, 0), rd), 10);
    const none = new_iov_iter_user(w.kernel, false, [{ addr: end, len: 20 }]);
    await assert.rejects(async () => filemap_read(iocb(d.file, 0), none), "EFAULT");
  });
});

t("holes and data by what is cached", async () => {
  const w = boot();
  const d = cached_file(w, 16 * PAGE);
  await w.run(async () => {
    const mapping = d.file.f_mapping;
    await write(w, d, 2 * PAGE, new Uint8Array(2 * PAGE).fill(1));
    const seek = (pos: number, data: boolean) => {
      return mapping_seek_hole_data(mapping, pos, 16 * PAGE, data);
    };
    assert.is(seek(0, true), 2 * PAGE);
    assert.is(seek(0, false), 0);
    assert.is(seek(2 * PAGE + 5, true), 2 * PAGE + 5);
    assert.is(seek(2 * PAGE + 5, false), 4 * PAGE);
    assert.throws(() => seek(4 * PAGE, true), "ENXIO");
    assert.is(seek(4 * PAGE, false), 4 * PAGE);
  });
});

t(
  "a file of small blocks that grows makes its old last page fault again before a store",
  async () => {
    const w = boot();
    const d = cached_file(w, 1024);
    d.file.f_inode.i_blkbits = 10;
    await w.run(async (task) => {
      const m = await sys_mmap(task, 0, PAGE, RW, MAP_SHARED, d.file, 0);
      await user_store(task, m, bytes_of("x"));
      assert.is(d.file.private_data.times, 1);
      await pagecache_isize_extended(d.file.f_inode, 1024, 4096);
      await user_store(task, m, bytes_of("y"));
      assert.is(d.file.private_data.times, 2);
      const p = find_get_page(d.file.f_mapping, 0)!;
      assert.ok(PageDirty(p));
      put_page(p);
    });
  },
);

t.run();
