/**
 * tools/cli/merge.ts - `daxlab merge FILES`: parts of one exploration, made with --shard, as one.
 */
import { readFileSync } from "node:fs";
import type { Command } from "commander";
import { merge } from "../explore/explore.ts";
import { user_error } from "./errors.ts";
import { check_file } from "./files.ts";
import { exploration_text, type explore_json } from "./scenarios.ts";

function read_part(file: string): explore_json {
  check_file(file);
  let part: unknown;
  try {
    part = JSON.parse(readFileSync(file, "utf8"));
  } catch (e) {
    throw new user_error(`${file}: ${(e as Error).message}`);
  }
  const p = part as Partial<explore_json> | null;
  const whole = (f: Partial<explore_json["findings"][number]> | null): boolean =>
    typeof f?.signature === "string" && f.outcome !== undefined && f.story !== undefined;
  if (
    typeof p?.scenario !== "string" ||
    typeof p.runs !== "number" ||
    typeof p.verdicts !== "object" ||
    !Array.isArray(p.shards) ||
    !Array.isArray(p.findings) ||
    !p.findings.every(whole)
  ) {
    throw new user_error(`${file}: not written by daxlab explore --json`);
  }
  return p as explore_json;
}

/** Each part once, and all parts of one division; answers those that are missing. */
function check_shards(files: string[], parts: explore_json[]): string[] {
  const from = new Map<string, string>();
  for (const [i, p] of parts.entries()) {
    for (const shard of p.shards) {
      const before = from.get(shard);
      if (before !== undefined) {
        throw new user_error(`${files[i]}: part ${shard} is in ${before} already`);
      }
      from.set(shard, files[i]!);
    }
  }
  const [one] = from.keys();
  const n = Number(one?.split("/")[1]);
  const odd = [...from.keys()].find((shard) => !shard.endsWith(`/${n}`));
  if (odd !== undefined) {
    throw new user_error(`${from.get(odd)}: part ${odd} is of another division than ${one}`);
  }
  const all = Array.from({ length: n }, (_, i) => `${i + 1}/${n}`);
  return all.filter((shard) => !from.has(shard));
}

function run(files: string[], o: { json?: true }): void {
  const parts = files.map(read_part);
  const [first] = parts;
  for (const [i, p] of parts.entries()) {
    const same = p.scenario === first!.scenario && `${p.switches}` === `${first!.switches}`;
    if (!same) throw new user_error(`${files[i]} is of another scenario than ${files[0]}`);
    for (const k of ["strategy", "machine_seed", "lockdep"] as const) {
      if (p[k] === first![k]) continue;
      throw new user_error(`${files[i]}: ${k} is ${p[k]}, in ${files[0]} it is ${first![k]}`);
    }
  }
  const missing = check_shards(files, parts);
  const all = merge(parts);
  if (missing.length > 0) {
    all.complete = false;
    process.stderr.write(`daxlab: not all parts are here: ${missing.join(", ")} missing\n`);
  }
  const told = new Map(parts.flatMap((p) => p.findings.map((f) => [f.outcome, f])));
  const findings = all.findings.map((f) => told.get(f.outcome)!);
  const { scenario, switches, machine_seed, lockdep } = first!;
  const shards = parts.flatMap((p) => p.shards);
  const result = { ...all, scenario, switches, machine_seed, lockdep, shards, findings };
  const text = o.json ? JSON.stringify(result, null, 2) : exploration_text(result);
  process.stdout.write(`${text}\n`);
  process.exitCode = findings.length > 0 || missing.length > 0 ? 1 : 0;
}

export function register(program: Command): void {
  program
    .command("merge")
    .description("join the results of explore --json --shard i/n")
    .argument("<files...>", "one JSON file a part")
    .option("--json", "print the result as JSON")
    .action(run);
}
