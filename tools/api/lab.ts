/**
 * tools/api/lab.ts - the machine of the recorded cases: one NVDIMM of 512 MiB, 1 GiB of memory,
 * /mnt, /mnt2 and /tmp; set up as a script's `@setup` line says.
 */
import { is_not_implemented } from "../../kernel/assert.ts";
import type { lockdep_options } from "../../kernel/locking/lockdep.ts";
import { SIGBUS, SIGSEGV, SIGTERM, SIGUSR1, SIGXFSZ } from "../../kernel/signal.ts";
import type { pmem_options } from "../../drivers/nvdimm/pmem.ts";
import { Machine, size_bytes } from "./machine.ts";
import type { Process } from "./process.ts";

/** The keys of `@setup`, empty where not given. */
export interface lab_setup {
  mode: "fsdax" | "devdax" | "sector" | "raw" | "none" | "keep";
  size: string;
  map: string;
  fs: string;
  mkfs: string;
  mount: string;
  dev: string;
}

export interface lab_options {
  seed?: number;
  /** Contents of the device instead of a fresh namespace: a filesystem, or a whole namespace. */
  image?: Uint8Array;
  /** Validate the order of locks. */
  lockdep?: boolean | lockdep_options;
}

export interface booted_lab {
  machine: Machine;
  /** Where a script begins: root, working directory "/". */
  process: Process;
  /** "ok", or what failed. */
  verdict: string;
  /** What is not built yet, if the set-up met it. */
  unsupported: string | null;
}

const DIMM_BYTES = 512 * 1024 ** 2;

function devices(setup: lab_setup, opts: lab_options): pmem_options[] {
  if (opts.image) return [{ image: opts.image, name: "pmem0", pages: true }];
  const size = setup.size === "" ? DIMM_BYTES : size_bytes(setup.size);
  const map = setup.map === "mem" ? "mem" : "dev";
  if (setup.mode === "fsdax") return [{ size, mode: "fsdax", map, name: "pmem0" }];
  if (setup.mode === "raw") return [{ size, mode: "raw", name: "pmem0" }];
  return [];
}

/** mkfs and mount as `@setup` says; answers the verdict. */
async function prepare(m: Machine, p: Process, setup: lab_setup, keep: boolean): Promise<string> {
  if (setup.fs === "") return "ok";
  const dev = setup.dev === "" ? "/dev/pmem0" : setup.dev;
  if (!keep) {
    const options = setup.mkfs === "" && setup.fs !== "xfs" ? "-b 4096" : setup.mkfs;
    const words = options.split(" ").filter((w) => w !== "");
    const force = setup.fs === "xfs" ? "-f" : "-F";
    const r = await m.tool(`mkfs.${setup.fs}`, [force, "-q", ...words, dev]);
    if (r.status !== 0) return "mkfs failed";
  }
  if (setup.mount === "none") return "ok";
  try {
    await p.mount(dev, "/mnt", setup.fs, setup.mount);
  } catch (e) {
    if (!p.is_error(e)) throw e;
    return "mount failed";
  }
  return "ok";
}

/** Boots the machine for a script. Never throws for what is not built: it says so. */
export async function boot_lab(setup: lab_setup, opts: lab_options = {}): Promise<booted_lab> {
  const machine = await Machine.boot({
    ...(opts.seed === undefined ? {} : { seed: opts.seed }),
    ...(opts.lockdep === undefined ? {} : { lockdep: opts.lockdep }),
    pmem: devices(setup, opts),
  });
  const process = machine.process("sysrun");
  // the interpreter of the recordings handles these, and shows them as lines of their own
  for (const signo of [SIGBUS, SIGSEGV, SIGXFSZ, SIGUSR1, SIGTERM]) {
    process.task.signal!.handled.add(signo);
  }
  if (setup.mode === "devdax" || setup.mode === "sector") {
    const unsupported = `a namespace in ${setup.mode} mode`;
    return { machine, process, verdict: "namespace failed", unsupported };
  }
  try {
    const verdict = await prepare(machine, process, setup, opts.image !== undefined);
    return { machine, process, verdict, unsupported: null };
  } catch (e) {
    if (!is_not_implemented(e)) throw e;
    return { machine, process, verdict: "failed", unsupported: e.message };
  }
}
