/**
 * `daxlab locks`: every lock and every step is in each of its forms. `run --lockdep`: a report is
 * made again with stacks.
 */
import { lock_class, rw_semaphore } from "../../kernel/locking/locks.ts";
import { known_classes, order_skeleton } from "../../kernel/locking/order.ts";
import {
  order_dot,
  order_json,
  order_ranks,
  order_svg,
  order_text,
} from "../../tools/cli/locks_draw.ts";
import type { Machine } from "../../tools/api/machine.ts";
import { run_reported, scenario } from "../../tools/api/scenario.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/locks");
const classes = known_classes();
const rules = order_skeleton();

t("the text names each lock at the start of a line and each step with its reason", () => {
  const lines = order_text().split("\n");
  for (const c of classes) {
    assert.ok(
      lines.some((l) => l === c || l.startsWith(`${c}  (`)),
      c,
    );
  }
  for (const r of rules) {
    assert.ok(
      lines.some((l) => l.startsWith(`    > ${r.inner} `) && l.endsWith(r.why)),
      `${r.outer} > ${r.inner}`,
    );
  }
});

t("a lock stands deeper than every lock it may be taken under", () => {
  const ranks = order_ranks();
  for (const r of rules) {
    if (r.outer === "dax_srcu") continue;
    assert.ok(ranks.get(r.outer)! < ranks.get(r.inner)!, `${r.outer} > ${r.inner}`);
  }
});

t("the graph has a node or edge for each", () => {
  const dot = order_dot();
  assert.match(dot, /^digraph lock_order \{\n/);
  for (const c of classes) assert.ok(dot.includes(`"${c}"`), c);
  assert.is(dot.match(/ -> /g)?.length, rules.length);
});

t("the drawing is well formed, and boxes of one row do not overlap", () => {
  const svg = order_svg();
  assert.is(svg.match(/<rect /g)?.length, classes.length);
  assert.is(svg.match(/<path d="M[^"]*" marker-end/g)?.length, rules.length);
  assert.is(svg.match(/<g>/g)?.length, svg.match(/<\/g>/g)?.length);
  assert.not.match(svg, /&(?!amp;|lt;|gt;)|NaN|undefined/);
  const rows = new Map<string, [number, number][]>();
  for (const m of svg.matchAll(/<rect x="([\d.-]+)" y="([\d.]+)" width="([\d.]+)"/g)) {
    const row = rows.get(m[2]!) ?? [];
    row.push([Number(m[1]), Number(m[1]) + Number(m[3])]);
    rows.set(m[2]!, row);
  }
  for (const row of rows.values()) {
    row.sort((a, b) => a[0] - b[0]);
    for (let i = 1; i < row.length; i++) assert.ok(row[i]![0] >= row[i - 1]![1], String(row));
    assert.ok(row[0]![0] >= 0);
  }
});

t("the JSON says what may be taken inside each lock", () => {
  const json = JSON.parse(JSON.stringify(order_json())) as {
    classes: { name: string; inside: string[]; unseen: boolean }[];
  };
  const of = (name: string) => json.classes.find((c) => c.name === name)!;
  assert.ok(of("&inode->i_rwsem").inside.includes("&mm->mmap_lock"));
  assert.not.ok(of("&mm->mmap_lock").inside.includes("&inode->i_rwsem"));
  assert.is(of("&page->lock").unseen, true);
});

/** One task that takes mmap_lock and then i_rwsem. */
const inverted = scenario({ bare: true, lockdep: true }, async (m) => {
  const i_rwsem = new rw_semaphore(m, lock_class("&inode->i_rwsem"));
  const mmap_lock = new rw_semaphore(m, lock_class("mmap_lock"));
  m.spawn(m.kernel, "java", async function munmap() {
    await mmap_lock.down_write();
    await i_rwsem.down_read();
    i_rwsem.up_read();
    mmap_lock.up_write();
  });
  await m.run();
});

t("a scenario with a report runs again with stacks", async () => {
  const machines: Machine[] = [];
  const { machine } = await run_reported(inverted, (m) => void machines.push(m));
  assert.is(machines.length, 2);
  assert.is(machine, machines[1]);
  const r = machine.lockdep!.reports[0]!;
  assert.is(r.bug, "circular");
  assert.match(r.holds[0]!.site ?? "", /munmap \(tests\/tools\/locks\.test\.ts:\d+\)/);
  assert.match(machine.dmesg(), /WARNING: lockdep/);
  const off = await run_reported(inverted, null, { lockdep: false });
  assert.is(off.machine.lockdep, null);
});

t("who listens before lockdep hears on after its first report", async () => {
  const heard: string[] = [];
  const twice = scenario({ bare: true, lockdep: true }, async (m) => {
    const dep = m.lockdep!;
    const acquire = dep.acquire.bind(dep);
    dep.acquire = (task, lock, mode, sub, tried) => {
      heard.push(lock.lock_name);
      acquire(task, lock, mode, sub, tried);
    };
    await inverted.body(m, new Set());
    assert.is(dep.reports.length, 1);
    await inverted.body(m, new Set());
    assert.is(dep.reports.length, 1);
  });
  await run_reported(twice, null, { stacks: true });
  assert.equal(heard, ["mmap_lock", "&inode->i_rwsem", "mmap_lock", "&inode->i_rwsem"]);
});

t.run();
