/** tests/kernel/xarray.test.ts - the XArray against a model, and what the model does not know. */
import fc from "../lib/property.ts";
import { EBUSY, EINVAL, ENOMEM } from "../../kernel/include/errno.ts";
import { GFP_KERNEL, GFP_NOWAIT, __GFP_DIRECT_RECLAIM } from "../../kernel/include/gfp.ts";
import {
  ULONG_MAX,
  XAS_BOUNDS,
  XAS_RESTART,
  XA_FLAGS_ALLOC,
  XA_LIMIT,
  XA_MARK_0,
  XA_MARK_1,
  XA_MARK_2,
  XA_PRESENT,
  XA_RETRY_ENTRY,
  XA_STATE,
  XA_STATE_ORDER,
  XA_ZERO_ENTRY,
  __xa_store,
  xa_alloc,
  xa_clear_mark,
  xa_cmpxchg,
  xa_destroy,
  xa_dump,
  xa_empty,
  xa_erase,
  xa_err,
  xa_extract,
  xa_find,
  xa_find_after,
  xa_for_each,
  xa_for_each_marked,
  xa_for_each_range,
  xa_get_mark,
  xa_get_order,
  xa_insert,
  xa_is_err,
  xa_is_internal,
  xa_is_sibling,
  xa_is_value,
  xa_load,
  xa_mk_value,
  xa_release,
  xa_reserve,
  xa_set_mark,
  xa_store,
  xa_store_range,
  xarray,
  xas_advance,
  xas_error,
  xas_find,
  xas_find_conflict,
  xas_load,
  xas_lock,
  xas_next,
  xas_next_entry,
  xas_nomem,
  xas_pause,
  xas_prev,
  xas_retry,
  xas_set,
  xas_set_order,
  xas_split,
  xas_split_alloc,
  xas_store,
  xas_unlock,
} from "../../kernel/lib/xarray.ts";
import type { xa_entry } from "../../kernel/lib/xarray.ts";
import { run_xarray_selftest, xarray_checks } from "../../tools/selftest/xarray.ts";
import { assert, suite } from "../lib/suite.ts";
import { check_tree, xarray_model } from "./xarray_model.ts";

const t = suite("kernel/xarray");
const MARKS = [XA_MARK_0, XA_MARK_1, XA_MARK_2];
const SHIFTS = [6, 4, 3] as const;
const RUNS = 150;

function store_order(xa: xarray, index: number, order: number, entry: xa_entry): void {
  const xas = XA_STATE_ORDER(xa, index, order);
  do {
    xas_lock(xas);
    xas_store(xas, entry);
    xas_unlock(xas);
  } while (xas_nomem(xas, GFP_KERNEL));
  assert.is(xas_error(xas), 0);
}

// ---- the kernel's suite: what is quick, with each node size and with failing allocation

/** Each takes seconds; tests/kernel/xarray-selftest.test.ts runs them. */
const SLOW = new Set(["check_xa_mark", "check_get_order", "check_xas_get_order", "check_find"]);
SLOW.add("check_store_iter").add("check_create_range").add("check_store_range").add("check_move");

for (const { name } of xarray_checks.filter((check) => !SLOW.has(check.name))) {
  t(`${name} of the kernel's suite passes with 64, 16 and 8 slots`, () => {
    for (const chunk_shift of SHIFTS) {
      for (const failing_alloc of [false, true]) {
        const r = run_xarray_selftest({ chunk_shift, failing_alloc }, undefined, (n) => n === name);
        assert.equal(r.failures, []);
        assert.ok(r.run > 0);
      }
    }
  });
}

// ---- against the model

/** What a walk yields; a walk that does not end fails instead of filling the memory. */
function all<T>(walk: Iterable<T>): T[] {
  const out: T[] = [];
  for (const item of walk) {
    out.push(item);
    if (out.length > 5000) throw new Error(`the walk does not end: ${JSON.stringify(item)}`);
  }
  return out;
}

type op =
  | { op: "store"; index: number; order: number; value: number | null }
  | { op: "plain"; index: number; value: number | null }
  | { op: "mark"; index: number; mark: number; on: boolean };

