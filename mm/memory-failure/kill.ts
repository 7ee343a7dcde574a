/**
 * mm/memory-failure/kill.ts - which processes hear of a bad page, and how. Linux:
 * mm/memory-failure.c (task_early_kill, collect_procs, add_to_kill, kill_procs).
 *
 * The running process hears at once when it needs the page ("action required"); the others only if
 * they asked for early notice (prctl(PR_MCE_KILL), or the sysctl), as "action optional". The rest
 * find out when they touch the page.
 *
 * Locks: i_mmap_rwsem (read), then tasklist_lock around the collecting; signals are sent after
 * both. Differs: anonymous memory has no reverse map; the page tables of all processes are
 * searched.
 */
import { trace_mf_task, MF_ACTION_REQUIRED } from "../../kernel/include/mf.ts";
import type {
  address_space,
  mm_struct,
  page,
  vm_area_struct,
} from "../../kernel/include/mm_types.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { BUS_MCEERR_AO, BUS_MCEERR_AR, SIGBUS, make_siginfo } from "../../kernel/signal.ts";
import { force_sig, send_signal, signal_text } from "../../kernel/signal.ts";
import { note_access } from "../../kernel/sched/core.ts";
import { PF_MCE_EARLY, PF_MCE_PROCESS } from "../../kernel/sched/task.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { vma_range } from "../memory/rmap.ts";
import { geometry, lookup_entry, pte_devmap, pte_pfn, pte_present } from "../pgtable.ts";
import { walk_page_range } from "../pgtable.ts";
import { PAGE, is_device_page } from "../page.ts";
import { mf_state_of } from "./state.ts";

export interface to_kill {
  readonly tsk: task_struct;
  readonly addr: number;
  /** log2 of the bytes that the process loses. */
  readonly size_shift: number;
}

interface process_group {
  readonly leader: task_struct;
  readonly threads: task_struct[];
}

/** All processes with an address space, by pid. */
function processes(kernel: Kernel): process_group[] {
  const byid = new Map<number, process_group>();
  for (const t of kernel.machine.sched.tasks) {
    if (t.kernel !== kernel || t.mm === null) continue;
    const p = byid.get(t.tgid);
    if (p) p.threads.push(t);
    else byid.set(t.tgid, { leader: t, threads: [t] });
  }
  return [...byid.values()].sort((a, b) => a.leader.tgid - b.leader.tgid);
}

/** The thread of a process that wants to hear of failures before it meets them, or null. */
function find_early_kill_thread(p: process_group): task_struct | null {
  const { early_kill } = mf_state_of(p.leader.kernel);
  for (const t of p.threads) {
    const chose = (t.flags & PF_MCE_PROCESS) !== 0;
    if (chose ? (t.flags & PF_MCE_EARLY) !== 0 : early_kill) return t;
  }
  return null;
}

/** Who of the process is to be told: the running task if it needs the page, else by policy. */
function task_early_kill(p: process_group, force_early: boolean): task_struct | null {
  const { current } = p.leader.kernel;
  if (force_early && p.leader.mm === current.mm) return current;
  return find_early_kill_thread(p);
}

/** log2 of the size of the entry that maps the address of a device page; 0: none does. */
function dev_pagemap_mapping_shift(mm: mm_struct, addr: number): number {
  note_access(mm.kernel, mm.page_table_lock, false);
  const { entry, size } = lookup_entry(mm, addr);
  return pte_present(entry) && pte_devmap(entry) ? Math.log2(size) : 0;
}

function note(t: task_struct, addr: number, lsb: number, signal: string, why: string): void {
  const { trace } = t.kernel;
  if (!trace.enabled) return;
  const who = { task_pid: t.tgid, task_comm: t.comm, address: addr, lsb, signal, why };
  trace.emit(trace_mf_task, who);
}

const LATE = "has not asked for early notice";

function add_to_kill(
  p: process_group,
  t: task_struct | null,
  page: page,
  vma: vm_area_struct,
  addr: number,
  list: to_kill[],
): void {
  const device = is_device_page(page);
  const { page_shift } = geometry(vma.vm_mm);
  const size_shift = device ? dev_pagemap_mapping_shift(vma.vm_mm, addr) : page_shift;
  if (size_shift === 0) note(p.leader, addr, 0, "", "has not touched the page");
  else if (t === null) note(p.leader, addr, size_shift, "", LATE);
  else list.push({ tsk: t, addr, size_shift });
}

