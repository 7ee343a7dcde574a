/**
 * drivers/md/dm-table.ts - the table of a mapped device: targets side by side, without gaps. Linux:
 * drivers/md/dm-table.c. A table never changes; a device gets another one.
 */
import { BLK_OPEN_EXCL, BLK_OPEN_READ, BLK_OPEN_WRITE } from "../../kernel/include/blkdev.ts";
import type { block_device } from "../../kernel/include/blkdev.ts";
import type { dax_device, dax_holder_operations } from "../../kernel/include/dax.ts";
import { EINVAL, type Errno } from "../../kernel/include/errno.ts";
import { MAJOR, MINOR, MKDEV } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { bdev_nr_bytes, blkdev_get_by_dev, blkdev_put, lookup_bdev } from "../block/bdev.ts";
import { fs_dax_get_by_bdev, fs_put_dax } from "../dax/super.ts";
import {
  type dm_dev,
  type dm_target,
  is_target_error,
  target_error,
  target_types,
} from "./dm-target.ts";

/** Claims every device of every table, so that two mapped devices may share one. */
const dm_claim: object = Object.freeze({ name: "device-mapper" });

/** One line of a table: sectors of the mapped device, the target's name, its words. */
export interface table_line {
  start: number;
  len: number;
  type: string;
  args: string[];
}

/** Who is told of failures of the devices, with `proposals.dm_holder`. */
export interface dax_holder {
  readonly holder: unknown;
  readonly ops: dax_holder_operations;
}

export interface dm_table {
  readonly kernel: Kernel;
  readonly targets: readonly dm_target[];
  readonly devs: readonly dm_dev[];
  /** Sectors. */
  readonly size: number;
  readonly writable: boolean;
  readonly holder: dax_holder | null;
  /** Every target lets DAX through, and every device below has it. */
  readonly supports_dax: boolean;
  /** And every device below is durable as the CPU flushes, so MAP_SYNC may be had. */
  readonly synchronous: boolean;
  readonly logical_block_size: number;
}

const bdev_text = (b: block_device): string => `${MAJOR(b.bd_dev)}:${MINOR(b.bd_dev)}`;

function find_bdev(kernel: Kernel, name: string): number {
  const m = /^(\d+):(\d+)$/.exec(name);
  return m ? MKDEV(Number(m[1]), Number(m[2])) : lookup_bdev(kernel, name).bd_dev;
}

class builder {
  readonly kernel: Kernel;
  readonly writable: boolean;
  readonly holder: dax_holder | null;
  readonly devs: dm_dev[] = [];
  readonly targets: dm_target[] = [];
  size = 0;

  constructor(kernel: Kernel, writable: boolean, holder: dax_holder | null) {
    this.kernel = kernel;
    this.writable = writable;
    this.holder = holder;
  }

  /** dm_get_device(): once a table. */
  get_device(name: string): dm_dev {
    const dev = find_bdev(this.kernel, name);
    const have = this.devs.find((d) => d.bdev.bd_dev === dev);
    if (have) return have;
    const bdev = blkdev_get_by_dev(this.kernel, dev, open_mode(this.writable), dm_claim);
    const h = this.holder;
    // Who comes second finds the device held: it has DAX all the same, and hears nothing.
    const held = h === null ? null : fs_dax_get_by_bdev(bdev, h.holder, h.ops);
    const found = held ?? fs_dax_get_by_bdev(bdev);
    const dax_dev: dax_device | null = found?.dax_dev ?? null;
    const part_off = found?.start_off ?? 0;
    const fresh: dm_dev = { bdev, name: bdev_text(bdev), dax_dev, part_off };
    this.devs.push(fresh);
    return fresh;
  }

  add(line: table_line): void {
    const { start, len, args } = line;
    const type = target_types.find((t) => t.name === line.type);
    if (len === 0) throw new target_error("zero-length target");
    if (type === undefined) throw new target_error("unknown target type");
    if (start !== this.size) throw new target_error("Gap in table");
    const get_device = (name: string): dm_dev => this.get_device(name);
    const parts = type.ctr({ begin: start, len, args, get_device });
    const target: dm_target = { type, begin: start, len, ...parts };
    this.targets.push(target);
    this.size += len;
  }
}

const open_mode = (writable: boolean): number =>
  BLK_OPEN_READ | BLK_OPEN_EXCL | (writable ? BLK_OPEN_WRITE : 0);

/** Each target has devices, and all of them have what `good` asks. */
function all_devices(t: readonly dm_target[], good: (d: dm_dev) => boolean): boolean {
  return t.every((ti) => ti.type.direct_access && ti.devs.length > 0 && ti.devs.every(good));
}

async function put_devices(b: { devs: readonly dm_dev[] } & Pick<dm_table, "writable" | "holder">) {
  for (const d of b.devs) {
    fs_put_dax(d.dax_dev, b.holder?.holder ?? null);
    await blkdev_put(d.bdev, open_mode(b.writable));
  }
}

