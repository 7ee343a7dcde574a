/**
 * kernel/lib/crc32c.ts - CRC-32C (Castagnoli), eight bytes a step.
 * Linux: lib/libcrc32c.c `crc32c()`. Like it, no inversion at either end: ext4 and XFS seed and
 * invert (or not) themselves. The textbook value is `~crc32c(~0, bytes)`.
 */

const POLY = 0x82f63b78;

/**
 * Eight tables of 256 words, one after another: table k advances a byte by k further zero bytes.
 * Never written later.
 */
export function make_crc_tables(poly: number): Uint32Array {
  const t = new Uint32Array(8 * 256);
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ poly : c >>> 1;
    t[i] = c >>> 0;
  }
  for (let i = 256; i < 8 * 256; i++) {
    const c = t[i - 256]!;
    t[i] = (c >>> 8) ^ t[c & 0xff]!;
  }
  return t;
}

/** The shared loop of the two 32-bit CRCs: continues `crc` over `len` bytes; unsigned result. */
export function crc_update(
  t: Uint32Array,
  crc: number,
  b: Uint8Array,
  off: number,
  len: number,
): number {
  let c = crc | 0;
  let i = off;
  const end = off + len;
  for (; i + 8 <= end; i += 8) {
    c ^= b[i]! | (b[i + 1]! << 8) | (b[i + 2]! << 16) | (b[i + 3]! << 24);
    c =
      t[1792 + (c & 0xff)]! ^
      t[1536 + ((c >>> 8) & 0xff)]! ^
      t[1280 + ((c >>> 16) & 0xff)]! ^
      t[1024 + (c >>> 24)]! ^
      t[768 + b[i + 4]!]! ^
      t[512 + b[i + 5]!]! ^
      t[256 + b[i + 6]!]! ^
      t[b[i + 7]!]!;
  }
  for (; i < end; i++) c = (c >>> 8) ^ t[(c ^ b[i]!) & 0xff]!;
  return c >>> 0;
}

const TABLES = make_crc_tables(POLY);

/** Continues a CRC-32C with `len` bytes from `off`; no inversion; result 0..2^32-1. */
export function crc32c(seed: number, b: Uint8Array, off = 0, len = b.length - off): number {
  return crc_update(TABLES, seed, b, off, len);
}

/**
 * Continues a CRC-32C over the little-endian bytes of a 32-bit number (ino, generation, block
 * number).
 */
export function crc32c_le32(seed: number, x: number): number {
  let c = seed | 0;
  for (let k = 0; k < 32; k += 8) c = (c >>> 8) ^ TABLES[(c ^ (x >>> k)) & 0xff]!;
  return c >>> 0;
}

/** Continues a CRC-32C over `len` zero bytes (a checksum field that counts as zero). */
export function crc32c_zeros(seed: number, len: number): number {
  let c = seed | 0;
  for (let i = 0; i < len; i++) c = (c >>> 8) ^ TABLES[c & 0xff]!;
  return c >>> 0;
}
