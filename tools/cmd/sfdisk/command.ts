/**
 * tools/cmd/sfdisk/command.ts - `sfdisk`: writes, shows and changes partition tables, GPT and MBR.
 * Pure. Differs from util-linux: the script is the last operand (lines apart by newline or ";")
 * instead of standard input, and a whole new table is written as `-q -f --wipe always` would, with
 * nothing said.
 *
 *   sfdisk DEVICE SCRIPT            a new table
 *   sfdisk -N NUMBER DEVICE LINE    changes that partition, or makes the next
 *   sfdisk --append DEVICE SCRIPT   adds partitions
 *   sfdisk --delete DEVICE [N ...]  takes partitions away; all, when none is named
 *   sfdisk -l | -d | -J | -F DEVICE shows the table, a script of it, JSON, the free places
 */
import { type parsed_args, getopt_long } from "../getopt.ts";
import { new_dos, read_dos, write_dos } from "./dos.ts";
import { new_gpt, read_gpt, write_gpt } from "./gpt.ts";
import { type script, add_part, change_part, delete_part, parse_script } from "./layout.ts";
import { type sfdisk_device, type table, wrong } from "./model.ts";
import { show_dump, show_free, show_json, show_list } from "./show.ts";

/** What an open device needs beside its bytes. */
export interface sfdisk_target extends sfdisk_device {
  /** Sectors were changed: the kernel is to read the table again. */
  changed: boolean;
}

export interface sfdisk_words {
  mode: "write" | "list" | "dump" | "json" | "free" | "delete" | "append" | "change" | "version";
  path: string;
  /** The script. */
  text: string;
  /** -N, or the partitions to delete. */
  numbers: number[];
  quiet: boolean;
  /** Without looking whether somebody uses the disk. */
  force: boolean;
}

const SHORT = "lLdJFN:afqvhw:W:X:Y:o:uV";
const no_arg = (name: string, val: string) => ({ name, val, has_arg: 0 as const });
const with_arg = (name: string, val: string) => ({ name, val, has_arg: 1 as const });
const LONG = Object.freeze([
  no_arg("list", "l"),
  no_arg("dump", "d"),
  no_arg("json", "J"),
  no_arg("list-free", "F"),
  no_arg("delete", "D"),
  no_arg("append", "a"),
  no_arg("force", "f"),
  no_arg("quiet", "q"),
  no_arg("version", "v"),
  no_arg("no-reread", "R"),
  with_arg("partno", "N"),
  with_arg("wipe", "w"),
  with_arg("wipe-partitions", "W"),
  with_arg("label", "X"),
]);

const MODES: Readonly<Record<string, sfdisk_words["mode"]>> = Object.freeze({
  l: "list",
  d: "dump",
  J: "json",
  F: "free",
  D: "delete",
  a: "append",
  N: "change",
  v: "version",
});
/** Modes that show and change nothing. */
export const shows = (w: sfdisk_words): boolean =>
  ["list", "dump", "json", "free"].includes(w.mode);

/** The options, or standard error of a wrong use. */
export function sfdisk_words(args: readonly string[]): sfdisk_words | string {
  const p: parsed_args = getopt_long(args, SHORT, LONG);
  const w: sfdisk_words = {
    mode: "write",
    path: "",
    text: "",
    numbers: [],
    quiet: false,
    force: false,
  };
  for (const o of p.options) {
    if (o.opt === "?") return `sfdisk: ${o.message}\nTry 'sfdisk --help' for more information.\n`;
    if (o.opt === "q") w.quiet = true;
    else if (o.opt === "f") w.force = true;
    else if (o.opt === "X") w.text = `label: ${o.arg}\n${w.text}`;
    const mode = MODES[o.opt];
    if (mode) w.mode = mode;
    if (o.opt === "N") w.numbers.push(Number(o.arg));
    if (o.opt === "N" && !(Number(o.arg) > 0)) return "sfdisk: failed to parse partition number\n";
  }
  const [path, ...rest] = p.operands;
  if (w.mode === "version") return w;
  if (path === undefined) return "sfdisk: no disk device specified\n";
  w.path = path;
  if (w.mode === "delete") {
    const bad = rest.find((n) => !/^\d+$/.test(n));
    if (bad !== undefined) return `sfdisk: failed to parse partition number: '${bad}'\n`;
    w.numbers = rest.map(Number);
  } else if (!shows(w)) {
    if (rest.length === 0) return "sfdisk: a script is needed behind the device\n";
    w.text += rest.join("\n");
  }
  return w;
}

