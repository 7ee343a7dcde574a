/** fallocate, truncate and write(2) against a model: the file as an array of bytes. */
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
import {
  boot_ext4,
  finish_ext4,
  type fs_options,
  model_file,
  random_steps,
} from "../../lib/ext4_write.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/fallocate");
const MIB = 1 << 20;

interface setup extends fs_options {
  what: string;
  block: number;
}
const SETUPS: readonly setup[] = [
  { what: "DAX", block: 4096, mount: "dax=always" },
  { what: "page cache", block: 4096 },
  { what: "page cache, nothing delayed", block: 4096, mount: "nodelalloc" },
  { what: "blocks of 1 KiB", block: 1024, mkfs: "-b 1024" },
  { what: "blocks of 1 KiB, nothing delayed", block: 1024, mkfs: "-b 1024", mount: "nodelalloc" },
  { what: "blocks of 2 KiB", block: 2048, mkfs: "-b 2048" },
  { what: "clusters", block: 16384, mkfs: "-b 4096 -O bigalloc -C 16384" },
  {
    what: "clusters and DAX",
    block: 16384,
    mkfs: "-b 4096 -O bigalloc -C 16384",
    mount: "dax=always",
  },
  { what: "an aged image", block: 4096, image: "ext4-aged" },
  { what: "uninitialised groups", block: 4096, image: "ext4-uninit" },
  { what: "no checksums", block: 4096, image: "ext4-nocsum" },
];

for (const [n, s] of SETUPS.entries()) {
  t(`seeded operations leave the bytes that a model has: ${s.what}`, async () => {
    for (const seed of [100 + n, 200 + n]) {
      const fs = await boot_ext4(s);
      const f = await model_file.open(fs.p, "/mnt/file", 4 * MIB);
      await random_steps(f, { extents: true, block: s.block, max: MIB, steps: 50, seed });
      await f.close();
      await finish_ext4(fs);
    }
  });
}

t("what fallocate refuses", async () => {
  const fs = await boot_ext4({ mount: "dax=always" });
  const { p } = fs;
  const fd = await p.open("/mnt/f", O_RDWR | O_CREAT, 0o644);
  await p.pwrite(fd, new Uint8Array(64 * 1024).fill(1), 0);
  const cases: [string, number, number, number][] = [
    ["EINVAL", FALLOC_FL_COLLAPSE_RANGE, 1, 4096],
    ["EINVAL", FALLOC_FL_COLLAPSE_RANGE, 0, 4095],
    ["EINVAL", FALLOC_FL_COLLAPSE_RANGE, 60 * 1024, 4096],
    ["EINVAL", FALLOC_FL_COLLAPSE_RANGE, 0, 64 * 1024],
    ["EINVAL", FALLOC_FL_INSERT_RANGE, 64 * 1024, 4096],
    ["EINVAL", FALLOC_FL_INSERT_RANGE, 4096, 100],
    ["EFBIG", FALLOC_FL_INSERT_RANGE, 0, 2 ** 44 - 4096],
    ["EOPNOTSUPP", FALLOC_FL_PUNCH_HOLE, 0, 4096],
    ["EOPNOTSUPP", 0x40 | FALLOC_FL_KEEP_SIZE, 0, 4096],
    ["EFBIG", 0, 2 ** 44, 4096],
    ["EINVAL", 0, 0, 0],
  ];
  for (const [code, mode, off, len] of cases) {
    try {
      await p.fallocate(fd, mode, off, len);
      assert.unreachable(`mode ${mode} ${off} ${len} should give ${code}`);
    } catch (e) {
      assert.is(p.error_code(e), code, `mode ${mode} ${off} ${len}`);
    }
  }
  assert.is((await p.fstat(fd)).size, 64 * 1024);
  await p.close(fd);
  await finish_ext4(fs);
});

t("zero range makes whole blocks unwritten and keeps them allocated", async () => {
  const fs = await boot_ext4({ mount: "dax=always" });
  const { p } = fs;
  const f = await model_file.open(p, "/mnt/f", MIB);
  await f.write(0, new Uint8Array(64 * 1024).fill(9));
  const blocks = (await p.fstat(f.fd)).blocks;
  await f.fallocate(FALLOC_FL_ZERO_RANGE, 5000, 20_000);
  await f.check("zero range");
  assert.is((await p.fstat(f.fd)).blocks, blocks);
  const unwritten = (await p.fiemap(f.fd)).filter((e) => e.fe_flags & FIEMAP_EXTENT_UNWRITTEN);
  assert.equal(
    unwritten.map((e) => [e.fe_logical, e.fe_length]),
    [[8192, 16384]],
  );
  await p.close(f.fd);
  await finish_ext4(fs);
});

t.run();
