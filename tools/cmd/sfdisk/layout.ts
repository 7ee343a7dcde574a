/**
 * tools/cmd/sfdisk/layout.ts - scripts for sfdisk, and where the partitions they ask for go.
 *
 * Lines: `label: gpt|dos`, `label-id: ...`, `first-lba: N`, `last-lba: N`, and one line a
 * partition: `start=..., size=..., type=..., name=..., uuid=..., attrs=..., bootable`, or the
 * values alone: `START, SIZE, TYPE, BOOTABLE`; `pmem0p5 : ...` says which partition. Numbers are
 * sectors, or sizes with KiB, MiB, GiB. What is not given is a free place with room, at a multiple
 * of 1 MiB, and all there is.
 */
import { LINK_GAP } from "./dos.ts";
import { new_part_uuid } from "./gpt.ts";
import {
  LINUX_GPT,
  LINUX_MBR,
  type part,
  type sfdisk_device,
  type table,
  attrs_of,
  is_extended,
  is_sfdisk_error,
  new_part,
  type_of,
  wrong,
} from "./model.ts";

export type fields = Readonly<Record<string, string>>;

export interface script {
  label: "gpt" | "dos" | null;
  label_id: string;
  first_lba: number | null;
  last_lba: number | null;
  lines: fields[];
}

const UNITS: Readonly<Record<string, number>> = Object.freeze({
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
});
const FIELDS: readonly string[] = Object.freeze([
  "start",
  "size",
  "type",
  "name",
  "uuid",
  "attrs",
  "bootable",
]);
const BY_PLACE: readonly string[] = Object.freeze(["start", "size", "type", "bootable"]);

function sectors_of(text: string, sector: number): number {
  const m = /^(\d+)\s*(?:([kmgt])(?:ib)?)?$/i.exec(text.trim());
  if (!m) throw wrong(`unsupported size or start: ${text}`);
  const n = Number(m[1]);
  return m[2] === undefined ? n : Math.floor((n * UNITS[m[2].toLowerCase()]!) / sector);
}

