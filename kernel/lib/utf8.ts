/**
 * kernel/lib/utf8.ts - bytes and strings, without TextEncoder (the pure layers have none).
 *
 * File names are bytes in Linux and need not be UTF-8, but scripts want strings. A name goes to a
 * string and back without loss: each byte that is not part of valid UTF-8 becomes the lone
 * surrogate U+DC00 + byte (U+DC80..U+DCFF), as Python's "surrogateescape" does, and becomes that
 * byte again.
 */

/**
 * Length of the valid UTF-8 sequence at `i` (1..4), or 0 when the byte at `i` does not begin one
 * before `end`.
 */
function sequence_length(b: Uint8Array, i: number, end: number): number {
  const c = b[i]!;
  if (c < 0x80) return 1;
  const n = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
  if (n === 0 || i + n > end) return 0;
  const c1 = b[i + 1]!;
  // the second byte's range excludes overlong forms, surrogates and what is above U+10FFFF
  const low = c === 0xe0 ? 0xa0 : c === 0xf0 ? 0x90 : 0x80;
  const high = c === 0xed ? 0x9f : c === 0xf4 ? 0x8f : 0xbf;
  if (c1 < low || c1 > high) return 0;
  for (let k = 2; k < n; k++) if ((b[i + k]! & 0xc0) !== 0x80) return 0;
  return n;
}

function decode(
  b: Uint8Array,
  off: number,
  len: number,
  invalid: (byte: number) => number,
): string {
  const end = off + len;
  let out = "";
  for (let i = off; i < end; ) {
    const n = sequence_length(b, i, end);
    const c = b[i]!;
    if (n === 1) out += String.fromCharCode(c);
    else if (n === 2) out += String.fromCharCode(((c & 0x1f) << 6) | (b[i + 1]! & 0x3f));
    else if (n === 3) {
      out += String.fromCharCode(
        ((c & 0xf) << 12) | ((b[i + 1]! & 0x3f) << 6) | (b[i + 2]! & 0x3f),
      );
    } else if (n === 4) {
      const tail = ((b[i + 1]! & 0x3f) << 12) | ((b[i + 2]! & 0x3f) << 6) | (b[i + 3]! & 0x3f);
      out += String.fromCodePoint(((c & 7) << 18) | tail);
    } else out += String.fromCharCode(invalid(c));
    i += n || 1;
  }
  return out;
}

/** Bytes to a string, without loss: see the top of the file. */
export function bytes_to_name(b: Uint8Array, off = 0, len = b.length - off): string {
  return decode(b, off, len, (byte) => 0xdc00 + byte);
}

/** Bytes to a string for reading: what is not UTF-8 becomes U+FFFD. */
export function utf8_decode(b: Uint8Array, off = 0, len = b.length - off): string {
  return decode(b, off, len, () => 0xfffd);
}

function encode(s: string, lone: (out: number[], unit: number) => void): Uint8Array {
  const out: number[] = [];
  for (let i = 0; i < s.length; i++) {
    const c = s.codePointAt(i)!;
    if (c < 0x80) out.push(c);
    else if (c < 0x800) out.push(0xc0 | (c >> 6), 0x80 | (c & 0x3f));
    else if (c >= 0xd800 && c < 0xe000) lone(out, c);
    else if (c < 0x10000) out.push(0xe0 | (c >> 12), 0x80 | ((c >> 6) & 0x3f), 0x80 | (c & 0x3f));
    else {
      out.push(
        0xf0 | (c >> 18),
        0x80 | ((c >> 12) & 0x3f),
        0x80 | ((c >> 6) & 0x3f),
        0x80 | (c & 0x3f),
      );
      i++;
    }
  }
  return Uint8Array.from(out);
}

const replacement = (out: number[]) => out.push(0xef, 0xbf, 0xbd);

/** The inverse of bytes_to_name(). A lone surrogate outside U+DC80..U+DCFF becomes U+FFFD. */
export function name_to_bytes(s: string): Uint8Array {
  return encode(s, (out, unit) => {
    if (unit >= 0xdc80 && unit <= 0xdcff) out.push(unit & 0xff);
    else replacement(out);
  });
}

/** A string to UTF-8; lone surrogates become U+FFFD. */
export function utf8_encode(s: string): Uint8Array {
  return encode(s, replacement);
}

/** Order of two byte strings, as memcmp() has it and the shorter one first. */
export function compare_bytes(a: Uint8Array, b: Uint8Array): number {
  const n = Math.min(a.length, b.length);
  for (let i = 0; i < n; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

/** `items` in the byte order of their names; each name becomes bytes once. */
export function sort_by_name<T>(items: readonly T[], name_of: (item: T) => string): T[] {
  return items
    .map((item) => ({ item, key: name_to_bytes(name_of(item)) }))
    .sort((x, y) => compare_bytes(x.key, y.key))
    .map((x) => x.item);
}
