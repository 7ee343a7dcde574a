/**
 * drivers/md/dm-target.ts - what a piece of a mapped device is made of. Linux:
 * drivers/md/dm-{linear,stripe,zero,target,snap}.c, include/linux/device-mapper.h.
 *
 * A target says where a sector of the mapped device lies. `map` is all that differs: linear shifts,
 * striped deals chunks out, error and zero lead nowhere. DAX goes the same way as bios, but by
 * pages: what is not page aligned below is cut off, as in the kernel, so a linear target that
 * starts inside a page gives DAX and bios different bytes.
 */
import type { block_device } from "../../kernel/include/blkdev.ts";
import type { dax_device } from "../../kernel/include/dax.ts";
import { EINVAL, type Errno, is_errno } from "../../kernel/include/errno.ts";

/** A device that a table uses; one a table and device, claimed for as long as the table lives. */
export interface dm_dev {
  readonly bdev: block_device;
  /** "259:0" */
  readonly name: string;
  /** null: no DAX. With `proposals.dm_holder` the mapped device holds it. */
  readonly dax_dev: dax_device | null;
  /** Bytes from the DAX device's start to the partition's. */
  readonly part_off: number;
}

/** Where a run of sectors lies: `dev` null is no device at all. */
export interface dm_place {
  readonly dev: dm_dev;
  readonly sector: number;
}

export interface dm_target {
  readonly type: target_type;
  /** Sectors of the mapped device: [begin, begin + len). */
  readonly begin: number;
  readonly len: number;
  readonly devs: readonly dm_dev[];
  /** Sectors after which a piece of IO must end; 0: only at the end of the target. */
  readonly max_io_len: number;
  /** Of a sector of the mapped device. */
  map(sector: number): dm_place;
  /** Runs of the mapped device, in sectors, that lie in [start, start + len) of `dev`. */
  unmap(dev: dm_dev, start: number, len: number): { start: number; len: number }[];
  /** For `dmsetup table`. */
  readonly params: string;
  /** The areas that the devices must have: sectors. */
  readonly areas: readonly { dev: dm_dev; start: number; len: number }[];
}

export type dm_parts = Omit<dm_target, "type" | "begin" | "len">;

export interface target_type {
  readonly name: string;
  readonly version: string;
  /** "map": as the target's map says; "error": EIO; "zero": zeroes, writes are swallowed. */
  readonly io: "map" | "error" | "zero";
  /** May DAX go through? Not through targets that only bios can serve. */
  readonly direct_access: boolean;
  /** @throws target_error */
  ctr(c: target_request): dm_parts;
}

export interface target_request {
  readonly begin: number;
  readonly len: number;
  readonly args: readonly string[];
  /** Opens "/dev/pmem0" or "259:0" for the table. @throws Errno */
  get_device(name: string): dm_dev;
}

/** A target that cannot be made: the text for the log, the error for the caller. */
export class target_error extends Error {
  readonly is_target_error = true;
  readonly errno: Errno;
  constructor(text: string, errno: Errno = EINVAL) {
    super(text);
    this.errno = errno;
  }
}

export function is_target_error(e: unknown): e is target_error {
  return (e as { is_target_error?: unknown } | null)?.is_target_error === true;
}

function number_of(word: string | undefined, what: string): number {
  if (word === undefined || !/^\d{1,15}$/.test(word)) throw new target_error(what);
  return Number(word);
}

function device_of(c: target_request, word: string | undefined, what: string): dm_dev {
  if (word === undefined) throw new target_error(what);
  try {
    return c.get_device(word);
  } catch (e) {
    if (!is_errno(e)) throw e;
    throw new target_error(what, e);
  }
}

/** The part of [a, a + alen) that lies in [b, b + blen), or null. */
function overlap(a: number, alen: number, b: number, blen: number): [number, number] | null {
  const first = Math.max(a, b);
  const end = Math.min(a + alen, b + blen);
  return first < end ? [first, end - first] : null;
}