const SPAN = 700;
/** Half of them near each other, so that small entries meet as often as large ones. */
const index_arb = fc.oneof(fc.nat(SPAN - 1), fc.nat(20));
const value_arb = fc.option(fc.nat(0x7fffffff), { freq: 4 });
const op_arb: fc.Arbitrary<op> = fc.oneof(
  fc.record({
    op: fc.constant("store" as const),
    index: index_arb,
    order: fc.nat(9),
    value: value_arb,
  }),
  fc.record({ op: fc.constant("plain" as const), index: index_arb, value: value_arb }),
  fc.record({
    op: fc.constant("mark" as const),
    index: index_arb,
    mark: fc.constantFrom(...MARKS),
    on: fc.boolean(),
  }),
);
/** Where the indices begin: small, across bit 31, and where a double just holds them. */
const base_arb = fc.constantFrom(0, 0, 2 ** 31 - 512, 2 ** 40, 2 ** 48 - 512, 2 ** 52);

function apply(xa: xarray, model: xarray_model, base: number, o: op): void {
  const index = base + o.index;
  if (o.op === "mark") {
    if (o.on) xa_set_mark(xa, index, o.mark);
    else xa_clear_mark(xa, index, o.mark);
    model.mark(index, o.mark, o.on);
  } else if (o.op === "plain") {
    const old = o.value === null ? xa_erase(xa, index) : xa_store(xa, index, o.value, GFP_KERNEL);
    assert.is(old, model.load(index));
    model.store(index, 0, o.value);
  } else {
    store_order(xa, index, o.order, o.value);
    model.store(index, o.order, o.value);
  }
}

function compare(xa: xarray, model: xarray_model, base: number): void {
  check_tree(xa);
  for (let index = base; index < base + SPAN + 8; index++) {
    const cell = model.cell(index);
    assert.is(xa_load(xa, index), cell?.value ?? null);
    assert.is(xas_load(XA_STATE(xa, index)), cell?.value ?? null);
    assert.is(xa_get_order(xa, index), Math.log2(cell?.size ?? 1));
    for (const m of MARKS) assert.is(xa_get_mark(xa, index, m), cell?.marks.has(m) ?? false);
  }
  const cells = model.cells();
  assert.equal(
    all(xa_for_each(xa)),
    cells.map((c) => [c.first, c.value]),
  );
  for (const m of MARKS) {
    const marked = cells.filter((c) => c.marks.has(m));
    assert.equal(
      all(xa_for_each_marked(xa, m)),
      marked.map((c) => [c.first, c.value]),
    );
  }
}

const run_arb = fc.record({
  chunk_shift: fc.constantFrom(...SHIFTS),
  base: base_arb,
  ops: fc.array(op_arb, { maxLength: 60 }),
});

t("stores, erases and marks of any order leave what a map of cells holds", () => {
  fc.assert(
    fc.property(run_arb, ({ chunk_shift, base, ops }) => {
      const xa = new xarray({ chunk_shift });
      const model = new xarray_model();
      for (const o of ops) {
        apply(xa, model, base, o);
        check_tree(xa);
      }
      compare(xa, model, base);
      xa_destroy(xa);
      assert.ok(xa_empty(xa));
    }),
    { numRuns: 2 * RUNS },
  );
});

t("with an allocator that refuses now and then the result is the same", () => {
  const arb = fc.tuple(run_arb, fc.infiniteStream(fc.boolean()));
  fc.assert(
    fc.property(arb, ([{ chunk_shift, base, ops }, dice]) => {
      const alloc = (gfp: number): boolean =>
        (gfp & __GFP_DIRECT_RECLAIM) !== 0 || (dice.next().value as boolean);
      const xa = new xarray({ chunk_shift, alloc });
      const model = new xarray_model();
      for (const o of ops) apply(xa, model, base, o);
      compare(xa, model, base);
    }),
    { numRuns: RUNS },
  );
});

const search_arb = fc.record({
  ...{ index: index_arb, span: index_arb, order: fc.nat(9) },
  mark: fc.constantFrom(...MARKS, XA_PRESENT),
});

