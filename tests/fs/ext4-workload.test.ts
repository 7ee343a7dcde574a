/**
 * Random workloads on ext4: each step against a model; afterwards the media are sound (our check
 * and e2fsck) and a fresh machine reads what the model says.
 */
import { O_CREAT, O_RDWR, SEEK_DATA, SEEK_HOLE } from "../../kernel/include/fcntl.ts";
import { run_chaos } from "../lib/chaos.ts";
import { find_tool } from "../lib/e2fsprogs.ts";
import { boot_ext4, finish_ext4 } from "../lib/ext4_write.ts";
import { assert, long_tests, suite } from "../lib/suite.ts";
import { run_workload, type workload_options } from "../lib/workload.ts";

const t = suite("fs/ext4-workload");

type subject = Omit<workload_options, "seed" | "steps">;

const FRESH: Readonly<Record<string, subject>> = {
  "4 KiB blocks with DAX": { mount: "dax=always" },
  "4 KiB blocks through the page cache": {},
  "without delayed allocation": { mount: "nodelalloc", size: "32M" },
  "1 KiB blocks, filled up": { mkfs: "-b 1024", size: "12M", fill: 70 },
  "4 KiB blocks with DAX, filled up": { mount: "dax=always", size: "16M", fill: 70 },
  "block maps, no journal": {
    mkfs: "-b 1024 -O ^extent,^64bit,^flex_bg,^metadata_csum,^has_journal",
    size: "12M",
  },
};
const RECORDED = [
  "ext4-1k",
  "ext4-2k",
  "ext4-nocsum",
  "ext4-nojournal",
  "ext4-bigalloc",
  "ext4-inline",
  "ext4-indirect",
  "ext4-htree",
  "ext4-metabg",
  "ext4-eainode",
  "ext4-extents-1k",
];

async function check(o: subject, steps: number): Promise<void> {
  const seeds = long_tests ? [1, 2, 3, 4, 5, 6] : [1];
  for (const seed of seeds) {
    const r = await run_workload({ ...o, seed, steps: long_tests ? 600 : steps });
    assert.ok(r.names > 0, "nothing was there at the end");
    if (o.fill) assert.ok(r.refused > 0, "the space never ran out");
  }
}

const long = { timeout_ms: long_tests ? 600_000 : 60_000 };
for (const [name, o] of Object.entries(FRESH)) {
  t(`A workload on a fresh filesystem: ${name}.`, () => check(o, 150), long);
}
for (const image of RECORDED) {
  t(`A workload on the recorded image ${image}.`, () => check({ image }, 100), long);
}
const CHAOS: readonly (readonly [string, string])[] = [
  ["-b 4096", "dax=always"],
  ["-b 1024", ""],
  ["-b 4096 -O inline_data", ""],
];
for (const [mkfs, mount] of CHAOS) {
  t(
    `Three processes do anything to the same files: ${mkfs} ${mount}.`,
    async () => {
      const last = long_tests ? 60 : 3;
      for (let seed = 1; seed <= last; seed++) {
        await run_chaos({ seed, tasks: 3, steps: 80, mkfs, mount, size: "16M" });
      }
    },
    long,
  );
}
t(
  "A block written into preallocated space is data for lseek before the page is whole.",
  async () => {
    const fs = await boot_ext4({ mkfs: "-b 1024", size: "8M" });
    const fd = await fs.p.open("/mnt/f", O_RDWR | O_CREAT, 0o644);
    await fs.p.fallocate(fd, 0, 0, 16384);
    await fs.p.pwrite(fd, new Uint8Array(1024).fill(1), 5120);
    assert.is(await fs.p.lseek(fd, 0, SEEK_DATA), 5120);
    assert.is(await fs.p.lseek(fd, 5120, SEEK_HOLE), 6144);
    await fs.p.close(fd);
    await finish_ext4(fs);
  },
);

t(
  "A fault whose page is dropped meanwhile does not take invalidate_lock twice.",
  () => run_chaos({ seed: 26, tasks: 4, steps: 150, mkfs: "-b 1024", size: "16M" }),
  long,
);

if (!find_tool("e2fsck")) t.skip("The real e2fsck agrees.", "e2fsck is not installed");

t.run();
