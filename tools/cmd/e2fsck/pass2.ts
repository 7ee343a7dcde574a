/**
 * tools/cmd/e2fsck/pass2.ts - directories: entries, checksums, hash trees (pass 2), and then
 * whether every directory hangs where its ".." says (pass 3) and every inode has its number of
 * names (pass 4).
 */

import {
  DX_HASH_SIPHASH,
  DX_HASH_TEA,
  EXT4_CASEFOLD_FL,
  EXT4_ENCRYPT_FL,
  EXT4_FEATURE_COMPAT_DIR_INDEX,
  EXT4_FEATURE_INCOMPAT_FILETYPE,
  EXT4_FEATURE_INCOMPAT_LARGEDIR,
  EXT4_FEATURE_RO_COMPAT_DIR_NLINK,
  EXT4_FT_DIR,
  EXT4_FT_DIR_CSUM,
  EXT4_INDEX_FL,
  EXT4_LINK_MAX,
  EXT4_ROOT_INO,
} from "../../../fs/ext4/ext4.ts";
import { ext4_dirblock_csum_verify, ext4_dx_csum_verify } from "../../../fs/ext4/csum.ts";
import { ext4fs_dirhash } from "../../../fs/ext4/hash.ts";
import { bytes_to_name } from "../../../kernel/lib/utf8.ts";
import { view_of } from "./blocks.ts";
import { type dir_info, type fsck_state, is_ea_inode, S_IFDIR, S_IFMT } from "./pass1.ts";

/** File type of a directory entry for each value of mode >> 12. */
const FT_OF_MODE = Object.freeze([0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6]);

/** Lowest and highest hash among a block's names; undefined bounds when it has none. */
interface hash_range {
  min: number;
  max: number;
}

class dir_checker {
  readonly st: fsck_state;
  readonly dir: dir_info;
  readonly names = new Set<string>();
  readonly hashed: boolean;
  hash_version = 0;
  private range: hash_range = { min: Infinity, max: -1 };

  constructor(st: fsck_state, dir: dir_info) {
    this.st = st;
    this.dir = dir;
    const no_hash = dir.flags & (EXT4_CASEFOLD_FL | EXT4_ENCRYPT_FL);
    this.hashed = no_hash === 0;
  }
  bad(message: string, block?: number): void {
    const ino = this.dir.ino;
    this.st.im.problem(message, block === undefined ? { ino } : { ino, block });
  }

  /**
   * Entries of `b` from `at` to `end`. `dots`: the first two have to be "." and "..".
   */
  entries(b: Uint8Array, at: number, end: number, dots: boolean, block?: number): hash_range {
    this.range = { min: Infinity, max: -1 };
    const v = view_of(b);
    let index = 0;
    while (at < end) {
      if (at + 8 > end) {
        this.bad(`${end - at} bytes at the end of a directory block`, block);
        break;
      }
      let rec_len = v.getUint16(at + 4, true);
      if (b.length === 65536 && (rec_len === 65535 || rec_len === 0)) rec_len = 65536;
      const name_len = this.name_len(v, at);
      if (rec_len < 12 || rec_len % 4 !== 0 || at + rec_len > end || 8 + name_len > rec_len) {
        this.bad(`directory entry at ${at}: length ${rec_len}, name of ${name_len}`, block);
        break;
      }
      const ino = v.getUint32(at, true);
      const name = b.subarray(at + 8, at + 8 + name_len);
      if (dots && index < 2) this.dot(index, b, at, block);
      else if (ino !== 0) this.entry(ino, name, b[at + 7]!, block);
      at += rec_len;
      index++;
    }
    if (dots && index < 2) this.bad('"." or ".." is missing', block);
    return this.range;
  }
  private name_len(v: DataView, at: number): number {
    const typed = this.st.im.has("incompat", EXT4_FEATURE_INCOMPAT_FILETYPE);
    return typed ? v.getUint8(at + 6) : v.getUint16(at + 6, true);
  }

  private dot(index: number, b: Uint8Array, at: number, block: number | undefined): void {
    const ino = view_of(b).getUint32(at, true);
    const type = b[at + 7]!;
    const name = b.subarray(at + 8, at + 8 + b[at + 6]!);
    const text = bytes_to_name(name);
    const typed = this.st.im.has("incompat", EXT4_FEATURE_INCOMPAT_FILETYPE);
    if (type !== (typed ? EXT4_FT_DIR : 0)) this.bad(`"${text}" has type ${type}`, block);
    if (text !== ".".repeat(index + 1)) this.bad(`entry ${index} is "${text}"`, block);
    if (b[at + 8 + text.length] !== 0) this.bad(`"${text}" is not followed by a zero`, block);
    if (index === 0 && ino !== this.dir.ino) this.bad(`"." is inode ${ino}`, block);
    if (index === 1) this.dir.dotdot = ino;
    const info = this.st.inodes.get(ino);
    if (info) info.names++;
  }

