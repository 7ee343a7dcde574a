/** The test wrapper itself: each way in which bare uvu reports success must be counted here. */
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { bundle, cache_folder } from "../lib/bundle.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite, type file_report } from "../lib/suite.ts";

const t = suite("tools/suite");
const made = { script: "", dir: "" };

t.before(async () => {
  made.dir = cache_folder();
  const [file] = await bundle(["tests/tools/suite-fixtures/traps.ts"], made.dir);
  if (file?.script === undefined) throw new Error(file?.error);
  made.script = file.script;
});

interface result {
  status: number | null;
  text: string;
  report: file_report | undefined;
}

function spring(trap: string, args: string[] = []): result {
  const report_file = path.join(made.dir, `${trap}-${args.length}.jsonl`);
  const child = spawnSync(process.execPath, ["--enable-source-maps", made.script, ...args], {
    encoding: "utf8",
    env: {
      PATH: process.env["PATH"],
      DAXLAB_TRAP: trap,
      DAXLAB_REPORT: report_file,
      DAXLAB_TEST_FILE: "tests/trap.test.ts",
    },
  });
  const lines = readFileSync(report_file, "utf8").trim().split("\n");
  const last = lines.at(-1)!;
  return {
    status: child.status,
    text: child.stdout + child.stderr,
    report: last.includes('"declared"') ? JSON.parse(last) : undefined,
  };
}

/** trap, declared, passed, failed, what the output must say */
const cases: [trap: string, declared: number, passed: number, failed: number, text: RegExp][] = [
  ["forgotten_run", 1, 0, 1, /really ran/],
  ["passes", 2, 2, 0, /^2 passed, 0 failed$/m],
  ["before_throws", 2, 0, 2, /before hook: no device/],
  ["before_each_throws", 1, 0, 1, /no device/],
  ["after_throws", 2, 1, 1, /still mounted/],
  ["after_each_throws", 1, 0, 1, /still mounted/],
  ["throws_number", 2, 1, 1, /thrown value is no Error: -28/],
  ["throws_string", 1, 0, 1, /thrown value is no Error: 'ENOSPC'/],
  ["rejects_undefined", 1, 0, 1, /thrown value is no Error: undefined/],
  ["hangs", 2, 1, 1, /"trap one" waits for a promise.*\n\s+held locks: &inode->i_rwsem/],
  ["hangs_alive", 2, 1, 1, /test "one": not finished after 100 ms/],
  ["hook_hangs", 1, 0, 1, /"trap one" waits for a promise that nothing can settle/],
  ["no_tests", 1, 0, 1, /no tests were declared/],
  ["exit_code", 2, 1, 1, /1 passed, 1 failed/],
  ["stray_rejection", 2, 1, 1, /unhandled rejection: nobody waits/],
  ["stray_throw", 1, 0, 1, /uncaught exception: in a timer/],
  ["leak", 2, 1, 1, /left behind by the test: WARNING: held lock freed/],
  ["leak_once", 2, 1, 1, /a page is still pinned/],
  ["replay", 1, 0, 1, /replay: daxlab replay abc/],
  ["null_prototype", 2, 0, 2, /0 passed, 2 failed/],
  ["throws_text", 1, 0, 1, /Expected an error matching ENOSPC, got: EIO/],
];

for (const [trap, declared, passed, failed, text] of cases) {
  t(`${trap}: ${passed} of ${declared} pass`, () => {
    const got = spring(trap);
    assert.match(got.text, text);
    const { report } = got;
    assert.ok(report, got.text);
    assert.equal([report.declared, report.passed, report.failed], [declared, passed, failed]);
    assert.is(got.status, failed ? 1 : 0);
  });
}

t("a test that calls process.exit(0) leaves no report and a failing status", () => {
  const got = spring("exits");
  assert.is(got.report, undefined);
  assert.is(got.status, 1);
  assert.match(got.text, /exited before the tests were finished, during: trap one/);
});

t("there is no .only to forget", () => {
  const got = spring("only", ["--grep", "one"]);
  assert.is(got.status, 1);
  assert.match(got.text, /only is not a function/);
});

t("skips say why, and do not count as passed", () => {
  const { report, text } = spring("skips");
  assert.match(text, /^3 skipped\n1 passed, 0 failed$/m);
  assert.equal(report!.skipped.map((s) => s.reason).sort(), [
    "long (run with --long)",
    "no loop device",
    "not on this release",
  ]);
});

t("--long runs what is in the group long", () => {
  assert.match(spring("skips", ["--long"]).text, /^2 skipped\n2 passed, 0 failed$/m);
});

t("--grep chooses by the suite's and the test's name", () => {
  assert.match(spring("passes", ["--grep", "trap two$"]).text, /^1 passed, 0 failed$/m);
});

t("a failure prints the line that runs it again", () => {
  const line = 'replay: node --import tsx tests/trap.test.ts --grep "trap one"';
  assert.match(spring("throws_number").text, line);
});

t("bytes that differ are shown around the first difference", () => {
  const a = new Uint8Array(64);
  const b = Uint8Array.from(a);
  b[40] = 7;
  let text = "";
  try {
    assert.equal(a, b);
  } catch (err) {
    text = (err as { details: string }).details;
  }
  assert.match(text, "1 bytes differ, the first at 40 (0x28)");
  assert.match(text, /\+\+ 00000020 .* 07 /);
  assert.equal(Buffer.from(a), a);
  assert.throws(() => assert.equal(new Map([[1, 1n]]), new Map([[1, 2n]])), "deeply equal");
});

function run_all(trap: string, parts: string[]) {
  const args = ["--import", "tsx", repo_path("tests/run.ts"), "--jobs", "1", ...parts];
  return spawnSync(process.execPath, args, {
    encoding: "utf8",
    env: { PATH: process.env["PATH"], DAXLAB_TRAP: trap },
  });
}
const fixture = "tests/tools/suite-fixtures/traps.ts";

t("the runner fails when no test matches", () => {
  const got = run_all("passes", ["no-such-file"]);
  assert.is(got.status, 1);
  assert.match(got.stdout, /no test matches[\s\S]*\n0 passed, 1 failed\n$/);
});

t("the runner counts a file that ends early with status 0 as failed", () => {
  const got = run_all("exits", [fixture]);
  assert.is(got.status, 1);
  assert.match(got.stdout, /no report \(status 1\); last test started: "trap one"/);
  assert.match(got.stdout, /\n0 passed, 1 failed\n$/);
});

t("the runner names a file that does not build and still runs the others", () => {
  const broken = path.relative(repo_path(), path.join(made.dir, "broken.ts"));
  writeFileSync(repo_path(broken), 'import "./not-there.ts";\n');
  const got = run_all("passes", [fixture, broken]);
  assert.is(got.status, 1);
  assert.match(got.stdout, /broken\.ts: does not build/);
  assert.match(got.stdout, /\n2 passed, 1 failed\n$/);
});

t.run();
