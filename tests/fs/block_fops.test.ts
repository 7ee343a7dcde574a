/** A disk opened as a file, descriptor flags, and pages in a pipe. */
import { O_APPEND, O_CREAT, O_DIRECT, O_RDONLY, O_RDWR } from "../../kernel/include/fcntl.ts";
import { MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE } from "../../kernel/include/mman.ts";
import { attach_pmem } from "../../drivers/nvdimm/pmem.ts";
import { init_buffer } from "../../fs/buffer.ts";
import { F_DUPFD, F_GETFD, F_GETFL, F_SETFD, F_SETFL, sys_fcntl } from "../../fs/fcntl.ts";
import { sys_pipe2, sys_vmsplice } from "../../fs/pipe.ts";
import { mm_alloc } from "../../mm/mm_init.ts";
import { sys_mmap } from "../../mm/mmap.ts";
import { user_store } from "../../mm/uaccess.ts";
import { assert, suite } from "../lib/suite.ts";
import { boot_vfs, text, type P } from "./vfs.ts";

const t = suite("fs/block_fops");
const { is } = assert;

async function with_disk(): Promise<{ p: P; size: number; bytes(at: number): number }> {
  const { p, kernel } = await boot_vfs();
  init_buffer(kernel);
  const dev = attach_pmem(kernel, { size: 4 * 2 ** 20, mode: "raw" });
  const { start } = dev.region;
  return { p, size: 4 * 2 ** 20, bytes: (at) => kernel.phys.read_u8(start + at) };
}

t("bytes written to a disk are cached until fsync and found again", async () => {
  const { p, bytes } = await with_disk();
  const f = await p.open("/dev/pmem0", O_RDWR);
  is(f, 0);
  is(await p.pwrite(f, "A".repeat(10_000), 1000), 10_000);
  is(await p.pread(f, 3, 10_998), "AA\0");
  is(bytes(1000), 0);
  is(await p.fsync(f), undefined);
  is(bytes(1000), 65);
  is(bytes(999), 0);
});

t("a disk has an end: nothing is read behind it and nothing fits", async () => {
  const { p, size } = await with_disk();
  const f = await p.open("/dev/pmem0", O_RDWR);
  is(await p.lseek(f, 0, 2), size);
  is(await p.read(f, 10), "");
  is(await p.pwrite(f, "x", size), "ENOSPC");
  is(await p.pwrite(f, "abcdef", size - 3), 3);
  is(await p.pread(f, 10, size - 3), "abc");
  is(await p.ioctl(f, "BLKGETSIZE64"), size);
  is(await p.ioctl(f, "BLKSSZGET"), 512);
  is(await p.ioctl(f, "FIBMAP", 0), "ENOTTY");
});

t("the last close writes what is cached", async () => {
  const { p, bytes } = await with_disk();
  const f = await p.open("/dev/pmem0", O_RDWR);
  await p.pwrite(f, "Z", 77);
  is(await p.close(f), undefined);
  is(bytes(77), 90);
});

t("a read-only disk can be opened for writing, but not written", async () => {
  const { p } = await with_disk();
  const f = await p.open("/dev/pmem0", O_RDONLY);
  is(await p.ioctl(f, "BLKROSET", 1), 0);
  const w = (await p.open("/dev/pmem0", O_RDWR)) as number;
  is(await p.pwrite(w, "Z", 77), "EPERM");
  await p.close(w);
  is(await p.ioctl(f, "BLKROGET"), 1);
  await p.close(f);
});

t("fcntl sees and sets flags of descriptor and file", async () => {
  const { p } = await boot_vfs();
  const f = (await p.open("/mnt/a", O_RDWR | O_CREAT | 0o2000000, 0o600)) as number;
  const fcntl = (cmd: number, arg = 0) => p.do((k) => sys_fcntl(k, f, cmd, arg));
  is(await fcntl(F_GETFD), 1);
  is(await fcntl(F_SETFD, 0), 0);
  is(await fcntl(F_GETFD), 0);
  is(await fcntl(F_GETFL), O_RDWR | 0o100000);
  is(await fcntl(F_SETFL, O_APPEND), 0);
  await p.write(f, "abc");
  await p.lseek(f, 0, 0);
  await p.write(f, "def");
  is(await p.pread(f, 9, 0), "abcdef");
  is(await fcntl(F_SETFL, O_DIRECT), "EINVAL");
  is(await fcntl(F_DUPFD, 10), 10);
  is(await fcntl(99_999), "EINVAL");
  await assert.rejects(fcntl(6), "record locks");
});

t("vmsplice puts the pages themselves into the pipe: later stores are seen", async () => {
  const { p, kernel } = await boot_vfs();
  p.task.mm = mm_alloc(kernel);
  const pipe = await p.do((k) => sys_pipe2(k));
  if (typeof pipe === "string") throw new Error(pipe);
  const [r, w] = pipe;
  const prot = PROT_READ | PROT_WRITE;
  const flags = MAP_PRIVATE | MAP_ANONYMOUS;
  const at = (await p.do((k) => sys_mmap(k, 0, 8192, prot, flags, null, 0))) as number;
  await p.do((k) => user_store(k, at, text("first")));
  is(await p.do((k) => sys_vmsplice(k, w, at, 5)), 5);
  await p.do((k) => user_store(k, at, text("FI")));
  is(await p.read(r, 10), "FIrst");
  is(await p.do((k) => sys_vmsplice(k, w, at + 2 ** 30, 5)), "EFAULT");
  is(await p.do((k) => sys_vmsplice(k, r, at, 5)), "EBADF");
});

t.run();
