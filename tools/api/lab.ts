/**
 * tools/api/lab.ts - the machine of the recorded cases: one NVDIMM of 512 MiB, 1 GiB of memory,
 * /mnt, /mnt2 and /tmp; set up as a script's `@setup` line says.
 */
import { is_not_implemented } from "../../kernel/assert.ts";
import type { lockdep_options } from "../../kernel/locking/lockdep.ts";
import { SIGBUS, SIGSEGV, SIGTERM, SIGUSR1, SIGXFSZ } from "../../kernel/signal.ts";
import { Machine, type machine_options } from "./machine.ts";
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
  /** "1": the platform has scrubs and error injection; the recorded one has not. */
  ars: string;
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
  /** What the tool that failed said, in one line; "" when nothing did. */
  why: string;
  /** What is not built yet, if the set-up met it. */
  unsupported: string | null;
}

const DIMM_BYTES = 512 * 1024 ** 2;
const VIRTIO_BYTES = 320 * 1024 ** 2;

/** The recorded machine's devices; an image is a filesystem, or with mode=keep a whole DIMM. */
function devices(setup: lab_setup, opts: lab_options): machine_options {
  const virtio_pmem = [{ size: VIRTIO_BYTES }];
  if (opts.image && setup.mode !== "keep") {
    return { pmem: [{ image: opts.image, name: "pmem0", pages: true }] };
  }
  const ars = setup.ars === "1";
  if (opts.image) return { nvdimm: { ars, dimms: [{ image: opts.image }] }, virtio_pmem };
  const init_labels = setup.mode === "keep" ? {} : { init_labels: "1.1" as const };
  return { nvdimm: { ars, dimms: [{ size: DIMM_BYTES, ...init_labels }] }, virtio_pmem };
}

interface failure {
  verdict: string;
  why: string;
}

const one_line = (text: string): string =>
  text
    .trim()
    .split(/\s*\n\s*/)
    .join("; ");

/** The namespace that a case finds, made as the recorder made it. */
async function make_namespace(m: Machine, setup: lab_setup): Promise<failure | null> {
  const words = ["create-namespace", "-f", "-r", "region0", "-m", setup.mode];
  if (setup.size !== "") words.push("-s", setup.size);
  if (setup.map !== "") words.push("-M", setup.map);
  const r = await m.tool("ndctl", words);
  return r.status === 0 ? null : { verdict: "namespace failed", why: one_line(r.stderr) };
}

function disk_of(setup: lab_setup): string {
  if (setup.dev !== "") return setup.dev;
  return setup.mode === "sector" ? "/dev/pmem0s" : "/dev/pmem0";
}

/** mkfs and mount as `@setup` says; answers what failed. */
async function prepare(
  m: Machine,
  p: Process,
  setup: lab_setup,
  keep: boolean,
): Promise<failure | null> {
  if (setup.fs === "") return null;
  const dev = disk_of(setup);
  if (!keep) {
    const options = setup.mkfs === "" && setup.fs !== "xfs" ? "-b 4096" : setup.mkfs;
    const words = options.split(" ").filter((w) => w !== "");
    const force = setup.fs === "xfs" ? "-f" : "-F";
    const r = await m.tool(`mkfs.${setup.fs}`, [force, "-q", ...words, dev]);
    if (r.status !== 0) return { verdict: "mkfs failed", why: one_line(r.stderr) };
  }
  if (setup.mount === "none") return null;
  try {
    await p.mount(dev, "/mnt", setup.fs, setup.mount);
  } catch (e) {
    if (!p.is_error(e)) throw e;
    return { verdict: "mount failed", why: one_line((e as Error).message) };
  }
  return null;
}

/** Boots the machine for a script. Never throws for what is not built: it says so. */
export async function boot_lab(setup: lab_setup, opts: lab_options = {}): Promise<booted_lab> {
  const machine = await Machine.boot({
    ...(opts.seed === undefined ? {} : { seed: opts.seed }),
    ...(opts.lockdep === undefined ? {} : { lockdep: opts.lockdep }),
    ...devices(setup, opts),
  });
  const process = machine.process("sysrun");
  // the interpreter of the recordings handles these, and shows them as lines of their own
  for (const signo of [SIGBUS, SIGSEGV, SIGXFSZ, SIGUSR1, SIGTERM]) {
    process.task.signal!.handled.add(signo);
  }
  const ready = setup.mode === "none" || setup.mode === "keep" || opts.image !== undefined;
  try {
    const failed =
      (ready ? null : await make_namespace(machine, setup)) ??
      (await prepare(machine, process, setup, opts.image !== undefined));
    return { machine, process, ...(failed ?? { verdict: "ok", why: "" }), unsupported: null };
  } catch (e) {
    if (!is_not_implemented(e)) throw e;
    return { machine, process, verdict: "failed", why: "", unsupported: e.message };
  }
}
