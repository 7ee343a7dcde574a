/**
 * fs/ext4/options.ts - mount options: parsing, consistency, applying, and showing them again.
 * Linux: fs/ext4/super.c (ext4_parse_param, ext4_check_opt_consistency, ext4_apply_options,
 * _ext4_show_options). Differs: one table drives both directions; quota file options and the
 * options of the journal thread are accepted and remembered, but have nothing to act on yet.
 */
import { EINVAL } from "../../kernel/include/errno.ts";
import { SB_RDONLY, type super_block } from "../../kernel/include/fs.ts";
import type { Kernel } from "../../kernel/kernel.ts";
import {
  EXT4_ERRORS_CONTINUE,
  EXT4_ERRORS_PANIC,
  EXT4_ERRORS_RO,
  EXT4_FEATURE_RO_COMPAT_PROJECT,
  EXT4_GOOD_OLD_INODE_SIZE,
} from "./ext4.ts";
import {
  data_mode,
  EXT4_MOUNT2_ABORT,
  EXT4_MOUNT2_DAX_INODE,
  EXT4_MOUNT2_DAX_NEVER,
  EXT4_MOUNT2_EXPLICIT_DELALLOC,
  EXT4_MOUNT2_EXPLICIT_JOURNAL_CHECKSUM,
  EXT4_MOUNT2_MB_OPTIMIZE_SCAN,
  EXT4_MOUNT_BARRIER,
  EXT4_MOUNT_BLOCK_VALIDITY,
  EXT4_MOUNT_DATA_ERR_ABORT,
  EXT4_MOUNT_DATA_FLAGS,
  EXT4_MOUNT_DAX_ALWAYS,
  EXT4_MOUNT_DEBUG,
  EXT4_MOUNT_DELALLOC,
  EXT4_MOUNT_DIOREAD_NOLOCK,
  EXT4_MOUNT_DISCARD,
  EXT4_MOUNT_ERRORS_CONT,
  EXT4_MOUNT_ERRORS_MASK,
  EXT4_MOUNT_ERRORS_PANIC,
  EXT4_MOUNT_ERRORS_RO,
  EXT4_MOUNT_GRPID,
  EXT4_MOUNT_GRPQUOTA,
  EXT4_MOUNT_INIT_INODE_TABLE,
  EXT4_MOUNT_JOURNAL_ASYNC_COMMIT,
  EXT4_MOUNT_JOURNAL_CHECKSUM,
  EXT4_MOUNT_JOURNAL_DATA,
  EXT4_MOUNT_MINIX_DF,
  EXT4_MOUNT_NOLOAD,
  EXT4_MOUNT_NO_AUTO_DA_ALLOC,
  EXT4_MOUNT_NO_MBCACHE,
  EXT4_MOUNT_NO_PREFETCH_BLOCK_BITMAPS,
  EXT4_MOUNT_NO_UID32,
  EXT4_MOUNT_ORDERED_DATA,
  EXT4_MOUNT_POSIX_ACL,
  EXT4_MOUNT_PRJQUOTA,
  EXT4_MOUNT_QUOTA,
  EXT4_MOUNT_USRQUOTA,
  EXT4_MOUNT_WARN_ON_ERROR,
  EXT4_MOUNT_WRITEBACK_DATA,
  EXT4_MOUNT_XATTR_USER,
  EXT4_SB,
  has_ro_compat,
  test_opt,
  test_opt2,
} from "./ext4_fs.ts";

/** Groups from which allocation keeps lists by fragment size (MB_DEFAULT_LINEAR_SCAN_THRESHOLD). */
const LINEAR_SCAN_THRESHOLD = 16;
export const JBD2_DEFAULT_MAX_COMMIT_AGE = 5;
export const EXT4_DEF_MAX_BATCH_TIME = 15000;
export const EXT4_DEF_INODE_READAHEAD_BLKS = 32;

