/**
 * tests/lib/answers.ts - scripts recorded on Linux 6.1 beside the conformance cases: `folder` has
 * NAME.sys, and in NAME.out what Linux answered.
 */
import { readdirSync, readFileSync } from "node:fs";
import { difference } from "../../tools/script/compare.ts";
import { run_script } from "../../tools/script/run.ts";
import { assert } from "./suite.ts";

/** Names of the scripts whose names begin so. */
export function recorded_scripts(folder: string, prefix = ""): string[] {
  return readdirSync(folder)
    .filter((n) => n.endsWith(".sys") && n.startsWith(prefix))
    .map((n) => n.slice(0, -4));
}

/** Runs one; fails with the lines that differ. */
export async function answers_as_linux(folder: string, name: string): Promise<void> {
  const read = (ending: string): string => readFileSync(`${folder}/${name}${ending}`, "utf8");
  const r = await run_script(read(".sys"));
  assert.is(r.unsupported, null);
  assert.equal(difference(read(".out"), r.output), []);
}
