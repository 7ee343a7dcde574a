/** Names, sizes and permissions of extended attributes (recorded: xattr/basic). */
import { O_CREAT, O_RDWR, XATTR_CREATE, XATTR_REPLACE } from "../../kernel/include/fcntl.ts";
import { S_IFIFO } from "../../kernel/include/stat.ts";
import { FS_APPEND_FL, FS_IMMUTABLE_FL } from "../../kernel/include/fsflags.ts";
import {
  sys_getxattr,
  sys_listxattr,
  sys_removexattr,
  sys_setxattr,
  type xattr_target,
} from "../../fs/xattr.ts";
import { assert, suite } from "../lib/suite.ts";
import { register_labfs } from "./labfs.ts";
import { boot_vfs, text, type P } from "./vfs.ts";

const t = suite("fs/xattr");
const { is, equal } = assert;

async function lab(): Promise<P> {
  const { p, kernel } = await boot_vfs();
  register_labfs(kernel);
  is(await p.mount("none", "/mnt2", "labfs"), undefined);
  is(await p.open("/mnt2/a", O_RDWR | O_CREAT, 0o644), 0);
  return p;
}
const A: xattr_target = { path: "/mnt2/a" };
const set = (p: P, name: string, v: string | number, flags = 0, to: xattr_target = A) =>
  p.do((k) =>
    sys_setxattr(k, to, name, typeof v === "string" ? text(v) : new Uint8Array(v), flags),
  );
const remove = (p: P, name: string) => p.do((k) => sys_removexattr(k, A, name));
async function get(p: P, name: string, size?: number, from: xattr_target = A): Promise<string> {
  const v = await p.do((k) => sys_getxattr(k, from, name, size));
  return typeof v === "string" ? v : `${v.length} ${new TextDecoder().decode(v)}`;
}
async function list(p: P, of: xattr_target = A): Promise<string> {
  const v = await p.do((k) => sys_listxattr(k, of));
  return typeof v === "string" ? v : v.join(" ");
}

t("values are set, replaced and removed as the flags say", async () => {
  const p = await lab();
  is(await set(p, "user.one", "value1"), undefined);
  is(await set(p, "user.empty", ""), undefined);
  is(await get(p, "user.one"), "6 value1");
  is(await get(p, "user.empty", undefined, { fd: 0 }), "0 ");
  is(await list(p), "user.empty user.one");
  is(await set(p, "user.one", "x", XATTR_CREATE), "EEXIST");
  is(await set(p, "user.new", "x", XATTR_REPLACE), "ENODATA");
  is(await set(p, "user.one", "longer-value", XATTR_REPLACE), undefined);
  is(await get(p, "user.one", 3), "ERANGE");
  is(await get(p, "user.one", 0), "12 longer-value");
  is(await get(p, "user.none"), "ENODATA");
  is(await remove(p, "user.none"), "ENODATA");
  is(await remove(p, "user.one"), undefined);
  is(await list(p), "user.empty");
});

t("names have a known prefix and at most 255 bytes, values at most 64 KiB", async () => {
  const p = await lab();
  is(await set(p, "user.", "x"), "EINVAL");
  is(await set(p, "bogus.x", "x"), "EOPNOTSUPP");
  is(await set(p, "", "x"), "ERANGE");
  is(await set(p, `user.${"n".repeat(250)}`, "x"), undefined);
  is(await set(p, `user.${"n".repeat(251)}`, "x"), "ERANGE");
  is(await set(p, "user.x", "x", 4), "EINVAL");
  is(await set(p, "user.big", 65536), undefined);
  is(await set(p, "user.big", 65537), "E2BIG");
  is(await get(p, "user.big", 65535), "ERANGE");
});

t(
  "user attributes belong to files and directories, trusted ones to the administrator",
  async () => {
    const p = await lab();
    is(await p.symlink("a", "/mnt2/l"), undefined);
    is(await set(p, "user.v", "via", 0, { path: "/mnt2/l" }), undefined);
    is(await set(p, "user.v", "on", 0, { path: "/mnt2/l", nofollow: true }), "EPERM");
    await p.mkdir("/mnt2/d");
    is(await set(p, "user.dir", "ok", 0, { path: "/mnt2/d" }), undefined);
    await p.mknod("/mnt2/p", S_IFIFO | 0o644);
    is(await set(p, "user.x", "x", 0, { path: "/mnt2/p" }), "EPERM");
    is(await get(p, "user.x", undefined, { path: "/mnt2/p" }), "ENODATA");
    is(await set(p, "trusted.x", "x", 0, { path: "/mnt2/p" }), undefined);
    is(await set(p, "trusted.t", "t"), undefined);
    is(await set(p, "security.foo", "s"), undefined);
    const q = p.fork();
    q.setuid(1000);
    is(await get(q, "user.v"), "3 via");
    is(await set(q, "user.v", "x"), "EACCES");
    is(await set(q, "trusted.q", "x"), "EPERM");
    is(await get(q, "trusted.t"), "ENODATA");
    is(await list(q), "security.foo user.v");
    is(await list(p), "security.foo trusted.t user.v");
  },
);

t("immutable and append-only files keep theirs", async () => {
  const p = await lab();
  for (const flag of [FS_IMMUTABLE_FL, FS_APPEND_FL]) {
    is(await p.ioctl(0, "FS_IOC_SETFLAGS", flag), 0);
    is(await set(p, "user.x", "y"), "EPERM");
    is(await remove(p, "user.none"), "EPERM");
  }
  is(await p.ioctl(0, "FS_IOC_SETFLAGS", 0), 0);
  is(await set(p, "user.x", "y"), undefined);
});

t("only the owner sets user attributes of a sticky directory", async () => {
  const p = await lab();
  await p.mkdir("/mnt2/t");
  await p.chmod("/mnt2/t", 0o1777);
  const q = p.fork();
  q.setuid(1000);
  is(await set(q, "user.x", "y", 0, { path: "/mnt2/t" }), "EPERM");
  await p.chmod("/mnt2/t", 0o777);
  is(await set(q, "user.x", "y", 0, { path: "/mnt2/t" }), undefined);
});

t("a filesystem without handlers has no attributes", async () => {
  const { p } = await boot_vfs();
  await p.open("/mnt/a", O_RDWR | O_CREAT, 0o644);
  equal(await p.do((k) => sys_listxattr(k, { fd: 0 })), []);
  is(await p.do((k) => sys_setxattr(k, { fd: 0 }, "user.x", text("y"))), "EOPNOTSUPP");
});

t.run();
