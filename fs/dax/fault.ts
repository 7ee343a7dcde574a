/**
 * fs/dax/fault.ts - page faults on DAX files: from the block map to a page-table entry.
 * Linux: fs/dax.c (dax_iomap_pte_fault, dax_iomap_pmd_fault, dax_fault_iter, dax_insert_entry).
 *
 * Reading order: dax_iomap_fault() -> step() with its stages -> dax_fault_iter() ->
 * dax_insert_entry()
 *
 * A fault: lock the entry (GRAB), ask the filesystem (MAP), put storage or a zero page into entry
 * and page table (ACT), ask again so that iomap_end runs (MAP), unlock the entry. It is an object
 * with a stage, so that it runs through without a promise as long as nothing has to wait, and goes
 * on from where it waited otherwise.
 *
 * Locks: caller: mmap_lock(r), freeze level 2 for a write, invalidate_lock(r). Here: the entry,
 * over iomap_begin and iomap_end and the page-table insert; i_mmap_rwsem(r) while a zero page is
 * unmapped. MAP_SYNC: the entry is unlocked, and the insert left out, until the metadata is durable
 * (dax_finish_sync_fault): between the two nothing is held but the caller's locks.
 *
 * A file with bits of both: a page entry may not replace a PMD entry with storage. Such a PMD entry
 * stays in the tree, and a PTE is inserted from inside it.
 */
import type { Errno } from "../../kernel/include/errno.ts";
import { EIO, ENOMEM, EHWPOISON, is_errno } from "../../kernel/include/errno.ts";
import type { Sometime, inode } from "../../kernel/include/fs.ts";
import {
  IOMAP_DAX,
  IOMAP_FAULT,
  IOMAP_F_DIRTY,
  IOMAP_F_NEW,
  IOMAP_F_SHARED,
  IOMAP_HOLE,
  IOMAP_MAPPED,
  IOMAP_UNWRITTEN,
  IOMAP_WRITE,
} from "../../kernel/include/iomap.ts";
import type { iomap_ops } from "../../kernel/include/iomap.ts";
import type { MaybeWait } from "../../kernel/include/locks.ts";
import {
  FAULT_FLAG_WRITE,
  VM_FAULT_DONE_COW,
  VM_FAULT_ERROR,
  VM_FAULT_FALLBACK,
  VM_FAULT_HWPOISON,
  VM_FAULT_MAJOR,
  VM_FAULT_NEEDDSYNC,
  VM_FAULT_NOPAGE,
  VM_FAULT_OOM,
  VM_FAULT_SIGBUS,
  VM_SHARED,
  VM_SYNC,
} from "../../kernel/include/mm_types.ts";
import type { address_space, vm_fault } from "../../kernel/include/mm_types.ts";
import { assert } from "../../kernel/assert.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { behaves } from "../../kernel/release.ts";
import {
  XA_STATE,
  XA_STATE_ORDER,
  xa_to_internal,
  xas_load,
  xas_lock,
  xas_reset,
  xas_set_mark,
  xas_unlock,
} from "../../kernel/lib/xarray.ts";
import type { xa_state } from "../../kernel/lib/xarray.ts";
import { mark_inode_dirty_pages } from "../../kernel/vfs/inode.ts";
import {
  FAULT,
  __split_huge_pmd,
  finish_fault,
  set_huge_zero_page,
  unmap_mapping_pages,
  vmf_insert_mixed,
  vmf_insert_mixed_mkwrite,
  vmf_insert_pfn_pmd,
  vmf_pmd,
  vmf_pmd_is_table,
} from "../../mm/memory.ts";
import { mm_state } from "../../mm/mm_state.ts";
import { SetPageUptodate, page_to_paddr } from "../../mm/page.ts";
import { iomap_iter, iomap_iter_get, iomap_iter_put, iomap_length } from "../iomap/iter.ts";
import type { iomap_iter as iomap_iter_t } from "../iomap/iter.ts";
import { dax_associate_entry, dax_disassociate_entry, dax_set_mapping_dev } from "./associate.ts";
import {
  DAX_ZERO_PAGE,
  dax_entry_start,
  dax_is_empty_entry,
  dax_is_pmd_entry,
  dax_is_zero_entry,
  dax_make_entry,
  pmd_order,
} from "./entry.ts";
import { dax_lock_entry, dax_unlock_entry, grab_mapping_entry } from "./lock.ts";
import { dax_iomap_cow_copy, dax_iomap_direct_access } from "./rw.ts";
import { PAGECACHE_TAG_DIRTY, PAGECACHE_TAG_TOWRITE } from "../../mm/address_space.ts";
import {
  trace_dax_load_hole,
  trace_dax_pmd_fault,
  trace_dax_pmd_fault_done,
  trace_dax_pmd_load_hole,
  trace_dax_pmd_load_hole_fallback,
  trace_dax_pte_fault,
  trace_dax_pte_fault_done,
} from "./trace.ts";

