/**
 * Owner, mode, size, times and inode flags (recorded: vfs/permissions, vfs/atime-and-data-times,
 * immutable/).
 */
import {
  O_APPEND,
  O_CREAT,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  O_TRUNC,
  O_WRONLY,
  UTIME_NOW,
  UTIME_OMIT,
} from "../../kernel/include/fcntl.ts";
import type { kstat } from "../../kernel/include/fs.ts";
import {
  FS_APPEND_FL,
  FS_DAX_FL,
  FS_IMMUTABLE_FL,
  FS_XFLAG_DAX,
  FS_XFLAG_EXTSIZE,
  FS_XFLAG_IMMUTABLE,
} from "../../kernel/include/fsflags.ts";
import { sys_utimensat } from "../../fs/utimes.ts";
import type { fsxattr } from "../../fs/ioctl.ts";
import { assert, suite } from "../lib/suite.ts";
import { register_labfs } from "./labfs.ts";
import { boot_vfs, type P, type vfs_machine } from "./vfs.ts";

const t = suite("fs/attr");
const { is, equal } = assert;

/** Which of the three times has moved on since the last call: "atime mtime". */
function watch(m: vfs_machine, what: string | number): () => Promise<string> {
  let old: kstat | null = null;
  return async () => {
    m.machine.clock.advance(20_000_000);
    const s = (await (typeof what === "number" ? m.p.fstat(what) : m.p.stat(what))) as kstat;
    const moved: string[] = [];
    for (const k of ["atime", "mtime", "ctime"] as const) {
      if (old && (s[k].tv_sec !== old[k].tv_sec || s[k].tv_nsec !== old[k].tv_nsec)) moved.push(k);
    }
    old = s;
    return moved.join(" ");
  };
}

t("each operation moves the times that it moves in Linux", async () => {
  const m = await boot_vfs();
  const { p } = m;
  const f = (await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644)) as number;
  await p.write(f, "abc");
  const moved = watch(m, f);
  await moved();
  await p.chmod("/mnt/a", 0o600);
  is(await moved(), "ctime");
  await p.link("/mnt/a", "/mnt/b");
  is(await moved(), "ctime");
  await p.pwrite(f, "x", 0);
  is(await moved(), "mtime ctime");
  await p.pread(f, 1, 0);
  is(await moved(), "atime");
  await p.pread(f, 1, 0);
  is(await moved(), "");
  const dir = watch(m, "/mnt");
  await dir();
  await p.rename("/mnt/b", "/mnt/c");
  is(await dir(), "mtime ctime");
  is(await moved(), "ctime");
  await p.ftruncate(f, 3);
  is(await moved(), "mtime ctime");
  await p.pwrite(f, "", 0);
  is(await moved(), "");
  await p.do((k) =>
    sys_utimensat(k, -100, "/mnt/a", [
      { tv_sec: 0, tv_nsec: UTIME_OMIT },
      { tv_sec: 0, tv_nsec: UTIME_OMIT },
    ]),
  );
  is(await moved(), "");
});

t("relatime renews an access time that is a day old", async () => {
  const m = await boot_vfs();
  const { p } = m;
  const f = (await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644)) as number;
  await p.write(f, "abc");
  m.machine.clock.advance(1e9);
  await p.pread(f, 1, 0);
  const moved = watch(m, f);
  await moved();
  m.machine.clock.advance(23 * 3600 * 1e9);
  await p.pread(f, 1, 0);
  is(await moved(), "");
  m.machine.clock.advance(3600 * 1e9);
  await p.pread(f, 1, 0);
  is(await moved(), "atime");
});

t("times can be set by the owner, and to now by whoever may write", async () => {
  const { p } = await boot_vfs();
  await p.open("/mnt/r", O_RDWR | O_CREAT, 0o666);
  await p.chmod("/mnt/r", 0o666);
  is(await p.utimes("/mnt/r", [1000, 2000]), undefined);
  const s = (await p.stat("/mnt/r")) as kstat;
  equal([s.atime.tv_sec, s.mtime.tv_sec], [1000, 2000]);
  const q = p.fork();
  q.setuid(1000);
  is(await q.utimes("/mnt/r", [5, 5]), "EPERM");
  is(await q.utimes("/mnt/r", null), undefined);
  await p.chmod("/mnt/r", 0o644);
  is(await q.utimes("/mnt/r", null), "EACCES");
  const now = { tv_sec: 0, tv_nsec: UTIME_NOW };
  is(await q.do((k) => sys_utimensat(k, -100, "/mnt/r", [now, now])), "EACCES");
  const bad = { tv_sec: 0, tv_nsec: 1e9 };
  is(await p.do((k) => sys_utimensat(k, -100, "/mnt/r", [bad, now])), "EINVAL");
});