export function read_table(d: sfdisk_device): table | null {
  return read_gpt(d) ?? read_dos(d);
}

function write_table(d: sfdisk_target, t: table): void {
  d.changed = true;
  if (t.label === "gpt") write_gpt(d, t);
  else write_dos(d, t);
}

const ALTERED =
  "\nThe partition table has been altered.\n" +
  "Calling ioctl() to re-read partition table.\nSyncing disks.\n";

function new_table(d: sfdisk_device, s: script): table {
  if (s.label === "gpt") return new_gpt(d, s.label_id, s.first_lba, s.last_lba);
  const t = new_dos(d, s.label_id);
  return { ...t, first: s.first_lba ?? t.first, last: s.last_lba ?? t.last };
}

/** A table over whatever was there. */
function write_new(d: sfdisk_target, text: string): void {
  const s = parse_script(text);
  const t = new_table(d, s);
  for (const f of s.lines) add_part(d, t, f);
  // old signatures: the MBR and GPT at both ends, filesystems that start at once
  const wipe = new Uint8Array(Math.max(d.sector, 16 * 1024));
  d.write(0, wipe);
  d.write((d.sectors - wipe.length / d.sector) * d.sector, wipe);
  write_table(d, t);
}

function delete_parts(d: sfdisk_target, numbers: readonly number[]): void {
  const t = read_table(d);
  if (numbers.length === 0) {
    // nothing to say, only a status
    if (t === null) throw wrong("");
    t.parts = [];
  } else {
    if (t === null) throw wrong(`${d.path}: partition ${numbers[0]}: failed to delete`);
    for (const no of numbers) {
      if (t.parts.some((p) => p.no === no)) delete_part(t, no);
      else throw wrong(`${d.path}: partition ${no}: failed to delete`);
    }
  }
  write_table(d, t);
}

/** Answers what is said on standard error, "" mostly. */
function change(d: sfdisk_target, w: sfdisk_words): string {
  const t = read_table(d);
  const [no] = w.numbers;
  if (t === null && w.mode === "change") {
    throw wrong(`${d.path}: cannot modify partition ${no}: no partition table was found`);
  }
  const s = parse_script(w.text);
  const into = t ?? new_table(d, s);
  let note = "";
  for (const f of s.lines) {
    if (no === undefined) add_part(d, into, f);
    else if (into.parts.some((p) => p.no === no)) change_part(d, into, no, f);
    else {
      note = `warning: ${d.path}: partition ${no} is not defined yet\n`;
      add_part(d, into, f);
    }
  }
  write_table(d, into);
  return note;
}

function show(d: sfdisk_device, w: sfdisk_words): string {
  const t = read_table(d);
  if (w.mode === "list") return show_list(d, t);
  if (w.mode === "free") return show_free(d, t);
  if (t === null) throw wrong(`${d.path}: does not contain a recognized partition table`);
  return w.mode === "json" ? show_json(d, t) : show_dump(d, t);
}

/** Does it. @throws sfdisk_error; one without words is only a status */
export function sfdisk(d: sfdisk_target, w: sfdisk_words): { stdout: string; stderr: string } {
  if (shows(w)) return { stdout: show(d, w), stderr: "" };
  let stderr = "";
  if (w.mode === "write") write_new(d, w.text);
  else if (w.mode === "delete") delete_parts(d, w.numbers);
  else stderr = change(d, w);
  const says = w.mode === "delete" && !w.quiet;
  return { stdout: says ? ALTERED : "", stderr };
}
