/**
 * tools/cmd/ndctl/labels.ts - init-, zero-, read-, write- and check-labels: the label storage area
 * of whole DIMMs.
 */
import {
  nd_label_init_area,
  nd_label_read,
  nd_label_validate,
  nd_namespace_index,
  sizeof_namespace_index,
} from "../../../drivers/nvdimm/label.ts";
import type { nvdimm } from "../../../drivers/nvdimm/nd.ts";
import { nvdimm_enable, regions_of } from "../../../drivers/nvdimm/region.ts";
import { UUID_NULL, uuid_text } from "../../../drivers/nvdimm/uuid.ts";
import { EBUSY, EINVAL, ENOTTY, is_errno, type Errno } from "../../../kernel/include/errno.ts";
import {
  type ndctl_env,
  type ndctl_result,
  dimm_matches,
  dimms_of,
  error_text,
  exit_status,
  long,
  plural,
  usage,
  words,
} from "./context.ts";
import { type json, type json_object, json_hex, json_list_text, json_u64 } from "./json.ts";

const SHORT = "b:fjuIvs:O:o:i:V:";
const LONG = Object.freeze([
  long("bus", "b", 1),
  long("force", "f"),
  long("json", "j"),
  long("human", "u"),
  long("index", "I"),
  long("verbose", "v"),
  long("size", "s", 1),
  long("offset", "O", 1),
  long("output", "o", 1),
  long("input", "i", 1),
  long("label-version", "V", 1),
]);

export type label_action = "init" | "zero" | "read" | "write" | "check";

const DID: Readonly<Record<label_action, string>> = Object.freeze({
  init: "initialized",
  zero: "zeroed",
  read: "read",
  write: "wrote",
  check: "verified",
});

interface run {
  env: ndctl_env;
  w: words;
  notes: string;
  list: json[];
  raw: Uint8Array[];
}

function area_of(d: nvdimm): NonNullable<nvdimm["labels"]> {
  if (d.labels === null) throw ENOTTY;
  return d.labels;
}

function read_area(r: run, d: nvdimm): Uint8Array {
  const { start, size } = area_of(d);
  const out = new Uint8Array(size);
  r.env.kernel.phys.copy_from(start, out, 0, size);
  return out;
}

/** A region that uses the DIMM would not notice that its labels change. */
function check_idle(r: run, d: nvdimm): void {
  if (!regions_of(d).some((x) => x.enabled)) return;
  r.notes += `  Error: ${d.name}: regions active, abort label write\n`;
  throw EBUSY;
}

function label_size(r: run): 128 | 256 {
  const version = r.w.get("V") ?? "1.1";
  if (version === "1.1" || version === "1") return 128;
  if (version === "1.2") return 256;
  throw EINVAL;
}

/** The label size that the area's index blocks go by, or null when there is no valid one. */
function valid_size(data: Uint8Array): 128 | 256 | null {
  if (nd_label_validate(data, 128) >= 0) return 128;
  return nd_label_validate(data, 256) >= 0 ? 256 : null;
}

function init(r: run, d: nvdimm): void {
  const size = label_size(r);
  const area = area_of(d);
  check_idle(r, d);
  const found = valid_size(read_area(r, d));
  if (found !== null && !r.w.has("f")) {
    r.notes += `  Error: ${d.name}: error: labels already initialized\n`;
    throw EBUSY;
  }
  const data = new Uint8Array(area.size);
  const ndd = { nvdimm: d, data, nslabel_size: size, ns_current: -1, ns_next: -1, dpa: [] };
  nd_label_init_area(r.env.kernel, ndd, size);
  if (d.enabled) nvdimm_enable(d);
}

function write_bytes(r: run, d: nvdimm, bytes: Uint8Array, offset: number): void {
  const { start, size } = area_of(d);
  if (offset + bytes.length > size) throw EINVAL;
  r.env.kernel.phys.memcpy_flushcache(start + offset, bytes, 0, bytes.length);
  r.env.kernel.phys.sfence();
  if (d.enabled) nvdimm_enable(d);
}

