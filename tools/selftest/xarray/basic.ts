/**
 * tools/selftest/xarray/basic.ts - single indices: errors, retry, load, shrink, insert, reserve.
 * Linux: lib/test_xarray.c, the functions of the same names.
 */
import { EBUSY, ENOMEM } from "../../../kernel/include/errno.ts";
import { GFP_KERNEL, GFP_NOWAIT } from "../../../kernel/include/gfp.ts";
import {
  ULONG_MAX,
  XAS_BOUNDS,
  XAS_RESTART,
  XA_FLAGS_TRACK_FREE,
  XA_LIMIT,
  XA_RETRY_ENTRY,
  XA_STATE,
  XA_ZERO_ENTRY,
  xa_alloc,
  xa_cmpxchg,
  xa_destroy,
  xa_empty,
  xa_erase,
  xa_err,
  xa_for_each,
  xa_head,
  xa_insert,
  xa_is_err,
  xa_is_internal,
  xa_is_retry,
  xa_load,
  xa_mk_value,
  xa_release,
  xa_reserve,
  xa_slot,
  xa_store,
  xas_find,
  xas_load,
  xas_lock,
  xas_next_entry,
  xas_reload,
  xas_reset,
  xas_retry,
  xas_set,
  xas_store,
  xas_unlock,
} from "../../../kernel/lib/xarray.ts";
import type { xarray } from "../../../kernel/lib/xarray.ts";
import {
  before,
  erase_index,
  insert_index,
  ix,
  mk_index,
  store_at,
  store_index,
  store_order,
} from "./context.ts";
import type { selftest_context } from "./context.ts";

export function check_xa_err(t: selftest_context, xa: xarray): void {
  t.ok(xa_err(store_index(xa, 0, GFP_NOWAIT)) === 0);
  t.ok(xa_err(xa_erase(xa, 0)) === 0);
  if (t.failing_alloc) {
    t.ok(xa_err(store_index(xa, 1, GFP_NOWAIT)) === -ENOMEM.errno);
    t.ok(xa_err(store_index(xa, 1, GFP_NOWAIT)) === -ENOMEM.errno);
  }
  t.ok(xa_err(store_index(xa, 1, GFP_KERNEL)) === 0);
  t.ok(xa_err(xa_store(xa, 1, xa_mk_value(0), GFP_KERNEL)) === 0);
  t.ok(xa_err(xa_erase(xa, 1)) === 0);
}

export function check_xas_retry(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  store_index(xa, 0);
  store_index(xa, 1);

  // The cursor stands on a node that the erase takes away.
  t.ok(xas_find(xas, ULONG_MAX) === 0);
  erase_index(t, xa, 1);
  t.ok(xa_is_retry(xas_reload(xas)));
  t.ok(!xas_retry(xas, null));
  t.ok(!xas_retry(xas, xa_mk_value(0)));
  xas_reset(xas);
  t.ok(xas.xa_node === XAS_RESTART);
  t.ok(xas_next_entry(xas, ULONG_MAX) === 0);
  t.ok(xas.xa_node === null);

  // It stands on the head entry, and the store puts a node there.
  t.ok(store_index(xa, 1) === null);
  t.ok(xa_is_internal(xas_reload(xas)));
  xas.xa_node = XAS_RESTART;
  t.ok(xas_next_entry(xas, ULONG_MAX) === 0);

  xas_lock(xas);
  for (const index of [0, 1]) {
    xas_set(xas, index);
    xas_store(xas, XA_RETRY_ENTRY);
  }
  xas_set(xas, 0);
  for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) {
    xas_store(xas, mk_index(xas.xa_index));
  }
  xas_unlock(xas);
  erase_index(t, xa, 0);
  erase_index(t, xa, 1);
}

const LOAD_COUNT = 1024;

/** Every index of 0..1023: in use exactly from `from` to `to`. */
function check_all(t: selftest_context, xa: xarray, from: number, to: number): void {
  for (let j = 0; j < LOAD_COUNT; j++) {
    t.ok(xa_load(xa, j) === (j >= from && j < to ? j : null));
  }
}

export function check_xa_load(t: selftest_context, xa: xarray): void {
  for (let i = 0; i < LOAD_COUNT; i++) {
    check_all(t, xa, 0, i);
    t.ok(store_index(xa, i) === null);
  }
  for (let i = 0; i < LOAD_COUNT; i++) {
    check_all(t, xa, i, LOAD_COUNT);
    erase_index(t, xa, i);
  }
  t.ok(xa_empty(xa));
}

