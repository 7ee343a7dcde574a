/** `daxlab mkfs.ext4` on files. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { ext4_super_block } from "../../fs/ext4/ext4.ts";
import { ext4_superblock_csum_verify } from "../../fs/ext4/csum.ts";
import { find_tool, run_tool, temp_folder } from "../lib/e2fsprogs.ts";
import { repo_path, repo_root } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/mkfs_ext4_cli");
const folder = temp_folder();

function mkfs(...args: string[]) {
  const main = repo_path("tools", "cli", "main.ts");
  const words = ["--import", "tsx", main, "mkfs.ext4", ...args];
  const env = { ...process.env, SOURCE_DATE_EPOCH: "1700000000" };
  return spawnSync(process.execPath, words, { cwd: repo_root, encoding: "utf8", env });
}

t("a file that does not exist is made as long as SIZE says", () => {
  const file = path.join(folder, "new.img");
  const r = mkfs("-q", "-b", "4096", "-L", "label", file, "48M");
  assert.is(r.status, 0, r.stderr);
  assert.is(r.stdout, "");
  assert.is(statSync(file).size, 48 * 2 ** 20);
  const b = readFileSync(file);
  const es = ext4_super_block.at(b, 1024);
  assert.ok(ext4_superblock_csum_verify(b, 1024));
  assert.is(es.s_blocks_count_lo, 12288);
  assert.is(es.s_mkfs_time, 1700000000);
  if (find_tool("e2fsck")) assert.is(run_tool("e2fsck", ["-fn", file]).status, 0);
});

t("a file full of old bytes keeps its size and gets a sound filesystem", () => {
  const file = path.join(folder, "old.img");
  writeFileSync(file, Buffer.alloc(16 * 2 ** 20, 0x5a));
  const r = mkfs("-b", "1024", file);
  assert.is(r.status, 0, r.stderr);
  assert.match(r.stdout, /^Creating filesystem with 16384 1k blocks and 4096 inodes\n/);
  assert.is(statSync(file).size, 16 * 2 ** 20);
  if (find_tool("e2fsck")) assert.is(run_tool("e2fsck", ["-fn", file]).status, 0);
});

t("wrong words, a missing size and devices are refused with a message", () => {
  const file = path.join(folder, "none.img");
  for (const [args, why] of [
    [["-b", "5", file, "10M"], /invalid block size/],
    [[file], /no size was specified/],
    [["/dev/null"], /not a regular file/],
    [[], /^Usage: mkfs.ext4/],
    [["-O", "wonder", file, "10M"], /Invalid filesystem option set: wonder/],
    [["-d", "/", file, "10M"], /not supported by this mkfs/],
  ] as const) {
    const r = mkfs(...args);
    assert.is(r.status, 1, args.join(" "));
    assert.match(r.stderr, why);
  }
  assert.not.ok(existsSync(file), "nothing was created");
});

t("-n leaves the file as it is", () => {
  const file = path.join(folder, "n.img");
  writeFileSync(file, "");
  truncateSync(file, 32 * 2 ** 20);
  const r = mkfs("-n", "-q", file);
  assert.is(r.status, 0, r.stderr);
  assert.is(r.stdout.split("\n")[0], "Creating filesystem with 32768 1k blocks and 8192 inodes");
  assert.ok(readFileSync(file).every((x) => x === 0));
});

t.run();
