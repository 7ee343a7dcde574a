/**
 * tests/tools/docs.test.ts - the examples of docs/api.md, run: what each prints is what the text
 * behind `// =>` says. And the table of invariants, whose tests must exist.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("docs");
const folder = mkdtempSync(path.join(tmpdir(), "daxlab-docs-"));
t.after(() => rmSync(folder, { recursive: true, force: true }));

interface example {
  heading: string;
  code: string;
  expected: string[];
}

function examples(file: string): example[] {
  const text = readFileSync(repo_path(file), "utf8");
  const out: example[] = [];
  for (const part of text.split(/^## /m).slice(1)) {
    const heading = part.slice(0, part.indexOf("\n"));
    for (const [, code] of part.matchAll(/^```ts\n(.*?)^```$/gms)) {
      const expected = [...code!.matchAll(/\/\/ => (.*)$/gm)].map((m) => m[1]!);
      out.push({ heading, code: code!, expected });
    }
  }
  return out;
}

const all = examples("docs/api.md");

t("every part of docs/api.md has an example that prints something", () => {
  assert.ok(all.length >= 6);
  for (const e of all) assert.ok(e.expected.length > 0, e.heading);
});

/** Runs every example in one child process, from the sources. What each printed, line by line. */
function run_all(): string[][] {
  const loader = JSON.stringify(pathToFileURL(repo_path("tools/cli/script_loader.ts")).href);
  const lines = [`import { import_script } from ${loader};`];
  all.forEach((e, i) => {
    const file = path.join(folder, `example${i}.ts`);
    writeFileSync(file, e.code);
    lines.push(`await import_script(${JSON.stringify(file)});`, `console.log("### end");`);
  });
  const driver = path.join(folder, "driver.mts");
  writeFileSync(driver, lines.join("\n"));
  const r = spawnSync(process.execPath, ["--import", "tsx", driver], {
    cwd: repo_path(),
    encoding: "utf8",
    timeout: 50_000,
  });
  assert.is(r.status, 0, r.stdout + r.stderr);
  const parts = r.stdout.split("### end\n").slice(0, all.length);
  return parts.map((part) => part.split("\n").slice(0, -1));
}

t("the examples of docs/api.md print what they say", () => {
  const printed = run_all();
  all.forEach((e, i) => {
    assert.equal(printed[i], e.expected, e.heading);
  });
});

t("docs/INVARIANTS.md names files and tests that exist", () => {
  const rows = readFileSync(repo_path("docs/INVARIANTS.md"), "utf8").split("\n");
  let checked = 0;
  for (const row of rows) {
    const [, kept, test] = row.split(" | ");
    const m = /^`(tests\/.+\.test\.ts)`: (.*?) *\|?$/.exec(test ?? "");
    if (!m || kept === undefined) continue;
    for (const [, file] of kept.matchAll(/`(.+?)`/g)) assert.ok(existsSync(repo_path(file!)), file);
    const words = (text: string) => text.replace(/[\s"'`+\\]+/g, " ");
    const found = words(readFileSync(repo_path(m[1]!), "utf8")).includes(words(m[2]!).trim());
    assert.ok(found, `${m[1]} has no test "${m[2]}"`);
    checked++;
  }
  assert.ok(checked >= 20, `${checked} rows`);
});

t.run();
