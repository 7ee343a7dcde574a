/**
 * tools/selftest/xarray/find.ts - searching: by index, by mark, by value; single steps.
 * Linux: lib/test_xarray.c (check_find, check_find_entry, check_move).
 */
import { GFP_KERNEL } from "../../../kernel/include/gfp.ts";
import {
  ULONG_MAX,
  XAS_RESTART,
  XA_MARK_0,
  XA_PRESENT,
  XA_STATE,
  xa_destroy,
  xa_empty,
  xa_find,
  xa_find_after,
  xa_for_each,
  xa_get_mark,
  xa_load,
  xa_mk_value,
  xa_set_mark,
  xas_find,
  xas_find_marked,
  xas_next,
  xas_next_entry,
  xas_next_marked,
  xas_pause,
  xas_prev,
  xas_retry,
  xas_set,
} from "../../../kernel/lib/xarray.ts";
import type { xa_entry, xa_mark_t, xa_state, xarray } from "../../../kernel/lib/xarray.ts";
import { erase_index, mk_index, store_index, store_order } from "./context.ts";
import type { selftest_context } from "./context.ts";

/** One check: among i and j, what a search from k finds. */
function check_found(
  t: selftest_context,
  xa: xarray,
  pair: readonly [j: number, i: number],
  k: number,
  filter: xa_mark_t,
): void {
  const at = { val: k };
  const entry = xa_find(xa, at, ULONG_MAX, filter);
  if (k <= pair[0]) t.ok(at.val === pair[0]);
  else if (k <= pair[1]) t.ok(at.val === pair[1]);
  else t.ok(entry === null);
}

function check_find_pairs(t: selftest_context, xa: xarray): void {
  t.ok(xa_empty(xa));
  for (let i = 0; i < 100; i++) {
    t.ok(store_index(xa, i) === null);
    xa_set_mark(xa, i, XA_MARK_0);
    for (let j = 0; j < i; j++) {
      t.ok(store_index(xa, j) === null);
      xa_set_mark(xa, j, XA_MARK_0);
      for (let k = 0; k < 100; k++) {
        check_found(t, xa, [j, i], k, XA_PRESENT);
        check_found(t, xa, [j, i], k, XA_MARK_0);
      }
      erase_index(t, xa, j);
      t.ok(!xa_get_mark(xa, j, XA_MARK_0));
      t.ok(xa_get_mark(xa, i, XA_MARK_0));
    }
    erase_index(t, xa, i);
    t.ok(!xa_get_mark(xa, i, XA_MARK_0));
  }
  t.ok(xa_empty(xa));
}

/** The kernel's loop stores behind the index that its last search left, which is always 0. */
function check_for_each(t: selftest_context, xa: xarray): void {
  let last = 0;
  for (const [,] of xa_for_each(xa)) t.ok(false);
  for (let i = 0; i < 1024; i++) {
    store_index(xa, last);
    let j = 0;
    for (const [index, entry] of xa_for_each(xa)) {
      t.ok(entry === mk_index(index));
      t.ok(index === j++);
      last = index;
    }
  }
  xa_destroy(xa);
}

function check_marked_ranges(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  for (let i = 0; i < 100; i++) {
    for (let j = 0; j < 100; j++) {
      for (let k = 0; k < 100; k++) {
        xas_set(xas, j);
        let e = xas_find_marked(xas, k, XA_MARK_0);
        while (e !== null) e = xas_next_marked(xas, k, XA_MARK_0);
        if (j > k) t.ok(xas.xa_node === XAS_RESTART);
      }
    }
    store_index(xa, i);
    xa_set_mark(xa, i, XA_MARK_0);
  }
  xa_destroy(xa);
}

