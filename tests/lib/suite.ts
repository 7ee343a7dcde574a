/**
 * tests/lib/suite.ts - uvu behind a wrapper that cannot report success while something failed.
 *
 *   import { assert, suite } from "../lib/suite.ts";
 *   const t = suite("mm/fault");
 *   t("a store to a read-only mapping gets SIGSEGV", async () => { ... });
 *   t("a slow one", fn, { timeout_ms: 120_000, groups: ["long"] });
 *   t.skip("needs a loop device", "no root here");
 *   t.run();
 *
 * What bare uvu lets pass and this does not: hooks that throw, values thrown that are no Error
 * (`throw -28`), a promise that never settles (found when the event loop is empty, or by a wall
 * watchdog of 60 s), a test outside any run suite, no tests at all, `.only` (there is none: use
 * --grep), rejections nobody handled, process.exit() in a test.
 *
 * `node --import tsx tests/mm/fault.test.ts [--grep RE] [--long]` runs one file; tests/run.ts runs
 * all. Under the runner the outcome also goes, as JSON lines, to the file named by DAXLAB_REPORT.
 *
 * For other test libraries: on_dump(fn) adds text to a watchdog's message (held locks);
 * add_leak_check(fn) runs after every test, check_after_this_test(fn) after the running one: each
 * returns undefined or the text of a failure (a warning in a kernel log, say).
 */
import { writeSync, openSync } from "node:fs";
import path from "node:path";
import { inspect } from "node:util";
import { diff } from "./assert.ts";
import { repo_root } from "./paths.ts";
import { totals_lines } from "./totals.ts";

export * as assert from "./assert.ts";

export type test_fn = () => unknown;
export type leak_check = (test: string) => string | undefined | Promise<string | undefined>;
export interface test_options {
  /** Wall time after which the test counts as hung, in ms; default 60,000. */
  timeout_ms?: number;
  /** "long": runs only with --long. */
  groups?: readonly string[];
}
export interface suite_fn {
  (name: string, fn: test_fn, options?: test_options): void;
  skip(name: string, reason: string): void;
  before(fn: test_fn): void;
  after(fn: test_fn): void;
  before_each(fn: test_fn): void;
  after_each(fn: test_fn): void;
  run(): void;
}

interface entry {
  name: string;
  fn: test_fn;
  options: test_options;
}
type uvu_run = () => Promise<[string | true, number, number, number]>;

/** Last line of a report: what tests/run.ts adds up. */
export interface file_report {
  declared: number;
  passed: number;
  failed: number;
  skipped: { name: string; reason: string }[];
  failures: { name: string; replay: string }[];
  times: [name: string, ms: number][];
}

const option = (flag: string): string | undefined => {
  const i = process.argv.indexOf(flag);
  return i < 0 ? undefined : process.argv[i + 1];
};
const grep_text = option("--grep") ?? process.env["DAXLAB_GREP"];
const grep = grep_text ? new RegExp(grep_text) : undefined;
/** True when tests of the group "long" run too. */
export const long_tests = process.argv.includes("--long") || process.env["DAXLAB_LONG"] === "1";
const DEFAULT_TIMEOUT_MS = 60_000;
const LINGER_MS = 5_000;

// uvu must not start its own runner: it would print totals without what is counted here. The flag
// has to stand before uvu is evaluated, hence the late import.
const uvu_global = globalThis as unknown as { UVU_DEFER?: number; UVU_QUEUE: uvu_run[][] };
uvu_global.UVU_DEFER = 1;
const uvu = await import("uvu");
const queue: uvu_run[] = [];
uvu_global.UVU_QUEUE[0] = queue;

