/**
 * tools/cmd/mke2fs/profile.ts - feature names and the defaults of mkfs.ext2/3/4.
 * The defaults are those of mke2fs.conf as e2fsprogs 1.47 comes with Debian 12.
 */

import {
  EXT4_FEATURE_COMPAT_DIR_INDEX,
  EXT4_FEATURE_COMPAT_EXT_ATTR,
  EXT4_FEATURE_COMPAT_FAST_COMMIT,
  EXT4_FEATURE_COMPAT_HAS_JOURNAL,
  EXT4_FEATURE_COMPAT_ORPHAN_FILE,
  EXT4_FEATURE_COMPAT_RESIZE_INODE,
  EXT4_FEATURE_COMPAT_SPARSE_SUPER2,
  EXT4_FEATURE_COMPAT_STABLE_INODES,
  EXT4_FEATURE_INCOMPAT_64BIT,
  EXT4_FEATURE_INCOMPAT_CASEFOLD,
  EXT4_FEATURE_INCOMPAT_CSUM_SEED,
  EXT4_FEATURE_INCOMPAT_EA_INODE,
  EXT4_FEATURE_INCOMPAT_ENCRYPT,
  EXT4_FEATURE_INCOMPAT_EXTENTS,
  EXT4_FEATURE_INCOMPAT_FILETYPE,
  EXT4_FEATURE_INCOMPAT_FLEX_BG,
  EXT4_FEATURE_INCOMPAT_INLINE_DATA,
  EXT4_FEATURE_INCOMPAT_JOURNAL_DEV,
  EXT4_FEATURE_INCOMPAT_LARGEDIR,
  EXT4_FEATURE_INCOMPAT_META_BG,
  EXT4_FEATURE_INCOMPAT_MMP,
  EXT4_FEATURE_RO_COMPAT_BIGALLOC,
  EXT4_FEATURE_RO_COMPAT_DIR_NLINK,
  EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE,
  EXT4_FEATURE_RO_COMPAT_GDT_CSUM,
  EXT4_FEATURE_RO_COMPAT_HUGE_FILE,
  EXT4_FEATURE_RO_COMPAT_LARGE_FILE,
  EXT4_FEATURE_RO_COMPAT_METADATA_CSUM,
  EXT4_FEATURE_RO_COMPAT_PROJECT,
  EXT4_FEATURE_RO_COMPAT_QUOTA,
  EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER,
  EXT4_FEATURE_RO_COMPAT_VERITY,
} from "../../../fs/ext4/ext4.ts";

export type feature_set = "compat" | "incompat" | "ro_compat";

/** The three feature words of a superblock. */
export interface features {
  compat: number;
  incompat: number;
  ro_compat: number;
}

type feature_row = readonly [name: string, set: feature_set, mask: number];

