/**
 * tests/fs/ext4-images-write.test.ts - every image that a real kernel made, changed by us: names
 * added to, moved within and removed from what is there, attributes set, everything deleted. e2fsck
 * agrees.
 */
import { S_ISDIR, S_ISREG } from "../../kernel/include/stat.ts";
import type { Process } from "../../tools/api/process.ts";
import { image_names, read_image } from "../lib/images.ts";
import { assert, suite } from "../lib/suite.ts";
import { on_ext4 } from "./ext4/on_ext4.ts";

const t = suite("fs/ext4/images_write");

const value = (n: number): Uint8Array => Uint8Array.from({ length: n }, (_, i) => (i * 7) & 0xff);
const names = async (p: Process, dir: string): Promise<string[]> =>
  (await p.readdir(dir)).map((e) => e.name).filter((n) => n !== "." && n !== "..");

/** Directories of the image, at most `max`, and some of the files in them. */
async function walk(p: Process, max: number): Promise<{ dirs: string[]; files: string[] }> {
  const dirs = ["/mnt"];
  const files: string[] = [];
  for (let i = 0; i < dirs.length && i < max; i++) {
    for (const name of (await names(p, dirs[i]!)).slice(0, 60)) {
      const path = `${dirs[i]}/${name}`;
      const { mode } = await p.lstat(path);
      if (S_ISDIR(mode) && dirs.length < max) dirs.push(path);
      else if (S_ISREG(mode)) files.push(path);
    }
  }
  return { dirs, files };
}

/** What the image may forbid: flags, a full disk, too little room for an attribute. */
const ALLOWED = ["EPERM", "ENOSPC", "ENAMETOOLONG", "EOPNOTSUPP"];
async function attempt(p: Process, fn: () => unknown): Promise<boolean> {
  try {
    await fn();
    return true;
  } catch (e) {
    const code = p.error_code(e);
    if (code === null || !ALLOWED.includes(code)) throw e;
    return false;
  }
}

async function change_names(p: Process, dir: string): Promise<void> {
  const before = (await names(p, dir)).sort();
  const made: string[] = [];
  for (let i = 0; i < 40; i++) {
    const name = `made-${i}-${"é".repeat(i % 30)}`;
    const file = `${dir}/${name}`;
    if (!(await attempt(p, async () => p.close(await p.open(file, 0o302, 0o600))))) break;
    made.push(name);
  }
  if (made.length > 2) {
    // a directory that only grows keeps what was made in it
    if (!(await attempt(p, () => p.rename(`${dir}/${made[0]}`, `${dir}/${made[1]}`)))) return;
    await attempt(p, () => p.mkdir(`${dir}/made-dir`));
    await attempt(p, () => p.rename(`${dir}/${made[2]}`, `${dir}/made-dir/x`));
    await attempt(p, () => p.unlink(`${dir}/made-dir/x`));
    await attempt(p, () => p.rmdir(`${dir}/made-dir`));
  }
  for (const name of await names(p, dir)) {
    if (name.startsWith("made-") && !before.includes(name)) {
      await attempt(p, () => p.unlink(`${dir}/${name}`));
    }
  }
  const after = (await names(p, dir)).sort();
  assert.equal(after, before, dir);
}

async function change_attributes(p: Process, files: readonly string[]): Promise<void> {
  for (const file of files.slice(0, 40)) {
    for (const n of [3, 200, 1500]) {
      const name = `user.made${n}`;
      if (!(await attempt(p, () => p.setxattr(file, name, value(n))))) continue;
      assert.equal(await p.getxattr(file, name), value(n), `${file} ${name}`);
    }
    await attempt(p, () => p.rename(file, `${file}-moved`));
  }
}

async function remove_tree(p: Process, dir: string): Promise<void> {
  for (const name of await names(p, dir)) {
    const path = `${dir}/${name}`;
    if (S_ISDIR((await p.lstat(path)).mode)) {
      await remove_tree(p, path);
      if (path !== "/mnt/lost+found") {
        await attempt(p, async () => {
          if ((await names(p, path)).length === 0) await p.rmdir(path);
        });
      }
    } else await attempt(p, () => p.unlink(path));
  }
}

for (const name of image_names("ext4")) {
  const big = name === "ext4-nlink";
  if (name === "ext4-quota") {
    t.skip(name, "quota accounting is not there yet: the mount is refused");
    continue;
  }
  t(
    `${name}: names and attributes are changed, then all is removed`,
    async () => {
      await on_ext4({ image: read_image("ext4", name) }, async (p) => {
        const { dirs, files } = await walk(p, 25);
        for (const dir of dirs) await change_names(p, dir);
        await change_attributes(p, files);
      });
      await on_ext4({ image: read_image("ext4", name) }, (p) => remove_tree(p, "/mnt"));
    },
    big ? { groups: ["long"], timeout_ms: 300_000 } : { timeout_ms: 120_000 },
  );
}

t.run();
