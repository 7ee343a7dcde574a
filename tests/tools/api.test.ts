/** The public API as a script uses it. */
import * as dax from "../../index.ts";
import { fget } from "../../fs/file.ts";
import { sched_yield } from "../../kernel/sched/core.ts";
import { inode_lock, inode_unlock } from "../../kernel/vfs/inode.ts";
import { run_reported } from "../../tools/api/scenario.ts";
import { assert, suite } from "../lib/suite.ts";

const t = suite("tools/api");

async function with_ext4(options = "dax=always", track = false) {
  const m = await dax.Machine.boot({
    pmem: [{ size: "64M", mode: "fsdax" }],
    track_persistence: track,
  });
  const p = m.process();
  await m.mkfs("ext4", "/dev/pmem0", "-b 4096");
  await p.mount("/dev/pmem0", "/mnt", "ext4", options);
  return { m, p };
}

async function failure(fn: () => unknown): Promise<any> {
  try {
    await fn();
  } catch (e) {
    return e;
  }
  throw new Error("it did not fail");
}

t("an error looks like Node's own, with code, errno, syscall and path", async () => {
  const { p } = await with_ext4();
  const e = await failure(() => p.open("/mnt/none"));
  assert.is(e instanceof dax.SyscallError, true);
  assert.equal([e.code, e.errno, e.syscall, e.path], ["ENOENT", -2, "open", "/mnt/none"]);
  assert.match(e.message, /^ENOENT: no such file or directory, open '\/mnt\/none'$/);
});

t("a fault beyond the end of a file is a signal with address and progress", async () => {
  const { p } = await with_ext4();
  const fd = await p.open("/mnt/a", dax.O_RDWR | dax.O_CREAT);
  await p.ftruncate(fd, 4096);
  const a = await p.mmap(0, 8192, dax.PROT_READ, dax.MAP_SHARED, fd, 0);
  const e = await failure(() => p.load(a + 4000, 200));
  assert.is(e instanceof dax.SignalError, true);
  assert.equal([e.signo, e.code, e.addr - a, e.completed], ["SIGBUS", "BUS_ADRERR", 4096, 96]);
});

t("pread answers at once with a plain value and preadSync with the same", async () => {
  const { p } = await with_ext4();
  await p.writeFile("/mnt/a", "hello");
  const fd = await p.open("/mnt/a");
  const buf = new Uint8Array(8);
  await p.pread(fd, buf, 0);
  assert.is(p.pread(fd, buf, 0), 5);
  assert.is(p.preadSync(fd, buf, 1), 4);
  assert.is(dax.bytes_to_name(buf, 0, 4), "ello");
});

t("a forked process shares descriptors and sees stores into a shared mapping", async () => {
  const { p } = await with_ext4();
  const fd = await p.open("/mnt/a", dax.O_RDWR | dax.O_CREAT);
  await p.ftruncate(fd, 4096);
  const rw = dax.PROT_READ | dax.PROT_WRITE;
  const a = await p.mmap(0, 4096, rw, dax.MAP_SHARED, fd, 0);
  const child = await p.fork();
  await child.store(a, dax.name_to_bytes("child"));
  assert.is(dax.bytes_to_name(await p.load(a, 5)), "child");
  await child.exit();
  assert.is((await p.fstat(fd)).size, 4096);
});

t("a reboot keeps what was synced and loses what was in the cpu cache", async () => {
  const { m, p } = await with_ext4("dax=always", true);
  const fd = await p.open("/mnt/a", dax.O_RDWR | dax.O_CREAT);
  await p.ftruncate(fd, 4096);
  const rw = dax.PROT_READ | dax.PROT_WRITE;
  const a = await p.mmap(0, 4096, rw, dax.MAP_SHARED, fd, 0);
  await p.store(a, dax.name_to_bytes("synced"));
  await p.msync(a, 4096, dax.MS_SYNC);
  await p.store(a, dax.name_to_bytes("LOST"));
  const q = (await m.reboot()).process();
  await q.mount("/dev/pmem0", "/mnt", "ext4", "dax=always");
  assert.is(dax.bytes_to_name((await q.readFile("/mnt/a")).subarray(0, 6)), "synced");
  assert.is(dax.bytes_to_name(await p.load(a, 6)), "LOSTed");
});

t("a snapshot is copy-on-write: the old machine's later stores do not reach it", async () => {
  const { m, p } = await with_ext4();
  await p.writeFile("/mnt/a", "before");
  await p.umount("/mnt");
  const media = m.media_snapshot();
  await p.mount("/dev/pmem0", "/mnt", "ext4", "");
  await p.writeFile("/mnt/a", "after");
  await p.umount("/mnt");
  const q = (await dax.Machine.boot({ media })).process();
  await q.mount("/dev/pmem0", "/mnt", "ext4", "ro");
  assert.is(await q.read_text("/mnt/a"), "before");
});

