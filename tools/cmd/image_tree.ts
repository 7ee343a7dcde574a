/**
 * tools/cmd/image_tree.ts - everything that a mounted filesystem shows, as the records of recorded
 * images have it (path, times, flags, extents, attributes, hash of the contents).
 *
 * Runs in a task of the Machine, on a mount: nothing is read from the media but through the VFS.
 * Hashing is the caller's, so that node's own can be used.
 */
import type { Errno } from "../../kernel/include/errno.ts";
import { is_errno } from "../../kernel/include/errno.ts";
import { O_NOATIME, O_RDONLY, SEEK_DATA, SEEK_HOLE } from "../../kernel/include/fcntl.ts";
import {
  FIEMAP_FLAG_XATTR,
  type dentry,
  type file,
  type fileattr,
  type inode,
  type kstat,
  LLONG_MAX,
  type path,
  type timespec64,
} from "../../kernel/include/fs.ts";
import {
  MAJOR,
  MINOR,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
  STATX_BTIME,
} from "../../kernel/include/stat.ts";
import { current_cred } from "../../kernel/cred.ts";
import { compare_bytes, name_to_bytes, sort_by_name } from "../../kernel/lib/utf8.ts";
import { fput } from "../../kernel/vfs/file.ts";
import { new_iov_iter_bytes } from "../../mm/iov_iter.ts";
import { dput } from "../../fs/dcache.ts";
import { vfs_open } from "../../fs/file_open.ts";
import { __lookup } from "../../fs/namei/walk.ts";
import { vfs_iter_read } from "../../fs/read_write.ts";
import { iterate_dir } from "../../fs/readdir.ts";
import { new_kstat, vfs_getattr } from "../../fs/stat.ts";

/** A SHA-256 under way. */
export interface sha256 {
  update(bytes: Uint8Array): void;
  hex(): string;
}

export type tree_entry = Record<string, unknown>;

/** Files above this many bytes are hashed by data segment. */
const BIG = 64 * 2 ** 20;
const CHUNK = 2 ** 20;
const STATX_SHOWN = 0x200874;

const KINDS: ReadonlyMap<number, string> = new Map([
  [S_IFREG, "file"],
  [S_IFDIR, "dir"],
  [S_IFLNK, "symlink"],
  [S_IFIFO, "fifo"],
  [S_IFSOCK, "socket"],
  [S_IFCHR, "char"],
  [S_IFBLK, "block"],
]);

const hex = (b: Uint8Array): string =>
  Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
const hex8 = (n: number): string => `0x${(n >>> 0).toString(16).padStart(8, "0")}`;
const time = (t: timespec64): [number, number] => [t.tv_sec, t.tv_nsec];

const is_lone = (c: number): boolean => c >= 0xdc80 && c <= 0xdcff;
/** A name whose bytes are not UTF-8 is shown in hex. */
function name_field(key: string, name: string): tree_entry {
  for (let i = 0; i < name.length; i++) {
    const c = name.charCodeAt(i);
    if (c >= 0xd800 && c < 0xdc00) i++;
    else if (is_lone(c)) return { [`${key}_hex`]: hex(name_to_bytes(name)) };
  }
  return { [key]: name };
}

interface walk {
  readonly new_sha256: () => sha256;
  /** First path of each inode seen. */
  readonly seen: Map<number, string>;
  readonly out: { key: Uint8Array; entry: tree_entry }[];
  readonly progress: ((done: number) => void) | undefined;
}

async function list_names(f: file): Promise<string[]> {
  const names: string[] = [];
  const ctx = {
    pos: 0,
    actor(name: string): boolean {
      if (name !== "." && name !== "..") names.push(name);
      return true;
    },
  };
  f.f_pos = 0;
  await iterate_dir(f, ctx);
  return sort_by_name(names, (name) => name);
}

async function get_xattr(inode: inode, name: string): Promise<Uint8Array> {
  for (const h of inode.i_sb.s_xattr) {
    if (h.prefix === name) return h.get(inode, "");
    if (h.prefix.endsWith(".") && name.startsWith(h.prefix)) {
      return h.get(inode, name.slice(h.prefix.length));
    }
  }
  throw new Error(`no handler for attribute ${name}`);
}

