/**
 * tests/images/nvdimm.test.ts - every DIMM that the real ndctl made: what our ndctl says of it is
 * what the real one said, byte for byte, and what our kernel reads is what Linux read.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { nvdimm_state } from "../../drivers/nvdimm/nd.ts";
import { btt_check_arena } from "../../drivers/nvdimm/btt.ts";
import { json_output_leaves } from "../../tools/cmd/ndctl/json.ts";
import { read_bytes } from "../../tools/api/device_io.ts";
import { Machine } from "../../tools/api/machine.ts";
import { image_names, read_dimm, read_manifest } from "../lib/images.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("images/nvdimm");

interface recorded {
  command?: string;
  what?: string;
  output: any;
}

interface opened {
  m: Machine;
  recorded: recorded[];
  manifest: any;
}

async function open(name: string): Promise<opened> {
  const manifest = read_manifest("nvdimm", name);
  const dimm = await read_dimm(name, manifest.label_area_bytes);
  const m = await Machine.boot({ nvdimm: { dimms: [dimm] } });
  return { m, manifest, recorded: manifest.recorded };
}

const names = image_names("nvdimm");

async function ndctl(m: Machine, line: string): Promise<string> {
  const r = await m.tool("ndctl", line.split(" "));
  assert.is(r.status, 0, r.stderr);
  return r.stdout;
}

t("the twenty images are there", () => assert.is(names.length, 20));

/**
 * Its listing was recorded in the session that made it, where numbers of namespaces had been used
 * before: after a power-on they are counted anew. Its history is played again below, and what Linux
 * lists after a power-on was recorded from the image (images/nvdimm-written).
 */
const LIVE = "nvdimm-holes";

async function check_list(name: string, { m, recorded }: opened): Promise<void> {
  const file = repo_path("tests", "images", "nvdimm", `${name}.ndctl.json`);
  assert.is(await ndctl(m, "list -vv -RNDBu"), readFileSync(file, "utf8"));
  const plain = recorded.find((r) => r.command === "ndctl list -vv -RNDB")!;
  const ours = JSON.parse(await ndctl(m, "list -vv -RNDB"));
  assert.equal(ours, plain.output);
}

async function check_labels({ m, recorded }: opened): Promise<void> {
  const labels = recorded.find((r) => r.command?.startsWith("ndctl read-labels"));
  if (!labels) return;
  const [ours] = JSON.parse(await ndctl(m, "read-labels -j nmem0"));
  assert.equal(ours, labels.output);
}

/**
 * After power-on the empty pfn, dax and btt have number 0 and those in use 1; in the session that
 * makes a namespace it is the other way round, and most listings are from such sessions.
 */
function renumber(m: Machine, text: string): string {
  const { claims } = nvdimm_state(m.kernel).buses[0]!.regions[0]!;
  return text.replace(/^(pfn|dax|btt)0\.([01])/, (all, kind: string, id: string) => {
    const in_use = claims.some((c) => c.kind === kind && c.enabled);
    return in_use ? `${kind}0.${1 - Number(id)}` : all;
  });
}

function check_sysfs(name: string, { m, recorded }: opened): void {
  const sysfs: string[] = recorded.find((r) => r.what === "sysfs")!.output;
  const live = !name.includes("-cut-");
  for (const line of sysfs) {
    const [path, text] = line.split(" = ") as [string, string];
    // where the region lies in the address space is the machine's business
    if (path.endsWith("/resource")) continue;
    const ours = m.sysfs_read(`/sys/bus/nd/devices/${live ? renumber(m, path) : path}`);
    assert.is((live ? renumber(m, ours) : ours).trim(), text.trim(), path);
  }
}

