/**
 * tools/cmd/mke2fs/resolve.ts - defaults and checks: from a command line and a device to numbers.
 *
 * The order matters and follows the real tool: size class by the device's size, features of the
 * type and then of -O, block size, cluster size, inode ratio and size, number of inodes, reserved
 * blocks.
 */

import {
  EXT4_DEFM_ACL,
  EXT4_DEFM_XATTR_USER,
  EXT4_FEATURE_COMPAT_HAS_JOURNAL,
  EXT4_FEATURE_COMPAT_ORPHAN_FILE,
  EXT4_FEATURE_COMPAT_RESIZE_INODE,
  EXT4_FEATURE_COMPAT_SPARSE_SUPER2,
  EXT4_FEATURE_INCOMPAT_64BIT,
  EXT4_FEATURE_INCOMPAT_CASEFOLD,
  EXT4_FEATURE_INCOMPAT_EXTENTS,
  EXT4_FEATURE_INCOMPAT_FLEX_BG,
  EXT4_FEATURE_INCOMPAT_INLINE_DATA,
  EXT4_FEATURE_INCOMPAT_JOURNAL_DEV,
  EXT4_FEATURE_INCOMPAT_META_BG,
  EXT4_FEATURE_RO_COMPAT_BIGALLOC,
  EXT4_FEATURE_RO_COMPAT_GDT_CSUM,
  EXT4_FEATURE_RO_COMPAT_METADATA_CSUM,
  EXT4_FEATURE_RO_COMPAT_PROJECT,
  EXT4_FEATURE_RO_COMPAT_QUOTA,
  EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER,
} from "../../../fs/ext4/ext4.ts";
import { parse_size } from "../size.ts";
import { Mke2fsError } from "./filsys.ts";
import {
  type command_line,
  DEFAULT_HASH_VERSION,
  type mke2fs_log,
  type mke2fs_param,
} from "./options.ts";
import {
  DEFAULTS,
  edit_feature,
  type features,
  from_profile,
  FS_TYPES,
  size_type,
} from "./profile.ts";

const MAX_32_NUM = 0xffffffff;

/** What the resolver wants to know of a device; bytes. */
export interface device_facts {
  readonly size: number;
  readonly logical_block_size: number;
  readonly physical_block_size: number;
  /** Page size of the machine: the largest block Linux mounts. */
  readonly page_size: number;
}

/** Bytes asked for by the second operand, else the device's size. */
function requested_bytes(cl: command_line, dev: device_facts): number {
  const unit = cl.blocksize > 0 ? cl.blocksize : 1024;
  // a whole device is used up to its last full page, so that the last block can be mapped
  if (cl.size === undefined) return dev.size - (dev.size % Math.max(unit, dev.page_size));
  const bytes = parse_size(cl.size, { plain: unit, sector: 512 });
  if (!bytes) throw new Mke2fsError(`invalid blocks '${cl.size}' on device '${cl.device}'`);
  if (bytes > dev.size && cl.force === 0) {
    throw new Mke2fsError(
      "Filesystem larger than apparent device size " +
        `(${Math.floor(dev.size / unit)} blocks); -F forces`,
    );
  }
  return bytes;
}

function type_list(cl: command_line, bytes: number): string[] {
  const named = /^mkfs\.(ext[234])$/.exec(cl.program)?.[1];
  const type = cl.type ?? named ?? (cl.journal_option ? "ext3" : "ext2");
  if (type === "hurd") throw new Mke2fsError("filesystems for the Hurd are not supported");
  if (!Object.hasOwn(FS_TYPES, type)) {
    throw new Mke2fsError(`The file system type ${type} is not known`);
  }
  const usage = cl.usage?.split(",").filter((x) => x !== "") ?? [size_type(bytes)];
  return [type, ...usage];
}

function resolve_features(cl: command_line, types: readonly string[]): features {
  const f: features = { compat: 0, incompat: 0, ro_compat: 0 };
  if (cl.rev_level > 0) {
    edit_feature(DEFAULTS.base_features, f);
    for (const type of types) edit_feature(FS_TYPES[type]?.features ?? "", f);
  }
  const wrong = edit_feature(cl.features ?? "", f);
  if (wrong !== undefined) throw new Mke2fsError(`Invalid filesystem option set: ${cl.features}`);
  if (cl.journal_option) f.compat |= EXT4_FEATURE_COMPAT_HAS_JOURNAL;
  if (cl.extended.quotatype) f.ro_compat |= EXT4_FEATURE_RO_COMPAT_QUOTA;
  if (f.ro_compat & EXT4_FEATURE_RO_COMPAT_METADATA_CSUM) {
    f.ro_compat &= ~EXT4_FEATURE_RO_COMPAT_GDT_CSUM;
  }
  return f;
}

