/**
 * tools/cmd/ndctl/daxctl.ts - `daxctl`: device-dax devices listed, their driver unbound and bound.
 *
 * As on the recorded machine there is no kmem driver: a device that is to become system memory
 * loses the driver it has, and that is all (ENOENT). Regions of NVDIMMs are static: one device,
 * which is neither made nor destroyed.
 */
import { dax_bus_probe, dax_bus_remove } from "../../../drivers/dax/bus.ts";
import { device_dax_driver } from "../../../drivers/dax/device.ts";
import type { nd_claim } from "../../../drivers/nvdimm/nd.ts";
import { notImplemented } from "../../../kernel/assert.ts";
import { EBUSY, EINVAL, ENOENT, ENOSPC, ENXIO, is_errno } from "../../../kernel/include/errno.ts";
import type { Errno } from "../../../kernel/include/errno.ts";
import {
  type ndctl_env,
  type ndctl_result,
  USAGE_STATUS,
  done,
  error_text,
  exit_status,
  long,
  plural,
  regions_of,
  usage,
  words,
} from "./context.ts";
import { in_sysfs_order, type json, type json_object, json_list_text } from "./json.ts";
import { type view, dax_device_json, dax_region_json } from "./list.ts";

const SHORT = "r:d:m:s:a:RDiufNC";
const LONG = Object.freeze([
  long("region", "r", 1),
  long("dev", "d", 1),
  long("mode", "m", 1),
  long("size", "s", 1),
  long("align", "a", 1),
  long("regions", "R"),
  long("devices", "D"),
  long("idle", "i"),
  long("human", "u"),
  long("force", "f"),
  long("no-online", "N"),
  long("check-config", "C"),
]);

function claims_of(env: ndctl_env, w: words): nd_claim[] {
  const region = w.get("r");
  const all = regions_of(env)
    .filter((r) => region === undefined || region === "all" || region === String(r.id))
    .flatMap((r) => r.claims)
    .filter((c) => c.kind === "dax" && c.dax !== null);
  return in_sysfs_order(all.map((c) => ({ name: c.dax!.name, c }))).map((x) => x.c);
}

/** The devices that the operands name. */
function chosen(env: ndctl_env, w: words): nd_claim[] {
  const named = (c: nd_claim) => w.operands.includes("all") || w.operands.includes(c.dax!.name);
  return claims_of(env, w).filter(named);
}

const list_view = (w: words): view => ({
  human: w.has("u"),
  verbose: false,
  dax: true,
  idle: w.has("i"),
  configured: false,
  capabilities: false,
  media_errors: false,
  mappings: false,
});

/** Where the region's device is in the tree of devices. */
function region_path(c: nd_claim): string {
  const { bus, name } = c.region;
  const parent = bus.dimms.length > 0 ? "LNXSYSTM:00/LNXSYBUS:00/ACPI0012:00" : bus.provider;
  return `/${parent}/${bus.name}/${name}/${c.name}`;
}

function list(env: ndctl_env, w: words): ndctl_result {
  const v = list_view(w);
  const dev = w.get("d");
  const claims = claims_of(env, w).filter((c) => dev === undefined || dev === c.dax!.name);
  // Regions come as the bus has them, devices alone the other way round (recorded both ways).
  if (!w.has("R")) claims.reverse();
  const one = (c: nd_claim): json => {
    if (!w.has("R")) return dax_device_json(c, v);
    const { id, devices, ...rest } = dax_region_json(c, v);
    const out: json_object = { id: id!, path: region_path(c), ...rest };
    if (w.has("D") && devices !== undefined) out["devices"] = devices;
    return out;
  };
  return done(json_list_text(claims.map(one), v.human));
}

/** What became of a command over several devices. */
interface outcome {
  devices: nd_claim[];
  notes: string;
  error: Errno | null;
}

/** `past` "disabled", `ing` "disabling": how the tool speaks of what it did, and did not. */
function report(o: outcome, past: string, ing: string, stdout = ""): ndctl_result {
  const count = `${past} ${plural(o.devices.length, "device")}\n`;
  if (o.error === null) return done(stdout, o.notes + count);
  const why = `error ${ing} devices: ${error_text(o.error)}\n`;
  return { status: exit_status(o.error), stdout, stderr: o.notes + why + count };
}

