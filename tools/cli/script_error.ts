/**
 * tools/cli/script_error.ts - what went wrong in a user's script, with its place:
 * `FILE:LINE:COLUMN: what`. The stack below it would be ours; DAXLAB_DEBUG=1 shows it.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { is_errno } from "../../kernel/include/errno.ts";
import { user_error } from "./errors.ts";

interface frame {
  file: string;
  at: string;
}

/** The package this file belongs to, as source or as bundle. */
function package_folder(): string {
  let dir = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(dir, "package.json")) && path.dirname(dir) !== dir) {
    dir = path.dirname(dir);
  }
  return dir;
}

/** `at NAME (FILE:LINE:COLUMN)` or `at FILE:LINE:COLUMN`; frames in Node itself do not match. */
const FRAME = /^\s+at (?:.* \()?(?:async )?(file:\/\/\S+?|\/[^()]+?)(?:\?[^:]*)?:(\d+):(\d+)\)?$/;

function frames_of(stack: string): frame[] {
  const out: frame[] = [];
  for (const line of stack.split("\n")) {
    const m = FRAME.exec(line);
    if (m === null) continue;
    const file = m[1]!.startsWith("file:") ? fileURLToPath(m[1]!) : m[1]!;
    out.push({ file, at: `${shown(file)}:${m[2]}:${m[3]}` });
  }
  return out;
}

/** As a user would write it from here. */
function shown(file: string): string {
  const rel = path.relative("", file);
  return rel.startsWith("..") ? file : rel;
}

/** Errors whose name says nothing that their message does not. */
const PLAIN = [
  "Error",
  "RangeError",
  "SyscallError",
  "SignalError",
  "NotImplementedError",
  "WouldBlock",
];

function words(e: unknown): string {
  if (is_errno(e)) return `${e.code}, from a function of the kernel`;
  if (!(e instanceof Error)) return `threw ${inspect(e, { depth: 1 })}`;
  const message = e.message === "" ? "an Error without a message" : e.message;
  return PLAIN.includes(e.name) ? message : `${e.name}: ${message}`;
}

/** What the compiler of TypeScript says names its own place. */
function syntax_error(e: unknown): string | undefined {
  const m = /^(\/.*):(\d+):(\d+): ERROR: (.*)$/m.exec(e instanceof Error ? e.message : "");
  return m === null ? undefined : `${shown(m[1]!)}:${m[2]}:${m[3]}: ${m[4]}`;
}

/** Node's own parser writes the place above the message. */
function parse_place(e: unknown): string | undefined {
  if (!(e instanceof SyntaxError)) return undefined;
  const m = /^(file:\/\/\S+):(\d+)\n/.exec(e.stack ?? "");
  return m === null ? undefined : `${shown(fileURLToPath(m[1]!))}:${m[2]}`;
}

/** The error to show for `e`, which came out of the script `file`. `note` follows its message. */
export function script_error(e: unknown, file: string, note = ""): unknown {
  // what broke an invariant of ours is ours to explain
  if (e instanceof user_error || (e instanceof Error && e.name === "KernelBug")) return e;
  const stack = e instanceof Error ? (e.stack ?? "") : "";
  const debug = process.env["DAXLAB_DEBUG"] ? `\n${stack}` : "";
  const syntax = syntax_error(e);
  if (syntax !== undefined) return new user_error(`${syntax}${debug}`, 1);
  const full = path.resolve(file);
  const root = `${package_folder()}${path.sep}`;
  const frames = frames_of(stack);
  const is_users = ({ file: f }: frame): boolean =>
    f === full || !(f.startsWith(root) || f.includes("/node_modules/"));
  const place = frames.find(is_users)?.at ?? parse_place(e) ?? shown(full);
  const inside = e instanceof TypeError && frames.length > 0 && !is_users(frames[0]!);
  const why = inside
    ? " (inside daxlab: is an argument of the wrong kind? DAXLAB_DEBUG=1 shows the stack)"
    : "";
  return new user_error(`${place}: ${words(e)}${why}${note}${debug}`, 1);
}
