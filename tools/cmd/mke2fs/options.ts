/**
 * tools/cmd/mke2fs/options.ts - from the command line of mkfs.ext2/3/4 to what shall be made.
 *
 * Reading order: parse_command_line() (words to `command_line`), resolve_param() (defaults,
 * profile, checks) -> `mke2fs_param`. Refusals are Mke2fsError; warnings collect in `log.stderr`.
 */

import { DX_HASH_HALF_MD4, EXT4_ERRORS_CONTINUE, EXT4_OS_LINUX } from "../../../fs/ext4/ext4.ts";
import { getopt_long, type parsed_option } from "../getopt.ts";
import { parse_integer, parse_size } from "../size.ts";
import { type extended_opts, parse_extended_opts } from "./extended.ts";
import { Mke2fsError } from "./filsys.ts";
import type { features } from "./profile.ts";

export interface mke2fs_log {
  stdout: string;
  stderr: string;
}

/** The words of the command line, checked one by one. */
export interface command_line {
  program: string;
  device: string;
  /** Second operand, as typed. */
  size?: string;
  type?: string;
  usage?: string;
  blocksize: number;
  cluster_size: number;
  blocks_per_group: number;
  flex_bg_size: number;
  inode_ratio: number;
  inode_size: number;
  num_inodes: number;
  reserved_percent: number;
  features?: string;
  label?: string;
  last_mounted?: string;
  uuid?: string;
  rev_level: number;
  creator_os: number;
  errors_behavior: number;
  extended: extended_opts;
  /** MiB; 0: the default. */
  journal_size: number;
  fast_commit_size: number;
  journal_option: boolean;
  force: number;
  quiet: boolean;
  verbose: boolean;
  no_action: boolean;
  super_only: boolean;
  version_only: boolean;
}

/** All that geometry.ts and the rest need to know. Sizes are bytes unless they say blocks. */
export interface mke2fs_param {
  blocks_count: number;
  blocksize: number;
  cluster_size: number;
  rev_level: number;
  features: features;
  inode_size: number;
  inodes_count: number;
  /** 0: the default. */
  blocks_per_group: number;
  clusters_per_group: number;
  log_groups_per_flex: number;
  r_blocks_count: number;
  desc_size: number;
  first_meta_bg: number;
  raid_stride: number;
  raid_stripe_width: number;
  flags: number;
  backup_bgs: readonly [number, number];
  encoding: number;
  encoding_flags: number;
  creator_os: number;
  errors_behavior?: number;
  default_mount_opts: number;
  mmp_update_interval: number;
  reserved_gdt_blocks?: number;
  def_hash_version: number;
}

export const DEFAULT_HASH_VERSION = DX_HASH_HALF_MD4;

const SHORT_OPTIONS = "b:ce:g:i:jl:m:no:qr:s:t:d:vC:DE:FG:I:J:KL:M:N:O:R:ST:U:Vz:";

export const USAGE = (program: string): string =>
  `Usage: ${program} [-F] [-n] [-q] [-v] [-b block-size] [-C cluster-size] [-I inode-size]\n` +
  "\t[-i bytes-per-inode] [-N number-of-inodes] [-m reserved-blocks-percentage]\n" +
  "\t[-g blocks-per-group] [-G flex-group-size] [-J journal-options] [-j]\n" +
  "\t[-L volume-label] [-M last-mounted-directory] [-O feature[,...]] [-U UUID]\n" +
  "\t[-t fs-type] [-T usage-type] [-E extended-option[,...]] [-r fs-revision]\n" +
  "\t[-e errors-behavior] [-o creator-os] device [blocks-count]\n";

const OS_NAMES: Readonly<Record<string, number>> = Object.freeze({
  linux: EXT4_OS_LINUX,
  masix: 2,
  freebsd: 3,
  lites: 4,
});
const ERROR_BEHAVIORS: Readonly<Record<string, number>> = Object.freeze({
  continue: EXT4_ERRORS_CONTINUE,
  "remount-ro": 2,
  panic: 3,
});

const is_power_of_2 = (n: number): boolean => n > 0 && Number.isInteger(Math.log2(n));

