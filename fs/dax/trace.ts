/**
 * fs/dax/trace.ts - the tracepoints of the group fs_dax, with the kernel's names and fields.
 * Linux: include/trace/events/fs_dax.h. `radix_entry` is the tagged pointer that the
 * kernel would hold (dax_to_value, shifted by its value bit), `zero_page` a frame number.
 */
import type { inode } from "../../kernel/include/fs.ts";
import {
  FAULT_FLAG_ALLOW_RETRY,
  FAULT_FLAG_INSTRUCTION,
  FAULT_FLAG_INTERRUPTIBLE,
  FAULT_FLAG_KILLABLE,
  FAULT_FLAG_MKWRITE,
  FAULT_FLAG_REMOTE,
  FAULT_FLAG_RETRY_NOWAIT,
  FAULT_FLAG_TRIED,
  FAULT_FLAG_USER,
  FAULT_FLAG_WRITE,
  VM_FAULT_COMPLETED,
  VM_FAULT_DONE_COW,
  VM_FAULT_FALLBACK,
  VM_FAULT_HWPOISON,
  VM_FAULT_HWPOISON_LARGE,
  VM_FAULT_LOCKED,
  VM_FAULT_MAJOR,
  VM_FAULT_NEEDDSYNC,
  VM_FAULT_NOPAGE,
  VM_FAULT_OOM,
  VM_FAULT_RETRY,
  VM_FAULT_SIGBUS,
  VM_FAULT_SIGSEGV,
  VM_SHARED,
} from "../../kernel/include/mm_types.ts";
import type { vm_fault } from "../../kernel/include/mm_types.ts";
import { MAJOR, MINOR } from "../../kernel/include/stat.ts";
import { define_trace, hex, print_flags } from "../../kernel/trace.ts";
import { dax_to_value } from "./entry.ts";

export const FAULT_FLAG_TRACE = Object.freeze([
  [FAULT_FLAG_WRITE, "WRITE"],
  [FAULT_FLAG_MKWRITE, "MKWRITE"],
  [FAULT_FLAG_ALLOW_RETRY, "ALLOW_RETRY"],
  [FAULT_FLAG_RETRY_NOWAIT, "RETRY_NOWAIT"],
  [FAULT_FLAG_KILLABLE, "KILLABLE"],
  [FAULT_FLAG_TRIED, "TRIED"],
  [FAULT_FLAG_USER, "USER"],
  [FAULT_FLAG_REMOTE, "REMOTE"],
  [FAULT_FLAG_INSTRUCTION, "INSTRUCTION"],
  [FAULT_FLAG_INTERRUPTIBLE, "INTERRUPTIBLE"],
] as const);

export const VM_FAULT_RESULT_TRACE = Object.freeze([
  [VM_FAULT_OOM, "OOM"],
  [VM_FAULT_SIGBUS, "SIGBUS"],
  [VM_FAULT_MAJOR, "MAJOR"],
  [VM_FAULT_HWPOISON, "HWPOISON"],
  [VM_FAULT_HWPOISON_LARGE, "HWPOISON_LARGE"],
  [VM_FAULT_SIGSEGV, "SIGSEGV"],
  [VM_FAULT_NOPAGE, "NOPAGE"],
  [VM_FAULT_LOCKED, "LOCKED"],
  [VM_FAULT_RETRY, "RETRY"],
  [VM_FAULT_FALLBACK, "FALLBACK"],
  [VM_FAULT_DONE_COW, "DONE_COW"],
  [VM_FAULT_NEEDDSYNC, "NEEDDSYNC"],
  [VM_FAULT_COMPLETED, "COMPLETED"],
] as const);

const WHERE = { dev: "dec", ino: "hex" } as const;
const PTE_FIELDS = {
  ...WHERE,
  vm_start: "hex",
  vm_end: "hex",
  vm_flags: "hex",
  address: "hex",
  pgoff: "hex",
  flags: "hex",
  result: "hex",
} as const;
const PMD_FIELDS = { ...PTE_FIELDS, max_pgoff: "hex" } as const;
const HOLE_FIELDS = {
  ...WHERE,
  vm_flags: "hex",
  address: "hex",
  zero_page: "hex",
  radix_entry: "hex",
} as const;
const RANGE_FIELDS = { ...WHERE, start_index: "hex", end_index: "hex" } as const;
const ONE_FIELDS = { ...WHERE, pgoff: "hex", pglen: "hex" } as const;

interface where_fields {
  dev: number;
  ino: number;
}
interface fault_fields extends where_fields {
  vm_start: number;
  vm_end: number;
  vm_flags: number;
  address: number;
  pgoff: number;
  flags: number;
  result: number;
}

const where = (f: where_fields): string => `dev ${MAJOR(f.dev)}:${MINOR(f.dev)} ino ${hex(f.ino)}`;
const sharing = (vm_flags: number): string => (vm_flags & VM_SHARED ? "shared" : "private");
const place = (f: fault_fields): string =>
  `${where(f)} ${sharing(f.vm_flags)} ${print_flags(f.flags, FAULT_FLAG_TRACE)} ` +
  `address ${hex(f.address)} vm_start ${hex(f.vm_start)} vm_end ${hex(f.vm_end)} ` +
  `pgoff ${hex(f.pgoff)}`;
const outcome = (f: fault_fields): string => print_flags(f.result, VM_FAULT_RESULT_TRACE);

const pte_event = <const N extends string>(name: N) =>
  define_trace("fs_dax", name, PTE_FIELDS, (f) => `${place(f)} ${outcome(f)}`);
const pmd_event = <const N extends string>(name: N) =>
  define_trace(
    "fs_dax",
    name,
    PMD_FIELDS,
    (f) => `${place(f)} max_pgoff ${hex(f.max_pgoff)} ${outcome(f)}`,
  );
