/**
 * fs/dax/lock.ts - locking DAX entries: one bit in the entry, waiters in a hashed table of queues.
 * Linux: fs/dax.c (dax_entry_waitqueue ... grab_mapping_entry, dax_lock_page). Differs: who holds
 * which entry is known, so a wait is an edge of the wait-for graph.
 *
 * Reading order: get_unlocked_entry() -> dax_lock_entry() -> dax_unlock_entry();
 * grab_mapping_entry()
 *
 * Locks: the bit changes, and is looked at, under i_pages' spinlock, which is dropped around a
 * sleep. So a task that saw the bit is in its queue before the holder can clear it.
 * Keys: (mapping, first index of the entry): all pages of a PMD entry share one lock.
 *
 * Wake-ups: waiters are exclusive. Unlocking wakes the next (WAKE_NEXT); taking an entry out or
 * splitting a PMD wakes all (WAKE_ALL), as they may find other entries. Invariant: a task that was
 * woken and then does not lock the entry passes the wake-up on (put_unlocked_entry), or the next
 * waiter sleeps for ever. wait_entry_unlocked() waits without being exclusive, as its inode may be
 * gone before it could pass anything on.
 */
import { GFP_KERNEL } from "../../kernel/include/gfp.ts";
import { EIO, ENOMEM } from "../../kernel/include/errno.ts";
import type { Sometime } from "../../kernel/include/fs.ts";
import { VM_FAULT_FALLBACK, VM_FAULT_OOM, VM_FAULT_SIGBUS } from "../../kernel/include/mm_types.ts";
import type { address_space, page } from "../../kernel/include/mm_types.ts";
import { S_ISCHR } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { assert } from "../../kernel/assert.ts";
import { guarded } from "../../kernel/guards.ts";
import { behaves } from "../../kernel/release.ts";
import { note_access, sched_point } from "../../kernel/sched/core.ts";
import { LOCK_EXCLUSIVE, WAIT_EVENT } from "../../kernel/sched/task.ts";
import type { task_struct, waitable } from "../../kernel/sched/task.ts";
import {
  XA_RETRY_ENTRY,
  XA_STATE,
  xa_is_value,
  xa_mk_internal,
  xas_error,
  xas_find_conflict,
  xas_load,
  xas_lock,
  xas_nomem,
  xas_reset,
  xas_set,
  xas_set_err,
  xas_store,
  xas_unlock,
} from "../../kernel/lib/xarray.ts";
import type { xa_entry, xa_state } from "../../kernel/lib/xarray.ts";
import { dax_mapping } from "../../mm/address_space.ts";
import { unmap_mapping_pages } from "../../mm/memory.ts";
import { fs_state } from "../fs_state.ts";
import { dax_disassociate_entry, dax_entry_pfn, dax_pfn_page } from "./associate.ts";
import {
  DAX_EMPTY,
  DAX_LOCKED,
  dax_entry_order,
  dax_entry_pages,
  dax_entry_start,
  dax_is_empty_entry,
  dax_is_locked,
  dax_is_pmd_entry,
  dax_is_zero_entry,
  dax_make_entry,
} from "./entry.ts";

export const WAKE_ALL = 0;
export const WAKE_NEXT = 1;
const WAIT_TABLE_BITS = 12;

/** What get_unlocked_entry() answers when something else than a DAX entry lies there. */
export const NOT_A_DAX_ENTRY = -0x1000000;

interface entry_waiter {
  task: task_struct;
  mapping: address_space;
  start: number;
  exclusive: boolean;
}

/** A locked entry and who locked it. */
export interface held_entry {
  task: task_struct;
  mapping: address_space;
  start: number;
}

/** One queue of the table; entries that hash alike share it. */
export class entry_wait_queue implements waitable {
  readonly lock_name = "DAX entry";
  readonly kernel: Kernel;
  /** i_pages locks of the mappings concerned. Not exclusive waiters come first. */
  readonly waiters: entry_waiter[] = [];