function number_between(text: string, lo: number, hi: number, what: string): number {
  const n = parse_integer(text);
  if (n === undefined || n < lo || n > hi) throw new Mke2fsError(`invalid ${what} - ${text}`);
  return n;
}

function block_size(text: string): number {
  const n = parse_size(text.replace(/^-/, ""));
  if (n === undefined || n < 1024 || n > 65536 || !is_power_of_2(n)) {
    throw new Mke2fsError(`invalid block size - ${text}`);
  }
  return text.startsWith("-") ? -n : n;
}

function cluster_size(text: string): number {
  const n = parse_size(text);
  if (n === undefined || n < 1024 || n > 2 ** 29 || !is_power_of_2(n)) {
    throw new Mke2fsError(`invalid cluster size - ${text}`);
  }
  return n;
}

function flex_size(text: string): number {
  const n = parse_integer(text) ?? 0;
  if (!is_power_of_2(n) || n >= 2 ** 31) {
    throw new Mke2fsError("flex_bg size must be a power of 2");
  }
  return n;
}

function inode_ratio(text: string): number {
  const n = parse_size(text);
  // the upper limit is 1024 times the largest block
  if (n === undefined || n < 1024 || n > 65536 * 1024) {
    throw new Mke2fsError(`invalid inode ratio ${text} (min 1024/max 67108864)`);
  }
  return n;
}

function percentage(text: string): number {
  const n = /^[0-9]*\.?[0-9]+$|^[0-9]+\.$/.test(text) ? Number(text) : Number.NaN;
  if (!(n >= 0 && n <= 50)) throw new Mke2fsError(`invalid reserved blocks percent - ${text}`);
  return n;
}

function journal_opts(cl: command_line, text: string): void {
  for (const word of text.split(",")) {
    const [key, value] = word.split("=", 2) as [string, string?];
    if (key === "device" || key === "location") {
      throw new Mke2fsError(`journal option ${key} is not supported by this mkfs`);
    }
    if ((key !== "size" && key !== "fast_commit_size") || value === undefined) {
      throw new Mke2fsError(
        `Bad journal option specified: ${word}\n` +
          "Valid are: size=<journal size in megabytes>, fast_commit_size=<megabytes>",
      );
    }
    const n = /^[0-9]+$/.test(value) ? Number(value) : undefined;
    if (n === undefined) throw new Mke2fsError(`Bad journal option: ${word}`);
    if (key === "size") cl.journal_size = n;
    else cl.fast_commit_size = n;
  }
  cl.journal_option = true;
}

function revision(text: string): number {
  const n = parse_integer(text);
  if (n === undefined) throw new Mke2fsError(`bad revision level - ${text}`);
  if (n > 1) {
    throw new Mke2fsError("Filesystem revision too high while trying to create revision " + n);
  }
  return n;
}

function creator_os(text: string): number {
  const os = OS_NAMES[text.toLowerCase()] ?? parse_integer(text);
  if (os === undefined) throw new Mke2fsError(`unknown os - ${text}`);
  if (os === 1 || text.toLowerCase() === "gnu" || text.toLowerCase() === "hurd") {
    throw new Mke2fsError("filesystems for the Hurd are not supported by this mkfs");
  }
  return os;
}

const REFUSED: Readonly<Record<string, string>> = Object.freeze({
  c: "checking for bad blocks (-c)",
  l: "a list of bad blocks (-l)",
  d: "filling from a directory (-d)",
  z: "an undo file (-z)",
  S: "writing only superblocks (-S)",
});

