/**
 * mkfs.ext4 against the real one: the same options, uuid, hash seed and time have to give the same
 * bytes, except s_kbytes_written (an I/O statistic) and with it the superblock's checksum.
 */
import { openSync, closeSync, readSync, rmSync } from "node:fs";
import path from "node:path";
import fc from "../lib/property.ts";
import { ext4_super_block } from "../../fs/ext4/ext4.ts";
import { ext4_superblock_csum_verify } from "../../fs/ext4/csum.ts";
import { mkfs_ext4, type mkfs_device, type mkfs_env } from "../../tools/cmd/mkfs_ext4.ts";
import { find_tool, run_tool, temp_folder, write_sparse } from "../lib/e2fsprogs.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/mkfs_ext4");

const MiB = 2 ** 20;
const CHUNK = 65536;
const NOW = 1700000000;
const UUID = "11111111-2222-3333-4444-555555555555";
const SEED = "11111111-2222-3333-4444-555555555556";
const folder = temp_folder();

/** A device in memory that keeps only the chunks that were written. */
class sparse_device implements mkfs_device {
  readonly size: number;
  readonly discards: boolean;
  readonly chunks = new Map<number, Uint8Array>();
  zeroed_bytes = 0;
  constructor(size: number, discards = true) {
    this.size = size;
    this.discards = discards;
  }
  write(offset: number, bytes: Uint8Array): void {
    assert.ok(offset >= 0 && offset + bytes.length <= this.size, "a write outside the device");
    for (let i = 0; i < bytes.length; ) {
      const at = offset + i;
      const start = at % CHUNK;
      const n = Math.min(CHUNK - start, bytes.length - i);
      this.chunk(at - start).set(bytes.subarray(i, i + n), start);
      i += n;
    }
  }
  zero(offset: number, length: number): void {
    assert.ok(offset + length <= this.size, "zeroing outside the device");
    this.zeroed_bytes += length;
    for (const [at, chunk] of this.chunks) {
      const from = Math.max(0, offset - at);
      const to = Math.min(CHUNK, offset + length - at);
      if (from < to) chunk.fill(0, from, to);
    }
  }
  discard(): boolean {
    if (this.discards) this.chunks.clear();
    return this.discards;
  }
  chunk(at: number): Uint8Array {
    let c = this.chunks.get(at);
    if (!c) {
      c = new Uint8Array(CHUNK);
      this.chunks.set(at, c);
    }
    return c;
  }
  fill_with(byte: number): void {
    for (let at = 0; at < this.size; at += CHUNK) this.chunk(at).fill(byte);
  }
}

function test_env(): mkfs_env {
  let n = 0;
  const uuid = () => Uint8Array.from({ length: 16 }, () => ++n);
  return { uuid, now_sec: NOW, nodename: "host" };
}

/** Takes out of every superblock copy what may differ. */
function normalize(chunk: Uint8Array): void {
  const v = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
  for (let at = 0; at < chunk.length; at += 1024) {
    if (v.getUint16(at + 0x38, true) !== 0xef53) continue;
    chunk.fill(0, at + 0x178, at + 0x180);
    chunk.fill(0, at + 0x3fc, at + 0x400);
  }
}

/** First difference between the device and a file, as text; undefined when they are equal. */
function compare_with_file(dev: sparse_device, file: string): string | undefined {
  const fd = openSync(file, "r");
  const zeros = new Uint8Array(CHUNK);
  const buffer = Buffer.alloc(CHUNK);
  try {
    for (let at = 0; at < dev.size; at += CHUNK) {
      const n = readSync(fd, buffer, 0, CHUNK, at);
      const real = buffer.subarray(0, n);
      const ours = dev.chunks.get(at)?.slice(0, n) ?? zeros.subarray(0, n);
      if (real.compare(ours) === 0) continue;
      const a = Uint8Array.from(real);
      normalize(a);
      if (ours !== zeros) normalize(ours);
      const i = a.findIndex((x, k) => x !== ours[k]);
      if (i < 0) continue;
      const hex = (b: Uint8Array) => Buffer.from(b.subarray(i & ~3, (i & ~3) + 16)).toString("hex");
      return `byte ${at + i} (KiB ${(at + i) >> 10}): real ${hex(a)}, ours ${hex(ours)}`;
    }
  } finally {
    closeSync(fd);
  }
  return undefined;
}