  constructor(kernel: Kernel) {
    this.kernel = kernel;
  }

  label(): string {
    const w = this.waiters.find((x) => x.task.waiting_on === this) ?? this.waiters[0];
    return w ? entry_label(w.mapping, w.start) : "";
  }

  blockers(task: task_struct, out: task_struct[]): void {
    const w = this.waiters.find((x) => x.task === task);
    if (!w) return;
    for (const h of fs_state(this.kernel).dax_held) {
      if (h.mapping === w.mapping && h.start === w.start) out.push(h.task);
    }
  }

  cancel_wait(task: task_struct): void {
    const i = this.waiters.findIndex((x) => x.task === task);
    if (i >= 0) this.waiters.splice(i, 1);
  }
}

function entry_label(mapping: address_space, start: number): string {
  return `page ${start} of inode ${mapping.host.i_ino} of ${mapping.host.i_sb.s_id}`;
}

function dax_entry_waitqueue(mapping: address_space, start: number): entry_wait_queue {
  const { kernel, host } = mapping;
  const table = fs_state(kernel).dax_wait_table;
  const key = host.i_ino * 31 + host.i_sb.s_dev + (start % 0x40000000);
  const hash = (Math.imul(key | 0, 0x61c88647) >>> 0) >>> (32 - WAIT_TABLE_BITS);
  let wq = table.get(hash);
  if (!wq) {
    wq = new entry_wait_queue(kernel);
    table.set(hash, wq);
  }
  return wq;
}

/** Whoever waits for the entry (which may be gone by now: what counts is its size) goes on. */
export function dax_wake_entry(
  mapping: address_space,
  xas: xa_state,
  entry: number,
  mode: number,
): void {
  const { kernel } = mapping;
  const table = fs_state(kernel).dax_wait_table;
  if (table.size === 0) return;
  const start = dax_entry_start(entry, xas.xa_index);
  const wq = dax_entry_waitqueue(mapping, start);
  const { sched } = kernel.machine;
  for (let i = 0; i < wq.waiters.length; ) {
    const w = wq.waiters[i]!;
    if (w.mapping !== mapping || w.start !== start) {
      i++;
      continue;
    }
    wq.waiters.splice(i, 1);
    sched.wake(w.task);
    if (w.exclusive && mode === WAKE_NEXT) return;
  }
}

/** Sleeps until the entry's key is woken. Called with i_pages locked, returns with it dropped. */
async function wait_for_key(
  mapping: address_space,
  xas: xa_state,
  entry: number,
  exclusive: boolean,
): Promise<void> {
  const { kernel } = mapping;
  const start = dax_entry_start(entry, xas.xa_index);
  const wq = dax_entry_waitqueue(mapping, start);
  const w = { task: kernel.current, mapping, start, exclusive };
  if (exclusive) wq.waiters.push(w);
  else wq.waiters.unshift(w);
  xas_unlock(xas);
  xas_reset(xas);
  await kernel.machine.sched.block(wq, WAIT_EVENT);
}

async function wait_unlocked_entry(
  mapping: address_space,
  xas: xa_state,
  order: number,
  locked: number,
): Promise<number | null> {
  let entry: number | null = locked;
  do {
    await wait_for_key(mapping, xas, entry, true);
    xas_lock(xas);
    entry = peek_entry(mapping, xas, order);
  } while (entry !== null && entry >= 0 && dax_is_locked(entry));
  return entry;
}

/** The entry that is in the way of one of `order`: null, XA_RETRY_ENTRY (smaller), or the entry. */
function peek_entry(mapping: address_space, xas: xa_state, order: number): number | null {
  const entry = xas_find_conflict(xas);
  if (entry === null) return null;
  if (mapping.kernel.WARN_ON_ONCE(!xa_is_value(entry), "fs/dax: a page in a DAX mapping")) {
    return NOT_A_DAX_ENTRY;
  }
  if (dax_entry_order(entry as number) < order) return XA_RETRY_ENTRY;
  return entry as number;
}