const NO_EXT2 = 1;
const EXT4_ONLY = 2; // not ext2, not ext3
const EXPLICIT = 4;
const SECOND = 8; // a bit of s_mount_opt2

interface flag_option {
  readonly name: string;
  readonly bits: number;
  readonly set: boolean;
  readonly how: number;
  /** barrier=0, auto_da_alloc=1: a number is accepted too. */
  readonly number?: boolean;
  readonly hidden?: boolean;
}
const f = (
  name: string,
  bits: number,
  set: boolean,
  how = 0,
  more: { number?: boolean; hidden?: boolean } = {},
): flag_option => Object.freeze({ name, bits, set, how, ...more });

const ALL_QUOTA =
  EXT4_MOUNT_QUOTA | EXT4_MOUNT_USRQUOTA | EXT4_MOUNT_GRPQUOTA | EXT4_MOUNT_PRJQUOTA;

/** Options that set or clear bits, in the order in which they are shown. */
const FLAGS: readonly flag_option[] = Object.freeze([
  f("minixdf", EXT4_MOUNT_MINIX_DF, true),
  f("bsddf", EXT4_MOUNT_MINIX_DF, false),
  f("grpid", EXT4_MOUNT_GRPID, true),
  f("bsdgroups", EXT4_MOUNT_GRPID, true, 0, { hidden: true }),
  f("nogrpid", EXT4_MOUNT_GRPID, false),
  f("sysvgroups", EXT4_MOUNT_GRPID, false, 0, { hidden: true }),
  f("block_validity", EXT4_MOUNT_BLOCK_VALIDITY, true),
  f("noblock_validity", EXT4_MOUNT_BLOCK_VALIDITY, false),
  f("dioread_nolock", EXT4_MOUNT_DIOREAD_NOLOCK, true, EXT4_ONLY),
  f("nodioread_nolock", EXT4_MOUNT_DIOREAD_NOLOCK, false, EXT4_ONLY),
  f("dioread_lock", EXT4_MOUNT_DIOREAD_NOLOCK, false, EXT4_ONLY, { hidden: true }),
  f("discard", EXT4_MOUNT_DISCARD, true),
  f("nodiscard", EXT4_MOUNT_DISCARD, false),
  f("delalloc", EXT4_MOUNT_DELALLOC, true, EXT4_ONLY | EXPLICIT),
  f("nodelalloc", EXT4_MOUNT_DELALLOC, false, EXT4_ONLY),
  f("warn_on_error", EXT4_MOUNT_WARN_ON_ERROR, true),
  f("nowarn_on_error", EXT4_MOUNT_WARN_ON_ERROR, false),
  f("nojournal_checksum", EXT4_MOUNT_JOURNAL_CHECKSUM, false, EXT4_ONLY),
  f("journal_checksum", EXT4_MOUNT_JOURNAL_CHECKSUM, true, EXT4_ONLY | EXPLICIT),
  f(
    "journal_async_commit",
    EXT4_MOUNT_JOURNAL_ASYNC_COMMIT | EXT4_MOUNT_JOURNAL_CHECKSUM,
    true,
    EXT4_ONLY | EXPLICIT,
  ),
  f("norecovery", EXT4_MOUNT_NOLOAD, true, NO_EXT2),
  f("noload", EXT4_MOUNT_NOLOAD, true, NO_EXT2, { hidden: true }),
  f("barrier", EXT4_MOUNT_BARRIER, true, 0, { number: true }),
  f("nobarrier", EXT4_MOUNT_BARRIER, false),
  f("noauto_da_alloc", EXT4_MOUNT_NO_AUTO_DA_ALLOC, true),
  f("auto_da_alloc", EXT4_MOUNT_NO_AUTO_DA_ALLOC, false, 0, { number: true }),
  f("noinit_itable", EXT4_MOUNT_INIT_INODE_TABLE, false),
  f("user_xattr", EXT4_MOUNT_XATTR_USER, true),
  f("acl", EXT4_MOUNT_POSIX_ACL, true),
  f("nouid32", EXT4_MOUNT_NO_UID32, true),
  f("debug", EXT4_MOUNT_DEBUG, true),
  f("quota", EXT4_MOUNT_QUOTA | EXT4_MOUNT_USRQUOTA, true),
  f("usrquota", EXT4_MOUNT_QUOTA | EXT4_MOUNT_USRQUOTA, true, 0, { hidden: true }),
  f("grpquota", EXT4_MOUNT_QUOTA | EXT4_MOUNT_GRPQUOTA, true),
  f("prjquota", EXT4_MOUNT_QUOTA | EXT4_MOUNT_PRJQUOTA, true),
  f("noquota", ALL_QUOTA, false),
  f("nombcache", EXT4_MOUNT_NO_MBCACHE, true),
  f("no_mbcache", EXT4_MOUNT_NO_MBCACHE, true, 0, { hidden: true }),
  f("no_prefetch_block_bitmaps", EXT4_MOUNT_NO_PREFETCH_BLOCK_BITMAPS, true),
  f("abort", EXT4_MOUNT2_ABORT, true, SECOND),
]);

