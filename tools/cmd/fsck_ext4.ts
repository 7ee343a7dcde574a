/**
 * tools/cmd/fsck_ext4.ts - is an ext2, ext3 or ext4 image sound? Read-only, as `e2fsck -fn`.
 *
 * Reading order: fsck_ext4() -> e2fsck/image.ts (superblock, geometry), pass1.ts (inodes;
 * blocks.ts, xattr.ts), pass2.ts (directories, connections, link counts), pass5.ts (bitmaps,
 * counters). Beyond e2fsck: a name that occurs twice in a directory is always found, and an image
 * whose journal has to be replayed, or that lists orphans, is not sound. Not checked: quota usage,
 * the journal's contents, fast commit blocks, backup superblocks.
 */

import {
  EXT4_BG_BLOCK_UNINIT,
  EXT4_BG_INODE_UNINIT,
  EXT4_DYNAMIC_REV,
  EXT4_ERROR_FS,
  EXT4_FEATURE_COMPAT_HAS_JOURNAL,
  EXT4_FEATURE_COMPAT_ORPHAN_FILE,
  EXT4_FEATURE_INCOMPAT_RECOVER,
  EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT,
  EXT4_VALID_FS,
} from "../../fs/ext4/ext4.ts";
import { ext4_group_desc_csum_verify, ext4_superblock_csum_verify } from "../../fs/ext4/csum.ts";
import { JBD2_MAGIC_NUMBER, journal_superblock } from "../../fs/jbd2/jbd2.ts";
import { ext4_image, FsckAbort, type fsck_device, type fsck_problem } from "./e2fsck/image.ts";
import { map_walker, owner_map } from "./e2fsck/blocks.ts";
import { pass1 } from "./e2fsck/pass1.ts";
import { pass2, pass3, pass4 } from "./e2fsck/pass2.ts";
import { pass5 } from "./e2fsck/pass5.ts";
import { FEATURES, type feature_set } from "./mke2fs/profile.ts";

export type { fsck_device, fsck_problem } from "./e2fsck/image.ts";

export interface fsck_report {
  /** No problem at all. */
  readonly clean: boolean;
  /** The first 200, in the order in which they were found. */
  readonly problems: readonly fsck_problem[];
  /** The superblock says that it was unmounted cleanly. */
  readonly valid: boolean;
  /** Inodes in use (reserved ones included) and directories among them. */
  readonly inodes: number;
  readonly dirs: number;
  readonly free_blocks: number;
  readonly free_inodes: number;
}

const all_of = (set: feature_set): number =>
  FEATURES.reduce((mask, [, in_set, bit]) => (in_set === set ? mask | bit : mask), 0);

/** Features that this check understands: what mkfs can make and what the kernel adds. */
const KNOWN: Readonly<Record<feature_set, number>> = Object.freeze({
  compat: all_of("compat"),
  incompat: all_of("incompat") | EXT4_FEATURE_INCOMPAT_RECOVER,
  ro_compat: all_of("ro_compat") | EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT,
});

const device_of = (b: Uint8Array): fsck_device => ({
  size: b.length,
  read: (offset, length) => b.subarray(offset, offset + length),
});