t("set-id bits go with a change of owner or a plain user's write", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o640);
  await p.chown("/mnt/a", 1000, 2000);
  is(await p.chmod("/mnt/a", 0o6755), undefined);
  is(await p.show("/mnt/a"), "6755 nlink=1 1000:2000 size=0");
  await p.write(f, "x");
  is(await p.show("/mnt/a"), "6755 nlink=1 1000:2000 size=1");
  await p.chown("/mnt/a", 1000, 1000);
  is(await p.show("/mnt/a"), "755 nlink=1 1000:1000 size=1");
  const q = p.fork();
  q.setuid(1000);
  is(await q.chmod("/mnt/a", 0o6755), undefined);
  is(await q.truncate("/mnt/a", 0), undefined);
  is(await q.show("/mnt/a"), "755 nlink=1 1000:1000 size=0");
  await p.chown("/mnt/a", 1000, 4000);
  is(await q.chmod("/mnt/a", 0o2755), undefined);
  is(await q.show("/mnt/a"), "755 nlink=1 1000:4000 size=0");
});

t("set-gid directories hand down their group, and the bit to directories", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/sg");
  await p.chmod("/mnt/sg", 0o2775);
  await p.chown("/mnt/sg", 0, 3000);
  await p.mkdir("/mnt/sg/sub");
  is(await p.show("/mnt/sg/sub"), "dir 2755 nlink=2 0:3000");
  await p.open("/mnt/sg/f", O_RDWR | O_CREAT, 0o644);
  is(await p.show("/mnt/sg/f"), "644 nlink=1 0:3000 size=0");
});

t("truncate checks kind, rights and limits", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const r = await p.open("/mnt/a", O_RDONLY);
  is(await p.truncate("/mnt", 0), "EISDIR");
  is(await p.truncate("/mnt/a", -1), "EINVAL");
  is(await p.truncate("/mnt/none", 1), "ENOENT");
  is(await p.ftruncate(r, 1), "EINVAL");
  is(await p.ftruncate(f, 5000), undefined);
  is(await p.pwrite(f, "z", 4999), 1);
  is(await p.ftruncate(f, 10), undefined);
  is(await p.ftruncate(f, 5000), undefined);
  is(await p.pread(f, 2, 4998), "\0\0");
  p.task.signal!.rlim["FSIZE"] = 4096;
  is(await p.ftruncate(f, 6000), "EFBIG");
  is(p.task.signal!.pending[0]?.signo, 25);
  is(await p.ftruncate(f, 100), undefined);
});

async function flags_machine(): Promise<P> {
  const { p, kernel } = await boot_vfs();
  register_labfs(kernel);
  await p.mount("none", "/mnt2", "labfs");
  return p;
}

t("an immutable file refuses every change, also from descriptors opened before", async () => {
  const p = await flags_machine();
  const f = await p.open("/mnt2/a", O_RDWR | O_CREAT, 0o644);
  is(await p.ioctl(f, "FS_IOC_SETFLAGS", FS_IMMUTABLE_FL), 0);
  is(await p.ioctl(f, "FS_IOC_GETFLAGS"), FS_IMMUTABLE_FL);
  is(await p.open("/mnt2/a", O_RDWR), "EPERM");
  is(await p.open("/mnt2/a", O_RDONLY | O_TRUNC), "EPERM");
  is(await p.truncate("/mnt2/a", 1), "EPERM");
  is(await p.fallocate(f, 0, 0, 65536), "EPERM");
  is(await p.unlink("/mnt2/a"), "EPERM");
  is(await p.rename("/mnt2/a", "/mnt2/b"), "EPERM");
  is(await p.link("/mnt2/a", "/mnt2/b"), "EPERM");
  is(await p.chmod("/mnt2/a", 0o600), "EPERM");
  is(await p.chown("/mnt2/a", 1, 1), "EPERM");
  is(await p.utimes("/mnt2/a", null), "EPERM");
  is(await p.utimes("/mnt2/a", [5, 5]), "EPERM");
  is(await p.access("/mnt2/a", 2), "EPERM");
  is(await p.access("/mnt2/a", 4), undefined);
  is(await p.ioctl(f, "FS_IOC_SETFLAGS", 0), 0);
  is(await p.unlink("/mnt2/a"), undefined);
});

t("an append-only file only grows", async () => {
  const p = await flags_machine();
  const f = await p.open("/mnt2/a", O_RDWR | O_CREAT, 0o644);
  await p.ioctl(f, "FS_IOC_SETFLAGS", FS_APPEND_FL);
  is(await p.open("/mnt2/a", O_RDWR), "EPERM");
  const g = await p.open("/mnt2/a", O_WRONLY | O_APPEND);
  is(g, 1);
  is(await p.open("/mnt2/a", O_WRONLY | O_APPEND | O_TRUNC), "EPERM");
  is(await p.write(g, "more"), 4);
  is(await p.ftruncate(f, 1), "EPERM");
  is(await p.fallocate(f, 3, 0, 1), "EPERM");
  is(await p.chmod("/mnt2/a", 0o600), "EPERM");
  is(await p.utimes("/mnt2/a", null), undefined);
  is(await p.utimes("/mnt2/a", [5, 5]), "EPERM");
  is(await p.unlink("/mnt2/a"), "EPERM");
});

