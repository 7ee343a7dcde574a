/** Delayed allocation: what is promised, when it becomes blocks, and that every promise ends. */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  O_CREAT,
  O_RDWR,
} from "../../../kernel/include/fcntl.ts";
import { FIEMAP_EXTENT_DELALLOC, FIEMAP_EXTENT_UNWRITTEN } from "../../../kernel/include/fs.ts";
import { MAP_SHARED, PROT_READ, PROT_WRITE } from "../../../kernel/include/mman.ts";
import type { Process } from "../../../tools/api/process.ts";
import { boot_ext4, finish_ext4, model_file, type test_fs } from "../../lib/ext4_write.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/delalloc");
const K = 1024;

const free_blocks = async (p: Process): Promise<number> => (await p.statfs("/mnt")).f_bfree;

async function with_fs(
  mkfs: string,
  fn: (fs: test_fs, before: number) => Promise<void>,
): Promise<void> {
  const fs = await boot_ext4({ mkfs });
  await fs.p.sync();
  await fn(fs, await free_blocks(fs.p));
  await finish_ext4(fs);
}

t("a write promises blocks, fsync chooses them", () =>
  with_fs("-b 4096", async ({ p }, before) => {
    const f = await model_file.open(p, "/mnt/f", 1 << 20);
    await f.write(0, new Uint8Array(40 * K).fill(1));
    assert.is(before - (await free_blocks(p)), 10, "promised");
    const [e] = await p.fiemap(f.fd);
    assert.ok(e!.fe_flags & FIEMAP_EXTENT_DELALLOC, JSON.stringify(e));
    assert.is((await p.fstat(f.fd)).blocks, 80, "st_blocks counts promises");
    await p.fsync(f.fd);
    const after = await p.fiemap(f.fd);
    assert.is(after.length, 1);
    assert.is(after[0]!.fe_length, 40 * K);
    assert.not(after[0]!.fe_flags & (FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_UNWRITTEN));
    assert.is(before - (await free_blocks(p)), 10, "allocated");
    await f.check("after fsync");
    await p.close(f.fd);
  }),
);

for (const mkfs of ["-b 4096", "-b 1024", "-b 4096 -O bigalloc -C 16384"]) {
  t(`promises that are not needed any more are given back (mkfs ${mkfs})`, () =>
    with_fs(mkfs, async ({ p }, before) => {
      const f = await model_file.open(p, "/mnt/f", 1 << 20);
      await f.write(0, new Uint8Array(200 * K).fill(1));
      await f.truncate(30_000);
      await f.write(100 * K, new Uint8Array(100 * K).fill(2));
      const punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      await f.fallocate(punch, 120 * K + 17, 50 * K);
      await f.check("with holes");
      await f.truncate(0);
      assert.is(await free_blocks(p), before, "after truncate");
      await f.write(5, new Uint8Array(60 * K).fill(3));
      await p.close(f.fd);
      await p.unlink("/mnt/f");
      await p.sync();
      assert.is(await free_blocks(p), before, "after unlink");
      const fd = await p.open("/mnt/never-written", O_RDWR | O_CREAT, 0o644);
      await p.pwrite(fd, new Uint8Array(60 * K).fill(4), 0);
      await p.unlink("/mnt/never-written");
      await p.close(fd);
      assert.is(await free_blocks(p), before, "gone before it had a block");
    }),
  );
}

t("clusters with delayed and allocated blocks are paid for once", () =>
  with_fs("-b 4096 -O bigalloc -C 16384", async ({ p }, before) => {
    const f = await model_file.open(p, "/mnt/f", 1 << 20);
    await f.write(0, new Uint8Array(4 * K).fill(1));
    await p.fsync(f.fd);
    assert.is(before - (await free_blocks(p)), 4);
    await f.write(8 * K, new Uint8Array(12 * K).fill(2));
    assert.is(before - (await free_blocks(p)), 8, "the second cluster is promised");
    await f.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * K);
    await f.check("punched beside a delayed block");
    await p.fsync(f.fd);
    assert.is(before - (await free_blocks(p)), 8);
    assert.is((await p.fstat(f.fd)).blocks, 64);
    await f.check("after fsync");
    await f.truncate(0);
    assert.is(await free_blocks(p), before);
    await p.close(f.fd);
  }),
);

t("fallocate over promised blocks, and writing into preallocated ones", () =>
  with_fs("-b 4096", async ({ p }, before) => {
    const f = await model_file.open(p, "/mnt/f", 1 << 20);
    await f.write(16 * K, new Uint8Array(16 * K).fill(1));
    await f.fallocate(0, 0, 64 * K);
    assert.is(before - (await free_blocks(p)), 16, "no block is counted twice");
    await f.write(40 * K, new Uint8Array(100).fill(2));
    await f.check("before writeback");
    await p.fsync(f.fd);
    await f.check("after writeback");
    const written = (await p.fiemap(f.fd)).filter((e) => !(e.fe_flags & FIEMAP_EXTENT_UNWRITTEN));
    const covers = (b: number): boolean =>
      written.some((e) => e.fe_logical <= b && b < e.fe_logical + e.fe_length);
    assert.ok(covers(16 * K) && covers(31 * K) && covers(40 * K), JSON.stringify(written));
    await p.close(f.fd);
  }),
);

t("a store through a mapping promises a block too", () =>
  with_fs("-b 4096", async ({ p }, before) => {
    const f = await model_file.open(p, "/mnt/f", 1 << 20);
    await f.truncate(64 * K);
    const m = await p.mmap(0, 64 * K, PROT_READ | PROT_WRITE, MAP_SHARED, f.fd, 0);
    await p.store(m + 20 * K, Uint8Array.of(1, 2, 3));
    f.bytes.set([1, 2, 3], 20 * K);
    assert.is(before - (await free_blocks(p)), 1);
    await f.check("before msync");
    await p.fsync(f.fd);
    await f.check("after fsync");
    assert.is((await p.fstat(f.fd)).blocks, 8);
    await p.munmap(m, 64 * K);
    await p.close(f.fd);
  }),
);

t("nothing is promised that is not there: a full filesystem says so at write", async () => {
  const fs = await boot_ext4({ size: "32M", mkfs: "-b 4096 -m 0" });
  const { p } = fs;
  const fd = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const piece = new Uint8Array(256 * K).fill(7);
  let total = 0;
  for (;;) {
    try {
      total += await p.pwrite(fd, piece, total);
    } catch (e) {
      assert.is(p.error_code(e), "ENOSPC");
      break;
    }
  }
  await p.fsync(fd);
  const st = await p.fstat(fd);
  assert.is(st.size, total);
  assert.ok(st.blocks * 512 >= total, "every byte written has a block");
  const back = new Uint8Array(piece.length);
  await p.pread(fd, back, total - piece.length);
  assert.equal(back, piece);
  await p.close(fd);
  await finish_ext4(fs);
});

t("the size on the media never runs ahead of the data", () =>
  with_fs("-b 4096", async ({ m, p }) => {
    const f = await model_file.open(p, "/mnt/f", 1 << 20);
    await p.fsync(f.fd);
    await f.write(0, new Uint8Array(50_000).fill(9));
    // the machine stops here: what the media says is an empty file
    const other = await m.reboot();
    const q = other.process();
    await q.mount("/dev/pmem0", "/mnt", "ext4", "");
    assert.is((await q.stat("/mnt/f")).size, 0);
    await q.umount("/mnt");
    await p.close(f.fd);
  }),
);

t.run();
