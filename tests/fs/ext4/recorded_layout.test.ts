/**
 * st_blocks and extents after seeded operations, held to what Linux 6.1 said (recorded/*.out): the
 * shape of the trees shows in st_blocks. Optional parts (numbers of extents) are not compared.
 */
import { readdirSync, readFileSync } from "node:fs";
import { difference } from "../../../tools/script/compare.ts";
import { run_script } from "../../../tools/script/run.ts";
import { repo_path } from "../../lib/paths.ts";
import { assert, suite } from "../../lib/suite.ts";

const t = suite("fs/ext4/recorded_layout");
const FOLDER = repo_path("tests", "fs", "ext4", "recorded");

const names = readdirSync(FOLDER)
  .filter((n) => n.endsWith(".sys"))
  .map((n) => n.slice(0, -4));

for (const name of names) {
  t(`${name} lays files out as Linux did`, async () => {
    const read = (ending: string): string => readFileSync(`${FOLDER}/${name}${ending}`, "utf8");
    const r = await run_script(read(".sys"));
    assert.is(r.unsupported, null);
    assert.equal(difference(read(".out"), r.output), []);
  });
}

t.run();
