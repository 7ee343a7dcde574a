/**
 * tools/cmd/ndctl/actions.ts - enable, disable, destroy and check namespaces; enable and disable
 * regions and DIMMs. Each says on standard error how many it did.
 */
import { btt_check_arena } from "../../../drivers/nvdimm/btt.ts";
import { nd_claim_detach } from "../../../drivers/nvdimm/claim.ts";
import { namespace_set_size } from "../../../drivers/nvdimm/namespace.ts";
import {
  nd_namespace_enable,
  nd_namespace_enabled,
} from "../../../drivers/nvdimm/namespace_driver.ts";
import { ND_DEVICE_NAMESPACE_PMEM, type nd_namespace } from "../../../drivers/nvdimm/nd.ts";
import {
  nd_region_disable,
  nd_region_enable,
  nvdimm_disable,
  nvdimm_enable,
} from "../../../drivers/nvdimm/region.ts";
import { EBUSY, EINVAL, ENXIO, is_errno, type Errno } from "../../../kernel/include/errno.ts";
import {
  type device_filter,
  type ndctl_env,
  type ndctl_result,
  dimm_matches,
  dimms_of,
  error_text,
  exit_status,
  long,
  namespace_mode,
  plural,
  region_matches,
  regions_of,
  select_namespaces,
  usage,
  words,
} from "./context.ts";
import { disable_safe, namespace_in_use, zero_info_blocks } from "./disable.ts";

const SHORT = "b:r:fvRLs";
const LONG = Object.freeze([
  long("bus", "b", 1),
  long("region", "r", 1),
  long("force", "f"),
  long("verbose", "v"),
  long("repair", "R"),
  long("rewrite-log", "L"),
]);

interface tally {
  count: number;
  error: Errno | null;
  notes: string;
}

type work<T> = (x: T, t: tally, w: words) => Promise<void> | void;

/** Does `work` to each, going on after failures; the last failure is the exit status. */
async function each<T>(
  list: readonly T[],
  w: words,
  verb: readonly [did: string, doing: string, what: string],
  work: work<T>,
): Promise<ndctl_result> {
  const t: tally = { count: 0, error: null, notes: "" };
  for (const x of list) {
    try {
      await work(x, t, w);
    } catch (e) {
      if (!is_errno(e)) throw e;
      t.error = e;
    }
  }
  const [did, doing, what] = verb;
  const head = t.error ? `error ${doing} ${what}s: ${error_text(t.error)}\n` : "";
  const status = t.error ? exit_status(t.error) : 0;
  return { status, stdout: "", stderr: `${t.notes}${head}${did} ${plural(t.count, what)}\n` };
}

/** The namespaces named by operands ("all", X.Y, namespaceX.Y). */
function named(env: ndctl_env, w: words): nd_namespace[] {
  const f: device_filter = { bus: w.get("b"), region: w.get("r") };
  const out = new Set<nd_namespace>();
  for (const name of w.operands) {
    for (const ns of select_namespaces(env, { ...f, namespace: name })) out.add(ns);
  }
  return [...out];
}

const is_words = (w: words | ndctl_result): w is words => "operands" in w;

function parse(args: readonly string[], verb: string): words | ndctl_result {
  const w = new words(args, SHORT, LONG);
  if (w.error !== null) return usage(w.error);
  if (w.operands.length === 0) return usage(`specify a namespace to ${verb}, or "all"`);
  return w;
}

export async function ndctl_disable_namespace(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = parse(args, "disable");
  if (!is_words(w)) return w;
  return await each(named(env, w), w, ["disabled", "disabling", "namespace"], async (ns, t) => {
    if (!nd_namespace_enabled(ns)) return;
    await disable_safe(ns);
    t.count++;
  });
}

export async function ndctl_enable_namespace(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = parse(args, "enable");
  if (!is_words(w)) return w;
  return await each(named(env, w), w, ["enabled", "enabling", "namespace"], (ns, t) => {
    if (nd_namespace_enabled(ns) || ns.size === 0) return;
    nd_namespace_enable(ns);
    t.count++;
  });
}

