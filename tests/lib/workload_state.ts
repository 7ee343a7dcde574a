/**
 * tests/lib/workload_state.ts - the state of a random workload: the process that does it, the model
 * that predicts it, what is open and mapped, and the last operations for the report of a mismatch.
 */
import { Random } from "../../kernel/random.ts";
import type { Machine } from "../../tools/api/machine.ts";
import type { Process } from "../../tools/api/process.ts";
import { Contents, is_dir, is_reg, type Model, type Node, type Place } from "./workload_model.ts";

export interface OpenFile {
  fd: number;
  node: Node;
  append: boolean;
  /** O_DIRECT: whole blocks only. */
  direct: boolean;
}
export interface Mapping {
  addr: number;
  len: number;
  off: number;
  node: Node;
}

const SHOWN = 25;

/** What differed, with the line that runs it again. */
export class Mismatch extends Error {}

export class Work {
  readonly m: Machine;
  readonly p: Process;
  readonly model: Model;
  readonly rng: Random;
  /** Where the filesystem is mounted. */
  readonly at: string;
  /** Which run this is: printed with a mismatch. */
  readonly label: string;
  step = 0;
  bsize = 4096;
  /** Bytes: what collapse and insert want their ranges aligned to. */
  cluster = 4096;
  /** Largest size a file may have in this filesystem. */
  max_size = 2 ** 40;
  max_xattr = 3000;
  /**
   * Write out each write at once: a page that is only promised its blocks, of a file that was
   * inline, is zeroed by a read when blocks are smaller than pages (Linux 6.1 to 6.18 do so too).
   */
  sync_writes = false;
  /** Inline data that grew and is not written yet hides what lies behind it from lseek: ENOENT. */
  sync_seeks = false;
  open: OpenFile[] = [];
  maps: Mapping[] = [];
  readonly log: string[] = [];
  refused = 0;

  constructor(m: Machine, p: Process, model: Model, seed: number, label: string, at = "/mnt") {
    this.m = m;
    this.p = p;
    this.model = model;
    this.rng = new Random(seed);
    this.label = label;
    this.at = at;
  }

  // --- chance

