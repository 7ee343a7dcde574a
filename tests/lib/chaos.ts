/**
 * tests/lib/chaos.ts - several processes that do anything at all to the same few names and files of
 * an ext4, in a seeded random schedule. Nothing is predicted but that: only errors that Linux can
 * give, no deadlock, no failed assertion, all references given back, sound media.
 */
import * as F from "../../kernel/include/fcntl.ts";
import { MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import { S_IFCHR } from "../../kernel/include/stat.ts";
import { Random } from "../../kernel/random.ts";
import { random_strategy } from "../../kernel/sched/strategy.ts";
import { Machine } from "../../tools/api/machine.ts";
import type { Process } from "../../tools/api/process.ts";
import { fsck_ext4, fsck_text } from "../../tools/cmd/fsck_ext4.ts";
import { media_bytes } from "./ext4_write.ts";
import { read_image } from "./images.ts";

export interface chaos_options {
  seed: number;
  tasks: number;
  steps: number;
  mkfs?: string;
  mount?: string;
  size?: string;
  image?: string;
  /** Contents of the device afterwards. */
  media?: (bytes: Uint8Array) => void;
}

/** What such calls may answer. */
const ERRORS = new Set(
  `EEXIST ENOENT ENOTEMPTY EISDIR ENOTDIR EINVAL EBUSY ENOSPC EFBIG EPERM ELOOP ENODATA ENXIO
   EOPNOTSUPP EMLINK ETXTBSY EXDEV EFAULT ERANGE`.split(/\s+/),
);
const DIRS = ["/mnt", "/mnt/d0", "/mnt/d1", "/mnt/d0/e", "/mnt/d1/d0"];
const MODES = [
  0,
  F.FALLOC_FL_KEEP_SIZE,
  F.FALLOC_FL_PUNCH_HOLE | F.FALLOC_FL_KEEP_SIZE,
  F.FALLOC_FL_ZERO_RANGE,
  F.FALLOC_FL_COLLAPSE_RANGE,
  F.FALLOC_FL_INSERT_RANGE,
];
const MAX = 300_000;

class Actor {
  readonly p: Process;
  readonly r: Random;
  readonly log: string[] = [];
  private fds: number[] = [];
  private maps: { addr: number; len: number }[] = [];

  constructor(p: Process, seed: number) {
    this.p = p;
    this.r = new Random(seed);
  }

  private pick<T>(list: readonly T[]): T {
    return list[this.r.below(list.length)]!;
  }
  private path(): string {
    return `${this.pick(DIRS)}/${this.pick(["a", "b", "c", "d0", "e", "n1", "n2"])}`;
  }
  private offset(): number {
    const at = this.r.below(MAX);
    return this.r.below(2) ? at : Math.floor(at / 4096) * 4096;
  }
  private length(): number {
    return this.r.below(3) ? 4096 * (1 + this.r.below(8)) : 1 + this.r.below(20_000);
  }

  /** One call; an error that Linux can give is as good as success. */
  async step(): Promise<void> {
    const kind = this.r.below(10);
    const doing = kind < 4 ? this.names() : kind < 8 ? this.contents() : this.memory();
    try {
      await doing;
    } catch (e) {
      const code = this.p.error_code(e);
      if (code !== null && ERRORS.has(code)) return;
      if (this.p.signal_of(e)?.signo === "SIGBUS") return;
      throw e;
    }
  }

  private note(text: string): void {
    this.log.push(text);
    if (this.log.length > 12) this.log.shift();
  }

  private async names(): Promise<void> {
    const { p } = this;
    const [a, b] = [this.path(), this.path()];
    const kind = this.r.below(13);
    this.note(`names ${kind} ${a} ${b}`);
    if (kind < 3) {
      if (this.fds.length > 4) await this.close();
      const flags =
        F.O_RDWR | (this.r.below(3) ? F.O_CREAT : 0) | (this.r.below(6) ? 0 : F.O_TRUNC);
      this.fds.push(await p.open(a, flags, 0o644));
    } else if (kind === 3) await p.mkdir(a);
    else if (kind === 4) await p.rmdir(a);
    else if (kind === 5) await p.unlink(a);
    else if (kind === 6) await p.link(a, b);
    else if (kind < 10) await p.renameat2(a, b, this.pick([0, 0, 1, 2, 2, 4]));
    else if (kind === 10) await this.small(a, b);
    else if (kind === 11) await p.setxattr(a, "user.x", new Uint8Array(this.r.below(3000)));
    else await p.readdir(this.pick(DIRS));
  }
  private async small(a: string, b: string): Promise<void> {
    const { p } = this;
    const kind = this.r.below(7);
    if (kind === 0) await p.symlink(b, a);
    else if (kind === 1) await p.removexattr(a, "user.x");
    else if (kind === 2) await p.chmod(a, 0o600 + this.r.below(64));
    else if (kind === 3) await p.mknod(a, S_IFCHR | 0o600, 0);
    else if (kind === 4) await p.truncate(a, this.r.below(MAX));
    else if (kind === 5)
      this.fds.push(await p.open(this.pick(DIRS), F.O_TMPFILE | F.O_RDWR, 0o600));
    else await p.stat(a);
  }
  private async close(): Promise<void> {
    const [fd] = this.fds.splice(this.r.below(this.fds.length), 1);
    if (fd !== undefined) await this.p.close(fd);
  }

  private async contents(): Promise<void> {
    const { p } = this;
    const fd = this.fds.length ? this.pick(this.fds) : -1;
    if (fd < 0) return;
    const [off, len] = [this.offset(), this.length()];
    const kind = this.r.below(14);
    this.note(`contents ${kind} fd ${fd} ${len} at ${off}`);
    if (kind < 4) await p.pwrite(fd, new Uint8Array(len).fill(this.r.below(256)), off);
    else if (kind < 6) await p.pread(fd, new Uint8Array(len), off);
    else if (kind === 6) await p.ftruncate(fd, this.r.below(3) ? off : 0);
    else if (kind < 10) await this.allocate(fd, this.pick(MODES), off, len);
    else if (kind === 10) await p.fsync(fd);
    else if (kind === 11) await p.copy_file_range(fd, off, this.pick(this.fds), this.offset(), len);
    else if (kind === 12) await p.lseek(fd, off, this.pick([F.SEEK_DATA, F.SEEK_HOLE]));
    else if (this.r.below(4)) await this.close();
    else if (this.r.below(2)) await p.sync();
    else await p.drop_caches();
  }
  private async allocate(fd: number, mode: number, off: number, len: number): Promise<void> {
    const moves = F.FALLOC_FL_COLLAPSE_RANGE | F.FALLOC_FL_INSERT_RANGE;
    const b = mode & moves ? 16384 : 1;
    await this.p.fallocate(fd, mode, Math.floor(off / b) * b, Math.ceil(len / b) * b);
  }

  private async memory(): Promise<void> {
    const { p } = this;
    const fd = this.fds.length ? this.pick(this.fds) : -1;
    const kind = this.r.below(10);
    this.note(`memory ${kind} fd ${fd}`);
    if (kind < 2 && fd >= 0 && this.maps.length < 4) {
      const len = 4096 * (1 + this.r.below(16));
      const off = Math.floor(this.offset() / 4096) * 4096;
      const how = this.r.below(4) ? MAP_SHARED : MAP_PRIVATE;
      const addr = await p.mmap(0, len, PROT_READ | PROT_WRITE, how, fd, off);
      this.maps.push({ addr, len });
      return;
    }
    const m = this.maps.length ? this.pick(this.maps) : null;
    if (!m) return;
    const at = this.r.below(m.len);
    const len = Math.min(1 + this.r.below(9000), m.len - at);
    if (kind < 5) await p.store(m.addr + at, new Uint8Array(len).fill(at));
    else if (kind < 7) await p.load(m.addr + at, len);
    else if (kind === 7) await p.msync(m.addr, m.len, 4);
    else if (kind === 8 && fd >= 0) await p.pwrite(fd, { addr: m.addr + at, len }, this.offset());
    else if (kind === 9 && fd >= 0) await p.pread(fd, { addr: m.addr + at, len }, this.offset());
    else await this.unmap();
  }
  private async unmap(): Promise<void> {
    const [m] = this.maps.splice(this.r.below(this.maps.length), 1);
    if (m) await this.p.munmap(m.addr, m.len);
  }

  async done(): Promise<void> {
    while (this.maps.length) await this.unmap();
    while (this.fds.length) await this.close();
  }
}

function report(o: chaos_options, actors: readonly Actor[], what: unknown, m: Machine): Error {
  const logs = actors.map((a, i) => `  task ${i}:\n    ${a.log.join("\n    ")}`).join("\n");
  const text = what instanceof Error ? (what.stack ?? what.message) : String(what);
  const log = m.dmesg().split("\n").slice(-60).join("\n    ");
  const { media: _, ...shown } = o;
  return new Error(`chaos(${JSON.stringify(shown)}): ${text}\n${logs}\n  log:\n    ${log}`);
}

/** Runs it once. @throws Error with the options that run it again, and what each task did last */
export async function run_chaos(o: chaos_options): Promise<void> {
  const pmem = o.image
    ? { image: read_image("ext4", o.image), name: "pmem0", pages: true }
    : { size: o.size ?? "32M", name: "pmem0", mode: "raw" as const, pages: true };
  const strategy = new random_strategy(new Random(o.seed), o.seed);
  const m = await Machine.boot({ seed: o.seed, pmem: [pmem], strategy, lockdep: true });
  if (!o.image) await m.mkfs("ext4", "/dev/pmem0", o.mkfs ?? "-b 4096");
  const p = m.process();
  await p.mount("/dev/pmem0", "/mnt", "ext4", o.mount ?? "");
  for (const d of DIRS.slice(1)) await p.mkdir(d);
  const actors: Actor[] = [];
  const failures: unknown[] = [];
  let left = o.tasks;
  for (let k = 0; k < o.tasks; k++) {
    const parent = m.process(`base${k}`);
    m.spawn(m.kernel, `actor${k}`, async (task) => {
      const { files, fs, mm, signal } = parent.task;
      Object.assign(task, { files, fs, mm, signal });
      const a = new Actor(m.process_of(task), o.seed * 1000 + k);
      actors.push(a);
      try {
        for (let i = 0; i < o.steps && failures.length === 0; i++) await a.step();
        await a.done();
      } catch (e) {
        failures.push(e);
      }
      left--;
    });
  }
  try {
    await m.run();
    if (failures.length > 0) throw failures[0];
    if (left > 0) throw new Error(`${left} tasks never ended`);
    if (m.reports.length > 0) throw new Error(`a deadlock report: ${JSON.stringify(m.reports[0])}`);
    await p.umount("/mnt");
    const bytes = media_bytes(m);
    o.media?.(bytes);
    const r = fsck_ext4(bytes);
    if (!r.clean) throw new Error(fsck_text(r));
    if (/EXT4-fs error|WARNING|BUG/.test(m.dmesg())) throw new Error("the kernel complains");
  } catch (e) {
    throw report(o, actors, e, m);
  }
}
