/**
 * tests/fs/ext4-xattr-write.test.ts - extended attributes set, moved, shared and removed; e2fsck
 * agrees.
 */
import type { Process } from "../../tools/api/process.ts";
import { assert, suite } from "../lib/suite.ts";
import { on_ext4 } from "./ext4/on_ext4.ts";

const t = suite("fs/ext4/xattr_write");

const bytes = (n: number, seed = 1): Uint8Array =>
  Uint8Array.from({ length: n }, (_, i) => (i * 31 + seed * 17 + (i >> 8)) & 0xff);
const touch = async (p: Process, file: string): Promise<void> =>
  p.close(await p.open(file, 0o302, 0o644));
async function code(p: Process, fn: () => unknown): Promise<string | null> {
  try {
    await fn();
  } catch (e) {
    return p.error_code(e) ?? String(e);
  }
  return null;
}
const remount = async (p: Process): Promise<void> => {
  await p.umount("/mnt");
  await p.mount("/dev/pmem0", "/mnt", "ext4", "");
};

t("values go into the inode, then into a block, and are there after remounting", async () => {
  await on_ext4({}, async (p) => {
    await touch(p, "/mnt/f");
    const blocks = async () => (await p.stat("/mnt/f")).blocks;
    await p.setxattr("/mnt/f", "user.small", bytes(20));
    assert.is(await blocks(), 0);
    await p.setxattr("/mnt/f", "user.large", bytes(3000));
    assert.is(await blocks(), 8);
    assert.is(await code(p, () => p.setxattr("/mnt/f", "user.more", bytes(3000))), "ENOSPC");
    await p.setxattr("/mnt/f", "user.small", bytes(500, 2));
    await p.setxattr("/mnt/f", "user.empty", bytes(0));
    await remount(p);
    assert.equal(await p.getxattr("/mnt/f", "user.small"), bytes(500, 2));
    assert.equal(await p.getxattr("/mnt/f", "user.large"), bytes(3000));
    assert.equal(await p.getxattr("/mnt/f", "user.empty"), bytes(0));
    const names = ["user.empty", "user.large", "user.small"];
    assert.equal((await p.listxattr("/mnt/f")).sort(), names);
    for (const n of names) await p.removexattr("/mnt/f", n);
    assert.is(await blocks(), 0);
    assert.equal(await p.listxattr("/mnt/f"), []);
  });
});

t("XATTR_CREATE and XATTR_REPLACE are heeded, removing what is not there is ENODATA", async () => {
  await on_ext4({}, async (p) => {
    await touch(p, "/mnt/f");
    await p.setxattr("/mnt/f", "user.a", bytes(4), 1);
    assert.is(await code(p, () => p.setxattr("/mnt/f", "user.a", bytes(4), 1)), "EEXIST");
    await p.setxattr("/mnt/f", "user.a", bytes(5), 2);
    assert.is(await code(p, () => p.setxattr("/mnt/f", "user.b", bytes(4), 2)), "ENODATA");
    assert.is(await code(p, () => p.removexattr("/mnt/f", "user.b")), "ENODATA");
    assert.equal(await p.getxattr("/mnt/f", "user.a"), bytes(5));
  });
});

t("files with equal attributes share one block until one of them changes", async () => {
  await on_ext4({}, async (p) => {
    const free0 = (await p.statfs("/mnt")).f_bfree;
    for (let i = 0; i < 20; i++) {
      await touch(p, `/mnt/f${i}`);
      await p.setxattr(`/mnt/f${i}`, "user.same", bytes(900));
    }
    assert.is(free0 - (await p.statfs("/mnt")).f_bfree, 1);
    assert.is((await p.stat("/mnt/f3")).blocks, 8);
    await p.setxattr("/mnt/f3", "user.other", bytes(300));
    assert.is(free0 - (await p.statfs("/mnt")).f_bfree, 2);
    assert.equal(await p.getxattr("/mnt/f4", "user.same"), bytes(900));
    assert.is(await code(p, () => p.getxattr("/mnt/f4", "user.other")), "ENODATA");
    await p.removexattr("/mnt/f3", "user.other");
    assert.is(free0 - (await p.statfs("/mnt")).f_bfree, 1);
    for (let i = 0; i < 20; i++) await p.unlink(`/mnt/f${i}`);
    assert.is((await p.statfs("/mnt")).f_bfree, free0);
  });
});