async function destroy(ns: nd_namespace, t: tally, w: words): Promise<void> {
  if (ns.size === 0) return;
  if (ns.region.ro) throw ENXIO;
  if (nd_namespace_enabled(ns) && !w.has("f")) {
    const why = "is active, specify --force for re-configuration";
    t.notes += `  Error: destroy namespace: ${ns.name} ${why}\n`;
    throw EBUSY;
  }
  await disable_safe(ns);
  zero_info_blocks(ns);
  if (ns.claim) nd_claim_detach(ns.claim);
  ns.force_raw = false;
  if (ns.nstype === ND_DEVICE_NAMESPACE_PMEM) namespace_set_size(ns, 0);
  t.count++;
}

export async function ndctl_destroy_namespace(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = parse(args, "destroy");
  if (!is_words(w)) return w;
  return await each(named(env, w), w, ["destroyed", "destroying", "namespace"], destroy);
}

/** Attaching a BTT has already repaired what a power cut left; what remains is looked at here. */
async function check(ns: nd_namespace, t: tally, w: words): Promise<void> {
  const was_enabled = nd_namespace_enabled(ns);
  if (!was_enabled && ns.size > 0) nd_namespace_enable(ns);
  if (namespace_mode(ns) !== "sector") {
    if (!was_enabled) await disable_safe(ns);
    if (w.operands.includes("all")) return;
    t.notes += `  Error: check namespace: ${ns.name}: namespace mode not supported\n`;
    throw EINVAL;
  }
  if (was_enabled && !w.has("f")) {
    t.notes += `  Error: check namespace: ${ns.name}: check aborted, namespace online\n`;
    throw EBUSY;
  }
  try {
    const { kernel } = ns.region.bus;
    for (const [i, a] of ns.claim!.btt!.arenas.entries()) {
      if (btt_check_arena(kernel, a)) continue;
      t.notes += `  Error: check namespace: ${ns.name}: arena ${i}: map and log disagree\n`;
      throw ENXIO;
    }
  } finally {
    if (!was_enabled) await disable_safe(ns);
  }
  t.count++;
}

export async function ndctl_check_namespace(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = parse(args, "check");
  if (!is_words(w)) return w;
  return await each(named(env, w), w, ["checked", "checking", "namespace"], check);
}

export async function ndctl_enable_region(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = parse(args, "enable");
  if (!is_words(w)) return w;
  const list = regions_of(env).filter((r) =>
    w.operands.some((o) => region_matches(r, { bus: w.get("b"), region: o })),
  );
  return await each(list, w, ["enabled", "enabling", "region"], (r, t) => {
    nd_region_enable(r);
    t.count++;
  });
}

/** A region with a namespace in use stays as it is, which is no error. */
export async function ndctl_disable_region(
  env: ndctl_env,
  args: readonly string[],
): Promise<ndctl_result> {
  const w = parse(args, "disable");
  if (!is_words(w)) return w;
  const list = regions_of(env).filter((r) =>
    w.operands.some((o) => region_matches(r, { bus: w.get("b"), region: o })),
  );
  return await each(list, w, ["disabled", "disabling", "region"], async (r, t) => {
    if (r.namespaces.some(namespace_in_use)) return;
    await nd_region_disable(r);
    t.count++;
  });
}

export async function ndctl_set_dimm(
  env: ndctl_env,
  args: readonly string[],
  on: boolean,
): Promise<ndctl_result> {
  const w = parse(args, on ? "enable" : "disable");
  if (!is_words(w)) return w;
  const list = dimms_of(env).filter((d) =>
    w.operands.some((o) => dimm_matches(d, { bus: w.get("b"), dimm: o })),
  );
  const verb = on
    ? (["enabled", "enabling", "nmem"] as const)
    : (["disabled", "disabling", "nmem"] as const);
  return await each(list, w, verb, (d, t) => {
    if (d.enabled === on) return;
    if (on) nvdimm_enable(d);
    else nvdimm_disable(d);
    t.count++;
  });
}
