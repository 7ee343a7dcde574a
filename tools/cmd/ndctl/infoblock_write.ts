/**
 * tools/cmd/ndctl/infoblock_write.ts - `ndctl write-infoblock`: a pfn or dax info block into a
 * namespace that is not active, a file, or standard output. A tool for tests: nothing checks that
 * the block fits the place.
 */
import { nd_namespace_enabled } from "../../../drivers/nvdimm/namespace_driver.ts";
import type { nd_namespace } from "../../../drivers/nvdimm/nd.ts";
import {
  type nd_pfn_info,
  PFN_SB_OFFSET,
  PFN_SB_SIZE,
  nd_pfn_layout,
  nd_pfn_make_block,
} from "../../../drivers/nvdimm/pfn.ts";
import { UUID_NULL, new_uuid, uuid_bytes } from "../../../drivers/nvdimm/uuid.ts";
import { EBUSY, EINVAL, ENXIO, type Errno, is_errno } from "../../../kernel/include/errno.ts";
import { parse_size } from "../size.ts";
import {
  type ndctl_env,
  type ndctl_result,
  done,
  error_text,
  exit_status,
  long,
  mode_of_name,
  plural,
  select_namespaces,
  usage,
  words,
} from "./context.ts";

const SHORT = "b:r:vo:cm:s:a:u:M:p:O:";
const LONG = Object.freeze([
  long("bus", "b", 1),
  long("region", "r", 1),
  long("verbose", "v"),
  long("output", "o", 1),
  long("stdout", "c"),
  long("mode", "m", 1),
  long("size", "s", 1),
  long("align", "a", 1),
  long("uuid", "u", 1),
  long("map", "M", 1),
  long("parent-uuid", "p", 1),
  long("offset", "O", 1),
]);

const START = PFN_SB_OFFSET + PFN_SB_SIZE;
const SECTION = 2 * 1024 * 1024;
/** Alignment when nobody asks: of a file, and of a namespace. */
const FILE_ALIGN = SECTION;
const NAMESPACE_ALIGN = 4096;

