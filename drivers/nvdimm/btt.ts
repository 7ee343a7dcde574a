/**
 * drivers/nvdimm/btt.ts - the block translation table: sectors that are written whole or not at
 * all. Linux: drivers/nvdimm/btt.c.
 *
 * Reading order: btt_attach() -> discover_arenas() -> freelist_init() (recovery), then
 * btt_submit_bio() -> btt_read_sector(), btt_write_sector().
 *
 * A write goes into the lane's free block; then the log says "sector, old block, new block", its
 * second half with the sequence number last; then the map is switched. The old block becomes the
 * lane's free block. Power lost before the log: the old data. After it: attaching finds a map
 * that still says "old" and switches it.
 *
 * Every piece is written past the cache and fenced before the next. A lane belongs to the
 * processor that writes (there is one). Nothing here sleeps, so no reader can be caught between
 * map and data: the kernel's table of blocks being read (rtt) and its map locks are not needed.
 *
 * Invariant: mapped blocks and the lanes' free blocks together are every internal block once.
 */
import { REQ_FUA, REQ_OP_READ, REQ_OP_WRITE, REQ_PREFLUSH } from "../../kernel/include/blkdev.ts";
import type { bio, gendisk } from "../../kernel/include/blkdev.ts";
import { EIO, ENODEV, ENXIO, EROFS } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { readable_bytes } from "../../mm/memory-failure/media.ts";
import { badblocks } from "../block/badblocks.ts";
import { bio_op } from "../block/bio.ts";
import { add_disk, del_gendisk } from "../block/genhd.ts";
import { bdev_disk_changed } from "../block/partitions.ts";
import {
  ARENA_MAX_SIZE,
  ARENA_MIN_SIZE,
  BTT_PG_SIZE,
  IB_FLAG_ERROR,
  LOG_ENT_SIZE,
  LOG_GRP_SIZE,
  MAP_ENT_SIZE,
  type arena_layout,
  type log_entry,
  type map_entry,
  btt_arena_layout,
  btt_layout_sane,
  btt_make_block,
  btt_read_block,
  ent_has_error,
  ent_lba,
  log_decode,
  log_encode,
  log_older,
  log_places,
  map_decode,
  map_encode,
  with_error,
} from "./btt_format.ts";
import { UUID_NULL } from "./uuid.ts";

interface free_entry {
  block: number;
  /** Which of the two places is written next. */
  sub: number;
  /** The sequence number it gets. */
  seq: number;
  /** The block has a media error that has to be cleared before it can be used. */
  has_err: boolean;
}

export interface arena_info extends arena_layout {
  /** Physical address of the arena. */
  readonly base: number;
  readonly size: number;
  readonly external_lba_start: number;
  readonly freelist: free_entry[];
  readonly log_index: readonly [number, number];
}

export interface btt_params {
  /** Physical address and bytes of the namespace. */
  start: number;
  size: number;
  /** Where the first arena begins: 0 for version 2.0, 4096 for 1.1. */
  initial_offset: number;
  version: readonly [number, number];
  /** Of the BTT, for new arenas; and of the namespace. */
  uuid: string;
  parent_uuid: string;
  /** Bytes of a sector with metadata, for new arenas. */
  lbasize: number;
  disk_name: string;
  ro: boolean;
  /** Has the device repair bytes at a physical address; false when it does not. */
  clear_poison?(start: number, len: number): boolean;
}

export interface btt {
  readonly kernel: Kernel;
  readonly params: btt_params;
  readonly arenas: arena_info[];
  readonly lbasize: number;
  /** What the disk shows: 512 or 4096. */
  readonly sector_size: number;
  /** External sectors of all arenas. */
  readonly nlba: number;
  /** Media errors below, by 512-byte sector of the namespace. */
  readonly bb: badblocks;
  readonly disk: gendisk;
  /** Which processor, and so which lane, writes. */
  cpu: number;
}

function write_bytes(kernel: Kernel, paddr: number, b: Uint8Array): void {
  kernel.phys.memcpy_flushcache(paddr, b, 0, b.length);
  kernel.phys.sfence();
}

function write_u32(kernel: Kernel, paddr: number, v: number): void {
  write_bytes(kernel, paddr, new Uint8Array([v, v >>> 8, v >>> 16, v >>> 24]));
}

