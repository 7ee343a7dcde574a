/**
 * tests/fs/ext4-namei-write.test.ts - names on ext4: made, linked, renamed, removed; e2fsck agrees.
 */
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from "../../kernel/include/fcntl.ts";
import { MKDEV, S_IFCHR, S_IFIFO, S_IFMT } from "../../kernel/include/stat.ts";
import type { Process } from "../../tools/api/process.ts";
import { assert, suite } from "../lib/suite.ts";
import { find_tool } from "../lib/e2fsprogs.ts";
import { device_bytes, on_ext4 } from "./ext4/on_ext4.ts";

const t = suite("fs/ext4/namei_write");
const O_CREAT_EXCL_RDWR = 0o302;
const O_TMPFILE_RDWR = 0o20200002;

const names = async (p: Process, dir: string): Promise<string[]> =>
  (await p.readdir(dir))
    .map((e) => e.name)
    .filter((n) => n !== "." && n !== "..")
    .sort();
const touch = async (p: Process, file: string): Promise<void> =>
  p.close(await p.open(file, O_CREAT_EXCL_RDWR, 0o644));
async function code(p: Process, fn: () => unknown): Promise<string | null> {
  try {
    await fn();
  } catch (e) {
    return p.error_code(e) ?? String(e);
  }
  return null;
}

t("files and directories are made, listed and removed again", async () => {
  await on_ext4({}, async (p) => {
    await p.mkdir("/mnt/a");
    await touch(p, "/mnt/a/file");
    await p.mkdir("/mnt/a/sub");
    assert.equal(await names(p, "/mnt/a"), ["file", "sub"]);
    assert.is((await p.stat("/mnt/a")).nlink, 3);
    assert.is(await code(p, () => p.rmdir("/mnt/a")), "ENOTEMPTY");
    await p.rmdir("/mnt/a/sub");
    assert.is((await p.stat("/mnt/a")).nlink, 2);
    await p.unlink("/mnt/a/file");
    await p.rmdir("/mnt/a");
    assert.equal(await names(p, "/mnt"), ["lost+found"]);
  });
});

t("what was made is there after unmounting and mounting again", async () => {
  await on_ext4({ mkfs: "-b 1024" }, async (p) => {
    await p.mkdir("/mnt/d");
    await touch(p, "/mnt/d/f");
    await p.symlink("short target", "/mnt/d/fast");
    await p.symlink("x".repeat(59), "/mnt/d/fast59");
    await p.symlink("y".repeat(60), "/mnt/d/slow60");
    await p.symlink("z".repeat(1023), "/mnt/d/slow1023");
    assert.is(await code(p, () => p.symlink("z".repeat(1024), "/mnt/d/no")), "ENAMETOOLONG");
    await p.mknod("/mnt/d/fifo", S_IFIFO | 0o600);
    await p.mknod("/mnt/d/dev", S_IFCHR | 0o600, MKDEV(300, 1000));
    await p.link("/mnt/d/f", "/mnt/d/g");
    await p.umount("/mnt");
    await p.mount("/dev/pmem0", "/mnt", "ext4", "");
    assert.equal(await names(p, "/mnt/d"), [
      "dev",
      "f",
      "fast",
      "fast59",
      "fifo",
      "g",
      "slow1023",
      "slow60",
    ]);
    assert.is(await p.readlink("/mnt/d/fast"), "short target");
    assert.is(await p.readlink("/mnt/d/fast59"), "x".repeat(59));
    assert.is(await p.readlink("/mnt/d/slow60"), "y".repeat(60));
    assert.is(await p.readlink("/mnt/d/slow1023"), "z".repeat(1023));
    assert.is((await p.stat("/mnt/d/f")).nlink, 2);
    assert.is((await p.stat("/mnt/d/dev")).rdev, MKDEV(300, 1000));
    assert.is((await p.stat("/mnt/d/fifo")).mode & S_IFMT, S_IFIFO);
  });
});

