/** tools/cmd/ndctl/infoblock.ts - `ndctl read-infoblock`: the pfn, dax or BTT block, as JSON. */
import { btt_read_block } from "../../../drivers/nvdimm/btt_format.ts";
import { PFN_SB_OFFSET, PFN_SB_SIZE, nd_pfn_sb } from "../../../drivers/nvdimm/pfn.ts";
import { uuid_text } from "../../../drivers/nvdimm/uuid.ts";
import type { nd_namespace } from "../../../drivers/nvdimm/nd.ts";
import {
  type ndctl_env,
  type ndctl_result,
  done,
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

function of_namespace(ns: nd_namespace, human: boolean): json_object | null {
  const { phys } = ns.region.bus.kernel;
  const found = infoblock_json((off) => {
    const b = new Uint8Array(PFN_SB_SIZE);
    phys.copy_from(ns.start + off, b, 0, b.length);
    return b;
  }, human);
  return found === null ? null : { dev: ns.name, ...found };
}

export function ndctl_read_infoblock(env: ndctl_env, args: readonly string[]): ndctl_result {
  const w = new words(args, SHORT, LONG);
  if (w.error !== null) return usage(w.error);
  if (w.operands.length === 0) return usage("specify a namespace to read");
  const f = { bus: w.get("b"), region: w.get("r") };
  const list = w.operands
    .flatMap((name) => select_namespaces(env, { ...f, namespace: name }))
    .filter((ns) => ns.size >= 2 * PFN_SB_SIZE)
    .flatMap((ns) => of_namespace(ns, w.has("u")) ?? []);
  const note = `read ${plural(list.length, "infoblock")}\n`;
  return done(json_list_text(list, w.has("u")), note);
}
