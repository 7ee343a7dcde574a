/** tools/cmd/ndctl/list.ts - `ndctl list`: what there is, as JSON. */
import { nd_region_cookie } from "../../../drivers/nvdimm/cookie.ts";
import { nd_region_available_dpa } from "../../../drivers/nvdimm/namespace.ts";
import { nd_region_allocatable_dpa } from "../../../drivers/nvdimm/namespace.ts";
import { nd_namespace_enabled } from "../../../drivers/nvdimm/namespace_driver.ts";
import { ND_DEVICE_NAMESPACE_PMEM } from "../../../drivers/nvdimm/nd.ts";
import { UUID_NULL } from "../../../drivers/nvdimm/uuid.ts";
import type {
  nd_claim,
  nd_namespace,
  nd_region,
  nvdimm,
  nvdimm_bus,
} from "../../../drivers/nvdimm/nd.ts";
import { btt_lbasize_supported } from "../../../drivers/nvdimm/btt_format.ts";
import { bad_in, bad_json, namespace_place } from "./badblocks.ts";
import {
  type device_filter,
  type ndctl_env,
  type ndctl_result,
  bus_matches,
  buses_of,
  dimm_matches,
  done,
  long,
  mode_of_name,
  namespace_matches,
  namespace_mode,
  region_matches,
  usage,
  words,
} from "./context.ts";
import {
  in_sysfs_order,
  type json,
  type json_object,
  json_hex,
  json_list_text,
  json_size,
  json_text,
  json_u64,
} from "./json.ts";

/** How much is shown. */
export interface view {
  human: boolean;
  verbose: boolean;
  /** daxregion in full. */
  dax: boolean;
  idle: boolean;
  configured: boolean;
  capabilities: boolean;
  media_errors: boolean;
  /** Which DIMMs a region is of. */
  mappings: boolean;
}

const hex = (n: number, width: number): string => n.toString(16).padStart(width, "0");
const swap32 = (n: number): number =>
  (((n & 0xff) << 24) | ((n & 0xff00) << 8) | ((n >>> 8) & 0xff00) | (n >>> 24)) >>> 0;
const swap16 = (n: number): number => ((n & 0xff) << 8) | (n >>> 8);

function dimm_json(d: nvdimm, v: view): json_object {
  const out: json_object = {
    dev: d.name,
    id: `${hex(swap16(d.vendor_id), 4)}-${hex(swap32(d.serial_number), 8)}`,
    handle: json_hex(d.handle, v.human),
    phys_id: json_hex(d.phys_id, v.human),
  };
  if (!d.enabled) out["state"] = "disabled";
  return out;
}

export function dax_device_json(claim: nd_claim, v: view): json_object {
  const dax = claim.dax!;
  const out: json_object = {
    chardev: dax.name,
    size: json_size(dax.size, v.human),
    target_node: dax.region.target_node,
    align: json_size(dax.align, v.human),
    mode: "devdax",
  };
  if (dax.driver === null) out["state"] = "disabled";
  return out;
}

export function dax_region_json(claim: nd_claim, v: view): json_object {
  const out: json_object = {
    id: claim.region.id,
    size: json_size(claim.size, v.human),
    align: claim.align,
  };
  if (claim.dax) out["devices"] = [dax_device_json(claim, v)];
  return out;
}

/** The firmware's table tells the node; virtio has none. */
function nodes_json(r: nd_region, v: view): json_object {
  if (!v.verbose) return {};
  return r.mappings.length > 0 ? { numa_node: 0, target_node: 0 } : { target_node: 0 };
}

/** fsdax and devdax: where the page map is, and the sizes. */
function claimed_sizes(ns: nd_namespace, claim: nd_claim, v: view, out: json_object): void {
  if (claim.kind !== "btt") out["map"] = claim.mode === 1 ? "mem" : "dev";
  out["size"] = json_size(claim.enabled ? claim.size : ns.size, v.human);
  if (claim.uuid !== null) out["uuid"] = claim.uuid;
  if (v.verbose && ns.uuid !== null) out["raw_uuid"] = ns.uuid;
}

function sector_size_of(ns: nd_namespace): number {
  if (ns.claim?.kind === "btt") return ns.claim.lbasize;
  return ns.lbasize === 0 ? 512 : ns.lbasize;
}

