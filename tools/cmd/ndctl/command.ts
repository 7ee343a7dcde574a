/**
 * tools/cmd/ndctl/command.ts - `ndctl COMMAND ...` on the NVDIMMs of an emulated kernel, with the
 * options, output and exit status of ndctl 76. Pure: it acts on drivers/nvdimm directly.
 */
import { notImplemented } from "../../../kernel/assert.ts";
import {
  ndctl_check_namespace,
  ndctl_destroy_namespace,
  ndctl_disable_namespace,
  ndctl_disable_region,
  ndctl_enable_namespace,
  ndctl_enable_region,
  ndctl_set_dimm,
} from "./actions.ts";
import { type ndctl_env, type ndctl_result, USAGE_STATUS, done, failed } from "./context.ts";
import { ndctl_create_namespace } from "./create.ts";
import {
  ndctl_clear_errors,
  ndctl_inject_error,
  ndctl_start_scrub,
  ndctl_wait_scrub,
} from "./errors.ts";
import { ndctl_read_infoblock } from "./infoblock.ts";
import { ndctl_write_infoblock } from "./infoblock_write.ts";
import { ndctl_labels } from "./labels.ts";
import { ndctl_list } from "./list.ts";

export type { ndctl_env, ndctl_result } from "./context.ts";

type sub_command = (
  env: ndctl_env,
  args: readonly string[],
) => Promise<ndctl_result> | ndctl_result;

const COMMANDS: Readonly<Record<string, sub_command>> = Object.freeze({
  version: () => done("76\n"),
  list: ndctl_list,
  "create-namespace": ndctl_create_namespace,
  "destroy-namespace": ndctl_destroy_namespace,
  "enable-namespace": ndctl_enable_namespace,
  "disable-namespace": ndctl_disable_namespace,
  "check-namespace": ndctl_check_namespace,
  "enable-region": ndctl_enable_region,
  "disable-region": ndctl_disable_region,
  "enable-dimm": (env, args) => ndctl_set_dimm(env, args, true),
  "disable-dimm": (env, args) => ndctl_set_dimm(env, args, false),
  "init-labels": (env, args) => ndctl_labels(env, "init", args),
  "zero-labels": (env, args) => ndctl_labels(env, "zero", args),
  "read-labels": (env, args) => ndctl_labels(env, "read", args),
  "write-labels": (env, args) => ndctl_labels(env, "write", args),
  "check-labels": (env, args) => ndctl_labels(env, "check", args),
  "read-infoblock": ndctl_read_infoblock,
  "write-infoblock": ndctl_write_infoblock,
  "inject-error": ndctl_inject_error,
  "start-scrub": ndctl_start_scrub,
  "wait-scrub": ndctl_wait_scrub,
  "clear-errors": ndctl_clear_errors,
});

/** Commands of the real tool that are not built. */
const LATER: readonly string[] = Object.freeze([
  "inject-smart",
  "monitor",
  "update-firmware",
  "activate-firmware",
  "setup-passphrase",
  "sanitize-dimm",
  "split-acpi",
]);

export async function ndctl(env: ndctl_env, args: readonly string[]): Promise<ndctl_result> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "help") {
    const list = Object.keys(COMMANDS).sort().join("\n   ");
    return done(`\n usage: ndctl COMMAND [ARGS]\n\n   ${list}\n`);
  }
  if (name === "--version") return done("76\n");
  if (LATER.includes(name)) return notImplemented(`ndctl ${name}`);
  if (Object.hasOwn(COMMANDS, name)) return await COMMANDS[name]!(env, rest);
  return failed(USAGE_STATUS, `Unknown command: '${name}'\n`);
}
