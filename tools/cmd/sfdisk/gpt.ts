/** tools/cmd/sfdisk/gpt.ts - GUID partition tables: reading, and writing both copies. */
import { guid_bytes, guid_text, new_uuid_of } from "../../../drivers/nvdimm/uuid.ts";
import { crc32 } from "../../../kernel/lib/crc32.ts";
import { type part, type sfdisk_device, type table, new_part, wrong } from "./model.ts";
import { protective_mbr } from "./dos.ts";

const ENTRIES = 128;
const ENTRY = 128;
const MAX_ENTRIES = 1024;
const NAME_CHARS = 36;

/** Sectors that a copy of the entries takes. */
const table_sectors = (d: sfdisk_device): number => Math.ceil((ENTRIES * ENTRY) / d.sector);

/** A new, empty table. @throws sfdisk_error */
export function new_gpt(
  d: sfdisk_device,
  id: string,
  first_lba: number | null,
  last_lba: number | null,
): table {
  const n = table_sectors(d);
  const first = first_lba ?? Math.max(2 + n, (1024 * 1024) / d.sector);
  const last = last_lba ?? d.sectors - n - 2;
  if (first < 2 + n || last > d.sectors - n - 2 || first > last) {
    throw wrong("specified LBA is out of range");
  }
  const guid = id === "" ? guid_text(new_uuid_bytes(d)) : id;
  return { label: "gpt", id: guid.toUpperCase(), first, last, parts: [] };
}

function new_uuid_bytes(d: sfdisk_device): Uint8Array {
  return guid_bytes(new_uuid_of(d.random()));
}

export function new_part_uuid(d: sfdisk_device): string {
  return new_uuid_of(d.random()).toUpperCase();
}

// ---- reading

const u64_at = (v: DataView, o: number): number =>
  v.getUint32(o + 4, true) * 2 ** 32 + v.getUint32(o, true);

function entry_at(table: Uint8Array, v: DataView, no: number, at: number): part | null {
  const raw = table.subarray(at, at + ENTRY);
  if (raw.subarray(0, 16).every((b) => b === 0)) return null;
  let name = "";
  for (let k = 0; k < NAME_CHARS; k++) {
    const c = v.getUint16(at + 56 + 2 * k, true);
    if (c === 0) break;
    name += String.fromCharCode(c);
  }
  const start = u64_at(v, at + 32);
  return new_part({
    no,
    start,
    size: u64_at(v, at + 40) - start + 1,
    type: guid_text(raw, 0).toUpperCase(),
    uuid: guid_text(raw, 16).toUpperCase(),
    name,
    attrs: raw.slice(48, 56),
  });
}

/** The table whose header is at `lba`, or null when it is not valid. */
function read_copy(d: sfdisk_device, lba: number): table | null {
  if (lba >= d.sectors) return null;
  const h = d.read(lba * d.sector, d.sector);
  const v = new DataView(h.buffer, h.byteOffset, h.length);
  for (let i = 0; i < 8; i++) if (h[i] !== "EFI PART".charCodeAt(i)) return null;
  const size = v.getUint32(12, true);
  if (size < 92 || size > d.sector || u64_at(v, 24) !== lba) return null;
  const copy = h.slice(0, size);
  copy.fill(0, 16, 20);
  if (crc32(copy) !== v.getUint32(16, true)) return null;
  const [nr, entry, at] = [v.getUint32(80, true), v.getUint32(84, true), u64_at(v, 72)];
  if (entry !== ENTRY || nr === 0 || nr > MAX_ENTRIES) return null;
  if (at * d.sector + nr * entry > d.sectors * d.sector) return null;
  const raw = d.read(at * d.sector, nr * entry);
  if (crc32(raw) !== v.getUint32(88, true)) return null;
  const t = new DataView(raw.buffer, raw.byteOffset, raw.length);
  const parts: part[] = [];
  for (let i = 0; i < nr; i++) {
    const p = entry_at(raw, t, i + 1, i * entry);
    if (p) parts.push(p);
  }
  const id = guid_text(h, 56).toUpperCase();
  return { label: "gpt", id, first: u64_at(v, 40), last: u64_at(v, 48), parts };
}

/** The first copy that is whole, or null. */
export function read_gpt(d: sfdisk_device): table | null {
  return read_copy(d, 1) ?? read_copy(d, d.sectors - 1);
}

// ---- writing

function put_u64(v: DataView, off: number, n: number): void {
  v.setUint32(off, n % 2 ** 32, true);
  v.setUint32(off + 4, Math.floor(n / 2 ** 32), true);
}

interface place {
  my: number;
  other: number;
  table: number;
}

function header(d: sfdisk_device, t: table, entries: Uint8Array, at: place): Uint8Array {
  const h = new Uint8Array(d.sector);
  const v = new DataView(h.buffer);
  for (let i = 0; i < 8; i++) h[i] = "EFI PART".charCodeAt(i);
  v.setUint32(8, 0x10000, true);
  v.setUint32(12, 92, true);
  put_u64(v, 24, at.my);
  put_u64(v, 32, at.other);
  put_u64(v, 40, t.first);
  put_u64(v, 48, t.last);
  h.set(guid_bytes(t.id), 56);
  put_u64(v, 72, at.table);
  v.setUint32(80, ENTRIES, true);
  v.setUint32(84, ENTRY, true);
  v.setUint32(88, crc32(entries), true);
  v.setUint32(16, crc32(h.subarray(0, 92)), true);
  return h;
}

/** @throws sfdisk_error a number that has no place */
function entries_of(t: table): Uint8Array {
  const out = new Uint8Array(ENTRIES * ENTRY);
  const v = new DataView(out.buffer);
  for (const p of t.parts) {
    if (p.no > ENTRIES) throw wrong(`partition ${p.no}: the table has ${ENTRIES} entries`);
    const at = (p.no - 1) * ENTRY;
    out.set(guid_bytes(p.type), at);
    out.set(guid_bytes(p.uuid), at + 16);
    put_u64(v, at + 32, p.start);
    put_u64(v, at + 40, p.start + p.size - 1);
    out.set(p.attrs, at + 48);
    for (let k = 0; k < Math.min(NAME_CHARS, p.name.length); k++) {
      v.setUint16(at + 56 + 2 * k, p.name.charCodeAt(k), true);
    }
  }
  return out;
}

/** The protective MBR, and the table at both ends. */
export function write_gpt(d: sfdisk_device, t: table): void {
  const n = table_sectors(d);
  const entries = entries_of(t);
  const end = d.sectors - 1;
  const copy = (at: place): void => {
    d.write(at.table * d.sector, entries);
    d.write(at.my * d.sector, header(d, t, entries, at));
  };
  d.write(0, protective_mbr(d));
  copy({ my: end, other: 1, table: end - n });
  copy({ my: 1, other: end, table: 2 });
}
