/**
 * tools/bench/fs.ts - the same file work on daxlab (ext4, DAX), memfs and @zenfs/core, in one
 * process.
 *
 * Data: 4 KiB random and sequential pread and pwrite over a 64 MiB file, 1 MiB streams, beside the
 * bare memory copy. Names: create, stat, rename and unlink of many files in one directory; each
 * phase has a budget of CPU time, and one that is slower than linear stops early, so that its true
 * cost for all files is higher than the figure (a note says so).
 */
import {
  bench_random,
  type contestant,
  cpu_ms,
  type group_result,
  make_rows,
  run_group,
} from "./harness.ts";
import type { fs_adapter } from "./peers.ts";

const PAGE = 4096;
const MIB = 1 << 20;
export const MEMCPY = "memcpy";
const BASES = ["memfs", MEMCPY];

export interface fs_bench_options {
  size_mib: number;
  files: number;
  rounds: number;
  budget_ms: number;
  log(text: string): void;
  show(g: group_result): void;
}

type call = (a: fs_adapter, fd: any, i: number, r: bench_random) => unknown;

function contest(a: fs_adapter, fd: unknown, op: call): contestant {
  const fn_sync = (n: number) => {
    const r = new bench_random(5);
    for (let i = 0; i < n; i++) op(a, fd, i, r);
  };
  // what did not have to wait answers plainly: nothing to await then
  const fn_async = async (n: number) => {
    const r = new bench_random(5);
    for (let i = 0; i < n; i++) {
      const p = op(a, fd, i, r);
      if (typeof p === "object") await p;
    }
  };
  const common = { name: a.name, max_n: 200_000 };
  return a.async ? { ...common, fn: fn_async } : { ...common, fn: fn_sync };
}

async function fill(a: fs_adapter, size_mib: number): Promise<unknown> {
  const block = new Uint8Array(MIB).fill(0x5a);
  const page = new Uint8Array(PAGE);
  const fd = await a.open("/big", "w+");
  for (let i = 0; i < size_mib; i++) await a.pwrite(fd, block, i * MIB);
  const got = await a.pread(fd, page, size_mib * MIB - PAGE);
  if (got !== PAGE || page[5] !== 0x5a) throw new Error(`${a.name} reads back something else`);
  const { size } = await a.stat("/big");
  if (size !== size_mib * MIB) throw new Error(`${a.name} has a file of ${size} bytes`);
  return fd;
}

/** Groups of the data part: title, operation on an adapter, the bare copy. */
function data_groups(size_mib: number): [title: string, op: call, copy: (n: number) => void][] {
  const pages = (size_mib * MIB) / PAGE;
  const flat = new Uint8Array(size_mib * MIB).fill(1);
  const page = new Uint8Array(PAGE).fill(0xa5);
  const block = new Uint8Array(MIB).fill(0x5a);
  const into = new Uint8Array(PAGE);
  const into_block = new Uint8Array(MIB);
  const each = (step: (i: number, r: bench_random) => void) => (n: number) => {
    const r = new bench_random(5);
    for (let i = 0; i < n; i++) step(i, r);
  };
  const take = (to: Uint8Array, at: number) => to.set(flat.subarray(at, at + to.length));
  return [
    [
      "pread 4 KiB, random",
      (a, fd, _i, r) => a.pread(fd, into, r.below(pages) * PAGE),
      each((_i, r) => take(into, r.below(pages) * PAGE)),
    ],
    [
      "pread 4 KiB, sequential",
      (a, fd, i) => a.pread(fd, into, (i % pages) * PAGE),
      each((i) => take(into, (i % pages) * PAGE)),
    ],
    [
      "pwrite 4 KiB, random, overwrite",
      (a, fd, _i, r) => a.pwrite(fd, page, r.below(pages) * PAGE),
      each((_i, r) => flat.set(page, r.below(pages) * PAGE)),
    ],
    [
      "pwrite 4 KiB, sequential, overwrite",
      (a, fd, i) => a.pwrite(fd, page, (i % pages) * PAGE),
      each((i) => flat.set(page, (i % pages) * PAGE)),
    ],
    [
      "pread 1 MiB, sequential",
      (a, fd, i) => a.pread(fd, into_block, (i % size_mib) * MIB),
      each((i) => take(into_block, (i % size_mib) * MIB)),
    ],
    [
      "pwrite 1 MiB, sequential, overwrite",
      (a, fd, i) => a.pwrite(fd, block, (i % size_mib) * MIB),
      each((i) => flat.set(block, (i % size_mib) * MIB)),
    ],
  ];
}

