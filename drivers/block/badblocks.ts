/**
 * drivers/block/badblocks.ts - the list of bad sectors of a disk.
 * Linux: block/badblocks.c. Differs: no "unacknowledged" state, which only md uses.
 *
 * All positions and lengths are 512-byte sectors of the whole disk. As in the kernel's table a
 * range is at most 512 sectors long, so a longer one is several lines of the sysfs text.
 */
import { EINVAL, ENOSPC } from "../../kernel/include/errno.ts";

export const BB_MAX_LEN = 512;
export const MAX_BADBLOCKS = 512;

interface bad_range {
  start: number;
  len: number;
}

export interface bad_hit {
  first_bad: number;
  bad_sectors: number;
}

export class badblocks {
  /** Sorted, not overlapping; neighbours are joined as far as BB_MAX_LEN lets them. */
  private ranges: bad_range[] = [];

  get count(): number {
    return this.ranges.length;
  }

  list(): readonly Readonly<bad_range>[] {
    return this.ranges;
  }

  /** First bad range in [s, s + sectors), or null. */
  check(s: number, sectors: number): bad_hit | null {
    if (this.ranges.length === 0) return null;
    const end = s + sectors;
    for (const r of this.ranges) {
      if (r.start >= end) return null;
      if (r.start + r.len > s) return { first_bad: r.start, bad_sectors: r.len };
    }
    return null;
  }

  /** Throws ENOSPC, changing nothing, when the table would overflow. */
  set(s: number, sectors: number): void {
    const kept = this.without(s, s + sectors);
    kept.push({ start: s, len: sectors });
    const joined = join(kept);
    if (joined.length > MAX_BADBLOCKS) throw ENOSPC;
    this.ranges = joined;
  }

  clear(s: number, sectors: number): void {
    const kept = this.without(s, s + sectors);
    if (kept.length > MAX_BADBLOCKS) throw ENOSPC;
    this.ranges = kept;
  }

  private without(from: number, to: number): bad_range[] {
    const out: bad_range[] = [];
    for (const r of this.ranges) {
      const end = r.start + r.len;
      if (end <= from || r.start >= to) {
        out.push(r);
        continue;
      }
      if (r.start < from) out.push({ start: r.start, len: from - r.start });
      if (end > to) out.push({ start: to, len: end - to });
    }
    return out;
  }
}

function join(ranges: bad_range[]): bad_range[] {
  const sorted = [...ranges].sort((a, b) => a.start - b.start);
  const runs: bad_range[] = [];
  for (const r of sorted) {
    const last = runs.at(-1);
    if (last && last.start + last.len === r.start) last.len += r.len;
    else runs.push({ ...r });
  }
  return runs.flatMap((run) => {
    const pieces: bad_range[] = [];
    for (let at = 0; at < run.len; at += BB_MAX_LEN) {
      pieces.push({ start: run.start + at, len: Math.min(BB_MAX_LEN, run.len - at) });
    }
    return pieces;
  });
}

/** The text of /sys/block/DISK/badblocks. */
export function badblocks_show(bb: badblocks): string {
  return bb
    .list()
    .map((r) => `${r.start} ${r.len}\n`)
    .join("");
}

/** What a write to /sys/block/DISK/badblocks does: "SECTOR LENGTH". */
export function badblocks_store(bb: badblocks, text: string): void {
  const m = /^\s*(\d+)\s+(\d+)\n?$/.exec(text);
  if (!m) throw EINVAL;
  const sector = Number(m[1]);
  const length = Number(m[2]);
  if (length <= 0 || !Number.isSafeInteger(sector + length)) throw EINVAL;
  bb.set(sector, length);
}