interface outcome {
  program: string;
  real: { status: number; stdout: string; stderr: string };
  ours: { status: number; stdout: string; stderr: string };
  dev: sparse_device;
  file: string;
}

function with_seed(args: readonly string[], file: string): string[] {
  const out: string[] = ["-F"];
  if (!args.includes("-U")) out.push("-U", UUID);
  const e = args.indexOf("-E");
  const own = e < 0 ? "" : `,${args[e + 1]}`;
  out.push("-E", `hash_seed=${SEED}${own}`);
  out.push(...args.filter((_, i) => e < 0 || (i !== e && i !== e + 1)));
  out.push(file);
  return out;
}

/** Runs both on a device of `size` bytes. `program` is the first word of `line`. */
function make_both(size: number, line: string): outcome {
  const [program, ...words] = line.split(" ").filter((x) => x !== "") as [string, ...string[]];
  const file = path.join(folder, "real.img");
  write_sparse(file, size, []);
  const args = with_seed(words, file);
  const real = run_tool(program, args);
  const dev = new sparse_device(size);
  const ours = mkfs_ext4(args, dev, test_env(), program);
  return { program, real, ours, dev, file };
}

function check_same(size: number, line: string): void {
  const o = make_both(size, line);
  const said = `real: ${o.real.stderr}\nours: ${o.ours.stderr}`;
  assert.is(o.ours.status, o.real.status, `${line}: status; ${said}`);
  if (o.real.status !== 0) {
    assert.ok(o.ours.stderr.length > 0, `${line}: a refusal says why`);
    assert.is(o.dev.chunks.size, 0, `${line}: a refusal leaves the device alone`);
    return;
  }
  assert.is(compare_with_file(o.dev, o.file), undefined, line);
}

const installed = find_tool("mkfs.ext4") && find_tool("e2fsck") && find_tool("dumpe2fs");

