/** tools/cli/conform.ts - `daxlab conform`: do we answer the recorded cases as Linux did? */
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import type { Command } from "commander";
import {
  type conform_report,
  conform_table,
  type conform_case,
  type conform_verdict,
  run_case,
  summarise,
} from "../script/conform.ts";
import { user_error } from "./errors.ts";
import { read_cases } from "./files.ts";
import { make_progress } from "./progress.ts";

interface conform_options {
  grep?: string;
  jobs?: string;
  json?: true;
}

/** The project's own copy of the cases. */
function own_cases(): string {
  let dir = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(dir, "tests/conformance/cases"))) {
    const up = path.dirname(dir);
    if (up === dir) throw new user_error("no cases found: name a folder of .sys files");
    dir = up;
  }
  return path.join(dir, "tests/conformance/cases");
}

function jobs_of(text: string | undefined, cases: number): number {
  const n = text === undefined ? availableParallelism() : Number(text);
  if (!Number.isInteger(n) || n < 1) throw new user_error(`--jobs: ${text} is no number of jobs`);
  // a worker costs a tenth of a second: not worth it for a few cases
  return Math.max(1, Math.min(n, Math.ceil(cases / 40)));
}

async function run_here(cases: conform_case[], note: (v: conform_verdict) => void): Promise<void> {
  for (const c of cases) {
    note(await run_case(c));
    // let progress and signals through between cases
    await new Promise((r) => setImmediate(r));
  }
}

/** Shares the cases out to workers; each takes every n-th. */
async function run_in_workers(
  cases: conform_case[],
  jobs: number,
  note: (v: conform_verdict) => void,
): Promise<void> {
  const lots = Array.from({ length: jobs }, (_, j) => cases.filter((_c, i) => i % jobs === j));
  await Promise.all(
    lots.map(
      (lot) =>
        new Promise<void>((resolve, reject) => {
          const w = new Worker(new URL(import.meta.url), { workerData: { conform_cases: lot } });
          w.on("message", note);
          w.on("error", reject);
          w.on("exit", (code) => {
            if (code === 0) resolve();
            else reject(new Error(`a worker ended with status ${code}`));
          });
        }),
    ),
  );
}

function regexp(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (e) {
    throw new user_error(`--grep: ${(e as Error).message}`);
  }
}

async function conform(places: string[], options: conform_options): Promise<void> {
  let cases = read_cases(places.length > 0 ? places : [own_cases()]);
  if (options.grep !== undefined) {
    const re = regexp(options.grep);
    cases = cases.filter((c) => re.test(c.name));
  }
  if (cases.length === 0) throw new user_error("no case matches");
  const bar = make_progress("conform", cases.length);
  const verdicts = new Map<string, conform_verdict>();
  const note = (v: conform_verdict): void => {
    verdicts.set(v.name, v);
    bar.update(verdicts.size, v.name);
  };
  const jobs = jobs_of(options.jobs, cases.length);
  const bundled = import.meta.url.endsWith(".js");
  const tell = (): conform_report => {
    bar.stop();
    const report = summarise(cases.flatMap((c) => verdicts.get(c.name) ?? []));
    if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    else print(report.cases, conform_table(report));
    return report;
  };
  if (jobs > 1 && bundled) {
    // the workers leave this thread free to hear it
    process.once("SIGINT", () => {
      process.stderr.write(`daxlab: interrupted after ${verdicts.size} of ${cases.length} cases\n`);
      tell();
      process.exit(130);
    });
    await run_in_workers(cases, jobs, note);
  } else await run_here(cases, note);
  const report = tell();
  process.exitCode = report.passed === cases.length ? 0 : 1;
}

function print(cases: conform_verdict[], table: string): void {
  for (const c of cases) {
    if (c.status === "passed") continue;
    process.stdout.write(`${c.status === "failed" ? "FAILED" : "UNSUPPORTED"} ${c.name}\n`);
    for (const d of c.difference) process.stdout.write(`    ${d}\n`);
  }
  process.stdout.write(`${table}\n`);
}

export function register(program: Command): void {
  program
    .command("conform")
    .description("run recorded cases and compare with what a real Linux answered")
    .argument("[places...]", "folders or .sys files with a .out beside (default: all of ours)")
    .option("--grep <re>", "only cases whose area/name matches")
    .option("--jobs <n>", "worker threads (default: as many as there are cores)")
    .option("--json", "print the report as JSON")
    .action(conform);
}

const lot = isMainThread
  ? undefined
  : (workerData as { conform_cases?: conform_case[] } | null)?.conform_cases;
if (lot) await run_here(lot, (v) => parentPort?.postMessage(v));