/** A refused table: what the log has, and the error. */
export interface refused_table {
  readonly why: string;
  readonly errno: Errno;
}

/** Opens the devices and checks everything; gives them back when it fails. */
export async function dm_table_create(
  kernel: Kernel,
  lines: readonly table_line[],
  writable: boolean,
  holder: dax_holder | null,
): Promise<dm_table | refused_table> {
  const b = new builder(kernel, writable, holder);
  let type = "";
  try {
    if (lines.length === 0) throw new target_error("no targets");
    for (const line of lines) {
      type = line.type;
      b.add(line);
    }
  } catch (e) {
    await put_devices(b);
    if (!is_target_error(e)) throw e;
    return { why: `${type}: ${e.message}`, errno: e.errno };
  }
  const { targets, devs, size } = b;
  const supports_dax = all_devices(targets, (d) => d.dax_dev !== null);
  return {
    kernel,
    targets,
    devs,
    size,
    writable,
    holder,
    supports_dax,
    synchronous: supports_dax && all_devices(targets, (d) => d.dax_dev!.synchronous),
    logical_block_size: Math.max(512, ...devs.map((d) => d.bdev.bd_disk.logical_block_size)),
  };
}

/** Why the device cannot hold the area, or "". */
function area_is_invalid(dev: dm_dev, start: number, len: number): string {
  const { bdev } = dev;
  const have = bdev_nr_bytes(bdev) / 512;
  if (have > 0 && (start >= have || start + len > have)) {
    const what = `start=${start}, len=${len}, dev_size=${have}`;
    return `${bdev.bd_name} too small for target: ${what}`;
  }
  const lbs = bdev.bd_disk.logical_block_size;
  const why = `not aligned to h/w logical block size ${lbs} of ${bdev.bd_name}`;
  if (start % (lbs / 512) !== 0) return `start=${start} ${why}`;
  if (len % (lbs / 512) !== 0) return `len=${len} ${why}`;
  return "";
}

/** Asked when the table is to go live, not when it is loaded. Throws EINVAL, with a log line. */
export function dm_table_check_areas(t: dm_table, name: string): void {
  for (const ti of t.targets) {
    for (const a of ti.areas) {
      const why = area_is_invalid(a.dev, a.start, a.len);
      if (why === "") continue;
      t.kernel.pr_err(`device-mapper: table: ${name}: ${why}`);
      throw EINVAL;
    }
  }
}

export async function dm_table_destroy(t: dm_table): Promise<void> {
  await put_devices(t);
}

/** The target of a sector, or null beyond the end. */
export function dm_table_find_target(t: dm_table, sector: number): dm_target | null {
  let [low, high] = [0, t.targets.length];
  while (low < high) {
    const mid = (low + high) >> 1;
    const ti = t.targets[mid]!;
    if (sector < ti.begin) high = mid;
    else if (sector >= ti.begin + ti.len) low = mid + 1;
    else return ti;
  }
  return null;
}

/** Where in the mapped device bytes [off, off + len) of a DAX device below are: bytes, in order. */
export function dm_table_rmap(
  t: dm_table | null,
  below: dax_device,
  off: number,
  len: number,
): { offset: number; len: number }[] {
  const out: { offset: number; len: number }[] = [];
  for (const ti of t?.targets ?? []) {
    for (const d of ti.devs) {
      if (d.dax_dev !== below) continue;
      const first = Math.max(0, Math.floor((off - d.part_off) / 512));
      const end = Math.ceil(Math.min(Number.MAX_SAFE_INTEGER, off + len - d.part_off) / 512);
      for (const r of ti.unmap(d, first, end - first)) {
        out.push({ offset: r.start * 512, len: r.len * 512 });
      }
    }
  }
  return out;
}

/** BLK_DEF_MAX_SECTORS: what a queue takes at once. A mapped device's stripes never exceed it. */
const MAX_SECTORS = 2560;

/** Sectors from `sector` on that one piece of IO may cover. */
export function max_io_len(ti: dm_target, sector: number): number {
  const left = ti.begin + ti.len - sector;
  if (ti.max_io_len === 0) return left;
  const chunk_left = ti.max_io_len - ((sector - ti.begin) % ti.max_io_len);
  return Math.min(left, chunk_left, MAX_SECTORS);
}

/**
 * "0 2048 linear /dev/pmem0 0\n2048 8 error" as lines; comments and empty lines are left out.
 * @throws target_error
 */
export function parse_table(text: string): table_line[] {
  const out: table_line[] = [];
  for (const raw of text.split("\n")) {
    const words = raw.trim().split(/\s+/);
    if (words[0] === "" || words[0]!.startsWith("#")) continue;
    const [start, len, type, ...args] = words;
    if (!/^\d{1,15}$/.test(start!) || !/^\d{1,15}$/.test(len ?? "") || type === undefined) {
      throw new target_error(`Invalid format on line ${out.length + 1} of table`);
    }
    out.push({ start: Number(start), len: Number(len), type, args });
  }
  return out;
}
