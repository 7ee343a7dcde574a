/**
 * tools/cmd/dmsetup.ts - `dmsetup`: mapped devices made, changed and listed by name. The words and
 * the output are those of dmsetup(8); the tables are given with --table (lines apart by a newline,
 * also written \n), since there are no files here.
 */
import {
  dm_dev_create,
  dm_dev_remove,
  dm_dev_rename,
  dm_dev_resume,
  dm_dev_suspend,
  dm_find,
  dm_list,
  dm_table_clear,
  dm_table_load,
  type hash_cell,
} from "../../drivers/md/dm-ioctl.ts";
import { DM_MAJOR, dm_open_count } from "../../drivers/md/dm.ts";
import { is_target_error, target_types } from "../../drivers/md/dm-target.ts";
import { type dm_table, parse_table, type table_line } from "../../drivers/md/dm-table.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import { MAJOR, MINOR } from "../../kernel/include/stat.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import { error_text, long, words } from "./ndctl/context.ts";

interface result {
  status: number;
  stdout: string;
  stderr: string;
}

const SHORT = "ru:ycfh";
const LONG = Object.freeze([
  long("readonly", "r"),
  long("uuid", "u", 1),
  long("table", "T", 1),
  long("notable", "N"),
  long("noflush", "F"),
  long("nolockfs", "L"),
  long("inactive", "I"),
  long("force", "f"),
  long("yes", "y"),
  long("help", "h"),
]);

/** A mistake on the command line, in words. */
class Usage extends Error {}

interface request {
  readonly kernel: Kernel;
  readonly names: readonly string[];
  has(letter: string): boolean;
  get(letter: string): string | undefined;
}

