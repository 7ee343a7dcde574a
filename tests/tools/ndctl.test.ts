/** ndctl: filters, refusals, labels, namespaces in any order, DIMMs as files. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { nvdimm_state } from "../../drivers/nvdimm/nd.ts";
import { nvdimm_image } from "../../drivers/nvdimm/nfit.ts";
import { Machine } from "../../tools/api/machine.ts";
import { json_size, json_text } from "../../tools/cmd/ndctl/json.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/ndctl");
const MIB = 2 ** 20;

const boot = (seed = 1): Promise<Machine> =>
  Machine.boot({ seed, nvdimm: { dimms: [{ size: 256 * MIB, init_labels: "1.2" }] } });

async function run(m: Machine, line: string): Promise<string> {
  const r = await m.tool("ndctl", line.split(" "));
  assert.is(r.status, 0, `${line}: ${r.stderr}`);
  return r.stdout;
}

const image_of = (m: Machine): Uint8Array =>
  nvdimm_image(nvdimm_state(m.kernel).buses[0]!.dimms[0]!);

t("sizes for people are rounded as ndctl rounds them", () => {
  assert.is(json_size(2097152, true), 2097152);
  assert.is(json_size(32444416, true), "30.94 MiB (32.44 MB)");
  assert.is(json_size(1073741824, true), "1024.00 MiB (1073.74 MB)");
  assert.is(json_size(2147483648, true), "2.00 GiB (2.15 GB)");
  assert.is(json_text({ a: [1, "x"] }), '{\n  "a":[\n    1,\n    "x"\n  ]\n}');
});

t("filters: by region, DIMM, namespace and mode; idle ones only when asked", async () => {
  const m = await boot();
  await run(m, "create-namespace -r region0 -m raw -s 32M -n one");
  await run(m, "create-namespace -r 0 -m fsdax -s 32M");
  await run(m, "create-namespace --region=region0 --mode=sector --size=32M");
  const devs = async (line: string): Promise<string[]> => {
    const text = await run(m, line);
    return text === "" ? [] : JSON.parse(text).map((x: { dev: string }) => x.dev);
  };
  assert.equal((await devs("list")).sort(), ["namespace0.0", "namespace0.1", "namespace0.2"]);
  assert.equal(await devs("list -m sector"), ["namespace0.2"]);
  assert.equal(await devs("list -n 0.1"), ["namespace0.1"]);
  assert.equal(await devs("list -r region1"), []);
  assert.equal(await devs("list -D -d nmem0"), ["nmem0"]);
  await run(m, "disable-namespace namespace0.1");
  assert.equal((await devs("list -N")).includes("namespace0.1"), false);
  assert.equal((await devs("list -Ni")).includes("namespace0.1"), true);
  const text = await run(m, "list -N -i -n namespace0.1");
  assert.is(JSON.parse(text)[0].state, "disabled");
});

t("what is wrong is said: commands, options, modes, operands", async () => {
  const m = await boot();
  for (const [line, status] of [
    ["frobnicate", 129],
    ["list --frob", 129],
    ["create-namespace -m turbo", 129],
    ["create-namespace -s many", 129],
    ["create-namespace -u 12", 129],
    ["destroy-namespace", 129],
    ["create-namespace -e namespace7.0", 237],
    ["init-labels nmem0", 240],
  ] as const) {
    const r = await m.tool("ndctl", line.split(" "));
    assert.is(r.status, status, `${line}: ${r.stderr}`);
    assert.not.equal(r.stderr, "");
  }
});

t("an active namespace is destroyed only by force, a mounted one never", async () => {
  const m = await boot();
  await run(m, "create-namespace -m fsdax -s 64M");
  assert.is((await m.tool("ndctl", ["destroy-namespace", "namespace0.0"])).status, 240);
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  assert.is((await m.tool("ndctl", ["destroy-namespace", "-f", "namespace0.0"])).status, 240);
  await p.umount("/mnt");
  await run(m, "destroy-namespace -f namespace0.0");
  assert.is(await run(m, "list"), "");
});

t("labels: read, zeroed, written back", async () => {
  const m = await boot();
  await run(m, "create-namespace -m raw -s 32M -n kept");
  const before = image_of(m);
  await run(m, "disable-region region0");
  await run(m, "zero-labels nmem0");
  assert.equal(JSON.parse(await run(m, "read-labels -j nmem0")), [{ dev: "nmem0" }]);
  await run(m, "enable-region region0");
  assert.is(JSON.parse(await run(m, "list"))[0].size, 256 * MIB, "label-less");
  const again = await Machine.boot({ nvdimm: { dimms: [{ image: before }] } });
  assert.is(JSON.parse(await run(again, "list"))[0].name, "kept");
});

t("check-namespace looks at map and log", async () => {
  const m = await boot();
  await run(m, "create-namespace -m sector -s 32M");
  await run(m, "check-namespace -f namespace0.0");
  const a = nvdimm_state(m.kernel).buses[0]!.regions[0]!.namespaces[0]!.claim!.btt!.arenas[0]!;
  m.kernel.phys.write_u32(a.base + a.mapoff, 0xc0000005);
  const r = await m.tool("ndctl", ["check-namespace", "-f", "namespace0.0"]);
  assert.is(r.status, 250, r.stderr);
});

/** A random order of commands; what they leave must be the same after power-on. */
async function random_commands(seed: number): Promise<void> {
  let x = seed * 7919 + 1;
  const rnd = (n: number): number => {
    x = (x * 48271) % 2147483647;
    return x % n;
  };
  const version = rnd(2) === 0 ? "1.1" : "1.2";
  const m = await Machine.boot({
    seed,
    nvdimm: { dimms: [{ size: 256 * MIB, init_labels: version }] },
  });
  for (let i = 0; i < 12; i++) {
    const mode = ["raw", "fsdax", "devdax", "sector"][rnd(4)]!;
    const target = `namespace0.${rnd(5)}`;
    const line = [
      `create-namespace -r region0 -m ${mode} -s ${16 * (1 + rnd(4))}M -n n${i}`,
      `create-namespace -f -e ${target} -m ${mode}`,
      `destroy-namespace -f ${target}`,
      `disable-namespace ${target}`,
      `enable-namespace ${target}`,
    ][rnd(5)]!;
    await m.tool("ndctl", line.split(" "));
  }
  await m.tool("ndctl", ["enable-namespace", "all"]);
  type listed = { mode: string; size: number; uuid: string; name?: string };
  const list = async (k: Machine): Promise<string[]> => {
    const text = await run(k, "list -Nv");
    const all = (text === "" ? [] : JSON.parse(text)) as listed[];
    return all.map((n) => `${n.uuid} ${n.mode} ${n.size} ${n.name}`).sort();
  };
  const again = await Machine.boot({ nvdimm: { dimms: [{ image: image_of(m) }] } });
  assert.equal(await list(again), await list(m), `seed ${seed}`);
}

