/**
 * tools/selftest/xarray.ts - the XArray selftest: every check of the kernel's own suite.
 * Linux: lib/test_xarray.c (6.1.192). Differs: pointers are objects, so their alignment has no
 * meaning; the code is ours, the loops and their bounds are the kernel's, so the totals are equal.
 *
 * Reading order: xarray_checks, the table; then tools/selftest/xarray/*.ts.
 */
import { check_xa_alloc } from "./xarray/alloc.ts";
import {
  check_align,
  check_cmpxchg,
  check_destroy,
  check_insert,
  check_reserve,
  check_xa_err,
  check_xa_load,
  check_xa_shrink,
  check_xas_erase,
  check_xas_retry,
} from "./xarray/basic.ts";
import { selftest_context } from "./xarray/context.ts";
import type { xarray_selftest_opts } from "./xarray/context.ts";
import { check_find, check_find_entry, check_move } from "./xarray/find.ts";
import { check_workingset, check_xa_mark } from "./xarray/marks.ts";
import {
  check_account,
  check_get_order,
  check_multi_store,
  check_pause,
  check_split,
  check_xas_conflict_get_order,
  check_xas_get_order,
} from "./xarray/multi.ts";
import { check_create_range, check_store_iter, check_store_range } from "./xarray/range.ts";

export type { xarray_selftest_opts } from "./xarray/context.ts";

export interface xarray_check {
  /** Name in the kernel, with what it is given where it is called more than once. */
  readonly name: string;
  readonly fn: (t: selftest_context) => void;
}

export interface xarray_check_result {
  readonly name: string;
  readonly run: number;
  readonly passed: number;
}

export interface xarray_selftest_result {
  readonly run: number;
  readonly passed: number;
  readonly checks: readonly xarray_check_result[];
  /** The first hundred, as "function, check n". */
  readonly failures: readonly string[];
}

export type xarray_progress = (done: number, total: number, name: string) => void;

/** In the kernel's order. */
export const xarray_checks: readonly xarray_check[] = Object.freeze([
  { name: "check_xa_err", fn: (t) => check_xa_err(t, t.array) },
  { name: "check_xas_retry", fn: (t) => check_xas_retry(t, t.array) },
  { name: "check_xa_load", fn: (t) => check_xa_load(t, t.array) },
  { name: "check_xa_mark", fn: (t) => check_xa_mark(t, t.array) },
  { name: "check_xa_shrink", fn: (t) => check_xa_shrink(t, t.array) },
  { name: "check_xas_erase", fn: (t) => check_xas_erase(t, t.array) },
  { name: "check_insert", fn: (t) => check_insert(t, t.array) },
  { name: "check_cmpxchg", fn: (t) => check_cmpxchg(t, t.array) },
  { name: "check_reserve", fn: (t) => check_reserve(t, t.array) },
  { name: "check_reserve(xa0)", fn: (t) => check_reserve(t, t.xa0) },
  { name: "check_multi_store", fn: (t) => check_multi_store(t, t.array) },
  { name: "check_get_order", fn: (t) => check_get_order(t, t.array) },
  { name: "check_xas_get_order", fn: (t) => check_xas_get_order(t, t.array) },
  { name: "check_xas_conflict_get_order", fn: (t) => check_xas_conflict_get_order(t, t.array) },
  { name: "check_xa_alloc", fn: check_xa_alloc },
  { name: "check_find", fn: (t) => check_find(t, t.array) },
  { name: "check_find_entry", fn: (t) => check_find_entry(t, t.array) },
  { name: "check_pause", fn: (t) => check_pause(t, t.array) },
  { name: "check_account", fn: (t) => check_account(t, t.array) },
  { name: "check_destroy", fn: (t) => check_destroy(t, t.array) },
  { name: "check_move", fn: (t) => check_move(t, t.array) },
  { name: "check_create_range", fn: (t) => check_create_range(t, t.array) },
  { name: "check_store_range", fn: (t) => check_store_range(t, t.array) },
  { name: "check_store_iter", fn: (t) => check_store_iter(t, t.array) },
  { name: "check_align", fn: (t) => check_align(t, t.xa0) },
  { name: "check_split", fn: (t) => check_split(t, t.array) },
  { name: "check_workingset(0)", fn: (t) => check_workingset(t, t.array, 0) },
  { name: "check_workingset(64)", fn: (t) => check_workingset(t, t.array, 64) },
  { name: "check_workingset(4096)", fn: (t) => check_workingset(t, t.array, 4096) },
] satisfies xarray_check[]);

/** Checks run by a build of the suite: [64, 16, 8 slots per node]; from the kernel's own output. */
export const XARRAY_TOTALS = Object.freeze({
  kernel: Object.freeze([41301630, 41182476, 41178469] as const),
  failing_alloc: Object.freeze([42106516, 41416968, 42130229] as const),
});

/** Runs all checks, or those whose name `only` accepts, on fresh arrays. */
export function run_xarray_selftest(
  opts: xarray_selftest_opts = {},
  onProgress?: xarray_progress,
  only: (name: string) => boolean = () => true,
): xarray_selftest_result {
  const t = new selftest_context(opts);
  const selected = xarray_checks.filter((check) => only(check.name));
  const checks: xarray_check_result[] = [];
  for (const check of selected) {
    onProgress?.(checks.length, selected.length, check.name);
    const { run, passed } = t;
    t.begin(check.name);
    check.fn(t);
    checks.push({ name: check.name, run: t.run - run, passed: t.passed - passed });
  }
  onProgress?.(selected.length, selected.length, "");
  return { run: t.run, passed: t.passed, checks, failures: t.failures };
}

/** `xarray: 41301630 of 41301630 checks passed`, after the failures; with `verbose` a table too. */
export function format_xarray_selftest(result: xarray_selftest_result, verbose = false): string {
  const lines: string[] = [];
  if (verbose) {
    for (const { name, run, passed } of result.checks) {
      const failed = run === passed ? "" : `  ${run - passed} failed`;
      lines.push(`${name.padEnd(30)} ${String(run).padStart(10)}${failed}`);
    }
  }
  for (const failure of result.failures) lines.push(`FAILED ${failure}`);
  lines.push(`xarray: ${result.passed} of ${result.run} checks passed`);
  return lines.join("\n");
}
