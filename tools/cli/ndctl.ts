/**
 * tools/cli/ndctl.ts - `daxlab ndctl --image DIMM.img [...] COMMAND ...`: ndctl on the file of a
 * DIMM (persistent memory, then the label storage area), without a machine that has one. What the
 * command changes is written back into the file.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { parse_size } from "../cmd/size.ts";
import { user_error } from "./errors.ts";
import { check_dimm, read_image } from "./files.ts";

const HELP = `Usage: daxlab ndctl --image FILE [--image FILE ...] [OPTIONS] COMMAND [ARGS]

  --image FILE        a DIMM: its persistent memory, then its label storage area (may be gzip'd,
                      then nothing is written back)
  --label-size SIZE   bytes of the label storage area; default 128K, 0 for none
  --interleave        all images are one interleave set
  --dry-run           never write to the files

COMMAND is one of ndctl's: list, create-namespace, destroy-namespace, init-labels, ...
Each command boots a machine with the images; those that write labels find its regions down.

  truncate -s 65664K DIMM.img                          64 MiB and 128 KiB of labels
  daxlab ndctl --image DIMM.img init-labels nmem0
  daxlab ndctl --image DIMM.img create-namespace -s 32M
`;

/**
 * They need regions that are down. Each command line is a boot of its own, so a disable-region
 * before them could not last; and nothing else uses the file.
 */
const LABEL_WRITERS = ["init-labels", "write-labels", "zero-labels"];

interface dimm_words {
  images: string[];
  label_size: number;
  interleave: boolean;
  dry_run: boolean;
  rest: string[];
}

/** Our own options stand before the command. */
function parse(args: readonly string[]): dimm_words {
  const w: dimm_words = {
    images: [],
    label_size: 128 * 1024,
    interleave: false,
    dry_run: false,
    rest: [],
  };
  let i = 0;
  const value = (word: string): string => {
    const eq = word.indexOf("=");
    const v = eq >= 0 ? word.slice(eq + 1) : args[++i];
    if (v === undefined) throw new user_error(`ndctl: ${word} needs a value`);
    return v;
  };
  for (; i < args.length && args[i]!.startsWith("--"); i++) {
    const word = args[i]!;
    const name = word.split("=")[0]!;
    if (name === "--image") w.images.push(value(word));
    else if (name === "--label-size") {
      const size = parse_size(value(word));
      if (size === undefined || size % 4096 !== 0) {
        throw new user_error("ndctl: --label-size: a multiple of 4096, as 128K");
      }
      w.label_size = size;
    } else if (name === "--interleave") w.interleave = true;
    else if (name === "--dry-run") w.dry_run = true;
    else break;
  }
  w.rest = args.slice(i);
  return w;
}

const is_packed = (file: string): boolean => {
  const head = readFileSync(file).subarray(0, 2);
  return head[0] === 0x1f && head[1] === 0x8b;
};

function dimm_of(file: string, label_size: number) {
  const image = read_image(file);
  check_dimm(file, image.length, label_size);
  return { image, label_size };
}

function what_is_missing(w: dimm_words): string {
  const [word] = w.rest;
  const help = "(daxlab ndctl --help)";
  if (w.images.length > 0) return `a command is missing, for example list -RNDBu ${help}`;
  if (word?.startsWith("-")) return `unknown option '${word}' ${help}`;
  return `--image FILE is missing; it stands before the command ${help}`;
}

export async function main(args: string[]): Promise<number> {
  const w = parse(args);
  if (w.images.length === 0 || w.rest.length === 0) {
    const asked = args.includes("--help") || args.length === 0;
    if (!asked) process.stderr.write(`daxlab: ndctl: ${what_is_missing(w)}\n`);
    else process.stdout.write(HELP);
    return asked ? 0 : 2;
  }
  const twice = w.images.find((f, i) => w.images.indexOf(f) < i);
  if (twice !== undefined) throw new user_error(`ndctl: --image ${twice} is given twice`);
  const { Machine } = await import("../api/machine.ts");
  const { ndctl } = await import("../cmd/ndctl/command.ts");
  const { nvdimm_state } = await import("../../drivers/nvdimm/nd.ts");
  const { nvdimm_image } = await import("../../drivers/nvdimm/nfit.ts");
  const dimms = w.images.map((f) => dimm_of(f, w.label_size));
  const m = await Machine.boot({ nvdimm: { dimms, interleave: w.interleave } });
  const env = {
    kernel: m.kernel,
    read_file: (name: string) => new Uint8Array(readFileSync(name)),
    write_file: (name: string, bytes: Uint8Array) => writeFileSync(name, bytes),
  };
  const ask = (words: string[]) => m.in_task(m.kernel, "ndctl", () => ndctl(env, words));
  if (LABEL_WRITERS.includes(w.rest[0]!)) await ask(["disable-region", "all"]);
  const r = await ask(w.rest);
  process.stdout.write(r.stdout);
  if (r.raw) process.stdout.write(r.raw);
  process.stderr.write(r.stderr);
  if (!w.dry_run) {
    for (const [i, d] of nvdimm_state(m.kernel).buses[0]!.dimms.entries()) {
      const file = w.images[i]!;
      const now = nvdimm_image(d);
      if (Buffer.compare(now, dimms[i]!.image) === 0) continue;
      if (is_packed(file)) {
        process.stderr.write(`daxlab: ndctl: ${file} is packed: the change is not kept\n`);
        continue;
      }
      writeFileSync(file, now, { flag: "r+" });
    }
  }
  return r.status;
}
