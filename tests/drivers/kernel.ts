/** tests/drivers/kernel.ts - a kernel with memory and drivers, but no filesystem. */
import { Kernel } from "../../kernel/kernel.ts";
import type { KernelOptions } from "../../kernel/kernel.ts";
import { Machine } from "../../kernel/machine.ts";
import type { MachineOptions } from "../../kernel/machine.ts";
import { init_mm } from "../../mm/mm_init.ts";

export const MIB = 1024 * 1024;

export function drivers_kernel(opts: KernelOptions & { machine?: MachineOptions } = {}): Kernel {
  const kernel = new Kernel(new Machine(opts.machine), opts);
  init_mm(kernel, { dram_bytes: 64 * MIB });
  return kernel;
}
