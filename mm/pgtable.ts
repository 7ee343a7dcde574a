/**
 * mm/pgtable.ts - page tables. Linux: include/linux/pgtable.h, arch/x86/include/asm/pgtable*.h.
 *
 * Four levels. The top one (pgd) is a Map, so that it also covers the 57-bit addresses of
 * five-level hardware; pud, pmd and pte tables have PAGE_SIZE/8 entries. An entry is one number,
 * `pfn * 4096 + flags`, 0 for none: exact up to 2^41 frames, and equal entries are equal numbers.
 * A pmd or pud slot holds a huge entry in `leaf` or the next table in `child`, never both.
 *
 * mm->page_table_lock covers all of it. Whoever changes or removes a present entry flushes the TLB.
 */
import { assert } from "../kernel/assert.ts";
import type { mm_struct, vm_area_struct } from "../kernel/include/mm_types.ts";
import { VM_EXEC, VM_READ, VM_SHARED, VM_WRITE } from "../kernel/include/mm_types.ts";
import { mm_state } from "./mm_state.ts";
import type { page_geometry } from "./mm_state.ts";
import type { tlb } from "./tlb.ts";

export const _PAGE_PRESENT = 0x001;
export const _PAGE_RW = 0x002;
export const _PAGE_USER = 0x004;
export const _PAGE_ACCESSED = 0x020;
export const _PAGE_DIRTY = 0x040;
/** A huge entry. */
export const _PAGE_PSE = 0x080;
/** Present for the kernel, not for the hardware (PROT_NONE). */
export const _PAGE_PROTNONE = 0x100;
/** No descriptor is to be looked for. */
export const _PAGE_SPECIAL = 0x200;
/** A frame of a device with a page map. */
export const _PAGE_DEVMAP = 0x400;
/** Not present: the frame is poisoned. */
export const _PAGE_HWPOISON = 0x800;
const FLAGS = 4096;

export type pte_t = number;

export const pte_pfn = (e: pte_t): number => Math.floor(e / FLAGS);
export const pte_flags = (e: pte_t): number => e - Math.floor(e / FLAGS) * FLAGS;
export const mk_entry = (pfn: number, flags: number): pte_t => pfn * FLAGS + flags;
export const with_flags = (e: pte_t, flags: number): pte_t => e - pte_flags(e) + flags;

export const pte_present = (e: pte_t): boolean =>
  (pte_flags(e) & (_PAGE_PRESENT | _PAGE_PROTNONE)) !== 0;
export const pte_write = (e: pte_t): boolean => (pte_flags(e) & _PAGE_RW) !== 0;
export const pte_dirty = (e: pte_t): boolean => (pte_flags(e) & _PAGE_DIRTY) !== 0;
export const pte_young = (e: pte_t): boolean => (pte_flags(e) & _PAGE_ACCESSED) !== 0;
export const pte_special = (e: pte_t): boolean => (pte_flags(e) & _PAGE_SPECIAL) !== 0;
export const pte_devmap = (e: pte_t): boolean => (pte_flags(e) & _PAGE_DEVMAP) !== 0;
export const pte_set = (e: pte_t, flags: number): pte_t => with_flags(e, pte_flags(e) | flags);
export const pte_clear_flags = (e: pte_t, flags: number): pte_t =>
  with_flags(e, pte_flags(e) & ~flags);

/** A table of last-level entries. */
export type pte_table = Float64Array;

export class pmd_table {
  readonly leaf: Float64Array;
  readonly child: (pte_table | null)[];
  constructor(ptrs: number) {
    this.leaf = new Float64Array(ptrs);
    this.child = new Array<pte_table | null>(ptrs).fill(null);
  }
}

export class pud_table {
  readonly leaf: Float64Array;
  readonly child: (pmd_table | null)[];
  constructor(ptrs: number) {
    this.leaf = new Float64Array(ptrs);
    this.child = new Array<pmd_table | null>(ptrs).fill(null);
  }
}

export type pgd_t = Map<number, pud_table>;

export const PGD = (mm: mm_struct): pgd_t => mm.pgd as pgd_t;
export const TLB = (mm: mm_struct): tlb => mm.tlb as tlb;
export const geometry = (mm: mm_struct): page_geometry => mm_state(mm.kernel).geometry;

export const pte_index = (g: page_geometry, addr: number): number =>
  Math.floor(addr / g.page_size) % g.ptrs;
