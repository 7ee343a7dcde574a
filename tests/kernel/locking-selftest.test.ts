/** The lock validator gives the kernel's verdict in every cell of the kernel's own selftest. */
import {
  format_locking_selftest,
  locking_groups,
  run_locking_selftest,
} from "../../tools/selftest/locking.ts";
import { run_cell } from "../../tools/selftest/locking/world.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/locking-selftest");
const result = run_locking_selftest();

t("all 394 cells are as the kernel", () => {
  const wrong = result.cells.filter((c) => c.got !== c.expect);
  assert.equal(wrong, []);
  assert.is(result.cells.length, 394);
  assert.is(result.passed, 394);
});

t("250 cells must be reported, 144 must be silent", () => {
  assert.is(result.cells.filter((c) => c.expect === "report").length, 250);
  assert.is(result.cells.filter((c) => c.expect === "silent").length, 144);
  assert.is(result.reported, 250);
});

/** Cells and reports of the parts, as in the kernel's table. */
const PARTS: readonly (readonly [RegExp, number, number])[] = [
  [/^plain$/, 63, 56],
  [/^(reader\/writer|triples)/, 39, 24],
  [/^interrupts/, 210, 128],
  [/^wound\/wait/, 36, 26],
  [/^(queued rwlock|reclaim|wait types|local lock|mixed)/, 46, 16],
];

for (const [group, cells, reported] of PARTS) {
  t(`${group.source} has ${cells} cells, ${reported} of them reported`, () => {
    const mine = result.cells.filter((c) => group.test(c.group));
    assert.is(mine.length, cells);
    assert.is(mine.filter((c) => c.got === "report").length, reported);
  });
}

t("the kind of finding fits the row", () => {
  const kinds = (row: string): string[] => [
    ...new Set(result.cells.filter((c) => c.row === row && c.got === "report").map((c) => c.what)),
  ];
  assert.equal(kinds("A-A"), ["recursion"]);
  assert.equal(kinds("AB-BC-CD-DA"), ["circular"]);
  assert.equal(kinds("double unlock"), ["not-held"]);
  assert.equal(kinds("init while held"), ["freed"]);
  assert.equal(kinds("W1R2/W2R3/W3R1"), ["circular"]);
  assert.equal(kinds("irqs-on + irq-safe A"), ["irq-state"]);
  assert.equal(kinds("safe A + unsafe B, 2"), ["irq-order"]);
  assert.equal(kinds("inversion"), ["irq-order"]);
  assert.equal(kinds("RCU-sched read"), ["wait-context"]);
  assert.equal(kinds("nested under a free lock"), ["nest-lock"]);
});

t("the chain cache row needs a cache that tells reads from writes", () => {
  const row = locking_groups.flatMap((g) => g.rows).find((r) => r.name === "chain cache")!;
  const { report } = run_cell(row.cells.rwlock![0]!.body, true);
  assert.is(report?.bug, "circular");
  assert.equal(
    report?.steps.map((s) => `${s.outer} -> ${s.inner}`),
    ["&lock_Y -> &rwlock_X", "&rwlock_X -> &lock_Y"],
  );
});

t("the table shows each row and ends with the total", () => {
  const lines = format_locking_selftest(result).split("\n");
  assert.is(lines.at(-1), "locking: 394 of 394 as the kernel");
  for (const g of locking_groups) {
    for (const r of g.rows)
      assert.ok(
        lines.some((l) => l.startsWith(`  ${r.name} `)),
        r.name,
      );
  }
  assert.not.ok(lines.some((l) => l.startsWith("otherwise")));
});

t("a cell that does otherwise than the kernel is named and not counted", () => {
  const cells = result.cells.map((c, i) => (i === 0 ? { ...c, got: "silent" as const } : c));
  const text = format_locking_selftest({ cells, passed: 393, reported: 249 });
  assert.match(text, /otherwise: plain \/ A-A \/ spin: silent \(recursion\), not report/);
  assert.match(text, /locking: 393 of 394 as the kernel$/);
});

t.run();
