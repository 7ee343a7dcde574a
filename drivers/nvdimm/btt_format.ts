/**
 * drivers/nvdimm/btt_format.ts - info block, map entries and log entries of a BTT.
 * Linux: drivers/nvdimm/btt.{h,c}. Layout: NVDIMM-FORMATS; UEFI "Block Translation Table".
 *
 *     info | data blocks | map | log | info copy          one arena, offsets from its start
 */
import { bytes, struct, u16, u32, u64 } from "../../kernel/lib/struct.ts";
import { nd_fletcher64 } from "./fletcher.ts";
import { UUID_NULL, uuid_bytes, uuid_text } from "./uuid.ts";

export const BTT_SIG = "BTT_ARENA_INFO\0\0";
export const BTT_PG_SIZE = 4096;
export const BTT_DEFAULT_NFREE = 256;
export const ARENA_MIN_SIZE = 16 * 1024 * 1024;
export const ARENA_MAX_SIZE = 512 * 2 ** 30;
export const LOG_GRP_SIZE = 64;
export const LOG_ENT_SIZE = 16;
export const MAP_ENT_SIZE = 4;
export const IB_FLAG_ERROR = 1;
const INT_LBASIZE_ALIGNMENT = 64;
const SUM_OFF = 4088;

export const btt_lbasize_supported: readonly number[] = Object.freeze([
  512, 520, 528, 4096, 4104, 4160, 4224,
]);

const btt_sb = struct("btt_sb", {
  signature: [bytes(16), 0],
  uuid: [bytes(16), 16],
  parent_uuid: [bytes(16), 32],
  flags: [u32, 48],
  version_major: [u16, 52],
  version_minor: [u16, 54],
  external_lbasize: [u32, 56],
  external_nlba: [u32, 60],
  internal_lbasize: [u32, 64],
  internal_nlba: [u32, 68],
  nfree: [u32, 72],
  infosize: [u32, 76],
  nextoff: [u64, 80],
  dataoff: [u64, 88],
  mapoff: [u64, 96],
  logoff: [u64, 104],
  info2off: [u64, 112],
});

/** An info block's values; offsets in bytes from the start of the arena. */
export interface arena_layout {
  uuid: string;
  parent_uuid: string;
  flags: number;
  version_major: number;
  version_minor: number;
  external_lbasize: number;
  external_nlba: number;
  internal_lbasize: number;
  internal_nlba: number;
  nfree: number;
  nextoff: number;
  dataoff: number;
  mapoff: number;
  logoff: number;
  info2off: number;
}

const round_up = (x: number, to: number): number => Math.ceil(x / to) * to;

/** How a new arena of `size` bytes is divided; the caller fills in uuids, version and nextoff. */
export function btt_arena_layout(size: number, lbasize: number): arena_layout {
  const internal_lbasize = round_up(lbasize, INT_LBASIZE_ALIGNMENT);
  const logsize = round_up(BTT_DEFAULT_NFREE * LOG_GRP_SIZE, BTT_PG_SIZE);
  const available = size - (size % BTT_PG_SIZE) - 2 * BTT_PG_SIZE - logsize;
  const internal_nlba = Math.floor((available - BTT_PG_SIZE) / (internal_lbasize + MAP_ENT_SIZE));
  const external_nlba = internal_nlba - BTT_DEFAULT_NFREE;
  const mapsize = round_up(external_nlba * MAP_ENT_SIZE, BTT_PG_SIZE);
  const mapoff = BTT_PG_SIZE + available - mapsize;
  return {
    uuid: UUID_NULL,
    parent_uuid: UUID_NULL,
    flags: 0,
    version_major: 2,
    version_minor: 0,
    external_lbasize: lbasize,
    external_nlba,
    internal_lbasize,
    internal_nlba,
    nfree: BTT_DEFAULT_NFREE,
    nextoff: 0,
    dataoff: BTT_PG_SIZE,
    mapoff,
    logoff: mapoff + mapsize,
    info2off: mapoff + mapsize + logsize,
  };
}

export function btt_make_block(l: arena_layout): Uint8Array {
  const block = new Uint8Array(BTT_PG_SIZE);
  const view = new DataView(block.buffer);
  const sb = btt_sb.at(view, 0);
  for (let i = 0; i < 16; i++) block[i] = BTT_SIG.charCodeAt(i);
  block.set(uuid_bytes(l.uuid), 16);
  block.set(uuid_bytes(l.parent_uuid), 32);
  sb.flags = l.flags;
  sb.version_major = l.version_major;
  sb.version_minor = l.version_minor;
  sb.external_lbasize = l.external_lbasize;
  sb.external_nlba = l.external_nlba;
  sb.internal_lbasize = l.internal_lbasize;
  sb.internal_nlba = l.internal_nlba;
  sb.nfree = l.nfree;
  sb.infosize = BTT_PG_SIZE;
  sb.nextoff = l.nextoff;
  sb.dataoff = l.dataoff;
  sb.mapoff = l.mapoff;
  sb.logoff = l.logoff;
  sb.info2off = l.info2off;
  const sum = nd_fletcher64(view, 0, BTT_PG_SIZE, SUM_OFF);
  view.setUint32(SUM_OFF, sum.lo, true);
  view.setUint32(SUM_OFF + 4, sum.hi, true);
  return block;
}