const REMOVED: readonly string[] = Object.freeze([
  "oldalloc",
  "orlov",
  "bh",
  "nobh",
  "i_version",
  "mblk_io_submit",
  "nomblk_io_submit",
  "prefetch_block_bitmaps",
  "check",
  "nocheck",
  "reservation",
  "noreservation",
  "journal",
]);
const U32: readonly string[] = Object.freeze([
  "resgid",
  "resuid",
  "sb",
  "commit",
  "min_batch_time",
  "max_batch_time",
  "journal_dev",
  "stripe",
  "debug_want_extra_isize",
  "inode_readahead_blks",
  "journal_ioprio",
  "max_dir_size_kb",
  "mb_optimize_scan",
]);

/** What a list of options asks for: bits to change, and values. */
export interface ext4_fs_context {
  mask: number;
  vals: number;
  mask2: number;
  vals2: number;
  how: number;
  /** Numbers given by the user, by option name. */
  numbers: Map<string, number>;
  data_given: boolean;
}

/** What the generic parser finds wrong carries the name of the type. */
const GENERIC = /^(?:Unknown parameter|Bad value for|Unexpected value for) /;
const err = (kernel: Kernel, text: string): never => {
  kernel.printk(3, `${GENERIC.test(text) ? "ext4" : "EXT4-fs"}: ${text}`);
  throw EINVAL;
};
const warn = (kernel: Kernel, text: string) => kernel.printk(4, `EXT4-fs: ${text}`);

function set_bits(c: ext4_fs_context, bits: number): void {
  c.mask |= bits;
  c.vals |= bits;
}
function clear_bits(c: ext4_fs_context, bits: number): void {
  c.mask |= bits;
  c.vals &= ~bits;
}
function set_bits2(c: ext4_fs_context, bits: number): void {
  c.mask2 |= bits;
  c.vals2 |= bits;
}
function clear_bits2(c: ext4_fs_context, bits: number): void {
  c.mask2 |= bits;
  c.vals2 &= ~bits;
}

function parse_u32(kernel: Kernel, key: string, text: string | undefined): number {
  const n = text !== undefined && /^(0x[0-9a-f]+|[0-9]+)$/i.test(text) ? Number(text) : -1;
  if (n < 0 || n > 0xffffffff) return err(kernel, `Bad value for '${key}'`);
  return n;
}

const ERRORS: Readonly<Record<string, number>> = Object.freeze({
  continue: EXT4_MOUNT_ERRORS_CONT,
  panic: EXT4_MOUNT_ERRORS_PANIC,
  "remount-ro": EXT4_MOUNT_ERRORS_RO,
});
const DATA: Readonly<Record<string, number>> = Object.freeze({
  journal: EXT4_MOUNT_JOURNAL_DATA,
  ordered: EXT4_MOUNT_ORDERED_DATA,
  writeback: EXT4_MOUNT_WRITEBACK_DATA,
});

