/**
 * tools/api/boot.ts - boots a kernel: each layer's init function in order, lowest first.
 * What the kernel calls upwards (tasks ending, inodes' address spaces) is wired here.
 */
import { Kernel, type KernelOptions } from "../../kernel/kernel.ts";
import type { Machine } from "../../kernel/machine.ts";
import { nvdimm_state } from "../../drivers/nvdimm/nd.ts";
import {
  type nvdimm_options,
  type virtio_pmem_options,
  nfit_register,
  virtio_pmem_register,
} from "../../drivers/nvdimm/nfit.ts";
import { type pmem_device, type pmem_options, attach_pmem } from "../../drivers/nvdimm/pmem.ts";
import { init_buffer } from "../../fs/buffer.ts";
import { init_freeze } from "../../fs/freeze.ts";
import { init_dax } from "../../fs/dax.ts";
import { init_ext4_fs } from "../../fs/ext4/super.ts";
import { init_vfs } from "../../fs/init.ts";
import { init_mm } from "../../mm/mm_init.ts";
import { exit_task } from "./process.ts";

export interface kernel_boot_options extends KernelOptions {
  /** Ordinary memory, bytes; default 1 GiB. */
  dram_bytes?: number;
  /** Persistent memory devices, in the order of their names pmem0, pmem1 ... */
  pmem?: readonly pmem_options[];
  /** NVDIMMs with label areas, on which namespaces are made and found: `ndctl` works on them. */
  nvdimm?: nvdimm_options;
  /** Devices whose memory is the host's: DAX, but never MAP_SYNC. */
  virtio_pmem?: readonly virtio_pmem_options[];
}

export interface booted_kernel {
  kernel: Kernel;
  pmem: pmem_device[];
}

/**
 * Boots a kernel in `machine`: memory, VFS with a RAM file system as root, filesystems, devices.
 */
export async function boot_kernel(
  machine: Machine,
  opts: kernel_boot_options = {},
): Promise<booted_kernel> {
  const kernel = new Kernel(machine, opts);
  init_mm(kernel, opts.dram_bytes === undefined ? {} : { dram_bytes: opts.dram_bytes });
  init_buffer(kernel);
  init_freeze(kernel);
  init_dax(kernel);
  init_ext4_fs(kernel);
  kernel.task_ops = { exit: exit_task };
  const pmem = (opts.pmem ?? []).map((o) => attach_pmem(kernel, o));
  // A disk is called after its region: pmem0 ... are taken.
  nvdimm_state(kernel).next_region = pmem.length;
  if (opts.nvdimm) nfit_register(kernel, opts.nvdimm);
  for (const o of opts.virtio_pmem ?? []) virtio_pmem_register(kernel, o);
  await machine.in_task(kernel, "swapper/0", () => init_vfs(kernel));
  return { kernel, pmem };
}
