/**
 * mm/user_flush.ts - a program makes its own stores durable: clwb and sfence on mapped memory.
 * Linux: none, these are instructions (libpmem's pmem_persist() is clwb of each line and sfence).
 *
 * To the page tables clwb is a load: it faults like one, and sets the accessed bit, not the dirty
 * bit. So it makes nothing writable, allocates nothing, and flushing a hole flushes the zero page.
 */
import type { Sometime } from "../kernel/include/fs.ts";
import type { task_struct } from "../kernel/sched/task.ts";
import { then } from "./sometime.ts";
import { type access_fault, user_fault, user_paddr } from "./uaccess.ts";

/** Lines of [addr, addr + len), whole pages at a time; `done`: bytes before `addr` in this call. */
function clwb_from(task: task_struct, addr: number, len: number, done: number): Sometime<void> {
  const mm = task.mm!;
  const { phys, PAGE_SIZE } = task.kernel;
  while (len > 0) {
    const n = Math.min(len, PAGE_SIZE - (addr % PAGE_SIZE));
    const paddr = user_paddr(mm, addr, false);
    if (paddr < 0) {
      const [at, left, before] = [addr, len, done];
      return then(user_fault(mm, at, false, true), (info) => {
        if (info === null) return clwb_from(task, at, left, before);
        const fault: access_fault = { info, completed: before };
        throw fault;
      });
    }
    phys.clwb(paddr, n);
    addr += n;
    len -= n;
    done += n;
  }
}

/**
 * Starts to write back every cache line that overlaps [addr, addr + len); durable after the next
 * user_sfence(). Throws an access_fault where a load would.
 */
export function user_clwb(task: task_struct, addr: number, len: number): Sometime<void> {
  const s = task.kernel.sched;
  const p = s.exploring ? s.sched_point() : undefined;
  return p ? p.then(() => clwb_from(task, addr, len, 0)) : clwb_from(task, addr, len, 0);
}

/** Orders: what was written back before is durable now (unless the device needs a host's flush). */
export function user_sfence(task: task_struct): void {
  task.kernel.phys.sfence();
}
