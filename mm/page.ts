/**
 * mm/page.ts - descriptors of page frames. Linux: mm/page_alloc.c, include/linux/{mm,page-flags}.h,
 * mm/memremap.c.
 * Differs: a descriptor is an object found by pfn in a Map; huge pages exist only of devices
 * (dev_pagemap.vmemmap_shift), and each of their frames has a descriptor with counts of its own; no
 * zones, no reclaim. Allocation fails with ENOMEM only when DRAM is used up.
 *
 * References: a page cache entry holds one, each PTE of a page with rmap holds one, each user in
 * flight one. A device page of an fsdax namespace rests at 1; each pin adds one, and falling back
 * to 1 tells its owner (dev_pagemap.page_idle).
 */
import { assert } from "../kernel/assert.ts";
import type { Sometime } from "../kernel/include/fs.ts";
import type { MaybeWait } from "../kernel/include/locks.ts";
import {
  PG_anon,
  PG_dirty,
  PG_reserved,
  PG_uptodate,
  PG_writeback,
} from "../kernel/include/mm_types.ts";
import type { address_space, dev_pagemap, page } from "../kernel/include/mm_types.ts";
import { guarded } from "../kernel/guards.ts";
import type { Kernel } from "../kernel/kernel.ts";
import { bit_lock, lock_class } from "../kernel/locking/locks.ts";
import { note_access } from "../kernel/sched/core.ts";
import { percpu_ref } from "../kernel/locking/percpu_ref.ts";
import { mm_state } from "./mm_state.ts";

const PAGE_LOCK = lock_class("&page->lock");

/** An order-0 page or a device page. */
export class page_struct implements page {
  readonly kernel: Kernel;
  readonly pfn: number;
  flags = 0;
  mapping: address_space | null = null;
  index = 0;
  _refcount = 1;
  _mapcount = 0;
  private: unknown = null;
  /** Anonymous: no other address space can have it, a store needs no copy. page_table_lock */
  anon_exclusive = false;
  readonly pgmap: dev_pagemap | null;
  #lock: bit_lock | null = null;
  #view: Uint8Array | null = null;

  constructor(kernel: Kernel, pfn: number, pgmap: dev_pagemap | null) {
    this.kernel = kernel;
    this.pfn = pfn;
    this.pgmap = pgmap;
  }

  /** Made on first use: most anonymous pages are never locked. */
  get lock_bit(): bit_lock {
    this.#lock ??= new bit_lock(this.kernel.machine, PAGE_LOCK, this);
    return this.#lock;
  }

  get is_locked(): boolean {
    return this.#lock?.is_locked() ?? false;
  }

  /** The bytes of a DRAM page. */
  get view(): Uint8Array {
    this.#view ??= this.kernel.phys.page_view(this.pfn);
    return this.#view;
  }

  /** For reports: "page 3 of inode 12". */
  lock_label(): string {
    const host = this.mapping?.host;
    return host ? `page ${this.index} of inode ${host.i_ino}` : `page frame ${this.pfn}`;
  }
}

/** The class behind the interface. */
export function PAGE(p: page): page_struct {
  return p as page_struct;
}

/** A zeroed DRAM page with one reference. Throws ENOMEM. */
export function alloc_page(kernel: Kernel): page_struct {
  const pfn = kernel.phys.alloc_page();
  const p = new page_struct(kernel, pfn, null);
  mm_state(kernel).pages.set(pfn, p);
  return p;
}

/** Bytes of a DRAM page; views of media do not exist. */
export function page_address(p: page): Uint8Array {
  return (p as page_struct).view;
}

export function page_to_paddr(p: page): number {
  const { kernel } = p as page_struct;
  return p.pfn * kernel.PAGE_SIZE;
}

/** The descriptor of a frame, or null when the frame has none (pfn-only memory). */
export function pfn_to_page(kernel: Kernel, pfn: number): page_struct | null {
  const st = mm_state(kernel);
  const p = st.pages.get(pfn);
  if (p !== undefined) return p;
  for (const map of st.pgmaps) {
    if (pfn < map.start_pfn || pfn >= map.start_pfn + map.nr) continue;
    const fresh = new page_struct(kernel, pfn, map);
    fresh.flags = PG_reserved | PG_uptodate;
    st.pages.set(pfn, fresh);
    return fresh;
  }
  return null;
}

export function pfn_valid(kernel: Kernel, pfn: number): boolean {
  return pfn_to_page(kernel, pfn) !== null;
}

export function is_device_page(p: page): boolean {
  return (p as page_struct).pgmap !== null;
}

/** The page that stands for a huge device page as a whole; any other page itself. */
export function compound_head(p: page): page_struct {
  const { kernel, pfn, pgmap } = p as page_struct;
  const nr = 2 ** (pgmap?.vmemmap_shift ?? 0);
  return nr === 1 ? (p as page_struct) : pfn_to_page(kernel, pfn - (pfn % nr))!;
}