/**
 * The entry at the cursor once nobody has it locked; null when there is none, XA_RETRY_ENTRY when
 * it is of a smaller order than asked for. i_pages is locked before and after (dropped meanwhile,
 * the cursor moved, if it had to wait). Lock the entry or call put_unlocked_entry().
 */
export function get_unlocked_entry(
  mapping: address_space,
  xas: xa_state,
  order: number,
): Sometime<number | null> {
  const entry = peek_entry(mapping, xas, order);
  if (entry === null || entry < 0 || !dax_is_locked(entry)) return entry;
  return wait_unlocked_entry(mapping, xas, order, entry);
}

/**
 * For a walk that stands on a locked entry: the entry once it is unlocked, or null when the walk
 * has to leave it. From 6.15 on the walk waits. Before, it asks for what is in the way *behind* the
 * cursor, which is nothing: a locked entry is passed by, its data not flushed, its pages not
 * checked.
 */
export function get_scanned_entry(
  mapping: address_space,
  xas: xa_state,
  locked: number,
): Sometime<number | null> {
  if (!behaves(mapping.kernel, "dax_scan_waits")) return get_unlocked_entry(mapping, xas, 0);
  return wait_entry_unlocked_exclusive(mapping, xas, locked);
}

async function wait_entry_unlocked_exclusive(
  mapping: address_space,
  xas: xa_state,
  locked: number,
): Promise<number | null> {
  let entry: xa_entry = locked;
  while (xa_is_value(entry) && dax_is_locked(entry)) {
    await wait_for_key(mapping, xas, entry, true);
    xas_lock(xas);
    entry = xas_load(xas);
  }
  return xa_is_value(entry) ? entry : null;
}

/** Passes a wake-up on: for who got an unlocked entry and left it unlocked. */
export function put_unlocked_entry(
  mapping: address_space,
  xas: xa_state,
  entry: number | null,
  mode: number,
): void {
  if (entry !== null && entry >= 0) dax_wake_entry(mapping, xas, entry, mode);
}

/** Sets the lock bit of the entry the cursor stands on, storing `entry`. i_pages locked. */
export function dax_lock_entry(mapping: address_space, xas: xa_state, entry: number): void {
  xas_store(xas, entry | DAX_LOCKED);
  if (xas_error(xas) !== 0) return;
  const start = dax_entry_start(entry, xas.xa_index);
  const held = fs_state(mapping.kernel).dax_held;
  const task = mapping.kernel.current;
  // An entry that is replaced while locked stays held by the same task.
  for (const h of held) if (h.mapping === mapping && h.start === start) return;
  held.push({ task, mapping, start });
  // Set under i_pages without waiting: to the order of locks a trylock.
  const { dep, lockdep } = mapping.kernel.machine;
  if (dep !== null && lockdep !== null) {
    dep.acquire(task, lockdep.pseudo.dax_entry, LOCK_EXCLUSIVE, 0, true);
  }
}

export function dax_forget_holder(mapping: address_space, xas: xa_state, entry: number): void {
  const start = dax_entry_start(entry, xas.xa_index);
  const held = fs_state(mapping.kernel).dax_held;
  for (let i = held.length - 1; i >= 0; i--) {
    const h = held[i]!;
    if (h.mapping !== mapping || h.start !== start) continue;
    held[i] = held.at(-1)!;
    held.pop();
    const { dep, lockdep } = mapping.kernel.machine;
    if (dep !== null && lockdep !== null) {
      dep.release(h.task, lockdep.pseudo.dax_entry, LOCK_EXCLUSIVE);
    }
    return;
  }
}

