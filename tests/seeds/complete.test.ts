/**
 * tests/seeds/complete.test.ts - every item of the seed checklist has a test or a reasoned skip.
 */
import { readdirSync, readFileSync } from "node:fs";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("seeds");

/** Items of S0, S1 ... */
const ITEMS: readonly number[] = [19, 17, 17, 16, 23, 15, 5];

t("every item of the checklist is in the name of a test", () => {
  const folder = repo_path("tests", "seeds");
  const files = readdirSync(folder).filter((f) => /^s\d.*\.test\.ts$/.test(f));
  const named = new Set<string>();
  for (const f of files) {
    const code = readFileSync(`${folder}/${f}`, "utf8");
    for (const [, n] of code.matchAll(/["'`](S\d\.\d+)\b/g)) named.add(n!);
  }
  const missing: string[] = [];
  ITEMS.forEach((count, s) => {
    for (let i = 1; i <= count; i++) if (!named.has(`S${s}.${i}`)) missing.push(`S${s}.${i}`);
  });
  assert.equal(missing, []);
});

t.run();
