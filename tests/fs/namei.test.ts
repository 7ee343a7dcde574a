/**
 * Path walk, and making and removing names (recorded: vfs/links-and-directories, vfs/permissions).
 */
import { AT_FDCWD, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY } from "../../kernel/include/fcntl.ts";
import {
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFREG,
  S_IFSOCK,
} from "../../kernel/include/stat.ts";
import { drop_caches } from "../../fs/drop_caches.ts";
import { sys_unlinkat } from "../../fs/namei.ts";
import { sys_getcwd } from "../../fs/namespace.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs } from "./vfs.ts";

const t = suite("fs/namei");
const { is } = assert;

t("names are limited to 255 bytes and paths to 4095", async () => {
  const { p } = await boot_vfs();
  is(await p.mkdir(`/mnt/${"n".repeat(255)}`), undefined);
  is(await p.mkdir(`/mnt/${"n".repeat(256)}`), "ENAMETOOLONG");
  is(await p.mkdir(`/mnt/${"é".repeat(127)}`), undefined);
  is(await p.mkdir(`/mnt/${"é".repeat(128)}`), "ENAMETOOLONG");
  is(await p.stat(`/mnt/${"n".repeat(300)}/x`), "ENAMETOOLONG");
  is(await p.show(`${"/mnt/.".repeat(1)}${"/.".repeat(2044)}`), "dir 755 nlink=4 0:0");
  is(await p.stat(`/${"./".repeat(2047)}x`), "ENAMETOOLONG");
});

t("dots, slashes and mount points are walked as in Linux", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/d");
  await p.open("/mnt/d/f", O_RDWR | O_CREAT, 0o644);
  is(await p.show("/mnt//d/./../d///f"), "644 nlink=1 0:0 size=0");
  is(await p.show("/../../mnt/d/f"), "644 nlink=1 0:0 size=0");
  is(await p.names("/mnt/d/../.."), "dev mnt mnt2 proc sys tmp");
  is(await p.stat("/mnt/d/f/."), "ENOTDIR");
  is(await p.stat("/mnt/d/f/.."), "ENOTDIR");
  is(await p.stat("/mnt/none/.."), "ENOENT");
  is(await p.chdir("/mnt/d"), undefined);
  is(await p.do((k) => sys_getcwd(k)), "/mnt/d");
  is(await p.show("f"), "644 nlink=1 0:0 size=0");
  is(await p.chdir(".."), undefined);
  is(await p.do((k) => sys_getcwd(k)), "/mnt");
  is(await p.chdir("d/f"), "ENOTDIR");
});

t("forty symlinks are followed, one more is a loop", async () => {
  const { p } = await boot_vfs();
  await p.open("/mnt/0", O_RDWR | O_CREAT, 0o644);
  for (let i = 1; i <= 41; i++) is(await p.symlink(`${i - 1}`, `/mnt/${i}`), undefined);
  is(await p.show("/mnt/40"), "644 nlink=1 0:0 size=0");
  is(await p.stat("/mnt/41"), "ELOOP");
});

t("symlinks on the way may be absolute, relative, or end in a slash", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/d");
  await p.open("/mnt/d/f", O_RDWR | O_CREAT, 0o644);
  await p.symlink("/mnt/d", "/mnt/abs");
  await p.symlink("d/", "/mnt/rel");
  await p.symlink("../mnt/d/f", "/mnt/up");
  await p.symlink("d/f/", "/mnt/fileslash");
  is(await p.show("/mnt/abs/f"), "644 nlink=1 0:0 size=0");
  is(await p.show("/mnt/rel/f"), "644 nlink=1 0:0 size=0");
  is(await p.show("/mnt/rel"), "dir 755 nlink=2 0:0");
  is(await p.show("/mnt/rel", false), "lnk 777 nlink=1 0:0");
  is(await p.show("/mnt/rel/", false), "dir 755 nlink=2 0:0");
  is(await p.show("/mnt/up"), "644 nlink=1 0:0 size=0");
  is(await p.stat("/mnt/fileslash"), "ENOTDIR");
  is(await p.stat("/mnt/up/"), "ENOTDIR");
  is(await p.symlink("", "/mnt/e"), "ENOENT");
  is(await p.readlink("/mnt/rel"), "d/");
  is(await p.readlink("/mnt/d"), "EINVAL");
});

