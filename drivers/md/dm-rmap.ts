/**
 * drivers/md/dm-rmap.ts - the way back: from physical memory to the mapped devices above it. No
 * Linux counterpart: for who wants to know what lies on a bad page.
 */
import type { dax_device } from "../../kernel/include/dax.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { dm_state } from "./dm-ioctl.ts";
import { dm_table_rmap } from "./dm-table.ts";
import type { mapped_device } from "./dm.ts";

/** The mapped device whose DAX device this is; null: of another driver. */
function dm_of_dax(kernel: Kernel, dev: dax_device): mapped_device | null {
  for (const { md } of dm_state(kernel).cells.values()) if (md.dax_dev === dev) return md;
  return null;
}

function below(md: mapped_device): dax_device[] {
  const devices = (md.map?.devs ?? []).map((d) => d.dax_dev);
  return [...new Set(devices)].filter((d) => d !== null);
}

/** The DAX devices with memory of their own under `dev`: itself, if it is no mapped device. */
export function dax_base_devices(kernel: Kernel, dev: dax_device): dax_device[] {
  const md = dm_of_dax(kernel, dev);
  return md ? below(md).flatMap((d) => dax_base_devices(kernel, d)) : [dev];
}

/** The byte of `dev` that lies at a physical address; null if none, or perhaps beyond the end. */
export function dax_offset_of(kernel: Kernel, dev: dax_device, paddr: number): number | null {
  const md = dm_of_dax(kernel, dev);
  if (!md) {
    const off = paddr - dev.base_pfn * kernel.PAGE_SIZE;
    return off >= 0 ? off : null;
  }
  for (const d of below(md)) {
    const off = dax_offset_of(kernel, d, paddr);
    const [p] = off === null ? [] : dm_table_rmap(md.map, d, off - (off % 512), 512);
    if (p) return p.offset + (paddr % 512);
  }
  return null;
}
