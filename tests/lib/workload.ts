/**
 * tests/lib/workload.ts - a seeded random workload on ext4 through the public API, each step
 * checked against a model, and the media checked afterwards.
 *
 * Reading order: run_workload() -> load_tree() (what an image holds already), step(), remount(),
 * finish() (unmount, our fsck, e2fsck, everything read back on a fresh machine).
 * workload_model.ts: what should be there; workload_state.ts: chance, calls, reports;
 * workload_data.ts, workload_names.ts: the operations.
 */
import path from "node:path";
import { O_NOFOLLOW, O_RDONLY } from "../../kernel/include/fcntl.ts";
import { S_IFREG } from "../../kernel/include/stat.ts";
import { Machine } from "../../tools/api/machine.ts";
import type { Process } from "../../tools/api/process.ts";
import { fsck_ext4, fsck_text } from "../../tools/cmd/fsck_ext4.ts";
import { find_tool, run_tool, temp_folder, write_sparse } from "./e2fsprogs.ts";
import { media_bytes } from "./ext4_write.ts";
import { read_image } from "./images.ts";
import * as data from "./workload_data.ts";
import { is_dir, is_link, is_reg, Model, type Node } from "./workload_model.ts";
import * as names from "./workload_names.ts";
import { read_contents, Work } from "./workload_state.ts";

export interface workload_options {
  seed: number;
  steps: number;
  /** A recorded image, or undefined for a fresh filesystem. */
  image?: string;
  mkfs?: string;
  size?: string;
  mount?: string;
  /** Steps between remounts; default 150. */
  remount?: number;
  /** Steps between times when the space is used up; default never. */
  fill?: number;
  /** Where the checked image is left. */
  keep?: string;
}

type operation = (w: Work) => Promise<void>;

const OPERATIONS: readonly (readonly [number, operation])[] = [
  [14, data.write],
  [7, data.read],
  [7, data.truncate],
  [14, data.fallocate],
  [3, data.seek],
  [3, data.map],
  [7, data.access],
  [2, data.msync],
  [2, data.unmap],
  [3, data.fsync],
  [3, data.copy],
  [9, names.create],
  [4, names.reopen],
  [4, names.close],
  [2, names.tmpfile],
  [4, names.mkdir],
  [3, names.rmdir],
  [6, names.unlink],
  [4, names.link],
  [3, names.symlink],
  [2, names.mknod],
  [9, names.rename],
  [6, names.setxattr],
  [3, names.removexattr],
  [3, names.attributes],
  [2, names.list],
];
const TOTAL = OPERATIONS.reduce((n, [weight]) => n + weight, 0);

function choose(w: Work): operation {
  let n = w.below(TOTAL);
  for (const [weight, op] of OPERATIONS) {
    n -= weight;
    if (n < 0) return op;
  }
  return data.write;
}

// --- what is there already ----------------------------------------------------------------------

/**
 * FS_IMMUTABLE_FL, FS_APPEND_FL, FS_JOURNAL_DATA_FL, FS_EA_INODE_FL, FS_VERITY_FL, FS_ENCRYPT_FL.
 */
const FIXED_FLAGS = 0x10 | 0x20 | 0x4000 | 0x200000 | 0x100000 | 0x800;

async function load_node(p: Process, at: string, name: string, n: Node): Promise<void> {
  const st = await p.lstat(at);
  Object.assign(n, { mode: st.mode, uid: st.uid, gid: st.gid, nlink: st.nlink });
  if (is_link(n)) {
    n.target = await p.readlink(at);
    return;
  }
  if (!is_reg(n) && !is_dir(n)) return;
  for (const x of await p.listxattr(at)) {
    n.xattrs.set(x, (await p.getxattr(at, x)) as Uint8Array);
    // ACLs change the mode of what is made below
    if (x.startsWith("system.")) n.fixed = true;
  }
  const fd = await p.open(at, O_RDONLY | O_NOFOLLOW);
  n.fixed ||= ((await p.getflags(fd)) & FIXED_FLAGS) !== 0 || name === "lost+found";
  await p.close(fd);
}