const counting = dax.scenario({ seed: 7 }, async (m) => {
  const p = m.process();
  await p.writeFile("/tmp/n", "one");
  await m.mark("one");
  await p.writeFile("/tmp/n", "two");
});

t("a checkpoint is a scenario run again up to its mark", async () => {
  const m = await dax.checkpoint(counting, "one");
  assert.is(await m.process().read_text("/tmp/n"), "one");
  const e = await failure(() => dax.checkpoint(counting, "three"));
  assert.match(e.message, /without reaching the mark "three"/);
});

t("two inode locks in opposite order end with the cycle and where each was taken", async () => {
  const lock_both = (p: dax.Process, first: number, second: number) =>
    p.in_kernel(async (kernel, task) => {
      const [a, b] = [fget(task, first).f_inode, fget(task, second).f_inode];
      await inode_lock(a);
      await sched_yield(kernel);
      await inode_lock(b);
      inode_unlock(b);
      inode_unlock(a);
    });
  const s = dax.scenario({}, async (m) => {
    const p = m.process("left");
    const [a, b] = [await p.open("/tmp/a", 0o102), await p.open("/tmp/b", 0o102)];
    const q = await p.fork("right");
    await Promise.all([lock_both(p, a, b), lock_both(q, b, a)]);
  });
  const e = await failure(() => run_reported(s));
  assert.is(e instanceof dax.Deadlock, true);
  assert.match(e.message, /^DEADLOCK: two tasks wait for each other/);
  for (const who of ["left", "right"]) assert.match(e.message, new RegExp(`${who} \\(pid`));
  assert.match(e.message, /holds +&inode->i_rwsem of inode \d+ of ramfs \(\/tmp\/[ab]\) \(write\)/);
  assert.match(e.message, /at inode_lock/);
  const report = (e as dax.Deadlock).report;
  assert.is(report.cycle.length, 2);
  assert.is(
    report.tasks.every((k) => k.holds[0]?.site?.includes("inode_lock")),
    true,
  );
});

t("a lock still held when in_kernel returns is a report", async () => {
  const m = await dax.Machine.boot();
  const p = m.process();
  const fd = await p.open("/tmp/a", 0o102);
  const e = await failure(() =>
    p.in_kernel((_k, task) => {
      const w = inode_lock(fget(task, fd).f_inode);
      assert.is(w, undefined);
    }),
  );
  assert.is(e instanceof dax.KernelBug, true);
  assert.match(e.message, /&inode->i_rwsem/);
});

t("a second call on a busy process is refused by name", async () => {
  const m = await dax.Machine.boot();
  const p = m.process();
  const [r] = await p.pipe();
  const waiting = p.read(r, new Uint8Array(1));
  const e = await failure(() => p.umask(0));
  assert.match(String(e.name ?? e), /ThreadBusy/);
  void waiting;
});

t("the picture has four lines and names mapping, entry, translation and media", async () => {
  const { p } = await with_ext4();
  const fd = await p.open("/mnt/a", dax.O_RDWR | dax.O_CREAT);
  await p.ftruncate(fd, 4096);
  const rw = dax.PROT_READ | dax.PROT_WRITE;
  const a = await p.mmap(0, 4096, rw, dax.MAP_SHARED, fd, 0);
  await p.store(a, dax.name_to_bytes("x"));
  const lines = dax.picture(p, a).split("\n");
  assert.is(lines.length, 4);
  assert.match(lines[0]!, /rw-s \/mnt\/a \+0x0$/);
  assert.match(lines[1]!, /^xarray {2}\[0x0\] DAX PTE, frame 0x[0-9a-f]+, dirty$/);
  assert.match(lines[2]!, /^table {3}PTE -> pfn 0x[0-9a-f]+, writable dirty accessed$/);
  assert.match(lines[3]!, /^media {3}"x\.+" at pmem0\+0x/);
});

t("an unknown tool or size says what is wrong", async () => {
  const m = await dax.Machine.boot();
  const e = await failure(() => m.mkfs("ext4", "/dev/nothing"));
  assert.match(e.message, /mkfs\.ext4 \/dev\/nothing: .*ENOENT/);
  const s = await failure(() => dax.Machine.boot({ pmem: [{ size: "lots" }] }));
  assert.match(s.message, /"lots" is no size/);
});

t("a machine without memory says that it has none", async () => {
  const m = dax.Machine.bare();
  for (const call of [() => m.process(), () => m.media_snapshot(), () => m.tool("ndctl", [])]) {
    const e = await failure(call);
    assert.match(e.message, /Machine\.bare\(\) has neither memory nor/);
  }
});

t.run();
