/** The house rules, checked over the whole project, and each rule on a sample that it must find. */
import { readFileSync } from "node:fs";
import { glob_files } from "./lib/files.ts";
import { check_map, header_sentence, mapped_files, read_map } from "./lib/map-check.ts";
import { repo_path } from "./lib/paths.ts";
import { assert, suite } from "./lib/suite.ts";
import * as rules from "./lib/tidy-rules.ts";

const t = suite("tidy");
const BINARY = /\.(?:gz|img|bin|png|zst)$/;
const all = glob_files(".").filter((file) => !BINARY.test(file));
const sources = mapped_files().map((file) =>
  rules.read_source(file, readFileSync(repo_path(file), "utf8")),
);

function none(findings: string[]): void {
  if (findings.length)
    throw new Error(`${findings.length} findings\n    ${findings.join("\n    ")}`);
}

for (const [name, rule] of Object.entries(rules.source_rules)) {
  t(name, () => none(sources.flatMap(rule)));
}

t("MAP.md has one line for every file", () => none(check_map(mapped_files(), read_map())));

t("nothing mentions how the project was made or on which machine", () => {
  const texts = all.filter((file) => !file.startsWith("tests/conformance/cases/"));
  none(
    texts.flatMap((file) => {
      const text = readFileSync(repo_path(file), "utf8");
      return rules.origin({ file, text, code: "", with_strings: "" });
    }),
  );
});

/** rule, file, text, expected findings */
const samples: [rule: rules.rule, file: string, text: string, found: string[]][] = [
  [
    rules.layers,
    "mm/memory.ts",
    'import type { inode } from "../fs/inode.ts";\nimport { a } from "../kernel/a.ts";\n',
    ["mm/memory.ts:1: layers: imports upwards: fs/inode.ts"],
  ],
  [rules.layers, "kernel/a.ts", 'import { x } from "./include/fs.ts";\n', []],
  [
    rules.layers,
    "kernel/a.ts",
    'const x = import("../tools/api/x");\n',
    [
      'kernel/a.ts:1: layers: import "../tools/api/x" without its .ts ending',
      "kernel/a.ts:1: layers: imports upwards: tools/api/x",
    ],
  ],
  [
    rules.pure_imports,
    "tools/cmd/mkfs.ts",
    'import fs from "node:fs";\nimport { E } from "eventemitter3";\n// from "node:os"\n',
    ['tools/cmd/mkfs.ts:1: pure: imports "node:fs"'],
  ],
  [rules.pure_imports, "tools/cli/run.ts", 'import fs from "node:fs";\n', []],
  [
    rules.pure_names,
    "fs/a.ts",
    "const s = 'console.log';\nx.process.pid;\nsetTimeout(f);\nnew Date();\nMath.random();\n",
    [
      "fs/a.ts:3: pure: uses the host: setTimeout(",
      "fs/a.ts:4: pure: uses the host: new Date",
      "fs/a.ts:5: pure: uses the host: Math.random",
    ],
  ],
  [rules.pure_names, "fs/a.ts", "function f(process: P) {\n  process.exit();\n}\n", []],
  [
    rules.module_state,
    "kernel/a.ts",
    "let n = 0;\nfunction f() {\n  let m = 1;\n}\nconst seen = new Map<string, number>();\n",
    [
      "kernel/a.ts:1: module state: let n at module level",
      "kernel/a.ts:5: module state: seen starts empty, so it is filled later: hang it off the Machine",
    ],
  ],
  [
    rules.module_state,
    "kernel/a.ts",
    "class a {\n  static next = 0;\n  static readonly SIZE = 4;\n  static of(x: number) {\n  }\n}\n",
    ["kernel/a.ts:2: module state: static next = 0;: static fields are shared by all Machines"],
  ],
  [
    rules.instances,
    "fs/a.ts",
    "a instanceof Uint8Array || b instanceof inode\n",
    ["fs/a.ts:1: instanceof: of a kernel type: inode"],
  ],
  [
    rules.width,
    "fs/a.ts",
    `// ${"x".repeat(98)}\nconst a = \`\n${"y".repeat(120)}\n\`;\n`,
    ["fs/a.ts:1: width: 101 columns"],
  ],
  [rules.length, "fs/a.ts", "\n".repeat(801), ["fs/a.ts:801: length: 801 lines, 800 is all"]],
  [
    rules.chunks,
    "fs/dax.ts",
    "phys.chunks[0]",
    ["fs/dax.ts:1: chunk access: .chunks: only mm/phys touches chunks"],
  ],
  [rules.chunks, "mm/phys.ts", "this.chunks[0]", []],
  [rules.open_ends, "fs/a.ts", `// TO${"DO"}: later\n`, [`fs/a.ts:1: open end: TO${"DO"}`]],
  [
    rules.only,
    "tests/a.test.ts",
    't.only("x");\n"t.only(";\n/t.only(/;\n',
    ["tests/a.test.ts:1: only: a forgotten .only (use --grep)"],
  ],
];

for (const [i, [rule, file, text, found]] of samples.entries()) {
  t(`sample ${i} gives ${found.length} findings`, () => {
    assert.equal(rule(rules.read_source(file, text)), found);
  });
}

t("words about the project's making are found, kernel words are not", () => {
  const find = (text: string) =>
    rules.origin({ file: "a", text, code: "", with_strings: "" }).length;
  assert.is(find(`see /wo${"rk"}/shared, written by an age${"nt"}`), 2);
  assert.is(find("GPT partitions, network /dev/root, reagent, workload"), 0);
});

t("code is told from strings, comments, templates and regular expressions", () => {
  const text = "a / b; // c\nconst d = /e\\/f/g; `g $" + "{h(`i`)} j`; 'k'; /* l */ m";
  const { code } = rules.read_source("a.ts", text);
  assert.equal(code.split(/\s+/), ["a", "/", "b;", "const", "d", "=", ";", ";", ";", "m"]);
  assert.is(code.length, text.length);
});

t("a missing and a stale line of the map are named", () => {
  const map = new Map([["fs/gone.ts", "x"]]);
  assert.equal(check_map(["fs/dax.ts"], map), [
    "MAP.md:1: map: no line for fs/dax.ts",
    "MAP.md:1: map: fs/gone.ts is gone",
  ]);
  const header = "/**\n * fs/dax.ts - direct access (DAX): entries and\n * locks. More.\n */";
  assert.is(header_sentence("fs/dax.ts", header), "direct access (DAX): entries and locks");
});

t.run();
