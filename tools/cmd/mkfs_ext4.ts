/**
 * tools/cmd/mkfs_ext4.ts - mkfs.ext4, mkfs.ext3, mkfs.ext2: makes an empty filesystem, block for
 * block as e2fsprogs 1.47 with the defaults of Debian 12 does.
 *
 * Reading order: mkfs_ext4() -> plan_mkfs_ext4() -> mke2fs/options.ts (words), mke2fs/resolve.ts
 * (defaults and checks), mke2fs/geometry.ts (sizes), mke2fs/tables.ts (bitmaps and inode tables),
 * mke2fs/inodes.ts and mke2fs/files.ts (what is in it), mke2fs/flush.ts (bitmaps, checksums,
 * backups).
 *
 * Pure: the device is an interface, uuids and the time come from the caller. Not equal to the real
 * tool: s_kbytes_written (an I/O statistic), and with it the superblock's checksum.
 */

import {
  EXT4_CRC32C_CHKSUM,
  EXT4_FEATURE_COMPAT_HAS_JOURNAL,
  EXT4_FEATURE_COMPAT_ORPHAN_FILE,
  EXT4_FEATURE_COMPAT_RESIZE_INODE,
  EXT4_FEATURE_INCOMPAT_64BIT,
  EXT4_FEATURE_INCOMPAT_CSUM_SEED,
  EXT4_FEATURE_INCOMPAT_ENCRYPT,
  EXT4_FEATURE_INCOMPAT_EXTENTS,
  EXT4_FEATURE_INCOMPAT_FLEX_BG,
  EXT4_FEATURE_INCOMPAT_MMP,
  EXT4_FEATURE_RO_COMPAT_DIR_NLINK,
  EXT4_FEATURE_RO_COMPAT_GDT_CSUM,
  EXT4_FEATURE_RO_COMPAT_HUGE_FILE,
  EXT4_FEATURE_RO_COMPAT_METADATA_CSUM,
  EXT4_FEATURE_RO_COMPAT_QUOTA,
  EXT4_LABEL_MAX,
} from "../../fs/ext4/ext4.ts";
import { crc32c } from "../../kernel/lib/crc32c.ts";
import { name_to_bytes } from "../../kernel/lib/utf8.ts";
import {
  add_journal_inode,
  create_orphan_file,
  figure_journal_size,
  mmp_init,
} from "./mke2fs/files.ts";
import { type device_plan, ext2fs_flush } from "./mke2fs/flush.ts";
import { type ext2_filsys, Mke2fsError } from "./mke2fs/filsys.ts";
import { ext2fs_initialize } from "./mke2fs/geometry.ts";
import {
  create_bad_block_inode,
  create_lost_and_found,
  create_resize_inode,
  create_root_dir,
  reserve_inodes,
} from "./mke2fs/inodes.ts";
import {
  type command_line,
  type mke2fs_log,
  type mke2fs_param,
  parse_command_line,
} from "./mke2fs/options.ts";
import { create_quota_inodes } from "./mke2fs/quota.ts";
import { resolve_param } from "./mke2fs/resolve.ts";
import {
  ext2fs_allocate_tables,
  packed_allocate_tables,
  write_inode_tables,
} from "./mke2fs/tables.ts";

/** Where the filesystem goes. Offsets and sizes are bytes. */
export interface mkfs_device {
  readonly size: number;
  /** Shown in messages; defaults to the operand. */
  readonly logical_block_size?: number;
  readonly physical_block_size?: number;
  /** All bytes are known to be zero: nothing is zeroed. */
  readonly zeroed?: boolean;
  write(offset: number, bytes: Uint8Array): void;
  /** Zeroes a range; without it zeroes are written. */
  zero?(offset: number, length: number): void;
  /** Discards a range; true if it reads as zeroes from then on. */
  discard?(offset: number, length: number): boolean;
}

export interface mkfs_env {
  /** 16 random bytes at each call. */
  uuid(): Uint8Array;
  /** Seconds since 1970. */
  readonly now_sec: number;
  /** Largest block the machine mounts; default 4096. */
  readonly page_size?: number;
  /** Host name for multi-mount protection. */
  readonly nodename?: string;
}

export interface mkfs_result {
  status: number;
  stdout: string;
  stderr: string;
}

export interface mkfs_plan extends mkfs_result {
  /** Absent when nothing shall be done to the device (an error, or -n). */
  plan?: device_plan;
}

