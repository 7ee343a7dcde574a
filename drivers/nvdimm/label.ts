/**
 * drivers/nvdimm/label.ts - the label storage area of a DIMM, versions 1.1 and 1.2.
 * Linux: drivers/nvdimm/label.{c,h}; UEFI "NVDIMM Label Protocol". Layout: NVDIMM-FORMATS.
 *
 *     index 0 | index 1 | slot 0 | slot 1 | ...
 *
 * Reading order: nd_label_data_init() -> nd_label_list() -> nd_label_write() -> nd_label_delete()
 *
 * An update is: the label into a slot that the current index says is free, then the other index
 * block with the next sequence number. Power lost in between leaves the old state. A label is
 * written first with NSLABEL_FLAG_UPDATING and once more without.
 *
 * Invariants: `data` holds what the driver believes; the block at ns_next is a copy of the current
 * one plus the changes not yet written. Writes to the area are durable at once (firmware calls).
 */
import { ENXIO } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { name_to_bytes, utf8_decode } from "../../kernel/lib/utf8.ts";
import { bytes, struct, u8, u16, u32, u64 } from "../../kernel/lib/struct.ts";
import { nd_fletcher64 } from "./fletcher.ts";
import type { claim_class, nvdimm_drvdata, u64_pair } from "./nd.ts";
import { UUID_NULL, guid_bytes, guid_text, uuid_bytes, uuid_text } from "./uuid.ts";

const NSINDEX_SIGNATURE = "NAMESPACE_INDEX\0";
const NSINDEX_FIXED = 72;
const NSINDEX_ALIGN = 256;
const NSINDEX_SUM = 64;
const NSLABEL_SUM = 248;
const NSLABEL_NAME_LEN = 64;
export const NSLABEL_FLAG_ROLABEL = 1 << 0;
export const NSLABEL_FLAG_LOCAL = 1 << 1;
export const NSLABEL_FLAG_BTT = 1 << 2;
export const NSLABEL_FLAG_UPDATING = 1 << 3;
const TYPE_PMEM = "66f0d379-b4f3-4074-ac43-0d3318b78cdb";

const CLAIM_GUIDS: Readonly<Record<string, claim_class>> = Object.freeze({
  [UUID_NULL]: "",
  "8aed63a2-29a2-4c66-8b12-f05d15d3922a": "btt",
  "18633bfc-1735-4217-8ac9-17239282d3f8": "btt2",
  "266400ba-fb9f-4677-bcb0-968f11d0d225": "pfn",
  "97a86d9c-3cdd-4eda-986f-5068b4f80088": "dax",
});

export const nd_namespace_index = struct("nd_namespace_index", {
  sig: [bytes(16), 0],
  flags: [bytes(3), 16],
  labelsize: [u8, 19],
  seq: [u32, 20],
  myoff: [u64, 24],
  mysize: [u64, 32],
  otheroff: [u64, 40],
  labeloff: [u64, 48],
  nslot: [u32, 56],
  major: [u16, 60],
  minor: [u16, 62],
  checksum: [u64, 64],
});

/** One label. */
export interface nd_label {
  uuid: string;
  name: string;
  flags: number;
  nlabel: number;
  position: number;
  isetcookie: u64_pair;
  lbasize: number;
  dpa: number;
  rawsize: number;
  slot: number;
  /** Version 1.2 only, else "". */
  claim_class: claim_class;
  type_guid: string;
  abstraction_guid: string;
}

const view_of = (b: Uint8Array): DataView => new DataView(b.buffer, b.byteOffset, b.byteLength);

/** Sequence numbers go 1, 2, 3, 1 ...; 0 is not valid. */
export function nd_inc_seq(seq: number): number {
  return [0, 2, 3, 1][seq & 3]!;
}

/** The later of two sequence numbers; equal ones: b. */
function best_seq(a: number, b: number): number {
  a &= 3;
  b &= 3;
  if (a === 0 || a === b) return b;
  if (b === 0) return a;
  return nd_inc_seq(a) === b ? b : a;
}

/** Bytes of an index block with a bit for each of `nslot` slots. */
function index_bytes(nslot: number): number {
  return Math.ceil((NSINDEX_FIXED + Math.ceil(nslot / 8)) / NSINDEX_ALIGN) * NSINDEX_ALIGN;
}

/** Slots behind the two index blocks of an area of that many bytes. */
export function nvdimm_num_label_slots(area: number, label_size: number): number {
  const n = Math.floor((area - 2 * index_bytes(Math.floor(area / label_size))) / label_size);
  return Math.max(n, 0);
}

