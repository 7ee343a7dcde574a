/**
 * kernel/include/dax.ts - the DAX device and its operations. Linux: include/linux/dax.h. Class:
 * drivers/dax/super.ts.
 */
import type { Sometime } from "./fs.ts";
import type { percpu_rw_semaphore } from "./locks.ts";
import type { iov_iter } from "./uio.ts";

export const DAX_ACCESS = 0;
export const DAX_RECOVERY_WRITE = 1;

/**
 * Result of direct_access: a physical address in the Kernel's memory and how many pages follow it.
 */
export interface dax_range {
  nr_pages: number;
  /** Physical address of the first byte (the model's "kaddr"). */
  paddr: number;
  pfn: number;
}

export interface dax_operations {
  /** Fills `out`; throws EIO for poison, ENXIO/ERANGE as the kernel does. Never sleeps. */
  direct_access(
    dev: dax_device,
    pgoff: number,
    nr_pages: number,
    mode: number,
    out: dax_range,
  ): void;
  zero_page_range(dev: dax_device, pgoff: number, nr_pages: number): Sometime<void>;
  recovery_write?(
    dev: dax_device,
    pgoff: number,
    paddr: number,
    bytes: number,
    iter: iov_iter,
  ): Sometime<number>;
}

export interface dax_holder_operations {
  notify_failure(dev: dax_device, offset: number, len: number, mf_flags: number): Promise<void>;
}

export interface dax_device {
  readonly name: string;
  readonly ops: dax_operations | null;
  /** Frame of page 0 of the device: DAX entries hold frames relative to it. Immutable. */
  readonly base_pfn: number;
  private_data: unknown;
  alive: boolean;
  synchronous: boolean;
  write_cache: boolean;
  nocache: boolean;
  nomc: boolean;
  holder_data: unknown;
  holder_ops: dax_holder_operations | null;
  /** Around holder and `alive` if this device has one; else dax_srcu. */
  holder_rwsem: percpu_rw_semaphore | null;
}