const hole_event = <const N extends string>(name: N) =>
  define_trace(
    "fs_dax",
    name,
    HOLE_FIELDS,
    (f) =>
      `${where(f)} ${sharing(f.vm_flags)} address ${hex(f.address)} ` +
      `zero_page ${hex(f.zero_page)} radix_entry ${hex(f.radix_entry)}`,
  );
const range_event = <const N extends string>(name: N) =>
  define_trace(
    "fs_dax",
    name,
    RANGE_FIELDS,
    (f) => `${where(f)} pgoff ${hex(f.start_index)}-${hex(f.end_index)}`,
  );

export const dax_pte_fault = pte_event("dax_pte_fault");
export const dax_pte_fault_done = pte_event("dax_pte_fault_done");
export const dax_load_hole = pte_event("dax_load_hole");
export const dax_insert_pfn_mkwrite_no_entry = pte_event("dax_insert_pfn_mkwrite_no_entry");
export const dax_insert_pfn_mkwrite = pte_event("dax_insert_pfn_mkwrite");
export const dax_pmd_fault = pmd_event("dax_pmd_fault");
export const dax_pmd_fault_done = pmd_event("dax_pmd_fault_done");
export const dax_pmd_load_hole = hole_event("dax_pmd_load_hole");
export const dax_pmd_load_hole_fallback = hole_event("dax_pmd_load_hole_fallback");
export const dax_writeback_range = range_event("dax_writeback_range");
export const dax_writeback_range_done = range_event("dax_writeback_range_done");
export const dax_writeback_one = define_trace(
  "fs_dax",
  "dax_writeback_one",
  ONE_FIELDS,
  (f) => `${where(f)} pgoff ${hex(f.pgoff)} pglen ${hex(f.pglen)}`,
);

/** Every event of the group, in the order of the kernel's header. */
export const fs_dax_events = Object.freeze([
  dax_pmd_fault,
  dax_pmd_fault_done,
  dax_pmd_load_hole,
  dax_pmd_load_hole_fallback,
  dax_pte_fault,
  dax_pte_fault_done,
  dax_load_hole,
  dax_insert_pfn_mkwrite_no_entry,
  dax_insert_pfn_mkwrite,
  dax_writeback_range,
  dax_writeback_range_done,
  dax_writeback_one,
]);

function fields_of_fault(inode: inode, vmf: vm_fault, result: number) {
  return {
    dev: inode.i_sb.s_dev,
    ino: inode.i_ino,
    vm_start: vmf.vma.vm_start,
    vm_end: vmf.vma.vm_end,
    vm_flags: vmf.vma.vm_flags,
    address: vmf.address,
    pgoff: vmf.pgoff,
    flags: vmf.flags,
    result,
  };
}

type pte_point = ReturnType<typeof pte_event>;
type pmd_point = ReturnType<typeof pmd_event>;
type hole_point = ReturnType<typeof hole_event>;
type range_point = ReturnType<typeof range_event>;

const trace_pte =
  (point: pte_point) =>
  (inode: inode, vmf: vm_fault, result: number): void => {
    const { trace } = inode.kernel;
    if (trace.enabled) trace.emit(point, fields_of_fault(inode, vmf, result));
  };
const trace_pmd =
  (point: pmd_point) =>
  (inode: inode, vmf: vm_fault, max_pgoff: number, result: number): void => {
    const { trace } = inode.kernel;
    if (!trace.enabled) return;
    trace.emit(point, { ...fields_of_fault(inode, vmf, result), max_pgoff });
  };
const trace_hole =
  (point: hole_point) =>
  (inode: inode, vmf: vm_fault, zero_page: number, entry: number): void => {
    const { trace } = inode.kernel;
    if (!trace.enabled) return;
    trace.emit(point, {
      dev: inode.i_sb.s_dev,
      ino: inode.i_ino,
      vm_flags: vmf.vma.vm_flags,
      address: vmf.address,
      zero_page,
      radix_entry: dax_to_value(entry, 0) * 2 + 1,
    });
  };
const trace_range =
  (point: range_point) =>
  (inode: inode, start_index: number, end_index: number): void => {
    const { trace } = inode.kernel;
    if (!trace.enabled) return;
    trace.emit(point, { dev: inode.i_sb.s_dev, ino: inode.i_ino, start_index, end_index });
  };

export const trace_dax_pte_fault = trace_pte(dax_pte_fault);
export const trace_dax_pte_fault_done = trace_pte(dax_pte_fault_done);
export const trace_dax_load_hole = trace_pte(dax_load_hole);
export const trace_dax_insert_pfn_mkwrite = trace_pte(dax_insert_pfn_mkwrite);
export const trace_dax_insert_pfn_mkwrite_no_entry = trace_pte(dax_insert_pfn_mkwrite_no_entry);
export const trace_dax_pmd_fault = trace_pmd(dax_pmd_fault);
export const trace_dax_pmd_fault_done = trace_pmd(dax_pmd_fault_done);
export const trace_dax_pmd_load_hole = trace_hole(dax_pmd_load_hole);
export const trace_dax_pmd_load_hole_fallback = trace_hole(dax_pmd_load_hole_fallback);
export const trace_dax_writeback_range = trace_range(dax_writeback_range);
export const trace_dax_writeback_range_done = trace_range(dax_writeback_range_done);

export function trace_dax_writeback_one(inode: inode, pgoff: number, pglen: number): void {
  const { trace } = inode.kernel;
  if (!trace.enabled) return;
  trace.emit(dax_writeback_one, { dev: inode.i_sb.s_dev, ino: inode.i_ino, pgoff, pglen });
}
