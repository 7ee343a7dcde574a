/**
 * fs/dax/entry.ts - what a DAX mapping keeps for a page or a 2 MiB range: one 31-bit number.
 * Linux: fs/dax.c (DAX_LOCKED ... dax_entry_size). Differs: the encoding. The kernel has four flag
 * bits below the frame number; here four bits of order take the place of its PMD bit, and the frame
 * is relative to the DAX device, so that the entry stays a small integer. dax_to_value() shows the
 * kernel's form.
 *
 *   bit 0      LOCKED     somebody works on the range
 *   bit 1      ZERO       the zero page is mapped: a hole that was read
 *   bit 2      EMPTY      nothing yet: only there to be locked
 *   bits 3-6   order      0, or the order of a PMD; others with proposals.dax_order_entries
 *   bits 7-30  frame      pages from dax_device.base_pfn; 0 for zero and empty entries
 */
import type { Kernel } from "../../kernel/kernel.ts";
import { assert } from "../../kernel/assert.ts";
import { XA_RETRY_ENTRY } from "../../kernel/lib/xarray.ts";
import type { xa_entry } from "../../kernel/lib/xarray.ts";

export const DAX_LOCKED = 1 << 0;
export const DAX_ZERO_PAGE = 1 << 1;
export const DAX_EMPTY = 1 << 2;
const ORDER_SHIFT = 3;
const ORDER_MASK = 0xf;
const FRAME_SHIFT = 7;
const MAX_FRAME = 0xffffff;

/** Order of a PMD entry: a table fills a page with 8-byte entries, so 9 with 4 KiB pages. */
export function pmd_order(kernel: Kernel): number {
  return kernel.PAGE_SHIFT - 3;
}

export function dax_make_entry(frame: number, order: number, flags: number): number {
  assert(frame >= 0 && frame <= MAX_FRAME, "DAX entries reach 2^24 pages of a device");
  return (frame << FRAME_SHIFT) | (order << ORDER_SHIFT) | flags;
}

/** Pages from the device's base_pfn. */
export function dax_to_frame(entry: number): number {
  return entry >>> FRAME_SHIFT;
}

export function dax_entry_order(entry: number): number {
  return (entry >> ORDER_SHIFT) & ORDER_MASK;
}

export function dax_is_locked(entry: number): boolean {
  return (entry & DAX_LOCKED) !== 0;
}

export function dax_is_pmd_entry(entry: number): boolean {
  return dax_entry_order(entry) !== 0;
}

export function dax_is_pte_entry(entry: number): boolean {
  return dax_entry_order(entry) === 0;
}

export function dax_is_zero_entry(entry: number): boolean {
  return (entry & DAX_ZERO_PAGE) !== 0;
}

export function dax_is_empty_entry(entry: number): boolean {
  return (entry & DAX_EMPTY) !== 0;
}

/** The tree holds a smaller entry than the one asked for. */
export function dax_is_conflict(entry: xa_entry): boolean {
  return entry === XA_RETRY_ENTRY;
}

/** Pages of storage behind the entry: none for zero and empty ones. */
export function dax_entry_pages(entry: number): number {
  if (entry & (DAX_ZERO_PAGE | DAX_EMPTY)) return 0;
  return 1 << dax_entry_order(entry);
}

/**
 * First index that the entry found at `index` covers: what its lock and its waiters are keyed by.
 */
export function dax_entry_start(entry: number, index: number): number {
  const order = dax_entry_order(entry);
  return order === 0 ? index : index - (index % (1 << order));
}

const KERNEL_DAX_SHIFT = 4;

/** The number the kernel would keep for it: frame << 4 | EMPTY 8 | ZERO 4 | PMD 2 | LOCKED 1. */
export function dax_to_value(entry: number, base_pfn: number): number {
  let v = entry & DAX_LOCKED;
  if (dax_is_pmd_entry(entry)) v |= 2;
  if (dax_is_zero_entry(entry)) v |= 4;
  if (dax_is_empty_entry(entry)) v |= 8;
  const pfn = dax_entry_pages(entry) > 0 ? base_pfn + dax_to_frame(entry) : 0;
  return pfn * 2 ** KERNEL_DAX_SHIFT + v;
}

/** "PMD|ZERO|LOCKED": for traces and reports. */
export function dax_entry_text(entry: number): string {
  const words: string[] = [];
  if (dax_is_locked(entry)) words.push("LOCKED");
  if (dax_is_pmd_entry(entry)) words.push("PMD");
  if (dax_is_zero_entry(entry)) words.push("ZERO");
  if (dax_is_empty_entry(entry)) words.push("EMPTY");
  return words.join("|") || "none";
}
