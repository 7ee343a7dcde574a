/**
 * tools/cmd/ndctl/daxctl.ts - `daxctl list` and the little of `daxctl reconfigure-device` that this
 * machine can do: a device-dax device stays in mode devdax, memory hotplug is refused.
 */
import type { nd_claim } from "../../../drivers/nvdimm/nd.ts";
import { EOPNOTSUPP } from "../../../kernel/include/errno.ts";
import {
  type ndctl_env,
  type ndctl_result,
  USAGE_STATUS,
  done,
  exit_status,
  failed,
  long,
  regions_of,
  usage,
  words,
} from "./context.ts";
import { type json, json_list_text } from "./json.ts";
import { type view, dax_device_json, dax_region_json } from "./list.ts";

const SHORT = "r:d:m:RDiufN";
const LONG = Object.freeze([
  long("region", "r", 1),
  long("dev", "d", 1),
  long("mode", "m", 1),
  long("regions", "R"),
  long("devices", "D"),
  long("idle", "i"),
  long("human", "u"),
  long("force", "f"),
  long("no-online", "N"),
]);

function claims_of(env: ndctl_env, w: words): nd_claim[] {
  const region = w.get("r");
  return regions_of(env)
    .filter((r) => region === undefined || region === "all" || region === String(r.id))
    .flatMap((r) => r.claims)
    .filter((c) => c.kind === "dax" && c.dax !== null);
}

function list(env: ndctl_env, w: words): ndctl_result {
  const human = w.has("u");
  const v: view = {
    human,
    verbose: false,
    dax: true,
    idle: w.has("i"),
    configured: false,
    capabilities: false,
    media_errors: false,
    mappings: false,
  };
  const dev = w.get("d");
  const claims = claims_of(env, w).filter((c) => dev === undefined || dev === c.dax!.name);
  const one = (c: nd_claim): json => {
    if (!w.has("R")) return dax_device_json(c, v);
    const { devices, ...rest } = dax_region_json(c, v);
    return w.has("D") && devices !== undefined ? { ...rest, devices } : rest;
  };
  return done(json_list_text(claims.map(one), human));
}

function reconfigure(env: ndctl_env, w: words): ndctl_result {
  const [name] = w.operands;
  const claim = claims_of(env, w).find((c) => c.dax!.name === name);
  if (!claim) return failed(1, "error reconfiguring devices: No such device or address\n");
  const mode = w.get("m") ?? "devdax";
  if (mode !== "devdax" && mode !== "system-ram") return usage(`unknown mode: ${mode}`);
  if (mode === "devdax") return done("", "reconfigured 0 devices\n");
  const why = `${name}: memory hotplug is not possible on this machine\n`;
  return failed(exit_status(EOPNOTSUPP), `${why}reconfigured 0 devices\n`);
}

export function daxctl(env: ndctl_env, args: readonly string[]): ndctl_result {
  const [name, ...rest] = args;
  if (name === "version" || name === "--version") return done("76\n");
  const w = new words(rest, SHORT, LONG);
  if (w.error !== null) return usage(w.error);
  if (name === "list") return list(env, w);
  if (name === "reconfigure-device") return reconfigure(env, w);
  return failed(USAGE_STATUS, `Unknown command: '${name ?? ""}'\n`);
}