t("xa_find and xa_find_after find the covering cell or the next, up to the limit", () => {
  fc.assert(
    fc.property(run_arb, search_arb, ({ chunk_shift, base, ops }, q) => {
      const xa = new xarray({ chunk_shift });
      const model = new xarray_model();
      for (const o of ops) apply(xa, model, base, o);
      const index = base + q.index;
      const max = index + q.span;
      const cells = model
        .within(index, q.span + 1)
        .filter((c) => q.mark === XA_PRESENT || c.marks.has(q.mark));
      const at = { val: index };
      assert.is(xa_find(xa, at, max, q.mark), cells[0]?.value ?? null);
      const cell = cells[0];
      if (cell) assert.ok(at.val >= cell.first && at.val < cell.first + cell.size);
      const after = { val: index };
      const next = cells.find((c) => c.first > index);
      assert.is(xa_find_after(xa, after, max, q.mark), next?.value ?? null);
      assert.is(after.val, next?.first ?? index);
      const out: (number | object)[] = [];
      assert.is(xa_extract(xa, out, index, max, 3, q.mark), Math.min(3, cells.length));
      assert.equal(
        out,
        cells.slice(0, 3).map((c) => c.value),
      );
    }),
    { numRuns: 3 * RUNS },
  );
});

t("xas_find_conflict gives exactly the cells a store would replace", () => {
  fc.assert(
    fc.property(run_arb, search_arb, ({ chunk_shift, base, ops }, q) => {
      const xa = new xarray({ chunk_shift });
      const model = new xarray_model();
      for (const o of ops) apply(xa, model, base, o);
      const xas = XA_STATE_ORDER(xa, base + q.index, q.order);
      const want = model.within(xas.xa_index, 2 ** q.order);
      const got: xa_entry[] = [];
      for (let e = xas_find_conflict(xas); e !== null; e = xas_find_conflict(xas)) got.push(e);
      assert.equal(
        got,
        want.map((c) => c.value),
      );
      // The cursor stands where the store goes.
      xas_store(xas, 77);
      model.store(base + q.index, q.order, 77);
      compare(xa, model, base);
    }),
    { numRuns: RUNS },
  );
});

t("single steps see every index once, forward and back", () => {
  fc.assert(
    fc.property(run_arb, ({ chunk_shift, base, ops }) => {
      const xa = new xarray({ chunk_shift });
      const model = new xarray_model();
      for (const o of ops) apply(xa, model, base, { ...o, order: 0 } as op);
      const xas = XA_STATE(xa, base);
      for (let i = 0; i < SPAN; i++) {
        assert.is(xas_next(xas), model.load(base + i));
        assert.is(xas.xa_index, base + i);
      }
      for (let i = SPAN - 2; i >= 0; i--) {
        assert.is(xas_prev(xas), model.load(base + i));
        assert.is(xas.xa_index, base + i);
      }
    }),
    { numRuns: RUNS },
  );
});

t("a walk with pauses meets every cell once, though the tree changes in the pauses", () => {
  fc.assert(
    fc.property(run_arb, fc.nat(4), ({ chunk_shift, base, ops }, every) => {
      const xa = new xarray({ chunk_shift });
      const model = new xarray_model();
      for (const o of ops) apply(xa, model, base, o);
      const want = model.cells().map((c) => c.value);
      const seen: xa_entry[] = [];
      const xas = XA_STATE(xa, 0);
      for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) {
        seen.push(e);
        if (seen.length % (every + 1) !== 0) continue;
        const first = model.cells().find((c) => c.value === e)!.first;
        xas_pause(xas);
        // Gone is what has been seen; the tree may shrink or lose nodes.
        if (base === 0) xa_erase(xa, first);
      }
      assert.equal(seen, want);
    }),
    { numRuns: RUNS },
  );
});

t("xa_store_range covers exactly its range, and a null range empties it", () => {
  const arb = fc.tuple(fc.constantFrom(...SHIFTS), base_arb, fc.nat(5000), fc.nat(70000));
  fc.assert(
    fc.property(arb, ([chunk_shift, base, from, length]) => {
      const xa = new xarray({ chunk_shift });
      const first = base + from;
      const last = first + length;
      assert.is(xa_store_range(xa, first, last, 5, GFP_KERNEL), null);
      // Room is made for the aligned block that ends the range: the root may be higher than need
      // be.
      check_tree(xa, false);
      for (const index of [first, last, first + Math.floor(length / 2)]) {
        assert.is(xa_load(xa, index), 5);
      }
      if (first > 0) assert.is(xa_load(xa, first - 1), null);
      assert.is(xa_load(xa, last + 1), null);
      // The pieces are as long as they say and leave no gap.
      let next = first;
      for (const [index] of xa_for_each(xa)) {
        assert.is(index, next);
        const xas = XA_STATE(xa, index);
        xas_load(xas);
        xas_pause(xas);
        next = xas.xa_index;
      }
      assert.is(next, last + 1);
      xa_store_range(xa, first, last, null, GFP_KERNEL);
      assert.ok(xa_empty(xa));
    }),
    { numRuns: 2 * RUNS },
  );
});

