/**
 * kernel/include/uio.ts - the two ends of a read or write. Linux: include/linux/uio.h. Class:
 * mm/iov_iter.ts.
 *
 * Two kinds: `bytes`, arrays outside the Machine (never fault), and `user`, addresses in the task's
 * mm (each copy may fault and sleep). `data_source` is as in Linux: true for a write(2), whose data
 * comes from the iterator.
 */
import type { Sometime } from "./fs.ts";

export interface iov_iter {
  readonly kind: "bytes" | "user";
  readonly data_source: boolean;
  /** Bytes left. */
  count: number;
  /**
   * Address or offset alignment of all segments, for O_DIRECT checks: the OR of addresses and
   * lengths.
   */
  alignment(): number;
  /** Drops all beyond `n`; `reexpand` undoes it. */
  truncate(n: number): void;
  reexpand(n: number): void;
  advance(n: number): void;
  revert(n: number): void;
  /**
   * Kernel memory to iterator (read) or back (write). Returns bytes copied, short on a fault that
   * failed. The `phys` forms take a physical address; `flush` stores with memcpy_flushcache.
   */
  copy_to_iter(src: Uint8Array, off: number, len: number): Sometime<number>;
  copy_from_iter(dst: Uint8Array, off: number, len: number): Sometime<number>;
  copy_phys_to_iter(paddr: number, len: number): Sometime<number>;
  copy_iter_to_phys(paddr: number, len: number, flush: boolean): Sometime<number>;
  zero_iter(len: number): Sometime<number>;
  /** With page faults disabled: copies what is present and advances by that, never sleeps. */
  copy_from_iter_atomic(dst: Uint8Array, off: number, len: number): number;
  copy_to_iter_atomic(src: Uint8Array, off: number, len: number): number;
  /** Faults the next `len` bytes in; returns how many could NOT be faulted in. */
  fault_in_readable(len: number): Sometime<number>;
  fault_in_writeable(len: number): Sometime<number>;
}
