/**
 * kernel/lib/crc16.ts - CRC-16 (polynomial 0x8005 reflected), for ext4's gdt_csum.
 * Linux: lib/crc16.c. No inversion.
 */

function make_table(): Uint16Array {
  const t = new Uint16Array(256);
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xa001 : c >>> 1;
    t[i] = c;
  }
  return t;
}

const TABLE = make_table();

/** Continues a CRC-16 with `len` bytes from `off`; result 0..65535. */
export function crc16(seed: number, b: Uint8Array, off = 0, len = b.length - off): number {
  let c = seed;
  for (let i = off; i < off + len; i++) c = (c >>> 8) ^ TABLE[(c ^ b[i]!) & 0xff]!;
  return c;
}
