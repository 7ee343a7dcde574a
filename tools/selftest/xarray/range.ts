/**
 * tools/selftest/xarray/range.ts - ranges: slots made in advance, one entry over many, conflicts.
 * Linux: lib/test_xarray.c (check_create_range, check_store_range, check_store_iter).
 */
import { EEXIST } from "../../../kernel/include/errno.ts";
import { GFP_KERNEL } from "../../../kernel/include/gfp.ts";
import {
  XA_STATE,
  XA_STATE_ORDER,
  xa_destroy,
  xa_empty,
  xa_is_value,
  xa_load,
  xa_store_range,
  xas_create_range,
  xas_error,
  xas_find_conflict,
  xas_lock,
  xas_next,
  xas_nomem,
  xas_set_err,
  xas_store,
  xas_unlock,
} from "../../../kernel/lib/xarray.ts";
import type { xarray } from "../../../kernel/lib/xarray.ts";
import { before, erase_index, mk_index, store_index, store_order } from "./context.ts";
import type { selftest_context } from "./context.ts";

/** Fills 2^order single indices after one xas_create_range(). */
function store_many(t: selftest_context, xa: xarray, index: number, order: number): void {
  const xas = XA_STATE_ORDER(xa, index, order);
  do {
    xas_lock(xas);
    t.ok(xas_find_conflict(xas) === null);
    xas_create_range(xas);
    if (xas_error(xas) === 0) {
      for (let i = 0; i < 1 << order; i++) {
        t.ok(xas_store(xas, mk_index(index + i)) === null);
        xas_next(xas);
      }
    }
    xas_unlock(xas);
  } while (xas_nomem(xas, GFP_KERNEL));
  t.ok(xas_error(xas) === 0);
}

function erase_range(t: selftest_context, xa: xarray, first: number, count: number): void {
  for (let i = first; i < first + count; i++) erase_index(t, xa, i);
  t.ok(xa_empty(xa));
}

function check_create_empty(t: selftest_context, xa: xarray, index: number, order: number): void {
  store_many(t, xa, index, order);
  erase_range(t, xa, index, 1 << order);
}

function check_create_adjacent(t: selftest_context, xa: xarray, order: number): void {
  const nr = 1 << order;
  for (let i = 0; i < nr * nr; i += nr) store_many(t, xa, i, order);
  erase_range(t, xa, 0, nr * nr);
}

function check_create_with_error(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  xas_set_err(xas, -EEXIST.errno);
  xas_create_range(xas);
  t.ok(xas_error(xas) === -EEXIST.errno);
}

/** Over a range in which `index` is in use already. */
function check_create_over(t: selftest_context, xa: xarray, index: number, order: number): void {
  const xas = XA_STATE_ORDER(xa, index, order);
  const base = xas.xa_index;
  store_index(xa, index);
  do {
    xas_lock(xas);
    xas_create_range(xas);
    if (xas_error(xas) === 0) {
      for (let i = 0; i < 1 << order; i++) {
        const old = xas_store(xas, mk_index(base + i));
        t.ok(old === (xas.xa_index === index ? mk_index(base + i) : null));
        xas_next(xas);
      }
    }
    xas_unlock(xas);
  } while (xas_nomem(xas, GFP_KERNEL));
  t.ok(xas_error(xas) === 0);
  erase_range(t, xa, base, 1 << order);
}

/** Over one entry of the same order, again and again: must come to an end. */
function create_over_multi(xa: xarray, index: number, order: number): void {
  const xas = XA_STATE_ORDER(xa, index, order);
  store_order(xa, index, order, mk_index(index));
  for (let i = 0; i < order + 10; i++) {
    do {
      xas_lock(xas);
      xas_create_range(xas);
      xas_unlock(xas);
    } while (xas_nomem(xas, GFP_KERNEL));
  }
  xa_destroy(xa);
}

export function check_create_range(t: selftest_context, xa: xarray): void {
  const far = 1 << 24;
  for (let order = 0; order < 12; order++) {
    const size = 1 << order;
    for (const index of [0, size, 2 * size, 3 * size, far]) check_create_empty(t, xa, index, order);
    if (order < 10) check_create_adjacent(t, xa, order);
    for (const index of [0, size, 2 * size, 3 * size, far]) check_create_over(t, xa, index, order);
    const unaligned = [
      1,
      size + 1,
      2 * size + 1,
      2 * size - 1,
      3 * size + 1,
      3 * size - 1,
      far + 1,
    ];
    for (const index of unaligned) check_create_over(t, xa, index, order);
    create_over_multi(xa, 0, order);
    create_over_multi(xa, size, order);
  }
  check_create_with_error(t, xa);
}

/** Five checks. */
function check_range(t: selftest_context, xa: xarray, first: number, last: number): void {
  xa_store_range(xa, first, last, mk_index(first), GFP_KERNEL);
  t.ok(xa_load(xa, first) === mk_index(first));
  t.ok(xa_load(xa, last) === mk_index(first));
  t.ok(xa_load(xa, before(first)) === null);
  t.ok(xa_load(xa, last + 1) === null);
  xa_store_range(xa, first, last, null, GFP_KERNEL);
  t.ok(xa_empty(xa));
}

export function check_store_range(t: selftest_context, xa: xarray): void {
  for (let i = 0; i < 128; i++) {
    for (let j = i; j < 128; j++) {
      for (const base of [0, 128, 4095, 4096, 123456, 1 << 24]) {
        check_range(t, xa, base + i, base + j);
      }
    }
  }
}

/** A store of 2^order indices replaces exactly `present` entries. */
function check_iter(
  t: selftest_context,
  xa: xarray,
  start: number,
  order: number,
  present: number,
): void {
  const last = start + 2 ** order - 1;
  const xas = XA_STATE_ORDER(xa, start, order);
  let count: number;
  do {
    count = 0;
    xas_lock(xas);
    for (let e = xas_find_conflict(xas); e !== null; e = xas_find_conflict(xas)) {
      t.ok(xa_is_value(e));
      t.ok((e as number) >= mk_index(start));
      t.ok((e as number) <= mk_index(last));
      count++;
    }
    xas_store(xas, mk_index(start));
    xas_unlock(xas);
  } while (xas_nomem(xas, GFP_KERNEL));
  t.ok(xas_error(xas) === 0);
  t.ok(count === present);
  t.ok(xa_load(xa, start) === mk_index(start));
  t.ok(xa_load(xa, last) === mk_index(start));
  erase_index(t, xa, start);
}

export function check_store_iter(t: selftest_context, xa: xarray): void {
  const check = (start: number, order: number, present: number): void => {
    check_iter(t, xa, start, order, present);
    t.ok(xa_empty(xa));
  };
  for (let order = 0; order < 20; order++) {
    const min = 1 << order;
    check(0, order, 0);
    check(min, order, 0);
    for (const only of [min, 2 * min - 1]) {
      store_index(xa, only);
      check(min, order, 1);
    }
    for (const first of [0, min]) {
      for (let j = 0; j < min; j++) store_index(xa, first + j);
      check(first, order, min);
    }
  }
  store_index(xa, 63);
  store_index(xa, 65);
  check_iter(t, xa, 64, 2, 1);
  erase_index(t, xa, 63);
  t.ok(xa_empty(xa));
}