/**
 * Can the kernel reach the page's bytes? Not while the frame's device has no page map; a new one
 * over the same memory makes an old page readable again.
 */
export function virt_addr_valid(p: page): boolean {
  return pfn_to_page((p as page_struct).kernel, p.pfn) !== null;
}

export function get_page(p: page): void {
  assert(p._refcount > 0, "get_page of a free page");
  note_access((p as page_struct).kernel, p, true);
  p._refcount++;
}

export function put_page(p: page): void {
  assert(p._refcount > 0, "put_page of a free page");
  const n = --p._refcount;
  const { kernel, pgmap } = p as page_struct;
  note_access(kernel, p, true);
  if (pgmap !== null) {
    if (n === 1) pgmap.page_idle?.(p);
    return;
  }
  if (n > 0) return;
  assert(p._mapcount === 0, "free of a mapped page");
  mm_state(kernel).pages.delete(p.pfn);
  kernel.phys.free_page(p.pfn);
}

export const page_ref_count = (p: page): number => p._refcount;

// ---- device pages

/** Gives the frames of a range descriptors (made when asked for), each with one reference. */
export function memremap_pages(kernel: Kernel, map: dev_pagemap): void {
  const st = mm_state(kernel);
  st.pgmaps.push(map);
  st.pgmap_refs.set(map, new percpu_ref(kernel.machine, "dev_pagemap", () => String(map.type)));
}

function pgmap_of(kernel: Kernel, pfn: number): dev_pagemap | undefined {
  const { pgmaps } = mm_state(kernel);
  return pgmaps.find((m) => pfn >= m.start_pfn && pfn < m.start_pfn + m.nr);
}

/** Has the frame a descriptor that belongs to a device? */
export function is_device_pfn(kernel: Kernel, pfn: number): boolean {
  return pgmap_of(kernel, pfn) !== undefined;
}

/**
 * The page map of a frame, which stays until put_dev_pagemap(): whoever comes from a frame number
 * takes it before it uses the descriptor. Null: no device's frame, or the device is going.
 */
export function get_dev_pagemap(kernel: Kernel, pfn: number): dev_pagemap | null {
  const map = pgmap_of(kernel, pfn);
  if (map === undefined) return null;
  return mm_state(kernel).pgmap_refs.get(map)!.get_busy() ? map : null;
}

export function put_dev_pagemap(kernel: Kernel, map: dev_pagemap): void {
  mm_state(kernel).pgmap_refs.get(map)?.put_busy();
}

/** The descriptors go, when nobody uses them any more by way of the page map. */
export function memunmap_pages(kernel: Kernel, map: dev_pagemap): MaybeWait {
  const ref = mm_state(kernel).pgmap_refs.get(map)!;
  ref.kill();
  const p = guarded(kernel, "mf_pgmap_ref") ? ref.drain() : undefined;
  if (p) return p.then(() => forget_pages(kernel, map));
  forget_pages(kernel, map);
  return undefined;
}

function forget_pages(kernel: Kernel, map: dev_pagemap): void {
  const st = mm_state(kernel);
  st.pgmaps = st.pgmaps.filter((m) => m !== map);
  st.pgmap_refs.delete(map);
  for (const [pfn, p] of st.pages) if (p.pgmap === map) st.pages.delete(pfn);
}

// ---- page lock and writeback

export function lock_page(p: page): MaybeWait {
  return p.lock_bit.lock();
}

export function trylock_page(p: page): boolean {
  return p.lock_bit.trylock();
}

export function unlock_page(p: page): void {
  p.lock_bit.unlock();
}

export function PageLocked(p: page): boolean {
  return (p as page_struct).is_locked;
}

export const PageUptodate = (p: page): boolean => (p.flags & PG_uptodate) !== 0;
export const PageDirty = (p: page): boolean => (p.flags & PG_dirty) !== 0;
export const PageWriteback = (p: page): boolean => (p.flags & PG_writeback) !== 0;
export const PageAnon = (p: page): boolean => (p.flags & PG_anon) !== 0;

export function SetPageUptodate(p: page): void {
  p.flags |= PG_uptodate;
}

export function ClearPageUptodate(p: page): void {
  p.flags &= ~PG_uptodate;
}

/** Sleeps until writeback of the page has ended. */
export function wait_on_page_writeback(p: page): MaybeWait {
  if (!(p.flags & PG_writeback)) return undefined;
  const { kernel } = p as page_struct;
  return mm_state(kernel).writeback_wait.wait_event(() => !(p.flags & PG_writeback), { key: p });
}

/** 6.1: only devices with stable-page needs wait; pmem has none. */
export function wait_for_stable_page(p: page): Sometime<void> {
  const { mapping } = p;
  if (mapping === null || !(mapping.flags & AS_STABLE_WRITES)) return undefined;
  return wait_on_page_writeback(p);
}
/** address_space.flags: the backing device needs pages that do not change under writeback. */
export const AS_STABLE_WRITES = 1 << 8;
