/**
 * drivers/nvdimm/namespace_driver.ts - binding a driver to a namespace: nd_pmem_probe() of
 * drivers/nvdimm/pmem.c. A namespace that a pfn, dax or btt claims is driven by the claim;
 * otherwise it is a raw disk.
 */
import { EBUSY, ENXIO, is_errno } from "../../kernel/include/errno.ts";
import {
  namespace_region,
  nd_claim_disable,
  nd_claim_enable,
  nd_claim_probe,
  nvdimm_namespace_disk_name,
} from "./claim.ts";
import { nd_region_next_seed } from "./namespace.ts";
import type { nd_namespace } from "./nd.ts";
import { attach_pmem, detach_pmem } from "./pmem.ts";

export function nd_namespace_enabled(ns: nd_namespace): boolean {
  return ns.raw !== null || (ns.claim?.enabled ?? false);
}

/**
 * Binds the driver that the media or the configuration ask for. `quiet`: a driver that refuses
 * leaves the namespace idle, with a line in the log, instead of throwing.
 */
export function nd_namespace_enable(ns: nd_namespace, quiet = false): void {
  if (ns.busy) throw EBUSY;
  if (nd_namespace_enabled(ns)) return;
  if (ns.size === 0) throw ENXIO;
  const { region } = ns;
  const claim = ns.claim ?? nd_claim_probe(ns);
  try {
    if (claim) nd_claim_enable(claim);
    else {
      ns.raw = attach_pmem(region.bus.kernel, {
        region: namespace_region(ns),
        info: null,
        mode: "raw",
        name: nvdimm_namespace_disk_name(ns, ""),
        pages: region.pagemap,
        synchronous: !region.async_flush,
        ro: region.ro,
        nd_region: region,
      });
    }
  } catch (e) {
    if (!quiet || !is_errno(e)) throw e;
    region.bus.kernel.pr_err(`nd_pmem ${ns.name}: probe failed: ${e.code}`);
    return;
  }
  nd_region_next_seed(region);
}

/** Unbinds whatever drives the namespace; waits for users of the DAX device. */
export async function nd_namespace_disable(ns: nd_namespace): Promise<void> {
  if (ns.busy) throw EBUSY;
  ns.busy = true;
  try {
    if (ns.claim) await nd_claim_disable(ns.claim);
    const { raw } = ns;
    ns.raw = null;
    if (raw) await detach_pmem(raw);
  } finally {
    ns.busy = false;
  }
}