t("a rename replaces a file, and an empty directory, and moves .. along", async () => {
  await on_ext4({}, async (p) => {
    for (const d of ["a", "b", "a/dir", "b/empty", "b/full", "b/full/x"])
      await p.mkdir(`/mnt/${d}`);
    await touch(p, "/mnt/a/f");
    await touch(p, "/mnt/b/f");
    const ino = (await p.stat("/mnt/a/f")).ino;
    await p.rename("/mnt/a/f", "/mnt/b/f");
    assert.is((await p.stat("/mnt/b/f")).ino, ino);
    assert.is(await code(p, () => p.rename("/mnt/a/dir", "/mnt/b/full")), "ENOTEMPTY");
    await p.rename("/mnt/a/dir", "/mnt/b/empty");
    assert.is((await p.stat("/mnt/a")).nlink, 2);
    assert.is((await p.stat("/mnt/b")).nlink, 4);
    assert.is((await p.stat("/mnt/b/empty/..")).ino, (await p.stat("/mnt/b")).ino);
    assert.is(await code(p, () => p.rename("/mnt/b", "/mnt/b/full/y")), "EINVAL");
    await p.drop_caches();
    assert.equal(await names(p, "/mnt/b"), ["empty", "f", "full"]);
  });
});

t("RENAME_NOREPLACE, _EXCHANGE and _WHITEOUT do what they say", async () => {
  await on_ext4({}, async (p) => {
    for (const d of ["a", "b", "a/dir"]) await p.mkdir(`/mnt/${d}`);
    await touch(p, "/mnt/b/f");
    const noreplace = () => p.renameat2("/mnt/a/dir", "/mnt/b/f", RENAME_NOREPLACE);
    assert.is(await code(p, noreplace), "EEXIST");
    await p.renameat2("/mnt/a/dir", "/mnt/b/f", RENAME_EXCHANGE);
    assert.is((await p.stat("/mnt/a")).nlink, 2);
    assert.is((await p.stat("/mnt/b")).nlink, 3);
    assert.is((await p.stat("/mnt/b/f/..")).ino, (await p.stat("/mnt/b")).ino);
    await p.renameat2("/mnt/a/dir", "/mnt/a/moved", RENAME_WHITEOUT);
    const wh = await p.stat("/mnt/a/dir");
    assert.is(wh.mode & S_IFMT, S_IFCHR);
    assert.is(wh.rdev, 0);
    assert.equal(await names(p, "/mnt/a"), ["dir", "moved"]);
    const gone = () => p.renameat2("/mnt/a/none", "/mnt/a/dir", RENAME_EXCHANGE);
    assert.is(await code(p, gone), "ENOENT");
  });
});

t("a file of O_TMPFILE gets its first name by a link, or goes with its last user", async () => {
  await on_ext4({}, async (p) => {
    const free = (await p.statfs("/mnt")).f_ffree;
    const a = await p.open("/mnt", O_TMPFILE_RDWR, 0o600);
    assert.is((await p.fstat(a)).nlink, 0);
    assert.is((await p.statfs("/mnt")).f_ffree, free - 1);
    await p.linkfd(a, "/mnt/named");
    assert.is((await p.fstat(a)).nlink, 1);
    await p.close(a);
    const b = await p.open("/mnt", O_TMPFILE_RDWR, 0o600);
    await p.close(b);
    assert.is((await p.statfs("/mnt")).f_ffree, free - 1);
    assert.equal(await names(p, "/mnt"), ["lost+found", "named"]);
  });
});

t("an open file outlives its name and its inode is free after the last close", async () => {
  await on_ext4({}, async (p) => {
    const free = (await p.statfs("/mnt")).f_ffree;
    const fd = await p.open("/mnt/f", O_CREAT_EXCL_RDWR, 0o600);
    await p.unlink("/mnt/f");
    assert.is((await p.fstat(fd)).nlink, 0);
    assert.is((await p.statfs("/mnt")).f_ffree, free - 1);
    await p.close(fd);
    assert.is((await p.statfs("/mnt")).f_ffree, free);
  });
});