t("with ea_inode large values get inodes, equal ones the same inode", async () => {
  await on_ext4({ mkfs: "-b 4096 -O ea_inode" }, async (p) => {
    const before = await p.statfs("/mnt");
    for (const f of ["a", "b"]) {
      await touch(p, `/mnt/${f}`);
      await p.setxattr(`/mnt/${f}`, "user.big", bytes(40_000));
    }
    assert.is(before.f_ffree - (await p.statfs("/mnt")).f_ffree, 3);
    for (let i = 0; i < 30; i++) await p.setxattr("/mnt/a", `user.n${i}`, bytes(1000, i));
    await remount(p);
    assert.equal(await p.getxattr("/mnt/a", "user.big"), bytes(40_000));
    for (let i = 0; i < 30; i++) {
      assert.equal(await p.getxattr("/mnt/a", `user.n${i}`), bytes(1000, i));
    }
    await p.setxattr("/mnt/b", "user.big", bytes(65_536, 9));
    assert.equal(await p.getxattr("/mnt/a", "user.big"), bytes(40_000));
    await p.removexattr("/mnt/a", "user.big");
    await p.unlink("/mnt/a");
    await p.unlink("/mnt/b");
    const after = await p.statfs("/mnt");
    assert.is(after.f_ffree, before.f_ffree);
    assert.is(after.f_bfree, before.f_bfree);
  });
});

for (const mkfs of ["-b 1024", "-b 1024 -I 128", "-b 4096 -I 1024", "-b 1024 -O ea_inode"]) {
  t(`attributes of many sizes come and go as in a model: mkfs ${mkfs}`, async () => {
    await on_ext4({ mkfs, size: "64M" }, async (p) => {
      const model = new Map<string, Uint8Array>();
      let x = 99;
      const rand = (n: number): number => {
        x = (Math.imul(x, 1103515245) + 12345) >>> 0;
        return (x >>> 8) % n;
      };
      for (let f = 0; f < 4; f++) await touch(p, `/mnt/f${f}`);
      for (let n = 0; n < 1200; n++) {
        const file = `/mnt/f${rand(4)}`;
        const ns = ["user", "trusted", "security"][rand(3)]!;
        const name = `${ns}.${"k".repeat(1 + rand(3))}${rand(6)}`;
        const key = `${file} ${name}`;
        if (rand(3) === 0 && model.has(key)) {
          await p.removexattr(file, name);
          model.delete(key);
          continue;
        }
        const value = bytes(rand(5) === 0 ? rand(700) : rand(60), rand(9));
        const r = await code(p, () => p.setxattr(file, name, value));
        if (r === null) model.set(key, value);
        else assert.is(r, "ENOSPC");
      }
      await remount(p);
      for (const [key, value] of model) {
        const [file, name] = key.split(" ") as [string, string];
        assert.equal(await p.getxattr(file, name), value, key);
      }
      for (let f = 0; f < 4; f++) {
        const want = [...model.keys()].filter((k) => k.startsWith(`/mnt/f${f} `)).length;
        assert.is((await p.listxattr(`/mnt/f${f}`)).length, want);
      }
    });
  });
}

/** An ACL as users write it: entries of (tag, perm, id). */
function acl(...entries: [number, number, number?][]): Uint8Array {
  const b = new Uint8Array(4 + 8 * entries.length);
  const v = new DataView(b.buffer);
  v.setUint32(0, 2, true);
  entries.forEach(([tag, perm, id], i) => {
    v.setUint16(4 + 8 * i, tag, true);
    v.setUint16(6 + 8 * i, perm, true);
    v.setUint32(8 + 8 * i, id ?? 0xffffffff, true);
  });
  return b;
}

t("an access control list sets the mode, and is kept only when it says more", async () => {
  await on_ext4({}, async (p) => {
    const name = "system.posix_acl_access";
    await touch(p, "/mnt/f");
    await p.setxattr("/mnt/f", name, acl([1, 7], [4, 5], [0x20, 1]));
    assert.is((await p.stat("/mnt/f")).mode & 0o777, 0o751);
    assert.is(await code(p, () => p.getxattr("/mnt/f", name)), "ENODATA");
    const long = acl([1, 6], [2, 7, 1000], [4, 4], [0x10, 5], [0x20, 0]);
    await p.setxattr("/mnt/f", name, long);
    assert.is((await p.stat("/mnt/f")).mode & 0o777, 0o650);
    await remount(p);
    assert.equal(await p.getxattr("/mnt/f", name), long);
    const no_mask = acl([1, 6], [2, 7, 1000], [4, 4], [0x20, 0]);
    assert.is(await code(p, () => p.setxattr("/mnt/f", name, no_mask)), "EINVAL");
    const dflt = "system.posix_acl_default";
    assert.is(await code(p, () => p.setxattr("/mnt/f", dflt, long)), "EACCES");
    await p.mkdir("/mnt/d");
    await p.setxattr("/mnt/d", dflt, long);
    assert.equal(await p.getxattr("/mnt/d", dflt), long);
    await p.removexattr("/mnt/f", name);
    await p.removexattr("/mnt/f", name);
  });
});

t.run();
