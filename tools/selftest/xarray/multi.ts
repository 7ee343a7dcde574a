/**
 * tools/selftest/xarray/multi.ts - entries of many indices: store, order, counts, pause, split.
 * Linux: lib/test_xarray.c, the functions of the same names.
 */
import { GFP_KERNEL } from "../../../kernel/include/gfp.ts";
import {
  ULONG_MAX,
  XA_MARK_0,
  XA_STATE,
  XA_STATE_ORDER,
  __xa_store,
  xa_destroy,
  xa_empty,
  xa_erase,
  xa_get_mark,
  xa_get_order,
  xa_head,
  xa_load,
  xa_mk_value,
  xa_set_mark,
  xa_store,
  xas_find,
  xas_find_conflict,
  xas_get_order,
  xas_load,
  xas_lock,
  xas_next_entry,
  xas_pause,
  xas_set,
  xas_set_order,
  xas_split,
  xas_split_alloc,
  xas_store,
  xas_unlock,
} from "../../../kernel/lib/xarray.ts";
import type { xa_entry, xa_node, xa_state, xarray } from "../../../kernel/lib/xarray.ts";
import {
  before,
  erase_index,
  ix,
  mk_index,
  store_at,
  store_index,
  store_order,
} from "./context.ts";
import type { selftest_context } from "./context.ts";

const ORDERS = 20;

/** Indices from `first` on hold these, one check each. */
function check_row(t: selftest_context, xa: xarray, first: number, row: readonly xa_entry[]): void {
  for (const [i, entry] of row.entries()) t.ok(xa_load(xa, first + i) === entry);
}

/** Two checks: the slots of the root that are in use, and those with values. */
function check_counts(t: selftest_context, xa: xarray, count: number, values: number): void {
  const head = xa_head(xa) as xa_node;
  t.ok(head.count === count);
  t.ok(head.nr_values === values);
}

/** Four checks: the entry from `min` to `max - 1`, nothing on either side. */
function check_edges(
  t: selftest_context,
  xa: xarray,
  min: number,
  max: number,
  entry: xa_entry,
): void {
  t.ok(xa_load(xa, min) === entry);
  t.ok(xa_load(xa, max - 1) === entry);
  t.ok(xa_load(xa, max) === null);
  t.ok(xa_load(xa, before(min)) === null);
}

function check_store_inside(t: selftest_context, xa: xarray, index: number, order: number): void {
  const xas = XA_STATE(xa, index);
  const min = index - (index % 2 ** order);
  const max = min + 2 ** order;
  store_order(xa, index, order, mk_index(index));
  check_edges(t, xa, min, max, mk_index(index));
  // A plain store to one index changes the whole entry.
  xas_lock(xas);
  t.ok(xas_store(xas, mk_index(min)) === mk_index(index));
  xas_unlock(xas);
  check_edges(t, xa, min, max, mk_index(min));
  erase_index(t, xa, min);
  t.ok(xa_empty(xa));
}

function check_index_stays(t: selftest_context, xa: xarray, index: number, order: number): void {
  const xas = XA_STATE(xa, index);
  store_order(xa, index, order, xa_mk_value(0));
  xas_lock(xas);
  t.ok(xas_store(xas, xa_mk_value(1)) === 0);
  t.ok(xas.xa_index === index);
  t.ok(xas_store(xas, null) === 1);
  xas_unlock(xas);
  t.ok(xa_empty(xa));
}

function check_seen_once(t: selftest_context, xa: xarray, index: number, order: number): void {
  const xas = XA_STATE(xa, 0);
  store_order(xa, index, order, mk_index(index));
  xas_lock(xas);
  let n = 0;
  for (const start of [0, index + 1]) {
    xas_set(xas, start);
    for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) {
      t.ok(e === mk_index(index));
      n++;
    }
    t.ok(n === (start === 0 ? 1 : 2));
  }
  xas_unlock(xas);
  xa_destroy(xa);
}

function check_store_over(t: selftest_context, xa: xarray): void {
  const max_order = 60;
  for (let i = 0; i < max_order; i++) {
    for (let j = 0; j < max_order; j++) {
      store_order(xa, 0, i, mk_index(i));
      store_order(xa, 0, j, mk_index(j));
      for (let k = 0; k < max_order; k++) {
        const entry = xa_load(xa, k <= 53 ? 2 ** k - 1 : ix((1n << BigInt(k)) - 1n));
        t.ok(entry === (i < k && j < k ? null : mk_index(j)));
      }
      xa_erase(xa, 0);
      t.ok(xa_empty(xa));
    }
  }
}

export function check_multi_store(t: selftest_context, xa: xarray): void {
  store_order(xa, 0, 1, xa_mk_value(0));
  check_row(t, xa, 0, [0, 0, null]);
  check_counts(t, xa, 2, 2);
  xa_store(xa, 3, xa, GFP_KERNEL);
  check_row(t, xa, 0, [0, 0, null]);
  check_counts(t, xa, 3, 2);
  store_order(xa, 0, 2, xa_mk_value(1));
  check_row(t, xa, 0, [1, 1, 1, 1, null]);
  check_counts(t, xa, 4, 4);
  // One store of null with a large order erases all, also behind an empty slot.
  store_order(xa, 0, 63, null);
  t.ok(xa_empty(xa));
  store_index(xa, 1);
  store_index(xa, 2);
  store_order(xa, 0, 2, null);
  t.ok(xa_empty(xa));

  check_store_over(t, xa);
  for (let i = 0; i < ORDERS; i++) {
    check_store_inside(t, xa, 200, i);
    check_store_inside(t, xa, 0, i);
    check_store_inside(t, xa, 2 ** i + 1, i);
  }
  check_index_stays(t, xa, 4095, 9);
  for (let i = 1; i < ORDERS; i++) {
    check_seen_once(t, xa, 0, i);
    check_seen_once(t, xa, 2 ** i, i);
  }
}