/** Every feature that -O takes, with the other spellings in use. */
export const FEATURES: readonly feature_row[] = Object.freeze([
  ["has_journal", "compat", EXT4_FEATURE_COMPAT_HAS_JOURNAL],
  ["ext_attr", "compat", EXT4_FEATURE_COMPAT_EXT_ATTR],
  ["resize_inode", "compat", EXT4_FEATURE_COMPAT_RESIZE_INODE],
  ["dir_index", "compat", EXT4_FEATURE_COMPAT_DIR_INDEX],
  ["sparse_super2", "compat", EXT4_FEATURE_COMPAT_SPARSE_SUPER2],
  ["fast_commit", "compat", EXT4_FEATURE_COMPAT_FAST_COMMIT],
  ["stable_inodes", "compat", EXT4_FEATURE_COMPAT_STABLE_INODES],
  ["orphan_file", "compat", EXT4_FEATURE_COMPAT_ORPHAN_FILE],
  ["sparse_super", "ro_compat", EXT4_FEATURE_RO_COMPAT_SPARSE_SUPER],
  ["large_file", "ro_compat", EXT4_FEATURE_RO_COMPAT_LARGE_FILE],
  ["huge_file", "ro_compat", EXT4_FEATURE_RO_COMPAT_HUGE_FILE],
  ["uninit_bg", "ro_compat", EXT4_FEATURE_RO_COMPAT_GDT_CSUM],
  ["uninit_groups", "ro_compat", EXT4_FEATURE_RO_COMPAT_GDT_CSUM],
  ["dir_nlink", "ro_compat", EXT4_FEATURE_RO_COMPAT_DIR_NLINK],
  ["extra_isize", "ro_compat", EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE],
  ["quota", "ro_compat", EXT4_FEATURE_RO_COMPAT_QUOTA],
  ["bigalloc", "ro_compat", EXT4_FEATURE_RO_COMPAT_BIGALLOC],
  ["metadata_csum", "ro_compat", EXT4_FEATURE_RO_COMPAT_METADATA_CSUM],
  ["project", "ro_compat", EXT4_FEATURE_RO_COMPAT_PROJECT],
  ["verity", "ro_compat", EXT4_FEATURE_RO_COMPAT_VERITY],
  ["filetype", "incompat", EXT4_FEATURE_INCOMPAT_FILETYPE],
  ["journal_dev", "incompat", EXT4_FEATURE_INCOMPAT_JOURNAL_DEV],
  ["extent", "incompat", EXT4_FEATURE_INCOMPAT_EXTENTS],
  ["extents", "incompat", EXT4_FEATURE_INCOMPAT_EXTENTS],
  ["meta_bg", "incompat", EXT4_FEATURE_INCOMPAT_META_BG],
  ["64bit", "incompat", EXT4_FEATURE_INCOMPAT_64BIT],
  ["mmp", "incompat", EXT4_FEATURE_INCOMPAT_MMP],
  ["flex_bg", "incompat", EXT4_FEATURE_INCOMPAT_FLEX_BG],
  ["ea_inode", "incompat", EXT4_FEATURE_INCOMPAT_EA_INODE],
  ["metadata_csum_seed", "incompat", EXT4_FEATURE_INCOMPAT_CSUM_SEED],
  ["large_dir", "incompat", EXT4_FEATURE_INCOMPAT_LARGEDIR],
  ["inline_data", "incompat", EXT4_FEATURE_INCOMPAT_INLINE_DATA],
  ["encrypt", "incompat", EXT4_FEATURE_INCOMPAT_ENCRYPT],
  ["casefold", "incompat", EXT4_FEATURE_INCOMPAT_CASEFOLD],
] as const);

/**
 * Applies a list like `^has_journal,quota` or `none,extent`. Returns the word that is no feature,
 * or undefined when all went well.
 */
export function edit_feature(list: string, f: features): string | undefined {
  for (const word of list.split(/[,\s]+/)) {
    if (word === "") continue;
    const lower = word.toLowerCase();
    if (lower === "none" || lower === "clear") {
      f.compat = f.incompat = f.ro_compat = 0;
      continue;
    }
    const clear = lower[0] === "^" || lower[0] === "-";
    const name = clear || lower[0] === "+" ? lower.slice(1) : lower;
    const row = FEATURES.find((r) => r[0] === name);
    if (!row) return word;
    if (clear) f[row[1]] &= ~row[2];
    else f[row[1]] |= row[2];
  }
  return undefined;
}

/** What one section of mke2fs.conf may say. */
export interface fs_type {
  readonly features?: string;
  readonly blocksize?: number;
  readonly inode_size?: number;
  readonly inode_ratio?: number;
}

export const DEFAULTS = Object.freeze({
  base_features: "sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr",
  blocksize: 4096,
  inode_size: 256,
  inode_ratio: 16384,
});

export const FS_TYPES: Readonly<Record<string, fs_type>> = Object.freeze({
  ext2: {},
  ext3: { features: "has_journal" },
  ext4: {
    features: "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize",
  },
  default: {},
  small: { blocksize: 1024, inode_ratio: 4096 },
  floppy: { blocksize: 1024, inode_ratio: 8192 },
  big: { inode_ratio: 32768 },
  huge: { inode_ratio: 65536 },
  news: { inode_ratio: 4096 },
  largefile: { inode_ratio: 1048576, blocksize: -1 },
  largefile4: { inode_ratio: 4194304, blocksize: -1 },
  hurd: { blocksize: 4096, inode_size: 128 },
});

/** The size class that stands for "no -T given". `bytes`: size of the filesystem to be. */
export function size_type(bytes: number): string {
  const MiB = 2 ** 20;
  if (bytes < 3 * MiB) return "floppy";
  if (bytes < 512 * MiB) return "small";
  if (bytes < 4 * 2 ** 40) return "default";
  return bytes < 16 * 2 ** 40 ? "big" : "huge";
}

/** A number from the last of the types that says it, else the default. */
export function from_profile(
  types: readonly string[],
  key: "blocksize" | "inode_size" | "inode_ratio",
): number {
  let value: number = DEFAULTS[key];
  for (const type of types) value = FS_TYPES[type]?.[key] ?? value;
  return value;
}
