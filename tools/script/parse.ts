/**
 * tools/script/parse.ts - reads a `.sys` script: one operation a line.
 * The language is described in docs/sys-language.md; what is not understood is an error with its
 * line.
 */

export interface sys_line {
  /** 1-based line of the script. */
  line: number;
  /** Process that runs it: 1..8. */
  proc: number;
  /** Written `pN:& op`: start it and go on. */
  background: boolean;
  /** Name left of `=`, or null. */
  assign: string | null;
  /** The operation and its arguments. */
  argv: string[];
}

export interface sys_setup {
  mode: "fsdax" | "devdax" | "sector" | "raw" | "none" | "keep";
  size: string;
  map: string;
  fs: string;
  mkfs: string;
  mount: string;
  dev: string;
  /** "1": the platform has scrubs and error injection. */
  ars: string;
}

export interface sys_script {
  setup: sys_setup;
  /** The line of `@setup`; 1 without. */
  setup_line: number;
  lines: sys_line[];
  /** The comment lines at the head, as a description. */
  title: string;
}

export class ScriptError extends Error {
  readonly line: number;
  /** The message without the line. */
  readonly what: string;
  constructor(line: number, what: string) {
    super(`line ${line}: ${what}`);
    this.name = "ScriptError";
    this.line = line;
    this.what = what;
  }
}

const ESCAPES: Readonly<Record<string, string>> = Object.freeze({ n: "\n", t: "\t" });

/** Words separated by blanks; `"..."` keeps blanks; `#` at the start of a word ends the line. */
function split_words(text: string, line: number): string[] {
  const words: string[] = [];
  let i = 0;
  for (;;) {
    while (text[i] === " " || text[i] === "\t") i++;
    if (i >= text.length || text[i] === "#") return words;
    let word = "";
    let quoted = false;
    for (; i < text.length; i++) {
      const c = text[i]!;
      if (c === '"') quoted = !quoted;
      else if (!quoted && (c === " " || c === "\t")) break;
      else if (c === "\\" && i + 1 < text.length) {
        const hex = /^x([0-9a-fA-F]{2})/.exec(text.slice(i + 1, i + 4));
        if (hex) {
          word += byte_char(Number.parseInt(hex[1]!, 16));
          i += 3;
        } else {
          i++;
          word += ESCAPES[text[i]!] ?? text[i]!;
        }
      } else word += c;
    }
    if (quoted) throw new ScriptError(line, 'a " that is not closed');
    words.push(word);
  }
}

/**
 * A raw byte as it travels in names: bytes above 0x7f as the lone surrogates of kernel/lib/utf8.
 */
function byte_char(b: number): string {
  return String.fromCharCode(b < 0x80 ? b : 0xdc00 + b);
}

const MODES = ["fsdax", "devdax", "sector", "raw", "none", "keep"];
/** `ars=1`: the platform scrubs, injects and clears media errors, which the recorded one cannot. */
const SETUP_KEYS = ["mode", "size", "map", "fs", "mkfs", "mount", "dev", "ars"];

function parse_setup(line: number, words: string[]): sys_setup {
  const s: Record<string, string> = {
    mode: "fsdax",
    size: "",
    map: "",
    fs: "",
    mkfs: "",
    mount: "",
    dev: "",
    ars: "",
  };
  for (const w of words) {
    const eq = w.indexOf("=");
    const key = w.slice(0, eq);
    if (eq < 1 || !SETUP_KEYS.includes(key)) {
      throw new ScriptError(line, `@setup knows ${SETUP_KEYS.join(", ")}, not '${w}'`);
    }
    s[key] = w.slice(eq + 1);
  }
  if (!MODES.includes(s.mode!)) {
    throw new ScriptError(line, `@setup mode=${s.mode}: one of ${MODES.join(", ")}`);
  }
  if (!["", "0", "1"].includes(s.ars!)) throw new ScriptError(line, `@setup ars=${s.ars}: 0 or 1`);
  return s as unknown as sys_setup;
}

export function parse_script(text: string): sys_script {
  const lines: sys_line[] = [];
  const title: string[] = [];
  let setup = parse_setup(0, []);
  let setup_line = 1;
  text.split(/\r?\n/).forEach((raw, i) => {
    const line = i + 1;
    let s = raw.trimStart();
    if (s === "") return;
    if (s.startsWith("#")) {
      if (lines.length === 0) title.push(s.slice(1).trim());
      return;
    }
    let proc = 1;
    let background = false;
    const prefix = /^p(\d):(&?) */.exec(s);
    if (prefix) {
      proc = Number(prefix[1]);
      if (proc < 1 || proc > 8) throw new ScriptError(line, `processes are p1 to p8, not p${proc}`);
      background = prefix[2] === "&";
      s = s.slice(prefix[0].length);
    }
    if (s.startsWith("@")) {
      const words = split_words(s, line);
      if (words[0] !== "@setup") throw new ScriptError(line, `unknown directive '${words[0]}'`);
      setup = parse_setup(line, words.slice(1));
      setup_line = line;
      return;
    }
    let argv = split_words(s, line);
    if (argv.length === 0) return;
    let assign: string | null = null;
    if (argv.length >= 3 && argv[1] === "=") {
      assign = argv[0]!;
      argv = argv.slice(2);
    }
    lines.push({ line, proc, background, assign, argv });
  });
  return { setup, setup_line, lines, title: title.join(" ") };
}

/** In a path `{text*N}` repeats the text N times. */
export function expand_path(s: string): string {
  return s.replace(/\{([^{}*]+)\*(\d+)\}/g, (_, text: string, n: string) =>
    text.repeat(Math.min(Number(n), 32000)),
  );
}
