/**
 * drivers/nvdimm/nd.ts - the objects of the nvdimm subsystem and where they hang.
 * Linux: drivers/nvdimm/{nd.h,nd-core.h}, include/linux/nd.h.
 *
 *   nvdimm_bus -> nvdimm (a DIMM: capacity, label area)            label.ts, dimm.ts
 *              -> nd_region (an interleave set of DIMMs)           region.ts
 *                   -> nd_namespace (a piece of the region)        namespace.ts
 *                        -> nd_claim (pfn, dax or btt upon it)     claim.ts
 *                             -> disk or character device          pmem.ts, btt.ts, dax
 *
 * Every change happens without sleeping under the baton, but for a driver being unbound, which
 * waits for users of the DAX device; `nd_namespace.busy` keeps others away meanwhile.
 */
import type { phys_region } from "../../kernel/include/phys.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import type { badblocks } from "../block/badblocks.ts";
import type { dev_dax } from "../dax/bus.ts";
import type { btt } from "./btt.ts";
import type { pmem_device } from "./pmem.ts";

/** A 64-bit number that need not fit in 2^53: an interleave set cookie. */
export interface u64_pair {
  hi: number;
  lo: number;
}

export const u64_equal = (a: u64_pair, b: u64_pair): boolean => a.hi === b.hi && a.lo === b.lo;

/** DPA bytes of a DIMM that belong to the namespace of that uuid. */
export interface dpa_resource {
  uuid: string;
  start: number;
  size: number;
}

export interface nvdimm {
  readonly bus: nvdimm_bus;
  readonly id: number;
  /** "nmem0" */
  readonly name: string;
  /** Bytes of persistent memory. */
  readonly size: number;
  /** The label storage area, a region of its own; null: the DIMM has none. */
  readonly labels: phys_region | null;
  readonly handle: number;
  readonly phys_id: number;
  readonly vendor_id: number;
  readonly serial_number: number;
  enabled: boolean;
  /** The driver's view of the label area; null while disabled or without one. */
  ndd: nvdimm_drvdata | null;
}

export interface nvdimm_drvdata {
  readonly nvdimm: nvdimm;
  /** Working copy of the label area; index blocks as the driver sees them. */
  data: Uint8Array;
  /** 128 or 256 bytes. */
  nslabel_size: number;
  /** Index block in use, 0 or 1; -1: the area holds no valid one. */
  ns_current: number;
  ns_next: number;
  /** Sorted by start. */
  dpa: dpa_resource[];
}

export interface nd_mapping {
  readonly nvdimm: nvdimm;
  /** DPA of the first byte, and how many. */
  readonly start: number;
  readonly size: number;
  readonly position: number;
}

export const ND_DEVICE_NAMESPACE_IO = 4;
export const ND_DEVICE_NAMESPACE_PMEM = 5;

export interface nd_region {
  readonly bus: nvdimm_bus;
  readonly id: number;
  /** "region0" */
  readonly name: string;
  readonly ndr_start: number;
  readonly ndr_size: number;
  readonly mappings: readonly nd_mapping[];
  /** The memory; several regions never share one. */
  readonly phys: phys_region;
  /** Namespaces are multiples of this, in bytes. */
  align: number;
  ro: boolean;
  enabled: boolean;
  nstype: number;
  /** Raw namespaces have page descriptors too (virtio-pmem). */
  readonly pagemap: boolean;
  /** The memory is durable only after a flush by the host: never MAP_SYNC. */
  readonly async_flush: boolean;
  namespaces: nd_namespace[];
  ns_seed: nd_namespace | null;
  btt_seed: nd_claim | null;
  pfn_seed: nd_claim | null;
  dax_seed: nd_claim | null;
  /** Bad sectors of 512 bytes, counted from the region's start. */
  readonly bb: badblocks;
  /** Every pfn, dax and btt, seeds too. */
  claims: nd_claim[];
}

/** What a v1.2 label says about the claim. */
export type claim_class = "" | "btt" | "btt2" | "pfn" | "dax" | "unknown";

export interface nd_namespace {
  readonly region: nd_region;
  readonly id: number;
  /** "namespace0.0" */
  readonly name: string;
  readonly nstype: number;
  /** Physical address and bytes; size 0: nothing allocated yet. */
  start: number;
  size: number;
  /** null until set; label-less namespaces have none. */
  uuid: string | null;
  alt_name: string;
  lbasize: number;
  claim_class: claim_class;
  force_raw: boolean;
  claim: nd_claim | null;
  /** The raw driver, when it is bound to the namespace itself. */
  raw: pmem_device | null;
  /** A driver is being unbound and waits. */
  busy: boolean;
}

export type claim_kind = "pfn" | "dax" | "btt";

export interface nd_claim {
  readonly region: nd_region;
  readonly kind: claim_kind;
  readonly id: number;
  /** "pfn0.0" */
  readonly name: string;
  ndns: nd_namespace | null;
  uuid: string | null;
  /** pfn, dax: where the page map is; 0 none yet, 1 memory, 2 device. */
  mode: number;
  align: number;
  /** btt: bytes of a sector with its metadata; 0 not set. */
  lbasize: number;
  /** Bytes and physical address of the usable part; 0 while disabled. */
  size: number;
  resource: number;
  enabled: boolean;
  pmem: pmem_device | null;
  btt: btt | null;
  dax: dev_dax | null;
}

/** Bytes at physical addresses. */
export interface bad_extent {
  start: number;
  length: number;
}

/** Commands of a platform that looks for media errors and repairs them; also makes them. */
export interface nvdimm_ars {
  /** Errors are repaired in pieces of so many bytes. */
  readonly clear_err_unit: number;
  readonly scrub_count: number;
  readonly busy: boolean;
  /** Goes on in the background. @throws EBUSY for a long one while one runs */
  start_scrub(long: boolean): void;
  wait_idle(): Promise<void>;
  /** Returns the bytes repaired. */
  clear_error(start: number, length: number): number;
  /** Makes bytes unreadable; with `notify` the driver looks for them. */
  inject(start: number, length: number, notify: boolean): void;
  /** The bytes are good again, but whoever knew of them is not told. */
  uninject(start: number, length: number): void;
  injected(start: number, size: number): bad_extent[];
}

export interface nvdimm_bus {
  readonly kernel: Kernel;
  readonly id: number;
  /** "ndbus0" */
  readonly name: string;
  readonly provider: string;
  readonly dimms: nvdimm[];
  readonly regions: nd_region[];
  /** What is known to be bad; sorted. */
  badrange: bad_extent[];
  /** null: the platform has no such commands. */
  ars: nvdimm_ars | null;
}

export interface nvdimm_state {
  readonly buses: nvdimm_bus[];
  next_dimm: number;
  next_region: number;
}

export function nvdimm_state(kernel: Kernel): nvdimm_state {
  kernel.nvdimm_state ??= {
    buses: [],
    next_dimm: 0,
    next_region: 0,
  } satisfies nvdimm_state;
  return kernel.nvdimm_state as nvdimm_state;
}

/** Lowest number that none of the objects has, as an ida gives it. */
export function free_id(objects: readonly { readonly id: number }[]): number {
  let id = 0;
  while (objects.some((o) => o.id === id)) id++;
  return id;
}
