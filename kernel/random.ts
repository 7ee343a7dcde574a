/**
 * kernel/random.ts - the only source of randomness: xoshiro128** seeded by the Machine.
 *
 * Same seed, same numbers. Each part that draws on its own takes a fork by name, so that one more
 * draw in one place does not shift the numbers of another. Algorithms: Blackman and Vigna (public
 * domain).
 */
import { assert } from "./assert.ts";

function rotl(x: number, k: number): number {
  return (x << k) | (x >>> (32 - k));
}

const STEP = 0x9e3779b9;

/** The finaliser of splitmix32. */
function mix(x: number): number {
  let z = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return z ^ (z >>> 15);
}

/** FNV-1a over the UTF-16 units of a name. */
function hash_name(name: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) h = Math.imul(h ^ name.charCodeAt(i), 0x01000193);
  return h >>> 0;
}

export class Random {
  // signed: small integers stay out of the heap
  private a = 0;
  private b = 0;
  private c = 0;
  private d = 0;

  /** `seed`: any number; its integer part modulo 2^53 counts. */
  constructor(seed: number) {
    this.reseed(seed);
  }

  reseed(seed: number): void {
    const whole = Math.abs(Math.trunc(seed)) % Number.MAX_SAFE_INTEGER;
    let x = ((whole % 0x100000000) ^ Math.imul(Math.floor(whole / 0x100000000), STEP)) >>> 0;
    // Four steps of a splitmix32 sequence; odd, so that the words are never all zero.
    x = (x + STEP) >>> 0;
    this.a = mix(x);
    x = (x + STEP) >>> 0;
    this.b = mix(x);
    x = (x + STEP) >>> 0;
    this.c = mix(x);
    this.d = mix((x + STEP) >>> 0) | 1;
  }

  /** 0 .. 2^32-1 */
  u32(): number {
    const { b } = this;
    const result = Math.imul(rotl(Math.imul(b, 5), 7), 9) >>> 0;
    const c = this.c ^ this.a;
    const d = this.d ^ b;
    this.b = b ^ c;
    this.a ^= d;
    this.c = c ^ (b << 9);
    this.d = rotl(d, 11);
    return result;
  }

  /** 0 .. n-1, without bias; n in 1 .. 2^32. */
  below(n: number): number {
    assert(n > 0 && n <= 0x100000000, "a random choice of more than 2^32");
    if ((n & (n - 1)) === 0 && n <= 0x40000000) return this.u32() & (n - 1);
    const limit = 0x100000000 - (0x100000000 % n);
    let v = this.u32();
    while (v >= limit) v = this.u32();
    return v % n;
  }

  /** Integer 0 .. 2^53-1. */
  u53(): number {
    return (this.u32() >>> 11) * 0x100000000 + this.u32();
  }

  bytes(n: number): Uint8Array {
    const out = new Uint8Array(n);
    this.fill(out);
    return out;
  }

  fill(out: Uint8Array): void {
    for (let i = 0; i < out.length; i += 4) {
      const v = this.u32();
      for (let j = 0; j < 4 && i + j < out.length; j++) out[i + j] = (v >>> (8 * j)) & 255;
    }
  }

  /** A generator of its own for the part called `name`; depends on the state of this one. */
  fork(name: string): Random {
    return new Random(this.u53() + hash_name(name));
  }

  /** For snapshots: the four words. */
  save(): readonly number[] {
    return [this.a, this.b, this.c, this.d];
  }

  restore(words: readonly number[]): void {
    this.a = words[0]!;
    this.b = words[1]!;
    this.c = words[2]!;
    this.d = words[3]!;
  }
}
