/**
 * drivers/nvdimm/sysfs.ts - the attributes below /sys/bus/nd/devices and /sys/bus/dax/devices that
 * users look at. Linux: the DEVICE_ATTRs of drivers/nvdimm and drivers/dax.
 */
import { EINVAL, ENOENT } from "../../kernel/include/errno.ts";
import { MAJOR, MINOR } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { badblocks_show } from "../block/badblocks.ts";
import { type sysfs_attr, sysfs_bool } from "../block/sysfs.ts";
import { btt_lbasize_supported } from "./btt_format.ts";
import { nd_region_allocatable_dpa, nd_region_available_dpa } from "./namespace.ts";
import { namespace_set_alt_name, pmem_lbasize_supported } from "./namespace.ts";
import {
  type nd_claim,
  type nd_namespace,
  type nd_region,
  type nvdimm,
  type nvdimm_bus,
  nvdimm_state,
} from "./nd.ts";

const NFIT = "ACPI.NFIT";

type attrs<T> = Readonly<Record<string, (x: T) => string | sysfs_attr | null>>;

const hex = (n: number): string => `0x${n.toString(16)}`;
/** The supported values, the chosen one in brackets. */
const choice = (list: readonly number[], now: number): string =>
  `${list.map((n) => (n === now ? `[${n}]` : String(n))).join(" ")} `;

function set_ro(r: nd_region, text: string): void {
  r.ro = sysfs_bool(text);
  for (const ns of r.namespaces) {
    const disk = (ns.raw ?? ns.claim?.pmem ?? ns.claim?.btt)?.disk;
    if (disk) disk.ro = r.ro;
  }
}

const REGION: attrs<nd_region> = Object.freeze({
  size: (r) => String(r.ndr_size),
  resource: (r) => hex(r.ndr_start),
  align: (r) => hex(r.align),
  nstype: (r) => String(r.nstype),
  mappings: (r) => String(r.mappings.length),
  available_size: (r) => String(nd_region_available_dpa(r)),
  max_available_extent: (r) => String(nd_region_allocatable_dpa(r)),
  init_namespaces: (r) => `${r.namespaces.length}/${r.namespaces.length}`,
  namespace_seed: (r) => r.ns_seed?.name ?? "",
  btt_seed: (r) => r.btt_seed?.name ?? "",
  pfn_seed: (r) => r.pfn_seed?.name ?? "",
  dax_seed: (r) => r.dax_seed?.name ?? "",
  badblocks: (r) => badblocks_show(r.bb).trimEnd(),
  read_only: (r) => ({ show: () => (r.ro ? "1" : "0"), store: (text) => set_ro(r, text) }),
});

const NS_MODES = Object.freeze({ pfn: "memory", dax: "dax", btt: "safe" } as const);

/** Without a claim, "memory" where the region has page descriptors (virtio-pmem). */
function namespace_mode(n: nd_namespace): string {
  if (n.claim) return NS_MODES[n.claim.kind];
  return n.region.pagemap && !n.force_raw ? "memory" : "raw";
}

const NAMESPACE: attrs<nd_namespace> = Object.freeze({
  resource: (n) => (n.size > 0 ? hex(n.start) : null),
  size: (n) => String(n.size),
  mode: namespace_mode,
  uuid: (n) => n.uuid,
  sector_size: (n) => choice(pmem_lbasize_supported, n.lbasize),
  holder: (n) => n.claim?.name ?? null,
  holder_class: (n) => n.claim?.kind ?? null,
  force_raw: (n) => (n.force_raw ? "1" : "0"),
  alt_name: (n) => ({
    show: () => n.alt_name,
    store: (text) => namespace_set_alt_name(n, text.trimEnd()),
  }),
  nstype: (n) => String(n.nstype),
  dpa_extents: (n) => (n.size > 0 ? "1" : "0"),
});

const PFN_MODES = Object.freeze(["none", "ram", "pmem"] as const);

