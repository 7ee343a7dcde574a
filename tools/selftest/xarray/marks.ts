/**
 * tools/selftest/xarray/marks.ts - marks, and the callback that is told of a node's counts.
 * Linux: lib/test_xarray.c (check_xa_mark, check_workingset).
 */
import {
  ULONG_MAX,
  XA_MARK_0,
  XA_MARK_1,
  XA_MARK_2,
  XA_STATE,
  xa_delete_node,
  xa_destroy,
  xa_empty,
  xa_get_mark,
  xa_lock,
  xa_set_mark,
  xa_unlock,
  xas_find,
  xas_find_marked,
  xas_get_mark,
  xas_init_marks,
  xas_load,
  xas_lock,
  xas_next,
  xas_next_entry,
  xas_next_marked,
  xas_nomem,
  xas_reset,
  xas_set,
  xas_set_update,
  xas_store,
  xas_unlock,
} from "../../../kernel/lib/xarray.ts";
import type { xa_node, xa_state, xarray } from "../../../kernel/lib/xarray.ts";
import { GFP_KERNEL } from "../../../kernel/include/gfp.ts";
import { erase_index, mk_index, store_index, store_order } from "./context.ts";
import type { selftest_context } from "./context.ts";

function count_present(xas: xa_state): number {
  let seen = 0;
  for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) seen++;
  return seen;
}

function count_marked(xas: xa_state): number {
  let seen = 0;
  let e = xas_find_marked(xas, ULONG_MAX, XA_MARK_0);
  for (; e !== null; e = xas_next_marked(xas, ULONG_MAX, XA_MARK_0)) seen++;
  return seen;
}

/** Two marked entries united into one of `order`, with another one behind it. */
function check_united_marks(t: selftest_context, xa: xarray, index: number, order: number): void {
  const base = index - (index % 2 ** order);
  const next = base + 2 ** order;
  t.ok(store_index(xa, index + 1) === null);
  xa_set_mark(xa, index + 1, XA_MARK_0);
  t.ok(store_index(xa, index + 2) === null);
  xa_set_mark(xa, index + 2, XA_MARK_2);
  t.ok(store_index(xa, next) === null);
  store_order(xa, index, order, mk_index(index));
  for (let i = base; i < next; i++) {
    t.ok(xa_get_mark(xa, i, XA_MARK_0));
    t.ok(!xa_get_mark(xa, i, XA_MARK_1));
    t.ok(xa_get_mark(xa, i, XA_MARK_2));
    const xas = XA_STATE(xa, i);
    t.ok(count_present(xas) === 2);
    xas_set(xas, 0);
    t.ok(count_marked(xas) === 1);
  }
  for (const mark of [XA_MARK_0, XA_MARK_1, XA_MARK_2]) t.ok(!xa_get_mark(xa, next, mark));
  erase_index(t, xa, index);
  erase_index(t, xa, next);
  t.ok(xa_empty(xa));
}

function check_marks_at(t: selftest_context, xa: xarray, index: number): void {
  // Nothing there, nothing marked.
  t.ok(!xa_get_mark(xa, index, XA_MARK_0));
  xa_set_mark(xa, index, XA_MARK_0);
  t.ok(!xa_get_mark(xa, index, XA_MARK_0));
  // A store makes no mark.
  t.ok(store_index(xa, index) === null);
  t.ok(!xa_get_mark(xa, index, XA_MARK_0));
  xa_set_mark(xa, index, XA_MARK_0);
  t.ok(xa_get_mark(xa, index, XA_MARK_0));
  // Neither the neighbour nor another mark.
  t.ok(!xa_get_mark(xa, index + 1, XA_MARK_0));
  t.ok(!xa_get_mark(xa, index, XA_MARK_1));
  // Gone with the entry.
  erase_index(t, xa, index);
  t.ok(xa_empty(xa));
  t.ok(!xa_get_mark(xa, index, XA_MARK_0));
  xa_set_mark(xa, index, XA_MARK_0);
  t.ok(!xa_get_mark(xa, index, XA_MARK_0));

  for (let order = 2; order < 8; order++) check_united_marks(t, xa, index, order);
  t.ok(xa_empty(xa));
}

function check_marked_walk(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0);
  store_index(xa, 0);
  xa_set_mark(xa, 0, XA_MARK_0);
  xas_lock(xas);
  xas_load(xas);
  xas_init_marks(xas);
  xas_unlock(xas);
  t.ok(!xa_get_mark(xa, 0, XA_MARK_0));

  for (let index = 3500; index < 4500; index++) {
    store_index(xa, index);
    xa_set_mark(xa, index, XA_MARK_0);
  }
  xas_reset(xas);
  t.ok(count_marked(xas) === 1000);

  xas_lock(xas);
  for (let e = xas_find(xas, ULONG_MAX); e !== null; e = xas_next_entry(xas, ULONG_MAX)) {
    xas_init_marks(xas);
    t.ok(!xa_get_mark(xa, xas.xa_index, XA_MARK_0));
    t.ok(!xas_get_mark(xas, XA_MARK_0));
  }
  xas_unlock(xas);
  xa_destroy(xa);
}

/** A mark set, and then searched for, through the second index of an entry. */
function check_mark_inside(t: selftest_context, xa: xarray): void {
  const xas = XA_STATE(xa, 0x41);
  store_order(xa, 0x40, 2, mk_index(0x40));
  xa_set_mark(xa, 0x41, XA_MARK_0);
  let count = 0;
  let e = xas_find_marked(xas, ULONG_MAX, XA_MARK_0);
  for (; e !== null; e = xas_next_marked(xas, ULONG_MAX, XA_MARK_0)) {
    count++;
    t.ok(e === mk_index(0x40));
  }
  t.ok(count === 1);
  xa_destroy(xa);
}

export function check_xa_mark(t: selftest_context, xa: xarray): void {
  for (let index = 0; index < 16384; index += 4) check_marks_at(t, xa, index);
  check_marked_walk(t, xa);
  check_mark_inside(t, xa);
}

/** Lists the nodes that hold values and nothing else, as the kernel does with shadow entries. */
export function check_workingset(t: selftest_context, xa: xarray, index: number): void {
  const shadow_nodes = t.shadow_nodes;
  const update = (node: xa_node): void => {
    if (node.count !== 0 && node.count === node.nr_values) {
      shadow_nodes.add(node);
      node.private_list = shadow_nodes;
    } else {
      shadow_nodes.delete(node);
      node.private_list = null;
    }
  };
  const xas = XA_STATE(xa, index);
  xas_set_update(xas, update);
  do {
    xas_lock(xas);
    xas_store(xas, 0);
    xas_next(xas);
    xas_store(xas, 1);
    xas_unlock(xas);
  } while (xas_nomem(xas, GFP_KERNEL));
  t.ok(shadow_nodes.size > 0);

  xas_lock(xas);
  xas_next(xas);
  xas_store(xas, xas);
  t.ok(shadow_nodes.size === 0);
  xas_store(xas, 2);
  xas_unlock(xas);
  t.ok(shadow_nodes.size > 0);

  xa_lock(xa);
  for (const node of shadow_nodes) {
    t.ok(node.array === xa);
    shadow_nodes.delete(node);
    node.private_list = null;
    xa_delete_node(node, update);
  }
  xa_unlock(xa);
  t.ok(shadow_nodes.size === 0);
  t.ok(xa_empty(xa));
}
