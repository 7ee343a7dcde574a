/**
 * drivers/nvdimm/namespace.ts - namespaces: found in the labels, given capacity, written back.
 * Linux: drivers/nvdimm/namespace_devs.c, dimm_devs.c (free DPA space).
 *
 * Reading order: nd_register_namespaces() -> namespace_set_uuid(), namespace_set_size() ... (what
 * sysfs stores do) -> update_labels().
 *
 * Invariant: for a labelled namespace each DIMM of the region holds one dpa_resource of its uuid
 * and size/ways bytes, all at the same distance from the start of the mapping.
 */
import { EBUSY, EINVAL, ENOSPC, ENXIO } from "../../kernel/include/errno.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";
import { nd_region_set_cookie } from "./cookie.ts";
import { NSLABEL_FLAG_UPDATING, nd_label_delete, nd_label_init_area } from "./label.ts";
import { nd_label_list, nd_label_write } from "./label.ts";
import type { nd_label } from "./label.ts";
import {
  type claim_class,
  type dpa_resource,
  ND_DEVICE_NAMESPACE_IO,
  ND_DEVICE_NAMESPACE_PMEM,
  type nd_mapping,
  type nd_namespace,
  type nd_region,
  type nvdimm_drvdata,
  free_id,
  u64_equal,
} from "./nd.ts";

const MAX_NAME = 63;
export const pmem_lbasize_supported: readonly number[] = Object.freeze([512, 4096]);

function new_namespace(region: nd_region): nd_namespace {
  const id = free_id(region.namespaces);
  const ns: nd_namespace = {
    region,
    id,
    name: `namespace${region.id}.${id}`,
    nstype: region.nstype,
    start: region.ndr_start,
    size: 0,
    uuid: null,
    alt_name: "",
    lbasize: 0,
    claim_class: "",
    force_raw: false,
    claim: null,
    raw: null,
    busy: false,
  };
  region.namespaces.push(ns);
  return ns;
}

const ways_of = (region: nd_region): number => Math.max(1, region.mappings.length);

function drvdata(m: nd_mapping): nvdimm_drvdata {
  if (m.nvdimm.ndd === null) throw ENXIO;
  return m.nvdimm.ndd;
}

/** The label of `uuid` at each position of the set, or null when one is missing or double. */
function labels_of_set(region: nd_region, uuid: string): nd_label[] | null {
  const out: nd_label[] = [];
  for (const m of region.mappings) {
    const ndd = drvdata(m);
    const cookie = nd_region_set_cookie(region, ndd.nslabel_size);
    const mine = nd_label_list(ndd).filter(
      (l) =>
        l.uuid === uuid &&
        u64_equal(l.isetcookie, cookie) &&
        l.position === m.position &&
        l.nlabel === region.mappings.length,
    );
    if (mine.length !== 1) return null;
    out.push(mine[0]!);
  }
  return out;
}

function scan_labels(region: nd_region): void {
  const first = region.mappings[0]!;
  const ndd = drvdata(first);
  const cookie = nd_region_set_cookie(region, ndd.nslabel_size);
  const found: nd_label[][] = [];
  for (const l of nd_label_list(ndd)) {
    if (l.dpa < first.start || l.dpa >= first.start + first.size) continue;
    if (!u64_equal(l.isetcookie, cookie)) continue;
    if (found.some((set) => set[0]!.uuid === l.uuid)) continue;
    const set = labels_of_set(region, l.uuid);
    if (set === null) {
      region.bus.kernel.pr_err(`nd ${region.name}: missing label for ${l.uuid}`);
      continue;
    }
    found.push(set);
  }
  found.sort((a, b) => a[0]!.dpa - b[0]!.dpa);
  for (const set of found) {
    const head = set[0]!;
    const ns = new_namespace(region);
    ns.uuid = head.uuid;
    ns.alt_name = head.name;
    ns.lbasize = head.lbasize;
    ns.claim_class = head.claim_class;
    ns.start = region.ndr_start + (head.dpa - first.start) * ways_of(region);
    ns.size = set.reduce((sum, l) => sum + l.rawsize, 0);
  }
}

/** Namespaces as the labels say, and an empty one to be configured (the seed). */
export function nd_register_namespaces(region: nd_region): void {
  region.namespaces = [];
  if (region.nstype === ND_DEVICE_NAMESPACE_IO) {
    const ns = new_namespace(region);
    ns.size = region.ndr_size;
    region.ns_seed = ns;
    return;
  }
  scan_labels(region);
  region.ns_seed = new_namespace(region);
}

