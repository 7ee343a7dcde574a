/**
 * tests/fs/ext4-inline-write.test.ts - files and directories in their inodes: written, grown out,
 * cut; e2fsck agrees.
 */
import type { Process } from "../../tools/api/process.ts";
import { assert, suite } from "../lib/suite.ts";
import { on_ext4 } from "./ext4/on_ext4.ts";

const t = suite("fs/ext4/inline_write");
const INLINE_256 = "-b 4096 -O inline_data -I 256";
const INLINE_1K = "-b 1024 -O inline_data -I 512";

const bytes = (n: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length: n }, (_, i) => (i * 29 + seed * 13 + 7) & 0xff);
const remount = async (p: Process, mount: string): Promise<void> => {
  await p.umount("/mnt");
  await p.mount("/dev/pmem0", "/mnt", "ext4", mount);
};
const contents = async (p: Process, file: string): Promise<Uint8Array> => {
  const fd = await p.open(file, 0);
  const size = (await p.fstat(fd)).size;
  const out = new Uint8Array(size + 10);
  const n = await p.pread(fd, out, 0);
  await p.close(fd);
  return out.subarray(0, n);
};
const names = async (p: Process, dir: string): Promise<string[]> =>
  (await p.readdir(dir))
    .map((e) => e.name)
    .filter((n) => n !== "." && n !== "..")
    .sort();

for (const mount of ["", "nodelalloc"]) {
  for (const mkfs of [INLINE_256, INLINE_1K]) {
    const title = `${mkfs} ${mount}`.trim();
    t(`small files live in their inode and move out when they grow: ${title}`, async () => {
      await on_ext4({ mkfs, mount }, async (p) => {
        const model = new Map<string, Uint8Array>();
        for (const size of [1, 59, 60, 61, 100, 128, 160, 161, 300, 420, 5000]) {
          const file = `/mnt/f${size}`;
          const fd = await p.open(file, 0o302, 0o644);
          await p.pwrite(fd, bytes(size), 0);
          await p.close(fd);
          model.set(file, bytes(size));
        }
        // inline data is shown as the sectors it would take
        assert.is((await p.stat("/mnt/f100")).blocks, 1);
        await remount(p, mount);
        for (const [file, want] of model) assert.equal(await contents(p, file), want, file);
        // grow one out of its inode, byte by byte and by a gap
        const fd = await p.open("/mnt/f100", 2);
        const grown = new Uint8Array(700);
        grown.set(bytes(100));
        for (let at = 100; at < 500; at += 50) {
          await p.pwrite(fd, bytes(50, at), at);
          grown.set(bytes(50, at), at);
        }
        await p.pwrite(fd, bytes(40, 3), 660);
        grown.set(bytes(40, 3), 660);
        assert.equal(await contents(p, "/mnt/f100"), grown);
        await p.fsync(fd);
        await p.close(fd);
        const far = await p.open("/mnt/f59", 2);
        await p.pwrite(far, bytes(10), 20_000);
        await p.close(far);
        await remount(p, mount);
        assert.equal(await contents(p, "/mnt/f100"), grown);
        const gap = new Uint8Array(20_010);
        gap.set(bytes(59));
        gap.set(bytes(10), 20_000);
        assert.equal(await contents(p, "/mnt/f59"), gap);
      });
    });
  }
}

t("inline files are cut and lengthened", async () => {
  await on_ext4({ mkfs: INLINE_256 }, async (p) => {
    for (const [from, to] of [
      [130, 100],
      [130, 60],
      [130, 30],
      [130, 0],
      [40, 50],
      [40, 120],
      [40, 4000],
      [0, 10],
    ] as const) {
      const file = `/mnt/f${from}-${to}`;
      const fd = await p.open(file, 0o302, 0o644);
      await p.pwrite(fd, bytes(from), 0);
      await p.ftruncate(fd, to);
      await p.close(fd);
      await p.drop_caches();
      const want = new Uint8Array(to);
      want.set(bytes(from).subarray(0, Math.min(from, to)));
      assert.equal(await contents(p, file), want, file);
    }
    for (const n of await names(p, "/mnt")) {
      // half of them stay for e2fsck to look at
      if (n.startsWith("f130")) await p.unlink(`/mnt/${n}`);
    }
  });
});

t("attributes take the room of inline data and the other way round", async () => {
  await on_ext4({ mkfs: INLINE_256 }, async (p) => {
    const fd = await p.open("/mnt/f", 0o302, 0o644);
    await p.pwrite(fd, bytes(70), 0);
    await p.setxattr("/mnt/f", "user.a", bytes(8));
    await p.setxattr("/mnt/f", "user.long", bytes(400));
    await p.pwrite(fd, bytes(30, 9), 70);
    await p.removexattr("/mnt/f", "user.a");
    await p.close(fd);
    await remount(p, "");
    const want = new Uint8Array(100);
    want.set(bytes(70));
    want.set(bytes(30, 9), 70);
    assert.equal(await contents(p, "/mnt/f"), want);
    assert.equal(await p.getxattr("/mnt/f", "user.long"), bytes(400));
  });
});

for (const mkfs of [INLINE_256, INLINE_1K]) {
  t(`inline directories take names, give them up, and become blocks: ${mkfs}`, async () => {
    await on_ext4({ mkfs }, async (p) => {
      await p.mkdir("/mnt/d");
      assert.is((await p.stat("/mnt/d")).blocks, 0);
      await p.mkdir("/mnt/d/sub");
      await p.mkdir("/mnt/e");
      await p.rename("/mnt/d/sub", "/mnt/e/sub");
      assert.is((await p.stat("/mnt/e/sub/..")).ino, (await p.stat("/mnt/e")).ino);
      await p.rename("/mnt/e/sub", "/mnt/d/sub");
      assert.is((await p.stat("/mnt/d")).nlink, 3);
      const model = new Set(["sub"]);
      let x = 5;
      const rand = (n: number): number => {
        x = (Math.imul(x, 1103515245) + 12345) >>> 0;
        return (x >>> 8) % n;
      };
      for (let round = 0; round < 400; round++) {
        // at first few names, then more and more
        const name = `n${rand(2 + round / 8)}${"y".repeat(rand(8))}`;
        if (model.has(name)) {
          await p.unlink(`/mnt/d/${name}`);
          model.delete(name);
        } else {
          await p.close(await p.open(`/mnt/d/${name}`, 0o302, 0o600));
          model.add(name);
        }
        if (round % 40 === 0) {
          await p.drop_caches();
          assert.equal(await names(p, "/mnt/d"), [...model].sort());
        }
      }
      assert.equal(await names(p, "/mnt/d"), [...model].sort());
      for (let i = 0; i < 12; i++) {
        await p.mkdir(`/mnt/e/${i}`);
        await p.rmdir(`/mnt/e/${i}`);
      }
      await p.rename("/mnt/e", "/mnt/d/e2");
      await p.rmdir("/mnt/d/e2");
    });
  });
}

t("a store through a mapping moves the data out first", async () => {
  await on_ext4({ mkfs: INLINE_256 }, async (p) => {
    const fd = await p.open("/mnt/f", 0o302, 0o644);
    await p.pwrite(fd, bytes(100), 0);
    const addr = await p.mmap(0, 4096, 3, 1, fd);
    await p.store(addr + 10, Uint8Array.of(1, 2, 3));
    await p.munmap(addr, 4096);
    await p.close(fd);
    await remount(p, "");
    const want = bytes(100);
    want.set([1, 2, 3], 10);
    assert.equal(await contents(p, "/mnt/f"), want);
  });
});

t.run();
