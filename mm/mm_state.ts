/**
 * mm/mm_state.ts - what mm keeps per kernel: page descriptors, zero pages, statistics. Hangs off
 * kernel.mm_state.
 */
import { assert } from "../kernel/assert.ts";
import type { file } from "../kernel/include/fs.ts";
import type { siginfo } from "../kernel/signal.ts";
import type { wait_queue_head } from "../kernel/include/locks.ts";
import type { dev_pagemap } from "../kernel/include/mm_types.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { percpu_ref } from "../kernel/locking/percpu_ref.ts";
import type { mf_state } from "./memory-failure/state.ts";
import type { page_struct } from "./page.ts";

export interface mm_kernel_state {
  /** Descriptors in use, by pfn. */
  readonly pages: Map<number, page_struct>;
  /** Ranges of device memory that have descriptors. */
  pgmaps: dev_pagemap[];
  /** Users of each range's descriptors: get_dev_pagemap(). */
  readonly pgmap_refs: Map<dev_pagemap, percpu_ref>;
  /** Who waits for the end of writeback of a page; key: the page. */
  readonly writeback_wait: wait_queue_head;
  /** Frame of the page of zeros, and the first frame of the 2 MiB of zeros. */
  zero_pfn: number;
  huge_zero_pfn: number;
  readonly geometry: page_geometry;
  /** Bytes mapped around a read fault of a cached file. */
  fault_around_bytes: number;
  readonly mm_ops: mm_upcalls;
  readonly mf: mf_state;
  /** Dirty pages of all files. */
  nr_dirty: number;
  /** Why the last copy to or from user memory stopped. */
  last_fault: siginfo | null;
  nr_faults: number;
  /** Mappings made so far. */
  nr_vmas: number;
  nr_major_faults: number;
}

/** What mm asks of the layers above; they replace the entries at boot. */
export interface mm_upcalls {
  /** fs: fallocate(2) on a file, with its checks. */
  vfs_fallocate(file: file, mode: number, offset: number, len: number): Promise<void>;
}

/** Sizes that follow from PAGE_SHIFT: a table fills a page with 8-byte entries. */
export interface page_geometry {
  readonly page_shift: number;
  readonly page_size: number;
  /** Entries of a table. */
  readonly ptrs: number;
  readonly pmd_size: number;
  /** log2 of the pages in a huge entry: 9 and 18 for 4 KiB pages. */
  readonly pmd_order: number;
  readonly pud_order: number;
  readonly pud_size: number;
  /** What one entry of the top table covers. */
  readonly pgd_size: number;
}

export function make_geometry(page_shift: number): page_geometry {
  const page_size = 2 ** page_shift;
  const ptrs = page_size / 8;
  return {
    page_shift,
    page_size,
    ptrs,
    pmd_order: page_shift - 3,
    pud_order: 2 * (page_shift - 3),
    pmd_size: page_size * ptrs,
    pud_size: page_size * ptrs * ptrs,
    pgd_size: page_size * ptrs * ptrs * ptrs,
  };
}

export function mm_state(kernel: Kernel): mm_kernel_state {
  const st = kernel.mm_state as mm_kernel_state | null | undefined;
  assert(st, "mm is not initialised: init_mm(kernel)");
  return st;
}