/** What a fault leaves for its filesystem besides the VM_FAULT code. */
export interface dax_fault_result {
  /** With VM_FAULT_NEEDDSYNC: the frame to insert once the metadata is durable. */
  pfn: number;
  /** Why iomap_begin failed, when it did (ENOSPC: the filesystem may free space and try again). */
  error: Errno | null;
}

const GRAB = 0;
const MAP = 1;
const ACT = 2;
const DONE = 3;

interface dax_fault {
  readonly kernel: Kernel;
  readonly vmf: vm_fault;
  readonly ops: iomap_ops;
  readonly result: dax_fault_result | null;
  readonly mapping: address_space;
  readonly inode: inode;
  /** 0 or the order of a PMD. */
  readonly order: number;
  readonly xas: xa_state;
  readonly iter: iomap_iter_t;
  /** The entry as it will be unlocked; negative before it is locked. */
  entry: number;
  ret: number;
  stage: number;
  max_pgoff: number;
}

export function vmf_error(err: Errno): number {
  if (err === ENOMEM) return VM_FAULT_OOM;
  if (err === EHWPOISON) return VM_FAULT_HWPOISON;
  return VM_FAULT_SIGBUS;
}

const is_write = (f: dax_fault): boolean => (f.iter.flags & IOMAP_WRITE) !== 0;

/** MAP_SYNC and the metadata not durable yet: the entry may only be inserted after an fsync. */
function dax_fault_is_synchronous(f: dax_fault): boolean {
  if (!(f.vmf.vma.vm_flags & VM_SYNC) || !is_write(f)) return false;
  return (f.iter.iomap.flags & IOMAP_F_DIRTY) !== 0;
}

function dax_fault_is_cow(f: dax_fault): boolean {
  return is_write(f) && (f.iter.iomap.flags & IOMAP_F_SHARED) !== 0;
}

/**
 * The entry is now `entry`, or stays what it is: unless it was only a place holder or is shared.
 */
function replace_entry(f: dax_fault, entry: number, dirty: boolean, cow: boolean): void {
  const { mapping, xas } = f;
  xas_reset(xas);
  xas_lock(xas);
  if (cow || dax_is_zero_entry(f.entry) || dax_is_empty_entry(f.entry)) {
    dax_disassociate_entry(mapping, f.entry, false);
    dax_associate_entry(mapping, entry, dax_entry_start(entry, xas.xa_index), cow);
    dax_lock_entry(mapping, xas, entry);
    f.entry = entry;
  } else {
    xas_load(xas);
  }
  if (dirty) xas_set_mark(xas, PAGECACHE_TAG_DIRTY);
  if (cow) xas_set_mark(xas, PAGECACHE_TAG_TOWRITE);
  xas_unlock(xas);
}

/**
 * Puts frame `pfn`, or a zero page (`flags`), into the locked entry. A dirty tag is set at every
 * fault up to 6.1, read faults too; later only for writes. With MAP_SYNC it is set when the fault
 * is finished.
 */
function dax_insert_entry(f: dax_fault, pfn: number, flags: number): MaybeWait {
  const { mapping } = f;
  const cow = dax_fault_is_cow(f);
  const writes_only = behaves(f.kernel, "dax_read_fault_keeps_clean");
  const dirty = !dax_fault_is_synchronous(f) && (!writes_only || is_write(f));
  if (dirty) mark_inode_dirty_pages(f.inode);
  const dev = f.iter.iomap.dax_dev;
  if (dev) dax_set_mapping_dev(mapping, dev);
  const frame = flags & DAX_ZERO_PAGE ? 0 : pfn - dev!.base_pfn;
  const entry = dax_make_entry(frame, f.order, flags);
  if (cow || (dax_is_zero_entry(f.entry) && !(flags & DAX_ZERO_PAGE))) {
    // A zero page gives way to storage: nobody may go on reading zeroes.
    const start = dax_entry_start(f.entry, f.xas.xa_index);
    const nr = dax_is_pmd_entry(f.entry) ? 1 << pmd_order(f.kernel) : 1;
    const p = unmap_mapping_pages(mapping, start, nr, false);
    if (p) return p.then(() => replace_entry(f, entry, dirty, cow));
  }
  replace_entry(f, entry, dirty, cow);
  return undefined;
}