export const pmd_index = (g: page_geometry, addr: number): number =>
  Math.floor(addr / g.pmd_size) % g.ptrs;
export const pud_index = (g: page_geometry, addr: number): number =>
  Math.floor(addr / g.pud_size) % g.ptrs;

export function pud_offset(mm: mm_struct, g: page_geometry, addr: number): pud_table | null {
  return PGD(mm).get(Math.floor(addr / g.pgd_size)) ?? null;
}

export function pmd_offset(mm: mm_struct, g: page_geometry, addr: number): pmd_table | null {
  const pud = pud_offset(mm, g, addr);
  return pud === null ? null : pud.child[pud_index(g, addr)]!;
}

/** The last-level table that covers the address, or null. */
export function pte_offset(mm: mm_struct, g: page_geometry, addr: number): pte_table | null {
  const pmd = pmd_offset(mm, g, addr);
  return pmd === null ? null : pmd.child[pmd_index(g, addr)]!;
}

export function pud_alloc(mm: mm_struct, g: page_geometry, addr: number): pud_table {
  const key = Math.floor(addr / g.pgd_size);
  let pud = PGD(mm).get(key);
  if (pud === undefined) {
    pud = new pud_table(g.ptrs);
    PGD(mm).set(key, pud);
  }
  return pud;
}

export function pmd_alloc(mm: mm_struct, g: page_geometry, addr: number): pmd_table {
  const pud = pud_alloc(mm, g, addr);
  const i = pud_index(g, addr);
  assert(pud.leaf[i] === 0, "pmd_alloc under a huge pud");
  pud.child[i] ??= new pmd_table(g.ptrs);
  return pud.child[i]!;
}

export function pte_alloc(mm: mm_struct, g: page_geometry, addr: number): pte_table {
  const pmd = pmd_alloc(mm, g, addr);
  const i = pmd_index(g, addr);
  assert(pmd.leaf[i] === 0, "pte_alloc under a huge pmd");
  pmd.child[i] ??= new Float64Array(g.ptrs);
  return pmd.child[i]!;
}

/** Nothing is there: neither a table nor a huge entry. */
export function pmd_none(pmd: pmd_table, i: number): boolean {
  return pmd.leaf[i] === 0 && pmd.child[i] === null;
}

export function pud_none(pud: pud_table, i: number): boolean {
  return pud.leaf[i] === 0 && pud.child[i] === null;
}

/** The entry that translates an address, huge or not; 0 when there is none. */
export function lookup_entry(mm: mm_struct, addr: number): { entry: pte_t; size: number } {
  const g = geometry(mm);
  const pud = pud_offset(mm, g, addr);
  if (pud === null) return { entry: 0, size: g.pgd_size };
  const pi = pud_index(g, addr);
  const pmd = pud.child[pi]!;
  if (pmd === null) return { entry: pud.leaf[pi]!, size: g.pud_size };
  const mi = pmd_index(g, addr);
  const pte = pmd.child[mi]!;
  if (pte === null) return { entry: pmd.leaf[mi]!, size: g.pmd_size };
  return { entry: pte[pte_index(g, addr)]!, size: g.page_size };
}

/**
 * Entry bits for a vma's protection. Private writable mappings get no write bit: the first store
 * has to come by, for its copy. `notify`: neither do shared ones.
 */
export function vm_get_page_prot(vm_flags: number, notify: boolean): number {
  if (!(vm_flags & (VM_READ | VM_WRITE | VM_EXEC))) return _PAGE_PROTNONE | _PAGE_ACCESSED;
  const rw = (vm_flags & (VM_WRITE | VM_SHARED)) === (VM_WRITE | VM_SHARED) && !notify;
  return _PAGE_PRESENT | _PAGE_USER | _PAGE_ACCESSED | (rw ? _PAGE_RW : 0);
}

export function maybe_mkwrite(e: pte_t, vma: vm_area_struct): pte_t {
  return vma.vm_flags & VM_WRITE ? pte_set(e, _PAGE_RW) : e;
}

/** Bits that a change of protection leaves alone. */
export const _PAGE_CHG_MASK =
  _PAGE_ACCESSED | _PAGE_DIRTY | _PAGE_PSE | _PAGE_SPECIAL | _PAGE_DEVMAP;

export function pte_modify(e: pte_t, prot: number): pte_t {
  return with_flags(e, (pte_flags(e) & _PAGE_CHG_MASK) | prot);
}

