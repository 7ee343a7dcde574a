/** tests/lib/workload_data.ts - the operations of a random workload on the contents of files. */
import { ENOSPC } from "../../kernel/include/errno.ts";
import { STATX_ATTR_DAX } from "../../kernel/include/stat.ts";
import {
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  SEEK_DATA,
  SEEK_HOLE,
} from "../../kernel/include/fcntl.ts";
import { MAP_SHARED, MS_ASYNC, MS_SYNC, PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import type { Contents } from "./workload_model.ts";
import type { OpenFile, Work } from "./workload_state.ts";

const EXTENTS_FL = 0x80000;
const INLINE_FL = 0x10000000;
const MAX_FILE = 3 << 20;
const PAGE = 4096;

function any(w: Work): OpenFile | null {
  return w.open.length === 0 ? null : w.pick(w.open);
}

/** Widened to whole blocks for a descriptor that wants them. */
function aligned(w: Work, f: OpenFile, pos: number, len: number): [number, number] {
  if (!f.direct) return [pos, len];
  const first = Math.floor(pos / w.bsize) * w.bsize;
  return [first, Math.ceil((pos + len) / w.bsize) * w.bsize - first];
}

export async function compare(w: Work, f: OpenFile, from: number, n_bytes: number): Promise<void> {
  const [pos, len] = aligned(w, f, from, n_bytes);
  const want = (await w.contents(f)).read(pos, len);
  const got = new Uint8Array(len);
  const n = await w.p.pread(f.fd, got, pos);
  if (n !== want.length) w.fail(`pread(${len} at ${pos}) = ${n}, expected ${want.length}`);
  for (let i = 0; i < n; i++) {
    if (got[i] === want[i]) continue;
    w.fail(
      `byte ${pos + i} of inode ${f.node.id} is ${got[i]}, expected ${want[i]} ` +
        `(read ${len} at ${pos})`,
    );
  }
}

async function check_size(w: Work, f: OpenFile): Promise<void> {
  const st = await w.p.fstat(f.fd);
  const c = await w.contents(f);
  if (st.size !== c.size) w.fail(`size ${st.size}, expected ${c.size}`);
  if (st.nlink !== f.node.nlink) w.fail(`nlink ${st.nlink}, expected ${f.node.nlink}`);
}

/** Bytes that tell where they were written. */
function pattern(w: Work, len: number): Uint8Array {
  const b = new Uint8Array(len);
  const first = w.below(256);
  for (let i = 0; i < len; i++) b[i] = first + i * 7 + (i >> 8);
  return b;
}

export async function write(w: Work): Promise<void> {
  const f = any(w);
  if (!f) return;
  const c = await w.contents(f);
  // an append through O_DIRECT begins where the file happens to end
  if (f.direct && f.append) return;
  const end = w.length();
  const start = f.append ? c.size : Math.min(w.position(c.size), w.max_size - end - w.bsize);
  const [pos, len] = aligned(w, f, start, end);
  const data = pattern(w, len);
  const on = `${f.direct ? "direct " : ""}fd ${f.fd} inode ${f.node.id}`;
  const what = `pwrite ${on}: ${data.length} at ${pos} of ${c.size}`;
  const r = await w.call(what, null, () => w.p.pwrite(f.fd, data, pos), data.length);
  if (typeof r === "object") {
    if (r.value !== data.length && !(await w.tight(data.length))) w.fail(`wrote ${r.value}`);
    c.write(pos, data.subarray(0, r.value));
  }
  // a direct write that meets the end of the space has written what was allocated before
  if (r === "full" && f.direct) return w.resync(f, false);
  // Linux: a DAX write that fails beyond the end moves the end to its position less the error
  // number
  if (r === "full" && ((await w.p.fstat(f.fd)).attributes & STATX_ATTR_DAX) !== 0) {
    c.truncate(Math.max(c.size, pos - ENOSPC.errno));
  }
  if (w.sync_writes) await w.call("fsync", null, () => w.p.fsync(f.fd));
  await check_size(w, f);
  await compare(w, f, Math.max(0, pos - w.below(5000)), data.length + w.below(9000));
}

export async function read(w: Work): Promise<void> {
  const f = any(w);
  if (!f) return;
  const c = await w.contents(f);
  const [pos, len] = [w.position(c.size), w.length()];
  w.note(`pread fd ${f.fd} inode ${f.node.id}: ${len} at ${pos} of ${c.size}`);
  await compare(w, f, pos, len);
}

export async function truncate(w: Work): Promise<void> {
  const f = any(w);
  if (!f) return;
  const c = await w.contents(f);
  let size = w.chance(5) ? 0 : w.position(c.size);
  if (w.chance(2) && size > c.size) size = w.below(c.size + 1);
  if (size > w.max_size) size = w.max_size;
  const what = `ftruncate fd ${f.fd} inode ${f.node.id}: ${c.size} -> ${size}`;
  const r = await w.call(what, null, () => w.p.ftruncate(f.fd, size));
  if (r === "full") return w.resync(f, true);
  const from = Math.max(0, Math.min(c.size, size) - 3000);
  c.truncate(size);
  await check_size(w, f);
  await compare(w, f, from, 9000);
}

const MODES = [
  0,
  0,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_ZERO_RANGE,
  FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_COLLAPSE_RANGE,
  FALLOC_FL_INSERT_RANGE,
];

function apply(c: Contents, mode: number, off: number, len: number): void {
  if (mode & FALLOC_FL_COLLAPSE_RANGE) c.collapse(off, len);
  else if (mode & FALLOC_FL_INSERT_RANGE) c.insert(off, len);
  else {
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) c.zero(off, len);
    if (!(mode & FALLOC_FL_KEEP_SIZE)) c.size = Math.max(c.size, off + len);
  }
}