export function check_get_order(t: selftest_context, xa: xarray): void {
  for (let i = 0; i < 3; i++) t.ok(xa_get_order(xa, i) === 0);
  for (let order = 0; order < ORDERS; order++) {
    for (let i = 0; i < 10; i++) {
      const first = i * 2 ** order;
      store_order(xa, first, order, mk_index(first));
      for (let j = first; j < first + 2 ** order; j++) t.ok(xa_get_order(xa, j) === order);
      xa_erase(xa, first);
    }
  }
}

/** Stores or erases 2^order indices with a cursor that is used again and again. */
function store_with(xas: xa_state, first: number, order: number, entry: xa_entry): void {
  xas_set_order(xas, first, order);
  store_at(xas, entry);
}

export function check_xas_get_order(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  for (let order = 0; order < ORDERS; order++) {
    for (let i = 0; i < 10; i++) {
      const first = i * 2 ** order;
      store_with(xas, first, order, xa_mk_value(i));
      for (let j = first; j < first + 2 ** order; j++) {
        xas_set_order(xas, j, 0);
        xas_load(xas);
        t.ok(xas_get_order(xas) === order);
      }
      store_with(xas, first, order, null);
    }
  }
}

/** Three checks: one conflict in the range, the value `i` with its order. */
function check_one_conflict(t: selftest_context, xas: xa_state, i: number, order: number): void {
  let seen = 0;
  xas_lock(xas);
  for (let e = xas_find_conflict(xas); e !== null; e = xas_find_conflict(xas)) {
    t.ok(e === i);
    t.ok(xas_get_order(xas) === order);
    seen++;
  }
  t.ok(seen === 1);
  xas_unlock(xas);
}

export function check_xas_conflict_get_order(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  for (let order = 0; order < ORDERS; order++) {
    for (let i = 0; i < 10; i++) {
      const first = i * 2 ** order;
      store_with(xas, first, order, xa_mk_value(i));
      for (let k = 0; k < order; k++) {
        xas_set_order(xas, first + 2 ** k, k);
        check_one_conflict(t, xas, i, order);
      }
      if (order < ORDERS - 1) {
        xas_set_order(xas, (i - (i % 2)) * 2 ** order, order + 1);
        check_one_conflict(t, xas, i, order);
      }
      store_with(xas, first, order, null);
    }
  }
}

export function check_account(t: selftest_context, xa: xarray): void {
  for (let order = 1; order < 12; order++) {
    const second = 1 << order;
    const xas = XA_STATE(xa, second);
    store_order(xa, 0, order, xa);
    xas_load(xas);
    const node = xas.xa_node!;
    t.ok(node.count !== 0);
    t.ok(node.count <= 1 << order);
    t.ok(node.nr_values === 0);
    store_order(xa, second, order, mk_index(second));
    t.ok(node.count === node.nr_values * 2);
    xa_erase(xa, second);
    t.ok(node.nr_values === 0);
    xa_erase(xa, 0);
    t.ok(xa_empty(xa));
  }
}

export function check_pause(t: selftest_context, xa: xarray): void {
  const limit = 64;
  // 1, 2-3, 4-7 ... up to the last index there is.
  for (let order = 0; order < limit; order++) {
    t.ok(store_order(xa, 2 ** order, order, mk_index(2 ** order)) === null);
  }
  const xas = XA_STATE(xa, 0);
  for (const pausing of [false, true]) {
    let count = 0;
    xas_set(xas, 0);
    for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) {
      t.ok(e === mk_index(2 ** count));
      count++;
      if (pausing) xas_pause(xas);
    }
    t.ok(count === limit);
  }
  xa_destroy(xa);
}

function check_split_at(
  t: selftest_context,
  xa: xarray,
  index: number,
  order: number,
  new_order: number,
): void {
  const size = 1 << order;
  const part = 1 << new_order;
  const xas = XA_STATE_ORDER(xa, index, new_order);
  store_order(xa, index, order, xa);
  xas_split_alloc(xas, xa, order, GFP_KERNEL);
  xas_lock(xas);
  xas_split(xas, xa, order);
  for (let i = 0; i < size; i += part) __xa_store(xa, index + i, mk_index(index + i), 0);
  xas_unlock(xas);
  for (let i = 0; i < size; i++) t.ok(xa_load(xa, index + i) === mk_index(index + i - (i % part)));
  xa_set_mark(xa, index, XA_MARK_0);
  t.ok(xa_get_mark(xa, index, XA_MARK_0));
  xa_destroy(xa);
}

export function check_split(t: selftest_context, xa: xarray): void {
  t.ok(xa_empty(xa));
  for (let order = 1; order < 2 * t.chunk_shift; order++) {
    for (let new_order = 0; new_order < order; new_order++) {
      for (const nth of [0, 1, 3]) check_split_at(t, xa, nth << order, order, new_order);
    }
  }
}
