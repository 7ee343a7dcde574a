/** tests/lib/totals.ts - how every test run ends, in words that a machine can read. */

/** The end of every output: "N passed, N failed", and "N skipped" above it if there are any. */
export function totals_lines(passed: number, failed: number, skipped: number): string {
  return `${skipped ? `${skipped} skipped\n` : ""}${passed} passed, ${failed} failed`;
}