export function check_xa_shrink(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 1);
  t.ok(xa_empty(xa));
  t.ok(store_index(xa, 0) === null);
  t.ok(store_index(xa, 1) === null);

  xas_lock(xas);
  t.ok(xas_load(xas) === 1);
  const leaf = xas.xa_node!;
  t.ok(xa_slot(leaf, 0) === 0);
  t.ok(xas_store(xas, null) === 1);
  t.ok(xa_load(xa, 1) === null);
  t.ok(xas.xa_node === XAS_BOUNDS);
  t.ok(xa_slot(leaf, 0) === XA_RETRY_ENTRY);
  t.ok(xas_load(xas) === null);
  xas_unlock(xas);
  t.ok(xa_load(xa, 0) === 0);
  erase_index(t, xa, 0);
  t.ok(xa_empty(xa));

  for (let order = 0; order < 15; order++) {
    const behind = 2 ** order;
    store_order(xa, 0, order, xa_mk_value(0));
    t.ok(xa_load(xa, behind - 1) === 0);
    t.ok(xa_load(xa, behind) === null);
    const head = xa_head(xa);
    t.ok(store_index(xa, ULONG_MAX) === null);
    t.ok(xa_head(xa) !== head);
    t.ok(xa_load(xa, behind) === null);
    erase_index(t, xa, ULONG_MAX);
    t.ok(xa_head(xa) === head);
    erase_index(t, xa, 0);
  }
}

export function check_xas_erase(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  for (let i = 0; i < 200; i++) {
    for (let j = i; j < 2 * i + 17; j++) {
      xas_set(xas, j);
      store_at(xas, mk_index(j));
    }
    xas_set(xas, ULONG_MAX);
    store_at(xas, xa_mk_value(0));

    xas_lock(xas);
    xas_store(xas, null);
    xas_set(xas, 0);
    let j = i;
    for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) {
      t.ok(e === mk_index(j));
      xas_store(xas, null);
      j++;
    }
    xas_unlock(xas);
    t.ok(xa_empty(xa));
  }
}

export function check_insert(t: selftest_context, xa: xarray): void {
  for (let i = 0; i < 1024; i++) {
    insert_index(t, xa, i);
    t.ok(xa_load(xa, before(i)) === null);
    t.ok(xa_load(xa, i + 1) === null);
    erase_index(t, xa, i);
  }
  for (let i = 10n; i < 64n; i++) {
    for (const index of [1n << i, (1n << i) - 1n]) {
      insert_index(t, xa, ix(index));
      t.ok(xa_load(xa, ix(index - 1n)) === null);
      t.ok(xa_load(xa, ix(index + 1n)) === null);
      erase_index(t, xa, ix(index));
    }
  }
  insert_index(t, xa, ULONG_MAX);
  t.ok(xa_load(xa, 0) === null);
  t.ok(xa_load(xa, 0xfffffffffffffffen) === null);
  erase_index(t, xa, ULONG_MAX);
  t.ok(xa_empty(xa));
}

export function check_cmpxchg(t: selftest_context, xa: xarray): void {
  const FIVE = xa_mk_value(5);
  const SIX = xa_mk_value(6);
  const far = 12345678;
  t.ok(xa_empty(xa));
  t.ok(store_index(xa, far) === null);
  t.ok(xa_insert(xa, far, xa, GFP_KERNEL) === -EBUSY.errno);
  t.ok(xa_cmpxchg(xa, far, SIX, FIVE, GFP_KERNEL) === far);
  t.ok(xa_cmpxchg(xa, far, far, FIVE, GFP_KERNEL) === far);
  t.ok(xa_cmpxchg(xa, far, FIVE, far, GFP_KERNEL) === FIVE);
  t.ok(xa_cmpxchg(xa, 5, FIVE, null, GFP_KERNEL) === null);
  t.ok(xa_cmpxchg(xa, 5, null, FIVE, GFP_KERNEL) === null);
  t.ok(xa_insert(xa, 5, FIVE, GFP_KERNEL) === -EBUSY.errno);
  t.ok(xa_cmpxchg(xa, 5, FIVE, null, GFP_KERNEL) === FIVE);
  t.ok(xa_insert(xa, 5, FIVE, GFP_KERNEL) !== -EBUSY.errno);
  erase_index(t, xa, far);
  erase_index(t, xa, 5);
  t.ok(xa_empty(xa));
}