function block_name(ns: nd_namespace): string | undefined {
  return (ns.raw ?? ns.claim?.pmem ?? ns.claim?.btt)?.disk.disk_name;
}

export function namespace_json(ns: nd_namespace, v: view): json_object {
  const { claim } = ns;
  const mode = namespace_mode(ns);
  const out: json_object = { dev: ns.name, mode };
  if (claim) claimed_sizes(ns, claim, v, out);
  else {
    // A raw namespace with page descriptors: their place is ordinary memory.
    if (mode === "fsdax") out["map"] = "mem";
    out["size"] = json_size(ns.size, v.human);
    // a seed has an empty one, without labels there is none
    const uuid = ns.uuid ?? (ns.nstype === ND_DEVICE_NAMESPACE_PMEM ? UUID_NULL : null);
    if (uuid !== null) out["uuid"] = uuid;
  }
  if (mode === "devdax") {
    if (v.dax) out["daxregion"] = dax_region_json(claim!, v);
    else if (claim!.dax) out["chardev"] = claim!.dax.name;
  } else out["sector_size"] = sector_size_of(ns);
  if (claim && claim.kind !== "btt") out["align"] = claim.align;
  const disk = block_name(ns);
  if (disk !== undefined) out["blockdev"] = disk;
  if (!nd_namespace_enabled(ns)) out["state"] = "disabled";
  if (ns.alt_name !== "") out["name"] = ns.alt_name;
  Object.assign(out, nodes_json(ns.region, v));
  const { start, size } = namespace_place(ns);
  const all = v.media_errors && mode !== "sector";
  return { ...out, ...bad_json(bad_in(ns.region, start, size), all) };
}

export function bus_json(b: nvdimm_bus): json_object {
  const out: json_object = { provider: b.provider, dev: b.name };
  if (b.ars) out["scrub_state"] = b.ars.busy ? "active" : "idle";
  return out;
}

const ALIGNMENTS = Object.freeze([4096, 2097152, 1073741824]);

function region_json(r: nd_region, v: view): json_object {
  const out: json_object = {
    dev: r.name,
    size: json_size(r.ndr_size, v.human),
    align: json_size(r.align, v.human),
    available_size: json_size(r.enabled ? nd_region_available_dpa(r) : 0, v.human),
    max_available_extent: json_size(r.enabled ? nd_region_allocatable_dpa(r) : 0, v.human),
    type: "pmem",
  };
  Object.assign(out, nodes_json(r, v));
  if (r.mappings.some((m) => m.nvdimm.labels !== null)) {
    out["iset_id"] = json_u64(nd_region_cookie(r), v.human);
  }
  if (v.mappings && r.mappings.length > 0) {
    out["mappings"] = r.mappings.map((m) => ({
      dimm: m.nvdimm.name,
      offset: json_hex(m.start, v.human),
      length: json_hex(m.size, v.human),
      position: m.position,
    }));
  }
  if (!r.enabled) out["state"] = "disabled";
  Object.assign(out, bad_json(bad_in(r, r.ndr_start, r.ndr_size), v.media_errors));
  if (v.capabilities) {
    out["capabilities"] = [
      { mode: "sector", sector_sizes: [...btt_lbasize_supported] },
      { mode: "fsdax", alignments: [...ALIGNMENTS] },
      { mode: "devdax", alignments: [...ALIGNMENTS] },
    ];
  }
  out["persistence_domain"] = "unknown";
  return out;
}

const LIST_SHORT = "b:r:d:n:m:t:U:BDHFXRNicCMvu";
const LIST_LONG = Object.freeze([
  long("bus", "b", 1),
  long("region", "r", 1),
  long("dimm", "d", 1),
  long("namespace", "n", 1),
  long("mode", "m", 1),
  long("type", "t", 1),
  long("numa-node", "U", 1),
  long("buses", "B"),
  long("dimms", "D"),
  long("health", "H"),
  long("firmware", "F"),
  long("device-dax", "X"),
  long("regions", "R"),
  long("namespaces", "N"),
  long("idle", "i"),
  long("configured", "c"),
  long("capabilities", "C"),
  long("media-errors", "M"),
  long("verbose", "v"),
  long("human", "u"),
]);

