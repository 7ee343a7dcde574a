/**
 * drivers/nvdimm/region.ts - buses, DIMMs and the regions that DIMMs are interleaved into.
 * Linux: drivers/nvdimm/{bus,dimm,dimm_devs,region,region_devs}.c.
 *
 * Reading order: nvdimm_bus_register() -> nvdimm_create() -> nd_region_create() ->
 * nd_region_enable() (region driver: what is on it becomes namespaces) -> nd_region_disable().
 */
import { EBUSY, ENXIO } from "../../kernel/include/errno.ts";
import type { phys_region } from "../../kernel/include/phys.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { badblocks } from "../block/badblocks.ts";
import { nd_claim_seed } from "./claim.ts";
import { nd_label_data_init, nd_label_list } from "./label.ts";
import { nd_namespace_disable, nd_namespace_enable } from "./namespace_driver.ts";
import { nd_register_namespaces } from "./namespace.ts";
import {
  ND_DEVICE_NAMESPACE_IO,
  ND_DEVICE_NAMESPACE_PMEM,
  type nd_mapping,
  type nd_region,
  type nvdimm,
  type nvdimm_bus,
  type nvdimm_drvdata,
  nvdimm_state,
} from "./nd.ts";

const REGION_ALIGN = 16 * 1024 * 1024;

export function nvdimm_bus_register(kernel: Kernel, provider: string): nvdimm_bus {
  const { buses } = nvdimm_state(kernel);
  const id = buses.length;
  const bus: nvdimm_bus = {
    kernel,
    id,
    name: `ndbus${id}`,
    provider,
    dimms: [],
    regions: [],
    badrange: [],
    ars: null,
  };
  buses.push(bus);
  return bus;
}

export interface nvdimm_params {
  /** Bytes of persistent memory. */
  size: number;
  /** Its label storage area, or null. */
  labels: phys_region | null;
  vendor_id?: number;
  serial_number?: number;
}

/** A DIMM, with its driver bound. */
export function nvdimm_create(bus: nvdimm_bus, p: nvdimm_params): nvdimm {
  const id = nvdimm_state(bus.kernel).next_dimm++;
  const dimm: nvdimm = {
    bus,
    id,
    name: `nmem${id}`,
    size: p.size,
    labels: p.labels,
    handle: id + 1,
    phys_id: id,
    vendor_id: p.vendor_id ?? 0x8086,
    serial_number: p.serial_number ?? 0x123456,
    enabled: false,
    ndd: null,
  };
  bus.dimms.push(dimm);
  nvdimm_enable(dimm);
  return dimm;
}

/** nvdimm_probe(): reads the label area and reserves what its labels say. */
export function nvdimm_enable(dimm: nvdimm): void {
  dimm.enabled = true;
  dimm.ndd = null;
  if (dimm.labels === null) return;
  const ndd: nvdimm_drvdata = {
    nvdimm: dimm,
    data: new Uint8Array(0),
    nslabel_size: 256,
    ns_current: -1,
    ns_next: -1,
    dpa: [],
  };
  nd_label_data_init(dimm.bus.kernel, ndd);
  dimm.ndd = ndd;
  for (const l of nd_label_list(ndd)) {
    if (l.rawsize > 0) ndd.dpa.push({ uuid: l.uuid, start: l.dpa, size: l.rawsize });
  }
  ndd.dpa.sort((a, b) => a.start - b.start);
}

/** The regions that hold bytes of the DIMM. */
export function regions_of(dimm: nvdimm): nd_region[] {
  return dimm.bus.regions.filter((r) => r.mappings.some((m) => m.nvdimm === dimm));
}

/** @throws EBUSY while a region that needs it is active */
export function nvdimm_disable(dimm: nvdimm): void {
  if (regions_of(dimm).some((r) => r.enabled)) throw EBUSY;
  dimm.enabled = false;
  dimm.ndd = null;
}

/** True when labels can be kept: every DIMM has an initialised label area. */
export function nd_region_labeled(region: nd_region): boolean {
  return (
    region.mappings.length > 0 &&
    region.mappings.every((m) => m.nvdimm.ndd !== null && m.nvdimm.ndd.ns_current >= 0)
  );
}

export interface nd_region_params {
  phys: phys_region;
  /** In interleave order; each DIMM contributes `phys.size / dimms.length` from its start. */
  dimms: readonly nvdimm[];
  ro?: boolean;
  pagemap?: boolean;
  async_flush?: boolean;
}

/** A region, with its driver bound. */
export function nd_region_create(bus: nvdimm_bus, p: nd_region_params): nd_region {
  const st = nvdimm_state(bus.kernel);
  const id = st.next_region++;
  const each = p.dimms.length > 0 ? p.phys.size / p.dimms.length : 0;
  const mappings: nd_mapping[] = p.dimms.map((d, position) => ({
    nvdimm: d,
    start: 0,
    size: each,
    position,
  }));
  const region: nd_region = {
    bus,
    id,
    name: `region${id}`,
    ndr_start: p.phys.start,
    ndr_size: p.phys.size,
    mappings,
    phys: p.phys,
    align: default_align(p.phys.size, Math.max(1, mappings.length)),
    ro: p.ro ?? false,
    enabled: false,
    nstype: 0,
    pagemap: p.pagemap ?? false,
    async_flush: p.async_flush ?? false,
    namespaces: [],
    ns_seed: null,
    btt_seed: null,
    pfn_seed: null,
    dax_seed: null,
    bb: new badblocks(),
    claims: [],
  };
  bus.regions.push(region);
  nd_region_enable(region);
  return region;
}

/** 16 MiB for each DIMM; a region that is no multiple of it can only be used in pages. */
function default_align(size: number, ways: number): number {
  const align = REGION_ALIGN * ways;
  return size % align === 0 ? align : 4096 * ways;
}

/** nd_region_probe(): namespaces from the labels (or the whole region), seeds, drivers. */
export function nd_region_enable(region: nd_region): void {
  if (region.enabled) return;
  if (region.mappings.some((m) => !m.nvdimm.enabled)) throw ENXIO;
  region.nstype = nd_region_labeled(region) ? ND_DEVICE_NAMESPACE_PMEM : ND_DEVICE_NAMESPACE_IO;
  region.enabled = true;
  nd_register_namespaces(region);
  region.btt_seed = nd_claim_seed(region, "btt");
  region.pfn_seed = nd_claim_seed(region, "pfn");
  region.dax_seed = nd_claim_seed(region, "dax");
  // probed asynchronously by the kernel, so after the seeds, which therefore have the number 0
  for (const ns of [...region.namespaces]) if (ns.size > 0) nd_namespace_enable(ns, true);
}

/** Unbinds everything on the region; nothing may be in use (the caller has looked). */
export async function nd_region_disable(region: nd_region): Promise<void> {
  if (!region.enabled) return;
  for (const ns of [...region.namespaces]) await nd_namespace_disable(ns);
  region.namespaces = [];
  region.claims = [];
  region.ns_seed = region.btt_seed = region.pfn_seed = region.dax_seed = null;
  region.enabled = false;
}
