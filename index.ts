/**
 * index.ts - the public API of daxlab: `import { Machine } from "daxlab"`. The kernel's own
 * functions, for `p.in_kernel()`, are in "daxlab/kernel".
 */
export * from "./kernel/include/fcntl.ts";
export * from "./kernel/include/mman.ts";
export {
  MKDEV,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFREG,
} from "./kernel/include/stat.ts";
export type { fiemap_extent, kstat, kstatfs } from "./kernel/include/fs.ts";
export type { trace_event } from "./kernel/trace.ts";
export { is_not_implemented, KernelBug, NotImplementedError } from "./kernel/assert.ts";
export { Deadlock, Hang } from "./kernel/locking/report.ts";
export type { media_snapshot_t, snapshot_options } from "./mm/phys.ts";
export { SignalError, SyscallError, WouldBlock } from "./tools/api/errors.ts";
export { Machine, type machine_options } from "./tools/api/machine.ts";
export type { mapping_info } from "./tools/api/mapping.ts";
export { picture } from "./tools/api/picture.ts";
export { Process, type user_buffer } from "./tools/api/process.ts";
export { checkpoint, run_scenario, scenario, type scenario_options } from "./tools/api/scenario.ts";
export { bytes_to_name, name_to_bytes } from "./kernel/lib/utf8.ts";
