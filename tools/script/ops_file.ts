/** tools/script/ops_file.ts - operations on files and names. */
import {
  DT_BLK,
  DT_CHR,
  DT_DIR,
  DT_FIFO,
  DT_LNK,
  DT_REG,
  DT_SOCK,
} from "../../kernel/include/fs.ts";
import type { kstat, timespec64 } from "../../kernel/include/fs.ts";
import * as S from "../../kernel/include/stat.ts";
import { name_to_bytes, sort_by_name } from "../../kernel/lib/utf8.ts";
import type { user_buffer } from "../api/process.ts";
import type { op_context, operation } from "./context.ts";
import {
  BadArgument,
  flag_text,
  is_data,
  make_data,
  NoHandle,
  show_data,
  STATX_ATTRS,
} from "./values.ts";

const MAX_LEN = 24 * 1024 * 1024;

function type_word(mode: number): string {
  switch (mode & S.S_IFMT) {
    case S.S_IFREG:
      return "reg";
    case S.S_IFDIR:
      return "dir";
    case S.S_IFLNK:
      return "lnk";
    case S.S_IFCHR:
      return "chr";
    case S.S_IFBLK:
      return "blk";
    case S.S_IFIFO:
      return "fifo";
    case S.S_IFSOCK:
      return "sock";
    default:
      return "?";
  }
}

function show_stat(x: op_context, st: kstat): void {
  const perm = (st.mode & 0o7777).toString(8).padStart(4, "0");
  x.say(`ok ${type_word(st.mode)} mode=${perm} nlink=${st.nlink} uid=${st.uid} gid=${st.gid}`);
  const rest = `size=${st.size} blocks=${st.blocks} blksize=${st.blksize}`;
  x.say(S.S_ISDIR(st.mode) ? ` {${rest}}` : ` ${rest}`);
  if (S.S_ISCHR(st.mode) || S.S_ISBLK(st.mode)) {
    x.say(` {rdev=${S.MAJOR(st.rdev)}:${S.MINOR(st.rdev)}}`);
  }
}

/** Buffer of a read or write: a piece of a mapping, or our own bytes displaced by skew=N. */
function own_buffer(x: op_context, bytes: Uint8Array): user_buffer {
  const skew = x.option("skew");
  return skew === undefined ? bytes : { bytes, skew: x.number(skew) };
}

async function do_read(x: op_context): Promise<void> {
  const positioned = x.argv[0] === "pread";
  const words = x.argc - (x.option("skew") === undefined ? 0 : 1);
  const mapped = words >= (positioned ? 5 : 4);
  const fd = x.fd(1);
  const len = mapped ? x.num(3) : Math.min(x.num(2), MAX_LEN);
  const addr = mapped ? x.num(2) : 0;
  const own = mapped ? null : new Uint8Array(Math.max(len, 0)).fill(0xee);
  const buf: user_buffer = own ? own_buffer(x, own) : { addr, len };
  const n = positioned ? await x.p.pread(fd, buf, x.num(mapped ? 4 : 3)) : await x.p.read(fd, buf);
  x.say(`${n} `);
  if (own) x.say(show_data(own.subarray(0, n)));
  else x.say(show_data(await x.p.load(addr, Math.min(n, MAX_LEN))));
}

async function do_write(x: op_context): Promise<void> {
  const positioned = x.argv[0] === "pwrite";
  const given = is_data(x.arg(2));
  const fd = x.fd(1);
  const buf: user_buffer = given ? own_buffer(x, x.data(2)) : { addr: x.num(2), len: x.num(3) };
  x.say(positioned ? await x.p.pwrite(fd, buf, x.num(given ? 3 : 4)) : await x.p.write(fd, buf));
}

function vector(x: op_context, from: number, reading: boolean): user_buffer[] {
  return x.argv.slice(from, from + 64).map((t): user_buffer => {
    if (t.startsWith("@")) {
      const colon = t.lastIndexOf(":");
      if (colon < 0) throw new BadArgument(t);
      return { addr: x.number(t.slice(1, colon)), len: x.number(t.slice(colon + 1)) };
    }
    if (reading) return new Uint8Array(x.number(t)).fill(0xee);
    return make_data(t, (s) => x.number(s));
  });
}

async function show_vector(x: op_context, bufs: user_buffer[], n: number): Promise<void> {
  const out = new Uint8Array(n);
  let at = 0;
  for (const b of bufs) {
    const len = b instanceof Uint8Array ? b.length : "addr" in b ? b.len : b.bytes.length;
    const take = Math.min(len, n - at);
    if (take <= 0) break;
    if (b instanceof Uint8Array) out.set(b.subarray(0, take), at);
    else if ("addr" in b) out.set(await x.p.load(b.addr, take), at);
    at += take;
  }
  x.say(`${n} ${show_data(out)}`);
}

