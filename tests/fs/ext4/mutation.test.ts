/**
 * Damaged media: seeded mutations of ext4 images, mounted and walked. Only errors that Linux can
 * give there may come out, never a TypeError or an assertion, and within a budget of blocks read.
 *
 * A mutation changes a few bytes of one block that a clean walk reads: superblock, descriptors,
 * inode tables, directories, extent and indirect blocks, attribute blocks. Half of those that a
 * checksum guards get a right checksum afterwards, so that what is behind it is reached.
 */
import { attach_pmem } from "../../../drivers/nvdimm/pmem.ts";
import { dput } from "../../../fs/dcache.ts";
import {
  ext4_group_desc_csum_set,
  ext4_has_metadata_csum,
  ext4_inode_csum_seed,
  ext4_inode_csum_set,
  ext4_superblock_csum_set,
  ext4_xattr_block_csum_set,
} from "../../../fs/ext4/csum.ts";
import { ext4_inode } from "../../../fs/ext4/ext4.ts";
import { EXT4_SB, ext4_get_group_desc, ext4_inode_table } from "../../../fs/ext4/ext4_fs.ts";
import { vfs_open } from "../../../fs/file_open.ts";
import { __lookup } from "../../../fs/namei/walk.ts";
import { mntput } from "../../../fs/mount.ts";
import { vfs_iter_read } from "../../../fs/read_write.ts";
import { iterate_dir } from "../../../fs/readdir.ts";
import { new_kstat, vfs_getattr } from "../../../fs/stat.ts";
import { current_cred } from "../../../kernel/cred.ts";
import { type Errno, is_errno } from "../../../kernel/include/errno.ts";
import type { block_device } from "../../../kernel/include/blkdev.ts";
import { O_NOATIME, O_RDONLY } from "../../../kernel/include/fcntl.ts";
import {
  FIEMAP_FLAG_XATTR,
  LLONG_MAX,
  type path,
  SB_RDONLY,
  type super_block,
} from "../../../kernel/include/fs.ts";
import { S_ISDIR, S_ISLNK, S_ISREG, STATX_BTIME } from "../../../kernel/include/stat.ts";
import { fput } from "../../../kernel/vfs/file.ts";
import { image_of_bytes, type media_image } from "../../../mm/chunks.ts";
import { new_iov_iter_bytes } from "../../../mm/iov_iter.ts";
import { boot_kernel, in_task, mount_pmem } from "../../lib/ext4_machine.ts";
import { read_image } from "../../lib/images.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/mutation");

const MUTATIONS = 2000;
/** Each mutation is walked whole: small trees come more often, and those without checksums. */
const IMAGES = [
  "ext4-nocsum",
  "ext4-quota",
  "ext4-extents",
  "ext4-nocsum",
  "ext4-indirect",
  "ext4-hugefile",
  "ext4-quota",
  "ext4-inline",
  "ext4-uninit",
  "ext4-extents",
  "ext4-nocsum",
  "ext4-eainode",
  "ext4-bigalloc",
];

/** What Linux gives for damaged media. */
const MEDIA = ["EUCLEAN", "EBADMSG", "EIO", "EINVAL", "ESTALE", "EFBIG", "EOVERFLOW"];
/** What a changed name, size or type explains. */
const EXPLAINED = ["ENOENT", "ENODATA", "ELOOP", "ENAMETOOLONG", "ENOTDIR", "EOPNOTSUPP"];

// --- what there is to damage
// ----------------------------------------------------------------------

interface target {
  name: string;
  bytes: Uint8Array;
  image: media_image;
  /** Byte offset and length of each metadata block that a clean walk reads. */
  blocks: { at: number; size: number }[];
  /** Blocks read by a clean walk. */
  reads: number;
  /** Puts the checksum of what is at byte `at` right, if it is one that can be computed. */
  fix(image: Uint8Array, at: number): void;
}

