/** tools/cli/run.ts - `daxlab run SCRIPT.ts` and `daxlab run CASE.sys`. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import type { Command } from "commander";
import { user_error } from "./errors.ts";
import { read_image } from "./files.ts";
import { import_script } from "./script_loader.ts";

interface run_options {
  image?: string;
  trace?: true;
}

async function run_sys(file: string, options: run_options): Promise<void> {
  const { run_script } = await import("../script/run.ts");
  const { ScriptError } = await import("../script/parse.ts");
  if (!existsSync(file)) throw new user_error(`${file}: no such file`);
  try {
    const r = await run_script(readFileSync(file, "utf8"), {
      ...(options.image === undefined ? {} : { image: read_image(options.image) }),
      trace_all: options.trace === true,
      on_line: (line) => process.stdout.write(`${line}\n`),
    });
    if (r.unsupported !== null) throw new user_error(`not built yet: ${r.unsupported}`, 1);
  } catch (e) {
    if (e instanceof ScriptError) throw new user_error(`${file}: ${e.message}`);
    throw e;
  }
}

export function register(program: Command): void {
  program
    .command("run")
    .description("run a scenario: a TypeScript file, or a .sys case (output as a recording)")
    .argument("<script>", '.ts, .js, .mjs (`import { Machine } from "daxlab"` works), or .sys')
    .argument("[args...]", "left in process.argv for the script")
    .option("--image <img>", ".sys only: the device holds this image (may be gzip'd)")
    .option("--trace", ".sys only: show the fault trace of every operation")
    .passThroughOptions()
    .action(async (script: string, args: string[], options: run_options) => {
      if (script.endsWith(".sys")) return run_sys(script, options);
      if (options.image !== undefined || options.trace) {
        throw new user_error("--image and --trace go with a .sys case");
      }
      process.argv = [process.argv[0]!, path.resolve(script), ...args];
      await import_script(script);
    });
}
