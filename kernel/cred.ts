/**
 * kernel/cred.ts - who acts, and what they may. Linux: kernel/{cred,capability,groups}.c.
 * Credentials are immutable; a change makes new ones.
 */
import type { cred } from "./include/cred.ts";
import type { Kernel } from "./kernel.ts";

/** All capabilities up to CAP_CHECKPOINT_RESTORE (40). */
const FULL_LO = 0xffffffff;
const FULL_HI = 0x1ff;

export const init_cred: cred = Object.freeze({
  uid: 0,
  gid: 0,
  euid: 0,
  egid: 0,
  fsuid: 0,
  fsgid: 0,
  groups: Object.freeze([]),
  cap_lo: FULL_LO,
  cap_hi: FULL_HI,
});

/** Credentials of a login as `uid`: root has every capability, others none. */
export function make_cred(uid: number, gid: number, groups: readonly number[] = []): cred {
  const root = uid === 0;
  return Object.freeze({
    uid,
    gid,
    euid: uid,
    egid: gid,
    fsuid: uid,
    fsgid: gid,
    groups: Object.freeze([...groups]),
    cap_lo: root ? FULL_LO : 0,
    cap_hi: root ? FULL_HI : 0,
  });
}

export function cred_has_cap(c: cred, cap: number): boolean {
  return cap < 32 ? ((c.cap_lo >>> cap) & 1) === 1 : ((c.cap_hi >>> (cap - 32)) & 1) === 1;
}

/** A copy without (or with) one capability. */
export function cred_with_cap(c: cred, cap: number, on: boolean): cred {
  const bit = cap < 32 ? 1 << cap : 1 << (cap - 32);
  const set = (word: number): number => (on ? word | bit : word & ~bit) >>> 0;
  return Object.freeze({
    ...c,
    cap_lo: cap < 32 ? set(c.cap_lo) : c.cap_lo,
    cap_hi: cap < 32 ? c.cap_hi : set(c.cap_hi),
  });
}

export function current_cred(kernel: Kernel): cred {
  return kernel.current.cred;
}
export function current_fsuid(kernel: Kernel): number {
  return kernel.current.cred.fsuid;
}
export function current_fsgid(kernel: Kernel): number {
  return kernel.current.cred.fsgid;
}
export function capable(kernel: Kernel, cap: number): boolean {
  return cred_has_cap(kernel.current.cred, cap);
}

/** Is `gid` the filesystem group or one of the supplementary groups of the caller? */
export function in_group_p(kernel: Kernel, gid: number): boolean {
  const c = kernel.current.cred;
  return c.fsgid === gid || c.groups.includes(gid);
}