function make_fix(sb: super_block): (b: Uint8Array, at: number) => void {
  const sbi = EXT4_SB(sb);
  const bs = sb.s_blocksize;
  const csum = ext4_has_metadata_csum(sbi.s_es);
  const seed = sbi.s_csum_seed;
  const tables: { start: number; end: number }[] = [];
  for (let g = 0; g < sbi.s_groups_count; g++) {
    const start = ext4_inode_table(sb, ext4_get_group_desc(sb, g)!) * bs;
    tables.push({ start, end: start + sbi.s_itb_per_group * bs });
  }
  const gdt = sbi.s_group_desc.map((bh) => bh.b_blocknr * bs);
  const es_bytes = sbi.s_es._off + sbi.s_sbh.b_blocknr * bs;
  const { s_desc_size, s_inode_size, s_inodes_per_group, s_desc_per_block, s_groups_count } = sbi;
  const es = { s_feature_ro_compat: sbi.s_es.s_feature_ro_compat, s_uuid: sbi.s_es.s_uuid.slice() };
  return (b, at) => {
    if (at >= es_bytes && at < es_bytes + 1024) {
      if (csum) ext4_superblock_csum_set(b, es_bytes);
      return;
    }
    const d = gdt.findIndex((start) => at >= start && at < start + bs);
    if (d >= 0) {
      const i = Math.floor((at - gdt[d]!) / s_desc_size);
      const group = d * s_desc_per_block + i;
      if (group >= s_groups_count) return;
      const off = gdt[d]! + i * s_desc_size;
      ext4_group_desc_csum_set(es as never, seed, group, b, off, s_desc_size);
      return;
    }
    if (!csum) return;
    const g = tables.findIndex((x) => at >= x.start && at < x.end);
    if (g >= 0) {
      const i = Math.floor((at - tables[g]!.start) / s_inode_size);
      const off = tables[g]!.start + i * s_inode_size;
      const gen = ext4_inode.at(b, off).i_generation;
      const s = ext4_inode_csum_seed(seed, g * s_inodes_per_group + i + 1, gen);
      ext4_inode_csum_set(s, b, off, s_inode_size);
      return;
    }
    const block = Math.floor(at / bs);
    const whole = b.subarray(block * bs, (block + 1) * bs);
    if (whole[0] === 0 && whole[1] === 0 && whole[2] === 2 && whole[3] === 0xea) {
      ext4_xattr_block_csum_set(seed, block, whole);
    }
  };
}

// --- the walk
// -------------------------------------------------------------------------------------

class OverBudget extends Error {}

interface walker {
  sb: super_block;
  budget: number;
  errors: Map<string, string>;
  seen: Set<number>;
}

async function attempt<T>(
  w: walker,
  what: string,
  fn: () => Promise<T> | T,
): Promise<T | undefined> {
  if (EXT4_SB(w.sb).s_nr_breads > w.budget) {
    throw new OverBudget(
      `${EXT4_SB(w.sb).s_nr_breads} blocks read, ${w.budget} allowed, at ${what}`,
    );
  }
  try {
    return await fn();
  } catch (e) {
    if (!is_errno(e)) throw e;
    if (!w.errors.has((e as Errno).code)) w.errors.set((e as Errno).code, what);
    return undefined;
  }
}

async function visit(w: walker, at: path, name: string): Promise<void> {
  const inode = at.dentry.d_inode!;
  const op = inode.i_op;
  await attempt(w, `stat ${name}`, () => vfs_getattr(at, new_kstat(), STATX_BTIME, 0));
  const list = op.listxattr;
  const xattrs = list
    ? await attempt(w, `listxattr ${name}`, () => list.call(op, at.dentry))
    : undefined;
  for (const x of xattrs ?? []) {
    const h = inode.i_sb.s_xattr.find((y) => x.startsWith(y.prefix))!;
    await attempt(w, `getxattr ${name} ${x}`, () => h.get(inode, x.slice(h.prefix.length)));
  }
  if (S_ISLNK(inode.i_mode)) {
    await attempt(w, `readlink ${name}`, async () => op.get_link!(at.dentry, inode));
  }
  if (op.fiemap) {
    for (const fi_flags of [0, FIEMAP_FLAG_XATTR]) {
      const fi = { fi_flags, fi_extents_max: 5000, fi_extents_mapped: 0, fi_extents: [] };
      await attempt(w, `fiemap ${name}`, () => op.fiemap!(inode, fi, 0, LLONG_MAX));
    }
  }
  if (S_ISREG(inode.i_mode) || S_ISDIR(inode.i_mode)) await visit_opened(w, at, name);
}

