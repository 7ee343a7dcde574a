/**
 * tools/bench/harness.ts - contestants of a group run in turn, round after round, in short slices,
 * so that a change of the machine's mood hits all alike. A slice is timed in CPU time of the whole
 * process (collection and compilation included): busy neighbours do not count. What is compared is
 * the ratio of the best rounds within one run; absolute times belong to a machine.
 */
export interface contestant {
  name: string;
  /** Performs `n` operations. */
  fn(n: number): void | Promise<void>;
  /** Most operations in a slice. */
  max_n?: number;
  /** `n` is always a multiple of this: for work that only makes sense as a whole. */
  grain?: number;
  note?: string;
}

export interface row {
  name: string;
  /** Median and best CPU time of one operation, in ns. */
  cpu_ns: number;
  min_ns: number;
  /** Ratio of the best rounds to each of the group's bases. */
  ratios: Record<string, number>;
  note?: string;
}

export interface group_result {
  title: string;
  bases: string[];
  rows: row[];
}

export interface group_options {
  /** Names of the contestants that the others are divided by. */
  bases: readonly string[];
  rounds?: number;
  slice_ms?: number;
}

/** Deterministic 32-bit generator without allocation. */
export class bench_random {
  private s: number;
  constructor(seed = 1) {
    this.s = seed | 0 || 1;
  }
  next(): number {
    let x = this.s;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.s = x;
    return x >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
}

const DEFAULT_ROUNDS = 11;
const DEFAULT_SLICE_MS = 40;

export const cpu_ms = (): number => {
  const used = process.cpuUsage();
  return (used.user + used.system) / 1e3;
};

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const mid = sorted.length >> 1;
  return sorted.length % 2 ? sorted[mid]! : (sorted[mid - 1]! + sorted[mid]!) / 2;
}

async function slice(c: contestant, n: number): Promise<{ cpu: number; wall: number }> {
  const cpu = cpu_ms();
  const wall = performance.now();
  const p = c.fn(n);
  if (p) await p;
  return { cpu: cpu_ms() - cpu, wall: performance.now() - wall };
}

/** How many operations fill a slice. */
async function calibrate(c: contestant, ms: number): Promise<number> {
  const grain = c.grain ?? 1;
  const whole = (n: number) => Math.ceil(Math.min(n, c.max_n ?? 1e8) / grain) * grain;
  const most = whole(Number.MAX_SAFE_INTEGER);
  for (let n = grain; ; ) {
    const { wall } = await slice(c, n);
    if (wall >= ms / 3 || n >= most) return whole((n * ms) / Math.max(wall, 1e-3));
    n = whole(wall < 0.5 ? n * 8 : (n * ms) / (2 * wall) + 1);
  }
}

export function make_rows(
  samples: ReadonlyMap<string, number[]>,
  bases: readonly string[],
  notes: ReadonlyMap<string, string> = new Map(),
): row[] {
  const best = (name: string) => Math.min(...(samples.get(name) ?? [Number.NaN]));
  const present = bases.filter((base) => samples.has(base));
  return [...samples].map(([name, values]) => ({
    name,
    cpu_ns: median(values),
    min_ns: best(name),
    ratios: Object.fromEntries(present.map((base) => [base, best(name) / best(base)])),
    ...(notes.has(name) ? { note: notes.get(name)! } : {}),
  }));
}

/** Runs one group. */
export async function run_group(
  title: string,
  list: readonly contestant[],
  options: group_options,
): Promise<group_result> {
  const ms = options.slice_ms ?? DEFAULT_SLICE_MS;
  const counts = new Map<string, number>();
  const samples = new Map<string, number[]>(list.map((c) => [c.name, []]));
  for (const c of list) {
    // Twice: the first one also warms the compiler up.
    await calibrate(c, ms);
    counts.set(c.name, await calibrate(c, ms));
  }
  for (let round = 0; round < (options.rounds ?? DEFAULT_ROUNDS); round++) {
    for (const c of round % 2 ? [...list].reverse() : list) {
      const n = counts.get(c.name)!;
      samples.get(c.name)!.push(((await slice(c, n)).cpu * 1e6) / n);
    }
  }
  const rows = make_rows(samples, options.bases);
  return { title, bases: options.bases.filter((base) => samples.has(base)), rows };
}

function time_text(ns: number): string {
  if (ns >= 1e6) return `${(ns / 1e6).toFixed(2)} ms`;
  if (ns >= 1e4) return `${(ns / 1e3).toFixed(1)} us`;
  return `${ns.toFixed(1)} ns`;
}

/** The table of a group, for people. */
export function format_group(g: group_result): string {
  const wide = Math.max(12, ...g.rows.map((r) => r.name.length));
  const heads = g.bases.map((base) => `x ${base}`);
  const lines = [
    `\n### ${g.title}`,
    [
      "contestant".padEnd(wide),
      "cpu/op".padStart(10),
      "best".padStart(10),
      ...heads.map((h) => h.padStart(Math.max(8, h.length))),
    ].join("  "),
  ];
  for (const r of g.rows) {
    const cells = g.bases.map((base, i) =>
      (r.ratios[base] ?? Number.NaN).toFixed(2).padStart(Math.max(8, heads[i]!.length)),
    );
    const times = [time_text(r.cpu_ns).padStart(10), time_text(r.min_ns).padStart(10)];
    const note = r.note ? `  ${r.note}` : "";
    lines.push(`${[r.name.padEnd(wide), ...times, ...cells].join("  ")}${note}`);
  }
  return lines.join("\n");
}

/** Keeps a computed value alive so that the compiler cannot drop the work. */
export const sink = { value: 0 };