/** Bytes of one index block; 0 when the area is too small for two of them and two labels. */
export function sizeof_namespace_index(area: number, label_size: number): number {
  const nslot = nvdimm_num_label_slots(area, label_size);
  const size = index_bytes(nslot);
  return nslot >= 2 && 2 * size <= area - nslot * label_size ? size : 0;
}

/** True when the index block number `i` of the area is right in itself for that label size. */
function index_valid(data: Uint8Array, label_size: number, i: number): boolean {
  const size = sizeof_namespace_index(data.length, label_size);
  if (size === 0) return false;
  const view = view_of(data);
  const at = i * size;
  const ix = nd_namespace_index.at(view, at);
  for (let k = 0; k < 16; k++) if (data[at + k] !== NSINDEX_SIGNATURE.charCodeAt(k)) return false;
  const stored = ix.major * 100 + ix.minor >= 102 ? 128 << ix.labelsize : 128;
  if (ix.labelsize > 1 || stored !== label_size) return false;
  const sum = nd_fletcher64(view, at, size, NSINDEX_SUM);
  if (view.getUint32(at + NSINDEX_SUM, true) !== sum.lo) return false;
  if (view.getUint32(at + NSINDEX_SUM + 4, true) !== sum.hi) return false;
  if ((ix.seq & 3) === 0) return false;
  if (ix.myoff !== at || ix.otheroff !== (1 - i) * size || ix.labeloff !== 2 * size) return false;
  if (ix.mysize > size || ix.mysize < NSINDEX_FIXED) return false;
  return ix.nslot * label_size + 2 * size <= data.length;
}

/** The current index block, or -1. */
export function nd_label_validate(data: Uint8Array, label_size: number): number {
  const ok = [0, 1].map((i) => index_valid(data, label_size, i));
  if (!ok[0] && !ok[1]) return -1;
  if (!ok[0] || !ok[1]) return ok[0] ? 0 : 1;
  const size = sizeof_namespace_index(data.length, label_size);
  const view = view_of(data);
  const seq = [0, 1].map((i) => view.getUint32(i * size + 20, true));
  return best_seq(seq[0]!, seq[1]!) === (seq[1]! & 3) ? 1 : 0;
}

const index_size = (ndd: nvdimm_drvdata): number =>
  sizeof_namespace_index(ndd.data.length, ndd.nslabel_size);

function index_at(ndd: nvdimm_drvdata, i: number) {
  return nd_namespace_index.at(view_of(ndd.data), i * index_size(ndd));
}

function slot_offset(ndd: nvdimm_drvdata, slot: number): number {
  return 2 * index_size(ndd) + slot * ndd.nslabel_size;
}

function is_free(ndd: nvdimm_drvdata, index: number, slot: number): boolean {
  const at = index * index_size(ndd) + NSINDEX_FIXED + (slot >> 3);
  return ((ndd.data[at]! >> (slot & 7)) & 1) === 1;
}

function set_free(ndd: nvdimm_drvdata, slot: number, free: boolean): void {
  const at = ndd.ns_next * index_size(ndd) + NSINDEX_FIXED + (slot >> 3);
  const bit = 1 << (slot & 7);
  ndd.data[at] = free ? ndd.data[at]! | bit : ndd.data[at]! & ~bit;
}

/** Reads the whole area and finds the current index; without a valid one ns_current is -1. */
export function nd_label_data_init(kernel: Kernel, ndd: nvdimm_drvdata): void {
  const area = ndd.nvdimm.labels!;
  ndd.data = new Uint8Array(area.size);
  kernel.phys.copy_from(area.start, ndd.data, 0, area.size);
  ndd.ns_current = -1;
  ndd.ns_next = -1;
  for (const label_size of [128, 256]) {
    ndd.nslabel_size = label_size;
    ndd.ns_current = nd_label_validate(ndd.data, label_size);
    if (ndd.ns_current >= 0) break;
  }
  if (ndd.ns_current < 0) return;
  ndd.ns_next = 1 - ndd.ns_current;
  const size = index_size(ndd);
  ndd.data.copyWithin(ndd.ns_next * size, ndd.ns_current * size, (ndd.ns_current + 1) * size);
}

function write_area(kernel: Kernel, ndd: nvdimm_drvdata, off: number, len: number): void {
  const { start } = ndd.nvdimm.labels!;
  kernel.phys.memcpy_flushcache(start + off, ndd.data.subarray(off, off + len), 0, len);
  kernel.phys.sfence();
}

