/**
 * kernel/include/trace_fs_dax.ts - the tracepoints of filesystem DAX, as the recorded kernel (6.1)
 * has them.
 * Linux: include/trace/events/fs_dax.h. Emitted by fs/dax.ts.
 *
 * Numbers only, so an event can be kept: dev as in st_dev, entries as the XArray value, pages as
 * frame numbers. `result` is a vm_fault_t mask, 0 in events at the start of a fault.
 */
import { define_trace, hex, print_flags } from "../trace.ts";
import * as mm from "./mm_types.ts";
import { MAJOR, MINOR } from "./stat.ts";

type flag_names = readonly (readonly [number, string])[];

/** The names that the kernel's own tracepoints know. */
export const FAULT_FLAG_TRACE: flag_names = Object.freeze([
  [mm.FAULT_FLAG_WRITE, "WRITE"],
  [mm.FAULT_FLAG_MKWRITE, "MKWRITE"],
  [mm.FAULT_FLAG_ALLOW_RETRY, "ALLOW_RETRY"],
  [mm.FAULT_FLAG_RETRY_NOWAIT, "RETRY_NOWAIT"],
  [mm.FAULT_FLAG_KILLABLE, "KILLABLE"],
  [mm.FAULT_FLAG_TRIED, "TRIED"],
  [mm.FAULT_FLAG_USER, "USER"],
  [mm.FAULT_FLAG_REMOTE, "REMOTE"],
  [mm.FAULT_FLAG_INSTRUCTION, "INSTRUCTION"],
  [mm.FAULT_FLAG_INTERRUPTIBLE, "INTERRUPTIBLE"],
] as const);

/** All names, as in the recorded cases. */
export const FAULT_FLAG_NAMES: flag_names = Object.freeze([
  ...FAULT_FLAG_TRACE,
  [mm.FAULT_FLAG_UNSHARE, "UNSHARE"],
  [mm.FAULT_FLAG_ORIG_PTE_VALID, "ORIG_PTE_VALID"],
] as const);

export const VM_FAULT_RESULT_TRACE: flag_names = Object.freeze([
  [mm.VM_FAULT_OOM, "OOM"],
  [mm.VM_FAULT_SIGBUS, "SIGBUS"],
  [mm.VM_FAULT_MAJOR, "MAJOR"],
  [mm.VM_FAULT_HWPOISON, "HWPOISON"],
  [mm.VM_FAULT_HWPOISON_LARGE, "HWPOISON_LARGE"],
  [mm.VM_FAULT_SIGSEGV, "SIGSEGV"],
  [mm.VM_FAULT_NOPAGE, "NOPAGE"],
  [mm.VM_FAULT_LOCKED, "LOCKED"],
  [mm.VM_FAULT_RETRY, "RETRY"],
  [mm.VM_FAULT_FALLBACK, "FALLBACK"],
  [mm.VM_FAULT_DONE_COW, "DONE_COW"],
  [mm.VM_FAULT_NEEDDSYNC, "NEEDDSYNC"],
] as const);

interface file_place {
  readonly dev: number;
  readonly ino: number;
}

function place(f: file_place): string {
  return `dev ${MAJOR(f.dev)}:${MINOR(f.dev)} ino ${hex(f.ino)}`;
}
function sharing(f: { readonly vm_flags: number }): string {
  return f.vm_flags & mm.VM_SHARED ? "shared" : "private";
}
function fault_flags(f: { readonly flags: number }): string {
  return print_flags(f.flags, FAULT_FLAG_TRACE);
}
function fault_result(f: { readonly result: number }): string {
  return print_flags(f.result, VM_FAULT_RESULT_TRACE);
}

const PMD_FAULT = Object.freeze({
  dev: "hex",
  ino: "hex",
  vm_start: "hex",
  vm_end: "hex",
  vm_flags: "hex",
  address: "hex",
  pgoff: "hex",
  max_pgoff: "hex",
  flags: "hex",
  result: "hex",
} as const);
type pmd_fault = { readonly [K in keyof typeof PMD_FAULT]: number };

function print_pmd_fault(f: pmd_fault): string {
  return (
    `${place(f)} ${sharing(f)} ${fault_flags(f)} address ${hex(f.address)} ` +
    `vm_start ${hex(f.vm_start)} vm_end ${hex(f.vm_end)} pgoff ${hex(f.pgoff)} ` +
    `max_pgoff ${hex(f.max_pgoff)} ${fault_result(f)}`
  );
}

export const trace_dax_pmd_fault = define_trace(
  "fs_dax",
  "dax_pmd_fault",
  PMD_FAULT,
  print_pmd_fault,
);
export const trace_dax_pmd_fault_done = define_trace(
  "fs_dax",
  "dax_pmd_fault_done",
  PMD_FAULT,
  print_pmd_fault,
);

