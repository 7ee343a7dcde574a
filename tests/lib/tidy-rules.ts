/**
 * tests/lib/tidy-rules.ts - the house rules that a regular expression can check. A rule takes one
 * file and returns findings, printed as `file:line: rule: text`; tests/tidy.test.ts runs them over
 * the project and over samples that each rule must find.
 */
import path from "node:path";

export interface source {
  /** Path relative to the project, with forward slashes. */
  file: string;
  text: string;
  /** The text with comments and strings blanked, same lines and columns. */
  code: string;
  /** The text with comments blanked only. */
  with_strings: string;
}
export type rule = (s: source) => string[];

/** Folders that also run in a browser tab: no host, no clock, no state outside a Machine. */
const PURE = /^(kernel|mm|drivers|fs|tools\/(api|cmd|script|explore|crash))\/|^index\.ts$/;
export const is_pure = (file: string): boolean => PURE.test(file);

/** Layers from the bottom; a file imports from its own rank and below. */
const LAYERS: readonly [RegExp, number][] = [
  [/^kernel\//, 0],
  [/^mm\//, 1],
  [/^drivers\//, 2],
  [/^fs\//, 3],
  // the tools people know work on plain devices and know no processes; Machine offers them
  [/^tools\/cmd\//, 3.5],
  [/^tools\/api\//, 4],
  [/^index\.ts$/, 5],
  // what reads the host's files
  [/^tools\/(?:cli|bench)\//, 7],
  [/^tools\//, 6],
  [/^tests\//, 8],
];
const MAX_COLUMNS = 100;
const MAX_LINES = 800;
/** Names of the storage behind emulated memory; only mm/phys may use them. */
const CHUNK_ACCESS = /\.chunks\b|\bmedia_chunks?\b|\bphys_chunks?\b/;
const CHUNK_OWNERS = /^mm\/(?:phys|chunks|persist)/;
const PURE_PACKAGES = new Set(["eventemitter3"]);

interface scan_state {
  text: string;
  at: number;
  code: string[];
  kept: string[];
  last: string;
}

const blank = (part: string): string => part.replace(/[^\n]/g, " ");

function emit(s: scan_state, end: number, kind: "comment" | "string"): void {
  const part = s.text.slice(s.at, end);
  s.code.push(blank(part));
  s.kept.push(kind === "comment" ? blank(part) : part);
  if (kind === "string") s.last = '"';
  s.at = end;
}

function end_of_string(text: string, at: number, quote: string): number {
  let i = at + 1;
  for (; i < text.length && text[i] !== quote; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === "\n" && quote !== "`") break;
  }
  return i + 1;
}

/** End of a template literal, over its `${}` parts, which are blanked with it. */
function end_of_template(text: string, at: number): number {
  let i = at + 1;
  while (i < text.length && text[i] !== "`") {
    if (text[i] === "\\") i += 2;
    else if (text[i] === "$" && text[i + 1] === "{") {
      let depth = 1;
      i += 2;
      while (i < text.length && depth > 0) {
        const c = text[i]!;
        if (c === "`") i = end_of_template(text, i);
        else if (c === '"' || c === "'") i = end_of_string(text, i, c);
        else {
          if (c === "{") depth++;
          if (c === "}") depth--;
          i++;
        }
      }
    } else i++;
  }
  return i + 1;
}

function end_of_regex(text: string, at: number): number {
  let in_class = false;
  for (let i = at + 1; i < text.length; i++) {
    const c = text[i];
    if (c === "\\") i++;
    else if (c === "[") in_class = true;
    else if (c === "]") in_class = false;
    else if (c === "\n") return at + 1;
    else if (c === "/" && !in_class) {
      return i + 1 + /^[a-z]*/.exec(text.slice(i + 1, i + 9))![0].length;
    }
  }
  return at + 1;
}

/** Where the comment, string or regular expression at `i` ends, or undefined for plain code. */
function skip_end(s: scan_state, i: number): [end: number, kind: "comment" | "string"] | undefined {
  const { text } = s;
  const c = text[i]!;
  if (c === '"' || c === "'") return [end_of_string(text, i, c), "string"];
  if (c === "`") return [end_of_template(text, i), "string"];
  if (c !== "/") return undefined;
  if (text[i + 1] === "/") {
    const end = text.indexOf("\n", i);
    return [end < 0 ? text.length : end, "comment"];
  }
  if (text[i + 1] === "*") {
    const end = text.indexOf("*/", i + 2);
    return [end < 0 ? text.length : end + 2, "comment"];
  }
  const regex = s.last === "" || /[(,=:[!&|?{};+\-*%~^<>\n]/.test(s.last) || s.last === "return";
  return regex ? [end_of_regex(text, i), "string"] : undefined;
}

/** Splits a file into what the rules look at. */
export function read_source(file: string, text: string): source {
  const s: scan_state = { text, at: 0, code: [], kept: [], last: "" };
  while (s.at < text.length) {
    const skip = skip_end(s, s.at);
    if (skip) {
      emit(s, skip[0], skip[1]);
      continue;
    }
    const word = /^[\w$]+/.exec(text.slice(s.at, s.at + 64))?.[0] ?? text[s.at]!;
    s.code.push(word);
    s.kept.push(word);
    if (word.trim()) s.last = word;
    s.at += word.length;
  }
  return { file, text, code: s.code.join(""), with_strings: s.kept.join("") };
}

/** Findings of a pattern, one per match. */
function matches(s: source, where: string, pattern: RegExp, rule_name: string, note: string) {
  const out: string[] = [];
  const global = new RegExp(pattern, pattern.flags.includes("g") ? "" : `${pattern.flags}g`);
  for (const m of where.matchAll(global)) {
    const line = where.slice(0, m.index).split("\n").length;
    const shown = note.replace("$&", m[0].trim()).replace("$1", m[1] ?? "");
    out.push(`${s.file}:${line}: ${rule_name}: ${shown}`);
  }
  return out;
}

interface import_line {
  line: number;
  specifier: string;
}

export function imports_of(s: source): import_line[] {
  const out: import_line[] = [];
  const pattern = /\b(?:from|import)\s*\(?\s*["']([^"'\n]+)["']/g;
  for (const m of s.with_strings.matchAll(pattern)) {
    if (s.code[m.index] === " ") continue; // the words stand in a string
    const line = s.with_strings.slice(0, m.index).split("\n").length;
    out.push({ line, specifier: m[1]! });
  }
  return out;
}

const rank_of = (file: string): number | undefined => LAYERS.find(([re]) => re.test(file))?.[1];

export const layers: rule = (s) => {
  const out: string[] = [];
  const own = rank_of(s.file);
  for (const { line, specifier } of imports_of(s)) {
    const at = `${s.file}:${line}: layers:`;
    if (!specifier.startsWith(".")) continue;
    if (!specifier.endsWith(".ts")) out.push(`${at} import "${specifier}" without its .ts ending`);
    const target = path.posix.normalize(path.posix.join(path.posix.dirname(s.file), specifier));
    if (target.startsWith("kernel/include/")) continue;
    const rank = rank_of(target);
    if (own === undefined || rank === undefined) {
      out.push(`${at} ${s.file} imports ${target}: one of them is in no layer`);
    } else if (rank > own) {
      out.push(`${at} imports upwards: ${target}`);
    }
  }
  return out;
};

export const pure_imports: rule = (s) => {
  if (!is_pure(s.file)) return [];
  return imports_of(s)
    .filter(({ specifier }) => !specifier.startsWith(".") && !PURE_PACKAGES.has(specifier))
    .map(({ line, specifier }) => `${s.file}:${line}: pure: imports "${specifier}"`);
};

const HOST_NAMES =
  /(?<![.\w$])(console|process|Buffer|performance|Intl|Date|globalThis)\s*[.[]|\bMath\.random\b|(?<![.\w$])(?:setTimeout|setInterval|setImmediate|queueMicrotask|structuredClone|fetch)\s*\(|\bnew\s+(?:Date|TextEncoder|TextDecoder|WeakRef|FinalizationRegistry|URL|Worker)\b|\.(?:toLocale\w+|localeCompare)\(/;

export const pure_names: rule = (s) => {
  if (!is_pure(s.file)) return [];
  return matches(s, s.code, HOST_NAMES, "pure", "uses the host: $&").filter((finding) => {
    // A local variable or parameter of that name is not the host's.
    const name = /uses the host: (process|Date|performance)\b/.exec(finding)?.[1];
    if (name === undefined) return true;
    return !new RegExp(`\\b(?:const|let)\\s+${name}\\b|[(,{]\\s*${name}\\s*[:,)?}]`).test(s.code);
  });
};

export const module_state: rule = (s) => {
  if (!is_pure(s.file)) return [];
  const rule_name = "module state";
  return [
    ...matches(s, s.code, /^(?:export )?(?:let|var) \w+/m, rule_name, "$& at module level"),
    ...matches(
      s,
      s.code,
      /^(?:export )?const (\w+)[^=\n]* = (?:new (?:Map|Set|WeakMap|WeakSet|Array)(?:<[^\n]*>)?\(\)|\[\]|\{\});/m,
      rule_name,
      "$1 starts empty, so it is filled later: hang it off the Machine",
    ),
    ...matches(
      s,
      s.code,
      /^\s+static (?!readonly|override|async|get |#?\w+\s*[(<]|\{)[^\n]*/m,
      rule_name,
      "$&: static fields are shared by all Machines",
    ),
  ];
};

/** Kernel types are written in lower case; classes of our own tools and the language are not. */
export const instances: rule = (s) =>
  is_pure(s.file)
    ? matches(s, s.code, /\binstanceof\s+([a-z_][\w$]*)/, "instanceof", "of a kernel type: $1")
    : [];

export const only: rule = (s) =>
  s.file.startsWith("tests/") && !s.file.includes("/suite-fixtures/")
    ? matches(s, s.code, /\.only\s*\(/, "only", "a forgotten .only (use --grep)")
    : [];

/** Lines inside template literals (recorded output, scripts) may be of any length. */
export const width: rule = (s) => {
  const code = s.code.split("\n");
  return s.text.split("\n").flatMap((line, i) => {
    const columns = [...line].length;
    if (columns <= MAX_COLUMNS) return [];
    const in_template = /^\s*$/.test(code[i] ?? "") && s.with_strings.split("\n")[i] === line;
    const unbreakable = /^\s*(?:\/[^/*].*\/\w*[,;]?|"[^"]*"[,;]?|import .*)$/.test(line);
    return in_template || unbreakable ? [] : [`${s.file}:${i + 1}: width: ${columns} columns`];
  });
};

export const length: rule = (s) => {
  const lines = s.text.split("\n").length - 1;
  return lines > MAX_LINES
    ? [`${s.file}:${lines}: length: ${lines} lines, ${MAX_LINES} is all`]
    : [];
};

// Spelled in parts so that this file does not find itself.
const OPEN_ENDS = new RegExp(
  `\\b(?:${["TO", "FIX"].map((w, i) => w + ["DO", "ME"][i]).join("|")})\\b`,
);
export const open_ends: rule = (s) => matches(s, s.text, OPEN_ENDS, "open end", "$&");

export const chunks: rule = (s) =>
  /^(mm|drivers|fs)\//.test(s.file) && !CHUNK_OWNERS.test(s.file)
    ? matches(s, s.code, CHUNK_ACCESS, "chunk access", "$&: only mm/phys touches chunks")
    : [];

const word = (...parts: string[]): string => parts.join("");
const ORIGIN = new RegExp(
  [
    `\\b${word("cla", "ude")}\\b`,
    `\\b${word("anth", "ropic")}\\b`,
    `\\b${word("chat", "gpt")}\\b`,
    `\\b${word("open", "ai")}\\b`,
    `\\b${word("co", "pilot")}\\b`,
    `\\b(?:sub)?${word("age", "nts?")}\\b`,
    `\\b${word("language ", "models?")}\\b`,
    `\\b${word("l", "lms?")}\\b`,
    `\\b${word("helper ", "models?")}\\b`,
    word("/wo", "rk/"),
    word("/tmp/", "brief"),
    word("/opt/", "linux"),
    word("/ro", "ot/"),
  ].join("|"),
  "i",
);
/** Nothing mentions how the project was made, or the paths of the machine it was made on. */
export const origin: rule = (s) => matches(s, s.text, ORIGIN, "origin", "$&");

/** Rules for every TypeScript file. */
export const source_rules: Readonly<Record<string, rule>> = {
  "imports point downwards and name the .ts file": layers,
  "pure folders import no host module and no package but eventemitter3": pure_imports,
  "pure folders use no clock, timer, randomness or other host object": pure_names,
  "pure folders keep no state in modules": module_state,
  "pure folders test no kernel type with instanceof": instances,
  "no test is left with .only": only,
  "lines have at most 100 columns": width,
  "files have at most 800 lines": length,
  "nothing is left open in a comment": open_ends,
  "only mm/phys reaches the chunks behind memory": chunks,
};