/** The error that a fallocate must meet. */
function refusal(w: Work, c: Contents, mode: number, off: number, len: number): string | null {
  const moves = mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
  if (!moves) return null;
  if (off % w.cluster || len % w.cluster) return "EINVAL";
  if (mode & FALLOC_FL_COLLAPSE_RANGE) return off + len >= c.size ? "EINVAL" : null;
  return off >= c.size ? "EINVAL" : null;
}

export async function fallocate(w: Work): Promise<void> {
  const f = any(w);
  if (!f) return;
  const c = await w.contents(f);
  const mode = w.pick(MODES);
  let [off, len] = [w.position(c.size), w.length()];
  const moves = mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE);
  if (moves && !w.chance(8)) {
    off = Math.floor(w.below(c.size + 1) / w.cluster) * w.cluster;
    len = w.cluster * (1 + w.below(8));
  }
  if (moves && c.size > MAX_FILE * 4) return;
  if (off + len > w.max_size) return;
  const flags = await w.p.getflags(f.fd);
  let want = refusal(w, c, mode, off, len);
  // without extents only holes can be made
  const mapped = !(flags & (EXTENTS_FL | INLINE_FL));
  if (mapped && !(mode & FALLOC_FL_PUNCH_HOLE)) want = "EOPNOTSUPP";
  const on = `fd ${f.fd} inode ${f.node.id}`;
  const what = `fallocate ${on}: mode ${mode} ${len} at ${off} of ${c.size}`;
  const r = await w.call(what, want, () => w.p.fallocate(f.fd, mode, off, len), len);
  if (r === "full") return w.resync(f, !(mode & ~FALLOC_FL_KEEP_SIZE));
  if (typeof r === "object") apply(c, mode, off, len);
  await check_size(w, f);
  await compare(w, f, Math.max(0, off - w.below(9000)), len + w.below(20000));
}

/** No hole may hold a byte; data begins where it should. */
export async function seek(w: Work): Promise<void> {
  const f = any(w);
  if (!f) return;
  const c = await w.contents(f);
  if (w.sync_seeks) await w.call("fsync", null, () => w.p.fsync(f.fd));
  w.note(`seek data and holes of fd ${f.fd} inode ${f.node.id}, ${c.size} bytes`);
  let at = 0;
  for (let i = 0; i < 200 && at < c.size; i++) {
    let from = c.size;
    try {
      from = await w.p.lseek(f.fd, at, SEEK_DATA);
    } catch (e) {
      if (w.p.error_code(e) !== "ENXIO") throw e;
    }
    if (!c.is_zero(at, from - at)) w.fail(`data within the hole ${at}..${from}`);
    if (from >= c.size) break;
    at = await w.p.lseek(f.fd, from, SEEK_HOLE);
    if (at <= from) w.fail(`SEEK_HOLE from ${from} answers ${at}`);
  }
}