interface wish {
  kind: "pfn" | "dax";
  map: "dev" | "mem";
  /** Undefined: that of the target. */
  size: number | undefined;
  align: number | undefined;
  offset: number;
  uuid: string | undefined;
  parent: string | undefined;
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The options, or what is wrong with them. */
function wish_of(w: words): wish | string {
  const mode = w.get("m") ?? "fsdax";
  const known = mode_of_name(mode);
  if (known !== "fsdax" && known !== "devdax") return `unsupported mode '${mode}'`;
  const map = w.get("M") ?? "dev";
  if (map !== "dev" && map !== "mem") return `invalid map location '${map}'`;
  const sizes: (number | undefined)[] = [];
  for (const [letter, name] of [
    ["s", "size"],
    ["a", "align"],
    ["O", "offset"],
  ] as const) {
    const text = w.get(letter);
    const n = text === undefined ? undefined : parse_size(text);
    if (text !== undefined && n === undefined) return `failed to parse ${name}: '${text}'`;
    sizes.push(n);
  }
  const [size, align, offset] = sizes;
  const power = align === undefined || Number.isInteger(Math.log2(align));
  if (align !== undefined && (!power || align < 4096)) {
    return "align must be a power-of-2 greater than 4096";
  }
  for (const letter of ["u", "p"]) {
    const text = w.get(letter);
    if (text !== undefined && !UUID.test(text)) return `failed to parse uuid: '${text}'`;
  }
  if (w.has("c") && size === undefined) return "--size required with --stdout";
  const kind = known === "fsdax" ? "pfn" : "dax";
  const uuids = { uuid: w.get("u"), parent: w.get("p") };
  return { kind, map, size, align, offset: offset ?? 0, ...uuids };
}

/** The two pages; a start that is not aligned is padded. @throws ENXIO no room */
function layout(o: wish, size: number, align: number): nd_pfn_info {
  const pad = (SECTION - (o.offset % SECTION)) % SECTION;
  try {
    const l = nd_pfn_layout(o.offset, size, o.map, align);
    return { ...l, signature: o.kind, start_pad: pad, npfns: l.npfns - pad / 4096 };
  } catch (e) {
    if (!is_errno(e)) throw e;
    throw ENXIO;
  }
}

function block_of(env: ndctl_env, o: wish, size: number, align: number, parent: string) {
  const info = layout(o, size, o.align ?? align);
  const uuid = o.uuid ?? new_uuid(env.kernel);
  return nd_pfn_make_block(info, uuid_bytes(uuid), uuid_bytes(o.parent ?? parent));
}

function to_namespace(env: ndctl_env, o: wish, ns: nd_namespace): void {
  if (nd_namespace_enabled(ns)) throw EBUSY;
  if (ns.size < START) throw ENXIO;
  const block = block_of(env, o, o.size ?? ns.size, NAMESPACE_ALIGN, ns.uuid ?? UUID_NULL);
  const { phys } = env.kernel;
  phys.memcpy_flushcache(ns.start + PFN_SB_OFFSET, block, 0, PFN_SB_SIZE);
  phys.sfence();
}

function to_file(env: ndctl_env, o: wish, name: string): void {
  if (!env.write_file || !env.read_file) throw EINVAL;
  let old: Uint8Array;
  try {
    old = env.read_file(name);
  } catch {
    old = new Uint8Array(0);
  }
  const block = block_of(env, o, o.size ?? old.length, FILE_ALIGN, UUID_NULL);
  const out = new Uint8Array(Math.max(old.length, START));
  out.set(old);
  out.set(block, PFN_SB_OFFSET);
  env.write_file(name, out);
}

function to_stdout(env: ndctl_env, o: wish): Uint8Array {
  const out = new Uint8Array(START);
  out.set(block_of(env, o, o.size!, FILE_ALIGN, UUID_NULL), PFN_SB_OFFSET);
  return out;
}

function refused(e: Errno, made: number, room: boolean): ndctl_result {
  const why = room ? "  Error: unable to satisfy requested alignment\n\n" : "";
  const text = `error checking infoblocks: ${error_text(e)}\nwrote ${plural(made, "infoblock")}\n`;
  return { status: exit_status(e), stdout: "", stderr: why + text };
}

export function ndctl_write_infoblock(env: ndctl_env, args: readonly string[]): ndctl_result {
  const w = new words(args, SHORT, LONG);
  if (w.error !== null) return usage(w.error);
  const o = wish_of(w);
  if (typeof o === "string") return usage(o);
  const file = w.get("o");
  const targets = [file !== undefined, w.has("c"), w.operands.length > 0].filter(Boolean).length;
  if (targets > 1) return usage("specify only one of a namespace filter, --output, or --stdout");
  if (targets === 0) return usage('specify a namespace to write-infoblock, or "all"');
  let made = 0;
  let error: Errno | null = null;
  const attempt = (fn: () => void): void => {
    try {
      fn();
      made++;
    } catch (e) {
      if (!is_errno(e)) throw e;
      error = e;
    }
  };
  let raw: Uint8Array | undefined;
  if (w.has("c")) attempt(() => (raw = to_stdout(env, o)));
  else if (file !== undefined) attempt(() => to_file(env, o, file));
  else {
    const f = { bus: w.get("b"), region: w.get("r") };
    const list = w.operands.flatMap((n) => select_namespaces(env, { ...f, namespace: n }));
    if (list.length === 0) error = ENXIO;
    for (const ns of list) attempt(() => to_namespace(env, o, ns));
  }
  if (error !== null) return refused(error, made, error === ENXIO && w.operands.length === 0);
  const note = `wrote ${plural(made, "infoblock")}\n`;
  return raw === undefined ? done("", note) : { ...done("", note), raw };
}
