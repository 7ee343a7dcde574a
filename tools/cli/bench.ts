/** tools/cli/bench.ts - `daxlab bench`. */
import type { Command } from "commander";
import { PARTS, type part, run_bench } from "../bench/bench.ts";
import { user_error } from "./errors.ts";

function positive(text: string, name: string, most: number): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || n < 1) throw new user_error(`${name}: not a positive number: ${text}`);
  if (n > most) throw new user_error(`${name}: at most ${most}, not ${text}`);
  return n;
}

function parse_parts(text: string): part[] {
  return text.split(",").map((name) => {
    const found = PARTS.find((p) => p === name);
    if (!found) throw new user_error(`--only: ${name} is none of ${PARTS.join(", ")}`);
    return found;
  });
}

export function register(program: Command): void {
  program
    .command("bench")
    .description("measure against memfs, @zenfs/core, Map and sorted-btree, in one process")
    .option("--only <parts>", `some of ${PARTS.join(",")}`, PARTS.join(","))
    .option("--files <n>", "files in the names part", "10000")
    .option("--rounds <n>", "rounds per group", "11")
    .option("--json", "print the figures as JSON")
    .action(async (options: { only: string; files: string; rounds: string; json?: true }) => {
      const report = await run_bench({
        parts: parse_parts(options.only),
        files: positive(options.files, "--files", 1_000_000),
        rounds: positive(options.rounds, "--rounds", 10_000),
        log: (text) => process.stderr.write(`bench: ${text}\n`),
        print: options.json ? undefined : (text) => process.stdout.write(`${text}\n`),
      });
      if (options.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
    });
}
