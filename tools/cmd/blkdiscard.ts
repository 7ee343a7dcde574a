/**
 * tools/cmd/blkdiscard.ts - `blkdiscard [-z] [-s] [-o OFFSET] [-l LENGTH] DEVICE` with the words of
 * util-linux 2.38. Pure. Standard input is no terminal here, so nothing is asked.
 */
import { type Errno, is_errno } from "../../kernel/include/errno.ts";
import type { command_result, ioctl_device } from "./blockdev.ts";
import { getopt_long } from "./getopt.ts";
import { parse_size } from "./size.ts";
import { strerror } from "./strerror.ts";

export interface blkdiscard_env {
  /** With `excl`, EBUSY while somebody uses the device. @throws Errno */
  open(path: string, excl: boolean): Promise<ioctl_device>;
}

const TRY = "Try 'blkdiscard --help' for more information.\n";
const fail = (text: string, stderr = ""): command_result => ({
  status: 1,
  stdout: "",
  stderr: `${stderr}blkdiscard: ${text}\n`,
});

const SHORT = "hVsvo:l:p:zf";
const LONG = Object.freeze([
  { name: "help", val: "h", has_arg: 0 as const },
  { name: "version", val: "V", has_arg: 0 as const },
  { name: "offset", val: "o", has_arg: 1 as const },
  { name: "force", val: "f", has_arg: 0 as const },
  { name: "length", val: "l", has_arg: 1 as const },
  { name: "step", val: "p", has_arg: 1 as const },
  { name: "secure", val: "s", has_arg: 0 as const },
  { name: "zeroout", val: "z", has_arg: 0 as const },
  { name: "verbose", val: "v", has_arg: 0 as const },
]);

interface range {
  ioctl: "BLKDISCARD" | "BLKSECDISCARD" | "BLKZEROOUT";
  force: boolean;
  verbose: boolean;
  offset: number;
  /** null: up to the end. */
  length: number | null;
  step: number;
  path: string;
}

const NUMBERS = Object.freeze({ o: "offset", l: "length", p: "step" } as const);

/** "10M", "10MiB", "10MB". */
function number_of(text: string): number | undefined {
  const decimal = /^(\d+)([KMGT])B$/i.exec(text);
  if (decimal) return Number(decimal[1]) * 1000 ** ("KMGT".indexOf(decimal[2]!.toUpperCase()) + 1);
  return parse_size(text.replace(/ib$/i, ""));
}

function parse(args: readonly string[]): range | command_result {
  const p = getopt_long(args, SHORT, LONG);
  const r: range = {
    ioctl: "BLKDISCARD",
    force: false,
    verbose: false,
    offset: 0,
    length: null,
    step: 0,
    path: "",
  };
  for (const o of p.options) {
    if (o.opt === "?") return { ...fail(""), stderr: `blkdiscard: ${o.message}\n${TRY}` };
    if (o.opt === "V") {
      return { status: 0, stdout: "blkdiscard from util-linux 2.38.1\n", stderr: "" };
    }
    if (o.opt === "h") {
      const text =
        "Usage:\n blkdiscard [options] <device>\n\n -f, -o <num>, -l <num>, -p <num>, -s, -z, -v\n";
      return { status: 0, stdout: text, stderr: "" };
    }
    if (o.opt === "f") r.force = true;
    else if (o.opt === "v") r.verbose = true;
    else if (o.opt === "s") r.ioctl = "BLKSECDISCARD";
    else if (o.opt === "z") r.ioctl = "BLKZEROOUT";
    else {
      const name = NUMBERS[o.opt as keyof typeof NUMBERS];
      const n = number_of(o.arg!);
      if (n === undefined) return fail(`failed to parse ${name}: '${o.arg}': Invalid argument`);
      r[name] = n;
    }
  }
  if (p.operands.length === 0) return fail("no device specified");
  if (p.operands.length > 1) {
    return { ...fail(""), stderr: `blkdiscard: unexpected number of arguments\n${TRY}` };
  }
  r.path = p.operands[0]!;
  return r;
}

/** Cuts the range to the device, or says why not. */
async function fit(d: ioctl_device, r: range): Promise<[start: number, end: number] | string> {
  const size = (await d.ioctl("BLKGETSIZE64")) as number;
  const sector = (await d.ioctl("BLKSSZGET")) as number;
  if (r.offset % sector !== 0) {
    return `${r.path}: offset ${r.offset} is not aligned to sector size ${sector}`;
  }
  if (r.offset > size) return `${r.path}: offset is greater than device size`;
  const end = Math.min(size, r.length === null ? size : r.offset + r.length);
  const length = end - r.offset;
  if (length % sector !== 0) {
    return `${r.path}: length ${length} is not aligned to sector size ${sector}`;
  }
  return [r.offset, end];
}

async function discard(d: ioctl_device, r: range, note: string): Promise<command_result> {
  const place = await fit(d, r);
  if (typeof place === "string") return fail(place, note);
  const [start, end] = place;
  const step = r.step > 0 ? r.step : Math.max(end - start, 1);
  for (let at = start; at < end; at += step) {
    try {
      await d.ioctl(r.ioctl, [at, Math.min(step, end - at)]);
    } catch (e) {
      if (!is_errno(e)) throw e;
      return fail(`${r.path}: ${r.ioctl} ioctl failed: ${strerror(e)}`, note);
    }
  }
  const did = r.ioctl === "BLKZEROOUT" ? "Zero-filled" : "Discarded";
  const text = `${r.path}: ${did} ${end - start} bytes from the offset ${start}\n`;
  return { status: 0, stdout: r.verbose ? text : "", stderr: note };
}

export async function blkdiscard(
  env: blkdiscard_env,
  args: readonly string[],
): Promise<command_result> {
  const r = parse(args);
  if ("status" in r) return r;
  let d: ioctl_device | Errno;
  try {
    d = await env.open(r.path, !r.force);
  } catch (e) {
    if (!is_errno(e)) throw e;
    d = e;
  }
  if (!("ioctl" in d)) return fail(`cannot open ${r.path}: ${strerror(d)}`);
  const note = r.force ? "blkdiscard: Operation forced, data will be lost!\n" : "";
  try {
    return await discard(d, r, note);
  } finally {
    await d.close();
  }
}