/** Options with an argument: what they do with it. */
const WITH_ARGUMENT: Readonly<Record<string, (cl: command_line, arg: string) => void>> =
  Object.freeze({
    b: (cl: command_line, a: string) => {
      cl.blocksize = block_size(a);
    },
    C: (cl: command_line, a: string) => {
      cl.cluster_size = cluster_size(a);
    },
    e: (cl: command_line, a: string) => {
      const behavior = ERROR_BEHAVIORS[a];
      if (behavior === undefined) throw new Mke2fsError(`bad error behavior - ${a}`);
      cl.errors_behavior = behavior;
    },
    g: (cl: command_line, a: string) => {
      cl.blocks_per_group = number_between(a, 0, 2 ** 31, "number for blocks per group");
      if (cl.blocks_per_group % 8 !== 0) {
        throw new Mke2fsError("blocks per group must be multiple of 8");
      }
    },
    G: (cl: command_line, a: string) => {
      cl.flex_bg_size = flex_size(a);
    },
    i: (cl: command_line, a: string) => {
      cl.inode_ratio = inode_ratio(a);
    },
    I: (cl: command_line, a: string) => {
      cl.inode_size = number_between(a, 1, 2 ** 31, "inode size");
    },
    J: journal_opts,
    L: (cl: command_line, a: string) => {
      cl.label = a;
    },
    M: (cl: command_line, a: string) => {
      cl.last_mounted = a;
    },
    m: (cl: command_line, a: string) => {
      cl.reserved_percent = percentage(a);
    },
    N: (cl: command_line, a: string) => {
      const n = parse_integer(a);
      if (n === undefined) throw new Mke2fsError(`bad num inodes - ${a}`);
      cl.num_inodes = n;
    },
    O: (cl: command_line, a: string) => {
      cl.features = cl.features === undefined ? a : `${cl.features},${a}`;
    },
    o: (cl: command_line, a: string) => {
      cl.creator_os = creator_os(a);
    },
    r: (cl: command_line, a: string) => {
      cl.rev_level = revision(a);
    },
    E: (cl: command_line, a: string) => {
      parse_extended_opts(cl.extended, a);
    },
    R: (cl: command_line, a: string) => {
      parse_extended_opts(cl.extended, a);
    },
    t: (cl: command_line, a: string) => {
      if (cl.type !== undefined) {
        throw new Mke2fsError("The -t option may only be used once");
      }
      cl.type = a;
    },
    T: (cl: command_line, a: string) => {
      if (cl.usage !== undefined) {
        throw new Mke2fsError("The -T option may only be used once");
      }
      cl.usage = a;
    },
    U: (cl: command_line, a: string) => {
      cl.uuid = a;
    },
  });

function apply_flag(cl: command_line, opt: string): void {
  if (opt === "j" && cl.journal_size === 0) cl.journal_option = true;
  else if (opt === "n") cl.no_action = true;
  else if (opt === "q") cl.quiet = true;
  else if (opt === "v") cl.verbose = true;
  else if (opt === "F") cl.force++;
  else if (opt === "K") cl.extended.discard = false;
  else if (opt === "V") cl.version_only = true;
}

function apply_option(cl: command_line, { opt, arg, message }: parsed_option): void {
  if (opt === "?") throw new Mke2fsError(`${cl.program}: ${message}\n${USAGE(cl.program)}`);
  const refused = REFUSED[opt];
  if (refused) throw new Mke2fsError(`${refused} is not supported by this mkfs`);
  const take = WITH_ARGUMENT[opt];
  if (take) take(cl, arg!);
  else apply_flag(cl, opt);
}

/** `program` is mke2fs, mkfs.ext2, mkfs.ext3 or mkfs.ext4: the name sets the type. */
export function parse_command_line(program: string, args: readonly string[]): command_line {
  const { options, operands } = getopt_long(args, SHORT_OPTIONS);
  const cl: command_line = {
    program,
    device: operands[0] ?? "",
    blocksize: 0,
    cluster_size: 0,
    blocks_per_group: 0,
    flex_bg_size: 0,
    inode_ratio: 0,
    inode_size: 0,
    num_inodes: 0,
    reserved_percent: 5,
    rev_level: 1,
    creator_os: EXT4_OS_LINUX,
    errors_behavior: 0,
    extended: {},
    journal_size: 0,
    fast_commit_size: 0,
    journal_option: false,
    force: 0,
    quiet: false,
    verbose: false,
    no_action: false,
    super_only: false,
    version_only: false,
  };
  for (const option of options) apply_option(cl, option);
  if (cl.version_only) return cl;
  if (operands.length === 0 || operands.length > 2) throw new Mke2fsError(USAGE(program));
  if (operands[1] !== undefined) cl.size = operands[1];
  return cl;
}
