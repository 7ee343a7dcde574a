/**
 * Processes that make, move and remove names below one directory at random, under random schedules.
 * What must hold at the end, whatever happened: no error that a file system without a disk cannot
 * have, link counts equal to names, and no reference left: the filesystem can be unmounted and
 * every inode is freed.
 */
import {
  O_CREAT,
  O_EXCL,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
} from "../../kernel/include/fcntl.ts";
import type { dentry } from "../../kernel/include/fs.ts";
import { S_ISDIR } from "../../kernel/include/stat.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import { drop_caches } from "../../fs/drop_caches.ts";
import { find_mount } from "../../fs/namespace.ts";
import { assert, suite } from "../lib/suite.ts";
import { lab_calls, register_labfs } from "./labfs.ts";
import { boot_vfs, type P } from "./vfs.ts";

const t = suite("fs/vfs-property");

const ALLOWED = new Set([
  "ENOENT",
  "EEXIST",
  "ENOTDIR",
  "EISDIR",
  "ENOTEMPTY",
  "EINVAL",
  "EBUSY",
  "ELOOP",
  "EPERM",
]);

/** A path of one to three components out of four names. */
function some_path(r: Random): string {
  const depth = 1 + r.below(3);
  let path = "/mnt2";
  for (let i = 0; i < depth; i++) path += `/${"abcd"[r.below(4)]}`;
  return path;
}

async function one_call(p: P, r: Random, root: unknown): Promise<unknown> {
  const a = some_path(r);
  const b = some_path(r);
  switch (r.below(14)) {
    case 0:
    case 1:
      return p.mkdir(a);
    case 2:
      return p.rmdir(a);
    case 3:
      return p.unlink(a);
    case 4:
    case 5:
      return p.rename(a, b);
    case 6:
      return p.rename(a, b, RENAME_EXCHANGE);
    case 7:
      return p.rename(a, b, RENAME_NOREPLACE);
    case 8:
      return p.link(a, b);
    case 9:
      return p.symlink(b, a);
    case 10:
      return p.do(() => drop_caches(p.task.kernel));
    case 11: {
      const f = await p.open("/mnt2", O_TMPFILE | O_RDWR, 0o600);
      if (typeof f === "string") return f;
      const l = await p.linkfd(f, a);
      await p.close(f);
      return l;
    }
    case 12: {
      const frozen = await p.ioctl(root, "FIFREEZE");
      return frozen === undefined ? p.ioctl(root, "FITHAW") : frozen;
    }
    default: {
      const extra = [0, O_EXCL, O_TRUNC][r.below(3)]!;
      const f = await p.open(a, O_RDWR | O_CREAT | extra, 0o644);
      if (typeof f === "string") return f;
      await p.write(f, "some bytes");
      return p.close(f);
    }
  }
}

/** Counts names per inode and checks the tree below `d`. */
function check_tree(d: dentry, names: Map<unknown, number>): void {
  let subdirs = 0;
  for (const [name, c] of d.d_children) {
    assert.is(c.d_parent, d, `${name} knows its parent`);
    assert.is(c.d_name, name);
    const inode = c.d_inode;
    if (inode === null) continue;
    names.set(inode, (names.get(inode) ?? 0) + 1);
    if (!S_ISDIR(inode.i_mode)) continue;
    subdirs++;
    check_tree(c, names);
  }
  assert.is(d.d_inode!.i_nlink, 2 + subdirs, `links of directory ${d.d_name}`);
}

async function run(seed: number): Promise<void> {
  const m = await boot_vfs({ seed, strategy: new random_strategy(new Random(0), seed) });
  const { p, kernel } = m;
  register_labfs(kernel);
  assert.is(await p.mount("none", "/mnt2", "labfs"), undefined);
  const root = await p.open("/mnt2", 0);
  const mnt = await p.do((k) => find_mount(k, "/mnt2"));
  if (typeof mnt === "string") throw new Error(mnt);
  const sb = mnt.mnt_sb;
  const others = [p.fork(), p.fork(), p.fork()];
  const errors: string[] = [];
  await Promise.all(
    others.map(async (q, i) => {
      const r = new Random(seed * 8 + i);
      for (let n = 0; n < 25; n++) {
        const answer = await one_call(q, r, root);
        if (typeof answer === "string" && !ALLOWED.has(answer)) errors.push(answer);
      }
    }),
  );
  assert.equal(errors, []);
  const names = new Map<unknown, number>();
  check_tree(sb.s_root!, names);
  for (const [inode, n] of names) {
    const i = inode as NonNullable<dentry["d_inode"]>;
    if (!S_ISDIR(i.i_mode)) assert.is(i.i_nlink, n, `links of inode ${i.i_ino}`);
  }
  assert.is(sb.s_remove_count, 0, "no inode without a name is left");
  for (const q of others) await q.exit();
  await p.close(root);
  assert.is(await p.umount("/mnt2"), undefined);
  assert.is(lab_calls(sb).at(-1), "put_super");
  assert.is(sb.s_inodes.size, 0, "every inode is freed");
  assert.is(kernel.dmesg().length, 0, kernel.dmesg_text());
}

t("random calls under random schedules leave a consistent tree and no references", async () => {
  for (let seed = 1; seed <= 60; seed++) {
    try {
      await run(seed);
    } catch (e) {
      if (e instanceof Error) e.message = `seed ${seed}: ${e.message}`;
      throw e;
    }
  }
});

t.run();
