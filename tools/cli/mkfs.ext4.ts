/**
 * tools/cli/mkfs.ext4.ts - `daxlab mkfs.ext4 [OPTIONS] FILE [SIZE]`: makes an ext4 image in a file.
 * Answers as mkfs.ext4 does (see tools/cmd/mkfs_ext4.ts). A file that is missing or shorter than
 * SIZE is made that long; block devices are refused, because only files are known to be harmless.
 */
import { randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  statSync,
  writeSync,
} from "node:fs";
import { hostname } from "node:os";
import type { device_plan } from "../cmd/mke2fs/flush.ts";
import { Mke2fsError } from "../cmd/mke2fs/filsys.ts";
import { parse_command_line } from "../cmd/mke2fs/options.ts";
import { plan_mkfs_ext4 } from "../cmd/mkfs_ext4.ts";
import { parse_size } from "../cmd/size.ts";

function random_uuid(): Uint8Array {
  const u = Uint8Array.from(randomBytes(16));
  u[6] = (u[6]! & 0x0f) | 0x40;
  u[8] = (u[8]! & 0x3f) | 0x80;
  return u;
}

/** SOURCE_DATE_EPOCH makes a run repeatable. */
function now_sec(): number {
  const fixed = process.env["SOURCE_DATE_EPOCH"];
  return fixed && /^[0-9]+$/.test(fixed) ? Number(fixed) : Math.floor(Date.now() / 1000);
}

/** Writes what the plan says; zero runs of a file that ends there are left as holes. */
function apply(file: string, size: number, plan: device_plan): void {
  const fd = openSync(file, existsSync(file) ? "r+" : "w+");
  try {
    const old_size = fstatSync(fd).size;
    if (old_size < size) ftruncateSync(fd, size);
    const chunk = new Uint8Array(1 << 20);
    for (const [offset, length] of plan.zero) {
      const end = Math.min(offset + length, old_size);
      for (let at = offset; at < end; at += chunk.length) {
        writeSync(fd, chunk, 0, Math.min(chunk.length, end - at), at);
      }
    }
    for (const [offset, bytes] of plan.write) writeSync(fd, bytes, 0, bytes.length, offset);
  } finally {
    closeSync(fd);
  }
}

/** The file to write and how long it will be, in bytes. */
function target(program: string, args: string[]): { file: string; size: number; fresh: boolean } {
  const { device, size, blocksize } = parse_command_line(program, args);
  const stat = existsSync(device) ? statSync(device) : undefined;
  if (stat && !stat.isFile()) {
    throw new Mke2fsError(`${device} is not a regular file; this mkfs writes images only`);
  }
  const unit = blocksize > 0 ? blocksize : 1024;
  const wanted = size === undefined ? 0 : parse_size(size, { plain: unit, sector: 512 });
  if (wanted === undefined) {
    throw new Mke2fsError(`${size} is no size for ${device}: blocks, or with a unit as 64M`);
  }
  if (!stat && wanted === 0 && device !== "") {
    throw new Mke2fsError(`The file ${device} does not exist and no size was specified.`);
  }
  const old_size = stat?.size ?? 0;
  return { file: device, size: Math.max(old_size, wanted), fresh: old_size === 0 };
}

export function run_mkfs(program: string, args: string[]): number {
  let to: { file: string; size: number; fresh: boolean };
  try {
    to = target(program, args);
  } catch (err) {
    if (!(err instanceof Mke2fsError)) throw err;
    const named = err.message.startsWith("Usage") || err.message.startsWith(`${program}: `);
    const prefix = named ? "" : `${program}: `;
    process.stderr.write(`${prefix}${err.message.trimEnd()}\n`);
    return err.status;
  }
  // a new file has holes wherever nothing is written
  const dev = { size: to.size, write: () => {}, discard: () => to.fresh };
  const env = { uuid: random_uuid, now_sec: now_sec(), nodename: hostname() };
  const r = plan_mkfs_ext4(args, dev, env, program);
  process.stderr.write(r.stderr);
  if (r.plan) apply(to.file, to.size, r.plan);
  process.stdout.write(r.stdout);
  return r.status;
}

const HELP = `Usage: daxlab mkfs.ext4 [OPTIONS] FILE [SIZE]

Makes an ext4 filesystem in FILE, with the options of mkfs.ext4. A FILE that is missing or
shorter than SIZE (blocks, or with a unit: 64M) is made that long. SOURCE_DATE_EPOCH, and -U and
-E hash_seed=, make a run repeatable.

  daxlab mkfs.ext4 -b 4096 fs.img 64M
`;

export function main(args: string[]): number {
  if (args.includes("--help")) {
    process.stdout.write(HELP);
    return 0;
  }
  return run_mkfs("mkfs.ext4", args);
}
