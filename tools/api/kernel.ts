/**
 * tools/api/kernel.ts - "daxlab/kernel": the kernel's own functions, for `p.in_kernel()`. Names and
 * meaning are the kernel's; see the files they come from.
 */
export { assert, notImplemented } from "../../kernel/assert.ts";
export * from "../../kernel/include/errno.ts";
export * from "../../kernel/include/fs.ts";
export * from "../../kernel/include/mm_types.ts";
export * from "../../kernel/lib/xarray.ts";
export { Kernel } from "../../kernel/kernel.ts";
export { Machine as CoreMachine } from "../../kernel/machine.ts";
export * from "../../kernel/locking/locks.ts";
export * from "../../kernel/sched/core.ts";
export { shared } from "../../kernel/sched/shared.ts";
export type { task_struct } from "../../kernel/sched/task.ts";
export * from "../../kernel/vfs/inode.ts";
export { fget } from "../../fs/file.ts";
export { fput } from "../../kernel/vfs/file.ts";
export { guard_table, unguard } from "../../kernel/guards.ts";
export {
  alloc_dax,
  dax_alive,
  dax_direct_access,
  dax_holder,
  dax_holder_notify_failure,
  fs_dax_claim,
  fs_dax_get_by_bdev,
  fs_dax_release,
  fs_put_dax,
  kill_dax,
} from "../../drivers/dax/super.ts";
export { dax_read, set_dax_holder_rwsem } from "../../drivers/dax/holder.ts";
export * from "../../drivers/md/dm-ioctl.ts";
export { attach_pmem, detach_pmem } from "../../drivers/nvdimm/pmem.ts";
export { pin_user_pages, unpin_user_pages } from "../../mm/gup.ts";
export { memory_failure, mf_dax_kill_procs } from "../../mm/memory-failure.ts";
export { trace_mf_task } from "../../kernel/include/mf.ts";
export { dax_entry_pfn } from "../../fs/dax/associate.ts";
export { dax_page_idle_queue } from "../../fs/dax/layout.ts";
export { find_vma } from "../../mm/vma.ts";
export { get_page, pfn_to_page, put_page } from "../../mm/page.ts";
export { lookup_entry, pte_pfn, pte_present } from "../../mm/pgtable.ts";
export { describe_deadlock } from "../../kernel/locking/describe.ts";