/** nd_region_create_ns_seed(): a new empty namespace once the old one is in use. */
export function nd_region_next_seed(region: nd_region): void {
  const seed = region.ns_seed;
  if (region.nstype !== ND_DEVICE_NAMESPACE_PMEM || (seed !== null && seed.size === 0)) return;
  region.ns_seed = new_namespace(region);
}

// ---- DPA space

interface free_range {
  start: number;
  size: number;
}

/** What no label claims, in the mapping's DPA, by address. */
function free_ranges(m: nd_mapping): free_range[] {
  const out: free_range[] = [];
  let at = m.start;
  const end = m.start + m.size;
  for (const r of drvdata(m).dpa) {
    if (r.start + r.size <= at || r.start >= end) continue;
    if (r.start > at) out.push({ start: at, size: r.start - at });
    at = Math.max(at, r.start + r.size);
  }
  if (at < end) out.push({ start: at, size: end - at });
  return out;
}

/** Trims free ranges to whole multiples of the region's alignment. */
function aligned_ranges(region: nd_region, m: nd_mapping): free_range[] {
  const align = region.align / ways_of(region);
  return free_ranges(m)
    .map((r) => {
      const start = Math.ceil(r.start / align) * align;
      return { start, size: Math.floor((r.start + r.size) / align) * align - start };
    })
    .filter((r) => r.size > 0);
}

/** Bytes of the region that no namespace has. */
export function nd_region_available_dpa(region: nd_region): number {
  if (region.mappings.length === 0) return 0;
  const each = region.mappings.map((m) =>
    m.nvdimm.ndd === null ? 0 : aligned_ranges(region, m).reduce((n, r) => n + r.size, 0),
  );
  return Math.min(...each) * ways_of(region);
}

/** The largest namespace that could be made. */
export function nd_region_allocatable_dpa(region: nd_region): number {
  if (region.mappings.length === 0) return 0;
  const each = region.mappings.map((m) =>
    m.nvdimm.ndd === null ? 0 : Math.max(0, ...aligned_ranges(region, m).map((r) => r.size)),
  );
  return Math.min(...each) * ways_of(region);
}

function resource_of(ndd: nvdimm_drvdata, uuid: string): dpa_resource | undefined {
  return ndd.dpa.find((r) => r.uuid === uuid);
}

/** First range that is free on every DIMM of the set: interleaved bytes lie at equal places. */
function find_free(region: nd_region, size: number): number {
  const [first, ...others] = region.mappings.map((m) => aligned_ranges(region, m));
  for (const r of first ?? []) {
    const fits = (l: free_range[]): boolean =>
      l.some((o) => o.start <= r.start && o.start + o.size >= r.start + size);
    if (r.size >= size && others.every(fits)) return r.start;
  }
  throw ENXIO;
}

function set_dpa(region: nd_region, ns: nd_namespace, per_dimm: number): void {
  const uuid = ns.uuid!;
  const had = resource_of(drvdata(region.mappings[0]!), uuid);
  for (const m of region.mappings) {
    const ndd = drvdata(m);
    ndd.dpa = ndd.dpa.filter((r) => r.uuid !== uuid);
  }
  if (per_dimm === 0) return;
  let start: number;
  try {
    start = had && had.size >= per_dimm ? had.start : find_free(region, per_dimm);
  } catch (e) {
    if (had) for (const m of region.mappings) drvdata(m).dpa.push({ ...had });
    throw e;
  }
  for (const m of region.mappings) {
    const ndd = drvdata(m);
    ndd.dpa.push({ uuid, start, size: per_dimm });
    ndd.dpa.sort((a, b) => a.start - b.start);
  }
}

// ---- labels