function index_json(data: Uint8Array, at: number): json_object {
  const ix = nd_namespace_index.at(data, at);
  const out: json_object = {
    signature: "NAMESPACE_INDEX",
    major: ix.major,
    minor: ix.minor,
  };
  if (ix.minor > 1) out["labelsize"] = 128 << (ix.labelsize & 7);
  else out["labelsize"] = 128;
  out["seq"] = ix.seq;
  out["nslot"] = ix.nslot;
  return out;
}

/** Every slot that holds a label which knows its place, free ones too. */
function labels_json(r: run, data: Uint8Array, size: 128 | 256): json[] {
  const human = r.w.has("u");
  const index = sizeof_namespace_index(data.length, size);
  const { nslot } = nd_namespace_index.at(data, 0);
  const out: json[] = [];
  for (let slot = 0; slot < nslot; slot++) {
    const at = 2 * index + slot * size;
    const l = nd_label_read(data, at, size);
    if (l.slot !== slot || l.uuid === UUID_NULL) continue;
    const one: json_object = {
      uuid: l.uuid,
      name: l.name,
      slot,
      position: l.position,
      nlabel: l.nlabel,
      flags: json_hex(l.flags, human),
      isetcookie: json_u64(l.isetcookie, human),
      lbasize: l.lbasize,
      dpa: json_hex(l.dpa, human),
      rawsize: json_hex(l.rawsize, human),
    };
    if (size === 256) {
      // the tool prints the bytes as they are stored
      one["type_guid"] = uuid_text(data, at + 128);
      one["abstraction_guid"] = uuid_text(data, at + 144);
    }
    out.push(one);
  }
  return out;
}

function read(r: run, d: nvdimm): void {
  const data = read_area(r, d);
  if (!r.w.has("j") && !r.w.has("u")) {
    const from = Number(r.w.get("O") ?? 0);
    const len = Number(r.w.get("s") ?? data.length - from);
    r.raw.push(data.slice(from, from + len));
    return;
  }
  const size = valid_size(data);
  const out: json_object = { dev: d.name };
  if (size !== null) {
    out["index"] = [0, sizeof_namespace_index(data.length, size)].map((at) => index_json(data, at));
    if (!r.w.has("I")) out["label"] = labels_json(r, data, size);
  }
  r.list.push(out);
}

function act(r: run, action: label_action, d: nvdimm): void {
  if (action === "init") init(r, d);
  else if (action === "zero") {
    check_idle(r, d);
    write_bytes(r, d, new Uint8Array(area_of(d).size), 0);
  } else if (action === "read") read(r, d);
  else if (action === "check") {
    if (valid_size(read_area(r, d)) === null) throw EINVAL;
  } else {
    check_idle(r, d);
    const name = r.w.get("i");
    if (name === undefined || !r.env.read_file) throw EINVAL;
    const bytes = r.env.read_file(name);
    const most = Number(r.w.get("s") ?? bytes.length);
    write_bytes(r, d, bytes.subarray(0, most), Number(r.w.get("O") ?? 0));
  }
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

export function ndctl_labels(
  env: ndctl_env,
  action: label_action,
  args: readonly string[],
): ndctl_result {
  const w = new words(args, SHORT, LONG);
  if (w.error !== null) return usage(w.error);
  if (w.operands.length === 0) return usage(`specify at least one dimm to ${action}`);
  const dimms = dimms_of(env).filter((d) =>
    w.operands.some((o) => dimm_matches(d, { bus: w.get("b"), dimm: o })),
  );
  const r: run = { env, w, notes: "", list: [], raw: [] };
  let count = 0;
  let error: Errno | null = null;
  for (const d of dimms) {
    try {
      act(r, action, d);
      count++;
    } catch (e) {
      if (!is_errno(e)) throw e;
      error = e;
    }
  }
  const why = error ? `error ${action} labels: ${error_text(error)}\n` : "";
  const stderr = `${r.notes}${why}${DID[action]} ${plural(count, "nmem")}\n`;
  const stdout = json_list_text(r.list, w.has("u"));
  const out: ndctl_result = { status: error ? exit_status(error) : 0, stdout, stderr };
  if (r.raw.length === 0) return out;
  const raw = joined(r.raw);
  const file = w.get("o");
  if (file === undefined) return { ...out, raw };
  if (!env.write_file) return { ...out, status: exit_status(EINVAL) };
  env.write_file(file, raw);
  return out;
}