/** `zero_page`: frame of the huge zero page, 0 if there was none. */
const PMD_LOAD_HOLE = Object.freeze({
  dev: "hex",
  ino: "hex",
  vm_flags: "hex",
  address: "hex",
  zero_page: "hex",
  radix_entry: "hex",
} as const);
type pmd_load_hole = { readonly [K in keyof typeof PMD_LOAD_HOLE]: number };

function print_pmd_load_hole(f: pmd_load_hole): string {
  return (
    `${place(f)} ${sharing(f)} address ${hex(f.address)} ` +
    `zero_page ${hex(f.zero_page)} radix_entry ${hex(f.radix_entry)}`
  );
}

export const trace_dax_pmd_load_hole = define_trace(
  "fs_dax",
  "dax_pmd_load_hole",
  PMD_LOAD_HOLE,
  print_pmd_load_hole,
);
export const trace_dax_pmd_load_hole_fallback = define_trace(
  "fs_dax",
  "dax_pmd_load_hole_fallback",
  PMD_LOAD_HOLE,
  print_pmd_load_hole,
);

const PTE_FAULT = Object.freeze({
  dev: "hex",
  ino: "hex",
  vm_flags: "hex",
  address: "hex",
  pgoff: "hex",
  flags: "hex",
  result: "hex",
} as const);
type pte_fault = { readonly [K in keyof typeof PTE_FAULT]: number };

function print_pte_fault(f: pte_fault): string {
  return (
    `${place(f)} ${sharing(f)} ${fault_flags(f)} address ${hex(f.address)} ` +
    `pgoff ${hex(f.pgoff)} ${fault_result(f)}`
  );
}

export const trace_dax_pte_fault = define_trace(
  "fs_dax",
  "dax_pte_fault",
  PTE_FAULT,
  print_pte_fault,
);
export const trace_dax_pte_fault_done = define_trace(
  "fs_dax",
  "dax_pte_fault_done",
  PTE_FAULT,
  print_pte_fault,
);
export const trace_dax_load_hole = define_trace(
  "fs_dax",
  "dax_load_hole",
  PTE_FAULT,
  print_pte_fault,
);
export const trace_dax_insert_pfn_mkwrite_no_entry = define_trace(
  "fs_dax",
  "dax_insert_pfn_mkwrite_no_entry",
  PTE_FAULT,
  print_pte_fault,
);
export const trace_dax_insert_pfn_mkwrite = define_trace(
  "fs_dax",
  "dax_insert_pfn_mkwrite",
  PTE_FAULT,
  print_pte_fault,
);

const RANGE = Object.freeze({
  dev: "hex",
  ino: "hex",
  start_index: "hex",
  end_index: "hex",
} as const);
type range = { readonly [K in keyof typeof RANGE]: number };

function print_range(f: range): string {
  return `${place(f)} pgoff ${hex(f.start_index)}-${hex(f.end_index)}`;
}

export const trace_dax_writeback_range = define_trace(
  "fs_dax",
  "dax_writeback_range",
  RANGE,
  print_range,
);
export const trace_dax_writeback_range_done = define_trace(
  "fs_dax",
  "dax_writeback_range_done",
  RANGE,
  print_range,
);
/** `pglen`: pages written. */
export const trace_dax_writeback_one = define_trace(
  "fs_dax",
  "dax_writeback_one",
  { dev: "hex", ino: "hex", pgoff: "hex", pglen: "hex" } as const,
  (f) => `${place(f)} pgoff ${hex(f.pgoff)} pglen ${hex(f.pglen)}`,
);

/** In the header, though 6.1 itself never emits them. */
export const trace_dax_pmd_insert_mapping = define_trace(
  "fs_dax",
  "dax_pmd_insert_mapping",
  {
    dev: "hex",
    ino: "hex",
    vm_flags: "hex",
    address: "hex",
    write: "bool",
    length: "hex",
    pfn: "hex",
    radix_entry: "hex",
  } as const,
  (f) =>
    `${place(f)} ${sharing(f)} ${f.write ? "write" : "read"} address ${hex(f.address)} ` +
    `length ${hex(f.length)} pfn ${hex(f.pfn)} DEV|MAP radix_entry ${hex(f.radix_entry)}`,
);
export const trace_dax_insert_mapping = define_trace(
  "fs_dax",
  "dax_insert_mapping",
  {
    dev: "hex",
    ino: "hex",
    vm_flags: "hex",
    address: "hex",
    write: "bool",
    radix_entry: "hex",
  } as const,
  (f) =>
    `${place(f)} ${sharing(f)} ${f.write ? "write" : "read"} address ${hex(f.address)} ` +
    `radix_entry ${hex(f.radix_entry)}`,
);
