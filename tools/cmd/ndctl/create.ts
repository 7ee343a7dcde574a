/**
 * tools/cmd/ndctl/create.ts - `ndctl create-namespace`: new ones, and another mode for one that is
 * there (`-e`).
 *
 * Reading order: ndctl_create_namespace() -> options_of() -> validate() -> create_in() ->
 * set_up_claim().
 */
import {
  nd_claim_attach,
  nd_claim_disable,
  nd_claim_detach,
  nd_claim_enable,
} from "../../../drivers/nvdimm/claim.ts";
import { btt_lbasize_supported } from "../../../drivers/nvdimm/btt_format.ts";
import { nd_label_init_area } from "../../../drivers/nvdimm/label.ts";
import {
  namespace_set_alt_name,
  namespace_set_holder_class,
  namespace_set_sector_size,
  namespace_set_size,
  namespace_set_uuid,
  nd_region_allocatable_dpa,
  nd_region_next_seed,
  pmem_lbasize_supported,
} from "../../../drivers/nvdimm/namespace.ts";
import {
  nd_namespace_enable,
  nd_namespace_enabled,
} from "../../../drivers/nvdimm/namespace_driver.ts";
import {
  ND_DEVICE_NAMESPACE_IO,
  type nd_namespace,
  type nd_region,
} from "../../../drivers/nvdimm/nd.ts";
import {
  nd_region_disable,
  nd_region_enable,
  nvdimm_enable,
} from "../../../drivers/nvdimm/region.ts";
import { new_uuid, uuid_bytes } from "../../../drivers/nvdimm/uuid.ts";
import {
  EBUSY,
  EINVAL,
  ENODEV,
  ENOSPC,
  ENXIO,
  EAGAIN,
  is_errno,
} from "../../../kernel/include/errno.ts";
import type { Errno } from "../../../kernel/include/errno.ts";
import { parse_size } from "../size.ts";
import {
  type device_filter,
  type ndctl_env,
  type ndctl_result,
  type ns_mode,
  done,
  error_text,
  exit_status,
  failed,
  long,
  mode_of_name,
  namespace_mode,
  region_matches,
  regions_of,
  select_namespaces,
  usage,
  words,
} from "./context.ts";
import { disable_safe, zero_info_blocks } from "./disable.ts";
import { json_text } from "./json.ts";
import { type view, namespace_json } from "./list.ts";

const SHORT = "t:m:s:l:n:u:M:a:e:b:r:cfvLR";
const LONG = Object.freeze([
  long("type", "t", 1),
  long("mode", "m", 1),
  long("size", "s", 1),
  long("sector-size", "l", 1),
  long("name", "n", 1),
  long("uuid", "u", 1),
  long("map", "M", 1),
  long("align", "a", 1),
  long("reconfig", "e", 1),
  long("bus", "b", 1),
  long("region", "r", 1),
  long("continue", "c"),
  long("force", "f"),
  long("verbose", "v"),
  long("autolabel", "L"),
  long("no-autolabel", "1"),
  long("autorecover", "R"),
  long("no-autorecover", "2"),
]);
const MIB = 1024 * 1024;
const DEFAULT_ALIGN = 2 * MIB;

export interface create_options {
  mode: ns_mode;
  /** Bytes; 0: what there is. */
  size: number;
  sector_size: number;
  name: string;
  uuid: string | null;
  map: "dev" | "mem";
  align: number;
}

/** A refusal in words; `status` is the exit status. */
class Refused {
  readonly status: number;
  readonly text: string;
  constructor(status: number, text: string) {
    this.status = status;
    this.text = text;
  }
}

const invalid = (text: string): Refused =>
  new Refused(exit_status(EINVAL), `  Error: create namespace: ${text}\n`);

function size_text(bytes: number): string {
  return bytes % MIB === 0 ? `${bytes / MIB}M` : `${bytes / 1024}K`;
}

/** The options as given, checked for themselves; what is missing comes from `old` or defaults. */
function options_of(w: words, old: nd_namespace | null): create_options | string {
  const mode_name = w.get("m");
  const given = mode_name === undefined ? undefined : mode_of_name(mode_name);
  if (mode_name !== undefined && given === undefined) return `invalid mode '${mode_name}'`;
  const mode = given ?? (old ? namespace_mode(old) : "fsdax");
  const map = w.get("M") ?? (old?.claim?.mode === 1 ? "mem" : "dev");
  if (map !== "dev" && map !== "mem") return `invalid map location '${map}'`;
  if (w.has("M") && mode !== "fsdax" && mode !== "devdax") {
    return "--map only valid for an fsdax or devdax mode pmem namespace";
  }
  const size = w.has("s") ? parse_size(w.get("s")!) : 0;
  if (size === undefined) return "failed to parse size";
  const align = w.has("a") ? parse_size(w.get("a")!) : DEFAULT_ALIGN;
  if (align === undefined) return `failed to parse namespace alignment '${w.get("a")}'`;
  if (w.has("a") && (align < 4096 || !Number.isInteger(Math.log2(align)))) {
    return "align must be a power-of-2 greater than 4096";
  }
  const sector_size = w.has("l") ? parse_size(w.get("l")!) : default_sector_size(mode, old);
  if (sector_size === undefined) return "invalid sector size";
  const uuid = w.get("u")?.toLowerCase() ?? null;
  try {
    if (uuid !== null) uuid_bytes(uuid);
  } catch {
    return "failed to parse uuid: " + uuid;
  }
  return { mode, size, sector_size, name: w.get("n") ?? old?.alt_name ?? "", uuid, map, align };
}