/** Fills in and writes index block `i`; `fresh`: with every slot free. */
function write_index(
  kernel: Kernel,
  ndd: nvdimm_drvdata,
  i: number,
  seq: number,
  fresh: boolean,
): void {
  const size = index_size(ndd);
  const at = i * size;
  const ix = index_at(ndd, i);
  for (let k = 0; k < 16; k++) ndd.data[at + k] = NSINDEX_SIGNATURE.charCodeAt(k);
  ndd.data.fill(0, at + 16, at + 19);
  ix.labelsize = ndd.nslabel_size >> 8;
  ix.seq = seq;
  ix.myoff = at;
  ix.mysize = size;
  ix.otheroff = (1 - i) * size;
  ix.labeloff = 2 * size;
  ix.major = 1;
  ix.minor = ndd.nslabel_size < 256 ? 1 : 2;
  if (fresh) {
    const nslot = nvdimm_num_label_slots(ndd.data.length, ndd.nslabel_size);
    ix.nslot = nslot;
    ndd.data.fill(0, at + NSINDEX_FIXED, at + size);
    ndd.data.fill(0xff, at + NSINDEX_FIXED, at + NSINDEX_FIXED + (nslot >> 3));
    if (nslot & 7) ndd.data[at + NSINDEX_FIXED + (nslot >> 3)] = (1 << (nslot & 7)) - 1;
  }
  const view = view_of(ndd.data);
  const sum = nd_fletcher64(view, at, size, NSINDEX_SUM);
  view.setUint32(at + NSINDEX_SUM, sum.lo, true);
  view.setUint32(at + NSINDEX_SUM + 4, sum.hi, true);
  write_area(kernel, ndd, at, size);
  if (fresh) return;
  ndd.data.copyWithin(ndd.ns_current * size, at, at + size);
  ndd.ns_current = i;
  ndd.ns_next = 1 - i;
}

/** Two index blocks with every slot free; old labels are forgotten. */
export function nd_label_init_area(
  kernel: Kernel,
  ndd: nvdimm_drvdata,
  label_size: 128 | 256,
): void {
  ndd.nslabel_size = label_size;
  if (index_size(ndd) === 0) throw ENXIO;
  ndd.data.fill(0);
  write_index(kernel, ndd, 0, 3, true);
  write_index(kernel, ndd, 1, 2, true);
  ndd.ns_current = 0;
  ndd.ns_next = 1;
  // the block that will be written next starts as a copy of the current one
  const size = index_size(ndd);
  ndd.data.copyWithin(size, 0, size);
}

function text_of(b: Uint8Array): string {
  const end = b.indexOf(0);
  return utf8_decode(b, 0, end < 0 ? b.length : end);
}

/** Reads the label at a byte position of an area. */
export function nd_label_read(data: Uint8Array, at: number, label_size: number): nd_label {
  const view = view_of(data);
  const u64_at = (o: number): number =>
    view.getUint32(at + o + 4, true) * 2 ** 32 + view.getUint32(at + o, true);
  const abstraction_guid = label_size < 256 ? "" : guid_text(data, at + 144);
  const cls = CLAIM_GUIDS[abstraction_guid];
  return {
    uuid: uuid_text(data, at),
    name: text_of(data.subarray(at + 16, at + 16 + NSLABEL_NAME_LEN)),
    flags: view.getUint32(at + 80, true),
    nlabel: view.getUint16(at + 84, true),
    position: view.getUint16(at + 86, true),
    isetcookie: { hi: view.getUint32(at + 92, true), lo: view.getUint32(at + 88, true) },
    lbasize: u64_at(96),
    dpa: u64_at(104),
    rawsize: u64_at(112),
    slot: view.getUint32(at + 120, true),
    type_guid: label_size < 256 ? "" : guid_text(data, at + 128),
    abstraction_guid,
    claim_class: label_size < 256 ? "" : (cls ?? "unknown"),
  };
}

function slot_valid(ndd: nvdimm_drvdata, slot: number): boolean {
  const at = slot_offset(ndd, slot);
  const view = view_of(ndd.data);
  if (view.getUint32(at + 120, true) !== slot) return false;
  if (ndd.nslabel_size < 256) return true;
  const sum = nd_fletcher64(view, at, 256, NSLABEL_SUM);
  return (
    view.getUint32(at + NSLABEL_SUM, true) === sum.lo &&
    view.getUint32(at + NSLABEL_SUM + 4, true) === sum.hi
  );
}

