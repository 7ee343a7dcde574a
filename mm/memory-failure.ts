/**
 * mm/memory-failure.ts - a page of memory is bad: who is told, and what becomes of it. Linux:
 * mm/memory-failure.c.
 *
 * Reading order: memory_failure() -> memory_failure_dev_pagemap() -> mf_generic_kill_procs();
 * memory-failure/page.ts (ordinary memory), memory-failure/kill.ts (signals),
 * memory-failure/media.ts (how an access meets a bad line).
 *
 * The walk for device memory: the page map's owner (pmem) is asked first; it asks the holder of its
 * DAX device, a filesystem, which knows the owner of the block. If that is "not supported" anywhere
 * on the way, the page itself says which file it is of, and all who map it there are told.
 *
 * Locks: mf_mutex, global and outermost. Then the holder's, or: the DAX entry of the page >
 * i_mmap_rwsem (read) > tasklist_lock.
 * The poison flag of a device page marks it only: the memory may be mapped and used again
 * (recorded). What keeps it from use is the disk's list of bad blocks.
 */
import { assert } from "../kernel/assert.ts";
import { capable } from "../kernel/cred.ts";
import { guarded } from "../kernel/guards.ts";
import { CAP_SYS_ADMIN } from "../kernel/include/cred.ts";
import { EBUSY, ENOENT, ENXIO, EOPNOTSUPP, EPERM } from "../kernel/include/errno.ts";
import { is_errno } from "../kernel/include/errno.ts";
import type { Errno } from "../kernel/include/errno.ts";
import {
  MF_ACTION_REQUIRED,
  MF_COUNT_INCREASED,
  MF_MEM_PRE_REMOVE,
  MF_MUST_KILL,
  MF_SW_SIMULATED,
  trace_mf_begin,
  trace_mf_hop,
} from "../kernel/include/mf.ts";
import { PG_hwpoison } from "../kernel/include/mm_types.ts";
import type { address_space, dev_pagemap, page } from "../kernel/include/mm_types.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { note_access, sched_point } from "../kernel/sched/core.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { get_user_pages } from "./gup.ts";
import { unmap_mapping_range } from "./memory/rmap.ts";
import { collect_procs_file, kill_procs } from "./memory-failure/kill.ts";
import type { to_kill } from "./memory-failure/kill.ts";
import { action_result, memory_failure_page, soft_offline_page } from "./memory-failure/page.ts";
import { mf_state_of } from "./memory-failure/state.ts";
import { task_mm } from "./mmap.ts";
import { compound_head, get_dev_pagemap, is_device_pfn, pfn_to_page } from "./page.ts";
import { put_dev_pagemap, put_page } from "./page.ts";
import { lookup_entry, pte_pfn, pte_present } from "./pgtable.ts";

export { set_mce_kill } from "./memory-failure/kill.ts";
export { soft_offline_page } from "./memory-failure/page.ts";

/** Unmaps what is lost, as much as the largest mapping covers, and sends the signals. */
async function unmap_and_kill(
  list: to_kill[],
  pfn: number,
  mapping: address_space,
  index: number,
  flags: number,
): Promise<void> {
  const { kernel } = mapping;
  const size = list.reduce((most, tk) => Math.max(most, 2 ** tk.size_shift), 0);
  if (size > 0) {
    const at = index * kernel.PAGE_SIZE;
    const p = unmap_mapping_range(mapping, at - (at % size), size, false);
    if (p) await p;
  }
  if (flags & (MF_MUST_KILL | MF_MEM_PRE_REMOVE)) kill_procs(kernel, list, pfn, flags);
}

function hop(kernel: Kernel, name: string, who: string, what: string, err: unknown): void {
  if (!kernel.trace.enabled) return;
  const error = err === null ? "" : is_errno(err) ? err.code : String(err);
  kernel.trace.emit(trace_mf_hop, { hop: name, who, what, error });
}

