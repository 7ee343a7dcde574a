/**
 * mm/tlb.ts - the translation cache of an address space. Linux: arch/x86/mm/tlb.c; the rest is
 * hardware.
 *
 * It is filled by the page-table walk of an access (mm/uaccess.ts) and never looks at the tables
 * again: an entry that was changed or removed without a flush goes on being used, as on hardware. A
 * store through an entry that was not filled by a store walks again, which sets the dirty bit.
 * One cache an mm: every thread runs on the same cpu.
 */
import type { page_geometry } from "./mm_state.ts";

export const TLB_ENTRIES = 256;

export class tlb {
  /** Virtual page number, -1 for an empty entry. */
  readonly tag = new Float64Array(TLB_ENTRIES).fill(-1);
  /** Physical address of the page. */
  readonly base = new Float64Array(TLB_ENTRIES);
  /** 1: stores may go through (entry was writable and dirty). */
  readonly write = new Uint8Array(TLB_ENTRIES);
  /** Flushes done, for tests and statistics. */
  nr_flushes = 0;

  fill(vpn: number, base: number, write: boolean): void {
    const i = vpn % TLB_ENTRIES;
    this.tag[i] = vpn;
    this.base[i] = base;
    this.write[i] = write ? 1 : 0;
  }

  flush_page(vpn: number): void {
    const i = vpn % TLB_ENTRIES;
    if (this.tag[i] === vpn) this.tag[i] = -1;
    this.nr_flushes++;
  }

  flush_all(): void {
    this.tag.fill(-1);
    this.nr_flushes++;
  }

  /** Bytes [start, end). */
  flush_range(g: page_geometry, start: number, end: number): void {
    const first = Math.floor(start / g.page_size);
    const last = Math.ceil(end / g.page_size);
    if (last - first <= 32) {
      for (let v = first; v < last; v++) this.flush_page(v);
      return;
    }
    for (let i = 0; i < TLB_ENTRIES; i++) {
      const t = this.tag[i]!;
      if (t >= first && t < last) this.tag[i] = -1;
    }
    this.nr_flushes++;
  }
}
