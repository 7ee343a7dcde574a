/** tests/tools/poison.test.ts - `daxlab poison`: who gets told, on a device and in a case. */
import { readFileSync } from "node:fs";
import { Machine } from "../../index.ts";
import { type failure_walk, walk_text, watch_failures } from "../../tools/api/failure_log.ts";
import {
  poison,
  POISON_HOWS,
  type poison_how,
  type poison_report,
} from "../../tools/api/poison.ts";
import { run_script } from "../../tools/script/run.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";
import { bytes, filled, full_file } from "../seeds/lab.ts";

const t = suite("tools/poison");

async function on_image(how: poison_how, offset = 4096): Promise<poison_report> {
  const m = await Machine.boot({ pmem: [{ size: "32M", mode: "fsdax", map: "mem" }] });
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  const fd = await full_file(p, "/mnt/f", filled(65, 8192));
  await p.pwrite(fd, bytes("far"), 2 ** 20);
  await p.close(fd);
  await p.umount("/mnt");
  return poison(m, { device: "/dev/pmem0", type: "ext4", path: "/f", offset, how });
}

const HOPS = ["driver: EOPNOTSUPP", "dax_device: EOPNOTSUPP", "generic: ok"];

t("every hop with its errno, who is told and who is not, however the page goes bad", async () => {
  for (const how of POISON_HOWS) {
    const r = await on_image(how);
    assert.is(r.walks.length, 1, how);
    const [w] = r.walks as [failure_walk];
    assert.equal(
      w.hops.map((h) => `${h.hop}: ${h.answer}`),
      HOPS,
      how,
    );
    assert.match(w.owner!, /^page 1 of inode \d+ \(f\) of pmem0$/);
    const told = w.told.map((x) => `${x.comm} ${x.signal}`);
    const early = "early SIGBUS BUS_MCEERR_AO lsb=12";
    const late = "late SIGBUS BUS_MCEERR_AR lsb=12";
    assert.equal(told, how === "scrub" ? [early] : [late, early], how);
    const deaf = w.not_told.map((x) => x.who.replace(/:\d+/, ""));
    const nobody = how === "scrub" ? ["late"] : [];
    assert.equal(deaf, ["ext4 on pmem0", "reader", ...nobody], how);
    assert.is(w.result, "dax page: Recovered");
    assert.is(r.met, how === "scrub" ? null : "SIGBUS BUS_MCEERR_AR lsb=12");
    const gets = r.later.map((l) => l.gets);
    // an injected failure marks a page whose memory is good
    const bad = ["SIGBUS BUS_ADRERR", "SIGBUS BUS_ADRERR", "EIO"];
    assert.equal(gets, how === "inject" ? ["ok", "ok", "ok"] : bad, how);
  }
});

t("a hole has no storage to go bad", async () => {
  try {
    await on_image("scrub", 65536);
    assert.unreachable();
  } catch (e) {
    assert.is((e as Error).message, "/f: nothing is stored at byte 65536");
  }
});

t("a case: one walk for each failure, as text", async () => {
  const text = readFileSync(repo_path("tests/conformance/cases/poison/two-processes.sys"), "utf8");
  let walks: failure_walk[] = [];
  await run_script(text, {
    on_boot: (m) => {
      walks = watch_failures(m.kernel).walks;
    },
  });
  assert.is(walks.length, 3);
  const lines = walk_text(walks[0]!).split("\n");
  assert.match(lines[0]!, /^bad page: frame 0x[0-9a-f]+, byte 0x[0-9a-f]+ of region0$/);
  assert.is(lines.filter((l) => l.startsWith("  asked ")).length, 3);
  assert.is(lines.filter((l) => l.startsWith("  told ")).length, 2);
  assert.is(lines.filter((l) => l.startsWith("  not told ")).length, 2);
  assert.is(lines.at(-1), "  result    dax page: Recovered");
});

t.run();
