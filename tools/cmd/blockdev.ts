/**
 * tools/cmd/blockdev.ts - `blockdev COMMANDS DEVICES` with the words of util-linux 2.38, over
 * the ioctls of block devices. Pure.
 */
import { type Errno, is_errno } from "../../kernel/include/errno.ts";
import { strerror } from "./strerror.ts";

export interface ioctl_device {
  ioctl(cmd: string, arg?: unknown): Promise<unknown>;
  close(): Promise<void>;
}

export interface blockdev_env {
  /** @throws Errno */
  open(path: string): Promise<ioctl_device>;
  /** "/dev/pmem0", and where it starts on its disk, in sectors of 512 bytes. */
  devices(): { path: string; start: number }[];
}

export interface command_result {
  status: number;
  stdout: string;
  stderr: string;
}

interface command {
  ioctl: string;
  /** What -v calls it. */
  what: string;
  /** It takes a number. */
  argument?: true;
  /** It is handed this number. */
  fixed?: number;
  /** It answers a number; "plain" without the name even with -v. */
  answers?: "named" | "plain";
}

const get = (ioctl: string, what: string): command => ({ ioctl, what, answers: "named" });
const act = (ioctl: string, what: string): command => ({ ioctl, what });

const COMMANDS: Readonly<Record<string, command>> = Object.freeze({
  "--getsz": { ioctl: "BLKGETSIZE", what: "get size in 512-byte sectors", answers: "plain" },
  "--setro": { ioctl: "BLKROSET", what: "set read-only", fixed: 1 },
  "--setrw": { ioctl: "BLKROSET", what: "set read-write", fixed: 0 },
  "--getro": get("BLKROGET", "get read-only"),
  "--getdiscardzeroes": get("BLKDISCARDZEROES", "get discard zeroes support status"),
  "--getss": get("BLKSSZGET", "get logical block (sector) size"),
  "--getpbsz": get("BLKPBSZGET", "get physical block (sector) size"),
  "--getiomin": get("BLKIOMIN", "get minimum I/O size"),
  "--getioopt": get("BLKIOOPT", "get optimal I/O size"),
  "--getalignoff": get("BLKALIGNOFF", "get alignment offset in bytes"),
  "--getmaxsect": get("BLKSECTGET", "get max sectors per request"),
  "--getbsz": get("BLKBSZGET", "get blocksize"),
  "--setbsz": {
    ioctl: "BLKBSZSET",
    what: "set blocksize on file descriptor opening the block device",
    argument: true,
  },
  "--getsize": get("BLKGETSIZE", "get 32-bit sector count (deprecated, use --getsz)"),
  "--getsize64": get("BLKGETSIZE64", "get size in bytes"),
  "--setra": { ioctl: "BLKRASET", what: "set readahead", argument: true },
  "--getra": get("BLKRAGET", "get readahead"),
  "--setfra": { ioctl: "BLKFRASET", what: "set filesystem readahead", argument: true },
  "--getfra": get("BLKFRAGET", "get filesystem readahead"),
  "--flushbufs": act("BLKFLSBUF", "flush buffers"),
  "--rereadpt": act("BLKRRPART", "reread partition table"),
});

const TRY = "Try 'blockdev --help' for more information.\n";
const fail = (text: string, stdout = ""): command_result => ({
  status: 1,
  stdout,
  stderr: `blockdev: ${text}\n`,
});

interface step {
  c: command;
  arg: number | undefined;
  verbose: boolean;
}

/** The commands, then the devices. */
function parse(args: readonly string[]): { steps: step[]; devices: string[] } | command_result {
  const steps: step[] = [];
  let verbose = false;
  let i = 0;
  for (; i < args.length && args[i]!.startsWith("-"); i++) {
    const word = args[i]!;
    if (word === "-v" || word === "-q") {
      verbose = word === "-v";
      continue;
    }
    if (!Object.hasOwn(COMMANDS, word)) {
      return {
        ...fail(`Unknown command: ${word}`),
        stderr: `blockdev: Unknown command: ${word}\n${TRY}`,
      };
    }
    const c = COMMANDS[word]!;
    let arg = c.fixed;
    if (c.argument) {
      const text = args[++i];
      if (text === undefined)
        return { ...fail(""), stderr: `blockdev: ${word} requires an argument\n${TRY}` };
      if (i + 1 < args.length && !/^\d+$/.test(text)) {
        return fail(`failed to parse command argument: '${text}'`);
      }
      arg = Number(text);
    }
    steps.push({ c, arg, verbose });
  }
  const devices = args.slice(i);
  if (devices.length === 0) {
    return { ...fail(""), stderr: `blockdev: no device specified\n${TRY}` };
  }
  return { steps, devices };
}