const report: file_report = {
  declared: 0,
  passed: 0,
  failed: 0,
  skipped: [],
  failures: [],
  times: [],
};
const suites: { entries: entry[]; start: () => void }[] = [];
const dumps: (() => string)[] = [];
const leak_checks: leak_check[] = [];
const late_checks: leak_check[] = [];
/** The test that runs now; `abort` fails it from outside (watchdog, stray rejection). */
const running: { name: string | undefined; abort: ((err: Error) => void) | undefined } = {
  name: undefined,
  abort: undefined,
};
const timers = new Set<NodeJS.Timeout>();
const finished = { once: false };
const state = { pumping: false, filtered: 0, fd: -1 };
if (process.env["DAXLAB_REPORT"]) state.fd = openSync(process.env["DAXLAB_REPORT"], "a");

class skip_signal extends Error {
  override name = "skip_signal";
}

/** Skips the running test, with its reason printed, unless `condition` holds. */
export function requires(condition: unknown, reason: string): asserts condition {
  if (!condition) throw new skip_signal(reason);
}
/** Adds text to the message of a test that hangs. */
export function on_dump(fn: () => string): void {
  dumps.push(fn);
}
/** Runs after every test of this file. */
export function add_leak_check(fn: leak_check): void {
  leak_checks.push(fn);
}
/** Runs once, after the test that runs now. */
export function check_after_this_test(fn: leak_check): void {
  late_checks.push(fn);
}

function tell(line: object): void {
  if (state.fd >= 0) writeSync(state.fd, `${JSON.stringify(line)}\n`);
}

/** Anything thrown becomes an object that uvu can print without failing itself. */
function dress(err: unknown, prefix = ""): Error & { details?: string; operator?: string } {
  const is_error = err instanceof Error;
  const from = (typeof err === "object" && err !== null ? err : {}) as Record<string, unknown>;
  const message = is_error ? err.message : `thrown value is no Error: ${inspect(err)}`;
  const out = Object.create(Error.prototype) as Error & { details?: string; operator?: string };
  out.name = "Failure";
  out.message = prefix + message;
  out.stack = is_error && typeof err.stack === "string" ? err.stack : `Failure: ${message}`;
  // The message may be several lines; uvu cuts the stack at the first line end.
  const frames = out.stack.indexOf("\n    at ");
  const own = /tests\/lib\/(suite|assert)\.ts|node_modules\/uvu/;
  const shown = frames < 0 ? [] : out.stack.slice(frames + 1).split("\n");
  out.stack = [out.name, ...shown.filter((line) => !own.test(line))].join("\n");
  if (typeof from["operator"] === "string") out.operator = from["operator"];
  if (typeof from["details"] === "string") out.details = from["details"];
  else if ("expected" in from && "actual" in from) {
    out.details = diff(from["actual"], from["expected"]);
  }
  if (is_error && err.cause !== undefined) out.message += `\n    cause: ${inspect(err.cause)}`;
  return out;
}

function dump_text(): string {
  let text = "";
  for (const fn of dumps) {
    try {
      text += `\n    ${fn().split("\n").join("\n    ")}`;
    } catch (err) {
      text += `\n    (a dump failed: ${inspect(err)})`;
    }
  }
  return text;
}

function test_file(): string {
  return process.env["DAXLAB_TEST_FILE"] ?? path.relative(repo_root, process.argv[1] ?? "");
}

