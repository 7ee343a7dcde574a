/** tests/tools/mistakes.test.ts - what users get wrong: they are told the place and what it is. */
import { spawn, spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { gzipSync } from "node:zlib";
import { build_dist } from "../../tools/build.ts";
import { cache_folder } from "../lib/bundle.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/mistakes");
const made = { dist: "", elsewhere: "" };

t.before(async () => {
  made.dist = path.join(cache_folder(), "dist");
  made.elsewhere = mkdtempSync(path.join(os.tmpdir(), "daxlab-mistakes-"));
  await build_dist(made.dist);
});
t.after(() => rmSync(made.elsewhere, { recursive: true, force: true }));

function write(name: string, text: string | Uint8Array): void {
  writeFileSync(path.join(made.elsewhere, name), text);
}

function daxlab(...args: string[]) {
  return spawnSync(process.execPath, [path.join(made.dist, "cli.js"), ...args], {
    cwd: made.elsewhere,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
    timeout: 60_000,
  });
}

/** Runs a script of this text. */
function run(name: string, text: string): [status: number | null, stderr: string] {
  write(name, text);
  const got = daxlab("run", name);
  return [got.status, got.stderr];
}

const in_scenario = (body: string, options = "{}"): string =>
  `import { scenario } from "daxlab";
export default scenario(${options}, async (m) => {
  const p = m.process();
  ${body}
});\n`;

t("an error that a script does not catch is told in one line with its place", () => {
  assert.equal(run("throw.ts", 'const x: number = 1;\nthrow new Error("boom");\n'), [
    1,
    "daxlab: throw.ts:2:7: boom\n",
  ]);
  assert.equal(run("five.ts", "throw 5;\n"), [1, "daxlab: five.ts: threw 5\n"]);
  const inside = run("inside.ts", in_scenario('await p.open("/none", 0);'));
  assert.is(inside[0], 1);
  assert.match(inside[1], /^daxlab: inside\.ts:4:\d+: ENOENT: no such file [^\n]*open '\/none'\n$/);
  const type = run("type.ts", in_scenario("await (null as any).foo;"));
  assert.match(type[1], /^daxlab: type\.ts:4:\d+: TypeError: [^\n]*'foo'\)\n$/);
  const deep = run("deep.ts", in_scenario("await p.open(undefined as any);"));
  assert.match(deep[1], /^daxlab: deep\.ts:4:\d+: TypeError: [^\n]*DAXLAB_DEBUG[^\n]*\n$/);
  const signal = run("signal.ts", in_scenario("await p.load(0x1000, 1);"));
  assert.match(signal[1], /^daxlab: signal\.ts:4:\d+: SIGSEGV [^\n]*\n$/);
});

t("a script that cannot be read or compiled is told with its place", () => {
  assert.equal(run("syntax.ts", "\nconst x = ;\n"), [
    1,
    'daxlab: syntax.ts:2:10: Unexpected ";"\n',
  ]);
  const name = run("name.ts", 'import { nosuch } from "daxlab";\nnosuch();\n');
  assert.match(name[1], /^daxlab: name\.ts: [^\n]*'daxlab' does not provide [^\n]*'nosuch'\n$/);
  assert.match(run("none.ts", 'import "daxlabb";\n')[1], /^daxlab: none\.ts: [^\n]*'daxlabb'/);
  assert.is(daxlab("run", ".").stderr, "daxlab: .: a folder, not a script\n");
  write("x.txt", "hi");
  assert.match(daxlab("run", "x.txt").stderr, /^daxlab: x\.txt: no script: /);
});

t("what a script leaves unheard ends the command with status 1", () => {
  const call = run("call.ts", in_scenario('p.open("/none");'));
  assert.is(call[0], 1);
  assert.match(call[1], /^daxlab: call\.ts: ENOENT: [^\n]*does not await\)\n$/);
  const timer = 'setTimeout(() => {\n  throw new Error("later");\n}, 1);\n';
  assert.equal(run("timer.ts", timer), [1, "daxlab: timer.ts:2:9: later\n"]);
  const never = run("never.ts", "await new Promise(() => {});\n");
  assert.is(never[0], 1);
  assert.match(never[1], /^daxlab: never\.ts: nothing is left to do, but the script waits/);
});