t("xa_store_range may go up to the last index of all", () => {
  for (const chunk_shift of SHIFTS) {
    const xa = new xarray({ chunk_shift });
    for (const first of [0, 5, 2 ** 52]) {
      assert.is(xa_store_range(xa, first, ULONG_MAX, 9, GFP_KERNEL), null);
      for (const index of [first, 2 ** 53, 2n ** 63n + 1n, ULONG_MAX]) {
        assert.is(xa_load(xa, index), 9, `${index}`);
      }
      if (first > 0) assert.is(xa_load(xa, first - 1), null);
      xa_store_range(xa, first, ULONG_MAX, null, GFP_KERNEL);
      assert.ok(xa_empty(xa));
    }
    assert.is(xa_err(xa_store_range(xa, 5, 4, 9, GFP_KERNEL)), -EINVAL.errno);
  }
});

// ---- split

t("a split entry has parts of the new order, each with the marks of the old", () => {
  const arb = fc.record({
    chunk_shift: fc.constantFrom(...SHIFTS),
    order: fc.integer({ min: 1, max: 11 }),
    new_order: fc.nat(10),
    nth: fc.nat(3),
    marks: fc.subarray(MARKS),
    pointer: fc.boolean(),
  });
  fc.assert(
    fc.property(arb, ({ chunk_shift: cs, order, new_order, nth, marks, pointer }) => {
      fc.pre(new_order < order && Math.floor(order / cs) - Math.floor(new_order / cs) <= 1);
      const xa = new xarray({ chunk_shift: cs });
      const first = nth * 2 ** order;
      const entry = pointer ? { folio: 1 } : 1;
      store_order(xa, first, order, entry);
      for (const m of marks) xa_set_mark(xa, first, m);
      const xas = XA_STATE_ORDER(xa, first, new_order);
      xas_split_alloc(xas, entry, order, GFP_KERNEL);
      assert.is(xas_error(xas), 0);
      xas_split(xas, entry, order);
      assert.is(xas.xa_alloc, null);
      check_tree(xa, false);
      for (let index = first; index < first + 2 ** order; index++) {
        assert.is(xa_load(xa, index), entry);
        assert.is(xa_get_order(xa, index), new_order);
        for (const m of MARKS) assert.is(xa_get_mark(xa, index, m), marks.includes(m));
      }
      assert.is(all(xa_for_each(xa)).length, 2 ** (order - new_order));
      for (const m of marks) {
        assert.is(all(xa_for_each_marked(xa, m)).length, 2 ** (order - new_order));
      }
      // The parts are entries of their own.
      __xa_store(xa, first, 2, 0);
      assert.is(xa_load(xa, first + 2 ** new_order - 1), 2);
      assert.is(xa_load(xa, first + 2 ** new_order), entry);
    }),
    { numRuns: 3 * RUNS },
  );
});

t("a split over two levels is refused, and so is one without memory", () => {
  const xa = new xarray({ alloc: (gfp) => (gfp & __GFP_DIRECT_RECLAIM) !== 0 });
  store_order(xa, 0, 12, 1);
  const two_levels = XA_STATE_ORDER(xa, 0, 0);
  xas_split_alloc(two_levels, 1, 12, GFP_KERNEL);
  assert.is(xas_error(two_levels), -ENOMEM.errno);
  const poor = XA_STATE_ORDER(xa, 0, 6);
  xas_split_alloc(poor, 1, 12, GFP_NOWAIT);
  assert.is(xas_error(poor), -ENOMEM.errno);
  xas_split(poor, 1, 12);
  assert.is(xa_get_order(xa, 0), 12);
});

// ---- ids

