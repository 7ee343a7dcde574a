/**
 * kernel/release.ts - what differs between kernel releases, in one table.
 *
 * Code asks `since(kernel, "6.2")` or, better, `behaves(kernel, "dax_refcount_from_1")`, whose row
 * says what it is and from when on. The recorded kernel, and the default, is 6.1. Another release
 * is 6.1 with other answers in the rows below, nothing more: "4.8" has no MAP_SYNC, but today's
 * locks.
 */
export type kernel_release =
  | "4.8"
  | "4.15"
  | "5.15"
  | "6.1"
  | "6.2"
  | "6.3"
  | "6.4"
  | "6.5"
  | "6.6"
  | "6.8"
  | "6.12"
  | "6.15"
  | "6.17";

export const DEFAULT_RELEASE: kernel_release = "6.1";
export const RELEASES: readonly kernel_release[] = Object.freeze([
  "4.8",
  "4.15",
  "5.15",
  "6.1",
  "6.2",
  "6.3",
  "6.4",
  "6.5",
  "6.6",
  "6.8",
  "6.12",
  "6.15",
  "6.17",
] as const);

interface difference {
  readonly since: kernel_release;
  readonly what: string;
}

/** One row per behaviour that changed; a row is added with the code that asks for it. */
const DIFFERENCES = Object.freeze({
  map_sync: {
    since: "4.15",
    what: "mmap knows MAP_SHARED_VALIDATE and MAP_SYNC; before, the former is no type of mapping",
  },
  dax_share_fixes: {
    since: "6.2",
    what: "shared DAX entries are counted right, copies from holes are zeroes, unshare exists",
  },
  dax_read_fault_keeps_clean: {
    since: "6.2",
    what: "a read fault does not tag its DAX entry dirty",
  },
  madvise_knows_device_pmds: {
    since: "6.5",
    what: "MADV_COLD and MADV_PAGEOUT pass 2 MiB entries of devices by; before, they clear them",
  },
  dax_holder_pre_remove: { since: "6.8", what: "holders are told before the device goes away" },
  dax_scan_waits: {
    since: "6.15",
    what: "fsync and layout breaking wait for a locked DAX entry; before, they pass it by",
  },
  dax_page_refcounts: {
    since: "6.15",
    what: "DAX pages are counted like others: free is 0, a mapping holds a reference",
  },
} satisfies Record<string, difference>);

export type behaviour = keyof typeof DIFFERENCES;

/** True if the kernel's release is `release` or later. */
export function since(
  kernel: { readonly release: kernel_release },
  release: kernel_release,
): boolean {
  return RELEASES.indexOf(kernel.release) >= RELEASES.indexOf(release);
}

export function behaves(kernel: { readonly release: kernel_release }, what: behaviour): boolean {
  return since(kernel, DIFFERENCES[what].since);
}

/** For the docs and `daxlab --unsupported`: every row. */
export function release_table(): { name: string; since: kernel_release; what: string }[] {
  return Object.entries(DIFFERENCES).map(([name, d]) => ({ name, ...d }));
}
