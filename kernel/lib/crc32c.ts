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

/** Whether a Uint32Array reads bytes as the loop below needs them. */
const LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;
/** Below this many bytes a view of words costs more than it saves. */
const SHORT = 64;

function crc_bytes(t: Uint32Array, crc: number, b: Uint8Array, from: number, end: number): number {
  let c = crc;
  for (let i = from; i < end; i++) c = (c >>> 8) ^ t[(c ^ b[i]!) & 0xff]!;
  return c;
}

/** Two words a step. */
function crc_words(t: Uint32Array, crc: number, w: Int32Array): number {
  let c = crc;
  for (let i = 0; i < w.length; i += 2) {
    const x = c ^ w[i]!;
    const y = w[i + 1]!;
    c =
      t[1792 + (x & 0xff)]! ^
      t[1536 + ((x >>> 8) & 0xff)]! ^
      t[1280 + ((x >>> 16) & 0xff)]! ^
      t[1024 + (x >>> 24)]! ^
      t[768 + (y & 0xff)]! ^
      t[512 + ((y >>> 8) & 0xff)]! ^
      t[256 + ((y >>> 16) & 0xff)]! ^
      t[y >>> 24]!;
  }
  return c;
}

/** The shared loop of the two 32-bit CRCs: continues `crc` over `len` bytes; unsigned result. */
export function crc_update(
  t: Uint32Array,
  crc: number,
  b: Uint8Array,
  off: number,
  len: number,
): number {
  const end = off + len;
  if (len < SHORT || !LITTLE_ENDIAN) return crc_bytes(t, crc | 0, b, off, end) >>> 0;
  const first = off + (-(b.byteOffset + off) & 3);
  const words = ((end - first) >>> 3) * 2;
  let c = crc_bytes(t, crc | 0, b, off, first);
  c = crc_words(t, c, new Int32Array(b.buffer, b.byteOffset + first, words));
  return crc_bytes(t, c, b, first + words * 4, end) >>> 0;
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
