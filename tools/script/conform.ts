/**
 * tools/script/conform.ts - runs recorded cases and says, case by case, whether we answer as Linux
 * did.
 */
import { difference } from "./compare.ts";
import { ScriptError } from "./parse.ts";
import { run_script } from "./run.ts";

export interface conform_case {
  /** "mmap-fault/pte-basic-ext4" */
  name: string;
  area: string;
  script: string;
  expected: string;
}

export type conform_status = "passed" | "failed" | "unsupported";

export interface conform_verdict {
  name: string;
  area: string;
  status: conform_status;
  /** Lines of the difference, what is not built, or the internal error. */
  difference: string[];
}

export interface conform_report {
  passed: number;
  /** Without the unsupported. */
  failed: number;
  unsupported: number;
  cases: conform_verdict[];
}

/** Runs one case; never throws. An internal error is a failure that shows its stack. */
export async function run_case(c: conform_case): Promise<conform_verdict> {
  const base = { name: c.name, area: c.area };
  try {
    const r = await run_script(c.script);
    const diff = difference(c.expected, r.output);
    if (r.unsupported !== null) {
      return { ...base, status: "unsupported", difference: [r.unsupported] };
    }
    return { ...base, status: diff.length === 0 ? "passed" : "failed", difference: diff };
  } catch (e) {
    if (e instanceof ScriptError) return { ...base, status: "failed", difference: [e.message] };
    const text = e instanceof Error ? (e.stack ?? e.message) : String(e);
    return { ...base, status: "failed", difference: [`internal error: ${text}`] };
  }
}

export function summarise(cases: conform_verdict[]): conform_report {
  const count = (s: conform_status) => cases.filter((c) => c.status === s).length;
  return {
    passed: count("passed"),
    failed: count("failed"),
    unsupported: count("unsupported"),
    cases,
  };
}

/** Table by area. The last line counts an unsupported case as failed. */
export function conform_table(r: conform_report): string {
  const areas = [...new Set(r.cases.map((c) => c.area))].sort();
  const width = Math.max(4, ...areas.map((a) => a.length));
  const row = (a: string, n: (string | number)[]) =>
    a.padEnd(width) + n.map((v) => String(v).padStart(13)).join("");
  const out = [row("area", ["passed", "failed", "unsupported"])];
  for (const a of areas) {
    const s = summarise(r.cases.filter((c) => c.area === a));
    out.push(row(a, [s.passed, s.failed, s.unsupported]));
  }
  out.push(`${r.passed} passed, ${r.failed + r.unsupported} failed`);
  return out.join("\n");
}
