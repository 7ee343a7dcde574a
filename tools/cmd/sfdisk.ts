/**
 * tools/cmd/sfdisk.ts - `sfdisk DEVICE SCRIPT`: writes a partition table, GPT or MBR.
 * Pure. Differs from util-linux: the script is the second operand (lines apart by newline or
 * ";") instead of standard input, and every run makes a new table, as `--wipe always -f` does.
 *
 * Script lines: `label: gpt|dos`, `label-id: ...`, `first-lba: N`, `last-lba: N`, and one line a
 * partition: `start=..., size=..., type=..., name=..., uuid=..., bootable`. Numbers are sectors, or
 * sizes with KiB, MiB, GiB. What is not given is the first free place with room, at a multiple of
 * 1 MiB, and all there is.
 */
import { guid_bytes, new_uuid_of } from "../../drivers/nvdimm/uuid.ts";
import { crc32 } from "../../kernel/lib/crc32.ts";

export interface sfdisk_device {
  /** Bytes of a sector, and how many there are. */
  readonly sector: number;
  readonly sectors: number;
  write(offset: number, bytes: Uint8Array): void;
  /** 16 random bytes. */
  random(): Uint8Array;
}

interface part {
  start: number;
  size: number;
  type: string;
  name: string;
  uuid: string;
  bootable: boolean;
}

interface script {
  label: "gpt" | "dos";
  label_id: string;
  first_lba: number | null;
  last_lba: number | null;
  lines: Record<string, string>[];
}

/** What is wrong with a script, in words. */
export interface sfdisk_error {
  readonly is_sfdisk_error: true;
  readonly message: string;
}

export function is_sfdisk_error(e: unknown): e is sfdisk_error {
  return typeof e === "object" && e !== null && "is_sfdisk_error" in e;
}

const wrong = (message: string): sfdisk_error => ({ is_sfdisk_error: true, message });

const LINUX_GPT = "0FC63DAF-8483-4772-8E79-3D69D8477DE4";
const LINUX_MBR = "83";
const UNITS: Readonly<Record<string, number>> = Object.freeze({
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
});
const GPT_ENTRIES = 128;
const GPT_ENTRY = 128;

function sectors_of(text: string, sector: number): number {
  const m = /^(\d+)\s*(?:([kmgt])(?:ib)?)?$/i.exec(text.trim());
  if (!m) throw wrong(`unsupported size or start: ${text}`);
  const n = Number(m[1]);
  return m[2] === undefined ? n : Math.floor((n * UNITS[m[2].toLowerCase()]!) / sector);
}

function parse(text: string): script {
  const s: script = { label: "dos", label_id: "", first_lba: null, last_lba: null, lines: [] };
  for (const raw of text.split(/[;\n]/)) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const header = /^([a-z-]+)\s*:\s*(\S+)$/.exec(line);
    if (header) {
      const [, key, value] = header;
      if (key === "label" && (value === "gpt" || value === "dos")) s.label = value;
      else if (key === "label") throw wrong(`unsupported label '${value}'`);
      else if (key === "label-id") s.label_id = value!;
      else if (key === "first-lba") s.first_lba = Number(value);
      else if (key === "last-lba") s.last_lba = Number(value);
      continue;
    }
    const fields: Record<string, string> = {};
    for (const f of line.replace(/^\S+\s*:\s*/, "").split(",")) {
      const [k, ...v] = f.split("=");
      fields[k!.trim()] = v.join("=").trim().replace(/^"|"$/g, "");
    }
    s.lines.push(fields);
  }
  return s;
}

/** Puts partitions where the script says, others behind what is there. */
class layout {
  readonly first: number;
  readonly last: number;
  readonly grain: number;
  readonly parts: part[] = [];

