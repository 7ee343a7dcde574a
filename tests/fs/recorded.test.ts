/**
 * Scripts recorded on Linux 6.1 beside the conformance cases: single behaviours, and scripts of
 * random operations (mappings, names, file contents on many kinds of ext4), each of which once
 * showed a difference or is kept against one.
 */
import { answers_as_linux, recorded_scripts } from "../lib/answers.ts";
import { repo_path } from "../lib/paths.ts";
import { suite } from "../lib/suite.ts";

const t = suite("fs/recorded");
const FOLDER = repo_path("tests", "fs", "recorded");

for (const [name, what] of [
  ["populate", "MAP_POPULATE, mlock and MADV_POPULATE_* fault as Linux does, errors and all"],
  ["readahead", "what a read, a fault or an advice brings into the page cache"],
  ["shared-memory", "mincore, MADV_REMOVE and mlock of shared anonymous memory"],
  ["cold-device-pmd", "MADV_COLD and MADV_PAGEOUT clear 2 MiB entries of devices"],
  ["protected-links", "who may follow and make links in directories of others"],
  ["direct-copy", "copy_file_range and direct reads: alignment counts extent by extent"],
  [
    "failed-extending-write",
    "a DAX write beyond the end that fails moves the end, by its error number",
  ],
  ["map-sync-then-sync", "sync writes back what MAP_SYNC faults left dirty"],
] as const) {
  t(what, () => answers_as_linux(FOLDER, name));
}

for (const name of recorded_scripts(FOLDER, "random-")) {
  t(`a script of random operations answers as Linux: ${name}`, () =>
    answers_as_linux(FOLDER, name),
  );
}

t.run();
