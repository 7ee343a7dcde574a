/** tests/tools/explore_cli.test.ts - explore, replay and merge as users type them. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { build_dist } from "../../tools/build.ts";
import { cache_folder } from "../lib/bundle.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/explore_cli");
const made = { dist: "", elsewhere: "" };

/** Somebody's scenario, outside the project. */
const SCENARIO = `
import { scenario } from "daxlab";
import { lock_class, mutex } from "daxlab/kernel";

const A = lock_class("&sb->s_umount");
const B = lock_class("&bdev->bd_mutex");

export default scenario(
  { bare: true, switches: { ordered: "both take them in one order" } },
  async (m, on) => {
    const a = new mutex(m, A, "pmem0");
    const b = new mutex(m, B, "pmem0");
    const both = async (x: mutex, y: mutex) => {
      await x.lock();
      await y.lock();
      y.unlock();
      x.unlock();
    };
    m.spawn(m.kernel, "mount", () => both(a, b));
    m.spawn(m.kernel, "remove", () => (on.has("ordered") ? both(a, b) : both(b, a)));
    await m.run();
  },
);
`;

t.before(async () => {
  made.dist = path.join(cache_folder(), "dist");
  made.elsewhere = mkdtempSync(path.join(os.tmpdir(), "daxlab-explore-"));
  await build_dist(made.dist);
  write("mine.ts", SCENARIO);
});
t.after(() => rmSync(made.elsewhere, { recursive: true, force: true }));

function write(name: string, text: string): void {
  writeFileSync(path.join(made.elsewhere, name), text);
}

function daxlab(...args: string[]) {
  const got = spawnSync(process.execPath, [path.join(made.dist, "cli.js"), ...args], {
    cwd: made.elsewhere,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  return { out: got.stdout, err: got.stderr, status: got.status };
}

t("explore finds a deadlock of a user's scenario and prints how to replay it", () => {
  const got = daxlab("explore", "mine.ts", "--strategy", "dpor");
  assert.match(got.out, /FOUND: deadlock, with 2 context switches/, got.err);
  assert.match(got.out, "mount -> &bdev->bd_mutex of pmem0 -> remove -> &sb->s_umount of pmem0");
  assert.is(got.status, 1);
  const text = /daxlab replay '([^']+)'/.exec(got.out)![1]!;
  assert.ok(text.length <= 200);
  const again = daxlab("replay", text, "--stacks");
  assert.match(again.out, "DEADLOCK: two tasks wait for each other");
  assert.match(again.out, /at both \(mine\.ts:\d+\)/);
  assert.is(again.status, 1);
  assert.is(daxlab("replay", text, "--stacks").out, again.out);
});

t("a switch that is on goes into the result, one that is not there is refused", () => {
  const ok = daxlab("explore", "mine.ts", "--strategy", "dpor", "--with", "ordered");
  assert.match(ok.out, /mine\.ts with ordered: .* these are all there are/, ok.err);
  assert.match(ok.out, "dpor: all schedules explored");
  assert.is(ok.status, 0);
  const no = daxlab("explore", "mine.ts", "--with", "order");
  assert.is(no.err, 'daxlab: the scenario has no switch "order": it has ordered\n');
  assert.is(no.status, 2);
});

t("a script that runs once from top to bottom is refused before it runs, saying why", () => {
  write("once.ts", 'import { Machine } from "daxlab";\nconsole.log("ran", Machine.name);\n');
  const got = daxlab("explore", "once.ts");
  assert.is(got.out, "");
  assert.match(got.err, /once\.ts is a script that runs once .* default export must be a scenario/);
  assert.is(got.status, 2);
  write("other.ts", "export default 7;\n");
  assert.match(daxlab("explore", "other.ts").err, "other.ts is no scenario; it has to run again");
});

t("parts explored apart are merged", () => {
  const parts = [1, 2].map((i) => {
    const args = ["--runs", "40", "--keep-going", "--shard", `${i}/2`, "--json"];
    const got = daxlab("explore", "mine.ts", ...args);
    write(`part${i}.json`, got.out);
    return JSON.parse(got.out);
  });
  const got = daxlab("merge", "part1.json", "part2.json", "--json");
  const all = JSON.parse(got.out);
  assert.is(all.runs, 40, got.err);
  assert.is(all.verdicts.ok, parts[0].verdicts.ok + parts[1].verdicts.ok);
  assert.is(all.findings.length, 1);
  assert.match(daxlab("merge", "part1.json").out, "FOUND: deadlock");
  assert.match(daxlab("merge", "mine.ts").err, /daxlab: mine\.ts: /);
});

t("worker threads share the runs out", () => {
  const got = daxlab("explore", "mine.ts", "--runs", "60", "--keep-going", "--jobs", "2", "--json");
  assert.is(JSON.parse(got.out).runs, 60, got.err);
  const no = daxlab("explore", "mine.ts", "--strategy", "all", "--jobs", "2");
  assert.is(no.err, "daxlab: --jobs and --shard: all cannot be divided\n");
});

t("our own scenarios go by their names", () => {
  const got = daxlab("explore", "d13", "--strategy", "pct", "--depth", "2");
  assert.match(got.out, "expected: deadlock, and so it is", got.err);
});

t("bad numbers and strings are one line, status 2", () => {
  const bad: [string[], string][] = [
    [["explore", "mine.ts", "--runs", "x"], '--runs: "x" is no whole number of at least 1'],
    [["explore", "mine.ts", "--shard", "3/2"], '--shard: "3/2" is not i/n with 1 <= i <= n'],
    [["replay", "mine.ts"], '"mine.ts" is no replay string: SCENARIO[+SWITCH...]:SEED:CHOICES'],
    [["explore", "gone.ts"], "gone.ts: no such file, nor one of our scenarios"],
  ];
  for (const [args, text] of bad) {
    const got = daxlab(...args);
    assert.is(got.err, `daxlab: ${text}\n`);
    assert.is(got.status, 2);
  }
});

t("a replay string of another program is noticed", () => {
  const got = daxlab("replay", "mine.ts:1:AAk");
  assert.match(got.err, "names a task that is not there");
});

t.run();
