/**
 * kernel/include/mf.ts - memory failure: flags, and the tracepoints by which a walk can be
 * followed. Linux: include/linux/mm.h (MF_*), include/ras/ras_event.h. The tracepoints but for
 * memory_failure_event are this project's own.
 */
import { define_trace } from "../trace.ts";

/** The caller holds a reference to the page. */
export const MF_COUNT_INCREASED = 1 << 0;
/** The running task needs the page: its signal says "action required". */
export const MF_ACTION_REQUIRED = 1 << 1;
export const MF_MUST_KILL = 1 << 2;
export const MF_SOFT_OFFLINE = 1 << 3;
/** By software: the memory is good. */
export const MF_SW_SIMULATED = 1 << 5;
/** From 6.8 on: the device goes away, its memory is still good. */
export const MF_MEM_PRE_REMOVE = 1 << 7;

/** A memory failure is being handled: the walk begins. `offset` in bytes of the region. */
export const trace_mf_begin = define_trace("memory_failure", "mf_begin", {
  pfn: "hex",
  flags: "hex",
  region: "str",
  offset: "hex",
});
/**
 * Somebody on the way was asked: "driver" (the page map's owner), "dax_device", "holder",
 * "generic". `error`: "" for success.
 */
export const trace_mf_hop = define_trace("memory_failure", "mf_hop", {
  hop: "str",
  who: "str",
  what: "str",
  error: "str",
});
/** A process with the page in a mapping: told (the signal), or not (why). */
export const trace_mf_task = define_trace("memory_failure", "mf_task", {
  task_pid: "dec",
  task_comm: "str",
  address: "hex",
  lsb: "dec",
  signal: "str",
  why: "str",
});
/** Linux: ras:memory_failure_event. */
export const trace_memory_failure_event = define_trace("memory_failure", "memory_failure_event", {
  pfn: "hex",
  type: "str",
  result: "str",
});
