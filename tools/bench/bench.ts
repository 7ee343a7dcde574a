/** tools/bench/bench.ts - the whole bench: which parts, in which order, with which contestants. */
import os from "node:os";
import { bench_data, bench_names } from "./fs.ts";
import { format_group, type group_result } from "./harness.ts";
import { bench_index } from "./index_maps.ts";
import { bench_sched } from "./sched.ts";
import { bench_sys } from "./sys.ts";
import { daxlab_adapter, install_peers, memfs_adapter, zenfs_adapter } from "./peers.ts";

export const PARTS = ["data", "names", "index", "sched", "sys"] as const;
export type part = (typeof PARTS)[number];

export interface bench_options {
  parts: readonly part[];
  files: number;
  rounds: number;
  /** Where the work is; for stderr. */
  log(text: string): void;
  /** A finished group's table, or undefined when only the result is wanted. */
  print?: ((text: string) => void) | undefined;
}

export interface bench_report {
  node: string;
  cpu: string;
  /** Contestants that could not take part, and why. */
  missing: string[];
  groups: group_result[];
}

const SIZE_MIB = 64;
const BUDGET_MS = 6_000;

export async function run_bench(o: bench_options): Promise<bench_report> {
  install_peers(o.log);
  const cpus = os.cpus();
  const report: bench_report = {
    node: process.version,
    cpu: `${cpus.length} x ${cpus[0]?.model.trim() ?? "?"}`,
    missing: [],
    groups: [],
  };
  o.print?.(`node ${report.node}, ${report.cpu}; CPU time, ratios of the best rounds`);
  const show = (g: group_result) => {
    report.groups.push(g);
    o.print?.(format_group(g));
  };
  const common = { rounds: o.rounds, log: o.log, show };
  if (o.parts.includes("data") || o.parts.includes("names")) {
    const ours = await daxlab_adapter();
    if (!ours) report.missing.push("daxlab: dist/bench/adapter.js is not built");
    const list = [...(ours ? [ours] : []), await memfs_adapter(), await zenfs_adapter()];
    const fs_options = { ...common, size_mib: SIZE_MIB, files: o.files, budget_ms: BUDGET_MS };
    if (o.parts.includes("data")) await bench_data(list, fs_options);
    if (o.parts.includes("names")) await bench_names(list, fs_options);
    for (const a of list) await a.done?.();
  }
  if (o.parts.includes("index")) await bench_index(common);
  if (o.parts.includes("sched")) await bench_sched(common);
  if (o.parts.includes("sys")) await bench_sys(common);
  for (const text of report.missing) o.print?.(`left out: ${text}`);
  return report;
}
