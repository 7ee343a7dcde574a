/**
 * tools/api/sysfs.ts - reading and writing attributes below /sys. There is no filesystem at /sys:
 * Machine and scripts ask the drivers for an attribute by its path.
 */
import { type sysfs_attr, block_sysfs } from "../../drivers/block/sysfs.ts";
import { dax_sysfs, nd_sysfs } from "../../drivers/nvdimm/sysfs.ts";
import { EACCES, ENOENT } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";

type finder = (kernel: Kernel, rest: string) => sysfs_attr;
const PLACES: readonly (readonly [string, finder])[] = Object.freeze([
  ["/sys/block/", block_sysfs],
  ["/sys/class/block/", block_sysfs],
  ["/sys/bus/nd/devices/", nd_sysfs],
  ["/sys/bus/dax/devices/", dax_sysfs],
] as const);

function find(kernel: Kernel, path: string): sysfs_attr {
  const place = PLACES.find(([prefix]) => path.startsWith(prefix));
  if (!place) throw ENOENT;
  return place[1](kernel, path.slice(place[0].length));
}

/** The attribute's text with its newline. @throws ENOENT */
export function sysfs_read(kernel: Kernel, path: string): string {
  const text = find(kernel, path).show();
  return text === "" ? "" : `${text}\n`;
}

/** @throws ENOENT; EACCES read-only; what the driver answers */
export function sysfs_write(kernel: Kernel, path: string, text: string): void {
  const attr = find(kernel, path);
  if (!attr.store) throw EACCES;
  attr.store(text);
}