t("random orders of commands are found again after power-on", async () => {
  for (let seed = 1; seed <= 15; seed++) await random_commands(seed);
});

t(
  "200 random orders of commands are found again after power-on",
  async () => {
    for (let seed = 1; seed <= 200; seed++) await random_commands(seed);
  },
  { groups: ["long"], timeout_ms: 600_000 },
);

t("a machine restarted on its media keeps DIMMs, labels and namespaces", async () => {
  const m = await boot();
  await run(m, "create-namespace -m fsdax -s 64M -n here");
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  const next = await m.reboot();
  assert.is(JSON.parse(await run(next, "list"))[0].name, "here");
  const p = next.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  await p.umount("/mnt");
});

t("daxlab ndctl changes the file of a DIMM, and only when something changed", () => {
  const dir = mkdtempSync(path.join(tmpdir(), "ndctl-"));
  try {
    const file = path.join(dir, "dimm.img");
    writeFileSync(file, new Uint8Array(64 * MIB + 128 * 1024));
    const cli = (...words: string[]): string =>
      execFileSync(
        process.execPath,
        ["--import", "tsx", repo_path("tools/cli/main.ts"), "ndctl", "--image", file, ...words],
        { encoding: "utf8", cwd: repo_path(), stdio: ["ignore", "pipe", "ignore"] },
      );
    const made = JSON.parse(cli("create-namespace", "-f", "-e", "namespace0.0", "-m", "fsdax"));
    assert.is(made.size, 62 * MIB);
    const after = readFileSync(file);
    const listed = JSON.parse(cli("list", "-N"));
    assert.is(listed[0].uuid, made.uuid);
    assert.ok(after.equals(readFileSync(file)));
  } finally {
    rmSync(dir, { recursive: true });
  }
});

t.run();
