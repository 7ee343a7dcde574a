/**
 * drivers/nvdimm/badrange.ts - what a bus knows of bad memory, and how its regions and disks learn
 * of it. Linux: drivers/nvdimm/{badrange,bus}.c and the notify hooks of the drivers.
 *
 *   nvdimm_bus.badrange      physical addresses, in bytes
 *      nd_region.bb          512-byte sectors of the region
 *         pmem_device.bb     sectors of the disk: behind the info block and the page map
 *         btt.bb             sectors of the namespace, below the translation
 *
 * Downwards by nvdimm_region_notify(); upwards only by clearing: the device repairs memory when it
 * is told to (a write to a bad sector), and then all of the lists forget it.
 */
import { is_errno } from "../../kernel/include/errno.ts";
import type { badblocks } from "../block/badblocks.ts";
import type { bad_extent, nd_namespace, nd_region, nvdimm_bus } from "./nd.ts";

/** The list with [start, start + length) added; sorted, neighbours joined. */
export function extents_add(list: readonly bad_extent[], e: bad_extent): bad_extent[] {
  if (e.length <= 0) return [...list];
  const sorted = [...list, e].sort((a, b) => a.start - b.start);
  const out: bad_extent[] = [];
  for (const { start, length } of sorted) {
    const last = out.at(-1);
    if (!last || start > last.start + last.length) out.push({ start, length });
    else last.length = Math.max(last.length, start + length - last.start);
  }
  return out;
}

/** The list without [start, start + length). */
export function extents_remove(list: readonly bad_extent[], gone: bad_extent): bad_extent[] {
  const end = gone.start + gone.length;
  return list.flatMap((e) => {
    const e_end = e.start + e.length;
    if (e_end <= gone.start || e.start >= end) return [e];
    const left = { start: e.start, length: gone.start - e.start };
    const right = { start: end, length: e_end - end };
    return [left, right].filter((x) => x.length > 0);
  });
}

/** The parts of the list inside [start, start + size). */
export function extents_within(
  list: readonly bad_extent[],
  start: number,
  size: number,
): bad_extent[] {
  return list.flatMap((e) => {
    const from = Math.max(e.start, start);
    const to = Math.min(e.start + e.length, start + size);
    return to > from ? [{ start: from, length: to - from }] : [];
  });
}

/** Remembers bad bytes at physical addresses; nobody is told yet. */
export function nvdimm_bus_add_badrange(bus: nvdimm_bus, start: number, length: number): void {
  bus.badrange = extents_add(bus.badrange, { start, length });
}

/** Adds what the bus knows of [start, start + size) to a list of sectors that counts from there. */
export function nvdimm_badblocks_populate(
  bus: nvdimm_bus,
  bb: badblocks,
  start: number,
  size: number,
): void {
  for (const e of extents_within(bus.badrange, start, size)) {
    const first = Math.floor((e.start - start) / 512);
    const end = Math.ceil((e.start + e.length - start) / 512);
    try {
      bb.set(first, end - first);
    } catch (err) {
      if (!is_errno(err)) throw err;
      bus.kernel.pr_err(`nd_bus ${bus.name}: too many bad sectors: ${first} is not listed`);
    }
  }
}

function namespace_notify(bus: nvdimm_bus, ns: nd_namespace): void {
  const pmem = ns.raw ?? ns.claim?.pmem;
  if (pmem) {
    const start = pmem.region.start + pmem.data_offset;
    nvdimm_badblocks_populate(bus, pmem.bb, start, pmem.disk.capacity * 512);
  }
  const btt = ns.claim?.btt;
  if (btt) nvdimm_badblocks_populate(bus, btt.bb, ns.start, ns.size);
}

/** NVDIMM_REVALIDATE_POISON: the region and the disks on it look at the bus's list again. */
export function nvdimm_region_notify(region: nd_region): void {
  const { bus } = region;
  nvdimm_badblocks_populate(bus, region.bb, region.ndr_start, region.ndr_size);
  for (const ns of region.namespaces) namespace_notify(bus, ns);
}

/**
 * Asks the device to repair bytes; both ends have to be multiples of the device's unit.
 * Returns how many it did, 0 when it cannot.
 */
export function nvdimm_clear_poison(bus: nvdimm_bus, start: number, length: number): number {
  const { ars } = bus;
  if (ars === null) return 0;
  const unit = ars.clear_err_unit;
  if (start % unit !== 0 || length % unit !== 0) return 0;
  const cleared = ars.clear_error(start, length);
  bus.badrange = extents_remove(bus.badrange, { start, length: cleared });
  for (const r of bus.regions) {
    const [part] = extents_within([{ start, length: cleared }], r.ndr_start, r.ndr_size);
    if (part) r.bb.clear((part.start - r.ndr_start) / 512, part.length / 512);
  }
  return cleared;
}

const L1_CACHE_BYTES = 64;

/** nfit_handle_mce(): an access met a bad line of a region. */
export function nfit_handle_mce(region: nd_region, paddr: number): void {
  const line = paddr - (paddr % L1_CACHE_BYTES);
  nvdimm_bus_add_badrange(region.bus, line, L1_CACHE_BYTES);
  nvdimm_region_notify(region);
}