const CASES: readonly [mib: number, line: string][] = [
  [64, "mkfs.ext4"],
  [64, "mkfs.ext4 -b 4096"],
  [64, "mkfs.ext4 -b 1024"],
  [64, "mkfs.ext4 -b 2048"],
  [32, "mkfs.ext4 -b 4096"],
  [504, "mkfs.ext4 -b 4096"],
  [600, "mkfs.ext4"],
  [64, "mkfs.ext4 -b 8192"],
  [256, "mkfs.ext4 -b 65536"],
  [64, "mkfs.ext3"],
  [64, "mkfs.ext3 -b 4096"],
  [64, "mkfs.ext2"],
  [64, "mkfs.ext2 -b 4096"],
  [2, "mkfs.ext4"],
  [1, "mkfs.ext2"],
  [1, "mkfs.ext4"],
  [300, "mkfs.ext4 -b 1024 -E lazy_itable_init=0,nodiscard"],
  [300, "mkfs.ext4 -b 1024 -E lazy_itable_init=1,nodiscard"],
  [64, "mkfs.ext4 -b 4096 -O ^has_journal"],
  [32, "mkfs.ext4 -b 4096 -O ^metadata_csum,^64bit"],
  [160, "mkfs.ext4 -b 4096 -O uninit_bg,^metadata_csum"],
  [160, "mkfs.ext4 -b 1024 -O uninit_bg,^metadata_csum,^64bit"],
  [32, "mkfs.ext4 -b 4096 -O inline_data"],
  [32, "mkfs.ext4 -b 4096 -O inline_data -I 512"],
  [32, "mkfs.ext4 -b 1024 -O inline_data"],
  [64, "mkfs.ext4 -b 4096 -O bigalloc -C 16384"],
  [200, "mkfs.ext4 -b 4096 -O bigalloc"],
  [64, "mkfs.ext4 -b 1024 -O bigalloc -C 4096"],
  [64, "mkfs.ext4 -b 1024 -O bigalloc,^resize_inode -C 4096"],
  [112, "mkfs.ext4 -b 1024 -N 66000 -I 128 -O ^metadata_csum"],
  [
    48,
    "mkfs.ext4 -b 1024 -O ^extent,^64bit,^flex_bg,^metadata_csum,^huge_file,^dir_nlink,^extra_isize -I 128",
  ],
  [48, "mkfs.ext4 -b 4096 -O ea_inode,large_dir,metadata_csum_seed"],
  [64, "mkfs.ext4 -b 1024 -O meta_bg,^resize_inode,sparse_super2 -g 2048"],
  [64, "mkfs.ext4 -b 1024 -O meta_bg,^resize_inode -g 256 -N 4000"],
  [64, "mkfs.ext4 -b 1024 -O sparse_super2 -g 2048"],
  [64, "mkfs.ext4 -b 1024 -O sparse_super2 -g 2048 -E num_backup_sb=1"],
  [64, "mkfs.ext4 -b 1024 -O sparse_super2 -g 2048 -E num_backup_sb=0"],
  [64, "mkfs.ext4 -b 1024 -O ^sparse_super,^resize_inode"],
  [64, "mkfs.ext4 -b 1024 -O ^resize_inode"],
  [32, "mkfs.ext4 -b 4096 -O orphan_file,fast_commit"],
  [64, "mkfs.ext4 -b 1024 -O orphan_file -E orphan_file_size=100k"],
  [32, "mkfs.ext4 -b 4096 -O quota,project -E quotatype=usrquota:grpquota:prjquota"],
  [32, "mkfs.ext4 -b 4096 -O quota"],
  [32, "mkfs.ext4 -b 1024 -O quota,project"],
  [32, "mkfs.ext4 -b 4096 -O quota -E quotatype=usrquota"],
  [64, "mkfs.ext4 -b 4096 -O quota,project,orphan_file,inline_data"],
  [64, "mkfs.ext4 -b 4096 -E root_owner=1000:100"],
  [64, "mkfs.ext4 -b 4096 -O quota -E root_owner=1000:70000"],
  [64, "mkfs.ext4 -b 4096 -E stride=8,stripe-width=32"],
  [64, "mkfs.ext4 -b 1024 -O ^flex_bg -E stride=16,stripe_width=64"],
  [64, "mkfs.ext4 -b 4096 -E stride=0"],
  [64, "mkfs.ext4 -b 1024 -G 4"],
  [300, "mkfs.ext4 -b 1024 -G 2"],
  [300, "mkfs.ext4 -b 1024 -G 1"],
  [300, "mkfs.ext4 -b 1024 -E packed_meta_blocks=1"],
  [64, "mkfs.ext4 -b 4096 -J size=8"],
  [64, "mkfs.ext4 -b 1024 -J size=1"],
  [64, "mkfs.ext4 -b 4096 -J size=1"],
  [64, "mkfs.ext4 -b 4096 -J size=0"],
  [64, "mkfs.ext4 -b 4096 -J size=60"],
  [64, "mkfs.ext4 -b 4096 -m 0"],
  [64, "mkfs.ext4 -b 4096 -m 12.5 -L label -M /mnt/x -e remount-ro"],
  [64, "mkfs.ext4 -b 4096 -i 65536"],
  [64, "mkfs.ext4 -b 4096 -N 100"],
  [64, "mkfs.ext4 -b 4096 -I 1024"],
  [64, "mkfs.ext4 -b 4096 -g 8192"],
  [64, "mkfs.ext4 -b 4096 -g 4096 -O ^flex_bg"],
  [64, "mkfs.ext4 -b 4096 -E resize=100M"],
  [64, "mkfs.ext4 -b 4096 -E resize=1000000"],
  [64, "mkfs.ext4 -b 4096 -E test_fs"],
  [64, "mkfs.ext4 -b 4096 -E desc_size=128"],
  [64, "mkfs.ext4 -T largefile"],
  [64, "mkfs.ext4 -T news"],
  [64, "mkfs.ext4 -T small,largefile4"],
  [64, "mkfs.ext4 -b 4096 -O encrypt,verity"],
  [64, "mkfs.ext4 -b 4096 -O casefold"],
  [64, "mkfs.ext4 -b 4096 -O none"],
  [64, "mkfs.ext4 -b 4096 -O none,extent,filetype"],
  [64, "mkfs.ext4 -r 0 -b 4096 -O none"],
  [64, "mkfs.ext2 -b 4096 -j"],
  [64, "mkfs.ext2 -b 1024 -J size=4"],
  [64, "mke2fs -t ext4 -b 4096"],
  [64, "mke2fs -b 4096"],
  [64, "mkfs.ext4 -b 4096 -U null"],
];

