/**
 * kernel/guards.ts - what the kernel does only because something else may happen at the same time,
 * each with a name, so that an exploration can leave one out and show what it was for.
 *
 * Code asks `guarded(kernel, "mf_mutex")` where it would otherwise just do it. All guards are in
 * place unless `kernel.unguarded` names them: a scenario turns one off with unguard(). Never off in
 * a kernel that somebody uses.
 */
import type { Kernel } from "./kernel.ts";

/** What each keeps from happening. */
const GUARDS = Object.freeze({
  mf_mutex: "two memory failures are handled at once",
  mf_dax_entry_lock: "the page changes its file, or is mapped, while its users are looked up",
  dax_lock_page_recheck: "memory failure locks an entry of a file that has given the page up",
  mf_pgmap_ref: "the page descriptors go while memory failure works on one",
  dax_kill_drains: "the device is dead and forgotten while a read section still uses it",
  dax_ops_before_holder: "a released holder is told, or its successor has no operations",
  dax_layout_break: "blocks are freed while somebody has their pages pinned",
} satisfies Record<string, string>);

export type guard = keyof typeof GUARDS;

export function guarded(kernel: Kernel, name: guard): boolean {
  return kernel.unguarded === null || !kernel.unguarded.has(name);
}

/** Leaves a guard out from now on. */
export function unguard(kernel: Kernel, name: guard): void {
  kernel.unguarded = new Set([...(kernel.unguarded ?? []), name]);
}

/** For the docs and for scenarios: every guard and what happens without it. */
export function guard_table(): { name: guard; without: string }[] {
  return (Object.keys(GUARDS) as guard[]).map((name) => ({ name, without: GUARDS[name] }));
}
