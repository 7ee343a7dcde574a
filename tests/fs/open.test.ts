/** open(2) over a RAM filesystem: the answers are those recorded for ext4 (vfs/open-flags). */
import {
  O_APPEND,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  O_WRONLY,
} from "../../kernel/include/fcntl.ts";
import { S_IFCHR, S_IFIFO, S_IFSOCK } from "../../kernel/include/stat.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs } from "./vfs.ts";

const t = suite("fs/open");
const { equal, is } = assert;

t("opening and creating gives the descriptors and errors of Linux", async () => {
  const { p } = await boot_vfs();
  is(await p.open("/mnt/a", O_RDWR), "ENOENT");
  is(await p.open("/mnt/a", O_RDWR | O_CREAT | O_EXCL, 0o600), 0);
  is(await p.open("/mnt/a", O_RDWR | O_CREAT | O_EXCL, 0o600), "EEXIST");
  is(await p.show(0), "600 nlink=1 0:0 size=0");
  is(await p.write(0, "hello"), 5);
  is(await p.open("/mnt/a", O_RDONLY | O_TRUNC), 1);
  is(await p.show(1), "600 nlink=1 0:0 size=0");
  is(await p.open("/mnt", O_RDWR), "EISDIR");
  is(await p.open("/mnt", O_RDONLY | O_DIRECTORY), 2);
  is(await p.open("/mnt", O_RDONLY | O_CREAT), "EISDIR");
  is(await p.open("/mnt/a", O_RDONLY | O_DIRECTORY), "ENOTDIR");
  is(await p.open("/mnt/a/b", O_RDONLY), "ENOTDIR");
  is(await p.open("/mnt/none/b", O_RDWR | O_CREAT), "ENOENT");
  is(await p.open("", O_RDONLY), "ENOENT");
  is(await p.open("/mnt/a/", O_RDONLY), "ENOTDIR");
  is(await p.open("/mnt/new/", O_RDWR | O_CREAT), "EISDIR");
  is(await p.open("/mnt/x", O_RDWR | O_CREAT | O_DIRECTORY), "EINVAL");
  is(await p.names("/mnt"), "a");
});

t("a closed or unknown descriptor is EBADF", async () => {
  const { p } = await boot_vfs();
  is(await p.open("/mnt/a", O_RDWR | O_CREAT, 0o600), 0);
  is(await p.close(0), undefined);
  is(await p.close(0), "EBADF");
  is(await p.close(99), "EBADF");
  is(await p.read(0, 1), "EBADF");
  is(await p.dup(88), "EBADF");
});

t(
  "symlinks are followed, refused with O_NOFOLLOW, and created through when they dangle",
  async () => {
    const { p } = await boot_vfs();
    await p.open("/mnt/a", O_RDWR | O_CREAT, 0o600);
    is(await p.symlink("a", "/mnt/l"), undefined);
    is(await p.open("/mnt/l", O_RDONLY | O_NOFOLLOW), "ELOOP");
    is(await p.open("/mnt/l", O_PATH | O_NOFOLLOW), 1);
    is(await p.show(1), "lnk 777 nlink=1 0:0");
    is(await p.read(1, 1), "EBADF");
    is(await p.symlink("loop", "/mnt/loop"), undefined);
    is(await p.open("/mnt/loop", O_RDONLY), "ELOOP");
    is(await p.symlink("dangling", "/mnt/dl"), undefined);
    is(await p.open("/mnt/dl", O_RDWR | O_CREAT | O_EXCL), "EEXIST");
    is(await p.open("/mnt/dl", O_RDWR | O_CREAT, 0o644), 2);
    is(await p.show("/mnt/dangling", false), "644 nlink=1 0:0 size=0");
  },
);

t("O_TMPFILE makes a file without a name that can be given one unless O_EXCL", async () => {
  const { p } = await boot_vfs();
  is(await p.open("/mnt", O_TMPFILE | O_RDWR, 0o600), 0);
  is(await p.show(0), "600 nlink=0 0:0 size=0");
  is(await p.write(0, "tmp"), 3);
  is(await p.linkfd(0, "/mnt/fromtmp"), undefined);
  is(await p.show("/mnt/fromtmp"), "600 nlink=1 0:0 size=3");
  is(await p.open("/mnt", O_TMPFILE | O_RDONLY, 0o600), "EINVAL");
  is(await p.open("/mnt", O_TMPFILE | O_RDWR | O_EXCL, 0o600), 1);
  is(await p.linkfd(1, "/mnt/no"), "ENOENT");
  is(await p.open("/mnt/fromtmp", O_TMPFILE | O_RDWR, 0o600), "ENOTDIR");
});