/** Slots in use by one index, in order. Most of an area is free: a byte of the map says so of 8. */
function used_slots(ndd: nvdimm_drvdata, index: number): number[] {
  const { nslot } = index_at(ndd, index);
  const map = index * index_size(ndd) + NSINDEX_FIXED;
  const out: number[] = [];
  for (let first = 0; first < nslot; first += 8) {
    if (ndd.data[map + (first >> 3)] === 0xff) continue;
    const end = Math.min(first + 8, nslot);
    for (let slot = first; slot < end; slot++) if (!is_free(ndd, index, slot)) out.push(slot);
  }
  return out;
}

/** The slots in use whose labels are valid, in slot order. */
export function nd_label_list(ndd: nvdimm_drvdata): nd_label[] {
  const out: nd_label[] = [];
  if (ndd.ns_current < 0) return out;
  for (const slot of used_slots(ndd, ndd.ns_current)) {
    if (!slot_valid(ndd, slot)) continue;
    out.push(nd_label_read(ndd.data, slot_offset(ndd, slot), ndd.nslabel_size));
  }
  return out;
}

/** Slots not in use, one of which every update needs. */
export function nd_label_nfree(ndd: nvdimm_drvdata): number {
  if (ndd.ns_next < 0) return nvdimm_num_label_slots(ndd.data.length, ndd.nslabel_size);
  return index_at(ndd, ndd.ns_next).nslot - used_slots(ndd, ndd.ns_next).length;
}

function alloc_slot(ndd: nvdimm_drvdata): number {
  const { nslot } = index_at(ndd, ndd.ns_next);
  for (let slot = 0; slot < nslot; slot++) {
    if (!is_free(ndd, ndd.ns_next, slot)) continue;
    set_free(ndd, slot, false);
    return slot;
  }
  throw ENXIO;
}

/** Frees in the next index every slot, but `keep`, that holds a label of that uuid. */
function free_slots_of(ndd: nvdimm_drvdata, uuid: string, keep: number): void {
  for (const slot of used_slots(ndd, ndd.ns_next)) {
    if (slot === keep) continue;
    if (uuid_text(ndd.data, slot_offset(ndd, slot)) === uuid) set_free(ndd, slot, true);
  }
}

export type label_values = Omit<nd_label, "slot" | "type_guid" | "abstraction_guid">;

/**
 * Writes a label into a free slot and makes it count; the old label of that uuid is freed.
 * @throws ENXIO no free slot, or the area was never initialised
 */
export function nd_label_write(kernel: Kernel, ndd: nvdimm_drvdata, l: label_values): void {
  if (ndd.ns_next < 0) throw ENXIO;
  const slot = alloc_slot(ndd);
  const at = slot_offset(ndd, slot);
  const size = ndd.nslabel_size;
  const view = view_of(ndd.data);
  const put = (o: number, x: number): void => {
    view.setUint32(at + o, x % 2 ** 32, true);
    view.setUint32(at + o + 4, Math.floor(x / 2 ** 32), true);
  };
  ndd.data.fill(0, at, at + size);
  ndd.data.set(uuid_bytes(l.uuid), at);
  ndd.data.set(name_to_bytes(l.name).subarray(0, NSLABEL_NAME_LEN - 1), at + 16);
  view.setUint32(at + 80, l.flags, true);
  view.setUint16(at + 84, l.nlabel, true);
  view.setUint16(at + 86, l.position, true);
  view.setUint32(at + 88, l.isetcookie.lo, true);
  view.setUint32(at + 92, l.isetcookie.hi, true);
  put(96, l.lbasize);
  put(104, l.dpa);
  put(112, l.rawsize);
  view.setUint32(at + 120, slot, true);
  if (size >= 256) {
    ndd.data.set(guid_bytes(TYPE_PMEM), at + 128);
    const guid = Object.keys(CLAIM_GUIDS).find((g) => CLAIM_GUIDS[g] === l.claim_class);
    ndd.data.set(guid_bytes(guid ?? UUID_NULL), at + 144);
    const sum = nd_fletcher64(view, at, size, NSLABEL_SUM);
    view.setUint32(at + NSLABEL_SUM, sum.lo, true);
    view.setUint32(at + NSLABEL_SUM + 4, sum.hi, true);
  }
  write_area(kernel, ndd, at, size);
  free_slots_of(ndd, l.uuid, slot);
  write_index(kernel, ndd, ndd.ns_next, nd_inc_seq(index_at(ndd, ndd.ns_next).seq), false);
}

/** Frees the labels of a uuid. */
export function nd_label_delete(kernel: Kernel, ndd: nvdimm_drvdata, uuid: string): void {
  if (ndd.ns_next < 0) return;
  free_slots_of(ndd, uuid, -1);
  write_index(kernel, ndd, ndd.ns_next, nd_inc_seq(index_at(ndd, ndd.ns_next).seq), false);
}
