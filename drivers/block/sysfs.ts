/**
 * drivers/block/sysfs.ts - the attributes below /sys/block that users look at.
 * Linux: block/{genhd,blk-sysfs,badblocks}.c, drivers/nvdimm/pmem.c (dax/write_cache).
 */
import type { blk_integrity, block_device, gendisk } from "../../kernel/include/blkdev.ts";
import { EINVAL, ENOENT } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { dax_write_cache, dax_write_cache_enabled } from "../dax/super.ts";
import { type badblocks, badblocks_show, badblocks_store } from "./badblocks.ts";
import { BLOCK_EXT_MAJOR, block_state } from "./genhd.ts";

/** One file: its text without the final newline; `store` takes what was written to it. */
export interface sysfs_attr {
  show(): string;
  store?(text: string): void;
}

const shown = (v: string | number): sysfs_attr => ({ show: () => String(v) });

/** "0" or "1", as most switches are. @throws EINVAL */
export function sysfs_bool(text: string): boolean {
  const t = text.trim();
  if (!/^[01yYnN]$/.test(t)) throw EINVAL;
  return t === "1" || t.toLowerCase() === "y";
}

const DISK: Readonly<Record<string, (d: gendisk) => sysfs_attr>> = Object.freeze({
  size: (d) => shown(d.capacity),
  ro: (d) => shown(d.ro ? 1 : 0),
  dev: (d) => shown(`${d.major}:${d.first_minor}`),
  "queue/dax": (d) => shown(d.queue_dax ? 1 : 0),
  "queue/logical_block_size": (d) => shown(d.logical_block_size),
  "queue/physical_block_size": (d) => shown(d.physical_block_size),
  "queue/write_cache": (d) => shown(d.queue_write_cache ? "write back" : "write through"),
  "queue/fua": () => shown(0),
  "queue/discard_max_bytes": () => shown(0),
  "queue/discard_granularity": () => shown(0),
  "queue/write_zeroes_max_bytes": () => shown(0),
  "queue/read_ahead_kb": (d) => shown(d.ra_sectors / 2),
});

const switch_attr = (i: blk_integrity, name: "read_verify" | "write_generate"): sysfs_attr => ({
  show: () => (i[name] ? "1" : "0"),
  store: (text) => {
    i[name] = sysfs_bool(text);
  },
});

/** "nop": somebody may hand metadata over with a sector, the kernel neither makes nor checks it. */
const INTEGRITY: Readonly<Record<string, (d: gendisk) => sysfs_attr>> = Object.freeze({
  format: (d) => shown(d.integrity.tag_size > 0 ? "nop" : "none"),
  tag_size: (d) => shown(d.integrity.tag_size),
  protection_interval_bytes: (d) => shown(d.integrity.tag_size > 0 ? d.logical_block_size : 0),
  device_is_integrity_capable: () => shown(0),
  read_verify: (d) => switch_attr(d.integrity, "read_verify"),
  write_generate: (d) => switch_attr(d.integrity, "write_generate"),
});

function partition_attr(b: block_device, name: string): sysfs_attr | null {
  if (name === "start") return shown(b.bd_start_sect);
  if (name === "size") return shown(b.bd_nr_sectors);
  if (name === "partition") return shown(b.bd_partno);
  if (name === "ro") return shown(b.bd_read_only || b.bd_disk.ro ? 1 : 0);
  return null;
}

function dax_cache_attr(d: gendisk): sysfs_attr | null {
  const dev = d.dax_dev;
  // only pmem's disks have the folder "dax", and theirs have extended numbers
  if (dev === null || d.major !== BLOCK_EXT_MAJOR) return null;
  return {
    show: () => (dax_write_cache_enabled(dev) ? "1" : "0"),
    store: (text) => dax_write_cache(dev, sysfs_bool(text)),
  };
}

function badblocks_attr(d: gendisk): sysfs_attr | null {
  const bb = (d.private_data as { bb?: badblocks } | null)?.bb;
  if (!bb) return null;
  return {
    show: () => badblocks_show(bb).trimEnd(),
    store: (text) => badblocks_store(bb, text),
  };
}

/** `path` is what follows /sys/block/ (or /sys/class/block/). @throws ENOENT */
export function block_sysfs(kernel: Kernel, path: string): sysfs_attr {
  const [name, ...rest] = path.split("/");
  const { disks } = block_state(kernel);
  const disk = disks.get(name!);
  if (!disk) {
    for (const d of disks.values()) {
      const part = [...d.part_tbl.values()].find((b) => b.bd_name === name && b.bd_partno > 0);
      const found = part && partition_attr(part, rest.join("/"));
      if (found) return found;
    }
    throw ENOENT;
  }
  const part = [...disk.part_tbl.values()].find((b) => b.bd_name === rest[0] && b.bd_partno > 0);
  if (part) {
    const found = partition_attr(part, rest.slice(1).join("/"));
    if (found) return found;
    throw ENOENT;
  }
  const attr = rest.join("/");
  if (Object.hasOwn(DISK, attr)) return DISK[attr]!(disk);
  const [folder, leaf] = rest;
  if (folder === "integrity" && Object.hasOwn(INTEGRITY, leaf ?? ""))
    return INTEGRITY[leaf!]!(disk);
  const special = attr === "dax/write_cache" ? dax_cache_attr(disk) : null;
  const found = special ?? (attr === "badblocks" ? badblocks_attr(disk) : null);
  if (!found) throw ENOENT;
  return found;
}
