/**
 * tools/cmd/ndctl/json.ts - JSON as ndctl prints it: its layout, its numbers for machines and for
 * people, and the order in which sysfs lists devices.
 */
import type { u64_pair } from "../../../drivers/nvdimm/nd.ts";

/** A number that JavaScript cannot hold exactly, or that is written in a special way. */
export interface json_raw {
  readonly raw: string;
}
export type json = string | number | boolean | json_raw | json[] | { [key: string]: json };
export type json_object = { [key: string]: json };

const is_raw = (v: json): v is json_raw =>
  typeof v === "object" && !Array.isArray(v) && Object.keys(v).join() === "raw";

function quoted(s: string): string {
  return JSON.stringify(s).replaceAll("/", "\\/");
}

/** Two blanks a level, no blank behind a colon: json-c's "pretty" form. */
export function json_text(v: json, indent = ""): string {
  if (typeof v === "string") return quoted(v);
  if (typeof v !== "object") return String(v);
  if (is_raw(v)) return v.raw;
  const inner = `${indent}  `;
  const list = Array.isArray(v);
  const parts = list
    ? v.map((x) => inner + json_text(x, inner))
    : Object.entries(v).map(([k, x]) => `${inner}${quoted(k)}:${json_text(x, inner)}`);
  const [open, close] = list ? ["[", "]"] : ["{", "}"];
  return parts.length === 0
    ? `${open}\n${indent}${close}`
    : `${open}\n${parts.join(",\n")}\n${indent}${close}`;
}

/** A list as the tools print it: with --human a single element stands alone. */
export function json_list_text(list: json[], human: boolean): string {
  if (list.length === 0) return "";
  return `${json_text(human && list.length === 1 ? list[0]! : list)}\n`;
}

const KIB = 1024;
const PLAIN_BELOW = 5000 * KIB;
const UNITS = Object.freeze([
  ["MiB", "MB", 2],
  ["GiB", "GB", 3],
  ["TiB", "TB", 4],
] as const);

/** Two digits behind the point, rounded. */
function hundredths(bytes: number, unit: number): string {
  return (Math.floor((bytes / unit) * 100 + 0.5) / 100).toFixed(2);
}

function scaled(bytes: number, base: number, which: 0 | 1): string {
  const fits = UNITS.find((u) => bytes < 2 * base ** (u[2] + 1)) ?? UNITS[2]!;
  return `${hundredths(bytes, base ** fits[2])} ${fits[which]}`;
}

/** Bytes: for people "64.00 MiB (67.11 MB)" from about 5 MB on. */
export function json_size(bytes: number, human: boolean): json {
  if (!human || bytes < PLAIN_BELOW) return bytes;
  return `${scaled(bytes, KIB, 0)} (${scaled(bytes, 1000, 1)})`;
}

/** A number that people see in hexadecimal. */
export function json_hex(n: number, human: boolean): json {
  if (!human) return n;
  return n === 0 ? "0" : `0x${n.toString(16)}`;
}

export function json_u64(v: u64_pair, human: boolean): json {
  const n = BigInt(v.hi) * 4294967296n + BigInt(v.lo);
  return human ? `0x${n.toString(16)}` : { raw: BigInt.asIntN(64, n).toString() };
}

/**
 * Where sysfs puts a name among others: its directories are trees ordered by this hash of the name
 * (31 bits), which libndctl walks from the end. Names that differ in their last digit come out in
 * no order that people would expect; what real tools print depends on it.
 */
export function sysfs_hash(name: string): number {
  let h = 0n;
  for (let i = 0; i < name.length; i++) {
    const c = BigInt(name.charCodeAt(i));
    h = BigInt.asUintN(64, (h + (c << 4n) + (c >> 4n)) * 11n);
  }
  const mixed = BigInt.asUintN(64, h * 0x61c8864680b583ebn);
  return Number((mixed >> 32n) & 0x7fffffffn);
}

/** Devices as the tools list them. */
export function in_sysfs_order<T extends { readonly name: string }>(list: readonly T[]): T[] {
  const keyed = list.map((x) => ({ x, h: sysfs_hash(x.name) }));
  return keyed.sort((a, b) => b.h - a.h).map((k) => k.x);
}

/** Buses are found by the character devices for their commands. */
export function buses_in_order<T extends { readonly id: number }>(list: readonly T[]): T[] {
  return in_sysfs_order(list.map((bus) => ({ name: `ndctl${bus.id}`, bus }))).map((x) => x.bus);
}

const IDENTITY = Object.freeze([
  "uuid",
  "numa_node",
  "target_node",
  "id",
  "handle",
  "phys_id",
  "raw_uuid",
  "iset_id",
  "serial",
  "provider",
  "persistence_domain",
  "available_slots",
]);

/** `a.b[0].c=value`, one leaf a line, without identity fields. Strings as they are printed. */
export function json_leaves(v: json, path = ""): string[] {
  if (typeof v === "string") return [`${path}=${v.replaceAll("/", "\\/")}`];
  if (typeof v !== "object") return [`${path}=${v}`];
  if (is_raw(v)) return [`${path}=${v.raw}`];
  if (Array.isArray(v)) return v.flatMap((x, i) => json_leaves(x, `${path}[${i}]`));
  return Object.entries(v).flatMap(([k, x]) =>
    IDENTITY.includes(k) ? [] : json_leaves(x, path === "" ? k : `${path}.${k}`),
  );
}

/** The leaves of a command's output; the objects of a list are sorted by their names first. */
export function json_output_leaves(text: string): string[] {
  // usage texts and raw labels are no JSON
  if (!/^\s*[[{\d]/.test(text)) return [];
  const v = JSON.parse(text) as json;
  if (!Array.isArray(v)) return json_leaves(v);
  const key = (x: json): string => {
    const dev = typeof x === "object" && !Array.isArray(x) && !is_raw(x) ? x["dev"] : undefined;
    return typeof dev === "string" ? dev : "";
  };
  const sorted = v.map((x) => ({ x, k: key(x) }));
  sorted.sort((a, b) => (a.k < b.k ? -1 : a.k > b.k ? 1 : 0));
  return sorted.flatMap(({ x }, i) => json_leaves(x, `[${i}]`));
}