/** Writes the labels of the namespace on each DIMM, first marked as being updated. */
function update_labels(ns: nd_namespace): void {
  const { region } = ns;
  const { kernel } = region.bus;
  if (ns.nstype !== ND_DEVICE_NAMESPACE_PMEM || ns.uuid === null) return;
  if (ns.size === 0) {
    for (const m of region.mappings) nd_label_delete(kernel, drvdata(m), ns.uuid);
    return;
  }
  for (const flags of [NSLABEL_FLAG_UPDATING, 0]) {
    for (const m of region.mappings) {
      const ndd = drvdata(m);
      // the kernel makes version 1.2 labels on an area that was never initialised
      if (ndd.ns_current < 0) nd_label_init_area(kernel, ndd, 256);
      const res = resource_of(ndd, ns.uuid);
      if (res === undefined) throw ENXIO;
      nd_label_write(kernel, ndd, {
        uuid: ns.uuid,
        name: ns.alt_name,
        flags,
        nlabel: region.mappings.length,
        position: m.position,
        isetcookie: nd_region_set_cookie(region, ndd.nslabel_size),
        lbasize: ns.lbasize,
        dpa: res.start,
        rawsize: res.size,
        claim_class: ns.claim_class,
      });
    }
  }
}

function check_idle(ns: nd_namespace): void {
  if (ns.claim !== null || ns.raw !== null || ns.busy) throw EBUSY;
}

// ---- what sysfs stores

/** @throws EBUSY in use; EINVAL another namespace has it; ENXIO label-less */
export function namespace_set_uuid(ns: nd_namespace, uuid: string): void {
  if (ns.nstype !== ND_DEVICE_NAMESPACE_PMEM) throw ENXIO;
  check_idle(ns);
  for (const r of ns.region.bus.regions) {
    if (r.namespaces.some((o) => o !== ns && o.uuid === uuid)) throw EINVAL;
  }
  if (ns.uuid !== null && ns.size > 0) {
    for (const m of ns.region.mappings) {
      const ndd = drvdata(m);
      nd_label_delete(ns.region.bus.kernel, ndd, ns.uuid);
      for (const r of ndd.dpa) if (r.uuid === ns.uuid) r.uuid = uuid;
    }
  }
  ns.uuid = uuid;
  if (ns.size > 0) update_labels(ns);
}

/** At most 63 bytes of UTF-8. */
export function namespace_set_alt_name(ns: nd_namespace, name: string): void {
  if (ns.nstype !== ND_DEVICE_NAMESPACE_PMEM) throw ENXIO;
  check_idle(ns);
  if (name_to_bytes(name).length > MAX_NAME) throw EINVAL;
  ns.alt_name = name;
  if (ns.size > 0) update_labels(ns);
}

export function namespace_set_sector_size(ns: nd_namespace, size: number): void {
  check_idle(ns);
  if (!pmem_lbasize_supported.includes(size)) throw EINVAL;
  ns.lbasize = size;
  if (ns.size > 0) update_labels(ns);
}

/** What will claim it: the abstraction GUID of a version 1.2 label. */
export function namespace_set_holder_class(
  ns: nd_namespace,
  cls: "" | "btt" | "pfn" | "dax",
): void {
  check_idle(ns);
  const v11 = ns.region.mappings.some((m) => (m.nvdimm.ndd?.nslabel_size ?? 256) < 256);
  const real: claim_class = cls === "btt" && !v11 ? "btt2" : cls;
  ns.claim_class = ns.nstype === ND_DEVICE_NAMESPACE_PMEM && !v11 ? real : "";
  if (ns.size > 0) update_labels(ns);
}

/**
 * Gives the namespace `size` bytes of the region, or takes all away (0: the namespace is deleted).
 * @throws ENXIO no uuid or no labels; EBUSY in use; EINVAL no multiple of the region's alignment;
 * ENOSPC
 */
export function namespace_set_size(ns: nd_namespace, size: number): void {
  const { region } = ns;
  check_idle(ns);
  if (ns.nstype !== ND_DEVICE_NAMESPACE_PMEM || ns.uuid === null) throw ENXIO;
  if (size % region.align !== 0) throw EINVAL;
  if (size > nd_region_allocatable_dpa(region) + ns.size) throw ENOSPC;
  set_dpa(region, ns, size / ways_of(region));
  ns.size = size;
  if (size > 0) {
    const first = region.mappings[0]!;
    const res = resource_of(drvdata(first), ns.uuid)!;
    ns.start = region.ndr_start + (res.start - first.start) * ways_of(region);
  }
  update_labels(ns);
  if (size > 0) return;
  ns.uuid = null;
  ns.alt_name = "";
  ns.claim_class = "";
  ns.lbasize = 0;
  // the first namespace of a region stays, as does the seed
  if (ns.id !== 0 && region.ns_seed !== ns) {
    region.namespaces = region.namespaces.filter((o) => o !== ns);
  }
}
