/**
 * Our read-only check of ext4 images: sound ones pass, and what e2fsck finds wrong, it finds too.
 */
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import fc from "../lib/property.ts";
import { ext4_image } from "../../tools/cmd/e2fsck/image.ts";
import { pass1 } from "../../tools/cmd/e2fsck/pass1.ts";
import { fsck_ext4, fsck_text } from "../../tools/cmd/fsck_ext4.ts";
import { mkfs_ext4 } from "../../tools/cmd/mkfs_ext4.ts";
import { find_tool, run_tool, temp_folder } from "../lib/e2fsprogs.ts";
import { image_names, read_image, read_manifest } from "../lib/images.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/fsck_ext4");

for (const name of image_names("ext4")) {
  t(`${name} is sound, with as many inodes and free blocks as recorded`, () => {
    const r = fsck_ext4(read_image("ext4", name));
    assert.is(fsck_text(r), "");
    assert.ok(r.clean && r.valid);
    // "NAME: 291/16384 files (0.3% non-contiguous), 2303/16384 blocks"; reserved inodes count
    const said = JSON.stringify(read_manifest("ext4", name).e2fsck_fn ?? "");
    const m = /(\d+)\/(\d+) files .*?, (\d+)\/(\d+) blocks/.exec(said);
    if (!m) return;
    const [, used, inodes, blocks_used, blocks] = m.map(Number) as [number, ...number[]];
    assert.is(r.free_inodes, inodes! - used!);
    assert.is(r.free_blocks, blocks! - blocks_used!);
  });
}

function new_image(mib: number, ...args: string[]): Uint8Array {
  const b = new Uint8Array(mib * 2 ** 20);
  let n = 0;
  const env = { uuid: () => Uint8Array.from({ length: 16 }, () => ++n), now_sec: 1700000000 };
  const dev = { size: b.length, zeroed: true, write: (o: number, x: Uint8Array) => b.set(x, o) };
  assert.is(mkfs_ext4(["-q", "-F", ...args, "x"], dev, env).status, 0);
  return b;
}

t("what our mkfs makes is sound", () => {
  for (const args of [
    ["-b", "4096"],
    ["-b", "1024", "-O", "quota,project,orphan_file,fast_commit"],
    ["-b", "4096", "-O", "inline_data,bigalloc"],
    ["-b", "1024", "-O", "meta_bg,^resize_inode,sparse_super2", "-g", "2048"],
    ["-b", "1024", "-O", "^extent,^64bit,^metadata_csum,uninit_bg", "-I", "128"],
    ["-b", "2048", "-O", "^flex_bg", "-g", "4096"],
  ]) {
    assert.is(fsck_text(fsck_ext4(new_image(24, ...args))), "", args.join(" "));
  }
});

/** Deterministic choices for the mutations. */
class chooser {
  state: number;
  constructor(seed: number) {
    this.state = seed;
  }
  below(n: number): number {
    this.state = (Math.imul(this.state, 1103515245) + 12345) >>> 0;
    return Math.floor((this.state / 2 ** 32) * n);
  }
}

/** Picks a byte of metadata: superblock, descriptor, bitmap, inode in use, directory. */
function targets(b: Uint8Array): (c: chooser) => { what: string; at: number } {
  const read = (o: number, l: number) => b.subarray(o, o + l);
  const im = new ext4_image({ size: b.length, read }, []);
  const st = pass1(im);
  const inos = [...st.inodes.keys()];
  const dirs = [...st.dirs.values()].filter((d) => d.map.runs.length > 0);
  return (c) => {
    const kind = c.below(8);
    const g = c.below(im.group_count);
    if (kind === 0) return { what: "superblock", at: 1024 + c.below(0x150) };
    if (kind === 1) {
      const table = im.descriptors_in(0).first * im.blocksize;
      return { what: "descriptor", at: table + g * im.desc_size + c.below(im.desc_size) };
    }
    if (kind <= 3) {
      const bits = kind === 2 ? im.group_last(g) - im.group_first(g) : im.es.s_inodes_per_group;
      const blk = im.location(g, kind === 2 ? "bg_block_bitmap" : "bg_inode_bitmap");
      return { what: "bitmap", at: blk * im.blocksize + c.below(Math.ceil(bits / 8)) };
    }
    if (kind <= 5) {
      const ino = inos[c.below(inos.length)]!;
      const at = im.inode_bytes(ino).byteOffset - b.byteOffset;
      return { what: `inode ${ino}`, at: at + c.below(128) };
    }
    const dir = dirs[c.below(dirs.length)]!;
    const r = dir.map.runs[c.below(dir.map.runs.length)]!;
    const blk = r.pblk + c.below(r.len);
    const span = kind === 6 ? 64 : im.blocksize;
    return { what: `directory ${dir.ino}`, at: blk * im.blocksize + c.below(span) };
  };
}

