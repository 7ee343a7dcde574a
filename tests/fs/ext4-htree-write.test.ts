/**
 * tests/fs/ext4-htree-write.test.ts - large directories: the index is made, split, and survives.
 */
import type { Process } from "../../tools/api/process.ts";
import { assert, suite } from "../lib/suite.ts";
import { on_ext4 } from "./ext4/on_ext4.ts";

const t = suite("fs/ext4/htree_write");

/** A generator of small numbers that gives the same ones every time. */
function rng(seed: number): (n: number) => number {
  let x = seed >>> 0 || 1;
  return (n) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % n;
  };
}

const names = async (p: Process, dir: string): Promise<string[]> =>
  (await p.readdir(dir))
    .map((e) => e.name)
    .filter((n) => n !== "." && n !== "..")
    .sort();

/**
 * `count` names for one file in /mnt/d, then all looked up, listed and removed in another order.
 */
async function many_names(p: Process, count: number, name: (i: number) => string): Promise<void> {
  await p.mkdir("/mnt/d");
  await p.close(await p.open("/mnt/f", 0o302, 0o644));
  for (let i = 0; i < count; i++) await p.link("/mnt/f", `/mnt/d/${name(i)}`);
  const want = Array.from({ length: count }, (_, i) => name(i)).sort();
  assert.equal(await names(p, "/mnt/d"), want);
  await p.umount("/mnt");
  await p.mount("/dev/pmem0", "/mnt", "ext4", "");
  const ino = (await p.stat("/mnt/f")).ino;
  for (let i = 0; i < count; i += 7) {
    assert.is((await p.stat(`/mnt/d/${name(i)}`)).ino, ino);
  }
  assert.equal(await names(p, "/mnt/d"), want);
}

for (const [mkfs, count] of [
  ["-b 4096", 10_000],
  ["-b 1024", 10_000],
  ["-b 1024 -O ^metadata_csum,^64bit", 3000],
  ["-b 1024 -O ^dir_index", 500],
  ["-b 1024 -O ^extents,^64bit", 2000],
  ["-b 1024 -O ^filetype", 500],
] as const) {
  t(`${count} names in one directory, and back to none: mkfs ${mkfs}`, async () => {
    await on_ext4({ mkfs }, async (p) => {
      const name = (i: number): string => `name-${(i * 7919) % count}-${"x".repeat(i % 20)}`;
      await many_names(p, count, name);
      for (let i = 0; i < count; i++) await p.unlink(`/mnt/d/${name((i * 31 + 5) % count)}`);
      assert.equal(await names(p, "/mnt/d"), []);
      await p.rmdir("/mnt/d");
      assert.is((await p.stat("/mnt/f")).nlink, 1);
    });
  });
}

t("the directory with its index in place is what e2fsck wants, at every size", async () => {
  for (const count of [20, 40, 100, 400, 2500]) {
    await on_ext4({ mkfs: "-b 1024" }, (p) =>
      many_names(p, count, (i) => `f${"abcdefghij".repeat(3)}${i}`),
    );
  }
});

t("names come and go at random as in a model", async () => {
  await on_ext4({ mkfs: "-b 1024" }, async (p) => {
    const rand = rng(12345);
    const model = new Set<string>();
    await p.mkdir("/mnt/d");
    await p.close(await p.open("/mnt/f", 0o302, 0o644));
    for (let i = 0; i < 6000; i++) {
      const n = `n${rand(900)}${"ö".repeat(rand(900) % 40)}`;
      const m = `m${rand(900)}`;
      if (model.has(n) && rand(3) === 0) {
        await p.rename(`/mnt/d/${n}`, `/mnt/d/${m}`);
        // both names of one file: rename does nothing
        if (!model.has(m)) {
          model.delete(n);
          model.add(m);
        }
      } else if (model.has(n)) {
        await p.unlink(`/mnt/d/${n}`);
        model.delete(n);
      } else {
        await p.link("/mnt/f", `/mnt/d/${n}`);
        model.add(n);
      }
      if (i % 1500 === 0) assert.equal(await names(p, "/mnt/d"), [...model].sort());
    }
    await p.drop_caches();
    assert.equal(await names(p, "/mnt/d"), [...model].sort());
    assert.is((await p.stat("/mnt/f")).nlink, model.size + 1);
  });
});

t(
  "a directory counts its subdirectories to 64999 and then says 1",
  async () => {
    await on_ext4({ mkfs: "-b 1024 -N 70000", size: "128M" }, async (p) => {
      await p.mkdir("/mnt/d");
      for (let i = 0; i < 64_999; i++) await p.mkdir(`/mnt/d/${i}`);
      assert.is((await p.stat("/mnt/d")).nlink, 1);
    });
  },
  { groups: ["long"], timeout_ms: 300_000 },
);

t(
  "a full index is ENOSPC, with large_dir it grows a third level",
  async () => {
    const name = (i: number): string => `${i}${"n".repeat(250)}`.slice(0, 250);
    await on_ext4({ mkfs: "-b 1024", size: "128M" }, async (p, m) => {
      await p.mkdir("/mnt/d");
      await p.close(await p.open("/mnt/f", 0o302, 0o644));
      let made = 0;
      try {
        for (;;) await p.link("/mnt/f", `/mnt/d/${name(made++)}`);
      } catch (e) {
        assert.is(p.error_code(e), "ENOSPC");
      }
      assert.ok(made > 20_000, `only ${made} names`);
      assert.match(m.dmesg(), /Directory \(ino: \d+\) index full, reach max htree level :2/);
      return "dirty";
    });
    await on_ext4({ mkfs: "-b 1024 -O large_dir", size: "128M" }, async (p) => {
      await p.mkdir("/mnt/d");
      await p.close(await p.open("/mnt/f", 0o302, 0o644));
      for (let i = 0; i < 40_000; i++) await p.link("/mnt/f", `/mnt/d/${name(i)}`);
      assert.is((await names(p, "/mnt/d")).length, 40_000);
    });
  },
  { groups: ["long"], timeout_ms: 300_000 },
);

t.run();