function parse_dax(kernel: Kernel, c: ext4_fs_context, value: string | undefined): void {
  c.how |= value === undefined ? 0 : EXT4_ONLY;
  if (value === undefined || value === "always") {
    set_bits(c, EXT4_MOUNT_DAX_ALWAYS);
    clear_bits2(c, EXT4_MOUNT2_DAX_NEVER);
  } else if (value === "never") {
    set_bits2(c, EXT4_MOUNT2_DAX_NEVER);
    clear_bits(c, EXT4_MOUNT_DAX_ALWAYS);
  } else if (value === "inode") {
    clear_bits(c, EXT4_MOUNT_DAX_ALWAYS);
    clear_bits2(c, EXT4_MOUNT2_DAX_NEVER);
    set_bits2(c, EXT4_MOUNT2_DAX_INODE);
  } else err(kernel, `Bad value for 'dax'`);
}

function parse_number(kernel: Kernel, c: ext4_fs_context, key: string, value?: string): void {
  let n = parse_u32(kernel, key, value);
  if (key === "commit" && n === 0) n = JBD2_DEFAULT_MAX_COMMIT_AGE;
  if (key === "commit" && n > 8589934) err(kernel, `Invalid commit interval ${n}`);
  if (key === "commit" || key === "journal_dev" || key === "journal_ioprio") c.how |= NO_EXT2;
  if (key === "debug_want_extra_isize" && (n & 1 || n < 4)) {
    err(kernel, `Invalid want_extra_isize ${n}`);
  }
  if (key === "inode_readahead_blks" && n && (n > 2 ** 30 || (n & (n - 1)) !== 0)) {
    err(kernel, "inode_readahead_blks must be 0 or a power of 2 smaller than 2^31");
  }
  if (key === "journal_ioprio" && n > 7) err(kernel, "Invalid journal IO priority (must be 0-7)");
  if (key === "mb_optimize_scan") {
    if (n > 1) err(kernel, "mb_optimize_scan should be set to 0 or 1.");
    if (n) set_bits2(c, EXT4_MOUNT2_MB_OPTIMIZE_SCAN);
    else clear_bits2(c, EXT4_MOUNT2_MB_OPTIMIZE_SCAN);
  }
  c.numbers.set(key, n);
}

function parse_enum(
  kernel: Kernel,
  c: ext4_fs_context,
  key: string,
  value: string | undefined,
): boolean {
  if (key === "errors" || key === "data") {
    const table = key === "errors" ? ERRORS : DATA;
    const bits = Object.hasOwn(table, value ?? "") ? table[value!]! : undefined;
    if (bits === undefined) return err(kernel, `Bad value for '${key}'`);
    clear_bits(c, key === "errors" ? EXT4_MOUNT_ERRORS_MASK : EXT4_MOUNT_DATA_FLAGS);
    set_bits(c, bits);
    if (key === "data") {
      c.data_given = true;
      c.how |= NO_EXT2;
    }
    return true;
  }
  if (key === "data_err") {
    c.how |= NO_EXT2;
    if (value === "abort") set_bits(c, EXT4_MOUNT_DATA_ERR_ABORT);
    else if (value === "ignore") clear_bits(c, EXT4_MOUNT_DATA_ERR_ABORT);
    else err(kernel, `Bad value for 'data_err'`);
    return true;
  }
  return false;
}