export async function bench_data(list: readonly fs_adapter[], o: fs_bench_options): Promise<void> {
  const open = new Map<fs_adapter, unknown>();
  for (const a of list) open.set(a, await fill(a, o.size_mib));
  for (const [title, op, copy] of data_groups(o.size_mib)) {
    o.log(title);
    const contestants: contestant[] = [{ name: MEMCPY, fn: copy }];
    for (const [a, fd] of open) contestants.push(contest(a, fd, op));
    o.show(await run_group(title, contestants, { bases: BASES, rounds: o.rounds }));
  }
  for (const [a, fd] of open) {
    await a.close(fd);
    await a.unlink("/big");
  }
}

interface name_state {
  files: number;
  renamed: number;
  random: bench_random;
}
interface phase {
  title: string;
  op(a: fs_adapter, dir: string, i: number, s: name_state): unknown;
  keep?(s: name_state, done: number): void;
}

const phases: readonly phase[] = [
  {
    title: "create and close",
    op: (a, dir, i) => a.create(`${dir}/f${i}`),
    keep: (s, done) => {
      s.files = done;
    },
  },
  { title: "stat, random", op: (a, dir, _i, s) => a.stat(`${dir}/f${s.random.below(s.files)}`) },
  {
    title: "rename",
    op: (a, dir, i) => a.rename(`${dir}/f${i}`, `${dir}/g${i}`),
    keep: (s, done) => {
      s.renamed = done;
    },
  },
  {
    title: "unlink",
    op: (a, dir, i, s) => a.unlink(`${dir}/${i < s.renamed ? "g" : "f"}${i}`),
  },
];

/** One adapter through all phases in a directory of its own; CPU ns per operation of each. */
async function run_phases(a: fs_adapter, dir: string, o: fs_bench_options) {
  const s: name_state = { files: o.files, renamed: 0, random: new bench_random(3) };
  const out: { ns: number; note?: string }[] = [];
  await a.mkdir(dir);
  for (const { op, keep } of phases) {
    const count = s.files;
    const cpu = cpu_ms();
    const end = cpu + o.budget_ms;
    let i = 0;
    for (; i < count && (i % 32 || cpu_ms() < end); i++) {
      const p = op(a, dir, i, s);
      if (a.async) await p;
    }
    keep?.(s, i);
    const ns = ((cpu_ms() - cpu) * 1e6) / i;
    out.push(i < o.files ? { ns, note: `stopped after ${i} of ${o.files} files` } : { ns });
  }
  return out;
}

export async function bench_names(list: readonly fs_adapter[], o: fs_bench_options): Promise<void> {
  const samples = phases.map(() => new Map<string, number[]>());
  const notes = phases.map(() => new Map<string, string>());
  const out = new Set<fs_adapter>();
  const rounds = Math.max(1, Math.min(3, o.rounds));
  for (let round = 0; round < rounds; round++) {
    for (const a of list.filter((x) => !out.has(x))) {
      o.log(`${o.files} files in one directory, ${a.name}, round ${round + 1} of ${rounds}`);
      for (const [k, { ns, note }] of (await run_phases(a, `/dir${round}`, o)).entries()) {
        samples[k]!.set(a.name, [...(samples[k]!.get(a.name) ?? []), ns]);
        if (note === undefined) continue;
        notes[k]!.set(a.name, note);
        out.add(a); // one round of a slow one is enough
      }
    }
  }
  for (const [k, { title }] of phases.entries()) {
    const rows = make_rows(samples[k]!, ["memfs"], notes[k]);
    o.show({ title: `${title}, ${o.files} files in one directory`, bases: ["memfs"], rows });
  }
}
