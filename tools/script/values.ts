/**
 * tools/script/values.ts - numbers, symbols and data of the `.sys` language.
 *
 * Numbers are terms joined by `+`, `-` and `|`, modulo 2^64 as the kernel sees them; they are
 * computed in BigInt here, at the edge, and handed on as numbers (signed 64 bit, exact below 2^53).
 */
import * as fcntl from "../../kernel/include/fcntl.ts";
import { FIEMAP_FLAG_CACHE, FIEMAP_FLAG_SYNC, FIEMAP_FLAG_XATTR } from "../../kernel/include/fs.ts";
import * as mman from "../../kernel/include/mman.ts";
import * as stat from "../../kernel/include/stat.ts";
import { crc32 } from "../../kernel/lib/crc32.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";

export class BadArgument extends Error {}
export class NoHandle extends Error {}

const EXTRA: Readonly<Record<string, number>> = Object.freeze({
  PAGE: 4096,
  FIEMAP_FLAG_SYNC,
  FIEMAP_FLAG_XATTR,
  FIEMAP_FLAG_CACHE,
  MCL_CURRENT: 1,
  MCL_FUTURE: 2,
  MCL_ONFAULT: 4,
  PKEY_DISABLE_ACCESS: 1,
  PKEY_DISABLE_WRITE: 2,
  SIGKILL: 9,
  SIGTERM: 15,
  SIGXFSZ: 25,
  SIGUSR1: 10,
});

/** The value of a symbolic constant with its Linux value, or undefined. */
export function symbol(name: string): number | undefined {
  const v =
    EXTRA[name] ??
    (fcntl as Record<string, unknown>)[name] ??
    (mman as Record<string, unknown>)[name] ??
    (stat as Record<string, unknown>)[name];
  return typeof v === "number" ? v : undefined;
}

const SUFFIX: Readonly<Record<string, bigint>> = Object.freeze({
  K: 1n << 10n,
  M: 1n << 20n,
  G: 1n << 30n,
  T: 1n << 40n,
});

function term(text: string, mapping: (name: string) => number): bigint {
  const num = /^(0x[0-9a-fA-F]+|\d+)([KMGT]?)$/.exec(text);
  if (num) {
    const digits = num[1]!;
    // As strtoull with base 0: a leading zero is octal.
    const octal = /^0[0-7]+$/.test(digits);
    return BigInt(octal ? `0o${digits.slice(1)}` : digits) * (SUFFIX[num[2]!] ?? 1n);
  }
  if (!/^[A-Za-z_][\w.]*$/.test(text)) throw new BadArgument(text);
  const v = symbol(text);
  return BigInt(v ?? mapping(text));
}

/**
 * Evaluates a number argument; `mapping` gives the address of a named mapping or throws NoHandle.
 */
export function eval_number(text: string, mapping: (name: string) => number): number {
  const bar = text.indexOf("|");
  if (bar > 0) {
    const left = BigInt(eval_number(text.slice(0, bar), mapping));
    const right = BigInt(eval_number(text.slice(bar + 1), mapping));
    return Number(BigInt.asIntN(64, left | right));
  }
  let sum = 0n;
  const parts = text.match(/[+-]?[^+-]+/g);
  if (!parts || parts.join("") !== text) throw new BadArgument(text);
  for (const part of parts) {
    const sign = part[0] === "-" ? -1n : 1n;
    sum += sign * term(part.replace(/^[+-]/, ""), mapping);
  }
  return toward_zero(BigInt.asIntN(64, sum));
}

/**
 * A number no larger than `v`: what lies just below 2^63 must not become 2^63, which stands for
 * LLONG_MAX itself and for what wraps.
 */
function toward_zero(v: bigint): number {
  const n = Number(v);
  return n === 2 ** 63 && v !== 2n ** 63n - 1n ? 2 ** 63 - 1024 : n;
}

const MAX_DATA = 24 * 1024 * 1024;

export function is_data(s: string): boolean {
  return /^(str|hex|fill|seq):/.test(s) || s === "empty";
}

export function make_data(s: string, number: (text: string) => number): Uint8Array {
  if (s === "empty") return new Uint8Array(0);
  const body = s.slice(s.indexOf(":") + 1);
  if (s.startsWith("str:")) return name_to_bytes(body);
  if (s.startsWith("hex:")) {
    if (!/^([0-9a-fA-F]{2})*$/.test(body)) throw new BadArgument(s);
    return Uint8Array.from(body.match(/../g) ?? [], (h) => Number.parseInt(h, 16));
  }
  const m = /^(0x[0-9a-fA-F]+|\d+)(?:\*(.+))?$/.exec(body);
  if (!m) throw new BadArgument(s);
  const seed = Number(m[1]);
  const len = Math.min(m[2] === undefined ? 1 : number(m[2]), MAX_DATA);
  if (s.startsWith("fill:")) return new Uint8Array(len).fill(seed);
  const out = new Uint8Array(len);
  for (let i = 0; i < len; i++) out[i] = seed * 31 + i * 7 + (i >> 8) * 13 + (i >> 16) * 5 + 1;
  return out;
}

