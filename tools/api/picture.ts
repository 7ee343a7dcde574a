/**
 * tools/api/picture.ts - the four-line picture of one address: mapping, page-cache or DAX entry,
 * page table, media. Printed by the tour, by scripts and by reports alike.
 *
 *   vma     7ffff7c00000-7ffff7e00000 rw-s /mnt/log +0x0
 *   xarray  [0x0] DAX PMD, frame 0x800, dirty
 *   table   PMD -> pfn 0x40c00, writable dirty accessed
 *   media   "hello"  line: in the cpu cache
 */
import type { address_space, mm_struct, vm_area_struct } from "../../kernel/include/mm_types.ts";
import type { page } from "../../kernel/include/mm_types.ts";
import { PAGECACHE_TAG_DIRTY } from "../../mm/filemap.ts";
import { xa_get_mark, xa_is_value, xa_load } from "../../kernel/lib/xarray.ts";
import {
  dax_entry_order,
  dax_entry_start,
  dax_entry_text,
  dax_to_frame,
} from "../../fs/dax/entry.ts";
import { dax_is_zero_entry } from "../../fs/dax/entry.ts";
import { d_path } from "../../fs/dcache.ts";
import { task_fs } from "../../fs/fs_struct.ts";
import { line_state } from "../../mm/phys.ts";
import {
  lookup_entry,
  pte_dirty,
  pte_pfn,
  pte_present,
  pte_write,
  pte_young,
} from "../../mm/pgtable.ts";
import { vma_perms } from "../../mm/smaps.ts";
import { find_vma } from "../../mm/vma.ts";
import type { Process } from "./process.ts";

const hex = (n: number): string => `0x${n.toString(16)}`;

function vma_line(p: Process, vma: vm_area_struct | null): string {
  if (!vma) return "nothing is mapped here";
  const range = `${vma.vm_start.toString(16)}-${vma.vm_end.toString(16)} ${vma_perms(vma)}`;
  if (!vma.vm_file) return `${range} anonymous memory`;
  const name = d_path(vma.vm_file.f_path, task_fs(p.task).root);
  return `${range} ${name} +${hex(vma.vm_pgoff * p.kernel.PAGE_SIZE)}`;
}

function entry_line(mapping: address_space, index: number): string {
  const e = xa_load(mapping.i_pages, index);
  if (e === null) return `[${hex(index)}] no entry`;
  const dirty = xa_get_mark(mapping.i_pages, index, PAGECACHE_TAG_DIRTY) ? "dirty" : "clean";
  if (!xa_is_value(e)) return `[${hex(index)}] page, pfn ${hex((e as page).pfn)}, ${dirty}`;
  const v = e as number;
  const size = dax_entry_order(v) > 0 ? "PMD" : "PTE";
  const words = dax_entry_text(v)
    .replace(/PMD\|?|none/, "")
    .replace(/\|$/, "");
  const what = dax_is_zero_entry(v) ? "" : `, frame ${hex(dax_to_frame(v))}`;
  const state = words === "" ? dirty : `${words.toLowerCase()}, ${dirty}`;
  return `[${hex(dax_entry_start(v, index))}] DAX ${size}${what}, ${state}`;
}

function table_line(p: Process, mm: mm_struct, addr: number): string {
  const { entry, size } = lookup_entry(mm, addr);
  if (!pte_present(entry)) return "no translation: the next access faults";
  const level = size > p.kernel.PAGE_SIZE ? (size > 2 ** 21 ? "PUD" : "PMD") : "PTE";
  const words = [
    pte_write(entry) ? "writable" : "read-only",
    ...(pte_dirty(entry) ? ["dirty"] : []),
    ...(pte_young(entry) ? ["accessed"] : []),
  ];
  return `${level} -> pfn ${hex(pte_pfn(entry))}, ${words.join(" ")}`;
}

const LINE_WORDS = Object.freeze({
  dirty: "in the cpu cache, lost by a power cut",
  pending: "on its way, until the next fence",
  durable: "durable",
});

function media_line(p: Process, mm: mm_struct, addr: number): string {
  const { entry, size } = lookup_entry(mm, addr);
  if (!pte_present(entry)) return "not reached from here";
  const paddr = pte_pfn(entry) * p.kernel.PAGE_SIZE + (addr % size);
  const region = p.kernel.phys.region_of(paddr);
  const bytes = new Uint8Array(16);
  p.kernel.phys.copy_from(paddr, bytes, 0, bytes.length);
  const text = Array.from(bytes, (b) => (b >= 32 && b < 127 ? String.fromCharCode(b) : ".")).join(
    "",
  );
  if (region?.kind !== "pmem") return `"${text}" in ordinary memory (${region?.name ?? "?"})`;
  const state = line_state(region, paddr - region.start);
  const tail = state === null ? "" : `, 64-byte line ${LINE_WORDS[state]}`;
  return `"${text}" at ${region.name}+${hex(paddr - region.start)}${tail}`;
}

/** Four lines about what stands behind `addr` in the memory of `p`. Changes nothing. */
export function picture(p: Process, addr: number): string {
  const mm = p.task.mm!;
  const found = find_vma(mm, addr);
  const vma = found && found.vm_start <= addr ? found : null;
  let entry = "no file";
  if (vma?.vm_file) {
    const index = vma.vm_pgoff + Math.floor((addr - vma.vm_start) / p.kernel.PAGE_SIZE);
    entry = entry_line(vma.vm_file.f_mapping, index);
  }
  return [
    `vma     ${vma_line(p, vma)}`,
    `xarray  ${entry}`,
    `table   ${table_line(p, mm, addr)}`,
    `media   ${media_line(p, mm, addr)}`,
  ].join("\n");
}