/** After a MaybeWait. */
function after<T>(p: MaybeWait, fn: () => Sometime<T>): Sometime<T> {
  return p ? p.then(fn) : fn();
}

/** Read of a hole: the zero page, read-only. A later write faults again. */
function dax_load_hole(f: dax_fault): Sometime<number> {
  const pfn = mm_state(f.kernel).zero_pfn;
  return after(dax_insert_entry(f, pfn, DAX_ZERO_PAGE), () => {
    const ret = vmf_insert_mixed(f.vmf.vma, f.vmf.address, pfn);
    trace_dax_load_hole(f.inode, f.vmf, ret);
    return ret;
  });
}

function dax_pmd_load_hole(f: dax_fault): Sometime<number> {
  const pfn = mm_state(f.kernel).huge_zero_pfn;
  return after(dax_insert_entry(f, pfn, DAX_ZERO_PAGE), () => {
    const ret = set_huge_zero_page(f.vmf);
    const set = ret === VM_FAULT_NOPAGE;
    const trace = set ? trace_dax_pmd_load_hole : trace_dax_pmd_load_hole_fallback;
    trace(f.inode, f.vmf, pfn, f.entry);
    return ret;
  });
}

/** A write to a private mapping: the page is copied to DRAM, the file is left alone. */
function dax_fault_cow_page(f: dax_fault): Sometime<number> {
  const { kernel, vmf } = f;
  const m = f.iter.iomap;
  const to = page_to_paddr(vmf.cow_page!);
  const size = kernel.PAGE_SIZE;
  if (m.type === IOMAP_HOLE || m.type === IOMAP_UNWRITTEN) {
    kernel.phys.zero(to, size);
  } else if (kernel.WARN_ON_ONCE(m.type !== IOMAP_MAPPED, "fs/dax: private copy of no extent")) {
    return VM_FAULT_SIGBUS;
  } else {
    kernel.phys.copy(to, dax_iomap_direct_access(kernel, m, f.iter.pos, size, false).paddr, size);
  }
  SetPageUptodate(vmf.cow_page!);
  return and_then(finish_fault(FAULT(vmf)), (ret) => (ret === 0 ? VM_FAULT_DONE_COW : ret));
}

function and_then(x: Sometime<number>, fn: (ret: number) => number): Sometime<number> {
  return typeof x === "number" ? fn(x) : x.then(fn);
}

/**
 * Storage is in the entry: copy what a shared block needs, then insert, or leave it to MAP_SYNC.
 */
function insert_mapping(f: dax_fault, pfn: number, paddr: number, size: number): number {
  const { iter, vmf } = f;
  const src = iter.srcmap;
  if (is_write(f) && src.type !== IOMAP_HOLE && src.addr !== iter.iomap.addr) {
    const pos = f.xas.xa_index * f.kernel.PAGE_SIZE;
    dax_iomap_cow_copy(f.kernel, pos, size, size, src, paddr);
  }
  if (dax_fault_is_synchronous(f)) {
    if (f.kernel.WARN_ON_ONCE(f.result === null, "fs/dax: MAP_SYNC fault without result")) {
      return VM_FAULT_SIGBUS;
    }
    f.result!.pfn = pfn;
    return VM_FAULT_NEEDDSYNC;
  }
  if (f.order !== 0) return vmf_insert_pfn_pmd(vmf, pfn, is_write(f));
  if (is_write(f)) return vmf_insert_mixed_mkwrite(vmf.vma, vmf.address, pfn);
  return vmf_insert_mixed(vmf.vma, vmf.address, pfn);
}

/**
 * Does the mapping the filesystem gave. Returns a VM_FAULT code; throws Errno for a failed access.
 */
function dax_fault_iter(f: dax_fault): Sometime<number> {
  const m = f.iter.iomap;
  const pmd = f.order !== 0;
  if (!pmd && f.vmf.cow_page) return dax_fault_cow_page(f);
  if (!is_write(f) && (m.type === IOMAP_UNWRITTEN || m.type === IOMAP_HOLE)) {
    return pmd ? dax_pmd_load_hole(f) : dax_load_hole(f);
  }
  const mapped = m.type === IOMAP_MAPPED || (m.flags & IOMAP_F_SHARED) !== 0;
  if (f.kernel.WARN_ON_ONCE(!mapped, "fs/dax: fault on an extent that is not mapped")) {
    return pmd ? VM_FAULT_FALLBACK : VM_FAULT_SIGBUS;
  }
  const size = f.kernel.PAGE_SIZE << f.order;
  const pos = f.xas.xa_index * f.kernel.PAGE_SIZE;
  let pfn: number;
  let paddr: number;
  try {
    ({ pfn, paddr } = dax_iomap_direct_access(f.kernel, m, pos, size, true));
  } catch (err) {
    if (pmd && is_errno(err)) return VM_FAULT_FALLBACK;
    throw err;
  }
  return after(dax_insert_entry(f, pfn, 0), () => insert_mapping(f, pfn, paddr, size));
}

