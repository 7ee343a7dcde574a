/** e2fsck on a machine's devices: exit status as the real tool's, and what is not done. */
import { is_not_implemented } from "../../kernel/assert.ts";
import { Machine } from "../../tools/api/machine.ts";
import { media_bytes } from "../lib/ext4_write.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/e2fsck");

const boot = (image?: Uint8Array): Promise<Machine> =>
  Machine.boot({
    pmem: [image ? { image, name: "pmem0" } : { size: "8M", mode: "raw", name: "pmem0" }],
  });
const DEV = "/dev/pmem0";

async function made(): Promise<Machine> {
  const m = await boot();
  await m.mkfs("ext4", DEV, "-b 4096");
  return m;
}

t("A fresh filesystem is clean, with and without -f, by every spelling of the tool.", async () => {
  const m = await made();
  for (const args of [["-fn"], ["-n"], ["-f", "-n"], ["-p"], ["-fy"]]) {
    const r = await m.tool("e2fsck", [...args, DEV]);
    assert.is(r.status, 0, `${args}: ${r.stdout}${r.stderr}`);
  }
  assert.is((await m.tool("fsck.ext4", ["-fn", DEV])).status, 0);
});

t(
  "A wrong free block count is an error that is left, unless a clean superblock is trusted.",
  async () => {
    const bytes = media_bytes(await made());
    bytes[1024 + 12]! ^= 1;
    const m = await boot(bytes);
    assert.is((await m.tool("e2fsck", ["-n", DEV])).status, 0);
    const r = await m.tool("e2fsck", ["-fn", DEV]);
    assert.is(r.status, 4);
    assert.ok(r.stdout.includes("checksum"), r.stdout);
    let met: unknown;
    await m.tool("e2fsck", ["-fy", DEV]).catch((e: unknown) => {
      met = e;
    });
    assert.ok(is_not_implemented(met), "repairing is not built");
  },
);

t("A device without a filesystem, or none at all, cannot be checked.", async () => {
  const m = await boot();
  assert.is((await m.tool("e2fsck", ["-fn", DEV])).status, 8);
  assert.is((await m.tool("e2fsck", ["-fn", "/dev/pmem7"])).status, 8);
  assert.is((await m.tool("e2fsck", ["-fn"])).status, 16);
  assert.is((await m.tool("e2fsck", ["-n", "-y", DEV])).status, 16);
});

t("A mounted filesystem is only looked at.", async () => {
  const m = await made();
  const p = m.process();
  await p.mount(DEV, "/mnt", "ext4");
  assert.is((await m.tool("e2fsck", ["-f", "-y", DEV])).status, 8);
  await p.umount("/mnt");
  assert.is((await m.tool("e2fsck", ["-f", "-y", DEV])).status, 0);
});

t.run();