/** Who has the page mapped loses it and hears of it. The page's entry is locked: it stays put. */
async function kill_users(kernel: Kernel, page: page, pfn: number, flags: number): Promise<void> {
  note_access(kernel, page, true);
  page.flags |= PG_hwpoison;
  const { mapping, index } = page;
  assert(mapping, "memory failure: the page has no file any more");
  const list = await collect_procs_file(page, mapping, index, true);
  const must = flags | MF_ACTION_REQUIRED | MF_MUST_KILL;
  await unmap_and_kill(list, pfn, mapping, index, must);
}

/**
 * Nobody above knows the owner of the page: the page's own file does. Of a huge page of device-dax
 * all is lost, and its first address is the one that is told. Throws EBUSY.
 */
async function mf_generic_kill_procs(kernel: Kernel, bad: page, flags: number): Promise<void> {
  const ops = kernel.dax_mm_ops;
  const page = compound_head(bad);
  note_access(kernel, page, false);
  if (!page.mapping?.host) throw EBUSY;
  if (!guarded(kernel, "mf_dax_entry_lock")) return await kill_users(kernel, page, bad.pfn, flags);
  const cookie = await ops?.lock_page?.(page);
  if (cookie === null || cookie === undefined) throw EBUSY;
  try {
    await kill_users(kernel, page, bad.pfn, flags);
  } finally {
    ops!.unlock_page!(page, cookie);
  }
}

/**
 * For the holder, a filesystem that found the owner: tells all who map pages [index, index + count)
 * of its file. With MF_MEM_PRE_REMOVE (6.8) the pages are good, the access is what goes, and
 * everybody is told. Throws EBUSY when the file has no DAX.
 */
export async function mf_dax_kill_procs(
  mapping: address_space,
  index: number,
  count: number,
  mf_flags: number,
): Promise<void> {
  const ops = mapping.kernel.dax_mm_ops;
  const pre_remove = (mf_flags & MF_MEM_PRE_REMOVE) !== 0;
  const flags = mf_flags | MF_ACTION_REQUIRED | (pre_remove ? 0 : MF_MUST_KILL);
  for (let i = index; i < index + count; i++) {
    const locked = await ops?.lock_mapping_entry?.(mapping, i);
    if (!locked || locked.cookie === null) throw EBUSY;
    try {
      const { page } = locked;
      if (!page) continue;
      if (!pre_remove) page.flags |= PG_hwpoison;
      const list = await collect_procs_file(page, mapping, i, true, pre_remove);
      await unmap_and_kill(list, page.pfn, mapping, i, flags);
    } finally {
      ops!.unlock_mapping_entry!(mapping, i, locked.cookie);
    }
  }
}

async function ask_driver(map: dev_pagemap, pfn: number, flags: number): Promise<Errno | null> {
  try {
    await map.memory_failure!(map, pfn, 1, flags);
    return null;
  } catch (err) {
    if (!is_errno(err)) throw err;
    return err;
  }
}

async function memory_failure_dev_pagemap(
  kernel: Kernel,
  page: page,
  map: dev_pagemap,
  flags: number,
): Promise<void> {
  const { pfn } = page;
  if (flags & MF_COUNT_INCREASED) put_page(page);
  let rc: Errno | null = EOPNOTSUPP;
  if (map.memory_failure) {
    rc = await ask_driver(map, pfn, flags);
    hop(kernel, "driver", map.type, "dev_pagemap_ops.memory_failure", rc);
  }
  if (rc === EOPNOTSUPP) {
    rc = await mf_generic_kill_procs(kernel, page, flags).then(
      () => null,
      (err) => {
        if (!is_errno(err)) throw err;
        return err;
      },
    );
    hop(kernel, "generic", "mm", "mf_generic_kill_procs", rc);
  }
  action_result(kernel, pfn, "dax page", rc ? "Failed" : "Recovered");
  if (rc) throw rc;
}