function read_view(kernel: Kernel, paddr: number, len: number): DataView {
  const b = new Uint8Array(len);
  kernel.phys.copy_from(paddr, b, 0, len);
  return new DataView(b.buffer);
}

// ---- map

function map_read(kernel: Kernel, a: arena_info, lba: number): map_entry {
  return map_decode(kernel.phys.read_u32(a.base + a.mapoff + lba * MAP_ENT_SIZE), lba);
}

function map_write(kernel: Kernel, a: arena_info, lba: number, e: map_entry): void {
  write_u32(kernel, a.base + a.mapoff + lba * MAP_ENT_SIZE, map_encode(e));
}

const block_paddr = (a: arena_info, block: number): number =>
  a.base + a.dataoff + block * a.internal_lbasize;

// ---- new arenas

/** Map of zeroes, log with one entry a lane, then the copy of the info block, then the block. */
function write_layout(kernel: Kernel, base: number, l: arena_layout): void {
  const { phys } = kernel;
  phys.zero(base + l.mapoff, l.info2off - l.mapoff);
  phys.clwb(base + l.mapoff, l.info2off - l.mapoff);
  phys.sfence();
  for (let lane = 0; lane < l.nfree; lane++) {
    const block = l.external_nlba + lane;
    const e = log_encode({ lba: lane, old_map: block, new_map: block, seq: 1 });
    phys.memcpy_flushcache(base + l.logoff + lane * LOG_GRP_SIZE, e, 0, LOG_ENT_SIZE);
  }
  phys.sfence();
  const block = btt_make_block(l);
  write_bytes(kernel, base + l.info2off, block);
  write_bytes(kernel, base, block);
}

function create_arenas(kernel: Kernel, p: btt_params): void {
  let remaining = p.size - p.initial_offset;
  let base = p.start + p.initial_offset;
  while (remaining >= ARENA_MIN_SIZE) {
    const size = Math.min(ARENA_MAX_SIZE, remaining);
    remaining -= size;
    const l = btt_arena_layout(size, p.lbasize);
    l.uuid = p.uuid;
    l.parent_uuid = p.parent_uuid;
    [l.version_major, l.version_minor] = p.version;
    l.nextoff = remaining >= ARENA_MIN_SIZE ? size : 0;
    write_layout(kernel, base, l);
    base += size;
  }
}

// ---- arenas that are there

/**
 * The valid info block at `paddr`, or null: right in itself and made for this namespace.
 */
export function btt_info_at(
  kernel: Kernel,
  paddr: number,
  parent_uuid: string,
): arena_layout | null {
  const block = new Uint8Array(BTT_PG_SIZE);
  kernel.phys.copy_from(paddr, block, 0, BTT_PG_SIZE);
  const l = btt_read_block(block);
  if (l === null) return null;
  return l.parent_uuid === UUID_NULL || l.parent_uuid === parent_uuid ? l : null;
}

/** Finds each lane's free block, and finishes the write that a power cut left half done. */
function freelist_init(kernel: Kernel, a: arena_info, log: DataView, ro: boolean): void {
  for (let lane = 0; lane < a.nfree; lane++) {
    const group = lane * LOG_GRP_SIZE;
    const [e0, e1] = a.log_index.map((k) => log_decode(log, group + k * LOG_ENT_SIZE));
    const older = log_older(e0!.seq, e1!.seq);
    if (older < 0) {
      kernel.pr_err(`nd_btt: log corruption: lane ${lane} seq [${e0!.seq}, ${e1!.seq}]`);
      throw EIO;
    }
    const e: log_entry = older === 0 ? e1! : e0!;
    const old_block = ent_lba(e.old_map);
    a.freelist.push({
      block: old_block,
      sub: older,
      seq: (e.seq % 3) + 1,
      has_err: ent_has_error(e.old_map),
    });
    if (old_block >= a.internal_nlba || ent_lba(e.new_map) >= a.internal_nlba) throw EIO;
    if (old_block === ent_lba(e.new_map) || e.lba >= a.external_nlba || ro) continue;
    const now = map_read(kernel, a, e.lba).block;
    if (now !== old_block) continue;
    map_write(kernel, a, e.lba, { block: e.new_map, error: false, zero: false });
  }
}

