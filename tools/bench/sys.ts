/**
 * tools/bench/sys.ts - how long one recorded case takes: machine, mkfs, mount, the case itself, all
 * of the cases that pass after one another in one process. CPU time; the first round, which also
 * pays for the compiler, is not counted.
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { read_cases } from "../cli/files.ts";
import { run_case } from "../script/conform.ts";
import { cpu_ms, type group_result, median, type row } from "./harness.ts";
import { project_root } from "./peers.ts";

export interface sys_bench_options {
  rounds: number;
  log(text: string): void;
  show(g: group_result): void;
}

const MAX_ROUNDS = 3;

/** Value that `part` of all values do not exceed. */
function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]!;
}

function passing_cases() {
  const dir = path.join(project_root(), "tests/conformance");
  const list = path.join(dir, "passing.txt");
  if (!existsSync(list)) throw new Error("the recorded cases are only in a checkout");
  const names = new Set(readFileSync(list, "utf8").split("\n"));
  return read_cases([path.join(dir, "cases")]).filter((c) => names.has(c.name));
}

export async function bench_sys(o: sys_bench_options): Promise<void> {
  const cases = passing_cases();
  const rounds = Math.max(1, Math.min(MAX_ROUNDS, o.rounds));
  const times = new Map(cases.map((c) => [c.name, [] as number[]]));
  for (let round = 0; round <= rounds; round++) {
    o.log(`${cases.length} recorded cases, round ${round} of ${rounds}`);
    for (const c of cases) {
      const start = cpu_ms();
      const { status } = await run_case(c);
      if (status !== "passed") times.delete(c.name);
      if (round > 0) times.get(c.name)?.push(cpu_ms() - start);
      // what a case leaves behind is collected between the cases, as anywhere else
      await new Promise((r) => setImmediate(r));
    }
  }
  const all = [...times.values()];
  const usual = all.map((t) => median(t));
  const best = all.map((t) => Math.min(...t));
  const line = (name: string, part: number): row => ({
    name,
    cpu_ns: quantile(usual, part) * 1e6,
    min_ns: quantile(best, part) * 1e6,
    ratios: {},
  });
  const rows = [line("half of them within", 0.5), line("nine in ten within", 0.9)];
  const title = `one of ${all.length} recorded cases, mkfs and mount included`;
  o.show({ title, bases: [], rows });
}
