/** rename with every flag, its lock order and what it refuses. */
import {
  O_CREAT,
  O_RDONLY,
  O_RDWR,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
} from "../../kernel/include/fcntl.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs, type P } from "./vfs.ts";

const t = suite("fs/rename");
const { is } = assert;

async function put(p: P, name: string, data: string): Promise<void> {
  const f = await p.open(name, O_RDWR | O_CREAT, 0o644);
  await p.write(f, data);
  await p.close(f);
}

async function get(p: P, name: string): Promise<string> {
  const f = await p.open(name, O_RDONLY);
  if (typeof f === "string") return f;
  const s = await p.read(f, 100);
  await p.close(f);
  return s;
}

t("a file takes another name, and replaces what had it", async () => {
  const { p } = await boot_vfs();
  await put(p, "/mnt/a", "A");
  await put(p, "/mnt/b", "B");
  const held = await p.open("/mnt/b", O_RDONLY);
  is(await p.rename("/mnt/a", "/mnt/b"), undefined);
  is(await p.names("/mnt"), "b");
  is(await get(p, "/mnt/b"), "A");
  is(await p.read(held, 9), "B");
  is(await p.show(held as number), "644 nlink=0 0:0 size=1");
  is(await p.rename("/mnt/none", "/mnt/c"), "ENOENT");
  is(await p.rename("/mnt/b", "/mnt/b"), undefined);
});

t("two names of one inode stay two names", async () => {
  const { p } = await boot_vfs();
  await put(p, "/mnt/a", "A");
  await p.link("/mnt/a", "/mnt/b");
  is(await p.rename("/mnt/a", "/mnt/b"), undefined);
  is(await p.names("/mnt"), "a b");
});

t("kinds must agree and replaced directories be empty", async () => {
  const { p } = await boot_vfs();
  await put(p, "/mnt/f", "F");
  await p.mkdir("/mnt/d");
  await p.mkdir("/mnt/e");
  await p.mkdir("/mnt/e/x");
  is(await p.rename("/mnt/f", "/mnt/d"), "EISDIR");
  is(await p.rename("/mnt/d", "/mnt/f"), "ENOTDIR");
  is(await p.rename("/mnt/d", "/mnt/e"), "ENOTEMPTY");
  is(await p.rename("/mnt/e", "/mnt/d"), undefined);
  is(await p.names("/mnt/d"), "x");
  is(await p.rename("/mnt/f", "/mnt/g/"), "ENOTDIR");
  is(await p.rename("/mnt/f/", "/mnt/g"), "ENOTDIR");
  is(await p.rename("/mnt/.", "/mnt/g"), "EBUSY");
  is(await p.rename("/mnt/f", "/mnt/.."), "EBUSY");
});

t("a directory cannot go below itself, nor replace one above it", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/a");
  await p.mkdir("/mnt/a/b");
  await p.mkdir("/mnt/a/b/c");
  is(await p.rename("/mnt/a", "/mnt/a/b/x"), "EINVAL");
  is(await p.rename("/mnt/a/b/c", "/mnt/a"), "ENOTEMPTY");
  is(await p.rename("/mnt/a", "/mnt/a/b", RENAME_EXCHANGE), "EINVAL");
});

t("a directory that moves takes its link along", async () => {
  const { p } = await boot_vfs();
  await p.mkdir("/mnt/a");
  await p.mkdir("/mnt/b");
  await p.mkdir("/mnt/a/s");
  is(await p.rename("/mnt/a/s", "/mnt/b/s"), undefined);
  is(await p.show("/mnt/a"), "dir 755 nlink=2 0:0");
  is(await p.show("/mnt/b"), "dir 755 nlink=3 0:0");
  is(await p.show("/mnt/b/s/.."), "dir 755 nlink=3 0:0");
});

t("RENAME_NOREPLACE refuses, RENAME_EXCHANGE swaps, unknown combinations are EINVAL", async () => {
  const { p } = await boot_vfs();
  await put(p, "/mnt/a", "A");
  await p.mkdir("/mnt/d");
  await put(p, "/mnt/d/b", "B");
  is(await p.rename("/mnt/a", "/mnt/d/b", RENAME_NOREPLACE), "EEXIST");
  is(await p.rename("/mnt/a", "/mnt/c", RENAME_NOREPLACE), undefined);
  is(await p.rename("/mnt/c", "/mnt/d/b", RENAME_EXCHANGE), undefined);
  is(await get(p, "/mnt/c"), "B");
  is(await get(p, "/mnt/d/b"), "A");
  is(await p.rename("/mnt/c", "/mnt/none", RENAME_EXCHANGE), "ENOENT");
  is(await p.rename("/mnt/c", "/mnt/d", RENAME_EXCHANGE), undefined);
  is(await p.names("/mnt/c"), "b");
  is(await p.rename("/mnt/c", "/mnt/d", RENAME_EXCHANGE | RENAME_NOREPLACE), "EINVAL");
  is(await p.rename("/mnt/c", "/mnt/d", 64), "EINVAL");
  is(await p.rename("/mnt/d", "/mnt/w", RENAME_WHITEOUT), "EINVAL");
});

t("names do not cross filesystems, and mount points stay", async () => {
  const { p } = await boot_vfs();
  await put(p, "/mnt/a", "A");
  is(await p.rename("/mnt/a", "/tmp/a"), "EXDEV");
  is(await p.link("/mnt/a", "/tmp/a"), "EXDEV");
  is(await p.rename("/mnt", "/elsewhere"), "EBUSY");
  is(await p.rmdir("/mnt"), "EBUSY");
});

t("many renames between two directories in opposite directions end well", async () => {
  const { p, machine } = await boot_vfs();
  await p.mkdir("/mnt/a");
  await p.mkdir("/mnt/a/b");
  for (let i = 0; i < 4; i++) {
    await put(p, `/mnt/a/x${i}`, `${i}`);
    await put(p, `/mnt/a/b/y${i}`, `${i}`);
  }
  const q = p.fork();
  const work: Promise<unknown>[] = [];
  for (let i = 0; i < 4; i++) {
    work.push(p.rename(`/mnt/a/x${i}`, `/mnt/a/b/x${i}`));
    work.push(q.rename(`/mnt/a/b/y${i}`, `/mnt/a/y${i}`));
    await Promise.all(work);
  }
  await machine.settle();
  is(await p.names("/mnt/a"), "b y0 y1 y2 y3");
  is(await p.names("/mnt/a/b"), "x0 x1 x2 x3");
});

t.run();
