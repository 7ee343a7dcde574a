/**
 * tools/cmd/sfdisk/dos.ts - MBR tables: four primary partitions, and logical ones along a chain of
 * links inside an extended one.
 */
import { type part, type sfdisk_device, type table, is_extended, new_part } from "./model.ts";

const MAX_LOGICAL = 100;
/** Sectors from a link to its partition. */
export const LINK_GAP = 2048;

/** Cylinder, head and sector with 255 heads and 63 sectors; "beyond" when that cannot be said. */
function chs(sector: number): readonly number[] {
  const track = Math.floor(sector / 63);
  const cylinder = Math.floor(track / 255);
  if (cylinder > 1023) return [0xfe, 0xff, 0xff];
  return [track % 255, ((sector % 63) + 1) | ((cylinder >> 2) & 0xc0), cylinder & 0xff];
}

/** Entry `i`; `start` is what the entry says, the partition's own start is for the geometry. */
function put_entry(b: Uint8Array, i: number, p: part, start: number): void {
  const v = new DataView(b.buffer, b.byteOffset);
  const at = 446 + i * 16;
  b[at] = p.bootable ? 0x80 : 0;
  b[at + 4] = Number.parseInt(p.type, 16);
  b.set(chs(p.start), at + 1);
  b.set(chs(p.start + p.size - 1), at + 5);
  v.setUint32(at + 8, start, true);
  v.setUint32(at + 12, p.size, true);
}

function sealed(b: Uint8Array): Uint8Array {
  b[510] = 0x55;
  b[511] = 0xaa;
  return b;
}

export function protective_mbr(d: sfdisk_device): Uint8Array {
  const mbr = new Uint8Array(d.sector);
  const size = Math.min(d.sectors - 1, 0xffffffff);
  put_entry(mbr, 0, new_part({ start: 1, size, type: "ee" }), 1);
  // it says "all of it"
  mbr.set([0xff, 0xff, 0xff], 451);
  return sealed(mbr);
}

export function new_dos(d: sfdisk_device, id: string): table {
  const grain = (1024 * 1024) / d.sector;
  const r = d.random();
  const random = new DataView(r.buffer, r.byteOffset).getUint32(0, true);
  const n = id === "" ? random : Number(id);
  const text = `0x${n.toString(16).padStart(8, "0")}`;
  return { label: "dos", id: text, first: grain, last: d.sectors - 1, parts: [] };
}

interface raw_entry {
  bootable: boolean;
  type: string;
  start: number;
  size: number;
}

function entries_at(b: Uint8Array): raw_entry[] | null {
  if (b[510] !== 0x55 || b[511] !== 0xaa) return null;
  const v = new DataView(b.buffer, b.byteOffset);
  return [0, 1, 2, 3].map((i) => {
    const at = 446 + i * 16;
    return {
      bootable: b[at] === 0x80,
      type: b[at + 4]!.toString(16),
      start: v.getUint32(at + 8, true),
      size: v.getUint32(at + 12, true),
    };
  });
}

function read_logical(d: sfdisk_device, base: number): part[] {
  const out: part[] = [];
  let link = base;
  while (out.length < MAX_LOGICAL && link < d.sectors) {
    const list = entries_at(d.read(link * d.sector, d.sector));
    const data = list?.find((e) => e.size > 0 && !is_extended(e.type));
    if (data) {
      const { type, size, bootable } = data;
      const no = 5 + out.length;
      out.push(new_part({ no, start: link + data.start, size, type, bootable, link }));
    }
    const next = list?.find((e) => e.size > 0 && is_extended(e.type));
    // a chain goes forwards, or it would have no end
    if (!next || base + next.start <= link) return out;
    link = base + next.start;
  }
  return out;
}

/** null: the first sector is no table, or it belongs to a GPT. */
export function read_dos(d: sfdisk_device): table | null {
  const mbr = d.read(0, d.sector);
  const list = entries_at(mbr);
  if (list === null || list.some((e) => e.type === "ee")) return null;
  const parts = list.flatMap(({ start, size, type, bootable }, i) =>
    size > 0 ? [new_part({ no: i + 1, start, size, type, bootable })] : [],
  );
  const ext = parts.find((p) => is_extended(p.type));
  if (ext) parts.push(...read_logical(d, ext.start));
  const id = new DataView(mbr.buffer, mbr.byteOffset).getUint32(440, true);
  const text = `0x${id.toString(16).padStart(8, "0")}`;
  const first = (1024 * 1024) / d.sector;
  return { label: "dos", id: text, first, last: d.sectors - 1, parts };
}

/** Each link: its partition, and where the next link is. */
function write_logical(d: sfdisk_device, ext: part, parts: readonly part[]): void {
  if (parts.length === 0) d.write(ext.start * d.sector, sealed(new Uint8Array(d.sector)));
  parts.forEach((p, i) => {
    const b = new Uint8Array(d.sector);
    put_entry(b, 0, p, p.start - p.link);
    const next = parts[i + 1];
    if (next) {
      const size = next.size + next.start - next.link;
      const e = new_part({ start: next.link, size, type: "5" });
      put_entry(b, 1, e, next.link - ext.start);
    }
    d.write(p.link * d.sector, sealed(b));
  });
}

/** What is before the table in the first sector, boot code, stays. */
export function write_dos(d: sfdisk_device, t: table): void {
  const mbr = d.read(0, d.sector).slice();
  mbr.fill(0, 440, 512);
  new DataView(mbr.buffer).setUint32(440, Number(t.id), true);
  for (const p of t.parts) if (p.no <= 4) put_entry(mbr, p.no - 1, p, p.start);
  const ext = t.parts.find((p) => p.no <= 4 && is_extended(p.type));
  const inner = t.parts.filter((p) => p.no > 4);
  // the first link is where the extended partition begins
  if (ext && inner[0]) inner[0].link = ext.start;
  if (ext) write_logical(d, ext, inner);
  d.write(0, sealed(mbr));
}
