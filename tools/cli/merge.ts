/**
 * tools/cli/merge.ts - `daxlab merge FILES`: parts of one exploration, made with --shard, as one.
 */
import { existsSync, readFileSync } from "node:fs";
import type { Command } from "commander";
import { merge } from "../explore/explore.ts";
import { user_error } from "./errors.ts";
import { exploration_text, type explore_json } from "./scenarios.ts";

function read_part(file: string): explore_json {
  if (!existsSync(file)) throw new user_error(`${file}: no such file`);
  let part: unknown;
  try {
    part = JSON.parse(readFileSync(file, "utf8"));
  } catch (e) {
    throw new user_error(`${file}: ${(e as Error).message}`);
  }
  const p = part as Partial<explore_json> | null;
  if (typeof p?.scenario !== "string" || !Array.isArray(p.findings)) {
    throw new user_error(`${file}: not written by daxlab explore --json`);
  }
  return p as explore_json;
}

function run(files: string[], o: { json?: true }): void {
  const parts = files.map(read_part);
  const [first] = parts;
  for (const [i, p] of parts.entries()) {
    const same = p.scenario === first!.scenario && `${p.switches}` === `${first!.switches}`;
    if (!same) throw new user_error(`${files[i]} is of another scenario than ${files[0]}`);
  }
  const all = merge(parts);
  const told = new Map(parts.flatMap((p) => p.findings.map((f) => [f.outcome, f])));
  const findings = all.findings.map((f) => told.get(f.outcome)!);
  const { scenario, switches, machine_seed, lockdep } = first!;
  const result = { ...all, scenario, switches, machine_seed, lockdep, findings };
  const text = o.json ? JSON.stringify(result, null, 2) : exploration_text(result);
  process.stdout.write(`${text}\n`);
  process.exitCode = findings.length > 0 ? 1 : 0;
}

export function register(program: Command): void {
  program
    .command("merge")
    .description("join the results of explore --json --shard i/n")
    .argument("<files...>", "one JSON file a part")
    .option("--json", "print the result as JSON")
    .action(run);
}
