/**
 * fs/ext4/extents_status.ts - the extent status cache: what is known about a file's blocks in
 * memory.
 * Linux: fs/ext4/extents_status.c. Differs: sorted arrays instead of a red-black tree, never
 * shrunk; delayed runs are never dropped by anybody but their owner, as in Linux.
 *
 * Units: logical blocks. A run has a status: written, unwritten, hole (known to be one), and
 * delayed (promised to writeback, alone or together with unwritten). A block in no run is simply
 * unknown. Lookups allocate nothing and remember the run they hit. Caller holds i_data_sem (read to
 * look up and to insert what was read from the media, write to change); nothing here sleeps, so the
 * arrays need no lock of their own (Linux: i_es_lock).
 */
import type { inode } from "../../kernel/include/fs.ts";
import { EXT4_I } from "./ext4_fs.ts";

export const EXTENT_STATUS_WRITTEN = 1 << 0;
export const EXTENT_STATUS_UNWRITTEN = 1 << 1;
export const EXTENT_STATUS_DELAYED = 1 << 2;
export const EXTENT_STATUS_HOLE = 1 << 3;
const STATUS_MAPPED = EXTENT_STATUS_WRITTEN | EXTENT_STATUS_UNWRITTEN;

/** One run, as lookups fill it in. */
export interface extent_status {
  es_lblk: number;
  es_len: number;
  es_pblk: number;
  es_status: number;
}
export const new_extent_status = (): extent_status => ({
  es_lblk: 0,
  es_len: 0,
  es_pblk: 0,
  es_status: 0,
});

/** Runs, sorted and disjoint, as parallel arrays. `last` is the index of the last hit. */
export interface ext4_es_tree {
  lblk: number[];
  len: number[];
  pblk: number[];
  status: number[];
  last: number;
}
export const new_es_tree = (): ext4_es_tree => ({
  lblk: [],
  len: [],
  pblk: [],
  status: [],
  last: 0,
});

/**
 * Index of the first run that ends after `lblk` (it may begin later); the count when there is none.
 */
export function es_search(t: ext4_es_tree, lblk: number): number {
  const n = t.lblk.length;
  const c = t.last;
  if (c < n && t.lblk[c]! <= lblk && lblk < t.lblk[c]! + t.len[c]!) return c;
  let lo = 0;
  let hi = n;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (t.lblk[mid]! + t.len[mid]! <= lblk) lo = mid + 1;
    else hi = mid;
  }
  return lo;
}

/** Index of the run that holds `lblk`, or -1. The fast path of every block lookup. */
export function es_find(t: ext4_es_tree, lblk: number): number {
  const c = t.last;
  const hit = c < t.lblk.length && t.lblk[c]! <= lblk && lblk < t.lblk[c]! + t.len[c]!;
  return hit ? c : es_find_other(t, lblk);
}

function es_find_other(t: ext4_es_tree, lblk: number): number {
  const i = es_search(t, lblk);
  if (i >= t.lblk.length || t.lblk[i]! > lblk) return -1;
  t.last = i;
  return i;
}

function copy_out(t: ext4_es_tree, i: number, es: extent_status): void {
  es.es_lblk = t.lblk[i]!;
  es.es_len = t.len[i]!;
  es.es_pblk = t.pblk[i]!;
  es.es_status = t.status[i]!;
}

/** Fills `es` with the run that holds `lblk`; false when nothing is known. */
export function ext4_es_lookup_extent(inode: inode, lblk: number, es: extent_status): boolean {
  const t = EXT4_I(inode).i_es_tree;
  const i = es_find(t, lblk);
  if (i < 0) return false;
  copy_out(t, i, es);
  return true;
}

/** Start of the first run at or after `lblk`, or -1 (Linux: next_lblk). */
export function ext4_es_next(inode: inode, lblk: number): number {
  const t = EXT4_I(inode).i_es_tree;
  const i = es_search(t, lblk);
  return i < t.lblk.length ? t.lblk[i]! : -1;
}

/**
 * The first run in [lblk, end] whose status satisfies `match`, whole (not cut to the range); false
 * and es_len 0 when there is none.
 */
export function ext4_es_find_extent_range(
  inode: inode,
  match: (status: number) => boolean,
  lblk: number,
  end: number,
  es: extent_status,
): boolean {
  const t = EXT4_I(inode).i_es_tree;
  es.es_lblk = es.es_len = es.es_pblk = es.es_status = 0;
  for (let i = es_search(t, lblk); i < t.lblk.length && t.lblk[i]! <= end; i++) {
    if (!match(t.status[i]!)) continue;
    copy_out(t, i, es);
    return true;
  }
  return false;
}
/** Does any run in [lblk, end] match? */
export function ext4_es_scan_range(
  inode: inode,
  match: (status: number) => boolean,
  lblk: number,
  end: number,
): boolean {
  const t = EXT4_I(inode).i_es_tree;
  for (let i = es_search(t, lblk); i < t.lblk.length && t.lblk[i]! <= end; i++) {
    if (match(t.status[i]!)) return true;
  }
  return false;
}
export const ext4_es_is_delayed = (s: number): boolean => (s & EXTENT_STATUS_DELAYED) !== 0;
/** Delayed and nothing else: blocks that count as reserved. */
export const ext4_es_is_delonly = (s: number): boolean =>
  (s & EXTENT_STATUS_DELAYED) !== 0 && (s & STATUS_MAPPED) === 0;
