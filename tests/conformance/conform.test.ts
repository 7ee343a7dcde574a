/**
 * tests/conformance/conform.test.ts - the recorded cases, with a ratchet: a case of passing.txt
 * that fails is red, and so is one that passes and is not listed. The list only grows.
 */
import { readFileSync } from "node:fs";
import { type conform_case, run_case } from "../../tools/script/conform.ts";
import { read_cases } from "../../tools/cli/files.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const cases = read_cases([repo_path("tests/conformance/cases")]);
const listed = new Set(
  readFileSync(repo_path("tests/conformance/passing.txt"), "utf8")
    .split("\n")
    .filter((l) => l !== "" && !l.startsWith("#")),
);
const t = suite("conformance");

const replay = (c: conform_case): string =>
  `npx daxlab conform tests/conformance/cases/${c.name}.sys`;

t("every listed case exists", () => {
  const known = new Set(cases.map((c) => c.name));
  assert.equal(
    [...listed].filter((n) => !known.has(n)),
    [],
  );
});

for (const c of cases.filter((k) => listed.has(k.name))) {
  t(`${c.name} answers as Linux did`, async () => {
    const v = await run_case(c);
    if (v.status === "passed") return;
    const error = new Error(`${v.status}\n${v.difference.join("\n")}`);
    throw Object.assign(error, { replay: replay(c) });
  });
}

t(
  "no case passes without being listed in passing.txt",
  async () => {
    const unlisted: string[] = [];
    for (const c of cases) {
      if (listed.has(c.name)) continue;
      if ((await run_case(c)).status === "passed") unlisted.push(c.name);
    }
    assert.equal(unlisted, []);
  },
  { timeout_ms: 300_000 },
);

t.run();