/** The one name that the command needs. */
function name_of(q: request): string {
  const [name, ...more] = q.names;
  if (name === undefined || more.length > 0) throw new Usage("Incorrect number of arguments");
  return name.replace(/^\/dev\/mapper\//, "");
}

function table_of(q: request): table_line[] {
  const text = q.get("T");
  if (text === undefined) throw new Usage("give the table with --table");
  return parse_table(text.replaceAll("\\n", "\n"));
}

async function create(q: request): Promise<string> {
  const name = name_of(q);
  const lines = q.has("N") ? null : table_of(q);
  await dm_dev_create(q.kernel, name, q.get("u") ?? "");
  if (lines === null) return "";
  try {
    await dm_table_load(q.kernel, name, lines, !q.has("r"));
    await dm_dev_resume(q.kernel, name, true);
  } catch (e) {
    await dm_dev_remove(q.kernel, name);
    throw e;
  }
  return "";
}

async function load(q: request): Promise<string> {
  await dm_table_load(q.kernel, name_of(q), table_of(q), !q.has("r"));
  return "";
}

async function remove(q: request): Promise<string> {
  if (q.names.length === 0) throw new Usage("Incorrect number of arguments");
  for (const name of q.names) {
    await dm_dev_remove(q.kernel, name.replace(/^\/dev\/mapper\//, ""));
  }
  return "";
}

async function chosen(q: request): Promise<hash_cell[]> {
  if (q.names.length === 0) return dm_list(q.kernel);
  return Promise.all(q.names.map((n) => dm_find(q.kernel, n.replace(/^\/dev\/mapper\//, ""))));
}

const numbers = (c: hash_cell, gap: string): string => `${DM_MAJOR}${gap}${c.md.minor}`;

/** The lines of each table, with the device's name in front when there are several. */
async function tables(q: request, line: (t: dm_table, i: number) => string): Promise<string> {
  const cells = await chosen(q);
  const out: string[] = [];
  for (const c of cells) {
    const t = q.has("I") ? c.new_map : c.md.map;
    const head = q.names.length === 1 ? "" : `${c.name}: `;
    for (let i = 0; i < (t?.targets.length ?? 0); i++) out.push(`${head}${line(t!, i)}\n`);
  }
  return out.join("");
}

const table_text = (t: dm_table, i: number): string => {
  const { begin, len, type, params } = t.targets[i]!;
  return `${begin} ${len} ${type.name} ${params}`;
};

/** What a target has to say of its state: only striped does, whether its devices are alive. */
const status_text = (t: dm_table, i: number): string => {
  const { begin, len, type, devs, areas } = t.targets[i]!;
  if (type.name !== "striped") return `${begin} ${len} ${type.name} `;
  const names = areas.map((a) => a.dev.name).join(" ");
  const alive = areas.map((a) => (a.dev.bdev.bd_disk.alive ? "A" : "D")).join("");
  return `${begin} ${len} striped ${devs.length === 0 ? 0 : areas.length} ${names} 1 ${alive}`;
};

function tables_present(c: hash_cell): string {
  const live = c.md.map ? ["LIVE"] : [];
  const inactive = c.new_map ? ["INACTIVE"] : [];
  return [...live, ...inactive].join(" & ") || "None";
}

async function info(q: request): Promise<string> {
  const one = (c: hash_cell): string => {
    const rows: [string, string | number][] = [
      ["Name", c.name],
      ["State", `${c.md.suspended ? "SUSPENDED" : "ACTIVE"}${c.md.disk?.ro ? " (READ-ONLY)" : ""}`],
      ["Tables present", tables_present(c)],
      ["Open count", dm_open_count(c.md)],
      ["Major, minor", numbers(c, ", ")],
      ["Number of targets", c.md.map?.targets.length ?? 0],
      ...(c.uuid === "" ? [] : [["UUID", c.uuid] as [string, string]]),
    ];
    return rows.map(([k, v]) => `${`${k}:`.padEnd(19)}${v}\n`).join("");
  };
  return (await chosen(q)).map(one).join("\n");
}

async function ls(q: request): Promise<string> {
  const cells = await dm_list(q.kernel);
  if (cells.length === 0) return "No devices found\n";
  return cells.map((c) => `${c.name}\t(${numbers(c, ":")})\n`).join("");
}

async function deps(q: request): Promise<string> {
  const cells = await chosen(q);
  const one = (c: hash_cell): string => {
    const devs = c.md.map?.devs ?? [];
    const list = devs.map(({ bdev }) => `(${MAJOR(bdev.bd_dev)}, ${MINOR(bdev.bd_dev)})`);
    const head = q.names.length === 1 ? "" : `${c.name}: `;
    return `${head}${devs.length} dependencies\t: ${list.join(" ")}\n`;
  };
  return cells.map(one).join("");
}

async function rename(q: request): Promise<string> {
  const [from, to, ...more] = q.names;
  if (from === undefined || to === undefined || more.length > 0) {
    throw new Usage("Incorrect number of arguments");
  }
  await dm_dev_rename(q.kernel, from, to);
  return "";
}

type action = (q: request) => Promise<string>;

const actions: Readonly<Record<string, action>> = Object.freeze({
  create,
  remove,
  load,
  rename,
  ls,
  info,
  deps,
  suspend: async (q: request) => {
    await dm_dev_suspend(q.kernel, name_of(q), !q.has("L") && !q.has("F"));
    return "";
  },
  resume: async (q: request) => {
    await dm_dev_resume(q.kernel, name_of(q), !q.has("L") && !q.has("F"));
    return "";
  },
  clear: async (q: request) => {
    await dm_table_clear(q.kernel, name_of(q));
    return "";
  },
  table: (q: request) => tables(q, table_text),
  status: (q: request) => tables(q, status_text),
  // the nodes are always there
  mknodes: async (q: request) => {
    await chosen(q);
    return "";
  },
  targets: async () => target_types.map((t) => `${t.name.padEnd(16)} ${t.version}\n`).join(""),
  version: async () => "Library version:   1.02.185\nDriver version:    4.47.0\n",
});
const ALIASES: Readonly<Record<string, string>> = Object.freeze({ reload: "load", list: "ls" });

function failed(text: string): result {
  return { status: 1, stdout: "", stderr: `${text}\nCommand failed.\n` };
}

/** What the command calls the request it made. */
const IOCTL: Readonly<Record<string, string>> = Object.freeze({ load: "reload" });

export async function dmsetup(kernel: Kernel, args: readonly string[]): Promise<result> {
  const [word = "", ...rest] = args;
  const command = ALIASES[word] ?? word;
  const action = Object.hasOwn(actions, command) ? actions[command]! : undefined;
  if (action === undefined) {
    const known = Object.keys(actions).join(" ");
    return failed(`dmsetup: Unknown command: ${word || "(none)"}. Commands: ${known}`);
  }
  const w = new words(rest, SHORT, LONG);
  if (w.error !== null) return failed(`dmsetup: ${w.error}`);
  const q: request = {
    kernel,
    names: w.operands,
    has: (letter) => w.has(letter),
    get: (letter) => w.get(letter),
  };
  try {
    return { status: 0, stdout: await action(q), stderr: "" };
  } catch (e) {
    if (e instanceof Usage || is_target_error(e)) return failed(`dmsetup: ${e.message}`);
    if (!is_errno(e)) throw e;
    const on = q.names[0] === undefined ? "" : ` on ${q.names[0]}`;
    return failed(
      `device-mapper: ${IOCTL[command] ?? command} ioctl${on} failed: ${error_text(e)}`,
    );
  }
}
