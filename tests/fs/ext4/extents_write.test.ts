/**
 * The extent tree as it grows, is cut, merges and shrinks; seen through fiemap, st_blocks and the
 * checkers.
 */
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_CREAT,
  O_RDWR,
} from "../../../kernel/include/fcntl.ts";
import { FIEMAP_EXTENT_UNWRITTEN } from "../../../kernel/include/fs.ts";
import { EXT4_SB } from "../../../fs/ext4/ext4_fs.ts";
import { fcheck } from "../../../fs/file.ts";
import { Random } from "../../../kernel/random.ts";
import { boot_ext4, finish_ext4, model_file } from "../../lib/ext4_write.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/extents_write");
const K = 1024;
const MIB = 1 << 20;
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

async function extent_count(f: model_file): Promise<number> {
  let n = 0;
  for (let start = 0; ; ) {
    const part = await f.p.fiemap(f.fd, start, -1, 0, 1000);
    n += part.length;
    const last = part.at(-1);
    if (!last || part.length < 1000) return n;
    start = last.fe_logical + last.fe_length;
  }
}

/** Every other KiB of [0, 2n) KiB. */
async function comb(f: model_file, n: number, from = 0): Promise<void> {
  for (let i = 0; i < n; i++) await f.write((from + 2 * i) * K, new Uint8Array(K).fill(i & 255));
}

t("a tree of three levels, filled up again, is one of a few extents", async () => {
  // 84 entries in a node of 1 KiB: 1000 extents need a second level of index nodes
  const fs = await boot_ext4({ mkfs: "-b 1024", mount: "nodelalloc", size: "64M" });
  const f = await model_file.open(fs.p, "/mnt/f", 4 * MIB);
  await comb(f, 1000);
  await f.check("comb");
  assert.is(await extent_count(f), 1000);
  const st = await fs.p.fstat(f.fd);
  const nodes = st.blocks / 2 - 1000;
  assert.ok(nodes >= 12 && nodes <= 30, `${nodes} nodes for 1000 extents`);
  for (let i = 0; i < 1000; i++) await f.write((2 * i + 1) * K, new Uint8Array(K).fill(7));
  await f.check("filled");
  assert.ok((await extent_count(f)) < 100, "neighbours have merged");
  await f.truncate(0);
  assert.is((await fs.p.fstat(f.fd)).blocks, 0);
  await fs.p.close(f.fd);
  await finish_ext4(fs);
});

t("written from back to front, from the middle and at random", async () => {
  const fs = await boot_ext4({ mkfs: "-b 1024", mount: "nodelalloc", size: "64M" });
  const { p } = fs;
  const r = new Random(77);
  const orders: Record<string, (i: number) => number> = {
    back: (i) => 599 - i,
    middle: (i) => (i % 2 ? 300 + (i >> 1) : 299 - (i >> 1)),
  };
  const shuffled = Array.from({ length: 600 }, (_, i) => i);
  for (let i = 599; i > 0; i--) {
    const j = r.below(i + 1);
    [shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!];
  }
  orders["random"] = (i) => shuffled[i]!;
  for (const [name, at] of Object.entries(orders)) {
    const f = await model_file.open(p, `/mnt/${name}`, 2 * MIB);
    for (let i = 0; i < 600; i++) await f.write(3 * at(i) * K, new Uint8Array(K).fill(i & 255));
    await f.check(name);
    // out again in another order, a third of them by truncation
    for (let i = 0; i < 400; i++) {
      await f.fallocate(PUNCH, 3 * shuffled[i]! * K, K);
    }
    await f.check(`${name}, punched`);
    await f.truncate(600 * K);
    await f.check(`${name}, truncated`);
    await p.close(f.fd);
  }
  await finish_ext4(fs);
});

t("collapse and insert move extents across many leaves", async () => {
  const fs = await boot_ext4({ mkfs: "-b 1024", mount: "nodelalloc", size: "64M" });
  const f = await model_file.open(fs.p, "/mnt/f", 4 * MIB);
  await comb(f, 700);
  const n = await extent_count(f);
  await f.fallocate(FALLOC_FL_INSERT_RANGE, 333 * K, 100 * K);
  await f.check("inserted in a hole");
  assert.is(await extent_count(f), n);
  await f.fallocate(FALLOC_FL_INSERT_RANGE, 0, 10 * K);
  await f.check("inserted at the front");
  await f.fallocate(FALLOC_FL_COLLAPSE_RANGE, 3 * K, 200 * K);
  await f.check("collapsed");
  await f.fallocate(FALLOC_FL_COLLAPSE_RANGE, 0, 500 * K);
  await f.check("collapsed at the front");
  await fs.p.close(f.fd);
  await finish_ext4(fs);
});

t("conversions cut a preallocated extent and put it together again", async () => {
  const fs = await boot_ext4({ mount: "dax=always", size: "64M" });
  const { p } = fs;
  const f = await model_file.open(p, "/mnt/f", 8 * MIB);
  await f.fallocate(FALLOC_FL_KEEP_SIZE, 0, 4 * MIB);
  assert.is(await extent_count(f), 1);
  for (let i = 0; i < 30; i++) await f.write(i * 128 * K, new Uint8Array(4 * K).fill(i));
  await f.check("islands");
  const islands = await p.fiemap(f.fd);
  assert.ok(islands.length >= 59, `${islands.length} extents`);
  await f.write(0, new Uint8Array(4 * MIB).fill(3));
  await f.check("all written");
  const after = await p.fiemap(f.fd);
  assert.ok(after.every((e) => !(e.fe_flags & FIEMAP_EXTENT_UNWRITTEN)));
  await f.fallocate(FALLOC_FL_ZERO_RANGE, MIB, 2 * MIB);
  await f.check("zeroed");
  assert.is((await p.fstat(f.fd)).blocks, (4 * MIB) / 512);
  await p.close(f.fd);
  await finish_ext4(fs);
});

t("a cut that finds no block for the tree zeroes instead of failing", async () => {
  const fs = await boot_ext4({ mkfs: "-b 1024 -m 0", mount: "nodelalloc", size: "16M" });
  const { p } = fs;
  const f = await model_file.open(p, "/mnt/f", 4 * MIB);
  await f.fallocate(0, 0, 2 * MIB);
  const hog = await p.open("/mnt/hog", O_RDWR | O_CREAT, 0o644);
  const piece = new Uint8Array(64 * K).fill(1);
  for (let len = piece.length, pos = 0; len >= K; ) {
    try {
      pos += await p.pwrite(hog, piece.subarray(0, len), pos);
    } catch (e) {
      assert.is(p.error_code(e), "ENOSPC");
      len /= 2;
    }
  }
  // nothing is kept for trees either
  EXT4_SB(fcheck(p.task, f.fd).f_inode.i_sb).s_resv_clusters = 0;
  // each of these would cut the extent once more
  for (let i = 0; i < 900; i++) await f.write((2 * i + 100) * K, new Uint8Array(K).fill(i & 255));
  await f.check("written into a full filesystem");
  const extents = await extent_count(f);
  assert.ok(extents < 500, `${extents} extents`);
  await p.close(f.fd);
  await p.close(hog);
  await finish_ext4(fs);
});

t.run();