function check_super(im: ext4_image): void {
  const { es } = im;
  const bytes = new Uint8Array(es._view.buffer, es._view.byteOffset, 1024);
  if (im.has_csum && !ext4_superblock_csum_verify(bytes)) {
    im.problem("superblock with a wrong checksum");
  }
  if (es.s_rev_level > EXT4_DYNAMIC_REV) im.problem(`revision ${es.s_rev_level}`);
  for (const set of ["compat", "incompat", "ro_compat"] as const) {
    const unknown = (es[`s_feature_${set}`] & ~KNOWN[set]) >>> 0;
    if (unknown !== 0) im.problem(`unknown ${set} feature bits 0x${unknown.toString(16)}`);
  }
  if (im.has("incompat", EXT4_FEATURE_INCOMPAT_RECOVER)) {
    im.problem("the journal has to be replayed");
  }
  if (es.s_state & EXT4_ERROR_FS) im.problem("the filesystem is marked as having errors");
  if (es.s_last_orphan !== 0) im.problem(`orphans are listed, from inode ${es.s_last_orphan} on`);
  if (
    im.has("ro_compat", EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT) ||
    (es.s_orphan_file_inum !== 0 && !im.has("compat", EXT4_FEATURE_COMPAT_ORPHAN_FILE))
  ) {
    im.problem("the orphan file may list orphans");
  }
  const external = es.s_journal_dev !== 0 || es.s_journal_uuid.some((x) => x !== 0);
  if (im.has("compat", EXT4_FEATURE_COMPAT_HAS_JOURNAL) && external) {
    im.problem("the journal would be on another device");
  }
  for (let g = 0; g < im.group_count; g++) {
    const gdp = im.desc(g);
    const uninit = gdp.bg_flags & (EXT4_BG_INODE_UNINIT | EXT4_BG_BLOCK_UNINIT);
    if (!im.has_group_csum && (uninit || gdp.bg_itable_unused_lo)) {
      im.problem("group marked as unused without the feature for it", { group: g });
    }
    const off = g * im.desc_size;
    if (!ext4_group_desc_csum_verify(es, im.seed, g, im.gdt, off, im.desc_size)) {
      im.problem("group descriptor with a wrong checksum", { group: g });
    }
  }
}

/** The first block of the journal is its superblock. */
function check_journal(im: ext4_image): void {
  if (!im.has("compat", EXT4_FEATURE_COMPAT_HAS_JOURNAL) || im.es.s_journal_inum === 0) return;
  const ino = im.es.s_journal_inum;
  if (!im.valid_ino(ino)) return im.problem(`the journal would be inode ${ino}`);
  const raw = im.inode(ino);
  const scratch = new ext4_image(im.dev, []);
  const walker = new map_walker(scratch, new owner_map(scratch), ino, 0);
  if (raw.i_flags & 0x80000) walker.extent_node(raw.i_block, undefined, 2 ** 32);
  else walker.indirect_map(raw.i_block);
  const first = walker.map.runs[0];
  if (!first || first.lblk !== 0) return im.problem("the journal has no first block", { ino });
  const jsb = journal_superblock.at(im.block(first.pblk));
  if (jsb.h_magic !== JBD2_MAGIC_NUMBER || jsb.s_blocksize !== im.blocksize) {
    im.problem("the journal has no valid superblock", { ino, block: first.pblk });
  }
}

/** Checks an image (or a device) without changing it. */
export function fsck_ext4(what: Uint8Array | fsck_device): fsck_report {
  const dev = "read" in what ? what : device_of(what);
  const problems: fsck_problem[] = [];
  const report = { valid: false, inodes: 0, dirs: 0, free_blocks: 0, free_inodes: 0 };
  try {
    const im = new ext4_image(dev, problems);
    report.valid = (im.es.s_state & EXT4_VALID_FS) !== 0;
    check_super(im);
    const st = pass1(im);
    report.inodes = st.inodes.size;
    report.dirs = st.dirs.size;
    check_journal(im);
    pass2(st);
    pass3(st);
    pass4(st);
    const free = pass5(st);
    report.free_blocks = free.free_clusters * im.cluster_ratio;
    report.free_inodes = free.free_inodes;
  } catch (err) {
    if (!(err instanceof FsckAbort)) throw err;
  }
  return { clean: problems.length === 0, problems, ...report };
}

/** Problems as lines for people. */
export function fsck_text(report: fsck_report): string {
  return report.problems
    .map(({ pass, message, ino, block, group }) => {
      const where = [
        ino === undefined ? "" : `inode ${ino}`,
        group === undefined ? "" : `group ${group}`,
        block === undefined ? "" : `block ${block}`,
      ].filter((x) => x !== "");
      return `pass ${pass}: ${where.length ? `${where.join(", ")}: ` : ""}${message}`;
    })
    .join("\n");
}
