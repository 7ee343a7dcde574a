/**
 * tools/cmd/ndctl/disable.ts - taking a namespace out of use: never from under a filesystem.
 */
import { PFN_SB_OFFSET, PFN_SB_SIZE } from "../../../drivers/nvdimm/pfn.ts";
import { nd_namespace_disable, nd_namespace_enabled } from "../../../drivers/nvdimm/namespace_driver.ts";
import type { nd_namespace } from "../../../drivers/nvdimm/nd.ts";
import { EBUSY } from "../../../kernel/include/errno.ts";

const SIGNATURES = Object.freeze(["NVDIMM_PFN_INFO", "NVDIMM_DAX_INFO", "BTT_ARENA_INFO"]);

/** Its disk or one of the partitions is claimed: mounted, swap, another device's part. */
export function namespace_in_use(ns: nd_namespace): boolean {
  const disk = (ns.raw ?? ns.claim?.pmem ?? ns.claim?.btt)?.disk;
  return disk !== undefined && [...disk.part_tbl.values()].some((b) => b.bd_holder !== null);
}

/** @throws EBUSY in use */
export async function disable_safe(ns: nd_namespace): Promise<void> {
  if (!nd_namespace_enabled(ns)) return;
  if (namespace_in_use(ns)) throw EBUSY;
  await nd_namespace_disable(ns);
}

/** Forgets what claimed the namespace: info blocks at 0 and 4096 become zeroes. */
export function zero_info_blocks(ns: nd_namespace): void {
  const { phys } = ns.region.bus.kernel;
  for (const off of [0, PFN_SB_OFFSET]) {
    if (ns.size < off + PFN_SB_SIZE) continue;
    const head = new Uint8Array(16);
    phys.copy_from(ns.start + off, head, 0, 16);
    const text = String.fromCharCode(...head);
    if (!SIGNATURES.some((s) => text.startsWith(s))) continue;
    phys.memcpy_flushcache(ns.start + off, new Uint8Array(PFN_SB_SIZE), 0, PFN_SB_SIZE);
    phys.sfence();
  }
}