/** @throws ENODEV when an arena after the first is damaged; ENXIO, EIO for a damaged log */
function discover_arenas(kernel: Kernel, p: btt_params): arena_info[] {
  const arenas: arena_info[] = [];
  let remaining = p.size - p.initial_offset;
  let base = p.start + p.initial_offset;
  let lba = 0;
  while (remaining >= ARENA_MIN_SIZE) {
    const l = btt_info_at(kernel, base, p.parent_uuid);
    if (l === null && arenas.length === 0) return arenas;
    if (l === null || !btt_layout_sane(l, remaining)) throw ENODEV;
    const log = read_view(kernel, base + l.logoff, l.nfree * LOG_GRP_SIZE);
    const log_index = log_places(log, l.nfree);
    if (log_index === null) throw ENXIO;
    const size = l.nextoff > 0 ? l.nextoff : l.info2off + BTT_PG_SIZE;
    const a: arena_info = { ...l, base, size, external_lba_start: lba, freelist: [], log_index };
    freelist_init(kernel, a, log, p.ro);
    arenas.push(a);
    lba += a.external_nlba;
    remaining -= size;
    base += size;
    if (l.nextoff === 0) break;
  }
  return arenas;
}

// ---- IO

function arena_of(b: btt, lba: number): arena_info {
  for (const a of b.arenas) {
    if (lba < a.external_lba_start + a.external_nlba) return a;
  }
  throw EIO;
}

function has_badblock(b: btt, a: arena_info, block: number): boolean {
  if (b.bb.count === 0) return false;
  const off = block_paddr(a, block) - b.params.start;
  const first = Math.floor(off / 512);
  const end = Math.ceil((off + a.internal_lbasize) / 512);
  return b.bb.check(first, end - first) !== null;
}

function read_sector(b: btt, lba: number, dst: Uint8Array, off: number): void {
  const a = arena_of(b, lba);
  const premap = lba - a.external_lba_start;
  const e = map_read(b.kernel, a, premap);
  if (e.zero) {
    dst.fill(0, off, off + b.sector_size);
    return;
  }
  if (e.error || e.block >= a.internal_nlba) throw EIO;
  if (has_badblock(b, a, e.block)) {
    // remembered on the media: the next read fails without touching the block
    map_write(b.kernel, a, premap, { block: e.block, error: true, zero: false });
    throw EIO;
  }
  const paddr = block_paddr(a, e.block);
  const good = readable_bytes(b.kernel, paddr, b.sector_size);
  if (good < b.sector_size) {
    b.bb.set(Math.floor((paddr + good - b.params.start) / 512), 1);
    throw EIO;
  }
  b.kernel.phys.copy_from(paddr, dst, off, b.sector_size);
}

/** The sectors that hold a block are repaired together. @throws EIO the device cannot */
function repair_block(b: btt, a: arena_info, block: number): void {
  const { start } = b.params;
  const off = block_paddr(a, block) - start;
  const first = Math.floor(off / 512);
  const end = Math.ceil((off + a.internal_lbasize) / 512);
  const size = (end - first) * 512;
  if (!b.params.clear_poison?.(start + first * 512, size)) throw EIO;
  b.bb.clear(first, end - first);
}

/** Writing zeroes repairs the lane's free block, where the device can be repaired. */
function clear_freelist_error(b: btt, a: arena_info, lane: number): void {
  const free = a.freelist[lane]!;
  const paddr = block_paddr(a, free.block);
  if (has_badblock(b, a, free.block)) repair_block(b, a, free.block);
  b.kernel.phys.zero(paddr, b.sector_size);
  b.kernel.phys.clwb(paddr, b.sector_size);
  b.kernel.phys.sfence();
  free.has_err = false;
}

function log_write(kernel: Kernel, a: arena_info, lane: number, e: log_entry): void {
  const free = a.freelist[lane]!;
  const at = a.base + a.logoff + lane * LOG_GRP_SIZE + a.log_index[free.sub]! * LOG_ENT_SIZE;
  const raw = log_encode(e);
  // two halves, each atomic; the sequence number is in the second
  write_bytes(kernel, at, raw.subarray(0, 8));
  write_bytes(kernel, at + 8, raw.subarray(8));
  free.sub = 1 - free.sub;
  free.seq = (free.seq % 3) + 1;
  free.has_err = ent_has_error(e.old_map);
  free.block = ent_lba(e.old_map);
}

