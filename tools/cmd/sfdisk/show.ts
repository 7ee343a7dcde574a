/** tools/cmd/sfdisk/show.ts - a table as `sfdisk -l`, `-d`, `-J` and `-F` print it. */
import { type area, table_free } from "./layout.ts";
import { type part, type sfdisk_device, type table, attrs_text, type_name } from "./model.ts";

const LETTERS = Object.freeze(["B", "K", "M", "G", "T", "P"] as const);

/** Bytes in the largest unit that they fill, with so many digits behind the point. */
function scaled(bytes: number, digits: number): [text: string, letter: string] {
  let unit = 0;
  while (unit < LETTERS.length - 1 && bytes >= 1024 ** (unit + 1)) unit++;
  const n = bytes / 1024 ** unit;
  const text = n.toFixed(digits).replace(/\.?0+$/, "");
  return [Number.isInteger(n) ? String(n) : text, LETTERS[unit]!];
}

const short_size = (bytes: number): string => scaled(bytes, 1).join("");
function long_size(bytes: number): string {
  const [text, letter] = scaled(bytes, 2);
  return `${text} ${letter === "B" ? "B" : `${letter}iB`}`;
}

export function part_path(d: sfdisk_device, no: number): string {
  return `${d.path}${/\d$/.test(d.path) ? "p" : ""}${no}`;
}

interface column {
  name: string;
  right: boolean;
}

/** Columns as wide as what is in them; nothing behind the last one. */
function grid(columns: readonly column[], rows: readonly string[][]): string {
  const width = columns.map((c, i) => Math.max(c.name.length, ...rows.map((r) => r[i]!.length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((text, i) => (columns[i]!.right ? text.padStart(width[i]!) : text.padEnd(width[i]!)))
      .join(" ")
      .trimEnd();
  return `${[columns.map((c) => c.name), ...rows].map(line).join("\n")}\n`;
}

const left = (name: string): column => ({ name, right: false });
const right = (name: string): column => ({ name, right: true });

function list_rows(d: sfdisk_device, t: table): string {
  const numbers = (p: part): string[] => [
    String(p.start),
    String(p.start + p.size - 1),
    String(p.size),
    short_size(p.size * d.sector),
  ];
  const places = [right("Start"), right("End"), right("Sectors"), right("Size")];
  if (t.label === "gpt") {
    const rows = t.parts.map((p) => [part_path(d, p.no), ...numbers(p), type_name("gpt", p.type)]);
    return grid([left("Device"), ...places, left("Type")], rows);
  }
  const rows = t.parts.map((p) => [
    part_path(d, p.no),
    p.bootable ? "*" : "",
    ...numbers(p),
    p.type,
    type_name("dos", p.type),
  ]);
  return grid([left("Device"), left("Boot"), ...places, right("Id"), left("Type")], rows);
}

function units(d: sfdisk_device): string {
  const s = d.sector;
  const sizes = `${s} bytes / ${d.physical_sector} bytes`;
  return `Units: sectors of 1 * ${s} = ${s} bytes\nSector size (logical/physical): ${sizes}\n`;
}

/** `sfdisk -l`. */
export function show_list(d: sfdisk_device, t: table | null): string {
  const bytes = d.sectors * d.sector;
  const io = Math.max(d.physical_sector, d.sector);
  let out = `Disk ${d.path}: ${long_size(bytes)}, ${bytes} bytes, ${d.sectors} sectors\n`;
  out += units(d);
  out += `I/O size (minimum/optimal): ${io} bytes / ${io} bytes\n`;
  if (t === null) return out;
  out += `Disklabel type: ${t.label}\nDisk identifier: ${t.id}\n`;
  if (t.parts.length === 0) return out;
  out += `\n${list_rows(d, t)}`;
  const starts = t.parts.map((p) => p.start);
  const sorted = starts.every((s, i) => i === 0 || s > starts[i - 1]!);
  return sorted ? out : `${out}\nPartition table entries are not in disk order.\n`;
}

/** `sfdisk -d`: a script that makes the same table. */
export function show_dump(d: sfdisk_device, t: table): string {
  const head = [
    `label: ${t.label}`,
    `label-id: ${t.id}`,
    `device: ${d.path}`,
    "unit: sectors",
    ...(t.label === "gpt" ? [`first-lba: ${t.first}`, `last-lba: ${t.last}`] : []),
    `sector-size: ${d.sector}`,
  ];
  const lines = t.parts.map((p) => {
    const place = `start=${String(p.start).padStart(12)}, size=${String(p.size).padStart(12)}`;
    const out = [`${part_path(d, p.no)} : ${place}`, `type=${p.type}`];
    if (p.uuid !== "") out.push(`uuid=${p.uuid}`);
    if (p.name !== "") out.push(`name="${p.name}"`);
    const attrs = attrs_text(p.attrs);
    if (attrs !== "") out.push(`attrs="${attrs}"`);
    if (p.bootable) out.push("bootable");
    return out.join(", ");
  });
  const tail = lines.length > 0 ? `\n${lines.join("\n")}\n` : "";
  return `${head.join("\n")}\n${tail}`;
}

function json_part(d: sfdisk_device, p: part): string {
  const out = [
    `"node": ${JSON.stringify(part_path(d, p.no))}`,
    `"start": ${p.start}`,
    `"size": ${p.size}`,
    `"type": "${p.type}"`,
  ];
  if (p.uuid !== "") out.push(`"uuid": "${p.uuid}"`);
  if (p.name !== "") out.push(`"name": ${JSON.stringify(p.name)}`);
  const attrs = attrs_text(p.attrs);
  if (attrs !== "") out.push(`"attrs": "${attrs}"`);
  if (p.bootable) out.push(`"bootable": true`);
  const pad = " ".repeat(12);
  return `{\n${pad}${out.join(`,\n${pad}`)}\n         }`;
}

/** `sfdisk -J`. */
export function show_json(d: sfdisk_device, t: table): string {
  const head = [
    `"label": "${t.label}"`,
    `"id": "${t.id}"`,
    `"device": ${JSON.stringify(d.path)}`,
    `"unit": "sectors"`,
    ...(t.label === "gpt" ? [`"firstlba": ${t.first}`, `"lastlba": ${t.last}`] : []),
    `"sectorsize": ${d.sector}`,
  ];
  const parts = t.parts.map((p) => json_part(d, p)).join(",");
  if (parts !== "") head.push(`"partitions": [\n         ${parts}\n      ]`);
  return `{\n   "partitiontable": {\n      ${head.join(",\n      ")}\n   }\n}\n`;
}

/** `sfdisk -F`: what no partition has. */
export function show_free(d: sfdisk_device, t: table | null): string {
  if (t === null) return "";
  const grain = (1024 * 1024) / d.sector;
  const list = table_free(t, d.sector).filter((a) => a.end - a.start >= grain);
  const total = list.reduce((n, a) => n + a.end - a.start, 0);
  const bytes = total * d.sector;
  const sum = `${long_size(bytes)}, ${bytes} bytes, ${total} sectors`;
  const head = `Unpartitioned space ${d.path}: ${sum}\n`;
  if (list.length === 0) return `${head}${units(d)}`;
  const row = (a: area): string[] => [
    String(a.start),
    String(a.end - 1),
    String(a.end - a.start),
    short_size((a.end - a.start) * d.sector),
  ];
  const columns = [right("Start"), right("End"), right("Sectors"), right("Size")];
  return `${head}${units(d)}\n${grid(columns, list.map(row))}`;
}
