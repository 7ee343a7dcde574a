/**
 * Against an oracle that knows nothing of graphs: sets of tasks, each holding one lock and wanting
 * another, by the table of who blocks whom. Some set of them is stuck if and only if lockdep
 * reports, whatever the order in which it sees them.
 */
import { Kernel } from "../../kernel/kernel.ts";
import { lock_class, lock_map } from "../../kernel/locking/locks.ts";
import { Machine } from "../../kernel/machine.ts";
import { Random } from "../../kernel/random.ts";
import { assert, long_tests, suite } from "../lib/suite.ts";

const t = suite("kernel/lockdep-property");

type mode = "W" | "r" | "R";
const MODES: readonly mode[] = ["W", "r", "R"];

/** Who holds (row) makes whom (column) wait; a writer may be queued behind an r or R. */
const BLOCKS: Readonly<Record<mode, Readonly<Record<mode, boolean>>>> = {
  W: { W: true, r: true, R: true },
  r: { W: true, r: true, R: false },
  R: { W: true, r: true, R: false },
};

interface chain {
  holds: number;
  held: mode;
  wants: number;
  wanted: mode;
}

const NR_LOCKS = 4;

function random_chain(r: Random): chain {
  const holds = r.below(NR_LOCKS);
  const wants = (holds + 1 + r.below(NR_LOCKS - 1)) % NR_LOCKS;
  return { holds, held: MODES[r.below(3)]!, wants, wanted: MODES[r.below(3)]! };
}

/** Is there a circle of tasks, each of another chain, each blocked by the next? */
function stuck(chains: readonly chain[], path: readonly chain[] = []): boolean {
  const blocked = (c: chain, by: chain): boolean =>
    c.wants === by.holds && BLOCKS[by.held][c.wanted];
  const last = path.at(-1);
  if (last !== undefined && path.length > 1 && blocked(last, path[0]!)) return true;
  return chains.some(
    (c) =>
      !path.includes(c) && (last === undefined || blocked(last, c)) && stuck(chains, [...path, c]),
  );
}

function take(l: lock_map, m: mode): void {
  if (m === "W") l.acquire();
  else if (m === "r") l.acquire_read();
  else l.acquire_read_recursive();
}

/** What lockdep says after it has seen each chain run once, alone. */
function reported(chains: readonly chain[]): boolean {
  const m = new Machine({ lockdep: { order: false, sites: false } });
  const k = new Kernel(m);
  const locks = Array.from({ length: NR_LOCKS }, (_, i) => new lock_map(m, lock_class(`${i}`)));
  void m.in_task(k, "prober", () => {
    for (const c of chains) {
      take(locks[c.holds]!, c.held);
      take(locks[c.wants]!, c.wanted);
      locks[c.wants]!.release();
      locks[c.holds]!.release();
    }
  });
  return m.lockdep!.reports.length > 0;
}

function text(chains: readonly chain[]): string {
  return chains.map((c) => `${c.held}${c.holds} ${c.wanted}${c.wants}`).join(", ");
}

function shuffled(chains: readonly chain[], r: Random): chain[] {
  const out = [...chains];
  for (let i = out.length - 1; i > 0; i--) {
    const j = r.below(i + 1);
    [out[i], out[j]] = [out[j]!, out[i]!];
  }
  return out;
}

t("lockdep reports exactly the chains that can block each other in a circle", () => {
  const r = new Random(7);
  const runs = long_tests ? 60_000 : 4_000;
  let yes = 0;
  for (let i = 0; i < runs; i++) {
    const chains = Array.from({ length: 2 + r.below(5) }, () => random_chain(r));
    const expected = stuck(chains);
    if (expected) yes++;
    assert.is(reported(chains), expected, text(chains));
    assert.is(reported(shuffled(chains, r)), expected, `shuffled ${text(chains)}`);
  }
  assert.ok(yes > runs / 10 && yes < (runs * 9) / 10, `${yes} of ${runs} can deadlock`);
});

t("one edge of another kind makes a circle of recursive reads strong", () => {
  const weak: chain[] = [
    { holds: 0, held: "W", wants: 1, wanted: "R" },
    { holds: 1, held: "r", wants: 2, wanted: "R" },
    { holds: 2, held: "W", wants: 0, wanted: "W" },
  ];
  assert.is(stuck(weak), false);
  assert.is(reported(weak), false);
  for (const [i, change] of [
    [0, { wanted: "r" }],
    [0, { wanted: "W" }],
    [1, { held: "W" }],
  ] as const) {
    const strong = weak.map((c, j) => (i === j ? { ...c, ...change } : c));
    assert.is(stuck(strong), true, text(strong));
    assert.is(reported(strong), true, text(strong));
  }
});

t("a class reached by recursive reads only is looked at again when it is reached otherwise", () => {
  // 3 leads to 0 weakly by one step and strongly by two; only the strong way closes the circle.
  const chains: chain[] = [
    { holds: 3, held: "W", wants: 0, wanted: "R" },
    { holds: 3, held: "W", wants: 1, wanted: "W" },
    { holds: 1, held: "W", wants: 0, wanted: "W" },
    { holds: 0, held: "r", wants: 2, wanted: "W" },
    { holds: 2, held: "W", wants: 3, wanted: "W" },
  ];
  assert.is(stuck(chains), true);
  assert.is(reported(chains), true);
});

t.run();
