/** The bench's own arithmetic; the figures themselves belong to `npm run bench`. */
import { assert, suite } from "../lib/suite.ts";
import { bench_random, format_group, make_rows, run_group } from "../../tools/bench/harness.ts";

const t = suite("tools/bench");

t("ratios are those of the best rounds to each base that took part", () => {
  const samples = new Map([
    ["ours", [300, 200, 400]],
    ["memfs", [500, 400, 450]],
  ]);
  const rows = make_rows(samples, ["memfs", "absent"], new Map([["memfs", "stopped early"]]));
  assert.equal(rows, [
    { name: "ours", cpu_ns: 300, min_ns: 200, ratios: { memfs: 0.5 } },
    { name: "memfs", cpu_ns: 450, min_ns: 400, ratios: { memfs: 1 }, note: "stopped early" },
  ]);
  const text = format_group({ title: "read", bases: ["memfs"], rows });
  assert.match(text, /^### read\ncontestant .* x memfs\nours .* 0\.50\n/m);
  assert.match(text, /1\.00 {2}stopped early$/);
});

t("every contestant runs in every round, in whole grains, awaited", async () => {
  const counts: Record<string, number[]> = { a: [], b: [] };
  const busy = () => {
    const end = performance.now() + 1;
    while (performance.now() < end);
  };
  const g = await run_group(
    "x",
    [
      {
        name: "a",
        max_n: 4,
        fn(n) {
          busy();
          counts["a"]!.push(n);
        },
      },
      {
        name: "b",
        grain: 3,
        max_n: 4,
        async fn(n) {
          await null;
          busy();
          counts["b"]!.push(n);
        },
      },
    ],
    { bases: ["a"], rounds: 4, slice_ms: 3 },
  );
  assert.is(g.rows.length, 2);
  assert.ok(counts["a"]!.length >= 6 && counts["a"]!.every((n) => n <= 4));
  assert.ok(counts["b"]!.length >= 6 && counts["b"]!.every((n) => n % 3 === 0 && n <= 6));
});

t("the random numbers are the same in every run", () => {
  const a = new bench_random(5);
  const b = new bench_random(5);
  assert.is(a.next(), 1351845);
  b.next();
  assert.equal([a.next(), a.below(10)], [b.next(), b.below(10)]);
});

t.run();
