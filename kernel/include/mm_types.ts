/**
 * kernel/include/mm_types.ts - address spaces, pages, vmas, faults. Linux:
 * include/linux/{mm_types,mm,fs}.h. Classes: mm/.
 */
import type { dax_device } from "./dax.ts";
import type { Sometime, file, inode, writeback_control } from "./fs.ts";
import type { bit_lock, rw_semaphore, spinlock_t } from "./locks.ts";
import type { xarray } from "../lib/xarray.ts";
import type { Kernel } from "../kernel.ts";

export const PAGE_SHIFT_4K = 12;
export const PAGE_SIZE_4K = 4096;
export const PMD_SHIFT = 21;
export const PMD_SIZE = 1 << 21;
export const PUD_SHIFT = 30;

/** vm_flags */
export const VM_READ = 0x1;
export const VM_WRITE = 0x2;
export const VM_EXEC = 0x4;
export const VM_SHARED = 0x8;
export const VM_MAYREAD = 0x10;
export const VM_MAYWRITE = 0x20;
export const VM_MAYEXEC = 0x40;
export const VM_MAYSHARE = 0x80;
export const VM_GROWSDOWN = 0x100;
export const VM_PFNMAP = 0x400;
export const VM_LOCKED = 0x2000;
export const VM_IO = 0x4000;
export const VM_SEQ_READ = 0x8000;
export const VM_RAND_READ = 0x10000;
export const VM_DONTCOPY = 0x20000;
export const VM_DONTEXPAND = 0x40000;
export const VM_LOCKONFAULT = 0x80000;
export const VM_ACCOUNT = 0x100000;
export const VM_NORESERVE = 0x200000;
export const VM_HUGETLB = 0x400000;
export const VM_SYNC = 0x800000;
export const VM_WIPEONFORK = 0x2000000;
export const VM_DONTDUMP = 0x4000000;
export const VM_SOFTDIRTY = 0x8000000;
export const VM_MIXEDMAP = 0x10000000;
export const VM_HUGEPAGE = 0x20000000;
export const VM_NOHUGEPAGE = 0x40000000;

/** vm_fault_t: what a fault handler returns. */
export const VM_FAULT_OOM = 0x1;
export const VM_FAULT_SIGBUS = 0x2;
export const VM_FAULT_MAJOR = 0x4;
export const VM_FAULT_HWPOISON = 0x10;
export const VM_FAULT_HWPOISON_LARGE = 0x20;
export const VM_FAULT_SIGSEGV = 0x40;
export const VM_FAULT_NOPAGE = 0x100;
export const VM_FAULT_LOCKED = 0x200;
export const VM_FAULT_RETRY = 0x400;
export const VM_FAULT_FALLBACK = 0x800;
export const VM_FAULT_DONE_COW = 0x1000;
export const VM_FAULT_NEEDDSYNC = 0x2000;
export const VM_FAULT_COMPLETED = 0x4000;
export const VM_FAULT_ERROR =
  VM_FAULT_OOM |
  VM_FAULT_SIGBUS |
  VM_FAULT_SIGSEGV |
  VM_FAULT_HWPOISON |
  VM_FAULT_HWPOISON_LARGE |
  VM_FAULT_FALLBACK;

/** vm_fault.flags */
export const FAULT_FLAG_WRITE = 1 << 0;
export const FAULT_FLAG_MKWRITE = 1 << 1;
export const FAULT_FLAG_ALLOW_RETRY = 1 << 2;
export const FAULT_FLAG_RETRY_NOWAIT = 1 << 3;
export const FAULT_FLAG_KILLABLE = 1 << 4;
export const FAULT_FLAG_TRIED = 1 << 5;
export const FAULT_FLAG_USER = 1 << 6;
export const FAULT_FLAG_REMOTE = 1 << 7;
export const FAULT_FLAG_INSTRUCTION = 1 << 8;
export const FAULT_FLAG_INTERRUPTIBLE = 1 << 9;
export const FAULT_FLAG_UNSHARE = 1 << 10;
export const FAULT_FLAG_ORIG_PTE_VALID = 1 << 11;

