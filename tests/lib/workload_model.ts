/**
 * tests/lib/workload_model.ts - what a filesystem should hold: names, links, contents, attributes.
 * Knows nothing of blocks; sizes and offsets are bytes.
 */
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID } from "../../kernel/include/stat.ts";

const CHUNK = 1024;

/** Contents of a file; what was never written reads as zeros and costs nothing. */
export class Contents {
  size = 0;
  private chunks = new Map<number, Uint8Array>();

  read(pos: number, len: number): Uint8Array {
    const n = Math.max(0, Math.min(len, this.size - pos));
    const out = new Uint8Array(n);
    for (let done = 0; done < n; ) {
      const [i, at] = [Math.floor((pos + done) / CHUNK), (pos + done) % CHUNK];
      const m = Math.min(CHUNK - at, n - done);
      const c = this.chunks.get(i);
      if (c) out.set(c.subarray(at, at + m), done);
      done += m;
    }
    return out;
  }
  write(pos: number, bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const [i, at] = [Math.floor((pos + done) / CHUNK), (pos + done) % CHUNK];
      const m = Math.min(CHUNK - at, bytes.length - done);
      let c = this.chunks.get(i);
      if (!c) this.chunks.set(i, (c = new Uint8Array(CHUNK)));
      c.set(bytes.subarray(done, done + m), at);
      done += m;
    }
    if (bytes.length > 0) this.size = Math.max(this.size, pos + bytes.length);
  }
  /** Zeros within the size; the size stays. */
  zero(pos: number, len: number): void {
    const end = Math.min(pos + len, this.size);
    for (const [i, c] of this.chunks) {
      const from = Math.max(pos, i * CHUNK);
      const to = Math.min(end, (i + 1) * CHUNK);
      if (from >= to) continue;
      if (to - from === CHUNK) this.chunks.delete(i);
      else c.fill(0, from - i * CHUNK, to - i * CHUNK);
    }
  }
  truncate(size: number): void {
    if (size < this.size) this.zero(size, this.size - size);
    this.size = size;
  }
  /** `pos` and `len` in whole kibibytes. */
  collapse(pos: number, len: number): void {
    const moved = new Map<number, Uint8Array>();
    const [first, n] = [pos / CHUNK, len / CHUNK];
    for (const [i, c] of this.chunks) {
      if (i < first) moved.set(i, c);
      else if (i >= first + n) moved.set(i - n, c);
    }
    this.chunks = moved;
    this.size -= len;
  }
  insert(pos: number, len: number): void {
    const moved = new Map<number, Uint8Array>();
    for (const [i, c] of this.chunks) moved.set(i < pos / CHUNK ? i : i + len / CHUNK, c);
    this.chunks = moved;
    this.size += len;
  }
  /** Are the bytes of [pos, pos + len) zeros? */
  is_zero(pos: number, len: number): boolean {
    const end = Math.min(pos + len, this.size);
    for (const [i, c] of this.chunks) {
      const from = Math.max(pos, i * CHUNK);
      const to = Math.min(end, (i + 1) * CHUNK);
      if (from < to && c.subarray(from - i * CHUNK, to - i * CHUNK).some((x) => x !== 0)) {
        return false;
      }
    }
    return true;
  }
  /** Ranges of whole chunks that may hold data, ascending. */
  ranges(): { pos: number; len: number }[] {
    const at = [...this.chunks.keys()].sort((a, b) => a - b);
    return at
      .map((i) => ({ pos: i * CHUNK, len: Math.min(CHUNK, this.size - i * CHUNK) }))
      .filter((r) => r.len > 0);
  }
}

/** An inode. */
export interface Node {
  readonly id: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  xattrs: Map<string, Uint8Array>;
  /** Regular files: null while nobody looked. */
  data: Contents | null;
  /** Symlinks. */
  target: string;
  /** Directories. */
  entries: Map<string, Node> | null;
  /** Descriptors and mappings. */
  users: number;
  /** Not ours to change: immutable, journalled, made by others in a way not followed here. */
  fixed: boolean;
}

export const is_dir = (n: Node): boolean => (n.mode & S_IFMT) === S_IFDIR;
export const is_reg = (n: Node): boolean => (n.mode & S_IFMT) === S_IFREG;
export const is_link = (n: Node): boolean => (n.mode & S_IFMT) === S_IFLNK;

/** A name in a directory. */
export interface Place {
  dir: Node;
  name: string;
  path: string;
  node: Node;
}

export class Model {
  readonly root: Node;
  private next = 1;

  constructor() {
    this.root = this.node(S_IFDIR | 0o755);
    this.root.nlink = 2;
  }

  node(mode: number): Node {
    const dir = (mode & S_IFMT) === S_IFDIR;
    return {
      id: this.next++,
      mode,
      uid: 0,
      gid: 0,
      nlink: dir ? 2 : 1,
      xattrs: new Map(),
      data: (mode & S_IFMT) === S_IFREG ? new Contents() : null,
      target: "",
      entries: dir ? new Map() : null,
      users: 0,
      fixed: false,
    };
  }

  /** A new inode in a directory, with what it inherits. */
  create(dir: Node, name: string, mode: number): Node {
    const n = this.node(mode);
    if (dir.mode & S_ISGID) {
      n.gid = dir.gid;
      if (is_dir(n)) n.mode |= S_ISGID;
    }
    dir.entries!.set(name, n);
    if (is_dir(n)) this.subdirs(dir, 1);
    return n;
  }
  /** A directory that has had too many subdirectories counts no more. */
  subdirs(dir: Node, change: number): void {
    if (dir.nlink !== 1) dir.nlink += change;
  }

  remove(dir: Node, name: string): void {
    const n = dir.entries!.get(name)!;
    dir.entries!.delete(name);
    if (is_dir(n)) {
      this.subdirs(dir, -1);
      n.nlink = 0;
    } else n.nlink--;
  }

  rename(from: Place, dir: Node, name: string): void {
    const old = dir.entries!.get(name);
    if (old === from.node) return;
    if (old) this.remove(dir, name);
    from.dir.entries!.delete(from.name);
    dir.entries!.set(name, from.node);
    if (is_dir(from.node)) {
      this.subdirs(from.dir, -1);
      this.subdirs(dir, 1);
    }
  }

  exchange(a: Place, b: Place): void {
    a.dir.entries!.set(a.name, b.node);
    b.dir.entries!.set(b.name, a.node);
    const change = (is_dir(b.node) ? 1 : 0) - (is_dir(a.node) ? 1 : 0);
    this.subdirs(a.dir, change);
    this.subdirs(b.dir, -change);
  }

  /** Every name below `dir`, parents first. */
  *walk(dir: Node = this.root, at = ""): Generator<Place> {
    for (const [name, node] of dir.entries!) {
      const path = `${at}/${name}`;
      yield { dir, name, path, node };
      if (node.entries) yield* this.walk(node, path);
    }
  }

  /** Is `inner` `dir` itself or somewhere below it? */
  within(dir: Node, inner: Node): boolean {
    if (dir === inner) return true;
    for (const p of this.walk(dir)) if (p.node === inner) return true;
    return false;
  }
}