function resolve_blocksize(
  cl: command_line,
  types: readonly string[],
  dev: device_facts,
  log: mke2fs_log,
): number {
  if (cl.blocksize <= 0) {
    let size = from_profile(types, "blocksize");
    if (size === -1) size = dev.page_size;
    return Math.max(size, dev.logical_block_size, -cl.blocksize);
  }
  if (cl.blocksize < dev.logical_block_size) {
    throw new Mke2fsError("Invalid argument while setting blocksize; too small for device\n");
  }
  if (cl.blocksize < dev.physical_block_size && dev.physical_block_size <= dev.page_size) {
    log.stderr +=
      `Warning: specified blocksize ${cl.blocksize} is less than device physical sectorsize ` +
      `${dev.physical_block_size}\n`;
  }
  return cl.blocksize;
}

function resolve_cluster_size(cl: command_line, f: features, blocksize: number): number {
  if (!(f.ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC)) {
    if (cl.cluster_size) {
      throw new Mke2fsError("specifying a cluster size requires the bigalloc feature");
    }
    return blocksize;
  }
  const size = cl.cluster_size || blocksize * 16;
  if (size < blocksize) {
    throw new Mke2fsError("The cluster size may not be smaller than the block size.\n");
  }
  return size;
}

function check_combinations(cl: command_line, f: features, log: mke2fs_log): void {
  const { compat, incompat, ro_compat } = f;
  const bigalloc = ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC;
  if (incompat & EXT4_FEATURE_INCOMPAT_JOURNAL_DEV) {
    throw new Mke2fsError("external journal devices are not supported by this mkfs");
  }
  if (incompat & EXT4_FEATURE_INCOMPAT_64BIT && !(incompat & EXT4_FEATURE_INCOMPAT_EXTENTS)) {
    throw new Mke2fsError("A 64-bit filesystem needs extents: -O extent, or -O ^64bit");
  }
  if (bigalloc && !(incompat & EXT4_FEATURE_INCOMPAT_EXTENTS)) {
    throw new Mke2fsError("Can't support bigalloc feature without extents feature");
  }
  if (incompat & EXT4_FEATURE_INCOMPAT_META_BG && compat & EXT4_FEATURE_COMPAT_RESIZE_INODE) {
    throw new Mke2fsError(
      "The resize_inode and meta_bg features are not compatible.\n" +
        "They can not be both enabled simultaneously.",
    );
  }
  const no_journal = !(compat & EXT4_FEATURE_COMPAT_HAS_JOURNAL);
  if (compat & EXT4_FEATURE_COMPAT_ORPHAN_FILE && no_journal) {
    throw new Mke2fsError("the orphan_file feature needs a journal");
  }
  const sparse =
    ro_compat & EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER || compat & EXT4_FEATURE_COMPAT_SPARSE_SUPER2;
  if (compat & EXT4_FEATURE_COMPAT_RESIZE_INODE && !sparse) {
    throw new Mke2fsError("reserved online resize blocks not supported on non-sparse filesystem");
  }
  if (cl.flex_bg_size && !(incompat & EXT4_FEATURE_INCOMPAT_FLEX_BG)) {
    throw new Mke2fsError("Flex_bg feature not enabled, so flex_bg size may not be specified");
  }
  if (bigalloc && !cl.quiet) {
    log.stderr += "\nWarning: the bigalloc feature is still under development\n\n";
  }
}

function resolve_inode_size(cl: command_line, types: readonly string[], f: features, bs: number) {
  if (cl.rev_level === 0) return 128;
  const size = cl.inode_size || from_profile(types, "inode_size");
  if (size < 128 || size > bs || !Number.isInteger(Math.log2(size))) {
    throw new Mke2fsError(`invalid inode size ${size} (min 128/max ${bs})`);
  }
  if (f.incompat & EXT4_FEATURE_INCOMPAT_INLINE_DATA && size === 128) {
    throw new Mke2fsError("128 byte inodes are too small for inline data; specify larger size");
  }
  if (f.ro_compat & EXT4_FEATURE_RO_COMPAT_PROJECT && size === 128) {
    throw new Mke2fsError("128 byte inodes are too small for project quota");
  }
  return size;
}

function resolve_inodes(cl: command_line, p: mke2fs_param, ratio: number): number {
  let n = cl.num_inodes;
  if (n === 0) n = Math.floor((p.blocks_count * p.blocksize) / ratio);
  if (n > MAX_32_NUM) {
    if (cl.num_inodes) throw new Mke2fsError(`too many inodes (${n}), specify < 2^32 inodes`);
    if (!(p.features.incompat & EXT4_FEATURE_INCOMPAT_64BIT)) {
      throw new Mke2fsError(`too many inodes (${n}), raise inode ratio?`);
    }
    n = MAX_32_NUM;
  }
  if (n * p.inode_size >= p.blocks_count * p.blocksize) {
    throw new Mke2fsError(
      `inode_size (${p.inode_size}) * inodes_count (${n}) too big for a\n\tfilesystem with ` +
        `${p.blocks_count} blocks, specify higher inode_ratio (-i)\n\tor lower inode count (-N).\n`,
    );
  }
  return n;
}