function default_sector_size(mode: ns_mode, old: nd_namespace | null): number {
  if (mode === "sector") return old?.claim?.kind === "btt" ? old.claim.lbasize : 4096;
  return old !== null && pmem_lbasize_supported.includes(old.lbasize) ? old.lbasize : 512;
}

/**
 * validate_namespace_options(): what the region can do. `room`: what is taken without a size.
 * Throws Refused or an error number.
 */
function validate(region: nd_region, o: create_options, w: words, room = 0): void {
  const ways = Math.max(1, region.mappings.length);
  const paged = o.mode === "fsdax" || o.mode === "devdax";
  if (paged && w.has("a") && ![4096, 2 * MIB, 1024 * MIB].includes(o.align)) {
    throw new Refused(exit_status(ENXIO), `  Error: unsupported align: ${w.get("a")}\n`);
  }
  const size = o.size > 0 ? o.size : room;
  if (o.size % region.align !== 0) {
    const [have, want] = [region.align.toString(16), o.size.toString(16)];
    throw invalid(`${region.name}: align setting is 0x${have} size 0x${want} is misaligned`);
  }
  const unit = (paged ? o.align : 1) * ways;
  if (size % unit !== 0) {
    const good = Math.ceil(size / unit) * unit;
    const head = `'--size=' must align to interleave-width: ${ways} and alignment: ${o.align}`;
    const wanted = o.size > 0 ? size_text(good) : good;
    throw invalid(`${head}\ndid you intend --size=${wanted}?`);
  }
  const supported = o.mode === "sector" ? btt_lbasize_supported : pmem_lbasize_supported;
  if (!supported.includes(o.sector_size)) {
    const what = o.mode === "sector" ? "btt sector_size" : "sector_size";
    throw invalid(`${region.name}: does not support ${what} ${o.sector_size}`);
  }
}

/** The empty namespace to use: the first one of the region, else the seed. */
function idle_namespace(region: nd_region): nd_namespace | null {
  const first = region.namespaces.find((n) => n.id === 0);
  if (first && !nd_namespace_enabled(first) && first.claim === null) return first;
  return region.ns_seed;
}

function set_up_claim(env: ndctl_env, ns: nd_namespace, o: create_options): void {
  const { region } = ns;
  if (o.mode === "raw") {
    ns.force_raw = true;
    nd_namespace_enable(ns);
    return;
  }
  const kind = o.mode === "sector" ? "btt" : o.mode === "fsdax" ? "pfn" : "dax";
  namespace_set_holder_class(ns, kind);
  const seeds = { btt: region.btt_seed, pfn: region.pfn_seed, dax: region.dax_seed };
  const claim = seeds[kind];
  if (claim === null) throw ENODEV;
  claim.uuid = new_uuid(env.kernel);
  claim.align = o.align;
  claim.mode = kind === "btt" ? 0 : o.map === "mem" ? 1 : 2;
  claim.lbasize = kind === "btt" ? o.sector_size : 0;
  nd_claim_attach(claim, ns);
  try {
    nd_claim_enable(claim);
  } catch (e) {
    nd_claim_detach(claim);
    throw e;
  }
  nd_region_next_seed(region);
}

/** Gives an idle namespace its properties and its driver. Takes everything back on failure. */
async function set_up(env: ndctl_env, ns: nd_namespace, o: create_options): Promise<void> {
  const labelled = ns.nstype !== ND_DEVICE_NAMESPACE_IO;
  try {
    if (labelled) {
      namespace_set_uuid(ns, o.uuid ?? new_uuid(env.kernel));
      if (o.name !== "") namespace_set_alt_name(ns, o.name);
      namespace_set_size(ns, o.size);
      const lba = pmem_lbasize_supported.includes(o.sector_size) ? o.sector_size : 0;
      if (lba > 0) namespace_set_sector_size(ns, lba);
    }
    ns.force_raw = false;
    set_up_claim(env, ns, o);
  } catch (e) {
    if (ns.claim) {
      await nd_claim_disable(ns.claim);
      nd_claim_detach(ns.claim);
    }
    if (labelled && ns.size > 0) namespace_set_size(ns, 0);
    throw e;
  }
}