t("link counts and the rules of unlink and rmdir are those recorded", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/d");
  is(await p.show("/mnt/d"), "dir 755 nlink=2 0:0");
  await p.mkdir("/mnt/d/s1");
  await p.mkdir("/mnt/d/s2");
  is(await p.show("/mnt/d"), "dir 755 nlink=4 0:0");
  is(await p.rmdir("/mnt/d"), "ENOTEMPTY");
  is(await p.rmdir("/mnt/d/s1"), undefined);
  const f = await p.open("/mnt/d/f", O_RDWR | O_CREAT, 0o644);
  is(await p.link("/mnt/d/f", "/mnt/g"), undefined);
  is(await p.link("/mnt/d/f", "/mnt/g"), "EEXIST");
  is(await p.link("/mnt/d", "/mnt/dl"), "EPERM");
  is(await p.link("/mnt/none", "/mnt/x"), "ENOENT");
  is(await p.show("/mnt/g"), "644 nlink=2 0:0 size=0");
  is(await p.unlink("/mnt/d"), "EISDIR");
  is(await p.rmdir("/mnt/g"), "ENOTDIR");
  is(await p.unlink("/mnt/d/f"), undefined);
  is(await p.unlink("/mnt/d/f"), "ENOENT");
  is(await p.unlink("/mnt/g"), undefined);
  is(await p.show(f as number), "644 nlink=0 0:0 size=0");
  is(await p.write(f, "still"), 5);
  is(await p.pread(f, 20, 0), "still");
  is(await p.linkfd(f as number, "/mnt/back"), "ENOENT");
  is(await p.rmdir("/mnt/d/s2"), undefined);
  is(await p.rmdir("/mnt/d/"), undefined);
  is(await p.rmdir("/mnt/none"), "ENOENT");
  is(await p.rmdir("/mnt/."), "EINVAL");
  is(await p.rmdir("/mnt/.."), "ENOTEMPTY");
  is(await p.rmdir("/"), "EBUSY");
  is(await p.unlink("/mnt/."), "EISDIR");
});

t("a removed working directory is there but dead", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/d");
  await p.chdir("/mnt/d");
  is(await p.rmdir("/mnt/d"), undefined);
  is(await p.mkdir("x"), "ENOENT");
  is(await p.open("f", O_RDWR | O_CREAT, 0o600), "ENOENT");
  is(await p.show("."), "dir 755 nlink=0 0:0");
  is(await p.names("."), "ENOENT");
  is(await p.do((k) => sys_getcwd(k)), "/mnt/d (deleted)");
});

t("trailing slashes need a directory, except for mkdir", async () => {
  const { p } = await boot_vfs();
  is(await p.mkdir("/mnt/d/"), undefined);
  await p.symlink("d", "/mnt/sl");
  is(await p.mkdir("/mnt/sl"), "EEXIST");
  is(await p.rmdir("/mnt/sl"), "ENOTDIR");
  is(await p.unlink("/mnt/sl/"), "ENOTDIR");
  is(await p.unlink("/mnt/d/"), "EISDIR");
  is(await p.unlink("/mnt/none/"), "ENOENT");
  is(await p.symlink("x", "/mnt/new/"), "ENOENT");
  is(await p.mknod("/mnt/new/", S_IFIFO | 0o600), "ENOENT");
  is(await p.mkdir("/mnt/none/new"), "ENOENT");
  is(await p.mkdir("/"), "EEXIST");
});

t("mknod takes regular files and special ones, no directories", async () => {
  const { p } = await boot_vfs();
  is(await p.mknod("/mnt/r", S_IFREG | 0o644), undefined);
  is(await p.mknod("/mnt/r", S_IFREG | 0o644), "EEXIST");
  is(await p.mknod("/mnt/d", S_IFDIR | 0o755), "EPERM");
  is(await p.mknod("/mnt/x", 0o130000), "EINVAL");
  is(await p.mknod("/mnt/b", S_IFBLK | 0o600, 7, 200), undefined);
  is(await p.mknod("/mnt/s", S_IFSOCK | 0o644), undefined);
  is(await p.show("/mnt/b"), "blk 600 nlink=1 0:0");
});