// ---- the stages

function grabbed(f: dax_fault, entry: number): void {
  if (entry < 0) {
    f.ret = xa_to_internal(entry);
    f.stage = DONE;
    return;
  }
  f.entry = entry;
  // Somebody else was faster with an entry of the other size: the access is simply tried again.
  const raced = f.order === 0 ? vmf_pmd(f.vmf) !== 0 : vmf_pmd_is_table(f.vmf);
  if (raced) {
    f.ret = f.order === 0 ? VM_FAULT_NOPAGE : 0;
    f.stage = DONE;
    return;
  }
  f.stage = MAP;
}

function mapped(f: dax_fault, more: boolean): void {
  const size = f.kernel.PAGE_SIZE << f.order;
  if (!more) {
    f.stage = DONE;
  } else if (iomap_length(f.iter) >= size) {
    f.stage = ACT;
  } else if (f.order === 0) {
    f.kernel.WARN_ON_ONCE(true, "fs/dax: an extent smaller than a page");
    f.iter.error = EIO;
  }
  // A short extent under a PMD: nothing is processed, so the next round ends the walk.
}

function map_failed(f: dax_fault, err: unknown): void {
  if (!is_errno(err)) throw err;
  f.stage = DONE;
  if (f.order !== 0) return;
  if (f.result) f.result.error = err;
  if (f.ret === 0) f.ret = vmf_error(err);
}

function acted(f: dax_fault, ret: number): void {
  f.stage = MAP;
  f.ret = ret;
  if (f.order !== 0) {
    if (ret !== VM_FAULT_FALLBACK) f.iter.processed = f.kernel.PAGE_SIZE << f.order;
    return;
  }
  if (ret !== VM_FAULT_SIGBUS && f.iter.iomap.flags & IOMAP_F_NEW) f.ret |= VM_FAULT_MAJOR;
  if (!(f.ret & VM_FAULT_ERROR)) f.iter.processed = f.kernel.PAGE_SIZE;
}

function act_failed(f: dax_fault, err: unknown): void {
  if (!is_errno(err)) throw err;
  acted(f, vmf_error(err));
}

/** Does the next stage, or returns the promise of it. */
function step(f: dax_fault): MaybeWait {
  if (f.stage === GRAB) {
    const e = grab_mapping_entry(f.mapping, f.xas, f.order);
    if (typeof e !== "number") return e.then((entry) => grabbed(f, entry));
    grabbed(f, e);
  } else if (f.stage === MAP) {
    let more: Sometime<boolean>;
    try {
      more = iomap_iter(f.iter, f.ops);
    } catch (err) {
      map_failed(f, err);
      return undefined;
    }
    if (typeof more !== "boolean") {
      return more.then(
        (m) => mapped(f, m),
        (err: unknown) => map_failed(f, err),
      );
    }
    mapped(f, more);
  } else {
    let ret: Sometime<number>;
    try {
      ret = dax_fault_iter(f);
    } catch (err) {
      act_failed(f, err);
      return undefined;
    }
    if (typeof ret !== "number") {
      return ret.then(
        (r) => acted(f, r),
        (err: unknown) => act_failed(f, err),
      );
    }
    acted(f, ret);
  }
  return undefined;
}

function finish(f: dax_fault): number {
  if (f.entry >= 0) dax_unlock_entry(f.mapping, f.xas, f.entry);
  iomap_iter_put(f.iter);
  if (f.order === 0) {
    trace_dax_pte_fault_done(f.inode, f.vmf, f.ret);
    return f.ret;
  }
  // A huge zero page in the slot would keep the PTE that follows out.
  if (f.ret === VM_FAULT_FALLBACK) __split_huge_pmd(f.vmf.vma.vm_mm, f.vmf.address);
  trace_dax_pmd_fault_done(f.inode, f.vmf, f.max_pgoff, f.ret);
  return f.ret;
}

async function run_rest(f: dax_fault, p: Promise<void>): Promise<number> {
  await p;
  while (f.stage !== DONE) {
    const q = step(f);
    if (q) await q;
  }
  return finish(f);
}

