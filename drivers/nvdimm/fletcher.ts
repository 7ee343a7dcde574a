/**
 * drivers/nvdimm/fletcher.ts - the checksum of namespace index, label and info blocks.
 * Linux: nd_fletcher64() of drivers/nvdimm/core.c. Not the textbook Fletcher-64: sums wrap at 2^32.
 */

/** `lo` and `hi` are the low and high 32 bits of the stored 64-bit value. */
export interface fletcher64 {
  lo: number;
  hi: number;
}

/** Sums `len` bytes (a multiple of 4) at `off`; eight bytes at `skip` count as zero. */
export function nd_fletcher64(view: DataView, off: number, len: number, skip = -1): fletcher64 {
  let lo = 0;
  let hi = 0;
  for (let i = 0; i < len; i += 4) {
    const word = skip >= 0 && i >= skip && i < skip + 8 ? 0 : view.getUint32(off + i, true);
    lo = (lo + word) >>> 0;
    hi = (hi + lo) >>> 0;
  }
  return { lo, hi };
}
