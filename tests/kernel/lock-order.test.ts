/**
 * Every pair of locks that a test workload nests is in the table of the lock order, and no order
 * that it makes could deadlock: over all recorded cases, and over processes that run at random.
 */
import { readFileSync } from "node:fs";
import { O_CREAT, O_RDWR } from "../../kernel/include/fcntl.ts";
import { MAP_SHARED, PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import type { Lockdep } from "../../kernel/locking/lockdep.ts";
import {
  known_after,
  known_classes,
  order_name,
  order_rules,
  order_skeleton,
  order_verdict,
  recursive_classes,
} from "../../kernel/locking/order.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import { Machine } from "../../tools/api/machine.ts";
import type { Process } from "../../tools/api/process.ts";
import { read_cases } from "../../tools/cli/files.ts";
import type { scenario } from "../../tools/api/scenario.ts";
import { run_once } from "../../tools/explore/run.ts";
import { random_explorer } from "../../tools/explore/strategies.ts";
import poison_fault from "../../tools/scenarios/poison-fault.ts";
import poison_holder from "../../tools/scenarios/poison-holder.ts";
import poison_poison from "../../tools/scenarios/poison-poison.ts";
import poison_remove from "../../tools/scenarios/poison-remove.ts";
import poison_truncate from "../../tools/scenarios/poison-truncate.ts";
import { run_script } from "../../tools/script/run.ts";
import { turn } from "../lib/explore.ts";
import { repo_path } from "../lib/paths.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("kernel/lock-order");

/** Findings of a run: pairs outside the table, and what lockdep reported. */
function findings(dep: Lockdep): string[] {
  const out: string[] = [];
  for (const e of dep.order_seen()) {
    const verdict = order_verdict(e.outer, e.inner);
    if (verdict === "allowed") continue;
    const what = verdict === "forbidden" ? "is not allowed" : "lacks a class in order.ts";
    out.push(`${e.outer} -> ${e.inner} ${what}, by ${e.by} at ${e.site}`);
  }
  return [...out, ...dep.reports.map((r) => r.text)];
}

t("the table has no circle", () => {
  for (const c of known_classes()) {
    if (!recursive_classes.includes(c)) assert.not.ok(known_after(c)!.has(c), c);
  }
});

t("the drawing leaves out only what other steps imply", () => {
  const reached = (from: string): Set<string> => {
    const out = new Set<string>();
    const queue = [from];
    for (const at of queue) {
      for (const r of order_skeleton()) {
        if (r.outer !== at || out.has(r.inner)) continue;
        out.add(r.inner);
        if (!recursive_classes.includes(r.inner)) queue.push(r.inner);
      }
    }
    return out;
  };
  for (const r of order_rules) assert.ok(reached(r.outer).has(r.inner), `${r.outer} ${r.inner}`);
});

t("the orders of the facts hold", () => {
  const chains = [
    "sb_writers &inode->i_rwsem &mm->mmap_lock sb_pagefaults mapping.invalidate_lock sb_internal",
    "sb_writers &type->s_umount_key",
    "mapping.invalidate_lock &page->lock &mapping->i_mmap_rwsem &anon_vma->rwsem",
    "&anon_vma->rwsem tasklist_lock &mm->page_table_lock &xa->xa_lock",
    "mapping.invalidate_lock jbd2_handle &page->lock &ei->i_data_sem",
    "&sbi->s_writepages_rwsem jbd2_handle",
    "mapping.invalidate_lock dax_entry &mapping->i_mmap_rwsem &mm->page_table_lock",
    "jbd2_handle dax_entry",
    "&page->lock &xfs_nondir_ilock_class",
    "mf_mutex dax_entry &mapping->i_mmap_rwsem tasklist_lock &mm->page_table_lock",
    "&dev->mutex &nvdimm_bus->reconfig_mutex &bb->lock",
    "&type->s_umount_key &dax_dev->holder_rwsem dax_entry",
    "&journal->j_state_lock &jh->b_state_lock &journal->j_list_lock bh_journal_head",
  ];
  for (const chain of chains) {
    const names = chain.split(" ");
    for (let i = 1; i < names.length; i++) {
      assert.is(order_verdict(names[i - 1]!, names[i]!), "allowed", names.slice(i - 1).join());
      assert.is(order_verdict(names[i]!, names[i - 1]!), "forbidden", names.slice(i - 1).join());
    }
  }
  assert.is(order_verdict("mmap_lock", "&inode->i_rwsem"), "forbidden");
  assert.is(order_verdict("jbd2_handle", "fs_reclaim"), "forbidden");
  assert.is(order_verdict("mapping.invalidate_lock", "mmap_sem"), "forbidden");
  for (const outer of ["sb_writers", "mmap_lock", "&inode->i_rwsem", "dax_srcu", "dax_entry"]) {
    assert.is(order_verdict(outer, "mf_mutex"), "forbidden", "memory failure is outermost");
  }
  assert.is(order_verdict("&xa->xa_lock", "&foo->lock"), "unknown");
  assert.is(order_name("&inode->i_rwsem/4"), "&inode->i_rwsem");
});

// ------------------------------------------------------------------ recorded cases

const listed = new Set(
  readFileSync(repo_path("tests/conformance/passing.txt"), "utf8").split("\n"),
);
const cases = read_cases([repo_path("tests/conformance/cases")]).filter((c) => listed.has(c.name));
const areas = [...new Set(cases.map((c) => c.area))].sort();

for (const area of areas) {
  t(
    `the recorded cases of ${area} keep the order`,
    async () => {
      const bad: string[] = [];
      for (const c of cases.filter((k) => k.area === area)) {
        const r = await run_script(c.script, { lockdep: { keep_going: true } });
        bad.push(...findings(r.machine.lockdep!).map((f) => `${c.name}: ${f}`));
      }
      assert.equal(bad, []);
    },
    { timeout_ms: 120_000 },
  );
}

// ------------------------------------------------------------------ memory failure

const FAILURES = { poison_fault, poison_holder, poison_poison, poison_remove, poison_truncate };

/**
 * Pairs seen in random schedules of a scenario, with those switches with which nothing is wrong.
 */
async function pairs_of(s: scenario, pairs: Set<string>): Promise<void> {
  const options = { ...s.options, lockdep: { keep_going: true, sites: true } };
  const checked = { ...s, options };
  for (const v of s.options.verdicts!) {
    if (v.verdict !== "ok") continue;
    const e = new random_explorer(1);
    for (let i = 0; i < 12; i++) {
      e.begin(i);
      let dep: Lockdep | null = null;
      const on_boot = (m: { lockdep: Lockdep | null }): void => {
        dep = m.lockdep;
      };
      await run_once(checked, e, { switches: v.with, turn, on_boot });
      assert.equal(findings(dep!), [], v.with.join());
      for (const x of (dep as unknown as Lockdep).order_seen()) pairs.add(`${x.outer} ${x.inner}`);
    }
  }
}

t("the failure path keeps the order, and the scenarios reach it", async () => {
  const pairs = new Set<string>();
  for (const s of Object.values(FAILURES)) await pairs_of(s, pairs);
  for (const pair of [
    "mf_mutex dax_srcu",
    "mf_mutex &xa->xa_lock",
    "mf_mutex &mapping->i_mmap_rwsem",
    "dax_srcu &mapping->i_mmap_rwsem",
    "dax_entry &mapping->i_mmap_rwsem",
    "&mapping->i_mmap_rwsem tasklist_lock",
    "&mapping->i_mmap_rwsem &mm->page_table_lock",
    "&type->s_umount_key dax_srcu",
    "dax_srcu &type->s_umount_key",
  ]) {
    assert.ok(pairs.has(pair), `${pair} is not among\n${[...pairs].sort().join("\n")}`);
  }
});

// ------------------------------------------------------------------ processes at random

type step = (p: Process, r: Random, id: number) => Promise<void>;

const SIZE = 5 * 4096;

async function with_file(
  p: Process,
  r: Random,
  fn: (fd: number) => Promise<unknown>,
): Promise<void> {
  const fd = await p.open(`/mnt/d${r.below(2)}/f${r.below(4)}`, O_RDWR | O_CREAT);
  try {
    await fn(fd);
  } finally {
    await p.close(fd);
  }
}

const STEPS: readonly step[] = [
  (p, r) =>
    with_file(p, r, async (fd) => await p.pwrite(fd, new Uint8Array(r.below(SIZE)), r.below(SIZE))),
  (p, r) => with_file(p, r, async (fd) => await p.pread(fd, new Uint8Array(100), r.below(SIZE))),
  (p, r) => with_file(p, r, async (fd) => await p.ftruncate(fd, r.below(SIZE))),
  (p, r) => with_file(p, r, async (fd) => await p.fsync(fd)),
  (p, r) => with_file(p, r, async (fd) => await p.fallocate(fd, 0, r.below(SIZE), 4096)),
  (p, r) =>
    with_file(p, r, async (fd) => {
      const page = new Uint8Array(4096).fill(1);
      await p.pwrite(fd, page, 0);
      const addr = await p.mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      await p.load(addr, 8);
      await p.store(addr + 16, new Uint8Array([1, 2, 3]));
      await p.msync(addr, 4096, 4);
      await p.munmap(addr, 4096);
    }),
  async (p, r) =>
    await p.rename(`/mnt/d${r.below(2)}/f${r.below(4)}`, `/mnt/d${r.below(2)}/f${r.below(4)}`),
  async (p, r) => await p.unlink(`/mnt/d${r.below(2)}/f${r.below(4)}`),
  async (p, r) => await p.link(`/mnt/d0/f${r.below(4)}`, `/mnt/d1/f${r.below(4)}`),
  async (p, r, id) => {
    await p.mkdir(`/mnt/d${r.below(2)}/sub${id}`);
    await p.rmdir(`/mnt/d0/sub${id}`);
  },
  async (p, r) => await p.setxattr(`/mnt/d0/f${r.below(4)}`, "user.a", new Uint8Array(20)),
  async (p) => await p.sync(),
];

/** Errors of the system calls, and signals of a mapping cut short, are answers. */
function is_answer(p: Process, e: unknown): boolean {
  return is_errno(e) || p.is_error(e) || p.signal_of(e) !== null;
}

async function at_random(mount: string, seed: number): Promise<Machine> {
  const strategy = new random_strategy(new Random(seed), seed);
  const lockdep = { keep_going: true, sites: true };
  const m = await Machine.boot({
    seed,
    strategy,
    lockdep,
    pmem: [{ size: "32M", name: "pmem0", mode: "fsdax" }],
  });
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  const init = m.process();
  await init.mount("/dev/pmem0", "/mnt", "ext4", mount);
  await init.mkdir("/mnt/d0");
  await init.mkdir("/mnt/d1");
  for (let id = 0; id < 3; id++) {
    const r = new Random(seed * 10 + id);
    const other = await init.fork(`p${id}`);
    other.spawn(`p${id}`, async (p) => {
      for (let i = 0; i < 40; i++) {
        try {
          await STEPS[r.below(STEPS.length)]!(p, r, id);
        } catch (e) {
          if (!is_answer(p, e)) throw e;
        }
      }
    });
  }
  await m.run();
  await init.umount("/mnt");
  return m;
}

for (const mount of ["dax=always", ""]) {
  t(
    `three processes at random on ext4 ${mount === "" ? "without DAX" : "with DAX"} keep the order`,
    async () => {
      const pairs = new Set<string>();
      for (const seed of [1, 2, 3, 4]) {
        const m = await at_random(mount, seed);
        assert.equal(findings(m.lockdep!), [], `seed ${seed}`);
        for (const e of m.lockdep!.order_seen()) pairs.add(`${e.outer} ${e.inner}`);
      }
      assert.ok(pairs.size > 25, `only ${pairs.size} pairs were seen`);
      assert.ok(pairs.has("&inode->i_rwsem/1 &inode->i_rwsem"), [...pairs].join("\n"));
    },
    { timeout_ms: 120_000 },
  );
}

t.run();
