/**
 * tools/cmd/size.ts - sizes as people type them: 4k, 512M, 1g, 2048s.
 */

export interface size_units {
  /** Bytes that a number without a suffix counts (default 1). */
  readonly plain?: number;
  /** Bytes of the suffix `s` (sectors); without it `s` is refused. */
  readonly sector?: number;
  /** Bytes of the suffix `b` (filesystem blocks); without it `b` is refused. */
  readonly block?: number;
}

const POWERS = "kmgtpe";

/**
 * Parses a decimal, octal (0...) or hexadecimal (0x...) number with one suffix letter of either
 * case. Returns bytes, or undefined when the text is no such size or is above 2^53.
 */
export function parse_size(text: string, units: size_units = {}): number | undefined {
  const m = /^\s*\+?(0[xX][0-9a-fA-F]+|[0-9]+)([a-zA-Z]?)$/.exec(text);
  if (!m) return undefined;
  const digits = m[1]!;
  const octal = /^0[0-7]+$/.test(digits);
  const n = octal ? Number.parseInt(digits, 8) : Number(digits);
  const unit = unit_bytes(m[2]!.toLowerCase(), units);
  if (unit === undefined || !Number.isSafeInteger(n * unit)) return undefined;
  return n * unit;
}

function unit_bytes(letter: string, units: size_units): number | undefined {
  if (letter === "") return units.plain ?? 1;
  if (letter === "s") return units.sector;
  if (letter === "b") return units.block;
  const power = POWERS.indexOf(letter);
  return power < 0 ? undefined : 1024 ** (power + 1);
}

/** Parses a plain non-negative integer (decimal, octal, hexadecimal), or undefined. */
export function parse_integer(text: string): number | undefined {
  return /[a-zA-Z]$/.test(text) && !/^0[xX]/.test(text) ? undefined : parse_size(text);
}