function parse_flag(
  kernel: Kernel,
  c: ext4_fs_context,
  key: string,
  value: string | undefined,
): boolean {
  const o = FLAGS.find((x) => x.name === key);
  if (!o) return false;
  let on = true;
  if (value !== undefined) {
    if (!o.number) err(kernel, `Unexpected value for '${key}'`);
    on = parse_u32(kernel, key, value) > 0;
  }
  c.how |= o.how & (NO_EXT2 | EXT4_ONLY);
  if (o.how & EXPLICIT) {
    set_bits2(
      c,
      o.bits & EXT4_MOUNT_DELALLOC
        ? EXT4_MOUNT2_EXPLICIT_DELALLOC
        : EXT4_MOUNT2_EXPLICIT_JOURNAL_CHECKSUM,
    );
  }
  if (o.how & SECOND) {
    if (on === o.set) set_bits2(c, o.bits);
    else clear_bits2(c, o.bits);
  } else if (on === o.set) set_bits(c, o.bits);
  else clear_bits(c, o.bits);
  return true;
}

function parse_param(kernel: Kernel, c: ext4_fs_context, item: string, remount: boolean): void {
  const eq = item.indexOf("=");
  const key = eq < 0 ? item : item.slice(0, eq);
  const value = eq < 0 ? undefined : item.slice(eq + 1);
  if (key === "dax") return parse_dax(kernel, c, value);
  if (parse_flag(kernel, c, key, value) || parse_enum(kernel, c, key, value)) return;
  if (U32.includes(key)) {
    if (key === "sb" && remount) return warn(kernel, "Ignoring sb option on remount");
    if (key === "journal_dev" && remount) err(kernel, "Cannot specify journal on remount");
    return parse_number(kernel, c, key, value);
  }
  if (key === "init_itable") {
    set_bits(c, EXT4_MOUNT_INIT_INODE_TABLE);
    c.numbers.set(key, value === undefined ? 10 : parse_u32(kernel, key, value));
    return;
  }
  if (REMOVED.includes(key)) return warn(kernel, `Ignoring removed ${key} option`);
  if (key === "inlinecrypt") return warn(kernel, "inline encryption not supported");
  if (/^(usrjquota|grpjquota|jqfmt)$/.test(key)) {
    err(kernel, `${key}: quota files are not supported`);
  }
  if (key === "journal_path" || key === "test_dummy_encryption") {
    err(kernel, `${key}: not supported`);
  }
  err(kernel, `Unknown parameter '${key}'`);
}

/** Parses the comma-separated list of mount(2)'s data; throws EINVAL with a line in the log. */
export function ext4_parse_options(kernel: Kernel, data: string, remount = false): ext4_fs_context {
  const c: ext4_fs_context = {
    mask: 0,
    vals: 0,
    mask2: 0,
    vals2: 0,
    how: 0,
    numbers: new Map(),
    data_given: false,
  };
  for (const item of data.split(",")) if (item !== "") parse_param(kernel, c, item, remount);
  return c;
}

const is_ext2 = (sb: super_block) => sb.s_type.name === "ext2";
const is_ext3 = (sb: super_block) => sb.s_type.name === "ext3";

function check_remount(kernel: Kernel, c: ext4_fs_context, sb: super_block): void {
  const sbi = EXT4_SB(sb);
  if (c.data_given && !sbi.s_journal && !journal_pretended(sb)) {
    warn(kernel, "Remounting file system with no journal so ignoring journalled data option");
    c.mask &= ~EXT4_MOUNT_DATA_FLAGS;
    c.vals &= ~EXT4_MOUNT_DATA_FLAGS;
  } else if (c.data_given && (c.vals & EXT4_MOUNT_DATA_FLAGS) !== data_mode(sb)) {
    err(kernel, "Cannot change data mode on remount");
  }
  const always = test_opt(sb, EXT4_MOUNT_DAX_ALWAYS);
  const never = test_opt2(sb, EXT4_MOUNT2_DAX_NEVER);
  const inode = test_opt2(sb, EXT4_MOUNT2_DAX_INODE);
  if (c.vals & EXT4_MOUNT_DAX_ALWAYS && data_mode(sb) === EXT4_MOUNT_JOURNAL_DATA) {
    err(kernel, "can't mount with both data=journal and dax");
  }
  const changes =
    (c.vals & EXT4_MOUNT_DAX_ALWAYS && (!always || never)) ||
    (c.vals2 & EXT4_MOUNT2_DAX_NEVER && (!never || always)) ||
    (c.vals2 & EXT4_MOUNT2_DAX_INODE && (always || never || !inode));
  if (changes) err(kernel, "can't change dax mount option while remounting");
}
/** A clean journal that is left alone still makes data= mean something. */
const journal_pretended = (sb: super_block): boolean => data_mode(sb) !== 0;

