/**
 * kernel/lib/crc32.ts - the CRC-32 of zip, gzip and GPT.
 * Linux: lib/crc32.c `crc32_le()`, plus the inversions that the textbook value has at both ends.
 */

import { crc_update, make_crc_tables } from "./crc32c.ts";

const TABLES = make_crc_tables(0xedb88320);

/** As the kernel's crc32_le(): continues `seed`, no inversion. */
export function crc32_le(seed: number, b: Uint8Array, off = 0, len = b.length - off): number {
  return crc_update(TABLES, seed, b, off, len);
}

/** The usual CRC-32 of the bytes (inverted at both ends); pass an earlier result to continue it. */
export function crc32(b: Uint8Array, off = 0, len = b.length - off, before = 0): number {
  return ~crc_update(TABLES, ~before, b, off, len) >>> 0;
}

const POLY_BE = 0x04c11db7;

/**
 * As the kernel's crc32_be() (most significant bit first; jbd2's old commit checksum): no
 * inversion.
 */
export function crc32_be(seed: number, b: Uint8Array, off = 0, len = b.length - off): number {
  let c = seed | 0;
  for (let i = off; i < off + len; i++) {
    c ^= b[i]! << 24;
    for (let k = 0; k < 8; k++) c = c < 0 ? (c << 1) ^ POLY_BE : c << 1;
  }
  return c >>> 0;
}