t("a name of 255 bytes fits, one of 256 is too long", async () => {
  await on_ext4({ mkfs: "-b 1024" }, async (p) => {
    const long = "é".repeat(127) + "x";
    await touch(p, `/mnt/${long}`);
    assert.equal(await names(p, "/mnt"), ["lost+found", long]);
    assert.is(await code(p, () => touch(p, `/mnt/${long}y`)), "ENAMETOOLONG");
    await p.unlink(`/mnt/${long}`);
  });
});

t(
  "running out of inodes, of blocks for directories and for index blocks leaves all whole",
  async () => {
    await on_ext4({ mkfs: "-b 1024 -N 200", size: "4M" }, async (p) => {
      await p.mkdir("/mnt/d");
      let files = 0;
      const more_files = () => touch(p, `/mnt/d/${"f".repeat(40)}${files}`);
      while ((await code(p, more_files)) === null) files++;
      assert.is((await p.statfs("/mnt")).f_ffree, 0);
      assert.is((await names(p, "/mnt/d")).length, files);
      assert.is(await code(p, () => p.mkdir("/mnt/dir")), "ENOSPC");
    });
    await on_ext4({ mkfs: "-b 1024 -N 8000 -m 0", size: "4M" }, async (p) => {
      let dirs = 0;
      while ((await code(p, () => p.mkdir(`/mnt/${"d".repeat(200)}${dirs}`))) === null) dirs++;
      // a fiftieth is kept back for conversions that must not fail
      assert.ok((await p.statfs("/mnt")).f_bfree < 4096 / 50 + 2);
      assert.is((await p.stat("/mnt")).nlink, dirs + 3);
      // with no block left names still go into what is there, until that is full
      let links = 0;
      const file = `/mnt/${"d".repeat(200)}0`;
      await touch(p, `${file}/f`);
      const link = () => p.link(`${file}/f`, `${file}/${"l".repeat(100)}${links}`);
      while ((await code(p, link)) === null) links++;
      assert.ok(links > 3 && links < 20, `${links} links`);
      assert.is(await code(p, () => p.symlink("t".repeat(300), `${file}/s`)), "ENOSPC");
      assert.is(await code(p, () => p.setxattr(file, "user.x", new Uint8Array(500))), "ENOSPC");
      await p.rmdir(`/mnt/${"d".repeat(200)}1`);
      await p.symlink("t".repeat(300), `${file}/s`);
    });
  },
);

t("an index that makes no sense is not used, and with checksums not written to", async () => {
  const spoil = async (mkfs: string): Promise<string | null> => {
    let r: string | null = null;
    const m = await on_ext4({ mkfs }, async (p) => {
      await p.mkdir("/mnt/d");
      for (let i = 0; i < 100; i++) await touch(p, `/mnt/d/${"n".repeat(30)}${i}`);
    });
    const image = await device_bytes(m);
    // dx_root_info of the one indexed directory: a hash nobody knows
    const at = find_dx_root(image);
    image[at + 4] = 77;
    await on_ext4({ image, fsck: false }, async (p) => {
      r = await code(p, () => touch(p, "/mnt/d/new"));
      return "dirty";
    });
    return r;
  };
  assert.is(await spoil("-b 1024"), "EBADMSG");
  assert.is(await spoil("-b 1024 -O ^metadata_csum"), null);
});

/** Byte offset of dx_root_info in the first hashed directory of an image with blocks of 1 KiB. */
function find_dx_root(image: Uint8Array): number {
  for (let b = 0; b < image.length; b += 1024) {
    const dot = image[b + 4] === 12 && image[b + 6] === 1 && image[b + 8] === 0x2e;
    const info = image[b + 29] === 8 && image[b + 24] === 0 && image[b + 16] === (1012 & 0xff);
    if (dot && info) return b + 24;
  }
  throw new Error("no hashed directory in the image");
}

if (!find_tool("e2fsck")) t.skip("the media is consistent", "e2fsck is not installed");
t.run();
