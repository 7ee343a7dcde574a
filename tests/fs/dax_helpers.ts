/** tests/fs/dax_helpers.ts - what the DAX tests share: traces in short, signals, small mappings. */
import type { Errno } from "../../kernel/include/errno.ts";
import { LLONG_MAX, WB_SYNC_ALL } from "../../kernel/include/fs.ts";
import type { file } from "../../kernel/include/fs.ts";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  PROT_READ,
  PROT_WRITE,
} from "../../kernel/include/mman.ts";
import { XA_STATE, xa_load, xas_get_mark, xas_load } from "../../kernel/lib/xarray.ts";
import type { task_struct } from "../../kernel/sched/task.ts";
import { is_signal, signal_text } from "../../kernel/signal.ts";
import { print_flags } from "../../kernel/trace.ts";
import type { trace_event } from "../../kernel/trace.ts";
import { PAGECACHE_TAG_DIRTY } from "../../mm/address_space.ts";
import { sys_mmap } from "../../mm/mmap.ts";
import type { access_fault } from "../../mm/uaccess.ts";
import { FAULT_FLAG_TRACE, VM_FAULT_RESULT_TRACE } from "../../fs/dax/trace.ts";
import { assert } from "../lib/suite.ts";
import { PAGE, mmap, store, text } from "./testfs.ts";
import type { testfs } from "./testfs.ts";

const PROT_RW = PROT_READ | PROT_WRITE;

export async function rejects(p: Promise<unknown>, errno: Errno): Promise<void> {
  let got: unknown = "no error";
  try {
    await p;
  } catch (err) {
    got = err;
  }
  assert.is(got, errno);
}

/** The events of `fn`, short: name, flags that differ from a plain user fault, result. */
export async function events(fs: testfs, fn: () => Promise<unknown>): Promise<string[]> {
  const out: string[] = [];
  const stop = fs.kernel.trace.subscribe((e: trace_event) => out.push(short(e)), ["fs_dax"]);
  try {
    await fn();
  } finally {
    stop();
  }
  return out;
}

function short(e: trace_event): string {
  const f = e.fields as Record<string, number>;
  const words = [e.name.slice(4)];
  const flags = print_flags(f["flags"] ?? 0, FAULT_FLAG_TRACE).split("|");
  for (const w of ["WRITE", "MKWRITE"]) if (flags.includes(w)) words.push(w);
  if (f["pgoff"] !== undefined) words.push(`0x${f["pgoff"].toString(16)}`);
  if (f["pglen"] !== undefined) words.push(`len=0x${f["pglen"].toString(16)}`);
  if (e.name === "dax_writeback_range") {
    words.push(`0x${f["start_index"]!.toString(16)}-0x${f["end_index"]!.toString(16)}`);
  }
  if (f["result"]) words.push(print_flags(f["result"], VM_FAULT_RESULT_TRACE));
  if (e.name === "dax_pmd_load_hole") words.push(`entry=${f["radix_entry"]}`);
  return words.join(" ");
}

export const entry_at = (f: file, index: number): number | null =>
  xa_load(f.f_mapping.i_pages, index) as number | null;

export function is_dirty(f: file, index: number): boolean {
  const xas = XA_STATE(f.f_mapping.i_pages, index);
  xas_load(xas);
  return xas_get_mark(xas, PAGECACHE_TAG_DIRTY);
}

export const wbc = (sync_mode = WB_SYNC_ALL) => ({
  nr_to_write: LLONG_MAX,
  range_start: 0,
  range_end: LLONG_MAX,
  sync_mode,
});
/** As mmap(), with a page table around it already: then a fault does not try a PMD first. */
export async function mmap_small(
  task: task_struct,
  f: file,
  len: number,
  flags: number,
): Promise<number> {
  const n = await sys_mmap(task, 0, PAGE, PROT_RW, MAP_PRIVATE | MAP_ANONYMOUS, null, 0);
  await store(task, n, text("x"));
  return mmap(task, f, len, flags);
}
/** The signal that `p` ends with. */
export async function signal_of(p: Promise<unknown>): Promise<string> {
  try {
    await p;
  } catch (err) {
    const { info } = err as access_fault;
    if (is_signal(info)) return signal_text(info);
    throw err;
  }
  return "none";
}
export const ADDR = 0x40000000;
export const fixed = (task: task_struct, f: file, len: number, flags = MAP_SHARED) =>
  mmap(task, f, len, flags | MAP_FIXED, ADDR);