t("a scenario that is not the default export is no silent success", () => {
  const named = 'import { scenario } from "daxlab";\nexport const s = scenario({}, () => 1);\n';
  assert.match(run("named.ts", named)[1], /named\.ts: the scenario "s" is not its default export/);
  const seven = run("seven.ts", "export default 7;\n");
  assert.is(seven[0], 2);
  assert.match(seven[1], /seven\.ts: its default export is no scenario/);
  const swapped = 'import { scenario } from "daxlab";\nexport default scenario(() => 1);\n';
  assert.match(
    run("swapped.ts", swapped)[1],
    /^daxlab: swapped\.ts:2:16: scenario\(options, async/,
  );
});

t("machine options that are misspelt or impossible are named", () => {
  const told = (options: string): string => run("o.ts", in_scenario("", options))[1];
  assert.match(told("{ sed: 7 }"), /^daxlab: o\.ts: machine option "sed" is not known: .*seed/);
  assert.match(told('{ seed: "x" }'), /seed x: a whole number/);
  assert.match(
    told('{ pmem: [{ size: "64M", mode: "devdax" }] }'),
    /pmem mode "devdax": fsdax, raw/,
  );
  assert.match(told('{ pmem: [{ size: "64M", mod: "raw" }] }'), /pmem option "mod" is not known/);
  for (const size of ["-5", "0", "NaN", "1e99", "5000", '"99999T"', '"x"']) {
    assert.match(told(`{ pmem: [{ size: ${size} }] }`), /^daxlab: o\.ts: .*size/, size);
  }
  assert.match(told("{ pmem: [{}] }"), /a pmem device has a size/);
  assert.match(told("{ pmem: [{ image: new Uint8Array(5) }] }"), /image of 5 bytes/);
});

t("what a .sys case cannot mean is told with its line, and is no success", () => {
  const of = (text: string): [number | null, string, string] => {
    write("case.sys", text);
    const got = daxlab("run", "case.sys");
    return [got.status, got.stdout, got.stderr];
  };
  const flag = '"O_CREATT" is no constant, and no handle or mapping is called so';
  const answers = "@setup = ok\n1: sync = ok\n2: open = NOHANDLE\n";
  assert.equal(of("sync\nopen /mnt/f O_RDWR|O_CREATT\n"), [
    1,
    answers,
    `daxlab: case.sys:2: open: ${flag}\n`,
  ]);
  assert.match(of("\nblah 1\n")[2], "case.sys:2: blah: unknown operation 'blah'");
  assert.match(
    of("f = open /mnt O_RDONLY\nread f\n")[2],
    "case.sys:2: read: argument 2 is missing",
  );
  assert.match(
    of("truncate /mnt/f 1e5\n")[2],
    'case.sys:1: truncate: "1e5" is not understood here',
  );
  assert.equal(of('sync\nopen "/mnt/f\n'), [2, "", 'daxlab: case.sys:2: a " that is not closed\n']);
  assert.match(of("@setup mode=foo\n")[2], /^daxlab: case\.sys:1: @setup mode=foo: one of fsdax/);
  const setup = of('# t\n@setup fs=ext4 mkfs="-b 99"\n');
  assert.is(setup[0], 1);
  assert.match(setup[2], "case.sys:2: @setup: mkfs failed (mkfs.ext4: invalid block size - 99)");
  // a handle that was never got is an answer
  const none = of("f = open /mnt/none O_RDONLY\nread f 10\n");
  assert.equal([none[0], none[2]], [0, ""]);
  assert.equal(of("ndctl\n")[0], 0);
});

t("conform: a broken expression, a broken case", () => {
  const got = daxlab("conform", "--grep", "(");
  assert.match(got.stderr, /^daxlab: --grep: Invalid regular expression[^\n]*\n$/);
  assert.is(got.status, 2);
  write("bad.sys", 'open "/mnt/f\n');
  write("bad.out", "");
  const bad = daxlab("conform", "bad.sys");
  assert.match(bad.stdout, '    line 1: a " that is not closed\n');
});

t("Ctrl-C ends an exploration with what it has found", async () => {
  const words = ["explore", "d1", "--runs", "100000000", "--keep-going", "--json"];
  const p = spawn(process.execPath, [path.join(made.dist, "cli.js"), ...words], {
    cwd: made.elsewhere,
  });
  const out: Buffer[] = [];
  p.stdout.on("data", (d: Buffer) => out.push(d));
  const ended = new Promise<number | null>((r) => p.on("close", r));
  const timer = setTimeout(() => p.kill("SIGINT"), 2500);
  const status = await ended;
  clearTimeout(timer);
  assert.is(status, 1);
  const found = JSON.parse(Buffer.concat(out).toString());
  assert.ok(found.runs < 100000000);
  assert.is(found.findings[0].verdict, "deadlock");
});

t("merge refuses a part twice and says which are missing", () => {
  const words = ["--strategy", "dpor", "--with", "prefault", "--json"];
  for (const i of [1, 2, 3]) {
    write(`s${i}.json`, daxlab("explore", "d1", ...words, "--shard", `${i}/3`).stdout);
  }
  const all = daxlab("merge", "s1.json", "s2.json", "s3.json");
  assert.match(all.stdout, "these are all there are");
  assert.equal([all.status, all.stderr], [0, ""]);
  const two = daxlab("merge", "s1.json", "s3.json");
  assert.not.match(two.stdout, "these are all there are");
  assert.equal([two.status, two.stderr], [1, "daxlab: not all parts are here: 2/3 missing\n"]);
  const twice = daxlab("merge", "s1.json", "s1.json");
  assert.equal(
    [twice.status, twice.stderr],
    [2, "daxlab: s1.json: part 1/3 is in s1.json already\n"],
  );
  write("bad.json", '{"scenario":"d1","runs":1,"verdicts":{},"shards":["1/1"],"findings":[{}]}');
  assert.match(daxlab("merge", "bad.json").stderr, /^daxlab: bad\.json: not written by daxlab/);
});

t("an error in a worker thread is told once, without a stack", () => {
  write("opt.ts", in_scenario("", '{ pmem: [{ size: "abc" }] }'));
  for (const jobs of ["1", "2"]) {
    const got = daxlab("explore", "opt.ts", "--runs", "4", "--jobs", jobs);
    assert.is(got.stderr, 'daxlab: opt.ts: "abc" is no size: 4096, 64M, 2G\n');
    assert.is(got.status, 1);
  }
  assert.is(daxlab("explore", "opt.ts", "--jobs", "999").status, 2);
});

t("output that cannot be written is one line and status 1", () => {
  const full = openSync("/dev/full", "w");
  const got = spawnSync(process.execPath, [path.join(made.dist, "cli.js"), "locks"], {
    stdio: ["ignore", full, "pipe"],
    encoding: "utf8",
  });
  closeSync(full);
  assert.match(got.stderr, /^daxlab: standard output: ENOSPC[^\n]*\n$/);
  assert.is(got.status, 1);
});

t("mkfs.ext4 and ndctl say what is missing or no size", () => {
  const told = (...words: string[]): [number | null, string] => {
    const got = daxlab(...words);
    return [got.status, got.stderr];
  };
  assert.match(daxlab("mkfs.ext4", "--help").stdout, /^Usage: daxlab mkfs\.ext4 /);
  assert.match(told("mkfs.ext4", "-5")[1], /^mkfs\.ext4: invalid option -- '5'\n/);
  const size = "mkfs.ext4: 1e9 is no size for x.img: blocks, or with a unit as 64M\n";
  assert.equal(told("mkfs.ext4", "x.img", "1e9"), [1, size]);
  const image = "daxlab: ndctl: --image FILE is missing; it stands before the command";
  assert.equal(told("ndctl", "list", "--image", "x"), [2, `${image} (daxlab ndctl --help)\n`]);
  assert.match(told("ndctl", "--bogus", "list")[1], "unknown option '--bogus'");
  assert.match(told("ndctl", "--image", "x")[1], "a command is missing");
  assert.match(told("ndctl", "--image", "x", "--image", "x", "list")[1], "x is given twice");
});

t("a number that is none is refused where it would be stored", () => {
  const body = `
  const fd = await p.open("/tmp/f", 0o102);
  for (const f of [
    () => p.pwrite(fd, new Uint8Array(1), NaN),
    () => p.ftruncate(fd, NaN),
    () => p.truncate("/tmp/f", 0.5),
    () => p.fallocate(fd, 0, 0, undefined as any),
    () => p.writeFile("/tmp/f", 5 as any),
    () => m.advance_ms(NaN),
    () => m.block_info("/dev/none"),
  ]) {
    try {
      console.log(await f());
    } catch (e: any) {
      console.log(e.message);
    }
  }`;
  write("numbers.ts", in_scenario(body));
  assert.equal(daxlab("run", "numbers.ts").stdout.trim().split("\n"), [
    "EINVAL: invalid argument, pwrite",
    "ftruncate: length NaN: a whole number of bytes",
    "truncate: length 0.5: a whole number of bytes",
    "fallocate: length undefined: a whole number of bytes",
    "writeFile: the data is a Uint8Array or a string",
    "advance_ms(NaN): milliseconds, at least 0",
    "ENOENT: no such file or directory, block_info '/dev/none'",
  ]);
});

t("ndctl makes labels on a new file, and says when a change to a packed one is not kept", () => {
  write("dimm.img", new Uint8Array(64 * 2 ** 20 + 128 * 1024));
  const dimm = (...words: string[]) => daxlab("ndctl", "--image", "dimm.img", ...words);
  assert.is(dimm("init-labels", "nmem0").stderr, "initialized 1 nmem\n");
  assert.is(dimm("create-namespace", "-s", "32M").status, 0);
  const list = JSON.parse(dimm("list", "-N").stdout);
  assert.equal([list[0].dev, list[0].mode], ["namespace0.0", "fsdax"]);
  const packed = gzipSync(new Uint8Array(64 * 2 ** 20 + 128 * 1024));
  write("dimm.img.gz", packed);
  const lost = daxlab("ndctl", "--image", "dimm.img.gz", "init-labels", "nmem0");
  assert.match(lost.stderr, "daxlab: ndctl: dimm.img.gz is packed: the change is not kept");
});

t("a folder or an empty file instead of an image is told as that", () => {
  write("empty.img", "");
  write("a.sys", "stat /mnt\n");
  for (const args of [
    ["run", "--image", "FILE", "a.sys"],
    ["poison", "--file", "/a", "FILE"],
    ["image", "tree", "FILE"],
    ["ndctl", "--image", "FILE", "list"],
  ]) {
    const on = (file: string) => daxlab(...args.map((a) => (a === "FILE" ? file : a)));
    assert.is(on("empty.img").stderr, "daxlab: empty.img: empty\n");
    assert.is(on("empty.img").status, 2);
    assert.is(on(".").stderr, "daxlab: .: a folder, not a file\n");
  }
});

t.run();
