/**
 * tools/selftest/xarray/alloc.ts - arrays that give out ids.
 * Linux: lib/test_xarray.c (check_xa_alloc).
 */
import { EBUSY } from "../../../kernel/include/errno.ts";
import { GFP_KERNEL } from "../../../kernel/include/gfp.ts";
import {
  XA_LIMIT,
  xa_alloc,
  xa_alloc_cyclic,
  xa_destroy,
  xa_empty,
  xa_erase,
  xa_for_each,
  xa_limit_32b,
  xa_store,
} from "../../../kernel/lib/xarray.ts";
import type { xa_entry, xa_limit, xarray } from "../../../kernel/lib/xarray.ts";
import { alloc_index, erase_index, mk_index, store_index } from "./context.ts";
import type { selftest_context } from "./context.ts";

const UINT_MAX = 0xffffffff;

function check_alloc_limits(t: selftest_context, xa: xarray): void {
  const top = XA_LIMIT(UINT_MAX - 1, UINT_MAX);
  const id = { val: -1 };
  for (const want of [UINT_MAX - 1, UINT_MAX]) {
    t.ok(xa_alloc(xa, id, mk_index(want), top, GFP_KERNEL) === 0);
    t.ok(id.val === want);
  }
  id.val = 3;
  t.ok(xa_alloc(xa, id, mk_index(0), top, GFP_KERNEL) === -EBUSY.errno);
  t.ok(id.val === 3);
  xa_destroy(xa);

  // A limit with nothing in it.
  const none = XA_LIMIT(10, 5);
  t.ok(xa_alloc(xa, id, mk_index(10), none, GFP_KERNEL) === -EBUSY.errno);
  t.ok(store_index(xa, 3) === null);
  t.ok(xa_alloc(xa, id, mk_index(10), none, GFP_KERNEL) === -EBUSY.errno);
  erase_index(t, xa, 3);
  t.ok(xa_empty(xa));
}

function check_alloc_lowest(t: selftest_context, xa: xarray, base: number): void {
  const two_nodes = 2 << t.chunk_shift;
  t.ok(xa_empty(xa));
  alloc_index(t, xa, base);
  erase_index(t, xa, base);
  t.ok(xa_empty(xa));
  alloc_index(t, xa, base);

  // The base survives many allocations and erasures, and a destroy.
  for (let i = base + 1; i < two_nodes; i++) alloc_index(t, xa, i);
  for (let i = base; i < two_nodes; i++) erase_index(t, xa, i);
  alloc_index(t, xa, base);
  xa_destroy(xa);
  alloc_index(t, xa, base);

  // What a plain store took is not given out; what was erased is.
  alloc_index(t, xa, base + 1);
  erase_index(t, xa, base + 1);
  store_index(xa, base + 1);
  alloc_index(t, xa, base + 2);
  erase_index(t, xa, base);
  alloc_index(t, xa, base);
  erase_index(t, xa, base + 1);
  erase_index(t, xa, base + 2);
  for (let i = 1; i < 5000; i++) alloc_index(t, xa, base + i);
  xa_destroy(xa);
  check_alloc_limits(t, xa);
}

/** Ids taken with a null entry: in use, but they load as empty. */
function check_alloc_null(t: selftest_context, xa: xarray, base: number): void {
  const id = { val: -1 };
  const take = (want: number): void => {
    t.ok(xa_alloc(xa, id, null, xa_limit_32b, GFP_KERNEL) === 0);
    t.ok(id.val === want);
  };
  t.ok(xa_empty(xa));
  take(base);
  t.ok(!xa_empty(xa));
  t.ok(xa_erase(xa, id.val) === null);
  t.ok(xa_empty(xa));

  t.ok(xa_empty(xa));
  take(base);
  t.ok(!xa_empty(xa));
  xa_destroy(xa);
  t.ok(xa_empty(xa));

  for (let i = base; i < base + 10; i++) take(i);
  t.ok(xa_store(xa, 3, mk_index(3), GFP_KERNEL) === null);
  t.ok(xa_store(xa, 4, mk_index(4), GFP_KERNEL) === null);
  // Storing null keeps the id, erasing gives it back.
  t.ok(xa_store(xa, 4, null, GFP_KERNEL) === mk_index(4));
  t.ok(xa_erase(xa, 5) === null);
  take(5);
  for (const [index] of xa_for_each(xa)) erase_index(t, xa, index);

  for (let i = base; i < base + 9; i++) {
    t.ok(xa_erase(xa, i) === null);
    t.ok(!xa_empty(xa));
  }
  t.ok(xa_erase(xa, 8) === null);
  t.ok(!xa_empty(xa));
  t.ok(xa_erase(xa, base + 9) === null);
  t.ok(xa_empty(xa));
  xa_destroy(xa);
}

function check_alloc_cyclic(t: selftest_context, xa: xarray, base: number): void {
  const limit = XA_LIMIT(1, 0x3fff);
  const next = { val: 0 };
  const id = { val: -1 };
  const take = (entry: xa_entry, within: xa_limit): number =>
    xa_alloc_cyclic(xa, id, entry, within, next, GFP_KERNEL);

  t.ok(take(mk_index(1), limit) === 0);
  t.ok(id.val === 1);
  next.val = 0x3ffd;
  t.ok(take(mk_index(0x3ffd), limit) === 0);
  t.ok(id.val === 0x3ffd);
  erase_index(t, xa, 0x3ffd);
  erase_index(t, xa, 1);
  t.ok(xa_empty(xa));

  // Over the upper limit and on from the lower: the one call that wraps says so.
  for (let i = 0x3ffe; i < 0x4003; i++) {
    const want = i < 0x4000 ? i : i - 0x3fff;
    const ret = take(mk_index(want), limit);
    t.ok(ret === (id.val === 1 ? 1 : 0));
    t.ok(id.val === want);
  }

  // The same at the end of the 32-bit range.
  if (base !== 0) erase_index(t, xa, base);
  erase_index(t, xa, base + 1);
  next.val = UINT_MAX;
  const steps = [
    [UINT_MAX, 0],
    [base, 1],
    [base + 1, 0],
  ] as const;
  for (const [want, wrapped] of steps) {
    t.ok(take(mk_index(want), xa_limit_32b) === wrapped);
    t.ok(id.val === want);
  }
  for (const [index] of xa_for_each(xa)) erase_index(t, xa, index);
  t.ok(xa_empty(xa));
}

export function check_xa_alloc(t: selftest_context): void {
  const arrays = [t.xa0, t.xa1];
  for (const check of [check_alloc_lowest, check_alloc_null, check_alloc_cyclic]) {
    for (const [base, xa] of arrays.entries()) check(t, xa, base);
  }
}