/** One new namespace in the region; null: no room there. */
async function create_in(
  env: ndctl_env,
  region: nd_region,
  w: words,
): Promise<nd_namespace | null> {
  const o = options_of(w, null);
  if (typeof o === "string") throw EINVAL;
  const available = nd_region_allocatable_dpa(region);
  validate(region, o, w, available);
  if (region.ro) return null;
  if (available === 0 || o.size > available) return null;
  if (o.size === 0) o.size = available;
  const ns = idle_namespace(region);
  if (ns === null) throw ENODEV;
  await set_up(env, ns, o);
  return ns;
}

/** Writes label indexes (1.2) on DIMMs that have room for labels but none; true if it did. */
async function autolabel(env: ndctl_env, region: nd_region): Promise<boolean> {
  const dimms = region.mappings.map((m) => m.nvdimm);
  const fit = dimms.length > 0 && dimms.every((d) => d.ndd !== null && d.ndd.ns_current < 0);
  if (!fit || dimms.some((d, i) => region.mappings[i]!.size !== d.size)) return false;
  await nd_region_disable(region);
  for (const d of dimms) {
    nd_label_init_area(env.kernel, d.ndd!, 256);
    nvdimm_enable(d);
  }
  nd_region_enable(region);
  return true;
}

/** Destroys and makes again with what is given anew; data is not kept. */
async function reconfigure(env: ndctl_env, ns: nd_namespace, w: words): Promise<nd_namespace> {
  const { region } = ns;
  const o = options_of(w, ns);
  if (typeof o === "string") throw EINVAL;
  validate(region, o, w);
  if (nd_namespace_enabled(ns) && !w.has("f")) throw EBUSY;
  const { size, name } = ns;
  await disable_safe(ns);
  zero_info_blocks(ns);
  if (ns.claim) nd_claim_detach(ns.claim);
  if (o.size === 0) o.size = size;
  o.name = w.get("n") ?? o.name;
  if (ns.nstype === ND_DEVICE_NAMESPACE_IO) {
    const fresh = w.has("1") ? false : await autolabel(env, region);
    const target = region.namespaces.find((n) => n.name === name) ?? ns;
    if (fresh) await disable_safe(target);
    if (target.claim) nd_claim_detach(target.claim);
    await set_up(env, target, o);
    return target;
  }
  namespace_set_size(ns, 0);
  const target = idle_namespace(region);
  if (target === null) throw ENODEV;
  await set_up(env, target, o);
  return target;
}

const CREATE_VIEW: view = Object.freeze({
  human: false,
  verbose: false,
  dax: true,
  idle: true,
  configured: false,
  capabilities: false,
  media_errors: false,
  mappings: false,
});

function complain(e: unknown, what: string): ndctl_result {
  if (e instanceof Refused) {
    const more = e.status === exit_status(EINVAL) ? "" : `failed to ${what} namespace: `;
    if (more === "") return failed(e.status, e.text);
    return failed(exit_status(ENODEV), `${e.text}${more}${error_text(ENXIO)}\n`);
  }
  if (!is_errno(e)) throw e;
  const status = what === "create" ? exit_status(ENODEV) : exit_status(e);
  return failed(status, `failed to ${what} namespace: ${error_text(e)}\n`);
}

/** Goes through the regions until one has room; with -c through all, as often as there is. */
async function create_all(env: ndctl_env, f: device_filter, w: words): Promise<ndctl_result> {
  const made: nd_namespace[] = [];
  let last: Errno = regions_of(env).length > 0 ? ENOSPC : ENODEV;
  const all = w.has("c");
  for (const region of regions_of(env).filter((r) => region_matches(r, f) && r.enabled)) {
    for (;;) {
      let ns: nd_namespace | null;
      try {
        ns = await create_in(env, region, w);
      } catch (e) {
        return complain(e, "create");
      }
      if (ns === null) break;
      made.push(ns);
      if (!all) break;
    }
    if (made.length > 0 && !all) break;
  }
  if (f.region !== undefined && !regions_of(env).some((r) => region_matches(r, f))) last = EAGAIN;
  if (made.length === 0) return complain(last, "create");
  return done(made.map((n) => `${json_text(namespace_json(n, CREATE_VIEW))}\n`).join(""));
}

export async function ndctl_create_namespace(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = new words(args, SHORT, LONG);
  if (w.error !== null) return usage(w.error);
  if (w.operands.length > 0) return usage(`unknown parameter "${w.operands[0]}"`);
  const o = options_of(w, null);
  if (typeof o === "string") return usage(o);
  const f: device_filter = { bus: w.get("b"), region: w.get("r") };
  const victim = w.get("e");
  if (victim === undefined) return await create_all(env, f, w);
  const [ns] = select_namespaces(env, { ...f, namespace: victim });
  if (!ns || ns.size === 0) return complain(ENODEV, "reconfigure");
  try {
    const made = await reconfigure(env, ns, w);
    return done(`${json_text(namespace_json(made, CREATE_VIEW))}\n`);
  } catch (e) {
    return complain(e, "reconfigure");
  }
}