async function do_vector(x: op_context): Promise<void> {
  const op = x.argv[0]!;
  const reading = op.includes("read");
  const from = op.endsWith("2") ? 4 : op.startsWith("p") ? 3 : 2;
  const fd = x.fd(1);
  const pos = from > 2 ? x.num(2) : null;
  const flags = from > 3 ? x.num(3) : 0;
  const bufs = vector(x, from, reading);
  if (reading) {
    const n = pos === null ? await x.p.readv(fd, bufs) : await x.p.preadv(fd, bufs, pos, flags);
    await show_vector(x, bufs, n);
  } else {
    x.say(pos === null ? await x.p.writev(fd, bufs) : await x.p.pwritev(fd, bufs, pos, flags));
  }
}

async function do_seekmap(x: op_context): Promise<void> {
  const fd = x.fd(1);
  const { size } = await x.p.fstat(fd);
  let at = 0;
  let n = 0;
  while (at < size) {
    let data: number;
    let hole: number;
    try {
      data = await x.p.lseek(fd, at, 3);
      hole = await x.p.lseek(fd, data, 4);
    } catch (e) {
      if (x.p.is_error(e)) break;
      throw e;
    }
    x.detail(`data ${data}..${hole}`);
    n++;
    at = hole;
  }
  x.say(n);
}

async function stat_of(x: op_context, i: number): Promise<kstat> {
  return x.is_path(i) ? x.p.lstat(x.path(i)) : x.p.fstat(x.fd(i));
}

function relation(a: timespec64, b: timespec64): string {
  const d = a.tv_sec - b.tv_sec || a.tv_nsec - b.tv_nsec;
  return d === 0 ? "same" : d > 0 ? "later" : "earlier";
}

async function do_timediff(x: op_context): Promise<void> {
  const s = x.names.snaps.get(x.arg(1));
  if (!s) throw new NoHandle(x.arg(1));
  const st = await stat_of(x, 2);
  x.say(
    `ok atime=${relation(st.atime, s.atime)} mtime=${relation(st.mtime, s.mtime)}` +
      ` ctime=${relation(st.ctime, s.ctime)}`,
  );
}

async function do_statx(x: op_context): Promise<void> {
  const st = x.is_path(1) ? await x.p.lstat(x.path(1)) : await x.p.fstat(x.fd(1));
  const hide = ~S.STATX_ATTR_MOUNT_ROOT;
  x.say(`ok ${type_word(st.mode)} attrs=${flag_text(STATX_ATTRS, st.attributes & hide)}`);
  x.say(` mask=${flag_text(STATX_ATTRS, st.attributes_mask & hide)}`);
  x.say(` {nlink=${st.nlink} size=${S.S_ISDIR(st.mode) ? 0 : st.size}}`);
  if (st.dio_offset_align) x.say(` {dio=${st.dio_mem_align}/${st.dio_offset_align}}`);
}

const DT_LETTER: Readonly<Record<number, string>> = Object.freeze({
  [DT_DIR]: "d",
  [DT_REG]: "-",
  [DT_LNK]: "l",
  [DT_CHR]: "c",
  [DT_BLK]: "b",
  [DT_FIFO]: "p",
  [DT_SOCK]: "s",
});

async function do_getdents(x: op_context): Promise<void> {
  const entries = await x.p.readdir(x.path(1));
  x.say(entries.length);
  if (entries.length > 64) return;
  const lines = entries.map((e) => `${e.name} ${DT_LETTER[e.type] ?? "?"}`);
  for (const l of sort_by_name(lines, (line) => line)) x.detail(l);
}

async function do_statfs(x: op_context): Promise<void> {
  const f = x.is_path(1) ? await x.p.statfs(x.path(1)) : await x.p.fstatfs(x.fd(1));
  const flags = (f.f_flags & ~0x20).toString(16);
  x.say(`ok type=0x${f.f_type.toString(16)} bsize=${f.f_bsize} namelen=${f.f_namelen}`);
  x.say(` flags=0x${flags} {blocks=${f.f_blocks} bfree=${f.f_bfree} files=${f.f_files}}`);
}

async function do_readlink(x: op_context): Promise<void> {
  const target = await x.p.readlink(x.path(1));
  const bytes = name_to_bytes(target);
  x.say(`${bytes.length} ${bytes.length < 100 ? target : show_data(bytes)}`);
}

async function do_close(x: op_context): Promise<void> {
  const name = x.arg(1);
  const fd = x.fd(1);
  // After close the name stands for descriptor -1, whatever close says.
  if (x.names.fds.has(name)) x.names.fds.set(name, -1);
  await x.p.close(fd);
  x.ok();
}

async function do_pipe(x: op_context): Promise<void> {
  const [r, w] = await x.p.pipe();
  x.names.fds.set(x.arg(1), r);
  x.names.fds.set(x.arg(2), w);
  x.ok();
}

async function do_utimensat(x: op_context): Promise<void> {
  const [a, m] = [x.num(2), x.num(3)];
  if (x.is_path(1)) await x.p.utimensat(x.path(1), a, m, x.num_or(4, 0));
  else await x.p.futimens(x.fd(1), a, m);
  x.ok();
}

async function do_timesnap(x: op_context): Promise<void> {
  await x.run.lab.advance_ms(40);
  const st = await stat_of(x, 1);
  if (x.assign) x.names.snaps.set(x.assign, st);
  x.ok();
}