/** Do the options fit this filesystem (and, on remount, what is mounted)? */
export function ext4_check_opt_consistency(
  kernel: Kernel,
  c: ext4_fs_context,
  sb: super_block,
  remount: boolean,
): void {
  const sbi = EXT4_SB(sb);
  if (c.how & (NO_EXT2 | EXT4_ONLY) && is_ext2(sb)) {
    err(kernel, "Mount option(s) incompatible with ext2");
  }
  if (c.how & EXT4_ONLY && is_ext3(sb)) err(kernel, "Mount option(s) incompatible with ext3");
  const want = c.numbers.get("debug_want_extra_isize") ?? 0;
  if (want > Math.max(0, sbi.s_inode_size - EXT4_GOOD_OLD_INODE_SIZE)) {
    err(kernel, `Invalid want_extra_isize ${want}`);
  }
  if (remount) check_remount(kernel, c, sb);
  if (c.vals & EXT4_MOUNT_PRJQUOTA && !has_ro_compat(sb, EXT4_FEATURE_RO_COMPAT_PROJECT)) {
    err(kernel, "Project quota feature not enabled. Cannot enable project quota enforcement.");
  }
}

export function ext4_apply_options(c: ext4_fs_context, sb: super_block): void {
  const sbi = EXT4_SB(sb);
  sbi.s_mount_opt = (sbi.s_mount_opt & ~c.mask) | c.vals;
  sbi.s_mount_opt2 = (sbi.s_mount_opt2 & ~c.mask2) | c.vals2;
  const n = c.numbers;
  sbi.s_commit_interval = n.get("commit") ?? sbi.s_commit_interval;
  sbi.s_min_batch_time = n.get("min_batch_time") ?? sbi.s_min_batch_time;
  sbi.s_max_batch_time = n.get("max_batch_time") ?? sbi.s_max_batch_time;
  sbi.s_want_extra_isize = n.get("debug_want_extra_isize") ?? sbi.s_want_extra_isize;
  sbi.s_inode_readahead_blks = n.get("inode_readahead_blks") ?? sbi.s_inode_readahead_blks;
  sbi.s_max_dir_size_kb = n.get("max_dir_size_kb") ?? sbi.s_max_dir_size_kb;
  sbi.s_stripe = n.get("stripe") ?? sbi.s_stripe;
  sbi.s_resuid = n.get("resuid") ?? sbi.s_resuid;
  sbi.s_resgid = n.get("resgid") ?? sbi.s_resgid;
  for (const [key, value] of n) sbi.s_opt_spec.set(key, `${value}`);
}

function shown_flags(sb: super_block): string[] {
  const sbi = EXT4_SB(sb);
  const out: string[] = [];
  for (const o of FLAGS) {
    if (o.hidden) continue;
    const now = o.how & SECOND ? sbi.s_mount_opt2 : sbi.s_mount_opt;
    const def = o.how & SECOND ? sbi.s_def_mount_opt2 : sbi.s_def_mount_opt;
    if (!(o.bits & (now ^ def))) continue;
    if (o.set ? (now & o.bits) === o.bits : !(now & o.bits)) out.push(o.name);
  }
  return out;
}