async function run_step(d: ioctl_device, s: step): Promise<string> {
  const { c } = s;
  const n = await d.ioctl(c.ioctl, s.arg);
  if (c.answers === undefined) return s.verbose ? `${c.what} succeeded.\n` : "";
  return s.verbose && c.answers === "named" ? `${c.what}: ${n}\n` : `${n}\n`;
}

async function opened(env: blockdev_env, path: string): Promise<ioctl_device | Errno> {
  try {
    return await env.open(path);
  } catch (e) {
    if (!is_errno(e)) throw e;
    return e;
  }
}

const is_device = (d: ioctl_device | Errno): d is ioctl_device => "ioctl" in d;

const REPORT_HEAD = "RO    RA   SSZ   BSZ        StartSec            Size   Device\n";

async function report(env: blockdev_env, paths: readonly string[]): Promise<command_result> {
  const known = env.devices();
  const list = paths.length > 0 ? paths : known.map((d) => d.path);
  const out: command_result = { status: 0, stdout: REPORT_HEAD, stderr: "" };
  for (const path of list) {
    const d = await opened(env, path);
    if (!is_device(d)) {
      out.status = 1;
      out.stderr += `blockdev: cannot open ${path}: ${strerror(d)}\n`;
      continue;
    }
    const ask = async (cmd: string, width: number): Promise<string> =>
      String(await d.ioctl(cmd)).padStart(width);
    const ro = (await d.ioctl("BLKROGET")) === 0 ? "rw" : "ro";
    const [ra, ss, bs] = [
      await ask("BLKRAGET", 5),
      await ask("BLKSSZGET", 5),
      await ask("BLKBSZGET", 5),
    ];
    const start = String(known.find((k) => k.path === path)?.start ?? 0).padStart(15);
    const size = await ask("BLKGETSIZE64", 15);
    out.stdout += `${ro} ${ra} ${ss} ${bs} ${start} ${size}   ${path}\n`;
    await d.close();
  }
  return out;
}

async function run_device(
  env: blockdev_env,
  path: string,
  steps: readonly step[],
): Promise<command_result> {
  const d = await opened(env, path);
  if (!is_device(d)) return fail(`cannot open ${path}: ${strerror(d)}`);
  let stdout = "";
  try {
    for (const s of steps) {
      try {
        stdout += await run_step(d, s);
      } catch (e) {
        if (!is_errno(e)) throw e;
        if (s.verbose) stdout += `${s.c.what} failed.\n`;
        return fail(`ioctl error on ${s.c.ioctl}: ${strerror(e)}`, stdout);
      }
    }
    return { status: 0, stdout, stderr: "" };
  } finally {
    await d.close();
  }
}

export async function blockdev(
  env: blockdev_env,
  args: readonly string[],
): Promise<command_result> {
  const [first] = args;
  if (first === "-V" || first === "--version") {
    return { status: 0, stdout: "blockdev from util-linux 2.38.1\n", stderr: "" };
  }
  if (first === "-h" || first === "--help") {
    const list = Object.entries(COMMANDS).map(([k, c]) => ` ${k.padEnd(25)} ${c.what}\n`);
    const head = "Usage:\n blockdev [-v|-q] commands devices\n blockdev --report [devices]\n\n";
    return { status: 0, stdout: head + list.join(""), stderr: "" };
  }
  if (first === "--report") return await report(env, args.slice(1));
  const p = parse(args);
  if ("status" in p) return p;
  let stdout = "";
  for (const path of p.devices) {
    const r = await run_device(env, path, p.steps);
    stdout += r.stdout;
    if (r.status !== 0) return { ...r, stdout };
  }
  return { status: 0, stdout, stderr: "" };
}
