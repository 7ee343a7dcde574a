/**
 * tools/cmd/getopt.ts - command-line options as the C tools read them (getopt_long).
 *
 * Options and operands may be mixed; `--` ends the options; short options can be bundled (`-Fq`)
 * and take their argument attached or as the next word; a long option may be cut to a unique prefix
 * and takes `--name=value` or the next word. A short-option string as in C: a letter, `:` when it
 * takes an argument, `::` when it may (attached only). A leading `+` stops at the first operand.
 */

export const no_argument = 0;
export const required_argument = 1;
export const optional_argument = 2;

export interface long_option {
  readonly name: string;
  readonly has_arg: 0 | 1 | 2;
  /** What the option is reported as; usually its short letter. */
  readonly val: string;
}

export interface parsed_option {
  /** The short letter or the long option's `val`; "?" for a wrong option. */
  readonly opt: string;
  readonly arg?: string;
  /** What is wrong, for "?": the text a C tool prints behind its name. */
  readonly message?: string;
}

export interface parsed_args {
  readonly options: readonly parsed_option[];
  readonly operands: readonly string[];
}

interface cursor {
  readonly args: readonly string[];
  next: number;
  readonly out: parsed_option[];
}

function long_candidates(name: string, longopts: readonly long_option[]): long_option[] {
  const exact = longopts.filter((o) => o.name === name);
  if (exact.length > 0) return exact;
  const found = longopts.filter((o) => o.name.startsWith(name));
  // several spellings of one option are no ambiguity
  const same = found.every((o) => o.val === found[0]!.val && o.has_arg === found[0]!.has_arg);
  return same ? found.slice(0, 1) : found;
}

function take_long(c: cursor, word: string, longopts: readonly long_option[]): void {
  const eq = word.indexOf("=");
  const name = eq < 0 ? word.slice(2) : word.slice(2, eq);
  const value = eq < 0 ? undefined : word.slice(eq + 1);
  const found = long_candidates(name, longopts);
  const wrong = (message: string) => c.out.push({ opt: "?", message });
  const option = found[0];
  if (!option) {
    wrong(`unrecognized option '--${name}'`);
  } else if (found.length > 1) {
    const list = found.map((o) => `'--${o.name}'`).join(" ");
    wrong(`option '--${name}' is ambiguous; possibilities: ${list}`);
  } else if (value !== undefined) {
    if (option.has_arg === no_argument) {
      wrong(`option '--${option.name}' doesn't allow an argument`);
    } else c.out.push({ opt: option.val, arg: value });
  } else if (option.has_arg !== required_argument) {
    c.out.push({ opt: option.val });
  } else if (c.next < c.args.length) {
    c.out.push({ opt: option.val, arg: c.args[c.next++]! });
  } else wrong(`option '--${option.name}' requires an argument`);
}

function take_short(c: cursor, word: string, shortopts: string): void {
  for (let i = 1; i < word.length; i++) {
    const letter = word[i]!;
    const at = letter === ":" ? -1 : shortopts.indexOf(letter);
    if (at < 0) {
      c.out.push({ opt: "?", message: `invalid option -- '${letter}'` });
      continue;
    }
    if (shortopts[at + 1] !== ":") {
      c.out.push({ opt: letter });
      continue;
    }
    const rest = word.slice(i + 1);
    if (rest !== "") c.out.push({ opt: letter, arg: rest });
    else if (shortopts[at + 2] === ":") c.out.push({ opt: letter });
    else if (c.next < c.args.length) c.out.push({ opt: letter, arg: c.args[c.next++]! });
    else c.out.push({ opt: "?", message: `option requires an argument -- '${letter}'` });
    return;
  }
}

/** Splits a command line (without the command's name) into options, in order, and operands. */
export function getopt_long(
  args: readonly string[],
  shortopts: string,
  longopts: readonly long_option[] = [],
): parsed_args {
  const stop_at_operand = shortopts.startsWith("+");
  const letters = stop_at_operand ? shortopts.slice(1) : shortopts;
  const c: cursor = { args, next: 0, out: [] };
  const operands: string[] = [];
  while (c.next < args.length) {
    const word = args[c.next++]!;
    if (word === "--") break;
    if (word.startsWith("--")) take_long(c, word, longopts);
    else if (word.startsWith("-") && word !== "-") take_short(c, word, letters);
    else {
      operands.push(word);
      if (stop_at_operand) break;
    }
  }
  operands.push(...args.slice(c.next));
  return { options: c.out, operands };
}