/** page.flags */
export const PG_uptodate = 1 << 0;
export const PG_dirty = 1 << 1;
export const PG_writeback = 1 << 2;
export const PG_error = 1 << 3;
export const PG_referenced = 1 << 4;
export const PG_mappedtodisk = 1 << 5;
export const PG_hwpoison = 1 << 6;
export const PG_reserved = 1 << 7;
export const PG_anon = 1 << 8;
/** A reader that comes to this page has the next window read. */
export const PG_readahead = 1 << 9;

/**
 * One page frame with a descriptor: page cache, anonymous, or a device page of an fsdax namespace
 * with a page map. Contents live in physical memory (`mm/phys.ts`), reached by `page_address(page)`
 * for DRAM.
 */
export interface page {
  readonly pfn: number;
  flags: number; // page lock for PG_dirty/uptodate transitions
  mapping: address_space | null; // page lock, i_pages lock
  index: number; // page lock
  /** References; 1 per page-cache entry, per PTE (rules per kernel release for DAX), per pin. */
  _refcount: number;
  _mapcount: number; // page-table lock; number of PTEs
  /** fs private: buffer heads, block states. Page lock. */
  private: unknown;
  readonly lock_bit: bit_lock;
}

export interface address_space {
  readonly kernel: Kernel;
  readonly host: inode;
  /** Pages or DAX entries. Protected by i_pages.lock (xa_lock). */
  readonly i_pages: xarray;
  readonly invalidate_lock: rw_semaphore;
  readonly i_mmap_rwsem: rw_semaphore;
  /** vmas that map this file. i_mmap_rwsem. */
  readonly i_mmap: Set<vm_area_struct>;
  i_mmap_writable: number;
  nrpages: number; // i_pages lock; counts DAX entries in pages as nrpages does
  a_ops: address_space_operations;
  flags: number; // AS_*
  wb_err: number;
  writeback_index: number;
  /**
   * Device whose frames the DAX entries hold; set by fs/dax before the first entry. i_pages lock
   */
  dax_dev?: dax_device | null;
}
export const AS_EIO = 1 << 0;
export const AS_ENOSPC = 1 << 1;

export interface address_space_operations {
  name?: string;
  /** Page locked on entry; unlocks it when done. */
  read_folio?(file: file | null, page: page): Sometime<void>;
  readahead?(mapping: address_space, index: number, nr_pages: number): Sometime<void>;
  writepages?(mapping: address_space, wbc: writeback_control): Promise<void>;
  dirty_folio?(mapping: address_space, page: page): boolean;
  write_begin?(
    file: file | null,
    mapping: address_space,
    pos: number,
    len: number,
    ctx: write_ctx,
  ): Sometime<void>;
  write_end?(
    file: file | null,
    mapping: address_space,
    pos: number,
    len: number,
    copied: number,
    ctx: write_ctx,
  ): Sometime<number>;
  bmap?(mapping: address_space, block: number): Promise<number>;
  invalidate_folio?(page: page, offset: number, len: number): void;
  release_folio?(page: page): boolean;
  /** Are `count` bytes from `from` on there, although not all of the page is? */
  is_partially_uptodate?(page: page, from: number, count: number): boolean;
  direct_IO?: unknown;
  swap_activate?(file: file): Promise<number>;
}
export interface write_ctx {
  page: page | null;
  fsdata: unknown;
}

export interface vm_operations_struct {
  name?: string;
  open?(vma: vm_area_struct): void;
  close?(vma: vm_area_struct): void;
  may_split?(vma: vm_area_struct, addr: number): void;
  mprotect?(vma: vm_area_struct, start: number, end: number, flags: number): void;
  fault?(vmf: vm_fault): Sometime<number>;
  /** order: PMD_ORDER or PUD order. */
  huge_fault?(vmf: vm_fault, order: number): Sometime<number>;
  map_pages?(vmf: vm_fault, start_pgoff: number, end_pgoff: number): Sometime<number>;
  page_mkwrite?(vmf: vm_fault): Sometime<number>;
  pfn_mkwrite?(vmf: vm_fault): Sometime<number>;
  pagesize?(vma: vm_area_struct): number;
  /** May the vma be moved? Throws when not. */
  mremap?(vma: vm_area_struct): void;
}