function write_sector(b: btt, lba: number, src: Uint8Array, off: number): void {
  const { kernel } = b;
  const a = arena_of(b, lba);
  const premap = lba - a.external_lba_start;
  const lane = b.cpu % a.nfree;
  if (a.flags & IB_FLAG_ERROR) throw EIO;
  const free = a.freelist[lane]!;
  if (free.has_err || has_badblock(b, a, free.block)) clear_freelist_error(b, a, lane);
  const new_block = free.block;
  write_bytes(kernel, block_paddr(a, new_block), src.subarray(off, off + b.sector_size));
  const old = map_read(kernel, a, premap);
  if (old.block >= a.internal_nlba) throw EIO;
  const old_map = old.error ? with_error(old.block) : old.block;
  log_write(kernel, a, lane, { lba: premap, old_map, new_map: new_block, seq: free.seq });
  map_write(kernel, a, premap, { block: new_block, error: false, zero: false });
  if (old.error) clear_freelist_error(b, a, lane);
}

function btt_submit_bio(b: btt, bio: bio): void {
  if (bio.bi_opf & REQ_PREFLUSH) b.kernel.phys.sfence();
  const op = bio_op(bio);
  const per = b.sector_size / 512;
  let sector = bio.bi_sector;
  for (const v of bio.bi_io_vec) {
    if (v.len % b.sector_size !== 0 || sector % per !== 0) {
      b.kernel.pr_err(`nd_btt ${b.disk.disk_name}: unaligned bio segment (len: ${v.len})`);
      throw EIO;
    }
    for (let done = 0; done < v.len; done += b.sector_size) {
      if (op === REQ_OP_WRITE) write_sector(b, sector / per, v.bytes, v.offset + done);
      else if (op === REQ_OP_READ) read_sector(b, sector / per, v.bytes, v.offset + done);
      sector += per;
    }
  }
  if (bio.bi_opf & REQ_FUA) b.kernel.phys.sfence();
}

/**
 * Makes the disk over a namespace, with new arenas when there are none.
 * @throws ENXIO too small; EROFS new arenas needed but read-only; ENODEV, EIO damaged
 */
export function btt_attach(kernel: Kernel, p: btt_params): btt {
  if (p.size - p.initial_offset < ARENA_MIN_SIZE) throw ENXIO;
  let arenas = discover_arenas(kernel, p);
  if (arenas.length === 0) {
    if (p.ro) throw EROFS;
    create_arenas(kernel, p);
    arenas = discover_arenas(kernel, p);
  }
  const lbasize = arenas[0]!.external_lbasize;
  const sector_size = lbasize >= 4096 ? 4096 : 512;
  const nlba = arenas.reduce((n, a) => n + a.external_nlba, 0);
  const b = { kernel, params: p, arenas, lbasize, sector_size, nlba, bb: new badblocks(), cpu: 0 };
  const self = b as typeof b & { disk: gendisk };
  self.disk = add_disk(kernel, {
    disk_name: p.disk_name,
    capacity: nlba * (sector_size / 512),
    logical_block_size: sector_size,
    physical_block_size: sector_size,
    ro: p.ro,
    queue_dax: false,
    queue_write_cache: false,
    meta_size: lbasize - sector_size,
    submit_bio: (bio) => btt_submit_bio(self, bio),
    private_data: null,
  });
  bdev_disk_changed(kernel, self.disk);
  return self;
}

export function btt_detach(b: btt): void {
  del_gendisk(b.kernel, b.disk);
}

/** What `ndctl check-namespace` looks for: every internal block used exactly once. */
export function btt_check_arena(kernel: Kernel, a: arena_info): boolean {
  const seen = new Uint8Array(a.internal_nlba);
  const map = read_view(kernel, a.base + a.mapoff, a.external_nlba * MAP_ENT_SIZE);
  const use = (block: number): boolean => {
    if (block >= a.internal_nlba || seen[block]) return false;
    seen[block] = 1;
    return true;
  };
  for (let lba = 0; lba < a.external_nlba; lba++) {
    if (!use(map_decode(map.getUint32(lba * MAP_ENT_SIZE, true), lba).block)) return false;
  }
  return a.freelist.every((f) => use(f.block));
}
