/**
 * tools/selftest/locking/ww_cells.ts - cells about wound/wait mutexes. Linux: the ww_test_*()
 * functions of lib/locking-selftest.c, events and verdicts only.
 *
 * Another task's hold is played by this task: it takes the object as a plain mutex, puts an older
 * ticket into it and tells lockdep that it let go.
 */
import { EALREADY, EDEADLK } from "../../../kernel/include/errno.ts";
import type { MaybeWait } from "../../../kernel/include/locks.ts";
import type { ww_acquire_ctx, ww_mutex } from "../../../kernel/locking/locks.ts";
import { cell, type cell_body, type locking_row } from "./table.ts";
import type { cell_world } from "./world.ts";

function want(got: unknown, expected: unknown, what: string): void {
  if (got !== expected) throw new Error(`${what}: ${String(got)} instead of ${String(expected)}`);
}

function locked(p: MaybeWait): void {
  if (p !== undefined) throw new Error("an object of a cell had to be waited for");
}

/** ww_mutex_lock() that must take the object. */
function take(o: ww_mutex, ctx: ww_acquire_ctx | null = null): void {
  want(o.ww_lock(ctx), 0, "ww_lock");
}

function take_slow(o: ww_mutex, ctx: ww_acquire_ctx): void {
  want(o.ww_lock_slow(ctx), 0, "ww_lock_slow");
}

function refused(o: ww_mutex, ctx: ww_acquire_ctx): void {
  want(o.ww_lock(ctx), -EDEADLK.errno, "ww_lock");
}

/** A ticket as another task would have it: lockdep sees nothing of it. */
function older(ctx: ww_acquire_ctx): ww_acquire_ctx {
  const copy = Object.create(Object.getPrototypeOf(ctx) as object) as ww_acquire_ctx;
  return Object.assign(copy, ctx, { stamp: ctx.stamp - 1, acquired: 0 });
}

function lend(w: cell_world, ...objects: ww_mutex[]): void {
  for (const o of objects) {
    locked(o.lock());
    w.machine.dep?.release(w.task, o, 0);
  }
}

function give_back(w: cell_world, o: ww_mutex): void {
  o.ctx = null;
  w.machine.dep?.acquire(w.task, o, 0, 0, true);
  o.unlock();
}

/** o is taken with a ticket, o2 (and o3) belong to an older one, o2 answers -EDEADLK. */
function after_deadlock(w: cell_world, ...lent: string[]): ww_acquire_ctx {
  const objects = ["o2", ...lent].map((n) => w.ww(n));
  lend(w, ...objects);
  const ctx = w.ticket();
  for (const o of objects) o.ctx = older(ctx);
  take(w.ww("o"), ctx);
  refused(w.ww("o2"), ctx);
  return ctx;
}

// ------------------------------------------------------------------ the interface

function answers(w: cell_world): void {
  const o = w.ww("o");
  const ctx = w.ticket();
  ctx.stamp++;
  take(o, ctx);
  want(o.ww_lock(ctx), -EALREADY.errno, "ww_lock with the same ticket");
  want(o.ww_trylock(), false, "ww_trylock");
  const younger = older(ctx);
  Object.assign(younger, { stamp: ctx.stamp + 1, acquired: 1 });
  refused(o, younger);
  o.ww_unlock();
  want(o.ww_trylock(), true, "ww_trylock of the free object");
  o.ww_unlock();
}

function plain_calls(w: cell_world): void {
  const o = w.ww("o");
  const ctx = w.ticket();
  const mark = older(ctx);
  const untouched = (): void => want(o.ctx, mark, "the ticket in the object");
  o.ctx = mark;
  for (const lock of [() => o.lock(), () => o.lock_interruptible(), () => o.lock_killable()]) {
    locked(lock());
    o.unlock();
    untouched();
  }
  want(o.trylock(), true, "trylock");
  o.unlock();
  untouched();
  locked(o.lock());
  want(o.trylock(), false, "trylock of a taken object");
  o.unlock();
  untouched();
  locked(o.lock_nest_lock(ctx.map));
  o.unlock();
  untouched();
}

const api: readonly cell_body[] = [answers, plain_calls];

const finishing: readonly cell_body[] = [
  (w) => {
    const ctx = w.ticket();
    ctx.finish_acquire();
    ctx.finish_acquire();
    ctx.fini();
  },
  (w) => {
    const ctx = w.ticket();
    ctx.finish_acquire();
    ctx.fini();
    ctx.fini();
  },
  (w) => {
    const ctx = w.ticket();
    take(w.ww("o"), ctx);
    ctx.finish_acquire();
    ctx.fini();
  },
  (w) => {
    const ctx = w.ticket();
    ctx.finish_acquire();
    take(w.ww("o"), ctx);
  },
];

const mismatches: readonly cell_body[] = [
  (w) => {
    take(w.ww("o"));
    w.ww("o").ww_unlock();
    w.ww("o").ww_unlock();
  },
  (w) => {
    const ctx = w.ticket();
    take(w.ww("o"), ctx);
    ctx.acquired = 0;
    w.ww("o").ww_unlock();
    ctx.fini();
  },
  (w) => {
    const ctx = w.ticket();
    w.ww("o").ctx = older(ctx);
    take(w.ww("o"), ctx);
  },
];