async function load_tree(w: Work, dir: Node, at: string, seen: Map<number, Node>): Promise<void> {
  for (const e of await w.p.readdir(at)) {
    if (e.name === "." || e.name === "..") continue;
    const old = seen.get(e.ino);
    const n = old ?? w.model.node(S_IFREG);
    dir.entries!.set(e.name, n);
    if (old) continue;
    seen.set(e.ino, n);
    await load_node(w.p, `${at}/${e.name}`, e.name, n);
    n.data = null;
    n.entries = is_dir(n) ? new Map() : null;
    if (n.entries) await load_tree(w, n, `${at}/${e.name}`, seen);
  }
}

/** Sizes and limits of the filesystem. */
async function measure(w: Work, o: workload_options): Promise<void> {
  const { f_bsize } = await w.p.statfs(w.at);
  w.bsize = f_bsize;
  const bytes = media_bytes(w.m);
  const v = new DataView(bytes.buffer, 1024, 1024);
  w.cluster = 1024 * 2 ** v.getUint32(28, true);
  const incompat = v.getUint32(96, true);
  if (!(incompat & 0x40)) w.max_size = (12 + f_bsize / 4 + (f_bsize / 4) ** 2) * f_bsize;
  w.max_xattr = incompat & 0x400 ? 40_000 : f_bsize - 200;
  w.sync_seeks = (incompat & 0x8000) !== 0;
  w.sync_writes = w.sync_seeks && f_bsize < 4096;
  if (o.image === undefined) return;
  await w.p.umount(w.at);
  await w.p.mount("/dev/pmem0", w.at, "ext4", o.mount ?? "");
}

// --- between the steps --------------------------------------------------------------------------

async function close_all(w: Work): Promise<void> {
  while (w.maps.length > 0) await data.unmap(w);
  while (w.open.length > 0) await names.close(w);
}

/** Fills the filesystem but for a little. */
async function fill(w: Work): Promise<void> {
  await close_all(w);
  const name = w.name();
  if (w.model.root.entries!.has(name)) return;
  const at = `${w.at}/${name}`;
  const fd = await w.p.open(at, 0o102, 0o644);
  const n = w.model.create(w.model.root, name, S_IFREG | 0o644);
  n.users++;
  w.open.push({ fd, node: n, append: false, direct: false });
  const block = new Uint8Array(w.bsize * 16).fill(0xf1);
  for (let pos = 0; ; ) {
    const r = await w.call("fill", null, () => w.p.pwrite(fd, block, pos), block.length);
    if (typeof r !== "object") break;
    n.data!.write(pos, block.subarray(0, r.value));
    pos += r.value;
    if (pos > 2 ** 28) break;
  }
}

async function remount(w: Work, o: workload_options): Promise<void> {
  await close_all(w);
  w.note("umount, e2fsck, mount");
  await w.p.umount(w.at);
  const r = await w.m.tool("e2fsck", ["-fn", "/dev/pmem0"]);
  if (r.status !== 0) w.fail(`our e2fsck after umount:\n${r.stdout}`);
  await w.p.mount("/dev/pmem0", w.at, "ext4", o.mount ?? "");
}

// --- the end ------------------------------------------------------------------------------------

let folder: string | undefined;

function check_media(w: Work, bytes: Uint8Array, keep?: string): void {
  const report = fsck_ext4(bytes);
  if (!report.clean) w.fail(`our fsck:\n${fsck_text(report)}`);
  if (!find_tool("e2fsck") && keep === undefined) return;
  const file = keep ?? path.join((folder ??= temp_folder()), "image");
  write_sparse(file, bytes.length, pieces(bytes));
  if (!find_tool("e2fsck")) return;
  const r = run_tool("e2fsck", ["-fn", file]);
  if (r.status !== 0) w.fail(`e2fsck -fn:\n${r.stdout}${r.stderr}`);
}

