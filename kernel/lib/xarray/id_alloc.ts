/**
 * kernel/lib/xarray/id_alloc.ts - allocating arrays: which index is free (XA_FLAGS_ALLOC).
 * Linux: lib/xarray.c (xa_alloc, xa_alloc_cyclic). Differs: none.
 *
 * Such an array carries XA_FREE_MARK on every slot that may be given out, so that the search for
 * one is a marked search. Locks: as in api.ts.
 */
import { EBUSY, EINVAL } from "../../include/errno.ts";
import type { gfp_t } from "../../include/gfp.ts";
import { xa_lock, xa_unlock } from "./api.ts";
import { xas_find_marked } from "./find.ts";
import { xas_clear_mark } from "./marks.ts";
import { XAS_RESTART, xa_track_free, type xarray } from "./node.ts";
import { XA_FLAGS_ALLOC_WRAPPED, XA_FREE_MARK, XA_ZERO_ENTRY, xa_is_advanced } from "./value.ts";
import type { xa_entry, xa_limit, xa_ref } from "./value.ts";
import { __xas_nomem, xa_state, xas_error, xas_set, xas_set_err } from "./xas.ts";
import { xas_store } from "./xas_store.ts";

/**
 * Stores at the lowest free index within `limit` of an allocating array and writes it to `id`.
 * Returns 0, -EBUSY when all are taken, -ENOMEM. Null reserves the id.
 */
export function __xa_alloc(
  xa: xarray,
  id: xa_ref,
  entry: xa_entry,
  limit: xa_limit,
  gfp: gfp_t,
): number {
  if (xa_is_advanced(entry) || !xa_track_free(xa)) return -EINVAL.errno;
  const xas = new xa_state(xa, 0);
  do {
    xas_set(xas, limit.min);
    xas_find_marked(xas, limit.max, XA_FREE_MARK);
    if (xas.xa_node === XAS_RESTART) {
      xas_set_err(xas, -EBUSY.errno);
      continue;
    }
    id.val = xas.xa_index;
    xas_store(xas, entry ?? XA_ZERO_ENTRY);
    xas_clear_mark(xas, XA_FREE_MARK);
  } while (__xas_nomem(xas, gfp));
  return xas_error(xas);
}

export function xa_alloc(
  xa: xarray,
  id: xa_ref,
  entry: xa_entry,
  limit: xa_limit,
  gfp: gfp_t,
): number {
  xa_lock(xa);
  const err = __xa_alloc(xa, id, entry, limit, gfp);
  xa_unlock(xa);
  return err;
}

/**
 * As __xa_alloc(), but searches from `next` on, and then from the start of `limit`: 1 if the ids
 * have wrapped since the last call. `next` becomes the id after the one given out.
 */
export function __xa_alloc_cyclic(
  xa: xarray,
  id: xa_ref,
  entry: xa_entry,
  limit: xa_limit,
  next: xa_ref,
  gfp: gfp_t,
): number {
  const min = Math.max(limit.min, next.val);
  let ret = __xa_alloc(xa, id, entry, { min, max: limit.max }, gfp);
  if (ret === 0 && xa.xa_flags & XA_FLAGS_ALLOC_WRAPPED) {
    xa.xa_flags &= ~XA_FLAGS_ALLOC_WRAPPED;
    ret = 1;
  }
  if (ret < 0 && min > limit.min) {
    ret = __xa_alloc(xa, id, entry, limit, gfp);
    if (ret === 0) ret = 1;
  }
  if (ret >= 0) {
    // Ids are 32 bits wide; the wrap is told by the next call.
    next.val = id.val === 0xffffffff ? 0 : id.val + 1;
    if (next.val === 0) xa.xa_flags |= XA_FLAGS_ALLOC_WRAPPED;
  }
  return ret;
}

export function xa_alloc_cyclic(
  xa: xarray,
  id: xa_ref,
  entry: xa_entry,
  limit: xa_limit,
  next: xa_ref,
  gfp: gfp_t,
): number {
  xa_lock(xa);
  const err = __xa_alloc_cyclic(xa, id, entry, limit, next, gfp);
  xa_unlock(xa);
  return err;
}
