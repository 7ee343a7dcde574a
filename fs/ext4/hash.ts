/**
 * fs/ext4/hash.ts - the hashes of hashed directories (htree).
 * Linux: fs/ext4/hash.c `ext4fs_dirhash()`. Each hash exists in a signed and an unsigned variant,
 * because early kernels hashed plain `char`s: the variant differs for bytes above 0x7f only. The
 * superblock says which one is in use (s_def_hash_version, moved by EXT2_FLAGS_UNSIGNED_HASH).
 */

import {
  DX_HASH_HALF_MD4,
  DX_HASH_HALF_MD4_UNSIGNED,
  DX_HASH_LEGACY,
  DX_HASH_LEGACY_UNSIGNED,
  DX_HASH_TEA,
  DX_HASH_TEA_UNSIGNED,
  EXT4_HTREE_EOF_32BIT,
} from "./ext4.ts";

export interface dx_hash_info {
  /** What the tree is ordered by; the lowest bit is always 0 (it marks a collision run). */
  hash: number;
  minor_hash: number;
}

const rol = (x: number, s: number) => (x << s) | (x >>> (32 - s));

/** Words of the three rounds of the cut-down MD4, and how far each step rotates. */
const ORDER = Object.freeze([
  Object.freeze([0, 1, 2, 3, 4, 5, 6, 7]),
  Object.freeze([1, 3, 5, 7, 0, 2, 4, 6]),
  Object.freeze([3, 7, 2, 6, 1, 5, 0, 4]),
]);
const ROTATE = Object.freeze([
  Object.freeze([3, 7, 11, 19]),
  Object.freeze([3, 5, 9, 13]),
  Object.freeze([3, 9, 11, 15]),
]);
/** The square roots of 2 and 3, as in MD4. */
const ROUND_CONSTANT = Object.freeze([0, 0x5a827999, 0x6ed9eba1]);

function mix(round: number, x: number, y: number, z: number): number {
  if (round === 0) return (x & y) | (~x & z);
  if (round === 1) return (x & y) + ((x ^ y) & z);
  return x ^ y ^ z;
}

function half_md4_transform(state: Int32Array, words: Int32Array): void {
  let a = state[0]!;
  let b = state[1]!;
  let c = state[2]!;
  let d = state[3]!;
  for (let round = 0; round < 3; round++) {
    for (let step = 0; step < 8; step++) {
      const word = words[ORDER[round]![step]!]! + ROUND_CONSTANT[round]!;
      const t = rol((a + mix(round, b, c, d) + word) | 0, ROTATE[round]![step & 3]!);
      a = d;
      d = c;
      c = b;
      b = t;
    }
  }
  state[0] = state[0]! + a;
  state[1] = state[1]! + b;
  state[2] = state[2]! + c;
  state[3] = state[3]! + d;
}

const TEA_DELTA = 0x9e3779b9;

function TEA_transform(state: Int32Array, words: Int32Array): void {
  const [k0, k1, k2, k3] = [words[0]!, words[1]!, words[2]!, words[3]!];
  let x = state[0]!;
  let y = state[1]!;
  let sum = 0;
  for (let round = 0; round < 16; round++) {
    sum = (sum + TEA_DELTA) | 0;
    x = (x + (((y << 4) + k0) ^ (y + sum) ^ ((y >>> 5) + k1))) | 0;
    y = (y + (((x << 4) + k2) ^ (x + sum) ^ ((x >>> 5) + k3))) | 0;
  }
  state[0] = state[0]! + x;
  state[1] = state[1]! + y;
}

/** The first hash ext3 had: a byte at a time. */
function dx_hack_hash(name: Uint8Array, signed: boolean): number {
  let newest = 0x12a3fe2d;
  let older = 0x37abe8f9;
  for (const byte of name) {
    const c = signed ? (byte << 24) >> 24 : byte;
    let h = (older + (newest ^ Math.imul(c, 7152373))) >>> 0;
    if (h >= 0x80000000) h -= 0x7fffffff;
    older = newest;
    newest = h;
  }
  return newest << 1;
}

/**
 * Packs up to `n` words of name from `from`; what is missing is filled with the remaining length.
 */
function str2hashbuf(
  name: Uint8Array,
  from: number,
  words: Int32Array,
  n: number,
  signed: boolean,
): void {
  const left = name.length - from;
  const pad = Math.imul(left & 0xffff, 0x0101) | Math.imul(Math.imul(left, 0x0101), 0x10000);
  const len = Math.min(left, n * 4);
  let word = pad;
  let k = 0;
  for (let i = 0; i < len; i++) {
    const byte = name[from + i]!;
    word = ((signed ? (byte << 24) >> 24 : byte) + (word << 8)) | 0;
    if ((i & 3) === 3) {
      words[k++] = word;
      word = pad;
    }
  }
  if (k < n) words[k++] = word;
  while (k < n) words[k++] = pad;
}

/**
 * Hashes a name. `seed` is s_hash_seed (four words; all zero selects the built-in seed).
 * Returns undefined for a version that is unknown or needs a key (siphash).
 */
export function ext4fs_dirhash(
  name: Uint8Array,
  hash_version: number,
  seed: readonly number[],
): dx_hash_info | undefined {
  const signed = hash_version <= DX_HASH_TEA;
  let state = Int32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  if (seed.some((x) => x !== 0)) state = Int32Array.from(seed);
  const words = new Int32Array(8);
  let hash = 0;
  let minor_hash = 0;
  switch (hash_version) {
    case DX_HASH_LEGACY:
    case DX_HASH_LEGACY_UNSIGNED:
      hash = dx_hack_hash(name, signed);
      break;
    case DX_HASH_HALF_MD4:
    case DX_HASH_HALF_MD4_UNSIGNED:
      for (let from = 0; from < name.length; from += 32) {
        str2hashbuf(name, from, words, 8, signed);
        half_md4_transform(state, words);
      }
      hash = state[1]!;
      minor_hash = state[2]!;
      break;
    case DX_HASH_TEA:
    case DX_HASH_TEA_UNSIGNED:
      for (let from = 0; from < name.length; from += 16) {
        str2hashbuf(name, from, words, 4, signed);
        TEA_transform(state, words);
      }
      hash = state[0]!;
      minor_hash = state[1]!;
      break;
    default:
      return undefined;
  }
  hash = (hash & ~1) >>> 0;
  // the largest value means "end of directory" to readdir cookies
  if (hash === 0xfffffffe) hash = (EXT4_HTREE_EOF_32BIT - 1) * 2;
  return { hash, minor_hash: minor_hash >>> 0 };
}