  constructor(first: number, last: number, sector: number) {
    this.first = first;
    this.last = last;
    this.grain = Math.max(1, (1024 * 1024) / sector);
  }
  /** First place at a multiple of the grain with room for `size` sectors. */
  free_start(from: number, size: number): number {
    let at = Math.max(from, this.first);
    for (;;) {
      at = Math.ceil(at / this.grain) * this.grain;
      const inside = this.parts.find((p) => at >= p.start && at < p.start + p.size);
      const end = inside ? inside.start + inside.size : this.end_of_free(at);
      if (!inside && (end - at >= size || at > this.last)) return at;
      at = inside ? end : end + 1;
    }
  }
  end_of_free(start: number): number {
    const after = this.parts.filter((p) => p.start > start).map((p) => p.start);
    return Math.min(this.last + 1, ...after);
  }
  /** Could the line be put here? */
  fits(f: Record<string, string>, sector: number): boolean {
    const size = f["size"] && f["size"] !== "+" ? sectors_of(f["size"], sector) : 1;
    const start = f["start"] ? sectors_of(f["start"], sector) : this.free_start(0, size);
    return start >= this.first && start + size <= this.last + 1;
  }
  add(f: Record<string, string>, sector: number, type: string, from = 0): part {
    const given = f["size"] && f["size"] !== "+" ? sectors_of(f["size"], sector) : null;
    const start = f["start"] ? sectors_of(f["start"], sector) : this.free_start(from, given ?? 1);
    const end = this.end_of_free(start);
    const size = given ?? end - start;
    const inside = start >= this.first && size > 0 && start + size <= this.last + 1;
    const clear = this.parts.every((p) => start + size <= p.start || start >= p.start + p.size);
    if (!inside || !clear) {
      throw wrong(`Failed to add #${this.parts.length + 1} partition: no such space`);
    }
    const p: part = {
      start,
      size,
      type: f["type"] ?? type,
      name: f["name"] ?? "",
      uuid: f["uuid"] ?? "",
      bootable: f["bootable"] !== undefined,
    };
    this.parts.push(p);
    return p;
  }
}

// ---- GPT

function put_u64(v: DataView, off: number, n: number): void {
  v.setUint32(off, n % 2 ** 32, true);
  v.setUint32(off + 4, Math.floor(n / 2 ** 32), true);
}

interface gpt_place {
  my: number;
  other: number;
  table: number;
}

function gpt_header(
  d: sfdisk_device,
  l: layout,
  disk_guid: Uint8Array,
  entries: Uint8Array,
  at: gpt_place,
): Uint8Array {
  const h = new Uint8Array(d.sector);
  const v = new DataView(h.buffer);
  for (let i = 0; i < 8; i++) h[i] = "EFI PART".charCodeAt(i);
  v.setUint32(8, 0x10000, true);
  v.setUint32(12, 92, true);
  put_u64(v, 24, at.my);
  put_u64(v, 32, at.other);
  put_u64(v, 40, l.first);
  put_u64(v, 48, l.last);
  h.set(disk_guid, 56);
  put_u64(v, 72, at.table);
  v.setUint32(80, GPT_ENTRIES, true);
  v.setUint32(84, GPT_ENTRY, true);
  v.setUint32(88, crc32(entries), true);
  v.setUint32(16, crc32(h.subarray(0, 92)), true);
  return h;
}

function gpt_entries(d: sfdisk_device, parts: readonly part[]): Uint8Array {
  const out = new Uint8Array(GPT_ENTRIES * GPT_ENTRY);
  const v = new DataView(out.buffer);
  parts.forEach((p, i) => {
    const at = i * GPT_ENTRY;
    out.set(guid_bytes(p.type), at);
    out.set(guid_bytes(p.uuid === "" ? new_uuid_of(d.random()) : p.uuid), at + 16);
    put_u64(v, at + 32, p.start);
    put_u64(v, at + 40, p.start + p.size - 1);
    for (let k = 0; k < Math.min(36, p.name.length); k++) {
      v.setUint16(at + 56 + 2 * k, p.name.charCodeAt(k), true);
    }
  });
  return out;
}

/** Cylinder, head and sector with 255 heads and 63 sectors; "beyond" when that cannot be said. */
function chs(sector: number): readonly number[] {
  const track = Math.floor(sector / 63);
  const cylinder = Math.floor(track / 255);
  if (cylinder > 1023) return [0xfe, 0xff, 0xff];
  return [track % 255, ((sector % 63) + 1) | ((cylinder >> 2) & 0xc0), cylinder & 0xff];
}

function write_mbr_entry(b: Uint8Array, i: number, p: part, start: number): void {
  const v = new DataView(b.buffer, b.byteOffset);
  const at = 446 + i * 16;
  b[at] = p.bootable ? 0x80 : 0;
  b[at + 4] = Number.parseInt(p.type, 16);
  b.set(chs(p.start), at + 1);
  b.set(chs(p.start + p.size - 1), at + 5);
  v.setUint32(at + 8, start, true);
  v.setUint32(at + 12, p.size, true);
  b[510] = 0x55;
  b[511] = 0xaa;
}

