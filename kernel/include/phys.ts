/**
 * kernel/include/phys.ts - physical memory of one Kernel. Class: mm/phys.ts, the only code that
 * touches chunks.
 *
 * `paddr` is a byte address (number). Ranges that leave every region are a kernel bug (assert).
 * Stores to pmem are visible at once, durable only after clwb/flushcache and sfence; with tracking
 * off that is not recorded and costs nothing.
 */
export interface phys_region {
  readonly name: string;
  readonly kind: "dram" | "pmem";
  readonly start: number;
  readonly size: number;
  /** What power loss spares: adr, eadr, or none (a host flush is needed). */
  readonly domain: "adr" | "eadr" | "none";
}

export interface phys_memory {
  readonly page_shift: number;
  readonly regions: readonly phys_region[];
  add_region(r: {
    name: string;
    kind: "dram" | "pmem";
    size: number;
    domain?: "adr" | "eadr" | "none";
    align?: number;
    image?: unknown;
  }): phys_region;
  remove_region(r: phys_region): void;
  region_of(paddr: number): phys_region | undefined;
  /** A zeroed DRAM frame; throws ENOMEM when there is none. */
  alloc_page(): number;
  free_page(pfn: number): void;
  read_u8(paddr: number): number;
  read_u32(paddr: number): number;
  write_u8(paddr: number, v: number): void;
  write_u32(paddr: number, v: number): void;
  /** Store bytes (through the cpu cache). */
  copy_to(paddr: number, src: Uint8Array, off: number, len: number): void;
  /** Load bytes. */
  copy_from(paddr: number, dst: Uint8Array, off: number, len: number): void;
  copy(dst_paddr: number, src_paddr: number, len: number): void;
  zero(paddr: number, len: number): void;
  /** Non-temporal store: durable after the next sfence. */
  memcpy_flushcache(paddr: number, src: Uint8Array, off: number, len: number): void;
  clwb(paddr: number, len: number): void;
  sfence(): void;
  /**
   * The bytes of a DRAM frame, for page-cache and anonymous pages; asserts that it is not media.
   */
  page_view(pfn: number): Uint8Array;
  /** True when every byte is zero (cheap for chunks never written). */
  is_zero(paddr: number, len: number): boolean;
}
