/**
 * tools/cmd/ndctl/context.ts - what every sub-command shares: options, filters, results.
 */
import {
  type nd_claim,
  type nd_namespace,
  type nd_region,
  type nvdimm,
  type nvdimm_bus,
  nvdimm_state,
} from "../../../drivers/nvdimm/nd.ts";
import type { Errno } from "../../../kernel/include/errno.ts";
import type { Kernel } from "../../../kernel/kernel.ts";
import { getopt_long, type long_option } from "../getopt.ts";
import { in_sysfs_order } from "./json.ts";

/** The machine, and what the tool needs of its surroundings. */
export interface ndctl_env {
  readonly kernel: Kernel;
  /** Files of the user, for labels; without it only standard output is there. */
  read_file?(name: string): Uint8Array;
  write_file?(name: string, bytes: Uint8Array): void;
}

export interface ndctl_result {
  status: number;
  stdout: string;
  stderr: string;
  /** Bytes for standard output, behind the text. */
  raw?: Uint8Array;
}

export const USAGE_STATUS = 129;
/** The exit status of a negative errno, as a shell shows it. */
export const exit_status = (e: Errno): number => 256 - e.errno;

export const done = (stdout: string, stderr = ""): ndctl_result => ({ status: 0, stdout, stderr });
export const failed = (status: number, stderr: string): ndctl_result => ({
  status,
  stdout: "",
  stderr,
});
export const usage = (text: string): ndctl_result => failed(USAGE_STATUS, `  Error: ${text}\n`);

const ERROR_TEXTS: Readonly<Record<string, string>> = Object.freeze({
  EBUSY: "Device or resource busy",
  EINVAL: "Invalid argument",
  ENODEV: "No such device",
  ENOSPC: "No space left on device",
  ENXIO: "No such device or address",
  EOPNOTSUPP: "Operation not supported",
  EROFS: "Read-only file system",
  EIO: "Input/output error",
  ENOTTY: "Inappropriate ioctl for device",
  EAGAIN: "Resource temporarily unavailable",
  ENOENT: "No such file or directory",
});

/** What strerror(3) says. */
export const error_text = (e: Errno): string => ERROR_TEXTS[e.code] ?? e.code;

export function plural(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? "" : "s"}`;
}

/** Options of a sub-command: the last value of each, how often it came, and the operands. */
export class words {
  readonly values = new Map<string, string>();
  readonly counts = new Map<string, number>();
  readonly operands: readonly string[];
  /** What is wrong with the options, or null. */
  readonly error: string | null;

  constructor(args: readonly string[], short: string, long: readonly long_option[]) {
    const parsed = getopt_long(args, short, long);
    this.operands = parsed.operands;
    this.error = parsed.options.find((o) => o.opt === "?")?.message ?? null;
    for (const o of parsed.options) {
      this.counts.set(o.opt, this.count(o.opt) + 1);
      if (o.arg !== undefined) this.values.set(o.opt, o.arg);
    }
  }
  has(letter: string): boolean {
    return this.counts.has(letter);
  }
  count(letter: string): number {
    return this.counts.get(letter) ?? 0;
  }
  get(letter: string): string | undefined {
    return this.values.get(letter);
  }
}

/** `long("region", "r", 1)`. */
export const long = (name: string, val: string, has_arg: 0 | 1 | 2 = 0): long_option => ({
  name,
  val,
  has_arg,
});

// ---- devices and filters

export const buses_of = (env: ndctl_env): nvdimm_bus[] => nvdimm_state(env.kernel).buses;
export const dimms_of = (env: ndctl_env): nvdimm[] => buses_of(env).flatMap((b) => b.dimms);
export const regions_of = (env: ndctl_env): nd_region[] => buses_of(env).flatMap((b) => b.regions);

/** "all", the name, or the number behind the prefix. */
function names(ident: string | undefined, name: string, prefix: string): boolean {
  if (ident === undefined) return true;
  return ident.split(/[\s,]+/).some((w) => w === "all" || w === name || `${prefix}${w}` === name);
}

export interface device_filter {
  bus?: string | undefined;
  region?: string | undefined;
  dimm?: string | undefined;
  namespace?: string | undefined;
  mode?: string | undefined;
}

export function bus_matches(bus: nvdimm_bus, f: device_filter): boolean {
  return names(f.bus, bus.name, "ndbus") || f.bus === bus.provider;
}

export function dimm_matches(dimm: nvdimm, f: device_filter): boolean {
  if (!bus_matches(dimm.bus, f) || !names(f.dimm, dimm.name, "nmem")) return false;
  const regions = dimm.bus.regions.filter((r) => r.mappings.some((m) => m.nvdimm === dimm));
  if (f.region !== undefined && !regions.some((r) => names(f.region, r.name, "region")))
    return false;
  if (f.namespace === undefined) return true;
  return regions.some((r) => r.namespaces.some((n) => names(f.namespace, n.name, "namespace")));
}

export function region_matches(region: nd_region, f: device_filter): boolean {
  if (!bus_matches(region.bus, f) || !names(f.region, region.name, "region")) return false;
  if (f.dimm !== undefined && !region.mappings.some((m) => names(f.dimm, m.nvdimm.name, "nmem"))) {
    return false;
  }
  if (f.namespace === undefined) return true;
  return region.namespaces.some((n) => names(f.namespace, n.name, "namespace"));
}

export type ns_mode = "raw" | "fsdax" | "devdax" | "sector";
const MODE_NAMES: Readonly<Record<string, ns_mode>> = Object.freeze({
  raw: "raw",
  fsdax: "fsdax",
  memory: "fsdax",
  devdax: "devdax",
  dax: "devdax",
  sector: "sector",
  safe: "sector",
});
export const mode_of_name = (name: string): ns_mode | undefined =>
  Object.hasOwn(MODE_NAMES, name) ? MODE_NAMES[name] : undefined;

const CLAIM_MODES = Object.freeze({ pfn: "fsdax", dax: "devdax", btt: "sector" } as const);

export function namespace_mode(ns: nd_namespace): ns_mode {
  const claim: nd_claim | null = ns.claim;
  if (claim) return CLAIM_MODES[claim.kind];
  return ns.region.pagemap && !ns.force_raw ? "fsdax" : "raw";
}

/** `X.Y`, the device's name or "all". */
export function namespace_matches(ns: nd_namespace, f: device_filter): boolean {
  if (!names(f.namespace, ns.name, "namespace")) return false;
  return f.mode === undefined || namespace_mode(ns) === mode_of_name(f.mode);
}

/** The namespaces that commands act on, as the tools walk them. */
export function select_namespaces(env: ndctl_env, f: device_filter): nd_namespace[] {
  return regions_of(env)
    .filter((r) => region_matches(r, f))
    .flatMap((r) => in_sysfs_order(r.namespaces).filter((n) => namespace_matches(n, f)));
}