export function flush_tlb_range(mm: mm_struct, start: number, end: number): void {
  TLB(mm).flush_range(geometry(mm), start, end);
}

export function flush_tlb_page(mm: mm_struct, addr: number): void {
  TLB(mm).flush_page(Math.floor(addr / geometry(mm).page_size));
}

export function is_zero_pfn(mm: mm_struct, pfn: number): boolean {
  return pfn === mm_state(mm.kernel).zero_pfn;
}

export function is_huge_zero(mm: mm_struct, e: pte_t): boolean {
  return e !== 0 && pte_pfn(e) === mm_state(mm.kernel).huge_zero_pfn;
}

/**
 * Walks every slot of [start, end) that is not empty, lowest address first. `pte` gets each table
 * with the index range in it; `huge` each huge entry. Callbacks may change what they are given.
 */
export interface pt_walk {
  pte(table: pte_table, first: number, last: number, addr: number, pmd: pmd_table, i: number): void;
  huge?(leaf: Float64Array, i: number, addr: number, size: number, from: number, to: number): void;
  /** A hole of tables: [addr, end) has no table. */
  hole?(addr: number, end: number): void;
}

export function walk_page_range(mm: mm_struct, start: number, end: number, w: pt_walk): void {
  const g = geometry(mm);
  let addr = start;
  while (addr < end) {
    const pud = pud_offset(mm, g, addr);
    if (pud === null) {
      const next = Math.min(end, (Math.floor(addr / g.pgd_size) + 1) * g.pgd_size);
      w.hole?.(addr, next);
      addr = next;
      continue;
    }
    addr = walk_pud(g, pud, addr, end, w);
  }
}

/** One pud slot. Returns where it ends. */
function walk_pud(
  g: page_geometry,
  pud: pud_table,
  start: number,
  limit: number,
  w: pt_walk,
): number {
  const base = Math.floor(start / g.pud_size) * g.pud_size;
  const end = Math.min(limit, base + g.pud_size);
  const pi = pud_index(g, start);
  const pmd = pud.child[pi]!;
  if (pmd === null) {
    if (pud.leaf[pi] !== 0) w.huge?.(pud.leaf, pi, base, g.pud_size, start, end);
    else w.hole?.(start, end);
    return end;
  }
  let addr = start;
  while (addr < end) {
    const mi = pmd_index(g, addr);
    const mbase = Math.floor(addr / g.pmd_size) * g.pmd_size;
    const next = Math.min(end, mbase + g.pmd_size);
    const table = pmd.child[mi]!;
    if (table !== null) {
      const first = pte_index(g, addr);
      const last = first + Math.ceil((next - addr) / g.page_size);
      w.pte(table, first, last, addr, pmd, mi);
    } else if (pmd.leaf[mi] !== 0) w.huge?.(pmd.leaf, mi, mbase, g.pmd_size, addr, next);
    else w.hole?.(addr, next);
    addr = next;
  }
  return end;
}

/**
 * Frees the tables of [start, end) that no mapping needs any more; `floor` and `ceiling` are the
 * ends of the neighbouring mappings (0 and task size at the rims): a table is kept if it reaches
 * beyond.
 */
export function free_pgtables(
  mm: mm_struct,
  start: number,
  end: number,
  floor: number,
  ceiling: number,
): void {
  const g = geometry(mm);
  const within = (base: number, size: number) => base >= floor && base + size <= ceiling;
  for (let a = Math.floor(start / g.pud_size) * g.pud_size; a < end; a += g.pud_size) {
    const pud = pud_offset(mm, g, a);
    if (pud === null) {
      a = (Math.floor(a / g.pgd_size) + 1) * g.pgd_size - g.pud_size;
      continue;
    }
    const pi = pud_index(g, a);
    const pmd = pud.child[pi]!;
    if (pmd === null) continue;
    const from = Math.max(a, Math.floor(start / g.pmd_size) * g.pmd_size);
    for (let b = from; b < Math.min(end, a + g.pud_size); b += g.pmd_size) {
      if (!within(b, g.pmd_size)) continue;
      const mi = pmd_index(g, b);
      assert(pmd.leaf[mi] === 0, "free_pgtables over a huge entry");
      pmd.child[mi] = null;
    }
    if (within(a, g.pud_size)) pud.child[pi] = null;
    const top = Math.floor(a / g.pgd_size);
    if (within(top * g.pgd_size, g.pgd_size)) PGD(mm).delete(top);
  }
}