/** Runs `fn` on each named device; the last error counts. None named: ENXIO. */
async function each(
  env: ndctl_env,
  w: words,
  fn: (c: nd_claim) => Promise<string>,
): Promise<outcome> {
  const out: outcome = { devices: [], notes: "", error: ENXIO };
  for (const c of chosen(env, w)) {
    try {
      out.notes += await fn(c);
      out.devices.push(c);
      out.error = null;
    } catch (e) {
      if (!is_errno(e)) throw e;
      out.error = e;
    }
  }
  return out;
}

/** Disabled already is as good. */
async function disable(c: nd_claim): Promise<string> {
  const dax = c.dax!;
  if (dax.busy) throw EBUSY;
  if (dax.driver !== null) await dax_bus_remove(dax);
  return "";
}

async function enable(c: nd_claim): Promise<string> {
  const dax = c.dax!;
  if (dax.driver === null) dax_bus_probe(dax, device_dax_driver);
  return "";
}

async function reconfigure(env: ndctl_env, w: words): Promise<ndctl_result> {
  const mode = w.get("m");
  if (mode === undefined) return usage("a 'mode' option is required");
  let missing = "";
  const o = await each(env, w, async (c) => {
    const { name, driver } = c.dax!;
    if (mode === "devdax") {
      await enable(c);
      return driver === null ? "" : `${name} was already in devdax mode\n`;
    }
    if (mode !== "system-ram") throw EINVAL;
    await disable(c);
    missing = `${name}: no driver makes system memory of it here (kmem); it is disabled now\n`;
    throw ENOENT;
  });
  o.notes += missing;
  const shown = o.devices.map((c) => dax_device_json(c, list_view(w)));
  return report(o, "reconfigured", "reconfiguring", json_list_text(shown, w.has("u")));
}

/** online-memory and offline-memory: of what is not memory. */
async function memory(env: ndctl_env, w: words, what: "online" | "offline"): Promise<ndctl_result> {
  const text = "memory operations are not applicable in devdax mode";
  const notes = chosen(env, w).map((c) => `${c.dax!.name}: ${text}\n`);
  const [past, ing] = what === "online" ? ["onlined", "onlining"] : ["offlined", "offlining"];
  const why = `error ${ing} memory: ${error_text(ENXIO)}\n${past} memory for 0 devices\n`;
  return { status: exit_status(ENXIO), stdout: "", stderr: notes.join("") + why };
}

async function destroy(env: ndctl_env, w: words): Promise<ndctl_result> {
  const notes = chosen(env, w).map((c) => {
    if (c.dax!.driver === null || w.has("f"))
      notImplemented("daxctl destroy-device of an idle one");
    return `${c.dax!.name} is active, specify --force for deletion\n`;
  });
  return report({ devices: [], notes: notes.join(""), error: ENXIO }, "destroyed", "destroying");
}

export async function daxctl(env: ndctl_env, args: readonly string[]): Promise<ndctl_result> {
  const [name, ...rest] = args;
  if (name === "version" || name === "--version") return done("76\n");
  const w = new words(rest, SHORT, LONG);
  if (w.error !== null) return usage(w.error);
  if (name === "list") return list(env, w);
  if (name === "disable-device") {
    return report(await each(env, w, disable), "disabled", "disabling");
  }
  if (name === "enable-device") return report(await each(env, w, enable), "enabled", "enabling");
  if (name === "reconfigure-device") return await reconfigure(env, w);
  if (name === "online-memory") return await memory(env, w, "online");
  if (name === "offline-memory") return await memory(env, w, "offline");
  if (name === "destroy-device") return await destroy(env, w);
  if (name === "create-device") {
    return report({ devices: [], notes: "", error: ENOSPC }, "created", "creating");
  }
  const stderr = `Unknown command: '${name ?? ""}'\n`;
  return { status: USAGE_STATUS, stdout: "", stderr };
}
