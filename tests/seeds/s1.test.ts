/**
 * tests/seeds/s1.test.ts - the objections to synchronous metadata in DAX faults (seed list, S1.7 to
 * S1.15), on the models of tools/scenarios, over all schedules.
 */
import { bit_lock, lock_class } from "../../kernel/locking/locks.ts";
import type { Machine } from "../../tools/api/machine.ts";
import type { scenario } from "../../tools/api/scenario.ts";
import { dpor_explorer } from "../../tools/explore/dpor.ts";
import { explore } from "../../tools/explore/explore.ts";
import { run_once } from "../../tools/explore/run.ts";
import { tell } from "../../tools/explore/story.ts";
import { listen_to_locks } from "../../tools/explore/touch.ts";
import d1 from "../../tools/scenarios/d1.ts";
import d16 from "../../tools/scenarios/d16.ts";
import { model, outcomes_of, turn } from "../lib/explore.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("seeds/s1");
const FAULT_FIRST = "mmap_lock > &journal->j_checkpoint_mutex";

/** Lock orders seen in any schedule, "a > b". */
async function orders_of(s: scenario, switches: string[]): Promise<Set<string>> {
  const orders = new Set<string>();
  const on_boot = (m: Machine | Parameters<typeof listen_to_locks>[0]): void => {
    listen_to_locks(m, {
      acquired: (task, lock) => {
        for (const h of task.held.slice(0, task.held_depth)) {
          if (h.lock !== lock) orders.add(`${h.lock!.lock_name} > ${lock.lock_name}`);
        }
      },
      contended() {},
      released() {},
    });
  };
  const e = new dpor_explorer();
  for (let n = 0; e.begin(n); n++) await run_once(s, e, { switches, turn, on_boot });
  assert.ok(e.complete());
  return orders;
}

async function verdict_of(s: scenario, switches: string[]): Promise<string> {
  const r = await explore(s, { strategy: "dpor", switches, turn });
  return r.findings[0]?.verdict ?? (r.complete ? "ok" : "incomplete");
}

t("S1.7 the naive form puts the checkpoint inside and outside mmap_lock: a cycle", async () => {
  const orders = await orders_of(d16, []);
  for (const edge of [
    FAULT_FIRST,
    "&journal->j_checkpoint_mutex > page lock",
    "page lock > mmap_lock",
  ]) {
    assert.ok(orders.has(edge), `no ${edge} in ${[...orders].join(", ")}`);
  }
  const r = await explore(d16, { strategy: "dpor", turn });
  assert.is(r.findings[0]!.verdict, "deadlock");
  const waits = r.findings[0]!.outcome.report!.tasks.map((task) => task.comm).sort();
  assert.equal(waits, ["fault", "mmap", "write"]);
});

t("S1.8 without a checkpoint in the fault the graph has no edge from mmap_lock to it", async () => {
  const orders = await orders_of(d16, ["no-checkpoint"]);
  assert.not(orders.has(FAULT_FIRST));
  assert.ok(orders.has("page lock > mmap_lock"));
  assert.is(await verdict_of(d16, ["no-checkpoint"]), "ok");
});

t("S1.9 a fault retried outside mmap_lock has its checkpoint, and not that edge", async () => {
  const orders = await orders_of(d16, ["retry"]);
  assert.not(orders.has(FAULT_FIRST));
  assert.ok(orders.has("&journal->j_checkpoint_mutex > page lock"));
  assert.is(await verdict_of(d16, ["retry"]), "ok");
});

t(
  "S1.11 ordered-mode commit: two tasks, the page lock and the commit, in the fewest switches",
  async () => {
    const r = await explore(d1, { strategy: "dpor", turn });
    const [f] = r.findings;
    assert.is(f!.verdict, "deadlock");
    assert.ok(f!.minimal);
    assert.is(f!.outcome.switches, 2);
    const { story } = await tell(d1, f!.outcome.choices, {
      turn,
      stacks: true,
      stop_at_report: true,
    });
    assert.equal(
      story.chapters.map((c) => c.comm),
      ["write", "jbd2/pmem0-8"],
    );
    const { cycle, tasks } = story.report!;
    assert.is(cycle.length, 2);
    const by_name = new Map(tasks.map((task) => [task.comm, task]));
    const write = by_name.get("write")!;
    const commit = by_name.get("jbd2/pmem0-8")!;
    assert.is(write.waits!.lock, "commit");
    assert.equal(
      write.holds.map((h) => `${h.lock} of ${h.label}`),
      [
        "&inode->i_rwsem of A",
        "page lock of page 0 of A",
        "mmap_lock of mm of write",
        "mapping.invalidate_lock of B",
      ],
    );
    assert.is(`${commit.waits!.lock} of ${commit.waits!.label}`, "page lock of page 0 of A");
    const chain =
      /mpage_prepare_extent_to_map .* < ext4_writepages .* < journal_submit_data_buffers .* < \S*jbd2_journal_commit_transaction /;
    assert.match(commit.waits!.site!.replaceAll("journal_model.", ""), chain);
    assert.match(write.waits!.site!, /jbd2_log_wait_commit .* < dax_fault .* < ext4_file_write /);
  },
);

t("S1.12 with the source faulted in before the page lock no schedule hangs", async () => {
  assert.is(await verdict_of(d1, ["prefault"]), "ok");
});

t("S1.13 ablation: without mmap_lock it still hangs", async () => {
  assert.is(await verdict_of(d1, ["no-mmap-lock"]), "deadlock");
});
t("S1.13 ablation: without the page lock it does not", async () => {
  assert.is(await verdict_of(d1, ["no-page-lock"]), "ok");
});

t("S1.14 a metadata page locked under a data page is no deadlock in any schedule", async () => {
  const PAGE_LOCK = lock_class("page lock");
  const s = model(async (m) => {
    const metadata = new bit_lock(m, PAGE_LOCK, "page 7 of the block device");
    for (const name of ["a", "b"]) {
      const data = new bit_lock(m, PAGE_LOCK, `page 0 of ${name}`);
      m.spawn(m.kernel, `read ${name}`, async () => {
        await data.lock();
        await metadata.lock();
        metadata.unlock();
        data.unlock();
      });
    }
    await m.run();
    return "read";
  });
  const { outcomes, result } = await outcomes_of(s);
  assert.equal(outcomes, ["read"]);
  assert.ok(result.complete && result.runs > 1);
});

t("S1.15 a fault that syncs without the page lock does not hang", async () => {
  assert.is(await verdict_of(d1, ["drop-page-lock"]), "ok");
});

t.run();
