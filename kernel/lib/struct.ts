/**
 * kernel/lib/struct.ts - views of on-media structs.
 * Linux: C structs with __le16/__be32 ... members. Differs: a struct is a table, and a class is
 * made from it.
 *
 *   export const ext4_inode = struct("ext4_inode", { i_mode: [u16, 0], i_size_lo: [u32, 4] });
 *   const raw = ext4_inode.at(view, off);      // view: DataView or Uint8Array
 *   raw.i_mode |= 0o111;                       // reads and writes the bytes, at once
 *   raw.move(view, off + 256);                 // the same cursor, nothing allocated
 *
 * Sizes and offsets are bytes. Values are numbers: a u64 is two 32-bit loads (exact up to 2^53;
 * larger values, which only corrupt media or all-ones markers hold, come out rounded - check the
 * range before use; the setter refuses what it cannot store exactly). `bytes(n)` gives a window on
 * the same memory, `array(t, n)` a copy.
 */

/** How one member is read and written. `size` is bytes; `kind` is what `dump()` calls it. */
export interface field_type<T> {
  readonly kind: string;
  readonly size: number;
  get(v: DataView, off: number): T;
  set(v: DataView, off: number, value: T): void;
}

const TWO32 = 4294967296;

const set_hi_lo = (v: DataView, hi_off: number, lo_off: number, x: number, le: boolean) => {
  if (!Number.isSafeInteger(x)) throw new RangeError(`a 64-bit field cannot hold ${x} exactly`);
  const lo = x >= 0 ? x % TWO32 : ((x % TWO32) + TWO32) % TWO32;
  v.setUint32(lo_off, lo, le);
  v.setInt32(hi_off, Math.floor(x / TWO32), le);
};

function num(
  kind: string,
  size: number,
  get: (v: DataView, off: number) => number,
  set: (v: DataView, off: number, value: number) => void,
): field_type<number> {
  return Object.freeze({ kind, size, get, set });
}

export const u8 = num(
  "u8",
  1,
  (v, o) => v.getUint8(o),
  (v, o, x) => v.setUint8(o, x),
);
export const s8 = num(
  "s8",
  1,
  (v, o) => v.getInt8(o),
  (v, o, x) => v.setInt8(o, x),
);
export const u16 = num(
  "u16",
  2,
  (v, o) => v.getUint16(o, true),
  (v, o, x) => v.setUint16(o, x, true),
);
export const s16 = num(
  "s16",
  2,
  (v, o) => v.getInt16(o, true),
  (v, o, x) => v.setInt16(o, x, true),
);
export const u32 = num(
  "u32",
  4,
  (v, o) => v.getUint32(o, true),
  (v, o, x) => v.setUint32(o, x, true),
);
export const s32 = num(
  "s32",
  4,
  (v, o) => v.getInt32(o, true),
  (v, o, x) => v.setInt32(o, x, true),
);
export const u64 = num(
  "u64",
  8,
  (v, o) => v.getUint32(o + 4, true) * TWO32 + v.getUint32(o, true),
  (v, o, x) => set_hi_lo(v, o + 4, o, x, true),
);
export const s64 = num(
  "s64",
  8,
  (v, o) => v.getInt32(o + 4, true) * TWO32 + v.getUint32(o, true),
  (v, o, x) => set_hi_lo(v, o + 4, o, x, true),
);
export const u16be = num(
  "u16be",
  2,
  (v, o) => v.getUint16(o),
  (v, o, x) => v.setUint16(o, x),
);
export const s16be = num(
  "s16be",
  2,
  (v, o) => v.getInt16(o),
  (v, o, x) => v.setInt16(o, x),
);
export const u32be = num(
  "u32be",
  4,
  (v, o) => v.getUint32(o),
  (v, o, x) => v.setUint32(o, x),
);
export const s32be = num(
  "s32be",
  4,
  (v, o) => v.getInt32(o),
  (v, o, x) => v.setInt32(o, x),
);
export const u64be = num(
  "u64be",
  8,
  (v, o) => v.getUint32(o) * TWO32 + v.getUint32(o + 4),
  (v, o, x) => set_hi_lo(v, o, o + 4, x, false),
);
export const s64be = num(
  "s64be",
  8,
  (v, o) => v.getInt32(o) * TWO32 + v.getUint32(o + 4),
  (v, o, x) => set_hi_lo(v, o, o + 4, x, false),
);

/**
 * `n` bytes: reading gives a window on the memory itself, writing copies and zero-fills the rest.
 */
export function bytes(n: number): field_type<Uint8Array> {
  const get = (v: DataView, o: number) => new Uint8Array(v.buffer, v.byteOffset + o, n);
  return Object.freeze({
    kind: `bytes(${n})`,
    size: n,
    get,
    set(v: DataView, o: number, value: Uint8Array) {
      if (value.length > n) throw new RangeError(`${value.length} bytes do not fit in ${n}`);
      const to = get(v, o);
      to.set(value);
      to.fill(0, value.length);
    },
  });
}

