/** Scripts recorded on Linux 6.1 beside the conformance cases: mount errors, block commands. */
import { run_script } from "../../tools/script/run.ts";
import { answers_as_linux } from "../lib/answers.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/recorded");
const FOLDER = repo_path("tests", "tools", "recorded");

for (const [name, what] of [
  ["mount-busy", "a wrong mount option is EINVAL even where the device is busy"],
  ["mount-options", "wrong mount options, and what the log says of them"],
  ["block-commands", "blockdev, blkdiscard, and ndctl's commands for media errors without scrubs"],
] as const) {
  t(what, () => answers_as_linux(FOLDER, name));
}

t("a script asks for a platform that scrubs with ars=1", async () => {
  const r = await run_script(
    [
      "@setup mode=fsdax ars=1",
      "ndctl inject-error --block=8 --count=8 namespace0.0",
      "sysread /sys/block/pmem0/badblocks",
      "syswrite /sys/bus/nd/devices/ndbus0/nfit/scrub 2",
      "syswrite /sys/bus/nd/devices/ndbus0/nfit/scrub 1",
      "syswrite /sys/bus/nd/devices/ndbus0/nfit/scrub 1",
    ].join("\n"),
  );
  const lines = r.output.split("\n");
  assert.ok(lines.includes("3| 8 8"));
  assert.equal(lines.slice(-4), [
    "4: syswrite = EINVAL",
    "5: syswrite = ok",
    "6: syswrite = EBUSY",
    "",
  ]);
});

t.run();
