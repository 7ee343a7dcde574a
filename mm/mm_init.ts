/**
 * mm/mm_init.ts - mm of a kernel at boot, and new address spaces. Linux: kernel/fork.c (mm_init),
 * arch/x86/mm/mmap.c, fs/exec.c.
 *
 * Addresses as on x86-64 with five-level tables and a 47-bit default window: the kernel places
 * mappings top down from mmap_base; MAP_FIXED may go up to task_size.
 */
import { EOPNOTSUPP } from "../kernel/include/errno.ts";
import type { mm_struct, vm_area_struct } from "../kernel/include/mm_types.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { lock_class, new_wait_queue, rw_semaphore, spinlock } from "../kernel/locking/locks.ts";
import { new_address_space } from "./address_space.ts";
import { new_mf_state } from "./memory-failure/state.ts";
import { make_geometry } from "./mm_state.ts";
import { alloc_page } from "./page.ts";
import type { mm_kernel_state } from "./mm_state.ts";
import { init_phys } from "./phys.ts";
import type { pgd_t } from "./pgtable.ts";
import { tlb } from "./tlb.ts";
import { truncate_inode_pages_final } from "./truncate.ts";

const MMAP_LOCK = lock_class("&mm->mmap_lock");
const PAGE_TABLE_LOCK = lock_class("&mm->page_table_lock");

/** Ends below 2^53 so that every byte address is exact. */
export const TASK_SIZE_MAX = 2 ** 53 - 4096;
/** Highest address given unless the caller's hint asks for more. */
export const DEFAULT_MAP_WINDOW = 2 ** 47 - 4096;
/** Lowest address that a mapping may have (vm.mmap_min_addr). */
export const MMAP_MIN_ADDR = 65536;
/** Top of the area for mappings: below 128 MiB for the stack, just under a 2 MiB boundary. */
const MMAP_BASE = 0x7ffff7e00000;

class mm_class implements mm_struct {
  readonly kernel: Kernel;
  readonly mmap_lock: rw_semaphore;
  readonly page_table_lock: spinlock;
  readonly mmap: vm_area_struct[] = [];
  mmap_base = MMAP_BASE;
  readonly task_size = TASK_SIZE_MAX;
  total_vm = 0;
  locked_vm = 0;
  data_vm = 0;
  def_flags = 0;
  rss_file = 0;
  rss_anon = 0;
  rss_shmem = 0;
  mm_users = 1;
  readonly pgd: pgd_t = new Map();
  readonly tlb = new tlb();

  constructor(kernel: Kernel) {
    this.kernel = kernel;
    this.mmap_lock = new rw_semaphore(kernel.machine, MMAP_LOCK);
    this.page_table_lock = new spinlock(kernel.machine, PAGE_TABLE_LOCK);
  }

  get mmap_sem(): rw_semaphore {
    return this.mmap_lock;
  }
}

/** An empty address space with one user. */
export function mm_alloc(kernel: Kernel): mm_struct {
  return new mm_class(kernel);
}

/**
 * Sets up physical memory (unless there is some already) and mm's state. `dram_bytes`: default
 * 1 GiB. `fault_around_bytes`: default 64 KiB, 4096 turns fault-around off.
 */
export function init_mm(
  kernel: Kernel,
  opts: { dram_bytes?: number; fault_around_bytes?: number } = {},
): void {
  if (!kernel.phys) init_phys(kernel, opts);
  const geometry = make_geometry(kernel.PAGE_SHIFT);
  const st: mm_kernel_state = {
    pages: new Map(),
    pgmaps: [],
    pgmap_refs: new Map(),
    writeback_wait: new_wait_queue(kernel.machine, "PG_writeback"),
    zero_pfn: 0,
    huge_zero_pfn: 0,
    geometry,
    fault_around_bytes: opts.fault_around_bytes ?? 65536,
    mm_ops: {
      async vfs_fallocate(f, mode, offset, len) {
        const { fallocate } = f.f_op;
        if (!fallocate) throw EOPNOTSUPP;
        await fallocate(f, mode, offset, len);
      },
    },
    mf: new_mf_state(kernel),
    nr_dirty: 0,
    last_fault: null,
    nr_faults: 0,
    nr_vmas: 0,
    nr_major_faults: 0,
  };
  kernel.mm_state = st;
  // Two regions that nobody stores to: a page of zeros and a huge page of zeros.
  const { pmd_size, page_size } = geometry;
  const zeros = kernel.phys.add_region({ name: "huge-zero-page", kind: "dram", size: pmd_size });
  st.huge_zero_pfn = zeros.start / page_size;
  st.zero_pfn = alloc_page(kernel).pfn;
  kernel.vfs_ops.new_address_space = new_address_space;
  kernel.vfs_ops.truncate_inode_pages_final = truncate_inode_pages_final;
}
