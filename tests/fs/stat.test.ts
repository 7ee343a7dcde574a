/** stat, statx, statfs and directory listings. */
import { AT_EMPTY_PATH, O_CREAT, O_PATH, O_RDONLY, O_RDWR } from "../../kernel/include/fcntl.ts";
import type { kstat, kstatfs } from "../../kernel/include/fs.ts";
import { STATX_ATTR_MOUNT_ROOT } from "../../kernel/include/stat.ts";
import { sys_getdents64, type dirent } from "../../fs/readdir.ts";
import { sys_fstatfs, sys_statfs, sys_statx } from "../../fs/stat.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs, type P } from "./vfs.ts";

const t = suite("fs/stat");
const { is, equal } = assert;

t("stat shows what was made, fstat the same of the descriptor", async () => {
  const { p } = await boot_vfs();
  const f = (await p.open("/mnt/a", O_RDWR | O_CREAT, 0o640)) as number;
  await p.write(f, "abc");
  const a = (await p.stat("/mnt/a")) as kstat;
  const b = (await p.fstat(f)) as kstat;
  equal([a.size, a.blksize, a.mode.toString(8), a.nlink], [3, 4096, "100640", 1]);
  equal([b.ino, b.dev, b.size], [a.ino, a.dev, 3]);
  is(await p.stat(""), "ENOENT");
  is(await p.fstat(44), "EBADF");
});

t("statx with an empty path is the descriptor, and marks roots of mounts", async () => {
  const { p } = await boot_vfs();
  const d = (await p.open("/mnt", O_PATH)) as number;
  const s = (await p.do((k) => sys_statx(k, d, "", AT_EMPTY_PATH, 0))) as kstat;
  is(s.attributes & STATX_ATTR_MOUNT_ROOT, STATX_ATTR_MOUNT_ROOT);
  await p.mkdir("/mnt/d");
  const e = (await p.do((k) => sys_statx(k, d, "d", 0, 0))) as kstat;
  is(e.attributes & STATX_ATTR_MOUNT_ROOT, 0);
  is(await p.do((k) => sys_statx(k, d, "d", 1 << 20, 0)), "EINVAL");
});

t("statfs tells the flags of the mount", async () => {
  const { p } = await boot_vfs();
  const s = (await p.do((k) => sys_statfs(k, "/mnt"))) as kstatfs;
  equal([s.f_namelen, s.f_bsize, s.f_flags], [255, 4096, 0x1020]);
  is(await p.mount("none", "/mnt", "", 32 | 1 | 4), undefined);
  const f = (await p.open("/mnt", O_RDONLY)) as number;
  const r = (await p.do((k) => sys_fstatfs(k, f))) as kstatfs;
  is(r.f_flags, 0x1025);
});

async function list(p: P, fd: number, bufsize: number): Promise<string> {
  const r = await p.do((k) => sys_getdents64(k, fd, bufsize));
  return typeof r === "string" ? r : r.map((d: dirent) => d.name).join(" ");
}

t("a listing comes in buffers, survives removals, and starts again after lseek", async () => {
  const { p } = await boot_vfs();
  for (const n of ["a", "b", "c", "d", "e"]) await p.mkdir(`/mnt/${n}`);
  const f = (await p.open("/mnt", O_RDONLY)) as number;
  is(await list(p, f, 10), "EINVAL");
  is(await list(p, f, 24 * 4), ". .. a b");
  await p.rmdir("/mnt/b");
  await p.rmdir("/mnt/c");
  is(await list(p, f, 24 * 4), "d e");
  is(await list(p, f, 24 * 4), "");
  is(await p.lseek(f, 0, 0), 0);
  is(await list(p, f, 4096), ". .. a d e");
  const g = (await p.open("/mnt/a/../x", O_RDWR | O_CREAT, 0o600)) as number;
  is(await list(p, g, 4096), "ENOTDIR");
});

t.run();
