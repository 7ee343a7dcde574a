/**
 * tools/cmd/ndctl/errors.ts - media errors: inject-error, start-scrub, wait-scrub, clear-errors.
 *
 * On a platform without such commands (QEMU's) they answer as recorded there; with them
 * (`nvdimm: { ars: true }`) as the manual pages and the tool's own tests say. What nobody could
 * record is the JSON that inject-error and clear-errors print on success: it is the namespace as
 * `ndctl list -M` shows it.
 */
import {
  nvdimm_badblocks_populate,
  nvdimm_clear_poison,
} from "../../../drivers/nvdimm/badrange.ts";
import { badblocks } from "../../../drivers/block/badblocks.ts";
import type { nd_namespace, nvdimm_ars, nvdimm_bus } from "../../../drivers/nvdimm/nd.ts";
import {
  EINVAL,
  EIO,
  ENOENT,
  ENXIO,
  EOPNOTSUPP,
  type Errno,
  is_errno,
} from "../../../kernel/include/errno.ts";
import { bad_in, namespace_place } from "./badblocks.ts";
import {
  type ndctl_env,
  type ndctl_result,
  buses_of,
  done,
  error_text,
  exit_status,
  failed,
  long,
  namespace_mode,
  plural,
  select_namespaces,
  usage,
  words,
} from "./context.ts";
import { json_hex, json_list_text, json_text } from "./json.ts";
import { bus_json, namespace_json, view_of } from "./list.ts";

const SECTOR = 512;

const FILTERS = [long("bus", "b", 1), long("region", "r", 1), long("verbose", "v")];

// ---- scrub

async function scrub(
  env: ndctl_env,
  args: readonly string[],
  doing: string,
  act: (ars: nvdimm_ars) => Promise<void> | void,
): Promise<ndctl_result> {
  const w = new words(args, "v", [long("verbose", "v")]);
  if (w.error !== null) return usage(w.error);
  const all = w.operands.length === 0 || w.operands.includes("all");
  const named = (b: nvdimm_bus): boolean =>
    all || w.operands.some((o) => o === b.name || o === b.provider || o === String(b.id));
  const buses = buses_of(env).filter(named);
  // one that is named is looked for by its attribute, which is not there
  let error: Errno | null = buses.length === 0 ? ENXIO : all ? EOPNOTSUPP : ENOENT;
  const did: nvdimm_bus[] = [];
  for (const b of buses) {
    if (b.ars === null) continue;
    try {
      await act(b.ars);
      did.push(b);
    } catch (e) {
      if (!is_errno(e)) throw e;
      error = e;
    }
  }
  if (did.length > 0) return done(json_list_text(did.map(bus_json), false));
  return failed(exit_status(error), `error ${doing}: ${error_text(error)}\n`);
}

export const ndctl_start_scrub = (env: ndctl_env, args: readonly string[]) =>
  scrub(env, args, "starting scrub", (ars) => ars.start_scrub(true));

export const ndctl_wait_scrub = (env: ndctl_env, args: readonly string[]) =>
  scrub(env, args, "waiting for scrub completion", (ars) => ars.wait_idle());

// ---- injection

const INJECT_SHORT = "b:r:vB:n:dtNSu";
const INJECT_LONG = Object.freeze([
  ...FILTERS,
  long("block", "B", 1),
  long("count", "n", 1),
  long("uninject", "d"),
  long("status", "t"),
  long("no-notify", "N"),
  long("saturate", "S"),
  long("human", "u"),
]);

interface injection {
  op: "inject" | "uninject" | "status";
  block: number;
  count: number;
}

function number_of(text: string): number | null {
  return /^(0[xX][0-9a-fA-F]+|\d+)$/.test(text) ? Number(text) : null;
}

const invalid = (text: string): ndctl_result => failed(exit_status(EINVAL), `  Error: ${text}\n`);

function injection_of(w: words): injection | ndctl_result {
  const [block, count] = [w.get("B"), w.get("n")];
  if (w.has("t")) {
    if (w.has("d") || block !== undefined || count !== undefined) {
      return invalid("status is invalid with inject or uninject");
    }
    return { op: "status", block: 0, count: 0 };
  }
  if (block === undefined || count === undefined) {
    return invalid("block and count required for inject/uninject");
  }
  const [b, n] = [number_of(block), number_of(count)];
  if (b === null) return invalid(`Invalid block: ${block}`);
  if (n === null) return invalid(`Invalid count: ${count}`);
  return { op: w.has("d") ? "uninject" : "inject", block: b, count: n };
}

function refused(doing: string, e: Errno): ndctl_result {
  const text = `Unable to ${doing}: ${error_text(e)} (-${e.errno})\n`;
  return failed(exit_status(e), text);
}

/** Blocks as people count them, neighbours joined. */
function status(ns: nd_namespace, ars: nvdimm_ars, human: boolean): ndctl_result {
  const { start, size } = namespace_place(ns);
  const blocks = new badblocks();
  for (const e of ars.injected(start, size)) {
    const first = Math.floor((e.start - start) / SECTOR);
    blocks.set(first, Math.ceil((e.start - start + e.length) / SECTOR) - first);
  }
  const list = blocks.list().map((r) => ({
    block: json_hex(r.start, human),
    count: json_hex(r.len, human),
  }));
  return done(`${json_text({ badblocks: list })}\n`);
}