async function add_xattrs(e: tree_entry, d: dentry): Promise<void> {
  const inode = d.d_inode!;
  const list = inode.i_op.listxattr;
  if (!list) return;
  try {
    const names = (await list.call(inode.i_op, d)).sort();
    if (names.length === 0) return;
    const xa: Record<string, string> = {};
    for (const n of names) xa[n] = hex(await get_xattr(inode, n));
    e.xattrs = xa;
  } catch (err) {
    if (!is_errno(err)) throw err;
    e.xattrs_error = err.code;
  }
}

const NO_MAP: readonly string[] = Object.freeze(["EOPNOTSUPP", "ENOTTY", "ENOENT", "EBADR"]);

/** [logical, physical, length, flags] in bytes; null when the file has no map. */
async function fiemap(inode: inode, flags: number): Promise<unknown[] | null> {
  const op = inode.i_op.fiemap;
  if (!op) return null;
  const fi = { fi_flags: flags, fi_extents_max: 1e9, fi_extents_mapped: 0, fi_extents: [] };
  try {
    await op.call(inode.i_op, inode, fi, 0, LLONG_MAX);
  } catch (err) {
    if (!is_errno(err)) throw err;
    return NO_MAP.includes(err.code) ? null : [["error", err.code]];
  }
  return (fi.fi_extents as import("../../kernel/include/fs.ts").fiemap_extent[]).map((x) => [
    x.fe_logical,
    x.fe_physical,
    x.fe_length,
    `0x${x.fe_flags.toString(16)}`,
  ]);
}

/** Hashes [from, to); throws what the read throws. */
async function hash_range(f: file, from: number, to: number, h: sha256): Promise<void> {
  const buf = new Uint8Array(Math.min(CHUNK, Math.max(1, to - from)));
  for (let pos = from; pos < to; ) {
    const want = buf.subarray(0, Math.min(buf.length, to - pos));
    const n = await vfs_iter_read(f, new_iov_iter_bytes(f.kernel, false, [want]), pos);
    if (n === 0) break;
    h.update(buf.subarray(0, n));
    pos += n;
  }
}

async function add_contents(w: walk, e: tree_entry, f: file, size: number): Promise<void> {
  const llseek = f.f_op.llseek;
  if (size <= BIG || !llseek) {
    const h = w.new_sha256();
    try {
      await hash_range(f, 0, size, h);
      e.sha256 = h.hex();
    } catch (err) {
      if (!is_errno(err)) throw err;
      e.read_error = err.code;
    }
    return;
  }
  const segments: [number, number, string][] = [];
  for (let pos = 0; pos < size; ) {
    let data: number;
    try {
      data = await llseek.call(f.f_op, f, pos, SEEK_DATA);
    } catch (err) {
      if (!is_errno(err)) throw err;
      break;
    }
    const hole = await llseek.call(f.f_op, f, data, SEEK_HOLE);
    const h = w.new_sha256();
    await hash_range(f, data, hole, h);
    segments.push([data, hole - data, h.hex()]);
    pos = hole;
  }
  e.data_segments = segments;
}

const new_fileattr = (): fileattr => ({
  flags: 0,
  fsx_xflags: 0,
  fsx_extsize: 0,
  fsx_nextents: 0,
  fsx_projid: 0,
  fsx_cowextsize: 0,
  flags_valid: false,
  fsx_valid: false,
});

/** What only an open file shows. */
async function add_opened(w: walk, e: tree_entry, f: file, size: number): Promise<void> {
  const inode = f.f_inode;
  const get = inode.i_op.fileattr_get;
  if (get) {
    const fa = new_fileattr();
    await get.call(inode.i_op, f.f_path.dentry, fa);
    e.flags = hex8(fa.flags);
    e.fsx = {
      xflags: hex8(fa.fsx_xflags),
      extsize: fa.fsx_extsize,
      nextents: fa.fsx_nextents,
      projid: fa.fsx_projid,
      cowextsize: fa.fsx_cowextsize,
    };
  }
  const extents = await fiemap(inode, 0);
  if (extents) e.extents = extents;
  const attrs = await fiemap(inode, FIEMAP_FLAG_XATTR);
  if (attrs && attrs.length > 0) e.xattr_extents = attrs;
  if (e.type === "file") await add_contents(w, e, f, size);
}