t("flags are set by the owner, the guarded ones with CAP_LINUX_IMMUTABLE only", async () => {
  const p = await flags_machine();
  const f = await p.open("/mnt2/a", O_RDWR | O_CREAT, 0o644);
  await p.chown("/mnt2/a", 1000, 1000);
  const q = p.fork();
  q.setuid(1000);
  is(await q.ioctl(f, "FS_IOC_SETFLAGS", FS_DAX_FL), 0);
  is(await q.ioctl(f, "FS_IOC_SETFLAGS", FS_DAX_FL | FS_IMMUTABLE_FL), "EPERM");
  const x = (await q.ioctl(f, "FS_IOC_FSGETXATTR")) as fsxattr;
  is(x.fsx_xflags, FS_XFLAG_DAX);
  is(await q.ioctl(f, "FS_IOC_FSSETXATTR", { ...x, fsx_xflags: FS_XFLAG_IMMUTABLE }), "EPERM");
  is(await q.ioctl(f, "FS_IOC_FSSETXATTR", { ...x, fsx_xflags: 0 }), 0);
  is(await q.ioctl(f, "FS_IOC_GETFLAGS"), 0);
  const d = await p.open("/mnt2", O_RDONLY);
  const ext = { ...x, fsx_xflags: FS_XFLAG_EXTSIZE, fsx_extsize: 4096 };
  is(await p.ioctl(d, "FS_IOC_FSSETXATTR", ext), "EINVAL");
  q.setuid(2000);
  is(await q.ioctl(f, "FS_IOC_SETFLAGS", FS_DAX_FL), "EPERM");
  const o = await p.open("/mnt2/a", O_PATH);
  is(await p.ioctl(o, "FS_IOC_GETFLAGS"), "EBADF");
  const r = await p.open("/mnt/plain", O_RDWR | O_CREAT, 0o600);
  is(await p.ioctl(r, "FS_IOC_GETFLAGS"), "ENOTTY");
  is(
    await p.ioctl(r, "FS_IOC_FIEMAP", { start: 0, length: 1, flags: 0, max_extents: 0 }),
    "EOPNOTSUPP",
  );
  is(await p.ioctl(r, "FIGETBSZ"), 4096);
  is(await p.ioctl(r, "FIBMAP", 0), "EINVAL");
  is(await p.ioctl(r, "BLKGETSIZE64"), "ENOTTY");
});

t("fallocate judges the combination of its flags before the file", async () => {
  const { p } = await boot_vfs();
  const f = await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  const r = await p.open("/mnt/a", O_RDONLY);
  const d = await p.open("/mnt", O_RDONLY);
  is(await p.fallocate(f, 0, -1, 1), "EINVAL");
  is(await p.fallocate(f, 0, 0, 0), "EINVAL");
  is(await p.fallocate(f, 0x80, 0, 1), "EOPNOTSUPP");
  is(await p.fallocate(f, 2, 0, 1), "EOPNOTSUPP");
  is(await p.fallocate(f, 2 | 1 | 0x10, 0, 1), "EOPNOTSUPP");
  is(await p.fallocate(f, 8 | 1, 0, 1), "EINVAL");
  is(await p.fallocate(f, 0x20 | 0x10, 0, 1), "EINVAL");
  is(await p.fallocate(r, 0, 0, 1), "EBADF");
  is(await p.fallocate(d, 0, 0, 1), "EBADF");
  is(await p.fallocate(f, 0, 2 ** 62, 1), "EFBIG");
  // the RAM root reserves space, as tmpfs does
  is(await p.fallocate(f, 0, 0, 1), undefined);
});

t("there is an end to links where the filesystem says so", async () => {
  const { p, kernel } = await boot_vfs();
  register_labfs(kernel, 4);
  await p.mount("none", "/mnt2", "labfs");
  await p.open("/mnt2/a", O_RDWR | O_CREAT, 0o644);
  for (let i = 0; i < 3; i++) is(await p.link("/mnt2/a", `/mnt2/l${i}`), undefined);
  is(await p.link("/mnt2/a", "/mnt2/l3"), "EMLINK");
  is(await p.mkdir("/mnt2/d1"), undefined);
  is(await p.mkdir("/mnt2/d2"), undefined);
  is(await p.mkdir("/mnt2/d3"), "EMLINK");
});

t.run();
