/** tools/cli/run.ts - `daxlab run SCRIPT.ts` and `daxlab run CASE.sys`. */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { Command } from "commander";
import type { Machine } from "../api/machine.ts";
import type { script_options } from "../script/run.ts";
import { user_error } from "./errors.ts";
import { parse_script, ScriptError } from "../script/parse.ts";
import { DIMM_LABELS, check_dimm, check_file, read_image } from "./files.ts";
import { script_error } from "./script_error.ts";
import { import_script } from "./script_loader.ts";

interface run_options {
  image?: string;
  trace?: true;
  lockdep?: true;
}

/** Orders of locks that could deadlock, though this run did not. */
function print_lockdep(reports: readonly { text: string }[]): void {
  for (const r of reports) process.stdout.write(`${r.text}\n`);
  if (reports.length > 0) process.exitCode = 1;
}

/** What the device holds; with mode=keep it is a whole DIMM: memory, then labels. */
function image_for(script: string, file: string): Uint8Array {
  const image = read_image(file);
  if (parse_script(script).setup.mode === "keep") check_dimm(file, image.length, DIMM_LABELS);
  else if (image.length % 4096 !== 0) throw new user_error(`${file}: not a multiple of 4096 bytes`);
  return image;
}

/** Runs the case in `file`; what its author got wrong goes to stderr, with the line. */
export async function run_case(
  file: string,
  options_for: (text: string) => script_options,
): Promise<Machine> {
  const { run_script } = await import("../script/run.ts");
  check_file(file);
  const text = readFileSync(file, "utf8");
  try {
    const r = await run_script(text, options_for(text));
    for (const c of r.complaints) process.stderr.write(`daxlab: ${file}:${c.line}: ${c.text}\n`);
    if (r.complaints.length > 0) process.exitCode = 1;
    if (r.unsupported !== null) throw new user_error(`not built yet: ${r.unsupported}`, 1);
    return r.machine;
  } catch (e) {
    if (e instanceof ScriptError) throw new user_error(`${file}:${e.line}: ${e.what}`);
    throw e;
  }
}

async function run_sys(file: string, options: run_options): Promise<void> {
  const m = await run_case(file, (text) => ({
    ...(options.image === undefined ? {} : { image: image_for(text, options.image) }),
    ...(options.lockdep === undefined ? {} : { lockdep: true }),
    trace_all: options.trace === true,
    on_line: (line) => process.stdout.write(`${line}\n`),
  }));
  print_lockdep(m.lockdep?.reports ?? []);
}

/** A scenario that is not the default export would not run, and say nothing. */
function check_exports(
  file: string,
  exports: [string, unknown][],
  is_scenario: (x: unknown) => boolean,
): void {
  const how = "`export default scenario({ ... }, async (m) => { ... });`";
  const named = exports.find(([name, x]) => name !== "default" && is_scenario(x))?.[0];
  if (named !== undefined) {
    throw new user_error(`${file}: the scenario "${named}" is not its default export: ${how}`);
  }
  if (exports.some(([name]) => name === "default")) {
    throw new user_error(`${file}: its default export is no scenario: ${how}`);
  }
}

/** Runs a module's scenario; a deadlock is told with where each lock was taken. */
async function run_module(file: string, lockdep: boolean): Promise<void> {
  const module = await import_script(file);
  const { is_scenario, run_reported } = await import("../api/scenario.ts");
  const { Deadlock, Hang } = await import("../../kernel/locking/report.ts");
  const s = module["default"];
  if (!is_scenario(s)) return check_exports(file, Object.entries(module), is_scenario);
  const live: { machine?: Machine } = {};
  const drained = (): void => {
    const who = live.machine?.sched.foreign() ?? "the scenario waits for something nobody settles";
    process.stderr.write(`daxlab: ${file}: nothing is left to do, but ${who}\n`);
    process.exitCode = 1;
  };
  process.once("beforeExit", drained);
  try {
    const observe = (m: Machine): void => {
      live.machine = m;
    };
    await run_reported(s, observe, lockdep ? { lockdep } : {});
  } catch (e) {
    if (!(e instanceof Deadlock) && !(e instanceof Hang)) throw script_error(e, file);
    process.stdout.write(`${e.message}\n`);
    process.exitCode = 1;
  } finally {
    process.off("beforeExit", drained);
    print_lockdep(live.machine?.lockdep?.reports ?? []);
  }
}

export function register(program: Command): void {
  program
    .command("run")
    .description("run a scenario: a TypeScript file, or a .sys case (output as a recording)")
    .argument("<script>", '.ts, .js, .mjs (`import { Machine } from "daxlab"` works), or .sys')
    .argument("[args...]", "left in process.argv for the script")
    .option(
      "--image <img>",
      ".sys only: the device holds this; with mode=keep a whole DIMM (gzip'd or not)",
    )
    .option("--lockdep", "also report orders of locks that could deadlock (a module: its scenario)")
    .option("--trace", ".sys only: show the fault trace of every operation")
    .passThroughOptions()
    .action(async (script: string, args: string[], options: run_options) => {
      if (script.endsWith(".sys")) return run_sys(script, options);
      if (options.image !== undefined || options.trace) {
        throw new user_error("--image and --trace go with a .sys case");
      }
      process.argv = [process.argv[0]!, path.resolve(script), ...args];
      await run_module(script, options.lockdep === true);
    });
}