function add_stat(e: tree_entry, st: kstat): void {
  e.mode = (st.mode & 0o7777).toString(8).padStart(4, "0");
  e.uid = st.uid;
  e.gid = st.gid;
  e.nlink = st.nlink;
  e.size = st.size;
  e.blocks512 = st.blocks;
  e.atime = time(st.atime);
  if (st.btime) e.btime = time(st.btime);
  e.ctime = time(st.ctime);
  e.mtime = time(st.mtime);
  e.statx_attributes = `0x${(st.attributes & STATX_SHOWN).toString(16)}`;
  if (e.type === "char" || e.type === "block") e.rdev = `${MAJOR(st.rdev)}:${MINOR(st.rdev)}`;
}

async function add_target(e: tree_entry, d: dentry): Promise<void> {
  const inode = d.d_inode!;
  const target = inode.i_link ?? (await inode.i_op.get_link!(d, inode));
  Object.assign(e, name_field("target", target));
}

/** One name: its record, and for a directory the names in it. */
async function visit(w: walk, at: path, rel: string): Promise<string[]> {
  const st = new_kstat();
  await vfs_getattr(at, st, STATX_BTIME, 0);
  const type = KINDS.get(st.mode & S_IFMT) ?? "unknown";
  const shown = rel === "" ? "/" : rel;
  const e: tree_entry = { ...name_field("path", shown), ino: st.ino, type };
  w.out.push({ key: name_to_bytes(shown), entry: e });
  w.progress?.(w.out.length);
  const openable = type === "file" || type === "dir";
  let f: file | null = null;
  let error: Errno | null = null;
  let names: string[] = [];
  try {
    if (openable) {
      f = await vfs_open(
        at.mnt.mnt_sb.kernel,
        at,
        O_RDONLY | O_NOATIME,
        current_cred(at.mnt.mnt_sb.kernel),
      );
    }
  } catch (err) {
    if (!is_errno(err)) throw err;
    error = err;
  }
  try {
    if (type === "dir" && f) {
      names = await list_names(f);
      e.entries = names.length;
    }
    const first = w.seen.get(st.ino);
    if (type !== "dir" && st.nlink > 1 && first !== undefined) {
      Object.assign(e, name_field("hardlink_of", first));
      return names;
    }
    w.seen.set(st.ino, shown);
    add_stat(e, st);
    if (type === "symlink") await add_target(e, at.dentry);
    await add_xattrs(e, at.dentry);
    if (error) e.open_error = error.code;
    if (f) await add_opened(w, e, f, st.size);
  } finally {
    if (f) await fput(f);
  }
  return names;
}

async function descend(w: walk, at: path, rel: string): Promise<void> {
  const names = await visit(w, at, rel);
  for (const name of names) {
    const d = await __lookup(at.dentry, name, 0);
    try {
      if (d.d_inode) await descend(w, { mnt: at.mnt, dentry: d }, `${rel}/${name}`);
    } finally {
      await dput(d);
    }
  }
}

/**
 * Records of everything below `root`, sorted by the bytes of their paths. Errors of reading one
 * file are in its record (open_error, read_error, xattrs_error); what cannot be listed or looked up
 * is thrown.
 */
export async function image_tree(
  root: path,
  new_sha256: () => sha256,
  progress?: (done: number) => void,
): Promise<tree_entry[]> {
  const w: walk = { new_sha256, seen: new Map(), out: [], progress };
  await descend(w, root, "");
  w.out.sort((a, b) => compare_bytes(a.key, b.key));
  return w.out.map((x) => x.entry);
}

/** The tree as the manifests print it: one line for each path. */
export function format_tree(tree: readonly tree_entry[]): string {
  const line = (e: tree_entry) =>
    JSON.stringify(e).replace(
      /[\u0080-\uffff]/g,
      (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
  return `[\n${tree.map((e) => ` ${line(e)}`).join(",\n")}\n]\n`;
}
