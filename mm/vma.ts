/**
 * mm/vma.ts - the list of mappings: find, insert, split, merge. Linux: mm/mmap.c.
 * Differs: a sorted array with binary search instead of a maple tree; an address space of an
 * experiment has tens of mappings.
 *
 * Caller holds mmap_lock for writing (find: for reading). What changes a file's mappings also takes
 * i_mmap_rwsem, so these functions may sleep.
 * Invariant: sorted, no overlap, page aligned; every vma with a file is in that file's i_mmap.
 */
import { ENOMEM } from "../kernel/include/errno.ts";
import type { MaybeWait } from "../kernel/include/locks.ts";
import type {
  address_space,
  mm_struct,
  vm_area_struct,
  vm_operations_struct,
} from "../kernel/include/mm_types.ts";
import {
  VM_DONTEXPAND,
  VM_IO,
  VM_LOCKED,
  VM_MIXEDMAP,
  VM_PFNMAP,
  VM_SHARED,
  VM_SOFTDIRTY,
  VM_WRITE,
} from "../kernel/include/mm_types.ts";
import type { file } from "../kernel/include/fs.ts";
import { get_file } from "../kernel/vfs/file.ts";
import { mm_state } from "./mm_state.ts";
import { geometry, vm_get_page_prot } from "./pgtable.ts";

/** vm.max_map_count */
export const MAX_MAP_COUNT = 65530;
export const VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP;

class vma_class implements vm_area_struct {
  readonly vm_mm: mm_struct;
  vm_start: number;
  vm_end: number;
  vm_flags: number;
  vm_page_prot = 0;
  vm_pgoff: number;
  vm_file: file | null = null;
  vm_ops: vm_operations_struct | null = null;
  vm_private_data: unknown = null;
  anon_vma: object | null = null;
  readonly seq: number;

  constructor(
    mm: mm_struct,
    start: number,
    end: number,
    flags: number,
    pgoff: number,
    seq: number,
  ) {
    this.vm_mm = mm;
    this.seq = seq;
    this.vm_start = start;
    this.vm_end = end;
    this.vm_flags = flags;
    this.vm_pgoff = pgoff;
  }

  toString(): string {
    return `[${this.vm_start.toString(16)}-${this.vm_end.toString(16)})`;
  }
}

export function vm_area_alloc(
  mm: mm_struct,
  start: number,
  end: number,
  flags: number,
  pgoff: number,
): vm_area_struct {
  return new vma_class(mm, start, end, flags, pgoff, ++mm_state(mm.kernel).nr_vmas);
}

/** A copy for `mm`, with its own reference to the file; not in any list yet. */
export function vm_area_dup(vma: vm_area_struct, mm: mm_struct): vm_area_struct {
  const v = new vma_class(mm, vma.vm_start, vma.vm_end, vma.vm_flags, vma.vm_pgoff, vma.seq);
  v.vm_page_prot = vma.vm_page_prot;
  v.vm_file = vma.vm_file;
  v.vm_ops = vma.vm_ops;
  v.vm_private_data = vma.vm_private_data;
  v.anon_vma = vma.anon_vma;
  return v;
}

export const vma_pages = (vma: vm_area_struct): number =>
  (vma.vm_end - vma.vm_start) / geometry(vma.vm_mm).page_size;

export const vma_is_anonymous = (vma: vm_area_struct): boolean => vma.vm_ops === null;

/** Page of the file at an address of the vma. */
export function linear_page_index(vma: vm_area_struct, addr: number): number {
  return Math.floor((addr - vma.vm_start) / geometry(vma.vm_mm).page_size) + vma.vm_pgoff;
}

/** Index of the first vma that ends above `addr`; mmap.length if none. */
export function find_vma_index(mm: mm_struct, addr: number): number {
  const list = mm.mmap;
  let lo = 0;
  let hi = list.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (list[mid]!.vm_end > addr) hi = mid;
    else lo = mid + 1;
  }
  return lo;
}

/** The first vma that ends above `addr` (it may begin above it, too), or null. */
export function find_vma(mm: mm_struct, addr: number): vm_area_struct | null {
  return mm.mmap[find_vma_index(mm, addr)] ?? null;
}

