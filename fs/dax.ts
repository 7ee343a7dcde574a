/**
 * fs/dax.ts - files whose pages are the storage itself: the index of fs/dax/.
 * Linux: fs/dax.c, include/linux/dax.h.
 *
 * Reading order: dax/entry.ts (what the page tree holds), dax/lock.ts (entry locks), dax/rw.ts
 * (read and write), dax/fault.ts (mmap), dax/sync_fault.ts (MAP_SYNC), dax/writeback.ts (fsync),
 * dax/layout.ts (truncate), dax/zero.ts, dax/associate.ts, dax/trace.ts.
 */
import type { Kernel } from "../kernel/kernel.ts";
import { dax_delete_mapping_entry, dax_invalidate_mapping_entry_sync } from "./dax/layout.ts";
import {
  dax_lock_mapping_entry,
  dax_lock_page,
  dax_unlock_mapping_entry,
  dax_unlock_page,
} from "./dax/lock.ts";

export { PAGE_MAPPING_DAX_COW, dax_mapping_dev } from "./dax/associate.ts";
export {
  dax_entry_order,
  dax_entry_text,
  dax_is_empty_entry,
  dax_is_locked,
  dax_is_zero_entry,
  dax_to_value,
  pmd_order,
} from "./dax/entry.ts";
export { dax_iomap_fault, vmf_error } from "./dax/fault.ts";
export type { dax_fault_result } from "./dax/fault.ts";
export {
  dax_break_layout,
  dax_delete_mapping_entry,
  dax_invalidate_mapping_entry_sync,
  dax_layout_busy_page,
  dax_layout_busy_page_range,
  dax_wait_page_idle,
} from "./dax/layout.ts";
export {
  DAX_NO_ENTRY,
  dax_lock_mapping_entry,
  dax_lock_page,
  dax_unlock_mapping_entry,
  dax_unlock_page,
  held_dax_entries,
} from "./dax/lock.ts";
export { dax_iomap_direct_access, dax_iomap_rw } from "./dax/rw.ts";
export { dax_finish_sync_fault } from "./dax/sync_fault.ts";
export { fs_dax_events } from "./dax/trace.ts";
export { dax_writeback_mapping_range } from "./dax/writeback.ts";
export { dax_file_unshare, dax_truncate_page, dax_zero_range } from "./dax/zero.ts";

/** Boot: mm reaches the entries of DAX mappings through this. */
export function init_dax(kernel: Kernel): void {
  kernel.dax_mm_ops = {
    delete_mapping_entry: dax_delete_mapping_entry,
    invalidate_mapping_entry_sync: dax_invalidate_mapping_entry_sync,
    lock_page: dax_lock_page,
    unlock_page: (page, cookie) => dax_unlock_page(page, cookie as number),
    lock_mapping_entry: dax_lock_mapping_entry,
    unlock_mapping_entry: dax_unlock_mapping_entry,
  };
}
