/**
 * mm/memory-failure/media.ts - lines of memory that cannot be read any more, and what an access to
 * one causes. Linux: arch/x86/kernel/cpu/mce/core.c, drivers/acpi/nfit/mce.c; the rest is hardware.
 *
 * Granularity: lines of 64 bytes. The driver does not know of them until an access meets one: then
 * the processor raises a machine check. A program's load gets SIGBUS "action required" for the
 * whole page, after memory_failure(); a kernel's copy stops short (EFAULT or EIO to its caller),
 * and nobody else is told. Either way the owner of the memory notes the block as bad, and refuses
 * it from then on. Stores do not notice, and do not repair: the device does that when asked
 * (clear_poison).
 *
 * Nothing here costs an access of good memory anything: a frame with bad lines never enters the
 * TLB.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import { MF_ACTION_REQUIRED } from "../../kernel/include/mf.ts";
import type { mm_struct } from "../../kernel/include/mm_types.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import type { siginfo } from "../../kernel/signal.ts";
import { BUS_MCEERR_AR, SIGBUS, make_siginfo, take_forced_signal } from "../../kernel/signal.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { task_work_add } from "../../kernel/task_work.ts";
import { memory_failure } from "../memory-failure.ts";
import { PAGE, pfn_to_page } from "../page.ts";
import { TLB } from "../pgtable.ts";
import { type bad_lines, mf_state_of } from "./state.ts";

export const MEDIA_LINE = 64;

/** Makes bytes [paddr, paddr + len) unreadable, in whole lines. */
export function add_media_error(kernel: Kernel, paddr: number, len: number): void {
  const mf = mf_state_of(kernel);
  mf.media ??= new Map();
  for (let at = paddr - (paddr % MEDIA_LINE); at < paddr + len; at += MEDIA_LINE) {
    const pfn = Math.floor(at / kernel.PAGE_SIZE);
    let lines = mf.media.get(pfn);
    if (!lines) mf.media.set(pfn, (lines = new Set()));
    lines.add((at % kernel.PAGE_SIZE) / MEDIA_LINE);
  }
  // What is in a TLB would be read without a look here.
  for (const t of kernel.machine.sched.tasks) if (t.mm) TLB(t.mm).flush_all();
}

/** The device has repaired the lines that lie wholly in the range. */
export function clear_media_error(kernel: Kernel, paddr: number, len: number): void {
  const mf = mf_state_of(kernel);
  if (mf.media === null) return;
  const first = Math.ceil(paddr / MEDIA_LINE);
  const per_page = kernel.PAGE_SIZE / MEDIA_LINE;
  for (let line = first; (line + 1) * MEDIA_LINE <= paddr + len; line++) {
    const pfn = Math.floor(line / per_page);
    const lines = mf.media.get(pfn);
    if (!lines?.delete(line % per_page) || lines.size > 0) continue;
    mf.media.delete(pfn);
  }
  if (mf.media.size === 0) mf.media = null;
}

/** What is bad in [start, start + size): runs of bytes, sorted. */
export function media_errors(
  kernel: Kernel,
  start: number,
  size: number,
): { start: number; length: number }[] {
  const { media } = mf_state_of(kernel);
  const out: { start: number; length: number }[] = [];
  if (media === null) return out;
  for (const pfn of [...media.keys()].sort((a, b) => a - b)) {
    for (const line of [...media.get(pfn)!].sort((a, b) => a - b)) {
      const at = pfn * kernel.PAGE_SIZE + line * MEDIA_LINE;
      if (at < start || at >= start + size) continue;
      const last = out.at(-1);
      if (last && last.start + last.length === at) last.length += MEDIA_LINE;
      else out.push({ start: at, length: MEDIA_LINE });
    }
  }
  return out;
}

/** Bytes from `paddr` on that can be read: `len`, or up to the first bad line. */
export function readable_bytes(kernel: Kernel, paddr: number, len: number): number {
  const { media } = mf_state_of(kernel);
  return media === null ? len : readable_among(media, kernel.PAGE_SIZE, paddr, len);
}

function readable_among(media: bad_lines, PAGE_SIZE: number, paddr: number, len: number): number {
  for (let at = paddr - (paddr % MEDIA_LINE); at < paddr + len; at += MEDIA_LINE) {
    const lines = media.get(Math.floor(at / PAGE_SIZE));
    if (lines?.has((at % PAGE_SIZE) / MEDIA_LINE)) return Math.max(0, at - paddr);
  }
  return len;
}

/** Has the frame a bad line? */
export function frame_has_media_error(kernel: Kernel, pfn: number): boolean {
  return mf_state_of(kernel).media?.has(pfn) === true;
}

/** Tells the owner of the memory that it has a bad line: it will not hand it out again. */
export function note_media_error(kernel: Kernel, paddr: number): void {
  const page = pfn_to_page(kernel, Math.floor(paddr / kernel.PAGE_SIZE));
  const map = page === null ? null : PAGE(page).pgmap;
  map?.media_error?.(map, paddr);
}

/** A copy that is tried again meets the same line: one failure for the call. */
function queue_task_work(task: task_struct, pfn: number, handle: () => Promise<void>): void {
  const { queued } = mf_state_of(task.kernel);
  const pfns = queued.get(task);
  if (pfns?.includes(pfn)) return;
  if (pfns) pfns.push(pfn);
  else queued.set(task, [pfn]);
  task_work_add(task, async () => {
    queued.delete(task);
    await handle();
  });
}

/**
 * A load met a bad line. `user_mode`: the program's own, which gets the signal that is returned;
 * else a kernel's copy, which ends short (also with that signal: it is not delivered). The copier
 * may hold any lock, and mf_mutex is outside of all: its failure is handled when its call is over.
 */
export async function machine_check(
  task: task_struct,
  mm: mm_struct,
  addr: number,
  paddr: number,
  user_mode: boolean,
): Promise<siginfo> {
  const { kernel } = mm;
  const pfn = Math.floor(paddr / kernel.PAGE_SIZE);
  kernel.pr_err("mce: [Hardware Error]: Machine check events logged");
  note_media_error(kernel, paddr);
  const handle = async (): Promise<void> => {
    try {
      await memory_failure(kernel, pfn, user_mode ? MF_ACTION_REQUIRED : 0);
    } catch (err) {
      if (!is_errno(err)) throw err;
    }
  };
  if (user_mode) await handle();
  else queue_task_work(task, pfn, handle);
  const own = user_mode ? take_forced_signal(task) : null;
  return own ?? make_siginfo(SIGBUS, BUS_MCEERR_AR, addr, kernel.PAGE_SHIFT);
}
