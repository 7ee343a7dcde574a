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
export { dax_direct_access, dax_holder_notify_failure } from "../../drivers/dax/super.ts";
export { attach_pmem, detach_pmem } from "../../drivers/nvdimm/pmem.ts";
export { find_vma } from "../../mm/vma.ts";
export { get_page, pfn_to_page, put_page } from "../../mm/page.ts";
export { lookup_entry, pte_pfn } from "../../mm/pgtable.ts";
export { describe_deadlock } from "../../kernel/locking/describe.ts";