  below(n: number): number {
    // sparse files are larger than what 32 random bits reach
    return n < 2 ** 32 ? this.rng.below(n) : this.rng.u53() % n;
  }
  chance(one_in: number): boolean {
    return this.rng.below(one_in) === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.rng.below(list.length)]!;
  }
  /** Bytes of a length: small, around blocks, large. */
  length(): number {
    const b = this.bsize;
    const kind = this.below(12);
    if (kind < 3) return 1 + this.below(200);
    if (kind < 6) return 1 + this.below(3 * b);
    if (kind < 8) return b * (1 + this.below(8));
    if (kind < 10) return 1 + this.below(24 * b);
    if (kind < 11) return 1 + this.below(200_000);
    return b * (1 + this.below(64)) + this.pick([-1, 0, 1]);
  }
  /** A position in or around a file of `size` bytes. */
  position(size: number): number {
    const b = this.bsize;
    const kind = this.below(12);
    if (kind < 4) return this.below(size + 1);
    if (kind < 6) return Math.floor(this.below(size + 1) / b) * b;
    if (kind < 8) return size;
    if (kind < 10) return size + this.below(20 * b);
    if (kind < 11) return this.below(1 << 20);
    return this.chance(6) ? this.below(1 << 30) : this.below(1 << 23);
  }

  // --- the report

  note(text: string): void {
    this.log.push(`${this.step}: ${text}`);
    if (this.log.length > SHOWN) this.log.shift();
  }
  fail(text: string): never {
    const log = this.m.dmesg().split("\n").slice(-12).join("\n    ");
    const ops = this.log.join("\n    ");
    throw new Mismatch(
      `${this.label} step ${this.step}: ${text}\n  last operations:\n    ${ops}` +
        `\n  kernel log:\n    ${log}`,
    );
  }

  /** Is there so little space that a request of `bytes` may be refused? */
  async tight(bytes: number): Promise<boolean> {
    const s = await this.p.statfs(this.at);
    const spare = s.f_blocks / 25 + 300;
    return s.f_bfree < bytes / s.f_bsize + spare || s.f_ffree < 3;
  }

  /**
   * Makes a call. `want`: the error that it must meet, or null. Returns its value, or undefined
   * when it was refused as predicted or for want of space (`refused_for_space` then says so).
   */
  async call<T>(
    what: string,
    want: string | null,
    fn: () => Promise<T> | T,
    bytes = 0,
  ): Promise<{ value: T } | "refused" | "full"> {
    this.note(want ? `${what} -> ${want}` : what);
    let value: T;
    try {
      value = await fn();
    } catch (e) {
      const code = this.p.error_code(e);
      if (code === null) {
        (e as Error).message =
          `${this.label} step ${this.step}: ${(e as Error).message}\n    ` +
          this.log.join("\n    ");
        throw e;
      }
      if (code === want) return "refused";
      if (code === "ENOSPC" && (await this.tight(bytes))) {
        this.refused++;
        return "full";
      }
      this.fail(`${what}: ${code}, expected ${want ?? "success"}\n${(e as Error).stack}`);
    }
    if (want !== null) this.fail(`${what}: done, expected ${want}`);
    return { value };
  }

  // --- choosing

  /** A directory where names may be made, with its path. */
  dir(): { node: Node; path: string } {
    let node = this.model.root;
    let path = this.at;
    for (;;) {
      if (this.chance(3) && !node.fixed) return { node, path };
      const inner = [...node.entries!].filter(([, n]) => is_dir(n) && !n.fixed);
      if (inner.length === 0) return { node, path };
      const [name, next] = this.pick(inner);
      node = next;
      path += `/${name}`;
    }
  }
  /** Some existing name, of `accept`ed kind; null when none was found. */
  place(accept: (n: Node) => boolean = () => true): Place | null {
    for (let i = 0; i < 6; i++) {
      const d = this.dir();
      const list = [...d.node.entries!].filter(([, n]) => !n.fixed && accept(n));
      if (list.length === 0) continue;
      const [name, node] = this.pick(list);
      return { dir: d.node, name, path: `${d.path}/${name}`, node };
    }
    return null;
  }
  /** A name for something new: now and then a long one. */
  name(): string {
    const n = this.below(40);
    if (this.chance(12)) return `${"long name ".repeat(this.below(20) + 1)}${n}`;
    return `n${n}`;
  }
  file_place(): Place | null {
    return this.place(is_reg);
  }

  // --- contents

  /** The contents of a file, read the first time. */
  async contents(f: OpenFile): Promise<Contents> {
    f.node.data ??= await read_contents(this.p, f.fd);
    return f.node.data;
  }

  /** After an operation that ended half-way: takes over size and bytes, old bytes must be there. */
  async resync(f: OpenFile, keep: boolean): Promise<void> {
    const old = f.node.data!;
    const now = await read_contents(this.p, f.fd);
    if (keep) {
      const n = Math.min(old.size, now.size);
      for (const r of old.ranges()) {
        const len = Math.min(r.len, n - r.pos);
        if (len <= 0) continue;
        const a = old.read(r.pos, len);
        const b = now.read(r.pos, len);
        for (let i = 0; i < len; i++) {
          if (a[i] !== b[i]) this.fail(`byte ${r.pos + i} changed in a call that was refused`);
        }
      }
      if (now.size < old.size) this.fail("a refused call made the file shorter");
    }
    f.node.data = now;
  }
}

const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** Reads all data of a file: holes are skipped. */
export async function read_contents(p: Process, fd: number): Promise<Contents> {
  const c = new Contents();
  const { size } = await p.fstat(fd);
  for (let at = 0; at < size; ) {
    let from: number;
    try {
      from = await p.lseek(fd, at, SEEK_DATA);
    } catch (e) {
      if (p.error_code(e) === "ENXIO") break;
      throw e;
    }
    const to = await p.lseek(fd, from, SEEK_HOLE);
    for (let pos = from; pos < to; ) {
      // whole blocks, as O_DIRECT wants them
      const buf = new Uint8Array(Math.min(1 << 18, Math.ceil((to - pos) / 4096) * 4096));
      const n = Math.min(await p.pread(fd, buf, pos), to - pos);
      if (n === 0) break;
      const got = buf.subarray(0, n);
      if (got.some((x) => x !== 0)) c.write(pos, got);
      pos += n;
    }
    at = to;
  }
  c.size = size;
  return c;
}
