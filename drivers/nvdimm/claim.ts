/**
 * drivers/nvdimm/claim.ts - pfn, dax and btt: what stands between a namespace and its device.
 * Linux: drivers/nvdimm/{claim,pfn_devs,dax_devs,btt_devs}.c, drivers/dax/pmem.c.
 *
 * Reading order: nd_claim_seed() (empty, for users) or nd_claim_probe() (found on the media) ->
 * nd_claim_enable() (binds the driver, writes a new info block if there is none) ->
 * nd_claim_disable() -> nd_claim_detach().
 *
 * The label (v1.2) is a hint, the signature on the media decides. An info block counts only with
 * the uuid of its namespace as parent.
 */
import { EINVAL, ENODEV, ENOMEM, ENXIO, is_errno } from "../../kernel/include/errno.ts";
import type { phys_region } from "../../kernel/include/phys.ts";
import { alloc_dax_region, devm_create_dev_dax, unregister_dev_dax } from "../dax/bus.ts";
import { device_dax_driver } from "../dax/device.ts";
import { ARENA_MIN_SIZE } from "./btt_format.ts";
import { btt_attach, btt_detach, btt_info_at } from "./btt.ts";
import {
  type claim_kind,
  free_id,
  type nd_claim,
  type nd_namespace,
  type nd_region,
} from "./nd.ts";
import { nfit_handle_mce, nvdimm_badblocks_populate, nvdimm_clear_poison } from "./badrange.ts";
import { PFN_SB_OFFSET, PFN_SB_SIZE, nd_pfn_layout, nd_pfn_make_block } from "./pfn.ts";
import { nd_pfn_parent_uuid, nd_pfn_uuid, nd_pfn_validate } from "./pfn.ts";
import type { nd_pfn_info } from "./pfn.ts";
import { attach_pmem, detach_pmem } from "./pmem.ts";
import { UUID_NULL, uuid_bytes } from "./uuid.ts";

const DEFAULT_ALIGN = 2 * 1024 * 1024;
const BTT_V11_OFFSET = 4096;

/** An unbound pfn, dax or btt. */
export function nd_claim_create(region: nd_region, kind: claim_kind): nd_claim {
  const id = free_id(region.claims.filter((c) => c.kind === kind));
  const claim: nd_claim = {
    region,
    kind,
    id,
    name: `${kind}${region.id}.${id}`,
    ndns: null,
    uuid: null,
    mode: 0,
    align: DEFAULT_ALIGN,
    lbasize: 0,
    size: 0,
    resource: 0,
    enabled: false,
    pmem: null,
    btt: null,
    dax: null,
  };
  region.claims.push(claim);
  return claim;
}

/** The one that users configure next. */
export const nd_claim_seed = nd_claim_create;

export function nd_claim_attach(claim: nd_claim, ns: nd_namespace): void {
  claim.ndns = ns;
  ns.claim = claim;
}

/** Gives the namespace free. A claim that is no seed goes away. */
export function nd_claim_detach(claim: nd_claim): void {
  const { region } = claim;
  if (claim.ndns) claim.ndns.claim = null;
  claim.ndns = null;
  claim.uuid = null;
  claim.mode = 0;
  claim.align = DEFAULT_ALIGN;
  claim.lbasize = 0;
  const seeds = [region.btt_seed, region.pfn_seed, region.dax_seed];
  if (!seeds.includes(claim)) region.claims = region.claims.filter((c) => c !== claim);
}

/** The namespace's bytes as a region of its own. */
export function namespace_region(ns: nd_namespace): phys_region {
  const { phys } = ns.region;
  const { start, size } = ns;
  return { name: ns.name, kind: "pmem", start, size, domain: phys.domain };
}

/** "pmem0", "pmem0.1s": of a disk on the namespace. */
export function nvdimm_namespace_disk_name(ns: nd_namespace, suffix: "" | "s"): string {
  const id = ns.id === 0 ? "" : `.${ns.id}`;
  return `pmem${ns.region.id}${id}${suffix}`;
}

// ---- what is on the media

function read_info(ns: nd_namespace): Uint8Array {
  const block = new Uint8Array(PFN_SB_SIZE);
  ns.region.bus.kernel.phys.copy_from(ns.start + PFN_SB_OFFSET, block, 0, PFN_SB_SIZE);
  return block;
}

/** The valid pfn or dax info block of that kind, or null. */
function pfn_info(ns: nd_namespace, kind: "pfn" | "dax"): [nd_pfn_info, string] | null {
  if (ns.size < PFN_SB_OFFSET + PFN_SB_SIZE) return null;
  const block = read_info(ns);
  try {
    const info = nd_pfn_validate(block, ns.start, ns.size, ns.region.bus.kernel.PAGE_SIZE);
    if (info.signature !== kind) return null;
    if (nd_pfn_parent_uuid(block) !== (ns.uuid ?? UUID_NULL)) return null;
    if (info.align > ns.size) return null;
    return [info, nd_pfn_uuid(block)];
  } catch (e) {
    if (!is_errno(e)) throw e;
    return null;
  }
}

function btt_offset(ns: nd_namespace): number {
  return ns.claim_class === "btt2" ? 0 : BTT_V11_OFFSET;
}

function probe_btt(ns: nd_namespace): nd_claim | null {
  if (!["", "btt", "btt2"].includes(ns.claim_class) || ns.size < ARENA_MIN_SIZE) return null;
  const major = ns.claim_class === "btt2" ? 2 : 1;
  const { kernel } = ns.region.bus;
  const info = btt_info_at(kernel, ns.start + btt_offset(ns), ns.uuid ?? UUID_NULL);
  if (info === null || info.version_major !== major) return null;
  if (info.version_minor !== (major === 2 ? 0 : 1)) return null;
  const claim = nd_claim_create(ns.region, "btt");
  claim.uuid = info.uuid;
  claim.lbasize = info.external_lbasize;
  return claim;
}

