/**
 * drivers/dax/bus.ts - the dax bus: ranges of memory, the devices cut from them, and their drivers.
 * Linux: drivers/dax/{bus.c,dax-private.h}. Differs: a device has one range (regions of NVDIMMs are
 * static: one device, which fills its region), and nothing can be resized.
 *
 * Reading order: alloc_dax_region() -> devm_create_dev_dax() -> dax_bus_probe() -> dax_bus_remove()
 * -> unregister_dev_dax().
 *
 * The node below /dev lives as long as the device. Opening it works while a driver is bound; files
 * that are open then keep the device (and its minor number), not the driver: without one their
 * mappings fault with SIGBUS, until one is bound again.
 */
import type { dax_device } from "../../kernel/include/dax.ts";
import { EBUSY, EINVAL, ENODEV } from "../../kernel/include/errno.ts";
import type { dev_pagemap } from "../../kernel/include/mm_types.ts";
import { S_IFCHR } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { devnode_create, devnode_delete } from "../../kernel/vfs/devnode.ts";
import { unmap_mapping_range } from "../../mm/memory.ts";
import { alloc_dax, dax_devt, dax_inode, kill_dax, put_dax } from "./super.ts";

/** Memory that one driver (of a namespace) gives to the bus. Bytes. */
export interface dax_region {
  readonly kernel: Kernel;
  readonly id: number;
  readonly start: number;
  readonly size: number;
  readonly align: number;
  readonly target_node: number;
  /** An access met a bad line: whoever gave the memory notes it. */
  media_error: ((paddr: number) => void) | null;
}

export interface dax_device_driver {
  readonly name: string;
  /** @throws what the driver refuses the device with */
  probe(dev_dax: dev_dax): void;
  remove(dev_dax: dev_dax): Promise<void>;
}

/** A range of a region as a character device. */
export interface dev_dax {
  readonly kernel: Kernel;
  readonly region: dax_region;
  /** "dax0.0" */
  readonly name: string;
  /** Physical address and bytes. */
  readonly start: number;
  readonly size: number;
  /** Bytes: the size of every mapping's pages; addresses and lengths must be multiples of it. */
  readonly align: number;
  /** Number of the character device. */
  readonly dev: number;
  readonly dax_dev: dax_device;
  /** While a driver is bound. */
  driver: dax_device_driver | null;
  pgmap: dev_pagemap | null;
  /** A driver is being unbound and waits. */
  busy: boolean;
}

/** Null when the range does not keep to its own alignment. */
export function alloc_dax_region(
  kernel: Kernel,
  id: number,
  range: { start: number; size: number },
  align: number,
  target_node = 0,
): dax_region | null {
  const { start, size } = range;
  if (size <= 0 || start % align !== 0 || size % align !== 0) return null;
  return { kernel, id, start, size, align, target_node, media_error: null };
}

/**
 * The device that fills its region, as `dax<region>.<id>`, with `driver` bound.
 * @throws what the driver refuses it with; nothing is left then
 */
export function devm_create_dev_dax(
  region: dax_region,
  id: number,
  driver: dax_device_driver,
): dev_dax {
  const { kernel, start, size, align } = region;
  const name = `dax${region.id}.${id}`;
  const dax_dev = alloc_dax(kernel, null, null, start / kernel.PAGE_SIZE, name);
  // Until a driver is ready; nobody can have used it, so there is nobody to wait for.
  dax_dev.alive = false;
  const dev = dax_devt(dax_dev);
  const state = { driver: null, pgmap: null, busy: false };
  const dev_dax: dev_dax = { kernel, region, name, start, size, align, dev, dax_dev, ...state };
  dax_dev.private_data = dev_dax;
  try {
    dax_bus_probe(dev_dax, driver);
  } catch (e) {
    put_dax(dax_dev);
    throw e;
  }
  devnode_create(kernel, name, S_IFCHR | 0o600, dev);
  return dev_dax;
}

/** Binds a driver. @throws EBUSY: one is bound, EINVAL: alignment, or what the driver throws */
export function dax_bus_probe(dev_dax: dev_dax, driver: dax_device_driver): void {
  if (dev_dax.driver !== null || dev_dax.busy) throw EBUSY;
  if (dev_dax.align < dev_dax.kernel.PAGE_SIZE) throw EINVAL;
  driver.probe(dev_dax);
  dev_dax.driver = driver;
}

/** Unbinds the driver. @throws ENODEV: none is bound */
export async function dax_bus_remove(dev_dax: dev_dax): Promise<void> {
  const { driver } = dev_dax;
  if (driver === null) throw ENODEV;
  dev_dax.driver = null;
  dev_dax.busy = true;
  try {
    await driver.remove(dev_dax);
  } finally {
    dev_dax.busy = false;
  }
}

/**
 * No access any more: no new fault is answered, faults under way are waited for, and what is mapped
 * goes. Pinned pages are not waited for: who has them reads nothing more (EFAULT).
 */
export async function kill_dev_dax(dev_dax: dev_dax): Promise<void> {
  await kill_dax(dev_dax.dax_dev);
  const p = unmap_mapping_range(dax_inode(dev_dax.dax_dev).i_mapping, 0, 0, true);
  if (p) await p;
}

/** The end of a device. Files that are open keep its number in use. */
export async function unregister_dev_dax(dev_dax: dev_dax): Promise<void> {
  await kill_dev_dax(dev_dax);
  devnode_delete(dev_dax.kernel, dev_dax.name);
  if (dev_dax.driver !== null) await dax_bus_remove(dev_dax);
  put_dax(dev_dax.dax_dev);
}
