/** tests/lib/files.ts - lists of the project's own files. */
import { readdirSync } from "node:fs";
import { repo_path } from "./paths.ts";

const SKIPPED = new Set(["node_modules", "dist", ".git", ".cache"]);

/** Files below `folder` (relative to the project) whose name ends in `ending`, sorted. */
export function glob_files(folder: string, ending = ""): string[] {
  const out: string[] = [];
  for (const item of readdirSync(repo_path(folder), { withFileTypes: true })) {
    // also as links, and .git as the file that it is in a worktree
    if (SKIPPED.has(item.name)) continue;
    const name = folder === "." ? item.name : `${folder}/${item.name}`;
    if (item.isDirectory()) {
      out.push(...glob_files(name, ending));
    } else if (item.name.endsWith(ending)) {
      out.push(name);
    }
  }
  return out.sort();
}