async function visit_opened(w: walker, at: path, name: string): Promise<void> {
  const inode = at.dentry.d_inode!;
  const { kernel } = w.sb;
  const f = await attempt(w, `open ${name}`, () =>
    vfs_open(kernel, at, O_RDONLY | O_NOATIME, current_cred(kernel)),
  );
  if (!f) return;
  const names: string[] = [];
  try {
    if (S_ISREG(inode.i_mode)) {
      for (const pos of [0, Math.max(0, Math.floor(inode.i_size / 4096) * 4096 - 4096)]) {
        const iter = new_iov_iter_bytes(kernel, false, [new Uint8Array(8192)]);
        await attempt(w, `read ${name} at ${pos}`, () => vfs_iter_read(f, iter, pos));
      }
    } else {
      const actor = (n: string) => {
        if (n !== "." && n !== "..") names.push(n);
        return names.length < 5000;
      };
      await attempt(w, `readdir ${name}`, () => iterate_dir(f, { pos: 0, actor }));
    }
  } finally {
    await fput(f);
  }
  if (w.seen.has(inode.i_ino)) return;
  w.seen.add(inode.i_ino);
  for (const n of names) {
    const d = await attempt(w, `lookup ${name}/${n}`, async () => {
      const p = inode.i_rwsem.down_read();
      if (p) await p;
      try {
        return await __lookup(at.dentry, n, 0);
      } finally {
        inode.i_rwsem.up_read();
      }
    });
    if (!d) continue;
    if (d.d_inode) await visit(w, { mnt: at.mnt, dentry: d }, `${name}/${n}`);
    await dput(d);
  }
}

/** Numbers of the blocks in the buffer cache: the metadata that was read. */
const cached_blocks = (bdev: block_device): number[] => [
  ...(bdev.bd_buffers as { blocks: Map<number, unknown> }).blocks.keys(),
];

interface outcome {
  errors: Map<string, string>;
  log: string[];
  reads: number;
  blocks: number[];
  fix: ((b: Uint8Array, at: number) => void) | null;
}

/** Mounts, walks, unmounts. What is no Errno is thrown. */
async function mount_and_walk(image: media_image, budget: number): Promise<outcome> {
  const kernel = boot_kernel();
  const pmem = attach_pmem(kernel, { image, size: image.size, mode: "raw", name: "pmem0" });
  const out: outcome = { errors: new Map(), log: [], reads: 0, blocks: [], fix: null };
  await in_task(kernel, async () => {
    let m: Awaited<ReturnType<typeof mount_pmem>>;
    try {
      m = await mount_pmem(kernel, "", SB_RDONLY);
    } catch (e) {
      if (!is_errno(e)) throw e;
      out.errors.set(e.code, "mount");
      return;
    }
    const w: walker = { sb: m.sb, budget, errors: out.errors, seen: new Set() };
    out.fix = make_fix(m.sb);
    await visit(w, m.root, "");
    out.reads = EXT4_SB(m.sb).s_nr_breads;
    out.blocks = cached_blocks(pmem.disk.part0).map((b) => b * m.sb.s_blocksize);
    await mntput(m.root.mnt);
  });
  out.log = kernel.dmesg().map((l) => l.text);
  return out;
}

// --- mutations
// ------------------------------------------------------------------------------------

/** splitmix32: a generator of the test's own, so that a seed means the same for ever. */
function random(seed: number): (n: number) => number {
  let s = seed >>> 0;
  return (n) => {
    s = (s + 0x9e3779b9) >>> 0;
    let z = s;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) % n;
  };
}

const INTERESTING = [0, 1, 2, 3, 4, 7, 8, 12, 15, 16, 31, 32, 64, 127, 128, 252, 254, 255];