function check_find_last(t: selftest_context, xa: xarray): void {
  const at = { val: 0 };
  store_index(xa, ULONG_MAX);
  t.ok(xa_find_after(xa, at, ULONG_MAX, XA_PRESENT) === mk_index(ULONG_MAX));
  t.ok(xa_find_after(xa, at, ULONG_MAX, XA_PRESENT) === null);
  erase_index(t, xa, ULONG_MAX);
}

function check_find_from_inside(t: selftest_context, xa: xarray, order: number): void {
  const multi = 3 << order;
  const next = 4 << order;
  store_order(xa, multi, order, xa_mk_value(multi));
  t.ok(store_index(xa, next) === null);
  t.ok(store_index(xa, next + 1) === null);

  const at = { val: 0 };
  t.ok(xa_find(xa, at, ULONG_MAX, XA_PRESENT) === multi);
  t.ok(at.val === multi);
  at.val = multi + 1;
  t.ok(xa_find(xa, at, ULONG_MAX, XA_PRESENT) === multi);
  t.ok(at.val >= multi && at.val < next);
  t.ok(xa_find_after(xa, at, ULONG_MAX, XA_PRESENT) === next);
  t.ok(at.val === next);
  t.ok(xa_find_after(xa, at, next, XA_PRESENT) === null);
  t.ok(at.val === next);

  for (const index of [multi, next, next + 1]) erase_index(t, xa, index);
  t.ok(xa_empty(xa));
}

function check_erase_in_loop(t: selftest_context, xa: xarray): void {
  for (let order = 0; order < 10; order++) {
    const index = 1 << order;
    for (let j = 0; j < index; j++) {
      const xas = XA_STATE(xa, j + index);
      store_index(xa, index - 1);
      store_order(xa, index, order, mk_index(index));
      for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) {
        erase_index(t, xa, index);
      }
      erase_index(t, xa, index - 1);
      t.ok(xa_empty(xa));
    }
  }
}

function check_nothing_after(t: selftest_context, xa: xarray): void {
  for (let order = 5; order < 64; order++) {
    const at = { val: 2 ** (order - 5) };
    t.ok(xa_empty(xa));
    store_order(xa, 0, order - 4, mk_index(0));
    t.ok(xa_find_after(xa, at, ULONG_MAX, XA_PRESENT) === null);
    erase_index(t, xa, 0);
  }
}

export function check_find(t: selftest_context, xa: xarray): void {
  check_find_pairs(t, xa);
  check_for_each(t, xa);
  check_marked_ranges(t, xa);
  check_find_last(t, xa);
  for (let order = 2; order < 10; order++) check_find_from_inside(t, xa, order);
  check_erase_in_loop(t, xa);
  check_nothing_after(t, xa);
}

/** The index of an entry, or ULONG_MAX: a search that lets go of the lock every fourth step. */
function find_entry(xa: xarray, item: xa_entry): number {
  const xas = XA_STATE(xa, 0);
  let checked = 0;
  for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) {
    if (xas_retry(xas, e)) continue;
    if (e === item) return xas.xa_index;
    if (++checked % 4 === 0) xas_pause(xas);
  }
  return ULONG_MAX;
}

export function check_find_entry(t: selftest_context, xa: xarray): void {
  for (let order = 0; order < 20; order++) {
    for (let offset = 0; offset < 8; offset++) {
      for (let nth = 0; nth < 32; nth++) {
        const index = nth * 2 ** order;
        store_order(xa, index, order, mk_index(index));
        t.ok(xa_load(xa, index) === mk_index(index));
        t.ok(find_entry(xa, mk_index(index)) === index);
      }
      t.ok(find_entry(xa, xa) === ULONG_MAX);
      xa_destroy(xa);
    }
  }
  t.ok(find_entry(xa, xa) === ULONG_MAX);
  store_index(xa, ULONG_MAX);
  t.ok(find_entry(xa, xa) === ULONG_MAX);
  t.ok(find_entry(xa, mk_index(ULONG_MAX)) === ULONG_MAX);
  erase_index(t, xa, ULONG_MAX);
  t.ok(xa_empty(xa));
}

