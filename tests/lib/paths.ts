/**
 * tests/lib/paths.ts - where the project is, for tests that read fixtures or start the CLI.
 *
 * A test file may run from its source or bundled in a cache folder, so nothing may be looked up
 * relative to `import.meta.url` of the test itself: start from `repo_root`.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

function find_root(): string {
  let dir = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(dir, "tsconfig.pure.json"))) {
    const up = path.dirname(dir);
    if (up === dir) throw new Error("the project's folder was not found above the test");
    dir = up;
  }
  return dir;
}

/** Absolute path of the folder that holds package.json. */
export const repo_root = find_root();

/** Absolute path of `parts` inside the project. */
export function repo_path(...parts: string[]): string {
  return path.join(repo_root, ...parts);
}