export const ext4_es_is_mapped = (s: number): boolean => (s & STATUS_MAPPED) !== 0;

function splice(t: ext4_es_tree, at: number, drop: number): void {
  t.lblk.splice(at, drop);
  t.len.splice(at, drop);
  t.pblk.splice(at, drop);
  t.status.splice(at, drop);
}
function put(
  t: ext4_es_tree,
  at: number,
  lblk: number,
  len: number,
  pblk: number,
  status: number,
): void {
  if (at === t.lblk.length) {
    t.lblk.push(lblk);
    t.len.push(len);
    t.pblk.push(pblk);
    t.status.push(status);
    return;
  }
  t.lblk.splice(at, 0, lblk);
  t.len.splice(at, 0, len);
  t.pblk.splice(at, 0, pblk);
  t.status.splice(at, 0, status);
}

/**
 * Forgets [lblk, lblk + len). Returns how many blocks of it were delayed and nothing else, which
 * the caller's reservation has to give back.
 */
function es_remove(t: ext4_es_tree, lblk: number, len: number): number {
  const end = lblk + len;
  let reserved = 0;
  let i = es_search(t, lblk);
  while (i < t.lblk.length && t.lblk[i]! < end) {
    const from = t.lblk[i]!;
    const to = from + t.len[i]!;
    const status = t.status[i]!;
    if (ext4_es_is_delonly(status)) reserved += Math.min(to, end) - Math.max(from, lblk);
    const has_pblk = (status & STATUS_MAPPED) !== 0;
    if (from < lblk) {
      t.len[i] = lblk - from;
      if (to > end) {
        put(t, i + 1, end, to - end, has_pblk ? t.pblk[i]! + (end - from) : 0, status);
        break;
      }
      i++;
    } else if (to > end) {
      t.lblk[i] = end;
      t.len[i] = to - end;
      if (has_pblk) t.pblk[i] = t.pblk[i]! + (end - from);
      break;
    } else {
      splice(t, i, 1);
    }
  }
  return reserved;
}

const mergeable = (t: ext4_es_tree, i: number, j: number): boolean =>
  t.status[i] === t.status[j] &&
  t.lblk[i]! + t.len[i]! === t.lblk[j]! &&
  ((t.status[i]! & STATUS_MAPPED) === 0 || t.pblk[i]! + t.len[i]! === t.pblk[j]!);

function es_insert(t: ext4_es_tree, lblk: number, len: number, pblk: number, status: number): void {
  let i = es_search(t, lblk);
  put(t, i, lblk, len, status & STATUS_MAPPED ? pblk : 0, status);
  if (i > 0 && mergeable(t, i - 1, i)) {
    t.len[i - 1] = t.len[i - 1]! + len;
    splice(t, i, 1);
    i--;
  }
  if (i + 1 < t.lblk.length && mergeable(t, i, i + 1)) {
    t.len[i] = t.len[i]! + t.len[i + 1]!;
    splice(t, i + 1, 1);
  }
  t.last = i;
}

/**
 * The run [lblk, lblk + len) now has this status, whatever was known of it before. Returns how many
 * blocks had been delayed only (the caller settles the reservation).
 */
export function ext4_es_insert_extent(
  inode: inode,
  lblk: number,
  len: number,
  pblk: number,
  status: number,
): number {
  if (len <= 0) return 0;
  const ei = EXT4_I(inode);
  const reserved = es_remove(ei.i_es_tree, lblk, len);
  es_insert(ei.i_es_tree, lblk, len, pblk, status);
  ei.i_es_seq++;
  return reserved;
}

/** Adds what was read from the media, where nothing is known yet: what is known wins. */
export function ext4_es_cache_extent(
  inode: inode,
  lblk: number,
  len: number,
  pblk: number,
  status: number,
): void {
  if (len <= 0) return;
  const t = EXT4_I(inode).i_es_tree;
  const i = es_search(t, lblk);
  if (i < t.lblk.length && t.lblk[i]! < lblk + len) return;
  es_insert(t, lblk, len, pblk, status);
}

/** Forgets a range; returns the blocks in it that were delayed only. */
export function ext4_es_remove_extent(inode: inode, lblk: number, len: number): number {
  if (len <= 0) return 0;
  const ei = EXT4_I(inode);
  ei.i_es_seq++;
  return es_remove(ei.i_es_tree, lblk, len);
}

/** Forgets all that the media can tell again (EXT4_IOC_CLEAR_ES_CACHE): keeps delayed runs. */
export function ext4_clear_inode_es(inode: inode): void {
  const t = EXT4_I(inode).i_es_tree;
  for (let i = t.lblk.length - 1; i >= 0; i--) {
    if (!ext4_es_is_delayed(t.status[i]!)) splice(t, i, 1);
  }
  t.last = 0;
}
