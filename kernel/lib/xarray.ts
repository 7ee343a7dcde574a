/**
 * kernel/lib/xarray.ts - XArray: index -> entry, ordered, with marks and multi-index entries.
 * Linux: include/linux/xarray.h, lib/xarray.c (6.1). The index of kernel/lib/xarray/.
 *
 * Reading order: value.ts (what a slot holds), node.ts (the tree), xas.ts (the cursor), find.ts,
 * xas_store.ts, marks.ts, api.ts (what most code wants), id_alloc.ts, dump.ts.
 */
export * from "./xarray/value.ts";
export { XAS_BOUNDS, XAS_ERROR, XAS_RESTART, xa_head, xa_is_internal } from "./xarray/node.ts";
export { xa_is_node, xa_marked, xa_node, xa_slot, xarray } from "./xarray/node.ts";
export type { xa_lock_t, xarray_options } from "./xarray/node.ts";
export { XA_STATE, XA_STATE_ORDER, xa_state, xas_advance, xas_destroy } from "./xarray/xas.ts";
export { xas_error, xas_invalid, xas_is_node, xas_load, xas_lock, xas_next } from "./xarray/xas.ts";
export { xas_nomem, xas_not_node, xas_prev, xas_reload, xas_reset } from "./xarray/xas.ts";
export { xas_retry, xas_set, xas_set_err, xas_set_order, xas_set_update } from "./xarray/xas.ts";
export { xas_top, xas_unlock, xas_valid } from "./xarray/xas.ts";
export type { xa_update_node_t } from "./xarray/xas.ts";
export { xas_find, xas_find_conflict, xas_find_marked, xas_get_order } from "./xarray/find.ts";
export { xas_next_entry, xas_next_marked, xas_pause } from "./xarray/find.ts";
export { xas_create_range, xas_split, xas_split_alloc, xas_store } from "./xarray/xas_store.ts";
export { xas_clear_mark, xas_get_mark, xas_init_marks, xas_set_mark } from "./xarray/marks.ts";
export * from "./xarray/api.ts";
export * from "./xarray/id_alloc.ts";
export { xa_dump } from "./xarray/dump.ts";
