/**
 * tools/cmd/mke2fs/quota.ts - the quota files of a new filesystem.
 *
 * Format vfsv1: 1 KiB blocks; block 0 begins with the header, block 1 is the root of a tree of four
 * levels, one for each byte of the id (most significant first); its leaves are blocks of 72-byte
 * entries behind a 16-byte header. A new filesystem counts the root directory and lost+found only.
 */

import {
  EXT4_EXTENTS_FL,
  EXT4_FEATURE_INCOMPAT_EXTENTS,
  EXT4_FEATURE_RO_COMPAT_PROJECT,
  EXT4_GRP_QUOTA_INO,
  EXT4_IMMUTABLE_FL,
  EXT4_ROOT_INO,
  EXT4_USR_QUOTA_INO,
} from "../../../fs/ext4/ext4.ts";
import { array, struct, u16, u32, u64 } from "../../../kernel/lib/struct.ts";
import type { ext2_filsys } from "./filsys.ts";
import { alloc_file_in_order, init_inode, map_extents, S_IFREG } from "./inodes.ts";

export const QT_BLKSIZE = 1024;
const GRACE_SECONDS = 7 * 24 * 3600;
const MAGIC = Object.freeze([0xd9c01f11, 0xd9c01927, 0xd9c03f14]);

/** Header of a quota file: v2_disk_dqheader and v2_disk_dqinfo. */
export const v2_disk_dqinfo = struct("v2_disk_dqinfo", {
  dqh_magic: [u32, 0],
  dqh_version: [u32, 4],
  dqi_bgrace: [u32, 8],
  dqi_igrace: [u32, 12],
  dqi_flags: [u32, 16],
  dqi_blocks: [u32, 20],
  dqi_free_blk: [u32, 24],
  dqi_free_entry: [u32, 28],
});
/** Header of a block of entries. */
export const qt_disk_dqdbheader = struct("qt_disk_dqdbheader", {
  dqdh_next_free: [u32, 0],
  dqdh_prev_free: [u32, 4],
  dqdh_entries: [u16, 8],
  dqdh_pad: [array(u16, 3), 10],
});
/** One id's limits and usage; space in bytes. */
export const v2r1_disk_dqblk = struct("v2r1_disk_dqblk", {
  dqb_id: [u32, 0],
  dqb_pad: [u32, 4],
  dqb_ihardlimit: [u64, 8],
  dqb_isoftlimit: [u64, 16],
  dqb_curinodes: [u64, 24],
  dqb_bhardlimit: [u64, 32],
  dqb_bsoftlimit: [u64, 40],
  dqb_curspace: [u64, 48],
  dqb_btime: [u64, 56],
  dqb_itime: [u64, 64],
});

interface usage {
  inodes: number;
  space: number;
}

const TREE_DEPTH = 4;
const TREE_ROOT = 1;

function build_file(type: number, used: ReadonlyMap<number, usage>): Uint8Array {
  const file = new Uint8Array(QT_BLKSIZE * (6 + used.size * TREE_DEPTH));
  const v = new DataView(file.buffer);
  let blocks = 2;
  let leaf = 0;
  let entries = 0;
  for (const [id, u] of used) {
    let node = TREE_ROOT;
    for (let depth = 0; depth < TREE_DEPTH; depth++) {
      const slot = node * QT_BLKSIZE + ((id >>> (8 * (TREE_DEPTH - 1 - depth))) & 0xff) * 4;
      let next = v.getUint32(slot, true);
      if (next === 0) {
        const is_leaf = depth === TREE_DEPTH - 1;
        if (is_leaf && leaf === 0) leaf = blocks++;
        next = is_leaf ? leaf : blocks++;
        v.setUint32(slot, next, true);
      }
      node = next;
    }
    const at = leaf * QT_BLKSIZE + qt_disk_dqdbheader.sizeof + entries * v2r1_disk_dqblk.sizeof;
    const dq = v2r1_disk_dqblk.at(file, at);
    dq.dqb_id = id;
    dq.dqb_curinodes = u.inodes;
    dq.dqb_curspace = u.space;
    entries++;
  }
  qt_disk_dqdbheader.at(file, leaf * QT_BLKSIZE).dqdh_entries = entries;
  const info = v2_disk_dqinfo.at(file);
  info.dqh_magic = MAGIC[type]!;
  info.dqh_version = 1;
  info.dqi_bgrace = info.dqi_igrace = GRACE_SECONDS;
  info.dqi_blocks = blocks;
  info.dqi_free_entry = leaf;
  return file.subarray(0, blocks * QT_BLKSIZE);
}

/** Usage by user (0), group (1) or project (2) of the two directories that exist. */
function count_usage(fs: ext2_filsys, type: number): Map<number, usage> {
  const used = new Map<number, usage>();
  for (const ino of [EXT4_ROOT_INO, fs.es.s_first_ino]) {
    const raw = fs.inode(ino);
    const owner = type === 0 ? raw.i_uid_high : raw.i_gid_high;
    const low = type === 0 ? raw.i_uid : raw.i_gid;
    const id = type === 2 ? 0 : owner * 65536 + low;
    const u = used.get(id) ?? { inodes: 0, space: 0 };
    u.inodes++;
    u.space += raw.i_blocks_lo * 512;
    used.set(id, u);
  }
  return new Map([...used].sort(([a], [b]) => a - b));
}

function write_quota_inode(fs: ext2_filsys, ino: number, file: Uint8Array): void {
  fs.alloc_inode(ino);
  init_inode(fs, ino, S_IFREG | 0o600, 1);
  fs.inode(ino).i_flags |= EXT4_IMMUTABLE_FL;
  const count = Math.ceil(file.length / fs.blocksize);
  // the header comes first, then the tree from the leaf up: its root, block 1, is written last
  const order = Array.from({ length: count }, (_, i) => i);
  if (fs.blocksize === QT_BLKSIZE) order.splice(TREE_DEPTH + 1, 0, ...order.splice(1, 1));
  const extents = alloc_file_in_order(fs, ino, order);
  for (let lblk = 0; lblk < count; lblk++) {
    const part = file.subarray(lblk * fs.blocksize, (lblk + 1) * fs.blocksize);
    fs.block(map_extents(extents, lblk)).set(part);
  }
  const raw = fs.inode(ino);
  raw.i_size_lo = file.length;
  if (fs.has("incompat", EXT4_FEATURE_INCOMPAT_EXTENTS)) raw.i_flags |= EXT4_EXTENTS_FL;
  fs.inode_csum_set(ino);
}

/** `wanted`: user, group, project; by default user and group, and project with that feature. */
export function create_quota_inodes(fs: ext2_filsys, wanted: readonly boolean[] | undefined): void {
  const project = fs.has("ro_compat", EXT4_FEATURE_RO_COMPAT_PROJECT);
  const types = wanted ?? [true, true, project];
  if (types[0]) {
    write_quota_inode(fs, EXT4_USR_QUOTA_INO, build_file(0, count_usage(fs, 0)));
    fs.es.s_usr_quota_inum = EXT4_USR_QUOTA_INO;
  }
  if (types[1]) {
    write_quota_inode(fs, EXT4_GRP_QUOTA_INO, build_file(1, count_usage(fs, 1)));
    fs.es.s_grp_quota_inum = EXT4_GRP_QUOTA_INO;
  }
  if (types[2]) {
    const ino = fs.new_inode();
    write_quota_inode(fs, ino, build_file(2, count_usage(fs, 2)));
    fs.es.s_prj_quota_inum = ino;
  }
}