t("umask takes bits from new files and directories", async () => {
  const { p } = await boot_vfs();
  is(await p.umask(0o077), 0o022);
  await p.open("/mnt/f", O_RDWR | O_CREAT, 0o666);
  is(await p.show("/mnt/f"), "600 nlink=1 0:0 size=0");
  await p.mkdir("/mnt/d", 0o777);
  is(await p.show("/mnt/d"), "dir 700 nlink=2 0:0");
});

t("device nodes lead to their driver, sockets and lone fifo writers to ENXIO", async () => {
  const { p } = await boot_vfs();
  is(await p.mknod("/mnt/c", S_IFCHR | 0o644, 1, 3), undefined);
  is(await p.mknod("/mnt/x", S_IFCHR | 0o644, 200, 7), undefined);
  is(await p.mknod("/mnt/s", S_IFSOCK | 0o644), undefined);
  is(await p.mknod("/mnt/p", S_IFIFO | 0o644), undefined);
  is(await p.open("/mnt/c", O_RDWR), 0);
  is(await p.write(0, "gone"), 4);
  is(await p.read(0, 4), "");
  is(await p.open("/mnt/x", O_RDWR), "ENXIO");
  is(await p.open("/mnt/s", O_RDWR), "ENXIO");
  is(await p.open("/mnt/p", O_WRONLY | 0o4000), "ENXIO");
  is(await p.open("/mnt/p", O_RDWR), 1);
  is(await p.write(1, "fifo"), 4);
  is(await p.read(1, 4), "fifo");
  is(await p.lseek(1, 0, 0), "ESPIPE");
  is(await p.ftruncate(1, 4), "EINVAL");
  is(await p.pread(1, 1, 0), "ESPIPE");
});

t("/dev has the memory devices, and /dev/full has no room", async () => {
  const { p } = await boot_vfs();
  equal((await p.names("/dev")).split(" "), ["full", "null", "random", "urandom", "zero"]);
  is(await p.open("/dev/full", O_RDWR), 0);
  is(await p.write(0, "x"), "ENOSPC");
  is(await p.open("/dev/zero", O_RDONLY), 1);
  is(await p.read(1, 2), "\0\0");
});

t("descriptors are the lowest free ones and shared by dup and fork", async () => {
  const { p } = await boot_vfs();
  is(await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644), 0);
  is(await p.write(0, "0123456789"), 10);
  is(await p.dup(0), 1);
  is(await p.lseek(0, 3, 0), 3);
  is(await p.read(1, 2), "34");
  is(await p.lseek(0, 0, 1), 5);
  const p2 = p.fork();
  is(await p2.read(0, 2), "56");
  is(await p.lseek(0, 0, 1), 7);
  is(await p.open("/mnt/a", O_RDWR), 2);
  is(await p.lseek(2, 0, 1), 0);
  await p2.exit();
  await p.close(1);
  is(await p.read(0, 1), "7");
  is(await p.dup2(0, 7), 7);
  is(await p.open("/mnt/a", O_RDWR), 1);
  is(await p.read(7, 1), "8");
});

t("RLIMIT_NOFILE ends in EMFILE before the path is looked at", async () => {
  const { p } = await boot_vfs();
  p.task.signal!.rlim["NOFILE"] = 1;
  is(await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644), 0);
  is(await p.open("/none/such", O_RDWR), "EMFILE");
  is(await p.dup(0), "EMFILE");
});

t("O_APPEND writes at the end whatever the position", async () => {
  const { p } = await boot_vfs();
  is(await p.open("/mnt/a", O_RDWR | O_CREAT | O_APPEND, 0o644), 0);
  is(await p.write(0, "abc"), 3);
  is(await p.lseek(0, 0, 0), 0);
  is(await p.write(0, "def"), 3);
  is(await p.pwrite(0, "X", 0), 1);
  is(await p.pread(0, 10, 0), "abcdefX");
});

t.run();