export function check_reserve(t: selftest_context, xa: xarray): void {
  const far = 12345678;
  // Reserved: not empty, but nothing to load.
  t.ok(xa_empty(xa));
  t.ok(xa_reserve(xa, far, GFP_KERNEL) === 0);
  t.ok(!xa_empty(xa));
  t.ok(xa_load(xa, far) === null);
  xa_release(xa, far);
  t.ok(xa_empty(xa));

  // A store over it needs no memory; then there is nothing to release.
  t.ok(xa_reserve(xa, far, GFP_KERNEL) === 0);
  t.ok(store_index(xa, far, GFP_NOWAIT) === null);
  xa_release(xa, far);
  erase_index(t, xa, far);
  t.ok(xa_empty(xa));

  // To cmpxchg it is the zero entry.
  t.ok(xa_reserve(xa, far, GFP_KERNEL) === 0);
  t.ok(xa_cmpxchg(xa, far, XA_ZERO_ENTRY, xa_mk_value(far), GFP_NOWAIT) === null);
  xa_release(xa, far);
  erase_index(t, xa, far);
  t.ok(xa_empty(xa));

  // To insert it is in use.
  t.ok(xa_reserve(xa, far, GFP_KERNEL) === 0);
  t.ok(xa_insert(xa, far, xa_mk_value(far), 0) === -EBUSY.errno);
  t.ok(!xa_empty(xa));
  t.ok(xa_erase(xa, far) === null);
  t.ok(xa_empty(xa));

  // Walks pass it over.
  store_index(xa, 5);
  t.ok(xa_reserve(xa, 6, GFP_KERNEL) === 0);
  store_index(xa, 7);
  let count = 0;
  for (const [index] of xa_for_each(xa)) {
    t.ok(index === 5 || index === 7);
    count++;
  }
  t.ok(count === 2);

  // Allocation gives it out only after it has been released.
  if (xa.xa_flags & XA_FLAGS_TRACK_FREE) {
    const id = { val: -1 };
    t.ok(xa_alloc(xa, id, xa_mk_value(8), XA_LIMIT(5, 10), GFP_KERNEL) === 0);
    t.ok(id.val === 8);
    xa_release(xa, 6);
    t.ok(xa_alloc(xa, id, xa_mk_value(6), XA_LIMIT(5, 10), GFP_KERNEL) === 0);
    t.ok(id.val === 6);
  }
  xa_destroy(xa);
}

export function check_destroy(t: selftest_context, xa: xarray): void {
  t.ok(xa_empty(xa));
  xa_destroy(xa);
  t.ok(xa_empty(xa));
  for (let index = 0; index < 1000; index++) {
    store_index(xa, index);
    t.ok(!xa_empty(xa));
    xa_destroy(xa);
    t.ok(xa_empty(xa));
  }
  xa_store(xa, ULONG_MAX, xa, GFP_KERNEL);
  t.ok(!xa_empty(xa));
  xa_destroy(xa);
  t.ok(xa_empty(xa));
  store_order(xa, 1 << 11, 11, xa);
  t.ok(!xa_empty(xa));
  xa_destroy(xa);
  t.ok(xa_empty(xa));
}

/** Eight pointers next to each other. The kernel's differ in their low bits; ours are objects. */
function check_align_alloc(t: selftest_context, xa: xarray, names: readonly object[]): void {
  const id = { val: -1 };
  for (let i = 0; i < 8; i++) {
    t.ok(xa_alloc(xa, id, names[i]!, XA_LIMIT(0, 0xffffffff), GFP_KERNEL) === 0);
    t.ok(id.val === i);
  }
  for (const [, entry] of xa_for_each(xa)) t.ok(!xa_is_err(entry));
  xa_destroy(xa);
}

export function check_align(t: selftest_context, xa: xarray): void {
  const names = Array.from({ length: 15 }, (_, at) => ({ at }));
  for (let start = 0; start < 4; start++) check_align_alloc(t, xa, names.slice(start));

  t.ok(xa_empty(xa));
  for (let i = 0; i < 8; i++) {
    t.ok(xa_store(xa, 0, names[i]!, GFP_KERNEL) === null);
    xa_erase(xa, 0);
  }
  for (let i = 0; i < 8; i++) {
    t.ok(xa_reserve(xa, 0, GFP_KERNEL) === 0);
    t.ok(xa_store(xa, 0, names[i]!, 0) === null);
    xa_erase(xa, 0);
  }
  t.ok(xa_empty(xa));
}