/** The vma that holds `addr`, or null. */
export function vma_lookup(mm: mm_struct, addr: number): vm_area_struct | null {
  const vma = find_vma(mm, addr);
  return vma !== null && vma.vm_start <= addr ? vma : null;
}

/** The first vma that has a byte in [start, end), or null. */
export function find_vma_intersection(
  mm: mm_struct,
  start: number,
  end: number,
): vm_area_struct | null {
  const vma = find_vma(mm, start);
  return vma !== null && vma.vm_start < end ? vma : null;
}

/** The vmas that touch [start, end), as a copy: the list may change under the caller. */
export function vmas_in(mm: mm_struct, start: number, end: number): vm_area_struct[] {
  const out: vm_area_struct[] = [];
  for (let i = find_vma_index(mm, start); i < mm.mmap.length; i++) {
    const vma = mm.mmap[i]!;
    if (vma.vm_start >= end) break;
    out.push(vma);
  }
  return out;
}

// ---- the file's side

export function mapping_of(vma: vm_area_struct): address_space | null {
  return vma.vm_file === null ? null : vma.vm_file.f_mapping;
}

/** Runs `fn` with the file's i_mmap locked, if there is a file. */
async function with_i_mmap(vma: vm_area_struct, fn: () => void): Promise<void> {
  const mapping = mapping_of(vma);
  if (mapping === null) {
    fn();
    return;
  }
  const p = mapping.i_mmap_rwsem.down_write();
  if (p) await p;
  fn();
  mapping.i_mmap_rwsem.up_write();
}

function link_file(vma: vm_area_struct): void {
  const mapping = mapping_of(vma);
  if (mapping === null) return;
  mapping.i_mmap.add(vma);
  if (vma.vm_flags & VM_SHARED) mapping.i_mmap_writable++;
}

function unlink_file(vma: vm_area_struct): void {
  const mapping = mapping_of(vma);
  if (mapping === null || !mapping.i_mmap.delete(vma)) return;
  if (vma.vm_flags & VM_SHARED) mapping.i_mmap_writable--;
}

/** Puts a vma into the address space and into its file's i_mmap. */
export function vma_link(mm: mm_struct, vma: vm_area_struct): Promise<void> {
  return with_i_mmap(vma, () => {
    mm.mmap.splice(find_vma_index(mm, vma.vm_start), 0, vma);
    link_file(vma);
  });
}

/** Takes it out of both. The file reference stays with the caller. */
export function vma_unlink(mm: mm_struct, vma: vm_area_struct): Promise<void> {
  return with_i_mmap(vma, () => {
    const i = mm.mmap.indexOf(vma);
    if (i >= 0) mm.mmap.splice(i, 1);
    unlink_file(vma);
  });
}

/** Only the file's side: a vma that is in no address space yet, or leaves one as a whole. */
export function vma_link_file(vma: vm_area_struct): Promise<void> {
  return with_i_mmap(vma, () => link_file(vma));
}
export function vma_unlink_file(vma: vm_area_struct): Promise<void> {
  return with_i_mmap(vma, () => unlink_file(vma));
}

// ---- protection of new entries

/** Must the first store to a shared mapping come by, so that the page is known to be dirty? */
export function vma_wants_writenotify(vma: vm_area_struct): boolean {
  if ((vma.vm_flags & (VM_WRITE | VM_SHARED)) !== (VM_WRITE | VM_SHARED)) return false;
  if (vma.vm_ops?.page_mkwrite || vma.vm_ops?.pfn_mkwrite) return true;
  if (vma.vm_flags & VM_PFNMAP) return false;
  return mapping_of(vma)?.a_ops.writepages !== undefined;
}

export function vma_set_page_prot(vma: vm_area_struct): void {
  vma.vm_page_prot = vm_get_page_prot(vma.vm_flags, vma_wants_writenotify(vma));
}

// ---- split and merge

/**
 * Called before the ends of a vma move: a huge entry across a new end must go (mm/memory/huge.ts).
 */
export type adjust_huge = (vma: vm_area_struct, start: number, end: number) => void;

/**
 * Cuts `vma` at `addr`. `new_below`: the new vma is the lower part. Returns the new one. Throws
 * ENOMEM when there are too many mappings.
 */
