/**
 * tools/bench/peers.ts - what daxlab is measured against. The packages live in tools/bench/peers
 * with their own lock file (one of them asks for a newer Node than it needs, which the project's
 * own strict settings would refuse) and are installed when the bench first runs.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** An adapter: the same operations on every filesystem; see tools/bench/README.md. */
export interface fs_adapter {
  name: string;
  /** True: every operation returns a promise. */
  async?: boolean;
  open(path: string, flags: "r+" | "w+"): any;
  close(fd: any): unknown;
  /** Fills `bytes` from the file at `pos`; returns the count. */
  pread(fd: any, bytes: Uint8Array, pos: number): number | Promise<number>;
  pwrite(fd: any, bytes: Uint8Array, pos: number): number | Promise<number>;
  /** open(O_CREAT | O_EXCL) and close. */
  create(path: string): unknown;
  unlink(path: string): unknown;
  rename(from: string, to: string): unknown;
  stat(path: string): { size: number } | Promise<{ size: number }>;
  mkdir(path: string): unknown;
  rmdir(path: string): unknown;
  readdir(path: string): string[] | Promise<string[]>;
  fsync?(fd: any): unknown;
  done?(): unknown;
}

/** The project's folder, from the sources or from dist/. */
export function project_root(): string {
  let dir = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(dir, "package.json"))) dir = path.dirname(dir);
  return dir;
}

const peers_folder = (): string => path.join(project_root(), "tools/bench/peers");

/** Installs the peers if they are not there; says so through `log`. */
export function install_peers(log: (text: string) => void): void {
  const dir = peers_folder();
  if (!existsSync(dir)) throw new Error("the bench's peers are only in a checkout of the project");
  if (existsSync(path.join(dir, "node_modules/memfs"))) return;
  log("installing memfs, @zenfs/core and sorted-btree in tools/bench/peers");
  const run = spawnSync("npm", ["ci", "--loglevel=error"], { cwd: dir, encoding: "utf8" });
  if (run.status !== 0) throw new Error(`npm ci failed in tools/bench/peers: ${run.stderr}`);
}

/** Imports a package as seen from the peers' folder. */
export async function load_peer(name: string): Promise<any> {
  const loader = await import(pathToFileURL(path.join(peers_folder(), "load.mjs")).href);
  return loader.load(name);
}

/** The part of node's synchronous fs that both peers offer. */
function sync_adapter(name: string, fs: any, root: string): fs_adapter {
  const p = (file: string) => root + file;
  return {
    name,
    open: (file, flags) => fs.openSync(p(file), flags),
    close: (fd) => fs.closeSync(fd),
    pread: (fd, bytes, pos) => fs.readSync(fd, bytes, 0, bytes.length, pos),
    pwrite: (fd, bytes, pos) => fs.writeSync(fd, bytes, 0, bytes.length, pos),
    create: (file) => fs.closeSync(fs.openSync(p(file), "wx")),
    unlink: (file) => fs.unlinkSync(p(file)),
    rename: (from, to) => fs.renameSync(p(from), p(to)),
    readdir: (file) => fs.readdirSync(p(file)),
    stat: (file) => fs.statSync(p(file)),
    mkdir: (file) => fs.mkdirSync(p(file)),
    rmdir: (file) => fs.rmdirSync(p(file)),
  };
}

export async function memfs_adapter(): Promise<fs_adapter> {
  const { memfs } = await load_peer("memfs");
  return sync_adapter("memfs", memfs().fs, "");
}

export async function zenfs_adapter(): Promise<fs_adapter> {
  const { configure, fs, InMemory } = await load_peer("@zenfs/core");
  await configure({ mounts: { "/mem": { backend: InMemory } } });
  return sync_adapter("@zenfs/core", fs, "/mem");
}

/** Ours, built to dist/bench/adapter.js, or undefined while there is none. */
export async function daxlab_adapter(): Promise<fs_adapter | undefined> {
  const file = path.join(project_root(), "dist/bench/adapter.js");
  if (!existsSync(file)) return undefined;
  const made: fs_adapter = await (await import(pathToFileURL(file).href)).default();
  return made;
}
