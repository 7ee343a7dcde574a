/** The block allocator seen from outside: what fits, where it lies, what comes back. */
import { O_CREAT, O_RDWR } from "../../../kernel/include/fcntl.ts";
import { FALLOC_FL_KEEP_SIZE } from "../../../kernel/include/fcntl.ts";
import type { Process } from "../../../tools/api/process.ts";
import { boot_ext4, finish_ext4 } from "../../lib/ext4_write.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/mballoc");
const MIB = 1 << 20;

const free_blocks = async (p: Process): Promise<number> => (await p.statfs("/mnt")).f_bfree;

/**
 * Two in a hundred blocks are kept for the trees of files (s_resv_clusters): nobody's data gets
 * them. f_bavail is 0 when all others are used.
 */
const available = async (p: Process): Promise<number> => (await p.statfs("/mnt")).f_bavail;

/** Writes blocks at the end of a file until ENOSPC; returns how many went in. */
async function fill(p: Process, name: string, piece: number): Promise<number> {
  const fd = await p.open(name, O_RDWR | O_CREAT, 0o644);
  const data = new Uint8Array(piece).fill(0x5a);
  let pos = 0;
  for (;;) {
    let n = 0;
    try {
      n = await p.pwrite(fd, data, pos);
    } catch (e) {
      assert.is(p.error_code(e), "ENOSPC");
      break;
    }
    pos += n;
  }
  await p.fsync(fd);
  await p.close(fd);
  return pos / 4096;
}

for (const mount of ["dax=always", "nodelalloc", ""]) {
  t(`32 MiB fill to the last block and come back whole (${mount || "delalloc"})`, async () => {
    const fs = await boot_ext4({ size: "32M", mount, mkfs: "-b 4096 -m 0" });
    const { p } = fs;
    await p.sync();
    const before = await free_blocks(p);
    for (const piece of [65536, 4096]) await fill(p, `/mnt/a${piece}`, piece);
    assert.is(await available(p), 0, "blocks for data when full");
    const fd = await p.open("/mnt/one-more", O_RDWR | O_CREAT, 0o644);
    try {
      await p.pwrite(fd, Uint8Array.of(1), 0);
      assert.unreachable("a block was found on a full filesystem");
    } catch (e) {
      assert.is(p.error_code(e), "ENOSPC");
    }
    await p.close(fd);
    for (const name of ["a65536", "a4096", "one-more"]) await p.unlink(`/mnt/${name}`);
    await p.sync();
    assert.is(await free_blocks(p), before, "free blocks afterwards");
    await finish_ext4(fs);
  });
}

t("a plain user leaves root's share alone", async () => {
  const fs = await boot_ext4({ size: "32M", mount: "dax=always", mkfs: "-b 4096 -m 10" });
  const { p } = fs;
  await p.mkdir("/mnt/d", 0o777);
  await p.chmod("/mnt/d", 0o777);
  const user = await p.fork("user");
  await user.setuid(1000);
  await fill(user, "/mnt/d/a", 65536);
  const st = await p.statfs("/mnt");
  assert.is(st.f_bavail, 0, "blocks for everybody");
  assert.ok(st.f_bfree > 700, `${st.f_bfree} blocks are left for root`);
  await fill(p, "/mnt/d/b", 65536);
  const kept = Math.ceil(8192 / 50);
  assert.ok((await free_blocks(p)) <= kept, `${await free_blocks(p)} blocks left for root`);
  await user.exit();
  await finish_ext4(fs);
});

// not on a filesystem of one group: the first group of a flexible one is not searched for whole
// buddies
t("2 MiB and more lie on 2 MiB", async () => {
  const fs = await boot_ext4({ size: "512M", mount: "dax=always" });
  const { p } = fs;
  for (const [i, len] of [2 * MIB, 4 * MIB, 8 * MIB, 6 * MIB].entries()) {
    const fd = await p.open(`/mnt/f${i}`, O_RDWR | O_CREAT, 0o644);
    await p.fallocate(fd, 0, 0, len);
    const extents = await p.fiemap(fd);
    assert.ok(extents.length > 0);
    for (const e of extents) {
      assert.is(
        e.fe_physical % (2 * MIB),
        e.fe_logical % (2 * MIB),
        `file ${i}: ${JSON.stringify(e)}`,
      );
    }
    await p.close(fd);
  }
  await finish_ext4(fs);
});

t("what was set aside for a growing file goes back when it is closed", async () => {
  const fs = await boot_ext4({ size: "64M", mount: "nodelalloc", mkfs: "-b 4096 -m 0" });
  const { p } = fs;
  await p.sync();
  const before = await free_blocks(p);
  const fd = await p.open("/mnt/log", O_RDWR | O_CREAT, 0o644);
  const line = new Uint8Array(100_000).fill(7);
  for (let i = 0; i < 20; i++) await p.pwrite(fd, line, i * line.length);
  await p.close(fd);
  const blocks = (await p.stat("/mnt/log")).blocks / 8;
  await p.sync();
  assert.is(before - (await free_blocks(p)), blocks);
  // the run's rest is free for others: everything else can be filled
  await fill(p, "/mnt/rest", 65536);
  await fill(p, "/mnt/rest2", 4096);
  assert.is(await available(p), 0);
  await finish_ext4(fs);
});

t("fallocate of more than there is fails and keeps the filesystem sound", async () => {
  const fs = await boot_ext4({ size: "32M", mount: "dax=always" });
  const { p } = fs;
  const fd = await p.open("/mnt/big", O_RDWR | O_CREAT, 0o644);
  try {
    await p.fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 64 * MIB);
    assert.unreachable("64 MiB fit into 32");
  } catch (e) {
    assert.is(p.error_code(e), "ENOSPC");
  }
  await p.ftruncate(fd, 0);
  await p.close(fd);
  await finish_ext4(fs);
});

t.run();
