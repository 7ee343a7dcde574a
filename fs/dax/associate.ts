/**
 * fs/dax/associate.ts - which file a device page belongs to, and whether somebody else uses it.
 * Linux: fs/dax.c (dax_associate_entry, dax_disassociate_entry, dax_busy_page,
 * dax_layout_busy_page).
 *
 * Through 6.14 a device page rests at one reference and says in `mapping` and `index` where in
 * which file it is; memory failure finds the entry that way. A page shared by several files
 * (reflink) has the mark PAGE_MAPPING_DAX_COW instead, and its index counts the sharers.
 *
 * Locks: i_pages of the mapping, and the entry locked (or being taken out).
 */
import type { dax_device } from "../../kernel/include/dax.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import { assert } from "../../kernel/assert.ts";
import { note_access } from "../../kernel/sched/core.ts";
import { pfn_to_page } from "../../mm/page.ts";
import { dax_entry_pages, dax_to_frame } from "./entry.ts";

/** Stands in page.mapping for "shared by several files". */
export const PAGE_MAPPING_DAX_COW = Object.freeze({
  name: "PAGE_MAPPING_DAX_COW",
}) as unknown as address_space;

/** The device whose frames the mapping's entries hold: known from the first fault on. */
export function dax_mapping_dev(mapping: address_space): dax_device {
  assert(mapping.dax_dev, "a DAX entry with storage in a mapping that never saw its device");
  return mapping.dax_dev;
}

export function dax_set_mapping_dev(mapping: address_space, dev: dax_device): void {
  if (mapping.dax_dev === dev) return;
  assert(!mapping.dax_dev || mapping.nrpages === 0, "a file's pages lie on one DAX device");
  mapping.dax_dev = dev;
}

/** First frame of an entry with storage. */
export function dax_entry_pfn(mapping: address_space, entry: number): number {
  return dax_mapping_dev(mapping).base_pfn + dax_to_frame(entry);
}

/** The descriptor of a device frame, or null on a device without page map. */
export function dax_pfn_page(mapping: address_space, pfn: number): page | null {
  return pfn_to_page(mapping.kernel, pfn);
}

function dax_mapping_set_cow(page: page): void {
  if (page.mapping !== PAGE_MAPPING_DAX_COW) {
    // It was one file's until now: that file counts as the first sharer.
    if (page.mapping) page.index = 1;
    page.mapping = PAGE_MAPPING_DAX_COW;
  }
  page.index++;
}

/** The entry's pages belong to `mapping` from `index` on, or (`cow`) to one file more. */
export function dax_associate_entry(
  mapping: address_space,
  entry: number,
  index: number,
  cow: boolean,
): void {
  const nr = dax_entry_pages(entry);
  if (nr === 0) return;
  const pfn = dax_entry_pfn(mapping, entry);
  for (let i = 0; i < nr; i++) {
    const page = dax_pfn_page(mapping, pfn + i);
    if (!page) return;
    note_access(mapping.kernel, page, true);
    if (cow) {
      dax_mapping_set_cow(page);
      continue;
    }
    mapping.kernel.WARN_ON_ONCE(page.mapping !== null, "fs/dax: a page that has a file already");
    page.mapping = mapping;
    page.index = index + i;
  }
}

export function dax_disassociate_entry(
  mapping: address_space,
  entry: number,
  trunc: boolean,
): void {
  const nr = dax_entry_pages(entry);
  if (nr === 0) return;
  const { kernel } = mapping;
  const pfn = dax_entry_pfn(mapping, entry);
  for (let i = 0; i < nr; i++) {
    const page = dax_pfn_page(mapping, pfn + i);
    if (!page) return;
    note_access(kernel, page, true);
    kernel.WARN_ON_ONCE(trunc && page._refcount > 1, "fs/dax: truncation of a busy page");
    if (page.mapping === PAGE_MAPPING_DAX_COW) {
      if (page.index-- > 0) continue;
    } else {
      const foreign = page.mapping !== null && page.mapping !== mapping;
      kernel.WARN_ON_ONCE(foreign, "fs/dax: a page of another file");
    }
    page.mapping = null;
    page.index = 0;
  }
}

/** A page of the entry that somebody besides the page tables refers to, or null. */
export function dax_busy_page(mapping: address_space, entry: number): page | null {
  const nr = dax_entry_pages(entry);
  if (nr === 0) return null;
  const pfn = dax_entry_pfn(mapping, entry);
  for (let i = 0; i < nr; i++) {
    const page = dax_pfn_page(mapping, pfn + i);
    if (!page) return null;
    note_access(mapping.kernel, page, false);
    if (page._refcount > 1) return page;
  }
  return null;
}
