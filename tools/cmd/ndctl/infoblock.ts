/** tools/cmd/ndctl/infoblock.ts - `ndctl read-infoblock`: the pfn, dax or BTT block, as JSON. */
import { btt_read_block } from "../../../drivers/nvdimm/btt_format.ts";
import { PFN_SB_OFFSET, PFN_SB_SIZE, nd_pfn_sb } from "../../../drivers/nvdimm/pfn.ts";
import { UUID_NULL, uuid_text } from "../../../drivers/nvdimm/uuid.ts";
import { nd_fletcher64 } from "../../../drivers/nvdimm/fletcher.ts";
import { nd_namespace_enabled } from "../../../drivers/nvdimm/namespace_driver.ts";
import type { nd_namespace } from "../../../drivers/nvdimm/nd.ts";
import { EBUSY, EINVAL, EIO, ENOENT, ENXIO, type Errno } from "../../../kernel/include/errno.ts";
import {
  type ndctl_env,
  type ndctl_result,
  done,
  error_text,
  exit_status,
  failed,
  long,
  plural,
  select_namespaces,
  usage,
  words,
} from "./context.ts";
import { type json, type json_object, json_hex, json_list_text } from "./json.ts";

const SHORT = "b:r:juvVi:o:";
const LONG = Object.freeze([
  long("bus", "b", 1),
  long("region", "r", 1),
  long("json", "j"),
  long("human", "u"),
  long("verify", "V"),
  long("verbose", "v"),
  long("input", "i", 1),
  long("output", "o", 1),
]);

const CHECKSUM_OFF = 4088;

function btt_json(block: Uint8Array, human: boolean): json_object | null {
  const l = btt_read_block(block);
  if (l === null) return null;
  const hex = (n: number): json => json_hex(n, human);
  return {
    signature: "BTT_ARENA_INFO",
    uuid: l.uuid,
    parent_uuid: l.parent_uuid,
    flags: hex(l.flags),
    version: `${l.version_major}.${l.version_minor}`,
    external_lbasize: l.external_lbasize,
    external_nlba: hex(l.external_nlba),
    internal_lbasize: l.internal_lbasize,
    internal_nlba: hex(l.internal_nlba),
    nfree: l.nfree,
    infosize: PFN_SB_SIZE,
    nextoff: hex(l.nextoff),
    dataoff: hex(l.dataoff),
    mapoff: hex(l.mapoff),
    logoff: hex(l.logoff),
    info2off: hex(l.info2off),
  };
}

function pfn_json(block: Uint8Array, human: boolean): json_object | null {
  const signature = String.fromCharCode(...block.subarray(0, 15));
  if (signature !== "NVDIMM_PFN_INFO" && signature !== "NVDIMM_DAX_INFO") return null;
  const sb = nd_pfn_sb.at(block, 0);
  const hex = (n: number): json => json_hex(n, human);
  return {
    signature,
    uuid: uuid_text(block, 16),
    parent_uuid: uuid_text(block, 32),
    flags: hex(sb.flags),
    version: `${sb.version_major}.${sb.version_minor}`,
    dataoff: hex(sb.dataoff),
    npfns: sb.npfns,
    mode: sb.mode,
    start_pad: hex(sb.start_pad),
    end_trunc: hex(sb.end_trunc),
    align: hex(sb.align),
    page_size: hex(sb.page_size),
    page_struct_size: sb.page_struct_size,
  };
}

/** The block of bytes at 0 or 4096 that is one, or null. */
export function infoblock_json(
  at: (off: number) => Uint8Array,
  human: boolean,
): json_object | null {
  const first = at(0);
  const second = at(PFN_SB_OFFSET);
  return btt_json(first, human) ?? pfn_json(second, human) ?? btt_json(second, human);
}

/** Is the block right in itself, and of that namespace? */
function verified(block: Uint8Array, parent: string | null): boolean {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  const sum = nd_fletcher64(view, 0, PFN_SB_SIZE, CHECKSUM_OFF);
  if (view.getUint32(CHECKSUM_OFF, true) !== sum.lo) return false;
  if (view.getUint32(CHECKSUM_OFF + 4, true) !== sum.hi) return false;
  return parent === null || uuid_text(block, 32) === parent;
}

interface found {
  bytes: Uint8Array;
  shown: json_object | null;
}

/** What is at the start of a namespace or file: both blocks, and what they say. */
function parse_start(bytes: Uint8Array, w: words, head: json_object, parent: string | null): found {
  const at = (off: number): Uint8Array => bytes.subarray(off, off + PFN_SB_SIZE);
  const json = infoblock_json(at, w.has("u"));
  if (json === null) return { bytes, shown: null };
  const second = btt_read_block(at(0)) === null;
  const ok = !w.has("V") || verified(at(second ? PFN_SB_OFFSET : 0), parent);
  return { bytes, shown: ok ? { ...head, ...json } : null };
}

const START = PFN_SB_OFFSET + PFN_SB_SIZE;

function of_file(env: ndctl_env, name: string, w: words): found | Errno {
  if (!env.read_file) return EINVAL;
  let bytes: Uint8Array;
  try {
    bytes = env.read_file(name);
  } catch {
    return ENOENT;
  }
  if (bytes.length < START) return EIO;
  return parse_start(bytes.slice(0, START), w, { file: name }, null);
}

function of_namespace(ns: nd_namespace, w: words): found | Errno {
  if (nd_namespace_enabled(ns)) return EBUSY;
  if (ns.size < START) return ENXIO;
  const bytes = new Uint8Array(START);
  ns.region.bus.kernel.phys.copy_from(ns.start, bytes, 0, START);
  return parse_start(bytes, w, { dev: ns.name }, ns.uuid ?? UUID_NULL);
}

function read_all(env: ndctl_env, w: words): (found | Errno)[] {
  const input = w.get("i");
  if (input !== undefined) return [of_file(env, input, w)];
  // standard input, which is empty here
  if (w.operands.length === 0) return [EIO];
  const f = { bus: w.get("b"), region: w.get("r") };
  const list = w.operands.flatMap((name) => select_namespaces(env, { ...f, namespace: name }));
  return list.map((ns) => of_namespace(ns, w));
}

export function ndctl_read_infoblock(env: ndctl_env, args: readonly string[]): ndctl_result {
  const w = new words(args, SHORT, LONG);
  if (w.error !== null) return usage(w.error);
  const all = read_all(env, w);
  const read = all.filter((x): x is found => "bytes" in x);
  const error = all.length === 0 ? ENXIO : all.find((x): x is Errno => !("bytes" in x));
  const note = `read ${plural(read.length, "infoblock")}\n`;
  if (read.length === 0) {
    return failed(
      exit_status(error!),
      `error reading infoblock data: ${error_text(error!)}\n${note}`,
    );
  }
  const file = w.get("o");
  if (file !== undefined) {
    if (!env.write_file) return failed(exit_status(EINVAL), note);
    env.write_file(file, read[0]!.bytes);
    return done("", note);
  }
  if (!w.has("j") && !w.has("u")) return { ...done("", note), raw: joined(read) };
  const list = read.flatMap((x) => x.shown ?? []);
  if (list.length > 0) return done(json_list_text(list, w.has("u")), note);
  return done("[\n]\n", `  Warning: no matching devices found\n${note}`);
}

function joined(list: readonly found[]): Uint8Array {
  const out = new Uint8Array(list.length * START);
  for (const [i, x] of list.entries()) out.set(x.bytes, i * START);
  return out;
}
