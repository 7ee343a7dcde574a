/**
 * tests/images/nvdimm-written.test.ts - DIMMs written here, given to a real Linux 6.1: it found the
 * same namespaces and read the same bytes as we do.
 *
 * The images (four namespaces each, of every mode, made by our ndctl; ext4 and sectors written
 * by our kernel) and what Linux printed for keep.sys with that DIMM are recordings; what is run
 * here is our reading of the same bytes.
 */
import { readFileSync } from "node:fs";
import { difference } from "../../tools/script/compare.ts";
import { run_script } from "../../tools/script/run.ts";
import { image_names, read_image } from "../lib/images.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("images/nvdimm-written");
const text = (name: string): string =>
  readFileSync(repo_path("tests", "images", "nvdimm-written", name), "utf8");

for (const name of ["labels-v11", "labels-v12"]) {
  t(`${name}: Linux and we read the same from a DIMM written here`, async () => {
    assert.ok(image_names("nvdimm-written").includes(name));
    const r = await run_script(text("keep.sys"), { image: read_image("nvdimm-written", name) });
    assert.is(r.unsupported, null);
    assert.equal(difference(text(`${name}.out`), r.output, { strict: true }), []);
  });
}

t.run();
