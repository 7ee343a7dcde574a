/**
 * tests/seeds/lab.ts - what the seed tests share: a machine with an ext4 in DAX mode that is
 * followed line by line, and the states that a power cut may leave of it.
 */
import { answer as outcome } from "../../tools/scenarios/victim.ts";
import {
  Machine,
  type machine_options,
  MAP_SHARED,
  MAP_SHARED_VALIDATE,
  MAP_SYNC,
  type media_snapshot_t,
  O_CREAT,
  O_RDWR,
  type Process,
  PROT_READ,
  PROT_WRITE,
  type trace_event,
} from "../../index.ts";
import type { inode } from "../../kernel/include/fs.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { fget } from "../../fs/file.ts";
import { fput } from "../../kernel/vfs/file.ts";
import { type pmem_event, track_persistence, volatile_lines } from "../../mm/phys.ts";

export const PAGE = 4096;
export const MIB = 2 ** 20;
export const LINE = 64;
export const RW = PROT_READ | PROT_WRITE;
export const SYNC = MAP_SHARED_VALIDATE | MAP_SYNC;

export interface lab {
  m: Machine;
  p: Process;
}

export interface lab_options extends machine_options {
  mkfs?: string;
  mount?: string;
}

/** ext4 with DAX on /mnt, every line of its device followed. */
export async function dax_lab(o: lab_options = {}): Promise<lab> {
  const { mkfs, mount, ...boot } = o;
  const pmem = [{ size: "32M", mode: "fsdax" as const, map: "mem" as const }];
  const m = await Machine.boot({ pmem, track_persistence: true, ...boot });
  await m.mkfs("ext4", "/dev/pmem0", mkfs ?? "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", mount ?? "dax=always");
  return { m, p };
}

/** A lab whose tasks take turns at random, by a seed. */
export function random_lab(seed: number, o: lab_options = {}): Promise<lab> {
  return dax_lab({ seed, strategy: new random_strategy(new Random(seed), seed), ...o });
}

export const bytes = (s: string): Uint8Array => new Uint8Array([...s].map((c) => c.charCodeAt(0)));
export const text = (b: Uint8Array): string => String.fromCharCode(...b);
export const filled = (value: number, len: number): Uint8Array => new Uint8Array(len).fill(value);

/** A file of `size` bytes without blocks: its name and inode are on the media. */
export async function sparse_file(p: Process, name: string, size: number): Promise<number> {
  const fd = await p.open(name, O_RDWR | O_CREAT, 0o644);
  await p.ftruncate(fd, size);
  await p.fsync(fd);
  await p.sync();
  return fd;
}

/** A file whose blocks are allocated, written and on the media. */
export async function full_file(p: Process, name: string, data: Uint8Array): Promise<number> {
  const fd = await p.open(name, O_RDWR | O_CREAT, 0o644);
  await p.pwrite(fd, data, 0);
  await p.fsync(fd);
  await p.sync();
  return fd;
}

export const map = (p: Process, fd: number, len: number, flags = MAP_SHARED): Promise<number> =>
  Promise.resolve(p.mmap(0, len, RW, flags, fd, 0));

/** "ENOSPC", "SIGBUS", or "ok". */
export { outcome };

/** The inode behind a descriptor. */
export async function inode_of(p: Process, fd: number): Promise<inode> {
  return await p.in_kernel(async (_k, t: task_struct) => {
    const f = fget(t, fd);
    const { f_inode } = f;
    await fput(f);
    return f_inode;
  });
}

/** Tracepoints of fs_dax while `fn` runs. */
export async function trace_of(m: Machine, fn: () => unknown): Promise<trace_event[]> {
  const out: trace_event[] = [];
  const stop = m.trace((e) => out.push(e));
  try {
    await fn();
  } finally {
    stop();
  }
  return out;
}

/** What happens on the device from here on; forgets what was volatile, so sync first. */
export function device_events(m: Machine): pmem_event[] {
  const out: pmem_event[] = [];
  track_persistence(m.pmem[0]!.region, (e) => void out.push(e));
  return out;
}

// ---- power cuts

const MAX_LINES = 6;

/**
 * The states that a power cut now may leave of the device: each undurable line for itself old or
 * new. All subsets up to MAX_LINES lines; beyond that none, all, each line alone, all but each, and
 * some at random.
 */
export function* crash_set(m: Machine): Generator<media_snapshot_t> {
  const lines = volatile_lines(m.pmem[0]!.region);
  const state = (kept: Set<number>): media_snapshot_t =>
    m.media_snapshot({ lose: true, keep: (_r, off) => kept.has(off) });
  if (lines.length <= MAX_LINES) {
    for (let bits = 0; bits < 1 << lines.length; bits++) {
      yield state(new Set(lines.filter((_l, i) => bits & (1 << i))));
    }
    return;
  }
  yield state(new Set());
  yield state(new Set(lines));
  const random = new Random(lines.length);
  for (let i = 0; i < 6; i++) yield state(new Set(lines.filter(() => random.below(2) === 0)));
  for (let i = 0; i < 6; i++) {
    const one = lines[random.below(lines.length)]!;
    yield state(new Set([one]));
    yield state(new Set(lines.filter((l) => l !== one)));
  }
}

/** Boots on `media`, mounts /mnt, asks `look`. */
export async function boot_on<T>(
  media: media_snapshot_t,
  look: (p: Process, m: Machine) => Promise<T>,
): Promise<T> {
  const m = await Machine.boot({ media });
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  return look(p, m);
}

/** What `look` finds in every state of the crash set, each answer once, sorted. */
export async function after_power_cut<T>(
  m: Machine,
  look: (p: Process, m: Machine) => Promise<T>,
): Promise<T[]> {
  const found = new Set<T>();
  for (const media of crash_set(m)) found.add(await boot_on(media, look));
  return [...found].sort();
}

/** `len` bytes at `pos` of a file, or what the call answered. */
export async function read_file(p: Process, name: string, len: number, pos = 0): Promise<string> {
  let got = "";
  const r = await outcome(p, async () => {
    const fd = await p.open(name, O_RDWR);
    const buf = new Uint8Array(len);
    const n = await p.pread(fd, buf, pos);
    got = text(buf.subarray(0, n));
    await p.close(fd);
  });
  return r === "ok" ? got : r;
}

/** Byte of the region where what is mapped at `addr` lies. */
export async function media_offset(p: Process, m: Machine, addr: number): Promise<number> {
  const info = await p.mapping_info(addr);
  return info!.paddr! - m.pmem[0]!.region.start;
}

/** Bytes of a snapshot of pmem0. */
export async function snapshot_bytes(
  media: media_snapshot_t,
  off: number,
  len: number,
): Promise<Uint8Array> {
  const m = await Machine.boot({ media });
  const out = new Uint8Array(len);
  m.kernel.phys.copy_from(m.pmem[0]!.region.start + off, out, 0, len);
  return out;
}
