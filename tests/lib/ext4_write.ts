/**
 * tests/lib/ext4_write.ts - writing to ext4 through a process, and checking what is on the media
 * afterwards.
 */
import path from "node:path";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  O_CREAT,
  O_DIRECT,
  O_RDWR,
} from "../../kernel/include/fcntl.ts";
import { MAP_SHARED, PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import { Random } from "../../kernel/random.ts";
import { region_bytes } from "../../mm/phys.ts";
import { Machine } from "../../tools/api/machine.ts";
import type { Process } from "../../tools/api/process.ts";
import { fsck_ext4 } from "../../tools/cmd/fsck_ext4.ts";
import { find_tool, run_tool, temp_folder, write_sparse } from "./e2fsprogs.ts";
import { read_image } from "./images.ts";
import { assert } from "./suite.ts";

export interface fs_options {
  /** Name of a recorded image, or undefined for a fresh filesystem. */
  image?: string;
  mkfs?: string;
  size?: string;
  mount?: string;
}
export interface test_fs {
  m: Machine;
  p: Process;
}

let folder: string | undefined;

/** Boots with a device, makes a filesystem or takes the image, mounts it on /mnt. */
export async function boot_ext4(o: fs_options): Promise<test_fs> {
  const pmem = o.image
    ? [{ image: read_image("ext4", o.image), name: "pmem0", pages: true }]
    : [{ size: o.size ?? "64M", name: "pmem0", mode: "raw" as const, pages: true }];
  const m = await Machine.boot({ pmem });
  if (!o.image) await m.mkfs("ext4", "/dev/pmem0", o.mkfs ?? "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", o.mount ?? "");
  return { m, p };
}

/** The device's bytes, as they are now. */
export function media_bytes(m: Machine): Uint8Array {
  return region_bytes(m.pmem[0]!.region);
}

/** Unmounts; our checker and, where there is one, e2fsck -fn must find nothing. */
export async function finish_ext4(fs: test_fs): Promise<void> {
  await fs.p.umount("/mnt");
  const bytes = media_bytes(fs.m);
  const report = fsck_ext4(bytes);
  const found = report.problems.map((x) => JSON.stringify(x)).join("\n");
  assert.is(found, "", `${found}\n${fs.m.dmesg()}`);
  if (!find_tool("e2fsck")) return;
  const file = path.join((folder ??= temp_folder()), "image");
  write_sparse(file, bytes.length, pieces(bytes));
  const r = run_tool("e2fsck", ["-fn", file]);
  assert.is(r.status, 0, `e2fsck -fn:\n${r.stdout}${r.stderr}`);
}

function* pieces(b: Uint8Array): Generator<[number, Uint8Array]> {
  for (let at = 0; at < b.length; at += 65536) {
    const part = b.subarray(at, at + 65536);
    if (part.some((x) => x !== 0)) yield [at, part];
  }
}

/** A file and what it should hold. */
export class model_file {
  readonly p: Process;
  readonly fd: number;
  /** Longer than any test makes the file. */
  readonly bytes: Uint8Array;
  readonly name: string;
  size = 0;
  private map: number | undefined;
  private direct: number | undefined;
  constructor(p: Process, fd: number, name: string, max: number) {
    this.p = p;
    this.fd = fd;
    this.name = name;
    this.bytes = new Uint8Array(max);
  }
  static async open(p: Process, name: string, max: number, flags = 0): Promise<model_file> {
    const f = new model_file(p, await p.open(name, O_RDWR | O_CREAT | flags, 0o644), name, max);
    await p.ftruncate(f.fd, 0);
    return f;
  }

  async write(pos: number, data: Uint8Array): Promise<void> {
    assert.is(await this.p.pwrite(this.fd, data, pos), data.length);
    this.bytes.set(data, pos);
    this.size = Math.max(this.size, pos + data.length);
  }
  async truncate(size: number): Promise<void> {
    await this.p.ftruncate(this.fd, size);
    if (size < this.size) this.bytes.fill(0, size, this.size);
    this.size = size;
  }
  async fallocate(mode: number, off: number, len: number): Promise<void> {
    await this.p.fallocate(this.fd, mode, off, len);
    const b = this.bytes;
    const end = Math.min(off + len, this.size);
    if (mode & FALLOC_FL_COLLAPSE_RANGE) {
      b.copyWithin(off, off + len, this.size);
      b.fill(0, this.size - len, this.size);
      this.size -= len;
    } else if (mode & FALLOC_FL_INSERT_RANGE) {
      b.copyWithin(off + len, off, this.size);
      b.fill(0, off, off + len);
      this.size += len;
    } else {
      const clears = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
      if (mode & clears && end > off) b.fill(0, off, end);
      if (!(mode & FALLOC_FL_KEEP_SIZE)) this.size = Math.max(this.size, off + len);
    }
  }
  /** Stores through a shared mapping of the whole file, made at the first call. */
  async store(pos: number, data: Uint8Array): Promise<void> {
    const prot = PROT_READ | PROT_WRITE;
    this.map ??= await this.p.mmap(0, this.bytes.length, prot, MAP_SHARED, this.fd, 0);
    await this.p.store(this.map + pos, data);
    this.bytes.set(data, pos);
  }
  /** A direct write, of whole blocks. */
  async write_direct(pos: number, data: Uint8Array): Promise<void> {
    this.direct ??= await this.p.open(this.name, O_RDWR | O_DIRECT, 0);
    assert.is(await this.p.pwrite(this.direct, data, pos), data.length);
    this.bytes.set(data, pos);
    this.size = Math.max(this.size, pos + data.length);
  }
  async close(): Promise<void> {
    if (this.map !== undefined) await this.p.munmap(this.map, this.bytes.length);
    if (this.direct !== undefined) await this.p.close(this.direct);
    await this.p.close(this.fd);
  }
  /** Reads all of it and compares. */
  async check(what: string): Promise<void> {
    const st = await this.p.fstat(this.fd);
    assert.is(st.size, this.size, `${what}: size`);
    const got = new Uint8Array(this.size);
    assert.is(await this.p.pread(this.fd, got, 0), this.size, `${what}: bytes read`);
    for (let i = 0; i < this.size; i++) {
      if (got[i] === this.bytes[i]) continue;
      assert.unreachable(
        `${what}: byte ${i} of ${this.size} is ${got[i]}, should be ${this.bytes[i]}`,
      );
    }
  }
}

/** What random_steps may do. */
export interface step_options {
  extents: boolean;
  block: number;
  /** Largest size of the file. */
  max: number;
  steps: number;
  seed: number;
  /** Called after each step. */
  after?: (f: model_file, what: string) => Promise<void>;
}

const pattern = (r: Random, len: number): Uint8Array => {
  const b = new Uint8Array(len);
  const seed = r.u32();
  for (let i = 0; i < len; i++) b[i] = (seed + i * 7 + (i >> 8) * 13) & 255;
  return b;
};

/** One random operation on the file; returns its description. */
async function random_step(f: model_file, r: Random, o: step_options): Promise<string> {
  const off = r.below(o.max / 2);
  const len = 1 + r.below(r.below(3) === 0 ? o.max / 4 : 3 * o.block);
  const aligned_off = Math.floor(off / o.block) * o.block;
  const aligned_len = Math.ceil(len / o.block) * o.block;
  const kind = r.below(o.extents ? 14 : 10);
  if (kind < 4) {
    await f.write(off, pattern(r, len));
    return `write ${off} ${len}`;
  }
  if (kind === 4) {
    const size = r.below(o.max / 2);
    await f.truncate(size);
    return `truncate ${size}`;
  }
  if (kind === 5) {
    await f.fallocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
    return `punch ${off} ${len}`;
  }
  if (kind === 6) {
    await f.p.fsync(f.fd);
    return "fsync";
  }
  if (kind === 7) {
    if (off + len > f.size) return "nothing";
    await f.store(off, pattern(r, len));
    return `store ${off} ${len}`;
  }
  if (kind === 8) {
    await f.write_direct(aligned_off, pattern(r, aligned_len));
    return `direct ${aligned_off} ${aligned_len}`;
  }
  if (kind === 9) {
    await f.p.drop_caches();
    return "drop_caches";
  }
  if (kind === 10) {
    const mode = r.below(2) ? FALLOC_FL_KEEP_SIZE : 0;
    await f.fallocate(mode, off, len);
    return `fallocate ${mode} ${off} ${len}`;
  }
  if (kind === 11) {
    const mode = FALLOC_FL_ZERO_RANGE | (r.below(2) ? FALLOC_FL_KEEP_SIZE : 0);
    await f.fallocate(mode, off, len);
    return `zero ${mode} ${off} ${len}`;
  }
  if (kind === 12) {
    if (aligned_off + aligned_len >= f.size) return "nothing";
    await f.fallocate(FALLOC_FL_COLLAPSE_RANGE, aligned_off, aligned_len);
    return `collapse ${aligned_off} ${aligned_len}`;
  }
  if (aligned_off >= f.size || f.size + aligned_len > o.max) return "nothing";
  await f.fallocate(FALLOC_FL_INSERT_RANGE, aligned_off, aligned_len);
  return `insert ${aligned_off} ${aligned_len}`;
}

/** Seeded operations, the whole file compared after each. A failure names the steps so far. */
export async function random_steps(f: model_file, o: step_options): Promise<void> {
  const r = new Random(o.seed);
  const done: string[] = [];
  for (let i = 0; i < o.steps; i++) {
    try {
      done.push(await random_step(f, r, o));
      await f.check(`seed ${o.seed}, step ${i}`);
      await o.after?.(f, done.at(-1)!);
    } catch (e) {
      const text = e instanceof Error ? (e.stack ?? e.message) : JSON.stringify(e);
      throw new Error(`seed ${o.seed}, step ${i} after [${done.slice(-8).join("; ")}]: ${text}`);
    }
  }
}