function check_disks({ m, recorded }: opened): void {
  const lines: string[] = recorded.find((r) => r.what === "block devices")!.output;
  const disks = lines.filter((l) => l !== "");
  const shown = disks.map((line) => {
    const disk = line.split(" ")[0]!;
    const b = m.block_info(`/dev/${disk}`);
    if (b.start !== null) return `${disk} start=${b.start} size=${b.size / 512}`;
    const rest = `logical=${b.logical} physical=${b.physical} dax=${b.dax ? 1 : 0}`;
    return `${disk} size=${b.size / 512} ${rest}`;
  });
  assert.equal(shown, disks);
}

async function check_infoblocks({ m, recorded }: opened): Promise<void> {
  const list = recorded.filter((r) => r.command?.startsWith("ndctl read-infoblock"));
  if (list.length === 0) return;
  await ndctl(m, "disable-namespace all");
  const ours = JSON.parse(await ndctl(m, "read-infoblock -j all"));
  const strip = ({ dev: _, file: __, ...rest }: any) => rest;
  const sort = (l: any[]) => l.map(strip).sort((a, b) => (a.uuid < b.uuid ? -1 : 1));
  assert.equal(sort(ours), sort(list.flatMap((r) => r.output)));
}

async function check_sectors({ m, recorded }: opened): Promise<void> {
  const sha = recorded.find((r) => r.what?.startsWith("sha256"));
  if (!sha) return;
  const disk = m.bdev("/dev/pmem0s");
  const bytes = read_bytes(disk, 0, disk.bd_nr_sectors * 512);
  const hash = createHash("sha256").update(bytes).digest("hex");
  assert.is(`bytes ${bytes.length} sha256 ${hash}`, sha.output[0]);
  const claim = nvdimm_state(m.kernel).buses[0]!.regions[0]!.namespaces[0]!.claim!;
  for (const a of claim.btt!.arenas) assert.ok(btt_check_arena(m.kernel, a));
}

for (const name of names) {
  t(`${name}: all that the real tools and Linux read from it`, async () => {
    const o = await open(name);
    await check_labels(o);
    await check_sectors(o);
    if (name !== LIVE) {
      await check_list(name, o);
      check_sysfs(name, o);
      check_disks(o);
    }
    await check_infoblocks(o);
  });
}

t(`${LIVE}: the commands that made it leave the same numbers, sizes and names`, async () => {
  const m = await Machine.boot({ nvdimm: { dimms: [{ size: 2 ** 28 }] } });
  for (const line of [
    "disable-region region0",
    "init-labels -f --label-version=1.2 nmem0",
    "enable-region region0",
    ...[1, 2, 3, 4, 5].map((n) => `create-namespace -f -r region0 -m raw -s 32M -n ns${n}`),
    "disable-namespace namespace0.1",
    "destroy-namespace -f namespace0.1",
    "disable-namespace namespace0.3",
    "destroy-namespace -f namespace0.3",
    "create-namespace -f -r region0 -m fsdax -M mem -s 16M -n refill",
  ]) {
    await ndctl(m, line);
  }
  const file = repo_path("tests", "images", "nvdimm", `${LIVE}.ndctl.json`);
  const plain = (text: string) => json_output_leaves(text);
  assert.equal(plain(await ndctl(m, "list -vv -RNDBu")), plain(readFileSync(file, "utf8")));
});

t(`${LIVE}: after power-on the listing is what Linux says then, byte for byte`, async () => {
  const manifest = read_manifest("nvdimm", LIVE);
  const dimm = await read_dimm(LIVE, manifest.label_area_bytes);
  const virtio_pmem = [{ size: 320 * 2 ** 20 }];
  const m = await Machine.boot({ nvdimm: { dimms: [dimm] }, virtio_pmem });
  const recorded = readFileSync(
    repo_path("tests", "images", "nvdimm-written", `${LIVE}.powered-on.txt`),
    "utf8",
  );
  for (const part of recorded.split(/^(?=\$ )/m)) {
    const [command, ...lines] = part.split("\n");
    assert.is(await ndctl(m, command!.replace("$ ndctl ", "")), lines.join("\n"), command);
  }
});

t.run();
