/**
 * tests/lib/format-comments.ts - `npm run format`: wraps comment lines wider than 100 columns,
 * which the formatter leaves alone. The overhang moves to the next line of the same paragraph.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { mapped_files } from "./map-check.ts";
import { repo_path } from "./paths.ts";

const WIDTH = 100;
const PARAGRAPH = /^(?!\s|[-*|#@]|```|\d+[.)] )\S/;
const COMMENT = /^(\s*(?:\*|\/\/) )(\s*(?:[-*] |\d+[.)] )?)/;
const ONE_LINE_DOC = /^(\s*)\/\*\* (.*) \*\/$/;

/** `lines` with the comment at `at` cut to the width; the rest joins the following line. */
function cut(lines: string[], at: number): void {
  const line = lines[at]!;
  const doc = ONE_LINE_DOC.exec(line);
  if (doc) {
    lines.splice(at, 1, `${doc[1]}/**`, `${doc[1]} * ${doc[2]}`, `${doc[1]} */`);
    return;
  }
  const start = COMMENT.exec(line);
  if (!start) return;
  const prefix = start[1]! + " ".repeat(start[2]!.length);
  const space = line.lastIndexOf(" ", WIDTH);
  if (space <= prefix.length) return;
  const rest = line.slice(space + 1);
  lines[at] = line.slice(0, space);
  const next = lines[at + 1];
  const joins = next?.startsWith(prefix) && PARAGRAPH.test(next.slice(prefix.length));
  if (joins) lines[at + 1] = `${prefix}${rest} ${next!.slice(prefix.length)}`;
  else lines.splice(at + 1, 0, prefix + rest);
}

/** The text with wide comment lines wrapped. */
export function wrap_comments(text: string): string {
  const lines = text.split("\n");
  for (let i = 0; i < lines.length; i++) {
    if ([...lines[i]!].length > WIDTH && !/https?:\/\//.test(lines[i]!)) cut(lines, i);
  }
  return lines.join("\n");
}

/** The named files, or all of the project's. */
function chosen(): string[] {
  const named = process.argv.slice(2).filter((name) => name.endsWith(".ts"));
  return named.length ? named : mapped_files().map((file) => repo_path(file));
}

for (const file of chosen()) {
  const text = readFileSync(file, "utf8");
  const wrapped = wrap_comments(text);
  if (wrapped !== text) writeFileSync(file, wrapped);
}