// ------------------------------------------------------------------ after a deadlock answer

type taker = (o: ww_mutex, ctx: ww_acquire_ctx) => void;
const BOTH: readonly taker[] = [take, take_slow];

const drop_all = BOTH.map(
  (again): cell_body =>
    (w) => {
      const ctx = after_deadlock(w);
      give_back(w, w.ww("o2"));
      w.ww("o").ww_unlock();
      again(w.ww("o2"), ctx);
    },
);

const no_drop = BOTH.map(
  (again): cell_body =>
    (w) => {
      const ctx = after_deadlock(w);
      give_back(w, w.ww("o2"));
      again(w.ww("o2"), ctx);
    },
);

const more = [
  ...BOTH.map(
    (next): cell_body =>
      (w) =>
        next(w.ww("o3"), after_deadlock(w)),
  ),
  (w: cell_world) => refused(w.ww("o3"), after_deadlock(w, "o3")),
  (w: cell_world) => void w.ww("o3").ww_lock_slow(after_deadlock(w, "o3")),
];

const wrong = BOTH.map(
  (next): cell_body =>
    (w) => {
      const ctx = after_deadlock(w);
      w.ww("o").ww_unlock();
      next(w.ww("o3"), ctx);
    },
);

// ------------------------------------------------------------------ nesting

function nest_not_held(w: cell_world): void {
  w.spin("A").lock_nest_lock(w.ww("o"));
  w.spin("A").unlock();
}

function nest_held(w: cell_world): void {
  const outer = w.spin("X1");
  outer.lock();
  w.spin("Y1").lock_nest_lock(outer);
  w.spin("A").lock();
  w.spin("Y2").lock_nest_lock(outer);
  w.spin("A").unlock();
  w.spin("Y2").unlock();
  w.spin("Y1").unlock();
  outer.unlock();
}

// ------------------------------------------------------------------ pairs of ways to lock

type way = "block" | "try" | "context";

function take_by(w: cell_world, name: string, how: way, ctx: ww_acquire_ctx | null): void {
  const o = w.ww(name);
  if (how === "block") take(o);
  else if (how === "try") want(o.ww_trylock(), true, "ww_trylock");
  else take(o, ctx ?? w.ticket());
}

function pair_row(first: way, verdicts: Readonly<Record<way, "!" | ".">>): locking_row {
  const body =
    (second: way): cell_body =>
    (w) => {
      const ctx = first === "context" ? w.ticket() : null;
      take_by(w, "o", first, ctx);
      take_by(w, "o2", second, ctx);
      if (second === "block") return;
      if (first === "block" || (first === "try" && second === "context")) return;
      w.ww("o2").ww_unlock();
      w.ww("o").ww_unlock();
    };
  const cells = Object.fromEntries(
    (["block", "try", "context"] as const).map((s) => [s, [cell(verdicts[s], body(s))]]),
  );
  return { name: `first by ${first}`, cells };
}

function spin_row(verdicts: Readonly<Record<way, "!" | ".">>): locking_row {
  const body =
    (how: way): cell_body =>
    (w) => {
      const o = w.ww("o");
      w.held("spin", "A");
      const ctx = how === "context" ? w.ticket() : null;
      take_by(w, "o", how, ctx);
      w.held("spin", "A");
      o.ww_unlock();
      w.held("spin", "A", () => {
        take_by(w, "o", how, ctx);
        o.ww_unlock();
      });
    };
  const cells = Object.fromEntries(
    (["block", "try", "context"] as const).map((s) => [s, [cell(verdicts[s], body(s))]]),
  );
  return { name: "spinlock both ways round", cells };
}

function row(name: string, verdict: "!" | ".", bodies: readonly cell_body[]): locking_row {
  return { name, cells: { ww: bodies.map((b, i) => cell(verdict, b, `${i + 1}`)) } };
}

export const ww_rows: readonly locking_row[] = [
  row("answers; plain calls", ".", api),
  row("slow path without need", "!", [(w) => void w.ww("o").ww_lock_slow(w.ticket())]),
  row("two tickets; another class", "!", [
    (w) => {
      w.ticket();
      w.ticket();
    },
    (w) => {
      const ctx = w.ticket();
      ctx.ww_class = null;
      take(w.ww("o"), ctx);
    },
  ]),
  row("finishing a ticket", "!", finishing),
  row("mismatches", "!", mismatches),
  row("back-off: drop all, again", ".", drop_all),
  row("back-off: nothing dropped", "!", no_drop),
  row("back-off: a third object", "!", more),
  row("back-off: another object", "!", wrong),
  row("nested under a free lock", "!", [nest_not_held]),
  row("nested under a held lock", ".", [nest_held]),
];

export const ww_pair_rows: readonly locking_row[] = [
  pair_row("context", { block: "!", try: ".", context: "." }),
  pair_row("try", { block: "!", try: ".", context: "!" }),
  pair_row("block", { block: "!", try: ".", context: "!" }),
  spin_row({ block: "!", try: ".", context: "!" }),
];
