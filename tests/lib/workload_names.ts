/**
 * tests/lib/workload_names.ts - the operations of a random workload on names, links and attributes.
 */
import {
  O_APPEND,
  O_CREAT,
  O_DIRECT,
  O_EXCL,
  O_RDWR,
  O_TMPFILE,
  O_TRUNC,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  XATTR_CREATE,
  XATTR_REPLACE,
} from "../../kernel/include/fcntl.ts";
import { S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG } from "../../kernel/include/stat.ts";
import { Contents, is_dir, is_link, is_reg, type Node, type Place } from "./workload_model.ts";
import type { Work } from "./workload_state.ts";

const MAX_OPEN = 8;

/** Link count, mode, owner and size of a name are as predicted. */
export async function check_stat(w: Work, path: string, n: Node): Promise<void> {
  const st = await w.p.lstat(path);
  const got = `mode ${st.mode.toString(8)} nlink ${st.nlink} owner ${st.uid}:${st.gid}`;
  const want = `mode ${n.mode.toString(8)} nlink ${n.nlink} owner ${n.uid}:${n.gid}`;
  if (got !== want) w.fail(`${path}: ${got}, expected ${want}`);
  if (n.data && st.size !== n.data.size) w.fail(`${path}: size ${st.size}, not ${n.data.size}`);
}

export async function create(w: Work): Promise<void> {
  const d = w.dir();
  const name = w.name();
  const path = `${d.path}/${name}`;
  const old = d.node.entries!.get(name);
  if (old && (old.fixed || (!is_dir(old) && !is_reg(old)))) return;
  const append = w.chance(6);
  const excl = w.chance(5);
  const trunc = w.chance(4);
  const direct = w.chance(6);
  let flags = O_RDWR | O_CREAT | (append ? O_APPEND : 0) | (direct ? O_DIRECT : 0);
  if (excl) flags |= O_EXCL;
  if (trunc) flags |= O_TRUNC;
  if (w.open.length >= MAX_OPEN) await close(w);
  const want = old ? (excl ? "EEXIST" : is_dir(old) ? "EISDIR" : null) : null;
  const mode = w.pick([0o644, 0o600, 0o777]);
  const what = `open ${path} ${flags.toString(8)}`;
  const r = await w.call(what, want, () => w.p.open(path, flags, mode));
  if (typeof r !== "object") return;
  const node = old ?? w.model.create(d.node, name, S_IFREG | (mode & 0o755));
  if (trunc) {
    node.data ??= new Contents();
    node.data.truncate(0);
  }
  node.users++;
  w.open.push({ fd: r.value, node, append, direct });
  await w.contents(w.open.at(-1)!);
  await check_stat(w, path, node);
}

/** An existing file. */
export async function reopen(w: Work): Promise<void> {
  const at = w.file_place();
  if (!at) return;
  if (w.open.length >= MAX_OPEN) await close(w);
  const append = w.chance(8);
  const direct = !append && w.chance(5);
  const flags = O_RDWR | (append ? O_APPEND : 0) | (direct ? O_DIRECT : 0);
  const what = `open ${at.path} ${flags.toString(8)}`;
  const r = await w.call(what, null, () => w.p.open(at.path, flags));
  if (typeof r !== "object") return;
  at.node.users++;
  const f = { fd: r.value, node: at.node, append, direct };
  w.open.push(f);
  await w.contents(f);
}

export async function close(w: Work): Promise<void> {
  if (w.open.length === 0) return;
  const [f] = w.open.splice(w.below(w.open.length), 1);
  f!.node.users--;
  await w.call(`close fd ${f!.fd} inode ${f!.node.id}`, null, () => w.p.close(f!.fd));
}

export async function tmpfile(w: Work): Promise<void> {
  const d = w.dir();
  if (w.open.length >= MAX_OPEN) await close(w);
  const r = await w.call(`open O_TMPFILE in ${d.path}`, null, () =>
    w.p.open(d.path, O_TMPFILE | O_RDWR, 0o640),
  );
  if (typeof r !== "object") return;
  const n = w.model.node(S_IFREG | 0o640);
  n.nlink = 0;
  if (d.node.mode & 0o2000) n.gid = d.node.gid;
  n.users++;
  w.open.push({ fd: r.value, node: n, append: false, direct: false });
  if (w.chance(2)) return;
  const name = w.name();
  if (d.node.entries!.has(name)) return;
  const l = await w.call(`link fd ${r.value} to ${d.path}/${name}`, null, () =>
    w.p.linkfd(r.value, `${d.path}/${name}`),
  );
  if (typeof l !== "object") return;
  n.nlink = 1;
  d.node.entries!.set(name, n);
  await check_stat(w, `${d.path}/${name}`, n);
}

export async function mkdir(w: Work): Promise<void> {
  const d = w.dir();
  const name = w.name();
  const want = d.node.entries!.has(name) ? "EEXIST" : null;
  const mode = w.chance(8) ? 0o2755 : 0o755;
  const r = await w.call(`mkdir ${d.path}/${name}`, want, () =>
    w.p.mkdir(`${d.path}/${name}`, 0o755),
  );
  if (typeof r !== "object") return;
  const n = w.model.create(d.node, name, S_IFDIR | 0o755);
  if (mode & 0o2000) {
    await w.call("chmod g+s", null, () => w.p.chmod(`${d.path}/${name}`, mode));
    n.mode |= 0o2000;
  }
  await check_stat(w, `${d.path}/${name}`, n);
}

