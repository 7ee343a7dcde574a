/**
 * tools/selftest/locking/other_cells.ts - queued rwlocks, reclaim, wait types, local locks, and the
 * mixed case. Linux: the last part of lib/locking-selftest.c, events and verdicts only.
 */
import { GFP_KERNEL, GFP_NOFS } from "../../../kernel/include/gfp.ts";
import {
  fs_reclaim_acquire,
  fs_reclaim_release,
  memalloc_nofs_restore,
  memalloc_nofs_save,
  might_alloc,
  rcu_read_lock,
  rcu_read_lock_bh,
  rcu_read_lock_sched,
  rcu_read_unlock,
  rcu_read_unlock_bh,
  rcu_read_unlock_sched,
} from "../../../kernel/locking/locks.ts";
import { cell, type cell_body, type locking_row } from "./table.ts";
import type { cell_world } from "./world.ts";

function one(name: string, verdict: "!" | ".", body: cell_body): locking_row {
  return { name, cells: { "": [cell(verdict, body)] } };
}

function spin(w: cell_world, name: string, body: () => void = () => {}): void {
  w.held("spin", name, body);
}
function read(w: cell_world, name: string, body: () => void = () => {}): void {
  w.held("rlock", name, body);
}

export const queued_rows: readonly locking_row[] = [
  one("handler: read, lock; task: lock, read", "!", (w) => {
    w.in_irq("hard", () => read(w, "A", () => spin(w, "B")));
    w.irq_off("hard", () => spin(w, "B", () => read(w, "A")));
  }),
  one("handler: lock, read; task: read, lock", ".", (w) => {
    w.in_irq("hard", () => spin(w, "B", () => read(w, "A")));
    w.irq_off("hard", () => read(w, "A", () => spin(w, "B")));
  }),
  one("handler: lock; task: lock, read; read", "!", (w) => {
    w.in_irq("hard", () => spin(w, "B"));
    w.irq_off("hard", () => spin(w, "B", () => read(w, "A")));
    read(w, "A");
  }),
];

function in_reclaim(w: cell_world, body: () => void): void {
  fs_reclaim_acquire(w.kernel, GFP_KERNEL);
  body();
  fs_reclaim_release(w.kernel, GFP_KERNEL);
}

export const reclaim_rows: readonly locking_row[] = [
  one("reclaim allocates without filesystems", ".", (w) => {
    in_reclaim(w, () => might_alloc(w.kernel, GFP_NOFS));
  }),
  one("reclaim allocates with filesystems", "!", (w) => {
    in_reclaim(w, () => might_alloc(w.kernel, GFP_KERNEL));
  }),
  one("the same in a no-filesystem section", ".", (w) => {
    fs_reclaim_acquire(w.kernel, GFP_KERNEL);
    const old = memalloc_nofs_save(w.kernel);
    might_alloc(w.kernel, GFP_KERNEL);
    memalloc_nofs_restore(w.kernel, old);
    fs_reclaim_release(w.kernel, GFP_KERNEL);
  }),
];

// ------------------------------------------------------------------ wait types

type section = (w: cell_world, body: () => void) => void;

const INNER: Readonly<Record<string, section>> = {
  "RCU read": rcu,
  "raw spin": raw("B"),
  spin: (w, body) => spin(w, "B", body),
  mutex: (w, body) => w.held("mutex", "B", body),
};

function rcu(w: cell_world, body: () => void): void {
  rcu_read_lock(w.kernel);
  body();
  rcu_read_unlock(w.kernel);
}

function raw(name: string): section {
  return (w, body) => {
    w.raw(name).lock();
    body();
    w.raw(name).unlock();
  };
}

function wait_row(name: string, verdicts: string, outer: section): locking_row {
  const names = Object.keys(INNER);
  const body =
    (inner: section): cell_body =>
    (w) =>
      outer(w, () => inner(w, () => {}));
  const cells = names.map((n, i) => [n, [cell(verdicts[i] as "!" | ".", body(INNER[n]!))]]);
  return { name, cells: Object.fromEntries(cells) };
}

export const wait_columns: readonly string[] = Object.keys(INNER);

export const wait_rows: readonly locking_row[] = [
  wait_row("hardirq (threaded)", "...!", (w, body) => w.in_irq("hard", body)),
  wait_row("hardirq (not threaded)", "..!!", (w, body) => w.in_irq("hard", body, false)),
  wait_row("softirq", "...!", (w, body) => w.in_irq("soft", body)),
  wait_row("RCU read", "...!", rcu),
  wait_row("RCU-bh read", "...!", (w, body) => {
    rcu_read_lock_bh(w.kernel);
    body();
    rcu_read_unlock_bh(w.kernel);
  }),
  wait_row("RCU-sched read", "..!!", (w, body) => {
    rcu_read_lock_sched(w.kernel);
    body();
    rcu_read_unlock_sched(w.kernel);
  }),
  wait_row("raw spinlock", "..!!", raw("A")),
  wait_row("spinlock", "...!", (w, body) => spin(w, "A", body)),
  wait_row("mutex", "....", (w, body) => w.held("mutex", "A", body)),
];

// ------------------------------------------------------------------ local locks, mixed

function local(w: cell_world, body: () => void = () => {}): void {
  const lock = w.local("A");
  lock.lock();
  body();
  lock.unlock();
}

/** spinlock A is used in hardirqs; with it held, hardirqs off, the local lock is taken. */
function local_under_irq_safe(w: cell_world): void {
  w.in_irq("hard", () => spin(w, "A"));
  w.irq_off("hard", () => spin(w, "A", () => local(w)));
}

export const local_rows: readonly locking_row[] = [
  one("local lock inversion 2", ".", (w) => {
    local(w);
    local_under_irq_safe(w);
  }),
  one("local lock inversion 3A", ".", (w) => {
    local(w, () => spin(w, "B"));
    local_under_irq_safe(w);
  }),
  one("local lock inversion 3B", "!", (w) => {
    local(w, () => spin(w, "B"));
    local_under_irq_safe(w);
    w.irq_off("hard", () => w.pair("spin", "A", "B"));
  }),
];

export const mixed_rows: readonly locking_row[] = [
  one("hardirq-unsafe, softirq-safe", "!", (w) => {
    // Mutex A is unsafe for both; mutex A -> C.
    w.held("mutex", "A", () => w.irq_off("hard", () => spin(w, "C")));
    // A is hardirq-safe; A -> B -> C.
    w.in_irq("hard", () => spin(w, "A"));
    w.irq_off("hard", () => w.pair("spin", "A", "B"));
    w.irq_off("hard", () => w.pair("spin", "B", "C"));
    // D is softirq-safe and hardirq-unsafe.
    w.in_irq("soft", () => spin(w, "D"));
    w.irq_off("soft", () => spin(w, "D"));
    // C -> D joins hardirq-safe A with hardirq-unsafe D.
    w.irq_off("hard", () => w.pair("spin", "C", "D"));
  }),
];