function replay_line(name: string, err: unknown): string {
  const own = (err as { replay?: unknown } | null | undefined)?.replay;
  if (typeof own === "string") return own;
  const pattern = name.replace(/[\\^$.*+?()[\]{}|]/g, ".").replace(/["`!]/g, ".");
  return `node --import tsx ${test_file()} --grep "${pattern}"`;
}

function count_failure(name: string, err: unknown): void {
  const replay = replay_line(name, err);
  report.failed++;
  report.failures.push({ name, replay });
}

/** Waits for `what`, or fails: after `ms`, when aborted, or when the event loop is empty. */
function guarded(label: string, what: () => unknown, ms: number): Promise<unknown> {
  return new Promise((resolve, reject) => {
    // Not ref'ed: a process kept alive only by this timer has nothing left that could settle the
    // promise, which the beforeExit handler reports at once.
    const timer = setTimeout(() => {
      reject(new Error(`${label}: not finished after ${ms} ms of wall time${dump_text()}`));
    }, ms);
    timer.unref();
    running.abort = reject;
    Promise.resolve().then(what).then(resolve, reject);
    timers.add(timer);
  }).finally(() => {
    running.abort = undefined;
    for (const timer of timers) clearTimeout(timer);
    timers.clear();
  });
}

/** Runs `fn`; what it throws joins `errors`, first one first. */
async function collect(errors: unknown[], label: string, ms: number, fn: test_fn): Promise<void> {
  try {
    await guarded(label, fn, ms);
  } catch (err) {
    errors.push(err);
  }
}

async function run_leak_checks(name: string): Promise<void> {
  const found: string[] = [];
  for (const fn of [...leak_checks, ...late_checks.splice(0)]) {
    const text = await fn(name);
    if (text !== undefined) found.push(text);
  }
  if (found.length) throw new Error(`left behind by the test: ${found.join("\n")}`);
}

interface hooks {
  before: test_fn[];
  after: test_fn[];
  before_each: test_fn[];
  after_each: test_fn[];
}

/** One test with its hooks and checks. Returns the errors; skip_signal alone means skipped. */
async function run_test(e: entry, h: hooks, before_error: unknown[]): Promise<unknown[]> {
  if (before_error.length) return before_error;
  const ms = e.options.timeout_ms ?? DEFAULT_TIMEOUT_MS;
  const errors: unknown[] = [];
  for (const fn of h.before_each) {
    if (!errors.length) await collect(errors, "before_each hook", ms, fn);
  }
  if (!errors.length) await collect(errors, `test "${e.name}"`, ms, e.fn);
  for (const fn of h.after_each) await collect(errors, "after_each hook", ms, fn);
  await collect(errors, "leak check", ms, () => run_leak_checks(e.name));
  return errors;
}

/** Registers `s` with uvu: every way of failing becomes a plain rejected test. */
function start_suite(name: string, entries: entry[], h: hooks): void {
  const u = uvu.suite(name);
  const before_error: unknown[] = [];
  const ran = { before: false };
  for (const e of entries) {
    u(e.name, async () => {
      const full = `${name} ${e.name}`;
      const started = performance.now();
      running.name = full;
      tell({ start: full });
      if (!ran.before) {
        ran.before = true;
        for (const fn of h.before) {
          await collect(before_error, "before hook", DEFAULT_TIMEOUT_MS, fn);
        }
      }
      const errors = await run_test(e, h, before_error);
      running.name = undefined;
      report.times.push([full, Math.round(performance.now() - started)]);
      if (errors.length === 1 && errors[0] instanceof skip_signal) {
        report.skipped.push({ name: full, reason: errors[0].message });
        return;
      }
      if (errors.length === 0) {
        report.passed++;
        return;
      }
      count_failure(full, errors[0]);
      const more = errors.slice(1).map((x) => `\n    and: ${dress(x).message}`);
      const shown = dress(errors[0], errors === before_error ? "before hook: " : "");
      shown.message += more.join("");
      shown.stack += `\n    replay: ${report.failures.at(-1)!.replay}`;
      throw shown;
    });
  }
  u.after(async () => {
    const errors: unknown[] = [];
    for (const fn of h.after) await collect(errors, "after hook", DEFAULT_TIMEOUT_MS, fn);
    for (const err of errors) file_failure(`${name} after hook`, err);
  });
  u.run();
}

/** A failure outside any test: a hook at the end, a stray rejection, no tests. */
function file_failure(name: string, err: unknown): void {
  report.declared++;
  count_failure(name, err);
  const shown = dress(err);
  process.stdout.write(`\n  FAIL  "${name}"\n    ${shown.message}\n${shown.stack ?? ""}\n`);
}

function stray(err: unknown, what: string): void {
  const shown = dress(err, `${what}: `);
  if (running.abort) running.abort(shown);
  else file_failure(running.name ?? "(outside the tests)", shown);
  if (!state.pumping) finish();
}

async function pump(): Promise<void> {
  if (state.pumping) return;
  state.pumping = true;
  for (let run = queue.shift(); run; run = queue.shift()) {
    const [errors] = await run();
    if (errors !== true) process.stdout.write(`\n${errors}\n`);
  }
  state.pumping = false;
  finish();
}

function finish(): void {
  if (suites.some((s) => s.entries.length > 0)) return;
  finished.once = true;
  const settled = report.passed + report.failed + report.skipped.length;
  if (settled !== report.declared) {
    file_failure("(totals)", new Error(`${report.declared} declared, ${settled} accounted for`));
  }
  const lines = report.skipped.map((s) => `  skipped  ${s.name}: ${s.reason}`);
  lines.push(totals_lines(report.passed, report.failed, report.skipped.length));
  process.stdout.write(`${lines.join("\n")}\n`);
  tell(report);
  process.exitCode = report.failed > 0 ? 1 : 0;
  setTimeout(() => {
    const left = process.getActiveResourcesInfo().join(", ");
    process.stderr.write(`the process is kept alive after the last test by: ${left}\n`);
    process.exit();
  }, LINGER_MS).unref();
}

/** A new suite; `name` is the mirrored file, as "mm/fault". */
export function suite(name: string): suite_fn {
  const h: hooks = { before: [], after: [], before_each: [], after_each: [] };
  const own = { entries: [] as entry[], start };
  const ran = { done: false };
  function start(): void {
    const entries = own.entries.splice(0);
    ran.done = true;
    if (entries.length === 0) return;
    start_suite(name, entries, h);
    setImmediate(() => void pump());
  }
  const add = (test: string, fn: test_fn, options: test_options = {}): void => {
    if (ran.done) throw new Error(`test "${test}" is declared after run() of "${name}"`);
    const full = `${name} ${test}`;
    if (grep && !grep.test(full)) {
      state.filtered++;
      return;
    }
    report.declared++;
    if (options.groups?.includes("long") && !long_tests) {
      report.skipped.push({ name: full, reason: "long (run with --long)" });
      return;
    }
    own.entries.push({ name: test, fn, options });
  };
  const t = add as suite_fn;
  t.skip = (test, reason) => {
    const full = `${name} ${test}`;
    if (grep && !grep.test(full)) return;
    report.declared++;
    report.skipped.push({ name: full, reason });
  };
  t.before = (fn) => void h.before.push(fn);
  t.after = (fn) => void h.after.push(fn);
  t.before_each = (fn) => void h.before_each.push(fn);
  t.after_each = (fn) => void h.after_each.push(fn);
  t.run = start;
  suites.push(own);
  return t;
}

/** A suite without a name for small files; runs by itself. */
export const test: suite_fn = suite(path.basename(test_file(), ".test.ts"));

process.on("beforeExit", () => {
  const forgotten = suites.filter((s) => s.entries.length > 0);
  if (finished.once && forgotten.length === 0) return;
  // Without work for the loop, node would exit after this event although tests go on in microtasks.
  setImmediate(() => {});
  if (running.abort) {
    const what = running.name ?? "a hook";
    running.abort(new Error(`"${what}" waits for a promise that nothing can settle${dump_text()}`));
    return;
  }
  for (const s of forgotten) s.start();
  if (forgotten.length) return;
  if (report.declared === 0 && state.filtered === 0) {
    file_failure("(file)", new Error("no tests were declared"));
  }
  finish();
});

process.on("unhandledRejection", (err) => stray(err, "unhandled rejection"));
process.on("uncaughtException", (err) => stray(err, "uncaught exception"));
process.on("exit", (code) => {
  if (state.pumping || queue.length > 0 || running.name !== undefined) {
    const where = running.name ?? "(between tests)";
    process.stderr.write(`the process exited before the tests were finished, during: ${where}\n`);
    process.exitCode = 1;
  } else if (report.failed > 0 && code === 0) {
    process.exitCode = 1;
  }
});
