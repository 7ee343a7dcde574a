/**
 * fs/fs_state.ts - what iomap, DAX and the buffer cache keep for one Kernel (`kernel.fs_state`).
 * No Linux counterpart: there these are static variables.
 */
import type { wait_queue_head } from "../kernel/include/locks.ts";
import type { address_space } from "../kernel/include/mm_types.ts";
import type { Kernel } from "../kernel/kernel.ts";
import type { dax_range } from "../kernel/include/dax.ts";
import type { buffer_head } from "./buffer/head.ts";
import type { entry_wait_queue, held_entry } from "./dax/lock.ts";
import type { iomap_iter } from "./iomap/iter.ts";

export interface fs_state {
  /** Iterators not in use. */
  readonly iomap_iters: iomap_iter[];
  /** Result of the last dax_direct_access: read at once, before anything can sleep. */
  readonly dax_scratch: dax_range & { recovery: boolean };
  /** DAX entry wait queues by hash of (mapping, first index), made at the first wait. */
  readonly dax_wait_table: Map<number, entry_wait_queue>;
  /** DAX entries that are locked, and by whom. */
  readonly dax_held: held_entry[];
  /** Buffers that an inode's fsync has to write, by i_mapping. */
  readonly assoc_buffers: Map<address_space, Set<buffer_head>>;
  /** Who waits for a device page to fall idle. */
  dax_idle_wait: wait_queue_head | null;
}

export function fs_state(kernel: Kernel): fs_state {
  return (kernel.fs_state ??= make_fs_state()) as fs_state;
}

function make_fs_state(): fs_state {
  return {
    iomap_iters: [],
    dax_scratch: { nr_pages: 0, paddr: 0, pfn: 0, recovery: false },
    dax_wait_table: new Map(),
    dax_held: [],
    dax_idle_wait: null,
    assoc_buffers: new Map(),
  };
}