const BANNER = "mke2fs 1.47.0 (5-Feb-2023)\n";
const MIN_ZERO_CHUNK = 1 << 20;

function parse_uuid(text: string): Uint8Array | undefined {
  const hex = text.replaceAll("-", "");
  if (!/^[0-9a-f]{32}$/i.test(hex) || !/^[^-]{8}(-[^-]{4}){3}-[^-]{12}$/.test(text))
    return undefined;
  return Uint8Array.from({ length: 16 }, (_, i) =>
    Number.parseInt(hex.slice(2 * i, 2 * i + 2), 16),
  );
}

function uuid_text(u: Uint8Array): string {
  const hex = Array.from(u, (b) => b.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function set_identity(fs: ext2_filsys, cl: command_line, p: mke2fs_param, env: mkfs_env): void {
  const { es } = fs;
  const wanted = cl.uuid ?? "random";
  if (wanted === "null" || wanted === "clear") es.s_uuid = new Uint8Array(16);
  else if (wanted === "time" || wanted === "random") es.s_uuid = env.uuid();
  else {
    const uuid = parse_uuid(wanted);
    if (!uuid) throw new Mke2fsError(`could not parse UUID: ${wanted}\n`);
    es.s_uuid = uuid;
  }
  if (fs.has("incompat", EXT4_FEATURE_INCOMPAT_CSUM_SEED)) {
    es.s_checksum_seed = crc32c(~0, es.s_uuid);
  }
  fs.init_csum_seed();
  es.s_def_hash_version = p.def_hash_version;
  const seed_text = cl.extended.hash_seed;
  const seed = seed_text === undefined ? env.uuid() : parse_uuid(seed_text);
  if (!seed) throw new Mke2fsError(`Invalid hash seed: ${seed_text}`);
  const v = new DataView(seed.buffer, seed.byteOffset, 16);
  es.s_hash_seed = [0, 4, 8, 12].map((at) => v.getUint32(at, true));
  if (cl.label !== undefined)
    es.s_volume_name = name_to_bytes(cl.label).subarray(0, EXT4_LABEL_MAX);
  if (cl.last_mounted !== undefined) {
    es.s_last_mounted = name_to_bytes(cl.last_mounted).subarray(0, 64);
  }
  if (fs.has("incompat", EXT4_FEATURE_INCOMPAT_ENCRYPT)) {
    // AES-256-XTS for contents, AES-256-CTS for names
    es.s_encrypt_algos = Uint8Array.of(1, 4);
  }
  if (fs.has_csum) es.s_checksum_type = EXT4_CRC32C_CHKSUM;
  const counted =
    EXT4_FEATURE_RO_COMPAT_HUGE_FILE |
    EXT4_FEATURE_RO_COMPAT_GDT_CSUM |
    EXT4_FEATURE_RO_COMPAT_DIR_NLINK |
    EXT4_FEATURE_RO_COMPAT_METADATA_CSUM;
  if (fs.has("incompat", EXT4_FEATURE_INCOMPAT_FLEX_BG) || fs.has("ro_compat", counted)) {
    es.s_kbytes_written = 1;
  }
}

function csum_advice(fs: ext2_filsys, cl: command_line, log: mke2fs_log): void {
  if (fs.has("incompat", EXT4_FEATURE_INCOMPAT_CSUM_SEED) && !fs.has_csum) {
    throw new Mke2fsError("The metadata_csum_seed feature requires the metadata_csum feature.");
  }
  if (cl.quiet || !fs.has_csum) return;
  if (!fs.has("incompat", EXT4_FEATURE_INCOMPAT_EXTENTS)) {
    log.stdout +=
      "Extents are not enabled: block maps have no checksums. -O extents enables them.\n";
  }
  if (!fs.has("incompat", EXT4_FEATURE_INCOMPAT_64BIT)) {
    log.stdout += "64-bit support is not enabled: some checksums have 16 bits only. -O 64bit.\n";
  }
}

function show_stats(fs: ext2_filsys, p: mke2fs_param, log: mke2fs_log): void {
  const { es } = fs;
  if (p.blocks_count !== fs.blocks_count) {
    log.stderr += `Warning: ${p.blocks_count - fs.blocks_count} blocks unused.\n\n`;
  }
  log.stdout +=
    `Creating filesystem with ${fs.blocks_count} ${fs.blocksize / 1024}k blocks ` +
    `and ${es.s_inodes_count} inodes\n`;
  if (fs.group_desc_count === 1) {
    log.stdout += "\n";
    return;
  }
  const null_uuid = es.s_uuid.every((b) => b === 0);
  if (!null_uuid) log.stdout += `Filesystem UUID: ${uuid_text(es.s_uuid)}\n`;
  log.stdout += "Superblock backups stored on blocks: ";
  let column = 78;
  let first = true;
  for (let g = 1; g < fs.group_desc_count; g++) {
    if (!fs.bg_has_super(g)) continue;
    const text = String(fs.group_first_block(g));
    if (!first) log.stdout += ", ";
    first = false;
    if (column + text.length + 2 > 78) {
      log.stdout += "\n\t";
      column = 8;
    }
    column += text.length + 2;
    log.stdout += text;
  }
  log.stdout += "\n\n";
}

/** Used blocks (clusters) at this point: what df does not count as part of the filesystem. */
function used_clusters(fs: ext2_filsys): number {
  let used = 0;
  for (let g = 0; g < fs.group_desc_count; g++) {
    const blocks = fs.group_last_block(g) - fs.group_first_block(g) + 1;
    used += Math.ceil(blocks / fs.cluster_ratio) - fs.group_free_clusters(g);
  }
  return used;
}

function make_journal(
  fs: ext2_filsys,
  cl: command_line,
  size: { journal: number; fc: number } | undefined,
  log: mke2fs_log,
): number {
  if (!size) {
    // nor is an orphan file any use then
    fs.es.s_feature_compat &= ~(EXT4_FEATURE_COMPAT_HAS_JOURNAL | EXT4_FEATURE_COMPAT_ORPHAN_FILE);
    return 0;
  }
  const total = size.journal + size.fc;
  if (!cl.quiet) log.stdout += `Creating journal (${size.journal} blocks): `;
  const lazy = cl.extended.lazy_journal_init ?? false;
  add_journal_inode(fs, size, { lazy, at_start: cl.extended.packed_meta_blocks ?? false });
  if (!cl.quiet) log.stdout += "done\n";
  return total;
}

interface making {
  cl: command_line;
  p: mke2fs_param;
  env: mkfs_env;
  log: mke2fs_log;
  /** The device reads as zeroes already. */
  prezeroed: boolean;
}

/** Wipes old signatures: the boot block with the old superblock, and the end of the device. */
function zap_ends(fs: ext2_filsys): void {
  const rsv = Math.max(1, 65536 / fs.blocksize);
  let start = fs.blocks_count - (fs.blocks_count % rsv);
  if (start > rsv) start -= rsv;
  fs.zeros.push([0, Math.ceil(4096 / fs.blocksize)]);
  if (start > 0) fs.zeros.push([start, fs.blocks_count - start]);
}

function populate(fs: ext2_filsys, m: making): void {
  const { cl, log } = m;
  const { extended } = cl;
  const lazy = extended.lazy_itable_init ?? true;
  const wants_journal = fs.has("compat", EXT4_FEATURE_COMPAT_HAS_JOURNAL) || cl.journal_option;
  const free = fs.blocks_count - used_clusters(fs) - 3 * fs.group_desc_count;
  const size = wants_journal
    ? figure_journal_size(fs, cl.journal_size, cl.fast_commit_size, free)
    : undefined;
  if (wants_journal && !size) log.stderr += "\nFilesystem too small for a journal\n";
  const say = (text: string) => {
    if (!cl.quiet) log.stdout += text;
  };
  say("Allocating group tables: ");
  if (extended.packed_meta_blocks) packed_allocate_tables(fs);
  else ext2fs_allocate_tables(fs);
  say("done                            \n");
  fs.convert_to_clusters();
  let overhead = used_clusters(fs);
  zap_ends(fs);
  say("Writing inode tables: ");
  write_inode_tables(fs, lazy && fs.has_group_csum, m.prezeroed);
  say("done                            \n");
  create_root_dir(fs, extended.root_owner ?? [0, 0]);
  create_lost_and_found(fs);
  reserve_inodes(fs);
  create_bad_block_inode(fs);
  if (fs.has("compat", EXT4_FEATURE_COMPAT_RESIZE_INODE)) create_resize_inode(fs);
  if (wants_journal) overhead += Math.ceil(make_journal(fs, cl, size, log) / fs.cluster_ratio);
  if (fs.has("incompat", EXT4_FEATURE_INCOMPAT_MMP)) {
    mmp_init(fs, { host: m.env.nodename ?? "", device: cl.device });
    say(
      "Multiple mount protection is enabled with update interval " +
        `${fs.es.s_mmp_update_interval} seconds.\n`,
    );
  }
  fs.es.s_overhead_clusters = overhead + fs.es.s_first_data_block;
  if (fs.has("ro_compat", EXT4_FEATURE_RO_COMPAT_QUOTA))
    create_quota_inodes(fs, extended.quotatype);
  if (fs.has("compat", EXT4_FEATURE_COMPAT_ORPHAN_FILE)) {
    create_orphan_file(fs, extended.orphan_file_size ?? 0);
  }
}

function device_facts(dev: mkfs_device, env: mkfs_env) {
  const logical = dev.logical_block_size ?? 512;
  return {
    size: dev.size,
    logical_block_size: logical,
    physical_block_size: dev.physical_block_size ?? logical,
    page_size: env.page_size ?? 4096,
  };
}

function run(
  program: string,
  args: readonly string[],
  dev: mkfs_device,
  env: mkfs_env,
  log: mke2fs_log,
): device_plan | undefined {
  const cl = parse_command_line(program, args);
  if (cl.version_only) {
    log.stderr += `${BANNER}\tUsing EXT2FS Library version 1.47.0\n`;
    return undefined;
  }
  if (!cl.quiet) log.stderr += BANNER;
  const p = resolve_param(cl, device_facts(dev, env), log);
  const fs = ext2fs_initialize(p, env.now_sec);
  csum_advice(fs, cl, log);
  set_identity(fs, cl, p, env);
  if (!cl.quiet || cl.no_action) show_stats(fs, p, log);
  if (cl.no_action) return undefined;
  const may_discard = cl.extended.discard ?? true;
  const discarded = may_discard && dev.discard?.(0, fs.blocks_count * fs.blocksize) === true;
  const prezeroed = discarded || (cl.extended.assume_storage_prezeroed ?? false);
  populate(fs, { cl, p, env, log, prezeroed });
  if (!cl.quiet) log.stdout += "Writing superblocks and filesystem accounting information: ";
  const plan = ext2fs_flush(fs);
  if (!cl.quiet) log.stdout += "done\n\n";
  if (dev.zeroed || discarded) plan.zero = [];
  return plan;
}

/**
 * Works out the new filesystem without touching the device (but for a discard).
 * `args`: the options, the device's name and perhaps a size, as on the command line.
 */
export function plan_mkfs_ext4(
  args: readonly string[],
  dev: mkfs_device,
  env: mkfs_env,
  program = "mkfs.ext4",
): mkfs_plan {
  const log: mke2fs_log = { stdout: "", stderr: "" };
  try {
    const plan = run(program, args, dev, env, log);
    return plan ? { status: 0, ...log, plan } : { status: 0, ...log };
  } catch (err) {
    if (!(err instanceof Mke2fsError)) throw err;
    const prefix =
      err.message.startsWith("\n") || err.message.startsWith("Usage") ? "" : `${program}: `;
    const end = err.message.endsWith("\n") ? "" : "\n";
    return {
      status: err.status,
      stdout: log.stdout,
      stderr: log.stderr + prefix + err.message + end,
    };
  }
}

function zero_range(dev: mkfs_device, offset: number, length: number): void {
  if (dev.zero) {
    dev.zero(offset, length);
    return;
  }
  const chunk = new Uint8Array(Math.min(length, MIN_ZERO_CHUNK));
  for (let at = 0; at < length; at += chunk.length) {
    dev.write(offset + at, chunk.subarray(0, Math.min(chunk.length, length - at)));
  }
}

/** Makes a filesystem on `dev`; see plan_mkfs_ext4(). */
export function mkfs_ext4(
  args: readonly string[],
  dev: mkfs_device,
  env: mkfs_env,
  program = "mkfs.ext4",
): mkfs_result {
  const { plan, ...result } = plan_mkfs_ext4(args, dev, env, program);
  if (plan) {
    for (const [offset, length] of plan.zero) zero_range(dev, offset, length);
    for (const [offset, bytes] of plan.write) dev.write(offset, bytes);
  }
  return result;
}