/** How data is shown in results. */
export function show_data(b: Uint8Array): string {
  const n = b.length;
  if (n === 0) return "empty";
  let same = 1;
  while (same < n && b[same] === b[0]) same++;
  if (same === n && n > 8) return `fill:0x${hex2(b[0]!)}*${n}`;
  if (n <= 32) return `hex:${Array.from(b, hex2).join("")}`;
  return `crc:${crc32(b).toString(16).padStart(8, "0")}*${n}`;
}

function hex2(v: number): string {
  return v.toString(16).padStart(2, "0");
}

/** Flag words of a table, joined by `|`; unknown bits in hexadecimal; `-` for none. */
export function flag_text(table: readonly (readonly [string, number])[], value: number): string {
  const out: string[] = [];
  let rest = value >>> 0;
  for (const [name, bit] of table) {
    if ((rest & bit) !== 0) {
      out.push(name);
      rest = (rest & ~bit) >>> 0;
    }
  }
  if (rest !== 0) out.push(`0x${rest.toString(16)}`);
  return out.length > 0 ? out.join("|") : "-";
}

/** `+A|B` sets and `-C` clears flags of a table. Null when `word` is of neither form. */
export function flag_change(
  table: readonly (readonly [string, number])[],
  word: string,
): { set: number; clear: number } | null {
  if (word[0] !== "+" && word[0] !== "-") return null;
  let bits = 0;
  for (const name of word.slice(1).split("|")) {
    const known = table.find(([n]) => n === name);
    const value = known ? known[1] : Number(name);
    if (Number.isNaN(value)) throw new BadArgument(word);
    bits |= value;
  }
  return word[0] === "+" ? { set: bits, clear: 0 } : { set: 0, clear: bits };
}

export const XFLAGS = Object.freeze([
  ["REALTIME", 0x1],
  ["PREALLOC", 0x2],
  ["IMMUTABLE", 0x8],
  ["APPEND", 0x10],
  ["SYNC", 0x20],
  ["NOATIME", 0x40],
  ["NODUMP", 0x80],
  ["RTINHERIT", 0x100],
  ["PROJINHERIT", 0x200],
  ["NOSYMLINKS", 0x400],
  ["EXTSIZE", 0x800],
  ["EXTSZINHERIT", 0x1000],
  ["NODEFRAG", 0x2000],
  ["FILESTREAM", 0x4000],
  ["DAX", 0x8000],
  ["COWEXTSIZE", 0x10000],
  ["HASATTR", 0x80000000],
] as const);

export const IFLAGS = Object.freeze([
  ["SECRM", 1],
  ["UNRM", 2],
  ["COMPR", 4],
  ["SYNC", 8],
  ["IMMUTABLE", 0x10],
  ["APPEND", 0x20],
  ["NODUMP", 0x40],
  ["NOATIME", 0x80],
  ["ENCRYPT", 0x800],
  ["INDEX", 0x1000],
  ["JOURNAL_DATA", 0x4000],
  ["NOTAIL", 0x8000],
  ["DIRSYNC", 0x10000],
  ["TOPDIR", 0x20000],
  ["HUGE", 0x40000],
  ["EXTENTS", 0x80000],
  ["VERITY", 0x100000],
  ["EA_INODE", 0x200000],
  ["NOCOW", 0x800000],
  ["DAX", 0x2000000],
  ["INLINE_DATA", 0x10000000],
  ["PROJINHERIT", 0x20000000],
  ["CASEFOLD", 0x40000000],
] as const);

export const STATX_ATTRS = Object.freeze([
  ["COMPRESSED", 4],
  ["IMMUTABLE", 0x10],
  ["APPEND", 0x20],
  ["NODUMP", 0x40],
  ["ENCRYPTED", 0x800],
  ["AUTOMOUNT", 0x1000],
  ["MOUNT_ROOT", 0x2000],
  ["VERITY", 0x100000],
  ["DAX", 0x200000],
] as const);

export const EXTENT_FLAGS = Object.freeze([
  ["UNKNOWN", 2],
  ["DELALLOC", 4],
  ["ENCODED", 8],
  ["ENCRYPTED", 0x80],
  ["NOT_ALIGNED", 0x100],
  ["INLINE", 0x200],
  ["TAIL", 0x400],
  ["UNWRITTEN", 0x800],
  ["SHARED", 0x2000],
] as const);