function mutate(target: target, seed: number): { image: media_image; what: string } {
  const rnd = random(seed);
  // the superblock and the first descriptors are few among many blocks: they come more often
  const pick = rnd(10);
  const { at, size } =
    pick === 0 ? { at: 1024, size: 1024 } : target.blocks[rnd(target.blocks.length)]!;
  const CHUNK = 2 ** 21;
  const index = Math.floor(at / CHUNK);
  const bytes = target.bytes;
  const from = index * CHUNK;
  const saved = bytes.slice(from, Math.min(from + CHUNK, bytes.length));
  const changes = 1 + rnd(3);
  const what: string[] = [];
  let last = at;
  for (let i = 0; i < changes; i++) {
    // most of a block may be unused: look for a byte that is not zero, now and then
    let off = at + rnd(size);
    for (let k = 0; k < 40 && bytes[off] === 0 && rnd(4) !== 0; k++) off = at + rnd(size);
    const value = rnd(2) ? INTERESTING[rnd(INTERESTING.length)]! : rnd(256);
    bytes[off] = rnd(3) ? value : bytes[off]! ^ (1 << rnd(8));
    what.push(`byte ${off} = ${bytes[off]}`);
    last = off;
    if (rnd(2)) break;
  }
  const fixed = rnd(4) !== 0;
  if (fixed) target.fix(bytes, last);
  const chunk = new Uint8Array(CHUNK);
  chunk.set(bytes.subarray(from, Math.min(from + CHUNK, bytes.length)));
  bytes.set(saved, from);
  // a fix may have changed another chunk only if the structure spans two: none does
  const chunks = target.image.chunks.slice();
  chunks[index] = chunk;
  return {
    image: { ...target.image, chunks },
    what: `${target.name} seed ${seed}: ${what.join(", ")}${fixed ? ", checksum fixed" : ""}`,
  };
}

const targets: target[] = [];

t.before(async () => {
  for (const name of new Set(IMAGES)) {
    const bytes = new Uint8Array(read_image("ext4", name)); // a Buffer's slice() is no copy
    const image = image_of_bytes(bytes.slice());
    const clean = await mount_and_walk(image, Number.POSITIVE_INFINITY);
    const size = (2 ** 10) << new DataView(bytes.buffer, bytes.byteOffset).getUint32(1048, true);
    assert.equal(
      [...clean.errors.keys()].filter((e) => e !== "ENOENT"),
      [],
      name,
    );
    const blocks = clean.blocks.map((at) => ({ at, size }));
    targets.push({ name, bytes, image, blocks, reads: clean.reads, fix: clean.fix! });
  }
});

/** Linux logs what it finds wrong with the media. */
const LOGGED = ["EUCLEAN", "EBADMSG"];

async function one(seed: number, met: Map<string, number>): Promise<void> {
  const name = IMAGES[seed % IMAGES.length]!;
  const target = targets.find((x) => x.name === name)!;
  const { image, what } = mutate(target, seed);
  let r: outcome;
  try {
    r = await mount_and_walk(image, target.reads * 4 + 20_000);
  } catch (e) {
    throw new Error(`${what}\n${e instanceof Error ? e.stack : String(e)}`);
  }
  for (const [code, where] of r.errors) {
    met.set(code, (met.get(code) ?? 0) + 1);
    if (![...MEDIA, ...EXPLAINED].includes(code))
      assert.unreachable(`${what}\n${code} at ${where}`);
    if (LOGGED.includes(code)) {
      const logged = r.log.some((l) => /EXT4-fs (error|warning)|EXT4-fs \(/.test(l));
      assert.ok(logged, `${what}\n${code} at ${where} without a line in the log`);
    }
  }
}

const PARTS = 20;
for (let part = 0; part < PARTS; part++) {
  const n = MUTATIONS / PARTS;
  t(
    `mutations ${part * n} to ${part * n + n - 1} give only errors that Linux can give`,
    async () => {
      const met = new Map<string, number>();
      for (let i = 0; i < n; i++) await one(part * n + i, met);
      assert.ok(met.size > 0, "no mutation was noticed");
    },
    { timeout_ms: 300_000 },
  );
}

t.run();