  private entry(ino: number, name: Uint8Array, type: number, block: number | undefined): void {
    const { im, inodes, dirs } = this.st;
    const text = bytes_to_name(name);
    const what = `entry "${text}"`;
    if (name.length === 0) this.bad("entry without a name", block);
    if (name.includes(0) || name.includes(0x2f)) this.bad(`${what} has a forbidden byte`, block);
    if (text === "." || text === "..") this.bad(`a second ${what}`, block);
    if (this.names.has(text)) this.bad(`${what} occurs twice`, block);
    this.names.add(text);
    this.hash(name);
    const info = inodes.get(ino);
    if (!im.valid_ino(ino) || (ino < im.first_ino && ino !== EXT4_ROOT_INO)) {
      return this.bad(`${what} has inode number ${ino}`, block);
    }
    if (!info) return this.bad(`${what} has inode ${ino}, which is unused`, block);
    if (is_ea_inode(info)) this.bad(`${what} is an attribute's value`, block);
    info.names++;
    if (im.has("incompat", EXT4_FEATURE_INCOMPAT_FILETYPE)) {
      const expected = FT_OF_MODE[info.mode >>> 12]!;
      if (type !== expected) this.bad(`${what} has type ${type}, its inode ${expected}`, block);
    }
    const sub = dirs.get(ino);
    if (!sub) return;
    if (sub.parent !== 0 || ino === EXT4_ROOT_INO)
      this.bad(`${what} names a directory again`, block);
    else sub.parent = this.dir.ino;
  }

  private hash(name: Uint8Array): void {
    if (!this.hashed || !(this.dir.flags & EXT4_INDEX_FL)) return;
    const h = ext4fs_dirhash(name, this.hash_version, this.st.im.es.s_hash_seed);
    if (!h) return;
    this.range.min = Math.min(this.range.min, h.hash);
    this.range.max = Math.max(this.range.max, h.hash);
  }

  /** A block of plain entries, the last 12 bytes being its tail with metadata_csum. */
  leaf(lblk: number, pblk: number, dots: boolean): hash_range {
    const b = this.st.im.block(pblk);
    let end = b.length;
    if (this.st.im.has_csum) {
      if (!ext4_dirblock_csum_verify(this.dir.inode_seed, b)) {
        this.bad(`directory block ${lblk} with a wrong checksum`, pblk);
      }
      if (b[end - 5] === EXT4_FT_DIR_CSUM) end -= 12;
    }
    return this.entries(b, 0, end, dots, pblk);
  }

  // --- inline directories ---------------------------------------------------------------------

  inline(): void {
    const { im } = this.st;
    const bytes = im.inode_bytes(this.dir.ino);
    this.dir.dotdot = view_of(bytes).getUint32(40, true);
    const parent = this.st.inodes.get(this.dir.dotdot);
    if (parent) parent.names++;
    const own = this.st.inodes.get(this.dir.ino)!;
    own.names++;
    this.entries(bytes.subarray(44, 100), 0, 56, false);
    const rest = this.dir.inline_rest;
    if (rest && rest.len > 0) {
      this.entries(bytes.subarray(rest.off, rest.off + rest.len), 0, rest.len, false);
    }
  }

  // --- hash trees -----------------------------------------------------------------------------

  /**
   * All blocks by logical number, checked through the tree; each leaf has to be referred to once.
   */
  tree(blocks: readonly number[]): void {
    const root = this.st.im.block(blocks[0]!);
    const v = view_of(root);
    const info = 24;
    const version = root[info + 4]!;
    const levels = root[info + 6]!;
    const most = this.st.im.has("incompat", EXT4_FEATURE_INCOMPAT_LARGEDIR) ? 2 : 1;
    this.entries(root, 0, root.length, true, blocks[0]);
    // ".." hides the tree from those who do not know it
    if (v.getUint16(16, true) !== Math.min(root.length - 12, 65535)) {
      return this.bad('hash tree root that is not covered by its ".."', blocks[0]);
    }
    if (v.getUint32(info, true) !== 0 || root[info + 5] !== 8 || levels > most) {
      return this.bad("hash tree with a bad root", blocks[0]);
    }
    if (version > DX_HASH_SIPHASH) return this.bad(`hash version ${version}`, blocks[0]);
    const unsigned = (this.st.im.es.s_flags & 2) !== 0;
    this.hash_version = version + (version <= DX_HASH_TEA && unsigned ? 3 : 0);
    const seen = new Set<number>([0]);
    this.node(blocks, 0, 32, levels, 0, Infinity, seen);
    for (let lblk = 1; lblk < blocks.length; lblk++) {
      if (!seen.has(lblk)) this.bad(`block ${lblk} is not in the hash tree`, blocks[lblk]);
    }
  }