export interface vm_area_struct {
  vm_start: number; // mmap_lock
  vm_end: number; // mmap_lock; exclusive
  vm_flags: number; // mmap_lock
  /** Bits that a new entry gets (_PAGE_*, mm/pgtable.ts). mmap_lock */
  vm_page_prot: number;
  vm_pgoff: number; // pages; of an anonymous vma its first address in pages
  vm_file: file | null; // mmap_lock
  vm_ops: vm_operations_struct | null; // null: anonymous
  vm_private_data: unknown;
  /** Not null once the vma may hold anonymous pages. mmap_lock, page_table_lock */
  anon_vma: object | null;
  /** Age: copies and pieces have their original's. Immutable. */
  readonly seq: number;
  readonly vm_mm: mm_struct;
}

export interface mm_struct {
  readonly kernel: Kernel;
  readonly mmap_lock: rw_semaphore;
  /** today's name and the seeds' name are the same lock */
  readonly mmap_sem: rw_semaphore;
  /** Covers every level of the page tables. */
  readonly page_table_lock: spinlock_t;
  /** Sorted by address, without overlap. mmap_lock */
  readonly mmap: vm_area_struct[];
  /** Highest address of a mapping whose place the kernel chooses. Immutable. */
  mmap_base: number;
  /** First address beyond user space. Immutable. */
  readonly task_size: number;
  total_vm: number; // pages; mmap_lock
  locked_vm: number; // pages; mmap_lock
  data_vm: number; // pages; mmap_lock
  def_flags: number; // mmap_lock
  /** Resident pages, by kind. page_table_lock */
  rss_file: number;
  rss_anon: number;
  rss_shmem: number;
  /** Tasks that use it. */
  mm_users: number;
  /** Top of the page tables (mm/pgtable.ts). page_table_lock */
  readonly pgd: unknown;
  /** The translation cache (mm/tlb.ts). */
  readonly tlb: unknown;
}

/** One fault under way. */
export interface vm_fault {
  vma: vm_area_struct;
  flags: number; // FAULT_FLAG_*
  pgoff: number; // pages in the file
  /** Faulting address, page aligned; real_address keeps the low bits. */
  address: number;
  real_address: number;
  /** Page for page_mkwrite, or the page a `fault` handler found. */
  page: page | null;
  cow_page: page | null;
  /** Entry seen when the fault began: 0 for none (see mm/pgtable.ts for the encoding). */
  orig_pte: number;
  /** Huge entry seen when the fault began; 0 when the slot was empty or held a table. */
  orig_pmd: number;
}

/** Page-table orders of huge_fault, in pages of 4 KiB. */
export const PTE_ORDER = 0;
export const PMD_ORDER = 9;
export const PUD_ORDER = 18;

/** A range of device pages that have descriptors. Linux: struct dev_pagemap. */
export interface dev_pagemap {
  readonly start_pfn: number;
  readonly nr: number;
  readonly type: "fs_dax" | "devdax" | "generic";
  /** log2 of the pages that one huge page of the device has; absent: small pages. */
  readonly vmemmap_shift?: number;
  /** The last extra reference of a page is gone (its count fell to 1). Wakes who waits for idle. */
  page_idle?(page: page): void;
  /** Memory went bad: tell the owner. */
  memory_failure?(pgmap: dev_pagemap, pfn: number, nr: number, flags: number): Promise<void>;
  /** An access met a bad line: the owner notes the block. */
  media_error?(pgmap: dev_pagemap, paddr: number): void;
  readonly owner: unknown;
}

/** What mm calls in fs/dax.ts for mappings that hold value entries. `kernel.dax_mm_ops`. */
export interface dax_mm_ops {
  /** Waits until the entry is unlocked and removes it. */
  delete_mapping_entry(mapping: address_space, index: number): Sometime<boolean>;
  /** Removes a clean entry; false if it is dirty. */
  invalidate_mapping_entry_sync(mapping: address_space, index: number): Sometime<boolean>;
  lock_page?(page: page): Sometime<unknown>;
  unlock_page?(page: page, cookie: unknown): void;
  /** The entry of a file's page and its frame, null without storage; cookie null: no DAX. */
  lock_mapping_entry?(
    mapping: address_space,
    index: number,
  ): Promise<{ cookie: number | null; page: page | null }>;
  unlock_mapping_entry?(mapping: address_space, index: number, cookie: number): void;
}
