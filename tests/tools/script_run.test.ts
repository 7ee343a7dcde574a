/**
 * tests/tools/script_run.test.ts - how a `.sys` script ends when an operation does not: what waits
 * for ever is a HANG, and a bug of ours comes out as the error that it is, also from the
 * background.
 */
import type { Machine } from "../../tools/api/machine.ts";
import { run_script } from "../../tools/script/run.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/script run");

/** From now on `blkinfo` meets a bug. */
function break_blkinfo(m: Machine): void {
  m.block_info = () => {
    throw new TypeError("x is undefined");
  };
}

for (const [what, line] of [
  ["in the foreground", "blkinfo /dev/pmem0"],
  ["in the background", "fork p2\np2:& blkinfo /dev/pmem0\nsleep 10"],
  ["awaited", "fork p2\np2:& blkinfo /dev/pmem0\nawait p2 100"],
]) {
  t(`a bug of ours ends the script, ${what}`, async () => {
    const run = run_script(`@setup mode=fsdax\n${line}\n`, { on_boot: break_blkinfo });
    await assert.rejects(run, /x is undefined/);
    // Nothing of the script goes on: the event loop is free.
    await new Promise((turn) => setImmediate(turn));
  });
}

t("an operation that nothing can end is a HANG, and its process stays busy", async () => {
  const { output } = await run_script("@setup mode=fsdax\npipe r w\nread r 1\nwrite w str:x\n");
  assert.equal(output.split("\n").slice(1, 4), [
    "2: pipe = ok",
    "3: read = HANG",
    "4: write = BUSY",
  ]);
});

t.run();