  /**
   * The node in block `lblk`, whose entries begin at `off` and cover hashes from `low` to `high`.
   */
  private node(
    blocks: readonly number[],
    lblk: number,
    off: number,
    levels: number,
    low: number,
    high: number,
    seen: Set<number>,
  ): void {
    const pblk = blocks[lblk]!;
    const b = this.st.im.block(pblk);
    const v = view_of(b);
    if (this.st.im.has_csum && !ext4_dx_csum_verify(this.dir.inode_seed, b)) {
      this.bad(`hash tree block ${lblk} with a wrong checksum`, pblk);
    }
    const limit = v.getUint16(off, true);
    const count = v.getUint16(off + 2, true);
    const room = Math.floor((b.length - off - (this.st.im.has_csum ? 8 : 0)) / 8);
    if (limit !== room || count > limit || count === 0) {
      return this.bad(`hash tree block ${lblk} with ${count} of ${limit} entries`, pblk);
    }
    let before = low;
    for (let i = 0; i < count; i++) {
      const from = i === 0 ? low : v.getUint32(off + 8 * i, true);
      const to = i + 1 < count ? v.getUint32(off + 8 * (i + 1), true) : high;
      const child = v.getUint32(off + 8 * i + 4, true) & 0x0fffffff;
      if (from < before) this.bad(`hash tree block ${lblk} is out of order`, pblk);
      before = from;
      this.child(blocks, child, levels, from, to, seen);
    }
  }

  private child(
    blocks: readonly number[],
    lblk: number,
    levels: number,
    from: number,
    to: number,
    seen: Set<number>,
  ): void {
    if (lblk === 0 || lblk >= blocks.length || seen.has(lblk)) {
      return this.bad(`hash tree refers to block ${lblk}`, blocks[0]);
    }
    seen.add(lblk);
    if (levels > 0) return this.node(blocks, lblk, 8, levels - 1, from, to, seen);
    const { min, max } = this.leaf(lblk, blocks[lblk]!, false);
    // an odd bound means that names of the hash before it go on in the next block
    const even = (h: number) => h - (h % 2);
    if (max < 0) return;
    if (min < even(from) || max > to || (max === to && to % 2 === 0)) {
      this.bad(`block ${lblk} has hashes outside its part of the tree`, blocks[lblk]);
    }
  }
}

function check_directory(st: fsck_state, dir: dir_info): void {
  const c = new dir_checker(st, dir);
  if (dir.inline) return c.inline();
  const blocks: number[] = [];
  for (const r of dir.map.runs) {
    if (r.unwritten) c.bad(`directory block ${r.lblk} is unwritten`);
    for (let i = 0; i < r.len; i++) blocks[r.lblk + i] = r.pblk + i;
    if (blocks.length > 1 << 22) return c.bad("directory with too many blocks");
  }
  for (let lblk = 0; lblk < blocks.length; lblk++) {
    if (blocks[lblk] === undefined) return c.bad(`directory block ${lblk} is missing`);
  }
  if (blocks.length === 0) return;
  if (dir.flags & EXT4_INDEX_FL) {
    if (!st.im.has("compat", EXT4_FEATURE_COMPAT_DIR_INDEX)) c.bad("hash tree without the feature");
    c.tree(blocks);
  } else {
    for (const [lblk, pblk] of blocks.entries()) c.leaf(lblk, pblk, lblk === 0);
  }
}

export function pass2(st: fsck_state): void {
  st.im.pass = 2;
  for (const dir of st.dirs.values()) check_directory(st, dir);
}

/** Every directory leads to the root. */
export function pass3(st: fsck_state): void {
  const { im, dirs } = st;
  im.pass = 3;
  const root = dirs.get(EXT4_ROOT_INO)!;
  root.parent = EXT4_ROOT_INO;
  const connected = new Set<number>([EXT4_ROOT_INO]);
  for (const dir of dirs.values()) {
    const path: number[] = [];
    let at: dir_info | undefined = dir;
    while (at && !connected.has(at.ino) && !path.includes(at.ino)) {
      path.push(at.ino);
      at = dirs.get(at.parent);
    }
    if (at && connected.has(at.ino)) for (const ino of path) connected.add(ino);
    else im.problem("directory without a way to the root", { ino: dir.ino });
    if (dir.parent !== 0 && dir.dotdot !== dir.parent) {
      im.problem(`".." is inode ${dir.dotdot}, the parent is ${dir.parent}`, { ino: dir.ino });
    }
  }
}

/** Link counts. */
export function pass4(st: fsck_state): void {
  const { im } = st;
  im.pass = 4;
  for (const info of st.inodes.values()) {
    const { ino } = info;
    if ((ino < im.first_ino && ino !== EXT4_ROOT_INO) || is_ea_inode(info)) continue;
    if (named_by_superblock(st, ino)) continue;
    if (info.names === 0) {
      im.problem("inode in use without a name", { ino });
      continue;
    }
    const many = (info.mode & S_IFMT) === S_IFDIR && info.names >= EXT4_LINK_MAX;
    const nlink = im.has("ro_compat", EXT4_FEATURE_RO_COMPAT_DIR_NLINK);
    if (many && nlink && info.links === 1) continue;
    // a directory that once had too many keeps its count of 1
    if ((info.mode & S_IFMT) === S_IFDIR && nlink && info.links === 1 && info.names > 1) continue;
    if (info.links !== info.names) {
      im.problem(`link count is ${info.links}, should be ${info.names}`, { ino });
    }
  }
}

function named_by_superblock(st: fsck_state, ino: number): boolean {
  const { es } = st.im;
  return ino === es.s_orphan_file_inum || ino === es.s_prj_quota_inum;
}