/** Commas apart, but not those between quotes. */
const words_of = (line: string): string[] =>
  line.match(/(?:[^,"]|"[^"]*")+|(?<=,|^)(?=,|$)/g) ?? [];

function fields_of(line: string): fields {
  const out: Record<string, string> = {};
  const named = /^\S*?(\d+)\s*:\s*/.exec(line);
  if (named) out["no"] = named[1]!;
  words_of(named ? line.slice(named[0].length) : line).forEach((word, i) => {
    const eq = word.indexOf("=");
    const key = (eq < 0 ? word : word.slice(0, eq)).trim();
    if (eq >= 0 || key === "bootable") {
      const name = key.toLowerCase();
      if (!FIELDS.includes(name)) throw wrong(`unsupported command: ${key}`);
      out[name] =
        eq < 0
          ? "*"
          : word
              .slice(eq + 1)
              .trim()
              .replace(/^"|"$/g, "");
      return;
    }
    const name = BY_PLACE[i];
    if (name === undefined) throw wrong(`unsupported command: ${key}`);
    // "-" and nothing: as it is, or as usual
    if (key !== "" && key !== "-") out[name] = key;
  });
  return out;
}

/** @throws sfdisk_error */
export function parse_script(text: string): script {
  const s: script = { label: null, label_id: "", first_lba: null, last_lba: null, lines: [] };
  for (const raw of text.split(/[;\n]/)) {
    const line = raw.trim();
    if (line === "" || line.startsWith("#")) continue;
    const header = /^([a-z-]+)\s*:\s*(\S+)$/.exec(line);
    if (!header) {
      s.lines.push(fields_of(line));
      continue;
    }
    const [, key, value] = header;
    if (key === "label" && (value === "gpt" || value === "dos")) s.label = value;
    else if (key === "label") throw wrong(`unsupported label '${value}'`);
    else if (key === "label-id") s.label_id = value!;
    else if (key === "first-lba") s.first_lba = Number(value);
    else if (key === "last-lba") s.last_lba = Number(value);
  }
  return s;
}

// ---- places

export interface area {
  start: number;
  /** Behind the last sector. */
  end: number;
}

interface room {
  sector: number;
  first: number;
  last: number;
  taken: readonly part[];
}

const grain_of = (r: room): number => Math.max(1, (1024 * 1024) / r.sector);
const aligned_down = (r: room, at: number): number => Math.floor(at / grain_of(r)) * grain_of(r);

/** What is free, from multiples of 1 MiB on. */
export function free_areas(r: room): area[] {
  const grain = grain_of(r);
  const out: area[] = [];
  let at = r.first;
  const gap = (end: number): void => {
    const start = Math.ceil(at / grain) * grain;
    if (end > start) out.push({ start, end });
  };
  for (const p of [...r.taken].sort((a, b) => a.start - b.start)) {
    gap(p.start);
    at = Math.max(at, p.start + p.size);
  }
  gap(r.last + 1);
  return out;
}

/** Where the line's partition begins and how long it is. @throws sfdisk_error */
function place(r: room, f: fields, no: number, largest: boolean): [start: number, size: number] {
  const none = wrong(`Failed to add #${no} partition: no such space`);
  const asked =
    f["size"] === undefined || f["size"] === "+" ? null : sectors_of(f["size"], r.sector);
  const areas = free_areas(r);
  let start: number;
  if (f["start"] !== undefined) start = sectors_of(f["start"], r.sector);
  else {
    const fit = areas.filter((a) => a.end - a.start >= (asked ?? 1));
    const size = (a: area): number => a.end - a.start;
    const by_size = [...areas].sort((a, b) => size(b) - size(a));
    const best = largest ? by_size[0] : fit[0];
    if (!best) throw none;
    start = best.start;
    // more than there is: up to the last whole megabyte but one, as recorded
    if (largest && asked !== null && asked > size(best)) {
      return [start, aligned_down(r, best.end) - grain_of(r) - start];
    }
  }
  const next = r.taken.filter((p) => p.start > start).map((p) => p.start);
  let end = Math.min(r.last + 1, ...next);
  if (largest && asked === null) end = Math.max(start + 1, aligned_down(r, end));
  const size = asked ?? end - start;
  const clear = r.taken.every((p) => start + size <= p.start || start >= p.start + p.size);
  if (!clear || start < r.first || size <= 0 || start + size > r.last + 1) throw none;
  return [start, size];
}

const extended_of = (t: table): part | undefined =>
  t.parts.find((p) => p.no <= 4 && is_extended(p.type));

/** Inside the extended partition, behind the last logical one. */
function inner_room(t: table, ext: part, sector: number): room {
  const taken = t.parts.filter((p) => p.no > 4);
  const behind = Math.max(ext.start, ...taken.map((p) => p.start + p.size));
  return { sector, first: behind + LINK_GAP, last: ext.start + ext.size - 1, taken };
}

export function outer_room(t: table, sector: number): room {
  const taken = t.parts.filter((p) => t.label === "gpt" || p.no <= 4);
  return { sector, first: t.first, last: t.last, taken };
}

/** Every free place: outside, and behind the partitions inside the extended one. */
export function table_free(t: table, sector: number): area[] {
  const outer = free_areas(outer_room(t, sector));
  const ext = extended_of(t);
  if (t.label === "gpt" || !ext) return outer;
  const taken = t.parts.filter((p) => p.no > 4).map((p) => ({ ...p, size: p.size + LINK_GAP }));
  const last = ext.start + ext.size - 1;
  return [...outer, ...free_areas({ sector, first: ext.start + LINK_GAP, last, taken })];
}

function free_number(t: table, from: number, to: number): number {
  for (let no = from; no <= to; no++) if (!t.parts.some((p) => p.no === no)) return no;
  throw wrong("all primary partitions are in use");
}

function insert(t: table, p: part): part {
  t.parts.push(p);
  t.parts.sort((a, b) => a.no - b.no);
  return p;
}

/** Primary while there is a number for it, unless the line names one above or a place inside. */
function wants_logical(t: table, ext: part, f: fields, sector: number): boolean {
  if (f["no"] !== undefined) return Number(f["no"]) > 4;
  if (f["start"] !== undefined) {
    const start = sectors_of(f["start"], sector);
    return start >= ext.start && start < ext.start + ext.size;
  }
  return t.parts.filter((p) => p.no <= 4).length === 4;
}

/** Adds what a line asks for. @throws sfdisk_error */
export function add_part(d: sfdisk_device, t: table, f: fields): part {
  const { sector } = d;
  const bootable = f["bootable"] !== undefined;
  if (t.label === "gpt") {
    const no = free_number(t, 1, 128);
    const [start, size] = place(outer_room(t, sector), f, no, true);
    const type = f["type"] === undefined ? LINUX_GPT : type_of("gpt", f["type"]);
    const uuid = (f["uuid"] ?? new_part_uuid(d)).toUpperCase();
    const attrs = attrs_of(f["attrs"] ?? "");
    return insert(t, new_part({ no, start, size, type, uuid, attrs, name: f["name"] ?? "" }));
  }
  const type = f["type"] === undefined ? LINUX_MBR : type_of("dos", f["type"]);
  const ext = extended_of(t);
  const inner = ext && inner_room(t, ext, sector);
  if (ext && inner && wants_logical(t, ext, f, sector)) {
    const no = 5 + t.parts.filter((p) => p.no > 4).length;
    const [start, size] = place(inner, f, no, false);
    const link = no === 5 ? ext.start : start - LINK_GAP;
    return insert(t, new_part({ no, start, size, type, bootable, link }));
  }
  const wanted = Number(f["no"] ?? 0);
  const named = wanted > 0 && wanted <= 4 && !t.parts.some((p) => p.no === wanted);
  const no = named ? wanted : free_number(t, 1, 4);
  const [start, size] = place(outer_room(t, sector), f, no, false);
  return insert(t, new_part({ no, start, size, type, bootable }));
}

/** Changes a partition as a line says; what it does not name stays. @throws sfdisk_error */
export function change_part(d: sfdisk_device, t: table, no: number, f: fields): void {
  const old = t.parts.find((p) => p.no === no)!;
  const inside = no > 4 && t.label === "dos";
  const ext = inside ? extended_of(t) : undefined;
  const outer = outer_room(t, d.sector);
  const all: room = ext
    ? {
        sector: d.sector,
        first: ext.start,
        last: ext.start + ext.size - 1,
        taken: t.parts.filter((p) => p.no > 4),
      }
    : outer;
  const r = { ...all, taken: all.taken.filter((p) => p !== old) };
  const now = { start: String(old.start), size: String(old.size) };
  let at: [start: number, size: number];
  try {
    at = place(r, { ...now, ...f }, no, false);
  } catch (e) {
    if (!is_sfdisk_error(e)) throw e;
    throw wrong(`Failed to resize partition #${no}.`, true);
  }
  const [start, size] = at;
  if (ext && start - old.link < 1) throw wrong(`partition ${no}: no room for its link`);
  Object.assign(old, { start, size });
  if (f["type"] !== undefined) old.type = type_of(t.label, f["type"]);
  if (f["name"] !== undefined) old.name = f["name"];
  if (f["uuid"] !== undefined) old.uuid = f["uuid"].toUpperCase();
  if (f["attrs"] !== undefined) old.attrs = attrs_of(f["attrs"]);
  if (f["bootable"] !== undefined) old.bootable = f["bootable"] === "*";
}

/** Takes a partition away; with an extended one all that is in it. */
export function delete_part(t: table, no: number): void {
  const p = t.parts.find((x) => x.no === no);
  if (!p) throw wrong(`partition ${no}: failed to delete`);
  const chain = t.label === "dos" && no <= 4 && is_extended(p.type);
  t.parts = t.parts.filter((x) => x !== p && !(chain && x.no > 4));
  // logical partitions are counted along their chain
  if (t.label === "dos" && no > 4) for (const x of t.parts) if (x.no > no) x.no--;
}