/** Stores `entry`, which has no lock bit, over the locked one and wakes the next. */
export function dax_unlock_entry(mapping: address_space, xas: xa_state, entry: number): void {
  assert(!dax_is_locked(entry), "unlock with the lock bit set");
  xas_reset(xas);
  xas_lock(xas);
  const old = xas_store(xas, entry);
  xas_unlock(xas);
  assert(typeof old === "number" && dax_is_locked(old), "unlock of an entry that is not locked");
  dax_forget_holder(mapping, xas, entry);
  dax_wake_entry(mapping, xas, entry, WAKE_NEXT);
}

/**
 * Makes a PMD-sized zero or empty entry go, so that a page entry fits. i_pages locked throughout.
 */
function downgrade(mapping: address_space, xas: xa_state, index: number, entry: number): void {
  dax_disassociate_entry(mapping, entry, false);
  xas_store(xas, null);
  dax_forget_holder(mapping, xas, entry);
  dax_wake_entry(mapping, xas, entry, WAKE_ALL);
  mapping.nrpages -= 1 << dax_entry_order(entry);
  xas_set(xas, index);
}

async function unmap_and_downgrade(
  mapping: address_space,
  xas: xa_state,
  order: number,
  index: number,
  entry: number,
): Promise<number> {
  // Locked, the entry stays as it is while i_pages is dropped.
  xas_unlock(xas);
  const nr = 1 << dax_entry_order(entry);
  await unmap_mapping_pages(mapping, index - (index % nr), nr, false);
  xas_reset(xas);
  xas_lock(xas);
  downgrade(mapping, xas, index, entry);
  return grab_finish(mapping, xas, order, null);
}

/** Locks what is there, or a new empty entry; drops i_pages. */
function grab_finish(
  mapping: address_space,
  xas: xa_state,
  order: number,
  found: number | null,
): Sometime<number> {
  let entry = found;
  if (entry === null) {
    entry = dax_make_entry(0, order, DAX_EMPTY);
    dax_lock_entry(mapping, xas, entry);
    if (xas_error(xas) === 0) mapping.nrpages += 1 << order;
  } else {
    dax_lock_entry(mapping, xas, entry);
  }
  xas_unlock(xas);
  if (xas_nomem(xas, GFP_KERNEL)) return grab_mapping_entry(mapping, xas, order);
  if (xas_error(xas) === 0) return entry;
  return xa_mk_internal(xas_error(xas) === -ENOMEM.errno ? VM_FAULT_OOM : VM_FAULT_SIGBUS);
}

function grab_found(
  mapping: address_space,
  xas: xa_state,
  order: number,
  index: number,
  entry: number | null,
): Sometime<number> {
  if (entry === XA_RETRY_ENTRY) {
    xas_unlock(xas);
    return xa_mk_internal(VM_FAULT_FALLBACK);
  }
  if (entry === NOT_A_DAX_ENTRY) {
    xas_set_err(xas, -EIO.errno);
    xas_unlock(xas);
    return xa_mk_internal(VM_FAULT_SIGBUS);
  }
  const in_the_way =
    entry !== null && order === 0 && dax_is_pmd_entry(entry) && dax_entry_pages(entry) === 0;
  if (!in_the_way) return grab_finish(mapping, xas, order, entry);
  dax_lock_entry(mapping, xas, entry);
  if (dax_is_zero_entry(entry)) return unmap_and_downgrade(mapping, xas, order, index, entry);
  // Nothing maps an empty entry.
  downgrade(mapping, xas, index, entry);
  return grab_finish(mapping, xas, order, null);
}

async function grab_rest(
  mapping: address_space,
  xas: xa_state,
  order: number,
  index: number,
  waiting: Promise<number | null>,
): Promise<number> {
  const entry = await waiting;
  return grab_found(mapping, xas, order, index, entry);
}

/**
 * Locks the entry at the cursor, making an empty one if there is none. Page entries win over PMD
 * entries: asked for a PMD where pages lie, the answer is FALLBACK; asked for a page under a PMD
 * without storage (zero or empty), the PMD goes; a PMD with storage stays and is what is locked.
 * Returns the unlocked form of the entry (>= 0), or a VM_FAULT code as xa_mk_internal(code).
 */
