/** Block-mapped files: written, punched and truncated as the kernel does it. */
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_CREAT,
  O_DIRECT,
  O_RDWR,
} from "../../../kernel/include/fcntl.ts";
import type { Process } from "../../../tools/api/process.ts";
import { boot_ext4, finish_ext4, model_file, random_steps } from "../../lib/ext4_write.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/indirect_write");
const K = 1024;
const MIB = 1 << 20;
const PUNCH = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

const open = (p: Process, name: string): number | Promise<number> =>
  p.open(`/mnt/${name}`, O_RDWR | O_CREAT, 0o644);
const blocks = async (p: Process, fd: number): Promise<number> => (await p.fstat(fd)).blocks;
async function write(p: Process, fd: number, pos: number, len: number): Promise<void> {
  await p.pwrite(fd, new Uint8Array(len).fill(0x41), pos);
  await p.fsync(fd);
}
async function refused(p: Process, code: string, fn: () => unknown): Promise<void> {
  try {
    await fn();
  } catch (e) {
    assert.is(p.error_code(e), code);
    return;
  }
  assert.unreachable(`should give ${code}`);
}

// What st_blocks said on Linux 6.1 after each step (mkfs -b 4096 -O ^extent,^64bit, no DAX).
t("st_blocks after each punch and truncation is what Linux said", async () => {
  const fs = await boot_ext4({ size: "512M", mkfs: "-b 4096 -O ^extent,^64bit" });
  const { p } = fs;
  const f = await open(p, "a");
  const seen: number[] = [];
  const note = async (fd: number): Promise<void> => void seen.push(await blocks(p, fd));
  await write(p, f, 48 * K, 16 * K);
  await note(f);
  await p.fallocate(f, PUNCH, 48 * K, 16 * K);
  await note(f);
  await write(p, f, 0, 256 * K);
  await note(f);
  await p.fallocate(f, PUNCH, 48 * K, 100 * K);
  await note(f);
  await p.fallocate(f, PUNCH, 0, 20 * MIB);
  await note(f);
  assert.equal(seen.splice(0), [40, 8, 520, 320, 8], "single indirect");

  const g = await open(p, "g");
  await write(p, g, 8 * MIB, 16 * K);
  await note(g);
  for (const len of [8, 16]) {
    await p.fallocate(g, PUNCH, 8 * MIB, len * K);
    await note(g);
  }
  await write(p, g, 12 * MIB, 16 * K);
  await note(g);
  for (const size of [12 * MIB + 4 * K, 12 * MIB, 9 * MIB, 4 * K]) {
    await p.ftruncate(g, size);
    await note(g);
  }
  assert.equal(seen.splice(0), [48, 32, 16, 56, 32, 16, 16, 0], "double indirect");

  const h = await open(p, "h");
  await write(p, h, 0, 16 * MIB);
  await note(h);
  const punches: [number, number][] = [
    [MIB, 10 * MIB],
    [100 * K, 3 * MIB],
    [0, 64 * MIB],
  ];
  for (const [off, len] of punches) {
    await p.fallocate(h, PUNCH, off, len);
    await note(h);
  }
  assert.equal(seen.splice(0), [32808, 12320, 10472, 16], "a large file");
  for (const fd of [f, g, h]) await p.close(fd);
  await finish_ext4(fs);
});

t("up to the largest file, through triple indirect blocks", async () => {
  const fs = await boot_ext4({ mkfs: "-b 4096 -O ^extent,^64bit" });
  const { p } = fs;
  const fd = await open(p, "i");
  const max = 4402345721856;
  await p.pwrite(fd, Uint8Array.of(0x78), max - 1);
  await refused(p, "EFBIG", () => p.pwrite(fd, Uint8Array.of(0x78), max));
  await p.fsync(fd);
  assert.is(await blocks(p, fd), 32, "a block of data and three above it");
  const b = new Uint8Array(2);
  assert.is(await p.pread(fd, b, max - 1), 1);
  assert.is(b[0], 0x78);
  await p.ftruncate(fd, max);
  await refused(p, "EFBIG", () => p.ftruncate(fd, max + 1));
  await p.ftruncate(fd, 100);
  assert.is(await blocks(p, fd), 0);
  await p.close(fd);
  await finish_ext4(fs);
});

t("what needs extents is refused", async () => {
  const fs = await boot_ext4({ mkfs: "-b 4096 -O ^extent,^64bit" });
  const { p } = fs;
  const fd = await open(p, "f");
  await write(p, fd, 0, 64 * K);
  const modes = [0, FALLOC_FL_ZERO_RANGE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE];
  for (const mode of modes) await refused(p, "EOPNOTSUPP", () => p.fallocate(fd, mode, 0, 4096));
  await p.close(fd);
  await finish_ext4(fs);
});

t("direct writes into holes go through the page cache, and arrive", async () => {
  const fs = await boot_ext4({ mkfs: "-b 4096 -O ^extent,^64bit" });
  const { p } = fs;
  const f = await model_file.open(p, "/mnt/f", MIB, O_DIRECT);
  await f.truncate(256 * K);
  await f.write(64 * K, new Uint8Array(32 * K).fill(5));
  await f.write(64 * K, new Uint8Array(16 * K).fill(6));
  await f.check("direct");
  await p.close(f.fd);
  await finish_ext4(fs);
});

const SETUPS = [
  { mkfs: "-b 4096 -O ^extent,^64bit", mount: "" },
  { mkfs: "-b 4096 -O ^extent,^64bit", mount: "dax=always" },
  { mkfs: "-b 4096 -O ^extent,^64bit", mount: "nodelalloc" },
  { mkfs: "-b 1024 -O ^extent,^64bit", mount: "" },
  { image: "ext4-indirect", mount: "" },
];
for (const [n, s] of SETUPS.entries()) {
  t(`seeded operations leave the bytes that a model has: ${JSON.stringify(s)}`, async () => {
    for (const seed of [300 + n, 400 + n]) {
      const fs = await boot_ext4(s);
      const f = await model_file.open(fs.p, "/mnt/file", 8 * MIB);
      const block = s.mkfs?.startsWith("-b 1024") || s.image ? 1024 : 4096;
      await random_steps(f, { extents: false, block, max: MIB, steps: 50, seed });
      await f.close();
      await finish_ext4(fs);
    }
  });
}

t.run();