function* pieces(b: Uint8Array): Generator<[number, Uint8Array]> {
  for (let at = 0; at < b.length; at += 65536) {
    const part = b.subarray(at, at + 65536);
    if (part.some((x) => x !== 0)) yield [at, part];
  }
}

async function check_tree(w: Work): Promise<void> {
  const dirs = [{ path: w.at, node: w.model.root }];
  for (const at of w.model.walk()) {
    const full = `${w.at}${at.path}`;
    await names.check_stat(w, full, at.node);
    if (is_dir(at.node)) dirs.push({ path: full, node: at.node });
    if (is_reg(at.node) || is_dir(at.node)) await names.check_xattrs(w, full, at.node);
    if (is_link(at.node) && (await w.p.readlink(full)) !== at.node.target) {
      w.fail(`${full}: another target`);
    }
    if (at.node.data === null) continue;
    const fd = await w.p.open(full, O_RDONLY);
    const f = { fd, node: at.node, append: false, direct: false };
    const got = await read_contents(w.p, fd);
    for (const r of [...got.ranges(), ...at.node.data.ranges()]) {
      await data.compare(w, f, r.pos, r.len);
    }
    await w.p.close(fd);
  }
  for (const d of dirs) {
    const got = (await w.p.readdir(d.path)).map((e) => e.name).sort();
    const want = [".", "..", ...d.node.entries!.keys()].sort();
    if (got.join("/") !== want.join("/")) w.fail(`${d.path}: ${got}, expected ${want}`);
  }
}

/** Unmounts; the media must be sound; a fresh machine must read what the model says. */
async function finish(w: Work, o: workload_options): Promise<void> {
  await close_all(w);
  w.note("umount at the end");
  await w.p.umount(w.at);
  const bytes = media_bytes(w.m);
  check_media(w, bytes, o.keep);
  const m = await Machine.boot({ pmem: [{ image: bytes, name: "pmem0", pages: true }] });
  const p = m.process("check");
  await p.mount("/dev/pmem0", w.at, "ext4", "ro");
  const check = new Work(m, p, w.model, 1, `${w.label}, read back`, w.at);
  await check_tree(check);
  await p.umount(w.at);
}

export interface workload_result {
  /** Calls refused for want of space. */
  refused: number;
  /** Names at the end. */
  names: number;
}

/** Runs a workload. @throws Mismatch with the seed, the step and the last operations */
export async function run_workload(o: workload_options): Promise<workload_result> {
  const pmem = o.image
    ? { image: read_image("ext4", o.image), name: "pmem0", pages: true }
    : { size: o.size ?? "64M", name: "pmem0", mode: "raw" as const, pages: true };
  const m = await Machine.boot({ seed: o.seed, pmem: [pmem] });
  if (!o.image) await m.mkfs("ext4", "/dev/pmem0", o.mkfs ?? "-b 4096");
  const p = m.process("workload");
  await p.mount("/dev/pmem0", "/mnt", "ext4", o.mount ?? "");
  const label = `workload(${JSON.stringify(o)})`;
  const w = new Work(m, p, new Model(), o.seed, label);
  await measure(w, o);
  const seen = new Map<number, Node>();
  await load_node(p, "/mnt", "", w.model.root);
  await load_tree(w, w.model.root, "/mnt", seen);
  for (w.step = 1; w.step <= o.steps; w.step++) {
    await choose(w)(w);
    if (w.step % (o.remount ?? 150) === 0) await remount(w, o);
    else if (o.fill && w.step % o.fill === 0) await fill(w);
    else if (w.chance(200)) await p.drop_caches();
    else if (w.chance(150)) await p.sync();
  }
  await finish(w, o);
  return { refused: w.refused, names: [...w.model.walk()].length };
}