/** The values of a block with the right signature and checksum, else null. */
export function btt_read_block(block: Uint8Array): arena_layout | null {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  for (let i = 0; i < 16; i++) if (block[i] !== BTT_SIG.charCodeAt(i)) return null;
  const sum = nd_fletcher64(view, 0, BTT_PG_SIZE, SUM_OFF);
  if (view.getUint32(SUM_OFF, true) !== sum.lo) return null;
  if (view.getUint32(SUM_OFF + 4, true) !== sum.hi) return null;
  const sb = btt_sb.at(view, 0);
  return {
    uuid: uuid_text(block, 16),
    parent_uuid: uuid_text(block, 32),
    flags: sb.flags,
    version_major: sb.version_major,
    version_minor: sb.version_minor,
    external_lbasize: sb.external_lbasize,
    external_nlba: sb.external_nlba,
    internal_lbasize: sb.internal_lbasize,
    internal_nlba: sb.internal_nlba,
    nfree: sb.nfree,
    nextoff: sb.nextoff,
    dataoff: sb.dataoff,
    mapoff: sb.mapoff,
    logoff: sb.logoff,
    info2off: sb.info2off,
  };
}

/** Do the parts lie one behind the other inside `size` bytes? Guards what is read from media. */
export function btt_layout_sane(l: arena_layout, size: number): boolean {
  const data = l.internal_nlba * l.internal_lbasize;
  return (
    l.nfree > 0 &&
    l.external_lbasize >= 512 &&
    l.internal_lbasize >= l.external_lbasize &&
    l.external_nlba + l.nfree === l.internal_nlba &&
    l.dataoff + data <= l.mapoff &&
    l.mapoff + l.external_nlba * MAP_ENT_SIZE <= l.logoff &&
    l.logoff + l.nfree * LOG_GRP_SIZE <= l.info2off &&
    l.info2off + BTT_PG_SIZE <= size &&
    (l.nextoff === 0 || l.nextoff >= l.info2off + BTT_PG_SIZE)
  );
}

// ---- map entries: bits 0..29 block, bit 30 error, bit 31 zero

const MAP_LBA_MASK = 0x3fffffff;
const MAP_ERR = 0x40000000;
const MAP_TRIM = 0x80000000;

export const ent_lba = (e: number): number => e & MAP_LBA_MASK;
/** An entry in the log carries the error of the block it frees. */
export const ent_has_error = (e: number): boolean => ((e >>> 0) & 0xc0000000) >>> 0 === MAP_ERR;
export const with_error = (lba: number): number => (ent_lba(lba) | MAP_ERR) >>> 0;

export interface map_entry {
  block: number;
  error: boolean;
  zero: boolean;
}

/** What the map says of external sector `lba`. */
export function map_decode(raw: number, lba: number): map_entry {
  const flags = raw >>> 30;
  if (flags === 0) return { block: lba, error: false, zero: false };
  return { block: ent_lba(raw), error: flags === 1, zero: flags === 2 };
}

export function map_encode(e: map_entry): number {
  if (e.error) return (ent_lba(e.block) | MAP_ERR) >>> 0;
  if (e.zero) return (ent_lba(e.block) | MAP_TRIM) >>> 0;
  return (ent_lba(e.block) | MAP_ERR | MAP_TRIM) >>> 0;
}

// ---- log

export interface log_entry {
  lba: number;
  old_map: number;
  new_map: number;
  seq: number;
}

export function log_decode(view: DataView, off: number): log_entry {
  return {
    lba: view.getUint32(off, true),
    old_map: view.getUint32(off + 4, true),
    new_map: view.getUint32(off + 8, true),
    seq: view.getUint32(off + 12, true),
  };
}

export function log_encode(e: log_entry): Uint8Array {
  const out = new Uint8Array(LOG_ENT_SIZE);
  const view = new DataView(out.buffer);
  view.setUint32(0, e.lba, true);
  view.setUint32(4, e.old_map, true);
  view.setUint32(8, e.new_map, true);
  view.setUint32(12, e.seq, true);
  return out;
}

/** Which of a group's two entries is the older one: 0 or 1; -1 when they contradict each other. */
export function log_older(seq0: number, seq1: number): number {
  if (seq0 === 0) return 0;
  if (seq0 === seq1 || seq0 > 3 || seq1 > 3) return -1;
  if (seq1 === 0) return 1;
  return (seq0 % 3) + 1 === seq1 ? 0 : 1;
}

/**
 * The places in a group that are used: 0 and 1, or 0 and 2 as old kernels had it. null: a scheme
 * that no kernel wrote.
 */
export function log_places(log: DataView, nfree: number): readonly [number, number] | null {
  const used = [false, false, false, false];
  for (let lane = 0; lane < nfree; lane++) {
    for (let k = 0; k < 4; k++) {
      const at = lane * LOG_GRP_SIZE + k * LOG_ENT_SIZE;
      for (let w = 0; w < LOG_ENT_SIZE; w += 4) if (log.getUint32(at + w, true)) used[k] = true;
    }
  }
  if (!used[0] || used[3] || (used[1] && used[2])) return null;
  return used[2] ? [0, 2] : [0, 1];
}
