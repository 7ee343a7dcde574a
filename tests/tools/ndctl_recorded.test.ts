/** ndctl on media errors and info blocks: what the real one said on a machine without scrubs. */
import { Machine } from "../../tools/api/machine.ts";
import { check_session, read_session } from "../lib/recorded.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/ndctl_recorded");
const MIB = 2 ** 20;

/** The five namespaces of the recorded session. */
async function recorded_machine(): Promise<Machine> {
  const m = await Machine.boot({
    nvdimm: { dimms: [{ size: 512 * MIB, init_labels: "1.2" }] },
    virtio_pmem: [{ size: 320 * MIB }],
  });
  const modes = ["sector -l 520", "sector -l 4160", "sector -l 4096", "sector -l 512", "fsdax"];
  for (const mode of modes) {
    const words = `create-namespace -r region0 -s 64M -m ${mode}`.split(" ");
    const r = await m.tool("ndctl", words);
    assert.is(r.status, 0, r.stderr);
  }
  return m;
}

const UUID = /[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g;
/** Uuids are random, but for those that a command names. */
const mask = (text: string): string =>
  text.replace(UUID, (u) => (u.startsWith("11111111-") || /^0+-/.test(u) ? u : "UUID"));

t("refusals, info blocks and listings are those of the real tool", async () => {
  await check_session(await recorded_machine(), read_session("ndctl"), mask);
});

t("metadata of sectors shows below integrity/ as on Linux", async () => {
  const m = await recorded_machine();
  let read = 0;
  for (const part of read_session("integrity")) {
    const [command, text] = part.split("\n");
    const path = command!.replace("$ cat ", "");
    // the session had switched this one off before it looked again
    if (path.endsWith("pmem0s/integrity/read_verify") && text === "0") {
      m.sysfs_write(path, "0");
    }
    assert.is(m.sysfs_read(path), `${text}\n`, path);
    read++;
  }
  assert.ok(read >= 30);
});

t.run();