const REFUSED: readonly [mib: number, line: string][] = [
  [64, "mkfs.ext4 -b 512"],
  [64, "mkfs.ext4 -O nonsense"],
  [64, "mkfs.ext4 -O journal_checksum"],
  [64, "mkfs.ext4 -O meta_bg"],
  [64, "mkfs.ext4 -O ^sparse_super"],
  [64, "mkfs.ext4 -O bigalloc,^extent"],
  [64, "mkfs.ext4 -O ^extent"],
  [64, "mkfs.ext4 -O orphan_file,^has_journal"],
  [64, "mkfs.ext4 -C 16384"],
  [64, "mkfs.ext4 -I 100"],
  [64, "mkfs.ext4 -I 8192 -b 4096"],
  [64, "mkfs.ext4 -O inline_data -I 128"],
  [64, "mkfs.ext4 -m 60"],
  [64, "mkfs.ext4 -m x"],
  [64, "mkfs.ext4 -g 100"],
  [64, "mkfs.ext4 -G 3"],
  [64, "mkfs.ext4 -G 16 -O ^flex_bg"],
  [64, "mkfs.ext4 -i 10"],
  [64, "mkfs.ext4 -N 5000000"],
  [64, "mkfs.ext4 -J nonsense=1"],
  [64, "mkfs.ext4 -E nonsense"],
  [64, "mkfs.ext4 -E resize=10"],
  [64, "mkfs.ext4 -U zzz"],
  [64, "mkfs.ext4 -e maybe"],
  [64, "mkfs.ext4 -O metadata_csum_seed,^metadata_csum"],
  [64, "mkfs.ext4 -r 7"],
  [64, "mkfs.ext4 -Q"],
  [0.03125, "mkfs.ext4"],
];

const each = (size: number, line: string, name: string, fn: () => void) => {
  if (installed) t(name, fn);
  else t.skip(name, `${line} on ${size} MiB needs e2fsprogs to compare with`);
};

for (const [size, line] of CASES) {
  each(size, line, `${line} on ${size} MiB makes the bytes that the real one makes`, () => {
    check_same(size * MiB, line);
  });
}
for (const [size, line] of REFUSED) {
  each(size, line, `${line} on ${size} MiB is refused as by the real one`, () => {
    const o = make_both(size * MiB, line);
    assert.is.not(o.real.status, 0, "the real one accepts this");
    assert.is(o.ours.status, o.real.status, `real: ${o.real.stderr}\nours: ${o.ours.stderr}`);
    assert.is(o.dev.chunks.size, 0);
    assert.ok(o.ours.stderr.length > 0);
  });
}

each(0, "any options", "random sizes and options make the bytes that the real one makes", () => {
  const pick = (...words: string[]) => fc.constantFrom("", ...words);
  const options = fc.tuple(
    pick("-b 1024", "-b 2048", "-b 4096"),
    pick("-O ^has_journal", "-O ^metadata_csum", "-O ^64bit", "-O ^flex_bg", "-O ^resize_inode"),
    pick("-O inline_data", "-O sparse_super2", "-O quota", "-O orphan_file", "-O ^extent,^64bit"),
    pick("-I 128", "-I 512", "-N 3000", "-i 4096", "-i 100000"),
    pick("-g 1024", "-g 4096", "-G 2", "-G 64", "-m 1"),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1500, max: 150_000 }), options, (kib, words) => {
      check_same(kib * 1024, `mkfs.ext4 ${words.join(" ")}`);
    }),
    { numRuns: 300, seed: 20221213 },
  );
});