/** What e2fsck mends in passing without calling the filesystem wrong. */
const STRICTER =
  /group descriptor with a wrong checksum|the superblock counts|orphans are listed|marked as unused|unknown compat|bitmap with a wrong checksum/;

function compare_on_mutations(name: string, count: number, seed: number): void {
  const b = read_image("ext4", name);
  const pick = targets(b);
  const file = path.join(temp_folder(), "mutated.img");
  writeFileSync(file, b);
  const fd = openSync(file, "r+");
  const c = new chooser(seed);
  let both = 0;
  for (let i = 0; i < count; i++) {
    const { what, at } = pick(c);
    const old = b[at]!;
    b[at] = old ^ (1 << c.below(8));
    writeSync(fd, b, at, 1, at);
    const real = run_tool("e2fsck", ["-fn", file]);
    const ours = fsck_ext4(b);
    const where = `${what}, byte ${at}: ${old} -> ${b[at]}`;
    if (real.status !== 0) {
      assert.not.ok(ours.clean, `${where}: e2fsck says ${real.stdout}${real.stderr}`);
      both++;
    } else if (!ours.clean) assert.match(fsck_text(ours), STRICTER, where);
    b[at] = old;
    writeSync(fd, b, at, 1, at);
  }
  closeSync(fd);
  assert.ok(both > count / 5, `only ${both} of ${count} mutations were harmful`);
}

for (const [name, count, seed] of [
  ["ext4-nocsum", 60, 11],
  ["ext4-indirect", 30, 7],
  ["ext4-uninit", 30, 3],
  ["ext4-default", 30, 5],
  ["ext4-inline", 30, 9],
  ["ext4-bigalloc", 30, 13],
] as const) {
  const says = `what e2fsck finds in ${count} mutations of ${name}, ours finds too`;
  if (find_tool("e2fsck")) t(says, () => compare_on_mutations(name, count, seed));
  else t.skip(says, "needs e2fsprogs to compare with");
}

t("nothing in an image makes the check throw or hang", () => {
  const sound = read_image("ext4", "ext4-inline");
  const pick = targets(sound);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      (list) => {
        const undo: [number, number][] = [];
        for (const [seed, value] of list) {
          const { at } = pick(new chooser(seed));
          undo.push([at, sound[at]!]);
          sound[at] = value;
        }
        try {
          fsck_ext4(sound);
        } finally {
          for (const [at, value] of undo.reverse()) sound[at] = value;
        }
      },
    ),
    { numRuns: 150, seed: 4 },
  );
  assert.ok(fsck_ext4(sound).clean, "all mutations were undone");
});

t("what is no filesystem is said to be none", () => {
  assert.match(fsck_text(fsck_ext4(new Uint8Array(4096))), /there is no ext2\/3\/4 superblock/);
  assert.match(fsck_text(fsck_ext4(new Uint8Array(10))), /too small/);
  const cut = read_image("ext4", "ext4-default").subarray(0, 2 ** 20);
  assert.match(fsck_text(fsck_ext4(cut)), /more than the device has/);
});

t.run();