export async function map(w: Work): Promise<void> {
  const f = any(w);
  if (!f || w.maps.length >= 6) return;
  const c = await w.contents(f);
  const off = Math.floor(w.below(Math.min(c.size, MAX_FILE) + 1) / PAGE) * PAGE;
  const len = PAGE * (1 + w.below(w.chance(5) ? 600 : 12));
  const prot = PROT_READ | PROT_WRITE;
  const what = `mmap fd ${f.fd} inode ${f.node.id}: ${len} at ${off}`;
  const r = await w.call(what, null, () => w.p.mmap(0, len, prot, MAP_SHARED, f.fd, off));
  if (typeof r !== "object") return;
  f.node.users++;
  w.maps.push({ addr: r.value, len, off, node: f.node });
}

/** Loads and stores below the end of the file. */
export async function access(w: Work): Promise<void> {
  if (w.maps.length === 0) return;
  const m = w.pick(w.maps);
  const c = m.node.data!;
  const room = Math.min(m.len, c.size - m.off);
  if (room <= 0) return;
  const at = w.below(room);
  const len = Math.min(1 + w.below(w.chance(4) ? 60000 : 6000), room - at);
  if (w.chance(2)) {
    w.note(`load inode ${m.node.id}: ${len} at ${m.off + at}`);
    const got = await w.p.load(m.addr + at, len);
    const want = c.read(m.off + at, len);
    const bad = got.findIndex((x, i) => x !== want[i]);
    if (bad >= 0) w.fail(`loaded byte ${m.off + at + bad} is ${got[bad]}, expected ${want[bad]}`);
    return;
  }
  const data = pattern(w, len);
  w.note(`store inode ${m.node.id}: ${len} at ${m.off + at}`);
  try {
    await w.p.store(m.addr + at, data);
    c.write(m.off + at, data);
  } catch (e) {
    const sig = w.p.signal_of(e);
    // a store into a hole of a full filesystem is a SIGBUS
    if (sig?.signo !== "SIGBUS" || !(await w.tight(len))) throw e;
    c.write(m.off + at, data.subarray(0, sig.completed));
  }
}

export async function msync(w: Work): Promise<void> {
  if (w.maps.length === 0) return;
  const m = w.pick(w.maps);
  const flags = w.chance(2) ? MS_SYNC : MS_ASYNC;
  await w.call(`msync inode ${m.node.id}`, null, () => w.p.msync(m.addr, m.len, flags));
}

export async function unmap(w: Work): Promise<void> {
  if (w.maps.length === 0) return;
  const [m] = w.maps.splice(w.below(w.maps.length), 1);
  await w.call(`munmap inode ${m!.node.id}`, null, () => w.p.munmap(m!.addr, m!.len));
  m!.node.users--;
}

export async function fsync(w: Work): Promise<void> {
  const f = any(w);
  if (!f) return;
  const data = w.chance(2);
  await w.call(`fsync fd ${f.fd} inode ${f.node.id}`, null, () =>
    data ? w.p.fdatasync(f.fd) : w.p.fsync(f.fd),
  );
}

/** One file copied into another in the kernel. */
export async function copy(w: Work): Promise<void> {
  const [from, to] = [any(w), any(w)];
  if (!from || !to || from.node === to.node || to.append) return;
  if (from.direct || to.direct) return;
  const a = await w.contents(from);
  const b = await w.contents(to);
  const len = w.length();
  const pos = w.below(a.size + 1);
  const at = w.below(Math.min(b.size, MAX_FILE) + 1);
  const what = `copy_file_range inode ${from.node.id} ${pos} -> ${to.node.id} ${at}: ${len}`;
  const r = await w.call(what, null, () => w.p.copy_file_range(from.fd, pos, to.fd, at, len), len);
  if (typeof r !== "object") return;
  const data = a.read(pos, len);
  if (r.value > data.length) w.fail(`copied ${r.value} of ${data.length}`);
  b.write(at, data.subarray(0, r.value));
  if (w.sync_writes) await w.call("fsync", null, () => w.p.fsync(to.fd));
  await compare(w, to, at, len + 100);
}