export function grab_mapping_entry(
  mapping: address_space,
  xas: xa_state,
  order: number,
): Sometime<number> {
  const index = xas.xa_index;
  xas_lock(xas);
  const entry = get_unlocked_entry(mapping, xas, order);
  if (entry !== null && typeof entry === "object") {
    return grab_rest(mapping, xas, order, index, entry);
  }
  return grab_found(mapping, xas, order, index, entry);
}

/** A cookie for "nothing to lock here, and that is fine". */
export const DAX_NO_ENTRY = -1;

/**
 * Locks the entry of a page: for memory failure, which comes from the frame. Returns a cookie for
 * dax_unlock_page(), DAX_NO_ENTRY for a device-dax page, null when the page belongs to no file.
 */
export async function dax_lock_page(page: page): Promise<number | null> {
  for (;;) {
    const { mapping } = page;
    if (!mapping || !dax_mapping(mapping)) return null;
    note_access(mapping.kernel, page, false);
    if (S_ISCHR(mapping.host.i_mode)) return DAX_NO_ENTRY;
    // Nothing but RCU keeps the mapping until its lock is taken: the page may change hands here.
    const p = sched_point(mapping.kernel);
    if (p) await p;
    const xas = XA_STATE(mapping.i_pages, page.index);
    xas_lock(xas);
    if (mapping !== page.mapping && guarded(mapping.kernel, "dax_lock_page_recheck")) {
      xas_unlock(xas);
      continue;
    }
    xas_set(xas, page.index);
    const entry = xas_load(xas);
    if (!xa_is_value(entry)) {
      xas_unlock(xas);
      return null;
    }
    if (dax_is_locked(entry)) {
      await wait_for_key(mapping, xas, entry, false);
      continue;
    }
    dax_lock_entry(mapping, xas, entry);
    xas_unlock(xas);
    return entry;
  }
}

export function dax_unlock_page(page: page, cookie: number): void {
  const { mapping } = page;
  if (cookie === DAX_NO_ENTRY) return;
  assert(mapping, "the page lost its file while its entry was locked");
  dax_unlock_entry(mapping, XA_STATE(mapping.i_pages, page.index), cookie);
}

/**
 * Locks the entry at `index` of a file. `page` is null and the cookie DAX_NO_ENTRY where there is
 * no storage to lock; the cookie is null when the mapping is no DAX mapping.
 */
export async function dax_lock_mapping_entry(
  mapping: address_space,
  index: number,
): Promise<{ cookie: number | null; page: page | null }> {
  for (;;) {
    if (!dax_mapping(mapping)) return { cookie: null, page: null };
    const xas = XA_STATE(mapping.i_pages, index);
    xas_lock(xas);
    const entry = xas_load(xas);
    if (xa_is_value(entry) && dax_is_locked(entry)) {
      await wait_for_key(mapping, xas, entry, false);
      continue;
    }
    const nothing = !xa_is_value(entry) || dax_is_zero_entry(entry) || dax_is_empty_entry(entry);
    if (!nothing) dax_lock_entry(mapping, xas, entry);
    xas_unlock(xas);
    if (nothing) return { cookie: DAX_NO_ENTRY, page: null };
    return { cookie: entry, page: dax_pfn_page(mapping, dax_entry_pfn(mapping, entry)) };
  }
}

export function dax_unlock_mapping_entry(
  mapping: address_space,
  index: number,
  cookie: number,
): void {
  if (cookie === DAX_NO_ENTRY) return;
  dax_unlock_entry(mapping, XA_STATE(mapping.i_pages, index), cookie);
}

/** For reports: every locked entry. */
export function held_dax_entries(kernel: Kernel): string[] {
  return fs_state(kernel).dax_held.map(
    (h) => `${h.task} holds DAX entry of ${entry_label(h.mapping, h.start)}`,
  );
}
