/**
 * tools/cmd/ndctl/badblocks.ts - bad sectors in a listing: what the region knows, as far as it lies
 * in the place that is listed. What somebody wrote into a disk's own list is not asked for.
 */
import type { nd_namespace, nd_region, nvdimm } from "../../../drivers/nvdimm/nd.ts";
import { INTERLEAVE } from "../../../drivers/nvdimm/nfit.ts";
import type { json, json_object } from "./json.ts";

export interface bad_sectors {
  /** In sectors of 512 bytes, from the start of the place. */
  offset: number;
  length: number;
  /** The DIMMs that hold them. */
  dimms: string[];
}

/** Physical address and bytes of what a listing of a namespace speaks of. */
export function namespace_place(ns: nd_namespace): { start: number; size: number } {
  const { claim } = ns;
  if (claim && claim.kind !== "btt" && claim.enabled) {
    return { start: claim.resource, size: claim.size };
  }
  return { start: ns.start, size: ns.size };
}

/** The platform translates an address; without that command nobody knows the DIMM. */
function dimms_of(region: nd_region, at: number, len: number): string[] {
  if (region.bus.ars === null) return [];
  const { mappings } = region;
  const holds = (x: nvdimm | undefined): string[] => (x ? [x.name] : []);
  if (mappings.length <= 1) return holds(mappings[0]?.nvdimm);
  const ways = new Set<string>();
  for (let b = Math.floor(at / INTERLEAVE); b * INTERLEAVE < at + len; b++) {
    const position = b % mappings.length;
    const name = mappings.find((m) => m.position === position)?.nvdimm.name;
    if (name !== undefined) ways.add(name);
    if (ways.size === mappings.length) break;
  }
  return [...ways];
}

export function bad_in(region: nd_region, start: number, size: number): bad_sectors[] {
  const first = (start - region.ndr_start) / 512;
  const end = first + size / 512;
  return region.bb.list().flatMap((r) => {
    const from = Math.max(r.start, first);
    const to = Math.min(r.start + r.len, end);
    if (to <= from) return [];
    const length = to - from;
    return [{ offset: from - first, length, dimms: dimms_of(region, from * 512, length * 512) }];
  });
}

/** badblock_count, and with `all` the list; nothing when all is well. */
export function bad_json(list: readonly bad_sectors[], all: boolean): json_object {
  if (list.length === 0) return {};
  const out: json_object = { badblock_count: list.reduce((n, r) => n + r.length, 0) };
  if (all) {
    out["badblocks"] = list.map(({ offset, length, dimms }): json => {
      return dimms.length > 0 ? { offset, length, dimms } : { offset, length };
    });
  }
  return out;
}