/** -E resize=N: descriptor blocks kept free for growing to N blocks. */
function resolve_resize(cl: command_line, p: mke2fs_param): void {
  const text = cl.extended.resize;
  if (text === undefined) return;
  const bytes = parse_size(text, { plain: p.blocksize, sector: 512 });
  if (!bytes) throw new Mke2fsError(`Invalid resize parameter: ${text}`);
  const resize = Math.floor(bytes / p.blocksize);
  if (resize <= p.blocks_count) {
    throw new Mke2fsError("The resize maximum must be greater than the filesystem size.");
  }
  const bpg = p.blocks_per_group || p.blocksize * 8;
  const per_block = p.blocksize / (p.desc_size || 32);
  const blocks_for = (blocks: number) => Math.ceil(Math.ceil(blocks / bpg) / per_block);
  const rsv = blocks_for(resize) - blocks_for(p.blocks_count);
  if (rsv <= 0) return;
  p.features.compat |= EXT4_FEATURE_COMPAT_RESIZE_INODE;
  p.reserved_gdt_blocks = Math.min(rsv, p.blocksize / 4);
}

function resolve_groups(cl: command_line, p: mke2fs_param): void {
  const bigalloc = p.features.ro_compat & EXT4_FEATURE_RO_COMPAT_BIGALLOC;
  const g = cl.blocks_per_group;
  if (g && (g < 256 || g > 8 * p.blocksize)) {
    throw new Mke2fsError("blocks per group count out of range");
  }
  if (bigalloc) p.clusters_per_group = g;
  else p.blocks_per_group = g;
  if (p.features.incompat & EXT4_FEATURE_INCOMPAT_FLEX_BG) {
    p.log_groups_per_flex = Math.log2(cl.flex_bg_size || 16);
  }
}

function check_page_size(cl: command_line, bs: number, dev: device_facts, log: mke2fs_log): void {
  if (bs <= dev.page_size) return;
  const fact = `${bs}-byte blocks too big for system (max ${dev.page_size})`;
  // the real tool asks whether to go on; nobody is there to answer
  if (cl.force === 0) throw new Mke2fsError(`${fact}; -F forces`);
  log.stderr += `Warning: ${fact}, forced to continue\n`;
}

/** The largest filesystem this tool makes: its bitmap has to fit in memory. */
const MAX_BLOCKS = 2 ** 32 - 1;

export function resolve_param(cl: command_line, dev: device_facts, log: mke2fs_log): mke2fs_param {
  const bytes = requested_bytes(cl, dev);
  const types = type_list(cl, bytes);
  const f = resolve_features(cl, types);
  const bs = resolve_blocksize(cl, types, dev, log);
  const cluster = resolve_cluster_size(cl, f, bs);
  const { extended } = cl;
  check_page_size(cl, bs, dev, log);
  check_combinations(cl, f, log);
  const blocks_count = Math.floor(bytes / bs);
  if (blocks_count > MAX_BLOCKS) {
    throw new Mke2fsError("Size of device too big: this mkfs makes at most 2^32-1 blocks");
  }
  const wide = f.incompat & EXT4_FEATURE_INCOMPAT_64BIT;
  const p: mke2fs_param = {
    blocks_count,
    blocksize: bs,
    cluster_size: cluster,
    rev_level: extended.revision ?? cl.rev_level,
    features: f,
    inode_size: 0,
    inodes_count: 0,
    blocks_per_group: 0,
    clusters_per_group: 0,
    log_groups_per_flex: 0,
    r_blocks_count: Math.floor((cl.reserved_percent * blocks_count) / 100),
    desc_size: wide ? (extended.desc_size ?? 64) : 0,
    first_meta_bg: 0,
    raid_stride: extended.raid_stride ?? 0,
    raid_stripe_width: extended.raid_stripe_width ?? 0,
    flags: extended.flags ?? 0,
    backup_bgs: [0, 0],
    encoding: 0,
    encoding_flags: extended.encoding_flags ?? 0,
    creator_os: cl.creator_os,
    default_mount_opts: cl.rev_level > 0 ? EXT4_DEFM_ACL | EXT4_DEFM_XATTR_USER : 0,
    mmp_update_interval: extended.mmp_update_interval ?? 0,
    def_hash_version: DEFAULT_HASH_VERSION,
  };
  if (cl.errors_behavior) p.errors_behavior = cl.errors_behavior;
  if (f.incompat & EXT4_FEATURE_INCOMPAT_CASEFOLD || extended.encoding) {
    f.incompat |= EXT4_FEATURE_INCOMPAT_CASEFOLD;
    p.encoding = extended.encoding ?? 1;
  }
  const ratio = cl.inode_ratio || Math.max(from_profile(types, "inode_ratio"), bs, cluster);
  resolve_groups(cl, p);
  p.inode_size = resolve_inode_size(cl, types, f, bs);
  p.inodes_count = resolve_inodes(cl, p, ratio);
  resolve_resize(cl, p);
  if (f.compat & EXT4_FEATURE_COMPAT_SPARSE_SUPER2) {
    const backups = extended.num_backup_sb ?? 2;
    p.backup_bgs = [backups >= 1 ? 1 : 0, backups >= 2 ? MAX_32_NUM : 0];
  }
  return p;
}