interface wanted {
  buses: boolean;
  dimms: boolean;
  regions: boolean;
  namespaces: boolean;
}

function wanted_of(w: words): wanted {
  const two = w.count("v") >= 2;
  const some = ["B", "D", "R", "N"].some((o) => w.has(o));
  return {
    buses: w.has("B") || two,
    dimms: w.has("D") || two,
    regions: w.has("R") || two,
    namespaces: w.has("N") || !some || w.has("X") || w.has("v"),
  };
}

export function view_of(w: words): view {
  const verbose = w.count("v");
  return {
    human: w.has("u"),
    verbose: verbose >= 1,
    dax: w.has("X") || verbose >= 1,
    idle: w.has("i") || verbose >= 3,
    configured: w.has("c"),
    capabilities: w.has("C") || verbose >= 3,
    media_errors: w.has("M") || verbose >= 1,
    mappings: w.has("D") || verbose >= 2,
  };
}

function list_namespaces(r: nd_region, f: device_filter, v: view): json[] {
  return in_sysfs_order(r.namespaces)
    .filter((n) => namespace_matches(n, f))
    .filter((n) => nd_namespace_enabled(n) || v.idle || (v.configured && n.size > 0))
    .map((n) => namespace_json(n, v));
}

function list_bus(bus: nvdimm_bus, f: device_filter, want: wanted, v: view): json_object {
  const out: json_object = {};
  if (want.dimms) {
    const dimms = bus.dimms.filter((d) => dimm_matches(d, f) && (d.enabled || v.idle));
    if (dimms.length > 0) out["dimms"] = dimms.map((d) => dimm_json(d, v));
  }
  const regions = in_sysfs_order(bus.regions).filter((r) => region_matches(r, f));
  if (want.regions) {
    const shown = regions
      .filter((r) => r.enabled || v.idle)
      .map((r) => {
        const one = region_json(r, v);
        const list = want.namespaces ? list_namespaces(r, f, v) : [];
        return list.length > 0 ? { ...one, namespaces: list } : one;
      });
    if (shown.length > 0) out["regions"] = shown;
  } else if (want.namespaces) {
    const list = regions.flatMap((r) => list_namespaces(r, f, v));
    if (list.length > 0) out["namespaces"] = list;
  }
  return out;
}

/** Without buses: one list alone, or an object with the lists. */
function platform_text(parts: json_object[], want: wanted, human: boolean): string {
  const all: json_object = {};
  for (const key of ["dimms", "regions", "namespaces"]) {
    const list = parts.flatMap((p) => (p[key] as json[] | undefined) ?? []);
    if (list.length > 0) all[key] = list;
  }
  const lists = Object.values(all) as json[][];
  if (lists.length === 0) return "";
  const types = [want.dimms, want.regions, want.namespaces].filter(Boolean).length;
  if (types === 1) return json_list_text(lists[0]!, human);
  return `${json_text(all)}\n`;
}

export function ndctl_list(env: ndctl_env, args: readonly string[]): ndctl_result {
  const w = new words(args, LIST_SHORT, LIST_LONG);
  if (w.error !== null) return usage(w.error);
  if (w.operands.length > 0) return usage(`unknown parameter "${w.operands[0]}"`);
  const mode = w.get("m");
  if (mode !== undefined && mode_of_name(mode) === undefined)
    return usage(`invalid mode: '${mode}'`);
  const f: device_filter = {
    bus: w.get("b"),
    region: w.get("r"),
    dimm: w.get("d"),
    namespace: w.get("n"),
    mode,
  };
  const want = wanted_of(w);
  const v = view_of(w);
  const buses = buses_of(env).filter((b) => bus_matches(b, f));
  const parts = buses.map((b) => list_bus(b, f, want, v));
  if (!want.buses) return done(platform_text(parts, want, v.human));
  const shown = buses.flatMap((b, i): json[] => {
    const inner = parts[i]!;
    const narrow = f.region ?? f.dimm ?? f.namespace;
    if (narrow !== undefined && Object.keys(inner).length === 0) return [];
    return [{ ...bus_json(b), ...inner }];
  });
  return done(json_list_text(shown, v.human));
}
