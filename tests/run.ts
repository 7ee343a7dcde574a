/**
 * tests/run.ts - `npm test`: every tests/**\/*.test.ts, in parallel child processes.
 *
 *   npm test -- [--grep RE] [--jobs N] [--shard I/N] [--long] [PATH-PART ...]
 *
 * A file counts as what it reports (tests/lib/suite.ts), and only if the numbers add up: a file
 * that dies, hangs, reports nothing or declares other than it accounts for is one failure more. The
 * last line is "N passed, N failed" (with "N skipped" above it); the exit status is 1 on any
 * failure.
 */
import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { glob_files } from "./lib/files.ts";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import pLimit from "p-limit";
import { type built_file, bundle, cache_folder } from "./lib/bundle.ts";
import { repo_path, repo_root } from "./lib/paths.ts";
import type { file_report } from "./lib/suite.ts";
import { totals_lines } from "./lib/totals.ts";

interface outcome {
  source: string;
  report: file_report | undefined;
  /** Why the file itself failed, apart from its tests. */
  problem: string | undefined;
  output: string;
  ms: number;
}

const FILE_LIMIT_MS = 10 * 60_000;
const LONG_FILE_LIMIT_MS = 60 * 60_000;

const { values: flags, positionals: parts } = parseArgs({
  allowPositionals: true,
  options: {
    grep: { type: "string" },
    jobs: { type: "string", default: String(os.availableParallelism()) },
    shard: { type: "string", default: "1/1" },
    long: { type: "boolean", default: false },
  },
});

function choose_files(): string[] {
  const shard = /^(\d+)\/(\d+)$/.exec(flags.shard);
  if (!shard || +shard[1]! < 1 || +shard[1]! > +shard[2]!) {
    throw new Error(`--shard: expected I/N with 1 <= I <= N, got ${flags.shard}`);
  }
  // A whole path is taken as it is, whatever its name: the runner's own tests use that.
  const named = parts.filter((part) => part.endsWith(".ts") && existsSync(repo_path(part)));
  const rest = parts.filter((part) => !named.includes(part));
  const wanted = (file: string) =>
    parts.length === 0 || named.includes(file) || rest.some((part) => file.includes(part));
  return [...new Set([...named, ...glob_files("tests", ".test.ts")])]
    .filter(wanted)
    .sort()
    .filter((_, i) => i % +shard[2]! === +shard[1]! - 1);
}

function read_report(file: string): { report: file_report | undefined; last: string | undefined } {
  let report: file_report | undefined;
  let last: string | undefined;
  if (!existsSync(file)) return { report, last };
  for (const line of readFileSync(file, "utf8").split("\n")) {
    if (!line) continue;
    try {
      const data = JSON.parse(line);
      if ("declared" in data) report = data;
      else last = data.start;
    } catch {
      // A line cut off by a crash: what is missing shows in the totals.
    }
  }
  return { report, last };
}

function judge(report: file_report | undefined, end: string, last: string | undefined) {
  const where = last === undefined ? "before the first test" : `last test started: "${last}"`;
  if (report === undefined) return `no report (${end}); ${where}`;
  const settled = report.passed + report.failed + report.skipped.length;
  if (settled !== report.declared) {
    return `${report.declared} tests declared, ${settled} accounted for (${end})`;
  }
  if (report.failed === 0 && end !== "status 0") return `all tests passed, but ${end}; ${where}`;
  return undefined;
}

function run_file(file: built_file, cache: string): Promise<outcome> {
  const { source, script } = file;
  if (script === undefined) {
    const problem = `does not build\n${file.error}`;
    return Promise.resolve({ source, report: undefined, problem, output: "", ms: 0 });
  }
  const report_file = path.join(cache, `${source.replaceAll("/", "_")}.jsonl`);
  const limit = flags.long ? LONG_FILE_LIMIT_MS : FILE_LIMIT_MS;
  const started = performance.now();
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--enable-source-maps", script], {
      cwd: repo_root,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        DAXLAB_REPORT: report_file,
        DAXLAB_TEST_FILE: source,
        ...(flags.grep === undefined ? {} : { DAXLAB_GREP: flags.grep }),
        ...(flags.long ? { DAXLAB_LONG: "1" } : {}),
      },
    });
    let output = "";
    let timed_out = false;
    child.stdout.setEncoding("utf8").on("data", (text: string) => (output += text));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (output += text));
    const timer = setTimeout(() => {
      timed_out = true;
      child.kill("SIGKILL");
    }, limit);
    child.on("error", (err) => (output += `${err.message}\n`));
    child.on("close", (status, signal) => {
      clearTimeout(timer);
      let end = signal === null ? `status ${status}` : `killed by ${signal}`;
      if (timed_out) end = `stopped after ${limit / 1000} s`;
      const { report, last } = read_report(report_file);
      const problem = judge(report, end, last);
      resolve({ source, report, problem, output, ms: performance.now() - started });
    });
  });
}

function print_outcome(o: outcome): void {
  const bad = o.problem !== undefined || (o.report?.failed ?? 0) > 0;
  const counts = o.report ? `${o.report.passed}/${o.report.declared}` : "-";
  const ms = `${Math.round(o.ms)} ms`;
  console.log(`${bad ? "FAIL" : "ok  "}  ${o.source.padEnd(48)} ${counts.padStart(9)} ${ms}`);
  if (!bad) return;
  console.log(o.output.replace(/^/gm, "      ").trimEnd());
  if (o.problem !== undefined) console.log(`      ${o.source}: ${o.problem}`);
}

function print_summary(all: outcome[]): number {
  const totals = { passed: 0, failed: 0, skipped: 0 };
  const slow = [...all].sort((a, b) => b.ms - a.ms).slice(0, 5);
  for (const o of all) {
    for (const s of o.report?.skipped ?? []) console.log(`skipped  ${s.name}: ${s.reason}`);
    totals.passed += o.report?.passed ?? 0;
    totals.failed += (o.report?.failed ?? 0) + (o.problem === undefined ? 0 : 1);
    totals.skipped += o.report?.skipped.length ?? 0;
  }
  const times = slow.map((o) => `${path.basename(o.source)} ${(o.ms / 1000).toFixed(1)} s`);
  console.log(`slowest: ${times.join(", ")}`);
  for (const o of all) {
    for (const f of o.report?.failures ?? [])
      console.log(`failed   ${f.name}\n         ${f.replay}`);
    if (o.problem !== undefined) console.log(`failed   ${o.source}: ${o.problem.split("\n")[0]}`);
  }
  if (totals.passed + totals.failed + totals.skipped === 0) {
    console.log("no test matches: that is a failure");
    totals.failed = 1;
  }
  console.log(totals_lines(totals.passed, totals.failed, totals.skipped));
  return totals.failed > 0 ? 1 : 0;
}

async function main(): Promise<number> {
  const sources = choose_files();
  const cache = cache_folder();
  const files = await bundle(sources, cache);
  const limit = pLimit(Math.max(1, Number(flags.jobs) || 1));
  const outcomes = await Promise.all(
    files.map((file) =>
      limit(async () => {
        const o = await run_file(file, cache);
        print_outcome(o);
        return o;
      }),
    ),
  );
  return print_summary(outcomes);
}

try {
  process.exitCode = await main();
} catch (err) {
  console.error((err as Error).message);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
}