const plain_part = (start: number, size: number, type: string): part => ({
  start,
  size,
  type,
  name: "",
  uuid: "",
  bootable: false,
});

function write_gpt(d: sfdisk_device, s: script): void {
  const table = Math.ceil((GPT_ENTRIES * GPT_ENTRY) / d.sector);
  const first = s.first_lba ?? Math.max(2 + table, (1024 * 1024) / d.sector);
  const last = s.last_lba ?? d.sectors - table - 2;
  if (first < 2 + table || last > d.sectors - table - 2 || first > last) {
    throw wrong("specified LBA is out of range");
  }
  const l = new layout(first, last, d.sector);
  for (const f of s.lines) l.add(f, d.sector, LINUX_GPT);
  const entries = gpt_entries(d, l.parts);
  const guid = guid_bytes(s.label_id === "" ? new_uuid_of(d.random()) : s.label_id);
  const end = d.sectors - 1;
  const mbr = new Uint8Array(d.sector);
  write_mbr_entry(mbr, 0, plain_part(1, Math.min(end, 0xffffffff), "ee"), 1);
  // the protective entry says "all of it"
  mbr.set([0xff, 0xff, 0xff], 451);
  d.write(0, mbr);
  const header = (at: gpt_place): void => {
    d.write(at.table * d.sector, entries);
    d.write(at.my * d.sector, gpt_header(d, l, guid, entries, at));
  };
  header({ my: end, other: 1, table: end - table });
  header({ my: 1, other: end, table: 2 });
}

// ---- MBR

const is_extended = (type: string): boolean => /^0?[5f]$/i.test(type);

/** One link of the chain: the partition, and where the next link is. */
function write_logical(d: sfdisk_device, ext: part, parts: readonly part[]): void {
  parts.forEach((p, i) => {
    const link = i === 0 ? ext.start : p.start - 2048;
    const b = new Uint8Array(d.sector);
    write_mbr_entry(b, 0, p, p.start - link);
    const next = parts[i + 1];
    if (next) {
      const at = next.start - 2048;
      write_mbr_entry(b, 1, plain_part(at, next.size + 2048, "5"), at - ext.start);
    }
    d.write(link * d.sector, b);
  });
}

function write_dos(d: sfdisk_device, s: script): void {
  const grain = (1024 * 1024) / d.sector;
  const l = new layout(s.first_lba ?? grain, s.last_lba ?? d.sectors - 1, d.sector);
  let inner: layout | null = null;
  let ext: part | null = null;
  for (const f of s.lines) {
    if (inner !== null && ext !== null && inner.fits(f, d.sector)) {
      const last = inner.parts.at(-1);
      inner.add(f, d.sector, LINUX_MBR, (last ? last.start + last.size : ext.start) + 2048);
      continue;
    }
    if (l.parts.length === 4) throw wrong("all primary partitions are in use");
    const p = l.add(f, d.sector, LINUX_MBR);
    if (is_extended(p.type)) {
      ext = p;
      inner = new layout(p.start + 2048, p.start + p.size - 1, d.sector);
    }
  }
  const mbr = new Uint8Array(d.sector);
  const id = s.label_id === "" ? d.random().subarray(0, 4) : number_bytes(Number(s.label_id));
  mbr.set(id, 440);
  for (const [i, p] of l.parts.entries()) write_mbr_entry(mbr, i, p, p.start);
  mbr[510] = 0x55;
  mbr[511] = 0xaa;
  if (ext !== null && inner !== null) write_logical(d, ext, inner.parts);
  d.write(0, mbr);
}

const number_bytes = (n: number): Uint8Array => new Uint8Array([n, n >>> 8, n >>> 16, n >>> 24]);

/**
 * Writes the table that the script describes, over whatever was there. @throws sfdisk_error
 */
export function sfdisk(d: sfdisk_device, text: string): void {
  const s = parse(text);
  // old signatures: the MBR and GPT at both ends, filesystems that start at once
  const wipe = new Uint8Array(Math.max(d.sector, 16 * 1024));
  d.write(0, wipe);
  d.write((d.sectors - wipe.length / d.sector) * d.sector, wipe);
  if (s.label === "gpt") write_gpt(d, s);
  else write_dos(d, s);
}
