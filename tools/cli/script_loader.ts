/**
 * tools/cli/script_loader.ts - imports a user's script, TypeScript or JavaScript, from anywhere.
 *
 * Two hooks: tsx for TypeScript, and one that resolves "daxlab" and what is below it to the copy
 * that runs now, so that the script and the command line share every class, and that takes a .ts
 * file outside any package as an ES module (it may use await at the top).
 */
import { existsSync, statSync } from "node:fs";
import { register } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { isMainThread } from "node:worker_threads";
import { dress_error, user_error } from "./errors.ts";
import { script_error } from "./script_error.ts";

/** Runs in the loader's thread: plain JavaScript, handed over as text. */
const hook = (targets: Record<string, string>) => `
  const targets = ${JSON.stringify(targets)};
  export async function resolve(specifier, context, next) {
    const url = targets[specifier];
    if (url !== undefined) return { url, format: "module", shortCircuit: true };
    const found = await next(specifier, context);
    const script = /\\.ts(\\?|$)/.test(found.url) && !found.url.includes("/node_modules/");
    return script ? { ...found, format: "module" } : found;
  }
`;

/** The first folder above this file that has `name`. */
function folder_with(name: string): string {
  let dir = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(dir, name))) {
    const up = path.dirname(dir);
    if (up === dir) throw new Error(`no ${name} above ${import.meta.url}`);
    dir = up;
  }
  return dir;
}

/** URLs of the public entries: beside this file's bundle, or the sources when run from those. */
function entry_urls(): Record<string, string> {
  const from_source = import.meta.url.endsWith(".ts");
  const dir = folder_with(from_source ? "package.json" : "cli.js");
  const url = (file: string) => pathToFileURL(path.join(dir, file)).href;
  return from_source
    ? {
        daxlab: url("index.ts"),
        "daxlab/kernel": url("tools/api/kernel.ts"),
        "daxlab/explore": url("tools/explore/index.ts"),
      }
    : {
        daxlab: url("index.js"),
        "daxlab/kernel": url("kernel.js"),
        "daxlab/explore": url("explore.js"),
      };
}

/** What a script throws where nobody hears it ends the command, with its place. */
function listen_for_unheard(file: string): void {
  const end = (e: unknown): void => {
    const { text, status } = dress_error(e);
    process.stderr.write(`${text}\n`);
    process.exit(status);
  };
  process.on("uncaughtException", (e) => end(script_error(e, file)));
  const note = " (in a call that the script does not await)";
  process.on("unhandledRejection", (e) => end(script_error(e, file, note)));
}

/** Runs a piece of the script `file`; what it throws is told with its place in it. */
export async function in_script<T>(file: string, run: () => Promise<T>): Promise<T> {
  const drained = (): void => {
    const why = "nothing is left to do, but the script waits for something nobody settles";
    process.stderr.write(`daxlab: ${file}: ${why}\n`);
    process.exitCode = 1;
  };
  process.once("beforeExit", drained);
  try {
    return await run();
  } catch (e) {
    throw script_error(e, file);
  } finally {
    process.off("beforeExit", drained);
  }
}

/** Imports the module at `file` (relative to the working folder). */
export async function import_script(file: string): Promise<Record<string, unknown>> {
  const full = path.resolve(file);
  if (!existsSync(full)) throw new user_error(`${file}: no such file`);
  if (statSync(full).isDirectory()) throw new user_error(`${file}: a folder, not a script`);
  if (!/\.[cm]?[jt]s$/.test(full)) {
    throw new user_error(`${file}: no script: its name ends in .ts, .js, .mjs or .sys`);
  }
  // places in a script are told by its own lines, also where it is TypeScript
  process.setSourceMapsEnabled(true);
  const tsx = await import("tsx/esm/api");
  tsx.register();
  register(`data:text/javascript,${encodeURIComponent(hook(entry_urls()))}`);
  if (isMainThread) listen_for_unheard(file);
  return await in_script(file, () => import(pathToFileURL(full).href));
}
