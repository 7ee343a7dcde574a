/**
 * tests/lib/assert.ts - uvu's assertions, with three repairs.
 *
 * - `equal` shows bytes as a hex dump around the first difference, and Map, Set and bigint by
 *   content (uvu prints `{}`); a Buffer equals the Uint8Array with the same bytes.
 * - `throws` with a string checks that the message (or the error's code) has it; in uvu the string
 *   is only the text of the failure and nothing is compared.
 * - `rejects` exists.
 */
import { inspect } from "node:util";
import { dequal } from "dequal";
import { Assertion } from "uvu/assert";
import { lines } from "uvu/diff";

export {
  Assertion,
  fixture,
  instance,
  is,
  match,
  not,
  ok,
  snapshot,
  type,
  unreachable,
} from "uvu/assert";

type Message = string | Error;
type Expected = string | RegExp | ((err: any) => boolean);

/** Text of a value for a diff: sorted keys, Map/Set/bigint by content, cycles marked. */
export function show(value: unknown): string {
  return inspect(value, {
    depth: 8,
    sorted: true,
    maxArrayLength: 400,
    maxStringLength: 20_000,
    breakLength: 60,
    numericSeparator: false,
  });
}

function hex_line(bytes: Uint8Array, at: number, mark: string): string {
  let hex = "";
  let text = "";
  for (let i = at; i < at + 16; i++) {
    const byte = bytes[i];
    hex += byte === undefined ? "   " : ` ${byte.toString(16).padStart(2, "0")}`;
    text += byte === undefined ? " " : byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".";
  }
  return `${mark} ${at.toString(16).padStart(8, "0")} ${hex}  ${text}`;
}

/** Hex dump of the lines around the first differing byte, `--` actual and `++` expected. */
export function bytes_diff(actual: Uint8Array, expected: Uint8Array): string {
  const longest = Math.max(actual.length, expected.length);
  let first = 0;
  let count = 0;
  for (let i = longest - 1; i >= 0; i--) {
    if (actual[i] === expected[i]) continue;
    first = i;
    count++;
  }
  const out = [
    `${count} bytes differ, the first at ${first} (0x${first.toString(16)}); ` +
      `lengths: actual ${actual.length}, expected ${expected.length}`,
  ];
  const from = Math.max(0, first - (first % 16) - 16);
  for (let at = from; at < Math.min(longest, from + 128); at += 16) {
    const a = hex_line(actual, at, "--");
    const e = hex_line(expected, at, "++");
    if (a.slice(2) === e.slice(2)) out.push(`··${a.slice(2)}`);
    else out.push(a, e);
  }
  return out.join("\n");
}

/** Diff text of two unequal values, used by `equal` and for errors of `node:assert`. */
export function diff(actual: unknown, expected: unknown): string {
  if (actual instanceof Uint8Array && expected instanceof Uint8Array) {
    return bytes_diff(actual, expected);
  }
  const both_text = typeof actual === "string" && typeof expected === "string";
  const a = both_text ? actual : show(actual);
  const e = both_text ? expected : show(expected);
  if (a === e) return `(both print as) ${a}`;
  return lines(`${a}\n`, `${e}\n`);
}

function fail(
  operator: string,
  message: string,
  msg: Message | undefined,
  values: { actual?: unknown; expects?: unknown; details?: string },
): never {
  if (msg instanceof Error) throw msg;
  throw new Assertion({
    operator,
    message: msg ?? message,
    generated: msg === undefined,
    actual: values.actual,
    expects: values.expects,
    ...(values.details === undefined ? {} : { details: values.details }),
  });
}

function same_bytes(actual: Uint8Array, expected: Uint8Array): boolean {
  return actual.length === expected.length && Buffer.compare(actual, expected) === 0;
}

/** Deep equality. */
export function equal(actual: unknown, expected: unknown, msg?: Message): void {
  const bytes = actual instanceof Uint8Array && expected instanceof Uint8Array;
  if (bytes ? same_bytes(actual, expected) : dequal(actual, expected)) return;
  fail("equal", "Expected values to be deeply equal:", msg, {
    actual,
    expects: expected,
    details: diff(actual, expected),
  });
}

function check_error(err: unknown, expected: Expected | undefined, op: string, msg?: Message) {
  if (expected === undefined) {
    if (err instanceof Assertion) throw err;
    return;
  }
  const thrown = err as { message?: unknown; code?: unknown } | null | undefined;
  const message = String(thrown?.message ?? err);
  let ok: boolean;
  if (typeof expected === "function") ok = expected(err);
  else if (expected instanceof RegExp) ok = expected.test(message);
  else ok = message.includes(expected) || thrown?.code === expected;
  if (!ok) {
    fail(op, `Expected an error matching ${String(expected)}, got: ${message}`, msg, {
      actual: err,
      expects: expected,
    });
  }
}

/** `fn` throws; `expected`: part of the message or the code, a pattern, or a predicate. */
export function throws(fn: () => unknown, expected?: Expected, msg?: Message): void {
  try {
    fn();
  } catch (err) {
    check_error(err, expected, "throws", msg);
    return;
  }
  fail("throws", "Expected function to throw", msg, {});
}

/** The promise (or what the function returns) rejects; `expected` as in `throws`. */
export async function rejects(
  what: PromiseLike<unknown> | (() => unknown),
  expected?: Expected,
  msg?: Message,
): Promise<void> {
  try {
    await (typeof what === "function" ? what() : what);
  } catch (err) {
    check_error(err, expected, "rejects", msg);
    return;
  }
  fail("rejects", "Expected promise to reject", msg, {});
}