/** linear DEVICE START */
function linear(c: target_request): dm_parts {
  const { args, begin, len } = c;
  if (args.length !== 2) throw new target_error("Invalid argument count");
  const start = number_of(args[1], "Invalid device sector");
  const dev = device_of(c, args[0], "Device lookup failed");
  return {
    devs: [dev],
    max_io_len: 0,
    map: (sector) => ({ dev, sector: start + (sector - begin) }),
    unmap(d, first, n) {
      const hit = d === dev ? overlap(first, n, start, len) : null;
      return hit === null ? [] : [{ start: begin + (hit[0] - start), len: hit[1] }];
    },
    params: `${dev.name} ${start}`,
    areas: [{ dev, start, len }],
  };
}

/** striped COUNT CHUNK (DEVICE START)... */
function striped(c: target_request): dm_parts {
  const { args, begin, len } = c;
  if (args.length < 2) throw new target_error("Not enough arguments");
  const count = number_of(args[0], "Invalid stripe count");
  if (count === 0) throw new target_error("Invalid stripe count");
  const chunk = number_of(args[1], "Invalid chunk_size");
  if (chunk === 0) throw new target_error("Invalid chunk_size");
  if (len % count !== 0) {
    throw new target_error("Target length not divisible by number of stripes");
  }
  const width = len / count;
  if (width % chunk !== 0) throw new target_error("Target length not divisible by chunk size");
  if (args.length !== 2 + 2 * count) throw new target_error("Not enough destinations specified");
  const bad = "Couldn't parse stripe destination";
  const stripes = Array.from({ length: count }, (_, i) => {
    const start = number_of(args[3 + 2 * i], bad);
    return { dev: device_of(c, args[2 + 2 * i], bad), start };
  });
  return {
    devs: [...new Set(stripes.map((s) => s.dev))],
    max_io_len: chunk,
    map(sector) {
      const off = sector - begin;
      const nr = Math.floor(off / chunk);
      const { dev, start } = stripes[nr % count]!;
      return { dev, sector: start + Math.floor(nr / count) * chunk + (off % chunk) };
    },
    unmap(d, first, n) {
      const out: { start: number; len: number }[] = [];
      stripes.forEach((s, i) => {
        const hit = s.dev === d ? overlap(first, n, s.start, width) : null;
        if (hit === null) return;
        const end = hit[0] - s.start + hit[1];
        for (let at = hit[0] - s.start; at < end; at += chunk - (at % chunk)) {
          const nr = Math.floor(at / chunk) * count + i;
          const run = Math.min(chunk - (at % chunk), end - at);
          out.push({ start: begin + nr * chunk + (at % chunk), len: run });
        }
      });
      return out.sort((a, b) => a.start - b.start);
    },
    params: `${count} ${chunk} ${stripes.map((s) => `${s.dev.name} ${s.start}`).join(" ")}`,
    areas: stripes.map((s) => ({ dev: s.dev, start: s.start, len: width })),
  };
}

function nowhere(c: target_request): dm_parts {
  if (c.args.length !== 0) throw new target_error("No arguments required");
  return {
    devs: [],
    max_io_len: 0,
    map: () => {
      throw new Error("a target without devices maps nothing");
    },
    unmap: () => [],
    params: "",
    areas: [],
  };
}

/** error takes, and forgets, whatever arguments it is given. */
const error = (c: target_request): dm_parts => nowhere({ ...c, args: [] });

/** snapshot-origin DEVICE: without snapshots, which are not here, the device itself. */
function origin(c: target_request): dm_parts {
  if (c.args.length !== 1) throw new target_error("origin: incorrect number of arguments");
  const dev = device_of(c, c.args[0], "Cannot get target device");
  return { ...linear({ ...c, args: [dev.name, "0"], get_device: () => dev }), params: dev.name };
}

const type = (t: target_type): target_type => Object.freeze(t);

export const target_types: readonly target_type[] = Object.freeze([
  type({ name: "error", version: "v1.6.0", io: "error", direct_access: true, ctr: error }),
  type({ name: "linear", version: "v1.4.0", io: "map", direct_access: true, ctr: linear }),
  type({
    name: "snapshot-origin",
    version: "v1.9.0",
    io: "map",
    direct_access: false,
    ctr: origin,
  }),
  type({ name: "striped", version: "v1.6.0", io: "map", direct_access: true, ctr: striped }),
  type({ name: "zero", version: "v1.2.0", io: "zero", direct_access: false, ctr: nowhere }),
]);