/** An operation that answers `ok`. */
function done(fn: (x: op_context) => unknown): operation {
  return async (x) => {
    await fn(x);
    x.ok();
  };
}

export const file_ops: Readonly<Record<string, operation>> = Object.freeze({
  open: (x: op_context) => x.new_fd(() => x.p.open(x.path(1), x.num(2), x.num_or(3, 0o644))),
  creat: (x: op_context) => x.new_fd(() => x.p.open(x.path(1), 0o1101, x.num_or(2, 0o644))),
  openat: (x: op_context) =>
    x.new_fd(() => x.p.openat(x.fd(1), x.path(2), x.num(3), x.num_or(4, 0o644))),
  dup: (x: op_context) => x.new_fd(() => x.p.dup(x.fd(1))),
  pipe: do_pipe,
  vmsplice: async (x: op_context) => x.say(await x.p.vmsplice(x.fd(1), x.num(2), x.num(3))),
  close: do_close,
  read: do_read,
  pread: do_read,
  write: do_write,
  pwrite: do_write,
  readv: do_vector,
  preadv: do_vector,
  preadv2: do_vector,
  writev: do_vector,
  pwritev: do_vector,
  pwritev2: do_vector,
  lseek: async (x: op_context) => x.say(await x.p.lseek(x.fd(1), x.num(2), x.num(3))),
  seekmap: do_seekmap,
  truncate: done((x) => x.p.truncate(x.path(1), x.num(2))),
  ftruncate: done((x) => x.p.ftruncate(x.fd(1), x.num(2))),
  fallocate: done((x) => x.p.fallocate(x.fd(1), x.num(2), x.num(3), x.num(4))),
  fsync: done((x) => x.p.fsync(x.fd(1))),
  fdatasync: done((x) => x.p.fdatasync(x.fd(1))),
  syncfs: done((x) => x.p.syncfs(x.fd(1))),
  sync: done((x) => x.p.sync()),
  sync_file_range: done((x) => x.p.sync_file_range(x.fd(1), x.num(2), x.num(3), x.num(4))),
  fadvise: done((x) => x.p.fadvise(x.fd(1), x.num(2), x.num(3), x.num(4))),
  readahead: done((x) => x.p.readahead(x.fd(1), x.num(2), x.num(3))),
  flock: done((x) => x.p.flock(x.fd(1), x.num(2))),
  rename: done((x) => x.p.rename(x.path(1), x.path(2))),
  renameat2: done((x) => x.p.renameat2(x.path(1), x.path(2), x.num(3))),
  link: done((x) => x.p.link(x.path(1), x.path(2))),
  linkfd: done((x) => x.p.linkfd(x.fd(1), x.path(2))),
  symlink: done((x) => x.p.symlink(x.path(1), x.path(2))),
  readlink: do_readlink,
  unlink: done((x) => x.p.unlink(x.path(1))),
  mkdir: done((x) => x.p.mkdir(x.path(1), x.num_or(2, 0o755))),
  rmdir: done((x) => x.p.rmdir(x.path(1))),
  mknod: done((x) => x.p.mknod(x.path(1), x.num(2), x.argc > 3 ? S.MKDEV(x.num(3), x.num(4)) : 0)),
  chmod: done((x) => x.p.chmod(x.path(1), x.num(2))),
  chown: done((x) => x.p.chown(x.path(1), x.num(2), x.num(3))),
  lchown: done((x) => x.p.lchown(x.path(1), x.num(2), x.num(3))),
  access: done((x) => x.p.access(x.path(1), x.num(2))),
  chdir: done((x) => x.p.chdir(x.path(1))),
  umask: async (x: op_context) => x.say((await x.p.umask(x.num(1))).toString(8).padStart(4, "0")),
  utimensat: do_utimensat,
  times: async (x: op_context) => {
    const st = await stat_of(x, 1);
    x.say(`ok atime=${st.atime.tv_sec} mtime=${st.mtime.tv_sec}`);
  },
  stat: async (x: op_context) => show_stat(x, await x.p.stat(x.path(1))),
  lstat: async (x: op_context) => show_stat(x, await x.p.lstat(x.path(1))),
  fstat: async (x: op_context) => show_stat(x, await x.p.fstat(x.fd(1))),
  fsize: async (x: op_context) => {
    const st = await stat_of(x, 1);
    x.say(`ok size=${st.size} nlink=${st.nlink}`);
  },
  samefile: async (x: op_context) => {
    const a = await x.p.lstat(x.path(1));
    const b = await x.p.lstat(x.path(2));
    x.say(a.dev === b.dev && a.ino === b.ino ? "yes" : "no");
  },
  timesnap: do_timesnap,
  timediff: do_timediff,
  statx: do_statx,
  statfs: do_statfs,
  getdents: do_getdents,
  exists: async (x: op_context) => {
    try {
      await x.p.access(x.path(1), 0);
      x.say("yes");
    } catch (e) {
      if (!x.p.is_error(e)) throw e;
      x.say("no");
    }
  },
});
