/**
 * tools/api/check_options.ts - machine options as scripts give them: TypeScript is run without a
 * check of its types, so a misspelt name or word would else be passed over in silence.
 */
import type { pmem_options } from "../../drivers/nvdimm/pmem.ts";
import type { machine_options } from "./machine.ts";

const MACHINE: Readonly<Record<keyof machine_options, true>> = Object.freeze({
  boot_time: true,
  cmdline: true,
  detect: true,
  dram_bytes: true,
  lockdep: true,
  max_steps: true,
  media: true,
  name: true,
  nvdimm: true,
  page_shift: true,
  pmem: true,
  proposals: true,
  release: true,
  seed: true,
  stacks: true,
  strategy: true,
  track_persistence: true,
  virtio_pmem: true,
});

const PMEM: Readonly<Record<keyof pmem_options, true>> = Object.freeze({
  clear_poison: true,
  contents: true,
  domain: true,
  image: true,
  info: true,
  map: true,
  mode: true,
  name: true,
  nd_region: true,
  pages: true,
  region: true,
  ro: true,
  size: true,
  synchronous: true,
});

function check_names(what: string, given: object, known: object): void {
  const bad = Object.keys(given).find((k) => !Object.hasOwn(known, k));
  if (bad === undefined) return;
  throw new RangeError(`${what} "${bad}" is not known: ${Object.keys(known).join(", ")}`);
}

function check_word(what: string, value: unknown, words: readonly string[]): void {
  if (value === undefined || words.includes(value as string)) return;
  throw new RangeError(`${what} "${String(value)}": ${words.join(", ")}`);
}

function check_whole(what: string, value: unknown): void {
  if (value === undefined || (Number.isSafeInteger(value) && Number(value) >= 0)) return;
  throw new RangeError(`${what} ${String(value)}: a whole number of at least 0`);
}

/** @throws RangeError naming the option and what it may be */
export function check_machine_options(o: machine_options): void {
  if (typeof o !== "object" || o === null) throw new RangeError("machine options are an object");
  check_names("machine option", o, MACHINE);
  check_whole("seed", o.seed);
  check_whole("max_steps", o.max_steps);
  check_whole("dram_bytes", o.dram_bytes);
  if (o.dram_bytes !== undefined && o.dram_bytes % 65536 !== 0) {
    throw new RangeError(`dram_bytes ${o.dram_bytes}: a multiple of 65536`);
  }
  if (o.strategy !== undefined && typeof o.strategy?.new_execution !== "function") {
    throw new RangeError("strategy is a Scheduler object; `daxlab explore --strategy` takes names");
  }
  if (o.pmem !== undefined && !Array.isArray(o.pmem)) {
    throw new RangeError('pmem is a list: [{ size: "64M", mode: "fsdax" }]');
  }
  for (const p of o.pmem ?? []) {
    check_names("pmem option", p, PMEM);
    if (p.size === undefined && p.region === undefined && typeof p.image !== "object") {
      throw new RangeError('a pmem device has a size ("64M"), or an image (bytes)');
    }
    if (p.contents !== undefined && !(p.contents instanceof Uint8Array)) {
      throw new RangeError("pmem contents are a Uint8Array");
    }
    if (p.image instanceof Uint8Array && p.image.length % 4096 !== 0) {
      throw new RangeError(`a pmem image of ${p.image.length} bytes: whole pages of 4096 bytes`);
    }
    check_word("pmem mode", p.mode, ["fsdax", "raw"]);
    check_word("pmem map", p.map, ["dev", "mem"]);
    check_word("pmem domain", p.domain, ["adr", "eadr", "none"]);
  }
}
