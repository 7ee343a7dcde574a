/**
 * tools/cli/script_loader.ts - imports a user's script, TypeScript or JavaScript, from anywhere.
 *
 * Two hooks: tsx for TypeScript, and one that resolves "daxlab" and what is below it to the copy
 * that runs now, so that the script and the command line share every class, and that takes a .ts
 * file outside any package as an ES module (it may use await at the top).
 */
import { existsSync } from "node:fs";
import { register } from "node:module";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { user_error } from "./errors.ts";

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

/** Imports the module at `file` (relative to the working folder). */
export async function import_script(file: string): Promise<Record<string, unknown>> {
  const full = path.resolve(file);
  if (!existsSync(full)) throw new user_error(`${file}: no such file`);
  const tsx = await import("tsx/esm/api");
  tsx.register();
  register(`data:text/javascript,${encodeURIComponent(hook(entry_urls()))}`);
  return await import(pathToFileURL(full).href);
}