t("ids are the lowest free ones, whatever was erased, released or stored before", () => {
  const step = fc.record({ what: fc.nat(3), id: fc.nat(150) });
  fc.assert(
    fc.property(fc.constantFrom(...SHIFTS), fc.array(step, { maxLength: 200 }), (cs, steps) => {
      const xa = new xarray({ chunk_shift: cs, flags: XA_FLAGS_ALLOC });
      const used = new Set<number>();
      const limit = XA_LIMIT(2, 120);
      for (const { what, id } of steps) {
        if (what === 0) {
          xa_erase(xa, id);
          used.delete(id);
        } else if (what === 1) {
          xa_store(xa, id, id, GFP_KERNEL);
          used.add(id);
        } else {
          let lowest = limit.min;
          while (used.has(lowest)) lowest++;
          const got = { val: -1 };
          const ret = xa_alloc(xa, got, what === 2 ? { id } : null, limit, GFP_KERNEL);
          assert.is(ret, lowest <= limit.max ? 0 : -EBUSY.errno);
          assert.is(got.val, lowest <= limit.max ? lowest : -1);
          if (ret === 0) used.add(lowest);
        }
        check_tree(xa);
      }
      for (const id of used) xa_erase(xa, id);
      assert.ok(xa_empty(xa));
    }),
    { numRuns: RUNS },
  );
});

t("a plain array gives out no ids", () => {
  const xa = new xarray();
  assert.is(xa_alloc(xa, { val: 0 }, 1, XA_LIMIT(0, 9), GFP_KERNEL), -EINVAL.errno);
});

// ---- reserved, retry, errors

t("a reserved index is not empty, loads as null, is busy, and takes a store without memory", () => {
  let memory = true;
  const xa = new xarray({ alloc: () => memory });
  for (const index of [0, 5, 70000, 2 ** 40]) {
    memory = true;
    assert.is(xa_reserve(xa, index, GFP_KERNEL), 0);
    assert.ok(!xa_empty(xa));
    assert.is(xa_load(xa, index), null);
    assert.is(xas_load(XA_STATE(xa, index)), XA_ZERO_ENTRY);
    assert.is(xa_insert(xa, index, 1, GFP_KERNEL), -EBUSY.errno);
    assert.equal(all(xa_for_each(xa)), []);
    memory = false;
    assert.is(xa_store(xa, index, 9, GFP_KERNEL), null);
    xa_release(xa, index);
    assert.is(xa_load(xa, index), 9);
    assert.is(xa_erase(xa, index), 9);
    assert.ok(xa_empty(xa));
  }
});

t("without memory a store fails with ENOMEM and changes nothing", () => {
  let memory = true;
  const xa = new xarray({ alloc: () => memory });
  xa_store(xa, 3, 30, GFP_KERNEL);
  xa_set_mark(xa, 3, XA_MARK_1);
  memory = false;
  for (const index of [64, 100000, 2 ** 50, ULONG_MAX]) {
    const ret = xa_store(xa, index, 1, GFP_KERNEL);
    assert.ok(xa_is_err(ret));
    assert.is(xa_err(ret), -ENOMEM.errno);
    assert.is(xa_insert(xa, index, 1, GFP_KERNEL), -ENOMEM.errno);
    assert.is(xa_load(xa, index), null);
    assert.is(xa_load(xa, 3), 30);
    assert.ok(xa_get_mark(xa, 3, XA_MARK_1));
  }
  memory = true;
  assert.is(xa_store(xa, 100000, 1, GFP_KERNEL), null);
  check_tree(xa);
});

t("xas_nomem answers true once per want of memory, and the cursor starts again", () => {
  const xa = new xarray({ alloc: (gfp) => (gfp & __GFP_DIRECT_RECLAIM) !== 0 });
  const xas = XA_STATE(xa, 5000);
  let tries = 0;
  do {
    xas_store(xas, 1);
    tries++;
  } while (xas_nomem(xas, GFP_KERNEL));
  // Three levels of 64 slots, one node per try.
  assert.is(tries, 4);
  assert.is(xa_load(xa, 5000), 1);
  const poor = XA_STATE(xa, 2 ** 30);
  xas_store(poor, 1);
  assert.is(xas_nomem(poor, GFP_NOWAIT), false);
  assert.is(xas_error(poor), -ENOMEM.errno);
});

