/**
 * tests/lib/map-check.ts - MAP.md has one line for every source file: `- path: what it is for`.
 *
 *   node --import tsx tests/lib/map-check.ts --write
 *
 * adds a line for each file that has none, from the first sentence of its header comment, drops the
 * lines of files that are gone, and sorts by folder; lines that are there stay as they are.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { glob_files } from "./files.ts";
import { repo_path } from "./paths.ts";

const FOLDERS = ["kernel", "mm", "drivers", "fs", "tools", "tests"];
const LINE = /^- `([^`]+)`: (.+)$/;
const INTRO = `# Map

One line a file, from the bottom layer up. A kernel name is the same word in Linux's tree.
`;

/** Every TypeScript file of the project. */
export function mapped_files(): string[] {
  const out = existsSync(repo_path("index.ts")) ? ["index.ts"] : [];
  for (const folder of FOLDERS) {
    if (existsSync(repo_path(folder))) out.push(...glob_files(folder, ".ts"));
  }
  return out;
}

export function read_map(): Map<string, string> {
  const lines = new Map<string, string>();
  if (!existsSync(repo_path("MAP.md"))) return lines;
  for (const line of readFileSync(repo_path("MAP.md"), "utf8").split("\n")) {
    const m = LINE.exec(line);
    if (m) lines.set(m[1]!, m[2]!);
  }
  return lines;
}

/** What is missing or stale, as findings. */
export function check_map(files: readonly string[], map: ReadonlyMap<string, string>): string[] {
  const there = new Set(files);
  const missing = files.filter((file) => !map.has(file)).map((file) => `no line for ${file}`);
  const stale = [...map.keys()].filter((file) => !there.has(file)).map((f) => `${f} is gone`);
  return [...missing, ...stale].map((text) => `MAP.md:1: map: ${text}`);
}

/** First sentence of a file's header comment, without its own path. */
export function header_sentence(file: string, text: string): string {
  const header = /^(?:#![^\n]*\n)?\s*\/\*\*([\s\S]*?)\*\//.exec(text)?.[1] ?? "";
  const words = header.replace(/^\s*\* ?/gm, "").split(/\n\s*\n/)[0]!;
  const one_line = words.replace(/\s+/g, " ").trim();
  const own = one_line.startsWith(file) ? one_line.slice(file.length) : one_line;
  const body = own.replace(/^\s*[-:.]+\s*/, "");
  const end = body.search(/(?<!\b(?:e\.g|i\.e|vs))\.(?: |$)/);
  return (end < 0 ? body : body.slice(0, end)).replace(/[.:]$/, "");
}

function write_map(): void {
  const old = read_map();
  const files = mapped_files();
  let out = INTRO;
  let folder = "";
  for (const file of files) {
    const dir = path.posix.dirname(file);
    if (dir !== folder) {
      folder = dir;
      out += `\n## ${dir === "." ? "the public API" : `${dir}/`}\n\n`;
    }
    const text = old.get(file) ?? header_sentence(file, readFileSync(repo_path(file), "utf8"));
    out += `- \`${file}\`: ${text || "(needs a line)"}\n`;
  }
  writeFileSync(repo_path("MAP.md"), out);
}

const started = process.argv[1];
if (started !== undefined && import.meta.url === pathToFileURL(started).href) {
  if (process.argv.includes("--write")) write_map();
  for (const finding of check_map(mapped_files(), read_map())) console.log(finding);
}