/** Each block by itself, only its first bytes unless all of it is wanted. */
function pieces(ns: nd_namespace, i: injection, bytes: number): [start: number, len: number][] {
  const { start } = namespace_place(ns);
  const out: [number, number][] = [];
  for (let b = i.block; b < i.block + i.count; b++) out.push([start + b * SECTOR, bytes]);
  return out;
}

async function inject(ns: nd_namespace, w: words, i: injection): Promise<ndctl_result> {
  const ars = ns.region.bus.ars!;
  const human = w.has("u");
  if (i.op === "status") return status(ns, ars, human);
  const { size } = namespace_place(ns);
  const doing = i.op === "inject" ? "inject error" : "uninject error";
  if ((i.block + i.count) * SECTOR > size) return refused(doing, EINVAL);
  const list = pieces(ns, i, w.has("S") ? SECTOR : ars.clear_err_unit);
  let note = "";
  if (i.op === "inject") {
    for (const [start, len] of list) ars.inject(start, len, !w.has("N"));
    if (!w.has("N")) await ars.wait_idle();
  } else {
    for (const [start, len] of list) ars.uninject(start, len);
    note = "Warning: the kernel keeps the bad blocks it knows of until they are written to\n";
  }
  const shown = namespace_json(ns, view_of(new words(human ? ["-Mu"] : ["-M"], "Mu", [])));
  return done(`${json_text(shown)}\n`, note);
}

export async function ndctl_inject_error(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = new words(args, INJECT_SHORT, INJECT_LONG);
  if (w.error !== null) return usage(w.error);
  const i = injection_of(w);
  if ("stdout" in i) return i;
  const [name, extra] = w.operands;
  if (extra !== undefined) return usage(`unknown extra parameter "${extra}"`);
  if (name === undefined) return usage("specify a namespace to inject error to");
  const f = { bus: w.get("b"), region: w.get("r") };
  const ns = select_namespaces(env, f).find((n) => n.name === name);
  if (!ns) return failed(exit_status(ENXIO), `  Error: ${name}: no such namespace\n`);
  if (ns.region.bus.ars === null) {
    return failed(exit_status(EOPNOTSUPP), `${name}: error injection not supported\n`);
  }
  return await inject(ns, w, i);
}

// ---- clearing

const CLEAR_LONG = Object.freeze([...FILTERS, long("scrub", "s")]);

/** Repairs what is listed, whole sectors. @throws EIO, EOPNOTSUPP */
function clear_namespace(ns: nd_namespace): void {
  const { bus } = ns.region;
  const { start, size } = namespace_place(ns);
  for (const r of bad_in(ns.region, start, size)) {
    const [at, len] = [start + r.offset * SECTOR, r.length * SECTOR];
    if (nvdimm_clear_poison(bus, at, len) < len) throw EIO;
  }
  const pmem = ns.raw ?? ns.claim?.pmem;
  if (!pmem) return;
  // the disk's list follows what is left
  pmem.bb.clear(0, pmem.disk.capacity);
  const first = pmem.region.start + pmem.data_offset;
  nvdimm_badblocks_populate(bus, pmem.bb, first, pmem.disk.capacity * SECTOR);
}

async function clear_one(ns: nd_namespace, w: words): Promise<string | Errno> {
  const { ars } = ns.region.bus;
  if (ars === null) return EOPNOTSUPP;
  if (w.has("s") && !ars.busy) ars.start_scrub(true);
  await ars.wait_idle();
  try {
    clear_namespace(ns);
  } catch (e) {
    if (!is_errno(e)) throw e;
    return e;
  }
  const shown = namespace_json(ns, view_of(new words(["-M"], "M", [])));
  return `${json_text(shown)}\n`;
}

export async function ndctl_clear_errors(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = new words(args, "b:r:vs", CLEAR_LONG);
  if (w.error !== null) return usage(w.error);
  if (w.operands.length === 0) return usage('specify a namespace to clear errors for, or "all"');
  const f = { bus: w.get("b"), region: w.get("r") };
  const list = new Set(w.operands.flatMap((n) => select_namespaces(env, { ...f, namespace: n })));
  let [stdout, stderr, cleared] = ["", "", 0];
  // a namespace in sector mode is passed over, and that is a status of its own
  let last: Errno | "skipped" | null = ENXIO;
  for (const ns of list) {
    if (ns.size === 0) continue;
    if (namespace_mode(ns) === "sector") {
      last = "skipped";
      continue;
    }
    const r = await clear_one(ns, w);
    if (typeof r === "string") {
      stdout += r;
      cleared++;
      last = null;
      continue;
    }
    last = r;
    if (r === EOPNOTSUPP) {
      stderr += `  Error: ${ns.name}: Unable to determine scrub state: ${error_text(r)}\n`;
    }
  }
  if (last !== null && last !== "skipped") {
    stderr += `error clearing namespaces: ${error_text(last)}\n`;
  }
  stderr += `cleared ${plural(cleared, "namespace")}\n`;
  const code = last === null ? 0 : last === "skipped" ? 1 : exit_status(last);
  return { status: code, stdout, stderr };
}