/**
 * `n` members of type `t`: reading gives a copy, writing stores as many as are given (at most
 * `n`).
 */
export function array(t: field_type<number>, n: number): field_type<readonly number[]> {
  return Object.freeze({
    kind: `${t.kind}[${n}]`,
    size: t.size * n,
    get(v: DataView, o: number) {
      const out: number[] = [];
      for (let i = 0; i < n; i++) out.push(t.get(v, o + i * t.size));
      return out;
    },
    set(v: DataView, o: number, value: readonly number[]) {
      if (value.length > n) throw new RangeError(`${value.length} members do not fit in ${n}`);
      value.forEach((x, i) => {
        t.set(v, o + i * t.size, x);
      });
    },
  });
}

export type field_table = Readonly<Record<string, readonly [field_type<any>, number]>>;

type field_value<F> = F extends readonly [field_type<infer T>, number] ? T : never;

export type struct_fields<F extends field_table> = { -readonly [K in keyof F]: field_value<F[K]> };

export interface struct_cursor {
  /** What the cursor looks at: the view and the byte offset in it. */
  readonly _view: DataView;
  readonly _off: number;
  /** Points the same cursor somewhere else; returns it. */
  move(view: DataView | Uint8Array, off?: number): this;
  /** Every member with its offset, type and value, one per line. */
  dump(): string;
}

export type struct_of<S> =
  S extends struct_type<infer F> ? struct_fields<F> & struct_cursor : never;

export interface struct_type<F extends field_table> {
  readonly struct_name: string;
  readonly fields: F;
  /** Size in bytes. */
  readonly sizeof: number;
  /** Byte offset of a member. */
  offsetof(field: keyof F & string): number;
  /** A cursor on the struct at byte `off` of `view`. */
  at(view: DataView | Uint8Array, off?: number): struct_fields<F> & struct_cursor;
  /** A zeroed struct in memory of its own. */
  alloc(): struct_fields<F> & struct_cursor;
}

const as_view = (view: DataView | Uint8Array): DataView =>
  "getUint8" in view ? view : new DataView(view.buffer, view.byteOffset, view.byteLength);

const hex = (x: number, digits: number) => x.toString(16).padStart(digits, "0");

function value_text(value: unknown): string {
  if (typeof value === "number")
    return value < 0 ? `${value}` : `0x${value.toString(16)} (${value})`;
  if (Array.isArray(value)) return `[${value.join(", ")}]`;
  return Array.from(value as Uint8Array, (b) => hex(b, 2)).join(" ");
}

const RESERVED = Object.freeze(["_view", "_off", "move", "dump", "constructor"]);

function check_table(name: string, fields: field_table, size: number): void {
  for (const [key, [type, off]] of Object.entries(fields)) {
    if (RESERVED.includes(key)) throw new Error(`struct ${name}: a member cannot be called ${key}`);
    if (off < 0 || off + type.size > size) throw new Error(`struct ${name}: ${key} is outside`);
  }
}

/**
 * Makes the class of an on-media struct. `sizeof` defaults to the end of the last member; give it
 * when the struct has padding behind it.
 */
export function struct<const F extends field_table>(
  name: string,
  fields: F,
  sizeof?: number,
): struct_type<F> {
  let end = 0;
  for (const [type, off] of Object.values(fields)) end = Math.max(end, off + type.size);
  const size = sizeof ?? end;
  check_table(name, fields, size);
  const cursor = class {
    _view: DataView;
    _off: number;
    constructor(view: DataView, off: number) {
      this._view = view;
      this._off = off;
    }
    move(view: DataView | Uint8Array, off = 0) {
      this._view = as_view(view);
      this._off = off;
      return this;
    }
    dump(): string {
      const width = Math.max(...Object.keys(fields).map((k) => k.length));
      const lines = Object.entries(fields).map(([key, [type, off]]) => {
        const value = value_text(type.get(this._view, this._off + off));
        return `  0x${hex(off, 3)} ${key.padEnd(width)} ${type.kind.padEnd(6)} ${value}`;
      });
      return [`${name} at 0x${hex(this._off, 1)}`, ...lines].join("\n");
    }
  };
  for (const [key, [type, off]] of Object.entries(fields)) {
    const { get, set } = type;
    Object.defineProperty(cursor.prototype, key, {
      enumerable: true,
      get(this: struct_cursor) {
        return get(this._view, this._off + off);
      },
      set(this: struct_cursor, value: unknown) {
        set(this._view, this._off + off, value);
      },
    });
  }
  type made = struct_fields<F> & struct_cursor;
  const at = (view: DataView | Uint8Array, off = 0) =>
    new cursor(as_view(view), off) as unknown as made;
  return Object.freeze({
    struct_name: name,
    fields,
    sizeof: size,
    offsetof: (field: keyof F & string) => fields[field]![1],
    at,
    alloc: () => at(new DataView(new ArrayBuffer(size)), 0),
  });
}