export async function split_vma(
  mm: mm_struct,
  vma: vm_area_struct,
  addr: number,
  new_below: boolean,
  adjust: adjust_huge,
): Promise<vm_area_struct> {
  if (mm.mmap.length >= MAX_MAP_COUNT) throw ENOMEM;
  vma.vm_ops?.may_split?.(vma, addr);
  const fresh = vm_area_dup(vma, mm);
  const pages = (addr - vma.vm_start) / geometry(mm).page_size;
  if (new_below) fresh.vm_end = addr;
  else {
    fresh.vm_start = addr;
    fresh.vm_pgoff += pages;
  }
  if (fresh.vm_file) get_file(fresh.vm_file);
  fresh.vm_ops?.open?.(fresh);
  await with_i_mmap(vma, () => {
    if (new_below) {
      adjust(vma, addr, vma.vm_end);
      vma.vm_start = addr;
      vma.vm_pgoff += pages;
    } else {
      adjust(vma, vma.vm_start, addr);
      vma.vm_end = addr;
    }
    mm.mmap.splice(mm.mmap.indexOf(vma) + (new_below ? 0 : 1), 0, fresh);
    link_file(fresh);
  });
  return fresh;
}

/** What a vma that is to be merged must have. */
export interface vma_kind {
  vm_flags: number;
  file: file | null;
  anon_vma: object | null;
  vm_ops: vm_operations_struct | null;
  private_data: unknown;
}

function is_mergeable(vma: vm_area_struct, k: vma_kind): boolean {
  // A difference in soft-dirty alone does not keep vmas apart.
  if ((vma.vm_flags | VM_SOFTDIRTY) !== (k.vm_flags | VM_SOFTDIRTY)) return false;
  if (vma.vm_file !== k.file || vma.vm_private_data !== k.private_data) return false;
  if (vma.vm_ops?.close) return false;
  return vma.anon_vma === null || k.anon_vma === null || vma.anon_vma === k.anon_vma;
}

/**
 * Can [addr, end) with these properties be joined with a neighbour (or both)? If so does it, and
 * returns the joined vma. `own`: the vma of exactly that range if it is there already (after
 * mprotect).
 */
export async function vma_merge(
  mm: mm_struct,
  addr: number,
  end: number,
  pgoff: number,
  kind: vma_kind,
  own: vm_area_struct | null,
): Promise<vm_area_struct | null> {
  if (kind.vm_flags & VM_SPECIAL) return null;
  const g = geometry(mm);
  const i = own ? mm.mmap.indexOf(own) : find_vma_index(mm, addr);
  const prev = mm.mmap[i - 1] ?? null;
  const next = mm.mmap[own ? i + 1 : i] ?? null;
  const pages = (end - addr) / g.page_size;
  const join_prev =
    prev !== null &&
    prev.vm_end === addr &&
    is_mergeable(prev, kind) &&
    prev.vm_pgoff + vma_pages(prev) === pgoff;
  const join_next =
    next !== null &&
    next.vm_start === end &&
    is_mergeable(next, kind) &&
    pgoff + pages === next.vm_pgoff;
  if (!join_prev && !join_next) return null;
  const stays = join_prev ? prev! : next!;
  const gone = [own, join_prev && join_next ? next : null].filter((v) => v !== null);
  await with_i_mmap(stays, () => {
    if (join_prev) stays.vm_end = join_next ? next!.vm_end : end;
    else {
      stays.vm_start = addr;
      stays.vm_pgoff = pgoff;
    }
    stays.anon_vma ??= kind.anon_vma ?? (join_next ? next!.anon_vma : null);
    for (const v of gone) {
      mm.mmap.splice(mm.mmap.indexOf(v), 1);
      unlink_file(v);
    }
  });
  for (const v of gone) if (v.vm_file) v.vm_file.f_count--;
  return stays;
}

// ---- locks and limits

export function mmap_read_lock(mm: mm_struct): MaybeWait {
  return mm.mmap_lock.down_read();
}

export const is_locked_vma = (vma: vm_area_struct): boolean => (vma.vm_flags & VM_LOCKED) !== 0;