t("a cursor left behind meets retry entries, and xas_retry sends it back to the head", () => {
  const xa = new xarray();
  for (let i = 0; i < 300; i++) xa_store(xa, i, i, GFP_KERNEL);
  const xas = XA_STATE(xa, 100);
  assert.is(xas_load(xas), 100);
  xa_destroy(xa);
  xa_store(xa, 100, 7, GFP_KERNEL);
  const stale = xas_load(xas);
  assert.is(stale, XA_RETRY_ENTRY);
  assert.ok(xas_retry(xas, stale));
  assert.is(xas.xa_node, XAS_RESTART);
  assert.is(xas_load(xas), 7);
  assert.not(xas_retry(xas, 7));
  assert.ok(xas_retry(xas, XA_ZERO_ENTRY));
  assert.not(xas.xa_node === XAS_RESTART);
});

t("the normal API refuses internal entries and NaN", () => {
  const xa = new xarray();
  for (const bad of [XA_RETRY_ENTRY, -1, Number.NaN]) {
    assert.is(xa_err(xa_store(xa, 1, bad, GFP_KERNEL)), -EINVAL.errno);
    assert.is(xa_err(xa_cmpxchg(xa, 1, null, bad, GFP_KERNEL)), -EINVAL.errno);
    assert.is(xa_insert(xa, 1, bad, GFP_KERNEL), -EINVAL.errno);
  }
  assert.ok(xa_empty(xa));
  assert.throws(() => xa_mk_value(-1), /no value/);
});

t("an index that is no index is refused", () => {
  const xa = new xarray();
  for (const bad of [-1, 1.5, Number.NaN, -1n, 2n ** 64n]) {
    assert.throws(() => xa_store(xa, bad, 1, GFP_KERNEL), /index/);
  }
  assert.throws(() => new xarray({ chunk_shift: 5 }), /chunk_shift/);
});

t("values, pointers, nodes and internal entries are told apart", () => {
  assert.ok(xa_is_value(0) && xa_is_value(0x7fffffff));
  assert.not(xa_is_value(null) || xa_is_value({}) || xa_is_value(XA_ZERO_ENTRY));
  assert.ok(xa_is_sibling(-1) && xa_is_sibling(-63));
  assert.not(xa_is_sibling(XA_RETRY_ENTRY) || xa_is_sibling(null) || xa_is_sibling(0));
  assert.ok(xa_is_internal(XA_RETRY_ENTRY));
  assert.not(xa_is_internal({}) || xa_is_internal(null) || xa_is_internal(1));
});

// ---- pointers and large indices

t("pointers may lie at any level, also where an object is usually a node", () => {
  for (const chunk_shift of SHIFTS) {
    const xa = new xarray({ chunk_shift });
    const big = { order: 9 };
    const small = { order: 0 };
    xa_store(xa, 0, small, GFP_KERNEL);
    assert.is(xa_load(xa, 0), small);
    xa_store(xa, 5000, small, GFP_KERNEL);
    store_order(xa, 1024, 9, big);
    for (const index of [1024, 1030, 1535]) {
      assert.is(xa_load(xa, index), big);
      assert.is(xas_load(XA_STATE(xa, index)), big);
    }
    assert.is(xa_load(xa, 1023), null);
    assert.is(xa_load(xa, 5000), small);
    check_tree(xa);
    assert.equal(
      all(xa_for_each(xa)).map(([index]) => index),
      [0, 1024, 5000],
    );
    const xas = XA_STATE_ORDER(xa, 1024, 9);
    assert.is(xas_find_conflict(xas), big);
    assert.is(xas_find_conflict(xas), null);
    assert.is(xa_erase(xa, 1100), big);
    assert.is(xa_load(xa, 1024), null);
    check_tree(xa);
  }
});

