/**
 * drivers/block/partitions.ts - partition tables on the media: MBR with logical partitions, GPT.
 * Linux: block/partitions/{core,msdos,efi}.c. Differs: no other formats; a sector is 512 bytes or
 * the disk's logical block, as the table counts.
 *
 * A GPT counts when the protective MBR is there and the header's and the entries' checksums are
 * right; a broken primary header falls back to the one in the last block.
 */
import type { block_device, gendisk } from "../../kernel/include/blkdev.ts";
import { REQ_OP_READ } from "../../kernel/include/blkdev.ts";
import { EBUSY, is_errno } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { crc32 } from "../../kernel/lib/crc32.ts";
import { bdev_rw_bytes } from "./bio.ts";
import { add_partition, delete_partition } from "./genhd.ts";

const MBR_TABLE = 446;
const MBR_MAGIC_OFF = 510;
const EXTENDED: readonly number[] = Object.freeze([0x05, 0x0f, 0x85]);
const TYPE_PROTECTIVE = 0xee;
const MAX_LOGICAL = 100;
const GPT_SIGNATURE = "EFI PART";
const GPT_MAX_ENTRIES = 1024;

/** Partition numbers, in 512-byte sectors of the disk. */
export interface found_partition {
  partno: number;
  start: number;
  size: number;
}

type reader = (lba: number, count: number) => Uint8Array | null;

interface mbr_entry {
  type: number;
  start: number;
  size: number;
}

function mbr_entries(sector: Uint8Array): mbr_entry[] | null {
  const view = new DataView(sector.buffer, sector.byteOffset);
  if (view.getUint16(MBR_MAGIC_OFF, true) !== 0xaa55) return null;
  return [0, 1, 2, 3].map((i) => {
    const at = MBR_TABLE + i * 16;
    return {
      type: sector[at + 4]!,
      start: view.getUint32(at + 8, true),
      size: view.getUint32(at + 12, true),
    };
  });
}

/** The chain of logical partitions: a start counts from its link, the next link from the first. */
function logical(read: reader, base: number, out: found_partition[]): void {
  let at = base;
  for (let partno = 5; partno < 5 + MAX_LOGICAL; partno++) {
    const sector = read(at, 1);
    const entries = sector && mbr_entries(sector);
    const data = entries?.find((e) => e.size > 0 && !EXTENDED.includes(e.type));
    if (!data) return;
    out.push({ partno, start: at + data.start, size: data.size });
    const next = entries!.find((e) => e.size > 0 && EXTENDED.includes(e.type));
    if (!next) return;
    at = base + next.start;
  }
}

function msdos(read: reader, entries: readonly mbr_entry[]): found_partition[] {
  const out: found_partition[] = [];
  entries.forEach((e, i) => {
    if (e.size === 0) return;
    const extended = EXTENDED.includes(e.type);
    // of an extended partition the kernel shows two sectors, so that a boot loader can be put there
    out.push({ partno: i + 1, start: e.start, size: extended ? Math.min(e.size, 2) : e.size });
  });
  for (const e of entries) if (e.size > 0 && EXTENDED.includes(e.type)) logical(read, e.start, out);
  return out;
}

const u64_at = (v: DataView, o: number): number =>
  v.getUint32(o + 4, true) * 2 ** 32 + v.getUint32(o, true);

/** The partitions of the GPT whose header is at `lba`, or null when it is not valid. */
function gpt(read: reader, lba: number, block: number): found_partition[] | null {
  const header = read(lba, 1);
  if (header === null) return null;
  const view = new DataView(header.buffer, header.byteOffset, header.length);
  for (let i = 0; i < 8; i++) if (header[i] !== GPT_SIGNATURE.charCodeAt(i)) return null;
  const size = view.getUint32(12, true);
  if (size < 92 || size > block) return null;
  const stored = view.getUint32(16, true);
  const copy = header.slice(0, size);
  copy.fill(0, 16, 20);
  if (crc32(copy) !== stored || u64_at(view, 24) !== lba) return null;
  const [nr, entry] = [view.getUint32(80, true), view.getUint32(84, true)];
  if (entry !== 128 || nr === 0 || nr > GPT_MAX_ENTRIES) return null;
  const table = read(u64_at(view, 72), Math.ceil((nr * entry) / block));
  if (table === null || crc32(table.subarray(0, nr * entry)) !== view.getUint32(88, true))
    return null;
  const t = new DataView(table.buffer, table.byteOffset, table.length);
  const [first_usable, last_usable] = [u64_at(view, 40), u64_at(view, 48)];
  const out: found_partition[] = [];
  for (let i = 0; i < nr; i++) {
    const at = i * entry;
    if (table.subarray(at, at + 16).every((b) => b === 0)) continue;
    const [start, end] = [u64_at(t, at + 32), u64_at(t, at + 40)];
    if (start < first_usable || end > last_usable || end < start) continue;
    out.push({ partno: i + 1, start, size: end - start + 1 });
  }
  return out;
}

/** What the table on the disk says; nothing when there is none or it cannot be read. */
export function read_partitions(disk: gendisk): found_partition[] {
  const block = disk.logical_block_size;
  const blocks = Math.floor((disk.capacity * 512) / block);
  const read: reader = (lba, count) => {
    if (lba + count > blocks) return null;
    const out = new Uint8Array(count * block);
    try {
      const p = bdev_rw_bytes(disk.part0, REQ_OP_READ, lba * block, out, 0, out.length);
      return p ? null : out;
    } catch (e) {
      if (!is_errno(e)) throw e;
      return null;
    }
  };
  const first = read(0, 1);
  const entries = first && mbr_entries(first);
  if (!entries) return [];
  const protective = entries.some((e) => e.type === TYPE_PROTECTIVE);
  const found = protective
    ? (gpt(read, 1, block) ?? gpt(read, blocks - 1, block) ?? [])
    : msdos(read, entries);
  const per = block / 512;
  return found.map((p) => ({ partno: p.partno, start: p.start * per, size: p.size * per }));
}

/**
 * bdev_disk_changed(): the partitions as the table says now. @throws EBUSY while one of the old
 * ones is open
 */
export function bdev_disk_changed(kernel: Kernel, disk: gendisk): void {
  const old: block_device[] = [...disk.part_tbl.values()].filter((b) => b.bd_partno !== 0);
  if (old.some((b) => b.bd_openers > 0 || b.bd_holder !== null)) throw EBUSY;
  for (const b of old) delete_partition(kernel, disk, b.bd_partno);
  for (const p of read_partitions(disk)) {
    try {
      add_partition(kernel, disk, p.partno, p.start, p.size);
    } catch (e) {
      if (!is_errno(e)) throw e;
      kernel.pr_info(`${disk.disk_name}: p${p.partno} could not be added: ${e.code}`);
    }
  }
}
