/**
 * tools/explore/encode.ts - a schedule as a short string.
 *
 *   tools/scenarios/d1.ts+prefault:7:AAgB
 *
 * is a scenario file, its switches, the seed of the Machine, and the choices. A choice is 0 for
 * what the default scheduler would do (go on; else the one that waits longest) or n for the n-th
 * other task in the order in which they became able to run. Only choices that are not 0 are
 * written: how many zeros came before, and n - 1, as base-128 numbers in base64url.
 */
const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

function put_varint(out: number[], value: number): void {
  let v = value;
  while (v >= 128) {
    out.push((v % 128) + 128);
    v = Math.floor(v / 128);
  }
  out.push(v);
}

function base64url(bytes: readonly number[]): string {
  let out = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const left = Math.min(3, bytes.length - i);
    const word = bytes[i]! * 65536 + (bytes[i + 1] ?? 0) * 256 + (bytes[i + 2] ?? 0);
    for (let k = 0; k <= left; k++) out += ALPHABET[Math.floor(word / 64 ** (3 - k)) % 64]!;
  }
  return out;
}

function from_base64url(text: string): number[] | null {
  const out: number[] = [];
  for (let i = 0; i < text.length; i += 4) {
    const part = text.slice(i, i + 4);
    if (part.length === 1) return null;
    let word = 0;
    for (let k = 0; k < 4; k++) {
      const v = k < part.length ? ALPHABET.indexOf(part[k]!) : 0;
      if (v < 0) return null;
      word = word * 64 + v;
    }
    for (let k = 0; k < part.length - 1; k++) out.push(Math.floor(word / 256 ** (2 - k)) % 256);
  }
  return out;
}

export function encode_choices(choices: readonly number[]): string {
  const bytes: number[] = [];
  let zeros = 0;
  for (const c of choices) {
    if (c === 0) {
      zeros++;
      continue;
    }
    put_varint(bytes, zeros);
    put_varint(bytes, c - 1);
    zeros = 0;
  }
  return base64url(bytes);
}

const CHOICES_MAX = 1_000_000;

/** Null: not written by encode_choices(). */
export function decode_choices(text: string): number[] | null {
  const bytes = from_base64url(text);
  if (bytes === null) return null;
  const numbers: number[] = [];
  let v = 0;
  let unit = 1;
  for (const b of bytes) {
    v += (b % 128) * unit;
    if (v > CHOICES_MAX) return null;
    unit *= 128;
    if (b >= 128) continue;
    numbers.push(v);
    v = 0;
    unit = 1;
  }
  if (unit !== 1 || numbers.length % 2 !== 0) return null;
  const out: number[] = [];
  for (let i = 0; i < numbers.length; i += 2) {
    for (let k = 0; k < numbers[i]!; k++) out.push(0);
    out.push(numbers[i + 1]! + 1);
    if (out.length > CHOICES_MAX) return null;
  }
  return out;
}

export interface replay {
  scenario: string;
  switches: string[];
  seed: number;
  choices: number[];
}

export function encode_replay(r: replay): string {
  const on = r.switches.map((s) => `+${s}`).join("");
  return `${r.scenario}${on}:${r.seed}:${encode_choices(r.choices)}`;
}

/** @throws SyntaxError saying what is wrong */
export function decode_replay(text: string): replay {
  const m = /^(.+?)((?:\+[a-z0-9-]+)*):(\d{1,16}):([\w-]*)$/.exec(text.trim());
  if (m === null) {
    throw new SyntaxError(`"${text}" is no replay string: SCENARIO[+SWITCH...]:SEED:CHOICES`);
  }
  const choices = decode_choices(m[4]!);
  if (choices === null) throw new SyntaxError(`"${m[4]}" in the replay string is damaged`);
  const switches = m[2] === "" ? [] : m[2]!.slice(1).split("+");
  return { scenario: m[1]!, switches, seed: Number(m[3]), choices };
}