function run(f: dax_fault): Sometime<number> {
  while (f.stage !== DONE) {
    const p = step(f);
    if (p) return run_rest(f, p);
  }
  return finish(f);
}

function new_fault(
  vmf: vm_fault,
  order: number,
  ops: iomap_ops,
  result: dax_fault_result | null,
): dax_fault {
  assert(vmf.vma.vm_file, "a DAX fault has a file");
  const mapping = vmf.vma.vm_file.f_mapping;
  const { kernel, host } = mapping;
  const pages = mapping.i_pages;
  const xas = order === 0 ? XA_STATE(pages, vmf.pgoff) : XA_STATE_ORDER(pages, vmf.pgoff, order);
  const pos = xas.xa_index * kernel.PAGE_SIZE;
  const len = kernel.PAGE_SIZE << order;
  const write = (vmf.flags & FAULT_FLAG_WRITE) !== 0 && !vmf.cow_page;
  const flags = IOMAP_DAX | IOMAP_FAULT | (write ? IOMAP_WRITE : 0);
  if (result) {
    result.pfn = 0;
    result.error = null;
  }
  return {
    kernel,
    vmf,
    ops,
    result,
    mapping,
    inode: host,
    order,
    xas,
    iter: iomap_iter_get(host, pos, len, flags),
    entry: -1,
    ret: 0,
    stage: GRAB,
    max_pgoff: 0,
  };
}

function dax_iomap_pte_fault(
  vmf: vm_fault,
  ops: iomap_ops,
  result: dax_fault_result | null,
): Sometime<number> {
  const f = new_fault(vmf, 0, ops, result);
  trace_dax_pte_fault(f.inode, vmf, 0);
  // Truncation cannot come in between: the caller holds invalidate_lock.
  if (f.iter.pos >= f.inode.i_size) {
    f.ret = VM_FAULT_SIGBUS;
    f.stage = DONE;
  }
  return run(f);
}

/** Why this fault cannot be served by a PMD, whatever the blocks are. */
function dax_fault_check_fallback(f: dax_fault): boolean {
  const { vma, address, pgoff, flags } = f.vmf;
  const nr = 1 << f.order;
  const page_size = f.kernel.PAGE_SIZE;
  const page = address / page_size;
  // Page table and page tree must cut the range at the same places: equal colours.
  if (pgoff % nr !== page % nr) return true;
  if (flags & FAULT_FLAG_WRITE && !(vma.vm_flags & VM_SHARED)) return true;
  const pmd_addr = (page - (page % nr)) * page_size;
  if (pmd_addr < vma.vm_start || pmd_addr + nr * page_size > vma.vm_end) return true;
  return f.xas.xa_index + nr - 1 >= f.max_pgoff;
}

function dax_iomap_pmd_fault(
  vmf: vm_fault,
  ops: iomap_ops,
  result: dax_fault_result | null,
): Sometime<number> {
  const { kernel } = vmf.vma.vm_mm;
  const f = new_fault(vmf, pmd_order(kernel), ops, result);
  if (vmf.flags & FAULT_FLAG_WRITE) f.iter.flags |= IOMAP_WRITE;
  f.ret = VM_FAULT_FALLBACK;
  f.max_pgoff = Math.ceil(f.inode.i_size / kernel.PAGE_SIZE);
  trace_dax_pmd_fault(f.inode, vmf, f.max_pgoff, 0);
  if (f.xas.xa_index >= f.max_pgoff) {
    f.ret = VM_FAULT_SIGBUS;
    f.stage = DONE;
  } else if (dax_fault_check_fallback(f)) {
    f.stage = DONE;
  }
  return run(f);
}

/**
 * Serves a fault on a DAX file with an entry of `order` (0 or a PMD's). Returns a VM_FAULT code;
 * what else the filesystem wants to know goes to `result`, which a MAP_SYNC mapping needs. The
 * caller holds invalidate_lock and, for a write, freeze level 2 and its transaction.
 */
export function dax_iomap_fault(
  vmf: vm_fault,
  order: number,
  ops: iomap_ops,
  result: dax_fault_result | null = null,
): Sometime<number> {
  if (order === 0) return dax_iomap_pte_fault(vmf, ops, result);
  // mm says PMD_ORDER for that level whatever the page size.
  if (order === pmd_order(vmf.vma.vm_mm.kernel)) return dax_iomap_pmd_fault(vmf, ops, result);
  return VM_FAULT_FALLBACK;
}