function begin(kernel: Kernel, pfn: number, flags: number): void {
  if (!kernel.trace.enabled) return;
  const paddr = pfn * kernel.PAGE_SIZE;
  const r = kernel.phys.region_of(paddr);
  const offset = r ? paddr - r.start : paddr;
  kernel.trace.emit(trace_mf_begin, { pfn, flags, region: r?.name ?? "", offset });
}

/**
 * Handles the loss of a page frame. Returns when it could be contained; throws what could not:
 * EBUSY, ENXIO (nobody's memory), EHWPOISON (known before), or the holder's error. A signal for
 * the running task waits in task.forced_signal.
 */
export async function memory_failure(kernel: Kernel, pfn: number, flags: number): Promise<void> {
  const { mf_mutex } = mf_state_of(kernel);
  const one_at_a_time = guarded(kernel, "mf_mutex");
  const p = one_at_a_time ? mf_mutex.lock() : sched_point(kernel);
  if (p) await p;
  try {
    begin(kernel, pfn, flags);
    await handle_failure(kernel, pfn, flags);
  } finally {
    if (one_at_a_time) mf_mutex.unlock();
  }
}

async function handle_failure(kernel: Kernel, pfn: number, flags: number): Promise<void> {
  const map = get_dev_pagemap(kernel, pfn);
  const page = map || !is_device_pfn(kernel, pfn) ? pfn_to_page(kernel, pfn) : null;
  if (page === null) {
    kernel.pr_err(`Memory failure: 0x${pfn.toString(16)}: memory outside kernel control`);
    throw ENXIO;
  }
  if (!map) return await memory_failure_page(kernel, page, flags);
  try {
    await memory_failure_dev_pagemap(kernel, page, map, flags);
    const gone = pfn_to_page(kernel, pfn) !== page;
    kernel.WARN_ON_ONCE(gone, "memory failure: used a page descriptor that is gone");
  } finally {
    put_dev_pagemap(kernel, map);
  }
}

/** As memory_failure(), where "filtered" is no failure. */
async function inject(kernel: Kernel, pfn: number, flags: number): Promise<void> {
  try {
    await memory_failure(kernel, pfn, flags | MF_SW_SIMULATED);
  } catch (err) {
    if (err !== EOPNOTSUPP) throw err;
  }
}

/** MADV_HWPOISON and MADV_SOFT_OFFLINE on [start, end). EPERM, EFAULT, and what handling throws. */
export async function madvise_inject_error(
  task: task_struct,
  start: number,
  end: number,
  soft: boolean,
): Promise<void> {
  const { kernel } = task;
  if (!capable(kernel, CAP_SYS_ADMIN)) throw EPERM;
  for (let at = start; at < end; at += kernel.PAGE_SIZE) {
    const [page] = await get_user_pages(task_mm(task), at, 1, false);
    const where = `pfn 0x${page!.pfn.toString(16)} at process virtual address 0x${at.toString(16)}`;
    if (soft) {
      kernel.pr_info(`Soft offlining ${where}`);
      await soft_offline_page(kernel, page!);
    } else {
      kernel.pr_info(`Injecting memory failure for ${where}`);
      await inject(kernel, page!.pfn, MF_COUNT_INCREASED);
    }
  }
}

/** hwpoison/corrupt-pfn of debugfs: fails a frame whoever uses it. EPERM, ENXIO. */
export async function hwpoison_inject(task: task_struct, pfn: number): Promise<void> {
  const { kernel } = task;
  if (!capable(kernel, CAP_SYS_ADMIN)) throw EPERM;
  if (pfn_to_page(kernel, pfn) === null) throw ENXIO;
  kernel.pr_info(`Injecting memory failure at pfn 0x${pfn.toString(16)}`);
  await inject(kernel, pfn, 0);
}

/** The frame at an address, as /proc/PID/pagemap tells it. ENOENT: nothing is mapped there. */
export function mapped_pfn(task: task_struct, addr: number): number {
  const { entry, size } = lookup_entry(task_mm(task), addr);
  if (!pte_present(entry)) throw ENOENT;
  return pte_pfn(entry) + Math.floor((addr % size) / task.kernel.PAGE_SIZE);
}