each(0, "e2fsck", "e2fsck finds nothing wrong with what is made", () => {
  const file = path.join(folder, "ours.img");
  for (const [mib, line] of CASES) {
    const [program, ...words] = line.split(" ") as [string, ...string[]];
    const dev = new sparse_device(mib * MiB);
    const r = mkfs_ext4(with_seed(words, file), dev, test_env(), program);
    if (r.status !== 0) continue;
    write_sparse(file, mib * MiB, dev.chunks);
    const fsck = run_tool("e2fsck", ["-fn", file]);
    // e2fsck itself stops on a superblock of revision 0 with such features
    assert.is(fsck.status, 0, `${line}: ${fsck.stdout}${fsck.stderr}`);
    rmSync(file);
  }
});

t("a device full of old bytes ends up as one that was zero, where it matters", () => {
  const args = with_seed(["-b", "4096"], "x");
  const clean = new sparse_device(64 * MiB, false);
  const dirty = new sparse_device(64 * MiB, false);
  dirty.fill_with(0xa5);
  mkfs_ext4(args, clean, test_env());
  mkfs_ext4(args, dirty, test_env());
  assert.ok(dirty.zeroed_bytes >= 1024 * 4096, "the journal is zeroed");
  for (const [at, chunk] of clean.chunks) {
    const used = chunk.findIndex((b) => b !== 0);
    if (used < 0) continue;
    const block = used - (used % 4096);
    assert.equal(
      dirty.chunks.get(at)!.slice(block, block + 4096),
      chunk.slice(block, block + 4096),
    );
  }
  const sb = dirty.chunks.get(0)!;
  assert.ok(
    sb.subarray(0, 1024).every((b) => b === 0),
    "the boot block is wiped",
  );
  assert.ok(ext4_superblock_csum_verify(sb, 1024));
});

t("-n touches nothing and says what would be made", () => {
  const dev = new sparse_device(64 * MiB);
  const r = mkfs_ext4(["-n", "-q", "x"], dev, test_env());
  assert.is(r.status, 0);
  assert.match(r.stdout, /^Creating filesystem with 65536 1k blocks and 16384 inodes\n/);
  assert.is(dev.chunks.size, 0);
});

t("block sizes follow the device's sectors", () => {
  const small = Object.assign(new sparse_device(64 * MiB), { logical_block_size: 4096 });
  assert.is(mkfs_ext4(["-b", "1024", "x"], small, test_env()).status, 1);
  assert.is(mkfs_ext4(["-q", "x"], small, test_env()).status, 0);
  assert.is(ext4_super_block.at(small.chunk(0), 1024).s_log_block_size, 2);
});

t("a block larger than a page needs -F", () => {
  const dev = new sparse_device(256 * MiB);
  const refused = mkfs_ext4(["-q", "-b", "65536", "x"], dev, test_env());
  assert.is(refused.status, 1);
  assert.match(refused.stderr, /too big for system/);
  assert.is(mkfs_ext4(["-q", "-F", "-b", "65536", "x"], dev, test_env()).status, 0);
  assert.is(
    mkfs_ext4(["-q", "-b", "65536", "x"], dev, { ...test_env(), page_size: 65536 }).status,
    0,
  );
});

t("512 MiB take a few milliseconds", () => {
  const dev = Object.assign(new sparse_device(504 * MiB), { zeroed: true });
  const args = ["-q", "-b", "4096", "x"];
  mkfs_ext4(args, dev, test_env());
  const before = performance.now();
  for (let i = 0; i < 5; i++) mkfs_ext4(args, dev, test_env());
  const each_ms = (performance.now() - before) / 5;
  assert.ok(each_ms < 100, `${each_ms} ms`);
});

t.run();