t("indices up to 2^64 - 1 are told apart, given as bigints where a double is too short", () => {
  for (const chunk_shift of SHIFTS) {
    const xa = new xarray({ chunk_shift });
    const indices: bigint[] = [];
    for (let bit = 30n; bit < 64n; bit++) indices.push(2n ** bit - 1n, 2n ** bit, 2n ** bit + 1n);
    indices.push(2n ** 64n - 2n, 2n ** 64n - 1n);
    for (const [i, index] of indices.entries()) {
      assert.is(xa_store(xa, index, i, GFP_KERNEL), null);
    }
    check_tree(xa);
    for (const [i, index] of indices.entries()) assert.is(xa_load(xa, index), i);
    assert.equal(
      all(xa_for_each(xa)).map(([, entry]) => entry),
      indices.map((_, i) => i),
    );
    assert.is(xa_load(xa, ULONG_MAX), indices.length - 1);
    assert.is(xa_load(xa, 2 ** 60), indices.indexOf(2n ** 60n));
    for (const index of indices) xa_erase(xa, index);
    assert.ok(xa_empty(xa));
  }
});

t("a walk ends at its limit, at the bounds of the tree, or goes round the end", () => {
  const xa = new xarray();
  for (const index of [10, 20, 30]) xa_store(xa, index, index, GFP_KERNEL);
  assert.equal(
    all(xa_for_each_range(xa, 10, 29)).map(([index]) => index),
    [10, 20],
  );
  const xas = XA_STATE(xa, 31);
  assert.is(xas_find(xas, ULONG_MAX), null);
  assert.is(xas.xa_node, XAS_BOUNDS);
  assert.is(xas.xa_index, 64);
  xas_set(xas, 0);
  xas_prev(xas);
  assert.is(xas_prev(xas), null);
  assert.is(xas.xa_index, ULONG_MAX);
  xas_set(xas, 10);
  xas_load(xas);
  xas_advance(xas, 20);
  assert.is(xas_next(xas), null);
  assert.is(xas.xa_index, 21);
});

t("one cursor serves again and again, with other indices and orders", () => {
  const xa = new xarray();
  const xas = XA_STATE(xa, 0);
  for (const [index, order] of [
    [512, 9],
    [7, 0],
    [8, 3],
  ] as const) {
    xas_set_order(xas, index, order);
    xas_store(xas, index);
  }
  assert.is(xa_load(xa, 1023), 512);
  assert.is(xa_load(xa, 15), 8);
  xas_set_order(xas, 700, 0);
  assert.is(xas_store(xas, 1), 512);
  assert.is(xa_load(xa, 512), 1);
  assert.is(xa_get_order(xa, 512), 9);
});

// ---- locks and dump

t("the normal API takes the lock once, and drops it for memory that may sleep", () => {
  let held = 0;
  let taken = 0;
  const lock = {
    lock(): void {
      assert.is(held++, 0);
      taken++;
    },
    unlock(): void {
      assert.is(--held, 0);
    },
  };
  const alloc = (gfp: number): boolean => {
    const may_sleep = (gfp & __GFP_DIRECT_RECLAIM) !== 0;
    assert.is(held, may_sleep ? 0 : 1);
    return may_sleep;
  };
  const xa = new xarray({ lock, alloc });
  xa_store(xa, 1, 1, GFP_KERNEL);
  assert.is(taken, 2);
  xa_store(xa, 2, 2, GFP_KERNEL);
  assert.is(taken, 3);
  xa_set_mark(xa, 2, XA_MARK_0);
  xa_cmpxchg(xa, 2, 2, 3, GFP_KERNEL);
  xa_erase(xa, 2);
  xa_store_range(xa, 0, 100000, 5, GFP_KERNEL);
  assert.is(xa_load(xa, 99999), 5);
  xa_destroy(xa);
  assert.is(held, 0);
  assert.ok(taken > 6);
});

t("the dump shows nodes, ranges, values and marks", () => {
  const xa = new xarray();
  store_order(xa, 512, 9, 0x120);
  xa_store(xa, 3, {}, GFP_KERNEL);
  xa_reserve(xa, 4, GFP_KERNEL);
  xa_set_mark(xa, 600, XA_MARK_1);
  assert.is(
    xa_dump(xa),
    [
      "xarray flags 0x0 mark1",
      "  node root shift 6 count 9 values 8",
      "    node slot 0 shift 0 count 2 values 0",
      "      3: pointer",
      "      4: zero",
      "    512-1023: value 288 (0x120) mark1",
    ].join("\n"),
  );
  xa_destroy(xa);
  assert.is(xa_dump(xa), "xarray flags 0x0 empty");
});

t.run();
