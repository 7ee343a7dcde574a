/**
 * tools/bench/adapter.ts - daxlab as a contestant: ext4 with DAX on a device of 256 MiB, through
 * the public API. An operation answers with a plain value when nothing had to wait, else with a
 * promise.
 */
import { Machine, O_CREAT, O_EXCL, O_RDWR, O_TRUNC } from "../../index.ts";
import type { fs_adapter } from "./peers.ts";

export default async function make(): Promise<fs_adapter> {
  const m = await Machine.boot({ pmem: [{ size: "264M", mode: "fsdax" }] });
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096 -N 65536");
  const p = m.process("bench");
  await p.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  const at = (path: string): string => `/mnt${path}`;
  return {
    name: "daxlab ext4-DAX",
    async: true,
    open: (path, flags) => p.open(at(path), flags === "r+" ? O_RDWR : O_RDWR | O_CREAT | O_TRUNC),
    close: (fd) => p.close(fd),
    pread: (fd, u8, pos) => p.pread(fd, u8, pos),
    pwrite: (fd, u8, pos) => p.pwrite(fd, u8, pos),
    create: async (path) => p.close(await p.open(at(path), O_RDWR | O_CREAT | O_EXCL, 0o644)),
    unlink: (path) => p.unlink(at(path)),
    rename: (from, to) => p.rename(at(from), at(to)),
    stat: (path) => p.stat(at(path)),
    mkdir: (path) => p.mkdir(at(path)),
    rmdir: (path) => p.rmdir(at(path)),
    readdir: async (path) => (await p.readdir(at(path))).map((e) => e.name),
    fsync: (fd) => p.fsync(fd),
    done: () => undefined,
  };
}
