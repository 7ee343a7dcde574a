/** tools/cli/run.ts - `daxlab run SCRIPT.ts`. */
import path from "node:path";
import type { Command } from "commander";
import { import_script } from "./script_loader.ts";

export function register(program: Command): void {
  program
    .command("run")
    .description("run a scenario written in TypeScript")
    .argument("<script>", 'a .ts, .js or .mjs file; `import { Machine } from "daxlab"` works in it')
    .argument("[args...]", "left in process.argv for the script")
    .passThroughOptions()
    .action(async (script: string, args: string[]) => {
      process.argv = [process.argv[0]!, path.resolve(script), ...args];
      await import_script(script);
    });
}