const CLAIM: attrs<nd_claim> = Object.freeze({
  resource: (c) => (c.kind !== "btt" && c.enabled ? hex(c.resource) : null),
  size: (c) => (c.enabled ? String(c.size) : null),
  mode: (c) => (c.kind === "btt" ? null : PFN_MODES[c.mode]!),
  align: (c) => (c.kind === "btt" ? null : String(c.align)),
  uuid: (c) => c.uuid,
  sector_size: (c) => (c.kind === "btt" ? choice(btt_lbasize_supported, c.lbasize) : null),
  log_zero_flags: (c) => (c.kind === "btt" ? "Y" : null),
  namespace: (c) => c.ndns?.name ?? null,
});

function store_scrub(b: nvdimm_bus, text: string): void {
  if (text.trim() !== "1") throw EINVAL;
  b.ars!.start_scrub(true);
}

/** dsm_mask: the firmware's functions for scrub (1-4), translate (5), injection (7-9). */
const BUS: attrs<nvdimm_bus> = Object.freeze({
  provider: (b) => b.provider,
  commands: (b) =>
    b.provider !== NFIT
      ? ""
      : b.ars
        ? "ars_cap ars_start ars_status clear_error cmd_call "
        : "cmd_call ",
  wait_probe: () => "1",
  "nfit/revision": (b) => (b.provider === NFIT ? "1" : null),
  "nfit/hw_error_scrub": (b) => (b.provider === NFIT ? "0" : null),
  "nfit/dsm_mask": (b) => (b.provider === NFIT ? (b.ars ? "0x3be" : "0x0") : null),
  "nfit/scrub": (b) =>
    b.ars && {
      show: () => `${b.ars!.scrub_count}${b.ars!.busy ? "+" : ""}`,
      store: (text) => store_scrub(b, text),
    },
});

const DIMM: attrs<nvdimm> = Object.freeze({
  state: (d) => (d.enabled ? "idle" : "disabled"),
});

function attr_of<T>(table: attrs<T>, x: T | undefined, name: string): sysfs_attr {
  if (x === undefined || !Object.hasOwn(table, name)) throw ENOENT;
  const found = table[name]!(x);
  if (found === null) throw ENOENT;
  return typeof found === "string" ? { show: () => found } : found;
}

/** `path` is what follows /sys/bus/nd/devices/. @throws ENOENT */
export function nd_sysfs(kernel: Kernel, path: string): sysfs_attr {
  const [name, ...rest] = path.split("/");
  const attr = rest.join("/");
  const { buses } = nvdimm_state(kernel);
  const bus = buses.find((b) => b.name === name);
  if (bus) return attr_of(BUS, bus, attr);
  const dimm = buses.flatMap((b) => b.dimms).find((d) => d.name === name);
  if (dimm) return attr_of(DIMM, dimm, attr);
  const regions = buses.flatMap((b) => b.regions);
  const region = regions.find((r) => r.name === name);
  if (region) return attr_of(REGION, region, attr);
  const ns = regions.flatMap((r) => r.namespaces).find((n) => n.name === name);
  if (ns) return attr_of(NAMESPACE, ns, attr);
  return attr_of(
    CLAIM,
    regions.flatMap((r) => r.claims).find((c) => c.name === name),
    attr,
  );
}

/** `path` is what follows /sys/bus/dax/devices/. @throws ENOENT */
export function dax_sysfs(kernel: Kernel, path: string): sysfs_attr {
  const [name, ...rest] = path.split("/");
  const regions = nvdimm_state(kernel).buses.flatMap((b) => b.regions);
  const dax = regions.flatMap((r) => r.claims).find((c) => c.dax?.name === name)?.dax;
  if (!dax) throw ENOENT;
  const { region } = dax;
  const table: Readonly<Record<string, string>> = {
    size: String(dax.size),
    align: String(dax.align),
    dev: `${MAJOR(dax.dev)}:${MINOR(dax.dev)}`,
    resource: hex(dax.start),
    target_node: String(region.target_node),
    numa_node: "0",
    modalias: "dax:t0",
    "mapping0/start": hex(dax.start),
    "mapping0/end": hex(dax.start + dax.size - 1),
    "mapping0/page_offset": "0x0",
  };
  const attr = rest.join("/");
  if (!Object.hasOwn(table, attr)) throw ENOENT;
  return { show: () => table[attr]! };
}
