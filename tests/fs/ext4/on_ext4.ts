/**
 * tests/fs/ext4/on_ext4.ts - a machine with one ext4, something done to it, and what e2fsck says
 * afterwards.
 */
import path from "node:path";
import { Machine } from "../../../tools/api/machine.ts";
import type { Process } from "../../../tools/api/process.ts";
import { bdev_rw_bytes } from "../../../drivers/block/bio.ts";
import { REQ_OP_READ } from "../../../kernel/include/blkdev.ts";
import { assert } from "../../lib/suite.ts";
import { find_tool, run_tool, temp_folder, write_sparse } from "../../lib/e2fsprogs.ts";

export interface on_ext4_options {
  /** Words of mkfs.ext4. */
  mkfs?: string;
  size?: string;
  /** Mount options. */
  mount?: string;
  /** A filesystem instead of a fresh one. */
  image?: Uint8Array;
  seed?: number;
  /** false: the media is not to be checked afterwards. */
  fsck?: boolean;
}

const has_e2fsck = find_tool("e2fsck") !== undefined;
const folder = has_e2fsck ? temp_folder() : "";

/** The device's bytes. */
export async function device_bytes(m: Machine): Promise<Uint8Array> {
  const bdev = m.bdev("/dev/pmem0");
  const out = new Uint8Array(m.block_info("/dev/pmem0").size);
  await m.in_task(m.kernel, "read", async () => {
    const p = bdev_rw_bytes(bdev, REQ_OP_READ, 0, out, 0, out.length);
    if (p) await p;
  });
  return out;
}

/** Fails when e2fsck finds anything. Nothing is checked where it is not installed. */
export function assert_fsck_clean(image: Uint8Array): void {
  if (!has_e2fsck) return;
  const file = path.join(folder, "fs.img");
  write_sparse(file, image.length, [[0, image]]);
  const r = run_tool("e2fsck", ["-fn", file]);
  if (r.status !== 0) assert.unreachable(`e2fsck: ${r.status}\n${r.stdout}${r.stderr}`);
}

/**
 * Makes (or takes) an ext4, mounts it at /mnt, runs `fn`, unmounts, and checks the media with
 * e2fsck. The kernel log must hold no ext4 error or warning, unless `fn` returns "dirty".
 */
export async function on_ext4(
  opts: on_ext4_options,
  fn: (p: Process, m: Machine) => Promise<unknown>,
): Promise<Machine> {
  const seed = opts.seed === undefined ? {} : { seed: opts.seed };
  const pmem = opts.image
    ? { image: opts.image, mode: "raw" as const, name: "pmem0" }
    : { size: opts.size ?? "32M", mode: "raw" as const, name: "pmem0" };
  const m = await Machine.boot({ ...seed, pmem: [pmem] });
  const p = m.process("test");
  if (!opts.image) await m.mkfs("ext4", "/dev/pmem0", opts.mkfs ?? "-b 4096");
  try {
    await p.mkdir("/mnt");
  } catch (e) {
    if (p.error_code(e) !== "EEXIST") throw e;
  }
  await p.mount("/dev/pmem0", "/mnt", "ext4", opts.mount ?? "");
  const r = await fn(p, m);
  await p.umount("/mnt");
  if (r !== "dirty") {
    const bad = m.dmesg().match(/.*EXT4-fs (error|warning).*/g);
    assert.equal(bad, null);
  }
  if (opts.fsck !== false) assert_fsck_clean(await device_bytes(m));
  return m;
}
