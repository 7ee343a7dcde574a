/** The command line as users meet it: built like dist/, started as a process. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { build_dist } from "../../tools/build.ts";
import { commands } from "../../tools/cli/commands.ts";
import { dress_error, user_error } from "../../tools/cli/errors.ts";
import { cache_folder } from "../lib/bundle.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/cli");
const made = { dist: "", elsewhere: "" };

t.before(async () => {
  made.dist = path.join(cache_folder(), "dist");
  // A folder outside the project, without a package.json, as a user's scripts may be.
  made.elsewhere = mkdtempSync(path.join(os.tmpdir(), "daxlab-cli-"));
  await build_dist(made.dist);
});
t.after(() => rmSync(made.elsewhere, { recursive: true, force: true }));

function daxlab(...args: string[]) {
  return spawnSync(process.execPath, [path.join(made.dist, "cli.js"), ...args], {
    cwd: made.elsewhere,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
}

t("--version prints the package's version and loads nothing", () => {
  const { version } = JSON.parse(readFileSync(repo_path("package.json"), "utf8"));
  const got = daxlab("--version");
  assert.is(got.stdout, `${version}\n`);
  assert.is(got.status, 0);
  const code = readFileSync(path.join(made.dist, "cli.js"), "utf8");
  assert.not.match(code, /^import /m);
});

t("--help lists every command with its summary", () => {
  const got = daxlab("--help");
  assert.is(got.status, 0);
  for (const name of Object.keys(commands)) assert.match(got.stdout, `\n  ${name} `);
  assert.is(daxlab().status, 0);
});

for (const [name, entry] of Object.entries(commands)) {
  t(`${name} loads, and answers --help`, async () => {
    const module = await entry.load();
    assert.ok("register" in module || "main" in module);
    if ("main" in module) return;
    const got = daxlab(name, "--help");
    assert.match(got.stdout, `Usage: daxlab ${name}`);
    assert.is(got.status, 0);
  });
}

t("a mistyped command or option is named, with status 2", () => {
  const command = daxlab("rnu");
  assert.match(command.stderr, /unknown command 'rnu'[\s\S]*Did you mean run/);
  assert.is(command.status, 2);
  const option = daxlab("bench", "--filse", "3");
  assert.match(option.stderr, /unknown option '--filse'/);
  assert.is(option.status, 2);
  const value = daxlab("bench", "--files", "many");
  assert.is(value.stderr, "daxlab: --files: not a positive number: many\n");
  assert.is(value.status, 2);
});

t("a TypeScript script outside any package runs, with await at its top and its arguments", () => {
  writeFileSync(
    path.join(made.elsewhere, "scenario.ts"),
    `import { half } from "./other.ts";
     interface point { x: number }
     const p: point = await Promise.resolve({ x: half(6) });
     console.log(p.x, process.argv.slice(2).join());`,
  );
  writeFileSync(
    path.join(made.elsewhere, "other.ts"),
    "export const half = (n: number): number => n / 2;\n",
  );
  const got = daxlab("run", "scenario.ts", "--seed", "4");
  assert.is(got.stdout, "3 --seed,4\n", got.stderr);
  assert.is(got.status, 0);
});

t("a script that is not there is one line, status 2", () => {
  const got = daxlab("run", "gone.ts");
  assert.is(got.stderr, "daxlab: gone.ts: no such file\n");
  assert.is(got.status, 2);
});

t("errors of users and of system calls show no stack, our own do", () => {
  assert.equal(dress_error(new user_error("no")), { text: "daxlab: no", status: 2 });
  const enospc = Object.assign(new Error("ENOSPC: no space left, write"), {
    code: "ENOSPC",
    syscall: "write",
  });
  assert.equal(dress_error(enospc), { text: `daxlab: ${enospc.message}`, status: 1 });
  const bug = dress_error(new TypeError("x is undefined"));
  assert.match(bug.text, /internal error\nTypeError: x is undefined\n\s+at /);
  assert.is(bug.status, 70);
});

t("run --image boots a DIMM for a case with mode=keep; what is no DIMM is told", () => {
  const place = (name: string): string => repo_path("tests/images/nvdimm-written", name);
  const dimm = place("labels-v12.img.gz.gz");
  const got = daxlab("run", "--image", dimm, place("keep.sys"));
  assert.is(got.status, 0, got.stderr);
  assert.is(got.stdout, readFileSync(place("labels-v12.out"), "utf8"));
  const odd = path.join(made.elsewhere, "odd.img");
  writeFileSync(odd, new Uint8Array(10_000));
  const bad = daxlab("run", "--image", odd, place("keep.sys"));
  assert.is(bad.status, 2);
  assert.match(bad.stderr, /odd\.img: 10000 bytes cannot be a DIMM/);
});

t.run();
