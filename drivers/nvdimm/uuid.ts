/** drivers/nvdimm/uuid.ts - uuids and GUIDs as text and as the 16 bytes of media. */
import { EINVAL } from "../../kernel/include/errno.ts";
import type { Kernel } from "../../kernel/kernel.ts";

export const UUID_NULL = "00000000-0000-0000-0000-000000000000";
const UUID_RE = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** Where the byte of storage position i stands in the text of a GUID. */
const GUID_ORDER = Object.freeze([3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]);

/** 16 bytes in printing order as text. */
export function uuid_text(b: Uint8Array, off = 0): string {
  let hex = "";
  for (let i = 0; i < 16; i++) hex += b[off + i]!.toString(16).padStart(2, "0");
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join("-");
}

/** @throws EINVAL when the text is no uuid */
export function uuid_bytes(text: string): Uint8Array {
  const lower = text.toLowerCase();
  if (!UUID_RE.test(lower)) throw EINVAL;
  const hex = lower.replaceAll("-", "");
  const out = new Uint8Array(16);
  for (let i = 0; i < 16; i++) out[i] = Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16);
  return out;
}

/** A GUID in EFI storage order (first three groups little-endian). */
export function guid_bytes(text: string): Uint8Array {
  const plain = uuid_bytes(text);
  return Uint8Array.from(GUID_ORDER, (i) => plain[i]!);
}

export function guid_text(b: Uint8Array, off = 0): string {
  return uuid_text(Uint8Array.from(GUID_ORDER, (i) => b[off + i]!));
}

/** 16 random bytes as a uuid of version 4. */
export function new_uuid_of(random: Uint8Array): string {
  const b = random.slice(0, 16);
  b[6] = (b[6]! & 0x0f) | 0x40;
  b[8] = (b[8]! & 0x3f) | 0x80;
  return uuid_text(b);
}

export const new_uuid = (kernel: Kernel): string => new_uuid_of(kernel.machine.random.bytes(16));
