/** tests/kernel/xarray-selftest.test.ts - the kernel's XArray suite whole; its totals are known. */
import {
  XARRAY_TOTALS,
  format_xarray_selftest,
  run_xarray_selftest,
} from "../../tools/selftest/xarray.ts";
import { selftest_context } from "../../tools/selftest/xarray/context.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/xarray-selftest");

/** 64 slots, an allocation that may not sleep never fails: checks per function. */
const CHECKS: Readonly<Record<string, number>> = {
  check_xa_err: 5,
  check_xas_retry: 16,
  check_xa_load: 2_100_225,
  check_xa_mark: 5_484_548,
  check_xa_shrink: 164,
  check_xas_erase: 23_500,
  check_insert: 5_666,
  check_cmpxchg: 16,
  check_reserve: 24,
  "check_reserve(xa0)": 28,
  check_multi_store: 220_495,
  check_get_order: 10_485_753,
  check_xas_get_order: 10_485_750,
  check_xas_conflict_get_order: 6_270,
  check_xa_alloc: 21_294,
  check_find: 1_517_691,
  check_find_entry: 10_406,
  check_pause: 194,
  check_account: 66,
  check_destroy: 2_006,
  check_move: 3_014_241,
  check_create_range: 1_259_945,
  check_store_range: 247_680,
  check_store_iter: 6_292_422,
  check_align: 122,
  check_split: 123_085,
  "check_workingset(0)": 6,
  "check_workingset(64)": 6,
  "check_workingset(4096)": 6,
};

t(
  "all 41301630 checks pass with 64 slots, as many per function as in the kernel",
  () => {
    const steps: string[] = [];
    const result = run_xarray_selftest({}, (done, total, name) => {
      steps.push(`${done}/${total} ${name}`);
    });
    assert.equal(result.failures, []);
    const counts = Object.fromEntries(result.checks.map(({ name, run }) => [name, run]));
    assert.equal(counts, CHECKS);
    assert.is(result.passed, XARRAY_TOTALS.kernel[0]);
    assert.is(format_xarray_selftest(result), "xarray: 41301630 of 41301630 checks passed");
    assert.is(steps.length, result.checks.length + 1);
  },
  { timeout_ms: 300_000 },
);

[6, 4, 3].forEach((chunk_shift, i) => {
  for (const build of ["kernel", "failing_alloc"] as const) {
    if (chunk_shift === 6 && build === "kernel") continue;
    const want = XARRAY_TOTALS[build][i]!;
    const alloc = build === "kernel" ? "never fails" : "always fails";
    t(
      `all ${want} checks pass with ${2 ** chunk_shift} slots; GFP_NOWAIT ${alloc}`,
      () => {
        const r = run_xarray_selftest({ chunk_shift, failing_alloc: build === "failing_alloc" });
        assert.equal(r.failures, []);
        assert.is(r.run, want);
        assert.is(r.passed, want);
      },
      { timeout_ms: 300_000, groups: ["long"] },
    );
  }
});

t("a failing check is counted and named", () => {
  const context = new selftest_context({});
  context.begin("check_first");
  context.ok(true);
  context.begin("check_second");
  context.ok(true);
  context.ok(false);
  const { run, passed, failures } = context;
  assert.equal(
    format_xarray_selftest({ run, passed, failures, checks: [] }),
    "FAILED check_second, check 2\nxarray: 2 of 3 checks passed",
  );
});

t.run();