function check_move_tiny(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  t.ok(xa_empty(xa));
  t.ok(xas_next(xas) === null);
  t.ok(xas_next(xas) === null);
  store_index(xa, 0);
  for (const move of [xas_next, xas_prev]) {
    xas_set(xas, 0);
    t.ok(move(xas) === mk_index(0));
    t.ok(move(xas) === null);
  }
  erase_index(t, xa, 0);
  t.ok(xa_empty(xa));
}

function check_move_max(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  store_index(xa, ULONG_MAX);
  t.ok(xas_find(xas, ULONG_MAX) === mk_index(ULONG_MAX));
  t.ok(xas_find(xas, ULONG_MAX) === null);
  xas_set(xas, 0);
  t.ok(xas_find(xas, ULONG_MAX) === mk_index(ULONG_MAX));
  xas_pause(xas);
  t.ok(xas_find(xas, ULONG_MAX) === null);
  erase_index(t, xa, ULONG_MAX);
  t.ok(xa_empty(xa));
}

/** Entries at 0 and idx; steps over four times that range and back. */
function check_move_small(t: selftest_context, xa: xarray, idx: number): void {
  const xas = XA_STATE(xa, 0);
  store_index(xa, 0);
  store_index(xa, idx);
  const check = (i: number, entry: xa_entry): void => {
    if (i <= idx) t.ok(xas.xa_node !== XAS_RESTART);
    t.ok(xas.xa_index === i);
    t.ok(entry === (i === 0 || i === idx ? mk_index(i) : null));
  };
  let i = 0;
  for (; i < idx * 4; i++) check(i, xas_next(xas));
  xas_next(xas);
  t.ok(xas.xa_index === i);
  while (i > 0) check(--i, xas_prev(xas));

  // Round the end and back.
  const expect = (entry: xa_entry, want: xa_entry, index: number): void => {
    t.ok(entry === want);
    t.ok(xas.xa_index === index);
  };
  xas_set(xas, ULONG_MAX);
  expect(xas_next(xas), null, ULONG_MAX);
  expect(xas_next(xas), xa_mk_value(0), 0);
  expect(xas_prev(xas), null, ULONG_MAX);
  erase_index(t, xa, 0);
  erase_index(t, xa, idx);
  t.ok(xa_empty(xa));
}

const MOVE_SIZE = 1 << 16;

/** Back to 0, over the edge, and forward again; [from, to) is empty. */
function check_there_and_back(
  t: selftest_context,
  xas: xa_state,
  start: number,
  from: number,
  to: number,
): void {
  const want = (i: number): xa_entry => (i >= from && i < to ? null : mk_index(i));
  let i = start;
  do {
    const entry = xas_prev(xas);
    i--;
    t.ok(entry === want(i));
    t.ok(xas.xa_index === i);
  } while (i !== 0);
  t.ok(xas_prev(xas) === null);
  t.ok(xas.xa_index === ULONG_MAX);
  do {
    const entry = xas_next(xas);
    t.ok(entry === want(i));
    t.ok(xas.xa_index === i);
    i++;
  } while (i < MOVE_SIZE);
}

export function check_move(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, MOVE_SIZE - 1);
  for (let i = 0; i < MOVE_SIZE; i++) t.ok(store_index(xa, i, GFP_KERNEL) === null);
  check_there_and_back(t, xas, MOVE_SIZE, 0, 0);
  for (let i = 1 << 8; i < 1 << 15; i++) erase_index(t, xa, i);
  check_there_and_back(t, xas, xas.xa_index, 1 << 8, 1 << 15);
  xa_destroy(xa);

  check_move_tiny(t, xa);
  check_move_max(t, xa);
  for (let i = 0; i < 16; i++) check_move_small(t, xa, 1 << i);
  for (let i = 2; i < 16; i++) check_move_small(t, xa, (1 << i) - 1);
}
