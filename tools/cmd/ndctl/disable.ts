/**
 * tools/cmd/ndctl/disable.ts - taking a namespace out of use: never from under a filesystem.
 */
import { nd_claim_detach } from "../../../drivers/nvdimm/claim.ts";
import {
  nd_namespace_disable,
  nd_namespace_enabled,
} from "../../../drivers/nvdimm/namespace_driver.ts";
import type { nd_namespace } from "../../../drivers/nvdimm/nd.ts";
import { EBUSY } from "../../../kernel/include/errno.ts";

/** Info blocks lie at 0 and 4096. */
const INFO_SIZE = 8192;

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
  // the tool deletes the pfn, dax or btt: until it is enabled, the namespace is a raw one
  if (ns.claim) nd_claim_detach(ns.claim);
}

/**
 * Forgets what claimed the namespace, and what a filesystem had at its start: the first 8192 bytes
 * become zeroes.
 */
export function zero_info_blocks(ns: nd_namespace): void {
  const { phys } = ns.region.bus.kernel;
  if (ns.size < INFO_SIZE || phys.is_zero(ns.start, INFO_SIZE)) return;
  phys.memcpy_flushcache(ns.start, new Uint8Array(INFO_SIZE), 0, INFO_SIZE);
  phys.sfence();
}