/** The file's vmas over the page, in the order of the kernel's interval tree. */
function vmas_over(mapping: address_space, pgoff: number): vm_area_struct[] {
  const over = [...mapping.i_mmap].filter((v) => vma_range(v, pgoff, 1) !== null);
  return over.sort((a, b) => a.vm_pgoff - b.vm_pgoff || a.seq - b.seq);
}

/**
 * Processes that map page `pgoff` of a file. `all`: whatever they asked for (a device goes away).
 */
export async function collect_procs_file(
  page: page,
  mapping: address_space,
  pgoff: number,
  force_early: boolean,
  all = false,
): Promise<to_kill[]> {
  const { kernel } = mapping;
  const { tasklist_lock } = mf_state_of(kernel);
  const list: to_kill[] = [];
  const p = mapping.i_mmap_rwsem.down_read();
  if (p) await p;
  tasklist_lock.read_lock();
  const over = vmas_over(mapping, pgoff);
  for (const proc of processes(kernel)) {
    const t = all ? proc.leader : task_early_kill(proc, force_early);
    for (const vma of over) {
      if (vma.vm_mm !== proc.leader.mm) continue;
      add_to_kill(proc, t, page, vma, vma_range(vma, pgoff, 1)!.start, list);
    }
  }
  tasklist_lock.read_unlock();
  mapping.i_mmap_rwsem.up_read();
  return list;
}

/** Calls `fn` with the slot of every small entry of the mm that maps the frame. */
export function each_mapping_of(
  mm: mm_struct,
  pfn: number,
  fn: (vma: vm_area_struct, addr: number, table: Float64Array, i: number) => void,
): void {
  const { page_size } = geometry(mm);
  for (const vma of mm.mmap) {
    walk_page_range(mm, vma.vm_start, vma.vm_end, {
      pte(table, first, last, addr) {
        for (let i = first; i < last; i++, addr += page_size) {
          const e = table[i]!;
          if (e !== 0 && pte_present(e) && pte_pfn(e) === pfn) fn(vma, addr, table, i);
        }
      },
    });
  }
}

/** Processes that map an anonymous page or a page of shared memory. */
export function collect_procs_anon(page: page, force_early: boolean): to_kill[] {
  const { kernel } = PAGE(page);
  const { tasklist_lock } = mf_state_of(kernel);
  const list: to_kill[] = [];
  tasklist_lock.read_lock();
  for (const proc of processes(kernel)) {
    const t = task_early_kill(proc, force_early);
    const mm = proc.leader.mm!;
    mm.page_table_lock.lock();
    each_mapping_of(mm, page.pfn, (vma, addr) => add_to_kill(proc, t, page, vma, addr, list));
    mm.page_table_lock.unlock();
  }
  tasklist_lock.read_unlock();
  return list;
}

/** Every address space of a live process, once. */
export function all_mms(kernel: Kernel): mm_struct[] {
  return [...new Set(processes(kernel).map((p) => p.leader.mm!))];
}

function kill_proc(tk: to_kill, flags: number, told: Set<task_struct>): void {
  const { tsk, addr, size_shift } = tk;
  const required = (flags & MF_ACTION_REQUIRED) !== 0 && tsk === tsk.kernel.current;
  const info = make_siginfo(SIGBUS, required ? BUS_MCEERR_AR : BUS_MCEERR_AO, addr, size_shift);
  // A signal that is pending already is not queued again.
  const again = told.has(tsk);
  note(tsk, addr, size_shift, again ? "" : signal_text(info), again ? "has one pending" : "");
  if (again) return;
  told.add(tsk);
  if (required) force_sig(tsk, info);
  else send_signal(tsk, info);
}

/** Sends what was collected. No lock is held but those of the caller's page or entry. */
export function kill_procs(kernel: Kernel, list: to_kill[], pfn: number, flags: number): void {
  const told = new Set<task_struct>();
  const who = `Memory failure: 0x${pfn.toString(16)}: Sending SIGBUS to`;
  for (const tk of list) {
    kernel.pr_err(`${who} ${tk.tsk.comm}:${tk.tsk.pid} due to hardware memory corruption`);
    kill_proc(tk, flags, told);
  }
}

/** prctl(PR_MCE_KILL): "early", "late", or "default" (what the sysctl says). */
export function set_mce_kill(t: task_struct, when: string): void {
  t.flags &= ~(PF_MCE_PROCESS | PF_MCE_EARLY);
  if (when === "early") t.flags |= PF_MCE_PROCESS | PF_MCE_EARLY;
  else if (when === "late") t.flags |= PF_MCE_PROCESS;
}
