/**
 * drivers/nvdimm/pfn.ts - the pfn info block of an fsdax namespace (and dax, of devdax).
 * Linux: drivers/nvdimm/{pfn.h,pfn_devs.c}. Offsets and rules: NVDIMM-FORMATS.
 *
 * The block lies 4096 bytes into the namespace. It says where the data starts: behind the block
 * itself and, with the page map on the device, behind room for 64 bytes a page.
 */
import { ENODEV, EINVAL, ENOSPC, EOPNOTSUPP } from "../../kernel/include/errno.ts";
import { bytes, struct, u16, u32, u64 } from "../../kernel/lib/struct.ts";
import { nd_fletcher64 } from "./fletcher.ts";
import { uuid_text } from "./uuid.ts";

export const PFN_SB_OFFSET = 4096;
export const PFN_SB_SIZE = 4096;
export const PFN_MODE_NONE = 0;
export const PFN_MODE_RAM = 1;
export const PFN_MODE_PMEM = 2;
export const PFN_SIG = "NVDIMM_PFN_INFO\0";
export const DAX_SIG = "NVDIMM_DAX_INFO\0";
/** Bytes reserved in front: the first block and the info block. */
const INFO_RESERVE = 8192;
const STRUCT_PAGE_SIZE = 64;
const SECTION_ALIGN = 2 * 1024 * 1024;
const CHECKSUM_OFF = 4088;

export const nd_pfn_sb = struct("nd_pfn_sb", {
  signature: [bytes(16), 0],
  uuid: [bytes(16), 16],
  parent_uuid: [bytes(16), 32],
  flags: [u32, 48],
  version_major: [u16, 52],
  version_minor: [u16, 54],
  dataoff: [u64, 56],
  npfns: [u64, 64],
  mode: [u32, 72],
  start_pad: [u32, 76],
  end_trunc: [u32, 80],
  align: [u32, 84],
  page_size: [u32, 88],
  page_struct_size: [u16, 92],
});

/** What the driver takes from a valid block; bytes and pages of the namespace. */
export interface nd_pfn_info {
  signature: "pfn" | "dax";
  mode: number;
  dataoff: number;
  npfns: number;
  start_pad: number;
  end_trunc: number;
  align: number;
}

const round_up = (x: number, to: number): number => Math.ceil(x / to) * to;

/**
 * Where ndctl and the kernel put the data of a new namespace of `size` bytes at physical `start`.
 */
export function nd_pfn_layout(
  start: number,
  size: number,
  map: "dev" | "mem",
  align = SECTION_ALIGN,
): nd_pfn_info {
  const a = Math.max(align, SECTION_ALIGN);
  const room = map === "dev" ? STRUCT_PAGE_SIZE * Math.floor((size - INFO_RESERVE) / 4096) : 0;
  const dataoff = round_up(start + INFO_RESERVE + room, a) - start;
  const end_trunc = (start + size) % a;
  const usable = size - dataoff - end_trunc;
  if (usable <= 0) throw ENOSPC;
  return {
    signature: "pfn",
    mode: map === "dev" ? PFN_MODE_PMEM : PFN_MODE_RAM,
    dataoff,
    npfns: usable / 4096,
    start_pad: 0,
    end_trunc,
    align,
  };
}

/** The 4096 bytes of an info block. `uuid` and `parent_uuid` are 16 bytes. */
export function nd_pfn_make_block(
  info: nd_pfn_info,
  uuid: Uint8Array,
  parent_uuid: Uint8Array,
): Uint8Array {
  const block = new Uint8Array(PFN_SB_SIZE);
  const view = new DataView(block.buffer);
  const sb = nd_pfn_sb.at(view, 0);
  const sig = info.signature === "pfn" ? PFN_SIG : DAX_SIG;
  for (let i = 0; i < 16; i++) block[i] = sig.charCodeAt(i);
  block.set(uuid, 16);
  block.set(parent_uuid, 32);
  sb.version_major = 1;
  sb.version_minor = 4;
  sb.dataoff = info.dataoff;
  sb.npfns = info.npfns;
  sb.mode = info.mode;
  sb.start_pad = info.start_pad;
  sb.end_trunc = info.end_trunc;
  sb.align = info.align;
  sb.page_size = 4096;
  sb.page_struct_size = STRUCT_PAGE_SIZE;
  const sum = nd_fletcher64(view, 0, PFN_SB_SIZE, CHECKSUM_OFF);
  view.setUint32(CHECKSUM_OFF, sum.lo, true);
  view.setUint32(CHECKSUM_OFF + 4, sum.hi, true);
  return block;
}

/** The uuids of a valid block: its own, and its namespace's. */
export const nd_pfn_uuid = (block: Uint8Array): string => uuid_text(block, 16);
export const nd_pfn_parent_uuid = (block: Uint8Array): string => uuid_text(block, 32);

/**
 * Reads an info block. Throws ENODEV when there is none (or its checksum is wrong: the kernel then
 * takes the namespace as raw), EOPNOTSUPP for what this machine cannot map, EINVAL for values that
 * contradict the namespace (`start`, `size` in bytes).
 */
export function nd_pfn_validate(
  block: Uint8Array,
  start: number,
  size: number,
  page_size: number,
): nd_pfn_info {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const sb = nd_pfn_sb.at(view, 0);
  let sig = "";
  for (let i = 0; i < 16; i++) sig += String.fromCharCode(block[i]!);
  if (sig !== PFN_SIG && sig !== DAX_SIG) throw ENODEV;
  const sum = nd_fletcher64(view, 0, PFN_SB_SIZE, CHECKSUM_OFF);
  if (view.getUint32(CHECKSUM_OFF, true) !== sum.lo) throw ENODEV;
  if (view.getUint32(CHECKSUM_OFF + 4, true) !== sum.hi) throw ENODEV;
  const minor = sb.version_minor;
  const info: nd_pfn_info = {
    signature: sig === PFN_SIG ? "pfn" : "dax",
    mode: sb.mode,
    dataoff: sb.dataoff,
    npfns: sb.npfns,
    start_pad: minor >= 1 ? sb.start_pad : 0,
    end_trunc: minor >= 1 ? sb.end_trunc : 0,
    align: minor >= 2 ? sb.align : 4096,
  };
  if (info.mode !== PFN_MODE_RAM && info.mode !== PFN_MODE_PMEM) throw ENODEV;
  if (minor >= 4 && sb.page_size !== page_size) throw EOPNOTSUPP;
  const first = info.start_pad + info.dataoff;
  const bad =
    info.dataoff < INFO_RESERVE ||
    first >= size ||
    info.end_trunc >= size - first ||
    info.npfns * page_size > size - first - info.end_trunc ||
    (start + first) % info.align !== 0;
  if (bad) throw EINVAL;
  return info;
}