export async function rmdir(w: Work): Promise<void> {
  const at = w.place(w.chance(10) ? () => true : is_dir);
  if (!at) return;
  const want = !is_dir(at.node) ? "ENOTDIR" : at.node.entries!.size > 0 ? "ENOTEMPTY" : null;
  const r = await w.call(`rmdir ${at.path}`, want, () => w.p.rmdir(at.path));
  if (typeof r === "object") w.model.remove(at.dir, at.name);
}

export async function unlink(w: Work): Promise<void> {
  const at = w.place();
  if (!at) return;
  const r = await w.call(`unlink ${at.path}`, is_dir(at.node) ? "EISDIR" : null, () =>
    w.p.unlink(at.path),
  );
  if (typeof r === "object") w.model.remove(at.dir, at.name);
}

export async function link(w: Work): Promise<void> {
  const from = w.place();
  const d = w.dir();
  const name = w.name();
  if (!from) return;
  const exists = d.node.entries!.has(name);
  const want = exists ? "EEXIST" : is_dir(from.node) ? "EPERM" : null;
  const to = `${d.path}/${name}`;
  const r = await w.call(`link ${from.path} ${to}`, want, () => w.p.link(from.path, to));
  if (typeof r !== "object") return;
  d.node.entries!.set(name, from.node);
  from.node.nlink++;
  await check_stat(w, to, from.node);
}

export async function symlink(w: Work): Promise<void> {
  const d = w.dir();
  const name = w.name();
  const path = `${d.path}/${name}`;
  // around what fits into the inode (59), and into a block
  const len = w.pick([1, 20, 58, 59, 60, 61, 150, 500, 900]);
  const target = "t".repeat(len - 1) + w.below(10);
  const r = await w.call(
    `symlink ${len} bytes ${path}`,
    d.node.entries!.has(name) ? "EEXIST" : null,
    () => w.p.symlink(target, path),
  );
  if (typeof r !== "object") return;
  const n = w.model.create(d.node, name, S_IFLNK | 0o777);
  n.target = target;
  if ((await w.p.readlink(path)) !== target) w.fail(`${path}: another target`);
  await check_stat(w, path, n);
}

export async function mknod(w: Work): Promise<void> {
  const d = w.dir();
  const name = w.name();
  const mode = w.pick([S_IFIFO, S_IFCHR]) | 0o644;
  const want = d.node.entries!.has(name) ? "EEXIST" : null;
  const r = await w.call(`mknod ${d.path}/${name}`, want, () =>
    w.p.mknod(`${d.path}/${name}`, mode, 0),
  );
  if (typeof r === "object") w.model.create(d.node, name, mode);
}

function rename_refusal(w: Work, from: Place, dir: Node, old: Node | undefined, flags: number) {
  if (flags & RENAME_EXCHANGE) {
    if (!old) return "ENOENT";
    if (is_dir(from.node) && w.model.within(from.node, dir)) return "EINVAL";
    if (is_dir(old) && w.model.within(old, from.dir)) return "EINVAL";
    return null;
  }
  if (flags & RENAME_NOREPLACE && old) return "EEXIST";
  if (is_dir(from.node) && w.model.within(from.node, dir)) return "EINVAL";
  if (!old) return null;
  // the target holds the source: found before anything is compared
  if (is_dir(old) && w.model.within(old, from.dir)) return "ENOTEMPTY";
  if (old === from.node) return null;
  if (is_dir(from.node)) {
    if (!is_dir(old)) return "ENOTDIR";
    return old.entries!.size > 0 ? "ENOTEMPTY" : null;
  }
  return is_dir(old) ? "EISDIR" : null;
}

export async function rename(w: Work): Promise<void> {
  const from = w.place();
  if (!from) return;
  const flags = w.pick([
    0,
    0,
    0,
    RENAME_NOREPLACE,
    RENAME_EXCHANGE,
    RENAME_EXCHANGE,
    RENAME_WHITEOUT,
  ]);
  const other = w.chance(3) || flags & RENAME_EXCHANGE ? w.place() : null;
  const d = w.dir();
  const to = other ?? { dir: d.node, name: w.name(), path: d.path };
  if (!other) to.path = `${d.path}/${to.name}`;
  const old = to.dir.entries!.get(to.name);
  if (old?.fixed) return;
  const want = rename_refusal(w, from, to.dir, old, flags);
  const what = `rename ${from.path} ${to.path} flags ${flags}`;
  const r = await w.call(what, want, () => w.p.renameat2(from.path, to.path, flags));
  if (typeof r !== "object") return;
  const same = old === from.node;
  if (flags & RENAME_EXCHANGE) {
    w.model.exchange(from, { ...to, node: old! });
  } else {
    w.model.rename(from, to.dir, to.name);
    if (flags & RENAME_WHITEOUT && !same) {
      const n = w.model.create(from.dir, from.name, S_IFCHR);
      await check_stat(w, from.path, n);
    }
  }
  if (!is_dir(from.node)) await check_stat(w, to.path, from.node);
}