function probe_pfn(ns: nd_namespace, kind: "pfn" | "dax"): nd_claim | null {
  if (ns.claim_class !== "" && ns.claim_class !== kind) return null;
  const found = pfn_info(ns, kind);
  if (found === null) return null;
  const claim = nd_claim_create(ns.region, kind);
  [claim.mode, claim.align, claim.uuid] = [found[0].mode, found[0].align, found[1]];
  return claim;
}

/** Looks for an info block; a claim for it, attached to the namespace, or null. */
export function nd_claim_probe(ns: nd_namespace): nd_claim | null {
  if (ns.force_raw) return null;
  const claim = probe_btt(ns) ?? probe_pfn(ns, "pfn") ?? probe_pfn(ns, "dax");
  if (claim) nd_claim_attach(claim, ns);
  return claim;
}

// ---- drivers

/** nd_pfn_init(): the block that is there, or a new one as configured. */
function pfn_init(claim: nd_claim, ns: nd_namespace, kind: "pfn" | "dax"): nd_pfn_info {
  const found = pfn_info(ns, kind);
  if (found !== null && found[1] === claim.uuid) return found[0];
  if (ns.region.ro) throw ENXIO;
  if (claim.uuid === null || claim.mode === 0) throw ENODEV;
  if (ns.start % DEFAULT_ALIGN !== 0) throw EINVAL;
  const map = claim.mode === 2 ? "dev" : "mem";
  const info: nd_pfn_info = {
    ...nd_pfn_layout(ns.start, ns.size, map, claim.align),
    signature: kind,
  };
  const { phys } = ns.region.bus.kernel;
  const parent = uuid_bytes(ns.uuid ?? UUID_NULL);
  const block = nd_pfn_make_block(info, uuid_bytes(claim.uuid), parent);
  phys.memcpy_flushcache(ns.start + PFN_SB_OFFSET, block, 0, PFN_SB_SIZE);
  phys.sfence();
  return info;
}

function enable_pfn(claim: nd_claim, ns: nd_namespace): void {
  const info = pfn_init(claim, ns, "pfn");
  claim.pmem = attach_pmem(ns.region.bus.kernel, {
    region: namespace_region(ns),
    info,
    name: nvdimm_namespace_disk_name(ns, ""),
    synchronous: !ns.region.async_flush,
    ro: ns.region.ro,
    nd_region: ns.region,
  });
  claim.size = info.npfns * ns.region.bus.kernel.PAGE_SIZE;
  claim.resource = ns.start + info.start_pad + info.dataoff;
}

function enable_dax(claim: nd_claim, ns: nd_namespace): void {
  const { kernel } = ns.region.bus;
  const info = pfn_init(claim, ns, "dax");
  claim.size = info.npfns * kernel.PAGE_SIZE;
  claim.resource = ns.start + info.start_pad + info.dataoff;
  const range = { start: claim.resource, size: claim.size };
  const region = alloc_dax_region(kernel, ns.region.id, range, info.align);
  if (region === null) throw ENOMEM;
  region.media_error = (paddr) => nfit_handle_mce(ns.region, paddr);
  claim.dax = devm_create_dev_dax(region, ns.id, device_dax_driver);
}

function enable_btt(claim: nd_claim, ns: nd_namespace): void {
  if (claim.uuid === null || claim.lbasize === 0) throw ENODEV;
  const initial_offset = btt_offset(ns);
  const b = btt_attach(ns.region.bus.kernel, {
    start: ns.start,
    size: ns.size,
    initial_offset,
    version: initial_offset === 0 ? [2, 0] : [1, 1],
    uuid: claim.uuid,
    parent_uuid: ns.uuid ?? UUID_NULL,
    lbasize: claim.lbasize,
    disk_name: nvdimm_namespace_disk_name(ns, "s"),
    ro: ns.region.ro,
    clear_poison: (start, len) => nvdimm_clear_poison(ns.region.bus, start, len) === len,
  });
  nvdimm_badblocks_populate(ns.region.bus, b.bb, ns.start, ns.size);
  claim.btt = b;
  claim.size = b.nlba * b.sector_size;
}

/** Binds the driver. @throws what the driver refuses the namespace with */
export function nd_claim_enable(claim: nd_claim): void {
  const ns = claim.ndns;
  if (claim.enabled) return;
  if (ns === null) throw ENODEV;
  if (claim.kind === "pfn") enable_pfn(claim, ns);
  else if (claim.kind === "dax") enable_dax(claim, ns);
  else enable_btt(claim, ns);
  claim.enabled = true;
  const { region } = claim;
  if (region.pfn_seed === claim) region.pfn_seed = nd_claim_create(region, "pfn");
  if (region.dax_seed === claim) region.dax_seed = nd_claim_create(region, "dax");
  if (region.btt_seed === claim) region.btt_seed = nd_claim_create(region, "btt");
}

/** Unbinds the driver: the disk or character device goes, the claim stays. */
export async function nd_claim_disable(claim: nd_claim): Promise<void> {
  if (!claim.enabled) return;
  const { pmem, btt, dax } = claim;
  claim.enabled = false;
  claim.pmem = claim.btt = claim.dax = null;
  claim.size = claim.resource = 0;
  if (btt) btt_detach(btt);
  if (dax) await unregister_dev_dax(dax);
  if (pmem) await detach_pmem(pmem);
}