t("mode bits, sticky directories and capabilities decide for a plain user", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o640);
  await p.write(f, "secret");
  await p.chown("/mnt/a", 1000, 2000);
  await p.mkdir("/mnt/t", 0o1777);
  await p.chmod("/mnt/t", 0o1777);
  await p.open("/mnt/t/root", O_RDWR | O_CREAT, 0o644);
  const q = p.fork();
  q.setuid(2000);
  is(await q.open("/mnt/a", O_RDONLY), 2);
  is(await q.open("/mnt/a", O_WRONLY), "EACCES");
  is(await q.chmod("/mnt/a", 0o777), "EPERM");
  is(await q.chown("/mnt/a", 2000, 2000), "EPERM");
  is(await q.unlink("/mnt/t/root"), "EPERM");
  is(await q.rename("/mnt/t/root", "/mnt/t/x"), "EPERM");
  is(await q.open("/mnt/new", O_RDWR | O_CREAT, 0o644), "EACCES");
  is(await q.open("/mnt/t/mine", O_RDWR | O_CREAT, 0o644), 3);
  is(await q.chmod("/mnt/t/mine", 0o4777), undefined);
  is(await q.show(3), "4777 nlink=1 2000:2000 size=0");
  is(await q.write(3, "x"), 1);
  is(await q.show(3), "777 nlink=1 2000:2000 size=1");
  is(await q.chown("/mnt/t/mine", 2000, 3000), "EPERM");
  is(await q.access("/mnt/a", 2), "EACCES");
  is(await q.access("/mnt/a", 4), undefined);
  is(await q.mknod("/mnt/t/dev", S_IFCHR | 0o644, 1, 3), "EPERM");
  is(await q.truncate("/mnt/a", 0), "EACCES");
  await p.chmod("/mnt", 0o700);
  is(await q.stat("/mnt/t"), "EACCES");
  is(await q.stat("/mnt/none"), "EACCES");
});

t("unlinkat obeys AT_REMOVEDIR and knows no other flag", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/d");
  is(await p.do((k) => sys_unlinkat(k, AT_FDCWD, "/mnt/d", 0x1000)), "EINVAL");
  is(await p.do((k) => sys_unlinkat(k, AT_FDCWD, "/mnt/d", 0x200)), undefined);
});

t("a relative path needs a directory's descriptor", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/d");
  const d = (await p.open("/mnt/d", O_RDONLY)) as number;
  const f = (await p.openat(d, "f", O_RDWR | O_CREAT, 0o600)) as number;
  is(await p.show("/mnt/d/f"), "600 nlink=1 0:0 size=0");
  is(await p.openat(f, "x", O_RDONLY), "ENOTDIR");
  is(await p.openat(77, "x", O_RDONLY), "EBADF");
  is(await p.openat(77, "/mnt/d", O_RDONLY), 2);
});

t("two tasks that look the same name up at once get one dentry", async () => {
  const { p, kernel } = await boot_vfs();
  const q = p.fork();
  const r = await Promise.all([
    p.open("/mnt/same", O_RDWR | O_CREAT, 0o600),
    q.open("/mnt/same", O_RDWR | O_CREAT, 0o600),
  ]);
  assert.equal(r, [0, 0]);
  is(await p.names("/mnt"), "same");
  await p.do(() => drop_caches(kernel));
  is(await p.show("/mnt/same"), "600 nlink=1 0:0 size=0");
});

t("drop_caches frees absent names and leaves what RAM holds", async () => {
  const { p, kernel } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o600);
  await p.write(f, "kept");
  await p.close(f);
  is(await p.stat("/mnt/none"), "ENOENT");
  await p.do(() => drop_caches(kernel));
  const g = await p.open("/mnt/a", O_RDONLY);
  is(await p.read(g, 10), "kept");
});

t.run();