export async function setxattr(w: Work): Promise<void> {
  const at = w.place((n) => is_reg(n) || is_dir(n));
  if (!at) return;
  const xs = at.node.xattrs;
  const space = w.chance(4) ? "trusted" : "user";
  const name = `${space}.${w.pick(["a", "bb", "name", "x".repeat(90)])}${w.below(3)}`;
  const len = w.pick([0, 1, 4, 20, 60, 100, 300, 700, 1500, w.max_xattr]);
  const value = new Uint8Array(len).map((_, i) => i + w.step);
  const flags = w.pick([0, 0, 0, XATTR_CREATE, XATTR_REPLACE]);
  let want: string | null = null;
  if (flags === XATTR_CREATE && xs.has(name)) want = "EEXIST";
  if (flags === XATTR_REPLACE && !xs.has(name)) want = "ENODATA";
  w.note(`setxattr ${at.path} ${name} ${len} bytes flags ${flags} -> ${want}`);
  try {
    await w.p.setxattr(at.path, name, value, flags);
    if (want) w.fail(`setxattr done, expected ${want}`);
    xs.set(name, value);
  } catch (e) {
    const code = w.p.error_code(e);
    if (code === null) throw e;
    // how much fits beside the others is the layout's
    if (code === "ENOSPC" && want === null) w.refused++;
    else if (code !== want) w.fail(`setxattr: ${code}, expected ${want}`);
  }
  await check_xattrs(w, at.path, at.node);
}

export async function removexattr(w: Work): Promise<void> {
  const at = w.place((n) => n.xattrs.size > 0 || w.chance(30));
  if (!at || is_link(at.node) || !(is_reg(at.node) || is_dir(at.node))) return;
  const names = [...at.node.xattrs.keys()].filter((n) => /^(user|trusted)\./.test(n));
  const name = names.length > 0 && !w.chance(8) ? w.pick(names) : "user.none";
  const want = at.node.xattrs.has(name) ? null : "ENODATA";
  const r = await w.call(`removexattr ${at.path} ${name}`, want, () =>
    w.p.removexattr(at.path, name),
  );
  if (typeof r === "object") at.node.xattrs.delete(name);
  await check_xattrs(w, at.path, at.node);
}

export async function check_xattrs(w: Work, path: string, n: Node): Promise<void> {
  const names = (await w.p.listxattr(path)).sort();
  const want = [...n.xattrs.keys()].sort();
  if (names.join() !== want.join()) w.fail(`${path}: attributes ${names}, expected ${want}`);
  for (const [name, value] of n.xattrs) {
    const got = await w.p.getxattr(path, name);
    if (
      typeof got === "number" ||
      got.length !== value.length ||
      got.some((x, i) => x !== value[i])
    ) {
      w.fail(`${path}: another value of ${name}`);
    }
  }
}

export async function attributes(w: Work): Promise<void> {
  const at = w.place((n) => is_reg(n) || is_dir(n));
  if (!at) return;
  const n = at.node;
  if (w.chance(3)) {
    const mode = w.pick([0o644, 0o600, 0o755, 0o1777, 0o4755, 0o2750]);
    const r = await w.call(`chmod ${at.path} ${mode.toString(8)}`, null, () =>
      w.p.chmod(at.path, mode),
    );
    if (typeof r === "object") n.mode = (n.mode & ~0o7777) | mode;
  } else if (w.chance(2)) {
    const [uid, gid] = [w.below(70000), w.below(70000)];
    const r = await w.call(`chown ${at.path}`, null, () => w.p.chown(at.path, uid, gid));
    if (typeof r === "object") {
      [n.uid, n.gid] = [uid, gid];
      // set-user-id never survives for a file; set-group-id only where it means locking
      if (is_reg(n)) n.mode &= n.mode & 0o010 ? ~0o6000 : ~0o4000;
    }
  } else {
    const t = 1_000_000 + w.below(2 ** 31);
    const r = await w.call(`utimens ${at.path} ${t}`, null, () => w.p.utimensat(at.path, t, t + 1));
    if (typeof r === "object") {
      const st = await w.p.stat(at.path);
      if (st.atime.tv_sec !== t || st.mtime.tv_sec !== t + 1) w.fail(`${at.path}: other times`);
    }
  }
  await check_stat(w, at.path, n);
}

export async function list(w: Work): Promise<void> {
  const d = w.dir();
  w.note(`readdir ${d.path}`);
  const names = (await w.p.readdir(d.path)).map((e) => e.name).sort();
  const want = [".", "..", ...d.node.entries!.keys()].sort();
  if (names.join("/") !== want.join("/")) {
    const missing = want.filter((n) => !names.includes(n));
    const extra = names.filter((n) => !want.includes(n));
    w.fail(
      `${d.path}: missing ${missing}, not expected ${extra}, twice ${names.length - want.length}`,
    );
  }
}