function shown_errors(sb: super_block): string[] {
  const def = EXT4_SB(sb).s_es.s_errors;
  if (test_opt(sb, EXT4_MOUNT_ERRORS_RO) && def !== EXT4_ERRORS_RO) return ["errors=remount-ro"];
  if (test_opt(sb, EXT4_MOUNT_ERRORS_CONT) && def !== EXT4_ERRORS_CONTINUE) {
    return ["errors=continue"];
  }
  if (test_opt(sb, EXT4_MOUNT_ERRORS_PANIC) && def !== EXT4_ERRORS_PANIC) return ["errors=panic"];
  return [];
}

function shown_dax(sb: super_block): string[] {
  if (test_opt(sb, EXT4_MOUNT_DAX_ALWAYS)) return [is_ext2(sb) ? "dax" : "dax=always"];
  if (test_opt2(sb, EXT4_MOUNT2_DAX_NEVER)) return ["dax=never"];
  return test_opt2(sb, EXT4_MOUNT2_DAX_INODE) ? ["dax=inode"] : [];
}

function shown_data(sb: super_block): string[] {
  const sbi = EXT4_SB(sb);
  if (!(EXT4_MOUNT_DATA_FLAGS & (sbi.s_mount_opt ^ sbi.s_def_mount_opt))) return [];
  for (const [name, bits] of Object.entries(DATA)) {
    if (data_mode(sb) === bits) return [`data=${name}`];
  }
  return [];
}

/** The filesystem's part of a line of /proc/mounts, without a leading comma. */
export function ext4_show_options(sb: super_block): string {
  const sbi = EXT4_SB(sb);
  const out: string[] = [];
  const number = (name: string, now: number, def: number) => {
    if (now !== def) out.push(`${name}=${now}`);
  };
  number("sb", sbi.s_sb_block, 1);
  out.push(...shown_flags(sb));
  if (sbi.s_resuid !== 0 || sbi.s_es.s_def_resuid !== 0) out.push(`resuid=${sbi.s_resuid}`);
  if (sbi.s_resgid !== 0 || sbi.s_es.s_def_resgid !== 0) out.push(`resgid=${sbi.s_resgid}`);
  out.push(...shown_errors(sb));
  number("commit", sbi.s_commit_interval, JBD2_DEFAULT_MAX_COMMIT_AGE);
  number("min_batch_time", sbi.s_min_batch_time, 0);
  number("max_batch_time", sbi.s_max_batch_time, EXT4_DEF_MAX_BATCH_TIME);
  number("stripe", sbi.s_stripe, 0);
  out.push(...shown_data(sb));
  number("inode_readahead_blks", sbi.s_inode_readahead_blks, EXT4_DEF_INODE_READAHEAD_BLKS);
  number("max_dir_size_kb", sbi.s_max_dir_size_kb, 0);
  if (test_opt(sb, EXT4_MOUNT_DATA_ERR_ABORT)) out.push("data_err=abort");
  out.push(...shown_dax(sb));
  const scan = test_opt2(sb, EXT4_MOUNT2_MB_OPTIMIZE_SCAN);
  const scan_default = sbi.s_groups_count >= LINEAR_SCAN_THRESHOLD;
  if (scan !== scan_default) out.push(`mb_optimize_scan=${scan ? 1 : 0}`);
  return out.join(",");
}

/** Sets the default of mb_optimize_scan, unless the user chose. */
export function ext4_set_optimize_scan(c: ext4_fs_context, sb: super_block): void {
  if (c.numbers.has("mb_optimize_scan")) return;
  const sbi = EXT4_SB(sb);
  if (sbi.s_groups_count >= LINEAR_SCAN_THRESHOLD) {
    sbi.s_mount_opt2 |= EXT4_MOUNT2_MB_OPTIMIZE_SCAN;
  } else sbi.s_mount_opt2 &= ~EXT4_MOUNT2_MB_OPTIMIZE_SCAN;
}

export const wants_rdonly = (flags: number): boolean => (flags & SB_RDONLY) !== 0;
